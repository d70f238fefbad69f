"""What the two networks of a GAN minimise, and the penalties on the discriminator's slope; each a few lines beside its equation.

`real` and `fake` are the discriminator's outputs for real and fake samples, (n, 1): any numbers, and for the first two losses the logits of
D.  The discriminator's loss ends in _d, the generator's in _g.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from ... import autograd as ops
from ...autograd import Tensor


def minimax_d(real, fake, smoothing: float = 0.0):
    """-E[ln D(x)] - E[ln(1 - D(G(z)))] with D = s(logit), so ln D = -softplus(-l): Goodfellow et al. (2014), eq. 1."""
    return (ops.softplus(real) - (1 - smoothing) * real).mean() + ops.softplus(fake).mean()


def minimax_g(fake):
    """E[ln(1 - D(G(z)))] = -E[softplus(l)], whose derivative in l is -D: next to nothing where D is sure that a sample is fake."""
    return -ops.softplus(fake).mean()


def non_saturating_g(fake):
    """-E[ln D(G(z))]: Goodfellow et al. (2014), section 3.

    It falls where `minimax_g` falls, as D rises, so the game has the same fixed point; but its derivative in l is D - 1, which is -1 where
    D is sure that a sample is fake.  Early in training D nearly always is, and minimax then tells the generator nothing.
    """
    return ops.softplus(-fake).mean()


def least_squares_d(real, fake, smoothing: float = 0.0):
    """1/2 E[(D(x) - 1)^2] + 1/2 E[D(G(z))^2]: Mao et al. (2017), eq. 9."""
    off = real - (1 - smoothing)
    return 0.5 * (off * off).mean() + 0.5 * (fake * fake).mean()


def least_squares_g(fake):
    """1/2 E[(D(G(z)) - 1)^2]."""
    return 0.5 * ((fake - 1) * (fake - 1)).mean()


def hinge_d(real, fake, smoothing: float = 0.0):
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]: Miyato et al. (2018), eq. 16."""
    return ops.relu((1 - smoothing) - real).mean() + ops.relu(1 + fake).mean()


def wasserstein_d(real, fake, smoothing: float = 0.0):
    """E[D(G(z))] - E[D(x)]: Arjovsky et al. (2017), eq. 2.

    Over all D whose slope is at most 1 the least value is minus the Wasserstein distance of the two distributions (Kantorovich & Rubinstein
    1958), which falls evenly as they approach each other even where they don't overlap.  Clipping or a penalty bounds the slope.
    """
    return fake.mean() - real.mean()


def wasserstein_g(fake):
    """-E[D(G(z))]."""
    return -fake.mean()


def relativistic_d(real, fake, smoothing: float = 0.0):
    """E[softplus(D(G(z)) - D(x))]: what counts is which of a pair looks more real (Jolicoeur-Martineau 2019; Huang et al. 2024, eq. 2)."""
    return (ops.softplus(fake - real) + smoothing * (real - fake)).mean()


def relativistic_g(fake, real):
    """E[softplus(D(x) - D(G(z)))]: each fake sample has a real one to surpass, so a mode that is left out has its price."""
    return ops.softplus(real - fake).mean()


class Loss(NamedTuple):
    discriminator: Callable
    generator: Callable
    threshold: float | None  # outputs above it say "real"; None where the loss is of pairs (real, fake)

    def accuracy(self, on_real: np.ndarray, on_fake: np.ndarray) -> float:
        """The share of the outputs on the right side of the threshold, or of the pairs in the right order."""
        if self.threshold is None:
            return float(np.mean(on_real > on_fake))
        return float((np.mean(on_real > self.threshold) + np.mean(on_fake < self.threshold)) / 2)


LOSSES: dict[str, Loss] = {
    "minimax": Loss(minimax_d, minimax_g, 0.0),
    "non-saturating": Loss(minimax_d, non_saturating_g, 0.0),
    "least-squares": Loss(least_squares_d, least_squares_g, 0.5),
    "hinge": Loss(hinge_d, wasserstein_g, 0.0),
    "wasserstein": Loss(wasserstein_d, wasserstein_g, 0.0),
    "relativistic": Loss(relativistic_d, relativistic_g, None),
}


def gradient_penalty(discriminator: Callable, real: np.ndarray, fake: np.ndarray, rng: Generator):
    """E[(|dD/dx| - 1)^2] at random points between real and fake samples (Gulrajani et al. 2017, eq. 3).

    The best critic of slope at most 1 has slope 1 along the lines on which fake mass is moved to real (proposition 1).  To lower this
    penalty is to differentiate a gradient, hence create_graph.
    """
    share = rng.random((len(real),) + (1,) * (real.ndim - 1), np.float32)
    x = Tensor(share * real + (1 - share) * fake, requires_grad=True)
    gradient = ops.grad(discriminator(x).sum(), x, create_graph=True).reshape((len(real), -1))
    length = ops.sqrt((gradient * gradient).sum(axis=1) + 1e-12)
    return ((length - 1) * (length - 1)).mean()


def zero_centred_penalty(x: Tensor, logits: Tensor):
    """E[|dD/dx|^2] / 2 at x, from D's logits there: R1 on real samples, R2 on fake ones (Mescheder et al. 2018, eq. 9 and 10).

    Where q = p the best D is constant, so its slope is 0 on the data and this penalty leaves the equilibrium where it is.  Without it the
    two networks circle around that point: the Jacobian of their joint gradient field has eigenvalues on the imaginary axis, and the
    penalty moves them into the left half plane, so the circles shrink (section 4.1).  A target slope of 1 wouldn't vanish there.
    """
    gradient = ops.grad(logits.sum(), x, create_graph=True)
    return 0.5 * (gradient * gradient).sum() / len(x)
