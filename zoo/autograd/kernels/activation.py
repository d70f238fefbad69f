"""Kernels of the activations and of softmax: the loops over one row, which linear layers and norms use as well.

An activation works in place on a row that has just been computed and lies in the nearest cache. Those whose derivative isn't a
function of their value (gelu, silu, softplus) leave it in a second row while the exponential is at hand, so that the way back
is one multiplication.
"""

from __future__ import annotations

import numpy as np

from ..operations.activation import gelu, leaky_relu, log_softmax, relu, sigmoid, silu, softmax, softplus, tanh
from ..runtime.compiling import address, copy_floats, erff, expf, inner, logf, separate, tanhf
from ..runtime.tasks import CHUNK, floats, is_float32, minus_in_order, part, task, tasks_for
from ..tensor import state

f32 = np.float32

CODES = {None: 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "sigmoid": 4, "gelu": 5, "silu": 6, "softplus": 7, "gelu_exact": 8}
LEAKY_SLOPE = 0.2  # of a linear layer's leaky_relu
KEEPS_SLOPE = 5  # codes from here on keep the derivative; those below compute it from y


@inner
def log1p_of_exponential(e):
    """ln(1 + e) for e in [0, 1], in relative precision: 2 artanh(e / (2 + e))."""
    s = e / (f32(2) + e)
    q = s * s
    p = f32(1 / 15) * q + f32(1 / 13)
    p = p * q + f32(1 / 11)
    p = p * q + f32(1 / 9)
    p = p * q + f32(1 / 7)
    p = p * q + f32(1 / 5)
    p = p * q + f32(1 / 3)
    return f32(2) * (s + s * q * p)


@inner
def greatest(row):
    top = f32(-np.inf)
    for j in range(row.size):
        top = max(row[j], top)
    return top


@inner
def exponentials(row, top):
    """row = e^(row - top) in place; returns the sum."""
    total = f32(0)
    for j in range(row.size):
        e = expf(row[j] - top)
        row[j] = e
        total += e
    return total


@inner
def scale_row(row, factor):
    for j in range(row.size):
        row[j] *= factor


@separate("void(intp, intp, intp, intp, float32)")
def activate(code, place, slopes, n, alpha):
    """y = activation(y) in place, for n floats; the derivative goes to slopes for the codes that keep it."""
    y, slope = floats(place, n), floats(slopes, n)
    if code == 1:
        for j in range(y.size):
            v = y[j]
            y[j] = f32(0) if v <= f32(0) else v  # NaN stays
    elif code == 2:
        for j in range(y.size):
            v = y[j]
            y[j] = v if v > f32(0) else v * alpha
    elif code == 3:
        for j in range(y.size):
            y[j] = tanhf(y[j])
    elif code == 4:
        for j in range(y.size):
            y[j] = f32(1) / (f32(1) + expf(-y[j]))
    elif code == 5:
        for j in range(y.size):
            v = y[j]
            q = v * v
            # 1 + tanh(u) = 2 sigmoid(2 u)
            s = f32(1) / (f32(1) + expf(v * (f32(-1.5957691216) + f32(-0.0713548163) * q)))
            y[j] = v * s
            slope[j] = s + v * s * (f32(1) - s) * (f32(1.5957691216) + f32(0.2140644488) * q)
    elif code == 6:
        for j in range(y.size):
            v = y[j]
            s = f32(1) / (f32(1) + expf(-v))
            y[j] = v * s
            slope[j] = s + v * s * (f32(1) - s)
    elif code == 7:
        for j in range(y.size):
            v = y[j]
            e = expf(-abs(v))
            y[j] = max(f32(0), v) + log1p_of_exponential(e)
            slope[j] = (f32(1) if v > f32(0) else e) / (f32(1) + e)
    elif code == 8:
        for j in range(y.size):
            v = y[j]
            p = f32(0.5) + f32(0.5) * erff(v * f32(0.70710678))
            y[j] = v * p
            slope[j] = p + v * f32(0.39894228) * expf(f32(-0.5) * v * v)


@inner
def activate_backward(code, g, kept, dx, alpha):
    """dx = g times the activation's derivative; kept is y, or the derivative itself for the codes that keep it."""
    if code == 1:
        for j in range(g.size):
            dx[j] = g[j] if kept[j] > f32(0) else f32(0)
    elif code == 2:
        for j in range(g.size):
            dx[j] = g[j] if kept[j] > f32(0) else g[j] * alpha
    elif code == 3:
        for j in range(g.size):
            dx[j] = g[j] * (f32(1) - kept[j] * kept[j])
    elif code == 4:
        for j in range(g.size):
            dx[j] = g[j] * (kept[j] * (f32(1) - kept[j]))
    else:
        for j in range(g.size):
            dx[j] = g[j] * kept[j]


# --- activations on their own


