"""Captioned digits: scenes of one to four coloured digits, drawn on the spot, each with a sentence that says what is in it.

    scenes = captioned_digits(1000, seed=0)
    scenes.pictures[0], scenes.captions[0]          # (32, 32, 3) float32 in [0, 1]; "a red seven above a small blue three"

A grammar writes the sentence.  One digit may have a place ("a large green two at the top left"), two stand in a relation, three or four
have a corner each.  Size and colour are named or left out, and what is left out is drawn at random, so a sentence is true of many
pictures.  `asked_for` says which attributes a sentence names: a picture is right if all of them are.

A tenth of the pairs of digit and colour never occurs in training (`is_held_out`): whoever draws a red four from its name has learned
what "red" and what "four" mean, and hasn't just seen one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator

from ..autograd.random import generator
from .images import mnist

SIDE = 32  # pixels of a scene's height and width
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS: dict[str, tuple[float, float, float]] = {  # red, green, blue in [0, 1]
    "red": (1.0, 0.1, 0.1), "orange": (1.0, 0.55, 0.0), "yellow": (1.0, 1.0, 0.1), "green": (0.1, 0.9, 0.2),
    "cyan": (0.1, 0.9, 1.0), "blue": (0.2, 0.3, 1.0), "pink": (1.0, 0.3, 0.9), "white": (1.0, 1.0, 1.0),
}
SIZES = {"small": 11, "large": 16}  # pixels of the square in which the digit lies
PLACES: dict[str, tuple[int, int]] = {  # row and column of a digit's centre
    "top left": (8, 8), "top right": (8, 24), "bottom left": (24, 8), "bottom right": (24, 24), "middle": (16, 16),
    "top": (8, 16), "bottom": (24, 16), "left": (16, 8), "right": (16, 24),
}
CORNERS = ("top left", "top right", "bottom left", "bottom right")
RELATIONS: dict[str, tuple[str, str]] = {  # where the first digit of the sentence is, and where the second
    "above": ("top", "bottom"), "below": ("bottom", "top"), "left of": ("left", "right"), "right of": ("right", "left"),
}
COUNTS = (0.3, 0.4, 0.15, 0.15)  # shares of scenes with one, two, three and four digits
MEAN_COUNT = sum(n * share for n, share in enumerate(COUNTS, 1))
SHIFT = 1  # a digit lies up to so many pixels off its place, in both directions
HELD_OUT_EVERY = 10  # one pair of digit and colour in so many is never trained on


class Thing(NamedTuple):
    """One digit of a scene."""

    digit: int  # 0 to 9
    colour: str
    size: str
    place: str


@dataclass(frozen=True, eq=False, repr=False)
class Scenes:
    """Pictures, what is said of each, and what is in it."""

    pictures: np.ndarray  # (n, 32, 32, 3) float32 in [0, 1]
    captions: tuple[str, ...]
    attributes: tuple[tuple[Thing, ...], ...]  # the digits of each scene, in the order of the sentence

    def __len__(self) -> int:
        return len(self.captions)

    def __repr__(self) -> str:
        return f"Scenes({len(self)} pictures of {SIDE} x {SIDE}; {self.captions[0]!r}, ...)"


def is_held_out(digit: int, colour: str) -> bool:
    """True for the pairs that no training scene has: with ten digits and eight colours eight pairs, no colour and no digit twice."""
    return (digit + 3 * list(COLOURS).index(colour)) % HELD_OUT_EVERY == 4


def captioned_digits(n: int, seed: int | tuple[int, ...] = 0, *, pairs: Literal["seen", "held out", "all"] = "seen",
                     digits: Literal["train", "test"] = "train", wording: Literal["free", "full"] = "free",
                     counts: Sequence[float] = COUNTS) -> Scenes:
    """n scenes with their captions, the same for the same arguments.

    pairs: of digit and colour.  "seen": those that may be trained on; "held out": at least one of those that may not; "all": any.
    digits: from which of MNIST's two sets of handwriting the digits are taken.
    wording: "free": words may be left out, and one scene has several sentences; "full": all is said, in the order in which one reads, so
        that a picture has a single sentence.
    counts: how likely a scene has one, two, three and four digits, relative to each other.
    Raises ValueError for n below 1 or another value of pairs, digits, wording or counts.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
        raise ValueError(f"captioned_digits: n is {n!r}; it is a whole number of at least 1")
    if pairs not in ("seen", "held out", "all"):
        raise ValueError(f"captioned_digits: pairs is {pairs!r}; it may be 'seen', 'held out' or 'all'")
    if digits not in ("train", "test"):
        raise ValueError(f"captioned_digits: digits is {digits!r}; it may be 'train' or 'test'")
    if wording not in ("free", "full"):
        raise ValueError(f"captioned_digits: wording is {wording!r}; it may be 'free' or 'full'")
    counts = tuple(counts)
    if len(counts) != len(COUNTS) or not all(0 <= share < np.inf for share in counts) or not sum(counts):
        raise ValueError(f"captioned_digits: counts is {counts!r}; it is {len(COUNTS)} numbers of at least 0, not all 0: how likely one, two, "
                         "three and four digits are")
    rng = generator(seed)
    attributes, captions = [], []
    for _ in range(n):
        things, relation = _arrange(rng, counts)
        things = _choose_pairs(things, pairs, rng)
        if wording == "full":
            things, relation = in_reading_order(things, relation)
        attributes.append(things)
        captions.append(describe(things, relation, rng if wording == "free" else None))
    return Scenes(draw(attributes, rng, digits=digits), tuple(captions), tuple(attributes))


