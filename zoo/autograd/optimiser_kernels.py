"""Optimiser steps over one flat buffer: a single pass over memory each, where NumPy takes ten."""

from __future__ import annotations

import math

import numpy as np

from .runtime import kernel, kernels_enabled, prange

f32 = np.float32
CHUNK = 4096  # entries that one thread takes at a time: the result doesn't depend on how many threads there are


def _served(*arrays: np.ndarray) -> bool:
    return kernels_enabled() and all(a.dtype == np.float32 and a.flags.c_contiguous for a in arrays)


def norm(g: np.ndarray) -> float:
    """The Euclidean norm."""
    if not _served(g):
        return float(np.sqrt(np.sum(g.astype(np.float64) ** 2)))
    sums = np.empty(-(-g.size // CHUNK), np.float64)
    _squares(g, sums)
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
        _adam(p, g, m, v, f32(lr * correct[0]), f32(b1), f32(b2), f32(eps), f32(1 - lr * decay), f32(math.sqrt(correct[1])))
        return
    m += (1 - b1) * (g - m)
    v += (1 - b2) * (g * g - v)
    p *= 1 - lr * decay
    p -= lr * correct[0] * m / (np.sqrt(v * correct[1]) + eps)


def move_towards(a: np.ndarray, b: np.ndarray, rate: float) -> None:
    """a = a + rate (b - a), in place."""
    if _served(a, b) and a.size > CHUNK:
        _move_towards(a.reshape(-1), b.reshape(-1), f32(rate))
    else:
        a += a.dtype.type(rate) * (b - a)


@kernel
def _squares(g, sums):
    n = g.shape[0]
    for c in prange(sums.shape[0]):
        total = 0.0
        for i in range(c * CHUNK, min(n, c * CHUNK + CHUNK)):
            total += g[i] * g[i]
        sums[c] = total


@kernel
def _adam(p, g, m, v, lr, b1, b2, eps, keep, root):
    n = p.shape[0]
    for c in prange((n + CHUNK - 1) // CHUNK):
        for i in range(c * CHUNK, min(n, c * CHUNK + CHUNK)):
            m[i] = b1 * m[i] + (f32(1) - b1) * g[i]
            v[i] = b2 * v[i] + (f32(1) - b2) * g[i] * g[i]
            p[i] = keep * p[i] - lr * m[i] / (np.sqrt(v[i]) * root + eps)


@kernel
def _move_towards(a, b, rate):
    n = a.shape[0]
    for c in prange((n + CHUNK - 1) // CHUNK):
        for i in range(c * CHUNK, min(n, c * CHUNK + CHUNK)):
            a[i] += rate * (b[i] - a[i])
