"""What a page shows of a recurrent network: its gates and states over time, and the piano roll of one that plays music."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd.tracing import Seen
from ...drawing.words import counted
from .recording import Panels, Rows

UNITS = 96  # rows of a layer's panel; a wider layer shows every second, third, ... unit
GATES = {  # the cell's activations, in the order in which its definition computes them
    "elman": {"tanh": ["state h"]},
    "gru": {"sigmoid": ["update gate z", "reset gate r"], "tanh": ["candidate n"]},
    "lstm": {"sigmoid": ["forget gate f", "input gate i", "output gate o"], "tanh": ["candidate g", "tanh of cell c"]},
}


def gate_panels(model: Any) -> Panels:
    panels: Panels = {}
    if model.config.inputs == "keys":
        panels["roll"] = {"kind": "timeline", "title": "Piano roll", "stage": True, "note": "high notes at the top, time to the right", "rows": {
            "pressed": {"values": Rows("unit8"), "scale": "ink", "range": 1}, "probability": {"values": Rows("unit8"), "scale": "heat", "range": 1}}}
    width, cell = model.config.width, model.config.cell
    units = counted(width, "unit") if _stride(model) == 1 else f"every {_stride(model)}th of {counted(width, 'unit')}"
    for i, _ in enumerate(model.layers):
        rows = {name: {"values": Rows("unit8" if operation == "sigmoid" else "float16"), "scale": "heat" if operation == "sigmoid" else "signed",
                       "range": 1} for operation, names in GATES[cell].items() for name in names}
        panels[f"gates {i}"] = {"kind": "timeline", "title": f"layers.{i}.{cell}", "rows": rows,
                                "note": f"{units}, one per row; gates from closed (blank) to open (full colour)"}
    return panels


def gate_parts(model: Any, step: Any, seen: list[Seen]) -> Panels:
    """What one step adds to these panels.  seen: what a trace saw during the step."""
    parts: Panels = {}
    if hasattr(step, "keys"):
        parts["roll"] = {"rows": {"pressed": {"values": step.keys[::-1]}, "probability": {"values": step.probabilities[::-1]}}}
    cell = model.config.cell
    for i, _ in enumerate(model.layers):
        rows = {name: {"values": values[:: _stride(model)]} for operation, names in GATES[cell].items()
                for name, values in zip(names, _last(seen, f"layers.{i}.{cell}.{operation}", len(names)))}
        parts[f"gates {i}"] = {"rows": rows}
    return parts


def _stride(model: Any) -> int:
    return -(-model.config.width // UNITS)


def _last(seen: list[Seen], name: str, n: int) -> np.ndarray:
    """The last n values with that name, whichever pass they come from: (n, width)."""
    return np.stack([record.value.reshape(-1) for record in seen if record.name.partition("#")[0] == name][-n:])
