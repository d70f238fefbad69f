"""Does a text encoder learn which colour belongs to which place?  By positions that are learned, and by rotary ones.

    python benchmarks/positions.py --steps 250        # 2 minutes on one core

Scenes of three digits or four are described by the grammar of `zoo.data.scenes`.  The encoder of `words` reads a sentence, four learned queries
look at its words, one for each corner, and say which digit stands there and in which colour.  No picture is drawn, so a minute tells what would
take an hour to see in pictures.
"""

from __future__ import annotations

import argparse

import numpy as np

from zoo import autograd as ops
from zoo.autograd import no_grad
from zoo.autograd.random import generator
from zoo.data import scenes
from zoo.multimodal import prompts
from zoo.multimodal.networks import attend
from zoo.multimodal.text import Positions, TextEncoder
from zoo.nn import Embedding, Linear, Module
from zoo.optim import Adam

LENGTH, WIDTH, BLOCKS, HEADS = 40, 96, 2, 4  # of WordsConfig
UNSAID = -1  # no digit stands in this corner, or its colour isn't said


class Corners(Module):
    """ids (n, LENGTH) -> logits of the digit and of the colour in each corner, (n, 4, 10) and (n, 4, 8)."""

    text: TextEncoder
    corner: Embedding
    key_value: Linear
    digit: Linear
    colour: Linear

    def __init__(self, positions: Positions, *, rng: np.random.Generator):
        self.text = TextEncoder(len(scenes.VOCABULARY), LENGTH, WIDTH, BLOCKS, HEADS, positions, rng=rng)
        self.corner = Embedding(len(scenes.CORNERS), WIDTH, rng=rng, deviation=1.0)
        self.key_value = Linear(WIDTH, 2 * WIDTH, rng=rng)
        self.digit, self.colour = Linear(WIDTH, len(scenes.DIGITS), rng=rng), Linear(WIDTH, len(scenes.COLOURS), rng=rng)

    def __call__(self, ids: np.ndarray):
        text, mask = self.text(ids)
        asks = self.corner(np.tile(np.arange(len(scenes.CORNERS)), (len(ids), 1)))
        q, k, v = (self._by_head(x) for x in (asks, *ops.split(self.key_value(text), 2, axis=-1)))
        y = ops.merge_heads(attend(q, k, v, mask))
        return self.digit(y), self.colour(y)

    @staticmethod
    def _by_head(x):
        """(n, tokens, WIDTH) -> (n, HEADS, tokens, WIDTH / HEADS)."""
        return ops.swapaxes(x.reshape((*x.shape[:2], HEADS, WIDTH // HEADS)), axis1=1, axis2=2)


def sentences(n: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ids (n, LENGTH), and the digit and the colour that each sentence says of each corner, (n, 4) each, UNSAID where it says none."""
    drawn = scenes.captioned_digits(n, seed, counts=(0, 0, 1, 1))
    ids = np.stack([prompts.ids_of(scenes.VOCABULARY, LENGTH, caption) for caption in drawn.captions])
    digits, colours = np.full((2, n, len(scenes.CORNERS)), UNSAID)
    for i, caption in enumerate(drawn.captions):
        for said in scenes.asked_for(caption):
            corner = scenes.CORNERS.index(str(said["place"]))
            digits[i, corner] = said["digit"]
            if "colour" in said:
                colours[i, corner] = list(scenes.COLOURS).index(str(said["colour"]))
    return ids, digits, colours


def right(model: Corners, seed: tuple[int, ...], n: int = 500) -> tuple[float, float, float]:
    """The shares of digits, of colours, and of whole scenes that are right in new sentences."""
    ids, *targets = sentences(n, seed)
    with no_grad():
        hits = [np.asarray(logits).argmax(-1) == target for logits, target in zip(model(ids), targets)]
    said = [target != UNSAID for target in targets]
    whole = np.all([hit | ~known for hit, known in zip(hits, said)], axis=(0, 2))
    return float(hits[0][said[0]].mean()), float(hits[1][said[1]].mean()), float(whole.mean())


def main() -> None:
    """Train both, and say every fifty steps what is right."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    print("positions  seed  step  digits  colours  whole scenes")
    kinds: tuple[Positions, ...] = ("learned", "rotary")
    for positions in kinds:
        for seed in range(options.seeds):
            model = Corners(positions, rng=generator((seed, 1)))
            optimiser = Adam(model.parameters(), 1e-3, clip=1.0)
            for step in range(1, options.steps + 1):
                ids, digits, colours = sentences(64, (seed, step, 2))
                of_digit, of_colour = model(ids)
                known, coloured = digits != UNSAID, colours != UNSAID
                loss = ops.cross_entropy(of_digit[known], digits[known]) + ops.cross_entropy(of_colour[coloured], colours[coloured])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                if step % 50 == 0 or step == options.steps:
                    print(f"{positions:9}  {seed:4}  {step:4}  {'  '.join(f'{share:7.1%}' for share in right(model, (seed, 3)))}", flush=True)


if __name__ == "__main__":
    main()
