"""What a page shows of a chat model: a question, and why each token of the answer was chosen.

The same panels as of any text, for a model that may have thirty layers and fifty thousand symbols: the likeliest candidates alone, and
layers spread over the depth, so that a page of a hundred tokens stays small.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...autograd.tracing import trace
from ...explain.circuits import WATCHED, contributions, lens, output_direction, output_matrix, part_names, read, stream_titles
from ...language.chat import Message
from ...language.model import TextStep
from .recording import Event, Rows, watch
from .text import LENS_TOKENS, candidates_of, check_length, choice, inside_words, last, lens_part, spell, stages_of, text_panels, text_parts

LAYERS = 6  # whose attention and lens a page shows, unless told


def spread(layers: int, n: int = LAYERS) -> list[int]:
    """n layers over the whole depth, the last one among them."""
    return sorted({round(i) for i in np.linspace(0, layers - 1, min(n, layers) + 1)[1:]} if layers > 1 else {0})


def read_layers(text: str, layers: int) -> list[int]:
    """Layers by number, "0 5 29"; "" spreads them.  ValueError for what isn't one."""
    words = text.replace(",", " ").split()
    if not all(word.isascii() and word.isdecimal() and len(word) < 6 and int(word) < layers for word in words):
        raise ValueError(f"show_layers is {text[:40]!r}; it is a list of layers from 0 to {layers - 1}, such as \"0 {layers // 2} {layers - 1}\"")
    return sorted({int(word) for word in words}) or spread(layers)


def answer(model: Any, *, n: int = 100, message: str, system: str = "", history: Sequence[Message] = (), begin: str = "",
           show_layers: str = "", goes_on: str = "", **settings: Any) -> Iterator[Event]:
    """The recorder: the records of an answer, without the marker that ends it.

    history: the messages before; where it is a list, the message and its answer are added to it once the answer has ended.
    begin: what the model is made to have written first.  show_layers: see `read_layers`.  goes_on: a setting of the live page, which keeps
    the conversation and passes it on as history; a page in a file has one question.
    """
    check_length(n)
    layers, messages = read_layers(show_layers, model.config.layers), [*history, {"role": "user", "content": message}]
    if system and not history:
        messages = [{"role": "system", "content": system}, *messages]
    ids = np.concatenate([model.template.ids(messages, model.tokenizer), model.tokenizer.encode(begin)])
    if len(ids) + n > model.config.window:
        raise ValueError(f"message: with what comes before, it has {len(ids)} tokens; with {n} to answer, this model sees {model.config.window}")
    ends = {model.tokenizer.special[model.template.end], *model.end_ids}
    stages, parts, heads = stages_of(settings), part_names(model), model.config.heads
    streams = [0, *(i + 1 for i in layers)]
    tokens = [spell(model, t) for t in ids]
    text, candidates, curve = text_panels(model, tokens, stages)
    yield {
        "text": text,
        "why": {"kind": "why", "title": "Why this token", "wide": True, "lines": 4, "sentences": []},
        "candidates": candidates,
        "curve": curve,
        "lens": {"kind": "lens", "title": "What each layer would predict",
                 "note": "the residual stream after some of the blocks, read by the output matrix (logit lens)",
                 "rows": [stream_titles(model)[i] for i in streams], "most": LENS_TOKENS, "texts": [], "tokens": [], "probabilities": Rows(),
                 "chosen": Rows()},
        "contributions": {"kind": "contributions", "title": "What raised this token's logit",
                          "note": "what each part added, relative to the mean over all tokens (direct logit attribution)", "labels": parts,
                          "values": Rows("float16"), "total": Rows()},
        "attention": {"kind": "attention", "title": "Where each head looked", "wide": True, "layers": len(layers), "heads": heads,
                      "names": [f"blocks.{i}" for i in layers], "tokens": list(tokens), "starts": [], "positions": [], "sizes": [],
                      "values": Rows("unit8", ragged=True)},
    }
    mean, written = output_matrix(model).mean(1, dtype=np.float64), begin
    with trace(model, at=WATCHED) as seen, contextlib.closing(model.steps(ids, n, **settings)) as steps:
        for step, records in watch(steps, seen):
            if step.token in ends:
                break
            inner = last(read(model, records, slice(-1, None)))
            added = contributions(model, inner.streams[-1], inner.parts, output_direction(model, step.token) - mean)
            size = inner.attention.shape[-1]
            tokens.append(spell(model, step.token))
            written += step.text
            yield _small(step), {
                **text_parts(model, step, tokens[-1], stages),
                "why": {"sentences": choice(model, step) + _knew(model, step, inner.streams)
                        + inside_words(step, inner.attention, added, parts, tokens)},
                "lens": lens_part(model, step, inner._replace(streams=inner.streams[streams])),
                "contributions": {"values": added, "total": np.float32(step.logits[step.token] - step.logits.mean())},
                "attention": {"tokens": tokens[-1], "starts": step.position - size, "positions": step.position, "sizes": size,
                              "values": inner.attention[layers].ravel()},
            }
    if isinstance(history, list):
        history += [*messages[len(history):], {"role": "assistant", "content": written}]


def _small(step: TextStep) -> TextStep:
    """The record with the likeliest tokens' values alone in place of those of the whole vocabulary, as the panels show them."""
    best = candidates_of(step)
    return dataclasses.replace(step, logits=step.logits[best], probabilities=step.probabilities[best], choices=step.choices[best])


def _knew(model: Any, step: TextStep, streams: np.ndarray) -> str:
    """From which layer on the stream says this token."""
    best = lens(model, streams).argmax(-1) == step.token  # (layers + 1,)
    if not best[-1]:
        return ""
    differs = np.flatnonzero(~best)
    layer = int(differs[-1]) if len(differs) else 0
    return f"The stream says it from `blocks.{layer}` of {len(best) - 1} on. "
