"""Whether other processes want this machine's cores: while they do, a kernel's tasks run one after the other on the calling thread.

Threads that share a loop are as slow as the last of them. One that loses its core to another process comes back after milliseconds, a
thousand times a short loop's work, and all others have waited for it: on a busy machine two threads took three to fifteen times as long as
one. Linux counts for each thread how long it was ready to run and had no core. Other systems only count how often they took a core from a
thread that wasn't done (involuntary context switches), of which an idle machine has some too. If the threads of this process waited for a
good part of the time, one thread is used for a while; if nobody has disturbed that one, all are tried again.

Into how many tasks the work is cut doesn't change, and so neither does any result.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import NamedTuple

try:
    import resource
except ImportError:  # Windows counts no switches
    resource = None  # type: ignore[assignment]

LOOK_NS = 10_000_000  # from one look at the counters to the next while all threads work
SHORTEST_REST_NS, LONGEST_REST_NS = 20_000_000, 640_000_000  # on one thread; twice as long each time that trying again went wrong
PAUSE_NS = 50_000_000  # nobody looked for so long after it was time to: no kernel ran, and what was counted meanwhile says nothing
LOOK_SHARE = 50  # a look that takes long, at many threads, is followed by so many times as long without one
RELIST_LOOKS = 20  # between two looks at which threads there are


class Counter(NamedTuple):
    """Where a system says how much the threads of this process are disturbed."""

    read: Callable[[], tuple[float, float] | None]  # seconds of processor time, and disturbances, since some moment; None: it can't tell
    rate: float  # disturbances for each second of processor time above which others want the cores
    least: float  # disturbances between two looks, below which a rate says nothing


class Watch:
    """Looks at a counter now and then; between two looks it costs a glance at the clock."""

    def __init__(self, counters: list[Counter], clock=time.perf_counter_ns):
        self.counters = counters  # the first that can tell is asked
        self.clock = clock
        self.is_crowded = False
        self.rest = SHORTEST_REST_NS
        self.next_look = 0
        self.seen: tuple[float, float] | None = None

    def __call__(self) -> bool:
        """Whether the cores are wanted elsewhere."""
        now = self.clock()
        if now >= self.next_look:
            if now > self.next_look + PAUSE_NS:
                self.is_crowded, self.rest, self.seen = False, SHORTEST_REST_NS, None  # who disturbed then may be gone: begin anew
            self._look(now)
        return self.is_crowded

    def _look(self, now: int) -> None:
        began = time.thread_time_ns()  # without the time for which another process had this core
        is_disturbed = self._is_disturbed()
        if is_disturbed:
            self.rest = min(LONGEST_REST_NS, 2 * self.rest)
        elif not self.is_crowded:  # all threads worked undisturbed
            self.rest = max(SHORTEST_REST_NS, self.rest // 2)
        self.is_crowded = is_disturbed
        self.next_look = now + max(self.rest if is_disturbed else LOOK_NS, LOOK_SHARE * (time.thread_time_ns() - began))

    def _is_disturbed(self) -> bool:
        """Whether the threads were disturbed since the last look."""
        while self.counters:
            counter, counts = self.counters[0], self.counters[0].read()
            if counts is not None:
                before, self.seen = self.seen or counts, counts
                used, disturbed = counts[0] - before[0], counts[1] - before[1]
                return disturbed >= counter.least and disturbed > counter.rate * used
            self.counters, self.seen = self.counters[1:], None  # it can't tell: the next one
        return False


class WaitedFor:
    """Called, the seconds that this process's threads have computed, and those that they have waited for a core, as Linux counts them."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}  # thread -> its counters, held open: to open one takes ten times as long as to read it
        self.looks = 0

    def __call__(self) -> tuple[float, float] | None:
        if self.looks % RELIST_LOOKS == 0:
            self._list()
        self.looks += 1
        computed = waited = 0
        for thread, file in list(self.files.items()):
            try:
                numbers = os.pread(file, 64, 0).split()
                computed, waited = computed + int(numbers[0]), waited + int(numbers[1])
            except OSError:  # it has ended
                self._close(thread)
            except (ValueError, IndexError):  # somebody has closed all files, and another has the number now
                self.files.pop(thread, None)
        return (computed / 1e9, waited / 1e9) if computed else None

    def _list(self) -> None:
        with contextlib.suppress(OSError):  # another system
            threads = set(os.listdir("/proc/self/task"))
            for ended in self.files.keys() - threads:
                self._close(ended)
            for new in threads - self.files.keys():
                with contextlib.suppress(FileNotFoundError):
                    self.files[new] = os.open(f"/proc/self/task/{new}/schedstat", os.O_RDONLY)

    def _close(self, thread: str) -> None:
        file = self.files.pop(thread, None)
        if file is not None:
            with contextlib.suppress(OSError):
                os.close(file)


def _switches() -> tuple[float, float] | None:
    """Processor time of all threads of this process in seconds, and how often one of them lost its core before it was done."""
    if resource is None:
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_nivcsw


COUNTERS = [
    Counter(WaitedFor(), rate=0.2, least=0.001),  # two threads, which stand still together, lose a third of their time then
    Counter(_switches, rate=80, least=2),  # a scheduler's slice is 3 to 6 ms
]
is_crowded = Watch(COUNTERS)
