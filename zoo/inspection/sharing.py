"""What a visitor of `zoo play` set, as a small file: `zoo play FILE` shows it again, `zoo inspect FILE` writes its page, bit for bit.

    {"zoo": "play", "version": 1, "model": "vae", "runs": [{"seed": 3, "patch": "layers.0.tanh:zero", "z": [...]}]}

A run is the request that the page sends, without the model's name; of two, the second stands beside the first.  Numbers of z are float32
written in full, so reading them gives the same ones.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..loading.cards import load
from ..storage import WrongFile, read_json
from .catalogue import facts_of
from .changes import read_change
from .controls import read_request
from .page import write_page
from .runs import make_run

VERSION = 1
MAX_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Shared:
    model: str  # a shipped model's name, or a folder
    runs: list[dict[str, Any]]  # one, or two to compare: settings as the page asks for them


def is_shared(name: str | Path) -> bool:
    """Whether this names such a file rather than a model."""
    return Path(name).suffix == ".json" and not Path(name).is_dir()


def read_shared(path: str | Path) -> Shared:
    """Raises WrongFile for what isn't such a file; the settings themselves are read when they are used."""
    path = Path(path)
    if path.exists() and path.stat().st_size > MAX_BYTES:
        raise WrongFile(f"{path}: has {path.stat().st_size:,} bytes; a file of settings has at most {MAX_BYTES:,}")
    content = read_json(path)
    if content.get("zoo") != "play":
        raise WrongFile(f"{path}: isn't a file that a page of zoo play saved")
    if content.get("version") != VERSION:
        raise WrongFile(f"{path}: has version {str(content.get('version'))[:20]}; this zoo reads version {VERSION}")
    model, runs = content.get("model"), content.get("runs")
    if not isinstance(model, str) or not isinstance(runs, list) or not 1 <= len(runs) <= 2 or not all(isinstance(run, dict) for run in runs):
        raise WrongFile(f"{path}: expects a model's name and one or two runs")
    return Shared(model, runs)


def replay(path: str | Path, out: str | Path = "page.html") -> int:
    """Write the page of what was saved; returns its size in bytes."""
    shared = read_shared(path)
    model = load(shared.model)
    runs = []
    for request in shared.runs:
        settings = read_request(model, request)
        change = settings.pop("patch", "")
        runs.append(make_run(model, changes=read_change(change) if change else None, **settings))
    return write_page(out, {"name": shared.model, "facts": facts_of(model), "runs": runs}, f"zoo: {shared.model}")
