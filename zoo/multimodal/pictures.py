"""A picture as a row of vectors, one for each of its squares: what captioners, contrastive encoders and the judge of scenes read."""

from __future__ import annotations

import math

from numpy.random import Generator

from ..nn import BatchNorm, Conv2d, Module

SQUARE = 4  # pixels of a square's side: two convolutions halve the size


class PictureEncoder(Module):
    """x (n, height, width, colours) in [0, 1] -> (n, height / 4, width / 4, 2 channels): convolutions, each with batch norm."""

    convolutions: list[Conv2d]
    norms: list[BatchNorm]

    def __init__(self, colours: int, channels: int, *, rng: Generator):
        a, b = channels, 2 * channels
        self.convolutions = [Conv2d(i, o, 3, stride=stride, padding=1, rng=rng, bias=False, scale=math.sqrt(2))
                             for i, o, stride in ((colours, a, 1), (a, a, 2), (a, b, 1), (b, b, 2), (b, b, 1))]
        self.norms = [BatchNorm(o, activation="relu") for o in (a, a, b, b, b)]

    def __call__(self, x):
        for convolution, norm in zip(self.convolutions, self.norms):
            x = norm(convolution(x))
        return x
