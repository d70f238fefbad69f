"""Tasks: the work of a kernel cut into parts, which one parallel loop hands to the threads.

    @task
    def double(t, tasks, x, y, n, factor: float):          # part t of tasks; x and y are addresses, n an integer
        first, last = part(t, tasks, n, RUN_FLOATS), part(t + 1, tasks, n, RUN_FLOATS)
        source, target = span(x, first, last), span(y, first, last)
        for i in range(source.size):
            target[i] = factor * source[i]

    double(x, y, x.size, 2.0)                               # arrays are handed over as their addresses

Numba takes most of a second for the parallel loop around a kernel, and compiles the kernel again for every mixture of argument types
(a read-only array is another type). Here the loop is that of Numba's pool of threads, called with a task's address, and a task is compiled
once, alone.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import itertools
import struct
import threading
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from . import threads
from .compiling import Compiled, Separate, inner, separate
from .contention import is_crowded
from .native import call_pool, call_task, floats, integer_argument, integers, real_argument
from .switch import FORKED
from .threads import get_threads

Address = Any  # of an array's first element: in a call the array itself, in a task an integer


# --- where things lie: the only place, besides `native`, that knows how many bytes a number takes

FLOAT32 = np.dtype(np.float32)
FLOAT_BYTES, WORD_BYTES = 4, 8  # of a float32; of an int64, a float64 or an address
L1_FLOATS = 1 << 13  # what the nearest cache holds, 32 kB
CHUNK_FLOATS = L1_FLOATS // 2  # what a pass over memory takes at a time, so that there is room for as much besides
RUN_FLOATS = 16  # a row is shared out in runs of so many, which fill registers


@inner
def at(x, i):
    """The address of float i of those at x: C's `x + i`."""
    return x + FLOAT_BYTES * i


@inner
def row_address(x, i, n):
    """The address of row i of a matrix at x with n floats in a row: C's `x + i * n`."""
    return x + FLOAT_BYTES * i * n


@inner
def row(x, i, n):
    """Row i of a matrix at x with n floats in a row, as an array."""
    return floats(x + FLOAT_BYTES * i * n, n)


@inner
def span(x, first, last):
    """Floats first to last - 1 of those at x, as an array."""
    return floats(x + FLOAT_BYTES * first, last - first)


@inner
def word_at(x, i):
    """The address of int64 (or float64) i of those at x."""
    return x + WORD_BYTES * i


@inner
def integer_row(x, i, n):
    """Row i of a matrix at x with n int64 in a row, as an array."""
    return integers(x + WORD_BYTES * i * n, n)


# --- tasks


@inner
def part(t, tasks, n, multiple):
    """Where part t of n things starts if tasks share them in runs of `multiple`."""
    return min(n, (n + multiple - 1) // multiple * t // tasks * multiple)


@separate("void(intp, intp, intp, intp)")
def _run_parts(numbers, counts, steps, call):
    """What the pool calls with some of the parts' numbers, and with what `call_pool` has told it: function, tasks and arguments."""
    first, count, words = integers(numbers, 1)[0], integers(counts, 1)[0], integers(call, 3)
    for t in range(first, first + count):
        call_task(words[0], t, words[1], words[2])


@separate("void(intp, intp, intp, intp, intp, intp)")
def _share_out(parallel_for, part, function, tasks, arguments, threads):
    call_pool(parallel_for, part, function, tasks, arguments, min(tasks, threads))


class _Pool(NamedTuple):
    """Where the pool's code lies, and how it is called."""

    share_out: Callable[[int, int, int, int, int, int], None]
    parallel_for: int
    run_parts: int


_pool: _Pool | None = None


def _run_on_pool(function: int, tasks: int, arguments: int) -> None:
    """Run a task's compiled function on all threads."""
    global _pool
    if _pool is None:
        _pool = _Pool(ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)(_share_out.load()), threads.parallel_for, _run_parts.load())
    share_out, parallel_for, run_parts = _pool
    if threads.one_at_a_time is None:
        share_out(parallel_for, run_parts, function, tasks, arguments, get_threads())
    else:
        with threads.one_at_a_time:
            share_out(parallel_for, run_parts, function, tasks, arguments, get_threads())


class _Body(Compiled):
    def _options(self):
        return {**super()._options(), "inline": "always"}  # compiled once, as a part of the task


