"""Pictures and numbers as text for a terminal: pictures in half-block characters, two pixels each; numbers as bars."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .pictures import grid

SHADES = " .:-=+*#%@"


def terminal_width() -> int:
    """Columns of the terminal, or of the variable COLUMNS; a thousand where output goes to a file."""
    return shutil.get_terminal_size((1000, 24)).columns


def draw_image(image, *, colour: bool | None = None) -> str:
    """A grey picture (height, width) in [0, 1] as lines of text, two pixels per character.

    In a terminal these are half blocks in 24-bit colour, elsewhere shades of ASCII characters.  A picture wider than the terminal is
    shrunk: blocks of pixels become their mean.
    """
    image = np.asarray(image, np.float32)
    if image.ndim == 3:
        image = image.mean(-1)
    if (block := math.ceil(image.shape[1] / terminal_width())) > 1:
        image = np.pad(image, [(0, -side % block) for side in image.shape])
        image = image.reshape(len(image) // block, block, -1, block).mean((1, 3))
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
    """Several pictures side by side: as many per row as the terminal has room for, at most `columns`."""
    room = (terminal_width() - 1) // (np.shape(images)[2] + 1)
    return draw_image(grid(images, max(1, min(columns, room, len(images))), gap=1, background=0.0), **options)


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
    if isinstance(value, str):
        return value if value.strip() == value != "" else repr(value)  # a space is seen
    if value is None or isinstance(value, (int, float, bool)):
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


def draw_step(step: Any, decode: Callable[[int], str] | None = None) -> str:
    """A record as text: one line per field, then its last picture, or the most likely tokens.  decode: id -> text of a token."""
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
        names = [str(i) if decode is None else repr(decode(int(i))) for i in likely]
        lines.append(draw_bars(step.probabilities[likely], [f"  {'>' if i == step.token else ' '} {name}" for i, name in zip(likely, names)],
                               width=30))
    if picture is not None:
        shown = picture[:8] if picture.ndim == 3 else picture[None]
        low, high = float(shown.min()), float(shown.max())
        lines.append(draw_images((shown - low) / (high - low) if low < 0 or high > 1 else shown))
    return "\n".join(lines)


VOICE_COLOURS = ((78, 155, 209), (89, 161, 79), (242, 142, 43), (216, 105, 159))  # soprano, alto, tenor, bass; then again


def draw_roll(pitch, onset=None, *, colour: bool | None = None) -> str:
    """A piano roll: pitch (steps, voices) in MIDI numbers, -1 for a rest; onset (steps, voices): where a note begins.

    Time runs to the right, one column per step, in systems as wide as the terminal; a line is two semitones.  In a terminal each voice has
    a colour; elsewhere a note is the letter of its voice (S, A, T, B, or 0 to 9) and dashes while it is held.
    """
    pitch = np.asarray(pitch)
    if pitch.ndim != 2:
        raise ValueError(f"draw_roll: pitch has shape {pitch.shape}; it is (steps, voices)")
    if not (pitch >= 0).any():
        return "(silence)"
    onset = pitch >= 0 if onset is None else np.asarray(onset)
    colour = sys.stdout.isatty() if colour is None else colour
    low, high = int(pitch[pitch >= 0].min()), int(pitch.max())
    low -= (high - low + 1) % 2  # an even number of semitones
    voices = np.full((high - low + 1, len(pitch)), -1)
    struck = np.zeros(voices.shape, bool)
    for v in reversed(range(pitch.shape[1])):  # the highest voice is drawn over the others
        steps = np.flatnonzero(pitch[:, v] >= 0)
        voices[high - pitch[steps, v], steps] = v
        struck[high - pitch[steps, v], steps] = onset[steps, v]
    width = max(16, (terminal_width() - 5) // 16 * 16)  # whole bars of sixteenths
    return "\n\n".join("\n".join(f"{pitch_name(high - row):>4} " + _roll_line(voices[row : row + 2, start : start + width],
                                                                              struck[row : row + 2, start : start + width], pitch.shape[1], colour)
                                 for row in range(0, len(voices), 2)) for start in range(0, len(pitch), width))


def _roll_line(voices: np.ndarray, struck: np.ndarray, count: int, colour: bool) -> str:
    """Two semitones of a roll as one line: voices (2, steps), -1 where there is none."""
    if not colour:
        letters = "SATB" if count == 4 else "0123456789"
        upper = voices[0] >= 0
        voice, begins = np.where(upper, voices[0], voices[1]), np.where(upper, struck[0], struck[1])
        return "".join(" " if v < 0 else letters[v % len(letters)] if b else "-" for v, b in zip(voice, begins)).rstrip()
    cells = []
    for (above, below), (above_begins, below_begins) in zip(voices.T, struck.T):
        if above < 0 and below < 0:
            cells.append("\x1b[0m ")
        elif below < 0:
            cells.append(f"\x1b[0;{_voice_colour(38, above, above_begins)}m▀")
        elif above < 0:
            cells.append(f"\x1b[0;{_voice_colour(38, below, below_begins)}m▄")
        else:
            cells.append(f"\x1b[0;{_voice_colour(38, above, above_begins)};{_voice_colour(48, below, below_begins)}m▀")
    return "".join(cells) + "\x1b[0m"


def _voice_colour(layer: int, voice: int, begins: bool) -> str:
    """A held note is darker than where it begins.  layer: 38 for the foreground, 48 for the background."""
    red, green, blue = (c if begins else int(0.65 * c) for c in VOICE_COLOURS[voice % len(VOICE_COLOURS)])
    return f"{layer};2;{red};{green};{blue}"


def pitch_name(pitch: int) -> str:
    """60 is C4, middle C."""
    return f"{('C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B')[pitch % 12]}{pitch // 12 - 1}"
