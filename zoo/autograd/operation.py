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
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .operators import ops
from .runtime.precision import setting, use_precision
from .runtime.switch import kernels_enabled
from .tensor import Node, Source, Tensor, Unread, changes, gradients, result_of, source, state

REGISTRY: dict[str, Operation] = {}
FLOAT32 = np.dtype(np.float32)
WAS_CHANGED = ("backward: {} was changed (by an optimiser's step, load_arrays or x.data += ...) after the forward pass that used it, so its "
               "gradient would be that of neither; run the forward pass again")
MAY_BE_INTEGERS = {"blocks", "ids", "targets", "indices", "condition", "mask"}  # arguments that a kernel takes as integers or bool


class Operation:
    """Called on arrays it returns an array; called on tensors it returns a tensor and records itself."""

    def __init__(self, definition: Callable, floats: str = "", integers: npt.DTypeLike = np.float32, numbers: bool = False):
        self.definition = definition
        self.__name__ = definition.__name__
        self.__doc__ = definition.__doc__
        self.__wrapped__ = definition  # the signature that help() shows
        self.__module__ = definition.__module__
        parameters = inspect.signature(definition).parameters.values()
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.arguments = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self.optional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty}
        self.may_be_none = {p.name for p in parameters if p.default is None or str(p.annotation).endswith("| None")}
        self.settings = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        self.renamed: dict[str, str] = {}  # settings that had another name: the old one warns
        self.float_places = tuple(self.arguments.index(name) for name in floats.split())
        self.integers_become = np.dtype(integers)
        self.takes_numbers = numbers
        self.takes_sequence = True  # a variadic one: one array stands for its rows
        self.settings_by_name_only = False
        self.argument_is_read: tuple[bool, ...] = (True,) * len(self.arguments)  # in backward; where not, its values are freed
        self.checker: Callable | None = None
        self.kernel_forward: Callable | None = None
        self.kernel_backward: Callable | None = None
        self.strided = False  # the forward kernel takes views as they are
        self.opened = True  # a trace shows what a fused one's definition computes inside
        self.reads_y = False  # a rule or the backward kernel does
        self.part_read: Callable | None = None
        if self.__name__ in REGISTRY:
            raise ValueError(f"there is an operation called {self.__name__} already")
        REGISTRY[self.__name__] = self
        setattr(ops, self.__name__, self)

    def __repr__(self) -> str:
        return f"<operation {self.__name__}{_signature(self)}>"

    # --- how an operation is completed

    def check(self, function: Callable) -> Callable:
        """Runs before everything else, on arrays and settings; raises what is to be raised."""
        self.checker = function
        return function

    def forward(self, function: Callable | None = None, *, strided: bool = False) -> Callable:
        """The kernel: contiguous float32 arrays (and integers) in; (y, saved) out, or NotImplemented for shapes it doesn't serve.

        saved: what the kernel of the derivative needs, () for nothing; None has the gradients computed by the rules.

        strided: it takes views as they are, instead of contiguous copies.
        """
        if function is None:
            return lambda f: self.forward(f, strided=strided)
        self.kernel_forward, self.strided = function, strided
        return function

    def backward(self, function: Callable) -> Callable:
        """The kernel of the derivative: (g, y, saved, *arguments, needs=..., **settings) -> a gradient for each argument.

        needs: which arguments want one, a bool each; the gradient of another is None or ignored. Where an argument's name begins with _,
        the kernel doesn't read it.
        """
        names = _parameter_names(function)
        self.kernel_backward = function
        self.reads_y |= not names[1].startswith("_")
        reads = [not n.startswith("_") for n in names[3 : 3 + len(self.arguments)]]
        self.argument_is_read = tuple(reads) if len(reads) == len(self.arguments) else self.argument_is_read
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
        for value in settings.values():
            if isinstance(value, np.generic):  # a float64 would change the dtype of the arrays beside it
                settings = {name: v.item() if isinstance(v, np.generic) else v for name, v in settings.items()}
                break
        if state.watchers:
            return state.watchers[-1].run_watched(self, args, settings)
        return self.apply(args, settings)

    def apply(self, args: Sequence[Any], settings: dict[str, Any], by_definition: bool = False) -> Any:
        """Run it: by its kernel where there is one that serves these arrays, else by its definition."""
        try:
            arrays = [a._data if type(a) is Tensor else a if type(a) is np.ndarray and a.dtype.kind in "fiub" else self._array(i, a)
                      for i, a in enumerate(args)]
            if self.float_places and not all(arrays[i] is None or arrays[i].dtype.char in "fdg" for i in self.float_places):
                return self._apply_in_floats(args, arrays, settings, by_definition)
            if self.checker is not None:
                self.checker(*arrays, **settings)
            if self.kernel_forward is not None and not by_definition and kernels_enabled() and _kernel_accepts(self.arguments, arrays):
                if not self.strided:
                    arrays = [_contiguous(a) if isinstance(a, np.ndarray) else a for a in arrays]
                result = self.kernel_forward(*arrays, **settings)
                if result is not NotImplemented:
                    y, saved = result
                    return self.record(y, saved, args, arrays, settings)
            return self.run_definition(args, arrays, settings)
        except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError) as e:
            if str(e).startswith(self.__name__ + ":"):
                raise
            raise _named(e, self.__name__, args) from None

    def _array(self, i: int, a: Any) -> Any:
        """Argument i, which is no array of numbers yet: a list, a number, None where it may be None; anything else is a TypeError."""
        name = "an array" if self.variadic else self.arguments[i]
        if a is None and name in self.may_be_none:
            return None
        if isinstance(a, Tensor):
            return a._data
        if self.takes_numbers and isinstance(a, (int, float, np.number, np.bool_)):
            return float(a) if isinstance(a, np.float64) else a  # a lone float64 doesn't promote
        array = np.asarray(a)
        if array.dtype.kind not in "fiub":
            what = f"{a!r}" if a is None or isinstance(a, str) else f"of dtype {array.dtype}"
            raise TypeError(f"{self.__name__}: {name} is {what}; it may be a tensor or an array of floats, integers or bools")
        python_floats = array.dtype == np.float64 and not isinstance(a, (np.ndarray, np.generic))
        return array.astype(np.float32) if python_floats else array

    def _apply_in_floats(self, args: Sequence, arrays: list, settings: dict, by_definition: bool) -> Any:
        """Integers and bools become floats first, as the widest of the floats beside them; float16 is computed in float32."""
        given = [arrays[i].dtype for i in self.float_places if arrays[i] is not None]
        floats = [dtype for dtype in given if dtype.kind == "f"]
        result = np.result_type(*floats) if floats else self.integers_become
        inside = np.dtype(np.float32) if result == np.float16 else result
        converted = [ops.astype(a if isinstance(a, Tensor) else array, dtype=inside)
                     if i in self.float_places and array is not None and (array.dtype.kind != "f" or array.dtype == np.float16) else a
                     for i, (a, array) in enumerate(zip(args, arrays))]
        y = self.apply(converted, settings, by_definition)
        return ops.astype(y, dtype=result) if y.dtype != result and y.dtype.kind == "f" and result == np.float16 else y

    def run_definition(self, args: Sequence, arrays: Sequence, settings: dict) -> Any:
        raise NotImplementedError

    def by_kernel(self, arrays: Sequence, settings: dict) -> Any:
        """(y, saved) by the kernel, of arrays that `apply` has prepared; NotImplemented where it doesn't serve them."""
        if self.kernel_forward is None or not kernels_enabled() or not _kernel_accepts(self.arguments, arrays):
            return NotImplemented
        return self.kernel_forward(*arrays, **settings)

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
            result = Tensor(y)
        else:
            result = result_of(Node(self, inputs, self.saved_arguments(arrays), settings, y if self.reads_y else Unread(y), saved, y), y)
        if state.recorder is not None:
            state.recorder.ran(self, result, saved, args, arrays, settings)
        return result

    def saved_arguments(self, arrays: Sequence) -> Sequence:
        """What backward is given of the arguments."""
        return arrays

    # --- what happens in backward

    def gradients(self, g: Any, node: Node, needs: tuple[bool, ...], create_graph: bool) -> list:
        """For each input that needs one, its gradient, of its shape and dtype."""
        if isinstance(g, np.generic):  # what NumPy makes of the sum of two arrays without axes
            g = np.asarray(g)
        if changes.latest > node.birth:
            self._check_unchanged(node, create_graph)
        return self.compute_gradients(g, node, needs, create_graph)

    def compute_gradients(self, g: Any, node: Node, needs: tuple[bool, ...], create_graph: bool) -> list:
        """`gradients`, wherever the arguments have been changed since."""
        if node.precision != setting.name:
            with use_precision(node.precision):
                return self.compute_gradients(g, node, needs, create_graph)
        if not create_graph and self.kernel_backward is not None and node.saved is not None:
            given = self.kernel_backward(_contiguous(g), node.y, node.saved, *node.args, needs=needs, **node.settings)
        else:
            given = self.apply_rules(g, node, needs, create_graph)
        if len(given) != len(node.inputs):
            raise ValueError(f"{self.__name__}: its backward returned {len(given)} gradients for {len(node.inputs)} arguments")
        return [self._fitted(d, s, node.shape) if need and d is not None else None for d, s, need in zip(given, node.inputs, needs)]

    def _fitted(self, g: Any, s: Any, y_shape: tuple[int, ...]) -> Any:
        """The gradient that a rule gives, of the shape and dtype of the input that it's for: what was broadcast is added up again."""
        if type(g) is np.ndarray and g.shape == s.shape and g.dtype is s.dtype:  # nearly always
            return g
        if not isinstance(g, (np.ndarray, np.generic, Tensor)):
            raise TypeError(f"{self.__name__}: its rule returned {type(g).__name__}; a gradient is an array or a tensor")
        if g.shape != s.shape:
            if g.shape != y_shape or not broadcasts(s.shape, y_shape):
                raise ValueError(f"{self.__name__}: its rule returned a gradient of shape {g.shape} for an argument of shape {s.shape}; it has "
                                 f"that shape, or that of the result, {y_shape}, if the argument was broadcast to it")
            g = ops.sum_to(g, shape=s.shape)
        if g.dtype != s.dtype or isinstance(g, np.generic):  # what NumPy makes of arrays without axes has no memory to hand on
            g = g.astype(s.dtype) if isinstance(g, Tensor) else np.asarray(g, s.dtype)
        return g

    def _check_unchanged(self, node: Node, create_graph: bool) -> None:
        """Raise if values that are read now were changed, by an optimiser's step say, after the call that read them first."""
        for name, s in self.read_sources(node, create_graph):
            if getattr(s, "changed", 0) > node.birth:
                raise RuntimeError(WAS_CHANGED.format(f"{name} of {self.__name__}"))
        if self.reads_y and getattr(node, "changed", 0) > node.birth:
            raise RuntimeError(f"backward: the result of {self.__name__} was changed after the forward pass; run the forward pass again")

    def read_sources(self, node: Node, create_graph: bool = False) -> list[tuple[str, Source | None]]:
        """The arguments whose values backward reads, by name, and where they came from."""
        names = self.arguments or itertools.repeat("an argument")
        read = (True,) * len(node.inputs) if create_graph or self.variadic else self.argument_is_read
        return [(name, s) for name, s, is_read in zip(names, node.inputs, read) if is_read]

    def apply_rules(self, g: Any, node: Node, needs: tuple[bool, ...], create_graph: bool) -> Sequence:
        raise NotImplementedError


