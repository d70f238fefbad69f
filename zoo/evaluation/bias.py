"""Whether a model shows a bias of its data as it is, weaker, or stronger."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..data.coloured import as_grey, colours_of
from .classifier import Classifier


@dataclasses.dataclass(frozen=True)
class OwnColours:
    """How many pictures of each digit are in that digit's own colour."""

    share: float  # the mean over the digits that occur
    by_digit: np.ndarray  # (10,) NaN where a digit doesn't occur
    counts: np.ndarray  # (10,) pictures that the judge takes for the digit


def own_colours(pictures: np.ndarray, judge: Classifier | None = None) -> OwnColours:
    """Coloured digits (n, 28, 28, 3) in [0, 1]: whether a digit has its colour, where the digit is what a judge that sees no colours reads.

    The judge errs on one digit in 250, so even of real pictures the share is a little below the truth: compare with `data.test`, not with 0.95.
    """
    digits = (judge or Classifier.shipped()).classify(as_grey(pictures))
    own = colours_of(pictures) == digits
    counts = np.bincount(digits, minlength=10)
    by_digit = np.array([own[digits == d].mean() if counts[d] else np.nan for d in range(10)])
    return OwnColours(float(np.nanmean(by_digit)), by_digit, counts)
