"""Train a small conditional diffusion model on MNIST, then generate digits in ten steps: see diffusion.png, diffusion-strip.png and diffusion.gif.

    python examples/train_diffusion.py [minutes]

Ten minutes are enough for digits; the shipped models were trained for longer (zoo/recipes/diffusion.py says how long).
"""

import sys

import numpy as np

from zoo.data import mnist
from zoo.diffusion import Diffusion
from zoo.drawing.pictures import save_grid
from zoo.inspection import figures
from zoo.recipes.diffusion import DiffusionTraining, make_trainer

minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10
digits = mnist()
model = Diffusion.new(classes=10, schedule="cosine", prediction="v", sampler="dpm-solver++", evaluations=10, guidance=1.5, seed=0)
trainer = make_trainer(model, digits, DiffusionTraining(steps=int(minutes * 150), batch_size=64))
print(trainer.run())
if trainer.average is not None:
    trainer.average.swap()  # sample with the averaged weights

save_grid("diffusion.png", model.sample(64, seed=0))

# Every step is a record: x_t, and the picture x_0 that the network predicts from it.
steps = list(model.steps(8, digit=np.arange(8), seed=0))
figures.denoising(model, steps).figure.savefig("diffusion-strip.png")
figures.denoising_gif("diffusion.gif", model, model.steps(16, seed=0, evaluations=40))

errors = model.error_by_t(digits.test[:256], digits.test_labels[:256])
for t, error in zip(errors["t"], errors["x_0"]):
    print(f"t {t:.2f}   mean squared error of the predicted x_0 {error:.4f}")

half = np.zeros((28, 28), bool)
half[:14] = True  # keep the upper half of each picture, and fill in the lower half
save_grid("diffusion-inpainted.png", model.inpaint(digits.test[:8], half, digit=digits.test_labels[:8], evaluations=30), columns=8)
