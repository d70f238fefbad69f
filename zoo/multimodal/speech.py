"""Speech from words: the flow of `words.py`, whose pictures are spectrograms, which become sound by Griffin and Lim's algorithm.

    "a woman says seven" --text encoder--> vectors --flow--> spectrogram (32 mels, 64 frames) --Griffin-Lim--> a second of sound

A spectrogram is a picture, so nothing is new but the two ends (`data.sound`): noise becomes a word as it becomes a digit, and every step can be
heard.  A prompt names a word, and may name who says it: "seven", "a man says seven", "a woman says b".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np

from ..data import sound, speech
from ..model import Count
from .evaluation import of_speech
from .words import Words, WordsConfig

if TYPE_CHECKING:
    from ..model.fields import SpeechFields


@dataclasses.dataclass(frozen=True)
class SpeechConfig(WordsConfig):
    image: tuple[Count, ...] = (sound.MELS, sound.FRAMES)
    length: Count = 6
    text_width: Count = 64
    text_blocks: Count = 1

    def check(self) -> None:
        super().check()
        if self.image != (sound.MELS, sound.FRAMES):
            raise ValueError(f"SpeechConfig: image is {self.image}; it is that of spectrograms, {(sound.MELS, sound.FRAMES)}")


class Speech(Words):
    """`zoo.load("speech").sample(prompt=["seven", "a woman says three"], seed=0)`."""

    kind = "speech"
    Config = SpeechConfig
    config: SpeechConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[SpeechFields]) -> Self: ...  # type: ignore[override]

    @classmethod
    def for_data(cls, data: Any, *, seed: int = 0, **fields: Any) -> Speech:  # type: ignore[override]
        """A fresh model with the words that are spoken."""
        return cls.new(seed=seed, **{"vocabulary": speech.VOCABULARY, **fields})

    def spectrograms(self, n: int | None = None, seed: int = 0, *, prompt: str | Sequence[str] | None = None, **settings) -> np.ndarray:
        """(n, 32, 64) float32 in [0, 1], high frequencies first; settings are those of `steps`."""
        return super().sample(n, seed, prompt=prompt, **settings)

    def sample(self, n: int | None = None, seed: int = 0, *, prompt: str | Sequence[str] | None = None, **settings) -> list[np.ndarray]:  # type: ignore[override]
        """Waveforms, each (8064,) float32 in [-1, 1]: a second at 8 kHz.  n: by default one for each prompt; settings are those of `steps`."""
        return list(self.sound(self.spectrograms(n, seed, prompt=prompt, **settings)))

    evaluate = of_speech  # type: ignore[assignment]

    @staticmethod
    def sound(pictures, seed: int = 0) -> np.ndarray:
        """Spectrograms (n, 32, 64) in [0, 1], of the end or of any step -> (n, 8064) float32 in [-1, 1]."""
        return sound.waveform(pictures, seed=seed)
