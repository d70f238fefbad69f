"""Kernels around attention: turn the heads that lie side by side in a row, and lay their gradients side by side again.

packed (batch, time, (heads + 2 key_value_heads) d) is contiguous float32: queries, keys and values of each place side by side. Without
rotation attention reads its heads where they lie; with it, queries and keys are turned into an array of their own first.
"""

from __future__ import annotations

import numpy as np

from ..operations.self_attention import repeat_heads, self_attention, unpack
from ..runtime.compiling import inner
from ..runtime.tasks import is_float32, part, row, row_address, span, task, tasks_for
from .attention import run_attention, run_attention_backward

f32 = np.float32


@inner
def turn_head(x, y, cosine, sine, sign):
    """y = x turned by the angles of a position, or back by a sign of -1; x may be y."""
    half = cosine.size
    for j in range(half):
        a, b = x[j], x[j + half]
        y[j] = a * cosine[j] - sign * b * sine[j]
        y[j + half] = b * cosine[j] + sign * a * sine[j]


@inner
def copy(x, y):
    for j in range(x.size):
        y[j] = x[j]


@task
def turn_heads(t, tasks, packed, turned, cosines, sines, rows, time, heads, all_heads, d):
    """turned (rows, heads, d) = the first `heads` of all heads of packed (rows, all_heads, d), turned by the row's position.

    cosines, sines (time, d / 2); a row is a place in a sequence of the batch.
    """
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        cosine, sine = row(cosines, i % time, d // 2), row(sines, i % time, d // 2)
        for h in range(heads):
            turn_head(row(packed, i * all_heads + h, d), row(turned, i * heads + h, d), cosine, sine, f32(1))


@task
def pack_gradients(t, tasks, dq, dk, dv, packed, cosines, sines, rows, time, heads, groups, d):
    """packed (rows, heads + 2 groups, d) from dq (rows, heads, d), dk and dv (rows, groups, d); if turned, the first two turned back."""
    for i in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        start = row_address(packed, i, (heads + 2 * groups) * d)
        copy(row(dv, i, groups * d), span(start, (heads + groups) * d, (heads + 2 * groups) * d))
        if cosines:
            cosine, sine = row(cosines, i % time, d // 2), row(sines, i % time, d // 2)
            for h in range(heads):
                turn_head(row(dq, i * heads + h, d), row(start, h, d), cosine, sine, f32(-1))
            for h in range(groups):
                turn_head(row(dk, i * groups + h, d), row(start, heads + h, d), cosine, sine, f32(-1))
        else:
            copy(row(dq, i, heads * d), span(start, 0, heads * d))
            copy(row(dk, i, groups * d), span(start, heads * d, (heads + groups) * d))


@self_attention.forward
def _(packed, *, heads, key_value_heads, rotation, is_causal):
    b, t, n = packed.shape
    d = n // (heads + 2 * key_value_heads)
    if rotation is not None and (not is_float32(*rotation) or d % 2):
        return NotImplemented
    q, k, v = unpack(packed, heads, key_value_heads)  # views
    if rotation is not None:
        rotation = tuple(map(np.ascontiguousarray, rotation))
        queries_and_keys = heads + key_value_heads
        turned = np.empty((b, t, queries_and_keys, d), f32)
        turn_heads(packed, turned, *rotation, b * t, t, queries_and_keys, heads + 2 * key_value_heads, d, tasks=tasks_for(turned.size))
        q, k = turned[:, :, :heads].swapaxes(1, 2), turned[:, :, heads:].swapaxes(1, 2)
    k, v = repeat_heads(k, heads), repeat_heads(v, heads)
    result = run_attention(q, k, v, None, is_causal=is_causal, scale=None)
    if result is NotImplemented:
        return NotImplemented
    y, saved = result
    return y.swapaxes(1, 2).reshape(b, t, heads * d), (y, saved, q, k, v, rotation)


@self_attention.backward
def _(g, _y, saved, _packed, *, needs, heads, key_value_heads, rotation, is_causal):
    y, saved_by_attention, q, k, v, rotation = saved
    b, _, t, d = q.shape
    gradients = run_attention_backward(
        g.reshape(b, t, heads, d).swapaxes(1, 2), y, saved_by_attention, q, k, v, None, needs=(True, True, True, False),
        is_causal=is_causal, scale=None)  # fmt: skip
    heads_of = heads, key_value_heads, key_value_heads
    dq, dk, dv = (np.ascontiguousarray(_summed_over_groups(dx, n).swapaxes(1, 2)) for dx, n in zip(gradients, heads_of))
    packed = np.empty((b, t, (heads + 2 * key_value_heads) * d), f32)
    pack_gradients(dq, dk, dv, packed, *(rotation or (None, None)), b * t, t, heads, key_value_heads, d, tasks=tasks_for(packed.size))
    return (packed,)


def _summed_over_groups(g: np.ndarray, heads: int) -> np.ndarray:
    """The gradient of heads that were repeated: (batch, heads times repeats, time, width) -> (batch, heads, time, width)."""
    b, h, t, d = g.shape
    return g if h == heads else g.reshape(b, heads, h // heads, t, d).sum(2)
