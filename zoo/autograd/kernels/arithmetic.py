"""Kernels of large sums and products: a + b, a b, and what undoes their broadcasting, the sum over neighbouring axes.

NumPy does these on one thread, and its sum over all axes but the last (the gradient of a bias) at a fifth of the memory's speed.
A contiguous float32 array is seen as (outer, rows, width), where `rows` are the axes that are broadcast or summed.
"""

from __future__ import annotations

import math

import numpy as np

from ..operations import arithmetic as operations
from ..runtime.compiling import inner
from ..runtime.native import address, clear_floats, copy_floats, floats, keep_alive
from ..runtime.tasks import RUN_FLOATS, Task, at, is_float32, part, row, row_address, span, task, tasks_for
from ..runtime.threads import get_threads

f32 = np.float32
MIN_ENTRIES = 1 << 17  # below so many NumPy is as fast, for a kernel's call takes 10 us
MIN_ROW_FLOATS = 8  # rows of fewer fill no register
JOINED_ROW_FLOATS = 1024  # short rows are taken together up to so many floats
ROWS_PER_SUM = 64  # rows are added up by so many, then those sums: float32 would lose what is added to a large sum


# --- loops over rows, which other kernels use as well


@inner
def add_to(total, x):
    for j in range(total.size):
        total[j] += x[j]


@inner
def column_sums(x, rows, n, y, left, width):
    """y[left : left + width] = the sums of these columns of x (rows, n)"""
    partial, total = np.empty(width, np.float32), floats(at(y, left), width)
    for j in range(width):
        total[j] = f32(0)
    for first in range(0, rows, ROWS_PER_SUM):
        for j in range(width):
            partial[j] = f32(0)
        for i in range(first, min(first + ROWS_PER_SUM, rows)):
            add_to(partial, floats(at(x, i * n + left), width))
        add_to(total, partial)


