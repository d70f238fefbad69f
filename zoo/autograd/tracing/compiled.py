"""A step that is replayed: `zoo.compile(step)`.

    compiled = zoo.compile(lambda x, y: ops.cross_entropy(model(x), y))

    loss = compiled(x, y)                  # the same numbers as the step's, bit for bit
    loss.backward()                        # and the same gradients
    optimiser.step()

A small step is mostly Python: modules call modules, operations look at their arguments, take memory and make records.  A compiled step runs
twice as it is, and is written down while it runs (`recording.py`).  If both runs did the same, from then on its calls are replayed, for inputs of
the same shapes and dtypes; the walk of backward likewise.

To the engine a replay is one operation: its inputs are the parameters and those inputs that need a gradient, its rule replays the walk, and for
gradients of gradients its definition runs, the step itself.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..operation import WAS_CHANGED, Operation, identity
from ..runtime.precision import setting
from ..runtime.switch import kernels_enabled
from ..runtime.threads import get_threads
from ..tensor import Node, Tensor, changes, enable_grad, gradients, path_between, result_of, source, state
from .forms import Arguments, filled, form_of_result, outputs_of, stand_in
from .reachable import Reachable
from .recording import Backward, Recorder, same

MOST_PLANS = 8  # of one step: for so many kinds of inputs and settings
MOST_RECORDINGS = 32  # more than so many, and more than replays, are a sign that what the step reads changes all the time


def compile(step: Callable) -> Compiled:
    """A function that does what `step` does, and in less time: see `Compiled`."""
    return Compiled(step)


class Compiled:
    """A step whose calls are replayed while inputs have the same shapes and dtypes and nothing that it reads has changed.

    A step is a function of arrays or tensors, alone or in tuples, lists and dictionaries, beside which it may take numbers, strings and other
    objects that stay what they are.  It computes by operations of `zoo.autograd`, and returns a tensor, or a tuple, list or dictionary of tensors.
    The arrays that it is given are tensors inside of it.  It may read parameters, which may change from call to call, in place or not.

    A call returns the same values as `step`, bit for bit, and backward gives the same gradients.  (Where a parameter is also used outside of the
    step, its gradients are added up in another order.)  The results are no views of inputs or parameters.

    The step runs as it is, without a word, wherever it can't be replayed; `reason` is None after a call that replayed or recorded, else
    why it did not, in one line:

    - values are read outside of operations (`x.data`, `float(x)`, `if x > 0`, NumPy's functions), parameters' values too; random numbers are
      drawn, gradients are taken inside of it; what it computes isn't the same in two runs;
    - kernels are off, a trace, patch or profile is on, or the result of the last call still waits for its backward.

    A replay computes, and does nothing else: what the step prints, say, is printed while it runs as it is.

    It is recorded anew, twice, when inputs have other shapes or dtypes, for another precision, number of threads, or `no_grad`, and when
    something has changed that the step can be seen to read: an attribute of a module (`train()`, `eval()`), an array or a frozen flag of a
    parameter, a function, a global value.  What lies in files, or behind functions that aren't Python's, can't be seen.  For at most 8 kinds of
    inputs recordings are held, each with all memory that a forward and a backward pass take.

    Whatever the step raises, the compiled one raises.
    """

    def __init__(self, step: Callable):
        if not callable(step):
            raise TypeError(f"compile: step is {step!r:.80}; it is a function")
        functools.update_wrapper(self, step, updated=())
        self.step = step
        self.reason: str | None = None
        self.replays = self.recordings = 0
        self._plans: dict[Any, list[_Plan | _Candidate]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<compiled {getattr(self.step, '__name__', 'step')}: {self.replays} of its calls replayed{f', {self.reason}' if self.reason else ''}>"

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.reason = _reason_now()
        if self.reason is None and not self._lock.acquire(blocking=False):
            self.reason = "another thread is in it"
        if self.reason is not None:
            return self.step(*args, **named)
        try:
            return self._run(args, named)
        finally:
            self._lock.release()

    def _run(self, args: tuple, named: dict) -> Any:
        call = Arguments(args, named)
        plans = self._plans.setdefault((call.form, state.grad_enabled, setting.name, get_threads()), [])
        plan = next((plan for plan in reversed(plans) if plan.reachable.unchanged()), None)
        wanted = [x for x in call.inputs if isinstance(x, Tensor) and x.requires_grad]
        if wanted and (len(set(map(id, wanted))) < len(wanted) or (plan is not None and any(x in plan.recorder.leaves for x in wanted))):
            call.reason = "a tensor that needs a gradient comes in twice, as an input or as a parameter"  # its sum would be in another order
        if isinstance(plan, _Plan) and call.reason is None:
            return self._replay(plan, call)
        self.reason = call.reason or (plan.recorder.reason if plan is not None else None)
        if self.reason is None and self.recordings >= MOST_RECORDINGS and self.recordings > self.replays:
            self.reason = "its inputs, or what it reads, change too often"
        if self.reason is not None:
            return self.step(*args, **named)
        return self._record(plans, plan if isinstance(plan, _Candidate) else None, call)

    def _replay(self, plan: _Plan, call: Arguments) -> Any:
        if plan.is_waiting():
            self.reason = "the result of the last call still waits for its backward"
            return self.step(*call.args, **call.named)
        try:
            plan.run(call.inputs)
        except Exception:  # an index out of range, say: the step says so in its own words
            self.reason = "it raises"
            return self.step(*call.args, **call.named)
        self.replays += 1
        return plan.results(call)

    def _record(self, plans: list, candidate: _Candidate | None, call: Arguments) -> Any:
        """Run the step and write it down; where a run before did the same, the recording is a plan from now on."""
        self.recordings += 1
        before = Reachable(self.step, *call.objects, *call.generators)
        states = [(g, g.bit_generator.state) for g in before.generators]
        values = [(a, a.copy()) for a in before.arrays if a.flags.writeable]
        stand_ins = [stand_in(x, copy=candidate is not None) for x in call.inputs]
        recorder, outputs, form, finished = Recorder(), list[Tensor](), None, False
        try:
            with recorder:
                for x, given in zip(stand_ins, call.inputs):
                    recorder.origins[x] = len(recorder.origins)
                    if not isinstance(given, Tensor):
                        recorder.of_arrays.add(x)
                args, named = call.filled(stand_ins)
                form = form_of_result(self.step(*args, **named), outputs, recorder)
            finished = True
        except Exception as e:  # the step itself may say more about it, of the arrays that it is made for
            recorder.cannot_replay(f"given tensors in place of arrays it raises {type(e).__name__}: {e!s:.200}")
        if any(isinstance(x, Tensor) and x in recorder.leaves for x in call.inputs):
            recorder.cannot_replay("an input is read as a parameter, too")
        if not all(same(g.bit_generator.state, old) for g, old in states):
            recorder.cannot_replay("random numbers are drawn inside it")
        reachable = Reachable(self.step, *call.objects, *recorder.leaves)
        reachable.compare_numbers(recorder.constants)
        if not reachable.is_complete:
            recorder.cannot_replay("it reaches too many objects, or too large arrays, to see whether they change")
        if candidate is not None:
            recorder.reason = recorder.reason or recorder.differs_from(candidate.recorder)
            plans.remove(candidate)
        self._make_room(plans)
        self.reason = recorder.reason
        if candidate is not None and recorder.reason is None:
            plan = _Plan(self.step, recorder, reachable, stand_ins, outputs, form)
            plans.append(plan)
            return plan.results(call)
        plans.append(_Candidate(recorder, reachable))
        if finished and not any(x._leaf for x in stand_ins):
            return filled(form, [y._data if y in recorder.of_arrays else y for y in outputs])
        for g, old in states:  # again, as if nothing had happened: with the tensors that gradients are to reach
            g.bit_generator.state = old
        for a, numbers in values:
            np.copyto(a, numbers)
        return self.step(*call.args, **call.named)

    def _make_room(self, plans: list) -> None:
        while sum(map(len, self._plans.values())) >= MOST_PLANS:
            next(p for p in self._plans.values() if p).pop(0)
        for key in [key for key, others in self._plans.items() if not others and others is not plans]:
            del self._plans[key]


def _reason_now() -> str | None:
    if state.recorder is not None:
        return "it is a part of a step that is compiled"
    if state.watchers:
        return "a trace or patch is on"
    if getattr(Operation.apply, "profiled", False):
        return "a profile is on"
    return None if kernels_enabled() else "kernels are off"


# --- replaying


class _Candidate:
    """What a step did once: a second run must do the same.  Or why it can't be replayed."""

    def __init__(self, recorder: Recorder, reachable: Reachable):
        self.recorder, self.reachable = recorder, reachable
        recorder.forget_calls()


class _Plan:
    """The calls of a step for one kind of inputs."""

    def __init__(self, step: Callable, recorder: Recorder, reachable: Reachable, stand_ins: list[Tensor], outputs: list[Tensor], form: Any):
        self.step, self.reachable, self.recorder = step, reachable, recorder
        self.again = recorder.functions()
        self.outputs, self.form, self.targets = outputs, form, [x._data for x in stand_ins]
        self.needs_gradient = [x._leaf for x in stand_ins]
        self.leaves = [x for x in recorder.leaves if x._leaf]  # parameters
        self.sources = [x for x in stand_ins if x._leaf] + self.leaves
        self.read = _read_by_backward(outputs, self.sources)
        self.backwards: dict[tuple, Backward] = {}
        self.hands_out_copies = False
        self.last: Callable[[], _ReplayedNode | None] = lambda: None

    def is_waiting(self) -> bool:
        """Whether backward may still come through the last replay, whose intermediate values it needs."""
        node = self.last()
        return node is not None and node.op is not None

    def run(self, inputs: list) -> None:
        for target, x in zip(self.targets, inputs):
            np.copyto(target, x._data if isinstance(x, Tensor) else x)
        for call in self.again:
            call()

    def results(self, call: Arguments) -> Any:
        """New tensors with the values of the outputs, through which backward finds the way back here."""
        values = [np.array(y._data) for y in self.outputs]
        if not any(y.node for y in self.outputs):
            return filled(self.form, [a if y in self.recorder.of_arrays else Tensor(a) for y, a in zip(self.outputs, values)])
        inputs = [source(x) for x, needs in zip(call.inputs, self.needs_gradient) if needs]
        node = _ReplayedNode(self, inputs + self.leaves, call)
        self.last = weakref.ref(node)
        results = [Tensor(a) if y.node is None else result_of(_OutputNode(_OutputRule(i), [node], (), {}, None, None, a), a)
                   for i, (y, a) in enumerate(zip(self.outputs, values))]
        return filled(self.form, results)

    def gradients(self, node: _ReplayedNode, needs: tuple[bool, ...]) -> list:
        """Gradients of sources, from those that have arrived at the outputs."""
        numbers, arrived = tuple(sorted(node.arrived)), node.arrived
        backward = self.backwards.get((numbers, needs))
        if backward is not None and backward.is_held():
            self.hands_out_copies = True  # a caller who holds gradients will do so again
            backward = None
        if backward is None:
            leaves = [x for x, need in zip(self.sources, needs) if need]
            backward = Backward([self.outputs[i] for i in numbers], [arrived[i] for i in numbers], leaves, self.recorder.loose)
            backward.holders = backward.count_holders()
            self.backwards[numbers, needs] = backward
        else:
            backward.run([arrived[i] for i in numbers])
        given = iter(backward.handed_out(self.hands_out_copies))
        return [next(given) if need else None for need in needs]

    def gradients_by_definition(self, node: _ReplayedNode, needs: tuple[bool, ...]) -> list:
        """Gradients that can be differentiated again: those of the step itself.  Each input is replaced by a stand-in, as in a fused operation."""
        with enable_grad():
            inputs = [identity(x) if wanted else x for x, wanted in zip(node.call.inputs, self.needs_gradient)]
            args, named = node.call.filled(inputs)
            outputs: list[Tensor] = []
            outputs_of(self.step(*args, **named), self.form, outputs)
            numbers = sorted(node.arrived)
            sources = [x for x, wanted in zip(inputs, self.needs_gradient) if wanted] + self.leaves
            wanted = [x for x, need in zip(sources, needs) if need]
            of_source = gradients([outputs[i] for i in numbers], [node.arrived[i] for i in numbers], wanted, create_graph=True, retain_graph=True)
        return [of_source.get(source(x)) if need else None for x, need in zip(sources, needs)]


def _read_by_backward(outputs: list[Tensor], sources: list[Tensor]) -> dict[int, str]:
    """Which sources backward reads the values of, by number, each with the argument that it is: it must not have changed by then."""
    numbers = {id(x): i for i, x in enumerate(sources)}
    read: dict[int, str] = {}
    for s in path_between(None, [y for y in outputs if y.node is not None]):
        if isinstance(s, Node):
            for name, parent in s.op.read_sources(s):  # type: ignore[union-attr]
                if id(parent) in numbers:
                    read.setdefault(numbers[id(parent)], f"{name} of {s.op.__name__}")  # type: ignore[union-attr]
    return read


class _ReplayedNode(Node):
    """A replay in the graph: its inputs are parameters and inputs, its results have nodes of their own, with `_OutputRule`."""

    def __init__(self, plan: _Plan, inputs: list, call: Arguments):
        super().__init__(_ReplayRule(), inputs, (), {}, None, None, np.empty(0, np.float32))
        self.plan, self.call = plan, call
        self.arrived: dict[int, Any] = {}  # gradients of the outputs, by number, while the walk is on its way here

    def free(self) -> None:
        super().free()
        del self.plan, self.call


class _OutputNode(Node):
    """The node of a result of a replay."""

    def walk_alone(self, g: np.ndarray, retain_graph: bool) -> list[tuple[Tensor, np.ndarray]] | None:
        """Where all inputs of the replay are leaves, a walk would come from here to the replay and from there to them."""
        replay: Any = self.inputs[0] if self.inputs else None
        if replay is None or replay.op is None or self.kept_grad is not None or not kernels_enabled() or state.recorder is not None \
                or any(isinstance(s, Node) for s in replay.inputs):
            return None
        replay.arrived[self.op.number] = g  # type: ignore[union-attr]
        with enable_grad(False):
            of_inputs = replay.op.gradients(None, replay, (True,) * len(replay.inputs), False)
        pairs = [(s, g) for s, g in zip(replay.inputs, of_inputs) if g is not None]
        if not retain_graph:
            self.free()
            replay.free()
        return pairs


class _OutputRule:
    """Leaves the gradient of an output at the replay that has computed it."""

    __name__ = "compiled step"
    part_read = None
    reads_y = False

    def __init__(self, number: int):
        self.number = number

    def gradients(self, g: Any, node: Node, needs: tuple[bool, ...], create_graph: bool) -> list:
        replay: Any = node.inputs[0]
        replay.arrived[self.number] = g
        return [np.zeros(0, np.float32)]  # so that the walk goes there


class _ReplayRule:
    """The rule of a replay: backward through the step."""

    __name__ = "compiled step"
    part_read = None
    reads_y = False

    def gradients(self, _g: Any, node: Any, needs: tuple[bool, ...], create_graph: bool) -> list:
        plan: _Plan = node.plan
        try:
            if changes.latest > node.birth:
                for i, s in enumerate(node.inputs):
                    if (create_graph or i in plan.read) and getattr(s, "changed", 0) > node.birth:
                        raise RuntimeError(WAS_CHANGED.format(plan.read.get(i, "an input of a compiled step")))
            return plan.gradients_by_definition(node, needs) if create_graph else plan.gradients(node, needs)
        finally:
            node.arrived = {}
