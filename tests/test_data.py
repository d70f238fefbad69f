"""Laws of zoo.data: pictures and text arrive as they were, every sample is shown as often as it should be, wrong files are named."""

import gzip
import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from zoo import data
from zoo.data import picture_folders, toys
from zoo.data.array_files import PADDING, check_unpacked, read_npz
from zoo.data.images import mnist_test
from zoo.data.picture_folders import _pictures, read_picture
from zoo.storage import WrongFile

quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
pictures = hnp.arrays("u1", hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)).filter(lambda a: a.max() != 1)
MAKERS = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def idx(array, code="u1") -> bytes:
    """The bytes of an IDX file."""
    return bytes([0, 0, MAKERS[code], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(code).tobytes()


def save_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def one_line(error) -> str:
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return str(error.value)


# ------------------------------------------------------------------------------------------------ what ships

def test_mnist_is_bit_exact():
    images = data.mnist()
    arrays = ((images.train * 255 + 0.5).astype("u1"), images.train_labels.astype("u1"), (images.test * 255 + 0.5).astype("u1"),
              images.test_labels.astype("u1"))
    assert [hashlib.md5(a).hexdigest()[:8] for a in arrays] == ["6510e85a", "e86ee40d", "240610fa", "073c3904"]      # of the IDX payloads
    assert images.train.shape == (60000, 28, 28) and images.test.shape == (10000, 28, 28)
    assert abs(images.train.mean(dtype=np.float64) * 255 - 33.318421) < 1e-5
    assert images.train.dtype == np.float32 and images.train.min() == 0 and images.train.max() == 1
    assert images.train_labels[:5].tolist() == [5, 0, 4, 1, 9] and repr(images) == "Images('mnist': 60,000 to train on, 10,000 to test on, 28 x 28)"


def test_small_digits_cover_all_classes_in_both_parts():
    images = data.load_images("digits8x8")
    assert images.train.shape == (1437, 8, 8) and images.test.shape == (360, 8, 8) and images.train.max() == 1
    assert set(images.train_labels) == set(images.test_labels) == set(range(10)) and len(images.train_labels) == 1437 and len(images.test_labels) == 360


def test_texts_that_ship():
    text = data.shakespeare()
    assert len(text) == 5_057_321 and len(set(text)) == 84 and "To be, or not to be" in text and "\r" not in text
    assert text.count("\n\nROMEO:\n") == 163 and "\n\nRomeo.\n" not in text            # speakers as in tiny Shakespeare
    names = data.names()
    assert len(names) == len(set(names)) == 5163 and set("".join(names)) <= set("abcdefghijklmnopqrstuvwxyz")
    assert data.load_text("names").split() == names


# ------------------------------------------------------------------------------------------------ pictures of your own

@quick
@given(x=pictures)
def test_pixels_keep_every_level(x):
    assert np.array_equal(np.rint(data.as_pixels(x) * 255), x)
    assert data.as_pixels(x).dtype == np.float32
    assert np.array_equal(data.as_pixels(x[..., None]), data.as_pixels(x))                     # one channel is no axis
    floats = data.as_pixels(x).astype(np.float64)
    assert np.array_equal(data.as_pixels(floats), data.as_pixels(x))
    assert np.array_equal(data.as_pixels(x > 9), (x > 9).astype(np.float32))


@quick
@given(x=pictures, zipped=st.booleans())
def test_four_idx_files_and_npz_are_the_same_data(x, zipped, tmp_path):
    labels = np.arange(len(x)) % 7
    for path in tmp_path.iterdir():
        path.unlink()
    for part in ("train", "t10k"):
        for what, content in (("images-idx3", idx(x)), ("labels-idx1", idx(labels))):
            (tmp_path / f"{part}-{what}-ubyte{'.gz' if zipped else ''}").write_bytes(gzip.compress(content) if zipped else content)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)
    for images in (data.load_images(tmp_path), data.load_images(tmp_path / "x.npz")):
        for got in (images.train, images.test):
            assert np.array_equal(got, data.as_pixels(x))
        for got in (images.train_labels, images.test_labels):
            assert np.array_equal(got, labels) and got.dtype == np.int64


@quick
@given(x=hnp.arrays("i1", hnp.array_shapes(max_dims=4, max_side=4)), code=st.sampled_from([c for c in MAKERS if c != "u1"]))
def test_idx_of_any_type_and_shape_comes_back(x, code, tmp_path):
    (tmp_path / "x").write_bytes(idx(x, code))
    back = data.read_idx(tmp_path / "x")
    assert np.array_equal(back, x) and back.dtype == np.dtype(code).newbyteorder("=") and back.flags.writeable


@quick
@given(n=st.integers(1, 45))
def test_held_out_tenth_and_the_rest_are_all_pictures_once(n, tmp_path):
    x = np.arange(2, n + 2, dtype="u1").reshape(n, 1, 1)
    np.savez(tmp_path / "x.npz", images=x, labels=np.arange(n))
    images = data.load_images(tmp_path / "x.npz")
    assert len(images.test) == n // 10
    assert sorted([*images.train_labels, *images.test_labels]) == list(range(n))
    for pixels, labels in ((images.train, images.train_labels), (images.test, images.test_labels)):
        assert np.array_equal(np.rint(pixels[:, 0, 0] * 255), labels + 2)                      # labels stay with their pictures


def test_single_idx_file_takes_the_labels_beside_it(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 4))
    (tmp_path / "my-images-idx3-ubyte").write_bytes(idx(x))
    assert data.load_images(tmp_path / "my-images-idx3-ubyte").train_labels is None
    (tmp_path / "my-labels-idx1-ubyte").write_bytes(idx(np.arange(20)))
    images = data.load_images(tmp_path / "my-images-idx3-ubyte")
    assert np.array_equal(np.rint(images.train * 255), x[images.train_labels])


