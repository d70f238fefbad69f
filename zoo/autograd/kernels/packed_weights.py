"""Products of few rows with the same weight, again and again, as the steps of a recurrent layer need them; and the weight's gradient.

BLAS would pack the weight again at every step. Here it is packed once, in panels that the tiles of `tiles` read; for a row or two, as
while text is written, not even once. The rows of both factors lie anywhere: tables hold their addresses. The weight's gradient comes
after the last step, in large products over all steps.
"""

from __future__ import annotations

import numpy as np

from ..runtime.compiling import inner
from ..runtime.native import add_row_times_matrix, address, clear_floats, copy_floats, keep_alive
from ..runtime.tasks import RUN_FLOATS, at, part, row, row_address, task, word_at
from ..runtime.tiles import COLUMNS, ROWS, tile_of_columns, tile_of_rows
from .arithmetic import column_sums

f32 = np.float32
MIN_PACKED_PRODUCTS = 4  # for fewer products with the weight, packing it isn't worth it
GRADIENT_ROWS = 256  # whose products the weight's gradient takes up at a time: a panel of them stays in the nearer caches


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


@inner
def add_products(h, h_line, h_step, d, d_line, d_step, dweight, lines, steps, width, gates, columns):
    """dweight (width, columns) += the sum of h^T d over lines of steps, which are so many floats apart; dweight's rows are `gates` apart."""
    offsets = np.empty(ROWS, np.int64)
    for left in range(0, columns, COLUMNS):
        for i in range(0, width, ROWS):
            rows = min(ROWS, width - i)
            for r in range(ROWS):
                offsets[r] = min(r, rows - 1)
            tile_of_columns(at(h, i), address(offsets), rows, at(d, left), at(dweight, i * gates + left), gates,
                            lines, h_line, d_line, steps, h_step, d_step, columns - left)  # fmt: skip
    keep_alive(offsets)


@task
def weight_gradient(t, tasks, states, state_size, first_states, first_state_size, d, dweight, dbias, batch, time, width, gates):
    """dweight (width, gates) = the sum of h_{t-1}^T d_t, dbias (gates,) = the sum of d_t; a task owns columns.

    states (batch, time, state_size) begin with h, first_states (batch, first_state_size) with h_0; d (batch, time, gates).
    """
    left = part(t, tasks, gates, RUN_FLOATS)
    columns = part(t + 1, tasks, gates, RUN_FLOATS) - left
    if columns == 0:
        return
    dw, d_columns = at(dweight, left), at(d, left)
    for i in range(width):
        clear_floats(row_address(dw, i, gates), columns)
    add_products(first_states, first_state_size, 0, d_columns, time * gates, 0, dw, batch, 1, width, gates, columns)
    if time > 1:
        lines = max(1, GRADIENT_ROWS // (time - 1))
        for b in range(0, batch, lines):
            h, d_after, count = row_address(states, b * time, state_size), row_address(d_columns, b * time + 1, gates), min(lines, batch - b)
            add_products(h, time * state_size, state_size, d_after, time * gates, gates, dw, count, time - 1, width, gates, columns)
    if dbias:
        column_sums(d, batch * time, gates, dbias, left, columns)


def run_weight_gradient(states: np.ndarray, first: np.ndarray, d: np.ndarray, weight: np.ndarray, dbias: np.ndarray | None = None) -> np.ndarray:
    batch, time, state_size = states.shape
    dweight = np.empty(weight.shape, f32)
    weight_gradient(states, state_size, first, first.shape[1], d, dweight, dbias, batch, time, *weight.shape)
    return dweight
