"""Elementwise arithmetic and comparisons, and the sums that undo broadcasting.

The rules of a broadcasting operation return gradients of the broadcast shape; the engine adds them up to the argument's.
"""

from __future__ import annotations

import math

import numpy as np

from ..operation import attachable, broadcasts, fused, primitive
from ..tensor import Tensor
from . import checks


@primitive(numbers=True)
def add(a, b):
    """y = a + b

    a and b broadcast.

    >>> add([1.0, 2.0], 3.0)
    array([4., 5.], dtype=float32)
    """
    return a + b


add.derivatives(lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g)


@primitive(numbers=True)
def subtract(a, b):
    """y = a - b"""
    return a - b


subtract.derivatives(lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: -g)


@primitive(numbers=True)
def multiply(a, b):
    """y = a b"""
    return a * b


multiply.derivatives(lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a)


@primitive(numbers=True)
def divide(a, b):
    """y = a / b"""
    return a / b


divide.derivatives(lambda g, _y, _a, b: g / b, lambda g, y, _a, b: -g * y / b)


@primitive(numbers=True)
def negative(x):
    """y = -x"""
    return -x


negative.derivatives(lambda g, _y, _x: -g)


@primitive(numbers=True)
def power(a, b):
    """y = a^b; differentiable in b where a > 0

    >>> power([1.0, 2.0, 3.0], 2)
    array([1., 4., 9.], dtype=float32)
    """
    return a**b


power.derivatives(
    lambda g, _y, a, b: g * (b * power(a, b - 1)) if not _is_number(b, 0) else g * 0,
    lambda g, y, a, _b: g * y * log(where(greater(a, 0), a, 1.0)),
)


def _is_number(b, value) -> bool:
    return isinstance(b, (int, float)) and b == value


@primitive(numbers=True)
def exp(x):
    """y = e^x

    >>> exp([0.0, 1.0])
    array([1.      , 2.718282], dtype=float32)
    """
    return np.exp(x)


exp.derivatives(lambda g, y, _x: g * y)


@primitive(numbers=True)
def log(x):
    """y = ln x

    >>> log([1.0, 10.0])
    array([0.       , 2.3025851], dtype=float32)
    """
    return np.log(x)


log.derivatives(lambda g, _y, x: g / x)


@primitive(numbers=True)
def sqrt(x):
    """y = x^(1/2)

    >>> sqrt([4.0, 9.0])
    array([2., 3.], dtype=float32)
    """
    return np.sqrt(x)


sqrt.derivatives(lambda g, y, _x: 0.5 * g / y)


@primitive(numbers=True)
def sign(x):
    """-1, 0 or 1; its derivative is 0"""
    return np.sign(x)


sign.derivatives(None)


@primitive(numbers=True)
def abs(x):
    """y = |x|; the derivative at 0 is 0"""
    return np.abs(x)


abs.derivatives(lambda g, _y, x: g * sign(x))


@primitive(numbers=True)
def sin(x):
    """y = sin x"""
    return np.sin(x)


sin.derivatives(lambda g, _y, x: g * cos(x))


@primitive(numbers=True)
def cos(x):
    """y = cos x"""
    return np.cos(x)


cos.derivatives(lambda g, _y, x: -g * sin(x))


@primitive(numbers=True)
def maximum(a, b):
    """y = max(a, b); where they are equal each gets half of the gradient"""
    return np.maximum(a, b)


maximum.derivatives(lambda g, _y, a, b: g * _share_of_greater(a, b), lambda g, _y, a, b: g * _share_of_greater(b, a))


@primitive(numbers=True)
def minimum(a, b):
    """y = min(a, b); where they are equal each gets half of the gradient"""
    return np.minimum(a, b)


minimum.derivatives(lambda g, _y, a, b: g * _share_of_greater(b, a), lambda g, _y, a, b: g * _share_of_greater(a, b))


