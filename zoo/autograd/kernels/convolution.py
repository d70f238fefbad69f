"""Convolution in float32 and its two derivatives on arrays: the kernels behind `convolution.py`.

x (batch, height, width, in), weight (kernel height, kernel width, in, out), y and its gradient g (batch, out height, out width, out).

A 3x3 convolution of stride 1 goes to `winograd.unit_stride`, a 4x4 one of stride 2 to `winograd.stride_two`. Any other is a product of the
patches of x, one row for each position of the output, with the weight (im2col; Chellapilla et al. 2006), except that no patch is ever
written down: in a padded image each row of a patch is a run of neighbouring floats, and `tiles` multiplies them where they lie (Dukhan 2019).

    y  = patches(x) weight              conv2d_forward
    dw = patches(x)^T g                 conv2d_weight
    dx: the pixels at one place within the stride see only every stride-th tap, so that they are a convolution
        of g with those taps, reversed, of stride 1: stride^2 small convolutions, each to its own pixels of dx

Where a kernel is as large as the image, or one pixel of many channels, each is one plain matrix product.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..operations import convolution as operations
from ..operations.convolution import pair
from ..runtime.compiling import inner
from ..runtime.native import address, clear_floats, floats, keep_alive, row_times_rows
from ..runtime.tasks import at, part, row_address, span, task
from ..runtime.threads import get_threads
from ..runtime.tiles import multiply_columns, multiply_rows, table_size
from .images import Images, pad, pixel
from .linear import run_linear
from .products.matrices import product
from .winograd import stride_two as winograd_strided
from .winograd import unit_stride as winograd

f32 = np.float32
SLAB_FLOATS = 1 << 16           # of an image that are padded at a time: a quarter of a second-level cache of 1 MB
SWAP_RATIO = 4                  # of channels in to channels out, above which x and g change places in the weight's gradient
MIN_PACKED = 64                 # channels in and out from which on packing pixels costs less than it saves
MIN_COLUMNS = 4                 # channels out below which no register is filled by them


class Taps(NamedTuple):
    """A kernel's size."""

    height: int
    width: int


class Grid(NamedTuple):
    """Pixels of an image: (top + i down, left + j across), which may lie outside."""

    top: int
    left: int
    down: int
    across: int


class Part(NamedTuple):
    """Of an image: how many rows and columns of a grid, and how many of the rows are taken at a time."""

    rows: int
    columns: int
    slab_rows: int


@inner
def is_inside(grid, size, taps, images):
    """Whether all patches that begin on the grid lie within the image."""
    bottom, right = grid.top + (size.rows - 1) * grid.down + taps.height, grid.left + (size.columns - 1) * grid.across + taps.width
    return grid.top >= 0 and grid.left >= 0 and bottom <= images.height and right <= images.width


@inner
def slab_height(grid, size, taps):
    """Rows of the image that `slab_rows` rows of patches read."""
    return (size.slab_rows - 1) * grid.down + taps.height


@inner
def slab_width(grid, size, taps):
    return (size.columns - 1) * grid.across + taps.width


