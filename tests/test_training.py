"""The training loop: a stopped run goes on as if never stopped, what fails leaves the last checkpoint, nothing is written over."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import kill_runs
import numpy as np
import pytest

from zoo import storage
from zoo.autograd import Tensor
from zoo.autograd.runtime import use_kernels
from zoo.data import digits8x8
from zoo.nn import BatchNorm, Linear, Module
from zoo.optim import SGD, Adam, AdamW, Average, Muon, cosine
from zoo.training import Stopped, Trainer, TrainingFailed, minibatches, shuffled
from zoo.training import folder as run_folder
from zoo.training.trainer import _Forgiving
from zoo.vae import VAE

STEPS = 12
FIELDS = {"image": (8, 8), "hidden": (12,), "latent": (3,)}


def made(folder=None, optimiser="adam", steps=STEPS, seed=5, **options):
    """A small run with every kind of memory: weights, the optimiser's, an average, a schedule, random numbers in the loss."""
    model = VAE.new(seed=1, **FIELDS)
    parameters = model.parameters()
    matrices = [layer.weight for _, layer in model.modules() if isinstance(layer, Linear)]
    o = {"sgd": lambda: SGD(parameters, 1e-3, momentum=0.9), "adam": lambda: Adam(parameters, 1e-2),
         "adamw": lambda: AdamW(parameters, 1e-2), "muon": lambda: Muon(parameters, 1e-2, matrices=matrices)}[optimiser]()
    batches = shuffled(digits8x8().train[:100], batch_size=30, seed=3)
    trainer = Trainer(model, model.loss, batches, o, steps=steps, schedule=cosine(steps), seed=seed, average=Average(parameters, 0.9),
                      folder=folder, **options)
    return model, trainer


def stopped_after(trainer, n):
    for record in trainer:
        if record.step == n:
            trainer.checkpoint()
            return


def everything(model, trainer):
    return {**model.arrays(), **{f"average {i}": a for i, a in enumerate(trainer.average.values)},
            **{f"optimiser {k}": np.asarray(v) for k, v in trainer.optimiser.checkpoint().items()}}


@pytest.fixture(autouse=True)
def without_kernels():
    with use_kernels(False):
        yield


