"""Smaller models from trained ones: a student that imitates its teacher, and weights that are left out.

    report = distill("transformer", {"layers": 3, "width": 96, "heads": 3, "steps": 500}, "runs/student")
    report = prune("transformer", 0.5, "runs/pruned")
    print(report)                                   # size, speed and loss beside the teacher

A student learns more from what a teacher says than from the data alone, because a distribution says of every wrong answer how wrong it is.  With
text it imitates softened probabilities (Hinton et al. 2015, section 2); a diffusion model what the teacher predicts of the same noised pictures,
which is the mean of what the data would have said, without its noise.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import Tensor, no_grad
from ..diffusion import Diffusion
from ..language.windows import IGNORED
from ..loading.cards import load
from ..nn import Conv2d, Linear, evaluating
from ..transformer import Transformer
from . import recipe_of
from .recipe import Recipe, describe

TEMPERATURE = 2.0  # by which logits are divided before a student imitates them
IMITATION = 0.5  # of the loss; the rest is that of the data
DERIVED = ("hidden", "head_width", "key_value_heads")  # fields of a transformer that follow from its width and heads unless they are given


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A small model beside the one that it comes from; printed, a table."""

    names: tuple[str, str]
    figures: dict[str, tuple[float, float]]  # (teacher's, the small one's)

    def __str__(self) -> str:
        lines = [["", *self.names], *([name, *(f"{v:,.0f}" if v >= 1000 else f"{v:.4g}" for v in pair)] for name, pair in self.figures.items())]
        widths = [max(len(line[i]) for line in lines) for i in range(3)]
        return "\n".join("  ".join((cell.ljust if i == 0 else cell.rjust)(widths[i]) for i, cell in enumerate(line)) for line in lines)


def distill(teacher_name: str | Path, fields: dict[str, Any], out: str | Path, *, seed: int = 0, progress: bool = True,
            command: str = "") -> Comparison:
    """Train a student of a transformer or a diffusion model.  fields: of its configuration and its training, in place of the teacher's.

    Raises ValueError where a teacher of this kind isn't known, or the student's fields don't go together or with the teacher.
    """
    teacher, recipe, data = _trained(teacher_name, "distill")
    settings = dict(teacher.card["training"])
    inherited = {**teacher.config.to_dict(), **settings}
    for name in ("symbols", *(DERIVED if {"width", "heads"} & fields.keys() else ())):
        if isinstance(teacher, Transformer):
            inherited.pop(name, None)  # the data has as many symbols as the teacher's alphabet
    of_model, training = _split(recipe, {**inherited, **fields})
    student: Any = recipe.new(data, of_model, seed)
    for name in ("symbols", "prediction", "schedule", "image", "classes", "autoencoder", "source"):
        theirs, ours = (getattr(model.config, name, None) for model in (teacher, student))
        if theirs != ours:
            raise ValueError(f"distill: the student's {name} is {ours!r}, the teacher's {theirs!r}; they must be the same")
    trainer = recipe.trainer(student, data, training, seed=seed, folder=out, settings={"training": training.to_dict(), "data": describe(data)})
    trainer.objective = (imitate_text if isinstance(teacher, Transformer) else imitate_diffusion)(teacher, student)
    with evaluating(teacher):
        trainer.run(progress=progress, title="student")
        with trainer.averaged():
            comparison = _compare((str(teacher_name), str(out)), teacher, student, trainer.evaluate)
    trainer.save_model(command=command, data=teacher.card["data"], training=training.to_dict(), data_digest=describe(data),
                       teacher=str(teacher_name), figures={name: round(pair[1], 6) for name, pair in comparison.figures.items()},
                       beside_teacher={name: list(pair) for name, pair in comparison.figures.items()})
    return comparison


def imitate_text(teacher: Transformer, student: Transformer) -> Callable[[Any, Generator], dict[str, Tensor]]:
    """loss = (1 - a) nats of the data + a T^2 cross-entropy of softmax(student / T) with softmax(teacher / T) (Hinton et al. 2015, section 2).

    T^2, because the gradient of softened logits falls with it.
    """

    def objective(batch: Any, rng: Generator) -> dict[str, Tensor]:
        inputs, targets = batch
        with no_grad():
            p = np.asarray(ops.softmax(teacher(inputs) / TEMPERATURE))
        logits = student(inputs, rng=rng)
        counted = (np.asarray(targets) != IGNORED)[..., None].astype(np.float32)
        imitation = -(p * counted * ops.log_softmax(logits / TEMPERATURE)).sum() / float(counted.sum())
        data = ops.cross_entropy(logits, targets, ignore_index=IGNORED)
        return {"loss": (1 - IMITATION) * data + IMITATION * TEMPERATURE**2 * imitation, "data": data, "imitation": imitation}

    return objective


def imitate_diffusion(teacher: Diffusion, student: Diffusion) -> Callable[[Any, Generator], dict[str, Tensor]]:
    """The mean squared difference of both predictions (of a flow: velocities) at the same noised pictures, times and labels."""

    def objective(batch: Any, rng: Generator) -> dict[str, Tensor]:
        x, labels = batch if isinstance(batch, tuple) else (batch, None)
        x_0 = student.to_network_range(x, rng if student.config.dequantise else None)
        noise, t = student.draw_source(len(x_0), rng), student.draw_times(len(x_0), rng)
        labels = student._training_labels(labels, len(x_0), rng) if student.is_conditional else None
        x_t = student.noised(x_0, noise, t)
        with no_grad():
            target = np.asarray(teacher.predict(x_t, t, labels))
        return {"loss": ops.mse(student.predict(x_t, t, labels), target)}

    return objective


