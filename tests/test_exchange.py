"""What ranks exchange: gradients as soon as they are complete, and the weights of an optimiser whose state is cut into shares."""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import autograd as ops
from zoo.autograd import Tensor
from zoo.autograd.runtime.switch import use_kernels
from zoo.nn import Linear
from zoo.optim import SGD, Adam, AdamW, Muon
from zoo.training import Trainer
from zoo.training.exchange import Exchange, buckets_of
from zoo.training.ranks import Ranks

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


@pytest.mark.parametrize(("sizes", "decaying", "floats", "ends"), [
    ([35, 72, 36, 300, 5, 9], 443, 40, [2, 4, 6]), ([35, 72, 36, 300, 5, 9], 443, 36, [2, 3, 4, 6]), ([35, 72, 36, 300, 5, 9], 443, 35, [1, 2, 3, 4, 6]),
    ([35, 72, 36, 300, 5, 9], 443, 1000, [4, 6]), ([35, 72, 36, 300, 5, 9], 443, 5, [1, 2, 3, 4, 5, 6]), ([5, 9], 0, 14, [2]), ([5], 5, 9, [1])])
def test_a_bucket_ends_once_it_holds_enough_and_where_vectors_begin(sizes, decaying, floats, ends):
    assert [(b.start, b.stop) for b in buckets_of(sizes, decaying, floats)] == list(zip([0, *ends], ends))


# --- sums


class Twin:
    """One of two ranks, of which the other computes the very same: a sum over both is twice what this one has."""

    def __init__(self, rank=0):
        self.rank = rank
        self.begun = []  # sizes of sums, in their order
        self.waits = 0

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return 2

    def Dup(self):
        return self

    def bcast(self, value, root):
        assert root == 0
        return value

    def allgather(self, value):
        return [value, value]

    def gather(self, value, root):
        assert root == 0
        return None if self.rank else [value, value + 1]

    def Allreduce(self, in_place, x, op):
        x *= 2

    def Iallreduce(self, in_place, x, op):
        self.begun.append(x.size)
        return Request(self, x)

    def Allgatherv(self, in_place, what):
        self.spread = what


class Request:
    """A sum that is done when it was asked after twice."""

    def __init__(self, communicator, x):
        self.communicator, self.x, self.asked = communicator, x, 0

    def Test(self):
        self.asked += 1
        if self.asked == 2:
            self.x *= 2
        return self.asked >= 2

    def Wait(self):
        self.communicator.waits += 1
        self.asked = 1
        self.Test()


@pytest.fixture
def mpi(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=SimpleNamespace(IN_PLACE="in place", SUM="sum", Datatype=SimpleNamespace(fromcode=str))))


@pytest.mark.parametrize("overlap", [True, False])
def test_sums_begin_in_the_first_step_s_order_as_soon_as_their_turn_comes(overlap, mpi):
    twin = Twin()
    optimiser, ranks = SGD(parameters(), 0.1), Ranks(twin)
    exchange = Exchange(optimiser, ranks, bucket_floats=40, overlap=overlap)
    ps, rng = optimiser.parameters, np.random.default_rng(1)
    assert [p.size for p in ps] == [35, 72, 36, 300, 5, 9]  # buckets of 107 and 336 entries of matrices, and 14 of vectors

    def step(order, then):
        """Tell of these parameters one after the other; how many sums are begun after each; then add up."""
        twin.begun, twin.waits, begun = [], 0, []
        ranks.current_weight = rng.random()
        for p in ps:
            p.grad = rng.standard_normal(p.shape).astype(np.float32)
        ps[1].grad = None  # as of a parameter that the loss doesn't reach
        for i in order:
            exchange.done(ps[i])
            begun.append(list(twin.begun))
        exchange.done(Tensor(np.ones(3), requires_grad=True))  # another optimiser's
        exchange.add_up([p.grad for p in ps])
        assert twin.begun == [14, 336, 107] and begun == (then if overlap else [[]] * len(order))
        expected = np.concatenate([np.zeros(p.size, np.float32) if p.grad is None else p.grad.ravel() for p in ps])
        np.testing.assert_allclose(optimiser.grad, 2 * ranks.current_weight * expected, rtol=1e-6)

    step([5, 4, 3, 2, 1, 0], [[]] * 6)  # the order isn't known yet
    step([0, 1, 5, 4, 3, 2], [[], [], [], [14], [14], [14, 336, 107]])
    step([4, 5, 2, 3, 0], [[], [14], [14], [14, 336], [14, 336]])  # the last gradient is none, and nobody tells of it
    assert twin.waits == (1 if overlap else 3)  # the others were asked after often enough
    ps[5].requires_grad = False
    exchange.done(ps[5])
    assert not any(exchange.written)


