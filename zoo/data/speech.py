"""Spoken digits and letters: espeak-ng's voices, and the free spoken digit dataset where somebody has it.

    data = spoken_words()
    data.waveforms[0], data.captions[0]          # (8064,) float32 in [-1, 1] at 8 kHz; "a woman says seven"

espeak-ng comes with `pip install espeakng-loader`, as a library and its data; it is a tool for data and tests, no part of zoo. Its 104
variants of the English voice differ in pitch, roughness and formants; one in ten is never trained on (`is_held_out`).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..autograd.random import generator
from ..storage import PathLike, WrongFile
from . import sound
from .scenes import DIGITS

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
WORDS = (*DIGITS, *LETTERS)
SPEAKERS = ("man", "woman")
VOCABULARY = tuple(sorted({*WORDS, *SPEAKERS, "says"}))
HELD_OUT_EVERY = 10  # one voice in so many
ODD = ("whisper", "whisperf", "Demonic", "croak", "UniRobot", "anikaRobot", "fast", *(f"robosoft{i or ''}" for i in (0, *range(2, 9))))
TEST_TAKES = range(5)  # of the free spoken digit dataset: recordings 0 to 4 of each speaker and digit are its test split


@dataclass(frozen=True, eq=False, repr=False)
class Spoken:
    """Words as they were said."""

    waveforms: np.ndarray  # (n, 8064) float32 in [-1, 1], a second at 8 kHz
    words: tuple[str, ...]
    speakers: tuple[str, ...]  # "man", "woman", or "" where nobody knows
    voices: tuple[str, ...]  # names

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        return f"Spoken({len(self):,} words by {len(set(self.voices))} voices)"

    @property
    def captions(self) -> tuple[str, ...]:
        """ "a woman says seven" """
        return tuple(f"a {speaker} says {word}" if speaker else word for speaker, word in zip(self.speakers, self.words))


def is_held_out(voice: str) -> bool:
    """True for voices that are never trained on."""
    return zlib.crc32(voice.encode()) % HELD_OUT_EVERY == 0


def spoken_words(words: Sequence[str] = DIGITS, takes: int = 4, seed: int = 0, *, voices: Literal["seen", "held out", "all"] = "seen") -> Spoken:
    """Each word by each of espeak-ng's voices, `takes` times, at another pitch and speed each time; the same for the same arguments.

    Raises ModuleNotFoundError without espeakng-loader, ValueError for other words, voices, or takes below 1.
    """
    if voices not in ("seen", "held out", "all"):
        raise ValueError(f"spoken_words: voices is {voices!r}; it may be 'seen', 'held out' or 'all'")
    if isinstance(takes, bool) or not hasattr(takes, "__index__") or takes < 1:
        raise ValueError(f"spoken_words: takes is {takes!r}; it is a whole number of at least 1")
    for word in words:
        if word not in WORDS:
            raise ValueError(f"spoken_words: a word is {word!r}; it may be {', '.join(DIGITS)}, or a letter")
    rng = generator(seed)
    wanted, begins, speakers = [], [], []
    for voice, speaker in voices_and_speakers().items():
        chosen = voices == "all" or is_held_out(voice) == (voices == "held out")
        for word in words:
            for _ in range(takes):
                speed, pitch, begin = int(rng.integers(120, 210)), int(rng.integers(30, 71)), rng.uniform(0.3, 0.7)
                if chosen:  # drawn for all, so that a voice sounds the same whoever is left out
                    wanted.append((word.upper() if word in LETTERS else word, voice, speed, pitch))
                    begins.append(begin)
                    speakers.append(speaker)
    clips = np.stack([sound.as_clip(x, begin) for x, begin in zip(_say(wanted), begins)])
    return Spoken(clips, tuple(text.lower() for text, *_ in wanted), tuple(speakers), tuple(voice for _, voice, *_ in wanted))


def spoken(word: str, speaker: Literal["man", "woman"] = "man") -> np.ndarray:
    """One word by the first of espeak-ng's voices of that kind: (8064,) float32 in [-1, 1] at 8 kHz.  Raises as `spoken_words` does."""
    if word not in WORDS or speaker not in SPEAKERS:
        raise ValueError(f"spoken: word is {word!r} and speaker {speaker!r}; a man or a woman says {', '.join(DIGITS)}, or a letter")
    voice = next(name for name, kind in voices_and_speakers().items() if kind == speaker)
    return sound.as_clip(_say([(word.upper() if word in LETTERS else word, voice, 160, 50)])[0])


