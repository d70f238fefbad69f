"""Whether one can tell from a model's losses what it was trained on (Shokri et al. 2017; the threshold of Yeom et al. 2018)."""

from __future__ import annotations

import numpy as np


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """How often a member's loss is below another's, ties counting half: 0.5 tells nothing, 1 everything.  members (n,), others (m,) losses."""
    from scipy.stats import rankdata

    n, m = len(members), len(others)
    if not n or not m:
        raise ValueError(f"auc: there are {n} members and {m} others; at least one of each is needed")
    ranks = rankdata(-np.concatenate([members, others]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def auc_deviation(area: float, n: int, m: int) -> float:
    """The standard deviation of an `auc` from n members and m others (Hanley & McNeil 1982, eq. 1)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    return float(np.sqrt((area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)) / (n * m)))


def true_positives(members: np.ndarray, others: np.ndarray, false_positives: float = 0.001) -> float:
    """Share of members whose loss is below what at most this share of others is below (Carlini et al. 2022, LiRA, section II.C)."""
    allowed = int(false_positives * len(others))
    threshold = np.sort(others)[allowed]
    return float((members < threshold).mean())


def logit_scaled(losses: np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)) of p = exp(-loss), which is near normal over models (Carlini et al. 2022, section IV.B)."""
    losses = np.maximum(np.asarray(losses, np.float64), 1e-12)
    return -losses - np.log(-np.expm1(-losses))


def likelihood_ratios(losses: np.ndarray, members: np.ndarray, target: int) -> np.ndarray:
    """LiRA in small: for each example ln p(its loss | it was trained on) - ln p(its loss | it wasn't) in the model `target`, (examples,).

    losses (models, examples), members (models, examples) True where a model was trained on an example.  All other models are the shadows: of
    each example, the logits of those that saw it and of those that didn't are taken as normal, with means of its own and a deviation that all
    share, since few models say little of a single one's (Carlini et al. 2022, algorithm 1 and section VI.C).
    ValueError where an example has no shadow that saw it, or none that didn't.
    """
    logits, members = logit_scaled(losses), np.asarray(members, bool)
    others = np.arange(len(logits)) != target
    x, inside = logits[others], members[others]
    seen = inside.sum(0)
    if not seen.all() or (seen == len(x)).any():
        raise ValueError(f"likelihood_ratios: some example was in the training data of all or none of the {len(x)} other models; take more models")
    score = np.zeros(logits.shape[1])
    for part, sign in ((inside, 1.0), (~inside, -1.0)):
        count = part.sum(0)
        mean = (x * part).sum(0) / count
        squares = ((x - mean) ** 2 * part).sum()
        deviation = np.sqrt(max(squares / max(part.sum() - len(count), 1), 1e-12))
        spread = deviation * np.sqrt(1 + 1 / count)  # the mean isn't known exactly either
        score += sign * (-0.5 * ((logits[target] - mean) / spread) ** 2 - np.log(spread))
    return score
