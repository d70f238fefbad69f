"""Kernels of the linear layer, of matmul and of the embedding.

A thread multiplies its block of rows or columns with BLAS, and while the block is in its cache adds the bias and runs the
activation. Whichever of the two factors is larger is cut, because each thread packs what it multiplies for itself.

All matrices are float32 in rows. BLAS reads a factor whose rows lie apart (a slice of wider rows) or that is stored transposed
(an embedding that serves as the last layer), so neither is copied: `Matrix` says where it lies and how.

In bf16 each product is one of `product`, which rounds its factors, and what follows it is a pass of its own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..operations.arithmetic import sum_to
from ..operations.linear import embedding, embedding_adjoint, linear, matmul
from ..operations.precision import round_to_bfloat16
from ..runtime.compiling import inner
from ..runtime.native import address, call_on_row, clear_floats, copy_floats, floats, gemm, integers, keep_alive
from ..runtime.precision import setting
from ..runtime.tasks import RUN_FLOATS, Address, address_of, at, is_float32, part, row_address, span, task, tasks_for
from ..runtime.threads import get_threads
from ..tensor import state
from .activation import CODES, LEAKY_SLOPE, SAVES_DERIVATIVE, row_function, run_activation_backward
from .arithmetic import add_to, column_sums
from .precision import packed_product, pays

f32 = np.float32
RUN_ROWS = 8  # rows of a product are shared out in runs of so many, columns in RUN_FLOATS: BLAS works in such tiles
MIN_SHARED_PRODUCTS = 1 << 18  # multiplications that are worth waking the other threads: a few microseconds of work


# --- products of matrices


class Matrix(NamedTuple):
    """A matrix as BLAS reads it."""

    start: Address
    pitch: int  # floats from the beginning of one stored row to that of the next
    transposed: bool  # whether what is stored is its transpose


@inner
def transpose(a):
    return Matrix(a.start, a.pitch, not a.transposed)


@inner
def rows_from(a, i):
    """A stored matrix without its first i rows."""
    return Matrix(at(a.start, i * a.pitch), a.pitch, a.transposed)


@inner
def matrix_row(a, i, n):
    """Row i, of n floats, of a matrix that isn't transposed."""
    return floats(at(a.start, i * a.pitch), n)


@inner
def multiply(alpha, a, b, beta, c, m, n, k):
    """C = alpha A B + beta C with A (m, k), B (k, n) and C (m, n), which isn't transposed."""
    gemm(a.transposed, b.transposed, m, n, k, alpha, a.start, a.pitch, b.start, b.pitch, beta, c.start, c.pitch)


@inner
def multiply_part(t, tasks, a, b, c, m, n, k):
    """Part t of C = A B with A (m, k), B (k, n) and C (m, n) contiguous at address c.  Returns the rows and columns of the part."""
    top, bottom, left, right = 0, m, 0, n
    if m >= n:
        top, bottom = part(t, tasks, m, RUN_ROWS), part(t + 1, tasks, m, RUN_ROWS)
    else:
        left, right = part(t, tasks, n, RUN_FLOATS), part(t + 1, tasks, n, RUN_FLOATS)
    if bottom > top and right > left:
        a_rows = at(a.start, top if a.transposed else top * a.pitch)
        b_columns = at(b.start, left * b.pitch if b.transposed else left)
        multiply(f32(1), Matrix(a_rows, a.pitch, a.transposed), Matrix(b_columns, b.pitch, b.transposed),
                 f32(0), Matrix(at(c, top * n + left), n, False), bottom - top, right - left, k)  # fmt: skip
    return top, bottom, left, right


def tasks_for_products(products: int) -> int:
    """How many threads so many multiplications are worth."""
    return get_threads() if products >= MIN_SHARED_PRODUCTS else 1


# --- linear


@inner
def finish(top, bottom, left, width, bias, y, derivative, m, function, alpha):
    """Bias and activation for rows top .. bottom, and so many columns from `left` on, of y (rows, m)."""
    scratch = np.empty(width, np.float32)
    for i in range(top, bottom):
        first = i * m + left
        if bias:
            add_to(floats(at(y, first), width), floats(at(bias, left), width))
        if function:
            call_on_row(function, at(y, first), at(derivative, first) if derivative else address(scratch), width, f32(alpha))
    keep_alive(scratch)


@task
def linear_forward(t, tasks, x: Matrix, weight: Matrix, bias, y, derivative, rows, k, m, function, alpha: float):
    """y (rows, m) = activation(x W + bias), x (rows, k), W (k, m), bias (m,) or 0 for none.

    derivative (rows, m): that of the activation, if it saves it; 0 if it isn't wanted.  function: the activation's address, 0 for none.
    """
    top, bottom, left, right = multiply_part(t, tasks, x, weight, y, rows, m, k)
    if right > left and (bias or function):
        finish(top, bottom, left, right - left, bias, y, derivative, m, function, alpha)


@task
def finish_rows(t, tasks, bias, y, derivative, rows, m, function, alpha: float):
    """Bias and activation of a product y (rows, m), as in `linear_forward`."""
    finish(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1), 0, m, bias, y, derivative, m, function, alpha)


