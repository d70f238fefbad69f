"""The seams of residual networks of pictures, each in one pass: what is added to a convolution, and what a U-Net joins."""

from __future__ import annotations

import numpy as np

from ..operation import broadcasts, fused
from . import checks
from .convolution import conv2d, output_shape, upsample
from .joining import concatenate


@fused(floats="x weight bias residual")
def residual_conv2d(x, weight, bias: np.ndarray | None, residual, *, padding=0):
    """y = conv2d(x, weight, bias) + residual, which broadcasts: a block's input, or a shift for each image (batch, 1, 1, out)"""
    return conv2d(x, weight, bias, padding=padding) + residual


@fused
def join_upsampled(x, skip, *, scale=2):
    """[upsample(x), skip] side by side (Ronneberger et al. 2015): x (n, h, w, a), skip (n, h scale, w scale, b) -> (..., a + b)"""
    return concatenate([upsample(x, scale=scale), skip], axis=-1)


@residual_conv2d.check
def _(x, weight, bias, residual, *, padding):
    conv2d.checker(x, weight, bias, stride=1, padding=padding, dilation=1, groups=1)
    result = output_shape("residual_conv2d", x.shape, weight.shape, 1, padding)
    if not broadcasts(residual.shape, result):
        raise ValueError(f"residual_conv2d: residual has shape {residual.shape}, which doesn't broadcast to the result's, {result}")


@join_upsampled.check
def _(x, skip, *, scale):
    if x.ndim != 4 or skip.ndim != 4:
        raise ValueError(f"join_upsampled: x has shape {x.shape}, skip {skip.shape}; each is (batch, height, width, channels)")
    height, width = checks.pair(scale, "join_upsampled: scale", 1)
    if skip.shape[:3] != (x.shape[0], x.shape[1] * height, x.shape[2] * width):
        raise ValueError(f"join_upsampled: skip has shape {skip.shape}; x, shape {x.shape}, grows {scale} times")