class Task(Separate):
    """A function (t, tasks, *addresses and numbers); called, it runs for t = 0 ... tasks - 1 on all threads."""

    def __init__(self, function):
        name, count = function.__name__, itertools.count()  # of the words read so far
        names: dict[str, Any] = {"body": _Body(function), "__name__": function.__module__,
                                 "integer_argument": integer_argument, "real_argument": real_argument}

        def read(kind):
            """The expression that reads an argument; of a NamedTuple, field by field."""
            if not hasattr(kind, "_fields"):
                value = f"{'real' if kind is float else 'integer'}_argument(arguments, {next(count)})"
                return f"{value} != 0" if kind is bool else value
            names[kind.__name__] = kind
            return f"{kind.__name__}({', '.join(f'{field}={read(field_kind)}' for field, field_kind in get_type_hints(kind).items())})"

        parameters = list(inspect.signature(function, eval_str=True).parameters.values())[2:]
        expressions = ", ".join(read(p.annotation) for p in parameters)
        exec(f"def {name}(t, tasks, arguments):\n    body(t, tasks, {expressions})", names)
        reader: Any = names[name]
        reader.__doc__ = function.__doc__
        super().__init__(reader, "void(int64, int64, int64)")
        self.reads, self.takes_tuples = next(count), any(hasattr(p.annotation, "_fields") for p in parameters)
        self.on_this_thread: Callable[[int, int, int], None] | None = None

    def load(self) -> int:
        address = super().load()
        if self.on_this_thread is None:
            self.on_this_thread = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(address)
        return address

    def __call__(self, *values, tasks=None):
        """tasks: into how many parts the work is cut; as many as there are threads unless given."""
        arguments = self.arguments(*values)
        if calls.log is not None:
            calls.log.append(Call(self, self.flat(values), arguments, tasks or get_threads()))
        self.run(arguments.buffer_info()[0], tasks or get_threads())

    def flat(self, values: tuple) -> tuple:
        """The arguments of a call, with the fields of structs one by one."""
        return tuple(field for v in values for field in (v if isinstance(v, tuple) else (v,))) if self.takes_tuples else values

    def arguments(self, *values: Any) -> array:
        """A call's arguments as the task reads them.  Who keeps them for many calls keeps what they are the addresses of, too."""
        values = self.flat(values)
        assert len(values) == self.reads, (self.__name__, len(values), self.reads)
        return array("q", [v if type(v) is int else address_of(v) if type(v) is np.ndarray else _word(v) for v in values])

    def run(self, arguments: int, tasks: int) -> None:
        """Call it with the arguments that lie at an address."""
        if threads.forked:
            raise RuntimeError(FORKED)
        if self.on_this_thread is None:
            self.load()
        if tasks == 1:
            self.on_this_thread(0, 1, arguments)  # type: ignore[misc]
        elif is_crowded():
            for t in range(tasks):
                self.on_this_thread(t, tasks, arguments)  # type: ignore[misc]
        else:
            _run_on_pool(self.address, tasks, arguments)


class Call(NamedTuple):
    """One call of a task, which can be repeated while the arrays live."""

    task: Task
    values: tuple
    arguments: array  # the same as words
    tasks: int

    def repeated(self) -> Callable[[], Any]:
        """A function that runs it again, on the arrays as they are then."""
        if self.task.on_this_thread is None:
            self.task.load()
        if self.tasks == 1:
            assert self.task.on_this_thread is not None
            return functools.partial(self.task.on_this_thread, 0, 1, self.arguments.buffer_info()[0])
        return functools.partial(self.task.run, self.arguments.buffer_info()[0], self.tasks)


class _Calls(threading.local):
    log: list[Call] | None = None  # of this thread, where somebody writes it down


calls = _Calls()


def address_of(array: np.ndarray) -> int:
    """Where an array's first element lies.  The second way serves every array, but takes a microsecond: three times as long."""
    if array.flags.carray:
        return ctypes.addressof(_bytes_of(array))
    return array.__array_interface__["data"][0]


_bytes_of: Any = (ctypes.c_char * 0).from_buffer


def _word(v) -> int:
    """An argument as 64 bits: an array's address, a number itself; None is 0."""
    if isinstance(v, np.ndarray):
        return address_of(v)
    if isinstance(v, (float, np.floating)):
        return struct.unpack("q", struct.pack("d", v))[0]
    return 0 if v is None else int(v)


def task(function) -> Task:
    """Decorator: a part of a kernel's work. Arrays are addresses, numbers int64, or as they are annotated: `float` (float64) or `bool`.

    An argument that is annotated with a NamedTuple (a struct of sizes, say) is handed over field by field, and is one again inside.
    """
    return Task(function)


@task
def run_in_order(t, tasks, functions, arguments, count):
    """Run `count` tasks, one after the other and each as one part, by the addresses of their functions and arguments."""
    function, argument = integers(functions, count), integers(arguments, count)
    for i in range(count):
        call_task(function[i], 0, 1, argument[i])


def joined(calls: list[Call]) -> Call:
    """One call for several of one part each."""
    for call in calls:
        if call.task.on_this_thread is None:
            call.task.load()
    functions = np.array([call.task.address for call in calls], np.int64)
    arguments = np.array([call.arguments.buffer_info()[0] for call in calls], np.int64)
    values = functions, arguments, len(calls)
    return Call(run_in_order, values, run_in_order.arguments(*values), 1)


def tasks_for(entries: int) -> int:
    """How many threads a pass over so many entries is worth: one for each cacheful."""
    return min(get_threads(), 1 + entries // L1_FLOATS)


def is_float32(*arrays) -> bool:
    """Whether all are float32 arrays; a number or an array of integers isn't."""
    for a in arrays:  # a loop, since a generator takes as long as all that it asks
        if not isinstance(a, np.ndarray) or not (a.dtype is FLOAT32 or a.dtype == FLOAT32):
            return False
    return True
