"""Each operation of the registry with arguments, and the same in PyTorch: what operations.py compares, run by worker.py."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

IMAGE, SMALL, ROWS, LOGITS, HEADS = (64, 28, 28, 32), (64, 14, 14, 64), (768, 512), (768, 65), (12, 4, 128, 32)


class Entry(NamedTuple):
    """Arguments by their shapes; what PyTorch does with them (a, b, c, ...), None where it has nothing alike.

    layout: a letter an argument: i, a picture, whose channels PyTorch has second; w, a kernel (height, width, in, out), which PyTorch has
    as (out, in, height, width), t as (in, out, height, width); p, positive numbers; n, integers from 0 to 64; m, a mask; -, as it is.
    """

    shapes: tuple
    torch: str | None
    settings: dict[str, Any] = {}
    layout: str = ""
    differentiable: bool = True


def elementwise(*names: str, torch: str | None = None, shapes: tuple = (IMAGE,), **options: Any) -> dict[str, Entry]:
    return {name: Entry(shapes, torch or f"torch.{name}(a)", **options) for name in names}


BOTH = (IMAGE, IMAGE)
OPERATIONS: dict[str, Entry] = {
    "add": Entry(BOTH, "a + b"), "subtract": Entry(BOTH, "a - b"), "multiply": Entry(BOTH, "a * b"),
    "divide": Entry(BOTH, "a / b", layout="-p"), "power": Entry(BOTH, "a ** b", layout="p-"),
    "maximum": Entry(BOTH, "torch.maximum(a, b)"), "minimum": Entry(BOTH, "torch.minimum(a, b)"),
    "where": Entry((IMAGE, *BOTH), "torch.where(a, b, c)", layout="m--"),
    **elementwise("negative", "exp", "abs", "sin", "cos", "tanh", "sigmoid", "erf", "sign"),
    **elementwise("log", "sqrt", layout="p"),
    **elementwise("relu", "silu", "gelu", "softplus", torch="F.{name}(a)"),
    "leaky_relu": Entry((IMAGE,), "F.leaky_relu(a, 0.01)"), "identity": Entry((IMAGE,), "a.view_as(a)"),
    "dropout": Entry((IMAGE,), "F.dropout(a, 0.1)", {"p": 0.1, "seed": 1}),
    **{name: Entry(BOTH, f"a {symbol} b", differentiable=False) for name, symbol in
       {"greater": ">", "greater_equal": ">=", "less": "<", "less_equal": "<=", "equal": "==", "not_equal": "!="}.items()},
    "astype": Entry((IMAGE,), "a.double()", {"dtype": np.float64}),
    **{name: Entry((IMAGE,), f"torch.{other}(a, dim=(0, 1, 2))", {"axis": (0, 1, 2)}) for name, other in
       {"sum": "sum", "mean": "mean", "var": "var", "max": "amax", "min": "amin", "logsumexp": "logsumexp"}.items()},
    "softmax": Entry((LOGITS,), "F.softmax(a, -1)"), "log_softmax": Entry((LOGITS,), "F.log_softmax(a, -1)"),
    "broadcast_to": Entry(((32,),), "a.expand(64, 28, 28, 32)", {"shape": IMAGE}),
    "sum_to": Entry((IMAGE,), "a.sum_to_size(64, 1, 1, 32)", {"shape": (64, 1, 1, 32)}),
    "reshape": Entry((IMAGE,), "a.reshape(64, -1)", {"shape": (64, -1)}),
    "transpose": Entry((IMAGE,), "a.permute(0, 3, 1, 2)", {"axes": (0, 3, 1, 2)}),
    "swapaxes": Entry((IMAGE,), "a.swapaxes(1, 2)", {"axis1": 1, "axis2": 2}),
    "concatenate": Entry(BOTH, "torch.cat([a, b], -1)", {"axis": -1}), "stack": Entry(BOTH, "torch.stack([a, b])"),
    "getitem": Entry((IMAGE,), "a[:, 3:20]", {"index": (slice(None), slice(3, 20))}),
    "getitem_adjoint": Entry(((64, 17, 28, 32),), None, {"index": (slice(None), slice(3, 20)), "shape": IMAGE}),
    "take": Entry(((65, 128),), "a[INDICES]", {"indices": np.arange(768) % 65, "axis": 0}),
    "take_along_axis": Entry(((65, 65), (65, 1)), "torch.take_along_dim(a, b, -1)", layout="-n"),
    "take_along_axis_adjoint": Entry(((65, 1), (65, 1)), None, {"axis": -1, "shape": (65, 65)}, "-n"),
    "pad": Entry((IMAGE,), "F.pad(a, (0, 0, 1, 1, 1, 1))", {"widths": ((0, 0), (1, 1), (1, 1), (0, 0))}),
    "matmul": Entry(((768, 512), (512, 512)), "a @ b"),
    "einsum": Entry(((64, 49, 64), (64, 49, 64)), "torch.einsum('bij,bkj->bik', a, b)", {"subscripts": "bij,bkj->bik"}),
    "linear": Entry(((768, 128), (128, 512), (512,)), "F.gelu(F.linear(a, b.T, c), approximate='tanh')", {"activation": "gelu"}),
    "embedding": Entry(((65, 128), (32, 64)), "F.embedding(b, a)", layout="-n"),
    "embedding_adjoint": Entry(((32, 64, 128), (32, 64)), None, {"symbols": 65}, "-n"),
    "layer_norm": Entry((ROWS, (512,), (512,)), "F.layer_norm(a, (512,), b, c)"),
    "rms_norm": Entry((ROWS, (512,)), "F.rms_norm(a, (512,), b)"),
    "batch_norm": Entry((SMALL, (64,), (64,)), "F.batch_norm(a, None, None, b, c, True)", layout="i--"),
    "group_norm": Entry((IMAGE, (32,), (32,)), "F.silu(F.group_norm(a, 8, b, c))", {"groups": 8, "activation": "silu"}, "i--"),
    "scaled_dot_product_attention": Entry((HEADS,) * 3 + (None,), "F.scaled_dot_product_attention(a, b, c, is_causal=True)", {"is_causal": True}),
    "self_attention": Entry(((12, 128, 384),), "F.scaled_dot_product_attention(*a.view(12, 128, 3, 4, 32).permute(2, 0, 3, 1, 4), is_causal=True)"
                            ".transpose(1, 2).reshape(12, 128, 128)", {"heads": 4, "key_value_heads": 4}),
    "conv2d": Entry((IMAGE, (3, 3, 32, 32), (32,)), "F.conv2d(a, b, c, padding=1)", {"padding": 1}, "iw-"),
    "conv2d_input": Entry((IMAGE, (3, 3, 32, 32)), "F.conv_transpose2d(a, b, padding=1)", {"shape": IMAGE, "padding": 1}, "iw"),
    "conv2d_weight": Entry((IMAGE, IMAGE), "torch.nn.grad.conv2d_weight(a, (32, 32, 3, 3), b, padding=1)",
                           {"shape": (3, 3, 32, 32), "padding": 1}, "ii", False),
    "conv_transpose2d": Entry(((64, 7, 7, 128), (4, 4, 128, 64)), "F.conv_transpose2d(a, b, stride=2, padding=1)", {"stride": 2, "padding": 1}, "it"),
    "residual_conv2d": Entry((IMAGE, (3, 3, 32, 32), (32,), IMAGE), "F.conv2d(a, b, c, padding=1) + d", {"padding": 1}, "iw-i"),
    "join_upsampled": Entry((SMALL, IMAGE), "torch.cat([F.interpolate(a, scale_factor=2.0), b], 1)", layout="ii"),
    "windows": Entry((SMALL,), "F.unfold(a, 2, stride=2)", {"kernel": 2, "stride": 2}, "i"),
    "windows_adjoint": Entry(((64, 7, 7, 64, 2, 2),), None, {"shape": SMALL, "stride": 2}),
    "max_pool2d": Entry((SMALL,), "F.max_pool2d(a, 2)", {"kernel": 2}, "i"), "avg_pool2d": Entry((SMALL,), "F.avg_pool2d(a, 2)", {"kernel": 2}, "i"),
    "upsample": Entry((SMALL,), "F.interpolate(a, scale_factor=2.0)", layout="i"),
    "elman": Entry(((32, 64, 128), (32, 128), (128, 128)), None), "lstm": Entry(((32, 64, 512), (32, 256), (128, 512)), None),
    "gru": Entry(((32, 64, 384), (32, 128), (128, 384), (384,)), None),
    "cross_entropy": Entry((LOGITS, (768,)), "F.cross_entropy(a, b)", layout="-n"),
    "binary_cross_entropy_with_logits": Entry(((128, 784),) * 2, "F.binary_cross_entropy_with_logits(a, b)"),
    "mse": Entry(BOTH, "F.mse_loss(a, b)"),
    "bernoulli_log_likelihood": Entry(((128, 784),) * 2, "-F.binary_cross_entropy_with_logits(b, a, reduction='none').sum(-1)"),
    "gaussian_log_likelihood": Entry(((128, 784),) * 3, "-0.5 * (1.8378771 + c + (a - b) ** 2 * torch.exp(-c)).sum(-1)"),
    "gaussian_kl": Entry(((128, 784),) * 2 + (None, None), "0.5 * (torch.exp(b) + a * a - b - 1).sum(-1)"),
    "bernoulli_kl": Entry(((128, 784),) * 2, "(torch.sigmoid(a) * (a - b) - F.softplus(a) + F.softplus(b)).sum(-1)"),
}


def arguments(entry: Entry) -> list[np.ndarray | None]:
    rng = np.random.default_rng(0)
    arrays: list[np.ndarray | None] = []
    for shape, letter in zip(entry.shapes, entry.layout.ljust(len(entry.shapes), "-")):
        if shape is None:
            arrays.append(None)
        elif letter in "nm":
            arrays.append(rng.integers(0, 65, shape) if letter == "n" else rng.random(shape) < 0.5)
        else:
            a = rng.standard_normal(shape, np.float32)
            arrays.append(np.abs(a) + np.float32(0.1) if letter == "p" else a)
    return arrays


def zoo_step(name: str, backward: bool) -> Callable[[], Any]:
    from zoo.autograd import REGISTRY, Tensor

    entry, operation = OPERATIONS[name], REGISTRY[name]
    xs: list = [Tensor(a, requires_grad=backward) if a is not None and a.dtype == np.float32 else a for a in arguments(entry)]
    if not backward:
        return lambda: operation(*xs, **entry.settings)
    g = np.ones_like(operation(*xs, **entry.settings).data)

    def step() -> None:
        for x in xs:
            if isinstance(x, Tensor):
                x.grad = None
        operation(*xs, **entry.settings).backward(g)

    return step


def torch_step(name: str, backward: bool) -> Callable[[], Any]:
    import torch

    entry = OPERATIONS[name]
    orders = {"i": (0, 3, 1, 2), "w": (3, 2, 0, 1), "t": (2, 3, 0, 1)}
    xs = []
    for a, letter in zip(arguments(entry), entry.layout.ljust(len(entry.shapes), "-")):
        a = a if a is None or letter not in orders else np.ascontiguousarray(a.transpose(orders[letter]))
        xs.append(a if a is None else torch.from_numpy(a).requires_grad_(backward and a.dtype == np.float32))
    expression = (entry.torch or "").replace("{name}", name)
    names = {"torch": torch, "F": torch.nn.functional, "INDICES": torch.arange(768) % 65}
    run = eval(f"lambda {', '.join('abcd'[: len(xs)])}: {expression}", names)
    if not backward:
        return lambda: run(*xs)
    g = torch.ones_like(run(*xs))

    def step() -> None:
        for x in xs:
            if x is not None:
                x.grad = None
        run(*xs).backward(g)

    return step


def measure(step: Callable[[], Any], seconds: float = 0.05) -> float:
    """The median time of a call, of as many calls as fit into this many seconds, but at least three."""
    step()
    began, times = time.perf_counter(), []
    while time.perf_counter() - began < seconds or len(times) < 3:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
