"""k-means: groups of like pictures that nobody has labelled (Lloyd 1982)."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from ..evaluation.distances import squared_distances
from ..training import minibatches


def nearest_centre(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """x (n, d), centres (k, d) -> which centre is nearest to each row, (n,)."""
    return np.concatenate([squared_distances(x[part], centres).argmin(1) for part in minibatches(len(x), 4096)])


def k_means(x: np.ndarray, k: int, rng: Generator, rounds: int = 30) -> np.ndarray:
    """x (n, d) -> k centres (k, d), each the mean of the rows to which it is nearest, from k different rows on; ValueError if n < k."""
    if not 1 <= k <= len(x):
        raise ValueError(f"k_means: k is {k}; with {len(x)} rows it may go from 1 to {len(x)}")
    centres = x[rng.choice(len(x), k, replace=False)]
    for _ in range(rounds):
        which = nearest_centre(x, centres)
        order, counts = np.argsort(which, kind="stable"), np.bincount(which, minlength=k)
        taken = np.flatnonzero(counts)  # a centre that has lost all its rows stays where it is
        sums = np.add.reduceat(x[order], np.concatenate([[0], np.cumsum(counts[taken])[:-1]]), axis=0)
        moved = centres.copy()
        moved[taken] = sums / counts[taken, None]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres
