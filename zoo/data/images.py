"""Pictures: digits that ship with the zoo, your own pictures, and the order in which they are shown.

Pictures are float32 in [0, 1], (n, height, width) or (n, height, width, channels). Randomness is always a
`numpy.random.Generator` that you hand in. Every wrong file or array is one line that names it, what it was and what it may be.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator

from ..drawing.words import counted
from ..storage import ASSETS, PathLike, WrongFile, in_one_line, is_folder, looks_like, open_regular
from .array_files import read_idx, read_npz, split_names
from .picture_folders import read_folder

MAX_MAPPING = 100_000  # bytes; EMNIST's largest has 400
EXPECTED = "expects IDX files (as MNIST's four, plain or .gz), an .npz file, or a folder of pictures"


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """Pictures to train on and pictures to test on. Labels are (n,) int64, numbered alike in both, or None where there are none."""

    train: np.ndarray                    # (n, height, width) or (n, height, width, channels), float32 in [0, 1]
    train_labels: np.ndarray | None
    test: np.ndarray                     # the same shape but for n, which may be 0
    test_labels: np.ndarray | None
    name: str
    classes: tuple[str, ...] = ()        # their names, by label, where the source names them
    notes: tuple[str, ...] = ()          # what a reader of the source should know, such as files that were left out

    def __repr__(self) -> str:
        size = " x ".join(str(n) for n in self.train.shape[1:])
        return f"Images({self.name!r}: {len(self.train):,} to train on, {len(self.test):,} to test on, {size})"

    def numbered_as(self, classes: tuple[str, ...]) -> Images:
        """The same pictures with labels numbered in the order of these names.  Raises ValueError for a class that isn't among them."""
        if not self.classes or not classes or self.classes == classes:
            return self
        if unknown := [name for name in self.classes if name not in classes]:
            raise ValueError(f"{self.name}: has the class {unknown[0]!r}, which the model doesn't know; its classes are {', '.join(classes)}")
        number = np.array([classes.index(name) for name in self.classes])
        train, test = (None if labels is None else number[labels] for labels in (self.train_labels, self.test_labels))
        return replace(self, train_labels=train, test_labels=test, classes=classes)

    def summary(self) -> str:
        """What there is, in one line: numbers of pictures and their classes by name."""
        labels = "no labels" if self.train_labels is None else counted(len(np.unique(self.train_labels)), "class")
        if self.classes:
            names = [f"{i} {name}" for i, name in enumerate(self.classes[:12])]
            labels += f" ({', '.join(names)}{', ...' if len(self.classes) > 12 else ''})"
        size = " x ".join(str(n) for n in self.train.shape[1:])
        return f"{self.name}: {counted(len(self.train), 'picture')} to train on, {len(self.test):,} to test on, {size}, {labels}"


def mnist() -> Images:
    """60,000 + 10,000 handwritten digits, 28 x 28 (LeCun, Cortes and Burges). Bit-exact: `train * 255` are the original bytes."""
    return _read_npz(ASSETS / "mnist.npz", "mnist")


def mnist_test() -> tuple[np.ndarray, np.ndarray]:
    """The test digits of `mnist()` and their labels, without reading the others: (10000, 28, 28) in [0, 1], (10000,)."""
    with np.load(ASSETS / "mnist.npz", allow_pickle=False) as file:
        return file["x_test"].astype(np.float32) / 255, file["y_test"].astype(np.int64)


def digits8x8() -> Images:
    """1,797 handwritten digits, 8 x 8 with 17 levels (UCI optdigits): the first 1,437 to train on, the last 360 to test on."""
    with np.load(ASSETS / "digits8x8.npz", allow_pickle=False) as file:
        pixels, labels = file["images"].astype(np.float32) / 16, file["labels"].astype(np.int64)
    return Images(pixels[:1437], labels[:1437], pixels[1437:], labels[1437:], "digits8x8")


