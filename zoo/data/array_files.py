"""Arrays in IDX and .npz files.  Their headers are checked first: what they claim must fit the file, so a small one can't take all memory.

Compressed data may be a thousand times its size in the file.  Up to UNPACKED_BYTES plus RATIO times the file's own size is read; real
pictures shrink to a quarter or a tenth, very empty ones to a hundredth.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..storage import PathLike, WrongFile, looks_like, open_regular

UNPACKED_BYTES, RATIO = 64_000_000, 200
PADDING = 1 << 16  # bytes that gzip data may have besides its content: a header, a name, zeros at its end
IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def check_unpacked(path: PathLike, unpacked: int, packed: int) -> None:
    """Raise WrongFile where compressed data would grow beyond what is read."""
    if unpacked > UNPACKED_BYTES + RATIO * packed:
        raise WrongFile(f"{path}: would grow from {packed:,} to {unpacked:,} bytes; more than {RATIO} times its size isn't read")


@contextlib.contextmanager
def _in_one_line(path: PathLike, fault: str) -> Iterator[None]:
    """Whatever goes wrong inside is said in one line that names the file."""
    try:
        yield
    except (WrongFile, FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except MemoryError as error:
        raise WrongFile(f"{path}: does not fit into memory") from error
    except Exception as error:
        raise WrongFile(f"{path}: {fault} ({_reason(error)})") from error


def read_idx(path: PathLike) -> np.ndarray:
    """The array in an IDX file, plain or gzip (format: yann.lecun.com/exdb/mnist): two zeros, type, dimensions, sizes, numbers."""
    with _in_one_line(path, "is damaged or truncated gzip data"):
        with open_regular(path) as raw:
            size = os.fstat(raw.fileno()).st_size
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            start = file.read(4)
            if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in IDX_TYPES or start[3] == 0:
                raise WrongFile(f"{path}: is {looks_like(start)}; expects an IDX file, which starts with two zero bytes, a type and a number of axes")
            axes, dtype = start[3], np.dtype(IDX_TYPES[start[2]])
            if axes > 32:
                raise WrongFile(f"{path}: says that it has {axes} axes; expects an IDX file of at most 32")
            sizes = file.read(4 * axes)
            shape = np.frombuffer(sizes, ">u4", count=len(sizes) // 4).tolist()
            wanted = math.prod(shape) * dtype.itemsize
            if packed:
                check_unpacked(path, wanted, size)
                if size > wanted + wanted // 8 + PADDING:  # no content packs so badly; gzip's reader would take such a tail byte by byte
                    raise WrongFile(f"{path}: has {size:,} bytes, gzip data of a file of {wanted:,}; expects nothing after its end")
            complete = len(shape) == axes
            content = file.read(min(wanted, size) if not packed else wanted) if complete else b""
            if len(content) != wanted or not complete or file.read(1):
                have = 4 + len(sizes) + len(content)
                state = "is truncated" if not complete or len(content) < wanted else "has bytes after its end"
                raise WrongFile(f"{path}: {state}: it has {have if 'trunc' in state else 'more than ' + format(have, ',')} bytes, an IDX file of "
                                f"shape {tuple(shape)} has {4 + 4 * axes + wanted:,}")
        return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def read_npz(path: PathLike, wanted: tuple[str, ...]) -> tuple[dict[str, np.ndarray], list[str]]:
    """(the arrays of these names that an .npz file holds, all its names).  Nothing that could run code is read."""
    with _in_one_line(path, "is no readable .npz file"):
        with open_regular(path) as raw, zipfile.ZipFile(raw) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            return {name: _read_npy(path, archive, members[name]) for name in wanted if name in members}, list(members)


def _read_npy(path: PathLike, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise WrongFile(f"{path}: is no readable .npz file ({name} holds Python objects, which can run code)")
        size = math.prod(shape) * dtype.itemsize
        if len(shape) > 32 or min(shape, default=0) < 0 or size > info.file_size:
            raise WrongFile(f"{path}: is no readable .npz file ({name} of shape {shape} takes {size:,} bytes, the file holds {info.file_size:,})")
        check_unpacked(path, info.file_size, info.compress_size)
        content = file.read(size)
        if len(content) != size or file.read(1):
            raise WrongFile(f"{path}: is no readable .npz file ({name} has {'fewer' if len(content) < size else 'more'} than {size:,} bytes)")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def split_names(folder: Path) -> dict[str, dict[tuple[str, str], Path]]:
    """{data set: {(part, what): file}} of the IDX files in a folder, as MNIST and EMNIST name them; a plain file wins over its .gz."""
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    for path in sorted(folder.iterdir(), reverse=True):
        if parts := re.fullmatch(r"(?:(.*)-)?(train|t10k|test)-(images|labels)[-.]idx\d-ubyte(?:\.gz)?", path.name):
            sets.setdefault(parts[1] or "", {})["train" if parts[2] == "train" else "test", parts[3]] = path
    return sets
