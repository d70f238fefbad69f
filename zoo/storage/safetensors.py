"""Files: named arrays as safetensors, a JSON card that says what they are, and atomic writes.

A model is a folder with two files: `model.safetensors` (name -> array) and `card.json` (what kind of model, its
configuration and tokenizer, how it was trained and how good it is). A safetensors file is a length in eight bytes, a
JSON header and the numbers, so reading one never runs code from it. The format is short enough to be implemented here,
which lets every error name the file and what is wrong with it; tests compare it with the safetensors package in both
directions.

How a write is made atomic: the content goes to a temporary file in the same folder, which is flushed to the disk (fsync)
and then renamed over the target. POSIX guarantees that a rename is seen either not at all or completely, so after a crash
or on a full disk the earlier file is still whole.

Source of the format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import platform
import re
import stat
import sys
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
PathLike = str | os.PathLike[str]

ASSETS = Path(__file__).parents[1] / "assets"     # data and models that ship
SHIPPED = ASSETS / "weights"                       # those models, a folder each
WEIGHTS, INDEX, CARD = "model.safetensors", "model.safetensors.index.json", "card.json"
DIGEST = "weights_sha256"                          # the card's entry that says which weights it belongs to
CHECKPOINT = "zoo_checkpoint"                      # the metadata entry that holds a checkpoint's tree
MAX_HEADER = 10_000_000                            # bytes, of about 100,000 tensors; the reference implementation reads ten times that
MAX_JSON, MAX_VALUES = 64_000_000, 5_000_000       # bytes, and values: Python takes some 70 bytes even for "[]"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1"}
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}
READABLE = {**DTYPES, "BF16": "<u2"}               # bfloat16 is the upper half of a float32

FILE_STARTS = (
    (b"PK\x03\x04", "a zip archive (.npz, or weights saved by PyTorch)"), (b"\x80", "a Python pickle"), (b"\x93NUMPY", "a NumPy .npy file"),
    (b"\x89PNG", "a PNG picture"), (b"\xff\xd8\xff", "a JPEG picture"), (b"\x1f\x8b", "gzip data"), (b"\xfd7zXZ", "xz data"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"), (b"<", "HTML or XML, as a failed download leaves"),
    (b"\x89HDF", "an HDF5 file"), (b"GGUF", "a GGUF file"), (b"%PDF", "a PDF"), (b"{", "JSON"), (b"[", "JSON"),
)


class WrongFile(ValueError):
    """A file isn't what it should be. The message is one line: the file, what it is, what is expected.

    What a damaged file says of itself may have any length: after the file's name, a message is cut at 200 characters."""

    def __init__(self, message: str):
        name, colon, rest = "".join(c if c.isprintable() else " " for c in message).partition(": ")
        super().__init__(name + colon + (rest if len(rest) <= 200 else rest[:197] + "..."))