def test_folder_of_pictures_has_a_class_for_each_sub_folder(tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (3, 6, 5), dtype="u1")
    for i, name in enumerate(("cat", "ape", "cat")):
        save_png(tmp_path / "grey" / name / f"{i}.png", grey[i])
    (tmp_path / "grey" / "cat" / "notes.txt").write_text("not a picture")
    images = data.load_images(tmp_path / "grey")
    assert images.train_labels.tolist() == [0, 1, 1] and images.test.shape == (0, 6, 5) and images.name == "grey"
    assert np.array_equal(np.rint(images.train * 255), grey[[1, 0, 2]])

    colour = rng.integers(0, 256, (6, 5, 3), dtype="u1")
    save_png(tmp_path / "mixed" / "a.png", colour)
    save_png(tmp_path / "mixed" / "b.png", grey[0])
    images = data.load_images(tmp_path / "mixed")
    assert images.train.shape == (2, 6, 5, 3) and images.train_labels is None
    assert np.array_equal(np.rint(images.train[0] * 255), colour)
    assert np.array_equal(np.rint(images.train[1] * 255), np.repeat(grey[0][..., None], 3, axis=2))

    save_png(tmp_path / "parts" / "train" / "x" / "a.png", grey[0])
    save_png(tmp_path / "parts" / "test" / "x" / "a.png", grey[1])
    images = data.load_images(tmp_path / "parts")
    assert np.array_equal(np.rint(images.train * 255), grey[:1]) and np.array_equal(np.rint(images.test * 255), grey[1:2])


@quick
@given(rng=st.integers(0, 99).map(np.random.default_rng), x=hnp.arrays("f4", (2, 3, 3), elements=st.sampled_from([0, 1, 0.25, 0.5])))
def test_binary_pixels_are_bernoulli_draws(rng, x):
    draws = np.stack([data.binarise(x, rng) for _ in range(300)])
    assert set(np.unique(draws)) <= {0, 1} and draws.dtype == np.float32
    assert np.all(draws[:, x == 0] == 0) and np.all(draws[:, x == 1] == 1)
    assert np.all(np.abs(draws.mean(axis=0) - x) < 0.16)                                       # more than five deviations


def test_a_dark_pixel_stays_dark_at_the_smallest_draw():
    class Smallest:
        def random(self, shape, dtype):
            return np.zeros(shape, dtype)
    assert data.binarise(np.array([0.0, 1e-7, 1.0], np.float32), Smallest()).tolist() == [0, 1, 1]


# ------------------------------------------------------------------------------------------------ order and windows

@quick
@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 9))
def test_an_epoch_shows_everything_once(n, size, seed):
    order = list(data.batches(np.random.default_rng(seed), n, size))
    assert sorted(np.concatenate(order)) == list(range(n)) and all(len(b) == size for b in order[:-1]) and 0 < len(order[-1]) <= size
    again = list(data.batches(np.random.default_rng(seed), n, size))
    assert all(np.array_equal(a, b) for a, b in zip(order, again, strict=True))
    if size <= n:
        whole = list(data.batches(np.random.default_rng(seed), n, size, drop_last=True))
        assert len(whole) == n // size and {len(b) for b in whole} == {size}


def test_epochs_differ_and_are_shuffled():
    rng = np.random.default_rng(0)
    first, second = (np.concatenate(list(data.batches(rng, 100, 7))) for _ in range(2))
    assert not np.array_equal(first, second) and not np.array_equal(first, np.arange(100))


@quick
@given(st.integers(2, 60), st.integers(1, 20), st.integers(1, 5))
def test_evaluation_predicts_every_id_but_the_first_once(n, time, size):
    ids = np.arange(n)
    blocks = list(data.evaluation_blocks(ids, time, size))
    assert np.array_equal(np.concatenate([targets.ravel() for _, targets in blocks]), ids[1:])
    assert all(np.array_equal(targets, inputs + 1) and inputs.shape[0] <= size and inputs.shape[1] <= time for inputs, targets in blocks)


@quick
@given(st.integers(1, 20), st.integers(1, 40), st.integers(1, 5), st.integers(0, 9))
def test_random_windows_are_pieces_of_the_text(time, extra, size, seed):
    ids = np.arange(time + extra)
    inputs, targets = data.random_windows(np.random.default_rng(seed), ids, size, time)
    assert inputs.shape == targets.shape == (size, time)
    assert np.array_equal(targets, inputs + 1) and np.all(np.diff(inputs) == 1)


def test_random_windows_reach_both_ends():
    inputs, targets = data.random_windows(np.random.default_rng(0), np.arange(9), 400, 3)
    assert set(inputs[:, 0]) == set(range(6)) and targets.max() == 8


