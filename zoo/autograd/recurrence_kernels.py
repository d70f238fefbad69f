"""Kernels of the recurrent layers: the whole time loop in one call, the batch shared out to the threads.

A thread's rows of a step stay in its cache from the product with the weight through the gates to the next step. The way back keeps
what each step hands to the product, and makes the weight's gradient at the end of it in large products over all steps.
"""

from __future__ import annotations

import numpy as np

from .linear_kernels import column_sums
from .recurrence import elman, gru, lstm
from .runtime import address, copy_floats, gemm, get_threads, inner, sigmoidf, tanhf
from .tasks import floats, is_float32, part, task

f32 = np.float32


@inner
def gather(target, source, stride, rows, n):
    """target (rows, n) = rows of the source that lie `stride` floats apart."""
    for i in range(rows):
        copy_floats(target + 4 * i * n, source + 4 * i * stride, n)


@inner
def scatter(target, stride, source, rows, n):
    for i in range(rows):
        copy_floats(target + 4 * i * stride, source + 4 * i * n, n)


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
    gemm(True, False, width, columns, batch, f32(1), first_states, first_row, from_d, time * gates, f32(0), target, gates)
    if time > 1:
        for b in range(batch):
            h, above = states + 4 * b * time * row, from_d + 4 * (b * time + 1) * gates
            gemm(True, False, width, columns, time - 1, f32(1), h, row, above, gates, f32(1), target, gates)
    if dbias:
        column_sums(d, batch * time, gates, dbias, left, columns)


def _tasks(batch: int) -> int:
    return min(get_threads(), batch)


def _weight_gradient(states, first, d, weight, dbias=None):
    batch, time, row = states.shape
    dweight = np.empty(weight.shape, f32)
    weight_gradient(states, row, first, first.shape[1], d, dweight, dbias, batch, time, *weight.shape)
    return dweight


# --- Elman


@inner
def tanh_row(x):
    for j in range(x.size):
        x[j] = tanhf(x[j])


@task
def elman_forward(t, tasks, xw, first, weight, y, batch, time, width):
    """y (batch, time, width)"""
    begin = part(t, tasks, batch, 1)
    rows, stride = part(t + 1, tasks, batch, 1) - begin, time * width
    h, new = np.empty(rows * width, np.float32), np.empty(rows * width, np.float32)
    copy_floats(address(h), first + 4 * begin * width, rows * width)
    for s in range(time):
        at = 4 * (begin * stride + s * width)
        gather(address(new), xw + at, stride, rows, width)
        gemm(False, False, rows, width, width, f32(1), address(h), width, weight, width, f32(1), address(new), width)
        tanh_row(new)
        scatter(y + at, stride, address(new), rows, width)
        copy_floats(address(h), address(new), rows * width)


@inner
def elman_step_back(dh, g, y, dx):
    for j in range(g.size):
        dx[j] = (dh[j] + g[j]) * (f32(1) - y[j] * y[j])


@task
def elman_backward(t, tasks, g, y, weight, dxw, dfirst, batch, time, width):
    begin = part(t, tasks, batch, 1)
    rows, stride = part(t + 1, tasks, batch, 1) - begin, time * width
    dh, d = np.zeros(rows * width, np.float32), np.empty(rows * width, np.float32)
    for s in range(time - 1, -1, -1):
        for i in range(rows):
            at = 4 * ((begin + i) * stride + s * width)
            elman_step_back(dh[i * width:(i + 1) * width], floats(g + at, width), floats(y + at, width), d[i * width:(i + 1) * width])
            copy_floats(dxw + at, address(d) + 4 * i * width, width)
        gemm(False, True, rows, width, width, f32(1), address(d), width, weight, width, f32(0), address(dh), width)
    copy_floats(dfirst + 4 * begin * width, address(dh), rows * width)
    dh[0] = f32(0)  # so that its memory lives until here


@elman.forward
def _(xw, h, weight):
    if not is_float32(xw, h, weight):
        return NotImplemented
    y = np.empty(xw.shape, f32)
    elman_forward(xw, h, weight, y, *y.shape, tasks=_tasks(len(y)))
    return y, ()


@elman.backward
def _(g, y, _saved, xw, h, weight, *, needs):
    dxw, dh = np.empty(xw.shape, f32), np.empty(h.shape, f32)
    elman_backward(g, y, weight, dxw, dh, *y.shape, tasks=_tasks(len(y)))
    return dxw, dh, _weight_gradient(y, h, dxw, weight) if needs[2] else None


# --- LSTM


