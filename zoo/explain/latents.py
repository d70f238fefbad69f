"""Where an autoencoder puts pictures, and what lies there: codes, the plane in which they differ most, pictures along its directions.

`VAE.traverse` and `VAE.interpolate` draw a single line each; here are whole maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..autograd import no_grad


class Plane(NamedTuple):
    """z = centre + across axes[0] + up axes[1], and what the plane doesn't show."""

    points: np.ndarray  # (n, 2) the codes in it
    centre: np.ndarray  # (latent,)
    axes: np.ndarray  # (2, latent)


def codes(model: Any, images: Any, labels: Any = None) -> np.ndarray:
    """The codes of pictures, (n, latent); of a variational autoencoder the means of q(z1|x).  labels are for a conditional one."""
    with no_grad():
        found = model.encode(np.asarray(images, np.float32), *([labels] if getattr(model.config, "classes", 0) else []))
    return np.asarray(found[0] if isinstance(found, tuple) else found, np.float32)


def plane(z: np.ndarray) -> Plane:
    """The plane in which codes (n, latent) differ most; with two latent numbers it's all there is, with its own axes."""
    if z.ndim != 2 or z.shape[1] < 2 or len(z) < 2:
        raise ValueError(f"plane: codes have shape {z.shape}; they are (n, latent), each at least 2")
    if z.shape[1] == 2:
        return Plane(z, np.zeros(2, np.float32), np.eye(2, dtype=np.float32))
    centre = z.mean(0)
    axes = np.linalg.svd(z - centre, full_matrices=False)[2][:2]
    return Plane((z - centre) @ axes.T, centre, axes)


def sheet(model: Any, there: Plane, n: int = 12, label: int | None = None) -> np.ndarray:
    """Pictures from all over the plane, (n, n, height, width), the first row on top: at the quantiles of a Gaussian as wide as the points.

    So every stretch of it has its share of the codes (Kingma & Welling 2014, figure 4).
    """
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(n) + 0.5) / n)
    middle, spread = there.points.mean(0), there.points.std(0)
    across, up = np.meshgrid(middle[0] + spread[0] * quantiles, (middle[1] + spread[1] * quantiles)[::-1])
    z = there.centre + np.stack([across, up], -1).reshape(-1, 2) @ there.axes
    with no_grad():
        pictures = model.decode(z.astype(np.float32), *([np.full(n * n, label)] if label is not None else []))
    return np.asarray(pictures).reshape(n, n, *model.config.image)


def latent_use(model: Any, images: Any, labels: Any = None) -> np.ndarray:
    """How many nats each latent number of a VAE tells of a picture: the mean KL term by itself, (latent,); about 0 where it's unused."""
    with no_grad():
        mean, log_variance = model.encode(np.asarray(images, np.float32), *([labels] if model.config.classes else []))
    mean, log_variance = np.asarray(mean, np.float64), np.asarray(log_variance, np.float64)
    return 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).mean(0)


def traversals(model: Any, z: np.ndarray, dimensions: Sequence[int], values: np.ndarray = np.linspace(-3, 3, 9),
               label: int | None = None) -> np.ndarray:
    """One code with each of these numbers changed in turn: z (latent,) -> (dimensions, values, height, width)."""
    labels = None if label is None else np.full(len(values), label)
    return np.stack([model.traverse(z, dimension, values, labels) for dimension in dimensions])
