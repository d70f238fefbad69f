"""Looking inside: what a trace sees is what ran, and a patch changes just what it names."""

import numpy as np
import pytest

import zoo
from zoo import autograd as ops
from zoo.autograd import Tensor
from zoo.autograd.tracing import UnknownName, patch, trace
from zoo.recurrent import Recurrent
from zoo.transformer import Transformer
from zoo.vae import VAE


@pytest.fixture
def model():
    return Transformer.new(symbols=11, window=8, layers=2, heads=2, width=16, seed=1).eval()


IDS = np.array([[3, 1, 4, 1, 5]])


def test_traced_values_equal_untraced(model):
    plain = model(IDS).data
    with trace(model) as seen:
        traced = model(IDS).data
    assert np.abs(plain - traced).max() <= 2e-6 * np.abs(plain).max() + 1e-6
    assert np.array_equal(seen["linear"].value, traced)


def test_every_name_has_shape_statistics_formula_and_time(model):
    with trace(model) as seen:
        model(IDS)
    for name, record in seen.items():
        assert record.name == name and record.shape == record.value.shape and record.seconds >= 0 and record.formula
        if record.value.size and np.isfinite(record.value).all():
            assert np.isclose(record.statistics["mean"], record.value.mean(), atol=1e-5)
            assert record.statistics["min"] == record.value.min() and record.statistics["max"] == record.value.max()
    assert seen["blocks.1.attention.softmax"].name.endswith(".scaled_dot_product_attention.softmax")
    assert np.allclose(seen["blocks.1.attention.softmax"].value.sum(-1), 1, atol=1e-6)
    assert all(name in str(seen) for name in seen)


def test_at_keeps_only_what_it_names(model):
    with trace(model, at="blocks.*.attention.*softmax") as seen:
        model(IDS)
    assert [record.short for record in seen.records] == ["blocks.0.attention.softmax", "blocks.1.attention.softmax"]


def test_the_gradient_is_there_after_backward(model):
    with trace(model) as seen:
        loss = model.loss((IDS[:, :-1], IDS[:, 1:]), np.random.default_rng(0))["loss"]
    hidden = seen["blocks.0.add#2"]
    assert hidden.grad is None
    loss.backward()
    assert hidden.grad.shape == hidden.shape and np.abs(hidden.grad).max() > 0
    step, direction = 1e-3, np.sign(hidden.grad)
    moved = []
    for sign in (1, -1):
        with patch(model, {"blocks.0.add#2": lambda a, sign=sign: a + sign * step * direction}):
            moved.append(float(model.loss((IDS[:, :-1], IDS[:, 1:]), np.random.default_rng(0))["loss"]))
    assert np.isclose((moved[0] - moved[1]) / (2 * step), np.abs(hidden.grad).sum(), rtol=2e-2)


def test_each_pass_has_its_round_and_steps_can_be_watched(model):
    with trace(model, at="*.softmax") as seen:
        steps = list(model.steps([1, 2, 3], 4))
    passes = seen.all("blocks.0.attention.softmax")
    assert [p.round for p in passes] == [0, 1, 2, 3]
    assert [p.shape[-1] for p in passes] == [3, 4, 5, 6]
    assert all(a.token == b.token for a, b in zip(steps, model.steps([1, 2, 3], 4)))


def test_taking_bounds_the_memory_and_starts_the_names_anew():
    model = Recurrent.new(symbols=7, width=8, cell="gru").eval()
    names = []
    with trace(model, at="*") as seen:
        for _ in model.steps([1], 5):
            names.append([record.name for record in seen.take()])
            assert not seen.records
    assert names[1] == names[2] == names[4]


def test_a_patch_changes_the_output_and_only_while_it_is_on(model):
    plain = model(IDS).data
    with patch(model, {"blocks.0.attention.softmax": lambda a: 0 * a}):
        changed = model(IDS).data
    assert np.abs(changed - plain).max() > 1e-4
    with patch(model, {"blocks.0.attention.softmax": lambda a: a}):
        same = model(IDS).data
    assert np.allclose(same, plain, atol=1e-5) and np.array_equal(model(IDS).data, plain)


def test_a_patched_activation_of_another_run_gives_that_run(model):
    other = np.array([[9, 8, 7, 6, 5]])
    with trace(model, at="blocks.1.add#2") as seen:
        wanted = model(other).data
    with patch(model, {"blocks.1.add#2": lambda a: seen["blocks.1.add#2"].value}):
        assert np.allclose(model(IDS).data, wanted, atol=1e-6)


def test_gradients_pass_a_patch_that_returns_a_tensor():
    model = VAE.new(latent=(2,), hidden=(8,))
    gain = Tensor(2.0, requires_grad=True)
    with patch(model, {"layers.0.tanh": lambda a: ops.multiply(Tensor(a), gain)}):
        y = model.decode(Tensor(np.ones((1, 2), np.float32))).sum()
    y.backward()
    assert gain.grad is not None and np.isfinite(gain.grad)


@pytest.mark.parametrize("look", [lambda m: patch(m, {"blocks.0.attention.sofmax": np.copy}), lambda m: trace(m, at="blocks.0.attention.sofmax")])
def test_an_unknown_name_names_the_nearest(model, look):
    with pytest.raises(UnknownName, match="blocks.0.attention.softmax") as error, look(model):
        model(IDS)
    assert not str(error.value).startswith(("'", '"')) and isinstance(error.value, KeyError)


def test_an_unknown_name_in_a_trace_names_the_nearest(model):
    with trace(model) as seen:
        model(IDS)
    with pytest.raises(UnknownName, match="nearest are .*blocks.0.attention.softmax"):
        seen["blocks.0.atention.softmax"]


def test_a_patch_of_the_wrong_shape_says_which(model):
    with pytest.raises(ValueError, match=r"softmax has shape \(1, 2, 5, 5\).*returned \(1, 2, 5, 4\)"), \
            patch(model, {"blocks.0.attention.softmax": lambda a: a[..., :4]}):
        model(IDS)


def test_an_error_inside_leaves_nobody_watching(model):
    with pytest.raises(ZeroDivisionError), trace(model):
        model(IDS)
        raise ZeroDivisionError
    assert not zoo.autograd.tensor.state.watchers and zoo.autograd.tensor.state.scope == ()


def test_two_models_are_watched_at_once(model):
    other = Transformer.new(symbols=11, window=8, layers=1, heads=2, width=16, seed=2).eval()
    with trace(model, at="*.softmax") as a, trace(other, at="*.softmax") as b:
        model(IDS)
        other(IDS)
    assert len(a.all("blocks.1.attention.softmax")) == 1
    assert "blocks.0.attention.softmax" in {record.short for record in b.records}
