"""Letters and signs from their names: the flow of `words.py` on `data.glyphs`, and a judge that reads base and marks.

    "latin small letter o with diaeresis" --text encoder--> vectors --flow--> a picture of 32 x 32

Unicode's names are put together from parts, as the characters are, so here a model can be asked for what nobody drew: a base and marks that
it never saw together.  A prompt may begin with a style ("bold serif latin small letter a"); without one, any of the twelve may come.

What looks the same has several names: a Latin, a Greek and a Cyrillic capital A are one outline.  No judge of pictures can tell them apart,
so bases (and marks on them) that any font draws pixel by pixel alike count as one: `lookalikes`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import Tensor, no_grad
from ..autograd.random import generator
from ..data import glyphs as fonts
from ..model import Config, Count, Decay, Model, check_images
from ..nn import Linear, dropout, evaluating
from ..training import minibatches
from .nearest import nearest_captions
from .pictures import SQUARE, PictureEncoder
from .words import Words, WordsConfig

if TYPE_CHECKING:
    from ..model.fields import GlyphJudgeFields, GlyphsFields

Key = TypeVar("Key", bound=Hashable)
JOINT = " | "  # between the names of bases that look the same


@dataclasses.dataclass(frozen=True)
class GlyphsConfig(WordsConfig):
    image: tuple[Count, ...] = (fonts.SIDE, fonts.SIDE)
    length: Count = fonts.MOST_WORDS + 1


class Glyphs(Words):
    """`zoo.load("glyphs").sample(prompt=["LATIN SMALL LETTER O WITH DIAERESIS"], seed=0)` -> (n, 32, 32)."""

    kind = "glyphs"
    Config = GlyphsConfig
    config: GlyphsConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[GlyphsFields]) -> Self: ...  # type: ignore[override]

    @classmethod
    def for_data(cls, data: fonts.GlyphPictures, *, seed: int = 0, **fields: Any) -> Glyphs:  # type: ignore[override]
        """A fresh model with the words of these names."""
        return cls.new(seed=seed, **{"vocabulary": fonts.vocabulary(data.captions), **fields})

    def evaluate(self, data: fonts.GlyphPictures | None = None, *, seed: int = 0, n: int = 1000, judge: Any = None, **settings) -> dict[str, float]:  # type: ignore[override]
        """The shares that `evaluate` explains, of all styles that data has.  judge: a glyph judge, its folder or its name."""
        styles = fonts.STYLES if data is None else dict.fromkeys(_style(caption).strip() for caption in data.captions)
        return evaluate(self, GlyphJudge.judge_from(judge), n, seed, data=fonts.glyphs("all", styles), **settings)


# --- the judge


def lookalikes(data: fonts.GlyphPictures) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """What is told apart by its looks: {base: its class}, and {(class of the base, marks): the marks that count}.

    Bases belong to one class where some style draws both, without marks, pixel by pixel alike; the class is named after all of them.  Marks are
    the same on a class of bases where the whole characters are drawn alike.
    """
    alone: dict[tuple[str, bytes], list[str]] = {}
    for picture, caption, character in zip(data.pictures, data.captions, data.characters):
        name = _named(character)
        if not name.marks:
            alone.setdefault((_style(caption), picture.tobytes()), []).append(name.base)
    names = [_named(character) for character in data.characters]
    base_class = {base: JOINT.join(sorted(group)) for group in _groups({n.base for n in names}, alone.values()) for base in group}
    marked: dict[tuple[str, str, bytes], list[tuple[str, str]]] = {}
    for picture, caption, name in zip(data.pictures, data.captions, names):
        looks = base_class[name.base]
        marked.setdefault((_style(caption), looks, picture.tobytes()), []).append((looks, name.marks))
    pairs = {(base_class[n.base], n.marks) for n in names}
    marks = {pair: min((m for _, m in group), key=lambda m: (len(m), m)) for group in _groups(pairs, marked.values()) for pair in group}
    return base_class, marks


def _groups(members: Iterable[Key], together: Iterable[Sequence[Key]]) -> list[list[Key]]:
    """The members, those that stand together anywhere in one group."""
    leader = {member: member for member in members}

    def first(member: Key) -> Key:
        while leader[member] != member:
            leader[member] = member = leader[leader[member]]
        return member

    for alike in together:
        for member in alike[1:]:
            leader[first(member)] = first(alike[0])
    groups: dict[Key, list[Key]] = {}
    for member in leader:
        groups.setdefault(first(member), []).append(member)
    return list(groups.values())


def _named(character: str) -> fonts.Name:
    name = fonts.name_of(character)
    assert name is not None  # the data has those with names alone
    return name


def _style(caption: str) -> str:
    return caption.removesuffix(fonts.without_style(caption))


@dataclasses.dataclass(frozen=True)
class GlyphJudgeConfig(Config):
    image: tuple[Count, ...] = (fonts.SIDE, fonts.SIDE)
    bases: tuple[str, ...] = ()  # that it tells apart: the names of one class with " | " between
    marks: tuple[str, ...] = ()
    channels: Count = 32
    features: Count = 256
    dropout: Decay = 0.2

    def check(self) -> None:
        """ValueError where settings don't go together."""
        for name in ("bases", "marks"):
            if not getattr(self, name):
                raise ValueError(f"GlyphJudgeConfig: {name} is empty; it has the names that are told apart")


