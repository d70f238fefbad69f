"""What a task may call besides `native`: rows of memory as arrays, and other functions by their address.

Like `native`, it imports Numba, so only `runtime.Native` imports it, when the first kernel is built.
"""

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from .mathematics import _inner


def _pointer_to(number):
    @intrinsic
    def pointer(typing_context, place):
        target = types.CPointer(number)

        def generate(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(target))

        return target(types.intp), generate

    return pointer


_pointer_to_floats, _pointer_to_integers, _pointer_to_reals = map(_pointer_to, (types.float32, types.int64, types.float64))
_pointer_to_booleans = _pointer_to(types.uint8)


@_inner
def floats(place, n):
    """The n float32 that lie from an address on, as an array."""
    return carray(_pointer_to_floats(place), (n,))


@_inner
def integers(place, n):
    """The n int64 that lie from an address on, as an array."""
    return carray(_pointer_to_integers(place), (n,))


@_inner
def reals(place, n):
    """The n float64 that lie from an address on, as an array."""
    return carray(_pointer_to_reals(place), (n,))


@_inner
def booleans(place, n):
    """The n bool that lie from an address on, as an array of uint8."""
    return carray(_pointer_to_booleans(place), (n,))


@_inner
def minus_in_order(a, b, c):
    """(a - b) - c and not a - (b + c), where a large b would swallow c."""
    return (a - b) - c


@_inner
def integer_argument(arguments, i):
    return _pointer_to_integers(arguments)[i]


@_inner
def real_argument(arguments, i):
    return _pointer_to_reals(arguments)[i]


@intrinsic
def call_task(typing_context, function, t, tasks, arguments):
    """Call a task's compiled function, given by its address."""

    def generate(context, builder, signature, args):
        word = ir.IntType(64)
        function = builder.inttoptr(args[0], ir.FunctionType(ir.VoidType(), [word] * 3).as_pointer())
        builder.call(function, args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate
