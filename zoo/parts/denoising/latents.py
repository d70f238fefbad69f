"""Latents as data: a diffusion model over the codes of an autoencoder (Rombach et al. 2022, sections 3.1 and 3.3).

    picture  --q(z|x)-->  mean of z  -->  (mean of z - average) / standard deviation  =  x_0
    picture  <--p(x|z)--  z          <--  average + standard deviation x_0           <-- x_0

with average and standard deviation over the training pictures, for each number of the code.  A VQ-VAE's z_e is a small picture of such
numbers, and its codebook a part of the way back: what the flow makes is rounded to the nearest rows before it is decoded (section 3.1, "VQ-reg").
"""

from __future__ import annotations

import hashlib

import numpy as np

from ...autograd import no_grad
from ...model import check_images
from ...nn import Module
from ...training import minibatches


class Latents(Module):
    """From pictures to x_0 and back by a VAE without labels, which is not part of the model that is saved; `name` says which it is."""

    mean: np.ndarray  # (latent,) of the training pictures' codes
    deviation: np.ndarray  # (latent,) their standard deviation

    def __init__(self, vae, name: str):
        if vae.config.classes:
            raise ValueError(f"autoencoder: {name!r} is conditional on {vae.config.classes} classes; its codes are only half of a picture, "
                             "so it must be one without")
        self._vae, self.name = vae, name
        self.image: tuple[int, ...] = vae.config.image
        self.shape = (vae.config.latent[0],)
        self.mean, self.deviation = np.zeros(self.shape, np.float32), np.ones(self.shape, np.float32)

    def measure(self, images) -> None:
        """Take mean and standard deviation from these pictures."""
        z = self._codes(images)
        self.mean[...] = z.mean(0)
        self.deviation[...] = np.maximum(z.std(0), 0.1)  # a number that the VAE doesn't use hardly varies, and isn't blown up to unit size

    def encode(self, images) -> np.ndarray:
        """Pictures (n, *image) in [0, 1] -> x_0 (n, latent)."""
        return (self._codes(images) - self.mean) / self.deviation

    def decode(self, x_0: np.ndarray) -> np.ndarray:
        """x_0 (n, latent) -> pictures (n, *image) in [0, 1]."""
        with no_grad():
            return np.asarray(self._vae.decode(self.mean + self.deviation * x_0))

    def digest(self) -> str:
        """Tells this VAE's weights from others."""
        return digest_of(self._vae)

    def _codes(self, images) -> np.ndarray:
        images = check_images(images, self.image)
        with no_grad():
            return np.concatenate([np.asarray(self._vae.encode(images[part])[0].data) for part in minibatches(len(images), 1000)])


class GridLatents(Latents):
    """The same by a VQ-VAE: x_0 is z_e, (rows, columns, width), with average and standard deviation for each of the `width` numbers."""

    mean: np.ndarray  # (width,)
    deviation: np.ndarray  # (width,)

    def __init__(self, vqvae, name: str):
        self._vae, self.name = vqvae, name
        self.image = vqvae.config.image
        self.shape = (*vqvae.grid, vqvae.config.width)
        self.mean, self.deviation = np.zeros(self.shape[-1:], np.float32), np.ones(self.shape[-1:], np.float32)

    def measure(self, images) -> None:
        z = self._codes(images).reshape(-1, self.shape[-1])
        self.mean[...] = z.mean(0)
        self.deviation[...] = np.maximum(z.std(0), 1e-3)

    def decode(self, x_0: np.ndarray) -> np.ndarray:
        """x_0 (n, rows, columns, width) -> pictures (n, *image) in [0, 1], by way of the codebook."""
        return self._vae.decode(self._vae.quantise(self.mean + self.deviation * np.asarray(x_0, np.float32)))

    def _codes(self, images) -> np.ndarray:
        images = check_images(images, self.image)
        with no_grad():
            return np.concatenate([np.asarray(self._vae.features(images[part])) for part in minibatches(len(images), 500)])


def digest_of(model: Module) -> str:
    """Tells a model's weights from others."""
    sha = hashlib.sha256()
    for name, a in sorted(model.arrays().items()):
        sha.update(name.encode() + np.ascontiguousarray(a).tobytes())
    return sha.hexdigest()[:16]
