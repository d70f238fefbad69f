"""Smaller models: what is left out is the smallest, a student comes nearer to its teacher, and both are models that load."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from zoo import autograd as ops
from zoo.__main__ import main
from zoo.diffusion import Diffusion
from zoo.nn import Linear
from zoo.recipes import recipe_of, smaller
from zoo.transformer import Transformer

TEACHER = {"window": 8, "layers": 2, "heads": 2, "width": 16, "symbols": 11, "mlp": "swiglu", "positions": "rotary", "norm": "rms"}


def language(**changes):
    return Transformer.new(**{**TEACHER, **changes})


def test_the_smallest_weights_become_zero_and_no_others():
    model, before = language(), language()
    smaller.without_weights(model, 0.4)
    pairs = [(a.weight.data, b.weight.data) for (_, a), (_, b) in zip(before.modules(), model.modules()) if isinstance(a, Linear)]
    gone = np.concatenate([a[b == 0].ravel() for a, b in pairs])
    rest = np.concatenate([a[b != 0].ravel() for a, b in pairs])
    assert np.abs(gone).max() <= np.abs(rest).min() and abs(len(gone) / (len(gone) + len(rest)) - 0.4) < 1e-3
    assert all(np.array_equal(a[b != 0], b[b != 0]) for a, b in pairs)


@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
def test_units_that_do_nothing_can_be_removed(mlp, rng):
    model = language(mlp=mlp)
    for block in model.blocks:
        idle = rng.permutation(model.config.hidden)[: model.config.hidden // 2]
        block.mlp.down.weight.data[idle] = 0
    small = smaller.without_units(model, 0.5)
    ids = rng.integers(11, size=(3, 8))
    assert small.config.hidden == model.config.hidden - model.config.hidden // 2 and small.num_parameters < model.num_parameters
    assert np.allclose(small(ids).numpy(), model(ids).numpy(), atol=1e-5)


def test_a_student_with_the_teachers_weights_has_nothing_to_learn_from_it(rng):
    teacher, x = Diffusion.new(image=(8, 8), channels=8, prediction="v", schedule="straight"), rng.random((4, 8, 8), np.float32)
    student = Diffusion.new(image=(8, 8), channels=8, prediction="v", schedule="straight", seed=1)
    for p in teacher.parameters():  # the last layer begins with zeros
        p.data += 0.1 * rng.standard_normal(p.shape, np.float32)
    objective = smaller.imitate_diffusion(teacher, student)
    assert objective(x, np.random.default_rng(0))["loss"].item() > 0
    student.load_arrays(teacher.arrays())
    assert objective(x, np.random.default_rng(0))["loss"].item() == 0


def test_imitation_is_least_where_the_student_says_what_the_teacher_says(rng):
    teacher, student = language(), language(seed=1)
    batch = rng.integers(11, size=(2, 8)), rng.integers(11, size=(2, 8))
    imitation = lambda: smaller.imitate_text(teacher, student)(batch, np.random.default_rng(0))["imitation"].item()
    p = ops.softmax(teacher(batch[0]) / smaller.TEMPERATURE).numpy()
    entropy = float(-(p * np.log(p)).sum(-1).mean())
    assert imitation() > entropy + 3e-4
    student.load_arrays(teacher.arrays())
    assert imitation() == pytest.approx(entropy, abs=1e-4)


@pytest.fixture
def teacher(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("".join(f"{a}{b}{c}\n" for a in "abcde" for b in "lmno" for c in "xyz"))
    common = ["--preset", "names", "--window", "8", "--layers", "2", "--width", "16", "--heads", "2", "--batch-size", "16", "--steps", "40", "--quiet"]
    assert main(["train", "transformer", *common, "--data", str(path), "--out", str(tmp_path / "teacher")]) == 0
    return tmp_path / "teacher"


def test_a_student_is_a_smaller_model_that_loads(teacher, tmp_path, capsys):
    assert main(["distill", str(teacher), "--layers", "1", "--width", "8", "--out", str(tmp_path / "student"), "--quiet"]) == 0
    assert "parameters" in capsys.readouterr().out
    student = zoo.load(tmp_path / "student")
    assert student.config.layers == 1 and student.config.width == 8 and student.config.hidden == recipe_of("transformer").model.Config.make(
        **{**student.config.to_dict(), "hidden": 0}).hidden
    both = student.card["beside_teacher"]
    assert both["parameters"][1] < both["parameters"][0] and both["valid nats per token"][1] < np.log(student.config.symbols)


def test_a_pruned_model_loads_and_its_card_says_so(teacher, tmp_path, capsys):
    for units in ([], ["--units"]):
        out = tmp_path / f"pruned{len(units)}"
        assert main(["prune", str(teacher), "--share", "0.25", *units, "--out", str(out)]) == 0
        model = zoo.load(out)
        assert model.card["pruned"] == {"from": str(teacher), "share": 0.25, "units": bool(units)}
        assert model.generate("a", 5, seed=0)
    for arguments, message in ((["--share", "1.5"], "share is 1.5"), (["--share", "0.5"], "exists already")):
        assert main(["prune", str(teacher), *arguments, "--out", str(tmp_path / "pruned0")]) == 2
        assert message in capsys.readouterr().err
