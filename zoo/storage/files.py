"""Reading files that may be anything: an error is one line that names the file, what it is, and what was expected."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

PathLike = str | os.PathLike[str]

MAX_JSON, MAX_VALUES = 64_000_000, 5_000_000  # bytes, and values: Python takes some 70 bytes even for "[]"

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
        name, colon, rest = in_one_line(message).partition(": ")
        super().__init__(name + colon + (rest if len(rest) <= 200 else rest[:197] + "..."))


def in_one_line(text: object) -> str:
    """A path, or a message with one, without what a file's name may hold and no line may: newlines, escapes, halves of characters."""
    return "".join(c if c.isprintable() else " " for c in str(text))


class _Named(io.BufferedReader):
    """A file whose errors of reading, such as a bad sector's, name it."""

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return super().read(size)
        except OSError as error:
            raise self._named(error) from error

    def readinto(self, buffer: Any, /) -> int:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise self._named(error) from error

    def _named(self, error: OSError) -> OSError:
        return OSError(f"{in_one_line(self.raw.name)}: cannot be read ({error.strerror or error})")  # type: ignore[attr-defined]


def open_regular(path: PathLike) -> BinaryIO:
    """The file, open for reading. Raises WrongFile for a device, a pipe or a socket, which may have no end; else as `open`, in one line.

    A file that says it is empty is read as such: those of Linux's /proc say so, and reading some of them never ends."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise WrongFile(f"{path}: is a device, a pipe or a socket; expects a regular file")
        return _Named(io.FileIO(os.devnull if stat.S_ISREG(status.st_mode) and not status.st_size else path))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{in_one_line(path)}: does not exist") from error
    except IsADirectoryError as error:
        raise IsADirectoryError(f"{in_one_line(path)}: is a folder; expects a file") from error
    except WrongFile:
        raise
    except ValueError as error:
        raise WrongFile(f"{str(path)!r}: is not a file name ({error})") from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise WrongFile(f"{shorten(str(path))}: is not a file name (it is too long)") from error


def is_folder(path: PathLike) -> bool:
    """Whether there is a folder of this name; there is none of a name that no folder can have, one that is too long or holds a NUL."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def looks_like(start: bytes) -> str:
    """The kind of a file, for an error message, judged by its first bytes."""
    if not start:
        return "empty"
    return next((name for magic, name in FILE_STARTS if start.startswith(magic)), f"something else (it starts with {start[:8]!r})")


def shorten(value: Any, most: int = 60) -> str:
    """repr(value), cut where it is long."""
    text = repr(value[:most] if isinstance(value, (str, list, tuple)) else value)
    return text if len(text) <= most else text[:most] + "..."


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
