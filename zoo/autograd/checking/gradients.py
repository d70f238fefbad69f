"""Check gradients against differences, and an operation against every law that operations keep.

    check_gradients(lambda x, w: tanh(x @ w), x, w)        # any function of tensors; float64 arrays

    @given(broadcastable(2))                                # a property test of an operation of your own
    def test_hypotenuse(case):
        check_operation(hypotenuse, *case)

A derivative that is wrong by a tenth of a percent fails: differences are extrapolated to a step of zero (Ridders 1982), which
in float64 leaves ten digits or so, and their own error is estimated and taken into account, so that a right one doesn't fail.

The strategies (`arrays`, `broadcastable`, `shapes`) need Hypothesis, which comes with `pip install numpy-zoo[test]`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..operation import Primitive
from ..runtime.switch import use_kernels
from ..tensor import Tensor, enable_grad, grad, no_grad

FIRST_STEPS = (2.0**-6, 2.0**-12, 2.0**-18)  # of an argument's size, or of 1 for small arguments; halved from there
SMALLEST_STEP = 2.0**-28
UNMEASURED = 3e-4       # relative error of the differences above which they say nothing


# --- gradients against differences ---------------------------------------------------------------------------------------------


def check_gradients(function: Callable, *arguments: Any, order: int = 2, rtol: float = 1e-5, atol: float = 1e-8, entries: int = 12,
                    rng: np.random.Generator | None = None, **settings: Any) -> None:
    """Raise AssertionError unless the engine's gradients of `function` are those that differences give.

    function: takes tensors, returns a tensor or a tuple of them; settings are handed on to it.
    arguments: float64 arrays are differentiated; integers, bools and None are handed on as they are.
    order: 1 checks the gradient; 2 the gradient of the gradient as well, as differences of the gradient; and so on.
    rtol, atol: how far the engine may be from the differences, beyond what the differences themselves leave open (atol: of the
        change in the output when an argument changes by its own size, or by 1 if it's smaller).
    entries: of each argument, that many entries (all of them if it has fewer) are moved alone, and all along one direction.

    Differences are taken over steps from 1/64 down: at a kink they measure nothing, so keep away from it (`arrays(away_from=0)`).
    """
    name = getattr(function, "__name__", "function")
    arguments = tuple(_accepted(name, label, a) for label, a in zip(_labels(function, len(arguments)), arguments))
    moving = [i for i, a in enumerate(arguments) if _is_float(a)]
    if not moving:
        raise ValueError(f"check_gradients: {name} was given no float64 array to differentiate by")
    rng = np.random.default_rng(0) if rng is None else rng

    def of_moving(*tensors: Tensor) -> list[Tensor]:
        mixed = list(arguments)
        for i, t in zip(moving, tensors):
            mixed[i] = t
        y = function(*mixed, **settings)
        return list(y) if isinstance(y, (list, tuple)) else [y]

    labels = [_labels(function, len(arguments))[i] for i in moving]
    values = [arguments[i] for i in moving]
    f: Callable = of_moving
    for k in range(1, order + 1):
        ys = _values(f, values)
        for y in ys:
            if y.dtype.kind != "f":
                raise ValueError(f"check_gradients: {name} returns {y.dtype}, which has no gradient")
            if not np.all(np.isfinite(y)):
                raise ValueError(f"check_gradients: {name}{' (its gradient)' if k > 1 else ''} isn't finite at these arguments")
        weights = [rng.standard_normal(y.shape) for y in ys]
        what = name + ": " + ("the gradient", "the second-order gradient")[k - 1] if k < 3 else f"{name}: the gradient of order {k}"
        _check_first_order(what, f, values, labels, weights, rtol, atol, entries, rng)
        f, values, labels = _gradient_of(f, len(ys)), weights + values, [f"g{'' if k == 1 else k}"] * len(weights) + labels


def _accepted(name: str, label: str, a: Any) -> Any:
    if a is None:
        return None
    a = np.asarray(a.data if isinstance(a, Tensor) else a)
    if a.dtype.kind not in "fiub":
        raise TypeError(f"check_gradients: {label} of {name} has dtype {a.dtype}; it may be float64, or integer or bool, which stay fixed")
    if a.dtype.kind == "f" and a.dtype != np.float64:
        raise TypeError(f"check_gradients: {label} of {name} is {a.dtype}, too coarse for differences; convert it: .astype(np.float64)")
    return a


def _is_float(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def _labels(function: Callable, n: int) -> list[str]:
    """What the arguments are called."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [names[i] if i < len(names) else f"argument {i}" for i in range(n)]


def _values(f: Callable, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    with no_grad(), np.errstate(all="ignore"):
        return [y.data if isinstance(y, Tensor) else np.asarray(y) for y in f(*map(Tensor, values))]


def _gradient_of(f: Callable, n: int) -> Callable:
    """(g of each of the n outputs, then arguments) -> the gradient of each argument: to be differentiated once more."""

    def gradient(*tensors: Tensor) -> list[Tensor]:
        again = any(t.requires_grad for t in tensors)
        gs, xs = tensors[:n], [t if t.requires_grad else Tensor(t.data, requires_grad=True) for t in tensors[n:]]
        with enable_grad():
            return _gradients(f(*xs), xs, gs, create_graph=again)

    return gradient


def _gradients(ys: Sequence[Tensor], xs: Sequence[Tensor], gs: Sequence, create_graph: bool = False) -> list[Tensor]:
    """Zeros, not None, where nothing depends on an argument."""
    pairs = [(y, g) for y, g in zip(ys, gs) if isinstance(y, Tensor) and y.requires_grad]
    gradients: Sequence = [None] * len(xs)
    if pairs:
        gradients = grad([y for y, _ in pairs], xs, [g for _, g in pairs], create_graph=create_graph, allow_unused=True)
    return [Tensor(np.zeros_like(x.data)) if d is None else d for x, d in zip(xs, gradients)]


def _check_first_order(what: str, f: Callable, values: list, labels: list[str], weights: list, rtol: float, atol: float, entries: int,
                       rng: np.random.Generator) -> None:
    xs = [Tensor(v, requires_grad=True) for v in values]
    with np.errstate(all="ignore"):
        gradients = [d.data for d in _gradients(f(*xs), xs, weights)]
    for i, (label, d) in enumerate(zip(labels, gradients)):
        if d.shape != values[i].shape:
            raise AssertionError(f"{what} of {label} has shape {d.shape}, {label} has {values[i].shape}")
        if not np.all(np.isfinite(d)):
            raise AssertionError(f"{what} of {label} at {_index(np.argwhere(~np.isfinite(d))[0])} is {d[~np.isfinite(d)][0]}")
        if d.size == 0:
            continue
        size = np.maximum(np.abs(values[i]), 1.0)
        largest = float(np.max(np.abs(d * size)))

        def wrong(direction: np.ndarray, i: int = i, d: np.ndarray = d, largest: float = largest) -> str | None:
            got = float(np.sum(d * direction))
            message = None
            for first_step in FIRST_STEPS:  # a peak narrower than a step looks flat: before anything is wrong, smaller steps are asked
                expected, error = _difference(f, values, i, direction, weights, first_step, rtol, atol)
                open_to = UNMEASURED * max(abs(expected), largest) + (atol if message else 100 * atol)
                if not error <= open_to:
                    message = message or f"can't be measured: differences give {expected:.6g}, give or take {error:.1g} (a kink or a jump?)"
                elif abs(got - expected) <= rtol * abs(expected) + atol + 2 * error:
                    return None
                else:
                    reach, off = float(np.max(np.abs(direction))), abs(got - expected) / max(abs(expected), 1e-300)
                    message = (f"is wrong: the engine gives {got / reach:.10g}, differences give {expected / reach:.10g} "
                               f"(relative error {off:.2g})")
            return message

        along = wrong(size * rng.uniform(-1, 1, d.shape))
        few = rng.permutation(d.size)[:entries]
        for j in np.sort(few if along is None else rng.permutation(d.size)[:1000]):
            at = np.unravel_index(j, d.shape)
            direction = np.zeros(d.shape)
            direction[at] = size[at]
            message = wrong(direction)
            if message:
                raise AssertionError(f"{what} of {label} (shape {d.shape}) at {_index(at)} {message}")
        if along is not None:
            raise AssertionError(f"{what} of {label} (shape {d.shape}) along a random direction {along}")


def _difference(f: Callable, values: list, i: int, direction: np.ndarray, weights: list, h: float, rtol: float,
                atol: float) -> tuple[float, float]:
    """The derivative of sum(weights * f) when argument i moves along direction, and an estimate of its error (Ridders 1982).

    Central differences at steps h, h / 2, h / 4, ... have errors in h^2, h^4, ...: each column of the table takes out one more.
    """
    best, error = math.nan, math.inf
    above: list[float] = []  # the row before
    rows = 0
    while h >= SMALLEST_STEP:
        ends = []
        for sign in (h, -h):
            moved = list(values)
            moved[i] = values[i] + sign * direction
            ends.append(_values(f, moved))
        with np.errstate(all="ignore"):
            first = sum(float(np.sum(w * (up - down))) for w, up, down in zip(weights, *ends)) / (2 * h)
            rounding = 2e-16 / h * max(float(np.max(np.abs(w * up), initial=0)) for w, up in zip(weights, ends[0]))
        rows, h = rows + 1, h / 2
        if not math.isfinite(first):  # the step left the domain
            above = []
            continue
        row = [first]
        for j, p in enumerate(above[:6]):
            row.append(row[j] + (row[j] - p) / (4.0 ** (j + 1) - 1))
        for j, p in enumerate(above[:7]):
            spread = max(abs(row[j] - p), abs(row[min(j + 1, len(row) - 1)] - row[j])) + rounding
            if spread < error:
                best, error = row[min(j + 1, len(row) - 1)], spread
        above = row
        if rows >= 3 and (error < 0.01 * (rtol * abs(best) + atol) or rounding > error):
            break
    return best, error


def _index(at: Sequence) -> str:
    return f"[{', '.join(str(int(i)) for i in at)}]"


# --- the laws of an operation ----------------------------------------------------------------------------------------------------


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
    coarse: list[Any] = [a.astype(np.float32) if a is not None and _is_float(a) else a for a in given]
    exact: list[Any] = [a.astype(np.float64) if _is_float(a) else a for a in coarse]  # the same numbers in both
    laws = _Laws(operation, settings, rounding, _labels(operation, len(given)))

    y = laws.value(exact)
    with use_kernels(False):
        y_defined = laws.value(coarse)
    laws.close("the value", laws.value(coarse), y, y_defined)
    if y.dtype.kind != "f" or not any(map(_is_float, exact)):
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
        which = [i for i, a in enumerate(arguments) if _is_float(a)] if needed is None else list(needed)
        xs = [Tensor(a, requires_grad=i in which) if _is_float(a) else a for i, a in enumerate(arguments)]
        y = self.operation(*xs, **self.settings)
        gradients: list = [None] * len(arguments)
        for i, d in zip(which, _gradients([y], [xs[i] for i in which], [g], create_graph)):
            gradients[i] = d.data
        return y.data, gradients

    def value(self, arguments: Sequence) -> np.ndarray:
        before = _bytes(*arguments)
        plain = self.operation(*arguments, **self.settings)
        self.require(not isinstance(plain, Tensor), "called on arrays it gives a tensor")
        floats = [a.dtype for a in arguments if _is_float(a)]
        y = np.asarray(plain)
        if floats:
            with no_grad():
                tensor = self.operation(*(Tensor(a) if _is_float(a) else a for a in arguments), **self.settings)
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
        self.require(error[at] <= allowed, f"{what} (shape {got.shape}) at {_index(at)} is {got[at]:.9g}, expected {exact[at]:.9g}; "
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


# --- Hypothesis strategies -------------------------------------------------------------------------------------------------------

DRAWN_ONE_BY_ONE = 48  # larger arrays are drawn through a seed: fast, but Hypothesis can't make them simpler


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 1, max_side: int = 4) -> Any:
    """Shapes of small arrays."""
    return _hypothesis()[1].array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def arrays(shape: Any = None, *, low: float = -2.0, high: float = 2.0, positive: bool = False, away_from: float | Sequence[float] = (),
           distinct: bool = False, dtype: Any = np.float64) -> Any:
    """Float arrays on a grid of 1/64 (so that float32 holds the same numbers) from low to high.

    shape: a tuple, or a strategy for one; `shapes()` unless given.
    positive: from 1/8 up.  away_from: numbers that every entry keeps 1/8 away from, because of a kink there.
    distinct: no two entries are alike, and they're as far apart as fits (for what picks the greatest, or sorts).
    """
    st, _ = _hypothesis()
    shape = shapes() if shape is None else st.just(tuple(shape)) if isinstance(shape, (tuple, list)) else shape
    points = np.atleast_1d(np.asarray(away_from, np.float64))
    low = max(low, 0.125) if positive else low

    def allowed(n: int) -> np.ndarray:
        step = 1 / 64 if not distinct else min(1 / 64, 2.0 ** math.floor(math.log2((high - low) / (4 * n + 4))))
        grid = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
        grid = grid[np.all(np.abs(grid[:, None] - points) >= 0.125, axis=1)]
        if len(grid) < (n if distinct else 1):
            raise ValueError(f"arrays: no {n} numbers from {low} to {high} keep away from {away_from}")
        return grid

    @st.composite
    def drawn(draw: Callable) -> np.ndarray:
        s = draw(shape)
        n = math.prod(s)
        grid = allowed(n)
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1))) if n > DRAWN_ONE_BY_ONE else None
        if distinct:
            order = draw(st.permutations(range(n))) if rng is None else rng.permutation(n)
            index = np.asarray(order, int) * (len(grid) - 1) // max(n - 1, 1)
        else:
            grid = grid[np.argsort(np.abs(grid), kind="stable")]  # the simplest first
            last = len(grid) - 1
            one_by_one = st.lists(st.integers(0, last), min_size=n, max_size=n)
            index = np.asarray(draw(one_by_one) if rng is None else rng.integers(0, last + 1, n), int)
        return grid[index].reshape(s).astype(dtype)

    return drawn()


def broadcastable(count: int = 2, **options: Any) -> Any:
    """Tuples of `count` arrays whose shapes broadcast together; options as for `arrays`."""
    st, extra = _hypothesis()
    together = extra.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, min_side=1, max_side=3)
    return together.flatmap(lambda s: st.tuples(*(arrays(x, **options) for x in s.input_shapes)))


def _hypothesis() -> tuple[Any, Any]:
    try:
        from hypothesis import strategies
        from hypothesis.extra import numpy
    except ImportError:
        raise ImportError("the strategies of zoo.autograd.checking need Hypothesis: pip install 'numpy-zoo[test]'") from None
    return strategies, numpy
