"""Pictures and sentences in one space: what belongs together lies close (Radford et al. 2021, CLIP, figure 3).

    picture --convolutions--> a vector of length 1            sentence --text encoder--> a vector of length 1
    a batch of n pairs: s[i, j] = exp(scale) picture_i . sentence_j
    loss = the mean of cross_entropy(s, 0 ... n - 1), each picture choosing its sentence, and of the same for s^T

Nothing but the pairs is needed, no labels.  Then the nearest sentence names a picture (`classify`, zero-shot), the nearest picture answers a
sentence (`search`), and how near they are says how well a drawing fits its words, by a judge that never drew.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import Tensor, no_grad
from ..data import mnist, scenes
from ..data.emoji import Emoji
from ..model import Config, Count, Model, check_count, check_images
from ..nn import Linear, evaluating
from ..training import minibatches
from . import prompts
from .pictures import SQUARE, PictureEncoder
from .text import Positions, TextEncoder, pooled

if TYPE_CHECKING:
    from ..model.fields import ContrastiveFields

FIRST_SCALE, MOST_SCALE = math.log(1 / 0.07), math.log(100)  # Radford et al. 2021, section 2.5


@dataclasses.dataclass(frozen=True)
class ContrastiveConfig(Config):
    image: tuple[Count, ...] = (32, 32, 3)  # 4 divides height and width
    channels: Count = 32  # of the convolutions at full size
    width: Count = 128  # of the space
    vocabulary: tuple[str, ...] = ()
    length: Count = 48  # words of the longest sentence, and one more
    text_width: Count = 96
    text_blocks: Count = 2
    text_heads: Count = 4
    positions: Positions = "learned"  # of the text encoder's words; or "rotary": how far words are apart

    def check(self) -> None:
        """ValueError where settings don't go together."""
        if not self.vocabulary:
            raise ValueError("ContrastiveConfig: vocabulary is empty; it has the words that sentences may have")
        if len(self.image) != 3 or self.image[0] % SQUARE or self.image[1] % SQUARE:
            raise ValueError(f"ContrastiveConfig: image is {self.image}; it is (height, width, colours), and {SQUARE} divides height and width")


