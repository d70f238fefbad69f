"""The small matrices of Winograd's F(7x7, 2x2), on the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity, as formulas.

Importing this file imports Numba.
"""

from .machine_code import tile_transform


def transform_input(d0, d1, d2, d3, d4, d5, d6, d7):
    """B^T d: eight inputs to eight points."""
    p, q = d6 + d2 - 4.25 * d4, d5 + d1 - 4.25 * d3
    r, s = d6 - 1.25 * d4 + 0.25 * d2, 2 * d5 - 2.5 * d3 + 0.5 * d1
    u, v = d6 - 5 * d4 + 4 * d2, 0.5 * d5 - 2.5 * d3 + 2 * d1
    return d6 - d0 + 5.25 * (d2 - d4), p + q, p - q, r + s, r - s, u + v, u - v, d7 - d1 + 5.25 * (d3 - d5)


def transform_input_gradient(v0, v1, v2, v3, v4, v5, v6, v7):
    """B v, the transpose of `transform_input`: the gradient of eight points to that of eight inputs."""
    p, q, r, s, u, v = v1 + v2, v1 - v2, v3 + v4, v3 - v4, v5 + v6, v5 - v6
    return (
        -v0, q + 0.5 * s + 2 * v - v7, 5.25 * v0 + p + 0.25 * r + 4 * u, 5.25 * v7 - 4.25 * q - 2.5 * s - 2.5 * v,
        -5.25 * v0 - 4.25 * p - 1.25 * r - 5 * u, q + 2 * s + 0.5 * v - 5.25 * v7, v0 + p + r + u, v7,
    )  # fmt: skip


def transform_output(y0, y1, y2, y3, y4, y5, y6, y7):
    """A^T y: eight points to seven outputs."""
    p, q, r, s, u, v = y1 + y2, y1 - y2, y3 + y4, y3 - y4, y5 + y6, y5 - y6
    return (
        y0 + p + r + u, q + 2 * s + 0.5 * v, p + 4 * r + 0.25 * u, q + 8 * s + 0.125 * v,
        p + 16 * r + 0.0625 * u, q + 32 * s + 0.03125 * v, p + 64 * r + 0.015625 * u + y7,
    )  # fmt: skip


def transform_gradient(g0, g1, g2, g3, g4, g5, g6):
    """A g, the transpose of `transform_output`: the gradient of seven outputs to that of eight points."""
    p, q = g0 + g2 + g4 + g6, g1 + g3 + g5
    r, s = g0 + 4 * g2 + 16 * g4 + 64 * g6, 2 * g1 + 8 * g3 + 32 * g5
    u, v = g0 + 0.25 * g2 + 0.0625 * g4 + 0.015625 * g6, 0.5 * g1 + 0.125 * g3 + 0.03125 * g5
    return g0, p + q, p - q, r + s, r - s, u + v, u - v, g6


def transform_weight(w0, w1):
    """G w: two taps to eight points."""
    p, q, r, s, u, v = w0 * (-2 / 9), w1 * (-2 / 9), w0 * (1 / 90), w1 * (1 / 45), w0 * (32 / 45), w1 * (16 / 45)
    return -w0, p + q, p - q, r + s, r - s, u + v, u - v, w1


def transform_weight_gradient(u0, u1, u2, u3, u4, u5, u6, u7):
    """G^T u, the transpose of `transform_weight`: the gradient of eight points to that of two taps."""
    return (
        (u3 + u4) * (1 / 90) + (u5 + u6) * (32 / 45) - (u1 + u2) * (2 / 9) - u0,
        (u3 - u4) * (1 / 45) + (u5 - u6) * (16 / 45) - (u1 - u2) * (2 / 9) + u7,
    )


input_tile = tile_transform(transform_input, 8, 8)
input_gradient_tile = tile_transform(transform_input_gradient, 8, 8)
output_tile = tile_transform(transform_output, 8, 7, add_bias=True)
gradient_tile = tile_transform(transform_gradient, 7, 8)
weight_tile = tile_transform(transform_weight, 2, 8)
weight_gradient_tile = tile_transform(transform_weight_gradient, 8, 2)
