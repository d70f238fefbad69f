"""How good a language model is: nats per token, per character, or per step of music.

By the chain rule a text's probability is a product, ln p(x) = sum of ln p(x_t | x_1 ... x_{t-1}); the cross-entropy is minus its mean
over the text's tokens.  In other units it is bits = nats / ln 2, and perplexity = e^nats: the geometric mean of 1 / p, so that a model
as unsure as a fair choice among k tokens has perplexity k.  Tokens differ from tokenizer to tokenizer; nats per character can be compared.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .. import autograd as ops
from ..data.text import evaluation_blocks
from .corpus import Corpus
from .windows import line_table


def evaluate(model: Any, corpus: Corpus, part: str = "valid", *, max_tokens: int | None = None, time: int | None = None,
             most: int | None = None) -> dict[str, float]:
    """Figures of a LanguageModel on one part of a corpus: nats per token and per character, or per step for a model of piano rolls.

    The text is cut into blocks of `time` tokens (the model's context unless given), each read from its beginning with nothing before
    it, and every token but the first is predicted once.  max_tokens: only so much of the text (`most` until 0.1).
    """
    if most is not None:
        warnings.warn("evaluate: most is max_tokens now; the old name goes in the next release", DeprecationWarning, stacklevel=2)
        max_tokens = most
    if model.reads_rolls:
        rolls = corpus.piano_rolls[part]
        if not any(map(len, rolls)):
            raise ValueError(f"{corpus.name}: has no music to evaluate on in its part {part!r}")
        return {f"{part} nats per step": -float(model.roll_log_likelihood(rolls).sum()) / sum(map(len, rolls))}
    text = corpus.split(model.config.lines)[part]
    characters = len(text)
    if model.config.lines:
        inputs, targets = line_table(text, model.tokenizer, model.start_id, model.context)
        blocks: Any = ((inputs[i : i + 256], targets[i : i + 256]) for i in range(0, len(inputs), 256))
    else:
        ids = model.tokenizer.encode(text)
        if max_tokens is not None and len(ids) > max_tokens:
            characters, ids = int(characters * max_tokens / len(ids)), ids[:max_tokens]
        time = time or model.context or 1024
        blocks = evaluation_blocks(ids, time, max(1, 16384 // time))
    total, count = model.log_likelihood(blocks)
    return {f"{part} nats per token": -total / count, f"{part} nats per character": -total / characters}


def bigram_loss(ids: np.ndarray, symbols: int, *, smoothing: float = 1.0) -> float:
    """Cross-entropy in nats of the pairs in ids (n,) under the table of their own counts: the least that a model must beat.

        p(b | a) = (count(a, b) + smoothing) / (count(a) + smoothing symbols)

    Without smoothing it is the smallest loss on this text that any model can have that sees one token: for each a, the mean of
    -ln q(b | a) over the b that follow is the entropy of their shares plus KL(shares || q), and the divergence is 0 where q is the shares.
    """
    counts = np.full((symbols, symbols), smoothing)
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    logits = np.log(counts / counts.sum(1, keepdims=True))
    return float(ops.cross_entropy(logits[ids[:-1]], ids[1:]))
