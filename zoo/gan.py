"""Generative adversarial networks (Goodfellow et al. 2014): one network draws, the other tells its pictures from real ones.

    z ~ N(0, 1)  --G-->  G(z)  --D-->  verdict  <--D--  x from the data

D's output is a number without bounds, the logit of "real".  Against collapse: packing (Lin et al. 2018), spectral norm (Miyato et al.
2018), gradient penalties (Gulrajani et al. 2017; Mescheder et al. 2018), averaged weights.  `gan_diagnosis.diagnose` says in words what
went wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.random import Generator as Rng

from . import autograd as ops
from .autograd import Tensor, no_grad
from .diffusion_uses import great_circle
from .gan_losses import LOSSES, gradient_penalty, zero_centred_penalty
from .gan_networks import Discriminator, Generator
from .model import Config, Family, Model, Step, replayable, stream
from .nn import Module
from .optim import Adam, Average, Schedule, constant, linear_decay
from .toys import TOYS, stacked_digits
from .training import Trainer, TrainingFailed, minibatches, shuffled
from .vae import check_images, check_labels

if TYPE_CHECKING:
    from .data import Images


@dataclasses.dataclass(frozen=True)
class GANConfig(Config):
    image: tuple[int, ...] = (28, 28)  # height, width, and channels if there is more than one; or (dimensions,) for points
    network: Literal["dense", "convolutional"] = "convolutional"
    latent: int = 64
    channels: int = 32  # convolutional: layers have 4 and 2 times as many
    hidden: tuple[int, ...] = (256, 256)  # dense: widths of the generator's layers
    discriminator_hidden: tuple[int, ...] = (256, 256)  # dense: widths of the discriminator's
    generator_norm: Literal["batch", "none"] = "batch"
    discriminator_norm: Literal["batch", "layer", "spectral", "none"] = "spectral"
    classes: int = 0  # label-conditional if above 0
    clusters: int = 0  # or conditional on clusters of like pictures, which it finds by itself and draws by their shares (Liu et al. 2020)
    conditioning: Literal["projection", "concatenation"] = "projection"  # how the discriminator hears of the label
    frequencies: tuple[float, ...] = ()  # dense: sin and cos of each coordinate that the discriminator sees too, radians a unit
    packing: int = 1  # how many samples the discriminator judges together
    truncation: float | None = None  # of z, unless sampling says otherwise; None or infinity for none

    @property
    def labels(self) -> int:
        """How many labels the networks are told of."""
        return self.classes or self.clusters


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
    "conditional": {**_PAIRS, "steps": 18_000, "classes": 10, "truncation": 2.0},
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


# --- the model


@dataclasses.dataclass
class GANStep(Step):
    """One step from z to a verdict: `value` is what `name` computed from `given`."""

    name: str  # "z", "layer 0", ..., "picture" or "points", "pixels", "verdict"
    formula: str
    given: np.ndarray
    value: np.ndarray  # of "verdict": the probability that D gives to "real", (n,)
    gradient: np.ndarray | None = None  # of "verdict": d logit / dx, the way in which each picture would look more real to D


class GAN(Model):
    """`GAN.new(classes=10, seed=0)`, or `zoo.load("gan")`."""

    kind = "gan"
    Config = GANConfig
    config: GANConfig

    def __init__(self, config: GANConfig, *, rng: Rng):
        super().__init__(config, rng=rng)
        c = config
        if len(c.image) not in (1, 2, 3):
            raise ValueError(f"GANConfig: image is {c.image}; it is (height, width), (height, width, channels) or (dimensions,)")
        if c.network == "convolutional" and (len(c.image) == 1 or c.image[0] % 4 or c.image[1] % 4):
            raise ValueError(f"GANConfig: image is {c.image}; a convolutional network needs a height and width that 4 divides")
        if c.frequencies and c.network == "convolutional":
            raise ValueError(f"GANConfig: frequencies is {c.frequencies}; only a dense network sees coordinates, so it takes none")
        if c.packing < 1:
            raise ValueError(f"GANConfig: packing is {c.packing}; it is at least 1")
        if c.packing > 1 and c.labels:
            raise ValueError(f"GANConfig: packing is {c.packing} with {c.labels} {'classes' if c.classes else 'clusters'}; "
                             "samples of different labels can't be judged as one")
        if c.clusters and c.classes:
            raise ValueError(f"GANConfig: clusters is {c.clusters} and classes {c.classes}; one takes the place of the other")
        self.shape = c.image if len(c.image) == 1 else (*c.image, 1)[:3]
        self.generator = Generator(c, self.shape, rng=rng)
        self.discriminator = Discriminator(c, self.shape, rng=rng)
        if c.clusters:
            self.centres = np.zeros((c.clusters, math.prod(self.shape)), np.float32)  # of the samples in each cluster, as `inside`
            self.shares = np.full(c.clusters, 1 / c.clusters, np.float32)

    @classmethod
    def for_data(cls, data: Images | str, *, seed: int = 0, **fields: Any) -> GAN:
        """A fresh model for these pictures or points."""
        return cls.new(seed=seed, **{"image": data_shape(data), **fields})

    @property
    def pictures(self) -> bool:
        return len(self.config.image) > 1

    def draw_z(self, n: int, rng: Rng, truncation: float | None = None) -> np.ndarray:
        """(n, latent) standard normal; with truncation, numbers beyond it are drawn again (Brock et al. 2019)."""
        z = rng.standard_normal((n, self.config.latent), np.float32)
        if truncation is not None:
            if truncation <= 0:
                raise ValueError(f"truncation: is {truncation}; it is above 0")
            while (beyond := np.abs(z) > truncation).any():
                z[beyond] = rng.standard_normal(int(beyond.sum()), np.float32)
        return z

    def joined(self, z, labels):
        """z with the labels beside it, one-hot, in a conditional model."""
        return z if labels is None else np.concatenate([z, np.eye(self.config.labels, dtype=np.float32)[labels]], axis=1)

    def find_clusters(self, x: np.ndarray, seed: int = 0) -> None:
        """Centres and shares of the clusters among these samples: pictures (n, *image) in [0, 1], or points."""
        from .clusters import k_means

        self.centres[...] = k_means(self.inside(x).reshape(len(x), -1), self.config.clusters, np.random.default_rng(seed))
        self.shares[...] = np.bincount(self.cluster_of(x), minlength=len(self.centres)) / len(x)

    def cluster_of(self, x: np.ndarray) -> np.ndarray:
        """The cluster of each sample, (n,): x pictures (n, *image) in [0, 1], or points."""
        from .clusters import nearest_centre

        return nearest_centre(self.inside(x).reshape(len(x), -1), self.centres)

    def inside(self, x) -> np.ndarray:
        """Pictures in [0, 1] as (n, height, width, colours) in [-1, 1]; points as they are."""
        if not self.pictures:
            x = np.asarray(x, np.float32)
            if x.ndim != 2 or x.shape[1:] != self.config.image:
                raise ValueError(f"points: shape is {x.shape}; this model takes (n, {self.config.image[0]})")
            return x
        return 2 * check_images(x, self.config.image).reshape(len(x), *self.shape) - 1

    def outside(self, x: np.ndarray) -> np.ndarray:
        """The generator's output as pictures in [0, 1]."""
        return 0.5 * x.reshape(len(x), *self.config.image) + 0.5 if self.pictures else x

    # --- generation

    @stream(GANStep)
    def steps(self, n: int = 1, *, seed: int | tuple[int, ...] = 0, digit=None, truncation: float | None = None,
              z: np.ndarray | None = None) -> Iterator[GANStep]:
        """From z through each layer to the picture, and the discriminator's verdict on it.

        truncation: numbers of z beyond it are drawn again; the configuration's unless given, and math.inf for none.
        z: start from this (n, latent).  digit: as for `sample`.
        """
        rng = np.random.default_rng(seed)
        if z is None:
            if n < 1:
                raise ValueError(f"steps: n is {n}; it is at least 1")
            z = self.draw_z(n, rng, self.config.truncation if truncation is None else truncation)
        z = np.asarray(z, np.float32)
        if z.ndim != 2 or z.shape[1] != self.config.latent:
            raise ValueError(f"steps: z has shape {z.shape}; it is (n, {self.config.latent})")
        labels = self.labels_for(digit, len(z), rng)
        yield self._z(z)
        h = self.joined(z, labels)
        for i in range(len(self.generator.stages())):
            step = self._layer(i, h)
            h = step.value
            yield step
        if self.pictures:
            yield self._pixels(h)
        if len(h) % self.config.packing == 0:
            yield self._verdict(h, labels)

    @replayable
    def _z(self, z: np.ndarray) -> GANStep:
        return GANStep("z", "z ~ N(0, 1)", np.zeros((len(z), 0), np.float32), z)

    @replayable
    def _layer(self, i: int, given: np.ndarray) -> GANStep:
        stage = self.generator.stages()[i]
        with no_grad(), evaluating(self.generator):
            value = stage.run(Tensor(given))
        return GANStep(stage.name, stage.formula, given, value.data)

    @replayable
    def _pixels(self, given: np.ndarray) -> GANStep:
        return GANStep("pixels", "pixel = (x + 1) / 2", given, self.outside(given))

    @replayable
    def _verdict(self, given: np.ndarray, labels) -> GANStep:
        with ops.enable_grad(), evaluating(self.discriminator):
            x = Tensor(given, requires_grad=True)
            logit = self.discriminator(x, labels)
            gradient = ops.grad(logit.sum(), x)
        return GANStep("verdict", "D(x) = 1 / (1 + exp(-logit))", given, ops.sigmoid(logit.data)[:, 0], gradient.data)

    def sample(self, n: int = 1, seed: int = 0, digit=None, *, truncation: float | None = None, z: np.ndarray | None = None,
               batch: int = 500) -> np.ndarray:
        """(n, height, width[, channels]) float32 in [0, 1], or (n, dimensions) points.

        digit: an int or (n,) labels; without it, a conditional model draws all classes in turn, and one of clusters each by its share.
        """
        n = n if z is None else len(z)
        labels = None if digit is None and self.config.clusters else self.labels_for(digit, n)
        found = []
        for part in minibatches(n, batch):
            steps = self.steps(part.stop - part.start, seed=(seed, part.start) if part.start else seed, truncation=truncation,
                               digit=None if labels is None else labels[part], z=None if z is None else z[part])
            found.append(next(step.value for step in steps if step.name == ("pixels" if self.pictures else "points")))
        return np.concatenate(found)

    def interpolate(self, z_a: np.ndarray, z_b: np.ndarray, steps: int = 10, digit=None) -> np.ndarray:
        """Pictures on the great circle between two z, (latent,) each: (steps, height, width); the ends are their pictures."""
        if steps < 2:
            raise ValueError(f"interpolate: steps is {steps}; it is at least 2, the two ends")
        if self.config.clusters and digit is None:
            digit = int(self.shares.argmax())  # one cluster all the way
        return self.sample(z=great_circle(np.asarray(z_a, np.float32), np.asarray(z_b, np.float32), steps), digit=digit)

    def labels_for(self, digit, n: int, rng: Rng | None = None):
        """(n,) labels of a conditional model: as asked for, or all classes in turn, or clusters drawn by their shares."""
        if not self.config.labels:
            if digit is not None:
                raise ValueError("digit: this model isn't conditional (classes is 0), so it takes none")
            return None
        if digit is None and self.config.clusters:
            shares = self.shares.astype(np.float64)
            return (rng or np.random.default_rng(0)).choice(len(shares), n, p=shares / shares.sum())
        return check_labels(np.arange(n) % self.config.classes if digit is None else digit, self.config.labels, n)

    def evaluate(self, data: Images | str, *, seed: int = 0, n: int = 10_000) -> dict[str, Any]:
        """The judge's figures for n samples, each with its floor; of toys, the modes that are covered."""
        from . import metrics

        x = self.sample(n, seed=seed)
        if isinstance(data, str):
            return metrics.toy_figures(data, x, seed)
        judge = metrics.Judge.of_zoo(data)
        return judge.evaluate(x, digit=np.arange(n) % self.config.classes if self.config.classes else None)


