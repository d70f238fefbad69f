"""Move a model to another author, by all its weights or by a few numbers beside them (LoRA), and see what it gains and forgets.

    python examples/finetune_text.py austen.txt                          # the Shakespeare model that ships
    python examples/finetune_text.py austen.txt --model runs/mine --rank 8
"""

import argparse

import zoo
from zoo.language.corpus import Corpus, read_corpus, restrict
from zoo.language.evaluation import evaluate
from zoo.language.lora import adapt, merge
from zoo.recipes.language import LanguageTraining, make_trainer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("text", help="a UTF-8 text file")
parser.add_argument("--model", default="transformer")
parser.add_argument("--before", default="shakespeare", help="what the model was trained on")
parser.add_argument("--rank", type=int, default=8, help="of the adapters; 0 trains every weight")
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--out", default="runs/finetuned")
options = parser.parse_args()

model = zoo.load(options.model)
old = read_corpus(options.before)
new = Corpus(options.text, restrict(read_corpus(options.text).text, model.tokenizer))  # in the symbols that the model knows
start = new.split()["valid"][:40]


def report(when: str) -> None:
    losses = {name: evaluate(model, corpus, max_tokens=30_000)["valid nats per character"] for name, corpus in (("old", old), ("new", new))}
    print(f"\n{when}: {losses['old']:.3f} nats per character on the old text, {losses['new']:.3f} on the new one")
    print(model.generate(start, 200, seed=0, temperature=0.8))


report("before")
before = model.num_parameters
if options.rank:
    adapt(model, options.rank)
trained = sum(p.size for p in model.parameters() if p.requires_grad)
print(f"\n{trained:,} of {before:,} numbers are trained")
lr = 2e-3 if options.rank else 3e-4
training = LanguageTraining.make(steps=options.steps, batch_size=8, lr=lr, weight_decay=0.0, warm_up=20, floor=0.0)
make_trainer(model, new, training).run(title=options.text)
if options.rank:
    merge(model)  # one matrix again instead of three: the same outputs, and other programs can read it
model.eval()
report("after")
model.save(options.out, source=options.model, data=options.text)
