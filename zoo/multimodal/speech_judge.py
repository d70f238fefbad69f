"""A recogniser of spoken digits and letters, which has never heard a sound of a model's: it judges what `speech.py` says.

    waveform --spectrogram--> (32 mels, 64 frames) --convolutions with batch norm--> which word, and whether a man or a woman says it

Its features are those in which the Frechet distance of two sets of waveforms is taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import Tensor, no_grad
from ..data import sound, speech
from ..model import Config, Count, Decay, Model, check_images
from ..nn import BatchNorm, Conv2d, Linear, dropout, evaluating
from ..training import minibatches

if TYPE_CHECKING:
    from ..model.fields import SpeechJudgeFields


@dataclasses.dataclass(frozen=True)
class SpeechJudgeConfig(Config):
    image: tuple[Count, ...] = (sound.MELS, sound.FRAMES)
    words: tuple[str, ...] = ()  # that it tells apart
    channels: Count = 24
    features: Count = 128
    dropout: Decay = 0.2

    def check(self) -> None:
        """ValueError where settings don't go together."""
        if not self.words:
            raise ValueError("SpeechJudgeConfig: words is empty; it has the words that are told apart")


class SpeechJudge(Model):
    """A recogniser: which word is said, and by a man or a woman."""

    kind = "speech_judge"
    Config = SpeechJudgeConfig
    config: SpeechJudgeConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[SpeechJudgeFields]) -> Self: ...  # type: ignore[override]

    convolutions: list[Conv2d]
    norms: list[BatchNorm]
    dense: Linear
    output: Linear

    @classmethod
    def for_data(cls, data: Any, *, seed: int = 0, **fields: Any) -> SpeechJudge:
        """A fresh model with the words that are spoken, or those of these recordings."""
        recorded = tuple(sorted(set(getattr(data, "train_words", ()))))
        return cls.new(seed=seed, **{"words": recorded or speech.WORDS, **fields})

    def __init__(self, config: SpeechJudgeConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        config.check()
        a, b = config.channels, 2 * config.channels
        sizes = ((1, a, 1), (a, a, 2), (a, b, 2), (b, b, 2))
        self.convolutions = [Conv2d(i, o, 3, stride=stride, padding=1, rng=rng, bias=False, scale=2**0.5) for i, o, stride in sizes]
        self.norms = [BatchNorm(o, activation="relu") for _, o, _ in sizes]
        self.dense = Linear(b * (config.image[0] // 8) * (config.image[1] // 8), config.features, rng=rng, activation="relu", scale=2**0.5)
        self.output = Linear(config.features, len(config.words) + len(speech.SPEAKERS), rng=rng)

    def features(self, x, rng: Generator | None = None):
        """x (n, 32, 64) in [0, 1] -> (n, features)."""
        x = x.reshape((*x.shape, 1))
        for convolution, norm in zip(self.convolutions, self.norms):
            x = norm(convolution(x))
        return self.dense(dropout(x.reshape((len(x), -1)), self.config.dropout, rng))

    def __call__(self, x, rng: Generator | None = None):
        """Logits of words and of speakers: (n, words), (n, 2)."""
        return ops.split(self.output(self.features(x, rng)), [len(self.config.words)], axis=-1)

    def loss(self, batch, rng: Generator) -> dict[str, Tensor]:
        """Cross entropy of words, and of speakers where they are known: batch is (spectrograms, word numbers, speaker numbers or -1)."""
        x, words, speakers = batch
        x = check_images(x, self.config.image)
        noise = np.float32(0.1) * rng.random((len(x), 1, 1), np.float32) * rng.standard_normal(x.shape, np.float32)
        of_words, of_speakers = self(np.clip(x + noise, 0, 1), rng)
        word_loss = ops.cross_entropy(of_words, words)
        if (np.asarray(speakers) < 0).all():
            return {"loss": word_loss, "words": word_loss}
        speaker_loss = ops.cross_entropy(of_speakers, speakers, ignore_index=-1)
        return {"loss": word_loss + speaker_loss, "words": word_loss, "speakers": speaker_loss}

    def evaluate(self, data: Any = None, *, seed: int = 0, takes: Count = 2) -> dict[str, float]:
        """Share of words and of speakers that are heard right: of recordings that were held out, else of espeak-ng's voices that were.

        data: a recipe's words.  takes: of each word by each voice.  Raises ModuleNotFoundError without recordings and espeakng-loader.
        """
        if getattr(data, "test", None) is None:
            return recognised(self, speech.spoken_words(self.config.words, takes, seed, voices="held out"))
        n = len(data.test)
        return recognised(self, speech.Spoken(data.test, data.test_words, ("",) * n, (data.name,) * n))

    def example(self) -> None:
        """Run the model once, on silence."""
        self.hear(np.zeros((1, sound.SAMPLES), np.float32))

    def hear(self, waveforms, batch: int = 500) -> list[tuple[str, str]]:
        """The word and the speaker ("man" or "woman") of each waveform (n, 8064)."""
        pictures = sound.spectrogram(np.stack(waveforms) if isinstance(waveforms, list) else waveforms)
        heard = []
        with no_grad(), evaluating(self):
            for part in minibatches(len(pictures), batch):
                words, speakers = (np.asarray(logits.data).argmax(-1) for logits in self(Tensor(pictures[part])))
                heard += [(self.config.words[w], speech.SPEAKERS[s]) for w, s in zip(words, speakers)]
        return heard

    def embed(self, waveforms, batch: int = 500) -> np.ndarray:
        """(n, features) float32: in which the Frechet distance of two sets of waveforms is taken."""
        pictures = sound.spectrogram(waveforms)
        with no_grad(), evaluating(self):
            return np.concatenate([np.asarray(self.features(Tensor(pictures[part])).data) for part in minibatches(len(pictures), batch)])


def numbers(spoken: speech.Spoken, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) the number of each word among `words`, (n,) that of its speaker, -1 where nobody knows.  ValueError for another word."""
    index = {word: i for i, word in enumerate(words)}
    unknown = set(spoken.words) - set(index)
    if unknown:
        raise ValueError(f"words: {sorted(unknown)[0]!r} isn't among {', '.join(words)}")
    return np.array([index[w] for w in spoken.words]), np.array([speech.SPEAKERS.index(s) if s else -1 for s in spoken.speakers])


def recognised(judge: SpeechJudge, spoken: speech.Spoken) -> dict[str, float]:
    """Share of words, and of speakers where they are known, that the judge hears as they were said."""
    heard = judge.hear(spoken.waveforms)
    figures = {"words": float(np.mean([word == said for (word, _), said in zip(heard, spoken.words)]))}
    known = [speaker == who for (_, speaker), who in zip(heard, spoken.speakers) if who]
    return {**figures, "speakers": float(np.mean(known))} if known else figures
