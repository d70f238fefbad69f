"""Diffusion and flow matching: a network learns to see the picture in the noise, and noise becomes a picture step by step.

    x_t = alpha(t) x_0 + sigma(t) noise        t from 0, the picture, to 1, the noise

Training draws t and noise and asks the network for the noise, for x_0, or for v = m x_0 + n noise (`samplers.Path`).  On the straight
path, v is the velocity noise - x_0, and this is flow matching (Lipman et al. 2023; Liu et al. 2023); on the others it's diffusion
(Ho et al. 2020; Salimans & Ho 2022).  Everything else is the same: whatever is predicted, x_0 and the noise follow from it.
Pictures are in [0, 1] outside and in [-1, 1] inside; t is continuous, and the network sees T t.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.random import Generator

from . import autograd as ops
from .autograd import Tensor, no_grad
from .data.toys import TOYS
from .denoising.dit import DiT
from .denoising.editing import Uses
from .denoising.latents import Latents
from .denoising.samplers import ADAPTIVE, SAMPLERS, Belief, Move, check_size, deviation_of, dormand_prince, make_path, next_size, times
from .denoising.unet import Dense, UNet
from .model import Config, Step, check_count, check_images, check_labels, labels_for, last, moved, replayable, stream
from .training import minibatches

if TYPE_CHECKING:
    from .data.images import Images


@dataclasses.dataclass(frozen=True)
class DiffusionConfig(Config):
    image: tuple[int, ...] = (28, 28)  # height, width, and channels if there is more than one; or (dimensions,) for points and latents
    network: Literal["unet", "transformer", "dense"] = "unet"
    channels: int = 32  # width of the first level; of all layers for the others
    multipliers: tuple[int, ...] = (1, 2)  # widths of the levels, in channels
    blocks: int = 1  # residual blocks a level; all of them for the others
    norms: bool = False  # of "dense", before each block
    heads: int = 0  # of attention: at the lowest resolution, 0 for none; of every block for "transformer"
    patch: int = 4  # the side of the squares that are the transformer's tokens
    classes: int = 0  # label-conditional if above 0
    schedule: Literal["linear", "cosine", "straight"] = "cosine"
    prediction: Literal["noise", "x_0", "v"] = "v"
    T: int = 1000  # the finest chain; the network sees T t
    beta_1: float = 1e-4  # of the linear schedule
    beta_T: float = 0.02
    autoencoder: str | None = None  # a VAE that ships, or its folder: x_0 is its code of a picture, and image is (latent,)
    source: Literal["normal", "eight_gaussians"] = "normal"  # what t = 1 is drawn from
    times: Literal["uniform", "logit-normal"] = "uniform"  # how training draws t; the second: Esser et al. (2024), section 3.1
    unlabelled: float = 0.1  # share of labels left out in training, for guidance (Ho & Salimans 2022)
    dequantise: bool = False  # add uniform noise of one grey level in training: for likelihoods
    sampler: str = "ddim"  # what `sample` uses unless told otherwise
    evaluations: int = 50
    guidance: float = 1.0


@dataclasses.dataclass
class DiffusionStep(Step):
    """From x_t to x_previous: x_previous = mean + deviation draw.

    All pictures are (n, height, width[, channels]) in [-1, 1], with noise beyond; points and latents are (n, dimensions).
    """

    sampler: str
    t: float
    t_previous: float
    x_t: np.ndarray
    prediction: np.ndarray | None  # what the network said (after guidance); None in a step back to more noise
    noise_predicted: np.ndarray | None
    x_0_predicted: np.ndarray | None
    mean: np.ndarray
    deviation: float
    draw: np.ndarray | None  # standard normal, or None where nothing is drawn
    x_previous: np.ndarray
    evaluations: int  # of the network in this step
    slopes: np.ndarray | None = None  # (stages, n, ...) of a solver with several
    error: float | None = None  # its own estimate, 1 being the tolerance
    known: np.ndarray | None = None  # inpainting: the known picture as noisy as x_previous, pasted where the mask is
    picture: np.ndarray | None = None  # of a model of latents: x_0_predicted decoded, in [0, 1]


class Diffusion(Uses):
    """`Diffusion.new(classes=10, seed=0)`, or `zoo.load("diffusion")`."""

    kind = "diffusion"
    Config = DiffusionConfig
    config: DiffusionConfig

    @classmethod
    def for_data(cls, data: Images | str, *, seed: int = 0, **fields: Any) -> Diffusion:
        """A fresh model for these pictures or points, or for a VAE's latents of these pictures."""
        if fields.get("autoencoder"):
            latents = Latents(fields["autoencoder"])
            if isinstance(data, str):
                raise ValueError(f"data: {data!r} are points; the VAE {latents.name!r} takes pictures, (n, {', '.join(map(str, latents.image))})")
            model = cls.new(seed=seed, **{"image": latents.shape, **fields})
            assert model.latents is not None
            model.latents.measure(data.train)
            return model
        return cls.new(seed=seed, **{"image": (2,) if isinstance(data, str) else data.train.shape[1:], **fields})

    def __init__(self, config: DiffusionConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        c = config
        if len(c.image) not in (1, 2, 3):
            raise ValueError(f"DiffusionConfig: image is {c.image}; it is (height, width), (height, width, channels) or (dimensions,)")
        if (c.network == "dense") != (len(c.image) == 1):
            raise ValueError(f"DiffusionConfig: network is {c.network!r} and image {c.image}; "
                             "'dense' is for points, (dimensions,), the others for pictures")
        if c.norms and c.network != "dense":
            raise ValueError(f"DiffusionConfig: norms is True and network {c.network!r}; only 'dense' has the choice")
        if c.schedule == "straight" and c.prediction != "v":
            raise ValueError(f"DiffusionConfig: prediction is {c.prediction!r}; on the straight path it is 'v': "
                             "from the others no x_0 follows at t = 1, or no noise at t = 0")
        if c.source != "normal" and (c.schedule != "straight" or c.image != (2,) or c.autoencoder):
            raise ValueError(f"DiffusionConfig: source is {c.source!r}; that is for points in the plane on the straight path")
        c.at_least(1, "channels", "multipliers", "blocks", "T", "evaluations")
        c.at_least(0, "classes", "heads")
        if not 0 <= c.unlabelled <= 1:
            raise ValueError(f"DiffusionConfig: unlabelled is {c.unlabelled}; it is a share, from 0 to 1")
        self._check_sampler(c.sampler)
        if c.dequantise and (c.autoencoder or len(c.image) == 1):
            raise ValueError(f"DiffusionConfig: dequantise is True and image {c.image}; only pictures have grey levels")
        self.latents = Latents(c.autoencoder) if c.autoencoder else None
        if self.latents is not None and c.image != self.latents.shape:
            raise ValueError(f"DiffusionConfig: image is {c.image}; the latents of {c.autoencoder!r} are {self.latents.shape}")
        self.path = make_path(c.schedule, c.T, c.beta_1, c.beta_T)
        self.shape = c.image if len(c.image) == 1 else (*c.image, 1)[:3]
        if c.network == "dense":
            self.network: UNet | DiT | Dense = Dense(c.image[0], c.channels, c.blocks, c.classes, c.norms, rng=rng)
        elif c.network == "transformer":
            self.network = DiT(self.shape, c.patch, c.channels, c.blocks, c.heads, c.classes, rng=rng)  # type: ignore[arg-type]
        else:
            part = 2 ** len(c.multipliers)
            if c.image[0] % part or c.image[1] % part:
                raise ValueError(f"DiffusionConfig: image is {c.image}; "
                                 f"{len(c.multipliers)} levels need a height and width that {part} divides")
            self.network = UNet(self.shape[2], c.channels, c.multipliers, c.blocks, c.heads, c.classes, rng=rng)

    # --- training

    def predict(self, x_t, t: np.ndarray, labels: np.ndarray | None = None):
        """The network's output: x_t (n, *image) arrays or tensors, t (n,) in [0, 1], labels (n,) -> (n, *image)."""
        n = len(x_t)
        if self.config.classes and labels is None:
            labels = np.full(n, self.config.classes)  # "no label"
        seen = t if self.config.network == "dense" else self.config.T * t
        y = self.network(x_t.reshape((n, *self.shape)), seen, *([labels] if self.config.classes else []))
        return y.reshape((n, *self.config.image))

    def draw_times(self, n: int, rng: Generator) -> np.ndarray:
        """(n,) float64, one from each of n equal parts, so that every batch has all kinds of t (Kingma et al. 2021, appendix I.1)."""
        u = (np.arange(n) + rng.random(n)) / n
        if self.config.times == "logit-normal":
            from scipy.special import expit, ndtri

            u = expit(ndtri(np.clip(u, 1e-6, 1 - 1e-6)))
        return self.path.least + (1 - self.path.least) * u

    def loss(self, batch, rng: Generator) -> dict[str, Tensor]:
        """The mean squared error of the prediction: batch is pictures, (pictures, labels), or `Pairs`."""
        c = self.config
        x, labels = (batch.x_0, batch.labels) if isinstance(batch, Pairs) else batch if isinstance(batch, tuple) else (batch, None)
        x_0 = self.inside(x, rng if c.dequantise else None)
        noise = batch.noise if isinstance(batch, Pairs) else self.draw_source(len(x_0), rng)
        t = self.draw_times(len(x_0), rng)
        if c.classes:
            labels = check_labels(labels, c.classes, len(x_0))
            labels = np.where(rng.random(len(x_0)) < c.unlabelled, c.classes, labels)
        return {"loss": ops.mse(self.predict(self.noised(x_0, noise, t), t, labels if c.classes else None), self.target(x_0, noise, t))}

    def noised(self, x_0, noise, t):
        """x_t = alpha x_0 + sigma noise; t is a number or (n,)."""
        return self._wide(self.path.alpha(t)) * x_0 + self._wide(self.path.sigma(t)) * noise

    def target(self, x_0, noise, t):
        """What the network is to say."""
        if self.config.prediction == "v":
            m, n = self.path.v_parts(t)
            return self._wide(m) * x_0 + self._wide(n) * noise
        return noise if self.config.prediction == "noise" else x_0

    def implied(self, prediction, x_t, t):
        """x_0 and noise that follow from a prediction; arrays or tensors."""
        alpha, sigma = self._wide(self.path.alpha(t)), self._wide(self.path.sigma(t))
        if self.config.prediction == "v":
            m, n = (self._wide(part) for part in self.path.v_parts(t))
            return n * x_t - sigma * prediction, alpha * prediction - m * x_t
        if self.config.prediction == "noise":
            return (x_t - sigma * prediction) / alpha, prediction
        return prediction, (x_t - alpha * prediction) / sigma

    def _wide(self, a) -> np.ndarray:
        """A number, or (n,), as float32 that broadcasts over pictures."""
        a = np.asarray(a, np.float32)
        return a.reshape(a.shape + (1,) * len(self.config.image)) if a.ndim else a

    def draw_source(self, n: int, rng: Generator) -> np.ndarray:
        """x at t = 1: standard normal, or the points that the configuration names."""
        if self.config.source == "normal":
            return rng.standard_normal((n, *self.config.image), np.float32)
        return TOYS[self.config.source](n, rng)

    @property
    def pictures(self) -> bool:
        """Whether the data are pictures, with a range; points and latents have none."""
        return len(self.config.image) > 1

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of what goes in and comes out: that of `image`, or of the pictures that latents stand for."""
        return self.config.image if self.latents is None else self.latents.image

    def inside(self, x, rng: Generator | None = None) -> np.ndarray:
        """Pictures in [0, 1] as x_0 in [-1, 1]; with rng, a uniform part of a grey level is added.  Points stay, latents are encoded."""
        if self.latents is not None:
            return self.latents.inside(x)
        if not self.pictures:
            x = np.asarray(x, np.float32)
            if x.ndim != 2 or x.shape[1:] != self.config.image:
                raise ValueError(f"points: shape is {x.shape}; this model takes (n, {self.config.image[0]})")
            return x
        x = check_images(x, self.config.image)
        if rng is not None:
            x = (255 * x + rng.random(x.shape, np.float32)) / 256
        return 2 * x - 1

    def outside(self, x_0: np.ndarray) -> np.ndarray:
        """x_0 as pictures in [0, 1], or points."""
        if self.latents is not None:
            return self.latents.outside(x_0)
        return np.clip(0.5 * x_0 + 0.5, 0, 1) if self.pictures else x_0

    def error_by_t(self, x, labels=None, *, at=None, seed: int = 0) -> dict[str, np.ndarray]:
        """The loss, and the mean squared errors of the x_0 and the noise predicted, for each t in `at`: where does the network see?"""
        at = np.asarray(np.linspace(max(self.path.least, 0.05), 1, 20) if at is None else at, np.float64)
        x_0 = self.inside(x)
        rng = np.random.default_rng(seed)
        rows = []
        with no_grad():
            for t in at:
                noise = self.draw_source(len(x_0), rng)
                x_t = self.noised(x_0, noise, t)
                prediction = np.concatenate([self._predicted(x_t[part], t, None if labels is None else labels[part])
                                             for part in minibatches(len(x_0), 256)])
                x_0_predicted, noise_predicted = self.implied(prediction, x_t, t)
                pairs = (prediction, self.target(x_0, noise, t)), (x_0_predicted, x_0), (noise_predicted, noise)
                rows.append([np.mean((a - b) ** 2) for a, b in pairs])
        return {"t": at, **dict(zip(("loss", "x_0", "noise"), np.array(rows).T))}

    # --- what the network believes

    def _predicted(self, x_t: np.ndarray, t: float, labels) -> np.ndarray:
        y = self.predict(x_t, np.full(len(x_t), t), labels)
        return y.data if isinstance(y, Tensor) else y

    def denoise(self, x_t: np.ndarray, t: float, labels: np.ndarray | None = None, *, guidance: float = 1.0, clip: bool = True) -> Belief:
        """Prediction, x_0 and noise at x_t.  guidance w: unlabelled + w (labelled - unlabelled), so 1 is none (Ho & Salimans 2022).

        clip: x_0 of a picture is brought into [-1, 1], and the noise follows.
        """
        if guidance == 1:
            prediction = self._predicted(x_t, t, labels)
        else:
            nobody = np.full(len(x_t), self.config.classes)
            both = self._predicted(np.concatenate([x_t, x_t]), t, np.concatenate([labels, nobody]))
            prediction = both[len(x_t):] + np.float32(guidance) * (both[: len(x_t)] - both[len(x_t):])
        x_0, noise = self.implied(prediction, x_t, t)
        if clip and self.pictures:
            x_0 = np.clip(x_0, -1, 1)
            sigma = self.path.sigma(t)
            if sigma > 0:
                noise = (x_t - np.float32(self.path.alpha(t)) * x_0) / np.float32(sigma)
        return Belief(prediction, x_0, noise)

    # --- generation

    @stream(DiffusionStep)
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
        sampler = self._check_sampler(sampler or c.sampler)
        if x_1 is not None:
            x_1 = np.asarray(x_1, np.float32)
            if x_1.shape[1:] != c.image or len(x_1) == 0:
                raise ValueError(f"x_1: shape is {x_1.shape}; this model starts from (n, {', '.join(map(str, c.image))}), n at least 1")
        n = check_count(n) if x_1 is None else len(x_1)
        labels = self.labels_for(digit, n)
        guidance = self._check_guidance(guidance)
        for name, value, least, most in (("eta", eta, 0, 1), ("spacing", spacing, 0.1, 10), ("tolerance", tolerance, 1e-8, 10)):
            check_number(name, value, least, most)
        if eta and sampler != "ddim":
            raise ValueError(f"eta: is {eta} with sampler {sampler!r}; it is a setting of ddim")
        if c.source != "normal" and (eta or sampler == "ddpm"):
            raise ValueError(f"sampler: {sampler!r} draws normal noise, but this model's source is {c.source!r}; "
                             "use euler, heun, midpoint or dopri5")
        if not self.path.least < start <= 1:
            raise ValueError(f"start: is {start}; it is a t from above {self.path.least:g} to 1")
        if repeats > 1 and mask is None:
            raise ValueError(f"repeats: is {repeats} without a mask; it belongs to inpainting")
        rng = np.random.default_rng(seed)
        x = self.draw_source(n, rng) if x_1 is None else x_1
        with no_grad():
            if sampler == ADAPTIVE:
                if mask is not None:
                    raise ValueError("sampler: dopri5 can't inpaint; its steps are too long to paste into")
                yield from self._adaptive(x, start, labels, guidance, tolerance)
                return
            grid = times(self.path, self.steps_within(sampler, c.evaluations if evaluations is None else evaluations), start=start, spacing=spacing)
            before = None
            for t, s in pairwise(grid):
                for again in range(repeats if s > 0 else 1):
                    if again:
                        step = self._back(s, t, x, rng.standard_normal(x.shape, np.float32))
                        yield step
                        x = step.x_previous
                    deviation = deviation_of(sampler, self.path, t, s, eta)
                    draw = rng.standard_normal(x.shape, np.float32) if deviation > 0 else None
                    draw_known = rng.standard_normal(x.shape, np.float32) if mask is not None else None
                    step = self._step(sampler, t, s, x, labels, guidance, deviation, draw, before, known, mask, draw_known)
                    yield step
                    assert step.x_0_predicted is not None
                    x, before = step.x_previous, (t, step.x_0_predicted)

    @replayable
    def _step(self, sampler: str, t: float, s: float, x_t: np.ndarray, labels, guidance: float, deviation: float, draw, before, known, mask,
              draw_known) -> DiffusionStep:
        asked = 0

        def denoise(x, at):
            nonlocal asked
            asked += 1
            return self.denoise(x, at, labels, guidance=guidance)

        move: Move = SAMPLERS[sampler].step(denoise, self.path, t, s, x_t, deviation=deviation, before=before)
        x = move.mean if draw is None else move.mean + np.float32(deviation) * draw
        pasted = None
        if mask is not None:
            pasted = self.noised(known, draw_known, s)
            x = np.where(mask, pasted, x)
        belief = move.belief
        return DiffusionStep(sampler, t, s, x_t, belief.prediction, belief.noise, belief.x_0, move.mean, deviation, draw, x, asked,
                             move.slopes, move.error, pasted, self._decoded(belief.x_0))

    def _decoded(self, x_0: np.ndarray) -> np.ndarray | None:
        return None if self.latents is None else self.latents.outside(x_0)

    @replayable
    def _back(self, s: float, t: float, x_s: np.ndarray, draw: np.ndarray) -> DiffusionStep:
        """From s back to the noisier t: x_t = a x_s + b draw."""
        a, b = self.path.transition(s, t)
        mean = np.float32(a) * x_s
        return DiffusionStep("back", s, t, x_s, None, None, None, mean, b, draw, mean + np.float32(b) * draw, 0)

    def _adaptive(self, x, start: float, labels, guidance: float, tolerance: float) -> Iterator[DiffusionStep]:
        t, h, end = start, -start / 20, self.path.least
        while t > end + 1e-9:
            h = -min(-h, t - end)
            step = self._adaptive_step(t, h, x, labels, guidance, tolerance)
            assert step.error is not None
            if step.error <= 1:
                yield step
                t, x = step.t_previous, step.x_previous
            check_size(h, step.error, t)
            h = next_size(h, step.error)
        if end > 0:  # the rest of the way, along which the network was not trained, in one step
            yield self._step("euler", t, 0.0, x, labels, guidance, 0.0, None, None, None, None, None)

    @replayable
    def _adaptive_step(self, t: float, h: float, x_t: np.ndarray, labels, guidance: float, tolerance: float) -> DiffusionStep:
        def rate(at, x):
            return self._rate(self.denoise(x, at, labels, guidance=guidance, clip=False), at)

        belief = self.denoise(x_t, t, labels, guidance=guidance, clip=False)
        x, error, slopes = dormand_prince(rate, t, h, x_t, self._rate(belief, t), tolerance)
        s = self.path.least if t + h < self.path.least + 1e-9 else t + h
        return DiffusionStep(ADAPTIVE, t, s, x_t, belief.prediction, belief.noise, belief.x_0, x, 0.0, None, x, 7, np.stack(slopes), error,
                             picture=self._decoded(belief.x_0))

    def velocity(self, x_t, t: float, digit=None, *, guidance: float = 1.0) -> np.ndarray:
        """dx/dt of the probability-flow ODE at x_t (n, *image), t from 0 to 1; on the straight path what the network says itself."""
        x_t = np.asarray(x_t, np.float32)
        with no_grad():
            labels = None if digit is None else self.labels_for(digit, len(x_t))
            return self._rate(self.denoise(x_t, max(t, self.path.least), labels, guidance=guidance, clip=False), t)

    def _rate(self, belief: Belief, t: float):
        """dx/dt where that is believed."""
        rate_alpha, rate_sigma = self.path.rates(t)
        return np.float32(rate_alpha) * belief.x_0 + np.float32(rate_sigma) * belief.noise

    def sample(self, n: int = 1, seed: int = 0, digit=None, *, batch: int = 500, **settings) -> np.ndarray:
        """(n, height, width[, channels]) float32 in [0, 1], or (n, dimensions) points; settings are those of `steps`.

        digit: an int or (n,) labels; without it, a conditional model draws all classes in turn.  `batch` at once are in memory.
        """
        labels = self.labels_for(digit, check_count(n))
        found = [last(self.steps(part.stop - part.start, seed=(seed, part.start) if part.start else seed,
                                 digit=None if labels is None else labels[part], **settings)).x_previous for part in minibatches(n, batch)]
        return self.outside(np.concatenate(found))

    def evaluate(self, data: Images | str, *, seed: int = 0, n: int = 10_000, likelihoods: int = 0, **settings) -> dict[str, Any]:
        """The judge's figures for n samples, each with its floor, and bits per dimension of some test pictures; of toys, their own figures.

        settings are those of `steps`.
        """
        from .evaluation import Judge, toy_figures

        if likelihoods and not self.pictures:
            raise ValueError(f"likelihoods: is {likelihoods}; bits per dimension are of models of pictures, not of points or latents")
        x = self.sample(n, seed=seed, **settings)
        if isinstance(data, str):
            return toy_figures(data, x, seed)
        figures = Judge.of_zoo(data).evaluate(x, digit=np.arange(n) % self.config.classes if self.config.classes else None)
        if likelihoods:
            some = np.random.default_rng(seed).permutation(len(data.test))[:likelihoods]
            labels = data.test_labels[some] if self.config.classes and data.test_labels is not None else None
            figures["bits_per_dimension"] = float(self.bits_per_dimension(data.test[some], labels, seed=seed).mean())
        return figures

    # --- what a card says of the VAE

    def extras(self) -> dict[str, Any]:
        return {} if self.latents is None else {"autoencoder": {"name": self.latents.name, "digest": self.latents.digest()}}

    def restore_extras(self, card: dict[str, Any]) -> None:
        if self.latents is not None and card.get("autoencoder", {}).get("digest") != self.latents.digest():
            raise ValueError(f"autoencoder: the VAE {self.latents.name!r} that is here isn't the one whose latents this model learned")

    # --- what is checked

    def labels_for(self, digit, n: int) -> np.ndarray | None:
        return labels_for(digit, self.config.classes, n)

    def _check_guidance(self, guidance: float | None) -> float:
        if self.config.classes:
            guidance = self.config.guidance if guidance is None else guidance
            return check_number("guidance", guidance, -100, 100)
        if guidance not in (None, 1, 1.0):
            raise ValueError(f"guidance: is {guidance}, but this model isn't conditional (classes is 0); there is nothing to guide by")
        return 1.0

    @staticmethod
    def _check_sampler(sampler: str) -> str:
        if sampler not in (*SAMPLERS, ADAPTIVE):
            raise ValueError(f"sampler: is {sampler!r}; it may be {', '.join((*SAMPLERS, ADAPTIVE))}")
        return sampler

    def steps_within(self, sampler: str, evaluations: int) -> int:
        """How many steps that sampler takes with so many evaluations of the network."""
        steps = SAMPLERS[sampler].most(check_count(evaluations, "evaluations"))
        if steps < 1:
            raise ValueError(f"evaluations: is {evaluations}; {sampler} needs at least {SAMPLERS[sampler].cost(1)}")
        if steps > self.config.T:
            raise ValueError(f"evaluations: is {evaluations}, {steps} steps; this model's finest chain has T = {self.config.T}")
        return steps


def check_number(name: str, value: Any, least: float, most: float) -> float:
    if not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{name}: is {value!r}; it is a number from {least:g} to {most:g}")
    return float(value)


@dataclasses.dataclass
class Pairs:
    """A batch whose noise is chosen already: data and source points, row by row."""

    x_0: np.ndarray
    noise: np.ndarray
    labels: np.ndarray | None = None


def __getattr__(name: str):
    return moved(__name__, name, "zoo.recipes.diffusion", ("DiffusionTraining", "PRESETS", "make_trainer", "optimal_pairs"))
