"""From a stream of records to what the page plays: a run is a list of steps and a list of panels.

    run   = {"title", "note", "steps": [step, ...], "panels": [panel, ...]}
    step  = {"label", "caption", "fields": [{"name", "text", "statistics", "picture"}, ...]}      everything in the record
    panel = {"kind", "title", "note", ...}                                                        drawn by panels[kind] in *.js

Any stream of records makes a run: its fields are shown as they are.  A family that has more to say registers a `recorder`, which runs the
stream, watches what it needs, and adds its panels.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np

from ..autograd.tracing import patch
from ..language import TextStep
from ..model import Step
from .page import pack
from .pictures import mosaic
from .terminal import draw_value

T = TypeVar("T")
Run = dict[str, Any]
Recorder = Callable[..., tuple[list[Step], list[dict[str, Any]]]]  # (model, **settings) -> the records, the panels
RECORDERS: dict[str, Recorder] = {}

PICTURE_LIMIT = 4096  # numbers of a field that are drawn; of larger ones the page has the statistics


def recorder(kind: str) -> Callable[[Recorder], Recorder]:
    """Decorator: how a kind of model is run for the page."""

    def register(function: Recorder) -> Recorder:
        RECORDERS[kind] = function
        return function

    return register


def make_run(model: Any, *, title: str = "", changes: dict[str, Callable] | None = None, **settings: Any) -> Run:
    """Generate with these settings, everything recorded.  changes: as for `zoo.patch`."""
    if not hasattr(model, "steps"):
        raise ValueError(f"inspect: {type(model).__name__} has no steps(...), so there is nothing to play")
    from . import families  # noqa: F401  (registers the recorders)

    settings = {name: value for name, value in settings.items() if value is not None}
    record = RECORDERS.get(model.kind, plain)
    with patch(model, changes) if changes else nullcontext():
        steps, panels = record(model, **settings)
    if not steps:
        raise ValueError("inspect: the stream was empty: nothing was generated")
    note = ", ".join([f"{name} {value}" for name, value in settings.items() if name != "prompt" and np.ndim(value) == 0]
                     + [f"{path} changed" for path in changes or ()])
    panels = sorted([*panels, RECORD], key=lambda panel: panel.get("last", False))
    described = [describe(step, model) for step in steps]
    return {"title": title or note or "seed 0", "note": note if title else "", "steps": described, "panels": panels}


RECORD = {"kind": "record", "title": "The record", "note": "every field of this step", "wide": True}


def plain(model: Any, **settings: Any) -> tuple[list[Step], list[dict[str, Any]]]:
    """A stream that nobody knows more about: the picture is the largest array of each record."""
    steps = list(model.steps(**settings))
    pictures = []
    for step in steps:
        arrays = [a for a in step.arrays().values() if a.dtype.kind in "fiub" and 1 < a.size <= PICTURE_LIMIT]
        largest = max(arrays, key=lambda a: a.size, default=np.zeros((1, 1), np.float32))
        pictures.append(picture(first(largest)))
    return steps, [{"kind": "picture", "title": "What is there", "stage": True, "pictures": pictures}]


def describe(step: Step, model: Any) -> dict[str, Any]:
    """A record as the page shows it."""
    fields = [describe_field(f.name, getattr(step, f.name), model) for f in dataclasses.fields(step)]
    return {"label": label_of(step), "caption": caption_of(step), "fields": fields}


def describe_field(name: str, value: Any, model: Any) -> dict[str, Any]:
    a = value if isinstance(value, np.ndarray) else None
    if a is None or a.size == 0 or a.dtype.kind not in "fiub":
        text = f"{value:.6g}" if isinstance(value, float) else "nothing" if a is not None and not a.size else draw_value(value)
        return {"name": name, "text": text}
    if a.size == 1:
        return {"name": name, "text": f"{a.item():.4g}"}
    f = a.astype(np.float64)
    field: dict[str, Any] = {"name": name, "text": f"{a.dtype} {' × '.join(map(str, a.shape))}"}
    statistics = [float(f.mean()), float(f.std()), float(f.min()), float(f.max())]
    if np.isfinite(statistics).all():
        field["statistics"] = statistics
    if a.size <= PICTURE_LIMIT:
        shown = as_image(first(a), model)
        field["picture"] = picture(mosaic(shown) if shown.ndim == 3 and shown.shape[-1] > 3 else shown, "float16")
    return field


def picture(a: np.ndarray, dtype: Any = "float32") -> dict[str, Any]:
    """An array packed with the scale that suits it."""
    return pack(a, dtype, scale=scale_of(a))


def scale_of(a: np.ndarray) -> str:
    """Ink for numbers in [0, 1], colours of either sign for others, and colour for three channels."""
    if a.ndim == 3 and a.shape[-1] == 3:
        return "colour"
    if a.dtype.kind not in "f" or (a.size and np.nanmin(a) >= 0 and np.nanmax(a) <= 1 + 1e-6):
        return "ink" if a.dtype.kind in "fb" else "heat"
    return "signed"


def first(a: np.ndarray) -> np.ndarray:
    """A batch of one without its batch axis."""
    return a[0] if a.ndim > 1 and a.shape[0] == 1 else a


def as_image(a: np.ndarray, model: Any) -> np.ndarray:
    """As many numbers as the model's pictures have, in a picture's shape; others as they are."""
    image = getattr(model.config, "image", None)
    return a.reshape(image) if image is not None and a.size == math.prod(image) else a


def label_of(step: Step) -> str:
    """What the slider calls a step."""
    if hasattr(step, "name"):
        return str(step.name)
    if hasattr(step, "position"):
        return f"token {step.position}"
    return f"t = {float(step.t):.4g}" if hasattr(step, "t") else type(step).__name__


def caption_of(step: Step) -> str:
    if isinstance(step, TextStep):
        return f"{step.text!r} with probability {math.exp(step.log_probability):.3g}".replace("\\n", "↵")
    if hasattr(step, "t_previous"):
        return f"steps to t = {float(step.t_previous):.4g}"
    return str(getattr(step, "formula", ""))


def watch(stream: Iterator[T], seen: Any) -> Iterator[tuple[T, list]]:
    """Each record of a stream with what a trace saw while it was made; the trace forgets it afterwards, so memory stays bounded."""
    for step in stream:
        yield step, seen.take()


def named_change(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The changes that the command line knows by name."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "zero": lambda a: 0 * a,
        "mean": lambda a: np.broadcast_to(a.mean(-1, keepdims=True), a.shape),
        "half": lambda a: a / 2,
        "double": lambda a: 2 * a,
        "negate": lambda a: -a,
    }
    if name not in changes:
        raise ValueError(f"patch: {name!r} isn't a change; it may be {', '.join(changes)}")
    return changes[name]


def read_change(text: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """`layers.0.tanh:zero`, or `blocks.1.attention.softmax[2]:zero` for index 2 of axis 1 (a head), as the changes of `zoo.patch`."""
    path, colon, name = text.rpartition(":")
    if not colon:
        raise ValueError(f"patch is {text!r}; it is NAME:CHANGE, such as layers.0.tanh:zero")
    change = named_change(name)
    if not path.endswith("]"):
        return {path: change}
    path, _, index = path[:-1].partition("[")
    if not index.isdecimal():
        raise ValueError(f"patch is {text!r}; what is in brackets is an index of axis 1")
    return {path: functools.partial(_change_one, change, int(index), text)}


def _change_one(change: Callable, index: int, text: str, a: np.ndarray) -> np.ndarray:
    if a.ndim < 2 or index >= a.shape[1]:
        raise ValueError(f"patch is {text!r}, but the value has shape {a.shape}")
    a[:, index] = change(a[:, index])
    return a


def at_most(n: int, items: Iterable[T]) -> list[T]:
    """The first n of a stream; ValueError if there are more."""
    found = list(itertools.islice(items, n + 1))
    if len(found) > n:
        raise ValueError(f"inspect: this run has more than {n:,} steps, too many for one page; ask for fewer")
    return found
