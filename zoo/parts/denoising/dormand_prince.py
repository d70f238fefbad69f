"""The solver of Dormand & Prince (1980), of order 5 with an estimate of its own error, known as dopri5 or RK45: it chooses its own steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ...model import replayable
from .samplers import ADAPTIVE, DiffusionStep, Sampling

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
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)  # weights of order 5 less those of order 4

Velocity = Callable[[float, np.ndarray], np.ndarray]  # (t, x) -> dx/dt


def dormand_prince(velocity: Velocity, t: float, h: float, x: np.ndarray, first: np.ndarray | None, tolerance: float):
    """One step of dx/dt = velocity(t, x): x at t + h, the estimated error in units of the tolerance, all seven slopes.

    first: the slope at t, if it's known.
    """
    slopes = [velocity(t, x) if first is None else first]
    y = x
    for node, weights in zip(_NODES[1:], _STAGES[1:]):
        y = x + _weighted_sum([h * w for w in weights], slopes)
        slopes.append(velocity(t + node * h, y))
    estimate = _weighted_sum([h * w for w in _ERROR], slopes)
    scale = tolerance + tolerance * np.maximum(np.abs(x), np.abs(y))
    return y, float(np.sqrt(np.mean((estimate / scale) ** 2))), slopes


def _weighted_sum(weights, arrays):
    total = None
    for w, a in zip(weights, arrays):
        if w:
            total = np.float32(w) * a if total is None else total + np.float32(w) * a
    return total


def next_size(h: float, error: float) -> float:
    """The step size that should meet the tolerance (Hairer et al. 1993, II.4)."""
    return h * min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))


def integrate(velocity: Velocity, x: np.ndarray, start: float, end: float, tolerance: float) -> tuple[np.ndarray, int]:
    """x at `end`, by accepted steps of `dormand_prince`; and the number of evaluations."""
    t, h, first, evaluations = start, (end - start) / 20, None, 0
    while t != end:
        h = math.copysign(min(abs(h), abs(end - t)), h)
        y, error, slopes = dormand_prince(velocity, t, h, x, first, tolerance)
        evaluations += 6 + (first is None)
        if error <= 1:
            t, x, first = end if abs(end - t - h) < 1e-9 else t + h, y, slopes[-1]
        else:
            first = slopes[0]
        check_size(h, error, t)
        h = next_size(h, error)
    return x, evaluations


def check_size(h: float, error: float, t: float) -> None:
    """FloatingPointError where the error isn't finite, or steps have become very small and still fail; the last one may be small."""
    if not math.isfinite(error) or (error > 1 and abs(h) < 1e-7):
        raise FloatingPointError(f"dopri5: the step at t = {t:.6g} has size {h:.2g} and error {error:.2g}; "
                                 "the network's slope isn't finite, or not smooth")


def adaptive_steps(model, settings: Sampling, x: np.ndarray) -> Iterator[DiffusionStep]:
    """The accepted steps from settings.start to the least t that is trained."""
    t, h, end = settings.start, -settings.start / 20, model.path.t_min
    while t > end:
        h = -min(-h, t - end)
        step = adaptive_step(model, settings, t, h, x)
        assert step.error is not None
        if step.error <= 1:
            yield step
            t, x = step.t_previous, step.x_previous
        check_size(h, step.error, t)
        h = next_size(h, step.error)


@replayable
def adaptive_step(model, settings: Sampling, t: float, h: float, x_t: np.ndarray) -> DiffusionStep:
    """From t to t + h, h below 0, or as far as its error says would do."""
    def denoise(x, at):
        return model.denoise(x, at, settings.labels, guidance=settings.guidance, clip=False)

    prediction, x_0, noise = estimate = denoise(x_t, t)
    x_s, error, slopes = dormand_prince(lambda at, x: model.velocity_of(denoise(x, at), at), t, h, x_t, model.velocity_of(estimate, t),
                                        settings.tolerance)
    s = model.path.t_min if t + h < model.path.t_min + 1e-9 else t + h
    return DiffusionStep(sampler=ADAPTIVE, t=t, t_previous=s, x_t=x_t, prediction=prediction, noise_predicted=noise, x_0_predicted=x_0,
                         mean=x_s, deviation=0.0, draw=None, x_previous=x_s, evaluations=len(slopes), slopes=np.stack(slopes), error=error,
                         picture=model.decoded(x_0))