@quick
@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 40))
def test_successive_windows_carry_on(size, time, extra):
    ids = np.arange(2 * size + extra)
    windows = list(data.successive_windows(ids, size, time))
    inputs, targets = (np.concatenate(part, axis=1) for part in zip(*windows, strict=True))
    assert np.array_equal(targets, inputs + 1) and np.all(np.diff(inputs) == 1)
    assert inputs.shape == (size, (len(ids) - 1) // size) and len(np.unique(inputs)) == inputs.size


@quick
@given(st.lists(hnp.arrays("f4", st.tuples(st.integers(0, 5), st.just(2)), elements=st.integers(1, 9)), min_size=1, max_size=4))
def test_padding_is_undone_by_its_mask(sequences):
    padded, mask = data.pad(sequences, fill=-1)
    assert mask.sum(axis=1).tolist() == [len(s) for s in sequences] and np.all(padded[~mask] == -1)
    for row, keep, sequence in zip(padded, mask, sequences, strict=True):
        assert np.array_equal(row[keep], sequence)


def test_text_is_cut_as_nanogpt_cuts():
    train, validation = data.split_text("x" * 1_115_394)
    assert (len(train), len(validation)) == (1_003_854, 111_540)


@quick
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: t[0] != "\ufeff"), mark=st.booleans())
def test_text_files_arrive_as_they_are(text, mark, tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbf" * mark + text.encode())
    assert data.load_text(tmp_path / "t.txt") == text


# ------------------------------------------------------------------------------------------------ errors, in one line

@pytest.mark.parametrize("images, words", [
    (np.zeros((2, 784), "u1"), "shape \\(2, 784\\)"), (np.zeros((2, 1, 28, 28), "u1"), "channels, last"), (np.zeros((0, 28, 28), "u1"), "is empty"),
    (np.full((1, 2, 2), np.nan), "nan"), (np.full((1, 2, 2), 1.01), "from 1.01 to 1.01"), (np.full((1, 2, 2), -0.1), "from -0.1"),
    (np.zeros((1, 2, 2), int), "dtype int64"), (np.zeros((1, 2, 2), complex), "complex128"), (np.ones((1, 2, 2), "u1"), "no value above 1")])
def test_wrong_pixels_are_refused(images, words):
    with pytest.raises(ValueError, match=words) as error:
        data.as_pixels(images, "mine")
    assert one_line(error).startswith("mine: ") and "expects" in str(error.value)


@pytest.mark.parametrize("labels", [np.zeros(3, int), np.zeros((2, 1), int), np.array([0.0, 1.0]), np.array([0, -1])])
def test_wrong_labels_are_refused(labels):
    with pytest.raises(ValueError, match="mine: has .*; expects"):
        data.as_labels(labels, 2, "mine")


good = idx(np.full((4, 2, 2), 9))


@pytest.mark.parametrize("name, content, words", [
    ("x", good[:-1], "is truncated"), ("x", good + b"1", "bytes after its end"), ("x", good[:9], "is truncated"), ("x", gzip.compress(good, mtime=0)[:-9], "gzip"),
    ("x", b"\0\0\x07\x03" + good[4:], "expects an IDX file"), ("x", gzip.compress(b"hello", mtime=0), "expects an IDX file"), ("x", b"hello", "something else"),
    ("x", b"", "empty"), ("x", b"\x89PNG....", "a PNG picture"), ("x.npz", b"PK\x03\x04 and no more", "no readable .npz"),
    ("x", idx(np.zeros(4)), "shape \\(4,\\)")])
def test_wrong_files_are_named(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        data.load_images(tmp_path / name)
    assert f"{name}: " in one_line(error)


def test_a_tail_of_zeros_behind_gzip_data_is_refused_at_once(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(good, mtime=0))
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size + 1000)  # as tapes pad it
    assert len(data.load_images(path).train) + len(data.load_images(path).test) == 4
    with open(path, "r+b") as file:
        file.truncate(1 << 34)  # sparse: 16 GB of zeros, which gzip's reader would take one by one
    with pytest.raises(WrongFile, match="expects nothing after its end") as error:
        data.load_images(path)
    assert "x.gz: has 17,179,869,184 bytes" in one_line(error)


def test_npz_with_objects_or_other_keys_or_sizes_is_refused(tmp_path):
    cases = [({"images": np.array([{}, {}])}, "no readable"), ({"pixels": np.zeros((2, 2, 2))}, "holds pixels; expects x_train"),
             ({"x_train": np.zeros((2, 2, 2)), "x_test": np.zeros((2, 3, 3))}, "expects the same size"),
             ({"images": np.zeros((2, 2, 2)), "labels": np.zeros(3, int)}, "labels: has shape \\(3,\\)")]
    for arrays, words in cases:
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(ValueError, match=words) as error:
            data.load_images(tmp_path / "x.npz")
        assert "x.npz: " in one_line(error)
    content = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(content[:len(content) // 2])
    with pytest.raises(WrongFile, match="no readable .npz"):
        data.load_images(tmp_path / "x.npz")


def test_wrong_folders_and_pictures_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; expects IDX"):
        data.load_images(tmp_path / "nowhere")
    with pytest.raises(WrongFile, match="has no pictures; expects"):
        data.load_images(tmp_path)
    save_png(tmp_path / "a.png", np.zeros((4, 5), "u1"))
    save_png(tmp_path / "b.png", np.zeros((6, 5), "u1"))
    with pytest.raises(ValueError, match="b.png: is 5 x 6 pixels, a.png is 5 x 4"):
        data.load_images(tmp_path)
    save_png(tmp_path / "b.png", np.random.default_rng(0).integers(0, 256, (50, 50), dtype="u1"))
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:900])
    with pytest.raises(WrongFile, match="b.png: cannot be read as a picture"):
        data.load_images(tmp_path)


# --- folders: nothing is left out without a word


def picture(path, level=99, size=(4, 5)):
    save_png(path, np.full(size, level, "u1"))


def refused(folder, words):
    with pytest.raises(ValueError, match=words) as error:
        data.load_images(folder)
    assert str(folder) in one_line(error)


@pytest.mark.parametrize("train", ["train", "Train", "training", "TRAINING"])
@pytest.mark.parametrize("test", ["test", "Test", "testing", "val", "VAL", "valid", "validation"])
def test_splits_are_known_by_any_usual_name(tmp_path, train, test):
    picture(tmp_path / train / "x" / "a.png", 100)
    picture(tmp_path / test / "x" / "a.png", 200)
    images = data.load_images(tmp_path)
    assert (np.rint(images.train * 255) == 100).all() and (np.rint(images.test * 255) == 200).all() and images.classes == ("x",)
    flat = tmp_path / "flat"
    picture(flat / train / "a.png", 100)
    picture(flat / test / "a.png", 200)
    images = data.load_images(flat)
    assert images.train_labels is None and (np.rint(images.test * 255) == 200).all() and images.classes == ()


def test_labels_of_both_splits_are_numbered_as_the_training_classes(tmp_path):
    for i, name in enumerate(("ant", "bee", "cat")):
        picture(tmp_path / "train" / name / "a.png", 50 + i)
    for i, name in ((1, "bee"), (2, "cat")):
        picture(tmp_path / "test" / name / "a.png", 50 + i)
    images = data.load_images(tmp_path)
    assert images.train_labels.tolist() == [0, 1, 2] and images.test_labels.tolist() == [1, 2] and images.classes == ("ant", "bee", "cat")
    for pixels, labels in ((images.train, images.train_labels), (images.test, images.test_labels)):
        assert np.array_equal(np.rint(pixels[:, 0, 0] * 255), labels + 50)
    picture(tmp_path / "test" / "dog" / "a.png")
    refused(tmp_path, "test has the class 'dog', of which train has no picture; its classes are ant, bee, cat")


def test_numbers_in_names_of_classes_sort_as_numbers(tmp_path):
    for i in range(12):
        picture(tmp_path / "a" / str(i) / "x.png", 2 + i)
        picture(tmp_path / "b" / f"class {i}" / "x.png", 2 + i)
    for folder, names in (("a", [str(i) for i in range(12)]), ("b", [f"class {i}" for i in range(12)])):
        images = data.load_images(tmp_path / folder)
        assert list(images.classes) == names
        assert np.array_equal(np.rint(images.train[:, 0, 0] * 255), images.train_labels + 2)


def test_pictures_that_would_be_left_out_are_counted(tmp_path):
    for name in ("root", "deeper", "extra", "both", "alone", "classes"):
        picture(tmp_path / name / "x" / "a.png")
    for i in range(3):
        picture(tmp_path / "root" / f"{i}.png")
    refused(tmp_path / "root", "has 3 pictures and 1 more in its sub-folders")
    picture(tmp_path / "deeper" / "y" / "z" / "a.png")
    refused(tmp_path / "deeper", "y has 1 picture in sub-folders of its own")
    picture(tmp_path / "extra" / "train" / "a.png")
    refused(tmp_path / "extra", "x has 1 picture beside train")
    picture(tmp_path / "both" / "train" / "a.png")
    picture(tmp_path / "both" / "Training" / "a.png")
    refused(tmp_path / "both", "has Training and train, which both mean train")
    picture(tmp_path / "only" / "val" / "a.png")
    refused(tmp_path / "only", "has val but no sub-folder train; expects pictures in the folder, or a sub-folder of them for each class")
    picture(tmp_path / "classes" / "train" / "x" / "a.png")
    (tmp_path / "classes" / "x" / "a.png").unlink()
    picture(tmp_path / "classes" / "test" / "a.png")
    refused(tmp_path / "classes", "train has 1 class, test none")


def test_what_is_not_used_is_noted(tmp_path):
    for i in range(3):
        picture(tmp_path / "run" / f"{i}.png")
    (tmp_path / "run" / "logs").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("")
    (tmp_path / "run" / "a.svg").write_text("")
    (tmp_path / "run" / ".hidden").write_text("")
    images = data.load_images(tmp_path / "run")
    assert len(images.train) == 3 and images.notes == ("2 files in run aren't pictures that Pillow reads: a.svg, notes.txt",)
    for split in ("train", "val", "test"):
        picture(tmp_path / "all" / split / "x" / "a.png")
    (tmp_path / "all" / "train" / "empty").mkdir()
    images = data.load_images(tmp_path / "all")
    assert images.notes == ("1 picture in val is used neither to train nor to test", "sub-folders without pictures aren't classes: empty")
    assert images.summary() == "all: 1 picture to train on, 1 to test on, 4 x 5, 1 class (0 x)"
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.heic").write_bytes(b"")
    refused(tmp_path / "none", "has no pictures .1 file in none aren't pictures that Pillow reads: a.heic.")


# --- pictures: every mode and format


COLOUR = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], "u1")
GREY = np.array([[0, 80], [160, 255]], "u1")


