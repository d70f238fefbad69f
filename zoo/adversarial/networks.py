"""Generators and discriminators, dense and convolutional (DCGAN: Radford et al. 2016)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.random import Generator as Rng

from .. import autograd as ops
from ..nn import BatchNorm, Conv2d, ConvTranspose2d, Embedding, GroupNorm, Linear, Module

if TYPE_CHECKING:
    from ..gan import GANConfig


class Stage(NamedTuple):
    """One layer, as the network runs it and as its steps show it."""

    name: str
    formula: str
    run: Callable


class Generator(Module):
    """z (n, latent + classes) -> (n, height, width, colours) in (-1, 1), or points (n, dimensions).

    Convolutional: a dense layer to a quarter of the size, and two transposed convolutions that double it (Radford et al. 2016).
    """

    def __init__(self, config: GANConfig, shape: tuple[int, ...], *, rng: Rng):
        c, batch = config, config.generator_norm == "batch"
        self.convolutional = c.network == "convolutional"
        inputs = c.latent + c.labels

        def scale(fan: int, usual: float) -> float:
            """Under batch norms weights have deviation 0.02 (Radford et al. 2016, section 4): only directions count, small ones turn faster."""
            return 0.02 * math.sqrt(fan) if batch else usual

        if self.convolutional:
            self.small = (shape[0] // 4, shape[1] // 4, 4 * c.channels)
            self.into = Linear(inputs, math.prod(self.small), rng=rng, bias=not batch, scale=scale(inputs, 1.0))
            self.grow = [ConvTranspose2d(4 * c.channels, 2 * c.channels, 4, stride=2, padding=1, rng=rng, bias=not batch,
                                         scale=scale(4 * 4 * c.channels, 1.0))]
            self.out: Callable = ConvTranspose2d(2 * c.channels, shape[2], 4, stride=2, padding=1, rng=rng, scale=scale(4 * 2 * c.channels, 1.0))
            widths = [4 * c.channels, 2 * c.channels]
        else:
            self.layers = [Linear(i, o, rng=rng, bias=not batch, scale=scale(i, math.sqrt(2))) for i, o in zip([inputs, *c.hidden], c.hidden)]
            self.out = Linear(c.hidden[-1], math.prod(shape), rng=rng, scale=scale(c.hidden[-1], 1.0))
            widths = list(c.hidden)
        self.norms = [BatchNorm(w, activation="relu") if batch else None for w in widths]
        self.shape, self.pictures = shape, len(shape) > 1

    def stages(self) -> list[Stage]:
        """The layers in order."""
        if self.convolutional:
            layers: list[Any] = [lambda z: self.into(z).reshape((len(z), *self.small)), *self.grow]
            found = [Stage(f"layer {i}", _FORMULA["first" if i == 0 else "grow", norm is not None], self._layer(layer, norm))
                     for i, (layer, norm) in enumerate(zip(layers, self.norms))]
        else:
            found = [Stage(f"layer {i}", _FORMULA["first", norm is not None], self._layer(layer, norm))
                     for i, (layer, norm) in enumerate(zip(self.layers, self.norms))]
        if self.pictures:
            found.append(Stage("picture", "x = tanh(W h + b)", lambda h: ops.tanh(self.out(h)).reshape((len(h), *self.shape))))
        else:
            found.append(Stage("points", "x = W h + b", self.out))
        return found

    @staticmethod
    def _layer(layer: Callable, norm: BatchNorm | None) -> Callable:
        return (lambda h: ops.relu(layer(h))) if norm is None else (lambda h: norm(layer(h)))

    def __call__(self, z):
        for stage in self.stages():
            z = stage.run(z)
        return z


_FORMULA = {
    ("first", True): "h = max(0, batch norm(W z))", ("first", False): "h = max(0, W z + b)",
    ("grow", True): "h = max(0, batch norm(transposed convolution of h))", ("grow", False): "h = max(0, transposed convolution of h, + b)",
}


class Spectral(Module):
    """A layer whose weight, as a matrix (inputs, outputs), is divided by its greatest singular value (Miyato et al. 2018, algorithm 1).

    u follows the left singular vector by one step of power iteration a call in training; u and v count as constants.
    """

    layer: Linear | Conv2d
    u: np.ndarray

    def __init__(self, layer: Linear | Conv2d, *, rng: Rng):
        self.layer = layer
        matrix = layer.weight.data.reshape(-1, layer.weight.shape[-1])
        self.u = _unit(rng.standard_normal(matrix.shape[0]).astype(np.float32))
        for _ in range(10):
            self.u[...] = _unit(matrix @ _unit(matrix.T @ self.u))

    def weight(self):
        w = self.layer.weight
        matrix = w.data.reshape(-1, w.shape[-1])
        v = _unit(matrix.T @ self.u)
        if self.training:
            self.u[...] = _unit(matrix @ v)
        sigma = (w.reshape(matrix.shape) * (self.u[:, None] * v)).sum()  # u^T W v
        return w / sigma

    def __call__(self, x):
        if isinstance(self.layer, Linear):
            return ops.linear(x, self.weight(), self.layer.bias)
        return ops.conv2d(x, self.weight(), self.layer.bias, stride=self.layer.stride, padding=self.layer.padding)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.float32(np.linalg.norm(v) + 1e-12)


class Discriminator(Module):
    """x (n, *shape), labels (n,) -> logits of "real", (n / packing, 1).

    Convolutional: two convolutions that halve the picture, and a dense layer (Radford et al. 2016).  Labels enter as planes beside the
    picture, or as the product of an embedding with the last features (Miyato & Koyama 2018, eq. 3).  Dense: each coordinate x may come
    with sin(f x) / f and cos(f x) / f, without which a network is slow to see what is sharp in a low dimension (Tancik et al. 2020).
    """

    def __init__(self, config: GANConfig, shape: tuple[int, ...], *, rng: Rng):
        c, kind = config, config.discriminator_norm
        self.packing, self.shape, self.classes = c.packing, shape, c.labels
        self.planes = c.labels if c.conditioning == "concatenation" else 0
        self.convolutional = c.network == "convolutional"
        entries = shape[-1] if self.convolutional else math.prod(shape)
        self.frequencies = np.array(c.frequencies, np.float32)
        entries = entries * c.packing * (1 + 2 * len(c.frequencies)) + self.planes

        def made(layer: Linear | Conv2d) -> Callable:
            return Spectral(layer, rng=rng) if kind == "spectral" else layer

        if self.convolutional:
            a, b = 2 * c.channels, 4 * c.channels
            self.layers = [made(Conv2d(entries, a, 4, stride=2, padding=1, rng=rng, scale=math.sqrt(2))),
                           made(Conv2d(a, b, 4, stride=2, padding=1, rng=rng, bias=kind != "batch", scale=math.sqrt(2)))]
            widths, features = [a, b], b * (shape[0] // 4) * (shape[1] // 4)
        else:
            widths = list(c.discriminator_hidden)
            self.layers = [made(Linear(i, o, rng=rng, bias=kind != "batch" or not j, scale=math.sqrt(2)))
                           for j, (i, o) in enumerate(zip([entries, *widths], widths))]
            features = widths[-1]
        self.norms = [None if j == 0 else BatchNorm(w, activation="leaky_relu") if kind == "batch" else GroupNorm(1, w) if kind == "layer" else None
                      for j, w in enumerate(widths)]  # none on the first, as Radford et al.
        self.out = made(Linear(features, 1, rng=rng))
        self.labels = Embedding(c.labels, widths[-1], rng=rng) if c.labels and not self.planes else None

    def __call__(self, x, labels=None):
        x = self._packed(x)
        if len(self.frequencies):
            angles = x.reshape((*x.shape, 1)) * self.frequencies
            waves = [(wave(angles) / self.frequencies).reshape((len(x), -1)) for wave in (ops.sin, ops.cos)]  # of slopes up to 1
            x = ops.concatenate([x, *waves], axis=1)
        if self.planes:
            one_hot = np.eye(self.classes, dtype=np.float32)[labels].reshape((len(x),) + (1,) * (x.ndim - 2) + (-1,))
            x = ops.concatenate([x, np.broadcast_to(one_hot, (*x.shape[:-1], self.classes))], axis=-1)
        for layer, norm in zip(self.layers, self.norms):
            x = layer(x) if norm is None else norm(layer(x))
            x = x if isinstance(norm, BatchNorm) else ops.leaky_relu(x, slope=0.2)  # which a batch norm does by itself
        verdict = self.out(x.reshape((len(x), -1)))
        if self.labels is None:
            return verdict
        h = x.reshape((len(x), -1, x.shape[-1])).sum(axis=1)  # (n, width), summed over the picture
        return verdict + (h * self.labels(labels)).sum(axis=1, keepdims=True)

    def _packed(self, x):
        """`packing` samples as one, side by side along the last axis."""
        n, m = len(x), self.packing
        if not self.convolutional:
            return x.reshape((n // m, -1))
        if m == 1:
            return x.reshape((n, *self.shape))
        x = ops.transpose(x.reshape((n // m, m, *self.shape)), axes=(0, 2, 3, 1, 4))
        return x.reshape((n // m, *self.shape[:2], m * self.shape[2]))
