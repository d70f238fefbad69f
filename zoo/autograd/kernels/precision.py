"""Kernels of bfloat16: rounding, and products whose packed factors the processor multiplies as pairs.

Packing rounds. Strips of rows of the left factor and strips of columns of the right one lie in memory as a tile reads them, two neighbours
along the sum in a word; a thread goes with its rows over all columns, some hundred words of the sum at a time, so that a strip of columns stays
in the second cache (Goto & van de Geijn 2008). Where the processor has no instruction for that, both factors are rounded and multiplied as
float32: the same products, added in another order.
"""

from __future__ import annotations

import functools

import numpy as np

from ..operations.precision import round_to_bfloat16
from ..runtime.compiling import inner, separate
from ..runtime.messages import warn
from ..runtime.native import BFLOAT16_COLUMNS, BFLOAT16_ROWS, HAS_BFLOAT16, address, clear_floats, copy_floats, floats, keep_alive
from ..runtime.native import tile_of_pairs as _tile_of_pairs
from ..runtime.tasks import RUN_FLOATS, at, is_float32, part, row_address, span, task, tasks_for
from ..runtime.threads import get_threads

f32, u32 = np.float32, np.uint32
HALF, ODD, LAST, SHIFT = u32(0x7FFF), u32(1), u32(0xFFFF0000), u32(16)
SIGNLESS, INFINITY, QUIET = u32(0x7FFFFFFF), u32(0x7F800000), u32(0x00400000)
PAIRS_AT_A_TIME = 256  # of the sum: a strip of so many pairs of columns is 64 kB
MIN_PRODUCTS = 1 << 18  # multiplications for which packing pays
MIN_ROWS, MIN_COLUMNS, MIN_SUM = 12, 32, 16  # below which a tile is mostly padding


@functools.cache
def has_instruction() -> bool:
    """Whether this processor multiplies pairs of bfloat16; if not, it is said once."""
    if not HAS_BFLOAT16.build():
        warn("this processor has no instruction for bf16 (AVX512_BF16): products are rounded as asked for, but no faster than in float32")
        return False
    return True


# --- rounding


@inner
def rounded(bits):
    """The bits of a float32 rounded to bfloat16, in the upper half."""
    nearest = u32(bits + HALF + ((bits >> SHIFT) & ODD))
    return u32((bits | QUIET if (bits & SIGNLESS) > INFINITY else nearest) & LAST)


@task
def round_entries(t, tasks, x, y, n):
    """y (n,) = x rounded to bfloat16."""
    first, last = part(t, tasks, n, RUN_FLOATS), part(t + 1, tasks, n, RUN_FLOATS)
    source, target = span(x, first, last).view(np.uint32), span(y, first, last).view(np.uint32)
    for i in range(source.size):
        target[i] = rounded(source[i])


