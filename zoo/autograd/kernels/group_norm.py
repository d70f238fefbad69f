"""Kernels of group norm.

The statistics of a row, or of a few rows, are taken while it lies in the nearest cache: first the mean, then the squares around
it, as the definition does. What is kept for the way back is two numbers a row, group or channel; the normal values are made anew.
"""

from __future__ import annotations

import math

import numpy as np

from ..operations.normalisation import group_norm
from ..runtime.compiling import inner, sigmoidf
from ..runtime.tasks import floats, is_float32, part, task, tasks_for
from .batch_norm import _pixels, affine_row, affine_row_backward, column_statistics, sums_row

f32 = np.float32


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
