"""Runs kernels: compiles them once per machine, gives them one pool of threads, BLAS inside it, and memory that is used again.

Five traps shaped this file, each worth a factor. Two pools of threads fight (NumPy's BLAS and Numba's loops each spin while the
other works), so there is one pool, OpenMP, and BLAS is called inside the loop on the calling thread. A tile that has just been
computed is in the cache, so bias and activation belong into the same loop as the product. `math.exp` in a loop is a scalar call, so
`expf` and its relatives are polynomials. Fresh memory costs a page fault at every first touch, so the allocator is told to keep
what was freed. And compile time is the user's time: nothing is compiled before it is called, and what was compiled is kept on disk.

    @inner
    def silu(x):
        return x * sigmoidf(x)

    @kernel
    def silu_rows(x, y):                 # compiled at the first call, for the types of its arguments
        for i in prange(x.shape[0]):     # in parallel
            for j in range(x.shape[1]):
                y[i, j] = silu(x[i, j])

Numba is imported by the first call of a kernel, not by this file. What `native` offers inside kernels (`gemm`, `matmul`, `expf`,
`uniform`, ...) and `prange` are named here, so that modules with kernels import them without importing Numba.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import pathlib
import sys
import tempfile
import threading
import types
import typing

# Not nnan and ninf: masks are -inf, and a NaN must show.
FAST_MATH = {"contract", "reassoc", "nsz", "arcp", "afn"}

_lock = threading.RLock()
_local = threading.local()


def _say(message):
    print(f"zoo: {message}", file=sys.stderr, flush=True)


# --- what a kernel is made of ------------------------------------------------------------------------------------------------


class Compiled:
    """A Python function that Numba compiles when it is first needed."""

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.function = function
        self.dispatcher = None

    def build(self):
        """The Numba dispatcher; what the function names in turn (other inner functions, `expf`, ...) is built before it."""
        with _lock:
            if self.dispatcher is None:
                self.dispatcher = self._build()
        return self.dispatcher

    def _build(self):
        import numba

        options = {"fastmath": FAST_MATH, "error_model": "numpy", "nogil": True}
        return numba.njit(**options, **self._options())(self._with_built_names())

    def _options(self):
        return {}

    def _with_built_names(self):
        f = self.function
        names = dict(f.__globals__)
        names.update({name: part.build() for name, part in self._parts().items()})
        copy = types.FunctionType(f.__code__, names, f.__name__, f.__defaults__, f.__closure__)
        copy.__qualname__, copy.__module__ = f.__qualname__, f.__module__
        return copy

    def _parts(self):
        return {n: v for n in _names(self.function.__code__) if isinstance(v := self.function.__globals__.get(n), Compiled | Native)}

    def digest(self):
        """A hash of all that the machine code depends on, so that a kernel on disk is never older than its source."""
        h = hashlib.sha256(_code_text(self.function.__code__).encode())
        for name in sorted(_names(self.function.__code__)):
            value = self.function.__globals__.get(name)
            if isinstance(value, Compiled | Native):
                h.update(value.digest().encode())
            elif not isinstance(value, types.ModuleType):
                h.update(f"{name}={value!r}{getattr(value, '_fields', '')}".encode())  # the fields of a struct
        return h.hexdigest()

    def __call__(self, *arguments):
        return self.build()(*arguments)


class Kernel(Compiled):
    """A function that Python calls; with `prange` in it, it runs on all threads of the pool."""

    def __init__(self, function):
        super().__init__(function)
        self.parallel = "prange" in _names(function.__code__)

    def _build(self):
        _start()
        dispatcher = super()._build()
        dispatcher._cache = _cache_for(dispatcher.py_func, self.digest())
        return dispatcher

    def _options(self):
        return {"parallel": self.parallel}

    def __call__(self, *arguments):
        if _forked:
            raise RuntimeError(_FORKED)
        run = self.dispatcher or self.build()
        if not self.parallel:
            return run(*arguments)
        if getattr(_local, "threads", None) != _threads:
            _set_numba_threads()
        if _one_at_a_time is None:
            return run(*arguments)
        with _one_at_a_time:
            return run(*arguments)


class Separate(Compiled):
    """A function that kernels call through its address.

    Numba optimises a function anew in everything that links it, a parallel kernel four times. A large one is compiled alone, and
    kernels find it by name.
    """

    def __init__(self, function, signature):
        super().__init__(function)
        self.signature = signature

    def _build(self):
        _start()
        import llvmlite.binding
        from numba import types as numba_types
        from numba.core import sigutils
        from numba.core.ccallback import CFunc

        signature = sigutils.normalize_signature(self.signature)
        options = {"fastmath": FAST_MATH, "error_model": "numpy", "nopython": True}
        compiled = CFunc(self._with_built_names(), signature, {}, options)
        compiled._cache = _cache_for(compiled._pyfunc, self.digest())
        compiled.compile()
        self.keep_alive = compiled
        symbol = f"zoo_{self.__name__}_{self.digest()}"
        llvmlite.binding.add_symbol(symbol, compiled.address)
        return numba_types.ExternalFunction(symbol, signature[1](*signature[0]))


_NATIVE = "zoo.autograd.runtime.native"


class Native:
    """A name of a module that imports Numba, under which a kernel's source can use it before that."""

    def __init__(self, name, module=f"{_NATIVE}.mathematics"):
        self.__name__, self.module = name, module

    def __call__(self, *arguments) -> typing.Any:
        raise TypeError(f"{self.__name__} is for the inside of kernels only")

    def build(self):
        return getattr(importlib.import_module(self.module), self.__name__)

    def digest(self):
        return _source_digest(self.module, f"{_NATIVE}.mathematics", f"{_NATIVE}.vectors")     # the latter two serve all the others


