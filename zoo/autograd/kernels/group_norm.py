"""Kernels of group norm, over each image's groups of channels, with the SiLU that a residual block applies next.

x (images, ..., channels) is contiguous float32; as in batch norm, several pixels are taken as one wide row. Each image is the work
of one thread: its statistics are those of its columns, added up over pixels and over the channels of a group. The mean and
1 / deviation of each image's channels are saved for backward, which is that of batch norm with groups in place of channels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..operations.normalisation import group_norm
from ..runtime.compiling import inner
from ..runtime.native import floats, sigmoidf
from ..runtime.tasks import is_float32, part, row, row_address, task, tasks_for
from .arithmetic import ROWS_PER_SUM
from .batch_norm import add_gradient_sums, column_statistics, pixels_per_row

f32 = np.float32
WIDE_ROWS = 4  # of backward's scratch: mean, factor, and sums of d and d (x - mean)


class Sizes(NamedTuple):
    images: int
    rows: int  # wide rows of an image
    wide: int  # floats of a wide row
    channels: int
    groups: int
    silu: bool  # whether it follows


# --- between channels, groups and wide rows


@inner
def add_pixels(wide_row, total):
    """total (channels,) += each pixel of a wide row"""
    n = total.size
    for first in range(0, wide_row.size, n):
        pixel = wide_row[first : first + n]
        for j in range(n):
            total[j] += pixel[j]


@inner
def repeat(channels, wide_row):
    """A wide row whose pixels are all alike"""
    n = channels.size
    for first in range(0, wide_row.size, n):
        pixel = wide_row[first : first + n]
        for j in range(n):
            pixel[j] = channels[j]


@inner
def share_by_group(channels, groups, divisor):
    """Each channel gets its group's sum / divisor."""
    size = channels.size // groups
    for k in range(groups):
        total = f32(0)
        for j in range(k * size, (k + 1) * size):
            total += channels[j]
        for j in range(k * size, (k + 1) * size):
            channels[j] = total / divisor


# --- forward


@inner
def affine_row(x, y, mean, factor, bias):
    """y = (x - mean) factor + bias"""
    for j in range(x.size):
        y[j] = (x[j] - mean[j]) * factor[j] + bias[j]


@inner
def affine_silu_row(x, y, mean, factor, bias):
    for j in range(y.size):
        z = (x[j] - mean[j]) * factor[j] + bias[j]
        y[j] = z * sigmoidf(z)


