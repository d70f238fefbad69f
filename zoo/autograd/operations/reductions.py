"""Reductions beyond sums and means: spread, products, norms, running sums; and what has no gradient."""

from __future__ import annotations

import builtins
import math

import numpy as np

from ..operation import fused, identity, primitive
from . import checks
from .arithmetic import abs, check_reduction, equal, max, min, not_equal, reduced_axes, sqrt, subtract, sum, var, where
from .indexing import getitem
from .joining import concatenate
from .shaping import flip, moveaxis, reshape


@fused(floats="x", integers=np.float64)
def std(x, *, axis=None, keepdims=False, ddof=0):
    """y = sqrt(var(x)), the standard deviation; where it is 0, so is its gradient"""
    return _root(var(x, axis=axis, keepdims=keepdims, ddof=ddof))


def _root(x):
    """The root of x >= 0, whose gradient at 0 is 0: what is there is the least, not a kink that anything could go down from."""
    is_zero = equal(x, 0)
    return where(is_zero, 0.0, sqrt(where(is_zero, 1.0, x)))


@fused
def prod(x, *, axis=None, keepdims=False):
    """y = product of x over axis

    Halves are multiplied until one entry is left.  So no gradient is a quotient y / x_i, which has no value where x_i is 0.
    """
    axes = reduced_axes(axis, x.ndim)
    x = x.astype(np.prod(np.ones(0, x.dtype)).dtype) if x.dtype.kind != "f" else x
    kept = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    y = reshape(moveaxis(x, axes, tuple(range(-len(axes), 0))), shape=(*kept, math.prod(x.shape[i] for i in axes))) if axes else x[..., None]
    if y.shape[-1] == 0:
        y = np.ones((*kept, 1), y.dtype) + sum(y, axis=-1, keepdims=True)
    while (n := y.shape[-1]) > 1:
        half = n // 2
        product = getitem(y, index=(..., slice(0, half))) * getitem(y, index=(..., slice(half, 2 * half)))
        y = product if n % 2 == 0 else concatenate([product, getitem(y, index=(..., slice(n - 1, n)))], axis=-1)
    return reshape(y, shape=tuple(1 if i in axes else n for i, n in enumerate(x.shape)) if keepdims else kept)


check_reduction(std)
check_reduction(prod, may_be_empty=True)


@primitive
def cumsum(x, *, axis=None):
    """y_i = x_0 + ... + x_i along axis; along the flattened x if None"""
    return np.cumsum(x, axis=axis)


@cumsum.derivatives
def _(g, _y, _x, *, axis):
    along = 0 if axis is None else axis
    return reshape(flip(cumsum(flip(g, axis=along), axis=along), axis=along), shape=_x.shape)


@cumsum.check
def _(x, *, axis):
    if axis is not None:
        checks.axis("cumsum: axis", axis, x.ndim)


@fused(floats="x", integers=np.float64)
def norm(x, *, ord=2, axis=None, keepdims=False):
    """y = (sum of |x|^ord over axis)^(1 / ord), of all entries if axis is None; ord may be inf: the greatest |x|, or -inf: the least

    The Euclidean norm (ord 2; of a matrix, Frobenius's) has the gradient x / y, and 0 where y is 0.
    """
    if ord == 2:
        return _root(sum(x * x, axis=axis, keepdims=keepdims))
    if ord == 1:
        return sum(abs(x), axis=axis, keepdims=keepdims)
    if math.isinf(ord):
        return (max if ord > 0 else min)(abs(x), axis=axis, keepdims=keepdims)
    is_zero = equal(x, 0)  # of which a power below 1 has no derivative
    total = sum(where(is_zero, 0.0, abs(where(is_zero, 1.0, x)) ** ord), axis=axis, keepdims=keepdims)
    is_zero = equal(total, 0)
    return where(is_zero, 0.0, where(is_zero, 1.0, total) ** (1 / ord))


@norm.check
def _(x, *, ord, axis, keepdims):
    if checks.number("norm: ord", ord, may_be_infinite=True) == -math.inf or ord > 0:
        reduced = checks.axes("norm: axis", axis, x.ndim)
        checks.flag("norm: keepdims", keepdims)
        if math.isinf(ord) and builtins.any(x.shape[i] == 0 for i in reduced):
            raise ValueError(f"norm: x has shape {x.shape}, which holds nothing to reduce over axis {axis}")
        return
    raise ValueError(f"norm: ord is {ord}; it is above 0, inf or -inf")


@primitive
def any(x, *, axis=None, keepdims=False):
    """Whether an entry along axis isn't 0, bool; no gradient"""
    return np.any(x, axis=reduced_axes(axis, x.ndim), keepdims=keepdims)


@primitive
def all(x, *, axis=None, keepdims=False):
    """Whether no entry along axis is 0, bool; no gradient"""
    return np.all(x, axis=reduced_axes(axis, x.ndim), keepdims=keepdims)


any.derivatives(None)
all.derivatives(None)
check_reduction(any, may_be_empty=True)
check_reduction(all, may_be_empty=True)


def diff(x, n=1, axis=-1):
    """y_i = x_{i + 1} - x_i along axis, n times; of bools whether the two differ, as in NumPy"""
    x = checks.array("diff: x", x)
    shape, difference = x.shape, not_equal if x.dtype == bool else subtract
    i = checks.axis("diff: axis", axis, len(shape))
    before = (slice(None),) * i
    for _ in range(builtins.min(checks.integer("diff: n", n, 0), shape[i])):  # then nothing is left
        x = difference(getitem(x, index=(*before, slice(1, None))), getitem(x, index=(*before, slice(None, -1))))
    return identity(x)  # an array, also of a list that there was nothing to do with
