"""What an operation is: a definition to be read, and where it pays a kernel to be fast.  Tests hold the two equal.

    @primitive                                         @fused
    def exp(x):                                        def silu(x):
        \"\"\"y = e^x\"\"\"                                      \"\"\"y = x sigmoid(x)\"\"\"
        return np.exp(x)                                   return x * sigmoid(x)

    exp.derivatives(lambda g, y, _x: g * y)            @silu.forward
                                                       def _(x): ...                        # -> y, saved
                                                       @silu.backward
                                                       def _(g, _y, saved, x, *, needs): ...  # -> a tuple: dx

A primitive's body is NumPy and its derivatives are rules, one for each argument, written with these same operations: so a
rule works on arrays (fast) and on tensors (when the gradient itself is to be differentiated).  A fused operation's body is
written in operations; it needs no rule.  Either may have a kernel pair, which serves float32.

Positional parameters are arrays, keyword-only ones are settings.  A parameter of a rule whose name starts with an
underscore isn't read by it: the values behind it aren't kept alive, and the rule gets an `Unread` with shape and dtype.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .operators import ops
from .runtime.compiling import kernels_enabled
from .tensor import Node, Source, Tensor, Unread, gradients, source, state

REGISTRY: dict[str, Operation] = {}
MAY_BE_INTEGERS = {"blocks", "ids", "targets", "indices", "condition", "mask"}  # arguments that a kernel takes as integers or bool


class Operation:
    """Called on arrays it returns an array; called on tensors it returns a tensor and records itself."""

    def __init__(self, definition: Callable):
        self.definition = definition
        self.__name__ = definition.__name__
        self.__doc__ = definition.__doc__
        self.__wrapped__ = definition  # the signature that help() shows
        self.__module__ = definition.__module__
        parameters = inspect.signature(definition).parameters.values()
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.arguments = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self.optional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty}
        self.settings = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        self.checker: Callable | None = None
        self.kernel_forward: Callable | None = None
        self.kernel_backward: Callable | None = None
        self.strided = False  # the forward kernel takes views as they are
        self.reads_y = False  # a rule or the backward kernel does
        self.part_read: Callable | None = None
        if self.__name__ in REGISTRY:
            raise ValueError(f"there is an operation called {self.__name__} already")
        REGISTRY[self.__name__] = self
        setattr(ops, self.__name__, self)

    def __repr__(self) -> str:
        return f"<operation {self.__name__}>"

    # --- how an operation is completed

    def check(self, function: Callable) -> Callable:
        """Runs before everything else, on arrays and settings; raises what is to be raised."""
        self.checker = function
        return function

    def forward(self, function: Callable | None = None, *, strided: bool = False) -> Callable:
        """The kernel: contiguous float32 arrays (and integers) in; (y, saved) out, or NotImplemented for shapes it doesn't serve.

        strided: it takes views as they are, instead of contiguous copies.
        """
        if function is None:
            return lambda f: self.forward(f, strided=strided)
        self.kernel_forward, self.strided = function, strided
        return function

    def backward(self, function: Callable) -> Callable:
        """The kernel of the derivative: (g, y, saved, *arguments, needs=..., **settings) -> a gradient for each argument."""
        self.kernel_backward = function
        self.reads_y |= not _parameter_names(function)[1].startswith("_")
        return function

    def reads_part(self, function: Callable) -> Callable:
        """For an operation that copies a part of its only input: settings -> the index of that part, or None if an entry may repeat.

        The walk then adds the gradient to that part alone, where the rule would give an array full of zeros around it.
        """
        self.part_read = function
        return function

    # --- what happens at a call

    def __call__(self, *args: Any, **settings: Any) -> Any:
        if len(args) != len(self.arguments) or settings.keys() != self.settings.keys() or self.variadic:
            args, settings = bind(self, args, settings)  # type: ignore[assignment]
        if state.watchers:
            return state.watchers[-1].run_watched(self, args, settings)
        return self.apply(args, settings)

    def apply(self, args: Sequence[Any], settings: dict[str, Any]) -> Any:
        """Run it: by its kernel where there is one that serves these arrays, else by its definition."""
        arrays = [a.data if isinstance(a, Tensor) else float(a) if isinstance(a, np.float64) else a for a in args]  # a lone float64 doesn't promote
        if self.checker is not None:
            self.checker(*arrays, **settings)
        if self.kernel_forward is not None and kernels_enabled() and _kernel_accepts(self.arguments, arrays):
            if not self.strided:
                arrays = [_contiguous(a) if isinstance(a, np.ndarray) else a for a in arrays]
            result = self.kernel_forward(*arrays, **settings)
            if result is not NotImplemented:
                y, saved = result
                return self.record(y, saved, args, arrays, settings)
        return self.run_definition(args, arrays, settings)

    def run_definition(self, args: Sequence, arrays: Sequence, settings: dict) -> Any:
        raise NotImplementedError

    def record(self, y: np.ndarray, saved: Any, args: Sequence, arrays: Sequence, settings: dict) -> Any:
        """y itself if only arrays came in; else a tensor, which remembers this call if a gradient may be asked for."""
        any_tensor = needs_gradient = False
        inputs: list[Source | None] = []
        for a in args:
            if isinstance(a, Tensor):
                any_tensor = True
                if a.node is not None or a._leaf:
                    inputs.append(a if a.node is None else a.node)
                    needs_gradient = True
                    continue
            inputs.append(None)
        if not any_tensor:
            return y
        y = np.asarray(y)
        if not needs_gradient or not state.grad_enabled or y.dtype.kind != "f":
            return Tensor(y)
        return Tensor(y, node=Node(self, inputs, self.saved_arguments(arrays), settings, y if self.reads_y else Unread(y), saved, y))

    def saved_arguments(self, arrays: Sequence) -> Sequence:
        """What backward is given of the arguments."""
        return arrays

    # --- what happens in backward

    def gradients(self, g: Any, node: Node, needs: tuple[bool, ...], create_graph: bool) -> list:
        """For each input that needs one, its gradient, of its shape and dtype."""
        if isinstance(g, np.generic):  # what NumPy makes of the sum of two arrays without axes
            g = np.asarray(g)
        if not create_graph and self.kernel_backward is not None and node.saved is not None:
            given = self.kernel_backward(_contiguous(g), node.y, node.saved, *node.args, needs=needs, **node.settings)
        else:
            given = self.apply_rules(g, node, needs, create_graph)
        return [_fitted(d, s) if need and d is not None else None for d, s, need in zip(given, node.inputs, needs)]

    def apply_rules(self, g: Any, node: Node, needs: tuple[bool, ...], create_graph: bool) -> Sequence:
        raise NotImplementedError


class Primitive(Operation):
    """A NumPy function with one rule for each argument (for a variadic one a single rule, which is told the position)."""

    def __init__(self, definition: Callable):
        super().__init__(definition)
        self.rules: tuple[Callable | None, ...] = ()
        self.argument_is_read: tuple[bool, ...] = ()

    def derivatives(self, *rules: Callable | None) -> None:
        """rule(g, y, *arguments, **settings) -> the gradient of that argument; None for one that has none (an index, a mask)."""
        if not self.variadic and len(rules) != len(self.arguments):
            raise ValueError(f"{self.__name__} has {len(self.arguments)} arguments but {len(rules)} rules")
        self.rules = rules
        names = [_parameter_names(rule) for rule in rules if rule is not None]
        self.reads_y |= any(not n[1].startswith("_") for n in names)
        self.argument_is_read = tuple(any(not n[2 + i].startswith("_") for n in names) for i in range(len(self.arguments)))

    def backward(self, function: Callable) -> Callable:
        names = _parameter_names(super().backward(function))[3:]
        self.argument_is_read = tuple(read or not n.startswith("_") for read, n in zip(self.argument_is_read, names))
        return function

    def run_definition(self, args, arrays, settings):
        try:
            y = self.definition(*arrays, **settings)
        except (ValueError, IndexError) as e:
            if str(e).startswith(self.__name__):
                raise
            shapes = ", ".join(str(a.shape) for a in arrays if isinstance(a, np.ndarray))
            raise type(e)(f"{self.__name__}: {e} (given shapes {shapes})") from None
        return self.record(y, None, args, arrays, settings)

    def saved_arguments(self, arrays):
        if self.variadic:
            return arrays
        return [a if read or not isinstance(a, np.ndarray) else Unread(a) for a, read in zip(arrays, self.argument_is_read)]

    def apply_rules(self, g, node, needs, create_graph):
        y, args = node.y, node.args
        if create_graph:
            y = Tensor(y, node=node) if isinstance(y, np.ndarray) else y
            args = _as_tensors(node)
        if self.variadic:
            rule: Any = self.rules[0]
            return [rule(g, y, i, *args, **node.settings) if need else None for i, need in enumerate(needs)]
        return [rule(g, y, *args, **node.settings) if need and rule else None for rule, need in zip(self.rules, needs)]


class Fused(Operation):
    """A definition in operations.  It runs unless a kernel serves, while a trace or patch is on, and for gradients of gradients."""

    def run_definition(self, args, arrays, settings):
        return self.definition(*args, **settings)

    def apply_rules(self, g, node, needs, create_graph):
        """The gradient of the definition, in tensors.

        Each argument is replaced by a stand-in of its own, younger than all that the argument was made from, so that the walk
        ends there: one argument may have been made from another, or be the same tensor, and each must get its own share only.
        """
        if not create_graph:
            raise RuntimeError(f"{self.__name__}: has a forward kernel but no backward kernel")
        stand_ins = [identity(a) if need else a for a, need in zip(_as_tensors(node), needs)]
        y = self.definition(*stand_ins, **node.settings)
        inputs = [a for a, need in zip(stand_ins, needs) if need]
        of_source = gradients([y], [g], inputs, create_graph=True, retain_graph=True)
        return [of_source.get(source(a)) if need else None for a, need in zip(stand_ins, needs)]


def primitive(definition: Callable) -> Primitive:
    """Decorator: NumPy in, NumPy out; rules give its derivatives."""
    return Primitive(definition)


def fused(definition: Callable) -> Fused:
    """Decorator: a definition in operations, which needs no rule."""
    return Fused(definition)


class Attachable:
    """A function of arrays that is part of the engine, not an operation: it has no gradient, but it may have a kernel."""

    def __init__(self, definition: Callable):
        self.definition = definition
        self.kernel: Callable | None = None
        functools.update_wrapper(self, definition)
        setattr(ops, definition.__name__, self)

    def forward(self, function: Callable) -> Callable:
        """The kernel: the same arguments; NotImplemented for arrays that it doesn't serve."""
        self.kernel = function
        return function

    def __call__(self, *args: Any) -> Any:
        if self.kernel is not None and kernels_enabled():
            y = self.kernel(*args)
            if y is not NotImplemented:
                return y
        return self.definition(*args)


