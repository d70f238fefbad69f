"""Runs that are killed at any moment and resumed: each must end as if nothing had happened, bit for bit, with nothing left behind.

    python tests/kill_runs.py --kills 200 --work /dev/shm/kills      # as often as you like: it goes on where it was stopped

Every kind of model is trained once undisturbed.  Then the same command is killed, by SIGKILL for the most part, else by SIGTERM, SIGHUP
or Ctrl-C, and resumed, up to three times.  The moments are: any (`time`); just after a file was made or replaced in the folder (`watch`);
and just before one of the calls of the operating system that write, rename or remove files (`call`), of which every number is as likely
as any other.  `fresh` runs are new interpreters with kernels; the others are forks, which compute by definitions and start at once.

At the end the weights, the optimisers' states, the averages, the log, the evaluations and the card must equal those of the undisturbed
run, but for times and the command, and the folder must hold its five files and nothing else.  Commands that write one file (evaluating,
sampling, pages) are killed in the same ways and given again.  After a signal other than SIGKILL there must be no temporary file and no
traceback at once.  The suite runs a few (test_training.py).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.__main__ import main as zoo
from zoo.autograd.runtime import use_kernels
from zoo.recipes import KINDS
from zoo.storage import load_checkpoint, read_tensors

FILES = {"model.safetensors", "card.json", "checkpoint.safetensors", "log.csv", "log.json"}
CALLS = ("open", "write", "fsync", "replace", "unlink", "truncate", "mkdir", "rmdir")
PATIENCE_SECONDS = 120.0

DIGITS = "--data digits8x8 --batch-size 100"
PIXELS = "--image 8,8"
SMALL = f"--data digits.npz {PIXELS} --batch-size 8"
PLANE = "--batch-size 64 --channels 16 --blocks 1"
TEXT = "--data text.txt --steps 14 --batch-size 4 --window 16 --warm-up 3 --evaluate-every 5 --evaluate-tokens 400"
TRAINING = {  # name -> what follows `zoo train`
    "vae": f"vae {DIGITS} --hidden 12 --latent 3 --depth 1 --epochs 2",
    "vae-iwae-two-layers": f"vae {DIGITS} --preset two-layers --hidden 12,8 --latent 4,2 --samples 3 --epochs 1 --optimiser adam",
    "autoencoder": f"autoencoder {DIGITS} --hidden 16 --epochs 2",
    "vqvae": "vqvae --data pictures --channels 4 --codes 8 --width 4 --prior-width 8 --prior-layers 1 --prior-heads 1 --batch-size 9 --epochs 2",
    "classifier": f"classifier {DIGITS} {PIXELS} --channels 4 --features 8 --epochs 1",
    "gan": f"gan {DIGITS} {PIXELS} --network dense --hidden 16 --discriminator-hidden 16 --steps 12",
    "gan-wgan-gp": f"gan --preset wgan-gp --data digits8x8 --batch-size 20 {PIXELS} --network dense --hidden 16 --discriminator-hidden 16 --steps 8",
    "gan-ring": "gan --preset ring --hidden 16 --discriminator-hidden 16 --batch-size 32 --steps 12",
    "diffusion": f"diffusion --preset ddpm {SMALL} --channels 8 --multipliers 1 --heads 1 --steps 8",
    "flow": f"diffusion --preset flow {SMALL} --channels 8 --multipliers 1 --heads 1 --steps 8",
    "dit": f"diffusion --preset dit {SMALL} --channels 16 --blocks 2 --heads 2 --steps 8",
    "latent": "diffusion --preset latent --data pictures --channels 16 --blocks 1 --batch-size 16 --steps 12",
    "moons": f"diffusion --preset moons {PLANE} --steps 14",
    "moons-optimal": f"diffusion --preset moons-optimal {PLANE} --steps 14",
    "transformer": f"transformer {TEXT} --layers 2 --heads 2 --width 16 --average 0.9 --dropout 0.1",
    "transformer-adamw": f"transformer --preset nanogpt-cpu {TEXT} --layers 1 --heads 2 --width 16",
    "transformer-names": "transformer --preset names --data names.txt --steps 8 --batch-size 8 --layers 1 --heads 1 --width 8 --evaluate-every 3 --evaluate-tokens 200",
    "transformer-from": "transformer --preset nanogpt-cpu --from start --data text.txt --steps 10 --batch-size 4 --evaluate-every 4 --evaluate-tokens 400",
    "recurrent": f"recurrent {TEXT} --layers 2 --width 16 --embedding 8 --dropout 0.1",
    "recurrent-gru": f"recurrent --preset names {TEXT} --width 16 --embedding 8",
    "recurrent-rolls": "recurrent --preset rolls-elman --data rolls.json --width 8 --steps 10 --batch-size 4 --evaluate-every 4",
}
START = "transformer --preset nanogpt-cpu --data text.txt --steps 3 --batch-size 4 --layers 1 --heads 2 --width 16 --evaluate-tokens 400"
WRITING = {  # name -> a command, and the folder or file that it writes
    "evaluate": ("evaluate start --data text.txt --half --out model", "model"),
    "sample-pictures": ("sample vae -n 4 --seed 2 --out pictures.png", "pictures.png"),
    "sample-text": ("sample start -n 20 --seed 2 --out text-sample.txt", "text-sample.txt"),
    "page": ("inspect start -n 5 --out page.html", "page.html"),
}


class Kill(NamedTuple):
    """One kill: how its moment is chosen, what kind of process it meets, and the signal."""

    moment: str  # "time", "watch" or "call"
    fresh: bool
    number: int
    share: float  # of the undisturbed run's time or calls; with "watch", of the first 40 changes


# --- running a command


def prepare(work: Path) -> None:
    """The data that commands name, in the folder where they run."""
    from PIL import Image

    from zoo.data import digits8x8, mnist

    (work / "pictures").mkdir(parents=True, exist_ok=True)
    for i, (digit, label) in enumerate(zip(mnist().train[:60], mnist().train_labels[:60], strict=True)):
        (work / "pictures" / str(label)).mkdir(exist_ok=True)
        Image.fromarray((digit * 255).astype("u1")).save(work / "pictures" / str(label) / f"{i}.png")
    digits = digits8x8()
    np.savez(work / "digits.npz", x_train=digits.train[:60], y_train=digits.train_labels[:60], x_test=digits.test[:9], y_test=digits.test_labels[:9])
    words = "the cat sat on the mat and the hat lay flat where that rat had been".split()
    rng = random.Random(0)
    (work / "text.txt").write_text("\n".join(" ".join(rng.choices(words, k=8)) for _ in range(60)) + "\n")
    (work / "names.txt").write_text("".join("".join(rng.choices("abcdefgh", k=rng.randrange(3, 9))) + "\n" for _ in range(300)))
    rolls = lambda n: [[sorted(rng.sample(range(40, 80), 3)) for _ in range(12)] for _ in range(n)]
    (work / "rolls.json").write_text(json.dumps({"train": rolls(8), "valid": rolls(2), "test": rolls(2)}))


def arguments_of(name: str, out: str) -> list[str]:
    if name in WRITING:
        return WRITING[name][0].split()
    return ["train", *TRAINING[name].split(), "--quiet", "--checkpoint-every", "0", "--threads", "1", "--out", out, "--seed", "3"]


def start(arguments: list[str], work: Path, fresh: bool, at_call: Callable[[int], None] | None = None) -> int:
    """The number of a process that runs the command; what it says goes to a file."""
    if fresh:
        with open(work / "said.txt", "ab") as said:
            process = subprocess.Popen([sys.executable, "-m", "zoo", *arguments], cwd=work, stdout=said, stderr=said)
        process.returncode = 0  # `wait` waits for it by its number
        return process.pid
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as while an interpreter starts
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if child:
        return child
    status = 70
    try:
        os.chdir(work)
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        if at_call is not None:
            count_calls(at_call)
        with use_kernels(False):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            status = zoo(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def count_calls(at_call: Callable[[int], None]) -> None:
    """Call at_call(i) just before the i-th of the calls that change files."""
    done = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            at_call(done)
            return call(*arguments, **options)

        return wrapped

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def wait(process: int, seconds: float = PATIENCE_SECONDS) -> int | None:
    """The process's status as a shell counts it, negative for the signal that ended it; None if it still runs."""
    end = time.perf_counter() + seconds
    pause = 0.0002
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.perf_counter() > end:
            return None
        time.sleep(pause)
        pause = min(0.02, 1.5 * pause)


