"""Teach a chat model a small task from 200 examples, beside its frozen weights of 4 bits (LoRA): orders in plain English become JSON.

    zoo get smollm2
    python examples/tune_chat.py                    # minutes; writes runs/orders/adapter.safetensors and the merged model, runs/orders
    zoo chat runs/orders
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import zoo
from zoo.language.chat import lessons
from zoo.language.lora import adapt, merge, write_adapter
from zoo.optim import AdamW, linear_decay

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", default="smollm2")
parser.add_argument("--rank", type=int, default=8)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--out", default="runs/orders")
options = parser.parse_args()

NAMES = ("Ada", "Ben", "Chloe", "David", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kim", "Lena", "Marco", "Nora", "Omar", "Petra")
GOODS = ("apples", "pears", "lemons", "eggs", "candles", "pencils", "plates", "chairs", "tulips", "bricks", "towels", "keys")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
FORMS = ("{who} would like {n} {good} by {day}.", "Please send {n} {good} to {who} on {day}.", "On {day}, {who} needs {n} {good}.",
         "Can {who} have {n} {good}? {day} would be good.", "{n} {good} for {who}, {day} please.", "It's {who}. I'd like {n} {good} before {day}.")


def order(rng: np.random.Generator) -> list[dict[str, str]]:
    who, good, day = (str(rng.choice(words)) for words in (NAMES, GOODS, DAYS))
    n = int(rng.integers(2, 13))
    text = str(rng.choice(FORMS)).format(who=who, n=NUMBERS[n - 2] if rng.random() < 0.5 else n, good=good, day=day)
    answer = json.dumps({"name": who, "item": good, "count": n, "day": day})
    return [{"role": "system", "content": "Write orders as JSON."}, {"role": "user", "content": text}, {"role": "assistant", "content": answer}]


rng = np.random.default_rng(0)
known, held_out = [order(rng) for _ in range(200)], []
while len(held_out) < 40:
    new = order(rng)
    if new not in known:
        held_out.append(new)


def loss_of(model) -> float:
    """Nats per token of the held-out answers."""
    total, count = model.log_likelihood(lessons(model, held_out[i : i + 8]) for i in range(0, len(held_out), 8))
    return -total / count


def right(model, n: int = 20) -> int:
    """How many of n held-out orders are answered with the right JSON."""
    return sum(model.chat(messages[:-1], n_tokens=48).strip() == messages[-1]["content"] for messages in held_out[:n])


model = zoo.load(options.model)
print(f"before: {loss_of(model):.3f} nats per token of held-out answers, {right(model)} of 20 right")
print(f"   {held_out[0][1]['content']}  ->  {model.chat(held_out[0][:-1], n_tokens=48)!r}")

adapt(model, options.rank)
trained = sum(p.size for p in model.parameters() if p.requires_grad)
print(f"{trained:,} numbers are trained beside {model.num_parameters - trained:,} that aren't")
steps = options.epochs * len(known) // options.batch
optimiser, schedule = AdamW(model.named_parameters(), options.lr), linear_decay(steps, warmup=5, floor=0.0)
began = time.perf_counter()
for step in range(steps):
    if step * options.batch % len(known) == 0:
        order_of_examples = rng.permutation(len(known))
    first = step * options.batch % len(known)
    batch = lessons(model, [known[i] for i in order_of_examples[first : first + options.batch]])
    optimiser.zero_grad()
    loss = model.loss(batch, rng)["loss"]
    loss.backward()
    optimiser.step(schedule(step))
    if step % 5 == 4:
        print(f"step {step + 1} of {steps}: {float(loss.data):.4f} nats, {(time.perf_counter() - began) / 60:.1f} minutes", flush=True)

print(f"with the adapter: {loss_of(model):.4f} nats per token of held-out answers")
minutes = (time.perf_counter() - began) / 60
adapter = Path(options.out) / "adapter.safetensors"
adapter.parent.mkdir(parents=True, exist_ok=True)
write_adapter(model, adapter)
merge(model)  # the kernels that write token by token know plain layers
print(f"merged: {loss_of(model):.4f} nats per token, {right(model)} of 20 right after {minutes:.1f} minutes")
print(f"   {held_out[0][1]['content']}  ->  {model.chat(held_out[0][:-1], n_tokens=48)!r}")
model.save(options.out, source=options.model, tuned="python examples/tune_chat.py")
print(f"{adapter}: {adapter.stat().st_size / 1e6:.1f} MB; {options.out}: the merged model")
