"""Products of bfloat16 with float32 sums: a tile of sums that stays in registers, while two packed factors go by.

A word of 32 bits holds two neighbours along the sum, the first in its lower half. AVX512_BF16's `vdpbf16ps` takes sixteen such words of each
factor and adds both products of each lane to its float32. Where a processor hasn't it, the same tile is written in float32's instructions:
that is slow, and for tests.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from . import BFLOAT16_COLUMNS as COLUMNS
from . import BFLOAT16_ROWS as ROWS
from .decorators import intrinsic
from .vectors import FEATURES, FLOAT, at

HAS_BFLOAT16 = bool(FEATURES.get("avx512bf16"))
LANES = 16  # of a register of 512 bits
_WORD, _FLOATS = ir.IntType(32), ir.VectorType(FLOAT, LANES)
_WORDS = ir.VectorType(_WORD, LANES)


def add_products(builder, total, a, b):
    """total + both products of each lane of the words a and b, by the instruction.  LLVM below 16 calls the operands integers, as here; later
    ones read it so."""
    kind = ir.FunctionType(_FLOATS, [_FLOATS, _WORDS, _WORDS])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512"), [total, a, b])


def add_products_as_floats(builder, total, a, b):
    """The same, of words that are made two floats again."""
    for upper in (False, True):
        halves = [builder.bitcast(_half(builder, words, upper), _FLOATS) for words in (a, b)]
        total = builder.fadd(total, builder.fmul(*halves))
    return total


def _half(builder, words, upper):
    number = 0xFFFF0000 if upper else 16
    constant = ir.Constant(_WORDS, [number] * LANES)
    return builder.and_(words, constant) if upper else builder.shl(words, constant)


def write_tile(builder, pairs, a, b, c, pitch, add=add_products):
    """c (ROWS, COLUMNS), rows `pitch` floats apart, += a^T b for a (pairs, ROWS) and b (pairs, COLUMNS), words of two bfloat16."""
    def pointer(place, kind):
        return builder.inttoptr(place, kind.as_pointer())

    def vector(place, i, kind):
        return pointer(at(builder, place, ir.Constant(place.type, LANES * i)), kind)

    registers = range(COLUMNS // LANES)
    sums = [[cgutils.alloca_once(builder, _FLOATS) for _ in registers] for _ in range(ROWS)]
    rows = [at(builder, c, builder.mul(pitch, ir.Constant(pitch.type, r))) for r in range(ROWS)]
    for row, totals in zip(rows, sums, strict=True):
        for i in registers:
            builder.store(builder.load(vector(row, i, _FLOATS), align=4), totals[i])
    with cgutils.for_range(builder, pairs) as step:
        of_a = at(builder, a, builder.mul(step.index, ir.Constant(pairs.type, ROWS)))
        of_b = at(builder, b, builder.mul(step.index, ir.Constant(pairs.type, COLUMNS)))
        right = [builder.load(vector(of_b, i, _WORDS), align=4) for i in registers]
        for r, totals in enumerate(sums):
            word = builder.load(pointer(at(builder, of_a, ir.Constant(pairs.type, r)), _WORD))
            one = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), word, ir.Constant(_WORD, 0))
            left = builder.shuffle_vector(one, ir.Constant(_WORDS, ir.Undefined), ir.Constant(_WORDS, None))
            for i in registers:
                builder.store(add(builder, builder.load(totals[i]), left, right[i]), totals[i])
    for row, totals in zip(rows, sums, strict=True):
        for i in registers:
            builder.store(builder.load(totals[i]), vector(row, i, _FLOATS), align=4)


@intrinsic
def tile_of_pairs(typing_context, pairs, a, b, c, pitch):
    """`write_tile` at addresses."""

    def generate(context, builder, signature, args):
        pairs, a, b, c, pitch = args
        write_tile(builder, pairs, a, b, c, pitch, add_products if HAS_BFLOAT16 else add_products_as_floats)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate
