"""How a diffusion model is trained: settings of a run, presets, batches whose noise may be paired with their data, the trainer.

The shipped ones learned from MNIST's 60,000 training digits, with Muon, a learning rate that rises for 500 steps and then falls along half a
cosine, 10% of the labels left out, and averaged weights:

    diffusion         zoo train diffusion --preset flow --threads 1                                  5,000 steps of 128, 43 minutes
    diffusion-cosine  zoo train diffusion --channels 16 --steps 6000                                 6,000 steps of 128, 18 minutes
    dit               zoo train diffusion --preset dit                                               7,000 steps of 128, 26 minutes
    latent            zoo train diffusion --preset latent --channels 64 --blocks 3 --steps 30000    30,000 steps of 512,  4 minutes

Guidance, a setting of sampling alone, was chosen afterwards: 1.3, but 1.37 for diffusion-cosine and 1.35 for dit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.random import Generator

from ..autograd.random import generator
from ..data.toys import TOYS
from ..diffusion import Diffusion, Pairs
from ..model import Count, Decay, Natural, Positive, check_images
from ..nn import Conv2d, Linear
from ..optim import Adam, Average, Muon, constant, cosine
from ..training import Batches, Trainer, shuffled
from .recipe import Recipe, RunSettings, labels_of

if TYPE_CHECKING:
    from ..data.images import Images


@dataclasses.dataclass(frozen=True)
class DiffusionTraining(RunSettings):
    steps: Count = 20_000
    batch_size: Count = 128
    optimiser: Literal["adam", "muon"] = "adam"  # muon: for matrices and kernels, except the first and the last
    lr: Positive = 1e-3  # Adam's; with muon, that of everything else
    muon_lr: Positive = 0.02
    warm_up: Natural = 500  # steps over which the learning rate grows; then it falls along half a cosine to 0
    constant: bool = False  # the same learning rate throughout, without warm-up
    clip: Positive | None = 1.0
    average: Decay = 0.9995  # decay of the averaged weights that are evaluated and saved; 0 for none
    coupling: Literal["independent", "optimal"] = "independent"  # noise and data paired at random, or by `optimal_pairs`
    pool: Count = 1024  # how many are paired at once


_DIGITS = {"channels": 32, "multipliers": (1, 2), "heads": 4, "classes": 10, "optimiser": "muon", "steps": 5000, "batch_size": 128,
           "average": 0.999}
_PLANE = {"image": (2,), "network": "dense", "channels": 128, "blocks": 3, "schedule": "straight", "source": "eight_gaussians",
          "sampler": "dopri5", "steps": 20_000, "batch_size": 256, "lr": 3e-4, "constant": True, "clip": None, "average": 0.0}
PRESETS: dict[str, dict[str, Any]] = {  # fields of DiffusionConfig and DiffusionTraining
    "diffusion": {**_DIGITS, "schedule": "cosine", "prediction": "v", "sampler": "dpm-solver++", "evaluations": 20, "guidance": 1.3},
    "flow": {**_DIGITS, "schedule": "straight", "prediction": "v", "sampler": "heun", "evaluations": 20, "guidance": 1.3},
    "dit": {"network": "transformer", "channels": 64, "blocks": 8, "heads": 4, "classes": 10, "schedule": "straight", "prediction": "v",
            "sampler": "heun", "evaluations": 20, "guidance": 1.35, "optimiser": "muon", "lr": 2e-3, "steps": 7000, "batch_size": 128,
            "average": 0.999, "dequantise": True},
    "latent": {"autoencoder": "vae", "network": "dense", "channels": 256, "blocks": 4, "norms": True, "classes": 10, "schedule": "straight",
               "prediction": "v", "sampler": "heun", "evaluations": 40, "guidance": 1.3, "optimiser": "muon", "steps": 8000,
               "batch_size": 512, "average": 0.999},
    "ddpm": {"schedule": "linear", "prediction": "noise", "sampler": "ddpm", "evaluations": 1000},
    "moons": _PLANE,
    "moons-optimal": {**_PLANE, "coupling": "optimal", "pool": 256},
}


def optimal_pairs(x_0: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The order of the noise that makes the total squared distance to x_0, row by row, the least (Tong et al. 2024).

    Why: paired at random, the straight lines from x_0 to noise cross, and at a crossing the network can only learn the mean of their
    velocities, so the flow bends.  Optimal pairs don't cross: if two lines met at one t in between, exchanging their ends would shorten the
    total.  Then each x_t belongs to one pair, v is that pair's noise - x_0, constant along the line, and a single Euler step is exact.
    (Pairs of a pool are optimal within the pool only, so this holds approximately.)
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    n = len(x_0)
    return linear_sum_assignment(cdist(x_0.reshape(n, -1), noise.reshape(n, -1), "sqeuclidean"))[1]


def make_trainer(model: Diffusion, data: Images | str, training: DiffusionTraining, *, seed: int = 0, folder=None, resume: bool = False,
                 **options) -> Trainer:
    """The training run of a preset or of your own settings; data is pictures or the name of a toy; options go to `Trainer`."""
    t, c = training, model.config
    if c.classes and c.unlabelled == 0 and c.guidance != 1:
        raise ValueError(f"unlabelled: is 0 and guidance {c.guidance}; guidance needs a share of training without labels, or is 1")
    draw: Callable[[int, int], Any]  # (step, batch size) -> a batch
    batches: Batches
    shape = (2,) if isinstance(data, str) else data.train.shape[1:]
    if shape != model.sample_shape:
        raise ValueError(f"data: {data!r} has samples of shape {shape}; this model takes {model.sample_shape}")
    if isinstance(data, str):
        toy = TOYS[data]
        draw = lambda step, n: toy(n, generator((seed, step, 0x704)))
    else:
        x = check_images(data.train, shape)
        arrays = (x, labels_of(data, c.classes)) if c.classes else (x,)
        if "evaluate" not in options and len(data.test) >= 8:
            held_out, labels = data.test[:512], data.test_labels[:512] if c.classes and data.test_labels is not None else None
            options["evaluate"] = lambda m: {"test_loss": float(m.error_by_t(held_out, labels)["loss"].mean())}
        size = t.batch_size * (max(1, t.pool // t.batch_size) if t.coupling == "optimal" else 1)
        rows = shuffled(*arrays, batch_size=size, seed=seed)
        draw = lambda step, n: rows(step, np.random.default_rng(0))
    if t.coupling == "optimal":
        batches = _coupled(model, draw, t, seed)
    else:
        batches = (lambda step, rng: draw(step, t.batch_size)) if isinstance(data, str) else rows
    average = Average(model.parameters(), t.average) if t.average else None
    schedule = constant if t.constant else cosine(t.steps, warmup=min(t.warm_up, t.steps // 10))
    return Trainer(model, model.loss, batches, optimiser_for(model, t), steps=t.steps, schedule=schedule, seed=seed, average=average,
                   folder=folder, resume=resume, precision=training.precision, **options)


def optimiser_for(model: Diffusion, t: Any) -> Adam:
    """Adam, or Muon for the network's matrices and kernels except the first and the last: t has optimiser, lr, muon_lr and clip."""
    parameters = model.parameters()
    if t.optimiser == "adam":
        return Adam(parameters, t.lr, clip=t.clip)
    ends = [layer.weight for layer in model.network.ends]
    matrices = [layer.weight for _, layer in model.network.modules()
                if isinstance(layer, (Linear, Conv2d)) and not any(layer.weight is w for w in ends)]
    return Muon(parameters, t.lr, matrices=matrices, muon_lr=t.muon_lr, clip=t.clip)


