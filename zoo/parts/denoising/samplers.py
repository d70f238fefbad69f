"""Samplers: the ways back along a path, from noise to a picture.

A sampler steps from t to an earlier s, given what a network estimates at x_t: x_0 and the noise in it.  Each one is a function of numbers
alone, `step(denoise, path, t, s, x_t, ...) -> Update`; it draws nothing itself.  How much noise is to be added afterwards is
`deviation_of`, so that the draw can be made outside, recorded, and handed in again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...model import Step, check_count
from .paths import Path


class Estimate(NamedTuple):
    """What the network says about x_t: its output, and the x_0 and noise that follow from it."""

    prediction: np.ndarray
    x_0: np.ndarray
    noise: np.ndarray


Denoise = Callable[[np.ndarray, float], Estimate]


@dataclasses.dataclass
class Update:
    """Where a step leads before anything is drawn: the estimate at x_t, the mean of x_s, and the slopes of a method with several stages."""

    estimate: Estimate
    mean: np.ndarray
    slopes: np.ndarray | None = None  # (stages, n, ...), one for each evaluation of the network

    @property
    def evaluations(self) -> int:
        return 1 if self.slopes is None else len(self.slopes)


# --- one step from t to s


def ddpm(denoise: Denoise, path: Path, t: float, s: float, x_t, **_) -> Update:
    """The mean of q(x_s | x_t, x_0) at the x_0 that is estimated (Ho et al. 2020, eq. 7)."""
    estimate = denoise(x_t, t)
    a, b = path.transition(s, t)
    sigma2 = path.sigma(t) ** 2
    return Update(estimate, np.float32(a * path.sigma(s) ** 2 / sigma2) * x_t + np.float32(path.alpha(s) * b * b / sigma2) * estimate.x_0)


def ddim(denoise: Denoise, path: Path, t: float, s: float, x_t, *, deviation: float = 0.0, **_) -> Update:
    """alpha_s x_0 + sqrt(sigma_s^2 - deviation^2) noise, to which deviation * draw is added (Song et al. 2021a, eq. 12).

    Why any deviation serves: noise and draw are independent, so their sum has the variance sigma_s^2, and x_s is distributed as the path says
    (eq. 7).  The loss depends on nothing but this distribution at each t; one trained network therefore serves the whole family, from
    deviation 0, where the noise that was estimated is kept and nothing is random, to DDPM's, the deviation of q(x_s | x_t, x_0).
    """
    estimate = denoise(x_t, t)
    return Update(estimate, np.float32(path.alpha(s)) * estimate.x_0
                  + np.float32(math.sqrt(max(0.0, path.sigma(s) ** 2 - deviation * deviation))) * estimate.noise)


def dpm_solver(denoise: Denoise, path: Path, t: float, s: float, x_t, *, previous: tuple[float, np.ndarray] | None = None, **_) -> Update:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): x_0 extrapolated linearly in lambda; previous is (t, x_0) of the step before."""
    estimate = denoise(x_t, t)
    d = estimate.x_0
    if previous is not None and s > 0:
        t_previous, x_0_previous = previous
        h, h_previous = path.log_snr(s) - path.log_snr(t), path.log_snr(t) - path.log_snr(t_previous)
        weight = np.float32(0.5 * h / h_previous)  # 1 / (2 r)
        d = d + weight * (d - x_0_previous)
    ratio = path.sigma(s) / path.sigma(t)
    return Update(estimate, np.float32(ratio) * x_t + np.float32(path.alpha(s) - ratio * path.alpha(t)) * d)


def euler(denoise: Denoise, path: Path, t: float, s: float, x_t, **_) -> Update:
    """Along the slope at t, to s.  In the path's coordinates this is DDIM."""
    estimate = denoise(x_t, t)
    return Update(estimate, _along(path, t, s, x_t, path.ode_velocity(estimate.x_0, estimate.noise)))


def heun(denoise: Denoise, path: Path, t: float, s: float, x_t, **_) -> Update:
    """Along the mean of the slopes at both ends; Euler into t = 0, where no network is trained (Karras et al. 2022, algorithm 1)."""
    estimate = denoise(x_t, t)
    slope = path.ode_velocity(estimate.x_0, estimate.noise)
    x_s = _along(path, t, s, x_t, slope)
    if s == 0:
        return Update(estimate, x_s, slope[None])
    at_s = denoise(x_s, s)
    slopes = np.stack([slope, path.ode_velocity(at_s.x_0, at_s.noise)])
    return Update(estimate, _along(path, t, s, x_t, slopes.mean(0)), slopes)


