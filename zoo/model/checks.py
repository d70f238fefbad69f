"""Checks of what models are handed: images, labels, counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def check_images(x: Any, image: tuple[int, ...]) -> np.ndarray:
    """x as float32 (n, *image); rows of flat pixels are reshaped.  Raises ValueError for a wrong dtype, shape or range of values."""
    x = np.asarray(x)
    expected = f"this model takes (n, {', '.join(map(str, image))})"
    if x.dtype.kind not in "fiub":
        raise ValueError(f"images: dtype is {x.dtype}; they are numbers in [0, 1]")
    if x.ndim == 2 and x.shape[1] == math.prod(image):
        x = x.reshape(len(x), *image)
    if x.shape[1:] != tuple(image):
        raise ValueError(f"images: shape is {x.shape}; {expected}")
    if len(x) == 0:
        raise ValueError(f"images: shape is {x.shape}, an empty batch; {expected}, n at least 1")
    x = x.astype(np.float32, copy=False)
    low, high = float(x.min()), float(x.max())
    if math.isnan(low):
        raise ValueError("images: there is a NaN among them; they must lie in [0, 1]")
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images: values go from {low:.4g} to {high:.4g}; they must lie in [0, 1]")
    return x


def check_labels(labels: Any, classes: int, n: int) -> np.ndarray:
    """labels as (n,) integers from 0 to classes - 1; a single integer is repeated.  Raises ValueError."""
    if labels is None:
        raise ValueError(f"labels: this model is conditional; it needs labels from 0 to {classes - 1}")
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels: dtype is {labels.dtype}; they are integers from 0 to {classes - 1}")
    if labels.ndim == 0:
        labels = np.repeat(labels, n)
    if labels.shape != (n,):
        raise ValueError(f"labels: shape is {labels.shape}; for {n} images it is ({n},)")
    if n and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"labels: values go from {labels.min()} to {labels.max()}; they may go from 0 to {classes - 1}")
    return labels


def labels_for(digit: Any, classes: int, n: int) -> np.ndarray | None:
    """Labels (n,) to generate: `digit`, or by default each class in turn; None for a model without classes, which takes no digit."""
    if not classes:
        if digit is not None:
            raise ValueError("digit: this model isn't conditional (classes is 0), so it takes none")
        return None
    return check_labels(np.arange(n) % classes if digit is None else digit, classes, n)


def check_count(n: Any, name: str = "n") -> int:
    """n as an int.  Raises ValueError unless it is a whole number of at least 1."""
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
        raise ValueError(f"{name} is {n!r}; it is a whole number of at least 1")
    return int(n)
