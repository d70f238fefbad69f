"""Kernels of attention, by blocks, so that no array of queries x keys ever exists (Rabe & Staats 2021; Dao et al. 2022).

Forward: the softmax of a row is carried along over the blocks of keys as its greatest score m and its sum l of e^(score - m); a
greater m scales down what was added up before. Only m and l are kept for the way back, which makes each block of weights anew:

    P = e^(S - m) / l    dV = P^T G    dP = G V^T    dS = P (dP - D), D = the row sums of G Y    dQ = dS K    dK = dS^T Q

Queries, keys and values are read, and results written, with the strides that they have: slices of one (batch, time, 3, heads,
width) buffer are not copied.
"""

from __future__ import annotations

import math

import numpy as np

from ..operations.attention import scaled_dot_product_attention
from ..runtime.compiling import address, expf, gemm, get_threads, inner
from ..runtime.tasks import floats, integers, is_float32, part, task
from ..tensor import Tensor, enable_grad, grad
from .activation import exponentials, greatest, scale_row

f32 = np.float32
QUERIES, KEYS = 64, 256  # a block of scores: 64 kB
KEYS_BACKWARD = 128  # of which the way back has two
MINUS_INFINITY = f32(-np.inf)


@inner
def block_of_scores(scores, q, q_row, k, k_row, mask, mask_row, first, last, start, stop, width, scale, shift):
    """scores (queries first .. last, keys start .. stop) = scale q k^T + mask; -inf from key `query + shift + 1` on."""
    rows, columns = last - first, stop - start
    these_q, these_k = q + first * q_row, k + start * k_row
    gemm(False, True, rows, columns, width, scale, these_q, q_row // 4, these_k, k_row // 4, f32(0), address(scores), columns)
    for i in range(rows):
        row = scores[i * columns:(i + 1) * columns]
        if mask:
            added = floats(mask + (first + i) * mask_row + 4 * start, columns)
            for j in range(columns):
                row[j] += added[j]
        for j in range(max(0, first + i + shift + 1 - start), columns):
            row[j] = MINUS_INFINITY


@inner
def attend(q, q_row, k, k_row, v, v_row, mask, mask_row, y, y_row, tops, sums, first, last, keys, width, features, scale, shift):
    """Rows first .. last of y."""
    rows = last - first
    scores = np.empty(rows * min(KEYS, keys), np.float32)
    for i in range(rows):
        tops[i], sums[i] = MINUS_INFINITY, f32(0)
    seen = min(keys, last + shift)  # keys that the last row may look at
    for start in range(0, seen, KEYS):
        stop = min(start + KEYS, seen)
        columns = stop - start
        block_of_scores(scores, q, q_row, k, k_row, mask, mask_row, first, last, start, stop, width, scale, shift)
        for i in range(rows):
            row = scores[i * columns:(i + 1) * columns]
            top = max(greatest(row), tops[i])
            base = f32(0) if top == MINUS_INFINITY else top  # nothing to look at so far
            if start > 0:
                fade = expf(tops[i] - base)
                sums[i] *= fade
                scale_row(floats(y + (first + i) * y_row, features), fade)
            sums[i] += exponentials(row, base)
            tops[i] = top
        already = f32(0) if start == 0 else f32(1)
        p, these_v = address(scores), v + start * v_row
        gemm(False, False, rows, features, columns, f32(1), p, columns, these_v, v_row // 4, already, y + first * y_row, y_row // 4)
    for i in range(rows):
        scale_row(floats(y + (first + i) * y_row, features), f32(1) / sums[i])


@inner
def place(views, i, b, h):
    """Where head h of batch entry b starts in array i; views holds an address and three strides in bytes for each array."""
    view = integers(views + 32 * i, 4)
    return view[0] + b * view[1] + h * view[2]


@inner
def row_stride(views, i):
    return integers(views + 32 * i, 4)[3]


@task
def attention_forward(t, tasks, views, masked, kept_tops, kept_sums, batch, heads, queries, keys, width, features, shift, scale: float):
    """views: q, k, v, y, mask. A unit of work is a head's block of queries; kept_tops, kept_sums (batch, heads, queries)."""
    blocks = (queries + QUERIES - 1) // QUERIES
    for unit in range(part(t, tasks, batch * heads * blocks, 1), part(t + 1, tasks, batch * heads * blocks, 1)):
        head = unit // blocks
        b, h, first = head // heads, head % heads, unit % blocks * QUERIES
        last, at = min(first + QUERIES, queries), 4 * (head * queries + first)
        mask = place(views, 4, b, h) if masked else 0
        attend(
            place(views, 0, b, h), row_stride(views, 0), place(views, 1, b, h), row_stride(views, 1),
            place(views, 2, b, h), row_stride(views, 2), mask, row_stride(views, 4), place(views, 3, b, h), row_stride(views, 3),
            floats(kept_tops + at, last - first), floats(kept_sums + at, last - first),
            first, last, keys, width, features, f32(scale), shift,
        )  # fmt: skip


@inner
def products_of_rows(g, g_row, y, y_row, out, rows, features):
    for i in range(rows):
        a, b, total = floats(g + i * g_row, features), floats(y + i * y_row, features), f32(0)
        for j in range(features):
            total += a[j] * b[j]
        out[i] = total


@inner
def weights_again(scores, slopes, tops, sums, products, rows, columns, scale):
    """scores become the weights P, slopes (dP) become scale P (dP - D)."""
    for i in range(rows):
        s, d = scores[i * columns:(i + 1) * columns], slopes[i * columns:(i + 1) * columns]
        top, share, own = tops[i], f32(1) / sums[i], products[i]
        for j in range(columns):
            p = expf(s[j] - top) * share
            s[j] = p
            d[j] = scale * p * (d[j] - own)


@inner
def attend_backward(g, g_row, q, q_row, k, k_row, v, v_row, mask, mask_row, dq, dq_row, dk, dk_row, dv, dv_row,
                    tops, sums, products, queries, keys, width, features, scale, shift):
    """dq, dk, dv of one head."""
    scores, slopes = np.empty(QUERIES * KEYS_BACKWARD, np.float32), np.empty(QUERIES * KEYS_BACKWARD, np.float32)
    s, d = address(scores), address(slopes)
    none, one = f32(0), f32(1)
    for start in range(0, keys, KEYS_BACKWARD):
        stop = min(start + KEYS_BACKWARD, keys)
        columns = stop - start
        these_k, these_v = k + start * k_row, v + start * v_row
        begin = max(0, start - shift) // QUERIES * QUERIES  # the first block with a query that may look here
        for first in range(begin, queries, QUERIES):
            last = min(first + QUERIES, queries)
            rows = last - first
            these_g, these_q = g + first * g_row, q + first * q_row
            block_of_scores(scores, q, q_row, k, k_row, mask, mask_row, first, last, start, stop, width, scale, shift)
            gemm(False, True, rows, columns, features, one, these_g, g_row // 4, these_v, v_row // 4, none, d, columns)
            weights_again(scores, slopes, tops[first:last], sums[first:last], products[first:last], rows, columns, scale)
            more = none if first == begin else one
            gemm(True, False, columns, features, rows, one, s, columns, these_g, g_row // 4, more, dv + start * dv_row, dv_row // 4)
            gemm(True, False, columns, width, rows, one, d, columns, these_q, q_row // 4, more, dk + start * dk_row, dk_row // 4)
            more = none if start == 0 else one
            gemm(False, False, rows, width, columns, one, d, columns, these_k, k_row // 4, more, dq + first * dq_row, dq_row // 4)


@task
def attention_backward(t, tasks, views, masked, kept_tops, kept_sums, batch, heads, queries, keys, width, features, shift, scale: float):
    """views: q, k, v, y, mask, g, dq, dk, dv. A unit of work is a head: its keys add up to dq, its queries to dk and dv."""
    products = np.empty(queries, np.float32)
    for head in range(part(t, tasks, batch * heads, 1), part(t + 1, tasks, batch * heads, 1)):
        b, h = head // heads, head % heads
        g, g_row = place(views, 5, b, h), row_stride(views, 5)
        products_of_rows(g, g_row, place(views, 3, b, h), row_stride(views, 3), products, queries, features)
        at = 4 * head * queries
        attend_backward(
            g, g_row, place(views, 0, b, h), row_stride(views, 0), place(views, 1, b, h), row_stride(views, 1),
            place(views, 2, b, h), row_stride(views, 2), place(views, 4, b, h) if masked else 0, row_stride(views, 4),
            place(views, 6, b, h), row_stride(views, 6), place(views, 7, b, h), row_stride(views, 7),
            place(views, 8, b, h), row_stride(views, 8), floats(kept_tops + at, queries), floats(kept_sums + at, queries),
            products, queries, keys, width, features, f32(scale), shift,
        )  # fmt: skip


def _four(a: np.ndarray) -> np.ndarray:
    """(..., time, width) -> (batch, heads, time, width), rows contiguous; a view where there can be one."""
    if a.ndim != 4:
        a = a[(None,) * (4 - a.ndim)] if a.ndim < 4 else a.reshape(-1, *a.shape[-3:])
    row = 4 * a.shape[3]
    if (a.strides[3] != 4 and a.shape[3] > 1) or (a.strides[2] < row and a.shape[2] > 1):
        a = np.ascontiguousarray(a)
    return a


def _views(*arrays) -> np.ndarray:
    """Each one's address and the strides of batch, head and row; the stride of a single row may be anything, BLAS wants a row's length."""
    return np.array([(0, 0, 0, 0) if a is None else
                     (a.__array_interface__["data"][0], a.strides[0], a.strides[1], a.strides[2] if a.shape[2] > 1 else 4 * a.shape[3])
                     for a in arrays], np.int64)


def _empty_like(a: np.ndarray, features: int) -> np.ndarray:
    """An array with a's first three axes in the order that they have in memory: heads side by side if a's are."""
    b, h, t, _ = a.shape
    if h > 1 and a.strides[1] < a.strides[2]:
        return np.empty((b, t, h, features), f32).swapaxes(1, 2)
    return np.empty((b, h, t, features), f32)


def _four_of_mask(mask, q, k, shape):
    """A mask as numbers to be added, (batch, heads, queries, keys) with strides of 0 where it repeats, its rows contiguous."""
    if mask is None:
        return None
    added = np.where(mask, f32(0), MINUS_INFINITY) if mask.dtype == bool else mask.astype(f32, copy=False)
    keys = k.shape[2]
    if added.ndim == 0 or added.shape[-1] != keys or added.strides[-1] != 4:
        added = np.array(np.broadcast_to(added, (*added.shape[:-1], keys)), order="C")
    added = np.broadcast_to(added, (*shape[:-1], keys))
    return added.reshape(*q.shape[:3], keys) if added.ndim != 4 else added


@scaled_dot_product_attention.forward(strided=True)
def _(query, key, value, mask, *, is_causal, scale):
    if not is_float32(query, key, value) or not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        return NotImplemented
    q, k, v = _four(query), _four(key), _four(value)
    batch, heads, queries, width = q.shape
    keys, features = v.shape[2:]
    added = _four_of_mask(mask, q, k, query.shape)
    y = _empty_like(q, features)
    tops, sums = np.empty((2, batch, heads, queries), f32)
    shift = keys - queries if is_causal else keys
    scale = 1 / math.sqrt(width) if scale is None else float(scale)
    blocks = batch * heads * (-(-queries // QUERIES))
    views, sizes = _views(q, k, v, y, added), (batch, heads, queries, keys, width, features)
    attention_forward(views, added is not None, tops, sums, *sizes, shift, scale, tasks=min(get_threads(), blocks))
    return y.reshape(*query.shape[:-1], features), (tops, sums, added, sizes, shift, scale)


@scaled_dot_product_attention.backward
def _(g, y, saved, query, key, value, mask, *, needs, is_causal, scale):
    if needs[3]:
        return _by_definition(g, (query, key, value, mask), needs, is_causal=is_causal, scale=scale)
    tops, sums, added, sizes, shift, scale = saved
    q, k, v, y, g = map(_four, (query, key, value, y, g))
    batch, heads, _queries, _keys, width, features = sizes
    dq, dk, dv = _empty_like(q, width), _empty_like(k, width), _empty_like(v, features)
    views = _views(q, k, v, y, added, g, dq, dk, dv)
    tasks = min(get_threads(), batch * heads)
    attention_backward(views, added is not None, tops, sums, *sizes, shift, scale, tasks=tasks)
    return dq.reshape(query.shape), dk.reshape(key.shape), dv.reshape(value.shape), None


def _by_definition(g, arrays, needs, **settings):
    """A mask that is learned: its gradient has a number for each query and key anyway."""
    with enable_grad():
        tensors = [None if a is None else Tensor(a, requires_grad=need) for a, need in zip(arrays, needs)]
        y = scaled_dot_product_attention.definition(*tensors, **settings)
        found = iter(grad(y, [x for x, need in zip(tensors, needs) if need], g))
    return [next(found).data if need else None for need in needs]
