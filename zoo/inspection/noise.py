"""What the page shows of a diffusion or flow model: the noisy picture, what the network sees in it, and how far off it still is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .page import pack
from .runs import recorder

MOST_STEPS = 200  # of a longer run every second, third, ... record is on the page
MOST_COLUMNS = 60
POINTS = 400


@recorder("diffusion")
def diffusion(model: Any, *, every: int | None = None, **settings: Any):
    """every: keep each so-many-th record; without it, as many as the page has room for."""
    points = len(model.config.image) == 1
    settings = {"n": POINTS if points else 1, **settings}
    if every is None:
        asked = settings.get("evaluations") or model.config.evaluations
        every = max(1, math.ceil(asked / MOST_STEPS))
    steps = list(model.steps(**settings, every=every))
    return steps, _points(model, steps) if points else _pictures(model, steps)


def _pictures(model: Any, steps: list) -> list[dict[str, Any]]:
    final = steps[-1].x_previous
    believed = [final if s.x_0_predicted is None else s.x_0_predicted for s in steps]
    noise = [np.zeros_like(final) if s.noise_predicted is None else s.noise_predicted for s in steps]
    errors = [float(np.sqrt(np.mean((x_0 - final) ** 2))) for x_0 in believed]
    columns = [int(i) for i in np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_COLUMNS)).round())]

    def row(title: str, arrays: list[np.ndarray], scale: str) -> dict[str, Any]:
        chosen = np.stack([arrays[i][0] for i in columns])
        packed = pack(as_ink(chosen), "unit8") if scale == "ink" else pack(chosen, "float16")
        return {"title": title, "scale": scale, "pictures": packed, "range": None if scale == "ink" else 2.0}

    x_t = [s.x_t for s in steps]
    return [
        {"kind": "picture", "title": "After this step", "stage": True, "pictures": [_ink(s.x_previous[0]) for s in steps]},
        {"kind": "picture", "title": "What the network sees (x_0 predicted)", "stage": True, "pictures": [_ink(x[0]) for x in believed]},
        {"kind": "why", "title": "What happens", "wide": True, "sentences": [_sentence(model, s, e) for s, e in zip(steps, errors)]},
        {"kind": "strip", "title": "From noise to a picture", "wide": True, "note": "click a column to go there", "columns": columns,
         "rows": [
            row("x_t", x_t, "ink"), row("noise predicted", noise, "signed"), row("x_0 predicted", believed, "ink"),
            row("error: x_0 predicted less the picture that it became", [x - final for x in believed], "signed")]},
        {"kind": "curve", "title": "How far off", "from": 0, "series": [
            {"title": "x_0 predicted, root mean square from the end", "values": [round(e, 6) for e in errors]},
            {"title": "t", "values": [round(float(s.t), 6) for s in steps]}]},
    ]


def _points(model: Any, steps: list) -> list[dict[str, Any]]:
    rows = [s.x_t for s in steps] + [steps[-1].x_previous]
    believed = [s.x_previous if s.x_0_predicted is None else s.x_0_predicted for s in steps]
    reach = float(1.05 * max(np.abs(a).max() for a in rows))
    final = steps[-1].x_previous
    errors = [float(np.sqrt(np.mean((x - final) ** 2))) for x in believed]
    return [
        {"kind": "points", "title": "After this step", "stage": True, "reach": reach, "points": pack(np.stack(rows[1:]), "float16")},
        {"kind": "points", "title": "x_0 predicted", "stage": True, "reach": reach, "points": pack(np.stack(believed), "float16")},
        {"kind": "why", "title": "What happens", "wide": True, "sentences": [_sentence(model, s, e) for s, e in zip(steps, errors)]},
        {"kind": "curve", "title": "How far off", "from": 0,
         "series": [{"title": "x_0 predicted, from the end", "values": [round(e, 6) for e in errors]}]},
    ]


def as_ink(x: np.ndarray) -> np.ndarray:
    """Pictures in [-1, 1] as ink from 0 to 1."""
    return np.clip((x + 1) / 2, 0, 1)


def _ink(x: np.ndarray) -> dict[str, Any]:
    a = as_ink(x)
    return pack(a, "unit8", scale="colour" if a.ndim == 3 and a.shape[-1] == 3 else "ink")


def _sentence(model: Any, step: Any, error: float) -> str:
    t, s = float(step.t), float(step.t_previous)
    alpha, sigma = float(model.path.alpha(t)), float(model.path.sigma(t))
    if step.prediction is None:
        return f"Back to more noise, from t = **{t:.3f}** to **{s:.3f}**: what was pasted in can be taken up by the rest."
    words = f"At t = **{t:.3f}** the picture counts **{alpha:.3f}** and the noise **{sigma:.3f}**. "
    words += f"The network tells them apart; its guess of the picture is still **{error:.3f}** away from the one that comes out. "
    words += f"`{step.sampler}` steps to t = **{s:.3f}**"
    return words + ("; nothing is drawn." if step.draw is None else f" and adds fresh noise of deviation **{float(step.deviation):.3f}**.")
