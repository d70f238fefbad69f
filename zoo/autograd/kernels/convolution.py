"""Convolution in float32 and its two derivatives on arrays: the kernels behind `convolution.py`.

x (batch, height, width, in), weight (kernel height, kernel width, in, out), y and its gradient g (batch, out height, out width, out).

A 3x3 convolution of stride 1 goes to `winograd`, a 4x4 one of stride 2 to `winograd_strided`. Any other is a product of the patches of
x, one row for each position of the output, with the weight (im2col; Chellapilla et al. 2006), except that no patch is ever written down:
in a padded image each row of a patch is a run of neighbouring floats, and `tiles` multiplies them where they lie (Dukhan 2019).

    y  = patches(x) weight              conv2d_forward
    dw = patches(x)^T g                 conv2d_weight
    dx: the pixels at one place within the stride see only every stride-th tap, so that they are a convolution
        of g with those taps, reversed, of stride 1: stride^2 small convolutions, each to its own pixels of dx

Where a kernel is as large as the image, each is one plain matrix product.
"""

import numpy as np

from ..operations import convolution as operations
from ..operations.convolution import pair
from ..runtime.native import address, clear_floats, gemm, keep_alive, row_times_rows
from ..runtime.tasks import floats, part, task
from ..runtime.threads import get_threads
from ..runtime.tiles import multiply_columns, multiply_rows, pad, table_size
from .winograd import stride_two as winograd_strided
from .winograd import unit_stride as winograd

f32 = np.float32
SLAB_FLOATS = 1 << 16           # of an image that are padded at a time: a quarter of a second-level cache of 1 MB


@task
def _correlate(
    t, tasks, x, weight, start, y, n, height, width, channels, out, kh, kw, step_h, step_w, from_h, from_w,
    rows, columns, y_height, y_width, y_step_h, y_step_w, to_h, to_w, slab_rows,
):  # fmt: skip
    """y[:, to_h + i y_step_h, to_w + j y_step_w] = start + patch(i, j) weight, for i < rows and j < columns.

    patch(i, j) is x[:, from_h + i step_h :, from_w + j step_w :][:kh, :kw], zero outside the image. weight (kh, kw, in, out), but
    (out, kh, kw, in) below four channels out: no register is filled by them, so the inner products run along the patches.
    """
    first, last = part(t, tasks, n * rows, 1), part(t + 1, tasks, n * rows, 1)
    slab_width = (columns - 1) * step_w + kw
    slab = np.empty(((slab_rows - 1) * step_h + kh) * slab_width * channels, f32)
    size = table_size(slab_rows * columns)
    sources, targets, products = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(kh * columns, f32)
    inside = from_w >= 0 and from_w + slab_width <= width and from_h >= 0 and from_h + (rows - 1) * step_h + kh <= height
    while first < last:
        image, i = first // rows, first % rows
        count = min(last - first, rows - i, slab_rows)
        top = from_h + i * step_h
        corner, line = address(slab), 4 * slab_width * channels
        if inside:
            corner, line = x + 4 * channels * ((image * height + top) * width + from_w), 4 * width * channels
        else:
            pad(x, image, top, from_w, height, width, channels, corner, (count - 1) * step_h + kh, slab_width)
        p = 0
        for row in range(count):
            source = corner + row * step_h * line
            target = y + 4 * out * ((image * y_height + to_h + (i + row) * y_step_h) * y_width + to_w)
            for column in range(columns):
                sources[p], targets[p] = source + 4 * column * step_w * channels, target + 4 * out * column * y_step_w
                p += 1
        for q in range(p, table_size(p)):
            sources[q], targets[q] = sources[p - 1], targets[p - 1]
        if out < 4:
            bias, taps = floats(start, out), kw * channels
            for row in range(count):
                for o in range(out):
                    for a in range(kh):
                        row_times_rows(weight + 4 * (o * kh + a) * taps, sources[row * columns] + a * line, 4 * step_w * channels, columns, taps,
                                       address(products) + 4 * a * columns)  # fmt: skip
                    for column in range(columns):
                        total = bias[o]
                        for a in range(kh):
                            total += products[a * columns + column]
                        floats(targets[row * columns + column], out)[o] = total
        else:
            multiply_rows(address(sources), 0, kh, kw * channels, line, weight, address(targets), 0, p, out, start)
        first += count
    keep_alive((slab, sources, targets, products))


