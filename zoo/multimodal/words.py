"""Pictures from words: the flow of `diffusion.py`, whose network looks at a sentence while it draws.

    words --text encoder--> a vector for each word
    x_t, t --network, which looks at these vectors--> the velocity, from noise to a picture of what the sentence says

Training draws a picture with its sentence, noise and t, as for labels; a tenth of the sentences is left out, so that the network also learns
what pictures look like in general.  A sample follows v(nothing) + guidance (v(sentence) - v(nothing)): what the sentence changes,
exaggerated (Ho & Salimans 2022, eq. 6).  The text encoder learns with the rest, from nothing but the pictures' error.

Why the words come as vectors of their own, not as one for the sentence: by cross-attention each place of the picture asks for what it
needs ("red" here, "blue" there), and `word_maps` shows which words it took.  One vector would have to carry all digits, colours and places
at once, and nothing would say which colour belongs to which digit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import numpy as np
from numpy.random import Generator

from ..autograd import no_grad
from ..autograd.tracing import trace
from ..data import scenes
from ..data.emoji import Emoji
from ..diffusion import Diffusion, DiffusionConfig, load_latents
from ..model import Count, check_count, last
from ..parts.denoising import editing
from ..parts.denoising.samplers import DiffusionStep
from . import prompts
from .evaluation import of_pictures
from .networks import MMDiT, TextUNet
from .text import Positions, TextEncoder

if TYPE_CHECKING:
    from ..model.fields import WordsFields


MEASURED = 2000  # pictures over which mean and deviation of latents are taken


@dataclasses.dataclass(frozen=True)
class WordsConfig(DiffusionConfig):
    image: tuple[Count, ...] = (32, 32, 3)
    multipliers: tuple[Count, ...] = (1, 2, 2)
    unshuffle: Count = 1  # the side of the squares whose pixels the U-Net takes as the channels of one (Hoogeboom et al. 2023, section 3.4)
    schedule: Literal["linear", "cosine", "straight"] = "straight"
    vocabulary: tuple[str, ...] = ()  # the words that prompts may have
    length: Count = 40  # words of the longest prompt, and one more
    text_width: Count = 96  # of the vectors that stand for words
    text_blocks: Count = 2  # of the text encoder
    text_heads: Count = 4  # of the text encoder, and of cross-attention
    positions: Positions = "learned"  # of the text encoder's words; "rotary" says how far words are apart, which crowded sentences need

    def check(self) -> None:
        super().check()
        if not self.vocabulary:
            raise ValueError("WordsConfig: vocabulary is empty; it has the words that prompts may have")
        if self.classes:
            raise ValueError(f"WordsConfig: classes is {self.classes}; words take the place of labels, so it is 0")
        if self.network == "dense":
            raise ValueError(f"WordsConfig: network is {self.network!r}; pictures, and latents that are a grid, are drawn by 'unet' or 'transformer'")
        lowest = self.unshuffle * 2 ** len(self.multipliers)
        if self.network == "unet" and (self.image[0] % lowest or self.image[1] % lowest):
            raise ValueError(f"WordsConfig: image is {self.image}; with unshuffle {self.unshuffle} and {len(self.multipliers)} levels its height and "
                             f"width must be multiples of {lowest}")
        if self.network == "transformer" and self.unshuffle > 1:
            raise ValueError(f"WordsConfig: unshuffle is {self.unshuffle}; it is for 'unet', where 'transformer' has patch")


class Words(Diffusion):
    """`zoo.load("words").sample(prompt=["a red seven", "a small blue two"], seed=0)`."""

    kind = "words"
    Config = WordsConfig
    config: WordsConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[WordsFields]) -> Self: ...  # type: ignore[override]

    network: TextUNet | MMDiT  # type: ignore[assignment]
    text: TextEncoder

    @classmethod
    def for_data(cls, data: str | Emoji, *, seed: int = 0, **fields: Any) -> Words:  # type: ignore[override]
        """A fresh model with the vocabulary of this data, of its pictures or of an autoencoder's latents of them.

        data: emoji, or the name of scenes, which are drawn on the spot.
        """
        fields = {"vocabulary": data.vocabulary if isinstance(data, Emoji) else scenes.VOCABULARY, **fields}
        if fields.get("autoencoder"):
            model = cls.new(seed=seed, **{"image": load_latents(fields["autoencoder"]).shape, **fields})
            assert model.latents is not None
            some = data.pictures[:MEASURED] if isinstance(data, Emoji) else scenes.captioned_digits(MEASURED, (seed, 0x1A7)).pictures
            model.latents.measure(some)
            return model
        return cls.new(seed=seed, **{"image": (scenes.SIDE, scenes.SIDE, 3), **fields})

    def __init__(self, config: WordsConfig, *, rng: Generator):
        c = config
        self.text = TextEncoder(len(c.vocabulary), c.length, c.text_width, c.text_blocks, c.text_heads, c.positions, rng=rng)
        super().__init__(config, rng=rng)

    def make_network(self, rng: Generator) -> TextUNet | MMDiT:  # type: ignore[override]
        """(x_t, T t, text, mask, weights) -> the prediction, of x_t's shape."""
        c = self.config
        height, width, colours = c.network_shape
        if c.network == "transformer":
            return MMDiT((height, width, colours), c.patch, c.channels, c.blocks, c.heads, c.text_width, rng=rng)
        return TextUNet(colours, c.channels, c.multipliers, c.blocks, c.heads, c.text_width, c.text_heads, c.unshuffle, rng=rng)

    # --- prompts in the place of labels

    is_conditional = True  # type: ignore[assignment]

    def _run_network(self, x, t: np.ndarray, labels):
        words, weights = prompts.at_time(labels, t)
        text, mask = self.text(words)
        return self.network(x, self.config.T * t, text, mask, weights)

    def _no_labels(self, n: int) -> np.ndarray:
        return prompts.empty(n, self.config.length)

    def _silent(self, labels: Any) -> np.ndarray:
        n, stages, length = labels.shape
        return prompts.empty(n, length, stages)

    def _training_labels(self, labels, n: int, rng: Generator) -> np.ndarray:
        """labels: (n, length) ids, as `ids` makes them, or captions."""
        if labels is None or len(labels) != n:
            raise ValueError(f"captions: there are {0 if labels is None else len(labels)} for {n} pictures")
        ids = labels if isinstance(labels, np.ndarray) else self.ids(labels)
        batch = prompts.empty(n, self.config.length)
        told = rng.random(n) >= self.config.unlabelled
        batch["word"][told, 0] = ids[told]
        return batch

    def ids(self, captions: Sequence[str]) -> np.ndarray:
        """(n, length) int64: what a sentence is to the text encoder.  ValueError for words that aren't in the vocabulary, or too many."""
        return np.stack([prompts.ids_of(self.config.vocabulary, self.config.length, text, "caption") for text in captions])

    def labels_for(self, digit, n: int) -> np.ndarray:
        """Prompts (n, stages, length) as they are; without any, those that say nothing."""
        return prompts.empty(n, self.config.length) if digit is None else digit

    def prompts_for(self, prompt: str | Sequence[str] | None, n: int, then=(), weights: dict[str, float] | None = None) -> np.ndarray | None:
        """(n, stages, length): what `steps` is told, checked.  ValueError, in one line, for whatever can't be read."""
        if prompt is None:
            if then or weights:
                raise ValueError("prompt: is None, so there are no words to exchange or to weigh")
            return None
        several = lambda text: [text] * n if isinstance(text, str) else list(text)
        texts = several(prompt)
        if len(texts) != n:
            raise ValueError(f"prompt: has {len(texts)} texts for {n} pictures")
        later = [(then[0], several(then[1]))] if isinstance(then, tuple) and len(then) == 2 and isinstance(then[0], (int, float)) else [
            (t, several(text)) for t, text in then]
        return prompts.encode(self.config.vocabulary, self.config.length, texts, then=later, weights=weights)

    # --- generation

    def steps(self, n: int | None = None, *, prompt: str | Sequence[str] | None = None, then=(),  # type: ignore[override]
              weights: dict[str, float] | None = None, digit=None, **settings) -> Iterator[DiffusionStep]:
        """From noise to pictures of what is said, one record a step; other settings are those of `Diffusion.steps`.

        prompt: a sentence for all pictures, or one for each; None draws without being told.
        then: (t, prompt), or several: from that t on, 1 being noise and 0 the picture, another prompt holds.
        weights: {word: factor} for the attention that the word receives; 0 takes it away.
        """
        n = self._count(n, prompt)
        if digit is None:
            digit = self.prompts_for(prompt, n, then, weights)
        return super().steps(n, digit=digit, **settings)

    def sample(self, n: int | None = None, seed: int = 0, *, prompt: str | Sequence[str] | None = None, then=(),  # type: ignore[override]
               weights: dict[str, float] | None = None, **settings) -> np.ndarray:
        """(n, height, width, 3) float32 in [0, 1]; settings are those of `steps`.  n: by default one for each prompt."""
        n = self._count(n, prompt)
        return super().sample(n, seed, self.prompts_for(prompt, n, then, weights), **settings)

    # --- pictures that are given, and words for what is to be painted

    def inpaint(self, images, mask, *, prompt: str | Sequence[str] | None = None, seed: int = 0, **settings) -> np.ndarray:  # type: ignore[override]
        """Pictures that are `images` (n, height, width, 3) where the mask is True, and as the prompt says where it is False.

        settings are those of `inpaint_steps`.
        """
        return self.to_pictures(last(self.inpaint_steps(images, mask, prompt=prompt, seed=seed, **settings)).x_previous)

    def inpaint_steps(self, images, mask, *, prompt: str | Sequence[str] | None = None, then=(),  # type: ignore[override]
                      weights: dict[str, float] | None = None, **settings) -> Iterator[DiffusionStep]:
        """The records of `inpaint`: prompt, then and weights as in `steps`, the rest as in `editing.inpaint_steps`."""
        return editing.inpaint_steps(self, images, mask, digit=self.prompts_for(prompt, len(images), then, weights), **settings)

    def edit(self, images, strength: float, *, prompt: str | Sequence[str] | None = None, **settings) -> np.ndarray:  # type: ignore[override]
        """SDEdit towards the prompt: each picture noised up to t = strength, and drawn from there as the words say."""
        return editing.edit(self, images, strength, digit=self.prompts_for(prompt, len(images)), **settings)

    evaluate = of_pictures  # type: ignore[assignment]

    def autoencoded(self, images: np.ndarray) -> np.ndarray | None:
        """What the autoencoder alone makes of pictures, (n, height, width, 3) in [0, 1]; None for a model of pixels."""
        return None if self.latents is None else self.latents.decode(self.latents.encode(images))

    @staticmethod
    def _count(n: int | None, prompt: Any) -> int:
        if n is not None:
            return check_count(n)
        if prompt is None or isinstance(prompt, str):
            return 1
        if not isinstance(prompt, Sequence) or not len(prompt):
            raise ValueError(f"prompt: is {prompt!r}; it is a text, or a list of at least one")
        return len(prompt)

    # --- which word made which pixel

    def word_maps(self, x_t: np.ndarray, t: float, prompt: str | Sequence[str]) -> np.ndarray:
        """How much each place takes of each word at x_t: (n, words and one, height, width), the first for the sentence's beginning.

        The shares of all layers and heads that look at words, averaged; at each place they add up to 1.
        """
        x_t = np.asarray(x_t, np.float32)
        labels = self.prompts_for(prompt, len(x_t))
        assert labels is not None
        with no_grad(), trace(self) as seen:
            self.predict_at(x_t, t, labels)
        longest = max(int((labels["word"] != prompts.PADDING).sum(-1).max()), 1)
        return self.maps_of(seen.records)[:, :longest]

    def maps_of(self, records: Sequence[Any]) -> np.ndarray:
        """The same, (n, length, height, width), from what a trace saw of one or several runs of the network; n is what these drew at once."""
        height, width, _ = self.config.network_shape
        return np.mean([self._as_map(record.value, height, width) for record in records
                        if record.short.endswith(".softmax") and record.short.startswith(("network.look", "network.blocks"))], axis=0)

    def _as_map(self, shares: np.ndarray, height: int, width: int) -> np.ndarray:
        """Shares (n, heads, queries, keys) of one layer -> (n, length, height, width)."""
        length = self.config.length
        if isinstance(self.network, MMDiT):
            shares = shares[:, :, length:, :length]
            shares = shares / np.maximum(shares.sum(-1, keepdims=True), 1e-12)
        rows = round((shares.shape[2] * height / width) ** 0.5)
        grid = shares.mean(1).transpose(0, 2, 1).reshape(len(shares), length, rows, -1)
        return grid.repeat(height // rows, axis=2).repeat(width // grid.shape[3], axis=3)
