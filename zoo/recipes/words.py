"""How pictures from words are learned: settings of a run, presets, pictures with captions, the trainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ..autograd.random import generator
from ..data import scenes
from ..data.emoji import Emoji, emoji
from ..model import Count, Decay, Natural, NonNegative, Positive
from ..multimodal.words import Words
from ..optim import Average, cosine
from ..training import Trainer
from .diffusion import optimiser_for
from .recipe import Recipe, RunSettings

SCENES = "captioned-digits"  # drawn on the spot
EMOJI = "emoji"  # after: zoo get emoji


@dataclasses.dataclass(frozen=True)
class FlowTraining(RunSettings):
    """Of any flow from words."""

    steps: Count = 10_000
    batch_size: Count = 128
    optimiser: Literal["adam", "muon"] = "muon"  # muon: for matrices and kernels, except the first and the last, and the text encoder
    lr: Positive = 1e-3
    muon_lr: Positive = 0.02
    warm_up: Natural = 500
    clip: Positive | None = 1.0
    average: Decay = 0.999


@dataclasses.dataclass(frozen=True)
class WordsTraining(FlowTraining):
    counts: tuple[NonNegative, ...] = scenes.COUNTS  # how likely a scene has one, two, three and four digits, relative to each other


PRESETS: dict[str, dict[str, Any]] = {
    "words": {"positions": "rotary", "channels": 48, "multipliers": (1, 2), "unshuffle": 2, "heads": 4, "sampler": "heun", "evaluations": 30,
              "guidance": 4.5, "steps": 7_500, "batch_size": 64, "counts": (0.15, 0.35, 0.2, 0.3)},  # crowded scenes are the hardest to learn
    "words-dit": {"positions": "rotary", "network": "transformer", "patch": 4, "channels": 96, "blocks": 4, "heads": 4, "sampler": "heun",
                  "evaluations": 30, "guidance": 4.5, "steps": 2_000, "batch_size": 64, "lr": 2e-3},
    "words-latent": {"positions": "rotary", "autoencoder": "runs/vqvae-scenes", "channels": 64, "multipliers": (1, 2), "heads": 4,
                     "sampler": "heun", "evaluations": 30, "guidance": 4.5, "steps": 2_500,
                     "batch_size": 64},  # after: zoo train vqvae --preset scenes --out runs/vqvae-scenes
    "words-emoji": {"channels": 48, "multipliers": (1, 2), "unshuffle": 2, "heads": 4, "length": 12, "sampler": "heun", "evaluations": 30,
                    "guidance": 2.0, "batch_size": 64},
}


def flow_trainer(model: Any, training: Any, batches: Callable[[int, np.random.Generator], Any], *, seed: int, **options) -> Trainer:
    """A run of a flow from words on these batches: the rate rises for at most a tenth of the steps, then follows a cosine; weights are averaged."""
    t = training
    return Trainer(model, model.loss, batches, optimiser_for(model, t), steps=t.steps, schedule=cosine(t.steps, warmup=min(t.warm_up, t.steps // 10)),
                   seed=seed, average=Average(model.parameters(), t.average) if t.average else None, precision=training.precision, **options)


def make_trainer(model: Words, data: str | Emoji, training: WordsTraining, *, seed: int = 0, folder=None, resume: bool = False,
                 **options) -> Trainer:
    """The training run of a preset or of your own settings; options go to `Trainer`."""
    t = training

    def scenes_of(step: int, rng: np.random.Generator):
        drawn = scenes.captioned_digits(t.batch_size, (seed, step, 0x5CE), counts=t.counts)
        return drawn.pictures, model.ids(drawn.captions)

    batches = _batches(model, data, t.batch_size, seed) if isinstance(data, Emoji) else scenes_of
    return flow_trainer(model, t, batches, seed=seed, folder=folder, resume=resume, **options)


def _batches(model: Words, data: Emoji, size: int, seed: int):
    """(step, rng) -> pictures of that step, each of all as likely, and what they are called."""
    ids = model.ids(data.captions)

    def batches(step: int, rng: np.random.Generator):
        rows = generator((seed, step, 0xE0)).integers(len(data), size=size)
        return data.pictures[rows], ids[rows]

    return batches


def load_data(source: str | None) -> str:
    """The name of what is drawn on the spot."""
    if source not in (None, SCENES):
        raise ValueError(f"data: is {source!r}; this kind of model learns from {SCENES!r}")
    return SCENES


def load_pictures(source: str | None) -> str | Emoji:
    """The name of what is drawn on the spot, or the emoji.  Raises FileNotFoundError before these are fetched."""
    if source == EMOJI:
        return emoji()
    if source not in (None, SCENES):
        raise ValueError(f"data: is {source!r}; pictures from words learn from {SCENES!r} or from {EMOJI!r}")
    return SCENES


RECIPE = Recipe(Words, WordsTraining, PRESETS, load_pictures, make_trainer, SCENES, {"words-emoji": EMOJI})
