"""Does a search beat the presets?  Both train for equal processor time, three seeds each, and are measured on the test data, which the search never
looks at.

    python benchmarks/search.py --minutes 0.25 --trials 18 --out runs/benchmark-search

Processor time rather than the clock: each configuration's steps follow from the time of its own steps (`zoo search --minutes`), so that what else
the machine does changes little.  One thread.  The searches and the runs stay in the folder, and the same command goes on with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from zoo.autograd import set_threads
from zoo.language.evaluation import evaluate
from zoo.recipes import recipe_of
from zoo.recipes.search import Space, search
from zoo.recipes.search.trials import length_in, loss_on
from zoo.storage import atomic_write

SPACES = {
    "recurrent": ("names", "width=64..320:32,embedding=16..64:16,cell=gru|lstm,batch_size=32..256:32,lr=1e-3..2e-2,dropout=0..0.3,"
                           "weight_decay=1e-3..0.3"),
    "autoencoder": ("autoencoder", "hidden=256,128|512,256|512|1024,256|1024|1024,512,activation=tanh|relu|gelu|silu|leaky_relu,"
                                   "batch_size=32..512:32,lr=2e-4..1e-2"),
}
DATA = {"recurrent": "names", "autoencoder": "mnist"}


def tested(kind: str, fields: dict, seed: int, length: dict[str, int]) -> float:
    """The score on the test data of a run with this seed: nats per character, or per picture."""
    recipe = recipe_of(kind)
    data = recipe.data(DATA[kind])
    of_model, settings = recipe.settings(None if kind == "autoencoder" else "names", **fields)
    trainer = recipe.trainer(recipe.new(data, of_model, seed), data, dataclasses.replace(settings, **length), seed=seed)
    trainer.evaluate = None
    trainer.run(progress=False)
    with trainer.averaged():
        trainer.model.eval()
        if kind == "recurrent":
            return evaluate(trainer.model, data, "test")["test nats per character"]
        return loss_on(trainer.model, data, seed, most=len(data.test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="processor time of a run")
    parser.add_argument("--trials", type=int, default=27)
    parser.add_argument("--kinds", default=",".join(SPACES))
    parser.add_argument("--out", default="runs/benchmark-search")
    known = parser.parse_args()
    set_threads(1)
    for kind in known.kinds.split(","):
        preset, over = SPACES[kind]
        recipe, out = recipe_of(kind), Path(known.out) / kind
        result = search(kind, Space.of(recipe, over, recipe.presets[preset]), out / "search", by="halving", trials=known.trials, preset=preset,
                        data=DATA[kind], minutes=known.minutes, say=print)
        assert result.best is not None
        path = out / "scores.json"
        scores = json.loads(path.read_text()) if path.exists() else {}
        data = recipe.data(DATA[kind])
        for name, point in (("preset", {}), ("search", result.best.point)):
            entry = scores.setdefault(name, {"scores": []})
            if "length" not in entry:
                entry["length"] = length_in(recipe, *recipe.settings(preset, **point), data, 60 * known.minutes, 0)
            while len(entry["scores"]) < 3:
                entry["scores"].append(tested(kind, point, len(entry["scores"]) + 1, entry["length"]))
                atomic_write(path, json.dumps(scores, indent=1).encode())
            mean, spread = np.mean(entry["scores"]), np.ptp(entry["scores"])
            print(f"{kind:12} {name:7} {entry['length']}  {mean:.4f}, from {min(entry['scores']):.4f} to {max(entry['scores']):.4f} ({spread:.4f})",
                  flush=True)


if __name__ == "__main__":
    main()