@inner
def image_forward(x, y, gain, bias, means, inverses, mean, squares, factor, sizes, eps):
    """One image x, y (rows, wide); means, inverses (channels,) become those of each channel's group; all others (wide,), three scratch."""
    rows, wide, n, groups = sizes.rows, sizes.wide, sizes.channels, sizes.groups
    column_statistics(x, rows, wide, mean, squares)
    columns = f32(n // groups * (wide // n))  # of a group
    for j in range(n):
        means[j] = inverses[j] = f32(0)
    add_pixels(mean, means)
    share_by_group(means, groups, columns)
    for j in range(wide):
        factor[j] = mean[j]
    repeat(means, mean)
    for j in range(wide):  # from squares around the column's mean, in factor here, to squares around the group's
        squares[j] += f32(rows) * (factor[j] - mean[j]) * (factor[j] - mean[j])
    add_pixels(squares, inverses)
    share_by_group(inverses, groups, columns * f32(rows))
    for j in range(n):
        inverses[j] = f32(1) / math.sqrt(inverses[j] + eps)
    repeat(inverses, factor)
    for j in range(wide):
        factor[j] *= gain[j]
    for i in range(rows):
        if sizes.silu:
            affine_silu_row(row(x, i, wide), row(y, i, wide), mean, factor, bias)
        else:
            affine_row(row(x, i, wide), row(y, i, wide), mean, factor, bias)


@task
def group_norm_forward(t, tasks, x, gain, bias, y, means, inverses, sizes: Sizes, eps: float):
    """x, y (images, rows, wide), gain, bias (channels,); means, inverses (images, channels)"""
    rows, wide, n = sizes.rows, sizes.wide, sizes.channels
    mean, squares, factor = np.empty(wide, np.float32), np.empty(wide, np.float32), np.empty(wide, np.float32)
    gains, biases = np.empty(wide, np.float32), np.empty(wide, np.float32)
    repeat(floats(gain, n), gains)
    repeat(floats(bias, n), biases)
    for i in range(part(t, tasks, sizes.images, 1), part(t + 1, tasks, sizes.images, 1)):
        image_x, image_y = row_address(x, i, rows * wide), row_address(y, i, rows * wide)
        image_forward(image_x, image_y, gains, biases, row(means, i, n), row(inverses, i, n), mean, squares, factor, sizes, f32(eps))


# --- backward


@inner
def silu_row_backward(g, x, d, mean, factor, bias):
    """d = g times the derivative of silu, for which what went into it is computed once more"""
    for j in range(d.size):
        z = (x[j] - mean[j]) * factor[j] + bias[j]
        s = sigmoidf(z)
        d[j] = g[j] * (s + z * s * (f32(1) - s))


@inner
def affine_row_backward(d, x, dx, mean, factor, mean_h, slope):
    """dx = h - mean_h - (x - mean) slope with h = factor d"""
    for j in range(d.size):
        dx[j] = factor[j] * d[j] - mean_h[j] - (x[j] - mean[j]) * slope[j]


@inner
def affine_row_backward_in_place(dx, x, mean, factor, mean_h, slope):
    """The same where dx holds d: a loop of its own, because arrays that overlap aren't vectorised."""
    for j in range(dx.size):
        dx[j] = factor[j] * dx[j] - mean_h[j] - (x[j] - mean[j]) * slope[j]


@inner
def image_backward(g, x, gain, bias, means, inverses, dx, dgain, dbias, scratch, sizes):
    """One image g, x, dx (rows, wide); gain, bias (wide,); means, inverses, dgain, dbias (channels,); scratch (4 wide + 2 channels,)"""
    rows, wide, n, groups = sizes.rows, sizes.wide, sizes.channels, sizes.groups
    mean, factor = scratch[:wide], scratch[wide : 2 * wide]
    wide_d, wide_dx = scratch[2 * wide : 3 * wide], scratch[3 * wide : WIDE_ROWS * wide]  # sums of d and d (x - mean), later mean_h and slope
    sum_d, sum_dx = scratch[WIDE_ROWS * wide : WIDE_ROWS * wide + n], scratch[WIDE_ROWS * wide + n :]
    repeat(means, mean)
    repeat(inverses, factor)
    for j in range(wide):
        factor[j] *= gain[j]
    for j in range(n):
        sum_d[j] = sum_dx[j] = f32(0)
    for first in range(0, rows, ROWS_PER_SUM):
        for j in range(wide):
            wide_d[j] = wide_dx[j] = f32(0)
        for i in range(first, min(first + ROWS_PER_SUM, rows)):
            if sizes.silu:  # dx holds d meanwhile
                silu_row_backward(row(g, i, wide), row(x, i, wide), row(dx, i, wide), mean, factor, bias)
            add_gradient_sums(row(dx if sizes.silu else g, i, wide), row(x, i, wide), mean, wide_d, wide_dx)
        add_pixels(wide_d, sum_d)
        add_pixels(wide_dx, sum_dx)
    for j in range(n):
        dbias[j] += sum_d[j]
        dgain[j] += sum_dx[j] * inverses[j]
        sum_d[j] *= gain[j]
        sum_dx[j] *= gain[j]
    entries = f32(n // groups * (wide // n) * rows)  # of a group
    share_by_group(sum_d, groups, entries)
    share_by_group(sum_dx, groups, entries)
    for j in range(n):
        sum_d[j] *= inverses[j]
        sum_dx[j] *= inverses[j] * inverses[j] * inverses[j]
    repeat(sum_d, wide_d)
    repeat(sum_dx, wide_dx)
    for i in range(rows):
        if sizes.silu:
            affine_row_backward_in_place(row(dx, i, wide), row(x, i, wide), mean, factor, wide_d, wide_dx)
        else:
            affine_row_backward(row(g, i, wide), row(x, i, wide), row(dx, i, wide), mean, factor, wide_d, wide_dx)


@task
def group_norm_backward(t, tasks, g, x, gain, bias, means, inverses, dx, dgains, dbiases, sizes: Sizes):
    """g, x, dx (images, rows, wide), gain, bias (channels,), means, inverses (images, channels); dgains, dbiases (tasks, channels)"""
    rows, wide, n = sizes.rows, sizes.wide, sizes.channels
    scratch, dgain, dbias = np.empty(WIDE_ROWS * wide + 2 * n, np.float32), row(dgains, t, n), row(dbiases, t, n)
    gains, biases = np.empty(wide, np.float32), np.empty(wide, np.float32)
    repeat(floats(gain, n), gains)
    repeat(floats(bias, n), biases)
    for j in range(n):
        dgain[j], dbias[j] = f32(0), f32(0)
    for i in range(part(t, tasks, sizes.images, 1), part(t + 1, tasks, sizes.images, 1)):
        image = rows * wide
        image_backward(row_address(g, i, image), row_address(x, i, image), gains, biases, row(means, i, n), row(inverses, i, n),
                       row_address(dx, i, image), dgain, dbias, scratch, sizes)  # fmt: skip


@group_norm.forward
def _(x, gain, bias, *, groups, eps, activation):
    if not is_float32(x, gain, bias) or activation not in (None, "silu") or x.ndim < 2:
        return NotImplemented
    images, n = x.shape[0], x.shape[-1]
    space = x.size // (images * n)
    pixels = pixels_per_row(space, n)
    y = np.empty(x.shape, f32)
    means, inverses = np.empty((2, images, n), f32)
    sizes = Sizes(images, space // pixels, pixels * n, n, groups, activation == "silu")
    group_norm_forward(x, gain, bias, y, means, inverses, sizes, float(eps), tasks=min(images, tasks_for(x.size)))
    return y, (means, inverses, sizes)


@group_norm.backward
def _(g, _y, saved, x, gain, bias, *, needs, groups, eps, activation):
    means, inverses, sizes = saved
    dx = np.empty(x.shape, f32)
    tasks = min(x.shape[0], tasks_for(x.size))
    dgains, dbiases = np.empty((2, tasks, x.shape[-1]), f32)
    group_norm_backward(g, x, gain, bias, means, inverses, dx, dgains, dbiases, sizes, tasks=tasks)
    return dx, dgains.sum(0), dbiases.sum(0)
