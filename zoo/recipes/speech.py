"""How speech is learned: words by espeak-ng's voices, spoken once and kept as spectrograms; settings of a run, presets, trainers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..autograd.random import generator
from ..data import sound, speech
from ..model import Count, Decay, Positive
from ..multimodal.speech import Speech
from ..multimodal.speech_judge import SpeechJudge, numbers, recognised
from ..optim import Adam, Average, cosine
from ..training import Table, Trainer
from .recipe import Recipe, RunSettings
from .words import FlowTraining, flow_trainer

VOICES = "spoken-words"  # espeak-ng's
BARE = 0.5  # share of training in which the caption is the word alone


@dataclasses.dataclass(frozen=True)
class SpeechTraining(FlowTraining):
    steps: Count = 3500
    batch_size: Count = 64
    takes: Count = 8  # of each word by each voice
    letters: bool = True  # else digits alone


PRESETS: dict[str, dict[str, Any]] = {
    "speech": {"channels": 32, "multipliers": (1, 2), "unshuffle": 2, "heads": 4, "sampler": "heun", "evaluations": 30, "guidance": 1.3},
}


@dataclasses.dataclass(frozen=True)
class SpokenWords:
    """Words to learn from: espeak-ng's, which are spoken when they are needed, or recordings."""

    name: str = VOICES
    train: np.ndarray | None = None  # waveforms (n, 8064); None: espeak-ng speaks
    train_words: tuple[str, ...] = ()
    test: np.ndarray | None = None
    test_words: tuple[str, ...] = ()

    def spoken(self, training: Any, seed: int, part: str) -> speech.Spoken:
        """part: "train" or "test", which has other voices, or other recordings."""
        x, words = (self.train, self.train_words) if part == "train" else (self.test, self.test_words)
        if x is not None:
            return speech.Spoken(x, words, ("",) * len(x), (self.name,) * len(x))
        wanted = speech.WORDS if training.letters else speech.DIGITS
        return speech.spoken_words(wanted, training.takes if part == "train" else 2, seed, voices="seen" if part == "train" else "held out")


def load_data(source: str | None) -> SpokenWords:
    """espeak-ng's voices, or a folder of the free spoken digit dataset."""
    if source in (None, VOICES):
        return SpokenWords()
    train, test = speech.recorded_digits(source, "train"), speech.recorded_digits(source, "test")
    return SpokenWords(source, train.waveforms, train.words, test.waveforms, test.words)


def make_trainer(model: Speech, data: SpokenWords, training: SpeechTraining, *, seed: int = 0, folder=None, resume: bool = False,
                 **options) -> Trainer:
    """The training run of a preset or of your own settings; options go to `Trainer`."""
    t, spoken = training, data.spoken(training, seed, "train")
    pictures, captions, words = sound.spectrogram(spoken.waveforms), model.ids(spoken.captions), model.ids(spoken.words)

    def take(rows: np.ndarray, rng: np.random.Generator):
        return pictures[rows], np.where(rng.random((len(rows), 1)) < BARE, words[rows], captions[rows])

    def draw(step: int, rng: np.random.Generator):
        rng = generator((seed, step, 0x59EE))
        return take(rng.integers(len(pictures), size=t.batch_size), rng)

    batches = Table(len(pictures), t.batch_size, take, draw, "a spoken word")

    return flow_trainer(model, t, batches, seed=seed, folder=folder, resume=resume, **options)


@dataclasses.dataclass(frozen=True)
class SpeechJudgeTraining(RunSettings):
    steps: Count = 1500
    batch_size: Count = 128
    lr: Positive = 2e-3
    average: Decay = 0.999
    takes: Count = 8
    letters: bool = True


def make_judge_trainer(model: SpeechJudge, data: SpokenWords, training: SpeechJudgeTraining, *, seed: int = 0, folder=None, resume: bool = False,
                       **options) -> Trainer:
    """The training run of the recogniser, whose voices are drawn with another seed; options go to `Trainer`."""
    t, spoken, test = training, data.spoken(training, seed + 1000, "train"), data.spoken(training, seed + 1000, "test")
    pictures, (words, speakers) = sound.spectrogram(spoken.waveforms), numbers(spoken, model.config.words)

    def batches(step: int, rng: np.random.Generator):
        rng = generator((seed, step, 0x59EF))
        rows = rng.integers(len(pictures), size=t.batch_size)
        shifted = np.stack([np.roll(pictures[row], shift, axis=1) for row, shift in zip(rows, rng.integers(-8, 9, t.batch_size))])
        return shifted, words[rows], speakers[rows]

    options.setdefault("evaluate", lambda m: recognised(m, test))
    buffers = [Tensor(a) for a in model.named_buffers().values()]
    return Trainer(model, model.loss, batches, Adam(model.parameters(), t.lr), steps=t.steps,
                   schedule=cosine(t.steps, warmup=min(200, t.steps // 10)), seed=seed,
                   average=Average([*model.parameters(), *buffers], t.average), folder=folder, resume=resume, precision=training.precision, **options)


RECIPE = Recipe(Speech, SpeechTraining, PRESETS, load_data, make_trainer, VOICES)
