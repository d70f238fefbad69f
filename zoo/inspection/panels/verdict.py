"""What a page shows of a generative adversarial network: its layers, the discriminator's verdict, and the pixels that it depends on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...drawing.pictures import mosaic
from .arrays import picture, unbatched
from .recording import Event, Panels, Rows, recorder


@recorder("gan")
def gan(model: Any, **settings: Any) -> Iterator[Event]:
    settings = {"n": max(1, model.config.packing), **settings}
    if settings.get("z") is not None:
        del settings["n"]
    panels: Panels = {
        "picture": {"kind": "picture", "title": "Current value", "stage": True, "pictures": []},
        "why": {"kind": "why", "title": "This step", "wide": True, "sentences": []},
        "arrays": {"kind": "arrays", "title": "From z to pixels, so far", "wide": True,
                   "note": "orange above 0, blue below; one tile per channel", "arrays": [], "sizes": [], "steps": True},
    }
    if model.pictures:
        panels["looks"] = {"kind": "arrays", "title": "What the discriminator looks at", "arrays": [], "sizes": [],
                           "note": "d logit / dx: orange where more ink would make the picture look more real, blue where less ink would"}
        panels["verdict"] = {"kind": "bars", "title": "The discriminator's verdict", "labels": ["real", "generated"], "percent": True,
                             "values": Rows()}
    yield panels
    pixels = None  # stays on the stage while the discriminator judges it
    for i, step in enumerate(model.steps(**settings)):
        shown = _shown(step, unbatched(step.value[:1]))
        pixels = shown if step.name == "pixels" else pixels
        layer = {"name": "d logit / dx" if step.name == "verdict" else step.name, "array": shown}
        on_stage = pixels if step.name == "verdict" and pixels is not None else shown
        parts: Panels = {"picture": {"pictures": on_stage}, "why": {"sentences": _sentence(step)},
                         "arrays": {"arrays": layer, "sizes": i + 1}}
        if model.pictures:
            real = float(step.value[0]) if step.name == "verdict" else math.nan
            parts["verdict"] = {"values": np.array([real, 1 - real], np.float32)}
            parts["looks"] = {"sizes": 0}
            if step.name == "pixels":
                parts["looks"] = {"arrays": {**layer, "name": "picture"}, "sizes": 1}
            if step.name == "verdict":
                parts["looks"] = {"arrays": layer, "sizes": 2}
        yield step, parts


def _shown(step: Any, value: np.ndarray) -> dict[str, Any]:
    if step.name == "verdict":
        return picture(unbatched(step.gradient[:1]))
    if step.name == "picture":
        return picture(value)
    return picture(mosaic(value)) if value.ndim == 3 and value.shape[-1] > 3 else picture(value)


def _sentence(step: Any) -> str:
    v = step.value
    if step.name == "z":
        return f"${step.formula}$: **{v.shape[-1]} random numbers**. Everything after them is deterministic."
    if step.name == "verdict":
        belief = f"according to the discriminator, the picture is real with probability **{float(v[0]):.1%}**"
        return f"${step.formula}$: {belief}. The colours show which pixels would change its verdict."
    if step.name == "pixels":
        return f"${step.formula}$: **the picture**, mean brightness **{v.mean():.3f}**."
    shape = " × ".join(map(str, v.shape[1:]))
    return f"${step.formula}$: **{shape}** numbers, mean **{v.mean():.3f}**, standard deviation **{v.std():.3f}**, **{(v > 0).mean():.0%}** above 0."