@task
def _correlate(t, tasks, x: Images, weight, start, y: Images, taps: Taps, reads: Grid, writes: Grid, size: Part):
    """y[:, pixel (i, j) of writes] = start + patch(i, j) weight, for i < rows and j < columns.

    patch(i, j) is x[:, pixel (i, j) of reads :][:taps], zero outside the image. weight (height, width, in, out), but (out, height, width, in)
    below MIN_COLUMNS channels out: no register is filled by them, so the inner products run along the patches.
    """
    out, columns, run = y.channels, size.columns, taps.width * x.channels  # a row of a patch is a run of neighbouring floats
    first, last = part(t, tasks, x.batch * size.rows, 1), part(t + 1, tasks, x.batch * size.rows, 1)
    width = slab_width(reads, size, taps)
    slab = np.empty(slab_height(reads, size, taps) * width * x.channels, f32)
    table = table_size(size.slab_rows * columns)
    sources, targets, products = np.empty(table, np.int64), np.empty(table, np.int64), np.empty(taps.height * columns, f32)
    inside = is_inside(reads, size, taps, x)
    while first < last:
        image, i = first // size.rows, first % size.rows
        count = min(last - first, size.rows - i, size.slab_rows)
        top = reads.top + i * reads.down
        corner, pitch = address(slab), width * x.channels
        if inside:
            corner, pitch = pixel(x, image, top, reads.left), x.width * x.channels
        else:
            pad(x, image, top, reads.left, corner, (count - 1) * reads.down + taps.height, width)
        p = 0
        for row in range(count):
            source = row_address(corner, row * reads.down, pitch)
            target = pixel(y, image, writes.top + (i + row) * writes.down, writes.left)
            for column in range(columns):
                sources[p] = at(source, column * reads.across * x.channels)
                targets[p] = at(target, column * writes.across * out)
                p += 1
        for q in range(p, table_size(p)):
            sources[q], targets[q] = sources[p - 1], targets[p - 1]
        if out < MIN_COLUMNS:
            bias = floats(start, out)
            for row in range(count):
                for o in range(out):
                    for a in range(taps.height):
                        row_times_rows(row_address(weight, o * taps.height + a, run), row_address(sources[row * columns], a, pitch),
                                       reads.across * x.channels, columns, run, row_address(address(products), a, columns))  # fmt: skip
                    for column in range(columns):
                        total = bias[o]
                        for a in range(taps.height):
                            total += products[a * columns + column]
                        floats(targets[row * columns + column], out)[o] = total
        else:
            multiply_rows(address(sources), 0, taps.height, run, pitch, weight, address(targets), 0, p, out, start)
        first += count
    keep_alive((slab, sources, targets, products))


@task
def _weight(t, tasks, x: Images, g: Images, totals, taps: Taps, reads: Grid, size: Part):
    """totals[t] = the sum over part t of the output's rows of patch^T g, (height, width, in, out)."""
    out, run = g.channels, taps.width * x.channels
    first, last = part(t, tasks, g.batch * g.height, 1), part(t + 1, tasks, g.batch * g.height, 1)
    width = slab_width(reads, size, taps)
    slab = np.empty(slab_height(reads, size, taps) * width * x.channels, f32)
    entries = taps.height * run
    total = row_address(totals, t, entries * out)
    clear_floats(total, entries * out)
    inside = reads.top == 0 and reads.left == 0
    pitch = x.channels * (x.width if inside else width)
    offsets = np.empty(table_size(entries), np.int64)                 # of each entry of a patch from its corner
    for i in range(len(offsets)):
        entry = min(i, entries - 1)
        offsets[i] = entry // run * pitch + entry % run
    while first < last:
        image, i = first // g.height, first % g.height
        count = min(last - first, g.height - i, size.slab_rows)
        top = reads.top + i * reads.down
        corner = pixel(x, image, top, 0)
        if not inside:
            corner = address(slab)
            pad(x, image, top, reads.left, corner, (count - 1) * reads.down + taps.height, width)
        multiply_columns(corner, address(offsets), entries, pixel(g, image, i, 0), total, out, count,
                         reads.down * pitch, out * g.width, g.width, reads.across * x.channels, out)  # fmt: skip
        first += count
    keep_alive((slab, offsets))


@task
def _add_parts(t, tasks, totals, parts, n):
    """totals[0] = the sum over parts of totals (parts, n), in order."""
    begin, end = part(t, tasks, n, 16), part(t + 1, tasks, n, 16)
    target = span(totals, begin, end)
    for p in range(1, parts):
        source = span(totals, p * n + begin, p * n + end)
        for i in range(target.size):
            target[i] += source[i]


# --- on arrays -----------------------------------------------------------------------------------------------------------------


