"""Train a transformer on a text, watch it learn to spell, and keep it.

    python examples/train_transformer.py                        # Shakespeare, nanoGPT's recipe for a CPU, two minutes
    python examples/train_transformer.py my_text.txt --preset shakespeare --out runs/mine

`zoo train transformer --data my_text.txt --preset shakespeare` is the same without the running commentary.
"""

import argparse

from zoo.language.corpus import read_corpus
from zoo.recipes.language import LanguageTraining, make_trainer
from zoo.recipes.transformer import PRESETS
from zoo.transformer import Transformer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("text", nargs="?", default="shakespeare")
parser.add_argument("--preset", default="nanogpt-cpu", choices=PRESETS)
parser.add_argument("--out", default="runs/transformer")
parser.add_argument("--steps", type=int)
options = parser.parse_args()

# A preset is fields of the model's configuration and of the training in one dictionary
fields = dict(PRESETS[options.preset])
training = {name: fields.pop(name) for name in list(fields) if name in LanguageTraining.__dataclass_fields__ and name != "window"}
if options.steps:
    training["steps"] = options.steps

corpus = read_corpus(options.text)
model = Transformer.for_data(corpus, seed=0, **fields)
trainer = make_trainer(model, corpus, LanguageTraining.make(**training), seed=0, folder=options.out)
print(f"{model.num_parameters:,} parameters, {model.tokenizer.size} symbols, {trainer.steps:,} steps")

# Training is a stream of records
for record in trainer:
    if record.step == 1 or record.step % max(1, trainer.steps // 8) == 0:
        sample = model.generate(n_tokens=60, seed=0, temperature=0.8).replace("\n", "/")
        print(f"{record.step:6}  {record.losses['loss']:.3f} nats  {record.seconds:5.0f} s  {sample}")

figures = trainer.run(progress=False)  # no steps are left: it evaluates, with the averaged weights where there are any
trainer.save_model(figures=figures)
print({name: round(figure, 4) for name, figure in figures.items() if "nats" in name})
print(f"zoo sample {options.out} --prompt ROMEO:")
