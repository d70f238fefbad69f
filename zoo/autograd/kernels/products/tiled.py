"""Products of float32 matrices by tiles of our own: C = A B + bias, for one thread's part of a product.

Some hundred numbers of the sum at a time; both factors are packed as tiles read them (Goto & van de Geijn 2008). A strip of A's rows stays in the
nearest cache while the panels of some of B's columns, which stay in the second, go by it: so C is written row by row, and A and B are packed
once. The bias is what sums begin with. `choice` says where this is faster than BLAS.
"""

from __future__ import annotations

import numpy as np

from ...runtime.compiling import inner, separate
from ...runtime.native import PRODUCT_COLUMNS as COLUMNS
from ...runtime.native import PRODUCT_ROWS as ROWS
from ...runtime.native import WIDTH, address, clear_floats, copy_floats, floats, keep_alive, tile_of_product, turn_square
from ...runtime.tasks import L1_FLOATS, at, row_address

GROUP = 64  # columns whose panels stay in the second cache: 2, 4 or 8 panels
BLOCK_ROWS = 1536  # of A that are packed at a time
PANEL_FLOATS = L1_FLOATS  # of which a strip has three eighths, so that panels have room to pass


@inner
def rounded_up(n, multiple):
    return (n + multiple - 1) // multiple * multiple


@inner
def piece_of(n, most, multiple):
    """How long each of the fewest equal pieces of n is, none longer than `most`: a multiple."""
    pieces = (n + most - 1) // most
    return rounded_up((n + pieces - 1) // pieces, multiple)


@inner
def pack(source, pitch, side_by_side, count, size, target, width):
    """target (size, width): its columns are `count` lines of `size` numbers; nobody reads what those beyond hold.

    Lines lie side by side, numbers `pitch` apart, or the other way round. Up to WIDTH - 1 floats behind the target are written to.
    """
    if side_by_side:
        if count == width:
            for t in range(size):
                copy_floats(at(target, t * width), at(source, t * pitch), width)
        else:
            for t in range(size):
                copy_floats(at(target, t * width), at(source, t * pitch), count)
        return
    squares = size // WIDTH * WIDTH
    for j in range(0, count, WIDTH):
        for t in range(0, squares, WIDTH):
            turn_square(at(source, j * pitch + t), pitch, count - 1 - j, at(target, t * width + j), width)
    for j in range(count):
        line, column = floats(at(source, j * pitch), size), floats(at(target, j), size * width - j)
        for t in range(squares, size):
            column[t * width] = line[t]


@inner
def pack_panels(source, pitch, turned, columns, size, panels):
    """Up to GROUP columns of B as panels (size, COLUMNS), one behind the other: so long a piece of each stored row is read at once."""
    if columns == GROUP and not turned:
        for t in range(size):
            for left in range(0, GROUP, COLUMNS):
                copy_floats(at(panels, left * size + t * COLUMNS), at(source, t * pitch + left), COLUMNS)
        return
    for left in range(0, columns, COLUMNS):
        pack(at(source, left * pitch if turned else left), pitch, not turned, min(COLUMNS, columns - left), size, at(panels, left * size), COLUMNS)


@inner
def multiply_strip(strip, panels, size, c, pitch, rows, columns, starts, edge):
    """C (rows, columns) = starts + a strip times the panels; without starts, what is there + that.  edge: room for a tile that is cut."""
    for j in range(0, columns, COLUMNS):
        target, start, across = at(c, j), at(starts, j) if starts else 0, min(COLUMNS, columns - j)
        is_cut = rows < ROWS or across < COLUMNS
        place, apart = (edge, COLUMNS) if is_cut else (target, pitch)
        if is_cut and not start:
            for r in range(rows):
                copy_floats(row_address(edge, r, COLUMNS), row_address(target, r, pitch), across)
        tile_of_product(size, strip, at(panels, j * size), place, apart, start)
        if is_cut:
            for r in range(rows):
                copy_floats(row_address(target, r, pitch), row_address(edge, r, COLUMNS), across)


@separate(f"void({', '.join(['intp'] * 12)})")
def multiply_tiled(a, a_pitch, a_turned, b, b_pitch, b_turned, c, pitch, m, n, k, bias):
    """C (m, n) = A B + bias for A (m, k), B (k, n), of each of which the transpose may be stored, and bias (n,), 0 for none.

    Stored rows of A, B and C are so many floats apart.
    """
    depth = piece_of(k, PANEL_FLOATS // COLUMNS, 4)
    strips_size = rounded_up(min(m, BLOCK_ROWS), ROWS) * depth + WIDTH
    work = np.empty(GROUP * depth + WIDTH + strips_size + GROUP + ROWS * COLUMNS, np.float32)
    panels = address(work)
    strips = at(panels, GROUP * depth + WIDTH)
    starts = at(strips, strips_size)
    edge = at(starts, GROUP)
    clear_floats(starts, GROUP)
    for first in range(0, k, depth):
        size = min(depth, k - first)
        for top in range(0, m, BLOCK_ROWS):
            bottom = min(m, top + BLOCK_ROWS)
            for left in range(0, n, GROUP):
                columns = min(GROUP, n - left)
                if bias and first == 0:
                    copy_floats(starts, at(bias, left), columns)
                pack_panels(at(b, left * b_pitch + first if b_turned else first * b_pitch + left), b_pitch, b_turned, columns, size, panels)
                for i in range(top, bottom, ROWS):
                    strip, rows = at(strips, (i - top) * size), min(ROWS, bottom - i)
                    if left == 0:
                        pack(at(a, first * a_pitch + i if a_turned else i * a_pitch + first), a_pitch, a_turned, rows, size, strip, ROWS)
                    multiply_strip(strip, panels, size, at(row_address(c, i, pitch), left), pitch, rows, columns, starts if first == 0 else 0, edge)
    keep_alive(work)
