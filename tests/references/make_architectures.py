"""Logits of tiny random models by transformers, for tests/test_architectures.py: python tests/references/make_architectures.py (needs torch and transformers)

Weights aren't stored: each tensor is drawn from a generator seeded by its name, here and in the test.
"""
import json
import sys
import zlib

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

SIZES = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
         "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
CASES = {
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=False),
    "qwen2, tied, windows in the upper layers": Qwen2Config(**SIZES, tie_word_embeddings=True, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    "qwen3": Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES, sliding_window=6, head_dim=8),
    "mistral without a window": MistralConfig(**SIZES, sliding_window=None, head_dim=8),
    "llama, linear": LlamaConfig(**SIZES, rope_parameters={"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}),
    "llama, llama3": LlamaConfig(**SIZES, rope_parameters={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                                           "original_max_position_embeddings": 32, "rope_theta": 500000.0}),
    "llama, yarn": LlamaConfig(**SIZES, rope_parameters={**YARN, "rope_theta": 10000.0}),
    "qwen3, yarn with its own attention factor": Qwen3Config(**SIZES, head_dim=16, rope_parameters={
        **YARN, "attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0, "rope_theta": 1000000.0}),
}


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.3, shape).astype(np.float32)
    return values + np.float32(1) if name.endswith("norm.weight") else values


def main(path: str) -> None:
    ids = np.random.default_rng(0).integers(3, 40, 24)
    cases = {}
    for name, config in CASES.items():
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        shapes = {n: list(p.shape) for n, p in model.named_parameters()}
        with torch.no_grad():
            for n, p in model.named_parameters():
                p.copy_(torch.from_numpy(drawn(n, tuple(p.shape))))
            logits = model(torch.from_numpy(ids)[None]).logits[0].numpy()
        settings = json.loads(config.to_json_string(use_diff=False))
        cases[name] = {"config": settings, "shapes": shapes, "logits": [[round(float(v), 5) for v in row[::5]] for row in logits]}
        print(name, float(np.abs(logits).max()))
    with open(path, "w") as file:
        json.dump({"made with": f"transformers {transformers.__version__}, torch {torch.__version__}", "ids": ids.tolist(), "every": 5, "cases": cases}, file)


if __name__ == "__main__":
    main(sys.argv[1])
