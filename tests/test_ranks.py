"""Training on several processes: gradients, weights and files are those of one process, and no death loses a checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo.autograd import Tensor
from zoo.data.images import digits8x8
from zoo.loading.cards import card_of
from zoo.recipes import recipe_of
from zoo.training import by_parts, spread_over
from zoo.training.ranks import Ranks, ShareOfDraws, launch, rows_of, started_by_mpi

MPIEXEC = Path(sys.executable).with_name("mpiexec")
with_mpi = pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None or not (MPIEXEC.exists() or shutil.which("mpiexec")),
                              reason="no MPI here (pip install mpi4py mpich)")


class FakeCommunicator:
    def __init__(self, rank, size):
        self.rank, self.size = rank, size

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.size


# --- rows and draws, without MPI


@given(n=st.integers(1, 40), size=st.integers(1, 6))
def test_shares_are_a_partition_of_the_batch(n, size):
    ranks = [Ranks(FakeCommunicator(r, size)) for r in range(size)]
    if n < size:
        with pytest.raises(ValueError, match=f"ranks: there are {size} for a batch of {n} rows"):
            ranks[0].share(np.arange(n))
        return
    batch = (np.arange(n), {"x": np.arange(2 * n).reshape(n, 2), "words": [str(i) for i in range(n)]}, True, None)
    shares = [r.share(batch) for r in ranks]
    assert rows_of(batch) == n and all(share[2] is True and share[3] is None for share in shares)
    whole = np.empty(n, int)
    for r, share in enumerate(shares):
        whole[r::size] = share[0]
        assert [int(word) for word in share[1]["words"]] == share[0].tolist() == (share[1]["x"][:, 0] // 2).tolist()
    assert whole.tolist() == list(range(n)) and sum(r.weight(n) for r in ranks) == pytest.approx(1)


@given(n=st.integers(2, 24), size=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_share_of_draws_is_cut_from_those_of_the_whole(n, size, seed):
    if n < size:
        return
    draws = {
        "noise": lambda g, m: g.standard_normal((m, 50, 51), np.float32), "share": lambda g, m: g.random(m),
        "shifts": lambda g, m: g.integers(0, 5, (2, m)), "uniform": lambda g, m: g.uniform(-1, 1, (m, 50)),
        "normal": lambda g, m: g.normal(0, 2, m), "choice": lambda g, m: g.choice(9, m), "number": lambda g, m: g.random(),
        "several": lambda g, m: g.random((m * 53, 50)).reshape(m, 53, 50) if m > 1 else g.random((53, 50)).reshape(1, 53, 50)}
    whole = {name: draw(np.random.default_rng((seed, i)), n) for i, (name, draw) in enumerate(draws.items())}
    for rank in range(size):
        rows = slice(rank, n, size)
        m = len(range(n)[rows])
        for i, (name, draw) in enumerate(draws.items()):
            if name == "shifts" and m <= 2:
                continue  # either axis may be the rows'
            own = draw(ShareOfDraws(np.random.default_rng((seed, i)), n, rows), m)
            expected = whole[name] if name == "number" else whole[name][:, rows] if name == "shifts" else whole[name][rows]
            assert np.array_equal(own, expected), name


def test_a_batch_whose_parts_do_not_belong_together_is_refused():
    with pytest.raises(ValueError, match="a part of 3 rows beside one of 4"):
        Ranks(FakeCommunicator(0, 2)).share((np.arange(4), np.arange(3)))


def test_one_process_is_a_run_of_one_rank():
    alone = Ranks()
    x = np.arange(3.0)
    assert alone.is_first and alone.share(x) is x and alone.add_up(x) is x and alone.mean({"loss": 2.0}, 1.0) == {"loss": 2.0} and alone.agree(x) is x


@pytest.mark.parametrize(("n", "rows", "shape", "expected"), [
    (12, slice(1, 12, 2), 6, lambda g: g(12)[1::2]), (12, slice(1, 12, 2), np.int64(6), lambda g: g(12)[1::2]), (12, slice(1, 12, 2), None, lambda g: g(None)),
    (12, slice(1, 12, 2), (6, 4), lambda g: g((12, 4))[1::2]), (12, slice(1, 12, 2), (4, 6), lambda g: g((4, 12))[:, 1::2]),
    (12, slice(1, 12, 2), (18, 2), lambda g: g((36, 2)).reshape(12, 3, 2)[1::2].reshape(18, 2)), (12, slice(1, 12, 2), (12, 6), lambda g: g((24, 6)).reshape(12, 2, 6)[1::2].reshape(12, 6)),
    (12, slice(1, 12, 2), 3, lambda g: g(3)), (12, slice(1, 12, 2), (2, 5), lambda g: g((2, 5))),
    (12, slice(1, 12, 2), 1, lambda g: g(1)), (12, slice(1, 12, 2), (5, 2), lambda g: g((5, 2))), (12, slice(1, 12, 2), (0, 2), lambda g: g((0, 2))), (11, slice(0, 11, 2), 3, lambda g: g(3)),
    (4, slice(1, 4, 2), (4, 2), lambda g: g((4, 4))[:, 1::2]), (6, slice(1, 6, 2), (6, 3), lambda g: g((12, 3)).reshape(6, 2, 3)[1::2].reshape(6, 3))])
def test_where_the_rows_of_draws_are_is_seen_by_lengths(n, rows, shape, expected):
    share = ShareOfDraws(np.random.default_rng(3), n, rows)
    assert np.array_equal(share.random(shape), expected(np.random.default_rng(3).random)) and share.row_numbers().tolist() == list(range(n))[rows]


class Beside(FakeCommunicator):
    """The first of three ranks, of which the others say something."""

    def __init__(self, values=(), sum_of_others=0.0, rank=0):
        super().__init__(rank, 3)
        self.values, self.sum_of_others = list(values), sum_of_others

    def allgather(self, value):
        return self.values

    def bcast(self, value, root):
        return [value, root]

    def Allreduce(self, in_place, x, op):
        x += self.sum_of_others


def test_ranks_agree_on_values_sums_and_means(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=SimpleNamespace(IN_PLACE="in place", SUM="sum", COMM_WORLD=FakeCommunicator(1, 3))))
    assert Ranks(Beside([None, 0, 3, 5])).any(None) == 3 and Ranks(Beside([0, 0, 0])).any(0) == 0 and Ranks().any(4) == 4
    assert Ranks(Beside()).agree("x") == ["x", 0] and Ranks(Beside()).is_first and not Ranks(Beside(rank=1)).is_first
    Ranks(Beside([2, 2, 2])).check_same("seed", 2)
    Ranks().check_same("seed", 2)
    with pytest.raises(ValueError, match="^ranks: seed is 2 on rank 0 and 4 on rank 2; all must have the same"):
        Ranks(Beside([2, 2, 4])).check_same("seed", 2)
    assert Ranks(Beside(sum_of_others=np.array([1.5, 0.0]))).mean({"a": 2.0, "b": 4.0}, 0.25) == {"a": 2.0, "b": 1.0}
    assert Ranks(Beside([np.array([[0], [3]]), np.array([[1], [4]]), np.array([[2]])])).gather(np.array([[0], [3]])).tolist() == [[0], [1], [2], [3], [4]]
    assert Ranks(Beside()).rows(3) == slice(0, 3, 3) and Ranks(Beside(rank=2)).weight(4) == 0.25 and Ranks(Beside()).weight(4) == 0.5
    ranks, x = Ranks(Beside(sum_of_others=10)), Tensor(np.array([1.0, 2.0], np.float32), requires_grad=True)
    ranks.current_weight = 0.25
    y = ranks.sum(x)
    y.backward(np.array([1.0, 2.0], np.float32))  # the others' weighted gradients add up to 10
    assert y.data.tolist() == [11, 12] and x.grad.tolist() == [(0.25 + 10) / 0.25, (0.5 + 10) / 0.25] and x.data.tolist() == [1, 2]
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS"):
        monkeypatch.delenv(name, raising=False)
    for value, size in ((None, 1), ("1", 1), ("x", 1), ("", 1), ("3", 3)):
        for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS"):
            with monkeypatch.context() as patch:
                if value is not None:
                    patch.setenv(name, value)
                ranks = started_by_mpi()
                assert (ranks.size, ranks.rank) == (size, size // 3)


def test_a_batch_may_be_of_rows_that_are_no_arrays():
    second = Ranks(FakeCommunicator(1, 2))
    assert rows_of(("a", "b", "c")) == 3 and second.share(("a", "b", "c")) == ("b",) and second.share(["a", "b", "c"]) == ["b"]
    Batch = dataclasses.make_dataclass("Batch", ["x", "y", "flag"])
    share = second.share(Batch(None, np.arange(5), np.float32(2)))
    assert share.x is None and share.y.tolist() == [1, 3] and share.flag == 2 and share.y.flags.c_contiguous and rows_of(Batch(None, np.arange(5), 2)) == 5
    assert rows_of({"x": None, "y": np.zeros((4, 2))}) == 4 and rows_of(np.zeros((3, 2))) == 3


@pytest.mark.parametrize(("version", "status", "shown"), [("HYDRA build", 0, ["text"]), ("mpiexec (Open MPI) 5", 0, ["text"]), ("HYDRA build", 3, [])])
def test_ranks_are_started_by_mpiexec_with_their_threads(version, status, shown, monkeypatch, signals):
    started, said, before = [], [], {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    class Process:
        returncode = status

        def __init__(self, command, env, stdout, text):
            started.append((command, env["ZOO_THREADS"], stdout))
            self.signals = []

        def communicate(self):
            for n in before:
                signal.getsignal(n)(n, None)
            assert self.signals == [signal.SIGTERM]
            return "text", None

        def send_signal(self, number):
            self.signals.append(number)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(shutil, "which", lambda name: "/some/mpiexec")
    monkeypatch.setattr(subprocess, "run", lambda command, **k: SimpleNamespace(stdout=version))
    monkeypatch.setattr(subprocess, "Popen", Process)
    try:
        for show in (said.append, None):
            assert launch(3, ["train", "vae"], 2, show) == status
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    extra = ["--oversubscribe"] if "Open" in version else []
    command = ["/some/mpiexec", *extra, "-n", "3", "/nowhere/python", "-m", "zoo", "train", "vae"]
    assert said == shown and started == [(command, "2", subprocess.PIPE), (command, "2", subprocess.DEVNULL)]


@pytest.mark.parametrize(("parts", "size"), [(1, 3), (2, 2), (2, 3), (5, 4)])
def test_ranks_share_each_part_of_a_batch_that_a_step_takes_apart(parts, size):
    """Whatever the number of ranks: the i-th part of a rank's rows is its share of the i-th part of the batch."""
    x = np.arange(parts * 13)
    shares = [Ranks(FakeCommunicator(rank, size)).share((x, x.tolist()), parts) for rank in range(size)]
    for i in range(parts):
        pieces = [np.array_split(rows, parts)[i].tolist() for rows, _ in shares]
        assert pieces == [list(range(i * 13 + rank, (i + 1) * 13, size)) for rank in range(size)]
    assert all(rows.tolist() == same for rows, same in shares)


