"""Random numbers without a state: each is a function of a seed and an index, whichever thread asks for it."""

import numpy as np

from .decorators import in_order

f32, i32, u32, u64 = np.float32, np.int32, np.uint32, np.uint64


@in_order
def _mix(x):
    """A permutation of the 32-bit integers in which every bit changes about half of all bits (Wellons 2018, lowbias32)."""
    x = u32(x ^ u32(x >> u32(16)))
    x = u32(x * u32(0x7FEB352D))
    x = u32(x ^ u32(x >> u32(15)))
    x = u32(x * u32(0x846CA68B))
    return u32(x ^ u32(x >> u32(16)))


@in_order
def random_bits(seed, index):
    """32 random bits, a function of (seed, index) alone: the same whichever thread asks, and in whatever order."""
    key = u64(seed) + u64(0x9E3779B97F4A7C15)            # splitmix64 (Steele et al. 2014) sets neighbouring seeds apart
    key = (key ^ (key >> u64(30))) * u64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> u64(27))) * u64(0x94D049BB133111EB)
    key = key ^ (key >> u64(31))
    where = u64(index)
    low = _mix(u32(u32(where) ^ u32(key)))
    return _mix(u32(low + u32(key >> u64(32)) + u32(u32(where >> u64(32)) * u32(0x9E3779B9))))


@in_order
def uniform(seed, index):
    """A float32 in [0, 1), a function of (seed, index) alone."""
    return f32(i32(random_bits(seed, index) >> u32(8))) * f32(5.9604644775390625e-08)
