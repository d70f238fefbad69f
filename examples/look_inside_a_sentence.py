"""Why did the model write that?  Each token's candidates, and where the heads looked, traced in the same pass that writes the text.

    python examples/look_inside_a_sentence.py [MODEL] [PROMPT]      # a shipped transformer, or a folder of your own
"""

import sys

import zoo
from zoo.inspection import figures
from zoo.inspection.inspect import inspect
from zoo.inspection.panels.recording import watch

name = sys.argv[1] if len(sys.argv) > 1 else "transformer"
prompt = sys.argv[2] if len(sys.argv) > 2 else "\n"
model = zoo.load(name)


def decode(token: int) -> str:
    return model.tokenizer.decode([token])


with zoo.trace(model, at="blocks.*.attention.softmax") as seen:
    for step, records in watch(model.steps(prompt, 12, seed=0, temperature=0.8), seen):
        heads = {f"blocks.{i}.head.{h}": row[-1] for i, layer in enumerate(records) for h, row in enumerate(layer.value[0])}
        sharpest = max(heads, key=lambda head: heads[head].max())
        back = len(heads[sharpest]) - int(heads[sharpest].argmax())
        p = step.probabilities[step.token]
        print(f"{step.text!r:8} p = {p:.2f}, random number {step.draw:.2f}; {sharpest} looked {back} back ({heads[sharpest].max():.0%})")

figures.candidates(step, decode).figure.savefig("candidates.png")
with zoo.trace(model) as seen:
    loss = model(model.ids(prompt)[None]).mean()
zoo.graph(loss, seen, depth=3).save("graph.svg")
inspect(model, "sentence.html", name=name, prompt=prompt, n=100, temperature=0.8, against={"seed": 1})
print("written: candidates.png, graph.svg, and sentence.html with two seeds side by side (open it in a browser)")
