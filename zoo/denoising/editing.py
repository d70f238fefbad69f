"""What a trained diffusion or flow is good for beside samples: painting in, editing, encoding, interpolation, and likelihoods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import Tensor, enable_grad, no_grad
from ..model import Model, great_circle, last
from ..training import minibatches
from .latents import Latents
from .samplers import Belief, Path, euler, heun, integrate, times


class Uses(Model):
    """The part of `Diffusion` that stands on its `steps`, `denoise` and `predict`."""

    path: Path
    latents: Latents | None
    predict: Callable[..., Any]
    implied: Callable[..., tuple[Any, Any]]
    noised: Callable[..., np.ndarray]
    denoise: Callable[..., Belief]
    steps: Callable[..., Iterator[Any]]
    inside: Callable[..., np.ndarray]
    outside: Callable[[np.ndarray], np.ndarray]
    draw_source: Callable[[int, Generator], np.ndarray]
    labels_for: Callable[..., np.ndarray | None]
    steps_within: Callable[[str, int], int]

    def inpaint(self, images, mask, *, seed: int = 0, **settings) -> np.ndarray:
        """What might be where the mask is False: images (n, *image) in [0, 1], mask bool, True where a picture is kept."""
        return self.outside(last(self.inpaint_steps(images, mask, seed=seed, **settings)).x_previous)

    def inpaint_steps(self, images, mask, *, seed: int = 0, digit=None, sampler: str = "ddim", eta: float = 1.0, repeats: int = 5,
                      **settings) -> Iterator[Any]:
        """The records of `inpaint`; settings are those of `steps`.

        (Lugmayr et al. 2022, algorithm 1: the known part is pasted in at each noise level, and each step is taken `repeats` times.)
        """
        if self.latents is not None:
            raise ValueError("inpaint: this is a model of latents, in which a part of the picture has no place of its own; "
                             "a mask needs a model of pictures")
        known = self.inside(images)
        mask = np.asarray(mask)
        if mask.dtype != bool:
            raise ValueError(f"mask: dtype is {mask.dtype}; it is bool, True where the picture is kept")
        size = self.config.image
        if mask.shape not in (size, size[:2], known.shape, known.shape[:3]):
            raise ValueError(f"mask: shape is {mask.shape}; for pictures of shape {known.shape} it is {size} or {known.shape}")
        if mask.ndim < known.ndim and mask.shape in (size[:2], known.shape[:3]) and len(size) == 3:
            mask = mask[..., None]
        if mask.all():
            raise ValueError("mask: is True everywhere; nothing is left to paint")
        mask = np.broadcast_to(mask, known.shape)
        eta = eta if sampler == "ddim" else 0.0
        return self.steps(len(known), seed=seed, digit=digit, sampler=sampler, eta=eta, known=known, mask=mask, repeats=repeats, **settings)

    def edit(self, images, strength: float, *, seed: int = 0, digit=None, **settings) -> np.ndarray:
        """SDEdit (Meng et al. 2022): noise each picture up to t = strength, and come back.  0 keeps it, 1 forgets it."""
        if not 0 < strength <= 1:
            raise ValueError(f"strength: is {strength}; it may go from above 0, nothing changes, to 1, everything")
        x_0 = self.inside(images)
        start = max(strength, self.path.least)
        noise = self.draw_source(len(x_0), np.random.default_rng((seed, 1)))
        final = last(self.steps(seed=seed, digit=digit, x_1=self.noised(x_0, noise, start), start=start, **settings))
        return self.outside(final.x_previous)

    def encode(self, images, digit=None, *, evaluations: int = 79) -> np.ndarray:
        """The noise from which the probability-flow ODE makes these pictures (Song et al. 2021a, section 5.3), by Heun: (n, *image)."""
        x = self.inside(images)
        labels = self._told(digit, len(x))
        up = times(self.path, self.steps_within("heun", evaluations))[::-1]
        if self.path.least:
            up[0] = self.path.least
            up = sorted(set(up))
        with no_grad():
            for t, s in pairwise(up):
                x = heun(lambda x, at: self.denoise(x, at, labels, clip=False), self.path, t, s, x).mean
        return x

    def decode(self, noise: np.ndarray, digit=None, *, evaluations: int = 79, guidance: float = 1.0) -> np.ndarray:
        """Pictures from noise by the same ODE: the inverse of `encode`."""
        labels = self._told(digit, len(noise))
        if guidance != 1 and labels is None:
            raise ValueError(f"guidance: is {guidance}, but no digit is given to be guided by")
        x = np.asarray(noise, np.float32)
        down = times(self.path, self.steps_within("heun", evaluations))
        with no_grad():
            for t, s in pairwise(down):
                way = heun if s > 0 else euler
                x = way(lambda x, at: self.denoise(x, at, labels, guidance=guidance, clip=False), self.path, t, s, x).mean
        return self.outside(x)

    def redraw(self, images, digit, as_digit, *, evaluations: int = 79, guidance: float = 1.0) -> np.ndarray:
        """The digit in each picture turned into another, in the same hand: encoded with one label, decoded with the other."""
        return self.decode(self.encode(images, digit, evaluations=evaluations), as_digit, evaluations=evaluations, guidance=guidance)

    def interpolate(self, a, b, steps: int = 10, digit=None, *, evaluations: int = 79) -> np.ndarray:
        """Pictures on the great circle between the noises of two: (steps, *image); the ends are their reconstructions."""
        if steps < 2:
            raise ValueError(f"interpolate: steps is {steps}; it is at least 2, the two ends")
        first, second = self.encode(np.stack([a, b]), digit, evaluations=evaluations)
        return self.decode(great_circle(first, second, steps), digit, evaluations=evaluations)

    def _told(self, digit, n: int) -> np.ndarray | None:
        """Labels of what is given; without a digit nothing is said of it, and a conditional model takes it as unlabelled."""
        return None if digit is None else self.labels_for(digit, n)

    # --- likelihood

    def log_likelihood(self, x_0: np.ndarray, digit=None, *, seed: int = 0, tolerance: float = 1e-5, probes: int = 1,
                       exact: bool | None = None, batch: int = 100) -> np.ndarray:
        """ln p(x_0) in nats, one number each, by the ODE: ln p_1(x_1) + integral of div dx/dt (Song et al. 2021b, eq. 39).

        x_0 as inside the model: [-1, 1] for pictures, see `bits_per_dimension`.  The integral begins at the least t that is trained.
        tolerance: of each step; where data is dequantised the density turns sharply near t = 0, and 1e-4 steps over it.
        exact: the divergence from all its terms, which is the default for up to 4 dimensions; else by Hutchinson's estimate, the mean of
        e (d rate / dx) e over `probes` draws of e = +-1.
        """
        if self.config.source != "normal":
            raise ValueError(f"log_likelihood: the source is {self.config.source!r}, whose density isn't known here")
        x_0 = np.asarray(x_0, np.float32)
        n, dimensions = len(x_0), math.prod(self.config.image)
        exact = dimensions <= 4 if exact is None else exact
        labels = self._told(digit, n)
        rng = np.random.default_rng(seed)
        found = []
        for part in minibatches(n, batch):
            x = x_0[part].reshape(-1, dimensions)
            m = len(x)
            if exact:
                es = [np.broadcast_to(e, (m, dimensions)) for e in np.eye(dimensions, dtype=np.float32)]
            else:
                es = [rng.choice(np.array([-1, 1], np.float32), (m, dimensions)) for _ in range(probes)]
            rate = self._rate_with_divergence(es, 1 if exact else probes, None if labels is None else labels[part])
            with_sum, _ = integrate(rate, np.concatenate([x, np.zeros((m, 1), np.float32)], axis=1), self.path.least, 1.0, tolerance)
            x_1, total = with_sum[:, :-1].astype(np.float64), with_sum[:, -1].astype(np.float64)
            found.append(total - 0.5 * (x_1 * x_1).sum(1) - 0.5 * dimensions * math.log(2 * math.pi))
        return np.concatenate(found)

    def _rate_with_divergence(self, es: list[np.ndarray], probes: int, labels) -> Callable:
        """dx/dt and its divergence as one array (n, dimensions + 1)."""

        def rate(t: float, state: np.ndarray) -> np.ndarray:
            with enable_grad():
                x = Tensor(np.ascontiguousarray(state[:, :-1]).reshape(-1, *self.config.image), requires_grad=True)
                x_0, noise = self.implied(self.predict(x, np.full(len(state), t), labels), x, t)
                rate_alpha, rate_sigma = self.path.rates(t)
                y = np.float32(rate_alpha) * x_0 + np.float32(rate_sigma) * noise
                divergence = np.zeros(len(state), np.float32)
                for e in es:
                    row = ops.grad(y, x, grad_outputs=e.reshape(x.shape), retain_graph=True)
                    divergence = divergence + (row.data.reshape(e.shape) * e).sum(1)
            return np.concatenate([y.data.reshape(len(state), -1), (divergence / np.float32(probes))[:, None]], axis=1)

        return rate

    def bits_per_dimension(self, images, digit=None, *, seed: int = 0, **settings) -> np.ndarray:
        """-log2 p of pictures of 256 grey levels, a number in them: dequantised evenly (Theis et al. 2016), then `log_likelihood`."""
        if len(self.config.image) == 1:
            raise ValueError("bits_per_dimension: this model's data are points or latents, which have no grey levels; "
                             "log_likelihood gives the density of x_0")
        x_0 = self.inside(images, np.random.default_rng((seed, 2)))
        nats = self.log_likelihood(x_0, digit, seed=seed, **settings)
        return -nats / (math.prod(self.config.image) * math.log(2)) + math.log2(256 / 2)  # a grey level is 2 / 256 wide inside
