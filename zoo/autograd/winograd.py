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

from .runtime import Native, address, gemm, get_threads, inner, kernel, prange, separate

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
def _copy_window(x, image, top, left, window):
    """window[i, j] = x[image, top + i, left + j], zero outside the image."""
    _, height, width, channels = x.shape
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            h, w = top + i, left + j
            if 0 <= h < height and 0 <= w < width:
                for c in range(channels):
                    window[i, j, c] = x[image, h, w, c]
            else:
                for c in range(channels):
                    window[i, j, c] = f32(0)


@inner
def _transform_group(tile, x, size, margin, first, last, across, down, points, window):
    """points[:, :, t] = the transform of tile `first + t` of x: `size` = 6 or 4 pixels wide, starting `margin` pixels early.

    `tile` is `input_tile` or `gradient_tile`; points (36, tiles, channels).
    """
    _, height, width, channels = x.shape
    pixel = 4 * channels
    point = 4 * channels * points.shape[1]
    for t in range(first, last):
        image, place = t // (across * down), t % (across * down)
        top, left = 4 * (place // across) - margin, 4 * (place % across) - margin
        target = address(points) + (t - first) * pixel
        if 0 <= top and top + size <= height and 0 <= left and left + size <= width:
            source = address(x) + ((image * height + top) * width + left) * pixel
            tile(source, width * pixel, pixel, target, 6 * point, point, 0, channels)
        else:
            _copy_window(x, image, top, left, window)
            tile(address(window), size * pixel, pixel, target, 6 * point, point, 0, channels)


@inner
def _output_group(points, bias, y, first, last, across, down, window):
    """The 4x4 outputs of each tile of a group, with the bias added: points (36, tiles, out) -> y."""
    _, height, width, channels = y.shape
    pixel = 4 * channels
    point = 4 * channels * points.shape[1]
    for t in range(first, last):
        image, place = t // (across * down), t % (across * down)
        top, left = 4 * (place // across), 4 * (place % across)
        source = address(points) + (t - first) * pixel
        if top + 4 <= height and left + 4 <= width:
            target = address(y) + ((image * height + top) * width + left) * pixel
            output_tile(source, 6 * point, point, target, width * pixel, pixel, address(bias), channels)
        else:
            output_tile(source, 6 * point, point, address(window), 4 * pixel, pixel, address(bias), channels)
            for i in range(min(4, height - top)):
                for j in range(min(4, width - left)):
                    for c in range(channels):
                        y[image, top + i, left + j, c] = window[i, j, c]


@kernel
def _forward(x, weight, bias, y, group):
    """weight (3, 3, in, out)"""
    n, height, width, channels = x.shape
    out = y.shape[3]
    across, down = (width + 3) // 4, (height + 3) // 4
    tiles = n * across * down
    u = np.empty((36, channels, out), f32)
    row = 4 * channels * out
    for c in prange(channels):
        at = 4 * c * out
        weight_tile(address(weight) + at, 3 * row, row, address(u) + at, 6 * row, row, 0, out)
    for g in prange((tiles + group - 1) // group):
        first, last = g * group, min(tiles, g * group + group)
        m = last - first
        v = np.empty((36, m, channels), f32)
        products = np.empty((36, m, out), f32)
        _transform_group(input_tile, x, 6, 1, first, last, across, down, v, np.empty((6, 6, channels), f32))
        for k in range(36):
            gemm(False, False, m, out, channels, f32(1), address(v) + 4 * k * m * channels, channels,
                 address(u) + k * row, out, f32(0), address(products) + 4 * k * m * out, out)  # fmt: skip
        _output_group(products, bias, y, first, last, across, down, np.empty((4, 4, out), f32))


@kernel
def _weight(x, g, partial, dw, group):
    """partial (shares, 36, in, out): each share of the tiles is summed on its own, then the shares in order."""
    n, height, width, channels = x.shape
    out = g.shape[3]
    across, down = (width + 3) // 4, (height + 3) // 4
    tiles = n * across * down
    shares = partial.shape[0]
    row = 4 * channels * out
    for share in prange(shares):
        begin, end = tiles * share // shares, tiles * (share + 1) // shares
        v = np.empty((36, group, channels), f32)
        dm = np.empty((36, group, out), f32)
        window_in, window_out = np.empty((6, 6, channels), f32), np.empty((4, 4, out), f32)
        total = address(partial) + share * 36 * row
        for first in range(begin, end, group):
            last = min(end, first + group)
            _transform_group(input_tile, x, 6, 1, first, last, across, down, v, window_in)
            _transform_group(gradient_tile, g, 4, 0, first, last, across, down, dm, window_out)
            for k in range(36):
                gemm(True, False, channels, out, last - first, f32(1), address(v) + 4 * k * group * channels, channels,
                     address(dm) + 4 * k * group * out, out, f32(first > begin), total + k * row, out)  # fmt: skip
    for c in prange(channels):
        at = 4 * c * out
        for share in range(1, shares):
            for k in range(36):
                for o in range(out):
                    partial[0, k, c, o] += partial[share, k, c, o]
        weight_gradient_tile(address(partial) + at, 6 * row, row, address(dw) + at, 3 * row, row, 0, out)


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
    _forward(x, weight, bias, y, _group(n * -(-height // 4) * -(-width // 4), channels, out))
    return y


def input_gradient(g, weight):
    """g (batch, height, width, out), weight (3, 3, in, out) -> (batch, height, width, in)"""
    return forward(g, np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2)), None)


def weight_gradient(x, g):
    """x (batch, height, width, in), g (batch, height, width, out) -> (3, 3, in, out)"""
    n, height, width, channels = x.shape
    out = g.shape[3]
    partial, dw = np.empty((get_threads(), 36, channels, out), f32), np.empty((3, 3, channels, out), f32)
    tiles = n * -(-height // 4) * -(-width // 4)
    _weight(x, g, partial, dw, _group(tiles, channels, out))
    return dw
