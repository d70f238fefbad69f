"""Presets of the recurrent networks."""

from __future__ import annotations

from typing import Any

from ..language.corpus import read_corpus
from ..recurrent import Recurrent
from .language import LanguageTraining, make_trainer
from .recipe import Recipe

COMMON: dict[str, Any] = {"schedule": "linear", "floor": 0.0, "weight_decay": 0.01, "average": 0.998}


ROLLS = {**COMMON, "inputs": "keys", "dropout": 0.1, "steps": 4000, "batch_size": 16, "lr": 5e-3, "weight_decay": 0.2}


PRESETS: dict[str, dict[str, Any]] = {  # configuration and training in one
    "shakespeare": {"cell": "lstm", "layers": 2, "width": 320, "embedding": 128, "steps": 1800, "batch_size": 32, "window": 128, "lr": 3e-3,
                    **COMMON},
    "tinyshakespeare": {"cell": "lstm", "layers": 2, "width": 384, "embedding": 128, "dropout": 0.2, "steps": 5000, "batch_size": 32,
                        "window": 128, "lr": 3e-3, **COMMON},
    "names": {"cell": "gru", "width": 128, "embedding": 32, "lines": True, "dropout": 0.1, "steps": 5000, "batch_size": 128, "lr": 3e-3,
              **COMMON},
    "chorales": {"cell": "lstm", "width": 256, "embedding": 64, "stride": 4, "start": "\n\n\n\n", "dropout": 0.2, "steps": 4000,
                 "batch_size": 32, "window": 128, "lr": 3e-3, **COMMON},
    "rolls-lstm": {**ROLLS, "cell": "lstm", "width": 36, "steps": 5000},  # the sizes of Chung et al. (2014), table 1: about 20,000 parameters
    "rolls-gru": {**ROLLS, "cell": "gru", "width": 46},
    "rolls-elman": {**ROLLS, "cell": "elman", "width": 100},
}


RECIPE = Recipe(Recurrent, LanguageTraining, PRESETS, read_corpus, make_trainer, "shakespeare")
