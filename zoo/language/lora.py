"""Low-rank adaptation (Hu et al. 2022, equation 3): a trained model learns something new through a few numbers beside each matrix.

    y = x W + b  becomes  y = x W + b + (alpha / rank) (x A) B      A (in, rank) random, B (rank, out) 0; W and b are frozen

B = 0 makes the adapted model the old one at first, and a random A gives B a gradient, A^T x^T dy, from the first step on; if both
were 0, neither would ever move.

    adapt(model, rank=8)             # only A and B are trained, and the optimiser takes memory for them alone
    write_adapter(model, path)       # A and B alone: read_adapter(model, path) puts them beside the weights of a fresh copy of the model
    merge(model)                     # W + (alpha / rank) A B replaces W: the same outputs at the old cost

W may be quantised (Dettmers et al. 2023): it stays in blocks of 4 or 8 bits, and the gradient flows through it to x.  Merged, it takes
8 bits, because what was learned would be lost between the steps of 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import autograd as ops
from ..autograd import Tensor
from ..autograd.operations import quantised
from ..autograd.random import generator
from ..nn import Linear, Module, QuantisedLinear, parameter
from ..storage import PathLike, WrongFile, read_safetensors, shorten, write_tensors

FORMAT = "zoo low-rank adapter"
LAYERS = ("attention.query_key_value", "attention.output", "mlp.gate", "mlp.up", "mlp.down")


class LowRank(Module):
    """A frozen linear layer, and a correction of low rank that is trained."""

    base: Linear | QuantisedLinear
    down: Tensor  # (inputs, rank), A in the paper
    up: Tensor  # (rank, outputs), B in the paper

    def __init__(self, base: Linear | QuantisedLinear, rank: int, scale: float, *, rng: np.random.Generator):
        inputs, outputs = (base.inputs, base.outputs) if isinstance(base, QuantisedLinear) else base.weight.shape
        self.base, self.scale = base, scale
        self.down = parameter(rng.normal(0, 1 / math.sqrt(inputs), (inputs, rank)))
        self.up = parameter(np.zeros((rank, outputs)))

    def __call__(self, x):
        base = self.base
        frozen = base.linear(x) if isinstance(base, QuantisedLinear) else ops.linear(x, base.weight, base.bias)
        return ops.activate(frozen + ops.linear(ops.linear(x, self.down), self.up) * np.float32(self.scale), base.activation)

    def merged(self) -> Linear | QuantisedLinear:
        base, learned = self.base, np.float32(self.scale) * (self.down.data @ self.up.data)  # (inputs, outputs)
        if isinstance(base, QuantisedLinear):
            raw = quantised.quantise((base.weight.data + learned).T, "Q8_0")
            return QuantisedLinear(ops.side_by_side(raw, "Q8_0"), "Q8_0", base.outputs, bias=base.bias, activation=base.activation)
        base.weight.data += learned
        return base


def adapt(model: Any, rank: int = 8, *, layers: Sequence[str] = LAYERS, alpha: float | None = None, seed: int = 0) -> Any:
    """Put a correction beside each linear layer whose name ends with one of `layers`, and freeze everything else.

    alpha: the correction is multiplied by alpha / rank; twice the rank unless given.  Returns the model, whose outputs haven't changed.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}; it is at least 1")
    if any(isinstance(m, LowRank) for _, m in model.modules()):
        raise ValueError("adapt: the model has low-rank layers already; merge them first")
    chosen = [place for place in _places(model, (Linear, QuantisedLinear)) if place[0].endswith(tuple(layers))]
    if not chosen:
        names = ", ".join(name for name, *_ in _places(model, (Linear, QuantisedLinear)))
        raise ValueError(f"adapt: no linear layer's name ends with {' or '.join(layers)}; there are {names}")
    rng = generator(seed)
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


def write_adapter(model: Any, path: PathLike) -> None:
    """Write what was learned beside the weights, as safetensors: NAME.down and NAME.up of each layer, and the factor of their product."""
    layers = {name: layer for name, layer in model.modules() if isinstance(layer, LowRank)}
    if not layers:
        raise ValueError("write_adapter: the model has no low-rank layers; adapt it first")
    arrays = {f"{name}.{part}": getattr(layer, part).data for name, layer in layers.items() for part in ("down", "up")}
    write_tensors(path, arrays, {"format": FORMAT, **{f"scale of {name}": repr(float(layer.scale)) for name, layer in layers.items()}})


def read_adapter(model: Any, path: PathLike) -> Any:
    """Put what `write_adapter` wrote beside the weights of a model, and freeze everything else.  Returns the model.

    Raises WrongFile, and changes nothing, where the file isn't an adapter of such a model.
    """
    arrays, facts = read_safetensors(path)
    if facts.get("format") != FORMAT:
        raise WrongFile(f"{path}: isn't an adapter, which `write_adapter` writes")
    places = {name: rest for name, *rest in _places(model, (Linear, QuantisedLinear))}
    layers: dict[str, LowRank] = {}
    for name in sorted({key.rpartition(".")[0] for key in arrays}):
        down, up = arrays.get(f"{name}.down"), arrays.get(f"{name}.up")
        try:
            if name not in places or down is None or up is None or down.ndim != 2 or not np.isfinite(scale := float(facts[f"scale of {name}"])):
                raise ValueError("is not of a linear layer of this model")
            layer = LowRank(places[name][2], down.shape[1], scale, rng=np.random.default_rng(0))
            for tensor, stored in ((layer.down, down), (layer.up, up)):
                if stored.shape != tensor.shape or stored.dtype.kind != "f" or not np.isfinite(stored).all():
                    raise ValueError(f"{stored.dtype} of shape {stored.shape} where {tensor.shape} finite numbers belong")
                tensor.data[...] = stored
        except (ValueError, KeyError) as e:
            raise WrongFile(f"{path}: {shorten(name)} does not fit ({e})") from e
        layers[name] = layer
    for tensor in model.parameters():
        tensor.requires_grad = False
    for name, layer in layers.items():
        setattr(places[name][0], places[name][1], layer)
    return model


def _places(model: Module, kind: type | tuple[type, ...]) -> Iterator[tuple[str, Module, str, Any]]:
    """(dotted name, parent, attribute, layer) of every layer of a kind that is an attribute of its own."""
    for path, parent in list(model.modules()):
        for name, value in list(vars(parent).items()):
            if isinstance(value, kind):
                yield (f"{path}.{name}" if path else name), parent, name, value
