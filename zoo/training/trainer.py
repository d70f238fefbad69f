"""The training loop that all models share.  Training is a stream: iterate over a `Trainer`, and each step is a record.

    trainer = Trainer(model, model.loss, data, optimiser, steps=1000, folder="runs/x")
    for record in trainer:              # or trainer.run(), with a progress bar
        record.step, record.losses, record.grad_norm

Why a resumed run equals one that was never stopped, bit for bit: step i is a function of the weights, the optimiser's state and i
alone.  Its random numbers come from a new generator seeded with seed and i, the order of an epoch's rows from seed and epoch, and the
schedule from i.  So a checkpoint needs no state of a generator or iterator.  It holds the number of steps done, the weights and
buffers, the state of every optimiser, the averaged weights, the log, and the settings that all this came from: to resume with others
would be another run, so it is refused unless one asks for it, and then it is written down.

A run that has come to its end can be carried on with more steps.  What was done stays; from there on the schedule is the one that a
run of the new length has.  Where the rate is constant, that is the run that had been longer from the beginning, bit for bit; where
it falls (a cosine), it is a new leg, whose rate begins where the longer schedule would stand.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from .. import nn, storage
from ..autograd import Tensor, get_precision, no_grad, use_precision
from ..nn import Module
from ..optim import Average, Optimiser, Schedule, constant
from .batches import Batches
from .exchange import Exchange
from .folder import RunFolder, differences, not_finite
from .objective import compiled
from .private import Private, PrivateGradients
from .ranks import Ranks, rows_of


@dataclasses.dataclass
class TrainingStep:
    """Record of one training step."""

    step: int  # counts from 1
    losses: dict[str, float]  # the first is the one that is minimised
    lr: float
    grad_norm: float  # Euclidean norm of all gradients, before clipping
    seconds: float  # spent training so far, before a resume too


class TrainingFailed(RuntimeError):
    """A loss, a gradient or a weight isn't finite.  The last checkpoint stays as it was."""


