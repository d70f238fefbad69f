"""The plain autoencoder (Hinton & Salakhutdinov 2006): a picture through a bottleneck and back.

    x  --encoder-->  z  --decoder-->  p(x = 1) for every pixel

The loss is the reconstruction's cross-entropy alone: a VAE's without the KL term.  So nothing says where the codes z lie, and there is no
prior to draw from.  To draw at all, `sample` takes a normal distribution with the mean and covariance that the codes had in training
(Ghosh et al. 2020, section 4, with one Gaussian); a variational autoencoder doesn't need it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import numpy as np
from numpy.random import Generator

from . import autograd as ops
from . import nn
from .autograd import Tensor, no_grad
from .autograd.random import generator
from .data.images import Images
from .model import Config, Count, Model, check_count, check_images, labels_for, last, moved, replayable, straight_line, stream
from .nn import Linear
from .training import minibatches
from .vae import ConvolutionalDecoder, ConvolutionalEncoder, VAEStep, check_image_size, test_images

if TYPE_CHECKING:
    from .model.fields import AutoencoderFields

__all__ = ["Autoencoder", "AutoencoderConfig"]


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig(Config):
    image: tuple[Count, ...] = (28, 28)  # height, width, and channels if there is more than one
    latent: Count = 32  # numbers in a code
    hidden: tuple[Count, ...] = (512, 256)  # widths of the dense layers from picture to code, and back in reverse
    activation: Literal["tanh", "relu", "gelu", "silu", "leaky_relu"] = "relu"
    network: Literal["dense", "convolutional"] = "dense"  # between the picture and the first of `hidden`


class Autoencoder(Model):
    """`Autoencoder.new(latent=32, seed=0)`, or `zoo.load("autoencoder")`."""

    kind = "autoencoder"
    Config = AutoencoderConfig
    config: AutoencoderConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[AutoencoderFields]) -> Self: ...  # type: ignore[override]

    mean: np.ndarray  # (latent,) of the codes in training: a running average
    covariance: np.ndarray  # (latent, latent)

    def __init__(self, config: AutoencoderConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        c = config
        check_image_size(c)
        if not c.hidden:
            raise ValueError("AutoencoderConfig: hidden is (); it has at least one width")
        image = (*c.image, 1)[:3]
        conv = c.network == "convolutional"
        self.convolve = ConvolutionalEncoder(image, c.hidden[0], c.activation, rng=rng) if conv else None
        widths = c.hidden if conv else (math.prod(image), *c.hidden)
        self.encoders = [Linear(a, b, rng=rng, activation=c.activation) for a, b in pairwise(widths)]
        self.code = Linear(c.hidden[-1], c.latent, rng=rng)
        self.layers = [Linear(a, b, rng=rng, activation=c.activation) for a, b in pairwise([c.latent, *c.hidden[::-1]])]
        self.output = (ConvolutionalDecoder(c.hidden[0], image, c.activation, rng=rng) if conv
                       else Linear(c.hidden[0], math.prod(image), rng=rng))
        self.mean, self.covariance = np.zeros(c.latent, np.float32), np.eye(c.latent, dtype=np.float32)

    @classmethod
    def for_data(cls, images: Images, *, seed: int = 0, **fields: Any) -> Autoencoder:
        return cls.new(seed=seed, **{"image": images.train.shape[1:], **fields})

    def encode(self, x):
        """x (n, height, width[, channels]) in [0, 1] -> codes (n, latent)."""
        h = x.reshape((len(x), -1)) if self.convolve is None else self.convolve(x.reshape((len(x), *(*self.config.image, 1)[:3])))
        for layer in self.encoders:
            h = layer(h)
        return self.code(h)

    def decode(self, z):
        """Codes (n, latent) -> pixels (n, height, width[, channels])."""
        return ops.sigmoid(self.logits(z)).reshape((len(z), *self.config.image))

    def logits(self, z):  # (n, latent) -> (n, pixels)
        for layer in self.layers:
            z = layer(z)
        return self.output(z)

    def loss(self, batch, rng: Generator) -> dict[str, Tensor]:
        """Cross-entropy between pixels and their reconstruction, in nats per image."""
        x = check_images(batch, self.config.image)
        z = self.encode(x)
        if self.training:
            self._update_statistics(z.data if nn.whole_batch is None else nn.whole_batch.gather(z.data))  # those of other ranks too
        return {"loss": -ops.bernoulli_log_likelihood(x.reshape(len(x), -1), self.logits(z)).mean()}

    def _update_statistics(self, z: np.ndarray, rate: float = 0.01) -> None:
        """Move the running mean and covariance towards those of a batch's codes."""
        difference = z - self.mean
        self.covariance += np.float32(rate) * (difference.T @ difference / np.float32(len(z)) - self.covariance)
        self.mean += np.float32(rate) * difference.mean(0)

    def evaluate(self, images: Images, *, seed: int = 0) -> dict[str, float]:
        """Errors of the test pictures' reconstructions: squared error, and cross-entropy, whose least value is the pictures' entropy."""
        x = test_images(images, self.config.image)
        reconstructions = np.concatenate([self.reconstruct(x[part]) for part in minibatches(len(x), 500)]).astype(np.float64)
        entropy, cross = (-(x * np.log(np.maximum(p, 1e-30)) + (1 - x) * np.log(np.maximum(1 - p, 1e-30))).sum() / len(x)
                          for p in (x.astype(np.float64), reconstructions))
        return {"test cross-entropy, nats": float(cross), "entropy, nats": float(entropy),
                "squared error a pixel": float(((x - reconstructions) ** 2).mean()), "images": len(x)}

    # --- generation

    @stream(VAEStep)
    def steps(self, n: int = 1, *, seed: int = 0, digit=None, z: np.ndarray | None = None) -> Iterator[VAEStep]:
        """From z to pixels, one record a layer.  z: start from these codes (n, latent) instead of a draw."""
        labels_for(digit, 0, 0)
        if z is None:
            draw = generator(seed).standard_normal((check_count(n), self.config.latent), np.float32)
            step = self._step("z", np.zeros((n, 0), np.float32), draw)
            yield step
            z = step.value
        z = np.asarray(z, np.float32)
        if z.ndim != 2 or z.shape[1] != self.config.latent:
            raise ValueError(f"steps: z has shape {z.shape}; it is (n, {self.config.latent})")
        for name in [*(f"layers.{j}" for j in range(len(self.layers))), "logits", "pixels"]:
            step = self._step(name, z)
            z = step.value
            yield step

    @replayable
    def _step(self, name: str, given: np.ndarray, draw: np.ndarray | None = None) -> VAEStep:
        if draw is not None:
            values, vectors = np.linalg.eigh(self.covariance)
            root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T  # root root = covariance
            formula, value = "z = mean + covariance^(1/2) draw", self.mean + draw @ root
        elif name == "pixels":
            formula, value = "x = 1 / (1 + exp(-l))", ops.sigmoid(given).reshape((len(given), *self.config.image))
        elif name == "logits":
            formula, value = "l = W h + b", self.output(given)
        else:
            formula, value = f"h = {self.config.activation}(W h + b)", self.layers[int(name.rpartition(".")[2])](given)
        return VAEStep(name, formula, given, draw, value.data if isinstance(value, Tensor) else value)

    def sample(self, n: int = 1, seed: int = 0, digit=None) -> np.ndarray:
        """(n, height, width[, channels]) float32 in [0, 1], from codes of the Gaussian that training's codes resemble."""
        return last(self.steps(n, seed=seed, digit=digit)).value

    def reconstruct(self, x) -> np.ndarray:
        """decode(encode(x))."""
        with no_grad():
            return np.asarray(self.decode(self.encode(check_images(x, self.config.image))))

    def interpolate(self, a, b, steps: int = 10) -> np.ndarray:
        """Pictures on the straight line between the codes of two pictures: (steps, height, width); the ends are the reconstructions."""
        with no_grad():
            ends = np.asarray(self.encode(check_images(np.stack([a, b]), self.config.image)))
            return np.asarray(self.decode(straight_line(ends[0], ends[1], steps)))


def __getattr__(name: str):
    return moved(__name__, name, "zoo.recipes.autoencoder", ("AutoencoderTraining", "PRESETS", "make_trainer"))