@contextmanager
def full_disk(most=2000):
    """No file grows beyond so many bytes, as if the disk were full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("optimiser", "kernels"), [("sgd", False), ("adam", True), ("adamw", False), ("muon", False)])
def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path, optimiser, kernels):
    with use_kernels(kernels):
        check_resumed(tmp_path, optimiser)


def check_resumed(tmp_path, optimiser):
    looks = {"evaluate": lambda m: {"sum": float(m.output.bias.data.sum())}, "evaluate_every": 3}
    model, through = made(tmp_path / "through", optimiser, **looks)
    through.run(progress=False)
    stopped_after(made(tmp_path / "stopped", optimiser, **looks)[1], STEPS // 2)
    resumed_model, resumed = made(tmp_path / "stopped", optimiser, resume=True, **looks)
    assert resumed.step == STEPS // 2
    resumed.run(progress=False)
    a, b = everything(model, through), everything(resumed_model, resumed)
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name]), name
    without_clock = [[{k: v for k, v in row.items() if k != "seconds"} for row in t.rows] for t in (through, resumed)]
    assert without_clock[0] == without_clock[1] and len(without_clock[0]) == STEPS
    earlier = [[{k: v for k, v in e.items() if k != "seconds"} for e in t.evaluations] for t in (through, resumed)]
    assert earlier[0] == earlier[1] and [e["step"] for e in earlier[0]] == [3, 6, 9, 12]
    assert resumed.seconds > resumed.rows[STEPS // 2 - 1]["seconds"]


def test_the_same_seed_is_the_same_run_and_another_is_not():
    def losses(seed):
        return [record.losses["loss"] for record in made(seed=seed, steps=4)[1]]

    assert losses(5) == losses(5) != losses(6)


@pytest.mark.parametrize("seed", [0, 7, 2**32])
def test_no_step_draws_the_numbers_that_made_the_weights_or_those_of_another_step(seed):
    """For NumPy (seed, 0) is seed: the first step would draw what the weights were drawn from."""
    trainer = made(seed=seed)[1]
    draws = [np.random.default_rng(seed).random(4).tobytes(), *(trainer.generator(step).random(4).tobytes() for step in range(50))]
    assert len(set(draws)) == len(draws)
    used = []
    trainer.batches, trainer.update = (lambda step, rng: used.append(rng.random(4).tobytes())), (lambda batch, rng: {"loss": 0.0})
    stopped = next(iter(trainer))
    assert stopped.step == 1 and used == draws[1:2]


def test_a_loss_that_is_nan_stops_with_its_step_and_keeps_the_checkpoint(tmp_path):
    model, trainer = made(tmp_path)
    good = trainer.objective

    def objective(batch, rng):
        losses = good(batch, rng)
        return losses if trainer.step < 7 else {"loss": losses["loss"] * np.float32(np.nan)}

    trainer.objective = objective
    before = {}
    with pytest.raises(TrainingFailed, match=rf"step 8: loss is nan; training stopped; the last checkpoint is kept in {tmp_path}"):
        for record in trainer:
            if record.step == 5:
                trainer.checkpoint()
            before = {name: a.copy() for name, a in model.arrays().items()}
    assert storage.load_checkpoint(tmp_path / "checkpoint.safetensors")["step"] == 5
    assert all(np.array_equal(a, before[name]) for name, a in model.arrays().items())  # the step that failed changed nothing
    again = made(tmp_path, resume=True)[1]
    assert again.step == 5


def test_a_gradient_that_is_not_finite_stops_with_its_step():
    class Cliff(Module):
        def __init__(self):
            self.x = Tensor(np.zeros(1, np.float32), requires_grad=True)

        def loss(self, batch, rng):
            return {"loss": (self.x**0.5).sum()}  # 0, with an infinite slope

    model = Cliff()
    with np.errstate(divide="ignore"), pytest.raises(TrainingFailed, match=r"step 1: .*gradient's norm is inf"):
        Trainer(model, model.loss, lambda step, rng: None, SGD(model.parameters(), 0.1), steps=3).run(progress=False)
    assert model.x.data[0] == 0


def test_a_full_disk_while_saving_keeps_the_earlier_file(tmp_path):
    trainer = made(tmp_path)[1]
    stopped_after(trainer, 3)
    saved = tmp_path / "checkpoint.safetensors"
    before = saved.read_bytes()
    assert len(before) > 4000
    next(iter(trainer))
    with full_disk(), pytest.raises(OSError, match=r"checkpoint.safetensors: could not be written .*earlier file, if any, is unchanged"):
        trainer.checkpoint()
    assert saved.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.safetensors", "log.csv", "log.json"}
    trainer.checkpoint()  # with room again it works
    assert storage.load_checkpoint(saved)["step"] == 4


def test_a_full_disk_while_the_model_is_saved_keeps_the_earlier_model(tmp_path):
    model, _ = made()
    model.save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    model.parameters()[0].data[...] += 1
    with full_disk(), pytest.raises(OSError, match="could not be written"):
        model.save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_run_that_exists_is_not_written_over(tmp_path):
    stopped_after(made(tmp_path)[1], 2)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match="holds a run already; resume it"):
        made(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_model_without_a_run_is_not_written_over(tmp_path, resume):
    made()[0].save(tmp_path)
    with pytest.raises(FileExistsError, match="holds a model but no checkpoint"):
        made(tmp_path, resume=resume)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FileExistsError, match="run: is a file; expects a folder"):
        made(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_from_which_the_run_goes_on(tmp_path, number):
    model, through = made()
    through.run(progress=False)
    _, stopped = made(tmp_path)
    batches, before = stopped.batches, signal.getsignal(number)

    def interrupted(step, rng):
        if step == 4:
            os.kill(os.getpid(), number)
        return batches(step, rng)

    stopped.batches = interrupted
    with pytest.raises(KeyboardInterrupt, match="stopped after step 5; the last checkpoint is kept in"):
        stopped.run(progress=False)
    assert signal.getsignal(number) is before
    resumed_model, resumed = made(tmp_path, resume=True)
    assert resumed.step == 5
    resumed.run(progress=False)
    for name, a in model.arrays().items():
        assert np.array_equal(a, resumed_model.arrays()[name]), name


@pytest.mark.usefixtures("signals")
def test_a_second_signal_does_not_wait_for_the_step():
    _, trainer = made()

    def twice(step, rng):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):  # signals are handled between instructions
            pass
        raise AssertionError("the step went on")

    trainer.batches = twice
    with pytest.raises(KeyboardInterrupt, match="stopped in step 1"):
        trainer.run(progress=False)


@pytest.mark.parametrize(("change", "message"), [
    (lambda state: state.update(seed=9), "the run's seed is 9, not 5"),
    (lambda state: state.update(steps=99), "the run's steps is 99, not 12"),
    (lambda state: state.update(average=None), "another optimiser or average"),
    (lambda state: state.update(optimisers={"other": {}}), "another optimiser or average"),
    (lambda state: state["optimisers"]["optimiser"].pop("m"), "Adam remembers steps, m, v; the checkpoint holds steps, v"),
    (lambda state: state["optimisers"]["optimiser"].update(velocity=np.zeros(3)), "the checkpoint holds steps, m, v, velocity"),
    (lambda state: state["optimisers"]["optimiser"].update(m=np.zeros(3, np.float32)), "doesn't fit this model or optimiser"),
    (lambda state: state["model"].pop("output.bias"), "missing: output.bias"),
    (lambda state: state.pop("rows"), "is a checkpoint without rows"),
])
def test_a_checkpoint_of_another_run_is_refused_in_one_line(tmp_path, change, message):
    stopped_after(made(tmp_path)[1], 1)
    saved = tmp_path / "checkpoint.safetensors"
    state = storage.load_checkpoint(saved)
    change(state)
    storage.save_checkpoint(saved, state)
    with pytest.raises(ValueError, match=message) as error:
        made(tmp_path, resume=True)
    assert "\n" not in str(error.value) and "checkpoint.safetensors" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04 zip", None])
def test_a_truncated_or_foreign_checkpoint_is_named(tmp_path, content):
    stopped_after(made(tmp_path)[1], 1)
    saved = tmp_path / "checkpoint.safetensors"
    saved.write_bytes(saved.read_bytes()[:-100] if content is None else content)
    with pytest.raises(storage.WrongFile, match=r"checkpoint\.safetensors"):
        made(tmp_path, resume=True)


# --- settings, and runs that are carried on


@pytest.mark.parametrize(("now", "message"), [
    ({"settings": {"data": {"digest": "b"}}}, "the run's data.digest is 'a', not 'b'"),
    ({"optimiser": "sgd"}, "doesn't fit|the run's kind is 'Adam', not 'SGD'"),
    ({"lr": 0.5}, "the run's lr is 0.01, not 0.5"),
    ({"decay": 0.5}, "the run's average is 0.9, not 0.5"),
    ({"seed": 6}, "the run's seed is 5, not 6"),
    ({"steps": 8}, "the run's steps is 12, not 8"),
])
def test_resuming_with_other_settings_names_both_values(tmp_path, now, message):
    stopped_after(made(tmp_path, settings={"data": {"digest": "a"}})[1], 2)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def again(**options):
        model = VAE.new(seed=1, **FIELDS)
        optimiser = SGD(model.parameters(), 1e-3) if now.get("optimiser") else Adam(model.parameters(), now.get("lr", 1e-2))
        return Trainer(model, model.loss, shuffled(digits8x8().train[:100], batch_size=30, seed=3), optimiser, steps=now.get("steps", STEPS),
                       schedule=cosine(STEPS), seed=now.get("seed", 5), average=Average(model.parameters(), now.get("decay", 0.9)),
                       folder=tmp_path, resume=True, **{"settings": now.get("settings", {"data": {"digest": "a"}}), **options})

    with pytest.raises(ValueError, match=message) as error:
        again()
    assert "\n" not in str(error.value) and (tmp_path / "checkpoint.safetensors").read_bytes() == before
    if "optimiser" not in now:
        trainer = again(change_settings=True)
        (change,) = trainer.changes
        assert change["step"] == trainer.step == 2 and len(change) == 2
        trainer.checkpoint()
        trainer.save_model()
        assert json.loads((tmp_path / "card.json").read_text())["changes"] == [change]
        assert again(change_settings=False).changes == trainer.changes  # these are the run's settings from now on


def test_a_checkpoint_without_settings_is_of_an_earlier_version_and_is_resumed(tmp_path):
    stopped_after(made(tmp_path)[1], 2)
    state = storage.load_checkpoint(tmp_path / "checkpoint.safetensors")
    for name in ("settings", "changes"):
        del state[name]
    storage.save_checkpoint(tmp_path / "checkpoint.safetensors", state)
    assert made(tmp_path, resume=True)[1].step == 2


def at_constant_rate(folder, steps, **options):
    model = VAE.new(seed=1, **FIELDS)
    return model, Trainer(model, model.loss, shuffled(digits8x8().train[:100], batch_size=30, seed=3), Adam(model.parameters(), 1e-2),
                          steps=steps, seed=5, average=Average(model.parameters(), 0.9), folder=folder, **options)


def test_a_finished_run_is_carried_on_as_if_it_had_been_longer_where_the_rate_is_constant(tmp_path):
    model, long = at_constant_rate(tmp_path / "long", 9)
    long.run(progress=False)
    at_constant_rate(tmp_path / "run", 5)[1].run(progress=False)
    with pytest.raises(ValueError, match="the run's steps is 5, not 4"):
        at_constant_rate(tmp_path / "run", 4, resume=True)
    other, trainer = at_constant_rate(tmp_path / "run", 9, resume=True)
    trainer.run(progress=False)
    assert trainer.changes == [{"step": 5, "steps": [5, 9]}]
    a, b = everything(model, long), everything(other, trainer)
    for name in a:
        assert np.array_equal(a[name], b[name]), name
    trainer.save_model()
    assert json.loads((tmp_path / "run" / "card.json").read_text())["steps"] == 9


def test_a_run_that_has_not_ended_keeps_its_number_of_steps(tmp_path):
    stopped_after(at_constant_rate(tmp_path, 5)[1], 3)
    with pytest.raises(ValueError, match="the run's steps is 5, not 9"):
        at_constant_rate(tmp_path, 9, resume=True)


# --- weights that aren't finite


def test_weights_that_are_not_finite_replace_no_checkpoint_and_are_no_model(tmp_path):
    model, trainer = made(tmp_path)
    stopped_after(trainer, 3)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    model.output.bias.data[0] = np.inf
    with pytest.raises(TrainingFailed, match=r"step 3: model.output.bias holds numbers that aren't finite; training stopped; the last checkpoint"):
        trainer.checkpoint()
    trainer.average = None
    with pytest.raises(ValueError, match="output.bias holds numbers that aren't finite"):
        trainer.save_model()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_an_optimisers_state_that_is_not_finite_replaces_no_checkpoint(tmp_path):
    _, trainer = made(tmp_path)
    stopped_after(trainer, 3)
    trainer.optimiser.v[5] = np.nan
    with pytest.raises(TrainingFailed, match=r"optimisers.optimiser.v holds numbers that aren't finite"):
        trainer.checkpoint()


def test_a_run_whose_last_step_breaks_its_weights_fails_and_leaves_no_folder(tmp_path):
    model = VAE.new(seed=1, **FIELDS)
    trainer = Trainer(model, model.loss, shuffled(digits8x8().train[:100], batch_size=30, seed=3), Adam(model.parameters(), 1e39), steps=1,
                      folder=tmp_path / "run")
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(TrainingFailed, match="step 1: .* aren't finite"):
        trainer.run(progress=False)
    assert not (tmp_path / "run").exists()


# --- one run a folder, and what comes first at its end


def test_two_runs_do_not_train_in_one_folder(tmp_path):
    pytest.importorskip("fcntl")
    stream = iter(made(tmp_path / "run")[1])
    next(stream)
    for resume in (False, True):
        with pytest.raises(FileExistsError, match=rf"process {os.getpid()} is training here; wait for it"):
            made(tmp_path / "run", resume=resume)
    stream.close()
    assert not (tmp_path / "run").exists()  # nothing had been written
    made(tmp_path / "run")[1].run(progress=False)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"checkpoint.safetensors", "log.csv", "log.json"}


def test_two_runs_do_not_train_in_one_folder_of_windows(tmp_path, monkeypatch):
    """With a stand-in for msvcrt, whose lock is on bytes of a file and whose open files can't be removed."""
    locked: set[int] = set()

    class Bytes:
        LK_NBLCK = 2

        @staticmethod
        def locking(descriptor, mode, count):
            assert mode == 2 and count == 1 and os.lseek(descriptor, 0, os.SEEK_CUR) > 100
            inode = os.fstat(descriptor).st_ino
            if inode in locked:
                raise PermissionError(13, "Permission denied")
            locked.add(inode)

    monkeypatch.setattr(run_folder, "fcntl", None)
    monkeypatch.setattr(run_folder, "msvcrt", Bytes, raising=False)
    _, first = made(tmp_path / "run")
    stream = iter(first)
    next(stream)
    first.checkpoint()
    with pytest.raises(FileExistsError, match=f"process {os.getpid()} is training here"):
        made(tmp_path / "run", resume=True)
    locked.clear()  # the system frees them when the file is closed
    stream.close()
    assert not (tmp_path / "run" / "run.lock").exists()
    made(tmp_path / "run", resume=True)


