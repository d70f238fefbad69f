"""Diffusion and flow matching: a network learns to see the picture in the noise, and noise becomes a picture step by step.

    x_t = alpha(t) x_0 + sigma(t) noise        t from 0, the picture, to 1, the noise        (`denoising.paths`; Ho et al.'s alpha-bar is alpha^2)

Training draws a picture x_0, noise and t, and asks the network for a target at x_t by squared error (`Diffusion.loss`): the noise, x_0, or
v: alpha noise - sigma x_0, or noise - x_0 on the straight path.  From any of them the other two follow (`x_0_and_noise`).

Why that is enough.  The best answer in squared error is the mean of the target over all (x_0, noise) that lead to the same x_t, for
E|f - target|^2 = E|f - E[target | x_t]|^2 + a rest without f.
  * Flow matching (Lipman et al. 2023; Liu et al. 2023): on the straight path v = noise - x_0, and that mean is the velocity field whose
    flow carries noise to data.  So regression on the velocity of single pairs (eq. 9) is regression on the field itself (theorem 2).
  * Diffusion (Ho et al. 2020): -ln p(x_0) is at most a sum over steps of KL(q(x_s | x_t, x_0) || p(x_s | x_t)) (eq. 5).  Both are normal
    with the same variance, so each KL is a squared distance of means (eq. 8), which is a weight times the squared error of the noise
    (eq. 12).  The loss leaves the weights out (eq. 14).
Everything else is the same for both.

Pictures are in [0, 1] outside and in [-1, 1] before the network; t is continuous, and the network sees T t.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Unpack

import numpy as np
from numpy.random import Generator

from . import autograd as ops
from . import storage
from .autograd import Tensor, no_grad
from .autograd.random import generator
from .data.toys import TOYS
from .model import (
    Config,
    Count,
    Model,
    Natural,
    Range,
    Renamed,
    Share,
    check_count,
    check_images,
    check_labels,
    labels_for,
    last,
    moved,
    replayable,
    stream,
)
from .nn import row_numbers
from .parts.denoising import editing, evaluation, likelihood
from .parts.denoising.dit import DiT
from .parts.denoising.dormand_prince import adaptive_steps
from .parts.denoising.latents import GridLatents, Latents
from .parts.denoising.paths import make_path
from .parts.denoising.samplers import (
    ADAPTIVE,
    SAMPLERS,
    DiffusionStep,
    Estimate,
    Sampling,
    check_number,
    check_sampler,
    deviation_of,
    times,
)
from .parts.denoising.unet import Dense, UNet
from .training import by_parts
from .vae import VAE
from .vqvae import VQVAE

if TYPE_CHECKING:
    from .data.images import Images
    from .model.fields import DiffusionFields

__all__ = ["Diffusion", "DiffusionConfig", "Pairs", "load_latents"]


@dataclasses.dataclass(frozen=True)
class DiffusionConfig(Config):
    image: tuple[Count, ...] = (28, 28)  # height, width, and channels if there is more than one; or (dimensions,) for points and latents
    network: Literal["unet", "transformer", "dense"] = "unet"
    channels: Count = 32  # width of the first level; of all layers for the others
    multipliers: tuple[Count, ...] = (1, 2)  # widths of the levels, in channels
    blocks: Count = 1  # residual blocks a level; all of them for the others
    norms: bool = False  # of "dense", before each block
    heads: Natural = 0  # of attention: at the lowest resolution, 0 for none; of every block for "transformer"
    patch: Count = 4  # the side of the squares that are the transformer's tokens
    classes: Natural = 0  # label-conditional if above 0
    schedule: Literal["linear", "cosine", "straight"] = "cosine"
    prediction: Literal["noise", "x_0", "v"] = "v"
    T: Count = 1000  # the finest chain; the network sees T t
    beta_1: Annotated[float, Range(0, 1, above=True, below=True)] = 1e-4  # of the linear schedule
    beta_T: Annotated[float, Range(0, 1, above=True, below=True)] = 0.02
    autoencoder: str | None = None  # a VAE that ships, or the folder of a VAE or VQ-VAE: x_0 is its code of a picture, and image the code's shape
    source: Literal["normal", "eight_gaussians"] = "normal"  # what t = 1 is drawn from
    times: Literal["uniform", "logit-normal"] = "uniform"  # how training draws t; the second: Esser et al. (2024), section 3.1
    unlabelled: Share = 0.1  # share of labels left out in training, for guidance (Ho & Salimans 2022)
    dequantise: bool = False  # add uniform noise of one grey level in training: for likelihoods
    sampler: str = "ddim"  # what `sample` uses unless told otherwise
    evaluations: Count = 50
    guidance: Annotated[float, Range(-100, 100)] = 1.0

    @property
    def network_shape(self) -> tuple[int, ...]:
        """The shape of one sample as the network takes it."""
        return self.image if len(self.image) == 1 else (*self.image, 1)[:3]

    def check(self) -> None:
        """ValueError where settings don't go together."""
        if len(self.image) not in (1, 2, 3):
            raise ValueError(f"DiffusionConfig: image is {self.image}; it is (height, width), (height, width, channels) or (dimensions,)")
        if (self.network == "dense") != (len(self.image) == 1):
            raise ValueError(f"DiffusionConfig: network is {self.network!r} and image {self.image}; "
                             "'dense' is for points, (dimensions,), the others for pictures")
        if self.norms and self.network != "dense":
            raise ValueError(f"DiffusionConfig: norms is True and network {self.network!r}; only 'dense' has the choice")
        if self.schedule == "straight" and self.prediction != "v":
            raise ValueError(f"DiffusionConfig: prediction is {self.prediction!r}; on the straight path it is 'v': "
                             "from the others no x_0 follows at t = 1, or no noise at t = 0")
        if self.source != "normal" and (self.schedule != "straight" or self.image != (2,) or self.autoencoder):
            raise ValueError(f"DiffusionConfig: source is {self.source!r}; that is for points in the plane on the straight path")
        self.at_least(1, "multipliers")
        if self.schedule == "linear" and self.beta_1 > self.beta_T:
            raise ValueError(f"DiffusionConfig: beta_1 is {self.beta_1} and beta_T {self.beta_T}; beta grows from the first to the second")
        check_sampler(self.sampler)
        if self.dequantise and (self.autoencoder or len(self.image) == 1):
            raise ValueError(f"DiffusionConfig: dequantise is True and image {self.image}; only pictures have grey levels")
        lowest = 2 ** len(self.multipliers)
        if self.network == "unet" and (self.image[0] % lowest or self.image[1] % lowest):
            raise ValueError(f"DiffusionConfig: image is {self.image}; "
                             f"{len(self.multipliers)} levels need a height and width that {lowest} divides")


