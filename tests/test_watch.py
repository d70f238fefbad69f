"""Watching a training changes nothing in it, and the page shows what the run wrote."""

import functools
import json
import os
import re
import threading

import numpy as np
import pytest
from test_access import axe, check  # noqa: F401
from test_page import ACCESS, browser, text_model, text_of  # noqa: F401
from test_play import asked
from test_start import until

from zoo.__main__ import main
from zoo.data.images import Images
from zoo.inspection import watching
from zoo.inspection.page import unpack
from zoo.inspection.play import Models, Server
from zoo.inspection.watching import FILE, MOST_SNAPSHOTS, Watcher, newest_run, read_run, thinned
from zoo.optim import Adam
from zoo.recipes import recipe_of
from zoo.storage import WrongFile
from zoo.training import Trainer
from zoo.vae import VAE


def pictures(rng, n=64):
    x = rng.random((n, 8, 8)).astype(np.float32)
    return Images(x, np.arange(n) % 10, x, np.arange(n) % 10, "noise")


def trained(kind, data, folder, watched, *, steps=6, **fields):
    """A short run of a recipe; its trainer."""
    recipe = recipe_of(kind)
    names = set(recipe.training.__dataclass_fields__)
    settings = recipe.training.make(**{name: value for name, value in fields.items() if name in names})
    model = recipe.new(data, {name: value for name, value in fields.items() if name not in names}, 0)
    trainer = recipe.trainer(model, data, settings, seed=0, folder=folder)
    trainer.steps = steps
    if watched:
        trainer.on_step = Watcher(trainer, data, title=kind)
        trainer.on_step._write_due = trainer.on_step._snapshot_due = 0
    trainer.run(progress=False)
    return trainer


