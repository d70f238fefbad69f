"""Sentences as numbers: words of a fixed vocabulary, and prompts whose words can be weighed or exchanged while a picture is drawn.

A batch of prompts is one array of records, (n, stages, length), so that it can be cut, joined, compared and replayed like any other
argument.  Each stage is a sentence with the t down to which it holds, from 1, the noise, to 0, the picture:

    prompts = encode(vocabulary, 16, ["a red seven"], then=[(0.5, ["a green seven"])])       # green from half-way on
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence

import numpy as np

PADDING, BEGIN, FIRST = 0, 1, 2  # ids: nothing; the beginning of every sentence, alone the empty one; the first word of the vocabulary
RECORD = np.dtype([("word", np.int64), ("weight", np.float32), ("until", np.float32)])


def words_of(text: str) -> list[str]:
    """The words of a sentence in small letters; a comma is a word of its own, a full stop at the end is none."""
    return text.lower().replace(",", " , ").rstrip(" .").split()


def ids_of(vocabulary: Sequence[str], length: int, text: str, name: str = "prompt") -> np.ndarray:
    """(length,) int64: BEGIN, the words, PADDING.

    Raises ValueError for a sentence without words, one of more than length - 1 words, or an unknown word, for which the nearest is named.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name}: is {text!r}; it is a text")
    words = words_of(text)
    if not words:
        raise ValueError(f"{name}: is {text!r}, which has no word in it")
    if len(words) > length - 1:
        raise ValueError(f"{name}: has {len(words)} words; this model reads at most {length - 1}")
    ids = np.full(length, PADDING)
    ids[0] = BEGIN
    for i, word in enumerate(words):
        try:
            ids[i + 1] = FIRST + vocabulary.index(word)
        except ValueError:
            near = difflib.get_close_matches(word, vocabulary, 3, 0.5)
            hint = f"the nearest it knows: {', '.join(near)}" if near else f"it knows {len(vocabulary)}, such as {', '.join(vocabulary[:8])}"
            raise ValueError(f"{name}: this model doesn't know the word {word!r}; {hint}") from None
    return ids


def text_of(vocabulary: Sequence[str], ids: np.ndarray) -> str:
    """What `ids_of` was given, up to the first PADDING."""
    words = [vocabulary[i - FIRST] for i in itertools.takewhile(lambda i: i != PADDING, ids[1:].tolist()) if i >= FIRST]
    return " ".join(words).replace(" ,", ",")


def empty(n: int, length: int, stages: int = 1) -> np.ndarray:
    """n prompts that say nothing, (n, stages, length): what guidance compares with."""
    prompts = np.zeros((n, stages, length), RECORD)
    prompts["word"][:, :, 0] = BEGIN
    prompts["weight"] = 1
    return prompts


def encode(vocabulary: Sequence[str], length: int, texts: Sequence[str], *, then: Sequence[tuple[float, Sequence[str]]] = (),
           weights: dict[str, float] | None = None) -> np.ndarray:
    """Prompts (n, stages, length).

    then: (t, texts) for each later stage, t falling: from that t on these sentences hold.
    weights: {word: factor} of the attention that the word receives (Hertz et al. 2022, section 3.2); 0 takes it away, 1 is none.
    Raises ValueError as `ids_of` does, for a t outside of (0, 1) or out of order, a number of texts that differs, a word of `weights` that no
    text has, and a factor that isn't finite and at least 0.
    """
    prompts = empty(len(texts), length, 1 + len(then))
    before = 1.0
    for stage, (t, sentences) in enumerate([(1.0, texts), *then]):
        if stage and not 0 < t < before:
            raise ValueError(f"then: t is {t}; it lies between 0 and 1, below the one before, {before:g}")
        if len(sentences) != len(texts):
            raise ValueError(f"then: has {len(sentences)} texts at t = {t:g}; there are {len(texts)} pictures")
        if stage:
            prompts["until"][:, stage - 1] = t
            before = t
        prompts["word"][:, stage] = [ids_of(vocabulary, length, text) for text in sentences]
    for word, factor in (weights or {}).items():
        if not isinstance(factor, (int, float)) or isinstance(factor, bool) or not 0 <= factor < float("inf"):
            raise ValueError(f"weights: of {word!r} is {factor!r}; it is a number of at least 0")
        at = prompts["word"] == FIRST + vocabulary.index(word) if word in vocabulary else np.zeros(prompts.shape, bool)
        if not at.any():
            raise ValueError(f"weights: {word!r} is in none of the prompts")
        prompts["weight"][at] = factor
    return prompts


def at_time(prompts: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Words and weights that hold at t: prompts (n, stages, length), t (n,) -> two arrays (n, length)."""
    ends = prompts["until"][:, :, 0]
    stage = (ends >= np.asarray(t, np.float32)[:, None]).sum(1).clip(max=prompts.shape[1] - 1)
    chosen = prompts[np.arange(len(prompts)), stage]
    return chosen["word"], chosen["weight"]


# --- prompts as one line of a command or a page has them


LATER_T = 0.85  # of another prompt, unless said: early enough to exchange a colour, which is settled by t = 0.7, and late enough to keep the rest


def exchange(later: str, later_t: float = LATER_T) -> tuple:
    """What `Words.steps` takes as `then`: nothing for an empty sentence."""
    return (float(later_t), later) if later.strip() else ()


def weights_of(text: str) -> dict[str, float]:
    """Words and factors, "red 2 seven 0.5".  ValueError for a text that isn't pairs of them."""
    items = text.split()
    try:
        return {items[i].lower(): float(items[i + 1]) for i in range(0, len(items), 2)}
    except (ValueError, IndexError):
        raise ValueError(f"weigh is {text!r}; it is words with factors, such as 'red 2 seven 0.5'") from None
