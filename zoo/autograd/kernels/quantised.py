"""Kernels of products with weights of 4 and 8 bits.

Of few rows of x, weights become floats in registers, sixteen outputs and up to four rows at a time.  Where rows are many (a prompt,
training), sixteen outputs become floats in memory that fits into a cache, and are multiplied with a tile of rows after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operations.quantised import BLOCK, GROUP, quantised_linear
from ..runtime.compiling import Native, inner, separate
from ..runtime.native import address, floats, gemm, keep_alive
from ..runtime.tasks import at, is_float32, part, row, row_address, task
from ..runtime.threads import get_threads

_blocks = "zoo.autograd.runtime.native.blocks"
_products_q4_1, _products_q8_0 = Native("products_q4_1", _blocks), Native("products_q8_0", _blocks)
_rows_q4_1, _rows_q8_0 = Native("products_of_rows_q4_1", _blocks), Native("products_of_rows_q8_0", _blocks)
_weights_q4_1, _weights_q8_0 = Native("weights_q4_1", _blocks), Native("weights_q8_0", _blocks)
_tile = Native("tile_of_rows_and_group", _blocks)
TILE_ROWS: Any = Native("TILE_ROWS", _blocks)
_UNIT: Any = Native("UNIT", _blocks)
_POWERS_4: Any = Native("POWERS_4", _blocks)
_POWERS_8: Any = Native("POWERS_8", _blocks)
_read_subnormals, _restore_control = Native("read_subnormals", _blocks), Native("restore_control", _blocks)

f32 = np.float32
MANY_ROWS = 16  # of x, from which on unpacking weights into memory is worth it
ROWS_AT_ONCE = 4  # as in runtime/native/blocks.py
PANEL = 256  # outputs that are unpacked at a time for the gradient


@separate("void(intp, intp, intp, intp, intp, intp)")
def products_of_4_bits(blocks, weights, ahead, x, sums, y):
    _products_q4_1(blocks, weights, ahead, x, sums, y)


@separate("void(intp, intp, intp, intp, intp, intp)")
def products_of_8_bits(blocks, weights, ahead, x, sums, y):
    _products_q8_0(blocks, weights, ahead, x, sums, y)


@separate("void(intp, intp, intp, intp, intp, intp, intp, intp)")
def rows_of_4_bits(blocks, weights, x, x_row, sums, sums_row, y, y_row):
    _rows_q4_1(blocks, weights, x, x_row, sums, sums_row, y, y_row)


@separate("void(intp, intp, intp, intp, intp, intp, intp, intp)")
def rows_of_8_bits(blocks, weights, x, x_row, sums, sums_row, y, y_row):
    _rows_q8_0(blocks, weights, x, x_row, sums, sums_row, y, y_row)


@separate("void(intp, intp, intp, intp)")
def weights_of_4_bits(blocks, weights, target, row_bytes):
    _weights_q4_1(blocks, weights, target, row_bytes)


@separate("void(intp, intp, intp, intp)")
def weights_of_8_bits(blocks, weights, target, row_bytes):
    _weights_q8_0(blocks, weights, target, row_bytes)


@separate("void(intp, intp, intp, intp, intp, intp)")
def tile(columns, panel, x, x_row, y, y_row):
    _tile(columns, panel, x, x_row, y, y_row)


@inner
def prepare_row(x, blocks, four, scaled, sums):
    """What products want of a row x (32 blocks,): scaled, x times the powers of its columns, and sums of x over each block, (blocks,)."""
    for b in range(blocks):
        source, target, total = row(x, b, BLOCK), row(scaled, b, BLOCK), f32(0)
        for j in range(BLOCK):
            total += source[j]
        if four:
            for j in range(BLOCK):
                target[j] = source[j] * f32(_POWERS_4[j])
        else:
            for j in range(BLOCK):
                target[j] = source[j] * f32(_POWERS_8[j])
        floats(sums, blocks)[b] = total * f32(_UNIT)


@inner
def multiply_groups(weights, group_bytes, blocks, four, scaled, sums, y, first, last, outputs):
    """y[16 first : 16 last] = W x for groups first to last - 1; where the last one is not full, the outputs that there are.

    While a group is multiplied, the next one is fetched from memory, which a processor would not by itself do in time: on Zen 1 a token of
    SmolLM2 took 20 ms on one thread, and takes 16.
    """
    control = _read_subnormals()
    for i in range(first, last):
        place = weights + i * group_bytes
        if GROUP * (i + 1) <= outputs:
            if four:
                products_of_4_bits(blocks, place, group_bytes, scaled, sums, at(y, GROUP * i))
            else:
                products_of_8_bits(blocks, place, group_bytes, scaled, sums, at(y, GROUP * i))
        else:
            whole = np.empty(GROUP, np.float32)
            if four:
                products_of_4_bits(blocks, place, group_bytes, scaled, sums, address(whole))
            else:
                products_of_8_bits(blocks, place, group_bytes, scaled, sums, address(whole))
            target = floats(at(y, GROUP * i), outputs - GROUP * i)
            for j in range(target.size):
                target[j] = whole[j]
            keep_alive(whole)
    _restore_control(control)


@task
def _few_rows(t, tasks, x, weights, y, rows, blocks, group_bytes, groups, outputs, four):
    inputs = BLOCK * blocks
    scaled, sums = np.empty(rows * inputs, np.float32), np.empty(rows * blocks, np.float32)
    for r in range(rows):
        prepare_row(row_address(x, r, inputs), blocks, four, row_address(address(scaled), r, inputs), row_address(address(sums), r, blocks))
    first, last = part(t, tasks, groups, 1), part(t + 1, tasks, groups, 1)
    multiply_rows(weights, group_bytes, blocks, four, address(scaled), address(sums), y, rows, first, last, outputs)
    keep_alive(scaled)
    keep_alive(sums)


@inner
def multiply_rows(weights, group_bytes, blocks, four, scaled, sums, y, rows, first, last, outputs):
    """What `multiply_groups` does, for several rows: ROWS_AT_ONCE at a time, and one by one where rows or outputs are left over."""
    together = rows // ROWS_AT_ONCE * ROWS_AT_ONCE
    whole = max(first, min(last, outputs // GROUP))
    control = _read_subnormals()
    for i in range(first, whole):
        for r in range(0, together, ROWS_AT_ONCE):
            several_rows(blocks, four, weights + i * group_bytes, row_address(scaled, r, BLOCK * blocks), row_address(sums, r, blocks),
                         at(row_address(y, r, outputs), GROUP * i), outputs)  # fmt: skip
    _restore_control(control)
    for r in range(rows):
        multiply_groups(weights, group_bytes, blocks, four, row_address(scaled, r, BLOCK * blocks), row_address(sums, r, blocks),
                        row_address(y, r, outputs), whole if r < together else first, last, outputs)  # fmt: skip


@inner
def several_rows(blocks, four, weights, scaled, sums, y, outputs):
    """y[r, :16] = W x[r] of a group and ROWS_AT_ONCE rows."""
    x_row, sums_row, y_row = row_address(0, 1, BLOCK * blocks), row_address(0, 1, blocks), row_address(0, 1, outputs)
    if four:
        rows_of_4_bits(blocks, weights, scaled, x_row, sums, sums_row, y, y_row)
    else:
        rows_of_8_bits(blocks, weights, scaled, x_row, sums, sums_row, y, y_row)


@inner
def unpack_group(weights, blocks, four, target, pitch):
    """target[c, :16] = column c of a group's weights; a row of the target is `pitch` floats behind the one before."""
    if four:
        weights_of_4_bits(blocks, weights, target, row_address(0, 1, pitch))
    else:
        weights_of_8_bits(blocks, weights, target, row_address(0, 1, pitch))


