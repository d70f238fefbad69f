"""Inside a real chat model: which heads repeat, which layer knows that the capital of France is Paris, and what knew it.

    zoo get smollm2
    python examples/explain_chat.py --out docs/pictures
"""

import argparse
from pathlib import Path

import numpy as np

import zoo
from zoo import explain
from zoo.inspection import explained

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", default="smollm2")
parser.add_argument("--prompt", default="The capital of France is")
parser.add_argument("--other", default="The capital of Italy is", help="of as many tokens")
parser.add_argument("--out", default=".", help="folder for the figures")
options = parser.parse_args()
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)
model = zoo.load(options.model)


def spelled(ids) -> list[str]:
    return [model.tokenizer.decode([int(t)]) for t in ids]


def save(ax, name: str) -> None:
    ax.figure.savefig(out / f"chat_{name}.png", dpi=110, bbox_inches="tight")
    print(out / f"chat_{name}.png")


# Heads that continue a repeated sequence of random tokens with what followed its first occurrence (Olsson et al. 2022)
scores = explain.induction_scores(model, 24, n=4)
previous = explain.previous_token_scores(model, 24, n=4)
right = explain.repeat_accuracy(model, 24, n=4)
print(f"repeated random tokens: {right.accuracy:.0%} predicted, "
      f"{right.nats[:23].mean():.1f} nats at first, {right.nats[24:].mean():.2f} when repeated")
for name, table in (("induction", scores), ("previous token", previous)):
    order = np.argsort(-table.ravel())[:5]
    print(f"{name}: " + ", ".join(f"blocks.{i // table.shape[1]}.head.{i % table.shape[1]} {table.flat[i]:.2f}" for i in order))
save(explained.head_scores(scores, title="attention to what followed the same token before"), "induction")

# What each layer would predict after each token
prompt, other = model.ids(options.prompt), model.ids(options.other)
words = spelled(prompt)
logits = explain.logit_lens(model, prompt)
save(explained.logit_lens(logits, words, lambda t: spelled([t])[0]), "lens")
token, theirs = int(logits[-1, -1].argmax()), int(explain.logit_lens(model, other)[-1, -1].argmax())
ranks = (logits[:, -1] > logits[:, -1, [token]]).sum(1)
print(f"{options.prompt!r} continues with {spelled([token])[0]!r}: its rank after each layer is {', '.join(str(r + 1) for r in ranks)}")

# Which heads and mlps prefer it to the other prompt's answer
a, b = spelled([token, theirs])
parts = explain.direct_logit_attribution(model, prompt, token, against=theirs)
save(explained.contributions(parts, title=f"for {a!r} and against {b!r}"), "attribution")
order = np.argsort(-parts.values)[:5]
print(f"for {a!r} and against {b!r}, {parts.logit:.2f} in all: " + ", ".join(f"{parts.names[i]} {parts.values[i]:.2f}" for i in order))

# Which activations carry the difference: the stream at each token and layer, replaced by that of the other prompt
measure = explain.logit_difference(theirs, token)
patched = explain.activation_patching(model, prompt, other, measure)
save(explained.patching(patched, words, title=f"the stream replaced by that of {options.other!r}"), "patching")
for position, word in enumerate(words):
    carries = np.flatnonzero(patched.recovered[:, position] > 0.5)
    if len(carries):
        print(f"the difference is at {word!r} after {patched.rows[carries[0]]} to {patched.rows[carries[-1]]}")
