"""What Python takes of a training step: microseconds for each operation, forward or backward, outside of its kernel.

    python benchmarks/overhead.py [--only gpt-batch-1,vae-batch-8] [--steps N] [--profile]

A step is measured as it is, then with the time of every kernel taken from within (from the call of the compiled code to its return); in rows that
say "compiled" its loss is replayed (`zoo.compile`), and what is no task any more, NumPy's functions too, counts as overhead. The rest is the
engine's: arguments and shapes are checked, memory is taken, records are made, walked and freed. It is divided by the operations that ran, each
counted once forward and once backward. One thread, so that no time goes into waking others, and its processor's time, which neighbours change
little. --profile lists the functions that take most (cProfile).
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import gc
import importlib.util
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
from zoo.autograd.runtime.tasks import Call, Task

SMALL = [name for name in TRAINING if CASES[name].size == "small"]
WARM_UP = 5  # steps, of which two are recorded where the loss is compiled


class Overhead(NamedTuple):
    step: float  # seconds, median
    kernels: float  # seconds of a step inside compiled code
    operations: float  # in a step, forward and backward; 0 where they are replayed

    def microseconds(self, operations: float) -> float:
        """For each of so many operations."""
        return (self.step - self.kernels) / operations * 1e6


def step_of(name: str, compiled: bool = False) -> Callable[[], Any]:
    case = CASES[name]
    step = getattr(zoo_steps, case.kind)(batch(case.kind, case.sizes), **case.sizes)[1]
    return step.compiled() if compiled else step


def measure(make: Callable[[], Callable[[], Any]], steps: int) -> Overhead:
    """Of the step that `make` makes: once for its time as it is, once with clocks around what is compiled."""
    clock = statistics.median(-(time.process_time() - time.process_time()) for _ in range(1000))
    inside, count = [0.0, 0], [0]

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
                inside[0] += time.process_time() - began - clock

        return time_call

    def repeated(function: Callable) -> Callable:
        return lambda call: timed(function(call))

    seconds = seconds_of(make(), steps)
    places: list[tuple[Any, str, Callable]] = [(Task, "run", timed), (Call, "repeated", repeated),
                                               (Operation, "apply", counted), (Operation, "gradients", counted)]
    before = [getattr(owner, name) for owner, name, _ in places]
    kernels = []
    try:
        for (owner, name, wrap), function in zip(places, before):
            setattr(owner, name, wrap(function))
        step = make()
        for i in range(WARM_UP + steps):
            inside[0] = 0.0
            step()
            kernels.append(inside[0])
            count[0] = 0 if i < WARM_UP else count[0]
    finally:
        for (owner, name, _), function in zip(places, before):
            setattr(owner, name, function)
    return Overhead(statistics.median(seconds), statistics.median(kernels[WARM_UP:]), count[0] / steps)


def seconds_of(step: Callable[[], Any], steps: int) -> list[float]:
    for _ in range(WARM_UP):
        step()
    seconds = []
    gc.disable()
    for _ in range(steps):
        began = time.process_time()
        step()
        seconds.append(time.process_time() - began)
    gc.enable()
    return seconds


def torch_milliseconds(name: str, steps: int) -> float:
    """Of PyTorch's step in eager mode with a fused optimiser, on one thread; NaN where there is no PyTorch."""
    if importlib.util.find_spec("torch") is None:
        return float("nan")
    import torch
    import torch_steps

    torch.set_num_threads(1)
    case = CASES[name]
    data = batch(case.kind, case.sizes)
    model, _ = getattr(zoo_steps, case.kind)(data, **case.sizes)
    weights = {name: p.data for name, p in model.named_parameters().items()}
    return statistics.median(seconds_of(torch_steps.build(case.kind, data, weights, "fused", case.sizes), steps)) * 1e3


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
    print(f"{machine(1)['cpu']}\n{'case':16} {'':8} {'step ms':>8} {'in kernels':>10} {'operations':>10} {'us each':>8}")
    for name in names:
        operations = 0.0
        for compiled in (False, True):
            make = functools.partial(step_of, name, compiled)
            if compiled and not isinstance(step_of(name), zoo_steps.TrainingStep):
                continue
            o = measure(make, arguments.steps)
            operations = operations or o.operations
            print(f"{name:16} {'compiled' if compiled else 'eager':8} {o.step * 1e3:8.2f} {o.kernels * 1e3:10.2f} {operations:10.0f} "
                  f"{o.microseconds(operations):8.1f}", flush=True)
            if arguments.profile:
                step = make()
                for _ in range(WARM_UP):
                    step()
                with cProfile.Profile() as seen:
                    for _ in range(arguments.steps):
                        step()
                pstats.Stats(seen).strip_dirs().sort_stats("tottime").print_stats(25)
        print(f"{name:16} {'PyTorch':8} {torch_milliseconds(name, arguments.steps):8.2f}", flush=True)


if __name__ == "__main__":
    main()
