"""Private training: what one example changes in the weights is bounded, and drowned in noise (DP-SGD, Abadi et al. 2016, algorithm 1).

    zoo train vae --private-noise 1.1 --private-clip 1.0
    Trainer(..., private=Private(noise=1.1, clip=1.0))

Each step takes every example with probability q (Poisson sampling), computes the gradient g_i of each one alone, and goes along

    1/(q n) [ sum_i g_i min(1, C / |g_i|)  +  noise * C * N(0, I) ].

Why that is private: with or without one example, the sum differs by at most C, while the noise has deviation noise * C in every direction, so
whoever sees the weights can hardly tell which of both sums it was.  Over all steps this is (epsilon, delta)-differential privacy: whatever
somebody concludes from the model is, but for a probability delta, at most e^epsilon times as likely with the example as without it.  Averages
of the weights, samples, and whatever else is computed from the weights alone add nothing to that.

For the promise to hold, an example's gradient must depend on that example alone.  So examples are computed one after the other, each with
random numbers of its own, and models that look at the whole batch or keep statistics of the data are refused.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.random import Generator

from ..autograd.kernels import optimiser as kernels
from ..autograd.random import generator
from ..model import Config, NonNegative, Positive
from ..nn import Module
from ..optim import Optimiser
from .batches import Batches, Table

ROUNDING = 1e-5  # by which a clipped gradient stays below the clip, so that rounding can't lift it above
SECRET_BITS = 128
ORDERS = (*range(2, 65), 96, 128, 256, 512, 1024)  # of Renyi's divergence; whole ones are computed without a series that may not converge


@dataclasses.dataclass(frozen=True)
class Private(Config):
    """How private a run is."""

    noise: NonNegative  # deviation of the noise as a multiple of the clip; 0 for none, and then there is no guarantee
    clip: Positive = 1.0  # greatest norm of one example's gradient
    delta: Positive = 1e-5  # probability with which the guarantee may fail; below 1 / examples
    secret: bool = True  # noise and sampling come from the operating system's secret, too, and not from the run's seed alone

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.delta >= 1:
            raise ValueError(f"Private: delta is {self.delta}; it is above 0 and below 1")


def epsilon(noise: float, rate: float, steps: int, delta: float) -> float:
    """The epsilon of so many steps, each of which takes every example with probability `rate`: neighbouring data sets differ by one example that
    is there or not (Mironov et al. 2019, by the library dp-accounting).

    Infinite without noise.  Raises ValueError where dp-accounting isn't installed.
    """
    if not steps:
        return 0.0
    if not noise:
        return float("inf")
    library = _library()
    accountant = library.rdp.RdpAccountant(ORDERS, neighboring_relation=library.NeighboringRelation.ADD_OR_REMOVE_ONE)
    event = library.PoissonSampledDpEvent(rate, library.GaussianDpEvent(noise)) if rate < 1 else library.GaussianDpEvent(noise)
    accountant.compose(library.SelfComposedDpEvent(event, steps))
    return float(accountant.get_epsilon(delta))


def _library() -> Any:
    try:
        import dp_accounting
        import dp_accounting.rdp
    except ImportError as e:
        raise ValueError("private: dp-accounting, which computes epsilon, isn't installed (pip install 'numpy-zoo[privacy]')") from e
    return dp_accounting


class PrivateGradients:
    """Draws the examples of each step, and makes of their gradients one that is bounded and noised; made by `Trainer`.

    expected: examples per draw, on average.  per_step: draws per step of training, more than one where a critic takes several steps.
    """

    def __init__(self, private: Private, model: Module, batches: Batches, seed: int):
        if not isinstance(batches, Table):
            raise ValueError("private: these batches are drawn from a formula, or their rows depend on each other; private training needs a table "
                             "of examples, each of which is protected")
        refuse_models_of_whole_batches(model)
        if private.noise:
            _library()  # before hours of training rather than after
            if private.delta >= 1 / batches.n:
                raise ValueError(f"private: delta is {private.delta:g} with {batches.n:,} examples; it is below {1 / batches.n:.2g}, or the "
                                 "guarantee would allow to publish an example outright")
        self.private, self.model, self.table, self.seed = private, model, batches, seed
        self.expected, self.per_step = batches.batch_size, 1
        self.secret = secrets.randbits(SECRET_BITS) if private.secret else 0
        self._buffers_checked = False

    @property
    def rate(self) -> float:
        """The probability with which a draw takes an example."""
        return self.expected / self.table.n

    def split(self, draws: int) -> None:
        """Make several draws of each step, which share its batch."""
        self.expected, self.per_step = self.expected // draws, draws

    def rows(self, draw: int) -> np.ndarray:
        """Which examples a draw takes: each with probability `rate`, independently of all others."""
        return np.flatnonzero(generator((self.seed, self.secret, draw, 0x9A7)).random(self.table.n) < self.rate)

    def examples(self, draw: int) -> Iterator[tuple[Any, Generator]]:
        """Each example of a draw as a batch of one, and random numbers that don't depend on which others were taken."""
        for row in self.rows(draw).tolist():
            rng = generator((self.seed, draw, row, 0xE8A))
            yield self.table.take(np.array([row]), rng), rng

    def gradients(self, optimiser: Optimiser, loss_of: Callable[[Any, Generator], dict[str, Any]], draw: int) -> dict[str, float]:
        """Put the noised gradient where `optimiser.step` finds it.  loss_of(a batch of one, rng) -> losses, the first of which is minimised.

        Returns the mean of each loss over the examples, which isn't noised: it is for the log, and not to be published.
        """
        parameters = [p for p in optimiser.parameters if p.requires_grad]
        sizes = [p.size for p in parameters]
        total, one = (np.zeros(sum(sizes), np.float32) for _ in range(2))
        before = None if self._buffers_checked else {name: a.copy() for name, a in self.model.named_buffers().items()}
        sums: dict[str, float] = {}
        count = 0
        for batch, rng in self.examples(draw):
            optimiser.zero_grad()
            losses = loss_of(batch, rng)
            next(iter(losses.values())).backward()
            norm = kernels.gather(one, [p.grad for p in parameters], sizes)
            total += clipped(one, norm, self.private.clip)
            sums = {name: sums.get(name, 0.0) + float(value) for name, value in losses.items()}
            count += 1
        if before is not None and count:
            refuse_statistics(before, self.model)
            self._buffers_checked = True
        total += self.noise(draw, len(total))
        total /= np.float32(self.expected)
        start = 0
        for p in parameters:
            p.grad = total[start : start + p.size].reshape(p.shape)
            start += p.size
        return {name: value / count for name, value in sums.items()}

    def noise(self, draw: int, size: int) -> np.ndarray:
        """The noise of a draw, (size,): normal with deviation noise * clip."""
        deviation = np.float32(self.private.noise * self.private.clip)
        return deviation * generator((self.seed, self.secret, draw, 0x9015E)).standard_normal(size, np.float32)

    def epsilon(self, steps: int) -> float:
        """What so many steps of training cost."""
        return epsilon(self.private.noise, self.rate, steps * self.per_step, self.private.delta)

    def facts(self, steps: int) -> dict[str, Any]:
        """What the card says."""
        from importlib.metadata import version

        p = self.private
        return {"epsilon": round(self.epsilon(steps), 4) if p.noise else None, "delta": p.delta, "noise": p.noise, "clip": p.clip, "secret": p.secret,
                "sampling": f"Poisson, each of {self.table.n} examples with probability {self.rate:.6g}", "draws": steps * self.per_step,
                "example": self.table.example, "neighbours": "with or without one example",
                "accountant": f"Renyi, dp-accounting {version('dp-accounting')}" if p.noise else None,
                "holds": _holds(p)}

    def checkpoint(self) -> dict[str, Any]:
        """What resuming needs: settings, and the secret, which is why a checkpoint of a private run is not to be published."""
        return {**self.private.to_dict(), "key": f"{self.secret:x}"}

    def restore(self, saved: dict[str, Any]) -> None:
        self.secret = int(saved["key"], 16)


