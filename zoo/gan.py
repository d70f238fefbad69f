"""Generative adversarial networks (Goodfellow et al. 2014): one network draws, the other tells its samples from real ones.

    z ~ N(0, 1)  --G-->  G(z)  --D-->  logit of "real"  <--D--  x from the data

D raises V(D, G) = E[ln D(x)] + E[ln(1 - D(G(z)))] and G lowers it (eq. 1).  With p the density of the data and q that of G's samples, V is
the integral of p ln D + q ln(1 - D) over x.  At each x, a ln D + b ln(1 - D) is greatest at D = a / (a + b), so the best discriminator of a
given G is D* = p / (p + q) (proposition 1, eq. 2).  D is computed from a logit l, a number without bounds, as 1 / (1 + exp(-l)); then

    l* = ln(D* / (1 - D*)) = ln p(x) - ln q(x):

a discriminator learns the log ratio of the two densities.  Put into V, D* gives 2 JSD(p, q) - ln 4 (theorem 1): G's best is q = p.

Below: the configuration, the game (both networks' steps on one screen), and the model with its steps and samples.  The networks, losses
and penalties are in `adversarial/`, presets and settings of runs in `recipes/gan.py`; `explain.diagnosis.diagnose` says what went wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Unpack

import numpy as np
from numpy.random import Generator as Rng

from . import autograd as ops
from . import nn
from .autograd import Tensor, no_grad
from .autograd.random import generator
from .data.toys import sample_shape
from .evaluation.judge import judged
from .model import (
    Config,
    Count,
    Decay,
    Model,
    Natural,
    NonNegative,
    Positive,
    Range,
    Renamed,
    Step,
    check_count,
    check_images,
    check_labels,
    great_circle,
    labels_for,
    moved,
    replayable,
    stream,
)
from .nn import evaluating
from .optim import Adam, Schedule, constant
from .parts.adversarial.clusters import k_means, nearest_centre
from .parts.adversarial.losses import LOSSES, gradient_penalty, zero_centred_penalty
from .parts.adversarial.networks import Discriminator, Generator
from .training import by_parts
from .training.private import PrivateGradients

if TYPE_CHECKING:
    from .data.images import Images
    from .model.fields import GANFields

__all__ = ["GAN", "AdversarialStep", "GANConfig", "GANStep", "GameSettings", "LastStep"]


# --- configuration


@dataclasses.dataclass(frozen=True)
class GANConfig(Config):
    image: tuple[Count, ...] = (28, 28)  # height, width, and channels if there is more than one; or (dimensions,) for points
    network: Literal["dense", "convolutional"] = "convolutional"
    latent: Count = 64
    channels: Count = 32  # convolutional: layers have 4 and 2 times as many
    hidden: tuple[Count, ...] = (256, 256)  # dense: widths of the generator's layers
    discriminator_hidden: tuple[Count, ...] = (256, 256)  # dense: widths of the discriminator's
    generator_norm: Literal["batch", "none"] = "batch"
    discriminator_norm: Literal["batch", "layer", "spectral", "none"] = "spectral"
    classes: Natural = 0  # conditional on labels if above 0
    clusters: Natural = 0  # or conditional on clusters of like pictures, found by k-means and drawn by their shares (Liu et al. 2020)
    conditioning: Literal["projection", "concatenation"] = "projection"  # how the discriminator is told the label
    frequencies: tuple[Positive, ...] = ()  # dense: of sines and cosines of each coordinate that the discriminator sees too, radians a unit
    packing: Count = 1  # how many samples the discriminator judges as one (Lin et al. 2018)
    truncation: Positive | None = None  # of z, unless sampling says otherwise; None for none

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.image) not in (1, 2, 3):
            raise ValueError(f"GANConfig: image is {self.image}; it is (height, width), (height, width, channels) or (dimensions,)")
        if self.network == "convolutional" and (len(self.image) == 1 or self.image[0] % 4 or self.image[1] % 4):
            raise ValueError(f"GANConfig: image is {self.image}; a convolutional network needs a height and width that 4 divides")
        if self.frequencies and self.network == "convolutional":
            raise ValueError(f"GANConfig: frequencies is {self.frequencies}; only a dense network sees coordinates, so it takes none")
        if max(self.frequencies, default=0) > 1e6:
            raise ValueError(f"GANConfig: frequencies is {self.frequencies}; they are at most 1e6 radians a unit, beyond which float32 has no sines")
        self.at_least(1, "hidden", "discriminator_hidden")  # not empty
        if self.packing > 1 and self.labels:
            raise ValueError(f"GANConfig: packing is {self.packing} with {self.labels} {'classes' if self.classes else 'clusters'}; "
                             "samples of different labels can't be judged as one")
        if self.clusters and self.classes:
            raise ValueError(f"GANConfig: clusters is {self.clusters} and classes {self.classes}; one takes the place of the other")

    @property
    def labels(self) -> int:
        """How many classes or clusters the networks are told of; 0 for none."""
        return self.classes or self.clusters


# --- the game


@dataclasses.dataclass(frozen=True)
class GameSettings(Config):
    """Algorithm 1 of Goodfellow et al. (2014), and what later papers added to keep the game stable; a run's settings are more of these."""

    steps: Count = 20_000  # of the generator
    batch_size: Count = 64
    loss: Literal["minimax", "non-saturating", "least-squares", "hinge", "wasserstein", "relativistic"] = "non-saturating"
    lr: NonNegative = 2e-4  # the generator's
    discriminator_lr: NonNegative = 2e-4
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999
    critic_steps: Count = 1  # steps of the discriminator for each of the generator
    gradient_penalty: NonNegative = 0.0  # weight of (|dD/dx| - 1)^2 between real and fake (Gulrajani et al. 2017, eq. 3)
    r1: NonNegative = 0.0  # weight of |dD/dx|^2 / 2 on real samples (Mescheder et al. 2018, eq. 9)
    r2: NonNegative = 0.0  # and on fake ones
    penalty_every: Count = 1  # r1 and r2 are added in every `penalty_every`-th step, multiplied by it (Karras et al. 2020, section 3.1)
    penalty_end: Annotated[float, Range(0, 1, above=True)] = 1.0  # the share of r1 and r2 that is left at the end; they fall geometrically
    weight_clip: NonNegative = 0.0  # every weight of D stays within this (Arjovsky et al. 2017, algorithm 1)
    smoothing: Annotated[float, Range(0, 1, below=True)] = 0.0  # the target for real samples is 1 - smoothing (Salimans et al. 2016)
    noise: NonNegative = 0.0  # standard deviation at first of noise added to what D sees; it falls to 0 (Sonderby et al. 2017, section 3.2)


