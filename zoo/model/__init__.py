"""What all models share: a configuration, saving to and loading from a folder, and generation as a stream of steps that can be replayed."""

from .base import Model, Unfilled, halved
from .checks import check_count, check_images, check_labels, labels_for
from .config import Config, Count, Decay, Natural, NonNegative, Positive, Range, Share, range_of
from .lines import great_circle, straight_line
from .renamed import Renamed, moved
from .steps import Step, last, replayable, stream

__all__ = [
    "Config", "Count", "Decay", "Model", "Natural", "NonNegative", "Positive", "Range", "Renamed", "Share", "Step", "Unfilled",
    "check_count", "check_images", "check_labels", "great_circle", "halved", "labels_for", "last", "moved", "range_of", "replayable",
    "straight_line", "stream",
]


def __getattr__(name: str):
    return moved(__name__, name, "zoo.loading.cards", ("KINDS", "WEIGHTS", "load", "shipped"))
