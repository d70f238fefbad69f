"""What all models share: a configuration, a folder to be saved in, and generation as a stream of steps that can be replayed."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from . import storage
from .autograd import no_grad
from .nn import Module

KINDS = {  # kind -> where its class is; a model's card says its kind
    "vae": ("zoo.vae", "VAE"),
    "vqvae": ("zoo.vae", "VQVAE"),
    "autoencoder": ("zoo.vae", "Autoencoder"),
    "gan": ("zoo.gan", "GAN"),
    "diffusion": ("zoo.diffusion", "Diffusion"),
    "transformer": ("zoo.transformer", "Transformer"),
    "recurrent": ("zoo.recurrent", "Recurrent"),
    "classifier": ("zoo.metrics", "Classifier"),
}
WEIGHTS = Path(__file__).parent / "assets" / "weights"

C = TypeVar("C", bound="Config")
M = TypeVar("M", bound="Model")


@dataclasses.dataclass(frozen=True)
class Config:
    """Fields with defaults, made from keywords or a card; an unknown field is an error that names the nearest."""

    @classmethod
    def make(cls: type[C], **fields: Any) -> C:
        known = {f.name: f for f in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls)
        values = {}
        for name, value in fields.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise ValueError(f"{cls.__name__}: there is no field {name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; the fields are {', '.join(known)}"))
            values[name] = _as_type(value, hints[name], f"{cls.__name__}: {name}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _as_type(value: Any, hint: Any, name: str) -> Any:
    """value as its annotation says; text (from the command line) is read as that type."""
    if typing.get_origin(hint) is tuple:
        items = [v for v in value.replace(",", " ").split()] if isinstance(value, str) else list(value)
        return tuple(_as_type(v, typing.get_args(hint)[0], name) for v in items)
    allowed = typing.get_args(hint) or (hint,)
    if typing.get_origin(hint) is typing.Literal:
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; it may be {', '.join(map(repr, allowed))}")
        return value
    if type(None) in allowed and (value is None or value == "none"):
        return None
    for t in allowed:
        if t is bool and isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if t in (int, float) and isinstance(value, str):
            try:
                return t(value)
            except ValueError:
                continue
        if t is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, t) and not (t is int and isinstance(value, bool)):
            return value
    expected = " or ".join(getattr(t, "__name__", str(t)) for t in allowed)
    raise ValueError(f"{name} is {value!r}; it is a{'n' if expected[0] in 'aeiou' else ''} {expected}")


class Model(Module):
    """Subclasses set `kind` and `Config`, take (config, rng) to be built, and have `loss`, `steps` and what generates."""

    kind: ClassVar[str]
    Config: ClassVar[type[Config]]
    config: Any
    card: dict[str, Any]

    @classmethod
    def new(cls: type[M], *, seed: int = 0, **fields: Any) -> M:
        """A model with fresh weights: Model.new(latent=20, seed=0)."""
        return cls(cls.Config.make(**fields), rng=np.random.default_rng(seed))

    def __init__(self, config: Any, *, rng: np.random.Generator):
        self.config = config

    def extras(self) -> dict[str, Any]:
        """What a card holds beside the configuration, such as a tokenizer; `restore_extras` reads it back."""
        return {}

    def restore_extras(self, card: dict[str, Any]) -> None:
        pass

    def save(self, folder: str | Path, **facts: Any) -> None:
        """Write `model.safetensors` and `card.json`; facts (command, seed, minutes, figures) go into the card."""
        from . import __version__

        card = {"kind": self.kind, "version": __version__, "configuration": self.config.to_dict(), "parameters": self.num_parameters,
                **self.extras(), **facts}
        storage.save_folder(folder, self.arrays(), card)

    @classmethod
    def from_folder(cls: type[M], folder: str | Path) -> M:
        arrays, card = storage.load_folder(folder)
        return cls.from_arrays(arrays, card, source=folder)

    @classmethod
    def from_arrays(cls: type[M], arrays: dict[str, np.ndarray], card: dict[str, Any], source: Any = "weights") -> M:
        try:
            model = cls(cls.Config.make(**card.get("configuration", {})), rng=np.random.default_rng(0))
            model.restore_extras(card)
            model.load_arrays(arrays)
        except (ValueError, TypeError, KeyError) as e:
            raise storage.WrongFile(f"{source}: {e}") from e
        model.card = card
        return model.eval()  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True)
class Family:
    """What the command line needs to train a kind of model; each model file has a dictionary FAMILIES of these."""

    model: type[Model]
    training: type[Config]  # settings of a run
    presets: dict[str, dict[str, Any]]  # name -> fields of the model's configuration and of `training`; the first is the default
    data: Callable[[str | None], Any]  # a name or path, or None for the default -> what the trainer takes
    trainer: Callable[..., Any]  # (model, data, training, *, seed, folder, resume, minutes) -> Trainer
    default_data: str

    def new(self, data: Any, fields: dict[str, Any], seed: int) -> Model:
        """A fresh model for this data, which may tell it what it needs to know (a vocabulary, an image's size)."""
        fit = getattr(self.model, "for_data", None)
        return fit(data, seed=seed, **fields) if fit else self.model.new(seed=seed, **fields)


def load(name_or_folder: str | Path) -> Any:
    """A model that ships (`zoo.load("vae")`) or one of your own (`zoo.load("runs/vae")`), by what its card says."""
    import importlib

    folder = Path(name_or_folder)
    if not folder.is_dir() and (WEIGHTS / str(name_or_folder)).is_dir():
        folder = WEIGHTS / str(name_or_folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"load: {str(name_or_folder)!r} is neither a folder nor one of the models that ship: {', '.join(shipped()) or 'none'}")
    if not (folder / storage.CARD).exists() and (folder / "config.json").exists():
        from . import transformer

        return transformer.from_hugging_face(folder)
    arrays, card = storage.load_folder(folder)
    kind = card.get("kind")
    if kind not in KINDS:
        raise storage.WrongFile(f"{folder / storage.CARD}: kind is {kind!r}; it may be {', '.join(KINDS)}")
    module, name = KINDS[kind]
    return getattr(importlib.import_module(module), name).from_arrays(arrays, card, source=folder)


def shipped() -> list[str]:
    """The names of the models that ship."""
    return sorted(p.name for p in WEIGHTS.iterdir() if (p / storage.CARD).exists()) if WEIGHTS.is_dir() else []


# --- steps


@dataclasses.dataclass
class Step:
    """A named record of one step of generation, in the paper's symbols.  `replay()` runs the step again from what the record holds."""

    def replay(self) -> Any:
        """The same step computed anew; equal to the bit."""
        again = getattr(self, "_again", None)
        if again is None:
            raise ValueError(f"{type(self).__name__}: this record was read from a file or built by hand; only steps from `steps(...)` replay")
        with no_grad():
            return again()

    def arrays(self) -> dict[str, np.ndarray]:
        """Every field as an array."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self) if getattr(self, f.name) is not None}

    def to_json(self) -> dict[str, Any]:
        """Every field in JSON's own types."""
        return {name: a.tolist() for name, a in self.arrays().items()}

    def equals(self, other: Step) -> bool:
        """Whether all fields are the same to the bit (NaN equals NaN)."""
        mine, theirs = self.arrays(), other.arrays()
        return mine.keys() == theirs.keys() and all(
            np.array_equal(a, theirs[n], equal_nan=a.dtype.kind == "f") and a.dtype == theirs[n].dtype for n, a in mine.items())

    def __str__(self) -> str:
        from .inspection.terminal import draw_step

        return draw_step(self)

    def _repr_html_(self) -> str:
        from .inspection.notebook import step_html

        return step_html(self)


S = TypeVar("S", bound=Step)


def replayable(make: Callable[..., S]) -> Callable[..., S]:
    """Decorator of a method that computes one Step from its arguments alone: no hidden state, every random draw handed in."""

    @functools.wraps(make)
    def wrapped(*args: Any, **kwargs: Any) -> S:
        step = make(*args, **kwargs)
        step._again = functools.partial(make, *args, **kwargs)  # type: ignore[attr-defined]
        return step

    return wrapped


def last(steps: Iterator[S]) -> S:
    """The last record of a stream, keeping no other."""
    step = None
    for step in steps:
        pass
    if step is None:
        raise ValueError("steps: the stream was empty")
    return step
