"""Networks that take a noisy picture (or points) and a time: the U-Net of diffusion models, and a dense network for the plane.

    e = embedding of t (and of the label)                        (n, 4 channels)
    x -> level 28x28 -> downsample -> level 14x14 -> downsample -> middle 7x7
               \\____________________   \\______________              |
    out <- level 28x28 <- [upsampled, skip] <- level 14x14 <- [upsampled, skip]

(Ronneberger et al. 2015; with residual blocks, group norm and the time added in each block as Ho et al. 2020, appendix B.)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from ... import autograd as ops
from ...nn import Conv2d, Embedding, GroupNorm, LayerNorm, Linear, Module, Sequential

GROUPS = 8


def sinusoids(t: np.ndarray, width: int) -> np.ndarray:
    """sin and cos of t f at the frequencies f = 10,000^(-2 i / width), i = 0, 1, ... (Vaswani et al. 2017): t (n,) -> (n, width)."""
    half = width // 2
    angle = t.astype(np.float32)[:, None] * np.exp(np.float32(-math.log(1e4)) * np.arange(half, dtype=np.float32) / np.float32(half))
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


class Condition(Module):
    """An embedding of t (n,), and of labels (n,) in a conditional network, which every block receives: (n, width)."""

    inner: Linear
    outer: Linear
    labels: Embedding | None  # one row more than there are classes: "no label"

    def __init__(self, frequencies: int, width: int, classes: int, *, rng: Generator):
        self.frequencies = frequencies
        self.inner = Linear(frequencies, width, rng=rng, activation="silu")
        self.outer = Linear(width, width, rng=rng)
        self.labels = Embedding(classes + 1, width, rng=rng, deviation=0.5) if classes else None

    def __call__(self, t, labels=None):
        e = self.outer(self.inner(sinusoids(t, self.frequencies)))
        return e if self.labels is None else e + self.labels(labels)


class Pointwise(Linear):
    """A 1x1 convolution: a Linear layer for many pixels of few channels, whose weight stays in the nearest cache."""

    def __call__(self, x):
        return ops.conv2d(x, self.weight.reshape((1, 1, *self.weight.shape)), self.bias)


class Residual(Module):
    """y = skip(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + time(e)))): x (n, h, w, inputs) -> (n, h, w, outputs)."""

    norm1: GroupNorm
    conv1: Conv2d
    time: Linear
    norm2: GroupNorm
    conv2: Conv2d
    skip: Pointwise | None  # where the number of channels changes

    def __init__(self, inputs: int, outputs: int, width: int, *, rng: Generator):
        self.norm1 = GroupNorm(GROUPS, inputs, activation="silu")
        self.conv1 = Conv2d(inputs, outputs, 3, padding=1, rng=rng)
        self.time = Linear(width, outputs, rng=rng)
        self.norm2 = GroupNorm(GROUPS, outputs, activation="silu")
        self.conv2 = Conv2d(outputs, outputs, 3, padding=1, rng=rng, scale=0.0)  # so that a block starts as its skip connection
        self.skip = Pointwise(inputs, outputs, rng=rng) if inputs != outputs else None

    def __call__(self, x, e):
        h = self.conv1(self.norm1(x), self.time(e).reshape((len(x), 1, 1, -1)))  # a shift of each channel
        return self.conv2(self.norm2(h), x if self.skip is None else self.skip(x))


class Attention(Module):
    """Every pixel looks at every pixel, at the lowest resolution (Ho et al. 2020): x (n, h, w, channels) -> the same."""

    norm: GroupNorm
    query_key_value: Linear
    output: Linear

    def __init__(self, channels: int, heads: int, *, rng: Generator):
        if channels % heads:
            raise ValueError(f"Attention: heads is {heads}; it must divide the {channels} channels")
        self.heads = heads
        self.norm = GroupNorm(GROUPS, channels)
        self.query_key_value = Linear(channels, 3 * channels, rng=rng)
        self.output = Linear(channels, channels, rng=rng, scale=0.0)

    def __call__(self, x):
        n, h, w, c = x.shape
        qkv = self.query_key_value(self.norm(x)).reshape((n, h * w, 3, self.heads, c // self.heads))
        q, k, v = ops.transpose(qkv, axes=(2, 0, 3, 1, 4))  # each (n, heads, h w, channels / heads)
        y = ops.scaled_dot_product_attention(q, k, v)
        return x + self.output(ops.transpose(y, axes=(0, 2, 1, 3)).reshape((n, h, w, c)))


class Level(Module):
    """The blocks at one resolution."""

    blocks: list[Residual]

    def __init__(self, inputs: int, outputs: int, blocks: int, width: int, *, rng: Generator):
        self.blocks = [Residual(outputs if i else inputs, outputs, width, rng=rng) for i in range(blocks)]

    def __call__(self, x, e):
        for block in self.blocks:
            x = block(x, e)
        return x


class UNet(Module):
    """x (n, height, width, colours), t (n,), labels (n,) -> the shape of x.

    channels: width of the first level; multipliers: widths of all levels, in channels; blocks: residual blocks a level.
    """

    condition: Condition
    conv_in: Conv2d
    down: list[Level]
    downsample: list[Conv2d]
    middle1: Residual
    attention: Attention | None
    middle2: Residual
    up: list[Level]  # in the order in which they run, lowest resolution first
    norm: GroupNorm
    conv_out: Conv2d
    formerly = {"into": "conv_in", "shrink": "downsample", "out": "conv_out"}

    def __init__(self, colours: int, channels: int, multipliers: tuple[int, ...], blocks: int, heads: int, classes: int, *, rng: Generator):
        if channels % GROUPS:
            raise ValueError(f"UNet: channels is {channels}; it must be a multiple of {GROUPS}, the groups of its norms")
        width = 4 * channels
        widths = [channels * m for m in multipliers]
        self.condition = Condition(channels, width, classes, rng=rng)
        self.conv_in = Conv2d(colours, channels, 3, padding=1, rng=rng)
        self.down = [Level(i, o, blocks, width, rng=rng) for i, o in zip([channels, *widths], widths)]
        self.downsample = [Conv2d(c, c, 3, stride=2, padding=1, rng=rng) for c in widths]
        low = widths[-1]
        self.middle1 = Residual(low, low, width, rng=rng)
        self.attention = Attention(low, heads, rng=rng) if heads else None
        self.middle2 = Residual(low, low, width, rng=rng)
        below = [low, *widths[:0:-1]]
        self.up = [Level(b + c, c, blocks, width, rng=rng) for b, c in zip(below, reversed(widths))]
        self.norm = GroupNorm(GROUPS, widths[0], activation="silu")
        self.conv_out = Conv2d(widths[0], colours, 3, padding=1, rng=rng, scale=0.0)

    @property
    def ends(self) -> tuple[Conv2d, Conv2d]:
        """The first layer and the last."""
        return self.conv_in, self.conv_out

    def __call__(self, x, t, labels=None):
        e = self.condition(t, labels)
        h = self.conv_in(x)
        skips = []
        for level, downsample in zip(self.down, self.downsample):
            h = level(h, e)
            skips.append(h)
            h = downsample(h)
        h = self.middle1(h, e)
        if self.attention is not None:
            h = self.attention(h)
        h = self.middle2(h, e)
        for level in self.up:
            h = level(ops.join_upsampled(h, skips.pop()), e)
        return self.conv_out(self.norm(h))


class Perceptron(Module):
    """width -> 4 width -> width with GELU."""

    up: Linear
    down: Linear

    def __init__(self, width: int, *, rng: Generator):
        self.up = Linear(width, 4 * width, rng=rng, activation="gelu")
        self.down = Linear(4 * width, width, rng=rng)

    def __call__(self, x):
        return self.down(self.up(x))


class Dense(Module):
    """For points: x and t to `width`, residual blocks width - 4 width - width, and back (Cheng & Schwing 2025, section 5.1).

    norms: a layer norm before every block and before the last layer, which bounds the output.  Latents need it: without, two samples of
    10,000 left the region that was trained, and grew from step to step without end.
    """

    linear_in: Linear
    time: Linear
    labels: Embedding | None
    norms: list[LayerNorm | Sequential]  # one more than there are blocks
    blocks: list[Perceptron]
    linear_out: Linear
    formerly = {"into": "linear_in", "out": "linear_out"}

    def __init__(self, dimensions: int, width: int, blocks: int, classes: int, norms: bool, *, rng: Generator):
        self.linear_in = Linear(dimensions, width, rng=rng)
        self.time = Linear(1, width, rng=rng)
        self.labels = Embedding(classes + 1, width, rng=rng, deviation=0.5) if classes else None
        perceptrons = [Perceptron(width, rng=rng) for _ in range(blocks)]  # before what draws nothing: of a card that asks for too many, none is made
        self.norms = [LayerNorm(width) if norms else Sequential() for _ in range(blocks + 1)]
        self.blocks = perceptrons
        self.linear_out = Linear(width, dimensions, rng=rng)

    @property
    def ends(self) -> tuple[Linear, Linear]:
        """The first layer and the last."""
        return self.linear_in, self.linear_out

    def __call__(self, x, t, labels=None):  # t (n,) in [0, 1]
        h = self.linear_in(x) + self.time(t.astype(np.float32)[:, None])
        if self.labels is not None:
            h = h + self.labels(labels)
        for norm, block in zip(self.norms, self.blocks):
            h = h + block(norm(h))
        return self.linear_out(self.norms[-1](h))
