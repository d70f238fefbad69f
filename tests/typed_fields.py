"""zoo/model/fields.py is written from the configurations: `python tests/typed_fields.py` writes it, tests/test_typing.py holds it up to date."""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from pathlib import Path

from zoo.loading.cards import KINDS

TARGET = Path(__file__).parent.parent / "zoo" / "model" / "fields.py"
HEADER = '''"""The fields of every configuration as types of keywords: an editor completes them in `VAE.new(...)`, and mypy refuses one that there isn't.

Written by `python tests/typed_fields.py` from the configurations themselves, where each field has its default, range and comment.
"""

from collections.abc import Sequence
from typing import Literal, TypedDict
'''


def spelled(hint: typing.Any) -> str:
    """The type of a keyword: that of the field, or what `Config.make` converts to it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return f"{spelled(arguments[0])} | Sequence[{spelled(arguments[0])}]"
    if origin is typing.Literal:
        return "Literal[" + ", ".join(f'"{a}"' if isinstance(a, str) else repr(a) for a in arguments) + "]"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(spelled, arguments))
    return "None" if hint is type(None) else hint.__name__


def fields_of(config: type, others: set[type]) -> str:
    """The class for one configuration; where that extends another one, it has the further fields."""
    base = next((other for other in config.__mro__[1:] if other in others), None)
    known = {f.name for f in dataclasses.fields(base)} if base else set()
    hints = typing.get_type_hints(config)
    lines = [f"    {f.name}: {spelled(hints[f.name])}" for f in dataclasses.fields(config) if f.name not in known]
    name = lambda config: config.__name__.removesuffix("Config") + "Fields"
    return "\n".join([f"class {name(config)}({name(base) if base else 'TypedDict'}, total=False):", *(lines or ["    pass"])])


def text() -> str:
    models = [getattr(importlib.import_module(module), name) for module, name in KINDS.values()]
    return "\n\n\n".join([HEADER.rstrip(), *(fields_of(model.Config, {other.Config for other in models}) for model in models)]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
