"""What language models share: corpora and their windows, tokenizers, sampling, evaluation, the cache, fast decoding and LoRA."""

from .evaluation import bigram_loss
from .model import LanguageConfig, LanguageModel, TextStep
from .sampling import Sampling

__all__ = ["LanguageConfig", "LanguageModel", "Sampling", "TextStep", "bigram_loss"]
