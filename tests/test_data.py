"""Laws of zoo.data: pictures and text arrive as they were, every sample is shown as often as it should be, wrong files are named."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from zoo import data
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
    assert set(images.train_labels) == set(images.test_labels) == set(range(10))


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
    ("x", good[:-1], "is truncated"), ("x", good + b"1", "bytes after its end"), ("x", good[:9], "is truncated"), ("x", gzip.compress(good)[:-9], "gzip"),
    ("x", b"\0\0\x07\x03" + good[4:], "expects an IDX file"), ("x", gzip.compress(b"hello"), "expects an IDX file"), ("x", b"hello", "something else"),
    ("x", b"", "empty"), ("x", b"\x89PNG....", "a PNG picture"), ("x.npz", b"PK\x03\x04 and no more", "no readable .npz"),
    ("x", idx(np.zeros(4)), "shape \\(4,\\)")])
def test_wrong_files_are_named(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        data.load_images(tmp_path / name)
    assert f"{name}: " in one_line(error)


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
    save_png(tmp_path / "b.png", np.zeros((4, 5), "u2"))
    with pytest.raises(WrongFile, match="b.png: has pixels of mode"):
        data.load_images(tmp_path)


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