def midpoint(denoise: Denoise, path: Path, t: float, s: float, x_t, **_) -> Update:
    """Along the slope half way, weighted for a middle of t that isn't the middle of the ODE's time."""
    estimate = denoise(x_t, t)
    slope = path.ode_velocity(estimate.x_0, estimate.noise)
    middle = (t + s) / 2
    at_middle = denoise(_along(path, t, middle, x_t, slope), middle)
    slopes = np.stack([slope, path.ode_velocity(at_middle.x_0, at_middle.noise)])
    ode_time = [path.ode_coordinates(at)[1] for at in (t, middle, s)]
    weight = np.float32(0.5 * (ode_time[2] - ode_time[0]) / (ode_time[1] - ode_time[0]))
    return Update(estimate, _along(path, t, s, x_t, slopes[0] + weight * (slopes[1] - slopes[0])), slopes)


def _along(path: Path, t: float, s: float, x_t, slope):
    """x_t carried from t to s along a slope in the path's coordinates."""
    (scale, ode_time), (scale_s, ode_time_s) = path.ode_coordinates(t), path.ode_coordinates(s)
    return np.float32(scale_s / scale) * x_t + np.float32(scale_s * (ode_time_s - ode_time)) * slope


@dataclasses.dataclass(frozen=True)
class Sampler:
    step: Callable[..., Update]
    evaluations: Callable[[int], int] = lambda steps: steps  # of the network, in that many steps
    max_steps: Callable[[int], int] = lambda evaluations: evaluations  # with that many evaluations


SAMPLERS: dict[str, Sampler] = {
    "ddpm": Sampler(ddpm),
    "ddim": Sampler(ddim),
    "dpm-solver++": Sampler(dpm_solver),
    "euler": Sampler(euler),
    "heun": Sampler(heun, evaluations=lambda steps: 2 * steps - 1, max_steps=lambda evaluations: (evaluations + 1) // 2),
    "midpoint": Sampler(midpoint, evaluations=lambda steps: 2 * steps, max_steps=lambda evaluations: evaluations // 2),
}
ADAPTIVE = "dopri5"  # chooses its own steps: `dormand_prince.adaptive_steps`


def deviation_of(sampler: str, path: Path, t: float, s: float, eta: float) -> float:
    """The standard deviation of the noise that a step from t to s adds: ddpm's is that of the posterior, ddim's eta times that."""
    return path.posterior_deviation(t, s) * (1.0 if sampler == "ddpm" else eta if sampler == "ddim" else 0.0)


def times(path: Path, steps: int, *, start: float = 1.0, spacing: float = 1.0) -> list[float]:
    """steps + 1 times from start down to 0: start (1 - i / steps)^spacing; a spacing above 1 takes smaller steps near the picture.

    The last one before 0 is no smaller than what training draws.
    """
    grid = {max(start * (1 - i / steps) ** spacing, path.t_min) for i in range(steps)}
    return [*sorted(grid, reverse=True), 0.0]


# --- a generation: what it is told, and what it records


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings of one generation, the same in all of its steps: see `Diffusion.steps`."""

    sampler: str
    labels: np.ndarray | None  # (n,)
    guidance: float = 1.0
    eta: float = 0.0
    spacing: float = 1.0
    tolerance: float = 1e-4
    start: float = 1.0
    known: np.ndarray | None = None  # inpainting: pictures in [-1, 1] that are kept where the mask is True
    mask: np.ndarray | None = None
    repeats: int = 1

    def check(self, source: str, t_min: float) -> None:
        """ValueError where a setting is out of range, or of no use with this sampler and model."""
        for name, low, high in (("eta", 0, 1), ("spacing", 0.1, 10), ("tolerance", 1e-8, 10)):
            check_number(name, getattr(self, name), low, high)
        if self.eta and self.sampler != "ddim":
            raise ValueError(f"eta: is {self.eta} with sampler {self.sampler!r}; it is a setting of ddim")
        if source != "normal" and (self.eta or self.sampler == "ddpm"):
            raise ValueError(f"sampler: {self.sampler!r} draws normal noise, but this model's source is {source!r}; "
                             "use euler, heun, midpoint or dopri5")
        if not t_min < self.start <= 1:
            raise ValueError(f"start: is {self.start}; it is a t from above {t_min:g} to 1")
        if check_count(self.repeats, "repeats") > 1 and self.mask is None:
            raise ValueError(f"repeats: is {self.repeats} without a mask; it belongs to inpainting")
        if (self.known is None) != (self.mask is None):
            raise ValueError(f"{'known' if self.known is None else 'mask'}: is None; inpainting needs both, known and mask")
        if self.mask is not None and self.sampler == ADAPTIVE:
            raise ValueError("sampler: dopri5 can't inpaint; its steps are too long to paste into")


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


def check_sampler(sampler: str) -> str:
    if sampler not in (*SAMPLERS, ADAPTIVE):
        raise ValueError(f"sampler: is {sampler!r}; it may be {', '.join((*SAMPLERS, ADAPTIVE))}")
    return sampler


def check_number(name: str, value: Any, low: float, high: float) -> float:
    if not isinstance(value, (int, float, np.integer, np.floating)) or not low <= value <= high:
        raise ValueError(f"{name}: is {value!r}; it is a number from {low:g} to {high:g}")
    return float(value)
