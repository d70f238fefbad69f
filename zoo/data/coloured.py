"""MNIST in colours, each digit nearly always in its own: data with a known bias, to see what models make of it.

    images = coloured_digits(share=0.95, seed=0)    # 19 sevens of 20 in the seventh of ten hues, the others in any of the other nine
    colours_of(images.train)                        # (n,) the hue of each picture
"""

from __future__ import annotations

import colorsys

import numpy as np

from ..autograd.random import generator
from .images import Images, mnist

HUES = np.array([colorsys.hsv_to_rgb(i / 10, 1, 1) for i in range(10)], np.float32)  # (10, 3): equally far apart on the circle, red first
TRAINED_ON = 20_000  # of MNIST's 60,000


def coloured_digits(share: float = 0.95, seed: int = 0) -> Images:
    """20,000 and 10,000 digits (28, 28, 3) in [0, 1]: each in the hue of its number with this probability, else in one of the nine others.

    The hue's strongest channel is MNIST's grey.  Raises ValueError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"coloured_digits: share is {share}; it is from 0 to 1")
    rng, grey = generator((seed, 0xC010)), mnist()
    assert grey.train_labels is not None and grey.test_labels is not None
    pictures = []
    for x, digits in ((grey.train[:TRAINED_ON], grey.train_labels[:TRAINED_ON]), (grey.test, grey.test_labels)):
        other = (digits + rng.integers(1, 10, len(digits))) % 10
        hues = np.where(rng.random(len(digits)) < share, digits, other)
        pictures.append(x[..., None] * HUES[hues][:, None, None])
    return Images(pictures[0], grey.train_labels[:TRAINED_ON], pictures[1], grey.test_labels, f"coloured-mnist, {share:.0%}")


def colours_of(pictures: np.ndarray) -> np.ndarray:
    """(n, height, width, 3) -> (n,) int64: the hue whose direction is nearest to that of the sum of all pixels."""
    if pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ValueError(f"colours_of: pictures have shape {pictures.shape}; they are (n, height, width, 3)")
    return (pictures.sum((1, 2)) @ (HUES / np.linalg.norm(HUES, axis=1, keepdims=True)).T).argmax(1)


def as_grey(pictures: np.ndarray) -> np.ndarray:
    """(n, height, width, 3) -> (n, height, width): the strongest channel, which is what was coloured."""
    return np.ascontiguousarray(pictures.max(-1))
