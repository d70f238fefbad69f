"""`zoo warm-up`: compile now what would be compiled when it is first used.  Kernels stay on disk, so once is enough for a machine.

No kernel is listed here: every family trains for two steps on a few random pictures or letters and generates a little, with the sizes
of its presets, because these decide which kernels run.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import fields
from typing import Any

import numpy as np

from ..data.images import Images
from ..data.scenes import DIGITS
from ..data.sound import SAMPLES
from ..language.corpus import Corpus
from ..multimodal.dalle import Dalle
from ..vae import VAE
from ..vqvae import VQVAE
from . import recipe_of
from .recipe import Recipe
from .speech import SpokenWords

RUNS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {  # kind -> presets, and what differs from each
    "vae": (("vae", {}), ("iwae5", {}), ("two-layers", {}), ("convolutional", {})),
    "autoencoder": (("autoencoder", {}),),
    "vqvae": (("vqvae", {}),),
    "gan": (("dcgan", {}),),
    "diffusion": (("diffusion", {}), ("dit", {})),
    "transformer": (("shakespeare", {"window": 16}), ("nanogpt-cpu", {"window": 16})),
    "recurrent": (("shakespeare", {"window": 16}), *(("names", {"cell": cell, "lines": False, "window": 16}) for cell in ("gru", "elman"))),
    "classifier": (("classifier", {}),),
    "words": (("words", {}), ("words-dit", {})),
    "scene_judge": (("scene_judge", {}),),
    "captions": (("captions", {}),),
    "contrastive": (("contrastive", {}),),
    "speech": (("speech", {}),),
    "speech_judge": (("speech_judge", {}),),
    "glyphs": (("glyphs", {}),),
    "glyph_judge": (("glyph_judge", {}),),
    "dalle": (("dalle", {}),),
}
SHORT = {"epochs": 1, "steps": 2, "batch_size": 4}  # of training, where it has such a field


def warm_up(kinds: tuple[str, ...] = tuple(RUNS)) -> None:
    """Run each family a little; prints one line each with the seconds that it took."""
    for kind in kinds:
        began = time.perf_counter()
        recipe = recipe_of(kind)
        for preset, changes in RUNS[kind]:
            run_briefly(recipe, preset, changes)
        print(f"{kind:12} {time.perf_counter() - began:6.1f} s", flush=True)


def run_briefly(recipe: Recipe, preset: str, changes: dict[str, Any]) -> None:
    """Two steps of training and a small sample."""
    short = {name: value for name, value in SHORT.items() if name in {f.name for f in fields(recipe.training)}}
    model_fields, training = recipe.settings(preset, **changes, **short)
    if recipe.model is Dalle:
        with tempfile.TemporaryDirectory() as folder:
            VQVAE.new(**recipe_of("vqvae").settings("scenes", image=(32, 32, 3))[0]).save(folder)
            _run(recipe, {**model_fields, "autoencoder": folder}, training)
        return
    _run(recipe, model_fields, training)


def _run(recipe: Recipe, model_fields: dict[str, Any], training: Any) -> None:
    stand_ins = {"mnist": random_pictures, "captioned-digits": lambda: recipe.data(None), "spoken-words": random_words,
                 "dejavu": lambda: recipe.data("dejavu:bold mono")}
    data: Any = stand_ins.get(recipe.default_data, lambda: Corpus("a few letters", "to be or not to be\n" * 40))()
    model = recipe.new(data, model_fields, 0)
    for _ in recipe.trainer(model, data, training):
        pass
    model.eval()
    if isinstance(model, VAE):
        model.log_likelihood(data.test, samples=4)
    if hasattr(model, "generate"):
        model.generate("", 4)
    elif hasattr(model, "sample"):
        model.sample(2)


def random_words() -> SpokenWords:
    """Eight digits that nobody would understand."""
    x = np.random.default_rng(0).uniform(-1, 1, (8, SAMPLES)).astype(np.float32)
    return SpokenWords("random", x, DIGITS[:8], x[:2], DIGITS[:2])


def random_pictures() -> Images:
    """Eight pictures of MNIST's size with labels, and two to test on."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((8, 28, 28), np.float32), np.arange(8) % 10
    return Images(images, labels, images[:2], labels[:2], "random")
