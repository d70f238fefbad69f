"""One pass of a transformer as the sum that it is (Elhage et al. 2021): a stream, to which every head and every mlp adds its part.

    stream = embedding + what the heads of block 0 wrote + what its mlp wrote + ... + biases        logits = output(norm(stream))

Parts are called by their place: "embedding", "blocks.0.head.3", "blocks.0.mlp", and "biases" for those of the attentions' outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..autograd import no_grad
from ..autograd.tracing import Seen, trace
from ..language.model import Prompt

HEADS = "blocks.{}.attention.scaled_dot_product_attention"  # (batch, heads, time, head_width)
MLP = "blocks.{}.mlp.down.linear"  # (batch, time, width)
WATCHED = ("blocks.*.attention.softmax", HEADS.format("*"), MLP.format("*"), "blocks.*.add", "blocks.*.add#2", "add", "embedding.embedding")


class Inside(NamedTuple):
    """What a pass over one text looked like; time is that of the positions that were asked for."""

    attention: np.ndarray  # (layers, heads, time, keys)
    streams: np.ndarray  # (layers + 1, time, width) before, between and behind the blocks, float64 as the parts
    parts: np.ndarray  # (parts, time, width) what each part wrote: they sum to streams[-1]


def look(model: Any, prompt: Prompt) -> Inside:
    """One pass over a text, or over ids (time,)."""
    ids = checked(model, prompt)
    with no_grad(), trace(model, at=WATCHED) as seen:
        model(ids[None])
    return read(model, seen.records)


def read(model: Any, met: Iterable[Seen], positions: slice = slice(None)) -> Inside:
    """The same from what a trace met in one pass, at some positions of it."""
    c = model.config
    by_name = {seen.short: seen.value for seen in met}

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
    return Inside(np.stack(attention), np.stack(streams), np.stack(parts))


def part_names(model: Any) -> list[str]:
    c = model.config
    mlp = [] if c.mlp == "none" else ["mlp"]
    return ["embedding", *(f"blocks.{i}.{part}" for i in range(c.layers) for part in (*(f"head.{h}" for h in range(c.heads)), *mlp)), "biases"]


def stream_name(model: Any, i: int) -> str:
    """Under which name a trace has the stream before block i (or behind the last)."""
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
        raise ValueError(f"model is a {type(model).__name__}; this looks into transformers")


# --- where heads look


def attention_maps(model: Any, prompt: Prompt) -> np.ndarray:
    """Softmax of every layer and head: (layers, heads, queries, keys), rows sum to 1."""
    return look(model, prompt).attention


def attention_rollout(maps: np.ndarray) -> np.ndarray:
    """How much of each position's stream comes from which token, if attention were all (Abnar & Zuidema 2020, section 3).

    A layer's heads are averaged and stand half and half with the residual connection; layers multiply.
    maps (layers, heads, time, time) -> (layers, time, time), behind each layer.
    """
    if maps.ndim != 4 or maps.shape[2] != maps.shape[3]:
        raise ValueError(f"attention_rollout: maps have shape {maps.shape}; they are (layers, heads, time, time), as attention_maps gives them")
    rolled, found = np.eye(maps.shape[-1]), []
    for layer in maps.astype(np.float64):
        rolled = (0.5 * layer.mean(0) + 0.5 * np.eye(len(rolled))) @ rolled
        found.append(rolled)
    return np.stack(found)


# --- what the stream says


def logit_lens(model: Any, prompt: Prompt) -> np.ndarray:
    """The stream between the blocks, read as if it were the last (nostalgebraist 2020): logits (layers + 1, time, symbols).

    The last of them are the model's own.
    """
    return lens(model, look(model, prompt).streams)


def lens(model: Any, streams: np.ndarray) -> np.ndarray:
    """Streams (..., width) through the last norm and the output matrix: (..., symbols)."""
    with no_grad():
        return np.asarray(model.logits(model.norm(streams.astype(np.float32))))


@dataclasses.dataclass(frozen=True)
class LogitAttribution:
    """A logit as the sum of what each part of the model added to it."""

    names: list[str]
    values: np.ndarray  # (parts,)
    token: int
    against: int | None
    logit: float  # that of token, or by how much it is above that of `against`: what the values sum to


def direct_logit_attribution(model: Any, prompt: Prompt, token: int | None = None, *, against: int | None = None) -> LogitAttribution:
    """What each part added to the logit of `token` behind the prompt, or to its difference from `against` (Elhage et al. 2021).

    token: the likeliest if not given.  The last norm is taken at the scale that it had, so that it is linear.
    """
    inside = look(model, prompt)
    logits = lens(model, inside.streams[-1, -1]).astype(np.float64)
    token = int(logits.argmax()) if token is None else token
    model.check_ids(np.array([token] if against is None else [token, against]), "token")
    matrix = output_matrix(model)
    direction, logit = matrix[:, token].astype(np.float64), logits[token]
    if against is not None:
        direction, logit = direction - matrix[:, against], logit - logits[against]
    values = pushes(model, inside.streams[-1, -1], inside.parts[:, -1], direction)
    return LogitAttribution(part_names(model), values, token, against, float(logit))


def pushes(model: Any, stream: np.ndarray, parts: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """How far each of the parts (n, width), which sum to stream (width,), goes along a direction of the normed stream: (n,).

    The norm's own bias goes to the last part.
    """
    norm, kind = model.norm, model.config.norm
    if kind == "none":
        return parts @ direction
    if kind == "layer":
        parts = parts - parts.mean(-1, keepdims=True)
        deviation = np.sqrt(stream.var() + norm.eps)
    else:
        deviation = np.sqrt((stream**2).mean() + norm.eps)
    scaled = norm.gain.data.astype(np.float64) * parts / deviation
    if getattr(norm, "bias", None) is not None:
        scaled[-1] += norm.bias.data
    return scaled @ direction


def output_matrix(model: Any) -> np.ndarray:
    """(width, symbols)"""
    return model.embedding.weight.data.T if model.output is None else model.output.weight.data
