"""Toy data: points in the plane whose modes can be counted, and digits stacked as colours.

Each function of the plane is (n, rng) -> (n, 2) float32, so it can be the data or the source distribution of a flow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

GRID = np.array([(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)], np.float32)  # (25, 2) centres, Lin et al. (2018)
RING = np.array([(math.cos(a), math.sin(a)) for a in np.arange(8) * math.pi / 4], np.float32)  # (8, 2) centres on radius 1


def grid(n: int, rng: Generator) -> np.ndarray:
    """25 Gaussians of standard deviation 0.05 on {-4, -2, 0, 2, 4}^2 (Lin et al. 2018, PacGAN, section 4.1)."""
    return _mixture(GRID, 0.05, n, rng)


def ring(n: int, rng: Generator) -> np.ndarray:
    """8 Gaussians of standard deviation 0.01 on the circle of radius 1 (Lin et al. 2018)."""
    return _mixture(RING, 0.01, n, rng)


def eight_gaussians(n: int, rng: Generator) -> np.ndarray:
    """8 Gaussians on the circle of radius 5 with covariance sqrt(0.1) I (Tong et al. 2024; Cheng & Schwing 2025)."""
    return _mixture(5 * RING, 0.1**0.25, n, rng)


def moons(n: int, rng: Generator) -> np.ndarray:
    """Two half circles, evenly filled, with noise of standard deviation 0.2; then scaled by 3 and moved by -1 (Tong et al. 2024)."""
    upper = np.linspace(0, math.pi, n - n // 2)
    lower = np.linspace(0, math.pi, n // 2)
    points = np.concatenate([np.stack([np.cos(upper), np.sin(upper)], 1), np.stack([1 - np.cos(lower), 0.5 - np.sin(lower)], 1)])
    points = 3 * (points + 0.2 * rng.standard_normal((n, 2))) - 1
    return rng.permutation(points).astype(np.float32)


def spiral(n: int, rng: Generator) -> np.ndarray:
    """One arm of two turns, from radius 0.5 to 4, with noise of standard deviation 0.1."""
    t = np.sqrt(rng.random(n))  # makes points about evenly spaced along the arm
    angle, radius = 4 * math.pi * t, 0.5 + 3.5 * t
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return (points + 0.1 * rng.standard_normal((n, 2))).astype(np.float32)


def normal(n: int, rng: Generator) -> np.ndarray:
    """N(0, 1) in the plane."""
    return rng.standard_normal((n, 2), np.float32)


TOYS: dict[str, Callable[[int, Generator], np.ndarray]] = {
    "grid": grid, "ring": ring, "eight_gaussians": eight_gaussians, "moons": moons, "spiral": spiral, "normal": normal,
}


def sample_shape(data: Any) -> tuple[int, ...]:
    """The shape of a sample: of points, or of stacked digits, by the toy's name; or of `Images`."""
    return ((28, 28, 3) if data == "stacked" else (2,)) if isinstance(data, str) else data.train.shape[1:]


def _mixture(centres: np.ndarray, deviation: float, n: int, rng: Generator) -> np.ndarray:
    return (centres[rng.integers(len(centres), size=n)] + deviation * rng.standard_normal((n, 2))).astype(np.float32)


def stacked_digits(images: np.ndarray, labels: np.ndarray, n: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Three digits as three colours (Metz et al. 2017): images (m, height, width) -> (n, height, width, 3), modes (n,) from 0 to 999."""
    if images.ndim != 3 or labels.shape != (len(images),):
        raise ValueError(f"stacked_digits: images have shape {images.shape}, labels {labels.shape}; they are (m, height, width) and (m,)")
    chosen = rng.integers(len(images), size=(n, 3))
    return np.ascontiguousarray(np.moveaxis(images[chosen], 1, -1)), labels[chosen] @ np.array([100, 10, 1])