@task
def _many_rows(t, tasks, x, weights, y, rows, blocks, group_bytes, groups, outputs, four):
    inputs = BLOCK * blocks
    panel, last_group = np.empty(inputs * GROUP, np.float32), np.empty(rows * GROUP, np.float32)
    for i in range(part(t, tasks, groups, 1), part(t + 1, tasks, groups, 1)):
        unpack_group(weights + i * group_bytes, blocks, four, address(panel), GROUP)
        if GROUP * (i + 1) <= outputs:
            multiply_panel(address(panel), x, rows, inputs, at(y, GROUP * i), outputs)
        else:
            multiply_panel(address(panel), x, rows, inputs, address(last_group), GROUP)
            for r in range(rows):
                source, target = row(address(last_group), r, GROUP), floats(at(row_address(y, r, outputs), GROUP * i), outputs - GROUP * i)
                for j in range(target.size):
                    target[j] = source[j]
    keep_alive(panel)
    keep_alive(last_group)


@inner
def multiply_panel(panel, x, rows, inputs, y, pitch):
    """y[r, :16] = x[r] panel for a panel (inputs, 16) and rows of x, TILE_ROWS or more; a row of y is `pitch` floats behind the one before."""
    for r in range(0, rows, TILE_ROWS):
        begin = min(r, rows - TILE_ROWS)  # the last tile may begin within the one before, and computes the same again
        tile(inputs, panel, row_address(x, begin, inputs), row_address(0, 1, inputs), row_address(y, begin, pitch), row_address(0, 1, pitch))


@task
def _input_gradient(t, tasks, g, weights, dx, rows, blocks, group_bytes, groups, outputs, four):
    """dx = g W: a thread has its rows, for which it unpacks every panel."""
    inputs, wide = BLOCK * blocks, PANEL // GROUP
    begin, end = part(t, tasks, rows, 8), part(t + 1, tasks, rows, 8)
    if end > begin:
        panel = np.empty(inputs * PANEL, np.float32)
        for p in range((groups + wide - 1) // wide):
            first, last = p * wide, min(groups, (p + 1) * wide)
            for i in range(first, last):
                unpack_group(weights + i * group_bytes, blocks, four, at(address(panel), GROUP * (i - first)), PANEL)
            columns = min(outputs, GROUP * last) - GROUP * first
            gemm(False, True, end - begin, inputs, columns, f32(1), at(row_address(g, begin, outputs), GROUP * first), outputs,
                 address(panel), PANEL, f32(0) if p == 0 else f32(1), row_address(dx, begin, inputs), inputs)  # fmt: skip
        keep_alive(panel)


@quantised_linear.forward
def _(x, blocks, *, kind, outputs):
    if not is_float32(x):
        return NotImplemented
    groups, count, size = blocks.shape
    rows = x.size // x.shape[-1]
    y = np.empty((*x.shape[:-1], int(outputs)), f32)
    run = _few_rows if rows < MANY_ROWS else _many_rows
    threads = min(get_threads(), groups) if x.size * outputs > 1 << 17 else 1
    run(x, blocks, y, rows, count, count * size, groups, int(outputs), kind == "Q4_1", tasks=threads)
    return y, True


@quantised_linear.backward
def _(g, _y, _saved, x, blocks, *, needs, kind, outputs):
    if not needs[0]:
        return None, None
    groups, count, size = blocks.shape
    rows = x.size // x.shape[-1]
    dx = np.empty(x.shape, f32)
    _input_gradient(g, blocks, dx, rows, count, count * size, groups, int(outputs), kind == "Q4_1")
    return dx, None
