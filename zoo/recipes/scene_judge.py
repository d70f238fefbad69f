"""How the judge of scenes is trained: settings of a run, presets, the trainer."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..autograd import Tensor
from ..data import scenes
from ..model import Count, Decay, Positive
from ..multimodal.scene_judge import SceneJudge
from ..optim import Adam, Average, cosine
from ..training import Trainer
from .recipe import Recipe, RunSettings
from .words import SCENES, load_data


@dataclasses.dataclass(frozen=True)
class SceneJudgeTraining(RunSettings):
    steps: Count = 6000
    batch_size: Count = 128
    lr: Positive = 2e-3  # at first; it falls along a cosine to 0
    average: Decay = 0.999


PRESETS: dict[str, dict[str, Any]] = {"scene_judge": {}}


def make_trainer(model: SceneJudge, data: str, training: SceneJudgeTraining, *, seed: int = 0, folder=None, resume: bool = False,
                 **options) -> Trainer:
    """The training run of the judge; options go to `Trainer`."""
    t = training
    options.setdefault("evaluate", lambda m: m.evaluate(n=500))
    buffers = [Tensor(a) for a in model.named_buffers().values()]  # the running averages are averaged as the weights are
    return Trainer(model, model.loss, lambda step, rng: scenes.captioned_digits(t.batch_size, (seed, step, 0x10D6E), pairs="all"),
                   Adam(model.parameters(), t.lr), steps=t.steps, schedule=cosine(t.steps, warmup=min(200, t.steps // 10)), seed=seed,
                   average=Average([*model.parameters(), *buffers], t.average), folder=folder, resume=resume, precision=training.precision, **options)


RECIPE = Recipe(SceneJudge, SceneJudgeTraining, PRESETS, load_data, make_trainer, SCENES)
