"""ONNX's operator cases, of those operators that the zoo's operations cover: the same values.

    pip install onnx
    python tests/onnx_cases.py [--show]          # counts; --show names the cases that aren't covered, and why

The cases are onnx.backend.test.case.node's, each one operator with its arguments and result.  `ADAPTERS` says how an operator is written in
operations of the zoo; an adapter raises `NotCovered` for a setting that the zoo hasn't.  `DELIBERATE` holds the cases in which the zoo means
something else, with the reason; one that agrees after all is reported too.
"""

from __future__ import annotations

import argparse
import collections
import math
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import zoo.autograd as ops

DELIBERATE = {  # the beginning of a case's name: why the zoo's value is another one
    "div_int": "int / int is a float, as in NumPy",
    "div_uint": "int / int is a float, as in NumPy",
    "pow_types_float32_int64": "float32 ** int64 is float64, as in NumPy",
    "pow_types_float32_uint64": "float32 ** uint64 is float64, as in NumPy",
    "pow_types_float32_int32": "float32 ** int32 is float64, as in NumPy",
    "pow_types_float32_uint32": "float32 ** uint32 is float64, as in NumPy",
    "pow_types_int32_float32": "an integer to a floating power is a float, as in NumPy",
    "pow_types_int64_float32": "an integer to a floating power is a float, as in NumPy",
    "cumsum_2d_int32": "sums of int32 are int64, as in NumPy",
    "cumsum_1d_int32_exclusive": "sums of int32 are int64, as in NumPy",
    "reduce_max_empty_set": "the greatest of nothing raises, as in NumPy",
    "reduce_min_empty_set": "the least of nothing raises, as in NumPy",
    "reduce_log_sum_exp_empty_set": "logsumexp of nothing raises",
}
DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64,
          12: np.uint32, 13: np.uint64}  # of onnx.TensorProto.DataType


class NotCovered(Exception):
    """The zoo's operations haven't this setting."""


def need(condition: Any, what: str) -> None:
    if not condition:
        raise NotCovered(what)


ADAPTERS: dict[str, Callable] = {}


def adapter(*names: str) -> Callable:
    def register(function: Callable) -> Callable:
        for name in names:
            ADAPTERS[name] = function
        return function
    return register


# --- elementwise

for onnx_name, name in {
    "Abs": "abs", "Acos": "arccos", "Acosh": "arccosh", "Asin": "arcsin", "Asinh": "arcsinh", "Atan": "arctan", "Atanh": "arctanh", "Ceil": "ceil",
    "Cos": "cos", "Cosh": "cosh", "Erf": "erf", "Exp": "exp", "Floor": "floor", "Identity": "identity", "Log": "log", "Neg": "negative", "Relu": "relu",
    "Round": "round", "Sigmoid": "sigmoid", "Sign": "sign", "Sin": "sin", "Sinh": "sinh", "Softplus": "softplus", "Sqrt": "sqrt", "Tan": "tan",
    "Tanh": "tanh", "Not": "invert", "BitwiseNot": "invert", "Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Pow": "power",
    "And": "bitwise_and", "Or": "bitwise_or", "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or", "Equal": "equal", "Greater": "greater",
    "GreaterOrEqual": "greater_equal", "Less": "less", "LessOrEqual": "less_equal", "Xor": "not_equal", "Where": "where",
}.items():
    ADAPTERS[onnx_name] = lambda settings, *arrays, name=name: ops.REGISTRY[name](*arrays)


@adapter("Mod")
def _(settings, a, b):
    need(not settings.get("fmod", 0), "a remainder with the sign of the dividend")
    return ops.remainder(a, b)


@adapter("Max", "Min", "Sum", "Mean")
def _(settings, *arrays, op):
    y = arrays[0]
    for a in arrays[1:]:
        y = {"Max": ops.maximum, "Min": ops.minimum}.get(op, ops.add)(y, a)
    return y / len(arrays) if op == "Mean" else y


