"""A step that runs once while all that it computes is written down, as calls that compute it again in the same memory.

Most operations that have a kernel come down to one or two tasks, each a call of compiled code with the addresses of arrays.  To compute such an
operation again is to run its tasks again: no argument is looked at, nothing is allocated, and the arrays that the tasks write to are those that
the next operation's tasks read.  What can't be had by tasks alone is computed as it was, by the kernel's Python or the definition in NumPy, and
copied to where it was before.  A view needs no call at all: it shows what lies in its array now.

Whether tasks are all that an operation does is found out: they run once more on memory of their own, which holds garbage, and have to leave
there what the operation returned, bit for bit (`tasks_suffice`).  A copy that a kernel makes of an argument before, or a sum that NumPy takes
afterwards, gives it away.
"""

from __future__ import annotations

import functools
import itertools
import sys
from array import array as words
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..operation import Operation
from ..operators import ops
from ..runtime.tasks import Call, address_of, calls, joined
from ..tensor import Node, Source, Tensor, _Sums, path_between, source, state
from .reachable import memory_of

GARBAGE = 0xA5  # what each byte of memory holds before tasks run in it
MOST_BYTES = 1 << 28  # of a step's intermediate values: larger steps gain nothing, and would hold them all the time
ENGINE = str(Path(__file__).parent.parent)


class Writer:
    """Collects calls, each of which computes arrays from other arrays, in place."""

    def __init__(self) -> None:
        self.calls: list[Call | Callable[[], Any]] = []

    def write(self, tasks: Sequence[Call], given: Sequence[np.ndarray], made: Sequence[np.ndarray], otherwise: Callable[[], Any]) -> bool:
        """Append what computes `made` from `given` again: the tasks if they do (True), else the call `otherwise`."""
        if tasks and tasks_suffice(tasks, given, made):
            self.calls += tasks
            return True
        self.calls.append(otherwise)
        return False

    def functions(self) -> list[Callable[[], Any]]:
        """The calls as functions: tasks of one part that follow each other are one.  Memory that
        tasks have only the addresses of lives as long as `calls`."""
        functions: list[Callable[[], Any]] = []
        for alone, several in itertools.groupby([*self.calls], lambda call: isinstance(call, Call) and call.tasks == 1):
            group: list[Any] = [*several]
            if alone and len(group) > 1:
                group = [joined(group)]
                self.calls.append(group[0])
            functions += [call.repeated() if isinstance(call, Call) else call for call in group]
        return functions

    def copy(self, to: np.ndarray, values: np.ndarray) -> None:
        self.calls.append(functools.partial(np.copyto, to, values))


