"""Machine code becomes a part of this process: an object file that Numba has compiled is linked by LLVM, in milliseconds and without Numba.

Importing Numba takes half a second, and only compiling needs it.  What compiled code calls it finds by name: BLAS, the C functions by which
Numba gives memory and reports errors, and other kernels, each of which is defined before the one that calls it is linked.
"""

from __future__ import annotations

import builtins
import functools
import os
from typing import Any

from .extensions import extension
from .scipy_blas import function_address

NOWHERE = 1  # the address of what is called by code that isn't run


def processor() -> tuple[str, str, str]:
    """What code is compiled for: the system, the processor's name and its features; Numba lets a user choose the last two."""
    import llvmlite.binding as llvm

    features = os.environ.get("NUMBA_CPU_FEATURES")
    return (llvm.get_process_triple(), os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name(),
            llvm.get_host_cpu_features().flatten() if features is None else features)


def define(name: str, address: int) -> None:
    """From now on code that is linked finds this name."""
    import llvmlite.binding as llvm

    llvm.add_symbol(name, address)


def link(function: str, code: bytes) -> int:
    """The address of a function of an object file."""
    llvm = prepare()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), llvm.Target.from_default_triple().create_target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(function)


_engines: list[Any] = []  # which own what was linked


@functools.cache
def prepare() -> Any:
    """LLVM, which from then on knows the names that any kernel may need, also one that is being compiled."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    memory = extension("numba.core.runtime._nrt_python")
    memory.memsys_use_cpython_allocator()  # as Numba has it
    for name, place in memory.c_helpers.items():
        define(name if name.startswith("_") else f"NRT_{name}", place)
    for name, place in extension("numba._helperlib").c_helpers.items():
        define(f"numba_{name}", place)
    for name, error in vars(builtins).items():
        if isinstance(error, type) and issubclass(error, BaseException):
            define(f"PyExc_{name}", id(error))  # Numba's code takes the name for the class itself, Python's own for a place where it stands
    define("zoo_sgemm", function_address("sgemm"))
    return llvm
