"""What language models learn from, in what order, and how a run is set up: the same for transformers and recurrent networks."""

from __future__ import annotations

import dataclasses
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from ..data import music
from ..data.text import evaluation_blocks, load_text, split_text
from .model import IGNORED, LanguageModel
from .tokenizer import BytePairTokenizer, CharTokenizer

PLAIN = str.maketrans(dict(zip("‘’“”–—\t", "''\"\"-- ")) | {"…": "...", "\r": ""})  # type: ignore[arg-type]
PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A text, or one whose parts are given; or piano rolls, each (steps, 88)."""

    name: str
    text: str = ""
    parts: dict[str, str] | None = None
    rolls: dict[str, list[np.ndarray]] | None = None

    def split(self, lines: bool = False) -> dict[str, str]:
        """train, valid, test.  A running text: nine tenths, and a tenth that serves as both; lines: shuffled, then 8 : 1 : 1."""
        if self.parts is not None:
            return self.parts
        if not self.text:
            raise ValueError(f"{self.name} is music as piano rolls; a model of text can't read it (--inputs keys can)")
        if not lines:
            train, valid = split_text(self.text)
            return {"train": train, "valid": valid, "test": valid}
        every = [line for line in self.text.splitlines() if line]
        order = np.random.default_rng(0).permutation(len(every))
        a, b = int(0.8 * len(every)), int(0.9 * len(every))
        return {part: "".join(every[i] + "\n" for i in rows) for part, rows in zip(PARTS, (order[:a], order[a:b], order[b:]))}


def read_corpus(source: str | Path | None = None) -> Corpus:
    """'shakespeare' (the default), 'names', 'chorales', a UTF-8 text file, or a .json file of chords as the JSB chorales come in.

    Chorales are text (`music.to_text`) and rolls alike; the text to train on is in every key that the voices can sing.
    """
    source = str(source or "shakespeare")
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
    """A chorale as text and a whole step of line ends, so that every voice keeps its place; nothing where it is out of range."""
    try:
        return music.to_text(music.transpose(piece, semitones)) + 4 * music.END
    except ValueError:
        return ""


def _roll(piece: music.Chorale) -> np.ndarray:
    """What sounds on every quarter, (quarters, 88)."""
    return music.piano_roll([[pitch for pitch in chord if pitch >= 0] for chord in piece.pitch[::4].tolist()])


def restrict(text: str, tokenizer: CharTokenizer) -> str:
    """A text in the symbols that a tokenizer knows: quotes and dashes made plain, accents taken off, what is left over left out."""
    plain = text.translate(PLAIN)
    known = set(tokenizer.symbols)
    return "".join(c for symbol in plain for c in (symbol if symbol in known else unicodedata.normalize("NFKD", symbol)) if c in known)


def _window(model: LanguageModel, otherwise: int) -> int:
    """How many tokens the model sees at once; a recurrent network has no such bound."""
    return getattr(model.config, "window", otherwise)


# --- batches


def line_table(text: str, model: LanguageModel) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets), each (lines, longest): a line follows `config.start`, and its end is predicted too; -1 fills up the targets."""
    start = model.ids("")[-1:]
    rows = [model.tokenizer.encode(line + "\n") for line in text.splitlines() if line]
    if not rows:
        raise ValueError("text: has no lines to learn from")
    longest = min(max(map(len, rows)), _window(model, 10**9))
    targets = np.full((len(rows), longest), IGNORED)
    for row, ids in zip(targets, rows):
        row[: len(ids)] = ids[:longest]
    inputs = np.concatenate([np.broadcast_to(start, (len(rows), 1)), np.where(targets < 0, start, targets)[:, :-1]], axis=1)
    return inputs, targets


def _rolls(corpus: Corpus) -> dict[str, list[np.ndarray]]:
    if corpus.rolls is None:
        raise ValueError(f"{corpus.name} is text; a model with inputs 'keys' reads chorales or a .json file of chords")
    return corpus.rolls


# --- how good a model is


def evaluate(model: LanguageModel, corpus: Corpus, part: str = "valid", *, most: int | None = None,
             time: int | None = None) -> dict[str, float]:
    """Figures of one part, from each block's beginning on: nats per token and per character, or with keys per step.

    most: not more tokens than that; time: the length of a block, the model's window unless given.
    """
    if getattr(model.config, "inputs", "") == "keys":
        rolls = _rolls(corpus)[part]
        found = model.roll_log_likelihood(rolls)  # type: ignore[attr-defined]
        return {f"{part} nats per step": -float(found.sum()) / sum(map(len, rolls))}
    text = corpus.split(model.config.lines)[part]
    characters = len(text)
    if model.config.lines:
        inputs, targets = line_table(text, model)
        blocks: Any = ((inputs[i : i + 256], targets[i : i + 256]) for i in range(0, len(inputs), 256))
    else:
        ids = model.tokenizer.encode(text)
        if most is not None and len(ids) > most:
            characters, ids = int(characters * most / len(ids)), ids[:most]
        time = time or _window(model, 1024)
        blocks = evaluation_blocks(ids, time, max(1, 16384 // time))
    total, count = model.log_likelihood(blocks)
    return {f"{part} nats per token": -total / count, f"{part} nats per character": -total / characters}


def fit_tokenizer(corpus: Corpus, symbols: int | None, lines: bool = False) -> CharTokenizer | BytePairTokenizer:
    """Characters of the whole corpus, or with `symbols` byte pairs that the training part teaches."""
    parts = corpus.split(lines)
    return CharTokenizer("".join(parts.values())) if symbols is None else BytePairTokenizer.train(parts["train"], symbols)