class Primitive(Operation):
    """A NumPy function with one rule for each argument (for a variadic one a single rule, which is told the position)."""

    def __init__(self, definition: Callable, **options: Any):
        super().__init__(definition, **options)
        self.rules: tuple[Callable | None, ...] = ()

    def derivatives(self, *rules: Callable | None) -> None:
        """rule(g, y, *arguments, **settings) -> the gradient of that argument; None for one that has none (an index, a mask)."""
        if not self.variadic and len(rules) != len(self.arguments):
            raise ValueError(f"{self.__name__} has {len(self.arguments)} arguments but {len(rules)} rules")
        self.rules = rules
        names = [_parameter_names(rule) for rule in rules if rule is not None]
        self.reads_y |= any(not n[1].startswith("_") for n in names)
        self.argument_is_read = tuple(any(not n[2 + i].startswith("_") for n in names) for i in range(len(self.arguments)))

    def backward(self, function: Callable) -> Callable:
        read_by_rules = self.argument_is_read
        super().backward(function)
        self.argument_is_read = tuple(map(operator.or_, read_by_rules, self.argument_is_read))
        return function

    def run_definition(self, args, arrays, settings):
        return self.record(self.definition(*arrays, **settings), None, args, arrays, settings)

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
        return self.definition(*[a if isinstance(a, Tensor) else array for a, array in zip(args, arrays)], **settings)

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


