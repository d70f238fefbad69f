"""The space of a search: what is written as `layers=2..8,width=64..256:32,lr=1e-4..1e-2,optimiser=adam|muon`.

A point of it is a value for each name.  Strategies see it as numbers in [0, 1], one for each range and one for each of several choices.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import typing
from typing import Any

import numpy as np

from ...model import range_of
from ...storage import shorten
from .. import recipe_of
from ..recipe import Recipe

LOG_FROM = 10.0  # a range of positive numbers whose ends have at least this ratio is drawn on a logarithmic scale
DIGITS = 4  # of a number that is drawn; so many stand in the command that makes the run again
DRAWS = 300  # of which at least one has to be a point that makes a model

Point = dict[str, Any]  # field -> value, in the types that JSON has


@dataclasses.dataclass(frozen=True)
class Dimension:
    """A field and the values that it may take: numbers from `low` to `high`, or one of `choices`."""

    name: str
    low: float = 0.0
    high: float = 0.0
    step: int = 0  # of whole numbers; 0 for numbers with a point
    choices: tuple[str, ...] = ()

    @property
    def is_logarithmic(self) -> bool:
        return not self.choices and self.low > 0 and self.high / self.low >= LOG_FROM

    @property
    def size(self) -> int:
        """How many coordinates it has."""
        return len(self.choices) or 1

    def value(self, u: np.ndarray) -> Any:
        """The value at coordinates (size,) in [0, 1]; of choices the one with the greatest."""
        if self.choices:
            return self.choices[int(np.argmax(u))]
        t = float(np.clip(u[0], 0, 1))
        if not self.step:
            low, high = (math.log(self.low), math.log(self.high)) if self.is_logarithmic else (self.low, self.high)
            x = low + t * (high - low)
            return min(max(float(f"{math.exp(x) if self.is_logarithmic else x:.{DIGITS}g}"), self.low), self.high)
        if self.is_logarithmic:
            x = math.exp(math.log(self.low) + t * math.log(self.high / self.low))
        else:  # every whole number is as likely, those at the ends too
            x = self.low + t * (self.high - self.low + self.step) - self.step / 2
        steps = round((x - self.low) / self.step)
        return int(self.low) + self.step * min(max(steps, 0), int((self.high - self.low) // self.step))

    def coordinates(self, value: Any) -> np.ndarray:
        """(size,) in [0, 1] of a value; `value` gives it back."""
        if self.choices:
            return np.array([float(choice == value) for choice in self.choices])
        if self.is_logarithmic:
            return np.array([math.log(value / self.low) / math.log(self.high / self.low)])
        if self.step:
            return np.array([(value - self.low + self.step / 2) / (self.high - self.low + self.step)])
        return np.array([(value - self.low) / (self.high - self.low or 1.0)])

    def __str__(self) -> str:
        if self.choices:
            return f"{self.name}={'|'.join(self.choices)}"
        return f"{self.name}={self.low:g}..{self.high:g}" + (f":{self.step}" if self.step > 1 else "")


@dataclasses.dataclass(frozen=True)
class Space:
    """Dimensions, and the recipe whose other fields have the values of `fixed`."""

    recipe: Recipe
    dimensions: tuple[Dimension, ...]
    fixed: dict[str, Any]

    def __reduce__(self) -> Any:  # to other processes by the kind, since recipes hold functions that can't be sent
        return _space, (self.recipe.model.kind, self.dimensions, self.fixed)

    @classmethod
    def of(cls, recipe: Recipe, text: str, fixed: dict[str, Any] | None = None) -> Space:
        """From `name=low..high`, `name=low..high:step`, `name=this|that`, with commas between them.

        Raises ValueError, which names the field, where one is unknown or given twice, a range has no sense, or the field refuses an end of it.
        """
        entries = [entry for entry in re.split(r",\s*(?=[\w-]+\s*=)", text.strip()) if entry]
        if not entries:
            raise ValueError("over: is empty; expects fields such as width=64..256,lr=1e-4..1e-2,optimiser=adam|muon")
        configs = (recipe.model.Config, recipe.training)
        hints = {name: hint for config in configs for name, hint in typing.get_type_hints(config).items()}
        dimensions: list[Dimension] = []
        for entry in entries:
            name, equals, values = (part.strip() for part in entry.partition("="))
            name = name.replace("-", "_")
            if not equals or not values:
                raise ValueError(f"over: {shorten(entry)} isn't NAME=LOW..HIGH or NAME=THIS|THAT")
            if name not in hints:
                near = difflib.get_close_matches(name, hints, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(sorted(hints))}"
                raise ValueError(f"over: {recipe.model.kind} has no field {name!r}; {hint}")
            if name in (d.name for d in dimensions):
                raise ValueError(f"over: {name} is given twice")
            dimension = _dimension(name, values, hints[name])
            for value in dimension.choices or (dimension.value(np.zeros(1)), dimension.value(np.ones(1))):
                for config in configs:  # which says what the field may be; whether all fields go together is another question
                    if name in {f.name for f in dataclasses.fields(config)}:
                        _check_alone(config, name, value)
            dimensions.append(dimension)
        searched = {d.name for d in dimensions}
        return cls(recipe, tuple(dimensions), {name: value for name, value in (fixed or {}).items() if name not in searched})

    def __str__(self) -> str:
        return ",".join(map(str, self.dimensions))

    @property
    def size(self) -> int:
        """How many coordinates a point has."""
        return sum(d.size for d in self.dimensions)

    def point(self, u: np.ndarray) -> Point:
        """The point at coordinates (size,) in [0, 1]."""
        starts = np.cumsum([0, *(d.size for d in self.dimensions)])
        return {d.name: d.value(u[start : start + d.size]) for d, start in zip(self.dimensions, starts)}

    def coordinates(self, point: Point) -> np.ndarray:
        """(size,) of a point."""
        return np.concatenate([d.coordinates(point[d.name]) for d in self.dimensions])

    def settings(self, point: Point) -> tuple[dict[str, Any], Any]:
        """The fields of the model's configuration, and the settings of its training.  ValueError where they don't go together."""
        fields = {**self.fixed, **point}
        names = [{f.name for f in dataclasses.fields(config)} for config in (self.recipe.model.Config, self.recipe.training)]
        of_model = {name: value for name, value in fields.items() if name in names[0]}
        return of_model, self.recipe.training.make(**{name: value for name, value in fields.items() if name in names[1]})

    def check(self, point: Point, data: Any, seed: int) -> None:
        """Build the model of a point.  Raises ValueError where its fields don't go together, such as a width that no number of heads divides."""
        of_model, _ = self.settings(point)
        self.recipe.new(data, of_model, seed)


