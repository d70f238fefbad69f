"""How the space that pictures share with sentences is learned: settings of a run, presets, the trainer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import ndimage

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
# An emoji that is learned from is varied, so that its drawing isn't learned by heart: one picture of each is all there is, and another font
# draws it in another size, a little turned, in other shades.
SHIFT, SCALE, TURN = 3.0, 0.2, 0.2  # pixels; relative; radians
BRIGHTEST, MIXED, NOISE = 0.2, 0.05, 0.05  # relative; of one colour in another, a deviation; a deviation
HIDDEN = 10  # pixels of the square's side that half of the pictures lack


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
    """(step, rng) -> different emoji, each moved, scaled and turned, in other shades, with noise and perhaps a hole."""
    ids = model.ids(data.captions)

    def batches(step: int, rng: np.random.Generator):
        own = generator((seed, step, 0xE01))
        rows = own.permutation(len(data))[:size]
        x = np.stack([varied(data.pictures[row], own) for row in rows])
        return np.clip(x + NOISE * own.standard_normal(x.shape), 0, 1).astype(np.float32), ids[rows]

    return batches


def varied(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture (side, side, 3) on white as another might draw it."""
    side = len(picture)
    scale, turn = 1 + rng.uniform(-SCALE, SCALE, 2), rng.uniform(-TURN, TURN)
    cosine, sine, middle = math.cos(turn), math.sin(turn), np.full(2, (side - 1) / 2)
    matrix = np.array([[cosine, -sine], [sine, cosine]]) / scale
    offset = middle - matrix @ (middle + rng.uniform(-SHIFT, SHIFT, 2))
    moved = np.stack([ndimage.affine_transform(picture[:, :, c], matrix, offset, order=1, cval=1.0) for c in range(3)], axis=-1)
    shades = np.eye(3) * rng.uniform(1 - BRIGHTEST, 1 + BRIGHTEST, 3) + MIXED * rng.standard_normal((3, 3)) * (1 - np.eye(3))
    x = 1 - (1 - moved) @ shades
    if rng.random() < 0.5:
        top, left = rng.integers(0, side - HIDDEN + 1, 2)
        x[top : top + HIDDEN, left : left + HIDDEN] = 1
    return x


def load_pictures(source: str | None) -> str | Emoji:
    """The name of what is drawn on the spot, or the emoji.  Raises FileNotFoundError before these are fetched."""
    for font, name in FONTS.items():
        if source == name:
            return emoji(font=font)
    return load_data(source)


RECIPE = Recipe(Contrastive, CaptionsTraining, PRESETS, load_pictures, make_trainer, SCENES, {"emoji": FONTS["twitter"]})