def load_images(source: PathLike) -> Images:
    """'mnist', 'digits8x8', or your own pictures from a path:

    - a folder with MNIST's four IDX files, plain or .gz, as Fashion-MNIST and others come, or one IDX file of images (with its labels
      beside it where the same name with 'labels' for 'images' exists). EMNIST's files, which hold their letters turned on their side, are
      turned upright, and their classes named by the mapping beside them; where a folder holds several of its data sets, FOLDER/emnist-letters
      chooses one;
    - an .npz file with x_train, x_test and, where there are labels, y_train, y_test; or with images and labels;
    - a folder of pictures of one size, in any format that Pillow reads: one sub-folder for each class, or none. Sub-folders named train and
      test (or training, testing, val, valid, validation, in any case) keep the two apart. Classes are numbered in the order of their
      names, 2 before 10, those of the test set as those of the training set.

    Where the source names no test set, one picture in ten is held out, always the same ones.
    Raises WrongFile, ValueError or OSError in one line."""
    if str(source) in ("mnist", "digits8x8"):
        return mnist() if str(source) == "mnist" else digits8x8()
    path = Path(source)
    try:
        if is_folder(path):
            return _read_folder(path)
        if not os.path.exists(path) and is_folder(path.parent) and path.name in (sets := split_names(path.parent)):
            return _read_idx_files(path, path.name, sets[path.name])
        if not os.path.exists(path):
            raise FileNotFoundError(f"{in_one_line(path)}: does not exist; {EXPECTED}, or one of the names mnist, digits8x8")
        with open_regular(path) as file:
            start = file.read(16)
        if start[:4] == b"PK\x03\x04":
            return _read_npz(path, path.stem)
        if start[:2] in (b"\x1f\x8b", b"\0\0"):
            beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
            labels = read_idx(beside) if beside != path and beside.exists() else None
            return _hold_out(path, _upright(path, read_idx(path)), labels, path.name.split(".")[0])
    except MemoryError as error:
        raise WrongFile(f"{path}: does not fit into memory") from error
    raise WrongFile(f"{path}: is {looks_like(start)}; {EXPECTED}")


def as_pixels(images: np.ndarray, name: str = "images") -> np.ndarray:
    """float32 in [0, 1], (n, height, width) or (n, height, width, channels), from uint8 (0 to 255), bool, or floats in [0, 1].

    One channel is no axis: (n, height, width, 1) becomes (n, height, width). `name` is what an error calls the array."""
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] > 4):
        raise ValueError(f"{name}: has shape {images.shape}; expects (n, height, width) or (n, height, width, channels) with up to 4 channels, last")
    if images.size == 0:
        raise ValueError(f"{name}: is empty (shape {images.shape}); expects at least one picture of at least one pixel")
    if images.dtype == np.uint8:
        if images.max() == 1:
            raise ValueError(f"{name}: is uint8 with no value above 1; expects 0 to 255, and binary pictures as bool or float")
        return np.divide(images, 255, dtype=np.float32)
    if images.dtype == bool:
        return images.astype(np.float32)
    if images.dtype.kind != "f":
        raise ValueError(f"{name}: has dtype {images.dtype}; expects uint8 (0 to 255), bool, or floats in [0, 1]")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):                                   # also where they are NaN
        raise ValueError(f"{name}: has values from {low:g} to {high:g}; expects floats in [0, 1]")
    return images.astype(np.float32, copy=False)


def as_labels(labels: np.ndarray, n: int, name: str = "labels") -> np.ndarray:
    """(n,) int64 of any whole numbers from 0. `name` is what an error calls the array."""
    labels = np.asarray(labels)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise ValueError(f"{name}: has shape {labels.shape} and dtype {labels.dtype}; expects ({n},) whole numbers, one for each picture")
    if n and labels.min() < 0:
        raise ValueError(f"{name}: has {labels.min()}; expects whole numbers from 0")
    return labels.astype(np.int64)


def _read_npz(path: Path, name: str) -> Images:
    arrays, names = read_npz(path, ("x_train", "y_train", "x_test", "y_test", "images", "labels"))
    for key in ("x_train", "x_test", "images"):
        if key in arrays and arrays[key].ndim == 4 and arrays[key].shape[3] in (2, 4) and arrays[key].size:
            x = as_pixels(arrays[key], f"{path}: {key}")
            arrays[key] = 1 - x[..., -1:] * (1 - x[..., :-1])  # the last channel is alpha: laid over white, as pictures from files are
    if "x_train" in arrays and "x_test" in arrays:
        return _together(path, arrays["x_train"], arrays.get("y_train"), arrays["x_test"], arrays.get("y_test"), name)
    for key, labels in (("images", "labels"), ("x_train", "y_train")):
        if key in arrays:
            return _hold_out(path, arrays[key], arrays.get(labels), name)
    raise WrongFile(f"{path}: holds {', '.join(names[:6]) or 'nothing'}; expects x_train, y_train, x_test, y_test, or images, labels")


