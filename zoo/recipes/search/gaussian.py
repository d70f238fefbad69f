"""A Gaussian process over points of a space, and how much better than the best so far it expects a new one to be.

Why it helps: neighbouring points train about equally well.  So the scores are taken as a draw of a Gaussian process with covariance
k(x, x') = exp(-|x - x'|^2 / (2 l^2)): given those that are known, the score of every other point is normal with a mean and a deviation in closed
form (Rasmussen & Williams 2006, algorithm 2.1).  The next trial is where the expected improvement is greatest (Jones et al. 1998, eq. 15):
near good points, or far from all.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.random import Generator
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import ndtr

LENGTHS = np.geomspace(0.1, 3.0, 8)  # l, in units of a range; for several dimensions times the root of their number
NOISES = np.array([1e-4, 1e-2, 0.1, 0.5])  # variance of a score as a share of that of all scores
CANDIDATES = 1000
BAD = 3.0  # scores this many times farther from the median than the best count as that far; one diverged run would hide all else


@dataclasses.dataclass(frozen=True)
class GaussianProcess:
    """Fitted to points x (n, size) and standardised scores; `predict` gives means and deviations at other points."""

    x: np.ndarray
    weights: np.ndarray  # K^-1 y
    factor: np.ndarray  # K = L L^T
    length: float
    noise: float

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray) -> GaussianProcess:
        """The length and noise of the grid with the greatest marginal likelihood (Rasmussen & Williams 2006, eq. 5.8)."""
        fits = []
        for length in LENGTHS * np.sqrt(x.shape[1]):
            covariance = _covariance(x, x, length)
            for noise in NOISES:
                factor = cholesky(covariance + (noise + 1e-8) * np.eye(len(x)), lower=True)
                weights = cho_solve((factor, True), y)
                log_likelihood = -0.5 * y @ weights - np.log(np.diag(factor)).sum()
                fits.append((log_likelihood, cls(x, weights, factor, float(length), float(noise))))
        return max(fits, key=lambda fit: fit[0])[1]

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(means, deviations), each (m,), of the score without noise at x (m, size)."""
        across = _covariance(x, self.x, self.length)
        rest = solve_triangular(self.factor, across.T, lower=True)
        return across @ self.weights, np.sqrt(np.maximum(1 - (rest**2).sum(0), 1e-12))


def _covariance(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    return np.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1) / length**2)


def expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """E[max(best - score, 0)] of normal scores (Jones et al. 1998, eq. 15); lower scores are better."""
    z = (best - mean) / deviation
    return deviation * (z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))


def propose(x: np.ndarray, scores: np.ndarray, rng: Generator) -> np.ndarray:
    """Coordinates to try next, the most promising first, (CANDIDATES, size): x (n, size) are known, lower scores are better.

    Half of them are drawn from the whole space, half near the best known points.
    """
    middle, least = np.median(scores), scores.min()
    capped = np.minimum(scores, middle + BAD * max(middle - least, 1e-12))
    y = (capped - capped.mean()) / (capped.std() or 1.0)
    process = GaussianProcess.fit(x, y)
    best = x[np.argsort(scores)[:3]]
    near = best[rng.integers(len(best), size=CANDIDATES // 2)] + 0.1 * rng.standard_normal((CANDIDATES // 2, x.shape[1]))
    candidates = np.concatenate([rng.random((CANDIDATES - len(near), x.shape[1])), np.clip(near, 0, 1)])
    mean, deviation = process.predict(candidates)
    return candidates[np.argsort(-expected_improvement(mean, deviation, process.predict(x)[0].min()), kind="stable")]
