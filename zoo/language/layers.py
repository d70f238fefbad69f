"""The layers that a transformer is put together from, made under their dotted names: fresh, quantised, or as large as those of a file."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd.operations import quantised
from ..model import Unfilled
from ..nn import Embedding, LayerNorm, Linear, QuantisedEmbedding, QuantisedLinear, RMSNorm, Sequential, parameter

Norm = LayerNorm | RMSNorm | Sequential


class Layers:
    """Makes the layers that a transformer is put together from, each under its dotted name; a subclass reads them from a
    file (`loading.gguf_models`).

    These are fresh, as GPT-2 begins: N(0, 0.02^2), and less for what is added to the residual stream, twice a layer.
    """

    def __init__(self, c: Any, rng: Generator):
        self.config, self.rng = c, rng

    def embedding(self, name: str, rows: int) -> Embedding:
        return Embedding(rows, self.config.width, rng=self.rng)

    def linear(self, name: str, inputs: int, outputs: int, *, residual: bool = False, activation: str | None = None,
               bias: bool | None = None) -> Any:
        c = self.config
        deviation = 0.02 / math.sqrt(2 * c.layers) if residual else 0.02
        return Linear(inputs, outputs, rng=self.rng, bias=c.bias if bias is None else bias, activation=activation,
                      scale=deviation * math.sqrt(inputs))  # which Linear divides by sqrt(inputs)

    def norm(self, name: str, head: bool = False) -> Norm:
        """Of the stream, or of each head's queries or keys."""
        c = self.config
        if head:
            return RMSNorm(c.head_width, eps=c.eps)
        if c.norm == "none":
            return Sequential()  # of no layers: x as it is
        return RMSNorm(c.width, eps=c.eps) if c.norm == "rms" else LayerNorm(c.width, bias=c.bias, eps=c.eps)


class QuantisedLayers(Layers):
    """The layers of a model once more, matrices as blocks of 4 or 8 bits; those that look up positions, norms and biases as they are."""

    def __init__(self, model: Any, kind: str):
        self.config, self.kind, self.layers = model.config, kind, dict(model.modules())

    def _blocks(self, rows: np.ndarray) -> np.ndarray:
        return ops.side_by_side(quantised.quantise(rows, self.kind), self.kind)

    def embedding(self, name: str, rows: int) -> Any:
        layer: Any = copy.deepcopy(self.layers[name])
        return layer if name == "position" else QuantisedEmbedding(self._blocks(layer.weight.data), self.kind, rows)

    def linear(self, name: str, inputs: int, outputs: int, *, residual: bool = False, activation: str | None = None,
               bias: bool | None = None) -> Any:
        layer: Any = copy.deepcopy(self.layers[name])
        return QuantisedLinear(self._blocks(layer.weight.data.T), self.kind, outputs, bias=layer.bias, activation=activation)

    def norm(self, name: str, head: bool = False) -> Norm:
        return copy.deepcopy(self.layers[name])  # type: ignore[return-value]


class StoredLayers(Layers):
    """Layers as large as the arrays of a file, whose names and shapes are known: quantised where it holds blocks."""

    def __init__(self, c: Any, shapes: Mapping[str, tuple[int, ...]]):
        super().__init__(c, Unfilled(c, shapes))  # type: ignore[arg-type]
        self.shapes = shapes

    def _blocks(self, name: str, inputs: int, outputs: int) -> tuple[np.ndarray, str] | None:
        """Blocks to be filled, and their kind; None where the layer isn't quantised."""
        shape = self.shapes.get(f"{name}.blocks")
        if shape is None:
            return None
        wanted = {kind: (outputs, inputs // quantised.BLOCK * size) for kind, size in quantised.BYTES.items()}
        kind = next((kind for kind, of_kind in wanted.items() if tuple(shape) == of_kind), None)
        if kind is None or inputs % quantised.BLOCK:
            allowed = " or ".join(map(str, wanted.values()))
            raise ValueError(f"{name}.blocks has shape {tuple(shape)}; for {outputs} x {inputs} weights it is {allowed}")
        return ops.side_by_side(np.zeros(shape, np.uint8), kind), kind

    def embedding(self, name: str, rows: int) -> Any:
        stored = self._blocks(name, self.config.width, rows)
        return super().embedding(name, rows) if stored is None else QuantisedEmbedding(*stored, rows)

    def linear(self, name: str, inputs: int, outputs: int, *, residual: bool = False, activation: str | None = None,
               bias: bool | None = None) -> Any:
        stored = self._blocks(name, inputs, outputs)
        if stored is None:
            return super().linear(name, inputs, outputs, residual=residual, activation=activation, bias=bias)
        offset = parameter(np.zeros(outputs)) if (self.config.bias if bias is None else bias) else None
        return QuantisedLinear(*stored, outputs, bias=offset, activation=activation)