class Recorder(Writer):
    """While it is on, in this thread, operations are written down.  `reason` says why what ran can't be replayed, None if it can."""

    def __init__(self) -> None:
        super().__init__()
        self.reason: str | None = None
        self.origins: dict[Tensor, int] = {}  # each value that depends on inputs or parameters -> its number
        self.of_arrays: set[Tensor] = set()  # those values that are arrays where the step runs as it is: made from nothing but arrays
        self.leaves: dict[Tensor, np.ndarray] = {}  # tensors from outside, with their values when they were read
        self.constants: set[int] = set()  # the memory of arrays that operations are given as they are, by identity
        self.seen: list[tuple] = []  # what ran, and with which constants
        self.bytes = 0  # of values, and of what kernels have saved for backward
        self.loose: set[Node] = set()  # nodes whose `saved` is another object each time

    def __enter__(self) -> Recorder:
        self.before, state.recorder, calls.log = (state.recorder, calls.log), self, []
        return self

    def __exit__(self, *error: object) -> None:
        state.recorder, calls.log = self.before

    def cannot_replay(self, reason: str) -> None:
        if self.reason is None:
            self.reason = f"{reason}{_place() if state.recorder is self else ''}"

    def values_are_read(self, x: Tensor) -> None:
        """The step looks at numbers outside of operations: what it does with them isn't seen."""
        self.cannot_replay("the values of a tensor are read outside of operations")

    def forget_calls(self) -> None:
        """Hold only what a second recording is compared with."""
        self.calls, self.loose = [], set()
        if self.reason is not None:
            self.seen, self.origins, self.leaves = [], {}, {}

    def detached(self, x: Tensor) -> Tensor:
        y = Tensor(x._data)
        self.seen.append(("detach", self._origin(x)))
        self.origins[y] = len(self.origins)
        if x in self.of_arrays:
            self.of_arrays.add(y)
        return y

    def checks(self, x: Tensor, check: Callable[[np.ndarray], Any]) -> None:
        """The step has looked at numbers only to raise an error where they are wrong."""
        self.calls.append(functools.partial(check, x._data))

    def _origin(self, a: Any) -> Any:
        """Where an argument comes from: the number of a value, or itself: a tensor from outside, or a constant."""
        if not isinstance(a, Tensor):
            return Constant(a)
        if a in self.origins:
            return self.origins[a]
        if a.node is not None:
            self.cannot_replay("it reads the result of an operation that ran outside of it")
        self.leaves[a] = a._data
        return a

    def ran(self, operation: Operation, result: Tensor, saved: Any, args: Sequence, arrays: Sequence, settings: dict) -> None:
        """Told by each operation that has computed a tensor."""
        tasks, calls.log = calls.log or [], []
        seen = (operation, *map(self._origin, args), Constant(settings))
        self.origins[result] = len(self.origins)
        if all(a in self.of_arrays for a in args if isinstance(a, Tensor)):
            self.of_arrays.add(result)
        if self.reason is not None:
            return
        self.seen.append(seen)
        self.constants.update(id(memory_of(a)) for a in arrays_in((*(a for a in args if not isinstance(a, Tensor)), settings)))
        for a, array in zip(args, arrays):
            values = a._data if isinstance(a, Tensor) else a
            if isinstance(values, np.ndarray) and array is not values:  # made contiguous
                self.copy(array, values)
        if operation.checker is not None and any(isinstance(a, np.ndarray) and a.dtype.kind in "iub" for a in arrays):  # indices may be wrong
            self.calls.append(functools.partial(operation.checker, *arrays, **settings))
        y, node, given, made = result._data, result.node, [*arrays_in((*arrays, settings))], [*arrays_in(saved)]
        if made or not any(np.may_share_memory(y, a) for a in given):  # else it is a view
            self.bytes += sum(a.nbytes for a in (y, *made))
            if self.bytes > MOST_BYTES:
                self.cannot_replay(f"its intermediate values take more than {MOST_BYTES >> 20} MB")
            again: Callable = functools.partial(_compute_again, operation, arrays, settings, y, node)
            if not any(a.dtype.kind in "iu" for a in given) and operation.by_kernel(arrays, settings) is NotImplemented:  # nor will it be again
                again = functools.partial(_define_again, operation.definition, arrays, settings, y)
            calls.log = []
            if not self.write(tasks, given, [y, *made], again) and node is not None:
                self.loose.add(node)

    def differs_from(self, other: Recorder) -> str | None:
        """What isn't the same in two recordings of a step: a reason why neither can be replayed."""
        for one, two in zip(self.seen, other.seen):
            if one[0] is not two[0]:
                break
            for i, (a, b) in enumerate(zip(one[1:], two[1:])):
                if not _alike(a, b):
                    return f"{_name(one[0])} is given another {'constant' if i < len(one) - 2 else 'setting'} from one call to the next"
        if len(self.seen) != len(other.seen):
            return "it runs other operations from one call to the next"
        return None


class Constant:
    """An argument or a setting that no operation computed."""

    def __init__(self, value: Any):
        self.value = value


def _name(what: Any) -> str:
    return what if isinstance(what, str) else what.__name__


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, Constant) and isinstance(b, Constant):
        return same(a.value, b.value)
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a is not b:  # made anew inside the step: fine if it is the same each time
        return not a._leaf and not b._leaf and a._data is not b._data and same(a._data, b._data)
    return a is b or (type(a) is int and a == b)


