"""How random tests run: a new seed each time, printed at the top, `pytest --hypothesis-seed=N` runs that one again.

HYPOTHESIS_PROFILE=ci takes the same few examples every time, =thorough takes many.  `pytest --seeds 1000 tests/test_nn.py` runs every test that
takes `rng` with a thousand seeds: none may fail by chance.
"""

import os
import random

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
