"""Elementwise functions beyond arithmetic: exponentials, logarithms, trigonometric and hyperbolic ones, rounding."""

from __future__ import annotations

import math

import numpy as np

from ..operation import primitive
from . import checks
from .arithmetic import exp, greater, less, less_equal, sqrt, where


@primitive(numbers=True)
def square(x):
    """y = x^2"""
    return np.square(x)


square.derivatives(lambda g, _y, x: g * (2 * x))


@primitive(numbers=True)
def exp2(x):
    """y = 2^x"""
    return np.exp2(x)


exp2.derivatives(lambda g, y, _x: g * (math.log(2) * y))


@primitive(numbers=True)
def expm1(x):
    """y = e^x - 1, without losing the digits of a small x"""
    return np.expm1(x)


expm1.derivatives(lambda g, y, _x: g * (y + 1))


@primitive(numbers=True)
def log1p(x):
    """y = ln(1 + x), without losing the digits of a small x"""
    return np.log1p(x)


log1p.derivatives(lambda g, _y, x: g / (1 + x))


@primitive(numbers=True)
def log2(x):
    """y = ln x / ln 2"""
    return np.log2(x)


log2.derivatives(lambda g, _y, x: g / (math.log(2) * x))


@primitive(numbers=True)
def log10(x):
    """y = ln x / ln 10"""
    return np.log10(x)


log10.derivatives(lambda g, _y, x: g / (math.log(10) * x))


@primitive(numbers=True)
def logaddexp(a, b):
    """y = ln(e^a + e^b), without overflow"""
    return np.logaddexp(a, b)


logaddexp.derivatives(lambda g, y, a, _b: g * _ratio(a, y), lambda g, y, _a, b: g * _ratio(b, y))


def _ratio(a, y):
    """e^a / e^y; 0 where both are -inf."""
    return exp(a - where(less_equal(y, -np.inf), 0.0, y))


@primitive(numbers=True)
def tan(x):
    """y = sin x / cos x"""
    return np.tan(x)


tan.derivatives(lambda g, y, _x: g * (1 + y * y))


@primitive(numbers=True)
def arcsin(x):
    """The angle from -pi/2 to pi/2 whose sine is x"""
    return np.arcsin(x)


arcsin.derivatives(lambda g, _y, x: g / sqrt(1 - x * x))


@primitive(numbers=True)
def arccos(x):
    """The angle from 0 to pi whose cosine is x"""
    return np.arccos(x)


arccos.derivatives(lambda g, _y, x: -g / sqrt(1 - x * x))


@primitive(numbers=True)
def arctan(x):
    """The angle from -pi/2 to pi/2 whose tangent is x"""
    return np.arctan(x)


arctan.derivatives(lambda g, _y, x: g / (1 + x * x))


@primitive(numbers=True)
def arctan2(a, b):
    """The angle from -pi to pi of the point (b, a)"""
    return np.arctan2(a, b)


arctan2.derivatives(lambda g, _y, a, b: g * (b / (a * a + b * b)), lambda g, _y, a, b: -g * (a / (a * a + b * b)))


@primitive(numbers=True)
def sinh(x):
    """y = (e^x - e^-x) / 2"""
    return np.sinh(x)


sinh.derivatives(lambda g, _y, x: g * cosh(x))


@primitive(numbers=True)
def cosh(x):
    """y = (e^x + e^-x) / 2"""
    return np.cosh(x)


cosh.derivatives(lambda g, _y, x: g * sinh(x))


@primitive(numbers=True)
def arcsinh(x):
    """The number whose sinh is x"""
    return np.arcsinh(x)


arcsinh.derivatives(lambda g, _y, x: g / hypot(1, x))


@primitive(numbers=True)
def arccosh(x):
    """The number from 0 up whose cosh is x"""
    return np.arccosh(x)


arccosh.derivatives(lambda g, _y, x: g / (sqrt(x - 1) * sqrt(x + 1)))


@primitive(numbers=True)
def arctanh(x):
    """The number whose tanh is x"""
    return np.arctanh(x)


arctanh.derivatives(lambda g, _y, x: g / (1 - x * x))


@primitive(numbers=True)
def hypot(a, b):
    """y = sqrt(a^2 + b^2), without overflow; the gradient at 0, 0 is 0"""
    return np.hypot(a, b)


hypot.derivatives(lambda g, y, a, _b: g * (a / _nonzero(y)), lambda g, y, _a, b: g * (b / _nonzero(y)))


def _nonzero(y):
    return where(less_equal(y, 0), 1.0, y)


@primitive(numbers=True)
def clip(x, a_min=None, a_max=None):
    """y = min(max(x, a_min), a_max); at a bound the gradient goes to x.  Either bound may be None"""
    return np.clip(x, a_min, a_max)


clip.derivatives(
    lambda g, _y, x, a_min, a_max: where(_below(x, a_min), 0.0, where(_above(x, a_max), 0.0, g)),
    lambda g, _y, x, a_min, a_max: where(_above(a_min, a_max), 0.0, where(_below(x, a_min), g, 0.0)),
    lambda g, _y, x, a_min, a_max: where(_above(x, a_max), g, where(_above(a_min, a_max), g, 0.0)),
)


def _below(x, bound):
    return False if bound is None or x is None else less(x, bound)


def _above(x, bound):
    return False if bound is None or x is None else greater(x, bound)


@primitive(numbers=True)
def remainder(a, b):
    """y = a - b floor(a / b), which has b's sign; the derivative in b is -floor(a / b)"""
    return np.remainder(a, b)


remainder.derivatives(lambda g, _y, _a, _b: g, lambda g, _y, a, b: -g * floor_divide(a, b))


# --- steps, which have no gradient: it is 0 wherever there is one


def _step(name: str, function, text: str):
    def step(x):
        return function(x)

    step.__name__, step.__doc__ = name, text + "; no gradient"
    operation = primitive(step, numbers=True)
    operation.derivatives(None)
    return operation


floor = _step("floor", np.floor, "The greatest integer that isn't above x")
ceil = _step("ceil", np.ceil, "The least integer that isn't below x")
trunc = _step("trunc", np.trunc, "x without what is behind the point")


@primitive(numbers=True)
def floor_divide(a, b):
    """y = floor(a / b); no gradient"""
    return np.floor_divide(a, b)


@primitive
def round(x, *, decimals=0):
    """x with so many decimals, halves to the even neighbour; no gradient"""
    return np.round(x, decimals)


@primitive(numbers=True)
def bitwise_and(a, b):
    """y = a & b, of bools: both; no gradient"""
    return np.bitwise_and(a, b)


@primitive(numbers=True)
def bitwise_or(a, b):
    """y = a | b, of bools: either; no gradient"""
    return np.bitwise_or(a, b)


@primitive(numbers=True)
def invert(x):
    """y = ~x, of bools: not x; no gradient"""
    return np.invert(x)


bitwise_and.derivatives(None, None)
bitwise_or.derivatives(None, None)
invert.derivatives(None)
floor_divide.derivatives(None, None)
round.derivatives(None)


@round.check
def _(x, *, decimals):
    checks.integer("round: decimals", decimals)
