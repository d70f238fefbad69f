"""GGUF files, as llama.cpp keeps models: read without running anything, with memory bounded by the file, and written.

    "GGUF"  version  number of tensors  number of settings        all little-endian
    settings: name, type, value                                    "llama.block_count": 30, "tokenizer.ggml.tokens": [...], ...
    tensors:  name, dimensions (fastest first), type, offset
    padding to a multiple of general.alignment, then the tensors' bytes

`File` maps the file into memory and checks everything that it says about itself before anybody uses it; a tensor is read when it is asked
for.  Source: GGML's docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..storage import PathLike, WrongFile, atomic_write, looks_like, open_regular
from .blocks import NAMES, TYPES, dequantise

MAGIC, VERSIONS, ALIGNMENT = b"GGUF", (2, 3), 32
NUMBERS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}
BOOL, STRING, ARRAY = 7, 8, 9
MAX_DIMENSIONS = 4
MAX_NAME = 65_535  # bytes, of a setting's or a tensor's name


class Entry(NamedTuple):
    """A tensor in the file: rows of blocks."""

    kind: str  # a name of `blocks.TYPES`
    shape: tuple[int, ...]  # as NumPy has it: the dimension whose numbers lie side by side comes last
    begin: int  # the place of its first byte in the file

    @property
    def size(self) -> int:
        """Bytes."""
        t = TYPES[self.kind]
        return math.prod(self.shape) // t.numbers * t.size


class File:
    """`settings` (name -> value) and `tensors` (name -> Entry) of a GGUF file; `raw` and `array` read a tensor.

    Raises WrongFile, in one line that names the file, for whatever isn't as the format says, and FileNotFoundError.
    """

    def __init__(self, path: PathLike):
        self.path = Path(path)
        try:
            with open_regular(self.path) as file:
                start = file.read(32)
                if start[:4] != MAGIC or len(start) < 24:
                    raise WrongFile(f"{self.path}: is not a GGUF file: it is {looks_like(start) if start[:4] != MAGIC else 'truncated'}")
                self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except IsADirectoryError as error:
            raise IsADirectoryError(f"{self.path}: is a folder; expects a .gguf file") from error
        try:
            self.settings, self.tensors = _read(_Reader(self.path, self.memory))
        except (ValueError, struct.error, OverflowError) as error:
            self.memory.close()
            if isinstance(error, WrongFile):
                raise
            raise WrongFile(f"{self.path}: has a damaged header ({type(error).__name__}: {str(error)[:80]})") from error

    def entry(self, name: str) -> Entry:
        if name not in self.tensors:
            raise WrongFile(f"{self.path}: has no tensor {name!r}")
        return self.tensors[name]

    def raw(self, name: str) -> np.ndarray:
        """The bytes of a tensor's blocks, (*rows, bytes of a row) uint8: a read-only view of the file."""
        e = self.entry(name)
        flat = np.frombuffer(self.memory, np.uint8, e.size, e.begin)
        return flat.reshape(*e.shape[:-1], -1) if e.shape and e.size else flat

    def array(self, name: str) -> np.ndarray:
        """A tensor in float32, as its type defines it."""
        e = self.entry(name)
        return dequantise(self.raw(name), e.kind).reshape(e.shape)

    def release(self) -> None:
        """Let the system take back the memory in which it holds the file for this process; what is read again comes from its cache."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED)


class _Reader:
    """Takes what comes next in the file; what would lie beyond its end is a WrongFile."""

    def __init__(self, path: Path, memory: mmap.mmap):
        self.path, self.memory, self.place, self.size = path, memory, 0, len(memory)

    def wrong(self, what: str) -> WrongFile:
        return WrongFile(f"{self.path}: {what[:160]}")

    def bytes(self, count: int) -> bytes:
        if count > self.size - self.place:
            raise self.wrong(f"is truncated: byte {self.place:,} is followed by {count:,} more, but the file has {self.size:,}")
        begin, self.place = self.place, self.place + count
        return self.memory[begin : self.place]

    def number(self, form: str) -> Any:
        return struct.unpack("<" + form, self.bytes(struct.calcsize("<" + form)))[0]

    def text(self, most: int | None = None) -> str:
        count = self.number("Q")
        if most is not None and count > most:
            raise self.wrong(f"has a name of {count:,} bytes; at most {most:,} are possible")
        return self.bytes(count).decode("utf-8", "replace" if most is None else "strict")

    def value(self, kind: int) -> Any:
        if kind in NUMBERS:
            return np.frombuffer(self.bytes(np.dtype(NUMBERS[kind]).itemsize), NUMBERS[kind])[0].item()
        if kind == BOOL:
            return self.bytes(1) != b"\0"
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            raise self.wrong(f"has a setting of type {kind}; types go from 0 to 12")
        of, count = self.number("I"), self.number("Q")
        if of in NUMBERS:
            dtype = np.dtype(NUMBERS[of])
            return np.frombuffer(self.bytes(count * dtype.itemsize), dtype)
        if of == BOOL:
            return np.frombuffer(self.bytes(count), np.uint8) != 0
        if of != STRING:
            raise self.wrong(f"has an array of type {of}; arrays hold numbers, bools or strings here")
        if 8 * count > self.size - self.place:
            raise self.wrong(f"has an array of {count:,} strings, more than fit into its {self.size:,} bytes")
        return self.texts(count)

    def texts(self, count: int) -> list[str]:
        """So many strings; a vocabulary has 100,000, so without a call for each."""
        memory, place, size, texts = self.memory, self.place, self.size, []
        length, last = struct.Struct("<Q").unpack_from, self.size - 8
        for _ in range(count):
            begin = place + 8
            end = begin + length(memory, place)[0] if place <= last else begin
            if end > size:
                raise self.wrong(f"is truncated: a string would end at byte {end:,} of {size:,}")
            texts.append(memory[begin:end].decode("utf-8", "replace"))
            place = end
        self.place = place
        return texts


def _read(r: _Reader) -> tuple[dict[str, Any], dict[str, Entry]]:
    r.bytes(4)
    version = r.number("I")
    if version not in VERSIONS:
        other = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = "is big-endian" if other in VERSIONS else f"has version {version}"
        raise r.wrong(f"{what}; can read little-endian GGUF of version {' and '.join(map(str, VERSIONS))}")
    tensors, settings = r.number("Q"), r.number("Q")
    if 24 * tensors > r.size or 13 * settings > r.size:  # the least that one of each takes
        raise r.wrong(f"says that it has {tensors:,} tensors and {settings:,} settings, more than fit into its {r.size:,} bytes")
    values: dict[str, Any] = {}
    for _ in range(settings):
        name = r.text(MAX_NAME)
        if name in values:
            raise r.wrong(f"has the setting {name!r} twice")
        values[name] = r.value(r.number("I"))
    entries = [_entry(r) for _ in range(tensors)]
    alignment = values.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 8 or alignment % 8:
        raise r.wrong(f"general.alignment is {alignment!r}; it is a multiple of 8")
    data = -(-r.place // alignment) * alignment
    checked: dict[str, Entry] = {}
    for name, entry in entries:
        e = entry._replace(begin=data + entry.begin)
        if name in checked:
            raise r.wrong(f"has the tensor {name!r} twice")
        if entry.begin % alignment or e.begin + e.size > r.size:
            raise r.wrong(f"tensor {name!r} would lie at bytes {e.begin:,} to {e.begin + e.size:,} of {r.size:,}, in steps of {alignment}")
        checked[name] = e
    _check_apart(r, checked)
    return values, checked


def _entry(r: _Reader) -> tuple[str, Entry]:
    name = r.text(MAX_NAME)
    dimensions = r.number("I")
    if dimensions > MAX_DIMENSIONS:
        raise r.wrong(f"tensor {name!r} has {dimensions} dimensions; at most {MAX_DIMENSIONS} are possible")
    shape = tuple(r.number("Q") for _ in range(dimensions))[::-1]
    kind = r.number("I")
    if kind not in NAMES:
        raise r.wrong(f"tensor {name!r} has type {kind}; can read {', '.join(TYPES)}")
    if math.prod(shape) >= 2**50 or (shape[-1] if shape else 1) % TYPES[NAMES[kind]].numbers:
        raise r.wrong(f"tensor {name!r} has shape {shape}; rows of {NAMES[kind]} are whole blocks of {TYPES[NAMES[kind]].numbers}")
    return name, Entry(NAMES[kind], shape, r.number("Q"))


def _check_apart(r: _Reader, tensors: Mapping[str, Entry]) -> None:
    """No two tensors may share bytes: a small file could claim any amount of weights otherwise."""
    end, before = 0, ""
    for name, e in sorted(tensors.items(), key=lambda item: item[1].begin):
        if e.begin < end and e.size:
            raise r.wrong(f"tensors {before!r} and {name!r} overlap")
        end, before = max(end, e.begin + e.size), name


# --- writing

Tensors = Mapping[str, tuple[str, np.ndarray, tuple[int, ...]]]  # name -> type, bytes of its blocks, shape


def write(path: PathLike, settings: Mapping[str, Any], tensors: Tensors) -> None:
    """Write a GGUF file of version 3.

    settings: str, bool, int (as unsigned 32 bits, or signed where below 0), float (32 bits), arrays of numbers, lists of str or int.
    """
    head = [MAGIC, struct.pack("<IQQ", VERSIONS[-1], len(tensors), len(settings))]
    for name, value in settings.items():
        head += [_text(name), *_value(name, value)]
    offset = 0
    for name, (kind, raw, shape) in tensors.items():
        expected = math.prod(shape) // TYPES[kind].numbers * TYPES[kind].size
        if raw.nbytes != expected:
            raise ValueError(f"tensor {name!r}: has {raw.nbytes} bytes; {kind} of shape {shape} is {expected}")
        head += [_text(name), struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], TYPES[kind].code, offset)]
        offset += _padded(raw.nbytes)
    length = sum(map(len, head))

    def content() -> Iterator[bytes | memoryview]:
        yield from head
        yield bytes(_padded(length) - length)
        for _, raw, _ in tensors.values():
            yield np.ascontiguousarray(raw).view(np.uint8).reshape(-1).data
            yield bytes(_padded(raw.nbytes) - raw.nbytes)

    atomic_write(path, content())


def _padded(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def _text(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _value(name: str, value: Any) -> list[bytes]:
    if isinstance(value, bool):
        return [struct.pack("<I?", BOOL, value)]
    if isinstance(value, int):
        return [struct.pack("<Ii", 5, value) if value < 0 else struct.pack("<II", 4, value)]
    if isinstance(value, float):
        return [struct.pack("<If", 6, value)]
    if isinstance(value, str):
        return [struct.pack("<I", STRING), _text(value)]
    if isinstance(value, Sequence) and all(isinstance(v, str) for v in value):
        return [struct.pack("<IIQ", ARRAY, STRING, len(value)), *map(_text, value)]
    array = np.asarray(value, np.int32 if isinstance(value, Sequence) else None)
    codes = [code for code, dtype in NUMBERS.items() if np.dtype(dtype) == array.dtype]
    if array.ndim != 1 or not codes:
        raise ValueError(f"setting {name!r} is {value!r:.60}; it may be a str, a number, a bool, or a list of them")
    return [struct.pack("<IIQ", ARRAY, codes[0], len(array)), array.tobytes()]
