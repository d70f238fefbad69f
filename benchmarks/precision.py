"""Training in bf16 beside float32: is the loss another one, by more than the seed makes it?

    python benchmarks/precision.py [--only vae,transformer:nanogpt-cpu-best] [--steps 300] [--seeds 3] [--json FILE] [--plot FILE]

Each family trains by a preset of its recipe, the first or the one that is named, with the same seeds in both precisions. What is compared is a
run's loss: the mean of the last quarter of its steps, of what the recipe minimises first. Beside it stands the noise: the standard deviation of the
loss over the seeds in float32. A difference below the noise is one that another seed makes as well. A run in bf16 whose loss isn't finite ends the
benchmark.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.recipes import KINDS, recipe_of

FAMILIES = [kind for kind in ("autoencoder", "vae", "vqvae", "gan", "diffusion", "transformer", "recurrent") if kind in KINDS]
HEADER = f"{'family':28} {'loss':>12} {'noise':>10} {'bf16 - float32':>15} {'largest':>10} {'of noise':>9}"


class Comparison(NamedTuple):
    """What the losses of a family's runs say, a run for each seed and precision."""

    loss: float  # mean over the seeds, in float32
    noise: float  # standard deviation over the seeds, in float32
    difference: float  # mean over the seeds of bf16 - float32, seed by seed
    largest: float  # of their absolute values

    @property
    def of_noise(self) -> float:
        return abs(self.difference) / self.noise if self.noise else float("inf") if self.difference else 0.0


def curve(name: str, precision: str, seed: int, steps: int) -> list[float]:
    """The loss at each of the first steps of a run.  name: a family, or a family and a preset, `transformer:names`."""
    kind, _, preset = name.partition(":")
    recipe = recipe_of(kind)
    preset = preset or next(iter(recipe.presets))
    fields, training = recipe.settings(preset, precision=precision)
    data = recipe.data(recipe.preset_data.get(preset))
    trainer = recipe.trainer(recipe.new(data, fields, seed), data, training, seed=seed)
    losses: list[float] = []
    for record in trainer:
        losses.append(next(iter(record.losses.values())))
        if len(losses) == steps:
            break
    return losses


def end_of(losses: list[float]) -> float:
    return statistics.fmean(losses[-max(1, len(losses) // 4):])


def compared(curves: dict[str, list[list[float]]]) -> Comparison:
    """From {precision: a curve for each seed}."""
    exact, rounded = ([end_of(losses) for losses in curves[precision]] for precision in ("float32", "bf16"))
    differences = [b - a for a, b in zip(exact, rounded, strict=True)]
    return Comparison(statistics.fmean(exact), statistics.stdev(exact), statistics.fmean(differences), max(map(abs, differences)))


def line(kind: str, c: Comparison) -> str:
    return f"{kind:28} {c.loss:12.5g} {c.noise:10.2g} {c.difference:+15.2g} {c.largest:10.2g} {c.of_noise:9.2f}"


def plot(report: dict, path: Path) -> None:
    """A panel for each family: every run's loss, smoothed over a twentieth of its steps, float32 below and bf16 above."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = 4
    figure, axes = plt.subplots(-(-len(report) // columns), columns, figsize=(12, 2.6 * -(-len(report) // columns)), squeeze=False)
    for axis in axes.flat[len(report):]:
        axis.axis("off")
    for axis, (name, row) in zip(axes.flat, report.items()):
        for precision, colour, style in (("float32", "tab:blue", "-"), ("bf16", "tab:orange", ":")):
            for i, losses in enumerate(row["curves"][precision]):
                width = max(1, len(losses) // 20)
                smooth = np.convolve(losses, np.ones(width) / width, "valid")
                axis.plot(np.arange(width, len(losses) + 1), smooth, style, color=colour, lw=1.4, label=precision if i == 0 else None)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
    axes.flat[0].legend(fontsize=7)
    figure.supxlabel("step", fontsize=8)
    figure.supylabel("loss", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help=f"comma-separated families out of {', '.join(FAMILIES)}, each with a preset behind a colon or without")
    parser.add_argument("--steps", type=int, default=300, help="of each run (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each precision (default: %(default)s)")
    parser.add_argument("--plot", type=Path, help="draw all curves of --json's file, to an SVG or PNG")
    parser.add_argument("--json", type=Path, help="write every curve to this file, after each family; families it has already are read from it")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else FAMILIES
    unknown = [name for name in names if name.partition(":")[0] not in FAMILIES]
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} isn't among {', '.join(FAMILIES)}")
    if arguments.seeds < 2 or arguments.steps < 1:
        parser.error(f"--seeds is {arguments.seeds} and --steps {arguments.steps}; they are at least 2 and 1")
    print(HEADER)
    report = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
    for name in names:
        curves = report[name]["curves"] if name in report else {
            precision: [curve(name, precision, seed, arguments.steps) for seed in range(arguments.seeds)] for precision in ("float32", "bf16")}
        comparison = compared(curves)
        report[name] = {**comparison._asdict(), "curves": curves}
        print(line(name, comparison), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(report))
    if arguments.plot:
        plot(report, arguments.plot)


if __name__ == "__main__":
    main()
