"""The command line: from training to a picture and a figure, and every wrong input as one line and status 2."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo import data, recipes
from zoo.__main__ import main
from zoo.autograd.runtime import use_kernels
from zoo.autograd.runtime.processor import processor_name
from zoo.data import digits8x8
from zoo.loading.cards import KINDS, load
from zoo.parts.denoising.latents import digest_of
from zoo.recipes.options import as_numbers, help_text
from zoo.recipes.warm_up import RUNS, warm_up
from zoo.vae import VAE

TINY = ["--data", "digits8x8", "--hidden", "12", "--latent", "3", "--depth", "1", "--epochs", "1", "--batch-size", "500",
        "--optimiser", "adam", "--quiet"]


@pytest.fixture(autouse=True)
def without_kernels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with use_kernels(False):
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a model that `zoo train` made."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    with use_kernels(False):
        assert main(["train", "vae", *TINY, "--out", str(folder)]) == 0
    return folder


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(capsys, tmp_path, *arguments):
    """Run what must fail: one line on stderr, status 2, nothing written.  Returns the line."""
    before = files(tmp_path)
    capsys.readouterr()
    try:
        status = main([str(a) for a in arguments])
    except SystemExit as e:  # argparse's own way
        status = e.code
    out, error = capsys.readouterr()
    assert status == 2, (status, out, error)
    assert error.startswith("zoo: ") and error.count("\n") == 1 and "Traceback" not in error, error
    assert files(tmp_path) == before
    return error


def test_training_sampling_and_evaluating_end_to_end(trained, tmp_path, capsys):
    assert {p.name for p in trained.iterdir()} == {"model.safetensors", "card.json", "checkpoint.safetensors", "log.csv", "log.json"}
    card = json.loads((trained / "card.json").read_text())
    assert card["kind"] == "vae" and card["configuration"]["image"] == [8, 8] and card["data"] == "digits8x8" and card["steps"] == 2
    assert card["command"].startswith("zoo train vae --data digits8x8") and card["training"]["batch_size"] == 500
    assert main(["sample", str(trained), "-n", "4", "--seed", "3", "--out", "x.npz"]) == 0
    assert np.array_equal(np.load("x.npz")["images"], load(trained).sample(4, seed=3))
    assert main(["sample", str(trained), "-n", "2"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "vae.png" and (tmp_path / "vae.png").read_bytes().startswith(b"\x89PNG") and len(out.splitlines()) > 5
    assert main(["sample", str(trained), "-n", "1", "--steps", "--out", "y.png"]) == 0
    out = capsys.readouterr().out
    assert out.count("VAEStep") == len(list(load(trained).steps(1))) and "draw ~ N(0, 1)" in out
    assert main(["evaluate", str(trained), "--samples", "5", "--n", "20"]) == 0
    lines = dict(line.rsplit(None, 1) for line in capsys.readouterr().out.splitlines())
    assert int(lines["images"]) == 20 and int(lines["samples"]) == 5
    expected = load(trained).evaluate(digits8x8(), samples=5, n=20)["test NLL, nats"]
    assert float(lines["test NLL, nats"]) == pytest.approx(expected, abs=1e-3)


def test_a_run_goes_on_from_its_folder_and_from_other_weights(trained, tmp_path, capsys):
    assert main(["train", "vae", "--data", "digits8x8", "--epochs", "1", "--batch-size", "500", "--quiet", "--out", "again",
                 "--from", str(trained)]) == 0
    begun, given = load("again"), load(trained)
    came_from = {"model": str(trained), "steps": given.card["steps"], "digest": digest_of(given)}
    assert begun.card["began_from"] == came_from and "began_from" not in given.card
    assert begun.config == given.config and not np.array_equal(begun.output.weight.data, given.output.weight.data)
    before = (tmp_path / "again" / "model.safetensors").read_bytes()
    (tmp_path / "again" / "model.safetensors").unlink()
    fields = ["--hidden", "12", "--latent", "3", "--depth", "1", "--epochs", "1", "--batch-size", "500"]
    capsys.readouterr()
    assert main(["train", "vae", "--data", "digits8x8", *fields, "--out", "again", "--resume"]) == 0  # it had come to its end
    assert "2 steps, 2 of them done; again/" in capsys.readouterr().err
    assert load("again").card["began_from"] == came_from  # the command that resumed it doesn't say so
    assert "began from other weights" in refused(capsys, tmp_path, "rerun", "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == before


def test_a_preset_knows_its_data(capsys):
    small = ["--hidden", "8", "--discriminator_hidden", "8", "--batch_size", "8", "--quiet"]
    assert main(["train", "gan", "--preset", "grid", "--steps", "2", "--out", "run", *small]) == 0
    assert json.loads(Path("run/card.json").read_text())["data"] == "grid"
    assert main(["evaluate", "run", "--n", "50"]) == 0
    assert "reverse_kl" in capsys.readouterr().out


def test_classes_go_by_their_names_from_training_to_sampling_and_evaluation(tmp_path, capsys):
    """Ten classes named 0 to 9 but sorted otherwise as text; a test set that has only two of them."""
    from PIL import Image

    x = digits8x8()
    for split, names in (("train", ("ant", "bee", "cat")), ("test", ("bee", "cat"))):
        for i, name in enumerate(("ant", "bee", "cat")):
            if name in names:
                (tmp_path / "pictures" / split / name).mkdir(parents=True)
                for j, picture in enumerate(x.train[x.train_labels == i][:20]):
                    Image.fromarray((picture * 255).astype("u1")).save(tmp_path / "pictures" / split / name / f"{j}.png")
    (tmp_path / "pictures" / "train" / "ant" / "notes.txt").write_text("")
    settings = ["--image", "8,8", "--hidden", "12", "--latent", "3", "--depth", "1", "--classes", "3", "--epochs", "1", "--batch-size", "20",
                "--optimiser", "adam"]
    assert main(["train", "vae", "--data", "pictures", *settings, "--out", "run"]) == 0
    error = capsys.readouterr().err
    assert "pictures: 60 pictures to train on, 40 to test on, 8 x 8, 3 classes (0 ant, 1 bee, 2 cat)" in error
    assert "1 file in ant aren't pictures that Pillow reads: notes.txt" in error
    assert json.loads(Path("run/card.json").read_text())["class_names"] == ["ant", "bee", "cat"]
    assert main(["sample", "run", "-n", "2", "--digit", "bee"]) == 0
    assert "classes: 0 ant, 1 bee, 2 cat" in capsys.readouterr().out
    assert main(["sample", "run", "-n", "2", "--digit", "bee", "--out", "a.npz"]) == main(["sample", "run", "-n", "2", "--digit", "1", "--out", "b.npz"]) == 0
    assert np.array_equal(np.load("a.npz")["images"], np.load("b.npz")["images"])
    assert "--digit is 'dog'; it is a whole number or one of ant, bee, cat" in refused(capsys, tmp_path, "sample", "run", "--digit", "dog")
    assert main(["info", "run"]) == 0 and "0 ant, 1 bee, 2 cat" in capsys.readouterr().out
    for name in ("cat", "bee"):  # other pictures, of two of its classes
        (tmp_path / "two" / name).mkdir(parents=True)
        for path in (tmp_path / "pictures" / "test" / name).iterdir():
            (tmp_path / "two" / name / path.name).write_bytes(path.read_bytes())
    two = data.load_images("two").numbered_as(("ant", "bee", "cat"))
    assert set(two.train_labels) == {1, 2} and two.classes == ("ant", "bee", "cat")
    (tmp_path / "two" / "cat").rename(tmp_path / "two" / "dog")
    assert "has the class 'dog', which the model doesn't know; its classes are ant, bee, cat" in refused(capsys, tmp_path, "evaluate", "run", "--data", "two")


def test_other_autoencoders_train_by_the_same_words(capsys):
    for kind, fields in (("autoencoder", ["--hidden", "8,6", "--latent", "2"]),
                         ("vqvae", ["--codes", "4", "--width", "2", "--channels", "2", "--prior-layers", "1", "--prior-heads", "1",
                                    "--prior-width", "4"])):
        assert main(["train", kind, "--data", "digits8x8", "--epochs", "1", "--batch-size", "700", "--quiet", "--out", kind, *fields]) == 0
        assert main(["sample", kind, "-n", "2", "--out", f"{kind}.png"]) == 0
        assert main(["evaluate", kind]) == 0
    assert "perplexity of codes" in capsys.readouterr().out


def test_help_is_readable(capsys):
    for arguments in (["--help"], *([command, "--help"] for command in ("train", "sample", "evaluate", "inspect", "play", "demo", "warm-up"))):
        with pytest.raises(SystemExit) as e:
            main(arguments)
        out = capsys.readouterr().out
        assert e.value.code == 0 and out.startswith("usage: zoo") and max(map(len, out.splitlines())) < 140
    with pytest.raises(SystemExit) as e:
        main(["train", "vae", "--help"])
    out = capsys.readouterr().out
    assert e.value.code == 0 and "two-layers         --latent 100,50 --hidden 200,100 --epochs 400" in out
    assert "  --lr 0.003                     " in out and "importance-weighted bound" in out and "adam | muon" in out
    main_help = "demo train sample inspect play evaluate warm-up".split()
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(f"    {command}" in out for command in main_help)


@pytest.mark.parametrize("kind", recipes.KINDS)
def test_help_of_a_family_lists_every_preset_and_field_with_its_default(kind):
    recipe = recipes.recipe_of(kind)
    lines = help_text(kind, recipe).splitlines()
    assert max(map(len, lines)) < 140
    for preset in recipe.presets:
        assert any(line.startswith(f"  {preset} ") or line == f"  {preset}" for line in lines), preset
    begin = next(i for i, line in enumerate(lines) if line.startswith("fields of training"))
    for config, part in ((recipe.model.Config, lines[:begin]), (recipe.training, lines[begin:])):
        for field in dataclasses.fields(config):
            (text,) = (line.split()[1] for line in part if line.startswith(f"  --{field.name.replace('_', '-')} "))
            value = ast.literal_eval(text) if text.startswith("'") else text
            assert config.make(**{field.name: value}) == config.make(**{field.name: field.default}), text


def test_help_needs_no_numpy():
    code = "import sys; from zoo.__main__ import make_parser; make_parser().format_help(); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_family_is_one_that_can_be_loaded():
    assert set(recipes.KINDS) == set(KINDS) == set(RUNS)


# --- wrong words


@pytest.mark.parametrize(("arguments", "message"), [
    (["paint"], "invalid choice: 'paint'"),
    (["train", "vea"], "invalid choice: 'vea'"),
    (["train", "vae", "--seed", "one"], "argument --seed: 'one' isn't a whole number of at least 0"),
    (["train", "vae", "--latnet", "3"], "--latnet isn't an option here; did you mean --latent?"),
    (["train", "vae", "--latent"], "--latent needs a value"),
    (["train", "vae", "--latent", "3", "4"], "'4' is neither an option"),
    (["train", "vae", "--latent", "three"], "latent is 'three'; it is an int"),
    (["train", "vae", "--epochs", "1.5"], "epochs is '1.5'; it is an int"),
    (["train", "vae", "--activation", "swish"], "it may be 'tanh', 'relu'"),
    (["train", "vae", "--preset", "best"], "--preset is 'best'; vae has vae, iwae5"),
    (["train", "vae", "--data", "nowhere"], "nowhere: does not exist"),
    (["train", "vae", "--data", "digits8x8", "--hidden", "0"], "at least 1 each"),
    (["train", "vae", "--data", "digits8x8", "--batch-size", "5000"], "batch_size is 5000; with 1437 rows"),
    (["train", "vae", "--data", "digits8x8", "--batch-size", "0"], "batch_size is 0"),
    (["train", "vae", "--data", "digits8x8", "--epochs", "0"], "epochs is 0; it is at least 1"),
    (["train", "vae", "--data", "digits8x8", "--lr", "nan"], "lr is nan"),
    (["train", "vae", "--data", "digits8x8", "--minutes", "-1"], "minutes is -1.0"),
    (["train", "vae", "--data", "digits8x8", "--image", "28,28"], "this model takes (n, 28, 28)"),
    (["train", "vae", "--threads", "1000", "--data", "digits8x8"], "'1000' isn't a number from 1 to"),
    *[([*command, "--seed", "-1"], "argument --seed: '-1' isn't a whole number of at least 0")
      for command in (["train", "vae"], ["sample", "vae"], ["inspect", "vae"], ["evaluate", "vae"], ["chat", "x"])],
    (["train", "vae", "--from", "nowhere", "--data", "digits8x8"], "'nowhere' is neither a folder nor one of the models that ship"),
    (["sample", "nowhere"], "'nowhere' is neither a folder nor one of the models that ship"),
    (["evaluate", "nowhere"], "'nowhere' is neither a folder nor one of the models that ship"),
    (["demo", "--digit", "3"], "demo doesn't take --digit"),
    (["warm-up", "now"], "'now' is neither an option"),
])
def test_wrong_words_are_one_line(capsys, tmp_path, arguments, message):
    assert message in refused(capsys, tmp_path, *arguments)


@pytest.mark.parametrize(("arguments", "message"), [
    (["-n", "0"], "n is 0; it is a whole number of at least 1"),
    (["--digit", "3"], "isn't conditional"),
    (["--prompt", "hello"], "--prompt is for models that read words"),
    (["--out", "x.txt"], "pictures go to a .png, .gif or .npz file"),
    (["--out", "nowhere/x.png"], "nowhere does not exist"),
    (["--evaluations", "3"], "--evaluations isn't an option here"),
])
def test_wrong_words_of_sampling_are_one_line(trained, capsys, tmp_path, arguments, message):
    assert message in refused(capsys, tmp_path, "sample", trained, "-n", "1", *arguments)


def test_wrong_words_of_evaluation_are_one_line(trained, capsys, tmp_path):
    assert "did you mean --samples?" in refused(capsys, tmp_path, "evaluate", trained, "--sample", "3")
    assert "samples is 0" in refused(capsys, tmp_path, "evaluate", trained, "--samples", "0")
    assert "this model takes (n, 8, 8)" in refused(capsys, tmp_path, "evaluate", trained, "--data", "mnist", "--samples", "1", "--n", "1")


# --- wrong data


@pytest.mark.parametrize(("arrays", "message"), [
    ({"images": np.zeros((20, 5), np.float32)}, "has shape (20, 5); expects (n, height, width)"),
    ({"images": np.zeros((0, 8, 8), np.float32)}, "is empty"),
    ({"images": np.zeros((20, 8, 8), np.int64)}, "has dtype int64"),
    ({"images": np.full((20, 8, 8), 7.0)}, "expects floats in [0, 1]"),
    ({"images": np.full((20, 8, 8), np.nan)}, "nan"),
    ({"images": np.zeros((20, 8, 8), np.float32), "labels": np.zeros(19, int)}, "labels"),
    ({"images": np.zeros((20, 8, 8), np.float32), "labels": np.full(20, 0.5)}, "labels"),
    ({"images": np.zeros((20, 8, 8), np.float32), "labels": np.full(20, 12)}, "labels: values go from 12 to 12; they may go from 0 to 9"),
    ({"images": np.zeros((20, 8, 8), np.float32)}, "this model is conditional; it needs labels"),
    ({"pictures": np.zeros((20, 8, 8), np.float32)}, "expects x_train"),
])
def test_wrong_data_is_one_line_and_makes_no_folder(capsys, tmp_path, arrays, message):
    np.savez("data.npz", **arrays)
    line = refused(capsys, tmp_path, "train", "vae", *TINY, "--data", "data.npz", "--batch-size", "10", "--classes", "10", "--out", "run")
    assert message in line and not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 truncated", b"\x89PNG truncated", b"\x00\x00\x08\x03\x00"])
def test_data_that_is_none_is_one_line(capsys, tmp_path, content):
    (tmp_path / "data.npz").write_bytes(content)
    assert "data.npz" in refused(capsys, tmp_path, "train", "vae", "--data", "data.npz")


# --- wrong files


@pytest.fixture
def copy(trained, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in trained.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(("name", "change", "message"), [
    ("model.safetensors", lambda b: b[:-5], "is truncated"),
    ("model.safetensors", lambda b: b"", "not a safetensors file: it is empty"),
    ("model.safetensors", lambda b: b"PK\x03\x04" + bytes(40), "weights saved by PyTorch"),
    ("model.safetensors", None, "has neither model.safetensors nor"),
    ("card.json", lambda b: b[:30], "is not JSON: it is damaged or truncated"),
    ("card.json", lambda b: b"[1]", "expects an object"),
    ("card.json", None, "has no card.json"),
    ("card.json", lambda b: b.replace(b'"vae"', b'"cat"', 1), "kind is 'cat'; it may be vae"),
    ("card.json", lambda b: b.replace(b'"latent"', b'"latnet"', 1), "there is no field 'latnet'"),
    ("card.json", lambda b: b.replace(b'"configuration": {', b'"configuration": 3, "old": {', 1), "copy"),
    ("card.json", lambda b: b.replace(b'"depth": 1', b'"depth": 2', 1), "does not fit the model; missing: "),
    ("card.json", lambda b: b.replace(b'"kind": "vae"', b'"kind": "gan"', 1), "copy"),
])
def test_wrong_model_files_are_one_line(copy, capsys, tmp_path, name, change, message):
    path = copy / name
    if change is None:
        path.unlink()
    else:
        changed = change(path.read_bytes())
        assert changed != path.read_bytes()
        path.write_bytes(changed)
    for command in (["sample"], ["evaluate"], ["train", "vae", "--data", "digits8x8", "--from"]):
        line = refused(capsys, tmp_path, *command, copy)
        assert message in line and "copy" in line


def test_wrong_runs_are_one_line(copy, trained, capsys, tmp_path):
    assert "holds a run already" in refused(capsys, tmp_path, "train", "vae", *TINY, "--out", copy)
    assert "run's seed is 0, not 1" in refused(capsys, tmp_path, "train", "vae", *TINY, "--out", copy, "--resume", "--seed", "1")
    assert "the run's latent is [3], not [4]" in refused(capsys, tmp_path, "train", "vae", *TINY, "--out", copy, "--resume", "--latent", "4")
    assert "the run's average is 0.999, not 0.0" in refused(capsys, tmp_path, "train", "vae", *TINY, "--out", copy, "--resume", "--average", "0")
    assert "the run's lr is 0.003, not 0.5" in refused(capsys, tmp_path, "train", "vae", *TINY, "--out", copy, "--resume", "--lr", "0.5")
    other_pictures = tmp_path / "other.npz"
    np.savez(other_pictures, images=digits8x8().train[:600])
    line = refused(capsys, tmp_path, "train", "vae", *TINY, "--out", copy, "--resume", "--data", other_pictures)
    assert "the run's data.train is 1437, not 540" in line and "data.digest is" in line and "--change-settings" in line
    assert "would change it" in refused(capsys, tmp_path, "train", "vae", *TINY, "--out", "new", "--from", trained)
    (copy / "checkpoint.safetensors").write_bytes(b"\x00" * 50)
    assert "checkpoint.safetensors" in refused(capsys, tmp_path, "train", "vae", *TINY, "--out", copy, "--resume")
    (copy / "checkpoint.safetensors").unlink()
    assert "holds a model but no checkpoint" in refused(capsys, tmp_path, "train", "vae", *TINY, "--out", copy)
    assert "is a file; expects a folder" in refused(capsys, tmp_path, "train", "vae", *TINY, "--out", copy / "card.json")
    other = ["--data", "digits8x8", "--epochs", "1", "--batch-size", "700", "--hidden", "4", "--quiet", "--out", "other"]
    assert main(["train", "autoencoder", *other]) == 0
    assert "is of kind 'autoencoder', not 'vae'" in refused(capsys, tmp_path, "train", "vae", "--data", "digits8x8", "--from", "other")


def test_a_full_disk_is_one_line_and_leaves_the_earlier_files(copy, capsys, tmp_path):
    resource = pytest.importorskip("resource")
    (tmp_path / "x.png").write_bytes(b"mine")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, before[1]))
    try:
        lines = [refused(capsys, tmp_path, "sample", copy, "-n", "4", "--out", "x.png"),
                 refused(capsys, tmp_path, "train", "vae", *TINY, "--out", copy, "--resume")]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all("could not be written" in line and "unchanged" in line for line in lines)


def test_a_loss_that_is_nan_is_one_line_and_status_2(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(VAE, "loss", lambda self, batch, rng, warmth=1.0: {"loss": self.output.weight.sum() * np.float32(np.nan)})
    assert "step 1: loss is nan; training stopped" in refused(capsys, tmp_path, "train", "vae", *TINY, "--out", "run")


def test_a_defect_of_ours_still_shows_its_traceback(monkeypatch, trained):
    def broken(*arguments, **settings):
        raise AttributeError("a defect")

    monkeypatch.setattr(VAE, "sample", broken)
    with pytest.raises(AttributeError):
        main(["sample", str(trained)])


# --- processes


def environment():
    return {**os.environ, "ZOO_KERNELS": "0"}


def test_ctrl_c_in_another_process_leaves_a_checkpoint_that_goes_on(tmp_path):
    command = [sys.executable, "-m", "zoo", "train", *["vae", *TINY[:-1]], "--epochs", "100000", "--out", "run"]
    default = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs, such as this suite may be, ignore Ctrl-C
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, preexec_fn=default)
    try:
        assert process.stderr is not None
        assert "parameters" in process.stderr.readline()
        for _ in range(600):  # a busy machine may take long to come to the first step
            if (tmp_path / "run" / "run.lock").exists():
                break
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130 and error.splitlines()[-1].startswith("zoo: stopped after step") and "Traceback" not in error
    assert (tmp_path / "run" / "checkpoint.safetensors").exists() and not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("place", ["make_parser", "_run", "_list"])
def test_ctrl_c_is_one_line_wherever_it_comes(monkeypatch, capsys, place):
    def pressed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"zoo.__main__.{place}", pressed)
    assert main(["list"]) == 130 and capsys.readouterr().err == "zoo: stopped\n"


def test_importing_zoo_imports_neither_numpy_nor_numba(tmp_path):
    code = "import sys, zoo; print(sorted({'numpy', 'numba', 'scipy', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = "import sys, zoo; zoo.vae, zoo.transformer, zoo.load; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"  # nothing can have been compiled


def test_warming_up_runs_every_family_and_says_how_long(capsys):
    warm_up(("autoencoder",))  # the others take seconds each without kernels
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[0] == "autoencoder" and float(line.split()[1]) >= 0
    for kind, runs in RUNS.items():
        family = recipes.recipe_of(kind)
        assert all(preset in family.presets for preset, _ in runs), kind


def test_models_are_listed_and_described(trained, capsys):
    from zoo.loading.cards import card_of, shipped

    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in shipped():
        assert name in out and card_of(name)["description"].split()[0] in out  # every model that ships has a sentence
    assert main(["info", "diffusion"]) == 0
    out = capsys.readouterr().out
    assert "Fréchet distance" in out and f"{card_of('diffusion')['parameters']:,}" in out and "zoo sample diffusion" in out
    assert main(["info", str(trained)]) == 0
    assert "a variational autoencoder" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    version, packages, processor = capsys.readouterr().out.splitlines()
    assert end.value.code == 0 and version == f"zoo {zoo.__version__}"
    assert re.fullmatch(rf"Python {re.escape(platform.python_version())}, NumPy {re.escape(np.__version__)}, SciPy [\d.]+, Numba [\d.]+\S*", packages)
    assert processor.startswith(processor_name()) and f"{os.cpu_count()} core" in processor and "products in bf16: as" in processor
    assert ("bf16" in processor.partition("; products")[0]) == ("processor's own" in processor)


def test_no_line_is_wider_than_the_terminal(capsys, monkeypatch):
    for width in (60, 80, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        for arguments in (["list"], ["info", "vae"], ["sample", "vae", "-n", "4"]):
            assert main(arguments) == 0
            assert max(map(len, capsys.readouterr().out.splitlines())) <= width


def test_a_chorale_is_drawn_and_written_as_music(tmp_path, capsys):
    assert main(["sample", "chorales", "-n", "120", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "chorales.mid" and "S" in out and "B-" in out and Path("chorales.mid").read_bytes()[:4] == b"MThd"
    for name, magic in (("x.wav", b"RIFF"), ("x.npz", b"PK"), ("x.txt", b"")):
        assert main(["sample", "chorales", "-n", "120", "--seed", "1", "--out", name]) == 0
        assert Path(name).read_bytes().startswith(magic)
    text = Path("x.txt").read_text()
    assert text.endswith("\n") and "\n" not in text[:-1] and len(text) > 8
    capsys.readouterr()
    assert "music goes to" in refused(capsys, tmp_path, "sample", "chorales", "--out", "x.jpg")


def test_blank_text_is_not_left_without_a_word(capsys):
    assert main(["sample", "transformer", "-n", "5", "--temperature", "0"]) == 0
    out, error = capsys.readouterr()
    assert bool(out.strip()) != ("the text is blank" in error)


def test_steps_name_tokens_by_their_text(capsys):
    assert main(["sample", "transformer", "-n", "2", "--steps", "--prompt", "ROMEO:"]) == 0
    assert "'\\n' " in capsys.readouterr().out


@pytest.mark.parametrize("threads", ["0", "-1", "1.5", "all", "100000"])
@pytest.mark.parametrize("command", [["demo"], ["train", "vae"], ["sample", "vae"], ["inspect", "vae"], ["play"], ["evaluate", "vae"], ["warm-up"]])
def test_every_command_refuses_a_number_of_threads_that_there_is_not(command, threads, capsys, tmp_path):
    assert f"--threads: '{threads}' isn't a number from 1 to" in refused(capsys, tmp_path, *command, "--threads", threads)


def test_a_wrong_number_of_threads_in_the_environment_is_one_line(tmp_path):
    for variable in ("ZOO_THREADS", "NUMBA_NUM_THREADS"):
        done = subprocess.run([sys.executable, "-m", "zoo", "sample", "vae"], env={**os.environ, variable: "0"}, cwd=tmp_path,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 2 and done.stderr == f"zoo: the environment variable {variable} is '0'; it is a number of threads, 1 or more\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_leaves_no_half_written_file(trained, tmp_path, monkeypatch, number):
    """At whatever call that writes, renames or flushes the signal comes, what cleans up is run; a signal that is ignored stays ignored."""
    before = signal.signal(number, signal.SIG_DFL)
    replace = os.replace
    try:
        monkeypatch.setattr(os, "replace", lambda *paths: (os.kill(os.getpid(), number), time.sleep(1)))
        with pytest.raises(SystemExit) as ended:
            main(["sample", str(trained), "-n", "1", "--out", "x.png"])
        assert ended.value.code == 128 + number and files(tmp_path) == {} and signal.getsignal(number) is signal.SIG_DFL
        monkeypatch.setattr(os, "replace", lambda *paths: (os.kill(os.getpid(), number), replace(*paths)))
        signal.signal(number, signal.SIG_IGN)
        assert main(["sample", str(trained), "-n", "1", "--out", "x.png"]) == 0 and (tmp_path / "x.png").exists()
    finally:
        signal.signal(number, before)


def test_a_file_name_may_be_what_no_text_is(tmp_path, capsys):
    """Linux allows any bytes: the run isn't lost for them, its card can be read, and its name is printed somehow."""
    name = os.fsdecode(b"run \xff")
    assert main(["train", "vae", *TINY, "--out", name]) == 0
    assert load(name).card["command"].endswith(f"--out '{name}'")
    assert main(["sample", name, "-n", "1", "--out", os.fsdecode(b"\xfe.png")]) == 0 and (tmp_path / os.fsdecode(b"\xfe.png")).exists()
    assert main(["evaluate", name, "--samples", "2", "--n", "4", "--out", os.fsdecode(b"more \xff")]) == 0


