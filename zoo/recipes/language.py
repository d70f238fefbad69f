"""How a language model is trained: settings of a run, the trainer."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.random import Generator

from ..data.text import pad
from ..language.corpus import Corpus, _rolls, _window, evaluate, line_table
from ..language.model import LanguageModel
from ..model import Config
from ..optim import AdamW, Average, Muon, Optimiser, cosine, linear_decay
from ..training import Batches, Trainer


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


def batches_of(model: LanguageModel, corpus: Corpus, training: LanguageTraining) -> Batches:
    """What `Trainer` asks for at each step."""
    n, config = int(training.batch_size), model.config
    if getattr(config, "inputs", "") == "keys":
        rolls, most = _rolls(corpus)["train"], training.transpose

        def some_pieces(step: int, rng: Generator) -> Any:
            chosen, by = rng.integers(len(rolls), size=n), rng.integers(-most, most + 1, size=n)
            return pad([_transposed(rolls[i], semitones) for i, semitones in zip(chosen, by)])

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
