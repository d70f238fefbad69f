"""What a page shows of a diffusion or flow model: the noisy picture, the network's guess of the clean one, and how far off it still is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..page import pack
from .recording import Event, Panels, Rows, recorder

MOST_STEPS = 200  # on a page; of a longer run it has every second, third, ... record
MOST_COLUMNS = 60  # of the strip
POINTS = 400  # of the plane that are generated together


@recorder("diffusion")
def diffusion(model: Any, *, every: int | None = None, images: Any = None, mask: Any = None, **settings: Any) -> Iterator[Event]:
    """every: keep every n-th record; unless given, as many as the page has room for.  images, mask: fill in, see `Diffusion.inpaint`."""
    points = len(model.sample_shape) == 1
    repeats = settings.get("repeats", 1 if mask is None else 5)
    most = (settings.get("evaluations") or model.config.evaluations) * (2 * repeats - 1)
    every = max(1, math.ceil(most / MOST_STEPS)) if every is None else every
    if mask is not None:
        steps = model.inpaint_steps(images, mask, every=every, **settings)
    else:
        steps = model.steps(**{"n": POINTS if points else 1, **settings}, every=every)
    yield from (_points if points else _pictures)(model, steps, math.ceil(most / every / MOST_COLUMNS))


def _pictures(model: Any, steps: Iterator, stride: int) -> Iterator[Event]:
    """stride: steps per column of the strip.  Latents are shown decoded; the noise in them is no picture, so it isn't shown."""
    shown = lambda x: model.to_pictures(x)[0]  # in [0, 1]
    panels: Panels = {
        "picture": {"kind": "picture", "title": "After this step", "stage": True, "pictures": []},
        "guess": {"kind": "picture", "title": "The network's guess (x_0 predicted)", "stage": True, "pictures": []},
        "why": {"kind": "why", "title": "This step", "wide": True, "sentences": []},
        "strip": {"kind": "strip", "title": "From noise to a picture", "wide": True, "note": "click a column to go to that step", "columns": [],
                  "rows": {"x_t": _row("ink"), "noise predicted": _row("signed"), "x_0 predicted": _row("ink")}},
        "curve": {"kind": "curve", "title": "Time t", "from": 0, "series": {"t": []}},
    }
    if model.latents is not None:
        del panels["strip"]["rows"]["noise predicted"]
        for name in ("picture", "guess"):
            panels[name]["note"] = "decoded: the noise is in the code, and the decoder makes a digit of any code"
    yield panels
    guesses, columns = [], []
    for i, step in enumerate(steps):
        guess = step.x_t if step.x_0_predicted is None else step.x_0_predicted
        noise = np.zeros_like(step.x_t) if step.noise_predicted is None else step.noise_predicted
        guesses.append((step, guess))
        parts: Panels = {
            "picture": {"pictures": _ink(shown(step.x_previous))}, "guess": {"pictures": _ink(shown(guess))},
            "why": {"sentences": _sentence(model, step)}, "curve": {"series": {"t": round(float(step.t), 6)}}}
        if i % stride == 0:
            columns.append(i)
            rows = {"x_t": shown(step.x_t), "noise predicted": noise[0], "x_0 predicted": shown(guess)}
            rows = {title: a for title, a in rows.items() if title in panels["strip"]["rows"]}
            parts["strip"] = {"columns": i, "rows": {title: {"pictures": a} for title, a in rows.items()}}
        yield step, parts
    if guesses:
        row = _row("signed")
        row["pictures"].rows += [2 * (shown(guesses[i][1]) - shown(guesses[-1][0].x_previous)) for i in columns]
        rows = {**panels["strip"]["rows"], "error: x_0 predicted minus the final picture": row}
        yield {"strip": {**panels["strip"], "rows": rows}, **_hindsight(model, panels, guesses)}


def _hindsight(model: Any, panels: Panels, guesses: list) -> Panels:
    """How far off each guess was, which is known only at the end.  guesses: (record, x_0 predicted) of each step."""
    final = guesses[-1][0].x_previous
    errors = [float(np.sqrt(np.mean((x_0 - final) ** 2))) for _, x_0 in guesses]
    sentences = [_sentence(model, step, error) for (step, _), error in zip(guesses, errors)]
    series = {"root mean square error of x_0 predicted": [round(e, 6) for e in errors], "t": [round(float(s.t), 6) for s, _ in guesses]}
    return {"why": {**panels["why"], "sentences": sentences}, "curve": {**panels["curve"], "title": "How far off the guess is", "series": series}}


def _row(scale: str) -> dict[str, Any]:
    return {"scale": scale, "range": None if scale == "ink" else 2.0, "pictures": Rows("unit8" if scale == "ink" else "float16")}


def _points(model: Any, steps: Iterator, stride: int) -> Iterator[Event]:
    reach = 1.2 * float(np.abs(model.draw_source(POINTS, np.random.default_rng(0))).max())
    panels: Panels = {
        "picture": {"kind": "points", "title": "After this step", "stage": True, "reach": reach, "points": Rows("float16")},
        "guess": {"kind": "points", "title": "The network's guess (x_0 predicted)", "stage": True, "reach": reach, "points": Rows("float16")},
        "why": {"kind": "why", "title": "This step", "wide": True, "sentences": []},
        "curve": {"kind": "curve", "title": "Time t", "from": 0, "series": {"t": []}},
    }
    yield panels
    guesses = []
    for step in steps:
        guess = step.x_t if step.x_0_predicted is None else step.x_0_predicted
        guesses.append((step, guess))
        yield step, {"picture": {"points": step.x_previous}, "guess": {"points": guess}, "why": {"sentences": _sentence(model, step)},
                     "curve": {"series": {"t": round(float(step.t), 6)}}}
    if guesses:
        yield _hindsight(model, panels, guesses)


def _ink(x: np.ndarray) -> dict[str, Any]:
    return pack(x, "unit8", scale="colour" if x.ndim == 3 and x.shape[-1] == 3 else "ink")


def _sentence(model: Any, step: Any, error: float | None = None) -> str:
    t, s = float(step.t), float(step.t_previous)
    alpha, sigma = float(model.path.alpha(t)), float(model.path.sigma(t))
    if step.prediction is None:
        return f"Noise is added again, from t = **{t:.3f}** back to **{s:.3f}**, so that the filled-in part can adapt to the pixels that are kept."
    words = f"At t = **{t:.3f}**, x_t is **{alpha:.3f}** times the picture plus **{sigma:.3f}** times noise. The network estimates both"
    words += ". " if error is None else f"; its guess of the picture is **{error:.3f}** (root mean square) away from the final one. "
    twice = "" if step.evaluations == 1 else f" ({step.evaluations} evaluations of the network)"
    words += f"A `{step.sampler}` step{twice} leads to t = **{s:.3f}**"
    return words + (", without new noise." if step.draw is None else f" and adds new noise of standard deviation **{float(step.deviation):.3f}**.")
