"""Where a generated file comes from: which model, of which weights, seed and version made it, by which command; and making it again.

`zoo sample` writes this into every file (`storage.origin` says where), a text's beside it, in x.txt.origin.json. `zoo origin FILE` reads it,
gives the command again, and compares the two files byte by byte.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..loading.cards import folder_of
from ..storage import VERSION, PathLike, WrongFile, atomic_write, open_regular
from ..storage.origin import mark, text_of

BESIDE = ".origin.json"  # behind the name of a file that has no place for it
MOST_BYTES = 1 << 28  # of a file that is read
WEIGHTS = "model.safetensors"


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a file says of itself; printed, it is a few lines."""

    version: str  # of zoo
    model: str  # its name, or its folder
    weights: str  # the first 16 digits of the SHA-256 of its weights
    seed: int
    command: tuple[str, ...]  # what `zoo` was given, but for --out

    def __str__(self) -> str:
        return "\n".join([f"made by zoo {self.version}, model {self.model} (weights {self.weights}), seed {self.seed}",
                          shlex.join(["zoo", *self.command])])

    def to_json(self) -> str:
        return json.dumps({"made by": f"zoo {self.version}", "model": self.model, "weights": self.weights, "seed": self.seed,
                           "command": list(self.command)})


def deliver(out: PathLike, write: Callable[[Path], None], origin: Origin | None) -> None:
    """What `write(path)` writes, with its origin, as the file `out`: all of it, or nothing."""
    out = Path(out)
    if origin is None:
        write(out)
        return
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / f"content{out.suffix}"
        write(inner)
        content = inner.read_bytes()
    if out.suffix == ".txt":
        atomic_write(out, content)
        atomic_write(out.with_name(out.name + BESIDE), origin.to_json().encode())
    else:
        atomic_write(out, mark(content, out.suffix, origin.to_json()))


def origin_of(command: list[str], model: str, seed: int) -> Origin:
    """Of a file that this command writes; --out and --ranks are left out, because the content doesn't depend on them."""
    rest = list(command)
    for i, argument in reversed(list(enumerate(rest))):
        if argument in ("--out", "--ranks"):
            del rest[i : i + 2]
        elif argument.startswith(("--out=", "--ranks=")):
            del rest[i]
    return Origin(VERSION, model, digest_of(model), seed, tuple(rest))


def digest_of(model: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a model's weights; "" for one that has no such file."""
    path = folder_of(model) / WEIGHTS
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def read_origin(path: PathLike) -> Origin:
    """What a file says of where it comes from.  WrongFile for one that says nothing, or that can't be read."""
    path = Path(path)
    content = _content(path)
    text = _content(beside).decode(errors="replace") if (beside := path.with_name(path.name + BESIDE)).exists() else text_of(content, path.suffix)
    if text is None:
        raise WrongFile(f"{path}: says nothing of where it comes from; files that `zoo sample` writes do, unless --no-origin was given")
    try:
        entry = json.loads(text)
        maker, _, version = entry["made by"].partition(" ")
        command, model, weights, seed = entry["command"], entry["model"], entry["weights"], entry["seed"]
        if maker != "zoo" or not isinstance(command, list) or not all(isinstance(word, str) for word in [*command, model, weights, version]):
            raise ValueError
        if not command or isinstance(seed, bool) or not isinstance(seed, int) or command[0] != "sample":
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WrongFile(f"{path}: what it says of its origin isn't zoo's") from None
    return Origin(version, model, weights, seed, tuple(command))


def _content(path: Path) -> bytes:
    with open_regular(path) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise WrongFile(f"{path}: is larger than {MOST_BYTES >> 20} MB; expects a file that `zoo sample` wrote")
    return content


def make_again(path: PathLike, origin: Origin, run: Callable[[list[str]], Any]) -> str:
    """Gives the command again, by run(arguments), and says in a line how what it writes compares with the file.

    The line begins with "equal" if not a byte differs.  ValueError where the command wrote nothing.
    """
    path = Path(path)
    now = digest_of(origin.model)
    if now != origin.weights:
        return f"not made again: {origin.model} has other weights here ({now or 'none'}, then {origin.weights or 'none'})"
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / f"again{path.suffix}"
        run([*origin.command, "--out", str(again)])
        if not again.exists():
            raise ValueError(f"{path}: its command wrote no file: {shlex.join(origin.command)}")
        theirs, ours = _content(path), again.read_bytes()
    if theirs == ours:
        return f"equal: made again, all {len(ours):,} bytes are the same"
    versions = "" if origin.version == VERSION else f" (made by version {origin.version}, this is {VERSION})"
    same = sum(a == b for a, b in zip(theirs, ours))
    return f"different: {same:,} of {len(theirs):,} bytes are the same{versions}; another processor or number of threads rounds otherwise"
