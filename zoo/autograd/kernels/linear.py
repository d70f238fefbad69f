"""Kernels of the linear layer, of matmul and of the embedding.

A thread multiplies its block of rows or columns with BLAS, and while the block is in its cache adds the bias and runs the
activation. Whichever of the two factors is larger is cut, because each thread packs what it multiplies for itself.
"""

from __future__ import annotations

import math

import numpy as np

from ..operations.linear import embedding, embedding_adjoint, linear, matmul
from ..runtime.compiling import address, clear_floats, copy_floats, gemm, get_threads, inner
from ..runtime.tasks import address_of, floats, integers, is_float32, part, task, tasks_for
from ..tensor import state
from .activation import CODES, KEEPS_SLOPE, LEAKY_SLOPE, activate, run_activation_backward
from .arithmetic import add_to, column_sums

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


@task
def linear_forward(t, tasks, x, row, weight, transposed, bias, y, slope, n, k, m, code, alpha: float):
    """y (n, m) = activation(x W + bias), x's rows being `row` apart.  bias = 0: none; slope = 0: the derivative isn't wanted."""
    top, bottom, left, right = multiply_part(t, tasks, False, transposed != 0, n, m, k, x, row, weight, k if transposed else m, y)
    width = right - left
    if width > 0 and (bias or code):
        scratch = np.empty(width, np.float32)
        for i in range(top, bottom):
            offset = 4 * (i * m + left)
            if bias:
                add_to(floats(y + offset, width), floats(bias + 4 * left, width))
            if code:
                activate(code, y + offset, slope + offset if slope else address(scratch), width, f32(alpha))


@task
def linear_backward(t, tasks, g, x, row, weight, transposed, dx, dweight, dbias, n, k, m):
    """dx (n, k) = g W^T, dW = x^T g, dbias = the column sums of g (n, m); those that are 0 aren't wanted."""
    if dx:
        multiply_part(t, tasks, False, transposed == 0, n, k, m, g, m, weight, k if transposed else m, dx)
    if dweight:
        if transposed:
            multiply_part(t, tasks, True, False, m, k, n, g, m, x, row, dweight)
        else:
            multiply_part(t, tasks, True, False, k, m, n, x, row, g, m, dweight)
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


def as_rows(x: np.ndarray) -> tuple[np.ndarray, int]:
    """x (..., width) as (rows, width), and how many floats one row begins behind another: a slice of wider rows isn't copied."""
    width = x.shape[-1]
    rows = x.reshape(-1, width)
    across, down = rows.strides[1], rows.strides[0]
    if across == 4 and len(rows) > 1 and down >= 4 * width and down % 4 == 0:
        return rows, down // 4
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
    rows, row = as_rows(x)
    n = x.size // k
    y = np.empty((*x.shape[:-1], m), f32)
    slope = np.empty(y.shape, f32) if code >= KEEPS_SLOPE and state.grad_enabled else None
    shift, tasks = None if bias is None else contiguous(bias), tasks_for_products(n * k * m)
    linear_forward(rows, row, stored, transposed, shift, y, slope, n, k, m, code, LEAKY_SLOPE, tasks=tasks)
    return y, (rows, row, slope if slope is not None else y if code else None)


