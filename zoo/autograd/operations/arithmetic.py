"""Elementwise arithmetic and comparisons, and the sums that undo broadcasting.

The rules of a broadcasting operation return gradients of the broadcast shape; the engine adds them up to the argument's.
"""

from __future__ import annotations

import math

import numpy as np

from ..operation import attachable, fused, primitive
from ..tensor import Tensor


@primitive
def add(a, b):
    """y = a + b"""
    return a + b


add.derivatives(lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g)


@primitive
def subtract(a, b):
    """y = a - b"""
    return a - b


subtract.derivatives(lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: -g)


@primitive
def multiply(a, b):
    """y = a b"""
    return a * b


multiply.derivatives(lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a)


@primitive
def divide(a, b):
    """y = a / b"""
    return a / b


divide.derivatives(lambda g, _y, _a, b: g / b, lambda g, y, _a, b: -g * y / b)


@primitive
def negative(x):
    """y = -x"""
    return -x


negative.derivatives(lambda g, _y, _x: -g)


@primitive
def power(a, b):
    """y = a^b; differentiable in b where a > 0"""
    return a**b


power.derivatives(
    lambda g, _y, a, b: g * (b * power(a, b - 1)) if not _is_number(b, 0) else g * 0,
    lambda g, y, a, _b: g * y * log(where(greater(a, 0), a, 1.0)),
)


def _is_number(b, value) -> bool:
    return isinstance(b, (int, float)) and b == value


@primitive
def exp(x):
    """y = e^x"""
    return np.exp(x)


exp.derivatives(lambda g, y, _x: g * y)


@primitive
def log(x):
    """y = ln x"""
    return np.log(x)


log.derivatives(lambda g, _y, x: g / x)


@primitive
def sqrt(x):
    """y = x^(1/2)"""
    return np.sqrt(x)


sqrt.derivatives(lambda g, y, _x: 0.5 * g / y)


@primitive
def sign(x):
    """-1, 0 or 1; its derivative is 0"""
    return np.sign(x)


sign.derivatives(None)


@primitive
def abs(x):
    """y = |x|; the derivative at 0 is 0"""
    return np.abs(x)


abs.derivatives(lambda g, _y, x: g * sign(x))


@primitive
def sin(x):
    """y = sin x"""
    return np.sin(x)


sin.derivatives(lambda g, _y, x: g * cos(x))


@primitive
def cos(x):
    """y = cos x"""
    return np.cos(x)


cos.derivatives(lambda g, _y, x: -g * sin(x))


@primitive
def maximum(a, b):
    """y = max(a, b); where they are equal each gets half of the gradient"""
    return np.maximum(a, b)


maximum.derivatives(lambda g, _y, a, b: g * _share_of_greater(a, b), lambda g, _y, a, b: g * _share_of_greater(b, a))


@primitive
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


@primitive
def where(condition, a, b):
    """y = a where the condition holds, else b"""
    return np.where(condition, a, b)


where.derivatives(None, lambda g, _y, condition, _a, _b: where(condition, g, 0.0), lambda g, _y, condition, _a, _b: where(condition, 0.0, g))


@primitive
def astype(x, *, dtype):
    """The same values in another dtype."""
    return x.astype(dtype)


astype.derivatives(lambda g, _y, x, *, dtype: astype(g, dtype=x.dtype))


def _comparison(name: str, ufunc, symbol: str):
    def compare(a, b):
        return ufunc(a, b)

    compare.__name__ = name
    compare.__doc__ = f"y = a {symbol} b, bool; it has no gradient"
    operation = primitive(compare)
    operation.derivatives(None, None)
    return operation


greater = _comparison("greater", np.greater, ">")
greater_equal = _comparison("greater_equal", np.greater_equal, ">=")
less = _comparison("less", np.less, "<")
less_equal = _comparison("less_equal", np.less_equal, "<=")
equal = _comparison("equal", np.equal, "==")
not_equal = _comparison("not_equal", np.not_equal, "!=")


# --- sums and their kin: axis is None (all), an int or a tuple, as in NumPy