def read_back(tmp_path, image, name="a.png", **options):
    folder = tmp_path / "one"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    image.save(folder / name, **options)
    return data.load_images(folder).train[0]


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.TIFF", "a.webp", "a.gif", "a.ppm", "a.tga", "a.pcx"])
def test_every_format_that_pillow_reads_is_a_picture(tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    x = read_back(tmp_path, Image.fromarray(GREY), name, **options)
    assert np.array_equal(np.rint(x * 255), GREY) or np.array_equal(np.rint(x * 255), np.repeat(GREY[..., None], 3, 2))


def test_transparent_pixels_are_white_whatever_lies_below(tmp_path):
    alpha = np.array([[0, 255], [255, 128]], "u1")
    rgba = np.concatenate([COLOUR, alpha[..., None]], 2)
    expected = 255 - (255 - COLOUR.astype(float)) * alpha[..., None] / 255
    assert np.abs(read_back(tmp_path, Image.fromarray(rgba)) * 255 - expected).max() <= 1
    la = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    assert np.abs(read_back(tmp_path, la) * 255 - (255 - (255 - GREY.astype(float)) * alpha / 255)).max() <= 1
    palette = Image.fromarray(COLOUR).quantize(4)
    first = palette.getpixel((0, 0))
    x = read_back(tmp_path, palette, transparency=first)
    assert np.array_equal(np.rint(x[0, 0] * 255), [255, 255, 255]) and np.array_equal(np.rint(x[0, 1] * 255), COLOUR[0, 1])
    assert np.array_equal(np.rint(read_back(tmp_path, Image.fromarray(GREY), transparency=0) * 255), [[255, 80], [160, 255]])
    np.savez(tmp_path / "x.npz", images=rgba[None].repeat(2, 0))
    assert np.abs(data.load_images(tmp_path / "x.npz").train[0] * 255 - expected).max() <= 1


def test_palettes_bilevel_cmyk_and_sixteen_bits_are_read_for_what_they_show(tmp_path):
    assert np.array_equal(np.rint(read_back(tmp_path, Image.fromarray(COLOUR).quantize(4)) * 255), COLOUR)
    assert np.array_equal(np.rint(read_back(tmp_path, Image.fromarray(GREY).quantize(4)) * 255), GREY)  # a grey palette is grey
    assert np.array_equal(read_back(tmp_path, Image.fromarray(GREY > 90)), (GREY > 90).astype(np.float32))
    assert np.array_equal(np.rint(read_back(tmp_path, Image.fromarray(COLOUR).convert("CMYK"), "a.tif") * 255), COLOUR)
    deep = np.array([[0, 1], [1000, 65535]], "u2")
    assert np.allclose(read_back(tmp_path, Image.fromarray(deep)), deep / 65535, atol=1e-7)
    assert np.allclose(read_back(tmp_path, Image.fromarray(deep.astype(np.float32) / 65535), "a.tif"), deep / 65535, atol=1e-7)
    picture(tmp_path / "mixed" / "a.png", 255, (2, 2))
    save_png(tmp_path / "mixed" / "b.png", deep)
    assert np.allclose(data.load_images(tmp_path / "mixed").train[1], deep / 65535, atol=1e-7)
    Image.fromarray(np.array([[-1.0, 5.0], [0, 0]], np.float32)).save(tmp_path / "mixed" / "c.tif")
    refused(tmp_path / "mixed", "c.tif: has pixels of mode 'F' from -1 to 5; expects them from 0 to 1")


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    tall = np.arange(2, 8, dtype="u1").reshape(2, 3)
    exif = Image.Exif()
    exif[274] = 6  # to be turned clockwise
    x = read_back(tmp_path, Image.fromarray(tall), exif=exif)
    assert np.array_equal(np.rint(x * 255), np.rot90(tall, -1))


# --- EMNIST


def write_emnist(folder, name, images, labels, mapping=None):
    for part in ("train", "test"):
        (folder / f"emnist-{name}-{part}-images-idx3-ubyte").write_bytes(idx(images.swapaxes(1, 2)))
        (folder / f"emnist-{name}-{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels), mtime=0))
    if mapping:
        (folder / f"emnist-{name}-mapping.txt").write_text(mapping)


def test_emnist_is_upright_numbered_from_0_and_named(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (6, 3, 3))
    write_emnist(tmp_path, "letters", x, np.array([1, 2, 3, 1, 2, 3]), "1 65 97\n2 66 98\n3 67 99\n")
    images = data.load_images(tmp_path)
    assert np.array_equal(np.rint(images.train * 255), x) and np.array_equal(np.rint(images.test * 255), x)
    assert images.train_labels.tolist() == images.test_labels.tolist() == [0, 1, 2, 0, 1, 2] and images.classes == ("A", "B", "C")
    write_emnist(tmp_path, "digits", x, np.array([0, 1, 2, 0, 1, 2]), "0 48\n1 49\n2 50\n")
    refused(tmp_path, "holds 2 data sets: emnist-digits, emnist-letters; expects the name of one, such as")
    images = data.load_images(tmp_path / "emnist-digits")
    assert images.classes == ("0", "1", "2") and images.name == "emnist-digits"
    (tmp_path / "emnist-digits-train-labels-idx1-ubyte.gz").unlink()
    assert data.load_images(tmp_path / "emnist-digits").train_labels is None  # not those of another data set


# --- bombs, and what isn't a file


def limited(code, path, megabytes=600):
    """Run a piece of code in a process that may take so much memory; what it prints."""
    resource = pytest.importorskip("resource")
    program = ("import resource, sys; import numpy, PIL.Image; from zoo import data; from zoo.storage import WrongFile\n"
               f"resource.setrlimit(resource.RLIMIT_DATA, ({megabytes} << 20, {megabytes} << 20))\n"
               f"try: {code}\nexcept (WrongFile, ValueError, OSError) as error: print(error)")
    assert resource
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    assert done.returncode == 0 and done.stdout.count("\n") == 1, done.stderr
    return done.stdout


def test_what_would_grow_beyond_reason_is_refused_before_it_is_unpacked(tmp_path):
    size = 1 << 30
    with gzip.open(tmp_path / "x-images-idx3-ubyte.gz", "wb", 9) as file:
        file.write(bytes([0, 0, 8, 3]) + struct.pack(">3I", size >> 20, 1024, 1024))
        for _ in range(64):
            file.write(bytes(1 << 20))  # a part will do: what it claims is enough
    assert "would grow from" in limited("data.load_images(sys.argv[1])", tmp_path / "x-images-idx3-ubyte.gz")
    header = np.lib.format.magic(1, 0) + b"v\0" + (b"{'descr': '|u1', 'fortran_order': False, 'shape': (1024, 1024, 1024), }").ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        archive.writestr("images.npy", header + bytes(100))
    assert "takes 1,073,741,824 bytes, the file holds" in limited("data.load_images(sys.argv[1])", tmp_path / "lies.npz")
    with zipfile.ZipFile(tmp_path / "grows.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
        member.write(header.replace(b"(1024, ", b"( 100, "))
        for _ in range(100):
            member.write(bytes(1 << 20))
    assert "would grow from" in limited("data.load_images(sys.argv[1])", tmp_path / "grows.npz")
    (tmp_path / "pictures").mkdir()
    Image.new("1", (13000, 13000)).save(tmp_path / "pictures" / "a.png")
    line = limited("data.load_images(sys.argv[1])", tmp_path / "pictures")
    assert "a.png: " in line and ("13000 x 13000 pixels" in line or "cannot be read as a picture" in line)


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices with names")
def test_only_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").symlink_to("/dev/zero")
    for source in (tmp_path / "pipe.npz", tmp_path / "zero.npz", tmp_path / "folder"):
        with pytest.raises(WrongFile, match="is a device, a pipe or a socket; expects a regular file"):
            data.load_images(source)


@quick
@given(rng=st.integers(0, 2**32 - 1).map(np.random.default_rng), kind=st.sampled_from(["npz", "idx", "gz", "png"]))
def test_any_damage_gives_pictures_or_one_line_that_names_the_file(rng, kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    x = rng.integers(2, 256, (3, 4, 5)).astype("u1")
    path = folder / {"npz": "x.npz", "idx": "x-images-idx3-ubyte", "gz": "x-images-idx3-ubyte.gz", "png": "x.png"}[kind]
    if kind == "npz":
        np.savez_compressed(path, images=x, labels=np.arange(3))
    elif kind == "png":
        save_png(path, x[0])
    else:
        path.write_bytes(idx(x) if kind == "idx" else gzip.compress(idx(x), mtime=0))
    content = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 5)):
        content[rng.integers(len(content))] = rng.integers(256)
    if rng.random() < 0.3:
        del content[rng.integers(len(content)) :]
    path.write_bytes(content)
    try:
        assert isinstance(data.load_images(folder if kind == "png" else path), data.Images)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 400 and str(folder) in str(error)


def test_wrong_texts_are_named(tmp_path):
    path = tmp_path / "t.txt"
    for content, words in ((b"", "is empty"), (b"abc\xff", "not UTF-8: byte 0xff at 3"), ("hé".encode("utf-16"), "is UTF-16 text")):
        path.write_bytes(content)
        with pytest.raises(WrongFile, match=words) as error:
            data.load_text(path)
        assert "t.txt: is " in one_line(error)
    with pytest.raises(FileNotFoundError, match="does not exist; expects a text file"):
        data.load_text(tmp_path / "nowhere.txt")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        data.load_text(tmp_path)


@pytest.mark.parametrize("call, words", [
    (lambda rng: data.random_windows(rng, np.arange(8), 2, 8), "has 8 tokens; expects at least 9"),
    (lambda rng: next(data.evaluation_blocks(np.arange(1), 8)), "has 1 tokens; expects at least 2"),
    (lambda rng: next(data.successive_windows(np.arange(3), 2, 8)), "expects at least 4"),
    (lambda rng: data.random_windows(rng, np.arange(8), 0, 2), "batch_size is 0"), (lambda rng: data.random_windows(rng, np.zeros(9), 1, 2), "integers"),
    (lambda rng: next(data.batches(rng, 0, 2)), "n is 0"), (lambda rng: next(data.batches(rng, 3, 4, drop_last=True)), "whole batch"),
    (lambda rng: data.pad([]), "is empty")])
def test_wrong_calls_say_what_would_be_right(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.random.default_rng(0))


def test_a_picture_may_have_sixteen_million_pixels_and_not_one_row_more(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("1", (4096, 4097)).save(tmp_path / "a" / "1.png")
    with pytest.raises(WrongFile, match=r"1\.png: is 4096 x 4097 pixels; expects at most 16,777,216 of them"):
        data.load_images(tmp_path)


@pytest.mark.parametrize(("n", "named"), [(1, r"1 file in a aren't pictures that Pillow reads: 0\.txt$"), (3, r"3 files .*: 0\.txt, 1\.txt, 2\.txt$"),
                                          (4, r"4 files .*: 0\.txt, 1\.txt, 2\.txt, \.\.\.$")])
def test_files_that_are_no_pictures_are_counted_and_three_are_named(n, named, tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(n):
        (tmp_path / "a" / f"{i}.txt").write_text("x")
    notes = []
    assert _pictures(tmp_path / "a", notes) == [] and re.search(named, notes[0])


# --- limits: what is just allowed, and what is just too much


def test_compressed_data_may_grow_two_hundredfold_beyond_64_megabytes():
    check_unpacked("x", 64_000_000 + 200 * 7, 7)
    with pytest.raises(WrongFile, match="would grow from 7 to 64,001,401 bytes; more than 200 times its size isn't read"):
        check_unpacked("x", 64_000_000 + 200 * 7 + 1, 7)


def test_zeros_behind_gzip_data_are_read_up_to_a_limit(tmp_path):
    """An eighth of the content and 65,536 bytes: here 76 bytes are unpacked, of which 64 are the array's."""
    x = np.arange(64, dtype="u1").reshape(4, 4, 4)
    packed, limit = gzip.compress(idx(x), mtime=0), 64 + 64 // 8 + PADDING
    (tmp_path / "x.gz").write_bytes(packed.ljust(limit, b"\0"))
    assert np.array_equal(data.read_idx(tmp_path / "x.gz"), x)
    (tmp_path / "x.gz").write_bytes(packed.ljust(limit + 1, b"\0"))
    with pytest.raises(WrongFile, match=f"has {limit + 1:,} bytes, gzip data of a file of 64; expects nothing after its end"):
        data.read_idx(tmp_path / "x.gz")


def test_gzip_data_may_be_far_smaller_than_its_array(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx(np.zeros((9, 50, 50)))))
    assert data.read_idx(tmp_path / "x.gz").shape == (9, 50, 50)


@pytest.mark.parametrize(("content", "words"), [
    (good[:-1], r"is truncated: it has 31 bytes, an IDX file of shape \(4, 2, 2\) has 32$"),
    (good[:9], r"is truncated: it has 9 bytes, an IDX file of shape \(4,\) has 20$"),
    (good + b"12", r"has bytes after its end: it has more than 32 bytes, an IDX file of shape \(4, 2, 2\) has 32$"),
    (bytes([0, 0, 8, 2]) + b"\xff" * 8, "is truncated: it has 12 bytes"),  # what it claims is never asked for
    (good[:3], "expects an IDX file"), (bytes([0, 0, 8, 0, 7]), "expects an IDX file"), (idx(np.zeros((1,) * 33)), "has 33 axes; expects .* at most 32")])
def test_idx_files_say_what_they_lack(content, words, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(WrongFile, match=words):
        data.read_idx(tmp_path / "x")
    (tmp_path / "x").write_bytes(idx(np.full((1,) * 32, 3)))
    assert data.read_idx(tmp_path / "x").shape == (1,) * 32


def npy(array, shape=None, version=(1, 0)):
    """The bytes of an .npy file, with another shape in its header."""
    file = io.BytesIO()
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape if shape is None else shape}
    (np.lib.format.write_array_header_1_0 if version == (1, 0) else np.lib.format.write_array_header_2_0)(file, header)
    return file.getvalue() + array.tobytes()


def read_one(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", content)
    return read_npz(path, ("images", "labels"))


def test_npz_headers_of_both_versions_are_read_and_must_fit(tmp_path):
    x = np.arange(600, dtype="u1")
    for version in ((1, 0), (2, 0)):
        arrays, names = read_one(tmp_path / "x.npz", npy(x, (20, 30), version))
        assert names == ["images"] and np.array_equal(arrays["images"], x.reshape(20, 30))
    for shape in ((1,) * 32, (), (0, 3)):
        assert read_one(tmp_path / "x.npz", npy(np.zeros(int(np.prod(shape)), "u1"), shape))[0]["images"].shape == shape
    fortran = np.asfortranarray(x.reshape(20, 30))
    np.savez(tmp_path / "f.npz", images=fortran)
    assert np.array_equal(read_npz(tmp_path / "f.npz", ("images",))[0]["images"], fortran)
    for shape, words in (((599,), "has more than 599 bytes"), ((601,), "has fewer than 601 bytes"), ((-1, 600), "takes -600 bytes"), ((30, 40), "takes 1,200 bytes"),
                         ((1,) * 33, "no readable .npz file")):
        with pytest.raises(WrongFile, match=words):
            read_one(tmp_path / "x.npz", npy(x, shape))


def test_a_plain_file_wins_over_its_gz(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.full((20, 1, 1), 5))))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.full((20, 1, 1), 7)))
    images = data.load_images(tmp_path)  # and without a test set, a tenth is held out
    assert (np.rint(images.train * 255) == 7).all() and len(images.test) == 2 and images.train_labels is None and images.name == tmp_path.name


