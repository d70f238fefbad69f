"""Two layers of attention learn to continue what was there before; one layer can't (Olsson et al. 2022).

    python examples/induction.py            # a minute or two

Both models are attention only and see random tokens that repeat after 8 to 32, so that neither words nor places help.  The two-layer one
ends with a head that looks at the token before, and behind it induction heads, which look at what followed the token last time.
"""

import time

import numpy as np

from zoo.explain import attention_maps, induction_scores, previous_token_scores, repeat_accuracy, repeated
from zoo.inspection import explained
from zoo.language.windows import IGNORED
from zoo.optim import Muon, linear_decay
from zoo.training import Trainer
from zoo.transformer import Transformer

SYMBOLS, WINDOW, STEPS, BATCH = 256, 64, 1000, 64


def repeats(step, rng):
    """Inputs and targets, (batch, window) each; what can't be predicted, a token's first occurrence, isn't asked for."""
    ids, targets = [], []
    for period in rng.integers(8, WINDOW // 2 + 1, size=8):
        sequences = repeated(BATCH // 8, period, SYMBOLS, rng, time=WINDOW + 1)
        ids.append(sequences[:, :-1])
        targets.append(np.where(np.arange(WINDOW) < period, IGNORED, sequences[:, 1:]))
    return np.concatenate(ids), np.concatenate(targets)


results = {}
for layers in (2, 1):
    model = Transformer.new(symbols=SYMBOLS, window=WINDOW, layers=layers, heads=4, width=64, mlp="none", positions="rotary", norm="rms",
                            bias=False, tied=False, seed=0)
    matrices = [p for name, p in model.named_parameters().items() if p.ndim == 2 and name.startswith("blocks.")]
    optimiser = Muon(model.named_parameters(), 3e-3, matrices=matrices, muon_lr=0.02)
    began = time.perf_counter()
    for record in Trainer(model, model.loss, repeats, optimiser, steps=STEPS, schedule=linear_decay(STEPS, warmup=50), seed=0):
        if record.step % 200 == 0:
            print(f"{layers} layers, step {record.step:5}: {record.losses['loss']:.3f} nats, {time.perf_counter() - began:.0f} s", flush=True)
    model.eval()
    name = f"{layers} layer{'s' * (layers > 1)}"
    results[name] = repeat_accuracy(model)
    print(f"{name}: {results[name].accuracy:.1%} right in the second half of random tokens that come twice\n")
    if layers == 2:
        scores, before = induction_scores(model), previous_token_scores(model)
        print("induction score of each head, a row a layer:\n", scores.round(2), "\nlooks at the token before:\n", before.round(2), "\n")
        explained.head_scores(scores, title="induction score").figure.savefig("induction_scores.png")
        explained.head_scores(before, title="looks at the token before").figure.savefig("previous_token_scores.png")
        maps = attention_maps(model, repeated(1, 16, SYMBOLS, np.random.default_rng(1))[0])
        explained.attention_maps(maps, title="16 random tokens, twice").figure.savefig("induction_attention.png")

explained.repeats(results).figure.savefig("induction.png")
print("induction.png, induction_scores.png, previous_token_scores.png, induction_attention.png")
assert results["2 layers"].accuracy >= 0.9 and results["1 layer"].accuracy < 0.2, "two layers copy, one doesn't: it went otherwise here"
