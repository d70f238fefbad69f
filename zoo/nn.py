"""Layers: plain objects that hold tensors.

An attribute is a parameter (a Tensor), a buffer (an array), another module, or a list, tuple or dictionary of these, nested as deep
as you like.  `Module.modules` walks through them and gives each a dotted name, which optimisers, files, traces and tables share:
`blocks.0.attention.output.weight`.

A parameter with requires_grad=False is frozen: optimisers leave it alone, and it is saved, loaded and counted like any other.

How weights are initialised.  With inputs x_i and weights w_i independent and of mean 0, y = sum_i x_i w_i over n inputs has
E[y^2] = n Var(w) E[x^2].  The size of a signal stays the same from layer to layer if Var(w) = 1 / n, the scale 1 of the layers here
(LeCun et al. 1998, eq. 16; Glorot & Bengio 2010, eq. 10 for the signal that goes forward).  ReLU sets half of a symmetric signal to 0,
which halves E[x^2]: Var(w) = 2 / n, that is scale = sqrt(2), makes up for it (He et al. 2015, eq. 10).
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.random import Generator

from . import autograd as ops
from .autograd import Tensor
from .autograd.operations import quantised
from .autograd.operations.linear import activate
from .autograd.random import uniform
from .autograd.runtime.tasks import address_of
from .autograd.tensor import state

__all__ = [
    "AvgPool2d", "BatchNorm", "Conv2d", "ConvTranspose2d", "Embedding", "GroupNorm", "LayerNorm", "Linear", "MaxPool2d", "Module",
    "QuantisedEmbedding", "QuantisedLinear", "RMSNorm", "Sequential", "aligned", "dropout", "evaluating", "parameter",
]


class Module:
    """Base of layers and models.  A subclass sets its parts as attributes and defines `__call__`."""

    training: bool = True
    quantised_numbers: int = 0  # how many numbers this module itself holds in blocks of 4 or 8 bits

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "__call__" in cls.__dict__:
            cls.__call__ = _named_while_watched(cls.__call__)  # type: ignore[method-assign]

    def modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(dotted name, module) for this module, named by the prefix, and for all modules inside it, depth first."""
        yield prefix, self
        for name, value in _parts(self):
            if isinstance(value, Module):
                yield from value.modules(f"{prefix}.{name}" if prefix else name)

    def _named(self, kind: type) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()  # a tensor that two layers share is listed once, under its first name
        for path, module in self.modules():
            for name, value in _parts(module):
                if isinstance(value, kind) and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self) -> dict[str, Tensor]:
        """Tensors of floating numbers that no operation computed, frozen ones too, by dotted name."""
        return {name: t for name, t in self._named(Tensor) if t.node is None and t.dtype.kind == "f"}

    def parameters(self) -> list[Tensor]:
        """The values of `named_parameters`."""
        return list(self.named_parameters().values())

    def named_buffers(self) -> dict[str, np.ndarray]:
        """Floating arrays that belong to the model but have no gradient (running averages, codebooks), by dotted name."""
        return {name: a for name, a in self._named(np.ndarray) if a.dtype.kind == "f"}

    def _quantised_layers(self) -> dict[str, QuantisedLinear | QuantisedEmbedding]:
        """By the dotted names of their blocks."""
        return {f"{path}.blocks".lstrip("."): m for path, m in self.modules() if isinstance(m, (QuantisedLinear, QuantisedEmbedding))}

    @property
    def num_parameters(self) -> int:
        """How many numbers all parameters hold, frozen and quantised ones too."""
        return sum(p.size for p in self.parameters()) + sum(module.quantised_numbers for _, module in self.modules())

    def arrays(self) -> dict[str, np.ndarray]:
        """Every parameter and buffer as an array, by dotted name: what a file holds.  Floating arrays share memory with the model.

        Blocks of quantised layers are copies, (rows, bytes) uint8, in the order of a GGUF file, whatever their order in memory.
        """
        blocks = {name: quantised.as_in_a_file(layer.blocks, layer.quantisation, layer.rows) for name, layer in self._quantised_layers().items()}
        return {**{name: p.data for name, p in self.named_parameters().items()}, **self.named_buffers(), **blocks}

    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy values in.  Raises ValueError, and changes nothing, unless names and shapes are exactly those of `arrays()`."""
        from .storage import check_fit

        targets = self.arrays()
        check_fit(arrays, {name: a.shape for name, a in targets.items()})
        for name, target in targets.items():
            if (target.dtype == np.uint8) != (arrays[name].dtype == np.uint8):
                raise ValueError(f"{name} holds {arrays[name].dtype}; this model has {target.dtype} there")
        layers = self._quantised_layers()
        for name, target in targets.items():
            if name in layers:
                layers[name].blocks = ops.side_by_side(arrays[name], layers[name].quantisation)
            else:
                target[...] = arrays[name]
        for _, tensor in self._named(Tensor):
            tensor.mark_changed()

    def train(self, training: bool = True) -> Module:
        """Switch this module and all inside it to training (batch norm uses the batch's statistics) or to evaluation."""
        for _, module in self.modules():
            module.training = training
        return self

    def eval(self) -> Module:
        """`train(False)`."""
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
    """(name, value) of a module's attributes and of what its lists and dictionaries hold; a name with an underscore is private."""
    for name, value in vars(module).items():
        if not name.startswith("_"):
            yield from _unfold(name, value)


def _unfold(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        for i, entry in enumerate(value):
            yield from _unfold(f"{name}.{i}", entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _unfold(f"{name}.{key}", entry)
    elif isinstance(value, (set, frozenset, deque)) and any(isinstance(entry, (Module, Tensor)) for entry in value):
        raise TypeError(f"{name} is a {type(value).__name__} with modules or tensors in it; put them into a list, a tuple or a dictionary")
    else:
        yield name, value


def _named_while_watched(call: Callable) -> Callable:
    """A module's `__call__` that tells a trace or a patch, while one is on, which module runs."""

    @functools.wraps(call)
    def wrapped(self: Module, *args: Any, **kwargs: Any) -> Any:
        if not state.watchers:
            return call(self, *args, **kwargs)
        return state.watchers[-1].inside(self, call, args, kwargs)

    return wrapped


def parameter(values: np.ndarray) -> Tensor:
    """A float32 tensor that requires a gradient, with these initial values."""
    values = np.asarray(values)
    data = aligned(values.shape)
    data[...] = values
    return Tensor(data, requires_grad=True)


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised float32 array that begins at a cache line, so that no vector register has to be filled from two lines."""
    line = 64 // np.dtype(np.float32).itemsize  # floats in a cache line
    size = math.prod(shape)
    room = np.empty(size + line - 1, np.float32)
    begin = -address_of(room) // room.itemsize % line
    return room[begin : begin + size].reshape(shape)


class Linear(Module):
    """y = activation(x W + b): x (..., inputs) -> (..., outputs).  Initially W ~ N(0, scale^2 / inputs) and b = 0."""

    weight: Tensor  # (inputs, outputs)
    bias: Tensor | None  # (outputs,)

    def __init__(self, inputs: int, outputs: int, *, rng: Generator, bias: bool = True, activation: str | None = None, scale: float = 1.0):
        self.weight = parameter(rng.normal(0, scale / math.sqrt(inputs), (inputs, outputs)))
        self.bias = parameter(np.zeros(outputs)) if bias else None
        self.activation = activation

    @classmethod
    def of(cls, weight: np.ndarray, bias: Tensor | None = None, *, activation: str | None = None) -> Linear:
        """A layer with these weights (inputs, outputs)."""
        layer = cls.__new__(cls)
        layer.weight, layer.bias, layer.activation = parameter(weight), bias, activation
        return layer

    def __call__(self, x):
        return ops.linear(x, self.weight, self.bias, activation=self.activation)


class Conv2d(Module):
    """y = activation(W * x + b), a convolution: channels last, x (batch, height, width, inputs) -> (batch, ..., outputs), where a side becomes
    (side + 2 padding - (kernel - 1) dilation - 1) / stride + 1.

    groups: channels are cut into that many groups, each with weights of its own.  Initially W ~ N(0, scale^2 / n) over n = kernel^2
    inputs / groups products, and b = 0.
    """

    weight: Tensor  # (kernel, kernel, inputs / groups, outputs)
    bias: Tensor | None

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1,
                 rng: Generator, bias: bool = True, scale: float = 1.0):
        _check_groups(inputs, outputs, groups)
        fan = kernel * kernel * (inputs // groups)
        self.weight = parameter(rng.normal(0, scale / math.sqrt(fan), (kernel, kernel, inputs // groups, outputs)))
        self.bias = parameter(np.zeros(outputs)) if bias else None
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def __call__(self, x, residual=None):
        """residual: added to the result, of its shape or (batch, 1, 1, outputs); in the same pass if stride, dilation and groups are 1."""
        plain = (self.stride, self.dilation, self.groups) == (1, 1, 1)
        if residual is None or not plain:
            y = ops.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)
            return y if residual is None else y + residual
        return ops.residual_conv2d(x, self.weight, self.bias, residual, padding=self.padding)


class ConvTranspose2d(Module):
    """The adjoint of a convolution: x (batch, height, width, inputs) -> (batch, ..., outputs), where a side becomes
    (side - 1) stride - 2 padding + (kernel - 1) dilation + 1 + output_padding."""

    weight: Tensor  # (kernel, kernel, inputs, outputs / groups)
    bias: Tensor | None

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0, output_padding: int = 0,
                 dilation: int = 1, groups: int = 1, rng: Generator, bias: bool = True, scale: float = 1.0):
        _check_groups(inputs, outputs, groups)
        fan = inputs // groups * (kernel / stride) ** 2  # how many products are added up in one output
        self.weight = parameter(rng.normal(0, scale / math.sqrt(fan), (kernel, kernel, inputs, outputs // groups)))
        self.bias = parameter(np.zeros(outputs)) if bias else None
        self.stride, self.padding, self.output_padding, self.dilation, self.groups = stride, padding, output_padding, dilation, groups

    def __call__(self, x):
        return ops.conv_transpose2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding, output_padding=self.output_padding,
                                    dilation=self.dilation, groups=self.groups)


def _check_groups(inputs: int, outputs: int, groups: int) -> None:
    if groups < 1 or inputs % groups or outputs % groups:
        raise ValueError(f"groups is {groups}; it must divide the channels, {inputs} in and {outputs} out")


class MaxPool2d(Module):
    """The greatest entry of each window of kernel x kernel pixels, channel by channel; stride is the kernel's size unless given."""

    def __init__(self, kernel: int, *, stride: int | None = None, padding: int = 0, dilation: int = 1):
        self.kernel, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation

    def __call__(self, x):
        return ops.max_pool2d(x, kernel=self.kernel, stride=self.stride, padding=self.padding, dilation=self.dilation)


class AvgPool2d(Module):
    """The mean of each window of kernel x kernel pixels, channel by channel; stride is the kernel's size unless given."""

    def __init__(self, kernel: int, *, stride: int | None = None, padding: int = 0, count_include_pad: bool = True):
        self.kernel, self.stride, self.padding, self.count_include_pad = kernel, stride, padding, count_include_pad

    def __call__(self, x):
        return ops.avg_pool2d(x, kernel=self.kernel, stride=self.stride, padding=self.padding, count_include_pad=self.count_include_pad)


class Embedding(Module):
    """Rows of a table: ids (...) -> (..., width).  deviation: the standard deviation of the initial weights, of mean 0."""

    weight: Tensor  # (symbols, width)

    def __init__(self, symbols: int, width: int, *, rng: Generator, deviation: float = 0.02):
        self.weight = parameter(rng.normal(0, deviation, (symbols, width)))

    @classmethod
    def of(cls, weight: np.ndarray) -> Embedding:
        """A table with these rows (symbols, width)."""
        layer = cls.__new__(cls)
        layer.weight = parameter(weight)
        return layer

    def __call__(self, ids):
        return ops.embedding(self.weight, ids)

    def scores(self, x):
        """x (..., width) against every row: (..., symbols), where the table is the output matrix too."""
        return ops.linear(x, ops.swapaxes(self.weight))


class QuantisedLinear(Module):
    """y = activation(x W^T + b) with W as blocks of 4 or 8 bits, which stay so: x (..., inputs) -> (..., outputs).  W isn't trained."""

    blocks: np.ndarray  # (groups, inputs / 32, bytes) uint8, as `autograd.side_by_side` lays them
    bias: Tensor | None  # (outputs,)

    def __init__(self, blocks: np.ndarray, kind: str, outputs: int, *, bias: Tensor | None = None, activation: str | None = None):
        self.blocks, self.quantisation, self.outputs = blocks, kind, outputs
        self.bias, self.activation = bias, activation

    @property
    def rows(self) -> int:
        return self.outputs

    @property
    def inputs(self) -> int:
        return quantised.BLOCK * self.blocks.shape[1]

    @property
    def quantised_numbers(self) -> int:  # type: ignore[override]
        return self.inputs * self.outputs

    @property
    def weight(self) -> Tensor:
        """What the blocks stand for, computed at every call: (inputs, outputs) float32."""
        return Tensor(ops.dequantise(self.blocks, kind=self.quantisation, outputs=self.outputs).T)

    def linear(self, x):
        """x W^T + b, before the activation."""
        y = ops.quantised_linear(x, self.blocks, kind=self.quantisation, outputs=self.outputs)
        return y if self.bias is None else y + self.bias

    def __call__(self, x):
        return activate(self.linear(x), self.activation)


class QuantisedEmbedding(Module):
    """Rows of a table of 4 or 8 bits: ids (...) -> (..., width)."""

    blocks: np.ndarray  # (groups, width / 32, bytes) uint8

    def __init__(self, blocks: np.ndarray, kind: str, symbols: int):
        self.blocks, self.quantisation, self.symbols = blocks, kind, symbols

    @property
    def rows(self) -> int:
        return self.symbols

    @property
    def quantised_numbers(self) -> int:  # type: ignore[override]
        return quantised.BLOCK * self.blocks.shape[1] * self.symbols

    @property
    def weight(self) -> Tensor:
        """What the blocks stand for, computed at every call: (symbols, width) float32."""
        return Tensor(ops.dequantise(self.blocks, kind=self.quantisation, outputs=self.symbols))

    def __call__(self, ids):
        return ops.quantised_embedding(self.blocks, ids, kind=self.quantisation, outputs=self.symbols)

    def scores(self, x):
        """x (..., width) against every row: (..., symbols)."""
        return ops.quantised_linear(x, self.blocks, kind=self.quantisation, outputs=self.symbols)


class LayerNorm(Module):
    """y = gain (x - mean) / sqrt(variance + eps) + bias: mean 0 and variance 1 over the last axis, then gain and bias (Ba et al. 2016, eq. 4)."""

    gain: Tensor
    bias: Tensor | None

    def __init__(self, width: int, *, bias: bool = True, eps: float = 1e-5):
        self.gain = parameter(np.ones(width))
        self.bias = parameter(np.zeros(width)) if bias else None
        self.eps = eps

    def __call__(self, x):
        return ops.layer_norm(x, self.gain, self.bias, eps=self.eps)


class RMSNorm(Module):
    """y = gain x / sqrt(mean(x^2) + eps): root mean square 1 over the last axis, then gain (Zhang & Sennrich 2019, eq. 4)."""

    gain: Tensor

    def __init__(self, width: int, *, eps: float = 1e-5):
        self.gain = parameter(np.ones(width))
        self.eps = eps

    def __call__(self, x):
        return ops.rms_norm(x, self.gain, eps=self.eps)


class GroupNorm(Module):
    """y = gain (x - mean) / sqrt(variance + eps) + bias: mean 0 and variance 1 in each image and group of channels (Wu & He 2018, section 3.1)."""

    gain: Tensor
    bias: Tensor

    def __init__(self, groups: int, channels: int, *, eps: float = 1e-5, activation: str | None = None):
        self.gain, self.bias = parameter(np.ones(channels)), parameter(np.zeros(channels))
        self.groups, self.eps, self.activation = groups, eps, activation

    def __call__(self, x):
        return ops.group_norm(x, self.gain, self.bias, groups=self.groups, eps=self.eps, activation=self.activation)


class BatchNorm(Module):
    """y = gain (x - mean) / sqrt(variance + eps) + bias: mean 0 and variance 1 of each channel (Ioffe & Szegedy 2015, algorithms 1 and 2).

    In training the statistics are those of the batch, which also move running averages: r = r + momentum (statistic - r), with the
    unbiased variance.  In evaluation they are the running averages.
    """

    reads_whole_batch = True  # in training
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
        if whole_batch is not None:
            return self._with_other_ranks(x)
        mean, variance = moments = ops.batch_statistics(x.data if isinstance(x, Tensor) else x)
        self._follow(mean, variance, x.size // x.shape[-1])
        return ops.batch_norm(x, self.gain, self.bias, eps=self.eps, activation=self.activation, moments=moments)

    def _follow(self, mean: np.ndarray, variance: np.ndarray, n: int) -> None:
        """Move the running averages towards statistics of n values of each channel."""
        self.running_mean += np.float32(self.momentum) * (mean - self.running_mean)
        self.running_variance += np.float32(self.momentum) * (variance * np.float32(n / max(n - 1, 1)) - self.running_variance)

    def _with_other_ranks(self, x):
        """The same where other processes have other rows of the batch: sums over it are sums over ranks."""
        n = np.float32(whole_batch.add_up(np.array([x.size // x.shape[-1]]))[0])

        def mean_of(values):
            of_rows = ops.sum(values, axis=tuple(range(1, x.ndim - 1))) if x.ndim > 2 else values  # two short sums round less than a long one
            return whole_batch.sum(ops.sum(of_rows, axis=0)) / n

        mean = mean_of(x)
        centred = x - mean
        variance = mean_of(centred * centred)
        values = [a.data if isinstance(a, Tensor) else a for a in (mean, variance)]
        self._follow(values[0], values[1], int(n))
        return activate(self.gain * (centred / ops.sqrt(variance + self.eps)) + self.bias, self.activation)


class Sequential(Module):
    """Layers applied in order; a plain function may be one of them."""

    def __init__(self, *layers: Callable):
        self.layers = list(layers)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def dropout(x, p: float, rng: Generator | None):
    """Dropout with a mask drawn from rng; x itself if rng is None, that is, outside of training."""
    if rng is None or p == 0:
        return x
    seed = int(undivided(rng).integers(2**63))
    if undivided(rng) is rng:
        return ops.dropout(x, p=p, seed=seed)
    numbers, n = row_numbers(len(x), rng)
    mask = uniform(seed, (n, *x.shape[1:]))[numbers] >= p  # that of the whole batch, of which x is a share
    return x * (mask.astype(x.dtype) / np.float32(1 - p))


# --- a batch that is shared among processes (`training.ranks`)

whole_batch: Any = None  # while a step runs on several: adds up over them what a layer needs of all rows


def undivided(rng: Generator) -> Generator:
    """A generator whose draws aren't cut into shares: the same for all ranks."""
    return getattr(rng, "rng", rng)


def row_numbers(n: int, rng: Generator) -> tuple[np.ndarray, int]:
    """Which rows of the batch the n rows here are, and how many it has."""
    if undivided(rng) is rng:
        return np.arange(n), n
    return rng.row_numbers(), rng.n  # type: ignore[attr-defined]
