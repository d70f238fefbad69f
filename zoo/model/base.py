"""What all models share: a configuration, saving to and loading from a folder, and generation as a stream of steps that can be replayed.

The idea of a `Step`: a sampler is a pure function of its arguments, random draws included.  Whoever keeps the arguments can compute
the step again and get the same bits, so a record isn't a log of what happened but something that can be re-run, traced and patched.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import inspect
import math
import typing
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np

from .. import storage
from ..autograd import no_grad
from ..autograd.tracing import trace
from ..drawing.summary import Row, Summary
from ..nn import Module

C = TypeVar("C", bound="Config")
M = TypeVar("M", bound="Model")
V = TypeVar("V")


# --- settings


@dataclasses.dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`, which belong to it unless `above` or `below` says otherwise."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # more than `low`, not `low` itself
    below: bool = False  # less than `high`, not `high` itself

    def __contains__(self, number: float) -> bool:
        return math.isfinite(number) and (number > self.low if self.above else number >= self.low) and (
            number < self.high if self.below else number <= self.high)

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:g}" if self.low > -math.inf else ""
        high = f"{'below' if self.below else 'at most'} {self.high:g}" if self.high < math.inf else ""
        return " and ".join(filter(None, (low, high))) or "finite"


# Types of fields: `epochs: Count = 20`, `widths: tuple[Count, ...] = (200,)`, `clip: Positive | None = None`
Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
NonNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, 1, below=True)]  # of an exponential average


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings: a frozen dataclass built from keywords, a card or the command line by `make`, which checks names and types.

    A field's type may hold the range of its numbers (`Count`, `Positive`, `Annotated[float, Range(0, 2)]`, and tuples of these): a number
    outside of it is a ValueError however the object is built.
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for f in dataclasses.fields(self):
            value, allowed = getattr(self, f.name), range_of(hints[f.name])
            if typing.get_origin(hints[f.name]) is typing.Literal:
                _as_type(value, hints[f.name], f"{type(self).__name__}: {f.name}")
            for number in value if isinstance(value, tuple) else (value,):
                if allowed is not None and isinstance(number, (int, float)) and not isinstance(number, bool) and number not in allowed:
                    each = " each" if isinstance(value, tuple) else ""
                    raise ValueError(f"{type(self).__name__}: {f.name} is {value}; it is {allowed}{each}")

    @classmethod
    def make(cls: type[C], **fields: Any) -> C:
        """Fields by name; text, as the command line has it, is read as the field's type.

        Raises ValueError that names the field and what it may be; for an unknown field, the one whose name is nearest.
        """
        known = {f.name: f for f in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls)
        values = {}
        for name, value in fields.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(known)}"
                raise ValueError(f"{cls.__name__}: there is no field {name!r}; {hint}")
            values[name] = _as_type(value, hints[name], f"{cls.__name__}: {name}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def at_least(self, least: float, *names: str) -> None:
        """Raise ValueError unless each of these fields, or every number of a tuple, is at least this; a tuple may not be empty."""
        for name in names:
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not numbers or min(numbers) < least:
                raise ValueError(f"{type(self).__name__}: {name} is {value}; it is at least {least}")


def range_of(hint: Any) -> Range | None:
    """The range that an annotation allows: its own, or that of the parts of a tuple or union."""
    for part in (*getattr(hint, "__metadata__", ()), *typing.get_args(hint)):
        if isinstance(part, Range) or (part := range_of(part)) is not None:
            return part
    return None


def _as_type(value: Any, hint: Any, name: str) -> Any:
    """value converted to the type of its annotation."""
    if typing.get_origin(hint) is tuple:
        items = value.replace(",", " ").split() if isinstance(value, str) else list(value) if isinstance(value, (tuple, list)) else [value]
        return tuple(_as_type(v, typing.get_args(hint)[0], name) for v in items)
    allowed = typing.get_args(hint) or (hint,)
    if typing.get_origin(hint) is typing.Literal:
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; it may be {', '.join(map(repr, allowed))}")
        return value
    if type(None) in allowed and (value is None or value == "none"):
        return None
    for t in allowed:
        if t is bool and isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if t in (int, float) and isinstance(value, str):
            try:
                return t(value)
            except ValueError:
                continue
        if t is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, t) and not (t is int and isinstance(value, bool)):
            return value
    expected = " or ".join(getattr(t, "__name__", str(t)) for t in allowed)
    raise ValueError(f"{name} is {value!r}; it is a{'n' if expected[0] in 'aeiou' else ''} {expected}")


class Model(Module):
    """Base of every model.

    A subclass sets `kind` (its name on a card) and `Config`, is built by `cls(config, rng=rng)`, and defines `loss(batch, rng)` for
    training, `steps(...)`, which yields records of a generation, and `sample` or `generate`, which returns the result alone.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[Config]]
    config: Any
    card: dict[str, Any]

    @classmethod
    def new(cls: type[M], *, seed: int = 0, **fields: Any) -> M:
        """A model with fresh weights: Model.new(latent=20, seed=0)."""
        return cls(cls.Config.make(**fields), rng=np.random.default_rng(seed))

    def __init__(self, config: Any, *, rng: np.random.Generator):
        self.config = config

    def extras(self) -> dict[str, Any]:
        """More entries for the card, such as a tokenizer; `restore_extras` reads them back."""
        return {}

    def restore_extras(self, card: dict[str, Any]) -> None:
        pass

    def save(self, folder: str | Path, *, half: bool = False, **facts: Any) -> None:
        """Write `model.safetensors` and `card.json` to a folder; facts (command, seed, minutes, figures) become entries of the card.

        Raises ValueError, and writes nothing, where a weight isn't finite.
        half: store weights as float16 (11 significant bits) in half the space; `load` converts them back to float32.
        """
        self.check_finite()
        card = {"kind": self.kind, "version": storage.VERSION, "configuration": self.config.to_dict(), "parameters": self.num_parameters,
                **self.extras(), **facts}
        storage.save_folder(folder, halved(self.arrays()) if half else self.arrays(), card)

    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """As `Module.load_arrays`, also from a file written before a module's attribute was renamed: {old name: today's} is its `formerly`."""
        super().load_arrays(self._renamed(arrays))

    def check_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Raise ValueError unless these are the names and shapes that `load_arrays` takes."""
        storage.check_shapes(self._renamed(shapes), {name: a.shape for name, a in self.arrays().items()})

    def check_finite(self) -> None:
        """Raise ValueError that names an array with a NaN or an infinity in it."""
        for name, a in self.arrays().items():
            if not np.isfinite(a).all():
                raise ValueError(f"{name} holds numbers that aren't finite, as a run that broke or a damaged file leaves")

    def __repr__(self) -> str:
        """The class, its size, and the fields that differ from their defaults."""
        fields = [f"{f.name}={getattr(self.config, f.name)!r}" for f in dataclasses.fields(self.config)
                  if getattr(self.config, f.name) != f.default]
        return f"<{type(self).__name__}: {self.num_parameters:,} parameters{''.join(f', {field}' for field in fields)}>"

    def summary(self, run: Callable[[], Any] | None = None) -> Summary:
        """Every module with parameters: its type, the shape of its output, how many parameters it has.

        run: what to compute to learn the shapes, such as `lambda: model.loss(x, rng)`; one generation unless given.
        """
        if run is None and hasattr(self, "steps"):
            run = functools.partial(last, self.steps([0], 1) if hasattr(self, "generate") else self.steps())  # type: ignore[attr-defined]
        shapes: dict[str, tuple[int, ...]] = {}
        if run is not None:
            with no_grad(), trace(self) as seen:
                run()
            for record in seen.records:
                parts = record.short.split(".")
                for i in range(len(parts)):
                    shapes[".".join(parts[:i])] = np.shape(record.value)
        rows = []
        counted: set[int] = set()
        for path, module in self.modules():
            direct = [p for name, p in module.named_parameters().items() if "." not in name and id(p) not in counted]
            counted |= {id(p) for p in direct}
            if direct:
                rows.append(Row(path, type(module).__name__, shapes.get(path), sum(p.size for p in direct)))
        return Summary(repr(self)[1:-1], rows)

    def _renamed(self, named: dict[str, V]) -> dict[str, V]:
        for path, module in self.modules():
            for old, new in getattr(module, "formerly", {}).items():
                before, now = (f"{path}.{name}.".lstrip(".") for name in (old, new))
                named = {now + name.removeprefix(before) if name.startswith(before) else name: value for name, value in named.items()}
        return named

    @classmethod
    def from_folder(cls: type[M], folder: str | Path) -> M:
        arrays, card = storage.load_folder(folder)
        return cls.from_arrays(arrays, card, source=folder)

    @classmethod
    def from_arrays(cls: type[M], arrays: Mapping[str, np.ndarray], card: dict[str, Any], source: Any = "weights") -> M:
        """The model of a card, with these weights.  Raises WrongFile, before it allocates more than the weights take, where they don't fit."""
        try:
            settings = card.get("configuration", {})
            if not isinstance(settings, dict):
                raise ValueError(f"configuration is {storage.shorten(settings)}; it is an object of fields")
            config = cls.Config.make(**settings)
            model = cls(config, rng=Unfilled(config, storage.shapes_of(arrays)))  # type: ignore[arg-type]
            model.restore_extras(card)
            model.check_shapes(storage.shapes_of(arrays))
            model.load_arrays(dict(arrays))
            model.check_finite()
        except storage.WrongFile as e:
            raise storage.WrongFile(str(e) if str(source) in str(e) else f"{source}: {e}") from e
        except (ValueError, TypeError, KeyError, ArithmeticError, AttributeError, IndexError, RecursionError, MemoryError, FloatingPointError) as e:
            raise storage.WrongFile(f"{source}: {e or type(e).__name__}") from e
        model.card = card
        return model.eval()  # type: ignore[return-value]


