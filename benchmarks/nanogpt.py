"""nanoGPT's recipe for a CPU, by the zoo and by PyTorch in one run: minutes, and the loss on the whole validation text.

    python benchmarks/nanogpt.py --data tinyshakespeare.txt [--seed 1337] [--steps 2000] [--threads 2]

Both begin with the same weights and read the same batches; they run in processes of their own and take turns, 100 steps each.
4 layers, 4 heads, width 128, windows of 64, batch 12, no biases, tied output, AdamW from 1e-3 to 1e-4 (README of karpathy/nanoGPT).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

TURN = 100  # steps


def run(model: Any, trainer: Any, corpus: Any) -> Iterator[dict[str, float]]:
    """The zoo's side: one turn for each `next`, the last of which gives the loss too."""
    from zoo.language.evaluation import evaluate

    for record in trainer:
        if record.step % TURN == 0 and record.step < trainer.steps:
            yield {"loss": record.losses["loss"]}
    yield {"loss": record.losses["loss"], **evaluate(model.eval(), corpus)}


def run_torch(model: Any, trainer: Any, corpus: Any) -> Iterator[dict[str, float]]:
    """PyTorch's side, with the same weights and batches: eager, its fused AdamW and its own causal attention."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from zoo import data

    c = model.config

    class Block(nn.Module):
        def __init__(self, w: Callable[[str], Tensor]):
            super().__init__()
            self.norms = nn.ParameterList([w("norm1.gain"), w("norm2.gain")])
            self.matrices = nn.ParameterList([w(f"{name}.weight").T.contiguous() for name in
                                              ("attention.query_key_value", "attention.output", "mlp.up", "mlp.down")])

        def forward(self, x: Tensor) -> Tensor:
            b, t, width = x.shape
            qkv, out, up, down = self.matrices
            q, k, v = F.linear(F.layer_norm(x, (width,), self.norms[0]), qkv).view(b, t, 3, c.heads, -1).permute(2, 0, 3, 1, 4)
            x = x + F.linear(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, width), out)
            return x + F.linear(F.gelu(F.linear(F.layer_norm(x, (width,), self.norms[1]), up), approximate="tanh"), down)

    class GPT(nn.Module):
        def __init__(self, arrays: dict[str, np.ndarray]):
            super().__init__()
            w = lambda name: torch.from_numpy(arrays[name].copy())
            self.embedding, self.positions, self.norm = (nn.Parameter(w(n)) for n in ("embedding.weight", "position.weight", "norm.gain"))
            self.blocks = nn.ModuleList(Block(lambda name, i=i: w(f"blocks.{i}.{name}")) for i in range(c.layers))

        def forward(self, ids: Tensor) -> Tensor:
            x = F.embedding(ids, self.embedding) + self.positions[: ids.shape[1]]
            for block in self.blocks:
                x = block(x)
            return F.linear(F.layer_norm(x, (c.width,), self.norm), self.embedding)

    gpt = GPT(model.arrays())
    matrices, gains = ([p for p in gpt.parameters() if (p.ndim >= 2) == wide] for wide in (True, False))
    t = trainer.optimiser
    optimiser = torch.optim.AdamW([{"params": matrices, "weight_decay": t.weight_decay}, {"params": gains, "weight_decay": 0.0}],
                                  t.lr, betas=t.betas, fused=True)
    for step in range(trainer.steps):
        inputs, targets = (torch.from_numpy(np.ascontiguousarray(a)) for a in trainer.batches(step, trainer.generator(step)))
        for group in optimiser.param_groups:
            group["lr"] = t.lr * trainer.schedule(step)
        loss = F.cross_entropy(gpt(inputs).reshape(-1, c.symbols), targets.reshape(-1))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), t.clip)
        optimiser.step()
        if (step + 1) % TURN == 0 and step + 1 < trainer.steps:
            yield {"loss": loss.item()}
    total = count = 0
    with torch.no_grad():
        for inputs, targets in data.evaluation_blocks(model.tokenizer.encode(corpus.split()["valid"]), c.window, 256):
            nats = F.cross_entropy(gpt(torch.from_numpy(inputs.copy())).reshape(-1, c.symbols), torch.from_numpy(targets.copy()).reshape(-1),
                                    ignore_index=-1, reduction="sum")
            total, count = total + nats.item(), count + int((targets >= 0).sum())
    yield {"loss": loss.item(), "valid nats per token": total / count}


def side(options: argparse.Namespace) -> None:
    """Told "go" on standard input, one turn; answers with its seconds and figures."""
    import zoo
    from zoo.language.corpus import read_corpus
    from zoo.recipes.language import LanguageTraining, make_trainer
    from zoo.recipes.transformer import PRESETS
    from zoo.transformer import Transformer

    settings = {**PRESETS["nanogpt-cpu"], "steps": options.steps, "evaluate_every": 10**9}
    training = {name: settings.pop(name) for name in LanguageTraining.__dataclass_fields__ if name in settings}
    corpus = read_corpus(options.data)
    model = Transformer.for_data(corpus, seed=options.seed, **settings)
    trainer = make_trainer(model, corpus, LanguageTraining.make(**training), seed=options.seed)
    if options.side == "torch":
        import torch

        torch.set_num_threads(options.threads)
    zoo.set_threads(options.threads)
    turns = (run if options.side == "zoo" else run_torch)(model, trainer, corpus)
    for _ in sys.stdin:
        began = time.perf_counter()
        figures = next(turns)
        print(json.dumps({"seconds": time.perf_counter() - began, **figures}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="tiny Shakespeare")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=("zoo", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        return side(options)
    command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--side"]
    sides = {name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in ("zoo", "torch")}
    seconds = dict.fromkeys(sides, 0.0)
    reports: dict[str, Any] = {}
    for turn in range(math.ceil(options.steps / TURN)):
        for name, process in sides.items():
            assert process.stdin and process.stdout
            process.stdin.write("go\n")
            process.stdin.flush()
            reports[name] = json.loads(process.stdout.readline())
            seconds[name] += reports[name]["seconds"]
        print(f"step {(turn + 1) * TURN:5}  " + "  ".join(f"{n}: loss {f['loss']:.4f}, {seconds[n]:6.1f} s" for n, f in reports.items()), flush=True)
    for name, process in sides.items():
        assert process.stdin
        process.stdin.close()
        process.wait()
        print(f"{name:6} {reports[name]['valid nats per token']:.4f} nats per character on the validation text, {seconds[name]:.1f} s")
    print(f"the zoo in {seconds['torch'] / seconds['zoo']:.2f} of PyTorch's speed (first turns, compilation and evaluation included)")


if __name__ == "__main__":
    main()
