"""How good a diffusion model is: its error at every noise level, and the judge's figures for its samples.

`model` is a `zoo.diffusion.Diffusion`; its methods of the same names are these functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...autograd import no_grad
from ...autograd.random import generator
from ...evaluation.judge import judged
from ...model import check_count
from ...training import by_parts

if TYPE_CHECKING:
    from ...data.images import Images


def error_by_t(model, x, labels=None, *, at=None, seed: int = 0) -> dict[str, np.ndarray]:
    """The loss, and the mean squared errors of the x_0 and the noise predicted, for each t in `at`: where does the network see?"""
    at = np.asarray(np.linspace(max(model.path.t_min, 0.05), 1, 20) if at is None else at, np.float64)
    x_0 = model.to_network_range(x)
    rng = generator(seed)
    rows = []
    with no_grad():
        for t in at:
            noise = model.draw_source(len(x_0), rng)
            x_t = model.noised(x_0, noise, t)
            predict = lambda part, x_t=x_t, t=t: model.predict_at(x_t[part], t, None if labels is None else labels[part])
            prediction = np.concatenate(by_parts(predict, len(x_0), 256))
            x_0_predicted, noise_predicted = model.x_0_and_noise(prediction, x_t, t)
            pairs = (prediction, model.target(x_0, noise, t)), (x_0_predicted, x_0), (noise_predicted, noise)
            rows.append([np.mean((a - b) ** 2) for a, b in pairs])
    return {"t": at, **dict(zip(("loss", "x_0", "noise"), np.array(rows).T))}


def evaluate(model, data: Images | str, *, seed: int = 0, n: int = 10_000, likelihoods: int = 0, judge: str | Path | None = None,
             **settings) -> dict[str, Any]:
    """The judge's figures for n samples, each with its floor, and bits per dimension of some test pictures; of toys, their own figures.

    judge: a classifier by name or folder, in place of the one that ships.  settings are those of `steps`.
    """
    if likelihoods and not model.pictures:
        raise ValueError(f"likelihoods: is {likelihoods}; bits per dimension are of models of pictures, not of points or latents")
    if likelihoods:
        check_count(likelihoods, "likelihoods")
    draw = lambda: model.sample(n, seed=seed, **settings)
    figures = judged(draw, data, n=n, image=model.sample_shape, classes=model.config.classes, judge=judge, seed=seed)
    if likelihoods and not isinstance(data, str):
        chosen = generator(seed).permutation(len(data.test))[:likelihoods]
        labels = data.test_labels[chosen] if model.config.classes and data.test_labels is not None else None
        figures["bits_per_dimension"] = float(model.bits_per_dimension(data.test[chosen], labels, seed=seed).mean())
    return figures
