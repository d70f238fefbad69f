"""Kernels of the linear layer, of matmul and of the embedding.

A thread multiplies its block of rows or columns (`products`), and while the block is in its cache adds the bias and runs the
activation. Whichever of the two factors is larger is cut, because each thread packs what it multiplies for itself.

In bf16 each product is one of `product_as_set`, which rounds its factors, and what follows it is a pass of its own.
"""

from __future__ import annotations

import numpy as np

from ..operations.arithmetic import sum_to
from ..operations.linear import embedding, embedding_adjoint, linear, matmul
from ..operations.precision import round_to_bfloat16
from ..runtime.compiling import inner
from ..runtime.native import address, call_on_row, clear_floats, copy_floats, floats, integers, keep_alive
from ..runtime.precision import setting
from ..runtime.tasks import RUN_FLOATS, at, is_float32, part, row_address, span, task, tasks_for
from ..tensor import state
from .activation import CODES, LEAKY_SLOPE, SAVES_DERIVATIVE, row_function, run_activation_backward
from .arithmetic import add_to, column_sums
from .precision import packed_product, pays
from .products.choice import tiles_for
from .products.matrices import Matrix, layout_of, multiply_part, product, tasks_for_products, transpose

f32 = np.float32


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
def linear_forward(t, tasks, tiles, x: Matrix, weight: Matrix, bias, y, derivative, rows, k, m, function, alpha: float):
    """y (rows, m) = activation(x W + bias), x (rows, k), W (k, m), bias (m,) or 0 for none; tiles: see `multiply_part`.

    derivative (rows, m): that of the activation, if it saves it; 0 if it isn't wanted.  function: the activation's address, 0 for none.
    """
    top, bottom, left, right = multiply_part(t, tasks, tiles, x, weight, y, rows, m, k, bias)
    rest = 0 if tiles else bias
    if right > left and (rest or function):
        finish(top, bottom, left, right - left, rest, y, derivative, m, function, alpha)


@task
def finish_rows(t, tasks, bias, y, derivative, rows, m, function, alpha: float):
    """Bias and activation of a product y (rows, m), as in `linear_forward`."""
    finish(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1), 0, m, bias, y, derivative, m, function, alpha)


@task
def linear_backward(t, tasks, dx_tiles, dweight_tiles, g, x: Matrix, weight: Matrix, dx, dweight, dbias, rows, k, m):
    """dx (rows, k) = g W^T, dW (k, m) = x^T g, stored as W is, dbias (m,) = the column sums of g (rows, m); 0: not wanted."""
    gradient = Matrix(g, m, False)
    if dx:
        multiply_part(t, tasks, dx_tiles, gradient, transpose(weight), dx, rows, k, m, 0)
    if dweight:
        if weight.transposed:
            multiply_part(t, tasks, dweight_tiles, transpose(gradient), x, dweight, m, k, rows, 0)
        else:
            multiply_part(t, tasks, dweight_tiles, transpose(x), gradient, dweight, k, m, rows, 0)
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


def product_as_set(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`product`, in the precision that is set."""
    if setting.name == "bf16":
        rows = a.reshape(-1, a.shape[-1]) if b.ndim == 2 and (a.ndim == 2 or a.flags.c_contiguous) else None
        if rows is not None and pays(len(rows), b.shape[1], len(b)):
            return packed_product(layout_of(rows)[0], layout_of(b)[0]).reshape(*a.shape[:-1], b.shape[1])
        a, b = round_to_bfloat16(a), round_to_bfloat16(b)
    return product(a, b)


def run_linear(x: np.ndarray, pitch: int, stored: np.ndarray, transposed: bool, bias: np.ndarray | None, y: np.ndarray, code: int = 0,
               derivative: np.ndarray | None = None) -> None:
    """y (rows, m) = activation(x W + bias), by the activation's code; rows of x (rows, k) are `pitch` floats apart."""
    (rows, k), m = x.shape, stored.shape[0 if transposed else 1]
    linear_forward(tiles_for(False, transposed, rows, m, k), Matrix(x, pitch, False), Matrix(stored, stored.shape[1], transposed),
                   None if bias is None else contiguous(bias), y, derivative, rows, k, m, row_function(code), LEAKY_SLOPE,
                   tasks=tasks_for_products(rows * k * m))  # fmt: skip


@linear.forward(strided=True)
def _(x, weight, bias, *, activation):
    if not is_float32(x, weight) or (bias is not None and not is_float32(bias)):
        return NotImplemented
    code = CODES[activation]
    stored, transposed = as_stored(weight)
    m = weight.shape[1]
    rows, pitch = as_rows(x)
    in_bf16, shape = setting.name == "bf16", (*x.shape[:-1], m)
    y = product_as_set(rows, weight).reshape(shape) if in_bf16 else np.empty(shape, f32)
    derivative = np.empty(shape, f32) if code >= SAVES_DERIVATIVE and state.grad_enabled else None
    if not in_bf16:
        run_linear(rows, pitch, stored, transposed, bias, y, code, derivative)
    elif code or bias is not None:
        shift = None if bias is None else contiguous(bias)
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
        dx = product_as_set(g, weight.T).reshape(x.shape) if needs[0] else None
        dweight = None if not needs[1] else product_as_set(g.T, rows).T if transposed else product_as_set(rows.T, g)
        return dx, dweight, sum_to(g, shape=(m,)) if needs[2] else None
    dx = np.empty(x.shape, f32) if needs[0] else None
    dweight = np.empty(stored.shape, f32) if needs[1] else None
    dbias = np.empty(m, f32) if needs[2] else None
    dx_tiles = tiles_for(False, not transposed, len(rows), k, m) if needs[0] else 0
    dweight_tiles = tiles_for(True, False, len(stored), stored.shape[1], len(rows)) if needs[1] else 0
    linear_backward(dx_tiles, dweight_tiles, g, Matrix(rows, pitch, False), Matrix(stored, stored.shape[1], transposed), dx, dweight, dbias,
                    len(rows), k, m, tasks=tasks_for_products(g.size * k))  # fmt: skip
    return dx, dweight.T if dweight is not None and transposed else dweight, dbias


# --- matmul


@matmul.forward(strided=True)
def _(a, b):
    if not is_float32(a, b):
        return NotImplemented
    y = product_as_set(a if a.ndim > 1 else a[None], b if b.ndim > 1 else b[:, None])
    y = y if b.ndim > 1 else y[..., 0]
    return y if a.ndim > 1 else y[..., 0, :] if b.ndim > 1 else y[..., 0], ()


@matmul.backward
def _(g, y, _saved, a, b, *, needs):
    """As the rules say, but a weight that all matrices of a share gets its gradient from one product."""
    da = matmul.rules[0](g, y, a, b) if needs[0] else None  # type: ignore[misc]
    if needs[1] and b.ndim == 2 and a.ndim > 2:
        return da, product_as_set(a.reshape(-1, a.shape[-1]).T, g.reshape(-1, g.shape[-1]))
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
