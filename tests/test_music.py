"""Laws of zoo.music: a chorale survives being text, notes, a roll or a MIDI file; wrong music is named."""

import json
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zoo import data
from zoo.data import music
from zoo.data.music import Chorale, Note
from zoo.storage import WrongFile

quick = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
any_text = st.text("H-.PT~0", max_size=60)
any_chords = st.lists(st.lists(st.integers(21, 108), unique=True, max_size=5).map(sorted), max_size=12)
any_notes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 127), st.integers(0, 400), st.integers(1, 99)).map(lambda t: Note(*t)),
                     max_size=12, unique_by=lambda n: (n.voice, n.pitch))


def same(a: Chorale, b: Chorale) -> bool:
    return np.array_equal(a.pitch, b.pitch) and np.array_equal(a.onset, b.onset)


def test_every_chorale_that_ships_survives_being_text():
    pieces = music.chorales()
    assert len(pieces) == 363 and sum(len(p.pitch) for p in pieces) == 79_204 and pieces[0].name == "bwv10.7" and pieces[0].sharps == -2
    for piece in pieces:
        text = music.to_text(piece)
        assert len(text) == 4 * len(piece.pitch) and same(music.from_text(text + music.END + "HHHH"), piece)


def test_copies_of_a_chorale_stay_in_one_part():
    pieces = music.chorales()
    copies = [Chorale(p.pitch.copy(), p.onset, f"copy {i}") for i, p in enumerate(pieces)]
    parts = music.split_chorales(pieces + copies)
    assert sum(map(len, parts.values())) == 2 * 363 and all(len(parts[k]) >= 50 for k in ("valid", "test"))
    notes = {part: {p.pitch.tobytes() for p in members} for part, members in parts.items()}
    assert not (notes["train"] & notes["valid"] | notes["train"] & notes["test"] | notes["valid"] & notes["test"])


