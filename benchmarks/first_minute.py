"""The first minute: how long one waits for the first moving picture, whether the page moves smoothly, and what watching a training costs.

    python benchmarks/first_minute.py [waiting] [frames] [watch] [--pairs 12] [--cpu] [--json FILE]

waiting: `zoo --help` from start to end; `zoo demo` and `zoo play vae` from the command to the first pictures that the page receives, with
kernels compiled before and with an empty cache of them.  frames: the start page in headless Chromium while all five tiles move, by the
differences of requestAnimationFrame; without Chromium or selenium, left out.  watch: the same training steps with a Watcher and without one,
in turns; on a busy machine --cpu compares the process's own time, which other processes hardly affect.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent


def environment(**more: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # a package that was installed has its bytecode
    return {**ours, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])), "PYTHONUNBUFFERED": "1", **more}


class Serving:
    """`zoo demo` or `zoo play` in a process of its own, and the address that it prints."""

    def __init__(self, *command: str, **more: str):
        self.began = time.perf_counter()
        self.process = subprocess.Popen([sys.executable, "-m", "zoo", *command], env=environment(**more), stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        self.address = next(match[0] for line in self.process.stdout if (match := re.search(r"http://127\.0\.0\.1:\d+/\S*", line)))

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait()

    def first(self, path: str, body: dict, wanted: str) -> float:
        """Seconds from the command to the first line of the answer that has this key."""
        parts = urlsplit(self.address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        connection.request("POST", f"{parts.path}{path}", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        for line in answer:
            if wanted in json.loads(line):
                return time.perf_counter() - self.began
        raise RuntimeError(f"{path}: no line with {wanted!r}")


def waiting() -> dict[str, float]:
    report = {}
    times = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "zoo", "--help"], env=environment(), check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    report["zoo --help"] = min(times)
    for name, command, request in (("zoo demo", ["demo", "--no-open"], ("tiles", {}, "grow")),
                                   ("zoo play vae", ["play", "vae", "--no-open"], ("run", {"model": "vae", "seed": 0}, "step"))):
        with tempfile.TemporaryDirectory() as cache:
            for state in ("empty cache", "warm"):
                with Serving(*command, NUMBA_CACHE_DIR=cache) as server:
                    report[f"{name}, {state}"] = server.first(*request)
    for name, seconds in report.items():
        print(f"{name:28} {seconds:6.2f} s", flush=True)
    return report


def frames(seconds: float = 5.0) -> dict[str, float]:
    """Frames per second of the start page, once every tile plays."""
    try:
        from selenium import webdriver
    except ImportError:
        webdriver = None
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if webdriver is None or not chromium or not driver:
        print("frames: left out, Chromium or selenium isn't there")
        return {}
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory() as profile, Serving("demo", "--no-open") as server:
        for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "window-size=1280,900", f"user-data-dir={profile}"):
            options.add_argument("--" + flag)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            browser.set_script_timeout(120)
            browser.get(server.address)
            while not browser.execute_script("return start.tiles.every(t => t.complete)"):
                time.sleep(0.2)
            time.sleep(1)
            deltas = browser.execute_async_script("""
                const [seconds, done] = arguments, deltas = [];
                let last = null, end = performance.now() + 1000 * seconds;
                requestAnimationFrame(function frame(now) {
                    if (last !== null) deltas.push(now - last);
                    last = now;
                    if (now < end) requestAnimationFrame(frame); else done(deltas);
                });""", seconds)
        finally:
            browser.quit()
    deltas.sort()
    report = {"frames per second": 1000 * len(deltas) / sum(deltas), "median, ms": statistics.median(deltas),
              "99th percentile, ms": deltas[int(0.99 * len(deltas))]}
    print("start page: " + ", ".join(f"{name} {value:.1f}" for name, value in report.items()), flush=True)
    return report


def watch(pairs: int, clock: Callable[[], float] = time.perf_counter, seconds: float = 5.0) -> dict[str, float]:
    """A VAE's training in turns of some seconds, every other one with a Watcher; the ratio of steps per second is of neighbouring turns."""
    sys.path.insert(0, str(ROOT))
    from zoo.data import mnist
    from zoo.inspection.watching import Watcher
    from zoo.recipes import recipe_of

    recipe, data = recipe_of("vae"), mnist()
    speeds: dict[str, list[float]] = {"watched": [], "not watched": []}
    with tempfile.TemporaryDirectory() as folder:
        fields, training = recipe.settings()
        trainer = recipe.trainer(recipe.new(data, fields, 0), data, training, seed=0, folder=Path(folder))
        turns = iter(trainer)
        for _ in range(200):
            next(turns)  # compiles kernels
        watcher = Watcher(trainer, data)
        watcher(trainer, next(turns))  # its first snapshot compiles too
        for turn in range(2 * pairs):
            kind = ("watched", "not watched")[(turn + turn // 2) % 2]
            end, began, steps = time.perf_counter() + seconds, clock(), 0
            while time.perf_counter() < end:
                record = next(turns)
                if kind == "watched":
                    watcher(trainer, record)
                steps += 1
            speeds[kind].append(steps / (clock() - began))
            if kind == "not watched":  # the watcher's pauses are counted in the time that it watches
                watcher._snapshot_due += seconds
                watcher._write_due += seconds
    ratios = [n / w for w, n in zip(speeds["watched"], speeds["not watched"])]
    report = {"cost": statistics.median(ratios) - 1, "least": min(ratios) - 1, "greatest": max(ratios) - 1}
    print(f"watching costs {report['cost']:.1%} of a VAE's training (median of {pairs} pairs; {report['least']:.1%} to {report['greatest']:.1%})")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=["waiting", "frames", "watch", []], help="all of them unless given")
    parser.add_argument("--pairs", type=int, default=12, help="of turns with and without a watcher")
    parser.add_argument("--cpu", action="store_true", help="of watch: processor time instead of elapsed time")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args()
    measure = {"waiting": waiting, "frames": frames, "watch": lambda: watch(options.pairs, time.process_time if options.cpu else time.perf_counter)}
    report = {part: measure[part]() for part in options.parts or measure}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