def same(a: Any, b: Any) -> bool:
    """Whether two constants are the same, in type and value."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(same, a.values(), b.values()))
    if isinstance(a, slice):
        return same((a.start, a.stop, a.step), (b.start, b.stop, b.step))
    return isinstance(a, (bool, int, float, str, np.generic, np.dtype)) and (a == b or (a != a and b != b))


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from arrays_in(part)
    elif isinstance(value, dict):
        yield from arrays_in(tuple(value.values()))


def tasks_suffice(tasks: Sequence[Call], given: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> bool:
    """Whether these calls compute `made` from `given` and from nothing else, bit for bit."""
    from_outside = {id(memory_of(a)) for a in given}
    others: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # memory that is neither given nor of constants, and as much that holds garbage
    repeated: list[tuple[Call, words]] = []
    for call in tasks:
        moved = words("q", call.arguments)
        for i, value in enumerate(call.values):
            if isinstance(value, np.ndarray) and id(memory_of(value)) not in from_outside:
                memory = memory_of(value)
                if memory.dtype.kind != "f" or not memory.flags.forc:  # a table that was computed, or words by which threads meet
                    return False
                if id(memory) not in others:
                    other = np.empty_like(memory)
                    other.reshape(-1, order="A").view(np.uint8)[...] = GARBAGE
                    others[id(memory)] = memory, other
                moved[i] += address_of(others[id(memory)][1]) - address_of(memory)
        repeated.append((call, moved))
    results = {id(memory_of(a)) for a in made} - from_outside
    if not results <= others.keys():
        return False
    for call, moved in repeated:
        call.task.run(moved.buffer_info()[0], call.tasks)
    return all(others[i][0].tobytes("A") == others[i][1].tobytes("A") for i in results)


def _compute_again(operation: Operation, arrays: Sequence, settings: dict, y: np.ndarray, node: Node | None) -> None:
    result = operation.by_kernel(arrays, settings)
    new, saved = (operation.definition(*arrays, **settings), None) if result is NotImplemented else result
    _overwrite(y, np.asarray(new))
    if node is not None:
        node.saved = saved


def _define_again(definition: Callable, arrays: Sequence, settings: dict, y: np.ndarray) -> None:
    _overwrite(y, np.asarray(definition(*arrays, **settings)))


def _overwrite(old: np.ndarray, new: np.ndarray) -> None:
    """Put what was computed again into the memory of what was there, of which both may be views: with the same steps between entries."""
    np.copyto(old if old.base is None else memory_of(old), new if new.base is None else memory_of(new))


def _place() -> str:
    """The line of the step, or of what it calls, that runs now."""
    frame = sys._getframe(2)
    while frame is not None and (frame.f_code.co_filename.startswith(ENGINE) or not frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    return "" if frame is None else f" ({'/'.join(Path(frame.f_code.co_filename).parts[-2:])}, line {frame.f_lineno})"


# --- backward


class Backward(Writer):
    """The walk from one result back to leaves (`tensor.fast_walk`), written down.  Calls read what arrives at the outputs from `arrived`."""

    def __init__(self, outputs: Sequence[Tensor], arrived: Sequence[np.ndarray], leaves: Sequence[Tensor], loose: set[Node]):
        super().__init__()
        self.arrived, self.loose = [np.array(g) for g in arrived], loose
        self.read: dict[int, np.ndarray] = {id(g): g for g in self.arrived}  # the memory that rules and kernels read, by its identity
        path = path_between(leaves, outputs)
        sums = _WrittenSums(self)
        for y, g in zip(outputs, self.arrived):
            sums.add(source(y), g)
        gradients: dict[Source, np.ndarray] = {}
        before, calls.log = calls.log, []
        try:
            while path:
                s, _ = path.popitem()
                g = sums.arrived.pop(s, None)
                if g is not None and isinstance(s, Tensor):
                    gradients[s] = g
                needs = tuple(parent in path for parent in s.inputs) if g is not None and isinstance(s, Node) else ()
                if True in needs:
                    self._pass_on(s, g, needs, sums)
        finally:
            calls.log = before
        self.gradients = [gradients.get(leaf) for leaf in leaves]
        memories = [id(memory_of(g)) for g in self.gradients if g is not None]
        self.is_own = [g is not None and g.flags.owndata and g.flags.writeable and id(g) not in self.read and memories.count(id(g)) == 1
                       for g in self.gradients]  # whether it may be handed out as it is
        self.again = self.functions()
        self.holders: list[int] = []  # of each gradient, while none is handed out

    def _pass_on(self, node: Any, g: np.ndarray, needs: tuple[bool, ...], sums: _WrittenSums) -> None:
        part = None if node.op.part_read is None else node.op.part_read(**node.settings)
        if part is not None:
            sums.add_to_part(node.inputs[0], part, g)
            return
        if node.op.kernel_backward is not None and node.saved is not None and not g.flags.c_contiguous:  # as a kernel takes it
            contiguous = np.ascontiguousarray(g)
            self.copy(contiguous, g)
            g = contiguous
        calls.log = []
        results = node.op.compute_gradients(g, node, needs, False)
        given = [g, *arrays_in((node.y, node.saved, node.args, node.settings))]
        self.read.update((id(memory_of(a)), memory_of(a)) for a in given)
        made = [None if r is None or any(np.may_share_memory(r, a) for a in given) else r for r in results]  # the others are views
        if any(r is not None for r in made):
            again = functools.partial(_differentiate_again, node, g, needs, made)
            self.write([] if node in self.loose else calls.log, given, [r for r in made if r is not None], again)
        for parent, gp in zip(node.inputs, results):
            if gp is not None:
                sums.add(parent, gp)

    def run(self, arrived: Sequence[np.ndarray]) -> None:
        for target, g in zip(self.arrived, arrived):
            np.copyto(target, g)
        for call in self.again:
            call()

    def count_holders(self) -> list[int]:
        return [sys.getrefcount(g) for g in self.gradients]

    def is_held(self) -> bool:
        """Whether a gradient that was handed out is still in use, so that its memory can't be written to."""
        return any(now > alone for now, alone in zip(self.count_holders(), self.holders))

    def handed_out(self, as_copies: bool) -> list[np.ndarray | None]:
        return [None if g is None else g if is_own and not as_copies else np.array(g) for g, is_own in zip(self.gradients, self.is_own)]


