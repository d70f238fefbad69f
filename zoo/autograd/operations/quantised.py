"""Weights of 4 and 8 bits: products with matrices that stay quantised in memory.

A matrix of `outputs` rows and `inputs` columns is cut into blocks of 32 columns, which share a scale d, and for 4 bits a minimum m:

    Q4_1    w = d q + m,   q from 0 to 15          20 bytes for 32 weights, 5 bits a weight
    Q8_0    w = d q,       q from -127 to 127      34 bytes, 8.5 bits

The format is GGML's, but sixteen rows lie side by side ("side by side" below), so that a vector of sixteen floats takes a number from each.
Only weights are rounded; products and activations are float32's.
"""

from __future__ import annotations

import numpy as np

from ..operation import fused, primitive
from . import checks
from .linear import matmul
from .precision import in_float32
from .shaping import swapaxes

BLOCK = 32  # columns that share a scale
GROUP = 16  # rows side by side
HEAD = {"Q4_1": 2, "Q8_0": 1}  # float16 numbers before a row's block: scale, minimum
BYTES = {"Q4_1": 20, "Q8_0": 34}  # of a row's block
SIGNS = np.uint32(0x80808080)  # of four bytes: q becomes q + 128


def side_by_side(raw: np.ndarray, kind: str) -> np.ndarray:
    """A file's blocks, (outputs, bytes of a row) uint8, as the operations here read them: (groups, blocks, bytes of sixteen rows).

    In a group's block come sixteen scales, for Q4_1 sixteen minima, and then again and again sixteen words of four bytes, one of each row:
    for Q8_0 q + 128 of columns 4 p to 4 p + 3, for Q4_1 these columns in their low halves, and in their high ones those 16 further on.
    Rows of zeros fill the last group.
    """
    checks.one_of("side_by_side: kind", kind, tuple(BYTES))
    if not isinstance(raw, np.ndarray) or raw.dtype != np.uint8 or raw.ndim != 2 or raw.shape[1] % BYTES[kind] or not raw.size:
        size = checks.array("side_by_side: raw", raw).shape
        raise ValueError(f"side_by_side: raw is {checks.shown(raw)} of shape {size}; it is uint8 (outputs, blocks of {BYTES[kind]} bytes), not empty")
    outputs, head = len(raw), 2 * HEAD[kind]
    groups = -(-outputs // GROUP)
    if outputs % GROUP:
        raw = np.concatenate([raw, np.zeros((groups * GROUP - outputs, raw.shape[1]), np.uint8)])
    b = raw.reshape(groups, GROUP, -1, BYTES[kind]).swapaxes(1, 2)  # (groups, blocks, 16, bytes)
    blocks = b.shape[1]
    out = np.empty((groups, blocks, GROUP * BYTES[kind]), np.uint8)
    for i in range(HEAD[kind]):
        out[:, :, 2 * GROUP * i : 2 * GROUP * (i + 1)].reshape(groups, blocks, GROUP, 2)[...] = b[..., 2 * i : 2 * i + 2]
    words = out[:, :, GROUP * head :].view(np.uint32).reshape(groups, blocks, -1, GROUP)
    words[...] = b[..., head:].view(np.uint32).swapaxes(2, 3)
    if kind == "Q8_0":
        words ^= SIGNS
    return out


def as_in_a_file(blocks: np.ndarray, kind: str, outputs: int) -> np.ndarray:
    """What `side_by_side` was given, (outputs, bytes of a row)."""
    groups, count, _ = blocks.shape
    head = 2 * HEAD[kind]
    out = np.empty((groups, GROUP, count, BYTES[kind]), np.uint8)
    b = out.swapaxes(1, 2)
    for i in range(HEAD[kind]):
        b[..., 2 * i : 2 * i + 2] = blocks[:, :, 2 * GROUP * i : 2 * GROUP * (i + 1)].reshape(groups, count, GROUP, 2)
    words = np.ascontiguousarray(blocks[:, :, GROUP * head :]).view(np.uint32).reshape(groups, count, -1, GROUP)
    b[..., head:].view(np.uint32)[...] = (words ^ SIGNS if kind == "Q8_0" else words).swapaxes(2, 3)
    return out.reshape(groups * GROUP, -1)[:outputs]


def quantise(w: np.ndarray, kind: str) -> np.ndarray:
    """float32 rows (outputs, inputs), 32 dividing inputs, as a file's blocks: (outputs, bytes of a row) uint8.

    A block's scale maps its range to the numbers that fit, largest size / 127 for Q8_0 and (max - min) / 15 for Q4_1; what is stored is the
    nearest number under the scale in float32, as in GGML.  ValueError for another length of rows, or a number that isn't finite.
    """
    w = np.ascontiguousarray(w, np.float32)
    if w.ndim != 2 or w.shape[1] % BLOCK:
        raise ValueError(f"quantise: rows have {w.shape[-1]} numbers (shape {w.shape}); {kind} needs a multiple of {BLOCK}")
    if not np.isfinite(w).all():
        raise ValueError("quantise: w holds a number that isn't finite")
    x = w.reshape(-1, BLOCK)
    if kind == "Q8_0":
        d = np.abs(x).max(1, keepdims=True) / np.float32(127)
        scaled = x * _inverse(d)
        q = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)  # halves go away from zero, as with C's roundf
        parts = [_as_half(d), q.view(np.uint8)]
    else:
        low = x.min(1, keepdims=True)
        d = (x.max(1, keepdims=True) - low) / np.float32(15)
        q = np.clip(np.trunc((x - low) * _inverse(d) + np.float32(0.5)), 0, 15).astype(np.uint8)
        parts = [_as_half(d), _as_half(low), q[:, :16] | (q[:, 16:] << 4)]
    return np.concatenate(parts, 1).reshape(len(w), -1)


