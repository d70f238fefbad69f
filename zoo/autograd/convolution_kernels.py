"""Convolution in float32 and its two derivatives on arrays: the kernels behind `convolution.py`.

x (batch, height, width, in), weight (kernel height, kernel width, in, out), y and its gradient g (batch, out height, out width, out).

A 3x3 convolution of stride 1 goes to `winograd`. Any other is a matrix product with the patches of x, one row for each position of the
output, of which a block at a time is gathered into the cache (im2col; Chellapilla et al. 2006):

    y  = patches(x) weight              conv2d_forward
    dx = patches^T (g weight^T)         conv2d_input: each row is added back to where it was read
    dw = patches(x)^T g                 conv2d_weight

With stride 1 each of the three may also be read from the other side, since x and y then play the same part with the taps reversed. The
side with fewer channels has the smaller patches. Where a patch is a row of x as it lies there (1x1; a kernel as large as the image),
nothing is gathered.
"""

import numpy as np

from . import winograd
from .runtime import address, clear_floats, copy_floats, gemm, get_threads, inner, keep_alive, kernel, prange

f32 = np.float32
BLOCK_FLOATS = 1 << 16          # of patches at a time: a quarter of a second-level cache of 1 MB


@inner
def _patches(x, patches, first, last, geometry):
    """One row (kernel height, kernel width, in) for each output position first ... last, zero outside the image."""
    height, width, channels, oh, ow, kh, kw, sh, sw, ph, pw = geometry
    for position in range(first, last):
        image, place = position // (oh * ow), position % (oh * ow)
        top, left = place // ow * sh - ph, place % ow * sw - pw
        before, after = max(0, -left), min(kw, width - left)         # the taps inside the image lie side by side
        for i in range(kh):
            row = patches + 4 * channels * kw * ((position - first) * kh + i)
            if top + i < 0 or top + i >= height or after <= before:
                clear_floats(row, kw * channels)
                continue
            source = x + 4 * channels * ((image * height + top + i) * width + left + before)
            if after - before < kw:
                clear_floats(row, kw * channels)
            copy_floats(row + 4 * channels * before, source, (after - before) * channels)


@inner
def _add_patches(patches, x, first, last, geometry):
    """The adjoint of `_patches`: patches (positions, kernel height * kernel width * in) added to x (batch * height * width * in)."""
    height, width, channels, oh, ow, kh, kw, sh, sw, ph, pw = geometry
    for position in range(first, last):
        image, place = position // (oh * ow), position % (oh * ow)
        top, left = place // ow * sh - ph, place % ow * sw - pw
        before = max(0, -left)
        after = max(before, min(kw, width - left))
        for i in range(max(0, -top), min(kh, height - top)):
            source = patches[position - first, (i * kw + before) * channels : (i * kw + after) * channels]
            start = ((image * height + top + i) * width + left + before) * channels
            target = x[start : start + len(source)]
            for j in range(len(source)):
                target[j] += source[j]


