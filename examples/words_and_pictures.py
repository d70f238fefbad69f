"""Draw what a sentence says, see which word went where, change a word on the way, read the picture back, and say a word.

    python examples/words_and_pictures.py ["a sentence"] ["the one that takes over on the way"]     writes words.png and seven.wav
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import zoo
from zoo.data.sound import write_wav
from zoo.inspection import figures

sentence = sys.argv[1] if len(sys.argv) > 1 else "a red seven above a small blue three"
later = sys.argv[2] if len(sys.argv) > 2 else sentence.replace("red", "green", 1)
words, captions, speech = zoo.load("words"), zoo.load("captions"), zoo.load("speech")

steps = list(words.steps(prompt=sentence, seed=0, evaluations=20))
shown = steps[:: len(steps) // 5 or 1][:5] + steps[-1:]
maps = words.word_maps(steps[len(steps) // 2].x_t, float(steps[len(steps) // 2].t), sentence)[0, 1:]  # after the beginning, one for each word
pictures = {sentence: words.sample(prompt=sentence, seed=0), later: words.sample(prompt=sentence, then=(0.9, later), seed=0)}
for text, picture in pictures.items():
    print(f"asked for: {text}\nread back: {captions.caption(picture)[0]}")

tokens = sentence.replace(",", " ,").split()
sheet = Figure(figsize=(2 * max(len(tokens), 6), 7), layout="constrained")
rows = sheet.subplots(3, max(len(tokens), 6))
for ax, step in zip(rows[0], shown):
    ax.imshow(words.to_pictures(step.x_0_predicted if step.x_0_predicted is not None else step.x_t)[0])
    ax.set_title(f"guess at t = {step.t:.2f}")
for ax, word, light in zip(rows[1], tokens, maps):
    ax.imshow(light, cmap="gray")
    ax.set_title(word)
for ax, (text, picture) in zip(rows[2], pictures.items()):
    ax.imshow(picture[0])
    ax.set_title("changed at t = 0.9" if text == later else "as it was asked for")
seven = speech.spectrograms(prompt="seven", seed=0)
write_wav("seven.wav", speech.sound(seven)[0])
figures.picture(seven[0], rows[2][2])
rows[2][2].set_title("seven.wav")
for ax in np.ravel(rows):
    ax.set_axis_off()
sheet.savefig("words.png")
print("words.png, seven.wav")
