"""Runs on several ranks of which one is killed at a random moment: each ends by itself, with one line and a whole checkpoint.

    python tests/kill_ranks.py --ranks 2 --kills 20 --work FOLDER

A trial starts a small training, kills one of its ranks with SIGKILL, and asks that
  * the run ends within PATIENCE_SECONDS, with exit status 2 and one line on stderr, and no rank is left;
  * the checkpoint, if there was one, can be read;
  * the run, resumed, ends with the weights of a run that nobody disturbed, bit for bit, and nothing half-written lies about.
Every other run cuts the optimiser's state into shares.  What was done in the folder before counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from zoo.storage import load_checkpoint, read_tensors

PATIENCE_SECONDS = 60
TRAINING = ("train vae --data digits8x8 --epochs 10 --batch-size 360 --hidden 16 --latent 3 --depth 1 --optimiser adam --seed 3 --quiet "
            "--checkpoint-every 0.05").split()
AFTERWARDS = {"checkpoint.safetensors", "log.csv", "log.json", "run.lock"}


def start(work: Path, ranks: int, shard: bool, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zoo", *TRAINING, "--ranks", str(ranks), *(["--shard-optimiser"] if shard else []), *more]
    return subprocess.Popen(command, cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "ZOO_KERNELS": "0"}, start_new_session=True)


def ranks_of(pid: int) -> list[int]:
    """The processes below this one that train (Linux)."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rsplit(")", 1)[1].split()[1])
    below = {pid}
    for _ in range(4):
        below |= {child for child, parent in parents.items() if parent in below}
    return [child for child in below - {pid} if _trains(child)]


def _trains(pid: int) -> bool:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        return "zoo" in words and not any("mpiexec" in word or "hydra" in word for word in words)
    return False


def weights(folder: Path) -> dict[str, bytes]:
    return {name: a.tobytes() for name, a in read_tensors(folder).items()}


def trial(i: int, seed: int, ranks: int, work: Path, usual: dict[str, Any]) -> dict[str, Any]:
    """Kill, look, resume, compare; `fault` says what was wrong."""
    rng = random.Random(seed * 1_000_003 + i)
    shard, share, victim = bool(i % 2), rng.random(), rng.randrange(ranks)
    shutil.rmtree(work / "run", ignore_errors=True)
    process = start(work, ranks, shard, "--out", "run")
    outcome: dict[str, Any] = {"trial": i, "shard": shard, "moment": round(share, 3), "rank": victim, "hit": False, "fault": None}
    time.sleep(share * usual["seconds"])
    alive: list[int] = []
    while process.poll() is None and len(alive) < ranks:  # they may not have started yet
        alive = sorted(ranks_of(process.pid))
    with contextlib.suppress(IndexError, ProcessLookupError):
        os.kill(alive[victim], signal.SIGKILL)
        outcome["hit"] = True
    try:
        error = process.communicate(timeout=PATIENCE_SECONDS)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {**outcome, "fault": f"didn't end within {PATIENCE_SECONDS} s"}
    checkpoint = work / "run" / "checkpoint.safetensors"
    outcome |= {"status": process.returncode, "checkpoint": checkpoint.exists(), "said": error[:300]}
    if process.returncode == 0:
        return {**outcome, "hit": False}  # it had ended before
    left = [pid for pid in alive if Path(f"/proc/{pid}").exists() and _trains(pid)]
    files = {p.name for p in (work / "run").iterdir()} if (work / "run").exists() else set()
    if process.returncode != 2 or not error.startswith("zoo: ") or error.count("\n") != 1:
        return {**outcome, "fault": f"status {process.returncode}: {error[:300]!r}"}
    if left or not {name for name in files if not name.endswith(".tmp")} <= AFTERWARDS | {"model.safetensors", "card.json"}:
        return {**outcome, "fault": f"left processes {left}, files {sorted(files - AFTERWARDS)}"}  # what was being written may lie there
    if checkpoint.exists():
        try:
            load_checkpoint(checkpoint)
        except (ValueError, OSError) as e:
            return {**outcome, "fault": str(e)}
    again = start(work, ranks, shard, "--out", "run", "--resume")
    error = again.communicate(timeout=PATIENCE_SECONDS + 10 * usual["seconds"])[1]
    if again.returncode != 0:
        return {**outcome, "fault": f"resumed: {error[:300]!r}"}
    litter = [p.name for p in (work / "run").iterdir() if p.name.endswith(".tmp")]
    if litter:
        return {**outcome, "fault": f"still there after resuming: {litter}"}
    return outcome if weights(work / "run") == weights(work / "usual") else {**outcome, "fault": "other weights than a run that wasn't disturbed"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the runs")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    usual = options.work / "usual.json"
    if not usual.exists():
        shutil.rmtree(options.work / "usual", ignore_errors=True)
        began = time.perf_counter()
        process = start(options.work, options.ranks, False, "--out", "usual")
        error = process.communicate()[1]
        if process.returncode:
            raise RuntimeError(error)
        usual.write_text(json.dumps({"seconds": time.perf_counter() - began, "ranks": options.ranks}))
    record = options.work / "trials.jsonl"
    outcomes = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    facts = json.loads(usual.read_text())
    i = len(outcomes)
    while sum(outcome["hit"] for outcome in outcomes) < options.kills:
        outcomes.append(trial(i, options.seed, options.ranks, options.work, facts))
        with open(record, "a") as file:
            file.write(json.dumps(outcomes[-1]) + "\n")
        if outcomes[-1]["fault"]:
            print(outcomes[-1], flush=True)
        i += 1
    hits = [outcome for outcome in outcomes if outcome["hit"]]
    faults = [outcome for outcome in outcomes if outcome["fault"]]
    shares = np.array([outcome["moment"] for outcome in hits])
    print(f"{len(hits)} kills of one of {options.ranks} ranks, at {shares.min():.0%} to {shares.max():.0%} of a run, "
          f"{sum(outcome.get('checkpoint', False) for outcome in hits)} of them with a checkpoint there: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
