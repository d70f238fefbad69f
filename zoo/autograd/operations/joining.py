"""Arrays joined and cut."""

from __future__ import annotations

import builtins

import numpy as np

from ..operation import primitive
from ..tensor import Tensor
from . import checks
from .indexing import getitem
from .shaping import expand_dims, ravel, reshape

MOST_PARTS = 1 << 20  # of a split: more than the axis is long are empty


@primitive
def concatenate(*arrays, axis=0):
    """Arrays joined along an axis that is there: concatenate([a, b], axis=1); None flattens them first

    >>> concatenate([[1.0], [2.0, 3.0]])
    array([1., 2., 3.], dtype=float32)
    """
    return np.concatenate(arrays, axis=axis)


@concatenate.derivatives
def _(g, _y, i, *arrays, axis):
    if axis is None:
        start = builtins.sum(a.size for a in arrays[:i])
        return reshape(getitem(g, index=slice(start, start + arrays[i].size)), shape=arrays[i].shape)
    start = builtins.sum(a.shape[axis] for a in arrays[:i])
    index = [slice(None)] * arrays[i].ndim
    index[axis] = slice(start, start + arrays[i].shape[axis])
    return getitem(g, index=tuple(index))


@concatenate.check
def _(*arrays, axis):
    if not arrays:
        raise ValueError("concatenate: no arrays were given")
    if axis is not None:
        checks.integer("concatenate: axis", axis)


@primitive
def stack(*arrays, axis=0):
    """Arrays joined along a new axis: stack([a, b])

    >>> stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
    array([[1., 3.],
           [2., 4.]], dtype=float32)
    """
    return np.stack(arrays, axis=axis)


@stack.derivatives
def _(g, _y, i, *arrays, axis):
    index = [slice(None)] * (arrays[i].ndim + 1)
    index[axis] = i
    return getitem(g, index=tuple(index))


@stack.check
def _(*arrays, axis):
    if not arrays:
        raise ValueError("stack: no arrays were given")
    checks.integer("stack: axis", axis)


def hstack(arrays):
    """Arrays side by side: joined along the second axis, or the first where they have only one"""
    arrays = [a if np.ndim(a) else ravel(a) for a in _several("hstack", arrays)]
    return concatenate(arrays, axis=0 if np.ndim(arrays[0]) == 1 else 1)


def vstack(arrays):
    """Arrays one below the other: joined along the first axis; those with one axis are rows"""
    return concatenate([a if np.ndim(a) > 1 else reshape(a, shape=(1, -1)) for a in _several("vstack", arrays)], axis=0)


def column_stack(arrays):
    """Arrays side by side; those with one axis are columns"""
    return concatenate([a if np.ndim(a) > 1 else reshape(a, shape=(-1, 1)) for a in _several("column_stack", arrays)], axis=1)


def dstack(arrays):
    """Arrays one behind the other: joined along the third axis"""
    flat = [a if np.ndim(a) > 1 else reshape(a, shape=(1, -1)) for a in _several("dstack", arrays)]
    return concatenate([a if np.ndim(a) > 2 else expand_dims(a, -1) for a in flat], axis=2)


def append(x, values, axis=None):
    """values joined to the end of x; both flattened if axis is None"""
    return concatenate([x, values], axis=axis)


def _several(name: str, arrays) -> list:
    if not isinstance(arrays, (list, tuple)) and not (isinstance(arrays, (np.ndarray, Tensor)) and arrays.ndim):
        raise TypeError(f"{name}: arrays is {checks.shown(arrays)}; it is a list of arrays")
    arrays = list(arrays)
    if not arrays:
        raise ValueError(f"{name}: no arrays were given")
    for a in arrays:
        checks.array(f"{name}: one of the arrays", a)
    return arrays


def split(x, sections, axis=0):
    """x cut along axis: into `sections` equal parts, or at the given indices; a list"""
    shape = checks.array("split: x", x).shape
    n = shape[checks.axis("split: axis", axis, len(shape))]
    if isinstance(sections, (int, np.integer)) and n % checks.integer("split: sections", sections, 1):
        raise ValueError(f"split: axis {axis} has length {n}, which can't be cut into {sections} equal parts")
    return array_split(x, sections, axis)


def array_split(x, sections, axis=0):
    """As split, but where the parts can't be equal the first ones are longer by one"""
    shape = checks.array("array_split: x", x).shape
    i = checks.axis("array_split: axis", axis, len(shape))
    n = shape[i]
    if isinstance(sections, (list, tuple)) or (isinstance(sections, (np.ndarray, Tensor)) and sections.ndim):
        bounds = [0, *(checks.integer("split: sections", s) for s in sections), n]
    else:
        parts = checks.integer("split: sections", sections, 1)
        if parts > builtins.max(n, MOST_PARTS):
            raise ValueError(f"split: sections is {parts}; axis {axis} has length {n}, and there are at most {MOST_PARTS} parts")
        bounds = [k * (n // parts) + builtins.min(k, n % parts) for k in range(parts + 1)]
    return [getitem(x, index=(*(slice(None),) * i, slice(start, stop))) for start, stop in zip(bounds, bounds[1:])]


def hsplit(x, sections):
    """x cut along its second axis, or the first where it has only one"""
    return split(x, sections, 0 if checks.array("hsplit: x", x).ndim == 1 else 1)


def vsplit(x, sections):
    """x cut along its first axis"""
    return split(x, sections, 0)


def dsplit(x, sections):
    """x cut along its third axis"""
    return split(x, sections, 2)
