"""Kernels of attention, by blocks, so that no array of queries x keys ever exists (Rabe & Staats 2021; Dao et al. 2022).

Forward: y_i = sum_j e^(s_ij - m) v_j / l with s = scale q k^T, m the greatest score of row i and l its sum of e^(s_ij - m). Both are
carried along over the blocks of keys: where a block raises m to m', what was added up before is multiplied by e^(m - m'). Only m and
l are kept for backward, which computes each block of weights once more:

    P = e^(S - m) / l    dV = P^T G    dP = G V^T    dS = P (dP - D), D = the row sums of G Y    dQ = scale dS K    dK = scale dS^T Q

Since y = P v, the sum over j of P_ij dP_ij, which softmax's derivative subtracts, is D_i = G_i . y_i and needs no row of P.

All arrays are (batch, heads, time, width) with a contiguous last axis and any strides before it: slices of one (batch, time, 3, heads,
width) buffer are read, and gradients written, where they lie.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..operations.attention import scaled_dot_product_attention
from ..runtime.compiling import inner
from ..runtime.native import address, expf
from ..runtime.tasks import Address, at, is_float32, part, row, span, task
from ..runtime.threads import get_threads
from ..tensor import Tensor, enable_grad, grad
from .activation import exponentials, greatest, scale_row
from .linear import Matrix, matrix_row, multiply, rows_from, transpose

f32 = np.float32
QUERY_BLOCK, KEY_BLOCK = 64, 256  # queries and keys of a block of scores: 64 kB
BACKWARD_KEY_BLOCK = 128  # where there are two such blocks, P and dS
MINUS_INFINITY = f32(-np.inf)


class Heads(NamedTuple):
    """An array (batch, heads, time, width) in memory; its rows are contiguous."""

    start: Address  # None where there is no such array
    batch_pitch: int  # floats from one entry of the batch to the next
    head_pitch: int
    row_pitch: int


class Sizes(NamedTuple):
    batch: int
    heads: int
    queries: int
    keys: int
    width: int  # of a query and a key
    features: int  # of a value
    shift: int  # query i looks at keys 0 .. i + shift
    scale: float  # of the scores


@inner
def head_of(a, b, h):
    """Head h of entry b of the batch: a matrix (time, width)."""
    return Matrix(at(a.start, b * a.batch_pitch + h * a.head_pitch), a.row_pitch, False)


@inner
def block_of_scores(scores, q, k, mask, first, last, start, stop, sizes):
    """scores (queries first .. last, keys start .. stop) = scale q k^T + mask; -inf from key `query + shift + 1` on."""
    rows, columns = last - first, stop - start
    multiply(f32(sizes.scale), rows_from(q, first), transpose(rows_from(k, start)), f32(0), Matrix(address(scores), columns, False),
             rows, columns, sizes.width)  # fmt: skip
    for i in range(rows):
        s = scores[i * columns:(i + 1) * columns]
        if mask.start:
            added = span(at(mask.start, (first + i) * mask.pitch), start, stop)
            for j in range(columns):
                s[j] = MINUS_INFINITY if added[j] == MINUS_INFINITY else s[j] + added[j]  # a key that is masked may be NaN
        for j in range(max(0, first + i + sizes.shift + 1 - start), columns):
            s[j] = MINUS_INFINITY


@inner
def attend(q, k, v, mask, y, row_max, row_sum, first, last, sizes):
    """y, row_max, row_sum of queries first .. last of one head; q (queries, width), k (keys, width), v (keys, features) are matrices."""
    rows, features = last - first, sizes.features
    scores = np.empty(rows * min(KEY_BLOCK, sizes.keys), np.float32)
    for i in range(rows):
        row_max[i], row_sum[i] = MINUS_INFINITY, f32(0)
    visible = min(sizes.keys, last + sizes.shift)  # keys that the last row may look at
    for start in range(0, visible, KEY_BLOCK):
        stop = min(start + KEY_BLOCK, visible)
        columns = stop - start
        block_of_scores(scores, q, k, mask, first, last, start, stop, sizes)
        for i in range(rows):
            s = scores[i * columns:(i + 1) * columns]
            new_max = max(greatest(s), row_max[i])
            base = f32(0) if new_max == MINUS_INFINITY else new_max  # nothing to look at so far
            if start > 0:
                rescale = expf(row_max[i] - base)
                row_sum[i] *= rescale
                scale_row(matrix_row(y, first + i, features), rescale)
            row_sum[i] += exponentials(s, base)
            row_max[i] = new_max
        beta = f32(0) if start == 0 else f32(1)
        multiply(f32(1), Matrix(address(scores), columns, False), rows_from(v, start), beta, rows_from(y, first), rows, features, columns)
    for i in range(rows):
        scale_row(matrix_row(y, first + i, features), f32(0) if row_sum[i] == f32(0) else f32(1) / row_sum[i])  # 0: no key to look at


@task
def attention_forward(t, tasks, q: Heads, k: Heads, v: Heads, mask: Heads, y: Heads, row_max, row_sum, sizes: Sizes):
    """row_max, row_sum (batch, heads, queries). A unit of work is a block of queries of one head."""
    blocks = (sizes.queries + QUERY_BLOCK - 1) // QUERY_BLOCK
    units = sizes.batch * sizes.heads * blocks
    for unit in range(part(t, tasks, units, 1), part(t + 1, tasks, units, 1)):
        head = unit // blocks
        b, h, first = head // sizes.heads, head % sizes.heads, unit % blocks * QUERY_BLOCK
        last, before = min(first + QUERY_BLOCK, sizes.queries), head * sizes.queries
        m, l = span(row_max, before + first, before + last), span(row_sum, before + first, before + last)
        attend(head_of(q, b, h), head_of(k, b, h), head_of(v, b, h), head_of(mask, b, h), head_of(y, b, h), m, l, first, last, sizes)


@inner
def row_products(g, y, row_dot, rows, features):
    """row_dot[i] = g_i . y_i"""
    for i in range(rows):
        a, b, total = matrix_row(g, i, features), matrix_row(y, i, features), f32(0)
        for j in range(features):
            total += a[j] * b[j]
        row_dot[i] = total


@inner
def weights_backward(scores, dweights, row_max, row_sum, row_dot, rows, columns, scale):
    """scores become the weights P; dweights, which hold dP, become scale dS = scale P (dP - D)."""
    for i in range(rows):
        s, d = scores[i * columns:(i + 1) * columns], dweights[i * columns:(i + 1) * columns]
        nothing, dot = row_sum[i] == f32(0), row_dot[i]
        m, share = f32(0) if nothing else row_max[i], f32(0) if nothing else f32(1) / row_sum[i]
        for j in range(columns):
            p = expf(s[j] - m) * share
            s[j] = p
            d[j] = scale * p * (d[j] - dot)


@inner
def attend_backward(g, q, k, v, mask, dq, dk, dv, row_max, row_sum, row_dot, sizes):
    """dq, dk, dv of one head."""
    scores, dweights = np.empty(QUERY_BLOCK * BACKWARD_KEY_BLOCK, np.float32), np.empty(QUERY_BLOCK * BACKWARD_KEY_BLOCK, np.float32)
    zero, one = f32(0), f32(1)
    for start in range(0, sizes.keys, BACKWARD_KEY_BLOCK):
        stop = min(start + BACKWARD_KEY_BLOCK, sizes.keys)
        columns = stop - start
        p, ds = Matrix(address(scores), columns, False), Matrix(address(dweights), columns, False)
        begin = max(0, start - sizes.shift) // QUERY_BLOCK * QUERY_BLOCK  # the first block with a query that may look here
        for first in range(begin, sizes.queries, QUERY_BLOCK):
            last = min(first + QUERY_BLOCK, sizes.queries)
            rows = last - first
            block_of_scores(scores, q, k, mask, first, last, start, stop, sizes)
            multiply(one, rows_from(g, first), transpose(rows_from(v, start)), zero, ds, rows, columns, sizes.features)
            weights_backward(scores, dweights, row_max[first:last], row_sum[first:last], row_dot[first:last], rows, columns, f32(sizes.scale))
            beta = zero if first == begin else one
            multiply(one, transpose(p), rows_from(g, first), beta, rows_from(dv, start), columns, sizes.features, rows)
            multiply(one, transpose(ds), rows_from(q, first), beta, rows_from(dk, start), columns, sizes.width, rows)
            beta = zero if start == 0 else one
            multiply(one, ds, rows_from(k, start), beta, rows_from(dq, first), rows, sizes.width, columns)


@task
def attention_backward(
    t, tasks, g: Heads, q: Heads, k: Heads, v: Heads, mask: Heads, y: Heads, dq: Heads, dk: Heads, dv: Heads, row_max, row_sum, sizes: Sizes
):
    """A unit of work is a head: its keys add up to dq, its queries to dk and dv."""
    row_dot = np.empty(sizes.queries, np.float32)
    units = sizes.batch * sizes.heads
    for head in range(part(t, tasks, units, 1), part(t + 1, tasks, units, 1)):
        b, h = head // sizes.heads, head % sizes.heads
        row_products(head_of(g, b, h), head_of(y, b, h), row_dot, sizes.queries, sizes.features)
        attend_backward(
            head_of(g, b, h), head_of(q, b, h), head_of(k, b, h), head_of(v, b, h), head_of(mask, b, h),
            head_of(dq, b, h), head_of(dk, b, h), head_of(dv, b, h),
            row(row_max, head, sizes.queries), row(row_sum, head, sizes.queries), row_dot, sizes,
        )  # fmt: skip


def _four_axes(a: np.ndarray) -> np.ndarray:
    """(..., time, width) -> (batch, heads, time, width), rows contiguous; a view where there can be one."""
    if a.ndim != 4:
        a = a[(None,) * (4 - a.ndim)] if a.ndim < 4 else a.reshape(-1, *a.shape[-3:])
    row_bytes = a.itemsize * a.shape[3]
    if (a.strides[3] != a.itemsize and a.shape[3] > 1) or (a.strides[2] < row_bytes and a.shape[2] > 1):
        return np.ascontiguousarray(a)
    return np.ascontiguousarray(a) if any(stride % a.itemsize for stride in a.strides[:3]) else a  # a field of records


def _heads(a: np.ndarray | None) -> Heads:
    """Where an array of four axes lies. The stride of a single row may be anything, but BLAS wants a row's length."""
    if a is None:
        return Heads(None, 0, 0, 0)
    batch, head, row, _ = (stride // a.itemsize for stride in a.strides)
    return Heads(a, batch, head, row if a.shape[2] > 1 else a.shape[3])


def _empty_like(a: np.ndarray, features: int) -> np.ndarray:
    """An array with a's first three axes in the order that they have in memory: heads side by side if a's are."""
    b, h, t, _ = a.shape
    if h > 1 and a.strides[1] < a.strides[2]:
        return np.empty((b, t, h, features), f32).swapaxes(1, 2)
    return np.empty((b, h, t, features), f32)


def _additive_mask(mask, q, k, shape):
    """A mask as numbers to be added, (batch, heads, queries, keys) with strides of 0 where it repeats, its rows contiguous."""
    if mask is None:
        return None
    added = np.where(mask, f32(0), MINUS_INFINITY) if mask.dtype == bool else mask.astype(f32, copy=False)
    keys = k.shape[2]
    if added.ndim == 0 or added.shape[-1] != keys or added.strides[-1] != added.itemsize:
        added = np.array(np.broadcast_to(added, (*added.shape[:-1], keys)), order="C")
    added = np.broadcast_to(added, (*shape[:-1], keys))
    return added.reshape(*q.shape[:3], keys) if added.ndim != 4 else added


@scaled_dot_product_attention.forward(strided=True)
def run_attention(query, key, value, mask, *, is_causal, scale):
    if not is_float32(query, key, value) or not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        return NotImplemented
    q, k, v = _four_axes(query), _four_axes(key), _four_axes(value)
    batch, heads, queries, width = q.shape
    keys, features = v.shape[2:]
    added = _additive_mask(mask, q, k, query.shape)
    y = _empty_like(q, features)
    row_max, row_sum = np.empty((2, batch, heads, queries), f32)
    sizes = Sizes(batch, heads, queries, keys, width, features,
                  shift=keys - queries if is_causal else keys, scale=1 / math.sqrt(width) if scale is None else float(scale))  # fmt: skip
    blocks = batch * heads * (-(-queries // QUERY_BLOCK))
    attention_forward(*map(_heads, (q, k, v, added, y)), row_max, row_sum, sizes, tasks=min(get_threads(), blocks))
    return y.reshape(*query.shape[:-1], features), (row_max, row_sum, added, sizes)


@scaled_dot_product_attention.backward
def run_attention_backward(g, y, saved, query, key, value, mask, *, needs, is_causal, scale):
    if needs[3]:
        return _by_definition(g, (query, key, value, mask), needs, is_causal=is_causal, scale=scale)
    row_max, row_sum, added, sizes = saved
    q, k, v, y, g = map(_four_axes, (query, key, value, y, g))
    dq, dk, dv = _empty_like(q, sizes.width), _empty_like(k, sizes.width), _empty_like(v, sizes.features)
    tasks = min(get_threads(), sizes.batch * sizes.heads)
    attention_backward(*map(_heads, (g, q, k, v, added, y, dq, dk, dv)), row_max, row_sum, sizes, tasks=tasks)
    return dq.reshape(query.shape), dk.reshape(key.shape), dv.reshape(value.shape), None


def _by_definition(g, arrays, needs, **settings):
    """A mask that is learned: its gradient has a number for each query and key anyway."""
    with enable_grad():
        tensors = [None if a is None else Tensor(a, requires_grad=need) for a, need in zip(arrays, needs)]
        y = scaled_dot_product_attention.definition(*tensors, **settings)
        gradients = iter(grad(y, [x for x, need in zip(tensors, needs) if need], g))
    return [next(gradients).data if need else None for need in needs]
