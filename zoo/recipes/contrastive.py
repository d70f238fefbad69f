"""How the space that pictures share with sentences is learned: settings of a run, presets, the trainer."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import scenes
from ..multimodal.contrastive import Contrastive, evaluate
from ..training import Trainer
from .captions import CaptionsTraining, trainer_with_average
from .recipe import Recipe
from .words import SCENES, load_data

PRESETS: dict[str, dict[str, Any]] = {"contrastive": {"batch_size": 128, "steps": 8000}}


def make_trainer(model: Contrastive, data: str, training: CaptionsTraining, *, seed: int = 0, **options) -> Trainer:
    """The training run of the shared space, on scenes of which half have full captions; options go to `Trainer`."""

    def draw(step: int, rng: np.random.Generator):
        half = training.batch_size // 2
        parts = [scenes.captioned_digits(n, (seed, step, 0xC11B, i), pairs="all", wording=wording)  # type: ignore[arg-type]
                 for i, (n, wording) in enumerate(((half, "full"), (training.batch_size - half, "free"))) if n]
        return np.concatenate([p.pictures for p in parts]), model.ids([caption for p in parts for caption in p.captions])

    return trainer_with_average(model, training, draw, evaluate, seed=seed, **options)


RECIPE = Recipe(Contrastive, CaptionsTraining, PRESETS, load_data, make_trainer, SCENES)
