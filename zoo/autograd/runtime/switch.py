"""With kernels or without: whether operations run their kernels (fast) or their definitions (to be read)."""

import contextlib
import functools
import os

from . import threads
from .messages import warn

FORKED = "this process was forked after kernels had run; it goes on without them, slowly. Start it with 'spawn' instead"

_enabled = os.environ.get("ZOO_KERNELS", "1") != "0"


def kernels_enabled():
    """Whether operations run their kernels, or their definitions (`ZOO_KERNELS=0`, `use_kernels(False)`, after a fork)."""
    return _enabled and not (threads.forked and _warn_of_fork())


@contextlib.contextmanager
def use_kernels(enabled):
    """Within this context, run kernels (True) or definitions (False)."""
    global _enabled
    before, _enabled = _enabled, bool(enabled)
    try:
        yield
    finally:
        _enabled = before


@functools.cache
def _warn_of_fork():
    warn(FORKED)
    return True
