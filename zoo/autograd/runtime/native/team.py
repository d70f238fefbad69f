"""How the threads of one task wait for each other, in nanoseconds: by words of memory that they watch.  Arguments are addresses of int64.

A parallel loop takes some microseconds to begin and end; within one, a word that another core writes is seen after a tenth of one.  Nobody
may wait for a thread that hasn't come yet, since a pool may run its tasks one after the other.

Like all of this folder but its own file, it imports Numba.
"""

import os
import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .decorators import intrinsic
from .vectors import WORD, word

LOOKS_BEFORE_YIELD = 1 << 14  # at a word, before the core is offered to others: half a millisecond, longer than anybody at work takes


def _at(builder, place):
    return builder.inttoptr(place, WORD.as_pointer())


@intrinsic
def count_arrival(typing_context, place):
    """Count 1 more in the word; how many had come before."""
    return types.intp(types.intp), lambda context, builder, signature, args: builder.atomic_rmw("add", _at(builder, args[0]), word(1), "acq_rel")


@intrinsic
def publish(typing_context, place, value):
    """Write the word; who sees it sees all that was written before it."""

    def generate(context, builder, signature, args):
        builder.store_atomic(args[1], _at(builder, args[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def look(typing_context, place):
    """The word as it is now."""
    return types.intp(types.intp), lambda context, builder, signature, args: builder.load_atomic(_at(builder, args[0]), "acquire", 8)


@intrinsic
def wait_until(typing_context, place, least):
    """Wait until the word is at least so much; what it is then."""

    def generate(context, builder, signature, args):
        place, least = _at(builder, args[0]), args[1]
        looks = cgutils.alloca_once_value(builder, word(0))
        waiting, done = builder.append_basic_block("waiting"), builder.append_basic_block("done")
        idle = builder.append_basic_block("idle")
        builder.branch(waiting)
        builder.position_at_end(waiting)
        value = builder.load_atomic(place, "acquire", 8)
        builder.cbranch(builder.icmp_signed(">=", value, least), done, idle)
        builder.position_at_end(idle)
        builder.store(builder.add(builder.load(looks), word(1)), looks)
        _rest(builder)
        with builder.if_then(builder.icmp_signed(">", builder.load(looks), word(LOOKS_BEFORE_YIELD))):
            _offer_the_core(builder)
        builder.branch(waiting)
        builder.position_at_end(done)
        return value

    return types.intp(types.intp, types.intp), generate


def _rest(builder):
    """Leave a core's other thread the arithmetic, where it has two."""
    if platform.machine().lower() in ("x86_64", "amd64", "i686"):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])


def _offer_the_core(builder):
    """Where there are fewer cores than threads, the one that is waited for may need this one."""
    if os.name == "posix":
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
