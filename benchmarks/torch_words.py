"""PyTorch's side of pictures from words: a text encoder, and the two networks that look at its vectors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from cases import WORDS
from torch import Tensor, nn
from torch_steps import MLP, Attention, Condition, Level, Residual, Step, adam, placed, prepared, training

THETA = 100.0  # as in zoo/multimodal/text.py


def heads_of(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(n, tokens, parts width) -> each part (n, heads, tokens, width / heads)."""
    n, tokens, width = x.shape
    return x.view(n, tokens, parts, heads, width // parts // heads).permute(2, 0, 3, 1, 4).unbind(0)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """mask (n, keys) -> (n, queries, width)."""
    return F.scaled_dot_product_attention(q, k, v, mask[:, None, None, :]).transpose(1, 2).flatten(2)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], dim=-1)


class WordBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), MLP(width)

    def forward(self, x: Tensor, mask: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        a = self.attention
        q, k, v = heads_of(a.query_key_value(self.norm1(x)), 3, a.heads)
        x = x + a.output(attend(rotate(q, cosine, sine), rotate(k, cosine, sine), v, mask))
        return x + self.mlp(self.norm2(x))


class TextEncoder(nn.Module):
    def __init__(self, length: int, width: int, blocks: int, heads: int):
        super().__init__()
        self.embedding = nn.Embedding(2 + WORDS, width)
        angles = torch.arange(length)[:, None] * THETA ** (-torch.arange(0, width // heads, 2) / (width // heads))
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        self.blocks = nn.ModuleList(WordBlock(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        mask = ids != 0
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, mask, self.cosine, self.sine)
        return self.norm(x), mask


def pooled(text: Tensor, mask: Tensor) -> Tensor:
    return (text * (mask / mask.sum(1, keepdim=True))[:, :, None]).sum(1)


class PixelAttention(nn.Module):
    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(8, channels)
        self.query_key_value, self.output = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = heads_of(self.query_key_value(self.norm(x).flatten(2).transpose(1, 2)), 3, self.heads)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.output(y).transpose(1, 2).view_as(x)


class CrossAttention(nn.Module):
    def __init__(self, channels: int, width: int, heads: int):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(8, channels)
        self.query, self.key_value, self.output = nn.Linear(channels, channels), nn.Linear(width, 2 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        (q,) = heads_of(self.query(self.norm(x).flatten(2).transpose(1, 2)), 1, self.heads)
        k, v = heads_of(self.key_value(text), 2, self.heads)
        return x + self.output(attend(q, k, v, mask)).transpose(1, 2).view_as(x)


def squares(x: Tensor, side: int) -> Tensor:
    """(n, colours, height, width) -> (n, rows, columns, side side colours): the order of the zoo's patches."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // side, side, w // side, side).permute(0, 2, 4, 3, 5, 1).reshape(n, h // side, w // side, side * side * c)


def from_squares(x: Tensor, side: int, colours: int) -> Tensor:
    n, rows, columns, _ = x.shape
    return x.reshape(n, rows, columns, side, side, colours).permute(0, 5, 1, 3, 2, 4).reshape(n, colours, rows * side, columns * side)


class TextUNet(nn.Module):
    def __init__(self, c: int, blocks: int, heads: int, text_width: int, text_heads: int):
        super().__init__()
        width = 4 * c
        self.condition, self.pooled = Condition(c, width), nn.Linear(text_width, width)
        self.conv_in = nn.Conv2d(12, c, 3, padding=1)
        self.down = nn.ModuleList([Level(c, c, width, blocks), Level(c, 2 * c, width, blocks)])
        self.downsample = nn.ModuleList([nn.Conv2d(c, c, 3, 2, 1), nn.Conv2d(2 * c, 2 * c, 3, 2, 1)])
        self.middle1, self.attention, self.middle2 = Residual(2 * c, 2 * c, width), PixelAttention(2 * c, heads), Residual(2 * c, 2 * c, width)
        self.up = nn.ModuleList([Level(4 * c, 2 * c, width, blocks), Level(3 * c, c, width, blocks)])
        self.norm, self.conv_out = nn.GroupNorm(8, c), nn.Conv2d(c, 12, 3, padding=1)
        self.look_down, self.look_up = (nn.ModuleList([CrossAttention(2 * c, text_width, text_heads)]) for _ in range(2))
        self.look_middle = CrossAttention(2 * c, text_width, text_heads)

    def forward(self, x: Tensor, t: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        e = self.condition(t) + self.pooled(pooled(text, mask))
        first = self.down[0](self.conv_in(squares(x, 2).permute(0, 3, 1, 2)), e)
        second = self.look_down[0](self.down[1](self.downsample[0](first), e), text, mask)
        h = self.attention(self.middle1(self.downsample[1](second), e))
        h = self.middle2(self.look_middle(h, text, mask), e)
        h = self.look_up[0](self.up[0](torch.cat([F.interpolate(h, scale_factor=2.0), second], 1), e), text, mask)
        h = self.up[1](torch.cat([F.interpolate(h, scale_factor=2.0), first], 1), e)
        return from_squares(self.conv_out(F.silu(self.norm(h))).permute(0, 2, 3, 1), 2, 3)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Stream(nn.Module):
    def __init__(self, width: int, is_last: bool = False):
        super().__init__()
        self.is_last = is_last
        self.modulation, self.query_key_value = nn.Linear(width, (2 if is_last else 6) * width), nn.Linear(width, 3 * width)
        if not is_last:
            self.output, self.mlp = nn.Linear(width, width), MLP(width)

    def read(self, x: Tensor, e: Tensor, heads: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        shift, scale, *rest = self.modulation(e).chunk(2 if self.is_last else 6, dim=-1)
        return heads_of(self.query_key_value(modulated(x, shift, scale)), 3, heads), tuple(rest)

    def write(self, x: Tensor, y: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        if self.is_last:
            return x
        gate1, shift, scale, gate2 = rest
        x = x + gate1 * self.output(y)
        return x + gate2 * self.mlp(modulated(x, shift, scale))


class JointBlock(nn.Module):
    def __init__(self, width: int, heads: int, is_last: bool):
        super().__init__()
        self.heads, self.words, self.patches = heads, Stream(width, is_last), Stream(width)

    def forward(self, text: Tensor, x: Tensor, e: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        of_words, rest_words = self.words.read(text, e, self.heads)
        of_patches, rest_patches = self.patches.read(x, e, self.heads)
        q, k, v = (torch.cat(pair, 2) for pair in zip(of_words, of_patches))
        y, length = attend(q, k, v, mask), text.shape[1]
        return self.words.write(text, y[:, :length], rest_words), self.patches.write(x, y[:, length:], rest_patches)


class MMDiT(nn.Module):
    def __init__(self, patch: int, width: int, blocks: int, heads: int, text_width: int):
        super().__init__()
        self.patch, inputs = patch, 3 * patch * patch
        self.condition, self.pooled, self.word_embedding = Condition(64, width), nn.Linear(text_width, width), nn.Linear(text_width, width)
        self.patch_embedding, self.patch_output = nn.Linear(inputs, width), nn.Linear(width, inputs)
        self.blocks = nn.ModuleList(JointBlock(width, heads, i == blocks - 1) for i in range(blocks))
        self.modulation = nn.Linear(width, 2 * width)
        side, half = 32 // patch, width // 2
        angle = torch.arange(side)[:, None] * torch.exp(-math.log(1e4) * torch.arange(half // 2) / (half // 2))
        along = torch.cat([angle.sin(), angle.cos()], 1)  # (side, width / 2)
        self.positions = torch.cat([along[:, None].expand(-1, side, -1), along[None].expand(side, -1, -1)], 2).reshape(1, side * side, width)

    def forward(self, x: Tensor, t: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        e = F.silu(self.condition(t) + self.pooled(pooled(text, mask)))[:, None]
        words, tokens = self.word_embedding(text), squares(x, self.patch)
        h = self.patch_embedding(tokens.flatten(1, 2)) + self.positions
        everywhere = torch.cat([mask, mask.new_ones(len(mask), h.shape[1])], 1)
        for block in self.blocks:
            words, h = block(words, h, e, everywhere)
        shift, scale = self.modulation(e).chunk(2, dim=-1)
        return from_squares(self.patch_output(modulated(h, shift, scale)).view_as(tokens), self.patch, 3)


class FromWords(nn.Module):
    def __init__(self, text: TextEncoder, network: nn.Module):
        super().__init__()
        self.text, self.network = text, network

    def forward(self, x: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        return self.network(x, t, *self.text(ids))


def words_unet(data: dict[str, Tensor], weights: dict, variant: list[str], *, channels: int, blocks: int, heads: int, length: int, text_width: int,
               text_blocks: int, text_heads: int, batch: int) -> Step:
    network = TextUNet(channels, blocks, heads, text_width, text_heads)
    return from_words(data, weights, variant, TextEncoder(length, text_width, text_blocks, text_heads), network)


def words_mmdit(data: dict[str, Tensor], weights: dict, variant: list[str], *, channels: int, blocks: int, heads: int, patch: int, length: int,
                text_width: int, text_blocks: int, text_heads: int, batch: int) -> Step:
    network = MMDiT(patch, channels, blocks, heads, text_width)
    return from_words(data, weights, variant, TextEncoder(length, text_width, text_blocks, text_heads), network)


def from_words(data: dict[str, Tensor], weights: dict, variant: list[str], text: TextEncoder, network: nn.Module) -> Step:
    model = prepared(FromWords(text, network), weights, variant)
    x, noise = placed(data["x"], variant), placed(data["noise"], variant)
    return training(adam(model.parameters(), variant, lr=1e-3), variant, lambda: F.mse_loss(model(x, data["t"], data["ids"]), noise))
