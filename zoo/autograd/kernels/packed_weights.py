"""Products of few rows with the same weight, again and again, as the steps of a recurrent layer need them; and the weight's gradient.

BLAS would pack the weight again at every step. Here it is packed once, in panels that the tiles of `tiles` read; for a row or two, as
while text is written, not even once. The rows of both factors lie anywhere: tables hold their addresses. The weight's gradient comes
after the last step, in one large product over all steps.
"""

from __future__ import annotations

import numpy as np

from ..operations.arithmetic import sum_to
from ..runtime.compiling import inner
from ..runtime.native import add_row_times_matrix, address, copy_floats
from ..runtime.tasks import at, row, word_at
from ..runtime.tiles import COLUMNS, ROWS, tile_of_rows
from .products.matrices import product

f32 = np.float32
MIN_PACKED_PRODUCTS = 4  # for fewer products with the weight, packing it isn't worth it


@inner
def panels_size(depth, out):
    """Floats of the panels of a matrix (depth, out): its columns are filled up to whole panels."""
    return (out + COLUMNS - 1) // COLUMNS * COLUMNS * depth


@inner
def packed(weight, depth, out, products):
    """Panels of COLUMNS columns of the weight (depth, out), one behind the other; nothing for so few products that it is as good itself."""
    if products < MIN_PACKED_PRODUCTS:
        return np.empty(0, np.float32)
    panels = np.empty(panels_size(depth, out), np.float32)
    for left in range(0, out, COLUMNS):
        for i in range(depth):
            copy_floats(at(address(panels), left * depth + i * COLUMNS), at(weight, i * out + left), min(COLUMNS, out - left))
    return panels


@inner
def packed_transpose(weight, depth, out):
    """Panels of the transpose of the weight (out, depth)."""
    panels = np.empty(panels_size(depth, out), np.float32)
    for left in range(0, out, COLUMNS):
        for j in range(min(COLUMNS, out - left)):
            weight_row = row(weight, left + j, depth)
            for i in range(depth):
                panels[left * depth + i * COLUMNS + j] = weight_row[i]
    return panels


@inner
def tabulate_rows(table, first, pitch, rows):
    """Where `rows` rows begin, `pitch` floats apart; the table's entries after the last repeat it."""
    for r in range(table.size):
        table[r] = at(first, min(r, rows - 1) * pitch)


@inner
def multiply_packed(sources, skip, panels, targets, rows, depth, out, start):
    """target_r (out,) = start + source_r (depth,) times the packed matrix, for each row of the tables; sources begin `skip` floats later."""
    for left in range(0, out, COLUMNS):
        for first in range(0, rows, ROWS):
            tile_of_rows(
                word_at(address(sources), first), skip, 1, depth, 0, at(address(panels), left * depth), COLUMNS,
                word_at(address(targets), first), left, out - left, at(start, left),
            )  # fmt: skip


@inner
def multiply_rows(sources, skip, panels, weight, targets, rows, depth, out, start):
    """The same with a weight (depth, out) as `packed` left it."""
    if panels.size:
        multiply_packed(sources, skip, panels, targets, rows, depth, out, start)
    else:
        for r in range(rows):
            copy_floats(targets[r], start, out)
            add_row_times_matrix(at(sources[r], skip), weight, out, depth, out, targets[r])


# --- the weight's gradient


def run_weight_gradient(states: np.ndarray, first: np.ndarray, d: np.ndarray, weight: np.ndarray, dbias: np.ndarray | None = None) -> np.ndarray:
    """(width, gates) = the sum of h_{t-1}^T d_t; to dbias (gates,) goes the sum of d_t.

    states (batch, time, state size) begin with h, first (batch, state size) with h_0; d (batch, time, gates).
    """
    batch, time, _ = states.shape
    width, gates = weight.shape
    before = np.empty((batch, time, width), f32)
    before[:, :1], before[:, 1:] = first[:, None, :width], states[:, :-1, :width]
    rows = d.reshape(-1, gates)
    if dbias is not None:
        dbias[...] = sum_to(rows, shape=(gates,))
    return product(before.reshape(-1, width).T, rows)
