"""Names that changed: the old ones go on working for one release, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any


def moved(module: str, name: str, to: str, names: Iterable[str] | Mapping[str, str]) -> Any:
    """For a module's `__getattr__`: names that it had until 0.1 give the same object from its new place, with a DeprecationWarning.

    names: those names, or {old: new} where the name changed as well.
    """
    if name not in names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new = names[name] if isinstance(names, Mapping) else name
    warnings.warn(f"{module}.{name} is {to}.{new} now; the old name goes in the next release", DeprecationWarning, stacklevel=3)
    return getattr(importlib.import_module(to), new)


class Renamed:
    """In a class body, `old = Renamed("new")`: the attribute under the name that it had until 0.1, with a DeprecationWarning."""

    def __init__(self, new: str):
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self.old = name

    def __get__(self, instance: Any, owner: type) -> Any:
        warnings.warn(f"{owner.__name__}.{self.old} is {self.new} now; the old name goes in the next release", DeprecationWarning, stacklevel=2)
        return getattr(owner if instance is None else instance, self.new)