def test_labels_of_other_sets_than_emnists_keep_their_numbers(tmp_path):
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(np.full((3, 2, 5), 9)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array([1, 2, 1])))
    images = data.load_images(tmp_path)
    assert images.train_labels.tolist() == images.test_labels.tolist() == [1, 2, 1] and images.train.shape == (3, 2, 5) and images.name == tmp_path.name


def test_the_test_digits_alone_are_those_of_mnist():
    pictures, labels = mnist_test()
    assert pictures.dtype == np.float32 and labels.dtype == np.int64 and labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert hashlib.md5((pictures * 255 + 0.5).astype("u1")).hexdigest()[:8] == "240610fa" and pictures.max() == 1


def test_pixels_of_an_npz_with_alpha_lie_over_white(tmp_path):
    """Grey and alpha, or colour and alpha: 1 - alpha (1 - x).  Floats from 0 to 1 and up to four channels are taken as they are otherwise."""
    la = np.array([[[[0.0, 1.0], [0.5, 0.5], [0.25, 0.0]]]])
    np.savez(tmp_path / "x.npz", x_train=la, x_test=la)
    images = data.load_images(tmp_path / "x.npz")
    assert images.train.tolist() == images.test.tolist() == [[[0, 0.75, 1]]]
    assert data.as_pixels(np.array([[[0.0, 1.0]]])).tolist() == [[[0, 1]]]
    assert data.as_pixels(np.zeros((1, 2, 2, 4))).shape == (1, 2, 2, 4) and data.as_pixels(np.zeros((1, 2, 2), "u1")).max() == 0
    for shape in ((1, 2, 2, 5), (1, 2, 2, 2, 1)):
        with pytest.raises(ValueError, match="expects .* up to 4 channels"):
            data.as_pixels(np.zeros(shape))
    assert data.as_labels(np.zeros(0, "u1"), 0).shape == (0,) and data.as_labels(np.array([3, 0], "u1"), 2).tolist() == [3, 0]
    with pytest.raises(ValueError, match="expects whole numbers from 0"):
        data.as_labels(np.array([0, -1]), 2)


