"""One token through a whole transformer, as one kernel.

While writing, every matrix product has a single row, and a step of a small model is a few hundred microseconds of calls around
some fifty of arithmetic.  So the row goes through all layers in one call.  It reads the weights where they are, adds a row
to the cache, and computes what `Transformer.__call__` defines: `test_decoded_logits_equal_the_definition`.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from .autograd import Tensor
from .autograd.activation_kernels import CODES, activate
from .autograd.runtime import Native, address, clear_floats, copy_floats, expf, inner, keep_alive, kernel, kernels_enabled, separate
from .autograd.tasks import address_of, floats
from .autograd.tensor import state as watched
from .nn import LayerNorm, Linear, RMSNorm

if TYPE_CHECKING:
    from .transformer import Cache, Transformer

_rows = "zoo.autograd.row_vectors"
add_row_times_matrix, row_times_rows = Native("add_row_times_matrix", _rows), Native("row_times_rows", _rows)
row_times_narrow_matrix = Native("row_times_narrow_matrix", _rows)

f32 = np.float32
# Floats between the rows that a token is computed in.  Where two rows begin within a few registers of each other, LLVM takes them
# for one that might overlap, and runs a loop that rounds differently: results would depend on where memory happened to be free.
APART = 256
NO_ROTATION = (np.zeros((1, 0), f32),) * 2


class Plan:
    """Where the weights of a model lie."""

    def __init__(self, model: Transformer, tensors: list[Tensor | None]):
        self.config, self.tensors = model.config, tensors
        self.weights: list[tuple[Tensor, np.ndarray]] = []  # with the array that each had: an address must not outlive its array
        c, places = model.config, [self._place(tensor) for tensor in tensors]
        sizes = [c.width, c.heads, c.key_value_heads, c.head_width, c.hidden, c.symbols, c.norm == "rms",
                 CODES["silu" if c.mlp == "swiglu" else c.mlp]]
        # (2 + layers, 14) of sizes, addresses of the ends, and those of each layer, 0 where there is none
        self.table = np.array([*sizes, *[0] * 6, *places[:5], *[0] * 9, *places[5:]], np.int64).reshape(-1, 14)
        self.eps = f32(c.eps)

    def _place(self, tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        if tensor.data.dtype != f32 or not tensor.data.flags.c_contiguous:
            raise NotServed
        self.weights.append((tensor, tensor.data))
        return address_of(tensor.data)

    def holds(self) -> bool:
        """Whether every weight still lies where it did."""
        for tensor, array in self.weights:  # asked for every token: half of what `all` would take
            if tensor.data is not array:
                return False
        return True

    def serves(self, model: Transformer, tensors: list[Tensor | None]) -> bool:
        same = model.config is self.config and len(tensors) == len(self.tensors) and all(map(operator.is_, tensors, self.tensors))
        return same and self.holds()


def _tensors(model: Transformer) -> list[Tensor | None]:
    """The weights of the ends and of each layer, as `_decode` reads them."""
    position, output = model.position, model.output
    found = [model.embedding.weight, None if position is None else position.weight, *_norm(model.norm), _linear(output)[0]]
    for block in model.blocks:
        attention, mlp = block.attention, block.mlp
        if mlp is None:
            raise NotServed
        found += [*_norm(block.norm1), *_linear(attention.query_key_value), *_linear(attention.output),
                  *_norm(block.norm2), *_linear(mlp.gate), *_linear(mlp.up), *_linear(mlp.down)]
    return found


def _linear(layer: Any) -> tuple[Tensor | None, Tensor | None]:
    if layer is None:
        return None, None
    if type(layer) is not Linear:
        raise NotServed
    return layer.weight, layer.bias


def _norm(layer: Any) -> tuple[Tensor, Tensor | None]:
    if type(layer) not in (LayerNorm, RMSNorm):
        raise NotServed
    return layer.gain, getattr(layer, "bias", None)


class NotServed(Exception):
    """The model has layers that the kernel doesn't know."""


def plan(model: Transformer) -> Plan | None:
    """A plan to decode with, or None where the definition must run: somebody looks on, kernels are off, or there are other layers."""
    if not serves():
        return None
    try:
        tensors = _tensors(model)
        found = _plans.get(model)
        if found is None or not found.serves(model, tensors):
            found = _plans[model] = Plan(model, tensors)
        return found
    except NotServed:
        return None


_plans: WeakKeyDictionary[Transformer, Plan] = WeakKeyDictionary()  # the last one of each model: every text begins with one


def serves() -> bool:
    return not watched.watchers and kernels_enabled()


def decode(model: Transformer, plan: Plan, token: int, cache: Cache, position: int) -> np.ndarray:
    """The logits (symbols,) behind `token`, the one at `position`, whose key and value go into the cache."""
    c = model.config
    cosines, sines = model.rotation(position + 1) if c.positions == "rotary" else NO_ROTATION
    logits = np.empty(c.symbols, f32)
    _decode(plan.table, plan.eps, cosines, sines, cache.keys, cache.values, token, position, logits)
    return logits