@dataclasses.dataclass
class LastStep:
    """What the last step of training computed for each fake sample."""

    fake: np.ndarray  # (n, ...) in the network's range
    logits: np.ndarray  # of the discriminator after its step, (n / packing,)
    gradient: np.ndarray  # of the generator's loss in each fake sample: the step moves samples against it
    labels: np.ndarray | None

    verdict = Renamed("logits")  # the name until 0.1


class AdversarialStep:
    """One step of both networks: `Trainer(..., update=AdversarialStep(model, settings))`.

    schedule: factor of both learning rates, by steps of the generator.
    """

    private: PrivateGradients | None = None  # the discriminator's, which alone sees data; the generator learns from the discriminator
    last: LastStep | None = None  # what the step before computed for each fake sample
    generator, discriminator = Renamed("generator_optimiser"), Renamed("discriminator_optimiser")  # names until 0.1

    def __init__(self, model: GAN, settings: GameSettings, schedule: Schedule = constant):
        s, name = settings, type(settings).__name__
        if s.smoothing and s.loss == "wasserstein":
            raise ValueError(f"{name}: smoothing is {s.smoothing} with loss 'wasserstein', which has no target to smooth")
        penalties = [field for field in ("gradient_penalty", "r1", "r2") if getattr(s, field)]
        if penalties and model.config.discriminator_norm == "batch":
            raise ValueError(f"{name}: {penalties[0]} is {getattr(s, penalties[0])} with discriminator_norm 'batch'; the penalty is on the "
                             "slope in each sample, but a batch norm makes every logit depend on all samples (Gulrajani et al. 2017, "
                             "section 4): take 'layer', 'spectral' or 'none'")
        if s.batch_size % model.config.packing:
            raise ValueError(f"{name}: batch_size is {s.batch_size}; packing, {model.config.packing}, must divide it")
        self.model, self.settings, self.schedule = model, settings, schedule
        self.loss = LOSSES[s.loss]
        self.generator_optimiser = Adam(model.generator.parameters(), s.lr, betas=(s.beta_1, s.beta_2))
        self.discriminator_optimiser = Adam(model.discriminator.parameters(), s.discriminator_lr, betas=(s.beta_1, s.beta_2))

    @property
    def parts(self) -> int:
        """Of a batch, one for each step of the discriminator."""
        return self.settings.critic_steps

    def be_private(self, private: PrivateGradients) -> None:
        """Take the discriminator's steps along bounded and noised gradients of single examples.  ValueError where that isn't possible."""
        if self.loss.threshold is None:
            raise ValueError(f"private: loss is {self.settings.loss!r}, with which the generator learns from real samples too, without noise; "
                             f"the others are {', '.join(name for name, loss in LOSSES.items() if loss.threshold is not None)}")
        if self.model.config.packing > 1:
            raise ValueError(f"private: packing is {self.model.config.packing}; the gradient of one example would depend on the others, so it is 1")
        if self.model.config.clusters:
            raise ValueError(f"private: clusters is {self.model.config.clusters}; their centres, which are saved with the model, are means of the "
                             "training data without noise")
        if self.model.config.discriminator_norm not in ("none", "layer"):
            raise ValueError(f"private: discriminator_norm is {self.model.config.discriminator_norm!r}, whose numbers move with every example, so "
                             "the gradient of one depends on the others; it may be 'none' or 'layer'")
        private.split(self.settings.critic_steps)
        self.private = private

    def __call__(self, batch, rng: Rng) -> dict[str, float]:
        """batch: critic_steps * batch_size real samples, or (samples, labels).  Returns losses, mean logits, accuracy and gradient norms.

        A loss that isn't finite is returned and changes nothing; a gradient that isn't is a FloatingPointError.

        Fake samples are drawn with the labels of the real ones beside them.  Then labels are as frequent among the fake as among the real
        ones, and the best logit ln p(x, y) - ln q(x, y) is ln p(x|y) - ln q(x|y): the label alone gives nothing away.
        """
        if self.private is not None:
            return self._private_step(rng)
        m, k = self.model, self.settings.critic_steps
        x, labels = self._checked(batch)
        rows = len(x) // k
        factor, noise = self.schedule(self.generator_optimiser.steps), self.noise_deviation()

        def noisy(samples):
            return samples + noise * rng.standard_normal(samples.shape, np.float32) if noise else samples

        for i in range(k):
            part = slice(i * rows, (i + 1) * rows)
            real, y = x[part], None if labels is None else labels[part]
            z = m.with_labels(m.draw_z(rows, rng), y)
            with ops.enable_grad(i == k - 1):  # the last fake samples serve the generator's step too
                fake = m.generator(Tensor(z))
            figures = self._discriminator_step(noisy(real), noisy(fake.data), y, factor, rng)
            if not math.isfinite(figures["discriminator"]) and nn.whole_batch is None:
                return figures
        return {**self._generator_step(fake, real, y, factor, noisy), **figures}

    def _discriminator_step(self, real: np.ndarray, fake: np.ndarray, labels: Any, factor: float, rng: Rng) -> dict[str, float]:
        """(1) D raises E[ln D(x)] + E[ln(1 - D(G(z)))], or lowers another loss: real samples up, fake ones down, and not too steeply."""
        loss, figures = self._discriminator_loss(real, fake, labels, labels, rng)
        if not math.isfinite(float(loss)) and nn.whole_batch is None:  # else other ranks wait for the gradient, whose norm then tells all
            return {**figures, "discriminator": float(loss), "discriminator_norm": self.discriminator_optimiser.grad_norm}
        self.discriminator_optimiser.zero_grad()
        loss.backward(done=self.discriminator_optimiser.done)
        return {**figures, **self._move_discriminator(factor)}

    def _discriminator_loss(self, real: np.ndarray, fake: np.ndarray, labels: Any, fake_labels: Any, rng: Rng) -> tuple[Tensor, dict[str, float]]:
        s, discriminator, weight = self.settings, self.model.discriminator, self.penalty_weight()
        r1, r2 = weight * s.r1, weight * s.r2  # 0 in most steps, where no gradient in x is needed
        x_real, x_fake = Tensor(real, requires_grad=r1 > 0), Tensor(fake, requires_grad=r2 > 0)
        on_real, on_fake = discriminator(x_real, labels), discriminator(x_fake, fake_labels)
        loss = self.loss.discriminator(on_real, on_fake, s.smoothing)
        figures = {"discriminator": float(loss), "real": float(on_real.data.mean()), "fake": float(on_fake.data.mean()),
                   "accuracy": self.loss.accuracy(on_real.data, on_fake.data)}

        penalties = [r * zero_centred_penalty(x, logits) for r, x, logits in ((r1, x_real, on_real), (r2, x_fake, on_fake)) if r]
        if s.gradient_penalty:
            penalties.append(s.gradient_penalty * gradient_penalty(lambda x: discriminator(x, labels), real, fake, rng))
        if penalties:
            penalty = sum(penalties[1:], penalties[0])
            figures["penalty"] = float(penalty)
            loss = loss + penalty
        return loss, figures

    def _move_discriminator(self, factor: float) -> dict[str, float]:
        """The optimiser's step, and the norm of the gradient that it took."""
        self.discriminator_optimiser.step(factor)
        if self.settings.weight_clip:
            weights = self.discriminator_optimiser.flat  # all of them in one array
            np.clip(weights, -self.settings.weight_clip, self.settings.weight_clip, out=weights)
        return {"discriminator_norm": self.discriminator_optimiser.grad_norm}

    def _private_step(self, rng: Rng) -> dict[str, float]:
        """The same with examples that the private gradients draw: each is compared with one fake sample, whose label is drawn by chance and not
        taken from the data, since the generator learns from the fake samples without noise."""
        private, m, k = self.private, self.model, self.settings.critic_steps
        assert private is not None
        factor, noise = self.schedule(self.generator_optimiser.steps), self.noise_deviation()
        figures: dict[str, float] = {}

        def noisy(samples, rng=rng):
            return samples + noise * rng.standard_normal(samples.shape, np.float32) if noise else samples

        for i in range(k):
            n = max(1, private.expected)
            y = rng.integers(m.config.labels, size=n) if m.config.labels else None
            with ops.enable_grad(i == k - 1):
                fake = m.generator(Tensor(m.with_labels(m.draw_z(n, rng), y)))

            def loss_of(example: Any, rng: Rng, fake=fake, y=y) -> dict[str, Any]:
                x, label = example if isinstance(example, tuple) else (example, None)
                label = check_labels(label, m.config.labels, 1) if m.config.labels else None
                other = int(rng.integers(len(fake.data)))
                loss, figures = self._discriminator_loss(noisy(m.to_network_range(x), rng), noisy(fake.data[other : other + 1], rng), label,
                                                         None if y is None else y[other : other + 1], rng)
                return {"minimised": loss, **figures}

            figures = private.gradients(self.discriminator_optimiser, loss_of, private.per_step * self.generator_optimiser.steps + i)
            figures.pop("minimised", None)
            figures |= self._move_discriminator(factor)
        return {**self._generator_step(fake, fake.data, y, factor, noisy), **figures}

    def _generator_step(self, fake: Tensor, real: np.ndarray, labels: Any, factor: float, noisy: Callable) -> dict[str, float]:
        """(2) G raises E[ln D(G(z))], or lowers another loss: samples move to where D, which stays as it is, takes them for real."""
        discriminator, weights = self.model.discriminator, [p for p in self.model.generator.parameters() if p.requires_grad]
        logits = discriminator(noisy(fake), labels)
        if self.loss.threshold is None:  # a loss of pairs
            with no_grad():
                on_real = discriminator(Tensor(noisy(real)), labels)
            loss = self.loss.generator(logits, on_real)
        else:
            loss = self.loss.generator(logits)

        if not math.isfinite(float(loss)) and nn.whole_batch is None:
            return {"generator": float(loss)}
        at_fake, *gradients = ops.grad(loss, [fake, *weights])  # without those of the discriminator's weights
        for p, gradient in zip(weights, gradients):
            p.grad = gradient.data
        self.generator_optimiser.step(factor)
        self.last = LastStep(fake.data, logits.data[:, 0], at_fake.data, labels)
        return {"generator": float(loss), "generator_norm": self.generator_optimiser.grad_norm, "sample_norm": float(np.linalg.norm(at_fake.data))}

    def noise_deviation(self) -> float:
        """Standard deviation of the noise in this step: `noise` at first, along a parabola to 0 after three fifths of the steps."""
        left = 1 - self.generator_optimiser.steps / (0.6 * self.settings.steps)
        return self.settings.noise * left * left if left > 0 else 0.0

    def penalty_weight(self) -> float:
        """What r1 and r2 are multiplied by in this step; 0 in the steps that leave them out."""
        s, step = self.settings, self.generator_optimiser.steps
        return 0.0 if step % s.penalty_every else s.penalty_every * s.penalty_end ** (step / s.steps)

    def _checked(self, batch: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """The batch's samples in the network's range, and their labels."""
        k, c = self.settings.critic_steps, self.model.config
        x, labels = batch if isinstance(batch, tuple) else (batch, None)
        x = self.model.to_network_range(x)
        labels = check_labels(labels, c.labels, len(x)) if c.labels else None
        rows = len(x) // k
        if rows == 0 or rows % c.packing:
            raise ValueError(f"batch: has {len(x)} samples; for {k} critic steps and packing {c.packing} "
                             f"it needs a multiple of {k * c.packing}")
        return x, labels


# --- the model


@dataclasses.dataclass
class GANStep(Step):
    """One step from z to the verdict: `value` is what `name` computed from `given`."""

    name: str  # "z", "generator.project", ..., "picture" or "points", "pixels", "verdict": of a layer its path, as in a trace
    formula: str
    given: np.ndarray
    value: np.ndarray  # of "verdict": the probability that D gives to "real", (n,)
    gradient: np.ndarray | None = None  # of "verdict": d logit / dx, the direction in which each picture would look more real to D


class GAN(Model):
    """`GAN.new(classes=10, seed=0)`, or `zoo.load("gan")`."""

    kind = "gan"
    Config = GANConfig
    config: GANConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[GANFields]) -> Self: ...  # type: ignore[override]

    def __init__(self, config: GANConfig, *, rng: Rng):
        super().__init__(config, rng=rng)
        c = config
        self.shape = c.image if len(c.image) == 1 else (*c.image, 1)[:3]
        self.generator = Generator(c.latent + c.labels, self.shape, network=c.network, channels=c.channels, hidden=c.hidden,
                                   norm=c.generator_norm, rng=rng)
        self.discriminator = Discriminator(self.shape, network=c.network, channels=c.channels, hidden=c.discriminator_hidden,
                                           norm=c.discriminator_norm, rng=rng, classes=c.labels, conditioning=c.conditioning,
                                           frequencies=c.frequencies, packing=c.packing)
        if c.clusters:
            self.centres = np.zeros((c.clusters, math.prod(self.shape)), np.float32)  # mean of the samples in each; saved like weights
            self.shares = np.full(c.clusters, 1 / c.clusters, np.float32)

    @classmethod
    def for_data(cls, data: Images | str, *, seed: int = 0, **fields: Any) -> GAN:
        """A fresh model for these pictures or points."""
        return cls.new(seed=seed, **{"image": sample_shape(data), **fields})

    @property
    def pictures(self) -> bool:
        """True for a model of pictures, False for one of points."""
        return len(self.config.image) > 1

    def draw_z(self, n: int, rng: Rng, truncation: float | None = None) -> np.ndarray:
        """(n, latent) standard normal; with truncation, numbers beyond it are drawn again (Brock et al. 2019)."""
        shape = (n, self.config.latent)
        if truncation is not None and not truncation > 0:
            raise ValueError(f"truncation: is {truncation}; it is above 0, and infinity for none")
        if truncation is not None and truncation < 0.1:  # hardly a draw in ten would do: the same distribution by its quantiles
            from scipy.special import ndtr, ndtri

            return ndtri(rng.uniform(ndtr(-truncation), ndtr(truncation), shape)).clip(-truncation, truncation).astype(np.float32)
        z = rng.standard_normal(shape, np.float32)
        while truncation is not None and (beyond := np.abs(z) > truncation).any():
            z[beyond] = rng.standard_normal(int(beyond.sum()), np.float32)
        return z

    def with_labels(self, z, labels):
        """z with the labels beside it, one-hot, in a conditional model."""
        return z if labels is None else np.concatenate([z, np.eye(self.config.labels, dtype=np.float32)[labels]], axis=1)

    def labels_for(self, digit, n: int, rng: Rng | None = None) -> np.ndarray | None:
        """(n,) labels of a conditional model: as asked for, or all classes in turn, or clusters drawn by their shares."""
        if not self.config.clusters:
            return labels_for(digit, self.config.classes, n)
        if digit is None:
            shares = self.shares.astype(np.float64)
            return (rng or np.random.default_rng(0)).choice(len(shares), n, p=shares / shares.sum())
        return check_labels(digit, self.config.clusters, n)

    def find_clusters(self, x: np.ndarray, seed: int = 0) -> None:
        """Take centres and shares of the clusters from these samples: pictures (n, *image) in [0, 1], or points."""
        self.centres[...] = k_means(self.to_network_range(x).reshape(len(x), -1), self.config.clusters, generator(seed))
        self.shares[...] = np.bincount(self.cluster_of(x), minlength=len(self.centres)) / len(x)

    def cluster_of(self, x: np.ndarray) -> np.ndarray:
        """The cluster of each sample, (n,): x pictures (n, *image) in [0, 1], or points."""
        return nearest_centre(self.to_network_range(x).reshape(len(x), -1), self.centres)

    def to_network_range(self, x) -> np.ndarray:
        """Pictures in [0, 1] as (n, height, width, colours) in [-1, 1]; points as they are."""
        if not self.pictures:
            x = np.asarray(x, np.float32)
            if x.ndim != 2 or x.shape[1:] != self.config.image:
                raise ValueError(f"points: shape is {x.shape}; this model takes (n, {self.config.image[0]})")
            return x
        return 2 * check_images(x, self.config.image).reshape(len(x), *self.shape) - 1

    def to_pictures(self, x: np.ndarray) -> np.ndarray:
        """The generator's output as pictures in [0, 1]; points as they are."""
        return 0.5 * x.reshape(len(x), *self.config.image) + 0.5 if self.pictures else x

    joined, inside, outside = Renamed("with_labels"), Renamed("to_network_range"), Renamed("to_pictures")  # names until 0.1

    # --- generation

    @stream(GANStep)  # without gradients; adds every= and keep=
    def steps(self, n: int = 1, *, seed: int | tuple[int, ...] = 0, digit=None, truncation: float | None = None,
              z: np.ndarray | None = None) -> Iterator[GANStep]:
        """From z through each layer to the picture, and the discriminator's verdict on it.

        truncation: numbers of z beyond it are drawn again; the configuration's unless given, and math.inf for none.
        z: start from this (n, latent).  digit: as for `sample`.
        """
        rng = generator(seed)
        if z is None:
            z = self.draw_z(check_count(n), rng, self.config.truncation if truncation is None else truncation)
        z = np.asarray(z, np.float32)
        if z.ndim != 2 or z.shape[1] != self.config.latent:
            raise ValueError(f"steps: z has shape {z.shape}; it is (n, {self.config.latent})")
        labels = self.labels_for(digit, len(z), rng)
        yield self._z(z)
        h = self.with_labels(z, labels)
        for i in range(len(self.generator.stages())):
            step = self._layer(i, h)
            h = step.value
            yield step
        if self.pictures:
            yield self._pixels(h)
        if len(h) % self.config.packing == 0:
            yield self._verdict(h, labels)

    @replayable  # step.replay() computes it again from these arguments
    def _z(self, z: np.ndarray) -> GANStep:
        return GANStep("z", "z ~ N(0, 1)", np.zeros((len(z), 0), np.float32), z)

    @replayable
    def _layer(self, i: int, given: np.ndarray) -> GANStep:
        stage = self.generator.stages()[i]
        with no_grad(), evaluating(self.generator):
            value = stage.run(Tensor(given))
        return GANStep(stage.name if stage.name in ("picture", "points") else f"generator.{stage.name}", stage.formula, given, value.data)

    @replayable
    def _pixels(self, given: np.ndarray) -> GANStep:
        return GANStep("pixels", "pixel = (x + 1) / 2", given, self.to_pictures(given))

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

        digit: an int or (n,) labels; without it, a model of classes draws all in turn, and one of clusters each by its share.
        truncation, z: as for `steps`.  batch: this many at a time.
        """
        n = n if z is None else len(z)
        labels = None if digit is None and self.config.clusters else self.labels_for(digit, n)

        def drawn(part: slice) -> np.ndarray:
            steps = self.steps(part.stop - part.start, seed=(seed, part.start) if part.start else seed, truncation=truncation,
                               digit=None if labels is None else labels[part], z=None if z is None else z[part])
            return next(step.value for step in steps if step.name == ("pixels" if self.pictures else "points"))

        return np.concatenate(by_parts(drawn, n, batch))

    def interpolate(self, z_a: np.ndarray, z_b: np.ndarray, steps: int = 10, digit=None) -> np.ndarray:
        """Pictures on the great circle between two z, (latent,) each: (steps, height, width); the ends are their pictures."""
        if steps < 2:
            raise ValueError(f"interpolate: steps is {steps}; it is at least 2, the two ends")
        if self.config.clusters and digit is None:
            digit = int(self.shares.argmax())  # one cluster all the way
        return self.sample(z=great_circle(np.asarray(z_a, np.float32), np.asarray(z_b, np.float32), steps), digit=digit)

    def evaluate(self, data: Images | str, *, seed: int = 0, n: int = 10_000, judge: str | Path | None = None) -> dict[str, Any]:
        """The judge's figures for n samples, each with its floor; of toys, the modes that are covered.

        judge: a classifier by name or folder, in place of the one that ships.
        """
        draw = lambda: self.sample(n, seed=seed)
        return judged(draw, data, n=n, image=self.config.image, classes=self.config.classes, judge=judge, seed=seed)


def __getattr__(name: str):
    if name == "Adversaries":
        return moved(__name__, name, __name__, {name: "AdversarialStep"})
    return moved(__name__, name, "zoo.recipes.gan", ("GANTraining", "PRESETS", "make_trainer", "load_data"))
