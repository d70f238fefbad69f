"""Distances between two sets of samples, (n, d) and (m, d): features of pictures, or points."""

from __future__ import annotations

import numpy as np

from ..training import minibatches


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The Frechet distance between two normal distributions, with mean and covariance of a (n, d) and of b (m, d).

    |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)): Heusel et al. (2017), eq. 6, there with Inception's features.
    It is the least mean squared distance between x and y over all ways to draw the two together (Dowson & Landau 1982).
    """
    _check_features(a, b, at_least=2)
    a, b = a.astype(np.float64), b.astype(np.float64)
    difference = a.mean(0) - b.mean(0)
    c_a, c_b = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    # C_a C_b isn't symmetric, but R C_b R with R = C_a^(1/2) is, and has the same eigenvalues: so its root has the trace that is wanted
    eigenvalues, eigenvectors = np.linalg.eigh(c_a)
    root = eigenvectors * np.sqrt(np.maximum(eigenvalues, 0)) @ eigenvectors.T
    trace_of_root = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ c_b @ root), 0)).sum()
    return max(0.0, float(difference @ difference + np.trace(c_a) + np.trace(c_b) - 2 * trace_of_root))


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a (n, d), b (m, d) -> (n, m) squared Euclidean distances between rows, as |a|^2 - 2 a b + |b|^2: one product of matrices."""
    d = (a * a).sum(1)[:, None] - 2 * (a @ b.T) + (b * b).sum(1)
    return np.maximum(d, 0, out=d)


def density_and_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5, chunk: int = 1000) -> tuple[float, float]:
    """Naeem et al. (2020), eq. 3 and 4: each real sample has a ball that reaches to its k-th nearest real neighbour.

    density: how many balls a fake sample lies in, over k; about 1 where the two sets are alike, and above 1 where the fake ones crowd.
    coverage: the share of balls in which there is a fake sample, at most 1; about 1 - 2^-k where the two are alike.
    """
    _check_features(real, fake, at_least=1)
    if not 1 <= k < len(real):
        raise ValueError(f"density_and_coverage: k is {k}; with {len(real)} real rows it may go from 1 to {len(real) - 1}")
    # entry k of a sorted row, since entry 0 is the sample's distance to itself
    radii = np.concatenate([np.partition(squared_distances(real[part], real), k, axis=1)[:, k] for part in minibatches(len(real), chunk)])
    pairs, covered = 0, 0
    for part in minibatches(len(real), chunk):
        within = squared_distances(real[part], fake) < radii[part, None]  # (balls, fake samples)
        pairs += int(within.sum())
        covered += int(within.any(1).sum())
    return pairs / (k * len(fake)), covered / len(real)


def nearest_distances(a: np.ndarray, b: np.ndarray, chunk: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """For each picture of a, the Euclidean distance to the nearest of b and that one's index: two of (len(a),)."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    _check_features(a, b, at_least=1)
    squares = (b * b).sum(1)
    distances, indices = [], []
    for part in minibatches(len(a), chunk):
        nearest = (squares - 2 * (a[part] @ b.T)).argmin(1)  # |a|^2 is the same for all of a row
        indices.append(nearest)
        distances.append(np.sqrt(((a[part] - b[nearest]) ** 2).sum(1)))
    return np.concatenate(distances), np.concatenate(indices)


def squared_wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """The least mean squared distance at which the rows of a can be paired with those of b, exactly: sets of equal size."""
    from scipy.optimize import linear_sum_assignment

    _check_features(a, b, at_least=1)
    if len(a) != len(b):
        raise ValueError(f"squared_wasserstein: the sets have {len(a)} and {len(b)} rows; they must have the same number")
    cost = squared_distances(a.astype(np.float64), b.astype(np.float64))
    return float(cost[linear_sum_assignment(cost)].mean())


def _check_features(a: np.ndarray, b: np.ndarray, at_least: int) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < at_least:
        raise ValueError(f"features: shapes are {a.shape} and {b.shape}; they are (n, d) and (m, d) with at least {at_least} rows")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features: there is a NaN or an infinity among them")
