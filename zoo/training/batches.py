"""Which rows a step sees: a function of the step's number, so that a resumed run sees the same ones."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.random import Generator

from ..autograd.random import generator
from .ranks import Ranks

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


_ranks: Ranks | None = None  # among which parts are spread


def by_parts(compute: Callable[[slice], Any], n: int, size: int) -> list[Any]:
    """[compute(part) for part in minibatches(n, size)]; inside `spread_over`, each rank computes some of the parts, and all get the results.

    For what depends on the part alone: random numbers are drawn from a seed of its own.  Since the parts don't depend on the number of ranks,
    nor do the results, bit for bit.
    """
    parts = list(minibatches(n, size))
    if _ranks is None:
        return [compute(part) for part in parts]
    ranks = _ranks
    with spread_over(None):  # what a part is computed from is its rank's
        shares = [compute(part) for part in parts[ranks.rank :: ranks.size]]
    shares_of_all = ranks.communicator.allgather(shares)
    return [shares_of_all[i % ranks.size][i // ranks.size] for i in range(len(parts))]


@contextlib.contextmanager
def spread_over(ranks: Ranks | None) -> Iterator[None]:
    """Inside, `by_parts` spreads its work over these ranks, all of which have to run the same."""
    global _ranks
    before, _ranks = _ranks, None if ranks is None or ranks.size == 1 else ranks
    try:
        yield
    finally:
        _ranks = before
