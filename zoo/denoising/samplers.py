"""Paths from data to noise, and the ways back along them.

A path mixes a picture with noise, for t from 0 (the picture) to 1 (noise):

    x_t = alpha(t) x_0 + sigma(t) noise

A sampler steps from t to an earlier s, with what a network believes of x_t: x_0 and the noise in it.  Each one here is a function of
numbers alone, `step(denoise, path, t, s, x_t, ...) -> Move`; what it adds as noise is said by its `deviation`, so that the draw
can be made outside, recorded, and handed in again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# --- paths


class Path:
    """alpha, sigma, their rates of change, and the two coordinates in which the probability-flow ODE is smooth.

    Times are floats or float64 arrays.  A `v` prediction is (noise, x_0) mixed by `v_parts` so that the mixing has determinant 1:

        x_t = alpha x_0 + sigma noise               x_0   =  n x_t - sigma v
        v   = m x_0 + n noise             so        noise = -m x_t + alpha v          with alpha n - sigma m = 1
    """

    least = 0.0  # the smallest t that training draws, and that a network is asked about

    def alpha(self, t):
        raise NotImplementedError

    def sigma(self, t):
        raise NotImplementedError

    def rates(self, t):
        """d alpha / dt, d sigma / dt."""
        raise NotImplementedError

    def v_parts(self, t):
        """m, n of v = m x_0 + n noise."""
        raise NotImplementedError

    def frame(self, t):
        """scale, clock: in x / scale against the clock, the ODE's slope is `slope(x_0, noise)`."""
        raise NotImplementedError

    def slope(self, x_0, noise):
        raise NotImplementedError

    def log_snr(self, t) -> float:
        """ln alpha / sigma, half of the log signal-to-noise ratio: lambda of Lu et al. (2022)."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return -math.inf if alpha <= 0 else math.inf if sigma <= 0 else math.log(alpha / sigma)

    def transition(self, s: float, t: float) -> tuple[float, float]:
        """The way from s to a later t: x_t = a x_s + b noise; (a, b)."""
        a = self.alpha(t) / self.alpha(s)
        return a, math.sqrt(max(0.0, self.sigma(t) ** 2 - (a * self.sigma(s)) ** 2))

    def posterior_deviation(self, t: float, s: float) -> float:
        """The deviation of q(x_s | x_t, x_0): Ho et al. (2020), eq. 7.  0 at s = 0: the last step draws nothing."""
        return self.transition(s, t)[1] * self.sigma(s) / self.sigma(t)


class VariancePreserving(Path):
    """alpha^2 + sigma^2 = 1: the paths of DDPM.  alpha^2 is alpha-bar in Ho et al. (2020)."""

    def sigma(self, t):
        return np.sqrt(np.maximum(0.0, 1 - self.alpha(t) ** 2))

    def v_parts(self, t):
        return -self.sigma(t), self.alpha(t)  # v = alpha noise - sigma x_0 (Salimans & Ho 2022, appendix D)

    def frame(self, t):
        return self.alpha(t), self.sigma(t) / self.alpha(t)  # d(x / alpha) = noise d(sigma / alpha) (Song et al. 2021a, eq. 14)

    def slope(self, x_0, noise):
        return noise


class Linear(VariancePreserving):
    """beta grows in a straight line: alpha-bar(t) = exp(-integral of beta), continuous in t (Song et al. 2021b, eq. 32-33)."""

    def __init__(self, T: int, beta_1: float = 1e-4, beta_T: float = 0.02):
        self.low, self.high = T * beta_1, T * beta_T
        self.least = 1 / T

    def _log(self, t):
        return -0.5 * (self.low * t + 0.5 * (self.high - self.low) * t * t)  # ln alpha

    def alpha(self, t):
        return np.exp(self._log(t))

    def sigma(self, t):
        return np.sqrt(-np.expm1(2 * self._log(t)))

    def rates(self, t):
        log_rate = -0.5 * (self.low + (self.high - self.low) * t)
        alpha = self.alpha(t)
        return alpha * log_rate, -(alpha * alpha) * log_rate / self.sigma(t)


class Cosine(VariancePreserving):
    """alpha-bar(t) = cos^2(angle(t)) / cos^2(angle(0)) (Nichol & Dhariwal 2021, eq. 17), which ends at 1e-4 instead of 0."""

    def __init__(self, T: int, s: float = 0.008):
        self.start = s / (1 + s) * math.pi / 2
        self.end = math.acos(0.01 * math.cos(self.start))
        self.least = 1 / T

    def _angle(self, t):
        return self.start + t * (self.end - self.start)

    def alpha(self, t):
        return np.cos(self._angle(t)) / math.cos(self.start)

    def rates(self, t):
        rate = -np.sin(self._angle(t)) * (self.end - self.start) / math.cos(self.start)
        return rate, -self.alpha(t) * rate / self.sigma(t)


class Straight(Path):
    """x_t = (1 - t) x_0 + t noise: rectified flow and flow matching (Liu et al. 2023; Lipman et al. 2023), t = 1 is the source."""

    def alpha(self, t):
        return 1.0 - t

    def sigma(self, t):
        return 1.0 * t

    def rates(self, t):
        return -np.ones_like(t), np.ones_like(t)

    def v_parts(self, t):
        return -1.0, 1.0  # v = noise - x_0, the velocity dx/dt itself

    def frame(self, t):
        return 1.0, t

    def slope(self, x_0, noise):
        return noise - x_0


def make_path(schedule: str, T: int, beta_1: float, beta_T: float) -> Path:
    """The path of that name; ValueError if its end isn't noise."""
    path = Linear(T, beta_1, beta_T) if schedule == "linear" else Cosine(T) if schedule == "cosine" else Straight()
    left = float(path.alpha(1.0))
    if left > 0.05:
        raise ValueError(f"schedule: at t = 1, {left:.2g} of the picture is left (alpha), so it doesn't end in noise; "
                         f"raise T ({T}) or beta_T ({beta_T}): T * beta_T is about 20")
    return path