def elementwise(name: str, function: Callable, **defaults: float) -> None:
    ADAPTERS[name] = lambda settings, x, *others: function(x, *others, **{**defaults, **settings})


elementwise("Reciprocal", lambda x: ops.divide(1, x))
elementwise("Softsign", lambda x: x / (1 + ops.abs(x)))
elementwise("LeakyRelu", lambda x, alpha: ops.leaky_relu(x, slope=alpha), alpha=0.01)
elementwise("PRelu", lambda x, slope: ops.where(ops.less(x, 0), slope * x, x))
elementwise("Elu", lambda x, alpha: ops.where(ops.greater(x, 0), x, alpha * ops.expm1(x)), alpha=1.0)
elementwise("Celu", lambda x, alpha: ops.maximum(x, 0) + ops.minimum(alpha * ops.expm1(x / alpha), 0), alpha=1.0)
elementwise("Selu", lambda x, alpha, gamma: gamma * ops.where(ops.greater(x, 0), x, alpha * ops.expm1(x)), alpha=1.67326319217681884765625,
            gamma=1.05070102214813232421875)
elementwise("HardSigmoid", lambda x, alpha, beta: ops.clip(alpha * x + beta, 0, 1), alpha=0.2, beta=0.5)
elementwise("HardSwish", lambda x: x * ops.clip(x / 6 + 0.5, 0, 1))
elementwise("Mish", lambda x: x * ops.tanh(ops.softplus(x)))
elementwise("Swish", lambda x, alpha: x * ops.sigmoid(alpha * x), alpha=1.0)
elementwise("ThresholdedRelu", lambda x, alpha: ops.where(ops.greater(x, alpha), x, np.float32(0)), alpha=1.0)
elementwise("Shrink", lambda x, lambd, bias: ops.where(ops.less(x, -lambd), x + bias, ops.where(ops.greater(x, lambd), x - bias, x.dtype.type(0))), lambd=0.5, bias=0.0)
elementwise("Gelu", lambda x, approximate: ops.gelu(x, approximate=approximate), approximate="none")


@adapter("Clip")
def _(settings, x, low=None, high=None):
    return ops.clip(x, low, high)


@adapter("Softmax", "LogSoftmax")
def _(settings, x, *, op):
    return (ops.softmax if op == "Softmax" else ops.log_softmax)(x, axis=settings.get("axis", -1))


@adapter("Cast", "CastLike")
def _(settings, x, like=None, *, op):
    to = DTYPES.get(settings.get("to")) if like is None else like.dtype
    need(to is not None and np.dtype(to).kind in "fiub" and np.dtype(to) in DTYPES.values(), "a type that NumPy hasn't, or strings")
    return ops.astype(x, dtype=to)


# --- shapes

@adapter("Concat")
def _(settings, *arrays):
    return ops.concatenate(arrays, axis=settings["axis"])


