"""Registers of floats in machine code that is written instruction by instruction, for the few loops that LLVM doesn't find by itself.
"""

import platform
import typing

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils, config

from .decorators import intrinsic


def _target_features():
    """{name: True} of the processor that is compiled for: this one, or the one that Numba was told (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES)."""
    told: typing.Any = config  # its names are set while it runs
    if told.CPU_NAME in (None, "host"):
        return llvmlite.binding.get_host_cpu_features()
    return {feature[1:]: True for feature in (told.CPU_FEATURES or "").split(",") if feature.startswith("+")}


FEATURES = _target_features()
WIDTH = 16 if FEATURES.get("avx512f") else 8 if FEATURES.get("avx") else 4        # floats in a register
REGISTERS = 32 if FEATURES.get("avx512f") or platform.machine() in ("arm64", "aarch64") else 16
ROWS = 8 if REGISTERS == 32 else 4          # of a tile of sums that stays in registers: ROWS x two registers
COLUMNS = 2 * WIDTH

FLOAT_BYTES, WORD_BYTES = 4, 8
FLOAT, WORD = ir.FloatType(), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, WIDTH)
_MASK = ir.VectorType(ir.IntType(1), WIDTH)
_ALIGN = ir.Constant(ir.IntType(32), FLOAT_BYTES)


def word(n):
    return ir.Constant(WORD, n)


def at(builder, place, i):
    """The address of float i of those at an address."""
    return builder.add(place, builder.mul(i, word(FLOAT_BYTES)))


def word_of(builder, table, i):
    """Entry i of a table of int64, i known when the code is written."""
    return builder.load(builder.inttoptr(builder.add(table, word(WORD_BYTES * i)), WORD.as_pointer()))


def zeros():
    return ir.Constant(VECTOR, None)


def mask(builder, count):
    """The first `count` lanes of a register."""
    lanes = ir.Constant(_MASK, ir.Undefined)
    for lane in range(WIDTH):
        inside = builder.icmp_signed("<", word(lane), count)
        lanes = builder.insert_element(lanes, inside, ir.Constant(ir.IntType(32), lane))
    return lanes


def load(builder, place, lanes=None):
    """WIDTH floats from an address; with a mask, those lanes, and 0 in the others."""
    pointer = builder.inttoptr(place, VECTOR.as_pointer())
    if lanes is None:
        return builder.load(pointer, align=FLOAT_BYTES)
    kind = ir.FunctionType(VECTOR, [VECTOR.as_pointer(), ir.IntType(32), _MASK, VECTOR])
    masked = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{WIDTH}f32.p0v{WIDTH}f32")
    return builder.call(masked, [pointer, _ALIGN, lanes, zeros()])


def store(builder, value, place, lanes=None):
    pointer = builder.inttoptr(place, VECTOR.as_pointer())
    if lanes is None:
        builder.store(value, pointer, align=FLOAT_BYTES)
        return
    kind = ir.FunctionType(ir.VoidType(), [VECTOR, VECTOR.as_pointer(), ir.IntType(32), _MASK])
    masked = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{WIDTH}f32.p0v{WIDTH}f32")
    builder.call(masked, [value, pointer, _ALIGN, lanes])


def fetch_ahead(builder, place):
    """Let what lies at an address come into the nearest cache meanwhile; nothing happens where there is no memory."""
    byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    to_read, to_stay, data = (ir.Constant(flag, value) for value in (0, 3, 1))
    builder.call(fetch, [builder.inttoptr(place, byte), to_read, to_stay, data])


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
    halves = [load(builder, at(builder, b, word(WIDTH * h)), lanes[h]) for h in range(2)]
    for place, row in zip(places, sums, strict=True):
        a = broadcast(builder, place)
        for h in range(2):
            product = builder.fmul(a, halves[h], flags=("contract",))
            builder.store(builder.fadd(builder.load(row[h]), product, flags=("contract",)), row[h])


def _sums(builder):
    # Slots in memory that LLVM turns into registers: what a loop carries needs no bookkeeping so.
    return [[cgutils.alloca_once(builder, VECTOR) for _ in range(2)] for _ in range(ROWS)]


@intrinsic
def tile_of_rows(typing_context, sources, skip, segments, length, pitch, b, b_pitch, targets, shift, columns, start):
    """target_r[:columns] = start + sum over s, l of source_r[s pitch + l] b[s length + l, :columns], for ROWS rows.

    source_r begins `skip` floats behind the address sources[r], target_r `shift` floats behind targets[r]; a pitch is the floats from one
    row to the next.
    """

    def generate(context, builder, signature, args):
        sources, skip, segments, length, pitch, b, b_pitch, targets, shift, columns, start = args
        rows = [at(builder, word_of(builder, sources, r), skip) for r in range(ROWS)]
        sums = _sums(builder)

        def write(lanes):
            for h in range(2):
                first = load(builder, at(builder, start, word(WIDTH * h)), lanes[h])
                for r in range(ROWS):
                    builder.store(first, sums[r][h])
            with cgutils.for_range(builder, segments) as segment:
                begin = builder.mul(segment.index, pitch)
                places = [at(builder, row, begin) for row in rows]
                from_b = at(builder, b, builder.mul(builder.mul(segment.index, length), b_pitch))
                with cgutils.for_range(builder, length) as step:
                    now = [at(builder, place, step.index) for place in places]
                    add_products(builder, sums, now, at(builder, from_b, builder.mul(step.index, b_pitch)), lanes)
            for r in range(ROWS):
                target = at(builder, word_of(builder, targets, r), shift)
                for h in range(2):
                    store(builder, builder.load(sums[r][h]), at(builder, target, word(WIDTH * h)), lanes[h])

        for_whole_or_part(builder, columns, write)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 11), generate


@intrinsic
def tile_of_columns(typing_context, a, offsets, count, b, c, c_pitch, lines, a_line, b_line, steps, a_step, b_step, columns):
    """c[r, :columns] += sum over lines and steps of a[line, step, offsets[r]] b[line, step, :columns], for r < count <= ROWS.

    A line and a step of a and of b are so many floats long, as is a row of c.
    """

    def generate(context, builder, signature, args):
        a, offsets, count, b, c, c_pitch, lines, a_line, b_line, steps, a_step, b_step, columns = args
        rows = [word_of(builder, offsets, r) for r in range(ROWS)]
        sums = _sums(builder)

        def write(lanes):
            for r in range(ROWS):
                for h in range(2):
                    builder.store(zeros(), sums[r][h])
            with cgutils.for_range(builder, lines) as line:
                from_a = at(builder, a, builder.mul(line.index, a_line))
                from_b = at(builder, b, builder.mul(line.index, b_line))
                with cgutils.for_range(builder, steps) as step:
                    now = at(builder, from_a, builder.mul(step.index, a_step))
                    places = [at(builder, now, offset) for offset in rows]
                    add_products(builder, sums, places, at(builder, from_b, builder.mul(step.index, b_step)), lanes)
            for r in range(ROWS):
                with builder.if_then(builder.icmp_signed("<", word(r), count)):
                    for h in range(2):
                        place = at(builder, at(builder, c, builder.mul(c_pitch, word(r))), word(WIDTH * h))
                        total = builder.fadd(load(builder, place, lanes[h]), builder.load(sums[r][h]))
                        store(builder, total, place, lanes[h])

        for_whole_or_part(builder, columns, write)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 13), generate
