"""What language models learn from: a text, or music as text and as piano rolls, cut into a part to train on, to validate and to test."""

from __future__ import annotations

import dataclasses
import unicodedata
from pathlib import Path

import numpy as np

from ..autograd.random import generator
from ..data import music
from ..data.canaries import Canary, plant, twelve_canaries
from ..data.text import load_text, split_text
from ..model import moved
from .tokenizer import BytePairTokenizer, CharTokenizer

PLAIN = str.maketrans(dict(zip("‘’“”–—\t", "''\"\"-- ")) | {"…": "...", "\r": ""})  # type: ignore[arg-type]
PARTS = ("train", "valid", "test")
WITH_CANARIES = "+canaries"  # behind the name of a text


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A text, or one whose parts are given; or piano rolls, each (steps, 88).

    canaries: secrets to be planted as lines of the part to train on, each so many times.
    """

    name: str
    text: str = ""
    parts: dict[str, str] | None = None
    rolls: dict[str, list[np.ndarray]] | None = None
    canaries: tuple[tuple[Canary, int], ...] = ()

    @property
    def piano_rolls(self) -> dict[str, list[np.ndarray]]:
        """train, valid, test: pieces, each (steps, 88) of 0 and 1."""
        if self.rolls is None:
            raise ValueError(f"{self.name} is text; a model with inputs 'keys' reads chorales or a .json file of chords")
        return self.rolls

    def split(self, lines: bool = False) -> dict[str, str]:
        """train, valid, test.  A running text: nine tenths, and one tenth that serves as both of the others; lines: shuffled, then 8 : 1 : 1."""
        parts = self._split(lines)
        if not self.canaries:
            return parts
        return {**parts, "train": plant(parts["train"], self.canaries, generator((1, 0xCA9A)))}

    def _split(self, lines: bool) -> dict[str, str]:
        if self.parts is not None:
            return self.parts
        if not self.text:
            raise ValueError(f"{self.name} is music as piano rolls; a model of text can't read it (--inputs keys can)")
        if not lines:
            train, valid = split_text(self.text)
            return {"train": train, "valid": valid, "test": valid}
        texts = [line for line in self.text.splitlines() if line]
        order = np.random.default_rng(0).permutation(len(texts))
        a, b = int(0.8 * len(texts)), int(0.9 * len(texts))
        return {part: "".join(texts[i] + "\n" for i in rows) for part, rows in zip(PARTS, (order[:a], order[a:b], order[b:]))}


def read_corpus(source: str | Path | None = None) -> Corpus:
    """'shakespeare' (the default), 'names', 'chorales', a UTF-8 text file, or a .json file of chords as the JSB chorales come in.

    Chorales are text (`music.to_text`) and rolls alike; the text to train on is in every key that the voices can sing.
    A text with "+canaries" behind its name has twelve secrets planted among the lines to train on, two of them 0, 1, 2, 4, 10 and 30 times.
    """
    source = str(source or "shakespeare")
    if source.endswith(WITH_CANARIES):
        text = source.removesuffix(WITH_CANARIES)
        if text == "chorales" or text.endswith(".json"):
            raise ValueError(f"{source}: is music; secrets are planted in text")
        return Corpus(source, load_text(text or "shakespeare"), canaries=twelve_canaries())
    if source.endswith(".json"):
        pieces = music.load_jsb(source)
        return Corpus(Path(source).stem, rolls={part: [music.piano_roll(chords) for chords in pieces[part]] for part in PARTS})
    if source != "chorales":
        return Corpus(source, load_text(source))
    split = music.split_chorales(music.chorales())
    keys = {part: range(-5, 7) if part == "train" else (0,) for part in PARTS}
    texts = {part: "".join(_in_key(piece, key) for key in keys[part] for piece in split[part]) for part in PARTS}
    rolls = {part: [_roll(piece) for piece in split[part]] for part in PARTS}
    return Corpus(source, parts=texts, rolls=rolls)


def _in_key(piece: music.Chorale, semitones: int) -> str:
    """A chorale as text, with a newline for each voice behind it so that voices keep their places; "" where it is out of range."""
    try:
        return music.to_text(music.transpose(piece, semitones)) + 4 * music.END
    except ValueError:
        return ""


def _roll(piece: music.Chorale) -> np.ndarray:
    """What sounds on every quarter, (quarters, 88)."""
    return music.piano_roll([[pitch for pitch in chord if pitch >= 0] for chord in piece.pitch[::4].tolist()])


def restrict(text: str, tokenizer: CharTokenizer) -> str:
    """A text in the symbols that a tokenizer knows: plain quotes and dashes, no accents, and nothing of what is still unknown."""
    plain = text.translate(PLAIN)
    known = set(tokenizer.symbols)
    return "".join(c for symbol in plain for c in (symbol if symbol in known else unicodedata.normalize("NFKD", symbol)) if c in known)


def fit_tokenizer(corpus: Corpus, symbols: int | None, lines: bool = False) -> CharTokenizer | BytePairTokenizer:
    """One id for each character of the whole corpus, or with `symbols` so many byte pairs learned from the part to train on."""
    parts = corpus.split(lines)
    return CharTokenizer("".join(parts.values())) if symbols is None else BytePairTokenizer.train(parts["train"], symbols)


def __getattr__(name: str):
    if name == "IGNORED":
        return moved(__name__, name, "zoo.language.windows", (name,))
    return moved(__name__, name, "zoo.language.evaluation", ("evaluate",))
