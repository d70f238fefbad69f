"""Lines between two codes, along which models interpolate."""

from __future__ import annotations

import math

import numpy as np


def straight_line(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """(steps, ...) points at equal distances on the line from a to b, both ends bit for bit."""
    if steps < 2:
        raise ValueError(f"interpolate: steps is {steps}; it is at least 2, the two ends")
    along = np.linspace(0, 1, steps, dtype=np.float32).reshape(-1, *[1] * a.ndim)
    return (1 - along) * a + along * b


def great_circle(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """(steps, ...) points on the great circle from a to b, both ends bit for bit (Shoemake 1985).

    Normal draws of d numbers have a length near sqrt(d); points on the straight line between two are shorter, those on the circle aren't.
    """
    angle = math.acos(max(-1.0, min(1.0, float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))))))
    along = np.linspace(0, 1, steps)
    if angle < 1e-3:
        weights = np.stack([1 - along, along])
    else:
        weights = np.stack([np.sin((1 - along) * angle), np.sin(along * angle)]) / math.sin(angle)
    weight_a, weight_b = weights.astype(np.float32).reshape(2, steps, *(1,) * a.ndim)
    return weight_a * a + weight_b * b
