"""How a generation becomes panels: a recorder runs the model and says, step by step, what each panel gains.

A recorder is a generator, so that a page can be filled while the model runs.  It yields

    {name: panel, ...}                  the panels of the page; members that grow with the steps are empty: [], or `Rows`
    (step, {name: part, ...})           for each record, what it adds to the panels; see `grow`
    {name: panel, ...}                  panels known only at the end; one with the name of another replaces it

    panel = {"name", "kind", "title", "note", ...}          drawn by panels[kind] in page/*.js

`recorder` and `tool` register by kind of model; importing the package `panels` registers all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from ...autograd.tracing import Seen, Trace
from ...model import Step
from ..page import Packed, pack

T = TypeVar("T")
Panels = dict[str, dict[str, Any]]
Event = Panels | tuple[Step, Panels]
Recorder = Callable[..., Iterator[Event]]  # (model, **settings)
Tool = Callable[..., Panels]  # (model, steps, **settings) -> panels of a file that no step adds to
RECORDERS: dict[str, Recorder] = {}
TOOLS: dict[str, Tool] = {}


def recorder(*kinds: str) -> Callable[[Recorder], Recorder]:
    """Decorator: how models of these kinds are run for a page."""

    def register(function: Recorder) -> Recorder:
        RECORDERS.update(dict.fromkeys(kinds, function))
        return function

    return register


def tool(*kinds: str) -> Callable[[Tool], Tool]:
    """Decorator: panels of a file for models of these kinds that work without the steps, such as a decoder that runs in the page."""

    def register(function: Tool) -> Tool:
        TOOLS.update(dict.fromkeys(kinds, function))
        return function

    return register


class Rows:
    """An array of the page that gains one row per step; ragged: a stretch of any length instead.  packing: further keywords of `pack`."""

    def __init__(self, dtype: Any = "float32", *, ragged: bool = False, **packing: Any):
        self.dtype, self.ragged, self.packing = dtype, ragged, packing
        self.rows: list[np.ndarray] = []

    def packed(self) -> Packed:
        if not self.rows:
            return pack(np.zeros(0), self.dtype, ragged=self.ragged, **self.packing)
        return pack(np.concatenate(self.rows) if self.ragged else np.stack(self.rows), self.dtype, **self.packing)

    def packed_row(self, row: Any) -> Packed:
        return pack(row, self.dtype)


def grow(data: Any, part: Any) -> None:
    """Add a step's part to a panel: the next item of a list, a row of `Rows`; in a dictionary the part names the members that grow."""
    if isinstance(data, dict):
        for name, member in part.items():
            grow(data[name], member)
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
        return {name: packed_part(data[name], member) for name, member in part.items()}
    return data.packed_row(part) if isinstance(data, Rows) else part


def watch(stream: Iterator[T], seen: Trace) -> Iterator[tuple[T, list[Seen]]]:
    """Each record of a stream with what the trace saw while it was computed.

    The trace forgets it afterwards, so memory stays bounded.
    """
    for step in stream:
        yield step, seen.take()
