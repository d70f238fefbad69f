"""Registers of floats in machine code that is written instruction by instruction, for the few loops that LLVM doesn't find by itself.
"""

import platform

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .decorators import intrinsic

_features = llvmlite.binding.get_host_cpu_features()
WIDTH = 16 if _features.get("avx512f") else 8 if _features.get("avx") else 4        # floats in a register
REGISTERS = 32 if _features.get("avx512f") or platform.machine() in ("arm64", "aarch64") else 16
ROWS = 8 if REGISTERS == 32 else 4          # of a tile of sums that stays in registers: ROWS x two registers
COLUMNS = 2 * WIDTH

FLOAT, WORD = ir.FloatType(), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, WIDTH)
_MASK = ir.VectorType(ir.IntType(1), WIDTH)
_ALIGN = ir.Constant(ir.IntType(32), 4)


def word(n):
    return ir.Constant(WORD, n)


def zeros():
    return ir.Constant(VECTOR, None)


def mask(builder, count):
    """The first `count` lanes of a register."""
    found = ir.Constant(_MASK, ir.Undefined)
    for lane in range(WIDTH):
        inside = builder.icmp_signed("<", word(lane), count)
        found = builder.insert_element(found, inside, ir.Constant(ir.IntType(32), lane))
    return found


def load(builder, place, lanes=None):
    """WIDTH floats from an address; with a mask, those lanes, and 0 in the others."""
    pointer = builder.inttoptr(place, VECTOR.as_pointer())
    if lanes is None:
        return builder.load(pointer, align=4)
    kind = ir.FunctionType(VECTOR, [VECTOR.as_pointer(), ir.IntType(32), _MASK, VECTOR])
    masked = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{WIDTH}f32.p0v{WIDTH}f32")
    return builder.call(masked, [pointer, _ALIGN, lanes, zeros()])


def store(builder, value, place, lanes=None):
    pointer = builder.inttoptr(place, VECTOR.as_pointer())
    if lanes is None:
        builder.store(value, pointer, align=4)
        return
    kind = ir.FunctionType(ir.VoidType(), [VECTOR, VECTOR.as_pointer(), ir.IntType(32), _MASK])
    masked = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{WIDTH}f32.p0v{WIDTH}f32")
    builder.call(masked, [value, pointer, _ALIGN, lanes])


def broadcast(builder, place):
    """The float at an address, in every lane."""
    value = builder.load(builder.inttoptr(place, FLOAT.as_pointer()))
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), None))


def for_whole_or_part(builder, columns, write):
    """write(None, None), or with the masks of two registers where fewer than COLUMNS columns are left."""
    with builder.if_else(builder.icmp_signed(">=", columns, word(COLUMNS))) as (whole, part):
        with whole:
            write((None, None))
        with part:
            write((mask(builder, columns), mask(builder, builder.sub(columns, word(WIDTH)))))


def add_products(builder, sums, places, b, lanes):
    """sums[r][h] += the float at places[r] x half h of the row at b."""
    halves = [load(builder, builder.add(b, word(4 * WIDTH * h)), lanes[h]) for h in range(2)]
    for place, row in zip(places, sums, strict=True):
        a = broadcast(builder, place)
        for h in range(2):
            product = builder.fmul(a, halves[h], flags=("contract",))
            builder.store(builder.fadd(builder.load(row[h]), product, flags=("contract",)), row[h])


def _sums(builder):
    # Slots in memory that LLVM turns into registers: what a loop carries needs no bookkeeping so.
    return [[cgutils.alloca_once(builder, VECTOR) for _ in range(2)] for _ in range(ROWS)]


@intrinsic
def tile_of_rows(typing_context, sources, skip, segments, length, stride, b, row, targets, shift, columns, start):
    """targets[r][:columns] = start + sum over s, l of sources[r][s stride + l] b[s length + l, :columns], for ROWS rows."""

    def generate(context, builder, signature, args):
        sources, skip, segments, length, stride, b, row, targets, shift, columns, start = args

        def entry(table, r, offset):
            return builder.add(builder.load(builder.inttoptr(builder.add(table, word(8 * r)), WORD.as_pointer())), offset)

        rows = [entry(sources, r, skip) for r in range(ROWS)]
        sums = _sums(builder)

        def write(lanes):
            for h in range(2):
                first = load(builder, builder.add(start, word(4 * WIDTH * h)), lanes[h])
                for r in range(ROWS):
                    builder.store(first, sums[r][h])
            with cgutils.for_range(builder, segments) as segment:
                begin = builder.mul(segment.index, stride)
                places = [builder.add(place, begin) for place in rows]
                from_b = builder.add(b, builder.mul(builder.mul(segment.index, length), row))
                with cgutils.for_range(builder, length) as step:
                    offset = builder.mul(step.index, word(4))
                    now = [builder.add(place, offset) for place in places]
                    add_products(builder, sums, now, builder.add(from_b, builder.mul(step.index, row)), lanes)
            for r in range(ROWS):
                for h in range(2):
                    store(builder, builder.load(sums[r][h]), builder.add(entry(targets, r, shift), word(4 * WIDTH * h)), lanes[h])

        for_whole_or_part(builder, columns, write)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 11), generate


@intrinsic
def tile_of_columns(typing_context, a, offsets, count, b, c, row, lines, a_line, b_line, steps, a_step, b_step, columns):
    """c[r, :columns] += sum over lines and steps of a[line, step, offsets[r]] b[line, step, :columns], for r < count <= ROWS."""

    def generate(context, builder, signature, args):
        a, offsets, count, b, c, row, lines, a_line, b_line, steps, a_step, b_step, columns = args
        rows = [builder.load(builder.inttoptr(builder.add(offsets, word(8 * r)), WORD.as_pointer())) for r in range(ROWS)]
        sums = _sums(builder)

        def write(lanes):
            for r in range(ROWS):
                for h in range(2):
                    builder.store(zeros(), sums[r][h])
            with cgutils.for_range(builder, lines) as line:
                from_a = builder.add(a, builder.mul(line.index, a_line))
                from_b = builder.add(b, builder.mul(line.index, b_line))
                with cgutils.for_range(builder, steps) as step:
                    now = builder.add(from_a, builder.mul(step.index, a_step))
                    places = [builder.add(now, offset) for offset in rows]
                    add_products(builder, sums, places, builder.add(from_b, builder.mul(step.index, b_step)), lanes)
            for r in range(ROWS):
                with builder.if_then(builder.icmp_signed("<", word(r), count)):
                    for h in range(2):
                        place = builder.add(builder.add(c, builder.mul(row, word(r))), word(4 * WIDTH * h))
                        total = builder.fadd(load(builder, place, lanes[h]), builder.load(sums[r][h]))
                        store(builder, total, place, lanes[h])

        for_whole_or_part(builder, columns, write)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 13), generate