class _WrittenSums(_Sums):
    """The sums of `fast_walk`, in the same order, each written down."""

    __slots__ = ("writer",)

    def __init__(self, writer: Writer):
        super().__init__()
        self.writer = writer

    def add(self, s: Source, g: Any) -> None:
        before = self.arrived.get(s)
        in_place = s in self.writable
        super().add(s, g)
        if before is not None:
            total = self.arrived[s]
            call = functools.partial(ops.add_into, before, g) if in_place else functools.partial(_sum, before, g, total)
            self.writer.write([], [before, g], [total], call)

    def add_to_part(self, s: Source, part: Any, g: np.ndarray) -> None:
        before, is_new = self.arrived.get(s), s not in self.from_zeros
        super().add_to_part(s, part, g)
        total = self.arrived[s]
        if is_new:
            self.writer.calls.append(functools.partial(total.fill, 0) if before is None else functools.partial(np.add, before, 0.0, total))
        self.writer.write([], [g] if before is None else [before, g], [total], functools.partial(_add_to_part, total, part, g))


def _sum(a: np.ndarray, b: np.ndarray, total: np.ndarray) -> None:
    np.copyto(total, ops.add(a, b)) if total.size >= LARGE else np.add(a, b, total)


LARGE = 1 << 17  # entries from which on the kernel of add has more threads


def _add_to_part(total: np.ndarray, part: Any, g: np.ndarray) -> None:
    total[part] += g


def _differentiate_again(node: Node, g: np.ndarray, needs: tuple[bool, ...], made: Sequence[np.ndarray | None]) -> None:
    assert node.op is not None
    for target, new in zip(made, node.op.compute_gradients(g, node, needs, False)):
        if target is not None:
            _overwrite(target, new)
