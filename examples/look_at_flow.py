"""A flow in the plane, from eight Gaussians to two moons, trained with random and with optimal pairs of noise and data (Tong et al. 2024).

    python examples/look_at_flow.py [steps of training]        writes flow.png and flow.gif, in about a minute

Above: the velocity at three times and the trajectories of 300 points, trained with random pairs; they bend, so a few steps miss the moons.
Below: trained with optimal pairs; trajectories are nearly straight, and one step is almost as good as twenty.
"""

import sys

import numpy as np
from matplotlib.figure import Figure

from zoo.data.toys import moons
from zoo.diffusion import Diffusion
from zoo.evaluation import squared_wasserstein
from zoo.inspection import figures
from zoo.recipes.diffusion import DiffusionTraining, make_trainer

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
sheet = Figure(figsize=(15, 8), layout="constrained")
axes = sheet.subplots(2, 4)
fresh = moons(1000, np.random.default_rng(1))
for row, coupling in zip(axes, ("independent", "optimal")):
    model = Diffusion.new(image=(2,), network="dense", channels=64, blocks=3, schedule="straight", source="eight_gaussians", seed=0)
    training = DiffusionTraining(steps=steps, batch_size=256, lr=1e-3, average=0.0, coupling=coupling, pool=256)
    make_trainer(model, "moons", training).run(title=coupling)
    model.eval()
    for ax, t in zip(row, (0.9, 0.5, 0.1)):
        figures.flow(model, t, ax)
    figures.trajectories(model.steps(300, seed=0, sampler="euler", evaluations=20), row[3], title=f"pairs: {coupling}")
    for evaluations in (1, 20):
        drawn = model.sample(1000, seed=0, sampler="euler", evaluations=evaluations)
        print(f"{coupling:12} {evaluations:3} Euler steps: squared Wasserstein distance {squared_wasserstein(drawn, fresh):.3f}")
sheet.savefig("flow.png")


def moments():
    """The points after each step, over the arrows that they follow next."""
    for step in model.steps(400, seed=0, sampler="euler", evaluations=30):
        ax = figures.flow(model, step.t)
        ax.scatter(step.x_t[:, 0], step.x_t[:, 1], s=6, c=figures.POSITIVE, linewidths=0)
        yield ax


figures.film("flow.gif", moments())