def prune(name: str | Path, share: float, out: str | Path, *, units: bool = False, command: str = "") -> Comparison:
    """Leave out a share of a model's weights, without training it again, and write it to a folder.

    By default the smallest entries of all its matrices and kernels become 0: the file can be packed smaller, and nothing gets faster.
    units: whole hidden units of a transformer's MLPs are removed, those whose weights in and out have the least product of lengths: it gets
    smaller and faster.  Raises ValueError for a share that isn't between 0 and 1, or a model that has no such units.
    """
    if not 0 < share < 1:
        raise ValueError(f"prune: share is {share}; it is above 0 and below 1")
    if Path(out).exists():
        raise FileExistsError(f"{out}: exists already; choose another folder")
    model, recipe, data = _trained(name, "prune")
    small = without_units(model, share) if units else without_weights(load(name), share)
    _, training = _split(recipe, {**model.config.to_dict(), **model.card["training"]})
    evaluate = recipe.trainer(model, data, training).evaluate
    comparison = _compare((str(name), str(out)), model, small, evaluate)
    facts = {key: value for key, value in model.card.items() if key in ("data", "seed", "steps", "minutes", "training", "class_names")}
    small.save(out, command=command, **facts, pruned={"from": str(name), "share": share, "units": units},
               figures={key: round(pair[1], 6) for key, pair in comparison.figures.items()},
               beside_teacher={key: list(pair) for key, pair in comparison.figures.items()})
    return comparison


def without_weights(model: Any, share: float) -> Any:
    """The model itself, the smallest entries of its matrices and kernels set to 0: this share of all of them together."""
    weights = [layer.weight.data for _, layer in model.modules() if isinstance(layer, (Linear, Conv2d))]
    sizes = np.concatenate([np.abs(w).ravel() for w in weights])
    threshold = np.partition(sizes, int(share * len(sizes)))[int(share * len(sizes))]
    for w in weights:
        w[np.abs(w) < threshold] = 0
    return model


def without_units(model: Any, share: float) -> Transformer:
    """A transformer with so many fewer hidden units in each MLP."""
    if not isinstance(model, Transformer) or model.blocks[0].mlp is None:
        raise ValueError(f"prune: this {model.kind} has no MLP whose hidden units could be removed; --units is for transformers")
    left = max(1, round((1 - share) * model.config.hidden))
    arrays = dict(model.arrays())
    for i, block in enumerate(model.blocks):
        mlp: Any = block.mlp
        inward = [layer for layer in (mlp.gate, mlp.up) if layer is not None]
        length = np.linalg.norm(mlp.down.weight.data, axis=1) * np.prod([np.linalg.norm(layer.weight.data, axis=0) for layer in inward], axis=0)
        units = np.sort(np.argsort(-length, kind="stable")[:left])
        for part in ("gate", "up"):
            for kind in ("weight", "bias"):
                if (name := f"blocks.{i}.mlp.{part}.{kind}") in arrays:
                    arrays[name] = arrays[name][..., units]
        arrays[f"blocks.{i}.mlp.down.weight"] = arrays[f"blocks.{i}.mlp.down.weight"][units]
    small = Transformer.new(**{**model.config.to_dict(), "hidden": left})
    small.restore_extras({**getattr(model, "card", {}), **model.extras()})
    small.load_arrays(arrays)
    return small


# --- what both need


def _trained(name: str | Path, what: str) -> tuple[Any, Recipe, Any]:
    """A transformer or diffusion model with its recipe and the data that its card names."""
    model = load(name)
    card = getattr(model, "card", {})
    if not isinstance(model, (Transformer, Diffusion)):
        raise ValueError(f"{what}: {name} is of kind {model.kind!r}; transformers and diffusion models are known")
    if "training" not in card or not isinstance(card.get("data"), str):
        raise ValueError(f"{what}: the card of {name} doesn't say how it was trained and on what")
    recipe = recipe_of(model.kind)
    data = recipe.data(card["data"])
    if isinstance(data, str):
        raise ValueError(f"{what}: {name} draws points of {data!r}; models of pictures and text are known")
    return model, recipe, data


def _split(recipe: Recipe, fields: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    names = [{f.name for f in dataclasses.fields(config)} for config in (recipe.model.Config, recipe.training)]
    if unknown := sorted(fields.keys() - names[0] - names[1]):
        raise ValueError(f"--{unknown[0]} isn't a field of a {recipe.model.kind}")
    of_model, of_run = ({name: value for name, value in fields.items() if name in known} for known in names)
    return of_model, recipe.training.make(**of_run)


def _compare(names: tuple[str, str], teacher: Any, small: Any, evaluate: Any) -> Comparison:
    """Size, what isn't 0, seconds of an evaluation, and its figures, of both."""
    sides = []
    for model in (teacher, small):
        with evaluating(model), no_grad():
            began = time.process_time()
            figures = evaluate(model) if evaluate else {}
            seconds = time.process_time() - began
        arrays = model.arrays().values()
        sides.append({"parameters": model.num_parameters, "not zero": sum(int(np.count_nonzero(a)) for a in arrays),
                      "bytes": sum(a.nbytes for a in arrays), "processor seconds of an evaluation": seconds, **figures})
    return Comparison(names, {name: (float(sides[0][name]), float(sides[1][name])) for name in sides[0]})
