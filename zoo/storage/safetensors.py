"""safetensors: a length in eight bytes, a JSON header and the numbers, so that reading a file never runs code from it.

The format is short enough to be implemented here, which lets every error name the file and what is wrong with it; tests compare it with the
safetensors package in both directions.

Source of the format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .atomic import atomic_write
from .files import PathLike, WrongFile, in_one_line, looks_like, open_regular, read_json, shorten

Arrays = dict[str, np.ndarray]

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_HEADER = 10_000_000  # bytes, of about 100,000 tensors; the reference implementation reads ten times that
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1"}
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}
READABLE = {**DTYPES, "BF16": "<u2"}  # bfloat16 is the upper half of a float32
ITEM_BYTES = {name: np.dtype(code).itemsize for name, code in READABLE.items()}


def write_tensors(path: PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays to one safetensors file, atomically.

    Raises ValueError for a name or dtype that the format can't hold, OSError where writing fails."""
    atomic_write(path, serialise(path, arrays, metadata))


def serialise(path: PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None) -> list[bytes | memoryview]:
    """The content of the file in parts, without a copy of the arrays. `path` names the file in errors."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts: list[bytes | memoryview] = [b""]                    # the first is the header, filled in at the end
    stored = {name: np.asarray(array) for name, array in arrays.items()}
    start = 0
    for name, array in sorted(stored.items(), key=lambda item: (-item[1].dtype.itemsize, str(item[0]))):   # widest first keeps every array aligned
        kind = NAMES.get(array.dtype.newbyteorder("<"))
        if not isinstance(name, str) or name == "__metadata__":
            raise ValueError(f"{path}: tensor name {name!r} cannot be stored; expects a string other than '__metadata__'")
        if kind is None:
            raise ValueError(f"{path}: tensor {name!r} has dtype {array.dtype}; expects one of {', '.join(str(d) for d in NAMES)}")
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, start + array.nbytes]}
        start += array.nbytes
        if array.nbytes:
            flat = np.ascontiguousarray(array, dtype=DTYPES[kind]).reshape(-1)
            parts.append(flat.view(np.uint8).data)
    try:
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path}: a tensor name or metadata entry is not valid Unicode ({error.reason})") from error
    text += b" " * (-len(text) % 8)
    parts[0] = len(text).to_bytes(8, "little") + text
    return parts


class _Entry(NamedTuple):
    path: Path
    dtype: str                                             # by the format's name
    shape: tuple[int, ...]
    offset: int                                            # of its first byte, from the beginning of the file
    size: int                                              # bytes


class Tensors(Mapping[str, np.ndarray]):
    """The arrays of one or several safetensors files. Names and shapes are known from the headers; an array is read when it is asked for,
    so that what doesn't fit is refused before anything of its size is read."""

    def __init__(self, entries: Mapping[str, _Entry]):
        self._entries = dict(entries)
        self.shapes = {name: entry.shape for name, entry in entries.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._entries[name]
        with open_regular(entry.path) as file:
            return _read_entry(name, entry, file)

    def read(self) -> Arrays:
        """All of them; each file is opened once."""
        names_in: dict[Path, list[str]] = {}
        for name, entry in self._entries.items():
            names_in.setdefault(entry.path, []).append(name)
        arrays: Arrays = {}
        for path, names in names_in.items():
            with open_regular(path) as file:
                arrays |= {name: _read_entry(name, self._entries[name], file) for name in names}
        return {name: arrays[name] for name in self._entries}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def shapes_of(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Name -> shape, without reading an array."""
    return dict(arrays.shapes) if isinstance(arrays, Tensors) else {name: np.shape(a) for name, a in arrays.items()}


def read_tensors(path: PathLike) -> Arrays:
    """All arrays of a safetensors file, or of a folder with `model.safetensors` or `model.safetensors.index.json` and its shards.

    bfloat16 is converted to float32; every other dtype is that of the file. The arrays are aligned and writable.
    Raises WrongFile or OSError, in one line."""
    return open_tensors(path).read()


def open_tensors(path: PathLike) -> Tensors:
    """As `read_tensors`, but only headers are read at once."""
    path = Path(path)
    if not path.is_dir():
        return Tensors(_read_header(path)[0])
    if (path / WEIGHTS).exists():
        return Tensors(_read_header(path / WEIGHTS)[0])
    if (path / INDEX).exists():
        return _open_shards(path)
    others = sorted(p.name for p in path.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    why = f"; {others[0]} is a pickle, which can run code and is not read: convert it to safetensors" if others else ""
    raise FileNotFoundError(f"{in_one_line(path)}: has neither {WEIGHTS} nor {INDEX}{why}")


def _open_shards(folder: Path) -> Tensors:
    """Each tensor from the file that the index names for it; whatever else a shard holds is ignored."""
    index = folder / INDEX
    shard_of = read_json(index).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(shard, str) for shard in shard_of.values()):
        raise WrongFile(f"{index}: has no 'weight_map' of tensor name -> file name")
    headers: dict[str, dict[str, _Entry]] = {}
    entries: dict[str, _Entry] = {}
    for name, shard in sorted(shard_of.items()):
        if shard not in headers:
            if Path(shard).name != shard or not shard.isprintable() or len(shard.encode()) > 200:
                raise WrongFile(f"{index}: names the file {shorten(shard)}; expects file names inside the same folder")
            headers[shard] = _read_header(folder / shard)[0]
        if name not in headers[shard]:
            raise WrongFile(f"{folder}: {name[:60]} in {INDEX} but not in {shard[:60]}")
        entries[name] = headers[shard][name]
    return Tensors(entries)


def read_safetensors(path: PathLike) -> tuple[Arrays, dict[str, str]]:
    """(arrays, metadata) of one safetensors file. The arrays are aligned and writable."""
    entries, metadata = _read_header(Path(path))
    return Tensors(entries).read(), metadata


def _read_header(path: Path) -> tuple[dict[str, _Entry], dict[str, str]]:
    """The header, checked: {name: entry} in the order of the file, and the metadata."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(32)
        length = int.from_bytes(start[:8], "little")
        if size < 8 or length > MAX_HEADER or start[8:9] not in (b"{", b""):
            raise WrongFile(f"{path}: is not a safetensors file: it is {looks_like(start)}")
        file.seek(8)
        if size < 8 + length:
            raise WrongFile(f"{path}: is truncated: it has {size:,} bytes, its header alone needs {8 + length:,}")
        content = file.read(length)
    try:
        header = json.loads(content, object_pairs_hook=_unique)
        metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("expects an object of tensors, and metadata of strings alone")
        tensors = [(name, _checked_entry(path, name, tensor, 8 + length)) for name, tensor in header.items()]
    except (ValueError, RecursionError) as error:
        if isinstance(error, WrongFile):
            raise
        raise WrongFile(f"{path}: has a damaged safetensors header ({type(error).__name__}: {error})") from error
    tensors.sort(key=lambda item: item[1][3:])  # by offset and size
    end = start_of_data = 8 + length
    for name, entry in tensors:
        if entry.offset != end:
            raise WrongFile(f"{path}: has a damaged safetensors header (tensor {shorten(name)} begins at byte "
                            f"{entry.offset - start_of_data}, expected {end - start_of_data})")
        end += entry.size
    if size != end:
        state = "is truncated" if size < end else "has bytes after its end"
        raise WrongFile(f"{path}: {state}: it has {size:,} bytes, its header asks for {end:,}")
    return dict(tensors), metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _checked_entry(path: Path, name: str, tensor: Any, start_of_data: int) -> _Entry:
    """One tensor of a header, of which there may be a hundred thousand. Every number is checked before any is multiplied."""
    kind = shape = offsets = tensor
    if isinstance(tensor, dict):
        kind, shape, offsets = tensor.get("dtype"), tensor.get("shape"), tensor.get("data_offsets")
    if not (isinstance(kind, str) and _are_counts(shape) and _are_counts(offsets) and len(offsets) == 2):
        raise WrongFile(f"{path}: has a damaged safetensors header (tensor {shorten(name)}: dtype {shorten(kind)}, shape {shorten(shape)}, "
                        f"data_offsets {shorten(offsets)})")
    if kind not in READABLE:
        raise WrongFile(f"{path}: tensor {shorten(name)} has dtype {shorten(kind)}; can read {', '.join(READABLE)}")
    first, last = offsets
    extent = math.prod(n or 1 for n in shape) if 0 in shape else math.prod(shape)
    if extent >= 2**59 or last - first != math.prod(shape) * ITEM_BYTES[kind]:  # NumPy addresses no more, even where the array is empty
        raise WrongFile(f"{path}: has a damaged safetensors header (tensor {shorten(name)}: shape {shorten(shape)} of {kind} in bytes "
                        f"{first} to {last})")
    return _Entry(path, kind, tuple(shape), start_of_data + first, last - first)


def _are_counts(value: Any) -> bool:
    """True for a list of at most 32 whole numbers from 0 to 2^62, as JSON's parser gives them."""
    if not isinstance(value, list) or len(value) > 32:
        return False
    for n in value:  # a generator for each shape would take twice the time
        if type(n) is not int or not 0 <= n < 2**62:
            return False
    return True


def _read_entry(name: str, entry: _Entry, file: BinaryIO) -> np.ndarray:
    try:
        array = np.empty(entry.shape, READABLE[entry.dtype])
        if entry.size:
            if file.tell() != entry.offset:
                file.seek(entry.offset)
            if file.readinto(array.reshape(-1).view(np.uint8).data) != entry.size:  # type: ignore[attr-defined]
                raise WrongFile(f"{entry.path}: was changed while it was read")
        if entry.dtype == "BF16":
            return np.asarray(array.astype(np.uint32) << 16).view(np.float32)
        if entry.dtype == "BOOL":
            return np.asarray(array.view(np.uint8) != 0)                       # NumPy expects bytes of 0 and 1
    except MemoryError as error:
        raise WrongFile(f"{entry.path}: tensor {shorten(name)} of shape {entry.shape} does not fit into memory") from error
    return array
