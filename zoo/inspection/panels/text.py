"""What a page shows of a model of text: why each token was chosen.

For every token: its candidates before and after each filter, the random number that selects one of them, what each layer would predict
(the logit lens, nostalgebraist 2020), what each head and mlp added to its logit (direct logit attribution, Elhage et al. 2021), and
where each head looked.  All of it is traced in the same pass that writes the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...autograd.tracing import trace
from ...drawing.words import counted
from ...explain.circuits import WATCHED, Activations, contributions, lens, output_matrix, part_names, read, stream_titles
from ...language.sampling import Sampling, softmax
from ..music import END, NEW, beginnings, event_name, heard, writes_chorales
from .gates import gate_panels, gate_parts
from .recording import Event, Panels, Rows, recorder, watch

CANDIDATES = 12
LENS_TOKENS = 5  # that each layer would predict
MOST_TOKENS = 1000  # on a page
FILTERS = ("temperature", "top_k", "top_p", "min_p")


@recorder("transformer")
def transformer(model: Any, *, n: int = 100, prompt: str = "", **settings: Any) -> Iterator[Event]:
    check_length(n)
    c = model.config
    music = writes_chorales(model)
    if music:
        prompt = beginnings().get(prompt or NEW, prompt)
    stages = stages_of(settings)
    tokens = [spell(model, t) for t in model.ids(prompt)]
    text, candidates, curve = text_panels(model, tokens, stages)
    parts = part_names(model)
    piece = heard(prompt) if music and isinstance(prompt, str) else ""
    size_of_prompt = len(tokens)
    yield {
        **({"roll": {"kind": "roll", "title": "The music", "stage": True, "tokens": list(piece), "given": len(piece),
                     "note": "a column is a sixteenth, a line a semitone"}} if music else {"text": text}),
        "why": {"kind": "why", "title": "Why this token", "wide": True, "lines": 4, "sentences": []},
        "candidates": candidates,
        "curve": curve,
        "lens": {"kind": "lens", "title": "What each layer would predict",
                 "note": "the residual stream after each block, read by the output matrix (logit lens)", "rows": stream_titles(model),
                 "most": min(LENS_TOKENS, c.symbols), "texts": [], "tokens": [], "probabilities": Rows(), "chosen": Rows()},
        "contributions": {"kind": "contributions", "title": "What raised this token's logit",
                          "note": "what each part added, relative to the mean over all tokens (direct logit attribution)", "labels": parts,
                          "values": Rows("float16"), "total": Rows()},
        "attention": {"kind": "attention", "title": "Where each head looked", "wide": True, "layers": c.layers, "heads": c.heads,
                      "tokens": list(tokens), "starts": [], "positions": [], "sizes": [], "values": Rows("unit8", ragged=True)},
    }
    with trace(model, at=WATCHED) as seen:
        for step, records in watch(model.steps(prompt, n, **settings), seen):
            inner = last(read(model, records, slice(-1, None)))
            added = _contributions(model, step.token, inner)
            size = inner.attention.shape[-1]
            start = step.position - size
            tokens.append(spell(model, step.token))
            if music and step.text == END and step.position > size_of_prompt:
                break
            gains = {
                **text_parts(model, step, tokens[-1], stages),
                "why": {"sentences": choice(model, step) + inside_words(step, inner.attention, added, parts, tokens)},
                "lens": lens_part(model, step, inner),
                "contributions": {"values": added, "total": np.float32(step.logits[step.token] - step.logits.mean())},
                "attention": {"tokens": tokens[-1], "starts": start, "positions": step.position, "sizes": size,
                              "values": inner.attention.ravel()},
            }
            if music:
                gains["roll"] = {"tokens": step.text}
                del gains["text"]
            yield step, gains


def check_length(n: int) -> None:
    if n > MOST_TOKENS:
        raise ValueError(f"n is {n:,}; a page has room for {MOST_TOKENS:,} tokens")


def last(activations: Activations) -> Activations:
    """The pass at its last position, without the axis of positions."""
    return Activations(activations.attention[:, :, -1], activations.streams[:, -1], activations.parts[:, -1])


def _contributions(model: Any, token: int, inner: Activations) -> np.ndarray:
    """What each part adds to a token's logit, relative to the mean over all tokens: (parts,)."""
    matrix = output_matrix(model)
    return contributions(model, inner.streams[-1], inner.parts, matrix[:, token].astype(np.float64) - matrix.mean(1))



def lens_part(model: Any, step: Any, inner: Activations) -> dict[str, Any]:
    p = np.stack([softmax(row) for row in lens(model, inner.streams)])  # (layers + 1, symbols)
    top = np.argsort(-p, axis=1, kind="stable")[:, :LENS_TOKENS]
    return {"texts": [[spell(model, t) for t in row] for row in top], "probabilities": np.take_along_axis(p, top, 1), "chosen": p[:, step.token],
            "tokens": spell(model, step.token)}


# --- what all models of text have


def stages_of(settings: dict[str, Any]) -> dict[str, Sampling | None]:
    """The filters between the model and the choice of a token, one by one, each with those before it."""
    names = {"top_k": "top-k", "top_p": "top-p", "min_p": "min-p"}
    active = [f for f in FILTERS if settings.get(f) not in (None, 1 if f in ("temperature", "top_p") else None)]
    stages: dict[str, Sampling | None] = {"the model": None}
    for k, name in enumerate(active):
        stages[f"{names.get(name, name)} {settings[name]:g}"] = Sampling(**{f: settings[f] for f in active[: k + 1]})
    return stages


