"""Paths from data to noise: how much of a picture, and how much noise, there is at each time.

For t from 0 (the picture x_0) to 1 (noise, standard normal)

    x_t = alpha(t) x_0 + sigma(t) noise

DDPM's paths keep alpha^2 + sigma^2 = 1 (Ho et al. 2020, eq. 4: alpha^2 is their alpha-bar); the straight path is that of flow matching,
alpha + sigma = 1.

The probability-flow ODE.  For a smooth test function f, d/dt E f(x_t) = E[grad f(x_t) (alpha' x_0 + sigma' noise)], and the mean over all
(x_0, noise) that meet in the same x_t may be taken first.  So points that start as x_1 and move with

    dx/dt = E[alpha' x_0 + sigma' noise | x_t = x] = alpha' x_0 + sigma' noise,  at the x_0 and noise that a network trained by squared error predicts

have the distribution of x_t at every t, though nothing random is left on the way (Song et al. 2021b, eq. 13; Lipman et al. 2023, eq. 8 and
theorem 1).
"""

from __future__ import annotations

import math

import numpy as np


class Path:
    """alpha, sigma and their derivatives; t is a float or a float64 array.

    Which v a network predicts: v = m x_0 + n noise with alpha n - sigma m = 1, so that the 2 x 2 system with x_t has determinant 1:

        x_t = alpha x_0 + sigma noise               x_0   =  n x_t - sigma v
        v   = m x_0 + n noise             so        noise = -m x_t + alpha v

    Why v (Salimans & Ho 2022, section 4): x_0 from a predicted noise is (x_t - sigma noise) / alpha, whose error is sigma / alpha times that
    of the network, without bound as t goes to 1, where x_t is all noise; noise from a predicted x_0 fails likewise at t = 0.  Errors of v
    enter x_0 times sigma and the noise times alpha, both at most 1: one target is good from end to end.
    """

    t_min = 0.0  # the smallest t that training draws, and that a network is evaluated at

    def alpha(self, t):
        raise NotImplementedError

    def sigma(self, t):
        raise NotImplementedError

    def derivatives(self, t):
        """d alpha / dt, d sigma / dt."""
        raise NotImplementedError

    def v_weights(self, t):
        """m, n of v = m x_0 + n noise."""
        raise NotImplementedError

    def ode_coordinates(self, t):
        """(scale, ode_time): the ODE is smooth in y = x / scale, where dy / d ode_time is `ode_velocity(x_0, noise)`."""
        raise NotImplementedError

    def ode_velocity(self, x_0, noise):
        raise NotImplementedError

    def log_snr(self, t) -> float:
        """ln alpha / sigma, half of the log signal-to-noise ratio: lambda of Lu et al. (2022)."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return -math.inf if alpha <= 0 else math.inf if sigma <= 0 else math.log(alpha / sigma)

    def transition(self, s: float, t: float) -> tuple[float, float]:
        """(a, b) of the noising from s to a later t: x_t = a x_s + b noise."""
        a = self.alpha(t) / self.alpha(s)
        return a, math.sqrt(max(0.0, self.sigma(t) ** 2 - (a * self.sigma(s)) ** 2))

    def posterior_deviation(self, t: float, s: float) -> float:
        """The standard deviation of q(x_s | x_t, x_0): Ho et al. (2020), eq. 7.  0 at s = 0: the last step draws nothing."""
        return self.transition(s, t)[1] * self.sigma(s) / self.sigma(t)


class VariancePreserving(Path):
    """alpha^2 + sigma^2 = 1: the paths of DDPM.  alpha^2 is alpha-bar in Ho et al. (2020).

    With alpha = cos(angle) and sigma = sin(angle), v = alpha noise - sigma x_0 is the derivative of x_t with respect to the angle
    (Salimans & Ho 2022, appendix D).
    """

    def sigma(self, t):
        return np.sqrt(np.maximum(0.0, 1 - self.alpha(t) ** 2))

    def v_weights(self, t):
        return -self.sigma(t), self.alpha(t)

    def ode_coordinates(self, t):
        return self.alpha(t), self.sigma(t) / self.alpha(t)  # d(x / alpha) = noise d(sigma / alpha) (Song et al. 2021a, eq. 14)

    def ode_velocity(self, x_0, noise):
        return noise


class Linear(VariancePreserving):
    """beta grows in a straight line: alpha-bar(t) = exp(-integral of beta), continuous in t (Song et al. 2021b, eq. 32-33)."""

    def __init__(self, T: int, beta_1: float = 1e-4, beta_T: float = 0.02):
        self.beta_0, self.beta_end = T * beta_1, T * beta_T  # per unit of t, which is T of their steps
        self.t_min = 1 / T

    def _log_alpha(self, t):
        return -0.5 * (self.beta_0 * t + 0.5 * (self.beta_end - self.beta_0) * t * t)

    def alpha(self, t):
        return np.exp(self._log_alpha(t))

    def sigma(self, t):
        return np.sqrt(-np.expm1(2 * self._log_alpha(t)))

    def derivatives(self, t):
        log_rate = -0.5 * (self.beta_0 + (self.beta_end - self.beta_0) * t)
        alpha = self.alpha(t)
        return alpha * log_rate, -(alpha * alpha) * log_rate / self.sigma(t)


class Cosine(VariancePreserving):
    """alpha-bar(t) = cos^2(angle(t)) / cos^2(angle(0)) (Nichol & Dhariwal 2021, eq. 17), which ends at 1e-4 instead of 0."""

    def __init__(self, T: int, s: float = 0.008):
        self.start = s / (1 + s) * math.pi / 2
        self.end = math.acos(0.01 * math.cos(self.start))
        self.t_min = 1 / T

    def _angle(self, t):
        return self.start + t * (self.end - self.start)

    def alpha(self, t):
        return np.cos(self._angle(t)) / math.cos(self.start)

    def derivatives(self, t):
        d_alpha = -np.sin(self._angle(t)) * (self.end - self.start) / math.cos(self.start)
        return d_alpha, -self.alpha(t) * d_alpha / self.sigma(t)


class Straight(Path):
    """x_t = (1 - t) x_0 + t noise: rectified flow and flow matching (Liu et al. 2023; Lipman et al. 2023)."""

    def alpha(self, t):
        return 1.0 - t

    def sigma(self, t):
        return 1.0 * t

    def derivatives(self, t):
        return -np.ones_like(t), np.ones_like(t)

    def v_weights(self, t):
        return -1.0, 1.0  # v = noise - x_0, the velocity dx/dt itself

    def ode_coordinates(self, t):
        return 1.0, t

    def ode_velocity(self, x_0, noise):
        return noise - x_0


def make_path(schedule: str, T: int, beta_1: float, beta_T: float) -> Path:
    """The path of that name; ValueError if its end isn't noise."""
    path = Linear(T, beta_1, beta_T) if schedule == "linear" else Cosine(T) if schedule == "cosine" else Straight()
    left = float(path.alpha(1.0))
    if left > 0.05:
        raise ValueError(f"schedule: at t = 1, {left:.2g} of the picture is left (alpha), so it doesn't end in noise; "
                         f"raise T ({T}) or beta_T ({beta_T}): T * beta_T is about 20")
    return path
