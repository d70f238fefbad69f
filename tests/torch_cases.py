"""The zoo's layers and losses beside PyTorch's, setting by setting.

`CASES[name]` has both and their arguments; tests/references/torch.npz holds what PyTorch gives for each, so that a clone without it is
tested as well.  Write that file again with

    python tests/torch_cases.py
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import zoo.autograd as ops
from zoo import nn
from zoo.autograd import Tensor
from zoo.autograd.operations.loss import REDUCTIONS

REFERENCES = Path(__file__).parent / "references" / "torch.npz"


class Case(NamedTuple):
    ours: Callable    # of tensors
    theirs: Callable  # of torch.nn.functional and tensors
    arguments: tuple  # float32 arrays, which have gradients


CASES: dict[str, Case] = {}


def case(name: str, ours: Callable, theirs: Callable, *shapes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    CASES[name] = Case(ours, theirs, tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes))


def first(x: Any) -> Any:
    """Channels first."""
    return x.permute(0, 3, 1, 2)


def last(x: Any) -> Any:
    """Channels last."""
    return x.permute(0, 2, 3, 1)


# --- convolutions: our weight is (height, width, in / groups, out), PyTorch's (out, in / groups, height, width); transposed (in, out / groups, ...)


def convolution(inputs: int, outputs: int, kernel: int, bias: bool = True, **settings: Any) -> None:
    layer = nn.Conv2d(inputs, outputs, kernel, rng=np.random.default_rng(0), bias=bias, **settings)

    def ours(x, weight, b=None):
        layer.weight, layer.bias = weight, b
        return layer(x)

    def theirs(F, x, weight, b=None):
        return last(F.conv2d(first(x), weight.permute(3, 2, 0, 1), b, **settings))

    text = "".join(f", {name} {value}" for name, value in settings.items())
    shapes = [(2, 7, 6, inputs), (kernel, kernel, inputs // settings.get("groups", 1), outputs)] + bias * [(outputs,)]
    case(f"Conv2d {inputs} to {outputs}, kernel {kernel}{text}{'' if bias else ', no bias'}", ours, theirs, *shapes)


for settings in ({}, {"padding": 1}, {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}, {"padding": 2, "groups": 4}):
    convolution(4, 8, 3, **settings)
convolution(4, 4, 3, bias=False, groups=4, padding=1)
convolution(6, 3, 2, stride=3, dilation=3, padding=2, groups=3)
convolution(6, 9, 1, groups=3)


def transposed(inputs: int, outputs: int, kernel: int, bias: bool = True, **settings: Any) -> None:
    layer = nn.ConvTranspose2d(inputs, outputs, kernel, rng=np.random.default_rng(0), bias=bias, **settings)

    def ours(x, weight, b=None):
        layer.weight, layer.bias = weight, b
        return layer(x)

    def theirs(F, x, weight, b=None):
        return last(F.conv_transpose2d(first(x), weight.permute(2, 3, 0, 1), b, **settings))

    text = "".join(f", {name} {value}" for name, value in settings.items())
    shapes = [(2, 4, 3, inputs), (kernel, kernel, inputs, outputs // settings.get("groups", 1))] + bias * [(outputs,)]
    case(f"ConvTranspose2d {inputs} to {outputs}, kernel {kernel}{text}{'' if bias else ', no bias'}", ours, theirs, *shapes)


for settings in ({}, {"stride": 2, "padding": 1}, {"stride": 2, "padding": 1, "output_padding": 1}, {"dilation": 2}, {"groups": 2},
                 {"stride": 2, "padding": 1, "output_padding": 1, "dilation": 2, "groups": 2}):
    transposed(4, 6, 3, **settings)
transposed(4, 8, 4, bias=False, stride=2, padding=1, groups=4)
transposed(3, 2, 2, stride=3, output_padding=2)


# --- pooling


def pooling(kind: str, kernel: int, **settings: Any) -> None:
    layer = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}[kind](kernel, **settings)
    text = "".join(f", {name} {value}" for name, value in settings.items())
    case(f"{type(layer).__name__} {kernel}{text}", layer, lambda F, x: last(getattr(F, f"{kind}_pool2d")(first(x), kernel, **settings)), (2, 7, 6, 3))


for settings in ({}, {"stride": 1}, {"padding": 1}, {"stride": 2, "padding": 1}):
    pooling("max", 3, **settings)
    pooling("avg", 3, **settings)
pooling("max", 2, stride=1, padding=1, dilation=2)
pooling("max", 3, dilation=2)
pooling("avg", 3, padding=1, count_include_pad=False)
pooling("avg", 2, stride=1, padding=1, count_include_pad=False)


# --- losses


TARGETS = np.array([0, 3, 4, 1, 4, 2])
WEIGHT = np.array([0.5, 2.0, 1.0, 0.0, 3.0], np.float32)


def loss(weighted: bool = False, **settings: Any) -> None:
    weight = WEIGHT if weighted else None  # for which PyTorch has no gradient

    def theirs(F, logits):
        import torch

        others = {"ignore_index": -100, **settings}
        return F.cross_entropy(logits, torch.tensor(TARGETS), torch.tensor(weight) if weighted else None, **others)

    text = "".join(f", {name} {value}" for name, value in settings.items())
    case(f"cross_entropy{', weights of classes' if weighted else ''}{text}", lambda x: ops.cross_entropy(x, TARGETS, weight, **settings), theirs, (6, 5))


for weighted in (False, True):
    for reduction in REDUCTIONS:
        loss(weighted, reduction=reduction)
        loss(weighted, reduction=reduction, label_smoothing=0.2, ignore_index=4)
    loss(weighted, label_smoothing=0.1)
    loss(weighted, label_smoothing=1.0)
    loss(weighted, ignore_index=4)
for reduction in REDUCTIONS:
    case(f"binary_cross_entropy_with_logits, reduction {reduction}",
         lambda x, t, reduction=reduction: ops.binary_cross_entropy_with_logits(x, ops.sigmoid(t), reduction=reduction),
         lambda F, x, t, reduction=reduction: F.binary_cross_entropy_with_logits(x, F.sigmoid(t), reduction=reduction), (3, 4), (3, 4))
    case(f"mse, reduction {reduction}", lambda x, t, reduction=reduction: ops.mse(x, t, reduction=reduction),
         lambda F, x, t, reduction=reduction: F.mse_loss(x, t, reduction=reduction), (3, 4), (3, 4))


# --- values and gradients


def output_gradient(y: np.ndarray) -> np.ndarray:
    """Of the result: something that tells its entries apart."""
    return np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape)


def by_us(name: str) -> list[np.ndarray]:
    """The value, and the gradient of each argument."""
    ours, _, arguments = CASES[name]
    tensors = [Tensor(a, requires_grad=True) for a in arguments]
    y = ours(*tensors)
    y.backward(output_gradient(y.data))
    return [y.data, *(t.grad for t in tensors)]


def by_torch(name: str) -> list[np.ndarray]:
    import torch

    _, theirs, arguments = CASES[name]
    tensors = [torch.tensor(a, requires_grad=True) for a in arguments]
    y = theirs(torch.nn.functional, *tensors)
    y.backward(torch.tensor(output_gradient(y.detach().numpy())))
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors)]


if __name__ == "__main__":
    np.savez_compressed(REFERENCES, **{f"{name}|{i}": a for name in CASES for i, a in enumerate(by_torch(name))})
