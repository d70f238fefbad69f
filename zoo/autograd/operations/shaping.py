"""Axes reshaped, reordered, turned round.  Each one's derivative is another one here."""

from __future__ import annotations

import operator

import numpy as np

from ..operation import composed, primitive
from . import checks
from .arithmetic import broadcast_to


@primitive
def reshape(x, *, shape):
    """The same entries in another shape; one length may be -1"""
    return np.reshape(x, shape)


reshape.derivatives(lambda g, _y, _x, *, shape: reshape(g, shape=_x.shape))


@primitive
def transpose(x, *, axes=None):
    """Axes in another order (reversed if None); a view"""
    return np.transpose(x, axes)


transpose.derivatives(lambda g, _y, _x, *, axes: transpose(g, axes=_inverse_order(axes)))


def _inverse_order(axes):
    """The order of axes that undoes this one."""
    if axes is None:
        return None
    several = np.atleast_1d(axes)  # an int is the order of one axis
    return tuple(int(i) for i in np.argsort(several % max(len(several), 1)))


@primitive
def swapaxes(x, *, axis1=-1, axis2=-2):
    """Two axes exchanged; a view"""
    return np.swapaxes(x, axis1, axis2)


swapaxes.renamed = {"a": "axis1", "b": "axis2"}
swapaxes.derivatives(lambda g, _y, _x, *, axis1, axis2: swapaxes(g, axis1=axis1, axis2=axis2))


def moveaxis(x, source, destination):
    """Axes moved to other places, the others in their order; a view"""
    ndim = checks.array("moveaxis: x", x).ndim
    sources, places = (a if isinstance(a, (tuple, list)) else (a,) for a in (source, destination))
    sources, places = checks.axes("moveaxis: source", sources, ndim), checks.axes("moveaxis: destination", places, ndim)
    if len(sources) != len(places):
        raise ValueError(f"moveaxis: source is {source}, destination {destination}; they name as many axes")
    order = [i for i in range(ndim) if i not in sources]
    for place, axis in sorted(zip(places, sources)):
        order.insert(place, axis)
    return transpose(x, axes=tuple(order))


def ravel(x):
    """The entries along one axis"""
    return reshape(x, shape=-1)


def expand_dims(x, axis):
    """A new axis of length 1, or several"""
    several = axis if isinstance(axis, (tuple, list)) else (axis,)
    shape = checks.array("expand_dims: x", x).shape
    places = checks.axes("expand_dims: axis", several, len(shape) + len(several))
    lengths = iter(shape)
    return reshape(x, shape=tuple(1 if i in places else next(lengths) for i in range(len(shape) + len(several))))


@composed
def squeeze(x, axis=None):
    """x without axes of length 1 (all, or those named)"""
    shape = checks.array("squeeze: x", x).shape
    axes = [i for i, n in enumerate(shape) if n == 1] if axis is None else checks.axes("squeeze: axis", axis, len(shape))
    for i in axes:
        if shape[i] != 1:
            raise ValueError(f"squeeze: axis {i} has length {shape[i]}, not 1 (shape {shape})")
    return reshape(x, shape=tuple(n for i, n in enumerate(shape) if i not in axes))


@primitive
def flip(x, *, axis=None):
    """The entries along an axis, several, or all (None), in the reverse order; a view"""
    return np.flip(x, checks.axes("flip: axis", axis, x.ndim))


flip.derivatives(lambda g, _y, _x, *, axis: flip(g, axis=axis))


@primitive
def roll(x, *, shift, axis=None):
    """The entries moved by `shift` places along an axis, or several, round the end; along the flattened x if None"""
    return np.roll(x, shift, axis)


roll.derivatives(lambda g, _y, _x, *, shift, axis: roll(g, shift=_opposite(shift), axis=axis))


def _opposite(shift):
    return tuple(-operator.index(s) for s in shift) if isinstance(shift, (tuple, list)) else -operator.index(shift)


@roll.check
def _(x, *, shift, axis):
    for s in shift if isinstance(shift, (tuple, list)) else (shift,):
        checks.integer("roll: shift", s)
    several = axis if isinstance(axis, (tuple, list)) else (axis,)
    for a in several if axis is not None else ():
        checks.axis("roll: axis", a, x.ndim)
    if isinstance(shift, (tuple, list)) and len(several) not in (1, len(shift)):
        raise ValueError(f"roll: shift is {shift}, axis {axis}; they are as many")


def tile(x, reps):
    """x repeated as a whole `reps` times along each axis"""
    counts = checks.shape("tile: reps", reps)
    shape = checks.array("tile: x", x).shape
    shape = (1,) * (len(counts) - len(shape)) + shape
    counts = (1,) * (len(shape) - len(counts)) + counts
    apart = reshape(x, shape=tuple(n for length in shape for n in (1, length)))
    copies = broadcast_to(apart, shape=tuple(n for pair in zip(counts, shape) for n in pair))
    return reshape(copies, shape=tuple(count * length for count, length in zip(counts, shape)))
