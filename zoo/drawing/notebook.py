"""Records in a notebook: an HTML table, with arrays as pictures."""

from __future__ import annotations

import base64
import dataclasses
import html
from typing import Any

import numpy as np

from .pictures import grid, png
from .terminal import draw_value, is_picture
from .words import counted


def image_html(images, scale: int = 3) -> str:
    """Pictures as one <img> with its data in the page."""
    low, high = float(images.min()), float(images.max())
    shown = (images - low) / (high - low) if low < 0 or high > 1 else images
    picture = grid(shown, columns=min(8, len(shown)), gap=1)
    content = base64.b64encode(png(picture)).decode()
    return (f'<img alt="pictures" style="image-rendering:pixelated;width:{picture.shape[1] * scale}px" '
            f'src="data:image/png;base64,{content}">')


def vector_html(values: np.ndarray, height: int = 14) -> str:
    """Numbers side by side as a picture: the larger the magnitude, the darker."""
    top = float(np.abs(values).max()) or 1.0
    content = base64.b64encode(png(np.nan_to_num(1 - np.abs(values) / top)[None])).decode()
    says = counted(len(values), "number")
    return (f'<img alt="{says}" style="image-rendering:pixelated;width:{min(480, 4 * len(values))}px;height:{height}px" '
            f'src="data:image/png;base64,{content}">')


def step_html(step: Any) -> str:
    rows = []
    for field in dataclasses.fields(step):
        value = getattr(step, field.name)
        cell = html.escape(draw_value(value))
        if is_picture(value):
            cell += "<br>" + image_html(value[:16] if value.ndim == 3 else value[None])
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f" and 8 < value.size <= 4096:
            cell += "<br>" + vector_html(value.reshape(-1))
        rows.append(f"<tr><th style='text-align:left'>{field.name}</th><td style='text-align:left'>{cell}</td></tr>")
    return f"<table><caption>{type(step).__name__}</caption>{''.join(rows)}</table>"
