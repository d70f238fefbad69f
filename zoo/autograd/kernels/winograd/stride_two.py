"""4x4 convolution of stride 2 and padding 1, which halves an image, by Winograd's F(7x7, 2x2) (Lavin & Gray 2015), with both derivatives.

Each of the four places within the stride sees a quarter of the pixels and of the taps: a phase. Within a phase the convolution is one
of 2x2 taps and stride 1, and the output is the sum of the four. 8x8 pixels x of each phase make a tile of 7x7 outputs. Pixels and taps
w are transformed to 64 points; there the convolution is a product point by point, 64 multiplications instead of 196. For each tile,

    y  = A^T [ the sum over phases of (G w G^T) (B^T x B) ] A           forward
    dx = B [ (G w G^T) (A dy A^T) ] B^T, added where tiles overlap       input_gradient, which doubles an image as well
    dw = G^T [ the sum over tiles of (B^T x B) (A dy A^T) ] G            weight_gradient

At each point the tiles, as rows, times the weights are one matrix product. Its left factor is transformed first, for some images at a
time. Then a task takes a few columns of the right factor at a time, from their transform to the outputs, so that they stay in the cache.
"""

import math

import numpy as np

from ...runtime.compiling import Native, address, clear_floats, copy_floats, get_threads, inner, keep_alive, separate
from ...runtime.tasks import floats, part, task
from ...runtime.tiles import COLUMNS, ROWS, WIDTH, _tile_of_columns, _tile_of_rows, pad

f32 = np.float32
TILE, POINTS = 7, 8  # along an axis
SPARE = 16  # floats between the matrices of two points, or all would fall on the same places of a cache
LEFT_FLOATS = 1 << 19  # of the left factor that are there at a time: 2 MB, a share of a third-level cache
TOGETHER = 64  # tiles, or rows of a weight's gradient, whose products are transformed back at a time

_transforms = "zoo.autograd.kernels.winograd.stride_two_transforms"
_input, _input_gradient, _output, _gradient, _weight_in, _weight_out = (
    Native(name, _transforms)
    for name in ("input_tile", "input_gradient_tile", "output_tile", "gradient_tile", "weight_tile", "weight_gradient_tile")
)
_TILE = "void(intp, intp, intp, intp, intp, intp, intp, intp)"


@separate(_TILE)
def input_tile(source, row, column, target, target_row, target_column, bias, channels):
    """B^T x B"""
    _input(source, row, column, target, target_row, target_column, bias, channels)


@separate(_TILE)
def input_gradient_tile(source, row, column, target, target_row, target_column, bias, channels):
    """B v B^T"""
    _input_gradient(source, row, column, target, target_row, target_column, bias, channels)


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


# --- where things lie


