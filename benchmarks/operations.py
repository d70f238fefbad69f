"""Each operation of the registry beside PyTorch's: forward, and forward with backward.  Shows where the zoo loses.

    python benchmarks/operations.py [--only linear,conv2d] [--rounds N] [--threads N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path

from operation_table import OPERATIONS
from worker import TUNED, Worker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="comma-separated names")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each side (all cores)")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(OPERATIONS)
    unknown = [name for name in names if name not in OPERATIONS]
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} isn't in the table")
    print(f"{'operation':34} {'forward, us':>22} {'ratio':>6} {'and backward, us':>22} {'ratio':>6}")
    print(f"{'':34} {'zoo':>11}{'PyTorch':>11} {'':6} {'zoo':>11}{'PyTorch':>11}")
    report = {}
    with Worker("zoo", options.threads) as ours, Worker("torch", options.threads, TUNED) as theirs:
        for name in names:
            entry, row = OPERATIONS[name], {}
            for backward in (False, True)[: 1 + entry.differentiable]:
                rounds = [(ours.ask("operation", name=name, backward=backward),
                           theirs.ask("operation", name=name, backward=backward) if entry.torch else None) for _ in range(options.rounds)]
                row["backward" if backward else "forward"] = [statistics.median(t) if t[0] is not None else None for t in zip(*rounds)]
            report[name] = row
            print(f"{name:34} " + " ".join(_figures(times) for times in row.values()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _figures(times: list) -> str:
    mine, other = times
    return f"{mine * 1e6:11.1f}{'':11} {'':6}" if other is None else f"{mine * 1e6:11.1f}{other * 1e6:11.1f} {other / mine:6.2f}"


if __name__ == "__main__":
    main()
