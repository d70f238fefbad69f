"""The two decorators of the functions in this folder."""

import typing

import numba.extending

# A function written in Python, whose floating point stays in the order in which it is written: without `reassoc`, since range reductions,
# and the shifts by a large constant, rely on the order of the operations.
# Nothing but kernels calls it, so that it needs no machine code to be called from Python.
_in_order: dict[str, typing.Any] = {"fastmath": {"contract", "arcp", "nsz"}, "error_model": "numpy", "nogil": True, "no_cpython_wrapper": True,
                                    "no_cfunc_wrapper": True}
in_order = numba.njit(**_in_order)

# A function that writes LLVM's instructions.  Numba's types count the typing context among its arguments.
intrinsic: typing.Any = numba.extending.intrinsic
