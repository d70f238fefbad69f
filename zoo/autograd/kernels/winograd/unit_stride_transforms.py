"""The small matrices of Winograd's F(4x4, 3x3) (Lavin & Gray 2015, section 4.3), as formulas.

Importing this file imports Numba.
"""

from .machine_code import picture_transform, tile_transform


def transform_input(d0, d1, d2, d3, d4, d5):
    """B^T d, F(4, 3): six inputs to six points."""
    p, q = d4 - 4 * d2, d3 - 4 * d1
    r, s = d4 - d2, 2 * (d3 - d1)
    return 4 * d0 - 5 * d2 + d4, p + q, p - q, r + s, r - s, 4 * d1 - 5 * d3 + d5


def transform_output(y0, y1, y2, y3, y4, y5):
    """A^T y: six points to four outputs."""
    p, q, r, s = y1 + y2, y1 - y2, y3 + y4, y3 - y4
    return y0 + p + r, q + 2 * s, p + 4 * r, q + 8 * s + y5


def transform_gradient(g0, g1, g2, g3):
    """A g, the transpose of `transform_output`: the gradient of four outputs to that of six points."""
    p, q = g0 + g2, g1 + g3
    r, s = g0 + 4 * g2, 2 * g1 + 8 * g3
    return g0, p + q, p - q, r + s, r - s, g3


def transform_weight(w0, w1, w2):
    """G w: three taps to six points."""
    p, q = (w0 + w2) * (1 / 6), w1 * (1 / 6)
    r, s = w0 * (1 / 24) + w2 * (1 / 6), w1 * (1 / 12)
    return w0 * (1 / 4), -p - q, q - p, r + s, r - s, w2


def transform_weight_gradient(u0, u1, u2, u3, u4, u5):
    """G^T u, the transpose of `transform_weight`: the gradient of six points to that of three taps."""
    p, q, r, s = u1 + u2, u2 - u1, u3 + u4, u3 - u4
    return u0 * (1 / 4) - p * (1 / 6) + r * (1 / 24), q * (1 / 6) + s * (1 / 12), (r - p) * (1 / 6) + u5


input_tile = picture_transform(transform_input, 6, 6, "source")
output_tile = picture_transform(transform_output, 6, 4, "target")
gradient_tile = picture_transform(transform_gradient, 4, 6, "source")
weight_tile = tile_transform(transform_weight, 3, 6)
weight_gradient_tile = tile_transform(transform_weight_gradient, 6, 3)
