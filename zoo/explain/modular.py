"""Grokking (Power et al. 2022) of a + b mod p, in the set-up of Nanda et al. (2023): the model reads "a b =" and answers after "=".

A transformer of one layer without norms first memorises the pairs that it is trained on.  Only thousands of steps later, under the pressure
of weight decay, does it compute: with w = 2 pi k / p for a few frequencies k, the embedding holds cos(wa) and sin(wa), products of them give
cos(w(a + b)) and sin(w(a + b)) by the addition theorems, and the logit of c is a sum of cos(w(a + b - c)), largest where c = a + b mod p.
`fourier_power` shows which frequencies the embedding uses.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .. import autograd as ops
from ..autograd import Tensor
from ..autograd.random import generator
from ..transformer import Transformer


@dataclasses.dataclass(frozen=True)
class Pairs:
    """All pairs of numbers below p, split into training and test pairs: ids (n, 3) of a, b and "=", which is p, with answers (n,)."""

    p: int
    train: np.ndarray
    train_answers: np.ndarray
    test: np.ndarray
    test_answers: np.ndarray


def modular_addition(p: int = 113, share: float = 0.3, seed: int = 0) -> Pairs:
    if p < 2 or not 0 < share < 1:
        raise ValueError(f"modular_addition: p is {p}, share {share}; p is at least 2, share lies between 0 and 1")
    a, b = np.divmod(generator(seed).permutation(p * p), p)
    ids, answers = np.stack([a, b, np.full(p * p, p)], 1), (a + b) % p
    n = int(share * p * p)
    return Pairs(p, ids[:n], answers[:n], ids[n:], answers[n:])


def new_model(p: int = 113, *, width: int = 128, heads: int = 4, hidden: int = 512, seed: int = 0) -> Transformer:
    """A model whose weights are all from N(0, 1 / width), as in Nanda et al.: with smaller ones it generalises at once, without grokking."""
    model = Transformer.new(symbols=p + 1, window=3, layers=1, heads=heads, width=width, hidden=hidden, mlp="relu", norm="none", bias=False,
                            tied=False, seed=seed)
    rng = generator(seed)
    for weight in model.parameters():
        weight.data[...] = rng.normal(0, width**-0.5, weight.shape)
    return model


def last_logits(model: Transformer, ids: np.ndarray) -> Any:
    """`model(ids)[:, -1]` of one layer with learned positions, many times faster: ids (n, time) with equal last tokens -> (n, symbols).

    A token's key, value, and score with the last query depend only on its symbol and position, so each is computed once, not in every row.
    """
    c = model.config
    if c.layers != 1 or model.position is None:
        raise ValueError(f"last_logits: the model has {c.layers} layers and {c.positions} positions; it must have 1 layer and learned positions")
    if (ids[:, -1] != ids[0, -1]).any():
        raise ValueError("last_logits: ids end in different tokens; all must end in the same")
    (block,) = model.blocks
    n, time = ids.shape
    d, rows = c.head_width, ids + c.symbols * np.arange(time)  # rows: where each token's entry is in the tables below
    table = (model.embedding.weight + model.position.weight[:time].reshape((time, 1, c.width))).reshape((time * c.symbols, c.width))
    q, k, v = ops.unpack(block.attention.query_key_value(block.norm1(table)).reshape((1, time * c.symbols, -1)), c.heads, c.key_value_heads)
    last = int(rows[0, -1])
    scores = (q[0, :, last : last + 1] * ops.repeat_heads(k, c.heads)[0]).sum(axis=-1) * (1 / np.sqrt(np.float32(d)))  # (heads, time symbols)
    weights = ops.softmax(ops.embedding(ops.swapaxes(scores), rows), axis=1)  # (n, time, heads)
    values = ops.swapaxes(ops.repeat_heads(v, c.heads)[0], axis1=0, axis2=1).reshape((time * c.symbols, c.heads * d))
    mixed = (weights.reshape((n, time, c.heads, 1)) * ops.embedding(values, rows).reshape((n, time, c.heads, d))).sum(axis=1)
    x = table[last] + block.attention.output(mixed.reshape((n, c.heads * d)))
    if block.mlp is not None:
        x = x + block.mlp(block.norm2(x))
    return model.logits(model.norm(x))


def loss(model: Transformer, ids: np.ndarray, answers: np.ndarray) -> dict[str, Tensor]:
    """Cross-entropy of the answers in nats, and the share that is right.

    In float64, as Nanda et al. compute it: at a loss of 1e-7 float32 leaves only rounding errors, and Adam scales them to steps of full length.
    """
    logits = last_logits(model, ids)
    right = np.mean(np.asarray(logits.data).argmax(1) == answers)
    return {"loss": ops.cross_entropy(logits.astype(np.float64), answers), "right": Tensor(np.float32(right))}


def fourier_power(rows: np.ndarray) -> np.ndarray:
    """The share of each frequency in the power of the rows (p, width) for the numbers 0 to p - 1: (p // 2 + 1,), sums to 1.

    Frequency k is cos and sin of 2 pi k a / p together; frequency 0 is the mean.
    """
    p = len(rows)
    power = (np.abs(np.fft.rfft(rows, axis=0, norm="ortho")) ** 2).sum(1)
    power[1 : (p + 1) // 2] *= 2  # rfft leaves out the conjugate of each
    return power / power.sum()


def embedding_power(model: Transformer) -> np.ndarray:
    """`fourier_power` of the embedding's rows for the numbers, without the row for "="."""
    return fourier_power(model.embedding.weight.data[:-1])


def evaluate(model: Transformer, pairs: Pairs) -> dict[str, float]:
    """Loss and accuracy on the test pairs, and the share of the embedding's power in its five strongest frequencies."""
    test = loss(model, pairs.test, pairs.test_answers)
    strongest = np.sort(embedding_power(model)[1:])[-5:]
    return {"test loss": float(test["loss"]), "test right": float(test["right"]), "power in five frequencies": float(strongest.sum())}
