"""How each model is trained: presets, settings of a run, and trainers.  The command line reads them.

    zoo.recipes.recipe_of("gan").presets         # what `zoo train gan --preset NAME` means
    print(zoo.recipes.how("gan"))                # how the gan that ships, or one of your own, was trained: its command, data, minutes, figures

A family's file says what the model is, its recipe how one comes to be.  A recipe is a file here, named after the kind of model, with a
dataclass of settings, a table PRESETS, a function `make_trainer(model, data, training, ...)`, and RECIPE, which holds them together.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..drawing.words import counted

if TYPE_CHECKING:
    from .recipe import Recipe

KINDS = ("vae", "autoencoder", "vqvae", "gan", "diffusion", "transformer", "recurrent", "classifier", "words", "scene_judge", "captions",
         "contrastive", "speech", "speech_judge", "glyphs", "glyph_judge", "dalle")


def recipe_of(kind: str) -> Recipe:
    """The recipe of a kind of model: one of KINDS."""
    if kind not in KINDS:
        raise ValueError(f"recipe_of: kind is {kind!r}; it may be {', '.join(KINDS)}")
    return importlib.import_module(f"zoo.recipes.{kind}").RECIPE


@dataclasses.dataclass(frozen=True)
class History:
    """How a model came to be, as its card says; printed, it is a few lines."""

    command: str
    data: str  # a name or a path
    seed: int
    steps: int
    minutes: float
    settings: dict[str, Any]  # of the run; the model's own are its `config`
    evaluation: str | None  # the command that gave the figures; None where they are those of the run's end
    figures: dict[str, Any]

    def __str__(self) -> str:
        numbers = lambda values: ", ".join(f"{name} {v:.4g}" if isinstance(v, float) else f"{name} {v}" for name, v in values.items())
        return "\n".join([self.command, f"data {self.data}, seed {self.seed}, {counted(self.steps, 'step')}, {self.minutes:g} minutes",
                          f"settings: {numbers(self.settings)}", *([self.evaluation] if self.evaluation else []),
                          f"figures: {numbers(self.figures)}"])


def how(model: Any) -> History:
    """How this model was trained: a model that was loaded, the name of one that ships, or a folder.

    Raises ValueError where nothing tells: for a fresh model, or one from another library.
    """
    from ..loading.cards import load

    if isinstance(model, (str, Path)):
        model = load(model)
    card = getattr(model, "card", {})
    if "command" not in card:
        raise ValueError(f"how: this {type(model).__name__} has no card that says how it was trained; models that `zoo train` has saved do")
    return History(card["command"], card["data"], card["seed"], card["steps"], card["minutes"], card["training"], card.get("evaluation"),
                   card["figures"])