class Unfilled:
    """Stands in for a Generator where a model is built only to be filled from a file: what it draws is 0.

    A card's configuration may ask for any size.  So no integer in it may exceed the numbers in the file (or ten million, for what
    takes no memory, such as a long window), and no more may be drawn than about twice what the file holds: a larger model is refused early.
    """

    def __init__(self, config: Any, shapes: Mapping[str, tuple[int, ...]]):
        self.numbers = sum(math.prod(shape) for shape in shapes.values())
        self.numbers_left, self.draws_left = 2 * self.numbers + 1_000_000, 8 * len(shapes) + 100  # what is near is told by names and shapes
        for f in dataclasses.fields(config):
            value = getattr(config, f.name)
            largest = max((n for n in (value if isinstance(value, tuple) else (value,)) if isinstance(n, int)), default=0)
            if largest > max(self.numbers, 10_000_000):
                raise ValueError(f"{f.name} is {storage.shorten(value)}, but the weights have {self.numbers:,} numbers in all")

    def standard_normal(self, size: Any = None) -> np.ndarray:
        shape = size if isinstance(size, tuple) else () if size is None else (size,)
        self.numbers_left, self.draws_left = self.numbers_left - math.prod(shape), self.draws_left - 1
        if min(self.numbers_left, self.draws_left) < 0:
            raise ValueError(f"the configuration describes a larger model than the weights are, which have {self.numbers:,} numbers")
        return np.broadcast_to(np.float32(0), shape)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> np.ndarray:
        return self.standard_normal(size)


