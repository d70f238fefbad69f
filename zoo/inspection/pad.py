"""The pad of `zoo play`: a digit that a visitor draws, and what four of the models that ship make of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from ..explain.gradients import class_logit, saliency
from ..explain.latents import codes
from ..loading.cards import load, shipped
from ..parts.denoising.editing import inpaint_steps
from .controls import read_bytes
from .page import pack
from .panels.latent import latent_map

SIZE = (28, 28)
MODELS = ("classifier", "gan", "vae", "diffusion")
REPEATS = 3  # of each step while a part is filled in, see `inpaint_steps`


class Pad:
    """Each model is loaded at its first use; what doesn't ship is left out of the answers."""

    def __init__(self) -> None:
        self.loaded: dict[str, Any] = {}

    def model(self, name: str) -> Any:
        if name not in self.loaded:
            self.loaded[name] = load(name)
        return self.loaded[name]

    def begin(self) -> dict[str, Any]:
        """What the page shows before anything is drawn: the map of test digits."""
        return {"map": latent_map(self.model("vae"))} if "vae" in shipped() else {}

    def look(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the models say of the request's `pixels`, 28 x 28 bytes in base64, 0 for paper and 255 for ink.

        classifier: its probabilities, and d logit / d pixel for the most likely digit.  judge: the discriminator's belief that a person
        wrote this as that digit, and the same derivative of its logit.  place: the code, and the picture that it decodes to.
        """
        x = read_bytes("pixels", request.get("pixels"), SIZE)[None] / np.float32(255)
        answer: dict[str, Any] = {}
        there, label = shipped(), None
        if "classifier" in there:
            classifier = self.model("classifier")
            probabilities = classifier.look(x)[1][0]
            label = int(probabilities.argmax())
            answer["classifier"] = {"probabilities": pack(probabilities), "digit": label,
                                    "saliency": _signed(saliency(class_logit(classifier, label), x))}
        if "gan" in there and label is not None:
            gan = self.model("gan")
            verdict = gan._verdict(gan.to_network_range(x), np.array([label]))
            answer["judge"] = {"belief": float(verdict.value[0]), "saliency": _signed(verdict.gradient)}
        if "vae" in there:
            code = codes(self.model("vae"), x)
            answer["place"] = {"code": pack(code[0]), "picture": pack(np.asarray(self.model("vae").decode(code).data)[0], "unit8")}
        return answer

    def finish(self, request: dict[str, Any]) -> Generator[dict[str, Any]]:
        """The picture while diffusion fills in the pixels whose `mask` isn't 0, a message per step."""
        x = read_bytes("pixels", request.get("pixels"), SIZE)[None] / np.float32(255)
        mask = read_bytes("mask", request.get("mask"), SIZE) == 0
        seed = request.get("seed", 0)
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
            raise ValueError(f"seed is {str(seed)[:40]}; it is a whole number from 0 to {2**31 - 1}")
        digit = request.get("digit")
        if digit is not None and (isinstance(digit, bool) or digit not in range(10)):
            raise ValueError(f"digit is {str(digit)[:40]}; it is a whole number from 0 to 9, or null")
        model = self.model("diffusion")
        for step in inpaint_steps(model, x, mask, seed=seed, digit=digit, repeats=REPEATS):
            yield {"picture": pack(model.to_pictures(step.x_previous)[0], "unit8"), "t": float(step.t_previous)}


def _signed(gradient: np.ndarray) -> dict[str, Any]:
    return pack(gradient.reshape(SIZE), "float16", scale="signed")
