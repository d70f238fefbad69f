"""Kernels of batch norm, over all axes but the channels, with the activation that a convolutional network applies next.

x (batch, ..., channels) is contiguous float32. A row of few channels is too short for a loop to run fast, so several pixels are taken
as one wide row, as if they were more channels: what belongs to channel j % channels is there for each column j of a wide row.

With factor = gain / deviation, y = (x - mean) factor + bias. Its backward (Ioffe & Szegedy 2015, section 3), with d the gradient of
y and h = factor d: y doesn't change if a channel is shifted or scaled, so from h its mean and its regression on x are taken out,
dx = h - mean of h - (x - mean) slope, slope = mean of h (x - mean) / variance.
"""

from __future__ import annotations

import numpy as np

from ..operations.normalisation import batch_norm, batch_statistics
from ..runtime.compiling import inner
from ..runtime.native import floats
from ..runtime.tasks import L1_FLOATS, is_float32, part, row, row_address, task, tasks_for
from .activation import LEAKY_SLOPE

f32 = np.float32
WIDE_ROW_FLOATS = 512  # at most, of several pixels together
WIDE_ROWS_PER_SUM = 16  # wide rows are added up by so many, then those sums: float32 would lose what is added to a large sum
MAX_BLOCK_ROWS = 64  # of those whose mean is taken together


# --- wide rows


