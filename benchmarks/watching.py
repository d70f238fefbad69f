"""What observation costs: records that are stored, a trace of everything, and the page in a browser.

    python benchmarks/watching.py [--tokens 200] [--seconds 2] [--cpu] [--json FILE]

The models are untrained and have the sizes of presets.  The two sides of each ratio take turns in one process; a side's figure is the
lower quartile of its turns.  The browser is headless Chromium; without it or selenium, only the page's size is reported.  On a busy
machine, --cpu measures processor time with one thread instead of elapsed time, which other processes hardly affect.  The browser's
processor time is that of all its processes; 16.7 ms per frame on one core is 60 frames per second.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import zoo
from zoo.autoencoder import Autoencoder
from zoo.autograd import no_grad
from zoo.diffusion import Diffusion
from zoo.gan import GAN
from zoo.inspection.inspect import inspect
from zoo.language.sampling import Sampling, drawn, softmax
from zoo.language.tokenizer import CharTokenizer
from zoo.model import last
from zoo.parts.denoising.samplers import SAMPLERS, times
from zoo.recurrent import Recurrent
from zoo.transformer import Transformer
from zoo.vae import VAE
from zoo.vqvae import VQVAE

clock = time.perf_counter

LETTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def text_model(kind, **fields):
    tokenizer = CharTokenizer(LETTERS)
    model = kind.new(symbols=tokenizer.size, **fields)
    model.tokenizer = tokenizer
    return model.eval()


def models() -> dict[str, tuple]:
    """name -> (model, how it generates)."""
    writer = text_model(Transformer, window=256, layers=6, heads=6, width=192, positions="rotary", norm="rms", bias=False, tied=False)
    reader = text_model(Recurrent, cell="lstm", layers=2, width=384, embedding=128)
    painter = Diffusion.new(channels=32, multipliers=(1, 2), heads=4, classes=10).eval()
    vae, gan, plain, codes = VAE.new().eval(), GAN.new(classes=10).eval(), Autoencoder.new().eval(), VQVAE.new().eval()
    return {
        "transformer, 200 tokens": (writer, lambda: writer.steps("ROMEO:", 200)),
        "LSTM, 200 tokens": (reader, lambda: reader.steps("ROMEO:", 200)),
        "diffusion, 20 steps": (painter, lambda: painter.steps(1, evaluations=20, digit=3)),
        "VAE": (vae, lambda: vae.steps(1)),
        "autoencoder": (plain, lambda: plain.steps(1)),
        "VQ-VAE": (codes, lambda: codes.steps(1)),
        "GAN": (gan, lambda: gan.steps(1, digit=3)),
    }


def bare_text(model, prompt: str, n: int) -> str:
    """Generation without records: the computation of `steps`, storing nothing but the text."""
    logits, state = model.begin(model.ids(prompt), n)
    sampling, rng, text = Sampling(), np.random.default_rng(0), prompt
    for _ in range(n):
        p = softmax(logits)
        token = drawn(sampling.choices(logits, p), rng.random())
        text += model.tokenizer.decode([token])
        logits, state = model.advance(token, state)
    return text


def bare_diffusion(model, evaluations: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, *model.config.image), np.float32)
    labels = np.array([3])
    grid = times(model.path, evaluations)
    with no_grad():
        for t, s in zip(grid, grid[1:]):
            x = SAMPLERS["ddim"].step(lambda x, at: model.denoise(x, at, labels), model.path, t, s, x, deviation=0.0).mean


def turns(a: Callable, b: Callable, seconds: float) -> tuple[float, float]:
    """The lower quartile of the times of two functions that take turns."""
    durations: tuple[list[float], list[float]] = ([], [])
    for side in (a, b):
        side()
    began = clock()
    while clock() - began < seconds or len(durations[0]) < 5:
        for side, of_side in zip((a, b), durations):
            start = clock()
            side()
            of_side.append(clock() - start)
    return tuple(statistics.quantiles(of_side, n=4)[0] for of_side in durations)  # type: ignore[return-value]


def records(seconds: float) -> dict[str, dict]:
    """Generation with its records stored, against the same without: for text and diffusion a loop without records, else one that drops them."""
    costs = {}
    bare = {"transformer, 200 tokens": lambda m: bare_text(m, "ROMEO:", 200), "LSTM, 200 tokens": lambda m: bare_text(m, "ROMEO:", 200),
            "diffusion, 20 steps": lambda m: bare_diffusion(m, 20)}
    for name, (model, steps) in models().items():
        loop = partial(bare[name], model) if name in bare else partial(_drop, steps)
        without, stored = turns(loop, partial(_store, steps), seconds)
        against = "no records" if name in bare else "records dropped"
        costs[name] = {"against": against, "without": without, "stored": stored, "cost": stored / without - 1}
        print(f"{name:26} {1e3 * without:10.2f} {1e3 * stored:10.2f} {100 * (stored / without - 1):+9.1f}%   {against}", flush=True)
    return costs


def _drop(steps: Callable) -> None:
    last(steps())


def _store(steps: Callable) -> None:
    list(steps())


def traces(seconds: float) -> dict[str, dict]:
    """One forward pass, plain and with everything traced."""
    by_family = {name.partition(",")[0]: model for name, (model, _) in models().items()}
    ids = np.random.default_rng(0).integers(0, len(LETTERS), (1, 256))
    x = np.random.default_rng(0).random((16, 28, 28), np.float32)
    passes = {
        "transformer": lambda m: m(ids), "LSTM": lambda m: m(ids),
        "diffusion": lambda m: m.predict(x, np.full(16, 0.5), np.full(16, 3)),
        "VAE": lambda m: m.decode(np.zeros((16, 50), np.float32)),
        "VQ-VAE": lambda m: m.features(x),
        "GAN": lambda m: m.generator(zoo.Tensor(m.with_labels(np.zeros((16, 64), np.float32), np.full(16, 3)))),
    }
    costs = {}
    for name, forward in passes.items():
        model = by_family[name]

        def plain(model=model, forward=forward):
            with no_grad():
                forward(model)

        def traced(model=model, forward=forward):
            with no_grad(), zoo.trace(model) as seen:
                forward(model)
            return seen

        without, with_trace = turns(plain, traced, seconds)
        ratio, values = with_trace / without, len(traced().records)
        costs[name] = {"plain": without, "traced": with_trace, "ratio": ratio, "values": values}
        print(f"{name:26} {1e3 * without:10.2f} {1e3 * with_trace:10.2f} {ratio:10.1f}   {values} values", flush=True)
    return costs


def page(tokens: int) -> dict[str, float]:
    """A page of a generated text: its size, and in a browser how long it takes to open and how many frames per second it shows."""
    model = next(iter(models().values()))[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        began = time.perf_counter()
        figures = {"MB": inspect(model, path, prompt="ROMEO:", n=tokens, temperature=0.8, top_k=20, top_p=0.95) / 1e6}
        print(f"a page of {tokens} tokens: {figures['MB']:.2f} MB, written in {time.perf_counter() - began:.1f} s")
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        try:
            from selenium import webdriver
        except ImportError:
            chromium = None
        if not chromium or not driver:
            print("no browser: the rest needs Chromium and selenium")
            return figures
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "no-first-run", "window-size=1280,900",
                     f"user-data-dir={folder}/browser"):
            options.add_argument("--" + flag)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            browser.set_script_timeout(120)
            driven = browser.service.process.pid
            opened, spent = [], []
            for _ in range(5):
                browser.get("about:blank")
                before = processor_seconds(driven)
                browser.get(path.as_uri())
                opened.append(browser.execute_async_script(DRAWN) / 1e3)
                spent.append(processor_seconds(driven) - before)
            before = processor_seconds(driven)
            rate, steps = browser.execute_async_script(PLAYED)
            cost = (processor_seconds(driven) - before) / steps
        finally:
            browser.quit()
    figures |= {"seconds to open": min(opened), "processor seconds to open": min(spent), "frames per second": rate,
                "processor seconds per step": cost}
    print(f"opened and drawn in {min(opened):.2f} s, {min(spent):.2f} s of processor time (best of 5; median {statistics.median(opened):.2f} s)")
    print(f"{rate:.0f} frames per second while steps play as fast as frames come, {1e3 * cost:.1f} ms of processor time per step")
    return figures


DRAWN = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));"
PLAYED = """
    const done = arguments[0], began = performance.now();
    let frames = 0, steps = 0;
    const go = player.go.bind(player);
    player.go = i => { steps++; go(i); };
    player.speed = 60;
    player.play(true);
    const count = now => {
        frames++;
        if (!player.playing) player.play(true);
        if (now - began < 4000) requestAnimationFrame(count);
        else { player.play(false); done([1000 * frames / (now - began), steps]); }
    };
    requestAnimationFrame(count);"""


def processor_seconds(pid: int) -> float:
    """Processor time of a process and its descendants so far (Linux; elsewhere NaN)."""
    try:
        after = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return math.nan if not Path("/proc/self/stat").exists() else 0.0
    seconds = (int(after[11]) + int(after[12])) / os.sysconf("SC_CLK_TCK")
    return seconds + sum(processor_seconds(int(child)) for child in children)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=200, help="of the page (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each ratio (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="processor time, one thread")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args()
    if not (options.tokens >= 1 and 0 < options.seconds < math.inf):
        parser.error(f"--tokens is {options.tokens}, at least 1; --seconds {options.seconds}, above 0")
    if options.cpu:
        global clock
        clock = time.process_time
        zoo.set_threads(1)
    report: dict = {"clock": "processor" if options.cpu else "elapsed", "load_before": os.getloadavg()}
    print(f"{'generation, ms':26} {'without':>10} {'stored':>10} {'cost':>10}")
    report["records"] = records(options.seconds)
    print(f"\n{'forward pass, ms':26} {'plain':>10} {'traced':>10} {'ratio':>10}")
    report["traces"] = traces(options.seconds)
    print()
    report["page"] = page(options.tokens)
    report["load_after"] = os.getloadavg()
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
