"""Products of float32 matrices: BLAS, tiles of our own, and which of the two multiplies."""
