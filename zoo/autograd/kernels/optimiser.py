"""Optimiser steps over one flat buffer: a single pass over memory each, where NumPy takes ten.

Each function serves contiguous float32 by its kernel and everything else, kernels switched off included, by NumPy; both change
their arguments in place.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..runtime.compiling import inner
from ..runtime.native import address, clear_floats, copy_floats, floats, gemm, integers, keep_alive, reals
from ..runtime.switch import kernels_enabled
from ..runtime.tasks import CHUNK_FLOATS, FLOAT32, RUN_FLOATS, address_of, at, part, row_address, span, task, tasks_for
from ..runtime.threads import get_threads

f32 = np.float32
SYMMETRIC_BLOCKS = 3  # of rows that a symmetric product is cut into; those above the diagonal aren't computed
WIDE = 3  # times as many columns as rows, from where on Newton and Schulz's iterations are gathered in one factor


def _is_served(*arrays: np.ndarray) -> bool:
    return kernels_enabled() and all(a.dtype == np.float32 and a.flags.c_contiguous for a in arrays)


# --- gradients, one after the other


@inner
def sum_of_squares(x):
    total = 0.0
    for i in range(x.size):
        total += float(x[i]) * float(x[i])
    return total


class Gradients(NamedTuple):
    """Gradients that lie anywhere, as one run of numbers, one behind the other."""

    addresses: np.ndarray  # (count,) int64; 0: none there, which counts as zeros
    starts: np.ndarray  # (count + 1,) int64: where each begins in the run, and where the last ends
    arrays: Sequence[np.ndarray | None]  # which are held, so that the addresses hold


@task
def gather_gradients(t, tasks, addresses, starts, count, flat, n, squares):
    """flat (n,) = `count` gradients one after the other, from their addresses (0: none there); starts (count + 1,) says where in flat.

    squares (chunks,) float64: what the squares of each chunk add up to, so that the norm doesn't depend on the threads. Without flat, 0, only that.
    """
    chunks = (n + CHUNK_FLOATS - 1) // CHUNK_FLOATS
    gradient, start, total = integers(addresses, count), integers(starts, count + 1), reals(squares, chunks)
    j = 0
    for c in range(part(t, tasks, chunks, 1), part(t + 1, tasks, chunks, 1)):
        i, end = c * CHUNK_FLOATS, min(n, (c + 1) * CHUNK_FLOATS)
        sum_of_chunk = 0.0
        while i < end:
            while start[j + 1] <= i:
                j += 1
            stop = min(end, start[j + 1])
            if gradient[j]:
                source = at(gradient[j], i - start[j])
                sum_of_chunk += sum_of_squares(floats(source, stop - i))
                if flat:
                    copy_floats(at(flat, i), source, stop - i)
            elif flat:
                clear_floats(at(flat, i), stop - i)
            i = stop
        total[c] = sum_of_chunk


def located(gradients: Sequence[np.ndarray | None], sizes: Sequence[int]) -> Gradients | None:
    """Where gradients of these sizes lie; None unless kernels serve all of them.  Raises ValueError for a gradient of another size."""
    served = kernels_enabled()
    addresses: list[int] = []
    arrays: list[np.ndarray | None] = []
    for g, size in zip(gradients, sizes, strict=True):
        if g is None:
            addresses.append(0)
            arrays.append(g)
            continue
        if g.size != size:
            raise ValueError(f"optimiser: a gradient has shape {g.shape}; its parameter has {size} entries")
        if not g.flags.c_contiguous:
            g = np.ascontiguousarray(g)  # that of a transposed weight is a view
        served = served and (g.dtype is FLOAT32 or g.dtype == FLOAT32)
        addresses.append(address_of(g))
        arrays.append(g)
    return Gradients(np.array(addresses, np.int64), _starts(tuple(sizes)), arrays) if served else None


def norm(gradients: Gradients) -> float:
    """The Euclidean norm of all gradients together."""
    return _gather(gradients, None)


def _gather(gradients: Gradients, flat: np.ndarray | None) -> float:
    n = int(gradients.starts[-1])
    squares = np.empty(-(-n // CHUNK_FLOATS), np.float64)
    gather_gradients(gradients.addresses, gradients.starts, len(gradients.arrays), flat, n, squares, tasks=tasks_for(n))
    return math.sqrt(np.add.reduce(squares))


def gather(flat: np.ndarray, gradients: list[np.ndarray | None], sizes: list[int]) -> float:
    """Write gradients of these sizes one after the other into flat, 0 for one that isn't there; returns the Euclidean norm of all."""
    there, starts = located(gradients, sizes), _starts(tuple(sizes))
    if starts[-1] != flat.size:
        raise ValueError(f"optimiser: gradients of {starts[-1]} entries are to fill {flat.size}")
    if there is not None and _is_served(flat):
        return _gather(there, flat)
    for g, start, stop in zip(gradients, starts, starts[1:]):
        flat[start:stop] = 0 if g is None else g.reshape(-1)
    return float(np.sqrt(np.sum(flat.astype(np.float64) ** 2)))


