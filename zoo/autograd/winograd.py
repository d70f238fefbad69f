"""3x3 convolution, stride 1, padding 1, by Winograd's F(4x4, 3x3) (Lavin & Gray 2015), with both derivatives.

A tile of 6x6 inputs gives 4x4 outputs. Both it and the weight are transformed to 36 points; there the convolution is a product point by
point, which over all channels is 36 small matrix products: 36 multiplications instead of 144 for each 16 outputs. Written with the
paper's matrices, for each tile,

    y  = A^T [ (G w G^T) (B^T x B) ] A            conv2d_forward
    dx = the same with the taps reversed and in and out exchanged                        (conv2d_input)
    dw = G^T [ sum over tiles of (B^T x B)^T (A dy A^T) ] G                               (conv2d_weight)

A group of tiles stays in a core's second-level cache from its transform to its outputs.
"""

import numpy as np

from .runtime import Native, address, clear_floats, copy_floats, get_threads, inner, keep_alive, separate
from .tasks import floats, part, task
from .tiles import multiply_columns, multiply_rows, table_size

f32 = np.float32
CACHE_BYTES = 1 << 20

_transforms = "zoo.autograd.winograd_transforms"
_input, _output, _gradient, _weight_in, _weight_out = (
    Native(name, _transforms) for name in ("input_tile", "output_tile", "gradient_tile", "weight_tile", "weight_gradient_tile")
)
_TILE = "void(intp, intp, intp, intp, intp, intp, intp, intp)"


@separate(_TILE)
def input_tile(source, row, column, target, target_row, target_column, bias, channels):
    """B^T x B"""
    _input(source, row, column, target, target_row, target_column, bias, channels)


@separate(_TILE)
def output_tile(source, row, column, target, target_row, target_column, bias, channels):
    """A^T y A + bias"""
    _output(source, row, column, target, target_row, target_column, bias, channels)


@separate(_TILE)
def gradient_tile(source, row, column, target, target_row, target_column, bias, channels):
    """A dy A^T"""
    _gradient(source, row, column, target, target_row, target_column, bias, channels)


@separate(_TILE)
def weight_tile(source, row, column, target, target_row, target_column, bias, channels):
    """G w G^T"""
    _weight_in(source, row, column, target, target_row, target_column, bias, channels)


@separate(_TILE)
def weight_gradient_tile(source, row, column, target, target_row, target_column, bias, channels):
    """G^T du G"""
    _weight_out(source, row, column, target, target_row, target_column, bias, channels)


