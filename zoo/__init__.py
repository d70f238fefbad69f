"""zoo: generative models in NumPy, fast enough to train on a CPU and open enough to watch every step.

    import zoo
    model = zoo.load("vae")
    digits = model.sample(16, seed=0)           # (16, 28, 28) float32 in [0, 1]
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from typing import TYPE_CHECKING

_WHERE = {  # public name -> the module it is imported from, when it is first used
    "load": "zoo.loading.cards",
    "shipped": "zoo.loading.cards",
    "Tensor": "zoo.autograd",
    "no_grad": "zoo.autograd",
    "set_threads": "zoo.autograd",
    "get_threads": "zoo.autograd",
    "set_precision": "zoo.autograd",
    "get_precision": "zoo.autograd",
    "use_precision": "zoo.autograd",
    "compile": "zoo.autograd.tracing",
    "trace": "zoo.autograd.tracing",
    "patch": "zoo.autograd.tracing",
    "profile": "zoo.inspection.profiling",
    "memory_report": "zoo.inspection.memory",
    "graph": "zoo.inspection.graph",
    "Trainer": "zoo.training",
}
_MODULES = ("autograd", "nn", "optim", "training", "storage", "data", "language", "evaluation", "inspection", "explain", "recipes", "gan", "vae",
            "diffusion", "transformer", "recurrent")
_MOVED = {  # modules under the names that they had until 0.1, which go on working for one release
    "zoo.clusters": "zoo.parts.adversarial.clusters", "zoo.corpus": "zoo.language.corpus", "zoo.decoding": "zoo.language.decoding",
    "zoo.diffusion_training": "zoo.recipes.diffusion", "zoo.diffusion_uses": "zoo.parts.denoising.editing", "zoo.dit": "zoo.parts.denoising.dit",
    "zoo.gan_diagnosis": "zoo.explain.diagnosis", "zoo.gan_losses": "zoo.parts.adversarial.losses",
    "zoo.gan_networks": "zoo.parts.adversarial.networks",
    "zoo.gan_training": "zoo.recipes.gan", "zoo.hugging_face": "zoo.loading.hugging_face", "zoo.latents": "zoo.parts.denoising.latents",
    "zoo.lora": "zoo.language.lora", "zoo.memory": "zoo.inspection.memory", "zoo.metrics": "zoo.evaluation",
    "zoo.evaluation.metrics": "zoo.evaluation",
    "zoo.music": "zoo.data.music", "zoo.profiling": "zoo.inspection.profiling", "zoo.samplers": "zoo.parts.denoising.samplers",
    "zoo.tokenizer": "zoo.language.tokenizer", "zoo.toys": "zoo.data.toys", "zoo.unet": "zoo.parts.denoising.unet",
    "zoo.warm_up": "zoo.recipes.warm_up", "zoo.inspection.notebook": "zoo.drawing.notebook", "zoo.inspection.pictures": "zoo.drawing.pictures",
    "zoo.inspection.terminal": "zoo.drawing.terminal",
}

__all__ = ["__version__", *_WHERE, *_MODULES]

if TYPE_CHECKING:
    from .autograd import Tensor as Tensor
    from .autograd import get_precision as get_precision
    from .autograd import get_threads as get_threads
    from .autograd import no_grad as no_grad
    from .autograd import set_precision as set_precision
    from .autograd import set_threads as set_threads
    from .autograd import use_precision as use_precision
    from .autograd.tracing import compile as compile
    from .autograd.tracing import patch as patch
    from .autograd.tracing import trace as trace
    from .inspection.memory import memory_report as memory_report
    from .inspection.profiling import profile as profile
    from .loading.cards import load as load
    from .loading.cards import shipped as shipped
    from .storage import VERSION as __version__
    from .training import Trainer as Trainer


class _MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module under an old name: the same module object, with a DeprecationWarning."""

    def find_spec(self, fullname, path=None, target=None):
        return importlib.util.spec_from_loader(fullname, self) if fullname in _MOVED else None

    def create_module(self, spec):
        warnings.warn(f"{spec.name} is {_MOVED[spec.name]} now; the old name goes in the next release", DeprecationWarning, stacklevel=2)
        return None

    def exec_module(self, module):
        sys.modules[module.__name__] = importlib.import_module(_MOVED[module.__name__])


sys.meta_path.append(_MovedModules())


def __getattr__(name: str):
    if name == "__version__":
        return importlib.import_module("zoo.storage").VERSION
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    if name in _MODULES or f"zoo.{name}" in _MOVED:
        return importlib.import_module(f"zoo.{name}")
    raise AttributeError(f"zoo has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
