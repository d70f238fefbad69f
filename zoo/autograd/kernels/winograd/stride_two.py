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

from __future__ import annotations

import math

import numpy as np

from ...runtime.compiling import inner
from ...runtime.native import COLUMNS, ROWS, WIDTH, address, clear_floats, copy_floats, floats, keep_alive
from ...runtime.tasks import at, part, row_address, task, word_at
from ...runtime.threads import get_threads
from ...runtime.tiles import tile_of_columns, tile_of_rows
from ..images import Images, pad, pixel
from .tiles import count_tiles, tile_corner, tile_transform

f32 = np.float32
TILE, POINTS = 7, 8  # outputs, and points of the transform, along an axis of a tile
TAPS, PHASES = 4, 4  # taps along an axis; phases of pixels and taps
SPARE_FLOATS = 16  # between the matrices of two points, or all would fall on the same places of a cache
LEFT_FLOATS = 1 << 19  # of the left factor that are there at a time: 2 MB, a share of a third-level cache
GROUP_ROWS = 64  # tiles, or rows of a weight's gradient, whose products are transformed back at a time

_file = "stride_two_transforms"
input_tile = tile_transform("input_tile", _file)  # B^T x B
input_gradient_tile = tile_transform("input_gradient_tile", _file)  # B v B^T
output_tile = tile_transform("output_tile", _file)  # A^T y A + bias
gradient_tile = tile_transform("gradient_tile", _file)  # A dy A^T
weight_tile = tile_transform("weight_tile", _file)  # G w G^T
weight_gradient_tile = tile_transform("weight_gradient_tile", _file)  # G^T du G


# --- where things lie


@inner
def window(images, tile, tiles, step, margin, size, oh, ow, slab):
    """Address of the size x size pixels that belong to a tile, `margin` before its first output's, and the pitch of their rows.

    They are in the image, or if its edge cuts them, in the slab, filled up with zeros. From `tiles` on there are only zeros.
    """
    image, top, left = tile_corner(tile, oh, ow, TILE)
    top, left = step * top - margin if tile < tiles else images.height, step * left - margin
    if top >= 0 and left >= 0 and top + size <= images.height and left + size <= images.width:
        return pixel(images, image, top, left), images.width * images.channels
    pad(images, image, top, left, slab, size, size)
    return slab, size * images.channels


@inner
def blocks_of(tiles):
    return (tiles + ROWS - 1) // ROWS


@inner
def left_pitch(tiles, k):
    """Floats from one point to the next in a left factor: (64, blocks, k / WIDTH, ROWS, WIDTH), as its products read it."""
    return blocks_of(tiles) * ROWS * k + SPARE_FLOATS


@inner
def left_offset(tile, k):
    """Floats from a point of a left factor to the k numbers of a tile; those from c on, a multiple of WIDTH, lie ROWS c further."""
    return tile // ROWS * ROWS * k + tile % ROWS * WIDTH


@inner
def right_pitch(rows):
    """Floats from one point to the next in a right factor, and in products, of so many rows of COLUMNS."""
    return rows * COLUMNS + SPARE_FLOATS