# --- with MPI

DIGITS = ["--data", "digits8x8", "--epochs", "1", "--batch-size", "360"]
SMALL = ["--data", "digits8x8", "--steps", "2", "--batch-size", "12", "--channels", "8"]
FAMILIES = {
    "vae": ["vae", *DIGITS, "--hidden", "12", "--latent", "3", "--depth", "1"],
    "iwae": ["vae", *DIGITS, "--preset", "iwae5", "--hidden", "12", "--latent", "3", "--depth", "1"],
    "vqvae": ["vqvae", *DIGITS, "--codes", "4", "--width", "2", "--channels", "2", "--prior-layers", "1", "--prior-heads", "1", "--prior-width", "4"],
    "gan": ["gan", *SMALL, "--discriminator-hidden", "8", "--preset", "dcgan"],
    "diffusion": ["diffusion", "--preset", "moons", "--steps", "2", "--channels", "8", "--batch-size", "12"],
    "transformer": ["transformer", "--steps", "2", "--window", "16", "--layers", "1", "--heads", "2", "--width", "8", "--batch-size", "7", "--dropout", "0.2"],
}


def train(*arguments, folder, **settings):
    return subprocess.run([sys.executable, "-m", "zoo", "train", *map(str, arguments), "--quiet", "--out", str(folder)], timeout=240,
                          capture_output=True, text=True, env={**os.environ, "ZOO_KERNELS": "0"}, **settings)


