"""A diagram of what runs in each step: the modules of the model in the order in which they ran, each with its value, formula and place in the code.

Nothing in it is drawn by hand: a `ModuleTrace` says which modules ran and what they returned, their docstrings say what they compute, and
the record's own fields stand before and behind them.  A module that did everything in a step, such as a U-Net, is opened into its parts;
the modules inside any other part are shown when it is clicked.

    panel = {"kind": "diagram", ..., "steps": [{"nodes": [node, ...], "ran": [[number, value], ...]}, ...]}
    node  = {"name", "says", "formula", "code", "parameters", "inside": number of the node that it is a part of, "field": of the record}
    value = {"shape", "mean", "std", "picture", "of"}      None for a field, whose value the page has already
"""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...autograd.tensor import Tensor
from ...autograd.tracing import ModuleTrace
from ...drawing.pictures import mosaic
from ...language.model import TextStep
from ...model import Step
from ...parts.denoising.samplers import DiffusionStep
from ...recurrent import RollStep
from ...vqvae import CodeStep
from ..page import pack

ROOT = Path(__file__).parents[3]
PICTURE_NUMBERS = 1024  # at most, of a part's value that is drawn
PANEL = {"kind": "diagram", "title": "The network at work", "wide": True,
         "note": "what runs in this step lights up in order; click a part for its value, its formula, its place in the code"}

# of records without a name of their own: fields that stand before the network, and behind it, as (field, formula, what it says)
BEFORE: dict[type, list[tuple[str, str, str]]] = {
    DiffusionStep: [("x_t", "x_t = alpha_t x_0 + sigma_t epsilon", "the noisy picture")],
    TextStep: [("given", "", "the tokens that are read")],
    RollStep: [("given", "", "the keys of the step before")],
    CodeStep: [("given", "", "the code before")],
}
BEHIND: dict[type, list[tuple[str, str, str]]] = {
    DiffusionStep: [("prediction", "v = network(x_t, t)", "what the network says"),
                    ("noise_predicted", "epsilon = (x_t - alpha_t x_0) / sigma_t", "the noise that it sees"),
                    ("x_0_predicted", "x_0 = (x_t - sigma_t epsilon) / alpha_t", "the picture that it guesses"),
                    ("x_previous", "x_s = mean + deviation draw", "a little less noise")],
    TextStep: [("logits", "logits = W x", "a number for each token"),
               ("probabilities", "p_i = exp(logit_i) / sum exp(logit_j)", "probabilities"),
               ("token", "token ~ p", "one is drawn")],
    RollStep: [("logits", "logits = W x + b", "a number for each key"),
               ("probabilities", "p = 1 / (1 + exp(-logit / temperature))", "each key's probability"),
               ("keys", "draw < p", "the keys that are struck")],
    CodeStep: [("logits", "logits = W x", "a number for each code"),
               ("probabilities", "p_i = exp(logit_i) / sum exp(logit_j)", "probabilities"),
               ("code", "code ~ p", "one is drawn")],
}


class Ran(NamedTuple):
    """A module that ran in a step, with those that ran inside it."""

    path: str
    value: Any
    inside: list[Ran]


class Diagram:
    """Sees a generation while it is on, and says after each record what it adds to the panel."""

    def __init__(self, model: Any):
        self.seen = ModuleTrace(model)
        self.model, self.modules = model, dict(model.modules())
        self.numbers: dict[tuple[str, int | None], int] = {}  # (name, the node that it is a part of) -> number

    def part(self, step: Step) -> dict[str, Any]:
        """What ran since the last record, this one; nodes: those that hadn't run before."""
        new: list[dict[str, Any]] = []
        ran: list[list[Any]] = []

        def add(name: str, inside: int | None, value: Any, **node: Any) -> int:
            if (name, inside) not in self.numbers:
                self.numbers[name, inside] = len(self.numbers)
                new.append({"name": name, "inside": inside, **node})
            number = self.numbers[name, inside]
            ran.append([number, value])
            return number

        def add_modules(tree: list[Ran], inside: int | None = None) -> None:
            for module in opened(tree) if inside is not None else tree:
                layer = self.modules[module.path]
                number = add(module.path, inside, described(module.value, drawn=inside is None), field=None, code=place(type(layer).__call__),
                             **said_by(type(layer)), parameters=sum(p.size for p in layer.parameters()))
                add_modules(module.inside, number)

        def add_field(name: str, field: str, formula: str, says: str = "") -> int:
            return add(name, None, None, field=field, formula=formula, says=says, code=code)

        replay = getattr(step, "_replay", None)
        code = place(replay.func if replay else type(self.model).steps)
        modules = opened(as_tree(self.seen.take()))
        if hasattr(step, "name") and type(step) not in BEHIND:  # a record of one layer: the modules are its parts
            number = add_field(step.name, "value", str(getattr(step, "formula", "")))
            if [module.path for module in modules] != [step.name]:
                add_modules(modules, number)
            return {"nodes": new, "ran": ran}
        for fields, behind in ((BEFORE, False), (BEHIND, True)):
            if behind:
                add_modules(modules)
            for field, formula, says in fields.get(type(step), ()):
                if getattr(step, field) is not None:
                    add_field(field, field, formula, says)
        return {"nodes": new, "ran": ran}


