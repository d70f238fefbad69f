"""Words for a picture: a transformer that reads the picture's squares, then writes, word by word, what is in it.

    picture --convolutions--> 64 vectors, one for each square of 4 x 4 pixels
    squares, "begin", word 1, word 2, ... --transformer--> after each word, how likely each next one is

Squares and words stand in one sequence, as in GIT (Wang et al. 2022, figure 2): a square looks at all squares, a word at all squares and at
the words before it.  The picture is a prefix, and the rest is a language model.  `word_maps` shows where the model looked for each word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import Tensor, no_grad
from ..autograd.random import generator
from ..autograd.tracing import trace
from ..data import scenes
from ..language.sampling import drawn, softmax
from ..model import Config, Count, Model, Step, check_images, replayable, stream
from ..nn import Embedding, LayerNorm, Linear, evaluating
from ..training import by_parts
from . import prompts
from .pictures import SQUARE, PictureEncoder
from .prompts import BEGIN, FIRST, PADDING
from .text import Block

if TYPE_CHECKING:
    from ..model.fields import CaptionsFields


@dataclasses.dataclass(frozen=True)
class CaptionsConfig(Config):
    image: tuple[Count, ...] = (32, 32, 3)  # 4 divides height and width
    channels: Count = 32  # of the convolutions at full size
    width: Count = 128  # of the vectors that stand for squares and words
    blocks: Count = 3
    heads: Count = 4
    vocabulary: tuple[str, ...] = ()
    length: Count = 48  # words of the longest caption, and one more

    def check(self) -> None:
        """ValueError where settings don't go together."""
        if not self.vocabulary:
            raise ValueError("CaptionsConfig: vocabulary is empty; it has the words that captions may have")
        if len(self.image) != 3 or self.image[0] % SQUARE or self.image[1] % SQUARE:
            raise ValueError(f"CaptionsConfig: image is {self.image}; it is (height, width, colours), and {SQUARE} divides height and width")


@dataclasses.dataclass
class WordStep(Step):
    """One word of every caption."""

    position: int  # of the word in the caption, from 0
    given: np.ndarray  # (n, position + 1) ids so far: BEGIN, and the words before
    logits: np.ndarray  # (n, words and two)
    probabilities: np.ndarray  # (n, words and two) softmax(logits)
    draw: np.ndarray | None  # (n,) uniform in [0, 1); None where the likeliest word is taken
    word: np.ndarray  # (n,) ids; PADDING ends a caption, and stays