# --- what is in a scene, and what is said of it


def _arrange(rng: Generator, counts: Sequence[float]) -> tuple[tuple[Thing, ...], str | None]:
    """One to four digits with their places; two stand in a relation."""
    count = int(rng.choice(4, p=counts if counts == COUNTS else np.divide(counts, sum(counts)))) + 1
    relation = None
    if count == 1:
        places = [list(PLACES)[rng.integers(5)]]  # a corner or the middle
    elif count == 2:
        relation = list(RELATIONS)[rng.integers(len(RELATIONS))]
        places = list(RELATIONS[relation])
    else:
        places = [CORNERS[i] for i in rng.permutation(4)[:count]]
    return tuple(Thing(int(rng.integers(10)), _any_colour(rng), list(SIZES)[rng.integers(2)], place) for place in places), relation


def _any_colour(rng: Generator) -> str:
    return list(COLOURS)[rng.integers(len(COLOURS))]


def _choose_pairs(things: tuple[Thing, ...], pairs: str, rng: Generator) -> tuple[Thing, ...]:
    """The same scene with colours drawn again where a pair isn't wanted."""
    changed = list(things)
    if pairs != "all":
        for i, thing in enumerate(things):
            while is_held_out(changed[i].digit, changed[i].colour):
                changed[i] = thing._replace(colour=_any_colour(rng))
    if pairs == "held out":
        i = int(rng.integers(len(things)))
        colour = _any_colour(rng)
        digit = next(d for d in range(10) if is_held_out(d, colour))
        changed[i] = things[i]._replace(digit=digit, colour=colour)
    return tuple(changed)


def in_reading_order(things: tuple[Thing, ...], relation: str | None) -> tuple[tuple[Thing, ...], str | None]:
    """The same scene, told from its top left."""
    inverse = {"below": "above", "right of": "left of"}
    ordered = tuple(sorted(things, key=lambda t: PLACES[t.place]))
    return ordered, relation if relation is None else inverse.get(relation, relation)


def describe(things: tuple[Thing, ...], relation: str | None, rng: Generator | None = None) -> str:
    """A sentence that is true of the scene, and says all of it.

    With rng each size is named in half of the sentences; a colour is left out in a tenth, a lone place in a third.
    """
    chance = (lambda: 0.0) if rng is None else rng.random
    named = []
    for t in things:
        words = [*([t.size] if chance() < 0.5 else []), *([t.colour] if chance() < 0.9 else []), DIGITS[t.digit]]
        named.append(" ".join(["an" if words[0][0] in "aeiou" else "a", *words]))
    if relation is not None:
        return f"{named[0]} {relation if ' ' not in relation else f'to the {relation}'} {named[1]}"
    if len(things) == 1:
        return named[0] if rng is not None and rng.random() < 1 / 3 else f"{named[0]} {_at(things[0].place)}"
    placed = [f"{name} {_at(t.place)}" for name, t in zip(named, things)]
    return f"{', '.join(placed[:-1])} and {placed[-1]}"


def _at(place: str) -> str:
    return "in the middle" if place == "middle" else f"at the {place}"


VOCABULARY = tuple(sorted({"a", "an", "at", "the", "in", "to", "of", "and", ",", "above", "below", *DIGITS, *COLOURS, *SIZES,
                           *(word for place in PLACES for word in place.split())}))


