"""Kernels of the activations and of softmax: the loops over one row, which linear layers and norms use as well.

An activation works in place on a row that has just been computed and lies in the nearest cache. Those whose derivative isn't a
function of their value (gelu, silu, softplus) leave it in a second row while the exponential is at hand, so that backward is
one multiplication. Arrays are contiguous float32; elementwise loops see them flat, softmax as rows of its last axis.
"""

from __future__ import annotations

import numpy as np

from ..operations.activation import gelu, leaky_relu, log_softmax, relu, sigmoid, silu, softmax, softplus, tanh
from ..runtime.compiling import inner, separate
from ..runtime.native import address, call_on_row, copy_floats, erff, exp_falling, expf, floats, logf, minus_in_order, tanhf
from ..runtime.tasks import CHUNK_FLOATS, RUN_FLOATS, at, is_float32, part, row, span, task, tasks_for
from ..tensor import state

f32 = np.float32

CODES = {None: 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "sigmoid": 4, "gelu": 5, "silu": 6, "softplus": 7, "gelu_exact": 8}
LEAKY_SLOPE = 0.2  # of a linear layer's leaky_relu
SAVES_DERIVATIVE = 5  # codes from here on save the derivative; for those below it is a function of y


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
def greatest(x):
    top = f32(-np.inf)
    for j in range(x.size):
        top = max(x[j], top)
    return top


@inner
def exponentials(x, top):
    """x = e^(x - top) in place; returns the sum."""
    total = f32(0)
    for j in range(x.size):
        e = exp_falling(x[j] - top)
        x[j] = e
        total += e
    return total


@inner
def scale_row(x, factor):
    for j in range(x.size):
        x[j] *= factor


# --- one row, in place: y (n,) = activation(y).  Each is compiled when a layer first asks for it, and called by its address.

ROW = "void(intp, intp, intp, float32)"


@separate(ROW)
def _relu(y_address, derivative_address, n, alpha):
    y = floats(y_address, n)
    for j in range(y.size):
        v = y[j]
        y[j] = f32(0) if v <= f32(0) else v  # NaN stays


@separate(ROW)
def _leaky_relu(y_address, derivative_address, n, alpha):
    y = floats(y_address, n)
    for j in range(y.size):
        v = y[j]
        y[j] = v if v > f32(0) else v * alpha


@separate(ROW)
def _tanh(y_address, derivative_address, n, alpha):
    y = floats(y_address, n)
    for j in range(y.size):
        y[j] = tanhf(y[j])


@separate(ROW)
def _sigmoid(y_address, derivative_address, n, alpha):
    y = floats(y_address, n)
    for j in range(y.size):
        y[j] = f32(1) / (f32(1) + expf(-y[j]))


@separate(ROW)
def _gelu(y_address, derivative_address, n, alpha):
    y, derivative = floats(y_address, n), floats(derivative_address, n)
    for j in range(y.size):
        v = y[j]
        q = v * v
        # 1 + tanh(u) = 2 sigmoid(2 u)
        s = f32(1) / (f32(1) + expf(v * (f32(-1.5957691216) + f32(-0.0713548163) * q)))
        y[j] = v * s
        slope = v * s * (f32(1) - s) * (f32(1.5957691216) + f32(0.2140644488) * q)
        derivative[j] = s if q > f32(1e4) else s + slope  # 0 or 1 there, and q may have overflowed


@separate(ROW)
def _silu(y_address, derivative_address, n, alpha):
    y, derivative = floats(y_address, n), floats(derivative_address, n)
    for j in range(y.size):
        v = y[j]
        s = f32(1) / (f32(1) + expf(-v))
        y[j] = v * s
        derivative[j] = s + v * s * (f32(1) - s)


@separate(ROW)
def _softplus(y_address, derivative_address, n, alpha):
    y, derivative = floats(y_address, n), floats(derivative_address, n)
    for j in range(y.size):
        v = y[j]
        e = exp_falling(-abs(v))
        y[j] = max(f32(0), v) + log1p_of_exponential(e)
        derivative[j] = (f32(1) if v > f32(0) else e) / (f32(1) + e)


@separate(ROW)
def _gelu_exact(y_address, derivative_address, n, alpha):
    y, derivative = floats(y_address, n), floats(derivative_address, n)
    for j in range(y.size):
        v = y[j]
        p = f32(0.5) + f32(0.5) * erff(v * f32(0.70710678))
        y[j] = v * p
        derivative[j] = p + v * f32(0.39894228) * exp_falling(f32(-0.5) * v * v)


