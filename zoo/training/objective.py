"""Objectives whose random draws come first, so that what follows is a function of arrays and can be compiled (`zoo.compile`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.random import Generator

from ..autograd import Tensor
from ..autograd.tracing import compile

Objective = Callable[[Any, Generator], dict[str, Tensor]]


class DrawnFirst:
    """objective(batch, rng) = losses(*draw(batch, rng)), where `losses` draws nothing and reads its arrays by operations alone."""

    def __init__(self, draw: Callable[[Any, Generator], tuple], losses: Callable[..., dict[str, Tensor]]):
        self.draw, self.losses = draw, losses

    def __call__(self, batch: Any, rng: Generator) -> dict[str, Tensor]:
        return self.losses(*self.draw(batch, rng))


def compiled(objective: Objective) -> Objective:
    """The same objective, replayed where it can be."""
    return DrawnFirst(objective.draw, compile(objective.losses)) if isinstance(objective, DrawnFirst) else compile(objective)
