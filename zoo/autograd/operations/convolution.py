"""Convolution, pooling, upsampling.  Channels last: x (batch, height, width, channels), weight (kernel height, kernel width, in, out).

`conv2d`, `conv2d_input` and `conv2d_weight` are each other's derivatives, so they are closed under differentiation:
y is linear in x and in the weight, and the adjoint of each of the three in one argument is another of the three.
"""

from __future__ import annotations

import builtins

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..operation import fused, primitive
from .arithmetic import max, mean, sum
from .shaping import reshape, transpose


def pair(value, name: str) -> tuple[int, int]:
    """An int or two ints as two ints."""
    if type(value) is int:
        return value, value
    two = (value, value) if isinstance(value, np.integer) else tuple(value)
    if len(two) != 2 or not all(isinstance(v, (int, np.integer)) for v in two):
        raise ValueError(f"{name} is {value!r}; it is an int or two ints")
    return int(two[0]), int(two[1])


def _padded(x, padding):
    (ph, pw) = padding
    return np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0))) if ph or pw else x


def _windows(x, kernel, stride, padding):
    """(batch, out height, out width, channels, kernel height, kernel width), a view of the padded x."""
    return sliding_window_view(_padded(x, padding), kernel, axis=(1, 2))[:, :: stride[0], :: stride[1]]


def _spread(columns, shape, stride, padding):
    """The adjoint of _windows: each window's entries added back to where they were read; shape is x's."""
    n, oh, ow, _, kh, kw = columns.shape
    (sh, sw), (ph, pw) = stride, padding
    out = np.zeros((shape[0], shape[1] + 2 * ph, shape[2] + 2 * pw, shape[3]), columns.dtype)
    for i in range(kh):
        for j in range(kw):
            out[:, i : i + sh * oh : sh, j : j + sw * ow : sw] += columns[..., i, j]
    return out[:, ph : ph + shape[1], pw : pw + shape[2]]


@primitive
def conv2d(x, weight, bias=None, *, stride=1, padding=0):
    """y[n,i,j,o] = sum over a, b, c of x[n, i stride + a - padding, j stride + b - padding, c] weight[a,b,c,o] + bias[o]"""
    stride, padding = pair(stride, "stride"), pair(padding, "padding")
    y = np.einsum("nijcab,abco->nijo", _windows(x, weight.shape[:2], stride, padding), weight, optimize=True)
    return y if bias is None else y + bias


conv2d.derivatives(
    lambda g, _y, _x, weight, _b, *, stride, padding: conv2d_input(g, weight, shape=_x.shape, stride=stride, padding=padding),
    lambda g, _y, x, _w, _b, *, stride, padding: conv2d_weight(x, g, shape=_w.shape, stride=stride, padding=padding),
    lambda g, _y, _x, _w, _b, *, stride, padding: sum(g, axis=(0, 1, 2)),
)


@primitive
def conv2d_input(g, weight, *, shape, stride=1, padding=0):
    """The adjoint of conv2d in x: g (batch, out height, out width, out) -> x's shape"""
    stride, padding = pair(stride, "stride"), pair(padding, "padding")
    return _spread(np.einsum("nijo,abco->nijcab", g, weight, optimize=True), shape, stride, padding)


conv2d_input.derivatives(
    lambda g, _y, _g, weight, *, shape, stride, padding: conv2d(g, weight, stride=stride, padding=padding),
    lambda g, _y, x, _w, *, shape, stride, padding: conv2d_weight(g, x, shape=_w.shape, stride=stride, padding=padding),
)


@primitive
def conv2d_weight(x, g, *, shape, stride=1, padding=0):
    """The adjoint of conv2d in the weight, whose shape is given"""
    stride, padding = pair(stride, "stride"), pair(padding, "padding")
    windows = _windows(x, shape[:2], stride, padding)[:, : g.shape[1], : g.shape[2]]
    return np.einsum("nijcab,nijo->abco", windows, g, optimize=True)


conv2d_weight.derivatives(
    lambda g, _y, _x, w, *, shape, stride, padding: conv2d_input(w, g, shape=_x.shape, stride=stride, padding=padding),
    lambda g, _y, x, _w, *, shape, stride, padding: conv2d(x, g, stride=stride, padding=padding),
)


@conv2d.check
def _(x, weight, bias, *, stride, padding):
    _check_image("conv2d", x, weight)
    if bias is not None and bias.shape != weight.shape[3:]:
        raise ValueError(f"conv2d: bias has shape {bias.shape}; weight has {weight.shape[3]} output channels")
    (sh, sw), (ph, pw) = _check_steps("conv2d", stride, padding)
    if x.shape[3] != weight.shape[2]:
        raise ValueError(f"conv2d: weight expects {weight.shape[2]} input channels, x has {x.shape[3]} (shape {x.shape})")
    for axis, size, k, p in ((1, x.shape[1], weight.shape[0], ph), (2, x.shape[2], weight.shape[1], pw)):
        if size + 2 * p < k:
            raise ValueError(f"conv2d: a kernel of {k} doesn't fit into {size} + 2 x {p} of padding (axis {axis} of x, shape {x.shape})")


