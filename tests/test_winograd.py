"""What Winograd's convolution does beside the convolution: biases, a residual, and the sums of the gradient."""

import numpy as np
import pytest

from zoo.autograd.kernels.winograd import unit_stride as winograd


@pytest.mark.parametrize(("size", "channels", "out"), [((28, 28), 32, 32), ((14, 11), 19, 64), ((7, 7), 64, 33), ((3, 5), 8, 8)])
def test_what_is_added_is_added(size, channels, out, rng):
    x, w, bias, own_bias, residual, g = (
        rng.standard_normal(s, np.float32)
        for s in ((3, *size, channels), (3, 3, channels, out), out, (3, out), (3, *size, out), (3, *size, out))
    )
    plain = winograd.forward(x, w)
    for found, wanted in (
        (winograd.forward(x, w, bias), plain + bias),
        (winograd.forward(x, w, own_bias), plain + own_bias[:, None, None]),
        (winograd.forward(x, w, bias, residual), plain + bias + residual),
        (winograd.forward(x, w, None, residual), plain + residual),
        (winograd.weight_gradient_and_sums(x, g)[1], g.sum((1, 2), np.float64)),
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_nothing_beyond_the_image_is_read_or_written(rng):
    """Tiles reach over the edges: what lies there is NaN, and stays what it is."""
    n, height, width, channels = 2, 5, 7, 16
    around = np.full((n + 2, height, width, channels), np.nan, np.float32)
    x = around[1:-1]
    x[...] = rng.standard_normal(x.shape, np.float32)
    w = rng.standard_normal((3, 3, channels, channels), np.float32)
    for a in (winograd.forward(x, w, None, x), winograd.input_gradient(x, w), *winograd.weight_gradient_and_sums(x, x)):
        assert np.isfinite(a).all()
    assert np.isnan(around[[0, -1]]).all()
