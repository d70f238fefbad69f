"""Where the time goes: time, calls, GFLOP/s and bytes of every operation, as a table and as a chart.

    with zoo.profile() as seen:              # prints the table at the end; zoo.profile(show=False) doesn't
        for _ in zip(range(20), trainer): ...
    seen.rows["linear"].seconds
    seen.plot("profile.png")

Operations run by their kernels, as without a profile.  An operation's time doesn't include operations that it calls: they have their rows.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import tensor
from ..autograd.operation import Operation
from ..optim import Optimiser

REST = "Python and NumPy between operations"


@dataclasses.dataclass
class Row:
    """What one operation, or its derivative, took in all."""

    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0  # of matrix products and convolutions (a multiplication and an addition are two); 0 for everything else
    bytes: float = 0.0  # of arguments and results, each counted once

    @property
    def gflops(self) -> float:
        """GFLOP/s"""
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gbytes(self) -> float:
        """GB/s"""
        return self.bytes / self.seconds / 1e9 if self.seconds else 0.0


class Profile:
    """The operations that ran within `with`, in all threads of this process; one profile at a time."""

    def __init__(self, show: bool = True):
        self.show = show
        self.rows: dict[str, Row] = {}
        self.seconds = 0.0
        self._inner: list[list[float]] = []  # for each call in progress: seconds and FLOPs of the operations that it called
        self._before: list[tuple[Any, str, Callable]] = []

    def __enter__(self) -> Profile:
        if getattr(Operation.apply, "profiled", False):
            raise RuntimeError("profile: another profile is running")
        self._replace(Operation, "apply", self._forward)
        self._replace(Operation, "gradients", self._backward)
        self._replace(tensor._Sums, "add", lambda run, *args: self._timed("adding up gradients", run, args))
        self._replace(Optimiser, "step", lambda run, *args: self._timed("optimiser", run, args))
        self._began = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self._began
        while self._before:
            owner, name, function = self._before.pop()
            setattr(owner, name, function)
        if self.show and error[0] is None:
            print(self)

    def _replace(self, owner: Any, name: str, around: Callable) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def profiled(*args: Any, **named: Any) -> Any:
            return around(functools.partial(function, **named), *args)

        profiled.profiled = True  # type: ignore[attr-defined]
        self._before.append((owner, name, function))
        setattr(owner, name, profiled)

    # --- what is counted

    def _forward(self, run: Callable, operation: Operation, args: Sequence, settings: dict) -> Any:
        shapes, name = [np.shape(a) for a in args], operation.__name__
        return self._timed(name, run, (operation, args, settings), args, lambda y: products(name, shapes, settings, np.shape(y)))

    def _backward(self, run: Callable, operation: Operation, g: Any, node: Any, needs: tuple, create_graph: bool) -> Any:
        shapes, name, settings, shape = [getattr(a, "shape", ()) for a in node.args], operation.__name__, node.settings, node.shape
        args, times = [g, *node.args], passes_back(name, needs)
        return self._timed(f"{name} backward", run, (operation, g, node, needs, create_graph), args,
                           lambda _: times * products(name, shapes, settings, shape))

    def _timed(self, name: str, run: Callable, call: Sequence, arrays: Sequence = (), flops: Callable | None = None) -> Any:
        inner = [0.0, 0.0]
        self._inner.append(inner)
        began = time.perf_counter()
        try:
            result = run(*call)
        finally:
            seconds = time.perf_counter() - began
            self._inner.pop()
        total_flops = max(flops(result), inner[1]) if flops else inner[1]
        if self._inner:
            self._inner[-1][0] += seconds
            self._inner[-1][1] += total_flops
        row = self.rows.setdefault(name, Row())
        row.calls += 1
        row.seconds += seconds - inner[0]
        row.flops += total_flops - inner[1]
        if arrays:
            row.bytes += sum(_bytes(a) for a in (*arrays, *(result if isinstance(result, (tuple, list)) else (result,))))
        return result

    # --- how it is displayed

    @property
    def flops(self) -> float:
        return sum(row.flops for row in self.rows.values())

    def shares(self) -> list[tuple[str, Row]]:
        """The rows, most time first, with one for the time between operations."""
        rest = Row(seconds=max(0.0, self.seconds - sum(row.seconds for row in self.rows.values())))
        return sorted([*self.rows.items(), (REST, rest)], key=lambda item: -item[1].seconds)

    def __repr__(self) -> str:
        return f"<Profile: {sum(row.calls for row in self.rows.values()):,} calls of {len(self.rows)} operations, {self.seconds * 1e3:.1f} ms>"

    def __str__(self) -> str:
        lines = [f"{'operation':36} {'ms':>9} {'share':>6} {'calls':>7} {'us a call':>9} {'GFLOP/s':>8} {'GB/s':>6}"]
        for name, row in self.shares():
            calls = f"{row.calls:7} {row.seconds / row.calls * 1e6:9.1f}" if row.calls else " " * 17
            rates = f"{row.gflops or '':8.4} {row.gbytes or '':6.3}" if row.calls else ""
            lines.append(f"{name:36} {row.seconds * 1e3:9.2f} {row.seconds / self.seconds:6.1%} {calls} {rates}".rstrip())
        return "\n".join([*lines, f"{'total':36} {self.seconds * 1e3:9.2f} {1:6.0%}   {self.flops / self.seconds / 1e9:.1f} GFLOP/s"])

    def plot(self, file: str | Path, most: int = 20) -> None:
        """The table as a bar chart."""
        from matplotlib.figure import Figure

        rows = self.shares()[:most][::-1]
        figure = Figure(figsize=(8, 1 + 0.28 * len(rows)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh([name for name, _ in rows], [row.seconds * 1e3 for _, row in rows])
        axes.bar_label(bars, [f"{row.gflops:.0f} GFLOP/s" if row.flops else f"{row.gbytes:.1f} GB/s" if row.bytes else "" for _, row in rows],
                       padding=3, fontsize="small")
        axes.set_xlabel(f"ms of {self.seconds * 1e3:.1f}")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file)


def profile(show: bool = True) -> Profile:
    """`with zoo.profile():` prints what each operation inside took."""
    return Profile(show)


# --- FLOPs of matrix products and convolutions


def products(name: str, shapes: Sequence[tuple[int, ...]], settings: dict, y: tuple[int, ...]) -> float:
    """FLOPs of the matrix products in an operation, from the shapes of its arguments and its result y; 0 where there are none."""
    if name == "matmul":
        return 2.0 * math.prod(y) * shapes[0][-1]
    if name == "linear":
        return 2.0 * math.prod(y) * shapes[1][0]
    if name in ("conv2d", "residual_conv2d"):
        return 2.0 * math.prod(y) * math.prod(shapes[1][:3])
    if name == "conv_transpose2d":
        return 2.0 * math.prod(shapes[0]) * math.prod(shapes[1]) / shapes[1][2]
    if name == "conv2d_input":
        return 2.0 * math.prod(shapes[0]) * math.prod(shapes[1][:3])
    if name == "conv2d_weight":
        return 2.0 * math.prod(shapes[1]) * math.prod(settings["shape"][:3])
    if name == "self_attention":
        batch, time, packed = shapes[0]
        width = packed // (settings["heads"] + 2 * settings["key_value_heads"])
        pairs = time * (time + 1) // 2 if settings["is_causal"] else time * time
        return 2.0 * batch * settings["heads"] * pairs * 2 * width
    if name == "scaled_dot_product_attention":
        query, key, value = shapes[:3]
        pairs = query[-2] * key[-2]
        if settings["is_causal"]:
            pairs -= query[-2] * (query[-2] - 1) // 2
        return 2.0 * math.prod(query[:-2]) * pairs * (key[-1] + value[-1])
    if name in RECURRENT:
        return 2.0 * math.prod(y[:2]) * math.prod(shapes[2])
    return 0.0


RECURRENT = ("elman", "lstm", "gru")


def passes_back(name: str, needs: tuple[bool, ...]) -> float:
    """FLOPs of a derivative as a multiple of the operation's: one product for each factor that needs a gradient."""
    if name in (*RECURRENT, "self_attention"):
        return 2.0
    if name == "scaled_dot_product_attention":
        return 2 / 3 * sum(needs[:3])
    return sum(needs[:2])


def _bytes(a: Any) -> int:
    return getattr(getattr(a, "data", None), "nbytes", 0)  # `data` is a tensor's array, or an array's buffer
