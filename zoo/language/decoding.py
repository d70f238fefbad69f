"""One token through a whole transformer, as one kernel.

While writing, every matrix product has a single row, and a step of a small model is a few hundred microseconds of calls around
some fifty of arithmetic.  So the row goes through all layers in one call.  It reads the weights where they are, adds a row
to the cache, and computes what `Transformer.__call__` defines: `test_decoded_logits_equal_the_definition`.

What is left is the time to read the weights, and each thread reads a part of them: its columns of one matrix, and the same rows of the
next (Shoeybi et al. 2019, section 3).  So a thread team has two barriers a layer.  Sums are cut into the same pieces whatever its size, and added
up in the same order: no result depends on it.
"""

from __future__ import annotations

import math
import operator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..autograd import Tensor
from ..autograd.kernels.activation import CODES, activate
from ..autograd.runtime.compiling import inner, separate
from ..autograd.runtime.native import add_row_times_matrix, clear_floats, copy_floats, expf, row_times_narrow_matrix, row_times_rows
from ..autograd.runtime.switch import kernels_enabled
from ..autograd.runtime.tasks import address_of, floats, integers, task
from ..autograd.runtime.tasks import part as part_of
from ..autograd.runtime.team import WORDS, barrier, join
from ..autograd.runtime.threads import get_threads
from ..autograd.tensor import state as watched
from ..nn import Embedding, LayerNorm, Linear, RMSNorm
from .cache import Cache

Transformer = Any  # zoo.transformer's, which imports this module

f32 = np.float32
# Floats between the rows that a token is computed in.  Where two rows begin within a few registers of each other, LLVM takes them
# for one that might overlap, and runs a loop that rounds differently: results would depend on where memory happened to be free.
APART = 256
COLUMNS = 14  # of a plan's table
PIECES = 8  # into which a sum is cut at most
SHARE = 1 << 17  # floats of the matrices that are worth another thread
NO_ROTATION = (np.zeros((1, 0), f32),) * 2


def spaced(n):
    """Floats from the beginning of a row of n floats to that of the next."""
    return (n + 15) // 16 * 16 + APART


rounded = inner(spaced)


