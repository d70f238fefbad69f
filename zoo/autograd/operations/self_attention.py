"""Attention of a sequence to itself, from one product that holds queries, keys and values side by side.

Three slices of one array cost three arrays of its size in backward, each mostly zeros; this operation's backward writes one.
"""

from __future__ import annotations

import numpy as np

from ..operation import fused
from ..tensor import Tensor
from . import checks
from .arithmetic import broadcast_to
from .attention import scaled_dot_product_attention
from .joining import concatenate, split
from .shaping import reshape, swapaxes


@fused(floats="packed")
def self_attention(packed, *, heads, key_value_heads, rotation=None, is_causal=True):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2), keys and values shared by groups of heads (Ainslie et al. 2023)

    packed (batch, time, (heads + 2 key_value_heads) width): queries, keys, values -> (batch, time, heads width)
    rotation: cosines and sines, each (time, width / 2): queries and keys are turned by their positions
    is_causal: each looks at itself and at those before it; else at all
    """
    q, k, v = unpack(packed, heads, key_value_heads)
    if rotation is not None:
        q, k = rotate(q, *rotation), rotate(k, *rotation)
    return merge_heads(scaled_dot_product_attention(q, repeat_heads(k, heads), repeat_heads(v, heads), is_causal=is_causal))


@self_attention.check
def _(packed, *, heads, key_value_heads, rotation, is_causal):
    name = "self_attention"
    parts = checks.integer(f"{name}: heads", heads, 1) + 2 * checks.integer(f"{name}: key_value_heads", key_value_heads, 1)
    checks.flag(f"{name}: is_causal", is_causal)
    if packed.ndim != 3 or packed.shape[2] % parts or packed.shape[2] == 0:
        raise ValueError(f"{name}: packed has shape {packed.shape}; it is (batch, time, ({heads} + 2 * {key_value_heads}) width)")
    if heads % key_value_heads:
        raise ValueError(f"{name}: key_value_heads is {key_value_heads}; it must divide heads, {heads}")
    if rotation is None:
        return
    width = packed.shape[2] // parts
    if width % 2:
        raise ValueError(f"{name}: packed has shape {packed.shape}; with a rotation the width of a head, {width}, must be even")
    shapes = [np.shape(a) for a in rotation]
    if shapes != 2 * [(packed.shape[1], width // 2)]:
        raise ValueError(f"{name}: rotation has shapes {', '.join(map(str, shapes))}; it is two arrays of {(packed.shape[1], width // 2)}")
    if any(isinstance(a, Tensor) for a in rotation):
        raise TypeError(f"{name}: rotation is given as tensors; it is constant, two arrays")


def unpack(packed, heads: int, key_value_heads: int) -> list:
    """(batch, time, ...) -> queries (batch, heads, time, width), keys and values (batch, key_value_heads, time, width)."""
    b, t, n = checks.layout("unpack: packed", packed, "(batch, time, (heads + 2 key_value_heads) width)")
    parts = checks.integer("unpack: heads", heads, 1) + 2 * checks.integer("unpack: key_value_heads", key_value_heads, 1)
    if n % parts:
        raise ValueError(f"unpack: packed has shape {packed.shape}; its last axis holds {parts} parts of equal width")
    d = n // parts
    counts = (heads, key_value_heads, key_value_heads)
    slices = split(packed, [heads * d, (heads + key_value_heads) * d], axis=-1)
    return [swapaxes(reshape(z, shape=(b, t, count, d)), axis1=1, axis2=2) for z, count in zip(slices, counts)]


def merge_heads(y):
    """(batch, heads, time, width) -> (batch, time, heads width)."""
    b, h, t, d = checks.layout("merge_heads: y", y, "(batch, heads, time, width)")
    return reshape(swapaxes(y, axis1=1, axis2=2), shape=(b, t, h * d))


def rotate(x, cosine: np.ndarray, sine: np.ndarray):
    """Rotary positions (Su et al. 2021): each pair (x_i, x_{i + width/2}) is turned by its position's angle.

    x (..., time, width); cosine, sine (time, width / 2).  The product of a query and a key then depends on their distance alone.
    """
    of_x, *of_angles = (checks.array(f"rotate: {name}", a).shape for name, a in (("x", x), ("cosine", cosine), ("sine", sine)))
    if not isinstance(x, (np.ndarray, Tensor)) or len(of_x) < 2 or of_angles != 2 * [(of_x[-2], of_x[-1] / 2)]:
        raise ValueError(f"rotate: x has shape {of_x}, cosine {of_angles[0]}, sine {of_angles[1]}; they are (..., time, width) "
                         "and twice (time, width / 2), of an even width")
    if isinstance(cosine, Tensor) or isinstance(sine, Tensor):
        raise TypeError("rotate: cosine and sine are given as tensors; they are constant, two arrays")
    a, b = split(x, 2, axis=-1)
    cosine, sine = np.asarray(cosine, x.dtype), np.asarray(sine, x.dtype)
    return concatenate([a * cosine - b * sine, b * cosine + a * sine], axis=-1)


def repeat_heads(x, heads: int):
    """(batch, fewer, time, width) -> (batch, heads, time, width): each several times in a row."""
    b, h, t, d = checks.layout("repeat_heads: x", x, "(batch, fewer heads, time, width)")
    if h == checks.integer("repeat_heads: heads", heads, 1):
        return x
    if h == 0 or heads % h:
        raise ValueError(f"repeat_heads: heads is {heads}; it must be a multiple of the {h} heads of x")
    return reshape(broadcast_to(reshape(x, shape=(b, h, 1, t, d)), shape=(b, h, heads // h, t, d)), shape=(b, heads, t, d))
