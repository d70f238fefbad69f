"""What several operations check: each function raises an error that names the operation, the setting, its value and what it may be.

An operation's check runs before its kernel, so that a kernel can rely on shapes, indices and settings: it has no bounds of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..tensor import Tensor, state

MOST = 2**31 - 1  # strides, widths and lengths of two axes


def shown(value: Any) -> str:
    """A value in a message: one line, cut short where it's long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else text[:97] + "..."


def integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """value as an int, at least `least`, at most `most`; name: the operation and the setting, "upsample: scale"."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):  # not an array of one, which a kernel would take for its address
        raise TypeError(f"{name} is {shown(value)}; it is an integer")
    if least is not None and value < least:
        raise ValueError(f"{name} is {shown(value)}; it is at least {least}")
    if most is not None and value > most:
        raise ValueError(f"{name} is {shown(value)}; it is at most {most}")
    return int(value)


def number(name: str, value: Any, least: float | None = None, *, may_be_infinite: bool = False) -> float:
    """value as a float, at least `least` and not NaN."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {shown(value)}; it is a number")
    if value != value or (value in (math.inf, -math.inf) and not may_be_infinite) or (least is not None and value < least):
        kind = "number" if may_be_infinite else "finite number"
        raise ValueError(f"{name} is {shown(value)}; it is a {kind}{'' if least is None else f' of at least {least}'}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {shown(value)}; it is True or False")
    return bool(value)


def pair(value: Any, name: str, least: int | None = None) -> tuple[int, int]:
    """An int or two ints as two ints, of at most 32 bits, which a kernel multiplies without overflow."""
    if type(value) is int and (least is None or value >= least) and value <= MOST:
        return value, value
    parts = tuple(value) if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim) else (value, value)
    if len(parts) != 2:
        raise ValueError(f"{name} is {shown(value)}; it is an int or two ints")
    return integer(name, parts[0], least, MOST), integer(name, parts[1], least, MOST)


def shape(name: str, value: Any) -> tuple[int, ...]:
    """A shape: an int or a sequence of ints of at least 0."""
    lengths = tuple(value) if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim) else (value,)
    return tuple(integer(name, n, 0) for n in lengths)


def axis(name: str, value: Any, ndim: int) -> int:
    """One axis of an array with ndim of them, counted from the front."""
    i = integer(name, value)
    if not -ndim <= i < ndim:
        has = f"an array of {ndim} dimensions has axes from {-ndim} to {ndim - 1}" if ndim else "an array without dimensions has no axes"
        raise np.exceptions.AxisError(f"{name} is {shown(value)}; {has}")
    return i % ndim


def axes(name: str, value: Any, ndim: int) -> tuple[int, ...]:
    """None (all), an axis or several as axes counted from the front; of an array without dimensions -1 and 0 are none, as in NumPy."""
    if value is None:
        return tuple(range(ndim))
    several = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if ndim == 0:
        for i in several:
            axis(name, i, 1)
        return ()
    result = tuple([axis(name, i, ndim) for i in several])
    if len(set(result)) < len(result):
        raise ValueError(f"{name} is {shown(value)}, which names an axis twice")
    return result


def one_of(name: str, value: Any, choices: tuple) -> None:
    if not any(value is c or (isinstance(value, str) and value == c) for c in choices):
        raise ValueError(f"{name} is {shown(value)}; it may be {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}")


def broadcast(name: str, **arrays: Any) -> tuple[int, ...]:
    """The shape to which all broadcast; arguments that are None are left out."""
    return _together(name, "shapes", {argument: np.shape(a) for argument, a in arrays.items() if a is not None})


def batch(name: str, **arrays: Any) -> tuple[int, ...]:
    """The shape to which all but the last two axes broadcast."""
    return _together(name, "all axes but the last two of", {argument: a.shape[:-2] for argument, a in arrays.items()})


def _together(name: str, what: str, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        raise ValueError(f"{name}: {what} the arguments don't broadcast: {', '.join(f'{k} {s}' for k, s in shapes.items())}") from None


def layout(name: str, array: Any, of: str) -> tuple[int, ...]:
    """The shape of an array or tensor that has these axes: layout("merge_heads: y", y, "(batch, heads, time, width)")."""
    if not isinstance(array, (np.ndarray, Tensor)):
        raise TypeError(f"{name} is {shown(array)}; it is an array {of}")
    if array.ndim != of.count(",") + 1:
        raise ValueError(f"{name} has shape {array.shape}; it is {of}")
    return array.shape


def array(name: str, value: Any) -> Any:
    """value as an array of numbers, or the tensor that it is."""
    if isinstance(value, Tensor):
        return value
    try:
        result = value if isinstance(value, np.ndarray) else np.asarray(value)
    except ValueError:  # rows of different lengths
        result = np.empty((), object)
    if result.dtype.kind not in "fiub":
        raise TypeError(f"{name} is {shown(value)}; it may be a tensor or an array of floats, integers or bools")
    return result


def values(x: Any, check: Callable[[np.ndarray], Any]) -> None:
    """Run `check` on the array of a tensor, or on the array itself: it raises for values that may not be, also when a compiled step is replayed."""
    check(x._data if isinstance(x, Tensor) else x)
    if state.recorder is not None and isinstance(x, Tensor):
        state.recorder.checks(x, check)


def all_below(count: int, ids: np.ndarray) -> bool:
    """Whether all integers go from 0 to count - 1."""
    if ids.dtype == np.int64 and ids.flags.c_contiguous:  # one look, in which a negative number is a large one
        return not ids.size or bool(np.maximum.reduce(ids.view(np.uint64), axis=None) < count)
    return not ids.size or bool(0 <= ids.min() and ids.max() < count)


def indices(name: str, ids: Any, count: int, what: str) -> None:
    """Integers from 0 to count - 1."""
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name} have dtype {ids.dtype}; they are integers")
    if not all_below(count, ids):
        raise IndexError(f"{name} go from {ids.min()} to {ids.max()}; {what}, so they may go from 0 to {count - 1}")
