"""k-means: groups of like pictures that nobody has labelled (Lloyd 1982)."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from ...training import minibatches


def nearest_centre(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """x (n, d), centres (k, d) -> the index of the centre nearest to each row, (n,): where |c|^2 / 2 - x c is least."""
    halves = (centres * centres).sum(1) / 2
    return np.concatenate([(halves - x[part] @ centres.T).argmin(1) for part in minibatches(len(x), 4096)])


def k_means(x: np.ndarray, k: int, rng: Generator, rounds: int = 30) -> np.ndarray:
    """x (n, d) -> centres (k, d), each the mean of the rows to which it is nearest, starting from k different rows; ValueError if n < k.

    Both halves of a round lower the sum of squared distances between rows and their centres: giving each row the nearest centre, and
    moving each centre to the mean of its rows.  So the rounds end where neither changes anything, or after `rounds`.
    """
    from scipy.sparse import csr_array

    if not 1 <= k <= len(x):
        raise ValueError(f"k_means: k is {k}; with {len(x)} rows it may go from 1 to {len(x)}")
    centres = x[rng.choice(len(x), k, replace=False)]
    for _ in range(rounds):
        nearest = nearest_centre(x, centres)
        counts = np.bincount(nearest, minlength=k)
        sums = csr_array((np.ones(len(x), x.dtype), (nearest, np.arange(len(x)))), shape=(k, len(x))) @ x
        means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None].astype(x.dtype), centres)  # one without rows stays where it is
        if np.array_equal(means, centres):
            break
        centres = means
    return centres
