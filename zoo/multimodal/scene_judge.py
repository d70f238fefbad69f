"""A judge of scenes: what digit, in what colour and size, stands at each of the nine places; it has never seen a drawing of a model's.

A picture is right if every attribute that its sentence names is seen where the sentence says (`data.scenes.asked_for`), and if there are
as many digits as it names.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, Unpack

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import Tensor, no_grad
from ..data import scenes
from ..data.scenes import COLOURS, MEAN_COUNT, PLACES, SIZES, Scenes, Thing, asked_for
from ..model import Config, Count, Decay, Model, check_images
from ..nn import Linear, dropout, evaluating
from ..training import minibatches
from .pictures import SQUARE, PictureEncoder

if TYPE_CHECKING:
    from ..model.fields import SceneJudgeFields

DIGITS = 10  # and one class more: no digit here
PARTS = (DIGITS + 1, len(COLOURS), len(SIZES))  # logits of a place


@dataclasses.dataclass(frozen=True)
class SceneJudgeConfig(Config):
    image: tuple[Count, ...] = (32, 32, 3)
    channels: Count = 32
    features: Count = 256
    dropout: Decay = 0.2


class SceneJudge(Model):
    """Convolutions with batch norm, and at the end logits for each of the nine places."""

    kind = "scene_judge"
    Config = SceneJudgeConfig
    config: SceneJudgeConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[SceneJudgeFields]) -> Self: ...  # type: ignore[override]

    pictures: PictureEncoder
    dense: Linear
    output: Linear

    def __init__(self, config: SceneJudgeConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        c = config
        self.pictures = PictureEncoder(c.image[2], c.channels, rng=rng)
        inputs = 2 * c.channels * (c.image[0] // SQUARE) * (c.image[1] // SQUARE)
        self.dense = Linear(inputs, c.features, rng=rng, activation="relu", scale=math.sqrt(2))
        self.output = Linear(c.features, len(PLACES) * sum(PARTS), rng=rng)

    def features(self, x, rng: Generator | None = None):
        """x (n, 32, 32, 3) in [0, 1] -> (n, features)."""
        x = self.pictures(x)
        return self.dense(dropout(x.reshape((len(x), -1)), self.config.dropout, rng))

    def __call__(self, x, rng: Generator | None = None):
        """Logits of digit (0 to 9, or 10 for none), colour and size: (n, 9, 11), (n, 9, 8), (n, 9, 2)."""
        logits = self.output(self.features(x, rng)).reshape((len(x), len(PLACES), sum(PARTS)))
        return ops.split(logits, np.cumsum(PARTS)[:-1].tolist(), axis=-1)

    def loss(self, batch: Scenes, rng: Generator) -> dict[str, Tensor]:
        """Cross entropy of digits at all places, and of colours and sizes where there is a digit, over the digits that a scene has on average:
        so each picture's part depends on no other picture."""
        digits, colours, sizes = targets(batch.attributes)
        x = check_images(batch.pictures, self.config.image)
        noise = np.float32(0.05) * rng.random((len(x), 1, 1, 1), np.float32) * rng.standard_normal(x.shape, np.float32)
        of_digits, of_colours, of_sizes = self(np.clip(x + noise, 0, 1), rng)
        losses = [ops.cross_entropy(logits.reshape((-1, logits.shape[-1])), t.reshape(-1), ignore_index=-1, reduction="sum") / (count * len(x))
                  for logits, t, count in ((of_digits, digits, len(PLACES)), (of_colours, colours, MEAN_COUNT), (of_sizes, sizes, MEAN_COUNT))]
        return {"loss": losses[0] + losses[1] + losses[2], "digits": losses[0], "colours": losses[1], "sizes": losses[2]}

    def example(self) -> None:
        """Run the model once, on a blank picture."""
        self.see(np.zeros((1, *self.config.image), np.float32))

    def see(self, pictures, batch: int = 256) -> list[tuple[Thing, ...]]:
        """What is in each picture (n, 32, 32, 3) in [0, 1]: its digits, place by place."""
        x = check_images(pictures, self.config.image)
        seen = []
        with no_grad(), evaluating(self):
            for part in minibatches(len(x), batch):
                digits, colours, sizes = (np.asarray(logits.data).argmax(-1) for logits in self(Tensor(x[part])))
                for row in zip(digits, colours, sizes):
                    seen.append(tuple(Thing(int(d), list(COLOURS)[c], list(SIZES)[s], place)
                                      for d, c, s, place in zip(*row, PLACES) if d < DIGITS))
        return seen

    def judge(self, pictures, captions: Sequence[str]) -> dict[str, float]:
        """Shares of pictures in which all that is asked for is right, and of digits by attribute."""
        if len(pictures) != len(captions):
            raise ValueError(f"judge: there are {len(pictures)} pictures and {len(captions)} captions")
        right = {"all": [], "digit": [], "colour": [], "size": [], "place": []}  # type: dict[str, list[bool]]
        for seen, caption in zip(self.see(pictures), captions):
            wanted = asked_for(caption)
            matched = match(wanted, seen)
            for asked, thing in zip(wanted, matched):
                for name, value in asked.items():
                    right[name].append(thing is not None and getattr(thing, name) == value)
            right["all"].append(len(seen) == len(wanted) and all(
                thing is not None and all(getattr(thing, name) == value for name, value in asked.items()) for asked, thing in zip(wanted, matched)))
        return {name: float(np.mean(values)) for name, values in right.items() if values}

    def evaluate(self, data: str = "captioned-digits", *, seed: int = 0, n: int = 1000) -> dict[str, float]:
        """How often the judge itself is right about scenes that the grammar drew from handwriting it never saw: the floor of any figure."""
        drawn = scenes.captioned_digits(n, (seed, 0x7E57), pairs="all", digits="test")
        return self.judge(drawn.pictures, drawn.captions)


def match(wanted: Sequence[dict[str, str | int]], seen: Sequence[Thing]) -> list[Thing | None]:
    """For each digit that is asked for the one that is seen at its place, or, where no place is said, one that agrees most."""
    left = list(seen)
    matched: list[Thing | None] = []
    for asked in wanted:
        candidates = [thing for thing in left if "place" not in asked or thing.place == asked["place"]]
        best = max(candidates, key=lambda thing: sum(getattr(thing, name) == value for name, value in asked.items()), default=None)
        if best is not None:
            left.remove(best)
        matched.append(best)
    return matched


def targets(attributes: Sequence[tuple[Thing, ...]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Digits (n, 9), 10 where there is none; colours and sizes (n, 9), -1 where there is no digit."""
    n = len(attributes)
    digits, colours, sizes = np.full((n, len(PLACES)), DIGITS), np.full((n, len(PLACES)), -1), np.full((n, len(PLACES)), -1)
    places, names, of_size = list(PLACES), list(COLOURS), list(SIZES)
    for i, things in enumerate(attributes):
        for thing in things:
            at = places.index(thing.place)
            digits[i, at], colours[i, at], sizes[i, at] = thing.digit, names.index(thing.colour), of_size.index(thing.size)
    return digits, colours, sizes
