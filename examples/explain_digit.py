"""Which pixels make it a seven?  A classifier's answer and a discriminator's verdict, attributed to pixels.

    python examples/explain_digit.py [--digit 7] [--gan MODEL]

The classifier ships.  --gan is a shipped GAN or a folder of your own (`zoo train gan --out runs/gan`); the default is the shipped "gan".
If there is none, a small dense one is trained on MNIST first, which takes about a minute, and saved in runs/explained-gan.
"""

import argparse
from pathlib import Path

import numpy as np

import zoo
from zoo import explain
from zoo.data import mnist
from zoo.gan import GAN
from zoo.inspection import explained
from zoo.recipes.gan import GANTraining, make_trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--digit", type=int, default=7)
parser.add_argument("--gan", default="gan" if "gan" in zoo.shipped() else "runs/explained-gan")
parser.add_argument("--out", default=".", help="folder for the figures")
options = parser.parse_args()
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

images = mnist()
digits = images.test[images.test_labels == options.digit][:6]

# The classifier: which pixels are evidence for this digit?
f = explain.class_logit(zoo.load("classifier"), options.digit)
for steps in (8, 32, 128):
    attribution = explain.integrated_gradients(f, digits, steps=steps)
    print(f"integrated gradients from a blank picture, {steps:3} steps: the sums miss f(x) - f(baseline) by up to "
          f"{np.abs(attribution.gap).max():.4f} of {np.abs(attribution.f_x - attribution.f_baseline).max():.2f}")
explained.explained_pictures(digits, {
    "saliency": explain.saliency(f, digits), "integrated gradients": attribution.values, "occlusion": explain.occlusion(f, digits)},
    title=f"evidence for a {options.digit}: orange for, blue against").figure.savefig(out / "digit.png")

# The discriminator: which pixels decide whether it takes a digit for real or generated?
if options.gan == "runs/explained-gan" and not Path(options.gan, "card.json").exists():
    print("No GAN ships with this copy of zoo: a small one is trained on MNIST now and saved in runs/explained-gan.")
    trainer = make_trainer(GAN.new(network="dense", classes=10), images, GANTraining.make(steps=1500), folder=options.gan)
    trainer.run()
    trainer.save_model()
gan = zoo.load(options.gan)
digit = options.digit if gan.config.classes else None
generated = gan.sample(6, seed=0, digit=digit)
for name, batch in (("real", digits), ("generated", generated)):
    f = explain.discriminator_logit(gan, digit)
    maps = {"d logit / dx": explain.saliency(f, batch), "occlusion": explain.occlusion(f, batch)}
    explained.explained_pictures(batch, maps, title=f"{name} digits, and what the discriminator looks at").figure.savefig(
        out / f"discriminator_{name}.png")
print("written: digit.png, discriminator_real.png and discriminator_generated.png, in", out)