@contextmanager
def evaluating(module: Module) -> Iterator[None]:
    """Norms by their running averages inside; afterwards as before."""
    was = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was)


# --- training


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
    from .data import load_images

    return source if source is not None and source in (*TOYS, "stacked") else load_images(source or "mnist")


def data_shape(data: Images | str) -> tuple[int, ...]:
    return ((28, 28, 3) if data == "stacked" else (2,)) if isinstance(data, str) else data.train.shape[1:]


def stacked_mnist() -> Callable[[int, Rng], np.ndarray]:
    """(n, rng) -> n pictures of three training digits as three colours."""
    from .data import mnist

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
    for name, count in (("critic_steps", t.critic_steps), ("penalty_every", t.penalty_every)):
        if count < 1:
            raise ValueError(f"GANTraining: {name} is {count}; it is at least 1")
    if not 0 < t.penalty_end <= 1:
        raise ValueError(f"GANTraining: penalty_end is {t.penalty_end}; it is above 0 and at most 1")
    batches = batches_of(data, t.batch_size * t.critic_steps, model, seed)
    schedule = linear_decay(t.steps, hold=t.decay_from) if t.decay_from < 1 else constant
    update = Adversaries(model, t, schedule)
    buffers = [Tensor(a) for a in model.generator.named_buffers().values()]  # running averages of norms belong to the weights
    average = Average([*model.generator.parameters(), *buffers], t.average) if t.average else None
    return Trainer(model, None, batches, {"generator": update.generator, "discriminator": update.discriminator}, steps=t.steps,
                   schedule=schedule, seed=seed, average=average, folder=folder, resume=resume, update=update, **options)


FAMILIES = {"gan": Family(GAN, GANTraining, PRESETS, load_data, make_trainer, "mnist", {name: name for name in ("stacked", "grid", "ring")})}
