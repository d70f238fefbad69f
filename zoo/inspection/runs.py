"""From a stream of records to what the page plays: a run is a list of steps and a list of panels.

    run   = {"title", "note", "steps": [step, ...], "panels": [panel, ...]}
    step  = {"label", "caption", "fields": [{"name", "text", "statistics", "picture"}, ...]}      everything in the record
    panel = {"name", "kind", "title", "note", ...}                                                drawn by panels[kind] in *.js

Any stream of records makes a run: its fields are shown as they are.  A family that has more to say registers a `recorder`: a generator,
so that a page can be fed while the model runs.  It yields

    {name: panel, ...}                  what stands on the page; members that grow with the steps are empty: [], or `Rows`
    (step, {name: part, ...})           for each record, what it adds to the panels; see `grow`
    {name: panel, ...}                  panels that are known only now; one that has the name of another takes its place

`make_run` collects all of it for a file, `stream_run` hands it on message by message.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np

from ..autograd.tracing import patch
from ..drawing.pictures import mosaic
from ..drawing.terminal import draw_value
from ..language.model import TextStep
from ..model import Step
from .page import Packed, pack

T = TypeVar("T")
Run = dict[str, Any]
Panels = dict[str, dict[str, Any]]
Event = Panels | tuple[Step, Panels]
Recorder = Callable[..., Iterator[Event]]  # (model, **settings)
RECORDERS: dict[str, Recorder] = {}
TOOLS: dict[str, Callable[..., Panels]] = {}  # (model, steps, **settings) -> panels of a file that no step adds to
Changes = dict[str, Callable[[np.ndarray], np.ndarray]]

PICTURE_LIMIT = 4096  # numbers of a field that are drawn; of larger ones the page has the statistics
RECORD = {"kind": "record", "title": "The record", "note": "every field of this step", "wide": True}


class Rows:
    """An array of the page that gets a row a step; ragged: a stretch of any length instead.  more: what `pack` tells beside it."""

    def __init__(self, dtype: Any = "float32", *, ragged: bool = False, **more: Any):
        self.dtype, self.ragged, self.more = dtype, ragged, more
        self.rows: list[np.ndarray] = []

    def packed(self) -> Packed:
        if not self.rows:
            return pack(np.zeros(0), self.dtype, ragged=self.ragged, **self.more)
        return pack(np.concatenate(self.rows) if self.ragged else np.stack(self.rows), self.dtype, **self.more)

    def packed_row(self, row: Any) -> Packed:
        return pack(row, self.dtype)


def grow(data: Any, part: Any) -> None:
    """A step's part of a panel: to a list it is the next item, to `Rows` a row; of a dictionary it names the members that grow."""
    if isinstance(data, dict):
        for name, more in part.items():
            grow(data[name], more)
    elif isinstance(data, Rows):
        data.rows.append(np.asarray(part))
    else:
        data.append(part)


def packed(data: Any) -> Any:
    """A panel with its rows as the page reads them."""
    if isinstance(data, dict):
        return {name: packed(value) for name, value in data.items()}
    return data.packed() if isinstance(data, Rows) else list(data) if isinstance(data, list) else data


def packed_part(data: Any, part: Any) -> Any:
    """A step's part as the page reads it."""
    if isinstance(data, dict):
        return {name: packed_part(data[name], more) for name, more in part.items()}
    return data.packed_row(part) if isinstance(data, Rows) else part


def recorder(*kinds: str) -> Callable[[Recorder], Recorder]:
    """Decorator: how models of these kinds are run for the page."""

    def register(function: Recorder) -> Recorder:
        RECORDERS.update(dict.fromkeys(kinds, function))
        return function

    return register


def tool(*kinds: str) -> Callable[[Callable[..., Panels]], Callable[..., Panels]]:
    """Decorator: what a file has for models of these kinds that works without the steps."""

    def register(function: Callable[..., Panels]) -> Callable[..., Panels]:
        TOOLS.update(dict.fromkeys(kinds, function))
        return function

    return register


def _events(model: Any, changes: Changes | None, settings: dict[str, Any]) -> Iterator[Event]:
    if not hasattr(model, "steps"):
        raise ValueError(f"inspect: {type(model).__name__} has no steps(...), so there is nothing to play")
    from .panels import families  # noqa: F401  (registers the recorders)

    with patch(model, changes) if changes else nullcontext():
        yield from RECORDERS.get(model.kind, plain)(model, **settings)


def make_run(model: Any, *, title: str = "", changes: Changes | None = None, **settings: Any) -> Run:
    """Generate with these settings, everything recorded.  changes: as for `zoo.patch`."""
    settings = {name: value for name, value in settings.items() if value is not None}
    panels: Panels = {}
    steps = []
    for event in _events(model, changes, settings):
        if isinstance(event, dict):
            panels |= event
        else:
            steps.append(event[0])
            grow(panels, event[1])
    if not steps:
        raise ValueError("inspect: the stream was empty: nothing was generated")
    if model.kind in TOOLS:
        panels |= TOOLS[model.kind](model, steps, **settings)
    note = note_of(settings, changes)
    described = [describe(step, model) for step in steps]
    return {"title": title or note or "seed 0", "note": note if title else "", "steps": described, "panels": in_order(panels)}


def stream_run(model: Any, *, title: str = "", changes: Changes | None = None, **settings: Any) -> Iterator[dict[str, Any]]:
    """The same, as messages in JSON's own types while the model runs: {"run"}, then {"step", "grow"} for each step, then {"panels"}."""
    settings = {name: value for name, value in settings.items() if value is not None}
    panels: Panels = {}
    for event in _events(model, changes, settings):
        if not isinstance(event, dict):
            step, parts = event
            grow(panels, parts)
            yield {"step": describe(step, model), "grow": {name: packed_part(panels[name], part) for name, part in parts.items()}}
        elif panels:
            yield {"panels": [{"name": name, **packed(panel)} for name, panel in event.items()]}
        else:
            panels = event
            yield {"run": {"title": title, "note": note_of(settings, changes), "steps": [], "panels": in_order(panels)}}


def in_order(panels: Panels) -> list[dict[str, Any]]:
    """Panels as the page lists them: the record stands before what is marked `last`."""
    ends = sorted({**panels, "record": RECORD}.items(), key=lambda item: item[1].get("last", False))
    return [{"name": name, **packed(panel)} for name, panel in ends]


def note_of(settings: dict[str, Any], changes: Changes | None = None) -> str:
    """The settings that fit into a line."""
    short = [f"{name.replace('_', '-')} {value}" for name, value in settings.items() if name != "prompt" and np.ndim(value) == 0]
    return ", ".join(short + [f"{path} changed" for path in changes or ()])


def plain(model: Any, **settings: Any) -> Iterator[Event]:
    """A stream that nobody knows more about: the picture is the largest array of each record."""
    yield {"picture": {"kind": "picture", "title": "What is there", "stage": True, "pictures": []}}
    for step in model.steps(**settings):
        arrays = [a for a in step.arrays().values() if a.dtype.kind in "fiub" and 1 < a.size <= PICTURE_LIMIT]
        largest = max(arrays, key=lambda a: a.size, default=np.zeros((1, 1), np.float32))
        yield step, {"picture": {"pictures": picture(first(largest))}}


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
        field["picture"] = picture(mosaic(shown) if shown.ndim == 3 and shown.shape[-1] > 3 else shown, "float32" if a.size <= 256 else "float16")
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


def read_change(text: str) -> Changes:
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
