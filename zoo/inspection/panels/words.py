"""What a page shows of pictures and speech from words: the panels of a flow, and at each step which word each place of the picture took from.

Where words look at patches or pixels at words, softmax(q k^T) says how much of each word went to each place (`multimodal.networks`).  The
shares are those of the step itself: the trace hands them out while the model draws, and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...autograd.tracing import trace
from ...data import sound, speech
from ...multimodal import prompts
from ..page import pack
from .noise import diffusion
from .recording import Event, Panels, Rows, recorder, watch

DIM = 0.12  # brightness of a place that a word has nothing to do with


@recorder("words", "glyphs", "speech")
def words(model: Any, *, prompt: str | None = None, later: str = "", later_t: float = prompts.LATER_T, weigh: str = "",
          **settings: Any) -> Iterator[Event]:
    """later: the prompt that holds from t = later_t on; weigh: words and factors of the attention that they receive, "red 2 seven 0.5"."""
    told: dict[str, Any] = {"prompt": prompt or None, "then": prompts.exchange(later, later_t), "weights": prompts.weights_of(weigh)}
    sentences = Sentences(model, **told)
    most = sentences.most
    with trace(model) as seen:
        inner = diffusion(model, **told, **settings)
        for event, records in watch(inner, seen):
            if not isinstance(event, tuple):
                if most and "picture" in event:
                    event = {**event, "words": {"kind": "words", "title": "Which word went where", "wide": True, "sentences": [], "shares": [],
                                                "pictures": Rows("unit8"), "note": "the picture, lit where it took from the word"}}
                if "picture" in event and hasattr(model, "sound"):
                    event = {**event, "sound": {"kind": "sound", "title": "Heard after this step", "waves": Rows("float16"), "rate": sound.RATE},
                             **_espeaks(prompt or "")}
                yield event
                continue
            step: Any = event[0]
            parts = event[1]
            if most:
                parts = {**parts, "words": _lit(model, step, records, sentences.at(step.t), most)}
            if hasattr(model, "sound"):
                parts = {**parts, "sound": {"waves": model.sound(model.to_pictures(step.x_previous))[0]}}
            yield step, parts


def _espeaks(prompt: str) -> Panels:
    """espeak-ng's voice beside the model's, where espeakng-loader is installed and the prompt says a word that it was learned from."""
    words = prompts.words_of(prompt)
    word = next((word for word in words[::-1] if word in speech.WORDS), None)
    if word is None:
        return {}
    try:
        wave = speech.spoken(word, "woman" if "woman" in words else "man")
    except (ModuleNotFoundError, OSError):  # it isn't here, or this machine can't run it
        return {}
    return {"espeak": {"kind": "sound", "title": f"espeak-ng says “{word}”", "note": "the voice that the model learned from, for comparison",
                       "waves": pack(wave[None], "float16"), "rate": sound.RATE, "picture": pack(sound.spectrogram(wave[None])[0], "unit8")}}


class Sentences:
    """The words of a prompt, and of those that take its place on the way."""

    def __init__(self, model: Any, prompt: str | None, then: Any, weights: Any = None):
        stages = model.prompts_for(prompt, 1, then, weights)
        self._until = np.zeros(0) if stages is None else stages["until"][0, :, 0]
        self.words = [] if stages is None else [_words(model, stage["word"]) for stage in stages[0]]
        self.most = max(map(len, self.words), default=0)  # words of the longest

    def at(self, t: float) -> list[str]:
        """The sentence that holds at t."""
        return self.words[int((self._until >= t).sum().clip(max=len(self.words) - 1))]


def looks(model: Any, prompt: str, later: str = "", later_t: float = prompts.LATER_T, **settings: Any) -> Iterator[tuple[Any, list[str], np.ndarray]]:
    """Each step of one picture with the words that hold, and how much each place took from each of them, (words of the longest sentence,
    height, width) with zeros after the last."""
    then = prompts.exchange(later, later_t)
    sentences = Sentences(model, prompt, then)
    with trace(model, "*.softmax") as seen:
        for step, records in watch(model.steps(1, prompt=prompt, then=then, **settings), seen):
            words = sentences.at(step.t)
            maps = np.zeros_like(model.maps_of(records)[0][: sentences.most])
            maps[: len(words)] = model.maps_of(records)[0][1 : 1 + len(words)]  # the first stands for the sentence's beginning
            yield step, words, maps


def _words(model: Any, ids: np.ndarray) -> list[str]:
    """The words of a sentence, one by one."""
    return [model.config.vocabulary[i - prompts.FIRST] for i in ids[1:].tolist() if i != prompts.PADDING]


def _lit(model: Any, step: Any, records: list[Any], spoken: list[str], most: int) -> dict[str, Any]:
    """The step's guess of the picture once for each word, bright where it took from that word."""
    picture = model.to_pictures(step.x_t if step.x_0_predicted is None else step.x_0_predicted)[0]
    picture = np.repeat(picture[..., None], 3, axis=-1) if picture.ndim == 2 else picture
    maps = model.maps_of(records)[0][1 : 1 + len(spoken)]  # the first stands for the sentence's beginning
    maps = maps.repeat(picture.shape[0] // maps.shape[1], axis=1).repeat(picture.shape[1] // maps.shape[2], axis=2)
    pictures = np.zeros((most, *picture.shape), np.float32)
    pictures[: len(spoken)] = lit(picture, maps)
    return {"sentences": spoken, "shares": [round(float(share), 4) for share in maps.mean((1, 2))], "pictures": pictures}


def lit(picture: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The picture (height, width, 3) once for each map (n, height, width), bright where that is great: (n, height, width, 3)."""
    light = DIM + (1 - DIM) * maps / max(float(maps.max()), 1e-12)
    return light[..., None] * (0.25 + 0.75 * picture)
