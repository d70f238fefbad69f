"""Networks that look at words while they draw: a U-Net with cross-attention, and a transformer of two streams.

    cross-attention (Rombach et al. 2022, section 3.3)         q from pixels, k and v from words: each pixel takes what it needs of each word
    joint attention (Esser et al. 2024, figure 2)               words and patches stand in one sequence, and each looks at all

In both, softmax(q k^T / sqrt(d)) says how much of each word went to each place: one map a word, which can be looked at and weighed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..nn import GroupNorm, Linear, Module
from ..parts.denoising.dit import FREQUENCIES, check_tokens, modulated, patches, picture, positions
from ..parts.denoising.unet import GROUPS, Condition, Perceptron, UNet
from .text import pooled


def attend(q, k, v, mask: np.ndarray, weight: np.ndarray | None = None):
    """softmax(q k^T / sqrt(d)) v, where the share of each key is multiplied by its weight (Hertz et al. 2022, equation of section 3.2).

    q (n, heads, queries, d), k and v (n, heads, keys, d), mask (n, keys) bool, weight (n, keys) or None for 1.
    """
    if weight is None or (weight == 1).all():
        return ops.scaled_dot_product_attention(q, k, v, mask[:, None, None, :])
    scores = ops.matmul(q, ops.swapaxes(k)) * (1 / math.sqrt(q.shape[-1]))
    shares = ops.softmax(ops.where(mask[:, None, None, :], scores, -np.inf))
    return ops.matmul(shares * weight[:, None, None, :], v)


class CrossAttention(Module):
    """x + what each pixel takes from the words: x (n, h, w, channels), text (n, length, width) -> the shape of x."""

    norm: GroupNorm
    query: Linear
    key_value: Linear
    output: Linear

    def __init__(self, channels: int, width: int, heads: int, *, rng: Generator):
        if channels % heads:
            raise ValueError(f"CrossAttention: heads is {heads}; it must divide the {channels} channels")
        self.heads = heads
        self.norm = GroupNorm(GROUPS, channels)
        self.query = Linear(channels, channels, rng=rng)
        self.key_value = Linear(width, 2 * channels, rng=rng)
        self.output = Linear(channels, channels, rng=rng, scale=0.0)  # so that the network starts without words

    def __call__(self, x, text, mask: np.ndarray, weight: np.ndarray | None):
        n, h, w, c = x.shape
        q = self._split(self.query(self.norm(x).reshape((n, h * w, c))), 1)[0]
        k, v = self._split(self.key_value(text), 2)
        return x + self.output(ops.merge_heads(attend(q, k, v, mask, weight))).reshape((n, h, w, c))

    def _split(self, x, parts: int):
        """(n, tokens, parts c) -> (parts, n, heads, tokens, c / heads)."""
        n, tokens, width = x.shape
        return ops.transpose(x.reshape((n, tokens, parts, self.heads, width // parts // self.heads)), axes=(2, 0, 3, 1, 4))


class TextUNet(UNet):
    """x (n, height, width, colours), t (n,), text (n, length, width) with its mask and weights -> the shape of x.

    The U-Net of `denoising.unet`, which looks at the words at every resolution but the highest; their mean is added to the time.
    unshuffle: squares of so many pixels a side become one pixel with all their colours, and at the end pixels again.
    """

    pooled: Linear
    look_down: list[CrossAttention]
    look_middle: CrossAttention
    look_up: list[CrossAttention]

    def __init__(self, colours: int, channels: int, multipliers: tuple[int, ...], blocks: int, heads: int, text_width: int, text_heads: int,
                 unshuffle: int = 1, *, rng: Generator):
        self.unshuffle = unshuffle
        super().__init__(colours * unshuffle**2, channels, multipliers, blocks, heads, 0, rng=rng)
        widths = [channels * m for m in multipliers]
        self.pooled = Linear(text_width, 4 * channels, rng=rng)
        self.look_down, self.look_up = ([CrossAttention(c, text_width, text_heads, rng=rng) for c in order]
                                        for order in (widths[1:], widths[:0:-1]))
        self.look_middle = CrossAttention(widths[-1], text_width, text_heads, rng=rng)

    def __call__(self, x, t, text, mask, weight=None):  # type: ignore[override]
        e = self.condition(t) + self.pooled(pooled(text, mask))
        shape, x = x.shape, pixel_unshuffle(x, self.unshuffle)
        h = self.conv_in(x)
        skips = []
        for i, (level, downsample) in enumerate(zip(self.down, self.downsample)):
            h = level(h, e)
            if i:
                h = self.look_down[i - 1](h, text, mask, weight)
            skips.append(h)
            h = downsample(h)
        h = self.middle1(h, e)
        if self.attention is not None:
            h = self.attention(h)
        h = self.middle2(self.look_middle(h, text, mask, weight), e)
        for i, level in enumerate(self.up):
            h = level(ops.join_upsampled(h, skips.pop()), e)
            if i < len(self.look_up):
                h = self.look_up[i](h, text, mask, weight)
        return pixel_shuffle(self.conv_out(self.norm(h)), self.unshuffle, shape)


def pixel_unshuffle(x, side: int):
    """(n, h, w, c) -> (n, h / side, w / side, side^2 c)."""
    n, h, w, _ = x.shape
    return x if side == 1 else patches(x, side).reshape((n, h // side, w // side, -1))


def pixel_shuffle(x, side: int, shape: tuple[int, ...]):
    """What `pixel_unshuffle` undoes: shape is that of the result."""
    n, h, w, c = x.shape
    return x if side == 1 else picture(x.reshape((n, h * w, c)), side, shape)


class Stream(Module):
    """What words or patches have for themselves in a block of two streams: modulation, queries, keys and values, output, perceptron.

    is_last: nothing looks at these tokens after this block, so they are read here and not written to.
    """

    modulation: Linear  # width -> 6 width, or 2 width
    query_key_value: Linear
    output: Linear | None
    mlp: Perceptron | None

    def __init__(self, width: int, is_last: bool = False, *, rng: Generator):
        self.modulation = Linear(width, (2 if is_last else 6) * width, rng=rng, scale=0.0)
        self.query_key_value = Linear(width, 3 * width, rng=rng)
        self.output, self.mlp = (None, None) if is_last else (Linear(width, width, rng=rng), Perceptron(width, rng=rng))

    def read(self, x, e, heads: int):
        """(q, k, v), each (n, heads, tokens, width / heads), and the modulations of what follows."""
        shift, scale, *rest = ops.split(self.modulation(e), 2 if self.mlp is None else 6, axis=-1)
        return ops.unpack(self.query_key_value(modulated(x, shift, scale)), heads, heads), rest

    def write(self, x, y, rest):
        """x with what attention brought, y (n, tokens, width), and the perceptron."""
        if self.output is None or self.mlp is None:
            return x
        gate1, shift, scale, gate2 = rest
        x = x + gate1 * self.output(y)
        return x + gate2 * self.mlp(modulated(x, shift, scale))


class JointBlock(Module):
    """Words and patches with weights of their own, and one attention over both (Esser et al. 2024, figure 2b)."""

    words: Stream
    patches: Stream

    def __init__(self, width: int, heads: int, is_last: bool = False, *, rng: Generator):
        self.heads = heads
        self.words, self.patches = Stream(width, is_last, rng=rng), Stream(width, rng=rng)

    def __call__(self, text, x, e, mask, weight):
        (qw, kw, vw), rest_words = self.words.read(text, e, self.heads)
        (qp, kp, vp), rest_patches = self.patches.read(x, e, self.heads)
        length = text.shape[1]
        q, k, v = (ops.concatenate(pair, axis=2) for pair in ((qw, qp), (kw, kp), (vw, vp)))
        y = ops.merge_heads(attend(q, k, v, mask, weight))  # (n, words and patches, width)
        return self.words.write(text, y[:, :length], rest_words), self.patches.write(x, y[:, length:], rest_patches)


class MMDiT(Module):
    """The multimodal diffusion transformer (Esser et al. 2024): the signature of `TextUNet`.

    patch: the side of the squares that are tokens; channels: the width of each token; blocks: how many.
    """

    condition: Condition
    pooled: Linear
    word_embedding: Linear  # the text encoder's width -> channels
    patch_embedding: Linear
    blocks: list[JointBlock]
    modulation: Linear
    patch_output: Linear

    def __init__(self, image: tuple[int, int, int], patch: int, channels: int, blocks: int, heads: int, text_width: int, *, rng: Generator):
        height, width, colours = image
        check_tokens("MMDiT", image, patch, channels, heads)
        self.patch = patch
        self.condition = Condition(FREQUENCIES, channels, 0, rng=rng)
        self.pooled = Linear(text_width, channels, rng=rng)
        self.word_embedding = Linear(text_width, channels, rng=rng)
        self.patch_embedding = Linear(patch * patch * colours, channels, rng=rng)
        self._positions = positions(height // patch, width // patch, channels)
        self.blocks = [JointBlock(channels, heads, i == blocks - 1, rng=rng) for i in range(blocks)]
        self.modulation = Linear(channels, 2 * channels, rng=rng, scale=0.0)
        self.patch_output = Linear(channels, patch * patch * colours, rng=rng, scale=0.0)

    @property
    def ends(self) -> tuple[Linear, Linear]:
        """The first layer and the last."""
        return self.patch_embedding, self.patch_output

    def __call__(self, x, t, text, mask, weight=None):
        e = ops.silu(self.condition(t) + self.pooled(pooled(text, mask))).reshape((len(x), 1, -1))
        words = self.word_embedding(text)
        h = self.patch_embedding(patches(x, self.patch)) + self._positions
        tokens = h.shape[1]
        everywhere = np.concatenate([mask, np.ones((len(mask), tokens), bool)], axis=1)
        weights = None if weight is None else np.concatenate([weight, np.ones((len(weight), tokens), np.float32)], axis=1)
        for block in self.blocks:
            words, h = block(words, h, e, everywhere, weights)
        shift, scale = ops.split(self.modulation(e), 2, axis=-1)
        return picture(self.patch_output(modulated(h, shift, scale)), self.patch, x.shape)
