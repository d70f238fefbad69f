"""What a trained diffusion or flow can do with pictures that are given: fill in parts, vary, encode, redraw, interpolate.

`model` is a `zoo.diffusion.Diffusion`; its methods of the same names are these functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from ...autograd import no_grad
from ...autograd.random import generator
from ...model import great_circle, last
from .samplers import euler, heun, times


def inpaint(model, images, mask, *, seed: int = 0, **settings) -> np.ndarray:
    """Pictures that are `images` where the mask is True, and painted to match where it is False.

    images (n, *image) in [0, 1]; mask bool, of a picture's shape or of theirs; settings are those of `inpaint_steps`.
    """
    return model.to_pictures(last(inpaint_steps(model, images, mask, seed=seed, **settings)).x_previous)


def inpaint_steps(model, images, mask, *, seed: int = 0, digit=None, sampler: str = "ddim", eta: float = 1.0, repeats: int = 5,
                  **settings) -> Iterator[Any]:
    """The records of `inpaint`; settings are those of `steps`.

    After each step the known part, as noisy as x_s, is pasted over x_s.  What was painted so far doesn't match it yet, so each step is taken
    `repeats` times, with noise added back in between (Lugmayr et al. 2022, algorithm 1).
    """
    if model.latents is not None:
        raise ValueError("inpaint: this is a model of latents, in which a part of the picture has no place of its own; "
                         "a mask needs a model of pictures")
    known = model.to_network_range(images)
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"mask: dtype is {mask.dtype}; it is bool, True where the picture is kept")
    size = model.config.image
    if mask.shape not in (size, size[:2], known.shape, known.shape[:3]):
        raise ValueError(f"mask: shape is {mask.shape}; for pictures of shape {known.shape} it is {size} or {known.shape}")
    if mask.ndim < known.ndim and mask.shape in (size[:2], known.shape[:3]) and len(size) == 3:
        mask = mask[..., None]
    if mask.all():
        raise ValueError("mask: is True everywhere; nothing is left to paint")
    mask = np.broadcast_to(mask, known.shape)
    eta = eta if sampler == "ddim" else 0.0
    return model.steps(len(known), seed=seed, digit=digit, sampler=sampler, eta=eta, known=known, mask=mask, repeats=repeats, **settings)


def edit(model, images, strength: float, *, seed: int = 0, digit=None, **settings) -> np.ndarray:
    """SDEdit (Meng et al. 2022): noise each picture up to t = strength, and come back.  Near 0 it stays the same, 1 forgets it."""
    low = model.path.t_min
    if not isinstance(strength, (int, float, np.integer, np.floating)) or not low < strength <= 1:
        raise ValueError(f"strength: is {strength!r}; it may go from above {low:g}, nothing changes, to 1, everything")
    x_0 = model.to_network_range(images)
    noise = model.draw_source(len(x_0), generator((seed, 1)))
    final = last(model.steps(seed=seed, digit=digit, x_1=model.noised(x_0, noise, strength), start=strength, **settings))
    return model.to_pictures(final.x_previous)


# --- there and back by the probability-flow ODE, which gives every picture a noise of its own


def encode(model, images, digit=None, *, evaluations: int = 79) -> np.ndarray:
    """The noise (n, *image) from which the probability-flow ODE makes these pictures (Song et al. 2021a, section 5.3), by Heun."""
    x = model.to_network_range(images)
    labels = model.labels_given(digit, len(x))
    up = times(model.path, model.steps_within("heun", evaluations))[::-1]
    if model.path.t_min:
        up[0] = model.path.t_min
        up = sorted(set(up))
    with no_grad():
        for t, s in pairwise(up):
            x = heun(lambda x, at: model.denoise(x, at, labels, clip=False), model.path, t, s, x).mean
    return x


def decode(model, noise: np.ndarray, digit=None, *, evaluations: int = 79, guidance: float = 1.0) -> np.ndarray:
    """Pictures from noise by the same ODE: the inverse of `encode`."""
    x = np.asarray(noise, np.float32)
    if x.shape[1:] != model.config.image or len(x) == 0:
        raise ValueError(f"noise: shape is {x.shape}; for this model it is (n, {', '.join(map(str, model.config.image))}), n at least 1")
    labels = model.labels_given(digit, len(x))
    guidance = model.check_guidance(guidance)
    if guidance != 1 and labels is None:
        raise ValueError(f"guidance: is {guidance}, but no digit is given to be guided by")
    down = times(model.path, model.steps_within("heun", evaluations))
    with no_grad():
        for t, s in pairwise(down):
            sampler = heun if s > 0 else euler
            x = sampler(lambda x, at: model.denoise(x, at, labels, guidance=guidance, clip=False), model.path, t, s, x).mean
    return model.to_pictures(x)


def redraw(model, images, digit, as_digit, *, evaluations: int = 79, guidance: float = 1.0) -> np.ndarray:
    """The digit in each picture turned into another, in the same handwriting: encoded with one label, decoded with the other."""
    return decode(model, encode(model, images, digit, evaluations=evaluations), as_digit, evaluations=evaluations, guidance=guidance)


def interpolate(model, a, b, steps: int = 10, digit=None, *, evaluations: int = 79) -> np.ndarray:
    """Pictures on the great circle between the noises of two: (steps, *image); the ends are their reconstructions."""
    if steps < 2:
        raise ValueError(f"interpolate: steps is {steps}; it is at least 2, the two ends")
    first, second = encode(model, np.stack([a, b]), digit, evaluations=evaluations)
    return decode(model, great_circle(first, second, steps), digit, evaluations=evaluations)
