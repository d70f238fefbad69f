"""Kernels of the linear layer, of matmul and of the embedding.

A thread multiplies its block of rows or columns with BLAS, and while the block is in its cache adds the bias and runs the
activation. Whichever of the two factors is larger is cut, because each thread packs what it multiplies for itself.
"""

from __future__ import annotations

import numpy as np

from .activation_kernels import CODES, KEEPS_SLOPE, LEAKY_SLOPE, activate, run_activation_backward
from .linear import linear
from .runtime import address, gemm, inner
from .tasks import floats, is_float32, part, task
from .tensor import state

f32 = np.float32


# --- linear


@inner
def multiply_part(t, tasks, transpose_a, transpose_b, m, n, k, a, lda, b, ldb, c):
    """Part t of C = op(A) op(B), C (m, n) contiguous; addresses.  Returns the rows and columns of the part."""
    top, bottom, left, right = 0, m, 0, n
    if m >= n:
        top, bottom = part(t, tasks, m, 8), part(t + 1, tasks, m, 8)
    else:
        left, right = part(t, tasks, n, 16), part(t + 1, tasks, n, 16)
    if bottom > top and right > left:
        from_a = a + 4 * top * (1 if transpose_a else lda)
        from_b = b + 4 * left * (ldb if transpose_b else 1)
        gemm(transpose_a, transpose_b, bottom - top, right - left, k, f32(1), from_a, lda, from_b, ldb, f32(0), c + 4 * (top * n + left), n)
    return top, bottom, left, right


@inner
def add_to(total, more):
    for j in range(total.size):
        total[j] += more[j]


@task
def linear_forward(t, tasks, x, weight, transposed, bias, y, slope, n, k, m, code, alpha: float):
    """y (n, m) = activation(x W + bias).  bias = 0: none; slope = 0: the derivative isn't wanted."""
    top, bottom, left, right = multiply_part(t, tasks, False, transposed != 0, n, m, k, x, k, weight, k if transposed else m, y)
    width = right - left
    if width > 0 and (bias or code):
        scratch = np.empty(width, np.float32)
        for i in range(top, bottom):
            offset = 4 * (i * m + left)
            if bias:
                add_to(floats(y + offset, width), floats(bias + 4 * left, width))
            if code:
                activate(code, y + offset, slope + offset if slope else address(scratch), width, f32(alpha))


@inner
def column_sums(g, n, m, out, left, width):
    """Sums of `width` columns of g (n, m), 64 rows at a time so that rounding doesn't pile up."""
    partial, total = np.empty(width, np.float32), floats(out + 4 * left, width)
    for j in range(width):
        total[j] = f32(0)
    for first in range(0, n, 64):
        for j in range(width):
            partial[j] = f32(0)
        for i in range(first, min(first + 64, n)):
            add_to(partial, floats(g + 4 * (i * m + left), width))
        add_to(total, partial)


@task
def linear_backward(t, tasks, g, x, weight, transposed, dx, dweight, dbias, n, k, m):
    """dx (n, k) = g W^T, dW = x^T g, dbias = the column sums of g (n, m); those that are 0 aren't wanted."""
    if dx:
        multiply_part(t, tasks, False, transposed == 0, n, k, m, g, m, weight, k if transposed else m, dx)
    if dweight:
        if transposed:
            multiply_part(t, tasks, True, False, m, k, n, g, m, x, k, dweight)
        else:
            multiply_part(t, tasks, True, False, k, m, n, x, k, g, m, dweight)
    if dbias:
        left = part(t, tasks, m, 16)
        column_sums(g, n, m, dbias, left, part(t + 1, tasks, m, 16) - left)


def as_stored(weight: np.ndarray) -> tuple[np.ndarray, bool]:
    """A matrix as it lies in memory, and whether that is its transpose (an embedding that serves as the last layer)."""
    if weight.flags.c_contiguous:
        return weight, False
    if weight.flags.f_contiguous:
        return weight.T, True
    return np.ascontiguousarray(weight), False


def contiguous(a: np.ndarray) -> np.ndarray:
    return a if a.flags.c_contiguous else np.ascontiguousarray(a)


@linear.forward(strided=True)
def _(x, weight, bias, *, activation):
    if not is_float32(x, weight) or (bias is not None and not is_float32(bias)):
        return NotImplemented
    code = CODES[activation]
    rows = contiguous(x)
    stored, transposed = as_stored(weight)
    k, m = weight.shape
    n = x.size // k
    y = np.empty((*x.shape[:-1], m), f32)
    slope = np.empty(y.shape, f32) if code >= KEEPS_SLOPE and state.grad_enabled else None
    linear_forward(rows, stored, transposed, None if bias is None else contiguous(bias), y, slope, n, k, m, code, LEAKY_SLOPE)
    return y, (rows, slope if slope is not None else y if code else None)


@linear.backward
def _(g, _y, saved, _x, weight, _bias, *, needs, activation):
    rows, kept = saved
    if activation is not None:
        g = run_activation_backward(CODES[activation], g, kept, LEAKY_SLOPE)
    stored, transposed = as_stored(weight)
    k, m = weight.shape
    dx = np.empty(rows.shape, f32) if needs[0] else None
    dweight = np.empty(stored.shape, f32) if needs[1] else None
    dbias = np.empty(m, f32) if needs[2] else None
    linear_backward(g, rows, stored, transposed, dx, dweight, dbias, g.size // m, k, m)
    return dx, dweight.T if transposed and needs[1] else dweight, dbias
