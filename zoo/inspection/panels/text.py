"""What the page shows of a model of text: why each token was chosen.

For every token: its candidates before and after each filter, the draw among them, what each layer would have said (the logit lens,
nostalgebraist 2020), what each head and mlp added to its logit (direct logit attribution, Elhage et al. 2021), and where each
head looked.  All of it is seen in the same pass that writes the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...autograd.tracing import trace
from ...explain.circuits import WATCHED, Inside, lens, output_matrix, part_names, pushes, read
from ...language.sampling import Sampling, softmax
from .gates import gate_panels, gate_parts
from .recording import Event, Panels, Rows, recorder, watch

CANDIDATES = 12
LAYERS_WOULD_SAY = 5  # tokens
MOST_TOKENS = 1000
FILTERS = ("temperature", "top_k", "top_p", "min_p")


@recorder("transformer")
def transformer(model: Any, *, n: int = 100, prompt: str = "", **settings: Any) -> Iterator[Event]:
    _check_length(n)
    c = model.config
    stages = _stages(settings)
    tokens = [spell(model, t) for t in model.ids(prompt)]
    text, candidates, curve = _text_panels(model, tokens, stages)
    parts = _parts(model)
    rows = ["embedding", *(f"layer {i + 1}" for i in range(c.layers))]
    yield {
        "text": text,
        "why": {"kind": "why", "title": "Why this token", "wide": True, "lines": 4, "sentences": []},
        "candidates": candidates,
        "curve": curve,
        "lens": {"kind": "lens", "title": "What each layer would have said",
                 "note": "the residual stream after each block, read by the output matrix (logit lens)", "rows": rows,
                 "most": min(LAYERS_WOULD_SAY, c.symbols), "texts": [], "tokens": [], "chances": Rows(), "chosen": Rows()},
        "contributions": {"kind": "contributions", "title": "Who pushed for this token",
                          "note": "what each part added to its logit, above the mean of all symbols", "labels": parts,
                          "values": Rows("float16"), "total": Rows()},
        "attention": {"kind": "attention", "title": "Where each head looked", "wide": True, "layers": c.layers, "heads": c.heads,
                      "tokens": list(tokens), "starts": [], "positions": [], "sizes": [], "values": Rows("unit8", ragged=True)},
    }
    with trace(model, at=WATCHED) as seen:
        for step, met in watch(model.steps(prompt, n, **settings), seen):
            inner = _last(read(model, met, slice(-1, None)))
            added = _pushes(model, step.token, inner)
            size = inner.attention.shape[-1]
            start = step.position - size
            tokens.append(spell(model, step.token))
            yield step, {
                **_text_parts(model, step, tokens[-1], stages),
                "why": {"sentences": _choice(model, step) + _inside_words(step, inner.attention, added, parts, tokens)},
                "lens": _lens(model, step, inner),
                "contributions": {"values": added, "total": np.float32(step.logits[step.token] - step.logits.mean())},
                "attention": {"tokens": tokens[-1], "starts": start, "positions": step.position, "sizes": size,
                              "values": inner.attention.ravel()},
            }


def _check_length(n: int) -> None:
    if n > MOST_TOKENS:
        raise ValueError(f"n is {n:,}; a page has room for {MOST_TOKENS:,} tokens")


def _last(inside: Inside) -> Inside:
    """The pass at its last position, without the axis of positions."""
    return Inside(inside.attention[:, :, -1], inside.streams[:, -1], inside.parts[:, -1])


def _pushes(model: Any, token: int, inner: Inside) -> np.ndarray:
    """What each part adds to a token's logit above the mean of all symbols, (parts,)."""
    matrix = output_matrix(model)
    return pushes(model, inner.streams[-1], inner.parts, matrix[:, token].astype(np.float64) - matrix.mean(1))


def _parts(model: Any) -> list[str]:
    """Names of the parts as the page has them: blocks.0.head.3 is layer 1 head 4."""
    return [re.sub(r"\d+", lambda n: str(int(n[0]) + 1), name).replace("blocks", "layer").replace(".", " ") for name in part_names(model)]


def _lens(model: Any, step: Any, inner: Inside) -> dict[str, Any]:
    p = np.stack([softmax(row) for row in lens(model, inner.streams)])  # (layers + 1, symbols)
    top = np.argsort(-p, axis=1, kind="stable")[:, :LAYERS_WOULD_SAY]
    return {"texts": [[spell(model, t) for t in row] for row in top], "chances": np.take_along_axis(p, top, 1), "chosen": p[:, step.token],
            "tokens": spell(model, step.token)}


# --- what every model of text has


def _stages(settings: dict[str, Any]) -> dict[str, Sampling | None]:
    """What stands between the model and the draw: the filters one by one, each with those before it."""
    names = {"top_k": "top-k", "top_p": "top-p", "min_p": "min-p"}
    active = [f for f in FILTERS if settings.get(f) not in (None, 1 if f in ("temperature", "top_p") else None)]
    stages: dict[str, Sampling | None] = {"the model": None}
    for k, name in enumerate(active):
        stages[f"{names.get(name, name)} {settings[name]:g}"] = Sampling(**{f: settings[f] for f in active[: k + 1]})
    return stages


