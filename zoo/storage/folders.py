"""A model is a folder with two files: `model.safetensors`, its arrays by name, and `card.json`, which says what they are.

The card has the kind of model, its configuration and tokenizer, how it was trained and how good it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import atomic_writes
from .files import PathLike, WrongFile, in_one_line, open_regular, read_json
from .safetensors import WEIGHTS, Tensors, open_tensors, serialise, shapes_of

ASSETS = Path(__file__).parents[1] / "assets"  # data and models that ship
SHIPPED = ASSETS / "weights"  # those models, a folder each
CARD = "card.json"
DIGEST = "weights_sha256"  # the card's entry that says which weights it belongs to


def cache_folder(kind: str) -> Path:
    """Where what was fetched lies: numpy-zoo/KIND under the user's cache.  OSError where there is no home to have one."""
    root = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(root) if root else Path.home() / ".cache") / "numpy-zoo" / kind
    except RuntimeError as error:
        raise OSError(f"there is no home folder to keep {kind} in ({error}); set XDG_CACHE_HOME") from error


def save_folder(folder: PathLike, arrays: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> None:
    """Write `folder/model.safetensors` and `folder/card.json`, creating the folder if necessary.

    The content of both is on the disk before either replaces an earlier file, and the card holds a digest of the weights, by which
    `load_folder` notices that only one of the two was replaced."""
    folder = Path(folder)
    parts = serialise(folder / WEIGHTS, arrays, None)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    try:
        text = json.dumps({**card, DIGEST: digest.hexdigest()}, indent=1, default=_plain, ensure_ascii=False)
        content = text.encode(errors="backslashreplace") + b"\n"  # JSON's own way to write what a file name may have and UTF-8 not
    except (TypeError, ValueError) as error:
        raise ValueError(f"card: cannot be written as JSON ({error}); expects strings, numbers, lists and dictionaries") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise FileExistsError(f"{folder}: is a file; expects a folder to save the model in") from error
    atomic_writes({folder / WEIGHTS: parts, folder / CARD: content})


def load_folder(folder: PathLike) -> tuple[Tensors, dict[str, Any]]:
    """(arrays, card) of a folder that `save_folder` wrote; an array is read when it is asked for. Raises WrongFile or OSError, in one line."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{in_one_line(folder)}: is not a folder; expects one with {WEIGHTS} and {CARD}")
    if not (folder / CARD).exists():
        raise FileNotFoundError(f"{in_one_line(folder)}: has no {CARD}; a model saved by zoo is a folder with {WEIGHTS} and {CARD}")
    card = read_json(folder / CARD)
    tensors, digest = open_tensors(folder), card.pop(DIGEST, None)
    if digest is not None and (folder / WEIGHTS).exists():
        with open_regular(folder / WEIGHTS) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:  # type: ignore[arg-type]
                raise WrongFile(f"{folder / WEIGHTS}: does not belong to {CARD}, whose {DIGEST} is another one: saving was interrupted "
                                "between the two, or a file was changed")
    return tensors, card


def _plain(value: object) -> object:
    """NumPy numbers, arrays and paths as JSON's types."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a {type(value).__name__}")


def check_fit(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]], source: object = "weights") -> None:
    """Raise ValueError, in one line, that lists missing, unexpected and wrongly shaped arrays; `source` names the file. No array is read."""
    check_shapes(shapes_of(arrays), wanted, source)


def check_shapes(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], source: object = "weights") -> None:
    """As `check_fit`, by shapes alone."""
    missing = [name for name in wanted if name not in shapes]
    unexpected = [name for name in shapes if name not in wanted]
    wrong = [f"{name} is {tuple(shapes[name])}, wanted {tuple(shape)}" for name, shape in wanted.items()
             if name in shapes and tuple(shapes[name]) != tuple(shape)]
    faults = [f"{what}: {_few(names)}" for what, names in
              (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong)) if names]
    if faults:
        raise ValueError(f"{source}: does not fit the model; {'; '.join(faults)}")


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
