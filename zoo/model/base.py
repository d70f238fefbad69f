"""What every model can do: be built from a configuration, saved to a folder, loaded from it, and summed up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from .. import storage
from ..autograd import no_grad
from ..autograd.random import generator
from ..autograd.runtime import ahead
from ..autograd.tracing import trace
from ..drawing.summary import Row, Summary
from ..drawing.words import counted
from ..nn import Module
from .config import Config
from .steps import last

M = TypeVar("M", bound="Model")
V = TypeVar("V")


class Model(Module):
    """Base of every model.

    A subclass sets `kind` (its name on a card) and `Config`, is built by `cls(config, rng=rng)`, and defines `loss(batch, rng)` for
    training, `steps(...)`, which yields records of a generation, and `sample` or `generate`, which returns the result alone.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[Config]]
    config: Any
    card: dict[str, Any]

    @classmethod
    def new(cls: type[M], *, seed: int = 0, **fields: Any) -> M:
        """A model with fresh weights: Model.new(latent=20, seed=0)."""
        return cls(cls.Config.make(**fields), rng=generator(seed))

    def __init__(self, config: Any, *, rng: np.random.Generator):
        self.config = config
        ahead.expect(getattr(self, "kind", ""))

    def extras(self) -> dict[str, Any]:
        """More entries for the card, such as a tokenizer; `restore_extras` reads them back."""
        return {}

    def restore_extras(self, card: dict[str, Any]) -> None:
        pass

    def save(self, folder: str | Path, *, half: bool = False, **facts: Any) -> None:
        """Write `model.safetensors` and `card.json` to a folder; facts (command, seed, minutes, figures) become entries of the card.

        Raises ValueError, and writes nothing, where a weight isn't finite.
        half: store weights as float16 (11 significant bits) in half the space; `load` converts them back to float32.
        """
        self.check_finite()
        card = {"kind": self.kind, "version": storage.VERSION, "configuration": self.config.to_dict(), "parameters": self.num_parameters,
                **self.extras(), **facts}
        storage.save_folder(folder, halved(self.arrays()) if half else self.arrays(), card)

    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """As `Module.load_arrays`, also from a file written before a module's attribute was renamed: {old name: today's} is its `formerly`."""
        super().load_arrays(self._renamed(arrays))

    def check_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Raise ValueError unless these are the names and shapes that `load_arrays` takes."""
        storage.check_shapes(self._renamed(shapes), {name: a.shape for name, a in self.arrays().items()})

    def check_finite(self) -> None:
        """Raise ValueError that names an array with a NaN or an infinity in it."""
        for name, a in self.arrays().items():
            if not np.isfinite(a).all():
                raise ValueError(f"{name} holds numbers that aren't finite, as a run that broke or a damaged file leaves")

    def __repr__(self) -> str:
        """The class, its size, and the fields that differ from their defaults."""
        fields = [f"{f.name}={getattr(self.config, f.name)!r}" for f in dataclasses.fields(self.config)
                  if getattr(self.config, f.name) != f.default]
        return f"<{type(self).__name__}: {counted(self.num_parameters, 'parameter')}{''.join(f', {field}' for field in fields)}>"

    def summary(self, run: Callable[[], Any] | None = None) -> Summary:
        """Every module with parameters: its type, the shape of its output, how many parameters it has.

        run: what to compute to learn the shapes, such as `lambda: model.loss(x, rng)`; one generation unless given.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        with no_grad(), trace(self) as seen:
            (run or self.example)()
        for record in seen.records:
            parts = record.short.split(".")
            for i in range(len(parts)):
                shapes[".".join(parts[:i])] = np.shape(record.value)
        rows = []
        counted: set[int] = set()
        for path, module in self.modules():
            direct = [p for name, p in module.named_parameters().items() if "." not in name and id(p) not in counted]
            counted |= {id(p) for p in direct}
            if direct or module.quantised_numbers:
                rows.append(Row(path, type(module).__name__, shapes.get(path), sum(p.size for p in direct) + module.quantised_numbers))
        return Summary(repr(self)[1:-1], rows)

    def example(self) -> None:
        """Run the model once, on anything: one generation, where it has steps."""
        if hasattr(self, "steps"):
            last(self.steps())

    def _renamed(self, named: dict[str, V]) -> dict[str, V]:
        for path, module in self.modules():
            for old, new in getattr(module, "formerly", {}).items():
                before, now = (f"{path}.{name}.".lstrip(".") for name in (old, new))
                named = {now + name.removeprefix(before) if name.startswith(before) else name: value for name, value in named.items()}
        return named

    @classmethod
    def unfilled(cls: type[M], config: Any, shapes: Mapping[str, tuple[int, ...]]) -> M:
        """A model whose arrays are yet to be filled with those of a file, which have these names and shapes."""
        return cls(config, rng=Unfilled(config, shapes))  # type: ignore[arg-type]

    @classmethod
    def from_folder(cls: type[M], folder: str | Path) -> M:
        arrays, card = storage.load_folder(folder)
        return cls.from_arrays(arrays, card, source=folder)

    @classmethod
    def judge_from(cls: type[M], name_or_folder: M | str | Path) -> M:
        """A judge of this kind: one of your own by its folder, one that ships by its name, or the model itself.

        Raises FileNotFoundError where there is none, ValueError for one of another kind.
        """
        if isinstance(name_or_folder, cls):
            return name_or_folder
        if not isinstance(name_or_folder, (str, Path)):
            raise ValueError(f"judge: is {storage.shorten(name_or_folder)}; it is a {cls.kind}: its folder, or the name of one that ships")
        folder = Path(name_or_folder) if storage.is_folder(name_or_folder) else storage.SHIPPED / name_or_folder
        if not storage.is_folder(folder):
            raise FileNotFoundError(f"judge: {storage.shorten(str(name_or_folder), 200)} is neither a folder nor a {cls.kind} that ships")
        arrays, card = storage.load_folder(folder)
        if card.get("kind") != cls.kind:
            raise ValueError(f"judge: {str(name_or_folder)!r} is of kind {card.get('kind')!r}; it must be a {cls.kind}")
        return cls.from_arrays(arrays, card, source=folder)

    @classmethod
    def from_arrays(cls: type[M], arrays: Mapping[str, np.ndarray], card: dict[str, Any], source: Any = "weights") -> M:
        """The model of a card, with these weights.  Raises WrongFile, before it allocates more than the weights take, where they don't fit."""
        try:
            settings = card.get("configuration", {})
            if not isinstance(settings, dict):
                raise ValueError(f"configuration is {storage.shorten(settings)}; it is an object of fields")
            config = cls.Config.make(**settings)
            model = cls.unfilled(config, storage.shapes_of(arrays))
            model.restore_extras(card)
            model.check_shapes(storage.shapes_of(arrays))
            model.load_arrays(dict(arrays))
            model.check_finite()
        except storage.WrongFile as e:
            raise storage.WrongFile(str(e) if str(source) in str(e) else f"{source}: {e}") from e
        except FileNotFoundError as e:  # another model or file that the card names
            raise FileNotFoundError(f"{source}: {e}") from e
        except (ValueError, TypeError, KeyError, ArithmeticError, AttributeError, IndexError, RecursionError, MemoryError, FloatingPointError) as e:
            raise storage.WrongFile(f"{source}: {e or type(e).__name__}") from e
        model.card = card
        return model.eval()  # type: ignore[return-value]


