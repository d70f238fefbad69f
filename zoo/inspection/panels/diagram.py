"""A diagram of what runs in a step: its parts in order, each with its symbol, its formula, and its place in the code."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from ...nn import Linear
from ...parts.denoising import samplers

ROOT = Path(__file__).parents[3]
NOTE = "click a part: its value, its formula, its place in the code"


def place(function: Any) -> str:
    """Where a function or class is written, as `zoo/vae.py:343`; "" where its source isn't at hand."""
    try:
        function = inspect.unwrap(function)
        file, (_, line) = inspect.getsourcefile(function), inspect.getsourcelines(function)
        return f"{Path(file or '').relative_to(ROOT).as_posix()}:{line}"
    except (TypeError, OSError, ValueError):
        return ""


def node(symbol: str, title: str, formula: str = "", code: Any = None, **value: Any) -> dict[str, Any]:
    """value: field="x_t", a field of the record; or layer=3, a row of the logit lens."""
    return {"symbol": symbol, "title": title, "formula": formula, "code": place(code) if code is not None else "", **value}


def diffusion_diagram(model: Any) -> dict[str, Any]:
    network = type(model.network)
    return {"kind": "diagram", "title": "What runs in each step", "wide": True, "note": NOTE, "loops": True, "nodes": [
                node("x_t", "the noisy picture", "x_t = alpha_t x_0 + sigma_t epsilon", type(model).steps, field="x_t"),
                node(network.__name__, "the network", "v = network(x_t, t)", network.__call__, field="prediction"),
                node("epsilon", "the noise that it sees", "epsilon = (x_t - alpha_t x_0) / sigma_t", type(model).steps, field="noise_predicted"),
                node("x_0", "the picture that it guesses", "x_0 = (x_t - sigma_t epsilon) / alpha_t", type(model).steps, field="x_0_predicted"),
                node("x_s", "a little less noise", "x_s = mean + deviation draw", samplers.DiffusionStep, field="x_previous")]}


def text_diagram(model: Any, layers: int) -> dict[str, Any]:
    kind = type(model)
    block = type(model.blocks[0])
    return {"kind": "diagram", "title": "What runs for each token", "wide": True, "note": NOTE, "loops": True, "nodes": [
                node("text", "the text so far", "", kind.ids, field="given"),
                node("embedding", "a vector per token", "x = token + position", kind.__call__, layer=0),
                *(node(f"blocks.{i}", "attention, then mlp", "x = x + attention(x) ; x = x + mlp(x)", block.__call__, layer=i + 1)
                  for i in range(layers)),
                node("logits", "a number per token", "logits = W x", Linear.__call__, field="logits"),
                node("p", "probabilities", "p_i = exp(logit_i) / sum exp(logit_j)", kind.steps, field="probabilities"),
                node("token", "one is drawn", "token ~ p", kind.steps, field="token")]}