@kernel
def _forward(x, weight, bias, y, geometry, block, as_it_lies):
    positions, out = y.shape
    size = weight.shape[0]
    for b in prange((positions + block - 1) // block):
        first, last = b * block, min(positions, b * block + block)
        patches = np.empty(0 if as_it_lies else block * size, f32)
        source = address(x) + 4 * first * size
        if not as_it_lies:
            source = address(patches)
            _patches(address(x), source, first, last, geometry)
        for row in range(first, last):
            y[row] = bias
        target = address(y) + 4 * first * out
        gemm(False, False, last - first, out, size, f32(1), source, size, address(weight), out, f32(1), target, out)
        keep_alive(patches)


@kernel
def _input(g, weight, bias, x, geometry, block):
    """g (batch, positions, out), weight (size, out), bias (in,): what x (batch * height * width * in) starts from."""
    batch, positions, out = g.shape
    size = weight.shape[0]
    channels = len(bias)
    pixels = len(x) // (batch * channels)
    for image in prange(batch):
        patches = np.empty((block, size), f32)
        for pixel in range(image * pixels, image * pixels + pixels):
            for c in range(channels):
                x[pixel * channels + c] = bias[c]
        for first in range(image * positions, image * positions + positions, block):
            last = min(first + block, image * positions + positions)
            source = address(g) + 4 * first * out
            gemm(False, True, last - first, size, out, f32(1), source, out, address(weight), out, f32(0), address(patches), size)
            _add_patches(patches, x, first, last, geometry)


@kernel
def _weight(x, g, partial, geometry, block, as_it_lies):
    """partial (shares, size, out): each share of the positions is summed on its own, then the shares in order into the first."""
    positions, out = g.shape
    shares, size, _ = partial.shape
    for share in prange(shares):
        begin, end = positions * share // shares, positions * (share + 1) // shares
        patches = np.empty(0 if as_it_lies else block * size, f32)
        target = address(partial) + 4 * share * size * out
        for first in range(begin, end, block):
            last = min(end, first + block)
            source = address(x) + 4 * first * size
            if not as_it_lies:
                source = address(patches)
                _patches(address(x), source, first, last, geometry)
            gradient = address(g) + 4 * first * out
            gemm(True, False, size, out, last - first, f32(1), source, size, gradient, out, f32(first > begin), target, out)
        keep_alive(patches)
    for row in prange(size):
        for share in range(1, shares):
            for o in range(out):
                partial[0, row, o] += partial[share, row, o]


@kernel
def _columns(transpose_a, transpose_b, a, b, c, blocks):
    """c = op(a) op(b), a block of columns of c at a time, for a product that is wider than high."""
    m, n = c.shape
    k = a.shape[0] if transpose_a else a.shape[1]
    for block in prange(blocks):
        begin, end = n * block // blocks, n * (block + 1) // blocks
        source = address(b) + 4 * begin * (b.shape[1] if transpose_b else 1)
        gemm(transpose_a, transpose_b, m, end - begin, k, f32(1), address(a), a.shape[1], source, b.shape[1],
             f32(0), address(c) + 4 * begin, n)  # fmt: skip


# --- on arrays -----------------------------------------------------------------------------------------------------------------


def conv2d_forward(x, weight, bias=None, stride=(1, 1), padding=(0, 0)):
    """x (batch, height, width, in), weight (kernel height, kernel width, in, out), bias (out,) or None -> y"""
    channels, out = weight.shape[2:]
    shape = output_shape(x.shape, weight.shape, stride, padding)
    bias = np.zeros(out, f32) if bias is None else bias
    if _by_winograd(x.shape, weight.shape, stride, padding):
        return winograd.forward(x, weight, bias)
    if 4 * out <= channels and (from_other_side := _other_side(weight.shape, stride, padding)):
        return _input_by_patches(x, _reversed(weight), bias, shape, stride, from_other_side)
    return _forward_by_patches(x, weight, bias, shape, stride, padding)


def conv2d_input(g, weight, input_shape, stride=(1, 1), padding=(0, 0)):
    """The adjoint of conv2d_forward in x, whose shape is given: also the transposed convolution of g."""
    channels, out = weight.shape[2:]
    if _by_winograd(input_shape, weight.shape, stride, padding):
        return winograd.input_gradient(g, weight)
    bias = np.zeros(channels, f32)
    if 4 * out <= channels and (from_other_side := _other_side(weight.shape, stride, padding)):
        return _forward_by_patches(g, _reversed(weight), bias, input_shape, stride, from_other_side)
    return _input_by_patches(g, weight, bias, input_shape, stride, padding)


def conv2d_weight(x, g, weight_shape, stride=(1, 1), padding=(0, 0)):
    """The adjoint of conv2d_forward in the weight, whose shape is given."""
    kh, kw, channels, out = weight_shape
    if _by_winograd(x.shape, weight_shape, stride, padding):
        return winograd.weight_gradient(x, g)
    if 4 * out <= channels and (from_other_side := _other_side(weight_shape, stride, padding)):
        return _reversed(_weight_by_patches(g, x, (kh, kw, out, channels), stride, from_other_side))
    return _weight_by_patches(x, g, weight_shape, stride, padding)


def output_shape(shape, weight_shape, stride, padding):
    """The shape of y."""
    (n, height, width, _), (kh, kw, _, out) = shape, weight_shape
    return n, (height + 2 * padding[0] - kh) // stride[0] + 1, (width + 2 * padding[1] - kw) // stride[1] + 1, out


def _by_winograd(shape, weight_shape, stride, padding):
    """Below 8 channels the transforms cost more than they save, and below 3 pixels most of a tile is padding."""
    kh, kw, channels, out = weight_shape
    same = (kh, kw, *stride, *padding) == (3, 3, 1, 1, 1, 1)
    return same and min(channels, out) >= 8 and min(shape[1:3]) >= 3


def _other_side(weight_shape, stride, padding):
    """The padding with which g is convolved to give dx, where that is again a convolution; else None."""
    ph, pw = weight_shape[0] - 1 - padding[0], weight_shape[1] - 1 - padding[1]
    return (ph, pw) if tuple(stride) == (1, 1) and ph >= 0 and pw >= 0 and weight_shape[:2] != (1, 1) else None


def _reversed(weight):
    return np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2))


