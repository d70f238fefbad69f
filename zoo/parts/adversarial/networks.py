"""Generators and discriminators, dense and convolutional (DCGAN: Radford et al. 2016).

Either is built for samples of a `shape`: (height, width, colours) of pictures, or (dimensions,) of points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator as Rng

from ... import autograd as ops
from ...nn import BatchNorm, Conv2d, ConvTranspose2d, Embedding, GroupNorm, Linear, Module


class Stage(NamedTuple):
    """One layer, as the network runs it and as its steps show it."""

    name: str  # the layer's path in the generator, or what the network gives out: "picture", "points"
    formula: str
    run: Callable


class Generator(Module):
    """z with one-hot labels beside it (n, inputs) -> pictures (n, height, width, colours) in (-1, 1), or points (n, dimensions).

    convolutional: a dense layer to a quarter of the size with 4 * channels, and two transposed convolutions that double it (Radford et al.
    2016, figure 1).  dense: layers of the widths `hidden`.
    """

    formerly = {"into": "project", "grow": "upsample", "out": "output"}

    def __init__(self, inputs: int, shape: tuple[int, ...], *, network: str, channels: int, hidden: Sequence[int], norm: str, rng: Rng):
        batch_norm = norm == "batch"
        self.convolutional = network == "convolutional"

        def scale(fan_in: int, usual: float) -> float:
            """Under batch norms weights have standard deviation 0.02 (Radford et al. 2016, section 4).

            A norm undoes their length, so only their direction counts, which steps of a given length turn faster where they are short.
            """
            return 0.02 * math.sqrt(fan_in) if batch_norm else usual

        if self.convolutional:
            widths = [4 * channels, 2 * channels]
            self.small = (shape[0] // 4, shape[1] // 4, widths[0])
            self.project = Linear(inputs, math.prod(self.small), rng=rng, bias=not batch_norm, scale=scale(inputs, 1.0))
            self.upsample = [ConvTranspose2d(widths[0], widths[1], 4, stride=2, padding=1, rng=rng, bias=not batch_norm,
                                         scale=scale(4 * widths[0], 1.0))]
            self.output: Callable = ConvTranspose2d(widths[1], shape[2], 4, stride=2, padding=1, rng=rng, scale=scale(4 * widths[1], 1.0))
        else:
            widths = list(hidden)
            self.layers = [Linear(i, o, rng=rng, bias=not batch_norm, scale=scale(i, math.sqrt(2)))
                           for i, o in zip([inputs, *widths], widths)]
            self.output = Linear(widths[-1], math.prod(shape), rng=rng, scale=scale(widths[-1], 1.0))
        self.norms = [BatchNorm(width, activation="relu") if batch_norm else None for width in widths]
        self.shape, self.pictures = shape, len(shape) > 1

    def __call__(self, z):
        for stage in self.stages():
            z = stage.run(z)
        return z

    def stages(self) -> list[Stage]:
        """The layers in order."""
        layers: Sequence[Callable] = [self._first_maps, *self.upsample] if self.convolutional else self.layers
        names = ["project", *(f"upsample.{i}" for i in range(len(layers)))] if self.convolutional else [f"layers.{i}" for i in range(len(layers))]
        stages = [Stage(name, _FORMULAS[self.convolutional and i > 0, norm is not None], _activated(layer, norm))
                  for i, (name, layer, norm) in enumerate(zip(names, layers, self.norms))]
        last = Stage("picture", "x = tanh(W h + b)", self._picture) if self.pictures else Stage("points", "x = W h + b", self.output)
        return [*stages, last]

    def _first_maps(self, z):
        return self.project(z).reshape((len(z), *self.small))

    def _picture(self, h):
        return ops.tanh(self.output(h)).reshape((len(h), *self.shape))


_FORMULAS = {  # (is a transposed convolution, has a batch norm)
    (False, True): "h = max(0, batch norm(W z))", (False, False): "h = max(0, W z + b)",
    (True, True): "h = max(0, batch norm(transposed convolution of h))", (True, False): "h = max(0, transposed convolution of h, + b)",
}


def _activated(layer: Callable, norm: BatchNorm | None) -> Callable:
    return (lambda h: ops.relu(layer(h))) if norm is None else (lambda h: norm(layer(h)))  # the batch norm has its relu in it


class Spectral(Module):
    """A layer whose weight, as a matrix (inputs, outputs), is divided by its greatest singular value (Miyato et al. 2018, algorithm 1).

    |W h| is at most sigma(W) |h|, so a dense layer divided by sigma(W) stretches no difference between two inputs, nor does leaky ReLU:
    therefore the whole network's slope is at most 1 (section 2.1, eq. 6 and 7).  Of a convolution this matrix is the paper's stand-in
    for the larger one that takes a whole picture.
    u follows the left singular vector by one step of power iteration a call in training; u and v count as constants in the gradient.
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

    convolutional: two convolutions that halve the picture, of 2 and 4 times `channels`, and a dense layer (Radford et al. 2016).
    dense: layers of the widths `hidden`.  frequencies: each coordinate x comes with sin(f x) / f and cos(f x) / f too, without which a
    dense network is slow to see what is sharp in few dimensions (Tancik et al. 2020).

    conditioning: labels, of which there are `classes`, enter by "concatenation", as planes beside the picture, or by "projection".
    The best logit is ln p(x, y) - ln q(x, y) = [ln p(y|x) - ln q(y|x)] + [ln p(x) - ln q(x)] (Miyato & Koyama 2018, eq. 2).  If p(y|x)
    and q(y|x) are softmaxes of features h(x), then, but for a function of x alone, the first bracket is the product of h with a vector
    for each label: so projection adds an embedding of the label times h to a logit that doesn't know the label (eq. 3).

    packing: this many samples are judged as one (Lin et al. 2018).  A generator that never draws a share e of the data differs from it by
    a total variation of as little as e; but of packs of m, a share 1 - (1 - e)^m holds something that the generator never draws, so for
    packs the distance is at least that, nearly m times as much (section 3).
    """

    formerly = {"labels": "label_embedding", "out": "output"}

    def __init__(self, shape: tuple[int, ...], *, network: str, channels: int, hidden: Sequence[int], norm: str, rng: Rng, classes: int = 0,
                 conditioning: str = "projection", frequencies: Sequence[float] = (), packing: int = 1):
        self.packing, self.shape, self.classes = packing, shape, classes
        self.planes = classes if conditioning == "concatenation" else 0
        self.convolutional = network == "convolutional"
        self.frequencies = np.array(frequencies, np.float32)
        inputs = shape[-1] if self.convolutional else math.prod(shape)
        inputs = inputs * packing * (1 + 2 * len(frequencies)) + self.planes

        def normalised(layer: Linear | Conv2d) -> Callable:
            return Spectral(layer, rng=rng) if norm == "spectral" else layer

        bias = norm != "batch"  # a batch norm takes the mean out and has a bias itself
        if self.convolutional:
            widths = [2 * channels, 4 * channels]
            self.layers = [normalised(Conv2d(inputs, widths[0], 4, stride=2, padding=1, rng=rng, scale=math.sqrt(2))),
                           normalised(Conv2d(widths[0], widths[1], 4, stride=2, padding=1, rng=rng, bias=bias, scale=math.sqrt(2)))]
            features = widths[1] * (shape[0] // 4) * (shape[1] // 4)
        else:
            widths = list(hidden)
            self.layers = [normalised(Linear(i, o, rng=rng, bias=bias or not j, scale=math.sqrt(2)))
                           for j, (i, o) in enumerate(zip([inputs, *widths], widths))]
            features = widths[-1]
        self.norms = [_norm_after(norm, width) if j else None for j, width in enumerate(widths)]  # none on the first, as Radford et al.
        self.output = normalised(Linear(features, 1, rng=rng))
        self.label_embedding = Embedding(classes, widths[-1], rng=rng) if classes and not self.planes else None

    def __call__(self, x, labels=None):
        x = self._packed(x)
        if len(self.frequencies):
            x = self._with_waves(x)
        if self.planes:
            x = self._with_planes(x, labels)
        for layer, norm in zip(self.layers, self.norms):
            x = layer(x) if norm is None else norm(layer(x))
            x = x if isinstance(norm, BatchNorm) else ops.leaky_relu(x, slope=0.2)  # which the batch norm has in it
        logits = self.output(x.reshape((len(x), -1)))
        if self.label_embedding is None:
            return logits
        h = x.reshape((len(x), -1, x.shape[-1])).sum(axis=1)  # (n, width), summed over the picture
        return logits + (h * self.label_embedding(labels)).sum(axis=1, keepdims=True)

    def _packed(self, x):
        """`packing` samples as one, side by side along the last axis."""
        n, m = len(x), self.packing
        if not self.convolutional:
            return x.reshape((n // m, -1))
        if m == 1:
            return x.reshape((n, *self.shape))
        x = ops.transpose(x.reshape((n // m, m, *self.shape)), axes=(0, 2, 3, 1, 4))
        return x.reshape((n // m, *self.shape[:2], m * self.shape[2]))

    def _with_waves(self, x):
        angles = x.reshape((*x.shape, 1)) * self.frequencies  # (n, coordinates, frequencies)
        waves = [(wave(angles) / self.frequencies).reshape((len(x), -1)) for wave in (ops.sin, ops.cos)]  # of slopes up to 1
        return ops.concatenate([x, *waves], axis=1)

    def _with_planes(self, x, labels):
        one_hot = np.eye(self.classes, dtype=np.float32)[labels].reshape((len(x),) + (1,) * (x.ndim - 2) + (-1,))
        return ops.concatenate([x, np.broadcast_to(one_hot, (*x.shape[:-1], self.classes))], axis=-1)


def _norm_after(norm: str, width: int) -> Any:
    if norm == "batch":
        return BatchNorm(width, activation="leaky_relu")
    return GroupNorm(1, width) if norm == "layer" else None
