"""One trial: a run's folder with log, checkpoint, model and card, trained to a rung and scored on data that it wasn't trained on.

The score of pictures comes from the last tenth of those to train on, which the trials of a search don't train on; that of text from its part for
validation.  Nothing here looks at what is there to test on: the figures of whatever wins are still honest.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np

from ...autograd import set_threads
from ...autograd.random import generator
from ...data.images import Images
from ...storage import atomic_write, read_json
from ...training import Trainer, TrainingFailed, TrainingStep, minibatches
from .. import recipe_of
from ..recipe import Recipe, describe
from ..rerun import environment
from .space import Point, Space

HELD_OUT = 0.1  # of the pictures to train on, but at most so many:
MOST_HELD_OUT = 5000
SCORED = 2048  # pictures that a score is the mean of
TRIED_STEPS = 12  # that are timed where trials have minutes instead of steps; the first third of them isn't counted
TRIAL = "trial.json"


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker needs to know to take a trial to a rung."""

    kind: str
    space: Space
    point: Point
    folder: Path
    share: float  # of the run's steps that the rung has
    seed: int
    data: str | None
    preset: str
    score: str | None  # the figure; None for the first
    largest: bool  # a greater figure is better
    minutes: float | None  # of processor time that a full run has; None for the steps that the settings say
    seconds: float | None  # after which the trial is stopped where it is, with a checkpoint
    threads: int
    number: int


class _Reached(Exception):
    """The step at which a rung ends."""


class _TimeIsUp(Exception):
    pass


class _NoScore(ValueError):
    """No trial of this search can be scored."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a task: a score, an error, or neither, where the time was up."""

    number: int
    score: float | None = None
    step: int = 0
    steps: int = 0  # of the full run
    seconds: float = 0.0
    processor_seconds: float = 0.0  # of this task
    parameters: int = 0
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    error: str = ""
    ends_search: bool = False  # an error that every other trial would meet too


@functools.cache
def data_of(kind: str, source: str | None) -> Any:
    """What the trials of a search train on: the recipe's data, where pictures to test on are held out of those to train on."""
    data = recipe_of(kind).data(source)
    if not isinstance(data, Images):
        return data
    held_out = min(int(HELD_OUT * len(data.train)), MOST_HELD_OUT)
    if held_out < 1:
        raise ValueError(f"{data.name}: has {len(data.train)} pictures to train on; a search holds a tenth of them out, so it needs at least 10")
    cut = len(data.train) - held_out
    rows = generator(0x4E1D).permutation(len(data.train))  # the classes of a folder come one after the other
    parts = np.sort(rows[:cut]), np.sort(rows[cut:])
    label = lambda part: None if data.train_labels is None else data.train_labels[part]
    return dataclasses.replace(data, train=data.train[parts[0]], train_labels=label(parts[0]), test=data.train[parts[1]], test_labels=label(parts[1]))


def run(task: Task) -> Outcome:
    """Train a trial to its rung, from its checkpoint if it has one, and score it."""
    set_threads(task.threads)
    began = time.process_time()
    try:
        trainer, settings, data = _trainer(task)
        target = max(1, math.ceil(task.share * trainer.steps))
        _train_to(trainer, target, task.seconds)
        figures = trainer.last_evaluation()
        score = _score(task, figures)
        trainer.checkpoint()
        _save(task, trainer, settings, data, figures)
    except _TimeIsUp:
        trainer.checkpoint()
        return Outcome(task.number, processor_seconds=time.process_time() - began)
    except _NoScore as e:
        return Outcome(task.number, error=str(e), ends_search=True)
    except (TrainingFailed, ArithmeticError, MemoryError, ValueError) as e:
        return Outcome(task.number, error=" ".join(str(e).split()) or type(e).__name__, processor_seconds=time.process_time() - began)
    return Outcome(task.number, score, trainer.step, trainer.steps, trainer.seconds, time.process_time() - began,
                   trainer.model.num_parameters, figures)


def _trainer(task: Task) -> tuple[Trainer, Any, Any]:
    """The run of a trial, at the step at which it was left, with its settings and data."""
    recipe, data = task.space.recipe, data_of(task.kind, task.data)
    fields, settings = task.space.settings(task.point)
    about = task.folder / TRIAL
    if task.minutes is not None:
        if about.exists():  # what was measured then
            length = read_json(about)["length"]
        else:
            length = length_in(recipe, fields, settings, data, 60 * task.minutes, task.seed)
        settings = dataclasses.replace(settings, **length)
    else:
        length = {}
    if not about.exists():
        task.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(about, json.dumps({"number": task.number, "point": task.point, "length": length}).encode())
    trainer = recipe.trainer(recipe.new(data, fields, task.seed), data, settings, seed=task.seed, folder=task.folder, resume=True,
                             settings={"training": settings.to_dict(), "data": describe(data)})
    if trainer.evaluate is None:
        if not isinstance(data, Images) or trainer.objective is None:
            raise _NoScore(f"search: training a {task.kind} has no figure that says how good it is, so trials can't be compared")
        trainer.evaluate = lambda model: {"validation loss": loss_on(model, data, task.seed)}
    return trainer, settings, data


