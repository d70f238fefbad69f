"""Products of float32 matrices by tiles of our own: C = A B + bias, for one thread's part of a product.

As Goto & van de Geijn (2008) have it: some hundred numbers of the sum at a time; both factors are packed as tiles read them, and a panel of B's
columns stays in the nearest cache while strips of A's rows, a block of which stays in the second, go by it. The bias is what sums begin with.
`choice` says where this is faster than BLAS.
"""

from __future__ import annotations

import numpy as np

from ...runtime.compiling import inner, separate
from ...runtime.native import PRODUCT_COLUMNS as COLUMNS
from ...runtime.native import PRODUCT_ROWS as ROWS
from ...runtime.native import WIDTH, address, clear_floats, copy_floats, floats, keep_alive, tile_of_product, turn_square
from ...runtime.tasks import L1_FLOATS, at, row_address

GROUP = 128  # columns that are packed together: panels of 8, 16 or 32
PANEL_FLOATS, BLOCK_FLOATS = L1_FLOATS // 2, L1_FLOATS << 3  # half of the first cache; of A, used again for each panel, half of a second one


@inner
def piece_of(n, most, multiple):
    """How long each of the fewest equal pieces of n is, none longer than `most`: a multiple."""
    pieces = (n + most - 1) // most
    return ((n + pieces - 1) // pieces + multiple - 1) // multiple * multiple


@inner
def rounded_up(n, multiple):
    return (n + multiple - 1) // multiple * multiple


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
            clear_floats(target, size * width)
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
def pack_group(source, pitch, size, panels):
    """GROUP columns of B as panels, one behind the other: so long a piece of each row is read at once."""
    for t in range(size):
        for left in range(0, GROUP, COLUMNS):
            copy_floats(at(panels, left * size + t * COLUMNS), at(source, t * pitch + left), COLUMNS)


@separate(f"void({', '.join(['intp'] * 12)})")
def multiply_tiled(a, a_pitch, a_turned, b, b_pitch, b_turned, c, pitch, m, n, k, bias):
    """C (m, n) = A B + bias for A (m, k), B (k, n), of each of which the transpose may be stored, and bias (n,), 0 for none.

    Stored rows of A, B and C are so many floats apart.
    """
    depth, width = piece_of(k, PANEL_FLOATS // COLUMNS, 4), rounded_up(n, COLUMNS)
    height = max(1, BLOCK_FLOATS // depth // ROWS) * ROWS
    strips_size = rounded_up(min(m, height), ROWS) * depth + WIDTH
    work = np.empty(width * depth + WIDTH + strips_size + width + ROWS * COLUMNS, np.float32)
    panels = address(work)
    strips = at(panels, width * depth + WIDTH)
    starts = at(strips, strips_size)
    edge = at(starts, width)
    clear_floats(starts, width)
    if bias:
        copy_floats(starts, bias, n)
    for first in range(0, k, depth):
        size = min(depth, k - first)
        grouped = 0 if b_turned else n // GROUP * GROUP  # columns
        for top in range(0, m, height):
            bottom = min(m, top + height)
            for i in range(top, bottom, ROWS):
                rows = at(a, first * a_pitch + i if a_turned else i * a_pitch + first)
                pack(rows, a_pitch, a_turned, min(ROWS, bottom - i), size, at(strips, (i - top) * size), ROWS)
            for left in range(0, n, COLUMNS):
                panel, columns, start = at(panels, left * size), min(COLUMNS, n - left), at(starts, left) if first == 0 else 0
                if top == 0 and left < grouped and left % GROUP == 0:
                    pack_group(at(b, first * b_pitch + left), b_pitch, size, panel)
                elif top == 0 and left >= grouped:
                    source = at(b, left * b_pitch + first if b_turned else first * b_pitch + left)
                    pack(source, b_pitch, not b_turned, columns, size, panel, COLUMNS)
                for i in range(top, bottom, ROWS):
                    strip, rows, target = at(strips, (i - top) * size), min(ROWS, bottom - i), at(row_address(c, i, pitch), left)
                    if rows == ROWS and columns == COLUMNS:
                        tile_of_product(size, strip, panel, target, pitch, start)
                        continue
                    if not start:
                        clear_floats(edge, ROWS * COLUMNS)
                        for r in range(rows):
                            copy_floats(row_address(edge, r, COLUMNS), row_address(target, r, pitch), columns)
                    tile_of_product(size, strip, panel, edge, COLUMNS, start)
                    for r in range(rows):
                        copy_floats(row_address(target, r, pitch), row_address(edge, r, COLUMNS), columns)
    keep_alive(work)
