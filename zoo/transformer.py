"""A transformer that generates text: one decoder, which by configuration is GPT-2 (Radford et al. 2019) or Llama (Touvron et al. 2023).

    ids --embedding (+ learned positions)--> x
    x = x + attention(norm(x))          each token looks at itself and at those before it; Llama rotates queries and keys by their position
    x = x + mlp(norm(x))                each token by itself
    norm(x) --output--> logits of the token that follows each

                    positions   norm     mlp                  biases   key/value heads   output
    GPT-2           learned     layer    GELU, 4 width        yes      heads             tied to the embedding
    Llama           rotary      rms      SwiGLU, 8/3 width    no       fewer             its own matrix

Relatives of Llama differ by a switch: Qwen2 has biases for queries, keys and values, Qwen3 norms of each head's queries and keys,
Mistral looks back no further than a number of tokens, and models of long texts turn their rotary pairs more slowly (language/rotary.py).

Why the mask makes a language model: the row of x at position t is computed from ids 0 ... t alone, in every layer, so its logits are
p(next | ids 0 ... t), and by the chain rule the sum of their logarithms is the log-likelihood of the whole text.  One pass yields all terms.

While generating, keys and values of the tokens that were read stay in a `Cache`, so a token costs one row of each matrix product;
`language/decoding.py` computes the whole row in one kernel.  When the window is full, the model reads the later half of it again from
position 0 and goes on, so that it always sees at least half a window.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, Unpack

import numpy as np
from numpy.random import Generator

from . import autograd as ops
from .autograd import Tensor, no_grad, use_precision
from .autograd.operations import checks, quantised
from .language import decoding
from .language.cache import Cache
from .language.layers import Layers, Norm, QuantisedLayers, StoredLayers
from .language.model import LanguageConfig, LanguageModel
from .language.prefixes import common
from .model import moved
from .nn import Embedding, Linear, Module, Sequential, dropout

# --- configuration

if TYPE_CHECKING:
    from .model.fields import TransformerFields

__all__ = ["MLP", "Attention", "Block", "DecodingState", "Layers", "QuantisedLayers", "Transformer", "TransformerConfig"]


@dataclasses.dataclass(frozen=True)
class TransformerConfig(LanguageConfig):
    window: int = 64  # tokens that the model sees at once
    layers: int = 4
    heads: int = 4
    width: int = 128  # of the residual stream
    key_value_heads: int = 0  # each is shared by heads / key_value_heads heads; 0: as many as heads
    head_width: int = 0  # 0: width / heads
    hidden: int = 0  # width of the mlp; 0: 4 width, or with swiglu 8/3 width rounded up to a multiple of 32
    positions: Literal["learned", "rotary"] = "learned"
    theta: float = 10000.0  # base of the rotary wavelengths
    rope_divisors: tuple[float, ...] = ()  # what divides the frequency of each rotary pair, in a model of longer texts; see rotary.py
    rope_attention: float = 1.0  # by which rotated queries and keys are multiplied
    sliding_window: int = 0  # tokens that the layers of `sliding_layers` look at, the token itself included; the others look at all
    sliding_layers: tuple[int, ...] = ()
    norm: Literal["layer", "rms", "none"] = "layer"
    eps: float = 1e-5
    mlp: Literal["gelu", "swiglu", "relu", "silu", "none"] = "gelu"  # gelu in its tanh form; none: attention only
    bias: bool = True
    query_key_value_bias: bool = False  # biases of queries, keys and values where `bias` is False
    query_key_norm: bool = False  # RMS norm of each head's queries and keys, before they are rotated
    tied: bool = True  # the output matrix is the embedding's
    dropout: float = 0.0

    @classmethod
    def make(cls, **fields: Any) -> TransformerConfig:
        c = super().make(**fields)
        c.at_least(1, "symbols", "window", "layers", "heads", "width")
        if not c.head_width and c.width % c.heads:
            raise ValueError(f"TransformerConfig: heads is {c.heads}; it must divide the width, {c.width}")
        kv, d = c.key_value_heads or c.heads, c.head_width or c.width // c.heads
        if kv < 1 or c.heads % kv:
            raise ValueError(f"TransformerConfig: key_value_heads is {kv}; it must divide heads, {c.heads}")
        if c.positions == "rotary" and d % 2:
            raise ValueError(f"TransformerConfig: a head's width is {d}; rotary positions need an even one")
        if c.rope_divisors and (len(c.rope_divisors) != d // 2 or not 0 < min(c.rope_divisors) <= max(c.rope_divisors) < math.inf):
            raise ValueError(f"TransformerConfig: rope_divisors has {len(c.rope_divisors)} numbers, the least {min(c.rope_divisors)}; "
                             f"it has one above 0 for each of {d // 2} pairs")
        if not 0 < c.rope_attention < math.inf:
            raise ValueError(f"TransformerConfig: rope_attention is {c.rope_attention}; it is above 0")
        if c.sliding_layers and not (c.sliding_window >= 1 and 0 <= min(c.sliding_layers) <= max(c.sliding_layers) < c.layers):
            raise ValueError(f"TransformerConfig: sliding_layers is {c.sliding_layers} with a sliding_window of {c.sliding_window}; "
                             f"layers go from 0 to {c.layers - 1}, and the window is at least 1")
        if not 0 <= c.dropout < 1:
            raise ValueError(f"TransformerConfig: dropout is {c.dropout}; it goes from 0 up to but not including 1")
        hidden = c.hidden or (32 * math.ceil(c.width / 12) if c.mlp == "swiglu" else 4 * c.width)
        return dataclasses.replace(c, key_value_heads=kv, head_width=d, hidden=hidden)


# --- parts


class Attention(Module):
    """Causal multi-head self-attention (Vaswani et al. 2017, section 3.2), with grouped keys and values (Ainslie et al. 2023).

        attention(q, k, v) = softmax(q k^T / sqrt(d)) v                                                                   (equation 1)

    Why sqrt(d): if the d components of q and k are independent with mean 0 and variance 1, then q . k = sum of q_i k_i has mean 0 and
    variance d.  Divided by sqrt(d), scores have variance 1 whatever the head's width; otherwise the softmax of a wide head puts nearly
    everything on one key, where its derivative p (1 - p) vanishes and nothing is learned.
    """

    query_key_value: Linear  # width -> (heads + 2 key_value_heads) head_width
    query_norm: Norm | None  # of each head's queries; None where they have none
    key_norm: Norm | None
    output: Linear  # heads head_width -> width

    def __init__(self, c: TransformerConfig, layers: Layers, name: str, sliding: bool = False):
        self.heads, self.key_value_heads, self.sliding = c.heads, c.key_value_heads, c.sliding_window if sliding else 0
        self.query_key_value = layers.linear(f"{name}.query_key_value", c.width, (c.heads + 2 * c.key_value_heads) * c.head_width,
                                             bias=c.bias or c.query_key_value_bias)
        self.query_norm, self.key_norm = (layers.norm(f"{name}.{part}", head=True) if c.query_key_norm else None
                                          for part in ("query_norm", "key_norm"))
        self.output = layers.linear(f"{name}.output", c.heads * c.head_width, c.width, residual=True)

    def __call__(self, x, rotation=None, cache=None, start: int = 0):  # x (batch, time, width)
        h, g, t = self.heads, self.key_value_heads, x.shape[1]
        packed = self.query_key_value(x)  # queries, keys, values: (batch, time, (heads + 2 key_value_heads) head_width)
        if cache is None and self.query_norm is None and not self.sliding:
            return self.output(ops.self_attention(packed, heads=h, key_value_heads=g, rotation=rotation, is_causal=True))
        q, k, v = ops.unpack(packed, h, g)  # (batch, heads, time, head_width), k and v with key_value_heads
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if rotation is not None:
            q, k = ops.rotate(q, *rotation), ops.rotate(k, *rotation)
        if cache is not None:
            keys, values = cache  # (batch, key_value_heads, room, head_width)
            keys[:, :, start : start + t], values[:, :, start : start + t] = _array(k), _array(v)
            k, v = (z[:, :, : start + t] for z in cache)
        k, v = ops.repeat_heads(k, h), ops.repeat_heads(v, h)  # (batch, heads, start + time, head_width)
        mask = None
        if 0 < self.sliding < start + t:
            mask = np.arange(start, start + t)[:, None] - np.arange(start + t) < self.sliding  # (time, start + time)
        mixed = ops.scaled_dot_product_attention(q, k, v, mask, is_causal=True)  # aligned at the last key, PyTorch's at the first
        return self.output(ops.merge_heads(mixed))


class MLP(Module):
    """y = down(activation(up(x))): two layers; with swiglu y = down(silu(gate(x)) up(x)) (Shazeer 2020)."""

    gate: Linear | None
    up: Linear
    down: Linear

    def __init__(self, c: TransformerConfig, layers: Layers, name: str):
        swiglu = c.mlp == "swiglu"
        self.gate = layers.linear(f"{name}.gate", c.width, c.hidden, activation="silu") if swiglu else None
        self.up = layers.linear(f"{name}.up", c.width, c.hidden, activation=None if swiglu else c.mlp)
        self.down = layers.linear(f"{name}.down", c.hidden, c.width, residual=True)

    def __call__(self, x):
        return self.down(self.up(x) if self.gate is None else self.gate(x) * self.up(x))


class Block(Module):
    """h = x + attention(norm1(x)), y = h + mlp(norm2(h)): norms before each part (Radford et al. 2019, section 2.3)."""

    norm1: Norm
    attention: Attention
    norm2: Norm
    mlp: MLP | None  # None where there is attention only

    def __init__(self, c: TransformerConfig, layers: Layers, name: str, sliding: bool = False):
        self.dropout = c.dropout
        self.norm1, self.attention = layers.norm(f"{name}.norm1"), Attention(c, layers, f"{name}.attention", sliding)
        self.norm2, self.mlp = (Sequential(), None) if c.mlp == "none" else (layers.norm(f"{name}.norm2"), MLP(c, layers, f"{name}.mlp"))

    def __call__(self, x, rotation=None, cache=None, start: int = 0, rng: Generator | None = None):
        x = x + dropout(self.attention(self.norm1(x), rotation, cache, start), self.dropout, rng)
        if self.mlp is None:
            return x
        return x + dropout(self.mlp(self.norm2(x)), self.dropout, rng)


# --- model


class DecodingState(NamedTuple):
    """What `advance` goes on from: the first `length` tokens of a cache."""

    cache: Cache
    length: int
    decoder: decoding.Decoder | None = None  # a kernel for this cache


class Transformer(LanguageModel):
    """`Transformer.new(symbols=65, window=64, seed=0)`, or `zoo.load("transformer")`."""

    kind = "transformer"
    Config = TransformerConfig
    config: TransformerConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[TransformerFields]) -> Self: ...  # type: ignore[override]

    embedding: Embedding  # (symbols, width)
    position: Embedding | None  # (window, width)
    blocks: list[Block]
    norm: Norm
    output: Linear | None  # None where tied

    def __init__(self, config: TransformerConfig, *, rng: Generator, layers: Layers | None = None):
        config = config.make(**config.to_dict())  # one that was built by hand may have sizes of 0 still, which stand for "derive it"
        super().__init__(config, rng=rng)
        c = config
        layers = layers or Layers(c, rng)
        self.embedding = layers.embedding("embedding", c.symbols)
        self.position = layers.embedding("position", c.window) if c.positions == "learned" else None
        self.blocks = [Block(c, layers, f"blocks.{i}", i in c.sliding_layers) for i in range(c.layers)]
        self.norm = layers.norm("norm")
        self.output = None if c.tied else layers.linear("output", c.width, c.symbols, bias=False)
        self._rotation = (np.zeros((0, 0), np.float32),) * 2

    def __call__(self, ids: Any, *, rng: Generator | None = None, cache: Cache | None = None, start: int = 0) -> Any:
        """ids (batch, time) -> logits (batch, time, symbols).

        rng: for dropout; without it nothing is dropped.  cache: keys and values of the `start` tokens before ids, to which those of ids
        are added; then only the logits after the last token are computed, (batch, 1, symbols).
        """
        c = self.config
        ids = ids if isinstance(ids, Tensor) and cache is None else np.asarray(ids)
        if ids.ndim != 2 or ids.size == 0:
            raise ValueError(f"ids have shape {ids.shape}; they are (batch, time), and not empty")
        checks.values(ids, self.check_ids)
        t = ids.shape[1]
        if start + t > c.window:
            raise ValueError(f"ids are {start + t} tokens long; this model's window is {c.window}")
        x = self.embedding(ids)  # (batch, time, width)
        if self.position is not None:
            x = x + self.position.weight[start : start + t]
        x = dropout(x, c.dropout, rng)
        rotation = tuple(table[start : start + t] for table in self.rotation(start + t)) if c.positions == "rotary" else None
        for i, block in enumerate(self.blocks):
            x = block(x, rotation, None if cache is None else (cache.keys[i], cache.values[i]), start, rng)
        if cache is not None:
            cache.ids[start : start + t] = ids[0]
            x = x[:, -1:]  # generation needs only the logits after the last token
        return self.logits(self.norm(x))

    def logits(self, x):
        """Logits of a residual stream after the last norm: (..., width) -> (..., symbols)."""
        return self.embedding.scores(x) if self.output is None else self.output(x)

    def rotation(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and sines of the rotary angles of n positions, each (n or more, head_width / 2) (Su et al. 2021, equation 15).

        Position m rotates the pair i of a query or key, its entries i and i + head_width / 2, by the angle m theta^(-2i / head_width):
        q -> R_m q.  Rotations add up, R_m^T R_n = R_(n - m), so the score (R_m q) . (R_n k) = q . R_(n - m) k depends on the distance
        n - m alone (equation 16).
        """
        if len(self._rotation[0]) < n:
            c = self.config
            room = min(c.window, max(n, 2 * len(self._rotation[0])))
            frequencies = c.theta ** (-np.arange(0, c.head_width, 2) / c.head_width)
            angles = np.arange(room)[:, None] * (frequencies / (c.rope_divisors or 1))
            cosines, sines = c.rope_attention * np.cos(angles), c.rope_attention * np.sin(angles)
            self._rotation = cosines.astype(np.float32), sines.astype(np.float32)
        return self._rotation

    @classmethod
    def unfilled(cls, config: Any, shapes: Mapping[str, tuple[int, ...]]) -> Transformer:
        return cls(config, rng=np.random.default_rng(0), layers=StoredLayers(cls.Config.make(**config.to_dict()), shapes))

    def quantise(self, kind: str = "q8_0") -> Transformer:
        """A model with the same weights in blocks of 8 bits ("q8_0") or 4 ("q4_1"), which can't be trained; norms and biases stay float32.

        ValueError where 32 doesn't divide the inputs of a matrix, or for another kind.
        """
        if kind.upper() not in quantised.BYTES:
            raise ValueError(f"quantise: kind is {kind!r}; it may be {', '.join(k.lower() for k in quantised.BYTES)}")
        model = Transformer(self.config, rng=np.random.default_rng(0), layers=QuantisedLayers(self, kind.upper()))
        for name in ("tokenizer", "start_ids", "begin_id", "end_ids", "template"):
            setattr(model, name, getattr(self, name))
        return model.eval()  # type: ignore[return-value]

    # --- generation

    def begin(self, ids: np.ndarray, room: int = 0, earlier: DecodingState | None = None) -> tuple[np.ndarray, DecodingState]:
        """The logits (symbols,) after ids, and the state there.  Of a prompt longer than the window, the last `window` tokens are read.

        room: how many tokens will follow, so that the cache needn't grow.
        earlier: a state that has read another text; what both begin with is copied from it, and the rest is read.
        """
        ids = ids[-self.config.window:]
        size, read = min(self.config.window, len(ids) + room), 0 if earlier is None else common(earlier, ids)  # one id at least is left to read
        cache = Cache.empty(self.config, size) if earlier is None else earlier.cache.resized(read, size)
        decoder = decoding.decoder(self, cache)  # None where there is no kernel for a model of these parts, or a trace is on
        if decoder is not None and len(ids) == read + 1:
            return self.advance(int(ids[-1]), DecodingState(cache, read, decoder))
        return self._last_logits(ids[read:], cache, read), DecodingState(cache, len(ids), decoder)

    def advance(self, token: int, state: DecodingState) -> tuple[np.ndarray, DecodingState]:
        """The logits after one more token, and the state there.  It shares the old one's cache, whose first tokens stay as they are."""
        cache, n, decoder = state
        if n == self.config.window:  # full: read the later half again, and this token after it
            return self.begin(np.append(cache.ids[n - n // 2:], token) if n > 1 else np.array([token]), room=n)
        if n == cache.room:
            state = self._resized(state, min(self.config.window, 2 * n))
            cache, _, decoder = state
        if decoder is not None and not decoder.plan.is_current():
            decoder = decoding.decoder(self, cache)
        if decoder is None or not decoding.is_available():
            return self._last_logits(np.array([token]), cache, n), DecodingState(cache, n + 1, decoder)
        cache.ids[n] = token
        return decoder(token, n), DecodingState(cache, n + 1, decoder)

    def _last_logits(self, ids: np.ndarray, cache: Cache, start: int) -> np.ndarray:
        with no_grad(), use_precision("float32"):  # as the kernel computes, which waits for weights and not for products
            return _array(self(ids[None], cache=cache, start=start))[0, -1]

    def fork(self, state: DecodingState) -> DecodingState:
        """The same state with a cache of its own."""
        return self._resized(state, state.cache.room)

    def _resized(self, state: DecodingState, room: int) -> DecodingState:
        cache = state.cache.resized(state.length, room)
        return DecodingState(cache, state.length, None if state.decoder is None else decoding.decoder(self, cache))


def _array(x: Any) -> np.ndarray:
    return x.data if isinstance(x, Tensor) else x


def __getattr__(name: str):
    if name == "from_hugging_face":
        return moved(__name__, name, "zoo.loading.hugging_face", (name,))
    return moved(__name__, name, "zoo.recipes.transformer", ("LanguageTraining", "PRESETS", "make_trainer"))