def _holds(private: Private) -> str:
    if not private.noise:
        return "no guarantee: there was no noise"
    if private.secret:
        return "for whoever sees the model and this card, but neither the log nor the checkpoint, which has the secret of the noise"
    return "for nobody who knows the run's seed, which is on this card: from it the noise can be computed and taken off again"


def clipped(gradient: np.ndarray, norm: float, clip: float) -> np.ndarray:
    """A gradient of this norm, scaled down to the norm `clip` if it is longer."""
    return gradient if norm <= clip * (1 - ROUNDING) else gradient * np.float32(clip * (1 - ROUNDING) / norm)


def refuse_models_of_whole_batches(model: Module) -> None:
    """Raise ValueError for a model of which a part looks at the whole batch at once."""
    for path, module in model.modules():
        whole = getattr(module, "reads_whole_batch", False) and not getattr(module, "reads_examples_alone", False)
        if whole:
            raise ValueError(f"private: {path or 'this model'} is a {type(module).__name__}, which looks at the whole batch at once, so the gradient "
                             "of one example depends on the others; private training needs a model without it")


def refuse_statistics(before: dict[str, np.ndarray], model: Module) -> None:
    """Raise ValueError where an array that isn't trained was changed by the data, without noise."""
    changed = [name for name, a in model.named_buffers().items() if name in before and not np.array_equal(a, before[name])]
    if changed:
        raise ValueError(f"private: {changed[0]} of this {type(model).__name__} is a statistic of the training data that is saved without noise; "
                         "this kind of model can't be trained privately")
