"""How letters and signs from their names are learned, and their judge: settings of a run, presets, trainers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..autograd.random import generator
from ..data import glyphs as fonts
from ..model import Count, Decay, Positive
from ..multimodal.glyphs import GlyphJudge, Glyphs, lookalikes
from ..optim import Adam, Average, cosine
from ..training import Trainer
from .recipe import Recipe, RunSettings
from .words import FlowTraining, flow_trainer

FONTS = "dejavu"  # matplotlib's
BARE = 0.5  # share of training in which the caption names no style
SHIFT = 1  # pixels by which the judge's pictures are moved


@dataclasses.dataclass(frozen=True)
class GlyphsTraining(FlowTraining):
    steps: Count = 20_000
    batch_size: Count = 64


PRESETS: dict[str, dict[str, Any]] = {
    "glyphs": {"channels": 32, "multipliers": (1, 2), "unshuffle": 2, "heads": 4, "sampler": "heun", "evaluations": 30, "guidance": 2.0},
}


def load_data(source: str | None) -> fonts.GlyphPictures:
    """The characters to train on: those whose pair of base and marks isn't held out."""
    return _drawn(source, "seen")


def load_judged(source: str | None) -> fonts.GlyphPictures:
    """All characters: a judge has seen also what is held out of training."""
    return _drawn(source, "all")


def _drawn(source: str | None, pairs: str) -> fonts.GlyphPictures:
    """`source` may name some of the styles: "dejavu:mono,bold mono"."""
    name, _, styles = (source or FONTS).partition(":")
    if name != FONTS:
        raise ValueError(f"data: is {source!r}; glyphs are learned from {FONTS!r}, or from some of its styles: '{FONTS}:sans,bold serif'")
    return fonts.glyphs(pairs, styles.split(",") if styles else fonts.STYLES)


def make_trainer(model: Glyphs, data: fonts.GlyphPictures, training: GlyphsTraining, *, seed: int = 0, folder=None, resume: bool = False,
                 **options) -> Trainer:
    """The training run of a preset or of your own settings; options go to `Trainer`."""
    t, full, bare = training, model.ids(data.captions), model.ids([fonts.without_style(caption) for caption in data.captions])

    def batches(step: int, rng: np.random.Generator):
        rng = generator((seed, step, 0x617F))
        rows = rng.integers(len(data), size=t.batch_size)
        return data.pictures[rows], np.where(rng.random((t.batch_size, 1)) < BARE, bare[rows], full[rows])

    return flow_trainer(model, t, batches, seed=seed, folder=folder, resume=resume, **options)


@dataclasses.dataclass(frozen=True)
class GlyphJudgeTraining(RunSettings):
    steps: Count = 8000
    batch_size: Count = 128
    lr: Positive = 2e-3
    average: Decay = 0.999


def make_judge_trainer(model: GlyphJudge, data: fonts.GlyphPictures, training: GlyphJudgeTraining, *, seed: int = 0, folder=None,
                       resume: bool = False, **options) -> Trainer:
    """The training run of the judge, on pictures that are moved by up to a pixel; options go to `Trainer`."""
    t = training
    names = model.names_of(data.characters, lookalikes(data)[1])
    bases, marks = ({name: i for i, name in enumerate(names)} for names in (model.config.bases, model.config.marks))
    numbers = np.array([(bases[b], marks[m]) for b, m in names])

    def batches(step: int, rng: np.random.Generator):
        rng = generator((seed, step, 0x617D))
        rows = rng.integers(len(data), size=t.batch_size)
        shifts = rng.integers(-SHIFT, SHIFT + 1, (t.batch_size, 2))
        moved = np.stack([np.roll(data.pictures[row], shift, axis=(0, 1)) for row, shift in zip(rows, shifts)])
        return moved, numbers[rows, 0], numbers[rows, 1]

    options.setdefault("evaluate", lambda m: m.judge(data.pictures[:: len(data) // 500 + 1], names[:: len(data) // 500 + 1]))
    buffers = [Tensor(a) for a in model.named_buffers().values()]  # the running averages are averaged as the weights are
    return Trainer(model, model.loss, batches, Adam(model.parameters(), t.lr), steps=t.steps,
                   schedule=cosine(t.steps, warmup=min(200, t.steps // 10)), seed=seed,
                   average=Average([*model.parameters(), *buffers], t.average), folder=folder, resume=resume, precision=training.precision, **options)


RECIPE = Recipe(Glyphs, GlyphsTraining, PRESETS, load_data, make_trainer, FONTS)