def text_panels(model: Any, tokens: list[str], stages: dict[str, Sampling | None]) -> list[dict[str, Any]]:
    """The text, the candidates, and how certain the model was.  tokens: the prompt's."""
    return [
        {"kind": "text", "title": "The text", "stage": True, "tokens": list(tokens), "given": len(tokens), "probabilities": Rows()},
        {"kind": "candidates", "title": "Candidates", "note": "the most likely tokens, before and after each filter",
         "wide": len(stages) > 2, "most": min(CANDIDATES, model.config.symbols), "texts": [], "stages": {name: Rows() for name in stages},
         "ranges": Rows(), "chosen": [], "draws": []},
        {"kind": "curve", "title": "How certain the model was", "from": 0, "series": {"surprise, nats": [], "entropy, nats": []}},
    ]


def text_parts(model: Any, step: Any, token: str, stages: dict[str, Sampling | None]) -> Panels:
    p = step.probabilities
    ids = candidates_of(step)
    values = {name: (p if sampling is None else sampling.choices(step.logits, p))[ids] for name, sampling in stages.items()}
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum()
    return {
        "text": {"tokens": token, "probabilities": np.float32(p[step.token])},
        "candidates": {"texts": [spell(model, t) for t in ids], "stages": values, "ranges": _intervals(step)[ids],
                       "chosen": int(np.flatnonzero(ids == step.token)[0]), "draws": step.draw},
        "curve": {"series": {"surprise, nats": round(-max(step.log_probability, -50.0), 5), "entropy, nats": round(float(entropy), 5)}},
    }


def _intervals(step: Any) -> np.ndarray:
    """The interval of [0, 1] that belongs to each token, as long as its probability: (symbols, 2)."""
    shares = step.choices / step.choices.sum()
    ends = np.cumsum(shares)
    return np.stack([ends - shares, ends], 1)


def candidates_of(step: Any) -> np.ndarray:
    """The most likely ids, the chosen one among them."""
    ids = np.argsort(-step.probabilities, kind="stable")[:CANDIDATES]
    if step.token not in ids:
        ids[-1] = step.token
    return ids


def spell(model: Any, token: int) -> str:
    tokenizer = model.tokenizer
    text = str(int(token)) if tokenizer is None or token >= tokenizer.size else tokenizer.decode([int(token)])
    return event_name(text) if writes_chorales(model) else text


def shown(text: str) -> str:
    """A token within a sentence, with visible signs for white space."""
    return "`" + (text.replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣").replace("`", "'") or "∅") + "`"


def choice(model: Any, step: Any) -> str:
    """How the token was chosen among the candidates, in words."""
    p, rank = step.probabilities[step.token], int((step.probabilities > step.probabilities[step.token]).sum())
    best = int(step.probabilities.argmax())
    token = shown(spell(model, step.token))
    others = "" if rank == 0 else f", after {shown(spell(model, best))} ({step.probabilities[best]:.1%})"
    words = f"The model gives {token} probability **{p:.1%}**: its **{_ordinal(rank + 1)}** choice{others}. "
    if step.draw is None:
        return words + "At temperature 0 the most likely token is taken; no random number is sampled. "
    begin, end = _intervals(step)[step.token]
    left = int((step.choices > 0).sum())
    share = step.choices[step.token]
    if abs(share - p) > 5e-4 or left < len(step.choices):
        words += f"The filters leave {counted(left, 'candidate')} and" if left < len(step.choices) else "The temperature"
        words += f" change{'' if left < len(step.choices) else 's'} its probability to **{share:.1%}**. "
    return words + f"The random number **{step.draw:.4f}** lies between {begin:.4f} and {end:.4f}, the interval of {token}. "


def inside_words(step: Any, attention: np.ndarray, added: np.ndarray, parts: list[str], tokens: list[str]) -> str:
    """How heads and layers contributed.  attention (layers, heads, keys); added: what each of the parts added to the token's logit."""
    start = step.position - attention.shape[-1]
    skipped = int(attention.shape[-1] > 1)  # a head with nothing to look for puts its weight on the first token
    looks = attention[..., skipped:]
    layer, head, key = np.unravel_index(looks.argmax(), looks.shape)
    key += skipped
    most = int(added[:-1].argmax())
    back = int(step.position - start - key)
    return (f"`{parts[most]}` raised its logit most (**{added[most]:+.2f}** of {added.sum():+.2f}). "
            f"The most focused head was `blocks.{layer}.head.{head}`: **{attention[layer, head, key]:.0%}** of its attention went to "
            f"{shown(tokens[start + key])}, {counted(back, 'token')} back.")


def _ordinal(n: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
    ending = "th" if n // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return words[n - 1] if n <= 10 else f"{n}{ending}"


@recorder("recurrent")
def recurrent(model: Any, *, n: int = 100, prompt: str = "", **settings: Any) -> Iterator[Event]:
    check_length(n)
    plays = model.config.inputs == "keys"
    stages = stages_of(settings)
    given = [] if plays else [spell(model, t) for t in model.ids(prompt)]
    gates = gate_panels(model)
    if plays:
        yield gates
    else:
        text, candidates, curve = text_panels(model, given, stages)
        why = {"kind": "why", "title": "Why this token", "wide": True, "lines": 2, "sentences": []}
        yield {"text": text, "why": why, "candidates": candidates, "curve": curve, **gates}
    with trace(model, at=("layers.*.sigmoid*", "layers.*.tanh*")) as seen:
        for step, met in watch(model.roll_steps(n_steps=n, **settings) if plays else model.steps(prompt, n, **settings), seen):
            parts = gate_parts(model, step, met)
            if not plays:
                parts |= {**text_parts(model, step, spell(model, step.token), stages), "why": {"sentences": choice(model, step)}}
            yield step, parts
