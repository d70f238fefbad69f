"""A search: workers train what a strategy proposes, and search.json says at any moment what there is, so that a search can go on later.

    OUT/search.json         space, strategy, seed, and every trial with its point, scores and state
    OUT/trials/007/         the run's folder of a trial, with its log, checkpoint, model and card

A search that is stopped, or killed, loses what its trials did since their last checkpoints, a minute at most.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...drawing.words import counted
from ...storage import WrongFile, atomic_write, read_json, shorten
from .. import recipe_of
from .space import Space
from .strategies import FACTOR, STRATEGIES, By, Proposals, Trial, best_of, promotion
from .trials import Outcome, Task, command_of, data_of
from .workers import Here, Processes, Ranks, Workers

FILE, VERSION = "search.json", 1


@dataclasses.dataclass
class Search:
    """What a search is and what came of it so far."""

    folder: Path
    settings: dict[str, Any]  # kind, preset, space, fixed fields, strategy, seed, data, score, minutes
    trials: list[Trial]
    rejected: int = 0  # points that make no model
    seconds: float = 0.0  # spent searching, in all sessions

    @property
    def space(self) -> Space:
        s = self.settings
        recipe = recipe_of(s["kind"])
        return Space.of(recipe, s["space"], {**recipe.presets[s["preset"]], **s["fixed"]})

    @property
    def best(self) -> Trial | None:
        """The best trial among those that went farthest."""
        return best_of(self.trials)

    def folder_of(self, trial: Trial) -> Path:
        return self.folder / "trials" / f"{trial.number:03d}"

    def shown(self, score: float) -> float:
        """A score as its figure has it."""
        return -score if self.settings["largest"] else score

    def command(self, trial: Trial) -> str:
        """What trains with the settings of a trial on all the data there is."""
        s, space = self.settings, self.space
        training = space.settings(trial.point)[1]
        if trial.results and trial.results[-1].get("steps") and s["minutes"] is not None:
            training = dataclasses.replace(training, **read_json(self.folder_of(trial) / "trial.json")["length"])
        return command_of(s["kind"], s["preset"], space, trial.point, training, s["data"], s["seed"])

    def write(self) -> None:
        state = {"version": VERSION, "settings": self.settings, "rejected": self.rejected, "seconds": round(self.seconds, 1),
                 "trials": [dataclasses.asdict(trial) for trial in self.trials]}
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self.folder / FILE, (json.dumps(state, indent=1) + "\n").encode())


def read_search(folder: str | Path) -> Search:
    """The search in a folder.  Raises FileNotFoundError where there is none, WrongFile where its file is damaged."""
    path = Path(folder) / FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder}: holds no search ({FILE})")
    state = read_json(path)
    try:
        if state["version"] != VERSION:
            raise WrongFile(f"{path}: is of version {shorten(state['version'])}; this zoo reads {VERSION}")
        trials = [Trial(**trial) for trial in state["trials"]]
        if [t.number for t in trials] != list(range(len(trials))):
            raise ValueError("its trials aren't numbered from 0")
        search = Search(Path(folder), dict(state["settings"]), trials, int(state["rejected"]), float(state["seconds"]))
        _ = search.space, [search.space.coordinates(t.point) for t in trials]
        return search
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        if isinstance(e, WrongFile):
            raise
        raise WrongFile(f"{path}: isn't what zoo search has written: {' '.join(str(e).split())}") from None


def search(kind: str, space: Space, out: str | Path, *, by: By = "random", trials: int | None = None, budget: float | None = None,
           preset: str | None = None, fixed: dict[str, Any] | None = None, data: str | None = None, seed: int = 0, score: str | None = None,
           largest: bool = False, minutes: float | None = None, workers: int = 1, mpi: bool = False, threads: int = 1,
           say: Callable[[str], None] = lambda line: None) -> Search:
    """Search until there are so many trials, or the budget is spent; the same call again goes on where it stopped.

    space: made with the preset's fields and `fixed`, which are further fields in place of the preset's.
    trials: how many points are tried in all; with halving, most of them only for a short time.
    budget: minutes of searching in all, those of earlier calls included.  A trial that is under way then stops with a checkpoint.
    minutes: of processor time that a full run takes, all of its threads together, from which its steps follow.  None: as many steps as settings say.
    score, largest: which figure of the evaluation is compared, and whether more of it is better; by default the first, and less is better.
    workers: trials at a time on this machine.  mpi: one on each of the other processes of an MPI run.
    With one worker and no limit of time, the same seed makes the same search.
    """
    for name, count in (("trials", trials), ("workers", workers)):
        if count is not None and count < 1:
            raise ValueError(f"search: {name} is {count}; it is a whole number of at least 1")
    for name, number in (("budget", budget), ("minutes", minutes)):
        if number is not None and not 0 < number < float("inf"):
            raise ValueError(f"search: {name} is {number}; it is above 0")
    if trials is None and budget is None:
        raise ValueError("search: say how long: trials, their number, or budget, in minutes")
    if by not in STRATEGIES:
        raise ValueError(f"search: by is {by!r}; it may be {', '.join(STRATEGIES)}")
    settings: dict[str, Any] = {
        "kind": kind, "preset": preset or next(iter(space.recipe.presets)), "space": str(space), "fixed": dict(fixed or {}), "by": by,
        "seed": seed, "data": data, "score": score, "largest": largest, "minutes": minutes}
    folder = Path(out)
    if (folder / FILE).exists():
        state = read_search(folder)
        for name, value in settings.items():
            if json.loads(json.dumps(value)) != state.settings.get(name):
                raise ValueError(f"{folder}: is a search with another {name}: {shorten(state.settings.get(name))}, not {shorten(value)}; "
                                 "go on with the same settings, or choose another folder")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: holds something else than a search; choose another folder")
    else:
        state = Search(folder, settings, [])
    source = data or space.recipe.preset_data.get(settings["preset"])
    proposals = Proposals(space, by, seed, data_of(kind, source), state.rejected)
    crew: Workers = Ranks() if mpi else Processes(workers) if workers > 1 else Here()
    try:
        _Loop(state, proposals, crew, trials, budget, threads, say, source).run()
    finally:
        crew.close()
    if state.best is None:
        failed = [t for t in state.trials if t.state == "failed"]
        raise ValueError(f"{folder}: no trial has a score" + (f"; the first failed: {failed[0].error}" if failed else "; the time was too short"))
    return state


@dataclasses.dataclass
class _Loop:
    state: Search
    proposals: Proposals
    crew: Workers
    most: int | None
    budget: float | None
    threads: int
    say: Callable[[str], None]
    source: str | None

    def run(self) -> None:
        began, before = time.monotonic(), self.state.seconds
        self.elapsed = lambda: before + time.monotonic() - began
        waiting = [t for t in self.state.trials if t.state == "running"]  # from a session that was stopped
        under_way = 0
        try:
            while True:
                while under_way < self.crew.n and not self._is_over():
                    trial = waiting.pop(0) if waiting else self._next()
                    if trial is None:
                        break
                    self._write()  # before it begins, so that its folder is known
                    self.crew.submit(self._task(trial))
                    under_way += 1
                if not under_way:
                    return
                self._record(self.crew.next())
                under_way -= 1
        finally:
            if self.state.trials:
                with contextlib.suppress(OSError):
                    self._write()

    def _is_over(self) -> bool:
        return self.budget is not None and self.elapsed() >= 60 * self.budget

    def _next(self) -> Trial | None:
        """A trial that goes on, or a new one."""
        trials, rungs = self.state.trials, self.proposals.rungs
        full = self.most is not None and len(trials) >= self.most
        trial = promotion(trials, rungs, is_last=full) if rungs > 1 else None
        if trial is not None:
            trial.rung, trial.state = trial.rung + 1, "running"
            return trial
        if full:
            return None
        trial = Trial(len(trials), self.proposals.draw(len(trials), trials))
        trials.append(trial)
        return trial

    def _task(self, trial: Trial) -> Task:
        s = self.state.settings
        left = None if self.budget is None else max(1.0, 60 * self.budget - self.elapsed())
        share = FACTOR ** (trial.rung - self.proposals.rungs + 1)
        return Task(s["kind"], self.proposals.space, trial.point, self.state.folder_of(trial), share, s["seed"], self.source, s["preset"], s["score"],
                    s["largest"], s["minutes"], left, self.threads, trial.number)

    def _record(self, outcome: Outcome) -> None:
        trial = self.state.trials[outcome.number]
        if outcome.error:
            if outcome.ends_search:
                raise ValueError(outcome.error)
            trial.state, trial.error = "failed", outcome.error
            self.say(f"trial {trial.number} failed: {outcome.error}")
        elif outcome.score is not None:
            trial.state = "done"
            trial.scores.append(outcome.score)
            trial.results.append({
                "step": outcome.step, "steps": outcome.steps, "seconds": round(outcome.seconds, 3), "parameters": outcome.parameters,
                "processor_seconds": round(outcome.processor_seconds, 3), "at": round(self.elapsed(), 1), "figures": outcome.figures})
            best = self.state.best
            point = " ".join(f"{name}={value}" for name, value in trial.point.items())
            self.say(f"trial {trial.number}  {self.state.shown(outcome.score):.5g} "
                     f"after {outcome.step:,} of {counted(outcome.steps, 'step')}  {point}"
                     + ("  the best so far" if best is trial else ""))
        self._write()

    def _write(self) -> None:
        self.state.rejected, self.state.seconds = self.proposals.rejected, self.elapsed()
        self.state.write()
