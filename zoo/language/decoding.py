"""One token through a whole transformer, as one kernel.

While writing, every matrix product has a single row, and a step of a small model is a few hundred microseconds of calls around
some fifty of arithmetic.  So the row goes through all layers in one call.  It reads the weights where they are, of 32 bits or of 4 and 8,
adds a row to the cache, and computes what `Transformer.__call__` defines: `test_decoded_logits_equal_the_definition`.

What is left is the time to read the weights, and each thread reads a part of them: its columns of one matrix, and the same rows of the
next (Shoeybi et al. 2019, section 3).  So a thread team has two barriers a layer.  Sums are split at the same places whatever the team's
size, and added up in the same order: no result depends on it.
"""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from ..autograd import Tensor
from ..autograd.kernels.activation import CODES, row_function
from ..autograd.kernels.quantised import multiply_groups, prepare_row
from ..autograd.operations.quantised import BLOCK, BYTES, GROUP, quantised_embedding
from ..autograd.runtime.compiling import inner, separate
from ..autograd.runtime.contention import is_crowded
from ..autograd.runtime.native import (
    add_row_times_matrix,
    address,
    call_on_row,
    clear_floats,
    copy_floats,
    exp_falling,
    floats,
    integers,
    row_times_narrow_matrix,
    row_times_rows,
)
from ..autograd.runtime.switch import kernels_enabled
from ..autograd.runtime.tasks import FLOAT_BYTES, RUN_FLOATS, Address, address_of, at, integer_row, part, row, row_address, task, word_at
from ..autograd.runtime.team import JOIN_LOOKS, WORDS, barrier, join
from ..autograd.runtime.threads import get_threads
from ..autograd.tensor import state as tracing
from ..nn import Embedding, LayerNorm, Linear, QuantisedEmbedding, QuantisedLinear, RMSNorm

f32 = np.float32
# Floats between the rows that a token is computed in.  Where two rows begin within a few registers of each other, LLVM takes them
# for one that might overlap, and runs a loop that rounds differently: results would depend on where memory happened to be free.
ROW_GAP_FLOATS = 256
MAX_SPLITS = 8  # of a sum that threads share
SPLIT_FLOATS = 64  # the least of a sum's terms that make a split
MIN_SHARED_FLOATS = 1 << 17  # of the matrices that are worth another thread
FLOATS_PER_LOOK = 100  # of the matrices, for each look that the first thread takes for the others: a few percent of a token's time
NO_ROTATION = (np.zeros((1, 0), f32),) * 2

# How a matrix lies in memory: float32 of (inputs, outputs); float32 of (outputs, inputs), as an embedding; blocks of 4 or 8 bits
BY_INPUTS, BY_OUTPUTS, FOUR_BITS, EIGHT_BITS = 0, 1, 4, 8
KINDS = {"Q4_1": FOUR_BITS, "Q8_0": EIGHT_BITS}
GROUP_BYTES = {kind: GROUP * size for kind, size in BYTES.items()}  # of a block of sixteen rows
FOUR_BIT_BYTES, EIGHT_BIT_BYTES = GROUP_BYTES["Q4_1"], GROUP_BYTES["Q8_0"]

# Words of a plan's table: norms have an address and a bias, matrices an address, a kind and a bias; 0 where there is none
NORM_1, PACKING, OUTPUT, NORM_2, GATE, UP, DOWN, LAYER_WORDS = 0, 2, 5, 8, 10, 13, 16, 19
POSITIONS, LAST_NORM, HEAD = 0, 1, 3  # of its first row


class Sizes(NamedTuple):
    """What a model's configuration says, as the kernel reads it."""

    width: int
    heads: int
    key_value_heads: int
    head_width: int
    hidden: int
    symbols: int
    layers: int
    room: int  # tokens that the cache has room for
    rotary: int  # cosines of a position; 0: none
    rms: bool
    activation: Address  # of its machine code
    eps: float
    looks: int  # that the first thread takes for the others


class Rows(NamedTuple):
    """Where a token is computed."""

    shared: Address  # splits of sums, which all threads add up
    thread_floats: int  # of each thread's rows behind them


def row_pitch(n):
    """Floats from the beginning of a row of n floats to that of the next."""
    return (n + 15) // 16 * 16 + ROW_GAP_FLOATS