def conv2d_forward(x, weight, bias=None, stride=(1, 1), padding=(0, 0)):
    """x (batch, height, width, in), weight (kernel height, kernel width, in, out), bias (out,) or None -> y"""
    out = weight.shape[3]
    n, oh, ow, _ = shape = output_shape(x.shape, weight.shape, stride, padding)
    _check_shapes(x.shape, weight.shape, shape, stride, padding)
    if _by_winograd(x.shape, weight.shape, stride, padding):
        return winograd.forward(x, weight, bias)
    if winograd_strided.serves(weight.shape, stride, padding, shape):
        return winograd_strided.forward(x, weight, bias, shape)
    y = np.empty(shape, f32)
    if _is_product(x.shape, weight.shape, stride, padding):
        taps = weight.reshape(-1, out)
        run_linear(x.reshape(-1, len(taps)), len(taps), taps, False, bias, y)
        return y
    _convolve(x, weight, bias, y, Grid(-padding[0], -padding[1], *stride), Grid(0, 0, 1, 1), oh, ow)
    return y


def conv2d_input(g, weight, input_shape, stride=(1, 1), padding=(0, 0)):
    """The adjoint of conv2d_forward in x, whose shape is given: also the transposed convolution of g."""
    out = weight.shape[3]
    _check_shapes(input_shape, weight.shape, g.shape, stride, padding)
    if _by_winograd(input_shape, weight.shape, stride, padding):
        return winograd.input_gradient(g, weight)
    if winograd_strided.serves(weight.shape, stride, padding, g.shape):
        return winograd_strided.input_gradient(g, weight, input_shape)
    if _is_product(input_shape, weight.shape, stride, padding):
        return product(g.reshape(-1, out), weight.reshape(-1, out).T).reshape(input_shape)
    x = np.empty(input_shape, f32)
    for row, column in np.ndindex(*stride):
        taps = np.ascontiguousarray(weight[row :: stride[0], column :: stride[1]][::-1, ::-1].transpose(0, 1, 3, 2))
        # Row r of the phase lies at stride r + row of the padded x; the rows before `begin` are padding.
        begin = [max(0, -(-(p - r) // s)) for p, r, s in zip(padding, (row, column), stride, strict=True)]
        to = [b * s + r - p for b, s, r, p in zip(begin, stride, (row, column), padding, strict=True)]
        count = [max(0, -(-(size - first) // s)) for size, first, s in zip(input_shape[1:3], to, stride, strict=True)]
        if not taps.size:
            x[:, to[0] :: stride[0], to[1] :: stride[1]] = 0
        elif min(count) > 0:
            start = [b - taps.shape[i] + 1 for i, b in enumerate(begin)]
            _convolve(g, taps, None, x, Grid(start[0], start[1], 1, 1), Grid(to[0], to[1], *stride), *count)
    return x


def conv2d_weight(x, g, weight_shape, stride=(1, 1), padding=(0, 0)):
    """The adjoint of conv2d_forward in the weight, whose shape is given."""
    kh, kw, channels, out = weight_shape
    _check_shapes(x.shape, weight_shape, g.shape, stride, padding)
    if _by_winograd(x.shape, weight_shape, stride, padding):
        return winograd.weight_gradient(x, g)
    if winograd_strided.serves(weight_shape, stride, padding, g.shape):
        return winograd_strided.weight_gradient(x, g)
    n, oh, ow, _ = g.shape
    if _is_product(x.shape, weight_shape, stride, padding):
        return product(x.reshape(-1, kh * kw * channels).T, g.reshape(-1, out)).reshape(weight_shape)
    if SWAP_RATIO * out <= channels and stride == (1, 1) and padding[0] < kh and padding[1] < kw:
        # x and g play the same part: the side with fewer channels is the one whose patches are taken.
        dw = conv2d_weight(g, x, (kh, kw, out, channels), stride, (kh - 1 - padding[0], kw - 1 - padding[1]))
        return np.ascontiguousarray(dw[::-1, ::-1].transpose(0, 1, 3, 2))
    parts = min(n * oh, get_threads())
    totals = np.empty((parts, *weight_shape), f32)
    reads, taps = Grid(-padding[0], -padding[1], *stride), Taps(kh, kw)
    _weight(Images.of(x), Images.of(g), totals, taps, reads, _size(oh, ow, reads, taps, channels), tasks=parts)
    if parts > 1:
        _add_parts(totals, parts, totals[0].size)
    return totals[0]


def output_shape(shape, weight_shape, stride, padding):
    """The shape of y."""
    (n, height, width, _), (kh, kw, _, out) = shape, weight_shape
    return n, (height + 2 * padding[0] - kh) // stride[0] + 1, (width + 2 * padding[1] - kw) // stride[1] + 1, out


def _check_shapes(shape, weight_shape, y_shape, stride, padding):
    """No address below is computed from shapes that don't belong together, whoever calls."""
    if shape[3] != weight_shape[2] or min(shape) < 1 or tuple(y_shape) != output_shape(shape, weight_shape, stride, padding) or min(y_shape) < 1:
        raise ValueError(f"convolution: x has shape {tuple(shape)}, weight {tuple(weight_shape)} and y {tuple(y_shape)}, "
                         f"which stride {tuple(stride)} and padding {tuple(padding)} don't join")


def _by_winograd(shape, weight_shape, stride, padding):
    """Below 8 channels the transforms cost more than they save, and below 3 pixels most of a tile is padding."""
    kh, kw, channels, out = weight_shape
    same = (kh, kw, *stride, *padding) == (3, 3, 1, 1, 1, 1)
    return same and min(channels, out) >= 8 and min(shape[1:3]) >= 3


def _is_product(shape, weight_shape, stride, padding):
    """Whether patches don't overlap and lie where they are read: each is a pixel, or the kernel is as large as the image, the only one."""
    of_pixels = tuple(weight_shape[:2]) == (1, 1) == tuple(stride) and min(weight_shape[2:]) >= MIN_PACKED
    return tuple(padding) == (0, 0) and (of_pixels or tuple(weight_shape[:2]) == tuple(shape[1:3]))


def _convolve(x, weight, bias, y, reads: Grid, writes: Grid, rows, columns):
    """y on the grid that is written = bias + the patches on the grid that is read, times weight."""
    taps, out = Taps(*weight.shape[:2]), y.shape[3]
    bias = np.zeros(out, f32) if bias is None else bias
    if out < MIN_COLUMNS:
        weight = np.ascontiguousarray(weight.transpose(3, 0, 1, 2))
    size = _size(rows, columns, reads, taps, x.shape[3])
    _correlate(Images.of(x), weight, bias, Images.of(y), taps, reads, writes, size)


def _size(rows, columns, reads: Grid, taps: Taps, channels) -> Part:
    row_floats = ((columns - 1) * reads.across + taps.width) * channels
    return Part(rows, columns, max(1, min(rows, SLAB_FLOATS // (reads.down * row_floats))))


@operations.conv2d.forward
def _(x, weight, bias, *, stride, padding, dilation, groups):
    if groups != 1 or pair(dilation, "dilation") != (1, 1):
        return NotImplemented
    return conv2d_forward(x, weight, bias, pair(stride, "stride"), pair(padding, "padding")), None


@operations.conv2d_input.forward
def _(g, weight, *, shape, stride, padding, dilation, groups):
    if groups != 1 or pair(dilation, "dilation") != (1, 1):
        return NotImplemented
    return conv2d_input(g, weight, shape, pair(stride, "stride"), pair(padding, "padding")), None


@operations.conv2d_weight.forward
def _(x, g, *, shape, stride, padding, dilation, groups):
    if groups != 1 or pair(dilation, "dilation") != (1, 1):
        return NotImplemented
    return conv2d_weight(x, g, shape, pair(stride, "stride"), pair(padding, "padding")), None
