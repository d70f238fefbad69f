"""Pictures and numbers as text for a terminal: pictures in half-block characters, two pixels each; numbers as bars."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np

SHADES = " .:-=+*#%@"


def draw_image(image, *, colour: bool | None = None) -> str:
    """A grey picture (height, width) in [0, 1] as lines of text, two pixels a character.

    In a terminal these are half blocks in 24-bit colour, elsewhere shades of ASCII characters.
    """
    image = np.asarray(image, np.float32)
    if image.ndim == 3:
        image = image.mean(-1)
    if colour is None:
        colour = sys.stdout.isatty()
    levels = np.nan_to_num(np.clip(image, 0, 1))
    if len(levels) % 2:
        levels = np.concatenate([levels, np.zeros((1, levels.shape[1]), np.float32)])
    if not colour:
        means = (levels[::2] + levels[1::2]) / 2
        return "\n".join("".join(SHADES[int(v * (len(SHADES) - 1) + 0.5)] for v in row).rstrip() for row in means)
    lines = []
    for upper, lower in zip((levels[::2] * 255).astype(int), (levels[1::2] * 255).astype(int)):
        cells = (f"\x1b[38;2;{u};{u};{u};48;2;{v};{v};{v}m▀" for u, v in zip(upper, lower))
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)


def draw_images(images, columns: int = 8, **options) -> str:
    """Several pictures, side by side."""
    from .pictures import grid

    return draw_image(grid(images, min(columns, len(images)), gap=1, background=0.0), **options)


def draw_bars(values, labels=None, width: int = 40) -> str:
    """Non-negative numbers as bars, the largest `width` characters long."""
    values = np.asarray(values, np.float64).reshape(-1)
    labels = [str(label) for label in (range(len(values)) if labels is None else labels)]
    top = max(float(values.max(initial=0)), 1e-12)
    margin = max((len(label) for label in labels), default=0)
    eighths = " ▏▎▍▌▋▊▉"
    lines = []
    for label, v in zip(labels, values):
        whole, part = divmod(round(max(v, 0) / top * width * 8), 8)
        lines.append(f"{label:>{margin}} {'█' * whole}{eighths[part] if part else ''} {v:.4g}")
    return "\n".join(lines)


def draw_value(value: Any) -> str:
    """A field of a record in one line: a text or number, up to 8 numbers, or the shape and statistics of a larger array."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return str(value)
    a = np.asarray(value)
    if a.size == 0:
        return f"{a.dtype} {a.shape}"
    if a.size <= 8:
        return np.array2string(a, precision=4, separator=", ")
    kind = f"{a.dtype} {a.shape}"
    if a.dtype.kind in "fiu":
        kind += f", mean {a.mean():.4g}, standard deviation {a.std():.4g}, from {a.min():.4g} to {a.max():.4g}"
    return kind


def is_picture(a: Any) -> bool:
    """Whether an array looks like one picture or a batch of them."""
    return isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.ndim in (2, 3) and min(a.shape[-2:]) >= 8 and max(a.shape[-2:]) <= 64


def draw_step(step: Any) -> str:
    """A record as text: one line per field, then its last picture, or the most likely tokens."""
    lines = [type(step).__name__]
    picture = None
    for field in dataclasses.fields(step):
        value = getattr(step, field.name)
        lines.append(f"  {field.name} = {draw_value(value)}")
        if is_picture(value):
            picture = value
    if all(isinstance(getattr(step, name, None), np.ndarray) for name in ("choices", "probabilities")) and step.token is not None:
        likely = np.argsort(-step.probabilities, kind="stable")[:6]
        if step.token not in likely:
            likely = np.append(likely, step.token)
        lines.append("  most likely:")
        lines.append(draw_bars(step.probabilities[likely], [f"  {'>' if i == step.token else ' '} {i}" for i in likely], width=30))
    if picture is not None:
        shown = picture[:8] if picture.ndim == 3 else picture[None]
        low, high = float(shown.min()), float(shown.max())
        lines.append(draw_images((shown - low) / (high - low) if low < 0 or high > 1 else shown))
    return "\n".join(lines)