def test_classes_are_renumbered_by_their_names():
    labels = np.array([0, 1, 1])
    images = data.Images(np.zeros((3, 1, 1)), labels, np.zeros((3, 1, 1)), labels[::-1], "mine", ("b", "a"))
    other = images.numbered_as(("a", "c", "b"))
    assert other.train_labels.tolist() == [2, 0, 0] and other.test_labels.tolist() == [0, 0, 2] and other.classes == ("a", "c", "b")
    bare = data.Images(images.train, labels, images.test, None, "mine")
    assert images.numbered_as(()) is images and bare.numbered_as(("a",)) is bare and images.numbered_as(("b", "a")) is images
    assert data.Images(images.train, labels, images.test, None, "mine", ("b", "a")).numbered_as(("a", "b")).test_labels is None
    with pytest.raises(ValueError, match="mine: has the class 'b', which the model doesn't know; its classes are a, c"):
        images.numbered_as(("a", "c"))


@pytest.mark.parametrize(("n", "named"), [(0, "3 classes"), (12, "3 classes (0 c0, 1 c1, 2 c2, 3 c3, 4 c4, 5 c5, 6 c6, 7 c7, 8 c8, 9 c9, 10 c10, 11 c11)"),
                                          (13, "3 classes (0 c0, 1 c1, 2 c2, 3 c3, 4 c4, 5 c5, 6 c6, 7 c7, 8 c8, 9 c9, 10 c10, 11 c11, ...)")])