@with_mpi
@pytest.mark.parametrize(("family", "ranks"), [("iwae", 2), ("vqvae", 2), ("gan", 3), ("diffusion", 2), ("transformer", 3)])
def test_ranks_train_the_model_that_one_process_trains(family, ranks, tmp_path):
    for n, folder in ((1, tmp_path / "alone"), (ranks, tmp_path / "together")):
        done = train(*FAMILIES[family], *(["--ranks", n] if n > 1 else []), folder=folder)
        assert done.returncode == 0 and done.stderr == "", done.stderr
    alone, together = (zoo.load(tmp_path / name) for name in ("alone", "together"))
    for name, a in alone.arrays().items():
        assert np.allclose(a, together.arrays()[name], rtol=0, atol=2e-3 * max(1, np.abs(a).max(initial=0))), name
    logs = [(tmp_path / name / "log.csv").read_text().splitlines()[1].split(",")[1] for name in ("alone", "together")]
    assert float(logs[0]) == pytest.approx(float(logs[1]), rel=1e-5)  # the first loss


@with_mpi
def test_a_run_of_three_ranks_goes_on_with_two_and_with_one(tmp_path):
    family = [*FAMILIES["vae"][:1], "--data", "digits8x8", "--batch-size", "360", *FAMILIES["vae"][5:]]
    assert train(*family, "--epochs", 4, folder=tmp_path / "whole").returncode == 0
    for ranks, epochs, resume in ((3, 1, []), (2, 2, ["--resume"]), (1, 4, ["--resume"])):
        more = ["--ranks", ranks] if ranks > 1 else []
        done = train(*family, "--epochs", epochs, *more, *resume, "--schedule", "constant", folder=tmp_path / "run")
        assert done.returncode == 0, done.stderr
    card = card_of(tmp_path / "run")
    assert card["steps"] == card_of(tmp_path / "whole")["steps"]


