"""The laws of an operation: what holds for every one of them, whatever it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..operation import Primitive
from ..runtime.switch import use_kernels
from ..tensor import Tensor, no_grad
from .gradients import argument_labels, check_gradients, gradients_of, index_as_text, is_float


def check_operation(operation: Callable, *arguments: Any, order: int = 2, rounding: float = 1e-5, entries: int = 4,
                    rng: np.random.Generator | None = None, **settings: Any) -> None:
    """Hold an operation to every law on one case; raise AssertionError, which names the law, if one is broken.

    - Called on arrays it gives an array, on tensors a tensor, with the same values; float32 stays float32, float64 float64.
    - Its gradients have the shapes and dtypes of the arguments; all that it gives is finite.
    - It changes neither its arguments nor the gradient handed to it; gradients share memory with nothing, not with each other.
    - Only the gradients that are asked for are computed, and each alone is what it is beside the others.
    - Gradients are linear in the gradient handed in, and the same whether or not they are to be differentiated again.
    - How the arguments lie in memory doesn't matter.
    - Its kernel is its definition, up to float32 rounding: `rounding`, relative to the largest entry, or what the definition itself loses.
    - Gradients are those that differences give, up to `order` (see check_gradients); 0 at kinks and extremes, where they measure nothing.

    arguments: float arrays (of either dtype: both are run), integers, bools, None; settings are handed on.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    given = [None if a is None else np.asarray(a.data if isinstance(a, Tensor) else a) for a in arguments]
    coarse: list[Any] = [a.astype(np.float32) if a is not None and is_float(a) else a for a in given]
    exact: list[Any] = [a.astype(np.float64) if is_float(a) else a for a in coarse]  # the same numbers in both
    laws = _Laws(operation, settings, rounding, argument_labels(operation, len(given)))

    y = laws.value(exact)
    with use_kernels(False):
        y_defined = laws.value(coarse)
    laws.close("the value", laws.value(coarse), y, y_defined)
    if y.dtype.kind != "f" or not any(map(is_float, exact)):
        return
    g = rng.integers(-64, 65, y.shape) / 64
    g32 = np.asarray(g, np.float32)

    gradients = laws.gradients(exact, g)
    with use_kernels(False):
        defined = laws.gradients(coarse, g32)
    fast = laws.gradients(coarse, g32)
    laws.all_close("", fast, gradients, defined)
    for a, h, expected in ((exact, g, gradients), (coarse, g32, fast)):
        laws.check_alone(a, h, expected)
        laws.check_layouts(a, h, expected)
        laws.all_close(" with create_graph", laws.run(a, h, create_graph=True)[1], expected, defined)
    laws.check_linear(exact, g, gradients, rng)
    if order:
        check_gradients(operation, *exact, order=order, entries=entries, rng=rng, **settings)


