"""Losses and log-likelihoods.  What is summed and what is averaged is said in each formula."""

from __future__ import annotations

import builtins
import math

import numpy as np

from ..operation import fused
from . import checks
from .activation import log_softmax, sigmoid, softplus
from .arithmetic import broadcast_to, equal, exp, mean, sum, values_of, where
from .indexing import take_along_axis
from .shaping import expand_dims, squeeze

REDUCTIONS = ("mean", "sum", "none")


def reduce(x, reduction):
    return mean(x) if reduction == "mean" else sum(x) if reduction == "sum" else x


@fused(floats="logits weight")
def cross_entropy(logits, targets, weight=None, *, ignore_index=None, reduction="mean", label_smoothing=0.0):
    """y = -ln softmax(logits)[target], averaged over the targets: logits (..., classes), targets (...) integers

    weight: a factor for each class, (classes,); the average is then weighted by that of each target
    ignore_index: a target that doesn't count (padding), neither in the sum nor in the number averaged over
    label_smoothing: that share of a target goes to all classes alike (Szegedy et al. 2016, section 7)

    >>> cross_entropy([[0.0, 0.0], [0.0, 100.0]], [0, 1])
    array(0.3465736, dtype=float32)
    """
    targets = values_of(targets)
    counted = None if ignore_index is None else np.not_equal(targets, ignore_index)
    targets = targets if counted is None else np.where(counted, targets, 0)
    log_p = log_softmax(logits)
    losses = -_at(log_p, targets)
    factors = None if weight is None else _at(broadcast_to(weight, shape=logits.shape), targets)
    losses = losses if factors is None else losses * factors
    if label_smoothing:
        of_all_classes = -mean(log_p if weight is None else log_p * weight, axis=-1)
        losses = (1 - label_smoothing) * losses + label_smoothing * of_all_classes
    if counted is None and factors is None:
        return reduce(losses, reduction)
    if counted is not None:
        losses, factors = where(counted, losses, 0.0), None if factors is None else where(counted, factors, 0.0)
    if reduction != "mean":
        return reduce(losses, reduction)
    if factors is None:
        count = 0 if counted is None else int(np.count_nonzero(counted))
        return sum(losses) / builtins.max(count, 1)
    total = sum(factors)
    return sum(losses) / where(equal(total, 0), 1.0, total)  # nothing counts: 0, not NaN


def _at(values, targets):
    """The entry of each row at its target."""
    return squeeze(take_along_axis(values, expand_dims(targets, -1), axis=-1), -1)


@fused(floats="logits targets")
def binary_cross_entropy_with_logits(logits, targets, *, reduction="mean"):
    """y = -t ln s(l) - (1 - t) ln(1 - s(l)) = softplus(l) - t l, with s the sigmoid; averaged

    logits and targets of one shape -> a number, or with reduction="none" that shape.

    >>> binary_cross_entropy_with_logits([0.0, 100.0], [1.0, 1.0])
    array(0.34657288, dtype=float32)
    """
    return reduce(softplus(logits) - logits * targets, reduction)


@fused(floats="prediction target")
def mse(prediction, target, *, reduction="mean"):
    """y = (prediction - target)^2, averaged

    prediction and target of one shape -> a number, or with reduction="none" that shape.

    >>> mse([1.0, 2.0], [1.0, 4.0])
    array(2., dtype=float32)
    """
    difference = prediction - target
    return reduce(difference * difference, reduction)


@fused(floats="x logits")
def bernoulli_log_likelihood(x, logits):
    """ln p(x) = sum over the last axis of x l - softplus(l): x in [0, 1], p = sigmoid(l)

    x and logits (..., n) -> (...).

    >>> bernoulli_log_likelihood([1.0, 0.0], [0.0, 0.0])
    array(-1.3862944, dtype=float32)
    """
    return sum(x * logits - softplus(logits), axis=-1)


