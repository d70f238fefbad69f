"""Compiled kernels on disk: compile time is the user's time, so each kernel is compiled once for each machine.

A kernel is found by the digest of all its source, so that what lies on disk is never older than the source.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import sys
import tempfile

from .messages import warn


def cache_for(function, digest, options):
    """Numba's cache of one function, found by the digest of all its source rather than by the stamp of one file.

    options: a text that, besides the versions of Python, Numba and LLVM, decides what machine code a source becomes.
    """
    from numba.core import caching

    class Locator(caching._CacheLocator):
        @classmethod
        def from_function(cls, function, file):
            return cls()

        def get_cache_path(self):
            return str(_folder(options))

        def get_source_stamp(self):
            return digest

        def get_disambiguator(self):
            return digest[:16]

    class Implementation(caching.CompileResultCacheImpl):
        _locator_classes = [Locator]  # type: ignore[list-item]

    class Cache(caching.FunctionCache):
        _impl_class = Implementation

        def _index_key(self, signature, codegen):
            """Without what a closure holds: the digest knows it, and Numba's own key for it is another one in every process."""
            return signature, codegen.magic_tuple()

        def load_overload(self, signature, target_context):
            """Without Numba's `refresh()`, which is for typing and takes a fifth of a warm start; of it, what machine code calls is needed."""
            machine_code = None
            try:
                _name_memory_functions()
                with self._guard_against_spurious_io_errors():
                    machine_code = self._load_overload(signature, target_context)
            except Exception:       # whatever unpickling raises for a file that was cut short: it is written again
                with contextlib.suppress(OSError):
                    self.flush()
            if machine_code is None:
                _announce_once()
            return machine_code

        def save_overload(self, *arguments):
            try:
                super().save_overload(*arguments)
            except OSError as error:
                _warn_once(f"cannot keep compiled kernels in {_folder(options)} ({error.strerror}); the next start compiles them again")

    return Cache(function)


@functools.cache
def _name_memory_functions():
    """Let machine code that was loaded find what allocates memory: Numba says where it is when it first compiles something."""
    import llvmlite.binding
    from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]

    for name, place in _nrt_python.c_helpers.items():
        llvmlite.binding.add_symbol(name if name.startswith("_") else f"NRT_{name}", place)


@functools.cache
def _folder(options):
    """Where compiled kernels live: one folder for each combination of versions, under the user's cache."""
    import llvmlite
    import numba

    versions = f"{sys.version} {numba.__version__} {llvmlite.__version__} {options}".encode()
    chosen = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    root: pathlib.Path | str = "the home folder"
    try:
        root = pathlib.Path(chosen) if chosen else pathlib.Path.home() / ".cache"
        folder = root / "numpy-zoo" / hashlib.sha256(versions).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError) as error:        # RuntimeError: nobody says where the home folder is
        folder = pathlib.Path(tempfile.mkdtemp(prefix="numpy-zoo-"))
        warn(f"cannot keep compiled kernels in {root} ({getattr(error, 'strerror', None) or error}); they go to {folder} for this run")
    return folder


@functools.cache
def _announce_once():
    warn("compiling kernels for this machine, once ...")


@functools.cache
def _warn_once(message):
    warn(message)
