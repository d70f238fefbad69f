"""How fast can a model write?  Memory and tokens a second of three sizes of SmolLM2 by bits, beside what reading the weights alone would take.

    python benchmarks/scale.py [--tokens 24] [--threads 2] [--sizes 135M 360M 1.7B]

Weights are random: speed doesn't depend on them.  Writing a token reads every weight once, except the embedding's other rows, and the keys
and values of all tokens before it.  So the model of the time is bytes / speed for each kind of weights, with the speed at which this machine
multiplies a row with a matrix of that kind much larger than its caches: of 8 bits it is that of memory, of 4 bits that of unpacking.
What it leaves out: norms, attention and activations, and 2 barriers a layer.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time

import numpy as np

import zoo
from zoo import autograd as ops
from zoo.autograd.operations.quantised import BLOCK, BYTES, GROUP, HEAD
from zoo.language.layers import Layers
from zoo.nn import QuantisedEmbedding, QuantisedLinear
from zoo.transformer import Transformer, TransformerConfig

SHARED = {"symbols": 49152, "window": 2048, "positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "tied": True}
SIZES = {
    "135M": {"layers": 30, "width": 576, "heads": 9, "key_value_heads": 3, "hidden": 1536},
    "360M": {"layers": 32, "width": 960, "heads": 15, "key_value_heads": 5, "hidden": 2560},
    "1.7B": {"layers": 24, "width": 2048, "heads": 32, "key_value_heads": 32, "hidden": 8192},
}


def random_blocks(outputs: int, inputs: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Side by side: small scales, and bytes of any kind."""
    blocks = rng.integers(0, 256, (-(-outputs // GROUP), inputs // BLOCK, GROUP * BYTES[kind]), dtype=np.uint8)
    head = 2 * GROUP * HEAD[kind]
    scales = np.full(GROUP * HEAD[kind], 0.02 / (127 if kind == "Q8_0" else 15), "<f2")
    blocks[..., :head] = scales.view(np.uint8)
    return blocks


class RandomLayers(Layers):
    """Blocks of 4 or 8 bits; the embedding, which is the output matrix too, of 8, as in files of 4 bits."""

    def __init__(self, c: TransformerConfig, kind: str):
        super().__init__(c, np.random.default_rng(0))
        self.kind = kind

    def embedding(self, name, rows):
        return QuantisedEmbedding(random_blocks(rows, self.config.width, "Q8_0", self.rng), "Q8_0", rows)

    def linear(self, name, inputs, outputs, *, residual=False, activation=None, bias=None):
        return QuantisedLinear(random_blocks(outputs, inputs, self.kind, self.rng), self.kind, outputs, activation=activation)


def model_of(size: str, bits: str) -> Transformer:
    config = TransformerConfig.make(**SHARED, **SIZES[size])
    return Transformer(config, rng=np.random.default_rng(0), layers=RandomLayers(config, {"4": "Q4_1", "8": "Q8_0"}[bits])).eval()


def bytes_of_token(model: Transformer, before: int) -> dict[str, int]:
    """Bytes that writing a token reads, by kind: of all weights (the embedding is the output matrix), and of `before` keys and values."""
    c = model.config
    read = {"Q4_1": 0, "Q8_0": 0, "cache": 2 * 4 * c.layers * c.key_value_heads * c.head_width * before}
    for _, layer in model.modules():
        if isinstance(layer, (QuantisedLinear, QuantisedEmbedding)):
            read[layer.quantisation] += layer.blocks.nbytes
    return read


def speed_of(kind: str) -> float:
    """Bytes a second of a product of one row with a matrix of a kind, of 427 MB or 251; the best of five."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2048)).astype(np.float32)
    blocks = random_blocks(196_608, 2048, kind, rng)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        ops.quantised_linear(x, blocks, kind=kind, outputs=196_608)
        times.append(time.perf_counter() - began)
    return blocks.nbytes / min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--threads", type=int, default=zoo.get_threads())
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--bits", nargs="+", default=["4", "8"], choices=["4", "8"])
    options = parser.parse_args()
    zoo.set_threads(options.threads)
    speeds = {kind: speed_of(kind) for kind in BYTES}
    speeds["cache"] = speeds["Q8_0"]
    told = ", ".join(f"{kind} {speeds[kind] / 1e9:.1f}" for kind in BYTES)
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads; GB/s of weights: {told}")
    print(f"{'model':>6} {'bits':>4} {'parameters':>13} {'weights, MB':>12} {'read per token':>15} {'tokens/s':>9} {'predicted':>10} share")
    for size in options.sizes:
        for bits in options.bits:
            model = model_of(size, bits)
            times, began = [], 0.0
            for i, _ in enumerate(model.steps([1, 2, 3, 4], options.tokens + 4, temperature=0)):
                if i > 3:
                    times.append(time.perf_counter() - began)
                began = time.perf_counter()
            read = bytes_of_token(model, options.tokens // 2)
            measured, predicted = 1 / float(np.median(times)), 1 / sum(size / speeds[kind] for kind, size in read.items())
            total = sum(read.values())
            print(f"{size:>6} {bits:>4} {model.num_parameters:>13,} {(total - read['cache']) / 1e6:>12.1f} {total / 1e6:>12.1f} MB {measured:>9.1f} "
                  f"{predicted:>10.1f} {measured / predicted:>5.0%}", flush=True)
            del model
    print(f"most memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:,.0f} MB")


if __name__ == "__main__":
    main()
