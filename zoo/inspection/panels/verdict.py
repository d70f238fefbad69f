"""What the page shows of a generative adversarial network: its layers, the discriminator's verdict, and where it looks."""

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
        "picture": {"kind": "picture", "title": "What is there", "stage": True, "pictures": []},
        "why": {"kind": "why", "title": "What happens", "wide": True, "sentences": []},
        "arrays": {"kind": "arrays", "title": "From z to pixels, so far", "wide": True,
                   "note": "orange above 0, blue below; of a layer with channels, each channel is a tile", "arrays": [], "sizes": []},
    }
    if model.pictures:
        panels["looks"] = {"kind": "arrays", "title": "What the discriminator looks at", "arrays": [], "sizes": [],
                           "note": "d logit / dx: orange where more ink would look more real to it, blue where less would"}
        panels["verdict"] = {"kind": "bars", "title": "The verdict", "labels": ["real", "made"], "percent": True, "values": Rows()}
    yield panels
    for i, step in enumerate(model.steps(**settings)):
        shown = _shown(step, unbatched(step.value[:1]))
        named = {"name": step.name, "array": shown}
        parts: Panels = {"picture": {"pictures": shown}, "why": {"sentences": _sentence(step)}, "arrays": {"arrays": named, "sizes": i + 1}}
        if model.pictures:
            real = float(step.value[0]) if step.name == "verdict" else math.nan
            parts["verdict"] = {"values": np.array([real, 1 - real], np.float32)}
            parts["looks"] = {"sizes": 0}
            if step.name == "pixels":
                parts["looks"] = {"arrays": {**named, "name": "picture"}, "sizes": 1}
            if step.name == "verdict":
                parts["looks"] = {"arrays": {**named, "name": "dD / dx"}, "sizes": 2}
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
        return f"`{step.formula}`: **{v.shape[-1]} random numbers**. Nothing else is random in what follows."
    if step.name == "verdict":
        belief = f"the discriminator gives **{float(v[0]):.1%}** to this picture being real"
        return f"`{step.formula}`: {belief}. The colours show what would change its mind."
    if step.name == "pixels":
        return f"`{step.formula}`: **the picture**, mean brightness **{v.mean():.3f}**."
    shape = " × ".join(map(str, v.shape[1:]))
    return f"`{step.formula}`: **{shape}** numbers, mean **{v.mean():.3f}**, deviation **{v.std():.3f}**, **{(v > 0).mean():.0%}** above 0."
