"""Music: Bach's chorales as text for a sequence model and as piano rolls, and notes as MIDI, WAV and pictures.

A chorale on its grid of sixteenths is (steps, 4) pitches, soprano first, and (steps, 4) onsets. As text it is four
characters a step, one per voice, so that every text model and tokenizer of the zoo can learn, continue and generate it:

    chr(pitch + 12)   the voice strikes this MIDI pitch (60, middle C, is H)
    -                 it holds the pitch that it sings
    .                 it rests
    newline           the chorale has ended
"""

from __future__ import annotations

import operator
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import NamedTuple

import numpy as np

from ..storage import ASSETS, PathLike, WrongFile, atomic_write, read_json, shorten

REST, HOLD, STRIKE, END = ".", "-", 12, "\n"
VOICES = ("soprano", "alto", "tenor", "bass")
MAX_STEPS = 1_000_000                        # of all pieces of a file together; as rolls, 352 MB
CHANNELS = (*range(9), *range(10, 16))       # of MIDI, but for the tenth, which is the drums'
LOWEST, KEYS = 21, 88                        # the piano: MIDI 21 to 108


@dataclass(frozen=True, eq=False)
class Chorale:
    """Four voices on a grid of sixteenth notes."""

    pitch: np.ndarray                        # (steps, 4) int8, MIDI; -1 is a rest
    onset: np.ndarray                        # (steps, 4) bool: the voice strikes here, else it holds or rests
    name: str = ""
    sharps: int = 0                          # of the key signature; flats are negative
    time: str = "4/4"


class Note(NamedTuple):
    """One note; start and length count steps of the grid."""

    voice: int
    pitch: int
    start: int
    length: int


# ------------------------------------------------------------------------------------------------ data sets

def chorales() -> list[Chorale]:
    """363 four-part chorales by J. S. Bach (the corpus of music21), on a grid of sixteenths."""
    with np.load(ASSETS / "chorales.npz", allow_pickle=False) as file:
        pitch, onset, ends = file["pitch"], file["onset"].astype(bool), np.cumsum(file["length"])
        rest = zip(file["name"].tolist(), file["key_fifths"].tolist(), file["time"].tolist(), strict=True)
    parts = zip(np.split(pitch, ends[:-1]), np.split(onset, ends[:-1]), rest, strict=True)
    return [Chorale(p, _sung(p, o), *others) for p, o, others in parts]


def _sung(pitch: np.ndarray, onset: np.ndarray) -> np.ndarray:
    """Onsets consistent with the pitches: a rest is not struck, a new pitch always is."""
    changed = np.ones_like(onset)
    changed[1:] = pitch[1:] != pitch[:-1]
    return (onset | changed) & (pitch >= 0)


def split_chorales(pieces: Sequence[Chorale]) -> dict[str, list[Chorale]]:
    """'train', 'valid', 'test', about 8 : 1 : 1, by a checksum of each chorale's pitches, so that two copies land in the same part."""
    parts: dict[str, list[Chorale]] = {"train": [], "valid": [], "test": []}
    for piece in pieces:
        place = zlib.crc32(np.ascontiguousarray(piece.pitch, dtype=np.int8).tobytes()) % 10
        parts["test" if place == 0 else "valid" if place == 1 else "train"].append(piece)
    return parts


def load_jsb(path: PathLike) -> dict[str, list[list[list[int]]]]:
    """The JSB chorales of Boulanger-Lewandowski et al. 2012 as JSON: 'train', 'valid', 'test', each a list of pieces, each a
    list of chords, each a list of MIDI pitches (the layout of github.com/czhuang/JSB-Chorales-dataset; -1 is silence)."""
    content = read_json(path)
    if missing := [part for part in ("train", "valid", "test") if not isinstance(content.get(part), list)]:
        raise WrongFile(f"{path}: has no list {missing[0]!r}; expects the lists train, valid and test")
    pieces: dict[str, list[list[list[int]]]] = {}
    steps = 0
    for part in ("train", "valid", "test"):
        pieces[part] = []
        for piece in content[part]:
            if not isinstance(piece, list) or not all(isinstance(chord, list) and all(type(p) is int for p in chord) for chord in piece):
                raise WrongFile(f"{path}: {part} is not pieces of chords of MIDI pitches: it holds {shorten(piece)}")
            pieces[part].append([[p for p in chord if p != -1] for chord in piece])
            steps += len(piece)
        if wrong := [p for piece in pieces[part] for chord in piece for p in chord if not LOWEST <= p < LOWEST + KEYS]:
            raise WrongFile(f"{path}: {part} has the pitch {shorten(wrong[0])}; expects {LOWEST} to {LOWEST + KEYS - 1}")
    if steps > MAX_STEPS or not any(pieces["train"]):
        raise WrongFile(f"{path}: has {steps:,} chords, {sum(map(len, pieces['train'])):,} to train on; expects 1 to {MAX_STEPS:,}")
    return pieces


