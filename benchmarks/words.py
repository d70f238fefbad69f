"""Figures of pictures from words, words from pictures, and speech from words, of the runs that are given.

    python benchmarks/words.py --words runs/words --scene-judge runs/scene_judge          attributes right
    python benchmarks/words.py --glyphs runs/glyphs --glyph-judge runs/glyph_judge        base and marks right
    python benchmarks/words.py --captions runs/captions --contrastive runs/contrastive    exact captions, recall, zero-shot MNIST
    python benchmarks/words.py --speech runs/speech --speech-judge runs/speech_judge      words heard right, Frechet distance over floors
    python benchmarks/words.py --emoji runs/words-emoji --emoji-judge runs/emoji-judge    the right one among the nearest of all emoji
    [--n 1000] [--seed 0] [--json FILE]                                                   all of them together, too

--words takes any model that draws scenes from a prompt: also one in latents, or of kind dalle.  Beside samples stand what the grammar draws
for the same sentences (the floor of any model), the scene whose training sentence is nearest, and samples that were told nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from zoo.data import emoji, scenes, speech
from zoo.evaluation.distances import frechet_distance
from zoo.multimodal import captions, contrastive, glyphs
from zoo.multimodal.nearest import nearest_captions
from zoo.multimodal.speech import recognised
from zoo.storage import atomic_write

TRAINING_SCENES = 20_000  # among which the nearest sentence is looked for

Row = tuple[str, dict[str, float]]


def of_words(model: Any, judge: Any, n: int, seed: int) -> Iterator[Row]:
    known = scenes.captioned_digits(TRAINING_SCENES, (seed, 0x7A1))
    for title, pairs in (("in distribution", "seen"), ("held out", "held out")):
        asked = scenes.captioned_digits(n, (seed, 0xA5C), pairs=pairs, digits="test")
        rows = {"samples": model.sample(prompt=list(asked.captions), seed=seed), "floor": asked.pictures,
                "nearest neighbour": known.pictures[nearest_captions(asked.captions, known.captions)], "without text": model.sample(n, seed=seed)}
        for name, pictures in rows.items():
            yield f"scenes, {title}, {name}", judge.judge(pictures, asked.captions)


def of_emoji(model: Any, judge: Any, seed: int) -> Iterator[Row]:
    google = emoji()
    yield "emoji, samples", contrastive.recall_of_emoji(judge, model.sample(prompt=google.captions, seed=seed), google)
    yield "emoji, Google's own pictures", contrastive.recall_of_emoji(judge, google.pictures, google)
    yield "emoji, pictures the judge learned from", contrastive.recall_of_emoji(judge, emoji(font="twitter").pictures, emoji(font="twitter"))


def of_speech(model: Any, judge: Any, n: int, seed: int) -> Iterator[Row]:
    words = tuple(np.resize(speech.DIGITS, n))
    waves = np.stack(model.sample(prompt=[str(word) for word in words], seed=seed))
    heard = recognised(judge, speech.Spoken(waves, words, ("",) * n, ("",) * n))
    real, other = (speech.spoken_words(takes=8, seed=seed + k, voices="seen") for k in (5000, 6000))
    embedded, reference, second = (judge.embed(x) for x in (waves, real.waveforms, other.waveforms))
    distance, floor = frechet_distance(embedded, reference), frechet_distance(second[:n], reference)
    yield "speech", {"heard right": heard["words"], "frechet": distance, "frechet floor": floor, "floors": distance / floor}
    yield "speech, espeak-ng's own, held-out voices", recognised(judge, speech.spoken_words(takes=2, seed=seed, voices="held out"))


def rows_of(known: argparse.Namespace) -> Iterator[Row]:
    n, seed, load = known.n, known.seed, zoo.load
    if known.words:
        yield from of_words(load(known.words), load(known.scene_judge), n, seed)
    if known.glyphs or known.glyph_judge:
        model = load(known.glyphs) if known.glyphs else None
        yield "glyphs", glyphs.evaluate(model, load(known.glyph_judge), n, seed)
    if known.captions:
        yield "captions", captions.evaluate(load(known.captions), n, seed)
    if known.contrastive:
        yield "contrastive", contrastive.evaluate(load(known.contrastive), n, seed)
    if known.emoji:
        yield from of_emoji(load(known.emoji), load(known.emoji_judge), seed)
    if known.speech:
        yield from of_speech(load(known.speech), load(known.speech_judge), n, seed)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("words", "scene-judge", "glyphs", "glyph-judge", "captions", "contrastive", "emoji", "emoji-judge", "speech", "speech-judge"):
        parser.add_argument(f"--{name}", metavar="RUN")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    known = parser.parse_args(arguments)
    for model, judge in (("words", "scene_judge"), ("glyphs", "glyph_judge"), ("emoji", "emoji_judge"), ("speech", "speech_judge")):
        if getattr(known, model) and not getattr(known, judge):
            parser.error(f"--{model} needs --{judge.replace('_', '-')}, which says what is right")
    table: dict[str, dict[str, float]] = {}
    began = time.perf_counter()
    for title, figures in rows_of(known):
        table[title] = figures
        for name, value in figures.items():
            print(f"{title:44} {name:50} {value:8.4f}", flush=True)
    print(f"{time.perf_counter() - began:.0f} seconds")
    if known.json:
        atomic_write(known.json, json.dumps({"n": known.n, "seed": known.seed, "figures": table}, indent=1).encode())


if __name__ == "__main__":
    main()
