"""How a GAN is trained: presets, settings of a run, and batches of pictures, of toys and of stacked digits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator as Rng

from ..autograd import Tensor
from ..autograd.random import generator
from ..data.toys import TOYS, sample_shape, stacked_digits
from ..gan import GAN, AdversarialStep, GameSettings
from ..model import Decay, Share, check_images, moved
from ..optim import Average, linear_decay
from ..training import Trainer, shuffled
from .recipe import Recipe, RunSettings, labels_of

if TYPE_CHECKING:
    from ..data.images import Images


@dataclasses.dataclass(frozen=True)
class GANTraining(GameSettings, RunSettings):
    """A run's settings: those of the game, and how the weights come to rest."""

    decay_from: Share = 1.0  # share of the steps after which the learning rates fall to 0 in a straight line
    average: Decay = 0.999  # decay of the generator's averaged weights; 0 for none


_POINTS = {"image": (2,), "network": "dense", "hidden": (128, 128, 128), "discriminator_hidden": (128, 128, 128), "generator_norm": "none",
           "discriminator_norm": "none", "latent": 2, "loss": "relativistic", "batch_size": 256, "lr": 1e-3, "discriminator_lr": 1e-3,
           "decay_from": 0.6, "average": 0.998, "penalty_every": 4, "steps": 3000}
_PAIRS = {"loss": "relativistic", "discriminator_norm": "none", "r1": 1.0, "r2": 1.0, "penalty_every": 2, "penalty_end": 0.1, "lr": 1e-3,
          "discriminator_lr": 1e-3, "beta_1": 0.0, "decay_from": 0.5}  # in the manner of Huang et al. (2024)
PRESETS: dict[str, dict[str, Any]] = {  # configuration and training in one
    "unconditional": {**_PAIRS, "steps": 28_000, "clusters": 50, "truncation": 2.0},
    "conditional": {**_PAIRS, "steps": 13_000, "classes": 10, "truncation": 2.0},
    "dcgan": {},
    "hinge": {"loss": "hinge"},
    "wgan-gp": {"loss": "wasserstein", "discriminator_norm": "layer", "gradient_penalty": 10.0, "critic_steps": 5, "lr": 1e-4,
                "discriminator_lr": 1e-4, "beta_1": 0.0, "beta_2": 0.9},
    "wgan": {"loss": "wasserstein", "discriminator_norm": "batch", "weight_clip": 0.01, "critic_steps": 5, "lr": 5e-5,
             "discriminator_lr": 5e-5},
    "dense": {"network": "dense"},
    "plain": {"discriminator_norm": "batch", "average": 0.0},  # Radford et al. (2016): what others compare with
    "stacked": {**_PAIRS, "steps": 20_000, "image": (28, 28, 3), "latent": 100},
    "grid": {**_POINTS, "clusters": 100, "noise": 0.3, "frequencies": (0.4, 0.8, 1.6, 3.1, 6.3, 12.6), "r1": 0.01, "r2": 0.01},
    "ring": {**_POINTS, "clusters": 32, "noise": 0.1, "frequencies": (1.6, 3.1, 6.3, 12.6, 25.0, 50.0), "r1": 5e-4, "r2": 5e-4},
}


def make_trainer(model: GAN, data: Images | str, training: GANTraining, *, seed: int = 0, folder=None, resume: bool = False,
                 **options) -> Trainer:
    """The training run of a preset or of your own settings; data is pictures, or the name of a toy; options go to `Trainer`."""
    t = training
    if not isinstance(data, str) and t.batch_size * t.critic_steps > len(data.train):
        raise ValueError(f"GANTraining: batch_size is {t.batch_size} and critic_steps {t.critic_steps}, which take "
                         f"{t.batch_size * t.critic_steps} pictures a step; {data.name!r} has {len(data.train)} to train on")
    batches = batches_of(data, t.batch_size * t.critic_steps, model, seed)
    schedule = linear_decay(t.steps, hold=t.decay_from)
    update = AdversarialStep(model, t, schedule)
    buffers = [Tensor(a) for a in model.generator.named_buffers().values()]  # running averages of norms belong to the weights
    average = Average([*model.generator.parameters(), *buffers], t.average) if t.average else None
    return Trainer(model, None, batches, {"generator": update.generator_optimiser, "discriminator": update.discriminator_optimiser}, steps=t.steps,
                   schedule=schedule, seed=seed, average=average, folder=folder, resume=resume, update=update,
                   precision=training.precision, **options)


def load_data(source: str | None) -> Images | str:
    """Pictures by name or path; the name of a toy, or "stacked", stays a name."""
    from ..data.images import load_images

    return source if source is not None and source in (*TOYS, "stacked") else load_images(source or "mnist")


RECIPE = Recipe(GAN, GANTraining, PRESETS, load_data, make_trainer, "mnist", {name: name for name in ("stacked", "grid", "ring")})


# --- batches


def batches_of(data: Images | str, size: int, model: GAN, seed: int) -> Callable[[int, Rng], Any]:
    """(step, rng) -> a batch of pictures, with labels or clusters for a model of those; of toys, fresh samples at each step."""
    if sample_shape(data) != tuple(model.config.image):
        name = data if isinstance(data, str) else data.name
        raise ValueError(f"data: {name!r} has samples of shape {sample_shape(data)}; this model takes {tuple(model.config.image)}")
    return toy_batches(data, size, model, seed) if isinstance(data, str) else picture_batches(data, size, model, seed)


def picture_batches(images: Images, size: int, model: GAN, seed: int) -> Callable[[int, Rng], Any]:
    classes, x = model.config.classes, check_images(images.train, model.config.image)
    if model.config.clusters:
        if not model.centres.any():
            model.find_clusters(x, seed)
        return shuffled(x, model.cluster_of(x), batch_size=size, seed=seed)
    if not classes:
        return shuffled(x, batch_size=size, seed=seed)
    labels = labels_of(images, classes)
    if len(np.unique(labels)) < 2:
        raise ValueError(f"labels: all are {labels[0]}; a conditional model needs at least two classes")
    return shuffled(x, labels, batch_size=size, seed=seed)


def toy_batches(name: str, size: int, model: GAN, seed: int) -> Callable[[int, Rng], Any]:
    if model.config.classes:
        raise ValueError(f"data: {name!r} has no labels, but the model has {model.config.classes} classes")
    draw = TOYS[name] if name != "stacked" else stacked_mnist()
    fresh = lambda step, rng: draw(size, generator((seed, step, 0x704)))
    if not model.config.clusters:
        return fresh
    if not model.centres.any():
        model.find_clusters(draw(10_000, generator((seed, 0xC1))), seed)
    return lambda step, rng: (x := fresh(step, rng), model.cluster_of(x))


def stacked_mnist() -> Callable[[int, Rng], np.ndarray]:
    """(n, rng) -> n pictures of three training digits as three colours."""
    from ..data.images import mnist

    digits = mnist()
    images, labels = digits.train, digits.train_labels
    assert labels is not None
    return lambda n, rng: stacked_digits(images, labels, n, rng)[0]


def __getattr__(name: str):
    return moved(__name__, name, "zoo.gan", {"Adversaries": "AdversarialStep", "Duel": "LastStep"})