def as_tree(ran: dict[str, Any]) -> list[Ran]:
    """Modules by path, in the order in which they began, each inside the one that called it."""
    known: dict[str, Ran] = {}
    top: list[Ran] = []
    for path, value in ran.items():
        module = known[path] = Ran(path, value, [])
        around = path
        while around and (around := around.rpartition(".")[0]) not in known:
            pass
        (known[around].inside if around in known and around != path else top).append(module)
    return top


def opened(modules: list[Ran]) -> list[Ran]:
    """A module that did everything is replaced by its parts."""
    while len(modules) == 1 and modules[0].inside:
        modules = modules[0].inside
    return modules


def described(y: Any, drawn: bool) -> dict[str, Any] | None:
    """What a module returned, for the page: its shape and statistics without the axis of the batch, and if drawn, as a picture."""
    if isinstance(y, tuple):
        y = y[0]
    if not isinstance(y, (Tensor, np.ndarray)):
        return None
    a = np.asarray(y.data if isinstance(y, Tensor) else y)
    a = a[0] if a.ndim > 1 else a
    if a.size == 0 or a.dtype.kind != "f":
        return {"shape": list(a.shape)}
    mean, std = float(a.mean(dtype=np.float64)), float(a.std(dtype=np.float64))
    value: dict[str, Any] = {"shape": list(a.shape)}
    if math.isfinite(mean) and math.isfinite(std):
        value |= {"mean": float(f"{mean:.4g}"), "std": float(f"{std:.4g}")}
        if drawn:
            value |= as_picture(a)
    return value


def as_picture(a: np.ndarray) -> dict[str, Any]:
    """An array, as much of it as `PICTURE_NUMBERS` allows; of: which part of it, in words."""
    of = ""
    if a.ndim == 3:
        most = PICTURE_NUMBERS // (a.shape[0] * a.shape[1])
        if not most:
            return {}
        of = f"channels 1 to {most} of {a.shape[-1]}" if 1 < most < a.shape[-1] else f"channel 1 of {a.shape[-1]}" if most < a.shape[-1] else ""
        a = mosaic(a, most)
    elif a.ndim == 2 and a.size > PICTURE_NUMBERS:
        a, of = a[-1], f"position {len(a)} of {len(a)}"
    return {"picture": pack(a, "signed8", scale="signed"), "of": of} if a.size <= 2 * PICTURE_NUMBERS else {}


def said_by(kind: type) -> dict[str, str]:
    """A module's formula and what its docstring says first.

    `y = activation(x W + b): x (..., inputs) -> (..., outputs).` is a formula up to the colon; a formula may also stand on a line of its own.
    """
    first, *others = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    sentence = re.split(r"(?<! al)\.(?= [A-Z]|$)", " ".join(first.split()))[0]
    formula, colon, says = sentence.partition(": ")
    if not (colon and " = " in formula):
        lines = [re.split(r"  +", line.strip())[0] for part in others for line in part.splitlines() if re.match(r"    \w.* = ", line)]
        formula, says = lines[0] if lines else "", sentence
    return {"formula": formula, "says": f"{kind.__name__}: {says}"}


def place(function: Any) -> str:
    """Where a function or class is written, as `zoo/vae.py:343`; "" where its source isn't at hand."""
    try:
        function = inspect.unwrap(function)
        file, (_, line) = inspect.getsourcefile(function), inspect.getsourcelines(function)
        return f"{Path(file or '').relative_to(ROOT).as_posix()}:{line}"
    except (TypeError, OSError, ValueError):
        return ""
