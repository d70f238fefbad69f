"""Laws of zoo.storage: what is saved comes back, a failed write changes nothing, a wrong file is named in one line."""

import errno
import json
import math
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zoo import storage
from zoo.storage import (
    WrongFile,
    atomic_write,
    atomic_writes,
    check_fit,
    load_checkpoint,
    load_folder,
    read_safetensors,
    read_tensors,
    save_checkpoint,
    save_folder,
    write_tensors,
)
from zoo.storage.atomic import _host

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
any_array = st.sampled_from(sorted(storage.DTYPES.values())).flatmap(
    lambda code: hnp.arrays(code, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
any_arrays = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda n: n != "__metadata__"), any_array, max_size=6)
any_scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"]))
any_state = st.dictionaries(st.text("ab.~0", max_size=3), st.recursive(
    any_scalar | any_array, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.~0", max_size=3), inner, max_size=3), max_leaves=8))


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    else:
        assert a == b or (math.isnan(a) and math.isnan(b))


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400, text
    return text


# ------------------------------------------------------------------------------------------------ what is saved comes back

@quick
@given(arrays=any_arrays)
def test_arrays_come_back_bit_for_bit(arrays, tmp_path):
    write_tensors(tmp_path / "x.safetensors", arrays, {"a": "b"})
    back, metadata = read_safetensors(tmp_path / "x.safetensors")
    assert set(back) == set(arrays) and metadata == {"a": "b"}
    for name in arrays:
        assert_same(arrays[name], back[name])
        assert back[name].flags.writeable and back[name].flags.aligned


@quick
@given(arrays=any_arrays)
def test_format_is_that_of_the_safetensors_package(arrays, tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    write_tensors(tmp_path / "ours", arrays)
    theirs = reference.load_file(tmp_path / "ours")
    reference.save_file({name: array.copy() for name, array in arrays.items()}, tmp_path / "theirs")
    ours = read_tensors(tmp_path / "theirs")
    assert set(ours) == set(theirs) == set(arrays)
    for name in arrays:
        assert_same(arrays[name], theirs[name])
        assert_same(arrays[name], ours[name])


@quick
@given(bits=hnp.arrays("<u2", 6))
def test_bfloat16_is_the_upper_half_of_float32(bits, tmp_path):
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}).encode()
    (tmp_path / "b.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())
    w = read_tensors(tmp_path / "b.safetensors")["w"]
    assert w.dtype == np.float32 and w.shape == (2, 3)
    assert np.array_equal(w.view(np.uint32).ravel() >> 16, bits) and not np.any(w.view(np.uint32) & 0xFFFF)


def test_noncontiguous_and_big_endian_arrays_come_back_as_values(tmp_path):
    a = np.arange(24, dtype=">f4").reshape(4, 6).T[::2]
    write_tensors(tmp_path / "x", {"a": a})
    back = read_tensors(tmp_path / "x")["a"]
    assert np.array_equal(back, a) and back.dtype == np.float32 and back.flags.c_contiguous


@quick
@given(state=any_state)
def test_checkpoint_comes_back(state, tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", state)
    assert_same(state, load_checkpoint(tmp_path / "c.safetensors"))


def test_paths_that_read_alike_are_kept_apart(tmp_path):
    state = {"a": {"b": np.zeros(1)}, "a.b": np.ones(1), "__metadata__": np.full(1, 2.0)}
    save_checkpoint(tmp_path / "c", state)
    assert_same(state, load_checkpoint(tmp_path / "c"))


def test_generator_resumes_from_a_checkpoint(tmp_path):
    rng = np.random.default_rng(7)
    rng.normal(size=5)
    save_checkpoint(tmp_path / "c", {"rng": rng.bit_generator.state, "step": np.int64(3), "betas": (0.9, 0.99)})
    state = load_checkpoint(tmp_path / "c")
    other = np.random.default_rng(0)
    other.bit_generator.state = state["rng"]
    assert np.array_equal(rng.normal(size=9), other.normal(size=9))
    assert state["step"] == 3 and state["betas"] == [0.9, 0.99]


def test_folder_comes_back_and_card_may_hold_numpy_numbers(tmp_path):
    save_folder(tmp_path / "new" / "run", {"w": np.eye(2, dtype="f4")}, {"kind": "vae", "nats": np.float32(86.5), "shape": np.arange(2)})
    arrays, card = load_folder(tmp_path / "new" / "run")
    assert np.array_equal(arrays["w"], np.eye(2)) and card == {"kind": "vae", "nats": 86.5, "shape": [0, 1]}
    assert sorted(p.name for p in (tmp_path / "new" / "run").iterdir()) == ["card.json", "model.safetensors"]


def test_shards_are_read_as_one(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"x": np.ones(2)})
    write_tensors(tmp_path / "b.safetensors", {"y": np.zeros(3)})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    assert {k: v.shape for k, v in read_tensors(tmp_path).items()} == {"x": (2,), "y": (3,)}
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "z": "b.safetensors"}}))
    with pytest.raises(WrongFile, match="z in .* but not in b.safetensors"):
        read_tensors(tmp_path)
    index.write_text(json.dumps({"weight_map": {"x": "../a.safetensors"}}))
    with pytest.raises(WrongFile, match="inside the same folder"):
        read_tensors(tmp_path)
    index.write_text(json.dumps({"weight_map": {"x": "c.safetensors"}}))
    with pytest.raises(FileNotFoundError, match="c.safetensors: does not exist"):
        read_tensors(tmp_path)


