"""Kernels of the recurrent layers: the whole time loop in one call, the batch shared out to the threads.

The products of the inputs, xw, are there for all steps: (batch, time, gates), or a table (symbols, gates) of which ids (batch, time)
name the rows. Forward leaves what each step computed, (time, batch, ...) for it alone reads them; backward walks from the last step
to the first with the gradients of h (and c) that the step after it leaves, and writes what each step hands to the product,
of which the weight's gradient is made at the end.

The loops over a row write one array each: with more of them LLVM gives up proving that they lie apart, and vectorises nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..operations.recurrence import elman, gru, lstm
from ..runtime.compiling import inner
from ..runtime.native import address, copy_floats, floats, integers, keep_alive, sigmoidf, tanhf
from ..runtime.tasks import at, is_float32, part, row, row_address, span, task
from ..runtime.threads import get_threads
from ..runtime.tiles import table_size
from .linear import sum_rows_by_id
from .packed_weights import multiply_packed, multiply_rows, packed, packed_transpose, run_weight_gradient, tabulate_rows

f32 = np.float32
LSTM_GATES, GRU_GATES = 4, 3  # of `width` products each
GRU_SAVED = 4  # rows of `width` that a step leaves for backward


class Sizes(NamedTuple):
    batch: int
    time: int
    width: int  # of h


@inner
def row_of_products(xw, ids, place, n):
    """Row `place` of xw, or if there are ids row ids[place]."""
    return row(xw, integers(ids, place + 1)[place] if ids else place, n)


def _tasks(batch: int) -> int:
    return min(get_threads(), batch)


def _ids_and_sizes(xw, ids, width):
    """The ids as a kernel reads them, and the sizes."""
    batch, time = xw.shape[:2] if ids is None else ids.shape
    return None if ids is None else np.asarray(ids, np.int64, order="C"), Sizes(batch, time, width)


def _gradient_of_products(dxw, xw, ids):
    return dxw if ids is None else sum_rows_by_id(dxw, ids, len(xw))


# --- Elman: h = tanh(x + h_{t-1} W)


@inner
def elman_step(p, x, h):
    """p = h_{t-1} W"""
    for j in range(h.size):
        h[j] = tanhf(p[j] + x[j])


@task
def elman_forward(t, tasks, xw, ids, h0, weight, y, sizes: Sizes):
    """h0 (batch, width), weight (width, width), y (batch, time, width)"""
    time, width = sizes.time, sizes.width
    begin = part(t, tasks, sizes.batch, 1)
    rows = part(t + 1, tasks, sizes.batch, 1) - begin
    panels, p, zeros = packed(weight, width, width, rows * time), np.empty(rows * width, np.float32), np.zeros(width, np.float32)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate_rows(sources, row_address(h0, begin, width), width, rows)
    tabulate_rows(targets, address(p), width, rows)
    for s in range(time):
        multiply_rows(sources, 0 if s == 0 else (s - 1) * width, panels, weight, targets, rows, width, width, address(zeros))
        for i in range(rows):
            place = (begin + i) * time + s
            elman_step(p[i * width:(i + 1) * width], row_of_products(xw, ids, place, width), row(y, place, width))
        if s == 0:
            tabulate_rows(sources, row_address(y, begin * time, width), time * width, rows)
    keep_alive(zeros)


@inner
def elman_step_backward(dh, g, h, dx):
    """dx = (dh + g) (1 - h^2): dh from the step after, g from outside"""
    for j in range(g.size):
        dx[j] = (dh[j] + g[j]) * (f32(1) - h[j] * h[j])


@task
def elman_backward(t, tasks, g, y, weight, dxw, dh0, sizes: Sizes):
    """g, y, dxw (batch, time, width), weight (width, width), dh0 (batch, width)"""
    time, width = sizes.time, sizes.width
    begin = part(t, tasks, sizes.batch, 1)
    rows = part(t + 1, tasks, sizes.batch, 1) - begin
    dh, zeros = np.zeros(rows * width, np.float32), np.zeros(width, np.float32)
    panels = packed_transpose(weight, width, width)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate_rows(sources, row_address(dxw, begin * time, width), time * width, rows)
    tabulate_rows(targets, address(dh), width, rows)
    for s in range(time - 1, -1, -1):
        for i in range(rows):
            place = (begin + i) * time + s
            elman_step_backward(dh[i * width:(i + 1) * width], row(g, place, width), row(y, place, width), row(dxw, place, width))
        multiply_packed(sources, s * width, panels, targets, rows, width, width, address(zeros))
    copy_floats(row_address(dh0, begin, width), address(dh), rows * width)
    keep_alive(zeros)
    keep_alive(dh)


@elman.forward
def _(xw, h, weight, ids):
    if not is_float32(xw, h, weight):
        return NotImplemented
    ids, sizes = _ids_and_sizes(xw, ids, len(weight))
    y = np.empty(sizes, f32)
    elman_forward(xw, ids, h, weight, y, sizes, tasks=_tasks(sizes.batch))
    return y, ()


@elman.backward
def _(g, y, _saved, xw, h, weight, ids, *, needs):
    dxw, dh = np.empty(y.shape, f32), np.empty(h.shape, f32)
    elman_backward(g, y, weight, dxw, dh, Sizes(*y.shape), tasks=_tasks(len(y)))
    return _gradient_of_products(dxw, xw, ids), dh, run_weight_gradient(y, h, dxw, weight) if needs[2] else None, None


# --- LSTM: c = f c_{t-1} + i u, h = o tanh c with i, f, o = sigmoid and u = tanh of x + h_{t-1} W


@inner
def lstm_step(p, x, gates, c_before, c, h):
    """p = h_{t-1} W, x, gates (4 width,) in the order i, f, u, o; c_before, c, h (width,)"""
    n = c.size
    i, f, u, o = gates[:n], gates[n:2 * n], gates[2 * n:3 * n], gates[3 * n:]
    p_u, x_u = p[2 * n:], x[2 * n:]
    for j in range(2 * n):
        gates[j] = sigmoidf(p[j] + x[j])
    for j in range(n):
        u[j] = tanhf(p_u[j] + x_u[j])
    for j in range(n):
        o[j] = sigmoidf(p_u[n + j] + x_u[n + j])
    for j in range(n):
        c[j] = f[j] * c_before[j] + i[j] * u[j]
    for j in range(n):
        h[j] = o[j] * tanhf(c[j])


@task
def lstm_forward(t, tasks, xw, ids, state0, weight, y, gates, sizes: Sizes):
    """state0 (batch, 2 width) and y (batch, time, 2 width) are h beside c; weight (width, 4 width); gates (time, batch, 4 width)"""
    time, width = sizes.time, sizes.width
    begin = part(t, tasks, sizes.batch, 1)
    rows, all_gates = part(t + 1, tasks, sizes.batch, 1) - begin, LSTM_GATES * width
    panels, p, zeros = packed(weight, width, all_gates, rows * time), np.empty(rows * all_gates, np.float32), np.zeros(all_gates, np.float32)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate_rows(sources, row_address(state0, begin, 2 * width), 2 * width, rows)
    tabulate_rows(targets, address(p), all_gates, rows)
    for s in range(time):
        multiply_rows(sources, 0 if s == 0 else (s - 1) * 2 * width, panels, weight, targets, rows, width, all_gates, address(zeros))
        for i in range(rows):
            place = (begin + i) * time + s
            now = row_address(y, place, 2 * width)
            before = row_address(state0, begin + i, 2 * width) if s == 0 else row_address(y, place - 1, 2 * width)
            x, gates_row = row_of_products(xw, ids, place, all_gates), row(gates, s * sizes.batch + begin + i, all_gates)
            c_before, c, h = span(before, width, 2 * width), span(now, width, 2 * width), span(now, 0, width)
            lstm_step(p[i * all_gates:(i + 1) * all_gates], x, gates_row, c_before, c, h)
        if s == 0:
            tabulate_rows(sources, row_address(y, begin * time, 2 * width), time * 2 * width, rows)
    keep_alive(zeros)


@inner
def lstm_step_backward(gates, dh, dc, g, c, c_before, d, tanh_c):
    """d (4 width,) = the gradient of what went into the gates; dc becomes that of the cell before, dh the whole gradient of h.

    g (2 width,) is the gradient from outside for h and c; tanh_c (width,) is scratch.
    """
    n = dc.size
    i, f, u, o = gates[:n], gates[n:2 * n], gates[2 * n:3 * n], gates[3 * n:]
    di, df, du, do = d[:n], d[n:2 * n], d[2 * n:3 * n], d[3 * n:]
    g_c = g[n:]
    for j in range(n):
        tanh_c[j] = tanhf(c[j])
    for j in range(n):
        dh[j] += g[j]
    for j in range(n):
        dc[j] += g_c[j] + dh[j] * o[j] * (f32(1) - tanh_c[j] * tanh_c[j])
    for j in range(n):
        do[j] = dh[j] * tanh_c[j] * o[j] * (f32(1) - o[j])
    for j in range(n):
        di[j] = dc[j] * u[j] * i[j] * (f32(1) - i[j])
    for j in range(n):
        df[j] = dc[j] * c_before[j] * f[j] * (f32(1) - f[j])
    for j in range(n):
        du[j] = dc[j] * i[j] * (f32(1) - u[j] * u[j])
    for j in range(n):
        dc[j] *= f[j]


@task
def lstm_backward(t, tasks, g, y, gates, state0, weight, dxw, dstate0, sizes: Sizes):
    """g, y (batch, time, 2 width), gates (time, batch, 4 width), dxw (batch, time, 4 width), state0, dstate0 (batch, 2 width)"""
    time, width = sizes.time, sizes.width
    begin = part(t, tasks, sizes.batch, 1)
    rows, all_gates = part(t + 1, tasks, sizes.batch, 1) - begin, LSTM_GATES * width
    dh, dc, tanh_c = np.zeros(rows * width, np.float32), np.zeros(rows * width, np.float32), np.empty(width, np.float32)
    panels, zeros = packed_transpose(weight, all_gates, width), np.zeros(width, np.float32)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate_rows(sources, row_address(dxw, begin * time, all_gates), time * all_gates, rows)
    tabulate_rows(targets, address(dh), width, rows)
    for s in range(time - 1, -1, -1):
        for i in range(rows):
            place = (begin + i) * time + s
            before = row_address(state0, begin + i, 2 * width) if s == 0 else row_address(y, place - 1, 2 * width)
            c, c_before = span(row_address(y, place, 2 * width), width, 2 * width), span(before, width, 2 * width)
            dh_row, dc_row = dh[i * width:(i + 1) * width], dc[i * width:(i + 1) * width]
            gates_row, d = row(gates, s * sizes.batch + begin + i, all_gates), row(dxw, place, all_gates)
            lstm_step_backward(gates_row, dh_row, dc_row, row(g, place, 2 * width), c, c_before, d, tanh_c)
        multiply_packed(sources, s * all_gates, panels, targets, rows, all_gates, width, address(zeros))
    for i in range(rows):
        dstate = row_address(dstate0, begin + i, 2 * width)
        copy_floats(dstate, row_address(address(dh), i, width), width)
        copy_floats(at(dstate, width), row_address(address(dc), i, width), width)
    keep_alive(zeros)
    keep_alive(dh)
    keep_alive(dc)


@lstm.forward
def _(xw, state, weight, ids):
    if not is_float32(xw, state, weight):
        return NotImplemented
    width = len(weight)
    ids, sizes = _ids_and_sizes(xw, ids, width)
    y, gates = np.empty((sizes.batch, sizes.time, 2 * width), f32), np.empty((sizes.time, sizes.batch, LSTM_GATES * width), f32)
    lstm_forward(xw, ids, state, weight, y, gates, sizes, tasks=_tasks(sizes.batch))
    return y, gates


@lstm.backward
def _(g, y, gates, xw, state, weight, ids, *, needs):
    sizes = Sizes(len(y), y.shape[1], len(weight))
    dxw, dstate = np.empty((sizes.batch, sizes.time, gates.shape[2]), f32), np.empty(state.shape, f32)
    lstm_backward(g, y, gates, state, weight, dxw, dstate, sizes, tasks=_tasks(sizes.batch))
    return _gradient_of_products(dxw, xw, ids), dstate, run_weight_gradient(y, state, dxw, weight) if needs[2] else None, None


# --- GRU: h = (1 - z) n + z h_{t-1}, r, z = sigmoid of x + p, n = tanh(x + r p) with p = h_{t-1} W + b


@inner
def gru_step(x, p, h_before, h, saved):
    """x, p (3 width,) in the order r, z, n; saved (4 width,) = r, z, n and the part of p that r resets"""
    w = h.size
    r, z, n = saved[:w], saved[w:2 * w], saved[2 * w:3 * w]
    x_n, p_n = x[2 * w:], p[2 * w:]
    for j in range(2 * w):
        saved[j] = sigmoidf(x[j] + p[j])
    for j in range(w):
        n[j] = tanhf(x_n[j] + r[j] * p_n[j])
    for j in range(w):
        saved[3 * w + j] = p_n[j]
    for j in range(w):
        h[j] = (f32(1) - z[j]) * n[j] + z[j] * h_before[j]


@task
def gru_forward(t, tasks, xw, ids, h0, weight, bias, y, saved, sizes: Sizes):
    """h0 (batch, width), weight (width, 3 width), bias (3 width,), y (batch, time, width), saved (time, batch, 4 width)"""
    time, width = sizes.time, sizes.width
    begin = part(t, tasks, sizes.batch, 1)
    rows, gates = part(t + 1, tasks, sizes.batch, 1) - begin, GRU_GATES * width
    panels, p = packed(weight, width, gates, rows * time), np.empty(rows * gates, np.float32)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate_rows(sources, row_address(h0, begin, width), width, rows)
    tabulate_rows(targets, address(p), gates, rows)
    for s in range(time):
        multiply_rows(sources, 0 if s == 0 else (s - 1) * width, panels, weight, targets, rows, width, gates, bias)
        for i in range(rows):
            place = (begin + i) * time + s
            h_before = floats(row_address(h0, begin + i, width) if s == 0 else row_address(y, place - 1, width), width)
            saved_row = row(saved, s * sizes.batch + begin + i, GRU_SAVED * width)
            gru_step(row_of_products(xw, ids, place, gates), p[i * gates:(i + 1) * gates], h_before, row(y, place, width), saved_row)
        if s == 0:
            tabulate_rows(sources, row_address(y, begin * time, width), time * width, rows)
    keep_alive(p)


@inner
def gru_step_backward(saved, dh, g, h_before, dx, dp):
    """dx, dp (3 width,) = the gradients of what came from the input and from the product; dh becomes the part of h_{t-1} beside it."""
    w = g.size
    r, z, n, p_n = saved[:w], saved[w:2 * w], saved[2 * w:3 * w], saved[3 * w:]
    dr, dz, dn, dp_n = dx[:w], dx[w:2 * w], dx[2 * w:], dp[2 * w:]
    for j in range(w):
        dh[j] += g[j]
    for j in range(w):
        dn[j] = dh[j] * (f32(1) - z[j]) * (f32(1) - n[j] * n[j])
    for j in range(w):
        dr[j] = dn[j] * p_n[j] * r[j] * (f32(1) - r[j])
    for j in range(w):
        dz[j] = dh[j] * (h_before[j] - n[j]) * z[j] * (f32(1) - z[j])
    for j in range(2 * w):
        dp[j] = dx[j]
    for j in range(w):
        dp_n[j] = dn[j] * r[j]
    for j in range(w):
        dh[j] *= z[j]


@task
def gru_backward(t, tasks, g, y, saved, h0, weight, dxw, dproducts, dh0, sizes: Sizes):
    """g, y (batch, time, width), saved (time, batch, 4 width), dxw, dproducts (batch, time, 3 width), h0, dh0 (batch, width)"""
    time, width = sizes.time, sizes.width
    begin = part(t, tasks, sizes.batch, 1)
    rows, gates = part(t + 1, tasks, sizes.batch, 1) - begin, GRU_GATES * width
    dh, through_p, zeros = np.zeros(rows * width, np.float32), np.empty(rows * width, np.float32), np.zeros(width, np.float32)
    panels = packed_transpose(weight, gates, width)
    sources, targets = np.empty(table_size(rows), np.int64), np.empty(table_size(rows), np.int64)
    tabulate_rows(sources, row_address(dproducts, begin * time, gates), time * gates, rows)
    tabulate_rows(targets, address(through_p), width, rows)
    for s in range(time - 1, -1, -1):
        for i in range(rows):
            place = (begin + i) * time + s
            h_before = floats(row_address(h0, begin + i, width) if s == 0 else row_address(y, place - 1, width), width)
            saved_row, dh_row = row(saved, s * sizes.batch + begin + i, GRU_SAVED * width), dh[i * width:(i + 1) * width]
            gru_step_backward(saved_row, dh_row, row(g, place, width), h_before, row(dxw, place, gates), row(dproducts, place, gates))
        multiply_packed(sources, s * gates, panels, targets, rows, gates, width, address(zeros))
        for j in range(rows * width):
            dh[j] += through_p[j]
    copy_floats(row_address(dh0, begin, width), address(dh), rows * width)
    keep_alive(zeros)
    keep_alive(through_p)
    keep_alive(dh)


@gru.forward
def _(xw, h, weight, bias, ids):
    width = len(weight)
    if not is_float32(xw, h, weight, bias) or bias.shape != (GRU_GATES * width,):
        return NotImplemented
    ids, sizes = _ids_and_sizes(xw, ids, width)
    y, saved = np.empty(sizes, f32), np.empty((sizes.time, sizes.batch, GRU_SAVED * width), f32)
    gru_forward(xw, ids, h, weight, bias, y, saved, sizes, tasks=_tasks(sizes.batch))
    return y, saved


@gru.backward
def _(g, y, saved, xw, h, weight, bias, ids, *, needs):
    dxw, dproducts = np.empty((*y.shape[:2], bias.size), f32), np.empty((*y.shape[:2], bias.size), f32)
    dh, dbias = np.empty(h.shape, f32), np.empty(bias.shape, f32)
    gru_backward(g, y, saved, h, weight, dxw, dproducts, dh, Sizes(*y.shape), tasks=_tasks(len(y)))
    return _gradient_of_products(dxw, xw, ids), dh, run_weight_gradient(y, h, dproducts, weight, dbias), dbias, None
