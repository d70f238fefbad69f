"""Random numbers that are a function of a seed and a position: any entry can be drawn alone, in any order, on any thread.

The definition, in NumPy, of what `native.random_bits` and `native.uniform` are inside kernels: equal bit for bit.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np

_u32, _u64 = np.uint32, np.uint64


def _mix(x: np.ndarray) -> np.ndarray:
    """A permutation of the 32-bit integers in which every bit changes about half of all bits (Wellons 2018, lowbias32)."""
    x = (x ^ (x >> _u32(16))) * _u32(0x7FEB352D)
    x = (x ^ (x >> _u32(15))) * _u32(0x846CA68B)
    return x ^ (x >> _u32(16))


def random_bits(seed: int, n: int) -> np.ndarray:
    """(n,) uint32: the bits at positions 0 .. n - 1."""
    key = (seed + 0x9E3779B97F4A7C15) % 2**64  # splitmix64 (Steele et al. 2014) sets neighbouring seeds apart
    key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    key = (key ^ (key >> 27)) * 0x94D049BB133111EB % 2**64
    key ^= key >> 31
    where = np.arange(n, dtype=_u64)
    low = _mix(where.astype(_u32) ^ _u32(key % 2**32))
    return _mix(low + _u32(key >> 32) + (where >> _u64(32)).astype(_u32) * _u32(0x9E3779B9))


def uniform(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """float32 in [0, 1) with 24 random bits."""
    bits = random_bits(int(seed), math.prod(shape))
    return ((bits >> _u32(8)).astype(np.float32) * np.float32(2**-24)).reshape(shape)


def generator(seed: int | Sequence[int] | None) -> np.random.Generator:
    """NumPy's generator from a seed: a whole number of at least 0, several of them, or None for other numbers every time.

    Raises TypeError or ValueError, which name the seed.
    """
    for part in () if seed is None else seed if isinstance(seed, (tuple, list, np.ndarray)) else (seed,):
        try:
            whole = operator.index(part)
        except TypeError:
            raise TypeError(f"seed: is {part!r:.80}; it is a whole number of at least 0, or None for other numbers every time") from None
        if whole < 0:
            raise ValueError(f"seed: is {whole}; it is a whole number of at least 0, or None for other numbers every time")
    return np.random.default_rng(seed)
