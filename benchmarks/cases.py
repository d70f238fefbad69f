"""What is compared: sizes and batches, which both sides share.  Pictures are (batch, height, width, channels) here."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SYMBOLS = 65
WORDS = 47  # of a vocabulary; ids 0 and 1 are padding and the beginning


class Case(NamedTuple):
    """One row of the table: `kind` names a function of zoo_steps.py and of torch_steps.py or torch_words.py, `sizes` are its arguments."""

    title: str
    kind: str
    sizes: dict[str, Any]
    convolutional: bool = False  # PyTorch is tried with channels-last memory too
    training: bool = True  # one training step; else without gradients, or without an optimiser
    compiled: bool = True  # torch.compile is worth trying
    size: str = "middle"  # or "small", where a step is mostly Python, or "large", where it is mostly products


REPLAYED = ("gpt", "vae")  # kinds whose recipes replay a recorded loss (`zoo.compile`), so that it is part of the step that is measured
GPT_SMALL = {"layers": 4, "width": 128, "heads": 4, "batch": 12, "time": 64}
TEXT = {"length": 40, "text_width": 96, "text_blocks": 2, "text_heads": 4, "batch": 64}
CASES: dict[str, Case] = {
    "gpt-small": Case("GPT, 4 layers, width 128, 4 heads, batch 12 x 64", "gpt", GPT_SMALL),
    "gpt-middle": Case("GPT, 6 layers, width 256, 8 heads, batch 8 x 128", "gpt", {"layers": 6, "width": 256, "heads": 8, "batch": 8, "time": 128}),
    "vae": Case("VAE 784-400-20, batch 128", "vae", {"hidden": 400, "latent": 20, "batch": 128}),
    "dcgan": Case("DCGAN, 28x28, 64/128 channels, batch 64, steps of D and G", "dcgan", {"latent": 64, "channels": 32, "batch": 64}, True),
    "unet": Case("U-Net, 28x28, 32 channels, batch 64", "unet", {"channels": 32, "batch": 64}, True),
    "words-unet": Case("U-Net with words, 32x32x3, 48 channels, sentences of up to 39 words, batch 64", "words_unet",
                       {**TEXT, "channels": 48, "blocks": 1, "heads": 4}, True),
    "words-mmdit": Case("MM-DiT, 32x32x3, 6 blocks, width 128, sentences of up to 39 words, batch 64", "words_mmdit",
                        {**TEXT, "channels": 128, "blocks": 6, "heads": 4, "patch": 4}),
    "lstm": Case("LSTM, width 128, batch 32 x 64", "lstm", {"width": 128, "batch": 32, "time": 64}),
    "decoding": Case("GPT, 4 layers, width 128: 64 tokens, one stream, with a cache", "decoding", {**GPT_SMALL, "batch": 1}, training=False,
                     compiled=False),
    "unet-evaluation": Case("U-Net, batch 64, without gradients", "unet_evaluation", {"channels": 32, "batch": 64}, True, False),
    **{f"attention-{time}": Case(f"causal attention, 4 heads of 32, {time} steps, and its derivative", "attention",
                                 {"heads": 4, "width": 32, "time": time}, training=False) for time in (256, 512, 1024, 2048, 4096)},
}
CASES |= {
    "gpt-batch-1": Case("GPT, 4 layers, width 128, 4 heads, batch 1 x 64", "gpt", {**GPT_SMALL, "batch": 1}, size="small"),
    "vae-batch-8": Case("VAE 784-400-20, batch 8", "vae", {"hidden": 400, "latent": 20, "batch": 8}, size="small"),
    "dcgan-batch-4": Case("DCGAN, 28x28, 64/128 channels, batch 4", "dcgan", {"latent": 64, "channels": 32, "batch": 4}, True, size="small"),
    "unet-batch-2": Case("U-Net, 28x28, 32 channels, batch 2", "unet", {"channels": 32, "batch": 2}, True, size="small"),
    "lstm-batch-1": Case("LSTM, width 128, batch 1 x 64", "lstm", {"width": 128, "batch": 1, "time": 64}, size="small"),
    "gpt-512": Case("GPT, 8 layers, width 512, 8 heads, batch 8 x 128", "gpt",
                    {"layers": 8, "width": 512, "heads": 8, "batch": 8, "time": 128}, size="large"),
    "gpt-768": Case("GPT, 12 layers, width 768, 12 heads, batch 1 x 256", "gpt",
                    {"layers": 12, "width": 768, "heads": 12, "batch": 1, "time": 256}, size="large"),
    "vae-2000": Case("VAE 784-2000-100, batch 512", "vae", {"hidden": 2000, "latent": 100, "batch": 512}, size="large"),
    "dcgan-96": Case("DCGAN, 28x28, 96/192 channels, batch 128", "dcgan", {"latent": 64, "channels": 48, "batch": 128}, True, size="large"),
    "unet-96": Case("U-Net, 28x28, 96 channels, batch 32", "unet", {"channels": 96, "batch": 32}, True, size="large"),
    "lstm-512": Case("LSTM, width 512, batch 32 x 64", "lstm", {"width": 512, "batch": 32, "time": 64}, size="large"),
}
SIZES = ("small", "middle", "large")
TRAINING = [name for name, case in CASES.items() if case.training]

TINY: dict[str, dict[str, Any]] = {  # the same networks, small enough for a test
    "gpt-small": {"layers": 2, "width": 32, "heads": 2, "batch": 3, "time": 10},
    "vae": {"hidden": 30, "latent": 4, "batch": 10},
    "dcgan": {"latent": 8, "channels": 8, "batch": 6},
    "unet": {"channels": 8, "batch": 3},
    "words-unet": {"length": 7, "text_width": 8, "text_blocks": 1, "text_heads": 2, "batch": 3, "channels": 8, "blocks": 1, "heads": 2},
    "words-mmdit": {"length": 7, "text_width": 8, "text_blocks": 1, "text_heads": 2, "batch": 3, "channels": 16, "blocks": 2, "heads": 2, "patch": 8},
    "lstm": {"width": 16, "batch": 4, "time": 9},
    "decoding": {"layers": 2, "width": 32, "heads": 2, "batch": 1, "time": 10},
    "unet-evaluation": {"channels": 8, "batch": 3},
    "attention-256": {"heads": 2, "width": 8, "time": 70},
}


def batch(kind: str, sizes: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """The arguments of a step: data, and the noise that it would draw otherwise."""
    rng = np.random.default_rng(seed)
    n = sizes.get("batch", 1)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    if kind in ("gpt", "lstm", "decoding"):
        ids = rng.integers(0, SYMBOLS, (n, sizes["time"] + 1))
        return {"ids": ids[:, :-1], "targets": ids[:, 1:]}
    if kind == "vae":
        return {"x": rng.random((n, 784), np.float32), "noise": normal(n, sizes["latent"])}
    if kind == "dcgan":
        return {"x": 2 * rng.random((n, 28, 28, 1), np.float32) - 1, "z": normal(n, sizes["latent"])}
    if kind in ("unet", "unet_evaluation"):
        return {"x": normal(n, 28, 28, 1), "noise": normal(n, 28, 28, 1), "t": 1000 * rng.random(n, np.float32)}
    if kind in ("words_unet", "words_mmdit"):
        ids = rng.integers(2, 2 + WORDS, (n, sizes["length"]))
        ids[:, 0] = 1
        ids[np.arange(sizes["length"]) > rng.integers(3, sizes["length"], (n, 1))] = 0
        return {"x": normal(n, 32, 32, 3), "noise": normal(n, 32, 32, 3), "t": 1000 * rng.random(n, np.float32), "ids": ids}
    shape = (1, sizes["heads"], sizes["time"], sizes["width"])  # attention
    return {name: normal(*shape) for name in ("query", "key", "value", "gradient")}


def jitter(weights: dict[str, np.ndarray], seed: int = 1) -> None:
    """Add a little noise to every weight, in place: weights that are all 0 or 1 would hide a mistake."""
    rng = np.random.default_rng(seed)
    for name in sorted(weights):
        weights[name] += np.float32(0.02) * rng.standard_normal(weights[name].shape, np.float32)


def numbers(result: Any) -> list[float]:
    """The result of a step as numbers to compare: a loss as it is, an array as the sum of its absolute entries, each weighted by its index."""
    if isinstance(result, list):
        return [number for part in result for number in numbers(part)]
    a = np.asarray(result, np.float64).ravel()
    return [float(a[0])] if a.size == 1 else [float(np.abs(a) @ np.arange(1, a.size + 1) / a.size**2)]