def open_regular(path: PathLike) -> BinaryIO:
    """The file, open for reading. Raises WrongFile for a device, a pipe or a socket, which may have no end; else as `open`, in one line."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise WrongFile(f"{path}: is a device, a pipe or a socket; expects a regular file")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: does not exist") from error
    except IsADirectoryError as error:
        raise IsADirectoryError(f"{path}: is a folder; expects a file") from error
    except WrongFile:
        raise
    except ValueError as error:
        raise WrongFile(f"{str(path)!r}: is no file name ({error})") from error


def looks_like(start: bytes) -> str:
    """The kind of a file, for an error message, judged by its first bytes."""
    if not start:
        return "empty"
    return next((name for magic, name in FILE_STARTS if start.startswith(magic)), f"something else (it starts with {start[:8]!r})")


# --- writing files

Content = bytes | Iterable[bytes | memoryview]
_serial = itertools.count()


def atomic_write(path: PathLike, content: Content) -> None:
    """Write `content` (bytes, or an iterable of them) to `path`, replacing an earlier file only when all of it is on the disk.

    Raises OSError that names the file, and leaves no temporary file behind."""
    atomic_writes({path: content})


def atomic_writes(files: Mapping[Any, Content]) -> None:
    """Write several files (path -> content); none is replaced before the content of all of them is on the disk.

    A pipe or a device, such as /dev/stdout, is written to; it is never replaced by a file."""
    staged: list[tuple[Path, Path]] = []
    streams: list[tuple[PathLike, Content]] = []
    try:
        for path, content in files.items():
            if _is_stream(path):
                streams.append((path, content))
                continue
            target = Path(os.path.realpath(path))              # of a link, the file that it points to is replaced
            if target.is_dir():
                raise IsADirectoryError(f"{path}: is a folder; expects the name of a file")
            if not target.parent.is_dir():
                raise FileNotFoundError(f"{path}: the folder {target.parent} does not exist")
            remove_abandoned(target.parent, target.name)
            temporary = target.with_name(f".{target.name[:180]}.{_host()}-{os.getpid()}-{threading.get_ident()}-{next(_serial)}.tmp")
            staged.append((temporary, target))
            with _named(path, "; the earlier file, if any, is unchanged"):
                _write_new(temporary, content, mode=stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666)
        for i, (temporary, target) in enumerate(staged):
            before = ", ".join(earlier.name for _, earlier in staged[:i])
            with _named(target, f"; it is unchanged, but {before} was replaced already" if i else "; the earlier file, if any, is unchanged"):
                os.replace(temporary, target)
    except BaseException:                                      # clean up after an interrupt too
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise
    for folder in {target.parent for _, target in staged}:     # flush the renames as well, where the system can
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    for path, content in streams:
        with _named(path):
            _write_to_stream(path, content)


_DESCRIPTOR = re.compile(r"/dev/(?:(stdin|stdout|stderr)|fd/(\d+))|/proc/self/fd/(\d+)")


def _is_stream(path: PathLike) -> bool:
    """True for what is written to as it stands: an open descriptor of this process, a pipe, or a device of characters."""
    if _DESCRIPTOR.fullmatch(os.fspath(path)):
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise OSError(f"{path}: is a {'disk' if stat.S_ISBLK(mode) else 'socket'}; expects the name of a file")
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _write_to_stream(path: PathLike, content: Content) -> None:
    named = _DESCRIPTOR.fullmatch(os.fspath(path))
    if named:  # not opened again: that would begin at the start of a file that the shell has opened
        number = ("stdin", "stdout", "stderr").index(named[1]) if named[1] else int(named[2] or named[3])
        for text in (sys.stdout, sys.stderr):
            if text is not None:
                text.flush()
        handle = os.dup(number)
    else:
        handle = os.open(path, os.O_WRONLY)
    try:
        _write_all(handle, content)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _named(path: PathLike, addition: str = "") -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:                                    # whoever read the pipe has seen enough
        raise
    except OSError as error:
        raise type(error)(f"{path}: could not be written ({error.strerror or error}){addition}") from error


def _write_new(path: Path, content: Content, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        _write_all(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, content: Content) -> None:
    for part in (content,) if isinstance(content, bytes) else content:
        rest = memoryview(part).cast("B")
        while rest:                                            # a write may be short
            rest = rest[os.write(handle, rest):]


def _host() -> str:
    """This machine, in a name of a temporary file: a number of a process means nothing on another."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def remove_abandoned(folder: Path, name: str | None = None, after: float = 3600.0) -> None:
    """Remove the temporary files that killed processes left in a folder, or there for one file alone.

    Those of this machine go when their process is gone, others when they are older than an hour."""
    for path in folder.glob(f".{_escape_glob(name[:180]) if name else '*'}.*.tmp"):
        parts = re.fullmatch(r".*\.(?:([0-9a-f]{8})-)?(\d+)-\d+-\d+\.tmp", path.name)
        with contextlib.suppress(OSError):
            if parts and ((parts[1] == _host() and not is_running(int(parts[2]))) or time.time() - path.stat().st_mtime > after):
                path.unlink()


