"""Searches: what is written as a space is what is drawn, a search that is stopped goes on as if it hadn't, the best runs are carried on."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ranks import MPIEXEC, with_mpi

import zoo
from zoo.__main__ import main
from zoo.inspection.search import rows_of, table
from zoo.recipes import KINDS, recipe_of
from zoo.recipes.search import Space, gaussian, read_search, running, search, strategies, trials
from zoo.recipes.search.strategies import Trial, promotion

RECURRENT = recipe_of("recurrent")
FIXED = {"lines": "true", "steps": "9", "batch_size": "8", "evaluate_tokens": "500", "warm_up": "0", "average": "0"}
OVER = "width=4..12:4,cell=gru|elman,lr=1e-3..1e-1"


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("".join(f"{a}{b}{c}\n" for a in "abcde" for b in "lmno" for c in "xyz"))
    return str(path)


def space(over=OVER, fixed=FIXED, kind="recurrent", preset="names"):
    recipe = recipe_of(kind)
    return Space.of(recipe, over, {**recipe.presets[preset], **fixed})


def small(names, out, n=4, **changes):
    return search("recurrent", space(), out, **{"trials": n, "preset": "names", "fixed": FIXED, "data": names, "seed": 3, **changes})


def told(result):
    """All of a search but its times."""
    return [(t.number, t.point, t.state, t.rung, t.scores, [r["step"] for r in t.results]) for t in result.trials]


# --- the space


@given(st.floats(0, 1), st.integers(0, 50), st.integers(1, 60), st.integers(1, 7))
@settings(max_examples=60)
def test_whole_numbers_are_drawn_between_their_ends_in_steps(u, low, width, step):
    step = min(step, width)
    d = space(f"evaluate_every={low + 1}..{low + 1 + width}:{step}").dimensions[0]
    value = d.value(np.array([u]))
    assert isinstance(value, int) and low + 1 <= value <= low + 1 + width and (value - low - 1) % step == 0
    assert d.value(d.coordinates(value)) == value


@given(st.floats(0, 1), st.floats(1e-6, 1.0), st.floats(1.01, 1e4))
@settings(max_examples=60)
def test_numbers_come_back_from_their_coordinates(u, low, ratio):
    d = space(f"lr={low:.4g}..{low * ratio + 1e-6:.6g}").dimensions[0]
    value = d.value(np.array([u]))
    assert d.low <= value <= d.high and np.isclose(d.value(d.coordinates(value)), value, rtol=1e-3)


def test_a_tenfold_range_is_logarithmic_and_a_choice_is_as_likely_as_another():
    s = space("lr=1e-4..1e-2,dropout=0..0.5,cell=gru|lstm|elman,width=3..5")
    rng = np.random.default_rng(0)
    points = [s.point(rng.random(s.size)) for _ in range(3000)]
    rates = np.array([p["lr"] for p in points])
    assert abs(np.mean(rates < 1e-3) - 0.5) < 0.04  # four deviations
    assert abs(np.mean([p["dropout"] < 0.25 for p in points]) - 0.5) < 0.04
    for name, values in (("cell", ("gru", "lstm", "elman")), ("width", (3, 4, 5))):
        assert all(abs(np.mean([p[name] == v for p in points]) - 1 / 3) < 0.035 for v in values)


def test_what_a_space_prints_is_the_space():
    s = Space.of(recipe_of("autoencoder"), "hidden=512,256|64, latent=2..32,lr=1e-4..1e-2,activation=relu|tanh,batch-size=16..64:16")
    assert [d.name for d in s.dimensions] == ["hidden", "latent", "lr", "activation", "batch_size"]
    assert s.dimensions[0].choices == ("512,256", "64") and Space.of(s.recipe, str(s)) == s
    rng = np.random.default_rng(1)
    for _ in range(20):
        fields, training = s.settings(point := s.point(rng.random(s.size)))
        assert s.recipe.model.Config.make(**fields).latent == point["latent"] and training.batch_size == point["batch_size"]


@pytest.mark.parametrize(("over", "message"), [
    ("widht=3..4", "no field 'widht'; did you mean 'width'"), ("width=4..2", "nothing between its ends"), ("width=4..4", "nothing between its ends"),
    ("width=a..b", "isn't a range of whole numbers"), ("width=0.5..3", "isn't a range of whole numbers"), ("lr=1e-3..x", "isn't a range of numbers"),
    ("width=2..8:9", "has a step of 9"), ("lr=0.1..0.2:1", "only ranges of whole numbers"), ("cell=gru..lstm", "isn't a number"),
    ("cell=gru|gru", "names a choice twice"), ("width", "isn't NAME=LOW..HIGH"), ("", "is empty"), ("width=2..4,width=3..5", "given twice"),
    ("cell=gru|gro", "may be 'elman', 'gru'"), ("lr=0.1..inf", "nothing between its ends")])
def test_what_is_wrong_with_a_space_is_said_in_one_line(over, message, capsys):
    assert main(["search", "recurrent", "--over", over, "--trials", "2", "--out", "/nowhere/at/all"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_field_refuses_what_its_range_leaves_out():
    with pytest.raises(ValueError, match="over: lr is -1"):
        Space.of(recipe_of("autoencoder"), "lr=-1..1")
    with pytest.raises(ValueError, match="over: latent is 0"):
        Space.of(recipe_of("autoencoder"), "latent=0..4")
    for choice in ("0,4", "many"):
        with pytest.raises(ValueError, match="over: hidden is '?" + choice[0]):
            Space.of(recipe_of("autoencoder"), f"hidden=8|{choice}")
    assert Space.of(recipe_of("diffusion"), "clip=none|0.5").dimensions[0].choices == ("none", "0.5")


def test_points_that_make_no_model_are_rejected_and_counted(tmp_path, names):
    corpus = recipe_of("transformer").data(names)
    fixed = {**recipe_of("transformer").presets["names"], "layers": 1, "positions": "learned"}
    some = strategies.Proposals(Space.of(recipe_of("transformer"), "width=8..16:1,heads=2|3|4", fixed), "random", 0, corpus)
    for i in range(6):
        point = some.draw(i, [])
        assert point["width"] % int(point["heads"]) == 0
    assert some.rejected > 0
    none = strategies.Proposals(Space.of(recipe_of("transformer"), "width=9..11:2", {**fixed, "heads": 4}), "random", 0, corpus)
    with pytest.raises(ValueError, match="has no valid point in 300 draws; the last was refused: .*heads"):
        none.draw(0, [])


# --- strategies


def halve(values, top=strategies.RUNGS):
    """Halving of trials whose score on a rung is values(number, rung), one worker; the order in which they ran."""
    n, ran, there = values.shape[0], [], []
    while True:
        trial = promotion(there, top, is_last=len(there) == n)
        if trial is not None:
            trial.rung += 1
        elif len(there) < n:
            trial = Trial(len(there), {})
            there.append(trial)
        else:
            return there, ran
        trial.state = "done"
        trial.scores.append(float(values[trial.number, trial.rung]))
        ran.append((trial.number, trial.rung))


@given(st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=40)
def test_halving_carries_on_the_best_third_of_each_rung(n, seed):
    values = np.repeat(np.random.default_rng(seed).permutation(n)[:, None], strategies.RUNGS, axis=1)  # the same order on each rung
    there, ran = halve(values)
    assert len(ran) == len(set(ran))
    assert there[int(values[:, 0].argmin())].rung == strategies.RUNGS - 1 or n < strategies.FACTOR**2  # the best of all reaches the top
    assert strategies.best_of(there).score == (values[:, 0].min() if n >= strategies.FACTOR**2 else strategies.best_of(there).score)
    for rung in range(strategies.RUNGS - 1):
        reached = sorted(t.scores[rung] for t in there if len(t.scores) > rung)
        gone_on = [t.scores[rung] for t in there if len(t.scores) > rung + 1]
        assert set(reached[: len(reached) // strategies.FACTOR]) <= set(gone_on)  # with more by then, others may have gone on before
        assert len(gone_on) <= max(len(reached) // strategies.FACTOR + sum(s not in reached[: len(reached) // strategies.FACTOR] for s in gone_on), 1)
    assert any(len(t.scores) == strategies.RUNGS for t in there)


def bowl(x):
    """A function of the unit cube with its least value, 0, at 0.3."""
    return ((x - 0.3) ** 2).sum(-1)


def test_the_gaussian_process_comes_nearer_than_random_draws():
    best = {"model": [], "random": []}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = rng.random((6, 3))
        for _ in range(12):
            x = np.vstack([x, gaussian.propose(x, bowl(x), rng)[0]])
        best["model"].append(bowl(x).min())
        best["random"].append(bowl(np.random.default_rng(seed).random((18, 3))).min())
    assert np.median(best["model"]) < np.median(best["random"]) / 4


def test_the_process_passes_through_what_is_known_and_doubts_what_is_far():
    rng = np.random.default_rng(0)
    x = rng.random((20, 2))
    y = np.sin(4 * x[:, 0]) + x[:, 1]
    y = (y - y.mean()) / y.std()
    process = gaussian.GaussianProcess.fit(x, y)
    mean, deviation = process.predict(x)
    assert np.allclose(mean, y, atol=0.1) and process.predict(np.full((1, 2), 50.0))[1] == pytest.approx(1) and (deviation < 0.2).all()
    near = x[:7] + 0.05  # Rasmussen & Williams (2006), eq. 2.25 and 2.26
    square = lambda a, b: np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * process.length**2))
    inverse = np.linalg.inv(square(x, x) + (process.noise + 1e-8) * np.eye(20))
    mean, deviation = process.predict(near)
    assert np.allclose(mean, square(near, x) @ inverse @ y, atol=1e-6)
    assert np.allclose(deviation**2, 1 - np.einsum("ij,jk,ik->i", square(near, x), inverse, square(near, x)), atol=1e-6)


@given(st.floats(-2, 2), st.floats(0.1, 2), st.floats(-2, 2))
@settings(max_examples=20)
def test_the_expected_improvement_is_the_mean_over_draws(mean, deviation, best):
    draws = mean + deviation * np.random.default_rng(0).standard_normal(200_000)
    expected = gaussian.expected_improvement(np.array([mean]), np.array([deviation]), best)[0]
    assert np.isclose(expected, np.maximum(best - draws, 0).mean(), atol=0.01 * deviation + 1e-3)


# --- searches


@pytest.mark.parametrize("by", strategies.STRATEGIES)
def test_a_search_that_was_stopped_equals_one_that_was_not(tmp_path, names, by, monkeypatch):
    n = 9 if by == "model" else 4
    monkeypatch.setattr(strategies, "FACTOR", 2)
    monkeypatch.setattr(running, "FACTOR", 2)
    whole = small(names, tmp_path / "a", n, by=by)
    ran = running.Here.next
    calls = iter(range(100))

    def die(self):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return ran(self)

    monkeypatch.setattr(running.Here, "next", die)
    with pytest.raises(KeyboardInterrupt):
        small(names, tmp_path / "b", n, by=by)
    monkeypatch.setattr(running.Here, "next", ran)
    assert any(t.state == "running" for t in read_search(tmp_path / "b").trials)
    again = small(names, tmp_path / "b", n, by=by)
    assert told(again) == told(whole) and len(whole.trials) == n
    assert told(read_search(tmp_path / "b")) == told(again)
    assert told(small(names, tmp_path / "b", n, by=by)) == told(again)  # done: nothing happens
    assert len(small(names, tmp_path / "b", n + 1, by=by).trials) == n + 1


def test_a_trial_that_reaches_the_top_is_the_run_that_its_command_makes(tmp_path, names, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = small(names, tmp_path / "s", 4, by="halving")
    best = result.best
    assert [r["step"] for r in best.results] == [1, 3, 9] and best.results[-1]["steps"] == 9
    command = shlex.split(result.command(best))
    assert command[:3] == ["zoo", "train", "recurrent"]
    assert main([*command[1:], "--out", str(tmp_path / "run"), "--quiet"]) == 0
    a, b = (zoo.load(folder).arrays() for folder in (result.folder_of(best), tmp_path / "run"))
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
    card = json.loads((result.folder_of(best) / "card.json").read_text())
    assert card["search"]["point"] == best.point and card["command"] == result.command(best)


def test_two_workers_find_what_one_finds(tmp_path, names):
    assert told(small(names, tmp_path / "two", 3, workers=2)) == told(small(names, tmp_path / "one", 3))


@pytest.mark.parametrize("kind", sorted(kind for kind in KINDS if "lr" in {f.name for f in dataclasses.fields(recipe_of(kind).training)}))
def test_a_space_of_every_recipe_reaches_other_processes(kind):
    sent = Space.of(recipe_of(kind), "lr=1e-4..1e-2", {"seed": 3})
    there = pickle.loads(pickle.dumps(sent))
    assert there == sent and there.recipe is recipe_of(kind)


@with_mpi
def test_processes_of_mpi_search(tmp_path, names):
    arguments = ["search", "recurrent", "--preset", "names", "--over", "lr=1e-3..1e-2", "--trials", "2", "--data", names, "--steps", "2", "--width", "4",
                 "--layers", "1", "--batch-size", "8", "--mpi", "--out", str(tmp_path / "s"), "--threads", "1"]
    done = subprocess.run([str(MPIEXEC), "-n", "3", sys.executable, "-m", "mpi4py.futures", "-m", "zoo", *arguments], capture_output=True, text=True,
                          timeout=300, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "s" / "search.json").read_text())
    assert [trial["state"] for trial in found["trials"]] == ["done", "done"]


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(tmp_path, names, monkeypatch):
    train = trials._train_to

    def explode(trainer, target, seconds):
        if trainer.model.config.width == 4:
            trainer.model.parameters()[0].data[...] = np.nan
        train(trainer, target, seconds)

    monkeypatch.setattr(trials, "_train_to", explode)
    result = small(names, tmp_path / "s", 6)
    assert {t.state for t in result.trials if t.point["width"] == 4} == {"failed"}
    assert {t.state for t in result.trials if t.point["width"] != 4} == {"done"}
    assert all("step 1" in t.error for t in result.trials if t.state == "failed")
    assert "failed" in table(result) and rows_of(result)[-1]["state"] == "failed"
    with pytest.raises(ValueError, match="no trial has a score; the first failed: step 1"):
        search("recurrent", space("lr=1e-3..1e-2", {**FIXED, "width": 4}), tmp_path / "t", trials=2, preset="names", fixed={**FIXED, "width": 4},
               data=names)


def test_pictures_to_test_on_are_never_looked_at():
    data, whole = trials.data_of("autoencoder", "digits8x8"), recipe_of("autoencoder").data("digits8x8")
    assert len(data.train) + len(data.test) == len(whole.train) and len(data.test) == int(0.1 * len(whole.train))
    rows = lambda a: sorted(map(bytes, np.ascontiguousarray(a)))
    assert sorted(rows(data.train) + rows(data.test)) == rows(whole.train)
    labelled = {bytes(x): int(y) for x, y in zip(whole.train, whole.train_labels)}
    assert all(labelled[bytes(x)] == y for x, y in zip(data.test, data.test_labels))


def test_minutes_give_a_run_the_steps_that_fit():
    recipe, data = recipe_of("autoencoder"), trials.data_of("autoencoder", "digits8x8")
    lengths = [trials.length_in(recipe, *recipe.settings(image=(8, 8), hidden=(8,), batch_size=100), data, seconds, 0)["epochs"]
               for seconds in (1e-9, 1.0, 1e4)]
    assert lengths[0] == 1 < lengths[2] and lengths[1] <= lengths[2]


def test_the_command_line_searches_shows_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["search", "autoencoder", "--over", "latent=2..8,lr=1e-4..1e-2,activation=relu|tanh", "--data", "digits8x8", "--hidden", "8",
               "--epochs", "1", "--image", "8,8", "--trials", "3", "--out", "s"]
    assert main(command) == 0
    first = capsys.readouterr()
    assert "trial 2" in first.err and "zoo train autoencoder" in first.out
    timeless = lambda text: re.sub(r"[0-9.]+ minutes", "", text)
    for again in ([*command, "--quiet"], ["search", "--show", "s"]):
        assert main(again) == 0 and timeless(capsys.readouterr().out) == timeless(first.out)
    assert len((tmp_path / "s" / "search.csv").read_text().splitlines()) == 4
    assert (tmp_path / "s" / "search.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "s" / "search.html").read_text("utf-8")
    assert page.count("<polyline") == 6 and page.count("aria-pressed=false") == 3 and not re.search(r"(src|href)=.?(http|//)", page)
    for change, message in (["--seed", "1"], "another seed: 0, not 1"), (["--by", "model"], "another by"), (["--over", "latent=2..9"], "another space"):
        assert main([*command, *change]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["autoencoder", "--over", "latent=2..8"], "say how long"), (["autoencoder", "--trials", "2"], "name the kind of model and the space"),
    (["autoencoder", "--over", "latent=2..8", "--trials", "0"], "trials is 0"), (["--show", "nothing"], "holds no search"),
    (["autoencoder", "--over", "latent=2..8", "--budget", "-1"], "budget is -1"), (["gan", "--over", "latent=2..8", "--trials", "1"], "no figure"),
    (["autoencoder", "--over", "latent=2..8", "--trials", "1", "--hiden", "3"], "did you mean --hidden"),
    (["autoencoder", "--over", "latent=2..8", "--trials", "1", "--data", "digits8x8", "--image", "8,8", "--epochs", "1", "--score", "speed"],
     "no figure 'speed'; there are 'validation loss'")])
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["search", *arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_damaged_search_is_said_so_and_left_alone(tmp_path, names):
    small(names, tmp_path / "s", 1)
    path = tmp_path / "s" / "search.json"
    whole = json.loads(path.read_text())
    for change in ({"trials": [3]}, {"trials": None}, {"settings": {}}, {"version": 9}):
        path.write_text(text := json.dumps({**whole, **change}))
        with pytest.raises(zoo.storage.WrongFile, match="search.json"):
            small(names, tmp_path / "s", 1)
        assert path.read_text() == text


def test_other_files_are_left_alone(tmp_path, names):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="something else than a search"):
        small(names, tmp_path / "mine")
    assert [p.name for p in Path(tmp_path / "mine").iterdir()] == ["letter.txt"]