@inner
def lstm_step(a, h, c):
    """The gates a (4 width) in place, c and h in place."""
    n = c.size
    i, f, g, o = a[:n], a[n:2 * n], a[2 * n:3 * n], a[3 * n:]
    for j in range(2 * n):
        a[j] = sigmoidf(a[j])
    for j in range(n):
        o[j] = sigmoidf(o[j])
        g[j] = tanhf(g[j])
        c[j] = f[j] * c[j] + i[j] * g[j]
        h[j] = o[j] * tanhf(c[j])


@task
def lstm_forward(t, tasks, xw, first, weight, y, gates, batch, time, width):
    """y (batch, time, 2 width) is h beside c; gates (batch, time, 4 width) are kept for the way back."""
    begin = part(t, tasks, batch, 1)
    rows = part(t + 1, tasks, batch, 1) - begin
    h, c, a = np.empty(rows * width, np.float32), np.empty(rows * width, np.float32), np.empty(4 * rows * width, np.float32)
    gather(address(h), first + 8 * begin * width, 2 * width, rows, width)
    gather(address(c), first + 8 * begin * width + 4 * width, 2 * width, rows, width)
    for s in range(time):
        at = 4 * (begin * time + s) * width
        gather(address(a), xw + 4 * at, 4 * time * width, rows, 4 * width)
        gemm(False, False, rows, 4 * width, width, f32(1), address(h), width, weight, 4 * width, f32(1), address(a), 4 * width)
        for i in range(rows):
            lstm_step(a[4 * i * width:4 * (i + 1) * width], h[i * width:(i + 1) * width], c[i * width:(i + 1) * width])
        scatter(gates + 4 * at, 4 * time * width, address(a), rows, 4 * width)
        scatter(y + 2 * at, 2 * time * width, address(h), rows, width)
        scatter(y + 2 * at + 4 * width, 2 * time * width, address(c), rows, width)


@inner
def lstm_step_back(a, dh, dc, g, c, before, d):
    """d (4 width): the gradient of what went into the gates a; dc becomes that of the cell before; g is (2 width) for h and c."""
    n = dc.size
    for j in range(n):
        i, f, u, o = a[j], a[n + j], a[2 * n + j], a[3 * n + j]
        tc = tanhf(c[j])
        to_h = dh[j] + g[j]
        to_c = dc[j] + g[n + j] + to_h * o * (f32(1) - tc * tc)
        d[j] = to_c * u * i * (f32(1) - i)
        d[n + j] = to_c * before[j] * f * (f32(1) - f)
        d[2 * n + j] = to_c * i * (f32(1) - u * u)
        d[3 * n + j] = to_h * tc * o * (f32(1) - o)
        dc[j] = to_c * f


@task
def lstm_backward(t, tasks, g, y, gates, first, weight, dxw, dfirst, batch, time, width):
    begin = part(t, tasks, batch, 1)
    rows = part(t + 1, tasks, batch, 1) - begin
    dh, dc, d = np.zeros(rows * width, np.float32), np.zeros(rows * width, np.float32), np.empty(4 * rows * width, np.float32)
    for s in range(time - 1, -1, -1):
        for i in range(rows):
            at = 4 * ((begin + i) * time + s) * width
            cell = floats(y + 2 * at + 4 * width, width)
            before = floats(first + 8 * (begin + i) * width + 4 * width if s == 0 else y + 2 * at - 4 * width, width)
            own = d[4 * i * width:4 * (i + 1) * width]
            to_h, to_c = dh[i * width:(i + 1) * width], dc[i * width:(i + 1) * width]
            lstm_step_back(floats(gates + 4 * at, 4 * width), to_h, to_c, floats(g + 2 * at, 2 * width), cell, before, own)
            copy_floats(dxw + 4 * at, address(d) + 16 * i * width, 4 * width)
        gemm(False, True, rows, width, 4 * width, f32(1), address(d), 4 * width, weight, 4 * width, f32(0), address(dh), width)
    scatter(dfirst + 8 * begin * width, 2 * width, address(dh), rows, width)
    scatter(dfirst + 8 * begin * width + 4 * width, 2 * width, address(dc), rows, width)
    dh[0], dc[0] = f32(0), f32(0)  # so that their memory lives until here


@lstm.forward
def _(xw, state, weight):
    if not is_float32(xw, state, weight):
        return NotImplemented
    batch, time, width = xw.shape[0], xw.shape[1], weight.shape[0]
    y, gates = np.empty((batch, time, 2 * width), f32), np.empty(xw.shape, f32)
    lstm_forward(xw, state, weight, y, gates, batch, time, width, tasks=_tasks(batch))
    return y, gates


@lstm.backward
def _(g, y, gates, xw, state, weight, *, needs):
    dxw, dstate = np.empty(xw.shape, f32), np.empty(state.shape, f32)
    lstm_backward(g, y, gates, state, weight, dxw, dstate, *xw.shape[:2], len(weight), tasks=_tasks(len(y)))
    return dxw, dstate, _weight_gradient(y, state, dxw, weight) if needs[2] else None


