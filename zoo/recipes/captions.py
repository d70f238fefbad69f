"""How captions are learned: settings of a run, presets, the trainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..data import scenes
from ..model import Count, Decay, Natural, Positive
from ..multimodal.captions import Captions
from ..optim import Adam, Average, cosine
from ..training import Trainer
from .recipe import Recipe, RunSettings
from .words import SCENES, load_data


@dataclasses.dataclass(frozen=True)
class CaptionsTraining(RunSettings):
    steps: Count = 5000
    batch_size: Count = 32
    lr: Positive = 1e-3  # it rises, and then falls along a cosine to 0
    warm_up: Natural = 200
    clip: Positive | None = 1.0
    average: Decay = 0.999


def trainer_with_average(model: Any, training: CaptionsTraining, draw: Callable[[int, np.random.Generator], Any],
                         figures_of: Callable[[Any, int], dict[str, float]], *, seed: int, **options) -> Trainer:
    """A run with Adam on what `draw` draws, whose weights and running averages are averaged; it ends with `figures_of(model, 200)`."""
    t = training
    options.setdefault("evaluate", lambda m: figures_of(m, 200))
    buffers = [Tensor(a) for a in model.named_buffers().values()]  # the running averages are averaged as the weights are
    return Trainer(model, model.loss, draw, Adam(model.parameters(), t.lr, clip=t.clip), steps=t.steps,
                   schedule=cosine(t.steps, warmup=min(t.warm_up, t.steps // 10)), seed=seed,
                   average=Average([*model.parameters(), *buffers], t.average) if t.average else None, precision=training.precision, **options)


def make_trainer(model: Captions, data: str, training: CaptionsTraining, *, seed: int = 0, **options) -> Trainer:
    """The training run of a captioner, on scenes with full captions; options go to `Trainer`."""

    def draw(step: int, rng: np.random.Generator):
        drawn = scenes.captioned_digits(training.batch_size, (seed, step, 0xCA9), wording="full")
        return drawn.pictures, model.ids(drawn.captions)

    return trainer_with_average(model, training, draw, lambda m, n: m.evaluate(n=n), seed=seed, **options)


RECIPE = Recipe(Captions, CaptionsTraining, {"captions": {}}, load_data, make_trainer, SCENES)
