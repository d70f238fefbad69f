"""What a page shows of a captioner: word by word, what else it might have written, and where in the picture it looked before it chose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...autograd.tracing import trace
from ...data import scenes
from ...multimodal.captions import WordStep
from ...multimodal.pictures import SQUARE
from ...multimodal.prompts import FIRST, PADDING
from .arrays import picture
from .recording import Event, Panels, Rows, recorder, watch
from .text import CANDIDATES
from .words import lit

SCENE = 0x5CE  # which scenes are drawn where no picture is given
END = "(end)"


@recorder("captions")
def captions(model: Any, *, images: Any = None, seed: int = 0, **settings: Any) -> Iterator[Event]:
    """images: one picture (1, height, width, colours); without it a scene that the grammar draws, another one for each seed."""
    drawn = scenes.captioned_digits(1, (seed, SCENE), pairs="all", digits="test", wording="full") if images is None else None
    images = images if drawn is None else drawn.pictures
    if len(images) != 1:
        raise ValueError(f"images: there are {len(images)}; a page shows one")
    most = min(CANDIDATES, FIRST + len(model.config.vocabulary))
    yield {
        "picture": {"kind": "picture", "title": "Where it looked before this word", "stage": True, "pictures": [],
                    "note": f"drawn by a grammar, which says: {drawn.captions[0]}" if drawn else "the picture that was given"},
        "text": {"kind": "text", "title": "The caption", "wide": True, "tokens": [], "given": 0, "probabilities": Rows()},
        "why": {"kind": "why", "title": "Why this word", "wide": True, "lines": 2, "sentences": []},
        "candidates": {"kind": "candidates", "title": "Candidates", "note": "the likeliest words", "most": most, "texts": [],
                       "stages": {"the model": Rows()}, "ranges": Rows(), "chosen": [], "draws": []},
        "curve": {"kind": "curve", "title": "How certain the model was", "from": 0, "series": {"surprise, nats": []}},
    }
    with trace(model, "blocks.*.softmax") as seen:
        for step, records in watch(model.steps(images, seed=seed, **settings), seen):
            yield step, _parts(model, step, images[0], _looks(model, records))


def _looks(model: Any, records: list[Any]) -> np.ndarray:
    """How much of its attention the last position gave to each square, the mean over layers and heads: (rows, columns)."""
    rows, columns = model.grid
    return np.mean([record.value[0, :, -1, : rows * columns] for record in records], axis=(0, 1)).reshape(rows, columns)


def _parts(model: Any, step: WordStep, image: np.ndarray, looks: np.ndarray) -> Panels:
    p, word = step.probabilities[0], int(step.word[0])
    ids = np.argsort(-p, kind="stable")[:CANDIDATES]
    if word not in ids:
        ids[-1] = word
    ends = np.cumsum(p)
    text = spell(model, word)
    light = looks.repeat(SQUARE, axis=0).repeat(SQUARE, axis=1)
    rank = int((p > p[word]).sum())
    best = "" if rank == 0 else f", where `{spell(model, int(p.argmax()))}` has {p.max():.1%}"
    row, column = (int(i) + 1 for i in np.unravel_index(looks.argmax(), looks.shape))
    return {
        "picture": {"pictures": picture(lit(image, light[None])[0], "float16")},
        "text": {"tokens": f"{' ' if step.position and text != ',' else ''}{text}", "probabilities": np.float32(p[word])},
        "why": {"sentences": f"The model gives `{text}` probability **{p[word]:.1%}**{best}. **{looks.sum():.0%}** of its attention went to the "
                             f"picture, most to the square in row {row}, column {column} of {looks.shape[0]} x {looks.shape[1]}; the rest went to "
                             "the words so far."},
        "candidates": {"texts": [spell(model, int(i)) for i in ids], "stages": {"the model": p[ids]}, "ranges": np.stack([ends - p, ends], 1)[ids],
                       "chosen": int(np.flatnonzero(ids == word)[0]), "draws": None if step.draw is None else float(step.draw[0])},
        "curve": {"series": {"surprise, nats": round(float(-np.log(max(p[word], 1e-22))), 5)}},
    }


def spell(model: Any, word: int) -> str:
    """A word by its id."""
    return END if word == PADDING else model.config.vocabulary[word - FIRST] if word >= FIRST else "(beginning)"
