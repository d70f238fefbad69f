"""Likelihoods by the probability-flow ODE: how probable a trained diffusion or flow finds given data.

Along dx/dt = f(x, t) the density at the moving point changes by the divergence, d ln p_t(x_t) / dt = -div f(x_t, t), as a volume that
expands thins out what is in it (Chen et al. 2018, theorem 1).  So with x_1 reached from x_0, where p_1 is standard normal,

    ln p_0(x_0) = ln p_1(x_1) + integral from 0 to 1 of div f(x_t, t) dt          (Song et al. 2021b, eq. 39)

div f is the trace of the Jacobian.  All its d terms cost d backward passes; Hutchinson's estimate costs one: E[e (df/dx) e] = trace for
random signs e, since E[e_i e_j] is 1 if i = j and else 0.

`model` is a `zoo.diffusion.Diffusion`; its methods of the same names are these functions.
"""

from __future__ import annotations

import math

import numpy as np

from ... import autograd as ops
from ...autograd import Tensor, enable_grad
from ...autograd.random import generator
from ...training import by_parts
from .dormand_prince import Velocity, integrate


def log_likelihood(model, x_0: np.ndarray, digit=None, *, seed: int = 0, tolerance: float = 1e-5, probes: int = 1,
                   exact: bool | None = None, batch: int = 100) -> np.ndarray:
    """ln p(x_0) in nats, (n,).

    x_0: as the network sees data, (n, *image), pictures in [-1, 1]; see `bits_per_dimension`.  The integral begins at the least t that is trained.
    digit: labels; without, a conditional model gives the density over all classes.
    tolerance: of each step; where data is dequantised the density turns sharply near t = 0, and 1e-4 steps over it.
    exact: the divergence from all its terms, the default for up to 4 dimensions; else Hutchinson's estimate from `probes` draws of e.
    batch: rows at once in memory.
    """
    if model.config.source != "normal":
        raise ValueError(f"log_likelihood: the source is {model.config.source!r}, whose density isn't known here")
    x_0 = np.asarray(x_0, np.float32)
    n, dimensions = len(x_0), math.prod(model.config.image)
    exact = dimensions <= 4 if exact is None else exact
    labels = model.labels_given(digit, n)
    first = generator(seed)

    def log_p(part: slice) -> np.ndarray:
        rng = np.random.default_rng((*np.ravel(seed), part.start)) if part.start and seed is not None else first
        x = x_0[part].reshape(-1, dimensions)
        m = len(x)
        if exact:
            directions = [np.broadcast_to(e, (m, dimensions)) for e in np.eye(dimensions, dtype=np.float32)]
        else:
            directions = [rng.choice(np.array([-1, 1], np.float32), (m, dimensions)) for _ in range(probes)]
        velocity = _with_divergence(model, directions, 1 if exact else probes, None if labels is None else labels[part])
        end, _ = integrate(velocity, np.concatenate([x, np.zeros((m, 1), np.float32)], axis=1), model.path.t_min, 1.0, tolerance)
        x_1, integral = end[:, :-1].astype(np.float64), end[:, -1].astype(np.float64)
        return integral - 0.5 * (x_1 * x_1).sum(1) - 0.5 * dimensions * math.log(2 * math.pi)

    return np.concatenate(by_parts(log_p, n, batch))


def _with_divergence(model, directions: list[np.ndarray], probes: int, labels) -> Velocity:
    """dx/dt and its divergence as one array (n, dimensions + 1), from x and what is integrated so far in the same form.

    directions: e of each product e (df/dx) e; their sum, divided by `probes`, is the divergence.
    """

    def velocity(t: float, state: np.ndarray) -> np.ndarray:
        with enable_grad():
            x = Tensor(np.ascontiguousarray(state[:, :-1]).reshape(-1, *model.config.image), requires_grad=True)
            x_0, noise = model.x_0_and_noise(model.predict(x, np.full(len(state), t), labels), x, t)
            d_alpha, d_sigma = model.path.derivatives(t)
            y = np.float32(d_alpha) * x_0 + np.float32(d_sigma) * noise
            divergence = np.zeros(len(state), np.float32)
            for e in directions:
                row = ops.grad(y, x, grad_outputs=e.reshape(x.shape), retain_graph=True)
                divergence = divergence + (row.data.reshape(e.shape) * e).sum(1)
        return np.concatenate([y.data.reshape(len(state), -1), (divergence / np.float32(probes))[:, None]], axis=1)

    return velocity


def bits_per_dimension(model, images, digit=None, *, seed: int = 0, **settings) -> np.ndarray:
    """-log2 p of pictures of 256 grey levels for each of their numbers, (n,); settings are those of `log_likelihood`.

    A density over real numbers is one over grey levels if each level is spread evenly over its own interval: dequantisation with uniform
    noise, whose mean log density is at most the log of the level's probability (Theis et al. 2016, section 3.1).  An interval is 2 / 256
    wide in [-1, 1], which adds log2(256 / 2) bits to each dimension.
    """
    if not model.pictures:
        raise ValueError("bits_per_dimension: this model's data are points or latents, which have no grey levels; "
                         "log_likelihood gives the density of x_0")
    x_0 = model.to_network_range(images, generator((seed, 2)))
    nats = log_likelihood(model, x_0, digit, seed=seed, **settings)
    return -nats / (math.prod(model.config.image) * math.log(2)) + math.log2(256 / 2)
