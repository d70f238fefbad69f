"""A crew: the threads of one task that do a piece of work together and meet in its midst, inside one parallel loop.

    @task
    def work(t, tasks, words, ...):                # words: WORDS int64 of zeros, fresh for every call
        me, crew = gather(t, tasks, words)         # part `me` of `crew`; of 1 where the others haven't come
        if me >= crew:
            return
        ...                                        # each its part
        meet(crew, words, 1)                       # from here on each sees what all have written; the next meeting is number 2

A pool may run its tasks one after the other, so nobody waits for a thread that hasn't come yet.
"""

from .compiling import Native, inner

arrive, tell, look, wait_for = (Native(name, "zoo.autograd.runtime.native.team") for name in ("arrive", "tell", "look", "wait_for"))

LINE = 8  # words between those that threads watch, so that no two share a line of a cache
WORDS = 3 * LINE  # how many have come; ALONE or TOGETHER, once it is known; how many have arrived at meetings
ALONE, TOGETHER = 1, 2
PATIENCE = 10000  # looks that the first thread takes for the others: a microsecond while nobody writes


@inner
def gather(t, tasks, words):
    """Which part of the work is the thread's, and of how many: of all where all have come within microseconds, else of one."""
    if tasks == 1:
        return 0, 1
    if arrive(words):
        return (t, tasks) if wait_for(words + 8 * LINE, 1) == TOGETHER else (1, 1)
    for _ in range(PATIENCE):
        if look(words) == tasks:
            tell(words + 8 * LINE, TOGETHER)
            return t, tasks
    tell(words + 8 * LINE, ALONE)
    return 0, 1


@inner
def meet(crew, words, times_met):
    """Wait until all of the crew are here for the so-manyth time."""
    if crew > 1:
        arrive(words + 16 * LINE)
        wait_for(words + 16 * LINE, crew * times_met)