def _geometry(shape, out_shape, weight_shape, stride, padding):
    return (*shape[1:], *out_shape[1:3], *weight_shape[:2], *stride, *padding)


def _as_it_lies(shape, weight_shape, stride, padding):
    """Whether the patches are x itself: a 1x1 kernel, or one as large as the image."""
    pixelwise = tuple(weight_shape[:2]) == (1, 1) == tuple(stride)
    return tuple(padding) == (0, 0) and (pixelwise or tuple(weight_shape[:2]) == tuple(shape[1:3]))


def _block(positions, size, share):
    """How many positions at a time, at most the share of one thread."""
    return max(1, min(max(32, BLOCK_FLOATS // size), -(-positions // share)))


def _forward_by_patches(x, weight, bias, shape, stride, padding):
    n, oh, ow, out = shape
    y = np.empty(shape, f32)
    flat = weight.reshape(-1, out)
    as_it_lies = _as_it_lies(x.shape, weight.shape, stride, padding)
    positions = n * oh * ow
    block = -(-positions // get_threads()) if as_it_lies else _block(positions, len(flat), get_threads())
    geometry = _geometry(x.shape, shape, weight.shape, stride, padding)
    _forward(x.reshape(-1), flat, bias, y.reshape(-1, out), geometry, max(block, 1), as_it_lies)
    return y


def _input_by_patches(g, weight, bias, shape, stride, padding):
    n, oh, ow, out = g.shape
    flat = weight.reshape(-1, out)
    if _as_it_lies(shape, weight.shape, stride, padding) and not bias.any():
        x = np.empty((n * oh * ow, len(flat)), f32)
        if len(x) > len(flat):
            _forward(g.reshape(-1), np.ascontiguousarray(flat.T), np.zeros(len(flat), f32), x,
                     _geometry(g.shape, g.shape, (1, 1), (1, 1), (0, 0)), -(-len(x) // get_threads()), True)  # fmt: skip
        else:
            _columns(False, True, g.reshape(-1, out), flat, x, get_threads())
        return x.reshape(shape)
    x = np.empty(shape, f32)
    geometry = _geometry(shape, g.shape, weight.shape, stride, padding)
    _input(g.reshape(n, oh * ow, out), flat, bias, x.reshape(-1), geometry, _block(oh * ow, len(flat), 1))
    return x


def _weight_by_patches(x, g, weight_shape, stride, padding):
    n, oh, ow, out = g.shape
    size = int(np.prod(weight_shape[:3]))
    as_it_lies = _as_it_lies(x.shape, weight_shape, stride, padding)
    if as_it_lies and oh * ow == 1:
        dw = np.empty((size, out), f32)
        dw_transposed = np.empty((out, size), f32)
        _columns(True, False, g.reshape(n, out), x.reshape(n, size), dw_transposed, get_threads())
        dw[:] = dw_transposed.T
        return dw.reshape(weight_shape)
    partial = np.empty((min(n * oh * ow, get_threads()), size, out), f32)
    block = _block(n * oh * ow, size, get_threads())
    _weight(x.reshape(-1), g.reshape(-1, out), partial, _geometry(x.shape, g.shape, weight_shape, stride, padding), block, as_it_lies)
    return partial[0].reshape(weight_shape)
