"""What went wrong in a GAN's training, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..autograd.random import generator
from ..evaluation.distances import density_and_coverage

if TYPE_CHECKING:
    from ..gan import GAN

Rows = list[dict[str, float]]


def diagnose(model: GAN, real: np.ndarray, *, seed: int = 0, history: Rows | None = None, n: int = 500) -> list[str]:
    """What is wrong, a sentence each; an empty list if nothing is.

    real: samples of the data, at least 100; history: rows of the trainer's log, whose last tenth is compared with its first.
    """
    if len(real) < 100:
        raise ValueError(f"diagnose: there are {len(real)} real samples; at least 100 are needed")
    n = min(n, len(real) // 2)
    chosen = real[generator(seed).permutation(len(real))[: 2 * n]]
    samples = model.sample(n, seed=seed)
    if not np.isfinite(samples).all():
        return ["The generator's samples aren't finite: training has diverged; lower the rates."]
    real_a, real_b, fake = (model.to_network_range(x).reshape(n, -1) for x in (chosen[:n], chosen[n:], samples))
    return _collapse(real_a, real_b, fake) + (_lost_balance(history) if history else [])


def _collapse(real_a: np.ndarray, real_b: np.ndarray, fake: np.ndarray) -> list[str]:
    """Of samples (n, d) that are nearly one, or that cover much less of one half of the real ones than the other half does."""
    spread, spread_real = (float(np.linalg.norm(x - x.mean(0), axis=1).mean()) for x in (fake, real_a))
    if spread < 0.1 * spread_real:
        return [f"Collapse: the samples are nearly one and the same (they spread {spread:.3g} about their mean, real ones {spread_real:.3g})."]
    coverage, floor = (density_and_coverage(real_a, x)[1] for x in (fake, real_b))
    if coverage < 0.3 * floor:
        return [f"Collapse: the samples cover {coverage:.0%} of the real ones' neighbourhoods, where other real ones cover {floor:.0%}; "
                "packing, spectral norm or a gradient penalty help."]
    return []


def _lost_balance(history: Rows) -> list[str]:
    """Of a discriminator that is always right and gives no gradient any more, or that says the same of everything."""
    tenth = max(1, len(history) // 10)
    early, late = history[:tenth], history[-tenth:]
    accuracy = float(np.mean([row["accuracy"] if "accuracy" in row else row["told_apart"] for row in late]))  # its name until 0.1
    gradient, gradient_at_first = (float(np.mean([row["sample_norm"] for row in rows])) for rows in (late, early))
    findings = []
    if accuracy > 0.995 and gradient < 0.01 * gradient_at_first:
        findings.append(f"The discriminator has won: it is right about {accuracy:.1%}, and the gradient that reaches the samples has shrunk "
                        f"to {gradient / gradient_at_first:.1%} of what it was; the generator learns nothing more.")
    if all(abs(row["real"] - row["fake"]) < 1e-3 for row in late) and gradient < 1e-6:
        findings.append("The discriminator is dead: it says the same of real and fake samples, and no gradient reaches the generator.")
    return findings