class Diffusion(Model):
    """`Diffusion.new(classes=10, seed=0)`, or `zoo.load("diffusion")`."""

    kind = "diffusion"
    Config = DiffusionConfig
    config: DiffusionConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[DiffusionFields]) -> Self: ...  # type: ignore[override]

    network: UNet | DiT | Dense
    latents: Latents | None

    @classmethod
    def for_data(cls, data: Images | str, *, seed: int = 0, **fields: Any) -> Diffusion:
        """A fresh model for these pictures or points, or for a VAE's latents of these pictures."""
        if fields.get("autoencoder"):
            latents = load_latents(fields["autoencoder"])
            if isinstance(data, str):
                raise ValueError(f"data: {data!r} are points; the VAE {latents.name!r} takes pictures, (n, {', '.join(map(str, latents.image))})")
            model = cls.new(seed=seed, **{"image": latents.shape, **fields})
            assert model.latents is not None
            model.latents.measure(data.train)
            return model
        return cls.new(seed=seed, **{"image": (2,) if isinstance(data, str) else data.train.shape[1:], **fields})

    def __init__(self, config: DiffusionConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        config.check()
        self.latents = load_latents(config.autoencoder) if config.autoencoder else None
        if self.latents is not None and config.image != self.latents.shape:
            raise ValueError(f"DiffusionConfig: image is {config.image}; the latents of {config.autoencoder!r} are {self.latents.shape}")
        self.path = make_path(config.schedule, config.T, config.beta_1, config.beta_T)
        self.network = self.make_network(rng)

    def make_network(self, rng: Generator) -> UNet | DiT | Dense:
        """(x_t, t, labels) -> the prediction, of x_t's shape."""
        c = self.config
        if c.network == "dense":
            return Dense(c.image[0], c.channels, c.blocks, c.classes, c.norms, rng=rng)
        height, width, colours = c.network_shape
        if c.network == "transformer":
            return DiT((height, width, colours), c.patch, c.channels, c.blocks, c.heads, c.classes, rng=rng)
        return UNet(colours, c.channels, c.multipliers, c.blocks, c.heads, c.classes, rng=rng)

    # --- the network's output, and what follows from it; arrays or tensors

    def predict(self, x_t, t: np.ndarray, labels: np.ndarray | None = None):
        """The network's output: x_t (n, *image), t (n,) in [0, 1], labels (n,) -> (n, *image)."""
        n = len(x_t)
        if self.is_conditional and labels is None:
            labels = self._no_labels(n)
        y = self._run_network(x_t.reshape((n, *self.config.network_shape)), t, labels)
        return y.reshape((n, *self.config.image))

    def _run_network(self, x, t: np.ndarray, labels):
        """x (n, *network_shape), t (n,) in [0, 1] -> the shape of x."""
        network_t = t if self.config.network == "dense" else self.config.T * t
        return self.network(x, network_t, *([labels] if self.is_conditional else []))

    @property
    def is_conditional(self) -> bool:
        """Whether labels, or whatever stands in their place, say what to draw."""
        return self.config.classes > 0

    def _no_labels(self, n: int) -> np.ndarray:
        """What stands for "no label" in a conditional network.  ValueError if it was never trained."""
        if self.config.unlabelled == 0:
            raise ValueError("labels: this model was trained with labels only (unlabelled is 0), so it needs them always, and can't be guided")
        return np.full(n, self.config.classes)

    def _silent(self, labels: Any) -> np.ndarray:
        """What stands for "no label" beside these, to be joined with them."""
        return self._no_labels(len(labels))

    def noised(self, x_0, noise, t):
        """x_t = alpha x_0 + sigma noise; t is a number or (n,)."""
        return self._per_sample(self.path.alpha(t)) * x_0 + self._per_sample(self.path.sigma(t)) * noise

    def target(self, x_0, noise, t):
        """What the network is to predict at x_t: noise, x_0, or v = m x_0 + n noise (`denoising.paths.Path` says why)."""
        if self.config.prediction == "v":
            m, n = self.path.v_weights(t)
            return self._per_sample(m) * x_0 + self._per_sample(n) * noise
        return noise if self.config.prediction == "noise" else x_0

    def x_0_and_noise(self, prediction, x_t, t):
        """The x_0 and noise that follow from a prediction: x_t = alpha x_0 + sigma noise and the definition of the target, solved."""
        alpha, sigma = self._per_sample(self.path.alpha(t)), self._per_sample(self.path.sigma(t))
        if self.config.prediction == "v":
            m, n = (self._per_sample(weight) for weight in self.path.v_weights(t))
            return n * x_t - sigma * prediction, alpha * prediction - m * x_t  # as alpha n - sigma m = 1
        if self.config.prediction == "noise":
            return (x_t - sigma * prediction) / alpha, prediction
        return prediction, (x_t - alpha * prediction) / sigma

    def _per_sample(self, a) -> np.ndarray:
        """A number, or one for each sample (n,), as float32 that broadcasts over (n, *image)."""
        a = np.asarray(a, np.float32)
        return a.reshape(a.shape + (1,) * len(self.config.image)) if a.ndim else a

    # --- training

    def loss(self, batch, rng: Generator) -> dict[str, Tensor]:
        """The mean squared error of the prediction (Ho et al. 2020, eq. 14; Lipman et al. 2023, eq. 9).

        batch: pictures, (pictures, labels), or `Pairs`.
        """
        c = self.config
        x, labels = (batch.x_0, batch.labels) if isinstance(batch, Pairs) else batch if isinstance(batch, tuple) else (batch, None)
        x_0 = self.to_network_range(x, rng if c.dequantise else None)
        noise = batch.noise if isinstance(batch, Pairs) else self.draw_source(len(x_0), rng)
        t = self.draw_times(len(x_0), rng)
        labels = self._training_labels(labels, len(x_0), rng) if self.is_conditional else None
        return {"loss": ops.mse(self.predict(self.noised(x_0, noise, t), t, labels), self.target(x_0, noise, t))}

    def _training_labels(self, labels, n: int, rng: Generator) -> np.ndarray:
        """The labels of a batch, of which a share is left out, for guidance."""
        labels = check_labels(labels, self.config.classes, n)
        return np.where(rng.random(n) < self.config.unlabelled, self.config.classes, labels)

    def draw_times(self, n: int, rng: Generator) -> np.ndarray:
        """(n,) float64, one from each of n equal parts, so that every batch has all kinds of t (Kingma et al. 2021, appendix I.1)."""
        numbers, whole = row_numbers(n, rng)
        u = (numbers + rng.random(n)) / whole
        if self.config.times == "logit-normal":
            from scipy.special import expit, ndtri

            u = expit(ndtri(np.clip(u, 1e-6, 1 - 1e-6)))
        return self.path.t_min + (1 - self.path.t_min) * u  # below t_min nothing is trained

    def draw_source(self, n: int, rng: Generator) -> np.ndarray:
        """x at t = 1: standard normal, or the points that the configuration names."""
        if self.config.source == "normal":
            return rng.standard_normal((n, *self.config.image), np.float32)
        return TOYS[self.config.source](n, rng)

    # --- between pictures and x_0

    @property
    def pictures(self) -> bool:
        """True for a model of pictures, which have a range; points and latents have none."""
        return len(self.config.image) > 1 and self.latents is None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample that goes in or comes out: `image`, or that of the pictures that latents stand for."""
        return self.config.image if self.latents is None else self.latents.image

    def to_network_range(self, x, rng: Generator | None = None) -> np.ndarray:
        """Pictures in [0, 1] as x_0 in [-1, 1]; points stay as they are, and pictures of a model of latents are encoded.

        rng: dequantise with it: a grey level k of 0 to 255 becomes (k + u) / 256 with u uniform in [0, 1) (Theis et al. 2016).
        """
        if self.latents is not None:
            return self.latents.encode(x)
        if not self.pictures:
            x = np.asarray(x, np.float32)
            if x.ndim != 2 or x.shape[1:] != self.config.image:
                raise ValueError(f"points: shape is {x.shape}; this model takes (n, {self.config.image[0]})")
            return x
        x = check_images(x, self.config.image)
        if rng is not None:
            x = (255 * x + rng.random(x.shape, np.float32)) / 256
        return 2 * x - 1

    def to_pictures(self, x_0: np.ndarray) -> np.ndarray:
        """x_0 as pictures in [0, 1], or points: the inverse of `to_network_range`."""
        if self.latents is not None:
            return self.latents.decode(x_0)
        return np.clip(0.5 * x_0 + 0.5, 0, 1) if self.pictures else x_0

    inside, outside, implied = Renamed("to_network_range"), Renamed("to_pictures"), Renamed("x_0_and_noise")  # names until 0.1

    # --- what the network estimates

    def denoise(self, x_t: np.ndarray, t: float, labels: np.ndarray | None = None, *, guidance: float = 1.0, clip: bool = True) -> Estimate:
        """Prediction, x_0 and noise at x_t.

        guidance w: the prediction is unlabelled + w (labelled - unlabelled); 1 is none (Ho & Salimans 2022, eq. 6, for their w plus 1).
        clip: x_0 of a picture is brought into [-1, 1], and the noise follows.
        """
        if guidance == 1:
            prediction = self.predict_at(x_t, t, labels)
        else:
            both = self.predict_at(np.concatenate([x_t, x_t]), t, np.concatenate([labels, self._silent(labels)]))
            prediction = both[len(x_t):] + np.float32(guidance) * (both[: len(x_t)] - both[len(x_t):])
        x_0, noise = self.x_0_and_noise(prediction, x_t, t)
        if clip and self.pictures:
            x_0 = np.clip(x_0, -1, 1)
            sigma = self.path.sigma(t)
            if sigma > 0:
                noise = (x_t - np.float32(self.path.alpha(t)) * x_0) / np.float32(sigma)
        return Estimate(prediction, x_0, noise)

    def predict_at(self, x_t: np.ndarray, t: float, labels) -> np.ndarray:
        """`predict` with one t for all, as an array."""
        y = self.predict(x_t, np.full(len(x_t), t), labels)
        return y.data if isinstance(y, Tensor) else y

    def velocity(self, x_t, t: float, digit=None, *, guidance: float = 1.0) -> np.ndarray:
        """dx/dt of the probability-flow ODE at x_t (n, *image), t from 0 to 1; on the straight path it is the network's output."""
        x_t = np.asarray(x_t, np.float32)
        with no_grad():
            labels = self.labels_given(digit, len(x_t))
            return self.velocity_of(self.denoise(x_t, max(t, self.path.t_min), labels, guidance=guidance, clip=False), t)

    def velocity_of(self, estimate: Estimate, t: float) -> np.ndarray:
        """dx/dt where that is estimated at t."""
        d_alpha, d_sigma = self.path.derivatives(t)
        return np.float32(d_alpha) * estimate.x_0 + np.float32(d_sigma) * estimate.noise

    # --- generation

    @stream(DiffusionStep)  # without gradients; adds every= and keep=
    def steps(self, n: int = 1, *, seed: int | tuple[int, ...] = 0, digit=None, sampler: str | None = None, evaluations: int | None = None,
              guidance: float | None = None, eta: float = 0.0, spacing: float = 1.0, tolerance: float = 1e-4,
              x_1: np.ndarray | None = None, start: float = 1.0, known: np.ndarray | None = None, mask: np.ndarray | None = None,
              repeats: int = 1) -> Iterator[DiffusionStep]:
        """From noise to pictures, one record a step.

        sampler: ddpm, ddim, dpm-solver++, euler, heun, midpoint (with `evaluations` of the network) or dopri5 (which meets `tolerance`).
        guidance: see `denoise`.  eta: the share of DDPM's noise that ddim adds.  spacing: see `samplers.times`.
        x_1: start from this instead of a draw; start: the t at which it is.
        known, mask: pictures in [-1, 1] that are kept where the mask is True; repeats: how often each step is taken (Lugmayr et al. 2022).
        """
        c = self.config
        sampler = check_sampler(sampler or c.sampler)
        if x_1 is not None:
            x_1 = np.asarray(x_1, np.float32)
            if x_1.shape[1:] != c.image or len(x_1) == 0:
                raise ValueError(f"x_1: shape is {x_1.shape}; this model starts from (n, {', '.join(map(str, c.image))}), n at least 1")
        n = check_count(n) if x_1 is None else len(x_1)
        settings = Sampling(sampler=sampler, labels=self.labels_for(digit, n), guidance=self.check_guidance(guidance), eta=eta, spacing=spacing,
                            tolerance=tolerance, start=start, known=known, mask=mask, repeats=repeats)
        settings.check(c.source, self.path.t_min)
        rng = generator(seed)
        x = self.draw_source(n, rng) if x_1 is None else x_1
        if sampler == ADAPTIVE:
            t = settings.start
            for step in adaptive_steps(self, settings, x):
                yield step
                t, x = step.t_previous, step.x_previous
            if self.path.t_min > 0:  # the rest of the way, along which the network was not trained, in one step
                yield self._step(dataclasses.replace(settings, sampler="euler"), t, 0.0, x)
            return
        steps = self.steps_within(sampler, c.evaluations if evaluations is None else evaluations)
        previous = None
        for t, s in pairwise(times(self.path, steps, start=start, spacing=spacing)):
            for again in range(repeats if s > 0 else 1):
                if again:
                    step = self._step_back(s, t, x, rng.standard_normal(x.shape, np.float32))
                    yield step
                    x, previous = step.x_previous, None  # x_0 at a t that is no later than this one carries nothing on
                draw = rng.standard_normal(x.shape, np.float32) if deviation_of(sampler, self.path, t, s, eta) > 0 else None
                draw_known = rng.standard_normal(x.shape, np.float32) if mask is not None else None
                step = self._step(settings, t, s, x, draw, draw_known=draw_known, previous=previous)
                yield step
                assert step.x_0_predicted is not None
                x, previous = step.x_previous, (t, step.x_0_predicted)

    @replayable  # step.replay() computes it again from these arguments
    def _step(self, settings: Sampling, t: float, s: float, x_t: np.ndarray, draw: np.ndarray | None = None, *,
              draw_known: np.ndarray | None = None, previous: tuple[float, np.ndarray] | None = None) -> DiffusionStep:
        """From t to s.  previous: (t, x_0) of the step before, for samplers that look back."""
        def denoise(x, at):
            return self.denoise(x, at, settings.labels, guidance=settings.guidance)

        deviation = deviation_of(settings.sampler, self.path, t, s, settings.eta)
        update = SAMPLERS[settings.sampler].step(denoise, self.path, t, s, x_t, deviation=deviation, previous=previous)
        x_s = update.mean if draw is None else update.mean + np.float32(deviation) * draw
        known = None
        if settings.mask is not None:
            known = self.noised(settings.known, draw_known, s)
            x_s = np.where(settings.mask, known, x_s)
        prediction, x_0, noise = update.estimate
        return DiffusionStep(sampler=settings.sampler, t=t, t_previous=s, x_t=x_t, prediction=prediction, noise_predicted=noise,
                             x_0_predicted=x_0, mean=update.mean, deviation=deviation, draw=draw, x_previous=x_s,
                             evaluations=update.evaluations, slopes=update.slopes, known=known, picture=self.decoded(x_0))

    @replayable
    def _step_back(self, s: float, t: float, x_s: np.ndarray, draw: np.ndarray) -> DiffusionStep:
        """From s back to the noisier t: x_t = a x_s + b draw."""
        a, b = self.path.transition(s, t)
        mean = np.float32(a) * x_s
        return DiffusionStep(sampler="back", t=s, t_previous=t, x_t=x_s, prediction=None, noise_predicted=None, x_0_predicted=None,
                             mean=mean, deviation=b, draw=draw, x_previous=mean + np.float32(b) * draw, evaluations=0)

    def decoded(self, x_0: np.ndarray) -> np.ndarray | None:
        """The pictures that latents stand for; None for other models."""
        return None if self.latents is None else self.latents.decode(x_0)

    def steps_within(self, sampler: str, evaluations: int) -> int:
        """How many steps a sampler takes with so many evaluations of the network."""
        steps = SAMPLERS[sampler].max_steps(check_count(evaluations, "evaluations"))
        if steps < 1:
            raise ValueError(f"evaluations: is {evaluations}; {sampler} needs at least {SAMPLERS[sampler].evaluations(1)}")
        if steps > self.config.T:
            raise ValueError(f"evaluations: is {evaluations}, {steps} steps; this model's finest chain has T = {self.config.T}")
        return steps

    def sample(self, n: int = 1, seed: int = 0, digit=None, *, batch: int = 500, **settings) -> np.ndarray:
        """(n, height, width[, channels]) float32 in [0, 1], or (n, dimensions) points; settings are those of `steps`.

        digit: an int or (n,) labels; without it, a conditional model draws all classes in turn.  `batch` at once are in memory.
        """
        labels = self.labels_for(digit, check_count(n))

        def drawn(part: slice) -> np.ndarray:
            return last(self.steps(part.stop - part.start, seed=(seed, part.start) if part.start else seed,
                                   digit=None if labels is None else labels[part], **settings)).x_previous

        return self.to_pictures(np.concatenate(by_parts(drawn, n, batch)))

    # --- uses of a trained model: functions in files of their own, which take the model first

    inpaint, inpaint_steps, edit = editing.inpaint, editing.inpaint_steps, editing.edit
    encode, decode, redraw, interpolate = editing.encode, editing.decode, editing.redraw, editing.interpolate
    log_likelihood, bits_per_dimension = likelihood.log_likelihood, likelihood.bits_per_dimension
    error_by_t, evaluate = evaluation.error_by_t, evaluation.evaluate

    # --- what a card says of the VAE

    def extras(self) -> dict[str, Any]:
        return {} if self.latents is None else {"autoencoder": {"name": self.latents.name, "digest": self.latents.digest()}}

    def restore_extras(self, card: dict[str, Any]) -> None:
        if self.latents is not None and card.get("autoencoder", {}).get("digest") != self.latents.digest():
            raise ValueError(f"autoencoder: the VAE {self.latents.name!r} that is here isn't the one whose latents this model learned")

    # --- checks

    def labels_for(self, digit, n: int) -> np.ndarray | None:
        """Labels to generate: `digit`, or by default each class in turn; None for a model without classes."""
        return labels_for(digit, self.config.classes, n)

    def labels_given(self, digit, n: int) -> np.ndarray | None:
        """Labels of data that is given; None without a digit, and then a conditional model takes the data as unlabelled."""
        return None if digit is None else self.labels_for(digit, n)

    def check_guidance(self, guidance: float | None) -> float:
        """guidance, or the configuration's; ValueError if it is no number, or the model can't be guided."""
        if self.is_conditional:
            guidance = check_number("guidance", self.config.guidance if guidance is None else guidance, -100, 100)
            if guidance != 1 and self.config.unlabelled == 0:
                raise ValueError(f"guidance: is {guidance:g}, but this model was trained with labels only (unlabelled is 0), so 1 is all it can have")
            return guidance
        if guidance not in (None, 1, 1.0):
            raise ValueError(f"guidance: is {guidance}, but this model isn't conditional (classes is 0); there is nothing to guide by")
        return 1.0


@dataclasses.dataclass
class Pairs:
    """A batch whose noise is chosen already: data and source points, row by row."""

    x_0: np.ndarray
    noise: np.ndarray
    labels: np.ndarray | None = None


def load_latents(name: str) -> Latents:
    """Codes by the VAE or VQ-VAE of that name, which ships or is a folder."""
    autoencoder = load_autoencoder(name)
    return GridLatents(autoencoder, name) if isinstance(autoencoder, VQVAE) else Latents(autoencoder, name)


def load_autoencoder(name: str) -> VAE | VQVAE:
    """The VAE or VQ-VAE of that name."""
    folder = Path(name) if storage.is_folder(name) else storage.SHIPPED / name
    if not storage.is_folder(folder):
        ships = ", ".join(sorted(path.name for path in storage.SHIPPED.glob("vae*"))) or "none"
        raise FileNotFoundError(f"autoencoder: is {storage.shorten(name, 80)}, which is neither a folder nor a VAE that ships ({ships})")
    arrays, card = storage.load_folder(folder)
    if card.get("kind") not in (VAE.kind, VQVAE.kind):
        raise ValueError(f"autoencoder: {name!r} is of kind {storage.shorten(card.get('kind'))}; it must be a VAE or a VQ-VAE")
    return (VAE if card["kind"] == VAE.kind else VQVAE).from_arrays(arrays, card, source=folder)


def __getattr__(name: str):
    return moved(__name__, name, "zoo.recipes.diffusion", ("DiffusionTraining", "PRESETS", "make_trainer", "optimal_pairs"))