@inner
def count_tiles(n, oh, ow):
    return n * ((oh + TILE - 1) // TILE) * ((ow + TILE - 1) // TILE)


@inner
def place_of(tile, oh, ow):
    """The image of a tile, and its first row and column among the outputs."""
    across, each = (ow + TILE - 1) // TILE, count_tiles(1, oh, ow)
    return tile // each, tile % each // across * TILE, tile % each % across * TILE


@inner
def window(x, tile, tiles, step, margin, size, height, width, channels, oh, ow, slab):
    """Address and length of a row of the size x size pixels that belong to a tile, `margin` before its first output's.

    They are in x, or if the image's edge cuts them, in the slab, filled up with zeros. From `tiles` on there are only zeros.
    """
    image, top, left = place_of(tile, oh, ow)
    top, left = step * top - margin if tile < tiles else height, step * left - margin
    if top >= 0 and left >= 0 and top + size <= height and left + size <= width:
        return x + 4 * channels * ((image * height + top) * width + left), 4 * width * channels
    pad(x, image, top, left, height, width, channels, slab, size, size)
    return slab, 4 * size * channels


@inner
def blocks_of(tiles):
    return (tiles + ROWS - 1) // ROWS


@inner
def left_size(tiles, k):
    """Floats from one point to the next in a left factor: (64, blocks, k / WIDTH, ROWS, WIDTH), as its products read it."""
    return blocks_of(tiles) * ROWS * k + SPARE


@inner
def left_place(left, tile, k):
    return left + 4 * (tile // ROWS * ROWS * k + tile % ROWS * WIDTH)


@inner
def tap_place(weight, phase, rows, columns):
    """The first tap of a phase of weight (4, 4, rows, columns); the others are two taps away."""
    return weight + 4 * rows * columns * (4 * (phase // 2) + phase % 2)


# --- the factors at the points


@task
def _transform_input(t, tasks, x, left, n, height, width, channels, oh, ow):
    """left = B^T x B, whose k = 4 in are the channels of the four phases"""
    tiles, k = count_tiles(n, oh, ow), 4 * channels
    point = 4 * left_size(tiles, k)
    slab = np.empty(4 * POINTS * POINTS * channels, f32)
    blocks = blocks_of(tiles)
    for tile in range(part(t, tasks, blocks, 1) * ROWS, part(t + 1, tasks, blocks, 1) * ROWS):
        corner, line = window(x, tile, tiles, 2, 1, 2 * POINTS, height, width, channels, oh, ow, address(slab))
        for phase in range(4):
            source = corner + phase // 2 * line + phase % 2 * 4 * channels
            for c in range(0, channels, WIDTH):
                target = left_place(left, tile, k) + 4 * ROWS * (phase * channels + c)
                input_tile(source + 4 * c, 2 * line, 8 * channels, target, POINTS * point, point, 0, WIDTH)
    keep_alive(slab)


@task
def _transform_gradient(t, tasks, g, left, n, oh, ow, out):
    """left = A g A^T, whose k = out"""
    tiles = count_tiles(n, oh, ow)
    point = 4 * left_size(tiles, out)
    slab = np.empty(TILE * TILE * out, f32)
    blocks = blocks_of(tiles)
    for tile in range(part(t, tasks, blocks, 1) * ROWS, part(t + 1, tasks, blocks, 1) * ROWS):
        corner, line = window(g, tile, tiles, 1, 0, TILE, oh, ow, out, oh, ow, address(slab))
        for o in range(0, out, WIDTH):
            gradient_tile(corner + 4 * o, line, 4 * out, left_place(left, tile, out) + 4 * ROWS * o, POINTS * point, point, 0, WIDTH)
    keep_alive(slab)


@inner
def transform_weight(weight, phase, rows, columns, first, u, point):
    """u (64, rows, COLUMNS) = G w G^T for COLUMNS columns from `first` on of a phase of weight (4, 4, rows, columns)"""
    tap = 4 * rows * columns
    for k in range(rows):
        source = tap_place(weight, phase, rows, columns) + 4 * (k * columns + first)
        weight_tile(source, 8 * tap, 2 * tap, u + 4 * k * COLUMNS, POINTS * point, point, 0, min(COLUMNS, columns - first))


@inner
def multiply(left, u, products, tiles, first, last, k, columns):
    """products (64, tiles, COLUMNS) = left u, of the tiles first ... last; u (64, k, COLUMNS)"""
    sources, targets, zeros = np.empty(ROWS, np.int64), np.empty(ROWS, np.int64), np.zeros(COLUMNS, f32)
    for i in range(ROWS):
        sources[i], targets[i] = 4 * WIDTH * i, 4 * COLUMNS * i
    for point in range(POINTS * POINTS):
        right, target = u + 4 * point * (k * COLUMNS + SPARE), products + 4 * point * (TOGETHER * COLUMNS + SPARE)
        for tile in range(first, last, ROWS):
            _tile_of_rows(address(sources), left_place(left, tile, k) + 4 * point * left_size(tiles, k), k // WIDTH, WIDTH, 4 * ROWS * WIDTH,
                         right, 4 * COLUMNS, address(targets), target + 4 * (tile - first) * COLUMNS, columns, address(zeros))  # fmt: skip
    keep_alive((sources, targets, zeros))


# --- the convolution and its derivatives


@task
def _forward(t, tasks, left, weight, bias, y, n, channels, oh, ow, out, groups):
    """y, COLUMNS of its channels and a group of tiles at a time."""
    tiles, k, pixel = count_tiles(n, oh, ow), 4 * channels, 4 * out
    u, products = np.empty(64 * (k * COLUMNS + SPARE), f32), np.empty(64 * (TOGETHER * COLUMNS + SPARE), f32)
    cut = np.empty(TILE * TILE * COLUMNS, f32)
    point, product, ready = 4 * (k * COLUMNS + SPARE), 4 * (TOGETHER * COLUMNS + SPARE), -1
    units = (out + COLUMNS - 1) // COLUMNS * groups
    for unit in range(part(t, tasks, units, 1), part(t + 1, tasks, units, 1)):
        panel = unit // groups * COLUMNS
        columns = min(COLUMNS, out - panel)
        if panel != ready:
            for phase in range(4):
                transform_weight(weight, phase, channels, out, panel, address(u) + 4 * phase * channels * COLUMNS, point)
            ready = panel
        first, last = part(unit % groups, groups, tiles, ROWS), part(unit % groups + 1, groups, tiles, ROWS)
        multiply(left, address(u), address(products), tiles, first, last, k, columns)
        for tile in range(first, last):
            image, top, edge = place_of(tile, oh, ow)
            source, target = address(products) + 4 * (tile - first) * COLUMNS, y + pixel * ((image * oh + top) * ow + edge) + 4 * panel
            if top + TILE <= oh and edge + TILE <= ow:
                output_tile(source, POINTS * product, product, target, ow * pixel, pixel, bias + 4 * panel, columns)
            else:
                output_tile(source, POINTS * product, product, address(cut), 4 * TILE * COLUMNS, 4 * COLUMNS, bias + 4 * panel, columns)
                for i in range(min(TILE, oh - top)):
                    for j in range(min(TILE, ow - edge)):
                        copy_floats(target + pixel * (i * ow + j), address(cut) + 4 * COLUMNS * (TILE * i + j), columns)
    keep_alive((u, products, cut))


@inner
def put(target, source, n, add):
    a, b = floats(target, n), floats(source, n)
    for i in range(n):
        a[i] = a[i] + b[i] if add else b[i]


@task
def _backward(t, tasks, left, weight, dx, n, height, width, channels, oh, ow, out, groups):
    """dx, COLUMNS channels of a phase and a group of tiles at a time; weight (4, 4, out, in)"""
    tiles, pixel = count_tiles(n, oh, ow), 4 * channels
    u, products = np.empty(64 * (out * COLUMNS + SPARE), f32), np.empty(64 * (TOGETHER * COLUMNS + SPARE), f32)
    pixels = np.empty(POINTS * POINTS * COLUMNS, f32)
    point, product, ready = 4 * (out * COLUMNS + SPARE), 4 * (TOGETHER * COLUMNS + SPARE), -1
    units = 4 * ((channels + COLUMNS - 1) // COLUMNS) * groups
    for unit in range(part(t, tasks, units, 1), part(t + 1, tasks, units, 1)):
        phase, panel = unit // groups % 4, unit // groups // 4 * COLUMNS
        columns = min(COLUMNS, channels - panel)
        if unit // groups != ready:
            transform_weight(weight, phase, out, channels, panel, address(u), point)
            ready = unit // groups
        first, last = part(unit % groups, groups, tiles, ROWS), part(unit % groups + 1, groups, tiles, ROWS)
        multiply(left, address(u), address(products), tiles, first, last, out, columns)
        for tile in range(first, last):
            input_gradient_tile(address(products) + 4 * (tile - first) * COLUMNS, POINTS * product, product,
                                address(pixels), 4 * POINTS * COLUMNS, 4 * COLUMNS, 0, columns)  # fmt: skip
            image, top, edge = place_of(tile, oh, ow)
            for i in range(POINTS):
                for j in range(POINTS):
                    row, column = 2 * (top + i) + phase // 2 - 1, 2 * (edge + j) + phase % 2 - 1
                    if 0 <= row < height and 0 <= column < width:
                        target = dx + pixel * ((image * height + row) * width + column) + 4 * panel
                        overlap = (i == 0 and top > 0) or (j == 0 and edge > 0)
                        put(target, address(pixels) + 4 * COLUMNS * (POINTS * i + j), columns, overlap)
    keep_alive((u, products, pixels))


@task
def _weight_gradient(t, tasks, left, g, dw, n, channels, oh, ow, out):
    """dw, COLUMNS of its columns and TOGETHER of its rows at a time."""
    tiles, k = count_tiles(n, oh, ow), 4 * channels
    blocks, tap = blocks_of(tiles), 4 * channels * out
    size = blocks * ROWS * COLUMNS + SPARE
    gradients, products = np.empty(64 * size, f32), np.empty(64 * (TOGETHER * COLUMNS + SPARE), f32)
    slab, offsets = np.empty(TILE * TILE * out, f32), np.empty(k, np.int64)
    product, ready = 4 * (TOGETHER * COLUMNS + SPARE), -1
    for i in range(k):
        offsets[i] = 4 * (i // WIDTH * WIDTH * ROWS + i % WIDTH)
    groups = (k + TOGETHER - 1) // TOGETHER
    units = (out + COLUMNS - 1) // COLUMNS * groups
    for unit in range(part(t, tasks, units, 1), part(t + 1, tasks, units, 1)):
        panel = unit // groups * COLUMNS
        columns = min(COLUMNS, out - panel)
        if panel != ready:
            for tile in range(blocks * ROWS):
                corner, line = window(g, tile, tiles, 1, 0, TILE, oh, ow, out, oh, ow, address(slab))
                target = address(gradients) + 4 * tile * COLUMNS
                gradient_tile(corner + 4 * panel, line, 4 * out, target, 4 * POINTS * size, 4 * size, 0, columns)
            ready = panel
        first, last = part(unit % groups, groups, k, WIDTH), part(unit % groups + 1, groups, k, WIDTH)
        clear_floats(address(products), products.size)
        for point in range(POINTS * POINTS):
            for i in range(first, last, ROWS):
                _tile_of_columns(left + 4 * point * left_size(tiles, k), address(offsets) + 8 * i, ROWS, address(gradients) + 4 * point * size,
                                address(products) + point * product + 4 * (i - first) * COLUMNS, 4 * COLUMNS, blocks, 4 * ROWS * k,
                                4 * ROWS * COLUMNS, ROWS, 4 * WIDTH, 4 * COLUMNS, columns)  # fmt: skip
        for i in range(first, last):
            target = tap_place(dw, i // channels, channels, out) + 4 * (i % channels * out + panel)
            source = address(products) + 4 * (i - first) * COLUMNS
            weight_gradient_tile(source, POINTS * product, product, target, 8 * tap, 2 * tap, 0, columns)
    keep_alive((gradients, products, slab, offsets))


# --- on arrays


def serves(weight_shape, stride, padding, shape):
    """Whether a convolution is of this kind, and its outputs, of this shape, fill enough tiles to be worth the transforms."""
    kh, kw, channels, out = weight_shape
    n, oh, ow, _ = shape
    if (kh, kw, *stride, *padding) != (4, 4, 2, 2, 1, 1) or channels % 16 or out % 16 or min(oh, ow) < 1:
        return False
    return 35 * (_tiles(n, oh, ow) + 4) <= n * oh * ow  # a full tile has 49 outputs; the weight's transform costs as much as 4 tiles


def forward(x, weight, bias, shape):
    """x (batch, height, width, in), weight (4, 4, in, out), bias (out,) or None -> y, whose shape is given"""
    _, oh, ow, out = shape
    channels, y = weight.shape[2], np.empty(shape, f32)
    bias = np.zeros(out, f32) if bias is None else bias
    for images, left, tiles in _parts(shape, 4 * channels):
        some = x[images]
        _transform_input(some, left, *some.shape, oh, ow)
        _forward(left, weight, bias, y[images], len(some), channels, oh, ow, out, _groups(tiles, out))
    return y


def input_gradient(g, weight, shape):
    """g (batch, out height, out width, out), weight (4, 4, in, out) -> dx, whose shape is given"""
    _, oh, ow, out = g.shape
    weight, dx = np.ascontiguousarray(weight.transpose(0, 1, 3, 2)), np.empty(shape, f32)
    for images, left, tiles in _parts(g.shape, out):
        some = dx[images]
        _transform_gradient(g[images], left, len(some), oh, ow, out)
        _backward(left, weight, some, *some.shape, oh, ow, out, _groups(tiles, 4 * shape[3]))
    return dx


def weight_gradient(x, g):
    """x (batch, height, width, in), g (batch, out height, out width, out) -> (4, 4, in, out)"""
    _, oh, ow, out = g.shape
    channels = x.shape[3]
    total = None
    for images, left, _ in _parts(g.shape, 4 * channels):
        some, dw = x[images], np.empty((4, 4, channels, out), f32)
        _transform_input(some, left, *some.shape, oh, ow)
        _weight_gradient(left, g[images], dw, len(some), channels, oh, ow, out)
        total = dw if total is None else np.add(total, dw, out=total)
    return total


def _tiles(n, oh, ow):
    return n * -(-oh // TILE) * -(-ow // TILE)


def _parts(shape, k):
    """For as many images at a time as stay in the cache: which, an empty left factor, the number of tiles."""
    n, oh, ow, _ = shape
    together = max(1, LEFT_FLOATS // (POINTS * POINTS * k * _tiles(1, oh, ow)))
    left = np.empty(POINTS * POINTS * (-(-_tiles(together, oh, ow) // 16) * 16 * k + SPARE), f32)  # whole blocks of tiles: ROWS divides 16
    for first in range(0, n, together):
        images = slice(first, min(n, first + together))
        yield images, left, _tiles(images.stop - first, oh, ow)


def _groups(tiles, columns):
    """Into how many groups of up to TOGETHER tiles: such that all threads have as much to do, unless the groups became small."""
    least, threads = -(-tiles // TOGETHER), get_threads()
    share = threads // math.gcd(threads, -(-columns // 32))
    return min(-(-least // share) * share, max(least, -(-tiles // 16)))