def test_the_lock_of_a_process_that_was_killed_is_none(tmp_path):
    pytest.importorskip("fcntl")
    stopped_after(made(tmp_path)[1], 2)
    (tmp_path / "run.lock").write_text("1\n")  # which runs, but trains nothing
    made(tmp_path, resume=True)[1].run(progress=False)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.safetensors", "log.csv", "log.json"}


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("when", [4, 12])
def test_a_signal_during_an_evaluation_ends_it_and_the_run_goes_on_exactly(tmp_path, number, when):
    evaluate = lambda m: {"sum": float(m.output.bias.data.sum())}
    model, through = made(tmp_path / "through", evaluate=evaluate, evaluate_every=4)
    through.run(progress=False)

    def interrupted(m):
        if trainer.step == when:
            os.kill(os.getpid(), number)
            for _ in range(100):  # signals are handled between instructions
                pass
            raise AssertionError("the evaluation went on")
        return evaluate(m)

    _, trainer = made(tmp_path / "run", evaluate=interrupted, evaluate_every=4)
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=rf"stopped after step {when}; the last checkpoint is kept in .*--resume") as stopped:
        trainer.run(progress=False)
    assert stopped.value.signal == number and signal.getsignal(number) is before
    assert storage.load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")["step"] == when
    resumed_model, resumed = made(tmp_path / "run", evaluate=evaluate, evaluate_every=4, resume=True)
    resumed.run(progress=False)
    assert all(np.array_equal(a, resumed_model.arrays()[name]) for name, a in model.arrays().items())
    timeless = [[{k: v for k, v in e.items() if k != "seconds"} for e in t.evaluations] for t in (through, resumed)]
    assert timeless[0] == timeless[1] and [e["step"] for e in timeless[0]] == [4, 8, 12]


