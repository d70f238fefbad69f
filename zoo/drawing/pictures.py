"""Arrays as picture files, without matplotlib: a PNG is a header and deflated rows, each chunk with a checksum."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ..storage import atomic_write


def to_bytes(image) -> np.ndarray:
    """uint8 as it is; numbers in [0, 1] as bytes from 0 to 255, those outside clipped, NaN as 0."""
    if np.asarray(image).dtype == np.uint8:
        return np.asarray(image)
    _check_numbers(image)
    return (np.nan_to_num(np.clip(np.asarray(image, np.float32), 0, 1)) * 255 + 0.5).astype(np.uint8)


def _check_numbers(image) -> None:
    """Raise ValueError for integers other than uint8, of which nobody knows whether 1 is white or nearly black."""
    dtype = np.asarray(image).dtype
    if dtype.kind not in "fb" and dtype != np.uint8:
        raise ValueError(f"image: dtype is {dtype}; expects uint8 (0 to 255), or bool or floats in [0, 1]")


def png(image) -> bytes:
    """A picture as the bytes of a PNG file: (height, width) or (height, width, 1 or 3), uint8 or numbers in [0, 1].

    Source of the format: PNG Specification, third edition, sections 5 and 11.
    """
    pixels = to_bytes(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"png: image has shape {pixels.shape}; it is (height, width) or (height, width, 3)")
    height, width = pixels.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # filter 0 before each row

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")


def grid(images, columns: int | None = None, gap: int = 2, background: float = 1.0) -> np.ndarray:
    """Pictures side by side, `columns` per row: (n, height, width[, channels]) -> (rows * (height + gap) + gap, ...).

    Numbers in [0, 1], or uint8, which becomes such numbers.
    """
    _check_numbers(images)
    images = np.asarray(images)
    images = np.divide(images, 255, dtype=np.float32) if images.dtype == np.uint8 else images.astype(np.float32)
    if images.ndim not in (3, 4) or len(images) == 0:
        raise ValueError(f"grid: images have shape {images.shape}; it is (n, height, width) or (n, height, width, channels), n at least 1")
    n, h, w, *rest = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, *rest), background, np.float32)
    for i, image in enumerate(images):
        y, x = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        sheet[y : y + h, x : x + w] = image
    return sheet


def mosaic(features, most: int = 64) -> np.ndarray:
    """The channels of (height, width, channels) as tiles with gaps of NaN: (rows * (height + 1) - 1, ...)."""
    tiles = np.moveaxis(np.asarray(features, np.float32), -1, 0)[:most]
    return grid(tiles, columns=math.ceil(math.sqrt(2 * len(tiles))), gap=1, background=np.nan)[1:-1, 1:-1]


def save_grid(path: str | Path, images, columns: int | None = None, scale: int = 2) -> None:
    """A grid of pictures as a PNG file, each pixel scale x scale."""
    atomic_write(path, png(grid(images, columns).repeat(scale, 0).repeat(scale, 1)))


def pictures_of_grid(sheet: np.ndarray, height: int, width: int, gap: int = 2, scale: int = 2) -> np.ndarray | None:
    """What `save_grid` made a sheet from, (n, height, width[, channels]) uint8; None for any other picture.  Empty places at the end are left out."""
    sheet = np.asarray(sheet)
    cell_height, cell_width = height + gap, width + gap
    rows, columns = (sheet.shape[0] // scale - gap) // cell_height, (sheet.shape[1] // scale - gap) // cell_width
    whole = (scale * (rows * cell_height + gap), scale * (columns * cell_width + gap))
    if sheet.dtype != np.uint8 or rows < 1 or columns < 1 or sheet.shape[:2] != whole:
        return None
    small = sheet[::scale, ::scale]
    cells = small[gap:, gap:].reshape(rows, cell_height, columns, cell_width, *sheet.shape[2:]).swapaxes(1, 2)
    cells = np.ascontiguousarray(cells[:, :, :height, :width]).reshape(rows * columns, height, width, *sheet.shape[2:])
    drawn = np.flatnonzero((cells != 255).reshape(len(cells), -1).any(axis=1))
    cells = cells[: drawn[-1] + 1 if len(drawn) else 0]
    if not len(cells) or not np.array_equal(to_bytes(grid(cells, columns, gap)).repeat(scale, 0).repeat(scale, 1), sheet):
        return None
    return cells