# ------------------------------------------------------------------------------------------------ a failed write changes nothing

def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("broken", ["write", "fsync", "replace", "open"])
def test_failed_write_leaves_the_earlier_file_and_nothing_else(broken, tmp_path, monkeypatch):
    save_folder(tmp_path, {"w": np.ones(3)}, {"run": 1})
    earlier = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(OSError, match="could not be written .No space left"):
            save_folder(tmp_path, {"w": np.zeros(3)}, {"run": 2})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == earlier


def test_disk_that_fills_between_two_files_changes_neither(tmp_path, monkeypatch):
    atomic_writes({tmp_path / "a": b"1", tmp_path / "b": b"1"})
    write, calls = os.write, []
    monkeypatch.setattr(os, "write", lambda handle, data: fail() if calls else calls.append(1) or write(handle, data))
    with pytest.raises(OSError, match="b: could not be written"):
        atomic_writes({tmp_path / "a": b"2", tmp_path / "b": b"2"})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"1", "b": b"1"}


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes")
def test_real_limit_on_the_file_size_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "c"
    save_checkpoint(path, {"w": np.ones(10)})
    code = ("import resource, signal, sys, numpy as np; from zoo.storage import save_checkpoint\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
            "try: save_checkpoint(sys.argv[1], {'w': np.ones(10_000)})\n"
            "except OSError as error: print(error)")
    root = Path(storage.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code, str(path)], cwd=root, capture_output=True, text=True, check=True)
    assert "could not be written (File too large)" in run.stdout and run.stdout.count("\n") == 1
    assert np.array_equal(load_checkpoint(path)["w"], np.ones(10)) and os.listdir(tmp_path) == ["c"]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, bytes(data[:3])))
    atomic_write(tmp_path / "x", b"0123456789")
    assert (tmp_path / "x").read_bytes() == b"0123456789"


def test_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(os, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "x", b"1")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_removed_by_a_later_write(tmp_path):
    old, fresh, other = (tmp_path / name for name in (".x[1].9-9-9.tmp", ".x[1].8-8-8.tmp", ".y.9-9-9.tmp"))
    for path in (old, fresh, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (0, 0))
    atomic_write(tmp_path / "x[1]", b"1")
    assert not old.exists() and fresh.exists() and other.exists()


@pytest.mark.skipif(os.name != "posix", reason="other systems can't tell whether a process runs")
def test_what_a_process_that_is_gone_left_is_removed_at_once_and_what_a_living_one_writes_is_not(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True).stdout.strip()
    assert storage.is_running(os.getpid()) and storage.is_running(os.getppid()) and not storage.is_running(int(gone))
    host = _host()
    litter = [tmp_path / name for name in (f".x.{host}-{gone}-9-9.tmp", f".y.{host}-{gone}-9-9.tmp")]
    living = [tmp_path / name for name in (f".x.{host}-{os.getppid()}-9-9.tmp", f".x.{'0' * 8}-{gone}-9-9.tmp", ".x.tmp", "x.tmp")]
    for path in litter + living:
        path.write_bytes(b"")
    atomic_write(tmp_path / "x", b"1")
    assert [path.exists() for path in litter] == [False, True]  # those of the same file
    storage.remove_abandoned(tmp_path)
    assert not any(path.exists() for path in litter) and all(path.exists() for path in living)


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices with names")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    content: list[bytes] = []
    reader = threading.Thread(target=lambda: content.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    atomic_write(tmp_path / "pipe", b"x" * 100_000)
    reader.join(10)
    assert content == [b"x" * 100_000] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices with names")
def test_a_device_is_written_to_and_stays_a_device(tmp_path):
    """As root, a rename over /dev/null would take it from the whole machine; so the test makes one of its own."""
    try:
        os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    (tmp_path / "link").symlink_to("null")
    for name in ("null", "link"):
        try:
            atomic_write(tmp_path / name, b"content")
        except OSError as error:  # a file system that takes no devices
            assert "could not be written" in str(error)
        assert stat.S_ISCHR((tmp_path / "null").stat().st_mode) and sorted(os.listdir(tmp_path)) == ["link", "null"]


@pytest.mark.skipif(os.name != "posix", reason="descriptors with names")
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_by_name_goes_where_the_shell_sends_it(name, tmp_path):
    if not Path(name).exists():
        pytest.skip(f"no {name} here")
    code = f"print('before'); from zoo.storage import atomic_write; atomic_write({name!r}, b'content'); print('after')"
    with open(tmp_path / "out", "w") as out:
        out.write("earlier\n")
        out.flush()
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, cwd=Path(storage.__file__).parents[1])
    assert (tmp_path / "out").read_text() == "earlier\nbefore\ncontentafter\n"


