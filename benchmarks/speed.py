"""Whole training steps, and what generates, beside PyTorch.

    python benchmarks/speed.py [--only vae,unet] [--size small,large] [--rounds N] [--threads N] [--compile] [--bf16] [--json FILE] [--plot FILE]

The zoo and PyTorch run in separate processes and take turns, so that other load on the machine meets both alike.  Both start
from the same weights and get the same batch and the same noise, and must agree in the losses of the first three steps, or nothing is
reported: within 1e-4, or, where rounding moves them by more (Winograd's carries activations across the kinks of ReLU, and Adam's first steps
divide gradients by their size), the zoo by its definitions must be within 1e-4 of PyTorch in float64, or no more than twice as far from it as
PyTorch in float32 is, and by its kernels within 1e-2.  PyTorch is taken at its best: the lowest of eager, its fused optimiser,
channels-last memory, torch.compile (with --compile: it takes minutes), and each of them with glibc's allocator tuned to keep what is freed.
The zoo's steps are those of its recipes, which replay the recorded loss of GPTs and VAEs (`zoo.compile`).
--bf16 measures both sides with products of bfloat16 too: the zoo's `set_precision("bf16")`, PyTorch's autocast, each in a column of its own, with a
ratio of its own; that of float32 is among columns of float32.  Without PyTorch the zoo runs alone.

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

from cases import CASES, SIZES, Case
from worker import STEERING, TUNED, Worker

from zoo.autograd.runtime.processor import processor_features, processor_name

TOLERANCE = 1e-4
AMPLIFIED = 1e-2  # by kernels, of the result in float64: beyond this, it isn't rounding that the steps amplify
BF16_TOLERANCE = 3e-2  # of the zoo's results in float32: 8 bits of significand, three steps
AS_FAR = 2.0  # times as far from float64 as PyTorch's float32 may the zoo's definitions be
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

    @property
    def is_bf16(self) -> bool:
        return "bf16" in self.variant


def columns_of(case: Case, workers: list[str], compiled: bool, bf16: bool) -> list[Column]:
    fused = "fused" if case.training else "eager"
    variants = ["eager", "fused"] if case.training else ["eager"]
    if case.convolutional:
        variants += [f"{fused}+channels-last" if case.training else "channels-last"]
    if compiled and case.compiled:
        variants += ["fused+compiled" if case.training else "compiled"]
    bf16 = bf16 and case.training
    if bf16:
        variants += [f"{v}+bf16" for v in variants if v != "eager"]
    return [Column("zoo", "zoo")] + [Column("zoo", "zoo bf16")] * bf16 + [Column(w, v) for w in workers if w != "zoo" for v in variants]


def compare(name: str, workers: dict[str, Worker], rounds: int, compiled: bool, bf16: bool, peak: float) -> dict[str, Any]:
    """One row of the table."""
    case = CASES[name]
    columns = columns_of(case, list(workers), compiled, bf16)
    with tempfile.TemporaryDirectory() as folder:
        def results_of(column: Column) -> list[list[float]]:
            return workers[column.worker].ask("make", case=name, variant=column.variant, weights=f"{folder}/weights.npz", tiny=False)

        expected: list[list[float]] = []
        reference: Reference | None = None
        for column in columns:
            results = results_of(column)
            expected = expected or results
            if reference is None and not column.is_bf16 and not agree(expected, results, TOLERANCE):
                reference = Reference(results_of(Column("torch", "eager+float64")), results_of(Column("zoo", "zoo definitions")))
            check_agreement(name, column, expected, results, reference)
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
    if reference is not None:
        row |= {"results_in_float64": reference.exact, "results_of_definitions": reference.defined}
    theirs = [c for c in columns if c.worker != "zoo"]
    for key, mine, others in (("", Column("zoo", "zoo"), [c for c in theirs if not c.is_bf16]), ("_bf16", Column("zoo", "zoo bf16"), theirs)):
        if others and mine in columns:
            best = min(others, key=lambda c: statistics.median(times[c]))
            row["best" + key] = best.title
            row["ratio" + key] = quartiles([b / a for a, b in zip(times[mine], times[best])])
    return row


def run(workers: dict[str, Worker], column: Column, name: str, steps: int) -> list[float]:
    return workers[column.worker].ask("run", case=name, variant=column.variant, steps=steps)


class Reference(NamedTuple):
    """What both sides' rounding is judged by: the results of each step by PyTorch in float64, and by the zoo's definitions in float32."""

    exact: list[list[float]]
    defined: list[list[float]]


def agree(mine: list[list[float]], theirs: list[list[float]], tolerance: float) -> bool:
    return all(abs(a - b) <= tolerance * abs(b) for one, other in zip(mine, theirs, strict=True) for a, b in zip(one, other, strict=True))


def check_agreement(name: str, column: Column, expected: list[list[float]], results: list[list[float]],
                    reference: Reference | None) -> None:
    """Raise Disagreement unless both sides' results, the zoo's `expected` and the column's, are the same but for rounding.

    reference: where they aren't within the tolerance.
    """
    if column.is_bf16:
        if not agree(expected, results, BF16_TOLERANCE):
            raise Disagreement(f"{name}: {column.title} gave {results}, the zoo in float32 {expected}; "
                               f"they may differ by {BF16_TOLERANCE:g}, so nothing is reported")
        return
    for i, (mine, theirs) in enumerate(zip(expected, results, strict=True)):
        for j, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            if abs(a - b) <= TOLERANCE * abs(b):
                continue
            text = f"{name}: step {i + 1} gave {a:.7g} in the zoo and {b:.7g} in PyTorch ({column.title}); they may differ by {TOLERANCE:g} of it"
            if reference is None:
                raise Disagreement(f"{text}, so nothing is reported")
            c, d = reference.exact[i][j], reference.defined[i][j]
            if not abs(a - c) <= AMPLIFIED * abs(c) or not abs(d - c) <= max(TOLERANCE * abs(c), AS_FAR * abs(b - c)):
                raise Disagreement(f"{text}. In float64 it is {c:.10g}, by the zoo's definitions {d:.10g}: not rounding, so nothing is reported")


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
    return {"cpu": processor_name(), "features": processor_features(), "cores": os.cpu_count(), "threads": threads, "system": platform.platform(),
            "python": platform.python_version()}


# --- what is shown

def head(report: dict[str, Any]) -> list[str]:
    """Without which no figure of the table says anything: the processor, what it has, how fast each library multiplies on it, and what else ran."""
    machine = report["machine"]
    peaks = [f"{name} {value:.0f} GFLOP/s in {precision}" for precision, key in (("float32", "peak_gflops"), ("bf16", "peak_gflops_bf16"))
             for name, value in report.get(key, {}).items()]
    return [f"{machine['cpu']} ({', '.join(machine['features']) or 'no vector features that are known here'}), {machine['cores']} cores, "
            f"{machine['threads']} threads; load {report['load_before'][0]:.2f}",
            ", ".join(f"{name} {v}" for name, v in report["versions"].items()),
            f"large products: {', '.join(peaks)}"]


KINDS = {"eager": "eager, fused", "compiled": "compiled", "bf16": "bf16"}  # columns of PyTorch that are shown, each at its best


def kind_of(title: str) -> str:
    return "bf16" if "bf16" in title else "compiled" if "compiled" in title else "eager"


def header(bf16: bool) -> str:
    return (f"{'case':16} {'zoo ms':>9} " + f"{'zoo bf16':>9} " * bf16 + "".join(f"{f'torch {title}':>19} " for title in KINDS.values())
            + f" {'its best in float32':38} {'ratio':>6} {'quartiles':>13} " + f"{'bf16':>6} {'quartiles':>13} " * bf16
            + f"{'floor':>8} {'share':>6} {'MB zoo':>7} {'MB torch':>8}")


def line(name: str, row: dict[str, Any], bf16: bool) -> str:
    milliseconds = {title: values[1] for title, values in row["milliseconds"].items()}
    text = f"{name:16} {milliseconds['zoo']:9.2f} "
    if bf16:
        text += number(milliseconds.get("zoo bf16"), 9)
    for kind in KINDS:
        text += number(min((ms for title, ms in milliseconds.items() if not title.startswith("zoo") and kind_of(title) == kind), default=None), 19)
    text += f" {row.get('best', ''):38} {ratio(row, 'ratio')}" + (ratio(row, "ratio_bf16") if bf16 else "")
    memory = row.get("megabytes", {})
    text += f"{row['floor_milliseconds']:8.2f} {row['share_of_floor']:6.0%} " if "gflop" in row else " " * 16
    return text + f"{memory.get('zoo', {}).get('peak', float('nan')):7.0f} {memory.get('torch', {}).get('peak', float('nan')):8.0f}"


def number(value: float | None, width: int) -> str:
    return " " * (width + 1) if value is None else f"{value:{width}.2f} "


def ratio(row: dict[str, Any], key: str) -> str:
    if key not in row:
        return " " * 21
    low, middle, high = row[key]
    return f"{middle:6.2f} {low:6.2f}-{high:<6.2f} "


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
    parser.add_argument("--size", default="middle", help=f"without --only: which sizes, of {', '.join(SIZES)} (middle: the README's table)")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each side (12)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each side (all cores)")
    parser.add_argument("--compile", action="store_true", help="also try torch.compile, which takes minutes")
    parser.add_argument("--bf16", action="store_true", help="also measure both sides with products of bfloat16")
    parser.add_argument("--without-torch", action="store_true", help="the zoo alone")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--plot", type=Path, help="write a picture to this file")
    arguments = parser.parse_args()
    sizes = arguments.size.split(",")
    names = arguments.only.split(",") if arguments.only else [name for name, case in CASES.items() if case.size in sizes]
    for option, given, known in (("--only", names, list(CASES)), ("--size", sizes, list(SIZES))):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"{option}: {', '.join(unknown)} isn't among {', '.join(known)}")
    if arguments.rounds < 1:
        parser.error(f"--rounds is {arguments.rounds}; it is at least 1")
    for name in STEERING:
        if name in os.environ:
            print(f"{name} is set here; the benchmark runs without it, as on a machine where it isn't", file=sys.stderr)
    torch = importlib.util.find_spec("torch") is not None and not arguments.without_torch
    if not torch:
        print("without PyTorch: the zoo alone (pip install 'numpy-zoo[bench]' brings it)", file=sys.stderr)
    try:
        report = measure(names, arguments.rounds, arguments.threads, arguments.compile, arguments.bf16, torch)
    except Disagreement as e:
        sys.exit(str(e))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    if arguments.plot and torch:
        plot(report, arguments.plot)


def measure(names: list[str], rounds: int, threads: int, compiled: bool, bf16: bool, torch: bool) -> dict[str, Any]:
    report: dict[str, Any] = {"machine": machine(threads), "began": time.strftime("%Y-%m-%d %H:%M"), "load_before": os.getloadavg()}
    if report["load_before"][0] > 0.5:
        print(f"load is {report['load_before'][0]:.1f}: other processes are running, so the figures are rough", file=sys.stderr)
    workers = {"zoo": Worker("zoo", threads)}
    if torch:
        workers |= {"torch": Worker("torch", threads), "torch, allocator tuned": Worker("torch", threads, TUNED)}
    report["versions"] = {name: v for worker in list(workers.values())[:2] for name, v in worker.ask("versions").items()}
    sides = list(workers.items())[:2]
    report["peak_gflops"] = {name: worker.ask("products") for name, worker in sides}
    if bf16:
        report["peak_gflops_bf16"] = {name: worker.ask("products", precision="bf16") for name, worker in sides}
    peak = max(report["peak_gflops"].values())
    for text in head(report):
        print(text)
    print(header(bf16))
    report["cases"] = {}
    for name in names:
        row = report["cases"][name] = compare(name, workers, rounds, compiled, bf16, peak)
        row["megabytes"] = {side: peak_memory(name, side, threads) for side in (["zoo", "torch"] if torch else ["zoo"])}
        print(line(name, row, bf16), flush=True)
    for worker in workers.values():
        worker.close()
    for key, what in (("ratio", "float32"), ("ratio_bf16", "bf16, to PyTorch's best of all")):
        ratios = [row[key][1] for name, row in report["cases"].items() if key in row and CASES[name].training]
        if ratios:
            mean = report[key.replace("ratio", "geometric_mean_of_training")] = statistics.geometric_mean(ratios)
            print(f"geometric mean of {len(ratios)} training steps ({what}): {mean:.2f}, on {report['machine']['cpu']}")
    report["load_after"] = os.getloadavg()
    print(f"load before {report['load_before'][0]:.2f}, after {report['load_after'][0]:.2f}")
    return report


if __name__ == "__main__":
    main()
