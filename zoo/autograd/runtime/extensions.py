"""Extension modules of other packages without the packages around them, which take as long to import as half the zoo."""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import importlib.util
import pathlib
import sys
import types


@functools.cache
def extension(name: str) -> types.ModuleType:
    """The extension module of this name, `"scipy.linalg.cython_blas"` say, alone if that can be; else as Python imports it."""
    package, _, last = name.rpartition(".")
    if package not in sys.modules:
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            file = _folder(package) / f"{last}{suffix}"
            spec = importlib.util.spec_from_file_location(name, file)
            if spec is None or spec.loader is None or not file.exists():
                continue
            with contextlib.suppress(ImportError):  # it needs other modules of its package
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                sys.modules.pop(name, None)  # who imports it after us is given the same module, and finds it in its package
                return module
            break
    return importlib.import_module(name)


def _folder(package: str) -> pathlib.Path:
    outermost, *inner = package.split(".")
    spec = importlib.util.find_spec(outermost)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"there is no package {outermost}", name=outermost)
    return pathlib.Path(spec.origin).parent.joinpath(*inner)
