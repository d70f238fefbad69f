"""Which rows a step sees: a function of the step's number, so that a resumed run sees the same ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.random import Generator

from ..autograd.random import generator

Batches = Callable[[int, Generator], Any]  # (step, rng) -> a batch


@dataclasses.dataclass(frozen=True)
class Table:
    """Batches from a table of examples, any of which can be taken alone, as private training does."""

    n: int  # examples
    batch_size: int
    take: Callable[[np.ndarray, Generator], Any]  # (numbers of rows, rng) -> a batch of these
    draw: Batches
    example: str = "a row of the training data"  # what one is, in words

    def __call__(self, step: int, rng: Generator) -> Any:
        return self.draw(step, rng)


def shuffled(*arrays: np.ndarray, batch_size: int, seed: int = 0) -> Table:
    """Batches of corresponding rows of the arrays, each row at most once an epoch, in an order that depends on (seed, epoch) alone.

    The last n % batch_size rows of an epoch's order are left out; since every epoch has an order of its own, they differ.
    """
    n = len(arrays[0])
    if any(len(a) != n for a in arrays):
        raise ValueError(f"shuffled: the arrays have {', '.join(str(len(a)) for a in arrays)} rows; they must have the same number")
    if not 1 <= batch_size <= n:
        raise ValueError(f"shuffled: batch_size is {batch_size}; with {n} rows it may go from 1 to {n}")
    per_epoch = n // batch_size
    order: dict[int, np.ndarray] = {}

    def take(rows: np.ndarray, rng: Generator | None = None) -> Any:
        return arrays[0][rows] if len(arrays) == 1 else tuple(a[rows] for a in arrays)

    def batches(step: int, rng: Generator) -> Any:
        epoch, i = divmod(step, per_epoch)
        if epoch not in order:
            order.clear()
            order[epoch] = generator((seed, epoch, 0x5EED)).permutation(n)
        return take(order[epoch][i * batch_size : (i + 1) * batch_size])

    return Table(n, batch_size, take, batches)


def minibatches(n: int, size: int) -> Iterable[slice]:
    """Slices of at most `size` rows that cover n rows in order, for evaluation."""
    return (slice(i, min(n, i + size)) for i in range(0, n, size))
