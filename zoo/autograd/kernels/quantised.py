"""Kernels of products with weights of 4 and 8 bits.

Weights become floats in registers, sixteen outputs and up to four rows of x at a time.  Where that takes conversions and rows are many (a
prompt, training), a panel of outputs becomes floats in memory that fits into a cache, and BLAS multiplies it with all rows.
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
_UNIT: Any = Native("UNIT", _blocks)
_POWERS_4: Any = Native("POWERS_4", _blocks)
_POWERS_8: Any = Native("POWERS_8", _blocks)
_SUBNORMALS_ARE_FAST = Native("SUBNORMALS_ARE_FAST", _blocks)
_read_subnormals, _restore_control = Native("read_subnormals", _blocks), Native("restore_control", _blocks)

f32 = np.float32
MANY_ROWS = 32  # of x, from which on weights are unpacked into memory where that takes conversions
ROWS_IN_CACHE = 128  # of x, prepared at a time
ROWS_AT_ONCE = 4  # as in runtime/native/blocks.py
PANEL = 256  # outputs that are unpacked at a time for many rows


@separate("void(intp, intp, intp, intp, intp)")
def products_of_4_bits(blocks, weights, x, sums, y):
    _products_q4_1(blocks, weights, x, sums, y)


@separate("void(intp, intp, intp, intp, intp)")
def products_of_8_bits(blocks, weights, x, sums, y):
    _products_q8_0(blocks, weights, x, sums, y)


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
    """y[16 first : 16 last] = W x for groups first to last - 1; where the last one is not full, the outputs that there are."""
    control = _read_subnormals()
    for i in range(first, last):
        place = weights + i * group_bytes
        if GROUP * (i + 1) <= outputs:
            if four:
                products_of_4_bits(blocks, place, scaled, sums, at(y, GROUP * i))
            else:
                products_of_8_bits(blocks, place, scaled, sums, at(y, GROUP * i))
        else:
            whole = np.empty(GROUP, np.float32)
            if four:
                products_of_4_bits(blocks, place, scaled, sums, address(whole))
            else:
                products_of_8_bits(blocks, place, scaled, sums, address(whole))
            target = floats(at(y, GROUP * i), outputs - GROUP * i)
            for j in range(target.size):
                target[j] = whole[j]
            keep_alive(whole)
    _restore_control(control)


@task
def _in_registers(t, tasks, x, weights, y, rows, blocks, group_bytes, groups, outputs, four):
    inputs, most = BLOCK * blocks, min(rows, ROWS_IN_CACHE)
    scaled, sums = np.empty(most * inputs, np.float32), np.empty(most * blocks, np.float32)
    first, last = part(t, tasks, groups, 1), part(t + 1, tasks, groups, 1)
    for begin in range(0, rows, ROWS_IN_CACHE):
        count = min(ROWS_IN_CACHE, rows - begin)
        for r in range(count):
            prepare_row(row_address(x, begin + r, inputs), blocks, four, row_address(address(scaled), r, inputs),
                        row_address(address(sums), r, blocks))  # fmt: skip
        multiply_rows(weights, group_bytes, blocks, four, address(scaled), address(sums), row_address(y, begin, outputs), count, first, last, outputs)
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
def unpack_panel(weights, group_bytes, blocks, four, first, last, panel):
    """panel (32 blocks, PANEL) = the weights of groups first to last - 1, a column for each output."""
    for i in range(first, last):
        target = at(panel, GROUP * (i - first))
        if four:
            weights_of_4_bits(blocks, weights + i * group_bytes, target, row_address(0, 1, PANEL))
        else:
            weights_of_8_bits(blocks, weights + i * group_bytes, target, row_address(0, 1, PANEL))


@task
def _many_rows(t, tasks, x, weights, y, rows, blocks, group_bytes, groups, outputs, four):
    inputs, wide = BLOCK * blocks, PANEL // GROUP
    panel = np.empty(inputs * PANEL, np.float32)
    for p in range(t, (groups + wide - 1) // wide, tasks):
        first, last = p * wide, min(groups, (p + 1) * wide)
        unpack_panel(weights, group_bytes, blocks, four, first, last, address(panel))
        columns = min(outputs, GROUP * last) - GROUP * first
        gemm(False, False, rows, columns, inputs, f32(1), x, inputs, address(panel), PANEL, f32(0), at(y, GROUP * first), outputs)
    keep_alive(panel)


@task
def _input_gradient(t, tasks, g, weights, dx, rows, blocks, group_bytes, groups, outputs, four):
    """dx = g W: a thread has its rows, for which it unpacks every panel."""
    inputs, wide = BLOCK * blocks, PANEL // GROUP
    begin, end = part(t, tasks, rows, 8), part(t + 1, tasks, rows, 8)
    if end > begin:
        panel = np.empty(inputs * PANEL, np.float32)
        for p in range((groups + wide - 1) // wide):
            first, last = p * wide, min(groups, (p + 1) * wide)
            unpack_panel(weights, group_bytes, blocks, four, first, last, address(panel))
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
    run = _in_registers if rows < MANY_ROWS or _SUBNORMALS_ARE_FAST.build() else _many_rows
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