def piano_roll(chords: Sequence[Sequence[int]]) -> np.ndarray:
    """(steps, 88) float32 of 0 and 1 from chords of MIDI pitches. `zoo.data.pad` joins rolls into a batch with a mask."""
    roll = np.zeros((len(chords), KEYS), np.float32)
    for step, chord in enumerate(chords):
        for pitch in chord:
            if not LOWEST <= pitch < LOWEST + KEYS:
                raise ValueError(f"chords: step {step} has the pitch {pitch}; expects {LOWEST} to {LOWEST + KEYS - 1}")
            roll[step, pitch - LOWEST] = 1
    return roll


def chords_of(roll: np.ndarray) -> list[list[int]]:
    """The chords of a (steps, 88) roll: its pitches above one half, upwards."""
    if roll.ndim != 2 or roll.shape[1] != KEYS:
        raise ValueError(f"roll: has shape {roll.shape}; expects (steps, {KEYS})")
    return [(np.flatnonzero(step > 0.5) + LOWEST).tolist() for step in roll]


# ------------------------------------------------------------------------------------------------ a chorale as text

def to_text(piece: Chorale) -> str:
    """Four characters a step, without the newline that ends it. `from_text` is the inverse."""
    pitch = piece.pitch.astype(np.int32)
    _check_range(pitch, "piece: has")
    onset = _sung(piece.pitch, piece.onset)
    return np.where(onset, pitch + STRIKE, np.where(pitch < 0, ord(REST), ord(HOLD))).astype(np.uint8).tobytes().decode("ascii")


