"""The command line: thin over the same calls as the examples.  `zoo` and `python -m zoo` are the same.

An error of the user's is one line on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import shlex
import sys
import time
from pathlib import Path
from typing import Any

FAMILIES = ("vae", "vqvae", "gan", "diffusion", "transformer", "recurrent", "classifier")


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="zoo", description="Generative models in NumPy: train them, sample them, watch every step.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="digits from every image model that ships, and text, in one page")
    demo.add_argument("--out", default="zoo-demo.html", help="the page to write (default: %(default)s)")

    train = commands.add_parser("train", help="train a model", description="Any field of the model's configuration or training is an option too: "
                                "--latent 20 --epochs 10. A wrong one lists those there are.")
    train.add_argument("model", choices=FAMILIES)
    train.add_argument("--data", help="what to learn from: a name (mnist, shakespeare, ...) or a path")
    train.add_argument("--preset", help="settings by name; without it, the family's first")
    train.add_argument("--out", help="folder for the log, checkpoints and the model (default: runs/MODEL)")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    train.add_argument("--from", dest="start", help="start from the weights of this model")
    train.add_argument("--minutes", type=float, help="stop after so many minutes")
    train.add_argument("--threads", type=int)
    train.add_argument("--quiet", action="store_true", help="no progress bar")

    sample = commands.add_parser("sample", help="generate digits or text")
    sample.add_argument("model", help="a model that ships, or a folder")
    sample.add_argument("-n", type=int, default=64, help="how many pictures, or how many tokens of text")
    sample.add_argument("--digit", type=int)
    sample.add_argument("--prompt")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--out", help="a file: .png or .npz for pictures, .txt for text")
    sample.add_argument("--steps", action="store_true", help="print every step's record")

    inspect = commands.add_parser("inspect", help="a page that plays one generation back, step by step",
                                  description="Any setting of the model's steps is an option too: --temperature 0.8 --top_k 20 --evaluations 30.")
    inspect.add_argument("model", help="a model that ships, or a folder")
    inspect.add_argument("-n", type=int, help="how many tokens of text")
    inspect.add_argument("--digit", type=int)
    inspect.add_argument("--prompt")
    inspect.add_argument("--seed", type=int, default=0)
    inspect.add_argument("--patch", help="change a value while the model runs: NAME:CHANGE or NAME[HEAD]:CHANGE, CHANGE one of zero, mean, half, double, negate")
    inspect.add_argument("--against", help='a second run beside the first, with other settings: "seed=1 temperature=0.5"')
    inspect.add_argument("--out", default="page.html", help="the page to write (default: %(default)s)")

    evaluate = commands.add_parser("evaluate", help="the figures that the model is judged by")
    evaluate.add_argument("model")
    evaluate.add_argument("--data", help="what to test on (default: what the model was trained on)")
    evaluate.add_argument("--seed", type=int, default=0)

    commands.add_parser("warm-up", help="compile every kernel now, instead of when it is first used")

    known, rest = parser.parse_known_args(arguments)
    try:
        options = _fields(rest)
        if options and known.command not in ("train", "sample", "inspect", "evaluate"):
            raise ValueError(f"{known.command} doesn't take --{next(iter(options))}")
        if getattr(known, "threads", None):
            from .autograd import set_threads

            set_threads(known.threads)
        {"demo": _demo, "train": _train, "sample": _sample, "inspect": _inspect, "evaluate": _evaluate, "warm-up": _warm_up}[known.command](known, options, arguments)
    except KeyboardInterrupt as e:
        print(f"zoo: {e or 'stopped'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as e:
        if not isinstance(e, (ValueError, OSError, TypeError, LookupError, RuntimeError, MemoryError, FloatingPointError)):
            raise
        message = e.args[0] if isinstance(e, KeyError) and e.args else e
        print(f"zoo: {' '.join(str(message).split())}", file=sys.stderr)
        return 2
    return 0


def _fields(rest: list[str]) -> dict[str, str]:
    """--name value pairs that no command names itself: fields of a configuration."""
    found: dict[str, str] = {}
    i = 0
    while i < len(rest):
        name, equals, value = rest[i].partition("=")
        if not name.startswith("--"):
            raise ValueError(f"{rest[i]!r} is neither an option (--name value) nor expected here")
        if not equals:
            if i + 1 == len(rest) or rest[i + 1].startswith("--"):
                raise ValueError(f"{name} needs a value")
            i += 1
            value = rest[i]
        found[name[2:].replace("-", "_")] = value
        i += 1
    return found


def _split(options: dict[str, Any], *configs: type) -> list[dict[str, Any]]:
    """Each option to the configuration that has a field of that name."""
    parts: list[dict[str, Any]] = [{} for _ in configs]
    for name, value in options.items():
        places = [i for i, c in enumerate(configs) if name in {f.name for f in dataclasses.fields(c)}]
        if not places:
            fields = sorted({f.name for c in configs for f in dataclasses.fields(c)})
            near = difflib.get_close_matches(name, fields, 1)
            raise ValueError(f"--{name} isn't an option here" + (f"; did you mean --{near[0]}?" if near else f"; the fields are {', '.join(fields)}"))
        for i in places:
            parts[i][name] = value
    return parts


def _train(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .model import KINDS, load

    module = importlib.import_module(KINDS[known.model][0])
    family = module.FAMILIES[known.model]
    preset = known.preset or next(iter(family.presets))
    if preset not in family.presets:
        raise ValueError(f"--preset is {preset!r}; {known.model} has {', '.join(family.presets)}")
    fields, training = _split({**family.presets[preset], **options}, family.model.Config, family.training)
    settings = family.training.make(**training)
    out = Path(known.out or f"runs/{known.model}")
    data = family.data(known.data)
    if known.start:
        model = load(known.start)
        changed = _split(options, family.model.Config, family.training)[0]
        if changed:
            raise ValueError(f"--from keeps the model's configuration; --{next(iter(changed))} would change it")
    else:
        model = family.new(data, fields, known.seed)
    trainer = family.trainer(model, data, settings, seed=known.seed, folder=out, resume=known.resume, minutes=known.minutes)
    print(f"{known.model} ({preset}), {model.num_parameters:,} parameters, {trainer.steps:,} steps; {out}/", file=sys.stderr)
    trainer.run(progress=not known.quiet, title=known.model)
    trainer.save_model(command="zoo " + shlex.join(arguments), data=known.data or family.default_data, training=settings.to_dict(),
                       figures=trainer.evaluations[-1] if trainer.evaluations else {k: round(v, 4) for k, v in trainer.rows[-1].items()})
    print(f"{out}/model.safetensors  {trainer.seconds / 60:.1f} minutes; next: zoo sample {out}", file=sys.stderr)


def _sample(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .model import load

    model = load(known.model)
    if hasattr(model, "generate"):
        _sample_text(model, known, options)
        return
    if known.prompt is not None:
        raise ValueError(f"--prompt is for models of text; {known.model} draws pictures")
    if known.n < 1:
        raise ValueError(f"-n is {known.n}; it is at least 1")
    settings: dict[str, Any] = {"seed": known.seed, "digit": known.digit, **_numbers(options)}
    if known.steps:
        for step in model.steps(known.n, **settings):
            print(step)
            images = step
        images = model.sample(known.n, **settings)
    else:
        images = model.sample(known.n, **settings)
    out = known.out
    if out is None:
        from .inspection.terminal import draw_images

        print(draw_images(images[:16], columns=8))
        out = f"{Path(known.model).name}.png"
    _write_images(Path(out), images)
    print(out)


def _write_images(path: Path, images: Any) -> None:
    import io

    import numpy as np

    from .inspection.pictures import save_grid
    from .storage import atomic_write

    if path.suffix == ".png":
        save_grid(path, images)
    elif path.suffix == ".npz":
        content = io.BytesIO()
        np.savez_compressed(content, images=images)
        atomic_write(path, content.getvalue())
    else:
        raise ValueError(f"--out is {path}; pictures go to a .png or .npz file")


def _sample_text(model: Any, known: argparse.Namespace, options: dict[str, str]) -> None:
    if known.digit is not None:
        raise ValueError(f"--digit is for models of pictures; {known.model} writes text")
    if known.steps:
        for step in model.steps(known.prompt or "", known.n, seed=known.seed, **_numbers(options)):
            print(step)
        return
    stream = known.out is None
    text = model.generate(known.prompt or "", known.n if known.n != 64 else 500, seed=known.seed, stream=stream, **_numbers(options))
    if known.out is not None:
        from .storage import atomic_write

        if Path(known.out).suffix != ".txt":
            raise ValueError(f"--out is {known.out}; text goes to a .txt file")
        atomic_write(known.out, text.encode())
        print(known.out)
    else:
        print()


def _numbers(options: dict[str, str]) -> dict[str, Any]:
    """Options of a sampler: numbers where they are numbers."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        try:
            found[name] = int(value)
        except ValueError:
            try:
                found[name] = float(value)
            except ValueError:
                found[name] = value
    return found


def _inspect(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.inspect import inspect, read_settings

    size = inspect(known.model, known.out, n=known.n, digit=known.digit, prompt=known.prompt, seed=known.seed, patch=known.patch,
                   against=read_settings(known.against) if known.against else None, **_numbers(options))
    print(f"{known.out}: {size / 1e6:.1f} MB, open it in a browser")


def _evaluate(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .model import KINDS, load

    model = load(known.model)
    module = importlib.import_module(KINDS[model.kind][0])
    family = module.FAMILIES[model.kind]
    began = time.perf_counter()
    figures = model.evaluate(family.data(known.data or model.card.get("data")), seed=known.seed, **_numbers(options))
    for name, value in figures.items():
        print(f"{name:32} {value:.4f}" if isinstance(value, float) else f"{name:32} {value}")
    print(f"{'seconds':32} {time.perf_counter() - began:.1f}")


def _demo(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.demo import write_demo

    write_demo(known.out)
    print(f"{known.out}: open it in a browser")


def _warm_up(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .warm_up import warm_up

    warm_up()


if __name__ == "__main__":
    sys.exit(main())
