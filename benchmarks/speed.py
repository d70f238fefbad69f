"""Whole training steps, and what generates, beside PyTorch.

    python benchmarks/speed.py [--only vae,unet] [--rounds N] [--threads N] [--compile] [--json FILE] [--plot FILE]

The zoo and PyTorch run in separate processes and take turns, so that other load on the machine meets both alike.  Both start
from the same weights and get the same batch and the same noise; if the losses of the first three steps differ by more than 1e-4,
nothing is reported.  PyTorch is taken at its best: the lowest of eager, its fused optimiser, channels-last memory, torch.compile
(with --compile: it takes minutes), and each of them with glibc's allocator tuned to keep what is freed.  Without PyTorch the zoo runs
alone.

Each step's floor is the time that its matrix products and convolutions would take at the speed of the fastest large matrix product
that was measured here; Winograd's convolutions need fewer multiplications than are counted, and may go below it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from cases import CASES, Case
from worker import STEERING, TUNED, Worker

TOLERANCE = 1e-4
TURN = 0.25  # seconds that a side runs before it's the other's turn


class Disagreement(Exception):
    """The two sides don't compute the same."""


class Column(NamedTuple):
    """One way to run a case: which worker, with which variant."""

    worker: str  # "zoo", "torch" or "torch, allocator tuned"
    variant: str

    @property
    def title(self) -> str:
        return self.variant + self.worker.removeprefix("torch").removeprefix("zoo")


def columns_of(case: Case, workers: list[str], compiled: bool) -> list[Column]:
    fused = "fused" if case.training else "eager"
    variants = ["eager", "fused"] if case.training else ["eager"]
    if case.convolutional:
        variants += [f"{fused}+channels-last" if case.training else "channels-last"]
    if compiled and case.compiled:
        variants += ["fused+compiled" if case.training else "compiled"]
    return [Column("zoo", "zoo")] + [Column(w, v) for w in workers if w != "zoo" for v in variants]


def compare(name: str, workers: dict[str, Worker], rounds: int, compiled: bool, peak: float) -> dict[str, Any]:
    """One row of the table."""
    case = CASES[name]
    columns = columns_of(case, list(workers), compiled)
    with tempfile.TemporaryDirectory() as folder:
        expected: list[list[float]] = []
        for column in columns:
            results = workers[column.worker].ask("make", case=name, variant=column.variant, weights=f"{folder}/weights.npz", tiny=False)
            expected = expected or results
            check_agreement(name, column.title, expected, results)
    steps: dict[Column, int] = {}
    for column in columns:  # warm-up, which also tells how many steps fill a turn
        steps[column] = max(1, round(TURN / min(run(workers, column, name, 3))))
    times: dict[Column, list[float]] = {column: [] for column in columns}
    for _ in range(rounds):
        for column in columns:
            times[column].append(statistics.median(run(workers, column, name, steps[column])))
    profile = workers["zoo"].ask("profile", case=name)
    for worker in workers.values():
        worker.ask("drop")
    row: dict[str, Any] = {
        "title": case.title, "rounds": rounds, "results_of_first_steps": expected,
        "milliseconds": {c.title: quartiles([1e3 * t for t in times[c]]) for c in columns},
        "operations": profile["operations"],
    }
    if case.kind != "decoding":  # one kernel for all layers, whose products aren't counted: it waits for the weights to be read
        floor = profile["flops"] / peak / 1e6
        row |= {"gflop": profile["flops"] / 1e9, "floor_milliseconds": floor, "share_of_floor": floor / row["milliseconds"]["zoo"][1]}
    if len(columns) > 1:
        best = min(columns[1:], key=lambda c: statistics.median(times[c]))
        row["best"] = best.title
        row["ratio"] = quartiles([theirs / mine for theirs, mine in zip(times[best], times[columns[0]])])
    return row


def run(workers: dict[str, Worker], column: Column, name: str, steps: int) -> list[float]:
    return workers[column.worker].ask("run", case=name, variant=column.variant, steps=steps)


def check_agreement(name: str, title: str, expected: list[list[float]], results: list[list[float]]) -> None:
    for i, (mine, theirs) in enumerate(zip(expected, results, strict=True)):
        for a, b in zip(mine, theirs, strict=True):
            if not abs(a - b) <= TOLERANCE * abs(b):
                raise Disagreement(f"{name}: step {i + 1} gave {a:.7g} in the zoo and {b:.7g} in PyTorch ({title}); "
                                   f"they may differ by {TOLERANCE:g} of it, so nothing is reported")


def quartiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3


def peak_memory(name: str, side: str, threads: int) -> dict[str, float]:
    """MB of a new process after three steps, and before the first."""
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/weights.npz"
        if side == "torch":
            with Worker("zoo", threads) as worker:
                worker.ask("make", case=name, variant="zoo", weights=weights, tiny=False)
        with Worker(side, threads) as worker:
            start = worker.ask("memory")
            worker.ask("make", case=name, variant="zoo" if side == "zoo" else "eager", weights=weights, tiny=False)
            return {"start": start, "peak": worker.ask("memory")}


