"""Kernels of layer norm and RMS norm, and of dropout.

x is contiguous float32, seen as rows of its last axis. A row's statistics are taken while it lies in the nearest cache: first the
mean, then the squares around it, as the definition does. Only the mean and 1 / deviation of each row are saved for backward, which
computes the normalised values z = (x - mean) / deviation once more.

Of y = gain z + bias, backward is (Ba et al. 2016): z doesn't change if a row is shifted or scaled, so from h = g gain, the gradient
of z, what points in those two directions is taken out: dx = (h - mean of h - z mean of h z) / deviation. RMS norm isn't blind to a
shift, and keeps the mean of h.

A @task is called with arrays and numbers. It runs for t = 0 ... tasks - 1 on the threads, where each array is the address of its first
element (0 for None), read by `floats`, `row` and `span`; `part` says at which row a task begins (`runtime.tasks`).
"""

from __future__ import annotations

import math

import numpy as np

from ..operations.normalisation import dropout, layer_norm, rms_norm
from ..runtime.compiling import inner
from ..runtime.native import floats, uniform
from ..runtime.tasks import RUN_FLOATS, is_float32, part, row, span, task, tasks_for
from .arithmetic import ROWS_PER_SUM

f32 = np.float32


# --- layer norm and RMS norm


@inner
def normalise_row(x, y, gain, bias, centred, eps):
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
def row_norm_forward(t, tasks, x, gain, bias, y, means, inverses, rows, n, centred: bool, eps: float):
    """x, y (rows, n), gain (n,), bias (n,) or 0 for none; means, inverses (rows,) are each row's mean and 1 / deviation"""
    mean, inverse = floats(means, rows), floats(inverses, rows)
    gains, biases = floats(gain, n), floats(bias, n if bias else 0)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        mean[i], inverse[i] = normalise_row(row(x, i, n), row(y, i, n), gains, biases, centred, f32(eps))


@inner
def normalise_row_backward(g, x, gain, mean, inverse, dx, dgain, dbias, centred):
    """dx = (h - mean of h - z mean of h z) / deviation with h = g gain and z the normalised values; adds to dgain and dbias."""
    n = f32(x.size)
    mean_h, mean_hz = f32(0), f32(0)
    for j in range(x.size):
        z = (x[j] - mean) * inverse
        h = g[j] * gain[j]
        mean_h += h
        mean_hz += h * z
        dgain[j] += g[j] * z
        dbias[j] += g[j]
    mean_h = mean_h / n if centred else f32(0)
    mean_hz /= n
    for j in range(x.size):
        dx[j] = (g[j] * gain[j] - mean_h - (x[j] - mean) * inverse * mean_hz) * inverse


@task
def row_norm_backward(t, tasks, g, x, gain, means, inverses, dx, dgains, dbiases, rows, n, centred: bool):
    """g, x, dx (rows, n); dgains, dbiases (tasks, n): what each task adds up."""
    gains, mean, inverse = floats(gain, n), floats(means, rows), floats(inverses, rows)
    dgain, dbias = row(dgains, t, n), row(dbiases, t, n)
    dgain_part, dbias_part = np.empty(n, np.float32), np.empty(n, np.float32)
    for j in range(n):
        dgain[j], dbias[j] = f32(0), f32(0)
    last = part(t + 1, tasks, rows, 1)
    for first in range(part(t, tasks, rows, 1), last, ROWS_PER_SUM):
        for j in range(n):
            dgain_part[j], dbias_part[j] = f32(0), f32(0)  # a block's sums: float32 loses what is added to a large number
        for i in range(first, min(first + ROWS_PER_SUM, last)):
            normalise_row_backward(row(g, i, n), row(x, i, n), gains, mean[i], inverse[i], row(dx, i, n), dgain_part, dbias_part, centred)
        for j in range(n):
            dgain[j] += dgain_part[j]
            dbias[j] += dbias_part[j]


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
    """y (n,) = x / (1 - p) where the random number of the entry's position is at least p, else 0"""
    first, last = part(t, tasks, n, RUN_FLOATS), part(t + 1, tasks, n, RUN_FLOATS)
    x_part, y_part = span(x, first, last), span(y, first, last)
    threshold, scale = f32(p), f32(1) / f32(1 - p)
    for j in range(y_part.size):
        y_part[j] = x_part[j] * scale if uniform(seed, first + j) >= threshold else x_part[j] * f32(0)  # NaN stays NaN, as in the definition


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
