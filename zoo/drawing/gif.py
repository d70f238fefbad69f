"""Moving pictures as GIF files: a palette, and for each frame its pixels compressed by LZW (GIF89a specification, appendix F)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from .pictures import to_bytes

CLEAR, END, MOST_CODES = 256, 257, 4096


def gif(frames: Sequence, seconds_per_frame: float = 0.1, hold_seconds: float = 1.5) -> bytes:
    """Pictures of one shape, (height, width) or (height, width, 3), uint8 or numbers in [0, 1], as the bytes of a GIF that repeats for ever.

    hold_seconds: how long the last frame stays.  Grey pictures keep their 256 levels, coloured ones get 6 levels per channel.
    """
    pictures = [to_bytes(frame) for frame in frames]
    if not pictures or any(p.shape != pictures[0].shape for p in pictures) or pictures[0].ndim not in (2, 3):
        raise ValueError("gif: frames are at least one picture, all of one shape, (height, width) or (height, width, 3)")
    height, width = pictures[0].shape[:2]
    if pictures[0].ndim == 3:
        levels = np.arange(216)
        palette = np.zeros((256, 3), np.uint8)
        palette[:216] = np.stack([levels // 36, levels // 6 % 6, levels % 6], 1) * 51
        pictures = [((p.astype(np.int32) + 25) // 51 @ np.array([36, 6, 1])).astype(np.uint8) for p in pictures]
    else:
        palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    parts = [b"GIF89a", struct.pack("<HHBBB", width, height, 0xF7, 0, 0), palette.tobytes(), b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"]
    for k, picture in enumerate(pictures):
        hundredths = round(100 * (seconds_per_frame if k + 1 < len(pictures) else hold_seconds))
        parts += [b"\x21\xf9\x04\x04", struct.pack("<H", hundredths), b"\x00\x00", b"\x2c", struct.pack("<HHHHB", 0, 0, width, height, 0), b"\x08"]
        data = _compressed(picture.tobytes())
        for start in range(0, len(data), 255):
            block = data[start : start + 255]
            parts += [bytes([len(block)]), block]
        parts.append(b"\x00")
    return b"".join([*parts, b"\x3b"])


def _compressed(pixels: bytes) -> bytes:
    """LZW: a growing table of strings that occurred; each code is that of the longest one that follows, in 9 to 12 bits, lowest bit first."""
    out = bytearray()
    buffer, filled, size = CLEAR, 9, 9  # bits that wait, how many, and how long a code is
    table: dict[tuple[int, int], int] = {}
    code = pixels[0]
    for pixel in pixels[1:]:
        longer = table.get((code, pixel))
        if longer is not None:
            code = longer
            continue
        buffer |= code << filled
        filled += size
        while filled >= 8:
            out.append(buffer & 255)
            buffer >>= 8
            filled -= 8
        entry = len(table) + END + 1
        if entry < MOST_CODES:
            table[code, pixel] = entry
            size += entry == 1 << size  # the decoder knows this entry only after the next code
        else:
            buffer |= CLEAR << filled
            filled += size
            table, size = {}, 9
        code = pixel
    for last in (code, END):
        buffer |= last << filled
        filled += size
        if last == code and len(table) + END + 1 == 1 << size and size < 12:
            size += 1  # as if an entry had followed
    return bytes(out) + buffer.to_bytes((filled + 7) // 8, "little")
