"""Latents as data: a diffusion model over the codes of a variational autoencoder (Rombach et al. 2022, sections 3.1 and 3.3).

    picture  --q(z|x)-->  mean of z  -->  (mean - mean of all) / deviation of all      which is x_0
    picture  <--p(x|z)--  z          <--  all that the other way round
"""

from __future__ import annotations

import hashlib

import numpy as np

from ..autograd import no_grad
from ..loading import cards
from ..model import check_images
from ..nn import Module
from ..training import minibatches


class Latents(Module):
    """The way in and out through the VAE of that name, which ships or is a folder.  It's not a part of the model that is saved."""

    mean: np.ndarray  # (latent,) of the training pictures' codes
    deviation: np.ndarray

    def __init__(self, name: str):
        from ..vae import VAE

        try:
            vae = cards.load(name)
        except FileNotFoundError:
            ships = [other for other in cards.shipped() if other.startswith("vae")]
            raise FileNotFoundError(f"autoencoder: is {name!r}, which is neither a folder nor a VAE that ships ({', '.join(ships) or 'none'}); "
                                    "without it there's no way from latents to pictures") from None
        if not isinstance(vae, VAE):
            raise ValueError(f"autoencoder: {name!r} is of kind {vae.kind!r}; it must be a VAE")
        if vae.config.classes:
            raise ValueError(f"autoencoder: {name!r} is conditional on {vae.config.classes} classes; its codes are only half of a picture, "
                             "so it must be one without")
        self._vae, self.name = vae, name
        self.image: tuple[int, ...] = vae.config.image
        self.shape = (vae.config.latent[0],)
        self.mean, self.deviation = np.zeros(self.shape, np.float32), np.ones(self.shape, np.float32)

    def measure(self, images) -> None:
        """Take mean and deviation from these pictures."""
        z = self._codes(images)
        self.mean[...] = z.mean(0)
        self.deviation[...] = np.maximum(z.std(0), 0.1)  # a number that the VAE doesn't use hardly moves, and is to stay so

    def inside(self, images) -> np.ndarray:
        """Pictures (n, *image) in [0, 1] -> x_0 (n, latent)."""
        return (self._codes(images) - self.mean) / self.deviation

    def outside(self, x_0: np.ndarray) -> np.ndarray:
        """x_0 (n, latent) -> pictures."""
        with no_grad():
            return np.asarray(self._vae.decode(self.mean + self.deviation * x_0))

    def digest(self) -> str:
        """What tells this VAE's weights from others."""
        found = hashlib.sha256()
        for name, a in sorted(self._vae.arrays().items()):
            found.update(name.encode() + np.ascontiguousarray(a).tobytes())
        return found.hexdigest()[:16]

    def _codes(self, images) -> np.ndarray:
        images = check_images(images, self.image)
        with no_grad():
            return np.concatenate([np.asarray(self._vae.encode(images[part])[0].data) for part in minibatches(len(images), 1000)])