def test_a_summary_names_twelve_classes(n, named):
    images = data.Images(np.zeros((3, 4, 5)), np.arange(3), np.zeros((1000, 4, 5)), None, "mine", tuple(f"c{i}" for i in range(n)))
    assert images.summary() == f"mine: 3 pictures to train on, 1,000 to test on, 4 x 5, {named}"
    assert data.Images(np.zeros((3, 4, 5)), None, np.zeros((0, 4, 5)), None, "x").summary() == "x: 3 pictures to train on, 0 to test on, 4 x 5, no labels"


TURNED = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose, 6: lambda a: np.rot90(a, -1),
          7: lambda a: np.rot90(a, 2).T, 8: np.rot90}  # Exif 2.3, table "orientation", which is tag 274


@pytest.mark.parametrize("orientation", TURNED)
def test_pictures_of_one_size_are_so_after_turning(orientation, tmp_path):
    stored, exif = np.arange(2, 8, dtype="u1").reshape(2, 3), Image.Exif()
    exif[274] = orientation
    upright = TURNED[orientation](stored)
    save_png(tmp_path / "1.png", np.zeros(upright.shape, "u1"))
    Image.fromarray(stored).save(tmp_path / "2.png", exif=exif)
    assert np.array_equal(np.rint(data.load_images(tmp_path).train[1] * 255), upright)


def test_a_picture_of_just_so_many_pixels_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_folders, "MOST_PIXELS", 6)
    save_png(tmp_path / "6.png", np.zeros((2, 3), "u1"))
    save_png(tmp_path / "7.png", np.zeros((7, 1), "u1"))
    assert read_picture(tmp_path / "6.png").shape == (2, 3)
    with pytest.raises(WrongFile, match="is 1 x 7 pixels; expects at most 6 of them"):
        read_picture(tmp_path / "7.png")


@pytest.mark.parametrize("values", [(-0.5, 1), (0, 1.5)])
def test_float_pictures_outside_0_to_1_are_refused(values, tmp_path):
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "a.tif")
    refused(tmp_path, "has pixels of mode 'F' from .*; expects them from 0 to 1")


@pytest.mark.parametrize(("n", "named"), [(3, "0, 1, 2"), (4, "0, 1, 2, ...")])
def test_empty_classes_are_noted_and_three_are_named(n, named, tmp_path):
    picture(tmp_path / "x" / "a.png")
    for i in range(n):
        (tmp_path / str(i)).mkdir()
    assert data.load_images(tmp_path).notes == (f"sub-folders without pictures aren't classes: {named}",)


def test_a_training_folder_may_stand_alone_or_beside_folders_without_pictures(tmp_path):
    for i in range(20):
        picture(tmp_path / "train" / "x" / f"{i}.png")
    (tmp_path / "logs").mkdir()
    (tmp_path / ".cache" / "y").mkdir(parents=True)
    images = data.load_images(tmp_path)
    assert (len(images.train), len(images.test), images.classes) == (18, 2, ("x",)) and images.train_labels.tolist() == [0] * 18
    picture(tmp_path / "logs" / "deep" / "a.png")
    refused(tmp_path, "logs has 1 picture beside train")
    (tmp_path / "logs" / "deep" / "a.png").unlink()
    picture(tmp_path / "b.png")
    refused(tmp_path, "the folder itself has 1 picture beside train")