def _check_alone(config: Any, name: str, value: Any) -> None:
    """Raise ValueError where a field refuses a value by its type or its range, whatever the other fields are."""
    hint = typing.get_type_hints(config, include_extras=True)[name]
    if typing.get_origin(hint) is typing.Literal:
        if value not in typing.get_args(hint):
            raise ValueError(f"over: {name} is {value!r}; it may be {', '.join(map(repr, typing.get_args(hint)))}")
        return
    types, allowed = _types(hint), range_of(hint)
    if isinstance(value, str) and (not types <= {int, float} or (value == "none" and type(None) in typing.get_args(hint))):
        return
    for part in value.replace(",", " ").split() if isinstance(value, str) else [value]:
        try:
            number = float(part) if float in types else int(part)
        except ValueError:
            raise ValueError(f"over: {name} is {part!r}; it is a{'' if float in types else ' whole'} number") from None
        if allowed is not None and number not in allowed:
            raise ValueError(f"over: {name} is {part}; it is {allowed}")


def _space(kind: str, dimensions: tuple[Dimension, ...], fixed: dict[str, Any]) -> Space:
    return Space(recipe_of(kind), dimensions, fixed)


def _dimension(name: str, text: str, hint: Any) -> Dimension:
    types = _types(hint)
    low, dots, rest = text.partition("..")
    if not dots:
        choices = tuple(choice.strip() for choice in text.split("|"))
        if len(choices) != len(set(choices)) or "" in choices:
            raise ValueError(f"over: {name}={shorten(text)} names a choice twice, or an empty one")
        return Dimension(name, choices=choices)
    high, colon, step = rest.partition(":")
    if not types & {int, float}:
        raise ValueError(f"over: {name}={shorten(text)} is a range, and this field isn't a number; write its values as {name}=THIS|THAT")
    whole = float not in types
    try:
        ends = [int(end) if whole else float(end) for end in (low, high)]
        by = int(step) if colon else int(whole)
    except ValueError:
        raise ValueError(f"over: {name}={shorten(text)} isn't a range of {'whole ' if whole else ''}numbers, such as "
                         f"{name}={'2..8' if whole else '1e-4..1e-2'}") from None
    if not all(map(math.isfinite, ends)) or not ends[0] < ends[1]:
        raise ValueError(f"over: {name}={shorten(text)} has nothing between its ends; the first is below the second")
    if colon and (not whole or not 1 <= by <= ends[1] - ends[0]):
        raise ValueError(f"over: {name}={shorten(text)} has a step of {step}; " + (
            f"it is a whole number from 1 to {ends[1] - ends[0]}" if whole else "only ranges of whole numbers have one"))
    return Dimension(name, float(ends[0]), float(ends[1]), by)


def _types(hint: Any) -> set[Any]:
    """The plain types in an annotation: {int} of tuple[int, ...] and of int | None."""
    if typing.get_origin(hint) is typing.Literal or not typing.get_args(hint):
        return {hint}
    if hasattr(hint, "__metadata__"):
        return _types(hint.__origin__)
    return set().union(*(_types(part) for part in typing.get_args(hint) if part not in (type(None), ...)))
