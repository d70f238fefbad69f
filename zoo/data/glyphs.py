"""Letters and signs by name: the DejaVu fonts, which matplotlib ships, drawn small, each with Unicode's name for it.

    data = glyphs()
    data.pictures[0], data.captions[0]        # (32, 32) float32 in [0, 1]; "bold serif latin small letter o with diaeresis"

A caption says the font's style and then what Unicode calls the character, in small letters.  Many letters are a base with marks ("latin
small letter o" with "diaeresis and macron"); a tenth of the pairs of base and marks is held out, by a rule that depends on the names
alone (`is_held_out`), in all fonts at once: whoever draws one of them has put together what was never seen together.
"""

from __future__ import annotations

import functools
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIDE = 32
STYLES = {  # what a caption says of the font -> its file
    "sans": "DejaVuSans.ttf", "bold sans": "DejaVuSans-Bold.ttf", "oblique sans": "DejaVuSans-Oblique.ttf",
    "bold oblique sans": "DejaVuSans-BoldOblique.ttf", "serif": "DejaVuSerif.ttf", "bold serif": "DejaVuSerif-Bold.ttf",
    "italic serif": "DejaVuSerif-Italic.ttf", "bold italic serif": "DejaVuSerif-BoldItalic.ttf", "mono": "DejaVuSansMono.ttf",
    "bold mono": "DejaVuSansMono-Bold.ttf", "oblique mono": "DejaVuSansMono-Oblique.ttf", "bold oblique mono": "DejaVuSansMono-BoldOblique.ttf",
}
HELD_OUT_EVERY = 10  # one pair of base and marks in so many
MOST_WORDS = 16  # of a caption; a few characters have longer names, and are left out


class Name(NamedTuple):
    """A character's name in two parts."""

    base: str  # "latin small letter o"
    marks: str  # "diaeresis and macron", or "" for a character without


@dataclass(frozen=True, eq=False, repr=False)
class GlyphPictures:
    """Pictures and names, row by row."""

    pictures: np.ndarray  # (n, 32, 32) float32 in [0, 1], white on black
    captions: tuple[str, ...]
    characters: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)

    def __repr__(self) -> str:
        return f"GlyphPictures({len(self):,} pictures of {len(set(self.characters)):,} characters, {SIDE} x {SIDE})"


def name_of(character: str) -> Name | None:
    """What Unicode calls a character, or None for one without a name."""
    name = unicodedata.name(character, "").lower()
    base, _, marks = name.partition(" with ")
    return Name(base, marks) if name else None


def is_held_out(name: Name) -> bool:
    """True for the pairs of base and marks that are never trained on; a character without marks is always trained on."""
    return bool(name.marks) and zlib.crc32(f"{name.base}|{name.marks}".encode()) % HELD_OUT_EVERY == 0


def glyphs(pairs: str = "seen", styles: Iterable[str] = STYLES) -> GlyphPictures:
    """All characters that have a name and a shape, in these styles.

    pairs: "seen": those to train on; "held out": pairs of a base and marks that are not among these, though each base and each mark is;
        "all".
    Raises ValueError for another value or an unknown style, FileNotFoundError where matplotlib's fonts are missing.
    """
    if pairs not in ("seen", "held out", "all"):
        raise ValueError(f"glyphs: pairs is {pairs!r}; it may be 'seen', 'held out' or 'all'")
    styles = list(styles)
    for style in styles:
        if style not in STYLES:
            raise ValueError(f"glyphs: style is {style!r}; it may be {', '.join(STYLES)}")
    drawn = {style: _drawn(_font_file(style)) for style in styles}
    everywhere = {name for of_style in drawn.values() for name, _ in of_style.values()}
    seen = [name for name in everywhere if not is_held_out(name)]
    bases, marks = Counter(name.base for name in seen), Counter(name.marks for name in seen)
    pictures, captions, characters = [], [], []
    for style in styles:
        for character, (name, picture) in drawn[style].items():
            held_out = is_held_out(name) and bases[name.base] > 0 and marks[name.marks] > 0
            if pairs == "all" or (held_out == (pairs == "held out") and not (pairs == "seen" and is_held_out(name))):
                pictures.append(picture)
                captions.append(f"{style} {name.base}{' with ' + name.marks if name.marks else ''}")
                characters.append(character)
    return GlyphPictures(np.stack(pictures).astype(np.float32) / 255, tuple(captions), tuple(characters))


def without_style(caption: str) -> str:
    """What a caption says of the character alone; a caption that begins with no style of STYLES stays as it is."""
    words = caption.split()
    for n in (3, 2, 1):
        if " ".join(words[:n]) in STYLES and len(words) > n:
            return " ".join(words[n:])
    return caption


def vocabulary(captions: Iterable[str]) -> tuple[str, ...]:
    """All words of these captions, in the order of the alphabet."""
    return tuple(sorted({word for caption in captions for word in caption.split()}))


def _font_file(style: str) -> Path:
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / STYLES[style]
    if not path.exists():
        raise FileNotFoundError(f"glyphs: {path.name} isn't among matplotlib's fonts; reinstall matplotlib, or choose other styles")
    return path


def _names(font: Path) -> dict[str, Name]:
    """{character: its name} for all characters of a font that have both a name of moderate length and something to be seen."""
    from matplotlib.ft2font import FT2Font

    names = {}
    for code in sorted(FT2Font(str(font)).get_charmap()):
        character = chr(code)
        name = name_of(character)
        if name is not None and unicodedata.category(character)[0] in "LNPS" and len(f"{name.base} with {name.marks}".split()) <= MOST_WORDS - 3:
            names[character] = name
    return names


@functools.cache
def _drawn(font: Path) -> dict[str, tuple[Name, np.ndarray]]:
    """{character: its name and picture, (32, 32) uint8}: all at one size, with one baseline, in the middle by their width.

    Characters without a pixel, or larger than a picture, are left out.
    """
    from PIL import Image, ImageDraw, ImageFont

    type_face = ImageFont.truetype(str(font), 22, layout_engine=ImageFont.Layout.BASIC)  # characters alone need no shaping
    drawn = {}
    for character, name in _names(font).items():
        picture = Image.new("L", (SIDE, SIDE))
        left, top, right, bottom = type_face.getbbox(character, anchor="ls")
        wide, high = right - left, bottom - top
        if wide > SIDE or high > SIDE:
            continue
        baseline = min(max(23, -top), SIDE - bottom)  # where an accent or a descender would leave the picture, all of it moves
        ImageDraw.Draw(picture).text(((SIDE - wide) / 2 - left, baseline), character, fill=255, font=type_face, anchor="ls")
        pixels = np.asarray(picture)
        if pixels.any():
            drawn[character] = name, pixels
    return drawn
