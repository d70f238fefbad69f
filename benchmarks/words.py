"""Figures of pictures from words, words from pictures, and speech from words, of the runs that are given.

    python benchmarks/words.py --words runs/words --scene-judge runs/scene_judge          attributes right
    python benchmarks/words.py --glyphs runs/glyphs --glyph-judge runs/glyph_judge        base and marks right
    python benchmarks/words.py --captions runs/captions --contrastive runs/contrastive    exact captions, recall, zero-shot MNIST
    python benchmarks/words.py --speech runs/speech --speech-judge runs/speech_judge      words heard right, Frechet distance over floors
    python benchmarks/words.py --emoji runs/words-emoji --emoji-judge runs/emoji-judge    the right one among the nearest of all emoji
    [--n 1000] [--seed 0] [--json FILE] [--sheet FILE.png]                                all of them together, too

--words takes any model that draws scenes from a prompt: also one in latents, or of kind dalle.  Beside samples stand what the grammar draws
for the same sentences (the floor of any model), the scene whose training sentence is nearest, and samples that were told nothing.
--sheet draws a hundred emoji beside each other, each over its label: figures don't tell how they look.
"""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from zoo.data import emoji
from zoo.storage import atomic_write

Row = tuple[str, dict[str, float]]


def rows_of(known: argparse.Namespace) -> Iterator[Row]:
    n, seed, load = known.n, known.seed, zoo.load
    if known.words:
        yield "scenes", load(known.words).evaluate("captioned-digits", n=n, seed=seed, judge=known.scene_judge)
    if known.glyphs or known.glyph_judge:
        judge = load(known.glyph_judge)
        yield "glyphs", load(known.glyphs).evaluate(n=n, seed=seed, judge=judge) if known.glyphs else judge.evaluate(n=n, seed=seed)
    if known.captions:
        yield "captions", load(known.captions).evaluate(n=n, seed=seed)
    if known.contrastive:
        yield "contrastive", load(known.contrastive).evaluate(n=n, seed=seed)
    if known.emoji:
        judge = load(known.emoji_judge)
        yield "emoji", load(known.emoji).evaluate(emoji(), seed=seed, judge=judge)
        yield "emoji, pictures the judge learned from", judge.evaluate(emoji(font="twitter"), n=len(emoji()))
    if known.speech:
        yield "speech", load(known.speech).evaluate(n=n, seed=seed, judge=known.speech_judge or "speech_judge")


def draw_sheet(model: Any, file: Path, seed: int, side: int = 10) -> None:
    """side x side emoji that this model draws, from labels that are drawn at random."""
    from matplotlib.figure import Figure

    captions = emoji().captions
    chosen = [captions[i] for i in np.random.default_rng(seed).permutation(len(captions))[: side * side]]
    pictures = model.sample(prompt=chosen, seed=seed)
    figure = Figure(figsize=(1.1 * side, 1.25 * side), layout="constrained")
    for axes, picture, caption in zip(figure.subplots(side, side).flat, pictures, chosen):
        axes.imshow(picture, interpolation="nearest")
        axes.set_xlabel(textwrap.shorten(caption, 22, placeholder=" ..."), fontsize=5)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(file, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("words", "scene-judge", "glyphs", "glyph-judge", "captions", "contrastive", "emoji", "emoji-judge", "speech", "speech-judge"):
        parser.add_argument(f"--{name}", metavar="RUN")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="of emoji")
    known = parser.parse_args(arguments)
    for model, judge in (("glyphs", "glyph_judge"), ("emoji", "emoji_judge")):
        if getattr(known, model) and not getattr(known, judge):
            parser.error(f"--{model} needs --{judge.replace('_', '-')}, which says what is right")
    if known.sheet and not known.emoji:
        parser.error("--sheet needs --emoji, which draws it")
    table: dict[str, dict[str, float]] = {}
    began = time.perf_counter()
    for title, figures in rows_of(known):
        table[title] = figures
        for name, value in figures.items():
            print(f"{title:44} {name:50} {value:8.4f}", flush=True)
    print(f"{time.perf_counter() - began:.0f} seconds")
    if known.sheet:
        draw_sheet(zoo.load(known.emoji), known.sheet, known.seed)
    if known.json:
        atomic_write(known.json, json.dumps({"n": known.n, "seed": known.seed, "figures": table}, indent=1).encode())


if __name__ == "__main__":
    main()
