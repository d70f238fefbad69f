"""Gradients against differences, which are extrapolated to a step of zero (Ridders 1982) and know their own error."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..tensor import Tensor, enable_grad, grad, no_grad

FIRST_STEPS = (2.0**-6, 2.0**-12, 2.0**-18)  # of an argument's size, or of 1 for small arguments; halved from there
SMALLEST_STEP = 2.0**-28
UNMEASURED = 3e-4       # relative error of the differences above which they say nothing


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
    arguments = tuple(_accepted(name, label, a) for label, a in zip(argument_labels(function, len(arguments)), arguments))
    moving = [i for i, a in enumerate(arguments) if is_float(a)]
    if not moving:
        raise ValueError(f"check_gradients: {name} was given no float64 array to differentiate by")
    rng = np.random.default_rng(0) if rng is None else rng

    def of_moving(*tensors: Tensor) -> list[Tensor]:
        mixed = list(arguments)
        for i, t in zip(moving, tensors):
            mixed[i] = t
        y = function(*mixed, **settings)
        return list(y) if isinstance(y, (list, tuple)) else [y]

    labels = [argument_labels(function, len(arguments))[i] for i in moving]
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


def is_float(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def argument_labels(function: Callable, n: int) -> list[str]:
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
            return gradients_of(f(*xs), xs, gs, create_graph=again)

    return gradient


def gradients_of(ys: Sequence[Tensor], xs: Sequence[Tensor], gs: Sequence, create_graph: bool = False) -> list[Tensor]:
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
        gradients = [d.data for d in gradients_of(f(*xs), xs, weights)]
    for i, (label, d) in enumerate(zip(labels, gradients)):
        if d.shape != values[i].shape:
            raise AssertionError(f"{what} of {label} has shape {d.shape}, {label} has {values[i].shape}")
        if not np.all(np.isfinite(d)):
            raise AssertionError(f"{what} of {label} at {index_as_text(np.argwhere(~np.isfinite(d))[0])} is {d[~np.isfinite(d)][0]}")
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
                raise AssertionError(f"{what} of {label} (shape {d.shape}) at {index_as_text(at)} {message}")
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


def index_as_text(at: Sequence) -> str:
    return f"[{', '.join(str(int(i)) for i in at)}]"
