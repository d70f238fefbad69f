"""Writing one stream of text: tokens per second of zoo, PyTorch eager and a C program that does the same arithmetic.

    python benchmarks/decoding.py [--json FILE]

GPT-2 of 4 layers, width 128, 4 heads, 65 symbols, a window of 256 filled from its beginning, a cache, batch 1.  Each is the best of several
windows, taken in turn so that all see the same machine; zoo's figure is of `steps`, records and drawing included.  C has one thread.
"""

import argparse
import json
import math
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from zoo.autograd import get_threads, set_threads
from zoo.transformer import Transformer

LAYERS, WIDTH, HEADS, WINDOW, SYMBOLS = 4, 128, 4, 256, 65


def zoo_stream():
    model = Transformer.new(symbols=SYMBOLS, window=WINDOW, layers=LAYERS, heads=HEADS, width=WIDTH, seed=0)

    def run() -> float:
        start = time.perf_counter()
        for _ in model.steps([0], WINDOW):
            pass
        return (time.perf_counter() - start) / WINDOW

    def bare() -> float:
        """Without records and drawing: what the kernel and the call to it cost."""
        _, state = model.begin(np.array([0]), room=WINDOW)
        start = time.perf_counter()
        for token in range(WINDOW - 1):
            _, state = model.advance(token % SYMBOLS, state)
        return (time.perf_counter() - start) / (WINDOW - 1)

    def on_one_thread() -> float:
        before = get_threads()
        set_threads(1)
        try:
            return bare()
        finally:
            set_threads(before)

    return {"zoo": run, "zoo, logits alone": bare, "the same, one thread": on_one_thread}


def torch_stream():
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
            self.keys, self.values = torch.zeros(1, HEADS, WINDOW, WIDTH // HEADS), torch.zeros(1, HEADS, WINDOW, WIDTH // HEADS)

        def forward(self, x, p):
            q, k, v = (z.view(1, 1, HEADS, -1).transpose(1, 2) for z in self.qkv(self.norm1(x)).split(WIDTH, dim=2))
            self.keys[:, :, p : p + 1], self.values[:, :, p : p + 1] = k, v
            y = F.scaled_dot_product_attention(q, self.keys[:, :, : p + 1], self.values[:, :, : p + 1])
            x = x + self.out(y.transpose(1, 2).reshape(1, 1, WIDTH))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    token, position = nn.Embedding(SYMBOLS, WIDTH), nn.Embedding(WINDOW, WIDTH)
    blocks, norm = [Block() for _ in range(LAYERS)], nn.LayerNorm(WIDTH)

    @torch.inference_mode()
    def run() -> float:
        ids = torch.zeros(1, 1, dtype=torch.long)
        start = time.perf_counter()
        for p in range(WINDOW):
            x = token(ids) + position.weight[p]
            for block in blocks:
                x = block(x, p)
            ids = torch.multinomial(F.softmax(F.linear(norm(x)[:, -1], token.weight), dim=-1), 1)
        return (time.perf_counter() - start) / WINDOW

    return {"PyTorch eager": run}


def c_stream(folder: str):
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return {}
    program = Path(folder) / "decoding"
    source = Path(__file__).with_name("decoding.c")
    subprocess.run([compiler, "-O3", "-march=native", "-ffast-math", "-o", str(program), str(source), "-lm"], check=True)
    return {"C": lambda: float(subprocess.run([str(program)], check=True, capture_output=True).stdout) * 1e-6}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures here as well")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = zoo_stream()
        try:
            runs |= torch_stream()
        except ImportError:
            print("PyTorch isn't here: left out")
        runs |= c_stream(folder)
        best = dict.fromkeys(runs, math.inf)
        for _ in range(options.rounds):
            for name, run in runs.items():
                best[name] = min(best[name], run())
    for name, seconds in best.items():
        print(f"{name:20} {1 / seconds:9,.0f} tokens/s  {seconds * 1e6:7.1f} us a token")
    if options.json:
        Path(options.json).write_text(json.dumps({name: 1 / seconds for name, seconds in best.items()}, indent=1))
