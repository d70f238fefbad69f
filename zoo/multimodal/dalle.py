"""Pictures from words by the other road: a transformer writes the codes of a VQ-VAE after the words, as it would write text (Ramesh et al. 2021).

    p(codes | words) = product of p(code_i | words, codes before it)         a picture of 32 x 32 is 64 codes, row by row
    [BEGIN a red seven ...] [begin-picture code_1 ... code_63] --transformer--> code_1 ... code_64 --VQ-VAE--> picture

The VQ-VAE (`vqvae.py`) learns first and stays as it is: pictures become codes, whose cross entropy is all that is left to learn.  A text encoder
says what each word means where it stands (`text.py`); from there on words look at all words, a code at the words and at the codes before it.
A tenth of the sentences is left out in training, so that logits can be guided: silent + guidance (told - silent), as in the flow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self, Unpack

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import Tensor
from ..autograd.random import generator
from ..data import scenes
from ..diffusion import load_autoencoder
from ..model import Config, Count, Model, Range, Share, check_count, check_images, last, replayable, stream
from ..nn import Embedding, LayerNorm, Linear
from ..parts.denoising.latents import digest_of
from ..parts.denoising.samplers import check_number
from ..training import minibatches
from ..vae import VAEStep
from ..vqvae import VQVAE, CodeStep, draw_codes
from . import prompts
from .evaluation import of_pictures
from .prompts import BEGIN, PADDING
from .text import Block, TextEncoder

if TYPE_CHECKING:
    from ..model.fields import DalleFields


@dataclasses.dataclass(frozen=True)
class DalleConfig(Config):
    autoencoder: str = ""  # the folder of a VQ-VAE
    vocabulary: tuple[str, ...] = ()  # the words that prompts may have
    length: Count = 40  # words of the longest prompt, and one more
    text_blocks: Count = 2  # of the text encoder
    width: Count = 192
    blocks: Count = 6
    heads: Count = 6
    unlabelled: Share = 0.1  # share of sentences left out in training, for guidance
    guidance: Annotated[float, Range(-100, 100)] = 1.5
    temperature: Annotated[float, Range(1e-3, 100)] = 1.0  # by which logits are divided; below 1 likely codes become likelier

    def check(self) -> None:
        """ValueError where settings don't go together."""
        if not self.vocabulary:
            raise ValueError("DalleConfig: vocabulary is empty; it has the words that prompts may have")
        if not self.autoencoder:
            raise ValueError("DalleConfig: autoencoder is ''; it is the folder of a VQ-VAE, which has the codes of pictures")


