"""Pictures: digits that ship with the zoo, your own pictures, and the order in which they are shown.

Pictures are float32 in [0, 1], (n, height, width) or (n, height, width, channels). Randomness is always a
`numpy.random.Generator` that you hand in. Every wrong file or array is one line that names it, what it was and what it may be.
"""

from __future__ import annotations

import gzip
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from ..storage import ASSETS, PathLike, WrongFile, looks_like

PICTURES = (".png", ".jpg", ".jpeg")
EXPECTED = "expects IDX files (as MNIST's four, plain or .gz), an .npz file, or a folder of .png or .jpg pictures"


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """Pictures to learn from and pictures to test on. Labels are (n,) int64, or None where there are none."""

    train: np.ndarray                    # (n, height, width) or (n, height, width, channels), float32 in [0, 1]
    train_labels: np.ndarray | None
    test: np.ndarray                     # the same shape but for n, which may be 0
    test_labels: np.ndarray | None
    name: str

    def __repr__(self) -> str:
        size = " x ".join(str(n) for n in self.train.shape[1:])
        return f"Images({self.name!r}: {len(self.train):,} to train on, {len(self.test):,} to test on, {size})"


# ------------------------------------------------------------------------------------------------ pictures

def mnist() -> Images:
    """60,000 + 10,000 handwritten digits, 28 x 28 (LeCun, Cortes and Burges). Bit-exact: `train * 255` are the original bytes."""
    return _read_npz(ASSETS / "mnist.npz", "mnist")


def digits8x8() -> Images:
    """1,797 handwritten digits, 8 x 8 with 17 levels (UCI optdigits): the first 1,437 to train on, the last 360 to test on."""
    with np.load(ASSETS / "digits8x8.npz", allow_pickle=False) as file:
        pixels, labels = file["images"].astype(np.float32) / 16, file["labels"].astype(np.int64)
    return Images(pixels[:1437], labels[:1437], pixels[1437:], labels[1437:], "digits8x8")


def load_images(source: PathLike) -> Images:
    """'mnist', 'digits8x8', or your own pictures from a path:

    - a folder with MNIST's four IDX files, plain or .gz (Fashion-MNIST, EMNIST and others come so), or one IDX file of images
      (with its labels beside it where the same name with 'labels' for 'images' exists);
    - an .npz file with x_train, x_test and, where there are labels, y_train, y_test; or with images and labels;
    - a folder of .png or .jpg pictures of one size: one sub-folder for each class (labels 0, 1, ... by sorted name), or none.
      Sub-folders named train and test keep the two apart.

    Where the source names no test set, one picture in ten is held out, always the same ones.
    Raises WrongFile, ValueError or OSError in one line."""
    if str(source) in ("mnist", "digits8x8"):
        return mnist() if str(source) == "mnist" else digits8x8()
    path = Path(source)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: does not exist; {EXPECTED}, or one of the names mnist, digits8x8")
    with open(path, "rb") as file:
        start = file.read(16)
    if start[:4] == b"PK\x03\x04":
        return _read_npz(path, path.stem)
    if start[:2] in (b"\x1f\x8b", b"\0\0"):
        beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
        labels = read_idx(beside) if beside != path and beside.exists() else None
        return _hold_out(path, read_idx(path), labels, path.name.split(".")[0])
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


