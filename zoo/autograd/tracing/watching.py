"""Looking inside: every operation that runs, under its module's dotted path, seen or changed.

    with zoo.trace(model) as seen:                       with zoo.patch(model, {"blocks.1.attention.softmax": f}):
        model(ids)                                           model(ids)
    seen["blocks.0.attention.softmax"].value

While a trace or patch is on, a fused operation runs its definition, so that its parts are seen too, each under its name:
`blocks.0.attention.scaled_dot_product_attention.softmax.exp`.  The names in between may be left out where a name is looked up:
`blocks.0.attention.softmax`.  The second time that a name comes up in one pass through the model, it ends in `#2`.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..operation import Fused, Operation
from ..tensor import Tensor, state


class UnknownName(KeyError):
    """Nothing that ran has this name; the message names the nearest."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would put the message in quotes


class Statistics(dict[str, float]):
    """mean, std, min and max of the values."""

    def __missing__(self, name: str) -> float:
        new = {"deviation": "std", "least": "min", "greatest": "max"}[name]
        warnings.warn(f"statistics[{name!r}] is statistics[{new!r}] now; the old name goes in the next release", DeprecationWarning, stacklevel=2)
        return self[new]


@dataclasses.dataclass
class Seen:
    """One operation that ran."""

    name: str  # module path, fused operations, operation
    short: str  # module path and operation
    operation: str
    formula: str  # the first line of the operation's docstring
    value: np.ndarray
    seconds: float
    round: int  # which pass through the model, from 0
    settings: dict[str, Any]
    birth: int | None = None  # of the node that remembers it, if one does
    _grad: list | None = dataclasses.field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def grad(self) -> np.ndarray | None:
        """The gradient that backward brought here, if it ran."""
        return self._grad[-1] if self._grad else None

    @property
    def statistics(self) -> dict[str, float]:
        v = self.value
        if v.size == 0:
            return Statistics()
        v = v.astype(np.float64) if v.dtype.kind != "f" else v
        with np.errstate(invalid="ignore", over="ignore"):  # a mask's -inf have a mean, -inf, and no deviation
            return Statistics({"mean": float(v.mean()), "std": float(v.std()), "min": float(v.min()), "max": float(v.max())})

    def __repr__(self) -> str:
        numbers = ", ".join(f"{k} {v:.4g}" for k, v in self.statistics.items())
        return f"{self.name}: {self.formula}; {self.value.dtype} {self.shape}, {numbers}"