def pixels_per_row(space: int, channels: int) -> int:
    """How many of an image's `space` pixels make a wide row: a divisor, so that no row crosses into the next image."""
    return max(r for r in range(1, max(1, min(space, WIDE_ROW_FLOATS // channels)) + 1) if space % r == 0)


def _wide_rows(x: np.ndarray) -> tuple[int, int, int, int]:
    """How many pixels of x make a wide row, how many such rows there are and how wide they are, and how many tasks share them."""
    n = x.shape[-1]
    pixels = pixels_per_row(x.size // n, n)
    rows = x.size // (n * pixels)
    return pixels, rows, n * pixels, min(tasks_for(x.size), -(-rows // WIDE_ROWS_PER_SUM))


def _repeated(pixels: int, *channels: np.ndarray) -> list[np.ndarray]:
    """Numbers of each channel as wide rows."""
    return [np.concatenate([a] * pixels) for a in channels]


# --- statistics of columns


@inner
def block_statistics(x, rows, n, mean, squares):
    """Of each column of x (rows, n), the mean and the sum of squares around it."""
    for j in range(n):
        mean[j], squares[j] = f32(0), f32(0)
    for i in range(rows):
        x_row = row(x, i, n)
        for j in range(n):
            mean[j] += x_row[j]
    for j in range(n):
        mean[j] /= f32(rows)
    for i in range(rows):
        x_row = row(x, i, n)
        for j in range(n):
            squares[j] += (x_row[j] - mean[j]) * (x_row[j] - mean[j])


@inner
def column_statistics(x, rows, n, means, squares):
    """The same, put together from blocks that the nearest cache holds (Chan et al. 1979, eq. 2.1).

    Of two sets of m and k numbers with means a and b: mean = a + (b - a) k / (m + k), squares = both + (b - a)^2 m k / (m + k).
    """
    block_mean, block_squares = np.empty(n, np.float32), np.empty(n, np.float32)
    block = max(1, min(MAX_BLOCK_ROWS, L1_FLOATS // n))
    for first in range(0, rows, block):
        count = min(block, rows - first)
        block_statistics(row_address(x, first, n), count, n, block_mean, block_squares)
        share = f32(count) / f32(first + count)
        weight = f32(first) * share
        for j in range(n):
            mean_before = f32(0) if first == 0 else means[j]
            squares_before = f32(0) if first == 0 else squares[j]
            d = block_mean[j] - mean_before
            means[j] = mean_before + d * share
            squares[j] = squares_before + block_squares[j] + d * d * weight


@task
def batch_statistics_of_part(t, tasks, x, means, squares, rows, n):
    """x (rows, n); means, squares (tasks, n) of each task's rows"""
    first, last = part(t, tasks, rows, WIDE_ROWS_PER_SUM), part(t + 1, tasks, rows, WIDE_ROWS_PER_SUM)
    column_statistics(row_address(x, first, n), last - first, n, row(means, t, n), row(squares, t, n))


def batch_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel of a contiguous x, in float64."""
    pixels, rows, wide, tasks = _wide_rows(x)
    means, squares = np.empty((2, tasks, wide), f32)
    batch_statistics_of_part(x, means, squares, rows, wide, tasks=tasks)
    blocks = -(-rows // WIDE_ROWS_PER_SUM)
    counts = np.diff([min(rows, blocks * t // tasks * WIDE_ROWS_PER_SUM) for t in range(tasks + 1)])  # as `part` cuts them
    counts = np.repeat(counts, pixels)[:, None]
    means, squares = means.reshape(len(counts), -1), squares.reshape(len(counts), -1)
    mean = (means * counts).sum(0, np.float64) / counts.sum()
    return mean, (squares + counts * (means - mean) ** 2).sum(0, np.float64) / counts.sum()


@batch_statistics.forward
def _(x):
    if not is_float32(x) or not x.ndim or not x.size or not x.flags.c_contiguous:
        return NotImplemented
    mean, variance = batch_moments(x)
    return mean.astype(f32), variance.astype(f32)


# --- the norm and what follows it, which multiplies negative values by `leak`

LEAKS = {None: 1.0, "relu": 0.0, "leaky_relu": LEAKY_SLOPE}


@inner
def rectified_row(x, y, mean, factor, bias, leak):
    """y = (x - mean) factor + bias, and its activation"""
    for j in range(y.size):
        z = (x[j] - mean[j]) * factor[j] + bias[j]
        y[j] = z * leak if z <= f32(0) else z


@task
def batch_norm_forward(t, tasks, x, y, mean, factor, bias, rows, n, leak: float):
    """x, y (rows, n); mean, factor, bias (n,)"""
    means, factors, biases = floats(mean, n), floats(factor, n), floats(bias, n)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        rectified_row(row(x, i, n), row(y, i, n), means, factors, biases, f32(leak))


@inner
def rectified_gradient(g, x, d, mean, factor, bias, leak):
    """d = g times the activation's derivative, for which what went into it is computed once more"""
    for j in range(d.size):
        d[j] = g[j] if (x[j] - mean[j]) * factor[j] + bias[j] > f32(0) else g[j] * leak


@inner
def add_gradient_sums(d, x, mean, sum_d, sum_dx):
    """sum_d += d, sum_dx += d (x - mean)"""
    for j in range(d.size):
        sum_d[j] += d[j]
        sum_dx[j] += d[j] * (x[j] - mean[j])


@task
def batch_gradient_sums(t, tasks, g, x, mean, factor, bias, sums_d, sums_dx, rows, n, leak: float):
    """g, x (rows, n); sums_d, sums_dx (tasks, n): what d and d (x - mean) of each task's rows add up to"""
    means, factors, biases = floats(mean, n), floats(factor, n), floats(bias, n)
    total_d, total_dx = row(sums_d, t, n), row(sums_dx, t, n)
    sum_d, sum_dx, d = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    for j in range(n):
        total_d[j], total_dx[j] = f32(0), f32(0)
    last = part(t + 1, tasks, rows, WIDE_ROWS_PER_SUM)
    for first in range(part(t, tasks, rows, WIDE_ROWS_PER_SUM), last, WIDE_ROWS_PER_SUM):
        for j in range(n):
            sum_d[j], sum_dx[j] = f32(0), f32(0)
        for i in range(first, min(first + WIDE_ROWS_PER_SUM, last)):
            rectified_gradient(row(g, i, n), row(x, i, n), d, means, factors, biases, f32(leak))
            add_gradient_sums(d, row(x, i, n), means, sum_d, sum_dx)
        for j in range(n):
            total_d[j] += sum_d[j]
            total_dx[j] += sum_dx[j]


@inner
def rectified_row_backward(g, x, dx, mean, factor, bias, mean_h, slope, leak):
    """dx = h - mean_h - (x - mean) slope with h = factor d, d as above"""
    for j in range(dx.size):
        centred = x[j] - mean[j]
        d = g[j] if centred * factor[j] + bias[j] > f32(0) else g[j] * leak
        dx[j] = factor[j] * d - mean_h[j] - centred * slope[j]


@task
def batch_norm_backward(t, tasks, g, x, dx, mean, factor, bias, mean_h, slope, rows, n, leak: float):
    """g, x, dx (rows, n); all others (n,)"""
    means, factors, biases, means_h, slopes = floats(mean, n), floats(factor, n), floats(bias, n), floats(mean_h, n), floats(slope, n)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        rectified_row_backward(row(g, i, n), row(x, i, n), row(dx, i, n), means, factors, biases, means_h, slopes, f32(leak))


@batch_norm.forward
def _(x, gain, bias, *, eps, activation, moments):
    if not is_float32(x, gain, bias) or (moments is not None and any(np.shape(a) != x.shape[-1:] for a in moments)):
        return NotImplemented
    mean, variance = batch_moments(x) if moments is None else map(np.asarray, moments)
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
    wide_channels = _repeated(pixels, mean, factor, bias)
    sums_d, sums_dx = np.empty((2, tasks, wide), f32)
    batch_gradient_sums(g, x, *wide_channels, sums_d, sums_dx, rows, wide, leak, tasks=tasks)
    dbias, dgain = sums_d.reshape(-1, n).sum(0), sums_dx.reshape(-1, n).sum(0) * inverse
    dx = None
    if needs[0]:
        dx = np.empty(x.shape, f32)
        share = factor / f32(rows * pixels)
        mean_h, slope = _repeated(pixels, share * dbias, share * inverse * dgain)
        batch_norm_backward(g, x, dx, *wide_channels, mean_h, slope, rows, wide, leak, tasks=tasks)
    return dx, dgain, dbias
