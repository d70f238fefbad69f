"""Entries picked, padded, sorted.  The adjoint of reading entries adds gradients up where they were read."""

from __future__ import annotations

import builtins
import math
import operator
import sys

import numpy as np

from ..operation import composed, fused, primitive
from ..tensor import Tensor
from . import checks
from .arithmetic import sum, where
from .shaping import moveaxis, reshape


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
    if np.shape(out[index]) != g.shape:
        raise ValueError(f"getitem_adjoint: g has shape {g.shape}; the index reads {np.shape(out[index])} from {np.shape(out)}")
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
    """Whether an index may name an entry twice: all but ints, slices, None, ... and bools is an array of integers to NumPy, and may."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(not (p is None or p is Ellipsis or isinstance(p, (int, np.integer, np.bool_, slice))
                    or (isinstance(p, np.ndarray) and p.dtype.kind == "b")) for p in parts)


@primitive
def take(x, *, indices, axis=None):
    """The entries of x at indices along axis (of the flattened x if None)"""
    return np.take(x, _integers("take", indices), axis=axis)


@take.derivatives
def _(g, _y, _x, *, indices, axis):
    places = _integers("take", indices)
    if axis is None:
        return reshape(getitem_adjoint(g, index=places, shape=(math.prod(_x.shape),)), shape=_x.shape)
    return getitem_adjoint(g, index=(slice(None),) * (axis % len(_x.shape)) + (places,), shape=_x.shape)


@take.check
def _(x, *, indices, axis):
    if axis is not None:
        checks.axis("take: axis", axis, x.ndim)
    if (x.size if axis is None else x.shape[axis]) == 0 and _integers("take", indices).size:  # NumPy lets it pass where the result is empty
        raise IndexError(f"take: x has shape {x.shape}, in which there is nothing to take along {'all axes' if axis is None else f'axis {axis}'}")


def _integers(name: str, indices) -> np.ndarray:
    places = np.asarray(_plain(indices))
    if places.dtype.kind not in "iu":
        raise TypeError(f"{name}: indices have dtype {places.dtype}; they are integers")
    return places


@primitive
def take_along_axis(x, indices, *, axis=-1):
    """y[..., i] = x[..., indices[..., i]] along axis, the other axes broadcast; along the flattened x if axis is None"""
    return np.take_along_axis(x, indices, axis=axis)


take_along_axis.derivatives(lambda g, _y, _x, indices, *, axis: take_along_axis_adjoint(g, indices, axis=axis, shape=_x.shape), None)


@primitive
def take_along_axis_adjoint(g, indices, *, axis, shape):
    """Zeros of the shape with g added where take_along_axis read"""
    out = np.zeros(shape if axis is not None else (math.prod(shape),), g.dtype)
    grid = list(np.ix_(*map(np.arange, out.shape)))
    grid[0 if axis is None else axis] = indices
    np.add.at(out, tuple(grid), g)
    return out.reshape(shape)


take_along_axis_adjoint.derivatives(lambda g, _y, _g, indices, *, axis, shape: take_along_axis(g, indices, axis=axis), None)


@take_along_axis.check
def _(x, indices, *, axis):
    _check_along("take_along_axis", x.shape, indices, axis)


@take_along_axis_adjoint.check
def _(g, indices, *, axis, shape):
    read = _check_along("take_along_axis_adjoint", checks.shape("take_along_axis_adjoint: shape", shape), indices, axis)
    if g.shape != read:
        raise ValueError(f"take_along_axis_adjoint: g has shape {g.shape}; indices {indices.shape} read {read} from {shape}")


def _check_along(name: str, shape, indices, axis) -> tuple[int, ...]:
    """The shape of what is read."""
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{name}: indices have dtype {indices.dtype}; they are integers")
    if axis is None:
        shape, axis = (math.prod(shape),), 0
    if indices.ndim != len(shape):
        raise ValueError(f"{name}: indices have shape {indices.shape}, x has {shape}; they have as many axes")
    i = checks.axis(f"{name}: axis", axis, len(shape))
    apart = [(*s[:i], 1, *s[i + 1 :]) for s in (shape, indices.shape)]
    try:
        together = np.broadcast_shapes(*apart)
    except ValueError:
        raise ValueError(f"{name}: indices have shape {indices.shape}, x has {shape}; all axes but {i} broadcast") from None
    return (*together[:i], indices.shape[i], *together[i + 1 :])


MODES = ("constant", "reflect", "symmetric", "edge", "wrap")


@primitive
def pad(x, *, widths, value=0.0, mode="constant"):
    """x with entries around it: widths as np.pad takes them, (before, after) for each axis, one such pair for all, or a number

    mode: "constant" (the value), "reflect", "symmetric" (with the edge twice), "edge" or "wrap"
    """
    around = _around(widths, x.ndim)
    return np.pad(x, around, constant_values=value) if mode == "constant" else np.pad(x, around, mode=mode)


@pad.derivatives
def _(g, _y, _x, *, widths, value, mode):
    around = _around(widths, len(_x.shape))
    if mode == "constant":
        return getitem(g, index=tuple(slice(before, before + n) for (before, _), n in zip(around, _x.shape)))
    for axis, (n, sides) in enumerate(zip(_x.shape, around)):
        if any(sides):
            origin = np.pad(np.arange(n), sides, mode=mode)  # which entry each one is a copy of
            g = getitem_adjoint(g, index=(slice(None),) * axis + (origin,), shape=(*g.shape[:axis], n, *g.shape[axis + 1 :]))
    return g


def _around(widths, ndim: int) -> tuple[tuple[int, int], ...]:
    around = np.asarray(widths)
    if around.dtype.kind not in "iu" or (around < 0).any():
        raise ValueError(f"pad: widths are {checks.shown(widths)}; they are integers of at least 0")
    try:
        return tuple((int(before), int(after)) for before, after in np.broadcast_to(around, (ndim, 2)))
    except ValueError:
        raise ValueError(f"pad: widths are {checks.shown(widths)}; they are (before, after) for each of {ndim} axes, "
                         "one pair for all, or a number") from None


@pad.check
def _(x, *, widths, value, mode):
    checks.one_of("pad: mode", mode, MODES)
    around = _around(widths, x.ndim)
    if np.ndim(value) or isinstance(value, (str, Tensor)) or value is None:
        raise TypeError(f"pad: value is {checks.shown(value)}; it is a number")
    if mode != "constant" and any(n == 0 and any(sides) for n, sides in zip(x.shape, around)):
        raise ValueError(f"pad: x has shape {x.shape}; mode {mode!r} has nothing to repeat there")


@primitive
def repeat(x, *, repeats, axis=None):
    """Each entry `repeats` times in a row along an axis; along the flattened x if None.  repeats: an int, or one for each entry"""
    return np.repeat(x, repeats, axis)


@repeat.derivatives
def _(g, _y, _x, *, repeats, axis):
    shape, i = ((math.prod(_x.shape),), 0) if axis is None else (_x.shape, axis % len(_x.shape))
    origin = np.repeat(np.arange(shape[i]), repeats)  # which entry each one is a copy of
    return reshape(getitem_adjoint(g, index=(slice(None),) * i + (origin,), shape=shape), shape=_x.shape)


@repeat.check
def _(x, *, repeats, axis):
    length = x.size if axis is None else x.shape[checks.axis("repeat: axis", axis, x.ndim)]
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "iu" or counts.ndim > 1 or counts.size not in (1, length) or (counts < 0).any():
        raise ValueError(f"repeat: repeats is {checks.shown(repeats)}; it is an integer of at least 0, or one for each of {length} entries")


# --- order


@primitive
def argsort(x, *, axis=-1):
    """The indices that sort x along axis (the flattened x if None), equals in their order; no gradient"""
    return np.argsort(x, axis=axis, kind="stable")


@primitive
def argmax(x, *, axis=None, keepdims=False):
    """The index of the greatest entry along axis (of the flattened x if None), the first of equals; no gradient"""
    return np.argmax(x, axis=axis, keepdims=keepdims)


@primitive
def argmin(x, *, axis=None, keepdims=False):
    """The index of the least entry along axis (of the flattened x if None), the first of equals; no gradient"""
    return np.argmin(x, axis=axis, keepdims=keepdims)


argsort.derivatives(None)
argmax.derivatives(None)
argmin.derivatives(None)


@fused
def sort(x, *, axis=-1):
    """x in ascending order along axis (the flattened x if None); an entry's gradient goes back to where it stood"""
    if axis is None:
        x, axis = reshape(x, shape=-1), 0
    return take_along_axis(x, argsort(x, axis=axis), axis=axis)