pitch = inner(row_pitch)


class Unavailable(Exception):
    """The model has layers that the kernel doesn't know."""


class Plan:
    """Where the weights of a model lie."""

    def __init__(self, model: Any, layers: list[Any]):
        self.config, self.layers = model.config, layers
        self.tensors: list[tuple[Tensor, np.ndarray]] = []  # with the array that each had: an address must not outlive its array
        self.blocks: list[tuple[Any, np.ndarray]] = []  # layers of 4 or 8 bits, likewise
        c = model.config
        ends = [self._place(None if model.position is None else model.position.weight), *self._norm(model.norm)]
        ends += self._table(model.embedding) if model.output is None else self._matrix(model.output)
        rows = [[*ends, *[0] * (LAYER_WORDS - len(ends))]]
        for block in model.blocks:
            attention, mlp = block.attention, block.mlp
            rows.append([*self._norm(block.norm1), *self._matrix(attention.query_key_value), *self._matrix(attention.output),
                         *self._norm(block.norm2), *self._matrix(mlp.gate), *self._matrix(mlp.up), *self._matrix(mlp.down)])
        self.table = np.array(rows, np.int64)  # (1 + layers, LAYER_WORDS)
        if self.blocks and (c.head_width % GROUP or c.heads // c.key_value_heads * c.head_width % BLOCK or c.symbols < GROUP):
            raise Unavailable
        size = sum(a.nbytes for _, a in (*self.tensors, *self.blocks)) // FLOAT_BYTES
        self.threads, self.looks = min(MAX_SPLITS, 1 + size // MIN_SHARED_FLOATS), JOIN_LOOKS + size // FLOATS_PER_LOOK
        # Floats that threads share while a token is computed, and those of the rows that each has for itself, besides its scores
        self.shared_floats = ROW_GAP_FLOATS + 2 * MAX_SPLITS * row_pitch(c.width)
        packed, mixed = (c.heads + 2 * c.key_value_heads) * c.head_width, c.heads * c.head_width
        widest = max(c.width, mixed, c.hidden)
        self.thread_floats = sum(map(row_pitch, (c.width, c.width, packed, mixed, c.hidden, c.hidden, c.hidden, widest, widest)))

    def _place(self, tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        if tensor.data.dtype != f32 or not tensor.data.flags.c_contiguous:
            raise Unavailable
        self.tensors.append((tensor, tensor.data))
        return address_of(tensor.data)

    def _norm(self, layer: Any) -> tuple[int, int]:
        if type(layer) not in (LayerNorm, RMSNorm):
            raise Unavailable
        return self._place(layer.gain), self._place(getattr(layer, "bias", None))

    def _matrix(self, layer: Any) -> tuple[int, int, int]:
        """Address, kind, bias."""
        if layer is None:
            return 0, 0, 0
        if type(layer) is Linear:
            return self._place(layer.weight), BY_INPUTS, self._place(layer.bias)
        if type(layer) is QuantisedLinear:
            return *self._quantised(layer), self._place(layer.bias)
        raise Unavailable

    def _table(self, layer: Any) -> tuple[int, int, int]:
        """The embedding as the output matrix."""
        if type(layer) is Embedding:
            return self._place(layer.weight), BY_OUTPUTS, 0
        if type(layer) is QuantisedEmbedding:
            return *self._quantised(layer), 0
        raise Unavailable

    def _quantised(self, layer: Any) -> tuple[int, int]:
        self.blocks.append((layer, layer.blocks))
        return address_of(layer.blocks), KINDS[layer.quantisation]

    def is_current(self) -> bool:
        """True while every weight still lies where it did."""
        for tensor, array in self.tensors:  # asked for every token: half of what `all` would take, and a quarter of what the property `data` would
            if tensor._data is not array:
                return False
        for layer, array in self.blocks:
            if layer.blocks is not array:
                return False
        return True

    def fits(self, model: Any, layers: list[Any]) -> bool:
        same = model.config is self.config and len(layers) == len(self.layers) and all(map(operator.is_, layers, self.layers))
        return same and self.is_current()


def _layers(model: Any) -> list[Any]:
    """The layers of the ends and of each block."""
    layers = [model.embedding, model.position, model.norm, model.output]
    for block in model.blocks:
        attention, mlp = block.attention, block.mlp
        if mlp is None or attention.query_norm is not None or attention.sliding:
            raise Unavailable
        layers += [block.norm1, attention.query_key_value, attention.output, block.norm2, mlp.gate, mlp.up, mlp.down]
    return layers


def decoder(model: Any, cache: Any) -> Decoder | None:
    """To write on with a `Cache`, or None where the definition must run: a trace or patch is on, kernels are off, or there are other layers."""
    if not is_available():
        return None
    try:
        layers = _layers(model)
        plan = _plans.get(model)
        if plan is None or not plan.fits(model, layers):
            plan = _plans[model] = Plan(model, layers)
        return Decoder(model, plan, cache)
    except Unavailable:
        return None


_plans: WeakKeyDictionary[Any, Plan] = WeakKeyDictionary()  # the last one of each model: every text begins with one


def is_available() -> bool:
    return not tracing.watchers and kernels_enabled()


class Decoder:
    """Writes one text: a plan, the cache of its keys and values, and rows to compute in, whose addresses don't change from token to token."""

    def __init__(self, model: Any, plan: Plan, cache: Any):
        self.plan, self.embedding, c = plan, model.embedding, plan.config
        cosines, sines = model.rotation(cache.room) if c.positions == "rotary" else NO_ROTATION
        thread_floats = plan.thread_floats + row_pitch(cache.room)
        self.threads = min(plan.threads, get_threads())
        self.words = np.zeros(WORDS, np.int64)
        scratch = np.empty(plan.shared_floats + self.threads * thread_floats, f32)
        self.memory = cache, cosines, sines, scratch  # what lies where the addresses say
        sizes = Sizes(c.width, c.heads, c.key_value_heads, c.head_width, c.hidden, c.symbols, c.layers, cache.room, cosines.shape[1],
                      c.norm == "rms", row_function(CODES["silu" if c.mlp == "swiglu" else c.mlp]), float(c.eps), plan.looks)
        rows = Rows(scratch, thread_floats)
        self.arguments = _decode.arguments(sizes, plan.table, cosines, sines, cache.keys, cache.values, rows, self.words, 0, 0, 0)
        self.place, self.symbols = self.arguments.buffer_info()[0], c.symbols

    def __call__(self, token: int, position: int) -> np.ndarray:
        """The logits (symbols,) behind `token`, the one at `position`, whose key and value go into the cache."""
        logits = np.empty(self.symbols, f32)
        self.words.fill(0)
        embedded = self._embedded(token)
        self.arguments[-3], self.arguments[-2], self.arguments[-1] = address_of(embedded), position, address_of(logits)
        _decode.run(self.place, 1 if is_crowded() else self.threads)
        return logits

    def _embedded(self, token: int) -> np.ndarray:
        """The token's row of the embedding, (width,)."""
        layer = self.embedding
        if type(layer) is Embedding:
            return layer.weight.data[token]
        return np.ascontiguousarray(quantised_embedding(layer.blocks, np.array(token), kind=layer.quantisation, outputs=layer.symbols))


@task
def _decode(t, tasks, s: Sizes, table, cosines, sines, keys, values, rows: Rows, words, embedded, position, logits):
    member, team = join(t, tasks, words, s.looks)
    if member >= team:
        return
    ends = integer_row(table, 0, LAYER_WORDS)
    width, heads, groups, d, hidden = s.width, s.heads, s.key_value_heads, s.head_width, s.hidden
    packed_width, n, each = (heads + 2 * groups) * d, position + 1, heads // groups
    # What all share: the splits of two sums, of attention and of MLP.  What each has for itself: all rows.
    attended = at(rows.shared // 64 * 64, ROW_GAP_FLOATS)
    passed = at(attended, MAX_SPLITS * pitch(width))
    x = at(at(passed, MAX_SPLITS * pitch(width)), member * rows.thread_floats)
    normal = behind(x, width)
    packed = behind(normal, width)
    mixed = behind(packed, packed_width)
    h = behind(mixed, heads * d)
    other = behind(h, hidden)
    slopes = behind(other, hidden)
    scaled = behind(slopes, hidden)
    sums = behind(scaled, max(width, heads * d, hidden))
    scores = behind(sums, max(width, heads * d, hidden))
    copy_floats(x, embedded, width)
    if ends[POSITIONS]:
        add(floats(x, width), row(ends[POSITIONS], position, width))
    head_splits, hidden_splits = min(MAX_SPLITS, groups), min(MAX_SPLITS, (hidden + SPLIT_FLOATS - 1) // SPLIT_FLOATS)
    for i in range(s.layers):
        layer = integer_row(table, 1 + i, LAYER_WORDS)
        normalise(x, layer[NORM_1], layer[NORM_1 + 1], s.rms, f32(s.eps), normal, width)
        prepare(layer[PACKING + 1], normal, 0, width, scaled, sums)
        begin, end = head_splits * member // team, head_splits * (member + 1) // team
        first, last = part(begin, head_splits, groups, 1), part(end, head_splits, groups, 1)  # of the groups of heads
        for start, stop in ((each * first, each * last), (heads + first, heads + last), (heads + groups + first, heads + groups + last)):
            columns(address(layer), PACKING, normal, scaled, sums, packed, width, packed_width, start * d, stop * d)
        for g in range(first, last):
            queries, key, value = at(packed, each * g * d), at(packed, (heads + g) * d), at(packed, (heads + groups + g) * d)
            earlier_keys, earlier_values = row_address(keys, i * groups + g, s.room * d), row_address(values, i * groups + g, s.room * d)
            if s.rotary:
                cosine, sine = row(cosines, position, s.rotary), row(sines, position, s.rotary)
                turn(floats(key, d), cosine, sine)
                for k in range(each):
                    turn(row(queries, k, d), cosine, sine)
            copy_floats(row_address(earlier_keys, position, d), key, d)
            copy_floats(row_address(earlier_values, position, d), value, d)
            for k in range(each):
                attend(row_address(queries, k, d), earlier_keys, earlier_values, scores, row_address(mixed, each * g + k, d), n, d)
        for p in range(begin, end):
            first, last = each * d * part(p, head_splits, groups, 1), each * d * part(p + 1, head_splits, groups, 1)
            inputs(address(layer), OUTPUT, mixed, scaled, sums, row_address(attended, p, pitch(width)), heads * d, width, first, last)
        barrier(team, words, 2 * i + 1)
        add_splits(x, layer[OUTPUT + 2], attended, head_splits, width)

        normalise(x, layer[NORM_2], layer[NORM_2 + 1], s.rms, f32(s.eps), normal, width)
        begin, end = hidden_splits * member // team, hidden_splits * (member + 1) // team
        first, last = part(begin, hidden_splits, hidden, SPLIT_FLOATS), part(end, hidden_splits, hidden, SPLIT_FLOATS)
        gated = layer[GATE] != 0
        prepare(layer[UP + 1], normal, 0, width, scaled, sums)
        if gated:
            columns(address(layer), GATE, normal, scaled, sums, h, width, hidden, first, last)
            columns(address(layer), UP, normal, scaled, sums, other, width, hidden, first, last)
        else:
            columns(address(layer), UP, normal, scaled, sums, h, width, hidden, first, last)
        for p in range(begin, end):
            first, last = part(p, hidden_splits, hidden, SPLIT_FLOATS), part(p + 1, hidden_splits, hidden, SPLIT_FLOATS)
            call_on_row(s.activation, at(h, first), at(slopes, first), last - first, f32(0))
            if gated:
                times(floats(at(h, first), last - first), floats(at(other, first), last - first))
            inputs(address(layer), DOWN, h, scaled, sums, row_address(passed, p, pitch(width)), hidden, width, first, last)
        barrier(team, words, 2 * i + 2)
        add_splits(x, layer[DOWN + 2], passed, hidden_splits, width)
    normalise(x, ends[LAST_NORM], ends[LAST_NORM + 1], s.rms, f32(s.eps), normal, width)
    first, last = part(member, team, s.symbols, RUN_FLOATS), part(member + 1, team, s.symbols, RUN_FLOATS)
    prepare(ends[HEAD + 1], normal, 0, width, scaled, sums)
    columns(address(ends), HEAD, normal, scaled, sums, logits, width, s.symbols, first, last)


# --- products of a row with a matrix of any kind


@separate("void(intp, intp, intp, intp, intp, intp)")
def prepare(kind, x, first, last, scaled, sums):
    """What products with blocks of 4 or 8 bits need of x[first : last], at the same places of `scaled`, and of `sums` for each block."""
    if kind >= FOUR_BITS:
        prepare_row(at(x, first), (last - first) // BLOCK, kind == FOUR_BITS, at(scaled, first), at(sums, first // BLOCK))


@separate(f"void({', '.join(['intp'] * 10)})")
def columns(words, k, x, scaled, sums, y, n, m, first, last):
    """y[first : last] = (x W + b)[first : last] for the matrix (n, m) that the words from k on tell of; prepared where it is quantised."""
    told = integers(word_at(words, k), 3)
    weight, kind, bias = told[0], told[1], told[2]
    if kind == BY_INPUTS:
        multiply(x, weight, bias, y, n, m, first, last)
    elif kind == BY_OUTPUTS:
        row_times_rows(x, row_address(weight, first, n), n, last - first, n, at(y, first))
    else:
        size = n // BLOCK * (FOUR_BIT_BYTES if kind == FOUR_BITS else EIGHT_BIT_BYTES)
        multiply_groups(weight, size, n // BLOCK, kind == FOUR_BITS, scaled, sums, y, first // GROUP, (last + GROUP - 1) // GROUP, m)
        if bias:
            add(floats(at(y, first), last - first), floats(at(bias, first), last - first))


@separate(f"void({', '.join(['intp'] * 10)})")
def inputs(words, k, x, scaled, sums, y, n, m, first, last):
    """y (m,) = x[first : last] W[first : last], W (n, m): the split of a sum."""
    told = integers(word_at(words, k), 2)
    weight, kind = told[0], told[1]
    if kind == BY_INPUTS:
        multiply(at(x, first), row_address(weight, first, m), 0, y, last - first, m, 0, m)
    else:
        prepare(kind, x, first, last, scaled, sums)
        block, size = first // BLOCK, FOUR_BIT_BYTES if kind == FOUR_BITS else EIGHT_BIT_BYTES
        multiply_groups(weight + block * size, n // BLOCK * size, (last - first) // BLOCK, kind == FOUR_BITS, at(scaled, first),
                        at(sums, block), y, 0, (m + GROUP - 1) // GROUP, m)  # fmt: skip


@separate("void(intp, intp, intp, intp, intp)")
def add_splits(x, bias, splits, count, n):
    """x (n,) += the bias and every split of a sum."""
    target = floats(x, n)
    if bias:
        add(target, floats(bias, n))
    for p in range(count):
        add(target, floats(row_address(splits, p, pitch(n)), n))


@inner
def behind(begin, n):
    """Where a row may begin behind one of n floats."""
    return at(begin, pitch(n))


@inner
def add(y, x):
    for j in range(y.size):
        y[j] += x[j]


@inner
def times(y, x):
    for j in range(y.size):
        y[j] *= x[j]


@separate("void(intp, intp, intp, intp, float32, intp, intp)")
def normalise(source, gain, bias, rms, eps, target, n):
    """Layer norm or RMS norm of one row."""
    x, y, gains = floats(source, n), floats(target, n), floats(gain, n)
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
    row_times_rows(q, keys, d, n, d, scores)
    share, scale, largest, total = floats(scores, n), f32(1) / f32(math.sqrt(f32(d))), f32(-np.inf), f32(0)
    for t in range(n):
        largest = max(largest, share[t])
    for t in range(n):
        share[t] = exp_falling((share[t] - largest) * scale)
    for t in range(n):
        total += share[t]
    row_times_narrow_matrix(scores, values, d, n, d, y)
    mixed = floats(y, d)
    for j in range(d):
        mixed[j] /= total


@separate("void(intp, intp, intp, intp, intp, intp, intp, intp)")
def multiply(x, weight, bias, y, n, m, first, last):
    """y = x W + bias in columns first ... last - 1 of m; W (n, m) is read in order."""
    target, count = at(y, first), last - first
    if bias:
        copy_floats(target, at(bias, first), count)
    else:
        clear_floats(target, count)
    add_row_times_matrix(x, at(weight, first), m, n, count, target)
