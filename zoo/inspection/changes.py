"""Changes to a model while it runs, named in a line of text: `layers.0.tanh:zero` on the command line and in `zoo play`."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

Change = Callable[[np.ndarray], np.ndarray]
Changes = dict[str, Change]  # dotted path -> change, as `zoo.patch` takes them


def named_change(name: str) -> Change:
    changes: dict[str, Change] = {
        "zero": lambda a: 0 * a,
        "mean": lambda a: np.broadcast_to(a.mean(-1, keepdims=True), a.shape),
        "half": lambda a: a / 2,
        "double": lambda a: 2 * a,
        "negate": lambda a: -a,
    }
    if name not in changes:
        raise ValueError(f"patch: {name!r} isn't a change; it may be {', '.join(changes)}")
    return changes[name]


def read_change(text: str) -> Changes:
    """`layers.0.tanh:zero`, or `blocks.1.attention.softmax[2]:zero` for index 2 of axis 1 (a head), as the changes of `zoo.patch`."""
    path, colon, name = text.rpartition(":")
    if not colon:
        raise ValueError(f"patch is {text!r}; it is NAME:CHANGE, such as layers.0.tanh:zero")
    change = named_change(name)
    if not path.endswith("]"):
        return {path: change}
    path, _, index = path[:-1].partition("[")
    if not index.isdecimal():
        raise ValueError(f"patch is {text!r}; what is in brackets is an index of axis 1")
    return {path: functools.partial(_change_index, change, int(index), text)}


def _change_index(change: Change, index: int, text: str, a: np.ndarray) -> np.ndarray:
    if a.ndim < 2 or index >= a.shape[1]:
        raise ValueError(f"patch is {text!r}, but the value has shape {a.shape}")
    a[:, index] = change(a[:, index])
    return a
