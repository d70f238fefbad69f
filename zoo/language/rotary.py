"""Rotary positions for longer texts than a model was trained on first: by what the frequency of each pair of numbers is divided.

Position m turns pair i by the angle m theta^(-2i / d) (Su et al. 2021, equation 15).  Far positions turn slow pairs by angles that were
never seen.  So angles are divided: all alike, or only those of pairs that turn less than once within the first window.

    linear    every pair by the factor                                                                          (Chen et al. 2023)
    llama3    slow pairs by the factor, fast ones by 1, smoothly between                                        (Llama 3.1, 2024)
    yarn      the same with a straight ramp over i, and longer queries and keys, which sharpen attention        (Peng et al. 2023)
"""

from __future__ import annotations

import math

import numpy as np


def linear(factor: float, d: int) -> np.ndarray:
    """(d / 2,), all the factor."""
    return np.full(d // 2, float(factor))


def llama3(factor: float, d: int, theta: float, window: int, low: float, high: float) -> np.ndarray:
    """(d / 2,): 1 for pairs that turn more than `high` times within the first window, `factor` for those that turn less than `low` times."""
    turns = window * theta ** (-np.arange(0, d, 2) / d) / (2 * math.pi)
    share = np.clip((turns - low) / (high - low), 0, 1)  # of the frequency as it was
    return 1 / (share + (1 - share) / factor)


def yarn(factor: float, d: int, theta: float, window: int, slow: float = 1.0, fast: float = 32.0) -> np.ndarray:
    """(d / 2,): 1 up to the pair that turns `fast` times within the first window, `factor` from the one that turns `slow` times on."""

    def pair(turns: float) -> float:
        return d * math.log(window / (2 * math.pi * turns)) / (2 * math.log(theta))

    first, last = max(math.floor(pair(fast)), 0), min(math.ceil(pair(slow)), d - 1)
    share = np.clip((np.arange(d // 2) - first) / max(last - first, 1), 0, 1)  # of the divided frequency
    return 1 / ((1 - share) + share / factor)


def yarn_attention(factor: float) -> float:
    """By which yarn multiplies queries and keys, unless a model says otherwise."""
    return 0.1 * math.log(max(factor, 1)) + 1
