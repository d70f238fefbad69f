"""The judge: are they digits, all kinds of digits, and new ones?

A classifier that the zoo trains gives labels and features; in its features, generated pictures are compared with the test set by the
Frechet distance (Heusel et al. 2017) and by density and coverage (Naeem et al. 2020).  No figure stands alone: beside each is its
floor, the same figure for real training pictures, which is what a perfect generator would get.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import Tensor, no_grad
from ..data.toys import GRID, RING, TOYS
from ..model import Config, Model
from ..model import moved as names_that_moved
from ..nn import BatchNorm, Conv2d, Linear, dropout
from ..training import minibatches
from ..vae import check_images, check_labels

if TYPE_CHECKING:
    from ..data.images import Images


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(Config):
    image: tuple[int, ...] = (28, 28)
    classes: int = 10
    channels: int = 32  # of the first two convolutions; the next two have twice as many
    features: int = 128  # the layer in which pictures are compared
    dropout: float = 0.3
    shift: int = 2  # training pictures are moved by up to so many pixels






class Classifier(Model):
    """Four 3x3 convolutions with batch norm, two of them halving the picture, and two dense layers: `zoo.load("classifier")`."""

    kind = "classifier"
    Config = ClassifierConfig
    config: ClassifierConfig

    def __init__(self, config: ClassifierConfig, *, rng: Generator):
        super().__init__(config, rng=rng)
        c = config
        if len(c.image) not in (2, 3) or c.image[0] % 4 or c.image[1] % 4:
            raise ValueError(f"ClassifierConfig: image is {c.image}; it is (height, width) or (height, width, channels), "
                             "with a height and width that 4 divides")
        self.shape = (*c.image, 1)[:3]
        a, b = c.channels, 2 * c.channels
        self.convolutions = [Conv2d(i, o, 3, stride=stride, padding=1, rng=rng, bias=False, scale=math.sqrt(2))
                             for i, o, stride in ((self.shape[2], a, 1), (a, a, 2), (a, b, 1), (b, b, 2))]
        self.norms = [BatchNorm(o, activation="relu") for o in (a, a, b, b)]
        self.dense = Linear(b * (c.image[0] // 4) * (c.image[1] // 4), c.features, rng=rng, activation="relu", scale=math.sqrt(2))
        self.output = Linear(c.features, c.classes, rng=rng)

    def features(self, x, rng: Generator | None = None):
        """x (n, *image) in [0, 1] -> (n, features)."""
        x = x.reshape((len(x), *self.shape))
        for convolution, norm in zip(self.convolutions, self.norms):
            x = norm(convolution(x))
        return self.dense(dropout(x.reshape((len(x), -1)), self.config.dropout, rng))

    def __call__(self, x, rng: Generator | None = None):
        """Logits (n, classes); rng draws the dropout of training."""
        return self.output(dropout(self.features(x, rng), self.config.dropout, rng))

    def loss(self, batch, rng: Generator) -> dict[str, Tensor]:
        """Cross entropy of (images, labels), each image moved a little."""
        images, labels = batch
        x = moved(check_images(images, self.config.image), self.config.shift, rng)
        logits = self(x, rng)
        right = np.mean(logits.data.argmax(1) == labels)
        return {"loss": ops.cross_entropy(logits, check_labels(labels, self.config.classes, len(x))), "right": Tensor(np.float32(right))}

    def look(self, images, batch: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, features) and probabilities (n, classes) of pictures, without dropout and with running averages."""
        x = check_images(images, self.config.image)
        was, found = self.training, []
        self.eval()
        with no_grad():
            for part in minibatches(len(x), batch):
                f = np.asarray(self.features(Tensor(x[part])).data)
                found.append((f, ops.softmax(self.output(Tensor(f)).data)))
        self.train(was)
        return np.concatenate([f for f, _ in found]), np.concatenate([p for _, p in found])

    def classify(self, images) -> np.ndarray:
        """The most likely label of each picture, (n,)."""
        return self.look(images)[1].argmax(1)

    def accuracy(self, images, labels) -> float:
        return float(np.mean(self.classify(images) == labels))

    def evaluate(self, images: Images, *, seed: int = 0) -> dict[str, float]:
        """The share of test pictures that it labels right."""
        return {"test_right": self.accuracy(images.test, images.test_labels)}






def moved(x: np.ndarray, most: int, rng: Generator) -> np.ndarray:
    """Each picture moved by up to `most` pixels, with what is outside 0."""
    if not most:
        return x
    n, h, w = x.shape[:3]
    padded = np.pad(x, ((0, 0), (most, most), (most, most)) + ((0, 0),) * (x.ndim - 3))
    rows, columns = rng.integers(0, 2 * most + 1, (2, n))
    return np.stack([padded[i, r : r + h, c : c + w] for i, (r, c) in enumerate(zip(rows, columns))])


