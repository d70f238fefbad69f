"""From a stream of records to what the page plays: a run is a list of steps and a list of panels.

    run   = {"title", "note", "steps": [step, ...], "panels": [panel, ...]}
    step  = {"label", "caption", "fields": [{"name", "text", "statistics", "picture"}, ...]}      everything in the record
    panel = {"name", "kind", "title", "note", ...}                                                drawn by panels[kind] in page/*.js

Any stream of records makes a run: its fields are shown as they are.  Families with more to show have a recorder in `panels`.
`make_run` collects a whole run for a file, `stream_run` passes it on message by message.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import numpy as np

from ..autograd.tracing import patch
from ..drawing.pictures import mosaic
from ..drawing.terminal import draw_value
from ..language.model import TextStep
from ..model import Step, moved
from .changes import Changes
from .panels import RECORDERS, TOOLS, chat
from .panels.arrays import in_image_shape, picture, unbatched
from .panels.diagram import PANEL, Diagram
from .panels.recording import Event, Panels, grow, packed, packed_part

Run = dict[str, Any]

PICTURE_LIMIT = 4096  # numbers of a field that is drawn; for larger ones the page has statistics alone
RECORD = {"kind": "record", "title": "The record", "note": "every field of this step", "wide": True}


def _events(model: Any, changes: Changes | None, settings: dict[str, Any]) -> Iterator[Event]:
    if not hasattr(model, "steps"):
        raise ValueError(f"inspect: {type(model).__name__} has no steps(...), so there is nothing to play")
    if "message" in settings and getattr(model, "template", None) is None:
        raise ValueError(f"message: this model, of kind {model.kind!r}, wasn't trained on conversations; it takes a prompt")
    diagram = Diagram(model)
    with ExitStack() as stack:
        if changes:
            stack.enter_context(patch(model, changes))
        stack.enter_context(diagram.seen)
        began = False
        events: Any = (chat.answer if "message" in settings else RECORDERS.get(model.kind, plain))(model, **settings)
        for event in stack.enter_context(closing(events)):
            if isinstance(event, tuple):
                step, parts = event
                yield step, {**parts, "diagram": {"steps": diagram.part(step)}}
            else:
                yield event if began else {**event, "diagram": {**PANEL, "steps": []}}
                began = True


def make_run(model: Any, *, title: str = "", changes: Changes | None = None, **settings: Any) -> Run:
    """Generate with these settings and record everything.  changes: as for `zoo.patch`."""
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
    """The same as messages in JSON's types while the model runs: {"run"}, then {"step", "grow"} for each step, then {"panels"}."""
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
    """Panels as the page lists them: the sentence first, then what can be moved by hand and the network, the record last."""
    ranks = {"why": 0, "latent": 1, "diagram": 2, "record": 4}
    ordered = sorted({**panels, "record": RECORD}.items(), key=lambda item: ranks.get(item[1]["kind"], 3))
    return [{"name": name, **packed(panel)} for name, panel in ordered]


def note_of(settings: dict[str, Any], changes: Changes | None = None) -> str:
    """The short settings in one line."""
    short = [f"{name.replace('_', '-')} {value}" for name, value in settings.items() if name != "prompt" and np.ndim(value) == 0]
    return ", ".join(short + [f"{path} changed" for path in changes or ()])


def plain(model: Any, **settings: Any) -> Iterator[Event]:
    """The recorder for all other kinds of models: the picture is the largest array of each record."""
    yield {"picture": {"kind": "picture", "title": "Current value", "stage": True, "pictures": []}}
    for step in model.steps(**settings):
        arrays = [a for a in step.arrays().values() if a.dtype.kind in "fiub" and 1 < a.size <= PICTURE_LIMIT]
        largest = max(arrays, key=lambda a: a.size, default=np.zeros((1, 1), np.float32))
        yield step, {"picture": {"pictures": picture(unbatched(largest))}}


def describe(step: Step, model: Any) -> dict[str, Any]:
    """A record as the page shows it."""
    absent = [f.name for f in dataclasses.fields(step) if f.default is None and getattr(step, f.name) is None]
    fields = [describe_field(f.name, getattr(step, f.name), model) for f in dataclasses.fields(step) if f.name not in absent]
    return {"label": label_of(step), "caption": caption_of(step), "fields": fields}


def describe_field(name: str, value: Any, model: Any) -> dict[str, Any]:
    a = value if isinstance(value, np.ndarray) else None
    if a is None or a.size == 0 or a.dtype.kind not in "fiub":
        text = f"{value:.6g}" if isinstance(value, float) else "empty" if a is not None and not a.size else draw_value(value)
        return {"name": name, "text": text}
    if a.size == 1:
        return {"name": name, "text": f"{a.item():.4g}"}
    f = a.astype(np.float64)
    field: dict[str, Any] = {"name": name, "text": f"{a.dtype} {' × '.join(map(str, a.shape))}"}
    with np.errstate(invalid="ignore", over="ignore"):  # -inf, of what can't be chosen, has a mean and no deviation
        statistics = [float(f.mean()), float(f.std()), float(f.min()), float(f.max())]
    if np.isfinite(statistics).all():
        field["statistics"] = statistics
    if a.size <= PICTURE_LIMIT:
        shown = in_image_shape(unbatched(a), model)
        field["picture"] = picture(mosaic(shown) if shown.ndim == 3 and shown.shape[-1] > 3 else shown, "float32" if a.size <= 256 else "float16")
    return field


def label_of(step: Step) -> str:
    """The name of a step beside the slider."""
    if hasattr(step, "name"):
        return str(step.name)
    if hasattr(step, "position"):
        return f"token {step.position}"
    return f"t = {float(step.t):.4g}" if hasattr(step, "t") else type(step).__name__


def caption_of(step: Step) -> str:
    if isinstance(step, TextStep):
        return f"{step.text!r} with probability {math.exp(step.log_probability):.3g}".replace("\\n", "↵")
    if hasattr(step, "t_previous"):
        return f"to t = {float(step.t_previous):.4g}"
    return str(getattr(step, "formula", ""))


_MOVED = {"watch": "zoo.inspection.panels.recording", "read_change": "zoo.inspection.changes", "named_change": "zoo.inspection.changes"}


def __getattr__(name: str) -> Any:
    return moved(__name__, name, _MOVED.get(name, ""), tuple(_MOVED))