def _share_of_greater(a, b):
    """1 where a > b, 1/2 where they are equal, else 0."""
    like = a if hasattr(a, "dtype") else b
    return _as_float(greater(a, b), like) + 0.5 * _as_float(equal(a, b), like)


def _as_float(condition, like):
    return astype(condition, dtype=like.dtype)


@primitive(numbers=True)
def where(condition, a, b):
    """y = a where the condition holds, else b

    >>> where([True, False], [1.0, 2.0], 0.0)
    array([1., 0.], dtype=float32)
    """
    return np.where(condition, a, b)


where.derivatives(None, lambda g, _y, condition, _a, _b: where(condition, g, 0.0), lambda g, _y, condition, _a, _b: where(condition, 0.0, g))


@primitive
def astype(x, *, dtype):
    """The same values in another dtype"""
    return x.astype(dtype)


@astype.check
def _(x, *, dtype):
    if dtype is None or np.dtype(dtype).kind not in "fiub":
        raise TypeError(f"astype: dtype is {checks.shown(dtype)}; it is a float, an integer or bool")


astype.derivatives(lambda g, _y, x, *, dtype: astype(g, dtype=x.dtype))


def _comparison(name: str, ufunc, symbol: str):
    def compare(a, b):
        return ufunc(a, b)

    compare.__name__ = name
    compare.__doc__ = f"y = a {symbol} b, bool; it has no gradient"
    operation = primitive(compare, numbers=True)
    operation.derivatives(None, None)
    return operation


greater = _comparison("greater", np.greater, ">")
greater_equal = _comparison("greater_equal", np.greater_equal, ">=")
less = _comparison("less", np.less, "<")
less_equal = _comparison("less_equal", np.less_equal, "<=")
equal = _comparison("equal", np.equal, "==")
not_equal = _comparison("not_equal", np.not_equal, "!=")


# --- sums, means and extremes: axis is None (all), an int or several, as in NumPy


def reduced_axes(axis, ndim: int) -> tuple[int, ...]:
    """axis as a tuple of non-negative ints."""
    return checks.axes("axis", axis, ndim)


def check_reduction(operation, may_be_empty: bool = False) -> None:
    """Attach the check of axis and keepdims; may_be_empty: there is a result for no entries at all."""
    name = operation.__name__

    @operation.check
    def _(x, *, axis, keepdims, ddof=0):
        reduced = checks.axes(f"{name}: axis", axis, x.ndim)
        checks.flag(f"{name}: keepdims", keepdims)
        if not may_be_empty and any(x.shape[i] == 0 for i in reduced):
            raise ValueError(f"{name}: x has shape {x.shape}, which holds nothing to reduce over axis {axis}")
        if ddof and checks.number(f"{name}: ddof", ddof, 0) >= (entries := math.prod(x.shape[i] for i in reduced)):
            raise ValueError(f"{name}: ddof is {ddof}; it is below the number of entries, {entries}")


def restore(g, shape, axis, keepdims):
    """A reduced array with the reduced axes back as length 1."""
    if keepdims:
        return g
    axes = reduced_axes(axis, len(shape))
    return g.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape)))


@primitive
def sum(x, *, axis=None, keepdims=False):
    """y = sum of x over axis"""
    return np.sum(x, axis=reduced_axes(axis, x.ndim), keepdims=keepdims)


check_reduction(sum, may_be_empty=True)
sum.derivatives(lambda g, _y, _x, *, axis, keepdims: broadcast_to(restore(g, _x.shape, axis, keepdims), shape=_x.shape))


@primitive
def broadcast_to(x, *, shape):
    """x repeated along new and length-1 axes to the shape; a read-only view"""
    return np.broadcast_to(x, shape)


@broadcast_to.check
def _(x, *, shape):
    if not broadcasts(x.shape, checks.shape("broadcast_to: shape", shape)):
        raise ValueError(f"broadcast_to: x has shape {x.shape}, which doesn't broadcast to {shape}")


broadcast_to.derivatives(lambda g, _y, _x, *, shape: sum_to(g, shape=_x.shape))


