"""What threads cost on a busy machine: one thread against as many as there are cores, beside 0, 2 and 8 processes that never rest.

    python benchmarks/busy.py [--neighbours 0,2,8] [--turns 7] [--threads 2] [--json FILE]

Each column of the table is a process of its own, which keeps its models; the two take turns, so that both meet the same machine.  A figure
is the median of the turns, beside it the slowest.  The last column is what is promised: two threads take no longer than one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from zoo.autograd.runtime.processor import processor_name

WORK = ("sample diffusion", "training step", "decoding")


def make_work(name: str):
    """A function without arguments that does a piece of work of a few tenths of a second."""
    import cases
    import zoo_steps

    import zoo

    if name == "sample diffusion":
        model = zoo.load("diffusion")
        return lambda: model.sample(4, seed=0)
    case = cases.CASES["gpt-small" if name == "training step" else "decoding"]
    _, step = getattr(zoo_steps, case.kind)(cases.batch(case.kind, case.sizes), **case.sizes)
    times = 3 if name == "training step" else 8
    return lambda: [step() for _ in range(times)]


def serve() -> None:
    """Do the work that each line of standard input names, and answer with the seconds."""
    work = {name: make_work(name) for name in WORK}
    for run in work.values():
        run()
        run()
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        work[line.strip()]()
        print(time.perf_counter() - began, flush=True)


def start(threads: int) -> subprocess.Popen:
    environment = {**os.environ, "ZOO_THREADS": str(threads)}
    server = subprocess.Popen([sys.executable, __file__, "--serve"], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout and server.stdout.readline() == "ready\n"
    return server


def ask(server: subprocess.Popen, name: str) -> float:
    assert server.stdin and server.stdout
    print(name, file=server.stdin, flush=True)
    return float(server.stdout.readline())


def measure(servers: list[subprocess.Popen], neighbours: int, turns: int) -> dict[str, list[list[float]]]:
    """{work: [seconds of each turn] for each server}"""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
    try:
        time.sleep(1)
        seconds = {name: [[] for _ in servers] for name in WORK}
        for turn in range(turns):
            for name in WORK:
                for i in (range(len(servers)) if turn % 2 else reversed(range(len(servers)))):
                    seconds[name][i].append(ask(servers[i], name))
        return seconds
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--neighbours", default="0,2,8", help="numbers of busy processes (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=7, help="measurements of each cell (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the second column (default: one for each core)")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba"))
    print(f"{processor_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}; Python {platform.python_version()}, {versions}")
    print(f"{'neighbours':>10}  {'work':18} {'one thread':>16} {f'{options.threads} threads':>16} {'times as long':>14}   (seconds, slowest)")
    servers = [start(1), start(options.threads)]
    report = {}
    for neighbours in map(int, options.neighbours.split(",")):
        report[neighbours] = measure(servers, neighbours, options.turns)
        for name, (one, several) in report[neighbours].items():
            a, b = statistics.median(one), statistics.median(several)
            print(f"{neighbours:10}  {name:18} {a:8.3f} ({max(one):.2f}) {b:9.3f} ({max(several):.2f}) {b / a:14.2f}", flush=True)
    for server in servers:
        server.stdin.close()
        server.wait()
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
