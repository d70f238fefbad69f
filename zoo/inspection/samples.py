"""`zoo sample`: pictures, text or music from a model, in the terminal and in a file."""

from __future__ import annotations

import dataclasses
import inspect
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..drawing.gif import gif
from ..drawing.pictures import grid, save_grid
from ..drawing.terminal import draw_images, draw_step
from ..recipes.options import as_keywords, read_class
from ..storage import atomic_write
from . import music

ENDINGS = {"pictures": (".png", ".gif", ".npz"), "points": (".npz", ".png"), "text": (".txt", ".npz"), "music": music.ENDINGS}
GIF_PICTURES = 16  # in a moving picture, unless -n says otherwise
GIF_PIXELS = 6_000_000  # of all frames together, at most: its size, and seconds to write it
WALK = 8  # frames from one sample to the next


def check_ending(out: str | None, made: str) -> None:
    """Raise ValueError for a file that can't hold what a model makes: pictures, points, text or music."""
    endings = ENDINGS[made]
    if out and Path(out).suffix not in endings:
        raise ValueError(f"--out is {out}; {made} {'goes' if made in ('text', 'music') else 'go'} to a "
                         f"{', '.join(endings[:-1])} or {endings[-1]} file")


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
    if not hasattr(model, "sample"):
        raise ValueError(f"{request.name} is of kind {model.kind!r}, which generates nothing")
    reads_words = "prompt" in inspect.signature(model.sample).parameters
    if request.prompt is not None and not reads_words:
        raise ValueError(f"--prompt is for models that read words; {request.name} draws pictures without")
    if request.digit is not None and reads_words:
        raise ValueError(f"--digit is for models with classes; {request.name} draws what --prompt says")
    shape = getattr(model, "sample_shape", getattr(model.config, "image", ()))
    check_ending(request.out, "points" if len(shape) == 1 and getattr(model, "latents", None) is None else "pictures")
    asked_for = {"prompt": request.prompt} if reads_words else {"digit": read_class(model, request.digit)}
    settings: dict[str, Any] = {"seed": request.seed, **asked_for, **as_keywords(model.sample, options, model.steps)}
    if request.out and Path(request.out).suffix == ".gif":
        frames = moving(model, GIF_PICTURES if request.n is None else request.n, settings)
        _write_gif(Path(request.out), frames)
        print(request.out)
        return
    n = 64 if request.n is None else request.n
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
    if path.suffix == ".npz":
        _write_arrays(path, images=images)
    elif images.ndim == 2:
        reach = 1.1 * float(np.abs(images).max())
        counts, _, _ = np.histogram2d(-images[:, 1], images[:, 0], bins=96, range=[[-reach, reach]] * 2)
        save_grid(path, 1 - np.minimum(counts, 4)[None] / 4, scale=4)
    else:
        save_grid(path, images)


def _write_arrays(path: str | Path, **arrays: Any) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    atomic_write(path, content.getvalue())


def moving(model: Any, n: int, settings: dict[str, Any]) -> list[np.ndarray]:
    """Frames of n pictures: a model of steps in time shows each of them; others walk from one sample to the next, or show one after the other."""
    if hasattr(model, "path"):
        steps = list(model.steps(n, **settings))
        return [grid(model.to_pictures(x)) for x in [steps[0].x_t, *(step.x_previous for step in steps)]]
    samples = model.sample(n, **settings)
    if n < 2 or model.kind != "vae" or settings.get("digit") is not None or model.config.classes:
        return list(samples)
    return [frame for a, b in zip(samples, np.roll(samples, -1, 0)) for frame in model.interpolate(a, b, WALK + 1)[:WALK]]


def _write_gif(path: Path, frames: list[np.ndarray]) -> None:
    pixels = sum(frame.shape[0] * frame.shape[1] for frame in frames)
    if pixels > GIF_PIXELS:
        raise ValueError(f"--out is {path}: {len(frames)} frames of {' x '.join(map(str, frames[0].shape[:2]))} are more than a GIF is good for; "
                         "ask for fewer pictures with -n, or for fewer steps")
    scale = max(1, min(8, int((GIF_PIXELS / 4 / pixels) ** 0.5)))
    atomic_write(path, gif([frame.repeat(scale, 0).repeat(scale, 1) for frame in frames]))


def _write_text(model: Any, request: Request, options: dict[str, str]) -> None:
    if request.digit is not None:
        raise ValueError(f"--digit is for models of pictures; {request.name} writes text")
    if music.writes_chorales(model) and not request.steps:
        _write_music(model, request, options)
        return
    check_ending(request.out, "text")
    n = 500 if request.n is None else request.n
    options = {"temperature": "0.8", **options}
    if request.steps:
        for step in model.steps(request.prompt or "", n, seed=request.seed, **as_keywords(model.steps, options)):
            print(draw_step(step, None if model.tokenizer is None else lambda token: model.tokenizer.decode([token])))
        return
    if request.out and Path(request.out).suffix == ".npz":
        steps = list(model.steps(request.prompt or "", n, seed=request.seed, **as_keywords(model.steps, options)))
        _write_arrays(request.out, tokens=np.array([step.token for step in steps]), log_probabilities=np.array([s.log_probability for s in steps]))
        print(request.out)
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
    check_ending(request.out, "music")
    settings = as_keywords(model.generate, {"temperature": "0.9", "top_p": "0.98", **options})
    piece = music.compose(model, request.prompt or music.NEW, 768 if request.n is None else request.n, seed=request.seed, **settings)
    out = request.out
    if out is None:
        print(music.draw(piece))
        out = f"{Path(request.name).name}.mid"
    music.write(out, piece)
    print(out)
