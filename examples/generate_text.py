"""Write text, and see why each token was chosen.

    python examples/generate_text.py                           # the Shakespeare model that ships
    python examples/generate_text.py runs/names --prompt An    # or a folder of your own, GPT-2 and Llama folders included
"""

import argparse
import sys

import numpy as np

import zoo

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("model", nargs="?", default="transformer")
parser.add_argument("--prompt", default="ROMEO:")
parser.add_argument("--tokens", type=int, default=300)
parser.add_argument("--temperature", type=float, default=0.8)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
model = zoo.load(options.model)

# 1. As it is written
for piece in model.generate(options.prompt, options.tokens, seed=options.seed, temperature=options.temperature, top_p=0.95, stream=True):
    sys.stdout.write(piece)
    sys.stdout.flush()

# 2. The same text as records: what else could have been written at each step?
print("\n\ntoken   probability   instead of")
for step in model.steps(options.prompt, 12, seed=options.seed, temperature=options.temperature, top_p=0.95):
    likeliest = np.argsort(-step.choices)[:4]
    others = "  ".join(f"{model.tokenizer.decode([i])!r} {step.choices[i]:.2f}" for i in likeliest if i != step.token)
    print(f"{step.text!r:7} {step.choices[step.token]:11.2f}   {others}")
assert step.replay().equals(step)  # a record holds its own draw: it can be computed again, alone

# 3. The most likely text instead of a sampled one
print("\nfour beams:", repr(model.beam_search(options.prompt, 40, beams=4)))
