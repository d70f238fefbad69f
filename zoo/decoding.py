"""One token through a whole transformer, as one kernel.

While writing, every matrix product has a single row, and a step of a small model is a few hundred microseconds of calls around
some fifty of arithmetic.  So the row goes through all layers in one call.  It reads the weights where they are, adds a row
to the cache, and computes what `Transformer.__call__` defines: `test_decoded_logits_equal_the_definition`.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from .autograd import Tensor
from .autograd.activation_kernels import CODES, activate
from .autograd.runtime import address, expf, inner, keep_alive, kernel, kernels_enabled, separate
from .autograd.tasks import floats
from .autograd.tensor import state as watched
from .nn import LayerNorm, Linear, RMSNorm

if TYPE_CHECKING:
    from .transformer import Cache, Transformer

f32 = np.float32
_data = operator.attrgetter("data")


class Plan:
    """Where the weights of a model lie."""

    def __init__(self, model: Transformer):
        self.tensors: list[Tensor] = []
        self.arrays: list[np.ndarray] = []  # that the tensors had: an address must not outlive its array
        c = model.config
        rows = []
        for block in model.blocks:
            attention, mlp = block.attention, block.mlp
            if mlp is None:
                raise NotServed
            rows.append([*self._norm(block.norm1), *self._linear(attention.query_key_value), *self._linear(attention.output),
                         *self._norm(block.norm2), *self._linear(mlp.gate), *self._linear(mlp.up), *self._linear(mlp.down)])
        self.layers = np.array(rows, np.int64)  # (layers, 14) addresses, 0 where there is none
        output = self._linear(model.output)[0] if model.output is not None else 0
        position = 0 if model.position is None else self._place(model.position.weight)
        self.ends = np.array([self._place(model.embedding.weight), position, *self._norm(model.norm), output], np.int64)
        self.sizes = np.array([c.width, c.heads, c.key_value_heads, c.head_width, c.hidden, c.symbols, c.norm == "rms",
                               CODES["silu" if c.mlp == "swiglu" else c.mlp]], np.int64)
        self.eps = f32(c.eps)

    def _place(self, tensor: Any) -> int:
        if tensor is None:
            return 0
        if tensor.data.dtype != f32 or not tensor.data.flags.c_contiguous:
            raise NotServed
        self.tensors.append(tensor)
        self.arrays.append(tensor.data)
        return tensor.data.__array_interface__["data"][0]

    def _linear(self, layer: Any) -> tuple[int, int]:
        if layer is None:
            return 0, 0
        if type(layer) is not Linear:
            raise NotServed
        return self._place(layer.weight), self._place(layer.bias)

    def _norm(self, layer: Any) -> tuple[int, int]:
        if type(layer) not in (LayerNorm, RMSNorm):
            raise NotServed
        return self._place(layer.gain), self._place(getattr(layer, "bias", None))

    def holds(self) -> bool:
        """Whether every weight still lies where it did."""
        return all(map(operator.is_, map(_data, self.tensors), self.arrays))


class NotServed(Exception):
    """The model has layers that the kernel doesn't know."""


def plan(model: Transformer) -> Plan | None:
    """A plan to decode with, or None where the definition must run: somebody looks on, kernels are off, or there are other layers."""
    try:
        return Plan(model) if serves() else None
    except NotServed:
        return None


def serves() -> bool:
    return not watched.watchers and kernels_enabled()


def decode(model: Transformer, plan: Plan, token: int, cache: Cache, position: int) -> np.ndarray:
    """The logits (symbols,) behind `token`, the one at `position`, whose key and value go into the cache."""
    c = model.config
    if c.positions == "rotary":
        cosines, sines = model.rotation(position + 1)
    else:
        cosines = sines = np.zeros((1, 0), f32)
    logits = np.empty(c.symbols, f32)
    _decode(plan.layers, plan.ends, plan.sizes, plan.eps, cosines, sines, cache.keys, cache.values, token, position, logits)
    return logits