_BY_CODE = (None, _relu, _leaky_relu, _tanh, _sigmoid, _gelu, _silu, _softplus, _gelu_exact)


def row_function(code: int) -> int:
    """The address of the machine code that runs an activation on a row; 0 for none."""
    function = _BY_CODE[code]
    return 0 if function is None else function.load()


@inner
def activate_backward(code, g, saved, dx, alpha):
    """dx = g times the activation's derivative; saved is y, or for the codes that save it the derivative itself."""
    if code == 1:
        for j in range(g.size):
            dx[j] = g[j] if saved[j] > f32(0) else f32(0)
    elif code == 2:
        for j in range(g.size):
            dx[j] = g[j] if saved[j] > f32(0) else g[j] * alpha
    elif code == 3:
        for j in range(g.size):
            dx[j] = g[j] * (f32(1) - saved[j] * saved[j])
    elif code == 4:
        for j in range(g.size):
            dx[j] = g[j] * (saved[j] * (f32(1) - saved[j]))
    else:
        for j in range(g.size):
            dx[j] = g[j] * saved[j]


# --- activations on their own


@task
def activation_forward(t, tasks, function, x, y, derivative, n, alpha: float):
    """y (n,) = activation(x), given by its address; derivative (n,), or 0 if it isn't wanted"""
    scratch = np.empty(CHUNK_FLOATS, np.float32)
    last = part(t + 1, tasks, n, CHUNK_FLOATS)
    for i in range(part(t, tasks, n, CHUNK_FLOATS), last, CHUNK_FLOATS):
        count = min(CHUNK_FLOATS, last - i)
        copy_floats(at(y, i), at(x, i), count)
        call_on_row(function, at(y, i), at(derivative, i) if derivative else address(scratch), count, f32(alpha))


@task
def activation_backward(t, tasks, code, g, saved, dx, n, alpha: float):
    first, last = part(t, tasks, n, RUN_FLOATS), part(t + 1, tasks, n, RUN_FLOATS)
    activate_backward(code, span(g, first, last), span(saved, first, last), span(dx, first, last), f32(alpha))


def run_activation(code: int, x: np.ndarray, alpha: float = 0.0):
    """y, and its derivative in x where the code saves it (for a backward pass to come)."""
    y = np.empty(x.shape, f32)
    derivative = np.empty(x.shape, f32) if code >= SAVES_DERIVATIVE and state.grad_enabled else None
    activation_forward(row_function(code), x, y, derivative, x.size, float(alpha), tasks=tasks_for(x.size))
    return y, derivative


def run_activation_backward(code: int, g: np.ndarray, saved: np.ndarray, alpha: float = 0.0) -> np.ndarray:
    dx = np.empty(g.shape, f32)
    activation_backward(code, g, saved, dx, g.size, float(alpha), tasks=tasks_for(g.size))
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
    """An activation that saves its derivative."""

    @operation.forward
    def _(x):
        y, derivative = run_activation(code, x)
        return y, () if derivative is None else derivative

    @operation.backward
    def _(g, _y, saved, _x, *, needs):
        return (run_activation_backward(code, g, saved),)


_attach_from_y(relu, CODES["relu"])
_attach_from_y(tanh, CODES["tanh"])
_attach_from_y(sigmoid, CODES["sigmoid"])
_attach(silu, CODES["silu"])
_attach(softplus, CODES["softplus"])


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
def softmax_forward(t, tasks, x, y, rows, n, logarithm: bool):
    """x, y (rows, n): y = e^(x - max) / sum, or its logarithm x - max - ln sum"""
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        x_row, y_row = row(x, i, n), row(y, i, n)
        top = greatest(x_row)
        for j in range(n):
            y_row[j] = x_row[j]
        total = exponentials(y_row, top)
        if logarithm:
            log_total = logf(total)
            for j in range(n):
                y_row[j] = minus_in_order(x_row[j], top, log_total)
        else:
            scale_row(y_row, f32(1) / total)


@task
def softmax_backward(t, tasks, g, y, dx, rows, n, logarithm: bool):
    """dx = y (g - the sum of g y), or for the logarithm g - e^y times the sum of g; all (rows, n)"""
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        g_row, y_row, dx_row = row(g, i, n), row(y, i, n), row(dx, i, n)
        total = f32(0)
        if logarithm:
            for j in range(n):
                total += g_row[j]
            for j in range(n):
                dx_row[j] = g_row[j] - total * exp_falling(y_row[j])
        else:
            for j in range(n):
                total += g_row[j] * y_row[j]
            for j in range(n):
                dx_row[j] = y_row[j] * (g_row[j] - total)


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
