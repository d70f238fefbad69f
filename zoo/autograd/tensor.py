"""A Tensor is an array that remembers the operation that made it; `backward` walks that memory.

The whole of reverse-mode differentiation is in this file and `operation.py`.  A node stands for one operation that
ran: which operation, what it was given, and which nodes its inputs came from.  `backward` visits the nodes youngest
first, hands each one the gradient of its output, and asks its operation for the gradients of its inputs.

Why the order matters (the question that every small engine is asked):

    b = a + a
    c = b + b          # c uses b twice: both contributions must have reached b before b passes them on to a

A walk that follows each path as it finds it would send b's gradient on before it is complete, or would walk b once
for every path, which takes exponential time in a stream of residual blocks.  An operation is always younger than what it
was given, so visiting by age, youngest first, is enough: no recursion, no limit on depth, each node once.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from .operators import Operators, ops

_births = itertools.count()


class _State(threading.local):
    """What is switched on in this thread."""

    grad_enabled = True
    watchers: tuple = ()  # tracing.py: whoever looks at each operation while it runs
    scope: tuple = ()  # tracing.py: the dotted path of the module and the fused operation that is running


state = _State()


class Blank:
    """What a rule is given for an argument that it doesn't read: its shape and dtype, so that the values can be freed."""

    __slots__ = ("dtype", "shape")

    def __init__(self, a: Any):
        self.shape, self.dtype = getattr(a, "shape", ()), getattr(a, "dtype", None)

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Node:
    """One operation that ran: `inputs[i]` is where `args[i]` came from, or None where no gradient is needed."""

    __slots__ = ("args", "birth", "dtype", "inputs", "kept_grad", "op", "saved", "settings", "shape", "y")

    def __init__(self, op: Any, inputs: Sequence, args: Sequence, settings: dict, y: Any, saved: Any, like: np.ndarray):
        self.op, self.inputs, self.args, self.settings, self.y, self.saved = op, inputs, args, settings, y, saved
        self.shape, self.dtype = like.shape, like.dtype
        self.kept_grad: list | None = None  # retain_grad() puts a list here
        self.birth = next(_births)

    def free(self) -> None:
        self.inputs, self.args, self.saved, self.y, self.op = (), (), None, None, None


