"""How good a model is: a judge of digits, distances between sets of samples, modes."""

from .metrics import Classifier, Judge

__all__ = ["Classifier", "Judge"]
