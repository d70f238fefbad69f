"""A text encoder: each word of a sentence, seen together with all others, as a vector (Vaswani et al. 2017, the encoder of figure 1).

Where a word stands is told in one of two ways.  "learned": a vector for each place in a sentence is added to its word (their section 3.5).
"rotary": queries and keys are turned by their word's place, so that a score depends on the distance of two words (Su et al. 2021).  In "a red
seven at the top left, a blue two at the top right" the word "red" belongs to the "top" that follows a few words later, wherever both stand;
with rotary positions this is learned in a hundred steps, with learned ones it wasn't in five hundred (benchmarks/positions.py).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..nn import Embedding, LayerNorm, Linear, Module
from ..parts.denoising.unet import Perceptron
from .prompts import FIRST, PADDING

Positions = Literal["learned", "rotary"]
THETA = 100.0  # rotary angles are THETA^(-2i / d) a word: one full turn in 6 to 600 words, as sentences are short (10,000 in Su et al. 2021)


class Attention(Module):
    """Each word looks at those that mask allows: x (n, length, width), mask (n or 1, 1, length, length) or what broadcasts to it.

    rotation: cosines and sines of the angles by which queries and keys are turned, each (length, width / heads / 2), or None.
    """

    query_key_value: Linear
    output: Linear

    def __init__(self, width: int, heads: int, *, rng: Generator):
        if width % heads:
            raise ValueError(f"Attention: heads is {heads}; it must divide the width, {width}")
        self.heads = heads
        self.query_key_value = Linear(width, 3 * width, rng=rng)
        self.output = Linear(width, width, rng=rng, scale=0.0)

    def __call__(self, x, mask, rotation=None):
        q, k, v = ops.unpack(self.query_key_value(x), self.heads, self.heads)  # each (n, heads, length, width / heads)
        if rotation is not None:
            q, k = ops.rotate(q, *rotation), ops.rotate(k, *rotation)
        return self.output(ops.merge_heads(ops.scaled_dot_product_attention(q, k, v, mask)))


class Block(Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    norm1: LayerNorm
    attention: Attention
    norm2: LayerNorm
    mlp: Perceptron

    def __init__(self, width: int, heads: int, *, rng: Generator):
        self.norm1, self.attention = LayerNorm(width), Attention(width, heads, rng=rng)
        self.norm2, self.mlp = LayerNorm(width), Perceptron(width, rng=rng)

    def __call__(self, x, mask, rotation=None):
        x = x + self.attention(self.norm1(x), mask, rotation)
        return x + self.mlp(self.norm2(x))


class TextEncoder(Module):
    """ids (n, length), as `prompts.ids_of` makes them -> (n, length, width), and the mask (n, length) of what isn't padding."""

    embedding: Embedding
    position: Embedding | None  # where positions are learned
    blocks: list[Block]
    norm: LayerNorm

    def __init__(self, words: int, length: int, width: int, blocks: int, heads: int, positions: Positions = "learned", *, rng: Generator):
        if positions == "rotary" and width % (2 * heads):
            raise ValueError(f"TextEncoder: width is {width}; with rotary positions it must be a multiple of twice the {heads} heads")
        self.embedding = Embedding(FIRST + words, width, rng=rng, deviation=0.5)
        self.position = Embedding(length, width, rng=rng, deviation=0.1) if positions == "learned" else None
        self._rotation = rotation(length, width // heads) if positions == "rotary" else None
        self.blocks = [Block(width, heads, rng=rng) for _ in range(blocks)]
        self.norm = LayerNorm(width)

    def __call__(self, ids: np.ndarray):
        mask = ids != PADDING
        length = ids.shape[1]
        x = self.embedding(ids)
        if self.position is not None:
            x = x + self.position.weight[:length]
        turned = None if self._rotation is None else tuple(table[:length] for table in self._rotation)
        for block in self.blocks:
            x = block(x, mask[:, None, None, :], turned)  # every word looks at every word, and none at padding
        return self.norm(x), mask


def rotation(length: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, each (length, width / 2) float32: word m's pair i is turned by m THETA^(-2i / width) (Su et al. 2021, equation 15)."""
    angles = np.arange(length)[:, None] * THETA ** (-np.arange(0, width, 2) / width)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def pooled(text, mask: np.ndarray):
    """The mean over the words of each sentence: (n, length, width) -> (n, width)."""
    share = (mask / mask.sum(1, keepdims=True)).astype(np.float32)
    return (text * share[:, :, None]).sum(axis=1)