@with_mpi
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the ranks by Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_ends_with_its_checkpoint_whole_and_one_line(number, tmp_path):
    command = [sys.executable, "-m", "zoo", "train", *FAMILIES["vae"], "--epochs", "100000", "--checkpoint-every", "0.1", "--quiet", "--ranks", "2",
               "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "ZOO_KERNELS": "0"},
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        if number == signal.SIGKILL:  # the last rank
            os.kill(max(_ranks_of(process.pid)), number)
        else:
            os.killpg(process.pid, number)  # as Ctrl-C does
        error = process.communicate(timeout=60)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == (2 if number == signal.SIGKILL else 130)
    assert error.startswith("zoo: ") and error.count("\n") == 1 and "the last checkpoint is kept in" in error, error
    assert zoo.storage.load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")["step"] >= 1
    assert {p.name for p in (tmp_path / "run").iterdir()} <= {"checkpoint.safetensors", "log.csv", "log.json", "run.lock"}


def _ranks_of(pid):
    """The processes below this one that train."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rsplit(")", 1)[1].split()
            parents[int(status.parent.name)] = int(fields[1])
    below = {pid}
    for _ in range(4):
        below |= {child for child, parent in parents.items() if parent in below}
    return [child for child in below - {pid} if "zoo" in Path(f"/proc/{child}/cmdline").read_text().split("\0")
            and "mpiexec" not in Path(f"/proc/{child}/cmdline").read_text()]


@with_mpi
@pytest.mark.parametrize(("arguments", "message"), [
    (["--ranks", "0"], "--ranks is 0; it is a whole number from 1 to 360, the rows of a batch"), (["--ranks", "361"], "from 1 to 360"),
    (["--ranks", "2", "--data", "nowhere"], "nowhere: does not exist"), (["--ranks", "2", "--lr", "nan"], "lr is nan")])
def test_what_is_wrong_is_said_once(arguments, message, tmp_path):
    done = train(*FAMILIES["vae"], *arguments, folder=tmp_path / "run")
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "run").exists()


@with_mpi
def test_a_loss_whose_rows_depend_on_each_other_is_found_out(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, zoo\n"
        "from zoo.autograd import Tensor\n"
        "from zoo.training import Trainer\n"
        "from zoo.training.ranks import started_by_mpi\n"
        "from zoo import nn, optim\n"
        "class Model(nn.Module):\n"
        "    def __init__(self): self.w = Tensor(np.ones(3, np.float32), requires_grad=True)\n"
        "m = Model()\n"
        "def objective(x, rng):\n"
        "    y = (x * m.w).mean()\n"
        "    return {'loss': y * y}\n"  # the square of a mean is no mean of squares
        "t = Trainer(m, objective, lambda step, rng: np.arange(12, dtype=np.float32).reshape(4, 3), optim.SGD(m.parameters(), 0.1), steps=2,\n"
        "            ranks=started_by_mpi())\n"
        "try:\n    list(t)\nexcept ValueError as e:\n    open(f'said.{t.ranks.rank}', 'w').write(str(e))\n")
    command = str(MPIEXEC) if MPIEXEC.exists() else "mpiexec"
    done = subprocess.run([command, "-n", "2", sys.executable, str(script)], capture_output=True, text=True, timeout=120, cwd=tmp_path,
                          env={**os.environ, "ZOO_KERNELS": "0", "PYTHONPATH": str(Path(__file__).parents[1])})
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in range(2):  # each its own file: a pipe that two processes share cuts their lines
        said = (tmp_path / f"said.{rank}").read_text()
        assert said.startswith("ranks: the gradients of 2 shares of a batch differ from that of the whole by"), said


@pytest.mark.parametrize("pieces", [2, 3, 12])
@pytest.mark.parametrize("kind", ["vae", "diffusion", "transformer", "recurrent"])
def test_pieces_of_a_batch_add_up_to_the_step_of_the_whole(kind, pieces):
    small = {"vae": {"hidden": (8,), "latent": (2,), "depth": 1, "epochs": 1, "batch_size": 12, "optimiser": "adam"},
             "diffusion": {"channels": 8, "heads": 0, "steps": 1, "batch_size": 12, "classes": 10},
             "transformer": {"window": 12, "layers": 1, "heads": 2, "width": 8, "steps": 1, "batch_size": 12, "dropout": 0.1},
             "recurrent": {"window": 12, "width": 8, "steps": 1, "batch_size": 12, "dropout": 0.1}}
    recipe = recipe_of(kind)
    data = digits8x8() if kind in ("vae", "diffusion") else recipe.data("names" if kind == "recurrent" else None)
    gradients, losses = [], []
    for accumulate in (1, pieces):
        fields, training = recipe.settings("names" if kind == "recurrent" else None, **small[kind])
        model = recipe.new(data, fields, 0)
        trainer = recipe.trainer(model, data, training, accumulate=accumulate)
        trainer.optimiser.fills_grad = True
        losses.append(next(iter(trainer)).losses["loss"])
        gradients.append(trainer.optimiser.grad.copy())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and np.linalg.norm(gradients[0]) > 0
    assert np.linalg.norm(gradients[1] - gradients[0]) < 1e-5 * np.linalg.norm(gradients[0])


@pytest.mark.parametrize("kind", ["gan", "vqvae", "classifier"])
def test_models_whose_rows_depend_on_each_other_refuse_pieces(kind):
    recipe, data = recipe_of(kind), digits8x8()
    small = {"gan": {"preset": "dcgan", "channels": 4, "steps": 1, "batch_size": 8}, "vqvae": {"channels": 2, "codes": 4}, "classifier": {"channels": 2}}
    fields, training = recipe.settings(small[kind].pop("preset", None), **small[kind])
    with pytest.raises(ValueError, match=r"^accumulate: "):
        recipe.trainer(recipe.new(data, fields, 0), data, training, accumulate=2)


def test_recipes_hand_ranks_on():
    recipe, data = recipe_of("vae"), digits8x8()
    fields, training = recipe.settings(None, epochs=1, batch_size=360, hidden=(8,), latent=(2,), depth=1)
    trainer = recipe.trainer(recipe.new(data, fields, 0), data, training, ranks=Ranks())
    assert trainer.ranks.size == 1


# --- drawing and measuring


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_parts_are_spread_and_come_back_in_order(size):
    """Each rank computes its parts, here one after the other, and what allgather returns is put in the batch's order."""
    shares = []

    class Gathers(FakeCommunicator):
        def allgather(self, share):
            shares.append(share)
            return share if len(shares) <= size else shares[:size]

    seen = []
    for rank in (*range(size), 0):
        with spread_over(Ranks(Gathers(rank, size))), contextlib.suppress(IndexError):
            parts = by_parts(lambda part: seen.append(part) or (part.start, part.stop), 23, 5)
    assert parts == [(0, 5), (5, 10), (10, 15), (15, 20), (20, 23)]
    assert sorted({part.start for part in seen}) == [0, 5, 10, 15, 20]


SAMPLES = {"vae": ["vae", "-n", "1201"], "gan": ["gan", "-n", "70", "--batch", "20"],
           "diffusion": ["latent", "-n", "50", "--batch", "12", "--evaluations", "4"],
           "text": ["transformer", "-n", "12", "--prompt", "ROMEO"]}


def zoo_command(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "zoo", *arguments], capture_output=True, text=True, timeout=240, cwd=cwd,
                          env={**os.environ, "ZOO_KERNELS": "0", "PYTHONPATH": str(Path(__file__).parents[1])})


