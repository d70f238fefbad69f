"""Matrix products whose factors stay where they are: what convolution is made of.

BLAS wants each factor as one rectangle, and packs it. Here the rows of the left factor, and of the product, are given one by one by
their addresses, so that the rows may be patches of an image that overlap, and the product may go to every second pixel. A tile of
ROWS x COLUMNS sums stays in registers (Goto & van de Geijn 2008). All strides are in bytes, all matrices are addresses of float32.
"""

from .runtime import Native, inner, separate

_vectors = "zoo.autograd.vectors"
ROWS, COLUMNS = Native("ROWS", _vectors), Native("COLUMNS", _vectors)
_rows, _columns, _column = (Native(name, _vectors) for name in ("multiply_rows", "multiply_columns", "multiply_one_column"))
_ELEVEN = f"void({', '.join(['intp'] * 11)})"


@separate(_ELEVEN)
def _tile_of_rows(sources, skip, segments, length, stride, b, row, targets, shift, columns, start):
    _rows(sources, skip, segments, length, stride, b, row, targets, shift, columns, start)


@separate(_ELEVEN)
def _tile_of_columns(a, b, c, row, lines, a_line, b_line, steps, a_step, b_step, columns):
    _columns(a, b, c, row, lines, a_line, b_line, steps, a_step, b_step, columns)


@separate(_ELEVEN)
def _tile_of_one_column(a, b, c, row, lines, a_line, b_line, steps, a_step, b_step, columns):
    _column(a, b, c, row, lines, a_line, b_line, steps, a_step, b_step, columns)


@inner
def table_size(count):
    """How many entries `multiply_rows` reads from a table of `count`; those after the last repeat it."""
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
def multiply_columns(a, b, c, size, out, lines, a_line, b_line, steps, a_step, b_step):
    """c[i, o] += sum over lines and steps of a[line, step, i] b[line, step, o], for i < size, o < out; c (size, out) contiguous."""
    for left in range(0, out, COLUMNS):
        i = 0
        while i < size:
            at = c + 4 * (i * out + left)
            if i + ROWS <= size:
                _tile_of_columns(a + 4 * i, b + 4 * left, at, 4 * out, lines, a_line, b_line, steps, a_step, b_step, out - left)
                i += ROWS
            else:
                _tile_of_one_column(a + 4 * i, b + 4 * left, at, 4 * out, lines, a_line, b_line, steps, a_step, b_step, out - left)
                i += 1
