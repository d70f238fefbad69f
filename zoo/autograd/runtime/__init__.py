"""What runs kernels: compiling and keeping them, one pool of threads, tasks, and what a kernel may call. Nothing here knows an operation."""

from .compiling import address, expf, get_threads, inner, kernel, kernels_enabled, logf, prange, set_threads, sigmoidf, tanhf, use_kernels

__all__ = ["address", "expf", "get_threads", "inner", "kernel", "kernels_enabled", "logf", "prange", "set_threads", "sigmoidf", "tanhf",
           "use_kernels"]
