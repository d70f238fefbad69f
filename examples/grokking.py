"""Grokking: a transformer that adds modulo p first learns its examples by heart, and long after that how to add (Nanda et al. 2023).

    python examples/grokking.py                                      # a + b mod 113
    python examples/grokking.py --decay 0 --out runs/grokking-control    # without weight decay it never happens
    python examples/grokking.py --p 31 --share 0.6 --steps 4000 --out runs/grokking-31    # a minute

Stopped runs go on with --resume.  Into the folder go the log, the model, and two pictures: accuracy by step, and how much of the embedding
is in each frequency: after grokking, nearly all is in a few.
"""

import argparse

import numpy as np

from zoo.explain import modular
from zoo.inspection import explained
from zoo.optim import AdamW
from zoo.training import Trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--p", type=int, default=113)
parser.add_argument("--share", type=float, default=0.3, help="of all pairs, to train on")
parser.add_argument("--decay", type=float, default=1.0, help="weight decay")
parser.add_argument("--steps", type=int, default=25_000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--minutes", type=float, help="stop after so many; --resume goes on")
parser.add_argument("--out", default="runs/grokking")
parser.add_argument("--resume", action="store_true")
options = parser.parse_args()

pairs = modular.modular_addition(options.p, options.share, options.seed)
model = modular.new_model(options.p, seed=options.seed)
optimiser = AdamW(model.parameters(), 1e-3, betas=(0.9, 0.98), weight_decay=options.decay)
trainer = Trainer(model, lambda batch, rng: modular.loss(model, *batch), lambda step, rng: (pairs.train, pairs.train_answers), optimiser,
                  steps=options.steps, schedule=lambda step: min(1.0, (step + 1) / 10), seed=options.seed, folder=options.out,
                  resume=options.resume, minutes=options.minutes, evaluate=lambda m: modular.evaluate(m, pairs), evaluate_every=100)
print(f"{len(pairs.train):,} pairs to train on, {len(pairs.test):,} to test, {model.num_parameters:,} parameters")

trainer.run(title=f"a + b mod {options.p}")
trainer.save_model(figures=trainer.evaluations[-1])
power = modular.embedding_power(model)
strongest = 1 + np.argsort(-power[1:])[:5]
print({name: round(value, 4) for name, value in {**trainer.rows[-1], **trainer.evaluations[-1]}.items()})
print("strongest frequencies of the embedding:", ", ".join(f"{k} ({power[k]:.0%})" for k in strongest))

explained.grokking(trainer.rows, trainer.evaluations, title=f"a + b mod {options.p}, weight decay {options.decay:g}").figure.savefig(
    f"{options.out}/grokking.png")
explained.spectrum(power, title="share of the embedding in each frequency").figure.savefig(f"{options.out}/fourier.png")
print(f"{options.out}/grokking.png and {options.out}/fourier.png")