class Plan:
    """Where the weights of a model lie."""

    def __init__(self, model: Transformer, tensors: list[Tensor | None]):
        self.config, self.tensors = model.config, tensors
        self.weights: list[tuple[Tensor, np.ndarray]] = []  # with the array that each had: an address must not outlive its array
        c, places = model.config, [self._place(tensor) for tensor in tensors]
        sizes = [c.width, c.heads, c.key_value_heads, c.head_width, c.hidden, c.symbols, c.norm == "rms",
                 CODES["silu" if c.mlp == "swiglu" else c.mlp]]
        # (2 + layers, COLUMNS) of sizes, addresses of the ends, and those of each layer, 0 where there is none
        self.table = np.array([*sizes, *[0] * 6, *places[:5], *[0] * 9, *places[5:]], np.int64).reshape(-1, COLUMNS)
        self.eps = float(c.eps)
        self.threads = min(PIECES, 1 + sum(array.size for _, array in self.weights) // SHARE)
        # Floats that threads share while a token is computed, and those of the rows that each has for itself, besides its scores
        self.shared = APART + 2 * PIECES * spaced(c.width)
        packed, mixed = (c.heads + 2 * c.key_value_heads) * c.head_width, c.heads * c.head_width
        self.own = sum(map(spaced, (c.width, c.width, packed, mixed, c.hidden, c.hidden, c.hidden)))

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
    if type(model.embedding) is not Embedding:
        raise NotServed
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


def decoder(model: Transformer, cache: Cache) -> Decoder | None:
    """To write on with a cache, or None where the definition must run: somebody looks on, kernels are off, or there are other layers."""
    if not serves():
        return None
    try:
        tensors = _tensors(model)
        plan = _plans.get(model)
        if plan is None or not plan.serves(model, tensors):
            plan = _plans[model] = Plan(model, tensors)
        return Decoder(model, plan, cache)
    except NotServed:
        return None


_plans: WeakKeyDictionary[Transformer, Plan] = WeakKeyDictionary()  # the last one of each model: every text begins with one


def serves() -> bool:
    return not watched.watchers and kernels_enabled()


class Decoder:
    """Writes one text: a plan, the cache of its keys and values, and rows to compute in, whose addresses don't change from token to token."""

    def __init__(self, model: Transformer, plan: Plan, cache: Cache):
        self.plan, c = plan, plan.config
        cosines, sines = model.rotation(cache.room) if c.positions == "rotary" else NO_ROTATION
        own = plan.own + spaced(cache.room)
        self.threads = min(plan.threads, get_threads())
        self.words = np.zeros(WORDS, np.int64)
        scratch = np.empty(plan.shared + self.threads * own, f32)
        self.kept = cache, cosines, sines, scratch  # what lies where the addresses say
        self.arguments = _decode.arguments(plan.table, c.layers, plan.eps, cosines, sines, cosines.shape[1], cache.keys, cache.values,
                                           cache.room, scratch, own, self.words, 0, 0, 0)
        self.place, self.symbols = self.arguments.buffer_info()[0], c.symbols

    def __call__(self, token: int, position: int) -> np.ndarray:
        """The logits (symbols,) behind `token`, the one at `position`, whose key and value go into the cache."""
        logits = np.empty(self.symbols, f32)
        self.words.fill(0)
        self.arguments[-3], self.arguments[-2], self.arguments[-1] = token, position, address_of(logits)
        _decode.run(self.place, self.threads)
        return logits


@task
def _decode(t, tasks, table, layers, eps: float, cosines, sines, turned, keys, values, room, scratch, own, words, token, position, logits):
    member, team = join(t, tasks, words)
    if member >= team:
        return
    sizes, ends = integers(table, 8), integers(table + 8 * COLUMNS, 5)
    width, heads, groups, d, hidden, symbols, rms, code = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6] != 0, sizes[7]
    packed_width, n, each = (heads + 2 * groups) * d, position + 1, heads // groups
    # What all share: the pieces of a sum, of attention and of MLP.  What each has for itself: all rows.
    attended = scratch // 64 * 64 + 4 * APART
    passed = attended + 4 * PIECES * rounded(width)
    x = passed + 4 * PIECES * rounded(width) + 4 * member * own
    normal = behind(x, width)
    packed = behind(normal, width)
    mixed = behind(packed, packed_width)
    h = behind(mixed, heads * d)
    other = behind(h, hidden)
    slopes = behind(other, hidden)
    scores = behind(slopes, hidden)
    copy_floats(x, ends[0] + 4 * token * width, width)
    if ends[1]:
        add(floats(x, width), floats(ends[1] + 4 * position * width, width))
    head_pieces, hidden_pieces = min(PIECES, groups), min(PIECES, (hidden + 63) // 64)
    for i in range(layers):
        weights = integers(table + 8 * COLUMNS * (2 + i), COLUMNS)
        norm1, norm1_bias, packing, packing_bias, output, output_bias = weights[0], weights[1], weights[2], weights[3], weights[4], weights[5]
        norm2, norm2_bias, gate, gate_bias, up, up_bias = weights[6], weights[7], weights[8], weights[9], weights[10], weights[11]
        down, down_bias = weights[12], weights[13]
        normalise(x, norm1, norm1_bias, rms, f32(eps), normal, width)
        begin, end = head_pieces * member // team, head_pieces * (member + 1) // team
        first, last = part_of(begin, head_pieces, groups, 1), part_of(end, head_pieces, groups, 1)  # of the groups of heads
        multiply(normal, packing, packing_bias, packed, width, packed_width, each * first * d, each * last * d)
        multiply(normal, packing, packing_bias, packed, width, packed_width, (heads + first) * d, (heads + last) * d)
        multiply(normal, packing, packing_bias, packed, width, packed_width, (heads + groups + first) * d, (heads + groups + last) * d)
        for g in range(first, last):
            queries, key, value = packed + 4 * each * g * d, packed + 4 * (heads + g) * d, packed + 4 * (heads + groups + g) * d
            before = 4 * (i * groups + g) * room * d
            if turned:
                cosine, sine = floats(cosines + 4 * position * turned, turned), floats(sines + 4 * position * turned, turned)
                turn(floats(key, d), cosine, sine)
                for k in range(each):
                    turn(floats(queries + 4 * k * d, d), cosine, sine)
            copy_floats(keys + before + 4 * position * d, key, d)
            copy_floats(values + before + 4 * position * d, value, d)
            for k in range(each):
                attend(queries + 4 * k * d, keys + before, values + before, scores, mixed + 4 * (each * g + k) * d, n, d)
        for p in range(begin, end):
            first, last = each * d * part_of(p, head_pieces, groups, 1), each * d * part_of(p + 1, head_pieces, groups, 1)
            multiply(mixed + 4 * first, output + 4 * first * width, 0, attended + 4 * p * rounded(width), last - first, width, 0, width)
        barrier(team, words, 2 * i + 1)
        add_pieces(x, output_bias, attended, head_pieces, width)

        normalise(x, norm2, norm2_bias, rms, f32(eps), normal, width)
        begin, end = hidden_pieces * member // team, hidden_pieces * (member + 1) // team
        first, last = part_of(begin, hidden_pieces, hidden, 64), part_of(end, hidden_pieces, hidden, 64)
        multiply(normal, gate if gate else up, gate_bias if gate else up_bias, h, width, hidden, first, last)
        if gate:
            multiply(normal, up, up_bias, other, width, hidden, first, last)
        for p in range(begin, end):
            first, last = part_of(p, hidden_pieces, hidden, 64), part_of(p + 1, hidden_pieces, hidden, 64)
            activate(code, h + 4 * first, slopes + 4 * first, last - first, f32(0))
            if gate:
                times(floats(h + 4 * first, last - first), floats(other + 4 * first, last - first))
            multiply(h + 4 * first, down + 4 * first * width, 0, passed + 4 * p * rounded(width), last - first, width, 0, width)
        barrier(team, words, 2 * i + 2)
        add_pieces(x, down_bias, passed, hidden_pieces, width)
    normalise(x, ends[2], ends[3], rms, f32(eps), normal, width)
    first, last = part_of(member, team, symbols, 16), part_of(member + 1, team, symbols, 16)
    if ends[4]:
        multiply(normal, ends[4], 0, logits, width, symbols, first, last)
    else:
        row_times_rows(normal, ends[0] + 4 * first * width, 4 * width, last - first, width, logits + 4 * first)


@inner
def add_pieces(x, bias, pieces, count, n):
    target = floats(x, n)
    if bias:
        add(target, floats(bias, n))
    for p in range(count):
        add(target, floats(pieces + 4 * p * rounded(n), n))


@inner
def behind(row, n):
    """Where a row may begin behind one of n floats."""
    return row + 4 * rounded(n)


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


@separate("void(intp, intp, intp, intp, intp, intp, intp, intp)")
def multiply(x, weight, bias, y, n, m, first, last):
    """y = x W + bias in columns first ... last - 1 of m; W (n, m) is read in order."""
    target, count = y + 4 * first, last - first
    if bias:
        copy_floats(target, bias + 4 * first, count)
    else:
        clear_floats(target, count)
    add_row_times_matrix(x, weight + 4 * first, 4 * m, n, count, target)
