"""Losses and log-likelihoods.  What is summed and what is averaged is said in each formula."""

from __future__ import annotations

import builtins
import math

import numpy as np

from ..operation import fused
from .activation import log_softmax, sigmoid, softplus
from .arithmetic import exp, mean, sum, where
from .shaping import expand_dims, squeeze, take_along_axis

REDUCTIONS = ("mean", "sum", "none")


def reduce(x, reduction):
    return mean(x) if reduction == "mean" else sum(x) if reduction == "sum" else x


@fused
def cross_entropy(logits, targets, *, ignore_index=None, reduction="mean"):
    """y = -ln softmax(logits)[target], averaged over the targets: logits (..., classes), targets (...) integers

    ignore_index: a target that doesn't count (padding), neither in the sum nor in the number averaged over
    """
    counted = None if ignore_index is None else np.not_equal(targets, ignore_index)
    safe = targets if counted is None else where(counted, targets, 0)
    losses = -squeeze(take_along_axis(log_softmax(logits), expand_dims(safe, -1), axis=-1), -1)
    if counted is None:
        return reduce(losses, reduction)
    losses = where(counted, losses, 0.0)
    return sum(losses) / builtins.max(int(np.sum(counted)), 1) if reduction == "mean" else reduce(losses, reduction)


@fused
def binary_cross_entropy_with_logits(logits, targets, *, reduction="mean"):
    """y = -t ln s(l) - (1 - t) ln(1 - s(l)) = softplus(l) - t l, with s the sigmoid; averaged"""
    return reduce(softplus(logits) - logits * targets, reduction)


@fused
def mse(prediction, target, *, reduction="mean"):
    """y = (prediction - target)^2, averaged"""
    difference = prediction - target
    return reduce(difference * difference, reduction)


@fused
def bernoulli_log_likelihood(x, logits):
    """ln p(x) = sum over the last axis of x l - softplus(l): x in [0, 1], p = sigmoid(l)"""
    return sum(x * logits - softplus(logits), axis=-1)


@fused
def gaussian_log_likelihood(x, mean, log_variance):
    """ln N(x; mean, variance) = -1/2 sum over the last axis of ln 2 pi + ln variance + (x - mean)^2 / variance"""
    difference = x - mean
    return -0.5 * sum(math.log(2 * math.pi) + log_variance + difference * difference * exp(-log_variance), axis=-1)


@fused
def gaussian_kl(mean, log_variance, prior_mean=None, prior_log_variance=None):
    """KL(N(mean, variance) || N(prior_mean, prior_variance)), summed over the last axis; the prior is N(0, 1) unless given

    = 1/2 sum of prior_log_variance - log_variance + (variance + (mean - prior_mean)^2) / prior_variance - 1 (Kingma & Welling 2014, appendix B)
    """
    difference = mean if prior_mean is None else mean - prior_mean
    terms = exp(log_variance) + difference * difference
    if prior_log_variance is None:
        return 0.5 * sum(terms - log_variance - 1, axis=-1)
    return 0.5 * sum(prior_log_variance - log_variance + terms * exp(-prior_log_variance) - 1, axis=-1)


@fused
def bernoulli_kl(logits, prior_logits):
    """KL(Bernoulli(s(logits)) || Bernoulli(s(prior_logits))), summed over the last axis"""
    p = sigmoid(logits)
    return sum(p * (logits - prior_logits) - softplus(logits) + softplus(prior_logits), axis=-1)


@cross_entropy.check
def _(logits, targets, *, ignore_index, reduction):
    _check_reduction("cross_entropy", reduction)
    if np.asarray(targets).dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: targets have dtype {np.asarray(targets).dtype}; they are integers")
    if logits.shape[:-1] != targets.shape:
        raise ValueError(f"cross_entropy: logits have shape {logits.shape}, so targets have {logits.shape[:-1]}; theirs is {targets.shape}")
    if targets.size == 0:
        raise ValueError(f"cross_entropy: targets have shape {targets.shape}, which holds none")
    counted = targets if ignore_index is None else targets[targets != ignore_index]
    if counted.size and not (0 <= counted.min() and counted.max() < logits.shape[-1]):
        classes, low, high = logits.shape[-1], counted.min(), counted.max()
        raise IndexError(f"cross_entropy: targets go from {low} to {high}; with {classes} classes they may go from 0 to {classes - 1}")


def _check_pair(name):
    def check(a, b, *, reduction="mean"):
        _check_reduction(name, reduction)
        if np.shape(a) != np.shape(b):
            raise ValueError(f"{name}: arguments have shapes {np.shape(a)} and {np.shape(b)}; they must be the same")
        if np.size(a) == 0:
            raise ValueError(f"{name}: arguments have shape {np.shape(a)}, which holds nothing")

    return check


def _check_reduction(name, reduction):
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: reduction is {reduction!r}; it may be 'mean', 'sum' or 'none'")


binary_cross_entropy_with_logits.check(_check_pair("binary_cross_entropy_with_logits"))
mse.check(_check_pair("mse"))
