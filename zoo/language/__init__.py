"""What language models share: tokenizers, corpora, sampling of text, the cache, fast decoding and LoRA."""

from .model import LanguageConfig, LanguageModel, Sampling, TextStep, bigram_loss

__all__ = ["LanguageConfig", "LanguageModel", "Sampling", "TextStep", "bigram_loss"]
