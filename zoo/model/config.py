"""Settings of models and of runs: frozen dataclasses whose fields have types and ranges, built from keywords, a card or the command line."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from typing import Annotated, Any, TypeVar

C = TypeVar("C", bound="Config")


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
