"""Matrix products whose factors stay where they are: what convolution is made of.

BLAS wants each factor as one rectangle, and packs it. Here the rows of the left factor, and of the product, are given one by one by
their addresses, so that the rows may be patches of an image that overlap, and the product may go to every second pixel. A tile of
ROWS x COLUMNS sums stays in registers (Goto & van de Geijn 2008). All strides are in bytes, all matrices are addresses of float32.
"""

from .compiling import inner, separate
from .native import COLUMNS, ROWS, WIDTH, clear_floats, copy_floats  # noqa: F401
from .native import tile_of_columns as _columns
from .native import tile_of_rows as _rows


@separate(f"void({', '.join(['intp'] * 11)})")
def _tile_of_rows(sources, skip, segments, length, stride, b, row, targets, shift, columns, start):
    _rows(sources, skip, segments, length, stride, b, row, targets, shift, columns, start)


@separate(f"void({', '.join(['intp'] * 13)})")
def _tile_of_columns(a, offsets, count, b, c, row, lines, a_line, b_line, steps, a_step, b_step, columns):
    _columns(a, offsets, count, b, c, row, lines, a_line, b_line, steps, a_step, b_step, columns)


@inner
def pad(x, image, top, left, height, width, channels, slab, rows, columns):
    """slab (rows, columns, channels) = x[image, top : top + rows, left : left + columns], zero outside the image."""
    before, after = max(0, -left), min(columns, width - left)
    for i in range(rows):
        target = slab + 4 * i * columns * channels
        if top + i < 0 or top + i >= height or after <= before:
            clear_floats(target, columns * channels)
        else:
            clear_floats(target, before * channels)
            clear_floats(target + 4 * after * channels, (columns - after) * channels)
            source = x + 4 * channels * ((image * height + top + i) * width + left + before)
            copy_floats(target + 4 * before * channels, source, (after - before) * channels)


@inner
def table_size(count):
    """How many entries are read from a table of `count`; those after the last repeat it."""
    return (count + ROWS - 1) // ROWS * ROWS


@inner
def multiply_rows(sources, skip, segments, length, stride, b, targets, shift, count, out, start):
    """target_r[:out] = start + sum over s < segments, l < length of source_r[s stride + l] b[s length + l, :out], for each r < count.

    sources and targets are tables of addresses, to which skip and shift are added; start is the address of (out,) floats.
    """
    for left in range(0, out, COLUMNS):
        for first in range(0, count, ROWS):
            _tile_of_rows(sources + 8 * first, skip, segments, length, stride, b + 4 * left, 4 * out,
                          targets + 8 * first, shift + 4 * left, out - left, start + 4 * left)  # fmt: skip


@inner
def multiply_columns(a, offsets, size, b, c, out, lines, a_line, b_line, steps, a_step, b_step):
    """c[i, o] += sum over lines and steps of a[line, step, offsets[i]] b[line, step, o], for i < size, o < out; c is contiguous."""
    for left in range(0, out, COLUMNS):
        for i in range(0, size, ROWS):
            _tile_of_columns(a, offsets + 8 * i, min(ROWS, size - i), b + 4 * left, c + 4 * (i * out + left), 4 * out,
                             lines, a_line, b_line, steps, a_step, b_step, out - left)  # fmt: skip