def _coupled(model: Diffusion, draw: Callable[[int, int], Any], t: DiffusionTraining, seed: int):
    """Batches cut from pools; in each pool, noise is paired with data."""
    batches_per_pool = max(1, t.pool // t.batch_size)
    pools: dict[int, Pairs] = {}  # the latest one by its number

    def batches(step: int, rng: Generator) -> Pairs:
        pool, i = divmod(step, batches_per_pool)
        if pool not in pools:
            pools.clear()
            batch = draw(pool, batches_per_pool * t.batch_size)
            x_0, labels = batch if isinstance(batch, tuple) else (batch, None)
            noise = model.draw_source(len(x_0), generator((seed, pool, 0x07)))
            pools[pool] = Pairs(x_0, noise[optimal_pairs(model.to_network_range(x_0), noise)], labels)
        rows = slice(i * t.batch_size, (i + 1) * t.batch_size)
        pairs = pools[pool]
        return Pairs(pairs.x_0[rows], pairs.noise[rows], None if pairs.labels is None else pairs.labels[rows])

    return batches


def load_data(source: str | None) -> Images | str:
    """Pictures by name or path; the name of a toy stays a name."""
    from ..data.images import load_images

    return source if source in TOYS else load_images(source or "mnist")


RECIPE = Recipe(Diffusion, DiffusionTraining, PRESETS, load_data, make_trainer, "mnist", {"moons": "moons", "moons-optimal": "moons"})
