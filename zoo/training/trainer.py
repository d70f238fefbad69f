"""The training loop that all models share.  Training is a stream: iterate over a `Trainer`, and each step is a record.

    trainer = Trainer(model, model.loss, data, optimiser, steps=1000, folder="runs/x")
    for record in trainer:              # or trainer.run(), with a progress bar
        record.step, record.losses, record.grad_norm

Why a resumed run equals one that was never stopped, bit for bit: step i is a function of the weights, the optimiser's state and i
alone.  Its random numbers come from a new generator seeded with (seed, i), the order of an epoch's rows from (seed, epoch), and the
schedule from i.  So a checkpoint needs no state of a generator or iterator.  It holds the number of steps done, the weights and
buffers, the state of every optimiser, the averaged weights, and the log.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from .. import storage
from ..autograd import Tensor, no_grad
from ..nn import Module
from ..optim import Average, Optimiser, Schedule, constant
from .batches import Batches


@dataclasses.dataclass
class TrainingStep:
    """Record of one training step."""

    step: int  # counts from 1
    losses: dict[str, float]  # the first is the one that is minimised
    lr: float
    grad_norm: float  # Euclidean norm of all gradients, before clipping
    seconds: float  # spent training so far, before a resume too


class TrainingFailed(RuntimeError):
    """A loss or a gradient isn't finite.  The last checkpoint stays as it was."""


