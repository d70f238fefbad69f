"""The judge: are they digits, all kinds of digits, and new ones?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd.random import generator
from ..data.images import Images, mnist
from ..data.toys import sample_shape
from ..model import check_count, check_images
from .classifier import Classifier
from .distances import density_and_coverage, frechet_distance, nearest_distances
from .modes import toy_figures


class Judge:
    """Figures of generated pictures beside their floor, which is computed once.

    classifier: gives labels and features.  images: what to compare with; as many real training pictures as test pictures are the floor.
    Raises ValueError for pictures that the classifier doesn't take, or too few of them.
    """

    def __init__(self, classifier: Classifier, images: Images, *, k: int = 5, seed: int = 0):
        check_demands(classifier, images, k)
        self.classifier, self.images, self.k = classifier, images, k
        self.test_features, _ = classifier.look(images.test)
        chosen = generator(seed).permutation(len(images.train))[: len(images.test)]
        self.real = images.train[chosen]
        self.floor = self._figures(self.real)
        self.test_nearest = nearest_distances(images.test[:1000], images.train)[0]

    @classmethod
    def of_zoo(cls, images: Images, classifier: str | Path | None = None) -> Judge:
        """With the classifier of this name or folder; without it, the one that ships, if it knows such pictures (else ValueError)."""
        if classifier is not None:
            return cls(Classifier.read(classifier), images)
        shipped = Classifier.shipped()
        check_demands(shipped, images)
        check_known(shipped, images)
        return cls(shipped, images)

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
        if len(samples) < 2:
            raise ValueError(f"judge: there is {len(samples)} sample; a distance between sets takes at least 2")
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


def judged(draw: Callable[[], np.ndarray], data: Images | str, *, n: int, image: tuple[int, ...], classes: int = 0,
           judge: str | Path | None = None, seed: int = 0) -> dict[str, Any]:
    """The judge's figures of draw(), n samples of shape `image`; of toys, which are given by name, their own figures.

    What the judge asks for is checked before anything is drawn.  classes: of a conditional model, which draws each class in turn.
    judge: a classifier by name or folder, in place of the one that ships.
    """
    name = data if isinstance(data, str) else data.name
    if sample_shape(data) != tuple(image):
        raise ValueError(f"data: {name!r} has samples of shape {sample_shape(data)}; this model draws {tuple(image)}")
    if isinstance(data, str):
        check_count(n)
        if judge is not None:
            raise ValueError(f"judge: is {str(judge)!r}, but {name!r} is a toy, whose modes or distances are counted without one")
        return toy_figures(data, draw(), seed)
    if check_count(n) < 2:
        raise ValueError(f"n is {n}; the judge compares at least 2 samples with the test pictures")
    return Judge.of_zoo(data, judge).evaluate(draw(), digit=np.arange(n) % classes if classes else None)


# --- what the judge asks for


def check_demands(classifier: Classifier, images: Images, k: int = 5) -> None:
    """Raise ValueError unless the pictures are of the classifier's size and enough of them were held out to test on."""
    size = lambda shape: " x ".join(map(str, shape))
    if images.train.shape[1:] != classifier.config.image:
        raise ValueError(f"judge: the pictures of {images.name!r} are {size(images.train.shape[1:])}, and the classifier takes "
                         f"{size(classifier.config.image)}; {ANOTHER}")
    if len(images.test) <= k:
        raise ValueError(f"judge: {images.name!r} has {len(images.test)} test pictures; more than k = {k} are needed, "
                         "among whose nearest neighbours the samples are looked for")
    if len(images.train) < 2:
        raise ValueError(f"judge: {images.name!r} has {len(images.train)} picture to train on; the floor takes at least 2")


def check_known(classifier: Classifier, images: Images, n: int = 1000) -> None:
    """Raise ValueError where the classifier that ships, which knows MNIST's digits, would judge clothes or letters.

    It has to be right about 9 in 10 of up to n test pictures; without labels, half of them need a digit of MNIST's among their nearest
    neighbours in its features (`coverage`).  Its own confidence says little: it is certain about noise.
    """
    chosen = np.random.default_rng(0).permutation(len(images.test))[:n]
    x = images.test[chosen]
    if images.test_labels is not None:
        right = classifier.accuracy(x, images.test_labels[chosen])
        if right < 0.9:
            raise ValueError(f"judge: the classifier that ships knows MNIST's digits; of the labelled test pictures of {images.name!r} it is "
                             f"right about {right:.0%}, and 90% are needed for its figures to mean anything; {ANOTHER}")
    else:
        digits = mnist().test[:2000]
        near = density_and_coverage(classifier.look(x)[0], classifier.look(digits)[0], min(5, len(x) - 1))[1]
        if near < 0.5:
            raise ValueError(f"judge: the classifier that ships knows MNIST's digits; {near:.0%} of the test pictures of {images.name!r} "
                             f"look like one to it, and 50% are needed for its figures to mean anything; {ANOTHER}")


ANOTHER = "name a classifier that knows them: judge=FOLDER (--judge), as `zoo train classifier --data ...` writes one"
