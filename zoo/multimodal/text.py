"""A text encoder: each word of a sentence, seen together with all others, as a vector (Vaswani et al. 2017, the encoder of figure 1)."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..nn import Embedding, LayerNorm, Linear, Module
from ..parts.denoising.unet import Perceptron
from .prompts import FIRST, PADDING


class Attention(Module):
    """Each word looks at those that mask allows: x (n, length, width), mask (n or 1, 1, length, length) or what broadcasts to it."""

    query_key_value: Linear
    output: Linear

    def __init__(self, width: int, heads: int, *, rng: Generator):
        if width % heads:
            raise ValueError(f"Attention: heads is {heads}; it must divide the width, {width}")
        self.heads = heads
        self.query_key_value = Linear(width, 3 * width, rng=rng)
        self.output = Linear(width, width, rng=rng, scale=0.0)

    def __call__(self, x, mask):
        q, k, v = ops.unpack(self.query_key_value(x), self.heads, self.heads)  # each (n, heads, length, width / heads)
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

    def __call__(self, x, mask):
        x = x + self.attention(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))


class TextEncoder(Module):
    """ids (n, length), as `prompts.ids_of` makes them -> (n, length, width), and the mask (n, length) of what isn't padding."""

    embedding: Embedding
    position: Embedding
    blocks: list[Block]
    norm: LayerNorm

    def __init__(self, words: int, length: int, width: int, blocks: int, heads: int, *, rng: Generator):
        self.embedding = Embedding(FIRST + words, width, rng=rng, deviation=0.5)
        self.position = Embedding(length, width, rng=rng, deviation=0.1)
        self.blocks = [Block(width, heads, rng=rng) for _ in range(blocks)]
        self.norm = LayerNorm(width)

    def __call__(self, ids: np.ndarray):
        mask = ids != PADDING
        x = self.embedding(ids) + self.position.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, mask[:, None, None, :])  # every word looks at every word, and none at padding
        return self.norm(x), mask


def pooled(text, mask: np.ndarray):
    """The mean over the words of each sentence: (n, length, width) -> (n, width)."""
    share = (mask / mask.sum(1, keepdims=True)).astype(np.float32)
    return (text * share[:, :, None]).sum(axis=1)
