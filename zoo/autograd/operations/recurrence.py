"""Recurrent layers over a whole sequence: the time loop is one operation.

x (batch, time, features) is multiplied by its weight for all steps at once before the loop, so these operations take
the products `xw`; what is left inside is h @ weight and the gates.  Each returns the states of all steps.  Where x is one of a few
symbols at every step, xw may be a table of their products, (symbols, gates), of which ids (batch, time) name the rows.
"""

from __future__ import annotations

from ..operation import fused
from . import checks
from .activation import sigmoid, tanh
from .joining import concatenate, split, stack
from .linear import embedding, matmul
from .precision import in_float32


@fused(floats="xw h weight")
def elman(xw, h, weight, ids=None):
    """h_t = tanh(xw_t + h_{t-1} W) (Elman 1990): xw (batch, time, width), h (batch, width), weight (width, width) -> (batch, time, width)

    >>> elman(np.ones((1, 2, 1), np.float32), np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)).round(3)
    array([[[0.762],
            [0.943]]], dtype=float32)
    """
    xw, states = _looked_up(xw, ids), []
    for t in range(xw.shape[1]):
        h = tanh(xw[:, t] + in_float32(matmul, h, weight))
        states.append(h)
    return stack(states, axis=1)


@fused(floats="xw state weight")
def lstm(xw, state, weight, ids=None):
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t), with i, f, g, o from xw_t + h_{t-1} W (Hochreiter & Schmidhuber 1997; Gers et al. 2000)

    xw (batch, time, 4 width) in the order i, f, g, o; state (batch, 2 width) is h beside c; weight (width, 4 width)
    -> (batch, time, 2 width): h beside c at every step, so that any step can be continued from

    >>> lstm(np.ones((1, 2, 4), np.float32), np.zeros((1, 2), np.float32), np.ones((1, 4), np.float32)).round(3)
    array([[[0.37 , 0.557],
            [0.651, 1.144]]], dtype=float32)
    """
    h, c = split(state, 2, axis=-1)
    xw, states = _looked_up(xw, ids), []
    for t in range(xw.shape[1]):
        i, f, g, o = split(xw[:, t] + in_float32(matmul, h, weight), 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        states.append(concatenate([h, c], axis=-1))
    return stack(states, axis=1)


@fused(floats="xw h weight bias")
def gru(xw, h, weight, bias=None, ids=None):
    """h_t = (1 - z) n + z h_{t-1}, n = tanh(xw_n + r (h_{t-1} W_n + b_n)) (Cho et al. 2014, with the reset after the product)

    xw (batch, time, 3 width) in the order r, z, n; h (batch, width); weight (width, 3 width); bias (3 width,) is the hidden one
    -> (batch, time, width)

    >>> gru(np.ones((1, 2, 3), np.float32), np.zeros((1, 1), np.float32), np.ones((1, 3), np.float32), np.zeros(3, np.float32)).shape
    (1, 2, 1)
    """
    xw, states = _looked_up(xw, ids), []
    for t in range(xw.shape[1]):
        r, z, n = split(xw[:, t], 3, axis=-1)
        products = in_float32(matmul, h, weight) if bias is None else in_float32(matmul, h, weight) + bias
        hr, hz, hn = split(products, 3, axis=-1)
        z = sigmoid(z + hz)
        n = tanh(n + sigmoid(r + hr) * hn)
        h = (1 - z) * n + z * h
        states.append(h)
    return stack(states, axis=1)


def _looked_up(xw, ids):
    return xw if ids is None else embedding(xw, ids)


def _check(name: str, gates: int, parts: int = 1, biases: int = 0):
    def check(xw, h, weight, *others):
        if weight.ndim != 2 or weight.shape[1] != gates * len(weight) or not len(weight):
            raise ValueError(f"{name}: weight has shape {weight.shape}; it is (width, {gates} width)")
        width, ids = len(weight), others[biases]
        if biases and others[0] is not None and others[0].shape != (gates * width,):
            raise ValueError(f"{name}: bias has shape {others[0].shape}; it is {(gates * width,)}")
        if ids is not None:
            if ids.ndim != 2 or xw.ndim != 2 or xw.shape[1] != gates * width:
                raise ValueError(f"{name}: ids have shape {ids.shape} and xw has {xw.shape}; with ids (batch, time), it is "
                                 f"(symbols, {gates} width), width {width}")
            checks.indices(f"{name}: ids", ids, len(xw), f"xw has {len(xw)} rows")
        elif xw.ndim != 3 or xw.shape[2] != gates * width:
            raise ValueError(f"{name}: xw has shape {xw.shape}; it is (batch, time, {gates} width), width {width}")
        batch, time = xw.shape[:2] if ids is None else ids.shape
        if h.shape != (batch, parts * width):
            raise ValueError(f"{name}: the state has shape {h.shape}; it is {(batch, parts * width)}")
        if time == 0:
            raise ValueError(f"{name}: there are no steps; xw has shape {xw.shape}")

    return check


elman.check(_check("elman", 1))
lstm.check(_check("lstm", 4, parts=2))
gru.check(_check("gru", 3, biases=1))
