"""How random tests run: a new seed each time, printed at the top, `pytest --hypothesis-seed=N` runs that one again.

HYPOTHESIS_PROFILE=ci takes the same few examples every time, =thorough takes many.
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


@pytest.fixture
def rng(request):
    """Random numbers from the seed that is printed at the top."""
    return np.random.default_rng(int(request.config.option.hypothesis_seed))
