"""What a language model reads at a step of training: windows of a running text, lines, or pieces of music.

Each function here returns `batches(step, rng)`, as a Trainer takes it.  A batch of text is (inputs, targets), each (batch, time) ids:
the target of a place is the token that follows it, so one pass trains every prefix of a window at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from ..data.text import pad
from ..training.batches import Batches, Table

IGNORED = -1  # a target that doesn't count


def random_windows(ids: np.ndarray, batch_size: int, time: int, stride: int = 1) -> Table:
    """Windows that begin at random multiples of `stride` tokens.  Taken as a table, they are windows that don't overlap."""
    places = (len(ids) - time - 1) // stride + 1

    def batches(step: int, rng: Generator) -> Any:
        windows = ids[stride * rng.integers(places, size=batch_size)[:, None] + np.arange(time + 1)]  # (batch, time + 1)
        return windows[:, :-1], windows[:, 1:]

    return _table_of_windows(ids, batch_size, time, stride, batches)


def _table_of_windows(ids: np.ndarray, batch_size: int, time: int, stride: int, batches: Batches, *flags: bool) -> Table:
    """Windows of time + 1 tokens as examples; no token lies in two of them, so that one passage counts as one example."""
    step = -(-(time + 1) // stride) * stride

    def take(rows: np.ndarray, rng: Generator) -> Any:
        windows = ids[step * rows[:, None] + np.arange(time + 1)]
        return windows[:, :-1], windows[:, 1:], *flags

    return Table(max(1, (len(ids) - time - 1) // step + 1), batch_size, take, batches, f"a window of {time + 1} tokens")


def consecutive_windows(ids: np.ndarray, batch_size: int, time: int) -> Table:
    """Each row of a batch reads its own part of the text, window after window: (inputs, targets, whether the rows start over).

    For a network with a state, which is carried from each window to the next.  Each epoch cuts the windows at another offset.  Taken as a
    table, the windows don't overlap, and each starts over.
    """
    length = (len(ids) - 1) // batch_size
    per_epoch = max(1, (length - 1) // time)

    def batches(step: int, rng: Generator) -> Any:
        epoch, i = divmod(step, per_epoch)
        offset = int(np.random.default_rng((epoch, 0x5EED)).integers(max(1, length - per_epoch * time)))
        at = (np.arange(batch_size) * length + offset + i * time)[:, None] + np.arange(min(time, length) + 1)
        windows = ids[at]
        return windows[:, :-1], windows[:, 1:], i == 0

    return _table_of_windows(ids, batch_size, min(time, length), 1, batches, True)


def line_table(text: str, tokenizer: Any, start: int, longest: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets), each (lines, time): a line follows the id `start`, and its newline is predicted too.

    Lines are cut to `longest` tokens; IGNORED fills up the targets of shorter ones.
    """
    rows = [tokenizer.encode(line + "\n") for line in text.splitlines() if line]
    if not rows:
        raise ValueError("text: has no lines to learn from")
    time = max(map(len, rows)) if longest is None else min(max(map(len, rows)), longest)
    targets = np.full((len(rows), time), IGNORED)
    for row, ids in zip(targets, rows):
        row[: len(ids)] = ids[:time]
    inputs = np.concatenate([np.full((len(rows), 1), start), np.where(targets < 0, start, targets)[:, :-1]], axis=1)
    return inputs, targets


def random_lines(inputs: np.ndarray, targets: np.ndarray, batch_size: int) -> Table:
    """Rows of a `line_table`, no wider than the longest line among them."""

    def take(rows: np.ndarray, rng: Generator) -> Any:
        width = int((targets[rows] != IGNORED).sum(1).max())
        return inputs[rows, :width], targets[rows, :width]

    return Table(len(inputs), batch_size, take, lambda step, rng: take(rng.integers(len(inputs), size=batch_size), rng), "a line")


def random_pieces(rolls: Sequence[np.ndarray], batch_size: int, transpose: int = 0) -> Table:
    """Piano rolls, each moved by up to `transpose` semitones, as (rolls (batch, time, 88), mask (batch, time) of true steps)."""

    def take(rows: np.ndarray, rng: Generator) -> Any:
        shifts = rng.integers(-transpose, transpose + 1, size=len(rows))
        return pad([transposed(rolls[i], semitones) for i, semitones in zip(rows, shifts)])

    return Table(len(rolls), batch_size, take, lambda step, rng: take(rng.integers(len(rolls), size=batch_size), rng), "a piece of music")


def transposed(roll: np.ndarray, semitones: int) -> np.ndarray:
    """A roll (steps, 88) so many keys higher; unchanged where a note would leave the keyboard."""
    moved = np.roll(roll, semitones, axis=1)
    wrapped = moved[:, :semitones] if semitones > 0 else moved[:, semitones:] if semitones < 0 else roll[:, :0]
    return roll if wrapped.any() else moved
