"""Keys and values of the tokens that a transformer has read, so that the next token costs one row of each matrix product."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..nn import aligned


class Cache(NamedTuple):
    """Allocated once for `room` tokens and filled from position 0 on."""

    keys: np.ndarray  # (layers, batch, key_value_heads, room, head_width)
    values: np.ndarray  # the same shape
    ids: np.ndarray  # (room,) the tokens themselves

    @classmethod
    def empty(cls, config: Any, room: int, batch: int = 1) -> Cache:
        """config: anything with layers, key_value_heads and head_width."""
        return cls._allocated((config.layers, batch, config.key_value_heads, room, config.head_width))

    @classmethod
    def _allocated(cls, shape: tuple[int, ...]) -> Cache:
        keys, values = aligned((2, *shape))
        return cls(keys, values, np.empty(shape[3], np.int64))

    def resized(self, length: int, room: int) -> Cache:
        """A copy of the first `length` tokens with room for `room`."""
        layers, batch, heads, _, width = self.keys.shape
        copy = self._allocated((layers, batch, heads, room, width))
        copy.keys[:, :, :, :length] = self.keys[:, :, :, :length]
        copy.values[:, :, :, :length] = self.values[:, :, :, :length]
        copy.ids[:length] = self.ids[:length]
        return copy

    @property
    def room(self) -> int:
        return len(self.ids)
