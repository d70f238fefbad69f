"""What a kernel may call, written for LLVM: BLAS, float32 mathematics, vectors, barriers. Importing these imports Numba."""
