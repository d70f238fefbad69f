"""Norms and dropout.  Images and text alike have their features on the last axis."""

from __future__ import annotations

import numpy as np

from ..operation import attachable, fused
from ..random import uniform
from . import checks
from .arithmetic import detach, mean, sqrt, var
from .linear import activate


@fused(floats="x gain bias")
def layer_norm(x, gain=None, bias=None, *, eps=1e-5):
    """y = gain (x - mean) / sqrt(var + eps) + bias over the last axis (Ba et al. 2016, eq. 4)

    x (..., n), gain and bias (n,) or None -> (..., n).  Raises ValueError for other shapes, or an eps that isn't positive.

    >>> layer_norm([[1.0, 3.0], [0.0, 8.0]])
    array([[-0.999995  ,  0.999995  ],
           [-0.99999976,  0.99999976]], dtype=float32)
    """
    centred = x - mean(x, axis=-1, keepdims=True)
    return _scaled(centred / sqrt(mean(centred * centred, axis=-1, keepdims=True) + eps), gain, bias)


@fused(floats="x gain")
def rms_norm(x, gain=None, *, eps=1e-5):
    """y = gain x / sqrt(mean x^2 + eps) over the last axis (Zhang & Sennrich 2019)

    x (..., n), gain (n,) or None -> (..., n).

    >>> rms_norm([3.0, 4.0])
    array([0.8485278, 1.1313704], dtype=float32)
    """
    return _scaled(x / sqrt(mean(x * x, axis=-1, keepdims=True) + eps), gain, None)


def _scaled(normal, gain, bias):
    """gain normal + bias; either may be None."""
    y = normal if gain is None else gain * normal
    return y if bias is None else y + bias


@fused(floats="x gain bias")
def batch_norm(x, gain=None, bias=None, *, eps=1e-5, activation=None, moments=None):
    """y = gain (x - mean) / sqrt(var + eps) + bias over all axes but the last (Ioffe & Szegedy 2015): x (batch, ..., channels)

    activation: None, "relu" or "leaky_relu" (slope 0.2), which comes next in a convolutional network
    moments: x's mean and variance from `batch_statistics`, where they are known already, so that a kernel needn't take them again

    >>> batch_norm([[1.0, 0.0], [3.0, 8.0]])
    array([[-0.999995  , -0.99999976],
           [ 0.999995  ,  0.99999976]], dtype=float32)
    """
    axes = tuple(range(x.ndim - 1))
    average = mean(x, axis=axes, keepdims=True)
    centred = x - (average if moments is None else _with_value(average, moments[0]))
    variance = mean(centred * centred, axis=axes, keepdims=True)
    variance = variance if moments is None else _with_value(variance, moments[1])
    return activate(_scaled(centred / sqrt(variance + eps), gain, bias), activation)


def _with_value(x, value):
    """x with that value and the gradient that it has."""
    return x - detach(x) + np.asarray(value, x.dtype)


@fused(floats="x gain bias")
def group_norm(x, gain=None, bias=None, *, groups, eps=1e-5, activation=None):
    """Each image and each of `groups` groups of channels has mean 0 and variance 1 (Wu & He 2018): x (batch, ..., channels)

    activation: None or "silu", which a residual block applies next

    >>> group_norm([[1.0, 3.0, 0.0, 8.0]], groups=2)
    array([[-0.999995  ,  0.999995  , -0.99999976,  0.99999976]],
          dtype=float32)
    """
    n, *space, c = x.shape
    grouped = x.reshape((n, -1, groups, c // groups))
    centred = grouped - mean(grouped, axis=(1, 3), keepdims=True)
    normal = centred / sqrt(var(grouped, axis=(1, 3), keepdims=True) + eps)
    return activate(_scaled(normal.reshape((n, *space, c)), gain, bias), activation)


@fused(floats="x")
def dropout(x, *, p, seed):
    """y = x / (1 - p) with probability 1 - p, else 0 (Srivastava et al. 2014)

    The mask is a function of the seed and the entry's position alone, so a step can be replayed.
    seed: any integer from 0 to 2**63 - 1; draw a new one for each call.

    >>> dropout(np.ones(8, np.float32), p=0.5, seed=0)
    array([2., 0., 2., 0., 2., 0., 2., 2.], dtype=float32)
    """
    keep = uniform(seed, x.shape) >= p
    return x * (keep.astype(x.dtype) / (1 - p))


def _check_features(name: str, x, eps, **features) -> None:
    if x.size == 0 or x.ndim == 0:
        raise ValueError(f"{name}: x has shape {x.shape}; it has at least one entry and features on its last axis")
    for argument, a in features.items():
        if a is not None and a.shape != x.shape[-1:]:
            raise ValueError(f"{name}: {argument} has shape {a.shape}; x has {x.shape[-1]} features (shape {x.shape})")
    checks.number(f"{name}: eps", eps, 0)


@layer_norm.check
def _(x, gain, bias, *, eps):
    _check_features("layer_norm", x, eps, gain=gain, bias=bias)


@rms_norm.check
def _(x, gain, *, eps):
    _check_features("rms_norm", x, eps, gain=gain)


batch_norm.settings_by_name_only = True  # the fourth argument of PyTorch's is the running variance, ours would be eps


@batch_norm.check
def _(x, gain, bias, *, eps, activation, moments):
    _check_features("batch_norm", x, eps, gain=gain, bias=bias)
    checks.one_of("batch_norm: activation", activation, (None, "relu", "leaky_relu"))
    if moments is not None and [np.shape(a) for a in moments] != 2 * [x.shape[-1:]]:
        shapes = ", ".join(str(np.shape(a)) for a in moments)
        raise ValueError(f"batch_norm: moments have shapes {shapes}; they are a mean and a variance, each {x.shape[-1:]}")


@group_norm.check
def _(x, gain, bias, *, groups, eps, activation):
    _check_features("group_norm", x, eps, gain=gain, bias=bias)
    if x.ndim < 2:
        raise ValueError(f"group_norm: x has shape {x.shape}; it is (batch, ..., channels)")
    if checks.integer("group_norm: groups", groups) < 1 or x.shape[-1] % groups:
        raise ValueError(f"group_norm: groups is {groups}; it must divide the {x.shape[-1]} channels of x")
    checks.one_of("group_norm: activation", activation, (None, "silu"))


@dropout.check
def _(x, *, p, seed):
    if not 0 <= checks.number("dropout: p", p) < 1:
        raise ValueError(f"dropout: p is {p}; it may go from 0 up to but not including 1")
    if not 0 <= checks.integer("dropout: seed", seed) < 2**63:
        raise ValueError(f"dropout: seed is {seed}; it may go from 0 to 2**63 - 1")


@attachable
def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over all axes but the last: what batch_norm uses, for the running averages of its layer."""
    shape = checks.array("batch_statistics: x", x).shape
    if not isinstance(x, np.ndarray) or x.ndim == 0 or x.size == 0:
        raise ValueError(f"batch_statistics: x is {checks.shown(x)} of shape {shape}; it is an array (..., channels) that holds something")
    flat = x.reshape(-1, x.shape[-1])
    return flat.mean(0), flat.var(0)
