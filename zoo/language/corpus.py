"""What language models learn from, in what order, and how a run is set up: the same for transformers and recurrent networks."""

from __future__ import annotations

import dataclasses
import unicodedata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.random import Generator

from ..data import images as data
from ..data import music
from ..model import Config
from ..optim import AdamW, Average, Muon, Optimiser, cosine, linear_decay
from ..training import Batches, Trainer
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
            train, valid = data.split_text(self.text)
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
        return Corpus(source, data.load_text(source))
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


def batches_of(model: LanguageModel, corpus: Corpus, training: LanguageTraining) -> Batches:
    """What `Trainer` asks for at each step."""
    n, config = int(training.batch_size), model.config
    if getattr(config, "inputs", "") == "keys":
        rolls, most = _rolls(corpus)["train"], training.transpose

        def some_pieces(step: int, rng: Generator) -> Any:
            chosen, by = rng.integers(len(rolls), size=n), rng.integers(-most, most + 1, size=n)
            return data.pad([_transposed(rolls[i], semitones) for i, semitones in zip(chosen, by)])

        return some_pieces
    text = corpus.split(config.lines)["train"]
    if config.lines:
        inputs, targets = line_table(text, model)

        def some_lines(step: int, rng: Generator) -> Any:
            rows = rng.integers(len(inputs), size=n)
            used = int((targets[rows] >= 0).sum(1).max())
            return inputs[rows, :used], targets[rows, :used]

        return some_lines
    ids, time = model.tokenizer.encode(text), training.window or _window(model, 64)
    if len(ids) < max(time + 1, 2 * n):
        raise ValueError(f"{corpus.name}: has {len(ids)} tokens to train on; expects at least {max(time + 1, 2 * n)} for windows of {time}")
    if not hasattr(config, "window"):
        return _in_order(ids, n, time)
    places = (len(ids) - time - 1) // config.stride + 1

    def windows(step: int, rng: Generator) -> Any:
        found = ids[config.stride * rng.integers(places, size=n)[:, None] + np.arange(time + 1)]  # (batch, time + 1)
        return found[:, :-1], found[:, 1:]

    return windows


def _transposed(roll: np.ndarray, semitones: int) -> np.ndarray:
    """A roll (steps, 88) so many keys higher; as it is where a note would leave the keyboard."""
    moved = np.roll(roll, semitones, axis=1)
    return roll if (moved[:, :semitones] if semitones > 0 else moved[:, semitones:] if semitones else roll[:, :0]).any() else moved


def _in_order(ids: np.ndarray, rows: int, time: int) -> Batches:
    """Each row reads its own part of the text, window after window: (inputs, targets, whether they begin anew).

    Each epoch cuts the windows elsewhere.
    """
    length = (len(ids) - 1) // rows
    per_epoch = max(1, (length - 1) // time)

    def windows(step: int, rng: Generator) -> Any:
        epoch, i = divmod(step, per_epoch)
        offset = int(np.random.default_rng((epoch, 0x5EED)).integers(max(1, length - per_epoch * time)))
        at = (np.arange(rows) * length + offset + i * time)[:, None] + np.arange(min(time, length) + 1)
        found = ids[np.minimum(at, len(ids) - 1)]
        return found[:, :-1], found[:, 1:], i == 0

    return windows


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
        blocks = data.evaluation_blocks(ids, time, max(1, 16384 // time))
    total, count = model.log_likelihood(blocks)
    return {f"{part} nats per token": -total / count, f"{part} nats per character": -total / characters}


# --- a run


@dataclasses.dataclass(frozen=True)
class LanguageTraining(Config):
    steps: int = 2000
    batch_size: int = 12
    transpose: int = 0  # piano rolls: each is moved by up to so many semitones, up or down
    window: int = 0  # tokens of a training window; 0: the model's window, or 64 where it has none
    optimiser: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    muon_lr: float = 0.02
    schedule: Literal["cosine", "linear"] = "cosine"
    warm_up: int = 100  # steps
    floor: float = 0.1  # the last learning rate as a share of the first
    betas: tuple[float, ...] = (0.9, 0.99)
    weight_decay: float = 0.1  # of matrices; gains and biases never decay
    clip: float = 1.0  # greatest norm of the gradient
    average: float = 0.0  # decay of the averaged weights that are evaluated and saved; 0 for none
    evaluate_every: int = 500  # steps
    evaluate_tokens: int = 120_000  # how much of the validation text


def make_trainer(model: LanguageModel, corpus: Corpus, training: LanguageTraining, *, seed: int = 0, folder: Any = None,
                 resume: bool = False, minutes: float | None = None) -> Trainer:
    t = training
    shared: dict[str, Any] = {"betas": (t.betas[0], t.betas[1]), "weight_decay": t.weight_decay, "clip": t.clip}
    parameters = model.named_parameters()
    optimiser: Optimiser
    if t.optimiser == "muon":
        matrices = [p for name, p in parameters.items() if p.ndim == 2 and name.startswith("blocks.")]
        if not matrices:
            raise ValueError("optimiser is 'muon', which moves the matrices of a transformer's blocks; this model takes 'adamw'")
        optimiser = Muon(parameters, t.lr, matrices=matrices, muon_lr=t.muon_lr, **shared)
    else:
        optimiser = AdamW(parameters, t.lr, **shared)
    shape = cosine if t.schedule == "cosine" else linear_decay
    return Trainer(
        model, model.loss, batches_of(model, corpus, t), optimiser, steps=t.steps, schedule=shape(t.steps, warmup=t.warm_up, floor=t.floor),
        seed=seed, average=Average(parameters.values(), t.average) if t.average else None, folder=folder, resume=resume, minutes=minutes,
        evaluate=lambda m: evaluate(m, corpus, most=t.evaluate_tokens), evaluate_every=t.evaluate_every)


def fit_tokenizer(corpus: Corpus, symbols: int | None, lines: bool = False) -> CharTokenizer | BytePairTokenizer:
    """Characters of the whole corpus, or with `symbols` byte pairs that the training part teaches."""
    parts = corpus.split(lines)
    return CharTokenizer("".join(parts.values())) if symbols is None else BytePairTokenizer.train(parts["train"], symbols)
