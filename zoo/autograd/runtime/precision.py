"""How exactly products of matrices are computed: float32, or bf16, whose factors are rounded to 16 bits first.

A bfloat16 is the upper half of a float32: the same range, 8 bits of significand instead of 24 (Kalamkar et al. 2019).  A product of two fits
into a float32 exactly, and sums are taken in float32.  Processors with AVX512_BF16 add two such products where they add one of float32.

What is rounded: the factors of `matmul`, `@` and `linear`, forward and in both products of backward, where both are float32.  Everything else
stays float32: weights and what an optimiser keeps of them, sums, activations, norms, losses (which need no scaling, since the range is the
same), convolutions, attention's products with queries and keys, and products with the state inside the loop of a recurrent layer.  There
rounded scores would be exponents, and rounded states would be rounded again at every step. A transformer that writes with a cache is float32, too.

Backward takes the precision of the call whose derivative it computes, wherever it runs.
"""

import contextlib
import threading

PRECISIONS = ("float32", "bf16")


class _Setting(threading.local):
    """One for each thread; a thread that has chosen nothing has that of the class."""

    name = "float32"


setting = _Setting()


def _checked(where, name):
    if name not in PRECISIONS:
        raise ValueError(f"{where}: name is {name!r}; it may be {' or '.join(map(repr, PRECISIONS))}")
    return name


def set_precision(name):
    """Compute products of matrices in "float32" or in "bf16", in all threads that aren't inside a `use_precision`."""
    _Setting.name = _checked("set_precision", name)


def get_precision():
    """The precision of products of matrices here: "float32" or "bf16"."""
    return setting.name


@contextlib.contextmanager
def use_precision(name):
    """Within this context, and in this thread, compute products of matrices in "float32" or in "bf16"."""
    before = dict(vars(setting))
    setting.name = _checked("use_precision", name)
    try:
        yield
    finally:
        vars(setting).clear()
        vars(setting).update(before)