class Unfilled:
    """Stands in for a Generator where a model is built only to be filled from a file: what it draws is 0.

    A card's configuration may ask for any size.  So no integer in it may exceed the numbers in the file (or ten million, for what
    takes no memory, such as a long window), no more layers may be asked for than there are arrays, and no more may be drawn than about twice what
    the file holds: a larger model is refused early.
    """

    def __init__(self, config: Any, shapes: Mapping[str, tuple[int, ...]]):
        self.numbers = sum(math.prod(shape) for shape in shapes.values())
        self.numbers_left, self.draws_left = 2 * self.numbers + 1_000_000, 8 * len(shapes) + 100  # what is near is told by names and shapes
        for f in dataclasses.fields(config):
            value = getattr(config, f.name)
            largest = max((n for n in (value if isinstance(value, tuple) else (value,)) if isinstance(n, int)), default=0)
            if f.name.endswith(("layers", "blocks", "depth")) and largest > len(shapes) + 100:
                raise ValueError(f"{f.name} is {storage.shorten(value)}, but the weights are {counted(len(shapes), 'array')} in all")
            if largest > max(self.numbers, 10_000_000):
                raise ValueError(f"{f.name} is {storage.shorten(value)}, but the weights have {self.numbers:,} numbers in all")

    def standard_normal(self, size: Any = None) -> np.ndarray:
        shape = size if isinstance(size, tuple) else () if size is None else (size,)
        self.numbers_left, self.draws_left = self.numbers_left - math.prod(shape), self.draws_left - 1
        if min(self.numbers_left, self.draws_left) < 0:
            raise ValueError(f"the configuration describes a larger model than the weights are, which have {self.numbers:,} numbers")
        return np.broadcast_to(np.float32(0), shape)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> np.ndarray:
        return self.standard_normal(size)


def halved(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """float32 arrays as float16.  Raises ValueError where a number is beyond float16's range."""
    with np.errstate(over="ignore"):
        halves = {name: a.astype(np.float16) if a.dtype == np.float32 else a for name, a in arrays.items()}
    too_large = [name for name, a in halves.items() if a.dtype == np.float16 and not np.isfinite(a).all()]
    if too_large:
        raise ValueError(f"half: {too_large[0]!r} holds numbers beyond 65,504, the largest float16")
    return halves