@functools.lru_cache(maxsize=32)
def _starts(sizes: tuple[int, ...]) -> np.ndarray:
    """Where arrays of these sizes begin, one after the other, and where the last ends."""
    return np.cumsum([0, *sizes], dtype=np.int64)


# --- SGD and Adam


def sgd(p: np.ndarray, g: np.ndarray, velocity: np.ndarray, lr: float, momentum: float) -> None:
    """velocity = momentum velocity + g;  p = p - lr velocity."""
    if momentum == 0:
        p -= p.dtype.type(lr) * g
        return
    velocity *= velocity.dtype.type(momentum)
    velocity += g
    p -= p.dtype.type(lr) * velocity


class Rates(NamedTuple):
    """What a step of Adam depends on, besides the gradients."""

    lr: float  # divided by 1 - b1^step
    b1: float
    b2: float
    eps: float
    decayed: float  # by which weights are multiplied
    v_correction: float  # the square root of 1 / (1 - b2^step)


@inner
def adam_run(p, g, m, v, n, scale, rates):
    """n numbers of `adam_step`, by addresses."""
    P, G, M, V = floats(p, n), floats(g, n), floats(m, n), floats(v, n)
    lr, beta1, beta2 = f32(rates.lr), f32(rates.b1), f32(rates.b2)
    for i in range(n):
        gradient = f32(scale) * G[i]
        mean = beta1 * M[i] + (f32(1) - beta1) * gradient
        square = beta2 * V[i] + (f32(1) - beta2) * gradient * gradient
        P[i] = f32(rates.decayed) * P[i] - lr * mean / (np.sqrt(square) * f32(rates.v_correction) + f32(rates.eps))
        M[i], V[i] = mean, square


@task
def adam_step(t, tasks, p, addresses, starts, count, begin, m, v, n, scale: float, rates: Rates):
    """p, m, v (n,); g: numbers begin .. begin + n - 1 of `Gradients`, times scale; p = decayed p - lr m / (v_correction sqrt(v) + eps)"""
    gradient, start = integers(addresses, count), integers(starts, count + 1)
    zeros = np.zeros(CHUNK_FLOATS, np.float32)
    i, last = part(t, tasks, n, RUN_FLOATS), part(t + 1, tasks, n, RUN_FLOATS)
    j = 0
    while i < last:
        while start[j + 1] <= begin + i:
            j += 1
        stop = min(last, start[j + 1] - begin)
        if not gradient[j]:
            stop = min(stop, i + CHUNK_FLOATS)
        g = at(gradient[j], begin + i - start[j]) if gradient[j] else address(zeros)
        adam_run(at(p, i), g, at(m, i), at(v, i), stop - i, scale, rates)
        i = stop
    keep_alive(zeros)


