"""Products of matrices: matmul, einsum, and the linear layer with its bias and activation in one pass; embedding."""

from __future__ import annotations

import numpy as np

from ..operation import fused, primitive
from . import activation as activations
from .arithmetic import broadcast_to
from .shaping import expand_dims, reshape, swapaxes


@primitive
def matmul(a, b):
    """y = a b over the last two axes, earlier axes broadcast; vectors as in NumPy"""
    return np.matmul(a, b)


@matmul.check
def _(a, b):
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        raise ValueError(f"matmul: arguments have shapes {np.shape(a)} and {np.shape(b)}; single numbers are multiplied with *")
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        expected = b.shape[-2 if b.ndim > 1 else 0]
        raise ValueError(f"matmul: the last axis of a, shape {a.shape}, has length {a.shape[-1]}; b, shape {b.shape}, expects {expected}")


def _gradient_of_a(g, _y, _a, b):
    if b.ndim == 1:  # y = sum_k a[..., k] b[k]
        return expand_dims(g, -1) * b
    if len(_a.shape) == 1:
        return reshape(matmul(b, expand_dims(g, -1)), shape=b.shape[:-1])
    return matmul(g, swapaxes(b))


def _gradient_of_b(g, _y, a, _b):
    if a.ndim == 1:
        if len(_b.shape) == 1:
            return expand_dims(g, -1) * a
        return expand_dims(a, -1) * expand_dims(g, -2)
    if len(_b.shape) == 1:
        return reshape(matmul(swapaxes(a), expand_dims(g, -1)), shape=(*a.shape[:-2], a.shape[-1]))
    return matmul(swapaxes(a), g)


matmul.derivatives(_gradient_of_a, _gradient_of_b)


def _einsum(*operands, subscripts):
    return np.einsum(subscripts, *operands, optimize=len(operands) > 2)


_einsum.__name__, _einsum.__doc__ = "einsum", "y = the sum of products that the subscripts name, as in NumPy"
_einsum_operation = primitive(_einsum)


def _einsum_rule(g, _y, i, *operands, subscripts):
    inputs, output = subscripts.split("->")
    inputs = inputs.split(",")
    others = [(s, o) for j, (s, o) in enumerate(zip(inputs, operands)) if j != i]
    known = set(output).union(*(s for s, _ in others))
    reach = "".join(c for c in inputs[i] if c in known)  # letters of this operand alone were summed: the gradient repeats along them
    y = einsum(",".join([output, *(s for s, _ in others)]) + "->" + reach, g, *(o for _, o in others))
    shape = operands[i].shape
    if reach != inputs[i]:
        y = reshape(y, shape=tuple(n if c in known else 1 for c, n in zip(inputs[i], shape)))
    return broadcast_to(y, shape=shape)


_einsum_operation.derivatives(_einsum_rule)


def einsum(subscripts: str, *operands):
    """NumPy's einsum: einsum("bij,bjk->bik", a, b).  Ellipses aren't taken; a letter may repeat within one operand."""
    plain = subscripts.replace(" ", "")
    if "." in plain:
        raise ValueError(f"einsum: subscripts are {subscripts!r}; name every axis with a letter, ellipses aren't taken")
    inputs, arrow, output = plain.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"einsum: subscripts {subscripts!r} name {len(terms)} operands, {len(operands)} were given")
    for term, operand in zip(terms, operands):
        if len(term) != operand.ndim:
            raise ValueError(f"einsum: {term!r} names {len(term)} axes, its operand has shape {operand.shape}")
    if not arrow:
        letters = inputs.replace(",", "")
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    spare = iter(c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in plain)
    new_terms, extra_terms, extra = [], [], []
    for term, operand in zip(terms, operands):  # 'ii' becomes 'ij' times the identity matrix 'ij'
        seen = ""
        for axis, c in enumerate(term):
            if c in seen:
                other = next(spare)
                extra_terms.append(c + other)
                extra.append(np.eye(operand.shape[axis], dtype=operand.dtype))
                c = other
            seen += c
        new_terms.append(seen)
    return _einsum_operation(*operands, *extra, subscripts=",".join(new_terms + extra_terms) + "->" + output)


ACTIVATIONS = (None, "relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu")


@fused
def linear(x, weight, bias=None, *, activation=None):
    """y = activation(x W + b): x (..., in), weight (in, out), bias (out,)

    activation: None, "relu", "tanh", "sigmoid", "gelu" (its tanh form), "silu" or "leaky_relu" (slope 0.2)
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
    if activation not in ACTIVATIONS:
        raise ValueError(f"linear: activation is {activation!r}; it may be one of {', '.join(map(str, ACTIVATIONS))}")


@primitive
def embedding(weight, ids):
    """y = weight[ids]: weight (symbols, width), ids integers of any shape -> (*ids.shape, width)"""
    return weight[ids]


embedding.derivatives(lambda g, _y, _weight, ids: embedding_adjoint(g, ids, symbols=_weight.shape[0]), None)


@primitive
def embedding_adjoint(g, ids, *, symbols):
    """The rows of g added up at their ids: (symbols, width)"""
    out = np.zeros((symbols, g.shape[-1]), g.dtype)
    np.add.at(out, ids.reshape(-1), g.reshape(-1, g.shape[-1]))
    return out


embedding_adjoint.derivatives(lambda g, _y, _g, ids, *, symbols: embedding(g, ids), None)


@embedding.check
def check_ids(weight, ids):
    if np.asarray(ids).dtype.kind not in "iu":
        raise TypeError(f"embedding: ids have dtype {np.asarray(ids).dtype}; they are integers")
    if np.size(ids) and not (0 <= np.min(ids) and np.max(ids) < weight.shape[0]):
        rows = weight.shape[0]
        raise IndexError(f"embedding: ids go from {np.min(ids)} to {np.max(ids)}; weight has {rows} rows, so they may go from 0 to {rows - 1}")
