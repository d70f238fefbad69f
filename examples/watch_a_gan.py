"""Watch a GAN learn points of the plane: what the discriminator thinks everywhere, and where it pulls each fake point.

    python examples/watch_a_gan.py grid           # or ring, spiral, moons: watch-grid.gif
    python examples/watch_a_gan.py grid --collapse    # minimax without any trick: see it fall onto few modes, and what the diagnosis says
"""

import argparse

import numpy as np

from zoo.data.toys import TOYS
from zoo.evaluation import toy_figures
from zoo.explain.diagnosis import diagnose
from zoo.gan import GAN, GANConfig
from zoo.inspection import figures
from zoo.recipes.gan import PRESETS, Adversaries, GANTraining, make_trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("toy", nargs="?", default="grid", choices=("grid", "ring", "spiral", "moons"))
parser.add_argument("--collapse", action="store_true", help="minimax, no penalty, no clusters, no noise, no frequencies, no average")
parser.add_argument("--steps", type=int)
parser.add_argument("--frames", type=int, default=60)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out")
options = parser.parse_args()

settings = dict(PRESETS["ring" if options.toy == "ring" else "grid"])
if options.collapse:
    settings |= {"loss": "minimax", "r1": 0.0, "r2": 0.0, "clusters": 0, "noise": 0.0, "frequencies": (), "beta_1": 0.9, "average": 0.0}
settings["steps"] = options.steps or settings["steps"]
fields = {name: value for name, value in settings.items() if name in GANConfig.__dataclass_fields__}
model = GAN.for_data(options.toy, seed=options.seed, **fields)
training = GANTraining.make(**{name: value for name, value in settings.items() if name not in fields})
trainer = make_trainer(model, options.toy, training, seed=options.seed)
duel = trainer.update
assert isinstance(duel, Adversaries)
real = TOYS[options.toy](1000, np.random.default_rng(options.seed))


def drawn():
    for record in trainer:
        if record.step % max(1, training.steps // options.frames) == 0:
            seen = duel.last
            yield figures.decision_surface(model, real, seen.fake, seen.gradient, title=f"{options.toy}, step {record.step:,}")


figures.film(options.out or f"watch-{options.toy}.gif", drawn())
if trainer.average is not None:
    trainer.average.swap()
print(toy_figures(options.toy, model.sample(2500, seed=1)))
print("\n".join(diagnose(model, real, history=trainer.rows)) or "Nothing is wrong that the diagnosis knows of.")