def primitive(definition: Callable | None = None, **options: Any) -> Any:
    """Decorator: NumPy in, NumPy out; rules give its derivatives.

    floats: names of arguments that are floats. There integers and bools become float32 (integers: another dtype) or what the floats
    beside them are, and float16 is computed in float32 and comes out as float16: sums and squares would overflow, bytes would wrap.
    numbers: Python's numbers stay what they are, so that they don't change the dtype of the arrays beside them; else they become arrays.
    """
    return Primitive(definition, **options) if definition else functools.partial(Primitive, **options)


def fused(definition: Callable | None = None, **options: Any) -> Any:
    """Decorator: a definition in operations, which needs no rule; options as for `primitive`."""
    return Fused(definition, **options) if definition else functools.partial(Fused, **options)


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
        function.__name__ = function.__qualname__ = self.definition.__name__  # what Python says of a wrong call
        return function

    def __call__(self, *args: Any, **named: Any) -> Any:
        if named:
            return self.definition(*args, **named)
        if self.kernel is not None and kernels_enabled():
            y = self.kernel(*args)
            if y is not NotImplemented:
                return y
        return self.definition(*args)


def attachable(definition: Callable) -> Attachable:
    """Decorator: a helper of the engine that may have a kernel."""
    return Attachable(definition)