@kernel
def _decode(table, eps, cosines, sines, keys, values, token, position, logits):
    width, heads, groups, d, hidden, symbols, rms, code = table[0, :8]
    ends, layers = table[1], table[2:]
    packed_width, n = (heads + 2 * groups) * d, position + 1
    scratch = np.empty(2 * width + packed_width + heads * d + n + 2 * hidden + 9 * APART, np.float32)
    x = address(scratch) // 64 * 64 + 4 * APART
    normal = behind(x, width)
    packed = behind(normal, width)
    mixed = behind(packed, packed_width)
    scores = behind(mixed, heads * d)
    h = behind(scores, n)
    other = behind(h, hidden)
    copy_floats(x, ends[0] + 4 * token * width, width)
    if ends[1]:
        add(floats(x, width), floats(ends[1] + 4 * position * width, width))
    for i in range(len(layers)):
        norm1, norm1_bias, packing, packing_bias, output, output_bias, norm2, norm2_bias = layers[i, :8]
        gate, gate_bias, up, up_bias, down, down_bias = layers[i, 8:]
        normalise(x, norm1, norm1_bias, rms, eps, normal, width)
        multiply(normal, packing, packing_bias, packed, width, packed_width, False)
        if cosines.shape[1]:
            for k in range(heads + groups):
                turn(floats(packed + 4 * k * d, d), cosines[position], sines[position])
        for k in range(groups):
            copy_floats(address(keys[i, 0, k, position]), packed + 4 * (heads + k) * d, d)
            copy_floats(address(values[i, 0, k, position]), packed + 4 * (heads + groups + k) * d, d)
        for k in range(heads):
            g = k * groups // heads
            attend(packed + 4 * k * d, address(keys[i, 0, g]), address(values[i, 0, g]), scores, mixed + 4 * k * d, n, d)
        multiply(mixed, output, output_bias, x, heads * d, width, True)
        normalise(x, norm2, norm2_bias, rms, eps, normal, width)
        multiply(normal, gate if gate else up, gate_bias if gate else up_bias, h, width, hidden, False)
        activate(code, h, other, hidden, f32(0))  # `other` takes the derivative, which nobody asks for
        if gate:
            multiply(normal, up, up_bias, other, width, hidden, False)
            times(floats(h, hidden), floats(other, hidden))
        multiply(h, down, down_bias, x, hidden, width, True)
    normalise(x, ends[2], ends[3], rms, eps, normal, width)
    if ends[4]:
        multiply(normal, ends[4], 0, address(logits), width, symbols, False)
    else:
        row_times_rows(normal, ends[0], 4 * width, symbols, width, address(logits))
    keep_alive(scratch)


@inner
def behind(row, n):
    """Where a row may begin behind one of n floats."""
    return row + 4 * ((n + 15) // 16 * 16 + APART)


@inner
def add(y, x):
    for j in range(y.size):
        y[j] += x[j]


@inner
def times(y, x):
    for j in range(y.size):
        y[j] *= x[j]


@inner
def normalise(row, gain, bias, rms, eps, target, n):
    """Layer norm or RMS norm of one row."""
    x, y, gains = floats(row, n), floats(target, n), floats(gain, n)
    mean = f32(0)
    if not rms:
        for j in range(n):
            mean += x[j]
        mean /= f32(n)
    square = f32(0)
    for j in range(n):
        square += (x[j] - mean) * (x[j] - mean)
    scale = f32(1) / f32(math.sqrt(square / f32(n) + eps))
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


@separate("void(intp, intp, intp, intp, intp, intp, intp)")
def attend(q, keys, values, scores, y, n, d):
    """y = softmax(q k^T / sqrt(d)) v of one head for one query, over n keys; scores (n,) is scratch."""
    row_times_rows(q, keys, 4 * d, n, d, scores)
    share, scale, largest, total = floats(scores, n), f32(1) / f32(math.sqrt(f32(d))), f32(-np.inf), f32(0)
    for t in range(n):
        largest = max(largest, share[t])
    for t in range(n):
        share[t] = expf((share[t] - largest) * scale)
    for t in range(n):
        total += share[t]
    row_times_narrow_matrix(scores, values, 4 * d, n, d, y)
    mixed = floats(y, d)
    for j in range(d):
        mixed[j] /= total


@separate("void(intp, intp, intp, intp, intp, intp, boolean)")
def multiply(x, weight, bias, y, n, m, added):
    """y (m,) = x W + bias, or added to y; W (n, m) is read in order."""
    if not added:
        if bias:
            copy_floats(y, bias, m)
        else:
            clear_floats(y, m)
    elif bias:
        add(floats(y, m), floats(bias, m))
    add_row_times_matrix(x, weight, 4 * m, n, m, y)