def _read_folder(folder: Path) -> Images:
    sets = {name: files for name, files in split_names(folder).items() if ("train", "images") in files}
    if len(sets) > 1:
        raise WrongFile(f"{folder}: holds {len(sets)} data sets: {', '.join(sorted(name or 'one without a name' for name in sets))}; "
                        f"expects the name of one, such as {folder / max(sets)}")
    for name, files in sets.items():
        return _read_idx_files(folder, name, files)
    name, pictures = folder.resolve().name, read_folder(folder)
    if pictures.test is None:
        images = _hold_out(folder, pictures.train, pictures.train_labels, name)
    else:
        assert pictures.test is not None
        images = _together(folder, pictures.train, pictures.train_labels, pictures.test, pictures.test_labels, name)
    return replace(images, classes=pictures.classes, notes=pictures.notes)


def _read_idx_files(path: Path, prefix: str, files: dict[tuple[str, str], Path]) -> Images:
    """The files of one data set; of EMNIST's, letters are turned upright and named."""
    train, train_labels, test, test_labels = (
        read_idx(files[key]) if (key := (part, what)) in files else None for part in ("train", "test") for what in ("images", "labels"))
    assert train is not None
    classes: tuple[str, ...] = ()
    train, test = _upright(files["train", "images"], train), None if test is None else _upright(files["train", "images"], test)
    if prefix.startswith("emnist"):
        low = 1 if train_labels is not None and train_labels.size and train_labels.min() == 1 else 0  # those of emnist-letters begin at 1
        train_labels, test_labels = (None if labels is None else labels.astype(np.int64) - low for labels in (train_labels, test_labels))
        mapping = files["train", "images"].with_name(f"{prefix}-mapping.txt")
        with contextlib.suppress(OSError, ValueError, IndexError, OverflowError):
            with open_regular(mapping) as file:
                lines = file.read(MAX_MAPPING).decode("ascii").splitlines()
            codes = {int(words[0]) - low: int(words[1]) for words in map(str.split, lines)}
            classes = tuple(chr(codes[i]) for i in range(len(codes)) if i in codes)
    name = prefix or path.resolve().name
    if test is None:
        return replace(_hold_out(files["train", "images"], train, train_labels, name), classes=classes)
    return replace(_together(path, train, train_labels, test, test_labels, name), classes=classes)


def _upright(path: Path, images: np.ndarray) -> np.ndarray:
    """EMNIST stores each picture with rows and columns exchanged (Cohen et al. 2017)."""
    return images.swapaxes(1, 2) if path.name.startswith("emnist-") and images.ndim == 3 else images


def _together(path: Path, train: np.ndarray, train_labels: np.ndarray | None, test: np.ndarray, test_labels: np.ndarray | None,
              name: str) -> Images:
    x, y = as_pixels(train, f"{path}: training images"), as_pixels(test, f"{path}: test images")
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"{path}: training images are {x.shape[1:]}, test images {y.shape[1:]}; expects the same size")
    return Images(x, None if train_labels is None else as_labels(train_labels, len(x), f"{path}: training labels"),
                  y, None if test_labels is None else as_labels(test_labels, len(y), f"{path}: test labels"), name)


def _hold_out(path: Path, images: np.ndarray, labels: np.ndarray | None, name: str) -> Images:
    """One in ten to test on, drawn once and for all by a generator of its own: pictures are often sorted by class."""
    x = as_pixels(images, f"{path}: images")
    y = None if labels is None else as_labels(labels, len(x), f"{path}: labels")
    order = np.random.default_rng(0).permutation(len(x))
    test, train = np.sort(order[:len(x) // 10]), np.sort(order[len(x) // 10:])
    return Images(x[train], None if y is None else y[train], x[test], None if y is None else y[test], name)


def binarise(images: np.ndarray, rng: Generator) -> np.ndarray:
    """x ~ Bernoulli(pixel): float32 of 0 and 1, sampled again each time a picture is used (Burda et al. 2015, section 5)."""
    return (rng.random(images.shape, dtype=np.float32) < images).astype(np.float32)


def batches(rng: Generator, n: int, batch_size: int, drop_last: bool = False) -> Iterator[np.ndarray]:
    """One epoch in random order: arrays of `batch_size` indices that together are 0 to n - 1, each once.

    The last batch is smaller where `batch_size` does not divide n; `drop_last` leaves it out."""
    if n < 1 or batch_size < 1 or (drop_last and batch_size > n):
        raise ValueError(f"batches: n is {n}, batch_size {batch_size}; expects at least 1 each{', and a whole batch' if drop_last else ''}")
    order = rng.permutation(n)
    for start in range(0, n - batch_size + 1 if drop_last else n, batch_size):
        yield order[start:start + batch_size]
