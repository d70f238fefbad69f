"""How random tests run: a new seed each time, printed at the top, `pytest --hypothesis-seed=N` runs that one again.

HYPOTHESIS_PROFILE=ci takes the same few examples every time, =thorough takes many.  `pytest --seeds 1000 tests/test_nn.py` runs every test that
takes `rng` with a thousand seeds: none may fail by chance.
"""

import contextlib
import os
import random
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

common = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("default", max_examples=10, **common)
settings.register_profile("ci", max_examples=6, derandomize=True, database=None, **common)
settings.register_profile("thorough", max_examples=200, **common)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = "0" if PROFILE == "ci" else str(random.SystemRandom().randrange(2**32))


def pytest_report_header(config):
    return f"random tests: HYPOTHESIS_PROFILE={PROFILE}, --hypothesis-seed={config.option.hypothesis_seed} gives the same again"


def pytest_addoption(parser):
    parser.addoption("--seeds", type=int, default=0, metavar="N", help="run every test that takes `rng` with the seeds 0 to N - 1")


def pytest_generate_tests(metafunc):
    if metafunc.config.option.seeds and "rng" in metafunc.fixturenames:
        metafunc.parametrize("rng", range(metafunc.config.option.seeds), indirect=True)


@pytest.fixture
def rng(request):
    """Random numbers from the seed that is printed at the top."""
    return np.random.default_rng(getattr(request, "param", int(request.config.option.hypothesis_seed)))


@pytest.fixture
def signals():
    """For tests that send signals: those that the suite itself was started to ignore, under nohup or in the background, are as usual."""
    ignored = [n for n in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)) if signal.getsignal(n) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def must_end():
    """`with must_end(): ...` fails what computes for a minute: what is guarded takes milliseconds, what it guards against takes hours, on any machine."""
    return _must_end if hasattr(signal, "setitimer") else contextlib.nullcontext


@contextlib.contextmanager
def _must_end():
    def too_long(number, frame):
        raise AssertionError("it computed for a minute")

    outer = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, 60)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, outer)