@inner
def tap_place(weight, phase, rows, columns):
    """The first tap of a phase of weight (4, 4, rows, columns); the others are two taps away."""
    return row_address(weight, TAPS * (phase // 2) + phase % 2, rows * columns)


# --- the factors at the points


@task
def _transform_input(t, tasks, x: Images, left, oh, ow):
    """left = B^T x B, whose k = 4 in are the channels of the four phases"""
    channels, tiles, k = x.channels, count_tiles(x.batch, oh, ow, TILE), PHASES * x.channels
    point = left_pitch(tiles, k)
    slab = np.empty(PHASES * POINTS * POINTS * channels, f32)
    blocks = blocks_of(tiles)
    for tile in range(part(t, tasks, blocks, 1) * ROWS, part(t + 1, tasks, blocks, 1) * ROWS):
        corner, pitch = window(x, tile, tiles, 2, 1, 2 * POINTS, oh, ow, address(slab))
        for phase in range(PHASES):
            source = at(corner, phase // 2 * pitch + phase % 2 * channels)
            for c in range(0, channels, WIDTH):
                target = at(left, left_offset(tile, k) + ROWS * (phase * channels + c))
                input_tile(at(source, c), 2 * pitch, 2 * channels, target, POINTS * point, point, 0, WIDTH)
    keep_alive(slab)


@task
def _transform_gradient(t, tasks, g: Images, left):
    """left = A g A^T, whose k = out"""
    out, tiles = g.channels, count_tiles(g.batch, g.height, g.width, TILE)
    point = left_pitch(tiles, out)
    slab = np.empty(TILE * TILE * out, f32)
    blocks = blocks_of(tiles)
    for tile in range(part(t, tasks, blocks, 1) * ROWS, part(t + 1, tasks, blocks, 1) * ROWS):
        corner, pitch = window(g, tile, tiles, 1, 0, TILE, g.height, g.width, address(slab))
        for o in range(0, out, WIDTH):
            gradient_tile(at(corner, o), pitch, out, at(left, left_offset(tile, out) + ROWS * o), POINTS * point, point, 0, WIDTH)
    keep_alive(slab)


@inner
def transform_weight(weight, phase, rows, columns, first, u, point):
    """u (64, rows, COLUMNS) = G w G^T for COLUMNS columns from `first` on of a phase of weight (4, 4, rows, columns)"""
    tap = rows * columns
    for k in range(rows):
        source = at(tap_place(weight, phase, rows, columns), k * columns + first)
        weight_tile(source, 2 * TAPS * tap, 2 * tap, row_address(u, k, COLUMNS), POINTS * point, point, 0, min(COLUMNS, columns - first))


@inner
def multiply(left, u, products, tiles, first, last, k, columns):
    """products (64, tiles, COLUMNS) = left u, of the tiles first ... last; u (64, k, COLUMNS)"""
    sources, targets, zeros = np.empty(ROWS, np.int64), np.empty(ROWS, np.int64), np.zeros(COLUMNS, f32)
    for i in range(ROWS):
        sources[i], targets[i] = at(left, WIDTH * i), row_address(products, i, COLUMNS)
    for point in range(POINTS * POINTS):
        from_left, from_products = point * left_pitch(tiles, k), point * right_pitch(GROUP_ROWS)
        for tile in range(first, last, ROWS):
            tile_of_rows(address(sources), from_left + left_offset(tile, k), k // WIDTH, WIDTH, ROWS * WIDTH,
                         row_address(u, point, right_pitch(k)), COLUMNS,
                         address(targets), from_products + (tile - first) * COLUMNS, columns, address(zeros))  # fmt: skip
    keep_alive((sources, targets, zeros))


# --- the convolution and its derivatives


@task
def _forward(t, tasks, left, weight, bias, y: Images, channels, groups):
    """y, COLUMNS of its channels and a group of tiles at a time."""
    out, tiles, k = y.channels, count_tiles(y.batch, y.height, y.width, TILE), PHASES * channels
    point, product, panel_in_u = right_pitch(k), right_pitch(GROUP_ROWS), -1
    u, products, cut = np.empty(64 * point, f32), np.empty(64 * product, f32), np.empty(TILE * TILE * COLUMNS, f32)
    units = (out + COLUMNS - 1) // COLUMNS * groups
    for unit in range(part(t, tasks, units, 1), part(t + 1, tasks, units, 1)):
        panel = unit // groups * COLUMNS
        columns = min(COLUMNS, out - panel)
        if panel != panel_in_u:
            for phase in range(PHASES):
                transform_weight(weight, phase, channels, out, panel, row_address(address(u), phase * channels, COLUMNS), point)
            panel_in_u = panel
        first, last = part(unit % groups, groups, tiles, ROWS), part(unit % groups + 1, groups, tiles, ROWS)
        multiply(left, address(u), address(products), tiles, first, last, k, columns)
        for tile in range(first, last):
            image, top, edge = tile_corner(tile, y.height, y.width, TILE)
            source, target = row_address(address(products), tile - first, COLUMNS), at(pixel(y, image, top, edge), panel)
            if top + TILE <= y.height and edge + TILE <= y.width:
                output_tile(source, POINTS * product, product, target, y.width * out, out, at(bias, panel), columns)
            else:
                output_tile(source, POINTS * product, product, address(cut), TILE * COLUMNS, COLUMNS, at(bias, panel), columns)
                for i in range(min(TILE, y.height - top)):
                    for j in range(min(TILE, y.width - edge)):
                        copy_floats(at(target, (i * y.width + j) * out), row_address(address(cut), TILE * i + j, COLUMNS), columns)
    keep_alive((u, products, cut))


@inner
def put(target, source, add):
    for i in range(target.size):
        target[i] = target[i] + source[i] if add else source[i]


@task
def _backward(t, tasks, left, weight, dx: Images, oh, ow, out, groups):
    """dx, COLUMNS channels of a phase and a group of tiles at a time; weight (4, 4, out, in)"""
    channels, tiles = dx.channels, count_tiles(dx.batch, oh, ow, TILE)
    point, product, panel_in_u = right_pitch(out), right_pitch(GROUP_ROWS), -1
    u, products, pixels = np.empty(64 * point, f32), np.empty(64 * product, f32), np.empty(POINTS * POINTS * COLUMNS, f32)
    units = PHASES * ((channels + COLUMNS - 1) // COLUMNS) * groups
    for unit in range(part(t, tasks, units, 1), part(t + 1, tasks, units, 1)):
        phase, panel = unit // groups % PHASES, unit // groups // PHASES * COLUMNS
        columns = min(COLUMNS, channels - panel)
        if unit // groups != panel_in_u:
            transform_weight(weight, phase, out, channels, panel, address(u), point)
            panel_in_u = unit // groups
        first, last = part(unit % groups, groups, tiles, ROWS), part(unit % groups + 1, groups, tiles, ROWS)
        multiply(left, address(u), address(products), tiles, first, last, out, columns)
        for tile in range(first, last):
            input_gradient_tile(row_address(address(products), tile - first, COLUMNS), POINTS * product, product,
                                address(pixels), POINTS * COLUMNS, COLUMNS, 0, columns)  # fmt: skip
            image, top, edge = tile_corner(tile, oh, ow, TILE)
            for i in range(POINTS):
                for j in range(POINTS):
                    down, across = 2 * (top + i) + phase // 2 - 1, 2 * (edge + j) + phase % 2 - 1
                    if 0 <= down < dx.height and 0 <= across < dx.width:
                        overlap = (i == 0 and top > 0) or (j == 0 and edge > 0)
                        put(floats(at(pixel(dx, image, down, across), panel), columns),
                            floats(row_address(address(pixels), POINTS * i + j, COLUMNS), columns), overlap)  # fmt: skip
    keep_alive((u, products, pixels))


@task
def _weight_gradient(t, tasks, left, g: Images, dw, channels):
    """dw, COLUMNS of its columns and GROUP_ROWS of its rows at a time."""
    out, tiles, k = g.channels, count_tiles(g.batch, g.height, g.width, TILE), PHASES * channels
    blocks, tap, groups = blocks_of(tiles), channels * out, (k + GROUP_ROWS - 1) // GROUP_ROWS
    point, product, panel_in_gradients = right_pitch(blocks * ROWS), right_pitch(GROUP_ROWS), -1
    gradients, products = np.empty(64 * point, f32), np.empty(64 * product, f32)
    slab, offsets = np.empty(TILE * TILE * out, f32), np.empty(k, np.int64)
    for i in range(k):
        offsets[i] = i // WIDTH * WIDTH * ROWS + i % WIDTH
    units = (out + COLUMNS - 1) // COLUMNS * groups
    for unit in range(part(t, tasks, units, 1), part(t + 1, tasks, units, 1)):
        panel = unit // groups * COLUMNS
        columns = min(COLUMNS, out - panel)
        if panel != panel_in_gradients:
            for tile in range(blocks * ROWS):
                corner, pitch = window(g, tile, tiles, 1, 0, TILE, g.height, g.width, address(slab))
                gradient_tile(at(corner, panel), pitch, out, row_address(address(gradients), tile, COLUMNS), POINTS * point, point, 0, columns)
            panel_in_gradients = panel
        first, last = part(unit % groups, groups, k, WIDTH), part(unit % groups + 1, groups, k, WIDTH)
        clear_floats(address(products), products.size)
        for p in range(POINTS * POINTS):
            from_left, from_gradients = row_address(left, p, left_pitch(tiles, k)), row_address(address(gradients), p, point)
            for i in range(first, last, ROWS):
                tile_of_columns(from_left, word_at(address(offsets), i), ROWS, from_gradients,
                                at(row_address(address(products), p, product), (i - first) * COLUMNS), COLUMNS,
                                blocks, ROWS * k, ROWS * COLUMNS, ROWS, WIDTH, COLUMNS, columns)  # fmt: skip
        for i in range(first, last):
            target = at(tap_place(dw, i // channels, channels, out), i % channels * out + panel)
            source = row_address(address(products), i - first, COLUMNS)
            weight_gradient_tile(source, POINTS * product, product, target, 2 * TAPS * tap, 2 * tap, 0, columns)
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
    for images, left, tiles in _parts(shape, PHASES * channels):
        _transform_input(Images.of(x[images]), left, oh, ow)
        _forward(left, weight, bias, Images.of(y[images]), channels, _groups(tiles, out))
    return y


def input_gradient(g, weight, shape):
    """g (batch, out height, out width, out), weight (4, 4, in, out) -> dx, whose shape is given"""
    _, oh, ow, out = g.shape
    weight, dx = np.ascontiguousarray(weight.transpose(0, 1, 3, 2)), np.empty(shape, f32)
    for images, left, tiles in _parts(g.shape, out):
        _transform_gradient(Images.of(g[images]), left)
        _backward(left, weight, Images.of(dx[images]), oh, ow, out, _groups(tiles, PHASES * shape[3]))
    return dx


def weight_gradient(x, g):
    """x (batch, height, width, in), g (batch, out height, out width, out) -> (4, 4, in, out)"""
    _, oh, ow, out = g.shape
    channels = x.shape[3]
    total = None
    for images, left, _ in _parts(g.shape, PHASES * channels):
        dw = np.empty((TAPS, TAPS, channels, out), f32)
        _transform_input(Images.of(x[images]), left, oh, ow)
        _weight_gradient(left, Images.of(g[images]), dw, channels)
        total = dw if total is None else np.add(total, dw, out=total)
    return total


def _tiles(n, oh, ow):
    return count_tiles.function(n, oh, ow, TILE)


def _parts(shape, k):
    """For as many images at a time as stay in the cache: which, an empty left factor, the number of tiles."""
    n, oh, ow, _ = shape
    count = max(1, LEFT_FLOATS // (POINTS * POINTS * k * _tiles(1, oh, ow)))
    whole_blocks = -(-_tiles(count, oh, ow) // 16) * 16  # ROWS, which is known once Numba is there, divides 16
    left = np.empty(POINTS * POINTS * (whole_blocks * k + SPARE_FLOATS), f32)
    for first in range(0, n, count):
        images = slice(first, min(n, first + count))
        yield images, left, _tiles(images.stop - first, oh, ow)


def _groups(tiles, columns):
    """Into how many groups of up to GROUP_ROWS tiles: such that all threads have as much to do, unless the groups became small."""
    least, threads = -(-tiles // GROUP_ROWS), get_threads()
    share = threads // math.gcd(threads, -(-columns // 32))
    return min(-(-least // share) * share, max(least, -(-tiles // 16)))