def test_a_run_from_other_weights_reads_as_much_as_the_model_takes(tmp_path, capsys):
    """The default preset's window is four times this model's."""
    Path("text.txt").write_text("to be or not to be\n" * 60)
    tiny = ["--data", "text.txt", "--steps", "1", "--batch-size", "2", "--evaluate-tokens", "40", "--quiet"]
    assert main(["train", "transformer", *tiny, "--window", "16", "--layers", "1", "--heads", "1", "--width", "8", "--out", "a"]) == 0
    assert main(["train", "transformer", *tiny, "--from", "a", "--out", "b"]) == 0
    assert load("b").config.window == 16 and load("b").card["training"]["window"] == 16


@pytest.mark.parametrize("kind,wrong,right", [("vae", "steps", "epochs"), ("diffusion", "epochs", "steps"), ("transformer", "epochs", "steps")])
def test_each_kind_counts_its_training_in_one_unit_and_says_which(capsys, tmp_path, kind, wrong, right):
    for given in ([f"--{wrong}", "3"], [f"--{wrong}", "3", f"--{right}", "3"]):
        assert f"--{wrong} isn't an option here: this kind of model counts its training in {right}" in refused(capsys, tmp_path, "train", kind, *given)


def test_values_of_options_are_numbers_truths_or_texts():
    values = as_numbers({"stop": "true", "json": "true", "a": "false", "n": "3", "lr": "1e-3", "name": "x"})
    assert values == {"stop": "true", "json": True, "a": False, "n": 3, "lr": 1e-3, "name": "x"} and as_numbers({"stop": "12"}) == {"stop": "12"}