@fused(floats="x mean log_variance")
def gaussian_log_likelihood(x, mean, log_variance):
    """ln N(x; mean, variance) = -1/2 sum over the last axis of ln 2 pi + ln variance + (x - mean)^2 / variance

    x, mean and log_variance (..., n) -> (...).

    >>> gaussian_log_likelihood([0.0], [0.0], [0.0])
    array(-0.9189385, dtype=float32)
    """
    difference = x - mean
    return -0.5 * sum(math.log(2 * math.pi) + log_variance + difference * difference * exp(-log_variance), axis=-1)


@fused(floats="mean log_variance prior_mean prior_log_variance")
def gaussian_kl(mean, log_variance, prior_mean=None, prior_log_variance=None):
    """KL(N(mean, variance) || N(prior_mean, prior_variance)), summed over the last axis; the prior is N(0, 1) unless given

    = 1/2 sum of prior_log_variance - log_variance + (variance + (mean - prior_mean)^2) / prior_variance - 1 (Kingma & Welling 2014, appendix B)

    >>> gaussian_kl([1.0, 0.0], [0.0, 0.0])
    array(0.5, dtype=float32)
    """
    difference = mean if prior_mean is None else mean - prior_mean
    terms = exp(log_variance) + difference * difference
    if prior_log_variance is None:
        return 0.5 * sum(terms - log_variance - 1, axis=-1)
    return 0.5 * sum(prior_log_variance - log_variance + terms * exp(-prior_log_variance) - 1, axis=-1)


@fused(floats="logits prior_logits")
def bernoulli_kl(logits, prior_logits):
    """KL(Bernoulli(s(logits)) || Bernoulli(s(prior_logits))), summed over the last axis

    logits and prior_logits (..., n) -> (...).

    >>> bernoulli_kl([1.0], [1.0])
    np.float32(0.0)
    """
    p = sigmoid(logits)
    return sum(p * (logits - prior_logits) - softplus(logits) + softplus(prior_logits), axis=-1)


@cross_entropy.check
def _(logits, targets, weight, *, ignore_index, reduction, label_smoothing):
    name = "cross_entropy"
    checks.one_of(f"{name}: reduction", reduction, REDUCTIONS)
    if checks.number(f"{name}: label_smoothing", label_smoothing, 0) > 1:
        raise ValueError(f"{name}: label_smoothing is {label_smoothing}; it goes from 0 to 1")
    if targets.dtype.kind not in "iu":
        raise TypeError(f"{name}: targets have dtype {targets.dtype}; they are integers")
    if logits.ndim == 0 or logits.shape[:-1] != targets.shape:
        raise ValueError(f"{name}: logits have shape {logits.shape}, so targets have {logits.shape[:-1]}; theirs is {targets.shape}")
    if targets.size == 0:
        raise ValueError(f"{name}: targets have shape {targets.shape}, which holds none")
    classes = logits.shape[-1]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"{name}: weight has shape {weight.shape}; it has a number for each of the {classes} classes")
    if ignore_index is not None:
        targets = targets[targets != checks.integer(f"{name}: ignore_index", ignore_index, -(2**63), 2**63 - 1)]
    checks.indices(f"{name}: targets", targets, classes, f"there are {classes} classes")


def _check_pair(operation):
    """The two arguments have the same shape, with something in it."""
    name = operation.__name__

    @operation.check
    def _(a, b, *, reduction):
        checks.one_of(f"{name}: reduction", reduction, REDUCTIONS)
        if a.shape != b.shape:
            raise ValueError(f"{name}: arguments have shapes {a.shape} and {b.shape}; they must be the same")
        if a.size == 0:
            raise ValueError(f"{name}: arguments have shape {a.shape}, which holds nothing")


_check_pair(binary_cross_entropy_with_logits)
_check_pair(mse)


def _check_last_axis(operation):
    """The arguments broadcast, to something with a last axis, over which the result is summed."""
    name = operation.__name__

    @operation.check
    def _(*arrays):
        if not checks.broadcast(name, **dict(zip(operation.arguments, arrays))):
            raise ValueError(f"{name}: arguments are single numbers; they have a last axis, which is summed")


_check_last_axis(bernoulli_log_likelihood)
_check_last_axis(gaussian_log_likelihood)
_check_last_axis(gaussian_kl)
_check_last_axis(bernoulli_kl)
