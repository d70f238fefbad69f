"""A thread team: the threads of one task that do a piece of work together, with barriers in its midst, inside one parallel loop.

    @task
    def work(t, tasks, words, ...):                # words: WORDS int64 of zeros, fresh for every call
        member, team = join(t, tasks, words)       # part `member` of `team`; of 1 where the others haven't come
        if member >= team:
            return
        ...                                        # each its part
        barrier(team, words, 1)                    # from here on each sees what all have written; the next barrier is number 2

A pool may run its tasks one after the other, so nobody waits long for a thread that hasn't come yet.  One that sleeps takes 50 to 100
microseconds to come: for work of milliseconds give more looks.
"""

from .compiling import inner
from .native import count_arrival, look, publish, wait_until
from .tasks import word_at

LINE_WORDS = 8  # int64 in a line of a cache: no two words that threads watch share one
WORDS = 3 * LINE_WORDS  # how many have come; ALONE or TOGETHER, once it is known; how many have arrived at barriers
ALONE, TOGETHER = 1, 2
JOIN_LOOKS = 10000  # that the first thread takes for the others: a few microseconds while nobody writes


@inner
def join(t, tasks, words, looks=JOIN_LOOKS):
    """Which part of the work is the thread's, and of how many: of all where all have come within so many looks, else of one."""
    if tasks == 1:
        return 0, 1
    come, decision = words, word_at(words, LINE_WORDS)
    if count_arrival(come):
        return (t, tasks) if wait_until(decision, 1) == TOGETHER else (1, 1)
    for _ in range(looks):
        if look(come) == tasks:
            publish(decision, TOGETHER)
            return t, tasks
    publish(decision, ALONE)
    return 0, 1


@inner
def barrier(team, words, number):
    """Wait until all of the team are at barrier `number`, counted from 1."""
    if team > 1:
        arrived = word_at(words, 2 * LINE_WORDS)
        count_arrival(arrived)
        wait_until(arrived, team * number)
