"""Scaled dot-product attention."""

from __future__ import annotations

import builtins
import math
import sys

import numpy as np

from ..operation import broadcasts, fused
from . import checks
from .activation import softmax
from .arithmetic import values_of, where
from .linear import matmul
from .precision import in_float32
from .shaping import swapaxes


@fused(floats="query key value")
def scaled_dot_product_attention(query, key, value, mask=None, *, is_causal=False, scale=None):
    """y = softmax(q k^T / sqrt(width)) v (Vaswani et al. 2017, eq. 1)

    Why the root: of independent q_i and k_i with mean 0 and variance 1, the product q k^T = sum q_i k_i has variance `width`.  Scores
    that large put the softmax where it is nearly 0 or 1 and its gradient vanishes; divided by the root, their variance is 1 at any width.

    query (..., queries, width), key (..., keys, width), value (..., keys, features)
    mask: bool, True where a query may look, or numbers that are added to the scores; broadcast to (..., queries, keys)
    is_causal: query i looks at keys 0 .. i + keys - queries only: with a cache, the last query looks at every key
    A query that may look at no key at all gets 0, and sends no gradient to anything.

    >>> x = np.eye(3, dtype=np.float32)[None]  # (1, 3, 3): three positions of width 3
    >>> scaled_dot_product_attention(x, x, x, is_causal=True).round(2)
    array([[[1.  , 0.  , 0.  ],
            [0.36, 0.64, 0.  ],
            [0.26, 0.26, 0.47]]], dtype=float32)
    """
    scores = in_float32(matmul, query, swapaxes(key)) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        scores = where(causal_mask(query.shape[-2], key.shape[-2]), scores, -np.inf)
    if mask is not None:
        scores = where(mask, scores, -np.inf) if mask.dtype == bool else where(mask == -np.inf, -np.inf, scores + mask)
    return in_float32(matmul, softmax_or_zeros(scores), value)


def softmax_or_zeros(scores):
    """softmax over the last axis; a row that is -inf throughout, for a query that may look at nothing, becomes 0, and so does its gradient."""
    nothing = np.all(values_of(scores) == -np.inf, axis=-1, keepdims=True)
    if not nothing.any():
        return softmax(scores)
    return where(nothing, 0.0, softmax(where(nothing, 0.0, scores)))


def causal_mask(queries: int, keys: int) -> np.ndarray:
    """(queries, keys) bool: which keys each query may look at."""
    queries, keys = checks.integer("causal_mask: queries", queries, 0), checks.integer("causal_mask: keys", keys, 0)
    if builtins.max(queries, keys, queries * keys) > sys.maxsize:
        raise ValueError(f"causal_mask: queries is {queries}, keys {keys}; an array has at most {sys.maxsize} entries")
    if queries == 0:  # np.tri would make a row of all keys
        return np.zeros((queries, keys), bool)
    return np.tri(queries, keys, keys - queries, dtype=bool)


@scaled_dot_product_attention.check
def _(query, key, value, mask, *, is_causal, scale):
    name = "scaled_dot_product_attention"
    if builtins.min(query.ndim, key.ndim, value.ndim) < 2 or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ValueError(f"{name}: query {query.shape}, key {key.shape}, value {value.shape}; "
                         "they are (..., queries, width), (..., keys, width), (..., keys, features)")
    checks.flag(f"{name}: is_causal", is_causal)
    if scale is not None:
        checks.number(f"{name}: scale", scale)
    elif query.shape[-1] == 0:
        raise ValueError(f"{name}: query has shape {query.shape}, whose width is 0")
    queries, keys = query.shape[-2], key.shape[-2]
    if is_causal and queries > keys:
        raise ValueError(f"{name}: is_causal with {queries} queries but only {keys} keys")
    batch = checks.batch(name, query=query, key=key, value=value)
    if mask is not None:
        if mask.dtype.kind not in "fb":
            raise TypeError(f"{name}: mask has dtype {mask.dtype}; it is bool, or floats that are added to the scores")
        if not broadcasts(mask.shape, (*batch, queries, keys)):
            raise ValueError(f"{name}: mask has shape {mask.shape}, the scores {(*batch, queries, keys)}")
