"""Kernels of layer norm and RMS norm, and of dropout.

The statistics of a row, or of a few rows, are taken while it lies in the nearest cache: first the mean, then the squares around
it, as the definition does. What is kept for the way back is two numbers a row, group or channel; the normal values are made anew.
"""

from __future__ import annotations

import math

import numpy as np

from ..operations.normalisation import dropout, layer_norm, rms_norm
from ..runtime.compiling import inner, uniform
from ..runtime.tasks import floats, is_float32, part, task, tasks_for

f32 = np.float32


# --- over the last axis


@inner
def normal_row(x, y, gain, bias, centred, eps):
    """y = gain (x - mean) / deviation + bias; returns mean (0 unless centred) and 1 / deviation. A bias of size 0 is none."""
    n = f32(x.size)
    mean = f32(0)
    if centred:
        for j in range(x.size):
            mean += x[j]
        mean /= n
    squares = f32(0)
    for j in range(x.size):
        squares += (x[j] - mean) * (x[j] - mean)
    inverse = f32(1) / math.sqrt(squares / n + eps)
    if bias.size:
        for j in range(x.size):
            y[j] = gain[j] * ((x[j] - mean) * inverse) + bias[j]
    else:
        for j in range(x.size):
            y[j] = gain[j] * ((x[j] - mean) * inverse)
    return mean, inverse


@task
def row_norm_forward(t, tasks, x, gain, bias, y, means, inverses, rows, n, centred, eps: float):
    kept_mean, kept_inverse = floats(means, rows), floats(inverses, rows)
    factor, shift = floats(gain, n), floats(bias, n if bias else 0)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        mean, inverse = normal_row(floats(x + 4 * i * n, n), floats(y + 4 * i * n, n), factor, shift, centred, f32(eps))
        kept_mean[i], kept_inverse[i] = mean, inverse


@inner
def normal_row_backward(g, x, gain, mean, inverse, dx, dgain, dbias, centred):
    """dx = (h - mean of h - z mean of h z) / deviation with h = g gain and z the normal values; adds to dgain and dbias."""
    n = f32(x.size)
    level, slope = f32(0), f32(0)
    for j in range(x.size):
        z = (x[j] - mean) * inverse
        h = g[j] * gain[j]
        level += h
        slope += h * z
        dgain[j] += g[j] * z
        dbias[j] += g[j]
    level = level / n if centred else f32(0)
    slope /= n
    for j in range(x.size):
        dx[j] = (g[j] * gain[j] - level - (x[j] - mean) * inverse * slope) * inverse


@task
def row_norm_backward(t, tasks, g, x, gain, means, inverses, dx, dgains, dbiases, rows, n, centred):
    """dgains, dbiases (tasks, n): what each task adds up."""
    factor, kept_mean, kept_inverse = floats(gain, n), floats(means, rows), floats(inverses, rows)
    dgain, dbias = floats(dgains + 4 * t * n, n), floats(dbiases + 4 * t * n, n)
    part_gain, part_bias = np.empty(n, np.float32), np.empty(n, np.float32)
    for j in range(n):
        dgain[j], dbias[j] = f32(0), f32(0)
    last = part(t + 1, tasks, rows, 1)
    for first in range(part(t, tasks, rows, 1), last, 64):  # 64 rows at a time so that rounding doesn't pile up
        for j in range(n):
            part_gain[j], part_bias[j] = f32(0), f32(0)
        for i in range(first, min(first + 64, last)):
            at = 4 * i * n
            a, b, d = floats(g + at, n), floats(x + at, n), floats(dx + at, n)
            normal_row_backward(a, b, factor, kept_mean[i], kept_inverse[i], d, part_gain, part_bias, centred)
        for j in range(n):
            dgain[j] += part_gain[j]
            dbias[j] += part_bias[j]


def _row_norm(x, gain, bias, centred, eps):
    n = x.shape[-1]
    rows = x.size // n
    y, means, inverses = np.empty(x.shape, f32), np.empty(rows, f32), np.empty(rows, f32)
    row_norm_forward(x, gain, bias, y, means, inverses, rows, n, centred, float(eps), tasks=tasks_for(x.size))
    return y, (means, inverses)


def _row_norm_backward(g, saved, x, gain, centred):
    n = x.shape[-1]
    tasks = tasks_for(x.size)
    dx, sums = np.empty(x.shape, f32), np.empty((2, tasks, n), f32)
    row_norm_backward(g, x, gain, *saved, dx, sums[0], sums[1], x.size // n, n, centred, tasks=tasks)
    dgain, dbias = sums.sum(1) if tasks > 1 else sums[:, 0]
    return dx, dgain, dbias


@layer_norm.forward
def _(x, gain, bias, *, eps):
    return _row_norm(x, gain, bias, True, eps) if is_float32(x, gain) and (bias is None or is_float32(bias)) else NotImplemented


@layer_norm.backward
def _(g, _y, saved, x, gain, bias, *, needs, eps):
    dx, dgain, dbias = _row_norm_backward(g, saved, x, gain, True)
    return dx, dgain, None if bias is None else dbias


@rms_norm.forward
def _(x, gain, *, eps):
    return _row_norm(x, gain, None, False, eps) if is_float32(x, gain) else NotImplemented


@rms_norm.backward
def _(g, _y, saved, x, gain, *, needs, eps):
    return _row_norm_backward(g, saved, x, gain, False)[:2]


# --- dropout


@task
def drop(t, tasks, x, y, n, seed, p: float):
    """y = x / (1 - p) where the random number of the entry's position is at least p, else 0"""
    first = part(t, tasks, n, 16)
    count = part(t + 1, tasks, n, 16) - first
    a, b = floats(x + 4 * first, count), floats(y + 4 * first, count)
    least, scale = f32(p), f32(1) / f32(1 - p)
    for j in range(count):
        b[j] = a[j] * scale if uniform(seed, first + j) >= least else a[j] * f32(0)


def _drop(x, p, seed):
    y = np.empty(x.shape, f32)
    drop(x, y, x.size, int(seed), float(p), tasks=tasks_for(x.size))
    return y


@dropout.forward
def _(x, *, p, seed):
    return _drop(x, p, seed), ()


@dropout.backward
def _(g, _y, _saved, _x, *, needs, p, seed):
    return (_drop(g, p, seed),)