def machine(threads: int) -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":")[1].strip() if lines else model
    return {"cpu": model, "cores": os.cpu_count(), "threads": threads, "system": platform.platform(), "python": platform.python_version()}


# --- what is shown

HEADER = (f"{'case':16} {'zoo ms':>9} {'PyTorch ms':>11}  {'its best column':38} {'ratio':>6} {'quartiles':>13} "
          f"{'floor':>8} {'share':>6} {'MB zoo':>7} {'MB torch':>8}")


def line(name: str, row: dict[str, Any]) -> str:
    text = f"{name:16} {row['milliseconds']['zoo'][1]:9.2f} "
    if "best" in row:
        low, middle, high = row["ratio"]
        text += f"{row['milliseconds'][row['best']][1]:11.2f}  {row['best']:38} {middle:6.2f} {low:6.2f}-{high:<6.2f} "
    else:
        text += " " * 73
    memory = row.get("megabytes", {})
    text += f"{row['floor_milliseconds']:8.2f} {row['share_of_floor']:6.0%} " if "gflop" in row else " " * 16
    return text + f"{memory.get('zoo', {}).get('peak', float('nan')):7.0f} {memory.get('torch', {}).get('peak', float('nan')):8.0f}"


def plot(report: dict[str, Any], file: Path) -> None:
    """How many times as fast as PyTorch at its best, with quartiles."""
    from matplotlib.figure import Figure

    rows = [(name, row["ratio"]) for name, row in report["cases"].items() if "ratio" in row][::-1]
    figure = Figure(figsize=(8, 1.2 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    middles = [ratio[1] for _, ratio in rows]
    errors = [[max(0.0, r[1] - r[0]) for _, r in rows], [max(0.0, r[2] - r[1]) for _, r in rows]]
    bars = axes.barh([name for name, _ in rows], middles, xerr=errors, color=["C0" if m >= 1 else "C3" for m in middles])
    axes.bar_label(bars, [f"{m:.2f}" for m in middles], padding=6)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times as fast as PyTorch at its best (median and quartiles)")
    axes.set_title(f"{report['machine']['cpu']}, {report['machine']['threads']} threads, torch {report['versions'].get('torch', '')}",
                   fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help=f"comma-separated names out of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each side (12)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each side (all cores)")
    parser.add_argument("--compile", action="store_true", help="also try torch.compile, which takes minutes")
    parser.add_argument("--without-torch", action="store_true", help="the zoo alone")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--plot", type=Path, help="write a picture to this file")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} isn't among {', '.join(CASES)}")
    if arguments.rounds < 1:
        parser.error(f"--rounds is {arguments.rounds}; it is at least 1")
    for name in STEERING:
        if name in os.environ:
            print(f"{name} is set here; the benchmark runs without it, as on a machine where it isn't", file=sys.stderr)
    torch = importlib.util.find_spec("torch") is not None and not arguments.without_torch
    if not torch:
        print("without PyTorch: the zoo alone (pip install 'numpy-zoo[bench]' brings it)", file=sys.stderr)
    try:
        report = measure(names, arguments.rounds, arguments.threads, arguments.compile, torch)
    except Disagreement as e:
        sys.exit(str(e))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    if arguments.plot and torch:
        plot(report, arguments.plot)


def measure(names: list[str], rounds: int, threads: int, compiled: bool, torch: bool) -> dict[str, Any]:
    report: dict[str, Any] = {"machine": machine(threads), "began": time.strftime("%Y-%m-%d %H:%M"), "load_before": os.getloadavg()}
    if report["load_before"][0] > 0.5:
        print(f"load is {report['load_before'][0]:.1f}: other processes are running, so the figures are rough", file=sys.stderr)
    workers = {"zoo": Worker("zoo", threads)}
    if torch:
        workers |= {"torch": Worker("torch", threads), "torch, allocator tuned": Worker("torch", threads, TUNED)}
    report["versions"] = {name: v for worker in list(workers.values())[:2] for name, v in worker.ask("versions").items()}
    report["peak_gflops"] = {name: worker.ask("products") for name, worker in list(workers.items())[:2]}
    peak = max(report["peak_gflops"].values())
    print(f"{report['machine']['cpu']}, {report['machine']['cores']} cores, {threads} threads; "
          + ", ".join(f"{name} {v}" for name, v in report["versions"].items()) + f"; matrix products at up to {peak:.0f} GFLOP/s")
    print(HEADER)
    report["cases"] = {}
    for name in names:
        row = report["cases"][name] = compare(name, workers, rounds, compiled, peak)
        row["megabytes"] = {side: peak_memory(name, side, threads) for side in (["zoo", "torch"] if torch else ["zoo"])}
        print(line(name, row), flush=True)
    for worker in workers.values():
        worker.close()
    ratios = [row["ratio"][1] for name, row in report["cases"].items() if "ratio" in row and CASES[name].training]
    if ratios:
        report["geometric_mean_of_training"] = statistics.geometric_mean(ratios)
        print(f"geometric mean of the training steps: {report['geometric_mean_of_training']:.2f}")
    report["load_after"] = os.getloadavg()
    print(f"load before {report['load_before'][0]:.2f}, after {report['load_after'][0]:.2f}")
    return report


if __name__ == "__main__":
    main()
