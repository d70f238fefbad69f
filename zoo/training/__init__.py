"""Training: the loop that all models share, which rows a step sees, and what a run leaves in its folder."""

from .batches import Batches, Table, by_parts, minibatches, shuffled, spread_over
from .private import Private
from .trainer import Stopped, Trainer, TrainingFailed, TrainingStep

__all__ = ["Batches", "Private", "Stopped", "Table", "Trainer", "TrainingFailed", "TrainingStep", "by_parts", "minibatches", "shuffled",
           "spread_over"]
