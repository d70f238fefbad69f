"""How well a language model has memorised a secret that was planted in its training text: exposure (Carlini et al. 2019).

    exposure(model, canary).bits, reads_out(model, canary)      # of a canary of `zoo.data.canaries`

A secret is drawn from a known space R.  If the model ranks it as the r-th likeliest of all secrets in R, its exposure is log2 |R| - log2 r bits:
what the model saves an attacker of the search.  A secret that was never planted has about 1 bit on average, the first of a million 20 bits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import autograd as ops
from ..autograd import no_grad
from ..autograd.random import generator
from ..data.canaries import Canary, draw_canary, draw_secret, plant
from ..model.steps import last
from ..nn import evaluating

__all__ = ["Canary", "Exposure", "draw_canary", "exposure", "log_likelihoods", "plant", "reads_out"]

ROWS = 256  # that are computed at once


@dataclasses.dataclass(frozen=True)
class Exposure:
    """How far a model gives a secret away."""

    bits: float  # from 0 to log2 of the space
    rank: float  # of the secret among all, 1 for the likeliest
    is_exact: bool  # else from a sample and a skew normal distribution


def exposure(model: Any, canary: Canary, *, most: int = 5_000, samples: int = 1000, seed: int = 0) -> Exposure:
    """The exposure of a canary in a language model.

    Exact where that takes at most `most` beginnings of secrets at any place: only those are continued that are still as likely as the whole
    secret, since each further character makes them less likely.  Otherwise the rank is far from 1, and it is estimated from `samples` random
    secrets: their log-likelihoods are taken as skew normal (Carlini et al. 2019, section 4.3).
    """
    with evaluating(model), no_grad():
        target = _target(model, canary)
        rank = _rank(model, canary, target, most)
        if rank is not None:
            return Exposure(math.log2(canary.space / rank), rank, True)
        rng = generator((seed, 0xCA9A))
        others = log_likelihoods(model, canary.before, [draw_secret(canary.form, rng) for _ in range(samples)])
    share = min(1.0, max(_upper_tail(others, target), 1 / canary.space))
    return Exposure(-math.log2(share), share * canary.space, False)


def log_likelihoods(model: Any, before: str, secrets: Sequence[str]) -> np.ndarray:
    """ln p(secret | before) of secrets of equal length, (n,)."""
    given = model.tokenizer.encode("\n" + before)
    ids = np.array([model.tokenizer.encode(secret) for secret in secrets])
    rows = np.concatenate([np.tile(given, (len(ids), 1)), ids], axis=1)
    values = []
    for i in range(0, len(rows), ROWS):
        part = rows[i : i + ROWS]
        nats = ops.cross_entropy(model(part[:, :-1]), part[:, 1:], reduction="none")
        values.append(-np.asarray(nats, np.float64)[:, len(given) - 1 :].sum(1))
    return np.concatenate(values)


def _next_digits(model: Any, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """ln p of each of the ids `wanted` as the next token of each row, (n, len(wanted))."""
    values = []
    for i in range(0, len(rows), ROWS):
        logits = np.asarray(model(rows[i : i + ROWS]), np.float64)[:, -1]
        top = logits.max(1, keepdims=True)
        values.append((logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True)))[:, wanted])
    return np.concatenate(values)


def _target(model: Any, canary: Canary) -> float:
    """ln p of the secret, in the same arithmetic as that of the search: character by character."""
    encode, total, rows = model.tokenizer.encode, 0.0, model.tokenizer.encode("\n" + canary.before)[None]
    for character in canary.secret:
        token = encode(character)
        total += float(_next_digits(model, rows, token)[0, 0])
        rows = np.concatenate([rows, token[None]], axis=1)
    return total


def _rank(model: Any, canary: Canary, target: float, most: int) -> int | None:
    """How many secrets are as likely as the target at least; None where too many beginnings are."""
    encode = model.tokenizer.encode
    rows, log_p = encode("\n" + canary.before)[None], np.zeros(1)
    least = target - 1e-5 * abs(target)  # rows of another number are computed with another rounding
    for place in canary.form:
        choices = np.concatenate([encode(c) for c in ("0123456789" if place == "#" else place)])
        total = log_p[:, None] + _next_digits(model, rows, choices)
        row, choice = np.nonzero(total >= least)
        if len(row) > most:
            return None
        rows, log_p = np.concatenate([rows[row], choices[choice][:, None]], axis=1), total[row, choice]
    return max(1, len(rows))


def _upper_tail(values: np.ndarray, target: float) -> float:
    """The share of a skew normal distribution, fitted by its moments to values, that lies at or above the target."""
    from scipy.stats import skew, skewnorm

    g = float(np.clip(skew(values), -0.99, 0.99)) if values.std() > 1e-6 else 0.0  # a skew normal's goes up to 0.995; of equal values it is none
    c = abs(g) ** (2 / 3)
    delta = math.copysign(math.sqrt(math.pi / 2 * c / (c + ((4 - math.pi) / 2) ** (2 / 3))), g)
    shape = delta / math.sqrt(1 - delta**2)
    scale = max(float(values.std()), 1e-9) / math.sqrt(1 - 2 * delta**2 / math.pi)
    place = float(values.mean()) - scale * delta * math.sqrt(2 / math.pi)
    return float(skewnorm.sf(target, shape, place, scale))


def reads_out(model: Any, canary: Canary, beams: int = 1) -> bool:
    """Whether the model completes the sentence with the secret: greedily, or in one of the texts that a beam search ends with."""
    texts = last(model.beam_steps("\n" + canary.before, len(canary.secret), beams=beams)).texts
    return any(text.startswith(canary.secret) for text in texts)
