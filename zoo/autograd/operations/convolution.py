"""Convolution, pooling, upsampling.  Channels last: x (batch, height, width, channels), weight (kernel height, kernel width, in, out).

`conv2d`, `conv2d_input` and `conv2d_weight` are each other's derivatives, so they are closed under differentiation:
y is linear in x and in the weight, and the adjoint of each of the three in one argument is another of the three.

stride, padding and dilation are an int or two (height, width).  With groups, the channels of x and y are cut into that many parts, and
part i of y sees part i of x only: weight is (kernel height, kernel width, in / groups, out).
"""

from __future__ import annotations

import builtins

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..operation import fused, primitive
from . import checks
from .arithmetic import max, mean, sum
from .checks import pair
from .indexing import pad
from .shaping import reshape, transpose


def _extent(kernel, dilation) -> tuple[int, int]:
    """Pixels from a kernel's first tap to its last, both included."""
    return (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1


def _windows(x, kernel, stride, padding, dilation):
    """(batch, out height, out width, channels, kernel height, kernel width), a view of the padded x."""
    ph, pw = padding
    padded = np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0))) if ph or pw else x
    windows = sliding_window_view(padded, _extent(kernel, dilation), axis=(1, 2))
    return windows[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]


def _spread(columns, shape, stride, padding, dilation):
    """The adjoint of _windows: each window's entries added back to where they were read; shape is x's."""
    n, oh, ow, _, kh, kw = columns.shape
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    out = np.zeros((shape[0], shape[1] + 2 * ph, shape[2] + 2 * pw, shape[3]), columns.dtype)
    for i in range(kh):
        for j in range(kw):
            out[:, i * dh : i * dh + sh * oh : sh, j * dw : j * dw + sw * ow : sw] += columns[..., i, j]
    return out[:, ph : ph + shape[1], pw : pw + shape[2]]


