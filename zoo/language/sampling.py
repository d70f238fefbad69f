"""From logits to the next token: softmax, the filters that narrow it down, and the draw."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..autograd.runtime.native import exp, reals
from ..autograd.runtime.switch import kernels_enabled
from ..autograd.runtime.tasks import part, span, task, word_at

float64 = np.float64
MANY_SYMBOLS = 1 << 13  # from which on probabilities are computed by a kernel
CHUNK = 1 << 10  # symbols whose exponentials are added up first


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How logits become the probabilities that a token is drawn from: penalties first, then in this order; None leaves a filter out.

    temperature: logits are divided by it (0 or more); 0 takes the most likely token.
    top_k: only the k most likely.  top_p: only the most likely whose probabilities add up to p (Holtzman et al. 2020).
    min_p: only those at least min_p times as likely as the most likely one (Nguyen et al. 2024).

    repetition_penalty: positive logits of tokens of the text, prompt included, are divided by it, negative ones multiplied
    (Keskar et al. 2019, section 4.1).  presence_penalty is subtracted from the logits of tokens that were written, frequency_penalty as
    often as they were; tokens of the prompt don't count for these two.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def __post_init__(self):
        t, k, p, m = self.temperature, self.top_k, self.top_p, self.min_p
        if not (math.isfinite(t) and t >= 0):
            raise ValueError(f"temperature is {t}; it is at least 0, and 0 takes the most likely token")
        if k is not None and (isinstance(k, bool) or int(k) != k or k < 1):
            raise ValueError(f"top_k is {k}; it is a whole number of at least 1, or None")
        if p is not None and not 0 < p <= 1:
            raise ValueError(f"top_p is {p}; it goes from above 0 to 1, or is None")
        if m is not None and not 0 <= m <= 1:
            raise ValueError(f"min_p is {m}; it goes from 0 to 1, or is None")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise ValueError(f"repetition_penalty is {self.repetition_penalty}; it is above 0, and 1 is none")
        for name in ("presence_penalty", "frequency_penalty"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; it is a finite number, and 0 is none")

    @property
    def penalises(self) -> bool:
        """Whether the text so far matters."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)

    def penalised(self, logits: np.ndarray, text: np.ndarray, prompt: int) -> np.ndarray:
        """The logits (symbols,) behind a text, ids (n,), of which the first `prompt` are the prompt: changed by the penalties, in a copy."""
        if not self.penalises:
            return logits
        logits = logits.astype(np.float64)
        seen = np.unique(text)
        r = self.repetition_penalty
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / r, logits[seen] * r)
        written, counts = np.unique(text[prompt:], return_counts=True)
        logits[written] -= self.presence_penalty + self.frequency_penalty * counts
        return logits

    def choices(self, logits: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """The probabilities to draw from, float64 (symbols,); `probabilities` is softmax(logits)."""
        if self.temperature == 0:
            p = np.zeros(len(logits))
            p[logits.argmax()] = 1
            return p
        p = probabilities if self.temperature == 1 else softmax(logits, self.temperature)
        if self.top_k is not None and self.top_k < len(p):
            p = self._renormalised(p, _most_likely(p, int(self.top_k)))
        if self.top_p is not None and self.top_p < 1:
            p = self._renormalised(p, _nucleus(p, self.top_p))
        if self.min_p:
            p = self._renormalised(p, np.flatnonzero(p >= self.min_p * p.max()))
        return p

    @staticmethod
    def _renormalised(p: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """p restricted to these tokens, with sum 1."""
        q = np.zeros(len(p))
        q[tokens] = p[tokens]
        return q / q.sum()


def _most_likely(p: np.ndarray, count: int) -> np.ndarray:
    """The tokens of the `count` largest probabilities, largest first, of equal ones the smaller id."""
    return _in_order(p, np.partition(p, len(p) - count)[len(p) - count])[:count]


def _in_order(p: np.ndarray, least: float) -> np.ndarray:
    """The tokens of at least this probability, largest first, of equal ones the smaller id: without sorting a whole vocabulary."""
    likely = np.flatnonzero(p >= least)
    return likely[np.argsort(-p[likely], kind="stable")]


def _nucleus(p: np.ndarray, share: float) -> np.ndarray:
    """The fewest most likely tokens whose probabilities add up to `share`; all that are left out below hold less than 1 - share together."""
    tokens = _in_order(p, (1 - share) / len(p))
    return tokens[: int(np.searchsorted(np.cumsum(p[tokens]), share)) + 1]


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """e^(logits / temperature) over its sum, for logits (symbols,); in float64, so that a small probability isn't rounded to 0 before the draw.

    Raises FloatingPointError where the largest logit isn't finite.
    """
    top = float(logits[logits.argmax()])  # NaN where there is one; for rows this short argmax takes a third of the time of max
    if not math.isfinite(top):
        unfit = np.count_nonzero(~np.isfinite(logits))
        raise FloatingPointError(f"logits: {unfit} of {len(logits)} aren't finite; the model's weights are damaged, or its activations overflow")
    temperature = max(temperature, 1e-200)  # divides after the subtraction: the largest is 0, and nothing overflows
    if len(logits) >= MANY_SYMBOLS and logits.dtype == np.float32 and logits.flags.c_contiguous and kernels_enabled():
        return _softmax_of_many(logits, top, temperature)
    z = logits.astype(np.float64)
    z -= top
    if temperature != 1:
        z /= temperature
    np.exp(z, out=z)
    z /= np.add.reduce(z)
    return z


def _softmax_of_many(logits: np.ndarray, top: float, temperature: float) -> np.ndarray:
    """NumPy's exponential of float64 takes 5 ns a number on a processor without AVX-512: a twentieth of a token's time."""
    n = len(logits)
    p, sums = np.empty(n), np.empty(-(-n // CHUNK))
    _exponentials(logits, p, sums, n, top, 1 / temperature)
    _divide(p, n, float(np.add.reduce(sums)))
    return p


@task
def _exponentials(t, tasks, x, y, sums, n, top: float, factor: float):
    """y = e^((x - top) factor), x float32, y float64; sums of the chunks of y, which don't depend on the number of tasks."""
    for c in range(part(t, tasks, n, CHUNK) // CHUNK, (part(t + 1, tasks, n, CHUNK) + CHUNK - 1) // CHUNK):
        first, last = c * CHUNK, min(n, (c + 1) * CHUNK)
        source, target, total = span(x, first, last), reals(word_at(y, first), last - first), 0.0
        for i in range(source.size):
            target[i] = exp((float64(source[i]) - top) * factor)
        for i in range(target.size):
            total += target[i]
        reals(word_at(sums, c), 1)[0] = total


@task
def _divide(t, tasks, y, n, by: float):
    first, last = part(t, tasks, n, CHUNK), part(t + 1, tasks, n, CHUNK)
    target, factor = reals(word_at(y, first), last - first), 1 / by
    for i in range(target.size):
        target[i] *= factor


def drawn(probabilities: np.ndarray, draw: float) -> int:
    """The token whose share of [0, 1) holds the draw; never one of probability 0."""
    ends = probabilities.cumsum()
    total = float(ends[-1])
    return int(ends.searchsorted(min(draw * total, math.nextafter(total, 0)), side="right"))
