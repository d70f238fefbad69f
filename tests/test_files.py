"""Hostile and damaged files: one line that names the file, in bounded time and memory; `python tests/fuzz_files.py` runs many more."""

import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest
from fuzz_files import CASES, run, verdict

import zoo
from zoo.data import load_text
from zoo.diffusion import Diffusion
from zoo.evaluation.classifier import Classifier
from zoo.inspection.catalogue import facts_of, info
from zoo.language.tokenizer import BytePairTokenizer
from zoo.recurrent import Recurrent
from zoo.storage import WrongFile, open_regular, read_tensors
from zoo.transformer import Transformer
from zoo.vae import VAE


def test_broken_files_load_or_end_in_one_line(request, tmp_path):
    seed = int(request.config.option.hypothesis_seed)
    faults = run(240, seed, tmp_path, bombs=False)
    assert not faults, f"python tests/fuzz_files.py --files 240 --without-bombs --seed {seed}"


@pytest.fixture
def model(tmp_path):
    VAE.new(image=(4, 4), hidden=(6,), latent=(2,), seed=0).save(tmp_path / "vae")
    return tmp_path / "vae"


@pytest.mark.parametrize("fields", [{"hidden": [2_000_000]}, {"hidden": [10**12]}, {"latent": [10**18]}, {"image": [10**6, 10**6]}, {"hidden": [1] * 10**5},
                                    {"hidden": [1e400]}, {"classes": 10**9}])
def test_a_card_cannot_ask_for_more_than_its_weights_hold(model, fields, must_end):
    card = json.loads((model / "card.json").read_text())
    card["configuration"] |= fields
    (model / "card.json").write_text(json.dumps(card).replace("Infinity", "1e400"))
    with must_end(), pytest.raises(WrongFile) as error:
        zoo.load(model)
    assert str(model) in str(error.value) and len(str(error.value).partition(": ")[2]) <= 200


@pytest.mark.parametrize("tensor", [
    {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 16]}, {"dtype": [], "shape": [4], "data_offsets": [0, 16]},
    {"dtype": "F32", "shape": [4], "data_offsets": [0]}, {"dtype": "F32", "shape": [4], "data_offsets": [0, 4, 8]},
    {"dtype": "F32", "shape": [1.9], "data_offsets": [0, 16]}, {"dtype": "F32", "shape": ["4"], "data_offsets": [0, 16]},
    {"dtype": "F32", "shape": [True], "data_offsets": [0, 16]}, {"dtype": "F32", "shape": {"4": 2}, "data_offsets": [0, 16]},
    {"dtype": "F32", "shape": [4], "data_offsets": [0.0, 16.0]}, {"dtype": "F32", "shape": [4], "data_offsets": ["0", "16"]},
    {"dtype": "F32", "shape": [10**18] * 40_000, "data_offsets": [0, 16]}, {"dtype": "F32", "shape": [10**4000] * 30, "data_offsets": [0, 16]}])
def test_a_header_is_checked_number_by_number(tensor, tmp_path, must_end):
    header = json.dumps({"w": tensor}).replace("Infinity", "1e400").encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with must_end(), pytest.raises(WrongFile, match=r"x\.safetensors: has a damaged safetensors header") as error:
        read_tensors(tmp_path / "x.safetensors")
    assert len(str(error.value).partition(": ")[2]) <= 200


def test_a_name_that_occurs_twice_is_refused(tmp_path):
    entry = '"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}'
    header = f"{{{entry}, {entry}}}".encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(WrongFile, match="occurs twice"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="devices and pipes of POSIX")
@pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
def test_devices_and_pipes_are_refused(model, name):
    (model / name).unlink()
    (model / name).symlink_to("/dev/zero")
    with pytest.raises(WrongFile, match=f"{name}: is a device"):
        zoo.load(model)
    (model / name).unlink()
    os.mkfifo(model / name)
    with pytest.raises(WrongFile, match=f"{name}: is a device, a pipe"):
        zoo.load(model)


def test_a_text_is_a_regular_file_of_bounded_size(tmp_path):
    place = tmp_path / "text.txt"
    os.mkfifo(place)
    with pytest.raises(WrongFile, match=r"text\.txt: is a device, a pipe"):
        load_text(place)
    place.unlink()
    place.symlink_to("/dev/zero")
    with pytest.raises(WrongFile, match=r"text\.txt: is a device, a pipe"):
        load_text(place)
    place.unlink()
    with open(place, "wb") as file:
        file.truncate(2**40)  # which takes no room on the disk
    with pytest.raises(WrongFile, match=r"text\.txt: has 1,099,511,627,776 bytes"):
        load_text(place)


