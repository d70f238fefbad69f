"""Training on many processes at once: each has the whole model and a share of every batch, and all gradients are added up (MPI).

    mpirun -n 4 zoo train diffusion            or            zoo train diffusion --ranks 4

Why that equals one process with the whole batch: the loss of a batch is a mean over its rows, L = 1/n sum L_i, so its gradient is the mean
of the rows' gradients, in whatever order and on whatever machine they are computed.  Rank r of R computes the mean over its own n_r rows,
weighs it by n_r / n, and the sum over ranks is the gradient of the whole (float32 rounding aside, since sums are taken in another order).

Three things have to be the same as in one process for that, and this file sees to them:
  * which rows: rank r has rows r, r + R, r + 2 R, ... of the batch (`Ranks.share`);
  * what is drawn: each rank draws for the whole batch and takes its rows (`Ranks.draws`);
  * what a row's gradient depends on: batch norm's statistics are those of the whole batch (`Ranks.add_up`, through `nn.BatchNorm`).
Whether a model needs a fourth is found out by the first step, which is computed both ways (`Trainer`).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from ..autograd import primitive

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS")  # by which mpirun tells a process how many there are


class Ranks:
    """The processes of a run, of which this is one: `rank` of `size`; `Ranks()` is a process alone."""

    def __init__(self, communicator: Any = None):
        self.communicator = communicator
        self.rank = 0 if communicator is None else communicator.Get_rank()
        self.size = 1 if communicator is None else communicator.Get_size()
        self.current_weight = 1.0  # of this rank in the step that is running

    @classmethod
    def piece(cls, number: int, of: int) -> Ranks:
        """One of several pieces of a batch that a single process computes one after the other."""
        piece = cls()
        piece.rank, piece.size = number, of
        return piece

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes, prints and evaluates."""
        return self.rank == 0

    # --- a batch

    def rows(self, n: int) -> slice:
        """Which of n rows are this rank's.  ValueError where there are fewer rows than ranks."""
        if n < self.size:
            raise ValueError(f"ranks: there are {self.size} for a batch of {n} rows; each needs at least one")
        return slice(self.rank, n, self.size)

    def share(self, batch: Any, parts: int = 1) -> Any:
        """This rank's rows of a batch: of an array, or of all arrays and lists of a tuple, a dictionary or a dataclass.

        parts: of the batch, of equal length, that a step uses one after the other; a rank has its rows of each.
        """
        if self.size == 1:
            return batch
        n = rows_of(batch)
        rows = self.rows(n // parts)
        return _taken(batch, rows if parts == 1 else np.arange(n // parts * parts).reshape(parts, -1)[:, rows].ravel(), n)

    def weight(self, n: int) -> float:
        """This rank's share of a batch of n rows, as a number; over all ranks they add up to 1."""
        return len(range(n)[self.rows(n)]) / n

    def draws(self, rng: Generator, n: int) -> Generator:
        """A generator that draws for all n rows of a batch and hands out this rank's."""
        return rng if self.size == 1 else ShareOfDraws(rng, n, self.rows(n))  # type: ignore[return-value]

    # --- what `nn.whole_batch` offers to layers whose rows depend on each other

    def sum(self, x: Any) -> Any:
        """The sum of a tensor over all ranks; its gradient is that of the whole batch's loss."""
        return _sum_over_ranks()(x, ranks=self)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The rows of all ranks in the batch's order: (n_r, ...) -> (n, ...)."""
        pieces = self.communicator.allgather(rows)
        whole = np.empty((sum(map(len, pieces)), *rows.shape[1:]), rows.dtype)
        for rank, piece in enumerate(pieces):
            whole[rank :: self.size] = piece
        return whole

    # --- numbers

    def add_up(self, x: np.ndarray) -> np.ndarray:
        """The sum of an array over all ranks, in place."""
        if self.size > 1:
            from mpi4py import MPI

            self.communicator.Allreduce(MPI.IN_PLACE, x, op=MPI.SUM)
        return x

    def agree(self, value: Any) -> Any:
        """The first rank's value, on all."""
        return value if self.size == 1 else self.communicator.bcast(value, root=0)

    def any(self, value: Any) -> Any:
        """The first value that isn't false, by rank; the same on all."""
        return value if self.size == 1 else next(filter(None, self.communicator.allgather(value)), value)

    def check_same(self, name: str, value: Any) -> None:
        """Raise ValueError on all ranks unless all have the same value."""
        values = [value] if self.size == 1 else self.communicator.allgather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise ValueError(f"ranks: {name} is {values[0]!r} on rank 0 and {other!r} on rank {rank}; all must have the same")

    def mean(self, figures: Mapping[str, float], weight: float) -> dict[str, float]:
        """The mean of each figure over ranks, each counted by its weight."""
        if self.size == 1:
            return dict(figures)
        values = self.add_up(np.array([weight * float(value) for value in figures.values()]))
        return dict(zip(figures, values.tolist()))


def started_by_mpi() -> Ranks:
    """The ranks that mpirun has started, or this process alone.  ValueError where they were started and mpi4py is missing."""
    size = next((int(os.environ[name]) for name in SIZES if os.environ.get(name, "").isdecimal()), 1)
    if size == 1:
        return Ranks()
    try:
        from mpi4py import MPI
    except ImportError as e:
        raise ValueError(f"ranks: mpirun started {size} processes, but mpi4py isn't installed (pip install 'numpy-zoo[mpi]'): {e}") from e
    return Ranks(MPI.COMM_WORLD)


def launch(n: int, arguments: Sequence[str], threads: int, show: Callable[[str], Any] | None = None) -> int:
    """Run `zoo` with these arguments as n processes, each on this many threads; the exit status, 0 if all went well.

    show: is given what they print, if all went well: what MPI has to say about the end of a process goes the same way.
    ValueError where mpi4py or mpiexec is missing.  Where a process dies, the others are ended, and the status is not 0.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise ValueError("--ranks: mpi4py isn't installed (pip install 'numpy-zoo[mpi]')")
    beside = Path(sys.executable).with_name("mpiexec")  # MPICH's wheel puts it there
    command = str(beside) if beside.exists() else shutil.which("mpiexec")
    if command is None:
        raise ValueError("--ranks: there is no mpiexec here; MPICH and Open MPI have one (pip install mpich)")
    of_open_mpi = "Open MPI" in subprocess.run([command, "--version"], capture_output=True, text=True).stdout
    environment = {**os.environ, "ZOO_THREADS": str(threads)}
    process = subprocess.Popen([command, *(["--oversubscribe"] if of_open_mpi else []), "-n", str(n), sys.executable, "-m", "zoo", *arguments],
                               env=environment, stdout=subprocess.DEVNULL if show is None else subprocess.PIPE, text=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # the ranks end by themselves, and say so; a terminal's Ctrl-C reaches them too
        signal.signal(number, lambda number, _: process.send_signal(number) if number == signal.SIGTERM else None)
    printed = process.communicate()[0]
    if show is not None and process.returncode == 0:
        show(printed)
    return process.returncode


# --- rows


def rows_of(batch: Any) -> int:
    """How many rows a batch has."""
    parts = _parts(batch)
    if parts is None:
        return len(batch)
    return next(rows_of(part) for part in parts if part is not None)


def _parts(batch: Any) -> list[Any] | None:
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return [getattr(batch, field.name) for field in dataclasses.fields(batch)]
    if isinstance(batch, Mapping):
        return list(batch.values())
    return list(batch) if isinstance(batch, tuple) and any(isinstance(part, np.ndarray) for part in batch) else None


@functools.cache
def _sum_over_ranks() -> Any:
    @primitive
    def sum_over_ranks(x, *, ranks):
        """y = the sum of x over all ranks"""
        return ranks.add_up(x.copy())

    @sum_over_ranks.derivatives
    def _(g, _y, _x, *, ranks):
        weight = np.float32(ranks.current_weight)  # L = sum of w_r L_r, so dL/dx is the sum of w_r g_r; the trainer multiplies by w_r again
        return sum_over_ranks(g * weight, ranks=ranks) / weight

    return sum_over_ranks


def _taken(batch: Any, rows: slice | np.ndarray, n: int) -> Any:
    if batch is None:
        return None
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return dataclasses.replace(batch, **{field.name: _taken(getattr(batch, field.name), rows, n) for field in dataclasses.fields(batch)})
    if isinstance(batch, Mapping):
        return {name: _taken(part, rows, n) for name, part in batch.items()}
    if _parts(batch) is not None:
        return tuple(_taken(part, rows, n) for part in batch)
    if not isinstance(batch, (list, tuple)) and np.ndim(batch) == 0:
        return batch  # a flag
    if len(batch) != n:
        raise ValueError(f"ranks: a batch has a part of {len(batch)} rows beside one of {n}")
    if isinstance(batch, np.ndarray):
        return np.ascontiguousarray(batch[rows])
    return batch[rows] if isinstance(rows, slice) else [batch[i] for i in rows]


class ShareOfDraws:
    """Stands in for a Generator whose draws have a row for each row of the batch: it draws them all and hands out some.

    Which axis the rows are along is seen by its length; draws without such an axis are the same for all ranks.
    """

    def __init__(self, rng: Generator, n: int, rows: slice):
        self.rng, self.n, self.rows = rng, n, rows
        self.count = len(range(n)[rows])

    def _draw(self, draw: Any, size: Any) -> Any:
        shape = (size,) if isinstance(size, (int, np.integer)) else tuple(size or ())
        several_draws = bool(shape) and shape[0] > self.count > 2 and shape[0] % self.count == 0  # whatever the other axes are as long as
        if self.count in shape and not several_draws:
            axis = shape.index(self.count)
            whole = draw((*shape[:axis], self.n, *shape[axis + 1:]))
            return np.ascontiguousarray(whole[(slice(None),) * axis + (self.rows,)])
        if shape and shape[0] and shape[0] % self.count == 0:  # several draws for each row
            several = shape[0] // self.count
            whole = draw((self.n * several, *shape[1:])).reshape((self.n, several, *shape[1:]))
            return np.ascontiguousarray(whole[self.rows]).reshape(shape)
        return draw(size)

    def random(self, size: Any = None, dtype: Any = np.float64) -> Any:
        return self._draw(lambda size: self.rng.random(size, dtype), size)

    def standard_normal(self, size: Any = None, dtype: Any = np.float64) -> Any:
        return self._draw(lambda size: self.rng.standard_normal(size, dtype), size)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        return self._draw(lambda size: self.rng.normal(loc, scale, size), size)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return self._draw(lambda size: self.rng.uniform(low, high, size), size)

    def integers(self, low: Any, high: Any = None, size: Any = None, dtype: Any = np.int64, endpoint: bool = False) -> Any:
        return self._draw(lambda size: self.rng.integers(low, high, size, dtype, endpoint), size)

    def choice(self, a: Any, size: Any = None, replace: bool = True, p: Any = None) -> Any:
        return self._draw(lambda size: self.rng.choice(a, size, replace, p), size)

    def row_numbers(self) -> np.ndarray:
        """Where this rank's rows are in the batch."""
        return np.arange(self.n)[self.rows]