def is_running(process: int) -> bool:
    """Whether this machine has a process of that number; True where the system can't tell."""
    if os.name != "posix":                                     # os.kill would end it on Windows
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _escape_glob(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


# --- safetensors

def write_tensors(path: PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays to one safetensors file, atomically.

    Raises ValueError for a name or dtype that the format can't hold, OSError where writing fails."""
    atomic_write(path, _serialise(path, arrays, metadata))


def _serialise(path: PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None) -> list[bytes | memoryview]:
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
        return _read_entry(name, self._entries[name])

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
    return dict(open_tensors(path))


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
    raise FileNotFoundError(f"{path}: has neither {WEIGHTS} nor {INDEX}{why}")


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
            if Path(shard).name != shard or not shard.isprintable():
                raise WrongFile(f"{index}: names the file {shorten(shard)}; expects file names inside the same folder")
            headers[shard] = _read_header(folder / shard)[0]
        if name not in headers[shard]:
            raise WrongFile(f"{folder}: {name[:60]} in {INDEX} but not in {shard[:60]}")
        entries[name] = headers[shard][name]
    return Tensors(entries)


def read_safetensors(path: PathLike) -> tuple[Arrays, dict[str, str]]:
    """(arrays, metadata) of one safetensors file. The arrays are aligned and writable."""
    entries, metadata = _read_header(Path(path))
    return dict(Tensors(entries)), metadata


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
        tensors = {name: _checked_entry(path, name, tensor) for name, tensor in header.items()}
    except (ValueError, RecursionError) as error:
        if isinstance(error, WrongFile):
            raise
        raise WrongFile(f"{path}: has a damaged safetensors header ({type(error).__name__}: {error})") from error
    end, entries = 0, {}
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].size)):
        if entry.offset != end:
            raise WrongFile(f"{path}: has a damaged safetensors header (tensor {shorten(name)} begins at byte {entry.offset}, expected {end})")
        end += entry.size
        entries[name] = entry._replace(offset=8 + length + entry.offset)
    if size != 8 + length + end:
        state = "is truncated" if size < 8 + length + end else "has bytes after its end"
        raise WrongFile(f"{path}: {state}: it has {size:,} bytes, its header asks for {8 + length + end:,}")
    return entries, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _checked_entry(path: Path, name: str, tensor: Any) -> _Entry:
    """One tensor of a header, its offset counted from the header's end. Every number is checked before any is multiplied."""
    kind: Any
    shape: Any
    offsets: Any
    kind, shape, offsets = (tensor.get(field) if isinstance(tensor, dict) else tensor for field in ("dtype", "shape", "data_offsets"))
    if not (isinstance(kind, str) and _are_counts(shape) and _are_counts(offsets) and len(offsets) == 2):
        raise WrongFile(f"{path}: has a damaged safetensors header (tensor {shorten(name)}: dtype {shorten(kind)}, shape {shorten(shape)}, "
                        f"data_offsets {shorten(offsets)})")
    if kind not in READABLE:
        raise WrongFile(f"{path}: tensor {shorten(name)} has dtype {shorten(kind)}; can read {', '.join(READABLE)}")
    first, last = offsets
    addressable = math.prod(max(n, 1) for n in shape) < 2**59  # by NumPy, even where the array is empty
    if not addressable or last - first != math.prod(shape) * np.dtype(READABLE[kind]).itemsize:
        raise WrongFile(f"{path}: has a damaged safetensors header (tensor {shorten(name)}: shape {shorten(shape)} of {kind} in bytes "
                        f"{first} to {last})")
    return _Entry(path, kind, tuple(shape), first, last - first)


def _are_counts(value: Any) -> bool:
    """True for a list of at most 32 whole numbers from 0 to 2^62, as JSON's parser gives them."""
    return isinstance(value, list) and len(value) <= 32 and all(type(n) is int and 0 <= n < 2**62 for n in value)