def finish(arguments: list[str], work: Path, fresh: bool) -> None:
    """Run a command to its end.  Raises RuntimeError with what it said where that isn't 0."""
    (work / "said.txt").unlink(missing_ok=True)
    process = start(arguments, work, fresh)
    status = wait(process)
    if status != 0:
        if status is None:
            os.kill(process, signal.SIGKILL)
        raise RuntimeError(f"status {status}: {(work / 'said.txt').read_text(errors='replace')[-300:]}")


# --- killing one


def killed(arguments: list[str], work: Path, folder: Path, kill: Kill, usual: dict[str, float]) -> tuple[bool, str | None]:
    """Start a command and kill it.  (whether it was still running, what was wrong at once)"""
    (work / "said.txt").unlink(missing_ok=True)
    number = max(1, round(kill.share * usual["calls"]))

    def at_call(i: int) -> None:
        if i == number:
            os.kill(os.getpid(), kill.number)

    process = start(arguments, work, kill.fresh, at_call if kill.moment == "call" else None)
    if kill.moment == "time":
        status = wait(process, kill.share * usual["fresh" if kill.fresh else "seconds"])
    elif kill.moment == "watch":
        most = 40 if "train" in arguments else 2  # a run's folder changes with every checkpoint
        status = wait_for_changes(process, folder if folder.suffix == "" else folder.parent, 1 + int(most * kill.share))
    else:
        status = wait(process)
    if status is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, kill.number)
        status = wait(process)
        if status is None:
            os.kill(process, signal.SIGKILL)
            wait(process)
            return True, f"didn't end within {PATIENCE_SECONDS:.0f} s"
    if status == 0:
        return False, None
    if kill.number == signal.SIGKILL:
        return True, None if status == -signal.SIGKILL else f"status {status}"
    text = (work / "said.txt").read_text(errors="replace")
    if status not in (128 + kill.number, -kill.number):
        return True, f"status {status}: {text[-200:]}"
    if "Traceback" in text:
        return True, f"a traceback: {text[-300:]}"
    litter = sorted(p.name for p in folder.rglob(f"*-{process}-*.tmp")) if folder.is_dir() else []
    return True, f"left {litter}" if litter else None