@adapter("Flatten")
def _(settings, x):
    axis = settings.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return ops.reshape(x, shape=(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@adapter("Reshape")
def _(settings, x, shape):
    zero_is_zero = settings.get("allowzero", 0)
    return ops.reshape(x, shape=[n if n or zero_is_zero else x.shape[i] for i, n in enumerate(shape.tolist())])


@adapter("Squeeze")
def _(settings, x, axes=None):
    return ops.squeeze(x, None if axes is None else axes.tolist())


@adapter("Unsqueeze")
def _(settings, x, axes):
    return ops.expand_dims(x, axes.tolist())


@adapter("Transpose")
def _(settings, x):
    return ops.transpose(x, axes=settings.get("perm"))


@adapter("Tile")
def _(settings, x, repeats):
    return ops.tile(x, repeats.tolist())


@adapter("Expand")
def _(settings, x, shape):
    return ops.broadcast_to(x, shape=np.broadcast_shapes(x.shape, tuple(shape.tolist())))


@adapter("Gather")
def _(settings, x, indices):
    return ops.take(x, indices=indices, axis=settings.get("axis", 0))


@adapter("GatherElements")
def _(settings, x, indices):
    return ops.take_along_axis(x, np.where(indices < 0, indices + x.shape[settings.get("axis", 0)], indices), axis=settings.get("axis", 0))


@adapter("GatherND")
def _(settings, x, indices):
    batch = settings.get("batch_dims", 0)
    grid = np.ogrid[tuple(slice(n) for n in indices.shape[: batch])] if batch else []
    places = [g.reshape(g.shape + (1,) * (indices.ndim - 1 - batch)) for g in grid]
    return ops.getitem(x, index=(*places, *np.moveaxis(indices, -1, 0)))


@adapter("Slice")
def _(settings, x, starts, ends, axes=None, steps=None):
    index = [slice(None)] * x.ndim
    axes = np.arange(len(starts)) if axes is None else axes
    for start, end, axis, step in zip(starts, ends, axes, np.ones(len(starts), int) if steps is None else steps):
        n = x.shape[axis]
        first = int(np.clip(start + n * (start < 0), 0, n if step > 0 else n - 1))
        stop = int(np.clip(end + n * (end < 0), 0 if step > 0 else -1, n))
        index[axis] = slice(first, None if stop < 0 else stop, int(step))
    return ops.getitem(x, index=tuple(index))


@adapter("Split")
def _(settings, x, lengths=None, *, outputs):
    axis = settings.get("axis", 0)
    if lengths is None:
        n, count = x.shape[axis], settings.get("num_outputs", outputs)
        size = -(-n // count)
        lengths = [size] * (count - 1)
    else:
        lengths = lengths[:-1]
    return tuple(ops.split(x, np.cumsum(lengths, dtype=int), axis=axis))


@adapter("Trilu")
def _(settings, x, k=0):
    return (ops.triu if settings.get("upper", 1) else ops.tril)(x, k=int(k))


@adapter("Pad")
def _(settings, x, pads, value=None, axes=None):
    need(pads.min(initial=0) >= 0, "negative widths of a padding")
    widths, axes = [(0, 0)] * x.ndim, range(x.ndim) if axes is None else axes.tolist()
    for i, axis in enumerate(axes):
        widths[axis] = (int(pads[i]), int(pads[i + len(pads) // 2]))
    mode = settings.get("mode", "constant")
    return ops.pad(x, widths=widths, mode=mode, value=0 if value is None else value.item())


@adapter("OneHot")
def _(settings, indices, depth, values):
    depth, axis = int(np.ravel(depth)[0]), settings.get("axis", -1)
    wrapped = np.where(indices < 0, indices + depth, indices)[..., None]
    return ops.moveaxis(ops.where(ops.equal(wrapped, np.arange(depth)), values[1], values[0]), -1, axis)


@adapter("TopK")
def _(settings, x, k):
    axis, largest = settings.get("axis", -1), settings.get("largest", 1)
    order = ops.argsort(ops.negative(x.astype(np.float64)) if largest else x, axis=axis)
    order = ops.take(order, indices=np.arange(int(k[0])), axis=axis)
    return ops.take_along_axis(x, order, axis=axis), order


@adapter("CumSum")
def _(settings, x, axis):
    axis = int(axis)
    x = ops.flip(x, axis=axis) if settings.get("reverse", 0) else x
    y = ops.cumsum(x, axis=axis) - (x if settings.get("exclusive", 0) else 0)
    return ops.flip(y, axis=axis) if settings.get("reverse", 0) else y


@adapter("DepthToSpace")
def _(settings, x):
    size = settings["blocksize"]
    n, c, h, w = x.shape
    if settings.get("mode", "DCR") == "DCR":
        y = ops.transpose(x.reshape(n, size, size, c // size**2, h, w), axes=(0, 3, 4, 1, 5, 2))
    else:
        y = ops.transpose(x.reshape(n, c // size**2, size, size, h, w), axes=(0, 1, 4, 2, 5, 3))
    return ops.reshape(y, shape=(n, c // size**2, h * size, w * size))


@adapter("SpaceToDepth")
def _(settings, x):
    size = settings["blocksize"]
    need(settings.get("mode", "DCR") == "DCR", "another order of the channels")
    n, c, h, w = x.shape
    y = ops.transpose(x.reshape(n, c, h // size, size, w // size, size), axes=(0, 3, 5, 1, 2, 4))
    return ops.reshape(y, shape=(n, c * size**2, h // size, w // size))


# --- reductions

REDUCTIONS = {
    "ReduceSum": ops.sum, "ReduceMean": ops.mean, "ReduceMax": ops.max, "ReduceMin": ops.min, "ReduceProd": ops.prod, "ReduceLogSumExp": ops.logsumexp,
    "ReduceL1": lambda x, **s: ops.norm(x, ord=1, **s), "ReduceL2": lambda x, **s: ops.norm(x, ord=2, **s),
    "ReduceSumSquare": lambda x, **s: ops.sum(ops.square(x), **s), "ReduceLogSum": lambda x, **s: ops.log(ops.sum(x, **s)),
}


@adapter(*REDUCTIONS)
def _(settings, x, axes=None, *, op):
    axes = settings.get("axes") if axes is None else axes.tolist()
    if not axes and settings.get("noop_with_empty_axes", 0):
        axes = ()
    elif not axes:
        axes = None
    return REDUCTIONS[op](x, axis=axes, keepdims=bool(settings.get("keepdims", 1)))


@adapter("ArgMax", "ArgMin")
def _(settings, x, *, op):
    axis, keepdims = settings.get("axis", 0), bool(settings.get("keepdims", 1))
    function = ops.argmax if op == "ArgMax" else ops.argmin
    if settings.get("select_last_index", 0):
        return x.shape[axis] - 1 - function(ops.flip(x, axis=axis), axis=axis, keepdims=keepdims)
    return function(x, axis=axis, keepdims=keepdims)


# --- products

@adapter("MatMul")
def _(settings, a, b):
    return ops.matmul(a, b)


@adapter("Gemm")
def _(settings, a, b, c=None):
    a, b = (ops.transpose(m) if settings.get(t, 0) else m for m, t in ((a, "transA"), (b, "transB")))
    y = settings.get("alpha", 1.0) * ops.matmul(a, b)
    return y if c is None else y + settings.get("beta", 1.0) * c


@adapter("Einsum")
def _(settings, *operands):
    return ops.einsum(settings["equation"], *operands)


# --- convolutions and pooling: channels come first in ONNX, and one axis of pixels is two with a length of 1

def around(settings: dict, size: tuple, extent: list, strides: list) -> list[tuple[int, int]]:
    """(before, after) for each axis of pixels."""
    how = settings.get("auto_pad", "NOTSET")
    if how in ("SAME_UPPER", "SAME_LOWER"):
        total = [max((-(-n // s) - 1) * s + e - n, 0) for n, s, e in zip(size, strides, extent)]
        return [(t // 2, t - t // 2) if how == "SAME_UPPER" else (t - t // 2, t // 2) for t in total]
    pads = settings.get("pads", [0] * 2 * len(size)) if how == "NOTSET" else [0] * 2 * len(size)
    return list(zip(pads[: len(size)], pads[len(size) :]))


def to_pixels(x: np.ndarray) -> np.ndarray:
    """(batch, channels, [height,] width) -> (batch, height, width, channels)."""
    need(x.ndim in (3, 4), "three axes of pixels")
    return np.moveaxis(x if x.ndim == 4 else x[:, :, None], 1, -1)


def from_pixels(y: np.ndarray, ndim: int) -> np.ndarray:
    y = np.moveaxis(np.asarray(y), -1, 1)
    return y if ndim == 4 else y[:, :, 0]


def two(values: list, one: Any) -> tuple:
    return tuple(values) if len(values) == 2 else (one, *values)


def kernel_settings(settings: dict, size: tuple, kernel: tuple) -> tuple[list, list, list[tuple[int, int]]]:
    strides, dilations = settings.get("strides", [1] * len(size)), settings.get("dilations", [1] * len(size))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    return strides, dilations, around(settings, size, extent, strides)


@adapter("Conv")
def _(settings, x, weight, bias=None):
    strides, dilations, pads = kernel_settings(settings, x.shape[2:], weight.shape[2:])
    padded = ops.pad(x, widths=[(0, 0), (0, 0), *pads])
    kernel = np.moveaxis(to_pixels(weight), 0, -1)  # (height, width, in / groups, out)
    y = ops.conv2d(to_pixels(padded), kernel, bias, stride=two(strides, 1), dilation=two(dilations, 1), groups=settings.get("group", 1))
    return from_pixels(y, x.ndim)


@adapter("ConvTranspose")
def _(settings, x, weight, bias=None):
    n = x.ndim - 2
    strides, dilations = settings.get("strides", [1] * n), settings.get("dilations", [1] * n)
    extra = settings.get("output_padding", [0] * n)
    full = [(size - 1) * s + (k - 1) * d + 1 + e for size, s, k, d, e in zip(x.shape[2:], strides, weight.shape[2:], dilations, extra)]
    how, shape = settings.get("auto_pad", "NOTSET"), settings.get("output_shape")
    if how in ("SAME_UPPER", "SAME_LOWER") and shape is None:
        shape = [size * s for size, s in zip(x.shape[2:], strides)]
    if shape is not None:
        total = [f - m for f, m in zip(full, shape)]
        pads = [(t // 2, t - t // 2) if how == "SAME_UPPER" else (t - t // 2, t // 2) for t in total]
    else:
        pads = around(settings, x.shape[2:], [], [])
    need(all(p >= 0 for pair in pads for p in pair), "a result larger than the input's reach")
    kernel = np.transpose(to_pixels(weight), (1, 2, 0, 3))  # (height, width, in, out / groups)
    y = ops.conv_transpose2d(to_pixels(x), kernel, bias, stride=two(strides, 1), dilation=two(dilations, 1), output_padding=two(extra, 0),
                             groups=settings.get("group", 1))
    y = from_pixels(y, x.ndim)
    return ops.getitem(y, index=(..., *(slice(a, size - b) for (a, b), size in zip(pads, y.shape[2:]))))


@adapter("MaxPool", "AveragePool")
def _(settings, x, *, op, outputs):
    need(outputs == 1, "the places of the greatest")
    kernel = settings["kernel_shape"]
    strides, dilations, pads = kernel_settings(settings, x.shape[2:], kernel)
    need(not settings.get("ceil_mode", 0), "windows that reach beyond the padding (ceil_mode)")
    options = {"kernel": two(kernel, 1), "stride": two(strides, 1)}
    if op == "MaxPool":
        least = -math.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        padded = ops.pad(x, widths=[(0, 0), (0, 0), *pads], value=least)
        return from_pixels(ops.max_pool2d(to_pixels(padded), **options, dilation=two(dilations, 1)), x.ndim)
    need(set(dilations) == {1}, "an average over spread pixels")
    if all(a == b and 2 * a <= k for (a, b), k in zip(pads, kernel)):
        include = bool(settings.get("count_include_pad", 0))
        return from_pixels(ops.avg_pool2d(to_pixels(x), **options, padding=two([a for a, _ in pads], 0), count_include_pad=include), x.ndim)
    widths = [(0, 0), (0, 0), *pads]
    sums = ops.avg_pool2d(to_pixels(ops.pad(x, widths=widths)), **options)
    if not settings.get("count_include_pad", 0):
        sums = sums / ops.avg_pool2d(to_pixels(ops.pad(np.ones_like(x), widths=widths)), **options)
    return from_pixels(sums, x.ndim)


@adapter("GlobalAveragePool", "GlobalMaxPool")
def _(settings, x, *, op):
    return (ops.mean if op == "GlobalAveragePool" else ops.max)(x, axis=tuple(range(2, x.ndim)), keepdims=True)


# --- norms

@adapter("BatchNormalization")
def _(settings, x, gain, bias, mean, variance):
    need(not settings.get("training_mode", 0), "running averages, which are the layer's")
    return np.moveaxis(ops.batch_norm(np.moveaxis(x, 1, -1), gain, bias, eps=settings.get("epsilon", 1e-5), moments=(mean, variance)), -1, 1)


@adapter("InstanceNormalization", "GroupNormalization")
def _(settings, x, gain, bias, *, op):
    groups = x.shape[1] if op == "InstanceNormalization" else settings["num_groups"]
    return np.moveaxis(ops.group_norm(np.moveaxis(x, 1, -1), gain, bias, groups=groups, eps=settings.get("epsilon", 1e-5)), -1, 1)


@adapter("LayerNormalization", "RMSNormalization")
def _(settings, x, gain, bias=None, *, op):
    axis = settings.get("axis", -1) % x.ndim
    flat = x.reshape(*x.shape[:axis], -1)
    gain, bias = (None if a is None else np.broadcast_to(a, x.shape[axis:]).ravel() for a in (gain, bias))
    eps = settings.get("epsilon", 1e-5)
    y = ops.layer_norm(flat, gain, bias, eps=eps) if op == "LayerNormalization" else ops.rms_norm(flat, gain, eps=eps)
    return y.reshape(x.shape)


@adapter("LpNormalization")
def _(settings, x):
    size = ops.norm(x, ord=settings.get("p", 2), axis=settings.get("axis", -1), keepdims=True)
    return x / ops.where(ops.equal(size, 0), x.dtype.type(1), size)


@adapter("MeanVarianceNormalization")
def _(settings, x):
    axes = tuple(settings.get("axes", [0, 2, 3]))
    return (x - ops.mean(x, axis=axes, keepdims=True)) / (ops.std(x, axis=axes, keepdims=True) + 1e-9)


@adapter("Dropout")
def _(settings, x, ratio=0.5, training=False, *, outputs):
    need(not training or float(ratio) == 0, "ONNX's random numbers")
    need(outputs == 1, "the mask of a dropout")
    return ops.dropout(x, p=0.0, seed=0)


# --- attention, recurrence, losses

def heads_apart(x: np.ndarray, count: int | None) -> np.ndarray:
    """(batch, time, heads width) -> (batch, heads, time, width)."""
    return x if x.ndim == 4 else np.swapaxes(x.reshape(*x.shape[:2], count, -1), 1, 2)


@adapter("Attention")
def _(settings, q, k, v, mask=None, past_key=None, past_value=None, lengths=None, *, names):
    need(not settings.get("softcap", 0), "softcap")
    need(not any(names[3:]), "the scores as a result")
    need(not any("window" in setting for setting in settings), "a window of keys")
    together = q.ndim == 3
    q = heads_apart(q, settings.get("q_num_heads"))
    k, v = (heads_apart(a, settings.get("kv_num_heads")) for a in (k, v))
    past = 0 if past_key is None else past_key.shape[2]
    if past_key is not None:
        k, v = ops.concatenate([past_key, k], axis=2), ops.concatenate([past_value, v], axis=2)
    queries, keys = q.shape[2], k.shape[2]
    allowed = np.ones((queries, keys), bool)
    if settings.get("is_causal", 0):  # ONNX aligns at the beginning, the zoo at the end
        offset = past if lengths is None else (lengths - queries)[:, None, None, None]
        allowed = np.arange(keys) <= np.arange(queries)[:, None] + offset
    if lengths is not None:
        allowed = allowed & (np.arange(keys) < lengths[:, None, None, None])
    if mask is not None:
        if mask.shape[-1] < keys:
            fill = False if mask.dtype == bool else -np.inf
            mask = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, keys - mask.shape[-1])], constant_values=fill)
        allowed = allowed & mask if mask.dtype == bool else np.where(allowed, mask, -np.inf).astype(mask.dtype)
    scale = settings.get("scale")
    y = ops.scaled_dot_product_attention(q, ops.repeat_heads(k, q.shape[1]), ops.repeat_heads(v, q.shape[1]), allowed, scale=scale)
    y = ops.merge_heads(y) if together else y
    return tuple(result for result, name in zip((y, k, v), names) if name)


@adapter("RotaryEmbedding")
def _(settings, x, cosine, sine, positions=None):
    need(not settings.get("interleaved", 0), "pairs of neighbours (interleaved)")
    together = x.ndim == 3
    parts = heads_apart(x, settings.get("num_heads"))
    width = settings.get("rotary_embedding_dim", 0) or parts.shape[-1]
    if positions is not None:
        cosine, sine = cosine[positions], sine[positions]
    rows = [ops.concatenate([ops.rotate(row[..., :width], c[..., : width // 2], s[..., : width // 2]), row[..., width:]], axis=-1)
            for row, c, s in zip(parts, cosine, sine)]
    y = ops.stack(rows)
    return ops.merge_heads(y) if together else y


@adapter("LSTM", "GRU", "RNN")
def _(settings, x, w, r, bias=None, lengths=None, h=None, c=None, peepholes=None, *, op, outputs, names):
    need(settings.get("direction", "forward") == "forward", "a sequence read backwards")
    need(peepholes is None and lengths is None and not settings.get("input_forget", 0), "peepholes or lengths")
    need("activations" not in settings and "clip" not in settings, "other activations")
    need(op != "GRU" or settings.get("linear_before_reset", 0), "a reset before the product")
    width = settings["hidden_size"]
    x = x if settings.get("layout", 0) else np.swapaxes(x, 0, 1)  # (batch, time, features)
    order = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}[op]  # ONNX has i o f c, z r h

    def gates(a):
        """(gates width, ...) in the zoo's order, transposed."""
        parts = a.reshape(len(order), width, *a.shape[1:])
        return np.concatenate([parts[i] for i in order]).T

    bw, br = (np.zeros(len(order) * width, x.dtype),) * 2 if bias is None else np.split(bias[0], 2)
    xw, u = ops.matmul(x, gates(w[0])) + gates(bw), gates(r[0])
    batch = len(x)
    h = np.zeros((batch, width), x.dtype) if h is None else h[0] if not settings.get("layout", 0) else h[:, 0]
    if op == "GRU":
        states = ops.gru(xw, h, u, gates(br))
    elif op == "RNN":
        states = ops.elman(xw + gates(br), h, u)
    else:
        c = np.zeros((batch, width), x.dtype) if c is None else c[0]
        states = ops.lstm(xw + gates(br), np.concatenate([h, c], axis=-1), u)[..., :width]
    if settings.get("layout", 0):
        every, final = states[:, :, None], states[:, -1:]
    else:
        every, final = np.swapaxes(states, 0, 1)[:, None], states[None, :, -1]
    return tuple({"Y": every, "Y_h": final}[name] for name in names if name)


@adapter("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
def _(settings, scores, targets, weight=None, *, op, outputs):
    need(op == "SoftmaxCrossEntropyLoss" or np.allclose(np.exp(scores).sum(1), 1), "logarithms that aren't of probabilities")
    logits = np.moveaxis(scores, 1, -1)
    loss = ops.cross_entropy(logits, targets, weight, ignore_index=settings.get("ignore_index"), reduction=settings.get("reduction", "mean"))
    return (loss, np.moveaxis(ops.log_softmax(logits), -1, 1))[:outputs]


# --- running them

def attributes(node: Any) -> dict[str, Any]:
    import onnx

    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {name: v.decode() if isinstance(v, bytes) else list(v) if isinstance(v, (list, tuple)) else v for name, v in values.items()}


def verdict(case: Any) -> tuple[str, str]:
    """("agrees", ""), ("differs", how) or ("not covered", why)"""
    nodes = case.model.graph.node
    if len(nodes) != 1 or nodes[0].op_type not in ADAPTERS or nodes[0].domain not in ("", "ai.onnx"):
        return "not covered", f"no operation: {nodes[0].op_type}" if len(nodes) == 1 else "several operators"
    node, function = nodes[0], ADAPTERS[nodes[0].op_type]
    wanted = function.__code__.co_varnames[function.__code__.co_argcount : function.__code__.co_argcount + function.__code__.co_kwonlyargcount]
    about = {"op": node.op_type, "outputs": len([o for o in node.output if o]), "names": list(node.output)}
    for inputs, expected in case.data_sets:
        left = iter(inputs)
        arrays = [next(left) if name else None for name in node.input]
        if any(not isinstance(a, (np.ndarray, np.generic)) or a.dtype.kind not in "fiub" or a.dtype not in DTYPES.values() for a in arrays if a is not None):
            return "not covered", "arguments that aren't arrays of numbers"
        try:
            y = function(attributes(node), *arrays, **{key: value for key, value in about.items() if key in wanted})
        except NotCovered as why:
            return "not covered", str(why)
        except Exception as error:
            return "differs", f"{type(error).__name__}: {error}"
        for ours, theirs in zip(y if isinstance(y, tuple) else (y,), expected):
            ours, theirs = np.asarray(ours), np.asarray(theirs)
            if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
                return "differs", f"{ours.dtype} {ours.shape}, not {theirs.dtype} {theirs.shape}"
            if not np.allclose(ours, theirs, rtol=case.rtol, atol=max(case.atol, 1e-6), equal_nan=True):
                return "differs", f"by {np.nanmax(np.abs(ours.astype(float) - theirs.astype(float))):.3g}"
    return "agrees", ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--show", action="store_true", help="name the cases that aren't covered")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.node import collect_testcases

    counts, uncovered, wrong, deliberate = collections.Counter(), collections.Counter(), [], collections.defaultdict(list)
    with np.errstate(all="ignore"):
        for case in collect_testcases(None):
            name = case.name.removeprefix("test_")
            if "_expanded" in name:
                continue  # the same case again, written in other operators
            kind, what = verdict(case)
            reason = next((DELIBERATE[start] for start in DELIBERATE if name.startswith(start)), None)
            if kind == "not covered":
                uncovered[what] += 1
                if options.show:
                    print(f"not covered: {name}: {what}")
            elif kind == "differs" and reason:
                kind = "deliberate"
                deliberate[reason].append(name)
            elif kind == "differs" or reason:
                wrong.append(f"{name}: {what or f'agrees, though it is named as deliberate: {reason}'}")
            counts[kind] += 1
    named = {start for start in DELIBERATE for names in deliberate.values() if any(name.startswith(start) for name in names)}
    wrong += [f"{start}: named as deliberate, but no case that differs begins with it" for start in DELIBERATE if start not in named]
    print("\n".join(wrong))
    print(f"{counts['agrees'] + counts['differs'] + counts['deliberate']} cases covered: {counts['agrees']} agree, {counts['deliberate']} are deliberately "
          f"others, {counts['differs']} differ; {counts['not covered']} aren't covered")
    print("deliberately others: " + "; ".join(f"{reason} ({', '.join(names)})" for reason, names in deliberate.items()))
    settings = [f"{what} ({count})" for what, count in uncovered.most_common() if not what.startswith("no operation")]
    print("not covered although there is an operation: " + "; ".join(settings))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
