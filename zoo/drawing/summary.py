"""Short forms of objects at a prompt: a record in one line, the modules of a model as a table.  Nothing here knows a model."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

import numpy as np


def short_step(step: Any) -> str:
    """A record in one line: small values as they are, arrays by dtype and shape, fields that are None left out."""
    fields = ((f.name, getattr(step, f.name)) for f in dataclasses.fields(step))
    return f"{type(step).__name__}({', '.join(f'{name}={short_value(value)}' for name, value in fields if value is not None)})"


def short_value(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.item():.4g}" if value.size == 1 and value.dtype.kind in "fiu" else f"{value.dtype} {value.shape}"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


@dataclasses.dataclass(frozen=True)
class Row:
    """One module of a model: its parameters, not those of the modules inside it."""

    path: str
    kind: str
    output: tuple[int, ...] | None  # the shape that it last computed, None if it didn't run
    parameters: int


class Summary:
    """The modules of a model that hold parameters, as a table: printed in a terminal, HTML in a notebook."""

    header = ("module", "type", "output", "parameters", "share")

    def __init__(self, title: str, rows: list[Row]):
        self.title, self.rows = title, rows
        self.total = sum(row.parameters for row in rows)

    def cells(self) -> list[tuple[str, ...]]:
        return [(row.path or "(model)", row.kind, "" if row.output is None else " x ".join(map(str, row.output)) or "number",
                 f"{row.parameters:,}", f"{row.parameters / max(self.total, 1):.1%}") for row in self.rows]

    def __str__(self) -> str:
        cells = [self.header, *self.cells(), ("total", "", "", f"{self.total:,}", "")]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.header))]
        lines = ["  ".join(cell.rjust(width) if i > 2 else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths))).rstrip()
                 for row in cells]
        return "\n".join([self.title, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def row(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag} style='text-align:{'right' if i > 2 else 'left'}'>{html.escape(cell)}</{tag}>"
                                    for i, cell in enumerate(cells)) + "</tr>"

        body = "".join(row(cells, "td") for cells in self.cells())
        return (f"<table><caption>{html.escape(self.title)}</caption><thead>{row(self.header, 'th')}</thead><tbody>{body}</tbody>"
                f"<tfoot>{row(('total', '', '', f'{self.total:,}', ''), 'th')}</tfoot></table>")
