"""One pass of a transformer as a sum (Elhage et al. 2021): every head and every mlp adds its part to the residual stream.

    stream = embedding + what the heads of block 0 write + what its mlp writes + ... + biases        logits = output(norm(stream))

This holds because each block computes x + attention(norm(x)) and then x + mlp(norm(x)), and because an attention's output matrix, applied
to the concatenated heads, is the sum of its rows applied to each head.  So if the last norm's scale is taken as a constant, a logit is a
sum as well, with one term per part: that is direct logit attribution.

Parts have dotted names: "embedding", "blocks.0.head.3", "blocks.0.mlp", and "biases" for the biases of the attentions' outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..autograd import no_grad
from ..autograd.tracing import Seen, trace
from ..language.model import Prompt
from ..nn import Embedding, QuantisedEmbedding, QuantisedLinear

HEADS = "blocks.{}.attention.scaled_dot_product_attention"  # (batch, heads, time, head_width)
MLP = "blocks.{}.mlp.down.linear"  # (batch, time, width)
QUANTISED = "quantised_"  # before the last part of a name, where weights are of 4 or 8 bits
WATCHED = ("blocks.*.attention.softmax", HEADS.format("*"), "blocks.*.mlp.down.*linear", "blocks.*.add", "blocks.*.add#2", "add",
           "embedding.*embedding")


class Activations(NamedTuple):
    """What one pass over a text computed, at the positions that were asked for."""

    attention: np.ndarray  # (layers, heads, time, keys)
    streams: np.ndarray  # (layers + 1, time, width) before, between and after the blocks, float64 like the parts
    parts: np.ndarray  # (parts, time, width) what each part wrote: they sum to streams[-1]


def look(model: Any, prompt: Prompt) -> Activations:
    """One pass over a text, or over ids (time,)."""
    ids = checked(model, prompt)
    with no_grad(), trace(model, at=WATCHED) as seen:
        model(ids[None])
    return read(model, seen.records)


def read(model: Any, records: Iterable[Seen], positions: slice = slice(None)) -> Activations:
    """The same from the records of a trace of one pass, at these positions."""
    c = model.config
    by_name = {seen.short.replace(QUANTISED, ""): seen.value for seen in records}

    def written(name: str) -> np.ndarray:  # (time, width)
        return by_name[name][0, positions].astype(np.float64)

    attention, streams, parts = [], [written(stream_name(model, 0))], []
    for i in range(c.layers):
        attention.append(by_name[f"blocks.{i}.attention.softmax"][0, :, positions])
        streams.append(written(stream_name(model, i + 1)))
        heads = by_name[HEADS.format(i)][0, :, positions].astype(np.float64)  # (heads, time, head_width)
        parts += list(heads @ output_rows(model, i))
        if c.mlp != "none":
            parts.append(written(MLP.format(i)))
    parts = [streams[0], *parts]
    parts.append(streams[-1] - np.sum(parts, axis=0))
    return Activations(np.stack(attention), np.stack(streams), np.stack(parts))


def traced_name(model: Any, name: str) -> str:
    """The name that an operation has in a trace of this model: where weights are of 4 or 8 bits, it is another one."""
    path, _, operation = name.rpartition(".")
    layer = dict(model.modules()).get(path)
    return f"{path}.{QUANTISED}{operation}" if isinstance(layer, (QuantisedLinear, QuantisedEmbedding)) else name


def part_names(model: Any) -> list[str]:
    c = model.config
    mlp = [] if c.mlp == "none" else ["mlp"]
    return ["embedding", *(f"blocks.{i}.{part}" for i in range(c.layers) for part in (*(f"head.{h}" for h in range(c.heads)), *mlp)), "biases"]


def stream_titles(model: Any) -> list[str]:
    """What figures and pages call the streams (layers + 1): each by the block that wrote to it last."""
    return ["embedding", *(f"blocks.{i}" for i in range(model.config.layers))]


def stream_name(model: Any, i: int) -> str:
    """The name in a trace of the stream before block i, or after the last block."""
    if i == 0:
        return "embedding.embedding" if model.position is None else "add"
    return f"blocks.{i - 1}.add" if model.config.mlp == "none" else f"blocks.{i - 1}.add#2"


def output_rows(model: Any, layer: int) -> np.ndarray:
    """The rows of the attention's output matrix that belong to each head: (heads, head_width, width)."""
    c = model.config
    return model.blocks[layer].attention.output.weight.data.reshape(c.heads, c.head_width, c.width)


