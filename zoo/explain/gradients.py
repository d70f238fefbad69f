"""Which numbers of an input does an output depend on?  By its gradient, by gradients along a path from a baseline, or by covering parts.

Everything here takes a function f from inputs (n, ...), a Tensor, to one number each, (n,): `class_logit(classifier, 7)`,
`discriminator_logit(gan)`, or for a prompt what `on_embeddings` returns.

Why integrate?  A saturated f has no gradient at x although x decides its value.  Along the straight line from a baseline to x, the chain rule
gives f(x) - f(baseline) = integral over a in [0, 1] of sum_i (x_i - baseline_i) df/dx_i(baseline + a (x - baseline)) da, so the terms of
that sum share out the whole difference among the inputs: completeness (Sundararajan et al. 2017, proposition 1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Tensor, grad, no_grad
from ..autograd.tracing import patch
from ..language.model import Prompt
from ..nn import evaluating
from .circuits import checked

Function = Callable[[Tensor], Any]


def saliency(f: Function, x: Any) -> np.ndarray:
    """df/dx of each input (Simonyan et al. 2014): x (n, ...) -> (n, ...)."""
    given = Tensor(np.asarray(x, np.float32), requires_grad=True)
    return grad(_checked(f(given), given).sum(), given).data


@dataclasses.dataclass(frozen=True)
class Attribution:
    """The share of f(x) - f(baseline) that each number of x accounts for."""

    values: np.ndarray  # (n, ...)
    x: np.ndarray
    baseline: np.ndarray
    f_x: np.ndarray  # (n,)
    f_baseline: np.ndarray  # (n,)

    @property
    def gap(self) -> np.ndarray:
        """Sum of each input's values minus (f(x) - f(baseline)), (n,): goes to 0 with more steps."""
        return self.values.reshape(len(self.values), -1).sum(1, dtype=np.float64) - (self.f_x - self.f_baseline)


def integrated_gradients(f: Function, x: Any, baseline: Any = 0.0, *, steps: int = 64, at_once: int = 32) -> Attribution:
    """(x - baseline) times the mean gradient along the straight line from baseline to x (Sundararajan et al. 2017, eq. 1).

    x (n, ...); baseline broadcasts to it.  The mean is taken at the midpoints of `steps` equal intervals, `at_once` of them per pass.
    """
    if steps < 1 or at_once < 1:
        raise ValueError(f"integrated_gradients: steps is {steps}, at_once {at_once}; each is at least 1")
    x = np.asarray(x, np.float32)
    try:
        baseline = np.ascontiguousarray(np.broadcast_to(np.asarray(baseline, np.float32), x.shape))
    except ValueError:
        raise ValueError(f"integrated_gradients: baseline has shape {np.shape(baseline)}; it must broadcast to x, {x.shape}") from None
    total = np.zeros(x.shape)
    midpoints = ((np.arange(steps) + 0.5) / steps).astype(np.float32)
    for part in np.split(midpoints, range(at_once, steps, at_once)):
        path = baseline + part.reshape(-1, *[1] * x.ndim) * (x - baseline)  # (points, n, ...)
        total += saliency(f, path.reshape(-1, *x.shape[1:])).reshape(path.shape).sum(0, dtype=np.float64)
    with no_grad():
        f_x, f_baseline = (_checked(f(Tensor(a)), a).data.astype(np.float64) for a in (x, baseline))
    return Attribution((x - baseline) * total / steps, x, baseline, f_x, f_baseline)


def occlusion(f: Function, x: Any, *, size: int = 5, fill: float = 0.0) -> np.ndarray:
    """How much f falls when a square centred on each pixel is covered (Zeiler & Fergus 2014).

    x (n, height, width[, channels]) -> (n, height, width)
    """
    x = np.asarray(x, np.float32)
    if x.ndim not in (3, 4):
        raise ValueError(f"occlusion: x has shape {x.shape}; it is (n, height, width) or (n, height, width, channels)")
    if not 1 <= size <= max(x.shape[1:3]):
        raise ValueError(f"occlusion: size is {size}; it may go from 1 to {max(x.shape[1:3])}")
    height, width = x.shape[1:3]
    drop = np.empty(x.shape[:3])
    with no_grad():
        uncovered = _checked(f(Tensor(x)), x).data
        for i in range(height):
            covered = np.repeat(x[None], width, 0)  # a row of positions per pass: (width, n, ...)
            top, bottom = max(0, i - size // 2), i - size // 2 + size
            for j in range(width):
                covered[j, :, top:bottom, max(0, j - size // 2) : j - size // 2 + size] = fill
            drop[:, i] = uncovered[:, None] - f(Tensor(covered.reshape(-1, *x.shape[1:]))).data.reshape(width, -1).T
    return drop


def _checked(y: Any, x: Any) -> Tensor:
    if y.shape != (len(x),):
        raise ValueError(f"f returned shape {y.shape} for {len(x)} inputs; it returns one number each, ({len(x)},)")
    return y


# --- functions to explain


def class_logit(classifier: Any, label: int) -> Function:
    """x (n, height, width) in [0, 1] -> the logit of one label."""
    if not 0 <= label < classifier.config.classes:
        raise ValueError(f"label is {label}; it may go from 0 to {classifier.config.classes - 1}")

    def f(x: Tensor) -> Any:
        with evaluating(classifier):
            return classifier(x)[:, label]

    return f


def discriminator_logit(gan: Any, digit: Any = None) -> Function:
    """x (n, height, width) in [0, 1], or points -> the discriminator's logit of "real".  digit: for a conditional GAN, as in `sample`."""
    if gan.config.packing > 1:
        raise ValueError(f"packing is {gan.config.packing}: this discriminator judges that many samples together, none by itself")

    def f(x: Tensor) -> Any:
        if digit is None and gan.config.clusters:
            labels = gan.cluster_of(np.asarray(x.data))
        else:
            labels = gan.labels_for(np.resize(digit, len(x)) if np.ndim(digit) else digit, len(x))
        with evaluating(gan.discriminator):
            return gan.discriminator(2 * x.reshape((len(x), *gan.shape)) - 1 if gan.pictures else x, labels)[:, 0]

    return f


def on_embeddings(model: Any, prompt: Prompt, token: int, *, against: int | None = None) -> tuple[Function, np.ndarray]:
    """f and x for a prompt: f maps embeddings (n, time, width) to the logit of `token` after them, x (1, time, width) are the prompt's embeddings.

    against: f is the difference from this token's logit.
    """
    ids = checked(model, prompt)
    model.check_ids(np.array([token] if against is None else [token, against]), "token")

    def f(x: Tensor) -> Any:
        with patch(model, {"embedding.embedding": lambda _: x}):
            logits = model(np.repeat(ids[None], len(x), 0))[:, -1]
        return logits[:, token] if against is None else logits[:, token] - logits[:, against]

    return f, model.embedding.weight.data[ids][None]