RUNS = {
    "vae": {"latent": (2,), "hidden": (8,), "batch_size": 16, "epochs": 4},
    "autoencoder": {"latent": 2, "hidden": (8,), "batch_size": 16, "epochs": 4},
    "gan": {"network": "dense", "hidden": (8,), "discriminator_hidden": (8,), "latent": 2, "batch_size": 16, "steps": 6},
    "ring": {"network": "dense", "image": (2,), "hidden": (8,), "discriminator_hidden": (8,), "latent": 2, "batch_size": 128, "steps": 6,
             "generator_norm": "none", "discriminator_norm": "none"},
    "diffusion": {"channels": 8, "multipliers": (1,), "blocks": 1, "classes": 10, "batch_size": 8, "steps": 6},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_watched_run_ends_with_the_same_weights_bit_for_bit(tmp_path, rng, monkeypatch, name):
    monkeypatch.setattr(watching, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(watching, "SHARE", 1e9)  # a snapshot after every step
    kind, data = ("gan", "ring") if name == "ring" else (name, pictures(rng))
    plain, watched = (trained(kind, data, tmp_path / str(w), w, **RUNS[name]) for w in (False, True))
    for a, b in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert np.array_equal(a.data, b.data)
    run = read_run(tmp_path / "True")
    assert [s["step"] for s in run["snapshots"]] == list(range(1, 7)) and run["step"] == run["steps"] == 6
    assert [row["step"] for row in run["rows"]] == list(range(1, 7))
    assert all(s["panels"] for s in run["snapshots"])
    with watched.averaged():  # the last snapshot is of the weights that are saved
        watched.model.eval()
        panel = next(p for p in run["snapshots"][-1]["panels"] if p["kind"] in ("pictures", "points"))
        again = next(p for p in watching.SNAPSHOTS[kind](watched.model, data, watched) if p["title"] == panel["title"])
    name = "pictures" if panel["kind"] == "pictures" else "points"
    assert np.array_equal(unpack(panel[name]), unpack(again[name]))


def test_a_transformers_snapshot_is_its_text_and_its_attention(tmp_path):
    model = text_model(layers=2, heads=2, width=16, window=64)
    panels = list(watching.SNAPSHOTS["transformer"](model, None, None))
    assert panels[0]["text"] == model.generate("", 120, seed=0, temperature=0.8)
    weights = unpack(panels[1]["array"])
    assert weights.shape == (32, 32) and np.allclose(weights.sum(1), 1, atol=2e-2) and np.triu(weights, 1).max() == 0


def test_what_is_kept_of_a_long_run_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(watching, "SHARE", 1e9)
    monkeypatch.setattr(watching, "MOST_ROWS", 50)
    monkeypatch.setattr(Watcher, "_snapshot", lambda self, trainer: [])
    model = VAE.new(image=(2, 2), latent=(1,), hidden=(2,))
    x = np.zeros((4, 2, 2), np.float32)
    trainer = Trainer(model, model.loss, lambda step, rng: x, Adam(model.parameters(), 1e-3), steps=150, folder=tmp_path / "run")
    trainer.on_step = watcher = Watcher(trainer)
    for record in trainer:
        if record.step > 60:
            watcher._write_due = np.inf
    run = read_run(tmp_path / "run")
    assert len(watcher.rows) <= 100 and len(run["rows"]) <= 50 and len(run["snapshots"]) <= MOST_SNAPSHOTS
    assert run["rows"][-1]["step"] == 150
    for n in (0, 1, 50, 51, 250):
        few = thinned([{"step": i} for i in range(n)])
        assert len(few) <= 50 and (not n or few[-1]["step"] == n - 1)


def test_a_run_that_was_not_watched_has_its_curves(tmp_path, rng):
    trainer = trained("vae", pictures(rng), tmp_path / "run", False, **RUNS["vae"])
    run = read_run(tmp_path / "run")
    assert run["rows"] == trainer.rows and run["snapshots"] == []


def test_the_newest_run_is_the_one_that_was_written_last(tmp_path):
    assert newest_run(tmp_path / "runs") == []
    for k, name in enumerate("bca"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "log.json").write_text("{}")
        os.utime(tmp_path / "runs" / name / "log.json", (k, k))
    assert newest_run(tmp_path / "runs") == [tmp_path / "runs" / "a"]


@pytest.mark.parametrize("content", ["[]", "{", '{"zoo": "other"}', '{"zoo": "watch", "version": 99}', '{"zoo": "watch"}'])
def test_what_is_no_run_is_one_line(tmp_path, content, capsys):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        read_run(tmp_path)
    (tmp_path / FILE).write_text(content)
    with pytest.raises(WrongFile):
        read_run(tmp_path)
    assert main(["watch", str(tmp_path)]) == 2 and capsys.readouterr().err.count("\n") == 1
    assert main(["watch", "a", "b", "c"]) == 2


@pytest.fixture
def server(tmp_path, rng):
    for k, rate in enumerate((1e-3, 1e-2)):
        trained("vae", pictures(rng), tmp_path / f"run{k}", True, **RUNS["vae"], lr=rate)
    trained("gan", "ring", tmp_path / "ring", True, **RUNS["ring"])
    servers = [Server(Models({"vae": VAE.new()}), runs=[tmp_path / name for name in names], plays=False) for names in (("run0", "run1"), ("ring",))]
    for one in servers:
        threading.Thread(target=one.serve_forever, daemon=True).start()
    yield servers
    for one in servers:
        one.shutdown()
        one.stop()


def test_axe_has_nothing_against_the_page(browser, server, axe):  # noqa: F811
    def show(theme, one):
        browser.get("about:blank")
        browser.get(f"{one.address}#theme={theme}")
        until(browser, "document.querySelector('.charts polyline') && document.querySelector('.snapshot')")

    for one in server:
        check(browser, axe, functools.partial(show, one=one))
    browser.get("about:blank")  # nothing asks any more when the servers stop
    browser.get_log("browser")


def test_the_page_draws_two_runs_and_goes_back_in_time(browser, server, tmp_path):  # noqa: F811
    status, _, content = asked(server[0], "POST", "watch", {"seen": ["x"]})
    assert status == 400 and "seen" in json.loads(content)["error"]
    browser.get(server[0].address)
    until(browser, "watch.runs.length === 2 && document.querySelector('.charts polyline')")
    runs = [read_run(tmp_path / f"run{k}") for k in range(2)]
    shown = browser.execute_script("return [...document.querySelector('.charts .legend').querySelectorAll('b')].map(b => b.textContent)")
    name = next(n for n in runs[0]["rows"][-1] if "loss" in n)
    assert all(any(abs(float(text) / run["rows"][-1][name] - 1) < 1e-3 for text in shown) for run in runs)
    assert browser.execute_script("return document.querySelectorAll('.snapshot').length") == sum(len(run["snapshots"][-1]["panels"]) for run in runs)
    browser.execute_script("s = document.getElementById('when'); s.value = 0; s.dispatchEvent(new Event('input'))")
    assert "after 1 step" in text_of(browser, ".scrub") and not re.search(r"(?<![\d.,])1 steps", text_of(browser, "body"))  # 3.1 steps a second are several
    browser.get(server[1].address)
    until(browser, "document.querySelector('.surface canvas') && document.querySelector('.words')")
    for width in (400, 1280):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        for _ in ("one theme", "the other"):
            assert not browser.execute_script(ACCESS)
            browser.execute_script("document.getElementById('theme').click()")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE" and "400" not in entry["message"]]


def test_training_from_the_command_line_can_be_watched(tmp_path, capsys):
    assert main(["train", "vae", "--data", "digits8x8", "--latent", "2", "--hidden", "8", "--epochs", "1", "--out", str(tmp_path / "run"), "--watch",
                 "--no-open"]) == 0
    assert "watch it at http://127.0.0.1:" in capsys.readouterr().err
    run = read_run(tmp_path / "run")
    assert run["step"] == run["steps"] and run["snapshots"][-1]["step"] == run["steps"]
