"""Convolutions, pooling and losses are PyTorch's, with each of their settings: from a file always, beside PyTorch itself where it's installed."""

import numpy as np
import pytest
from torch_cases import CASES, REFERENCES, by_torch, by_us

from zoo.autograd.runtime import use_kernels


def assert_same(values, expected):
    for ours, theirs in zip(values, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.fixture(scope="module")
def references():
    with np.load(REFERENCES) as file:
        return dict(file)


def test_the_file_has_every_case(references):
    assert {name.partition("|")[0] for name in references} == set(CASES)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_file(name, kernels, references):
    with use_kernels(kernels):
        assert_same(by_us(name), [references[f"{name}|{i}"] for i in range(1 + len(CASES[name].arguments))])


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_torchs(name):
    pytest.importorskip("torch", reason="PyTorch comes with the extra `bench`")
    assert_same(by_us(name), by_torch(name))
