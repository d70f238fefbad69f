"""Many ranks against one process: gradients of every family in ten steps, every optimiser, and an optimiser whose state is cut into shares.

    mpirun -n 4 python tests/ranks_agree.py [--steps 10] [--only 'vae;gan']

Each family is trained twice in the same program: by all ranks, and by the first rank alone.  Before every step the first rank's weights are
given to all, so that what is compared is the gradient of the same weights: |g of all ranks - g of one| / |g of one|.  Then the ranks train
freely, with the state of the optimisers whole and in shares; those weights are to be equal bit for bit.  Exit status 1 where they aren't, or a
gradient differs by more than the bound.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from typing import Any

import numpy as np

from zoo.data.images import Images, digits8x8
from zoo.data.scenes import DIGITS
from zoo.data.sound import SAMPLES
from zoo.language.corpus import Corpus
from zoo.optim import SGD, Adam, AdamW, Muon
from zoo.recipes import recipe_of
from zoo.recipes.speech import SpokenWords
from zoo.training import Trainer, shuffled
from zoo.training.ranks import Ranks, started_by_mpi
from zoo.vae import VAE

BOUND = 1e-6
# importance weights differ by rounding of log p(x), of some 100 nats; in a GAN's chain of batch norms (the classifier has them too) and ReLUs a rounding
# may cross a kink, and then one of a few thousand slopes is another; the rounding of a dozen layers adds up
LOOSER = {"iwae": 5e-6, "classifier": 5e-3, "gan": 5e-3, "scene_judge": 2e-6, "speech": 2e-6}  # by the beginning of a case
ROWS = 13  # of a batch, so that the ranks' shares aren't all alike
FAMILIES: dict[str, tuple[str, str | None, dict[str, Any]]] = {  # case -> kind, preset, settings
    "vae": ("vae", None, {"hidden": (24,), "latent": (4,), "depth": 1}),
    "vae, two layers": ("vae", "two-layers", {"hidden": (24, 12), "latent": (6, 3), "depth": 1}),
    "iwae": ("vae", "iwae5", {"hidden": (24,), "latent": (4,), "depth": 1, "optimiser": "adam"}),
    "autoencoder": ("autoencoder", None, {"hidden": (24,), "latent": 4}),
    "vqvae": ("vqvae", None, {"codes": 8, "width": 4, "channels": 4, "prior_layers": 1, "prior_heads": 2, "prior_width": 8}),
    "gan": ("gan", "dcgan", {"channels": 8, "latent": 8}),
    "gan, batch norm": ("gan", "plain", {"channels": 8, "latent": 8}),
    "gan, pairs": ("gan", "conditional", {"channels": 8, "latent": 8}),
    "gan, critic": ("gan", "wgan-gp", {"channels": 8, "latent": 8, "critic_steps": 2}),
    "diffusion": ("diffusion", "diffusion", {"channels": 8, "heads": 2}),
    "flow": ("diffusion", "flow", {"channels": 8, "heads": 2, "optimiser": "adam"}),
    "dit": ("diffusion", "dit", {"channels": 16, "blocks": 2, "heads": 2, "lr": 1e-3}),
    "moons": ("diffusion", "moons", {"channels": 16, "blocks": 1}),
    "transformer": ("transformer", "shakespeare", {"window": 16, "layers": 2, "heads": 2, "width": 16, "dropout": 0.1}),
    "recurrent": ("recurrent", "shakespeare", {"window": 16, "width": 16, "layers": 1, "dropout": 0.1}),
    "recurrent, lines": ("recurrent", "names", {"width": 16, "layers": 1}),
    "classifier": ("classifier", None, {"channels": 4}),
    "words": ("words", None, {"channels": 8, "heads": 2}),
    "captions": ("captions", None, {"channels": 8, "width": 16, "blocks": 1, "heads": 2}),
    "scene_judge": ("scene_judge", None, {"channels": 4}),
    "speech": ("speech", None, {"channels": 8}),
}
OPTIMISERS = {
    "SGD": lambda model: SGD(model.parameters(), 0.01, momentum=0.9, clip=1.0), "Adam": lambda model: Adam(model.parameters(), 1e-3, clip=1.0),
    "AdamW": lambda model: AdamW(model.parameters(), 1e-3, weight_decay=0.1),
    "Muon": lambda model: Muon(model.parameters(), 1e-3, matrices=[p for p in model.parameters() if p.ndim == 2], clip=1.0)}


def data_of(kind: str, recipe: Any) -> Any:
    rng = np.random.default_rng(0)
    if kind == "speech":
        return SpokenWords("random", rng.uniform(-1, 1, (40, SAMPLES)).astype(np.float32), tuple(DIGITS[i % 10] for i in range(40)),
                           rng.uniform(-1, 1, (2, SAMPLES)).astype(np.float32), DIGITS[:2])
    if kind in ("transformer", "recurrent"):
        return Corpus("letters", "".join(rng.choice(list("abcdefgh \n"), 4000)))
    if recipe.default_data == "mnist":
        small = digits8x8()
        x = np.ascontiguousarray(np.pad(small.train[:64].repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2))))  # of MNIST's size
        return Images(x, small.train_labels[:64], x[:2], small.train_labels[:2], "digits")
    return recipe.data(None)


def trainer_of(case: str, steps: int, ranks: Ranks, **options: Any) -> Trainer:
    if case in OPTIMISERS:
        model = VAE.new(image=(8, 8), hidden=(24,), latent=(4,), depth=1)
        return Trainer(model, model.loss, shuffled(digits8x8().train, batch_size=ROWS), OPTIMISERS[case](model), steps=steps, ranks=ranks, **options)
    kind, preset, changes = FAMILIES[case]
    recipe = recipe_of(kind)
    names = {f.name for f in dataclasses.fields(recipe.training)}
    short = {name: value for name, value in {"steps": steps, "epochs": 100, "batch_size": 2 * ROWS if kind == "gan" else ROWS}.items() if name in names}
    preset = "moons" if case == "moons" else preset
    fields, training = recipe.settings(preset, **short, **changes)
    data = "moons" if case == "moons" else data_of(kind, recipe)
    return recipe.trainer(recipe.new(data, fields, 0), data, training, ranks=ranks, **options)


def copy_from_first(ranks: Ranks, source: Trainer | None, target: Trainer) -> None:
    """The weights and the optimisers' state of the first rank's trainer to all."""
    for name, array in target.model.arrays().items():
        array[...] = ranks.agree(source.model.arrays()[name] if source else None)
    for name, o in target.optimisers.items():
        o.restore(ranks.agree(source.optimisers[name].checkpoint() if source else None))


def differences(case: str, steps: int, ranks: Ranks) -> list[float]:
    """The greatest relative difference of the gradients in each step."""
    together = trainer_of(case, steps, ranks)
    alone = trainer_of(case, steps, Ranks()) if ranks.is_first else None
    one, many = iter(alone or ()), iter(together)
    relative = []
    if case.startswith("gan"):  # the discriminator moves first, and Adam's first steps are as large for a gradient of 1e-9 as for one of 1
        for trainer in filter(None, (alone, together)):
            trainer.optimisers["discriminator"].lr = 0.0
    for _ in range(steps):
        copy_from_first(ranks, alone, together)
        next(many)
        if alone:
            next(one)
            relative.append(max(float(np.linalg.norm(o.grad - alone.optimisers[name].grad) / np.linalg.norm(alone.optimisers[name].grad))
                                for name, o in together.optimisers.items()))
    return relative


def weights_after(case: str, steps: int, ranks: Ranks, **options: Any) -> dict[str, np.ndarray]:
    trainer = trainer_of(case, steps, ranks, **options)
    for record in trainer:
        if record.step == steps:
            break
    return {name: a.copy() for name, a in trainer.model.arrays().items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--only", help="cases, with semicolons between")
    parser.add_argument("--bound", type=float, default=BOUND)
    options = parser.parse_args()
    ranks = started_by_mpi()
    faults = 0
    for case in options.only.split(";") if options.only else (*FAMILIES, *OPTIMISERS):
        gradients = differences(case, options.steps, ranks)
        whole, shares = (weights_after(case, options.steps, ranks, shard_optimiser=shard) for shard in (False, True))
        same_in_shares = all(np.array_equal(whole[name], shares[name]) for name in whole)
        alone = weights_after(case, options.steps, Ranks()) if ranks.is_first else whole
        drift = max(float(np.abs(whole[name] - a).max() / max(np.abs(a).max(), 1e-30)) for name, a in alone.items() if a.size)
        equal = ranks.communicator.allgather(same_in_shares) if ranks.size > 1 else [same_in_shares]
        if ranks.is_first:
            bound = max([options.bound, *(value for name, value in LOOSER.items() if case.startswith(name))])
            good = max(gradients) <= bound and all(equal)
            faults += not good
            print(f"{case:18} gradients differ by {np.median(gradients):.1e}, at most {max(gradients):.1e}; weights after {options.steps} steps by at "
                  f"most {drift:.1e}; in shares {'bit for bit' if all(equal) else 'NOT EQUAL'}{'' if good else '  <--'}", flush=True)
    if ranks.is_first:
        print(f"{ranks.size} ranks: {faults} cases beyond their bound")
    return 1 if ranks.agree(faults) else 0


if __name__ == "__main__":
    os.environ.setdefault("ZOO_THREADS", "1")
    sys.exit(main())