@pytest.mark.parametrize("rank", [0, 1])
def test_weights_are_spread_and_states_gathered_once_they_are_in_shares(rank, mpi):
    twin = Twin(rank)
    optimiser = Adam(parameters(), 0.1)
    exchange = Exchange(optimiser, Ranks(twin))
    exchange.spread()
    assert not hasattr(twin, "spread") and exchange.state()["m"].shape == (457,)
    exchange.shard()
    exchange.spread()
    flat, counts, begins, kind = twin.spread
    assert flat is optimiser.flat and list(counts) == [228, 229] and list(begins) == [0, 228] and kind == "f"
    assert optimiser.m.shape == (228 + rank,)
    state = exchange.state()
    assert state["m"].tolist() == ([0] * 229 if rank else [0] * 228 + [1] * 228)


def trained(ranks, loss, steps=3, **options):
    rng = np.random.default_rng(0)
    layer = Linear(4, 3, rng=rng)
    batches = lambda step, rng: np.repeat(np.random.default_rng(step).standard_normal((2, 4)).astype(np.float32), 2, axis=0)  # both ranks' rows are the same
    optimisers = {"a": Adam([layer.weight], 0.1), "b": SGD([layer.bias], 0.1, momentum=0.9)}

    def update(batch, rng):
        for o in optimisers.values():
            o.zero_grad()
        value = loss(layer, batch)
        value.backward()
        for o in optimisers.values():
            o.step()
        return {"loss": float(value)}

    trainer = Trainer(layer, None, batches, optimisers, steps=steps, update=update, ranks=ranks, **options)
    records = list(trainer)
    return layer, trainer, [r.losses["loss"] for r in records]


def test_two_ranks_take_the_steps_of_one_and_the_first_is_made_both_ways(mpi):
    loss = lambda layer, x: (layer(x) * layer(x)).mean()
    alone, trainer, losses = trained(None, loss)
    together, of_two, losses_of_two = trained(Ranks(Twin()), loss)
    np.testing.assert_allclose(losses_of_two, losses, rtol=1e-5)
    np.testing.assert_allclose(together.weight.data, alone.weight.data, rtol=1e-4)
    np.testing.assert_allclose(together.bias.data, alone.bias.data, rtol=1e-4, atol=1e-6)
    assert [o.steps for o in of_two.optimisers.values()] == [3, 3] and [o.lr for o in of_two.optimisers.values()] == [0.1, 0.1]
    assert all(isinstance(o.exchange, Exchange) and not o.exchange.sharded and not o.fills_grad for o in of_two.optimisers.values())


def test_a_loss_that_is_no_mean_over_rows_is_found_out_in_the_first_step(mpi):
    for loss, differ in ((lambda layer, x: (layer(x) * layer(x)).sum(), "0.5 of"), (lambda layer, x: (layer(x) * layer(x)).mean() * (1.009 if len(x) == 4 else 1.0), None),
                         (lambda layer, x: (layer(x) * layer(x)).mean() * (1 / 0.989 if len(x) == 4 else 1.0), "0.011 of")):
        with contextlib.nullcontext() if differ is None else pytest.raises(ValueError, match=f"^ranks: the gradients of 2 shares .* whole by {differ}"):
            trained(Ranks(Twin()), loss, steps=1)


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
