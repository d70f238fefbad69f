"""Products with weights of 4 and 8 bits, which become floats in registers: sixteen rows side by side, a lane each.

A group is sixteen rows of a matrix; its blocks of 32 columns lie one after the other:

    Q4_1    16 scales d, 16 minima m (float16), then for p < 4 sixteen words of 32 bits, a row's four bytes 4 p to
            4 p + 3 as in the file: byte i holds column 4 p + i in its low half and column 4 p + i + 16 in its high one
    Q8_0    16 scales d (float16), then for p < 8 sixteen words of a row's bytes 4 p to 4 p + 3, each q + 128

So a word holds 8 or 4 whole numbers u from 0 on, and w = d u + m, with m = -128 d for Q8_0.  Scale and minimum are applied once a block:
sum_j w_j x_j = d sum_j u_j x_j + m sum_j x_j.  A number is not shifted to the end of its word: masked where it is, it is u 2^k, and x comes
multiplied by 2^-k, both exactly.

Where the processor multiplies subnormal numbers as fast as others, a masked word isn't even converted: read as a float it is u 2^(k - 149).
With x 2^88 the products are normal numbers again, all in UNITs of 2^-61, and as exact as before.  Elsewhere UNIT is 1.

All arguments are addresses, or counts.  Vectors of sixteen are one register with AVX-512, two with AVX, four with SSE or NEON: LLVM splits
them.
"""

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import FEATURES, FLOAT, REGISTERS, WIDTH, fetch_ahead, word

LANES = 16
BITS = {"Q4_1": 4, "Q8_0": 8}  # of a number
GROUP_BYTES = {"Q4_1": 2 * 2 * LANES + 16 * LANES, "Q8_0": 2 * LANES + 32 * LANES}  # of a block of sixteen rows
HALF_WORD = 16  # bits: what a number's place is counted in, so that no masked word reaches a float's exponent
SUBNORMALS_ARE_FAST = llvmlite.binding.get_host_cpu_name() in ("znver1", "znver2", "znver3")  # elsewhere each may take 150 cycles
UNIT = 2.0**-61 if SUBNORMALS_ARE_FAST else 1.0
X_FACTOR = UNIT * 2.0**149 if SUBNORMALS_ARE_FAST else 1.0
_FLOATS, _HALVES = ir.VectorType(FLOAT, LANES), ir.VectorType(ir.HalfType(), LANES)
_INTS, _CONTROL = ir.VectorType(ir.IntType(32), LANES), ir.IntType(32)
HALVES_ARE_READ = any(map(FEATURES.get, ("f16c", "avx512f", "fullfp16", "neon")))  # by an instruction; else LLVM asks for a function that isn't there
_CACHE_LINE = 64  # bytes
_CHAINS = 3  # sums that don't wait for each other
ROWS_AT_ONCE = 4
TILE_ROWS = min(14, (REGISTERS - 4) * WIDTH // LANES)  # rows of sums that stay in registers, besides a column of weights and a number
UNROLLED = 4  # columns for each step of a tile's loop
_SUBNORMALS_ARE_ZERO = 1 << 6  # a bit of the floating-point unit's control word


def _vector(builder, place, kind, align):
    return builder.load(builder.inttoptr(place, kind.as_pointer()), align=align)


def _constant(value):
    return ir.Constant(_FLOATS, [value] * LANES)


def _number(builder, place):
    """The float at an address, in every lane."""
    value = builder.load(builder.inttoptr(place, FLOAT.as_pointer()), align=4)
    one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_INTS, None))


def _added(builder, total, a, b):
    return builder.fadd(total, builder.fmul(a, b, flags=("contract",)), flags=("contract",))


def _scales(builder, place):
    if HALVES_ARE_READ:
        return builder.fpext(_vector(builder, place, _HALVES, 2), _FLOATS)
    bits = builder.zext(_vector(builder, place, ir.VectorType(ir.IntType(16), LANES), 2), _INTS)
    each = lambda n: ir.Constant(_INTS, [n] * LANES)
    rest = builder.shl(builder.and_(bits, each(0x7FFF)), each(13))  # exponent and mantissa, at a float's place
    normal = builder.bitcast(builder.add(rest, each(127 - 15 << 23)), _FLOATS)
    subnormal = builder.fsub(builder.bitcast(builder.or_(rest, each(127 - 14 << 23)), _FLOATS), _constant(2.0**-14))  # 2^-14 (1 + m) - 2^-14
    value = builder.select(builder.icmp_unsigned("<", rest, each(1 << 23)), subnormal, normal)
    sign = builder.shl(builder.and_(bits, each(0x8000)), each(16))
    return builder.bitcast(builder.or_(builder.bitcast(value, _INTS), sign), _FLOATS)


