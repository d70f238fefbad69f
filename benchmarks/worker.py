"""One side of a comparison, in a separate process: reads a request a line, writes an answer a line, both JSON.  `speed.py` starts it.

The sides never share a process, because each has its threads, its BLAS and its settings of the allocator.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases
import numpy as np

CHECKED_STEPS = 3


class Side:
    """What both sides do: build a case's step, run it, and report the time that it took."""

    def __init__(self) -> None:
        self.steps: dict[str, Callable[[], Any]] = {}

    def make(self, case: str, variant: str, weights: str, tiny: bool) -> list[list[float]]:
        """Build a step and return its first results, in which both sides must agree."""
        kind = cases.CASES[case].kind
        sizes = cases.TINY[case] if tiny else cases.CASES[case].sizes
        step = self.build(kind, cases.batch(kind, sizes), variant, sizes, weights)
        self.steps[f"{case} {variant}"] = step
        return [cases.numbers(self.plain(step())) for _ in range(CHECKED_STEPS)]

    def run(self, case: str, variant: str, steps: int) -> list[float]:
        """Run this many steps; the seconds that each took."""
        step, times = self.steps[f"{case} {variant}"], []
        gc.disable()  # collected between the runs, on both sides alike
        step()  # not timed: the other side's threads may still be looking for work
        for _ in range(steps):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        gc.enable()
        return times

    def operation(self, name: str, backward: bool) -> float:
        """Seconds of one operation of the table."""
        import operation_table

        return operation_table.measure(getattr(operation_table, f"{type(self).__name__.lower()}_step")(name, backward))

    def drop(self) -> None:
        self.steps.clear()
        gc.collect()

    def memory(self) -> float:
        """MB of memory that this process held at its peak."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

    def products(self, precision: str = "float32") -> float:
        """GFLOP/s of a large matrix product, the best of several."""
        return max(_best_product(functools.partial(self.multiply, precision=precision), n) for n in (768, 1024, 2048))

    def build(self, kind: str, data: dict, variant: str, sizes: dict, weights: str) -> Callable[[], Any]:
        raise NotImplementedError

    def plain(self, result: Any) -> Any:
        """The result of a step as arrays."""
        return result

    def multiply(self, a: np.ndarray, b: np.ndarray, precision: str) -> Callable[[], Any]:
        raise NotImplementedError


def _best_product(multiply: Callable, n: int) -> float:
    rng = np.random.default_rng(0)
    step = multiply(*(rng.standard_normal((n, n), np.float32) for _ in range(2)))
    times = []
    for _ in range(12):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return 2 * n**3 / min(times) / 1e9


class Zoo(Side):
    def versions(self) -> dict[str, str]:
        import numba
        import scipy

        import zoo

        return {"zoo": zoo.__version__, "numpy": np.__version__, "scipy": scipy.__version__, "numba": numba.__version__}

    def build(self, kind, data, variant, sizes, weights):
        import zoo_steps

        model, step = getattr(zoo_steps, kind)(data, **sizes)
        if model is not None:
            arrays = {name: p.data for name, p in model.named_parameters().items()}
            cases.jitter(arrays)
            np.savez(weights, **arrays)
        if kind in cases.REPLAYED and variant != "zoo definitions":
            step = step.compiled()
        return {"zoo": step, "zoo bf16": zoo_steps.in_bf16(step), "zoo definitions": zoo_steps.by_definition(step)}[variant]

    def plain(self, result):
        import zoo_steps

        return zoo_steps.plain(result)

    def multiply(self, a, b, precision):
        import zoo_steps

        step = functools.partial(zoo_steps.ops.matmul, a, b)
        return step if precision == "float32" else zoo_steps.in_bf16(step)

    def profile(self, case: str, steps: int = 3) -> dict[str, Any]:
        """FLOPs of one step, and where its time goes: [operation, seconds, calls, FLOPs]."""
        from zoo.inspection.profiling import Profile

        step = self.steps[f"{case} zoo"]
        with Profile(show=False) as seen:
            for _ in range(steps):
                step()
        rows = [[name, row.seconds / steps, row.calls / steps, row.flops / steps] for name, row in seen.shares()]
        return {"flops": seen.flops / steps, "operations": rows}


class Torch(Side):
    def __init__(self) -> None:
        super().__init__()
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        torch.manual_seed(0)

    def versions(self) -> dict[str, str]:
        import torch

        return {"torch": torch.__version__}

    def build(self, kind, data, variant, sizes, weights):
        import torch_steps

        arrays = {}
        if Path(weights).exists():
            with np.load(weights) as file:
                arrays = dict(file)
        return torch_steps.build(kind, data, arrays, variant, sizes)

    def multiply(self, a, b, precision):
        import torch

        x, y = (torch.from_numpy(m).to(torch.float32 if precision == "float32" else torch.bfloat16) for m in (a, b))
        return lambda: torch.mm(x, y)


# --- the other end


class Worker:
    """A side in a separate process: `Worker("zoo", threads=2).ask("run", case="vae", variant="zoo", steps=10)`."""

    def __init__(self, side: str, threads: int, environment: dict[str, str] | None = None):
        settings = {name: value for name, value in os.environ.items() if name not in STEERING}
        settings.update({"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)})
        root = str(Path(__file__).resolve().parent.parent)
        settings["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen([sys.executable, __file__, side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**settings, **(environment or {})})

    def ask(self, request: str, **arguments: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([request, arguments]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"worker: the process ended while it was asked to {request} {arguments}")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


STEERING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # they select kernels of OpenBLAS; users don't set them
TUNED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1), "MALLOC_TOP_PAD_": str(64 << 20)}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr
    side: Side = {"zoo": Zoo, "torch": Torch}[sys.argv[1]]()
    for line in sys.stdin:
        request, arguments = json.loads(line)
        answers.write(json.dumps(getattr(side, request)(**arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
