"""How many modes of a mixture a GAN covers: the grid of 25 Gaussians and the ring of 8 (Lin et al. 2018), seed by seed.

    python benchmarks/modes.py [field=value ...] [--toys grid ring] [--seeds 10] [--json FILE]

Each seed trains the preset of that name from a fresh model and judges 2,500 samples: a sample is good within 3 standard deviations of a
centre, and a mode counts with one good sample.  field=value changes the preset: `clusters=0` trains without the clusters that k-means
finds beforehand.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import mean

from zoo.evaluation import toy_figures
from zoo.gan import GAN
from zoo.recipes import recipe_of
from zoo.storage import atomic_write


def run(toy: str, seed: int, changes: dict[str, str]) -> dict:
    """One training and its figures."""
    recipe = recipe_of("gan")
    fields, training = recipe.settings(toy, **changes)
    model = GAN.for_data(toy, seed=seed, **fields)
    began = time.perf_counter()
    trainer = recipe.trainer(model, toy, training, seed=seed)
    trainer.run(progress=False)
    if trainer.average is not None:
        trainer.average.swap()
    return {"toy": toy, "seed": seed, "seconds": round(time.perf_counter() - began, 1), **toy_figures(toy, model.sample(2500, seed=seed))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--toys", nargs="+", choices=("grid", "ring"), default=["grid", "ring"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("changes", nargs="*", metavar="field=value")
    options = parser.parse_args()
    changes = dict(change.split("=", 1) for change in options.changes)
    rows: list[dict] = []
    for toy in options.toys:
        for seed in range(options.seeds):
            rows.append(run(toy, seed, changes))
            print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()), flush=True)
            if options.json:
                atomic_write(options.json, json.dumps({"changes": changes, "rows": rows}, indent=1).encode())
        of_toy = rows[-options.seeds:]
        means = {name: mean(row[name] for row in of_toy) for name in ("modes", "good", "reverse_kl", "seconds")}
        print(f"{toy}, mean of {len(of_toy)}: " + ", ".join(f"{name} {value:.4f}" for name, value in means.items()))


if __name__ == "__main__":
    main()
