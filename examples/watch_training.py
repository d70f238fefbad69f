"""Train a small autoencoder on 8 x 8 digits and watch it learn, in a page and with a callback of one's own: half a minute.

    python examples/watch_training.py        then look again: zoo watch runs/watched
"""

import zoo
from zoo.data.images import load_images
from zoo.inspection.play import watching
from zoo.inspection.watching import Watcher
from zoo.optim import Adam
from zoo.vae import VAE

digits = load_images("digits8x8")
model = VAE.for_data(digits, latent=(2,), hidden=(64,), seed=0)
trainer = zoo.Trainer(model, model.loss, zoo.training.shuffled(digits.train, batch_size=64), Adam(model.parameters(), lr=2e-3), steps=3000,
                      folder="runs/watched")
watcher = Watcher(trainer, digits, title="digits on a plane")  # curves, reconstructions, a map and samples, into runs/watched/watch.json


def on_step(trainer, record):
    """Any function of the trainer and the record of the step; this one passes both on, and speaks up now and then."""
    watcher(trainer, record)
    if record.step % 1000 == 0:
        print(f"step {record.step}: {record.losses['loss']:.2f} nats, gradient {record.grad_norm:.2f}")


trainer.on_step = on_step
server = watching(trainer.folder)  # a page on this machine, followed while the training runs
print(f"watch it at {server.address}")
trainer.run(progress=False)
trainer.save_model(data="digits8x8")
server.stop()
