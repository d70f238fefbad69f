"""GGUF files: every type of block against the gguf package, reading and writing both ways, and damaged files in one line."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.loading import gguf as files
from zoo.loading.blocks import TYPES, WRITTEN, dequantise, quantise
from zoo.storage import WrongFile

gguf = pytest.importorskip("gguf", reason="the gguf package says what blocks mean")


def theirs(kind: str):
    return gguf.GGMLQuantizationType[kind]


@pytest.mark.parametrize("kind", TYPES)
def test_blocks_equal_those_of_the_gguf_package(kind, rng):
    raw = rng.integers(0, 256, (64, 3 * TYPES[kind].size), np.uint8)
    with np.errstate(all="ignore"):
        ours, other = dequantise(raw, kind), gguf.quants.dequantize(raw, theirs(kind))
    assert ours.dtype == np.float32 and np.array_equal(ours.view(np.uint32), np.asarray(other, np.float32).view(np.uint32))


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1"])
def test_quantised_blocks_equal_those_of_the_gguf_package(kind, rng):
    w = rng.standard_normal((40, 96)).astype(np.float32)
    w[3, :32], w[4, 5], w[5, :32] = 0, 1000, 0.25
    assert np.array_equal(quantise(w, kind), gguf.quants.quantize(w, theirs(kind)))


@pytest.mark.parametrize("kind,share", [("Q8_0", 1 / 254), ("Q4_1", 1 / 30)])
def test_rounding_errs_by_half_a_step_of_the_blocks_range(kind, share, rng):
    w = rng.standard_normal((16, 320)).astype(np.float32)
    blocks = w.reshape(-1, 32)
    reach = 2 * np.abs(blocks).max(1) if kind == "Q8_0" else np.ptp(blocks, axis=1)
    error = np.abs(dequantise(quantise(w, kind), kind).reshape(-1, 32) - blocks).max(1)
    assert (error <= reach * share * 1.02 + 1e-3 * np.abs(blocks).max(1)).all()  # and what float16 takes from the scale


@given(st.data())
def test_what_is_written_is_read_again_by_us_and_by_the_gguf_package(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    settings = {
        "general.architecture": "llama", "a.text": data.draw(st.text(max_size=30).filter(lambda t: t.isprintable())), "a.whole": data.draw(st.integers(0, 2**32 - 1)),
        "a.negative": -3, "a.real": 0.5, "a.yes": True, "a.names": ["a", "", "é\n"], "a.numbers": rng.random(5, np.float32), "a.whole.numbers": [1, 2, 3],
    }
    arrays = {f"tensor.{i}": (data.draw(st.sampled_from(WRITTEN)), rng.standard_normal((data.draw(st.integers(1, 5)), 32 * data.draw(st.integers(1, 3)))).astype(np.float32))
              for i in range(data.draw(st.integers(0, 4)))}
    files.write("written.gguf", settings, {name: (kind, quantise(a, kind), a.shape) for name, (kind, a) in arrays.items()})
    read = files.File("written.gguf")
    assert read.settings.keys() == settings.keys() and list(read.tensors) == list(arrays)
    for name, value in settings.items():
        assert np.array_equal(read.settings[name], value)
    reader = gguf.GGUFReader("written.gguf")
    for tensor, (name, (kind, a)) in zip(reader.tensors, arrays.items()):
        expected = dequantise(quantise(a, kind), kind)
        assert np.array_equal(read.array(name), expected) and read.entry(name).shape == a.shape
        assert tensor.name == name and np.array_equal(gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(a.shape), expected)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def whole(settings=((b"general.architecture", 8, struct.pack("<Q", 5) + b"llama"),), tensors=((b"w", (32, 2), 8, 0),), data=b"\1" * 68, version=3, counts=None):
    """The bytes of a file, each part as given."""
    head = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(settings))))
    for name, kind, value in settings:
        head += struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value
    for name, shape, kind, offset in tensors:
        head += struct.pack(f"<Q{len(name)}sI{len(shape)}QIQ", len(name), name, len(shape), *shape, kind, offset)
    return head + bytes(-len(head) % 32) + data


def test_the_file_that_the_damaged_ones_come_from_is_read():
    Path("a.gguf").write_bytes(whole())
    assert files.File("a.gguf").array("w").shape == (2, 32)


FLAWS = {
    "not a GGUF file": b"PK\3\4" + whole()[4:],
    "is truncated": whole()[:60],
    "version 4": whole(version=4),
    "version 1": whole(version=1),
    "big-endian": b"GGUF" + struct.pack(">I", 3) + whole()[8:],
    "more than fit": whole(counts=(2**60, 1)),
    "name of 1,152,921,504,606,846,976 bytes": whole()[:24] + struct.pack("<Q", 2**60) + whole()[32:],
    "type 13": whole(settings=((b"a", 13, b""),)),
    "twice": whole(settings=((b"a", 0, b"1"), (b"a", 0, b"1"))),
    "strings, more than": whole(settings=((b"a", 9, struct.pack("<IQ", 8, 2**50)),)),
    "array of type 9": whole(settings=((b"a", 9, struct.pack("<IQ", 9, 2)),)),
    "is truncated: byte": whole(settings=((b"a", 9, struct.pack("<IQ", 12, 2**57)),)),
    "general.alignment is 7": whole(settings=((b"general.alignment", 4, struct.pack("<I", 7)),)),
    "general.alignment is 0": whole(settings=((b"general.alignment", 4, struct.pack("<I", 0)),)),
    "has type 99": whole(tensors=((b"w", (32,), 99, 0),)),
    "5 dimensions": whole(tensors=((b"w", (32, 1, 1, 1, 1), 8, 0),)),
    "whole blocks of 32": whole(tensors=((b"w", (31,), 8, 0),)),
    "shape (1152921504606846976, 32)": whole(tensors=((b"w", (32, 2**60), 8, 0),)),
    "of 196": whole(tensors=((b"w", (32, 3), 8, 0),))[:196],
    "would lie at": whole(tensors=((b"w", (32, 2), 8, 2**63),)),
    "in steps of 32": whole(tensors=((b"w", (32, 1), 8, 5),)),
    "overlap": whole(tensors=((b"v", (32, 2), 8, 0), (b"w", (32, 1), 8, 32)), data=bytes(200)),
    "has the tensor 'w' twice": whole(tensors=((b"w", (32, 1), 8, 0), (b"w", (32, 1), 8, 64)), data=bytes(200)),
    "damaged header (UnicodeDecodeError": whole(settings=((b"\xff", 0, b"1"),)),
    "it is empty": b"",
}


@pytest.mark.parametrize("says,content", FLAWS.items(), ids=FLAWS)
def test_a_damaged_file_ends_in_one_line_that_names_it(says, content):
    Path("a.gguf").write_bytes(content)
    with pytest.raises(WrongFile) as e:
        files.File("a.gguf")
    assert "a.gguf" in str(e.value) and says in str(e.value) and len(str(e.value)) < 250 and "\n" not in str(e.value)


@given(st.data())
def test_no_mutated_file_gives_any_other_error(data):
    content = bytearray(whole(settings=((b"general.architecture", 8, struct.pack("<Q", 5) + b"llama"), (b"l", 9, struct.pack("<IQ", 8, 2) + 2 * (struct.pack("<Q", 1) + b"x")))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    Path("a.gguf").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        read = files.File("a.gguf")
        with np.errstate(all="ignore"):
            assert all(read.array(name).shape == e.shape for name, e in read.tensors.items())
    except WrongFile as e:
        assert "a.gguf" in str(e)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo("fifo")
    for path, error in (("missing.gguf", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error, match=str(path).replace("\\", "\\\\")):
            files.File(path)
    with pytest.raises(WrongFile, match="expects a regular file"):
        files.File("fifo")


@pytest.mark.parametrize("kind,w,says", [
    ("Q4_K", np.zeros((1, 256)), "it may be F32, F16, Q8_0, Q4_1"), ("Q8_0", np.zeros((1, 33)), "33 numbers"),
    ("F16", np.full((1, 32), 1e6), "65,504"), ("Q4_1", np.full((1, 32), np.nan), "isn't finite"),
])
def test_what_can_not_be_quantised_is_said(kind, w, says):
    with pytest.raises(ValueError, match=says):
        quantise(w, kind)


def test_a_tensor_of_another_size_is_not_written():
    with pytest.raises(ValueError, match="has 34 bytes; Q8_0 of shape"):
        files.write("a.gguf", {}, {"w": ("Q8_0", np.zeros((1, 34), np.uint8), (2, 32))})
    assert not os.path.exists("a.gguf")
