"""What the two networks of a GAN minimise, each a few lines beside its equation.

`real` and `fake` are the discriminator's outputs for real and fake samples, (n, 1): numbers without bounds, and for the first two losses
logits of D.  The discriminator's loss ends in _d, the generator's in _g.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import Tensor


def minimax_d(real, fake, smoothing: float = 0.0):
    """-E[ln D(x)] - E[ln(1 - D(G(z)))] with D = s(logit), so ln D = -softplus(-l): Goodfellow et al. (2014), eq. 1."""
    return (ops.softplus(real) - (1 - smoothing) * real).mean() + ops.softplus(fake).mean()


def minimax_g(fake):
    """E[ln(1 - D(G(z)))], which is flat where D is sure."""
    return -ops.softplus(fake).mean()


def non_saturating_g(fake):
    """-E[ln D(G(z))]: Goodfellow et al. (2014), section 3."""
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
    """E[D(G(z))] - E[D(x)], with D kept smooth by clipping or a penalty: Arjovsky et al. (2017), eq. 2."""
    return fake.mean() - real.mean()


def wasserstein_g(fake):
    """-E[D(G(z))]."""
    return -fake.mean()


def relativistic_d(real, fake, smoothing: float = 0.0):
    """E[softplus(D(G(z)) - D(x))]: only which of a pair looks more real counts (Jolicoeur-Martineau 2019; Huang et al. 2024, eq. 2)."""
    return (ops.softplus(fake - real) + smoothing * (real - fake)).mean()


def relativistic_g(fake, real):
    """E[softplus(D(x) - D(G(z)))]: as each fake sample has a real one to surpass, leaving a mode out has its price."""
    return ops.softplus(real - fake).mean()


class Loss(NamedTuple):
    discriminator: Callable
    generator: Callable
    middle: float | None  # the output between "fake" and "real"; None where the generator's loss is of pairs


LOSSES: dict[str, Loss] = {
    "minimax": Loss(minimax_d, minimax_g, 0.0),
    "non-saturating": Loss(minimax_d, non_saturating_g, 0.0),
    "least-squares": Loss(least_squares_d, least_squares_g, 0.5),
    "hinge": Loss(hinge_d, wasserstein_g, 0.0),
    "wasserstein": Loss(wasserstein_d, wasserstein_g, 0.0),
    "relativistic": Loss(relativistic_d, relativistic_g, None),
}


def gradient_penalty(discriminator: Callable, real: np.ndarray, fake: np.ndarray, rng: Generator):
    """E[(|dD/dx| - 1)^2] at points between real and fake (Gulrajani et al. 2017, eq. 3): a gradient that is differentiated again."""
    share = rng.random((len(real),) + (1,) * (real.ndim - 1), np.float32)
    x = Tensor(share * real + (1 - share) * fake, requires_grad=True)
    gradient = ops.grad(discriminator(x).sum(), x, create_graph=True).reshape((len(real), -1))
    length = ops.sqrt((gradient * gradient).sum(axis=1) + 1e-12)
    return ((length - 1) * (length - 1)).mean()


def zero_centred_penalty(x: Tensor, verdict: Tensor):
    """E[|dD/dx|^2] / 2 at x, from the verdict that was computed there: R1 on real samples, R2 on fake (Mescheder et al. 2018, eq. 9)."""
    gradient = ops.grad(verdict.sum(), x, create_graph=True)
    return 0.5 * (gradient * gradient).sum() / len(x)