def _in_groups(a, axis, groups):
    """The channels on an axis as (groups, channels of a group)."""
    axis %= a.ndim
    return a.reshape((*a.shape[:axis], groups, a.shape[axis] // groups, *a.shape[axis + 1 :]))


@primitive(floats="x weight bias")
def conv2d(x, weight, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """y[n,i,j,o] = sum over a, b, c of x[n, i stride + a dilation - padding, j stride + b dilation - padding, c] weight[a,b,c,o] + bias[o]

    In float32 a 3 x 3 kernel of stride 1 may run as Winograd's convolution, which takes differences of neighbouring tiles: an error of
    up to 2e-5 of the largest entry of x within 5 pixels, and an infinite or NaN entry reaches pixels up to 5 away.

    >>> x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    >>> edges = np.array([[-1, 1]], np.float32).reshape(1, 2, 1, 1)  # the difference of neighbours
    >>> conv2d(x, edges)[0, ..., 0]
    array([[1., 1.],
           [1., 1.],
           [1., 1.]], dtype=float32)
    """
    stride, padding, dilation = pair(stride, "stride"), pair(padding, "padding"), pair(dilation, "dilation")
    windows = _windows(x, weight.shape[:2], stride, padding, dilation)
    if groups == 1:
        y = np.einsum("nijcab,abco->nijo", windows, weight, optimize=True)
    else:
        y = np.einsum("nijgcab,abcgo->nijgo", _in_groups(windows, 3, groups), _in_groups(weight, 3, groups), optimize=True)
        y = y.reshape((*windows.shape[:3], weight.shape[3]))
    return y if bias is None else y + bias


conv2d.derivatives(
    lambda g, _y, _x, weight, _b, **settings: conv2d_input(g, weight, shape=_x.shape, **settings),
    lambda g, _y, x, _w, _b, **settings: conv2d_weight(x, g, shape=_w.shape, **settings),
    lambda g, _y, _x, _w, _b, **_settings: sum(g, axis=(0, 1, 2)),
)


@conv2d.check
def _(x, weight, bias, *, stride, padding, dilation, groups):
    _check_image("conv2d", x, weight)
    _check_groups("conv2d", x.shape[3], weight, groups)
    if bias is not None and bias.shape != weight.shape[3:]:
        raise ValueError(f"conv2d: bias has shape {bias.shape}; weight has {weight.shape[3]} output channels")
    output_shape("conv2d", x.shape, weight.shape, stride, padding, dilation)


def _check_image(name, x, weight):
    if x.ndim != 4:
        raise ValueError(f"{name}: x has shape {x.shape}; it is (batch, height, width, channels)")
    if weight.ndim != 4 or builtins.min(weight.shape) < 1:
        raise ValueError(f"{name}: weight has shape {weight.shape}; it is (kernel height, kernel width, in, out)")


def _check_groups(name, channels, weight, groups):
    checks.integer(f"{name}: groups", groups, 1)
    if channels % groups or weight.shape[3] % groups:
        raise ValueError(f"{name}: groups is {groups}; it must divide the channels, {channels} in and {weight.shape[3]} out")
    if channels != weight.shape[2] * groups:
        of_groups = f" in each of {groups} groups" if groups > 1 else ""
        raise ValueError(f"{name}: weight expects {weight.shape[2]} input channels{of_groups}, x has {channels}")


def output_shape(name, shape, weight_shape, stride, padding, dilation=1) -> tuple[int, int, int, int]:
    """The shape of a convolution's result, after a check of its settings."""
    steps, around = pair(stride, f"{name}: stride", 1), pair(padding, f"{name}: padding", 0)
    extent = _extent(weight_shape, pair(dilation, f"{name}: dilation", 1))
    for axis in (0, 1):
        if shape[1 + axis] + 2 * around[axis] < extent[axis]:
            raise ValueError(f"{name}: a kernel of {extent[axis]} doesn't fit into {shape[1 + axis]} + 2 x {around[axis]} of padding "
                             f"(axis {1 + axis} of x, shape {tuple(shape)})")
    height, width = ((shape[1 + axis] + 2 * around[axis] - extent[axis]) // steps[axis] + 1 for axis in (0, 1))
    return shape[0], height, width, weight_shape[3]


def _check_adjoint(name, g, x_shape, weight_shape, stride, padding, dilation, groups):
    """g has to have the shape of a convolution of an x with a weight of these shapes."""
    x_shape, weight_shape = checks.shape(f"{name}: shape of x", x_shape), checks.shape(f"{name}: shape of weight", weight_shape)
    if len(x_shape) != 4 or len(weight_shape) != 4 or builtins.min(weight_shape) < 1:
        raise ValueError(f"{name}: x is {x_shape}, weight {weight_shape}; they are (batch, height, width, channels) and "
                         "(kernel height, kernel width, in, out)")
    checks.integer(f"{name}: groups", groups, 1)
    if x_shape[3] != weight_shape[2] * groups or weight_shape[3] % groups:
        raise ValueError(f"{name}: weight {weight_shape} expects {weight_shape[2]} input channels in each of {groups} groups, x is {x_shape}")
    expected = output_shape(name, x_shape, weight_shape, stride, padding, dilation)
    if g.shape != expected:
        raise ValueError(f"{name}: g has shape {g.shape}; a convolution of x {x_shape} with weight {weight_shape} gives {expected}")


@primitive(floats="g weight")
def conv2d_input(g, weight, *, shape, stride=1, padding=0, dilation=1, groups=1):
    """The adjoint of conv2d in x: g (batch, out height, out width, out) -> x's shape"""
    stride, padding, dilation = pair(stride, "stride"), pair(padding, "padding"), pair(dilation, "dilation")
    if groups == 1:
        columns = np.einsum("nijo,abco->nijcab", g, weight, optimize=True)
    else:
        columns = np.einsum("nijgo,abcgo->nijgcab", _in_groups(g, 3, groups), _in_groups(weight, 3, groups), optimize=True)
        columns = columns.reshape((*g.shape[:3], shape[3], *weight.shape[:2]))
    return _spread(columns, shape, stride, padding, dilation)


conv2d_input.derivatives(
    lambda g, _y, _g, weight, *, shape, **settings: conv2d(g, weight, **settings),
    lambda g, _y, x, _w, *, shape, **settings: conv2d_weight(g, x, shape=_w.shape, **settings),
)


@conv2d_input.check
def _(g, weight, *, shape, stride, padding, dilation, groups):
    _check_adjoint("conv2d_input", g, shape, weight.shape, stride, padding, dilation, groups)


@primitive(floats="x g")
def conv2d_weight(x, g, *, shape, stride=1, padding=0, dilation=1, groups=1):
    """The adjoint of conv2d in the weight, whose shape is given"""
    stride, padding, dilation = pair(stride, "stride"), pair(padding, "padding"), pair(dilation, "dilation")
    windows = _windows(x, shape[:2], stride, padding, dilation)
    if groups == 1:
        return np.einsum("nijcab,nijo->abco", windows, g, optimize=True)
    return np.einsum("nijgcab,nijgo->abcgo", _in_groups(windows, 3, groups), _in_groups(g, 3, groups), optimize=True).reshape(shape)


conv2d_weight.derivatives(
    lambda g, _y, _x, w, *, shape, **settings: conv2d_input(w, g, shape=_x.shape, **settings),
    lambda g, _y, x, _w, *, shape, **settings: conv2d(x, g, **settings),
)


@conv2d_weight.check
def _(x, g, *, shape, stride, padding, dilation, groups):
    _check_adjoint("conv2d_weight", g, x.shape, shape, stride, padding, dilation, groups)


@fused(floats="x weight bias")
def conv_transpose2d(x, weight, bias=None, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """The adjoint of a convolution, which grows an image, plus bias: x (batch, height, width, in), weight (kernel height, width, in, out)

    Height becomes (height - 1) stride - 2 padding + (kernel - 1) dilation + 1 + output_padding.  With groups, weight has out / groups last.

    >>> conv_transpose2d(np.ones((1, 2, 2, 1), np.float32), np.ones((2, 2, 1, 1), np.float32), stride=2).shape
    (1, 4, 4, 1)
    """
    shape = _transposed_shape(x.shape, weight.shape, stride, padding, output_padding, dilation, groups)
    flipped = transpose(weight, axes=(0, 1, 3, 2))
    y = conv2d_input(x, flipped, shape=shape, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return y if bias is None else y + bias


def _transposed_shape(shape, weight_shape, stride, padding, output_padding, dilation, groups):
    name = "conv_transpose2d"
    steps, around = pair(stride, f"{name}: stride", 1), pair(padding, f"{name}: padding", 0)
    extra, extent = pair(output_padding, f"{name}: output_padding", 0), _extent(weight_shape, pair(dilation, f"{name}: dilation", 1))
    if any(e >= s for e, s in zip(extra, steps)):
        raise ValueError(f"{name}: output_padding is {output_padding}; it goes from 0 up to but not including the stride {stride}")
    height, width = ((shape[1 + i] - 1) * steps[i] - 2 * around[i] + extent[i] + extra[i] for i in (0, 1))
    if builtins.min(height, width) < 1:
        raise ValueError(f"{name}: the result would have {height} x {width} pixels; x has shape {shape}, padding is {padding}")
    return shape[0], height, width, weight_shape[3] * groups


@conv_transpose2d.check
def _(x, weight, bias, *, stride, padding, output_padding, dilation, groups):
    _check_image("conv_transpose2d", x, weight)
    checks.integer("conv_transpose2d: groups", groups, 1)
    if x.shape[3] != weight.shape[2] or x.shape[3] % groups:
        raise ValueError(f"conv_transpose2d: weight expects {weight.shape[2]} input channels in {groups} groups, x has {x.shape[3]} "
                         f"(shape {x.shape})")
    out = _transposed_shape(x.shape, weight.shape, stride, padding, output_padding, dilation, groups)[3]
    if bias is not None and bias.shape != (out,):
        raise ValueError(f"conv_transpose2d: bias has shape {bias.shape}; there are {out} output channels")


@primitive
def windows(x, *, kernel, stride=1, dilation=1):
    """Every window of x: (batch, out height, out width, channels, kernel height, kernel width)"""
    settings = pair(kernel, "kernel"), pair(stride, "stride"), (0, 0), pair(dilation, "dilation")
    return np.ascontiguousarray(_windows(x, *settings))


windows.derivatives(lambda g, _y, _x, *, kernel, **settings: windows_adjoint(g, shape=_x.shape, **settings))


@primitive
def windows_adjoint(g, *, shape, stride=1, dilation=1):
    """Each window's entries added back to where they were read"""
    return _spread(g, shape, pair(stride, "stride"), (0, 0), pair(dilation, "dilation"))


windows_adjoint.derivatives(lambda g, _y, _g, *, shape, **settings: windows(g, kernel=_g.shape[-2:], **settings))


@windows.check
def _(x, *, kernel, stride, dilation):
    _check_windows("windows", x, kernel, stride, dilation)


@windows_adjoint.check
def _(g, *, shape, stride, dilation):
    x_shape = checks.shape("windows_adjoint: shape", shape)
    if g.ndim != 6 or len(x_shape) != 4 or builtins.min(g.shape[4:]) < 1:
        raise ValueError(f"windows_adjoint: g has shape {g.shape}, x {x_shape}; they are (batch, out height, out width, channels, kernel height, "
                         "kernel width) and (batch, height, width, channels)")
    n, height, width, _ = output_shape("windows_adjoint", x_shape, (*g.shape[4:], 1, 1), stride, 0, dilation)
    if g.shape[:4] != (n, height, width, x_shape[3]):
        raise ValueError(f"windows_adjoint: g has shape {g.shape}; windows of x {x_shape} begin with {(n, height, width, x_shape[3])}")


def _check_windows(name, x, kernel, stride, dilation=1, padding=0):
    if x.ndim != 4:
        raise ValueError(f"{name}: x has shape {x.shape}; it is (batch, height, width, channels)")
    size, around = pair(kernel, f"{name}: kernel", 1), pair(padding, f"{name}: padding", 0)
    if any(2 * p > k for p, k in zip(around, size)):
        raise ValueError(f"{name}: padding is {padding}; it is at most half of the kernel, {kernel}, or windows would hold nothing else")
    pair(kernel if stride is None else stride, f"{name}: stride", 1)
    extent = _extent(size, pair(dilation, f"{name}: dilation", 1))
    if any(e > n + 2 * p for e, n, p in zip(extent, x.shape[1:3], around)):
        raise ValueError(f"{name}: kernel is {kernel}; it must fit into x, shape {x.shape}")


def _pool_windows(x, kernel, stride, padding, dilation, value):
    around = pair(padding, "padding")
    if any(around):
        x = pad(x, widths=((0, 0), (around[0], around[0]), (around[1], around[1]), (0, 0)), value=value)
    return windows(x, kernel=kernel, stride=kernel if stride is None else stride, dilation=dilation)


@fused
def max_pool2d(x, *, kernel, stride=None, padding=0, dilation=1):
    """The greatest entry of each window, channel by channel; stride is the kernel's size unless given; what is padded is never the greatest

    >>> max_pool2d(np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1), kernel=2)[0, ..., 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    least = -np.inf if x.dtype.kind == "f" else False if x.dtype.kind == "b" else np.iinfo(x.dtype).min
    return max(_pool_windows(x, kernel, stride, padding, dilation, least), axis=(-2, -1))


@fused(floats="x")
def avg_pool2d(x, *, kernel, stride=None, padding=0, count_include_pad=True):
    """The mean of each window, channel by channel; stride is the kernel's size unless given

    count_include_pad: the zeros of the padding count as entries; otherwise a window's mean is that of the pixels in it.

    >>> avg_pool2d(np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1), kernel=2)[0, ..., 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """
    sums = _pool_windows(x, kernel, stride, padding, 1, 0.0)
    if count_include_pad or not any(pair(padding, "padding")):
        return mean(sums, axis=(-2, -1))
    pixels = _pool_windows(np.ones((1, *x.shape[1:3], 1), x.dtype), kernel, stride, padding, 1, 0.0)
    return sum(sums, axis=(-2, -1)) / np.sum(pixels, axis=(-2, -1))


@max_pool2d.check
def _(x, *, kernel, stride, padding, dilation):
    _check_windows("max_pool2d", x, kernel, stride, dilation, padding)


@avg_pool2d.check
def _(x, *, kernel, stride, padding, count_include_pad):
    _check_windows("avg_pool2d", x, kernel, stride, 1, padding)
    checks.flag("avg_pool2d: count_include_pad", count_include_pad)


@primitive
def upsample(x, *, scale=2):
    """Each pixel repeated scale x scale times (nearest neighbour); scale: an int, or two (height, width)

    >>> upsample(np.array([[1.0, 2.0]], np.float32).reshape(1, 1, 2, 1), scale=2)[0, ..., 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.]], dtype=float32)
    """
    height, width = pair(scale, "scale")
    return x.repeat(height, axis=1).repeat(width, axis=2)


@upsample.derivatives
def _(g, _y, _x, *, scale):
    (n, h, w, c), (height, width) = _x.shape, pair(scale, "scale")
    return sum(reshape(g, shape=(n, h, height, w, width, c)), axis=(2, 4))


@upsample.check
def _(x, *, scale):
    if x.ndim != 4:
        raise ValueError(f"upsample: x has shape {x.shape}; it is (batch, height, width, channels)")
    pair(scale, "upsample: scale", 1)
