"""Kernels of the norms and of dropout.

The statistics of a row, or of a few rows, are taken while it lies in the nearest cache: first the mean, then the squares around
it, as the definition does. What is kept for the way back is two numbers a row, group or channel; the normal values are made anew.
"""

from __future__ import annotations

import math

import numpy as np

from ..operations.normalisation import batch_norm, batch_statistics, dropout, group_norm, layer_norm, rms_norm
from ..runtime.compiling import inner, sigmoidf, uniform
from ..runtime.tasks import floats, is_float32, part, task, tasks_for
from .activation import LEAKY_SLOPE

f32 = np.float32
NEAR = 1 << 13  # floats that the nearest cache holds, with room for others
TOGETHER = 16  # wide rows whose sums are added up on their own, so that rounding doesn't pile up


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


# --- over each image's groups of channels


@inner
def affine_silu_row(x, y, mean, factor, bias):
    for j in range(y.size):
        z = (x[j] - mean[j]) * factor[j] + bias[j]
        y[j] = z * sigmoidf(z)


@inner
def silu_row_backward(g, x, d, mean, factor, bias):
    """d = g times the derivative of silu at the normal values, which are made once more"""
    for j in range(d.size):
        z = (x[j] - mean[j]) * factor[j] + bias[j]
        s = sigmoidf(z)
        d[j] = g[j] * (s + z * s * (f32(1) - s))


@inner
def fold(row, total):
    """total += each pixel of a wide row"""
    n = total.size
    for pixel in range(0, row.size, n):
        part = row[pixel : pixel + n]
        for j in range(n):
            total[j] += part[j]


@inner
def share_group(values, groups, divisor):
    """Each channel gets its group's sum / divisor."""
    size = values.size // groups
    for k in range(groups):
        total = f32(0)
        for j in range(k * size, (k + 1) * size):
            total += values[j]
        for j in range(k * size, (k + 1) * size):
            values[j] = total / divisor


@inner
def repeat(channels, row):
    """A wide row whose pixels are all alike"""
    n = channels.size
    for pixel in range(0, row.size, n):
        part = row[pixel : pixel + n]
        for j in range(n):
            part[j] = channels[j]


