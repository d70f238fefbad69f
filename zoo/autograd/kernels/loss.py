"""Kernels of the losses and log-likelihoods: one pass over the rows forward, one backward, nothing of the inputs' size between.

Arguments are contiguous float32 of one shape, seen as rows of their last axis. A loss over all entries takes them in rows of
CHUNK_FLOATS instead, the last one shorter, and adds the rows' sums up in float64: so it doesn't depend on the number of threads.
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
from ..runtime.compiling import inner
from ..runtime.native import exp_falling, expf, floats, integers, logf, minus_in_order
from ..runtime.tasks import CHUNK_FLOATS, RUN_FLOATS, is_float32, part, row, span, task, tasks_for
from .activation import greatest, log1p_of_exponential

f32 = np.float32
HALF_LOG_2PI = f32(0.5 * math.log(2 * math.pi))


def _sizes(*arrays):
    """(entries, row length) if all are float32 of one shape, else None."""
    if not is_float32(*arrays) or any(a.shape != arrays[0].shape for a in arrays) or arrays[0].ndim == 0:
        return None
    return arrays[0].size, arrays[0].shape[-1]


def _attach_likelihood(operation, forward, backward):
    """Attach the kernels of a sum over the last axis: forward fills one number a row, backward the gradients of the arguments."""
    arguments = forward.reads - 3

    @operation.forward
    def _(*arrays):
        given = [a for a in arrays if a is not None]
        sizes = _sizes(*given) if len(given) == arguments else None
        if sizes is None:
            return NotImplemented
        y = np.empty(given[0].shape[:-1], f32)
        forward(*given, y, *sizes, tasks=tasks_for(given[0].size))
        return y, ()

    @operation.backward
    def _(g, _y, _saved, *arrays, needs):
        given = [a for a in arrays if a is not None]
        gradients = [np.empty(a.shape, f32) if need else None for a, need in zip(given, needs)]
        backward(g, *given, *gradients, given[0].size, given[0].shape[-1], tasks=tasks_for(given[0].size))
        return (*gradients, *[None] * (len(arrays) - len(given)))


@inner
def span_if_wanted(x, first, last):
    """Floats first to last - 1 at x; none where x is 0, the address of a gradient that isn't wanted."""
    return span(x, first, last if x else first)


# --- ln p(x) of independent bits, and binary cross entropy, which is -ln p


@inner
def bernoulli_row(x, logits):
    total = f32(0)
    for j in range(x.size):
        l = logits[j]
        total += x[j] * l - max(f32(0), l) - log1p_of_exponential(exp_falling(-abs(l)))
    return total


