"""Products with weights of 4 and 8 bits, which become floats in registers: sixteen rows side by side, a lane each.

A group is sixteen rows of a matrix; its blocks of 32 columns lie one after the other:

    Q4_1    16 scales d, 16 minima m (float16), then for p < 4 sixteen words of 32 bits, a row's four bytes 4 p to
            4 p + 3 as in the file: byte i holds column 4 p + i in its low half and column 4 p + i + 16 in its high one
    Q8_0    16 scales d (float16), then for p < 32 the signed bytes p of all rows

Scale and minimum are applied once a block: sum_j w_j x_j = d sum_j q_j x_j + m sum_j x_j.  A half byte is not shifted to the end of its
word: masked where it is, it is q 16^k, and x comes multiplied by 16^-k, both exactly.  All arguments are addresses, or counts.  Vectors of
sixteen are one register with AVX-512, two with AVX, four with SSE or NEON: LLVM splits them.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import FLOAT, REGISTERS, word

LANES = 16
GROUP_BYTES = {"Q4_1": 2 * 2 * LANES + 16 * LANES, "Q8_0": 2 * LANES + 32 * LANES}  # of a block of sixteen rows
_FLOATS, _HALVES = ir.VectorType(FLOAT, LANES), ir.VectorType(ir.HalfType(), LANES)
_BYTES, _INTS = ir.VectorType(ir.IntType(8), LANES), ir.VectorType(ir.IntType(32), LANES)
_CHAINS = 4 if REGISTERS == 32 else 2  # sums that don't wait for each other


def _vector(builder, place, kind, align):
    return builder.load(builder.inttoptr(place, kind.as_pointer()), align=align)


def _everywhere(builder, value):
    one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_INTS, None))


def _number(builder, place):
    """The float at an address, in every lane."""
    return _everywhere(builder, builder.load(builder.inttoptr(place, FLOAT.as_pointer()), align=4))


def _added(builder, total, a, b):
    return builder.fadd(total, builder.fmul(a, b, flags=("contract",)), flags=("contract",))


def _scales(builder, place):
    return builder.fpext(_vector(builder, place, _HALVES, 2), _FLOATS)


def _columns(builder, kind, block):
    """(column, its numbers q 16^k as floats) of the sixteen rows, for the 32 columns of the block at an address."""
    if kind == "Q8_0":
        for p in range(32):
            signed = _vector(builder, builder.add(block, word(2 * LANES + LANES * p)), _BYTES, 1)
            yield p, builder.sitofp(builder.sext(signed, _INTS), _FLOATS)
        return
    for p in range(4):
        words = _vector(builder, builder.add(block, word(4 * LANES + 4 * LANES * p)), _INTS, 4)
        for k in range(8):
            if k < 7:
                q = builder.and_(words, ir.Constant(_INTS, [15 << 4 * k] * LANES))
            else:  # the highest: where it is, it would be taken for the sign
                q = builder.lshr(words, ir.Constant(_INTS, [28] * LANES))
            yield 4 * p + k // 2 + 16 * (k % 2), builder.sitofp(q, _FLOATS)


def power(column):
    """k of a column's half byte: its numbers come as q 16^k."""
    k = 2 * (column % 4) + column // 16
    return k if k < 7 else 0


def _products(kind):
    @intrinsic
    def products(typing_context, count, weights, x, sums, y):
        def generate(context, builder, signature, args):
            count, weights, x, sums, y = args
            total = cgutils.alloca_once(builder, _FLOATS)
            builder.store(ir.Constant(_FLOATS, None), total)
            with cgutils.for_range(builder, count) as step:
                block = builder.add(weights, builder.mul(step.index, word(GROUP_BYTES[kind])))
                row = builder.add(x, builder.mul(step.index, word(4 * 32)))
                chains = [ir.Constant(_FLOATS, None)] * _CHAINS
                for i, (column, q) in enumerate(_columns(builder, kind, block)):
                    number = _number(builder, builder.add(row, word(4 * column)))
                    chains[i % _CHAINS] = _added(builder, chains[i % _CHAINS], q, number)
                while len(chains) > 1:
                    chains = [builder.fadd(a, b) for a, b in zip(chains[::2], chains[1::2], strict=True)]
                result = _added(builder, builder.load(total), _scales(builder, block), chains[0])
                if kind == "Q4_1":
                    minima = _scales(builder, builder.add(block, word(2 * LANES)))
                    result = _added(builder, result, minima, _number(builder, builder.add(sums, builder.mul(step.index, word(4)))))
                builder.store(result, total)
            builder.store(builder.load(total), builder.inttoptr(y, _FLOATS.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5), generate

    return products


def _weights(kind):
    @intrinsic
    def weights(typing_context, count, weights, target, row):
        def generate(context, builder, signature, args):
            count, weights, target, row = args
            with cgutils.for_range(builder, count) as step:
                block = builder.add(weights, builder.mul(step.index, word(GROUP_BYTES[kind])))
                begin = builder.add(target, builder.mul(builder.mul(step.index, word(32)), row))
                scales = _scales(builder, block)
                minima = _scales(builder, builder.add(block, word(2 * LANES))) if kind == "Q4_1" else None
                for column, q in _columns(builder, kind, block):
                    if kind == "Q4_1" and power(column):
                        q = builder.fmul(q, ir.Constant(_FLOATS, [16.0 ** -power(column)] * LANES))
                    w = builder.fmul(scales, q)
                    w = w if minima is None else builder.fadd(w, minima)
                    place = builder.add(begin, builder.mul(row, word(column)))
                    builder.store(w, builder.inttoptr(place, _FLOATS.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), generate

    return weights


products_q4_1, products_q8_0 = _products("Q4_1"), _products("Q8_0")  # (blocks, weights, x, sums of x by block, y): y[:16] = W x
weights_q4_1, weights_q8_0 = _weights("Q4_1"), _weights("Q8_0")  # (blocks, weights, target, bytes of a row): target[column, :16] = w