class Trainer:
    """Iterating over it trains; each step yields a `TrainingStep`.

    objective(batch, rng) -> {name: scalar tensor}, the first of which is minimised.  Or pass `update(batch, rng) -> {name: number}`,
        which does a whole step by itself (two optimisers, several critic steps).
    batches(step, rng) -> a batch; see `shuffled`.
    average: an `Average` of the weights, which is what is evaluated and saved as the model.
    folder: for log.csv, log.json, checkpoint.safetensors, and at the end model.safetensors and card.json; None writes nothing.
    resume: continue from the folder's checkpoint, if it has one.
    evaluate(model) -> {name: number}: called every `evaluate_every` steps and at the end, with the averaged weights.
    checkpoint_every: seconds between checkpoints.
    minutes: no step begins after this much time, that of earlier runs from the same folder included.
    """

    def __init__(self, model: Module, objective: Callable[[Any, Generator], dict[str, Tensor]] | None, batches: Batches,
                 optimiser: Optimiser | Mapping[str, Optimiser], *, steps: int, schedule: Schedule = constant, seed: int = 0,
                 average: Average | None = None, folder: str | Path | None = None, resume: bool = False,
                 update: Callable[[Any, Generator], dict[str, float]] | None = None,
                 evaluate: Callable[[Any], dict[str, float]] | None = None, evaluate_every: int | None = None,
                 checkpoint_every: float = 60.0, minutes: float | None = None):
        if steps < 1:
            raise ValueError(f"Trainer: steps is {steps}; it is at least 1")
        if minutes is not None and not minutes > 0:
            raise ValueError(f"Trainer: minutes is {minutes}; it is above 0, or None for no limit")
        self.model, self.objective, self.batches = model, objective, batches
        self.optimisers = {"optimiser": optimiser} if isinstance(optimiser, Optimiser) else dict(optimiser)
        self.optimiser = next(iter(self.optimisers.values()))
        self.steps, self.schedule, self.seed, self.average = steps, schedule, seed, average
        self.update = update or self._minimise
        self.evaluate, self.evaluate_every = evaluate, evaluate_every
        self.checkpoint_every, self.minutes = checkpoint_every, minutes
        self.folder = None if folder is None else Path(folder)
        self.step, self.seconds = 0, 0.0
        self.rows: list[dict[str, float]] = []  # the log, a row every `log_every` steps
        self.log_every = max(1, steps // 1000)
        self.evaluations: list[dict[str, float]] = []
        if self.folder is not None:
            self._enter(self.folder, resume)

    def __repr__(self) -> str:
        loss = self.rows[-1].get("loss") if self.rows else None
        return (f"<Trainer of {type(self.model).__name__}: step {self.step:,} of {self.steps:,}"
                + ("" if loss is None else f", loss {loss:.4g}") + ("" if self.folder is None else f", {self.folder}") + ">")

    # --- the loop

    def __iter__(self) -> Iterator[TrainingStep]:
        self.model.train()
        began, seconds_before = time.perf_counter(), self.seconds
        last_checkpoint = time.perf_counter()
        while self.step < self.steps and not (self.minutes is not None and self.seconds > 60 * self.minutes):
            rng = np.random.default_rng((self.seed, self.step))
            try:
                losses = self.update(self.batches(self.step, rng), rng)
            except FloatingPointError as e:  # an optimiser's, of a gradient that isn't finite
                raise TrainingFailed(f"step {self.step + 1}: {e}; training stopped{self._checkpoint_note()}") from e
            not_finite = {name: value for name, value in losses.items() if not math.isfinite(value)}
            if not_finite:
                name, value = next(iter(not_finite.items()))
                raise TrainingFailed(f"step {self.step + 1}: {name} is {value}; training stopped{self._checkpoint_note()}")
            if self.average is not None:
                self.average.update()
            self.step += 1
            self.seconds = seconds_before + time.perf_counter() - began
            lr = self.optimiser.lr * self.schedule(self.step - 1)
            record = TrainingStep(self.step, losses, lr, self.optimiser.grad_norm, self.seconds)
            if self.step % self.log_every == 0 or self.step == self.steps:
                seconds = round(self.seconds, 3)
                self.rows.append({"step": self.step, **losses, "lr": lr, "grad_norm": record.grad_norm, "seconds": seconds})
            if self.evaluate_every and self.step % self.evaluate_every == 0 and self.step < self.steps:
                self._evaluate()
            if self.folder is not None and time.perf_counter() - last_checkpoint > self.checkpoint_every:
                self.checkpoint()
                last_checkpoint = time.perf_counter()
            yield record

    def _minimise(self, batch: Any, rng: Generator) -> dict[str, float]:
        """One step of gradient descent on the objective's first loss."""
        assert self.objective is not None
        losses = self.objective(batch, rng)
        self.optimiser.zero_grad()
        first = next(iter(losses.values()))
        if not math.isfinite(float(first)):
            return {name: float(value) for name, value in losses.items()}
        first.backward()
        self.optimiser.step(self.schedule(self.step))
        return {name: float(value) for name, value in losses.items()}

    def run(self, *, progress: bool = True, title: str = "training") -> dict[str, float]:
        """Train to the end with a progress bar, write checkpoint and log, and return the last row of the log and the last evaluation.

        The first Ctrl-C or SIGTERM lets the current step finish, writes a checkpoint and raises KeyboardInterrupt; a second one
        raises it at once.
        """
        from tqdm import tqdm

        stopped: list[int] = []

        def stop(number: int, frame: Any) -> None:
            if stopped:
                raise KeyboardInterrupt(f"stopped in step {self.step + 1}{self._checkpoint_note()}")
            stopped.append(number)

        main = threading.current_thread() is threading.main_thread()
        previous = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)} if main else {}
        seconds = 0.5 if sys.stderr.isatty() else 30.0  # between two updates of the bar: in a log file each stays as a line
        bar = tqdm(self, total=self.steps, initial=self.step, desc=title, disable=not progress, file=sys.stderr, dynamic_ncols=True,
                   mininterval=seconds, maxinterval=max(10.0, seconds))
        try:
            for record in bar:
                if record.step % max(1, self.log_every) == 0:
                    bar.set_postfix({name: f"{value:.4g}" for name, value in record.losses.items()}, refresh=False)
                if stopped:
                    if self.folder is not None:
                        self.checkpoint()
                    raise KeyboardInterrupt(f"stopped after step {self.step}{self._checkpoint_note()}")
        finally:
            bar.close()
            for s, handler in previous.items():
                signal.signal(s, handler)
        figures = self._evaluate() if self.evaluate else {}
        if self.folder is not None:
            self.checkpoint()
        return {**(self.rows[-1] if self.rows else {}), **figures}

    def save_model(self, folder: str | Path | None = None, **facts: Any) -> None:
        """Write model.safetensors, with the averaged weights, and card.json; facts become entries of the card."""
        target = folder or self.folder
        if target is None:
            raise ValueError("save_model: this run has no folder; name one")
        facts = {"seed": self.seed, "steps": self.step, "minutes": round(self.seconds / 60, 2), **facts}
        if self.average is not None:
            self.average.swap()
        try:
            self.model.save(target, **facts)  # type: ignore[attr-defined]
        finally:
            if self.average is not None:
                self.average.swap()

    def _evaluate(self) -> dict[str, float]:
        assert self.evaluate is not None
        if self.average is not None:
            self.average.swap()
        self.model.eval()
        try:
            with no_grad():
                figures = self.evaluate(self.model)
        finally:
            self.model.train()
            if self.average is not None:
                self.average.swap()
        self.evaluations.append({"step": self.step, "seconds": round(self.seconds, 3), **figures})
        return figures

    # --- what a run writes to disk

    def _enter(self, folder: Path, resume: bool) -> None:
        """Create the folder, or resume the run that it holds.  Raises FileExistsError rather than overwrite a run or a model."""
        saved = folder / "checkpoint.safetensors"
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(f"{folder}: is a file; expects a folder for the run")
        if saved.exists():
            if not resume:
                raise FileExistsError(f"{folder} holds a run already; resume it (resume=True, --resume) or choose another folder")
            self._restore(storage.load_checkpoint(saved), saved)
        elif (folder / storage.WEIGHTS).exists():
            raise FileExistsError(f"{folder} holds a model but no checkpoint to go on from; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)

    def checkpoint(self) -> None:
        """Write everything that resuming needs to checkpoint.safetensors, and the log so far to log.csv and log.json."""
        assert self.folder is not None
        state = {
            "step": self.step, "steps": self.steps, "seed": self.seed, "seconds": self.seconds, "model": self.model.arrays(),
            "optimisers": {name: o.checkpoint() for name, o in self.optimisers.items()},
            "average": None if self.average is None else self.average.checkpoint(),
            "rows": self.rows, "evaluations": self.evaluations,
        }
        storage.save_checkpoint(self.folder / "checkpoint.safetensors", state)
        storage.atomic_write(self.folder / "log.csv", _csv(self.rows))
        storage.atomic_write(self.folder / "log.json", json.dumps({"steps": self.rows, "evaluations": self.evaluations}, indent=1).encode())

    def _restore(self, state: dict[str, Any], source: Path) -> None:
        missing = {"step", "steps", "seed", "seconds", "model", "optimisers", "average", "rows", "evaluations"} - set(state)
        if missing:
            raise storage.WrongFile(f"{source}: is a checkpoint without {', '.join(sorted(missing))}")
        for name, here in (("seed", self.seed), ("steps", self.steps)):  # the schedule, the log and every draw depend on them
            if state[name] != here:
                raise ValueError(f"{source}: the run's {name} is {state[name]}, not {here}; resume it with the settings that it began with")
        if set(state["optimisers"]) != set(self.optimisers) or (state["average"] is None) != (self.average is None):
            raise storage.WrongFile(f"{source}: the run was made with another optimiser or average than this one")
        try:
            self.model.load_arrays(state["model"])
            for name, o in self.optimisers.items():
                o.restore(state["optimisers"][name])
            if self.average is not None:
                self.average.restore(state["average"])
        except (KeyError, TypeError, ValueError) as e:
            reason = f"it has no {e.args[0]!r}" if isinstance(e, KeyError) else e
            raise storage.WrongFile(f"{source}: doesn't fit this model or optimiser: {reason}") from e
        self.step, self.seconds, self.rows, self.evaluations = state["step"], state["seconds"], state["rows"], state["evaluations"]

    def _checkpoint_note(self) -> str:
        """The end of a message that says why the run ended."""
        if self.folder is None or not (self.folder / "checkpoint.safetensors").exists():
            return ""
        return f"; the last checkpoint is kept in {self.folder}"


def _csv(rows: list[dict[str, float]]) -> bytes:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
