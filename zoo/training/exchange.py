"""What the optimisers of several ranks exchange: gradients, which are summed while backward still runs, and weights, where each updates a share.

Backward is done with the last layer's weights long before it is done with the first's.  So the flat gradient is cut into buckets, and the sum
of a bucket over all ranks begins as soon as the gradients in it are complete (Li et al. 2020, section 3.2.3): what is under way meanwhile costs
no time.  All ranks have to begin the same sums in the same order; it is the one in which the buckets of the first rank's first step got complete.

MPI makes progress only while it is called, unless it has a thread for it (MPICH: MPICH_ASYNC_PROGRESS=1, which takes a core).  Therefore `done`,
which backward calls for each gradient, also asks after the sums that are under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..optim import Optimiser
from .ranks import Ranks

BUCKET_FLOATS = 1 << 17  # half a megabyte: much more than what a message costs whatever its size, and still several to a small model


class Exchange:
    """One optimiser's part in it.  `sharded` is set once each rank holds the state of its share alone (`shard`)."""

    def __init__(self, optimiser: Optimiser, ranks: Ranks, *, bucket_floats: int = BUCKET_FLOATS, overlap: bool = True):
        self.optimiser, self.ranks, self.overlap = optimiser, ranks, overlap
        self.communicator = ranks.communicator.Dup()  # so that these sums and others that a step needs can't be taken for each other
        self.sharded = False
        sizes = [p.size for p in optimiser.parameters]
        ends = np.cumsum([0, *sizes]).tolist()
        self.parts = [slice(*pair) for pair in zip(ends, ends[1:])]  # of the flat gradient, by parameter
        self.number = {id(p): i for i, p in enumerate(optimiser.parameters)}
        self.buckets = buckets_of(sizes, optimiser.decaying, bucket_floats)
        self.bucket_of = [b for b, bucket in enumerate(self.buckets) for _ in bucket]
        self.order: list[int] | None = None  # of the sums, once it is known
        self._start()

    def _start(self) -> None:
        self.written = [False] * len(self.parts)
        self.missing = [len(bucket) for bucket in self.buckets]
        self.completed: list[int] = []  # buckets, in this step's order
        self.begun = 0  # how many of `order`
        self.under_way: list[Any] = []  # MPI's requests

    # --- gradients

    def done(self, p: Tensor) -> None:
        """A parameter's gradient is complete."""
        i = self.number.get(id(p))
        if i is None or not p.requires_grad:
            return
        self._write(i, p.grad)
        if self.order is not None and self.overlap:
            self._begin()
            self.under_way = [request for request in self.under_way if not request.Test()]

    def _write(self, i: int, gradient: np.ndarray | None) -> None:
        part = self.optimiser.grad[self.parts[i]]
        if gradient is None:
            part[:] = 0
        else:
            np.multiply(gradient.reshape(-1), part.dtype.type(self.ranks.current_weight), out=part)
        self.written[i] = True
        bucket = self.bucket_of[i]
        self.missing[bucket] -= 1
        if not self.missing[bucket]:
            self.completed.append(bucket)

    def _begin(self) -> None:
        """Begin the sums whose turn it is."""
        from mpi4py import MPI

        assert self.order is not None
        while self.begun < len(self.order) and not self.missing[self.order[self.begun]]:
            bucket = self.buckets[self.order[self.begun]]
            part = self.optimiser.grad[self.parts[bucket.start].start : self.parts[bucket.stop - 1].stop]
            self.under_way.append(self.communicator.Iallreduce(MPI.IN_PLACE, part, op=MPI.SUM))
            self.begun += 1

    def add_up(self, gradients: Sequence[np.ndarray | None]) -> None:
        """Fill the optimiser's flat gradient with that of the whole batch: the sum of the ranks' gradients, each counted by its rows.

        gradients: this rank's, by parameter; those that `done` was told of are under way already.
        """
        for i, gradient in enumerate(gradients):
            if not self.written[i]:
                self._write(i, gradient)
        if self.order is None:
            self.order = self.ranks.agree(self.completed)
        self._begin()
        for request in self.under_way:
            request.Wait()
        self._start()

    # --- shares of the state

    def shard(self) -> None:
        """From now on each rank holds the state of its share of the weights alone, and updates those (ZeRO, stage 1)."""
        self.optimiser.hold(self.ranks.rank, self.ranks.size)
        self.sharded = True

    def spread(self) -> None:
        """Give each rank the weights that the others have updated."""
        if not self.sharded:
            return
        from mpi4py import MPI

        cuts = self.optimiser.cuts(self.ranks.size)
        flat = self.optimiser.flat
        self.communicator.Allgatherv(MPI.IN_PLACE, [flat, np.diff(cuts), cuts[:-1], MPI.Datatype.fromcode(flat.dtype.char)])

    def state(self) -> dict[str, Any]:
        """The optimiser's checkpoint with the state of all shares, on the first rank; on others only their own.  All ranks call it."""
        state = self.optimiser.checkpoint()
        if self.sharded:
            for name in self.optimiser.state_names:
                parts = self.communicator.gather(state[name], root=0)
                state[name] = state[name] if parts is None else np.concatenate(parts)
        return state


def buckets_of(sizes: Sequence[int], decaying: int, floats: int) -> list[range]:
    """Parameters one after the other, of at least `floats` entries together; matrices apart from vectors, whose gradients come from all layers.

    sizes: entries of each parameter, matrices first.  decaying: entries of all matrices together.
    """
    buckets: list[range] = []
    begin, held, end = 0, 0, 0
    for i, size in enumerate(sizes):
        held, end = held + size, end + size
        if held >= floats or end == decaying or i == len(sizes) - 1:
            buckets.append(range(begin, i + 1))
            begin, held = i + 1, 0
    return buckets
