"""The VQ-VAE (van den Oord et al. 2017): pictures as a small grid of codes, and a prior that writes such grids.

    x  --encoder-->  z_e (height/4, width/4, d)  --nearest row of the codebook-->  codes  --rows-->  e  --decoder-->  p(x|codes)
    p(codes) = product of p(code_i | codes before it), row by row: a transformer (`prior`), as for text

The loss is (eq. 3; |.|^2 is the squared distance, sg treats its argument as a constant)

    -ln p(x|codes)  +  commitment |z_e - sg(e)|^2  -  ln p(sg(codes))

Why straight through: the nearest row is a step function of z_e, whose gradient is 0 wherever it has one.  The decoder is given
z_e + sg(e - z_e) instead: its value is e, and the encoder receives the gradient with respect to e as it is.  That is the gradient at e in
place of z_e, a good direction while the two are near, which is what the commitment term sees to (section 3.2).

Rows of the codebook have no gradient: each follows the mean of the z_e that chose it (appendix A.1), the minimum of |z_e - e|^2 in e.  A row
that hardly any z_e chooses is dead and takes the place of an encoder's output (Dhariwal et al. 2020, section 3.1).  All rows are dead when
training begins, so that is also how the codebook starts.

The prior learns together with the rest, from codes as they are at that step; no gradient of it reaches the encoder.  The encoder is
deterministic, so of all codes only one contributes to the sum p(x) = sum p(x|codes) p(codes), and -ln p(x|codes) - ln p(codes) >= -ln p(x):
the bound that `evaluate` gives, in nats like a VAE's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import numpy as np
from numpy.random import Generator

from . import autograd as ops
from . import nn
from .autograd import Tensor, no_grad
from .autograd.random import generator
from .data.images import Images, binarise
from .language.cache import Cache
from .model import (
    Config,
    Count,
    Decay,
    Model,
    Natural,
    NonNegative,
    Step,
    check_count,
    check_images,
    check_labels,
    labels_for,
    moved,
    replayable,
    straight_line,
    stream,
)
from .nn import Conv2d, ConvTranspose2d, Module
from .training import by_parts
from .transformer import Transformer, TransformerConfig
from .vae import VAEStep, check_image_size, sampled, test_images

if TYPE_CHECKING:
    from .model.fields import VQVAEFields

__all__ = ["VQVAE", "CodeStep", "Codebook", "VQVAEConfig", "straight_through"]


@dataclasses.dataclass(frozen=True)
class VQVAEConfig(Config):
    image: tuple[Count, ...] = (28, 28)  # height, width, and channels if there is more than one; 4 divides height and width
    channels: Count = 32  # of the convolutions at half the size; twice as many at a quarter
    codes: Count = 128  # rows of the codebook
    width: Count = 16  # numbers in a row
    activation: Literal["tanh", "relu", "gelu", "silu", "leaky_relu"] = "relu"
    commitment: NonNegative = 0.25  # weight of |z_e - e|^2, which keeps the encoder near its rows
    decay: Decay = 0.99  # of the codebook's moving averages
    binarise: bool = True  # train on x ~ Bernoulli(pixel), sampled again each time a picture is used; else on grey pixels
    classes: Natural = 0  # the prior is label-conditional if above 0
    prior_layers: Count = 3
    prior_heads: Count = 4
    prior_width: Count = 96


@dataclasses.dataclass
class CodeStep(Step):
    """One code of every picture, drawn from what the prior says after the codes before it."""

    name: str  # "code 3, 5": row and column
    given: np.ndarray  # (n,) the symbol read in this step: the code before; at first the symbol for "begin", of the picture's class
    logits: np.ndarray  # (n, codes)
    probabilities: np.ndarray  # (n, codes) softmax(logits)
    draw: np.ndarray  # (n,) uniform in [0, 1)
    code: np.ndarray  # (n,) the one whose interval of [0, 1), as long as its probability, contains the draw
    value: np.ndarray  # (n, rows, columns) the codes so far, -1 where there is none yet


class Codebook(Module):
    """A table of vectors; each stands for whatever is nearer to it than to the others."""

    reads_whole_batch = True  # in training
    rows: np.ndarray  # (codes, width)
    sums: np.ndarray  # (codes, width) moving average of the sum of what chose each row in a batch
    counts: np.ndarray  # (codes,) moving average of how many did: rows = sums / counts

    def __init__(self, codes: int, width: int, decay: float):
        self.rows, self.sums = np.zeros((codes, width), np.float32), np.zeros((codes, width), np.float32)
        self.counts = np.zeros(codes, np.float32)
        self.decay = decay

    def nearest(self, z: np.ndarray) -> np.ndarray:
        """The index of the nearest row (eq. 1): z (m, width) -> (m,) int64.  |z|^2 is the same for all rows and left out."""
        return ((self.rows * self.rows).sum(1) - 2 * (z @ self.rows.T)).argmin(1)

    def revive(self, z: np.ndarray, rng: Generator, share: float = 0.03) -> int:
        """Dead rows, whose count is under `share` of m / codes, become random rows of z (m, width); returns how many.

        (m / codes is the count of every row if all are chosen equally often.)
        """
        dead = np.flatnonzero(self.counts <= share * len(z) / len(self.counts))
        if len(dead):
            chosen = z[rng.choice(len(z), len(dead), replace=len(z) < len(dead))]
            self.counts[dead] = len(z) / len(self.counts)  # an average count, so that it isn't dead again at once
            self.rows[dead], self.sums[dead] = chosen, chosen * self.counts[dead, None]
        return len(dead)

    def update(self, z: np.ndarray, ids: np.ndarray) -> None:
        """N = decay N + (1 - decay) n,  m = decay m + (1 - decay) sum of z,  row = m / N  (van den Oord et al. 2017, eq. 6-8)."""
        decay, rate = np.float32(self.decay), np.float32(1 - self.decay)
        sums = np.zeros_like(self.sums)
        np.add.at(sums, ids, z)
        self.counts[...] = decay * self.counts + rate * np.bincount(ids, minlength=len(self.counts)).astype(np.float32)
        self.sums[...] = decay * self.sums + rate * sums
        self.rows[...] = self.sums / self.counts[:, None]


class VQVAE(Model):
    """`VQVAE.new(codes=128, seed=0)`, or `zoo.load("vqvae")`."""

    kind = "vqvae"
    Config = VQVAEConfig
    config: VQVAEConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[VQVAEFields]) -> Self: ...  # type: ignore[override]

    encoder: list[Conv2d]
    codebook: Codebook
    decoder: list[Conv2d | ConvTranspose2d]
    prior: Transformer

    def __init__(self, config: VQVAEConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        c = config
        check_image_size(c)
        colours = (*c.image, 1)[2]
        self.grid = (c.image[0] // 4, c.image[1] // 4)  # rows and columns of codes
        a, b = c.channels, 2 * c.channels
        self.encoder = [Conv2d(colours, a, 4, stride=2, padding=1, rng=rng), Conv2d(a, b, 4, stride=2, padding=1, rng=rng),
                        Conv2d(b, b, 3, padding=1, rng=rng), Conv2d(b, c.width, 1, rng=rng)]
        self.codebook = Codebook(c.codes, c.width, c.decay)
        self.decoder = [Conv2d(c.width, b, 3, padding=1, rng=rng), ConvTranspose2d(b, a, 4, stride=2, padding=1, rng=rng),
                        ConvTranspose2d(a, colours, 4, stride=2, padding=1, rng=rng)]
        self.prior = Transformer(TransformerConfig.make(
            symbols=c.codes + max(1, c.classes), window=math.prod(self.grid), layers=c.prior_layers, heads=c.prior_heads,
            width=c.prior_width, norm="rms", bias=False, tied=False), rng=rng)  # the last symbols say "begin", one for each class

    @classmethod
    def for_data(cls, images: Images, *, seed: int = 0, **fields: Any) -> VQVAE:
        return cls.new(seed=seed, **{"image": images.train.shape[1:], **fields})

    # --- encoder and decoder

    def features(self, x):
        """z_e: x (n, height, width[, channels]) -> (n, rows, columns, d)."""
        h = x.reshape((len(x), *(*self.config.image, 1)[:3]))
        for i, layer in enumerate(self.encoder):
            h = layer(h)
            if i + 1 < len(self.encoder):
                h = ops.activate(h, self.config.activation)
        return h

    def quantise(self, z: np.ndarray) -> np.ndarray:
        """The codes of z_e (n, rows, columns, d): (n, rows, columns) int64."""
        return self.codebook.nearest(z.reshape(-1, self.config.width)).reshape(z.shape[:-1])

    def encode(self, x) -> np.ndarray:
        """x (n, height, width[, channels]) in [0, 1] -> codes (n, rows, columns) int64."""
        with no_grad():
            return self.quantise(np.asarray(self.features(check_images(x, self.config.image))))

    def decode(self, codes) -> np.ndarray:
        """Codes (n, rows, columns) -> pixels (n, height, width[, channels])."""
        codes = self._check_codes(codes)
        with no_grad():
            return np.asarray(ops.sigmoid(self.logits(self.codebook.rows[codes])).reshape((len(codes), *self.config.image)))

    def logits(self, e):  # (n, rows, columns, d) -> (n, pixels)
        for i in range(len(self.decoder)):
            e = self._decoded(i, e)
        return e.reshape((len(e), -1))

    def _decoded(self, i: int, h):
        h = self.decoder[i](h)
        return ops.activate(h, self.config.activation) if i + 1 < len(self.decoder) else h

    def _check_codes(self, codes) -> np.ndarray:
        codes = np.asarray(codes)
        if codes.ndim != 3 or codes.shape[1:] != self.grid or codes.dtype.kind not in "iu":
            wanted = f"(n, {self.grid[0]}, {self.grid[1]}) integers"
            raise ValueError(f"codes: shape is {codes.shape} and dtype {codes.dtype}; they are {wanted}")
        if len(codes) == 0:
            raise ValueError(f"codes: shape is {codes.shape}; at least one grid is needed")
        if codes.min() < 0 or codes.max() >= self.config.codes:
            raise ValueError(f"codes: they go from {codes.min()} to {codes.max()}; they may go from 0 to {self.config.codes - 1}")
        return codes

    # --- training

    def loss(self, batch, rng: Generator) -> dict[str, Tensor]:
        """Nats per image of pixels and of codes, and how far the encoder is from its rows: batch is images, or (images, labels)."""
        x, labels = batch if isinstance(batch, tuple) else (batch, None)
        x = check_images(x, self.config.image)
        if self.config.binarise:
            x = binarise(x, rng)
        n, d = len(x), self.config.width
        z = self.features(x)
        flat = z.data.reshape(-1, d)
        everywhere = flat if nn.whole_batch is None else nn.whole_batch.gather(z.data).reshape(-1, d)  # on other ranks too
        if self.training:
            self.codebook.revive(everywhere, nn.undivided(rng))
        ids = self.codebook.nearest(flat)
        e = self.codebook.rows[ids].reshape(z.shape)
        if self.training:
            self.codebook.update(everywhere, ids if everywhere is flat else self.codebook.nearest(everywhere))
        reconstruction = -ops.bernoulli_log_likelihood(x.reshape(n, -1), self.logits(straight_through(z, e))).mean()
        difference = z - e
        commitment = (difference * difference).sum() / n
        codes = -self.log_prior(ids.reshape(n, -1), labels if self.config.classes else None).mean()
        return {"loss": reconstruction + codes + self.config.commitment * commitment, "reconstruction": reconstruction, "codes": codes,
                "commitment": commitment}

    def log_prior(self, codes: np.ndarray, labels=None):
        """ln p(codes), (n,): codes (n, rows * columns) in the order in which they are written."""
        inputs = np.concatenate([self._begin(labels, len(codes))[:, None], codes[:, :-1]], axis=1)
        logits = self.prior(inputs)[..., : self.config.codes]
        return -ops.cross_entropy(logits, codes, reduction="none").sum(axis=1)

    def _begin(self, labels, n: int) -> np.ndarray:
        """The symbol that each sequence begins with."""
        labels = check_labels(labels, self.config.classes, n) if self.config.classes else labels_for(labels, 0, n)
        return self.config.codes + (np.zeros(n, np.int64) if labels is None else labels)

    def evaluate(self, images: Images, *, seed: int = 0, n: int | None = None) -> dict[str, float]:
        """-ln p(x, codes of x) in nats per image, which is at least -ln p(x), and its parts; x binarised once if trained so.

        For grey pixels that aren't binarised it's called cross-entropy: see `VAE.evaluate`.
        """
        x = test_images(images, self.config.image, n)
        labels = None
        if self.config.classes:
            labels = check_labels(None if images.test_labels is None else images.test_labels[:n], self.config.classes, len(x))
        if self.config.binarise:
            x = binarise(x, generator(seed))

        def log_p(part: slice) -> tuple[np.ndarray, ...]:
            ids = self.encode(x[part])
            log_x = ops.bernoulli_log_likelihood(x[part].reshape(len(ids), -1), self.logits(self.codebook.rows[ids]))
            log_codes = self.log_prior(ids.reshape(len(ids), -1), None if labels is None else labels[part])
            return np.asarray(log_x), np.asarray(log_codes), np.bincount(ids.reshape(-1), minlength=self.config.codes)

        with no_grad():
            pixels, codes, counts = zip(*by_parts(log_p, len(x), 250))
        reconstruction, prior, chosen = -np.concatenate(pixels), -np.concatenate(codes), np.sum(counts, axis=0)
        share = chosen[chosen > 0] / chosen.sum()
        perplexity = float(np.exp(-(share * np.log(share)).sum()))  # so many codes, used equally often, would have the same entropy
        name = "test bound, nats" if self.config.binarise else "test cross-entropy, nats"
        return {name: float((reconstruction + prior).mean()), "reconstruction, nats": float(reconstruction.mean()),
                "codes, nats": float(prior.mean()), "perplexity of codes": perplexity, "images": len(x)}

    # --- generation

    @stream(CodeStep, VAEStep)
    def steps(self, n: int = 1, *, seed: int | tuple[int, ...] = 0, digit=None, codes: np.ndarray | None = None) -> Iterator[CodeStep | VAEStep]:
        """One record a code, then one a layer to the pixels.  codes: start from these (n, rows, columns) instead of drawing them."""
        if codes is None:
            n = check_count(n)
            rng = generator(seed)
            symbol = self._begin(labels_for(digit, self.config.classes, n), n)
            codes = np.full((n, *self.grid), -1)
            cache = Cache.empty(self.prior.config, math.prod(self.grid), n)
            for position in range(math.prod(self.grid)):
                written = self._code_step(position, symbol, codes, cache, rng.random(n))
                symbol, codes = written.code, written.value
                yield written
        h = self._check_codes(codes)
        for name in ["e", *(f"decoder.{i}" for i in range(len(self.decoder) - 1)), "logits", "pixels"]:
            step = self._step(name, h)
            h = step.value
            yield step

    @replayable
    def _code_step(self, position: int, symbol: np.ndarray, codes: np.ndarray, cache: Cache, draw: np.ndarray) -> CodeStep:
        """`cache` holds keys and values of the symbols before; that of this one is written to its place, the same at every replay."""
        logits = np.asarray(self.prior(symbol[:, None], cache=cache, start=position))[:, -1, : self.config.codes]
        p, code = draw_codes(logits, draw)
        row, column = divmod(position, self.grid[1])
        value = codes.copy()
        value[:, row, column] = code
        return CodeStep(f"code {row}, {column}", symbol, logits, p, draw, code, value)

    @replayable
    def _step(self, name: str, given: np.ndarray) -> VAEStep:
        if name == "e":
            formula, value = "e = rows of the codebook", self.codebook.rows[given]
        elif name == "pixels":
            formula, value = "x = 1 / (1 + exp(-l))", ops.sigmoid(given).reshape((len(given), *self.config.image))
        else:
            i = len(self.decoder) - 1 if name == "logits" else int(name.partition(".")[2])
            formula = "l = W * h + b" if name == "logits" else f"h = {self.config.activation}(W * h + b)"
            value = self._decoded(i, given)
        return VAEStep(name, formula, given, None, value.data if isinstance(value, Tensor) else value)

    def sample(self, n: int = 1, seed: int = 0, digit=None) -> np.ndarray:
        """(n, height, width[, channels]) float32 in [0, 1]: the means of p(x|codes) for n grids of codes that the prior writes."""
        return sampled(self, n, seed, digit)

    def reconstruct(self, x) -> np.ndarray:
        """decode(encode(x))."""
        return self.decode(self.encode(x))

    def interpolate(self, a, b, steps: int = 10) -> np.ndarray:
        """Pictures on the line between z_e of two pictures, rounded to codes: (steps, height, width); the ends are the reconstructions."""
        with no_grad():
            ends = np.asarray(self.features(check_images(np.stack([a, b]), self.config.image)))
        return self.decode(self.quantise(straight_line(ends[0], ends[1], steps)))


def straight_through(z, e: np.ndarray):
    """The value of e with the gradient of z."""
    return z + (e - z.data if isinstance(z, Tensor) else e - z)


def __getattr__(name: str):
    return moved(__name__, name, "zoo.recipes.vqvae", ("VQVAETraining", "PRESETS", "make_trainer"))


def draw_codes(logits: np.ndarray, draw: np.ndarray, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, codes) in float64 of logits (n, codes), and the code (n,) at whose share of the line from 0 to 1 each draw (n,) lies."""
    p = np.exp((logits.astype(np.float64) - logits.max(1, keepdims=True)) / temperature)
    p /= p.sum(1, keepdims=True)
    ends = p.cumsum(1)
    return p, (ends <= np.minimum(draw * ends[:, -1], np.nextafter(ends[:, -1], 0))[:, None]).sum(1)
