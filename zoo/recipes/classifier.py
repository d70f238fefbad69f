"""How the judge of digits is trained: settings of a run, presets, the trainer."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..autograd import Tensor
from ..data.images import Images, load_images
from ..evaluation.classifier import Classifier
from ..model import Count, Decay, NonNegative, check_images
from ..optim import Adam, Average, cosine
from ..training import Trainer, shuffled
from .recipe import Recipe, RunSettings, labels_of


@dataclasses.dataclass(frozen=True)
class ClassifierTraining(RunSettings):
    epochs: Count = 12
    batch_size: Count = 128
    lr: NonNegative = 2e-3  # at first; it falls along a cosine to 0
    average: Decay = 0.999  # decay of the averaged weights that are evaluated and saved; 0 for none


PRESETS: dict[str, dict[str, Any]] = {"classifier": {}}


def make_trainer(model: Classifier, images: Images, training: ClassifierTraining, *, seed: int = 0, folder=None, resume: bool = False,
                 **options) -> Trainer:
    """The training run of the judge; options go to `Trainer`."""
    t = training
    if images.train_labels is None:
        raise ValueError("labels: these images have none; a classifier learns from labels")
    x = check_images(images.train, model.config.image)
    batches = shuffled(x, labels_of(images, model.config.classes), batch_size=t.batch_size, seed=seed)
    steps = t.epochs * (len(images.train) // t.batch_size)
    buffers = [Tensor(a) for a in model.named_buffers().values()]  # the running averages are averaged as the weights are
    optimiser = Adam(model.parameters(), t.lr)
    average = Average([*model.parameters(), *buffers], t.average) if t.average else None
    if images.test_labels is not None and len(images.test):
        options.setdefault("evaluate", lambda m: {"test_right": m.accuracy(images.test, images.test_labels)})
    return Trainer(model, model.loss, batches, optimiser, steps=steps, schedule=cosine(steps, warmup=min(200, steps // 10)), seed=seed,
                   average=average, folder=folder, resume=resume, precision=training.precision, **options)


def load_data(source: str | None) -> Images:
    """Pictures by name or path."""
    return load_images(source or "mnist")


RECIPE = Recipe(Classifier, ClassifierTraining, PRESETS, load_data, make_trainer, "mnist")
