"""What a training step costs, by family, and what a model of it predicts for many ranks.

    python benchmarks/scaling.py [--only vae,flow] [--steps 8] [--latency 20] [--gbit 10] [--gflops 0]

Measured here, on one thread: parameters, multiplications and additions per step (of matrix products and convolutions, by `zoo.profile`), seconds
per step, seconds of the optimiser, bytes that each rank sends and receives in an Allreduce.  Predicted, for N ranks that share one batch:

    seconds(N) = (step - optimiser) / N + optimiser + wait(N)
    sum(N)     = buckets 2 log2(N) latency + 2 (N - 1) / N bytes / bandwidth        (Rabenseifner 2004: reduce-scatter, then gather)
    wait(N)    = max(sum(N) - hideable backward / N, the last bucket's share)       backward is taken as two thirds of the step

The first term divides by N only as far as there are rows, and kernels lose speed on few rows: the model is a lower bound of the time.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import statistics
import time
from typing import Any

os.environ.setdefault("ZOO_THREADS", "1")

import numpy as np

from zoo.data.images import Images
from zoo.inspection.profiling import profile
from zoo.language.corpus import Corpus
from zoo.optim import Optimiser
from zoo.recipes import recipe_of
from zoo.training.exchange import BUCKET_FLOATS, buckets_of

FAMILIES = {"vae": ("vae", "vae"), "gan": ("gan", "dcgan"), "flow": ("diffusion", "flow"), "dit": ("diffusion", "dit"),
            "transformer": ("transformer", "shakespeare"), "recurrent": ("recurrent", "shakespeare")}
RANKS = (1, 2, 4, 16, 64, 1000)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one step of one process."""

    parameters: int
    rows: int  # of a batch
    flops: float
    seconds: float
    optimiser_seconds: float
    gradient_bytes: int
    buckets: int

    def sum_seconds(self, ranks: int, latency: float, bandwidth: float) -> float:
        """Of one Allreduce of the gradient over so many ranks; latency in seconds, bandwidth in bytes per second."""
        if ranks == 1:
            return 0.0
        return self.buckets * 2 * math.log2(ranks) * latency + 2 * (ranks - 1) / ranks * self.gradient_bytes / bandwidth

    def step_seconds(self, ranks: int, latency: float, bandwidth: float) -> float:
        ranks_at_work = min(ranks, self.rows)
        work = (self.seconds - self.optimiser_seconds) / ranks_at_work
        total = self.sum_seconds(ranks_at_work, latency, bandwidth)
        wait = max(total - 2 / 3 * work * (1 - 1 / self.buckets), total / self.buckets)
        return work + self.optimiser_seconds + wait


def data_for(kind: str, recipe: Any) -> Any:
    rng = np.random.default_rng(0)
    if kind in ("transformer", "recurrent"):
        return Corpus("letters", "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz ,.\n"), 100_000)))
    x = rng.random((2048, 28, 28), np.float32)
    return Images(x, np.arange(2048) % 10, x[:8], np.arange(8), "random")


def measure(kind: str, preset: str, steps: int) -> Cost:
    recipe = recipe_of(kind)
    fields, training = recipe.settings(preset)
    data = data_for(kind, recipe)
    trainer = recipe.trainer(recipe.new(data, fields, 0), data, training)
    records = iter(trainer)
    for _ in range(2):  # compiles
        next(records)
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        next(records)
        times.append(time.perf_counter() - began)
    with profile(show=False) as seen:
        next(records)
    in_optimiser = sum(row.seconds for name, row in seen.rows.items() if name == "optimiser")
    flats: list[Optimiser] = list(trainer.optimisers.values())
    buckets = sum(len(buckets_of([p.size for p in o.parameters], o.decaying, BUCKET_FLOATS)) for o in flats)
    return Cost(trainer.model.num_parameters, training.batch_size, seen.flops, statistics.median(times), in_optimiser,
                sum(o.flat.nbytes for o in flats), buckets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(FAMILIES))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--latency", type=float, default=20, help="microseconds of a message (default: %(default)s, Ethernet; shared memory: 1)")
    parser.add_argument("--gbit", type=float, default=10, help="per second, of each rank's wire (default: %(default)s)")
    options = parser.parse_args()
    latency, bandwidth = options.latency * 1e-6, options.gbit * 1e9 / 8
    print(f"{'family':12} {'parameters':>10} {'rows':>5} {'GFLOP':>7} {'ms':>7} {'GFLOP/s':>8} {'optimiser':>9} {'MB':>6}   times faster than one "
          f"rank with {', '.join(map(str, RANKS[1:]))}")
    for name in options.only.split(","):
        cost = measure(*FAMILIES[name], options.steps)
        gains = "  ".join(f"{cost.seconds / cost.step_seconds(n, latency, bandwidth):6.2f}" for n in RANKS[1:])
        rate = cost.flops / cost.seconds / 1e9
        print(f"{name:12} {cost.parameters:10,} {cost.rows:5} {cost.flops / 1e9:7.2f} {1e3 * cost.seconds:7.1f} {rate:8.1f} "
              f"{1e3 * cost.optimiser_seconds:6.2f} ms {cost.gradient_bytes / 1e6:6.2f}   {gains}", flush=True)


if __name__ == "__main__":
    main()