def from_text(text: str) -> Chorale:
    """The chorale that a text spells, up to its first newline. A last step with fewer than four voices is left out.

    A hold after a rest, which a model may generate, is a rest. Any other character is a ValueError."""
    text = text.split(END)[0]
    symbols = np.array([ord(c) for c in text[:len(text) // 4 * 4]], dtype=np.int64).reshape(-1, 4)
    struck = (symbols >= ord("0")) & (symbols <= 126)
    if (bad := ~(struck | (symbols == ord(REST)) | (symbols == ord(HOLD)))).any():
        at = int(bad.argmax())
        raise ValueError(f"text: has {text[at]!r} at position {at}; expects '0' to '~' for a pitch, '-' to hold, '.' to rest")
    pitch = np.full(symbols.shape, -1, np.int8)
    for step, row in enumerate(symbols):
        held = pitch[step - 1] if step else np.full(4, -1)
        pitch[step] = np.where(struck[step], row - STRIKE, np.where(row == ord(HOLD), held, -1))
    return Chorale(pitch, struck)


def transpose(piece: Chorale, semitones: int) -> Chorale:
    """The same chorale, higher or lower by so many semitones."""
    pitch = np.where(piece.pitch >= 0, piece.pitch.astype(np.int32) + semitones, -1)
    _check_range(pitch, f"semitones: {semitones} leads to")
    return Chorale(pitch.astype(np.int8), piece.onset, piece.name, piece.sharps, piece.time)


def _check_range(pitch: np.ndarray, subject: str) -> None:
    sung = pitch[pitch >= 0]
    if sung.size and not (sung.min() >= 36 and sung.max() <= 114):
        raise ValueError(f"{subject} pitches from {sung.min()} to {sung.max()}; expects 36 to 114, which have a character each")


# ------------------------------------------------------------------------------------------------ notes, MIDI and sound

def notes_of(piece: Chorale) -> list[Note]:
    """Every note with its length: it ends where its voice strikes again or rests. In order of start."""
    notes = []
    for voice in range(piece.pitch.shape[1]):
        pitch, onset = piece.pitch[:, voice], piece.onset[:, voice] & (piece.pitch[:, voice] >= 0)
        ends = np.flatnonzero(np.append(onset | (pitch < 0), True))
        notes += [Note(voice, int(pitch[start]), int(start), int(ends[ends > start][0] - start)) for start in np.flatnonzero(onset)]
    return sorted(notes, key=lambda note: (note.start, note.voice))


def notes_of_chords(chords: Sequence[Sequence[int]]) -> list[Note]:
    """Notes of a list of chords; a pitch in successive chords is one held note, for a piano roll can't tell held from struck again."""
    notes: list[Note] = []
    sounding: dict[int, int] = {}                                      # pitch -> start
    for step, chord in enumerate([*chords, []]):
        for pitch in [p for p in sounding if p not in chord]:
            start = sounding.pop(pitch)
            notes.append(Note(0, int(pitch), start, step - start))
        for pitch in chord:
            sounding.setdefault(pitch, step)
    return sorted(notes, key=lambda note: (note.start, note.pitch))


def write_midi(path: PathLike, notes: Sequence[Note], beats_per_minute: float = 80, steps_per_beat: int = 4, *, sharps: int | None = None,
               time: str | None = None) -> None:
    """A standard MIDI file, format 1: a track of tempo, key and time, and a track for each voice. Written atomically.

    A key that is struck while it sounds in its voice ends there first. sharps: of the key signature, flats are negative; time: as "3/4"."""
    notes = _checked_notes(notes, beats_per_minute, steps_per_beat)
    voices = sorted({note.voice for note in notes})
    if len(voices) > len(CHANNELS):
        raise ValueError(f"notes: there are {len(voices)} voices; a MIDI file has {len(CHANNELS)} channels besides the drums'")
    channel = {voice: CHANNELS[voice if voices[-1] < len(CHANNELS) else i] for i, voice in enumerate(voices)}
    ticks = 120                                                        # a step; a beat is steps_per_beat of them
    tracks = [b"\x00\xff\x51\x03" + round(60_000_000 / beats_per_minute).to_bytes(3, "big") + _signatures(sharps, time)]
    for voice in voices:
        events = []                                                    # (tick, 0 for off or 1 for on, pitch): off goes before on
        for note in _without_overlaps([n for n in notes if n.voice == voice]):
            events += [(note.start * ticks, 1, note.pitch), ((note.start + note.length) * ticks, 0, note.pitch)]
        track, now = bytes([0, 0xC0 | channel[voice], 52 if voice < 4 else 0]), 0          # programme 52: choir
        for tick, on, pitch in sorted(events):
            track += _variable_length(tick - now) + bytes([(0x90 if on else 0x80) | channel[voice], pitch, 80 if on else 0])
            now = tick
        tracks.append(track)
    content = b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), ticks * steps_per_beat)
    for track in tracks:
        track += b"\x00\xff\x2f\x00"                                   # the end of a track
        content += b"MTrk" + struct.pack(">I", len(track)) + track
    atomic_write(path, content)


def _signatures(sharps: int | None, time: str | None) -> bytes:
    """Meta events 58, the time signature (its denominator as a power of 2), and 59, the key signature."""
    events = b""
    if time is not None:
        above, _, below = time.partition("/")
        if not (above.isdecimal() and below in ("1", "2", "4", "8", "16", "32", "64") and 1 <= int(above) <= 255):
            raise ValueError(f"time is {time!r}; expects a time signature such as '3/4'")
        events += b"\x00\xff\x58\x04" + bytes([int(above), int(below).bit_length() - 1, 24, 8])
    if sharps is not None:
        if isinstance(sharps, bool) or not -7 <= sharps <= 7:
            raise ValueError(f"sharps is {sharps!r}; expects -7 (seven flats) to 7")
        events += b"\x00\xff\x59\x02" + struct.pack(">bB", sharps, 0)
    return events


def _without_overlaps(notes: Sequence[Note]) -> list[Note]:
    """Notes of one voice, each key ending at the latest where the same key is struck again; of two that start together, the longer one."""
    apart: list[Note] = []
    last: dict[int, int] = {}                                          # pitch -> index of its last note
    for note in sorted(notes, key=lambda n: (n.start, n.length)):
        before = last.get(note.pitch)
        if before is not None and apart[before].start == note.start:
            apart[before] = note
            continue
        if before is not None and apart[before].start + apart[before].length > note.start:
            apart[before] = apart[before]._replace(length=note.start - apart[before].start)
        last[note.pitch] = len(apart)
        apart.append(note)
    return apart


def _variable_length(number: int) -> bytes:
    """Seven bits a byte, highest first; all but the last have their top bit set."""
    content = bytes([number & 0x7F])
    while number := number >> 7:
        content = bytes([number & 0x7F | 0x80]) + content
    return content


def synthesise(notes: Sequence[Note], beats_per_minute: float = 80, steps_per_beat: int = 4, rate: int = 22_050) -> np.ndarray:
    """(samples,) float32 in [-1, 1]: each note is its first five harmonics under a soft attack and a slow decay."""
    notes = _checked_notes(notes, beats_per_minute, steps_per_beat)
    seconds = 60 / beats_per_minute / steps_per_beat                   # a step
    release = 0.15                                                     # seconds that a note rings on
    end = max((note.start + note.length for note in notes), default=0) * seconds + release
    sound = np.zeros(int(end * rate) + 1, np.float32)
    for note in notes:
        t = np.arange(int((note.length * seconds + release) * rate)) / rate
        envelope = np.minimum(1, t / 0.02) * np.exp(-0.6 * t) * np.clip((note.length * seconds + release - t) / release, 0, 1)
        frequency = 440 * 2 ** ((note.pitch - 69) / 12)
        wave = sum(np.sin(2 * np.pi * frequency * k * t) / k**1.5 for k in range(1, 6) if frequency * k < rate / 2)
        start = int(note.start * seconds * rate)
        sound[start:start + len(t)] += (envelope * wave)[:len(sound) - start]
    return sound * np.float32(0.9 / max(float(np.abs(sound).max()), 1e-9))


def write_wav(path: PathLike, notes: Sequence[Note], beats_per_minute: float = 80, steps_per_beat: int = 4, rate: int = 22_050) -> None:
    """The sound of the notes (`synthesise`) as a 16-bit WAV file of one channel. Written atomically."""
    from scipy.io import wavfile

    content = BytesIO()
    wavfile.write(content, rate, (synthesise(notes, beats_per_minute, steps_per_beat, rate) * 32767).astype(np.int16))
    atomic_write(path, content.getvalue())


def _checked_notes(notes: Sequence[Note], beats_per_minute: float, steps_per_beat: int) -> list[Note]:
    """The notes with Python's integers, which don't overflow as an int8 does."""
    whole = []
    for note in notes:
        try:
            voice, pitch, start, length = map(operator.index, note)
        except (TypeError, ValueError):
            raise ValueError(f"notes: {shorten(note)} is no (voice, pitch, start, length) of whole numbers") from None
        if not 0 <= pitch <= 127 or length < 1 or start < 0 or voice < 0 or start + length > MAX_STEPS:
            raise ValueError(f"notes: {(voice, pitch, start, length)} is no (voice, pitch, start, length); expects a pitch of 0 to 127, a length "
                             f"of at least 1, and an end within {MAX_STEPS:,} steps")
        whole.append(Note(voice, pitch, start, length))
    steps_are_whole = isinstance(steps_per_beat, (int, np.integer)) and not isinstance(steps_per_beat, bool)
    if not (4 <= beats_per_minute <= 1000 and steps_are_whole and 1 <= steps_per_beat <= 96):
        raise ValueError(f"beats_per_minute is {beats_per_minute}, steps_per_beat is {steps_per_beat}; expects 4 to 1000, and a whole number "
                         "from 1 to 96")
    return whole
