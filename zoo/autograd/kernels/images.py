"""Pictures as kernels see them: where a pixel lies, and a window of pixels that may reach over the edge."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..runtime.compiling import inner
from ..runtime.native import clear_floats, copy_floats
from ..runtime.tasks import Address, at


class Images(NamedTuple):
    """An array (batch, height, width, channels)."""

    start: Address
    batch: int
    height: int
    width: int
    channels: int

    @classmethod
    def of(cls, array: np.ndarray) -> Images:
        return cls(array, *array.shape)


@inner
def pixel(images, i, row, column):
    """The address of the channels of a pixel of image i, which may lie outside."""
    return at(images.start, ((i * images.height + row) * images.width + column) * images.channels)


@inner
def pad(images, i, top, left, slab, rows, columns):
    """slab (rows, columns, channels) = image i [top : top + rows, left : left + columns], zero outside the image."""
    width, channels = images.width, images.channels
    before, after = max(0, -left), min(columns, width - left)
    for row in range(rows):
        target = at(slab, row * columns * channels)
        if top + row < 0 or top + row >= images.height or after <= before:
            clear_floats(target, columns * channels)
        else:
            clear_floats(target, before * channels)
            clear_floats(at(target, after * channels), (columns - after) * channels)
            copy_floats(at(target, before * channels), pixel(images, i, top + row, left + before), (after - before) * channels)