def adam(p: np.ndarray, g: np.ndarray | Gradients, m: np.ndarray, v: np.ndarray, lr: float, b1: float, b2: float, eps: float, decay: float, step: int,
         *, begin: int = 0, scale: float = 1.0) -> None:
    """One step of Adam (Kingma & Ba 2015, algorithm 1) with decoupled decay (Loshchilov & Hutter 2019, algorithm 2).

    m and v are averages of g and g^2 that began at 0; after `step` steps, counted from 1, they have the weights of all gradients add up
    to 1 - b^step only, so both are divided by it.  g is an array as p is, or the `Gradients` of which p's begin at `begin`; scale multiplies it.
    """
    m_correction, v_correction = 1 / (1 - b1**step), 1 / (1 - b2**step)
    there = g if isinstance(g, Gradients) else located([g], [g.size])
    if there is not None and _is_served(p, m, v) and p.size == m.size == v.size <= there.starts[-1] - begin:
        rates = Rates(lr * m_correction, b1, b2, eps, 1 - lr * decay, math.sqrt(v_correction))
        adam_step(p, there.addresses, there.starts, len(there.arrays), begin, m, v, p.size, scale, rates, tasks=tasks_for(p.size))
        return
    assert not isinstance(g, Gradients), "these are for kernels"
    g = g if scale == 1 else g * g.dtype.type(scale)
    m += (1 - b1) * (g - m)
    v += (1 - b2) * (g * g - v)
    p *= 1 - lr * decay
    p -= lr * m_correction * m / (np.sqrt(v * v_correction) + eps)


# --- averages of weights


@task
def move_entries(t, tasks, a, b, n, rate: float):
    """a (n,) = a + rate (b - a)"""
    first, last = part(t, tasks, n, RUN_FLOATS), part(t + 1, tasks, n, RUN_FLOATS)
    x, y = span(a, first, last), span(b, first, last)
    for i in range(x.size):
        x[i] += f32(rate) * (y[i] - x[i])


def move_towards(a: np.ndarray, b: np.ndarray, rate: float) -> None:
    """a = a + rate (b - a)."""
    if _is_served(a, b) and a.shape == b.shape and a.size > CHUNK_FLOATS:
        move_entries(a, b, a.size, float(rate), tasks=tasks_for(a.size))
    else:
        a += a.dtype.type(rate) * (b - a)


# --- Muon's orthogonal matrices


@inner
def times_its_transpose(alpha, x, m, n, beta, c):
    """C (m, m) = alpha x x^T + beta C with x (m, n): symmetric, so the half above the diagonal blocks is mirrored, not computed."""
    block = (m + SYMMETRIC_BLOCKS - 1) // SYMMETRIC_BLOCKS
    for top in range(0, m, block):
        rows = min(block, m - top)
        gemm(False, True, rows, top + rows, n, alpha, row_address(x, top, n), n, x, n, beta, row_address(c, top, m), m)
    entries = floats(c, m * m)
    for i in range(m):
        for j in range(i + 1, m):
            entries[i * m + j] = entries[j * m + i]


@inner
def iterate_matrix(x, m, n, c0, c1, c2, iterations):
    """x (m, n) as the definition has it: 1.5 m^2 n + 0.5 m^3 multiplications in each iteration."""
    a, b, y = np.empty(m * m, np.float32), np.empty(m * m, np.float32), np.empty(m * n, np.float32)
    for _ in range(iterations):
        times_its_transpose(f32(1), address(x), m, n, f32(0), address(a))
        copy_floats(address(b), address(a), m * m)
        times_its_transpose(c2, address(a), m, m, c1, address(b))  # a is its own transpose
        copy_floats(address(y), address(x), m * n)
        gemm(False, False, m, n, m, f32(1), address(b), m, address(y), n, c0, address(x), n)
    keep_alive(a)
    keep_alive(b)
    keep_alive(y)


