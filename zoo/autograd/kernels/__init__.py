"""The same operations in one pass each, for Numba: a file has the name of the operations that it serves, and attaches its kernels to them."""
