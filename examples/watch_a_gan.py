"""Watch a GAN learn points of the plane: what the discriminator thinks everywhere, and where it pulls each fake point.

    python examples/watch_a_gan.py grid           # or ring, spiral, moons: watch-grid.gif
    python examples/watch_a_gan.py grid --collapse    # minimax without any trick: see it fall onto few modes, and what the diagnosis says
"""

import argparse

import numpy as np

from zoo.data.toys import TOYS
from zoo.evaluation import toy_figures
from zoo.explain.diagnosis import diagnose
from zoo.gan import GAN, AdversarialStep
from zoo.inspection import figures
from zoo.recipes import recipe_of

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("toy", nargs="?", default="grid", choices=("grid", "ring", "spiral", "moons"))
parser.add_argument("--collapse", action="store_true", help="minimax, no penalty, no clusters, no noise, no frequencies, no average")
parser.add_argument("--steps", type=int)
parser.add_argument("--frames", type=int, default=60)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out")
options = parser.parse_args()

changes = {"steps": options.steps} if options.steps else {}
if options.collapse:
    changes |= {"loss": "minimax", "r1": 0.0, "r2": 0.0, "clusters": 0, "noise": 0.0, "frequencies": (), "beta_1": 0.9, "average": 0.0}
recipe = recipe_of("gan")
fields, training = recipe.settings("ring" if options.toy == "ring" else "grid", **changes)
model = GAN.for_data(options.toy, seed=options.seed, **fields)
trainer = recipe.trainer(model, options.toy, training, seed=options.seed)
game = trainer.update
assert isinstance(game, AdversarialStep)
real = TOYS[options.toy](1000, np.random.default_rng(options.seed))


def surfaces():
    for record in trainer:
        if record.step % max(1, training.steps // options.frames) == 0:
            yield figures.decision_surface(model, real, game.last.fake, game.last.gradient, title=f"{options.toy}, step {record.step:,}")


figures.film(options.out or f"watch-{options.toy}.gif", surfaces())
if trainer.average is not None:
    trainer.average.swap()
print(toy_figures(options.toy, model.sample(2500, seed=1)))
print("\n".join(diagnose(model, real, history=trainer.rows)) or "Nothing is wrong that the diagnosis knows of.")