@with_mpi
@pytest.mark.parametrize(("name", "ranks"), [("vae", 2), ("gan", 3), ("diffusion", 2), ("text", 2)])
def test_ranks_draw_what_one_process_draws_bit_for_bit(name, ranks, tmp_path):
    ending = ".txt" if name == "text" else ".npz"
    for n in (1, ranks):
        done = zoo_command("sample", *SAMPLES[name], "--seed", "5", "--threads", "1", "--out", f"{n}{ending}", *(["--ranks", str(n)] if n > 1 else []),
                           cwd=tmp_path)
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert done.stdout == f"{n}{ending}\n"
    assert (tmp_path / f"1{ending}").read_bytes() == (tmp_path / f"{ranks}{ending}").read_bytes()  # origin and all


@with_mpi
def test_ranks_measure_what_one_process_measures_bit_for_bit(tmp_path):
    arguments, figures = ["vae", "--samples", "20", "--n", "300"], []
    for more in ([], ["--ranks", "2"]):
        done = zoo_command("evaluate", *arguments, "--out", f"out{len(more)}", *more, "--threads", "1", cwd=tmp_path)
        assert done.returncode == 0 and not done.stderr, done.stderr
        figures.append(card_of(tmp_path / f"out{len(more)}")["figures"])
    assert figures[0] == figures[1] and len(figures[0]) >= 2


