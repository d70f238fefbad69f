"""Kernels that a model is known to need are compiled by other processes too, while this one compiles the first of them.

Numba compiles on one core.  Nothing happens here until a kernel isn't on disk.  Then the others compile what the models that were made are
known to need (`first_use.json`, by `python benchmarks/start.py --record`), what takes longest first, and this process finds it on the disk.
If it needs a kernel that another one is compiling, it compiles something else until that is there.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

from . import threads

MOST = 3  # processes beside this one: each imports Numba, which takes as long as a kernel or two
LOOK = 0.005  # seconds between two looks whether another process is done
LONGEST_END = 5  # seconds that the end of a process which was killed may take

_expected: dict[tuple[str, str], None] = {}  # (kind of model, use), in the order in which they were told
_to_do: list[str] = []  # "module:function" of kernels, the next one last
_taken: set[str] = set()  # those that somebody has, or has had
_at_work: dict[int, str] = {}  # of each other process, by its number: which kernel it is compiling
_others: dict[subprocess.Popen, threading.Thread] = {}  # and who names kernels to each


def expect(kind: str | None = None, use: str = "sample") -> None:
    """A model of this kind (by default the latest) is about to be used: "sample" or "train"."""
    if kind is None:
        kind = next((k for k, _ in reversed(_expected)), "")
    _expected.pop((kind, use), None)
    _expected[kind, use] = None


def is_made_elsewhere(missing: str) -> bool:
    """Whether another process has just made this kernel, which isn't on disk; if one is at it, this takes until it is there.

    If none is, this process has to, while others compile what else is expected.
    """
    if missing in _at_work.values():
        while missing in _at_work.values():
            name = _next()
            if name is None:
                time.sleep(LOOK)
            else:
                with contextlib.suppress(Exception):  # whoever needs it is told
                    _kernel(name).load()
        return True
    _taken.add(missing)
    if threads.get_threads() > 1 and sys.executable:
        names = [name for use in _expected for name in _first_use().get("/".join(use), ()) if name not in _taken]
        _to_do[:] = reversed(dict.fromkeys(names))
        for _ in range(min(MOST, threads.get_threads() - 1, len(names)) - sum(other.poll() is None for other in _others)):
            _start()
    return False


def _next() -> str | None:
    """The kernel that whoever asks has to compile."""
    while True:
        try:
            name = _to_do.pop()
        except IndexError:
            return None
        if name not in _taken:
            _taken.add(name)
            return name


def _kernel(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


# --- the other processes


def _start() -> None:
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import _serve; _serve()"
    with contextlib.suppress(OSError):
        other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        employer = threading.Thread(target=_employ, args=(other,), daemon=True)
        _others[other] = employer
        employer.start()
    _end_with_this_process()


def _employ(other: subprocess.Popen) -> None:
    """Name kernels to another process until there are none left; it answers each with a line when that is done."""
    assert other.stdin is not None and other.stdout is not None
    with contextlib.suppress(OSError), other:  # it has ended
        while other.stdout.readline():
            _at_work.pop(other.pid, None)
            name = _next()
            if name is None:
                break
            _at_work[other.pid] = name
            other.stdin.write(f"{name}\n")
            other.stdin.flush()
    _at_work.pop(other.pid, None)


def _serve() -> None:
    """What another process does, as long as it is told what."""
    print(flush=True)
    for name in sys.stdin:
        with contextlib.suppress(Exception):  # as above
            _kernel(name.strip()).keep()
        print(flush=True)


@functools.cache
def _end_with_this_process() -> None:
    @atexit.register
    def end() -> None:
        for other, employer in _others.items():
            other.kill()
            employer.join(timeout=LONGEST_END)


@functools.cache
def _first_use() -> dict[str, list[str]]:
    """"kind/use" -> the kernels of it, those first that take long to compile."""
    return json.loads((pathlib.Path(__file__).parent / "first_use.json").read_text())