class Watcher:
    """Sees every operation while it is on; `see` may return another value than the one that was computed."""

    opens_operations = True  # a fused one runs its definition, so that its parts are seen

    def __init__(self, model: Any = None):
        self.model = model
        self.paths = {} if model is None else {id(module): path for path, module in model.modules()}
        self.root = None if model is None else id(model)
        self.round = -1 if model is not None else 0
        self.depth = 0
        self.counts: dict[str, int] = {}

    def __enter__(self):
        state.watchers = (*state.watchers, self)
        return self

    def __exit__(self, *error: object) -> None:
        state.watchers = tuple(w for w in state.watchers if w is not self)

    def inside(self, module: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        """Run a module's __call__ under its path."""
        path = next((w.paths[id(module)] for w in reversed(state.watchers) if id(module) in w.paths), None)
        before = state.scope
        outer = before[0] if before else ""
        if path is None:
            path = f"{outer}.{type(module).__name__}" if outer else type(module).__name__
        for w in state.watchers:
            if w.root == id(module):
                w.round, w.counts = w.round + 1, {}
        state.scope = (path, "")
        for w in state.watchers:
            w.enter(path)
        try:
            y = call(module, *args, **kwargs)
        finally:
            state.scope = before
        for w in state.watchers:
            w.leave(path, y)
        return y

    def enter(self, path: str) -> None:
        """A module's __call__ begins."""

    def leave(self, path: str, y: Any) -> None:
        """It has returned y."""

    def run_watched(self, operation: Operation, args: Any, settings: dict) -> Any:
        """Run an operation, opened into its definition, and show the result to all traces and patches that are on."""
        if not any(w.opens_operations for w in state.watchers):
            return operation.apply(args, settings)
        before, watchers = state.scope, state.watchers
        module, fused = before or ("", "")
        path = ".".join(filter(None, (module, fused, operation.__name__)))
        began = time.perf_counter()
        if isinstance(operation, Fused):
            state.scope = (module, f"{fused}.{operation.__name__}" if fused else operation.__name__)
            if not operation.opened:  # by its definition too, where kernels are off
                state.watchers = ()
        try:
            y = operation.apply(args, settings, by_definition=isinstance(operation, Fused) and operation.opened)
        finally:
            state.scope, state.watchers = before, watchers
        seconds = time.perf_counter() - began
        short = f"{module}.{operation.__name__}" if module else operation.__name__
        for w in state.watchers:
            if w.opens_operations:
                y = w.number(path, short, operation, y, seconds, settings)
        return y

    def number(self, path: str, short: str, operation: Operation, y: Any, seconds: float, settings: dict) -> Any:
        n = self.counts[path] = self.counts.get(path, 0) + 1
        suffix = f"#{n}" if n > 1 else ""
        return self.see(path + suffix, short + suffix, operation, y, seconds, settings)

    def see(self, name: str, short: str, operation: Operation, y: Any, seconds: float, settings: dict) -> Any:
        raise NotImplementedError


class Trace(Watcher, Mapping[str, Seen]):
    """What `zoo.trace` gives: a mapping from names to what was seen, in the order in which it ran; the last pass where there were several.

    at: a pattern, or several, of names to record ("blocks.*.attention.*"; a star also matches dots); without it, all are.
    """

    def __init__(self, model: Any = None, at: str | Iterable[str] = "*"):
        super().__init__(model)
        self.at = (at,) if isinstance(at, str) else tuple(at)
        self.records: list[Seen] = []
        self._unmatched: set[str] = set()
        self._shorts: set[str] = set()
        self._any_taken = False
        self._matches = re.compile("|".join(map(fnmatch.translate, self.at))).match

    def see(self, name, short, operation, y, seconds, settings):
        if name in self._unmatched:
            return y
        if not (self._matches(name) or self._matches(short)):
            self._unmatched.add(name)
            self._shorts.add(short)
            return y
        value = y.data if isinstance(y, Tensor) else np.asarray(y)
        if value.base is not None:
            value = value.copy()  # a view of something that may be written to later, such as a cache
        gradients = y.retain_grad().node.kept_grad if isinstance(y, Tensor) and y.node is not None else None  # type: ignore[union-attr]
        formula = (operation.__doc__ or "").strip().partition("\n")[0]
        self.records.append(Seen(name, short, operation.__name__, formula, value, seconds, max(self.round, 0), settings, _birth(y), gradients))
        return y

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if error[0] is None and not self.records and self._unmatched and not self._any_taken:
            near = _nearest(self.at[0], self._unmatched | self._shorts)
            raise UnknownName(f"trace: nothing that ran matches at={', '.join(map(repr, self.at))}{near}")

    def take(self) -> list[Seen]:
        """The records since the last call, which the trace then forgets: a long stream's memory stays bounded this way."""
        records, self.records = self.records, []
        self._any_taken = self._any_taken or bool(records)
        self.counts = {}
        return records

    def all(self, name: str) -> list[Seen]:
        """All records of that name, one for each pass through the model."""
        records = [r for r in self.records if r.name == name] or [r for r in self.records if r.short == name]
        if not records:
            known = {r.short for r in self.records} | {r.name for r in self.records}
            raise UnknownName(f"trace: nothing called {name!r} was seen{_nearest(name, known)}")
        return records

    def __getitem__(self, name: str) -> Seen:
        return self.all(name)[-1]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(r.name for r in self.records))

    def __len__(self) -> int:
        return len({r.name for r in self.records})

    def __repr__(self) -> str:
        names = list(self)
        shown = names if len(names) < 5 else [*names[:2], "...", names[-1]]
        return f"<Trace of {len(self.records)} values: {', '.join(shown) or 'nothing ran'}>"

    def __str__(self) -> str:
        """A table: name, shape, statistics, time."""
        rows: list[tuple[str, ...]] = [("name", "shape", "mean", "std", "min", "max", "us")]
        for r in self.records:
            numbers = [f"{x:.3g}" for x in r.statistics.values()] or [""] * 4
            rows.append((r.name, str(r.shape), *numbers, f"{r.seconds * 1e6:.0f}"))
        widths = [max(len(row[i]) for row in rows) for i in range(7)]
        return "\n".join("  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) for row in rows)


class ModuleTrace(Watcher):
    """What each module of a model computed, without its operations: these run their kernels, so the numbers are those that come when nobody
    looks, bit for bit."""

    opens_operations = False

    def __init__(self, model: Any):
        super().__init__(model)
        self._known = set(self.paths.values())
        self._ran: dict[str, Any] = {}

    def enter(self, path: str) -> None:
        if path in self._known:
            self._ran.setdefault(path, None)

    def leave(self, path: str, y: Any) -> None:
        if path in self._known and self._ran.get(path) is None:
            self._ran[path] = y

    def take(self) -> dict[str, Any]:
        """The modules that ran since the last call, by path and in the order in which they began, each with what it returned first."""
        ran, self._ran = self._ran, {}
        return ran


class Patch(Watcher):
    """What `zoo.patch` gives: while it is on, each value that a name or pattern matches is replaced by f(value).

    changes: {name: f}; f takes the array (a copy, which it may change) and returns one of the same shape, or a tensor to let gradients
    through.
    A name that nothing matched by the end is an error that names the nearest.
    """

    def __init__(self, model: Any, changes: Mapping[str, Callable[[np.ndarray], Any]]):
        super().__init__(model)
        self.changes = dict(changes)
        self.used: dict[str, int] = dict.fromkeys(self.changes, 0)
        self._names: set[str] = set()

    def see(self, name, short, operation, y, seconds, settings):
        self._names.update((name, short))
        for pattern, change in self.changes.items():
            if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(short, pattern):
                self.used[pattern] += 1
                value = y.data if isinstance(y, Tensor) else np.asarray(y)
                new = change(value.copy())
                if np.shape(new) != value.shape:
                    raise ValueError(f"patch: {name} has shape {value.shape}; the function for {pattern!r} returned {np.shape(new)}")
                if not isinstance(new, Tensor):
                    new = np.asarray(new, value.dtype)
                    new = Tensor(new) if isinstance(y, Tensor) else new
                y = new
        return y

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        unused = [p for p, n in self.used.items() if not n]
        if error[0] is None and unused and self._names:
            raise UnknownName(f"patch: nothing that ran is called {unused[0]!r}{_nearest(unused[0], self._names)}")


def _birth(y: Any) -> int | None:
    return y.node.birth if isinstance(y, Tensor) and y.node is not None else None


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), 3, 0.4)
    return f"; the nearest are {', '.join(near)}" if near else ""


def trace(model: Any = None, at: str | Iterable[str] = "*") -> Trace:
    """See every operation that runs: `with zoo.trace(model) as seen: ...`"""
    return Trace(model, at)


def patch(model: Any, changes: Mapping[str, Callable[[np.ndarray], Any]]) -> Patch:
    """Change intermediate values while the model runs: `with zoo.patch(model, {"encoders.0.layers.1.tanh": lambda a: 0 * a}): ...`"""
    return Patch(model, changes)


def watched() -> bool:
    """True while a trace or patch is on: a model that has a shortcut past its operations takes the long way then."""
    return bool(state.watchers)
