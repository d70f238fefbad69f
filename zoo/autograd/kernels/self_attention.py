"""Kernels around attention: turn the heads that lie side by side in a row, and lay their gradients side by side again."""

from __future__ import annotations

import numpy as np

from ..operations.attention import scaled_dot_product_attention
from ..operations.self_attention import repeat_heads, self_attention, unpack
from ..runtime.compiling import inner
from ..runtime.tasks import floats, is_float32, part, task, tasks_for

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
    """turned (rows, heads d): the first `heads` of the all_heads in each row of packed, turned by the row's position."""
    for row in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        place = 2 * d * (row % time)
        cosine, sine = floats(cosines + place, d // 2), floats(sines + place, d // 2)
        for h in range(heads):
            turn_head(floats(packed + 4 * d * (row * all_heads + h), d), floats(turned + 4 * d * (row * heads + h), d), cosine, sine, f32(1))


@task
def pack_gradients(t, tasks, dq, dk, dv, packed, cosines, sines, rows, time, heads, groups, d):
    """packed (rows, (heads + 2 groups) d) from dq (rows, heads d), dk and dv (rows, groups d); the first two turned back."""
    for row in range(part(t, tasks, rows, 1), part(t + 1, tasks, rows, 1)):
        start = packed + 4 * d * row * (heads + 2 * groups)
        q, k, v = dq + 4 * d * row * heads, dk + 4 * d * row * groups, dv + 4 * d * row * groups
        copy(floats(v, groups * d), floats(start + 4 * d * (heads + groups), groups * d))
        if cosines:
            place = 2 * d * (row % time)
            cosine, sine = floats(cosines + place, d // 2), floats(sines + place, d // 2)
            for h in range(heads):
                turn_head(floats(q + 4 * d * h, d), floats(start + 4 * d * h, d), cosine, sine, f32(-1))
            for h in range(groups):
                turn_head(floats(k + 4 * d * h, d), floats(start + 4 * d * (heads + h), d), cosine, sine, f32(-1))
        else:
            copy(floats(q, heads * d), floats(start, heads * d))
            copy(floats(k, groups * d), floats(start + 4 * d * heads, groups * d))


@self_attention.forward
def _(packed, *, heads, key_value_heads, rotation, is_causal):
    b, t, n = packed.shape
    d = n // (heads + 2 * key_value_heads)
    if rotation is not None and not is_float32(*rotation):
        return NotImplemented
    q, k, v = unpack(packed, heads, key_value_heads)  # views
    if rotation is not None:
        rotation = tuple(map(np.ascontiguousarray, rotation))
        some = heads + key_value_heads
        turned = np.empty((b, t, some, d), f32)
        turn_heads(packed, turned, *rotation, b * t, t, some, some + key_value_heads, d, tasks=tasks_for(turned.size))
        q, k = turned[:, :, :heads].swapaxes(1, 2), turned[:, :, heads:].swapaxes(1, 2)
    k, v = repeat_heads(k, heads), repeat_heads(v, heads)
    done = scaled_dot_product_attention.kernel_forward(q, k, v, None, is_causal=is_causal, scale=None)
    if done is NotImplemented:
        return NotImplemented
    y, saved = done
    return y.swapaxes(1, 2).reshape(b, t, heads * d), (y, saved, q, k, v, rotation)


@self_attention.backward
def _(g, _y, saved, _packed, *, needs, heads, key_value_heads, rotation, is_causal):
    y, attention, q, k, v, rotation = saved
    b, _, t, d = q.shape
    grads = scaled_dot_product_attention.kernel_backward(
        g.reshape(b, t, heads, d).swapaxes(1, 2), y, attention, q, k, v, None, needs=(True, True, True, False), is_causal=is_causal, scale=None)
    dq, dk, dv = (np.ascontiguousarray(_shared(z, n).swapaxes(1, 2)) for z, n in zip(grads, (heads, key_value_heads, key_value_heads)))
    packed = np.empty((b, t, (heads + 2 * key_value_heads) * d), f32)
    pack_gradients(dq, dk, dv, packed, *(rotation or (None, None)), b * t, t, heads, key_value_heads, d, tasks=tasks_for(packed.size))
    return (packed,)


def _shared(g: np.ndarray, heads: int) -> np.ndarray:
    """The gradient of heads that were repeated: (batch, more, time, width) -> (batch, heads, time, width)."""
    b, h, t, d = g.shape
    return g if h == heads else g.reshape(b, heads, h // heads, t, d).sum(2)
