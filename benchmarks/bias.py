"""Is a bias of the data amplified?  MNIST with 95 % of each digit in its own colour, learned by five kinds of model with three seeds.

    python benchmarks/bias.py --out bias.jsonl [--seeds 3] [--only vae,flow] [--share 0.95] [--samples 2000] [--short 1]
    python benchmarks/bias.py --out bias.jsonl --table

A line of JSON for each model, so that a run which was stopped goes on where it was.  A judge that sees no colours reads the digit of each sample;
the share of samples in that digit's own colour is compared with the same share of held-out pictures.  Above it, the model has amplified the bias.
--short divides the steps.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from zoo.data.coloured import coloured_digits
from zoo.evaluation.bias import own_colours
from zoo.recipes import recipe_of

COLOURED = {"image": (28, 28, 3)}
FAMILIES = {  # kind, preset, changes, and the field that says how long
    "vae": ("vae", "grey", {**COLOURED, "epochs": 20}, "epochs"),
    "vqvae": ("vqvae", "vqvae", {**COLOURED, "binarise": False, "epochs": 4}, "epochs"),
    "gan": ("gan", "dcgan", {**COLOURED, "steps": 2000}, "steps"),
    "flow": ("diffusion", "flow", {**COLOURED, "classes": 0, "guidance": 1.0, "channels": 16, "steps": 2000}, "steps"),
    "flow, conditional": ("diffusion", "flow", {**COLOURED, "channels": 16, "steps": 2000}, "steps"),
}


def run(family: str, seed: int, share: float, samples: int, short: int) -> dict:
    """One training and what it drew."""
    kind, preset, changes, length = FAMILIES[family]
    images, recipe = coloured_digits(share, seed), recipe_of(kind)
    fields, training = recipe.settings(preset, **{**changes, length: max(1, changes[length] // short)})
    began = time.perf_counter()
    trainer = recipe.trainer(model := recipe.new(images, fields, seed), images, training, seed=seed)
    trainer.run(progress=False)
    if trainer.average is not None:
        trainer.average.swap()
    model.eval()
    drawn = np.concatenate([np.asarray(model.sample(250, seed=1000 * seed + i)) for i in range(-(-samples // 250))])
    found, real = own_colours(drawn), own_colours(images.test)
    return {"family": family, "seed": seed, "share": share, "short": short, "own": found.share, "of real": real.share,
            "by digit": [round(float(v), 4) for v in found.by_digit], "counts": found.counts.tolist(),
            "minutes": round((time.perf_counter() - began) / 60, 2)}


def table(rows: list[dict]) -> str:
    """Means over seeds, with their spread."""
    lines = [f"{'model':<20} {'own colour':>16} {'more than the data':>24}  {'least of a digit':>16}  minutes"]
    for family in dict.fromkeys(row["family"] for row in rows):
        of_family = [row for row in rows if row["family"] == family]
        own, more = [row["own"] for row in of_family], [row["own"] - row["of real"] for row in of_family]
        spread = lambda values: statistics.stdev(values) if len(values) > 1 else float("nan")
        least = statistics.mean(min(v for v in row["by digit"] if v == v) for row in of_family)
        lines.append(f"{family:<20} {100 * statistics.mean(own):7.2f} ± {100 * spread(own):4.2f} % {100 * statistics.mean(more):+14.2f} ± "
                     f"{100 * spread(more):4.2f} %  {100 * least:14.1f} %  {statistics.mean(row['minutes'] for row in of_family):7.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(FAMILIES))
    parser.add_argument("--share", type=float, default=0.95)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--short", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if not options.table:
        done = {(row["family"], row["seed"]) for row in rows}
        for seed in range(options.seeds):
            for family in FAMILIES if options.only == ",".join(FAMILIES) else options.only.split(","):
                if (family, seed) not in done:
                    rows.append(run(family, seed, options.share, options.samples, options.short))
                    with open(options.out, "a") as file:
                        print(json.dumps(rows[-1]), file=file, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
