"""Texts that a model has read, remembered, so that one that begins the same is read from where they part.

A conversation is read anew at every turn, and nearly all of it was read before.  Keys and values of a token depend on the tokens before it
alone, so those of a common beginning are copied instead of computed.  They hold only for the weights that computed them: a state is
forgotten when any tensor was changed since, or a layer replaced.
"""

from __future__ import annotations

from collections import deque
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..autograd.tensor import changes
from ..autograd.tensor import state as tracing


class Prefixes:
    """The states at which the last few texts ended, those of one model."""

    def __init__(self, texts: int = 1, megabytes: float = float("inf")):
        """At most so many texts; the oldest go where their states take more memory, up to the last one."""
        self._ends: deque[tuple[list[Any], int, Any]] = deque(maxlen=texts)  # (what the state depends on, the last change, the state)
        self.megabytes = megabytes

    def nearest(self, model: Any, ids: np.ndarray) -> Any:
        """The state of the text that shares most with ids (n,), or None."""
        ends = [] if tracing.watchers else list(self._ends)
        parts = _parts(model) if ends else []
        valid = [state for of, change, state in ends
                 if change == changes.latest and len(of) == len(parts) and all(a is b for a, b in zip(of, parts))]
        best = max(valid, key=lambda state: common(state, ids), default=None)
        return best if best is not None and common(best, ids) else None

    def add(self, model: Any, state: Any) -> None:
        """Remember a state, unless a patch or trace is on: what a patched model computed is no other's."""
        if not tracing.watchers and hasattr(state, "cache"):
            self._ends.append((_parts(model), changes.latest, state._replace(decoder=None)))
            while len(self._ends) > 1 and sum(s.cache.keys.nbytes + s.cache.values.nbytes for *_, s in self._ends) > 1e6 * self.megabytes:
                self._ends.popleft()


def common(state: Any, ids: np.ndarray) -> int:
    """How many of the first ids a state has read; one at least is left to read."""
    n = min(state.length, len(ids) - 1)
    differs = np.flatnonzero(state.cache.ids[:n] != ids[:n])
    return int(differs[0]) if len(differs) else n


def _parts(model: Any) -> list[Any]:
    """What a state depends on besides tensors: every layer, and every array of quantised weights."""
    layers = [layer for _, layer in model.modules()][1:]  # without the model itself, which may then be forgotten
    return [*layers, *(layer.blocks for layer in layers if isinstance(getattr(layer, "blocks", None), np.ndarray))]


_of_models: WeakKeyDictionary[Any, Prefixes] = WeakKeyDictionary()


def prefixes_of(model: Any) -> Prefixes:
    """Where conversations with a model remember what it has read last."""
    return _of_models.setdefault(model, Prefixes())