def test_a_folder_of_which_only_one_file_was_replaced_is_noticed(tmp_path):
    save_folder(tmp_path, {"w": np.ones(3)}, {"run": 1})
    earlier = (tmp_path / "card.json").read_bytes()
    save_folder(tmp_path, {"w": np.zeros(3)}, {"run": 2})
    assert load_folder(tmp_path)[1] == {"run": 2}
    later = (tmp_path / "card.json").read_bytes()
    (tmp_path / "card.json").write_bytes(earlier)
    with pytest.raises(WrongFile, match="model.safetensors: does not belong to card.json") as error:
        load_folder(tmp_path)
    one_line(error)
    (tmp_path / "card.json").write_bytes(later)
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[-1] ^= 1  # a bit of a number
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WrongFile, match="a file was changed"):
        load_folder(tmp_path)


def test_a_second_rename_that_fails_says_what_was_replaced(tmp_path, monkeypatch):
    save_folder(tmp_path, {"w": np.ones(3)}, {"run": 1})
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: fail() if Path(b).name == "card.json" else replace(a, b))
    with pytest.raises(OSError, match=r"card.json: could not be written .* it is unchanged, but model.safetensors was replaced already"):
        save_folder(tmp_path, {"w": np.zeros(3)}, {"run": 2})
    with pytest.raises(WrongFile, match="does not belong to"):
        load_folder(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")
def test_permissions_and_links_survive(tmp_path):
    (tmp_path / "real").write_bytes(b"1")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    atomic_write(tmp_path / "link", b"2")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"2"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


# ------------------------------------------------------------------------------------------------ wrong files, in one line

@quick
@given(data=st.data(), arrays=any_arrays)
def test_no_truncation_goes_unseen(data, arrays, tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, arrays)
    content = path.read_bytes()
    path.write_bytes(content[:data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(WrongFile, match="x.safetensors: is ") as error:
        read_tensors(path)
    one_line(error)


@quick
@given(data=st.data())
def test_any_damage_gives_arrays_or_one_line(data, tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"w": np.ones((2, 3), "f4"), "n": np.arange(3)}, {"k": "v"})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert all(isinstance(a, np.ndarray) for a in read_tensors(path).values())
    except WrongFile as error:
        assert "\n" not in str(error) and str(path) in str(error)


@pytest.mark.parametrize("content, what", [
    (b"", "empty"), (b"PK\x03\x04" + bytes([20, 0, 0, 0, 8, 0]) * 5, "zip"), (b"\x80\x02}q\x00." * 9, "pickle"), (b"hello world, this is text", "something else"),
    (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"), (b"<!DOCTYPE html><html></html>", "HTML"), (b'{"a": 1, "b": 2, "c": 3}', "JSON")])
def test_foreign_file_is_called_by_its_name(content, what, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(WrongFile, match="w.safetensors: is not a safetensors file") as error:
        read_tensors(tmp_path / "w.safetensors")
    assert what in one_line(error)


@pytest.mark.parametrize("entry", [
    {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}, {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
    {"dtype": "F32", "shape": [4], "data_offsets": [4, 20]}, {"dtype": "F8_E4M3", "shape": [16], "data_offsets": [0, 16]},
    {"dtype": "F32", "shape": [0, 10**30], "data_offsets": [0, 0]}, {"dtype": "F32", "shape": "x", "data_offsets": [0, 16]},
    {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}, {"dtype": "F32", "shape": [4]}, [], {"dtype": "F32", "shape": [1] * 70 + [4], "data_offsets": [0, 16]}])
def test_header_that_lies_is_refused(entry, tmp_path):
    header = json.dumps({"w": entry}).encode()
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(WrongFile) as error:
        read_tensors(tmp_path / "w")
    one_line(error)


def test_folders_that_are_not_models(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has no card.json"):
        load_folder(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="pytorch_model.bin is a pickle"):
        read_tensors(tmp_path)
    for text, what in (("{", "damaged or truncated"), ("[1]", "a JSON list"), ("hello", "something else")):
        (tmp_path / "card.json").write_text(text)
        with pytest.raises(WrongFile, match=what):
            load_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="folder .* does not exist"):
        atomic_write(tmp_path / "no" / "x", b"")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        atomic_write(tmp_path, b"")
    with pytest.raises(FileExistsError, match="is a file"):
        save_folder(tmp_path / "card.json", {}, {})
    write_tensors(tmp_path / "w.safetensors", {"w": np.ones(1)})
    with pytest.raises(WrongFile, match="not a checkpoint"):
        load_checkpoint(tmp_path / "w.safetensors")


@pytest.mark.parametrize("save", [
    lambda path: write_tensors(path, {"w": np.array([object()])}), lambda path: write_tensors(path, {"w": np.ones(2, complex)}),
    lambda path: write_tensors(path, {"__metadata__": np.ones(2)}), lambda path: write_tensors(path, {"\ud800": np.ones(2)}),
    lambda path: write_tensors(path, {3: np.ones(2)}), lambda path: save_checkpoint(path, {"a": {1: 2}}), lambda path: save_checkpoint(path, {"a": {1, 2}}),
    lambda path: save_checkpoint(path, {"$array": "x"}), lambda path: save_folder(path, {}, {"a": object()})])
def test_what_cannot_be_stored_is_refused_before_anything_is_written(save, tmp_path):
    with pytest.raises(ValueError) as error:
        save(tmp_path / "x")
    assert "expects" in one_line(error) or "Unicode" in one_line(error)
    assert os.listdir(tmp_path) == []


def test_fit_lists_every_fault_in_one_line():
    arrays = {"a": np.ones(2), "b": np.ones((2, 3)), "x": np.ones(1)}
    check_fit(arrays, {"a": (2,), "b": (2, 3), "x": (1,)})
    with pytest.raises(ValueError) as error:
        check_fit(arrays, {"a": (2,), "b": (3, 2), **{f"c{i}": (1,) for i in range(9)}}, "run/model.safetensors")
    assert one_line(error) == ("run/model.safetensors: does not fit the model; missing: c0, c1, c2, c3 and 5 more; unexpected: x; "
                               "wrong shape: b is (2, 3), wanted (3, 2)")


def test_half_the_room_rounds_and_nothing_else(tmp_path):
    from zoo.loading.cards import load
    from zoo.model import halved
    from zoo.vae import VAE

    model = VAE.new(hidden=(8,), latent=(3,), seed=2)
    model.save(tmp_path / "whole")
    model.save(tmp_path / "half", half=True)
    whole, half = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half"))
    assert half < 0.6 * whole
    for name, a in load(tmp_path / "half").arrays().items():
        assert a.dtype == np.float32 and np.array_equal(a, model.arrays()[name].astype(np.float16).astype(np.float32))
    with pytest.raises(ValueError, match="'w' holds numbers beyond 65,504"):
        halved({"w": np.array([1e5], np.float32)})


@pytest.mark.parametrize("name", ["\u97f3" * 80 + ".x", "x" * 255, os.fsdecode(b"\xff" * 200), "a\nb", "[*?]"])
def test_whatever_name_a_file_may_have_it_can_be_written(name, tmp_path):
    """Names of temporary files hold it too, and file systems count bytes."""
    atomic_write(tmp_path / name, b"1")
    atomic_write(tmp_path / name, b"2")
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_bytes() == b"2"


def test_an_error_is_one_line_whatever_the_name(tmp_path):
    name = tmp_path / "a\nb\x1b[31m\udcff"
    for call in (lambda: read_tensors(name), lambda: load_folder(name), lambda: atomic_write(name / "x", b""), lambda: load_checkpoint(name)):
        with pytest.raises(FileNotFoundError) as error:
            call()
        assert str(error.value).isprintable() and str(tmp_path) in str(error.value)