class Captions(Model):
    """`zoo.load("captions").caption(images)` -> ["a large red seven above a small blue three", ...]."""

    kind = "captions"
    Config = CaptionsConfig
    config: CaptionsConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[CaptionsFields]) -> Self: ...  # type: ignore[override]

    pictures: PictureEncoder
    square: Linear  # a square's features -> its vector
    place: Embedding  # of each square
    word: Embedding
    position: Embedding  # of each word
    blocks: list[Block]
    norm: LayerNorm
    output: Linear

    def __init__(self, config: CaptionsConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        config.check()
        c = config
        self.grid = c.image[0] // SQUARE, c.image[1] // SQUARE
        symbols = FIRST + len(c.vocabulary)
        self.pictures = PictureEncoder(c.image[2], c.channels, rng=rng)
        self.square = Linear(2 * c.channels, c.width, rng=rng)
        self.place = Embedding(self.grid[0] * self.grid[1], c.width, rng=rng, deviation=0.1)
        self.word = Embedding(symbols, c.width, rng=rng, deviation=0.5)
        self.position = Embedding(c.length, c.width, rng=rng, deviation=0.1)
        self.blocks = [Block(c.width, c.heads, rng=rng) for _ in range(c.blocks)]
        self.norm = LayerNorm(c.width)
        self.output = Linear(c.width, symbols, rng=rng)

    @classmethod
    def for_data(cls, data: str, *, seed: int = 0, **fields: Any) -> Captions:
        """A fresh model with the vocabulary of this data."""
        return cls.new(seed=seed, **{"vocabulary": scenes.VOCABULARY, "image": (scenes.SIDE, scenes.SIDE, 3), **fields})

    def prefix(self, images):
        """Images (n, height, width, colours) -> the vectors of their squares, (n, squares, width)."""
        features = self.pictures(images)
        return self.square(features.reshape((len(images), -1, features.shape[-1]))) + self.place.weight

    def __call__(self, prefix, words: np.ndarray):
        """Logits after each word: prefix (n, squares, width), words (n, length) ids from BEGIN on -> (n, length, symbols)."""
        squares, length = prefix.shape[1], words.shape[1]
        x = ops.concatenate([prefix, self.word(words) + self.position.weight[:length]], axis=1)
        mask = looks_at(squares, length)
        for block in self.blocks:
            x = block(x, mask)
        return self.output(self.norm(x[:, squares:]))

    def loss(self, batch, rng: Generator) -> dict[str, Tensor]:
        """Nats per word, the end being one: batch is (images, captions or ids (n, length))."""
        images, captions = batch
        ids = captions if isinstance(captions, np.ndarray) else self.ids(captions)
        if len(ids) != len(images):
            raise ValueError(f"captions: there are {len(ids)} for {len(images)} images")
        longest = int((ids != PADDING).sum(1).max())
        logits = self(self.prefix(check_images(images, self.config.image)), ids[:, :longest])
        return {"loss": ops.cross_entropy(logits, targets(ids, longest), ignore_index=-1)}

    def terms_of(self, batch: Any) -> int:
        """How many words the loss of a batch is the mean over."""
        _, captions = batch
        return int(((captions if isinstance(captions, np.ndarray) else self.ids(captions)) != PADDING).sum())

    def ids(self, captions: Sequence[str]) -> np.ndarray:
        """(n, length) int64.  ValueError for words that aren't in the vocabulary, or too many."""
        return np.stack([prompts.ids_of(self.config.vocabulary, self.config.length, text, "caption") for text in captions])

    # --- generation

    @stream(WordStep)
    def steps(self, images, *, seed: int = 0, temperature: float = 0.0) -> Iterator[WordStep]:
        """One record a word, until all captions have ended.

        images: (n, height, width, colours) in [0, 1].  temperature: logits are divided by it; 0 takes the likeliest word.
        Raises ValueError for images of another shape, or a temperature that isn't finite and at least 0.
        """
        x = check_images(images, self.config.image)
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature is {temperature!r}; it is at least 0, and 0 takes the likeliest word")
        rng = generator(seed)
        with evaluating(self):
            prefix = np.asarray(self.prefix(x))
            given = np.full((len(x), 1), BEGIN)
            for position in range(self.config.length - 1):
                step = self._word(position, prefix, given, rng.random(len(x)) if temperature else None, temperature)
                yield step
                if (step.word == PADDING).all():
                    return
                given = np.concatenate([given, step.word[:, None]], axis=1)

    @replayable
    def _word(self, position: int, prefix: np.ndarray, given: np.ndarray, draw: np.ndarray | None, temperature: float) -> WordStep:
        with evaluating(self):
            logits = np.array(np.asarray(self(prefix, given))[:, -1])
        logits[:, BEGIN] = -np.inf
        p = np.stack([softmax(row) for row in logits])
        if draw is None:
            word = logits.argmax(-1)
        else:
            word = np.array([drawn(softmax(row, temperature), u) for row, u in zip(logits, draw)])
        word[(given == PADDING).any(1)] = PADDING
        return WordStep(position, given, logits, p, draw, word)

    def example(self) -> None:
        """Run the model once, on a blank picture."""
        self.caption(np.zeros((1, *self.config.image), np.float32))

    def caption(self, images, *, seed: int = 0, temperature: float = 0.0, batch: int = 100) -> list[str]:
        """What is in each picture (n, height, width, colours) in [0, 1]; settings are those of `steps`."""
        x = check_images(images, self.config.image)

        def written(part: slice) -> list[str]:
            for step in self.steps(x[part], seed=seed + part.start // batch, temperature=temperature):
                last = step
            return [self.text(row) for row in np.concatenate([last.given, last.word[:, None]], axis=1)]

        return [caption for captions in by_parts(written, len(x), batch) for caption in captions]

    def evaluate(self, data: str = "captioned-digits", *, seed: int = 0, n: int = 1000) -> dict[str, float]:
        """Share of captions that are right word by word, of scenes of one to four digits from handwriting that training never saw."""
        figures = {}
        for name, pairs in (("exact", "seen"), ("exact, held out", "held out")):
            drawn_scenes = scenes.captioned_digits(n, (seed, 0x7E57), pairs=pairs, digits="test", wording="full")  # type: ignore[arg-type]
            right = np.array([a == b for a, b in zip(self.caption(drawn_scenes.pictures), drawn_scenes.captions)])
            figures[name] = float(right.mean())
            two = np.array([len(things) == 2 for things in drawn_scenes.attributes])
            if two.any():
                figures[f"{name}, two digits"] = float(right[two].mean())
        return figures

    def text(self, ids: np.ndarray) -> str:
        """The sentence that ids (length,) stand for."""
        return prompts.text_of(self.config.vocabulary, ids)

    def log_probability(self, images, captions: Sequence[str]) -> np.ndarray:
        """ln p(caption | image), (n,) in nats."""
        x, ids = check_images(images, self.config.image), self.ids(captions)
        longest = int((ids != PADDING).sum(1).max())
        with no_grad(), evaluating(self):
            logits = self(self.prefix(x), ids[:, :longest])
            return -np.asarray(ops.cross_entropy(logits, targets(ids, longest), ignore_index=-1, reduction="none")).sum(1)

    def word_maps(self, images, captions: Sequence[str]) -> np.ndarray:
        """Where the model looks before it writes each word: (n, words, height, width), the mean over layers and heads.

        Shares of attention: what is missing to 1 went to the words before.
        """
        x, ids = check_images(images, self.config.image), self.ids(captions)
        longest = int((ids != PADDING).sum(1).max())
        squares = self.grid[0] * self.grid[1]
        with no_grad(), evaluating(self), trace(self) as seen:
            self(self.prefix(x), ids[:, :longest])
        shares = [record.value[:, :, squares:, :squares].mean(1) for record in seen.records
                  if record.short.endswith(".softmax") and record.short.startswith("blocks")]
        grid = np.mean(shares, axis=0)[:, :-1].reshape(len(x), longest - 1, *self.grid)
        return grid.repeat(SQUARE, axis=2).repeat(SQUARE, axis=3)


def looks_at(squares: int, length: int) -> np.ndarray:
    """(1, 1, tokens, tokens) bool: a square looks at all squares, a word at these, at itself and the words before."""
    mask = np.tri(squares + length, dtype=bool)
    mask[:squares, :squares] = True
    return mask[None, None]


def targets(ids: np.ndarray, length: int) -> np.ndarray:
    """(n, length): for each word the next, for the last PADDING, and behind it -1, which counts for nothing."""
    following = np.concatenate([ids[:, 1:], np.full((len(ids), 1), PADDING)], axis=1)[:, :length]
    return np.where(ids[:, :length] == PADDING, -1, following)