class Contrastive(Model):
    """`zoo.load("contrastive").classify(images, ["a seven", "a three"])` -> probabilities, (n, 2)."""

    kind = "contrastive"
    Config = ContrastiveConfig
    config: ContrastiveConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[ContrastiveFields]) -> Self: ...  # type: ignore[override]

    pictures: PictureEncoder
    of_picture: Linear
    text: TextEncoder
    of_text: Linear
    scale: Tensor  # () ln of what similarities are multiplied by

    def __init__(self, config: ContrastiveConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        config.check()
        c = config
        self.pictures = PictureEncoder(c.image[2], c.channels, rng=rng)
        self.of_picture = Linear(2 * c.channels * (c.image[0] // SQUARE) * (c.image[1] // SQUARE), c.width, rng=rng)
        self.text = TextEncoder(len(c.vocabulary), c.length, c.text_width, c.text_blocks, c.text_heads, c.positions, rng=rng)
        self.of_text = Linear(c.text_width, c.width, rng=rng)
        self.scale = Tensor(np.array(FIRST_SCALE, np.float32), requires_grad=True)

    @classmethod
    def for_data(cls, data: str | Emoji, *, seed: int = 0, **fields: Any) -> Contrastive:
        """A fresh model with the vocabulary of this data: emoji, or the name of scenes, which are drawn on the spot."""
        vocabulary = data.vocabulary if isinstance(data, Emoji) else scenes.VOCABULARY
        return cls.new(seed=seed, **{"vocabulary": vocabulary, "image": (scenes.SIDE, scenes.SIDE, 3), **fields})

    def picture_vectors(self, x):
        """x (n, height, width, colours) -> (n, width), each of length 1."""
        return unit(self.of_picture(self.pictures(x).reshape((len(x), -1))))

    def text_vectors(self, ids: np.ndarray):
        """ids (n, length) -> (n, width), each of length 1."""
        return unit(self.of_text(pooled(*self.text(ids))))

    def __call__(self, x, ids: np.ndarray):
        """exp(scale) times the cosine of every picture and every sentence: (pictures, sentences)."""
        return ops.matmul(self.picture_vectors(x), ops.swapaxes(self.text_vectors(ids))) * ops.exp(ops.minimum(self.scale, MOST_SCALE))

    def loss(self, batch, rng: Generator) -> dict[str, Tensor]:
        """Nats: how surely each picture finds its sentence among those of the batch, and each sentence its picture.  batch: (images, captions)."""
        images, captions = batch
        ids = captions if isinstance(captions, np.ndarray) else self.ids(captions)
        if len(ids) != len(images):
            raise ValueError(f"captions: there are {len(ids)} for {len(images)} images")
        longest = int((ids != prompts.PADDING).sum(1).max())
        s = self(check_images(images, self.config.image), ids[:, :longest])
        own = np.arange(len(ids))
        of_pictures, of_texts = ops.cross_entropy(s, own), ops.cross_entropy(ops.swapaxes(s), own)
        return {"loss": 0.5 * (of_pictures + of_texts), "pictures": of_pictures, "sentences": of_texts}

    def ids(self, captions: Sequence[str]) -> np.ndarray:
        """(n, length) int64.  ValueError for words that aren't in the vocabulary, or too many."""
        return np.stack([prompts.ids_of(self.config.vocabulary, self.config.length, text, "text") for text in captions])

    # --- what it serves for

    def example(self) -> None:
        """Run the model once, on a blank picture and a word."""
        self.similarity(np.zeros((1, *self.config.image), np.float32), [self.config.vocabulary[-1]])

    def embed(self, images, batch: int = 250) -> np.ndarray:
        """Images (n, height, width, colours) in [0, 1] -> (n, width) float32, each of length 1."""
        x = check_images(images, self.config.image)
        with no_grad(), evaluating(self):
            return np.concatenate([np.asarray(self.picture_vectors(x[part])) for part in minibatches(len(x), batch)])

    def embed_text(self, texts: Sequence[str], batch: int = 250) -> np.ndarray:
        """Sentences -> (n, width) float32, each of length 1."""
        ids = self.ids([texts] if isinstance(texts, str) else texts)
        with no_grad(), evaluating(self):
            return np.concatenate([np.asarray(self.text_vectors(ids[part])) for part in minibatches(len(ids), batch)])

    def similarity(self, images, texts: Sequence[str]) -> np.ndarray:
        """Cosines, (pictures, sentences), from -1 to 1."""
        return self.embed(images) @ self.embed_text(texts).T

    def classify(self, images, texts: Sequence[str]) -> np.ndarray:
        """How likely each of these sentences is that of each picture, (pictures, sentences); a row adds up to 1."""
        s = self.similarity(images, texts) * np.exp(min(float(self.scale.data), MOST_SCALE))
        p = np.exp(s - s.max(1, keepdims=True))
        return p / p.sum(1, keepdims=True)

    def search(self, text: str, images, n: int = 10) -> np.ndarray:
        """Which n pictures are nearest to a sentence, nearest first: indices (n,)."""
        return np.argsort(-self.similarity(images, [text])[:, 0], kind="stable")[:n]

    def evaluate(self, data: str | Emoji = "captioned-digits", *, seed: int = 0, n: int = 1000) -> dict[str, float]:
        """Recall at 1 among n scenes with full captions, both ways, and the share of n of MNIST's test digits that "a seven" and its like name
        rightly; of emoji, how often each of the first n finds its label among all."""
        if isinstance(data, Emoji):
            return recall_of_emoji(self, data.pictures[: check_count(n)], data)
        drawn = scenes.captioned_digits(n, (seed, 0x7E57), pairs="all", digits="test", wording="full")
        s = self.similarity(drawn.pictures, drawn.captions)
        digits = mnist()
        assert digits.test_labels is not None
        chosen = self.classify(scenes.as_scenes(digits.test[:n]), [f"{'an' if d == 'eight' else 'a'} {d}" for d in scenes.DIGITS]).argmax(1)
        return {"picture to sentence": recall_at_1(s, drawn.captions), "sentence to picture": recall_at_1(s.T, drawn.captions),
                "zero-shot MNIST": float((chosen == digits.test_labels[:n]).mean())}


def unit(x):
    """x (n, width) / |x|."""
    return x / ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True) + 1e-12)


def recall_at_1(similarity: np.ndarray, captions: Sequence[str]) -> float:
    """Share of rows whose nearest column has the row's caption: similarity (n, n), pictures by sentences or sentences by pictures."""
    return float(np.mean([captions[j] == captions[i] for i, j in enumerate(similarity.argmax(1))]))


def recall_of_emoji(model: Contrastive, pictures, data: Emoji, first: int = 10) -> dict[str, float]:
    """How often the label of the i-th emoji is the nearest of all to the i-th picture, or among the `first` nearest."""
    s = model.similarity(pictures, data.captions)
    rank = (s > np.diag(s)[:, None]).sum(1)  # the rows are the first of the columns
    return {"right one": float((rank == 0).mean()), f"among the first {first}": float((rank < first).mean())}
