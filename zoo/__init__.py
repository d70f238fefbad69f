"""zoo: generative models in NumPy, fast enough to train on a CPU and open enough to watch every step.

    import zoo
    model = zoo.load("vae")
    digits = model.sample(16, seed=0)           # (16, 28, 28) float32 in [0, 1]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_WHERE = {  # public name -> the module it is imported from, when it is first used
    "load": "zoo.model",
    "shipped": "zoo.model",
    "Tensor": "zoo.autograd",
    "no_grad": "zoo.autograd",
    "set_threads": "zoo.autograd",
    "get_threads": "zoo.autograd",
    "trace": "zoo.autograd.tracing",
    "patch": "zoo.autograd.tracing",
    "profile": "zoo.profiling",
    "memory_report": "zoo.memory",
    "graph": "zoo.inspection.graph",
    "Trainer": "zoo.training",
}
_MODULES = ("autograd", "nn", "optim", "training", "storage", "data", "music", "tokenizer", "metrics", "inspection", "explain",
            "gan", "vae", "diffusion", "transformer", "recurrent")

__all__ = ["__version__", *_WHERE, *_MODULES]

if TYPE_CHECKING:
    from .autograd import Tensor as Tensor
    from .autograd import get_threads as get_threads
    from .autograd import no_grad as no_grad
    from .autograd import set_threads as set_threads
    from .autograd.tracing import patch as patch
    from .autograd.tracing import trace as trace
    from .memory import memory_report as memory_report
    from .model import load as load
    from .model import shipped as shipped
    from .profiling import profile as profile
    from .training import Trainer as Trainer


def __getattr__(name: str):
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"zoo.{name}")
    raise AttributeError(f"zoo has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
