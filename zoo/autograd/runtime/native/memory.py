"""Memory inside kernels: where an array lies, what lies at an address, and runs of floats copied or cleared."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array, populate_array

from .decorators import intrinsic
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


def _run_of(number, what):
    """(place, n) -> the n numbers that lie from an address on, as an array.

    What Numba's carray makes, without the four functions that it compiles for it.
    """
    kind = types.Array(number, 1, "C")

    def run(typing_context, place, n):
        def generate(context, builder, signature, args):
            size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(number)))
            array = make_array(kind)(context, builder)
            pointer = builder.inttoptr(args[0], context.get_data_type(number).as_pointer())
            populate_array(array, data=pointer, shape=[args[1]], strides=[size], itemsize=size, meminfo=None)
            return array._getvalue()

        return kind(types.intp, types.intp), generate

    run.__name__, run.__doc__ = what, f"The n {number} that lie from an address on, as an array."
    return intrinsic(run)


floats, integers = _run_of(types.float32, "floats"), _run_of(types.int64, "integers")
reals, booleans = _run_of(types.float64, "reals"), _run_of(types.uint8, "booleans")  # a bool is a byte