def attachable(definition: Callable) -> Attachable:
    """Decorator: a helper of the engine that may have a kernel."""
    return Attachable(definition)


# --- how the arguments of a call find their names, as they would in NumPy, and what is said when they don't


def bind(operation: Operation, args: Sequence, settings: dict) -> tuple[Sequence, dict]:
    """Arguments by position or name, settings by name or after the arguments, as NumPy takes them: sum(x, 1)."""
    if operation.variadic:
        if args and isinstance(args[0], (list, tuple)):
            args, extra = tuple(args[0]), args[1:]
            settings = {**dict(zip(operation.settings, extra)), **settings}
    else:
        n = len(operation.arguments)
        if len(args) > n + len(operation.settings):
            raise TypeError(f"{operation.__name__} takes {_signature(operation)}; {len(args)} positional arguments were given")
        settings = {**dict(zip(operation.settings, args[n:])), **settings}
        args = list(args[:n])
        for name in operation.arguments[len(args):]:
            if name in settings:
                args.append(settings.pop(name))
            elif name in operation.optional:
                args.append(operation.optional[name])
            else:
                raise TypeError(f"{operation.__name__} takes {_signature(operation)}; {name} is missing")
    unknown = settings.keys() - operation.settings.keys()
    if unknown:
        raise TypeError(f"{operation.__name__} takes {_signature(operation)}; it has no {', '.join(sorted(unknown))}")
    full = {name: settings.get(name, default) for name, default in operation.settings.items()}
    missing = [name for name, value in full.items() if value is inspect.Parameter.empty]
    if missing:
        raise TypeError(f"{operation.__name__} takes {_signature(operation)}; {', '.join(missing)} is missing")
    return args, full


