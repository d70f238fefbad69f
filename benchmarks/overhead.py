"""What Python takes of a training step: microseconds for each operation, forward or backward, outside of its kernel.

    python benchmarks/overhead.py [--only gpt-batch-1,vae-batch-8] [--steps N] [--profile]

A step is measured as it is, then with the time of every kernel taken from within (from the call of the compiled code to its return). The rest is the
engine's: arguments and shapes are checked, memory is taken, records are made, walked and freed. It is divided by the operations that ran, each
counted once forward and once backward. One thread, so that no time goes into waking others, and its processor's time, which neighbours change
little. --profile lists the functions that take most (cProfile).
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import zoo_steps
from cases import CASES, TRAINING, batch
from speed import machine

from zoo.autograd import set_threads
from zoo.autograd.operation import Operation
from zoo.autograd.runtime.compiling import Kernel
from zoo.autograd.runtime.tasks import Task

SMALL = [name for name in TRAINING if CASES[name].size == "small"]


class Overhead(NamedTuple):
    step: float  # seconds, median
    kernels: float  # seconds of a step inside compiled code
    operations: float  # in a step, forward and backward

    @property
    def microseconds(self) -> float:
        """For each operation."""
        return (self.step - self.kernels) / self.operations * 1e6


def step_of(name: str) -> Callable[[], Any]:
    case = CASES[name]
    return getattr(zoo_steps, case.kind)(batch(case.kind, case.sizes), **case.sizes)[1]


def measure(step: Callable[[], Any], steps: int) -> Overhead:
    for _ in range(3):
        step()
    seconds, inside, count = [], [], [0, 0.0]

    def counted(function: Callable) -> Callable:
        def count_call(*args: Any, **named: Any) -> Any:
            count[0] += 1
            return function(*args, **named)

        return count_call

    def timed(function: Callable) -> Callable:
        def time_call(*args: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **named)
            finally:
                count[1] += time.process_time() - began

        return time_call

    gc.disable()
    for _ in range(steps):
        began = time.process_time()
        step()
        seconds.append(time.process_time() - began)
    places: list[tuple[Any, str]] = [(Task, "run"), (Kernel, "__call__"), (Operation, "apply"), (Operation, "gradients")]
    before = [(owner, name, getattr(owner, name)) for owner, name in places]
    try:
        for owner, name, function in before:
            setattr(owner, name, (counted if owner is Operation else timed)(function))
        for _ in range(steps):
            count[1] = 0.0
            step()
            inside.append(count[1])
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)
        gc.enable()
    return Overhead(statistics.median(seconds), statistics.median(inside), count[0] / steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(SMALL), help=f"comma-separated names out of {', '.join(TRAINING)} (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="that are measured (default: %(default)s)")
    parser.add_argument("--profile", action="store_true", help="also list the functions that take most time")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    unknown = [name for name in names if name not in TRAINING]
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} isn't among {', '.join(TRAINING)}")
    set_threads(1)
    print(f"{machine(1)['cpu']}\n{'case':16} {'step ms':>8} {'in kernels':>10} {'operations':>10} {'us each':>8}")
    for name in names:
        step = step_of(name)
        o = measure(step, arguments.steps)
        print(f"{name:16} {o.step * 1e3:8.2f} {o.kernels * 1e3:10.2f} {o.operations:10.0f} {o.microseconds:8.1f}", flush=True)
        if arguments.profile:
            with cProfile.Profile() as seen:
                for _ in range(arguments.steps):
                    step()
            pstats.Stats(seen).strip_dirs().sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