# --- distances between sets


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of two sets of features (n, d), each taken as a Gaussian.

    (Heusel et al. 2017, eq. 6, there with Inception's features.)
    """
    _check_features(a, b, least=2)
    a, b = a.astype(np.float64), b.astype(np.float64)
    difference = a.mean(0) - b.mean(0)
    c_a, c_b = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    values, vectors = np.linalg.eigh(c_a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T  # C_a^(1/2); the trace is that of (root C_b root)^(1/2), symmetric
    inner = np.linalg.eigvalsh(root @ c_b @ root)
    return max(0.0, float(difference @ difference + np.trace(c_a) + np.trace(c_b) - 2 * np.sqrt(np.maximum(inner, 0)).sum()))


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m) squared Euclidean distances between rows."""
    d = (a * a).sum(1)[:, None] - 2 * (a @ b.T) + (b * b).sum(1)
    return np.maximum(d, 0, out=d)


def density_and_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5, chunk: int = 1000) -> tuple[float, float]:
    """Naeem et al. (2020), eq. 3 and 4: each real one has a ball that reaches to its k-th nearest real neighbour.

    density: how many balls a fake one lies in, over k; about 1 where the two are alike.
    coverage: the share of balls in which there is a fake one, at most 1.
    """
    _check_features(real, fake, least=1)
    if not 1 <= k < len(real):
        raise ValueError(f"density_and_coverage: k is {k}; with {len(real)} real rows it may go from 1 to {len(real) - 1}")
    radii = np.concatenate([np.partition(squared_distances(real[part], real), k, axis=1)[:, k] for part in minibatches(len(real), chunk)])
    inside, covered = 0, 0
    for part in minibatches(len(real), chunk):
        within = squared_distances(real[part], fake) < radii[part, None]
        inside += int(within.sum())
        covered += int(within.any(1).sum())
    return inside / (k * len(fake)), covered / len(real)


def nearest_distances(a: np.ndarray, b: np.ndarray, chunk: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """For each picture of a the Euclidean distance to the nearest of b, and which that is: two of (len(a),)."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    _check_features(a, b, least=1)
    squares = (b * b).sum(1)
    best, which = [], []
    for part in minibatches(len(a), chunk):
        d = squares - 2 * (a[part] @ b.T)
        i = d.argmin(1)
        which.append(i)
        best.append(np.sqrt(((a[part] - b[i]) ** 2).sum(1)))
    return np.concatenate(best), np.concatenate(which)


def squared_wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """The least mean squared distance at which the rows of a can be paired with those of b, exactly: sets of equal size."""
    from scipy.optimize import linear_sum_assignment

    _check_features(a, b, least=1)
    if len(a) != len(b):
        raise ValueError(f"squared_wasserstein: the sets have {len(a)} and {len(b)} rows; they must have the same number")
    cost = squared_distances(a.astype(np.float64), b.astype(np.float64))
    return float(cost[linear_sum_assignment(cost)].mean())


def _check_features(a: np.ndarray, b: np.ndarray, least: int) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < least:
        raise ValueError(f"features: shapes are {a.shape} and {b.shape}; they are (n, d) and (m, d) with at least {least} rows")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features: there is a NaN or an infinity among them")


# --- modes


@dataclasses.dataclass(frozen=True)
class Modes:
    """How much of a mixture is covered."""

    modes: int  # that have a good sample
    good: float  # share of samples within 3 deviations of a centre
    reverse_kl: float  # KL(modes of the samples || all modes alike), in nats
    counts: np.ndarray


def count_modes(samples: np.ndarray, centres: np.ndarray, deviation: float) -> Modes:
    """Lin et al. (2018), section 4.1: a sample is good within 3 deviations of the nearest centre; a mode counts with one good sample."""
    d = squared_distances(samples.astype(np.float64), centres.astype(np.float64))
    nearest = d.argmin(1)
    good = d[np.arange(len(d)), nearest] < (3 * deviation) ** 2
    counts = np.bincount(nearest[good], minlength=len(centres))
    return Modes(int((counts > 0).sum()), float(good.mean()), kl_from_uniform(counts), counts)


def grid_modes(samples: np.ndarray) -> Modes:
    return count_modes(samples, GRID, 0.05)


def ring_modes(samples: np.ndarray) -> Modes:
    return count_modes(samples, RING, 0.01)


def stacked_modes(classifier: Classifier, samples: np.ndarray) -> Modes:
    """Three digits as three colours: modes of 1,000 by the classifier's labels, with samples (n, height, width, 3)."""
    if samples.ndim != 4 or samples.shape[3] != 3:
        raise ValueError(f"stacked_modes: samples have shape {samples.shape}; they are (n, height, width, 3)")
    digits = np.stack([classifier.classify(np.ascontiguousarray(samples[..., i])) for i in range(3)], 1)
    counts = np.bincount(digits @ np.array([100, 10, 1]), minlength=1000)
    return Modes(int((counts > 0).sum()), 1.0, kl_from_uniform(counts), counts)


def kl_from_uniform(counts: np.ndarray) -> float:
    """KL(counts as shares || all alike), in nats; infinite if there are none."""
    if counts.sum() == 0:
        return math.inf
    p = counts[counts > 0] / counts.sum()
    return float((p * np.log(p * len(counts))).sum())


def toy_figures(name: str, samples: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Modes of the grid, the ring and the stacked digits; of other toys the squared Wasserstein distance to fresh points and its floor."""
    if name == "stacked":
        from ..loading.cards import load

        found = stacked_modes(load("classifier"), samples)
    elif name in ("grid", "ring"):
        found = grid_modes(samples) if name == "grid" else ring_modes(samples)
    else:
        n = min(len(samples), 10_000)
        fresh, others = (TOYS[name](n, np.random.default_rng((seed, i))) for i in (1, 2))
        return {f"squared_wasserstein{name}": squared_wasserstein(x[:n], fresh) for name, x in (("", samples), ("_floor", others))}
    return {"modes": found.modes, "of": len(found.counts), "good": found.good, "reverse_kl": found.reverse_kl}


# --- the judge


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
        from ..loading.cards import load

        return cls(load("classifier"), images)

    def _figures(self, samples: np.ndarray) -> dict[str, float]:
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
        figures = self._figures(samples)
        out = {}
        for name, value in figures.items():
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


def __getattr__(name: str):
    return names_that_moved(__name__, name, "zoo.recipes.classifier", ("ClassifierTraining", "PRESETS", "make_trainer"))
