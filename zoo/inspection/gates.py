"""What the page shows of a recurrent network: its gates and states over time, and of one that plays, the piano roll."""

from __future__ import annotations

from typing import Any

import numpy as np

from .page import pack

UNITS = 96  # of a layer that are drawn; of wider ones every second, third, ...
GATES = {  # the cell's activations, in the order in which its definition computes them
    "elman": {"tanh": ["state h"]},
    "gru": {"sigmoid": ["update gate z", "reset gate r"], "tanh": ["candidate n"]},
    "lstm": {"sigmoid": ["forget gate f", "input gate i", "output gate o"], "tanh": ["candidate g", "tanh of cell c"]},
}


def gate_panels(model: Any, stream: list[tuple[Any, list]]) -> list[dict[str, Any]]:
    """stream: each record with what a trace saw while it was made."""
    panels: list[dict[str, Any]] = []
    steps = [step for step, _ in stream]
    if not steps:
        return panels
    if hasattr(steps[0], "keys"):
        pressed, likely = (np.stack([getattr(s, name) for s in steps])[:, ::-1] for name in ("keys", "probabilities"))
        panels.append({"kind": "timeline", "title": "The keys", "stage": True, "note": "low notes below, time to the right", "rows": [
            {"title": "pressed", "values": pack(pressed, "unit8"), "scale": "ink"},
            {"title": "probability", "values": pack(likely, "unit8"), "scale": "heat"}]})
    width, cell = model.config.width, model.config.cell
    every = -(-width // UNITS)
    for i, _ in enumerate(model.layers):
        rows = []
        for operation, names in GATES[cell].items():
            found = [_last(met, f"layers.{i}.{cell}.{operation}", len(names)) for _, met in stream]  # (steps, names, width)
            for k, name in enumerate(names):
                values = np.stack([one[k] for one in found])[:, ::every]
                packed, scale = (pack(values, "unit8"), "heat") if operation == "sigmoid" else (pack(values, "float16"), "signed")
                rows.append({"title": name, "values": packed, "scale": scale, "range": 1})
        units = f"{width} units" if every == 1 else f"every {every}th of {width} units"
        note = f"{units}, one a row; gates from closed (blank) to open"
        panels.append({"kind": "timeline", "title": f"Layer {i + 1}: {cell}", "note": note, "rows": rows})
    return panels


def _last(met: list, name: str, n: int) -> np.ndarray:
    """The last n values with that name, whichever pass they are of: (n, width)."""
    return np.stack([seen.value.reshape(-1) for seen in met if seen.name.partition("#")[0] == name][-n:])
