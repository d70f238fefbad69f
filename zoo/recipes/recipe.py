"""What a recipe is: a kind of model, the settings of a run, presets of both, data and a trainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ..model import Config, Model


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the command line needs to train a kind of model; each file here has one of these, called RECIPE."""

    model: type[Model]
    training: type[Config]  # settings of a run
    presets: dict[str, dict[str, Any]]  # name -> fields of the model's configuration and of `training`; the first is the default
    data: Callable[[str | None], Any]  # a name or path, or None for the default -> what the trainer takes
    trainer: Callable[..., Any]  # (model, data, training, *, seed, folder, resume, minutes) -> Trainer
    default_data: str
    preset_data: dict[str, str] = dataclasses.field(default_factory=dict)  # of presets that are meant for other data than the default

    def new(self, data: Any, fields: dict[str, Any], seed: int) -> Model:
        """A fresh model for this data, which may tell it what it needs to know (a vocabulary, an image's size)."""
        fit = getattr(self.model, "for_data", None)
        return fit(data, seed=seed, **fields) if fit else self.model.new(seed=seed, **fields)
