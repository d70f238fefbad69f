"""Compiled kernels on disk: compile time is the user's time, so each kernel is compiled once for each machine.

A kernel is found by the digest of all its source, so that what lies on disk is never older than the source.  What lies there is an object
file, which `linking` makes a part of this process without Numba; before it stand its own digest, since a file may have been cut short, and
the name of its function.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import pathlib
import sys
import tempfile
from typing import NamedTuple

from .messages import warn


class Object(NamedTuple):
    """What a kernel has been compiled to."""

    function: str  # under which name its machine code is found
    code: bytes  # an object file


def read(name: str, digest: str, options: str) -> Object | None:
    """What has been kept of this kernel, or None.  options: a text that, besides source and machine, decides what is compiled from it."""
    try:
        checksum, function, code = _file(name, digest, options).read_bytes().split(b"\n", 2)
        found = Object(function.decode(), code)
    except (OSError, ValueError):  # it isn't there, or was cut short
        found = None
    if found is None or checksum.decode(errors="replace") != _checksum(found):
        _announce_once()
        return None
    return found


def write(name: str, digest: str, options: str, compiled: Object) -> None:
    """Keep it for the next start."""
    file = _file(name, digest, options)
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as unfinished:
            try:
                unfinished.write(b"\n".join([_checksum(compiled).encode(), compiled.function.encode(), compiled.code]))
                unfinished.close()
                os.replace(unfinished.name, file)
            except OSError:
                unfinished.close()
                os.unlink(unfinished.name)
                raise
    except OSError as error:
        if file.exists():  # another process has written it, and Windows doesn't replace what somebody reads
            return
        _warn_once(f"cannot keep compiled kernels in {file.parent} ({error.strerror}); the next start compiles them again")


def is_lasting(options: str) -> bool:
    """Whether what is kept here is there at the next start."""
    return _folder(options) not in _for_this_run


_for_this_run: set[pathlib.Path] = set()  # folders


def choice(name: str, options: str) -> str | None:
    """What this machine has settled on between two ways to compute the same, or None."""
    try:
        return (_folder(options) / f"{name}.choice").read_text() or None
    except (OSError, ValueError):
        return None


def keep_choice(name: str, options: str, chosen: str) -> str | None:
    """Settle it for all processes of this machine.  Returns what is settled: another process may have been first; None if nothing can be kept."""
    file = _folder(options) / f"{name}.choice"
    try:
        with tempfile.NamedTemporaryFile("w", dir=file.parent) as whole:
            whole.write(chosen)
            whole.flush()
            os.link(whole.name, file)  # which fails where there is one, and never shows half of it
    except OSError:
        pass
    return choice(name, options)


def _checksum(compiled: Object) -> str:
    return hashlib.sha256(compiled.function.encode() + compiled.code).hexdigest()


def _file(name: str, digest: str, options: str) -> pathlib.Path:
    return _folder(options) / f"{name}-{digest[:32]}.kernel"


@functools.cache
def _folder(options: str) -> pathlib.Path:
    """Where compiled kernels live: one folder for each combination of versions and processor, under the user's cache."""
    from .linking import processor

    versions = " ".join([sys.version, *map(importlib.metadata.version, ("numba", "llvmlite")), *processor(), options])
    chosen = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    root: pathlib.Path | str = "the home folder"
    try:
        root = pathlib.Path(chosen) if chosen else pathlib.Path.home() / ".cache"
        folder = root / "numpy-zoo" / hashlib.sha256(versions.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody says where the home folder is
        folder = pathlib.Path(tempfile.mkdtemp(prefix="numpy-zoo-"))
        _for_this_run.add(folder)
        warn(f"cannot keep compiled kernels in {root} ({getattr(error, 'strerror', None) or error}); they go to {folder} for this run")
    return folder


@functools.cache
def _announce_once() -> None:
    warn("compiling kernels for this machine, once ...")


@functools.cache
def _warn_once(message: str) -> None:
    warn(message)
