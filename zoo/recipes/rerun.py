"""Making a run again from its card, and comparing: same settings, seed and data, so the same weights.

    report = rerun("runs/vae")
    report.is_same, print(report)

Bit for bit that holds for the same versions on the same kind of processor; sums are taken in another order by another BLAS, and training
makes a large difference of a small one.  So the report says what else differs, and by how much the weights do.
"""

from __future__ import annotations

import dataclasses
import platform
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .. import storage
from ..autograd.runtime.processor import processor_name
from ..drawing.words import counted
from ..loading.cards import KINDS, folder_of, load
from ..training.private import Private
from . import recipe_of
from .recipe import describe


@dataclasses.dataclass(frozen=True)
class Rerun:
    """What came of a run that was made again; printed, it is a few lines."""

    folder: str
    steps: int
    differences: dict[str, float]  # of each array that isn't equal bit for bit: the largest difference of two entries
    arrays: int
    environment: dict[str, tuple[str, str]]  # what is another one here: (then, now)
    figures: dict[str, tuple[float, float]]  # (then, now) of the figures at the end that both have

    @property
    def is_same(self) -> bool:
        """Whether all weights are equal bit for bit."""
        return not self.differences

    def __str__(self) -> str:
        lines = [f"{self.folder}: {counted(self.steps, 'step')} again"]
        if self.is_same:
            lines.append(f"all {self.arrays} arrays are equal bit for bit")
        else:
            worst = max(self.differences, key=lambda name: self.differences[name])
            lines.append(f"{len(self.differences)} of {self.arrays} arrays differ, most {worst}, by up to {self.differences[worst]:.3g}")
        lines += [f"{name}: {then} then, {now} now" for name, (then, now) in self.environment.items()]
        lines += [f"{name}: {then:.6g} then, {now:.6g} now" for name, (then, now) in self.figures.items() if then != now or not self.is_same]
        return "\n".join(lines)


def environment() -> dict[str, str]:
    """What a run's last bits depend on besides its settings."""
    found = {"python": platform.python_version(), "processor": processor_name(), "system": platform.system()}
    for package in ("numpy", "scipy", "numba"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"zoo": storage.VERSION, **found}


def rerun(folder: str | Path, *, out: str | Path | None = None, progress: bool = False) -> Rerun:
    """Train again what is in this folder, by its card.  out: where the new run goes; a temporary folder unless given.

    Raises ValueError where the card doesn't say enough, or the data isn't what it was; FileNotFoundError where there is no model.
    """
    model = load(folder)
    card = dict(model.card)
    kind = card.get("kind")
    missing = [name for name in ("command", "data", "seed", "steps", "training") if name not in card]
    if kind not in KINDS or missing:
        raise ValueError(f"{folder}: its card has no {', '.join(missing) or 'kind that is trained here'}; models that `zoo train` has saved do")
    if "began_from" in card or " --from " in f"{card['command']} ":
        what = card.get("began_from", {}).get("model") or card["command"]
        raise ValueError(f"{folder}: began from other weights ({what}); make that run again by its command, with --from")
    private = card.get("private")
    if private and private.get("secret", True):
        raise ValueError(f"{folder}: was trained privately, with noise that nobody can draw again")
    if card.get("changes"):
        raise ValueError(f"{folder}: its settings were changed on the way, in step {card['changes'][0]['step']}; such a run can't be made again")
    recipe = recipe_of(kind)
    data = recipe.data(card["data"])
    digest = card.get("data_digest")
    if digest is not None and digest != describe(data):
        raise ValueError(f"{folder}: learned from other data than {card['data']} is now: {digest} then, {describe(data)} now")
    training = recipe.training.make(**card["training"])
    fields = model.config.to_dict()
    if getattr(getattr(model, "tokenizer", None), "kind", None) == "characters":
        del fields["symbols"]  # as many as the text has; a number asks for byte pairs
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(out) if out is not None else Path(temporary) / "again"
        trainer = recipe.trainer(recipe.new(data, fields, card["seed"]), data, training, seed=card["seed"], folder=again,
                                 **({"private": Private(private["noise"], private["clip"], private["delta"], False)} if private else {}))
        steps = int(card["steps"])
        if steps > trainer.steps:
            raise ValueError(f"{folder}: has {steps:,} steps, and its settings give {trainer.steps:,}")
        for record in _watched(trainer, steps, progress):
            if record.step == steps:
                break
        figures = trainer.last_evaluation() if steps == trainer.steps else {}
        trainer.save_model(command=card["command"], data=card["data"], training=training.to_dict(), figures=figures)
        before, now = model.arrays(), load(again).arrays()
    halved = _is_halved(folder)
    differences = {}
    for name, a in before.items():
        b = now[name].astype(np.float16).astype(np.float32) if halved and now[name].dtype == np.float32 else now[name]
        if not np.array_equal(a, b):
            differences[name] = float(np.abs(a.astype(np.float64) - b).max())
    then = card.get("made_with") or {}
    changed = {name: (str(then[name]), value) for name, value in environment().items() if name in then and then[name] != value}
    numbers = lambda named: {name: float(v) for name, v in (named or {}).items() if isinstance(v, (int, float)) and name not in ("step", "seconds")}
    old, new = numbers(card.get("last_step") or card.get("figures")), numbers(figures)
    return Rerun(str(folder), steps, differences, len(before), changed, {name: (old[name], round(new[name], 4)) for name in old if name in new})


def _watched(trainer: Any, steps: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(trainer, total=steps, desc="again", disable=not progress)


def _is_halved(folder: str | Path) -> bool:
    arrays, _ = storage.load_folder(folder_of(folder))
    return any(arrays[name].dtype == np.float16 for name in arrays)
