"""How pictures from words are learned code by code: settings of a run, presets, the trainer.

The codes are those of a VQ-VAE of scenes, which is trained before:

    zoo train vqvae --preset scenes --out runs/vqvae-scenes
    zoo train dalle --autoencoder runs/vqvae-scenes
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import scenes
from ..multimodal.dalle import Dalle
from ..optim import Adam, Average, cosine
from ..training import Trainer
from .captions import CaptionsTraining
from .recipe import Recipe
from .words import SCENES, load_data

PRESETS: dict[str, dict[str, Any]] = {
    "dalle": {"autoencoder": "runs/vqvae-scenes", "width": 128, "blocks": 4, "heads": 4, "guidance": 3.0, "temperature": 0.6, "steps": 3_000},
}


def make_trainer(model: Dalle, data: str, training: CaptionsTraining, *, seed: int = 0, folder=None, resume: bool = False, **options) -> Trainer:
    """The training run of a preset or of your own settings; options go to `Trainer`."""
    t = training

    def draw(step: int, rng: np.random.Generator):
        drawn = scenes.captioned_digits(t.batch_size, (seed, step, 0xDA11E))
        return drawn.pictures, model.ids(drawn.captions)

    return Trainer(model, model.loss, draw, Adam(model.parameters(), t.lr, clip=t.clip), steps=t.steps,
                   schedule=cosine(t.steps, warmup=min(t.warm_up, t.steps // 10)), seed=seed,
                   average=Average(model.parameters(), t.average) if t.average else None, folder=folder, resume=resume,
                   precision=training.precision, **options)


RECIPE = Recipe(Dalle, CaptionsTraining, PRESETS, load_data, make_trainer, SCENES)
