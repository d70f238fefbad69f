"""What a second rank brings, and how much of the sum of gradients is hidden behind backward.

    python benchmarks/ranks.py [--only unet,gpt-small] [--seconds 40] [--ranks 2] [--latency 0] [--gbit 0]

One single-threaded process and two single-threaded ranks take turns, on the cases of `speed.py`: the same whole batch, of which each rank has
half, so this is strong scaling.  The two ranks step in three ways: gradients summed while backward runs; summed when it has ended; and not
summed at all (which is no training, and what hiding everything would give).  The hidden share is

    (step that sums at the end - step that overlaps) / (step that sums at the end - step that doesn't sum)

Ranks wait for each other by asking again and again, which takes their whole core: two ranks want two cores that nobody else uses.
--latency (milliseconds) and --gbit (per second) delay the end of each sum as a network would, in this benchmark alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(ZOO_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_NUM_THREADS="1")

import cases
import numpy as np

from zoo import autograd as ops
from zoo.optim import Adam, AdamW
from zoo.parts.denoising.unet import UNet
from zoo.training.exchange import Exchange
from zoo.training.ranks import Ranks, started_by_mpi
from zoo.transformer import Transformer

WAYS = ("overlap", "at the end", "no sum")


class Delayed:
    """A communicator whose sums take `latency` seconds and `seconds_per_byte` longer, one after the other, as on one wire."""

    def __init__(self, communicator: Any, latency: float, seconds_per_byte: float):
        self.communicator, self.latency, self.seconds_per_byte = communicator, latency, seconds_per_byte
        self.free_at = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.communicator, name)

    def Iallreduce(self, first: Any, part: np.ndarray, op: Any) -> Any:
        self.free_at = max(self.free_at, time.perf_counter()) + self.latency + part.nbytes * self.seconds_per_byte
        return _Later(self.communicator.Iallreduce(first, part, op=op), self.free_at)


class _Later:
    def __init__(self, request: Any, at: float):
        self.request, self.at = request, at

    def Test(self) -> bool:
        return self.request.Test() and time.perf_counter() >= self.at

    def Wait(self) -> None:
        self.request.Wait()
        while time.perf_counter() < self.at:
            pass


def step_of(name: str, ranks: Ranks, way: str = "overlap", delay: tuple[float, float] = (0.0, 0.0)) -> tuple[Callable[[], None], int]:
    """A training step on this rank's rows, and the bytes of gradient."""
    case = cases.CASES[name]
    sizes, batch = case.sizes, {key: ranks.share(a) for key, a in cases.batch(case.kind, case.sizes).items()}
    if case.kind == "gpt":
        model: Any = Transformer.new(symbols=cases.SYMBOLS, window=sizes["time"], layers=sizes["layers"], width=sizes["width"], heads=sizes["heads"],
                                     tied=False)
        optimiser: Adam = AdamW(model.parameters(), 1e-3)
        loss = lambda: ops.cross_entropy(model(batch["ids"]), batch["targets"])
    else:
        model = UNet(1, sizes["channels"], (1, 2), 1, 0, 0, rng=np.random.default_rng(0))
        optimiser = Adam(model.parameters(), 1e-3)
        loss = lambda: ops.mse(model(batch["x"], batch["t"]), batch["noise"])
    if ranks.size > 1 and way != "no sum":
        ranks.current_weight = 1 / ranks.size
        optimiser.exchange = Exchange(optimiser, ranks, overlap=way == "overlap")
        optimiser.exchange.communicator = Delayed(optimiser.exchange.communicator, *delay)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward(done=optimiser.done)
        optimiser.step()

    return step, optimiser.flat.nbytes


def serve(names: list[str], delay: tuple[float, float]) -> None:
    """A side: reads "case way steps" a line, answers with the seconds of each step.  The first rank reads and answers."""
    ranks = started_by_mpi()
    made: dict[tuple[str, str], tuple[Callable[[], None], int]] = {}
    while True:
        line = ranks.agree(sys.stdin.readline() if ranks.is_first else None)
        if not line:
            return
        name, way, steps = line.strip().split(";")
        if (name, way) not in made:
            made[name, way] = step_of(name, ranks, way, delay)
        step, size = made[name, way]
        times = []
        for _ in range(int(steps)):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        if ranks.size > 1:
            ranks.communicator.Barrier()
        if ranks.is_first:
            print("=" + json.dumps({"times": times, "bytes": size}), flush=True)


class Side:
    def __init__(self, n: int, arguments: list[str]):
        beside = Path(sys.executable).with_name("mpiexec")
        launcher = [] if n == 1 else [str(beside) if beside.exists() else "mpiexec", "-n", str(n)]
        self.process = subprocess.Popen([*launcher, sys.executable, __file__, "--serve", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def run(self, name: str, way: str, steps: int) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{name};{way};{steps}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("="):
                return json.loads(line[1:])
        raise RuntimeError("a side ended")

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="unet,gpt-small,gpt-middle")
    parser.add_argument("--seconds", type=float, default=40, help="for each case (default: %(default)s)")
    parser.add_argument("--ranks", type=int, default=2, help="processes of one thread that are compared with one (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0, help="milliseconds that each sum takes longer")
    parser.add_argument("--gbit", type=float, default=0, help="per second of a simulated wire; 0: none")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.only.split(",")
    if options.serve:
        serve(names, (options.latency / 1e3, 8 / (options.gbit * 1e9) if options.gbit else 0.0))
        return
    passed_on = ["--latency", str(options.latency), "--gbit", str(options.gbit)]
    print(f"{'case':11} {'gradient':>9} {'one rank':>9} {f'{options.ranks} ranks':>9} {'ratio':>6} {'quartiles':>11} {'at the end':>10} "
          f"{'no sum':>9} {'hidden':>7}")
    for name in names:  # each case has its own processes: while ranks wait for a request, they take their cores
        times: dict[str, list[float]] = {way: [] for way in ("alone", *WAYS)}
        end = time.perf_counter() + options.seconds
        while time.perf_counter() < end or len(times["alone"]) < 2:
            alone = Side(1, passed_on)
            alone.run(name, "overlap", 3)
            times["alone"].append(statistics.median(alone.run(name, "overlap", 12)["times"]))
            alone.close()
            ranks = Side(options.ranks, passed_on)
            for way in WAYS:
                ranks.run(name, way, 3)
            for _ in range(2):
                for way in WAYS:
                    answer = ranks.run(name, way, 10)
                    times[way].append(statistics.median(answer["times"]))
            ranks.close()
        one, overlap, at_end, none = (statistics.median(times[way]) for way in ("alone", *WAYS))
        ratios = [a / b for a in times["alone"] for b in times["overlap"]]
        low, _, high = statistics.quantiles(ratios, n=4)
        hidden = f"{(at_end - overlap) / (at_end - none):7.0%}" if at_end > none else "      -"
        print(f"{name:11} {answer['bytes'] / 1e6:6.2f} MB {1e3 * one:6.1f} ms {1e3 * overlap:6.1f} ms {one / overlap:6.2f} {low:5.2f}-{high:<5.2f} "
              f"{1e3 * at_end:7.1f} ms {1e3 * none:6.1f} ms {hidden}", flush=True)


if __name__ == "__main__":
    main()
