"""The judge: are they digits, all kinds of digits, and new ones?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..model import check_images
from .classifier import Classifier
from .distances import density_and_coverage, frechet_distance, nearest_distances

if TYPE_CHECKING:
    from ..data.images import Images


class Judge:
    """Figures of generated pictures beside their floor, which is computed once.

    classifier: gives labels and features.  images: what to compare with; as many real training pictures as test pictures are the floor.
    """

    def __init__(self, classifier: Classifier, images: Images, *, k: int = 5, seed: int = 0):
        self.classifier, self.images, self.k = classifier, images, k
        if len(images.test) <= k:
            raise ValueError(f"Judge: there are {len(images.test)} test pictures; more than k = {k} are needed")
        self.test_features, _ = classifier.look(images.test)
        chosen = np.random.default_rng(seed).permutation(len(images.train))[: len(images.test)]
        self.real = images.train[chosen]
        self.floor = self._figures(self.real)
        self.test_nearest = nearest_distances(images.test[:1000], images.train)[0]

    @classmethod
    def of_zoo(cls, images: Images) -> Judge:
        """With the classifier that ships."""
        return cls(Classifier.shipped(), images)

    def _figures(self, samples: np.ndarray) -> dict[str, float]:
        """What needs no more than the samples and the test pictures."""
        features, probabilities = self.classifier.look(samples)
        density, coverage = density_and_coverage(self.test_features, features, self.k)
        shares = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]) / len(samples)
        return {"frechet": frechet_distance(features, self.test_features), "density": density, "coverage": coverage,
                "least_share": float(shares.min()), "greatest_share": float(shares.max()), "confidence": float(probabilities.max(1).mean())}

    def evaluate(self, samples: np.ndarray, digit=None, nearest: int = 1000) -> dict[str, float]:
        """Figures of samples (n, *image), each with its floor; `asked` is the share that is the digit asked for.

        nearest: how many samples are compared with all training pictures, whose distances stand beside those of test pictures.
        """
        samples = check_images(samples, self.images.train.shape[1:])
        out: dict[str, float] = {}
        for name, value in self._figures(samples).items():
            out[name], out[f"{name}_floor"] = value, self.floor[name]
        out["frechet_ratio"] = out["frechet"] / max(self.floor["frechet"], 1e-12)
        out["coverage_ratio"] = out["coverage"] / max(self.floor["coverage"], 1e-12)
        if digit is not None:
            digit = np.broadcast_to(np.asarray(digit), (len(samples),))
            out["asked"] = float(np.mean(self.classifier.classify(samples) == digit))
            if self.images.test_labels is not None:
                out["asked_floor"] = self.classifier.accuracy(self.images.test, self.images.test_labels)
        distances = nearest_distances(samples[:nearest], self.images.train)[0]
        for name, d in (("nearest_training", distances), ("nearest_training_floor", self.test_nearest)):
            out[f"{name}_median"], out[f"{name}_least"] = float(np.median(d)), float(d.min())
        return out

    def __repr__(self) -> str:
        return f"Judge({self.images.name!r}, floor: {', '.join(f'{name} {value:.4g}' for name, value in self.floor.items())})"