def reduced_axes(axis, ndim: int, name: str = "") -> tuple[int, ...]:
    """axis as a tuple of non-negative ints; name: the operation that an error names."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"{name and name + ': '}axis is {axis}; an array of {ndim} dimensions has axes from {-ndim} to {ndim - 1}")
    return tuple(a % ndim for a in axes)


def restore(g, shape, axis, keepdims):
    """A reduced array with the reduced axes back as length 1."""
    if keepdims:
        return g
    axes = reduced_axes(axis, len(shape))
    return g.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape)))


@primitive
def sum(x, *, axis=None, keepdims=False):
    """y = sum of x over axis"""
    return np.sum(x, axis=axis, keepdims=keepdims)


sum.derivatives(lambda g, _y, _x, *, axis, keepdims: broadcast_to(restore(g, _x.shape, axis, keepdims), shape=_x.shape))


@primitive
def broadcast_to(x, *, shape):
    """x repeated along new and length-1 axes to the shape; a read-only view"""
    return np.broadcast_to(x, shape)


broadcast_to.derivatives(lambda g, _y, _x, *, shape: sum_to(g, shape=_x.shape))


@primitive
def sum_to(x, *, shape):
    """The adjoint of broadcast_to: x added up to the shape"""
    axes = summed_axes(x.shape, shape)
    return np.sum(x, axis=axes, keepdims=True).reshape(shape) if axes else x.reshape(shape)


sum_to.derivatives(lambda g, _y, _x, *, shape: broadcast_to(g.reshape((1,) * (len(_x.shape) - len(shape)) + tuple(shape)), shape=_x.shape))


def summed_axes(full, shape) -> tuple[int, ...]:
    """The axes along which an array of shape `full` is added up to give the shape."""
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
    return np.max(x, axis=axis, keepdims=keepdims)


max.derivatives(_extreme_rule)


@primitive
def min(x, *, axis=None, keepdims=False):
    """y = least of x over axis; entries that tie for it share the gradient"""
    return np.min(x, axis=axis, keepdims=keepdims)


min.derivatives(_extreme_rule)


@fused
def mean(x, *, axis=None, keepdims=False):
    """y = sum of x over axis / number of entries"""
    count = math.prod(x.shape[a] for a in reduced_axes(axis, x.ndim))
    return sum(x, axis=axis, keepdims=keepdims) / count


@fused
def var(x, *, axis=None, keepdims=False):
    """y = mean of (x - mean)^2 over axis (the divisor is n)"""
    centred = x - mean(x, axis=axis, keepdims=True)
    return mean(centred * centred, axis=axis, keepdims=keepdims)


@fused
def logsumexp(x, *, axis=None, keepdims=False):
    """y = ln sum e^x over axis

    e^x overflows from x = 89 on in float32; ln sum e^x = m + ln sum e^(x - m) for any m, and with the greatest x as m no term is above 1.
    """
    greatest = detach(max(x, axis=axis, keepdims=True))
    greatest = where(equal(abs(greatest), np.inf), 0.0, greatest)  # a row of -inf has the sum 0, not NaN
    y = log(sum(exp(x - greatest), axis=axis, keepdims=True)) + greatest
    return y if keepdims else y.reshape(tuple(n for i, n in enumerate(y.shape) if i not in reduced_axes(axis, x.ndim)))


def _check_reduction(name):
    def check(x, *, axis, keepdims):
        reduced_axes(axis, np.ndim(x), name)
        if np.size(x) == 0:
            raise ValueError(f"{name}: x has shape {np.shape(x)}, which holds nothing to reduce")

    return check


mean.check(_check_reduction("mean"))
var.check(_check_reduction("var"))
logsumexp.check(_check_reduction("logsumexp"))


def detach(x):
    """x without its memory; arrays as they are."""
    return x.detach() if isinstance(x, Tensor) else x


def values_of(x) -> np.ndarray:
    """The array of a tensor, or the array itself."""
    return x.data if isinstance(x, Tensor) else np.asarray(x)