@with_mpi
def test_what_is_wrong_with_a_sample_is_said_once(tmp_path):
    for arguments, message in ((["--ranks", "0"], "--ranks is 0; it is a whole number of at least 1"), (["--ranks", "2", "--warmth", "3"], "warmth")):
        done = zoo_command("sample", "vae", *arguments, cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())


# --- what can't go well


def test_without_mpi_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # as if it weren't there
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(ValueError, match=r"^ranks: mpirun started 2 processes, but mpi4py isn't installed \(pip install 'numpy-zoo\[mpi\]'\)"):
        started_by_mpi()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^--ranks: mpi4py isn't installed"):
        launch(2, [], 1)
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    if importlib.util.find_spec("mpi4py") is not None:
        with pytest.raises(ValueError, match=r"^--ranks: there is no mpiexec here"):
            launch(2, [], 1)


DISAGREEING = """
import sys
import numpy as np
from zoo import nn, optim, storage
from zoo.autograd import Tensor
from zoo.training import Trainer
from zoo.training.ranks import started_by_mpi

ranks, folder = started_by_mpi(), sys.argv[1]

class Model(nn.Module):
    def __init__(self): self.w = Tensor(np.ones(3, np.float32), requires_grad=True)

def trainer(folder=None, resume=False, data="a", rows=4, bad=False):
    m = Model()
    def objective(x, rng):
        loss = ((x * m.w) * (x * m.w)).mean()
        return {"loss": loss * (float("nan") if bad and ranks.rank == 1 and t.step == 1 else 1.0)}
    t = Trainer(m, objective, lambda step, rng: np.arange(3 * rows, dtype=np.float32).reshape(rows, 3), optim.Adam(m.parameters(), 0.1), steps=3,
                ranks=ranks, folder=folder, resume=resume, settings={"data": {"digest": data}})
    return t

def attempt(run):
    try:
        run()
        said = "went well"
    except Exception as e:
        said = str(e)
    with open(f"{folder}/said.{ranks.rank}", "a") as file:  # a pipe that two processes share cuts their lines
        print(said, file=file)
    ranks.communicator.Barrier()

attempt(lambda: trainer(data="ab"[ranks.rank]))
version, storage.VERSION = storage.VERSION, storage.VERSION + "ab"[ranks.rank]
attempt(trainer)
storage.VERSION = version
attempt(lambda: list(trainer(rows=1)))
attempt(lambda: list(trainer(bad=True)))
attempt(lambda: trainer(folder=folder + "/shared").run(progress=False))
attempt(lambda: trainer(folder=folder + "/shared" if ranks.is_first else folder + "/elsewhere", resume=True))
"""


