"""What ranks exchange: gradients as soon as they are complete, and the weights of an optimiser whose state is cut into shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import autograd as ops
from zoo.autograd import Tensor
from zoo.autograd.runtime.switch import use_kernels
from zoo.nn import Linear
from zoo.optim import SGD, Adam, AdamW, Muon
from zoo.training.exchange import buckets_of

# --- backward says when a gradient is complete


def network(seed=0):
    rng = np.random.default_rng(seed)
    layers = [Linear(6, 6, rng=rng) for _ in range(4)]
    return layers, [p for layer in layers for p in layer.parameters()]


def loss_of(layers, x):
    h = x
    for layer in (*layers, layers[1]):  # one of them twice
        h = ops.tanh(layer(h)) + h
    return (h * h).mean() + (layers[0].bias * layers[0].bias).sum()


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("before", [False, True])
def test_a_gradient_is_complete_when_backward_says_so(kernels, before):
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    with use_kernels(kernels):
        layers, parameters = network()
        for _ in range(1 + before):
            loss_of(layers, x).backward()
        expected = [p.grad.copy() for p in parameters]
        layers, parameters = network()
        if before:
            loss_of(layers, x).backward()
        told = {}

        def done(p):
            assert id(p) not in told
            told[id(p)] = p.grad.copy()

        loss_of(layers, x).backward(done=done)
    assert len(told) == len(parameters)
    for p, g in zip(parameters, expected):
        assert np.array_equal(told[id(p)], g) and np.array_equal(p.grad, g)


def test_backward_does_not_wait_for_older_layers():
    layers, parameters = network()
    order = []

    def done(p):
        order.append(next(i for i, layer in enumerate(layers) if any(p is q for q in layer.parameters())))
        if order[-1] == 3:
            assert layers[0].weight.grad is None and layers[2].weight.grad is None

    loss_of(layers, np.ones((2, 6), np.float32)).backward(done=done)
    assert order == [3, 3, 2, 2, 1, 1, 0, 0]  # the second is used last too, but complete only after its first use


def test_an_output_that_is_a_leaf_is_told():
    x, told = Tensor(2.0, requires_grad=True), []
    x.backward(done=told.append)
    assert told == [x] and float(x.grad) == 1


# --- buckets


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(0, 12), st.integers(1, 200))
def test_buckets_are_a_partition_with_matrices_apart_from_vectors(sizes, matrices, floats):
    decaying = sum(sizes[:matrices])
    buckets = buckets_of(sizes, decaying, floats)
    assert [i for bucket in buckets for i in bucket] == list(range(len(sizes)))
    for bucket in buckets:
        assert len({i < matrices for i in bucket}) == 1
        assert sum(sizes[i] for i in list(bucket)[:-1]) < floats  # no larger than need be


# --- shares of an optimiser's state

OPTIMISERS = {
    "sgd": lambda ps: SGD(ps, 0.1, momentum=0.9, clip=1.0), "adam": lambda ps: Adam(ps, 1e-2, clip=1.0),
    "adamw": lambda ps: AdamW(ps, 1e-2, weight_decay=0.1), "muon": lambda ps: Muon(ps, 1e-2, matrices=[ps[0], ps[3]], weight_decay=0.1, clip=1.0)}


def parameters():
    rng = np.random.default_rng(0)
    return [Tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
            for shape in ((7, 5), (5,), (3, 3, 2, 4), (4, 9), (9,), (1, 300))]


@pytest.mark.parametrize("shares", [2, 3, 4, 9])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_shares_of_an_optimiser_make_the_step_of_the_whole_bit_for_bit(name, shares):
    whole = OPTIMISERS[name](parameters())
    parts = [OPTIMISERS[name](parameters()) for _ in range(shares)]
    cuts = whole.cuts(shares)
    assert cuts[0] == 0 and cuts[-1] == whole.flat.size and cuts == sorted(cuts)
    for step in range(6):
        if step == 2:  # from here on in shares, as in a run
            for number, part in enumerate(parts):
                part.hold(number, shares)
        for optimiser in (whole, *parts):
            rng = np.random.default_rng(step)
            for p in optimiser.parameters:
                p.grad = rng.standard_normal(p.shape).astype(np.float32)
                p.requires_grad = not (step == 4 and p.shape == (4, 9))
            optimiser.step()
        for part in parts if step >= 2 else ():  # what Allgatherv does
            for other, (start, stop) in zip(parts, zip(cuts, cuts[1:])):
                part.flat[start:stop] = other.flat[start:stop]
        for part in parts:
            assert np.array_equal(part.flat, whole.flat), step
    for state in whole.state_names:
        together = np.concatenate([getattr(part, state) for part in parts])
        assert np.array_equal(together, getattr(whole, state)), state
    if name != "muon":  # whose shares are whole tensors
        assert max(getattr(part, whole.state_names[0]).size for part in parts) <= -(-whole.flat.size // shares)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_share_is_restored_from_its_own_checkpoint(name):
    optimiser = OPTIMISERS[name](parameters())
    optimiser.hold(1, 3)
    for p in optimiser.parameters:
        p.grad = np.ones_like(p.data)
    optimiser.step()
    saved = {key: np.copy(value) for key, value in optimiser.checkpoint().items()}
    optimiser.step()
    optimiser.restore(saved)
    assert all(np.array_equal(optimiser.checkpoint()[key], value) for key, value in saved.items())
