"""Do models give away secrets, and does private training stop that?  Canaries by copies planted, membership by threshold and by LiRA.

    python benchmarks/canaries.py --out secrets.jsonl --models 30     # a line per model; started again, it goes on with the next one
    python benchmarks/canaries.py --out secrets.jsonl --table         # what the models so far say

Each model is a small character transformer that learns from 1 MB of Shakespeare: a random half of 4,096 pieces of 512 characters.  Twelve
secrets of the form "the code of hamlet = 482 913" are drawn anew for every model, two of them planted 0, 1, 2, 4, 10 and 30 times.  Models
take turns: ordinary, private, ordinary, ...; the number of a model is its seed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from zoo import autograd as ops
from zoo.autograd import no_grad, set_threads
from zoo.data.canaries import COPIES, NAMES, draw_canary, plant
from zoo.evaluation.canaries import exposure, reads_out
from zoo.evaluation.membership import auc, likelihood_ratios, true_positives
from zoo.language.corpus import Corpus, read_corpus
from zoo.recipes import recipe_of
from zoo.training import Private

PIECES, LENGTH = 4096, 512
MEMBERS = 600  # pieces whose membership is guessed
FIELDS = {"window": 64, "layers": 2, "heads": 4, "width": 64, "lr": 3e-3, "warm_up": 20, "evaluate_every": 10**6,
          "evaluate_tokens": 40_000, "weight_decay": 0.0}
ORDINARY = {"steps": 10_000, "batch_size": 8, "muon_lr": 0.03, "average": 0.995}  # five times through the text
PRIVATE = {"steps": 250, "batch_size": 64, "average": 0.95, "optimiser": "adamw", "lr": 3e-3, "clip": 1e9}  # gradients are clipped one by one already


def train(number: int, noise: float) -> dict:
    """One model, and all that is measured of it."""
    began, is_private = time.perf_counter(), number % 2 == 1
    rng = np.random.default_rng((number, 0x5EC))
    text = read_corpus("shakespeare").text
    pieces = [text[i * LENGTH : (i + 1) * LENGTH] for i in range(PIECES)]
    member = rng.random(PIECES) < 0.5
    canaries = [(draw_canary(name, rng), copies) for name, copies in zip(rng.permutation(NAMES), 2 * COPIES)]
    planted = plant("".join(piece for piece, is_member in zip(pieces, member) if is_member), canaries, rng)
    corpus = Corpus("shakespeare with secrets", parts={"train": planted, "valid": text[-60_000:], "test": text})  # the alphabet is that of all parts
    recipe = recipe_of("transformer")
    fields, training = recipe.settings("nanogpt-cpu-best", **{**FIELDS, **(PRIVATE if is_private else ORDINARY)})
    model = recipe.new(corpus, fields, number)
    private = Private(noise, clip=0.5, delta=1e-5) if is_private else None
    trainer = recipe.trainer(model, corpus, training, seed=number, private=private)
    for _ in trainer:
        pass
    trained = time.perf_counter() - began
    if trainer.average is not None:
        trainer.average.swap()
    model.eval()
    found = []
    for canary, copies in canaries:
        e = exposure(model, canary, samples=500, most=2000)
        found.append({"copies": copies, "bits": e.bits, "exact": e.is_exact, "greedy": reads_out(model, canary),
                      "beam": reads_out(model, canary, 10)})
    return {"model": number, "private": is_private, "epsilon": trainer.private.epsilon(trainer.step) if trainer.private else None,
            "valid": trainer.evaluate(model)["valid nats per token"], "canaries": found,
            "losses": losses_of(model, pieces[:MEMBERS]).round(6).tolist(), "members": member[:MEMBERS].astype(int).tolist(),
            "seconds": round(trained), "seconds in all": round(time.perf_counter() - began)}


def losses_of(model, pieces: list[str]) -> np.ndarray:
    """Nats per character of each piece, read in windows of 64."""
    ids = np.stack([model.tokenizer.encode(piece)[: LENGTH - LENGTH % 64] for piece in pieces]).reshape(-1, 64)
    with no_grad():
        nats = [np.asarray(ops.cross_entropy(model(part[:, :-1]), part[:, 1:], reduction="none")).mean(1)
                for part in np.array_split(ids, len(ids) // 256 + 1)]
    return np.concatenate(nats).reshape(len(pieces), -1).mean(1)


def table(rows: list[dict]) -> None:
    for is_private in (False, True):
        some = [row for row in rows if row["private"] == is_private]
        if not some:
            continue
        print(f"{'private' if is_private else 'ordinary'}: {len(some)} models, epsilon {some[0]['epsilon']}, "
              f"{sum(row['seconds in all'] for row in some) / 60:.0f} minutes")
        valid = [row["valid"] for row in some]
        print(f"  nats per character of held-out text: {np.mean(valid):.3f} ± {np.std(valid):.3f}")
        for copies in COPIES:
            of = [c for row in some for c in row["canaries"] if c["copies"] == copies]
            bits = np.array([c["bits"] for c in of])
            print(f"  planted {copies:2} times: exposure {bits.mean():5.2f} bits (± {bits.std():.2f}, from {bits.min():.2f} to {bits.max():.2f}); "
                  f"read out greedily {np.mean([c['greedy'] for c in of]):4.0%}, by 10 beams {np.mean([c['beam'] for c in of]):4.0%} of {len(of)}")
        losses, members = (np.array([row[name] for row in some], float) for name in ("losses", "members"))
        areas = [auc(x[m == 1], x[m == 0]) for x, m in zip(losses, members)]
        rare = [true_positives(x[m == 1], x[m == 0]) for x, m in zip(losses, members)]
        print(f"  membership by threshold: AUC {np.mean(areas):.3f} ± {np.std(areas):.3f}, found at 0.1% false {np.mean(rare):.2%}")
        seen = members.sum(0)
        chosen = (seen >= 2) & (seen <= len(some) - 2)  # so that every target leaves shadows of both kinds
        if chosen.sum() >= 50 and len(some) >= 4:
            areas, rare = [], []
            for i in range(len(some)):
                score, m = -likelihood_ratios(losses[:, chosen], members[:, chosen], i), members[i, chosen] == 1
                areas.append(auc(score[m], score[~m]))
                rare.append(true_positives(score[m], score[~m]))
            print(f"  membership by LiRA, {len(some) - 1} shadows, {chosen.sum()} pieces: AUC {np.mean(areas):.3f} ± {np.std(areas):.3f}, "
                  f"found at 0.1% false {np.mean(rare):.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("secrets.jsonl"))
    parser.add_argument("--models", type=int, default=30)
    parser.add_argument("--noise", type=float, default=0.6)
    parser.add_argument("--table", action="store_true", help="train nothing, and say what the models so far show")
    known = parser.parse_args()
    set_threads(1)
    rows = [json.loads(line) for line in known.out.read_text().splitlines()] if known.out.exists() else []
    if not known.table:
        for number in sorted(set(range(known.models)) - {row["model"] for row in rows}):
            rows.append(train(number, known.noise))
            with known.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    table(rows)


if __name__ == "__main__":
    main()
