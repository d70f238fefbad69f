"""Where an autoencoder places pictures: codes, the plane of their first two principal components, and pictures decoded from that plane.

`VAE.traverse` and `VAE.interpolate` follow one line each; these functions cover a whole plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..autograd import no_grad


class Plane(NamedTuple):
    """The plane z = centre + across axes[0] + up axes[1] of the latent space."""

    points: np.ndarray  # (n, 2) the codes projected onto it, as (across, up)
    centre: np.ndarray  # (latent,)
    axes: np.ndarray  # (2, latent)


def codes(model: Any, images: Any, labels: Any = None) -> np.ndarray:
    """The codes of pictures, (n, latent); for a variational autoencoder the means of q(z1|x).  labels: for a conditional one."""
    with no_grad():
        code = model.encode(np.asarray(images, np.float32), *([labels] if getattr(model.config, "classes", 0) else []))
    return np.asarray(code[0] if isinstance(code, tuple) else code, np.float32)


def plane(z: np.ndarray) -> Plane:
    """The plane of the first two principal components of codes (n, latent); with two latent numbers, the latent space itself.

    The singular value decomposition of the centred codes has the principal components as its right singular vectors.
    """
    if z.ndim != 2 or z.shape[1] < 2 or len(z) < 2:
        raise ValueError(f"plane: codes have shape {z.shape}; they are (n, latent), each at least 2")
    if z.shape[1] == 2:
        return Plane(z, np.zeros(2, np.float32), np.eye(2, dtype=np.float32))
    centre = z.mean(0)
    axes = np.linalg.svd(z - centre, full_matrices=False)[2][:2]
    return Plane((z - centre) @ axes.T, centre, axes)


def sheet(model: Any, there: Plane, n: int = 12, label: int | None = None) -> np.ndarray:
    """Pictures decoded from a grid over the plane, (n, n, height, width), the first row on top (Kingma & Welling 2014, figure 4).

    The grid lies at the quantiles of a Gaussian with the points' mean and standard deviation, so it is dense where codes are.
    """
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(n) + 0.5) / n)
    mean, deviation = there.points.mean(0), there.points.std(0)
    across, up = np.meshgrid(mean[0] + deviation[0] * quantiles, (mean[1] + deviation[1] * quantiles)[::-1])
    z = there.centre + np.stack([across, up], -1).reshape(-1, 2) @ there.axes
    with no_grad():
        pictures = model.decode(z.astype(np.float32), *([np.full(n * n, label)] if label is not None else []))
    return np.asarray(pictures).reshape(n, n, *model.config.image)


def latent_use(model: Any, images: Any, labels: Any = None) -> np.ndarray:
    """How many nats of information each latent number of a VAE carries about a picture, (latent,): its term of the KL divergence.

    0.5 (mean^2 + variance - 1 - log variance), averaged over the pictures (Kingma & Welling 2014, appendix B); about 0 where unused.
    """
    with no_grad():
        mean, log_variance = model.encode(np.asarray(images, np.float32), *([labels] if model.config.classes else []))
    mean, log_variance = np.asarray(mean, np.float64), np.asarray(log_variance, np.float64)
    return 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).mean(0)


def traversals(model: Any, z: np.ndarray, dimensions: Sequence[int], values: np.ndarray = np.linspace(-3, 3, 9),
               label: int | None = None) -> np.ndarray:
    """Pictures of one code with each of these dimensions varied in turn: z (latent,) -> (dimensions, values, height, width)."""
    labels = None if label is None else np.full(len(values), label)
    return np.stack([model.traverse(z, dimension, values, labels) for dimension in dimensions])
