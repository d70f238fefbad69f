"""At which noise levels is a diffusion model accurate?  Its errors on held-out digits for each t.

    python examples/explain_diffusion.py [MODEL]

MODEL is a shipped diffusion model or a folder of your own (`zoo train diffusion --out runs/mine`); the default is the shipped "diffusion".
If there is none, a small one is trained on MNIST first, which takes one to two minutes, and saved in runs/explained-diffusion.
"""

import argparse
from pathlib import Path

import numpy as np

import zoo
from zoo.data import mnist
from zoo.diffusion import Diffusion
from zoo.inspection import explained
from zoo.recipes.diffusion import DiffusionTraining, make_trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("model", nargs="?", default="diffusion" if "diffusion" in zoo.shipped() else "runs/explained-diffusion")
parser.add_argument("-n", type=int, default=200, help="held-out digits")
parser.add_argument("--out", default=".", help="folder for the figures")
options = parser.parse_args()
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

images = mnist()
if options.model == "runs/explained-diffusion" and not Path(options.model, "card.json").exists():
    print("No diffusion model ships with this copy of zoo: a small one is trained on MNIST now and saved in runs/explained-diffusion.")
    training = DiffusionTraining.make(steps=600, batch_size=64, warm_up=50, average=0.99)
    trainer = make_trainer(Diffusion.new(channels=16), images, training, folder=options.model)
    trainer.run()
    trainer.save_model()
model = zoo.load(options.model)

errors = model.error_by_t(images.test[: options.n], images.test_labels[: options.n] if model.config.classes else None)
for t, x_0, noise in zip(errors["t"], errors["x_0"], errors["noise"]):
    print(f"t = {t:.2f}: root mean square error {np.sqrt(x_0):.3f} of x_0 predicted, {np.sqrt(noise):.3f} of the noise predicted")
explained.error_by_t(errors).figure.savefig(out / "error_by_t.png")
print("written: error_by_t.png, in", out)
