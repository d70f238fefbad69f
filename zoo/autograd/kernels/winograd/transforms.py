"""The small matrices of Winograd's convolution, written once as formulas and turned into vector instructions.

A formula below maps the rows of a tile to the rows of its transform. It only adds and scales, so it runs on numbers and on arrays
(the tests compare it with the matrices of Lavin & Gray 2015), and on LLVM's vectors: `_tile_transform` applies it down the columns and
along the rows of a tile, for as many channels at a time as one register holds. Left to itself LLVM vectorises such loops less well
and takes seconds for it.

Importing this file imports Numba; `runtime.Native` does so when the first kernel needs it.
"""

import itertools

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ...runtime.native.decorators import intrinsic
from ...runtime.native.vectors import FLOAT, VECTOR, WIDTH, load, mask, store, word, zeros


def transform_input(d0, d1, d2, d3, d4, d5):
    """B^T d, F(4, 3): six inputs to six points."""
    p, q = d4 - 4 * d2, d3 - 4 * d1
    r, s = d4 - d2, 2 * (d3 - d1)
    return 4 * d0 - 5 * d2 + d4, p + q, p - q, r + s, r - s, 4 * d1 - 5 * d3 + d5


def transform_output(y0, y1, y2, y3, y4, y5):
    """A^T y: six points to four outputs."""
    p, q, r, s = y1 + y2, y1 - y2, y3 + y4, y3 - y4
    return y0 + p + r, q + 2 * s, p + 4 * r, q + 8 * s + y5


def transform_gradient(g0, g1, g2, g3):
    """A g, the transpose of `transform_output`: the gradient of four outputs to that of six points."""
    p, q = g0 + g2, g1 + g3
    r, s = g0 + 4 * g2, 2 * g1 + 8 * g3
    return g0, p + q, p - q, r + s, r - s, g3


def transform_weight(w0, w1, w2):
    """G w: three taps to six points."""
    p, q = (w0 + w2) * (1 / 6), w1 * (1 / 6)
    r, s = w0 * (1 / 24) + w2 * (1 / 6), w1 * (1 / 12)
    return w0 * (1 / 4), -p - q, q - p, r + s, r - s, w2


def transform_weight_gradient(u0, u1, u2, u3, u4, u5):
    """G^T u, the transpose of `transform_weight`: the gradient of six points to that of three taps."""
    p, q, r, s = u1 + u2, u2 - u1, u3 + u4, u3 - u4
    return u0 * (1 / 4) - p * (1 / 6) + r * (1 / 24), q * (1 / 6) + s * (1 / 12), (r - p) * (1 / 6) + u5


# --- from a formula to machine code ------------------------------------------------------------------------------------------


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


def _place(builder, base, row, a, column, b, offset):
    """The address of channel `offset / 4` of pixel (a, b)."""
    place = builder.add(builder.add(base, offset), builder.mul(row, word(a)))
    return builder.add(place, builder.mul(column, word(b)))


def _apply(builder, formula, points_in, points_out, read, write):
    """write(a, b, value) for each point of the tile read(a, b), transformed downwards and then along."""
    columns = [formula(*(_Vector(builder, read(a, b)) for a in range(points_in))) for b in range(points_in)]
    for a in range(points_out):
        for b, y in enumerate(formula(*(columns[i][a] for i in range(points_in)))):
            write(a, b, y)


def _tile_transform(formula, points_in, points_out, add_bias=False):
    """An intrinsic f(source, row, column, target, target_row, target_column, bias, channels): one tile, all its channels.

    Addresses and strides are in bytes. Reads a tile (points_in, points_in, channels), writes (points_out, points_out, channels).
    With add_bias the (channels,) floats at `bias` are added to each output.
    """

    @intrinsic
    def transform(typing_context, source, row, column, target, target_row, target_column, bias, channels):
        def generate(context, builder, signature, args):
            source, row, column, target, target_row, target_column, bias, channels = args

            def chunk(offset, lanes):
                """WIDTH channels of the tile; with a mask, those that are left."""
                start = _Vector(builder, load(builder, builder.add(bias, offset), lanes)) if add_bias else None

                def read(a, b):
                    return load(builder, _place(builder, source, row, a, column, b, offset), lanes)

                def write(a, b, y):
                    y = y + start if add_bias else y
                    store(builder, y.value, _place(builder, target, target_row, a, target_column, b, offset), lanes)

                _apply(builder, formula, points_in, points_out, read, write)

            whole = builder.udiv(channels, word(WIDTH))
            with cgutils.for_range(builder, whole) as loop:
                chunk(builder.mul(loop.index, word(4 * WIDTH)), None)
            rest = builder.urem(channels, word(WIDTH))
            with builder.if_then(builder.icmp_unsigned("!=", rest, word(0))):
                chunk(builder.mul(whole, word(4 * WIDTH)), mask(builder, rest))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8), generate

    return transform


