"""Variational autoencoders (Kingma & Welling 2014) of one Gaussian layer or several, and the importance-weighted bound (Burda et al. 2016).

    x  --q(z1|x)-->  z1  --q(z2|z1)-->  z2            the encoder: one Gaussian after the other
    x  <--p(x|z1)--  z1  <--p(z1|z2)--  z2 ~ N(0, 1)  the decoder

Why the bound is a bound.  With z from q and the weight w = p(x, z) / q(z|x) = p(x|z1) p(z1|z2) p(z2) / (q(z1|x) q(z2|z1)), E w = p(x).  The
logarithm is concave, so it is at most the logarithm of the mean (Jensen):

    ln p(x) = ln E w  >=  E ln w = E ln p(x|z) - KL(q(z|x) || p(z))                  (Kingma & Welling, eq. 2 and 3)

The gap is KL(q(z|x) || p(z|x)) (eq. 1): none if q is the posterior.  A mean of k weights has the same expectation but varies less, so
the logarithm loses less, and in the limit nothing (Burda et al., eq. 8 and theorem 1):

    ln p(x)  >=  E ln 1/k sum_k w_k  >=  E ln w

Training maximises this with `samples` for k; `log_likelihood` takes k = 5,000.

Why z is drawn as mean + deviation * noise.  The noise is drawn whatever the weights are, and then z is a differentiable function of the
mean and deviation that q gives: so the gradient of E ln w is the mean of a gradient through the sample (Kingma & Welling, section 2.4).
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
from .autograd import Tensor, no_grad
from .autograd.random import generator
from .data.images import Images, binarise
from .model import (
    Config,
    Count,
    Model,
    Natural,
    NonNegative,
    Step,
    check_count,
    check_images,
    check_labels,
    labels_for,
    last,
    moved,
    replayable,
    straight_line,
    stream,
)
from .nn import Conv2d, ConvTranspose2d, Linear, Module, parameter
from .training import by_parts, minibatches

if TYPE_CHECKING:
    from .model.fields import VAEFields

__all__ = [
    "VAE", "ConvolutionalDecoder", "ConvolutionalEncoder", "Gaussian", "VAEConfig", "VAEStep", "check_image_size", "repeat_rows",
    "test_images",
]


@dataclasses.dataclass(frozen=True)
class VAEConfig(Config):
    image: tuple[Count, ...] = (28, 28)  # height, width, and channels if there is more than one
    hidden: tuple[Count, ...] = (200,)  # width of the deterministic layers beside each stochastic layer
    latent: tuple[Count, ...] = (50,)  # widths of z1, z2, ...
    depth: Natural = 2  # deterministic layers in each block
    activation: Literal["tanh", "relu", "gelu", "silu", "leaky_relu"] = "tanh"
    network: Literal["dense", "convolutional"] = "dense"  # between x and z1
    pixels: Literal["bernoulli", "gaussian"] = "bernoulli"  # p(x|z1)
    binarise: bool = True  # train on x ~ Bernoulli(pixel), sampled again each time a picture is used; else on grey pixels
    samples: Count = 1  # k of the importance-weighted bound
    beta: NonNegative = 1.0  # weight of the KL term (Higgins et al. 2017)
    classes: Natural = 0  # label-conditional if above 0


class Gaussian(Module):
    """The mean and log variance of a normal distribution, given h: dense layers, then one layer for both."""

    layers: list[Linear]
    output: Linear

    def __init__(self, inputs: int, width: int, depth: int, outputs: int, activation: str, *, rng: Generator):
        widths = [inputs] + [width] * depth
        self.layers = [Linear(a, b, rng=rng, activation=activation) for a, b in pairwise(widths)]
        self.output = Linear(widths[-1], 2 * outputs, rng=rng)

    def __call__(self, h):  # (..., inputs) -> mean and log variance, each (..., outputs)
        for layer in self.layers:
            h = layer(h)
        mean, log_variance = ops.split(self.output(h), 2, axis=-1)
        return mean, log_variance


class ConvolutionalEncoder(Module):
    """Two convolutions that halve the image, then a dense layer: x (n, height, width, channels) -> (n, width)."""

    def __init__(self, image: tuple[int, ...], width: int, activation: str, *, rng: Generator):
        height, across, channels = image
        self.convolutions = [Conv2d(channels, 32, 4, stride=2, padding=1, rng=rng), Conv2d(32, 64, 4, stride=2, padding=1, rng=rng)]
        self.dense = Linear(64 * (height // 4) * (across // 4), width, rng=rng, activation=activation)
        self.activation = activation

    def __call__(self, x):
        for convolution in self.convolutions:
            x = ops.activate(convolution(x), self.activation)
        return self.dense(x.reshape((len(x), -1)))


class ConvolutionalDecoder(Module):
    """A dense layer, then two transposed convolutions that double the image: h (n, inputs) -> (n, height * width * channels)."""

    def __init__(self, inputs: int, image: tuple[int, ...], activation: str, *, rng: Generator):
        height, across, channels = image
        self.small = (height // 4, across // 4, 64)
        self.dense = Linear(inputs, math.prod(self.small), rng=rng, activation=activation)
        self.convolutions = [ConvTranspose2d(64, 32, 4, stride=2, padding=1, rng=rng),
                             ConvTranspose2d(32, channels, 4, stride=2, padding=1, rng=rng)]
        self.activation = activation

    def __call__(self, h):
        x = self.dense(h).reshape((len(h), *self.small))
        first, second = self.convolutions
        return second(ops.activate(first(x), self.activation)).reshape((len(h), -1))


@dataclasses.dataclass
class VAEStep(Step):
    """One step from z to pixels: `value` is computed by `formula` from `given`, and from `draw` where something is drawn."""

    name: str  # "z2", "decoders.0.layers.0", ..., "z1", "layers.0", ..., "logits", "pixels": of a layer its path, as in a trace
    formula: str
    given: np.ndarray  # (n, ...)
    draw: np.ndarray | None  # (n, latent) standard normal, for a z
    value: np.ndarray  # (n, ...)


class VAE(Model):
    """`VAE.new(latent=(20,), hidden=(400,), depth=1, seed=0)`, or `zoo.load("vae")`."""

    kind = "vae"
    Config = VAEConfig
    config: VAEConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[VAEFields]) -> Self: ...  # type: ignore[override]

    def __init__(self, config: VAEConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        c = config
        if len(c.latent) != len(c.hidden) or not c.latent:
            raise ValueError(f"VAEConfig: hidden is {c.hidden}, latent {c.latent}; each stochastic layer has one entry in both")
        check_image_size(c)
        if c.pixels == "gaussian" and c.binarise:
            raise ValueError("VAEConfig: pixels is 'gaussian', which is for grey ones, and binarise is True; binarise must be False")
        self.image = (*c.image, 1)[:3]
        pixels = math.prod(self.image)
        conv = c.network == "convolutional"
        # The encoder: q(z1|x), q(z2|z1), ...  `below`: widths of what each Gaussian is given
        self.convolve = ConvolutionalEncoder(self.image, c.hidden[0], c.activation, rng=rng) if conv else None
        below = [(c.hidden[0] if conv else pixels) + c.classes, *c.latent]
        self.encoders = [Gaussian(i, h, 1 if conv and not j else c.depth, z, c.activation, rng=rng)
                         for j, (i, h, z) in enumerate(zip(below, c.hidden, c.latent))]
        # The decoder: p(z1|z2), ..., and p(x|z1)
        self.decoders = [Gaussian(above, h, c.depth, z, c.activation, rng=rng) for above, h, z in zip(c.latent[1:], c.hidden[1:], c.latent)]
        inputs = c.latent[0] + c.classes
        widths = [inputs] + [c.hidden[0]] * (1 if conv else c.depth)
        self.layers = [Linear(a, b, rng=rng, activation=c.activation) for a, b in pairwise(widths)]
        self.output = ConvolutionalDecoder(widths[-1], self.image, c.activation, rng=rng) if conv else Linear(widths[-1], pixels, rng=rng)
        self.log_variance = parameter(np.full(1, -3.0)) if c.pixels == "gaussian" else None

    @classmethod
    def for_data(cls, images: Images, *, seed: int = 0, **fields: Any) -> VAE:
        """A fresh model for pictures of this size, which starts from their mean."""
        model = cls.new(seed=seed, **{"image": images.train.shape[1:], **fields})
        model.start_from(check_images(images.train, model.config.image))
        return model

    # --- encoder and decoder

    def encode(self, x, labels=None):
        """q(z1|x): x (n, height, width[, channels]) in [0, 1] -> mean, log variance, each (n, latent)."""
        return self.encoders[0](self.with_labels(self._features(x), labels))

    def decode(self, z, labels=None):
        """The mean of p(x|z1) as pixels: z (n, latent) -> (n, height, width[, channels])."""
        return ops.sigmoid(self.logits(z, labels)).reshape((len(z), *self.config.image))

    def logits(self, z, labels=None):  # (n, latent) -> (n, pixels)
        return self._decoded(self.with_labels(z, labels))

    def _decoded(self, h):  # z with labels -> logits
        for layer in self.layers:
            h = layer(h)
        return self.output(h)

    def _features(self, x):
        n = len(x)
        return x.reshape((n, -1)) if self.convolve is None else self.convolve(x.reshape((n, *self.image)))

    def with_labels(self, h, labels):
        """h (n, width), in a conditional model with the labels beside it, one-hot: (n, width + classes)."""
        labels = self._checked(labels, len(h))
        return h if labels is None else ops.concatenate([h, np.eye(self.config.classes, dtype=np.float32)[labels]], axis=-1)

    def _checked(self, labels, n: int) -> np.ndarray | None:
        return check_labels(labels, self.config.classes, n) if self.config.classes else labels_for(labels, 0, n)

    def start_from(self, images) -> None:
        """Set the last bias so that before any training every pixel has its mean brightness, as Burda et al. do (a dense network's)."""
        mean = np.clip(images.reshape(len(images), -1).mean(0), 0.001, 0.999)
        if isinstance(self.output, Linear) and self.output.bias is not None:
            self.output.bias.data[...] = np.log(mean / (1 - mean))

    # --- the bound

    def log_weights(self, x, k: int, rng: Generator, labels=None, *, beta: float = 1.0, parts: dict[str, Any] | None = None):
        """ln w of k samples for each image: x (n, pixels) -> (n, k).

        parts: a dictionary that receives its terms, log_x = ln p(x|z1) and kl = ln q(z|x) - ln p(z), each (n k,).
        """
        n = len(x)
        x = x.reshape((n, -1))
        mean, log_variance = self.encode(x, labels)
        rows = n * k
        if k > 1:  # k rows for each image
            mean, log_variance = repeat_rows(mean, k), repeat_rows(log_variance, k)
            x = np.repeat(x, k, axis=0)
            labels = None if labels is None else np.repeat(labels, k)
        zs: list[Any] = []
        log_q = 0.0
        for i, encoder in enumerate(self.encoders):
            if i:
                mean, log_variance = encoder(zs[-1])
            noise = rng.standard_normal((rows, self.config.latent[i]), np.float32)
            zs.append(mean + ops.exp(0.5 * log_variance) * noise)
            log_q = log_q + _log_normal(noise, log_variance)
        log_prior = _log_normal(zs[-1])
        for decoder, z, above in zip(self.decoders, zs, zs[1:]):
            log_prior = log_prior + ops.gaussian_log_likelihood(z, *decoder(above))
        log_x = self.log_pixels(x, self.logits(zs[0], labels))
        if parts is not None:
            parts.update(log_x=log_x, kl=log_q - log_prior)
        return (log_x + beta * (log_prior - log_q)).reshape((n, k))

    def log_pixels(self, x, logits):
        """ln p(x|z1), (rows,)."""
        if self.log_variance is None:
            return ops.bernoulli_log_likelihood(x, logits)
        return ops.gaussian_log_likelihood(x, ops.sigmoid(logits), ops.broadcast_to(self.log_variance, shape=logits.shape))

    def loss(self, batch, rng: Generator, *, warmth: float = 1.0) -> dict[str, Tensor]:
        """-bound in nats per image, with its parts: batch is images, or (images, labels).

        warmth: multiplies beta; it grows from 0 to 1 while the KL term is warmed up (Bowman et al. 2016; Sonderby et al. 2016).
        """
        if self.is_closed:
            return self.losses(*self.draw(batch, rng, warmth=warmth))
        x, labels = self._prepared(batch, rng)
        k, beta = self.config.samples, self.config.beta * warmth
        parts: dict[str, Any] = {}
        log_w = self.log_weights(x, k, rng, labels, beta=beta, parts=parts)
        bound = (ops.logsumexp(log_w, axis=1) - math.log(k)).mean()
        return {"loss": -bound, "kl": parts["kl"].mean(), "reconstruction": -parts["log_x"].mean()}

    @property
    def is_closed(self) -> bool:
        """Whether the KL term is taken in closed form: one sample of one stochastic layer."""
        return self.config.samples == 1 and len(self.encoders) == 1

    def draw(self, batch, rng: Generator, *, warmth: float = 1.0) -> tuple:
        """What `losses` takes: images (n, pixels), labels or None, standard normal noise (n, latent), and beta as an array of one number."""
        x, labels = self._prepared(batch, rng)
        return x, labels, rng.standard_normal((len(x), self.config.latent[0]), np.float32), np.asarray(self.config.beta * warmth, np.float32)

    def losses(self, x, labels, noise, beta) -> dict[str, Tensor]:
        """`loss` with the KL term in closed form (Kingma & Welling 2014, eq. 10 and appendix B), a function of what `draw` gives."""
        mean, log_variance = self.encode(x, labels)
        log_x = self.log_pixels(x, self.logits(mean + ops.exp(0.5 * log_variance) * noise, labels)).mean()
        kl = ops.gaussian_kl(mean, log_variance).mean()
        return {"loss": beta * kl - log_x, "kl": kl, "reconstruction": -log_x}

    def _prepared(self, batch, rng: Generator) -> tuple:
        """Images (n, pixels), drawn in black and white if the model is trained so, and labels, None in a model without."""
        x, labels = batch if isinstance(batch, tuple) else (batch, None)
        x = check_images(x, self.config.image).reshape(len(x), -1)
        return binarise(x, rng) if self.config.binarise else x, labels if self.config.classes else None

    def log_likelihood(self, images, samples: int = 5000, seed: int = 0, labels=None, chunk: int = 5000) -> np.ndarray:
        """ln p(x) in nats by importance sampling, one number for each image: binarised once if the model is trained so.

        images (n, height, width[, channels]) in [0, 1]; samples is k; chunk is how many samples are in memory at once.
        """
        images = check_images(images, self.config.image)
        images = images.reshape(len(images), -1)
        check_count(samples, "samples")
        labels = self._checked(labels, len(images))
        rng = generator(seed)
        if self.config.binarise:
            images = binarise(images, rng)
        at_once = min(samples, 500)
        rows = max(1, chunk // at_once)

        def log_p(part: slice) -> np.ndarray:
            draws = np.random.default_rng((*np.ravel(seed), part.start)) if part.start and seed is not None else rng
            log_sums = []
            for first in range(0, samples, at_once):
                k = min(at_once, samples - first)
                log_w = self.log_weights(images[part], k, draws, None if labels is None else labels[part])
                log_sums.append(ops.logsumexp(log_w.data, axis=1))
            return ops.logsumexp(np.stack(log_sums, 1).astype(np.float64), axis=1) - math.log(samples)

        with no_grad():
            return np.concatenate(by_parts(log_p, len(images), rows))

    def evaluate(self, images: Images, *, seed: int = 0, samples: int = 5000, n: int | None = None) -> dict[str, float]:
        """Test negative log-likelihood in nats and its standard error (Burda et al.: one binarisation of the test set, 5,000 samples an image).

        Beside it the loss of training on the same images: -bound, with as many samples as the model is trained with.  For grey pixels that
        aren't binarised, p^x (1 - p)^(1 - x) is no distribution over x: it doesn't add up to 1.  Then the first figure is called cross-entropy.
        """
        x = test_images(images, self.config.image, n)
        labels = images.test_labels[:n] if self.config.classes and images.test_labels is not None else None
        with no_grad():
            rng = generator(seed)
            bounds = [float(self.loss(x[part] if labels is None else (x[part], labels[part]), rng)["loss"]) * (part.stop - part.start)
                      for part in minibatches(len(x), 500)]
        nll = -self.log_likelihood(x, samples=samples, seed=seed, labels=labels)
        standard_error = float(nll.std() / math.sqrt(len(nll)))
        name = "test NLL, nats" if self.config.binarise or self.config.pixels == "gaussian" else "test cross-entropy, nats"
        return {name: float(nll.mean()), "standard error": standard_error, "test loss, nats": sum(bounds) / len(x), "images": len(nll),
                "samples": samples}

    # --- generation

    @stream(VAEStep)
    def steps(self, n: int = 1, *, seed: int | tuple[int, ...] = 0, digit=None, z: np.ndarray | None = None) -> Iterator[VAEStep]:
        """From z to pixels, one record a layer.  z: start from this z1 (n, latent) instead of a draw."""
        rng = generator(seed)
        n = check_count(n) if z is None else len(z)
        labels = labels_for(digit, self.config.classes, n)
        if z is None:
            top = len(self.config.latent)
            nothing = np.zeros((n, 0), np.float32)
            step = self._step(f"z{top}", nothing, draw=rng.standard_normal((n, self.config.latent[-1]), np.float32))
            yield step
            for i in range(top - 2, -1, -1):
                for j in range(len(self.decoders[i].layers)):
                    step = self._step(f"decoders.{i}.layers.{j}", step.value)
                    yield step
                step = self._step(f"z{i + 1}", step.value, draw=rng.standard_normal((n, self.config.latent[i]), np.float32))
                yield step
            z = step.value
        else:
            z = np.asarray(z, np.float32)
            if z.ndim != 2 or z.shape[1] != self.config.latent[0]:
                raise ValueError(f"steps: z has shape {z.shape}; it is (n, {self.config.latent[0]})")
        h = np.asarray(self.with_labels(z, labels))
        for j in range(len(self.layers)):
            step = self._step(f"layers.{j}", h)
            h = step.value
            yield step
        step = self._step("logits", h)
        yield step
        yield self._step("pixels", step.value)

    @replayable
    def _step(self, name: str, given: np.ndarray, draw: np.ndarray | None = None) -> VAEStep:
        *inside, layers, j = name.split(".") if "." in name else ("", "")
        if layers:
            block = self.decoders[int(inside[1])] if inside else self
            formula, value = f"h = {self.config.activation}(W h + b)", block.layers[int(j)](given)
        elif name == "logits":
            formula, value = "l = W h + b", self.output(given)
        elif name == "pixels":
            formula, value = "x = 1 / (1 + exp(-l))", ops.sigmoid(given).reshape((len(given), *self.config.image))
        elif given.shape[-1] == 0:
            formula, value = f"{name} = draw ~ N(0, 1)", draw
        else:
            mean, log_variance = ops.split(self.decoders[int(name[1:]) - 1].output(given), 2, axis=-1)
            formula, value = f"{name} = mean + exp(log variance / 2) draw", mean + ops.exp(0.5 * log_variance) * draw
        return VAEStep(name, formula, given, draw, value.data if isinstance(value, Tensor) else value)

    def sample(self, n: int = 1, seed: int = 0, digit=None) -> np.ndarray:
        """(n, height, width[, channels]) float32 in [0, 1]: the means of p(x|z) for n draws of z."""
        return sampled(self, n, seed, digit)

    def reconstruct(self, x, labels=None) -> np.ndarray:
        """decode(mean of q(z1|x))."""
        with no_grad():
            mean, _ = self.encode(check_images(x, self.config.image), labels)
            return self.decode(mean, labels).data

    def interpolate(self, a, b, steps: int = 10, labels=None) -> np.ndarray:
        """Pictures on the straight line between the codes of two pictures: (steps, height, width); the ends are the reconstructions.

        labels: of a conditional model, one for both or two; if they differ, they go along the line too, as one-hot vectors.
        """
        with no_grad():
            mean, _ = self.encode(check_images(np.stack([a, b]), self.config.image), labels)
            if labels is None or len(set(np.ravel(labels).tolist())) == 1:
                return np.asarray(self.decode(straight_line(mean.data[0], mean.data[1], steps), None if labels is None else np.ravel(labels)[0]))
            ends = np.asarray(self.with_labels(mean.data, labels))
            return np.asarray(ops.sigmoid(self._decoded(straight_line(ends[0], ends[1], steps)))).reshape((steps, *self.config.image))

    def traverse(self, z: np.ndarray, dimension: int, values=np.linspace(-3, 3, 9), labels=None) -> np.ndarray:
        """Pictures of one code with one of its numbers changed: z (latent,) -> (len(values), height, width)."""
        if not 0 <= dimension < self.config.latent[0]:
            raise ValueError(f"traverse: dimension is {dimension}; it may go from 0 to {self.config.latent[0] - 1}")
        zs = np.repeat(np.asarray(z, np.float32).reshape(1, -1), len(values), axis=0)
        zs[:, dimension] = values
        with no_grad():
            return np.asarray(self.decode(zs, labels))


def sampled(model: Any, n: int, seed: int, digit: Any, batch: int = 500) -> np.ndarray:
    """What a model's `steps` end with, for n samples; `batch` at once are in memory."""
    labels = labels_for(digit, model.config.classes, check_count(n))

    def drawn(part: slice) -> np.ndarray:
        return np.asarray(last(model.steps(part.stop - part.start, seed=(seed, part.start) if part.start else seed,
                                           digit=None if labels is None else labels[part])).value)

    return np.concatenate(by_parts(drawn, n, batch))


def check_image_size(config: Any) -> None:
    """ValueError unless `image` is one, and suits the network."""
    name, image = type(config).__name__, config.image
    if len(image) not in (2, 3) or min(image) < 1:
        raise ValueError(f"{name}: image is {image}; it is (height, width) or (height, width, channels)")
    if getattr(config, "network", "convolutional") == "convolutional" and (image[0] % 4 or image[1] % 4):
        raise ValueError(f"{name}: image is {image}; a convolutional network needs a height and width that 4 divides")


def test_images(images: Images, image: tuple[int, ...], n: int | None = None) -> np.ndarray:
    """The first n test pictures, or all; ValueError if there are none, or they are of another shape than `image`."""
    if len(images.test) == 0:
        raise ValueError(f"evaluate: {images.name} has no test pictures; name a data set that has, or a folder with test/ beside train/")
    return check_images(images.test[: None if n is None else check_count(n)], image)


def repeat_rows(x, k: int):
    """Each row k times: (n, width) -> (n k, width)."""
    n, width = x.shape
    return ops.broadcast_to(x.reshape((n, 1, width)), shape=(n, k, width)).reshape((n * k, width))


def _log_normal(noise, log_variance=None):
    """ln N of mean + deviation * noise, summed over the last axis."""
    total = -0.5 * ops.sum(noise * noise, axis=-1) - 0.5 * noise.shape[-1] * math.log(2 * math.pi)
    return total if log_variance is None else total - 0.5 * ops.sum(log_variance, axis=-1)


def __getattr__(name: str):
    return moved(__name__, name, "zoo.recipes.vae", ("VAETraining", "PRESETS", "make_trainer"))
