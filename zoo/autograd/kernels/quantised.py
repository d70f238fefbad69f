"""Kernels of products with weights of 4 and 8 bits.

Few rows of x (decoding): weights become floats in registers, sixteen outputs at a time, and are read once.  Many rows (a prompt, training):
a panel of outputs becomes floats in memory that fits into a cache, and BLAS multiplies it with all rows.
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
_weights_q4_1, _weights_q8_0 = Native("weights_q4_1", _blocks), Native("weights_q8_0", _blocks)
_UNIT: Any = Native("UNIT", _blocks)
_POWERS_4: Any = Native("POWERS_4", _blocks)
_POWERS_8: Any = Native("POWERS_8", _blocks)
_read_subnormals, _restore_control = Native("read_subnormals", _blocks), Native("restore_control", _blocks)

f32 = np.float32
FEW_ROWS = 6  # of x, up to which weights are unpacked again for each
PANEL = 256  # outputs that are unpacked at a time for many rows


@separate("void(intp, intp, intp, intp, intp)")
def products_of_4_bits(blocks, weights, x, sums, y):
    _products_q4_1(blocks, weights, x, sums, y)


@separate("void(intp, intp, intp, intp, intp)")
def products_of_8_bits(blocks, weights, x, sums, y):
    _products_q8_0(blocks, weights, x, sums, y)


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
def _few_rows(t, tasks, x, weights, y, rows, blocks, group_bytes, groups, outputs, four):
    scaled, sums = np.empty(BLOCK * blocks, np.float32), np.empty(blocks, np.float32)
    for r in range(rows):
        prepare_row(row_address(x, r, BLOCK * blocks), blocks, four, address(scaled), address(sums))
        multiply_groups(weights, group_bytes, blocks, four, address(scaled), address(sums), row_address(y, r, outputs),
                        part(t, tasks, groups, 1), part(t + 1, tasks, groups, 1), outputs)  # fmt: skip
    keep_alive(scaled)
    keep_alive(sums)


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
    run = _few_rows if rows <= FEW_ROWS else _many_rows
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