@dataclass
class _Laws:
    operation: Callable
    settings: dict[str, Any]
    rounding: float
    labels: list[str]

    def require(self, condition: Any, message: str) -> None:
        if not condition:
            raise AssertionError(f"{getattr(self.operation, '__name__', 'operation')}: {message}")

    def run(self, arguments: Sequence, g: np.ndarray, create_graph: bool = False,
            needed: Sequence[int] | None = None) -> tuple[np.ndarray, list]:
        """The value and, for each argument, its gradient or None."""
        which = [i for i, a in enumerate(arguments) if is_float(a)] if needed is None else list(needed)
        xs = [Tensor(a, requires_grad=i in which) if is_float(a) else a for i, a in enumerate(arguments)]
        y = self.operation(*xs, **self.settings)
        gradients: list = [None] * len(arguments)
        for i, d in zip(which, gradients_of([y], [xs[i] for i in which], [g], create_graph)):
            gradients[i] = d.data
        return y.data, gradients

    def value(self, arguments: Sequence) -> np.ndarray:
        before = _bytes(*arguments)
        plain = self.operation(*arguments, **self.settings)
        self.require(not isinstance(plain, Tensor), "called on arrays it gives a tensor")
        floats = [a.dtype for a in arguments if is_float(a)]
        y = np.asarray(plain)
        if floats:
            with no_grad():
                tensor = self.operation(*(Tensor(a) if is_float(a) else a for a in arguments), **self.settings)
            self.require(isinstance(tensor, Tensor), f"called on tensors it gives {type(tensor).__name__}")
            same = y.dtype == tensor.dtype and np.array_equal(y, tensor.data, equal_nan=y.dtype.kind == "f")
            self.require(same, "arrays and tensors give different values")
            self.require(y.dtype.kind != "f" or y.dtype == floats[0], f"{floats[0]} comes in, {y.dtype} comes out")
        self.require(np.all(np.isfinite(y)), f"the value isn't finite ({y.dtype})")
        self.require(before == _bytes(*arguments), "it changes an argument")
        return y

    def gradients(self, arguments: Sequence, g: np.ndarray) -> list:
        before = _bytes(*arguments, g)
        y, gradients = self.run(arguments, g)
        held = [("the value", y), ("the gradient handed in", g)]
        held += [(f"the argument {label}", a) for label, a in zip(self.labels, arguments) if a is not None]
        for label, a, d in zip(self.labels, arguments, gradients):
            if d is not None:
                what = f"the gradient of {label}"
                self.require(d.shape == a.shape, f"{what} has shape {d.shape}, {label} has {a.shape}")
                self.require(d.dtype == a.dtype, f"{what} is {d.dtype}, {label} is {a.dtype}")
                self.require(np.all(np.isfinite(d)), f"{what} isn't finite ({d.dtype})")
                self.require(d.flags.writeable, f"{what} can't be written to")
                for other, memory in held:
                    self.require(not np.may_share_memory(d, memory), f"{what} shares memory with {other}")
                held.append((what, d))
        self.require(before == _bytes(*arguments, g), "backward changes an argument or the gradient handed in")
        return gradients

    def check_alone(self, arguments: Sequence, g: np.ndarray, expected: list) -> None:
        wanted = [i for i, d in enumerate(expected) if d is not None]
        for i in wanted if len(wanted) > 1 else ():
            with _rules_counted(self.operation) as ran:
                alone = self.run(arguments, g, needed=[i])[1][i]
            self.require(ran <= {i}, f"only the gradient of {self.labels[i]} was asked for, others were computed")
            self.close(f"the gradient of {self.labels[i]} alone", alone, expected[i], expected[i])

    def check_layouts(self, arguments: Sequence, g: np.ndarray, expected: list) -> None:
        y, _ = self.run(arguments, g)
        strided_y, strided_gradients = self.run([a if a is None else _strided(a) for a in arguments], _strided(g))
        self.close("on arguments that aren't contiguous the value", strided_y, y, y)
        self.all_close(" on arguments that aren't contiguous", strided_gradients, expected, expected)
        spread = np.broadcast_to(np.asarray(0.5, g.dtype), g.shape)  # what a sum hands back: read-only, one number in memory
        plain = self.run(arguments, np.array(spread))[1]
        self.all_close(" with a broadcast g", self.run(arguments, spread)[1], plain, plain)

    def check_linear(self, arguments: Sequence, g: np.ndarray, first: list, rng: np.random.Generator) -> None:
        other = rng.standard_normal(g.shape)
        second, both = self.run(arguments, other)[1], self.run(arguments, 3 * g - 0.5 * other)[1]
        for label, a, b, c in zip(self.labels, first, second, both):
            if a is not None:
                size = 1 + np.max(np.abs(a), initial=0) + np.max(np.abs(b), initial=0)
                error = np.max(np.abs(3 * a - 0.5 * b - c), initial=0)
                self.require(error <= 1e-11 * size, f"the gradient of {label} isn't linear in the gradient handed in (off by {error:.2g})")

    def all_close(self, how: str, got: list, exact: list, definition: list) -> None:
        for label, a, b, c in zip(self.labels, got, exact, definition):
            if a is not None:
                self.close(f"the gradient of {label}{how}", a, b, c)

    def close(self, what: str, got: np.ndarray, exact: np.ndarray, definition: np.ndarray) -> None:
        """float64: equal to 1e-11.  float32: to `rounding`, or to eight times what the definition loses in float32."""
        self.require(got.shape == exact.shape, f"{what} has shape {got.shape}, expected {exact.shape}")
        if got.dtype.kind != "f":
            self.require(np.array_equal(got, exact), f"{what} differs")
        if got.dtype.kind != "f" or got.size == 0:
            return
        self.require(np.all(np.isfinite(got)), f"{what} isn't finite")
        size = float(np.max(np.abs(exact)))
        if got.dtype == np.float64:
            allowed = 1e-11 * (1 + size)
        else:
            allowed = self.rounding * size + 8 * float(np.max(np.abs(definition.astype(np.float64) - exact)))
            allowed += 1e-4 if size < 1e-12 else 0.0  # all of it cancels, and nothing says how large the terms were
        error = np.abs(got.astype(np.float64) - exact)
        at = np.unravel_index(int(np.argmax(error)), error.shape)
        self.require(error[at] <= allowed, f"{what} (shape {got.shape}) at {index_as_text(at)} is {got[at]:.9g}, expected {exact[at]:.9g}; "
                                           f"the largest entry is {size:.3g}, the allowed error {allowed:.2g}")


def _bytes(*arrays: np.ndarray | None) -> list:
    return [None if a is None else a.tobytes() for a in arrays]


def _strided(a: np.ndarray) -> np.ndarray:
    """The same values as a view with gaps: every second entry of a wider array."""
    if a.ndim == 0:
        return a
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


@contextmanager
def _rules_counted(operation: Callable) -> Iterator[set[int]]:
    """Which of a primitive's rules run."""
    ran: set[int] = set()
    if not isinstance(operation, Primitive):
        yield ran
        return
    variadic = operation.variadic

    def counted(i: int, rule: Callable) -> Callable:
        def counting(*args: Any, **settings: Any) -> Any:
            ran.add(args[2] if variadic else i)
            return rule(*args, **settings)

        return counting

    rules = operation.rules
    operation.rules = tuple(None if rule is None else counted(i, rule) for i, rule in enumerate(rules))
    try:
        yield ran
    finally:
        operation.rules = rules
