"""Kernels of `blocks`: Winograd's convolution adds while it writes, and the sums of its gradient come from tiles that it makes anyway."""

from __future__ import annotations

import numpy as np

from ..operations.blocks import join_upsampled, residual_conv2d
from ..operations.convolution import pair
from ..runtime.native import copy_floats, floats
from ..runtime.tasks import at, is_float32, part, row_address, task, tasks_for
from .arithmetic import add_to
from .convolution import _by_winograd
from .winograd import unit_stride as winograd

f32 = np.float32


@residual_conv2d.forward
def _(x, weight, bias, residual, *, padding):
    if not is_float32(x, weight, residual) or not (bias is None or is_float32(bias)):
        return NotImplemented
    n, out = len(x), weight.shape[3]
    if not _by_winograd(x.shape, weight.shape, (1, 1), pair(padding, "padding")):
        return NotImplemented
    if residual.shape == (*x.shape[:3], out):
        return winograd.forward(x, weight, bias, residual), ()
    if residual.shape == (n, 1, 1, out):
        shift = residual.reshape(n, out)
        return winograd.forward(x, weight, shift if bias is None else shift + bias), ()
    return NotImplemented


@residual_conv2d.backward
def _(g, _y, _saved, x, weight, bias, residual, *, needs, padding):
    dx = winograd.input_gradient(g, weight) if needs[0] else None
    dweight, sums = winograd.weight_gradient_and_sums(x, g)
    return dx, dweight, sums.sum(0), g if residual.shape == g.shape else sums.reshape(residual.shape)


@task
def join_rows(t, tasks, x, skip, y, rows, width, a, b, scale):
    """y (rows, scale, width, scale, a + b) = [x (rows, width, a) repeated, skip (rows, scale, width, scale, b)]"""
    for row in range(part(t, tasks, rows * scale, 1), part(t + 1, tasks, rows * scale, 1)):
        for j in range(width * scale):
            pixel = row * width * scale + j
            target = row_address(y, pixel, a + b)
            copy_floats(target, row_address(x, row // scale * width + j // scale, a), a)
            copy_floats(at(target, a), row_address(skip, pixel, b), b)


@task
def join_rows_backward(t, tasks, g, dx, dskip, rows, width, a, b, scale):
    """dx = the sums of g over each repeated pixel, dskip = the rest of g"""
    for row in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        for j in range(width):
            total = row_address(dx, row * width + j, a)
            for p in range(scale * scale):
                pixel = ((row * scale + p // scale) * width + j) * scale + p % scale
                source = row_address(g, pixel, a + b)
                if p == 0:
                    copy_floats(total, source, a)
                else:
                    add_to(floats(total, a), floats(source, a))
                copy_floats(row_address(dskip, pixel, b), at(source, a), b)


@join_upsampled.forward
def _(x, skip, *, scale):
    if not is_float32(x, skip) or type(scale) is not int:
        return NotImplemented
    n, h, w, a = x.shape
    b = skip.shape[3]
    y = np.empty((n, h * scale, w * scale, a + b), f32)
    join_rows(x, skip, y, n * h, w, a, b, scale, tasks=tasks_for(y.size))
    return y, ()


@join_upsampled.backward
def _(g, _y, _saved, x, skip, *, needs, scale):
    n, h, w, a = x.shape
    dx, dskip = np.empty(x.shape, f32), np.empty(skip.shape, f32)
    join_rows_backward(g, dx, dskip, n * h, w, a, skip.shape[3], scale, tasks=tasks_for(g.size))
    return dx, dskip