def halved(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """float32 arrays as float16.  Raises ValueError where a number is beyond float16's range."""
    with np.errstate(over="ignore"):
        halves = {name: a.astype(np.float16) if a.dtype == np.float32 else a for name, a in arrays.items()}
    too_large = [name for name, a in halves.items() if a.dtype == np.float16 and not np.isfinite(a).all()]
    if too_large:
        raise ValueError(f"half: {too_large[0]!r} holds numbers beyond 65,504, the largest float16")
    return halves



# --- steps


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


# --- checks of what models are handed


def check_images(x: Any, image: tuple[int, ...]) -> np.ndarray:
    """x as float32 (n, *image); rows of flat pixels are reshaped.  Raises ValueError for a wrong dtype, shape or range of values."""
    x = np.asarray(x)
    expected = f"this model takes (n, {', '.join(map(str, image))})"
    if x.dtype.kind not in "fiub":
        raise ValueError(f"images: dtype is {x.dtype}; they are numbers in [0, 1]")
    if x.ndim == 2 and x.shape[1] == math.prod(image):
        x = x.reshape(len(x), *image)
    if x.ndim == 0 or x.shape[1:] != tuple(image):
        raise ValueError(f"images: shape is {x.shape}; {expected}")
    if len(x) == 0:
        raise ValueError(f"images: shape is {x.shape}, an empty batch; {expected}, n at least 1")
    x = x.astype(np.float32, copy=False)
    low, high = float(x.min()), float(x.max())
    if math.isnan(low + high):
        raise ValueError("images: there is a NaN among them; they must lie in [0, 1]")
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images: values go from {low:.4g} to {high:.4g}; they must lie in [0, 1]")
    return x


def check_labels(labels: Any, classes: int, n: int) -> np.ndarray:
    """labels as (n,) integers from 0 to classes - 1; a single integer is repeated.  Raises ValueError."""
    if labels is None:
        raise ValueError(f"labels: this model is conditional; it needs labels from 0 to {classes - 1}")
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels: dtype is {labels.dtype}; they are integers from 0 to {classes - 1}")
    if labels.ndim == 0:
        labels = np.repeat(labels, n)
    if labels.shape != (n,):
        raise ValueError(f"labels: shape is {labels.shape}; for {n} images it is ({n},)")
    if n and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"labels: values go from {labels.min()} to {labels.max()}; they may go from 0 to {classes - 1}")
    return labels


