"""How good generated samples are: a judge of digits, distances between sets of samples, modes of mixtures.

A classifier that the zoo trains gives labels and features; in its features, generated pictures are compared with the test set by the
Frechet distance (Heusel et al. 2017) and by density and coverage (Naeem et al. 2020).  No figure stands alone: beside each is its
floor, the same figure for real training pictures, which is what a perfect generator would get.
"""

from ..model import moved as _moved
from .classifier import Classifier, ClassifierConfig
from .distances import density_and_coverage, frechet_distance, nearest_distances, squared_distances, squared_wasserstein
from .judge import Judge, judged
from .modes import Modes, count_modes, grid_modes, kl_from_uniform, ring_modes, stacked_modes, toy_figures

__all__ = ["Classifier", "ClassifierConfig", "Judge", "Modes", "count_modes", "density_and_coverage", "frechet_distance", "grid_modes",
           "judged", "kl_from_uniform", "nearest_distances", "ring_modes", "squared_distances", "squared_wasserstein", "stacked_modes",
           "toy_figures"]


def __getattr__(name: str):
    return _moved(__name__, name, "zoo.recipes.classifier", ("ClassifierTraining", "PRESETS", "make_trainer"))
