"""Which of two multiplies matrices: BLAS, or tiles of our own. It is measured once for each machine and kind of product, and kept.

A kind is what is transposed, and how many bits m, n and k have: products of a kind take about as long for each multiplication. Both are timed in
turns on one thread. What came out lies beside the compiled kernels, and whoever measures first decides for all processes, since the two add up
numbers in another order. Where nothing can be kept, BLAS multiplies. The environment variable ZOO_PRODUCTS has the last word: "blas", "tiles" or
"measured".
"""

from __future__ import annotations

import ctypes
import functools
import operator
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ...runtime import cache, threads
from ...runtime.compiling import OPTIONS
from ...runtime.scipy_blas import function_address
from ...runtime.tasks import address_of
from .tiled import multiply_tiled

f32 = np.float32
CHOICES = ("blas", "tiles", "measured")
LEAST_BITS, MOST_BITS = (3, 5, 3), (9, 9, 10)  # of m, n, k: for less, a tile is mostly padding; from 256 rows on all are as one of 384
TURNS = 5  # of which the fastest counts
MIN_TURN = 1 << 20  # multiplications; of less, a turn has several products


@functools.cache
def policy() -> str:
    """What ZOO_PRODUCTS says.  Raises ValueError for a word that isn't one of CHOICES."""
    chosen = os.environ.get("ZOO_PRODUCTS") or CHOICES[-1]
    if chosen not in CHOICES:
        raise ValueError(f"the environment variable ZOO_PRODUCTS is {chosen!r}; it may be {', '.join(CHOICES[:-1])} or {CHOICES[-1]}")
    return chosen


@functools.lru_cache(maxsize=4096)
def tiles_for(a_transposed: bool, b_transposed: bool, m: int, n: int, k: int) -> int:
    """Where `multiply_tiled` lies, if it is to multiply (m, k) by (k, n); 0 for BLAS."""
    chosen = policy()
    if chosen == "measured":
        bits = m.bit_length(), n.bit_length(), k.bit_length()
        return 0 if any(map(operator.lt, bits, LEAST_BITS)) else _measured(a_transposed, b_transposed, *map(min, bits, MOST_BITS))
    return multiply_tiled.load() if chosen == "tiles" and m and n and k else 0


@functools.cache
def _measured(a_transposed: bool, b_transposed: bool, *bits: int) -> int:
    """As `tiles_for`, for all products of a kind: measured, unless that has been kept."""
    if not cache.is_lasting(OPTIONS):
        return 0
    with threads.lock:
        name = f"product-{'nt'[a_transposed]}{'nt'[b_transposed]}-{'-'.join(map(str, bits))}-{multiply_tiled.digest()[:32]}"
        kept = cache.choice(name, OPTIONS)
        if kept is None:
            m, n, k = (3 << (b - 2) for b in bits)  # in the middle of those with so many bits
            kept = cache.keep_choice(name, OPTIONS, "tiles" if tiles_are_faster(a_transposed, b_transposed, m, n, k) else "blas")
        return multiply_tiled.load() if kept == "tiles" else 0


def tiles_are_faster(a_transposed: bool, b_transposed: bool, m: int, n: int, k: int) -> bool:
    a = np.ones((k, m) if a_transposed else (m, k), f32)
    b, c = np.ones((n, k) if b_transposed else (k, n), f32), np.empty((m, n), f32)
    both, times = calls(a, a_transposed, b, b_transposed, c), max(1, MIN_TURN // (m * n * k))
    seconds = [[_seconds(call, times) for call in both] for _ in range(TURNS + 1)][1:]
    by_tiles, by_blas = map(min, zip(*seconds))
    return by_tiles < by_blas


def calls(a: np.ndarray, a_transposed: bool, b: np.ndarray, b_transposed: bool, c: np.ndarray) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two functions that write a b to c on this thread, the first by tiles, the second by BLAS."""
    (m, n), k = c.shape, a.shape[0 if a_transposed else 1]
    threads.start()  # which holds BLAS at one thread
    tiles = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 12)(multiply_tiled.load())
    arguments = address_of(a), a.shape[1], a_transposed, address_of(b), b.shape[1], b_transposed, address_of(c), n, m, n, k, 0
    sgemm = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(function_address("sgemm"))
    letters = [ctypes.c_char(b"T" if transposed else b"N") for transposed in (b_transposed, a_transposed)]  # BLAS counts column by column
    integers = [ctypes.c_int(i) for i in (n, m, k, b.shape[1], a.shape[1], n)]
    numbers: list[Any] = [*letters, *integers, ctypes.c_float(1), ctypes.c_float(0)]
    words = [ctypes.byref(x) for x in numbers]
    order = *words[:5], words[8], address_of(b), words[5], address_of(a), words[6], words[9], address_of(c), words[7]
    held = a, b, c

    def by_tiles(held=held):  # as long as their addresses are known
        tiles(*arguments)

    def by_blas(held=held):
        sgemm(*order)

    return by_tiles, by_blas


def _seconds(call: Callable[[], None], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - began
