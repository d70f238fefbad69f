"""The training sentence that is nearest to another one: what a model would give that only looks things up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .prompts import words_of


def nearest_captions(wanted: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """For each sentence the one of `known` that shares the largest part of its words with it, by index; of several the first: (len(wanted),).

    The part is that of Jaccard, words in both over words in either, where the second "red" of a sentence is another word than the first.
    """
    if not len(known):
        raise ValueError("nearest_captions: known is empty; it has the sentences to choose from")
    vocabulary: dict[tuple[str, int], int] = {}
    rows = [[vocabulary.setdefault(word, len(vocabulary)) for word in _numbered(text)] for text in known]
    table = np.zeros((len(vocabulary), len(known)), np.float32)
    for column, words in enumerate(rows):
        table[words, column] = 1
    counts = table.sum(0)
    nearest = np.empty(len(wanted), np.int64)
    for i, text in enumerate(wanted):
        asked = _numbered(text)
        shared = table[[vocabulary[word] for word in asked if word in vocabulary]].sum(0)
        nearest[i] = (shared / (len(asked) + counts - shared)).argmax()
    return nearest


def _numbered(text: str) -> list[tuple[str, int]]:
    words = words_of(text)
    return [(word, words[:i].count(word)) for i, word in enumerate(words)]