def _signature(operation: Operation) -> str:
    return str(inspect.signature(operation.definition))


# --- helpers


def _kernel_accepts(names: Sequence[str], arrays: Sequence) -> bool:
    """Kernels serve float32 with indices and masks; float64, the dtype of gradient checks, always runs the definition."""
    any_float32 = False
    for name, a in zip(names or itertools.repeat(""), arrays):
        if isinstance(a, np.ndarray):
            if a.dtype == np.float32:
                any_float32 = True
            elif a.dtype.kind == "f" or name not in MAY_BE_INTEGERS:
                return False
            if a.size == 0:
                return False
    return any_float32


def _fitted(g: Any, s: Any) -> Any:
    """The gradient that a rule gives, of the shape and dtype of the input that it's for: what was broadcast is added up again."""
    if g.shape != s.shape:
        g = ops.sum_to(g, shape=s.shape)
    if g.dtype != s.dtype or isinstance(g, np.generic):  # what NumPy makes of arrays without axes has no memory to hand on
        g = g.astype(s.dtype) if isinstance(g, Tensor) else np.asarray(g, s.dtype)
    return g


def _as_tensors(node: Node) -> list:
    """The arguments of a call as the tensors that they were."""
    return [a if s is None or not isinstance(a, np.ndarray) else s if isinstance(s, Tensor) else Tensor(a, node=s)
            for a, s in zip(node.args, node.inputs)]


def _contiguous(a: np.ndarray) -> np.ndarray:
    return a if a.flags.c_contiguous else np.ascontiguousarray(a)


def _parameter_names(function: Callable) -> list[str]:
    return list(inspect.signature(function).parameters)


@primitive
def identity(x):
    """y = x"""
    return x


identity.derivatives(lambda g, _y, _x: g)