# --- GRU


@inner
def gru_step(x, p, h, kept):
    """x (3 width) from the input, p (3 width) = h W + b; h in place; kept (4 width) = r, z, n and the product that r resets."""
    w = h.size
    for j in range(w):
        r, z, product = sigmoidf(x[j] + p[j]), sigmoidf(x[w + j] + p[w + j]), p[2 * w + j]
        n = tanhf(x[2 * w + j] + r * product)
        kept[j], kept[w + j], kept[2 * w + j], kept[3 * w + j] = r, z, n, product
        h[j] = (f32(1) - z) * n + z * h[j]


@task
def gru_forward(t, tasks, xw, first, weight, bias, y, kept, batch, time, width):
    """y (batch, time, width), kept (batch, time, 4 width)"""
    begin = part(t, tasks, batch, 1)
    rows, wide = part(t + 1, tasks, batch, 1) - begin, 3 * width
    h, p = np.empty(rows * width, np.float32), np.empty(rows * wide, np.float32)
    copy_floats(address(h), first + 4 * begin * width, rows * width)
    for s in range(time):
        gather(address(p), bias, 0, rows, wide)
        gemm(False, False, rows, wide, width, f32(1), address(h), width, weight, wide, f32(1), address(p), wide)
        for i in range(rows):
            at = 4 * ((begin + i) * time + s) * width
            gru_step(floats(xw + 3 * at, wide), p[i * wide:(i + 1) * wide], h[i * width:(i + 1) * width], floats(kept + 4 * at, 4 * width))
        scatter(y + 4 * (begin * time + s) * width, time * width, address(h), rows, width)


@inner
def gru_step_back(kept, dh, g, before, dx, dp):
    """dx, dp (3 width): gradients of what came from the input and from the product; dh becomes the part of h_{t-1} beside it."""
    w = g.size
    for j in range(w):
        r, z, n, product = kept[j], kept[w + j], kept[2 * w + j], kept[3 * w + j]
        to_h = dh[j] + g[j]
        to_n = to_h * (f32(1) - z) * (f32(1) - n * n)
        to_r = to_n * product * r * (f32(1) - r)
        to_z = to_h * (before[j] - n) * z * (f32(1) - z)
        dx[j], dx[w + j], dx[2 * w + j] = to_r, to_z, to_n
        dp[j], dp[w + j], dp[2 * w + j] = to_r, to_z, to_n * r
        dh[j] = to_h * z


@task
def gru_backward(t, tasks, g, y, kept, first, weight, dxw, dproducts, dfirst, batch, time, width):
    """dproducts (batch, time, 3 width): the gradients of h W + b"""
    begin = part(t, tasks, batch, 1)
    rows, wide = part(t + 1, tasks, batch, 1) - begin, 3 * width
    dh, d = np.zeros(rows * width, np.float32), np.empty(rows * wide, np.float32)
    for s in range(time - 1, -1, -1):
        for i in range(rows):
            at = 4 * ((begin + i) * time + s) * width
            before = floats(first + 4 * (begin + i) * width if s == 0 else y + at - 4 * width, width)
            own, to_h = d[i * wide:(i + 1) * wide], dh[i * width:(i + 1) * width]
            gru_step_back(floats(kept + 4 * at, 4 * width), to_h, floats(g + at, width), before, floats(dxw + 3 * at, wide), own)
            copy_floats(dproducts + 3 * at, address(d) + 4 * i * wide, wide)
        gemm(False, True, rows, width, wide, f32(1), address(d), wide, weight, wide, f32(1), address(dh), width)
    copy_floats(dfirst + 4 * begin * width, address(dh), rows * width)
    dh[0] = f32(0)  # so that its memory lives until here


@gru.forward
def _(xw, h, weight, bias):
    if not is_float32(xw, h, weight, bias):
        return NotImplemented
    batch, time, width = xw.shape[0], xw.shape[1], weight.shape[0]
    y, kept = np.empty((batch, time, width), f32), np.empty((batch, time, 4 * width), f32)
    gru_forward(xw, h, weight, bias, y, kept, batch, time, width, tasks=_tasks(batch))
    return y, kept


@gru.backward
def _(g, y, kept, xw, h, weight, bias, *, needs):
    dxw, dproducts, dh, dbias = np.empty(xw.shape, f32), np.empty(xw.shape, f32), np.empty(h.shape, f32), np.empty(bias.shape, f32)
    gru_backward(g, y, kept, h, weight, dxw, dproducts, dh, *y.shape, tasks=_tasks(len(y)))
    return dxw, dh, _weight_gradient(y, h, dproducts, weight, dbias), dbias
