"""The seams of residual networks of pictures, each in one pass: what is added to a convolution, and what a U-Net joins."""

from __future__ import annotations

from ..operation import fused
from .convolution import conv2d, upsample
from .shaping import concatenate


@fused
def residual_conv2d(x, weight, bias, residual, *, padding=0):
    """y = conv2d(x, weight, bias) + residual, which broadcasts: a block's input, or a shift for each image (batch, 1, 1, out)"""
    return conv2d(x, weight, bias, padding=padding) + residual


@fused
def join_upsampled(x, skip, *, scale=2):
    """[upsample(x), skip] side by side (Ronneberger et al. 2015): x (n, h, w, a), skip (n, h scale, w scale, b) -> (..., a + b)"""
    return concatenate([upsample(x, scale=scale), skip], axis=-1)


@residual_conv2d.check
def _(x, weight, bias, residual, *, padding):
    conv2d.checker(x, weight, bias, stride=1, padding=padding)  # type: ignore[misc]


@join_upsampled.check
def _(x, skip, *, scale):
    if x.ndim != 4 or skip.ndim != 4:
        raise ValueError(f"join_upsampled: x has shape {x.shape}, skip {skip.shape}; each is (batch, height, width, channels)")
    if skip.shape[:3] != (x.shape[0], x.shape[1] * scale, x.shape[2] * scale):
        raise ValueError(f"join_upsampled: skip has shape {skip.shape}; x, shape {x.shape}, grows {scale} times")
