"""Kernels of the recurrent layers: the whole time loop in one call, the batch shared out to the threads.

A step multiplies a few rows by the whole weight, for which BLAS would pack the weight anew at every step: here it's packed once, in
panels that the tiles of `tiles` read; for a row or two, as while text is written, not even once. The way back leaves what each step
hands to the product, and makes the weight's gradient at the end of it in large products over all steps. The loops over a row write one
array each: with more of them LLVM gives up proving that they lie apart, and vectorises nothing.
"""

from __future__ import annotations

import numpy as np

from ..operations.recurrence import elman, gru, lstm
from ..runtime.compiling import address, clear_floats, copy_floats, get_threads, inner, keep_alive, sigmoidf, tanhf
from ..runtime.native import add_row_times_matrix
from ..runtime.tasks import at, floats, integers, is_float32, part, task, word_at
from ..runtime.tiles import COLUMNS, ROWS, table_size, tile_of_columns, tile_of_rows
from .arithmetic import column_sums
from .linear import sum_rows_by_id

f32 = np.float32
FEW = 4  # products with the weight that aren't worth packing it
DEPTH = 256  # rows of which the weight's gradient takes up the products at a time: a panel of them stays in the nearer caches


@inner
def packed_size(depth, out):
    return (out + COLUMNS - 1) // COLUMNS * COLUMNS * depth


@inner
def packed(b, depth, out, products):
    """Panels of COLUMNS columns of b (depth, out), one behind the other; nothing for so few products that b is as good."""
    if products < FEW:
        return np.empty(0, np.float32)
    panels = np.empty(packed_size(depth, out), np.float32)
    for left in range(0, out, COLUMNS):
        for i in range(depth):
            copy_floats(address(panels) + 4 * (left * depth + i * COLUMNS), b + 4 * (i * out + left), min(COLUMNS, out - left))
    return panels


@inner
def pack_transposed(panels, b, depth, out):
    """Panels of b^T, b (out, depth)."""
    for left in range(0, out, COLUMNS):
        for j in range(min(COLUMNS, out - left)):
            row = floats(b + 4 * (left + j) * depth, depth)
            for i in range(depth):
                panels[left * depth + i * COLUMNS + j] = row[i]


@inner
def tabulate(table, first, stride, rows):
    """Where `rows` rows begin; the table's entries after the last repeat it."""
    for r in range(table.size):
        table[r] = first + min(r, rows - 1) * stride


@inner
def multiply_packed(sources, skip, panels, targets, rows, depth, out, start):
    """target_r (out,) = start + source_r (depth,) times the packed matrix, for each row of the tables."""
    for left in range(0, out, COLUMNS):
        for first in range(0, rows, ROWS):
            tile_of_rows(
                word_at(address(sources), first), skip, 1, depth, 0, at(address(panels), left * depth), COLUMNS,
                word_at(address(targets), first), left, out - left, at(start, left),
            )  # fmt: skip


@inner
def multiply_rows(sources, skip, panels, b, targets, rows, depth, out, start):
    """The same with a weight b (depth, out) as `packed` left it."""
    if panels.size:
        multiply_packed(sources, skip, panels, targets, rows, depth, out, start)
    else:
        for r in range(rows):
            copy_floats(targets[r], start, out)
            add_row_times_matrix(at(sources[r], skip), b, out, depth, out, targets[r])


@inner
def row_of(xw, ids, at, width):
    """Where row `at` of xw lies, or if there are ids row ids[at]."""
    return xw + 4 * width * (integers(ids, at + 1)[at] if ids else at)


