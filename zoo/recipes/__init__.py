"""How each model is trained: presets, settings of a run, and trainers. The command line reads them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .recipe import Recipe

KINDS = ("vae", "autoencoder", "vqvae", "gan", "diffusion", "transformer", "recurrent", "classifier")


def recipe_of(kind: str) -> Recipe:
    """The recipe of a kind of model: one of KINDS."""
    if kind not in KINDS:
        raise ValueError(f"recipe_of: kind is {kind!r}; it may be {', '.join(KINDS)}")
    return importlib.import_module(f"zoo.recipes.{kind}").RECIPE
