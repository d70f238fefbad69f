"""A tile of a float32 product whose sums stay in registers, while a packed panel of the right factor goes by (Goto & van de Geijn 2008).

A strip of the left factor is packed too, (steps, PRODUCT_ROWS); where the sums go is fetched meanwhile.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .decorators import intrinsic
from .vectors import REGISTERS, VECTOR, WIDTH, add_products, at, fetch_ahead, load, store, word

PRODUCT_ROWS = 12 if REGISTERS == 32 else 6  # of a tile, two registers each; two more hold a row of the panel
PRODUCT_COLUMNS = 2 * WIDTH
_HALVES = range(2)
_LANES = ir.VectorType(ir.IntType(32), WIDTH)
_UNROLLED = 4  # steps of the loop behind each other


def _add_step(builder, sums, t, strip, panel):
    """sums += step t of a strip, a column, times step t of a panel, a row."""
    column = at(builder, strip, builder.mul(t, word(PRODUCT_ROWS)))
    places = [at(builder, column, word(r)) for r in range(PRODUCT_ROWS)]
    add_products(builder, sums, places, at(builder, panel, builder.mul(t, word(PRODUCT_COLUMNS))), (None, None))


@intrinsic
def tile_of_product(typing_context, count, strip, panel, c, pitch, start):
    """c[r, :PRODUCT_COLUMNS] = start + sum over t < count of strip[t, r] panel[t, :], for r < PRODUCT_ROWS; rows of c are `pitch` floats apart.

    start: the address of PRODUCT_COLUMNS numbers to begin with, 0 for those that c holds.
    """

    def generate(context, builder, signature, args):
        count, strip, panel, c, pitch, start = args
        sums = [[cgutils.alloca_once(builder, VECTOR) for _ in _HALVES] for _ in range(PRODUCT_ROWS)]
        targets = [at(builder, c, builder.mul(pitch, word(r))) for r in range(PRODUCT_ROWS)]
        for target in targets:
            fetch_ahead(builder, target)
        is_new = builder.icmp_signed("!=", start, word(0))
        for h in _HALVES:
            with builder.if_else(is_new) as (new, old):
                with new:
                    first = load(builder, at(builder, start, word(WIDTH * h)))
                    for totals in sums:
                        builder.store(first, totals[h])
                with old:
                    for target, totals in zip(targets, sums, strict=True):
                        builder.store(load(builder, at(builder, target, word(WIDTH * h))), totals[h])
        groups = builder.udiv(count, word(_UNROLLED))
        with cgutils.for_range(builder, groups) as group:
            first = builder.mul(group.index, word(_UNROLLED))
            for i in range(_UNROLLED):
                _add_step(builder, sums, builder.add(first, word(i)), strip, panel)
        begun = builder.mul(groups, word(_UNROLLED))
        with cgutils.for_range(builder, builder.sub(count, begun)) as rest:
            _add_step(builder, sums, builder.add(begun, rest.index), strip, panel)
        for target, totals in zip(targets, sums, strict=True):
            for h, total in enumerate(totals):
                store(builder, builder.load(total), at(builder, target, word(WIDTH * h)))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), generate


@intrinsic
def turn_square(typing_context, source, pitch, last, target, width):
    """target[t width + j] = source[min(j, last) pitch + t] for j and t < WIDTH, in the order of t.

    Halves change places, then quarters of the halves, and so on (Eklundh 1972).
    """

    def generate(context, builder, signature, args):
        source, pitch, last, target, width = args
        lines = []
        for j in range(WIDTH):
            line = builder.select(builder.icmp_signed("<", word(j), last), word(j), last)
            lines.append(load(builder, at(builder, source, builder.mul(pitch, line))))
        distance = WIDTH // 2
        while distance:
            upper = [lane if not lane & distance else lane - distance + WIDTH for lane in range(WIDTH)]  # from WIDTH on: the other's lanes
            lower = [lane + distance if not lane & distance else lane + WIDTH for lane in range(WIDTH)]
            for j in range(WIDTH):
                if not j & distance:
                    one, other = lines[j], lines[j + distance]
                    lines[j], lines[j + distance] = (builder.shuffle_vector(one, other, ir.Constant(_LANES, lanes)) for lanes in (upper, lower))
            distance //= 2
        for t, line in enumerate(lines):
            store(builder, line, at(builder, target, builder.mul(width, word(t))))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate
