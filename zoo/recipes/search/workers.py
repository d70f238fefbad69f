"""Who runs the trials of a search: this process, some more on this machine, or the processes of an MPI run.

Each trial on this machine has a process of its own: one that is killed, by the system for want of memory say, takes no other with it.
"""

from __future__ import annotations

import multiprocessing
import traceback
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from .trials import Outcome, Task, run


class Workers(Protocol):
    n: int

    def submit(self, task: Task) -> None: ...
    def next(self) -> Outcome:
        """The next outcome; waits for it."""
    def close(self) -> None: ...


class Here:
    """One trial after the other, in this process."""

    n = 1

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def next(self) -> Outcome:
        return run(self.tasks.pop(0))

    def close(self) -> None:
        self.tasks.clear()


class Processes:
    """n processes on this machine.  `close` ends those that run, which leave checkpoints."""

    def __init__(self, n: int):
        self.n = n
        self.context = multiprocessing.get_context("spawn")  # a fork would share the threads of the engine
        self.running: dict[Connection, tuple[int, Any]] = {}

    def submit(self, task: Task) -> None:
        here, there = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_work, args=(task, there))
        process.start()
        there.close()
        self.running[here] = task.number, process

    def next(self) -> Outcome:
        ready: Any = wait(list(self.running))[0]
        number, process = self.running.pop(ready)
        try:
            outcome = ready.recv()
        except EOFError:
            process.join()
            outcome = Outcome(number, error=f"its process ended with status {process.exitcode}")
        ready.close()
        process.join()
        return outcome

    def close(self) -> None:
        for _, process in self.running.values():
            process.terminate()
        for connection, (_, process) in self.running.items():
            process.join()
            connection.close()
        self.running.clear()


def _work(task: Task, connection: Connection) -> None:
    try:
        outcome = run(task)
    except KeyboardInterrupt:  # Stopped: a checkpoint is written
        return
    except OSError as e:
        outcome = Outcome(task.number, error=str(e), ends_search=True)
    except Exception:
        outcome = Outcome(task.number, error=traceback.format_exc(), ends_search=True)
    connection.send(outcome)


class Ranks:
    """The other processes of `mpirun -n N python -m mpi4py.futures -m zoo search ... --mpi`."""

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
            from mpi4py.futures import MPIPoolExecutor
        except ImportError:
            raise ValueError("--mpi: mpi4py isn't installed (pip install 'numpy-zoo[mpi]')") from None
        self.n = MPI.COMM_WORLD.Get_size() - 1
        if self.n < 1:
            raise ValueError("--mpi: there is one process; begin the search with mpirun -n N python -m mpi4py.futures -m zoo search ..., "
                             "where N is one more than trials at a time")
        self.pool = MPIPoolExecutor()
        self.running: list[Any] = []

    def submit(self, task: Task) -> None:
        self.running.append(self.pool.submit(run, task))

    def next(self) -> Outcome:
        from concurrent.futures import FIRST_COMPLETED, wait

        done = next(iter(wait(self.running, return_when=FIRST_COMPLETED).done))
        self.running.remove(done)
        return done.result()

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