def _text_panels(model: Any, tokens: list[str], stages: dict[str, Sampling | None]) -> list[dict[str, Any]]:
    """tokens: those that were given."""
    return [
        {"kind": "text", "title": "The text", "stage": True, "tokens": list(tokens), "given": len(tokens), "chances": Rows()},
        {"kind": "candidates", "title": "The candidates", "note": "the likeliest tokens, and what each filter left of them",
         "wide": len(stages) > 2, "most": min(CANDIDATES, model.config.symbols), "texts": [], "stages": {name: Rows() for name in stages},
         "ranges": Rows(), "chosen": [], "draws": []},
        {"kind": "curve", "title": "How sure the model was", "from": 0, "series": {"surprise, nats": [], "entropy, nats": []}},
    ]


def _text_parts(model: Any, step: Any, token: str, stages: dict[str, Sampling | None]) -> Panels:
    p = step.probabilities
    ids = _candidates(step)
    values = {name: (p if sampling is None else sampling.choices(step.logits, p))[ids] for name, sampling in stages.items()}
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum()
    return {
        "text": {"tokens": token, "chances": np.float32(p[step.token])},
        "candidates": {"texts": [spell(model, t) for t in ids], "stages": values, "ranges": _places(step)[ids],
                       "chosen": int(np.flatnonzero(ids == step.token)[0]), "draws": step.draw},
        "curve": {"series": {"surprise, nats": round(-max(step.log_probability, -50.0), 5), "entropy, nats": round(float(entropy), 5)}},
    }


def _places(step: Any) -> np.ndarray:
    """From where to where in [0, 1] each token's share lies: (symbols, 2)."""
    shares = step.choices / step.choices.sum()
    ends = np.cumsum(shares)
    return np.stack([ends - shares, ends], 1)


def _candidates(step: Any) -> np.ndarray:
    """The likeliest ids, the one that was drawn among them."""
    ids = np.argsort(-step.probabilities, kind="stable")[:CANDIDATES]
    if step.token not in ids:
        ids[-1] = step.token
    return ids


def spell(model: Any, token: int) -> str:
    tokenizer = model.tokenizer
    return str(int(token)) if tokenizer is None or token >= tokenizer.size else tokenizer.decode([int(token)])


def shown(text: str) -> str:
    """A token in the midst of a sentence: what can't be seen is made visible."""
    return "`" + (text.replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣").replace("`", "'") or "∅") + "`"


def _choice(model: Any, step: Any) -> str:
    """How the token came out of the candidates, in words."""
    p, rank = step.probabilities[step.token], int((step.probabilities > step.probabilities[step.token]).sum())
    best = int(step.probabilities.argmax())
    words = f"The model gave {shown(spell(model, step.token))} **{p:.1%}**, "
    others = "" if rank == 0 else f" after {shown(spell(model, best))} ({step.probabilities[best]:.1%})"
    words += f"its **{_ordinal(rank + 1)}** choice{others}. "
    if step.draw is None:
        return words + "At temperature 0 the likeliest is taken: nothing is drawn. "
    begins, ends = _places(step)[step.token]
    left = int((step.choices > 0).sum())
    share = step.choices[step.token]
    if abs(share - p) > 5e-4 or left < len(step.choices):
        words += f"The filters left {left:,} candidate{'s' * (left != 1)} and" if left < len(step.choices) else "The temperature"
        words += f" made its share **{share:.1%}**. "
    return words + f"The draw **{step.draw:.4f}** fell between {begins:.4f} and {ends:.4f}, which is its place. "


def _inside_words(step: Any, attention: np.ndarray, added: np.ndarray, parts: list[str], tokens: list[str]) -> str:
    """What heads and layers had to do with it.  attention (layers, heads, keys); added: to its logit by each of the parts, whose names follow."""
    start = step.position - attention.shape[-1]
    skipped = int(attention.shape[-1] > 1)  # the first token is where heads look that have nothing to look at
    looks = attention[..., skipped:]
    layer, head, key = np.unravel_index(looks.argmax(), looks.shape)
    key += skipped
    push = int(added[:-1].argmax())
    return (f"The largest push came from **{parts[push]}** ({added[push]:+.2f} of {added.sum():+.2f}). "
            f"The sharpest look was that of layer {layer + 1} head {head + 1}, at {shown(tokens[start + key])} "
            f"{step.position - start - key} back ({attention[layer, head, key]:.0%}).")


def _ordinal(n: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
    ending = "th" if n // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return words[n - 1] if n <= 10 else f"{n}{ending}"


@recorder("recurrent")
def recurrent(model: Any, *, n: int = 100, prompt: str = "", **settings: Any) -> Iterator[Event]:
    _check_length(n)
    plays = model.config.inputs == "keys"
    stages = _stages(settings)
    given = [] if plays else [spell(model, t) for t in model.ids(prompt)]
    gates = gate_panels(model)
    if plays:
        yield gates
    else:
        text, candidates, curve = _text_panels(model, given, stages)
        why = {"kind": "why", "title": "Why this token", "wide": True, "lines": 2, "sentences": []}
        yield {"text": text, "why": why, "candidates": candidates, "curve": curve, **gates}
    with trace(model, at=("layers.*.sigmoid*", "layers.*.tanh*")) as seen:
        for step, met in watch(model.roll_steps(n_steps=n, **settings) if plays else model.steps(prompt, n, **settings), seen):
            parts = gate_parts(model, step, met)
            if not plays:
                parts |= {**_text_parts(model, step, spell(model, step.token), stages), "why": {"sentences": _choice(model, step)}}
            yield step, parts
