"""Folders of pictures: which are to train on and which to test on, which class each belongs to, and what Pillow makes of each file.

    folder/*.png                          no classes
    folder/CLASS/*.png                    a class for each sub-folder
    folder/train/..., folder/test/...     either of these, kept apart; also training, testing, val, valid, validation, in any case
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..drawing.words import counted
from ..storage import WrongFile, open_regular

SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "val": "validation", "valid": "validation",
          "validation": "validation"}
MOST_PIXELS = 4096 * 4096  # of one picture
EXPECTED = ("expects pictures in the folder, or a sub-folder of them for each class, or either of these in sub-folders named train and test "
            "(or val)")
NOT_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}  # what Pillow opens only with other programs' help


class Folder(NamedTuple):
    """Pictures (n, height, width[, 3]), uint8 or float32 in [0, 1], their labels, and what there is to say of what was found."""

    train: np.ndarray
    train_labels: np.ndarray | None
    test: np.ndarray | None
    test_labels: np.ndarray | None
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def read_folder(folder: Path) -> Folder:
    """Every picture of a folder.  Raises WrongFile or ValueError where pictures would be left out without a word."""
    notes: list[str] = []
    splits: dict[str, Path] = {}
    for place in _folders(folder):
        split = SPLITS.get(place.name.lower())
        if split in splits:
            raise WrongFile(f"{folder}: has {splits[split].name} and {place.name}, which both mean {split}; expects one of them")
        if split:
            splits[split] = place
    if "train" not in splits:
        if splits and len(splits) == len(_folders(folder)):
            raise WrongFile(f"{folder}: has {' and '.join(p.name for p in splits.values())} but no sub-folder train; {EXPECTED}")
        files, classes = _by_class(folder, notes)
        pictures, labels = _read(files, classes)
        return Folder(pictures, labels, None, None, classes, tuple(notes))
    others = {place.name: len(_all_pictures(place)) for place in _folders(folder) if place not in splits.values()}
    others = {"the folder itself": len(_pictures(folder, notes)), **others}
    if beside := [f"{name} has {counted(n, 'picture')}" for name, n in others.items() if n]:
        raise WrongFile(f"{folder}: {', '.join(beside)} beside {', '.join(p.name for p in splits.values())}, which would be left out; {EXPECTED}")
    held_out = splits.get("test", splits.get("validation"))
    if "test" in splits and "validation" in splits:
        count = len(_all_pictures(splits["validation"]))
        notes.append(f"{counted(count, 'picture')} in {splits['validation'].name} {'is' if count == 1 else 'are'} used neither to train nor to test")
    files, classes = _by_class(splits["train"], notes)
    if held_out is None:
        pictures, labels = _read(files, classes)
        return Folder(pictures, labels, None, None, classes, tuple(notes))
    test_files, test_classes = _by_class(held_out, notes)
    if bool(classes) != bool(test_classes):
        there = counted(len(classes), "class") if classes else "no classes"
        raise WrongFile(f"{folder}: {splits['train'].name} has {there}, {held_out.name} {len(test_classes) or 'none'}; "
                        "expects the same in both")
    if unknown := [name for name in test_classes if name not in classes]:
        raise WrongFile(f"{folder}: {held_out.name} has the class {unknown[0]!r}, of which {splits['train'].name} has no picture; "
                        f"its classes are {', '.join(classes)}")
    renumbered = [(path, test_classes[label]) for path, label in test_files] if classes else [(path, "") for path, _ in test_files]
    pictures, labels = _read(files + [(path, classes.index(name) if classes else 0) for path, name in renumbered], classes)
    n = len(files)
    return Folder(pictures[:n], None if labels is None else labels[:n], pictures[n:], None if labels is None else labels[n:], classes, tuple(notes))


def natural(name: str) -> tuple[Any, ...]:
    """A sort key under which numbers within names count as numbers: 2 before 10."""
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", name) if part), name


def _folders(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: natural(p.name))


def _pictures(folder: Path, notes: list[str] | None = None) -> list[Path]:
    """Files directly in a folder that Pillow can read by their names; others are counted in a note."""
    files = sorted(p for p in folder.iterdir() if not p.is_dir() and not p.name.startswith("."))
    known = extensions()
    others = [p.name for p in files if p.suffix.lower() not in known]
    if others and notes is not None:
        named = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        notes.append(f"{len(others):,} file{'s' * (len(others) > 1)} in {folder.name or folder} aren't pictures that Pillow reads: {named}")
    return [p for p in files if p.suffix.lower() in known]


def _all_pictures(folder: Path) -> list[Path]:
    """Pictures anywhere below a folder."""
    return _pictures(folder) + [path for place in _folders(folder) for path in _all_pictures(place)]


def _by_class(folder: Path, notes: list[str]) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """([(picture, label)], names of the classes); classes are numbered in the order of their names."""
    here = _pictures(folder, notes)
    places = [(place, _pictures(place, notes), len(_all_pictures(place))) for place in _folders(folder)]
    deeper = [f"{place.name} has {counted(n - len(direct), 'picture')} in sub-folders of its own" for place, direct, n in places if n > len(direct)]
    inside = sum(len(direct) for _, direct, _ in places)
    if here and inside:
        raise WrongFile(f"{folder}: has {len(here):,} pictures and {inside:,} more in its sub-folders; {EXPECTED}")
    if deeper:
        raise WrongFile(f"{folder}: {deeper[0]}; {EXPECTED}")
    if here:
        return [(path, 0) for path in here], ()
    classes = [(place.name, direct) for place, direct, _ in places if direct]
    if not classes:
        left_out = f" ({notes[-1]})" if notes else ""
        raise WrongFile(f"{folder}: has no pictures{' in its sub-folders' if places else ''}{left_out}; {EXPECTED}")
    empty = [place.name for place, direct, _ in places if not direct]
    if empty:
        notes.append(f"sub-folders without pictures aren't classes: {', '.join(empty[:3])}{', ...' if len(empty) > 3 else ''}")
    return [(path, label) for label, (_, direct) in enumerate(classes) for path in direct], tuple(name for name, _ in classes)


def _read(files: list[tuple[Path, int]], classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray | None]:
    pictures: list[np.ndarray] = []
    first: tuple[str, tuple[int, int]] | None = None
    try:
        for path, _ in files:
            a = read_picture(path, partial(_same_size, path, first))
            first = first or (path.name, a.shape[:2])
            _same_size(path, first, a.shape[:2])
            pictures.append(a)
        if any(a.dtype != np.uint8 for a in pictures):  # one of 16 bits makes all of them floats
            pictures = [a if a.dtype != np.uint8 else np.divide(a, 255, dtype=np.float32) for a in pictures]
        if any(a.ndim == 3 for a in pictures):  # one in colour makes all of them colour
            pictures = [a if a.ndim == 3 else np.repeat(a[..., None], 3, axis=2) for a in pictures]
        return np.stack(pictures), np.array([label for _, label in files]) if classes else None
    except MemoryError as error:
        raise WrongFile(f"{files[0][0].parent}: {len(files):,} pictures do not fit into memory") from error


def _same_size(path: Path, first: tuple[str, tuple[int, int]] | None, size: tuple[int, int]) -> None:
    if first is not None and size != first[1]:
        (h, w), (height, width) = size, first[1]
        raise ValueError(f"{path}: is {w} x {h} pixels, {first[0]} is {width} x {height}; expects pictures of one size")


def read_picture(path: Path, check: Callable[[tuple[int, int]], None] | None = None) -> np.ndarray:
    """One picture, (height, width) grey or (height, width, 3): uint8, or float32 in [0, 1] where the file has 16 bits.

    It is turned as its EXIF entry says; what is transparent is laid over white; of an animation, the first frame is taken.
    check: called with (height, width) before the pixels are decoded, may raise.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings(), open_regular(path) as file:
            warnings.simplefilter("ignore")  # of metadata that is out of order
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    raise WrongFile(f"{path}: is {width} x {height} pixels; expects at most {MOST_PIXELS:,} of them")
                if check is not None and picture.getexif().get(274, 1) < 5:  # a turned one has its sides exchanged
                    check((height, width))
                return _values(path, ImageOps.exif_transpose(picture))
    except (WrongFile, FileNotFoundError, PermissionError):
        raise
    except MemoryError as error:
        raise WrongFile(f"{path}: does not fit into memory") from error
    except UnidentifiedImageError as error:
        raise WrongFile(f"{path}: cannot be read as a picture: it begins like no format that is known here") from error
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
            raise
        raise WrongFile(f"{path}: cannot be read as a picture ({next(iter(str(error).splitlines()), '') or type(error).__name__})") from error


def _values(path: Path, picture: Any) -> np.ndarray:
    from PIL import Image

    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        a = np.asarray(picture).astype(np.float32)
        most = 1.0 if mode == "F" else 65535.0
        if not (a.min() >= 0 and a.max() <= most):
            raise WrongFile(f"{path}: has pixels of mode {mode!r} from {a.min():g} to {a.max():g}; expects them from 0 to {most:g}")
        return a / np.float32(most)
    if mode in ("La", "RGBa"):  # colours that are multiplied by their alpha
        picture = picture.convert(mode.upper())
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture).convert("RGB")
    a = np.asarray(picture if picture.mode == "L" else picture.convert("L" if mode == "1" else "RGB"))
    # a palette or an alpha channel says nothing of whether the picture is grey
    if a.ndim == 3 and mode not in ("RGB", "CMYK", "YCbCr", "LAB", "HSV", "RGBA", "RGBa", "RGBX") and (a == a[..., :1]).all():
        a = a[..., 0]
    return a


def extensions() -> set[str]:
    """Names' ends of the formats that Pillow reads by itself."""
    from PIL import Image

    Image.init()
    return {end.lower() for end, kind in Image.registered_extensions().items() if kind in Image.OPEN and kind not in NOT_PICTURES}
