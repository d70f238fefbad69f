"""Layers: plain objects that hold tensors.

An attribute is a parameter (a Tensor), a buffer (an array), another module, or a list of modules; `walk` finds them all and gives
them the dotted names that the optimiser, the files, the traces and the tables share: `blocks.0.attention.output.weight`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.random import Generator

from . import autograd as ops
from .autograd import Tensor
from .autograd.operations.linear import activate
from .autograd.runtime.tasks import address_of
from .autograd.tensor import state


class Module:
    """Anything with parameters.  Defining `__call__` is all that a subclass must do."""

    training: bool = True

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "__call__" in cls.__dict__:
            cls.__call__ = _named_while_watched(cls.__call__)  # type: ignore[method-assign]

    def modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(dotted name, module), this one first under the prefix itself."""
        yield prefix, self
        for name, value in _parts(self):
            if isinstance(value, Module):
                yield from value.modules(f"{prefix}.{name}" if prefix else name)

    def _named(self, wanted: type) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()  # a tensor that two layers share has the name under which it's found first
        for path, module in self.modules():
            for name, value in _parts(module):
                if isinstance(value, wanted) and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self) -> dict[str, Tensor]:
        """What training changes, by dotted name."""
        return {name: t for name, t in self._named(Tensor) if t.requires_grad}

    def parameters(self) -> list[Tensor]:
        return list(self.named_parameters().values())

    def named_buffers(self) -> dict[str, np.ndarray]:
        """Arrays that belong to the model but have no gradient: running averages, codebooks."""
        return {name: a for name, a in self._named(np.ndarray) if a.dtype.kind == "f"}

    @property
    def num_parameters(self) -> int:
        return sum(p.size for p in self.parameters())

    def arrays(self) -> dict[str, np.ndarray]:
        """Every parameter and buffer as an array, by dotted name: what is saved."""
        return {**{name: p.data for name, p in self.named_parameters().items()}, **self.named_buffers()}

    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy values in; raises ValueError, and changes nothing, unless names and shapes fit exactly."""
        from .storage import check_fit

        mine = self.arrays()
        check_fit(arrays, {name: a.shape for name, a in mine.items()})
        for name, a in mine.items():
            a[...] = arrays[name]

    def train(self, training: bool = True) -> Module:
        """Training or not: what batch norm looks at."""
        for _, module in self.modules():
            module.training = training
        return self

    def eval(self) -> Module:
        return self.train(False)


@contextmanager
def evaluating(module: Module) -> Iterator[None]:
    """Evaluation mode inside, where norms take their running averages; afterwards the mode that was."""
    was = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was)


def _parts(module: Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if isinstance(value, (list, tuple)):
            yield from ((f"{name}.{i}", v) for i, v in enumerate(value))
        elif isinstance(value, dict):
            yield from ((f"{name}.{k}", v) for k, v in value.items())
        else:
            yield name, value


def _named_while_watched(call: Callable) -> Callable:
    @functools.wraps(call)
    def wrapped(self: Module, *args: Any, **kwargs: Any) -> Any:
        if not state.watchers:
            return call(self, *args, **kwargs)
        return state.watchers[-1].inside(self, call, args, kwargs)

    return wrapped


def parameter(values: np.ndarray) -> Tensor:
    """A float32 tensor that training changes."""
    values = np.asarray(values)
    data = aligned(values.shape)
    data[...] = values
    return Tensor(data, requires_grad=True)


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An empty float32 array that begins with a line of the cache: a register is then read from one line, not from two."""
    size = math.prod(shape)
    room = np.empty(size + 15, np.float32)
    begin = -address_of(room) // 4 % 16
    return room[begin : begin + size].reshape(shape)


class Linear(Module):
    """y = activation(x W + b): x (..., inputs) -> (..., outputs).  W is drawn from N(0, scale^2 / inputs), b is 0."""

    weight: Tensor  # (inputs, outputs)
    bias: Tensor | None  # (outputs,)

    def __init__(self, inputs: int, outputs: int, *, rng: Generator, bias: bool = True, activation: str | None = None, scale: float = 1.0):
        self.weight = parameter(rng.normal(0, scale / math.sqrt(inputs), (inputs, outputs)))
        self.bias = parameter(np.zeros(outputs)) if bias else None
        self.activation = activation

    def __call__(self, x):
        return ops.linear(x, self.weight, self.bias, activation=self.activation)


