"""Steps against quality: samples of a trained diffusion or flow model with 1 to 1000 evaluations of its network, by every sampler.

    python benchmarks/steps_against_quality.py MODEL [--n 2000] [--samplers heun ddim] [--evaluations 5 10] [--json FILE] [--plot FILE]

Each row judges n samples (`zoo.evaluation.Judge`): Frechet distance and coverage, and their ratios to those of as many real training
pictures; the share of samples that are the requested digit; and the median distance to the nearest training picture, of samples and of test
pictures.  Rows with few evaluations come first.  Each is written to the JSON file at once, and a second call computes the missing rows only.
dopri5, which chooses its own steps, has a row for each tolerance instead.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

import zoo
from zoo.data import Images, load_images
from zoo.diffusion import Diffusion
from zoo.evaluation import Judge
from zoo.parts.denoising.samplers import ADAPTIVE, SAMPLERS
from zoo.storage import atomic_write
from zoo.training import minibatches

EVALUATIONS = (1, 2, 5, 10, 20, 50, 250, 1000)
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4)
COLUMNS = ("sampler", "setting", "evaluations", "frechet", "x floor", "coverage", "x floor", "asked", "nearest", "of test", "seconds")


def tasks(model: Diffusion, samplers: list[str], evaluations: list[int]) -> list[dict]:
    """Settings of `steps`, those with few evaluations first.  No row where a sampler needs more for one step, or would take more than T steps."""
    settings: list[dict] = []
    for count in sorted(evaluations):
        for sampler in samplers:
            if sampler != ADAPTIVE and 1 <= SAMPLERS[sampler].max_steps(count) <= model.config.T:
                settings.append({"sampler": sampler, "evaluations": count})
    return settings + [{"sampler": ADAPTIVE, "tolerance": t} for t in TOLERANCES if ADAPTIVE in samplers]


def draw(model: Diffusion, n: int, digits, batch: int, seed: int, **settings) -> tuple[np.ndarray, float]:
    """n samples, and the number of evaluations for each."""
    samples, evaluations = [], 0
    for part in minibatches(n, batch):
        size = part.stop - part.start
        for step in model.steps(size, seed=(seed, part.start), digit=None if digits is None else digits[part], **settings):
            evaluations += size * step.evaluations
        samples.append(model.to_pictures(step.x_previous))
    return np.concatenate(samples), evaluations / n


def line(row: dict) -> list[str]:
    setting = f"tolerance {row['tolerance']:g}" if "tolerance" in row else str(row["asked for"])
    return [row["sampler"], setting, f"{row['evaluations']:.1f}", f"{row['frechet']:.3f}", f"{row['frechet_ratio']:.2f}", f"{row['coverage']:.3f}",
            f"{row['coverage_ratio']:.3f}", f"{100 * row['asked']:.2f}%" if "asked" in row else "", f"{row['nearest_training_median']:.2f}",
            f"{row['nearest_training_floor_median']:.2f}", f"{row['seconds']:.0f}"]


def table(rows: list[dict]) -> str:
    cells = [list(COLUMNS), *map(line, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) for row in cells)


def verdict(rows: list[dict]) -> str:
    """The best with at most 10 evaluations, compared with the longest DDPM chain."""
    few = [r for r in rows if r["evaluations"] <= 10]
    chains = [r for r in rows if r["sampler"] == "ddpm"]
    if not few or not chains:
        return ""
    best, chain = min(few, key=lambda r: r["frechet"]), max(chains, key=lambda r: r["evaluations"])
    return (f"with at most 10 evaluations, {best['sampler']} ({best['evaluations']:.0f}) is best: {best['frechet'] / chain['frechet']:.2f} times "
            f"the Frechet distance of {chain['evaluations']:.0f}-step DDPM")


def plot(rows: list[dict], path: str) -> None:
    from zoo.inspection.figures import MUTED, axes

    ax = axes(None, (6.4, 4.2), "Frechet distance, in those of real pictures")
    for sampler in dict.fromkeys(r["sampler"] for r in rows):
        points = sorted((r["evaluations"], r["frechet_ratio"]) for r in rows if r["sampler"] == sampler)
        ax.plot(*zip(*points), marker="o", ms=3.5, lw=1.4, label=sampler)
    ax.axhline(1, color=MUTED, lw=0.8, ls=":")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("evaluations of the network", fontsize=9, color=MUTED)
    ax.legend(frameon=False, fontsize=8)
    ax.figure.savefig(path)


def resumed(path: Path, settings: dict) -> list[dict]:
    """The rows of an earlier call; an error if its settings were others."""
    if not path.exists():
        return []
    saved = json.loads(path.read_text())
    other = {name: value for name, value in settings.items() if saved["settings"].get(name) != value}
    if other:
        was = ", ".join(f"{name} {saved['settings'].get(name)!r}, now {value!r}" for name, value in other.items())
        raise SystemExit(f"{path} holds rows made with other settings ({was}); name another file")
    return saved["rows"]


def main(arguments: list[str] | None = None) -> None:
    names = [*SAMPLERS, ADAPTIVE]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a model that ships, or a folder")
    parser.add_argument("--n", type=int, default=2000, help="samples a row (default: %(default)s)")
    parser.add_argument("--samplers", nargs="+", choices=names, default=names, metavar="SAMPLER", help=f"some of {', '.join(names)}")
    parser.add_argument("--evaluations", nargs="+", type=int, default=list(EVALUATIONS), metavar="N")
    parser.add_argument("--guidance", type=float, help="default: the model's own")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", help="default: what the model was trained on")
    parser.add_argument("--classifier", default="classifier", help="the judge's (default: the one that ships)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, default=Path("steps-against-quality.json"), help="default: %(default)s")
    parser.add_argument("--plot", help="a .png, .svg or .pdf file")
    options = parser.parse_args(arguments)
    if options.threads:
        zoo.set_threads(options.threads)
    model = zoo.load(options.model)
    if not isinstance(model, Diffusion) or len(model.sample_shape) == 1:
        raise SystemExit(f"{options.model} is not a diffusion model of pictures; that is what is judged here")
    guidance = options.guidance if options.guidance is not None or not model.config.classes else model.config.guidance
    settings = {"model": options.model, "n": options.n, "guidance": guidance, "seed": options.seed, "batch": options.batch,
                "data": options.data or model.card.get("data"), "classifier": options.classifier}
    rows = resumed(options.json, settings)
    images = load_images(settings["data"])
    n = options.n
    if not 1 < n <= len(images.test):
        raise SystemExit(f"--n is {n}; it may go from 2 to {len(images.test)}, the number of test pictures")
    labels = None if images.test_labels is None else images.test_labels[:n]
    judge = Judge(zoo.load(options.classifier), Images(images.train, images.train_labels, images.test[:n], labels, images.name))
    digits = np.arange(n) % model.config.classes if model.config.classes else None
    done = [{name: r[name] for name in ("sampler", "asked for", "tolerance") if name in r} for r in rows]
    for task in tasks(model, options.samplers, options.evaluations):
        key = {"asked for" if name == "evaluations" else name: value for name, value in task.items()}
        if key in done:
            continue
        began = time.perf_counter()
        samples, evaluations = draw(model, n, digits, options.batch, options.seed, guidance=guidance, **task)
        row = {**key, "evaluations": evaluations, "seconds": round(time.perf_counter() - began, 1), **judge.evaluate(samples, digits)}
        rows.append(row)
        atomic_write(options.json, json.dumps({"settings": settings, "rows": rows}, indent=1).encode())
        print("  ".join(line(row)), file=sys.stderr, flush=True)
    print(table(rows))
    print(verdict(rows))
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
