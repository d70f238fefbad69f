"""How the arguments of a call find their names, as they would in NumPy, and what is said when they don't."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .operation import Operation


def bind(operation: Operation, args: Sequence, settings: dict) -> tuple[Sequence, dict]:
    """Arguments by position or name, settings by name or after the arguments, as NumPy takes them: sum(x, 1)."""
    if operation.variadic:
        if args and isinstance(args[0], (list, tuple)):
            args, extra = tuple(args[0]), args[1:]
            settings = {**dict(zip(operation.settings, extra)), **settings}
    else:
        n = len(operation.arguments)
        if len(args) > n + len(operation.settings):
            raise TypeError(f"{operation.__name__} takes {_signature(operation)}; {len(args)} positional arguments were given")
        settings = {**dict(zip(operation.settings, args[n:])), **settings}
        args = list(args[:n])
        for name in operation.arguments[len(args):]:
            if name in settings:
                args.append(settings.pop(name))
            elif name in operation.optional:
                args.append(operation.optional[name])
            else:
                raise TypeError(f"{operation.__name__} takes {_signature(operation)}; {name} is missing")
    unknown = settings.keys() - operation.settings.keys()
    if unknown:
        raise TypeError(f"{operation.__name__} takes {_signature(operation)}; it has no {', '.join(sorted(unknown))}")
    full = {name: settings.get(name, default) for name, default in operation.settings.items()}
    missing = [name for name, value in full.items() if value is inspect.Parameter.empty]
    if missing:
        raise TypeError(f"{operation.__name__} takes {_signature(operation)}; {', '.join(missing)} is missing")
    return args, full


def _signature(operation: Operation) -> str:
    return str(inspect.signature(operation.definition))
