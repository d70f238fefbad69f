"""How good pictures and speech from words are: what judges find right in samples, each figure beside its floor.

The floor is what the grammar, the font or the voices give for the same words: no model can be expected to be better.  The nearest
neighbour is what a model would give that only looks things up, and samples without text are what chance gives.  Where pictures are drawn in
an autoencoder's latents or codes, what it alone makes of the floor's pictures is the most that can be had.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.random import generator
from ..data import scenes, sound, speech
from ..data.emoji import Emoji
from ..drawing.words import counted
from ..evaluation.distances import frechet_distance
from ..model import check_count
from ..training.batches import minibatches
from .contrastive import Contrastive, recall_of_emoji
from .nearest import nearest_captions
from .scene_judge import SceneJudge
from .speech_judge import SpeechJudge, recognised

AT_ONCE = 100  # spectrograms that become sound
TRAINING_SCENES = 20_000  # among which the nearest sentence is looked for


def of_pictures(model: Any, data: str | Emoji, *, seed: int = 0, n: int = 1000, judge: Any = None, **settings) -> dict[str, float]:
    """Shares of samples that are as their words say; settings are those of `steps`.

    data: "captioned-digits", or emoji.  n: scenes of each split; emoji are drawn once each.
    judge: of scenes (unless given, the one that ships), or a contrastive model for emoji: a model, its folder or its name.
    Raises ValueError or FileNotFoundError for a judge that isn't there or of another kind, before anything is drawn.
    """
    if isinstance(data, Emoji):
        return _of_emoji(model, Contrastive.judge_from(judge), data, seed, settings)
    return _of_scenes(model, SceneJudge.judge_from("scene_judge" if judge is None else judge), check_count(n), seed, settings)


def _of_scenes(model: Any, judge: SceneJudge, n: int, seed: int, settings: dict[str, Any]) -> dict[str, float]:
    """What is asked for and right in scenes of which all pairs of digit and colour were trained on, and of which one pair was held out."""
    known = scenes.captioned_digits(TRAINING_SCENES, (seed, 0x7A1))
    figures: dict[str, float] = {}
    for split, pairs in (("in distribution", "seen"), ("held out", "held out")):
        asked = scenes.captioned_digits(n, (seed, 0xA5C), pairs=pairs, digits="test")  # type: ignore[arg-type]
        rows = {"samples": model.sample(prompt=list(asked.captions), seed=seed, **settings), "floor": asked.pictures,
                "nearest neighbour": known.pictures[nearest_captions(asked.captions, known.captions)],
                "without text": model.sample(n, seed=seed, **settings)}
        through = model.autoencoded(asked.pictures)
        if through is not None:
            rows["autoencoder"] = through
        for row, pictures in rows.items():
            figures |= {f"{row}, {name}, {split}": share for name, share in judge.judge(pictures, asked.captions).items()}
        counts = np.array([len(things) for things in asked.attributes])
        for count in sorted(set(counts.tolist())):
            those = np.flatnonzero(counts == count)
            share = judge.judge(rows["samples"][those], [asked.captions[i] for i in those])["all"]
            figures[f"samples, all, {split}, {counted(count, 'digit')}"] = share
    return figures


def _of_emoji(model: Any, judge: Contrastive, data: Emoji, seed: int, settings: dict[str, Any]) -> dict[str, float]:
    """How often the right label is the nearest of all to a picture, or among the ten nearest: of samples, and of Google's own pictures."""
    rows = {"samples": model.sample(prompt=data.captions, seed=seed, **settings), "floor": data.pictures}
    return {f"{row}, {name}": share for row, pictures in rows.items() for name, share in recall_of_emoji(judge, pictures, data).items()}


def of_speech(model: Any, data: Any = None, *, seed: int = 0, n: int = 1000, judge: Any = "speech_judge", **settings) -> dict[str, float]:
    """Share of n spoken digits that are heard as they were asked for, and the Frechet distance of samples to speech beside its floor.

    The distance is taken in the judge's features, to digits by the voices of training at another pitch and speed; its floor is that of as
    many others of them, drawn again.  `frechet_griffin_lim` is the distance of those others once they have become spectrograms and sound
    again, as samples do.  Held-out voices tell how well the judge hears.  judge: a speech judge, its folder or its name.
    Raises ModuleNotFoundError without espeakng-loader, else as `of_pictures` does.
    """
    judge, n = SpeechJudge.judge_from(judge), check_count(n)
    words = np.resize(speech.DIGITS, n).tolist()
    real, others = (speech.spoken_words(takes=8, seed=seed + k, voices="seen") for k in (5000, 6000))
    unknown = speech.spoken_words(takes=2, seed=seed, voices="held out")
    waves = np.stack(model.sample(prompt=words, seed=seed, **settings))
    some = generator((seed, 0x5F)).permutation(len(others))[:n]
    second = others.waveforms[some]
    there_and_back = np.concatenate([sound.waveform(sound.spectrogram(second[part])) for part in minibatches(len(second), AT_ONCE)])
    reference = judge.embed(real.waveforms)
    distance, floor, of_sound = (frechet_distance(judge.embed(x), reference) for x in (waves, second, there_and_back))
    return {"samples, heard right": recognised(judge, speech.Spoken(waves, tuple(words), ("",) * n, ("",) * n))["words"],
            "floor, heard right": recognised(judge, unknown)["words"], "frechet": distance, "frechet_floor": floor,
            "frechet_griffin_lim": of_sound, "frechet_ratio": distance / max(floor, 1e-12)}
