"""Train a variational autoencoder on MNIST and draw digits: about two minutes on a laptop, then look at vae.png.

    python examples/train_vae.py
"""

import zoo
from zoo.data import mnist
from zoo.inspection.pictures import save_grid
from zoo.optim import Adam, Average, cosine
from zoo.vae import VAE

digits = mnist()
model = VAE.new(latent=(20,), hidden=(400,), depth=1, seed=0)  # Kingma & Welling's network, Bernoulli pixels
model.start_from(digits.train)

epochs, batch_size = 15, 200
steps = epochs * len(digits.train) // batch_size
average = Average(model.parameters(), decay=0.999)
trainer = zoo.Trainer(
    model,
    model.loss,  # -bound in nats, its parts beside it
    zoo.training.shuffled(digits.train, batch_size=batch_size),
    Adam(model.parameters(), lr=2e-3),
    schedule=cosine(steps),
    steps=steps,
    average=average,
)
trainer.run()
average.swap()  # draw with the averaged weights

for step in model.steps(n=1, seed=0):  # every layer from z to pixels is a record that prints itself
    print(step)
nll = -model.log_likelihood(digits.test[:200], samples=500).mean()
print(f"test NLL, 200 images, 500 samples: {nll:.1f} nats")
save_grid("vae.png", model.sample(64, seed=0))