class Stopped(KeyboardInterrupt):
    """A signal ended the run."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.signal = number


SHARES_DIFFER = 1e-2  # the most by which gradients of shares and of the whole batch may differ; a rounding that crosses a kink makes 4e-3
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Trainer:
    """Iterating over it trains; each step yields a `TrainingStep`.

    objective(batch, rng) -> {name: scalar tensor}, the first of which is minimised.  Or pass `update(batch, rng) -> {name: number}`,
        which does a whole step by itself (two optimisers, several critic steps).
    batches(step, rng) -> a batch; see `shuffled`.
    average: an `Average` of the weights, which is what is evaluated and saved as the model.
    folder: for log.csv, log.json, checkpoint.safetensors, and at the end model.safetensors and card.json; None writes nothing.  One
        process at a time can train in a folder.
    resume: continue from the folder's checkpoint, if it has one.
    settings: what else the run depends on, such as its data, as nested dictionaries of JSON's types.  They are kept in the checkpoint
        together with those of the model and the optimisers; resuming with others raises ValueError, which names both values.
    change_settings: resume with other settings all the same; `changes` lists them, and so does the model's card.
    began_from: where the weights come from that training begins with, if not from a seed: the card's entry of that name, also of a resumed run.
    evaluate(model) -> {name: number}: called every `evaluate_every` steps and at the end, with the averaged weights.
    checkpoint_every: seconds between checkpoints.
    minutes: no step begins after this much time, that of earlier runs from the same folder included.
    accumulate: a batch is cut into so many pieces, which are computed one after the other and whose gradients are added up: the step is the same
        (float32 rounding aside) and takes the memory of a piece.  For models whose rows don't depend on each other: ValueError for batch norm,
        a codebook, or an `update` of one's own.
    private: each example's gradient is bounded and noised (`training.private`), and `batches` a `Table`, of which every step takes each row with
        the same probability.  An `update` of one's own takes part if it has a method `be_private`.  `save_model` writes epsilon onto the card.
    ranks: processes that each compute a share of every batch (`training.ranks`).  All make the same trainer; the first one evaluates and
        writes, and the folder is one that all can read.  The first step is computed in both ways: ValueError where they differ.
    shard_optimiser: from the second step on, each rank holds the optimisers' state of its share of the weights alone, and updates those; the
        weights are the same, bit for bit.
    precision: of products of matrices in every step, "float32" or "bf16" (`autograd.set_precision`); what is set here and now unless given.
        Evaluations aren't part of a step.
    compile: replay the objective where it can be (`zoo.compile`): the same numbers in less time, where steps are small. It holds all memory that
        forward and backward take. Objectives that draw random numbers do so first (`training.objective.DrawnFirst`). Not with ranks.
    on_step(trainer, record): called after every step, with the weights as that step left them; `averaged()` lends it the averaged ones.
        It must not change the model; an exception that it raises ends the run.
    """

    def __init__(self, model: Module, objective: Callable[[Any, Generator], dict[str, Tensor]] | None, batches: Batches,
                 optimiser: Optimiser | Mapping[str, Optimiser], *, steps: int, schedule: Schedule = constant, seed: int = 0,
                 average: Average | None = None, folder: str | Path | None = None, resume: bool = False,
                 update: Callable[[Any, Generator], dict[str, float]] | None = None,
                 evaluate: Callable[[Any], dict[str, float]] | None = None, evaluate_every: int | None = None,
                 checkpoint_every: float | None = None, minutes: float | None = None, settings: Mapping[str, Any] | None = None,
                 change_settings: bool = False, ranks: Ranks | None = None, accumulate: int | None = None,
                 shard_optimiser: bool = False, private: Private | None = None, precision: str | None = None,
                 compile: bool = False, began_from: dict[str, Any] | None = None,
                 on_step: Callable[[Trainer, TrainingStep], None] | None = None):
        checkpoint_every = 60.0 if checkpoint_every is None else checkpoint_every
        for name, value, least in (("steps", steps, 1), ("seed", seed, 0), ("evaluate_every", evaluate_every, 1),
                                   ("accumulate", accumulate, 1)):
            if value is not None and (isinstance(value, bool) or value != int(value) or value < least):
                raise ValueError(f"Trainer: {name} is {value}; it is a whole number of at least {least}")
        if minutes is not None and not minutes > 0:
            raise ValueError(f"Trainer: minutes is {minutes}; it is above 0, or None for no limit")
        if not checkpoint_every >= 0:
            raise ValueError(f"Trainer: checkpoint_every is {checkpoint_every}; it is a number of seconds, at least 0")
        self.model, self.objective, self.batches = model, objective, batches
        self.optimisers = {"optimiser": optimiser} if isinstance(optimiser, Optimiser) else dict(optimiser)
        self.optimiser = next(iter(self.optimisers.values()))
        self.steps, self.schedule, self.seed, self.average = steps, schedule, seed, average
        self.update = update or self._minimise
        self.evaluate, self.evaluate_every = evaluate, evaluate_every
        self.checkpoint_every, self.minutes, self.on_step = checkpoint_every, minutes, on_step
        self.folder = None if folder is None else Path(folder)
        self.ranks, self.accumulate = ranks or Ranks(), accumulate or 1
        self.compile, self._compiled = compile, (objective, objective)
        with use_precision(precision or get_precision()):
            self.precision = get_precision()
        if self.accumulate > 1:
            _check_rows_are_independent(model, update)
        self._shares_checked, self.shard_optimiser = self.ranks.size == 1, shard_optimiser
        self.private = None if private is None else PrivateGradients(private, model, batches, seed)
        if self.private:
            self._become_private(update)
        config: Any = getattr(model, "config", None)
        self.settings = {
            **(settings or {}), **({"model": config.to_dict()} if hasattr(config, "to_dict") else {}),
            "optimisers": {name: o.settings() for name, o in self.optimisers.items()},
            "average": 0.0 if average is None else average.decay, "precision": self.precision,
            **({"private": private.to_dict()} if private else {})}
        self.began_from = began_from
        self.changes: list[dict[str, Any]] = []  # each the step at which settings changed, and {name: [before, after]}
        self.step, self.seconds = 0, 0.0
        self.rows: list[dict[str, float]] = []  # the log, a row every `log_every` steps
        self.log_every = max(1, steps // 1000)
        self.evaluations: list[dict[str, float]] = []
        self._evaluating = False
        self._run_folder = None if self.folder is None else RunFolder(self.folder)
        self._has_folder = self.folder is not None  # with several ranks: that of the first
        if not self.ranks.is_first:
            self.ranks.agree(None)  # after the first rank, which sees whether the folder is free
        state = self._run_folder and self._run_folder.enter(resume, look_for_others=self.ranks.is_first)
        if self.ranks.is_first:
            self.ranks.agree(None)
        if self._run_folder and state:
            self._restore(state, self._run_folder.checkpoint, change_settings)
        if self.ranks.size > 1:
            self._join_ranks()

    def _become_private(self, update: Any) -> None:
        """Take steps along bounded and noised gradients.  ValueError where that can't be done here."""
        assert self.private is not None
        for name, value in (("--ranks", self.ranks.size), ("--accumulate", self.accumulate)):
            if value > 1:
                raise ValueError(f"private: {name} is {value}; private training computes one example after the other, in one process")
        if update is None:
            self.update = self._minimise_privately
        elif hasattr(update, "be_private"):
            update.be_private(self.private)
        else:
            raise ValueError("private: this model's steps are its own, and they don't say how they would be private")

    def _minimise_privately(self, batch: Any, rng: Generator) -> dict[str, float]:
        assert self.private is not None and self.objective is not None
        losses = self.private.gradients(self.optimiser, self.objective, self.step)
        self.optimiser.step(self.schedule(self.step))
        return losses

    def _join_ranks(self) -> None:
        """Make sure that all ranks are about to do the same.  ValueError, on all of them, where they aren't."""
        for name, value in (("version", storage.VERSION), ("settings", repr(self.settings)), ("steps", self.steps), ("seed", self.seed),
                            ("the step of the checkpoint to resume from", self.step)):
            self.ranks.check_same(name, value)
        self._has_folder = self.ranks.agree(self.folder is not None)
        if not self.ranks.is_first:
            self.folder = self._run_folder = None
        for array in self.model.arrays().values():
            array[...] = self.ranks.agree(array)
        for o in self.optimisers.values():
            o.exchange = Exchange(o, self.ranks)

    def __repr__(self) -> str:
        loss = self.rows[-1].get("loss") if self.rows else None
        return (f"<Trainer of {type(self.model).__name__}: step {self.step:,} of {self.steps:,}"
                + ("" if loss is None else f", loss {loss:.4g}") + ("" if self.folder is None else f", {self.folder}") + ">")

    # --- the loop

    def __iter__(self) -> Iterator[TrainingStep]:
        self.model.train()
        with self._locked():
            began, seconds_before = time.perf_counter(), self.seconds
            last_checkpoint = time.perf_counter()
            if self._evaluation_is_due():  # the run was stopped while it evaluated
                self._evaluate()
            while self.step < self.steps and not self.ranks.agree(self.minutes is not None and self.seconds > 60 * self.minutes):
                losses = self._step()
                self.seconds = seconds_before + time.perf_counter() - began
                lr = self.optimiser.lr * self.schedule(self.step - 1)
                record = TrainingStep(self.step, losses, lr, self.optimiser.grad_norm, self.seconds)
                if self.step % self.log_every == 0 or self.step == self.steps:
                    seconds = round(self.seconds, 3)
                    self.rows.append({"step": self.step, **losses, "lr": lr, "grad_norm": record.grad_norm, "seconds": seconds})
                if self._evaluation_is_due():
                    self._evaluate()
                if self._has_folder and self.ranks.agree(time.perf_counter() - last_checkpoint > self.checkpoint_every):
                    self.checkpoint()
                    last_checkpoint = time.perf_counter()
                if self.on_step:
                    self.on_step(self, record)
                yield record

    def _step(self) -> dict[str, float]:
        """One update of the weights and their average.  Raises TrainingFailed where a loss or a gradient isn't finite."""
        rng = self.generator(self.step)
        try:
            batch = None if self.private else self.batches(self.step, rng)  # private steps draw their examples themselves
            with use_precision(self.precision):
                losses = self.update(batch, rng) if self.ranks.size == 1 else self._update_with_others(batch, rng)
        except FloatingPointError as e:  # an optimiser's, of a gradient that isn't finite
            raise TrainingFailed(f"step {self.step + 1}: {e}; training stopped{self._checkpoint_note()}") from e
        for name, value in losses.items():
            if not math.isfinite(value):
                raise TrainingFailed(f"step {self.step + 1}: {name} is {value}; training stopped{self._checkpoint_note()}")
        if self.average is not None:
            self.average.update()
        self.step += 1
        return losses

    def generator(self, step: int) -> Generator:
        """The random numbers of a step, 0 for the first.  The third number keeps them apart from those of `seed` alone, which drew the
        weights: NumPy takes (seed, 0) for seed."""
        return np.random.default_rng((self.seed, step, 0x57E9))

    def _update_with_others(self, batch: Any, rng: Generator) -> dict[str, float]:
        """The update of the whole batch, of which each rank computes its rows."""
        if not self._shares_checked:
            self._check_shares(batch, rng)
            self._shares_checked = True
            for o in self.optimisers.values() if self.shard_optimiser else ():
                o.exchange.shard()
        ranks, parts = self.ranks, getattr(self.update, "parts", 1)
        share, terms_of = ranks.share(batch, parts), getattr(self.model, "terms_of", rows_of)
        ranks.current_weight = terms_of(share) / terms_of(batch)
        nn.whole_batch = ranks
        try:
            losses = self.update(share, ranks.draws(rng, rows_of(batch) // parts))
        finally:
            nn.whole_batch = None
        return ranks.mean(losses, ranks.current_weight)

    def _check_shares(self, batch: Any, rng: Generator) -> None:
        """Raise ValueError, on all ranks, unless the gradients of the shares add up to those that the first rank computes on the whole batch.

        Both steps are made with a rate of 0, so that of two networks that take turns the second sees the same first one; and are undone.
        """
        self._shares_checked = True
        weights = {name: a.copy() for name, a in self.model.arrays().items()}
        states = {name: (copy.deepcopy(o.checkpoint()), o.lr, o.exchange, o.fills_grad) for name, o in self.optimisers.items()}

        def gradients(update: Callable[[Any, Generator], Any], together: bool) -> dict[str, np.ndarray]:
            for name, o in self.optimisers.items():
                o.lr, o.exchange, o.fills_grad = 0.0, states[name][2] if together else None, True
            update(batch, copy.deepcopy(rng))
            self.model.load_arrays(weights)
            for name, o in self.optimisers.items():
                state, o.lr, o.exchange, o.fills_grad = states[name]
                o.restore(state)
            return {name: o.grad.copy() for name, o in self.optimisers.items()}

        alone = gradients(self.update, together=False) if self.ranks.is_first else {}
        together = gradients(self._update_with_others, together=True)
        differences = [float(np.linalg.norm(together[name] - g)) / max(float(np.linalg.norm(g)), 1e-30) for name, g in alone.items()]
        worst = self.ranks.agree(max(differences, default=0.0))
        if not worst <= SHARES_DIFFER:
            raise ValueError(f"ranks: the gradients of {self.ranks.size} shares of a batch differ from that of the whole by {worst:.2g} of its "
                             "length; this model's rows depend on each other in a way that isn't known here, so train it with one rank")

    def _evaluation_is_due(self) -> bool:
        return bool(self.evaluate and self.evaluate_every and 0 < self.step < self.steps and self.step % self.evaluate_every == 0
                    and not (self.evaluations and self.evaluations[-1]["step"] == self.step))

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._run_folder is None else self._run_folder.lock()

    def _minimise(self, batch: Any, rng: Generator) -> dict[str, float]:
        """One step of gradient descent on the objective's first loss."""
        assert self.objective is not None
        self.optimiser.zero_grad()
        sums: dict[str, float] = {}
        for i, (share, weight, draws) in enumerate(self._pieces(batch, rng), 1):
            losses = self._objective()(share, draws)
            sums = {name: sums.get(name, 0.0) + weight * float(value) for name, value in losses.items()}
            first = next(iter(losses.values()))
            if not math.isfinite(float(first)) and self.ranks.size == 1:  # other ranks wait for the gradient, whose norm then tells all
                return sums
            first.backward(None if weight == 1 else np.full(first.shape, weight, first.dtype),
                           done=self.optimiser.done if i == self.accumulate else None)
        self.optimiser.step(self.schedule(self.step))
        return sums

    def _objective(self) -> Callable[[Any, Generator], dict[str, Tensor]]:
        """The objective, or what replays it."""
        assert self.objective is not None
        if not self.compile or self.ranks.size > 1:
            return self.objective
        if self._compiled[0] is not self.objective or self._compiled[1] is self.objective:
            self._compiled = self.objective, compiled(self.objective)
        assert self._compiled[1] is not None
        return self._compiled[1]

    def _pieces(self, batch: Any, rng: Generator) -> Iterator[tuple[Any, float, Generator]]:
        """(rows, their weight in the mean, draws for them) of each piece of a batch: their gradients add up to that of the whole."""
        if self.accumulate == 1:
            yield batch, 1.0, rng
            return
        n, terms_of = rows_of(batch), getattr(self.model, "terms_of", rows_of)
        for i in range(self.accumulate):
            piece = Ranks.piece(i, self.accumulate)
            share = piece.share(batch)
            yield share, terms_of(share) / terms_of(batch), piece.draws(copy.deepcopy(rng), n)

    def run(self, *, progress: bool = True, title: str = "training") -> dict[str, float]:
        """Train to the end with a progress bar, write checkpoint and log, evaluate, and return the last row of the log and the evaluation.

        The first Ctrl-C, SIGTERM or SIGHUP lets the current step finish (or ends the evaluation that is running), writes a checkpoint
        and raises `Stopped`, a KeyboardInterrupt; a second one raises it at once.  A signal that the process ignores (nohup) stays ignored.
        """
        received: list[int] = []

        def stop(number: int, frame: Any) -> None:
            received.append(number)
            if len(received) > 1 or (self._evaluating and self.ranks.size == 1):  # other ranks wait for the evaluation
                raise Stopped(f"stopped in step {self.step + 1}{self._checkpoint_note()}", received[0])

        output = _Forgiving(sys.stderr)
        watched = output.isatty() or "ipykernel" in sys.modules
        seconds = 0.5 if watched else 30.0  # between two updates of the bar: in a log file each stays as a line
        with self._locked(), _handled(stop):
            silent = not (progress and sys.stderr and self.ranks.is_first)
            bar = _bar_class()(self, total=self.steps, initial=self.step, desc=title, disable=silent, file=output,
                       dynamic_ncols=True, mininterval=seconds, maxinterval=max(10.0, seconds))
            try:
                for record in bar:
                    if record.step % self.log_every == 0:
                        bar.set_postfix({name: f"{value:.4g}" for name, value in record.losses.items()}, refresh=False)
                    if number := self.ranks.any(received[0] if received else None):
                        received = received or [number]
                        break
                bar.close()
                if not received:
                    if self._has_folder:
                        self.checkpoint()  # before the evaluation, which may take long or fail
                    figures = self.last_evaluation()
                    if self._has_folder and figures:
                        self.checkpoint()
                    return {**(self.rows[-1] if self.rows else {}), **figures}
            except Stopped:
                if len(received) > 1:
                    raise
            finally:
                bar.close()
            if self._has_folder:
                self.checkpoint()
            raise Stopped(f"stopped after step {self.step}{self._checkpoint_note()}", received[0])

    def last_evaluation(self) -> dict[str, float]:
        """Figures of the finished run: those that it has already, or new ones."""
        if not self.evaluate:
            return {}
        if self.evaluations and self.evaluations[-1]["step"] == self.step:
            return {name: value for name, value in self.evaluations[-1].items() if name not in ("step", "seconds")}
        return self._evaluate()

    def save_model(self, folder: str | Path | None = None, **facts: Any) -> None:
        """Write model.safetensors, with the averaged weights, and card.json; facts become entries of the card."""
        if not self.ranks.is_first:
            return
        target = folder or self.folder
        if target is None:
            raise ValueError("save_model: this run has no folder; name one")
        facts = {"seed": self.seed, "steps": self.step, "minutes": round(self.seconds / 60, 2), **facts}
        if self.private:
            facts["private"] = self.private.facts(self.step)
        if self.began_from:
            facts["began_from"] = self.began_from
        if self.changes:
            facts["changes"] = self.changes
        with self.averaged():
            self.model.save(target, **facts)  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        if self.average is not None:
            self.average.swap()
        try:
            yield
        finally:
            if self.average is not None:
                self.average.swap()

    def _evaluate(self) -> dict[str, float]:
        assert self.evaluate is not None
        with self.averaged():
            self.model.eval()
            try:
                self._evaluating = True  # a signal ends it
                with no_grad():
                    figures = self.ranks.agree(self.evaluate(self.model) if self.ranks.is_first else {})
            finally:
                self._evaluating = False
                self.model.train()
        self.evaluations.append({"step": self.step, "seconds": round(self.seconds, 3), **figures})
        return figures

    # --- what a run writes to disk

    def checkpoint(self) -> None:
        """Write everything that resuming needs to checkpoint.safetensors, and the log so far to log.csv and log.json.

        With several ranks, all call it; the first one writes.
        Raises TrainingFailed, and leaves the earlier checkpoint as it is, where a weight or an optimiser's state isn't finite.
        """
        if not self._has_folder:
            raise ValueError("checkpoint: this run has no folder; Trainer(..., folder=...) names one")
        optimisers = {name: o.checkpoint() if o.exchange is None else o.exchange.state() for name, o in self.optimisers.items()}
        if self._run_folder is None:
            return
        state = {
            "step": self.step, "steps": self.steps, "seed": self.seed, "seconds": self.seconds, "model": self.model.arrays(),
            "optimisers": optimisers,
            "average": None if self.average is None else self.average.checkpoint(),
            "rows": self.rows, "evaluations": self.evaluations, "settings": self.settings, "changes": self.changes,
            "began_from": self.began_from,
            **({"private": self.private.checkpoint()} if self.private else {}),
        }
        name = not_finite(state)
        if name is not None:
            raise TrainingFailed(f"step {self.step}: {name} holds numbers that aren't finite; training stopped{self._checkpoint_note()}")
        self._run_folder.write(state, self.rows, self.evaluations)

    def _restore(self, state: dict[str, Any], source: Path, change_settings: bool) -> None:
        missing = {"step", "steps", "seed", "seconds", "model", "optimisers", "average", "rows", "evaluations"} - set(state)
        if missing:
            raise storage.WrongFile(f"{source}: is a checkpoint without {', '.join(sorted(missing))}")
        self.changes, self.began_from = list(state.get("changes", [])), state.get("began_from")
        self._restore_private(state.get("private"), source, change_settings)
        changed = self._changed(state)
        carried_on = state["step"] >= state["steps"] and self.steps > state["steps"]
        if changed and not change_settings and not (carried_on and changed.keys() == {"steps"}):
            shorten = storage.shorten
            listed = "; ".join(f"the run's {name} is {shorten(before)}, not {shorten(now)}" for name, (before, now) in changed.items())
            raise ValueError(f"{source}: {listed}; resume it with the settings that it began with, or change them (change_settings=True, "
                             "--change-settings)")
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
        if changed:
            self.changes.append({"step": state["step"], **changed})
        self.step, self.seconds, self.rows, self.evaluations = state["step"], state["seconds"], state["rows"], state["evaluations"]

    def _restore_private(self, saved: dict[str, Any] | None, source: Path, change_settings: bool) -> None:
        """Go on with the noise where it was.  ValueError where the run was private in another way: its epsilon would be none."""
        settings = {name: value for name, value in (saved or {}).items() if name != "key"}
        now = self.private.private.to_dict() if self.private else {}
        if settings != now:
            said = [", ".join(f"{name} {value}" for name, value in s.items()) or "not private" for s in (settings, now)]
            raise ValueError(f"{source}: the run is private so: {said[0]}; not so: {said[1]}. This can't be changed on the way")
        if self.private and saved:
            if change_settings:
                raise ValueError(f"{source}: the run is private; with settings that change on the way, its epsilon wouldn't be known")
            self.private.restore(saved)

    def _changed(self, state: dict[str, Any]) -> dict[str, list[Any]]:
        """{name: [before, now]} of what a checkpoint's run depended on and this one doesn't; `steps` stands for epochs too."""
        changed = {name: [state[name], now] for name, now in (("seed", self.seed), ("steps", self.steps)) if state[name] != now}
        for name, values in differences(state.get("settings") or {}, self.settings).items():
            group, _, field = name.rpartition(".")
            known = changed.get(field) == values or (group.startswith("optimisers") and "training" in self.settings)  # say it once
            if field not in ("steps", "epochs") and not known:
                changed[name if group == "data" or field in changed else field] = values
        return changed

    def _checkpoint_note(self) -> str:
        """The end of a message that says why the run ended."""
        if self._run_folder is None or not self._run_folder.checkpoint.exists():
            return ""
        return f"; the last checkpoint is kept in {self.folder}, from where --resume (resume=True) goes on"


def _check_rows_are_independent(model: Module, update: Any) -> None:
    """Raise ValueError where the gradient of a batch isn't the mean of its rows' gradients, or isn't the trainer's to compute."""
    if update is not None:
        raise ValueError("accumulate: this model's steps are its own (two networks that take turns), so its batches can't be cut into pieces")
    for path, module in model.modules():
        if getattr(module, "reads_whole_batch", False):
            raise ValueError(f"accumulate: {path or 'this model'} is a {type(module).__name__}, which looks at the whole batch at once; "
                             "cut into pieces, the batch would be another")


@contextlib.contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Inside, this handler receives the signals that end a run, but for those that are ignored; only the main thread can set one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    for number, earlier in previous.items():
        if earlier is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in previous.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


def _bar_class() -> Any:
    """tqdm's bar: a widget in a notebook that has ipywidgets, else text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook without ipywidgets tqdm warns; its text does as well
        from tqdm.auto import tqdm
    return tqdm


class _Forgiving:
    """A stream whose reader may go away, such as a terminal that is closed: what can't be written is dropped, and training goes on."""

    def __init__(self, stream: Any):
        self.stream = stream  # None where the process was started without one
        self.encoding = getattr(stream, "encoding", None)

    def write(self, text: str) -> int:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            return self.stream.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            self.stream.flush()

    def isatty(self) -> bool:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            return self.stream.isatty()
        return False

    def fileno(self) -> int:
        return self.stream.fileno()