def test_a_failing_last_evaluation_loses_nothing(tmp_path):
    def broken(m):
        raise RuntimeError("no test data")

    with pytest.raises(RuntimeError, match="no test data"):
        made(tmp_path, evaluate=broken)[1].run(progress=False)
    assert storage.load_checkpoint(tmp_path / "checkpoint.safetensors")["step"] == STEPS
    figures = made(tmp_path, evaluate=lambda m: {"good": 1.0}, resume=True)[1].run(progress=False)
    assert figures["good"] == 1.0


def test_a_finished_run_is_evaluated_once(tmp_path):
    calls = []
    evaluate = lambda m: calls.append(1) or {"calls": float(len(calls))}
    assert made(tmp_path, evaluate=evaluate)[1].run(progress=False)["calls"] == 1
    resumed = made(tmp_path, evaluate=evaluate, resume=True)[1]
    assert resumed.run(progress=False)["calls"] == 1 and len(resumed.evaluations) == 1


def test_an_ignored_signal_stays_ignored(tmp_path):
    """nohup ignores SIGHUP, so that a run outlives its terminal."""
    _, trainer = made(tmp_path)
    batches, before = trainer.batches, signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        trainer.batches = lambda step, rng: os.kill(os.getpid(), signal.SIGHUP) or batches(step, rng)
        trainer.run(progress=False)
        assert trainer.step == STEPS and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("stream", [None, "closed", "broken"])