def wait_for_changes(process: int, folder: Path, changes: int) -> int | None:
    """Wait until the list of files in a folder was seen to change so many times; else as `wait`."""
    end = time.perf_counter() + PATIENCE_SECONDS
    before = _changed_at(folder)
    while changes > 0 and time.perf_counter() < end:
        now = _changed_at(folder)
        changes -= now != before
        before = now
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0001)
    return None


def _changed_at(folder: Path) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


# --- comparing


def result_of(path: Path) -> dict[str, Any]:
    """Everything that a command left, but for times, commands and the digest that goes with them."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    card = json.loads((path / "card.json").read_text())
    result: dict[str, Any] = {f"weights {name}": a.tobytes() for name, a in read_tensors(path).items()}
    result["card"] = {name: value for name, value in card.items() if name not in ("minutes", "command", "evaluation", "weights_sha256")}
    result["card"]["figures"].pop("seconds", None)
    if not (path / "checkpoint.safetensors").exists():
        return result
    state = load_checkpoint(path / "checkpoint.safetensors")
    log = json.loads((path / "log.json").read_text())
    lines = [line.rpartition(",")[0] for line in (path / "log.csv").read_text().splitlines()]
    timeless = lambda rows: [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    for rows in ("rows", "evaluations"):
        state[rows] = timeless(state[rows])
    state.pop("seconds")
    return {**result, "checkpoint": as_bytes(state), "log": {name: timeless(rows) for name, rows in log.items()}, "lines": lines,
            "files": sorted(p.name for p in path.iterdir())}


def as_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: as_bytes(part) for name, part in value.items()}
    if isinstance(value, list):
        return [as_bytes(part) for part in value]
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else repr(value)


def difference(a: Any, b: Any, name: str = "") -> str | None:
    """Where two results differ first."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return next((d for key in a if (d := difference(a[key], b[key], f"{name}.{key}".lstrip("."))) is not None), None)
    return None if a == b else f"{name}: {str(a)[:60]} != {str(b)[:60]}"


# --- the program


