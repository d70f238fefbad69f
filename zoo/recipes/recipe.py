"""What a recipe is: a kind of model, the settings of a run, presets of both, data and a trainer."""

from __future__ import annotations

import dataclasses
import difflib
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ..data.images import Images
from ..model import Config, Model, check_labels


def describe(data: Any) -> dict[str, Any]:
    """What a run depends on in its data, and not by what name it goes: how much there is, and a digest of all of it."""
    if isinstance(data, str):
        return {"name": data}  # a toy distribution, of which samples are drawn
    counts: dict[str, Any] = {}
    digest = 0

    def take(value: Any) -> None:
        nonlocal digest
        if isinstance(value, str):
            digest = zlib.crc32(value.encode("utf-8", "surrogatepass"), digest)
        elif isinstance(value, np.ndarray):
            digest = zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data, digest)
        elif isinstance(value, dict):
            for key in sorted(value):
                take(value[key])
        elif isinstance(value, (list, tuple)):
            for entry in value:
                take(entry)
        elif dataclasses.is_dataclass(value):
            take([getattr(value, field.name) for field in dataclasses.fields(value)])

    for field in dataclasses.fields(data):
        value = getattr(data, field.name)
        if field.name != "name" and value is not None:
            take(value)
            if field.name in ("train", "test", "text"):
                counts[field.name] = len(value)
    return {**counts, "digest": f"{digest:08x}"}


@dataclasses.dataclass(frozen=True)
class RunSettings(Config):
    """Settings of a run that every recipe has."""

    precision: Literal["float32", "bf16"] = "float32"  # of products of matrices: bf16 rounds their factors to 16 bits


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What it takes to train a kind of model; each file here has one of these, called RECIPE."""

    model: type[Model]
    training: type[Config]  # settings of a run
    presets: dict[str, dict[str, Any]]  # name -> fields of the model's configuration and of `training`; the first is the default
    data: Callable[[str | None], Any]  # a name or path, or None for the default -> what the trainer takes
    trainer: Callable[..., Any]  # (model, data, training, *, seed, folder, resume, minutes) -> Trainer
    default_data: str
    preset_data: dict[str, str] = dataclasses.field(default_factory=dict)  # of presets that are meant for other data than the default

    def settings(self, preset: str | None = None, **changes: Any) -> tuple[dict[str, Any], Any]:
        """A preset with these changes: the fields of the model's configuration that it sets, and the settings of a run.

        A field that both have, such as a size that the run needs too, goes to both.
        """
        preset = preset or next(iter(self.presets))
        if preset not in self.presets:
            raise ValueError(f"preset is {preset!r}; there are {', '.join(self.presets)}")
        fields = {**self.presets[preset], **changes}
        of_model, of_run = ({f.name for f in dataclasses.fields(config)} for config in (self.model.Config, self.training))
        for name in changes:
            if name not in of_model | of_run:
                near = difflib.get_close_matches(name, of_model | of_run, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(sorted(of_model | of_run))}"
                raise ValueError(f"settings: {self.model.kind} has no field {name!r}; {hint}")
        return ({name: value for name, value in fields.items() if name in of_model},
                self.training.make(**{name: value for name, value in fields.items() if name in of_run}))

    def new(self, data: Any, fields: dict[str, Any], seed: int) -> Model:
        """A fresh model for this data, which some kinds of model ask for a vocabulary or for a picture's size."""
        for_data = getattr(self.model, "for_data", None)
        return for_data(data, seed=seed, **fields) if for_data else self.model.new(seed=seed, **fields)


def labels_of(images: Images, classes: int) -> np.ndarray:
    """The labels of the pictures to train on.  Raises ValueError that names the data where they or those to test on aren't below `classes`."""
    try:
        if images.test_labels is not None:
            check_labels(images.test_labels, classes, len(images.test))
        return check_labels(images.train_labels, classes, len(images.train))
    except ValueError as e:
        raise ValueError(f"{images.name}: {e}") from None
