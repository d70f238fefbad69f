"""How near each operation of a training step is to what the machine can do (Williams, Waterman & Patterson 2009).

    python benchmarks/roofline.py [--only gpt-small,vae] [--threads N] [--steps N]
    python benchmarks/roofline.py --attention                 causal attention alone, by the length of the sequence and the width of a head
    python benchmarks/roofline.py --linear                    linear layers alone, of the sizes of GPTs and VAEs
    python benchmarks/roofline.py --products                  their products on one thread, by tiles of our own and by BLAS

An operation can't take less time than its arithmetic at the rate of the fastest large product that was measured here, nor than its arguments and
results, each read or written once, at the rate of a pass over more memory than the caches hold. The larger of the two is `possible`, and
`of it` the share that was reached. Arrays that still lie in a cache may go above 100%; Winograd's convolutions too, which need fewer
multiplications than are counted. Only products count as arithmetic, so that what an activation computes seems to be nothing but memory.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import zoo_steps
from cases import CASES, TRAINING, batch
from speed import machine

from zoo.autograd import Tensor, get_threads, linear, matmul, no_grad, round_to_bfloat16, scaled_dot_product_attention, set_threads
from zoo.autograd.kernels.products.choice import calls
from zoo.inspection.profiling import Profile, Row

PASS_FLOATS = 1 << 24  # 64 MB, more than caches hold
ADAM_PASSES = 7  # over memory: weights, gradients and both moments read, all but the gradients written
LENGTHS, HEAD_WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096), (32, 64)  # of attention alone
MOST_PLACES = 2048  # in a batch of it
# rows, inputs and outputs of linear layers alone: packed queries, keys and values, then both layers of the perceptron, of GPTs; of VAEs
LINEAR = ((768, 128, 384), (768, 128, 512), (768, 512, 128), (1024, 256, 768), (1024, 256, 1024), (1024, 1024, 256), (1024, 512, 2048),
          (256, 768, 3072), (128, 784, 400), (128, 400, 784), (512, 784, 2000))
HEADER = (f"{'operation':30} {'ms':>8} {'share':>6} {'GFLOP':>7} {'MB':>8} {'FLOP/byte':>9} {'GFLOP/s':>8} {'GB/s':>6} "
          f"{'possible ms':>11} {'of it':>6}")


class Limits(NamedTuple):
    """What the machine can do."""

    flops: float  # per second, of a large product
    bytes: float  # per second, of a pass that reads one array and writes another

    def seconds(self, row: Row) -> float:
        """The least time that an operation can take."""
        return max(row.flops / self.flops, row.bytes / self.bytes)


def fastest(step: Callable[[], Any], times: int) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def product_rate() -> float:
    """FLOP per second of a large product, now."""
    n, rng = 1024, np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n), np.float32) for _ in range(2))
    return 2 * n**3 / fastest(lambda: matmul(a, b), 12)


def limits() -> Limits:
    long = np.random.default_rng(0).standard_normal(PASS_FLOATS, np.float32)
    return Limits(product_rate(), 2 * long.nbytes / fastest(lambda: round_to_bfloat16(long), 12))


def profiled(name: str, steps: int) -> tuple[Profile, int]:
    """A profile of so many steps of a case, and the bytes of its weights."""
    case = CASES[name]
    model, step = getattr(zoo_steps, case.kind)(batch(case.kind, case.sizes), **case.sizes)
    assert model is not None
    for _ in range(3):
        step()
    with Profile(show=False) as seen:
        for _ in range(steps):
            step()
    return seen, sum(p.data.nbytes for p in model.parameters())


def line(name: str, row: Row, limit: Limits, steps: int, total: float) -> str:
    text = f"{name:30} {row.seconds / steps * 1e3:8.2f} {row.seconds / total:6.1%} "
    if not row.flops and not row.bytes:
        return text.rstrip()
    intensity = f"{row.flops / row.bytes:9.1f}" if row.flops and row.bytes else " " * 9
    gflops = f"{row.gflops:8.1f}" if row.flops else " " * 8
    possible = limit.seconds(row)
    return (f"{text}{row.flops / steps / 1e9:7.3f} {row.bytes / steps / 1e6:8.1f} {intensity} {gflops} {row.gbytes:6.1f} "
            f"{possible / steps * 1e3:11.2f} {possible / row.seconds:6.0%}")


def linear_table(limit: Limits) -> None:
    """Linear layers with a bias: one product forward, two backward, beside the greater rate of a large product right before and right after."""
    print(f"{'rows':>6} {'in':>5} {'out':>5} {'forward ms':>10} {'of it':>6} {'backward ms':>11} {'of it':>6}")
    rng = np.random.default_rng(0)
    for rows, inputs, outputs in LINEAR:
        x, w, b, g = (rng.standard_normal(shape, np.float32) for shape in ((rows, inputs), (inputs, outputs), (outputs,), (rows, outputs)))
        leaves = [Tensor(a, requires_grad=True) for a in (x, w, b)]
        flops, before = 2 * rows * inputs * outputs, product_rate()
        times = max(5, round(0.2 * limit.flops / flops / 4))
        with no_grad():
            forward = fastest(lambda: linear(x, w, b), times)  # noqa: B023
        backward = float("inf")
        for _ in range(times):
            for leaf in leaves:
                leaf.grad = None  # else the new one would be added
            y = linear(*leaves)
            backward = min(backward, fastest(lambda: y.backward(g), 1))  # noqa: B023
        product = flops / max(before, product_rate())
        print(f"{rows:6} {inputs:5} {outputs:5} {forward * 1e3:10.3f} {product / forward:6.0%} {backward * 1e3:11.3f} {2 * product / backward:6.0%}")


def products_table() -> None:
    """Both products that make a linear layer's result and gradients, as one thread gets them, by tiles and by BLAS in turns."""
    kinds = {"x W": (False, False), "g W^T": (False, True), "x^T g": (True, False)}
    print(f"{'rows':>6} {'in':>5} {'out':>5}" + "".join(f" {name:>7}: tiles  BLAS ratio" for name in kinds))
    rng = np.random.default_rng(0)
    for rows, inputs, outputs in LINEAR:
        text = f"{rows:6} {inputs:5} {outputs:5}"
        sizes = (rows, outputs, inputs), (rows, inputs, outputs), (inputs, outputs, rows)
        for (a_transposed, b_transposed), (m, n, k) in zip(kinds.values(), sizes):
            m, n = (m // 2, n) if m >= n else (m, n // 2)  # the part of one thread of two
            shapes = (k, m) if a_transposed else (m, k), (n, k) if b_transposed else (k, n)
            a, b = (rng.standard_normal(shape, np.float32) for shape in shapes)
            both = calls(a, a_transposed, b, b_transposed, np.empty((m, n), np.float32))
            times = max(8, min(60, round(6e9 / (2 * m * n * k))))
            seconds = np.array([[fastest(call, 1) for call in both] for _ in range(times)])
            tiles, blas = 2e-9 * m * n * k / np.median(seconds, axis=0)
            text += f"  {tiles:13.0f} {blas:5.0f} {np.median(seconds[:, 1] / seconds[:, 0]):5.2f}"
        print(text, flush=True)


def attention_table(limit: Limits) -> None:
    """Causal attention of four heads: the products over what a query may look at, two forward and five backward, beside a large product's rate."""
    print(f"{'time':>6} {'width':>5} {'forward ms':>10} {'of it':>6} {'backward ms':>11} {'of it':>6}")
    rng = np.random.default_rng(0)
    for width in HEAD_WIDTHS:
        for time_steps in LENGTHS:
            batch_size = max(1, MOST_PLACES // time_steps)  # so that what Python does of a call is as small a part as in a training
            q, k, v, g = (rng.standard_normal((batch_size, 4, time_steps, width), np.float32) for _ in range(4))
            leaves = [Tensor(a, requires_grad=True) for a in (q, k, v)]
            times = max(3, 2048 // time_steps)
            with no_grad():
                forward = fastest(lambda: scaled_dot_product_attention(q, k, v, is_causal=True), times)  # noqa: B023
            backward = float("inf")
            for _ in range(times):
                for leaf in leaves:
                    leaf.grad = None
                y = scaled_dot_product_attention(*leaves, is_causal=True)
                backward = min(backward, fastest(lambda: y.backward(g), 1))  # noqa: B023
            product = 4 * batch_size * time_steps * (time_steps + 1) / 2 * width * 2 / limit.flops
            print(f"{time_steps:6} {width:5} {forward * 1e3:10.2f} {2 * product / forward:6.0%} "
                  f"{backward * 1e3:11.2f} {5 * product / backward:6.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="gpt-small,vae,unet", help=f"comma-separated names out of {', '.join(TRAINING)} (default: %(default)s)")
    parser.add_argument("--attention", action="store_true", help="attention alone, by length and width")
    parser.add_argument("--linear", action="store_true", help="linear layers alone")
    parser.add_argument("--products", action="store_true", help="the products of linear layers alone, by tiles and by BLAS")
    parser.add_argument("--threads", type=int, default=get_threads(), help="how many threads compute (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="that are measured (default: %(default)s)")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    unknown = [name for name in names if name not in TRAINING]
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} isn't among {', '.join(TRAINING)}")
    set_threads(arguments.threads)
    limit = limits()
    here = machine(arguments.threads)
    print(f"{here['cpu']} ({', '.join(here['features'])}), {here['threads']} threads, load {os.getloadavg()[0]:.2f}; "
          f"large products {limit.flops / 1e9:.0f} GFLOP/s, memory {limit.bytes / 1e9:.1f} GB/s")
    if arguments.products:
        return products_table()
    if arguments.attention or arguments.linear:
        return (attention_table if arguments.attention else linear_table)(limit)
    for name in names:
        seen, weights = profiled(name, arguments.steps)
        if "optimiser" in seen.rows:
            seen.rows["optimiser"].bytes = ADAM_PASSES * weights * arguments.steps
        print(f"\n{name}: {CASES[name].title}\n{HEADER}")
        for title, row in seen.shares():
            print(line(title, row, limit, arguments.steps, seen.seconds))
        possible = sum(limit.seconds(row) for _, row in seen.shares())
        print(f"{'total':30} {seen.seconds / arguments.steps * 1e3:8.2f} {1:6.0%} {' ' * 51} {possible / arguments.steps * 1e3:11.2f} "
              f"{possible / seen.seconds:6.0%}")


if __name__ == "__main__":
    main()
