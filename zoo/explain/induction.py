"""Induction (Elhage et al. 2021; Olsson et al. 2022): "... A B ... A" is continued with B, by two heads in succession.

A head of the first layer writes at B which token comes before it; a head of a later layer searches from the second A for a position whose
previous token was A, finds B and copies it.  One layer can't do this: its queries and keys know only the token at their position.
On a sequence of random tokens that is repeated, no other rule predicts better than chance.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import no_grad
from ..autograd.random import generator
from ..autograd.tracing import trace
from .circuits import check_transformer


def repeated(n: int, length: int, symbols: int, rng: Generator, *, time: int | None = None) -> np.ndarray:
    """ids (n, 2 length): random tokens, repeated once; or (n, time), repeated as often as they fit."""
    once = rng.integers(symbols, size=(n, length))
    return np.resize(once.T, (time or 2 * length, n)).T


@dataclasses.dataclass(frozen=True)
class Repeats:
    """How well a model predicts a repeated sequence of random tokens: entry i is the prediction of token i + 1."""

    right: np.ndarray  # (2 length - 1,) share of sequences
    nats: np.ndarray  # (2 length - 1,) mean cross-entropy

    @property
    def accuracy(self) -> float:
        """In the repetition, from its second token on: its first can't be predicted."""
        return float(self.right[len(self.right) // 2 + 1:].mean())


def repeat_accuracy(model: Any, length: int = 0, *, n: int = 64, seed: int = 0) -> Repeats:
    """Accuracy and cross-entropy on n repeated sequences.  length: of the part that is repeated; half the window unless given."""
    ids = _sequences(model, length, n, seed)
    with no_grad():
        logits = np.asarray(model(ids))[:, :-1]
        right = (logits.argmax(-1) == ids[:, 1:]).mean(0)
        likely = np.take_along_axis(np.asarray(ops.log_softmax(logits)), ids[:, 1:, None], -1)[..., 0]
    return Repeats(right, -likely.mean(0))


def induction_scores(model: Any, length: int = 0, *, n: int = 16, seed: int = 0) -> np.ndarray:
    """How much each head attends, at a token's second occurrence, to what followed its first: (layers, heads), from 0 to 1."""
    length = _length(model, length)
    maps = _maps(model, length, n, seed)
    queries = np.arange(length, 2 * length)
    return maps[..., queries, queries - length + 1].mean((1, -1))


def previous_token_scores(model: Any, length: int = 0, *, n: int = 16, seed: int = 0) -> np.ndarray:
    """How much each head attends to the previous token, on the same sequences: (layers, heads)."""
    maps = _maps(model, length, n, seed)
    queries = np.arange(1, maps.shape[-1])
    return maps[..., queries, queries - 1].mean((1, -1))


def _maps(model: Any, length: int, n: int, seed: int) -> np.ndarray:
    """(layers, n, heads, queries, keys)"""
    with no_grad(), trace(model, at="blocks.*.attention.softmax") as seen:
        model(_sequences(model, length, n, seed))
    return np.stack([record.value for record in seen.records])


def _sequences(model: Any, length: int, n: int, seed: int) -> np.ndarray:
    return repeated(n, _length(model, length), model.config.symbols, generator(seed))


def _length(model: Any, length: int) -> int:
    check_transformer(model)
    most = model.config.window // 2
    length = length or most
    if not 2 <= length <= most:
        raise ValueError(f"length is {length}; with a window of {model.config.window} it may go from 2 to {most}")
    return length
