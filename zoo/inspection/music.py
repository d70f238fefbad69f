"""Chorales as music rather than as text: how they begin, and what a model wrote as a piano roll, as MIDI and as sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data import music
from ..data.music import END, Chorale
from ..drawing.gif import gif
from ..drawing.pictures import png
from ..drawing.terminal import draw_roll, pitch_name
from ..storage import atomic_write

NEW = "a new chorale"
BARS = 2  # of a chorale that a model continues
CONTEXT = 4 * 16 * 4  # characters of the end of another chorale, after which a new one begins
VOICES = len(music.VOICES)
ENDINGS = (".mid", ".wav", ".png", ".gif", ".txt", ".npz")
COLOURS = np.array([[78, 155, 209], [89, 161, 79], [242, 142, 43], [216, 105, 159]], np.uint8)  # of soprano, alto, tenor, bass, as on the pages
CELL = (6, 4)  # pixels of a semitone and of a sixteenth


def writes_chorales(model: Any) -> bool:
    """Whether a model's text is chorales in the notation of `zoo.data.music`."""
    return hasattr(model, "generate") and (getattr(model, "card", None) or {}).get("data") == "chorales"


def beginnings() -> dict[str, str]:
    """What a chorale model can begin with, name -> prompt: nothing, or the first bars of a chorale that it wasn't trained on."""
    pieces = music.split_chorales(music.chorales())["test"]
    new = music.to_text(pieces[0])[-CONTEXT:] + VOICES * END  # a piece of its own follows the end of another
    return {NEW: new, **{piece.name: music.to_text(piece)[: 4 * 16 * BARS] for piece in pieces}}


def heard(prompt: str) -> str:
    """The part of a prompt that belongs to the piece: what stands after the end of the one before."""
    return prompt.rpartition(END)[2]


def event_name(character: str) -> str:
    """What a character of the notation means: C4 for a note that is struck, hold, rest, or end; a thin space sets it off."""
    name = {music.HOLD: "hold", music.REST: "rest", END: "end"}.get(character)
    return (name or (pitch_name(ord(character) - music.STRIKE) if len(character) == 1 else character)) + "\u2009"


def compose(model: Any, beginning: str = NEW, n: int = 768, *, seed: int = 0, **settings: Any) -> Chorale:
    """A chorale of at most n / 4 sixteenths, its beginning included.  beginning: a name of `beginnings()`, or a prompt."""
    prompt = beginnings().get(beginning, beginning)
    return music.from_text(heard(prompt + model.generate(prompt, n, seed=seed, stop=END, **settings)[len(prompt) :]))


def write(path: str | Path, piece: Chorale) -> None:
    """A chorale as MIDI, sound, text or arrays, by the name's ending."""
    notes, ending = music.notes_of(piece), Path(path).suffix
    if ending not in ENDINGS:
        raise ValueError(f"--out is {path}; music goes to a {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} file")
    if ending in (".mid", ".wav", ".png", ".gif") and not notes:
        raise ValueError(f"{path}: there are no notes to write: the model wrote silence; try another --seed")
    if ending == ".mid":
        music.write_midi(path, notes)
    elif ending == ".wav":
        music.write_wav(path, notes)
    elif ending == ".png":
        atomic_write(path, png(roll(notes)))
    elif ending == ".gif":
        whole, beat = roll(notes), 4 * CELL[1]
        ends = range(beat, whole.shape[1] + beat, beat)
        atomic_write(path, gif([np.where(np.arange(whole.shape[1])[None, :, None] < end, whole, np.uint8(255)) for end in ends], 60 / 80))
    elif ending == ".txt":
        atomic_write(path, (music.to_text(piece) + END).encode())
    else:
        from io import BytesIO

        content = BytesIO()
        np.savez_compressed(content, pitch=piece.pitch, onset=piece.onset)
        atomic_write(path, content.getvalue())


def roll(notes: list[music.Note]) -> np.ndarray:
    """A piano roll as a picture, (height, width, 3) uint8: a semitone a line, a sixteenth a column, a colour per voice."""
    low, high = (f(note.pitch for note in notes) for f in (min, max))
    tall, wide = CELL
    picture = np.full(((high - low + 3) * tall, max(n.start + n.length for n in notes) * wide, 3), 255, np.uint8)
    for voice, pitch, start, length in notes:
        top = (high - pitch + 1) * tall
        picture[top : top + tall - 1, start * wide : (start + length) * wide - 1] = COLOURS[voice]
    return picture


def draw(piece: Chorale) -> str:
    return draw_roll(piece.pitch, piece.onset)