def asked_for(caption: str) -> tuple[dict[str, str | int], ...]:
    """The attributes that a caption of this grammar names, a dictionary for each digit: digit, and colour, size, place where they are said.

    Raises ValueError for a sentence that the grammar doesn't write.
    """
    words = caption.replace(",", " , ").split()
    wrong = ValueError(f"caption: {caption!r} isn't a sentence of this grammar; one is 'a red seven above a small blue three'")
    phrases: list[list[str]] = []
    for word in words:
        if word in ("a", "an"):
            phrases.append([])
        if not phrases or word not in VOCABULARY:
            raise wrong
        phrases[-1].append(word)
    things: list[dict[str, str | int]] = []
    relation = None
    for phrase in phrases:
        rest = phrase[1:]
        thing: dict[str, str | int] = {}
        for name, values in (("size", SIZES), ("colour", COLOURS)):
            if rest and rest[0] in values:
                thing[name] = rest.pop(0)
        if not rest or rest[0] not in DIGITS:
            raise wrong
        thing["digit"] = DIGITS.index(rest.pop(0))
        while rest and rest[-1] in (",", "and"):
            rest.pop()
        tail = " ".join(rest)
        if tail == "in the middle":
            thing["place"] = "middle"
        elif tail.removeprefix("at the ") in PLACES and tail.startswith("at the "):
            thing["place"] = tail.removeprefix("at the ")
        elif tail.removeprefix("to the ") in RELATIONS and not things and len(phrases) == 2:
            relation = tail.removeprefix("to the ")
        elif tail:
            raise wrong
        things.append(thing)
    if not things:
        raise wrong
    if relation is not None:
        for thing, place in zip(things, RELATIONS[relation]):
            thing["place"] = place
    return tuple(things)


# --- drawing


def draw(attributes: list[tuple[Thing, ...]], rng: Generator, *, digits: str = "train") -> np.ndarray:
    """The pictures of these scenes, (n, 32, 32, 3) float32 in [0, 1]; where two digits overlap, the brighter pixel shows."""
    by_size, rows_of = _handwriting(digits)
    pictures = np.zeros((len(attributes), SIDE, SIDE, 3), np.float32)
    for picture, things in zip(pictures, attributes):
        for thing in things:
            rows = rows_of[thing.digit]
            ink = by_size[thing.size][rows[rng.integers(len(rows))]].astype(np.float32) / 255
            colour = np.array(COLOURS[thing.colour], np.float32) * np.float32(rng.uniform(0.85, 1.0))
            side = len(ink)
            row, column = (centre - side // 2 + int(rng.integers(-SHIFT, SHIFT + 1)) for centre in PLACES[thing.place])
            row, column = (min(max(0, first), SIDE - side) for first in (row, column))
            part = picture[row : row + side, column : column + side]
            np.maximum(part, ink[:, :, None] * colour, out=part)
    return pictures


def as_scenes(digits: np.ndarray) -> np.ndarray:
    """MNIST's pictures (n, 28, 28) in [0, 1] as scenes of one large white digit in the middle: (n, 32, 32, 3) float32."""
    digits = np.asarray(digits, np.float32)
    if digits.ndim != 3 or digits.shape[1:] != (28, 28):
        raise ValueError(f"digits: shape is {digits.shape}; it is (n, 28, 28), as MNIST has them")
    side = SIZES["large"]
    weights = _area_weights(20, side)
    pictures = np.zeros((len(digits), SIDE, SIDE, 3), np.float32)
    first = SIDE // 2 - side // 2
    pictures[:, first : first + side, first : first + side] = np.minimum(1, 1.15 * (weights @ digits[:, 4:24, 4:24] @ weights.T))[..., None]
    return pictures


@functools.lru_cache(maxsize=2)
def _handwriting(digits: str) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """MNIST's digits at each size, (m, side, side) uint8, and for each digit the rows where it is found."""
    data = mnist()
    pictures, labels = (data.train, data.train_labels) if digits == "train" else (data.test, data.test_labels)
    assert labels is not None
    inner = pictures[:, 4:24, 4:24]  # LeCun et al. put each digit into 20 x 20 pixels, and these into the middle of 28 x 28 by their mass
    by_size = {}
    for size, side in SIZES.items():
        weights = _area_weights(20, side)
        by_size[size] = np.rint(255 * np.minimum(1, 1.15 * (weights @ inner @ weights.T))).astype(np.uint8)
    return by_size, [np.flatnonzero(labels == digit) for digit in range(10)]


def _area_weights(source: int, target: int) -> np.ndarray:
    """(target, source): each row the share of the source's pixels that a pixel of the target covers."""
    edges = np.linspace(0, source, target + 1)
    covered = np.minimum(edges[1:, None], np.arange(1, source + 1)) - np.maximum(edges[:-1, None], np.arange(source))
    return (np.maximum(0, covered) * target / source).astype(np.float32)
