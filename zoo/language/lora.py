"""Low-rank adaptation (Hu et al. 2022, equation 3): a trained model learns something new through a few numbers beside each matrix.

    y = x W + b  becomes  y = x W + b + (alpha / rank) (x A) B      A (in, rank) random, B (rank, out) 0; W and b are frozen

B = 0 makes the adapted model the old one at first, and a random A gives B a gradient, A^T x^T dy, from the first step on; if both
were 0, neither would ever move.

    adapt(model, rank=8)      # only A and B are trained, and the optimiser takes memory for them alone
    merge(model)              # W + (alpha / rank) A B replaces W: the same outputs at the old cost
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import autograd as ops
from ..autograd import Tensor
from ..nn import Linear, Module, parameter

LAYERS = ("attention.query_key_value", "attention.output", "mlp.gate", "mlp.up", "mlp.down")


class LowRank(Module):
    """A frozen linear layer, and a correction of low rank that is trained."""

    base: Linear
    down: Tensor  # (inputs, rank), A in the paper
    up: Tensor  # (rank, outputs), B in the paper

    def __init__(self, base: Linear, rank: int, scale: float, *, rng: np.random.Generator):
        inputs, outputs = base.weight.shape
        self.base, self.scale = base, scale
        self.down = parameter(rng.normal(0, 1 / math.sqrt(inputs), (inputs, rank)))
        self.up = parameter(np.zeros((rank, outputs)))

    def __call__(self, x):
        y = ops.linear(x, self.base.weight, self.base.bias) + ops.linear(ops.linear(x, self.down), self.up) * np.float32(self.scale)
        return ops.activate(y, self.base.activation)

    def merged(self) -> Linear:
        self.base.weight.data += np.float32(self.scale) * (self.down.data @ self.up.data)
        return self.base


def adapt(model: Any, rank: int = 8, *, layers: Sequence[str] = LAYERS, alpha: float | None = None, seed: int = 0) -> Any:
    """Put a correction beside each linear layer whose name ends with one of `layers`, and freeze everything else.

    alpha: the correction is multiplied by alpha / rank; twice the rank unless given.  Returns the model, whose outputs haven't changed.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}; it is at least 1")
    if any(isinstance(m, LowRank) for _, m in model.modules()):
        raise ValueError("adapt: the model has low-rank layers already; merge them first")
    chosen = [place for place in _places(model, Linear) if place[0].endswith(tuple(layers))]
    if not chosen:
        names = ", ".join(name for name, *_ in _places(model, Linear))
        raise ValueError(f"adapt: no linear layer's name ends with {' or '.join(layers)}; there are {names}")
    rng = np.random.default_rng(seed)
    for tensor in model.parameters():
        tensor.requires_grad = False
    for _, parent, name, layer in chosen:
        setattr(parent, name, LowRank(layer, rank, (2 * rank if alpha is None else alpha) / rank, rng=rng))
    return model


def merge(model: Any) -> Any:
    """Add every correction to its matrix and put the plain layers back; everything can be trained again."""
    for _, parent, name, layer in list(_places(model, LowRank)):
        setattr(parent, name, layer.merged())
    for _, module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor):
                value.requires_grad = True
    return model


def _places(model: Module, kind: type) -> Iterator[tuple[str, Module, str, Any]]:
    """(dotted name, parent, attribute, layer) of every layer of a kind that is an attribute of its own."""
    for path, parent in list(model.modules()):
        for name, value in list(vars(parent).items()):
            if isinstance(value, kind):
                yield (f"{path}.{name}" if path else name), parent, name, value
