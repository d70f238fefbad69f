"""Watching a training: `Watcher`, a callback of the trainer that writes what a page shows, and `read_run`, which reads any run's folder.

    trainer.on_step = Watcher(trainer, data)        # any callback (trainer, record) -> None will do; this one writes watch.json
    trainer.run()

The file is written anew every second or two.  Pictures, text and maps are of the averaged weights, and their random numbers have a
generator of their own: a run that is watched gives the same weights bit for bit.  They are taken so rarely that they cost a sixtieth of the time.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import no_grad
from ..autograd.tracing import trace
from ..explain.diagnosis import diagnose
from ..explain.latents import codes, plane
from ..storage import WrongFile, atomic_write, read_json
from ..training import Trainer, TrainingStep
from .page import pack, to_json

FILE = "watch.json"
VERSION = 1
EVERY_SECONDS = 2.0  # at least, between two snapshots; the curves are written twice as often
SHARE = 1 / 60  # of the training's time that snapshots may take; writing takes a quarter of that
MOST_SNAPSHOTS = 40  # of a run; when there are more, every second one is dropped
MOST_ROWS = 600  # of the log, on a page
MAX_BYTES = 64 * 2**20  # of a file that is read

Snapshot = list[dict[str, Any]]  # {"kind", "title", ...} as drawn by watched[kind] in page/watch.js


class Watcher:
    """Writes watch.json into the run's folder while it trains.  data: what the run trains on, as its recipe loads it."""

    def __init__(self, trainer: Trainer, data: Any = None, *, title: str = ""):
        if trainer.folder is None:
            raise ValueError("Watcher: this run has no folder; Trainer(..., folder=...) names one")
        self.path, self.data, self.title = trainer.folder / FILE, data, title
        self.snapshots: list[dict[str, Any]] = []
        self.rows = list(trainer.rows)
        self._row_every = 1
        self._write_due = self._snapshot_due = 0.0
        self._first_step, self._first_seconds = trainer.step, trainer.seconds
        if trainer.step and self.path.exists():
            self.snapshots = [s for s in _rows(_read(self.path), "snapshots", self.path) if s["step"] <= trainer.step]

    def __call__(self, trainer: Trainer, record: TrainingStep) -> None:
        began, last = time.perf_counter(), record.step == trainer.steps
        if record.step % self._row_every == 0 or last:
            self.rows.append({"step": record.step, **record.losses, "lr": record.lr, "grad_norm": record.grad_norm,
                              "seconds": round(record.seconds, 3)})
            if len(self.rows) > 2 * MOST_ROWS:
                self.rows, self._row_every = self.rows[1::2], 2 * self._row_every
        if began < self._write_due and not last:
            return
        if began >= self._snapshot_due or last:
            first = not self.snapshots
            self.snapshots.append({"step": record.step, "seconds": round(record.seconds, 2), "panels": self._snapshot(trainer)})
            if len(self.snapshots) > MOST_SNAPSHOTS:
                self.snapshots = self.snapshots[:1] + self.snapshots[2::2]
            took = 0.0 if first else time.perf_counter() - began  # the first one compiles kernels, once
            self._snapshot_due = time.perf_counter() + max(EVERY_SECONDS, took / SHARE)
        writing = time.perf_counter()
        self._write(trainer, record)
        now = time.perf_counter()
        self._write_due = now + max(EVERY_SECONDS / 2, 4 * (now - writing) / SHARE)

    def _snapshot(self, trainer: Trainer) -> Snapshot:
        model: Any = trainer.model
        with trainer.averaged():
            model.eval()
            try:
                with no_grad():
                    return list(SNAPSHOTS.get(getattr(model, "kind", ""), _nothing)(model, self.data, trainer))
            finally:
                model.train()

    def _write(self, trainer: Trainer, record: TrainingStep) -> None:
        seconds = record.seconds - self._first_seconds
        speed = (record.step - self._first_step) / seconds if seconds > 0 else None
        state = {"zoo": "watch", "version": VERSION, "title": self.title, "step": record.step, "steps": trainer.steps,
                 "seconds": round(record.seconds, 2), "speed": speed and round(speed, 3), "rows": thinned(self.rows),
                 "evaluations": thinned(trainer.evaluations), "snapshots": self.snapshots}
        atomic_write(self.path, to_json(state).encode())


