"""Chorales as music rather than as text: how they begin, and what a model wrote as a piano roll, as MIDI and as sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data import music
from ..data.music import END, Chorale
from ..drawing.terminal import draw_roll, pitch_name
from ..storage import atomic_write

NEW = "a new chorale"
BARS = 2  # of a chorale that a model continues
CONTEXT = 4 * 16 * 4  # characters of the end of another chorale, after which a new one begins
VOICES = len(music.VOICES)
ENDINGS = (".mid", ".wav", ".txt", ".npz")


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
    if ending in (".mid", ".wav") and not notes:
        raise ValueError(f"{path}: there are no notes to write: the model wrote silence; try another --seed")
    if ending == ".mid":
        music.write_midi(path, notes)
    elif ending == ".wav":
        music.write_wav(path, notes)
    elif ending == ".txt":
        atomic_write(path, (music.to_text(piece) + END).encode())
    else:
        from io import BytesIO

        content = BytesIO()
        np.savez_compressed(content, pitch=piece.pitch, onset=piece.onset)
        atomic_write(path, content.getvalue())


def draw(piece: Chorale) -> str:
    return draw_roll(piece.pitch, piece.onset)
