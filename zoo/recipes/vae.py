"""How a VAE is trained: settings of a run, presets, the trainer.

The shipped ones learned from MNIST's 60,000 training digits in batches of 500, with Muon, a rate that falls along half a cosine to 0, and
averaged weights.  Beside each, -ln p(x) of the test set, with 5,000 samples an image (500 for vae-conditional):

    vae              zoo train vae --threads 1                         500 epochs, 40 minutes    85.41 nats
    vae-iwae5        zoo train vae --preset iwae5 --threads 1          300 epochs, 31 minutes    84.85 nats
    vae-two-layers   zoo train vae --preset two-layers --threads 1     400 epochs, 40 minutes    83.31 nats
    vae-conditional  zoo train vae --preset conditional                 50 epochs,  5 minutes    84.35 nats, given the label
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ..data.images import Images, load_images
from ..model import Count, Decay, Natural, Positive, check_images
from ..nn import Linear
from ..optim import Adam, Average, Muon, constant, cosine
from ..training import Trainer, shuffled
from ..training.objective import DrawnFirst, has_own_loss
from ..vae import VAE
from .recipe import Recipe, RunSettings, labels_of


@dataclasses.dataclass(frozen=True)
class VAETraining(RunSettings):
    epochs: Count = 500
    batch_size: Count = 500
    optimiser: Literal["adam", "muon"] = "muon"  # muon needs a third of Adam's epochs for the same likelihood here
    lr: Positive = 3e-3  # Adam's; with muon, Adam's for the biases
    muon_lr: Positive = 0.02
    schedule: Literal["cosine", "constant"] = "cosine"  # of the learning rates; cosine ends at 0
    warm_up: Natural = 0  # epochs over which the KL term grows to its full weight
    average: Decay = 0.999  # decay of the averaged weights that are evaluated and saved; 0 for none


PRESETS: dict[str, dict[str, Any]] = {  # fields of VAEConfig and VAETraining; the first three are models of Burda et al. (2016), table 1
    "vae": {},
    "iwae5": {"samples": 5, "epochs": 300},
    "two-layers": {"latent": (100, 50), "hidden": (200, 100), "epochs": 400},
    "grey": {"latent": (20,), "hidden": (400,), "depth": 1, "activation": "relu", "binarise": False, "average": 0.0,
             "epochs": 7, "batch_size": 128, "optimiser": "adam", "lr": 1e-3, "schedule": "constant"},
    "convolutional": {"network": "convolutional", "latent": (32,), "hidden": (256,), "activation": "relu",
                      "epochs": 20, "batch_size": 128, "optimiser": "adam", "lr": 1e-3},
    "conditional": {"classes": 10, "latent": (20,), "epochs": 50},
}


LOSS = VAE.loss


def make_trainer(model: VAE, images: Images, training: VAETraining, *, seed: int = 0, folder=None, resume: bool = False,
                 **options) -> Trainer:
    """The training run of a preset or of your own settings; options go to `Trainer`."""
    t = training
    x = check_images(images.train, model.config.image)
    labels = None
    if model.config.classes:
        labels = labels_of(images, model.config.classes)
    batches = shuffled(x, batch_size=t.batch_size, seed=seed) if labels is None else shuffled(x, labels, batch_size=t.batch_size, seed=seed)
    per_epoch = len(x) // t.batch_size
    steps = t.epochs * per_epoch
    optimiser: Adam
    if t.optimiser == "muon":
        matrices = [layer.weight for _, layer in model.modules() if isinstance(layer, Linear)]
        optimiser = Muon(model.parameters(), t.lr, matrices=matrices, muon_lr=t.muon_lr)
    else:
        optimiser = Adam(model.parameters(), t.lr)
    average = Average(model.parameters(), t.average) if t.average else None

    def warmth():
        return 1.0 if not t.warm_up else min(1.0, (trainer.step + 1) / (t.warm_up * per_epoch))

    def objective(batch, rng):
        return model.loss(batch, rng, warmth=warmth())

    drawn_first = DrawnFirst(lambda batch, rng: model.draw(batch, rng, warmth=warmth()), model.losses,
                             lambda: objective if has_own_loss(model, LOSS) else None)  # fmt: skip
    schedule = cosine(steps) if t.schedule == "cosine" else constant
    trainer = Trainer(model, drawn_first if model.is_closed else objective, batches, optimiser, steps=steps, schedule=schedule, seed=seed,
                      average=average, folder=folder, resume=resume, precision=training.precision, **{"compile": model.is_closed, **options})
    return trainer


RECIPE = Recipe(VAE, VAETraining, PRESETS, lambda source: load_images(source or "mnist"), make_trainer, "mnist")
