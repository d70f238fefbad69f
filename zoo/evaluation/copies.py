"""How much of the training data comes out again: pictures nearest to training pictures, passages of text that are copied word for word.

Every figure has one beside it of data that was never trained on, since a digit is like other digits without being a copy of any.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from ..training import minibatches
from .distances import nearest_distances, squared_distances

NEIGHBOURS = 50  # of a picture among the training pictures (Carlini et al. 2023, section 5.1)
COPY = 0.5  # a picture counts as a copy if its nearest is nearer than this share of the mean distance to these


@dataclasses.dataclass(frozen=True, eq=False)
class PictureCopies:
    """What `picture_copies` found; row by row of the samples."""

    distance: np.ndarray  # (n,) Euclidean, to the nearest training picture
    nearest: np.ndarray  # (n,) its number
    ratio: np.ndarray  # (n,) distance / mean distance to the NEIGHBOURS nearest

    @property
    def share(self) -> float:
        """Share of samples that count as copies."""
        return float((self.ratio < COPY).mean())


def picture_copies(samples: np.ndarray, train: np.ndarray, chunk: int = 250) -> PictureCopies:
    """How near each of samples (n, ...) is to the training pictures (m, ...), measured by how near these lie to one another there.

    An ordinary digit has many training pictures at about the same distance, a copy one that is far nearer than the next.
    Raises ValueError for fewer than 51 training pictures.
    """
    samples, train = samples.reshape(len(samples), -1), train.reshape(len(train), -1)
    if len(train) <= NEIGHBOURS:
        raise ValueError(f"picture_copies: train has {len(train)} pictures; more than {NEIGHBOURS} are needed")
    distance, nearest = nearest_distances(samples, train)
    means = []
    for part in minibatches(len(samples), chunk):
        squares = np.partition(squared_distances(samples[part], train), NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        means.append(np.sqrt(np.maximum(squares, 0)).mean(1))
    return PictureCopies(distance, nearest, distance / np.maximum(np.concatenate(means), 1e-12))


class Passage(NamedTuple):
    """A piece of a generated text that stands in the training text."""

    text: str
    at: int  # where it begins in the generated text
    source: int  # where it begins in the training text


def longest_passages(text: str, train: str, n: int = 3) -> list[Passage]:
    """The n longest pieces of `text` that stand in `train` character by character, longest first; they don't overlap."""
    passages: list[Passage] = []
    pieces = [(0, text)]
    while pieces and len(passages) < n:
        found = [(_longest(piece, train), begin, piece) for begin, piece in pieces]
        (length, at, source), begin, piece = max(found, key=lambda f: f[0][0])
        if not length:
            break
        passages.append(Passage(piece[at : at + length], begin + at, source))
        pieces.remove((begin, piece))
        pieces += [(begin, piece[:at]), (begin + at + length, piece[at + length :])]
    return passages


def _longest(text: str, train: str) -> tuple[int, int, int]:
    """Length, place in text and place in train of the longest common piece, by halving: what has a common piece of n has one of n - 1."""
    best, low, high = (0, 0, 0), 0, min(len(text), len(train))
    while low < high:
        length = (low + high + 1) // 2
        common = _common(text, train, length)
        if common is None:
            high = length - 1
        else:
            best, low = (length, *common), length
    return best


def _common(text: str, train: str, length: int) -> tuple[int, int] | None:
    """Where a piece of this length begins in both; None if there is none."""
    places = {text[i : i + length]: i for i in range(len(text) - length, -1, -1)}
    hashes = np.unique(rolling_hashes(text, length))
    for source in np.flatnonzero(np.isin(rolling_hashes(train, length), hashes)).tolist():  # few, but some by chance
        at = places.get(train[source : source + length])
        if at is not None:
            return at, source
    return None


def rolling_hashes(text: str, length: int) -> np.ndarray:
    """A number for every piece of this length, equal for equal pieces (Karp & Rabin 1987): (len(text) - length + 1,) uint64."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    if len(codes) < length:
        return np.zeros(0, np.uint64)
    total, rest = None, length
    block, size, offset = codes, 1, 0  # the hash of pieces of `size`, from which longer ones are put together by doubling
    power = 0x9E3779B97F4A7C15  # odd, so that it can be undone: base^size, modulo 2^64 as all of this
    while rest:
        if rest & 1:
            part = block[offset : offset + len(codes) - length + 1]
            total = part.copy() if total is None else total * np.uint64(power) + part
            offset += size
        rest >>= 1
        if rest:
            block = block[: len(block) - size] * np.uint64(power) + block[size:]
            size, power = 2 * size, power * power % 2**64
    assert total is not None
    return total


def seen_share(text: str, train: str, n: int = 8) -> float:
    """Share of the pieces of n words of `text` that stand in `train`, as `str.split` cuts words; NaN for a text of fewer words."""
    words, known = text.split(), train.split()
    pieces = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not pieces:
        return float("nan")
    wanted = set(pieces)
    there = {piece for i in range(len(known) - n + 1) if (piece := tuple(known[i : i + n])) in wanted}
    return float(np.mean([piece in there for piece in pieces]))