def voices_and_speakers() -> dict[str, str]:
    """The names of espeak-ng's voices, and whether each is a man's or a woman's."""
    folder = Path(_espeak()[1]) / "voices" / "!v"
    return {path.name: _speaker(path) for path in sorted(folder.iterdir()) if path.name not in ODD}


def _speaker(path: Path) -> str:
    """What the file of a voice says of it; one that says nothing is a man's, as espeak-ng's own voice is."""
    return "woman" if re.search(r"^gender\s+female", path.read_text(errors="replace"), re.MULTILINE) else "man"


def _espeak() -> tuple[str, str]:
    """The library and the folder of its data."""
    try:
        import espeakng_loader
    except ModuleNotFoundError:
        raise ModuleNotFoundError("espeak-ng speaks the words that are learned; it comes with `pip install espeakng-loader`") from None
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def _say(wanted: Sequence[tuple[str, str, int, int]]) -> list[np.ndarray]:
    """Texts, by which voice, in words per minute and pitch -> samples of each at 8 kHz.  OSError where espeak-ng can't."""
    program = Path(__file__).with_name("espeak.py")
    done = subprocess.run([sys.executable, str(program), *_espeak()], input=json.dumps(wanted).encode(), capture_output=True)
    if done.returncode:
        raise OSError(f"espeak-ng: {done.stderr.decode(errors='replace').strip().splitlines()[-1:] or ['it failed']}")
    head, _, content = done.stdout.partition(b"\n")
    header = json.loads(head)
    parts = np.split(np.frombuffer(content, np.int16).astype(np.float32) / 32768, np.cumsum(header["counts"])[:-1])
    return [sound.resampled(x, header["rate"]) for x in parts]


def recorded_digits(folder: PathLike, part: Literal["train", "test"] = "train") -> Spoken:
    """The free spoken digit dataset (3,000 recordings, CC BY-SA 4.0) from its folder of `7_jackson_32.wav` and the like.

    part: recordings 0 to 4 of each speaker and digit are "test", as its authors have it, all others "train".
    Raises ValueError for another part, FileNotFoundError for a folder without such files, WrongFile for one that isn't WAV.
    """
    if part not in ("train", "test"):
        raise ValueError(f"recorded_digits: part is {part!r}; it may be 'train' or 'test'")
    found = sorted(_recordings(Path(folder)), key=lambda recording: recording[0].name)
    chosen = [(path, digit, speaker) for path, digit, speaker, take in found if (take in TEST_TAKES) == (part == "test")]
    if not chosen:
        raise FileNotFoundError(f"{folder}: has no recordings for {part!r} with names like 7_jackson_32.wav: digit, speaker, number")
    clips = np.stack([sound.as_clip(sound.read_wav(path)) for path, *_ in chosen])
    return Spoken(clips, tuple(DIGITS[digit] for _, digit, _ in chosen), ("",) * len(chosen), tuple(speaker for *_, speaker in chosen))


def _recordings(folder: Path) -> Iterator[tuple[Path, int, str, int]]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of recordings")
    for path in (folder / "recordings" if (folder / "recordings").is_dir() else folder).iterdir():
        match = re.fullmatch(r"(\d)_([A-Za-z]+)_(\d{1,4})\.wav", path.name)
        if match:
            if not path.is_file():
                raise WrongFile(f"{path}: is no file")
            yield path, int(match[1]), match[2], int(match[3])
