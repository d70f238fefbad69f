"""How the space that pictures share with sentences is learned: settings of a run, presets, the trainer."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.random import generator
from ..data import scenes
from ..data.emoji import FONTS, Emoji, emoji
from ..multimodal.contrastive import Contrastive
from ..training import Trainer
from .captions import CaptionsTraining, trainer_with_average
from .recipe import Recipe
from .words import SCENES, load_data

PRESETS: dict[str, dict[str, Any]] = {
    "contrastive": {"batch_size": 128, "steps": 5000},
    "emoji": {"batch_size": 128, "steps": 4000, "length": 14},  # a judge of what Google's pictures taught: after zoo get emoji-twitter
}
SHIFT, BRIGHTEST, NOISE = 3, 0.25, 0.05  # of an emoji that is learned from: pixels, relative, and a deviation


def make_trainer(model: Contrastive, data: str | Emoji, training: CaptionsTraining, *, seed: int = 0, **options) -> Trainer:
    """The training run of the shared space, on scenes of which half have full captions, or on emoji; options go to `Trainer`."""
    figures_of = lambda m, n: m.evaluate(data, n=n)
    if isinstance(data, Emoji):
        return trainer_with_average(model, training, _varied(model, data, training.batch_size, seed), figures_of, seed=seed, **options)

    def draw(step: int, rng: np.random.Generator):
        half = training.batch_size // 2
        parts = [scenes.captioned_digits(n, (seed, step, 0xC11B, i), pairs="all", wording=wording)  # type: ignore[arg-type]
                 for i, (n, wording) in enumerate(((half, "full"), (training.batch_size - half, "free"))) if n]
        return np.concatenate([p.pictures for p in parts]), model.ids([caption for p in parts for caption in p.captions])

    return trainer_with_average(model, training, draw, figures_of, seed=seed, **options)


def _varied(model: Contrastive, data: Emoji, size: int, seed: int):
    """(step, rng) -> different emoji, each shifted, brighter or darker, with noise; there is one picture of each."""
    ids = model.ids(data.captions)

    def batches(step: int, rng: np.random.Generator):
        own = generator((seed, step, 0xE01))
        rows = own.permutation(len(data))[:size]
        x = np.pad(data.pictures[rows], ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), constant_values=1)
        places, side = own.integers(0, 2 * SHIFT + 1, (len(rows), 2)), data.pictures.shape[1]
        x = np.stack([picture[a : a + side, b : b + side] for picture, (a, b) in zip(x, places)])
        x = 1 - (1 - x) * own.uniform(1 - BRIGHTEST, 1 + BRIGHTEST, (len(rows), 1, 1, 3)) + NOISE * own.standard_normal(x.shape)
        return np.clip(x, 0, 1).astype(np.float32), ids[rows]

    return batches


def load_pictures(source: str | None) -> str | Emoji:
    """The name of what is drawn on the spot, or the emoji.  Raises FileNotFoundError before these are fetched."""
    for font, name in FONTS.items():
        if source == name:
            return emoji(font=font)
    return load_data(source)


RECIPE = Recipe(Contrastive, CaptionsTraining, PRESETS, load_pictures, make_trainer, SCENES, {"emoji": FONTS["twitter"]})