@task
def linear_backward(t, tasks, g, x: Matrix, weight: Matrix, dx, dweight, dbias, rows, k, m):
    """dx (rows, k) = g W^T, dW (k, m) = x^T g, stored as W is, dbias (m,) = the column sums of g (rows, m); 0: not wanted."""
    gradient = Matrix(g, m, False)
    if dx:
        multiply_part(t, tasks, gradient, transpose(weight), dx, rows, k, m)
    if dweight:
        if weight.transposed:
            multiply_part(t, tasks, transpose(gradient), x, dweight, m, k, rows)
        else:
            multiply_part(t, tasks, transpose(x), gradient, dweight, k, m, rows)
    if dbias:
        left = part(t, tasks, m, RUN_FLOATS)
        column_sums(g, rows, m, dbias, left, part(t + 1, tasks, m, RUN_FLOATS) - left)


def as_stored(weight: np.ndarray) -> tuple[np.ndarray, bool]:
    """A matrix as it lies in memory, and whether that is its transpose."""
    if weight.flags.c_contiguous:
        return weight, False
    if weight.flags.f_contiguous:
        return weight.T, True
    return np.ascontiguousarray(weight), False


def as_rows(x: np.ndarray) -> tuple[np.ndarray, int]:
    """x (..., width) as (rows, width), and how many floats lie between the beginnings of two rows: a slice of wider rows isn't copied."""
    width = x.shape[-1]
    rows = x.reshape(-1, width)
    down, across = rows.strides
    if len(rows) > 1 and across == x.itemsize and down >= x.itemsize * width and down % x.itemsize == 0:
        return rows, down // x.itemsize
    return contiguous(rows), width


def contiguous(a: np.ndarray) -> np.ndarray:
    return a if a.flags.c_contiguous else np.ascontiguousarray(a)


@linear.forward(strided=True)
def _(x, weight, bias, *, activation):
    if not is_float32(x, weight) or (bias is not None and not is_float32(bias)):
        return NotImplemented
    code = CODES[activation]
    stored, transposed = as_stored(weight)
    k, m = weight.shape
    rows, pitch = as_rows(x)
    in_bf16, shape = setting.name == "bf16", (*x.shape[:-1], m)
    y = product(rows, weight).reshape(shape) if in_bf16 else np.empty(shape, f32)
    derivative = np.empty(shape, f32) if code >= SAVES_DERIVATIVE and state.grad_enabled else None
    shift = None if bias is None else contiguous(bias)
    if not in_bf16:
        linear_forward(Matrix(rows, pitch, False), Matrix(stored, stored.shape[1], transposed), shift, y, derivative,
                       len(rows), k, m, row_function(code), LEAKY_SLOPE, tasks=tasks_for_products(x.size * m))  # fmt: skip
    elif code or bias is not None:
        finish_rows(shift, y, derivative, len(rows), m, row_function(code), LEAKY_SLOPE, tasks=tasks_for(y.size))
    return y, (rows, pitch, derivative if derivative is not None else y if code else None)


@linear.backward
def _(g, _y, saved, x, weight, _bias, *, needs, activation):
    rows, pitch, y_or_derivative = saved
    if activation is not None:
        g = run_activation_backward(CODES[activation], g, y_or_derivative, LEAKY_SLOPE)
    stored, transposed = as_stored(weight)
    k, m = weight.shape
    if setting.name == "bf16":
        g = g.reshape(-1, m)
        dx = product(g, weight.T).reshape(x.shape) if needs[0] else None
        dweight = None if not needs[1] else product(g.T, rows).T if transposed else product(rows.T, g)
        return dx, dweight, sum_to(g, shape=(m,)) if needs[2] else None
    dx = np.empty(x.shape, f32) if needs[0] else None
    dweight = np.empty(stored.shape, f32) if needs[1] else None
    dbias = np.empty(m, f32) if needs[2] else None
    linear_backward(g, Matrix(rows, pitch, False), Matrix(stored, stored.shape[1], transposed), dx, dweight, dbias,
                    len(rows), k, m, tasks=tasks_for_products(g.size * k))  # fmt: skip
    return dx, dweight.T if dweight is not None and transposed else dweight, dbias


# --- matmul


class Layout(NamedTuple):
    """How all matrices of one argument lie, each from an address of its own."""

    pitch: int
    transposed: bool


@task
def multiply_pairs(t, tasks, a_starts, b_starts, c, pairs, cuts, a: Layout, b: Layout, m, n, k):
    """C[i] (m, n) = A[i] (m, k) B[i] (k, n) for pairs of matrices by their addresses; each product is cut in `cuts` parts."""
    a_start, b_start = integers(a_starts, pairs), integers(b_starts, pairs)
    for unit in range(part(t, tasks, pairs * cuts, 1), part(t + 1, tasks, pairs * cuts, 1)):
        i = unit // cuts
        one, other = Matrix(a_start[i], a.pitch, a.transposed != 0), Matrix(b_start[i], b.pitch, b.transposed != 0)
        multiply_part(unit % cuts, cuts, one, other, row_address(c, i, m * n), m, n, k)