class GlyphJudge(Model):
    """Convolutions with batch norm, and at the end logits of bases and of marks."""

    kind = "glyph_judge"
    Config = GlyphJudgeConfig
    config: GlyphJudgeConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[GlyphJudgeFields]) -> Self: ...  # type: ignore[override]

    pictures: PictureEncoder
    dense: Linear
    output: Linear

    @classmethod
    def for_data(cls, data: fonts.GlyphPictures, *, seed: int = 0, **fields: Any) -> GlyphJudge:
        """A fresh judge of the bases and marks of these characters."""
        bases, marks = lookalikes(data)
        return cls.new(seed=seed, **{"bases": sorted(set(bases.values())), "marks": sorted(set(marks.values())), **fields})

    def __init__(self, config: GlyphJudgeConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        config.check()
        c = config
        self.pictures = PictureEncoder(1, c.channels, rng=rng)
        inputs = 2 * c.channels * (c.image[0] // SQUARE) * (c.image[1] // SQUARE)
        self.dense = Linear(inputs, c.features, rng=rng, activation="relu", scale=math.sqrt(2))
        self.output = Linear(c.features, len(c.bases) + len(c.marks), rng=rng)

    def __call__(self, x, rng: Generator | None = None):
        """x (n, 32, 32) in [0, 1] -> logits of bases and of marks: (n, bases), (n, marks)."""
        x = self.pictures(x.reshape((*x.shape, 1)))
        return ops.split(self.output(self.dense(dropout(x.reshape((len(x), -1)), self.config.dropout, rng))), [len(self.config.bases)], axis=-1)

    def loss(self, batch, rng: Generator) -> dict[str, Tensor]:
        """Cross entropy of bases and of marks: batch is (pictures, numbers of bases, numbers of marks)."""
        x, bases, marks = batch
        x = check_images(x, self.config.image)
        noise = np.float32(0.1) * rng.random((len(x), 1, 1), np.float32) * rng.standard_normal(x.shape, np.float32)
        of_bases, of_marks = self(np.clip(x + noise, 0, 1), rng)
        losses = ops.cross_entropy(of_bases, bases), ops.cross_entropy(of_marks, marks)
        return {"loss": losses[0] + losses[1], "bases": losses[0], "marks": losses[1]}

    def evaluate(self, data: fonts.GlyphPictures | None = None, *, seed: int = 0, n: int = 1000) -> dict[str, float]:
        """Shares of n characters of the font that the judge itself reads right, and of their nearest neighbours in training."""
        return evaluate(None, self, n, seed, data=data)

    def example(self) -> None:
        """Run the model once, on a blank picture."""
        self.see(np.zeros((1, *self.config.image), np.float32))

    def see(self, pictures, batch: int = 500) -> list[tuple[str, str]]:
        """The class of the base and the marks of each picture (n, 32, 32) in [0, 1]."""
        x = check_images(pictures, self.config.image)
        seen = []
        with no_grad(), evaluating(self):
            for part in minibatches(len(x), batch):
                bases, marks = (np.asarray(logits.data).argmax(-1) for logits in self(Tensor(x[part])))
                seen += [(self.config.bases[b], self.config.marks[m]) for b, m in zip(bases, marks)]
        return seen

    def judge(self, pictures, names: Sequence[tuple[str, str]]) -> dict[str, float]:
        """Shares of pictures whose base, whose marks, and whose base and marks are those of `names` (`names_of`)."""
        if len(pictures) != len(names):
            raise ValueError(f"judge: there are {len(pictures)} pictures and {len(names)} names")
        right = np.array([(base == b, marks == m) for (base, marks), (b, m) in zip(self.see(pictures), names)])
        return {"base and marks": float(right.all(1).mean()), "base": float(right[:, 0].mean()), "marks": float(right[:, 1].mean())}

    def names_of(self, characters: Sequence[str], marks: dict[tuple[str, str], str]) -> list[tuple[str, str]]:
        """The class of the base and the marks of each character.  marks: of `lookalikes`.  ValueError for a character that it doesn't tell apart."""
        of_base = {base: looks for looks in self.config.bases for base in looks.split(JOINT)}
        names = []
        for character in characters:
            name = fonts.name_of(character)
            if name is None or name.base not in of_base or (of_base[name.base], name.marks) not in marks:
                raise ValueError(f"names_of: {character!r} is none of the characters that this judge was trained on")
            names.append((of_base[name.base], marks[of_base[name.base], name.marks]))
        return names


def evaluate(model: Glyphs | None, judge: GlyphJudge, n: int = 1000, seed: int = 0, *, data: fonts.GlyphPictures | None = None,
             **settings) -> dict[str, float]:
    """Shares of base and marks right, of names in training and of held-out ones, n of each; of samples, of the font and of the nearest neighbour.

    The nearest neighbour is the training picture whose caption is nearest to the one that is asked for.  data: all glyphs, "seen" and
    "held out", that are drawn from; the fonts' unless given.  model None: the two other rows alone.  settings are those of `steps`.
    """
    everything = fonts.glyphs("all") if data is None else data
    _, marks = lookalikes(everything)
    held_out = np.array([fonts.is_held_out(_named(c)) for c in everything.characters])
    parts = [{getattr(_named(c), part) for c, out in zip(everything.characters, held_out) if not out} for part in ("base", "marks")]
    known = np.array([_named(c).base in parts[0] and _named(c).marks in parts[1] for c in everything.characters])
    training = np.flatnonzero(~held_out)
    figures: dict[str, float] = {}
    for split, rows in (("in distribution", training), ("held out", np.flatnonzero(held_out & known))):
        rows = generator((seed, 0x617)).permutation(rows)[:n]
        captions = [everything.captions[i] for i in rows]
        names = judge.names_of([everything.characters[i] for i in rows], marks)
        nearest = training[nearest_captions(captions, [everything.captions[i] for i in training])]
        pictures = {"floor": everything.pictures[rows], "nearest neighbour": everything.pictures[nearest]}
        if model is not None:
            pictures = {"samples": model.sample(prompt=captions, seed=seed, **settings), **pictures}
        for name, x in pictures.items():
            figures |= {f"{name}, {part}, {split}": share for part, share in judge.judge(x, names).items()}
    return figures
