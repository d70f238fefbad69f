"""What is tried next: at random, by successive halving, or where a model of the scores expects the most.

A strategy is a function of the trials so far and nothing else, so a search that is continued goes on as if it had never stopped.

Successive halving (ASHA, Li et al. 2020) begins many short runs and carries on the best: of the trials that have reached a rung, a third goes on to
the next, which is three times as long, as soon as it is known to be in that third.  A run keeps the schedule of its full length, of which a rung
is the beginning, and goes on from its checkpoint: so a trial that reaches the top is bit for bit the run that `zoo train` makes of its settings.
The price: on lower rungs models are compared whose learning rate hasn't come down yet.  (To let it come down on each rung would mean to train
anew from rung to rung, or to end with a run that has come down several times.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ...autograd.random import generator
from .gaussian import propose
from .space import DRAWS, Point, Space

By = Literal["random", "halving", "model"]
STRATEGIES: tuple[By, ...] = ("random", "halving", "model")
FACTOR = 3  # of trials of a rung, one goes on; each rung is so many times as long as the one below
RUNGS = 3


@dataclasses.dataclass
class Trial:
    """A point of the space and what came of it."""

    number: int
    point: Point
    rung: int = 0  # the one that it is to reach, or has reached
    state: Literal["running", "done", "failed"] = "running"
    scores: list[float] = dataclasses.field(default_factory=list)  # one for each rung that was reached, lower is better
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # of each rung: step, seconds, figures
    error: str = ""

    @property
    def score(self) -> float | None:
        """That of the highest rung that was reached."""
        return self.scores[-1] if self.scores else None


@dataclasses.dataclass
class Proposals:
    """Draws points that make a model; counts those that don't."""

    space: Space
    by: By
    seed: int
    data: Any
    rejected: int = 0

    @property
    def rungs(self) -> int:
        return RUNGS if self.by == "halving" else 1

    def draw(self, number: int, trials: Sequence[Trial]) -> Point:
        """The point of trial `number`, given those so far.  Raises ValueError where none that was drawn makes a model."""
        rng = generator((self.seed, number, 0x5EA2C))
        for i, u in enumerate(self._candidates(trials, rng)):
            point = self.space.point(u)
            try:
                self.space.check(point, self.data, self.seed)
                return point
            except ValueError as e:
                self.rejected += 1
                if i + 1 == DRAWS:
                    raise ValueError(f"over: {self.space} has no valid point in {DRAWS} draws; the last was refused: {e}") from None
        raise AssertionError

    def _candidates(self, trials: Sequence[Trial], rng: np.random.Generator) -> Any:
        """At least DRAWS coordinates, in the order in which they are to be tried."""
        scored = [t for t in trials if t.score is not None or t.state == "failed"]
        known = [t.score for t in scored if t.score is not None]
        if self.by != "model" or len(known) < 2 + self.space.size:
            return (rng.random(self.space.size) for _ in range(DRAWS))
        under_way = [t for t in trials if t.state == "running"]  # counted as average, or several workers would be sent to the same place
        worst, mean = max(known), float(np.mean(known))
        scores = [worst if t.score is None else t.score for t in scored] + [mean] * len(under_way)
        proposed = propose(np.stack([self.space.coordinates(t.point) for t in (*scored, *under_way)]), np.array(scores), rng)
        tried = [t.point for t in trials]
        return sorted(proposed, key=lambda u: self.space.point(u) in tried)  # in a small space all of them may be


def promotion(trials: Sequence[Trial], rungs: int, *, is_last: bool = False) -> Trial | None:
    """The trial that goes on to the next rung, or None (Li et al. 2020, algorithm 2, get_job); the highest rung comes first.

    is_last: no more trials are begun; then at least one trial reaches the top.
    """
    for rung in range(rungs - 2, -1, -1):
        there = sorted((t for t in trials if len(t.scores) > rung), key=lambda t: (t.scores[rung], t.number))
        best = there[: len(there) // FACTOR]
        waiting = [t for t in best if t.state == "done" and t.rung == rung]
        if waiting:
            return waiting[0]
    under_way = any(t.state == "running" for t in trials)
    if is_last and not under_way and not any(t.rung == rungs - 1 for t in trials if t.state == "done"):
        left = [t for t in trials if t.state == "done"]
        return min(left, key=lambda t: (-t.rung, t.scores[-1], t.number), default=None)
    return None


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The one with the best score among those that went farthest."""
    return min((t for t in trials if t.scores and t.state != "failed"), key=lambda t: (-len(t.scores), t.scores[-1], t.number), default=None)
