"""How tasks are called: by the address of the compiled function, with arguments that lie one behind the other in memory."""

from llvmlite import ir
from numba import types
from numba.core import cgutils

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


@intrinsic
def call_product(typing_context, function, a, a_pitch, a_turned, b, b_pitch, b_turned, c, pitch, m, n, k, bias):
    """Call `multiply_tiled`, given by its address."""

    def generate(context, builder, signature, args):
        word = ir.IntType(64)
        function = builder.inttoptr(args[0], ir.FunctionType(ir.VoidType(), [word] * 12).as_pointer())
        builder.call(function, args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 13), generate


@intrinsic
def call_pool(typing_context, parallel_for, part, function, tasks, arguments, threads):
    """Call the C function by which Numba's pools share out a loop: its iterations are numbered, and each number goes to `part`.

    parallel_for(part, numbers, counts, steps, data, 0, 1, threads), the words of Numba's universal functions (numba/np/ufunc/*pool):
    here the number is a pointer that points nowhere, from 0 in steps of 1, and data are three words.
    """

    def generate(context, builder, signature, args):
        word, count = ir.IntType(64), ir.IntType(32)
        parallel_for, part, function, tasks, arguments, threads = args

        def memory(*values):
            place = cgutils.alloca_once(builder, word, size=len(values))
            for i, value in enumerate(values):
                builder.store(value, builder.gep(place, [ir.Constant(count, i)]))
            return builder.ptrtoint(place, word)

        zero, one = ir.Constant(word, 0), ir.Constant(word, 1)
        pool = builder.inttoptr(parallel_for, ir.FunctionType(ir.VoidType(), [word] * 7 + [count]).as_pointer())
        data = memory(function, tasks, arguments)
        builder.call(pool, [part, memory(zero), memory(tasks), memory(one), data, zero, one, builder.trunc(threads, count)])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate
