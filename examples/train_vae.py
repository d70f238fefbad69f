"""Train a variational autoencoder on MNIST and generate digits: about a minute on a laptop, then see vae.png.

    python examples/train_vae.py [epochs]
"""

import sys

import zoo
from zoo.data import mnist
from zoo.drawing.pictures import save_grid
from zoo.optim import Average, Muon, cosine
from zoo.vae import VAE

digits = mnist()
model = VAE.new(latent=(50,), hidden=(200,), depth=2, seed=0)  # the network of Burda et al. (2015), Bernoulli pixels
model.start_from(digits.train)

epochs, batch_size = int(sys.argv[1]) if len(sys.argv) > 1 else 20, 500
steps = epochs * len(digits.train) // batch_size
average = Average(model.parameters(), decay=0.999)
trainer = zoo.Trainer(
    model,
    model.loss,  # -bound in nats, and its parts
    zoo.training.shuffled(digits.train, batch_size=batch_size),
    Muon(model.parameters(), lr=3e-3, matrices=[p for p in model.parameters() if p.ndim == 2]),
    schedule=cosine(steps),
    steps=steps,
    average=average,
)
trainer.run()
average.swap()  # sample with the averaged weights

for step in model.steps(n=1, seed=0):  # every layer from z to pixels is a record that prints itself
    print(step)
nll = -model.log_likelihood(digits.test[:200], samples=500).mean()
print(f"test NLL, 200 images, 500 samples: {nll:.1f} nats")
save_grid("vae.png", model.sample(64, seed=0))
