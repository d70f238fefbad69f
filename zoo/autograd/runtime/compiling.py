"""Compiles functions: once for each machine, when they are first called.

    @inner
    def silu(x):                                    # a part of whatever calls it
        return x * sigmoidf(x)

    @separate("void(intp, intp, intp)")             # machine code of its own, for this signature; `tasks` is made of these
    def silu_row(source, target, n):
        x, y = floats(source, n), floats(target, n)
        for i in range(n):
            y[i] = silu(x[i])

Neither importing this file nor calling what has been compiled before imports Numba.  What the source of a function names is built with it:
other functions of this file's kinds, and by `Native` what Numba alone can give.
"""

import functools
import hashlib
import importlib
import importlib.util
import pathlib
import types
import typing

from . import ahead, cache, linking, threads

# Not nnan and ninf: masks are -inf, and a NaN must show.
FAST_MATH = {"contract", "reassoc", "nsz", "arcp", "afn"}
OPTIONS = str(sorted(FAST_MATH))


class Compiled:
    """A Python function that Numba compiles when it is first needed."""

    __name__: str

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.function = function
        self.dispatcher = None

    def build(self):
        """The Numba dispatcher; what the function names in turn (other inner functions, `expf`, ...) is built before it."""
        with threads.lock:
            if self.dispatcher is None:
                self.dispatcher = self._build()
        return self.dispatcher

    def _build(self):
        import numba

        from .native.decorators import Inner

        options = {"fastmath": FAST_MATH, "error_model": "numpy", "nogil": True, "pipeline_class": Inner, **self._options()}
        return numba.njit(**options)(self._with_built_names())

    def _options(self) -> dict[str, typing.Any]:
        return {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

    def _with_built_names(self):
        f = self.function
        names = {**f.__globals__, **{name: _built(value) for name, value in self._names().items()}}
        closure = tuple(types.CellType(names[name]) for name in f.__code__.co_freevars)
        copy = types.FunctionType(f.__code__, names, f.__name__, f.__defaults__, closure)
        copy.__qualname__, copy.__module__ = f.__qualname__, f.__module__
        return copy

    def _names(self):
        """What the names in the function's source stand for; those of Python itself, and attributes, aren't among them."""
        f = self.function
        cells = dict(zip(f.__code__.co_freevars, (cell.cell_contents for cell in f.__closure__ or ()), strict=True))
        names = {**f.__globals__, **cells}
        return {name: names[name] for name in sorted(_names(f.__code__) | cells.keys()) if name in names}

    def digest(self):
        """A hash of all that the machine code depends on, so that a kernel on disk is never older than its source."""
        h = hashlib.sha256(_code_text(self.function.__code__).encode())
        for name, value in self._names().items():
            if isinstance(value, Compiled | Native):
                h.update(value.digest().encode())
            elif not isinstance(value, types.ModuleType):
                h.update(f"{name}={value!r}{getattr(value, '_fields', '')}".encode())  # the fields of a struct
        return h.hexdigest()

    def _calls(self):
        """The separate functions that its machine code calls."""
        for value in self._names().values():
            if isinstance(value, Separate):
                yield value
            elif isinstance(value, Compiled):
                yield from value._calls()

    def __call__(self, *arguments) -> typing.Any:
        raise TypeError(f"{self.__name__} is for the inside of kernels only")


class Separate(Compiled):
    """A function that kernels call through its address, and Python too.

    Numba optimises a function again in everything that links it. A large one is compiled alone, and kernels find it by name.
    """

    def __init__(self, function, signature):
        super().__init__(function)
        self.signature = signature
        self.address = 0  # of its machine code, once it is here

    def _build(self):
        from numba import types as numba_types
        from numba.core import sigutils

        signature = sigutils.normalize_signature(self.signature)
        return numba_types.ExternalFunction(self._symbol(), signature[1](*signature[0]))

    def load(self) -> int:
        """The address of its machine code, which is read from the disk, or compiled and kept there."""
        with threads.lock:
            if not self.address:
                threads.start()
                linking.prepare()
                for needed in self._calls():
                    needed.load()
                place = self._place()
                compiled = cache.read(*place)
                if compiled is None and ahead.is_made_elsewhere(f"{self.function.__module__}:{self.__name__}"):
                    compiled = cache.read(*place)
                if compiled is None:
                    compiled = self._compile()
                    cache.write(*place, compiled)
                self.address = linking.link(*compiled)
                linking.define(self._symbol(), self.address)
        return self.address

    def keep(self) -> None:
        """Compile it for other processes, unless it is on the disk: here neither it can be run nor what calls it."""
        with threads.lock:
            place = self._place()
            if cache.read(*place) is None:
                linking.prepare()
                for needed in self._calls():
                    linking.define(needed._symbol(), linking.NOWHERE)
                cache.write(*place, self._compile())

    def _place(self) -> tuple[str, str, str]:
        """What it is found by on the disk."""
        return f"{self.function.__module__.rpartition('.')[2]}.{self.__name__}", self.digest(), OPTIONS

    def _compile(self) -> cache.Object:
        from numba.core import sigutils
        from numba.core.ccallback import CFunc

        options = {"fastmath": FAST_MATH, "error_model": "numpy", "nopython": True}
        compiled: typing.Any = CFunc(self._with_built_names(), sigutils.normalize_signature(self.signature), {}, options)
        compiled.compile()
        return cache.Object(compiled.native_name, compiled._library._get_compiled_object())

    def _symbol(self) -> str:
        return f"zoo_{self.__name__}_{self.digest()}"


class Native:
    """A name of a module that imports Numba, under which a kernel's source can use it before that."""

    def __init__(self, name, module):
        self.__name__, self.module = name, module

    def __call__(self, *arguments) -> typing.Any:
        raise TypeError(f"{self.__name__} is for the inside of kernels only")

    def build(self):
        return getattr(importlib.import_module(self.module), self.__name__)

    def digest(self):
        return f"{self.module}.{self.__name__} {_source_digest(self.module)}"


@functools.cache
def _source_digest(module):
    """A hash of all that a module may be made from: what lies in its folder, and in `native`."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin, module
    folders = {pathlib.Path(spec.origin).parent, pathlib.Path(__file__).parent / "native"}
    files = sorted(file for folder in folders for file in folder.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def inner(function):
    """Decorator: a small function that kernels call. Floating point is contracted and reassociated; NaN and infinities hold."""
    return Compiled(function)


def separate(signature):
    """Decorator: a large function of scalars that kernels call, compiled once for this signature: `"void(intp, float32)"`."""
    return lambda function: Separate(function, signature)


def _built(value):
    return value.build() if isinstance(value, Compiled | Native) else value


def _names(code):
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def _code_text(code):
    constants = [_code_text(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_name, code.co_code.hex(), code.co_names, code.co_varnames, constants))