@task
def activation_forward(t, tasks, code, x, y, slope, n, alpha: float):
    """slope = 0: the derivative isn't wanted."""
    scratch = np.empty(CHUNK, np.float32)
    last = part(t + 1, tasks, n, CHUNK)
    for lo in range(part(t, tasks, n, CHUNK), last, CHUNK):
        count = min(CHUNK, last - lo)
        copy_floats(y + 4 * lo, x + 4 * lo, count)
        activate(code, y + 4 * lo, slope + 4 * lo if slope else address(scratch), count, f32(alpha))


@task
def activation_backward(t, tasks, code, g, kept, dx, n, alpha: float):
    lo = part(t, tasks, n, 16)
    count = part(t + 1, tasks, n, 16) - lo
    activate_backward(code, floats(g + 4 * lo, count), floats(kept + 4 * lo, count), floats(dx + 4 * lo, count), f32(alpha))


def run_activation(code: int, x: np.ndarray, alpha: float = 0.0):
    """y, and its derivative in x where the code keeps it (for a backward pass to come)."""
    y = np.empty(x.shape, f32)
    slope = np.empty(x.shape, f32) if code >= KEEPS_SLOPE and state.grad_enabled else None
    activation_forward(code, x, y, slope, x.size, float(alpha), tasks=tasks_for(x.size))
    return y, slope


def run_activation_backward(code: int, g: np.ndarray, kept: np.ndarray, alpha: float = 0.0) -> np.ndarray:
    dx = np.empty(g.shape, f32)
    activation_backward(code, g, kept, dx, g.size, float(alpha), tasks=tasks_for(g.size))
    return dx


def _attach_from_y(operation, code):
    """An activation whose derivative is a function of its value."""

    @operation.forward
    def _(x):
        return run_activation(code, x)[0], ()

    @operation.backward
    def _(g, y, _saved, _x, *, needs):
        return (run_activation_backward(code, g, y),)


def _attach(operation, code):
    """An activation that keeps its derivative."""

    @operation.forward
    def _(x):
        y, slope = run_activation(code, x)
        return y, () if slope is None else slope

    @operation.backward
    def _(g, _y, saved, _x, *, needs):
        return (run_activation_backward(code, g, saved),)


for _operation in (relu, tanh, sigmoid):
    _attach_from_y(_operation, CODES[_operation.__name__])
for _operation in (silu, softplus):
    _attach(_operation, CODES[_operation.__name__])


@leaky_relu.forward
def _(x, *, slope):
    return run_activation(CODES["leaky_relu"], x, slope)[0], ()


@leaky_relu.backward
def _(g, y, _saved, x, *, needs, slope):
    return (run_activation_backward(CODES["leaky_relu"], g, y if slope > 0 else x, slope),)


@gelu.forward
def _(x, *, approximate):
    return run_activation(CODES["gelu" if approximate == "tanh" else "gelu_exact"], x)


@gelu.backward
def _(g, _y, saved, _x, *, needs, approximate):
    return (run_activation_backward(CODES["gelu"], g, saved),)


# --- softmax over the last axis


@task
def softmax_forward(t, tasks, x, y, rows, n, logarithm):
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        a, b = floats(x + 4 * i * n, n), floats(y + 4 * i * n, n)
        top = greatest(a)
        for j in range(n):
            b[j] = a[j]
        total = exponentials(b, top)
        if logarithm:
            log_sum = logf(total)
            for j in range(n):
                b[j] = minus_in_order(a[j], top, log_sum)
        else:
            scale_row(b, f32(1) / total)


@task
def softmax_backward(t, tasks, g, y, dx, rows, n, logarithm):
    """dx = y (g - the sum of g y), or for the logarithm g - e^y times the sum of g"""
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        a, b, d = floats(g + 4 * i * n, n), floats(y + 4 * i * n, n), floats(dx + 4 * i * n, n)
        total = f32(0)
        if logarithm:
            for j in range(n):
                total += a[j]
            for j in range(n):
                d[j] = a[j] - total * expf(b[j])
        else:
            for j in range(n):
                total += a[j] * b[j]
            for j in range(n):
                d[j] = b[j] * (a[j] - total)


def _attach_softmax(operation, logarithm):
    @operation.forward
    def _(x, *, axis):
        if not is_float32(x) or x.ndim == 0 or axis not in (-1, x.ndim - 1):
            return NotImplemented
        y, n = np.empty(x.shape, f32), x.shape[-1]
        softmax_forward(x, y, x.size // n, n, logarithm, tasks=tasks_for(x.size))
        return y, ()

    @operation.backward
    def _(g, y, _saved, _x, *, needs, axis):
        dx, n = np.empty(y.shape, f32), y.shape[-1]
        softmax_backward(g, y, dx, y.size // n, n, logarithm, tasks=tasks_for(y.size))
        return (dx,)


_attach_softmax(softmax, False)
_attach_softmax(log_softmax, True)
