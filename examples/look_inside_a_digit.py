"""Watch a variational autoencoder generate a digit, then change one layer while it runs and see the effect.

    python examples/look_inside_a_digit.py [MODEL]      # a shipped model, or a folder of your own
"""

import sys

import numpy as np

import zoo
from zoo.drawing.terminal import draw_images
from zoo.inspection import figures
from zoo.inspection.inspect import inspect

name = sys.argv[1] if len(sys.argv) > 1 else "vae"
model = zoo.load(name)

steps = list(model.steps(1, seed=0))  # every step of the generation is a record
for step in steps:
    print(f"{step.name:12} {step.formula:28} {step.value.shape}, mean {step.value.mean():+.3f}")
assert steps[-1].replay().equals(steps[-1])

with zoo.trace(model) as seen:  # a trace also has every operation inside a step
    plain = model.sample(1, seed=0)
print(f"\n{len(seen)} operations ran; the last were:\n" + "\n".join(str(seen).splitlines()[-4:]))

layer = next(n for n in seen if n.startswith("layers.0"))
with zoo.patch(model, {layer: lambda a: np.where(np.abs(a) < 0.5, 0, a)}):  # a patch changes a value while the model runs
    changed = model.sample(1, seed=0)
print(f"\nwith all numbers of {layer} below 0.5 set to 0, pixels change by up to {np.abs(changed - plain).max():.2f}:")
print(draw_images(np.concatenate([plain, changed])))

figures.gif("digit.gif", model.steps(16, seed=0), seconds=0.5)
inspect(model, "digit.html", name=name, patch=f"{layer}:half", against={"patch": f"{layer}:zero"})
print("written: digit.gif, and digit.html with two changes side by side (open it in a browser)")
