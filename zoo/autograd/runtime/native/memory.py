"""Memory inside kernels: where an array lies, what lies at an address, and runs of floats copied or cleared."""

from llvmlite import ir
from numba import carray, types
from numba.core import cgutils

from .decorators import in_order, intrinsic
from .vectors import WORD


@intrinsic
def address(typing_context, array):
    """Where an array's first element lies, as an integer.

    Numba frees an array after the last statement that names it: a scratch array known only by its address needs `keep_alive` behind
    its last use.
    """

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, WORD)

    return types.intp(array), generate


@intrinsic
def keep_alive(typing_context, array):
    """Nothing, but it names the array: up to here its memory stays its own."""
    return types.void(array), lambda context, builder, signature, args: context.get_dummy_value()


@intrinsic
def copy_floats(typing_context, target, source, count):
    """Copy `count` float32 from one address to another."""

    def generate(context, builder, signature, args):
        target, source, count = args
        pointer = ir.IntType(8).as_pointer()
        cgutils.raw_memcpy(builder, builder.inttoptr(target, pointer), builder.inttoptr(source, pointer), count, 4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@intrinsic
def clear_floats(typing_context, target, count):
    """Set `count` float32 from an address on to 0."""

    def generate(context, builder, signature, args):
        target, count = args
        size = builder.mul(count, ir.Constant(count.type, 4))
        cgutils.memset(builder, builder.inttoptr(target, ir.IntType(8).as_pointer()), size, 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _pointer_to(number):
    @intrinsic
    def pointer(typing_context, place):
        target = types.CPointer(number)

        def generate(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(target))

        return target(types.intp), generate

    return pointer


pointer_to_floats, pointer_to_integers = _pointer_to(types.float32), _pointer_to(types.int64)
pointer_to_reals, pointer_to_booleans = _pointer_to(types.float64), _pointer_to(types.uint8)


@in_order
def floats(place, n):
    """The n float32 that lie from an address on, as an array."""
    return carray(pointer_to_floats(place), (n,))


@in_order
def integers(place, n):
    """The n int64 that lie from an address on, as an array."""
    return carray(pointer_to_integers(place), (n,))


@in_order
def reals(place, n):
    """The n float64 that lie from an address on, as an array."""
    return carray(pointer_to_reals(place), (n,))


@in_order
def booleans(place, n):
    """The n bool that lie from an address on, as an array of uint8."""
    return carray(pointer_to_booleans(place), (n,))
