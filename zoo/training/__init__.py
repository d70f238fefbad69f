"""Training: the loop that all models share, which rows a step sees, and what a run leaves in its folder."""

from .batches import Batches, minibatches, shuffled
from .trainer import Stopped, Trainer, TrainingFailed, TrainingStep

__all__ = ["Batches", "Stopped", "Trainer", "TrainingFailed", "TrainingStep", "minibatches", "shuffled"]