class Dalle(Model):
    """`Dalle.new(autoencoder="runs/vqvae-scenes", vocabulary=...)`; `sample(prompt=["a red seven"])` -> (n, height, width, 3)."""

    kind = "dalle"
    Config = DalleConfig
    config: DalleConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[DalleFields]) -> Self: ...  # type: ignore[override]

    text: TextEncoder
    code: Embedding  # of each code, and of the beginning of a picture
    code_position: Embedding
    blocks: list[Block]
    norm: LayerNorm
    output: Linear

    @classmethod
    def for_data(cls, data: str, *, seed: int = 0, **fields: Any) -> Dalle:
        """A fresh model with the vocabulary of this data."""
        return cls.new(seed=seed, **{"vocabulary": scenes.VOCABULARY, **fields})

    def __init__(self, config: DalleConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        config.check()
        c = config
        autoencoder = load_autoencoder(c.autoencoder)
        if not isinstance(autoencoder, VQVAE):
            raise ValueError(f"autoencoder: {c.autoencoder!r} is of kind {autoencoder.kind!r}; it must be a VQ-VAE, which has codes")
        self._vqvae = autoencoder  # not a part of what is saved
        self.codes, self.places = autoencoder.config.codes, math.prod(autoencoder.grid)
        self.text = TextEncoder(len(c.vocabulary), c.length, c.width, c.text_blocks, c.heads, "rotary", rng=rng)
        self.code = Embedding(self.codes + 1, c.width, rng=rng, deviation=0.5)  # the last says "begin"
        self.code_position = Embedding(self.places, c.width, rng=rng, deviation=0.1)
        self.blocks = [Block(c.width, c.heads, rng=rng) for _ in range(c.blocks)]
        self.norm = LayerNorm(c.width)
        self.output = Linear(c.width, self.codes, rng=rng)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of a picture."""
        return self._vqvae.config.image

    def __call__(self, words: np.ndarray, given: np.ndarray):
        """Logits of each next code: words (n, length) ids, given (n, m) codes, each picture's "begin" first -> (n, m, codes)."""
        length, m = words.shape[1], given.shape[1]
        x = ops.concatenate([self.text(words)[0], self.code(given) + self.code_position.weight[:m]], axis=1)
        mask = looks_at(words != PADDING, m)
        for block in self.blocks:
            x = block(x, mask)
        return self.output(self.norm(x[:, length:]))

    # --- training

    def loss(self, batch, rng: Generator) -> dict[str, Tensor]:
        """Nats per code: batch is (pictures, captions or ids (n, length))."""
        images, captions = batch
        ids = np.array(captions if isinstance(captions, np.ndarray) else self.ids(captions))
        if len(ids) != len(images):
            raise ValueError(f"captions: there are {len(ids)} for {len(images)} pictures")
        silent = rng.random(len(ids)) < self.config.unlabelled
        ids[silent, 1:] = PADDING
        longest = int((ids != PADDING).sum(1).max())
        codes = self._vqvae.encode(check_images(images, self.sample_shape)).reshape(len(ids), -1)
        return {"loss": ops.cross_entropy(self(ids[:, :longest], self._given(codes)), codes)}

    def _given(self, codes: np.ndarray) -> np.ndarray:
        """Codes (n, m) -> what is read before each: "begin", then those before it."""
        return np.concatenate([np.full((len(codes), 1), self.codes), codes[:, :-1]], axis=1)

    def ids(self, captions: Sequence[str], name: str = "caption") -> np.ndarray:
        """(n, length) int64.  ValueError for words that aren't in the vocabulary, or too many."""
        return np.stack([prompts.ids_of(self.config.vocabulary, self.config.length, text, name) for text in captions])

    # --- generation

    @stream(CodeStep, VAEStep)
    def steps(self, n: int | None = None, *, prompt: str | Sequence[str] | None = None, seed: int | tuple[int, ...] = 0,
              guidance: float | None = None, temperature: float | None = None) -> Iterator[CodeStep | VAEStep]:
        """One record a code, then one a layer of the VQ-VAE to the pixels.

        prompt: a sentence for all pictures, or one for each; None draws without being told.  n: by default one for each prompt.
        guidance: logits are silent + guidance (told - silent); by default the configuration's.
        temperature: they are divided by it, above 0; by default the configuration's.
        """
        words = self._prompts(n, prompt)
        guidance = check_number("guidance", self.config.guidance if guidance is None else guidance, -100, 100)
        temperature = check_number("temperature", self.config.temperature if temperature is None else temperature, 1e-3, 100)
        if guidance != 1 and prompt is not None:
            if self.config.unlabelled == 0:
                raise ValueError(f"guidance: is {guidance:g}, but this model was trained with sentences only (unlabelled is 0), so it is 1")
            silent = np.full_like(words, PADDING)
            silent[:, 0] = BEGIN
            words = np.concatenate([words, silent])
        else:
            guidance = 1.0
        rng, cache = generator(seed), self._cache(words)
        n = len(words) // (1 if guidance == 1 else 2)
        symbol, codes = np.full(n, self.codes), np.full((n, *self._vqvae.grid), -1)
        for position in range(self.places):
            step = self._code_step(position, symbol, codes, cache, rng.random(n), guidance, temperature)
            symbol, codes = step.code, step.value
            yield step
        yield from self._vqvae.steps(codes=codes)

    def _prompts(self, n: int | None, prompt: str | Sequence[str] | None) -> np.ndarray:
        """(n, longest) ids."""
        if prompt is not None and not isinstance(prompt, str) and (not isinstance(prompt, Sequence) or not len(prompt)):
            raise ValueError(f"prompt: is {prompt!r}; it is a text, or a list of at least one")
        single = prompt is None or isinstance(prompt, str)
        n = check_count(n) if n is not None else 1 if single else len(prompt or ())
        if prompt is None:
            return np.full((n, 1), BEGIN)
        texts = [prompt] * n if isinstance(prompt, str) else list(prompt)
        if len(texts) != n:
            raise ValueError(f"prompt: has {len(texts)} texts for {n} pictures")
        ids = self.ids(texts, "prompt")
        return ids[:, : int((ids != PADDING).sum(1).max())]

    def _cache(self, words: np.ndarray) -> WordsCache:
        """Keys and values of the words in every block, and room for those of the codes."""
        (x, seen), length = self.text(words), words.shape[1]
        keys: list[np.ndarray] = []
        values: list[np.ndarray] = []
        for block in self.blocks:
            q, k, v = ops.unpack(block.attention.query_key_value(block.norm1(x)), block.attention.heads, block.attention.heads)
            for rows, part in ((keys, k), (values, v)):
                room = np.zeros((*part.shape[:2], length + self.places, part.shape[3]), np.float32)
                room[:, :, :length] = np.asarray(part)
                rows.append(room)
            y = ops.scaled_dot_product_attention(q, k, v, seen[:, None, None, :])
            x = x + block.attention.output(ops.merge_heads(y))
            x = x + block.mlp(block.norm2(x))
        return WordsCache(seen, keys, values)

    @replayable
    def _code_step(self, position: int, symbol: np.ndarray, codes: np.ndarray, cache: WordsCache, draw: np.ndarray, guidance: float,
                   temperature: float) -> CodeStep:
        """`cache` holds keys and values of what comes before; those of this symbol are written to their place, the same at every replay."""
        n, length = len(symbol), cache.seen.shape[1]
        end = length + position + 1
        mask = np.concatenate([cache.seen, np.ones((len(cache.seen), position + 1), bool)], axis=1)[:, None, None, :]
        x = np.asarray(self.code(np.resize(symbol, len(mask))[:, None])) + np.asarray(self.code_position.weight)[position]
        for block, keys, values in zip(self.blocks, cache.keys, cache.values):
            q, k, v = ops.unpack(block.attention.query_key_value(block.norm1(x)), block.attention.heads, block.attention.heads)
            keys[:, :, end - 1], values[:, :, end - 1] = np.asarray(k)[:, :, 0], np.asarray(v)[:, :, 0]
            y = ops.scaled_dot_product_attention(q, np.ascontiguousarray(keys[:, :, :end]), np.ascontiguousarray(values[:, :, :end]), mask)
            x = x + block.attention.output(ops.merge_heads(y))
            x = x + block.mlp(block.norm2(x))
        logits = np.asarray(self.output(self.norm(x)))[:, 0]
        if guidance != 1:
            logits = logits[n:] + np.float32(guidance) * (logits[:n] - logits[n:])
        p, code = draw_codes(logits, draw, temperature)
        row, column = divmod(position, codes.shape[2])
        value = codes.copy()
        value[:, row, column] = code
        return CodeStep(f"code {row}, {column}", symbol, logits, p, draw, code, value)

    def sample(self, n: int | None = None, seed: int = 0, *, prompt: str | Sequence[str] | None = None, batch: int = 100, **settings) -> np.ndarray:
        """(n, height, width, 3) float32 in [0, 1]; settings are those of `steps`.  `batch` at once are in memory."""
        n = len(self._prompts(n, prompt))
        texts = None if prompt is None else [prompt] * n if isinstance(prompt, str) else list(prompt)
        parts = [last(self.steps(part.stop - part.start, prompt=None if texts is None else texts[part],
                                 seed=(seed, part.start) if part.start else seed, **settings)).value for part in minibatches(n, batch)]
        return np.concatenate([np.asarray(part) for part in parts])

    # --- what a card says of the VQ-VAE

    evaluate = of_pictures

    def autoencoded(self, images: np.ndarray) -> np.ndarray:
        """What the VQ-VAE alone makes of pictures, (n, height, width, 3) in [0, 1]."""
        return self._vqvae.reconstruct(images)

    def extras(self) -> dict[str, Any]:
        return {"autoencoder": {"name": self.config.autoencoder, "digest": digest_of(self._vqvae)}}

    def restore_extras(self, card: dict[str, Any]) -> None:
        if card.get("autoencoder", {}).get("digest") != digest_of(self._vqvae):
            raise ValueError(f"autoencoder: the VQ-VAE {self.config.autoencoder!r} that is here isn't the one whose codes this model learned")


@dataclasses.dataclass
class WordsCache:
    """What codes look back at: seen (n, length) says which words aren't padding; keys and values, of each block, are (n, heads, places, d)."""

    seen: np.ndarray
    keys: list[np.ndarray]
    values: list[np.ndarray]


def looks_at(seen: np.ndarray, codes: int) -> np.ndarray:
    """(n, 1, tokens, tokens) bool: words look at the words that are seen, (n, length), a code at these, at itself and the codes before."""
    n, length = seen.shape
    mask = np.zeros((n, 1, length + codes, length + codes), bool)
    mask[:, 0, :, :length] = seen[:, None, :]
    mask[:, 0, length:, length:] = np.tri(codes, dtype=bool)
    return mask
