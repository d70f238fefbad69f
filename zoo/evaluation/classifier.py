"""A classifier of small pictures: its labels and its features are what the judge measures with."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, Unpack

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from .. import storage
from ..autograd import Tensor, no_grad
from ..model import Config, Count, Decay, Model, Natural, Range, check_images, check_labels
from ..nn import BatchNorm, Conv2d, Linear, dropout, evaluating
from ..training import by_parts

if TYPE_CHECKING:
    from ..data.images import Images
    from ..model.fields import ClassifierFields


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(Config):
    image: tuple[Count, ...] = (28, 28)
    classes: Annotated[int, Range(2)] = 10
    channels: Count = 32  # of the first two convolutions; the next two have twice as many
    features: Count = 128  # the layer in which pictures are compared
    dropout: Decay = 0.3
    shift: Natural = 2  # training pictures are moved by up to this many pixels


class Classifier(Model):
    """Four 3x3 convolutions with batch norm, two of them halving the picture, and two dense layers: `zoo.load("classifier")`."""

    kind = "classifier"
    Config = ClassifierConfig
    config: ClassifierConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[ClassifierFields]) -> Self: ...  # type: ignore[override]

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

    @classmethod
    def shipped(cls) -> Classifier:
        """The judge of MNIST's digits that ships with the zoo; `zoo.load("classifier")` gives the same."""
        return cls.from_folder(storage.SHIPPED / "classifier")

    @classmethod
    def read(cls, name_or_folder: str | Path) -> Classifier:
        """A classifier of your own by its folder, or one that ships by its name."""
        return cls.judge_from(name_or_folder)

    @classmethod
    def for_data(cls, images: Images, *, seed: int = 0, **fields: Any) -> Classifier:
        """A fresh model for these pictures, with a class for each of their labels."""
        if images.train_labels is None:
            raise ValueError(f"labels: {images.name!r} has none; a classifier learns from labels")
        return cls.new(seed=seed, **{"image": images.train.shape[1:], "classes": int(images.train_labels.max()) + 1, **fields})

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
        """Cross entropy of (images, labels), each picture shifted a little; `right` is the share that is labelled right."""
        images, labels = batch
        x = randomly_shifted(check_images(images, self.config.image), self.config.shift, rng)
        logits = self(x, rng)
        right = np.mean(logits.data.argmax(1) == labels)
        return {"loss": ops.cross_entropy(logits, check_labels(labels, self.config.classes, len(x))), "right": Tensor(np.float32(right))}

    def look(self, images, batch: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, features) and probabilities (n, classes) of pictures, without dropout and with running averages."""
        x = check_images(images, self.config.image)

        def seen(part: slice) -> tuple[np.ndarray, np.ndarray]:
            features = np.asarray(self.features(Tensor(x[part])).data)
            return features, ops.softmax(self.output(Tensor(features)).data)

        with no_grad(), evaluating(self):
            features, probabilities = zip(*by_parts(seen, len(x), batch))
        return np.concatenate(features), np.concatenate(probabilities)

    def example(self) -> None:
        """Run the model once, on a blank picture."""
        self.look(np.zeros((1, *self.config.image), np.float32))

    def classify(self, images) -> np.ndarray:
        """The most likely label of each picture, (n,)."""
        return self.look(images)[1].argmax(1)

    def accuracy(self, images, labels) -> float:
        """The share of pictures that are labelled as `labels` (n,) say."""
        return float(np.mean(self.classify(images) == labels))

    def evaluate(self, images: Images, *, seed: int = 0) -> dict[str, float]:
        """The share of test pictures that it labels right."""
        if images.test_labels is None or not len(images.test):
            raise ValueError(f"data: {images.name!r} has no labelled test pictures, of which accuracy would be a share")
        return {"test_right": self.accuracy(images.test, images.test_labels)}


def randomly_shifted(x: np.ndarray, most: int, rng: Generator) -> np.ndarray:
    """Each picture of x (n, height, width, ...) moved by up to `most` pixels along both axes; what comes in from outside is 0."""
    if not most:
        return x
    n, h, w = x.shape[:3]
    padded = np.pad(x, ((0, 0), (most, most), (most, most)) + ((0, 0),) * (x.ndim - 3))
    rows, columns = rng.integers(0, 2 * most + 1, (2, n))
    return np.stack([padded[i, r : r + h, c : c + w] for i, (r, c) in enumerate(zip(rows, columns))])