def test_a_run_needs_nobody_who_reads_what_it_says(tmp_path, monkeypatch, stream):
    if stream == "closed":
        stream = open(os.devnull, "w")
        stream.close()
    elif stream == "broken":
        stream = io.StringIO()
        monkeypatch.setattr(stream, "write", lambda text: (_ for _ in ()).throw(BrokenPipeError()))
    monkeypatch.setattr(sys, "stderr", stream)
    _, trainer = made(tmp_path)
    trainer.run(progress=True)
    assert trainer.step == STEPS


def test_the_log_holds_every_step_and_is_csv_and_json_alike(tmp_path):
    made(tmp_path)[1].run(progress=False)
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert list(rows[0]) == ["step", "loss", "kl", "reconstruction", "lr", "grad_norm", "seconds"]
    steps = json.loads((tmp_path / "log.json").read_text())["steps"]
    assert [float(row["loss"]) for row in rows] == [step["loss"] for step in steps]
    assert steps[-1]["lr"] == pytest.approx(1e-2 * cosine(STEPS)(STEPS - 1))


def test_evaluation_sees_the_averaged_weights_out_of_training_and_leaves_no_trace():
    seen = []

    def evaluate(m):
        seen.append((m.training, [p.data.copy() for p in m.parameters()], [v.copy() for v in trainer.average.values]))
        return {"figure": 1.0}

    model, trainer = made(evaluate=evaluate, evaluate_every=5)
    through_model, through = made()
    figures = trainer.run(progress=False)
    through.run(progress=False)
    assert [e["step"] for e in trainer.evaluations] == [5, 10, STEPS] and figures["figure"] == 1.0
    for name, a in model.arrays().items():
        assert np.array_equal(a, through_model.arrays()[name]), name
    training, weights, values = seen[-1]
    assert not training and model.training
    for w, average, mine, exchanged in zip(weights, through.average.values, model.parameters(), values):
        assert np.array_equal(w, average) and np.array_equal(mine.data, exchanged)


