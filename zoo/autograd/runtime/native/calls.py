"""How a loop and a task are called: a task by the address of its compiled function, with arguments that lie one behind the other in memory."""

from llvmlite import ir
from numba import prange, types  # noqa: F401  (kernels take prange from here)

from .decorators import in_order, intrinsic
from .memory import pointer_to_integers, pointer_to_reals


@in_order
def integer_argument(arguments, i):
    return pointer_to_integers(arguments)[i]


@in_order
def real_argument(arguments, i):
    return pointer_to_reals(arguments)[i]


@intrinsic
def call_task(typing_context, function, t, tasks, arguments):
    """Call a task's compiled function, given by its address."""

    def generate(context, builder, signature, args):
        word = ir.IntType(64)
        function = builder.inttoptr(args[0], ir.FunctionType(ir.VoidType(), [word] * 3).as_pointer())
        builder.call(function, args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate
