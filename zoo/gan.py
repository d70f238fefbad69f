"""Generative adversarial networks (Goodfellow et al. 2014): one network draws, the other tells its pictures from real ones.

    z ~ N(0, 1)  --G-->  G(z)  --D-->  verdict  <--D--  x from the data

D's output is a number without bounds, the logit of "real".  Against collapse: packing (Lin et al. 2018), spectral norm (Miyato et al.
2018), gradient penalties (Gulrajani et al. 2017; Mescheder et al. 2018), clusters (Liu et al. 2020), averaged weights; how both networks
are trained is in `gan_training`.  `gan_diagnosis.diagnose` says in words what went wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.random import Generator as Rng

from . import autograd as ops
from .adversarial.networks import Discriminator, Generator
from .autograd import Tensor, no_grad
from .evaluation import Judge, toy_figures
from .model import Config, Model, Step, check_images, check_labels, great_circle, moved, replayable, stream
from .nn import evaluating
from .training import minibatches

if TYPE_CHECKING:
    from .data.images import Images


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
        c.at_least(1, "latent", "channels", "hidden", "discriminator_hidden", "packing")
        c.at_least(0, "classes", "clusters")
        if c.truncation is not None and c.truncation <= 0:
            raise ValueError(f"GANConfig: truncation is {c.truncation}; it is above 0, or None")
        if c.packing > 1 and c.labels:
            raise ValueError(f"GANConfig: packing is {c.packing} with {c.labels} {'classes' if c.classes else 'clusters'}; "
                             "samples of different labels can't be judged as one")
        if c.clusters and c.classes:
            raise ValueError(f"GANConfig: clusters is {c.clusters} and classes {c.classes}; one takes the place of the other")
        self.shape = c.image if len(c.image) == 1 else (*c.image, 1)[:3]
        self.generator = Generator(c.latent + c.labels, self.shape, network=c.network, channels=c.channels, hidden=c.hidden,
                                   norm=c.generator_norm, rng=rng)
        self.discriminator = Discriminator(self.shape, network=c.network, channels=c.channels, hidden=c.discriminator_hidden,
                                           norm=c.discriminator_norm, rng=rng, classes=c.labels, conditioning=c.conditioning,
                                           frequencies=c.frequencies, packing=c.packing)
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
        from .adversarial.clusters import k_means

        self.centres[...] = k_means(self.inside(x).reshape(len(x), -1), self.config.clusters, np.random.default_rng(seed))
        self.shares[...] = np.bincount(self.cluster_of(x), minlength=len(self.centres)) / len(x)

    def cluster_of(self, x: np.ndarray) -> np.ndarray:
        """The cluster of each sample, (n,): x pictures (n, *image) in [0, 1], or points."""
        from .adversarial.clusters import nearest_centre

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
        x = self.sample(n, seed=seed)
        if isinstance(data, str):
            return toy_figures(data, x, seed)
        judge = Judge.of_zoo(data)
        return judge.evaluate(x, digit=np.arange(n) % self.config.classes if self.config.classes else None)


def data_shape(data: Images | str) -> tuple[int, ...]:
    return ((28, 28, 3) if data == "stacked" else (2,)) if isinstance(data, str) else data.train.shape[1:]


def __getattr__(name: str):
    return moved(__name__, name, "zoo.recipes.gan", ("GANTraining", "PRESETS", "make_trainer", "Adversaries", "load_data"))