@linear.backward
def _(g, _y, saved, x, weight, _bias, *, needs, activation):
    rows, row, kept = saved
    if activation is not None:
        g = run_activation_backward(CODES[activation], g, kept, LEAKY_SLOPE)
    stored, transposed = as_stored(weight)
    k, m = weight.shape
    dx = np.empty(x.shape, f32) if needs[0] else None
    dweight = np.empty(stored.shape, f32) if needs[1] else None
    dbias = np.empty(m, f32) if needs[2] else None
    linear_backward(g, rows, row, stored, transposed, dx, dweight, dbias, g.size // m, k, m, tasks=tasks_for_products(g.size * k))
    return dx, dweight.T if transposed and needs[1] else dweight, dbias


def tasks_for_products(products: int) -> int:
    """How many threads so many multiplications are worth: below a few microseconds of work, waking the others costs more."""
    return get_threads() if products >= 2**18 else 1


# --- matmul


@task
def multiply_pairs(t, tasks, a_places, b_places, c, pairs, cuts, transpose_a, transpose_b, m, n, k, lda, ldb):
    """C[i] = op(A[i]) op(B[i]) for pairs of matrices by their addresses; each product is cut in `cuts` parts."""
    first_of_a, first_of_b = integers(a_places, pairs), integers(b_places, pairs)
    for unit in range(part(t, tasks, pairs * cuts, 1), part(t + 1, tasks, pairs * cuts, 1)):
        i = unit // cuts
        one, other, product = first_of_a[i], first_of_b[i], c + 4 * i * m * n
        multiply_part(unit % cuts, cuts, transpose_a != 0, transpose_b != 0, m, n, k, one, lda, other, ldb, product)


def _matrix(a: np.ndarray) -> tuple[np.ndarray, bool, int]:
    """An array whose last two axes BLAS can read, whether it reads them transposed, and the length of a stored row."""
    rows, columns = a.shape[-2:]
    down, across = a.strides[-2:]
    if (across == 4 or columns == 1) and (rows == 1 or (down >= 4 * columns and down % 4 == 0)):
        return a, False, columns if rows == 1 else down // 4
    if (down == 4 or rows == 1) and (columns == 1 or (across >= 4 * rows and across % 4 == 0)):
        return a, True, rows if columns == 1 else across // 4
    return np.ascontiguousarray(a), False, columns


def _places(a: np.ndarray, batch: tuple[int, ...]) -> np.ndarray:
    """The address of each matrix of a, broadcast to the batch."""
    strides = (0,) * (len(batch) - a.ndim + 2) + tuple(0 if n == 1 else s for n, s in zip(a.shape[:-2], a.strides))
    place = np.full(batch, address_of(a), np.int64)
    for axis, (n, stride) in enumerate(zip(batch, strides)):
        if stride:
            place += (np.arange(n) * stride).reshape((n,) + (1,) * (len(batch) - axis - 1))
    return place


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b over the last two axes, for float32 arrays of two axes or more, of any strides."""
    m, k, n = *a.shape[-2:], b.shape[-1]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    c = np.empty((*batch, m, n), f32)
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous:  # one weight for all: one large product
        a, batch = a.reshape(-1, k), ()
        m = a.shape[0]
    a, transpose_a, lda = _matrix(a)
    b, transpose_b, ldb = _matrix(b)
    pairs = math.prod(batch)
    threads = tasks_for_products(pairs * m * n * k)
    cuts = 1 if pairs >= threads else threads
    places, tasks = (_places(a, batch), _places(b, batch)), min(threads, pairs * cuts)
    multiply_pairs(*places, c, pairs, cuts, transpose_a, transpose_b, m, n, k, lda, ldb, tasks=tasks)
    return c


@matmul.forward(strided=True)
def _(a, b):
    if not is_float32(a, b):
        return NotImplemented
    x, w = a if a.ndim > 1 else a[None], b if b.ndim > 1 else b[:, None]
    y = multiply(x, w)
    y = y if b.ndim > 1 else y[..., 0]
    return y if a.ndim > 1 else y[..., 0, :] if b.ndim > 1 else y[..., 0], ()


@matmul.backward
def _(g, y, _saved, a, b, *, needs):
    """As the rules say, but a weight that all matrices of a share gets its gradient from one product."""
    da = matmul.rules[0](g, y, a, b) if needs[0] else None
    if needs[1] and b.ndim == 2 and a.ndim > 2:
        return da, multiply(a.reshape(-1, a.shape[-1]).T, g.reshape(-1, g.shape[-1]))
    return da, matmul.rules[1](g, y, a, b) if needs[1] else None


# --- embedding


@task
def gather_rows(t, tasks, weight, ids, y, rows, width):
    """y[i] = weight[ids[i]]"""
    index = integers(ids, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        copy_floats(y + 4 * i * width, weight + 4 * index[i] * width, width)


@task
def scatter_rows(t, tasks, g, ids, out, rows, symbols, width):
    """out[ids[i]] += g[i]: each task adds up its own columns, in the order of the rows."""
    left = part(t, tasks, width, 16)
    columns = part(t + 1, tasks, width, 16) - left
    index = integers(ids, rows)
    for s in range(symbols):
        clear_floats(out + 4 * (s * width + left), columns)
    for i in range(rows):
        add_to(floats(out + 4 * (index[i] * width + left), columns), floats(g + 4 * (i * width + left), columns))


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
    return embedding_rows_added(g, ids, symbols), ()


def embedding_rows_added(g: np.ndarray, ids: np.ndarray, symbols: int) -> np.ndarray:
    width = g.shape[-1]
    out = np.empty((symbols, width), f32)
    scatter_rows(g, np.asarray(ids, np.int64, order="C"), out, g.size // width, symbols, width, tasks=tasks_for(g.size))
    return out