def _columns(builder, kind, block):
    """(column, k, words that hold u 2^k) of the sixteen rows, for the 32 columns of the block at an address."""
    bits, begin = BITS[kind], GROUP_BYTES[kind] - LANES * BITS[kind] * 4
    for p in range(bits):
        words = _vector(builder, builder.add(block, word(begin + 4 * LANES * p)), _INTS, 4)
        for i in range(32 // bits):
            if i == HALF_WORD // bits:
                words = builder.lshr(words, ir.Constant(_INTS, [HALF_WORD] * LANES))
            k = bits * i % HALF_WORD
            yield column(bits, p, i), k, builder.and_(words, ir.Constant(_INTS, [(1 << bits) - 1 << k] * LANES))


def column(bits, p, i):
    """The column of a block whose number is the i-th, from the lowest bits on, in word p of a row."""
    return 4 * p + i if bits == 8 else 4 * p + i // 2 + 16 * (i % 2)


def powers(bits):
    """By which x has to be multiplied, for each column of a block."""
    factors = [0.0] * 32
    for p in range(bits):
        for i in range(32 // bits):
            factors[column(bits, p, i)] = X_FACTOR * 2.0 ** -(bits * i % HALF_WORD)
    return factors


POWERS_4, POWERS_8 = tuple(powers(4)), tuple(powers(8))


def _as_floats(builder, words):
    return builder.bitcast(words, _FLOATS) if SUBNORMALS_ARE_FAST else builder.sitofp(words, _FLOATS)


def _with_scales(builder, kind, block, total, product, x_sum):
    """total + d (sum of u x over a block) + m (sum of x)."""
    if kind == "Q8_0":
        product = _added(builder, product, _constant(-128.0), x_sum)
    total = _added(builder, total, _scales(builder, block), product)
    return _added(builder, total, _scales(builder, builder.add(block, word(2 * LANES))), x_sum) if kind == "Q4_1" else total


def _products(kind):
    @intrinsic
    def products(typing_context, count, weights, ahead, x, sums, y):
        def generate(context, builder, signature, args):
            count, weights, ahead, x, sums, y = args
            total = cgutils.alloca_once(builder, _FLOATS)
            builder.store(ir.Constant(_FLOATS, None), total)
            with cgutils.for_range(builder, count) as step:
                block = builder.add(weights, builder.mul(step.index, word(GROUP_BYTES[kind])))
                row = builder.add(x, builder.mul(step.index, word(4 * 32)))
                for line in range(0, GROUP_BYTES[kind], _CACHE_LINE):
                    fetch_ahead(builder, builder.add(builder.add(block, ahead), word(line)))
                chains = [ir.Constant(_FLOATS, None)] * _CHAINS
                for i, (column, _, words) in enumerate(_columns(builder, kind, block)):
                    number = _number(builder, builder.add(row, word(4 * column)))
                    chains[i % _CHAINS] = _added(builder, chains[i % _CHAINS], _as_floats(builder, words), number)
                while len(chains) > 1:
                    chains = [builder.fadd(chains[0], chains[1]), *chains[2:]]
                x_sum = _number(builder, builder.add(sums, builder.mul(step.index, word(4))))
                builder.store(_with_scales(builder, kind, block, builder.load(total), chains[0], x_sum), total)
            result = builder.fmul(builder.load(total), _constant(1 / UNIT))
            builder.store(result, builder.inttoptr(y, _FLOATS.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    return products


def _products_of_rows(kind):
    @intrinsic
    def products(typing_context, count, weights, x, x_row, sums, sums_row, y, y_row):
        def generate(context, builder, signature, args):
            count, weights, x, x_row, sums, sums_row, y, y_row = args
            totals = [cgutils.alloca_once(builder, _FLOATS) for _ in range(ROWS_AT_ONCE)]
            for total in totals:
                builder.store(ir.Constant(_FLOATS, None), total)
            with cgutils.for_range(builder, count) as step:
                block = builder.add(weights, builder.mul(step.index, word(GROUP_BYTES[kind])))
                row = builder.add(x, builder.mul(step.index, word(4 * 32)))
                rows = [builder.add(row, builder.mul(x_row, word(r))) for r in range(ROWS_AT_ONCE)]
                chains = [ir.Constant(_FLOATS, None)] * ROWS_AT_ONCE
                for column, _, words in _columns(builder, kind, block):
                    u = _as_floats(builder, words)
                    numbers = [_number(builder, builder.add(row, word(4 * column))) for row in rows]
                    chains = [_added(builder, chain, u, number) for chain, number in zip(chains, numbers, strict=True)]
                of_sums = builder.add(sums, builder.mul(step.index, word(4)))
                x_sums = [_number(builder, builder.add(of_sums, builder.mul(sums_row, word(r)))) for r in range(ROWS_AT_ONCE)]
                for total, chain, x_sum in zip(totals, chains, x_sums, strict=True):
                    builder.store(_with_scales(builder, kind, block, builder.load(total), chain, x_sum), total)
            for r, total in enumerate(totals):
                result = builder.fmul(builder.load(total), _constant(1 / UNIT))
                place = builder.add(y, builder.mul(y_row, word(r)))
                builder.store(result, builder.inttoptr(place, _FLOATS.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8), generate

    return products


def _weights(kind):
    @intrinsic
    def weights(typing_context, count, weights, target, row):
        def generate(context, builder, signature, args):
            count, weights, target, row = args
            with cgutils.for_range(builder, count) as step:
                block = builder.add(weights, builder.mul(step.index, word(GROUP_BYTES[kind])))
                begin = builder.add(target, builder.mul(builder.mul(step.index, word(32)), row))
                d = _scales(builder, block)
                scales = {k: builder.fmul(d, _constant(2.0**-k)) for k in range(0, HALF_WORD, BITS[kind])}
                m = _scales(builder, builder.add(block, word(2 * LANES))) if kind == "Q4_1" else builder.fmul(d, _constant(-128.0))
                for column, k, words in _columns(builder, kind, block):
                    w = _added(builder, m, scales[k], builder.sitofp(words, _FLOATS))  # d u has few enough bits to be exact
                    place = builder.add(begin, builder.mul(row, word(column)))
                    builder.store(w, builder.inttoptr(place, _FLOATS.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), generate

    return weights


# (blocks, weights, bytes from there to weights that come next, x times its powers, sums of x by block in UNITs, y): y[:16] = W x
products_q4_1, products_q8_0 = _products("Q4_1"), _products("Q8_0")
# The same for ROWS_AT_ONCE rows of x, by which numbers are unpacked once: (blocks, weights, x, bytes of a row, sums, bytes, y, bytes)
products_of_rows_q4_1, products_of_rows_q8_0 = _products_of_rows("Q4_1"), _products_of_rows("Q8_0")
weights_q4_1, weights_q8_0 = _weights("Q4_1"), _weights("Q8_0")  # (blocks, weights, target, bytes of a row): target[column, :16] = w


@intrinsic
def tile_of_rows_and_group(typing_context, columns, panel, x, x_row, y, y_row):
    """y[r, :16] = sum over c < columns, which UNROLLED divides, of x[r, c] panel[c, :16], for r < TILE_ROWS; x_row and y_row are bytes."""

    def generate(context, builder, signature, args):
        columns, panel, x, x_row, y, y_row = args
        totals = [cgutils.alloca_once(builder, _FLOATS) for _ in range(TILE_ROWS)]
        for total in totals:
            builder.store(ir.Constant(_FLOATS, None), total)
        rows = [builder.add(x, builder.mul(x_row, word(r))) for r in range(TILE_ROWS)]
        with cgutils.for_range(builder, builder.udiv(columns, word(UNROLLED))) as step:
            weights = builder.add(panel, builder.mul(step.index, word(4 * LANES * UNROLLED)))
            begin = builder.mul(step.index, word(4 * UNROLLED))
            places = [builder.add(row, begin) for row in rows]
            for c in range(UNROLLED):
                w = _vector(builder, builder.add(weights, word(4 * LANES * c)), _FLOATS, 4)
                for place, total in zip(places, totals, strict=True):
                    number = _number(builder, builder.add(place, word(4 * c)))
                    builder.store(_added(builder, builder.load(total), number, w), total)
        for r, total in enumerate(totals):
            place = builder.add(y, builder.mul(y_row, word(r)))
            builder.store(builder.load(total), builder.inttoptr(place, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), generate


def _control_word(builder, name, place):
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}"), [builder.bitcast(place, ir.IntType(8).as_pointer())])


@intrinsic
def read_subnormals(typing_context):
    """From here on this thread reads subnormal numbers as they are, whatever a library has set; what to give back with `restore_control`."""

    def generate(context, builder, signature, args):
        if not SUBNORMALS_ARE_FAST:
            return word(0)
        place = cgutils.alloca_once(builder, _CONTROL)
        _control_word(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.and_(before, ir.Constant(_CONTROL, ~_SUBNORMALS_ARE_ZERO)), place)
        _control_word(builder, "ldmxcsr", place)
        return builder.zext(before, ir.IntType(64))

    return types.intp(), generate


@intrinsic
def restore_control(typing_context, before):
    def generate(context, builder, signature, args):
        if SUBNORMALS_ARE_FAST:
            place = cgutils.alloca_once_value(builder, builder.trunc(args[0], _CONTROL))
            _control_word(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.intp), generate
