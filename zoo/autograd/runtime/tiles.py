"""Matrix products whose factors stay where they are: what convolution is made of.

BLAS wants each factor as one rectangle, and packs it. Here the rows of the left factor, and of the product, are given one by one by
their addresses, so that the rows may be patches of an image that overlap, and the product may go to every second pixel. A tile of
ROWS x COLUMNS sums stays in registers (Goto & van de Geijn 2008). All matrices are addresses of float32, all pitches and offsets count floats.
"""

from __future__ import annotations

from .compiling import inner, separate
from .native import COLUMNS, ROWS
from .native import tile_of_columns as _tile_of_columns
from .native import tile_of_rows as _tile_of_rows
from .tasks import at, word_at


@separate(f"void({', '.join(['intp'] * 11)})")
def tile_of_rows(sources, skip, segments, length, pitch, b, b_pitch, targets, shift, columns, start):
    _tile_of_rows(sources, skip, segments, length, pitch, b, b_pitch, targets, shift, columns, start)


@separate(f"void({', '.join(['intp'] * 13)})")
def tile_of_columns(a, offsets, count, b, c, c_pitch, lines, a_line, b_line, steps, a_step, b_step, columns):
    _tile_of_columns(a, offsets, count, b, c, c_pitch, lines, a_line, b_line, steps, a_step, b_step, columns)


@inner
def table_size(count):
    """How many entries are read from a table of `count`; those after the last repeat it."""
    return (count + ROWS - 1) // ROWS * ROWS


@inner
def multiply_rows(sources, skip, segments, length, pitch, b, targets, shift, count, out, start):
    """target_r[:out] = start + sum over s < segments, l < length of source_r[s pitch + l] b[s length + l, :out], for each r < count.

    sources and targets are tables of addresses, behind which the rows begin by skip and shift; start is the address of (out,) floats.
    """
    for left in range(0, out, COLUMNS):
        for first in range(0, count, ROWS):
            tile_of_rows(word_at(sources, first), skip, segments, length, pitch, at(b, left), out,
                         word_at(targets, first), shift + left, out - left, at(start, left))  # fmt: skip


@inner
def multiply_columns(a, offsets, size, b, c, out, lines, a_line, b_line, steps, a_step, b_step):
    """c[i, o] += sum over lines and steps of a[line, step, offsets[i]] b[line, step, o], for i < size, o < out; c is contiguous."""
    for left in range(0, out, COLUMNS):
        for i in range(0, size, ROWS):
            tile_of_columns(a, word_at(offsets, i), min(ROWS, size - i), at(b, left), at(c, i * out + left), out,
                            lines, a_line, b_line, steps, a_step, b_step, out - left)  # fmt: skip
