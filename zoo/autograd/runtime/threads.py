"""The one pool of threads that kernels run on: how many there are, how it starts, and what becomes of it when a process forks.

Two pools fight: NumPy's BLAS and Numba's loops each spin while the other works.  So there is one, OpenMP's, and BLAS is called inside its
loops, on the thread that calls it.
"""

import contextlib
import ctypes
import os
import pathlib
import sys
import threading
import typing

from . import quota
from .extensions import extension
from .messages import warn
from .scipy_blas import function_address

WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}  # by these a user decides how OpenMP's threads wait
SPINS = "10000"                     # looks of GNU's OpenMP at a word: 0.1 to 0.5 ms, longer than Python takes from one kernel to the next

lock = threading.RLock()            # held while a kernel is compiled and while the pool starts
one_at_a_time = None                # a lock where the pool can't be entered by two Python threads
parallel_for = 0                    # the address of the pool's C function of that name, once it has started
forked = False                      # whether this process is the child of one whose pool had started
_pool_starting = _pool_ready = False


# --- how many


def available_threads():
    """The cores that this process may run on, or what Numba was told instead."""
    if "numba" in sys.modules:
        return _numba_config().NUMBA_NUM_THREADS
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _number_in_environment("NUMBA_NUM_THREADS") or usable


def _numba_config() -> typing.Any:      # its names are set while it runs
    return sys.modules["numba"].config


def _number_in_environment(variable):
    """The number that an environment variable gives; 0 where it gives none."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"the environment variable {variable} is {text!r}; it is a number of threads, 1 or more")
    return int(text)


def _openmp_threads():
    """What OMP_NUM_THREADS says, the first of its numbers; 0 where it says nothing that OpenMP would take."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(text) if text.isdecimal() else 0


def _default_threads():
    """What ZOO_THREADS says; else one for each core, fewer where OpenMP is told so or a container may use less of them."""
    available = available_threads()
    asked_for = _number_in_environment("ZOO_THREADS")
    if asked_for > available:
        raise ValueError(f"the environment variable ZOO_THREADS is {asked_for}; this process may use {available} cores")
    return asked_for or min(available, _openmp_threads() or available, quota.cores() or available)


_count = 0                          # 0: not known yet


def get_threads():
    """How many threads a kernel runs on."""
    global _count
    if not _count:
        _count = _default_threads()
    return _count


def set_threads(n):
    """Let kernels run on n threads, 1 up to the number of cores."""
    global _count
    available = available_threads()
    if isinstance(n, bool) or not hasattr(n, "__index__") or not 1 <= n <= available:
        raise ValueError(f"set_threads: n must be an integer from 1 to {available} (this machine's cores), got {n!r}")
    _count = int(n)


# --- the pool


def start():
    """Start the pool, once, and hold the BLAS that kernels call at one thread."""
    global _pool_starting, _pool_ready
    with lock:
        if not _pool_ready:
            _pool_starting = True
            _let_forks_wait()
            _start_pool()
            _hold_blas()
            _pool_ready = True


def _start_pool():
    """One of the three pools that come with Numba: OpenMP's, which needs no Numba, unless that isn't here or the user has asked for another."""
    global one_at_a_time, parallel_for
    asked_for = _numba_config().THREADING_LAYER if "numba" in sys.modules else os.environ.get("NUMBA_THREADING_LAYER", "default")
    if asked_for in ("default", "omp"):
        with contextlib.suppress(ImportError), _brief_waits():
            pool = extension("numba.np.ufunc.omppool")
            ctypes.CFUNCTYPE(None, ctypes.c_int)(pool.launch_threads)(available_threads())
            parallel_for = pool.parallel_for
    if not parallel_for:
        _start_pool_of_numba(asked_for)


def _start_pool_of_numba(asked_for):
    global one_at_a_time, parallel_for
    import llvmlite.binding
    import numba
    from numba.np.ufunc import parallel

    if not parallel._is_initialized:
        config = _numba_config()
        for layer in ("tbb", "workqueue") if asked_for == "default" else (asked_for, "workqueue"):
            config.THREADING_LAYER = layer
            with contextlib.suppress(ValueError, ImportError), _brief_waits():
                parallel._launch_threads()
                break
        config.THREADING_LAYER = asked_for
    parallel_for = llvmlite.binding.address_of_symbol("numba_parallel_for")
    if numba.threading_layer() == "workqueue":
        one_at_a_time = lock
        warn("no OpenMP here: kernels run on Numba's own threads, which start more slowly (install libomp or libgomp)")


@contextlib.contextmanager
def _brief_waits():
    """Threads that wait for work, or for each other, watch for some microseconds and then sleep, unless the user has said otherwise.

    OpenMP's own default is to watch for milliseconds or more, which keeps a core from others.  Its libraries read the environment when they
    are loaded.
    """
    ours = {} if WAITING & os.environ.keys() else {"GOMP_SPINCOUNT": SPINS, "KMP_BLOCKTIME": "1"}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _hold_blas():
    """One thread for SciPy's BLAS, which only kernels and SciPy itself call; NumPy's stays as the user has it."""
    before = os.environ.get("KMP_DUPLICATE_LIB_OK")
    from threadpoolctl import ThreadpoolController

    if before is None:
        os.environ.pop("KMP_DUPLICATE_LIB_OK", None)  # which threadpoolctl sets for everybody
    function_address("sgemm")  # loads the library that is held
    libraries = [x for x in ThreadpoolController().lib_controllers if x.user_api == "blas"]
    of_scipy = [x for x in libraries if "scipy" in pathlib.Path(x.filepath).parent.name]
    for library in of_scipy or libraries:
        library.set_num_threads(1)
    _touch_memory_of_blas()


def _touch_memory_of_blas():
    """Let each thread's first product in BLAS be one that fills its memory.

    OpenBLAS maps 32 MB for each caller and copies a matrix to their beginning; its loops fetch ahead beyond that. A fetch from a page that
    nothing has been written to yet finds no memory and is repeated each time: small products took three times as long in a process that had
    made no large one (OpenBLAS 0.3.30, a virtual machine on Zen 1). More rows than OpenBLAS takes at a time fill enough.
    """
    sgemm = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(function_address("sgemm"))
    m, n, k = 1024, 64, 256             # column by column
    zeros = (ctypes.c_float * (m * k))()
    letter, one = ctypes.c_char(b"N"), ctypes.c_float(1)
    sizes = [ctypes.c_int(size) for size in (m, n, k)]
    callers = available_threads()
    together = threading.Barrier(callers)    # BLAS gives memory by how many are calling

    def call():
        result = (ctypes.c_float * (m * n))()
        arguments: typing.Any = letter, letter, *sizes, one, zeros, sizes[0], zeros, sizes[2], one, result, sizes[0]
        together.wait()
        sgemm(*map(ctypes.addressof, arguments))

    team = [threading.Thread(target=call) for _ in range(callers)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()


# --- forks


def _let_forks_wait():
    """From now on a fork waits for a kernel that another thread is compiling: a child forked in mid-import would deadlock on the import lock.

    These two modules hold locks while a fork is made, which the compiling thread may need; of several such hooks the last to be registered
    goes first.
    """
    import concurrent.futures.thread  # noqa: F401
    import logging  # noqa: F401

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lambda: lock.acquire(timeout=60), after_in_parent=_release)


def _release():
    with contextlib.suppress(RuntimeError):     # the wait timed out, so the lock isn't ours
        lock.release()


def _after_fork():
    global lock, forked
    lock = threading.RLock()        # whoever held it stayed in the parent
    forked = _pool_starting         # OpenMP doesn't survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
