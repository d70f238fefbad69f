"""SciPy's BLAS by the addresses of its functions, without the rest of `scipy.linalg`, which takes as long to import as half the zoo."""

import ctypes
import functools
import importlib.machinery
import importlib.util
import pathlib
import sys
import types

NAME = "scipy.linalg.cython_blas"


@functools.cache
def function_address(name: str) -> int:
    """Where a function of BLAS lies, `"sgemm"` say; loads the library."""
    capsule = _module().__pyx_capi__[name]
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return pointer_of(capsule, name_of(capsule))


@functools.cache
def _module() -> types.ModuleType:
    import scipy

    if "scipy.linalg" not in sys.modules:
        folder = pathlib.Path(scipy.__file__).parent / "linalg"
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            spec = importlib.util.spec_from_file_location(NAME, folder / f"cython_blas{suffix}")
            if spec is None or spec.loader is None or not (folder / f"cython_blas{suffix}").exists():
                continue
            try:
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
            except ImportError:  # a SciPy whose modules need each other
                break
            sys.modules.pop(NAME, None)  # who imports it after us is given the same module, and finds it in `scipy.linalg`
            return module
    return importlib.import_module(NAME)