@task
def _weight(t, tasks, x, g, total, n, height, width, channels, out, kh, kw, sh, sw, ph, pw, oh, ow, slab_rows):
    """total[t] = the sum over part t of the output's rows of patch^T g, (kh, kw, in, out)."""
    first, last = part(t, tasks, n * oh, 1), part(t + 1, tasks, n * oh, 1)
    slab_width = (ow - 1) * sw + kw
    slab = np.empty(((slab_rows - 1) * sh + kh) * slab_width * channels, f32)
    size = kh * kw * channels
    total = total + 4 * t * size * out
    clear_floats(total, size * out)
    inside = ph == 0 and pw == 0
    line = 4 * channels * (width if inside else slab_width)
    offsets = np.empty(table_size(size), np.int64)                 # of each tap of a patch from its corner
    for i in range(len(offsets)):
        tap = min(i, size - 1)
        offsets[i] = tap // (kw * channels) * line + 4 * (tap % (kw * channels))
    while first < last:
        image, i = first // oh, first % oh
        count = min(last - first, oh - i, slab_rows)
        top = i * sh - ph
        corner = x + 4 * channels * (image * height + top) * width
        if not inside:
            corner = address(slab)
            pad(x, image, top, -pw, height, width, channels, corner, (count - 1) * sh + kh, slab_width)
        multiply_columns(corner, address(offsets), size, g + 4 * out * ow * first, total, out,
                         count, sh * line, 4 * out * ow, ow, 4 * sw * channels, 4 * out)  # fmt: skip
        first += count
    keep_alive((slab, offsets))


@task
def _add_parts(t, tasks, total, parts, n):
    """total[0] = the sum over parts of total (parts, n), in order."""
    begin, end = part(t, tasks, n, 16), part(t + 1, tasks, n, 16)
    target = floats(total + 4 * begin, end - begin)
    for p in range(1, parts):
        source = floats(total + 4 * (p * n + begin), end - begin)
        for i in range(target.size):
            target[i] += source[i]


@task
def _matmul(t, tasks, transpose_a, transpose_b, a, b, c, m, n, k):
    """c = op(a) op(b), a block of rows or of columns of c (m, n) for each part."""
    top, bottom, left, right = 0, m, 0, n
    if m >= n:
        top, bottom = part(t, tasks, m, 8), part(t + 1, tasks, m, 8)
    else:
        left, right = part(t, tasks, n, 16), part(t + 1, tasks, n, 16)
    if bottom > top and right > left:
        a_row, b_row = m if transpose_a else k, k if transpose_b else n
        a += 4 * top * (1 if transpose_a else k)
        b += 4 * left * (k if transpose_b else 1)
        c += 4 * (top * n + left)
        gemm(transpose_a != 0, transpose_b != 0, bottom - top, right - left, k, f32(1), a, a_row, b, b_row, f32(0), c, n)


# --- on arrays -----------------------------------------------------------------------------------------------------------------


def conv2d_forward(x, weight, bias=None, stride=(1, 1), padding=(0, 0)):
    """x (batch, height, width, in), weight (kernel height, kernel width, in, out), bias (out,) or None -> y"""
    out = weight.shape[3]
    if _by_winograd(x.shape, weight.shape, stride, padding):
        return winograd.forward(x, weight, bias)
    n, oh, ow, _ = shape = output_shape(x.shape, weight.shape, stride, padding)
    if winograd_strided.serves(weight.shape, stride, padding, shape):
        return winograd_strided.forward(x, weight, bias, shape)
    if _covers(x.shape, weight.shape, padding):
        y = matmul(x.reshape(n, -1), weight.reshape(-1, out)).reshape(shape)
        return y if bias is None else np.add(y, bias, out=y)
    y = np.empty(shape, f32)
    _convolve(x, weight, bias, y, stride, (-padding[0], -padding[1]), (oh, ow), (1, 1), (0, 0))
    return y


