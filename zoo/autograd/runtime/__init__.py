"""What runs kernels: compiling and keeping them, one pool of threads, tasks, and what a kernel may call. Nothing here knows an operation.

Four traps shaped this folder, each worth a factor.  Two pools of threads fight, so there is one (`threads`).  A tile that has just been
computed is in the cache, so BLAS is called inside the loop that goes on with it (`tasks`, `native`).  Fresh memory costs a page fault at
every first touch (`memory`).  And compile time is the user's time (`compiling`, `cache`).
"""

from . import memory as _memory
from .compiling import Native, inner, separate
from .native import (
    address,
    clear_floats,
    copy_floats,
    erff,
    expf,
    floats,
    gemm,
    integers,
    keep_alive,
    logf,
    matmul,
    matmul_transposed_a,
    matmul_transposed_b,
    minus_in_order,
    random_bits,
    reals,
    sigmoidf,
    tanhf,
    uniform,
)
from .precision import get_precision, set_precision, use_precision
from .switch import kernels_enabled, use_kernels
from .threads import get_threads, set_threads

__all__ = ["Native", "address", "clear_floats", "copy_floats", "erff", "expf", "floats", "gemm", "get_precision", "get_threads", "inner", "integers",
           "keep_alive", "kernels_enabled", "logf", "matmul", "matmul_transposed_a", "matmul_transposed_b", "minus_in_order",
           "random_bits", "reals", "separate", "set_precision", "set_threads", "sigmoidf", "tanhf", "uniform", "use_kernels",
           "use_precision"]

_memory.keep_freed_memory()