@inner
def joined_rows(rows, width):
    """How many rows of a contiguous array are taken as one: a loop over few entries costs more to enter than to run."""
    return max(1, min(rows, JOINED_ROW_FLOATS // width))


# --- the kernels


@task
def add_entries(t, tasks, a, b, y, n):
    """y = a + b, all (n,); y may be a."""
    first, last = part(t, tasks, n, RUN_FLOATS), part(t + 1, tasks, n, RUN_FLOATS)
    a_part, b_part, y_part = span(a, first, last), span(b, first, last), span(y, first, last)
    for i in range(y_part.size):
        y_part[i] = a_part[i] + b_part[i]


@task
def multiply_entries(t, tasks, a, b, y, n):
    """y = a b, all (n,)"""
    first, last = part(t, tasks, n, RUN_FLOATS), part(t + 1, tasks, n, RUN_FLOATS)
    a_part, b_part, y_part = span(a, first, last), span(b, first, last), span(y, first, last)
    for i in range(y_part.size):
        y_part[i] = a_part[i] * b_part[i]


@task
def combine_rows(t, tasks, a, b, y, outer, rows, width, is_product: bool):
    """y[o, r] = a[o, r] + b[o], or their product: a, y (outer, rows, width), b (outer, width)"""
    joined = joined_rows(rows, width)
    repeated = np.empty(joined * width, np.float32)  # one row of b, several times
    repeated_row = -1  # which
    i, last = part(t, tasks, outer * rows, 1), part(t + 1, tasks, outer * rows, 1)
    while i < last:
        o = i // rows
        count = min(last - i, (o + 1) * rows - i, joined)
        if o != repeated_row:
            for j in range(joined):
                copy_floats(row_address(address(repeated), j, width), row_address(b, o, width), width)
            repeated_row = o
        a_rows, y_rows = span(a, i * width, (i + count) * width), span(y, i * width, (i + count) * width)
        if is_product:
            for j in range(y_rows.size):
                y_rows[j] = a_rows[j] * repeated[j]
        else:
            for j in range(y_rows.size):
                y_rows[j] = a_rows[j] + repeated[j]
        i += count
    keep_alive(repeated)


@task
def sum_of_products(t, tasks, a, b, y, outer, rows, width, shares):
    """y[s, o] = the sum over share s of the rows of a[o] b[o], entry by entry: a, b (outer, rows, width), y (shares, outer, width)"""
    for unit in range(part(t, tasks, outer * shares, 1), part(t + 1, tasks, outer * shares, 1)):
        o, s = unit % outer, unit // outer
        first, last = part(s, shares, rows, ROWS_PER_SUM), part(s + 1, shares, rows, ROWS_PER_SUM)
        partial, total = np.empty(width, np.float32), row(y, unit, width)
        clear_floats(row_address(y, unit, width), width)
        for top in range(first, last, ROWS_PER_SUM):
            for j in range(width):
                partial[j] = f32(0)
            for i in range(o * rows + top, o * rows + min(top + ROWS_PER_SUM, last)):
                a_row, b_row = row(a, i, width), row(b, i, width)
                for j in range(width):
                    partial[j] += a_row[j] * b_row[j]
            add_to(total, partial)


@task
def sum_rows(t, tasks, x, y, outer, rows, width, shares):
    """y[s, o] = the sum over share s of the rows of x[o]: x (outer, rows, width), y (shares, outer, width)"""
    for unit in range(part(t, tasks, outer * shares, 1), part(t + 1, tasks, outer * shares, 1)):
        o, s = unit % outer, unit // outer
        first, last = part(s, shares, rows, ROWS_PER_SUM), part(s + 1, shares, rows, ROWS_PER_SUM)
        count, start = last - first, row_address(x, o * rows + first, width)
        y_row = row(y, unit, width)
        joined = joined_rows(count, width)
        sums = np.empty(joined * width, np.float32)
        column_sums(start, count // joined, joined * width, address(sums), 0, joined * width)
        left_over = count % joined
        column_sums(row_address(start, count - left_over, width), left_over, width, row_address(y, unit, width), 0, width)
        for j in range(joined):
            add_to(y_row, row(address(sums), j, width))
        keep_alive(sums)


def outer_rows_width(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The shape as (outer, rows, width) with the axes as rows, if they are neighbours and width isn't too small; else None."""
    axes = tuple(i for i in axes if shape[i] > 1)
    if not axes:
        return None
    first, last = axes[0], axes[-1]
    if any(shape[i] > 1 and i not in axes for i in range(first, last)):
        return None
    width = math.prod(shape[last + 1 :])
    return None if width < MIN_ROW_FLOATS else (math.prod(shape[:first]), math.prod(shape[first : last + 1]), width)


@operations.add_into.forward
def _(total: np.ndarray, gradient: np.ndarray):
    if total.size < MIN_ENTRIES or total.shape != gradient.shape or not is_float32(total, gradient):
        return NotImplemented
    if not (total.flags.c_contiguous and gradient.flags.c_contiguous):
        return NotImplemented
    add_entries(total, gradient, total, total.size, tasks=tasks_for(total.size))
    return total


def _combined(a: np.ndarray, b: np.ndarray, is_product: bool):
    """a + b or a b, of which one may be broadcast to the other; NotImplemented where NumPy is as fast."""
    if not is_float32(a, b):
        return NotImplemented
    if a.size < b.size:
        a, b = b, a
    if a.size < MIN_ENTRIES or not (a.flags.c_contiguous and b.flags.c_contiguous) or b.ndim > a.ndim:
        return NotImplemented
    if a.shape == b.shape:
        y = np.empty(a.shape, f32)
        (multiply_entries if is_product else add_entries)(a, b, y, a.size, tasks=tasks_for(a.size))
        return y
    b_shape = (1,) * (a.ndim - b.ndim) + b.shape
    if any(n != m and n != 1 for n, m in zip(b_shape, a.shape)):
        return NotImplemented
    sizes = outer_rows_width(a.shape, tuple(i for i, n in enumerate(b_shape) if n != a.shape[i]))
    if sizes is None:
        return NotImplemented
    y = np.empty(a.shape, f32)
    combine_rows(a, b, y, *sizes, is_product, tasks=tasks_for(a.size))
    return y


@operations.add.forward(strided=True)
def _(a, b):
    y = _combined(a, b, False)
    return y if y is NotImplemented else (y, None)


@operations.multiply.forward(strided=True)
def _(a, b):
    y = _combined(a, b, True)
    return y if y is NotImplemented else (y, ())


@operations.multiply.backward
def _(g, _y, _saved, a, b, *, needs):
    return _times(g, b, a.shape, g.shape) if needs[0] else None, _times(g, a, b.shape, g.shape) if needs[1] else None


def _times(g, other, shape, whole):
    """The gradient g (whole) times the other factor, for the factor of this shape: added up over the axes that it was repeated over."""
    if other.shape == whole and shape != whole:
        y = _sum_of_products(g, np.ascontiguousarray(other), shape)
        if y is not NotImplemented:
            return y
    y = _combined(g, other, True)
    return g * other if y is NotImplemented else y


def _sum_of_products(g, other, shape):
    sizes = outer_rows_width(g.shape, operations.summed_axes(g.shape, shape))
    if sizes is None or not is_float32(g, other):
        return NotImplemented
    return _in_shares(sum_of_products, (g, other), sizes).reshape(shape)


def _in_shares(kernel: Task, arrays: tuple[np.ndarray, ...], sizes: tuple[int, int, int]) -> np.ndarray:
    """(outer, width): what a kernel adds up over the rows, which threads share where there are fewer outer ones than threads."""
    outer, rows, width = sizes
    threads = get_threads()
    shares = 1 if outer >= threads else min(threads, -(-rows // ROWS_PER_SUM))
    y = np.empty((shares, outer, width), f32)
    kernel(*arrays, y, outer, rows, width, shares, tasks=min(tasks_for(arrays[0].size), outer * shares))
    return y[0] if shares == 1 else y.sum(0)


def sum_over(x, axes: tuple[int, ...]):
    """x added up over the axes, which are left out; NotImplemented unless x is large and they are neighbours, not the last ones."""
    if not is_float32(x) or x.size < MIN_ENTRIES or not x.flags.c_contiguous:
        return NotImplemented
    sizes = outer_rows_width(x.shape, axes)
    if sizes is None:
        return NotImplemented
    return _in_shares(sum_rows, (x,), sizes).reshape([n for i, n in enumerate(x.shape) if i not in axes])


@operations.sum.forward(strided=True)
def _(x, *, axis, keepdims):
    y = sum_over(x, operations.reduced_axes(axis, x.ndim))
    if y is NotImplemented:
        return NotImplemented
    return operations.restore(y, x.shape, axis, False) if keepdims else y, None


@operations.sum_to.forward(strided=True)
def _(x, *, shape):
    y = sum_over(x, operations.summed_axes(x.shape, shape))
    return NotImplemented if y is NotImplemented else (y.reshape(shape), None)
