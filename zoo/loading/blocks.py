"""Weights of 4 to 8 bits as GGUF stores them: blocks of 32 or 256 numbers that share a scale, and for some types a minimum.

    F16, BF16       half precision; the upper half of a float32
    Q8_0            w = d q,           q a signed byte
    Q4_0, Q5_0      w = d (q - 8),     w = d (q - 16)
    Q4_1, Q5_1      w = d q + m
    Q4_K, Q5_K      eight sub-blocks of 32:   w = d s q - d_min m, scales s and minima m of 6 bits
    Q6_K            sixteen sub-blocks of 16: w = d s (q - 32), scales s of 8 bits

d, d_min and m of the simple types are float16.  Each `_read` function is the type's definition; it rounds where GGML's own code rounds, so
its values are those of the `gguf` package bit for bit (`test_blocks_equal_those_of_the_gguf_package`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..autograd.operations import quantised

LOW_HIGH = np.array([[0], [4]], np.uint8)  # shifts of a byte's two halves


class BlockType(NamedTuple):
    """A type of tensor: its number in GGUF files, numbers a block, bytes a block, and how blocks are read."""

    code: int
    numbers: int
    size: int
    read: Callable[[np.ndarray], np.ndarray]  # (blocks, size) uint8 -> (blocks, numbers) float32


def _half(b: np.ndarray) -> np.ndarray:
    """Pairs of bytes as float16, in float32: (blocks, 2) -> (blocks, 1)."""
    return np.ascontiguousarray(b).view("<f2").astype(np.float32)


def _nibbles(b: np.ndarray, run: int) -> np.ndarray:
    """Half bytes: of every `run` bytes first all low halves, then all high ones; (blocks, n) -> (blocks, 2 n) uint8."""
    return ((b.reshape(len(b), -1, 1, run) >> LOW_HIGH) & 15).reshape(len(b), -1)


def _fifth_bits(b: np.ndarray) -> np.ndarray:
    """(blocks, 4) bytes -> (blocks, 32) of 0 or 16."""
    return np.unpackbits(np.ascontiguousarray(b), axis=1, bitorder="little") << 4


def _read_f32(b):
    return b.view("<f4").astype(np.float32)


def _read_f16(b):
    return _half(b)


def _read_bf16(b):
    return (b.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _read_q8_0(b):
    return b[:, 2:].view(np.int8).astype(np.float32) * _half(b[:, :2])


def _read_q4_0(b):
    return _half(b[:, :2]) * (_nibbles(b[:, 2:], 16).astype(np.float32) - 8)


def _read_q4_1(b):
    return _half(b[:, :2]) * _nibbles(b[:, 4:], 16).astype(np.float32) + _half(b[:, 2:4])


def _read_q5_0(b):
    return _half(b[:, :2]) * ((_nibbles(b[:, 6:], 16) | _fifth_bits(b[:, 2:6])).astype(np.float32) - 16)


def _read_q5_1(b):
    return _half(b[:, :2]) * (_nibbles(b[:, 8:], 16) | _fifth_bits(b[:, 4:8])).astype(np.float32) + _half(b[:, 2:4])


def _six_bit_scales(b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Twelve bytes -> eight scales and eight minima of 6 bits: four whole ones each, then four whose upper two bits lie in those bytes."""
    first, second, third = b[:, :4], b[:, 4:8], b[:, 8:]
    scales = np.concatenate([first & 63, (third & 15) | ((first >> 2) & 48)], 1)
    minima = np.concatenate([second & 63, (third >> 4) | ((second >> 2) & 48)], 1)
    return scales.astype(np.float32), minima.astype(np.float32)


def _read_k(b: np.ndarray, q: np.ndarray) -> np.ndarray:
    scales, minima = _six_bit_scales(b[:, 4:16])
    d, m = (_half(b[:, :2]) * scales)[..., None], (_half(b[:, 2:4]) * minima)[..., None]
    return (d * q.reshape(len(b), 8, 32).astype(np.float32) - m).reshape(len(b), 256)


def _read_q4_k(b):
    return _read_k(b, _nibbles(b[:, 16:], 32))


def _read_q5_k(b):
    fifth = (b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1  # bit i of these bytes belongs to sub-block i
    return _read_k(b, _nibbles(b[:, 48:], 32) | (fifth.reshape(len(b), 256) << 4))


def _read_q6_k(b):
    low = _nibbles(b[:, :128], 64)
    high = ((b[:, 128:192].reshape(len(b), 2, 1, 32) >> np.array([[0], [2], [4], [6]], np.uint8)) & 3).reshape(len(b), 256)
    q = (low | (high << 4)).astype(np.float32) - 32
    d = _half(b[:, 208:210]) * b[:, 192:208].view(np.int8).astype(np.float32)
    return (d[..., None] * q.reshape(len(b), 16, 16)).reshape(len(b), 256)


TYPES: dict[str, BlockType] = {
    "F32": BlockType(0, 1, 4, _read_f32), "F16": BlockType(1, 1, 2, _read_f16), "BF16": BlockType(30, 1, 2, _read_bf16),
    "Q4_0": BlockType(2, 32, 18, _read_q4_0), "Q4_1": BlockType(3, 32, 20, _read_q4_1), "Q5_0": BlockType(6, 32, 22, _read_q5_0),
    "Q5_1": BlockType(7, 32, 24, _read_q5_1), "Q8_0": BlockType(8, 32, 34, _read_q8_0), "Q4_K": BlockType(12, 256, 144, _read_q4_k),
    "Q5_K": BlockType(13, 256, 176, _read_q5_k), "Q6_K": BlockType(14, 256, 210, _read_q6_k),
}
NAMES = {t.code: name for name, t in TYPES.items()}


def dequantise(raw: np.ndarray, kind: str) -> np.ndarray:
    """Bytes of whole blocks, (..., bytes) uint8, as float32 (..., numbers)."""
    t = TYPES[kind]
    blocks = np.ascontiguousarray(raw).reshape(-1, t.size)
    return t.read(blocks).reshape(*raw.shape[:-1], -1)


def quantise(w: np.ndarray, kind: str) -> np.ndarray:
    """float32 (..., n) as bytes of blocks, (..., bytes) uint8: Q8_0 or Q4_1, where 32 must divide n, F16 or F32.

    ValueError names a type that can't be written, or a number that isn't finite or doesn't fit.
    """
    w = np.ascontiguousarray(w, np.float32)
    if kind not in WRITTEN:
        raise ValueError(f"quantise: kind is {kind!r}; it may be {', '.join(WRITTEN)}")
    if not np.isfinite(w).all():
        raise ValueError("quantise: the weights hold a number that isn't finite")
    if kind == "F32":
        return w.view(np.uint8).reshape(*w.shape[:-1], -1)
    if kind == "F16":
        if np.abs(w).max(initial=0) > 65504:
            raise ValueError("quantise: the weights hold a number beyond 65,504, the largest of 16 bits")
        return w.astype("<f2").view(np.uint8).reshape(*w.shape[:-1], -1)
    return quantised.quantise(w.reshape(-1, w.shape[-1]), kind).reshape(*w.shape[:-1], -1)


WRITTEN = ("F32", "F16", "Q8_0", "Q4_1")