def composed(function: Callable) -> Callable:
    """Decorator: a function made of operations, which methods of tensors find by its name."""
    setattr(ops, function.__name__, function)
    return function


# --- how the arguments of a call find their names, as they would in NumPy, and what is said when they don't


def bind(operation: Operation, args: Sequence, settings: dict) -> tuple[Sequence, dict]:
    """Arguments by position or name, settings by name or after the arguments, as NumPy takes them: sum(x, 1)."""
    args, extra = _sequence(operation, args) if operation.variadic else (args, ())
    positional = operation.arguments + tuple(operation.settings) if not operation.variadic else tuple(operation.settings)
    given = extra if operation.variadic else args
    if len(given) > len(positional) or (operation.settings_by_name_only and len(given) > len(operation.arguments)):
        raise _wrong_call(operation, f"{len(given)} positional arguments were given")
    by_name: dict[str, Any] = {}
    for name, value in settings.items():  # no comprehension, which in Python 3.11 is a frame of its own that the warning would count
        new = _new_name(operation, name)
        if new in by_name:
            raise _wrong_call(operation, f"{new} was given twice, by its old name too")
        by_name[new] = value
    for name in positional[: len(given)]:
        if name in by_name:
            raise _wrong_call(operation, f"{name} was given twice, by position and by name")
    by_name.update(zip(positional, given))
    unknown = by_name.keys() - operation.settings.keys() - set(operation.arguments)
    if unknown:
        raise _wrong_call(operation, f"it has no {', '.join(sorted(unknown))}")
    defaults = {**operation.optional, **operation.settings}
    missing = [name for name in (*operation.arguments, *operation.settings)
               if name not in by_name and defaults.get(name, inspect.Parameter.empty) is inspect.Parameter.empty]
    if missing:
        raise _wrong_call(operation, f"{', '.join(missing)} is missing")
    full = {**defaults, **by_name}
    return args if operation.variadic else [full[name] for name in operation.arguments], {name: full[name] for name in operation.settings}


def _sequence(operation: Operation, args: Sequence) -> tuple[Sequence, Sequence]:
    """The arrays of a variadic operation, given one by one or as a sequence, and what comes after the sequence."""
    if args and isinstance(args[0], (list, tuple)):
        return tuple(args[0]), args[1:]
    if len(args) == 1 and operation.takes_sequence and np.ndim(args[0].data if isinstance(args[0], Tensor) else args[0]):
        return tuple(args[0]), ()  # the rows of one array, as in NumPy
    return args, ()


def _new_name(operation: Operation, name: str) -> str:
    new = operation.renamed.get(name, name)
    if new != name:
        warnings.warn(f"{operation.__name__}: {name} is {new} now; the old name goes in the next release", DeprecationWarning, stacklevel=4)
    return new


def _wrong_call(operation: Operation, what: str) -> TypeError:
    return TypeError(f"{operation.__name__} takes {_signature(operation)}; {what}")


def _signature(operation: Operation) -> str:
    return str(inspect.signature(operation.definition))


# --- helpers


def _kernel_accepts(names: Sequence[str], arrays: Sequence) -> bool:
    """Kernels serve float32 with indices and masks; float64, the dtype of gradient checks, always runs the definition."""
    any_float32 = False
    for name, a in zip(names or itertools.repeat(""), arrays):
        if isinstance(a, np.ndarray):
            if a.dtype is FLOAT32 or a.dtype == FLOAT32:  # nearly always the very object, which is told at once
                any_float32 = True
            elif a.dtype.kind == "f" or name not in MAY_BE_INTEGERS:
                return False
            if a.size == 0:
                return False
    return any_float32


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of that shape broadcasts to the other, as NumPy has it."""
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(to)))


def _named(e: Exception, name: str, args: Sequence) -> Exception:
    """The same error, which now says in which operation it came up, and with which shapes."""
    kind = type(e) if type(e) in (ValueError, TypeError, IndexError, np.exceptions.AxisError) else \
        next((c for c in (TypeError, IndexError) if isinstance(e, c)), ValueError)
    shapes = ", ".join(str(a.shape) for a in args if isinstance(a, (np.ndarray, Tensor)))
    e = ValueError(f"a number is too large ({e})") if isinstance(e, OverflowError) else e
    return kind(f"{name}: {e}" if "given shapes" in str(e) or not shapes else f"{name}: {e} (given shapes {shapes})")


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
