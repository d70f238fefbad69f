"""How many modes of a mixture the samples cover: points of the grid and the ring, and digits stacked as colours."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ..autograd.random import generator
from ..data.toys import GRID, RING, TOYS
from .classifier import Classifier
from .distances import squared_distances, squared_wasserstein


@dataclasses.dataclass(frozen=True)
class Modes:
    """How much of a mixture is covered."""

    modes: int  # that have a good sample
    good: float  # share of samples within 3 standard deviations of a centre
    reverse_kl: float  # KL(shares of the good samples || equal shares), in nats
    counts: np.ndarray  # good samples of each mode


def count_modes(samples: np.ndarray, centres: np.ndarray, deviation: float) -> Modes:
    """Lin et al. (2018), section 4.1: a sample is good within 3 standard deviations of the nearest centre; one makes its mode count.

    samples (n, d), centres (modes, d), deviation: that of each Gaussian along each axis.
    """
    d = squared_distances(samples.astype(np.float64), centres.astype(np.float64))
    nearest = d.argmin(1)
    good = d[np.arange(len(d)), nearest] < (3 * deviation) ** 2
    counts = np.bincount(nearest[good], minlength=len(centres))
    return Modes(int((counts > 0).sum()), float(good.mean()), kl_from_uniform(counts), counts)


def grid_modes(samples: np.ndarray) -> Modes:
    return count_modes(samples, GRID, 0.05)


def ring_modes(samples: np.ndarray) -> Modes:
    return count_modes(samples, RING, 0.01)


def stacked_modes(classifier: Classifier, samples: np.ndarray) -> Modes:
    """Three digits as three colours: modes of 1,000 by the classifier's labels, with samples (n, height, width, 3)."""
    if samples.ndim != 4 or samples.shape[3] != 3:
        raise ValueError(f"stacked_modes: samples have shape {samples.shape}; they are (n, height, width, 3)")
    digits = np.stack([classifier.classify(np.ascontiguousarray(samples[..., i])) for i in range(3)], 1)
    counts = np.bincount(digits @ np.array([100, 10, 1]), minlength=1000)
    return Modes(int((counts > 0).sum()), 1.0, kl_from_uniform(counts), counts)


def kl_from_uniform(counts: np.ndarray) -> float:
    """KL(counts as shares || equal shares) = sum of p ln(p n), in nats; infinite if nothing was counted."""
    if counts.sum() == 0:
        return math.inf
    p = counts[counts > 0] / counts.sum()
    return float((p * np.log(p * len(counts))).sum())


def toy_figures(name: str, samples: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Modes of the grid, the ring and the stacked digits; of other toys the squared Wasserstein distance to fresh points and its floor."""
    if name == "stacked":
        covered = stacked_modes(Classifier.shipped(), samples)
    elif name in ("grid", "ring"):
        covered = grid_modes(samples) if name == "grid" else ring_modes(samples)
    else:
        n = min(len(samples), 10_000)
        fresh, others = (TOYS[name](n, generator((seed, i))) for i in (1, 2))
        return {f"squared_wasserstein{suffix}": squared_wasserstein(x[:n], fresh) for suffix, x in (("", samples), ("_floor", others))}
    return {"modes": covered.modes, "of": len(covered.counts), "good": covered.good, "reverse_kl": covered.reverse_kl}