@quick
@given(any_text)
def test_whatever_a_model_writes_is_a_chorale(text):
    piece = music.from_text(text)
    assert piece.pitch.shape == piece.onset.shape == (len(text) // 4, 4)
    assert same(music.from_text(music.to_text(piece)), piece)
    assert np.all(piece.pitch[piece.onset] >= 36)


@quick
@given(any_text, st.integers(-5, 5))
def test_transposing_back_is_nothing(text, semitones):
    piece = music.from_text(text.replace("~", "P").replace("0", "H"))
    there = music.transpose(piece, semitones)
    assert same(music.transpose(there, -semitones), piece)
    assert np.array_equal(there.pitch[piece.pitch >= 0], piece.pitch[piece.pitch >= 0] + semitones)


@quick
@given(any_text)
def test_notes_sound_exactly_where_the_voices_sing(text):
    piece = music.from_text(text)
    pitch, onset = np.full_like(piece.pitch, -1), np.zeros_like(piece.onset)
    for note in music.notes_of(piece):
        assert np.all(pitch[note.start:note.start + note.length, note.voice] == -1)      # one voice, one note at a time
        pitch[note.start:note.start + note.length, note.voice] = note.pitch
        onset[note.start, note.voice] = True
    assert np.array_equal(pitch, piece.pitch) and np.array_equal(onset, piece.onset)


@quick
@given(any_chords)
def test_roll_and_notes_hold_the_chords(chords):
    roll = music.piano_roll(chords)
    assert roll.shape == (len(chords), 88) and music.chords_of(roll) == chords
    assert music.chords_of(np.where(roll == 1, np.float32(0.51), np.float32(0.5))) == chords  # one half sounds not
    sounding = [[] for _ in chords]
    for note in music.notes_of_chords(chords):
        for step in range(note.start, note.start + note.length):
            sounding[step].append(note.pitch)
    assert [sorted(chord) for chord in sounding] == chords


def test_the_jsb_file_is_read_chord_by_chord_and_padding_holds_no_notes(tmp_path, rng):
    """The layout of github.com/czhuang/JSB-Chorales-dataset, in which -1 is silence."""
    parts = {part: [[sorted(rng.choice(np.arange(43, 97), 4, replace=False).tolist()) for _ in range(length)] for length in lengths]
             for part, lengths in {"train": (9, 1, 4), "valid": (2,), "test": (5, 7)}.items()}
    parts["test"][0][2] = [-1, 50, -1, 60]
    path = tmp_path / "jsb.json"
    path.write_text(json.dumps(parts))
    pieces = music.load_jsb(path)
    parts["test"][0][2] = [50, 60]
    assert pieces == parts
    rolls, mask = data.pad([music.piano_roll(piece) for piece in pieces["test"]])
    assert rolls.shape == (2, 7, 88) and mask.sum(1).tolist() == [5, 7] and not rolls[~mask].any()
    assert rolls.sum() == 4 * 12 - 2


# ------------------------------------------------------------------------------------------------ files

def read_midi(content: bytes) -> tuple[int, list[Note]]:
    """(ticks in a beat, notes in ticks, with the channel as voice), by the letter of the standard."""
    assert content[:4] == b"MThd"
    _, kind, tracks, division = struct.unpack(">IHHH", content[4:14])
    assert kind == 1
    at, notes = 14, []
    for _ in range(tracks):
        assert content[at:at + 4] == b"MTrk"
        end = at + 8 + struct.unpack(">I", content[at + 4:at + 8])[0]
        at, now, sounding = at + 8, 0, {}
        while at < end:
            step = 0
            while True:
                step, at = step << 7 | content[at] & 0x7F, at + 1
                if content[at - 1] < 128:
                    break
            now += step
            status = content[at]
            if status == 0xFF:
                at += 3 + content[at + 2]
            elif status & 0xF0 == 0xC0:
                at += 2
            else:
                pitch, velocity = content[at + 1:at + 3]
                if status & 0xF0 == 0x90 and velocity:
                    sounding[pitch] = now
                else:
                    notes.append(Note(status & 15, pitch, sounding[pitch], now - sounding.pop(pitch)))
                at += 3
        assert at == end and not sounding
    assert at == len(content)
    return division, notes


@quick
@given(notes=any_notes, steps=st.sampled_from([1, 4, 24]))
def test_midi_file_holds_the_notes(notes, steps, tmp_path):
    music.write_midi(tmp_path / "x.mid", notes, steps_per_beat=steps)
    division, read = read_midi((tmp_path / "x.mid").read_bytes())
    tick = division // steps
    assert sorted(Note(n.voice, n.pitch, n.start // tick, n.length // tick) for n in read) == sorted(notes)
    assert all(n.start % tick == n.length % tick == 0 for n in read)


def test_repeated_note_is_struck_again_in_midi(tmp_path):
    notes = [Note(0, 60, 0, 4), Note(0, 60, 4, 4)]
    music.write_midi(tmp_path / "x.mid", notes)
    assert [n[1:] for n in read_midi((tmp_path / "x.mid").read_bytes())[1]] == [(60, 0, 480), (60, 480, 480)]


def test_wav_has_the_pitch_and_the_length(tmp_path):
    from scipy.io import wavfile
    music.write_wav(tmp_path / "x.wav", [Note(0, 69, 0, 8)], beats_per_minute=120)
    rate, sound = wavfile.read(tmp_path / "x.wav")
    assert sound.dtype == np.int16 and abs(len(sound) / rate - 1.15) < 0.01 and 0.8 < np.abs(sound.astype(float)).max() / 32767 < 1
    loudest = np.abs(np.fft.rfft(sound)).argmax() * rate / len(sound)
    assert abs(loudest - 440) < 2


# ------------------------------------------------------------------------------------------------ errors, in one line

@pytest.mark.parametrize("call, words", [
    (lambda: music.from_text("HHH!"), "'!' at position 3"), (lambda: music.piano_roll([[20]]), "pitch 20; expects 21 to 108"),
    (lambda: music.chords_of(np.zeros((2, 87))), "expects \\(steps, 88\\)"), (lambda: music.transpose(music.from_text("~~~~"), 1), "pitches from 115"),
    (lambda: music.to_text(Chorale(np.full((1, 4), 35, np.int8), np.ones((1, 4), bool))), "expects 36 to 114"),
    (lambda: music.write_midi("x", [Note(0, 128, 0, 1)]), "pitch of 0 to 127"), (lambda: music.write_midi("x", [Note(0, 1, 0, 0)]), "length of at least 1"),
    (lambda: music.synthesise([], 0), "beats_per_minute is 0")])
def test_wrong_music_is_refused(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content, words", [
    ({"train": [], "valid": []}, "no list 'test'"), ({"train": [[3]], "valid": [], "test": []}, "train is not pieces"),
    ({"train": [[[60], [60, "x"]]], "valid": [], "test": []}, "train is not pieces"),
    ({"train": [[[60], 3]], "valid": [], "test": []}, "train is not pieces"),
    ({"train": [[[60, 200]]], "valid": [], "test": []}, "the pitch 200")])
def test_wrong_jsb_files_are_named(content, words, tmp_path):
    (tmp_path / "j.json").write_text(json.dumps(content))
    with pytest.raises(WrongFile, match=words):
        music.load_jsb(tmp_path / "j.json")
    (tmp_path / "j.json").write_text(json.dumps({"train": [[[60, -1]]], "valid": [], "test": []}))
    assert music.load_jsb(tmp_path / "j.json")["train"] == [[[60]]]


@quick
@given(pitch=hnp.arrays("i1", (5, 4), elements=st.integers(-1, 3).map(lambda p: p if p < 0 else p + 60)), onset=hnp.arrays(bool, (5, 4)))
def test_text_settles_what_onsets_leave_open(pitch, onset):
    """A new pitch is struck even where the data forgot to say so; no pitch is lost."""
    back = music.from_text(music.to_text(Chorale(pitch, onset)))
    assert np.array_equal(back.pitch, pitch) and np.all(back.onset[onset & (pitch >= 0)])


# ------------------------------------------------------------------------------------------------ as other readers read it

def messages(path, notes, **settings):
    mido = pytest.importorskip("mido")
    music.write_midi(path, notes, **settings)
    return mido.MidiFile(path)


def test_voices_leave_the_drums_alone(tmp_path):
    file = messages(tmp_path / "x.mid", [Note(voice, 60, 0, 4) for voice in range(15)])
    channels = [m.channel for track in file.tracks for m in track if m.type == "note_on"]
    assert len(set(channels)) == 15 and 9 not in channels and channels[:9] == list(range(9))
    with pytest.raises(ValueError, match="there are 16 voices"):
        music.write_midi(tmp_path / "y.mid", [Note(voice, 60, 0, 4) for voice in range(16)])


def test_a_key_struck_while_it_sounds_ends_there(tmp_path):
    track = messages(tmp_path / "x.mid", [Note(0, 60, 0, 8), Note(0, 60, 4, 8), Note(0, 60, 4, 2)]).tracks[1]
    assert [(m.type, m.time) for m in track if not m.is_meta][1:] == [("note_on", 0), ("note_off", 480), ("note_on", 0), ("note_off", 960)]


def test_key_and_time_signature_are_written(tmp_path):
    track = messages(tmp_path / "x.mid", [Note(0, 60, 0, 1)], sharps=-2, time="3/4").tracks[0]
    found = {m.type: m for m in track}
    assert found["key_signature"].key == "Bb" and (found["time_signature"].numerator, found["time_signature"].denominator) == (3, 4)
    for wrong in ({"time": "3/5"}, {"time": "x"}, {"sharps": 8}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            music.write_midi(tmp_path / "y.mid", [Note(0, 60, 0, 1)], **wrong)


@pytest.mark.parametrize("note", [Note(0, 60, 0.5, 1), Note(0, 60.0, 0, 1), ("a",), Note(0, 60, 10**9, 1)])
def test_notes_are_whole_numbers_within_bounds(note, tmp_path):
    with pytest.raises(ValueError, match="^notes: "):
        music.write_midi(tmp_path / "x.mid", [note])
    narrow = Note(*np.array([0, 60, 100, 100], np.int8))
    assert messages(tmp_path / "x.mid", [narrow]).length == pytest.approx(200 * 60 / 80 / 4)


@pytest.mark.parametrize("pitch", [60.7, "60", True, None, 10**400])
def test_pitches_of_a_jsb_file_are_whole_numbers(pitch, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"train": [[[pitch]]], "valid": [], "test": []}))
    with pytest.raises(WrongFile, match=r"x\.json: train "):
        music.load_jsb(tmp_path / "x.json")


@pytest.mark.parametrize("sharps", range(-7, 8))
@pytest.mark.parametrize(("time", "event"), [("1/1", [1, 0]), ("3/4", [3, 2]), ("6/8", [6, 3]), ("255/64", [255, 6])])
def test_signatures_are_written_by_the_letter_of_the_standard(sharps, time, event):
    """Standard MIDI Files 1.0: FF 58 04, the denominator as a power of 2, 24 clocks a click, 8 32nds a quarter; FF 59 02, sharps, 0 for major."""
    assert music._signatures(sharps, time) == bytes([0, 0xFF, 0x58, 4, *event, 24, 8, 0, 0xFF, 0x59, 2, sharps % 256, 0])


@pytest.mark.parametrize(("sharps", "time"), [(-8, None), (8, None), (True, None), (None, "0/4"), (None, "256/4"), (None, "3/128"), (None, "3/"), (None, "-3/4")])
def test_signatures_that_the_standard_has_no_place_for_are_refused(sharps, time):
    with pytest.raises(ValueError, match=f"^{'sharps' if time is None else 'time'} is {re.escape(repr(sharps if time is None else time))}; expects"):
        music._signatures(sharps, time)


def test_the_lowest_of_midi_s_notes_is_one():
    piece = music.Chorale(np.array([[0, -1, 36, -1]] * 2, np.int8), np.array([[True, False, True, False], [False] * 4]))
    assert music.notes_of(piece) == [music.Note(0, 0, 0, 2), music.Note(2, 36, 0, 2)]


def test_a_step_lasts_a_quarter_of_a_beat_at_eighty_beats_a_minute():
    notes = [music.Note(0, 60, 0, 16)]
    assert np.array_equal(music.synthesise(notes), music.synthesise(notes, 80, 4, 22_050))
    slower, quicker = (len(music.synthesise(notes, beats)) for beats in (40, 80))
    assert slower - quicker == round(16 * (60 / 40 - 60 / 80) / 4 * 22_050)


def test_a_note_rings_out_after_its_end():
    """For 0.15 s, to silence; an octave higher the same shape has twice the frequency."""
    sound = music.synthesise([music.Note(0, 69, 0, 4)], 60, 4)
    assert len(sound) == int(1.15 * 22_050) + 1 and np.abs(sound).max() == pytest.approx(0.9)
    loudness = [float(np.abs(sound[int(t * 22_050) :][:221]).max()) for t in (0.1, 0.98, 1.05, 1.1, 1.14)]
    assert loudness == sorted(loudness, reverse=True) and loudness[-1] < 0.07 * loudness[0] < 0.2 * loudness[1]
    spectrum = np.abs(np.fft.rfft(sound[:22_050]))
    assert abs(int(spectrum.argmax()) - 440) <= 1


# ------------------------------------------------------------------------------------------------ by the letter

def test_a_new_pitch_is_struck_and_a_rest_is_not():
    pitch = np.array([[60, -1, 0, 62], [60, -1, 0, 63], [60, 61, 0, 63]], np.int8)
    onset = np.array([[False, True, False, True], [True, True, False, False], [False] * 4])
    assert music._sung(pitch, onset).tolist() == [[True, False, True, True], [True, False, False, True], [False, True, False, False]]


def test_a_checksum_of_the_pitches_says_which_part_a_chorale_is_in():
    """0 of 10 is the test set, 1 the validation set: figures hold only as long as this does."""
    pieces = [Chorale(np.full((1, 4), pitch, np.int8), np.ones((1, 4), bool), str(pitch)) for pitch in range(36, 90)]
    parts = {piece.name: part for part, members in music.split_chorales(pieces).items() for piece in members}
    expected = {0: "test", 1: "valid"}
    assert parts == {str(p): expected.get(zlib.crc32(bytes([p] * 4)) % 10, "train") for p in range(36, 90)} and len(set(parts.values())) == 3


def test_a_jsb_file_may_have_so_many_chords_on_the_keys_of_a_piano(tmp_path, monkeypatch):
    monkeypatch.setattr(music, "MAX_STEPS", 3)

    def read(train, test=()):
        (tmp_path / "x.json").write_text(json.dumps({"train": train, "valid": [], "test": list(test)}))
        return music.load_jsb(tmp_path / "x.json")

    assert read([[[21], [108]]], [[[60]]]) == {"train": [[[21], [108]]], "valid": [], "test": [[[60]]]}
    for train, test, words in (([[[60]] * 2], [[[60]] * 2], "has 4 chords, 2 to train on; expects 1 to 3"), ([[]], [[[60]]], "has 1 chords, 0 to train on"),
                               ([[[20]]], (), "the pitch 20; expects 21 to 108"), ([[[109]]], (), "the pitch 109")):
        with pytest.raises(WrongFile, match=words):
            read(train, test)
    assert music.piano_roll([[21, 108], []]).nonzero()[1].tolist() == [0, 87]
    with pytest.raises(ValueError, match="step 1 has the pitch 109"):
        music.piano_roll([[60], [109]])
    for shape in ((2, 87), (88,)):
        with pytest.raises(ValueError, match="expects .steps, 88."):
            music.chords_of(np.zeros(shape))


def test_a_chorale_is_spelled_as_the_module_says():
    """chr(pitch + 12) strikes: 60, middle C, is H, and 36 to 114 have a character each.  What would be a fifth voice's is left out."""
    piece = music.from_text("H0~.--.-HH")
    assert piece.pitch.tolist() == [[60, 36, 114, -1], [60, 36, -1, -1]] and piece.onset.tolist() == [[True, True, True, False], [False] * 4]
    assert music.from_text("HHHH\nPPPP").pitch.tolist() == [[60] * 4]
    for wrong in ("HH/H", "HHH\x7f", "\x00HHH"):
        with pytest.raises(ValueError, match=f"text: has .* at position {2 if '/' in wrong else 0 if wrong[0] != 'H' else 3}; expects"):
            music.from_text(wrong)
    with pytest.raises(ValueError, match="-1 leads to pitches from 35"):
        music.transpose(piece, -1)
    higher = music.transpose(Chorale(np.array([[36, -1, 113, 40]], np.int8), np.ones((1, 4), bool), "x", 3, "3/4"), 1)
    assert higher.pitch.tolist() == [[37, -1, 114, 41]] and (higher.name, higher.sharps, higher.time) == ("x", 3, "3/4")


def test_a_pitch_in_successive_chords_is_one_note():
    assert music.notes_of_chords([[60, 64], [60], [], [60]]) == [Note(0, 60, 0, 2), Note(0, 64, 0, 1), Note(0, 60, 3, 1)]
    piece = music.from_text("H.P." + "-.H." + "HP.." + "-...")
    assert music.notes_of(piece) == [Note(0, 60, 0, 2), Note(2, 68, 0, 1), Note(2, 60, 1, 1), Note(0, 60, 2, 2), Note(1, 68, 2, 1)]


@pytest.mark.parametrize(("number", "content"), [
    (0, "00"), (0x40, "40"), (0x7F, "7f"), (0x80, "8100"), (0x2000, "c000"), (0x3FFF, "ff7f"), (0x4000, "818000"), (0x100000, "c08000"), (0x1FFFFF, "ffff7f"),
    (0x200000, "81808000"), (0x8000000, "c0808000"), (0xFFFFFFF, "ffffff7f")])
def test_quantities_are_those_of_the_standards_table(number, content):
    """Standard MIDI Files 1.0, "variable length quantities"."""
    assert music._variable_length(number).hex() == content


def test_every_byte_of_a_midi_file(tmp_path):
    """Tempo in microseconds a quarter, programme 52 (choir) for four voices and 0 for others, velocity 80, 120 ticks a step; off before on."""
    music.write_midi(tmp_path / "x.mid", [Note(3, 60, 0, 1), Note(4, 62, 1, 2), Note(3, 60, 1, 1)], beats_per_minute=120, steps_per_beat=2)
    header = "4d546864 00000006 0001 0003 00f0"
    tempo = "4d54726b 0000000b 00ff5103 07a120 00ff2f00"
    third = "4d54726b 00000017 00c334 00933c50 78833c00 00933c50 78833c00 00ff2f00"
    fourth = "4d54726b 00000010 00c400 78943e50 8170843e00 00ff2f00"
    assert (tmp_path / "x.mid").read_bytes() == bytes.fromhex(header + tempo + third + fourth)


@pytest.mark.parametrize(("voices", "channels"), [((0, 14), [0, 15]), ((8, 9), [8, 10]), ((0, 15), [0, 1]), ((20, 30), [0, 1])])
def test_a_voice_has_the_channel_of_its_number_as_long_as_there_is_one(voices, channels, tmp_path):
    music.write_midi(tmp_path / "x.mid", [Note(v, 60, 0, 4) for v in voices])
    assert [n.voice for n in read_midi((tmp_path / "x.mid").read_bytes())[1]] == channels


def test_of_notes_that_start_together_the_longer_one_sounds():
    notes = [Note(0, 60, 0, 2), Note(0, 60, 0, 5), Note(0, 62, 1, 1), Note(0, 60, 3, 1), Note(0, 60, 9, 1)]
    assert music._without_overlaps(notes) == [Note(0, 60, 0, 3), Note(0, 62, 1, 1), Note(0, 60, 3, 1), Note(0, 60, 9, 1)]


@pytest.mark.parametrize("rate", [4000, 8000])
def test_a_sound_is_the_sum_of_its_notes_harmonics(rate):
    """Up to the fifth below half the rate, under an attack of 0.02 s, a decay and 0.15 s of release; the loudest sample is 0.9."""
    def heard(pitch, seconds):
        t, f = np.arange(int((seconds + 0.15) * rate)) / rate, 440 * 2 ** ((pitch - 69) / 12)
        shape = np.interp(t, [0, 0.02], [0, 1]) * np.exp(-0.6 * t) * np.interp(t, [seconds, seconds + 0.15], [1, 0])
        return shape * sum(np.sin(2 * np.pi * f * k * t) / k**1.5 for k in (1, 2, 3, 4, 5) if f * k < rate / 2)

    first, second = heard(69, 0.5), heard(57, 1.0)
    expected = np.zeros(int(1.65 * rate) + 1)
    expected[: len(first)] += first
    expected[rate // 2 : rate // 2 + len(second)] += second[: len(expected) - rate // 2]
    sound = music.synthesise([Note(0, 69, 0, 2), Note(1, 57, 2, 4)], 60, 4, rate)
    assert sound.dtype == np.float32 and len(sound) == len(expected) and np.allclose(sound, expected * 0.9 / np.abs(expected).max(), atol=1e-5)
    assert music.synthesise([], 80, 4, rate).tolist() == [0] * (int(0.15 * rate) + 1)


def test_a_wav_file_holds_the_sound_in_16_bits(tmp_path):
    from scipy.io import wavfile
    notes = [Note(0, 69, 0, 1)]
    music.write_wav(tmp_path / "x.wav", notes, 120, 8, 8000)
    rate, sound = wavfile.read(tmp_path / "x.wav")
    assert rate == 8000 and np.array_equal(sound, np.trunc(music.synthesise(notes, 120, 8, 8000) * 32767))


@pytest.mark.parametrize(("allowed", "refused"), [
    ([Note(0, 0, 0, 1)], [Note(0, -1, 0, 1)]), ([Note(0, 127, 0, 1)], [Note(0, 128, 0, 1)]), ([Note(0, 60, 0, 1)], [Note(0, 60, -1, 2)]),
    ([Note(0, 60, 3, 1)], [Note(0, 60, 3, 0)]), ([Note(7, 60, 0, 1)], [Note(-1, 60, 0, 1)]), ([Note(0, 60, 999_999, 1)], [Note(0, 60, 999_999, 2)])])
def test_notes_within_bounds_are_taken_and_others_named(allowed, refused):
    assert music._checked_notes(allowed, 80, 4) == allowed
    with pytest.raises(ValueError, match="^notes: .* is no .voice, pitch, start, length."):
        music._checked_notes(refused, 80, 4)


@pytest.mark.parametrize(("beats", "steps", "allowed"), [(4, 1, True), (1000, 96, True), (80.5, np.int64(4), True), (3.99, 4, False), (1000.1, 4, False),
                                                         (80, 0, False), (80, 97, False), (80, True, False), (80, 4.0, False)])
def test_beats_and_steps_within_bounds_are_taken_and_others_named(beats, steps, allowed):
    if allowed:
        assert music._checked_notes([], beats, steps) == []
    else:
        with pytest.raises(ValueError, match="expects 4 to 1000, and a whole number from 1 to 96"):
            music._checked_notes([], beats, steps)
