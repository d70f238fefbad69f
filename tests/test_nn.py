"""Layers: the names that the walker gives, what is saved and loaded, and each layer against NumPy."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pytest

from zoo import autograd as ops
from zoo import nn
from zoo.autograd import Tensor, enable_grad, grad, no_grad
from zoo.nn import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Embedding,
    GroupNorm,
    LayerNorm,
    Linear,
    MaxPool2d,
    Module,
    RMSNorm,
    Sequential,
    dropout,
    parameter,
)


@pytest.fixture(autouse=True)
def nothing_is_recorded():
    with no_grad():
        yield


class Tree(Module):
    def __init__(self, rng):
        self.first = Linear(2, 3, rng=rng)
        self.blocks = [Linear(3, 3, rng=rng), Sequential(ops.tanh, Linear(3, 1, rng=rng, bias=False))]
        self.heads = {"mean": Linear(3, 1, rng=rng, bias=False)}
        self.norm = BatchNorm(3)
        self.tied = self.first.weight  # the same tensor under a second name
        self.frozen = Tensor(np.ones(3, np.float32))  # a tensor that isn't trained is a parameter too
        self.ids = Tensor(np.arange(3))  # but not one of integers
        with enable_grad():
            self.computed = self.first.weight * 2  # nor the result of an operation
        self.counts = np.arange(3)  # integers aren't saved
        self._hidden = parameter(np.ones(2))  # what begins with an underscore belongs to nobody

    def __call__(self, x):
        return self.heads["mean"](self.norm(self.blocks[0](self.first(x))))


def test_names_are_paths_and_a_shared_tensor_has_one(rng):
    tree = Tree(rng)
    assert list(tree.named_parameters()) == [
        "tied", "frozen", "first.bias", "blocks.0.weight", "blocks.0.bias", "blocks.1.layers.1.weight", "heads.mean.weight", "norm.gain", "norm.bias"]
    assert len(tree.parameters()) == 9 and tree.parameters()[0] is tree.first.weight
    assert set(tree.named_buffers()) == {"norm.running_mean", "norm.running_variance"}
    assert tree.num_parameters == 2 * 3 + 3 + 3 + 3 * 3 + 3 + 3 + 3 + 3 + 3
    assert [path for path, _ in tree.modules()] == ["", "first", "blocks.0", "blocks.1", "blocks.1.layers.1", "heads.mean", "norm"]


def test_loaded_arrays_are_copies_in_place(rng):
    tree, other = Tree(rng), Tree(rng)
    before = tree.first.weight.data
    tree.load_arrays(other.arrays())
    assert tree.first.weight.data is before and before is not other.first.weight.data
    for name, a in tree.arrays().items():
        assert np.array_equal(a, other.arrays()[name]), name


@pytest.mark.parametrize(("change", "message"), [
    (lambda a: a.pop("norm.gain"), "missing: norm.gain"),
    (lambda a: a.update(extra=np.ones(2)), "unexpected: extra"),
    (lambda a: a.update({"norm.gain": np.ones(4, np.float32)}), r"norm.gain is \(4,\), wanted \(3,\)"),
])
def test_weights_that_do_not_fit_change_nothing(rng, change, message):
    tree = Tree(rng)
    before = {name: a.copy() for name, a in tree.arrays().items()}
    arrays = {name: a + 1 for name, a in before.items()}
    change(arrays)
    with pytest.raises(ValueError, match=message):
        tree.load_arrays(arrays)
    for name, a in tree.arrays().items():
        assert np.array_equal(a, before[name]), name


def test_what_is_saved_and_counted_does_not_depend_on_what_is_trained(rng):
    tree, other = Tree(rng), Tree(rng)
    names, number = list(tree.arrays()), tree.num_parameters
    for p in tree.parameters():
        p.requires_grad = False
    assert list(tree.arrays()) == names and tree.num_parameters == number
    tree.load_arrays(other.arrays())
    assert all(np.array_equal(a, other.arrays()[name]) for name, a in tree.arrays().items())


def test_lists_and_dictionaries_of_layers_may_be_nested(rng):
    class Nested(Module):
        def __init__(self):
            layer = lambda: Linear(2, 2, rng=rng, bias=False)
            self.rows = [[layer(), layer()], (layer(),)]
            self.heads = {"a": [layer()], "b": {"c": layer()}}
            self.table = [[parameter(np.ones(2))], {"mean": np.zeros(2, np.float32)}]

    nested = Nested()
    assert list(nested.named_parameters()) == ["table.0.0", "rows.0.0.weight", "rows.0.1.weight", "rows.1.0.weight", "heads.a.0.weight",
                                               "heads.b.c.weight"]
    assert list(nested.named_buffers()) == ["table.1.mean"]
    nested.eval()
    assert all(not m.training for _, m in nested.modules()) and len(list(nested.modules())) == 6


def test_layers_in_a_container_without_an_order_are_refused(rng):
    for container in (set, frozenset, deque):
        tree = Tree(rng)
        tree.more = container([Linear(2, 2, rng=rng)])
        with pytest.raises(TypeError, match=f"more is a {container.__name__} with modules or tensors in it; put them into a list"):
            tree.parameters()
        tree.more = container([1, 2])
        tree.parameters()


def test_training_and_evaluation_reach_every_module(rng):
    tree = Tree(rng)
    assert all(not m.training for _, m in tree.eval().modules()) and all(m.training for _, m in tree.train().modules())


@pytest.mark.parametrize(("layer", "fan", "scale"), [
    (lambda rng: Linear(400, 300, rng=rng), 400, 1.0), (lambda rng: Linear(400, 300, rng=rng, scale=2.0), 400, 2.0),
    (lambda rng: Conv2d(40, 50, 3, rng=rng), 360, 1.0), (lambda rng: ConvTranspose2d(100, 50, 4, stride=2, rng=rng), 400, 1.0)])
def test_initial_weights_have_deviation_scale_over_root_of_the_fan(rng, layer, fan, scale):
    made = layer(rng)
    w = made.weight.data
    assert abs(w.std() * np.sqrt(fan) / scale - 1) < 6 / np.sqrt(2 * w.size) and abs(w.mean()) < 6 * w.std() / np.sqrt(w.size)
    assert w.dtype == np.float32 and not made.bias.data.any()


def test_batch_norm_in_training_is_numpys_and_moves_its_averages(rng):
    norm, x = BatchNorm(3, momentum=0.1), rng.normal(2, 3, (5, 4, 4, 3)).astype(np.float32)
    norm.gain.data[...], norm.bias.data[...] = rng.normal(size=3), rng.normal(size=3)
    wide = x.astype(np.float64)
    mean, variance = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
    y = norm(Tensor(x)).data
    np.testing.assert_allclose(y, (wide - mean) / np.sqrt(variance + 1e-5) * norm.gain.data + norm.bias.data, atol=1e-5)
    np.testing.assert_allclose(norm.running_mean, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.running_variance, 0.9 + 0.1 * wide.var((0, 1, 2), ddof=1), rtol=1e-5)  # the unbiased one


def test_batch_norm_in_evaluation_uses_its_averages_and_keeps_them(rng):
    norm = BatchNorm(3)
    norm.running_mean[...], norm.running_variance[...] = rng.normal(size=3), rng.random(3) + 0.5
    norm.gain.data[...], norm.bias.data[...] = rng.normal(size=3), rng.normal(size=3)
    before = {name: a.copy() for name, a in norm.arrays().items()}
    norm.eval()
    x = rng.normal(size=(7, 3)).astype(np.float32)
    expected = (x - norm.running_mean) / np.sqrt(norm.running_variance + 1e-5) * norm.gain.data + norm.bias.data
    np.testing.assert_allclose(norm(Tensor(x)).data, expected, atol=1e-5)
    np.testing.assert_allclose(norm(Tensor(x[:1])).data, expected[:1], atol=1e-5)  # one row is no batch
    assert all(np.array_equal(a, before[name]) for name, a in norm.arrays().items())


def test_other_norms_are_numpys(rng):
    x = rng.normal(1, 2, (2, 4, 4, 6)).astype(np.float32)
    wide = x.astype(np.float64)
    layer, rms, group = LayerNorm(6), RMSNorm(6), GroupNorm(3, 6)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(x).data, expected, atol=1e-5)
    np.testing.assert_allclose(rms(x).data, wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5), atol=1e-5)
    parts = wide.reshape(2, 4, 4, 3, 2)
    expected = (parts - parts.mean((1, 2, 4), keepdims=True)) / np.sqrt(parts.var((1, 2, 4), keepdims=True) + 1e-5)
    np.testing.assert_allclose(group(x).data, expected.reshape(x.shape), atol=1e-5)


def test_convolution_and_its_transpose_are_adjoint(rng):
    """<conv(x), y> = <x, transpose(y)> with the same weight, which also fixes both shapes."""
    down = Conv2d(2, 3, 4, stride=2, padding=1, rng=rng, bias=False)
    up = ConvTranspose2d(3, 2, 4, stride=2, padding=1, rng=rng, bias=False)
    up.weight.data = np.ascontiguousarray(down.weight.data.transpose(0, 1, 3, 2))
    x, y = rng.normal(size=(2, 8, 6, 2)).astype(np.float32), rng.normal(size=(2, 4, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(np.sum(down(x).data * y), np.sum(x * up(y).data), rtol=1e-3, atol=1e-3)


def test_layers_without_a_bias_and_with_an_activation(rng):
    x = rng.normal(size=(4, 5)).astype(np.float32)
    layer = Linear(5, 2, rng=rng, bias=False, activation="tanh")
    assert layer.bias is None and layer.num_parameters == 10
    np.testing.assert_allclose(layer(x).data, np.tanh(x @ layer.weight.data), atol=1e-6)
    table = Embedding(7, 3, rng=rng)
    assert np.array_equal(table(np.array([[1, 6]])).data, table.weight.data[[[1, 6]]])


def test_dropout_without_a_generator_is_nothing(rng):
    x = np.ones((50, 40), np.float32)
    assert dropout(x, 0.5, None) is x and dropout(x, 0.0, rng) is x
    y = dropout(x, 0.25, rng)
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)} and abs((y == 0).mean() - 0.25) < 0.06


@pytest.mark.parametrize(("rows", "unbiased"), [(1, 0.0), (2, 2.0)])
def test_the_variance_of_two_rows_is_unbiased_and_that_of_one_is_0(rows, unbiased):
    norm = BatchNorm(1, momentum=0.5)
    norm(Tensor(np.array([[1.0], [3.0]], np.float32)[:rows]))
    np.testing.assert_allclose(norm.running_variance, 0.5 + 0.5 * unbiased)


@pytest.mark.parametrize("setting", [{}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"stride": 2}], ids=str)
def test_a_residual_is_added_whatever_the_convolution(rng, setting):
    layer = Conv2d(4, 6, 3, rng=rng, **{"padding": 1, **setting})
    layer.bias.data[...] = rng.normal(size=6)
    x = rng.standard_normal((2, 6, 6, 4), np.float32)
    y = layer(x).data
    for shape in (y.shape, (2, 1, 1, 6)):
        residual = rng.standard_normal(shape, np.float32)
        np.testing.assert_allclose(layer(x, residual).data, y + residual, atol=1e-5)


def test_one_module_in_a_set_is_enough_to_refuse_it(rng):
    tree = Tree(rng)
    tree.more = {1, Linear(2, 2, rng=rng)}
    with pytest.raises(TypeError, match="more is a set with modules or tensors in it"):
        tree.parameters()


@pytest.mark.parametrize("norm", [LayerNorm(2), GroupNorm(1, 2), RMSNorm(2), BatchNorm(1)], ids=lambda norm: type(norm).__name__)
def test_norms_add_1e_5_to_the_variance(norm):
    """Ba et al. (2016) and their successors leave the number open; PyTorch's, for rms_norm Llama's, is 1e-5."""
    x = np.array([[-1e-3, 1e-3]], np.float32)
    y = norm(Tensor(x.T if isinstance(norm, BatchNorm) else x)).data
    np.testing.assert_allclose(y.reshape(-1), np.array([-1e-3, 1e-3]) / math.sqrt(1e-6 + 1e-5), rtol=1e-4)


@pytest.mark.parametrize("pool", [MaxPool2d, AvgPool2d])
def test_windows_of_a_pool_lie_side_by_side_without_padding_unless_said_otherwise(pool, rng):
    x = rng.standard_normal((1, 5, 7, 2), np.float32)
    squares = x[:, :4, :6].reshape(1, 2, 2, 3, 2, 2)
    np.testing.assert_allclose(np.asarray(pool(2)(x)), squares.max((2, 4)) if pool is MaxPool2d else squares.mean((2, 4)), rtol=1e-6)


def test_a_convolution_has_stride_and_dilation_1_and_no_padding_unless_said_otherwise(rng):
    layer = Conv2d(2, 3, 3, rng=rng)
    x = rng.standard_normal((1, 4, 5, 2), np.float32)
    expected = np.stack([[np.einsum("ijc,ijco->o", x[0, a : a + 3, b : b + 3], layer.weight.data) for b in range(3)] for a in range(2)])
    np.testing.assert_allclose(layer(x).data[0], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 3), (2, 4, 5, 3)])
def test_batch_norm_over_one_rank_is_batch_norm(shape, rng, monkeypatch):
    class OneRank:
        add_up = staticmethod(lambda a: a)
        sum = staticmethod(lambda a: a)

    x = Tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
    results = []
    for alone in (True, False):
        monkeypatch.setattr(nn, "whole_batch", None if alone else OneRank)
        layer = nn.BatchNorm(3, activation="relu")
        with enable_grad():
            y = layer(x)
            (dx,) = grad((y * y * y).sum(), [x])
        results.append([y.numpy(), dx.numpy(), layer.running_mean, layer.running_variance])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
