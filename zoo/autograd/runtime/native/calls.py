"""How a loop and a task are called: a task by the address of its compiled function, with arguments that lie one behind the other in memory."""

from llvmlite import ir
from numba import prange, types  # noqa: F401  (kernels take prange from here)

from .decorators import intrinsic


def _argument(kind, llvm_kind):
    """One of a call's arguments, 64 bits each.  A function that is compiled would be compiled again for each constant i."""

    def generate(context, builder, signature, args):
        place = builder.add(args[0], builder.mul(args[1], ir.Constant(ir.IntType(64), 8)))
        return builder.load(builder.inttoptr(place, llvm_kind.as_pointer()))

    return kind(types.int64, types.int64), generate


@intrinsic
def integer_argument(typing_context, arguments, i):
    return _argument(types.int64, ir.IntType(64))


@intrinsic
def real_argument(typing_context, arguments, i):
    return _argument(types.float64, ir.DoubleType())


@intrinsic
def call_task(typing_context, function, t, tasks, arguments):
    """Call a task's compiled function, given by its address."""

    def generate(context, builder, signature, args):
        word = ir.IntType(64)
        function = builder.inttoptr(args[0], ir.FunctionType(ir.VoidType(), [word] * 3).as_pointer())
        builder.call(function, args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def call_on_row(typing_context, function, y, derivative, n, alpha):
    """Call an activation's compiled function, given by its address."""

    def generate(context, builder, signature, args):
        word = ir.IntType(64)
        function = builder.inttoptr(args[0], ir.FunctionType(ir.VoidType(), [word, word, word, ir.FloatType()]).as_pointer())
        builder.call(function, args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, types.float32), generate
