"""One row against many, in registers: what decoding a token is made of.  All arguments are addresses of float32, or counts of them.

Like `vectors`, it is written instruction by instruction.  In which order things are added up depends on the counts alone, never on where
in memory they lie.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .decorators import intrinsic
from .vectors import FLOAT, FLOAT_BYTES, VECTOR, WIDTH, WORD, at, broadcast, fetch_ahead, load, store, word, zeros

GROUP = 8  # rows that are read at a time: as many sums that don't wait for each other
FAR_GROUP = 4  # of a matrix in a far cache: more rows at a time are read more slowly
_WORDS = ir.VectorType(WORD, WIDTH)


def _first(builder, count):
    """A mask of the first `count` lanes."""
    unknown, everywhere = ir.Constant(_WORDS, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), None)
    counts = builder.shuffle_vector(builder.insert_element(unknown, count, ir.Constant(ir.IntType(32), 0)), unknown, everywhere)
    return builder.icmp_signed("<", ir.Constant(_WORDS, list(range(WIDTH))), counts)


def _for_registers(builder, n, body):
    """body(offset in bytes, lanes) for every register of a row of n floats; lanes is a mask where the last one isn't full, else None."""
    whole = builder.sdiv(n, word(WIDTH))
    with cgutils.for_range(builder, whole) as register:
        body(builder.mul(register.index, word(FLOAT_BYTES * WIDTH)), None)
    begun = builder.mul(whole, word(WIDTH))
    with builder.if_then(builder.icmp_signed("<", begun, n)):
        body(builder.mul(begun, word(FLOAT_BYTES)), _first(builder, builder.sub(n, begun)))


def _for_groups(builder, n, body, size=GROUP):
    """body(first, size) for groups of n rows, then body(row, 1) for each that is left."""
    groups = builder.sdiv(n, word(size))
    with cgutils.for_range(builder, groups) as group:
        body(builder.mul(group.index, word(size)), size)
    begun = builder.mul(groups, word(size))
    with cgutils.for_range(builder, builder.sub(n, begun)) as row:
        body(builder.add(begun, row.index), 1)


def _add_product(builder, total, a, b):
    return builder.fadd(total, builder.fmul(a, b, flags=("contract",)), flags=("contract",))


def _sums(builder, n):
    sums = [cgutils.alloca_once(builder, VECTOR) for _ in range(n)]
    for total in sums:
        builder.store(zeros(), total)
    return sums


@intrinsic
def row_times_rows(typing_context, x, rows, pitch, count, n, y):
    """y[r] = sum_j x[j] rows[r][j], for r < count, j < n; a row begins `pitch` floats behind the one before it."""

    def generate(context, builder, signature, args):
        x, rows, pitch, count, n, y = args
        pitch_bytes = builder.mul(pitch, word(FLOAT_BYTES))
        kind = ir.FunctionType(FLOAT, [FLOAT, VECTOR])
        lanes_added = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{WIDTH}f32")

        def products(first, many):
            begin, sums = builder.add(rows, builder.mul(first, pitch_bytes)), _sums(builder, many)

            def add(offset, lanes):
                a, place = load(builder, builder.add(x, offset), lanes), builder.add(begin, offset)
                for total in sums:
                    builder.store(_add_product(builder, builder.load(total), a, load(builder, place, lanes)), total)
                    place = builder.add(place, pitch_bytes)

            _for_registers(builder, n, add)
            for r, total in enumerate(sums):
                whole = builder.call(lanes_added, [ir.Constant(FLOAT, -0.0), builder.load(total)], fastmath=("reassoc",))
                builder.store(whole, builder.inttoptr(at(builder, y, builder.add(first, word(r))), FLOAT.as_pointer()))

        _for_groups(builder, count, products)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), generate


@intrinsic
def add_row_times_matrix(typing_context, x, matrix, pitch, n, m, y):
    """y[:m] += sum_i x[i] matrix[i][:m], for i < n; a row begins `pitch` floats behind the one before it.  Rows are read in order."""

    def generate(context, builder, signature, args):
        x, matrix, pitch, n, m, y = args
        pitch_bytes = builder.mul(pitch, word(FLOAT_BYTES))

        def products(first, many):
            begin = builder.add(matrix, builder.mul(first, pitch_bytes))
            factors = [broadcast(builder, at(builder, x, builder.add(first, word(r)))) for r in range(many)]

            def add(offset, lanes):
                place, target = builder.add(begin, offset), builder.add(y, offset)
                total = load(builder, target, lanes)
                for factor in factors:
                    if many > 1:
                        fetch_ahead(builder, builder.add(place, builder.mul(pitch_bytes, word(many))))  # of the next group
                    total = _add_product(builder, total, factor, load(builder, place, lanes))
                    place = builder.add(place, pitch_bytes)
                store(builder, total, target, lanes)

            _for_registers(builder, m, add)

        _for_groups(builder, n, products, FAR_GROUP)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), generate


@intrinsic
def row_times_narrow_matrix(typing_context, x, matrix, pitch, n, m, y):
    """y[:m] = sum_i x[i] matrix[i][:m]: a register of columns at a time, for few columns and many rows that are in a near cache."""

    def generate(context, builder, signature, args):
        x, matrix, pitch, n, m, y = args
        pitch_bytes = builder.mul(pitch, word(FLOAT_BYTES))

        def columns(offset, lanes):
            sums = _sums(builder, GROUP)

            def products(first, many):
                place = builder.add(builder.add(matrix, builder.mul(first, pitch_bytes)), offset)
                for r in range(many):
                    factor = broadcast(builder, at(builder, x, builder.add(first, word(r))))
                    builder.store(_add_product(builder, builder.load(sums[r]), factor, load(builder, place, lanes)), sums[r])
                    place = builder.add(place, pitch_bytes)

            _for_groups(builder, n, products)
            left = [builder.load(total) for total in sums]
            while len(left) > 1:
                left = [builder.fadd(a, b) for a, b in zip(left[::2], left[1::2], strict=True)]
            store(builder, left[0], builder.add(y, offset), lanes)

        _for_registers(builder, m, columns)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), generate