@inner
def group_image(x, y, gain, bias, means, inverses, mean, spread, factor, rows, wide, n, groups, eps, with_silu):
    """One image of `rows` wide rows; leaves mean and 1 / deviation of each channel's group."""
    column_statistics(x, rows, wide, mean, spread)
    columns = f32(n // groups * (wide // n))
    for j in range(n):
        means[j] = inverses[j] = f32(0)
    fold(mean, means)
    share_group(means, groups, columns)
    for j in range(wide):
        factor[j] = mean[j]
    repeat(means, mean)
    for j in range(wide):
        spread[j] += f32(rows) * (factor[j] - mean[j]) * (factor[j] - mean[j])
    fold(spread, inverses)
    share_group(inverses, groups, columns * f32(rows))
    for j in range(n):
        inverses[j] = f32(1) / math.sqrt(inverses[j] + eps)
    repeat(inverses, factor)
    for j in range(wide):
        factor[j] *= gain[j]
    for i in range(rows):
        source, target = floats(x + 4 * i * wide, wide), floats(y + 4 * i * wide, wide)
        if with_silu:
            affine_silu_row(source, target, mean, factor, bias)
        else:
            affine_row(source, target, mean, factor, bias)


@task
def group_norm_forward(t, tasks, x, gain, bias, y, means, inverses, images, rows, wide, n, groups, with_silu, eps: float):
    """x, y (images, rows, wide); means, inverses (images, n)"""
    mean, spread, factor = np.empty(wide, np.float32), np.empty(wide, np.float32), np.empty(wide, np.float32)
    gains, biases = np.empty(wide, np.float32), np.empty(wide, np.float32)
    repeat(floats(gain, n), gains)
    repeat(floats(bias, n), biases)
    for i in range(part(t, tasks, images, 1), part(t + 1, tasks, images, 1)):
        at, kept = 4 * i * rows * wide, 4 * i * n
        group_image(
            x + at, y + at, gains, biases, floats(means + kept, n), floats(inverses + kept, n),
            mean, spread, factor, rows, wide, n, groups, f32(eps), with_silu,
        )  # fmt: skip


@inner
def group_image_backward(g, x, gain, bias, means, inverses, dx, dgain, dbias, work, rows, wide, n, groups, with_silu):
    """One image; work (4 wide + 2 n) is scratch."""
    mean, factor, level, slope = work[:wide], work[wide : 2 * wide], work[2 * wide : 3 * wide], work[3 * wide : 4 * wide]
    levels, slopes = work[4 * wide : 4 * wide + n], work[4 * wide + n :]
    repeat(means, mean)
    repeat(inverses, factor)
    for j in range(wide):
        factor[j] *= gain[j]
    for j in range(n):
        levels[j] = slopes[j] = f32(0)
    for first in range(0, rows, 64):  # so that rounding doesn't pile up
        for j in range(wide):
            level[j] = slope[j] = f32(0)
        for i in range(first, min(first + 64, rows)):
            at = 4 * i * wide
            if with_silu:  # dx holds the gradient of what went into silu
                silu_row_backward(floats(g + at, wide), floats(x + at, wide), floats(dx + at, wide), mean, factor, bias)
            sums_row(floats((dx if with_silu else g) + at, wide), floats(x + at, wide), mean, level, slope)
        fold(level, levels)
        fold(slope, slopes)
    for j in range(n):
        dbias[j] += levels[j]
        dgain[j] += slopes[j] * inverses[j]
        levels[j] *= gain[j]
        slopes[j] *= gain[j]
    entries = f32(n // groups * (wide // n) * rows)
    share_group(levels, groups, entries)
    share_group(slopes, groups, entries)
    for j in range(n):
        levels[j] *= inverses[j]
        slopes[j] *= inverses[j] * inverses[j] * inverses[j]
    repeat(levels, level)
    repeat(slopes, slope)
    for i in range(rows):
        at = 4 * i * wide
        back_row(floats(g + at, wide), floats(x + at, wide), floats(dx + at, wide), mean, factor, level, slope, with_silu)


@inner
def back_row(g, x, dx, mean, factor, level, slope, in_place):
    if in_place:  # g is dx: told apart, because arrays that overlap aren't vectorised
        for j in range(dx.size):
            dx[j] = factor[j] * dx[j] - level[j] - (x[j] - mean[j]) * slope[j]
    else:
        affine_row_backward(g, x, dx, mean, factor, level, slope)


@task
def group_norm_backward(t, tasks, g, x, gain, bias, means, inverses, dx, dgains, dbiases, images, rows, wide, n, groups, with_silu):
    """dgains, dbiases (tasks, n): what each task adds up."""
    work, dgain, dbias = np.empty(4 * wide + 2 * n, np.float32), floats(dgains + 4 * t * n, n), floats(dbiases + 4 * t * n, n)
    gains, biases = np.empty(wide, np.float32), np.empty(wide, np.float32)
    repeat(floats(gain, n), gains)
    repeat(floats(bias, n), biases)
    for j in range(n):
        dgain[j], dbias[j] = f32(0), f32(0)
    for i in range(part(t, tasks, images, 1), part(t + 1, tasks, images, 1)):
        at, kept = 4 * i * rows * wide, 4 * i * n
        group_image_backward(
            g + at, x + at, gains, biases, floats(means + kept, n), floats(inverses + kept, n),
            dx + at, dgain, dbias, work, rows, wide, n, groups, with_silu,
        )  # fmt: skip


@group_norm.forward
def _(x, gain, bias, *, groups, eps, activation):
    if not is_float32(x, gain, bias) or activation not in (None, "silu") or x.ndim < 2:
        return NotImplemented
    images, n = x.shape[0], x.shape[-1]
    space = x.size // (images * n)
    pixels = _pixels(space, n)
    y = np.empty(x.shape, f32)
    means, inverses = np.empty((2, images, n), f32)
    sizes = (images, space // pixels, pixels * n, n, groups, activation == "silu")
    group_norm_forward(x, gain, bias, y, means, inverses, *sizes, float(eps), tasks=min(images, tasks_for(x.size)))
    return y, (means, inverses, sizes)


@group_norm.backward
def _(g, _y, saved, x, gain, bias, *, needs, groups, eps, activation):
    means, inverses, sizes = saved
    dx = np.empty(x.shape, f32)
    tasks = min(x.shape[0], tasks_for(x.size))
    dgains, dbiases = np.empty((2, tasks, x.shape[-1]), f32)
    group_norm_backward(g, x, gain, bias, means, inverses, dx, dgains, dbiases, *sizes, tasks=tasks)
    return dx, dgains.sum(0), dbiases.sum(0)


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
