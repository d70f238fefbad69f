"""What the page shows of a diffusion or flow model: the noisy picture, what the network sees in it, and how far off it still is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..page import pack
from .recording import Event, Panels, Rows, recorder

MOST_STEPS = 200  # of a longer run every second, third, ... record is on the page
MOST_COLUMNS = 60
POINTS = 400


@recorder("diffusion")
def diffusion(model: Any, *, every: int | None = None, images: Any = None, mask: Any = None, **settings: Any) -> Iterator[Event]:
    """every: only each so-many-th record; without it, as many as the page has room for.  images, mask: paint in, see `Diffusion.inpaint`."""
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
    """stride: how many steps each column of the strip stands for.  Latents are shown as what they decode to; their noise is no picture."""
    shown = lambda x: model.to_pictures(x)[0]  # in [0, 1]
    panels: Panels = {
        "picture": {"kind": "picture", "title": "After this step", "stage": True, "pictures": []},
        "seen": {"kind": "picture", "title": "What the network sees (x_0 predicted)", "stage": True, "pictures": []},
        "why": {"kind": "why", "title": "What happens", "wide": True, "sentences": []},
        "strip": {"kind": "strip", "title": "From noise to a picture", "wide": True, "note": "click a column to go there", "columns": [],
                  "rows": {"x_t": _row("ink"), "noise predicted": _row("signed"), "x_0 predicted": _row("ink")}},
        "curve": {"kind": "curve", "title": "How noisy", "from": 0, "series": {"t": []}},
    }
    if model.latents is not None:
        del panels["strip"]["rows"]["noise predicted"]
    yield panels
    kept, columns = [], []
    for i, step in enumerate(steps):
        believed = step.x_t if step.x_0_predicted is None else step.x_0_predicted
        noise = np.zeros_like(step.x_t) if step.noise_predicted is None else step.noise_predicted
        kept.append((step, believed))
        parts: Panels = {
            "picture": {"pictures": _ink(shown(step.x_previous))}, "seen": {"pictures": _ink(shown(believed))},
            "why": {"sentences": _sentence(model, step)}, "curve": {"series": {"t": round(float(step.t), 6)}}}
        if i % stride == 0:
            columns.append(i)
            rows = {"x_t": shown(step.x_t), "noise predicted": noise[0], "x_0 predicted": shown(believed)}
            rows = {title: a for title, a in rows.items() if title in panels["strip"]["rows"]}
            parts["strip"] = {"columns": i, "rows": {title: {"pictures": a} for title, a in rows.items()}}
        yield step, parts
    if kept:
        row = _row("signed")
        row["pictures"].rows += [2 * (shown(kept[i][1]) - shown(kept[-1][0].x_previous)) for i in columns]
        rows = {**panels["strip"]["rows"], "error: x_0 predicted less the picture that it became": row}
        yield {"strip": {**panels["strip"], "rows": rows}, **_hindsight(model, panels, kept)}


def _hindsight(model: Any, panels: Panels, kept: list) -> Panels:
    """How far off each guess was, which can be said only at the end; kept: (record, x_0 that the network saw)."""
    final = kept[-1][0].x_previous
    errors = [float(np.sqrt(np.mean((x_0 - final) ** 2))) for _, x_0 in kept]
    sentences = [_sentence(model, step, error) for (step, _), error in zip(kept, errors)]
    series = {"x_0 predicted, root mean square from the end": [round(e, 6) for e in errors], "t": [round(float(s.t), 6) for s, _ in kept]}
    return {"why": {**panels["why"], "sentences": sentences}, "curve": {**panels["curve"], "title": "How far off", "series": series}}


def _row(scale: str) -> dict[str, Any]:
    return {"scale": scale, "range": None if scale == "ink" else 2.0, "pictures": Rows("unit8" if scale == "ink" else "float16")}


def _points(model: Any, steps: Iterator, stride: int) -> Iterator[Event]:
    reach = 1.2 * float(np.abs(model.draw_source(POINTS, np.random.default_rng(0))).max())
    panels: Panels = {
        "picture": {"kind": "points", "title": "After this step", "stage": True, "reach": reach, "points": Rows("float16")},
        "seen": {"kind": "points", "title": "What the network sees (x_0 predicted)", "stage": True, "reach": reach, "points": Rows("float16")},
        "why": {"kind": "why", "title": "What happens", "wide": True, "sentences": []},
        "curve": {"kind": "curve", "title": "How noisy", "from": 0, "series": {"t": []}},
    }
    yield panels
    kept = []
    for step in steps:
        believed = step.x_t if step.x_0_predicted is None else step.x_0_predicted
        kept.append((step, believed))
        yield step, {"picture": {"points": step.x_previous}, "seen": {"points": believed}, "why": {"sentences": _sentence(model, step)},
                     "curve": {"series": {"t": round(float(step.t), 6)}}}
    if kept:
        yield _hindsight(model, panels, kept)


def _ink(x: np.ndarray) -> dict[str, Any]:
    return pack(x, "unit8", scale="colour" if x.ndim == 3 and x.shape[-1] == 3 else "ink")


def _sentence(model: Any, step: Any, error: float | None = None) -> str:
    t, s = float(step.t), float(step.t_previous)
    alpha, sigma = float(model.path.alpha(t)), float(model.path.sigma(t))
    if step.prediction is None:
        return f"Back to more noise, from t = **{t:.3f}** to **{s:.3f}**: what was pasted in can be taken up by the rest."
    words = f"At t = **{t:.3f}** the picture counts **{alpha:.3f}** and the noise **{sigma:.3f}**. The network tells them apart"
    words += ". " if error is None else f"; its guess of the picture is still **{error:.3f}** away from the one that comes out. "
    words += f"`{step.sampler}` steps to t = **{s:.3f}**"
    return words + ("; nothing is drawn." if step.draw is None else f" and adds fresh noise of deviation **{float(step.deviation):.3f}**.")
