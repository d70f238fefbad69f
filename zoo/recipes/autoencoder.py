"""How an autoencoder is trained: settings of a run, presets, the trainer.

None ships.  `zoo train autoencoder` learns from MNIST's 60,000 training digits for 20 epochs in batches of 128, with Adam and a learning
rate that falls along half a cosine to 0.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ..autoencoder import Autoencoder
from ..data.images import Images, load_images
from ..model import Count, Positive, check_images
from ..optim import Adam, cosine
from ..training import Trainer, shuffled
from .recipe import Recipe, RunSettings


@dataclasses.dataclass(frozen=True)
class AutoencoderTraining(RunSettings):
    epochs: Count = 20
    batch_size: Count = 128
    lr: Positive = 1e-3


PRESETS: dict[str, dict[str, Any]] = {  # fields of AutoencoderConfig and AutoencoderTraining
    "autoencoder": {},
    "plane": {"latent": 2},  # codes that can be seen
    "convolutional": {"network": "convolutional", "hidden": (256,)},
}


def make_trainer(model: Autoencoder, images: Images, training: AutoencoderTraining, *, seed: int = 0, folder=None, resume: bool = False,
                 **options) -> Trainer:
    """The training run of a preset or of your own settings; options go to `Trainer`."""
    x = check_images(images.train, model.config.image)
    batches = shuffled(x, batch_size=training.batch_size, seed=seed)
    steps = training.epochs * (len(x) // training.batch_size)
    return Trainer(model, model.loss, batches, Adam(model.parameters(), training.lr), steps=steps, schedule=cosine(steps), seed=seed,
                   folder=folder, resume=resume, precision=training.precision, **options)


RECIPE = Recipe(Autoencoder, AutoencoderTraining, PRESETS, lambda source: load_images(source or "mnist"), make_trainer, "mnist")