# --- one step from t to s


class Belief(NamedTuple):
    """What the network says about x_t."""

    prediction: np.ndarray
    x_0: np.ndarray
    noise: np.ndarray


Denoise = Callable[[np.ndarray, float], Belief]


@dataclasses.dataclass
class Move:
    """Where a step leads before anything is drawn: belief at x_t, the mean of x_s, and the slopes of a method with several stages."""

    belief: Belief
    mean: np.ndarray
    slopes: np.ndarray | None = None  # (stages, n, ...)
    error: float | None = None  # a method's own estimate, in units of the tolerance


def _flow(path: Path, t: float, s: float, x_t, slope):
    """x_t carried from t to s along a slope in the path's frame."""
    (scale, clock), (scale_s, clock_s) = path.frame(t), path.frame(s)
    return np.float32(scale_s / scale) * x_t + np.float32(scale_s * (clock_s - clock)) * slope


def ddpm(denoise: Denoise, path: Path, t: float, s: float, x_t, **_) -> Move:
    """The mean of q(x_s | x_t, x_0) at the x_0 believed (Ho et al. 2020, eq. 7)."""
    belief = denoise(x_t, t)
    a, b = path.transition(s, t)
    sigma2 = path.sigma(t) ** 2
    return Move(belief, np.float32(a * path.sigma(s) ** 2 / sigma2) * x_t + np.float32(path.alpha(s) * b * b / sigma2) * belief.x_0)


def ddim(denoise: Denoise, path: Path, t: float, s: float, x_t, *, deviation: float = 0.0, **_) -> Move:
    """alpha_s x_0 + sqrt(sigma_s^2 - deviation^2) noise (Song et al. 2021a, eq. 12)."""
    belief = denoise(x_t, t)
    return Move(belief, np.float32(path.alpha(s)) * belief.x_0
                + np.float32(math.sqrt(max(0.0, path.sigma(s) ** 2 - deviation * deviation))) * belief.noise)


def dpm_solver(denoise: Denoise, path: Path, t: float, s: float, x_t, *, before: tuple[float, np.ndarray] | None = None, **_) -> Move:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): x_0 carried on in a straight line of lambda; before is (t, x_0) of the last step."""
    belief = denoise(x_t, t)
    d = belief.x_0
    if before is not None and s > 0:
        t_before, x_0_before = before
        h, h_before = path.log_snr(s) - path.log_snr(t), path.log_snr(t) - path.log_snr(t_before)
        more = np.float32(0.5 * h / h_before)  # 1 / (2 r)
        d = d + more * (d - x_0_before)
    ratio = path.sigma(s) / path.sigma(t)
    return Move(belief, np.float32(ratio) * x_t + np.float32(path.alpha(s) - ratio * path.alpha(t)) * d)


def euler(denoise: Denoise, path: Path, t: float, s: float, x_t, **_) -> Move:
    """Along the slope at t, to s.  In the path's frame this is DDIM."""
    belief = denoise(x_t, t)
    return Move(belief, _flow(path, t, s, x_t, path.slope(belief.x_0, belief.noise)))


def heun(denoise: Denoise, path: Path, t: float, s: float, x_t, **_) -> Move:
    """The mean of the slopes at both ends; Euler into t = 0, where no network is asked (Karras et al. 2022, algorithm 1)."""
    belief = denoise(x_t, t)
    slope = path.slope(belief.x_0, belief.noise)
    x_s = _flow(path, t, s, x_t, slope)
    if s == 0:
        return Move(belief, x_s, slope[None])
    other = denoise(x_s, s)
    slopes = np.stack([slope, path.slope(other.x_0, other.noise)])
    return Move(belief, _flow(path, t, s, x_t, slopes.mean(0)), slopes)


