"""Objectives whose random draws come first, so that what follows is a function of arrays and can be compiled (`zoo.compile`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.random import Generator

from ..autograd import Tensor
from ..autograd.tracing import compile

Objective = Callable[[Any, Generator], dict[str, Tensor]]


class DrawnFirst:
    """objective(batch, rng) = losses(*draw(batch, rng)), where `losses` draws nothing and reads its arrays by operations alone.

    instead: asked before each call; an objective that is to be called in its place, where somebody has written another loss, or None.
    """

    def __init__(self, draw: Callable[[Any, Generator], tuple], losses: Callable[..., dict[str, Tensor]],
                 instead: Callable[[], Objective | None] = lambda: None):
        self.draw, self.losses, self.instead = draw, losses, instead

    def __call__(self, batch: Any, rng: Generator) -> dict[str, Tensor]:
        other = self.instead()
        return self.losses(*self.draw(batch, rng)) if other is None else other(batch, rng)


def has_own_loss(model: Any, loss: Callable) -> bool:
    """Whether the model's loss is another than this method of its class: that of a subclass, or one that was assigned."""
    return type(model).loss is not loss or "loss" in vars(model)


def compiled(objective: Objective) -> Objective:
    """The same objective, replayed where it can be."""
    return DrawnFirst(objective.draw, compile(objective.losses), objective.instead) if isinstance(objective, DrawnFirst) else compile(objective)
