"""Fresh memory costs a page fault at every first touch, so the allocator is told to keep what was freed."""

import contextlib
import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # mallopt(3)


def keep_freed_memory():
    """Tell glibc to keep freed memory instead of returning it: without this, large arrays page-fault again at every step."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        if sys.platform == "linux" and os.confstr("CS_GNU_LIBC_VERSION"):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_THRESHOLD, 1 << 30)
            mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
            mallopt(M_TOP_PAD, 64 << 20)