def test_a_file_full_of_values_is_refused_before_it_is_read(model):
    (model / "card.json").write_text('{"a": [' + "[]," * 6_000_000 + "1]}")
    with pytest.raises(WrongFile, match=r"card\.json: holds more than"):
        zoo.load(model)


@pytest.mark.parametrize("entry", [{"parameters": "x"}, {"minutes": 1, "steps": []}, {"figures": {"test_accuracy": 10**400}}, {"class_names": 3}])
def test_a_card_is_described_or_its_fault_is_named(model, entry):
    card = json.loads((model / "card.json").read_text())
    (model / "card.json").write_text(json.dumps(card | entry))
    with pytest.raises(WrongFile, match=r"card\.json: an entry is of another type"):
        info(model)
    assert facts_of(zoo.load(model))


@pytest.mark.skipif(sys.platform == "win32", reason="devices and pipes of POSIX")
@pytest.mark.parametrize("name", CASES)
def test_no_reader_waits_for_what_has_no_end(name, tmp_path):
    """Whatever file of a folder is a pipe, a device, or of /proc, where files say that they are empty and may wait for ever."""
    CASES[name].write(tmp_path)
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:
        content = path.read_bytes()
        for strange in ("a pipe", "/dev/zero", "/proc/self/environ"):
            path.unlink()
            os.mkfifo(path) if strange == "a pipe" else path.symlink_to(strange)
            assert verdict(CASES[name], tmp_path) is None, f"{path.name} is {strange}"
        path.unlink()
        path.write_bytes(content)


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="a file that says it is empty and isn't")
def test_what_says_that_it_is_empty_is_read_as_empty(tmp_path):
    (tmp_path / "x.safetensors").symlink_to("/proc/self/environ")
    assert Path("/proc/self/environ").read_bytes()
    with open_regular(tmp_path / "x.safetensors") as file:
        assert file.read() == b""
    with pytest.raises(WrongFile, match=r"x\.safetensors: .* empty"):
        read_tensors(tmp_path / "x.safetensors")


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    class BadSector(io.FileIO):
        def readinto(self, buffer):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "x.safetensors").write_bytes(b"x")
    monkeypatch.setattr(io, "FileIO", BadSector)
    with pytest.raises(OSError, match=r"x\.safetensors: cannot be read"):
        read_tensors(tmp_path / "x.safetensors")


def test_merges_are_of_bounded_size(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with open(tmp_path / "merges.txt", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(WrongFile, match=r"merges\.txt: has 1,099,511,627,776 bytes"):
        BytePairTokenizer.read(tmp_path)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "x/" * 3000], ids=["too long", "NUL", "too deep"])
def test_what_can_be_no_file_s_name_is_none(name):
    for call in (zoo.load, zoo.data.load_images, load_text, Classifier.read, lambda n: Diffusion.new(image=(8, 8), autoencoder=n), BytePairTokenizer.read):
        with pytest.raises((FileNotFoundError, WrongFile)) as error:
            call(name)
        assert error.value.__class__ in (FileNotFoundError, WrongFile) and "\0" not in str(error.value)


@pytest.mark.parametrize(("make", "field"), [
    (lambda: Diffusion.new(image=(2,), network="dense", channels=4, blocks=1), "blocks"), (lambda: VAE.new(image=(4, 4), hidden=(3,), latent=2), "depth"),
    (lambda: Transformer.new(symbols=5, window=4, layers=1, heads=1, width=4), "layers"),
    (lambda: Recurrent.new(symbols=5, width=4, layers=1), "layers")], ids=["flow", "vae", "transformer", "recurrent"])
def test_a_card_has_no_more_layers_than_its_weights_have_arrays(make, field, tmp_path):
    """Layers without weights take memory too."""
    make().save(tmp_path / "m")
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    card["configuration"][field] = 9_999_999
    (tmp_path / "m" / "card.json").write_text(json.dumps(card))
    with pytest.raises(WrongFile, match=rf"{field} is 9999999, but the weights are \d+ arrays in all"):
        zoo.load(tmp_path / "m")
