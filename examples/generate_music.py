"""Continue a Bach chorale: write it as MIDI, as sound and as a picture.

    python examples/generate_music.py                       # the chorale model that ships
    python examples/generate_music.py runs/chorales --bars 0 --seed 3
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import zoo
from zoo.data import music

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("model", nargs="?", default="chorales")
parser.add_argument("--bars", type=int, default=2, help="how much of a chorale that the model never saw it is given; 0: nothing")
parser.add_argument("--steps", type=int, default=192, help="sixteenths to write; a chorale that ends earlier ends earlier")
parser.add_argument("--temperature", type=float, default=0.9)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", default="chorale")
options = parser.parse_args()

model = zoo.load(options.model)
given = music.split_chorales(music.chorales())["test"][options.seed % 30]
whole = music.to_text(given)
bars = 4 * 16 * options.bars  # four voices, sixteen steps a bar
heard = "" if bars else whole[-4 * 16 * 4:] + 4 * music.END  # a chorale of its own follows the end of another
prompt = heard + whole[:bars]
text = model.generate(prompt, 4 * options.steps, seed=options.seed, temperature=options.temperature, top_p=0.98, stop=music.END)[len(heard):]
try:
    piece = music.from_text(text)
except ValueError as error:
    raise SystemExit(f"the model wrote what isn't music ({error}); train it longer, or lower the temperature") from None
notes = music.notes_of(piece)
if not notes:
    raise SystemExit("the model wrote silence; try another seed")
music.write_midi(f"{options.out}.mid", notes, sharps=given.sharps if bars else None, time=given.time)
music.write_wav(f"{options.out}.wav", notes)

figure, axes = plt.subplots(figsize=(12, 4))
for note in notes:
    axes.barh(note.pitch, note.length, left=note.start, height=0.9, color=f"C{note.voice}", edgecolor="white", linewidth=0.4)
axes.axvline(16 * options.bars, color="grey", linestyle=":")
axes.set(xlabel="sixteenths", ylabel="MIDI pitch", title=f"{given.name}, continued" if options.bars else "A chorale")
figure.savefig(f"{options.out}.png", dpi=120, bbox_inches="tight")
print(f"{len(piece.pitch)} steps, {len(notes)} notes: {options.out}.mid, {options.out}.wav, {options.out}.png")
