"""What a transformer does with a prompt: where it looks, what each layer would predict, and which parts and words the answer depends on.

    python examples/explain_text.py [MODEL] [--prompt "..."] [--other "..."]

MODEL is a shipped transformer or a folder of your own (`zoo train transformer --preset nanogpt-cpu --out runs/mine`); the default is the
shipped "transformer".  If there is none, a small one is trained on Shakespeare first, which takes about two minutes, and saved in
runs/explained.  --other: a second prompt of equal length, whose activations are put into the first run.
"""

import argparse
from pathlib import Path

import numpy as np

import zoo
from zoo import explain
from zoo.inspection import explained

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("model", nargs="?", default="transformer" if "transformer" in zoo.shipped() else "runs/explained")
parser.add_argument("--prompt", default="ROMEO:\nI would not for the wor")
parser.add_argument("--other", default="ROMEO:\nI would not for the kin")
parser.add_argument("--out", default=".", help="folder for the figures")
options = parser.parse_args()
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

if options.model == "runs/explained" and not Path(options.model, "card.json").exists():
    from zoo.language.corpus import read_corpus
    from zoo.recipes.language import LanguageTraining, make_trainer
    from zoo.transformer import Transformer

    print("No transformer ships with this copy of zoo: a small one is trained on Shakespeare now and saved in runs/explained.")
    corpus = read_corpus()
    model = Transformer.for_data(corpus, window=64, layers=3, heads=4, width=96, positions="rotary", norm="rms", bias=False, tied=False)
    training = LanguageTraining.make(steps=1200, batch_size=16, optimiser="muon", lr=4e-3, schedule="linear", floor=0.0, warm_up=20)
    trainer = make_trainer(model, corpus, training, folder=options.model)
    trainer.run()
    trainer.save_model()
model = zoo.load(options.model)


def spelled(ids) -> list[str]:
    return [model.tokenizer.decode([int(t)]) for t in ids]


prompt, other = model.ids(options.prompt), model.ids(options.other)
words = spelled(prompt)

# Where the heads look, and from which tokens information reaches each position
maps = explain.attention_maps(model, prompt)
explained.attention_maps(maps).figure.savefig(out / "attention_maps.png")
rollout = explain.attention_rollout(maps)
explained.heatmap(rollout[-1], words, words, title="attention rollout, after the last layer").figure.savefig(out / "rollout.png")

# What each layer would predict
logits = explain.logit_lens(model, prompt)
explained.logit_lens(logits, words, lambda t: spelled([t])[0]).figure.savefig(out / "logit_lens.png")
token, second = (int(t) for t in np.argsort(-logits[-1, -1])[:2])
a, b = spelled([token, second])
print(f"{options.prompt!r} continues with {a!r}, or else with {b!r}")

# Which parts prefer one to the other
parts = explain.direct_logit_attribution(model, prompt, token, against=second)
assert np.isclose(parts.values.sum(), parts.logit, atol=1e-3)
explained.contributions(parts, title=f"for {a!r} and against {b!r}").figure.savefig(out / "contributions.png")
print(f"logit of {a!r} minus that of {b!r}: {parts.logit:.2f}; the largest contribution is that of {parts.names[int(parts.values.argmax())]}")

# Which characters does it depend on?  The baseline has a line end in place of every character
f, x = explain.on_embeddings(model, prompt, token, against=second)
baseline = model.embedding.weight.data[model.ids("")[0]]
for steps in (8, 32, 128):
    attribution = explain.integrated_gradients(f, x, baseline, steps=steps)
    print(f"integrated gradients, {steps:3} steps: sum {attribution.values.sum():.4f}, "
          f"f(x) - f(baseline) = {(attribution.f_x - attribution.f_baseline)[0]:.4f}, gap {attribution.gap[0]:+.4f}")
explained.words(words, attribution.values[0].sum(-1), title=f"evidence for {a!r} rather than {b!r}: integrated gradients").figure.savefig(
    out / "integrated_gradients.png")

# Which activations carry the difference between the two prompts?
if len(prompt) == len(other):
    theirs = int(explain.logit_lens(model, other)[-1, -1].argmax())
    if theirs == token:
        raise SystemExit(f"{options.other!r} continues with {a!r} too, so there is no difference to locate; choose another --other")
    measure = explain.logit_difference(theirs, token)
    streams = explain.activation_patching(model, prompt, other, measure)
    explained.patching(streams, words, title=f"the stream replaced by that of {options.other[-12:]!r}").figure.savefig(out / "patching.png")
    heads = explain.activation_patching(model, prompt, other, measure, at="heads")
    layer, head = np.unravel_index(heads.recovered.argmax(), heads.recovered.shape)
    print(f"blocks.{layer}.head.{head}, taken from {options.other!r}, recovers {heads.recovered.max():.0%} of the difference")
    path = explain.path_patching(model, prompt, other, "logits", measure)
    explained.patching(path, title="what each part contributes to the logits directly").figure.savefig(out / "path_patching.png")
else:
    print(f"--other has {len(other)} tokens and --prompt {len(prompt)}; patching needs prompts of equal length")
print("written: figures, in", out)