@functools.cache
def _source_digest(*modules):
    return hashlib.sha256(b"".join(pathlib.Path(importlib.util.find_spec(m).origin).read_bytes() for m in modules)).hexdigest()


def kernel(function):
    """Decorator: compile `function` with Numba at its first call, in parallel where it says `prange`, and keep it on disk.

    It may call functions marked `inner`, what this module names below, NumPy as far as Numba knows it, and read module constants.
    """
    return Kernel(function)


def inner(function):
    """Decorator: a small function that kernels call. Floating point is contracted and reassociated; NaN and infinities hold."""
    return Compiled(function)


def separate(signature):
    """Decorator: a large function of scalars that kernels call, compiled once for this signature: `"void(intp, float32)"`."""
    return lambda function: Separate(function, signature)


prange, address, keep_alive, copy_floats, clear_floats = map(Native, ("prange", "address", "keep_alive", "copy_floats", "clear_floats"))
gemm, matmul, matmul_transposed_a, matmul_transposed_b = map(Native, ("gemm", "matmul", "matmul_transposed_a", "matmul_transposed_b"))
expf, tanhf, sigmoidf, logf, erff = map(Native, ("expf", "tanhf", "sigmoidf", "logf", "erff"))
random_bits, uniform = Native("random_bits"), Native("uniform")


def _names(code):
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


def _code_text(code):
    constants = [_code_text(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_name, code.co_code.hex(), code.co_names, code.co_varnames, constants))


# --- kernels on disk -----------------------------------------------------------------------------------------------------------


@functools.cache
def _cache_folder():
    """Where compiled kernels live: one folder for each combination of versions, under the user's cache."""
    import llvmlite
    import numba

    versions = f"{sys.version} {numba.__version__} {llvmlite.__version__} {sorted(FAST_MATH)}".encode()
    home = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    root = pathlib.Path(home) if home else pathlib.Path.home() / ".cache"
    folder = root / "numpy-zoo" / hashlib.sha256(versions).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="numpy-zoo-"))
        _say(f"cannot keep compiled kernels in {root} ({error.strerror}); they go to {folder} for this run")
    return folder


@functools.cache
def _announce_once():
    _say("compiling kernels for this machine, once ...")


@functools.cache
def _warn_of_folder(reason):
    _say(f"cannot keep compiled kernels in {_cache_folder()} ({reason}); the next start compiles them again")


def _cache_for(function, digest):
    """Numba's cache of one function, but found by the digest of all its source rather than by the stamp of one file."""
    from numba.core import caching

    class Locator(caching._CacheLocator):
        @classmethod
        def from_function(cls, function, file):
            return cls()

        def get_cache_path(self):
            return str(_cache_folder())

        def get_source_stamp(self):
            return digest

        def get_disambiguator(self):
            return digest[:16]

    class Implementation(caching.FunctionCache._impl_class):
        _locator_classes = (Locator,)

    class Cache(caching.FunctionCache):
        _impl_class = Implementation

        def load_overload(self, *arguments):
            try:
                found = super().load_overload(*arguments)
            except Exception:       # whatever unpickling raises for a file that was cut short: it is written anew
                found = None
                with contextlib.suppress(OSError):
                    self.flush()
            if found is None:
                _announce_once()
            return found

        def save_overload(self, *arguments):
            try:
                super().save_overload(*arguments)
            except OSError as error:
                _warn_of_folder(error.strerror)

    return Cache(function)


# --- threads -------------------------------------------------------------------------------------------------------------------

