"""Hypothesis strategies for arguments of operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

DRAWN_ONE_BY_ONE = 48  # larger arrays are drawn through a seed: fast, but Hypothesis can't make them simpler


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 1, max_side: int = 4) -> Any:
    """Shapes of small arrays."""
    return _hypothesis()[1].array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def arrays(shape: Any = None, *, low: float = -2.0, high: float = 2.0, positive: bool = False, away_from: float | Sequence[float] = (),
           distinct: bool = False, dtype: Any = np.float64) -> Any:
    """Float arrays on a grid of 1/64 (so that float32 holds the same numbers) from low to high.

    shape: a tuple, or a strategy for one; `shapes()` unless given.
    positive: from 1/8 up.  away_from: numbers that every entry keeps 1/8 away from, because of a kink there.
    distinct: no two entries are alike, and they're as far apart as fits (for what picks the greatest, or sorts).
    """
    st, _ = _hypothesis()
    shape = shapes() if shape is None else st.just(tuple(shape)) if isinstance(shape, (tuple, list)) else shape
    points = np.atleast_1d(np.asarray(away_from, np.float64))
    low = max(low, 0.125) if positive else low

    def allowed(n: int) -> np.ndarray:
        step = 1 / 64 if not distinct else min(1 / 64, 2.0 ** math.floor(math.log2((high - low) / (4 * n + 4))))
        grid = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
        grid = grid[np.all(np.abs(grid[:, None] - points) >= 0.125, axis=1)]
        if len(grid) < (n if distinct else 1):
            raise ValueError(f"arrays: no {n} numbers from {low} to {high} keep away from {away_from}")
        return grid

    @st.composite
    def drawn(draw: Callable) -> np.ndarray:
        s = draw(shape)
        n = math.prod(s)
        grid = allowed(n)
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1))) if n > DRAWN_ONE_BY_ONE else None
        if distinct:
            order = draw(st.permutations(range(n))) if rng is None else rng.permutation(n)
            index = np.asarray(order, int) * (len(grid) - 1) // max(n - 1, 1)
        else:
            grid = grid[np.argsort(np.abs(grid), kind="stable")]  # the simplest first
            last = len(grid) - 1
            one_by_one = st.lists(st.integers(0, last), min_size=n, max_size=n)
            index = np.asarray(draw(one_by_one) if rng is None else rng.integers(0, last + 1, n), int)
        return grid[index].reshape(s).astype(dtype)

    return drawn()


def broadcastable(count: int = 2, **options: Any) -> Any:
    """Tuples of `count` arrays whose shapes broadcast together; options as for `arrays`."""
    st, extra = _hypothesis()
    together = extra.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, min_side=1, max_side=3)
    return together.flatmap(lambda s: st.tuples(*(arrays(x, **options) for x in s.input_shapes)))


def _hypothesis() -> tuple[Any, Any]:
    try:
        from hypothesis import strategies
        from hypothesis.extra import numpy
    except ImportError:
        raise ImportError("the strategies of zoo.autograd.checking need Hypothesis: pip install 'numpy-zoo[test]'") from None
    return strategies, numpy
