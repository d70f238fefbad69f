"""A diffusion transformer (Peebles & Xie 2023): the picture in patches, each a token; every block receives the time and the label.

    picture --patches--> tokens + positions
    x = x + gate1 attention(scale1 norm(x) + shift1)      each patch looks at every patch
    x = x + gate2 mlp(scale2 norm(x) + shift2)            each patch by itself
    scale norm(x) + shift --> patches --> picture

Shifts, scales and gates are a linear layer's output from an embedding of t and the label (adaLN-Zero: that layer starts at 0, so a block
starts as the identity and the network as 0).
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from ... import autograd as ops
from ...nn import Linear, Module
from .unet import Condition, Perceptron, sinusoids

FREQUENCIES = 64  # of t, as sines and cosines


class Attention(Module):
    """Every token looks at every token (Vaswani et al. 2017, section 3.2): x (n, tokens, width) -> the same."""

    query_key_value: Linear
    output: Linear

    def __init__(self, width: int, heads: int, *, rng: Generator):
        self.heads = heads
        self.query_key_value = Linear(width, 3 * width, rng=rng)
        self.output = Linear(width, width, rng=rng)

    def __call__(self, x):
        packed = self.query_key_value(x)  # (n, tokens, 3 width)
        return self.output(ops.self_attention(packed, heads=self.heads, key_value_heads=self.heads, rotation=None, is_causal=False))


class Block(Module):
    """A block of the transformer whose norms take their scale and shift from e, with gates behind (figure 3, adaLN-Zero)."""

    modulation: Linear  # width -> 6 width
    attention: Attention
    mlp: Perceptron

    def __init__(self, width: int, heads: int, *, rng: Generator):
        self.modulation = Linear(width, 6 * width, rng=rng, scale=0.0)
        self.attention = Attention(width, heads, rng=rng)
        self.mlp = Perceptron(width, rng=rng)

    def __call__(self, x, e):  # x (n, tokens, width), e (n, 1, width)
        shift1, scale1, gate1, shift2, scale2, gate2 = ops.split(self.modulation(e), 6, axis=-1)  # each (n, 1, width)
        x = x + gate1 * self.attention(modulated(x, shift1, scale1))
        return x + gate2 * self.mlp(modulated(x, shift2, scale2))


class DiT(Module):
    """x (n, height, width, colours), t (n,), labels (n,) -> the shape of x.

    patch: the side of the squares that are tokens; channels: the width of each token; blocks: how many.
    """

    condition: Condition
    patch_embedding: Linear  # a patch's pixels -> a token
    blocks: list[Block]
    modulation: Linear
    patch_output: Linear
    formerly = {"into": "patch_embedding", "out": "patch_output"}

    def __init__(self, image: tuple[int, int, int], patch: int, channels: int, blocks: int, heads: int, classes: int, *, rng: Generator):
        height, width, colours = image
        check_tokens("DiT", image, patch, channels, heads)
        self.patch = patch
        self.condition = Condition(FREQUENCIES, channels, classes, rng=rng)
        self.patch_embedding = Linear(patch * patch * colours, channels, rng=rng)
        self._positions = positions(height // patch, width // patch, channels)
        self.blocks = [Block(channels, heads, rng=rng) for _ in range(blocks)]
        self.modulation = Linear(channels, 2 * channels, rng=rng, scale=0.0)
        self.patch_output = Linear(channels, patch * patch * colours, rng=rng, scale=0.0)

    @property
    def ends(self) -> tuple[Linear, Linear]:
        """The first layer and the last."""
        return self.patch_embedding, self.patch_output

    def __call__(self, x, t, labels=None):
        e = ops.silu(self.condition(t, labels)).reshape((len(x), 1, -1))
        h = self.patch_embedding(patches(x, self.patch)) + self._positions  # (n, tokens, channels)
        for block in self.blocks:
            h = block(h, e)
        shift, scale = ops.split(self.modulation(e), 2, axis=-1)
        return picture(self.patch_output(modulated(h, shift, scale)), self.patch, x.shape)


def check_tokens(network: str, image: tuple[int, int, int], patch: int, channels: int, heads: int) -> None:
    """ValueError, which names the network, unless patches fill the picture and heads the channels."""
    height, width, _ = image
    if patch < 1 or height % patch or width % patch:
        raise ValueError(f"{network}: patch is {patch}; it must divide the picture's height and width, {height} and {width}")
    if heads < 1 or channels % heads or channels % 4:
        raise ValueError(f"{network}: heads is {heads} and channels {channels}; heads must divide the channels, and so must 4, for positions")


def modulated(x, shift, scale):
    """norm(x) (1 + scale) + shift: x (n, tokens, width), shift and scale (n, 1, width)."""
    return ops.layer_norm(x, np.ones(x.shape[-1:], np.float32), None, eps=1e-6) * (1 + scale) + shift


def patches(x, side: int):
    """(n, height, width, colours) -> (n, tokens, side side colours), row by row."""
    n, height, width, colours = x.shape
    squares = ops.transpose(x.reshape((n, height // side, side, width // side, side, colours)), axes=(0, 1, 3, 2, 4, 5))
    return squares.reshape((n, -1, side * side * colours))


def picture(tokens, side: int, shape: tuple[int, ...]):
    """The inverse of `patches`: tokens -> the picture of that shape."""
    n, height, width, colours = shape
    squares = tokens.reshape((n, height // side, width // side, side, side, colours))
    return ops.transpose(squares, axes=(0, 1, 3, 2, 4, 5)).reshape(shape)


def positions(rows: int, columns: int, width: int) -> np.ndarray:
    """(rows columns, width): half of it sines and cosines of the row, half of the column (Dosovitskiy et al. 2021, appendix D.4)."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.concatenate([sinusoids(row, width // 2), sinusoids(column, width // 2)], axis=1)