@round_to_bfloat16.forward
def _(x):
    if not is_float32(x) or x.size == 0:
        return NotImplemented
    if x.ndim > 1 and not x.flags.c_contiguous and x.swapaxes(-1, -2).flags.c_contiguous:  # a transposed weight stays as it is stored
        return round_to_bfloat16(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    source = np.ascontiguousarray(x)
    y = np.empty(x.shape, f32)
    round_entries(source, y, y.size, tasks=tasks_for(y.size))
    return y


# --- products


@separate("void(intp, intp, intp, intp, intp)")
def tile_of_pairs(pairs, a, b, c, pitch):
    _tile_of_pairs(pairs, a, b, c, pitch)


@task
def pack_pairs(t, tasks, x, pitch, side_by_side: bool, lines, length, packed, width):
    """Strips of `width` lines of a factor, (strips, pairs, width) words of two bfloat16 each; what is beyond the last line or number is 0.

    A line is a row of the left factor or a column of the right one, `length` numbers along the sum. Either its numbers lie side by side and
    lines are `pitch` floats apart, or lines lie side by side and numbers are apart.
    """
    pairs = (length + 1) // 2
    strips = (lines + width - 1) // width
    for s in range(part(t, tasks, strips, 1), part(t + 1, tasks, strips, 1)):
        first = s * width
        count = min(width, lines - first)
        start = row_address(packed, s, pairs * width)
        words = floats(start, pairs * width).view(np.uint32)
        if count < width:
            clear_floats(start, pairs * width)
        if side_by_side:
            for i in range(count):
                line = floats(at(x, (first + i) * pitch), length).view(np.uint32)
                for p in range(length // 2):
                    words[p * width + i] = u32(rounded(line[2 * p + 1]) | (rounded(line[2 * p]) >> SHIFT))
                if length % 2:
                    words[(pairs - 1) * width + i] = rounded(line[length - 1]) >> SHIFT
        else:
            for p in range(length // 2):
                lower = floats(at(x, 2 * p * pitch + first), count).view(np.uint32)
                upper = floats(at(x, (2 * p + 1) * pitch + first), count).view(np.uint32)
                for i in range(count):
                    words[p * width + i] = u32(rounded(upper[i]) | (rounded(lower[i]) >> SHIFT))
            if length % 2:
                lower = floats(at(x, (length - 1) * pitch + first), count).view(np.uint32)
                for i in range(count):
                    words[(pairs - 1) * width + i] = rounded(lower[i]) >> SHIFT


@task
def multiply_packed(t, tasks, a, b, c, m, n, pairs):
    """c (m, n) = a b from strips of rows a and strips of columns b, as `pack_pairs` leaves them; a task has strips of rows."""
    strips = (m + BFLOAT16_ROWS - 1) // BFLOAT16_ROWS
    first, last = part(t, tasks, strips, 1), part(t + 1, tasks, strips, 1)
    top, bottom = min(m, first * BFLOAT16_ROWS), min(m, last * BFLOAT16_ROWS)
    clear_floats(row_address(c, top, n), (bottom - top) * n)
    edge = np.empty(BFLOAT16_ROWS * BFLOAT16_COLUMNS, np.float32)
    for begin in range(0, pairs, PAIRS_AT_A_TIME):
        size = min(PAIRS_AT_A_TIME, pairs - begin)
        for left in range(0, n, BFLOAT16_COLUMNS):
            of_b = at(b, left * pairs + begin * BFLOAT16_COLUMNS)
            columns = min(BFLOAT16_COLUMNS, n - left)
            for s in range(first, last):
                of_a = at(a, BFLOAT16_ROWS * (s * pairs + begin))
                target = at(row_address(c, s * BFLOAT16_ROWS, n), left)
                rows = min(BFLOAT16_ROWS, m - s * BFLOAT16_ROWS)
                if rows == BFLOAT16_ROWS and columns == BFLOAT16_COLUMNS:
                    tile_of_pairs(size, of_a, of_b, target, n)
                    continue
                tile = address(edge)
                clear_floats(tile, edge.size)
                for r in range(rows):
                    copy_floats(row_address(tile, r, BFLOAT16_COLUMNS), row_address(target, r, n), columns)
                tile_of_pairs(size, of_a, of_b, tile, BFLOAT16_COLUMNS)
                for r in range(rows):
                    copy_floats(row_address(target, r, n), row_address(tile, r, BFLOAT16_COLUMNS), columns)
    keep_alive(edge)


def pays(m: int, n: int, k: int) -> bool:
    """Whether a product (m, k) times (k, n) is one for `packed_product` here."""
    return m * n * k >= MIN_PRODUCTS and m >= MIN_ROWS and n >= MIN_COLUMNS and k >= MIN_SUM and has_instruction()


def packed_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b for float32 matrices (m, k) and (k, n), both rounded to bfloat16; the last or the first axis of each is contiguous."""
    (m, k), n = a.shape, b.shape[1]
    pairs = -(-k // 2)
    of_a, of_b = (np.empty(-(-lines // width) * pairs * width, f32) for lines, width in ((m, BFLOAT16_ROWS), (n, BFLOAT16_COLUMNS)))
    for factor, lines, width, packed in ((a, m, BFLOAT16_ROWS, of_a), (b.T, n, BFLOAT16_COLUMNS, of_b)):
        side_by_side = factor.strides[1] == factor.itemsize
        pitch = factor.strides[0 if side_by_side else 1] // factor.itemsize
        pack_pairs(factor, pitch, side_by_side, lines, k, packed, width, tasks=tasks_for(packed.size))
    c = np.empty((m, n), f32)
    multiply_packed(of_a, of_b, c, m, n, pairs, tasks=get_threads())
    return c
