"""How a GAN is trained: settings and presets, one step of both networks, batches of pictures, of toys and of stacked digits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.random import Generator as Rng

from .. import autograd as ops
from ..adversarial.losses import LOSSES, gradient_penalty, zero_centred_penalty
from ..autograd import Tensor, no_grad
from ..data.toys import TOYS, stacked_digits
from ..gan import GAN, data_shape
from ..model import Config, check_images, check_labels
from ..optim import Adam, Average, Schedule, constant, linear_decay
from ..training import Trainer, TrainingFailed, shuffled
from .recipe import Recipe

if TYPE_CHECKING:
    from ..data.images import Images


@dataclasses.dataclass(frozen=True)
class GANTraining(Config):
    steps: int = 20_000
    batch_size: int = 64
    loss: Literal["minimax", "non-saturating", "least-squares", "hinge", "wasserstein", "relativistic"] = "non-saturating"
    lr: float = 2e-4  # the generator's
    discriminator_lr: float = 2e-4
    beta_1: float = 0.5
    beta_2: float = 0.999
    decay_from: float = 1.0  # share of the steps after which the rates fall to 0 in a straight line
    critic_steps: int = 1  # of the discriminator for each of the generator
    gradient_penalty: float = 0.0  # weight of (|dD/dx| - 1)^2 between real and fake (Gulrajani et al. 2017, eq. 3)
    r1: float = 0.0  # weight of |dD/dx|^2 / 2 on real samples (Mescheder et al. 2018, eq. 9)
    r2: float = 0.0  # and on fake ones
    penalty_every: int = 1  # r1 and r2 are added at each so-manieth step, so many times as heavy (Karras et al. 2020, section 3.1)
    penalty_end: float = 1.0  # the share of r1 and r2 that is left at the end; they fall geometrically
    weight_clip: float = 0.0  # every weight of D stays within this (Arjovsky et al. 2017, algorithm 1)
    smoothing: float = 0.0  # real samples are called real with 1 - smoothing (Salimans et al. 2016)
    noise: float = 0.0  # deviation of the noise that hides samples from D at first; it falls to 0 (Sonderby et al. 2017, section 3.2)
    average: float = 0.999  # decay of the generator's averaged weights; 0 for none


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


@dataclasses.dataclass
class Duel:
    """What the last step of training saw of each fake sample."""

    fake: np.ndarray  # (n, ...) as inside
    verdict: np.ndarray  # logits of the discriminator after its step, (n / packing,)
    gradient: np.ndarray  # of the generator's loss in each fake sample: the way it's pushed is against it
    labels: np.ndarray | None


class Adversaries:
    """One step of both networks: `Trainer(..., update=Adversaries(...))`; `last` holds what it saw of each fake sample."""

    last: Duel | None = None

    def __init__(self, model: GAN, training: GANTraining, schedule: Schedule = constant):
        t, betas = training, (training.beta_1, training.beta_2)
        if t.smoothing and t.loss == "wasserstein":
            raise ValueError(f"GANTraining: smoothing is {t.smoothing} with loss 'wasserstein', which has no target to smooth")
        if t.batch_size % model.config.packing:
            raise ValueError(f"GANTraining: batch_size is {t.batch_size}; packing, {model.config.packing}, must divide it")
        self.model, self.training, self.schedule = model, training, schedule
        self.loss = LOSSES[t.loss]
        self.generator = Adam(model.generator.parameters(), t.lr, betas=betas)
        self.discriminator = Adam(model.discriminator.parameters(), t.discriminator_lr, betas=betas)

    def __call__(self, batch, rng: Rng) -> dict[str, float]:
        """batch: critic_steps * batch_size real samples, or (samples, labels).  Returns losses, mean verdicts and gradient norms."""
        m, t = self.model, self.training
        x, labels = batch if isinstance(batch, tuple) else (batch, None)
        x = m.inside(x)
        labels = check_labels(labels, m.config.labels, len(x)) if m.config.labels else None
        rows = len(x) // t.critic_steps
        if rows == 0 or rows % m.config.packing:
            raise ValueError(f"batch: has {len(x)} samples; for {t.critic_steps} critic steps and packing {m.config.packing} "
                             f"it needs a multiple of {t.critic_steps * m.config.packing}")
        factor, deviation = self.schedule(self.generator.steps), self.noise()
        hidden = lambda samples: samples + deviation * rng.standard_normal(samples.shape, np.float32) if deviation else samples
        try:
            for i in range(t.critic_steps):
                part = slice(i * rows, (i + 1) * rows)
                own = None if labels is None else labels[part]
                z = m.joined(m.draw_z(rows, rng), own)
                with ops.enable_grad(i == t.critic_steps - 1):  # the last fake samples serve the generator's step too
                    fake = m.generator(Tensor(z))
                figures = self._discriminate(hidden(x[part]), hidden(fake.data), own, rng, factor)
                if not math.isfinite(figures["discriminator"]):
                    return figures
            return {**self._generate(fake, hidden, x[part], own, factor), **figures}
        except FloatingPointError as e:
            raise TrainingFailed(f"step {self.generator.steps + 1}: {e}; training stopped") from e

    def noise(self) -> float:
        """The deviation now: the one given at first, 0 after three fifths of the steps, along a parabola."""
        left = 1 - self.generator.steps / (0.6 * self.training.steps)
        return self.training.noise * left * left if left > 0 else 0.0

    def penalty_weight(self) -> float:
        """What r1 and r2 are multiplied by now: 0 in the steps that leave them out."""
        t, step = self.training, self.generator.steps
        return 0.0 if step % t.penalty_every else t.penalty_every * t.penalty_end ** (step / t.steps)

    def _discriminate(self, real: Any, fake: Any, labels, rng: Rng, factor: float) -> dict[str, float]:
        t, discriminator, weight = self.training, self.model.discriminator, self.penalty_weight()
        r1, r2 = weight * t.r1, weight * t.r2
        real, fake = Tensor(real, requires_grad=r1 > 0), Tensor(fake, requires_grad=r2 > 0)
        on_real, on_fake = discriminator(real, labels), discriminator(fake, labels)
        loss = self.loss.discriminator(on_real, on_fake, t.smoothing)
        penalties = [r * zero_centred_penalty(x, verdict) for r, x, verdict in ((r1, real, on_real), (r2, fake, on_fake)) if r]
        if t.gradient_penalty:
            between = gradient_penalty(lambda x: discriminator(x, labels), real.data, fake.data, rng)
            penalties.append(t.gradient_penalty * between)
        a, b = on_real.data, on_fake.data
        middle = self.loss.middle
        told_apart = np.mean(a > b) if middle is None else (np.mean(a > middle) + np.mean(b < middle)) / 2
        figures = {"discriminator": float(loss), "real": float(a.mean()), "fake": float(b.mean()), "told_apart": float(told_apart)}
        if penalties:
            penalty = sum(penalties[1:], penalties[0])
            figures["penalty"] = float(penalty)
            loss = loss + penalty
        if math.isfinite(float(loss)):
            self.discriminator.zero_grad()
            loss.backward()
            self.discriminator.step(factor)
            if t.weight_clip:
                np.clip(self.discriminator.flat, -t.weight_clip, t.weight_clip, out=self.discriminator.flat)
        else:
            figures["discriminator"] = float(loss)
        return {**figures, "discriminator_norm": self.discriminator.grad_norm}

    def _generate(self, fake: Tensor, hidden: Callable, real: np.ndarray, labels, factor: float) -> dict[str, float]:
        verdict = self.model.discriminator(hidden(fake), labels)
        if self.loss.middle is None:
            with no_grad():
                on_real = self.model.discriminator(Tensor(hidden(real)), labels)
            loss = self.loss.generator(verdict, on_real)
        else:
            loss = self.loss.generator(verdict)
        if not math.isfinite(float(loss)):
            return {"generator": float(loss)}
        weights = self.model.generator.parameters()
        at_fake, *gradients = ops.grad(loss, [fake, *weights])  # the discriminator's own gradients aren't computed
        for p, g in zip(weights, gradients):
            p.grad = g.data
        self.generator.step(factor)
        self.last = Duel(fake.data, verdict.data[:, 0], at_fake.data, labels)
        return {"generator": float(loss), "generator_norm": self.generator.grad_norm, "sample_norm": float(np.linalg.norm(at_fake.data))}


def load_data(source: str | None) -> Images | str:
    """Pictures by name or path; the name of a toy, or "stacked", stays a name."""
    from ..data.images import load_images

    return source if source is not None and source in (*TOYS, "stacked") else load_images(source or "mnist")




def stacked_mnist() -> Callable[[int, Rng], np.ndarray]:
    """(n, rng) -> n pictures of three training digits as three colours."""
    from ..data.images import mnist

    digits = mnist()
    images, labels = digits.train, digits.train_labels
    assert labels is not None
    return lambda n, rng: stacked_digits(images, labels, n, rng)[0]


def batches_of(data: Images | str, size: int, model: GAN, seed: int) -> Callable[[int, Rng], Any]:
    """Batches of pictures, with labels for a conditional model; of toys, fresh ones at each step."""
    classes, clusters, image = model.config.classes, model.config.clusters, model.config.image
    if data_shape(data) != tuple(image):
        name = data if isinstance(data, str) else data.name
        raise ValueError(f"data: {name!r} has samples of shape {data_shape(data)}; this model takes {tuple(image)}")
    if isinstance(data, str):
        if classes:
            raise ValueError(f"data: {data!r} has no labels, but the model has {classes} classes")
        draw = TOYS[data] if data != "stacked" else stacked_mnist()
        fresh = lambda step, rng: draw(size, np.random.default_rng((seed, step, 0x704)))
        if not clusters:
            return fresh
        if not model.centres.any():
            model.find_clusters(draw(10_000, np.random.default_rng((seed, 0xC1))), seed)
        return lambda step, rng: (x := fresh(step, rng), model.cluster_of(x))
    x = check_images(data.train, image)
    if clusters:
        if not model.centres.any():
            model.find_clusters(x, seed)
        return shuffled(x, model.cluster_of(x), batch_size=size, seed=seed)
    if not classes:
        return shuffled(x, batch_size=size, seed=seed)
    own = check_labels(data.train_labels, classes, len(x))
    if len(np.unique(own)) < 2:
        raise ValueError(f"labels: all are {own[0]}; a conditional model needs at least two classes")
    return shuffled(x, own, batch_size=size, seed=seed)


def make_trainer(model: GAN, data: Images | str, training: GANTraining, *, seed: int = 0, folder=None, resume: bool = False,
                 **options) -> Trainer:
    """The training run of a preset or of your own settings; data is pictures, or the name of a toy; options go to `Trainer`."""
    t = training
    t.at_least(1, "critic_steps", "penalty_every")
    if not 0 < t.penalty_end <= 1:
        raise ValueError(f"GANTraining: penalty_end is {t.penalty_end}; it is above 0 and at most 1")
    batches = batches_of(data, t.batch_size * t.critic_steps, model, seed)
    schedule = linear_decay(t.steps, hold=t.decay_from) if t.decay_from < 1 else constant
    update = Adversaries(model, t, schedule)
    buffers = [Tensor(a) for a in model.generator.named_buffers().values()]  # running averages of norms belong to the weights
    average = Average([*model.generator.parameters(), *buffers], t.average) if t.average else None
    return Trainer(model, None, batches, {"generator": update.generator, "discriminator": update.discriminator}, steps=t.steps,
                   schedule=schedule, seed=seed, average=average, folder=folder, resume=resume, update=update, **options)


RECIPE = Recipe(GAN, GANTraining, PRESETS, load_data, make_trainer, "mnist", {name: name for name in ("stacked", "grid", "ring")})
