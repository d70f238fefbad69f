"""Activations, elementwise, and softmax."""

from __future__ import annotations

import math

import numpy as np

from ..operation import fused, primitive
from . import checks
from .arithmetic import detach, exp, log, max, maximum, minimum, sum, values_of


@primitive(numbers=True)
def tanh(x):
    """y = tanh x

    >>> tanh([0.0, 1.0])
    array([0.       , 0.7615942], dtype=float32)
    """
    return np.tanh(x)


tanh.derivatives(lambda g, y, _x: g * (1 - y * y))


@primitive(floats="x")
def sigmoid(x):
    """y = 1 / (1 + e^-x), without overflow

    >>> sigmoid([-1000.0, 0.0, 1000.0])
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return np.exp(-np.logaddexp(0, -x))


sigmoid.derivatives(lambda g, y, _x: g * (y * (1 - y)))


@primitive(floats="x")
def softplus(x):
    """y = ln(1 + e^x), without overflow

    >>> softplus([-1000.0, 0.0, 1000.0])
    array([0.000000e+00, 6.931472e-01, 1.000000e+03], dtype=float32)
    """
    return np.logaddexp(0, x)


softplus.derivatives(lambda g, _y, x: g * sigmoid(x))


@primitive(numbers=True)
def relu(x):
    """y = max(x, 0); the derivative at 0 is 0

    >>> relu([-1.0, 0.0, 2.0])
    array([0., 0., 2.], dtype=float32)
    """
    return np.maximum(x, 0)


relu.derivatives(lambda g, y, _x: g * _slope_of_ramp(y, 0.0))


def _slope_of_ramp(x, slope):
    """1 where x > 0, else slope: an array, for it has no gradient."""
    values = values_of(x)
    return np.where(values > 0, 1.0, slope).astype(values.dtype)


@primitive(floats="x")
def leaky_relu(x, *, slope=0.01):
    """y = x where x > 0, else slope x

    >>> leaky_relu([-1.0, 0.0, 2.0], slope=0.1)
    array([-0.1,  0. ,  2. ], dtype=float32)
    """
    return np.where(x > 0, x, slope * x)


@leaky_relu.check
def _(x, *, slope):
    checks.number("leaky_relu: slope", slope)


leaky_relu.derivatives(lambda g, _y, x, *, slope: g * _slope_of_ramp(x, slope))


@primitive(floats="x")
def erf(x):
    """y = 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x

    >>> erf([0.0, 1.0])
    array([0.       , 0.8427008], dtype=float32)
    """
    from scipy.special import erf

    return erf(x)


erf.derivatives(lambda g, _y, x: g * (2 / math.sqrt(math.pi) * _bell(x)))


def _bell(x):
    """e^(-x^2), which is 0 long before x^2 overflows."""
    near = minimum(maximum(x, -30), 30)
    return exp(-(near * near))


@fused(floats="x")
def silu(x):
    """y = x sigmoid(x) (Ramachandran et al. 2017, also called swish)

    >>> silu([-1.0, 0.0, 2.0])
    array([-0.26894143,  0.        ,  1.761594  ], dtype=float32)
    """
    return x * sigmoid(x)


@fused(floats="x")
def gelu(x, *, approximate="none"):
    """y = x P(Z <= x), Z standard normal (Hendrycks & Gimpel 2016); approximate="tanh" is the form that GPT-2 uses

    Raises ValueError for another approximate than "none" or "tanh".

    >>> gelu([-1.0, 0.0, 2.0])
    array([-0.15865526,  0.        ,  1.9544997 ], dtype=float32)
    """
    if approximate == "tanh":
        z = minimum(maximum(x, -8), 8)  # where tanh is 1 or -1 anyway: x^3 must not overflow
        return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * (z * z * z))))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


@gelu.check
def _(x, *, approximate):
    checks.one_of("gelu: approximate", approximate, ("none", "tanh"))


@fused(floats="x")
def softmax(x, *, axis=-1):
    """y = e^x / sum e^x over axis

    Taking the same number from every x divides numerator and denominator alike; with the greatest taken away, no e^x is above 1.

    x of any shape -> the same shape; along axis (an int or a tuple of them) the result adds up to 1.  Raises AxisError for an axis
    that x hasn't.

    >>> softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]], dtype=float32)
    """
    if x.size == 0:
        return x * 1.0
    e = exp(x - detach(max(x, axis=axis, keepdims=True)))
    return e / sum(e, axis=axis, keepdims=True)


@fused(floats="x")
def log_softmax(x, *, axis=-1):
    """y = x - ln sum e^x over axis; the greatest x is taken away first, so that a large offset costs no digits

    x of any shape -> the same shape.  Raises AxisError for an axis that x hasn't.

    >>> log_softmax([0.0, 0.0])
    array([-0.6931472, -0.6931472], dtype=float32)
    """
    if x.size == 0:
        return x * 1.0
    shifted = x - detach(max(x, axis=axis, keepdims=True))
    return shifted - log(sum(exp(shifted), axis=axis, keepdims=True))


def _check_axis(operation):
    @operation.check
    def _(x, *, axis):
        checks.axes(f"{operation.__name__}: axis", axis, x.ndim)


_check_axis(softmax)
_check_axis(log_softmax)
