"""What the benchmarks compare is the same on both sides, and what the profile counts is right."""

import ast
import importlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo import nn
from zoo.autograd import Tensor
from zoo.autograd.runtime import use_kernels
from zoo.optim import Adam

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import cases

FOREIGN = {"torch", "torch_steps", "torch_words", "onnx"}  # not among what the tests install

PROGRAMS = [file for folder in ("benchmarks", "examples", "tests") for file in sorted((Path(__file__).parent.parent / folder).glob("*.py"))
            if not file.name.startswith("test_")]


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_programs_that_no_test_runs_import_what_is_there(file):
    """They change less often than what they import."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module and node.module.partition(".")[0] not in FOREIGN:
            module = importlib.import_module(node.module)
            is_package = hasattr(module, "__path__")
            missing = [name.name for name in node.names if not hasattr(module, name.name)
                       and not (is_package and importlib.util.find_spec(f"{node.module}.{name.name}"))]
            assert not missing, f"line {node.lineno}: {node.module} has no {', '.join(missing)}"


@pytest.mark.parametrize("name", cases.TINY)
def test_both_sides_give_the_same_in_three_steps(name):
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra `bench`")
    import torch_steps
    import zoo_steps

    torch.set_num_threads(1)  # two pools of threads in one process would wait for each other
    kind, sizes = cases.CASES[name].kind, cases.TINY[name]
    data = cases.batch(kind, sizes)
    model, step = getattr(zoo_steps, kind)(data, **sizes)
    weights = {} if model is None else {path: p.data for path, p in model.named_parameters().items()}
    cases.jitter(weights)
    other = torch_steps.build(kind, data, {path: w.copy() for path, w in weights.items()}, "eager", sizes)
    for _ in range(3):
        mine, theirs = cases.numbers(zoo_steps.plain(step())), cases.numbers(other())
        assert np.allclose(mine, theirs, rtol=1e-4, atol=0), (mine, theirs)


def test_another_weight_is_a_disagreement():
    """The comparison above can fail: a part in a thousand of one weight shows."""
    import zoo_steps

    kind, sizes = "lstm", cases.TINY["lstm"]
    losses = []
    for factor in (1.0, 1.001):
        model, step = zoo_steps.lstm(cases.batch(kind, sizes), **sizes)
        assert model is not None
        model.named_parameters()["output.weight"].data[...] *= np.float32(factor)
        losses.append([cases.numbers(zoo_steps.plain(step()))[0] for _ in range(3)])
    assert not np.allclose(*losses, rtol=1e-6)


def test_a_profile_counts_products_calls_and_time(rng):
    layer = nn.Linear(30, 20, rng=rng)
    optimiser = Adam(layer.parameters(), 1e-3)
    x = Tensor(rng.standard_normal((10, 30), np.float32), requires_grad=True)
    with use_kernels(True), zoo.profile(show=False) as seen:  # a definition's parts have rows of their own
        for _ in range(3):
            (layer(x) ** 2).sum().backward()
            optimiser.step()
    product = 2 * 10 * 20 * 30
    assert (seen.rows["linear"].calls, seen.rows["linear"].flops) == (3, 3 * product)
    assert seen.flops == 3 * 3 * product  # y, and the gradients of x and of the weight
    assert seen.rows["optimiser"].calls == 3
    assert sum(row.seconds for _, row in seen.shares()) == pytest.approx(seen.seconds)
    assert "linear backward" in str(seen)


def test_a_profile_leaves_no_trace_and_is_alone(capsys):
    from zoo.autograd.operation import Operation

    before = Operation.apply, Operation.gradients, Adam.step
    with pytest.raises(ZeroDivisionError), zoo.profile():
        _ = 1 / 0
    with zoo.profile(), pytest.raises(RuntimeError, match="another profile"), zoo.profile():
        pass
    assert (Operation.apply, Operation.gradients, Adam.step) == before
    assert "total" in capsys.readouterr().out


def test_a_profile_is_a_picture_too(tmp_path, rng):
    with zoo.profile(show=False) as seen:
        zoo.autograd.matmul(rng.standard_normal((30, 40), np.float32), rng.standard_normal((40, 50), np.float32))
    seen.plot(tmp_path / "profile.png")
    assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG")


def test_steps_agree_within_the_tolerance_or_as_definitions_do_with_float64():
    import speed

    column, theirs, exact = speed.Column("torch", "eager"), [[1.0], [2.0]], [[1.0], [2.000001]]
    speed.check_agreement("x", column, [[1.00009], [2.0]], theirs, None)
    with pytest.raises(speed.Disagreement, match="step 2"):
        speed.check_agreement("x", column, [[1.0], [2.001]], theirs, None)
    speed.check_agreement("x", column, [[1.0], [2.001]], theirs, speed.Reference(exact, [[1.0], [2.000002]]))
    with pytest.raises(speed.Disagreement, match="not rounding"):  # the definitions are off
        speed.check_agreement("x", column, [[1.0], [2.001]], theirs, speed.Reference(exact, [[1.0], [2.001]]))
    with pytest.raises(speed.Disagreement, match="not rounding"):  # the kernels are, by more than rounding could be
        speed.check_agreement("x", column, [[1.0], [2.1]], theirs, speed.Reference(exact, [[1.0], [2.000002]]))
    with pytest.raises(speed.Disagreement):
        speed.check_agreement("x", column, [[1.0], [float("nan")]], theirs, speed.Reference(exact, exact))
    rounded = speed.Column("zoo", "zoo bf16")
    speed.check_agreement("x", rounded, [[1.0], [2.0]], [[1.01], [1.99]], None)
    with pytest.raises(speed.Disagreement, match="zoo bf16"):
        speed.check_agreement("x", rounded, [[1.0], [2.0]], [[1.1], [2.0]], None)
