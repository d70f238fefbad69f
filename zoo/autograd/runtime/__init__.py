"""What runs kernels: compiling and keeping them, one pool of threads, tasks, and what a kernel may call. Nothing here knows an operation."""

from .compiling import (
    Native,
    address,
    clear_floats,
    copy_floats,
    erff,
    expf,
    gemm,
    get_threads,
    inner,
    keep_alive,
    kernel,
    kernels_enabled,
    logf,
    matmul,
    matmul_transposed_a,
    matmul_transposed_b,
    prange,
    random_bits,
    separate,
    set_threads,
    sigmoidf,
    tanhf,
    uniform,
    use_kernels,
)

__all__ = ["Native", "address", "clear_floats", "copy_floats", "erff", "expf", "gemm", "get_threads", "inner", "keep_alive", "kernel",
           "kernels_enabled", "logf", "matmul", "matmul_transposed_a", "matmul_transposed_b", "prange", "random_bits", "separate",
           "set_threads", "sigmoidf", "tanhf", "uniform", "use_kernels"]
