"""`zoo sample`: pictures, text or music from a model, in the terminal and in a file."""

from __future__ import annotations

import dataclasses
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..drawing.pictures import save_grid
from ..drawing.terminal import draw_images, draw_step
from ..recipes.options import as_keywords, read_class
from ..storage import atomic_write
from . import music


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for at the command line; None is the model's default."""

    name: str  # of the model, or its folder
    n: int | None  # pictures, or tokens
    digit: str | None
    prompt: str | None
    seed: int
    out: str | None
    steps: bool  # print every step as well


def write_samples(model: Any, request: Request, options: dict[str, str]) -> None:
    """Samples of a model, printed and written to a file; options are settings of its sampler. Raises ValueError where they don't fit the model."""
    if hasattr(model, "generate"):
        _write_text(model, request, options)
        return
    if request.prompt is not None:
        raise ValueError(f"--prompt is for models of text; {request.name} draws pictures")
    if not hasattr(model, "sample"):
        raise ValueError(f"{request.name} is of kind {model.kind!r}, which generates nothing")
    n = 64 if request.n is None else request.n
    settings: dict[str, Any] = {"seed": request.seed, "digit": read_class(model, request.digit), **as_keywords(model.sample, options, model.steps)}
    if request.out and Path(request.out).suffix not in (".png", ".npz"):
        raise ValueError(f"--out is {request.out}; pictures go to a .png or .npz file")
    if request.steps:
        for step in model.steps(n, **settings):
            print(step)
    images = model.sample(n, **settings)
    out = request.out
    if out is None:
        print(draw_images(images[:16]))
        if names := model.card.get("class_names"):
            print("classes: " + ", ".join(f"{i} {name}" for i, name in enumerate(names)))
        out = f"{Path(request.name).name}.png"
    _write_images(Path(out), images)
    print(out)


def _write_images(path: Path, images: Any) -> None:
    if path.suffix == ".png":
        save_grid(path, images)
    else:
        content = io.BytesIO()
        np.savez_compressed(content, images=images)
        atomic_write(path, content.getvalue())


def _write_text(model: Any, request: Request, options: dict[str, str]) -> None:
    if request.digit is not None:
        raise ValueError(f"--digit is for models of pictures; {request.name} writes text")
    if music.writes_chorales(model) and not request.steps:
        _write_music(model, request, options)
        return
    if request.out and Path(request.out).suffix != ".txt":
        raise ValueError(f"--out is {request.out}; text goes to a .txt file")
    n = 500 if request.n is None else request.n
    options = {"temperature": "0.8", **options}
    if request.steps:
        for step in model.steps(request.prompt or "", n, seed=request.seed, **as_keywords(model.steps, options)):
            print(draw_step(step, None if model.tokenizer is None else lambda token: model.tokenizer.decode([token])))
        return
    pieces = model.generate(request.prompt or "", n, seed=request.seed, stream=True, **as_keywords(model.generate, options))
    if request.out is None:
        blank = True
        for piece in pieces:
            print(piece, end="", flush=True)
            blank = blank and not piece.strip()
        print()
        if blank:
            print("zoo: the text is blank; give it a beginning with --prompt, or raise --temperature", file=sys.stderr)
    else:
        atomic_write(request.out, "".join(pieces).encode())
        print(request.out)


def _write_music(model: Any, request: Request, options: dict[str, str]) -> None:
    """A chorale as a piano roll in the terminal, and as a file that can be heard."""
    if request.out and Path(request.out).suffix not in music.ENDINGS:
        raise ValueError(f"--out is {request.out}; music goes to a {', '.join(music.ENDINGS[:-1])} or {music.ENDINGS[-1]} file")
    settings = as_keywords(model.generate, {"temperature": "0.9", "top_p": "0.98", **options})
    piece = music.compose(model, request.prompt or music.NEW, 768 if request.n is None else request.n, seed=request.seed, **settings)
    out = request.out
    if out is None:
        print(music.draw(piece))
        out = f"{Path(request.name).name}.mid"
    music.write(out, piece)
    print(out)