@inner
def iterate_factor(x, m, n, c0, c1, c2, iterations):
    """The same where x is wide: all iterations are factors b of m x m in front of it, and those need a = x x^T alone, which becomes b a b.

    3.5 m^3 multiplications in each iteration, and 1.5 m^2 n altogether.  a has the squares of singular values, so the least are rounded more: those
    below 1e-3 of the norm end within 1e-3 of where the definition leaves them.
    """
    a, b, y, q = np.empty(m * m, np.float32), np.empty(m * m, np.float32), np.empty(m * m, np.float32), np.empty(m * m, np.float32)
    times_its_transpose(f32(1), address(x), m, n, f32(0), address(a))
    for k in range(iterations):
        copy_floats(address(b), address(a), m * m)
        times_its_transpose(c2, address(a), m, m, c1, address(b))
        for i in range(m):
            b[i * m + i] += c0
        if k == 0:
            copy_floats(address(q), address(b), m * m)
        else:
            copy_floats(address(y), address(q), m * m)
            gemm(False, False, m, m, m, f32(1), address(b), m, address(y), m, f32(0), address(q), m)
        if k + 1 < iterations:
            gemm(False, False, m, m, m, f32(1), address(b), m, address(a), m, f32(0), address(y), m)
            gemm(False, False, m, m, m, f32(1), address(y), m, address(b), m, f32(0), address(a), m)
    wide = np.empty(m * n, np.float32)
    copy_floats(address(wide), address(x), m * n)
    gemm(False, False, m, n, m, f32(1), address(q), m, address(wide), n, f32(0), address(x), n)
    keep_alive(a)
    keep_alive(b)
    keep_alive(y)
    keep_alive(q)
    keep_alive(wide)


@task
def iterate_newton_schulz(t, tasks, addresses, shapes, owners, count, c0: float, c1: float, c2: float, iterations):
    """`count` matrices by their addresses, shapes (count, 2); owners (count,) says which task takes each."""
    matrix, shape, owner = integers(addresses, count), integers(shapes, 2 * count), integers(owners, count)
    for i in range(count):
        if owner[i] != t:
            continue
        m, n = shape[2 * i], shape[2 * i + 1]
        x = floats(matrix[i], m * n)
        scale = f32(1 / (math.sqrt(sum_of_squares(x)) + 1e-7))
        for j in range(m * n):
            x[j] *= scale
        if n >= WIDE * m and iterations:
            iterate_factor(x, m, n, f32(c0), f32(c1), f32(c2), iterations)
        else:
            iterate_matrix(x, m, n, f32(c0), f32(c1), f32(c2), iterations)


def newton_schulz(matrices: list[np.ndarray], coefficients: tuple[float, float, float], iterations: int) -> None:
    """x = x / |x|, then x = c0 x + (c1 a + c2 a a) x with a = x x^T; each x (m, n) is contiguous with m <= n.

    An odd polynomial in x acts on its singular values alone; this one brings all of them near 1 (Jordan et al. 2024).
    """
    if _is_served(*matrices):
        shapes = np.array([x.shape for x in matrices], np.int64)
        addresses = np.array([address_of(x) for x in matrices], np.int64)
        tasks = min(get_threads(), len(matrices))
        work = [int(m * m * n) for m, n in shapes]
        load, owners = [0] * tasks, np.empty(len(matrices), np.int64)
        for i in sorted(range(len(matrices)), key=lambda i: -work[i]):  # the largest first, to whoever has least
            owners[i] = np.argmin(load)
            load[owners[i]] += work[i]
        iterate_newton_schulz(addresses, shapes, owners, len(matrices), *map(float, coefficients), iterations, tasks=tasks)
        return
    c0, c1, c2 = coefficients
    for x in matrices:
        x /= x.dtype.type(np.sqrt(np.sum(x.astype(np.float64) ** 2)) + 1e-7)
        for _ in range(iterations):
            a = x @ x.T
            x[...] = c0 * x + (c1 * a + c2 * (a @ a)) @ x
