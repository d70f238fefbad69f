"""What `set_precision` means: how factors are rounded, and products that are float32 all the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operation import attachable
from ..runtime.precision import setting, use_precision

UPPER_HALF = 0xFFFF0000  # the bits that stay
HALF = 0x7FFF  # just less than half of the last of them
QUIET = 0x00400000  # what marks a NaN that raises nothing


@attachable
def round_to_bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 rounded to the nearest bfloat16, to the even one of two that are as near (IEEE 754); as float32, whose lower half is 0

    Numbers from 3.3962e38 on become infinite; NaN stays NaN, and a subnormal number becomes the nearest of bfloat16's.

    >>> round_to_bfloat16(np.array([1.001, 1.005, 3.14159], np.float32))
    array([1.       , 1.0078125, 3.140625 ], dtype=float32)
    """
    bits = np.asarray(x, np.float32).view(np.uint32)
    nearest = bits + (HALF + (bits >> 16 & 1))  # a carry into the exponent is right, too
    return (np.where(np.isnan(x), bits | QUIET, nearest) & UPPER_HALF).view(np.float32)


def as_factors(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both factors of a product of matrices, as the precision that is set here has them."""
    if setting.name == "bf16" and a.dtype == b.dtype == np.float32:
        return round_to_bfloat16(a), round_to_bfloat16(b)
    return a, b


def in_float32(product: Any, a: Any, b: Any) -> Any:
    """product(a, b) in float32, whatever is set; its derivative too."""
    with use_precision("float32"):
        return product(a, b)
