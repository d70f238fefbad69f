"""SciPy's BLAS by the addresses of its functions, without the rest of `scipy.linalg`."""

import ctypes
import functools

from .extensions import extension


@functools.cache
def function_address(name: str) -> int:
    """Where a function of BLAS lies, `"sgemm"` say; loads the library."""
    import scipy  # noqa: F401  (it says where the library lies that the module needs)

    capsule = extension("scipy.linalg.cython_blas").__pyx_capi__[name]
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return pointer_of(capsule, name_of(capsule))