def test_the_saved_model_has_the_averaged_weights(tmp_path):
    model, trainer = made(tmp_path)
    trainer.run(progress=False)
    before = [p.data.copy() for p in model.parameters()]
    trainer.save_model(command="a test")
    loaded = VAE.from_folder(tmp_path)
    for p, value, mine, old in zip(loaded.parameters(), trainer.average.values, model.parameters(), before):
        assert np.array_equal(p.data, value) and np.array_equal(mine.data, old)
    assert loaded.card["steps"] == STEPS and loaded.card["seed"] == 5 and loaded.card["command"] == "a test" and not loaded.training


def test_two_optimisers_and_buffers_are_restored_too(tmp_path):
    class Pair(Module):
        def __init__(self):
            rng = np.random.default_rng(0)
            self.a, self.b, self.norm = Linear(2, 2, rng=rng), Linear(2, 1, rng=rng), BatchNorm(2)

    def run(folder, n, resume=False):
        model = Pair()
        optimisers = {"a": Adam(model.a.parameters(), 0.1), "b": SGD(model.b.parameters(), 0.1, momentum=0.9)}

        def update(batch, rng):
            loss = (model.b(model.norm(model.a(batch))) ** 2).mean()
            for name in ("a", "b"):
                optimisers[name].zero_grad()
            loss.backward()
            for name in ("a", "b"):
                optimisers[name].step()
            return {"loss": float(loss)}

        trainer = Trainer(model, None, lambda step, rng: rng.normal(size=(6, 2)).astype(np.float32), optimisers, steps=6, update=update,
                          folder=folder, resume=resume)
        stopped_after(trainer, n)
        return model.arrays()

    through = run(tmp_path / "a", 6)
    run(tmp_path / "b", 3)
    resumed = run(tmp_path / "b", 6, resume=True)
    assert all(np.array_equal(a, resumed[name]) for name, a in through.items()) and through["norm.running_mean"].any()


def test_minutes_end_a_run_early():
    trainer = made(minutes=1e-9)[1]
    trainer.run(progress=False)
    assert trainer.step == 1
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="it is above 0"):
            made(minutes=wrong)
    with pytest.raises(ValueError, match="steps is 0"):
        made(steps=0)


def test_every_row_is_shown_once_an_epoch_in_an_order_of_its_own(rng):
    x = np.arange(100)
    batches = shuffled(x, 2 * x, batch_size=32, seed=4)
    epochs = [np.concatenate([batches(3 * e + i, rng)[0] for i in range(3)]) for e in range(3)]
    assert all(len(set(e.tolist())) == 96 for e in epochs) and not np.array_equal(epochs[0], epochs[1])
    assert all(np.array_equal(b, 2 * a) for a, b in (batches(step, rng) for step in range(9)))
    alone = shuffled(x, batch_size=32, seed=4)  # any step can be asked for first
    assert np.array_equal(alone(7, rng), batches(7, rng)[0])
    assert not np.array_equal(shuffled(x, batch_size=32, seed=5)(7, rng), alone(7, rng))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: shuffled(np.ones(5), np.ones(4), batch_size=2), "5, 4 rows"),
    (lambda: shuffled(np.ones(5), batch_size=6), "batch_size is 6; with 5 rows it may go from 1 to 5"),
    (lambda: shuffled(np.ones(5), batch_size=0), "batch_size is 0"),
])
def test_wrong_batches_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_minibatches_cover_every_row_once():
    assert np.concatenate([np.arange(10)[part] for part in minibatches(10, 4)]).tolist() == list(range(10))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_few_killed_runs_end_as_undisturbed_ones(tmp_path):
    """`python tests/kill_runs.py` kills many more, of every kind."""
    outcomes = kill_runs.run(2, 0, tmp_path, first=1)
    assert [outcome["fault"] for outcome in outcomes] == [None] * len(outcomes) and sum(len(outcome["kills"]) for outcome in outcomes) >= 2


def test_a_card_says_seed_steps_and_minutes(tmp_path):
    model, trainer = made(tmp_path, seed=7)
    trainer.run(progress=False)
    trainer.seconds = 754.4
    trainer.save_model(tmp_path / "model")
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert (card["seed"], card["steps"], card["minutes"]) == (7, STEPS, 12.57)


