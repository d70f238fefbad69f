"""Atomic writes: after a crash or on a full disk the earlier file is still whole.

The content goes to a temporary file in the same folder, which is flushed to the disk (fsync) and then renamed over the target. POSIX
guarantees that a rename is seen either not at all or completely.
"""

from __future__ import annotations

import contextlib
import itertools
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
from typing import Any

from .files import PathLike, in_one_line

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
                raise IsADirectoryError(f"{in_one_line(path)}: is a folder; expects the name of a file")
            if not target.parent.is_dir():
                raise FileNotFoundError(f"{in_one_line(path)}: the folder {in_one_line(target.parent)} does not exist")
            remove_abandoned(target.parent, target.name)
            temporary = target.with_name(f".{_shortened(target.name)}.{_host()}-{os.getpid()}-{threading.get_ident()}-{next(_serial)}.tmp")
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
        raise type(error)(f"{in_one_line(path)}: could not be written ({error.strerror or error}){addition}") from error


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
    for path in folder.glob(f".{_escape_glob(_shortened(name)) if name else '*'}.*.tmp"):
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


def _shortened(name: str) -> str:
    """What fits into a temporary file's name beside the rest: file systems count bytes, most of them up to 255."""
    return os.fsencode(name)[:180].decode(errors="ignore")


def _escape_glob(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
