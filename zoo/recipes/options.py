"""What can be set when a kind of model is trained, as text: presets, and fields with their defaults, ranges and comments."""

from __future__ import annotations

import dataclasses
import inspect
import io
import textwrap
import tokenize
import typing
from typing import Any

from ..model import Config, range_of
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
    base = config.__base__
    comments = comments_of(base) if base is not None and issubclass(base, Config) else {}
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
