"""What the page shows of a recurrent network: its gates and states over time, and of one that plays, the piano roll."""

from __future__ import annotations

from typing import Any

import numpy as np

from .recording import Panels, Rows

UNITS = 96  # of a layer that are drawn; of wider ones every second, third, ...
GATES = {  # the cell's activations, in the order in which its definition computes them
    "elman": {"tanh": ["state h"]},
    "gru": {"sigmoid": ["update gate z", "reset gate r"], "tanh": ["candidate n"]},
    "lstm": {"sigmoid": ["forget gate f", "input gate i", "output gate o"], "tanh": ["candidate g", "tanh of cell c"]},
}


def gate_panels(model: Any) -> Panels:
    panels: Panels = {}
    if model.config.inputs == "keys":
        panels["roll"] = {"kind": "timeline", "title": "The keys", "stage": True, "note": "low notes below, time to the right", "rows": {
            "pressed": {"values": Rows("unit8"), "scale": "ink", "range": 1}, "probability": {"values": Rows("unit8"), "scale": "heat", "range": 1}}}
    width, cell = model.config.width, model.config.cell
    units = f"{width} units" if _every(model) == 1 else f"every {_every(model)}th of {width} units"
    for i, _ in enumerate(model.layers):
        rows = {name: {"values": Rows("unit8" if operation == "sigmoid" else "float16"), "scale": "heat" if operation == "sigmoid" else "signed",
                       "range": 1} for operation, names in GATES[cell].items() for name in names}
        panels[f"gates {i}"] = {"kind": "timeline", "title": f"Layer {i + 1}: {cell}", "rows": rows,
                                "note": f"{units}, one a row; gates from closed (blank) to open"}
    return panels


def gate_parts(model: Any, step: Any, met: list) -> Panels:
    """What one record adds to them; met: what a trace saw while it was made."""
    parts: Panels = {}
    if hasattr(step, "keys"):
        parts["roll"] = {"rows": {"pressed": {"values": step.keys[::-1]}, "probability": {"values": step.probabilities[::-1]}}}
    cell = model.config.cell
    for i, _ in enumerate(model.layers):
        found = {name: {"values": values[:: _every(model)]} for operation, names in GATES[cell].items()
                 for name, values in zip(names, _last(met, f"layers.{i}.{cell}.{operation}", len(names)))}
        parts[f"gates {i}"] = {"rows": found}
    return parts


def _every(model: Any) -> int:
    return -(-model.config.width // UNITS)


def _last(met: list, name: str, n: int) -> np.ndarray:
    """The last n values with that name, whichever pass they are of: (n, width)."""
    return np.stack([seen.value.reshape(-1) for seen in met if seen.name.partition("#")[0] == name][-n:])
