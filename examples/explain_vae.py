"""What a variational autoencoder's code means: which of its numbers are used, what each does, and where the digits lie.

    python examples/explain_vae.py [MODEL] [--digit 7]          # a shipped VAE, or a folder of your own
"""

import argparse
from pathlib import Path

import numpy as np

import zoo
from zoo import explain
from zoo.data import mnist
from zoo.inspection import explained, figures

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("model", nargs="?", default="vae")
parser.add_argument("--digit", type=int, default=7)
parser.add_argument("--out", default=".", help="folder for the figures")
options = parser.parse_args()
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

model = zoo.load(options.model)
images = mnist()
x, labels = images.test[:2000], images.test_labels[:2000]
conditional = model.config.classes > 0

# Which numbers of the code carry information, and how much?
use = explain.latent_use(model, x, labels)
order = np.argsort(-use)
print(f"{(use > 0.01).sum()} of {len(use)} latent numbers are used, {use.sum():.1f} nats in all")
figures.bars(use[order[:20]], [f"z[{i}]" for i in order[:20]], title="nats that each latent number carries").figure.savefig(out / "latent_use.png")

# What do the most informative ones control?
i = int(np.flatnonzero(labels == options.digit)[0])
label = options.digit if conditional else None
z = explain.codes(model, x[i : i + 1], labels[i : i + 1])[0]
rows = explain.traversals(model, z, order[:8], label=label)
explained.traversals(rows, [f"z[{j}]" for j in order[:8]]).figure.savefig(out / "traversals.png")

# Where do the digits lie, and what lies between them?
there = explain.plane(explain.codes(model, x, labels))
figures.latent_map(model, x, labels).figure.savefig(out / "latent_map.png")
explained.latent_sheet(explain.sheet(model, there, 16, label)).figure.savefig(out / "latent_sheet.png")

# From one digit to another; the ends are the reconstructions of the two
a, b = x[i], x[int(np.flatnonzero(labels == (options.digit if conditional else (options.digit + 3) % 10))[1])]
both = np.full(2, options.digit) if conditional else None
line = model.interpolate(a, b, 10, both)
assert np.allclose(line[[0, -1]], model.reconstruct(np.stack([a, b]), both), atol=1e-5)
figures.digits(np.concatenate([a[None], line, b[None]]), columns=12, title="from one to the other").figure.savefig(
    out / "interpolation.png")
print("written: latent_use.png, traversals.png, latent_map.png, latent_sheet.png and interpolation.png, in", out)
