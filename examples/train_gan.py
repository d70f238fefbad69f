"""Train a DCGAN on MNIST with spectral norm and averaged weights, ask it what is wrong, and draw digits: look at gan.png.

    python examples/train_gan.py [steps]
"""

import sys

import numpy as np

from zoo.data import mnist
from zoo.drawing.pictures import save_grid
from zoo.explain.diagnosis import diagnose
from zoo.gan import GAN
from zoo.recipes.gan import GANTraining, make_trainer

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
digits = mnist()
model = GAN.new(seed=0)
trainer = make_trainer(model, digits, GANTraining(steps=steps))
for record in trainer:
    if record.step % max(1, steps // 20) == 0:
        print(f"step {record.step}:", ", ".join(f"{name} {value:.3f}" for name, value in record.losses.items()), flush=True)
if trainer.average is not None:
    trainer.average.swap()  # draw with the averaged weights

print("\n".join(diagnose(model, digits.test[:1000], history=trainer.rows)) or "Nothing is wrong that the diagnosis knows of.")
save_grid("gan.png", model.sample(64, seed=0))

for step in model.steps(1, seed=0):  # from z through each layer to the picture, and the discriminator's verdict on it
    print(f"{step.name:8} {step.formula:55} {step.value.shape}")
a, b = model.draw_z(2, np.random.default_rng(1))
save_grid("gan-between.png", model.interpolate(a, b, 10), columns=10)