def _inverse(d: np.ndarray) -> np.ndarray:
    return np.divide(np.float32(1), d, out=np.zeros_like(d), where=d != 0)


def _as_half(a: np.ndarray) -> np.ndarray:
    return a.astype("<f2").view(np.uint8)


@primitive
def dequantise(blocks, *, kind, outputs):
    """w = d q + m of each block: (groups, blocks, bytes) uint8 -> (outputs, inputs) float32"""
    groups, count, _ = blocks.shape
    head = 2 * GROUP
    scales = np.ascontiguousarray(blocks[:, :, :head]).view("<f2").astype(np.float32)[:, :, None]  # (groups, blocks, 1, 16)
    if kind == "Q8_0":
        byte = (blocks[:, :, head:] ^ 0x80).view(np.int8).reshape(groups, count, 8, GROUP, 4)
        w = byte.swapaxes(3, 4).reshape(groups, count, BLOCK, GROUP).astype(np.float32) * scales
    else:
        minima = np.ascontiguousarray(blocks[:, :, head : 2 * head]).view("<f2").astype(np.float32)[:, :, None]
        byte = blocks[:, :, 2 * head :].reshape(groups, count, 4, GROUP, 4).swapaxes(3, 4).reshape(groups, count, 16, GROUP)
        q = np.concatenate([byte & 15, byte >> 4], axis=2)
        w = scales * q.astype(np.float32) + minima
    return w.transpose(0, 3, 1, 2).reshape(groups * GROUP, count * BLOCK)[:outputs]


dequantise.derivatives(None)


@fused(floats="x")
def quantised_linear(x, blocks, *, kind, outputs):
    """y = x W^T, W (outputs, inputs) as blocks of 4 or 8 bits: x (..., inputs) -> (..., outputs)"""
    return in_float32(matmul, x, swapaxes(dequantise(blocks, kind=kind, outputs=outputs)))


quantised_linear.opened = False  # inside is the whole matrix: of each token, a trace of SmolLM2 would take 170 tokens' time and 540 MB for it


@fused
def quantised_embedding(blocks, ids, *, kind, outputs):
    """y = W[ids], W (outputs, inputs) as blocks of 4 or 8 bits: ids integers (...) -> (..., inputs) float32"""
    ids = np.asarray(ids)
    groups, places = np.unique(ids // GROUP, return_inverse=True)
    w = np.asarray(dequantise(blocks[groups], kind=kind, outputs=GROUP * len(groups)))
    return w[GROUP * places.reshape(ids.shape) + ids % GROUP]


def _check_blocks(name: str, blocks, kind, outputs) -> int:
    """Raises unless these are blocks of that kind with so many rows; returns the number of columns."""
    if kind not in BYTES:
        raise ValueError(f"{name}: kind is {checks.shown(kind)}; it may be {' or '.join(map(repr, BYTES))}")
    if not isinstance(blocks, np.ndarray) or blocks.dtype != np.uint8 or blocks.ndim != 3 or blocks.shape[2] != GROUP * BYTES[kind]:
        what = f"{getattr(blocks, 'dtype', type(blocks).__name__)} of shape {np.shape(blocks)}"
        raise ValueError(f"{name}: blocks are {what}; {kind} is uint8 of shape (groups, blocks, {GROUP * BYTES[kind]})")
    if isinstance(outputs, bool) or not isinstance(outputs, (int, np.integer)) or -(-outputs // GROUP) != len(blocks) or outputs < 1:
        most = GROUP * len(blocks)
        raise ValueError(f"{name}: outputs is {checks.shown(outputs)}; {len(blocks)} groups hold from {most - GROUP + 1} to {most} rows")
    return BLOCK * blocks.shape[1]


@dequantise.check
def _(blocks, *, kind, outputs):
    _check_blocks("dequantise", blocks, kind, outputs)


@quantised_linear.check
def _(x, blocks, *, kind, outputs):
    inputs = _check_blocks("quantised_linear", blocks, kind, outputs)
    if np.ndim(x) == 0 or x.shape[-1] != inputs:
        raise ValueError(f"quantised_linear: x has shape {np.shape(x)}; its last axis has to have the {inputs} columns of the blocks")


@quantised_embedding.check
def _(blocks, ids, *, kind, outputs):
    _check_blocks("quantised_embedding", blocks, kind, outputs)
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"quantised_embedding: ids have dtype {ids.dtype}; they are integers")
    if ids.size and (ids.min() < 0 or ids.max() >= outputs):
        raise IndexError(f"quantised_embedding: ids go from {ids.min()} to {ids.max()}; they are 0 to {outputs - 1}")
