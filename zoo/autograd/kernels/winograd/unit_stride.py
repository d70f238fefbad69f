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

from ...runtime.compiling import Native, address, clear_floats, get_threads, inner, keep_alive, separate
from ...runtime.tasks import floats, part, task
from ...runtime.tiles import multiply_columns, multiply_rows, table_size
from ..arithmetic import add_to

f32 = np.float32
CACHE_BYTES = 1 << 20

_transforms = "zoo.autograd.kernels.winograd.transforms"
_input, _output, _gradient, _weight_in, _weight_out = (
    Native(name, _transforms) for name in ("input_tile", "output_tile", "gradient_tile", "weight_tile", "weight_gradient_tile")
)
_TILE, _PICTURE = (f"void({', '.join(['intp'] * n)})" for n in (8, 10))


@separate(_PICTURE)
def input_tile(source, row, column, target, target_row, target_column, channels, inside, bias, residual):
    """B^T x B"""
    _input(source, row, column, target, target_row, target_column, channels, inside, bias, residual)


@separate(_PICTURE)
def output_tile(source, row, column, target, target_row, target_column, channels, inside, bias, residual):
    """A^T y A + bias + residual"""
    _output(source, row, column, target, target_row, target_column, channels, inside, bias, residual)


@separate(_PICTURE)
def gradient_tile(source, row, column, target, target_row, target_column, channels, inside, bias, residual):
    """A dy A^T"""
    _gradient(source, row, column, target, target_row, target_column, channels, inside, bias, residual)


@separate(_TILE)
def weight_tile(source, row, column, target, target_row, target_column, bias, channels):
    """G w G^T"""
    _weight_in(source, row, column, target, target_row, target_column, bias, channels)


@separate(_TILE)
def weight_gradient_tile(source, row, column, target, target_row, target_column, bias, channels):
    """G^T du G"""
    _weight_out(source, row, column, target, target_row, target_column, bias, channels)


