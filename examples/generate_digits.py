"""Generate digits with any model of pictures, shipped or your own, and watch the steps.

    python examples/generate_digits.py [model] [digit]          model: vae (the default), gan, diffusion, or a folder
"""

import sys

import zoo
from zoo.drawing.pictures import save_grid

name = sys.argv[1] if len(sys.argv) > 1 else "vae"
digit = int(sys.argv[2]) if len(sys.argv) > 2 else None
model = zoo.load(name)

for step in model.steps(1, seed=0, digit=digit):  # each step of one generation is a record
    fields = {field: array.shape for field, array in step.arrays().items() if array.ndim}
    print(type(step).__name__, fields)
    assert step.equals(step.replay())  # computed again from the record, it's the same bit for bit

images = model.sample(64, seed=0, digit=digit)  # (64, 28, 28) float32 in [0, 1]
save_grid("digits.png", images)
print("digits.png")