@primitive
def sum_to(x, *, shape):
    """The adjoint of broadcast_to: x added up to the shape"""
    axes = summed_axes(x.shape, shape)
    return np.sum(x, axis=axes, keepdims=True).reshape(shape) if axes else x


@sum_to.check
def _(x, *, shape):
    if not broadcasts(checks.shape("sum_to: shape", shape), x.shape):
        raise ValueError(f"sum_to: x has shape {x.shape}, to which an array of shape {shape} doesn't broadcast")


sum_to.derivatives(lambda g, _y, _x, *, shape: broadcast_to(g, shape=_x.shape))


def summed_axes(full, shape) -> tuple[int, ...]:
    """The axes along which an array of shape `full` is added up to give the shape."""
    shape = checks.shape("shape", shape)
    extra = len(full) - len(shape)
    return tuple(range(extra)) + tuple(extra + i for i, n in enumerate(shape) if n == 1 and full[extra + i] != 1)


@attachable
def add_into(total: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """total += gradient, in place: the engine's own sums"""
    return np.add(total, gradient, out=total)


def _extreme_rule(g, y, x, *, axis, keepdims):
    is_extreme = _as_float(equal(x, restore(y, x.shape, axis, keepdims)), x)
    return restore(g, x.shape, axis, keepdims) * is_extreme / sum(is_extreme, axis=axis, keepdims=True)


@primitive
def max(x, *, axis=None, keepdims=False):
    """y = greatest of x over axis; entries that tie for it share the gradient"""
    return np.max(x, axis=reduced_axes(axis, x.ndim), keepdims=keepdims)


check_reduction(max)
max.derivatives(_extreme_rule)


@primitive
def min(x, *, axis=None, keepdims=False):
    """y = least of x over axis; entries that tie for it share the gradient"""
    return np.min(x, axis=reduced_axes(axis, x.ndim), keepdims=keepdims)


check_reduction(min)
min.derivatives(_extreme_rule)


@fused(floats="x", integers=np.float64)
def mean(x, *, axis=None, keepdims=False):
    """y = sum of x over axis / number of entries"""
    count = math.prod(x.shape[a] for a in reduced_axes(axis, x.ndim))
    return sum(x, axis=axis, keepdims=keepdims) / count


check_reduction(mean)


@fused(floats="x", integers=np.float64)
def var(x, *, axis=None, keepdims=False, ddof=0):
    """y = sum of (x - mean)^2 over axis / (n - ddof); ddof 0 is the mean square, 1 the estimate from a sample"""
    centred = x - mean(x, axis=axis, keepdims=True)
    if ddof == 0:
        return mean(centred * centred, axis=axis, keepdims=keepdims)
    return sum(centred * centred, axis=axis, keepdims=keepdims) / (math.prod(x.shape[i] for i in reduced_axes(axis, x.ndim)) - ddof)


check_reduction(var)


@fused(floats="x", integers=np.float64)
def logsumexp(x, *, axis=None, keepdims=False):
    """y = ln sum e^x over axis

    e^x overflows from x = 89 on in float32; ln sum e^x = m + ln sum e^(x - m) for any m, and with the greatest x as m no term is above 1.

    >>> logsumexp([1000.0, 1000.0])
    array(1000.6932, dtype=float32)
    """
    greatest = detach(max(x, axis=axis, keepdims=True))
    greatest = where(equal(abs(greatest), np.inf), 0.0, greatest)  # a row of -inf has the sum 0, not NaN
    y = log(sum(exp(x - greatest), axis=axis, keepdims=True)) + greatest
    return y if keepdims else y.reshape(tuple(n for i, n in enumerate(y.shape) if i not in reduced_axes(axis, x.ndim)))


check_reduction(logsumexp)


def detach(x):
    """x without its memory; arrays as they are."""
    return x.detach() if isinstance(x, Tensor) else x


def values_of(x) -> np.ndarray:
    """The array of a tensor, or the array itself."""
    return x.data if isinstance(x, Tensor) else np.asarray(x)
