"""Emoji by name: Google's Noto pictures with the labels and tags that Unicode's CLDR gives them, once `zoo get emoji` has fetched them.

Twitter drew the same emoji: a judge that learned from `emoji(font="twitter")` (`zoo get emoji-twitter`) has never seen a picture of Google's.

    data = emoji()
    data.pictures[0], data.labels[0], data.tags[0]      # (32, 32, 3) float32 in [0, 1]; "grinning face"; ["cheerful", "cheery", "face", ...]

About half of all emoji are others in a colour of skin ("waving hand: dark skin tone").  They are left out unless asked for: five pictures
that differ in a colour alone would count as five, and hands and people as half of everything.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..storage import WrongFile, cache_folder
from .array_files import read_npz

SIDE = 32
FETCHED_SIDE = 2 * SIDE  # of the pictures in the package
FONTS = {"google": "emoji", "twitter": "emoji-twitter"}  # who drew them -> the name for `zoo get`
ARRAYS = ("pictures", "labels", "tags", "characters", "skin_tone")


@dataclass(frozen=True, eq=False, repr=False)
class Emoji:
    """Pictures and what they are called, row by row, in Unicode's order."""

    pictures: np.ndarray  # (n, 32, 32, 3) float32 in [0, 1], on white
    labels: list[str]  # "grinning face"; no two are the same
    tags: list[list[str]]  # other words for it
    characters: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Emoji({len(self):,} pictures, {SIDE} x {SIDE})"

    @property
    def captions(self) -> list[str]:
        """The labels in small letters, with no signs between their words: "flag germany" of "flag: Germany"."""
        return [caption_of(label) for label in self.labels]

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All words of the captions, in the order of the alphabet."""
        return tuple(sorted({word for caption in self.captions for word in caption.split()}))


def emoji(skin_tones: bool = False, font: str = "google") -> Emoji:
    """The emoji that `zoo get emoji` fetched: 1,911, or 3,786 with those in another colour of skin.

    font: whose pictures, "google" or "twitter", which `zoo get emoji-twitter` fetches.
    Raises ValueError for another font, FileNotFoundError before they are fetched, WrongFile where their file is damaged.
    """
    path = packed_file(font)
    if not path.is_file():
        raise FileNotFoundError(f"{FONTS[font]}: haven't been fetched yet; run: zoo get {FONTS[font]}")
    arrays, _ = read_npz(path, ARRAYS)
    if (set(arrays) != set(ARRAYS) or arrays["pictures"].shape[1:] != (SIDE, SIDE, 3) or arrays["pictures"].dtype != np.uint8
            or arrays["skin_tone"].dtype != bool or any(arrays[name].dtype.kind != "U" for name in ("labels", "tags", "characters"))
            or {array.shape for name, array in arrays.items() if name != "pictures"} != {arrays["pictures"].shape[:1]}):
        raise WrongFile(f"{path}: isn't what `zoo get {FONTS[font]}` wrote; remove it, and fetch it again")
    chosen = ~arrays["skin_tone"] | skin_tones
    labels, tags, characters = (arrays[name][chosen].tolist() for name in ("labels", "tags", "characters"))
    pictures = np.divide(arrays["pictures"][chosen], 255, dtype=np.float32)
    return Emoji(pictures, labels, [text.split("\n") if text else [] for text in tags], characters)


def caption_of(label: str) -> str:
    """A label as a prompt may say it."""
    return " ".join(re.sub(r"[:,.()“”]", " ", label.lower().replace("’", "'")).split())


def packed_file(font: str = "google") -> Path:
    """Where the fetched pictures lie; another version of Unicode's list would have another name."""
    if font not in FONTS:
        raise ValueError(f"font: is {font!r}; it may be {', '.join(FONTS)}")
    return cache_folder("data") / ("emoji-16.npz" if font == "google" else f"emoji-16-{font}.npz")


def pack(pictures: Mapping[str, bytes], entries: bytes) -> bytes:
    """The content of that file.

    pictures: {code points: PNG} with 64 x 64 pixels each, the code points as in "1f44b-1f3fb".  entries: emojibase's data.json.
    Entries without a picture are left out.  Raises WrongFile for content that isn't that.
    """
    rows = {}
    for entry in _entries(entries):
        rows[_key(entry["hexcode"])] = entry
    coded = {_key(name): content for name, content in pictures.items()}
    chosen = sorted((entry["order"], key) for key, entry in rows.items() if key in coded)
    if not chosen:
        raise WrongFile("emoji: none of the labels belongs to one of the pictures")
    file = io.BytesIO()
    np.savez_compressed(
        file, pictures=np.stack([_picture(key, coded[key]) for _, key in chosen]), labels=np.array([rows[key]["label"] for _, key in chosen]),
        tags=np.array(["\n".join(rows[key]["tags"]) for _, key in chosen]), characters=np.array([rows[key]["emoji"] for _, key in chosen]),
        skin_tone=np.array(["tone" in rows[key] for _, key in chosen]))
    return file.getvalue()


def _entries(content: bytes) -> Iterator[dict[str, Any]]:
    """Those of emojibase, and after each the same in other colours of skin, with its tags.  Letters of flags have no place in the order."""
    try:
        for entry in json.loads(content):
            for one in (entry, *entry.get("skins", ())):
                if "order" in one:
                    one = {"tags": entry.get("tags", []), **one}
                    if not all(isinstance(one[name], str) for name in ("hexcode", "label", "emoji")) or not isinstance(one["order"], int):
                        raise ValueError("a field of another type")
                    yield one
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WrongFile(f"emoji: the labels aren't emojibase's data.json ({type(error).__name__}: {str(error)[:80]})") from error


def _key(code_points: str) -> str:
    """One spelling of both packages: without the selector that asks for a picture where a character is also a letter."""
    return "-".join(part for part in code_points.lower().split("-") if part != "fe0f")


def _picture(name: str, content: bytes) -> np.ndarray:
    """(32, 32, 3) uint8: a PNG of twice the size, on white, each pixel the mean of four."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
                if picture.size != (FETCHED_SIDE, FETCHED_SIDE):
                    raise ValueError(f"is {picture.width} x {picture.height} pixels; expects {FETCHED_SIDE} x {FETCHED_SIDE}")
                pixels = np.asarray(picture.convert("RGBA"), np.float32)
    except Exception as error:  # Pillow raises nearly anything for a damaged file
        raise WrongFile(f"{name}.png: cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})") from error
    alpha = pixels[..., 3:] / 255
    on_white = pixels[..., :3] * alpha + 255 * (1 - alpha)
    return np.rint(on_white.reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3))).astype(np.uint8)