def thinned(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """At most MOST_ROWS of them, the last one included."""
    stride = math.ceil(len(rows) / MOST_ROWS) or 1
    return rows[::-1][::stride][::-1]


def read_run(folder: str | Path) -> dict[str, Any]:
    """What a page shows of a run: from watch.json, and from log.json if the run was not watched or went on unwatched.

    Raises FileNotFoundError for a folder without either, WrongFile for what isn't a run's.
    """
    folder = Path(folder)
    watch, log = folder / FILE, folder / "log.json"
    if not watch.exists() and not log.exists():
        raise FileNotFoundError(f"{folder}: holds no run: neither {FILE} nor log.json (a run writes its first log at its first checkpoint)")
    run: dict[str, Any] = {"step": 0, "steps": None, "seconds": 0, "speed": None, "rows": [], "evaluations": [], "snapshots": []}
    if watch.exists():
        state = _read(watch)
        if state.get("zoo") != "watch" or state.get("version") != VERSION:
            raise WrongFile(f"{watch}: isn't a file of zoo watch, version {VERSION}")
        run |= {name: _rows(state, name, watch) if name in ("rows", "evaluations", "snapshots") else _number(state, name, watch)
                for name in run if name in state}
    if log.exists():
        rows, evaluations = (_rows(_read(log), name, log) for name in ("steps", "evaluations"))
        if rows and rows[-1]["step"] > run["step"]:
            run |= {"step": rows[-1]["step"], "seconds": rows[-1].get("seconds", 0), "rows": thinned(rows)}
        run["evaluations"] = thinned(evaluations) if len(evaluations) > len(run["evaluations"]) else run["evaluations"]
    run["name"] = folder.name
    return run


def newest_run(folder: str | Path = "runs") -> list[Path]:
    """The run in this folder that was written to last, or none."""
    runs = [(log.stat().st_mtime, log.parent) for name in (FILE, "log.json") for log in Path(folder).glob(f"*/{name}")]
    return [max(runs)[1]] if runs else []


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_BYTES:
        raise WrongFile(f"{path}: has {path.stat().st_size:,} bytes; a run's has at most {MAX_BYTES:,}")
    return read_json(path)


def _rows(content: dict[str, Any], name: str, path: Path) -> list[dict[str, float]]:
    rows = content.get(name, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("step"), int) for row in rows):
        raise WrongFile(f"{path}: {name} isn't a list of rows with a step each")
    return rows


def _number(content: dict[str, Any], name: str, path: Path) -> float | None:
    if not isinstance(content[name], (int, float, type(None))) or (content[name] is None and name == "step"):
        raise WrongFile(f"{path}: {name} is no number")
    return content[name]


# --- what a page shows of each kind of model, {kind: (model, data, trainer) -> panels}


def _nothing(model: Any, data: Any, trainer: Trainer) -> Iterator[dict[str, Any]]:
    yield from ()


def _pictures(title: str, pictures: np.ndarray, columns: int, labels: list[str] | None = None) -> dict[str, Any]:
    return {"kind": "pictures", "title": title, "pictures": pack(pictures, "unit8"), "columns": columns, "labels": labels or []}


def _test_pictures(model: Any, data: Any, n: int) -> tuple[np.ndarray, Any]:
    x = np.asarray(data.test if len(data.test) else data.train)[:n].reshape(-1, *model.config.image)
    labels = data.test_labels if len(data.test) else data.train_labels
    return x, None if labels is None else np.asarray(labels)[:n]


def _autoencoder(model: Any, data: Any, trainer: Trainer) -> Iterator[dict[str, Any]]:
    conditional = bool(getattr(model.config, "classes", 0))
    if data is not None:
        x, labels = _test_pictures(model, data, 200)
        given = (labels,) if conditional else ()
        again = model.reconstruct(x[:8], *(part[:8] for part in given))
        yield _pictures("Test pictures, and what comes back", np.concatenate([x[:8], np.asarray(again).reshape(x[:8].shape)]), 8)
        z = codes(model, x, labels)
        if z.ndim == 2 and z.shape[1] >= 2:
            yield {"kind": "points", "title": "Where test pictures lie: two principal components of their codes", "points": pack(plane(z).points),
                   "labels": [] if labels is None else labels.tolist()}
    if model.kind == "vae":
        yield _pictures("Samples", model.sample(16, seed=0), 8)