def _layout(a: np.ndarray) -> tuple[np.ndarray, Layout]:
    """An array whose last two axes BLAS can read, and how."""
    rows, columns = a.shape[-2:]
    down, across = a.strides[-2:]
    one = a.itemsize
    if (across == one or columns == 1) and (rows == 1 or (down >= one * columns and down % one == 0)):
        return a, Layout(columns if rows == 1 else down // one, False)
    if (down == one or rows == 1) and (columns == 1 or (across >= one * rows and across % one == 0)):
        return a, Layout(rows if columns == 1 else across // one, True)
    return np.ascontiguousarray(a), Layout(columns, False)


def _starts(a: np.ndarray, batch: tuple[int, ...]) -> np.ndarray:
    """The address of each matrix of a, broadcast to the batch."""
    strides = (0,) * (len(batch) - a.ndim + 2) + tuple(0 if n == 1 else s for n, s in zip(a.shape[:-2], a.strides))
    starts = np.full(batch, address_of(a), np.int64)
    for axis, (n, stride) in enumerate(zip(batch, strides)):
        if stride:
            starts += (np.arange(n) * stride).reshape((n,) + (1,) * (len(batch) - axis - 1))
    return starts


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b over the last two axes, for float32 arrays of two axes or more, of any strides, in the precision that is set."""
    m, k, n = *a.shape[-2:], b.shape[-1]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    c = np.empty((*batch, m, n), f32)
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous:  # one weight for all: one large product
        a, batch = a.reshape(-1, k), ()
        m = a.shape[0]
    if setting.name == "bf16":
        if not batch and pays(m, n, k):
            return packed_product(_layout(a)[0], _layout(b)[0]).reshape(c.shape)
        a, b = round_to_bfloat16(a), round_to_bfloat16(b)
    (a, a_layout), (b, b_layout) = _layout(a), _layout(b)
    pairs = math.prod(batch)
    threads = tasks_for_products(pairs * m * n * k)
    cuts = 1 if pairs >= threads else threads
    multiply_pairs(_starts(a, batch), _starts(b, batch), c, pairs, cuts, a_layout, b_layout, m, n, k, tasks=min(threads, pairs * cuts))
    return c


@matmul.forward(strided=True)
def _(a, b):
    if not is_float32(a, b):
        return NotImplemented
    y = product(a if a.ndim > 1 else a[None], b if b.ndim > 1 else b[:, None])
    y = y if b.ndim > 1 else y[..., 0]
    return y if a.ndim > 1 else y[..., 0, :] if b.ndim > 1 else y[..., 0], ()


@matmul.backward
def _(g, y, _saved, a, b, *, needs):
    """As the rules say, but a weight that all matrices of a share gets its gradient from one product."""
    da = matmul.rules[0](g, y, a, b) if needs[0] else None  # type: ignore[misc]
    if needs[1] and b.ndim == 2 and a.ndim > 2:
        return da, product(a.reshape(-1, a.shape[-1]).T, g.reshape(-1, g.shape[-1]))
    return da, matmul.rules[1](g, y, a, b) if needs[1] else None  # type: ignore[misc]


# --- embedding


@task
def gather_rows(t, tasks, weight, ids, y, rows, width):
    """y[i] = weight[ids[i]]: weight (symbols, width), ids (rows,), y (rows, width)"""
    index = integers(ids, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        copy_floats(row_address(y, i, width), row_address(weight, index[i], width), width)


@task
def scatter_rows(t, tasks, g, ids, y, rows, symbols, width):
    """y[ids[i]] += g[i]: g (rows, width), y (symbols, width). Each task adds up its own columns, in the order of the rows."""
    left, right = part(t, tasks, width, RUN_FLOATS), part(t + 1, tasks, width, RUN_FLOATS)
    index = integers(ids, rows)
    for s in range(symbols):
        clear_floats(at(y, s * width + left), right - left)
    for i in range(rows):
        add_to(span(row_address(y, index[i], width), left, right), span(row_address(g, i, width), left, right))


@embedding.forward
def _(weight, ids):
    if weight.ndim != 2 or not is_float32(weight):
        return NotImplemented
    width = weight.shape[1]
    ids = np.asarray(ids, np.int64, order="C")
    y = np.empty((*ids.shape, width), f32)
    gather_rows(weight, ids, y, ids.size, width, tasks=tasks_for(y.size))
    return y, ()


@embedding_adjoint.forward
def _(g, ids, *, symbols):
    ids = np.asarray(ids)
    if g.shape[:-1] != ids.shape or not is_float32(g) or ids.min() < 0 or ids.max() >= symbols:
        return NotImplemented
    return sum_rows_by_id(g, ids, symbols), ()


def sum_rows_by_id(g: np.ndarray, ids: np.ndarray, symbols: int) -> np.ndarray:
    """(symbols, width): the rows of g added up at their ids."""
    width = g.shape[-1]
    y = np.empty((symbols, width), f32)
    scatter_rows(g, np.asarray(ids, np.int64, order="C"), y, g.size // width, symbols, width, tasks=tasks_for(g.size))
    return y
