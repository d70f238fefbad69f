"""Reshaping, joining, cutting and indexing.  Each one's derivative is another one here."""

from __future__ import annotations

import builtins
import math

import numpy as np

from ..operation import primitive
from ..tensor import Tensor


@primitive
def reshape(x, *, shape):
    """The same entries in another shape; one length may be -1"""
    return np.reshape(x, shape)


reshape.derivatives(lambda g, _y, _x, *, shape: reshape(g, shape=_x.shape))


@primitive
def transpose(x, *, axes=None):
    """Axes in another order (reversed if None); a view"""
    return np.transpose(x, axes)


transpose.derivatives(lambda g, _y, _x, *, axes: transpose(g, axes=_inverse_order(axes)))


def _inverse_order(axes):
    """The order of axes that undoes this one."""
    return None if axes is None else tuple(int(i) for i in np.argsort([a % len(axes) for a in axes]))


@primitive
def swapaxes(x, *, a=-1, b=-2):
    """Two axes exchanged; a view"""
    return np.swapaxes(x, a, b)


swapaxes.derivatives(lambda g, _y, _x, *, a, b: swapaxes(g, a=a, b=b))


@primitive
def concatenate(*arrays, axis=0):
    """Arrays joined along an axis that is there: concatenate([a, b], axis=1)"""
    return np.concatenate(arrays, axis=axis)


@concatenate.derivatives
def _(g, _y, i, *arrays, axis):
    start = builtins.sum(a.shape[axis] for a in arrays[:i])
    index = [slice(None)] * arrays[i].ndim
    index[axis] = slice(start, start + arrays[i].shape[axis])
    return getitem(g, index=tuple(index))


@primitive
def stack(*arrays, axis=0):
    """Arrays joined along a new axis: stack([a, b])"""
    return np.stack(arrays, axis=axis)


@stack.derivatives
def _(g, _y, i, *arrays, axis):
    index = [slice(None)] * (arrays[i].ndim + 1)
    index[axis] = i
    return getitem(g, index=tuple(index))


@primitive
def getitem(x, *, index):
    """x[index]: ints, slices, None, ..., integer and bool arrays, as in NumPy"""
    return x[_plain(index)]


getitem.derivatives(lambda g, _y, _x, *, index: getitem_adjoint(g, index=index, shape=_x.shape))


@getitem.reads_part
def _(index):
    plain = _plain(index)
    return None if _may_repeat(plain) else plain


@primitive
def getitem_adjoint(g, *, index, shape):
    """Zeros of the shape with g added at index; an entry that was read twice gets both"""
    out = np.zeros(shape, g.dtype)
    index = _plain(index)
    if _may_repeat(index):
        np.add.at(out, index, g)
    else:
        out[index] += g
    return out


getitem_adjoint.derivatives(lambda g, _y, _g, *, index, shape: getitem(g, index=index))


def _plain(index):
    """An index without tensors in it."""
    if isinstance(index, tuple):
        return tuple(_plain(i) for i in index)
    return index.data if isinstance(index, Tensor) else index


def _may_repeat(index) -> bool:
    """Whether an index may name an entry twice: integer arrays and lists may."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(p, (list, np.ndarray)) and np.asarray(p).dtype.kind != "b" for p in parts)


@primitive
def take(x, *, indices, axis=None):
    """The entries of x at indices along axis (of the flattened x if None)"""
    return np.take(x, _plain(indices), axis=axis)


@take.derivatives
def _(g, _y, _x, *, indices, axis):
    if axis is None:
        flat = getitem_adjoint(g, index=np.asarray(_plain(indices)), shape=(math.prod(_x.shape),))
        return reshape(flat, shape=_x.shape)
    index = (slice(None),) * (axis % _x.ndim) + (np.asarray(_plain(indices)),)
    return getitem_adjoint(g, index=index, shape=_x.shape)


@primitive
def take_along_axis(x, indices, *, axis=-1):
    """y[..., i] = x[..., indices[..., i]] along axis"""
    return np.take_along_axis(x, indices, axis=axis)


take_along_axis.derivatives(lambda g, _y, _x, indices, *, axis: take_along_axis_adjoint(g, indices, axis=axis, shape=_x.shape), None)


@primitive
def take_along_axis_adjoint(g, indices, *, axis, shape):
    """Zeros of the shape with g added where take_along_axis read"""
    out = np.zeros(shape, g.dtype)
    grid = list(np.ix_(*map(np.arange, indices.shape)))
    grid[axis] = indices
    np.add.at(out, tuple(grid), g)
    return out


take_along_axis_adjoint.derivatives(lambda g, _y, _g, indices, *, axis, shape: take_along_axis(g, indices, axis=axis), None)


@primitive
def pad(x, *, widths, value=0.0):
    """A constant around x: widths is one (before, after) for each axis"""
    return np.pad(x, widths, constant_values=value)


pad.derivatives(lambda g, _y, _x, *, widths, value: getitem(g, index=_inside(widths, _x.shape)))


def _inside(widths, shape):
    return tuple(slice(before, before + n) for (before, _), n in zip(widths, shape))


def split(x, sections, axis=0):
    """x cut along axis: into `sections` equal parts, or at the given indices; a list"""
    n = x.shape[axis]
    if isinstance(sections, int):
        if sections < 1 or n % sections:
            raise ValueError(f"split: axis {axis} has length {n}, which can't be cut into {sections} equal parts")
        bounds = list(range(0, n + 1, n // sections))
    else:
        bounds = [0, *sections, n]
    before = (slice(None),) * (axis % x.ndim)
    return [getitem(x, index=(*before, slice(a, b))) for a, b in zip(bounds, bounds[1:])]


def expand_dims(x, axis):
    """A new axis of length 1"""
    axis %= x.ndim + 1
    return reshape(x, shape=(*x.shape[:axis], 1, *x.shape[axis:]))


def squeeze(x, axis=None):
    """Axes of length 1 taken out (all, or those named)"""
    axes = {i for i, n in enumerate(x.shape) if n == 1} if axis is None else {a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)}
    wrong = [i for i in axes if x.shape[i] != 1]
    if wrong:
        raise ValueError(f"squeeze: axis {wrong[0]} has length {x.shape[wrong[0]]}, not 1 (shape {x.shape})")
    return reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))
