"""What a run leaves in its folder: one run at a time, a checkpoint that says what it belongs to, and the log."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import storage

fcntl: Any
msvcrt: Any
try:
    import fcntl
except ImportError:  # Windows, where msvcrt locks bytes of a file
    fcntl = None
    try:
        import msvcrt
    except ImportError:
        msvcrt = None

CHECKPOINT, LOCK = "checkpoint.safetensors", "run.lock"
LOCKED_BYTE = 1 << 30  # of run.lock, on Windows


class RunFolder:
    """The folder of a run, which is created when the first file is written to it."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoint = path / CHECKPOINT
        self._descriptor: int | None = None  # of the lock, while this run holds it
        self._created = False

    def enter(self, resume: bool, *, look_for_others: bool = True) -> dict[str, Any] | None:
        """The state to resume from, or None for a new run.

        Raises FileExistsError rather than let a run or a model be overwritten, or where another process is training here.
        """
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path}: is a file; expects a folder for the run")
        if look_for_others and (self.path / LOCK).exists():
            with self.lock():
                pass
        if self.checkpoint.exists():
            if not resume:
                raise FileExistsError(f"{self.path} holds a run already; resume it (resume=True, --resume) or choose another folder")
            return storage.load_checkpoint(self.checkpoint)
        if (self.path / storage.WEIGHTS).exists():
            raise FileExistsError(f"{self.path} holds a model but no checkpoint to go on from; choose another folder")
        return None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Inside, no other process can train in this folder; it may be entered again by whoever holds it.

        The lock is the system's, on a file that says which process it is: it goes with its process, however that ends.
        """
        if self._descriptor is not None:
            yield
            return
        self._create()
        self._descriptor = self._acquire()
        try:
            storage.remove_abandoned(self.path)
            yield
        finally:
            with contextlib.suppress(OSError):
                (self.path / LOCK).unlink()
            os.close(self._descriptor)
            self._descriptor = None
            if fcntl is None:  # Windows removes no file that is open, not even another process's
                with contextlib.suppress(OSError):
                    (self.path / LOCK).unlink()
            if self._created:  # and nothing was written
                with contextlib.suppress(OSError):
                    self.path.rmdir()

    def _acquire(self) -> int:
        path = self.path / LOCK
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _lock(descriptor)
                if fcntl is None or (path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino):  # else its holder has just removed it
                    os.truncate(descriptor, 0)
                    os.write(descriptor, f"{os.getpid()}\n".encode())
                    return descriptor
            except BlockingIOError:
                holder = os.read(descriptor, 20).decode(errors="replace").strip()
                os.close(descriptor)
                raise FileExistsError(f"{self.path}: process {holder or 'of another machine'} is training here; wait for it, "
                                      "or choose another folder") from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _create(self) -> None:
        if not self.path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self._created = True

    def write(self, state: dict[str, Any], rows: list[dict[str, float]], evaluations: list[dict[str, float]]) -> None:
        """checkpoint.safetensors, log.csv and log.json."""
        self._create()
        storage.save_checkpoint(self.checkpoint, state)
        storage.atomic_write(self.path / "log.csv", _csv(rows))
        storage.atomic_write(self.path / "log.json", json.dumps({"steps": rows, "evaluations": evaluations}, indent=1).encode())


def _lock(descriptor: int) -> None:
    """Take the system's lock on a file.  BlockingIOError where another process has it."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    elif msvcrt is not None:
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)  # beyond what others read
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from None
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)


def _csv(rows: list[dict[str, float]]) -> bytes:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def not_finite(state: Any, name: str = "") -> str | None:
    """The dotted name of the first array in a nested state that holds a NaN or an infinity."""
    if isinstance(state, Mapping):
        return next((found for key, value in state.items() if (found := not_finite(value, f"{name}.{key}" if name else str(key)))), None)
    return name if isinstance(state, np.ndarray) and state.dtype.kind == "f" and not np.isfinite(state).all() else None


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"training.lr": 0.01, ...} of nested settings, in the types that JSON has."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """{dotted name: [before, now]} of the settings that both have and that aren't equal."""
    old, new = flattened(before), flattened(now)
    return {name: [old[name], new[name]] for name in old if name in new and old[name] != new[name]}
