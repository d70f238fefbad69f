"""Loss against compute: five sizes of the transformer and of the flow, and the exponents with their spread.

    python benchmarks/scaling_laws.py --work FOLDER [--minutes 4] [--seeds 3] [--report]

Each size is trained `--minutes` long from each seed, at a constant rate, on one thread; its held-out loss is taken along the way.  Compute is
counted, not timed: multiplications and additions of a step (`zoo.profile`) times steps.  Among all sizes the lowest loss that a given compute
reached is the frontier, to which L(C) = floor + (C / c)^-alpha is fitted (Kaplan et al. 2020, section 6; Hoffmann et al. 2022, approach 1).
The spread of alpha is that of 200 bootstraps over seeds, or over a single seed's evaluations.
What lies in FOLDER is not trained again; --report only fits.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("ZOO_THREADS", "1")

import numpy as np
from scipy.optimize import curve_fit

from zoo.autograd import no_grad
from zoo.inspection.profiling import profile
from zoo.recipes import recipe_of

LONG = 10**7  # steps: time ends a run
SIZES: dict[str, list[dict[str, Any]]] = {
    "transformer": [{"layers": layers, "width": width, "heads": 4, "window": 64, "steps": LONG, "warm_up": 50, "floor": 1.0, "batch_size": 16}
                    for layers, width in ((1, 32), (2, 48), (3, 72), (4, 104), (4, 152))],
    "flow": [{"channels": channels, "steps": LONG, "constant": True, "batch_size": 64, "average": 0.995} for channels in (8, 16, 24, 32, 40)],
}
POINTS = 12  # evaluations of a run, at even distances of ln(time)


def trained(family: str, size: int, seed: int, minutes: float) -> list[tuple[float, float]]:
    """(multiplications and additions so far, held-out loss) along one run."""
    recipe = recipe_of("transformer" if family == "transformer" else "diffusion")
    fields, training = recipe.settings("shakespeare" if family == "transformer" else "flow", **SIZES[family][size])
    data = recipe.data(None)
    model = recipe.new(data, fields, seed)
    trainer = recipe.trainer(model, data, training, seed=seed)
    records = iter(trainer)
    next(records)
    with profile(show=False) as seen:
        next(records)
    began, held_out = time.perf_counter(), 0.0
    at = np.geomspace(max(5, 60 * minutes / 100), 60 * minutes, POINTS)
    curve = []
    for record in records:
        if time.perf_counter() - began - held_out < at[len(curve)]:
            continue
        pause = time.perf_counter()
        with trainer.averaged(), no_grad():
            model.eval()
            if family == "transformer":
                loss = model.evaluate(data, max_tokens=20_000)["valid nats per token"]
            else:
                loss = float(model.error_by_t(data.test[:100], data.test_labels[:100])["loss"].mean())
            model.train()
        held_out += time.perf_counter() - pause
        curve.append((seen.flops * record.step, loss))
        if len(curve) == POINTS:
            return curve
    raise RuntimeError("the run ended by itself")


def law(compute: np.ndarray, floor: float, log_c: float, alpha: float) -> np.ndarray:
    return floor + np.exp(alpha * (log_c - np.log(compute)))


def fit(curves: list[list[tuple[float, float]]]) -> np.ndarray:
    """(floor, ln c, alpha) of the frontier of these runs."""
    points = np.array(sorted(point for curve in curves for point in curve))
    lowest = np.minimum.accumulate(points[:, 1])
    frontier = points[np.r_[True, lowest[1:] < lowest[:-1]]]
    start = [0.8 * frontier[-1, 1], float(np.log(frontier[0, 0])), 0.2]
    return curve_fit(law, frontier[:, 0], frontier[:, 1], start, bounds=([0, 0, 0.01], [frontier[-1, 1], 60, 2]), maxfev=20_000)[0]


def resampled(seeds: list[list[list[tuple[float, float]]]], rng: np.random.Generator) -> list[list[tuple[float, float]]]:
    """The runs of seeds drawn with replacement; of a single seed, evaluations drawn with replacement."""
    if len(seeds) > 1:
        return [curve for i in rng.integers(0, len(seeds), len(seeds)) for curve in seeds[i]]
    return [[curve[i] for i in rng.integers(0, len(curve), len(curve))] for curve in seeds[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4, help="of each run; there are 2 families, 5 sizes, and `seeds`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", action="store_true", help="only fit what is there")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for family, sizes in SIZES.items():
            for size in range(len(sizes)):
                path = options.work / f"{family}-{size}-{seed}.json"
                if not path.exists() and not options.report:
                    path.write_text(json.dumps(trained(family, size, seed, options.minutes)))
                    print(path.name, flush=True)
    for family, sizes in SIZES.items():
        seeds = [[json.loads(path.read_text()) for size in range(len(sizes)) if (path := options.work / f"{family}-{size}-{seed}.json").exists()]
                 for seed in range(options.seeds)]
        seeds = [curves for curves in seeds if len(curves) == len(sizes)]
        if not seeds:
            print(f"{family}: no seed is complete yet")
            continue
        rng = np.random.default_rng(0)
        floor, log_c, alpha = fit([curve for curves in seeds for curve in curves])
        spread = [fit(resampled(seeds, rng))[2] for _ in range(200)]
        low, high = np.percentile(spread, [5, 95])
        print(f"{family}: L(C) = {floor:.3f} + (C / {np.exp(log_c):.2e})^-{alpha:.3f}; alpha in 90% of bootstraps, {len(seeds)} seed(s): "
              f"{low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
