"""The same operations in one pass each, for Numba: a file has the name of the operations that it serves, and attaches its kernels to them."""

from . import (  # noqa: F401
    activation,
    arithmetic,
    attention,
    batch_norm,
    blocks,
    convolution,
    group_norm,
    linear,
    loss,
    normalisation,
    precision,
    quantised,
    recurrence,
    self_attention,
)
