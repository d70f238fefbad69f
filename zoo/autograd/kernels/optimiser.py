"""Optimiser steps over one flat buffer: a single pass over memory each, where NumPy takes ten."""

from __future__ import annotations

import math

import numpy as np

from ..runtime.compiling import address, clear_floats, copy_floats, gemm, get_threads, inner, keep_alive, kernels_enabled
from ..runtime.tasks import address_of, floats, integers, part, reals, task, tasks_for

f32 = np.float32
CHUNK = 4096  # entries whose squares are added up together: the norm doesn't depend on how many threads there are

BLOCKS = 3  # of rows that a symmetric product is cut into


def _served(*arrays: np.ndarray) -> bool:
    return kernels_enabled() and all(a.dtype == np.float32 and a.flags.c_contiguous for a in arrays)


def gather(flat: np.ndarray, gradients: list[np.ndarray | None], sizes: list[int]) -> float:
    """Write gradients of these sizes one after the other into flat, 0 for one that isn't there; returns the Euclidean norm of all."""
    gradients = [g if g is None else np.ascontiguousarray(g) for g in gradients]  # that of a transposed weight is a view
    if not _served(flat, *(g for g in gradients if g is not None)):
        at = 0
        for g, size in zip(gradients, sizes):
            flat[at : at + size] = 0 if g is None else g.reshape(-1)
            at += size
        return float(np.sqrt(np.sum(flat.astype(np.float64) ** 2)))
    places = np.array([0 if g is None else address_of(g) for g in gradients], np.int64)
    starts = np.cumsum([0, *sizes], dtype=np.int64)
    sums = np.empty(-(-flat.size // CHUNK), np.float64)
    _gather(places, starts, len(sizes), flat, flat.size, sums, tasks=tasks_for(flat.size))
    return math.sqrt(sums.sum())


def sgd(p: np.ndarray, g: np.ndarray, velocity: np.ndarray, lr: float, momentum: float) -> None:
    """velocity = momentum velocity + g;  p = p - lr velocity; both in place."""
    if momentum == 0:
        p -= p.dtype.type(lr) * g
        return
    velocity *= velocity.dtype.type(momentum)
    velocity += g
    p -= p.dtype.type(lr) * velocity


def adam(p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, lr: float, b1: float, b2: float, eps: float, decay: float, step: int) -> None:
    """One step of Adam(W), in place; step counts from 1 and is what the bias corrections are made from."""
    correct = 1 / (1 - b1**step), 1 / (1 - b2**step)
    if _served(p, g, m, v):
        _adam(p, g, m, v, p.size, lr * correct[0], b1, b2, eps, 1 - lr * decay, math.sqrt(correct[1]), tasks=tasks_for(p.size))
        return
    m += (1 - b1) * (g - m)
    v += (1 - b2) * (g * g - v)
    p *= 1 - lr * decay
    p -= lr * correct[0] * m / (np.sqrt(v * correct[1]) + eps)


def move_towards(a: np.ndarray, b: np.ndarray, rate: float) -> None:
    """a = a + rate (b - a), in place."""
    if _served(a, b) and a.size > CHUNK:
        _move_towards(a, b, a.size, float(rate), tasks=tasks_for(a.size))
    else:
        a += a.dtype.type(rate) * (b - a)


def newton_schulz(matrices: list[np.ndarray], coefficients: tuple[float, float, float], iterations: int) -> None:
    """x = x / |x|, then x = c0 x + (c1 a + c2 a a) x with a = x x^T, in place; each x (m, n) is contiguous with m <= n."""
    if _served(*matrices):
        shapes = np.array([x.shape for x in matrices], np.int64)
        places = np.array([address_of(x) for x in matrices], np.int64)
        tasks = min(get_threads(), len(matrices))
        load, owners = [0] * tasks, np.empty(len(matrices), np.int64)
        for i in sorted(range(len(matrices)), key=lambda i: -int(shapes[i, 0] * shapes[i].prod())):  # the largest first, to whoever has least
            owners[i] = np.argmin(load)
            load[owners[i]] += int(shapes[i, 0] * shapes[i].prod())
        _newton_schulz(places, shapes, owners, len(matrices), *map(float, coefficients), iterations, tasks=tasks)
        return
    c0, c1, c2 = coefficients
    for x in matrices:
        x /= x.dtype.type(np.sqrt(np.sum(x.astype(np.float64) ** 2)) + 1e-7)
        for _ in range(iterations):
            a = x @ x.T
            x[...] = c0 * x + (c1 * a + c2 * (a @ a)) @ x


@task
def _newton_schulz(t, tasks, places, shapes, owners, count, c0: float, c1: float, c2: float, iterations):
    place, shape, owner = integers(places, count), integers(shapes, 2 * count), integers(owners, count)
    for i in range(count):
        if owner[i] != t:
            continue
        m, n = shape[2 * i], shape[2 * i + 1]
        x = floats(place[i], m * n)
        scale = f32(1 / (math.sqrt(sum_of_squares(x)) + 1e-7))
        for j in range(m * n):
            x[j] *= scale
        a, b, y = np.empty(m * m, np.float32), np.empty(m * m, np.float32), np.empty(m * n, np.float32)
        for _ in range(iterations):
            times_its_transpose(f32(1), address(x), m, n, f32(0), address(a))
            b[:] = a
            times_its_transpose(f32(c2), address(a), m, m, f32(c1), address(b))  # a is its own transpose
            y[:] = x
            gemm(False, False, m, n, m, f32(1), address(b), m, address(y), n, f32(c0), address(x), n)
        keep_alive(a)
        keep_alive(b)
        keep_alive(y)


@inner
def times_its_transpose(alpha, x, m, n, beta, c):
    """C (m, m) = alpha x x^T + beta C, which is symmetric: of blocks off the diagonal one half is computed and mirrored."""
    block = (m + BLOCKS - 1) // BLOCKS
    for top in range(0, m, block):
        rows = min(block, m - top)
        gemm(False, True, rows, top + rows, n, alpha, x + 4 * top * n, n, x, n, beta, c + 4 * top * m, m)
    entries = floats(c, m * m)
    for i in range(m):
        for j in range(i + 1, m):
            entries[i * m + j] = entries[j * m + i]


@task
def _gather(t, tasks, places, starts, count, flat, n, sums):
    """flat = the gradients that lie at `places`, one after the other (0: none there); sums[c] = the squares of its chunk c."""
    chunks = (n + CHUNK - 1) // CHUNK
    place, start, total = integers(places, count), integers(starts, count + 1), reals(sums, chunks)
    j = 0
    for c in range(part(t, tasks, chunks, 1), part(t + 1, tasks, chunks, 1)):
        at, end = c * CHUNK, min(n, (c + 1) * CHUNK)
        while at < end:
            while start[j + 1] <= at:
                j += 1
            stop = min(end, start[j + 1])
            if place[j]:
                copy_floats(flat + 4 * at, place[j] + 4 * (at - start[j]), stop - at)
            else:
                clear_floats(flat + 4 * at, stop - at)
            at = stop
        total[c] = sum_of_squares(floats(flat + 4 * c * CHUNK, end - c * CHUNK))


@inner
def sum_of_squares(x):
    total = 0.0
    for i in range(x.size):
        total += float(x[i]) * float(x[i])
    return total


@task
def _adam(t, tasks, p, g, m, v, n, lr: float, b1: float, b2: float, eps: float, keep: float, root: float):
    first, last = part(t, tasks, n, 16), part(t + 1, tasks, n, 16)
    P, G, M, V = at(p, first, last), at(g, first, last), at(m, first, last), at(v, first, last)
    lr32, first_rate, second_rate = f32(lr), f32(b1), f32(b2)
    for i in range(P.size):
        mean = first_rate * M[i] + (f32(1) - first_rate) * G[i]
        square = second_rate * V[i] + (f32(1) - second_rate) * G[i] * G[i]
        P[i] = f32(keep) * P[i] - lr32 * mean / (np.sqrt(square) * f32(root) + f32(eps))
        M[i], V[i] = mean, square


@task
def _move_towards(t, tasks, a, b, n, rate: float):
    first, last = part(t, tasks, n, 16), part(t + 1, tasks, n, 16)
    x, y = at(a, first, last), at(b, first, last)
    for i in range(x.size):
        x[i] += f32(rate) * (y[i] - x[i])


@inner
def at(place, first, last):
    """Entries first to last of the floats at an address."""
    return floats(place + 4 * first, last - first)
