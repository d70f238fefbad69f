"""Whether other processes want this machine's cores: while they do, a kernel's tasks run one after the other on the calling thread.

Threads that share a loop are as slow as the last of them. One that loses its core to another process comes back after milliseconds, a
thousand times a short loop's work, and all others have waited for it: on a busy machine two threads took three to fifteen times as long as
one. The operating system counts how often it took a core from a thread that wasn't done (involuntary context switches), which is cheap to
ask for. Where it does so more often than about once in ten milliseconds of work, Linux is also asked how long the threads waited for a core:
an idle machine's interruptions are as many, but short. If they waited for a good part of the time, one thread is used for a while; if nobody
has disturbed that one, all are tried again.

Into how many tasks the work is cut doesn't change, and so neither does any result.
"""

from __future__ import annotations

import contextlib
import os
import time

try:
    import resource
except ImportError:  # Windows counts no switches
    resource = None  # type: ignore[assignment]

LOOK_NS = 10_000_000  # from one look at the counters to the next while all threads work
SHORTEST_REST_NS, LONGEST_REST_NS = 20_000_000, 640_000_000  # on one thread; twice as long each time that trying again went wrong
MIN_SWITCHES = 2  # since the last look, below which a rate says nothing
SWITCHES_PER_SECOND = 80  # of processor time, above which others may want the cores; a scheduler's slice is 3 to 6 ms
WAITED_SHARE = 0.2  # of the processor time, above which they do: two threads, which stand still together, lose a third of their time then
LOOK_SHARE = 50  # a look that takes long, at many threads, is followed by so many times as long without one


class Watch:
    """Looks at the counters now and then; between two looks it costs a glance at the clock."""

    def __init__(self, clock=time.perf_counter_ns, usage=None, waited=lambda: None):
        self.clock = clock
        self.usage = usage or _usage
        self.waited = waited  # seconds that the threads waited for a core; None where nobody counts them
        self.is_crowded = False
        self.rest = SHORTEST_REST_NS
        self.next_look = 0
        self.seen = self.usage()
        self.seen_waiting = self.seen[0], self.waited()

    def __call__(self) -> bool:
        """Whether the cores are wanted elsewhere."""
        now = self.clock()
        if now >= self.next_look:
            self._look(now)
        return self.is_crowded

    def _look(self, now: int) -> None:
        seconds, switches = self.usage()
        used, taken = seconds - self.seen[0], switches - self.seen[1]
        self.seen = seconds, switches
        disturbed = taken >= MIN_SWITCHES and taken > SWITCHES_PER_SECOND * used and self._waited_long(seconds)
        if disturbed:
            self.rest = min(LONGEST_REST_NS, 2 * self.rest)
        elif not self.is_crowded:  # all threads worked undisturbed
            self.rest = max(SHORTEST_REST_NS, self.rest // 2)
        self.is_crowded = disturbed
        self.next_look = now + max(self.rest if disturbed else LOOK_NS, LOOK_SHARE * (self.clock() - now))

    def _waited_long(self, seconds: float) -> bool:
        """Whether the threads waited for a good part of the time since this was asked last; True where nobody knows."""
        waited, (seconds_then, waited_then) = self.waited(), self.seen_waiting
        self.seen_waiting = seconds, waited
        return waited is None or waited_then is None or waited - waited_then > WAITED_SHARE * (seconds - seconds_then)


def _usage() -> tuple[float, int]:
    """Processor time of all threads of this process in seconds, and how often one of them lost its core before it was done."""
    if resource is None:
        return 0.0, 0
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_nivcsw


def _waited() -> float | None:
    """Seconds that the threads of this process were ready to run and had no core, as Linux counts them."""
    total = 0
    try:
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(FileNotFoundError), open(f"/proc/self/task/{thread}/schedstat", "rb") as file:  # it may have ended meanwhile
                total += int(file.read().split()[1])
    except (OSError, ValueError, IndexError):  # another system
        return None
    return total / 1e9 if total else None


is_crowded = Watch(waited=_waited)
