"""What a page shows of each kind of model beside its records: one file per family, registered by importing this package."""

from . import captions, chat, codes, gates, latent, noise, text, verdict, words
from .recording import RECORDERS, TOOLS

__all__ = ["RECORDERS", "TOOLS", "captions", "chat", "codes", "gates", "latent", "noise", "text", "verdict", "words"]