@inner
def spaced(count):
    """Bytes from one point's `count` floats to the next point's: an odd number of cache lines, for the 36 points of a tile are written
    together, and in a cache lines a power of two apart displace each other."""
    return 64 * ((count + 15) // 16 | 1)


@inner
def _inside(top, left, size, height, width):
    """Which pixels of a tile lie in the image: bit a for row a, bit 8 + b for column b."""
    rows = (1 << min(size, height - top)) - (1 << max(0, -top))
    columns = (1 << min(size, width - left)) - (1 << max(0, -left))
    return rows | columns << 8


@inner
def _transform_group(tile, x, size, margin, height, width, channels, first, last, points, line):
    """points[:, t] = the transform of tile `first + t` of x: `size` = 6 or 4 pixels wide, starting `margin` pixels early.

    `tile` is `input_tile` or `gradient_tile`; x and points (36, tiles, channels) are addresses, `line` is the bytes of a point.
    """
    across, down = (width + 3) // 4, (height + 3) // 4
    pixel = 4 * channels
    for t in range(first, last):
        image, place = t // (across * down), t % (across * down)
        top, left = 4 * (place // across) - margin, 4 * (place % across) - margin
        corner = x + ((image * height + top) * width + left) * pixel
        inside = _inside(top, left, size, height, width)
        tile(corner, width * pixel, pixel, points + (t - first) * pixel, 6 * line, line, channels, inside, 0, 0)


@inner
def _forward_group(x, u, bias, bias_step, residual, y, height, width, channels, out, first, last):
    """The tiles first ... last of y, from the transformed weight u (36, in, out). `residual` is the bytes from y to what is added to it."""
    across, down = (width + 3) // 4, (height + 3) // 4
    tiles = last - first
    line, product_line = spaced(tiles * channels), spaced(tiles * out)
    points, products = np.empty(9 * line, f32), np.empty(9 * product_line, f32)
    _transform_group(input_tile, x, 6, 1, height, width, channels, first, last, address(points), line)
    sources, targets, zeros = np.empty(table_size(tiles), np.int64), np.empty(table_size(tiles), np.int64), np.zeros(out, f32)
    for t in range(len(sources)):
        sources[t] = address(points) + 4 * channels * min(t, tiles - 1)
        targets[t] = address(products) + 4 * out * min(t, tiles - 1)
    for k in range(36):
        multiply_rows(address(sources), line * k, 1, channels, 0, u + spaced(channels * out) * k,
                      address(targets), product_line * k, tiles, out, address(zeros))  # fmt: skip
    pixel = 4 * out
    for t in range(first, last):
        image, place = t // (across * down), t % (across * down)
        top, left = 4 * (place // across), 4 * (place % across)
        target = y + ((image * height + top) * width + left) * pixel
        output_tile(address(products) + (t - first) * pixel, 6 * product_line, product_line, target, width * pixel, pixel, out,
                    _inside(top, left, 4, height, width), bias + image * bias_step, residual)  # fmt: skip
    keep_alive((points, products, sources, targets, zeros))


@task
def _transform_weight(t, tasks, weight, u, channels, out):
    """u (36, in, out) = G w G^T"""
    row, line = 4 * channels * out, spaced(channels * out)
    for c in range(part(t, tasks, channels, 1), part(t + 1, tasks, channels, 1)):
        at = 4 * c * out
        weight_tile(weight + at, 3 * row, row, u + at, 6 * line, line, 0, out)


@task
def _forward(t, tasks, x, u, bias, bias_step, residual, y, n, height, width, channels, out, group):
    """x (batch, height, width, in), u (36, in, out), y and residual (batch, height, width, out); bias_step: from one image's to the next's"""
    tiles = n * ((width + 3) // 4) * ((height + 3) // 4)
    last = part(t + 1, tasks, tiles, 8)
    for first in range(part(t, tasks, tiles, 8), last, group):
        _forward_group(x, u, bias, bias_step, residual - y if residual else 0, y, height, width, channels, out, first, min(last, first + group))


@task
def _weight(t, tasks, x, g, totals, sums, n, height, width, channels, out, group):
    """totals[t] (36, in, out) = the sum over a share of the tiles of (B^T x B)^T (A g A^T); to sums[t] (batch, out) that of g is added."""
    tiles = n * ((width + 3) // 4) * ((height + 3) // 4)
    begin, end = part(t, tasks, tiles, 1), part(t + 1, tasks, tiles, 1)
    line, gradient_line, total_line = spaced(group * channels), spaced(group * out), spaced(channels * out)
    total = totals + 36 * t * total_line
    points, gradients = np.empty(9 * line, f32), np.empty(9 * gradient_line, f32)
    offsets = np.empty(table_size(channels), np.int64)
    for c in range(len(offsets)):
        offsets[c] = 4 * min(c, channels - 1)
    clear_floats(total, 9 * total_line)
    for first in range(begin, end, group):
        last = min(end, first + group)
        _transform_group(input_tile, x, 6, 1, height, width, channels, first, last, address(points), line)
        _transform_group(gradient_tile, g, 4, 0, height, width, out, first, last, address(gradients), gradient_line)
        for i in range(first, last):
            image = i // (tiles // n)
            whole = address(gradients) + 7 * gradient_line + 4 * (i - first) * out      # the point where all of a tile's pixels count 1
            add_to(floats(sums + 4 * (t * n + image) * out, out), floats(whole, out))
        for k in range(36):
            v, dm, target = address(points) + k * line, address(gradients) + k * gradient_line, total + k * total_line
            multiply_columns(v, address(offsets), channels, dm, target, out, 1, 0, 0, last - first, 4 * channels, 4 * out)
    keep_alive((points, gradients, offsets))


@task
def _finish_weight(t, tasks, totals, shares, dw, channels, out):
    """dw (3, 3, in, out) = G^T (the sum of the shares, in order) G"""
    row, line = 4 * channels * out, spaced(channels * out)
    for c in range(part(t, tasks, channels, 1), part(t + 1, tasks, channels, 1)):
        at = 4 * c * out
        for k in range(36):
            target = floats(totals + k * line + at, out)
            for share in range(1, shares):
                source = floats(totals + (36 * share + k) * line + at, out)
                for o in range(out):
                    target[o] += source[o]
        weight_gradient_tile(totals + at, 6 * line, line, dw + at, 3 * row, row, 0, out)


def _group(channels, out):
    """How many tiles at a time: what half the cache holds, and fills the registers of a product."""
    return max(16, CACHE_BYTES // 2 // (4 * 36 * (channels + out)) // 8 * 8)


def forward(x, weight, bias=None, residual=None):
    """x (batch, height, width, in), weight (3, 3, in, out) -> y (batch, height, width, out)

    bias (out,), or (batch, out) where each image has its own, is added to y, and residual of y's shape.
    """
    n, height, width, channels = x.shape
    out = weight.shape[3]
    y = np.empty((n, height, width, out), f32)
    bias = np.zeros(out, f32) if bias is None else bias
    u = np.empty(9 * spaced.function(channels * out), f32)
    _transform_weight(weight, u, channels, out)
    bias_step = 4 * out if bias.ndim > 1 else 0
    _forward(x, u, bias, bias_step, residual, y, n, height, width, channels, out, _group(channels, out))
    return y


def input_gradient(g, weight):
    """g (batch, height, width, out), weight (3, 3, in, out) -> (batch, height, width, in)"""
    return forward(g, np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2)))


def weight_gradient_and_sums(x, g):
    """x (batch, height, width, in), g (batch, height, width, out) -> dw (3, 3, in, out), and each image's sum of g (batch, out)"""
    n, height, width, channels = x.shape
    out = g.shape[3]
    shares = min(n * -(-height // 4) * -(-width // 4), get_threads())
    totals, dw = np.empty((shares, 9 * spaced.function(channels * out)), f32), np.empty((3, 3, channels, out), f32)
    sums = np.zeros((shares, n, out), f32)
    _weight(x, g, totals, sums, n, height, width, channels, out, _group(channels, out), tasks=shares)
    _finish_weight(totals, shares, dw, channels, out)
    return dw, sums.sum(0)


def weight_gradient(x, g):
    """x (batch, height, width, in), g (batch, height, width, out) -> (3, 3, in, out)"""
    return weight_gradient_and_sums(x, g)[0]
