"""3x3 convolution, stride 1, padding 1, by Winograd's F(4x4, 3x3) (Lavin & Gray 2015), with both derivatives.

A tile of 6x6 inputs gives 4x4 outputs. Both it and the weight are transformed to 36 points; there the convolution is a product point by
point, which over all channels is 36 small matrix products: 36 multiplications instead of 144 for each 16 outputs. Written with the
paper's matrices, for each tile,

    y  = A^T [ (G w G^T) (B^T x B) ] A                              forward
    dx = the same with the taps reversed and in and out exchanged   input_gradient
    dw = G^T [ sum over tiles of (B^T x B)^T (A dy A^T) ] G          weight_gradient

A group of tiles stays in a core's second-level cache from its transform to its outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...runtime.compiling import inner
from ...runtime.native import address, clear_floats, keep_alive
from ...runtime.tasks import Address, at, part, row, row_address, span, task
from ...runtime.threads import get_threads
from ...runtime.tiles import multiply_columns, multiply_rows, table_size
from ..arithmetic import add_to
from ..images import Images, pixel
from .tiles import count_tiles, picture_transform, tile_corner, tile_transform

f32 = np.float32
TILE, POINTS = 4, 36  # outputs along an axis of a tile; points of its transform
CACHE_FLOATS = 1 << 18  # of a core's second-level cache
LINE_FLOATS = 16  # of a line of a cache

_file = "unit_stride_transforms"
input_tile = picture_transform("input_tile", _file)  # B^T x B
output_tile = picture_transform("output_tile", _file)  # A^T y A + bias + residual
gradient_tile = picture_transform("gradient_tile", _file)  # A dy A^T
weight_tile = tile_transform("weight_tile", _file)  # G w G^T
weight_gradient_tile = tile_transform("weight_gradient_tile", _file)  # G^T du G


class Added(NamedTuple):
    """What is added to a convolution."""

    bias: Address
    bias_pitch: int  # floats from one image's bias to the next's: 0 where all have the same
    residual: Address  # of an array of y's shape, or None


@inner
def point_pitch(count):
    """Floats from one point's `count` floats to the next point's: an odd number of cache lines, for the 36 points of a tile are written
    together, and in a cache lines a power of two apart displace each other."""
    return LINE_FLOATS * ((count + LINE_FLOATS - 1) // LINE_FLOATS | 1)


@inner
def _inside(top, left, size, height, width):
    """Which pixels of a tile lie in the image: bit a for row a, bit 8 + b for column b."""
    rows = (1 << min(size, height - top)) - (1 << max(0, -top))
    columns = (1 << min(size, width - left)) - (1 << max(0, -left))
    return rows | columns << 8


@inner
def _transform_group(transform, x, size, margin, first, last, points, pitch):
    """points[:, t] = the transform of tile `first + t` of x: `size` = 6 or 4 pixels wide, starting `margin` pixels early.

    `transform` is `input_tile` or `gradient_tile`; points (36, tiles, channels) is an address, a point `pitch` floats behind the last.
    """
    channels = x.channels
    for t in range(first, last):
        image, top, left = tile_corner(t, x.height, x.width, TILE)
        top, left = top - margin, left - margin
        transform(pixel(x, image, top, left), x.width * channels, channels, row_address(points, t - first, channels), 6 * pitch, pitch, channels,
                  _inside(top, left, size, x.height, x.width), 0, 0)  # fmt: skip


@inner
def _forward_group(x, u, y, added, first, last):
    """The tiles first ... last of y, from the transformed weight u (36, in, out)."""
    channels, out, tiles = x.channels, y.channels, last - first
    pitch, product_pitch = point_pitch(tiles * channels), point_pitch(tiles * out)
    points, products = np.empty(POINTS * pitch, f32), np.empty(POINTS * product_pitch, f32)
    _transform_group(input_tile, x, 6, 1, first, last, address(points), pitch)
    sources, targets, zeros = np.empty(table_size(tiles), np.int64), np.empty(table_size(tiles), np.int64), np.zeros(out, f32)
    for t in range(len(sources)):
        sources[t] = row_address(address(points), min(t, tiles - 1), channels)
        targets[t] = row_address(address(products), min(t, tiles - 1), out)
    for k in range(POINTS):
        multiply_rows(address(sources), pitch * k, 1, channels, 0, row_address(u, k, point_pitch(channels * out)),
                      address(targets), product_pitch * k, tiles, out, address(zeros))  # fmt: skip
    for t in range(first, last):
        image, top, left = tile_corner(t, y.height, y.width, TILE)
        place = ((image * y.height + top) * y.width + left) * out
        output_tile(row_address(address(products), t - first, out), 6 * product_pitch, product_pitch, at(y.start, place), y.width * out, out, out,
                    _inside(top, left, TILE, y.height, y.width), row_address(added.bias, image, added.bias_pitch),
                    at(added.residual, place) if added.residual else 0)  # fmt: skip
    keep_alive((points, products, sources, targets, zeros))


@task
def _transform_weight(t, tasks, weight, u, channels, out):
    """u (36, in, out) = G w G^T"""
    tap, pitch = channels * out, point_pitch(channels * out)
    for c in range(part(t, tasks, channels, 1), part(t + 1, tasks, channels, 1)):
        weight_tile(row_address(weight, c, out), 3 * tap, tap, row_address(u, c, out), 6 * pitch, pitch, 0, out)


@task
def _forward(t, tasks, x: Images, u, y: Images, added: Added, group):
    """y = the convolution of x with the weight whose transform is u (36, in, out) + what is added, `group` tiles at a time"""
    tiles = count_tiles(x.batch, x.height, x.width, TILE)
    last = part(t + 1, tasks, tiles, 8)
    for first in range(part(t, tasks, tiles, 8), last, group):
        _forward_group(x, u, y, added, first, min(last, first + group))


@task
def _weight(t, tasks, x: Images, g: Images, totals, sums, group):
    """totals[t] (36, in, out) = the sum over a share of the tiles of (B^T x B)^T (A g A^T); to sums[t] (batch, out) that of g is added."""
    channels, out = x.channels, g.channels
    tiles = count_tiles(x.batch, x.height, x.width, TILE)
    begin, end = part(t, tasks, tiles, 1), part(t + 1, tasks, tiles, 1)
    pitch, gradient_pitch, total_pitch = point_pitch(group * channels), point_pitch(group * out), point_pitch(channels * out)
    total = row_address(totals, t, POINTS * total_pitch)
    points, gradients = np.empty(POINTS * pitch, f32), np.empty(POINTS * gradient_pitch, f32)
    offsets = np.empty(table_size(channels), np.int64)
    for c in range(len(offsets)):
        offsets[c] = min(c, channels - 1)
    clear_floats(total, POINTS * total_pitch)
    for first in range(begin, end, group):
        last = min(end, first + group)
        _transform_group(input_tile, x, 6, 1, first, last, address(points), pitch)
        _transform_group(gradient_tile, g, 4, 0, first, last, address(gradients), gradient_pitch)
        for i in range(first, last):
            image = i // (tiles // x.batch)
            all_ones = row_address(address(gradients), 7, gradient_pitch)      # the point where all of a tile's pixels count 1
            add_to(row(sums, t * x.batch + image, out), row(all_ones, i - first, out))
        for k in range(POINTS):
            v, dm = row_address(address(points), k, pitch), row_address(address(gradients), k, gradient_pitch)
            multiply_columns(v, address(offsets), channels, dm, row_address(total, k, total_pitch), out, 1, 0, 0, last - first, channels, out)
    keep_alive((points, gradients, offsets))


@task
def _finish_weight(t, tasks, totals, shares, dw, channels, out):
    """dw (3, 3, in, out) = G^T (the sum of the shares, in order) G"""
    tap, pitch = channels * out, point_pitch(channels * out)
    for c in range(part(t, tasks, channels, 1), part(t + 1, tasks, channels, 1)):
        for k in range(POINTS):
            target = span(totals, k * pitch + c * out, k * pitch + (c + 1) * out)
            for share in range(1, shares):
                source = row(row_address(totals, POINTS * share + k, pitch), c, out)
                for o in range(out):
                    target[o] += source[o]
        weight_gradient_tile(row_address(totals, c, out), 6 * pitch, pitch, row_address(dw, c, out), 3 * tap, tap, 0, out)


def _group(channels, out):
    """How many tiles at a time: what half the cache holds, and fills the registers of a product."""
    tiles = CACHE_FLOATS // 2 // (POINTS * (channels + out))
    return max(16, tiles - tiles % 8)


def forward(x, weight, bias=None, residual=None):
    """x (batch, height, width, in), weight (3, 3, in, out) -> y (batch, height, width, out)

    bias (out,), or (batch, out) where each image has its own, is added to y, and residual of y's shape.
    """
    n, height, width, channels = x.shape
    out = weight.shape[3]
    y = np.empty((n, height, width, out), f32)
    bias = np.zeros(out, f32) if bias is None else bias
    u = np.empty((POINTS, point_pitch.function(channels * out)), f32)
    _transform_weight(weight, u, channels, out)
    _forward(Images.of(x), u, Images.of(y), Added(bias, out if bias.ndim > 1 else 0, residual), _group(channels, out))
    return y


def input_gradient(g, weight):
    """g (batch, height, width, out), weight (3, 3, in, out) -> (batch, height, width, in)"""
    return forward(g, np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2)))


def weight_gradient_and_sums(x, g):
    """x (batch, height, width, in), g (batch, height, width, out) -> dw (3, 3, in, out), and each image's sum of g (batch, out)"""
    n, height, width, channels = x.shape
    out = g.shape[3]
    shares = min(count_tiles.function(n, height, width, TILE), get_threads())
    totals, dw = np.empty((shares, POINTS, point_pitch.function(channels * out)), f32), np.empty((3, 3, channels, out), f32)
    sums = np.zeros((shares, n, out), f32)
    _weight(Images.of(x), Images.of(g), totals, sums, _group(channels, out), tasks=shares)
    _finish_weight(totals, shares, dw, channels, out)
    return dw, sums.sum(0)


def weight_gradient(x, g):
    """x (batch, height, width, in), g (batch, height, width, out) -> (3, 3, in, out)"""
    return weight_gradient_and_sums(x, g)[0]