LANES = ir.IntType(WIDTH)  # a bit for each float of a register
MASK = ir.VectorType(ir.IntType(1), WIDTH)


def _picture_transform(formula, points_in, points_out, picture):
    """As `_tile_transform`, for a tile whose source or target, as `picture` says, lies in a picture: its edge may cut the tile.

    Pixel (a, b) is inside the picture if bits a and 8 + b of `inside` are set; one outside is read as 0, and isn't written. To a target
    (channels,) floats at `bias` are added at each pixel, and, unless it is 0, what lies `residual` bytes after the pixel.
    """
    size = points_in if picture == "source" else points_out

    @intrinsic
    def transform(typing_context, source, row, column, target, target_row, target_column, channels, inside, bias, residual):
        def generate(context, builder, signature, args):
            source, row, column, target, target_row, target_column, channels, inside, bias, residual = args
            alone = builder.icmp_unsigned("==", residual, word(0))

            def chunk(offset, lanes):
                """As many channels of the tile as a register holds, or those whose bits are set in lanes."""
                shift = builder.add(bias, offset)

                def mask_of(a, b, name):
                    bits = lanes
                    for bit in (a, 8 + b) if lanes and name == picture else ():
                        is_set = builder.trunc(builder.lshr(inside, word(bit)), ir.IntType(1))
                        bits = builder.and_(bits, builder.sext(is_set, LANES))
                    return bits and builder.bitcast(bits, MASK)

                def from_source(a, b):
                    return _place(builder, source, row, a, column, b, offset)

                def from_target(a, b):
                    return _place(builder, target, target_row, a, target_column, b, offset)

                def read(a, b):
                    return load(builder, from_source(a, b), mask_of(a, b, "source"))

                def write(a, b, y):
                    mask = mask_of(a, b, "target")
                    if picture == "target":
                        more = builder.select(alone, shift, builder.add(from_target(a, b), residual))
                        y = y + _Vector(builder, load(builder, more, mask)) + both
                    store(builder, y.value, from_target(a, b), mask)

                # Memory is far away: the tiles below will want their last four rows, of which each tile asks for its first four columns.
                for a, b in itertools.product(range(size, size + 4), range(4)):
                    if picture == "source":
                        _prefetch(builder, from_source(a, b), write=False)
                    else:
                        _prefetch(builder, from_target(a, b), write=True)
                        _prefetch(builder, builder.add(from_target(a, b), residual), write=False)
                if picture == "target":  # `more` is the bias itself where there is nothing else
                    both = _Vector(builder, builder.select(alone, zeros(), load(builder, shift, lanes and builder.bitcast(lanes, MASK))))
                _apply(builder, formula, points_in, points_out, read, write)

            cut = builder.icmp_unsigned("!=", inside, word(((1 << size) - 1) * 0x101))
            with cgutils.for_range(builder, builder.udiv(builder.add(channels, word(WIDTH - 1)), word(WIDTH))) as loop:
                offset = builder.mul(loop.index, word(4 * WIDTH))
                left = builder.sub(channels, builder.mul(loop.index, word(WIDTH)))
                few = builder.icmp_signed("<", left, word(WIDTH))
                with builder.if_else(builder.or_(few, cut)) as (some, whole):
                    with some:
                        ones = builder.sub(builder.shl(word(1), builder.select(few, left, word(WIDTH))), word(1))
                        chunk(offset, builder.trunc(ones, LANES))
                    with whole:
                        chunk(offset, None)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10), generate

    return transform


def _prefetch(builder, place, write):
    """Bring a cache line near, to be read or to be written; any address will do."""
    i32, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [builder.inttoptr(place, pointer), i32(int(write)), i32(3), i32(1)])


input_tile = _picture_transform(transform_input, 6, 6, "source")
output_tile = _picture_transform(transform_output, 6, 4, "target")
gradient_tile = _picture_transform(transform_gradient, 4, 6, "source")
weight_tile = _tile_transform(transform_weight, 3, 6)
weight_gradient_tile = _tile_transform(transform_weight_gradient, 6, 3)