@task
def weight_gradient(t, tasks, states, row, first_states, first_row, d, dweight, dbias, batch, time, width, gates):
    """dweight (width, gates) = the sum of h_{t-1}^T d_t, dbias = the sum of d_t.

    states (batch, time, row) begin with h; first_states (batch, first_row) with h_0; d (batch, time, gates). A task owns columns.
    """
    left = part(t, tasks, gates, 16)
    columns = part(t + 1, tasks, gates, 16) - left
    if columns == 0:
        return
    target, from_d = dweight + 4 * left, d + 4 * left
    for i in range(width):
        clear_floats(target + 4 * i * gates, columns)
    add_products(first_states, first_row, 0, from_d, time * gates, 0, target, batch, 1, width, gates, columns)
    if time > 1:
        lines = max(1, DEPTH // (time - 1))
        for b in range(0, batch, lines):
            h, above, count = states + 4 * b * time * row, from_d + 4 * (b * time + 1) * gates, min(lines, batch - b)
            add_products(h, time * row, row, above, time * gates, gates, target, count, time - 1, width, gates, columns)
    if dbias:
        column_sums(d, batch * time, gates, dbias, left, columns)


@inner
def add_products(h, h_line, h_step, d, d_line, d_step, target, lines, steps, width, gates, columns):
    """target (width, columns) += the sum of h^T d over lines of steps; target's rows are `gates` apart."""
    offsets = np.empty(ROWS, np.int64)
    for left in range(0, columns, COLUMNS):
        for i in range(0, width, ROWS):
            rows = min(ROWS, width - i)
            tabulate(offsets, 0, 1, rows)
            tile_of_columns(at(h, i), address(offsets), rows, at(d, left), at(target, i * gates + left), gates,
                            lines, h_line, d_line, steps, h_step, d_step, columns - left)  # fmt: skip
    keep_alive(offsets)


def _tasks(batch: int) -> int:
    return min(get_threads(), batch)


def _weight_gradient(states, first, d, weight, dbias=None):
    batch, time, row = states.shape
    dweight = np.empty(weight.shape, f32)
    weight_gradient(states, row, first, first.shape[1], d, dweight, dbias, batch, time, *weight.shape)
    return dweight


def _indices(xw, ids):
    """The ids as a kernel reads them, and how many sequences of how many steps there are."""
    return (None, *xw.shape[:2]) if ids is None else (np.asarray(ids, np.int64, order="C"), *ids.shape)


def _gradient_of_products(dxw, xw, ids):
    return dxw if ids is None else sum_rows_by_id(dxw, ids, len(xw))


# --- Elman


@inner
def elman_step(p, x, y):
    for j in range(y.size):
        y[j] = tanhf(p[j] + x[j])


@task
def elman_forward(t, tasks, xw, ids, first, weight, y, batch, time, width):
    """y (batch, time, width)"""
    begin = part(t, tasks, batch, 1)
    rows, stride = part(t + 1, tasks, batch, 1) - begin, 4 * time * width
    panels, p, nothing = packed(weight, width, width, rows * time), np.empty(rows * width, np.float32), np.zeros(width, np.float32)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate(sources, first + 4 * begin * width, 4 * width, rows)
    tabulate(targets, address(p), 4 * width, rows)
    for s in range(time):
        multiply_rows(sources, 0 if s == 0 else (s - 1) * width, panels, weight, targets, rows, width, width, address(nothing))
        for i in range(rows):
            at = (begin + i) * time + s
            elman_step(p[i * width:(i + 1) * width], floats(row_of(xw, ids, at, width), width), floats(y + 4 * at * width, width))
        if s == 0:
            tabulate(sources, y + begin * stride, stride, rows)
    keep_alive(nothing)


@inner
def elman_step_back(dh, g, y, dx):
    for j in range(g.size):
        dx[j] = (dh[j] + g[j]) * (f32(1) - y[j] * y[j])


@task
def elman_backward(t, tasks, g, y, weight, dxw, dfirst, batch, time, width):
    begin = part(t, tasks, batch, 1)
    rows, stride = part(t + 1, tasks, batch, 1) - begin, 4 * time * width
    panels, dh, nothing = np.empty(packed_size(width, width), np.float32), np.zeros(rows * width, np.float32), np.zeros(width, np.float32)
    pack_transposed(panels, weight, width, width)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate(sources, dxw + begin * stride, stride, rows)
    tabulate(targets, address(dh), 4 * width, rows)
    for s in range(time - 1, -1, -1):
        for i in range(rows):
            at = 4 * ((begin + i) * time + s) * width
            elman_step_back(dh[i * width:(i + 1) * width], floats(g + at, width), floats(y + at, width), floats(dxw + at, width))
        multiply_packed(sources, s * width, panels, targets, rows, width, width, address(nothing))
    copy_floats(dfirst + 4 * begin * width, address(dh), rows * width)
    keep_alive(nothing)
    keep_alive(dh)


@elman.forward
def _(xw, h, weight, ids):
    if not is_float32(xw, h, weight):
        return NotImplemented
    ids, batch, time = _indices(xw, ids)
    y = np.empty((batch, time, len(weight)), f32)
    elman_forward(xw, ids, h, weight, y, *y.shape, tasks=_tasks(batch))
    return y, ()


@elman.backward
def _(g, y, _saved, xw, h, weight, ids, *, needs):
    dxw, dh = np.empty(y.shape, f32), np.empty(h.shape, f32)
    elman_backward(g, y, weight, dxw, dh, *y.shape, tasks=_tasks(len(y)))
    return _gradient_of_products(dxw, xw, ids), dh, _weight_gradient(y, h, dxw, weight) if needs[2] else None, None


# --- LSTM


@inner
def lstm_step(p, x, a, before, c, h):
    """From p = h_{t-1} W and x: the gates a (4 width), the cell c and h."""
    n = c.size
    i, f, g, o = a[:n], a[n:2 * n], a[2 * n:3 * n], a[3 * n:]
    from_p, from_x = p[2 * n:], x[2 * n:]
    for j in range(2 * n):
        a[j] = sigmoidf(p[j] + x[j])
    for j in range(n):
        g[j] = tanhf(from_p[j] + from_x[j])
    for j in range(n):
        o[j] = sigmoidf(from_p[n + j] + from_x[n + j])
    for j in range(n):
        c[j] = f[j] * before[j] + i[j] * g[j]
    for j in range(n):
        h[j] = o[j] * tanhf(c[j])


@task
def lstm_forward(t, tasks, xw, ids, first, weight, y, gates, batch, time, width):
    """y (batch, time, 2 width) is h beside c; gates (time, batch, 4 width) are kept for the way back."""
    begin = part(t, tasks, batch, 1)
    rows, wide = part(t + 1, tasks, batch, 1) - begin, 4 * width
    panels, p, nothing = packed(weight, width, wide, rows * time), np.empty(rows * wide, np.float32), np.zeros(wide, np.float32)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate(sources, first + 8 * begin * width, 8 * width, rows)
    tabulate(targets, address(p), 4 * wide, rows)
    for s in range(time):
        multiply_rows(sources, 0 if s == 0 else 2 * (s - 1) * width, panels, weight, targets, rows, width, wide, address(nothing))
        for i in range(rows):
            at = (begin + i) * time + s
            now, x, own = y + 8 * at * width, floats(row_of(xw, ids, at, wide), wide), floats(gates + 4 * (s * batch + begin + i) * wide, wide)
            before = floats((first + 8 * (begin + i) * width if s == 0 else now - 8 * width) + 4 * width, width)
            lstm_step(p[i * wide:(i + 1) * wide], x, own, before, floats(now + 4 * width, width), floats(now, width))
        if s == 0:
            tabulate(sources, y + 8 * begin * time * width, 8 * time * width, rows)
    keep_alive(nothing)


@inner
def lstm_step_back(a, dh, dc, g, c, before, d, tc):
    """d (4 width): the gradient of what went into the gates a; dc becomes that of the cell before; g is (2 width) for h and c.

    dh becomes the whole gradient of h; tc (width) is scratch for tanh c.
    """
    n = dc.size
    i, f, u, o = a[:n], a[n:2 * n], a[2 * n:3 * n], a[3 * n:]
    di, df, du, do = d[:n], d[n:2 * n], d[2 * n:3 * n], d[3 * n:]
    more = g[n:]
    for j in range(n):
        tc[j] = tanhf(c[j])
    for j in range(n):
        dh[j] += g[j]
    for j in range(n):
        dc[j] += more[j] + dh[j] * o[j] * (f32(1) - tc[j] * tc[j])
    for j in range(n):
        do[j] = dh[j] * tc[j] * o[j] * (f32(1) - o[j])
    for j in range(n):
        di[j] = dc[j] * u[j] * i[j] * (f32(1) - i[j])
    for j in range(n):
        df[j] = dc[j] * before[j] * f[j] * (f32(1) - f[j])
    for j in range(n):
        du[j] = dc[j] * i[j] * (f32(1) - u[j] * u[j])
    for j in range(n):
        dc[j] *= f[j]


@task
def lstm_backward(t, tasks, g, y, gates, first, weight, dxw, dfirst, batch, time, width):
    begin = part(t, tasks, batch, 1)
    rows, wide = part(t + 1, tasks, batch, 1) - begin, 4 * width
    dh, dc, tc = np.zeros(rows * width, np.float32), np.zeros(rows * width, np.float32), np.empty(width, np.float32)
    panels, nothing = np.empty(packed_size(wide, width), np.float32), np.zeros(width, np.float32)
    pack_transposed(panels, weight, wide, width)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate(sources, dxw + 4 * begin * time * wide, 4 * time * wide, rows)
    tabulate(targets, address(dh), 4 * width, rows)
    for s in range(time - 1, -1, -1):
        for i in range(rows):
            at = 4 * ((begin + i) * time + s) * width
            cell = floats(y + 2 * at + 4 * width, width)
            before = floats((first + 8 * (begin + i) * width if s == 0 else y + 2 * at - 8 * width) + 4 * width, width)
            to_h, to_c = dh[i * width:(i + 1) * width], dc[i * width:(i + 1) * width]
            own, more = floats(gates + 4 * (s * batch + begin + i) * wide, wide), floats(g + 2 * at, 2 * width)
            d = floats(dxw + 4 * at, wide)
            lstm_step_back(own, to_h, to_c, more, cell, before, d, tc)
        multiply_packed(sources, s * wide, panels, targets, rows, wide, width, address(nothing))
    for i in range(rows):
        copy_floats(dfirst + 8 * (begin + i) * width, address(dh) + 4 * i * width, width)
        copy_floats(dfirst + 8 * (begin + i) * width + 4 * width, address(dc) + 4 * i * width, width)
    keep_alive(nothing)
    keep_alive(dh)
    keep_alive(dc)


@lstm.forward
def _(xw, state, weight, ids):
    if not is_float32(xw, state, weight):
        return NotImplemented
    ids, batch, time = _indices(xw, ids)
    width = len(weight)
    y, gates = np.empty((batch, time, 2 * width), f32), np.empty((time, batch, 4 * width), f32)
    lstm_forward(xw, ids, state, weight, y, gates, batch, time, width, tasks=_tasks(batch))
    return y, gates


@lstm.backward
def _(g, y, gates, xw, state, weight, ids, *, needs):
    batch, time = y.shape[:2]
    dxw, dstate = np.empty((batch, time, gates.shape[2]), f32), np.empty(state.shape, f32)
    lstm_backward(g, y, gates, state, weight, dxw, dstate, batch, time, len(weight), tasks=_tasks(batch))
    return _gradient_of_products(dxw, xw, ids), dstate, _weight_gradient(y, state, dxw, weight) if needs[2] else None, None


# --- GRU


@inner
def gru_step(x, p, before, h, kept):
    """x (3 width) from the input, p (3 width) = h_{t-1} W + b; kept (4 width) = r, z, n and the product that r resets."""
    w = h.size
    r, z, n = kept[:w], kept[w:2 * w], kept[2 * w:3 * w]
    xn, product = x[2 * w:], p[2 * w:]
    for j in range(2 * w):
        kept[j] = sigmoidf(x[j] + p[j])
    for j in range(w):
        n[j] = tanhf(xn[j] + r[j] * product[j])
    for j in range(w):
        kept[3 * w + j] = product[j]
    for j in range(w):
        h[j] = (f32(1) - z[j]) * n[j] + z[j] * before[j]


@task
def gru_forward(t, tasks, xw, ids, first, weight, bias, y, kept, batch, time, width):
    """y (batch, time, width), kept (time, batch, 4 width)"""
    begin = part(t, tasks, batch, 1)
    rows, wide = part(t + 1, tasks, batch, 1) - begin, 3 * width
    panels, p = packed(weight, width, wide, rows * time), np.empty(rows * wide, np.float32)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate(sources, first + 4 * begin * width, 4 * width, rows)
    tabulate(targets, address(p), 4 * wide, rows)
    for s in range(time):
        multiply_rows(sources, 0 if s == 0 else (s - 1) * width, panels, weight, targets, rows, width, wide, bias)
        for i in range(rows):
            at = (begin + i) * time + s
            now, x, own = y + 4 * at * width, floats(row_of(xw, ids, at, wide), wide), kept + 16 * (s * batch + begin + i) * width
            before = floats(first + 4 * (begin + i) * width if s == 0 else now - 4 * width, width)
            gru_step(x, p[i * wide:(i + 1) * wide], before, floats(now, width), floats(own, 4 * width))
        if s == 0:
            tabulate(sources, y + 4 * begin * time * width, 4 * time * width, rows)
    keep_alive(p)


@inner
def gru_step_back(kept, dh, g, before, dx, dp):
    """dx, dp (3 width): gradients of what came from the input and from the product; dh becomes the part of h_{t-1} beside it."""
    w = g.size
    r, z, n, product = kept[:w], kept[w:2 * w], kept[2 * w:3 * w], kept[3 * w:]
    dr, dz, dn, dproduct = dx[:w], dx[w:2 * w], dx[2 * w:], dp[2 * w:]
    for j in range(w):
        dh[j] += g[j]
    for j in range(w):
        dn[j] = dh[j] * (f32(1) - z[j]) * (f32(1) - n[j] * n[j])
    for j in range(w):
        dr[j] = dn[j] * product[j] * r[j] * (f32(1) - r[j])
    for j in range(w):
        dz[j] = dh[j] * (before[j] - n[j]) * z[j] * (f32(1) - z[j])
    for j in range(2 * w):
        dp[j] = dx[j]
    for j in range(w):
        dproduct[j] = dn[j] * r[j]
    for j in range(w):
        dh[j] *= z[j]


@task
def gru_backward(t, tasks, g, y, kept, first, weight, dxw, dproducts, dfirst, batch, time, width):
    """dproducts (batch, time, 3 width): the gradients of h W + b"""
    begin = part(t, tasks, batch, 1)
    rows, wide = part(t + 1, tasks, batch, 1) - begin, 3 * width
    dh, through, nothing = np.zeros(rows * width, np.float32), np.empty(rows * width, np.float32), np.zeros(width, np.float32)
    panels = np.empty(packed_size(wide, width), np.float32)
    pack_transposed(panels, weight, wide, width)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate(sources, dproducts + 4 * begin * time * wide, 4 * time * wide, rows)
    tabulate(targets, address(through), 4 * width, rows)
    for s in range(time - 1, -1, -1):
        for i in range(rows):
            at = 4 * ((begin + i) * time + s) * width
            before = floats(first + 4 * (begin + i) * width if s == 0 else y + at - 4 * width, width)
            to_h, to_product = dh[i * width:(i + 1) * width], floats(dproducts + 3 * at, wide)
            own = floats(kept + 16 * (s * batch + begin + i) * width, 4 * width)
            gru_step_back(own, to_h, floats(g + at, width), before, floats(dxw + 3 * at, wide), to_product)
        multiply_packed(sources, s * wide, panels, targets, rows, wide, width, address(nothing))
        for j in range(rows * width):
            dh[j] += through[j]
    copy_floats(dfirst + 4 * begin * width, address(dh), rows * width)
    keep_alive(nothing)
    keep_alive(through)
    keep_alive(dh)


@gru.forward
def _(xw, h, weight, bias, ids):
    if not is_float32(xw, h, weight, bias):
        return NotImplemented
    ids, batch, time = _indices(xw, ids)
    width = len(weight)
    y, kept = np.empty((batch, time, width), f32), np.empty((time, batch, 4 * width), f32)
    gru_forward(xw, ids, h, weight, bias, y, kept, batch, time, width, tasks=_tasks(batch))
    return y, kept


@gru.backward
def _(g, y, kept, xw, h, weight, bias, ids, *, needs):
    dxw, dproducts = (np.empty((*y.shape[:2], bias.size), f32) for _ in range(2))
    dh, dbias = np.empty(h.shape, f32), np.empty(bias.shape, f32)
    gru_backward(g, y, kept, h, weight, dxw, dproducts, dh, *y.shape, tasks=_tasks(len(y)))
    return _gradient_of_products(dxw, xw, ids), dh, _weight_gradient(y, h, dproducts, weight, dbias), dbias, None