def labels_for(digit: Any, classes: int, n: int) -> np.ndarray | None:
    """Labels (n,) to generate: `digit`, or by default each class in turn; None for a model without classes, which takes no digit."""
    if not classes:
        if digit is not None:
            raise ValueError("digit: this model isn't conditional (classes is 0), so it takes none")
        return None
    return check_labels(np.arange(n) % classes if digit is None else digit, classes, n)


def check_count(n: Any, name: str = "n") -> int:
    """n as an int.  Raises ValueError unless it is a whole number of at least 1."""
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
        raise ValueError(f"{name} is {n!r}; it is a whole number of at least 1")
    return int(n)


# --- lines between two codes


def straight_line(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """(steps, ...) points at equal distances on the line from a to b, both ends bit for bit."""
    if steps < 2:
        raise ValueError(f"interpolate: steps is {steps}; it is at least 2, the two ends")
    along = np.linspace(0, 1, steps, dtype=np.float32).reshape(-1, *[1] * a.ndim)
    return (1 - along) * a + along * b


def great_circle(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """(steps, ...) points on the great circle from a to b, both ends bit for bit (Shoemake 1985).

    Normal draws of d numbers have a length near sqrt(d); points on the straight line between two are shorter, those on the circle aren't.
    """
    angle = math.acos(max(-1.0, min(1.0, float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))))))
    along = np.linspace(0, 1, steps)
    if angle < 1e-3:
        weights = np.stack([1 - along, along])
    else:
        weights = np.stack([np.sin((1 - along) * angle), np.sin(along * angle)]) / math.sin(angle)
    weight_a, weight_b = weights.astype(np.float32).reshape(2, steps, *(1,) * a.ndim)
    return weight_a * a + weight_b * b


# --- names that changed


def moved(module: str, name: str, to: str, names: Iterable[str] | Mapping[str, str]) -> Any:
    """For a module's `__getattr__`: names that it had until 0.1 give the same object from its new place, with a DeprecationWarning.

    names: those names, or {old: new} where the name changed as well.
    """
    if name not in names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new = names[name] if isinstance(names, Mapping) else name
    warnings.warn(f"{module}.{name} is {to}.{new} now; the old name goes in the next release", DeprecationWarning, stacklevel=3)
    return getattr(importlib.import_module(to), new)


class Renamed:
    """In a class body, `old = Renamed("new")`: the attribute under the name that it had until 0.1, with a DeprecationWarning."""

    def __init__(self, new: str):
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self.old = name

    def __get__(self, instance: Any, owner: type) -> Any:
        warnings.warn(f"{owner.__name__}.{self.old} is {self.new} now; the old name goes in the next release", DeprecationWarning, stacklevel=2)
        return getattr(owner if instance is None else instance, self.new)
