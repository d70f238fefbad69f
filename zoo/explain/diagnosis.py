"""What went wrong in a GAN's training, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..evaluation import density_and_coverage

if TYPE_CHECKING:
    from ..gan import GAN


def diagnose(model: GAN, real: np.ndarray, *, seed: int = 0, history: list[dict[str, float]] | None = None, n: int = 500) -> list[str]:
    """What is wrong, in plain words; an empty list if nothing is.

    real: samples of the data, at least 100; history: rows of the trainer's log, of which the last tenth is looked at.
    """
    if len(real) < 100:
        raise ValueError(f"diagnose: there are {len(real)} real samples; at least 100 are needed")
    n = min(n, len(real) // 2)
    rng = np.random.default_rng(seed)
    chosen = real[rng.permutation(len(real))[: 2 * n]]
    a, b = (model.inside(part).reshape(n, -1) for part in (chosen[:n], chosen[n:]))
    samples = model.sample(n, seed=seed)
    if not np.isfinite(samples).all():
        return ["The generator's samples aren't finite: training has diverged; lower the rates."]
    fake = model.inside(samples).reshape(n, -1)
    words = []
    _, coverage = density_and_coverage(a, fake)
    _, floor = density_and_coverage(a, b)
    spread, spread_real = (float(np.linalg.norm(s - s.mean(0), axis=1).mean()) for s in (fake, a))
    if spread < 0.1 * spread_real:
        words.append(f"Collapse: the samples are nearly one and the same (they spread {spread:.3g} about their mean, "
                     f"real ones {spread_real:.3g}).")
    elif coverage < 0.3 * floor:
        words.append(f"Collapse: the samples cover {coverage:.0%} of the real ones' neighbourhoods, where other real ones cover "
                     f"{floor:.0%}; packing, spectral norm or a gradient penalty help.")
    rows = (history or [])[-max(1, len(history or []) // 10):]
    if rows:
        told, push = (float(np.mean([row[name] for row in rows])) for name in ("told_apart", "sample_norm"))
        first = float(np.mean([row["sample_norm"] for row in (history or [])[: max(1, len(history or []) // 10)]]))
        if told > 0.995 and push < 0.01 * first:
            words.append(f"The discriminator has won: it tells {told:.1%} apart, and the gradient that reaches the samples has shrunk "
                         f"to {push / first:.1%} of what it was; the generator learns nothing more.")
        if all(abs(row["real"] - row["fake"]) < 1e-3 for row in rows) and push < 1e-6:
            words.append("The discriminator is dead: it says the same of real and fake samples, and no gradient reaches the generator.")
    return words