def checked(model: Any, prompt: Prompt) -> np.ndarray:
    """ids (time,) of a text for a transformer."""
    check_transformer(model)
    ids = model.ids(prompt)
    if len(ids) > model.config.window:
        raise ValueError(f"prompt is {len(ids)} tokens long; this model's window is {model.config.window}")
    return ids


def check_transformer(model: Any) -> None:
    if getattr(model, "kind", None) != "transformer":
        raise ValueError(f"model is a {type(model).__name__}; this function takes a transformer")


# --- where heads look


def attention_maps(model: Any, prompt: Prompt) -> np.ndarray:
    """Softmax of every layer and head: (layers, heads, queries, keys), rows sum to 1."""
    return look(model, prompt).attention


def attention_rollout(maps: np.ndarray) -> np.ndarray:
    """How much of each position's stream comes from which token, if nothing but attention moved information (Abnar & Zuidema 2020, section 3).

    A layer is half the mean of its heads and half the residual connection; layers multiply.
    maps (layers, heads, time, time) -> (layers, time, time), after each layer.
    """
    if maps.ndim != 4 or maps.shape[2] != maps.shape[3]:
        raise ValueError(f"attention_rollout: maps have shape {maps.shape}; they are (layers, heads, time, time), as attention_maps gives them")
    rollout, after_layers = np.eye(maps.shape[-1]), []
    for layer in maps.astype(np.float64):
        rollout = (0.5 * layer.mean(0) + 0.5 * np.eye(len(rollout))) @ rollout
        after_layers.append(rollout)
    return np.stack(after_layers)


# --- what the stream predicts


def logit_lens(model: Any, prompt: Prompt) -> np.ndarray:
    """The stream after each block, read as if it were the last (nostalgebraist 2020): logits (layers + 1, time, symbols).

    The last of them are the model's output.
    """
    return lens(model, look(model, prompt).streams)


def lens(model: Any, streams: np.ndarray) -> np.ndarray:
    """Streams (..., width) through the last norm and the output matrix: (..., symbols)."""
    with no_grad():
        return np.asarray(model.logits(model.norm(streams.astype(np.float32))))


@dataclasses.dataclass(frozen=True)
class LogitAttribution:
    """A logit as the sum of what each part of the model added to it.  names: the parts; values: what each added."""

    names: list[str]
    values: np.ndarray  # (parts,)
    token: int
    against: int | None
    logit: float  # of token, or its difference from the logit of `against`: what the values sum to


def direct_logit_attribution(model: Any, prompt: Prompt, token: int | None = None, *, against: int | None = None) -> LogitAttribution:
    """What each part added to the logit of `token` after the prompt, or to its difference from `against` (Elhage et al. 2021).

    token: the most likely one unless given.  The scale of the last norm is taken as a constant, which makes the norm linear.
    """
    activations = look(model, prompt)
    logits = lens(model, activations.streams[-1, -1]).astype(np.float64)
    token = int(logits.argmax()) if token is None else token
    model.check_ids(np.array([token] if against is None else [token, against]), "token")
    direction, logit = output_direction(model, token), logits[token]
    if against is not None:
        direction, logit = direction - output_direction(model, against), logit - logits[against]
    values = contributions(model, activations.streams[-1, -1], activations.parts[:, -1], direction)
    return LogitAttribution(part_names(model), values, token, against, float(logit))


def contributions(model: Any, stream: np.ndarray, parts: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The component of each part (n, width) along a direction of the normalised stream: (n,).  The parts sum to stream (width,).

    The norm's bias is counted with the last part.
    """
    norm, kind = model.norm, model.config.norm
    if kind == "none":
        return parts @ direction
    if kind == "layer":
        parts = parts - parts.mean(-1, keepdims=True)
        scale = np.sqrt(stream.var() + norm.eps)
    else:
        scale = np.sqrt((stream**2).mean() + norm.eps)
    scaled = norm.gain.data.astype(np.float64) * parts / scale
    if getattr(norm, "bias", None) is not None:
        scaled[-1] += norm.bias.data
    return scaled @ direction


def output_direction(model: Any, token: int) -> np.ndarray:
    """The column of the output matrix that belongs to a token, (width,) float64."""
    if model.output is not None:
        return model.output.weight.data[:, token].astype(np.float64)
    if isinstance(model.embedding, Embedding):
        return model.embedding.weight.data[token].astype(np.float64)
    return np.asarray(model.embedding(np.array(token))).astype(np.float64)  # of a quantised table, this row alone


def output_matrix(model: Any) -> np.ndarray:
    """(width, symbols)"""
    return model.embedding.weight.data.T if model.output is None else model.output.weight.data
