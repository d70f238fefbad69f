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