@kernel
def _decode(layers, ends, sizes, eps, cosines, sines, keys, values, token, position, logits):
    width, heads, groups, d, hidden, symbols, rms, code = sizes
    packed_width = (heads + 2 * groups) * d
    x, normal, packed = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(packed_width, np.float32)
    mixed, scores = np.empty(heads * d, np.float32), np.empty(position + 1, np.float32)
    h, other = np.empty(hidden, np.float32), np.empty(hidden, np.float32)
    x[:] = floats(ends[0] + 4 * token * width, width)
    if ends[1]:
        add(x, floats(ends[1] + 4 * position * width, width))
    for i in range(len(layers)):
        norm1, norm1_bias, packing, packing_bias, output, output_bias, norm2, norm2_bias = layers[i, :8]
        gate, gate_bias, up, up_bias, down, down_bias = layers[i, 8:]
        normalise(x, norm1, norm1_bias, rms, eps, normal)
        multiply(address(normal), packing, packing_bias, address(packed), width, packed_width, False)
        if cosines.shape[1]:
            for k in range(heads + groups):
                turn(packed[k * d : (k + 1) * d], cosines[position], sines[position])
        for k in range(groups):
            keys[i, 0, k, position] = packed[(heads + k) * d : (heads + k + 1) * d]
            values[i, 0, k, position] = packed[(heads + groups + k) * d : (heads + groups + k + 1) * d]
        for k in range(heads):
            g = k * groups // heads
            attend(packed[k * d : (k + 1) * d], keys[i, 0, g], values[i, 0, g], scores, mixed[k * d : (k + 1) * d])
        multiply(address(mixed), output, output_bias, address(x), heads * d, width, True)
        normalise(x, norm2, norm2_bias, rms, eps, normal)
        multiply(address(normal), gate if gate else up, gate_bias if gate else up_bias, address(h), width, hidden, False)
        activate(code, address(h), address(other), hidden, f32(0))  # `other` takes the derivative, which nobody asks for
        if gate:
            multiply(address(normal), up, up_bias, address(other), width, hidden, False)
            for j in range(hidden):
                h[j] *= other[j]
        multiply(address(h), down, down_bias, address(x), hidden, width, True)
    normalise(x, ends[2], ends[3], rms, eps, normal)
    if ends[4]:
        multiply(address(normal), ends[4], 0, address(logits), width, symbols, False)
    else:
        for s in range(symbols):
            logits[s] = dot(normal, floats(ends[0] + 4 * s * width, width))
    for row in (x, normal, packed, mixed, h, other):
        keep_alive(row)


@inner
def add(y, x):
    for j in range(y.size):
        y[j] += x[j]


@inner
def dot(a, b):
    total = f32(0)
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@inner
def normalise(x, gain, bias, rms, eps, y):
    """Layer norm or RMS norm of one row."""
    mean, n = f32(0), x.size
    if not rms:
        for j in range(n):
            mean += x[j]
        mean /= f32(n)
    square = f32(0)
    for j in range(n):
        square += (x[j] - mean) * (x[j] - mean)
    scale = f32(1) / f32(math.sqrt(square / f32(n) + eps))
    gains = floats(gain, n)
    for j in range(n):
        y[j] = gains[j] * ((x[j] - mean) * scale)
    if bias:
        add(y, floats(bias, n))


@inner
def turn(x, cosine, sine):
    """Rotary positions of one head, in place."""
    half = x.size // 2
    for j in range(half):
        a, b = x[j], x[j + half]
        x[j] = a * cosine[j] - b * sine[j]
        x[j + half] = b * cosine[j] + a * sine[j]


@inner
def attend(q, keys, values, scores, y):
    """softmax(q k^T / sqrt(width)) v of one head for one query, over as many keys as there are scores."""
    scale, largest, total = f32(1) / f32(math.sqrt(f32(q.size))), f32(-np.inf), f32(0)
    for t in range(scores.size):
        scores[t] = dot(q, keys[t]) * scale
        largest = max(largest, scores[t])
    for t in range(scores.size):
        scores[t] = expf(scores[t] - largest)
    for t in range(scores.size):
        total += scores[t]
    for j in range(y.size):
        y[j] = f32(0)
    for t in range(scores.size):
        share, value = scores[t] / total, values[t]
        for j in range(y.size):
            y[j] += share * value[j]


@separate("void(intp, intp, intp, intp, intp, intp, boolean)")
def multiply(x, weight, bias, y, n, m, added):
    """y (m,) = x W + bias, or added to y: four rows of W (n, m) at a time, so that y is read and written a quarter as often."""
    source, target = floats(x, n), floats(y, m)
    if not added:
        for j in range(m):
            target[j] = f32(0)
    if bias:
        b = floats(bias, m)
        for j in range(m):
            target[j] += b[j]
    for i in range(0, n - 3, 4):
        w = floats(weight + 4 * i * m, 4 * m)
        x0, x1, x2, x3 = source[i], source[i + 1], source[i + 2], source[i + 3]
        for j in range(m):
            target[j] += x0 * w[j] + x1 * w[j + m] + x2 * w[j + 2 * m] + x3 * w[j + 3 * m]
    for i in range(n - n % 4, n):
        w = floats(weight + 4 * i * m, m)
        for j in range(m):
            target[j] += source[i] * w[j]
