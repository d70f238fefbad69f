"""What the page shows of a VQ-VAE: how the prior writes the grid of codes, and what the decoder makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...drawing.pictures import mosaic
from ...vqvae import CodeStep
from .arrays import in_image_shape, picture, unbatched
from .latent import sentence
from .recording import Event, Panels, Rows, recorder

CANDIDATES = 12


@recorder("vqvae")
def vqvae(model: Any, **settings: Any) -> Iterator[Event]:
    codes = model.config.codes
    yield {
        "picture": {"kind": "picture", "title": "What is there", "stage": True, "pictures": []},
        "why": {"kind": "why", "title": "What happens", "wide": True, "sentences": []},
        "candidates": {"kind": "candidates", "title": "The candidates for this place", "note": "the codes that the prior finds likeliest",
                       "most": min(CANDIDATES, codes), "texts": [], "stages": {"the prior": Rows()}, "ranges": Rows(), "chosen": [],
                       "draws": []},
        "curve": {"kind": "curve", "title": "How sure the prior was", "from": 0, "series": {"surprise, nats": []}},
        "arrays": {"kind": "arrays", "title": "From codes to pixels, so far", "wide": True, "arrays": [], "sizes": [],
                   "note": "the grid of codes, then the decoder; of a layer with channels, each channel is a tile"},
    }
    made = 0
    written: Panels = {}
    for step in model.steps(**{"n": 1, **settings}):
        if isinstance(step, CodeStep):
            shown = picture(np.where(step.value[0] < 0, np.nan, (step.value[0] + 1) / codes).astype(np.float32))
            written = _written(step)
        else:
            value = in_image_shape(unbatched(step.value), model)
            shown = picture(mosaic(value) if value.ndim == 3 and value.shape[-1] > 3 else value, "float16")
        last_code = isinstance(step, CodeStep) and (step.value >= 0).all()
        parts: Panels = {"picture": {"pictures": shown}, "why": {"sentences": _sentence(step)}, **written}
        if last_code or not isinstance(step, CodeStep):
            made += 1
            parts["arrays"] = {"arrays": {"name": "codes" if last_code else step.name, "array": shown}}
        parts.setdefault("arrays", {})["sizes"] = made
        yield step, parts


def _written(step: CodeStep) -> Panels:
    """What a code adds to the panels about the prior; the decoder's steps show the last one's again."""
    p, code = step.probabilities[0], int(step.code[0])
    ids = np.argsort(-p, kind="stable")[:CANDIDATES]
    if code not in ids:
        ids[-1] = code
    ends = np.cumsum(p)
    return {"candidates": {"texts": [str(i) for i in ids], "stages": {"the prior": p[ids]}, "ranges": np.stack([ends - p, ends], 1)[ids],
                           "chosen": int(np.flatnonzero(ids == code)[0]), "draws": float(step.draw[0])},
            "curve": {"series": {"surprise, nats": round(-math.log(max(float(p[code]), 1e-22)), 5)}}}


def _sentence(step: Any) -> str:
    if not isinstance(step, CodeStep):
        return sentence(step)
    code = int(step.code[0])
    p = float(step.probabilities[0, code])
    rank = int((step.probabilities[0] > p).sum()) + 1
    return (f"At row {step.name.removeprefix('code ').replace(', ', ', column ')} the draw **{float(step.draw[0]):.4f}** fell into the place of "
            f"code **{code}**, to which the prior gave **{p:.1%}** (number {rank} of its choices). The codes before it are all that it read.")
