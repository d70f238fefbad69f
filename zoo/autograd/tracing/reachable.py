"""What a function can read besides its arguments, as far as it can be seen: to notice when it has changed.

From the function on, this follows what it has enclosed, its defaults, the global names in its code, the functions and objects that it comes to
and the attributes of those.  Each place that can be written to is remembered with the objects that it held, so are the methods of the objects'
classes, and the global values that these name; later, one pass compares identities.  Of arrays the numbers are compared, but for large ones that
operations are given as they are, and so read anew.
"""

from __future__ import annotations

import functools
import itertools
import operator
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..tensor import Tensor

MOST_OBJECTS = 20000  # a function that reaches more is no step of a model
MOST_ENTRIES = 256  # of a list or dictionary whose entries are looked at; of a longer one (a vocabulary) only the number
MOST_NUMBERS = 1 << 18  # in arrays whose numbers are compared
FEW_NUMBERS = 1 << 12  # in an array that is compared even where operations read it anew
SIMPLE = (str, bytes, int, float, complex, type(None), np.generic, np.dtype)
FIXED = ("numpy", "numba", "builtins", "typing", "math", "zoo.autograd")  # modules in which nothing changes


class Reachable:
    """`unchanged()` is True while every place holds what it held."""

    def __init__(self, *functions: Any):
        self.generators: list[np.random.Generator] = []
        self.arrays: list[np.ndarray] = []
        self._numbers: list[tuple[np.ndarray, bytes]] = []
        self.is_complete = True
        self._attributes: dict[str, list[Any]] = {}  # name -> the objects whose attribute of this name may be set
        self._dictionaries: list[Mapping] = []
        self._lists: list[list] = []
        self._long: list[Any] = []  # lists and dictionaries of which only the length is looked at
        self._globals: dict[int, tuple[dict, set[str]]] = {}
        self._seen: dict[int, Any] = {}
        waiting = [*functions]
        while waiting and self.is_complete:
            value = waiting.pop()
            if not isinstance(value, SIMPLE) and id(value) not in self._seen:
                self._seen[id(value)] = value
                self.is_complete = len(self._seen) <= MOST_OBJECTS
                waiting += self._inside(value)
        self._places = [*self._readers()]
        self._contents = [[*read()] for read in self._places]

    def _readers(self) -> Iterator[Callable[[], Iterable]]:
        """Functions that each give the contents of many places, without Python in between."""
        for name, objects in self._attributes.items():
            yield functools.partial(map, operator.attrgetter(name), objects)
        yield functools.partial(_entries, self._dictionaries)
        yield functools.partial(itertools.chain.from_iterable, self._lists)
        yield functools.partial(map, len, [*self._dictionaries, *self._lists, *self._long])
        for space, names in self._globals.values():
            yield functools.partial(operator.itemgetter(*sorted(names), min(names)), space)  # one more: of a single name it gives no tuple

    def compare_numbers(self, read_anew: set[int]) -> None:
        """From now on look at what is in arrays, too: NumPy may have computed from it.  read_anew: memory that operations are given, by identity."""
        arrays = [a for a in self.arrays if a.size <= FEW_NUMBERS or id(memory_of(a)) not in read_anew]
        if sum(a.size for a in arrays) > MOST_NUMBERS:
            self.is_complete = False
        else:
            self._numbers = [(a, a.tobytes()) for a in arrays]

    def unchanged(self) -> bool:
        try:
            if any(a.tobytes() != numbers for a, numbers in self._numbers):
                return False
            return all(all(map(operator.is_, read(), contents)) for read, contents in zip(self._places, self._contents))
        except (KeyError, ValueError, AttributeError, RuntimeError):  # a name or the contents of a cell are gone, another thread is at it
            return False

    def _inside(self, value: Any) -> Iterator[Any]:
        """What is to be followed from here."""
        if isinstance(value, Tensor):
            self._watch(value, "_data", "_leaf")
        elif isinstance(value, np.random.Generator):
            self.generators.append(value)
        elif isinstance(value, np.ndarray):
            self.arrays.append(value)
        elif isinstance(value, types.FunctionType):
            if not _is_fixed(value):
                self._watch(value, "__code__", "__defaults__", "__kwdefaults__")
                yield from self._function(value)
                names, space = _names(value.__code__), value.__globals__
                yield from (space[name] for name in names & space.keys() if not isinstance(space[name], (type, types.ModuleType)))
        elif isinstance(value, types.MethodType):
            yield from (value.__self__, value.__func__)
        elif isinstance(value, functools.partial):
            yield from (value.func, *value.args, *value.keywords.values())
        elif isinstance(value, (dict, list)) and len(value) > MOST_ENTRIES:
            self._long.append(value)
        elif isinstance(value, dict):
            self._dictionaries.append(value)
            yield from value.values()
        elif isinstance(value, list):
            self._lists.append(value)
            yield from value
        elif isinstance(value, (tuple, set, frozenset)):
            yield from value
        elif not isinstance(value, (types.ModuleType, type)) and not _is_fixed(type(value)):
            for of_class in type(value).__mro__:
                self._class(of_class)
                slots = vars(of_class).get("__slots__", ())
                for name in (slots,) if isinstance(slots, str) else slots:
                    if hasattr(value, name):
                        self._watch(value, name)
                        yield getattr(value, name)
            if isinstance(getattr(value, "__dict__", None), dict):
                self._dictionaries.append(vars(value))
                yield from vars(value).values()

    def _watch(self, value: Any, *attributes: str) -> None:
        for name in attributes:
            self._attributes.setdefault(name, []).append(value)

    def _function(self, f: types.FunctionType) -> Iterator[Any]:
        """Watch the global values that a function names, and what it has enclosed; this, and its defaults."""
        self._global_names(f.__globals__, _names(f.__code__))
        cells = [cell for cell in f.__closure__ or () if _is_filled(cell)]
        for cell in cells:
            self._watch(cell, "cell_contents")
        yield from (*(cell.cell_contents for cell in cells), *(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values())

    def _class(self, c: type) -> None:
        """The methods of an object's class, and what decorators have wrapped; the global values that they name aren't followed."""
        if id(c) in self._seen or _is_fixed(c):
            return
        self._seen[id(c)] = c
        self._dictionaries.append(vars(c))
        functions = [f for f in vars(c).values() if isinstance(f, types.FunctionType)]
        while functions:
            functions += [v for v in self._function(functions.pop()) if isinstance(v, types.FunctionType)]

    def _global_names(self, space: dict, names: set[str]) -> None:
        """Global names, and where one is a module, those of its names that the code reads."""
        here = names & space.keys()
        if not here or _is_fixed_name(space.get("__name__", "")):
            return
        modules = [space[name] for name in here if isinstance(space[name], types.ModuleType)]
        here = {name for name in here if not isinstance(space[name], (type, types.ModuleType))}  # nobody gives those names to something else
        if here:
            self._globals.setdefault(id(space), (space, set()))[1].update(here)
        for module in modules:
            inside = names & vars(module).keys() if module.__name__.startswith("zoo") and not _is_fixed_name(module.__name__) else set()
            if inside:
                self._globals.setdefault(id(vars(module)), (vars(module), set()))[1].update(inside)


def _entries(dictionaries: list[Mapping]) -> Iterator[Any]:
    return itertools.chain.from_iterable(map(operator.methodcaller("values"), dictionaries))


def memory_of(a: np.ndarray) -> np.ndarray:
    """The array that a view is a part of, and so the object that is the same for all views of its memory."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _is_fixed(value: Any) -> bool:
    return _is_fixed_name(getattr(value, "__module__", None) or "builtins")


def _is_fixed_name(module: str) -> bool:
    return any(module == name or module.startswith(name + ".") for name in FIXED)


def _names(code: types.CodeType) -> set[str]:
    """The global names in a function's code, and in that of the functions inside it."""
    return set(code.co_names).union(*[_names(c) for c in code.co_consts if isinstance(c, types.CodeType)])
