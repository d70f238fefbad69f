"""What a page shows of autoencoders, variational or plain: their layers, a decoder that runs in the page, and a map of the codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...explain.latents import codes, plane
from ...nn import ConvTranspose2d, Linear
from ..page import pack
from .arrays import in_image_shape, picture, unbatched
from .recording import Event, Panels, recorder, tool

LIVE_LIMIT = 2_500_000  # weights; a larger decoder doesn't go into a page
MAP_POINTS = 600  # test digits


@recorder("vae", "autoencoder")
def autoencoder(model: Any, **settings: Any) -> Iterator[Event]:
    yield {
        "picture": {"kind": "picture", "title": "Current value", "stage": True, "pictures": []},
        "why": {"kind": "why", "title": "This step", "wide": True, "sentences": []},
        "arrays": {"kind": "arrays", "title": "From z to pixels, so far", "wide": True, "note": "orange above 0, blue below", "arrays": [],
                   "sizes": [], "steps": True},
    }
    for i, step in enumerate(model.steps(**{"n": 1, **settings})):
        value = in_image_shape(unbatched(step.value), model)
        yield step, {"picture": {"pictures": picture(value)}, "why": {"sentences": sentence(step)},
                     "arrays": {"arrays": {"name": step.name, "array": picture(value, "float16")}, "sizes": i + 1}}


@tool("vae", "autoencoder")
def decoder_in_the_page(model: Any, steps: list, *, digit: Any = None, **settings: Any) -> Panels:
    decoder = decoder_of(model, digit)
    if decoder is None:
        return {}
    size = latent_of(model)["size"]
    z = next((step.value[0] for step in steps if step.name in ("z", "z1")), steps[0].given[0, :size])  # z may have been given
    return {"latent": {"kind": "latent", "title": "Move z yourself", "wide": True,
                       "note": "the decoder runs in this page; each slider is one number of z",
                       "z": pack(z), "layers": decoder, "image": list(model.config.image), **latent_of(model), "map": latent_map(model)}}


def sentence(step: Any) -> str:
    v = step.value
    if step.given.shape[-1] == 0:
        return f"Generation starts from **{v.shape[-1]} random numbers**, ${step.formula}$. The same seed gives the same picture."
    if step.name == "pixels":
        return f"${step.formula}$ maps every number to [0, 1]: **the picture**, mean brightness **{v.mean():.3f}**."
    if step.name == "logits":
        above = f"**{(v > 0).mean():.0%}** are above 0: those pixels will be brighter than half."
        return f"${step.formula}$: one number for each pixel, **{v.size:,}** in all. {above}"
    if step.name == "e":
        return f"Each code selects a row of the codebook, ${step.formula}$: **{v.shape[-1]}** numbers at each position of the grid."
    if step.draw is not None:
        return f"${step.formula}$: the layer above gives mean and variance; **{step.draw.shape[-1]} random numbers** sample from that Gaussian."
    moments = f"mean **{v.mean():.3f}**, standard deviation **{v.std():.3f}**"
    before, after = (" × ".join(map(str, a.shape[1:])) for a in (step.given, v))
    return f"${step.formula}$: **{before}** numbers become **{after}**, {moments}."


def latent_of(model: Any) -> dict[str, Any]:
    """How many numbers z has and how far its sliders go; for a plain autoencoder also mean and covariance's root of its codes."""
    if model.kind != "autoencoder":
        latent = model.config.latent
        return {"size": latent if isinstance(latent, int) else latent[0], "reach": 4.0}
    values, vectors = np.linalg.eigh(model.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    reach = float(np.ceil(np.abs(model.mean).max() + 4 * np.sqrt(model.covariance.diagonal().max())))
    return {"size": model.config.latent, "reach": reach, "mean": pack(model.mean), "root": pack(root)}


def decoder_of(model: Any, digit: Any = None) -> list[dict[str, Any]] | None:
    """The decoder as a list of layers that the page can run; None if it is too large or has a layer that the page doesn't know."""
    classes = getattr(model.config, "classes", 0)
    if sum(p.size for layer in [*model.layers, model.output] for p in layer.parameters()) > LIVE_LIMIT:
        return None
    layers: list[dict[str, Any]] = []
    if classes:
        labels = np.zeros(classes, np.float32)
        labels[int(np.ravel(0 if digit is None else digit)[0])] = 1
        layers.append({"kind": "label", "values": labels.tolist()})
    layers += [_dense(layer) for layer in model.layers]
    if isinstance(model.output, Linear):
        layers.append(_dense(model.output))
    else:
        out = model.output
        layers.append(_dense(out.dense))
        height, width, _ = out.small
        for k, convolution in enumerate(out.convolutions):
            if not isinstance(convolution, ConvTranspose2d):
                return None
            kernel, _, _, outputs = convolution.weight.shape
            stride, padding = convolution.stride, convolution.padding
            bias = np.zeros(outputs, np.float32) if convolution.bias is None else convolution.bias.data
            layers.append({"kind": "transposed", "height": height, "width": width, "stride": stride, "padding": padding,
                           "weight": pack(convolution.weight.data, "float16"), "bias": pack(bias),
                           "activation": out.activation if k + 1 < len(out.convolutions) else None})
            height, width = (stride * (side - 1) - 2 * padding + kernel for side in (height, width))
    known = (None, "tanh", "relu", "silu", "gelu", "leaky_relu")
    return layers if all(layer.get("activation") in known for layer in layers) else None


def _dense(layer: Linear) -> dict[str, Any]:
    bias = np.zeros(layer.weight.shape[1], np.float32) if layer.bias is None else layer.bias.data
    return {"kind": "dense", "weight": pack(layer.weight.data, "float16"), "bias": pack(bias), "activation": layer.activation}


def latent_map(model: Any) -> dict[str, Any] | None:
    """Where test digits lie in the plane of their codes' first two principal components; None for a model of other pictures.

    z = centre + across e1 + up e2 (+ what the plane doesn't show); with two latent numbers the plane is the whole latent space.
    """
    from ...data.images import mnist_test

    if tuple(model.config.image) != (28, 28):
        return None
    pictures, labels = (part[:MAP_POINTS] for part in mnist_test())
    there = plane(codes(model, pictures, labels))
    return {"points": pack(there.points), "labels": labels.tolist(), "centre": pack(there.centre), "axes": pack(there.axes)}
