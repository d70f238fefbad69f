"""How many modes of a mixture a GAN finds: the grid of 25 Gaussians and the ring of 8 (Lin et al. 2018), seed by seed.

    python benchmarks/modes.py [--toys grid ring] [--seeds 10] [--json FILE] [field=value ...]

Each seed trains the preset of that name from a fresh model and judges 2,500 samples: a sample is good within 3 deviations of a centre, and a
mode counts with one good sample.  field=value changes the preset: `clusters=0` trains without the clusters that k-means finds beforehand.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import mean

from zoo.evaluation import toy_figures
from zoo.gan import GAN, GANConfig
from zoo.recipes.gan import PRESETS, GANTraining, make_trainer
from zoo.storage import atomic_write


def run(toy: str, seed: int, changes: dict[str, str]) -> dict:
    settings = {**PRESETS[toy], **changes}
    fields = {name: value for name, value in settings.items() if name in GANConfig.__dataclass_fields__}
    model = GAN.for_data(toy, seed=seed, **fields)
    began = time.perf_counter()
    trainer = make_trainer(model, toy, GANTraining.make(**{k: v for k, v in settings.items() if k not in fields}), seed=seed)
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
    rows = []
    for toy in options.toys:
        own = []
        for seed in range(options.seeds):
            own.append(run(toy, seed, changes))
            print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in own[-1].items()), flush=True)
            rows.append(own[-1])
            if options.json:
                atomic_write(options.json, json.dumps({"changes": changes, "rows": rows}, indent=1).encode())
        means = {name: mean(row[name] for row in own) for name in ("modes", "good", "reverse_kl", "seconds")}
        print(f"{toy}, mean of {len(own)}: " + ", ".join(f"{name} {value:.4f}" for name, value in means.items()))


if __name__ == "__main__":
    main()