@task
def bernoulli_forward(t, tasks, x, logits, y, entries, n):
    """y[i] = sum_j x l - softplus(l) over row i of n entries; the last row may be shorter"""
    rows = (entries + n - 1) // n
    sums = floats(y, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        first, last = i * n, min((i + 1) * n, entries)
        sums[i] = bernoulli_row(span(x, first, last), span(logits, first, last))


@inner
def bernoulli_row_backward(g, x, logits, dx, dlogits):
    for j in range(dx.size):
        dx[j] = g * logits[j]
    for j in range(dlogits.size):
        dlogits[j] = g * (x[j] - f32(1) / (f32(1) + expf(-logits[j])))


@task
def bernoulli_backward(t, tasks, g, x, logits, dx, dlogits, entries, n):
    """dx = g l, dl = g (x - sigmoid(l)) with one g a row; dx and dl may be 0: not wanted"""
    rows = (entries + n - 1) // n
    factors = floats(g, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        first, last = i * n, min((i + 1) * n, entries)
        dx_row, dlogits_row = span_if_wanted(dx, first, last), span_if_wanted(dlogits, first, last)
        bernoulli_row_backward(factors[i], span(x, first, last), span(logits, first, last), dx_row, dlogits_row)


_attach_likelihood(bernoulli_log_likelihood, bernoulli_forward, bernoulli_backward)


@binary_cross_entropy_with_logits.forward
def _(logits, targets, *, reduction):
    if reduction == "none" or not is_float32(logits, targets):
        return NotImplemented
    sums = np.empty(-(-logits.size // CHUNK_FLOATS), f32)
    bernoulli_forward(targets, logits, sums, logits.size, CHUNK_FLOATS, tasks=tasks_for(logits.size))
    return _reduced(-sums.sum(dtype=np.float64), logits.size, reduction), ()


@binary_cross_entropy_with_logits.backward
def _(g, _y, _saved, logits, targets, *, needs, reduction):
    dlogits, dtargets = (np.empty(logits.shape, f32) if need else None for need in needs)
    factors = _factors(-float(g), logits.size, reduction)
    bernoulli_backward(factors, targets, logits, dtargets, dlogits, logits.size, CHUNK_FLOATS, tasks=tasks_for(logits.size))
    return dlogits, dtargets


def _reduced(total: float, entries: int, reduction: str) -> np.ndarray:
    return np.asarray(total / entries if reduction == "mean" else total, f32)


def _factors(g: float, entries: int, reduction: str) -> np.ndarray:
    """The gradient of every row's sum."""
    return np.full(-(-entries // CHUNK_FLOATS), g / entries if reduction == "mean" else g, f32)


# --- squared differences


@inner
def squared_difference(a, b):
    total = f32(0)
    for j in range(a.size):
        total += (a[j] - b[j]) * (a[j] - b[j])
    return total


@task
def squared_differences(t, tasks, a, b, y, entries, n):
    """y[i] = sum_j (a - b)^2 over row i of n entries; the last row may be shorter"""
    rows = (entries + n - 1) // n
    sums = floats(y, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        first, last = i * n, min((i + 1) * n, entries)
        sums[i] = squared_difference(span(a, first, last), span(b, first, last))


@task
def scaled_difference(t, tasks, a, b, y, entries, factor: float):
    """y = factor (a - b)"""
    first, last = part(t, tasks, entries, RUN_FLOATS), part(t + 1, tasks, entries, RUN_FLOATS)
    a_part, b_part, y_part, scale = span(a, first, last), span(b, first, last), span(y, first, last), f32(factor)
    for j in range(y_part.size):
        y_part[j] = scale * (a_part[j] - b_part[j])


@mse.forward
def _(prediction, target, *, reduction):
    if reduction == "none" or not is_float32(prediction, target):
        return NotImplemented
    sums = np.empty(-(-prediction.size // CHUNK_FLOATS), f32)
    squared_differences(prediction, target, sums, prediction.size, CHUNK_FLOATS, tasks=tasks_for(prediction.size))
    return _reduced(sums.sum(dtype=np.float64), prediction.size, reduction), ()


@mse.backward
def _(g, _y, _saved, prediction, target, *, needs, reduction):
    n = prediction.size
    factor = 2 * float(g) / (n if reduction == "mean" else 1)
    gradients: list = [None, None]
    for i, (need, sign) in enumerate(zip(needs, (1, -1))):
        if need:
            gradients[i] = np.empty(prediction.shape, f32)
            scaled_difference(prediction, target, gradients[i], n, sign * factor, tasks=tasks_for(n))
    return gradients


# --- Gaussians


@inner
def kl_row(mean, log_variance):
    total = f32(0)
    for j in range(mean.size):
        v = log_variance[j]
        total += expf(v) + mean[j] * mean[j] - v - f32(1)
    return f32(0.5) * total


@task
def kl_forward(t, tasks, mean, log_variance, y, entries, n):
    """y[i] = 1/2 sum_j variance + mean^2 - ln variance - 1 over row i; mean, log_variance (rows, n)"""
    rows = entries // n
    sums = floats(y, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        sums[i] = kl_row(row(mean, i, n), row(log_variance, i, n))


@inner
def kl_row_backward(g, mean, log_variance, dmean, dlog_variance):
    for j in range(dmean.size):
        dmean[j] = g * mean[j]
    for j in range(dlog_variance.size):
        dlog_variance[j] = f32(0.5) * g * (expf(log_variance[j]) - f32(1))


@task
def kl_backward(t, tasks, g, mean, log_variance, dmean, dlog_variance, entries, n):
    """dmean = g mean, dln variance = g (variance - 1) / 2 with one g a row; either may be 0: not wanted"""
    rows = entries // n
    factors = floats(g, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        first, last = i * n, (i + 1) * n
        dmean_row, dlog_variance_row = span_if_wanted(dmean, first, last), span_if_wanted(dlog_variance, first, last)
        kl_row_backward(factors[i], row(mean, i, n), row(log_variance, i, n), dmean_row, dlog_variance_row)


_attach_likelihood(gaussian_kl, kl_forward, kl_backward)


@inner
def gaussian_row(x, mean, log_variance):
    total = f32(0)
    for j in range(x.size):
        d = x[j] - mean[j]
        total -= HALF_LOG_2PI + f32(0.5) * (log_variance[j] + d * d * expf(-log_variance[j]))
    return total


@task
def gaussian_forward(t, tasks, x, mean, log_variance, y, entries, n):
    """y[i] = -1/2 sum_j ln 2 pi + ln variance + (x - mean)^2 / variance over row i; x, mean, log_variance (rows, n)"""
    rows = entries // n
    sums = floats(y, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        sums[i] = gaussian_row(row(x, i, n), row(mean, i, n), row(log_variance, i, n))


@inner
def gaussian_row_backward(g, x, mean, log_variance, dx, dmean, dlog_variance):
    for j in range(dx.size):
        dx[j] = g * (mean[j] - x[j]) * expf(-log_variance[j])
    for j in range(dmean.size):
        dmean[j] = g * (x[j] - mean[j]) * expf(-log_variance[j])
    for j in range(dlog_variance.size):
        d = x[j] - mean[j]
        dlog_variance[j] = f32(0.5) * g * (d * d * expf(-log_variance[j]) - f32(1))


@task
def gaussian_backward(t, tasks, g, x, mean, log_variance, dx, dmean, dlog_variance, entries, n):
    """dmean = -dx = g (x - mean) / variance, dln variance = g ((x - mean)^2 / variance - 1) / 2 with one g a row; 0: not wanted"""
    rows = entries // n
    factors = floats(g, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        first, last = i * n, (i + 1) * n
        gaussian_row_backward(
            factors[i], row(x, i, n), row(mean, i, n), row(log_variance, i, n),
            span_if_wanted(dx, first, last), span_if_wanted(dmean, first, last), span_if_wanted(dlog_variance, first, last),
        )  # fmt: skip


_attach_likelihood(gaussian_log_likelihood, gaussian_forward, gaussian_backward)


# --- cross entropy

NO_TARGET = -(2**63)  # what is ignored where nothing is


@inner
def sum_of_exponentials(x, top):
    total = f32(0)
    for j in range(x.size):
        total += exp_falling(x[j] - top)
    return total


@task
def cross_entropy_forward(t, tasks, logits, targets, losses, row_max, log_sum, rows, n, ignored):
    """losses[i] = max + ln sum e^(logits - max) - logits[target], or 0 for the ignored target: logits (rows, n), all others (rows,)

    The greatest logit and the logarithm are kept apart: beside a logit of 1e9 their sum would lose the logarithm.
    """
    target, loss, top, log_total = integers(targets, rows), floats(losses, rows), floats(row_max, rows), floats(log_sum, rows)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        x = row(logits, i, n)
        top[i] = greatest(x)
        log_total[i] = logf(sum_of_exponentials(x, top[i]))
        loss[i] = f32(0) if target[i] == ignored else -minus_in_order(x[target[i]], top[i], log_total[i])


@inner
def scaled_softmax(factor, x, top, log_total, y):
    for j in range(x.size):
        y[j] = factor * exp_falling(minus_in_order(x[j], top, log_total))


@task
def cross_entropy_backward(t, tasks, g, g_per_row: bool, logits, targets, row_max, log_sum, dlogits, rows, n, ignored):
    """dlogits = g (softmax - the target's 1), 0 for the ignored target; g holds one number for each row, or one for all."""
    target, top, log_total = integers(targets, rows), floats(row_max, rows), floats(log_sum, rows)
    factors = floats(g, rows if g_per_row else 1)
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        factor = f32(0) if target[i] == ignored else factors[i if g_per_row else 0]
        dlogits_row = row(dlogits, i, n)
        scaled_softmax(factor, row(logits, i, n), top[i], log_total[i], dlogits_row)
        if target[i] != ignored:
            dlogits_row[target[i]] -= factor


@cross_entropy.forward
def _(logits, targets, weight, *, ignore_index, reduction, label_smoothing):
    if not is_float32(logits) or weight is not None or label_smoothing:
        return NotImplemented
    n = logits.shape[-1]
    rows = logits.size // n
    targets = np.asarray(targets, np.int64, order="C")
    losses, (row_max, log_sum) = np.empty(targets.shape, f32), np.empty((2, rows), f32)
    ignored = NO_TARGET if ignore_index is None else ignore_index
    cross_entropy_forward(logits, targets, losses, row_max, log_sum, rows, n, ignored, tasks=tasks_for(logits.size))
    counted = rows if ignore_index is None else max(int(np.sum(targets != ignored)), 1)
    y = losses if reduction == "none" else _reduced(losses.sum(dtype=np.float64), counted, reduction)
    return y, (targets, row_max, log_sum, counted)


@cross_entropy.backward
def _(g, _y, saved, logits, _targets, _weight, *, needs, ignore_index, reduction, label_smoothing):
    targets, row_max, log_sum, counted = saved
    n = logits.shape[-1]
    rows = logits.size // n
    dlogits = np.empty(logits.shape, f32)
    factor = np.asarray(g / counted if reduction == "mean" else g, f32)
    ignored = NO_TARGET if ignore_index is None else ignore_index
    per_row = reduction == "none"
    cross_entropy_backward(factor, per_row, logits, targets, row_max, log_sum, dlogits, rows, n, ignored, tasks=tasks_for(logits.size))
    return dlogits, None, None