def draw(i: int, seed: int) -> tuple[str, list[Kill]]:
    """The i-th trial: a command, and the kills that it meets one after the other."""
    rng = random.Random(seed * 1_000_003 + i)
    names = [*TRAINING, *WRITING]
    name = names[i % len(names)]
    kills = []
    for _ in range(rng.choice([1, 2, 3]) if name in TRAINING else 1):
        moment = rng.choice(["time", "watch", "call"])
        fresh = moment != "call" and rng.random() < 0.3
        number = rng.choice([signal.SIGKILL] * 5 + [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
        kills.append(Kill(moment, fresh, number, rng.random()))
    return name, [kill._replace(fresh=kills[0].fresh, moment="time" if kills[0].fresh and kill.moment == "call" else kill.moment)
                  for kill in kills]  # a run with kernels is resumed with kernels


def usual_run(name: str, work: Path, fresh: bool) -> tuple[dict[str, Any], dict[str, float]]:
    """What an undisturbed run leaves, and how long and how many calls it takes; made once."""
    out = f"usual-{name}-{'fresh' if fresh else 'fork'}"
    facts = work / f"{out}.facts"
    target = work / (WRITING[name][1] if name in WRITING else out)
    kept = work / f"{out}.kept"
    if not facts.exists():
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True) if target.is_file() else None
        finish(arguments_of(name, out), work, fresh) if fresh else None  # compiles
        shutil.rmtree(target, ignore_errors=True)
        began, counter = time.perf_counter(), work / "calls.txt"
        say = lambda i: None if not counting else counter_write(i)
        counting, descriptor = True, os.open(counter, os.O_WRONLY | os.O_CREAT, 0o600)
        counter_write = lambda i: os.pwrite(descriptor, f"{i:9}".encode(), 0)
        (work / "said.txt").unlink(missing_ok=True)
        status = wait(start(arguments_of(name, out), work, fresh, None if fresh else say))
        seconds = time.perf_counter() - began
        os.close(descriptor)
        if status != 0:
            raise RuntimeError(f"{name}: status {status}: {(work / 'said.txt').read_text()[-400:]}")
        calls = 0 if fresh else int(counter.read_text())
        counter.unlink()
        (shutil.copytree if target.is_dir() else shutil.copyfile)(target, kept)
        facts.write_text(json.dumps({"seconds": seconds, "fresh": seconds, "calls": calls}))
    result = result_of(kept)
    if kept.is_file():
        result = {target.name: result[kept.name]}
    return result, json.loads(facts.read_text())


def trial(i: int, seed: int, work: Path) -> dict[str, Any]:
    """Kill, resume, and compare; what happened."""
    name, kills = draw(i, seed)
    fresh = kills[0].fresh
    expected, usual = usual_run(name, work, fresh)
    target = work / (WRITING[name][1] if name in WRITING else "run")
    shutil.rmtree(target, ignore_errors=True)
    if target.is_file():
        target.unlink()
    arguments, hits, fault = arguments_of(name, "run"), [], None
    for kill in kills:
        hit, fault = killed(arguments, work, target, kill, usual)
        if hit:
            hits.append(f"{kill.moment} {signal.Signals(kill.number).name}")
        if name in TRAINING and "--resume" not in arguments:
            arguments = [*arguments, "--resume"]
        if fault or not hit:
            break
    if fault is None:
        try:
            finish(arguments, work, fresh)
            fault = difference(expected, result_of(target))
            litter = [p.name for p in work.iterdir() if p.name.endswith(".tmp")]
            if fault is None and litter:
                fault = f"left {litter}"
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            fault = f"{type(error).__name__}: {error}"
    return {"trial": i, "name": name, "fresh": fresh, "kills": hits, "planned": [list(kill) for kill in kills], "fault": fault}


def run(kills: int, seed: int, work: Path, first: int = 0) -> list[dict[str, Any]]:
    """Trials until so many kills have met a process; each trial's outcome is a line of trials.jsonl."""
    record = work / "trials.jsonl"
    outcomes = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    import matplotlib.pyplot  # noqa: F401  (before the forks, for which it is loaded already)

    for module in (*(f"zoo.recipes.{kind}" for kind in KINDS), "zoo.inspection.inspect", "zoo.drawing.terminal", "scipy.spatial.distance", "tqdm"):
        importlib.import_module(module)
    if not (work / "start").exists():
        prepare(work)
        finish(["train", *START.split(), "--quiet", "--out", "start"], work, False)
    i = max([first, *(outcome["trial"] + 1 for outcome in outcomes)])
    while sum(len(outcome["kills"]) for outcome in outcomes) < kills:
        outcome = trial(i, seed, work)
        outcomes.append(outcome)
        with open(record, "a") as file:
            file.write(json.dumps(outcome) + "\n")
        if outcome["fault"]:
            print(f"trial {i} ({outcome['name']}, {'fresh' if outcome['fresh'] else 'fork'}, {', '.join(outcome['kills'])}): {outcome['fault']}",
                  flush=True)
        i += 1
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the runs; what was done there before counts")
    parser.add_argument("--trial", type=int, help="this one alone, to see a fault again")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, a shell ignores it for all that it starts
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one
    if options.trial is not None:
        print(json.dumps(trial(options.trial, options.seed, options.work), indent=1))
        return 0
    began = time.perf_counter()
    outcomes = run(options.kills, options.seed, options.work)
    met = Counter(kill for outcome in outcomes for kill in outcome["kills"])
    kinds = Counter(outcome["name"] for outcome in outcomes for _ in outcome["kills"])
    faults = [outcome for outcome in outcomes if outcome["fault"]]
    print("; ".join(f"{count} {kill}" for kill, count in met.most_common()))
    print("; ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    print(f"{sum(met.values())} kills in {len(outcomes)} runs, {time.perf_counter() - began:.0f} s: {len(faults)} runs not as undisturbed ones")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
