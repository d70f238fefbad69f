"""The small matrices of Winograd's convolution, written once as formulas and turned into vector instructions.

A formula below maps the rows of a tile to the rows of its transform. It only adds and scales, so it runs on numbers and on arrays
(the tests compare it with the matrices of Lavin & Gray 2015), and on LLVM's vectors: `_tile_transform` applies it down the columns and
along the rows of a tile, for as many channels at a time as one register holds. Left to itself LLVM vectorises such loops less well
and takes seconds for it.

Importing this file imports Numba; `runtime.Native` does so when the first kernel needs it.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import FLOAT, VECTOR, WIDTH, load, mask, store, word


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


def _tile_transform(formula, points_in, points_out, add_bias=False):
    """An intrinsic f(source, row, column, target, target_row, target_column, bias, channels): one tile, all its channels.

    Addresses and strides are in bytes. Reads a tile (points_in, points_in, channels), writes (points_out, points_out, channels).
    With add_bias the (channels,) floats at `bias` are added to each output.
    """

    @intrinsic
    def transform(typing_context, source, row, column, target, target_row, target_column, bias, channels):
        def generate(context, builder, signature, args):
            source, row, column, target, target_row, target_column, bias, channels = args

            def at(base, stride_a, a, stride_b, b, offset):
                place = builder.add(builder.add(base, offset), builder.mul(stride_a, word(a)))
                return builder.add(place, builder.mul(stride_b, word(b)))

            def chunk(offset, lanes):
                """WIDTH channels of the tile; with a mask, those that are left."""

                def read(place):
                    return _Vector(builder, load(builder, place, lanes))

                columns = [
                    formula(*(read(at(source, row, a, column, b, offset)) for a in range(points_in))) for b in range(points_in)
                ]  # columns[b][a]: column b, transformed downwards
                start = read(builder.add(bias, offset)) if add_bias else None
                for a in range(points_out):
                    for b, y in enumerate(formula(*(columns[i][a] for i in range(points_in)))):
                        y = y + start if add_bias else y
                        store(builder, y.value, at(target, target_row, a, target_column, b, offset), lanes)

            whole = builder.udiv(channels, word(WIDTH))
            with cgutils.for_range(builder, whole) as loop:
                chunk(builder.mul(loop.index, word(4 * WIDTH)), None)
            rest = builder.urem(channels, word(WIDTH))
            with builder.if_then(builder.icmp_unsigned("!=", rest, word(0))):
                chunk(builder.mul(whole, word(4 * WIDTH)), mask(builder, rest))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8), generate

    return transform


input_tile = _tile_transform(transform_input, 6, 6)
output_tile = _tile_transform(transform_output, 6, 4, add_bias=True)
gradient_tile = _tile_transform(transform_gradient, 4, 6)
weight_tile = _tile_transform(transform_weight, 3, 6)
weight_gradient_tile = _tile_transform(transform_weight_gradient, 6, 3)