def read_idx(path: PathLike) -> np.ndarray:
    """The array in an IDX file, plain or gzip (format: yann.lecun.com/exdb/mnist): two zeros, type, dimensions, sizes, numbers."""
    try:
        content = Path(path).read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise WrongFile(f"{path}: is damaged or truncated gzip data ({error})") from error
    types = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in types or content[3] == 0:
        raise WrongFile(f"{path}: is {looks_like(content[:16])}; expects an IDX file, which starts with two zero bytes, a type and a number of axes")
    axes, dtype = content[3], np.dtype(types[content[2]])
    start = 4 + 4 * axes
    shape = np.frombuffer(content[4:start], ">u4", count=len(content[4:start]) // 4).tolist()
    wanted = start + math.prod(shape) * dtype.itemsize
    if len(shape) < axes or len(content) != wanted:
        state = "is truncated" if len(content) < wanted else "has bytes after its end"
        raise WrongFile(f"{path}: {state}: it has {len(content):,} bytes, an IDX file of shape {tuple(shape)} has {wanted:,}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _read_npz(path: Path, name: str) -> Images:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if key in ("x_train", "y_train", "x_test", "y_test", "images", "labels")}
            keys = file.files
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError) as error:
        raise WrongFile(f"{path}: is no readable .npz file ({str(error).splitlines()[0] if str(error) else type(error).__name__})") from error
    if "x_train" in arrays and "x_test" in arrays:
        return _together(path, arrays["x_train"], arrays.get("y_train"), arrays["x_test"], arrays.get("y_test"), name)
    for key, labels in (("images", "labels"), ("x_train", "y_train")):
        if key in arrays:
            return _hold_out(path, arrays[key], arrays.get(labels), name)
    raise WrongFile(f"{path}: holds {', '.join(keys[:6]) or 'nothing'}; expects x_train, y_train, x_test, y_test, or images, labels")


def _read_folder(folder: Path) -> Images:
    idx: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir(), reverse=True):                # reverse: the plain file wins over its .gz
        if found := re.fullmatch(r"(?:.*-)?(train|t10k|test)-(images|labels)[-.]idx\d-ubyte(?:\.gz)?", path.name):
            idx["train" if found[1] == "train" else "test", found[2]] = path
    if ("train", "images") in idx:
        train, train_labels, test, test_labels = (
            read_idx(idx[key]) if (key := (part, what)) in idx else None for part in ("train", "test") for what in ("images", "labels"))
        assert train is not None
        if test is None:
            return _hold_out(idx["train", "images"], train, train_labels, folder.name)
        return _together(folder, train, train_labels, test, test_labels, folder.name)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return _together(folder, *_read_pictures(folder / "train"), *_read_pictures(folder / "test"), folder.resolve().name)
    return _hold_out(folder, *_read_pictures(folder), folder.resolve().name)


def _read_pictures(folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """(images uint8, labels): every picture below a folder, labelled by its sub-folder where there are any."""
    from PIL import Image, UnidentifiedImageError

    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    paths = [(path, label) for label, place in enumerate(classes or [folder]) for path in sorted(place.iterdir())
             if path.suffix.lower() in PICTURES and not path.name.startswith(".")]
    if not paths:
        raise WrongFile(f"{folder}: has no pictures{' in its sub-folders' if classes else ''}; {EXPECTED}")
    pictures, colour = [], False
    for path, _ in paths:
        try:
            with Image.open(path) as picture:
                if picture.mode.startswith(("I", "F")):
                    raise WrongFile(f"{path}: has pixels of mode {picture.mode!r}; expects 8-bit grey or colour")
                grey = picture.mode in ("1", "L", "LA", "La")
                colour |= not grey
                pictures.append(np.asarray(picture.convert("L" if grey else "RGB")))
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise WrongFile(f"{path}: cannot be read as a picture ({str(error).splitlines()[0][:80]})") from error
        if pictures[-1].shape[:2] != pictures[0].shape[:2]:
            (h, w), (height, width) = pictures[-1].shape[:2], pictures[0].shape[:2]
            raise ValueError(f"{path}: is {w} x {h} pixels, {paths[0][0].name} is {width} x {height}; expects pictures of one size")
    if colour:
        pictures = [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in pictures]
    return np.stack(pictures), np.array([label for _, label in paths]) if classes else None


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
    """x ~ Bernoulli(pixel): float32 of 0 and 1, to be drawn afresh at each presentation (Burda et al. 2015, section 5)."""
    return (rng.random(images.shape, dtype=np.float32) < images).astype(np.float32)


def batches(rng: Generator, n: int, batch_size: int, drop_last: bool = False) -> Iterator[np.ndarray]:
    """One epoch in random order: arrays of `batch_size` indices that together are 0 to n - 1, each once.

    The last batch is smaller where `batch_size` does not divide n; `drop_last` leaves it out."""
    if n < 1 or batch_size < 1 or (drop_last and batch_size > n):
        raise ValueError(f"batches: n is {n}, batch_size {batch_size}; expects at least 1 each{', and a whole batch' if drop_last else ''}")
    order = rng.permutation(n)
    for start in range(0, n - batch_size + 1 if drop_last else n, batch_size):
        yield order[start:start + batch_size]
