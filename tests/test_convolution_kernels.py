"""The convolution kernels compute what the definition says: a sum over windows, in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from zoo.autograd.kernels.convolution import conv2d_forward, conv2d_input, conv2d_weight, output_shape
from zoo.autograd.kernels.winograd import (
    stride_two as winograd_strided,
)
from zoo.autograd.kernels.winograd import (
    stride_two_transforms as winograd_strided_transforms,
)
from zoo.autograd.kernels.winograd import (
    unit_stride as winograd,
)
from zoo.autograd.kernels.winograd import (
    unit_stride_transforms as winograd_transforms,
)
from zoo.autograd.runtime import get_threads, set_threads

# Lavin & Gray 2015, section 4.3
B_T = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
A_T = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


@pytest.mark.parametrize(
    ("formula", "matrix"),
    [
        (winograd_transforms.transform_input, np.array(B_T)),
        (winograd_transforms.transform_output, np.array(A_T)),
        (winograd_transforms.transform_gradient, np.array(A_T).T),
        (winograd_transforms.transform_weight, G),
        (winograd_transforms.transform_weight_gradient, G.T),
    ],
)
def test_formulas_are_the_papers_matrices(formula, matrix):
    assert G[0, 0] == 1 / 4
    np.testing.assert_allclose(np.array(formula(*np.eye(matrix.shape[1]))), matrix, rtol=1e-15, atol=1e-15)


def toom_cook(points, outputs, taps):
    """A^T, G and B^T of F(outputs, taps) from its points and infinity: the convolution as a product of polynomials."""
    all_but = [np.poly1d([q for q in points if q != p], r=True) for p in [*points, None]]
    a = [[p**i for p in points] + [i == outputs - 1] for i in range(outputs)]
    g = [[p**i / others(p) for i in range(taps)] for p, others in zip(points, all_but, strict=False)]
    b = [np.pad(others.coeffs[::-1], (0, len(points) - others.order)) for others in all_but]
    return np.array(a, float), np.array([*g, [i == taps - 1 for i in range(taps)]], float), np.array(b)


A_7_2, G_7_2, B_7_2 = toom_cook([0, 1, -1, 2, -2, 1 / 2, -1 / 2], 7, 2)


@pytest.mark.parametrize(
    ("formula", "matrix"),
    [
        (winograd_strided_transforms.transform_input, B_7_2),
        (winograd_strided_transforms.transform_input_gradient, B_7_2.T),
        (winograd_strided_transforms.transform_output, A_7_2),
        (winograd_strided_transforms.transform_gradient, A_7_2.T),
        (winograd_strided_transforms.transform_weight, G_7_2),
        (winograd_strided_transforms.transform_weight_gradient, G_7_2.T),
    ],
)
def test_formulas_follow_from_the_points(formula, matrix):
    np.testing.assert_allclose(np.array(formula(*np.eye(matrix.shape[1]))), matrix, rtol=1e-12, atol=1e-12)


def windows(x, weight_shape, stride, padding):
    (ph, pw) = padding
    padded = np.pad(x.astype(np.float64), ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    return sliding_window_view(padded, weight_shape[:2], axis=(1, 2))[:, :: stride[0], :: stride[1]]


def definition(x, weight, stride, padding):
    return np.einsum("nijcab,abco->nijo", windows(x, weight.shape, stride, padding), weight.astype(np.float64))


def definition_input(g, weight, shape, stride, padding):
    (sh, sw), (ph, pw), (n, height, width, channels) = stride, padding, shape
    dx = np.zeros((n, height + 2 * ph, width + 2 * pw, channels))
    for a, b in np.ndindex(weight.shape[:2]):
        taps = g.astype(np.float64) @ weight[a, b].T.astype(np.float64)
        dx[:, a : a + sh * g.shape[1] : sh, b : b + sw * g.shape[2] : sw] += taps
    return dx[:, ph : ph + height, pw : pw + width]


def definition_weight(x, g, weight_shape, stride, padding):
    return np.einsum("nijcab,nijo->abco", windows(x, weight_shape, stride, padding), g.astype(np.float64))


@st.composite
def convolutions(draw):
    """x, weight, g, stride, padding: small and odd sizes, images smaller than a tile, one channel, kernels up to the image."""
    small = st.integers(1, 3)
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (4, 4), (2, 3), (5, 1), (7, 7)]))
    plain = kernel == (3, 3) and draw(st.booleans())
    stride = (1, 1) if plain else (draw(small), draw(small))
    padding = (1, 1) if plain else (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    size = [draw(st.integers(max(1, k - 2 * p), 13)) for k, p in zip(kernel, padding, strict=True)]
    channels = st.sampled_from([1, 2, 3, 7, 8, 16, 19, 33, 64])
    shape, weight_shape = (draw(small), *size, draw(channels)), (*kernel, 0, draw(channels))
    weight_shape = (*kernel, shape[3], weight_shape[3])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x, weight, g = (
        rng.standard_normal(s).astype(np.float32) for s in (shape, weight_shape, output_shape(shape, weight_shape, stride, padding))
    )
    return x, weight, g, stride, padding


def assert_close(found, wanted):
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * max(np.abs(wanted).max(), 1))


@settings(deadline=None, max_examples=150)
@given(convolutions())
def test_kernels_equal_definitions(case):
    x, weight, g, stride, padding = case
    bias = g[0, 0, 0]
    assert_close(conv2d_forward(x, weight, None, stride, padding), definition(x, weight, stride, padding))
    assert_close(conv2d_forward(x, weight, bias.copy(), stride, padding), definition(x, weight, stride, padding) + bias)
    assert_close(conv2d_input(g, weight, x.shape, stride, padding), definition_input(g, weight, x.shape, stride, padding))
    assert_close(conv2d_weight(x, g, weight.shape, stride, padding), definition_weight(x, g, weight.shape, stride, padding))


@settings(deadline=None, max_examples=60)
@given(convolutions())
def test_derivatives_are_adjoint_to_the_convolution(case):
    x, weight, g, stride, padding = case

    def product(a, b):
        return np.vdot(a.astype(np.float64), b.astype(np.float64))

    y = conv2d_forward(x, weight, None, stride, padding)
    scale = np.linalg.norm(y) * np.linalg.norm(g) + 1
    assert abs(product(y, g) - product(x, conv2d_input(g, weight, x.shape, stride, padding))) < 1e-4 * scale
    assert abs(product(y, g) - product(weight, conv2d_weight(x, g, weight.shape, stride, padding))) < 1e-4 * scale


@pytest.mark.parametrize(("size", "channels", "out"), [(28, 32, 32), (14, 128, 64), (7, 64, 64), (9, 8, 24), (3, 16, 16)])
def test_winograd_is_within_1e_4(size, channels, out):
    rng = np.random.default_rng(0)
    x, w, g = (rng.standard_normal(s).astype(np.float32) for s in ((2, size, size, channels), (3, 3, channels, out), (2, size, size, out)))
    for found, wanted in (
        (winograd.forward(x, w, None), definition(x, w, (1, 1), (1, 1))),
        (winograd.input_gradient(g, w), definition_input(g, w, x.shape, (1, 1), (1, 1))),
        (winograd.weight_gradient(x, g), definition_weight(x, g, w.shape, (1, 1), (1, 1))),
    ):
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 8), st.integers(3, 31), st.integers(3, 31), st.sampled_from([16, 32, 80]), st.sampled_from([16, 48]), st.integers(0, 99)
)
def test_strided_winograd_is_within_1e_4(n, height, width, channels, out, seed):
    rng, steps = np.random.default_rng(seed), ((2, 2), (1, 1))
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((n, height, width, channels), (4, 4, channels, out)))
    g = rng.standard_normal(output_shape(x.shape, w.shape, *steps)).astype(np.float32)
    for found, wanted in (
        (winograd_strided.forward(x, w, g[0, 0, 0].copy(), g.shape), definition(x, w, *steps) + g[0, 0, 0]),
        (winograd_strided.input_gradient(g, w, x.shape), definition_input(g, w, x.shape, *steps)),
        (winograd_strided.weight_gradient(x, g), definition_weight(x, g, w.shape, *steps)),
    ):
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size", "channels", "out"),
    [(3, 1, 1, 12, 32, 16), (3, 2, 1, 12, 8, 16), (4, 2, 1, 12, 1, 8), (1, 1, 0, 12, 9, 5), (4, 2, 1, 28, 16, 48)],
)
def test_threads_change_nothing_but_rounding_and_runs_repeat_bit_by_bit(kernel, stride, padding, size, channels, out):
    rng = np.random.default_rng(1)
    shape, weight_shape, steps = (5, size, size - 1, channels), (kernel, kernel, channels, out), ((stride, stride), (padding, padding))
    x, w, g = (rng.standard_normal(s).astype(np.float32) for s in (shape, weight_shape, output_shape(shape, weight_shape, *steps)))

    def results():
        return conv2d_forward(x, w, None, *steps), conv2d_input(g, w, shape, *steps), conv2d_weight(x, g, weight_shape, *steps)

    before = get_threads()
    found = results()
    for a, b in zip(found, results(), strict=True):
        np.testing.assert_array_equal(a, b)
    try:
        set_threads(1)
        for a, b in zip(found, results(), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
    finally:
        set_threads(before)


def test_a_nan_reaches_every_output_that_reads_it():
    x = np.zeros((1, 12, 12, 16), np.float32)
    x[0, 5, 5, 3] = np.nan
    y = conv2d_forward(x, np.ones((3, 3, 16, 16), np.float32), None, (1, 1), (1, 1))
    assert np.isnan(y[0, 4:7, 4:7]).all()


@pytest.mark.parametrize(
    ("shape", "weight_shape", "y_shape", "stride", "padding"),
    [
        ((1, 6, 6, 3), (3, 3, 7, 2), (1, 4, 4, 2), (1, 1), (0, 0)),  # channels in
        ((1, 6, 6, 3), (3, 3, 3, 5), (1, 4, 4, 2), (1, 1), (0, 0)),  # channels out
        ((1, 6, 6, 8), (3, 3, 8, 8), (2, 6, 6, 8), (1, 1), (1, 1)),  # batch
        ((1, 6, 6, 8), (3, 3, 8, 8), (1, 9, 9, 8), (1, 1), (1, 1)),  # size, where Winograd would serve
        ((64, 14, 14, 16), (4, 4, 16, 16), (64, 8, 8, 16), (2, 2), (1, 1)),
        ((1, 6, 6, 3), (3, 3, 3, 2), (1, 7, 7, 2), (1, 1), (0, 0)),
        ((1, 1, 1, 3), (1, 1, 3, 2), (1, -1, -1, 2), (1, 1), (-1, -1)),  # nothing is left
    ],
)
def test_shapes_that_do_not_belong_together_reach_no_memory(shape, weight_shape, y_shape, stride, padding):
    x, weight = np.zeros(shape, np.float32), np.zeros(weight_shape, np.float32)
    g = np.zeros([max(0, n) for n in y_shape], np.float32)
    with pytest.raises(ValueError, match="convolution: x has shape"):
        conv2d_input(g, weight, shape, stride, padding)
    with pytest.raises(ValueError, match="convolution: x has shape"):
        conv2d_weight(x, g, weight_shape, stride, padding)


@settings(deadline=None, max_examples=40)
@given(convolutions())
def test_nothing_beyond_the_arrays_is_read(case):
    """Between fences of NaN the results are what they are elsewhere."""
    *arrays, stride, padding = case

    def fenced(a):
        around = np.full(a.size + 2 * 4096, np.nan, np.float32)
        inside = around[4096 : 4096 + a.size].reshape(a.shape)
        inside[...] = a
        return inside

    def results(x, weight, g):
        return (conv2d_forward(x, weight, None, stride, padding), conv2d_input(g, weight, x.shape, stride, padding),
                conv2d_weight(x, g, weight.shape, stride, padding))

    for a, b in zip(results(*arrays), results(*map(fenced, arrays)), strict=True):
        np.testing.assert_array_equal(a, b)
