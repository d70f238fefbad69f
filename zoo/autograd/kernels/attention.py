"""Kernels of attention, by blocks, so that no array of queries x keys ever exists (Rabe & Staats 2021; Dao et al. 2022).

Forward: y_i = sum_j e^(s_ij - m) v_j / l with s = scale q k^T, m the greatest score of row i and l its sum of e^(s_ij - m). Both are
carried along over the blocks of keys: where a block raises m to m', what was added up before is multiplied by e^(m - m'). Only m and
l are kept for backward, which computes each block of weights once more:

    P = e^(S - m) / l    dV = P^T G    dP = G V^T    dS = P (dP - D), D = the row sums of G Y    dQ = scale dS K    dK = scale dS^T Q

Since y = P v, the sum over j of P_ij dP_ij, which softmax's derivative subtracts, is D_i = G_i . y_i and needs no row of P.

A block of scores is stored turned, with a query in each lane of the registers: `score_panels` says why.

All arrays are (batch, heads, time, width) with a contiguous last axis and any strides before it: slices of one (batch, time, 3, heads,
width) buffer are read, and gradients written, where they lie.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..operations.attention import scaled_dot_product_attention
from ..runtime.compiling import inner
from ..runtime.native import address, clear_floats, copy_floats, exp_falling, floats, keep_alive
from ..runtime.tasks import Address, at, is_float32, part, row, task
from ..runtime.threads import get_threads
from ..runtime.tiles import COLUMNS, ROWS, tile_of_columns
from ..tensor import Tensor, enable_grad, grad
from .activation import scale_row
from .products.matrices import Matrix, matrix_row
from .score_panels import (
    MINUS_INFINITY,
    add_lanes,
    exponentials_of_panel,
    mask_panel,
    pack_panel,
    raise_greatest,
    room_for,
    rows_times_panel,
    weights_backward,
    work_in,
)

f32 = np.float32
KEY_BLOCK = 256  # keys of a block of scores
BACKWARD_QUERY_BLOCK, BACKWARD_KEY_BLOCK = 64, 64  # where there are two such blocks, P and dS: 16 kB each
UNIT_QUERIES = 32  # that are worth a thread of their own


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


# --- forward


@inner
def attend(q, k, v, mask, y, at_max, at_sum, first, lanes, sizes, w):
    """y, and its rows' greatest scores and sums, of queries first .. first + lanes - 1, at most COLUMNS, of one head.

    q (queries, width), k (keys, width), v (keys, features) are matrices.
    """
    features, shift = sizes.features, sizes.shift
    base, top, total = floats(w.base, COLUMNS), floats(w.top, COLUMNS), floats(w.total, COLUMNS)
    pack_panel(w.panel, q, first, lanes, sizes.width, f32(sizes.scale))
    for lane in range(COLUMNS):
        top[lane], total[lane] = MINUS_INFINITY, f32(0)
    for lane in range(lanes):
        clear_floats(at(y.start, (first + lane) * y.pitch), features)
    visible = min(sizes.keys, first + lanes + shift)  # keys that the last query may look at
    for start in range(0, visible, KEY_BLOCK):
        count = min(KEY_BLOCK, visible - start)
        rows_times_panel(k, w.k_rows, start, count, w.panel, sizes.width, w.scores_rows, 0, w)
        mask_panel(w.scores, mask, first, lanes, start, count, shift)
        copy_floats(w.base, w.top, COLUMNS)
        raise_greatest(w.top, w.scores, count)
        for lane in range(COLUMNS):
            new_base = f32(0) if top[lane] == MINUS_INFINITY else top[lane]  # nothing to look at so far
            if start > 0:
                rescale = exp_falling(base[lane] - new_base)
                total[lane] *= rescale
                if lane < lanes:
                    scale_row(matrix_row(y, first + lane, features), rescale)
            base[lane] = new_base
        exponentials_of_panel(w.scores, count, w.base, lanes)
        add_lanes(w.total, w.scores, count)
        for i in range(0, lanes, ROWS):
            steps = min(count, first + min(i + ROWS, lanes) + shift - start)
            for left in range(0, features, COLUMNS):
                tile_of_columns(at(w.scores, i), w.lanes_apart, min(ROWS, lanes - i), at(v.start, start * v.pitch + left),
                                at(y.start, (first + i) * y.pitch + left), y.pitch, 1, 0, 0, steps, COLUMNS, v.pitch, features - left)  # fmt: skip
    copy_floats(at_max, w.top, lanes)
    copy_floats(at_sum, w.total, lanes)
    for lane in range(lanes):
        share = f32(0) if total[lane] == f32(0) else f32(1) / total[lane]  # 0: no key to look at
        scale_row(matrix_row(y, first + lane, features), share)


@task
def attention_forward(t, tasks, q: Heads, k: Heads, v: Heads, mask: Heads, y: Heads, row_max, row_sum, sizes: Sizes):
    """row_max, row_sum (batch, heads, queries). A unit of work is a panel of queries of one head."""
    panels = (sizes.queries + COLUMNS - 1) // COLUMNS
    units = sizes.batch * sizes.heads * panels
    keys = (min(KEY_BLOCK, sizes.keys) + ROWS - 1) // ROWS * ROWS
    count, words = room_for(COLUMNS, keys, sizes)
    room, tables = np.empty(count, np.float32), np.empty(words, np.int64)
    w = work_in(address(room), address(tables), COLUMNS, keys, sizes, k, v)
    for unit in range(part(t, tasks, units, 1), part(t + 1, tasks, units, 1)):
        head = unit // panels
        b, h, first = head // sizes.heads, head % sizes.heads, unit % panels * COLUMNS
        before = head * sizes.queries + first
        attend(head_of(q, b, h), head_of(k, b, h), head_of(v, b, h), head_of(mask, b, h), head_of(y, b, h), at(row_max, before), at(row_sum, before),
               first, min(COLUMNS, sizes.queries - first), sizes, w)  # fmt: skip
    keep_alive(room)
    keep_alive(tables)


# --- backward


@inner
def row_products(g, y, row_dot, rows, features):
    """row_dot[i] = g_i . y_i"""
    for i in range(rows):
        a, b, total = matrix_row(g, i, features), matrix_row(y, i, features), f32(0)
        for j in range(features):
            total += a[j] * b[j]
        row_dot[i] = total


@inner
def clear_rows(a, rows, n):
    for i in range(rows):
        clear_floats(at(a.start, i * a.pitch), n)


@inner
def add_to_keys(target, panels, j, n, begin, x, first, rows, size, start, rows_apart):
    """Rows start + j .. start + j + n - 1 of target (keys, size) += what panels hold for these keys times rows of x.

    panels (panels, BACKWARD_KEY_BLOCK, COLUMNS) belong to `rows` rows of x from `first` on; those before panel `begin` are left out.
    """
    whole, rest, panel_size = rows // COLUMNS, rows % COLUMNS, BACKWARD_KEY_BLOCK * COLUMNS
    for left in range(0, size, COLUMNS):
        to = at(target.start, (start + j) * target.pitch + left)
        tile_of_columns(at(panels, begin * panel_size + j * COLUMNS), rows_apart, n, at(x.start, (first + begin * COLUMNS) * x.pitch + left),
                        to, target.pitch, whole - begin, panel_size, COLUMNS * x.pitch, COLUMNS, 1, x.pitch, size - left)  # fmt: skip
        if rest and begin <= whole:
            tile_of_columns(at(panels, whole * panel_size + j * COLUMNS), rows_apart, n, at(x.start, (first + whole * COLUMNS) * x.pitch + left),
                            to, target.pitch, 1, 0, 0, rest, 1, x.pitch, size - left)  # fmt: skip


@inner
def weights_of_panel(p, lanes, q, k, v, mask, dq, first, start, count, sizes, w):
    """The weights and dS of the panel of the block's lanes p .. p + lanes - 1, and what these keys add to dq."""
    width, shift, skip = sizes.width, sizes.shift, p * BACKWARD_KEY_BLOCK
    first += p
    seen = min(count, first + lanes + shift - start)  # by its last query
    if seen <= 0:
        return
    seen = min(count, (seen + ROWS - 1) // ROWS * ROWS)
    rows_times_panel(k, w.k_rows, start, seen, at(w.panel, p * width), width, w.scores_rows, skip, w)
    rows_times_panel(v, w.v_rows, start, seen, at(w.g_panel, p * sizes.features), sizes.features, w.dscores_rows, skip, w)
    mask_panel(at(w.scores, skip), mask, first, lanes, start, seen, shift)
    weights_backward(at(w.scores, skip), at(w.dscores, skip), seen, at(w.base, p), at(w.top, p), at(w.total, p), lanes, f32(sizes.scale))
    for i in range(0, lanes, ROWS):
        steps = min(count, first + min(i + ROWS, lanes) + shift - start)
        for left in range(0, width, COLUMNS):
            tile_of_columns(at(w.dscores, skip + i), w.lanes_apart, min(ROWS, lanes - i), at(k.start, start * k.pitch + left),
                            at(dq.start, (first + i) * dq.pitch + left), dq.pitch, 1, 0, 0, steps, COLUMNS, k.pitch, width - left)  # fmt: skip


@inner
def attend_backward(g, q, k, v, mask, dq, dk, dv, row_max, row_sum, row_dot, sizes, w):
    """dq, dk, dv of one head."""
    width, features, shift = sizes.width, sizes.features, sizes.shift
    base, share, dot = floats(w.base, BACKWARD_QUERY_BLOCK), floats(w.top, BACKWARD_QUERY_BLOCK), floats(w.total, BACKWARD_QUERY_BLOCK)
    clear_rows(dq, sizes.queries, width)
    clear_rows(dk, sizes.keys, width)
    clear_rows(dv, sizes.keys, features)
    for first in range(0, sizes.queries, BACKWARD_QUERY_BLOCK):
        rows = min(BACKWARD_QUERY_BLOCK, sizes.queries - first)
        for i in range(rows):
            looks = row_sum[first + i] != f32(0)  # at any key
            base[i] = row_max[first + i] if looks else f32(0)
            share[i] = f32(1) / row_sum[first + i] if looks else f32(0)
            dot[i] = row_dot[first + i]
        for p in range(0, rows, COLUMNS):
            pack_panel(at(w.panel, p * width), q, first + p, min(COLUMNS, rows - p), width, f32(sizes.scale))
            pack_panel(at(w.g_panel, p * features), g, first + p, min(COLUMNS, rows - p), features, f32(1))
        visible = min(sizes.keys, first + rows + shift)  # keys that the last query may look at
        for start in range(0, visible, BACKWARD_KEY_BLOCK):
            count = min(BACKWARD_KEY_BLOCK, visible - start)
            for p in range(0, rows, COLUMNS):
                weights_of_panel(p, min(COLUMNS, rows - p), q, k, v, mask, dq, first, start, count, sizes, w)
            for j in range(0, count, ROWS):
                begin = max(0, start + j - shift - first) // COLUMNS  # the first panel with a query that may look at key j
                n = min(ROWS, count - j)
                add_to_keys(dv, w.scores, j, n, begin, g, first, rows, features, start, w.rows_apart)
                add_to_keys(dk, w.dscores, j, n, begin, q, first, rows, width, start, w.rows_apart)


@task
def attention_backward(
    t, tasks, g: Heads, q: Heads, k: Heads, v: Heads, mask: Heads, y: Heads, dq: Heads, dk: Heads, dv: Heads, row_max, row_sum, sizes: Sizes
):
    """A unit of work is a head: its keys add up to dq, its queries to dk and dv."""
    count, words = room_for(BACKWARD_QUERY_BLOCK, BACKWARD_KEY_BLOCK, sizes)
    room, tables, row_dot = np.empty(count, np.float32), np.empty(words, np.int64), np.empty(sizes.queries, np.float32)
    w = work_in(address(room), address(tables), BACKWARD_QUERY_BLOCK, BACKWARD_KEY_BLOCK, sizes, k, v)
    units = sizes.batch * sizes.heads
    for head in range(part(t, tasks, units, 1), part(t + 1, tasks, units, 1)):
        b, h = head // sizes.heads, head % sizes.heads
        row_products(head_of(g, b, h), head_of(y, b, h), row_dot, sizes.queries, sizes.features)
        attend_backward(
            head_of(g, b, h), head_of(q, b, h), head_of(k, b, h), head_of(v, b, h), head_of(mask, b, h),
            head_of(dq, b, h), head_of(dk, b, h), head_of(dv, b, h),
            row(row_max, head, sizes.queries), row(row_sum, head, sizes.queries), row_dot, sizes, w,
        )  # fmt: skip
    keep_alive(room)
    keep_alive(tables)


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
    blocks = batch * heads * (-(-queries // UNIT_QUERIES))
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
