"""Kernels of batch norm.

The statistics of a row, or of a few rows, are taken while it lies in the nearest cache: first the mean, then the squares around
it, as the definition does. What is kept for the way back is two numbers a row, group or channel; the normal values are made anew.
"""

from __future__ import annotations

import numpy as np

from ..operations.normalisation import batch_norm, batch_statistics
from ..runtime.compiling import inner
from ..runtime.tasks import floats, is_float32, part, task, tasks_for
from .activation import LEAKY_SLOPE

f32 = np.float32
NEAR = 1 << 13  # floats that the nearest cache holds, with room for others
TOGETHER = 16  # wide rows whose sums are added up on their own, so that rounding doesn't pile up


# --- over everything but the channels

# A row of few channels is too short for a loop to run fast, so several pixels make one wide row, as if they were more channels:
# what belongs to channel j % n is there for each channel j of a wide row.
WIDE = 512  # floats of a wide row, at most


def _pixels(space: int, n: int) -> int:
    """How many pixels make a wide row: a divisor of the space."""
    return max(r for r in range(1, max(1, min(space, WIDE // n)) + 1) if space % r == 0)


def _wide_rows(x: np.ndarray) -> tuple[int, int, int, int]:
    """How many pixels of x make a wide row, how many such rows there are and how wide they are, and how many tasks share them."""
    n = x.shape[-1]
    pixels = _pixels(x.size // n, n)
    rows = x.size // (n * pixels)
    return pixels, rows, n * pixels, min(tasks_for(x.size), -(-rows // TOGETHER))


def _repeated(pixels: int, *channels: np.ndarray) -> list[np.ndarray]:
    return [np.concatenate([a] * pixels) for a in channels]


@inner
def add_block(block, rows, n, mean, spread):
    """mean = the mean and spread = the squares around it of the rows of a block, column by column."""
    for j in range(n):
        mean[j], spread[j] = f32(0), f32(0)
    for i in range(rows):
        row = floats(block + 4 * i * n, n)
        for j in range(n):
            mean[j] += row[j]
    for j in range(n):
        mean[j] /= f32(rows)
    for i in range(rows):
        row = floats(block + 4 * i * n, n)
        for j in range(n):
            spread[j] += (row[j] - mean[j]) * (row[j] - mean[j])


@inner
def column_statistics(x, rows, n, means, spreads):
    """Mean and sum of squares around it of n columns, put together from blocks that the nearest cache holds (Chan et al. 1979)."""
    mean, spread = np.empty(n, np.float32), np.empty(n, np.float32)
    block = max(1, min(64, NEAR // n))
    for first in range(0, rows, block):
        count = min(block, rows - first)
        add_block(x + 4 * first * n, count, n, mean, spread)
        share = f32(count) / f32(first + count)
        weight = f32(first) * share
        for j in range(n):
            before = f32(0) if first == 0 else means[j]
            squares = f32(0) if first == 0 else spreads[j]
            d = mean[j] - before
            means[j] = before + d * share
            spreads[j] = squares + spread[j] + d * d * weight


@inner
def sums_row(g, x, mean, level, slope):
    """level += g, slope += g (x - mean)"""
    for j in range(g.size):
        level[j] += g[j]
        slope[j] += g[j] * (x[j] - mean[j])


@inner
def affine_row(x, y, mean, factor, bias):
    for j in range(x.size):
        y[j] = (x[j] - mean[j]) * factor[j] + bias[j]


@inner
def affine_row_backward(g, x, dx, mean, factor, level, slope):
    for j in range(g.size):
        dx[j] = factor[j] * g[j] - level[j] - (x[j] - mean[j]) * slope[j]


@task
def batch_statistics_of_part(t, tasks, x, means, spreads, rows, n):
    """means, spreads (tasks, n) of each task's rows"""
    first = part(t, tasks, rows, TOGETHER)
    count = part(t + 1, tasks, rows, TOGETHER) - first
    column_statistics(x + 4 * first * n, count, n, floats(means + 4 * t * n, n), floats(spreads + 4 * t * n, n))


# What follows the norm multiplies negative values by `leak`: 0 for relu, 0.2 for leaky_relu, 1 for no activation.
LEAKS = {None: 1.0, "relu": 0.0, "leaky_relu": LEAKY_SLOPE}


@inner
def rectified_row(x, y, mean, factor, bias, leak):
    """y = (x - mean) factor + bias, and its activation"""
    for j in range(y.size):
        z = (x[j] - mean[j]) * factor[j] + bias[j]
        y[j] = z * leak if z <= f32(0) else z


@inner
def rectified_gradients(g, x, d, mean, factor, bias, leak):
    """d = g times the activation's derivative at the normal values, which are made once more"""
    for j in range(d.size):
        d[j] = g[j] if (x[j] - mean[j]) * factor[j] + bias[j] > f32(0) else g[j] * leak


@inner
def rectified_row_backward(g, x, dx, mean, factor, bias, level, slope, leak):
    """dx = factor d - level - (x - mean) slope, with d as above"""
    for j in range(dx.size):
        centred = x[j] - mean[j]
        d = g[j] if centred * factor[j] + bias[j] > f32(0) else g[j] * leak
        dx[j] = factor[j] * d - level[j] - centred * slope[j]


@task
def batch_sums_of_part(t, tasks, g, x, mean, factor, bias, levels, slopes, rows, n, leak: float):
    """levels, slopes (tasks, n): what each task's rows add up to"""
    means, factors, biases = floats(mean, n), floats(factor, n), floats(bias, n)
    total_level, total_slope = floats(levels + 4 * t * n, n), floats(slopes + 4 * t * n, n)
    level, slope, gradient = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    for j in range(n):
        total_level[j], total_slope[j] = f32(0), f32(0)
    last = part(t + 1, tasks, rows, TOGETHER)
    for first in range(part(t, tasks, rows, TOGETHER), last, TOGETHER):
        for j in range(n):
            level[j], slope[j] = f32(0), f32(0)
        for i in range(first, min(first + TOGETHER, last)):
            row = floats(x + 4 * i * n, n)
            rectified_gradients(floats(g + 4 * i * n, n), row, gradient, means, factors, biases, f32(leak))
            sums_row(gradient, row, means, level, slope)
        for j in range(n):
            total_level[j] += level[j]
            total_slope[j] += slope[j]


@task
def batch_norm_forward(t, tasks, x, y, mean, factor, bias, rows, n, leak: float):
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        at = 4 * i * n
        rectified_row(floats(x + at, n), floats(y + at, n), floats(mean, n), floats(factor, n), floats(bias, n), f32(leak))


@task
def batch_norm_backward(t, tasks, g, x, dx, mean, factor, bias, level, slope, rows, n, leak: float):
    means, factors, biases, levels, slopes = floats(mean, n), floats(factor, n), floats(bias, n), floats(level, n), floats(slope, n)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        at = 4 * i * n
        rectified_row_backward(floats(g + at, n), floats(x + at, n), floats(dx + at, n), means, factors, biases, levels, slopes, f32(leak))


def batch_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel of a contiguous x, in float64."""
    pixels, rows, wide, tasks = _wide_rows(x)
    means, spreads = np.empty((2, tasks, wide), f32)
    batch_statistics_of_part(x, means, spreads, rows, wide, tasks=tasks)
    blocks = -(-rows // TOGETHER)
    counts = np.diff([min(rows, blocks * t // tasks * TOGETHER) for t in range(tasks + 1)])  # as `part` cuts them
    counts = np.repeat(counts, pixels)[:, None]
    means, spreads = means.reshape(len(counts), -1), spreads.reshape(len(counts), -1)
    mean = (means * counts).sum(0, np.float64) / counts.sum()
    return mean, (spreads + counts * (means - mean) ** 2).sum(0, np.float64) / counts.sum()


@batch_statistics.forward
def _(x):
    if not is_float32(x) or not x.size or not x.flags.c_contiguous:
        return NotImplemented
    mean, variance = batch_moments(x)
    return mean.astype(f32), variance.astype(f32)


@batch_norm.forward
def _(x, gain, bias, *, eps, activation, moments):
    if not is_float32(x, gain, bias):
        return NotImplemented
    mean, variance = moments or batch_moments(x)
    inverse = (1 / np.sqrt(variance + eps)).astype(f32)
    mean = mean.astype(f32)
    y = np.empty(x.shape, f32)
    pixels, rows, wide, tasks = _wide_rows(x)
    batch_norm_forward(x, y, *_repeated(pixels, mean, gain * inverse, bias), rows, wide, LEAKS[activation], tasks=tasks)
    return y, (mean, inverse)


@batch_norm.backward
def _(g, _y, saved, x, gain, bias, *, needs, eps, activation, moments):
    mean, inverse = saved
    factor, leak = gain * inverse, LEAKS[activation]
    n = x.shape[-1]
    pixels, rows, wide, tasks = _wide_rows(x)
    repeated = _repeated(pixels, mean, factor, bias)
    levels, slopes = np.empty((2, tasks, wide), f32)
    batch_sums_of_part(g, x, *repeated, levels, slopes, rows, wide, leak, tasks=tasks)
    dbias, dgain = levels.reshape(-1, n).sum(0), slopes.reshape(-1, n).sum(0) * inverse
    dx = None
    if needs[0]:
        dx = np.empty(x.shape, f32)
        share = factor / f32(rows * pixels)
        batch_norm_backward(g, x, dx, *repeated, *_repeated(pixels, share * dbias, share * inverse * dgain), rows, wide, leak, tasks=tasks)
    return dx, dgain, dbias