class Clock:
    """A second passes with each step, and none otherwise."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("zoo.training.trainer.time", SimpleNamespace(perf_counter=lambda: self.now))

    def update(self, batch, rng):
        self.now += 1
        return {"loss": 0.5, "other": 2.0}


def clocked(clock, **options):
    layer = Linear(2, 1, rng=np.random.default_rng(0))
    return Trainer(layer, None, lambda step, rng: None, SGD(layer.parameters(), 0.1), update=clock.update, **options)


def test_checkpoints_come_when_more_than_so_many_seconds_have_passed(monkeypatch, tmp_path):
    trainer, written = clocked(Clock(monkeypatch), steps=8, checkpoint_every=2, folder=tmp_path / "run"), []
    trainer.checkpoint = lambda: written.append(trainer.step)
    assert [record.seconds for record in trainer] == [1, 2, 3, 4, 5, 6, 7, 8] and written == [3, 6]
    written.clear()
    trainer = clocked(Clock(monkeypatch), steps=124, folder=tmp_path / "other")
    trainer.checkpoint = lambda: written.append(trainer.step)
    assert len(list(trainer)) == 124 and written == [61, 122]  # a minute, unless told
    with pytest.raises(ValueError, match="^checkpoint: this run has no folder"):
        clocked(Clock(monkeypatch), steps=1).checkpoint()


@pytest.mark.parametrize(("before", "minutes", "steps"), [(0, 5 / 60, 6), (0, None, 9), (60, 1, 1), (60.5, 1, 0), (59.5, 1, 1), (58, 1, 3)])
def test_no_step_begins_after_so_many_minutes_in_all(before, minutes, steps, monkeypatch):
    trainer = clocked(Clock(monkeypatch), steps=9, minutes=minutes)
    trainer.seconds = before
    assert len(list(trainer)) == steps and trainer.seconds == before + steps


@pytest.mark.parametrize(("steps", "logged"), [(3, [1, 2, 3]), (1999, range(1, 2000)), (2001, [*range(2, 2001, 2), 2001])])
def test_the_log_has_a_thousand_rows_and_the_last(steps, logged, monkeypatch):
    trainer = clocked(Clock(monkeypatch), steps=steps, schedule=lambda step: 1 / (1 + step))
    records = list(trainer)
    assert [row["step"] for row in trainer.rows] == list(logged) and [r.step for r in records] == list(range(1, steps + 1))
    assert [r.lr for r in records] == pytest.approx([0.1 / (1 + step) for step in range(steps)])
    assert trainer.rows[-1] == {"step": steps, "loss": 0.5, "other": 2.0, "lr": records[-1].lr, "grad_norm": 0.0, "seconds": steps}


@pytest.mark.parametrize(("every", "before_the_end"), [(2, [2, 4]), (3, [3]), (6, []), (None, []), (1, [1, 2, 3, 4, 5])])
def test_evaluations_are_due_every_so_many_steps_and_at_the_end(every, before_the_end, monkeypatch):
    trainer = clocked(Clock(monkeypatch), steps=6, evaluate=lambda model: {"figure": 7.0}, evaluate_every=every)
    list(trainer)
    assert trainer.evaluations == [{"step": step, "seconds": step, "figure": 7.0} for step in before_the_end]
    assert trainer.last_evaluation() == trainer.last_evaluation() == {"figure": 7.0} and [e["step"] for e in trainer.evaluations] == [*before_the_end, 6]
    assert clocked(Clock(monkeypatch), steps=1).last_evaluation() == {}


@pytest.mark.parametrize(("name", "least", "wrong"), [("steps", 1, [0, -1, 1.5, True]), ("seed", 0, [-1, 0.5, False]), ("evaluate_every", 1, [0, True]), ("accumulate", 1, [0, 1.5, True])])
def test_whole_numbers_of_a_run_are_at_least_what_they_can_be(name, least, wrong):
    layer = Linear(2, 1, rng=np.random.default_rng(0))
    make = lambda **options: Trainer(layer, None, None, SGD(layer.parameters(), 0.1), **{"steps": 3, **options})
    assert getattr(make(**{name: least}), name) == least
    for value in wrong:
        with pytest.raises(ValueError, match=f"^Trainer: {name} is {value}; it is a whole number of at least {least}$"):
            make(**{name: value})
    for field, right, wrong in (("minutes", [None, 1e-9], [0, -1.0, float("nan")]), ("checkpoint_every", [None, 0, 1e-9], [-1e-9, float("nan")])):
        for value in right:
            assert getattr(make(**{field: value}), field) == (60 if (field, value) == ("checkpoint_every", None) else value)
        for value in wrong:
            with pytest.raises(ValueError, match=f"^Trainer: {field} is {value}; it is "):
                make(**{field: value})


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_moves_twice_a_second_before_eyes_and_twice_a_minute_in_a_file(terminal, progress, monkeypatch):
    bars, shown = [], []

    class Bar:
        def __init__(self, steps, **options):
            self.steps = steps
            bars.append(options)

        def __iter__(self):
            return iter(self.steps)

        def set_postfix(self, values, refresh):
            assert not refresh
            shown.append(values)

        def close(self):
            pass

    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr("zoo.training.trainer._bar_class", lambda: Bar)
    trainer = clocked(Clock(monkeypatch), steps=2000)
    trainer.step = 1995
    assert trainer.run(progress=progress, title="learning") == {"step": 2000, "loss": 0.5, "other": 2.0, "lr": 0.1, "grad_norm": 0.0, "seconds": 5}
    seconds, most = (0.5, 10.0) if terminal else (30.0, 30.0)
    assert {**bars[0], "file": None} == {"total": 2000, "initial": 1995, "desc": "learning", "disable": not progress, "file": None, "dynamic_ncols": True,
                                         "mininterval": seconds, "maxinterval": most}
    assert shown == [{"loss": "0.5", "other": "2"}] * 3  # steps 1996, 1998 and 2000


def test_a_card_has_the_minutes_and_the_average_is_given_back(tmp_path):
    model, trainer = made(steps=2)
    list(trainer)
    trainer.seconds = 93.0
    with pytest.raises(ValueError, match="^save_model: this run has no folder"):
        trainer.save_model()
    before = model.arrays()["output.weight"].copy()
    trainer.save_model(tmp_path / "model", note="x", seed=9)
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert (card["steps"], card["minutes"], card["seed"], card["note"]) == (2, 1.55, 9, "x") and "changes" not in card and "private" not in card
    assert np.array_equal(model.arrays()["output.weight"], before)
    assert not np.array_equal(storage.read_tensors(tmp_path / "model")["output.weight"], before)


def test_pieces_of_a_batch_are_weighted_by_their_rows():
    """Three rows in two pieces: the first has two of them."""
    layer = Linear(2, 1, bias=False, rng=np.random.default_rng(0))
    x, told = np.array([[1, 0], [0, 4], [3, 0]], np.float32), []
    optimiser = SGD(layer.parameters(), 0.0)
    trainer = Trainer(layer, lambda batch, rng: told.append((batch.tolist(), rng.random())) or {"loss": layer(batch).mean(), "rows": Tensor(float(len(batch)))},
                      lambda step, rng: x, optimiser, steps=1, accumulate=2)
    losses = next(iter(trainer)).losses
    draw = np.random.default_rng((0, 0, 0x57E9)).random()
    assert told == [([[1, 0], [3, 0]], draw), ([[0, 4]], draw)]
    np.testing.assert_allclose(optimiser.grad, [4 / 3, 4 / 3], rtol=1e-6)
    assert losses["rows"] == pytest.approx(2 * 2 / 3 + 1 / 3) and losses["loss"] == pytest.approx(float(layer(x).mean()), abs=1e-6)


def test_a_stream_that_is_gone_takes_nothing_and_says_so():
    class Gone:
        encoding = "latin-1"

        def write(self, *text):
            raise OSError(5, "Input/output error")

        flush = isatty = write

    for stream in (None, Gone()):
        forgiving = _Forgiving(stream)
        assert forgiving.write("text") == 0 and forgiving.flush() is None and forgiving.isatty() is False
    assert _Forgiving(Gone()).encoding == "latin-1" and _Forgiving(io.StringIO()).write("text") == 4


def test_differences_of_settings_are_by_dotted_names():
    from zoo.training.folder import differences, flattened, not_finite

    assert flattened({"a": {"b": (1, 2), "c": {"d": 3}}, "e": 4}) == {"a.b": [1, 2], "a.c.d": 3, "e": 4}
    assert differences({"a": {"b": 1, "c": 2}, "x": 1}, {"a": {"b": 1, "c": 3}, "y": 2}) == {"a.c": [2, 3]}
    assert not_finite({"a": {"b": np.zeros(2), "n": np.array([1]), "t": "nan"}}) is None
    assert not_finite({"a": {"b": np.zeros(2), "c": np.array([1, np.inf, 1])}, "z": np.array([np.nan])}) == "a.c" and not_finite({"x": np.array(np.nan)}) == "x"