@with_mpi
def test_ranks_that_disagree_say_so_on_all(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(DISAGREEING)
    command = str(MPIEXEC) if MPIEXEC.exists() else "mpiexec"
    done = subprocess.run([command, "-n", "2", sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "ZOO_KERNELS": "0"})
    assert done.returncode == 0, done.stdout + done.stderr
    said = [(tmp_path / f"said.{rank}").read_text().splitlines() for rank in range(2)]
    expected = ("ranks: settings is ", "ranks: version is ", "ranks: there are 2 for a batch of 1 rows",
                 "step 2: optimiser: the gradient's norm is nan in step 2", "went well", "ranks: the step of the checkpoint to resume from is 3 on rank 0")
    for lines in said:
        assert len(lines) == len(expected), lines
        for line, text in zip(lines, expected, strict=True):
            assert line.startswith(text), (line, text)


@with_mpi
def test_gradients_are_those_of_one_process_and_shares_those_of_the_whole():
    """`ranks_agree.py` says so of every family and any number of ranks; here, of some."""
    ranks = 2
    command = str(MPIEXEC) if MPIEXEC.exists() else "mpiexec"
    script = Path(__file__).with_name("ranks_agree.py")
    done = subprocess.run([command, "-n", str(ranks), sys.executable, str(script), "--steps", "3", "--only", "vae;recurrent;captions;SGD;Muon"],
                          capture_output=True, text=True, timeout=300, cwd=script.parents[1],
                          env={**os.environ, "ZOO_KERNELS": "0", "PYTHONPATH": str(script.parents[1]), "ZOO_THREADS": "1"})
    assert done.returncode == 0 and f"{ranks} ranks: 0 cases" in done.stdout, done.stdout + done.stderr


@with_mpi
def test_a_run_in_shares_goes_on_whole_and_with_another_number(tmp_path):
    family = [*FAMILIES["vae"], "--preset", "vae", "--schedule", "constant"]
    for name, more in (("whole", []), ("shares", ["--shard-optimiser"])):
        for epochs, ranks, resume in ((2, 3, []), (4, 2, ["--resume"])):
            given = list(family)
            given[given.index("--epochs") + 1] = str(epochs)
            done = train(*given, "--ranks", ranks, *(more if not resume else []), *resume, folder=tmp_path / name)
            assert done.returncode == 0, done.stderr
    whole, shares = (zoo.load(tmp_path / name).arrays() for name in ("whole", "shares"))
    assert all(np.array_equal(a, shares[name]) for name, a in whole.items())