@inner
def _transform_group(tile, x, size, margin, height, width, channels, first, last, points, stored):
    """points[:, t] = the transform of tile `first + t` of x: `size` = 6 or 4 pixels wide, starting `margin` pixels early.

    `tile` is `input_tile` or `gradient_tile`; x and points (36, stored, channels) are addresses.
    """
    across, down = (width + 3) // 4, (height + 3) // 4
    pixel = 4 * channels
    window = np.empty(size * size * channels, f32)          # a tile that the image's edge cuts, filled up with zeros
    for t in range(first, last):
        image, place = t // (across * down), t % (across * down)
        top, left = 4 * (place // across) - margin, 4 * (place % across) - margin
        corner = x + ((image * height + top) * width + left) * pixel
        row = width * pixel
        if top < 0 or top + size > height or left < 0 or left + size > width:
            clear_floats(address(window), size * size * channels)
            skip = max(0, -left)
            for i in range(max(0, -top), min(size, height - top)):
                target = address(window) + (i * size + skip) * pixel
                copy_floats(target, corner + i * row + skip * pixel, (min(size, width - left) - skip) * channels)
            corner, row = address(window), size * pixel
        tile(corner, row, pixel, points + (t - first) * pixel, 6 * stored * pixel, stored * pixel, 0, channels)
    keep_alive(window)


@inner
def _forward_group(x, u, bias, y, height, width, channels, out, first, last):
    """The tiles first ... last of y, from the transformed weight u (36, in, out)."""
    across, down = (width + 3) // 4, (height + 3) // 4
    tiles = last - first
    points, products = np.empty(36 * tiles * channels, f32), np.empty(36 * tiles * out, f32)
    window = np.empty(16 * out, f32)
    _transform_group(input_tile, x, 6, 1, height, width, channels, first, last, address(points), tiles)
    sources, targets, zeros = np.empty(table_size(tiles), np.int64), np.empty(table_size(tiles), np.int64), np.zeros(out, f32)
    for t in range(len(sources)):
        sources[t] = address(points) + 4 * channels * min(t, tiles - 1)
        targets[t] = address(products) + 4 * out * min(t, tiles - 1)
    for k in range(36):
        multiply_rows(address(sources), 4 * channels * tiles * k, 1, channels, 0, u + 4 * k * channels * out,
                      address(targets), 4 * out * tiles * k, tiles, out, address(zeros))  # fmt: skip
    pixel = 4 * out
    for t in range(first, last):
        image, place = t // (across * down), t % (across * down)
        top, left = 4 * (place // across), 4 * (place % across)
        source, corner = address(products) + (t - first) * pixel, y + ((image * height + top) * width + left) * pixel
        cut = top + 4 > height or left + 4 > width
        target, row = (address(window), 4 * pixel) if cut else (corner, width * pixel)
        output_tile(source, 6 * tiles * pixel, tiles * pixel, target, row, pixel, bias, out)
        if cut:
            for i in range(min(4, height - top)):
                copy_floats(corner + i * width * pixel, address(window) + i * row, min(4, width - left) * out)
    keep_alive((window, points, products, sources, targets, zeros))


@task
def _transform_weight(t, tasks, weight, u, channels, out):
    """u (36, in, out) = G w G^T"""
    row = 4 * channels * out
    for c in range(part(t, tasks, channels, 1), part(t + 1, tasks, channels, 1)):
        at = 4 * c * out
        weight_tile(weight + at, 3 * row, row, u + at, 6 * row, row, 0, out)


@task
def _forward(t, tasks, x, u, bias, y, n, height, width, channels, out, group):
    """x (batch, height, width, in), u (36, in, out), y (batch, height, width, out)"""
    tiles = n * ((width + 3) // 4) * ((height + 3) // 4)
    for first in range(part(t, tasks, tiles, group), part(t + 1, tasks, tiles, group), group):
        _forward_group(x, u, bias, y, height, width, channels, out, first, min(tiles, first + group))


@task
def _weight(t, tasks, x, g, totals, n, height, width, channels, out, group):
    """totals[t] (36, in, out) = the sum over a share of the tiles of (B^T x B)^T (A g A^T)."""
    tiles = n * ((width + 3) // 4) * ((height + 3) // 4)
    begin, end = part(t, tasks, tiles, 1), part(t + 1, tasks, tiles, 1)
    total = totals + 4 * 36 * t * channels * out
    points, gradients = np.empty(36 * group * channels, f32), np.empty(36 * group * out, f32)
    offsets = np.empty(table_size(channels), np.int64)
    for c in range(len(offsets)):
        offsets[c] = 4 * min(c, channels - 1)
    clear_floats(total, 36 * channels * out)
    for first in range(begin, end, group):
        last = min(end, first + group)
        _transform_group(input_tile, x, 6, 1, height, width, channels, first, last, address(points), group)
        _transform_group(gradient_tile, g, 4, 0, height, width, out, first, last, address(gradients), group)
        for k in range(36):
            v, dm = address(points) + 4 * k * group * channels, address(gradients) + 4 * k * group * out
            target = total + 4 * k * channels * out
            multiply_columns(v, address(offsets), channels, dm, target, out, 1, 0, 0, last - first, 4 * channels, 4 * out)
    keep_alive((points, gradients, offsets))


@task
def _finish_weight(t, tasks, totals, shares, dw, channels, out):
    """dw (3, 3, in, out) = G^T (the sum of the shares, in order) G"""
    row = 4 * channels * out
    for c in range(part(t, tasks, channels, 1), part(t + 1, tasks, channels, 1)):
        at = 4 * c * out
        for k in range(36):
            target = floats(totals + k * row + at, out)
            for share in range(1, shares):
                source = floats(totals + (36 * share + k) * row + at, out)
                for o in range(out):
                    target[o] += source[o]
        weight_gradient_tile(totals + at, 6 * row, row, dw + at, 3 * row, row, 0, out)


def _group(tiles, channels, out):
    """How many tiles at a time: what half the cache holds, but enough groups to share them evenly among the threads."""
    fits = max(16, CACHE_BYTES // 2 // (4 * 36 * (channels + out)))
    threads = get_threads()
    rounds = -(-tiles // (fits * threads))
    return -(-tiles // (rounds * threads))


def forward(x, weight, bias):
    """x (batch, height, width, in), weight (3, 3, in, out), bias (out,) or None -> (batch, height, width, out)"""
    n, height, width, channels = x.shape
    out = weight.shape[3]
    y = np.empty((n, height, width, out), f32)
    bias = np.zeros(out, f32) if bias is None else bias
    u = np.empty((36, channels, out), f32)
    _transform_weight(weight, u, channels, out)
    _forward(x, u, bias, y, n, height, width, channels, out, _group(n * -(-height // 4) * -(-width // 4), channels, out))
    return y


def input_gradient(g, weight):
    """g (batch, height, width, out), weight (3, 3, in, out) -> (batch, height, width, in)"""
    return forward(g, np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2)), None)


def weight_gradient(x, g):
    """x (batch, height, width, in), g (batch, height, width, out) -> (3, 3, in, out)"""
    n, height, width, channels = x.shape
    out = g.shape[3]
    tiles = n * -(-height // 4) * -(-width // 4)
    shares = min(tiles, get_threads())
    totals, dw = np.empty((shares, 36, channels, out), f32), np.empty((3, 3, channels, out), f32)
    _weight(x, g, totals, n, height, width, channels, out, _group(tiles, channels, out), tasks=shares)
    _finish_weight(totals, shares, dw, channels, out)
    return dw
