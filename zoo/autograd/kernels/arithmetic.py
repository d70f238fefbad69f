"""Kernels of large sums: a + b, and what undoes its broadcasting, the sum over neighbouring axes.

NumPy does these on one thread, and its sum over all axes but the last (the gradient of a bias) at a fifth of the memory's speed.
An array is seen as (outer, rows, inner), where `rows` are the axes that are broadcast or summed.
"""

from __future__ import annotations

import math

import numpy as np

from ..operations import arithmetic as operations
from ..runtime.compiling import address, copy_floats, get_threads, inner, keep_alive
from ..runtime.tasks import floats, is_float32, part, task, tasks_for

f32 = np.float32
LEAST = 1 << 17  # entries below which NumPy is as fast, for a kernel's call takes 10 us
WIDE = 1024  # entries of rows that are taken as one
NARROW = 8  # below so many neighbours in a row, no register is filled


@inner
def add_to(total, more):
    for j in range(total.size):
        total[j] += more[j]


@inner
def column_sums(g, n, m, out, left, width):
    """Sums of `width` columns of g (n, m), 64 rows at a time so that rounding doesn't pile up."""
    partial, total = np.empty(width, np.float32), floats(out + 4 * left, width)
    for j in range(width):
        total[j] = f32(0)
    for first in range(0, n, 64):
        for j in range(width):
            partial[j] = f32(0)
        for i in range(first, min(first + 64, n)):
            add_to(partial, floats(g + 4 * (i * m + left), width))
        add_to(total, partial)


@task
def add_entries(t, tasks, a, b, y, n):
    """y = a + b; y may be a."""
    first, count = part(t, tasks, n, 16), part(t + 1, tasks, n, 16) - part(t, tasks, n, 16)
    x, z, total = floats(a + 4 * first, count), floats(b + 4 * first, count), floats(y + 4 * first, count)
    for i in range(count):
        total[i] = x[i] + z[i]


@inner
def joined_rows(rows, width):
    """How many rows of a contiguous array are taken as one: a loop over few entries costs more to enter than to run."""
    return max(1, min(rows, WIDE // width))


@task
def add_rows(t, tasks, a, b, y, outer, rows, width):
    """y[o, r] = a[o, r] + b[o]: a, y (outer, rows, width), b (outer, width)"""
    joined = joined_rows(rows, width)
    repeated = np.empty(joined * width, np.float32)
    first, last = part(t, tasks, outer * rows, 1), part(t + 1, tasks, outer * rows, 1)
    made = -1  # which row of b is repeated
    while first < last:
        o = first // rows
        count = min(last - first, (o + 1) * rows - first, joined)
        if o != made:
            for j in range(joined):
                copy_floats(address(repeated) + 4 * j * width, b + 4 * o * width, width)
            made = o
        x, total = floats(a + 4 * first * width, count * width), floats(y + 4 * first * width, count * width)
        for j in range(total.size):
            total[j] = x[j] + repeated[j]
        first += count
    keep_alive(repeated)


@task
def sum_rows(t, tasks, x, y, outer, rows, width, shares):
    """y[s, o] = the sum over share s of the rows of x[o]: x (outer, rows, width), y (shares, outer, width)"""
    for unit in range(part(t, tasks, outer * shares, 1), part(t + 1, tasks, outer * shares, 1)):
        o, s = unit % outer, unit // outer
        first = part(s, shares, rows, 64)
        count, place = part(s + 1, shares, rows, 64) - first, x + 4 * (o * rows + first) * width
        total = floats(y + 4 * unit * width, width)
        joined = joined_rows(count, width)
        sums = np.empty(joined * width, np.float32)
        column_sums(place, count // joined, joined * width, address(sums), 0, joined * width)
        rest = count - count % joined
        column_sums(place + 4 * rest * width, count - rest, width, address(total), 0, width)
        for j in range(joined):
            add_to(total, floats(address(sums) + 4 * j * width, width))
        keep_alive(sums)


def view(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(outer, rows, inner) if the axes, those of length 1 apart, are neighbours."""
    axes = tuple(i for i in axes if shape[i] > 1)
    if not axes:
        return None
    first, last = axes[0], axes[-1]
    if any(shape[i] > 1 and i not in axes for i in range(first, last)):
        return None
    return math.prod(shape[:first]), math.prod(shape[first : last + 1]), math.prod(shape[last + 1 :])


def add(a: np.ndarray, b: np.ndarray):
    """a + b for large contiguous float32 arrays, of which one may be repeated along neighbouring axes; else NotImplemented."""
    if not is_float32(a, b):
        return NotImplemented
    if a.size < b.size:
        a, b = b, a
    if a.size < LEAST or not (a.flags.c_contiguous and b.flags.c_contiguous):
        return NotImplemented
    if a.shape == b.shape:
        y = np.empty(a.shape, f32)
        add_entries(a, b, y, a.size, tasks=tasks_for(a.size))
        return y
    if b.ndim > a.ndim:
        return NotImplemented
    wide = (1,) * (a.ndim - b.ndim) + b.shape
    if any(n != m and n != 1 for n, m in zip(wide, a.shape)):
        return NotImplemented
    found = view(a.shape, tuple(i for i, n in enumerate(wide) if n != a.shape[i]))
    if found is None or found[2] < NARROW:
        return NotImplemented
    y = np.empty(a.shape, f32)
    add_rows(a, b, y, *found, tasks=tasks_for(a.size))
    return y


@operations.add_into.forward  # type: ignore[has-type]
def _(total: np.ndarray, gradient: np.ndarray):
    if total.size < LEAST or not is_float32(total, gradient) or not (total.flags.c_contiguous and gradient.flags.c_contiguous):
        return NotImplemented
    add_entries(total, gradient, total, total.size, tasks=tasks_for(total.size))
    return total


def sum_over(x, axes: tuple[int, ...]):
    """x added up over the axes, which are left out; NotImplemented unless x is large and they are neighbours, not the last ones."""
    if not is_float32(x) or x.size < LEAST or not x.flags.c_contiguous:
        return NotImplemented
    found = view(x.shape, axes)
    if found is None or found[2] < NARROW:
        return NotImplemented
    outer, rows, width = found
    threads = get_threads()
    shares = 1 if outer >= threads else min(threads, -(-rows // 64))
    y = np.empty((shares, outer, width), f32)
    sum_rows(x, y, outer, rows, width, shares, tasks=min(tasks_for(x.size), outer * shares))
    return (y[0] if shares == 1 else y.sum(0)).reshape([n for i, n in enumerate(x.shape) if i not in axes])


def _unless_refused(y):
    return y if y is NotImplemented else (y, None)


@operations.add.forward(strided=True)  # type: ignore[has-type]
def _(a, b):
    return _unless_refused(add(a, b))


@operations.sum.forward(strided=True)  # type: ignore[has-type]
def _(x, *, axis, keepdims):
    try:
        axes = operations.reduced_axes(axis, x.ndim)
    except ValueError:
        return NotImplemented  # NumPy says what is wrong with it
    y = sum_over(x, axes) if len(set(axes)) == len(axes) else NotImplemented
    return _unless_refused(y if y is NotImplemented else operations.restore(y, x.shape, axis, False) if keepdims else y)


@operations.sum_to.forward(strided=True)  # type: ignore[has-type]
def _(x, *, shape):
    y = sum_over(x, operations.summed_axes(x.shape, shape))
    return _unless_refused(y if y is NotImplemented else y.reshape(shape))
