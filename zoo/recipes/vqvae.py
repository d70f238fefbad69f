"""How a VQ-VAE is trained, together with its prior: settings of a run, presets, the trainer.

None ships.  `zoo train vqvae` learns from MNIST's 60,000 training digits for 20 epochs in batches of 128, with Adam; the gradient's norm
is clipped at 10.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ..data import scenes
from ..data.images import Images, load_images
from ..model import Count, Natural, Positive, check_images
from ..optim import Adam, cosine
from ..training import Trainer, shuffled
from ..vqvae import VQVAE
from .recipe import Recipe, RunSettings, labels_of


@dataclasses.dataclass(frozen=True)
class VQVAETraining(RunSettings):
    epochs: Count = 20
    batch_size: Count = 128
    lr: Positive = 1e-3
    warm_up: Natural = 100  # steps over which the learning rate grows; then it falls along half a cosine to 0


PRESETS: dict[str, dict[str, Any]] = {  # fields of VQVAEConfig and VQVAETraining
    "vqvae": {},
    "conditional": {"classes": 10},
    "scenes": {"binarise": False, "codes": 256, "channels": 64, "prior_layers": 1, "prior_width": 32, "prior_heads": 2, "epochs": 10},
}
SCENES = "captioned-digits"
SCENES_TO_TRAIN_ON, SCENES_TO_TEST_ON = 20_000, 1000


def load_data(source: str | None) -> Images:
    """Pictures by name or path, or scenes of captioned digits without their captions."""
    if source != SCENES:
        return load_images(source or "mnist")
    train, test = scenes.captioned_digits(SCENES_TO_TRAIN_ON, 1), scenes.captioned_digits(SCENES_TO_TEST_ON, 2, digits="test")
    return Images(train.pictures, None, test.pictures, None, SCENES)


def make_trainer(model: VQVAE, images: Images, training: VQVAETraining, *, seed: int = 0, folder=None, resume: bool = False,
                 **options) -> Trainer:
    """The training run of a preset or of your own settings; options go to `Trainer`."""
    t = training
    arrays = [check_images(images.train, model.config.image)]
    if model.config.classes:
        arrays.append(labels_of(images, model.config.classes))
    batches = shuffled(*arrays, batch_size=t.batch_size, seed=seed)
    steps = t.epochs * (len(arrays[0]) // t.batch_size)
    return Trainer(model, model.loss, batches, Adam(model.parameters(), t.lr, clip=10.0), steps=steps, seed=seed, folder=folder,
                   schedule=cosine(steps, warmup=min(t.warm_up, steps // 10)), resume=resume, precision=training.precision, **options)


RECIPE = Recipe(VQVAE, VQVAETraining, PRESETS, load_data, make_trainer, "mnist", {"scenes": SCENES})