def _gan(model: Any, data: Any, trainer: Trainer) -> Iterator[dict[str, Any]]:
    if model.pictures:
        yield _pictures("Samples, always from the same z", model.sample(16, seed=0), 8)
        real = None if data is None or isinstance(data, str) else data.train[:400]
    else:
        samples = model.sample(400, seed=0)
        real = trainer.batches(0, np.random.default_rng(0))
        real = np.asarray(real[0] if isinstance(real, tuple) else real)[:400]
        panel: dict[str, Any] = {"kind": "points", "title": "Samples on what the discriminator believes", "points": pack(samples), "labels": []}
        if model.config.packing == 1 and samples.shape[1] == 2:
            reach = 1.25 * float(np.abs(real).max())
            line = np.linspace(-reach, reach, 33, dtype=np.float32)
            grid = np.stack(np.meshgrid(line, -line), -1).reshape(-1, 2)
            labels = model.cluster_of(grid) if model.config.clusters else model.labels_for(None, len(grid))
            logits = np.asarray(model.discriminator(model.to_network_range(grid), labels).data)[:, 0]
            panel |= {"reach": reach, "surface": pack(np.tanh(logits / 4).reshape(33, 33), "float16", scale="signed"), "real": pack(real[:200])}
        yield panel
    if real is not None and len(real) >= 100:
        history = trainer.rows if trainer.rows and {"real", "fake", "sample_norm"} <= set(trainer.rows[0]) else None
        yield {"kind": "words", "title": "Diagnosis", "sentences": diagnose(model, real, history=history, n=100) or ["Nothing is wrong."]}


def _diffusion(model: Any, data: Any, trainer: Trainer) -> Iterator[dict[str, Any]]:
    if len(model.sample_shape) == 1 and model.latents is None:
        yield {"kind": "points", "title": "Samples", "points": pack(model.sample(300, seed=0, evaluations=8)), "labels": []}
        return
    digits = {"digit": np.arange(3)} if model.config.classes >= 3 else {}
    steps = list(model.steps(3, seed=0, sampler="euler", evaluations=6, **digits))
    guesses = np.stack([model.to_pictures(step.x_0_predicted) for step in steps], 1)  # (3, steps, height, width)
    pictures = np.concatenate([guesses, model.to_pictures(steps[-1].x_previous)[:, None]], 1)
    columns = [f"t = {float(step.t):.2g}" for step in steps] + ["sample"]
    yield _pictures("Its guess of the picture (x_0) at several t, from noise to the sample", pictures.reshape(-1, *pictures.shape[2:]),
                    len(columns), columns)


def _text(model: Any, data: Any, trainer: Trainer) -> Iterator[dict[str, Any]]:
    if model.tokenizer is None or getattr(model.config, "inputs", "") == "keys":
        return
    text = model.generate("", 120, seed=0, temperature=0.8)
    yield {"kind": "text", "title": "It writes", "text": text}
    if model.kind == "transformer":
        ids = np.asarray(model.ids(text))[:32]
        with trace(model, at="blocks.*.attention.softmax") as seen:
            model(ids[None])
        layers = [seen[name].value[0].mean(0) for name in seen]
        yield {"kind": "heat", "title": "Where it looks: the last layer, the mean of its heads; a row looks at the columns",
               "array": pack(layers[-1], "float16", scale="heat")}


SNAPSHOTS: dict[str, Callable[[Any, Any, Trainer], Iterator[dict[str, Any]]]] = {
    "vae": _autoencoder, "autoencoder": _autoencoder, "vqvae": lambda model, data, trainer: _vqvae(model, data), "gan": _gan,
    "diffusion": _diffusion, "transformer": _text, "recurrent": _text}


def _vqvae(model: Any, data: Any) -> Iterator[dict[str, Any]]:
    if data is not None:
        x, _ = _test_pictures(model, data, 8)
        yield _pictures("Test pictures, and what comes back", np.concatenate([x, np.asarray(model.reconstruct(x)).reshape(x.shape)]), 8)


def page_of(folders: list[Path]) -> dict[str, Any]:
    return {"name": "watch", "watch": {"names": [str(folder) for folder in folders]}, "live": {}}


def state_of(folders: list[Path], seen: Any) -> dict[str, Any]:
    """The runs, without the snapshots that the page has already: seen is a list of the last step of each run's snapshots, or null."""
    if seen is not None and not (isinstance(seen, list) and len(seen) == len(folders) and all(isinstance(s, int) for s in seen)):
        raise ValueError(f"seen is {json.dumps(seen)[:40]}; it is a whole number for each of the {len(folders)} runs, or null")
    runs = []
    for k, folder in enumerate(folders):
        run = read_run(folder)
        run["snapshots"] = [s for s in run["snapshots"] if seen is None or s["step"] > seen[k]]
        runs.append(run)
    return {"runs": runs}
