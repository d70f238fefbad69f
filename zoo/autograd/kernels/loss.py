"""Kernels of the losses and log-likelihoods: one pass over the rows forward, one backward, nothing of the inputs' size between.

A loss over all entries takes them in rows of CHUNK, the last one shorter; the rows' sums are added up in float64. So the result
doesn't depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np

from ..operations.loss import (
    bernoulli_log_likelihood,
    binary_cross_entropy_with_logits,
    cross_entropy,
    gaussian_kl,
    gaussian_log_likelihood,
    mse,
)
from ..runtime.compiling import expf, inner, logf
from ..runtime.tasks import CHUNK, floats, integers, is_float32, minus_in_order, part, task, tasks_for
from .activation import greatest, log1p_of_exponential

f32 = np.float32
HALF_LOG_2PI = f32(0.5 * math.log(2 * math.pi))


def _rows_of(*arrays):
    """(entries, row length, rows) if all are float32 of one shape with entries, else None."""
    if not is_float32(*arrays) or any(a.shape != arrays[0].shape for a in arrays) or arrays[0].ndim == 0:
        return None
    x = arrays[0]
    return x.size, x.shape[-1], x.size // x.shape[-1]


def _likelihood(operation, forward, backward):
    """Attach the kernels of a sum over the last axis: forward fills one number a row, backward the gradients of the arguments."""

    @operation.forward
    def _(*arrays):
        given = [a for a in arrays if a is not None]
        rows = _rows_of(*given) if len(given) == forward.reads - 3 else None
        if rows is None:
            return NotImplemented
        y = np.empty(given[0].shape[:-1], f32)
        forward(*given, y, rows[0], rows[1], tasks=tasks_for(rows[0]))
        return y, ()

    @operation.backward
    def _(g, _y, _saved, *arrays, needs):
        given = [a for a in arrays if a is not None]
        grads = [np.empty(a.shape, f32) if need else None for a, need in zip(given, needs)]
        backward(g, *given, *grads, given[0].size, given[0].shape[-1], tasks=tasks_for(given[0].size))
        return (*grads, *[None] * (len(arrays) - len(given)))


# --- ln p(x) of independent bits


@inner
def _bernoulli_row(x, logits):
    total = f32(0)
    for j in range(x.size):
        v = logits[j]
        total += x[j] * v - max(f32(0), v) - log1p_of_exponential(expf(-abs(v)))
    return total


@task
def bernoulli_forward(t, tasks, x, logits, y, entries, n):
    """y[i] = the sum over row i of x l - softplus(l)"""
    rows = (entries + n - 1) // n
    sums = floats(y, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        width = min(n, entries - i * n)
        sums[i] = _bernoulli_row(floats(x + 4 * i * n, width), floats(logits + 4 * i * n, width))


@inner
def _bernoulli_row_backward(g, x, logits, dx, dlogits):
    for j in range(dx.size):
        dx[j] = g * logits[j]
    for j in range(dlogits.size):
        dlogits[j] = g * (x[j] - f32(1) / (f32(1) + expf(-logits[j])))


@task
def bernoulli_backward(t, tasks, g, x, logits, dx, dlogits, entries, n):
    """dx = g l, dl = g (x - sigmoid(l)); an address of 0: not wanted"""
    rows = (entries + n - 1) // n
    factors = floats(g, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        width, at = min(n, entries - i * n), 4 * i * n
        to_x, to_logits = floats(dx + at, width if dx else 0), floats(dlogits + at, width if dlogits else 0)
        _bernoulli_row_backward(factors[i], floats(x + at, width), floats(logits + at, width), to_x, to_logits)


_likelihood(bernoulli_log_likelihood, bernoulli_forward, bernoulli_backward)


@binary_cross_entropy_with_logits.forward
def _(logits, targets, *, reduction):
    if reduction == "none" or not is_float32(logits, targets):
        return NotImplemented
    sums = np.empty(-(-logits.size // CHUNK), f32)
    bernoulli_forward(targets, logits, sums, logits.size, CHUNK, tasks=tasks_for(logits.size))
    return _reduced(-sums.sum(dtype=np.float64), logits.size, reduction), ()


@binary_cross_entropy_with_logits.backward
def _(g, _y, _saved, logits, targets, *, needs, reduction):
    dlogits, dtargets = (np.empty(logits.shape, f32) if need else None for need in needs)
    factors = _factors(-float(g), logits.size, reduction)
    bernoulli_backward(factors, targets, logits, dtargets, dlogits, logits.size, CHUNK, tasks=tasks_for(logits.size))
    return dlogits, dtargets


def _reduced(total: float, entries: int, reduction: str) -> np.ndarray:
    return np.asarray(total / entries if reduction == "mean" else total, f32)


def _factors(g: float, entries: int, reduction: str) -> np.ndarray:
    """The gradient of every row's sum."""
    return np.full(-(-entries // CHUNK), g / entries if reduction == "mean" else g, f32)


# --- squared differences


@inner
def _squared_row(a, b):
    total = f32(0)
    for j in range(a.size):
        total += (a[j] - b[j]) * (a[j] - b[j])
    return total


@task
def squared_forward(t, tasks, a, b, y, entries, n):
    """y[i] = the sum over row i of (a - b)^2"""
    rows = (entries + n - 1) // n
    sums = floats(y, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        width = min(n, entries - i * n)
        sums[i] = _squared_row(floats(a + 4 * i * n, width), floats(b + 4 * i * n, width))


@task
def scaled_difference(t, tasks, a, b, y, entries, factor: float):
    """y = factor (a - b)"""
    first = part(t, tasks, entries, 16)
    count, scale = part(t + 1, tasks, entries, 16) - first, f32(factor)
    u, v, d = floats(a + 4 * first, count), floats(b + 4 * first, count), floats(y + 4 * first, count)
    for j in range(count):
        d[j] = scale * (u[j] - v[j])


@mse.forward
def _(prediction, target, *, reduction):
    if reduction == "none" or not is_float32(prediction, target):
        return NotImplemented
    sums = np.empty(-(-prediction.size // CHUNK), f32)
    squared_forward(prediction, target, sums, prediction.size, CHUNK, tasks=tasks_for(prediction.size))
    return _reduced(sums.sum(dtype=np.float64), prediction.size, reduction), ()


@mse.backward
def _(g, _y, _saved, prediction, target, *, needs, reduction):
    n = prediction.size
    factor = 2 * float(g) / (n if reduction == "mean" else 1)
    grads: list = [None, None]
    for i, (need, sign) in enumerate(zip(needs, (1, -1))):
        if need:
            grads[i] = np.empty(prediction.shape, f32)
            scaled_difference(prediction, target, grads[i], n, sign * factor, tasks=tasks_for(n))
    return grads


# --- Gaussians


@inner
def _kl_row(mean, log_variance):
    total = f32(0)
    for j in range(mean.size):
        v = log_variance[j]
        total += expf(v) + mean[j] * mean[j] - v - f32(1)
    return f32(0.5) * total


@task
def kl_forward(t, tasks, mean, log_variance, y, entries, n):
    """y[i] = 1/2 the sum over row i of variance + mean^2 - ln variance - 1"""
    rows = entries // n
    sums = floats(y, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        sums[i] = _kl_row(floats(mean + 4 * i * n, n), floats(log_variance + 4 * i * n, n))


@inner
def _kl_row_backward(g, mean, log_variance, dmean, dlog_variance):
    for j in range(dmean.size):
        dmean[j] = g * mean[j]
    for j in range(dlog_variance.size):
        dlog_variance[j] = f32(0.5) * g * (expf(log_variance[j]) - f32(1))


@task
def kl_backward(t, tasks, g, mean, log_variance, dmean, dlog_variance, entries, n):
    """dmean = g mean, dln variance = g (variance - 1) / 2; an address of 0: not wanted"""
    rows = entries // n
    factors = floats(g, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        at = 4 * i * n
        to_mean, to_variance = floats(dmean + at, n if dmean else 0), floats(dlog_variance + at, n if dlog_variance else 0)
        _kl_row_backward(factors[i], floats(mean + at, n), floats(log_variance + at, n), to_mean, to_variance)


_likelihood(gaussian_kl, kl_forward, kl_backward)


@inner
def _gaussian_row(x, mean, log_variance):
    total = f32(0)
    for j in range(x.size):
        d = x[j] - mean[j]
        total -= HALF_LOG_2PI + f32(0.5) * (log_variance[j] + d * d * expf(-log_variance[j]))
    return total


@task
def gaussian_forward(t, tasks, x, mean, log_variance, y, entries, n):
    """y[i] = -1/2 the sum over row i of ln 2 pi + ln variance + (x - mean)^2 / variance"""
    rows = entries // n
    sums = floats(y, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        at = 4 * i * n
        sums[i] = _gaussian_row(floats(x + at, n), floats(mean + at, n), floats(log_variance + at, n))


@inner
def _gaussian_row_backward(g, x, mean, log_variance, dx, dmean, dlog_variance):
    for j in range(dx.size):
        dx[j] = g * (mean[j] - x[j]) * expf(-log_variance[j])
    for j in range(dmean.size):
        dmean[j] = g * (x[j] - mean[j]) * expf(-log_variance[j])
    for j in range(dlog_variance.size):
        d = x[j] - mean[j]
        dlog_variance[j] = f32(0.5) * g * (d * d * expf(-log_variance[j]) - f32(1))


@task
def gaussian_backward(t, tasks, g, x, mean, log_variance, dx, dmean, dlog_variance, entries, n):
    """dmean = -dx = g (x - mean) / variance, dln variance = g ((x - mean)^2 / variance - 1) / 2; an address of 0: not wanted"""
    rows = entries // n
    factors = floats(g, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        at = 4 * i * n
        a, b, c = floats(x + at, n), floats(mean + at, n), floats(log_variance + at, n)
        to_x, to_mean = floats(dx + at, n if dx else 0), floats(dmean + at, n if dmean else 0)
        _gaussian_row_backward(factors[i], a, b, c, to_x, to_mean, floats(dlog_variance + at, n if dlog_variance else 0))


_likelihood(gaussian_log_likelihood, gaussian_forward, gaussian_backward)


# --- cross entropy


@inner
def _sum_of_exponentials(x, top):
    total = f32(0)
    for j in range(x.size):
        total += expf(x[j] - top)
    return total


@task
def cross_entropy_forward(t, tasks, logits, targets, losses, tops, log_sums, rows, n, ignored):
    """losses[i] = top + ln sum e^(logits - top) - logits[target], 0 for the ignored target

    The greatest logit and the logarithm are kept apart: beside a logit of 1e9 their sum would lose the logarithm.
    """
    target, loss, kept_top, kept_sum = integers(targets, rows), floats(losses, rows), floats(tops, rows), floats(log_sums, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        row = floats(logits + 4 * i * n, n)
        top = greatest(row)
        kept_top[i], kept_sum[i] = top, logf(_sum_of_exponentials(row, top))
        loss[i] = f32(0) if target[i] == ignored else -minus_in_order(row[target[i]], top, kept_sum[i])


@inner
def _softmax_times(g, x, top, log_sum, dx):
    for j in range(x.size):
        dx[j] = g * expf(minus_in_order(x[j], top, log_sum))


@task
def cross_entropy_backward(t, tasks, g, every_row, logits, targets, tops, log_sums, dlogits, rows, n, ignored):
    """dlogits = g (softmax - the target's 1); g holds one number for each row, or one for all."""
    target, kept_top, kept_sum = integers(targets, rows), floats(tops, rows), floats(log_sums, rows)
    factor = floats(g, rows if every_row else 1)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        own = f32(0) if target[i] == ignored else factor[i if every_row else 0]
        row = floats(dlogits + 4 * i * n, n)
        _softmax_times(own, floats(logits + 4 * i * n, n), kept_top[i], kept_sum[i], row)
        if target[i] != ignored:
            row[target[i]] -= own


NO_TARGET = -(2**63)


@cross_entropy.forward
def _(logits, targets, *, ignore_index, reduction):
    if not is_float32(logits):
        return NotImplemented
    n = logits.shape[-1]
    rows = logits.size // n
    targets = np.asarray(targets, np.int64, order="C")
    losses, kept = np.empty(targets.shape, f32), np.empty((2, rows), f32)
    ignored = NO_TARGET if ignore_index is None else ignore_index
    cross_entropy_forward(logits, targets, losses, kept[0], kept[1], rows, n, ignored, tasks=tasks_for(logits.size))
    counted = rows if ignore_index is None else max(int(np.sum(targets != ignored)), 1)
    y = losses if reduction == "none" else _reduced(losses.sum(dtype=np.float64), counted, reduction)
    return y, (targets, kept, counted)


@cross_entropy.backward
def _(g, _y, saved, logits, _targets, *, needs, ignore_index, reduction):
    targets, kept, counted = saved
    n = logits.shape[-1]
    dlogits = np.empty(logits.shape, f32)
    factor = np.asarray(g / counted if reduction == "mean" else g, f32)
    ignored = NO_TARGET if ignore_index is None else ignore_index
    cross_entropy_backward(
        factor, reduction == "none", logits, targets, kept[0], kept[1], dlogits, logits.size // n, n, ignored, tasks=tasks_for(logits.size)
    )
    return dlogits, None
