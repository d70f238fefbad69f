"""What a page shows of a VQ-VAE: how the prior writes the grid of codes, and how the decoder turns it into pixels."""

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
        "picture": {"kind": "picture", "title": "Current value", "stage": True, "pictures": []},
        "why": {"kind": "why", "title": "This step", "wide": True, "sentences": []},
        "candidates": {"kind": "candidates", "title": "Candidates for this position", "note": "the codes that are most likely under the prior",
                       "most": min(CANDIDATES, codes), "texts": [], "stages": {"the prior": Rows()}, "ranges": Rows(), "chosen": [],
                       "draws": []},
        "curve": {"kind": "curve", "title": "How certain the prior was", "from": 0, "series": {"surprise, nats": []}},
        "arrays": {"kind": "arrays", "title": "From codes to pixels, so far", "wide": True, "arrays": [], "sizes": [],
                   "note": "the grid of codes, then the layers of the decoder, one tile per channel"},
    }
    arrays = 0
    prior: Panels = {}
    for step in model.steps(**{"n": 1, **settings}):
        if isinstance(step, CodeStep):
            shown = picture(np.where(step.value[0] < 0, np.nan, (step.value[0] + 1) / codes).astype(np.float32))
            prior = _prior_parts(step)
        else:
            value = in_image_shape(unbatched(step.value), model)
            shown = picture(mosaic(value) if value.ndim == 3 and value.shape[-1] > 3 else value, "float16")
        last_code = isinstance(step, CodeStep) and (step.value >= 0).all()
        parts: Panels = {"picture": {"pictures": shown}, "why": {"sentences": _sentence(step)}, **prior}
        if last_code or not isinstance(step, CodeStep):
            arrays += 1
            parts["arrays"] = {"arrays": {"name": "codes" if last_code else step.name, "array": shown}}
        parts.setdefault("arrays", {})["sizes"] = arrays
        yield step, parts


def _prior_parts(step: CodeStep) -> Panels:
    """What a code adds to the panels about the prior; the decoder's steps repeat those of the last code."""
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
    return (f"At row {step.name.removeprefix('code ').replace(', ', ', column ')} the random number **{float(step.draw[0]):.4f}** selected code "
            f"**{code}**, which has probability **{p:.1%}** under the prior (rank {rank}). The prior reads the codes before it and nothing else.")
