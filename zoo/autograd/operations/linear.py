"""Products of matrices: matmul, and the linear layer with its bias and activation in one pass; embedding."""

from __future__ import annotations

import numpy as np

from ..operation import fused, primitive
from . import activation as activations
from . import checks
from .arithmetic import sum_to
from .precision import as_factors
from .shaping import expand_dims, reshape, swapaxes


@primitive
def matmul(a, b):
    """y = a b over the last two axes, earlier axes broadcast; vectors as in NumPy

    a (..., n, k), b (..., k, m) -> (..., n, m).  Raises ValueError where the inner sizes differ.
    Under set_precision("bf16"), float32 factors are rounded to bfloat16 first.

    >>> matmul([[1.0, 2.0]], [[3.0], [4.0]])
    array([[11.]], dtype=float32)
    """
    return np.matmul(*as_factors(a, b))


@matmul.check
def _(a, b):
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: arguments have shapes {a.shape} and {b.shape}; single numbers are multiplied with *")
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        expected = b.shape[-2 if b.ndim > 1 else 0]
        raise ValueError(f"matmul: the last axis of a, shape {a.shape}, has length {a.shape[-1]}; b, shape {b.shape}, expects {expected}")
    if a.ndim > 2 and b.ndim > 2:
        checks.batch("matmul", a=a, b=b)


def _gradient_of_a(g, _y, _a, b):
    if b.ndim == 1:  # y = sum_k a[..., k] b[k]
        return expand_dims(g, -1) * b
    if len(_a.shape) == 1:
        return _added_up(reshape(matmul(b, expand_dims(g, -1)), shape=b.shape[:-1]), _a.shape)
    return _added_up(matmul(g, swapaxes(b)), _a.shape)


def _gradient_of_b(g, _y, a, _b):
    if a.ndim == 1:
        if len(_b.shape) == 1:
            return expand_dims(g, -1) * a
        return _added_up(expand_dims(a, -1) * expand_dims(g, -2), _b.shape)
    if len(_b.shape) == 1:
        return _added_up(reshape(matmul(swapaxes(a), expand_dims(g, -1)), shape=(*a.shape[:-2], a.shape[-1])), _b.shape)
    return _added_up(matmul(swapaxes(a), g), _b.shape)


def _added_up(g, shape):
    """A gradient summed over the batches to which the factor was broadcast."""
    return g if g.shape == shape else sum_to(g, shape=shape)


matmul.derivatives(_gradient_of_a, _gradient_of_b)


ACTIVATIONS = (None, "relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu")


@fused(floats="x weight bias")
def linear(x, weight, bias=None, *, activation=None):
    """y = activation(x W + b): x (..., in), weight (in, out), bias (out,)

    activation: None, "relu", "tanh", "sigmoid", "gelu" (its tanh form), "silu" or "leaky_relu" (slope 0.2)

    >>> linear([[1.0, 2.0]], [[3.0], [4.0]], [0.5])
    array([[11.5]], dtype=float32)
    """
    y = matmul(x, weight)
    if bias is not None:
        y = y + bias
    return activate(y, activation)


def activate(x, activation):
    """The activation of that name."""
    if activation is None:
        return x
    if activation == "gelu":
        return activations.gelu(x, approximate="tanh")
    if activation == "leaky_relu":
        return activations.leaky_relu(x, slope=0.2)
    return getattr(activations, activation)(x)


@linear.check
def _(x, weight, bias, *, activation):
    if weight.ndim != 2:
        raise ValueError(f"linear: weight has shape {weight.shape}; it is (in, out)")
    if x.ndim == 0 or x.shape[-1] != weight.shape[0]:
        raise ValueError(f"linear: weight expects {weight.shape[0]} features in, x has {x.shape[-1] if x.ndim else 'none'} (shape {x.shape})")
    if bias is not None and bias.shape != weight.shape[1:]:
        raise ValueError(f"linear: bias has shape {bias.shape}; weight has {weight.shape[1]} features out")
    checks.one_of("linear: activation", activation, ACTIVATIONS)


@primitive
def embedding(weight, ids):
    """y = weight[ids]: weight (symbols, width), ids integers of any shape -> (*ids.shape, width)

    Raises ValueError, or IndexError, for ids that aren't integers from 0 to symbols - 1.

    >>> embedding([[0.0, 1.0], [2.0, 3.0]], [1, 0, 1])
    array([[2., 3.],
           [0., 1.],
           [2., 3.]], dtype=float32)
    """
    return weight[np.asarray(ids)]


embedding.derivatives(lambda g, _y, _weight, ids: embedding_adjoint(g, ids, symbols=_weight.shape[0]), None)


@primitive
def embedding_adjoint(g, ids, *, symbols):
    """The rows of g added up at their ids: (symbols, width)"""
    out = np.zeros((symbols, g.shape[-1]), g.dtype)
    np.add.at(out, np.reshape(ids, -1), g.reshape(np.size(ids), g.shape[-1]))
    return out


embedding_adjoint.derivatives(lambda g, _y, _g, ids, *, symbols: embedding(g, ids), None)


@embedding_adjoint.check
def _(g, ids, *, symbols):
    checks.integer("embedding_adjoint: symbols", symbols, 0)
    if g.ndim == 0 or g.shape[:-1] != ids.shape:
        raise ValueError(f"embedding_adjoint: g has shape {g.shape}, ids {ids.shape}; g has one row more for each id, (*ids.shape, width)")
    checks.indices("embedding_adjoint: ids", ids, symbols, f"there are {symbols} symbols")


@embedding.check
def _(weight, ids):
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight has shape {weight.shape}; it is (symbols, width)")
    checks.indices("embedding: ids", ids, len(weight), f"weight has {len(weight)} rows")
