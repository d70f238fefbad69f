"""Products of matrices, as kernels and Python call them.

All matrices are float32 in rows.  A factor whose rows lie apart (a slice of wider rows) or that is stored transposed (an embedding that serves as
the last layer) is read where it lies: `Matrix` says where and how.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...runtime.compiling import inner
from ...runtime.native import PRODUCT_ROWS, call_product, floats, gemm, integers
from ...runtime.tasks import RUN_FLOATS, Address, address_of, at, part, row_address, task
from ...runtime.threads import get_threads
from .choice import tiles_for

f32 = np.float32
RUN_ROWS = 8  # rows of a product by BLAS are shared out in runs of so many, columns in RUN_FLOATS: it works in such tiles
MIN_SHARED_PRODUCTS = 1 << 18  # multiplications that are worth waking the other threads: a few microseconds of work


class Matrix(NamedTuple):
    """A matrix as products read it."""

    start: Address
    pitch: int  # floats from the beginning of one stored row to that of the next
    transposed: bool  # whether what is stored is its transpose


@inner
def transpose(a):
    return Matrix(a.start, a.pitch, not a.transposed)


@inner
def matrix_row(a, i, n):
    """Row i, of n floats, of a matrix that isn't transposed."""
    return floats(at(a.start, i * a.pitch), n)


@inner
def multiply_part(t, tasks, tiles, a, b, c, m, n, k, bias):
    """Part t of C = A B with A (m, k), B (k, n) and C (m, n) contiguous at address c.  Returns the rows and columns of the part.

    tiles: where `multiply_tiled` lies, which adds the bias (n,) too, unless that is 0; or 0 for BLAS, which doesn't.
    """
    top, bottom, left, right = 0, m, 0, n
    if m >= n:
        run = PRODUCT_ROWS if tiles else RUN_ROWS
        top, bottom = part(t, tasks, m, run), part(t + 1, tasks, m, run)
    else:
        left, right = part(t, tasks, n, RUN_FLOATS), part(t + 1, tasks, n, RUN_FLOATS)
    if bottom > top and right > left:
        a_rows = at(a.start, top if a.transposed else top * a.pitch)
        b_columns = at(b.start, left * b.pitch if b.transposed else left)
        target = at(c, top * n + left)
        if tiles:
            call_product(tiles, a_rows, a.pitch, a.transposed, b_columns, b.pitch, b.transposed, target, n, bottom - top, right - left, k,
                         at(bias, left) if bias else 0)  # fmt: skip
        else:
            gemm(a.transposed, b.transposed, bottom - top, right - left, k, f32(1), a_rows, a.pitch, b_columns, b.pitch, f32(0), target, n)
    return top, bottom, left, right


def tasks_for_products(products: int) -> int:
    """How many threads so many multiplications are worth."""
    return get_threads() if products >= MIN_SHARED_PRODUCTS else 1


# --- of arrays


class Layout(NamedTuple):
    """How all matrices of one argument lie, each from an address of its own."""

    pitch: int
    transposed: bool


@task
def multiply_pairs(t, tasks, tiles, a_starts, b_starts, c, pairs, cuts, a: Layout, b: Layout, m, n, k):
    """C[i] (m, n) = A[i] (m, k) B[i] (k, n) for pairs of matrices by their addresses; each product is cut in `cuts` parts."""
    a_start, b_start = integers(a_starts, pairs), integers(b_starts, pairs)
    for unit in range(part(t, tasks, pairs * cuts, 1), part(t + 1, tasks, pairs * cuts, 1)):
        i = unit // cuts
        one, other = Matrix(a_start[i], a.pitch, a.transposed != 0), Matrix(b_start[i], b.pitch, b.transposed != 0)
        multiply_part(unit % cuts, cuts, tiles, one, other, row_address(c, i, m * n), m, n, k, 0)


def layout_of(a: np.ndarray) -> tuple[np.ndarray, Layout]:
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
    """a b over the last two axes, for float32 arrays of two axes or more, of any strides."""
    m, k, n = *a.shape[-2:], b.shape[-1]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    c = np.empty((*batch, m, n), f32)
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous:  # one weight for all: one large product
        a, batch = a.reshape(-1, k), ()
        m = len(a)
    (a, a_layout), (b, b_layout) = layout_of(a), layout_of(b)
    pairs = math.prod(batch)
    threads = tasks_for_products(pairs * m * n * k)
    cuts = 1 if pairs >= threads else threads
    multiply_pairs(tiles_for(a_layout.transposed, b_layout.transposed, m, n, k), _starts(a, batch), _starts(b, batch), c, pairs, cuts,
                   a_layout, b_layout, m, n, k, tasks=min(threads, pairs * cuts))  # fmt: skip
    return c
