"""Generation as a stream of steps that can be replayed.

The idea of a `Step`: a sampler is a pure function of its arguments, random draws included. Whoever keeps the arguments can compute
the step again and get the same bits, so a record isn't a log of what happened but something that can be re-run, traced and patched.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from ..autograd import no_grad
from .checks import check_count


@dataclasses.dataclass
class Step:
    """Record of one step of generation; fields are named by the paper's symbols.  Subclasses are dataclasses."""

    def replay(self) -> Any:
        """The same step computed again, equal bit for bit.  Raises ValueError for a record that `steps` didn't yield whole."""
        compute = getattr(self, "_replay", None)
        if compute is None:
            raise ValueError(f"{type(self).__name__}: this record was built by hand, or `keep` left fields out; "
                             "only complete records from `steps(...)` can be replayed")
        with no_grad():
            return compute()

    def arrays(self) -> dict[str, np.ndarray]:
        """Every field that isn't None as an array, by name."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self) if getattr(self, f.name) is not None}

    def to_json(self) -> dict[str, Any]:
        """Every field that isn't None in JSON's types, by name."""
        return {name: a.tolist() for name, a in self.arrays().items()}

    def equals(self, other: Step) -> bool:
        """True if both are of the same class and all fields are equal bit for bit (NaN equals NaN)."""
        mine, theirs = self.arrays(), other.arrays()
        return type(self) is type(other) and mine.keys() == theirs.keys() and all(
            np.array_equal(a, theirs[n], equal_nan=a.dtype.kind == "f") and a.dtype == theirs[n].dtype for n, a in mine.items())

    def __init_subclass__(cls) -> None:
        cls.__repr__ = Step.__repr__  # type: ignore[method-assign]  # or dataclass would write one that lists every number

    def __repr__(self) -> str:
        from ..drawing.summary import short_step

        return short_step(self)

    def __str__(self) -> str:
        from ..drawing.terminal import draw_step

        return draw_step(self)

    def _repr_html_(self) -> str:
        from ..drawing.notebook import step_html

        return step_html(self)


S = TypeVar("S", bound=Step)


def replayable(make: Callable[..., S]) -> Callable[..., S]:
    """Decorator of a function that computes one Step from its arguments alone: no hidden state, random draws are arguments too."""

    @functools.wraps(make)
    def wrapped(*args: Any, **kwargs: Any) -> S:
        step = make(*args, **kwargs)
        step._replay = functools.partial(make, *args, **kwargs)  # type: ignore[attr-defined]
        return step

    return wrapped


def stream(*records: type[Step]) -> Callable[[Callable[..., Iterator[S]]], Callable[..., Iterator[S]]]:
    """Decorator of a method that yields records of these classes.

    Gradients are off while a record is computed, and on or off as the caller has them whenever a record is in the caller's hands, even if
    the stream is held, read beside others, closed or dropped.  Two keywords are added, which bound the memory of a long run:

    every: n yields every n-th record, beginning with the first, and always the last.
    keep: names of the fields to keep; the others become None, and such a record can't be replayed.
    """
    fields = {f.name: None for record in records for f in dataclasses.fields(record)}

    def decorate(generate: Callable[..., Iterator[S]]) -> Callable[..., Iterator[S]]:
        @functools.wraps(generate)
        def steps(*args: Any, every: int = 1, keep: str | Iterable[str] | None = None, **kwargs: Any) -> Iterator[S]:
            check_count(every, "every")
            names = _field_names(keep, fields)
            records = _without_gradients(generate(*args, **kwargs))
            return records if every == 1 and names is None else _thinned(records, every, names)

        signature = inspect.signature(generate)
        added = [p for name, p in inspect.signature(steps, follow_wrapped=False).parameters.items() if name in ("every", "keep")]
        steps.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
        return steps

    return decorate


def _field_names(keep: str | Iterable[str] | None, fields: Iterable[str]) -> set[str] | None:
    if keep is None:
        return None
    names = {keep} if isinstance(keep, str) else set(keep) if isinstance(keep, Iterable) else {keep}
    for name in names:
        if name not in fields:
            raise ValueError(f"keep: {name!r} isn't a field of these records; they have {', '.join(fields)}")
    return names


def _without_gradients(steps: Iterator[S]) -> Iterator[S]:
    """The same steps.  (`with no_grad(): yield` would leave the caller without gradients: a generator that waits hasn't left its `with`.)"""
    try:
        while True:
            with no_grad():
                step = next(steps, None)
            if step is None:
                return
            yield step
    finally:
        with no_grad():
            getattr(steps, "close", lambda: None)()


def _thinned(steps: Iterator[S], every: int, names: set[str] | None) -> Iterator[S]:
    """Every n-th step and the last one, with the named fields alone."""

    def with_fields(step: S) -> S:
        if names is None:
            return step
        return dataclasses.replace(step, **{f.name: None for f in dataclasses.fields(step) if f.name not in names})

    skipped = None  # the latest step, unless it was yielded
    for i, step in enumerate(steps):
        skipped = step
        if i % every == 0:
            yield with_fields(step)
            skipped = None
    if skipped is not None:
        yield with_fields(skipped)


def last(steps: Iterator[S]) -> S:
    """The last record of a stream, without holding any other."""
    records = deque(steps, maxlen=1)
    if not records:
        raise ValueError("steps: the stream was empty")
    return records[0]
