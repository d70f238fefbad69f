"""Laws of zoo.storage: what is saved comes back, a failed write changes nothing, a wrong file is named in one line."""

import contextlib
import errno
import hashlib
import json
import math
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
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
from zoo.storage.files import looks_like, read_json, shorten

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


def laid_out(header, data=b""):
    """A safetensors file: the header's length, the header, the numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_a_file_is_laid_out_as_its_format_says(tmp_path):
    """Widest numbers first, so that each array is aligned; the header is padded with spaces, so that the first is."""
    write_tensors(tmp_path / "x", {"a": np.array([7], np.uint8), "n": np.zeros((0, 2), np.int16), "b": np.array([1, 2], np.float32)}, {"k": "v"})
    header = (b'{"__metadata__":{"k":"v"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"n":{"dtype":"I16","shape":[0,2],"data_offsets":[8,8]},'
              b'"a":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}}')
    header += b" " * (8 - len(header) % 8)
    assert (tmp_path / "x").read_bytes() == laid_out(header, struct.pack("<ffB", 1, 2, 7))
    write_tensors(tmp_path / "x", {"k" * n: np.zeros(1) for n in range(1, 9)})
    assert struct.unpack("<Q", (tmp_path / "x").read_bytes()[:8])[0] % 8 == 0


@pytest.mark.parametrize(("header", "data", "arrays"), [
    (b"{}", b"", {}), ({"b": ["U8", 2, 2, 4], "a": ["U8", 2, 0, 2]}, b"\1\2\3\4", {"a": [1, 2], "b": [3, 4]}), ({"a": ["U8", 3, 0, 3], "b": ["U8", 1, 3, 4]}, b"\1\2\3\4", {"a": [1, 2, 3], "b": [4]}),
    ({"a": ["U8", 1, 0, 1], "n": ["U8", 0, 0, 0]}, b"\5", {"a": [5], "n": []}), ({"t": ["BOOL", 3, 0, 3]}, b"\0\1\2", {"t": [False, True, True]})])
def test_tensors_may_be_listed_in_any_order(header, data, arrays, tmp_path):
    if isinstance(header, dict):
        header = {name: {"dtype": kind, "shape": [n], "data_offsets": ends} for name, (kind, n, *ends) in header.items()}
    (tmp_path / "x").write_bytes(laid_out(header, data))
    read = read_tensors(tmp_path / "x")
    assert {name: a.tolist() for name, a in read.items()} == arrays


@pytest.mark.parametrize(("content", "message"), [
    (b"1234567", "is not a safetensors file"), (laid_out(b"[]"), "is not a safetensors file"), (bytes(8), "has a damaged safetensors header"),
    (laid_out(b"{}", b"x"), "has bytes after its end: it has 11 bytes, its header asks for 10"), (laid_out(b"{}")[:-1], "is truncated: it has 9 bytes, its header alone needs 10"),
    (laid_out({"w": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}}, b"12"), r"is truncated: it has 70 bytes, its header asks for 71$"),
    (laid_out({"w": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}, b"123"), r"tensor 'w' begins at byte 1, expected 0\)"),
    (laid_out({"v": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "w": {"dtype": "U8", "shape": [1], "data_offsets": [2, 3]}}, b"123"), r"tensor 'w' begins at byte 2, expected 1\)"),
    (laid_out({"w": {"dtype": "U8", "shape": [0], "data_offsets": [2**62 - 1] * 2}}), "tensor 'w' begins at byte 4611686018427387903, expected 0"),
    (laid_out({"w": {"dtype": "U8", "shape": [0], "data_offsets": [2**62] * 2}}), r"tensor 'w': dtype 'U8', shape \[0\], data_offsets"),
    (laid_out({"w": {"dtype": "U8", "shape": [1] * 33, "data_offsets": [0, 1]}}, b"1"), "tensor 'w': dtype 'U8', shape"),
    (laid_out({"w": {"dtype": "U8", "shape": [0, 2**59], "data_offsets": [0, 0]}}), r"tensor 'w': shape \[0, 576460752303423488\] of U8 in bytes 0 to 0"),
    (laid_out({"w": {"dtype": "F16", "shape": [2], "data_offsets": [0, 2]}}, b"12"), r"tensor 'w': shape \[2\] of F16 in bytes 0 to 2"),
    (laid_out({"w": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"1"), "tensor 'w' has dtype 'F4'; can read F64, F32, F16, I64"),
    (laid_out({"__metadata__": {"k": 1}}), "metadata of strings alone"), (laid_out({"__metadata__": 3}), "metadata of strings alone"),
    (laid_out({"w": 3}), "tensor 'w': dtype 3, shape 3, data_offsets 3"), (laid_out(b'{"w": 1, "w": 2}'), "a name occurs twice")])
def test_a_damaged_header_is_told_exactly(content, message, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(WrongFile, match=f"/x: .*{message}"):
        read_tensors(tmp_path / "x")


def test_what_is_just_within_the_bounds_of_a_header_is_read(tmp_path):
    for header, data in (({"w": {"dtype": "U8", "shape": [1] * 32, "data_offsets": [0, 1]}}, b"1"), ({"w": {"dtype": "U8", "shape": [2**59 - 1, 0], "data_offsets": [0, 0]}}, b"")):
        (tmp_path / "x").write_bytes(laid_out(header, data))
        assert read_tensors(tmp_path / "x")["w"].shape == tuple(header["w"]["shape"])
    for length, message in ((10**7, None), (10**7 + 1, "is not a safetensors file")):
        (tmp_path / "x").write_bytes(laid_out(b"{}".ljust(length)))
        with contextlib.nullcontext() if message is None else pytest.raises(WrongFile, match=message):
            assert read_tensors(tmp_path / "x") == {}


def test_a_file_that_shrinks_between_header_and_numbers_is_said(tmp_path):
    write_tensors(tmp_path / "x", {"a": np.arange(3), "b": np.arange(3, dtype=np.int32)})
    tensors = storage.open_tensors(tmp_path / "x")
    assert len(tensors) == 2 and list(tensors) == ["a", "b"] and tensors["b"].tolist() == tensors["a"].tolist() == [0, 1, 2]
    os.truncate(tmp_path / "x", (tmp_path / "x").stat().st_size - 1)
    assert tensors["a"].tolist() == [0, 1, 2]
    with pytest.raises(WrongFile, match="was changed while it was read"):
        tensors["b"]


@pytest.mark.parametrize(("names", "message"), [
    ([], "no 'weight_map'"), (None, "no 'weight_map'"), ({"w": 3}, "no 'weight_map'"), ({"w": "a/b"}, "inside the same folder"), ({"w": "a\nb"}, "inside the same folder"),
    ({"w": "a" * 201}, "inside the same folder"), ({"w": "\u00e9" * 101}, "inside the same folder"), ({"w": "a" * 200}, None), ({"w": "a" * 200, "v": "a" * 200}, "v in .* but not in")])
def test_an_index_names_files_of_its_own_folder(names, message, tmp_path):
    write_tensors(tmp_path / ("a" * 200), {"w": np.ones(2), "other": np.ones(3)})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with contextlib.nullcontext() if message is None else pytest.raises(WrongFile, match=message):
        assert {name: a.tolist() for name, a in read_tensors(tmp_path).items()} == {"w": [1, 1]}


def test_names_of_arrays_in_a_checkpoint_are_their_paths(tmp_path):
    save_checkpoint(tmp_path / "c", {"a": {"b": np.zeros(1)}, "a.b": np.ones(1), "a.b~1": np.ones(1), "l": [np.ones(1), (np.ones(1), 3)], "__metadata__": np.ones(1)})
    arrays, metadata = read_safetensors(tmp_path / "c")
    assert set(arrays) == {"a.b", "a.b~1", "a.b~1~1", "l.0", "l.1.0", "__metadata__~1"}
    assert json.loads(metadata["zoo_checkpoint"])["l"] == [{"$array": "l.0"}, [{"$array": "l.1.0"}, 3]]
    write_tensors(tmp_path / "c", {}, {"zoo_checkpoint": '{"a": {"$array": "b"}}'})
    with pytest.raises(WrongFile, match=r"is a damaged checkpoint \(KeyError"):
        load_checkpoint(tmp_path / "c")


def test_a_card_is_json_that_people_can_read(tmp_path):
    save_folder(tmp_path, {"w": np.ones(2, np.float32)}, {"name": "\u00e9\udcff", "path": Path("a/b"), "n": np.int64(3)})
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert (tmp_path / "card.json").read_bytes() == (b'{\n "name": "\xc3\xa9\\udcff",\n "path": "a/b",\n "n": 3,\n "weights_sha256": "' + digest.encode() + b'"\n}\n')


def test_the_cache_lies_where_the_system_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert storage.cache_folder("data") == tmp_path / "numpy-zoo" / "data"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert storage.cache_folder("data") == tmp_path / "home" / ".cache" / "numpy-zoo" / "data"


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
    with pytest.raises(OSError, match=r"card.json: .* unchanged, but a, b was replaced already"):
        atomic_writes({tmp_path / name: b"1" for name in ("a", "b", "card.json")})


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")
def test_permissions_and_links_survive(tmp_path):
    (tmp_path / "real").write_bytes(b"1")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    atomic_write(tmp_path / "link", b"2")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"2"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    (tmp_path / "usual").touch()
    atomic_write(tmp_path / "new", b"3")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(os.name != "posix", reason="sockets with names")
def test_a_socket_is_neither_written_to_nor_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        with pytest.raises(OSError, match="^s: is a socket; expects the name of a file$"):
            atomic_write("s", b"1")
        with pytest.raises(WrongFile, match="^s: is a device, a pipe or a socket"):
            read_tensors("s")
    assert os.listdir(tmp_path) == ["s"]


def test_what_another_machine_left_goes_after_an_hour(tmp_path):
    ages = {3_540: True, 3_660: False, 0: True}
    for age in ages:
        path = tmp_path / f".x.{'0' * 8}-9-9-{age}.tmp"
        path.write_bytes(b"")
        os.utime(path, (time.time() - age,) * 2)
    storage.remove_abandoned(tmp_path, "x")
    assert {age: (tmp_path / f".x.{'0' * 8}-9-9-{age}.tmp").exists() for age in ages} == ages
    assert not storage.is_running(10**30) and storage.is_running(os.getpid())


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


def test_a_message_is_cut_at_two_hundred_characters():
    for n, rest in ((200, "x" * 200), (201, "x" * 197 + "...")):
        assert str(WrongFile("file: " + "x" * n)) == "file: " + rest
    assert [shorten(value) for value in ("a" * 58, "a" * 59, list(range(20)))] == [repr("a" * 58), repr("a" * 59)[:60] + "...", str(list(range(20)))[:60] + "..."]
    assert shorten("a" * 9, 11) == repr("a" * 9) and shorten(3) == "3" and looks_like(b"") == "empty"
    assert looks_like(b"0123456789") == "something else (it starts with b'01234567')"


def test_json_of_bounded_size_is_read(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text('{"a":[1,{}]}')  # a comma, a list and two objects
    for name, most, message in (("MAX_JSON", 12, None), ("MAX_JSON", 11, r"has 12 bytes; expects JSON of at most 11"), ("MAX_VALUES", 4, None), ("MAX_VALUES", 3, "holds more than 3 values")):
        with monkeypatch.context() as patch, contextlib.nullcontext() if message is None else pytest.raises(WrongFile, match=message):
            patch.setattr("zoo.storage.files." + name, most)
            assert read_json(path) == {"a": [1, {}]}
    for text, message in (('{"a": [1, {', r"is not JSON: it is damaged or truncated"), ("", "is not JSON: it is empty"), ("<p>", "is not JSON: it is HTML"), ("[1]", "holds a JSON list"), ("[", "it is JSON")):
        path.write_text(text)
        with pytest.raises(WrongFile, match=message):
            read_json(path)


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
    with pytest.raises(ValueError, match="^weights: does not fit the model; missing: c0, c1, c2, c3$"):
        check_fit({}, {f"c{i}": (1,) for i in range(4)})


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