def shorten(value: Any, most: int = 60) -> str:
    """repr(value), cut where it is long."""
    text = repr(value[:most] if isinstance(value, (str, list, tuple)) else value)
    return text if len(text) <= most else text[:most] + "..."


def _read_entry(name: str, entry: _Entry) -> np.ndarray:
    try:
        array = np.empty(entry.shape, READABLE[entry.dtype])
        with open_regular(entry.path) as file:
            file.seek(entry.offset)
            if entry.size and file.readinto(array.reshape(-1).view(np.uint8).data) != entry.size:  # type: ignore[attr-defined]
                raise WrongFile(f"{entry.path}: was changed while it was read")
        if entry.dtype == "BF16":
            return np.asarray(array.astype(np.uint32) << 16).view(np.float32)
        if entry.dtype == "BOOL":
            return np.asarray(array.view(np.uint8) != 0)                       # NumPy expects bytes of 0 and 1
    except MemoryError as error:
        raise WrongFile(f"{entry.path}: tensor {shorten(name)} of shape {entry.shape} does not fit into memory") from error
    return array


# --- a model's folder

def save_folder(folder: PathLike, arrays: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> None:
    """Write `folder/model.safetensors` and `folder/card.json`, creating the folder if necessary.

    The content of both is on the disk before either replaces an earlier file, and the card holds a digest of the weights, by which
    `load_folder` notices that only one of the two was replaced."""
    folder = Path(folder)
    parts = _serialise(folder / WEIGHTS, arrays, None)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    try:
        text = json.dumps({**card, DIGEST: digest.hexdigest()}, indent=1, default=_plain, ensure_ascii=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"card: cannot be written as JSON ({error}); expects strings, numbers, lists and dictionaries") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise FileExistsError(f"{folder}: is a file; expects a folder to save the model in") from error
    atomic_writes({folder / WEIGHTS: parts, folder / CARD: text})


def load_folder(folder: PathLike) -> tuple[Tensors, dict[str, Any]]:
    """(arrays, card) of a folder that `save_folder` wrote; an array is read when it is asked for. Raises WrongFile or OSError, in one line."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: is not a folder; expects one with {WEIGHTS} and {CARD}")
    if not (folder / CARD).exists():
        raise FileNotFoundError(f"{folder}: has no {CARD}; a model saved by zoo is a folder with {WEIGHTS} and {CARD}")
    card = read_json(folder / CARD)
    tensors, digest = open_tensors(folder), card.pop(DIGEST, None)
    if digest is not None and (folder / WEIGHTS).exists():
        with open_regular(folder / WEIGHTS) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:  # type: ignore[arg-type]
                raise WrongFile(f"{folder / WEIGHTS}: does not belong to {CARD}, whose {DIGEST} is another one: saving was interrupted "
                                "between the two, or a file was changed")
    return tensors, card


def read_json(path: PathLike) -> dict[str, Any]:
    """The object in a JSON file. Raises WrongFile or OSError, in one line."""
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_JSON:
            raise WrongFile(f"{path}: has {size:,} bytes; expects JSON of at most {MAX_JSON:,}")
        content = file.read()
    if content.count(b",") + content.count(b"[") + content.count(b"{") > MAX_VALUES:
        raise WrongFile(f"{path}: holds more than {MAX_VALUES:,} values")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        what = f"damaged or truncated ({error})" if content[:1] == b"{" else looks_like(content[:32])
        raise WrongFile(f"{path}: is not JSON: it is {what}") from error
    if not isinstance(value, dict):
        raise WrongFile(f"{path}: holds a JSON {type(value).__name__}; expects an object ({{...}})")
    return value


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


def _plain(value: object) -> object:
    """NumPy numbers, arrays and paths as JSON's types."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a {type(value).__name__}")


# --- checkpoints

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