def midpoint(denoise: Denoise, path: Path, t: float, s: float, x_t, **_) -> Move:
    """The slope half way; weighted so that it's of second order where the clock doesn't run evenly."""
    belief = denoise(x_t, t)
    slope = path.slope(belief.x_0, belief.noise)
    middle = (t + s) / 2
    other = denoise(_flow(path, t, middle, x_t, slope), middle)
    slopes = np.stack([slope, path.slope(other.x_0, other.noise)])
    clock = [path.frame(at)[1] for at in (t, middle, s)]
    weight = np.float32(0.5 * (clock[2] - clock[0]) / (clock[1] - clock[0]))
    return Move(belief, _flow(path, t, s, x_t, slopes[0] + weight * (slopes[1] - slopes[0])), slopes)


@dataclasses.dataclass(frozen=True)
class Sampler:
    step: Callable[..., Move]
    stochastic: bool = False  # whether `eta` has a meaning
    cost: Callable[[int], int] = lambda steps: steps  # network evaluations of that many steps
    most: Callable[[int], int] = lambda evaluations: evaluations  # steps that fit into that many evaluations


SAMPLERS: dict[str, Sampler] = {
    "ddpm": Sampler(ddpm, stochastic=True),
    "ddim": Sampler(ddim, stochastic=True),
    "dpm-solver++": Sampler(dpm_solver),
    "euler": Sampler(euler),
    "heun": Sampler(heun, cost=lambda steps: 2 * steps - 1, most=lambda evaluations: (evaluations + 1) // 2),
    "midpoint": Sampler(midpoint, cost=lambda steps: 2 * steps, most=lambda evaluations: evaluations // 2),
}
ADAPTIVE = "dopri5"  # chooses its own steps; see `integrate`


def deviation_of(sampler: str, path: Path, t: float, s: float, eta: float) -> float:
    """The deviation of the noise that a step from t to s adds: ddpm's is that of the posterior, ddim's eta times that."""
    return path.posterior_deviation(t, s) * (1.0 if sampler == "ddpm" else eta if sampler == "ddim" else 0.0)


def times(path: Path, steps: int, *, start: float = 1.0, spacing: float = 1.0) -> list[float]:
    """steps + 1 times from start down to 0: start (1 - i / steps)^spacing; a spacing above 1 takes smaller steps near the picture.

    The last one before 0 is no smaller than what training draws.
    """
    grid = {max(start * (1 - i / steps) ** spacing, path.least) for i in range(steps)}
    return [*sorted(grid, reverse=True), 0.0]


# --- Dormand & Prince (1980): order 5, with an estimate of its own error

_NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

Rate = Callable[[float, np.ndarray], np.ndarray]


def dormand_prince(rate: Rate, t: float, h: float, x: np.ndarray, first: np.ndarray | None, tolerance: float):
    """One step of dx/dt = rate(t, x): x at t + h, the error in units of the tolerance, all seven slopes.

    first: the slope at t, if it's known.
    """
    slopes = [rate(t, x) if first is None else first]
    y = x
    for node, weights in zip(_NODES[1:], _STAGES[1:]):
        y = x + _weighted([h * w for w in weights], slopes)
        slopes.append(rate(t + node * h, y))
    estimate = _weighted([h * w for w in _ERROR], slopes)
    size = tolerance + tolerance * np.maximum(np.abs(x), np.abs(y))
    return y, float(np.sqrt(np.mean((estimate / size) ** 2))), slopes


def _weighted(weights, arrays):
    total = None
    for w, a in zip(weights, arrays):
        if w:
            total = np.float32(w) * a if total is None else total + np.float32(w) * a
    return total


def next_size(h: float, error: float) -> float:
    """The step size that should meet the tolerance (Hairer et al. 1993, II.4)."""
    return h * min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))


def integrate(rate: Rate, x: np.ndarray, start: float, end: float, tolerance: float) -> tuple[np.ndarray, int]:
    """x at `end`, by accepted steps of `dormand_prince`; and how often rate was asked."""
    t, h, first, asked = start, (end - start) / 20, None, 0
    while abs(end - t) > 1e-9:
        h = math.copysign(min(abs(h), abs(end - t)), h)
        y, error, slopes = dormand_prince(rate, t, h, x, first, tolerance)
        asked += 6 + (first is None)
        if error <= 1:
            t, x, first = t + h, y, slopes[-1]
        else:
            first = slopes[0]
        check_size(h, error, t)
        h = next_size(h, error)
    return x, asked


def check_size(h: float, error: float, t: float) -> None:
    if not math.isfinite(error) or abs(h) < 1e-7:
        raise FloatingPointError(f"dopri5: the step at t = {t:.6g} has size {h:.2g} and error {error:.2g}; "
                                 "the network's slope isn't finite, or not smooth")
