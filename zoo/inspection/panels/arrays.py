"""Arrays as a page shows them: without their batch axis, in the shape of a picture, with the colour scale that suits the numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..page import Packed, pack


def picture(a: np.ndarray, dtype: Any = "float32") -> Packed:
    """An array packed with the scale that suits it."""
    return pack(a, dtype, scale=scale_of(a))


def scale_of(a: np.ndarray) -> str:
    """"colour" for three channels, "ink" for floats in [0, 1], "heat" for integers, "signed" for all other numbers."""
    if a.ndim == 3 and a.shape[-1] == 3:
        return "colour"
    if a.dtype.kind != "f":
        return "ink" if a.dtype.kind == "b" else "heat"
    low, high = np.fmin.reduce(a, axis=None, initial=np.inf), np.fmax.reduce(a, axis=None, initial=-np.inf)  # without NaN
    return "ink" if low >= 0 and high <= 1 + 1e-6 and a.size else "signed"


def unbatched(a: np.ndarray) -> np.ndarray:
    """A batch of one without its batch axis; anything else as it is."""
    return a[0] if a.ndim > 1 and a.shape[0] == 1 else a


def in_image_shape(a: np.ndarray, model: Any) -> np.ndarray:
    """An array with as many numbers as one of the model's pictures, in a picture's shape; others as they are."""
    image = getattr(model.config, "image", None)
    return a.reshape(image) if image is not None and a.size == math.prod(image) else a