def length_in(recipe: Recipe, fields: dict[str, Any], settings: Any, data: Any, seconds: float, seed: int) -> dict[str, int]:
    """The steps or epochs, by the name of the field, that take so much processor time, from the time of a few steps.

    Processor time, of all threads together: it hardly depends on what else the machine does, and the clock on the wall does.
    """
    name = next((n for n in ("steps", "epochs") if hasattr(settings, n)), None)
    if name is None:
        raise ValueError(f"minutes: the training of a {recipe.model.kind} has neither steps nor epochs")
    trainer = recipe.trainer(recipe.new(data, fields, seed), data, settings, seed=seed)
    trainer.evaluate = None
    times = []
    for record in trainer:
        times.append(time.process_time())
        if len(times) > TRIED_STEPS or record.step == trainer.steps:
            break
    counted = times[len(times) // 3 :]
    if len(counted) < 2:
        raise ValueError(f"minutes: a run of {trainer.steps} steps is too short to be timed; it has at least 3")
    per_step = (counted[-1] - counted[0]) / (len(counted) - 1)
    per_unit = trainer.steps / getattr(settings, name)  # steps of an epoch
    return {name: max(1, int(seconds / max(per_step, 1e-9) / per_unit))}


def _train_to(trainer: Trainer, target: int, seconds: float | None) -> None:
    """Train to a step and no further.  Raises _TimeIsUp after so many seconds; a signal leaves a checkpoint and raises Stopped."""
    deadline = None if seconds is None else time.monotonic() + seconds

    def look(trainer: Trainer, record: TrainingStep) -> None:
        if record.step == target:
            raise _Reached
        if deadline is not None and time.monotonic() > deadline:
            raise _TimeIsUp

    if trainer.step < target:
        trainer.on_step = look
        try:
            trainer.run(progress=False)
        except _Reached:
            pass


def _score(task: Task, figures: dict[str, float]) -> float:
    """The figure that is compared, lower being better.  ValueError where there is none of that name or it isn't finite."""
    name = task.score or next(iter(figures))
    if name not in figures:
        raise _NoScore(f"score: there is no figure {name!r}; there are {', '.join(map(repr, figures))}")
    value = float(figures[name])
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    return -value if task.largest else value


def loss_on(model: Any, images: Images, seed: int, most: int = SCORED) -> float:
    """The training's loss on the first pictures of the part to test on, with noise that depends on the seed alone."""
    x = images.test[:most]
    labels = images.test_labels[:most] if getattr(model.config, "classes", 0) and images.test_labels is not None else None
    total = 0.0
    for part in minibatches(len(x), 256):
        batch = x[part] if labels is None else (x[part], labels[part])
        total += len(x[part]) * float(next(iter(model.loss(batch, generator((seed, part.start, 0x5C0))).values())))
    return total / len(x)


def _save(task: Task, trainer: Trainer, settings: Any, data: Any, figures: dict[str, float]) -> None:
    names: dict[str, Any] = {"class_names": list(data.classes)} if getattr(data, "classes", ()) else {}
    source = task.data or task.space.recipe.preset_data.get(task.preset) or task.space.recipe.default_data
    trainer.save_model(command=command_of(task.kind, task.preset, task.space, task.point, settings, task.data, task.seed), data=source,
                       training=settings.to_dict(), **names, data_digest=describe(data), made_with=environment(), figures=figures,
                       search={"trial": task.number, "point": task.point, "space": str(task.space)})


def command_of(kind: str, preset: str, space: Space, point: Point, settings: Any, data: str | None, seed: int) -> str:
    """The command that trains with these settings on all the data there is."""
    base = space.recipe.presets[preset]
    options = {name: value for name, value in {**space.fixed, **point}.items() if name not in base or base[name] != value}
    options |= {name: getattr(settings, name) for name in ("steps", "epochs") if hasattr(settings, name)}
    written = lambda value: ",".join(map(str, value)) if isinstance(value, (tuple, list)) else "none" if value is None else str(value)
    words = ["zoo", "train", kind, "--preset", preset]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", written(value)]
    words += (["--data", data] if data else []) + (["--seed", str(seed)] if seed else [])
    return shlex.join(words)
