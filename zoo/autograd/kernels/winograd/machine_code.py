"""From a formula to machine code: the small matrices of Winograd's convolution as vector instructions.

A formula maps the rows of a tile to the rows of its transform. It only adds and scales, so it runs on numbers and on arrays (the tests
compare it with the matrices of Lavin & Gray 2015), and on LLVM's vectors: a transform applies it down the columns and along the rows of a
tile, for as many channels at a time as one register holds. Left to itself LLVM vectorises such loops less well and takes seconds for it.

Importing this file imports Numba.
"""

import itertools

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ...runtime.native.decorators import intrinsic
from ...runtime.native.vectors import FLOAT, VECTOR, WIDTH, at, load, mask, store, word, zeros

LANES = ir.IntType(WIDTH)  # a bit for each float of a register
MASK = ir.VectorType(ir.IntType(1), WIDTH)


class _Vector:
    """A register of floats while its code is being written; adding two writes an addition."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def _with(self, write, other):
        if not isinstance(other, _Vector):
            other = _Vector(self.builder, ir.Constant(VECTOR, [ir.Constant(FLOAT, float(other))] * WIDTH))
        return _Vector(self.builder, write(self.value, other.value, flags=("contract", "nsz")))

    def __add__(self, other):
        return self._with(self.builder.fadd, other)

    def __sub__(self, other):
        return self._with(self.builder.fsub, other)

    def __mul__(self, other):
        return self._with(self.builder.fmul, other)

    __rmul__ = __mul__

    def __neg__(self):
        return self * -1.0


def _place(builder, base, row, a, column, b, channel):
    """The address of a channel of pixel (a, b); row and column are so many floats long."""
    place = at(builder, at(builder, base, channel), builder.mul(row, word(a)))
    return at(builder, place, builder.mul(column, word(b)))


def _apply(builder, formula, points_in, points_out, read, write):
    """write(a, b, value) for each point of the tile read(a, b), transformed downwards and then along."""
    columns = [formula(*(_Vector(builder, read(a, b)) for a in range(points_in))) for b in range(points_in)]
    for a in range(points_out):
        for b, y in enumerate(formula(*(columns[i][a] for i in range(points_in)))):
            write(a, b, y)


def tile_transform(formula, points_in, points_out, add_bias=False):
    """An intrinsic f(source, row, column, target, target_row, target_column, bias, channels): one tile, all its channels.

    Reads a tile (points_in, points_in, channels) whose rows and columns are so many floats apart, writes (points_out, points_out,
    channels). With add_bias the (channels,) floats at `bias` are added to each output.
    """

    @intrinsic
    def transform(typing_context, source, row, column, target, target_row, target_column, bias, channels):
        def generate(context, builder, signature, args):
            source, row, column, target, target_row, target_column, bias, channels = args

            def chunk(channel, lanes):
                """WIDTH channels of the tile from `channel` on; with a mask, those that are left."""
                start = _Vector(builder, load(builder, at(builder, bias, channel), lanes)) if add_bias else None

                def read(a, b):
                    return load(builder, _place(builder, source, row, a, column, b, channel), lanes)

                def write(a, b, y):
                    y = y + start if add_bias else y
                    store(builder, y.value, _place(builder, target, target_row, a, target_column, b, channel), lanes)

                _apply(builder, formula, points_in, points_out, read, write)

            whole = builder.udiv(channels, word(WIDTH))
            with cgutils.for_range(builder, whole) as loop:
                chunk(builder.mul(loop.index, word(WIDTH)), None)
            rest = builder.urem(channels, word(WIDTH))
            with builder.if_then(builder.icmp_unsigned("!=", rest, word(0))):
                chunk(builder.mul(whole, word(WIDTH)), mask(builder, rest))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8), generate

    return transform


def picture_transform(formula, points_in, points_out, picture):
    """As `tile_transform`, for a tile whose source or target, as `picture` says, lies in a picture: its edge may cut the tile.

    Pixel (a, b) is inside the picture if bits a and 8 + b of `inside` are set; one outside is read as 0, and isn't written. To a target
    (channels,) floats at `bias` are added at each pixel, and what lies there in the tile at `residual`, unless that is 0.
    """
    size = points_in if picture == "source" else points_out

    @intrinsic
    def transform(typing_context, source, row, column, target, target_row, target_column, channels, inside, bias, residual):
        def generate(context, builder, signature, args):
            source, row, column, target, target_row, target_column, channels, inside, bias, residual = args
            no_residual = builder.icmp_unsigned("==", residual, word(0))
            added = builder.select(no_residual, target, residual)  # what is prefetched must be somewhere near

            def chunk(channel, lanes):
                """As many channels of the tile as a register holds, or those whose bits are set in lanes."""
                shift = at(builder, bias, channel)

                def mask_of(a, b, name):
                    bits = lanes
                    for bit in (a, 8 + b) if lanes and name == picture else ():
                        is_set = builder.trunc(builder.lshr(inside, word(bit)), ir.IntType(1))
                        bits = builder.and_(bits, builder.sext(is_set, LANES))
                    return bits and builder.bitcast(bits, MASK)

                def from_source(a, b):
                    return _place(builder, source, row, a, column, b, channel)

                def from_target(a, b, base=target):
                    return _place(builder, base, target_row, a, target_column, b, channel)

                def read(a, b):
                    return load(builder, from_source(a, b), mask_of(a, b, "source"))

                def write(a, b, y):
                    mask = mask_of(a, b, "target")
                    if picture == "target":
                        summand = builder.select(no_residual, shift, from_target(a, b, added))
                        y = y + _Vector(builder, load(builder, summand, mask)) + bias_beside_residual
                    store(builder, y.value, from_target(a, b), mask)

                # Memory is far away: the tiles below will want their last four rows, of which each tile asks for its first four columns.
                for a, b in itertools.product(range(size, size + 4), range(4)):
                    if picture == "source":
                        _prefetch(builder, from_source(a, b), write=False)
                    else:
                        _prefetch(builder, from_target(a, b), write=True)
                        _prefetch(builder, from_target(a, b, added), write=False)
                if picture == "target":  # the summand is the bias itself where there is no residual
                    whole_bias = load(builder, shift, lanes and builder.bitcast(lanes, MASK))
                    bias_beside_residual = _Vector(builder, builder.select(no_residual, zeros(), whole_bias))
                _apply(builder, formula, points_in, points_out, read, write)

            cut = builder.icmp_unsigned("!=", inside, word(((1 << size) - 1) * 0x101))
            with cgutils.for_range(builder, builder.udiv(builder.add(channels, word(WIDTH - 1)), word(WIDTH))) as loop:
                channel = builder.mul(loop.index, word(WIDTH))
                left = builder.sub(channels, channel)
                few = builder.icmp_signed("<", left, word(WIDTH))
                with builder.if_else(builder.or_(few, cut)) as (some, whole):
                    with some:
                        ones = builder.sub(builder.shl(word(1), builder.select(few, left, word(WIDTH))), word(1))
                        chunk(channel, builder.trunc(ones, LANES))
                    with whole:
                        chunk(channel, None)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10), generate

    return transform


def _prefetch(builder, place, write):
    """Bring a cache line near, to be read or to be written; any address will do."""
    i32, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [builder.inttoptr(place, pointer), i32(int(write)), i32(3), i32(1)])
