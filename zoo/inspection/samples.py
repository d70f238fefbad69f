"""`zoo sample`: pictures, text, music or speech from a model, in the terminal and in a file."""

from __future__ import annotations

import dataclasses
import inspect
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..data.coloured import as_grey
from ..data.picture_folders import read_picture
from ..data.sound import write_wav
from ..drawing.gif import gif
from ..drawing.pictures import grid, pictures_of_grid, save_grid
from ..drawing.terminal import draw_images, draw_step
from ..model import check_count
from ..multimodal.prompts import LATER_T, exchange, weights_of
from ..parts.denoising.editing import inpaint_steps
from ..recipes.options import as_keywords, read_class
from ..storage import atomic_write
from . import music
from .origin import Origin, deliver

ENDINGS = {"pictures": (".png", ".gif", ".npz"), "points": (".npz", ".png"), "text": (".txt", ".npz"), "music": music.ENDINGS,
           "captions": (".txt", ".npz"), "speech": (".wav", ".png", ".npz")}
GIF_PICTURES = 16  # in a moving picture, unless -n says otherwise
GIF_PIXELS = 6_000_000  # of all frames together, at most: its size, and seconds to write it
WALK = 8  # frames from one sample to the next


def check_ending(out: str | None, made: str) -> None:
    """Raise ValueError for a file that can't hold what a model makes: pictures, points, text or music."""
    endings = ENDINGS[made]
    if out and Path(out).suffix not in endings:
        raise ValueError(f"--out is {out}; {made} {'goes' if made in ('text', 'music', 'speech') else 'go'} to a "
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
    pictures: list[str] = dataclasses.field(default_factory=list)  # files, for a model that writes captions, or to paint into
    origin: Origin | None = None  # what is written into the file
    writes: bool = True  # False for all but the first of several processes that draw together
    mask: str | None = None  # a file: what of the pictures is painted anew

    def deliver(self, out: str | Path, write: Callable[[Path], None]) -> None:
        """What `write(path)` writes, as the file `out`."""
        if self.writes:
            deliver(out, write, self.origin)


def write_samples(model: Any, request: Request, options: dict[str, str]) -> None:
    """Samples of a model, printed and written to a file; options are settings of its sampler. Raises ValueError where they don't fit the model."""
    paints = hasattr(model, "inpaint_steps") and not hasattr(model, "sound") and len(model.config.image) > 1
    if request.mask is not None and not paints:
        raise ValueError(f"--mask is {request.mask}; {request.name} paints into no pictures")
    if hasattr(model, "caption"):
        _write_captions(model, request, options)
        return
    if request.pictures and not paints:
        raise ValueError(f"PICTURE is {request.pictures[0]}; {request.name} reads no pictures")
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
    if hasattr(model, "sound"):
        _write_speech(model, request, options)
        return
    shape = getattr(model, "sample_shape", getattr(model.config, "image", ()))
    check_ending(request.out, "points" if len(shape) == 1 and getattr(model, "latents", None) is None else "pictures")
    asked_for = _words_of(request.prompt, options) if reads_words else {"digit": read_class(model, request.digit)}
    if request.pictures or request.mask is not None:
        options = as_keywords(model.inpaint_steps, options, inpaint_steps, *_steps_of(model))
        _write_painted(model, request, {"seed": request.seed, **asked_for, **options})
        return
    settings: dict[str, Any] = {"seed": request.seed, **asked_for, **as_keywords(model.sample, options, *_steps_of(model))}
    if request.out and Path(request.out).suffix == ".gif":
        frames = moving(model, GIF_PICTURES if request.n is None else request.n, settings)
        request.deliver(request.out, lambda path: _write_gif(path, frames))
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
    request.deliver(out, lambda path: _write_images(path, images))
    print(out)


def _steps_of(model: Any) -> list[Callable]:
    """The methods `steps` of a model's class and of its bases, each of which may pass its keywords on to the next."""
    return [vars(each)["steps"] for each in type(model).__mro__ if "steps" in vars(each)]


def _words_of(prompt: str | None, options: dict[str, str]) -> dict[str, Any]:
    """What a model that reads words is told: the prompt, --later, the one that holds from --later-t on, and --weigh, factors of attention.

    They are taken out of `options`.
    """
    later, t, weigh = options.pop("later", ""), options.pop("later_t", str(LATER_T)), options.pop("weigh", "")
    try:
        then = exchange(later, float(t))
    except ValueError:
        raise ValueError(f"--later-t is {t!r}; it is a number between 0, the picture, and 1, the noise") from None
    return {"prompt": prompt, **({"then": then} if then else {}), **({"weights": weights_of(weigh)} if weigh.strip() else {})}


def _write_painted(model: Any, request: Request, settings: dict[str, Any]) -> None:
    """The pictures that are given, with what the mask covers painted anew, -n times each."""
    if model.latents is not None:
        raise ValueError(f"--mask: {request.name} draws latents, in which a part of a picture has no place of its own; a model of pictures has")
    if request.mask is None:
        raise ValueError(f"--mask is missing; it is a picture of the size of {request.pictures[0]}, white where that is painted anew")
    if not request.pictures:
        raise ValueError(f"PICTURE is missing; --mask covers a part of it: zoo sample {request.name} picture.png --mask {request.mask}")
    check_ending(request.out, "pictures")
    images = np.concatenate([pictures_for(model, path) for path in request.pictures])
    images = images.repeat(1 if request.n is None else check_count(request.n), 0)
    mask = pictures_for(model, request.mask)
    if len(mask) > 1:
        raise ValueError(f"--mask: {request.mask} holds {len(mask)} pictures; one mask serves all")
    mask = mask[0]
    painted = (as_grey(mask) if mask.ndim == 3 else mask) >= 0.5
    if not painted.any():
        raise ValueError(f"--mask is {request.mask}: nothing of it is white, so nothing would be painted")
    steps = list(model.inpaint_steps(images, ~painted, **settings))
    if request.steps:
        print("\n".join(map(str, steps)))
    result = model.to_pictures(steps[-1].x_previous)
    out = request.out
    if out is None:
        print(draw_images(result[:16]))
        out = f"{Path(request.name).name}.png"
    if Path(out).suffix == ".gif":
        request.deliver(out, lambda path: _write_gif(path, [grid(model.to_pictures(step.x_previous)) for step in steps]))
    else:
        request.deliver(out, lambda path: _write_images(path, result))
    print(out)


def _write_captions(model: Any, request: Request, options: dict[str, str]) -> None:
    """A line for each picture."""
    if request.digit is not None or request.prompt is not None or request.n is not None:
        raise ValueError(f"--digit, --prompt and -n are for models that draw; {request.name} says what is in pictures")
    if not request.pictures:
        raise ValueError(f"PICTURE is missing; {request.name} says what is in pictures: zoo sample {request.name} picture.png")
    check_ending(request.out, "captions")
    images = np.concatenate([pictures_for(model, path) for path in request.pictures])
    settings = {"seed": request.seed, **as_keywords(model.caption, options, model.steps)}
    if request.steps:
        for step in model.steps(images, **settings):
            print(step)
    captions = model.caption(images, **settings)
    if request.out is None:
        print("\n".join(captions))
        return
    content = "".join(f"{caption}\n" for caption in captions).encode()
    is_text = Path(request.out).suffix == ".txt"
    request.deliver(request.out, lambda path: atomic_write(path, content) if is_text else _write_arrays(path, captions=np.array(captions)))
    print(request.out)


def pictures_for(model: Any, path: str | Path) -> np.ndarray:
    """The pictures of a file as a model takes them, (n, height, width, colours) in [0, 1]: one, or those of a grid that the zoo drew.

    ValueError names a file of another size.
    """
    height, width, *colours = model.config.image
    picture = read_picture(Path(path))
    pictures = picture[None] if picture.shape[:2] == (height, width) else pictures_of_grid(picture, height, width)
    if pictures is None:
        raise ValueError(f"{path}: is {picture.shape[1]} x {picture.shape[0]} pixels; {type(model).__name__} reads {width} x {height}, "
                         "or a grid of them as zoo sample writes it")
    values = pictures.astype(np.float32) / 255 if pictures.dtype == np.uint8 else pictures
    if not colours:
        return as_grey(values) if values.ndim == 4 else values
    return values.reshape(-1, height, width, values.size // (len(values) * height * width)).repeat(colours[0] if values.ndim == 3 else 1, axis=3)


def _write_speech(model: Any, request: Request, options: dict[str, str]) -> None:
    """Words one after the other in one file that can be heard, or their spectrograms."""
    check_ending(request.out, "speech")
    n = 1 if request.n is None else request.n
    settings = {"seed": request.seed, "prompt": request.prompt, **as_keywords(model.spectrograms, options, *_steps_of(model))}
    if request.steps:
        for step in model.steps(n, **settings):
            print(step)
    pictures = model.spectrograms(n, **settings)
    out = Path(request.out or f"{Path(request.name).name}.wav")
    if request.out is None:
        print(draw_images(pictures[:8]))
    writers = {".png": lambda path: save_grid(path, pictures), ".wav": lambda path: write_wav(path, model.sound(pictures).reshape(-1)),
               ".npz": lambda path: _write_arrays(path, spectrograms=pictures, waveforms=model.sound(pictures))}
    request.deliver(out, writers[out.suffix])
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
        arrays = {"tokens": np.array([step.token for step in steps]), "log_probabilities": np.array([s.log_probability for s in steps])}
        request.deliver(request.out, lambda path: _write_arrays(path, **arrays))
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
        text = "".join(pieces).encode()
        request.deliver(request.out, lambda path: atomic_write(path, text))
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
    request.deliver(out, lambda path: music.write(path, piece))
    print(out)
