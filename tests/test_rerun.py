"""`zoo rerun`: a run that is made again from its card has the same weights, bit for bit, and what is another one is said."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import zoo
from zoo import storage
from zoo.__main__ import main
from zoo.autograd.runtime import use_kernels
from zoo.recipes.rerun import environment, rerun

DIGITS = ["--data", "digits8x8", "--epochs", "2", "--batch-size", "400"]
FAMILIES = {
    "vae": [*DIGITS, "--hidden", "12", "--latent", "3", "--depth", "1"],
    "autoencoder": [*DIGITS, "--hidden", "8,6", "--latent", "2"],
    "vqvae": [*DIGITS, "--codes", "4", "--width", "2", "--channels", "2", "--prior-layers", "1", "--prior-heads", "1", "--prior-width", "4"],
    "gan": ["--preset", "grid", "--steps", "3", "--hidden", "8", "--discriminator_hidden", "8", "--batch_size", "12"],
    "diffusion": ["--preset", "moons", "--steps", "3", "--channels", "8", "--batch-size", "12"],
    "transformer": ["--data", "text.txt", "--steps", "3", "--window", "16", "--layers", "1", "--heads", "2", "--width", "8", "--batch-size", "6"],
    "recurrent": ["--data", "text.txt", "--steps", "3", "--width", "8", "--window", "8", "--batch-size", "3"],
    "classifier": ["--data", "digits8x8", "--epochs", "1", "--batch-size", "400", "--channels", "2", "--features", "4"],
}


@pytest.fixture(autouse=True)
def without_kernels():
    with use_kernels(False):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "vae"
    with use_kernels(False):
        assert main(["train", "vae", *FAMILIES["vae"], "--quiet", "--out", str(folder)]) == 0
    return folder


def changed(run, folder, **entries):
    """A copy of the run whose card says something else."""
    shutil.copytree(run, folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({name: value for name, value in {**card, **entries}.items() if value != "drop"}))
    return folder


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_run_made_again_has_the_same_weights(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question\n" * 20)
    assert main(["train", kind, *FAMILIES[kind], "--quiet", "--out", str(tmp_path / "run")]) == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    assert main(["rerun", str(tmp_path / "run"), "--quiet", "--out", str(tmp_path / "again")]) == 0
    out = capsys.readouterr().out
    arrays = zoo.load(tmp_path / "run").arrays()
    assert f"all {len(arrays)} arrays are equal bit for bit" in out
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == before["model.safetensors"]
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before
    card = json.loads(before["card.json"])
    assert card["made_with"] == environment() and card["data_digest"]


def test_weights_that_differ_are_said_with_what_else_does(run, tmp_path, capsys):
    other = changed(run, tmp_path / "other", seed=1, made_with={**environment(), "numpy": "1.0"})
    assert main(["rerun", str(other), "--quiet"]) == 1
    out = capsys.readouterr().out
    n = len(zoo.load(run).arrays())
    assert f"of {n} arrays differ, most " in out and "numpy: 1.0 then" in out
    report = rerun(other)
    worst = max(report.differences.values())
    assert 0 < worst < 10 and not report.is_same


def test_weights_that_were_rounded_are_compared_as_such(run, tmp_path):
    zoo.load(run).save(tmp_path / "half", half=True, **{name: value for name, value in zoo.load(run).card.items()
                                                       if name not in ("kind", "version", "configuration", "parameters", storage.folders.DIGEST)})
    report = rerun(tmp_path / "half")
    assert report.is_same and report.arrays == len(zoo.load(run).arrays())
    assert not np.array_equal(*(next(iter(zoo.load(f).arrays().values())) for f in (run, tmp_path / "half")))


@pytest.mark.parametrize(("entries", "message"), [
    ({"command": "zoo train vae --from vae --out x"}, "began from other weights"), ({"changes": [{"step": 3, "lr": [1, 2]}]}, "changed on the way, in step 3"),
    ({"seed": "drop"}, "its card has no seed"), ({"steps": 99}, "has 99 steps, and its settings give 6"),
    ({"data_digest": {"train": 3}}, "learned from other data than digits8x8 is now")])
def test_what_cannot_be_made_again_is_refused_in_a_line(run, tmp_path, capsys, entries, message):
    folder = changed(run, tmp_path / "other", **entries)
    capsys.readouterr()
    assert main(["rerun", str(folder), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_run_that_a_clock_ended_is_made_again_up_to_there(tmp_path, monkeypatch):
    from zoo.training import trainer

    clock = iter(range(0, 10**6, 25))
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: float(next(clock)))
    assert main(["train", "vae", *FAMILIES["vae"], "--epochs", "50", "--minutes", "4", "--quiet", "--out", str(tmp_path / "run")]) == 0
    monkeypatch.undo()
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert 0 < card["steps"] < 150
    with use_kernels(False):
        assert rerun(tmp_path / "run").is_same