class Tensor(Operators):
    """An array with a memory.  `Tensor([1.0, 2.0], requires_grad=True)`

    data: anything that NumPy makes an array of; Python floats become float32, arrays keep their dtype.
    requires_grad: collect the gradient in `.grad` when `backward()` runs; needs a floating dtype.
    """

    __hash__ = object.__hash__
    __slots__ = ("__weakref__", "_leaf", "birth", "data", "grad", "node")
    __array_ufunc__ = None  # so that `array * tensor` asks the tensor

    def __init__(self, data: npt.ArrayLike | Tensor, requires_grad: bool = False, *, dtype: npt.DTypeLike | None = None, node: Node | None = None):
        if not isinstance(data, np.ndarray) or dtype is not None:
            data = data.data if isinstance(data, Tensor) else data
            array = np.asarray(data, dtype)
            if dtype is None and array.dtype == np.float64 and not isinstance(data, (np.ndarray, np.generic)):
                array = array.astype(np.float32)
            data = array
        if data.dtype.kind not in "fiub":
            raise TypeError(f"Tensor: data has dtype {data.dtype}; it may be a float, an integer or bool")
        if requires_grad and data.dtype.kind != "f":
            raise TypeError(f"Tensor: requires_grad needs a floating dtype, data has {data.dtype}")
        self.data: np.ndarray = data
        self.node = node
        self._leaf = requires_grad
        self.grad: np.ndarray | None = None
        self.birth = next(_births) if node is None else node.birth

    # --- what it is

    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)

    @property
    def requires_grad(self) -> bool:
        return self._leaf or self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.node is not None:
            raise ValueError("requires_grad can be set on leaves only; use detach() to cut a tensor out of its graph")
        if value and self.data.dtype.kind != "f":
            raise TypeError(f"requires_grad needs a floating dtype, this tensor has {self.data.dtype}")
        self._leaf = bool(value)

    def numpy(self) -> np.ndarray:
        """The values: the same memory, no copy."""
        return self.data

    def item(self) -> float:
        return self.data.item()

    def detach(self) -> Tensor:
        """The same values without the memory."""
        return Tensor(self.data)

    def astype(self, dtype: npt.DTypeLike) -> Tensor:
        return ops.astype(self, dtype=np.dtype(dtype))

    def retain_grad(self) -> Tensor:
        """Keep the gradient of this intermediate: after backward it's in `kept_grad`."""
        if self.node is None:
            raise ValueError("retain_grad: this tensor is a leaf; its gradient is in .grad")
        if self.node.kept_grad is None:
            self.node.kept_grad = []
        return self

    @property
    def kept_grad(self) -> np.ndarray | None:
        return self.node.kept_grad[-1] if self.node is not None and self.node.kept_grad else None

    def __repr__(self) -> str:
        made = f", made by {self.node.op.__name__}" if self.node is not None and self.node.op is not None else ""
        grad = ", requires_grad=True" if self._leaf else ""
        return f"Tensor({np.array2string(self.data, precision=4, threshold=20, separator=', ')}, {self.data.dtype}{grad}{made})"

    def __len__(self) -> int: return len(self.data)
    def __bool__(self) -> bool: return bool(self.data)
    def __float__(self) -> float: return float(self.data)
    def __int__(self) -> int: return int(self.data)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if self.requires_grad and state.grad_enabled:
            raise TypeError("this tensor needs a gradient, which NumPy would lose: use .numpy() or .detach(), or an operation of zoo.autograd")
        return np.array(self.data, dtype=dtype, copy=copy)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self.data)))

    def backward(self, grad: npt.ArrayLike | None = None, *, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to `.grad` of every leaf that this tensor was made from.

        grad: the gradient that arrives here, of this tensor's shape; may be left out if the tensor is one number.
        retain_graph: keep what was recorded, so that backward can run again; otherwise it is freed on the way.
        """
        if not self.requires_grad:
            raise ValueError("backward: this tensor doesn't depend on any tensor with requires_grad=True")
        for leaf, g in _backward([self], [_first(self, grad)], None, False, retain_graph).values():
            leaf.grad = g if leaf.grad is None else leaf.grad + g


def no_grad() -> AbstractContextManager[None]:
    """Nothing inside is recorded."""
    return _switched(grad_enabled=False)


def enable_grad(value: bool = True) -> AbstractContextManager[None]:
    return _switched(grad_enabled=value)


@contextmanager
def _switched(**values: Any) -> Iterator[None]:
    before = {name: getattr(state, name) for name in values}
    state.__dict__.update(values)
    try:
        yield
    finally:
        state.__dict__.update(before)


def grad(outputs, inputs, grad_outputs=None, create_graph: bool = False, retain_graph: bool | None = None, allow_unused: bool = False):
    """Gradients of outputs (weighted by grad_outputs and added up) with respect to inputs; `.grad` isn't touched.

    outputs, inputs: a tensor or a sequence of tensors; grad_outputs: arrays of the outputs' shapes (ones for single numbers).
    create_graph: the gradients are tensors that can be differentiated again, to any order.
    allow_unused: an input that no output depends on gets None instead of an error.
    Returns a tensor for one input, else a tuple.
    """
    single = isinstance(inputs, Tensor)
    inputs = [inputs] if single else list(inputs)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    if grad_outputs is None:
        grad_outputs = [None] * len(outputs)
    elif not isinstance(grad_outputs, (list, tuple)):
        grad_outputs = [grad_outputs]
    if len(grad_outputs) != len(outputs):
        raise ValueError(f"grad: {len(outputs)} outputs but {len(grad_outputs)} grad_outputs")
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor) or not x.requires_grad:
            raise ValueError(f"grad: inputs[{i}] doesn't require a gradient")
    firsts = [_first(y, g, create_graph) for y, g in zip(outputs, grad_outputs)]
    found = _backward(outputs, firsts, inputs, create_graph, create_graph if retain_graph is None else retain_graph)
    grads = [found[id(source(x))][1] if id(source(x)) in found else None for x in inputs]
    for i, g in enumerate(grads):
        if g is None and not allow_unused:
            raise ValueError(f"grad: the outputs don't depend on inputs[{i}] (allow_unused=True returns None there)")
    wrapped = [g if g is None or isinstance(g, Tensor) else Tensor(g) for g in grads]
    return wrapped[0] if single else tuple(wrapped)


def source(t: Tensor) -> Node | Tensor:
    """Where a gradient for t is collected: the node that made it, or the leaf itself."""
    return t if t.node is None else t.node


def _first(y: Tensor, g: Any, create_graph: bool = False) -> Any:
    if g is None:
        if y.size != 1:
            raise ValueError(f"backward: this tensor has shape {y.shape}; a gradient to start from is needed unless it's a single number")
        g = np.ones_like(y.data)
    array = np.asarray(g.data if isinstance(g, Tensor) else g)
    if array.shape != y.shape:
        raise ValueError(f"backward: the gradient has shape {array.shape}, the tensor {y.shape}")
    if create_graph:
        return g if isinstance(g, Tensor) else Tensor(array.astype(y.dtype, copy=False))
    return array.astype(y.dtype, copy=False)


def _backward(outputs: list[Tensor], firsts: list, inputs: list[Tensor] | None, create_graph: bool, retain: bool,
              stop: frozenset[int] = frozenset()) -> dict[int, tuple[Any, Any]]:
    """Walk from outputs, youngest node first.  Returns {id(source): (source, gradient)}.

    inputs: whose gradients are wanted; None for every leaf.  stop: sources that the walk doesn't look behind.
    """
    reached = {id(s): s for s in map(source, outputs)}
    stack = list(reached.values())
    while stack:
        s = stack.pop()
        if id(s) in stop or not isinstance(s, Node):
            continue
        if s.op is None:
            raise RuntimeError("backward: this graph was freed by an earlier backward; pass retain_graph=True there to use it twice")
        for parent in s.inputs:
            if parent is not None and id(parent) not in reached:
                reached[id(parent)] = parent
                stack.append(parent)
    order = sorted(reached.values(), key=lambda s: s.birth)
    wanted = None if inputs is None else {id(source(x)) for x in inputs}
    useful: set[int] = set()  # what leads to an input that is wanted
    if wanted is not None:
        for s in order:  # oldest first
            if id(s) in wanted or (isinstance(s, Node) and id(s) not in stop and any(id(p) in useful for p in s.inputs)):
                useful.add(id(s))

    flow: dict[int, Any] = {}
    ours: set[int] = set()  # gradients that we added up ourselves: nobody else holds them, so more is added in place
    for y, g in zip(outputs, firsts):
        _collect(flow, ours, source(y), g)
    found: dict[int, tuple[Any, Any]] = {}
    taken = {id(g) for g in firsts}  # memory that somebody else holds: no two gradients may share any
    with _switched(grad_enabled=create_graph, watchers=()):
        while order:
            s = order.pop()
            g = flow.get(id(s))
            if g is None:
                continue
            if isinstance(s, Node) and s.kept_grad is not None:
                s.kept_grad.append(np.array(g.data if isinstance(g, Tensor) else g))
            if (id(s) in wanted) if wanted is not None else isinstance(s, Tensor):
                found[id(s)] = (s, g if create_graph else _own(g, taken, id(s) in ours))
            if not isinstance(s, Node) or id(s) in stop:
                continue
            del flow[id(s)]
            needs = tuple([p is not None and (wanted is None or id(p) in useful) for p in s.inputs])
            if any(needs):
                if s.op is ops.getitem and not create_graph:
                    _collect_part(flow, ours, s.inputs[0], g, s.settings["index"])
                    grads: Any = ()
                else:
                    grads = s.op.gradients(g, s, needs, create_graph)  # type: ignore[union-attr]
                for parent, need, gp in zip(s.inputs, needs, grads):
                    if need and gp is not None:
                        _collect(flow, ours, parent, gp)
                if not retain:
                    s.free()
            ours.discard(id(s))
    return found


def _collect(flow: dict[int, Any], ours: set[int], s: Any, g: Any) -> None:
    """Add g to what has arrived at s: undo broadcasting, keep the dtype, add in place where nobody else looks."""
    shape, dtype = s.shape, s.dtype
    if g.shape != shape:
        g = ops.sum_to(g, shape=shape)
    if g.dtype != dtype or isinstance(g, np.generic):  # what NumPy makes of arrays without axes has no memory to hand on
        g = g.astype(dtype) if isinstance(g, Tensor) else np.asarray(g, dtype)
    i = id(s)
    if i not in flow:
        flow[i] = g
    elif isinstance(g, Tensor) or isinstance(flow[i], Tensor):
        flow[i] = flow[i] + g
    elif i in ours:
        ops.add_into(flow[i], g)
    else:
        flow[i] = np.asarray(ops.add(flow[i], g))
        ours.add(i)


def _collect_part(flow: dict[int, Any], ours: set[int], s: Any, g: np.ndarray, index: Any) -> None:
    """Add g to a part of what has arrived at s, in place: the slices of one array need one sum, not one full of zeros each."""
    i = id(s)
    if i not in ours:
        flow[i] = np.array(flow[i]) if i in flow else np.zeros(s.shape, s.dtype)
        ours.add(i)
    ops.add_at(flow[i], index, g)


def _own(g: np.ndarray, taken: set[int], fresh: bool) -> np.ndarray:
    """A gradient that shares memory with nothing that was handed out before, and can be written to."""
    base = g
    while isinstance(base.base, np.ndarray):
        base = base.base
    if not fresh and (base is not g or id(base) in taken or not g.flags.owndata or not g.flags.writeable):
        g = np.array(g)
        base = g
    taken.add(id(base))
    return g