_begun = _started = False
_one_at_a_time = None               # a lock where the pool can't be entered by two Python threads


def _available_threads():
    if "numba" in sys.modules:
        return sys.modules["numba"].config.NUMBA_NUM_THREADS
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _threads_asked_for("NUMBA_NUM_THREADS") or usable


def _threads_asked_for(variable):
    """The number that an environment variable gives; 0 where it gives none, or what isn't a number (Numba and OpenMP say so)."""
    asked = os.environ.get(variable, "").split(",")[0]
    return int(asked) if asked.isdecimal() else 0


def _default_threads():
    return min(_threads_asked_for("OMP_NUM_THREADS") or _available_threads(), _available_threads())


_threads = _default_threads()


def get_threads():
    """How many threads a kernel runs on."""
    return _threads


def set_threads(n):
    """Let kernels run on n threads, 1 up to the number of cores."""
    global _threads
    available = _available_threads()
    if isinstance(n, bool) or not hasattr(n, "__index__") or not 1 <= n <= available:
        raise ValueError(f"set_threads: n must be an integer from 1 to {available} (this machine's cores), got {n!r}")
    _threads = int(n)


def _set_numba_threads():
    import numba

    numba.set_num_threads(min(_threads, numba.config.NUMBA_NUM_THREADS))      # Numba keeps this number for each Python thread
    _local.threads = _threads


def _start():
    """Start the one pool of threads, and hold the BLAS that kernels call at one thread."""
    global _begun, _started
    with _lock:
        if not _started:
            _begun = True
            _let_forks_wait()
            _start_pool()
            _hold_blas()
            _started = True


def _start_pool():
    global _one_at_a_time
    import numba
    from numba.np.ufunc import parallel

    if not parallel._is_initialized:
        asked = numba.config.THREADING_LAYER
        for layer in ("omp", "tbb", "workqueue") if asked == "default" else (asked, "workqueue"):
            numba.config.THREADING_LAYER = layer
            with contextlib.suppress(ValueError, ImportError):
                parallel._launch_threads()
                break
        numba.config.THREADING_LAYER = asked
    if numba.threading_layer() == "workqueue":
        _one_at_a_time = _lock
        _say("no OpenMP here: kernels run on Numba's own threads, which start more slowly (install libomp or libgomp)")


def _hold_blas():
    """One thread for SciPy's BLAS, which only kernels and SciPy itself call; NumPy's stays as the user has it."""
    import scipy.linalg.cython_blas  # noqa: F401  (loads the library that is held)
    from threadpoolctl import ThreadpoolController

    libraries = [x for x in ThreadpoolController().lib_controllers if x.user_api == "blas"]
    own = [x for x in libraries if "scipy" in pathlib.Path(x.filepath).parent.name]
    for library in own or libraries:
        library.set_num_threads(1)


# --- with or without kernels -----------------------------------------------------------------------------------------------------

_enabled = os.environ.get("ZOO_KERNELS", "1") != "0"
_forked = False
_FORKED = "this process was forked after kernels had run; it goes on without them, slowly. Start it with 'spawn' instead"


def kernels_enabled():
    """Whether operations run their kernels (fast) or their definitions (`ZOO_KERNELS=0`, `use_kernels(False)`, after a fork)."""
    return _enabled and not (_forked and _warn_of_fork())


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
    _say(_FORKED)
    return True


def _let_forks_wait():
    """From now on a fork waits until the kernel that another thread makes is there: its child would wait without end for what that was importing.

    These two modules hold locks while a fork is made, which the maker may need; of several such hooks the last to be registered goes first.
    """
    import concurrent.futures.thread  # noqa: F401
    import logging  # noqa: F401

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lambda: _lock.acquire(timeout=60), after_in_parent=_release)


def _release():
    with contextlib.suppress(RuntimeError):     # it was waited for in vain
        _lock.release()


def _after_fork():
    global _lock, _forked
    _lock = threading.RLock()       # whoever held it stayed in the parent
    _forked = _begun                # OpenMP doesn't survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# --- memory --------------------------------------------------------------------------------------------------------------------


def _keep_freed_memory():
    """Tell glibc to keep freed memory instead of returning it: without this, large arrays page-fault anew on every step."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        if sys.platform == "linux" and os.confstr("CS_GNU_LIBC_VERSION"):
            mallopt = ctypes.CDLL(None).mallopt
            mmap_threshold, trim_threshold, top_pad = -3, -1, -2
            mallopt(mmap_threshold, 1 << 30)
            mallopt(trim_threshold, (1 << 31) - 1)
            mallopt(top_pad, 64 << 20)


_keep_freed_memory()
