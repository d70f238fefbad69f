"""What it costs to look: records kept, a trace of everything, and the page in a browser.

    python benchmarks/watching.py [--tokens 200] [--seconds 2] [--cpu] [--json FILE]

The models are untrained and of the size of a preset, so that nothing has to be shipped for this.  The two sides of each ratio take turns
in one process; a side's figure is the lower quartile of its turns.  The browser is Chromium, headless; without it or selenium the page
is written and its size reported.  On a busy machine, --cpu takes processor time instead of time that passes, with one thread: what else
runs hardly counts then.  The browser's processor time is that of all its processes; 16.7 ms a frame on one core are 60 a second.
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
from zoo.denoising.samplers import SAMPLERS, times
from zoo.diffusion import Diffusion
from zoo.gan import GAN
from zoo.inspection.inspect import inspect
from zoo.language.sampling import Sampling, drawn, softmax
from zoo.language.tokenizer import CharTokenizer
from zoo.model import last
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
    """Writing without records: what `steps` does, and nothing that it keeps but the text."""
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
    took: tuple[list[float], list[float]] = ([], [])
    for side in (a, b):
        side()
    began = clock()
    while clock() - began < seconds or len(took[0]) < 5:
        for side, found in zip((a, b), took):
            start = clock()
            side()
            found.append(clock() - start)
    return tuple(statistics.quantiles(found, n=4)[0] for found in took)  # type: ignore[return-value]


def records(seconds: float) -> dict[str, dict]:
    """Generating with its records kept, beside the same without: for text and diffusion a loop that makes none, else one that drops them."""
    found = {}
    bare = {"transformer, 200 tokens": lambda m: bare_text(m, "ROMEO:", 200), "LSTM, 200 tokens": lambda m: bare_text(m, "ROMEO:", 200),
            "diffusion, 20 steps": lambda m: bare_diffusion(m, 20)}
    for name, (model, steps) in models().items():
        loop = partial(bare[name], model) if name in bare else partial(_dropping, steps)
        without, kept = turns(loop, partial(_keeping, steps), seconds)
        against = "no records" if name in bare else "records dropped"
        found[name] = {"against": against, "without": without, "kept": kept, "cost": kept / without - 1}
        print(f"{name:26} {1e3 * without:10.2f} {1e3 * kept:10.2f} {100 * (kept / without - 1):+8.1f} %   {against}", flush=True)
    return found


def _dropping(steps: Callable) -> None:
    last(steps())


def _keeping(steps: Callable) -> None:
    list(steps())


def traces(seconds: float) -> dict[str, dict]:
    """One forward pass, plain and with everything traced."""
    made = {name.partition(",")[0]: model for name, (model, _) in models().items()}
    ids = np.random.default_rng(0).integers(0, len(LETTERS), (1, 256))
    x = np.random.default_rng(0).random((16, 28, 28), np.float32)
    passes = {
        "transformer": lambda m: m(ids), "LSTM": lambda m: m(ids),
        "diffusion": lambda m: m.predict(x, np.full(16, 0.5), np.full(16, 3)),
        "VAE": lambda m: m.decode(np.zeros((16, 50), np.float32)),
        "VQ-VAE": lambda m: m.features(x),
        "GAN": lambda m: m.generator(zoo.Tensor(m.with_labels(np.zeros((16, 64), np.float32), np.full(16, 3)))),
    }
    found = {}
    for name, forward in passes.items():
        model = made[name]

        def plain(model=model, forward=forward):
            with no_grad():
                forward(model)

        def traced(model=model, forward=forward):
            with no_grad(), zoo.trace(model) as seen:
                forward(model)
            return seen

        without, looked = turns(plain, traced, seconds)
        found[name] = {"plain": without, "traced": looked, "ratio": looked / without, "values": len(traced().records)}
        print(f"{name:26} {1e3 * without:10.2f} {1e3 * looked:10.2f} {looked / without:10.1f}   {found[name]['values']} values", flush=True)
    return found


def page(tokens: int) -> dict[str, float]:
    """A page of so many tokens: its size, and in a browser how long it takes to open and how many frames a second it shows."""
    model = next(iter(models().values()))[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        began = time.perf_counter()
        found = {"MB": inspect(model, path, prompt="ROMEO:", n=tokens, temperature=0.8, top_k=20, top_p=0.95) / 1e6}
        print(f"a page of {tokens} tokens: {found['MB']:.2f} MB, written in {time.perf_counter() - began:.1f} s")
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        try:
            from selenium import webdriver
        except ImportError:
            chromium = None
        if not chromium or not driver:
            print("no browser: Chromium and selenium are needed for the rest")
            return found
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
    found |= {"seconds to open": min(opened), "processor seconds to open": min(spent), "frames a second": rate,
              "processor seconds a step": cost}
    print(f"opened and drawn in {min(opened):.2f} s, {min(spent):.2f} s of processor time (the best of 5; median {statistics.median(opened):.2f} s)")
    print(f"{rate:.0f} frames a second while steps are played as fast as frames come, {1e3 * cost:.1f} ms of processor time for each")
    return found


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
    """What a process and all that it started have used so far (Linux; elsewhere NaN)."""
    try:
        after = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return math.nan if not Path("/proc/self/stat").exists() else 0.0
    own = (int(after[11]) + int(after[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_seconds(int(child)) for child in children)


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
    print(f"{'generation, ms':26} {'without':>10} {'kept':>10} {'cost':>10}")
    report["records"] = records(options.seconds)
    print(f"\n{'a forward pass, ms':26} {'plain':>10} {'traced':>10} {'times':>10}")
    report["traces"] = traces(options.seconds)
    print()
    report["page"] = page(options.tokens)
    report["load_after"] = os.getloadavg()
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