class Conv2d(Module):
    """x (batch, height, width, inputs) -> (batch, ..., ..., outputs), channels last."""

    weight: Tensor  # (kernel, kernel, inputs, outputs)
    bias: Tensor | None

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0, rng: Generator, bias: bool = True,
                 scale: float = 1.0):
        self.weight = parameter(rng.normal(0, scale / math.sqrt(kernel * kernel * inputs), (kernel, kernel, inputs, outputs)))
        self.bias = parameter(np.zeros(outputs)) if bias else None
        self.stride, self.padding = stride, padding

    def __call__(self, x, residual=None):
        """residual: added to the result in the same pass, of its shape or (batch, 1, 1, outputs); for stride 1"""
        if residual is None:
            return ops.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)
        return ops.residual_conv2d(x, self.weight, self.bias, residual, padding=self.padding)


class ConvTranspose2d(Module):
    """The adjoint of a convolution: x (batch, height, width, inputs) -> (batch, (height - 1) stride - 2 padding + kernel, ..., outputs)."""

    weight: Tensor  # (kernel, kernel, inputs, outputs)
    bias: Tensor | None

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0, rng: Generator, bias: bool = True,
                 scale: float = 1.0):
        fan = inputs * (kernel / stride) ** 2  # how many products meet in one output
        self.weight = parameter(rng.normal(0, scale / math.sqrt(fan), (kernel, kernel, inputs, outputs)))
        self.bias = parameter(np.zeros(outputs)) if bias else None
        self.stride, self.padding = stride, padding

    def __call__(self, x):
        y = ops.conv_transpose2d(x, self.weight, stride=self.stride, padding=self.padding)
        return y if self.bias is None else y + self.bias


class Embedding(Module):
    """ids (...) -> (..., width); rows drawn from N(0, deviation^2)."""

    weight: Tensor  # (symbols, width)

    def __init__(self, symbols: int, width: int, *, rng: Generator, deviation: float = 0.02):
        self.weight = parameter(rng.normal(0, deviation, (symbols, width)))

    def __call__(self, ids):
        return ops.embedding(self.weight, ids)


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last axis, then gain and bias (Ba et al. 2016)."""

    gain: Tensor
    bias: Tensor | None

    def __init__(self, width: int, *, bias: bool = True, eps: float = 1e-5):
        self.gain = parameter(np.ones(width))
        self.bias = parameter(np.zeros(width)) if bias else None
        self.eps = eps

    def __call__(self, x):
        return ops.layer_norm(x, self.gain, self.bias, eps=self.eps)


class RMSNorm(Module):
    """Root mean square 1 over the last axis, then gain (Zhang & Sennrich 2019)."""

    gain: Tensor

    def __init__(self, width: int, *, eps: float = 1e-5):
        self.gain = parameter(np.ones(width))
        self.eps = eps

    def __call__(self, x):
        return ops.rms_norm(x, self.gain, eps=self.eps)


class GroupNorm(Module):
    """Mean 0 and variance 1 in each image and each group of channels (Wu & He 2018)."""

    gain: Tensor
    bias: Tensor

    def __init__(self, groups: int, channels: int, *, eps: float = 1e-5, activation: str | None = None):
        self.gain, self.bias = parameter(np.ones(channels)), parameter(np.zeros(channels))
        self.groups, self.eps, self.activation = groups, eps, activation

    def __call__(self, x):
        return ops.group_norm(x, self.gain, self.bias, groups=self.groups, eps=self.eps, activation=self.activation)


class BatchNorm(Module):
    """Mean 0 and variance 1 of each channel: over the batch in training, by running averages otherwise (Ioffe & Szegedy 2015)."""

    gain: Tensor
    bias: Tensor
    running_mean: np.ndarray
    running_variance: np.ndarray

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, activation: str | None = None):
        self.gain, self.bias = parameter(np.ones(channels)), parameter(np.zeros(channels))
        self.running_mean, self.running_variance = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        self.eps, self.momentum, self.activation = eps, momentum, activation

    def __call__(self, x):
        if not self.training:
            scale = self.gain / np.sqrt(self.running_variance + np.float32(self.eps))
            return activate(x * scale + (self.bias - self.running_mean * scale), self.activation)
        mean, variance = moments = ops.batch_statistics(x.data if isinstance(x, Tensor) else x)
        n = x.size // x.shape[-1]
        self.running_mean += np.float32(self.momentum) * (mean - self.running_mean)
        self.running_variance += np.float32(self.momentum) * (variance * np.float32(n / max(n - 1, 1)) - self.running_variance)
        return ops.batch_norm(x, self.gain, self.bias, eps=self.eps, activation=self.activation, moments=moments)


class Sequential(Module):
    """One layer after the other; a plain function counts as a layer."""

    def __init__(self, *layers: Callable):
        self.layers = list(layers)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def dropout(x, p: float, rng: Generator | None):
    """Dropout with a mask drawn from rng; without rng (not training) x as it is."""
    return x if rng is None or p == 0 else ops.dropout(x, p=p, seed=int(rng.integers(2**63)))
