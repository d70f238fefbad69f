"""What the page shows of a generative adversarial network: its layers, the discriminator's verdict, and where it looks."""

from __future__ import annotations

from typing import Any

import numpy as np

from .page import pack
from .pictures import mosaic
from .runs import first, picture, recorder


@recorder("gan")
def gan(model: Any, **settings: Any):
    steps = list(model.steps(**{"n": max(1, model.config.packing), **settings}))
    values = [first(step.value[:1]) for step in steps]
    shown = [_shown(step, value) for step, value in zip(steps, values)]
    judged = steps[-1] if steps[-1].name == "verdict" else None
    panels: list[dict[str, Any]] = [
        {"kind": "picture", "title": "What is there", "stage": True, "pictures": shown},
        {"kind": "why", "title": "What happens", "wide": True, "sentences": [_sentence(step) for step in steps]},
        {"kind": "arrays", "title": "From z to pixels, so far", "wide": True,
         "note": "orange above 0, blue below; of a layer with channels, each channel is a tile",
         "arrays": [{"name": step.name, "array": a} for step, a in zip(steps, shown)], "sizes": list(range(1, len(steps) + 1))},
    ]
    if judged is not None and judged.gradient is not None and judged.given.ndim > 2:
        pixels = next(p for step, p in zip(steps, shown) if step.name == "pixels")
        gradient = picture(first(judged.gradient[:1]))
        panels.append({"kind": "arrays", "title": "What the discriminator looks at",
                       "note": "d logit / dx: orange where more ink would look more real to it, blue where less would",
                       "arrays": [{"name": "picture", "array": pixels}, {"name": "dD / dx", "array": gradient}], "sizes": [2] * len(steps)})
        panels.append({"kind": "bars", "title": "The verdict", "labels": ["real", "made"], "percent": True,
                       "values": pack([[float(judged.value[0]), 1 - float(judged.value[0])]])})
    return steps, panels


def _shown(step: Any, value: np.ndarray) -> dict[str, Any]:
    if step.name == "verdict":
        return picture(first(step.gradient[:1]))
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
