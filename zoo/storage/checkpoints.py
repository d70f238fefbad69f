"""Checkpoints: the nested state of a training run in one safetensors file, its arrays as tensors, the rest as JSON in the metadata."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .files import PathLike, WrongFile
from .safetensors import Arrays, read_safetensors, write_tensors

CHECKPOINT = "zoo_checkpoint"  # the metadata entry that holds a checkpoint's tree


def save_checkpoint(path: PathLike, state: Mapping[str, Any]) -> None:
    """Write nested training state to one safetensors file, atomically.

    `state` is made of dictionaries with string keys, lists, tuples, arrays, NumPy scalars, strings, numbers of any size,
    booleans and None. Tuples are read back as lists and NumPy scalars as Python numbers; everything else unchanged."""
    arrays: Arrays = {}
    tree = json.dumps(_flatten(state, "", arrays))
    write_tensors(path, arrays, {CHECKPOINT: tree})


def load_checkpoint(path: PathLike) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote. Raises WrongFile or OSError, in one line."""
    arrays, metadata = read_safetensors(path)
    if CHECKPOINT not in metadata:
        raise WrongFile(f"{path}: is a safetensors file but not a checkpoint of training; it holds {len(arrays)} tensors")
    try:
        return _unflatten(json.loads(metadata[CHECKPOINT]), arrays)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WrongFile(f"{path}: is a damaged checkpoint ({type(error).__name__}: {error})") from error


def _flatten(value: Any, name: str, arrays: Arrays) -> Any:
    """`value` with {"$array": name} in place of every array; the arrays are added to `arrays`, named by their path."""
    if isinstance(value, np.generic):
        return _flatten(value.item(), name, arrays)
    if isinstance(value, np.ndarray):
        unique = next(n for n in itertools.chain([name], (f"{name}~{i}" for i in itertools.count(1)))
                      if n not in arrays and n != "__metadata__")
        arrays[unique] = value
        return {"$array": unique}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == "$array":
                raise ValueError(f"state: key {key!r} under {name or 'the top'!r}; expects strings other than '$array'")
        return {key: _flatten(item, f"{name}.{key}" if name else key, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_flatten(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"state: {name!r} is a {type(value).__name__}; expects arrays, numbers, strings, lists, dictionaries or None")


def _unflatten(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, dict):
        return arrays[value["$array"]] if "$array" in value else {key: _unflatten(item, arrays) for key, item in value.items()}
    return [_unflatten(item, arrays) for item in value] if isinstance(value, list) else value
