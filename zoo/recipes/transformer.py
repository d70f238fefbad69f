"""Presets of the transformer."""

from __future__ import annotations

from typing import Any

from ..language.corpus import read_corpus
from ..transformer import Transformer
from .language import LanguageTraining, make_trainer
from .recipe import Recipe

MODERN: dict[str, Any] = {  # what later work changed in GPT-2, and an optimiser for matrices
    "positions": "rotary", "norm": "rms", "bias": False, "tied": False, "optimiser": "muon", "schedule": "linear", "floor": 0.0}


PRESETS: dict[str, dict[str, Any]] = {  # configuration and training in one
    "shakespeare": {**MODERN, "window": 256, "layers": 6, "heads": 6, "width": 192, "steps": 2200, "batch_size": 16, "lr": 2e-3,
                    "muon_lr": 0.02, "warm_up": 50, "weight_decay": 0.05, "average": 0.995},
    # a fifth of the text: more of the model than of the data, so dropout and decay
    "tinyshakespeare": {**MODERN, "window": 256, "layers": 6, "heads": 4, "width": 256, "dropout": 0.15, "steps": 2000, "batch_size": 16,
                        "lr": 2e-3, "muon_lr": 0.02, "warm_up": 50, "weight_decay": 0.1, "average": 0.995},
    # nanoGPT's recipe for a CPU to the letter (github.com/karpathy/nanoGPT, README), and as many steps of as many tokens by the best one
    "nanogpt-cpu": {"window": 64, "layers": 4, "heads": 4, "width": 128, "bias": False, "tied": True, "dropout": 0.0, "steps": 2000,
                    "batch_size": 12, "lr": 1e-3, "schedule": "cosine", "warm_up": 100, "floor": 0.1, "betas": (0.9, 0.99),
                    "weight_decay": 0.1, "clip": 1.0},
    "nanogpt-cpu-best": {**MODERN, "window": 64, "layers": 4, "heads": 4, "width": 128, "steps": 2000, "batch_size": 12, "lr": 4e-3,
                         "muon_lr": 0.02, "warm_up": 20, "weight_decay": 0.01, "average": 0.99},
    "names": {**MODERN, "window": 24, "layers": 4, "heads": 4, "width": 64, "lines": True, "dropout": 0.25, "steps": 1500, "batch_size": 128,
              "lr": 2e-3, "muon_lr": 0.01, "weight_decay": 0.1, "average": 0.998},
    # four characters a step, one a voice: windows begin with the soprano
    "chorales": {**MODERN, "window": 512, "layers": 4, "heads": 4, "width": 128, "stride": 4, "start": "\n\n\n\n", "dropout": 0.2,
                 "steps": 1500, "batch_size": 8, "lr": 2e-3, "muon_lr": 0.02, "warm_up": 50, "weight_decay": 0.05, "average": 0.995},
}


RECIPE = Recipe(Transformer, LanguageTraining, PRESETS, read_corpus, make_trainer, "shakespeare")