def conv2d_input(g, weight, input_shape, stride=(1, 1), padding=(0, 0)):
    """The adjoint of conv2d_forward in x, whose shape is given: also the transposed convolution of g."""
    out = weight.shape[3]
    if _by_winograd(input_shape, weight.shape, stride, padding):
        return winograd.input_gradient(g, weight)
    if winograd_strided.serves(weight.shape, stride, padding, g.shape):
        return winograd_strided.input_gradient(g, weight, input_shape)
    if _covers(input_shape, weight.shape, padding):
        return matmul(g.reshape(len(g), out), weight.reshape(-1, out), transpose_b=True).reshape(input_shape)
    x = np.empty(input_shape, f32)
    for row, column in np.ndindex(*stride):
        taps = np.ascontiguousarray(weight[row :: stride[0], column :: stride[1]][::-1, ::-1].transpose(0, 1, 3, 2))
        # Row r of the phase lies at stride r + row of the padded x; the rows before `begin` are padding.
        begin = [max(0, -(-(p - at) // s)) for p, at, s in zip(padding, (row, column), stride, strict=True)]
        to = [b * s + at - p for b, s, at, p in zip(begin, stride, (row, column), padding, strict=True)]
        count = [max(0, -(-(size - first) // s)) for size, first, s in zip(input_shape[1:3], to, stride, strict=True)]
        if not taps.size:
            x[:, to[0] :: stride[0], to[1] :: stride[1]] = 0
        elif min(count) > 0:
            start = [b - taps.shape[i] + 1 for i, b in enumerate(begin)]
            _convolve(g, taps, None, x, (1, 1), start, count, stride, to)
    return x


def conv2d_weight(x, g, weight_shape, stride=(1, 1), padding=(0, 0)):
    """The adjoint of conv2d_forward in the weight, whose shape is given."""
    kh, kw, channels, out = weight_shape
    if _by_winograd(x.shape, weight_shape, stride, padding):
        return winograd.weight_gradient(x, g)
    if winograd_strided.serves(weight_shape, stride, padding, g.shape):
        return winograd_strided.weight_gradient(x, g)
    n, oh, ow, _ = g.shape
    if _covers(x.shape, weight_shape, padding):
        return matmul(x.reshape(n, -1), g.reshape(n, out), transpose_a=True).reshape(weight_shape)
    if 4 * out <= channels and stride == (1, 1) and padding[0] < kh and padding[1] < kw:
        # x and g play the same part: the side with fewer channels is the one whose patches are taken.
        dw = conv2d_weight(g, x, (kh, kw, out, channels), stride, (kh - 1 - padding[0], kw - 1 - padding[1]))
        return np.ascontiguousarray(dw[::-1, ::-1].transpose(0, 1, 3, 2))
    parts = min(n * oh, get_threads())
    total = np.empty((parts, *weight_shape), f32)
    slab_rows = _slab_rows(oh, stride[0], (ow - 1) * stride[1] + kw, channels)
    _weight(x, g, total, n, *x.shape[1:], out, kh, kw, *stride, *padding, oh, ow, slab_rows, tasks=parts)
    if parts > 1:
        _add_parts(total, parts, total[0].size)
    return total[0]


def matmul(a, b, transpose_a=False, transpose_b=False):
    """op(a) op(b) for contiguous float32 matrices."""
    (m, k), n = a.shape[::-1] if transpose_a else a.shape, b.shape[0] if transpose_b else b.shape[1]
    c = np.empty((m, n), f32)
    _matmul(int(transpose_a), int(transpose_b), a, b, c, m, n, k)
    return c


def output_shape(shape, weight_shape, stride, padding):
    """The shape of y."""
    (n, height, width, _), (kh, kw, _, out) = shape, weight_shape
    return n, (height + 2 * padding[0] - kh) // stride[0] + 1, (width + 2 * padding[1] - kw) // stride[1] + 1, out


def _by_winograd(shape, weight_shape, stride, padding):
    """Below 8 channels the transforms cost more than they save, and below 3 pixels most of a tile is padding."""
    kh, kw, channels, out = weight_shape
    same = (kh, kw, *stride, *padding) == (3, 3, 1, 1, 1, 1)
    return same and min(channels, out) >= 8 and min(shape[1:3]) >= 3


def _covers(shape, weight_shape, padding):
    """Whether the kernel is as large as the image, so that its only patch is the image."""
    return tuple(padding) == (0, 0) and tuple(weight_shape[:2]) == tuple(shape[1:3])


def _slab_rows(rows, step, width, channels):
    return max(1, min(rows, SLAB_FLOATS // (step * width * channels)))


def _convolve(x, weight, bias, y, step, start, count, y_step, to):
    kh, kw, channels, out = weight.shape
    bias = np.zeros(out, f32) if bias is None else bias
    if out < 4:
        weight = np.ascontiguousarray(weight.transpose(3, 0, 1, 2))
    slab_rows = _slab_rows(count[0], step[0], (count[1] - 1) * step[1] + kw, channels)
    _correlate(x, weight, bias, y, *x.shape, out, kh, kw, *step, *start, *count, *y.shape[1:3], *y_step, *to, slab_rows)


@operations.conv2d.forward
def _(x, weight, bias, *, stride, padding):
    return conv2d_forward(x, weight, bias, pair(stride, "stride"), pair(padding, "padding")), None


@operations.conv2d_input.forward
def _(g, weight, *, shape, stride, padding):
    return conv2d_input(g, weight, shape, pair(stride, "stride"), pair(padding, "padding")), None


@operations.conv2d_weight.forward
def _(x, g, *, shape, stride, padding):
    return conv2d_weight(x, g, shape, pair(stride, "stride"), pair(padding, "padding")), None