def _check_one_axis(operation):
    @operation.check
    def _(x, *, axis, keepdims=False):
        checks.flag(f"{operation.__name__}: keepdims", keepdims)
        if axis is not None:
            checks.axis(f"{operation.__name__}: axis", axis, x.ndim)


for _operation in (argsort, argmax, argmin, sort):
    _check_one_axis(_operation)


# --- diagonals and triangles


@fused
def diagonal(x, *, offset=0, axis1=0, axis2=1):
    """The entries x[i, i + offset] of two axes, along a new last axis"""
    moved = moveaxis(x, (axis1, axis2), (-2, -1))
    height, width = moved.shape[-2:]
    return getitem(moved, index=(..., *_diagonal_places(height, width, operator.index(offset))))


def _diagonal_places(height: int, width: int, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each entry of a diagonal."""
    below, right = (-offset, 0) if offset < 0 else (0, offset)
    places = np.arange(builtins.max(0, builtins.min(height - below, width - right)))
    return (places + below, places + right) if len(places) else (places, places)


@diagonal.check
def _(x, *, offset, axis1, axis2):
    checks.integer("diagonal: offset", offset)
    if checks.axis("diagonal: axis1", axis1, x.ndim) == checks.axis("diagonal: axis2", axis2, x.ndim):
        raise ValueError(f"diagonal: axis1 is {axis1}, axis2 {axis2}; they are two axes")


def diag(x, k=0):
    """The k-th diagonal of a matrix; or, of an array with one axis, the matrix that has it there and zeros elsewhere"""
    k = checks.integer("diag: k", k)
    shape = checks.array("diag: x", x).shape
    if len(shape) == 1:
        n = shape[0] + builtins.abs(k)
        if n * n > sys.maxsize:
            raise ValueError(f"diag: k is {k}; a matrix of {n} rows and columns has too many entries")
        return getitem_adjoint(x, index=_diagonal_places(n, n, k), shape=(n, n))
    if len(shape) != 2:
        raise ValueError(f"diag: x has shape {shape}; it has one axis or two")
    return diagonal(x, offset=k)


@composed
def trace(x, offset=0, axis1=0, axis2=1):
    """The sum of a diagonal"""
    return sum(diagonal(x, offset=offset, axis1=axis1, axis2=axis2), axis=-1)


@fused
def tril(x, *, k=0):
    """The last two axes' lower triangle: 0 above the k-th diagonal"""
    return where(_below_diagonal(x.shape, k), x, x.dtype.type(0))


@fused
def triu(x, *, k=0):
    """The last two axes' upper triangle: 0 below the k-th diagonal"""
    return where(_below_diagonal(x.shape, k - 1), x.dtype.type(0), x)


def _below_diagonal(shape: tuple[int, ...], k: int) -> np.ndarray:
    """Of the last two axes: True up to the k-th diagonal."""
    return np.tri(shape[-2], shape[-1], builtins.max(-shape[-2], builtins.min(k, shape[-1])), dtype=bool)


def _check_triangle(operation):
    @operation.check
    def _(x, *, k):
        checks.integer(f"{operation.__name__}: k", k)
        if x.ndim < 2:
            raise ValueError(f"{operation.__name__}: x has shape {x.shape}; it has at least two axes")


_check_triangle(tril)
_check_triangle(triu)