def test_a_text_may_have_so_many_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.data.text.MAX_TEXT", 3)
    (tmp_path / "t").write_text("abc")
    assert data.load_text(tmp_path / "t") == "abc"
    (tmp_path / "t").write_text("abcd")
    with pytest.raises(WrongFile, match="has 4 bytes; expects a text of at most 3"):
        data.load_text(tmp_path / "t")


def test_the_shortest_texts_that_windows_can_be_cut_from(rng):
    assert [x.tolist() for x in data.random_windows(rng, np.arange(4), 1, 3)] == [[[0, 1, 2]], [[1, 2, 3]]]
    assert [x.tolist() for x in next(data.successive_windows(np.arange(4), 2, 8))] == [[[0], [1]], [[1], [2]]]
    assert [[x.tolist() for x in pair] for pair in data.evaluation_blocks(np.arange(2), 8)] == [[[[0]], [[1]]]]
    blocks = [(inputs.tolist(), targets.tolist()) for inputs, targets in data.evaluation_blocks(np.arange(7), 2, 2)]
    assert blocks == [([[0, 1], [2, 3]], [[1, 2], [3, 4]]), ([[4, 5]], [[5, 6]])]  # and no empty one at the end
    for wrong in (lambda: data.random_windows(rng, np.arange(8), 1, 0), lambda: data.random_windows(rng, np.arange(8), 0, 1)):
        with pytest.raises(ValueError, match="expects at least 1 each"):
            wrong()
    with pytest.raises(ValueError, match="expects .n,. integers"):
        data.random_windows(rng, np.zeros((9, 1), int), 1, 2)
    for n, size in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match=f"n is {n}, batch_size {size}; expects at least 1 each"):
            next(data.batches(rng, n, size))
    assert [len(b) for b in data.batches(rng, 3, 3, drop_last=True)] == [3] and [len(b) for b in data.batches(rng, 1, 5)] == [1]


# --- points of the plane


class Chosen:
    """A generator whose draws are chosen: so a point is what its formula says."""

    def __init__(self, normal=0.0, uniform=()):
        self.normal, self.uniform = normal, np.array(uniform)

    def standard_normal(self, shape, dtype=float):
        return np.full(shape, self.normal, dtype)

    def random(self, n):
        return self.uniform

    def integers(self, high, size):
        return np.arange(size) % high

    def permutation(self, x):
        return x


def test_toys_are_where_their_papers_put_them():
    """Lin et al. 2018; Tong et al. 2024, with the standard deviations of their noise."""
    lattice = [(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)]
    circle = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 8, endpoint=False)])
    for name, centres, deviation in (("grid", np.array(lattice), 0.05), ("ring", circle, 0.01), ("eight_gaussians", 5 * circle, np.sqrt(np.sqrt(0.1)))):
        for noise in (0, 1):
            points = toys.TOYS[name](len(centres), Chosen(noise))
            assert np.allclose(points, centres + noise * deviation, atol=1e-6) and points.dtype == np.float32
    half = np.pi / 2
    above = [(np.cos(a), np.sin(a)) for a in (0, half, 2 * half)]
    below = [(1 - np.cos(a), 0.5 - np.sin(a)) for a in (0, 2 * half)]
    for noise in (0, 1):
        assert np.allclose(toys.moons(5, Chosen(noise)), 3 * (np.array(above + below) + 0.2 * noise) - 1, atol=1e-6)
        spiral = toys.spiral(5, Chosen(noise, np.array([0, 1 / 8, 1 / 4, 1 / 2, 1]) ** 2))  # two turns, from radius 0.5 to 4
        assert np.allclose(spiral - 0.1 * noise, [(0.5, 0), (0, 0.9375), (-1.375, 0), (2.25, 0), (4, 0)], atol=1e-6)
        assert np.array_equal(toys.normal(3, Chosen(noise)), np.full((3, 2), noise))


def test_a_toy_has_the_shape_of_its_samples():
    assert toys.sample_shape("grid") == (2,) and toys.sample_shape("stacked") == (28, 28, 3)
    assert toys.sample_shape(data.Images(np.zeros((3, 4, 5)), None, np.zeros((0, 4, 5)), None, "x")) == (4, 5)
    x, modes = toys.stacked_digits(np.arange(6).reshape(3, 1, 2), np.array([4, 0, 9]), 50, np.random.default_rng(0))
    assert x.shape == (50, 1, 2, 3) and np.array_equal(np.array([4, 0, 9])[x[:, 0, 0] // 2] @ [100, 10, 1], modes) and set(x[:, 0, 0].ravel()) == {0, 2, 4}
    for shape, n in (((3, 2), 3), ((3, 2, 2), 2)):
        with pytest.raises(ValueError, match="^stacked_digits: images have shape"):
            toys.stacked_digits(np.zeros(shape), np.zeros(n, int), 2, np.random.default_rng(0))


def test_only_what_says_of_itself_that_it_is_colour_stays_so(tmp_path):
    """A grey picture in RGB has three channels; one whose colours are multiplied by their alpha is laid over white like any other."""
    assert read_back(tmp_path, Image.fromarray(np.repeat(GREY[..., None], 3, 2))).shape == (2, 2, 3)
    alpha = np.array([[0, 255], [255, 128]], "u1")
    rgba = Image.fromarray(np.concatenate([COLOUR, alpha[..., None]], 2))
    expected = 255 - (255 - COLOUR.astype(float)) * alpha[..., None] / 255
    assert np.abs(picture_folders._values(tmp_path, rgba.convert("RGBa")) - expected).max() <= 2
    la = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    assert np.abs(picture_folders._values(tmp_path, la.convert("La")) - (255 - (255 - GREY.astype(float)) * alpha / 255)).max() <= 2
    known = picture_folders.extensions()
    assert {".png", ".jpg", ".tif", ".webp"} <= known and not {".eps", ".pdf", ".palm", ".mpg", ".txt"} & known
    x = np.zeros((1, 2, 2), np.float32)
    assert np.shares_memory(data.as_pixels(x), x)
