"""The animation at the top of the README: `python docs/_site/noise_to_digits.py` writes docs/pictures/noise_to_digits.gif."""

from pathlib import Path

import numpy as np
from PIL import Image

import zoo
from zoo.drawing.pictures import grid

model = zoo.load("diffusion")
records = list(model.steps(10, digit=np.arange(10), seed=4, sampler="euler", evaluations=16))
pairs = [(model.to_pictures(r.x_t), model.to_pictures(r.x_0_predicted)) for r in records]
final = model.to_pictures(records[-1].x_previous)
frames = [grid(np.concatenate(pair), columns=10, background=0.07) for pair in [*pairs, (final, final)]]
large = [Image.fromarray((255 * frame).astype(np.uint8)).resize((frame.shape[1] * 2, frame.shape[0] * 2), Image.Resampling.NEAREST).quantize(12)
         for frame in frames]
large[0].save(Path(__file__).parents[1] / "pictures" / "noise_to_digits.gif", save_all=True, append_images=large[1:], loop=0,
              duration=[100] * (len(large) - 1) + [2500])