def _check_image(name, x, weight):
    if x.ndim != 4:
        raise ValueError(f"{name}: x has shape {x.shape}; it is (batch, height, width, channels)")
    if weight.ndim != 4:
        raise ValueError(f"{name}: weight has shape {weight.shape}; it is (kernel height, kernel width, in, out)")


def _check_steps(name, stride, padding):
    steps, around = pair(stride, f"{name}: stride"), pair(padding, f"{name}: padding")
    if builtins.min(steps) < 1 or builtins.min(around) < 0:
        raise ValueError(f"{name}: stride is {stride}, padding {padding}; strides are at least 1, paddings at least 0")
    return steps, around


@fused
def conv_transpose2d(x, weight, *, stride=1, padding=0, output_padding=0):
    """The adjoint of a convolution, which grows an image: x (batch, height, width, in), weight (kernel height, kernel width, in, out)

    Height becomes (height - 1) stride - 2 padding + kernel + output_padding.
    """
    (sh, sw), (ph, pw), (eh, ew) = pair(stride, "stride"), pair(padding, "padding"), pair(output_padding, "output_padding")
    kh, kw, _, out = weight.shape
    height = (x.shape[1] - 1) * sh - 2 * ph + kh + eh
    width = (x.shape[2] - 1) * sw - 2 * pw + kw + ew
    return conv2d_input(x, transpose(weight, axes=(0, 1, 3, 2)), shape=(x.shape[0], height, width, out), stride=stride, padding=padding)


@conv_transpose2d.check
def _(x, weight, *, stride, padding, output_padding):
    _check_image("conv_transpose2d", x, weight)
    steps, _ = _check_steps("conv_transpose2d", stride, padding)
    extra = pair(output_padding, "conv_transpose2d: output_padding")
    if x.shape[3] != weight.shape[2]:
        raise ValueError(f"conv_transpose2d: weight expects {weight.shape[2]} input channels, x has {x.shape[3]} (shape {x.shape})")
    if any(not 0 <= e < s for e, s in zip(extra, steps)):
        raise ValueError(f"conv_transpose2d: output_padding is {output_padding}; it goes from 0 up to but not including the stride {stride}")


@primitive
def windows(x, *, kernel, stride=1):
    """Every window of x: (batch, out height, out width, channels, kernel height, kernel width)"""
    return np.ascontiguousarray(_windows(x, pair(kernel, "kernel"), pair(stride, "stride"), (0, 0)))


windows.derivatives(lambda g, _y, _x, *, kernel, stride: windows_adjoint(g, shape=_x.shape, stride=stride))


@primitive
def windows_adjoint(g, *, shape, stride=1):
    """Each window's entries added back to where they were read"""
    return _spread(g, shape, pair(stride, "stride"), (0, 0))


windows_adjoint.derivatives(lambda g, _y, _g, *, shape, stride: windows(g, kernel=_g.shape[-2:], stride=stride))


@fused
def max_pool2d(x, *, kernel, stride=None):
    """The greatest entry of each window, channel by channel; stride is the kernel's size unless given"""
    return max(windows(x, kernel=kernel, stride=kernel if stride is None else stride), axis=(-2, -1))


@fused
def avg_pool2d(x, *, kernel, stride=None):
    """The mean of each window, channel by channel; stride is the kernel's size unless given"""
    return mean(windows(x, kernel=kernel, stride=kernel if stride is None else stride), axis=(-2, -1))


def _check_pool(name):
    def check(x, *, kernel, stride):
        if x.ndim != 4:
            raise ValueError(f"{name}: x has shape {x.shape}; it is (batch, height, width, channels)")
        k = pair(kernel, f"{name}: kernel")
        if k[0] > x.shape[1] or k[1] > x.shape[2] or builtins.min(k) < 1:
            raise ValueError(f"{name}: kernel is {kernel}; it must fit into x, shape {x.shape}")

    return check


max_pool2d.check(_check_pool("max_pool2d"))
avg_pool2d.check(_check_pool("avg_pool2d"))


@primitive
def upsample(x, *, scale=2):
    """Each pixel repeated scale x scale times (nearest neighbour)"""
    return x.repeat(scale, axis=1).repeat(scale, axis=2)


@upsample.derivatives
def _(g, _y, _x, *, scale):
    n, h, w, c = _x.shape
    return sum(reshape(g, shape=(n, h, scale, w, scale, c)), axis=(2, 4))
