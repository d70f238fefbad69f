"""Options of the command line that are fields and settings of a model: as text for its help, and what was typed as values.

The help of a kind of model lists its presets, and its fields with their defaults, ranges and comments.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import io
import textwrap
import tokenize
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import storage
from ..model import Config, range_of
from . import KINDS
from .recipe import Recipe

WIDTH = 110  # columns of a line of help
JOINED = "\0"  # stands for a space at which no line is broken


def help_text(kind: str, recipe: Recipe) -> str:
    """Presets and fields of a kind of model, as `zoo train KIND --help` prints them."""
    lines = ["presets (the first is the default):"]
    for i, (name, changes) in enumerate(recipe.presets.items()):
        options = [_option(field, value).replace(" ", JOINED) for field, value in changes.items()]
        lines += _wrap(f"{name:<18} {' '.join(options) or ('the defaults below' if i == 0 else '')}", 21)
    for title, config in ((f"fields of the model ({recipe.model.__name__}.Config)", recipe.model.Config), ("fields of training", recipe.training)):
        lines += ["", f"{title}, with their defaults:"]
        comments = comments_of(config)
        for field in dataclasses.fields(config):
            about = "; ".join(filter(None, (_allowed(config, field.name), comments.get(field.name))))
            lines += _wrap(f"{_option(field.name, field.default):<30} {about}", 33)
    return "\n".join(lines)


def _wrap(text: str, indent: int) -> list[str]:
    lines = textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace(JOINED, " ") for line in lines]


def _option(name: str, value: Any) -> str:
    """A field as it is written at the command line."""
    if isinstance(value, tuple):
        text = ",".join(map(str, value)) or "''"
    elif isinstance(value, str):
        text = value if value and value.isprintable() and " " not in value else repr(value)
    else:
        text = str(value).lower() if value is None or isinstance(value, bool) else str(value)
    return f"--{name.replace('_', '-')} {text}"


def _allowed(config: type[Config], name: str) -> str:
    """The values that a field may take, where its type says so."""
    hint = typing.get_type_hints(config, include_extras=True)[name]
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    return str(range_of(hint) or "")


def comments_of(config: type[Config]) -> dict[str, str]:
    """{field: the comment at the end of its line}, read from the source, that of its bases too; empty where there is no source."""
    comments: dict[str, str] = {}
    for base in config.__bases__:
        comments |= comments_of(base) if issubclass(base, Config) else {}
    try:
        source = textwrap.dedent(inspect.getsource(config))
    except OSError:
        return comments
    line: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and len(line) >= 2 and line[0].type == tokenize.NAME and line[1].string == ":":
            comments[line[0].string] = token.string.lstrip("# ")
        line = [] if token.type in (tokenize.NEWLINE, tokenize.NL) else [*line, token] if token.string.strip() else line
    return comments


# --- what was typed


def read_options(rest: list[str]) -> dict[str, str]:
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


INTERNAL = ("n", "n_tokens", "seed", "digit", "prompt", "images", "corpus", "stream", "data", "keep", "z", "codes", "x_1", "known", "mask", "then",
            "weights", "self")  # arguments of methods that are no options


class CardSettings(NamedTuple):
    """What a card says of how its model is trained."""

    kind: str
    fields: dict[str, Any]  # of the model's configuration and of the run
    data: str | None
    seed: int
    private: dict[str, Any]  # {} where it isn't trained privately


def read_config(path: str) -> CardSettings:
    """The settings of a card.json, of one in a folder, or of a model that ships.  Raises WrongFile where it isn't such a card."""
    from ..loading.cards import folder_of

    file = Path(path) if Path(path).is_file() else folder_of(path) / storage.CARD
    card = storage.read_json(file)
    kind, seed, data = card.get("kind"), card.get("seed", 0), card.get("data")
    if kind not in KINDS:
        raise storage.WrongFile(f"{file}: kind is {storage.shorten(kind)}; it may be {', '.join(KINDS)}")
    parts = {name: card.get(name, {}) for name in ("configuration", "training", "private")}
    for name, fields in parts.items():
        if not isinstance(fields, dict):
            raise storage.WrongFile(f"{file}: {name} is {storage.shorten(fields)}; it is an object of fields")
    if type(seed) is not int or not isinstance(data, (str, type(None))):
        raise storage.WrongFile(f"{file}: seed is {storage.shorten(seed)} and data {storage.shorten(data)}; they are a whole number and a name")
    tokenizer = card.get("tokenizer")
    if isinstance(tokenizer, dict) and tokenizer.get("kind") == "characters":
        parts["configuration"] = {name: value for name, value in parts["configuration"].items() if name != "symbols"}  # the data has them
    return CardSettings(str(kind), {**parts["configuration"], **parts["training"]}, data, seed, parts["private"])


def split_options(options: dict[str, Any], *configs: type) -> list[dict[str, Any]]:
    """The options that are fields of each configuration; one that is a field of none is an error."""
    parts: list[dict[str, Any]] = [{} for _ in configs]
    for name, value in options.items():
        places = [i for i, c in enumerate(configs) if name in {f.name for f in dataclasses.fields(c)}]
        if not places:
            raise unknown_option(name, sorted({f.name for c in configs for f in dataclasses.fields(c)}))
        for i in places:
            parts[i][name] = value
    return parts


def read_class(model: Any, text: str | None) -> int | None:
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


def unknown_option(name: str, options: list[str]) -> ValueError:
    other = {"steps": "epochs", "epochs": "steps"}.get(name)
    if other in options:
        return ValueError(f"--{name} isn't an option here: this kind of model counts its training in {other} (--{other})")
    near = difflib.get_close_matches(name, options, 1)
    hint = f"did you mean --{near[0]}?" if near else f"the options are {', '.join(options) or 'none'}"
    return ValueError(f"--{name} isn't an option here; {hint}")


def as_keywords(function: Callable, options: dict[str, str], *further: Callable, but: Sequence[str] = INTERNAL) -> dict[str, Any]:
    """Options as keywords of this function, or of those that it passes its keywords on to; an unknown one is an error with the nearest name.

    but: arguments that no option gives, since the command gives them itself, or no text is their value.
    """
    names: list[str] = []
    for called in (function, *further):
        parameters = inspect.signature(called).parameters.values()
        names += [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    else:
        return as_numbers(options)  # the last of them takes any keyword
    for name in options:
        if name not in names or name in but:
            raise unknown_option(name, [n for n in dict.fromkeys(names) if n not in but])
    return as_numbers(options)


def as_numbers(options: dict[str, str]) -> dict[str, Any]:
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
