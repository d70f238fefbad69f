"""Sound and speech: spectrograms and the way back, files that other readers read as meant, voices held out, words that are said."""

from __future__ import annotations

import ctypes
import io
import json
import subprocess
import sys
import wave
import zlib

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

import zoo
from zoo.__main__ import main
from zoo.data import espeak, sound, speech
from zoo.drawing.pictures import save_grid
from zoo.multimodal.captions import Captions
from zoo.multimodal.speech import Speech
from zoo.multimodal.speech_judge import SpeechJudge, numbers, recognised
from zoo.recipes.speech import SpeechTraining, SpokenWords
from zoo.storage import WrongFile

TINY = {"channels": 8, "multipliers": (1, 1), "unshuffle": 4, "text_width": 8, "text_heads": 2, "vocabulary": speech.VOCABULARY, "evaluations": 2,
        "sampler": "euler"}
needs_espeak = pytest.mark.skipif("espeakng_loader" not in sys.modules and not __import__("importlib.util").util.find_spec("espeakng_loader"),
                                  reason="espeakng-loader isn't installed")


def tone(hertz, seconds=sound.SAMPLES / sound.RATE):
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * sound.RATE)) / sound.RATE).astype(np.float32)


# --- spectrograms


def test_the_spectrum_is_scipys(rng):
    x = rng.standard_normal((2, sound.SAMPLES)).astype(np.float32)
    window = scipy.signal.windows.hann(sound.WINDOW, sym=False)
    theirs = scipy.signal.ShortTimeFFT(window, sound.HOP, sound.RATE).stft(x, p0=0, p1=sound.FRAMES)
    mine = sound.stft(x)
    assert mine.shape == (2, 257, 64) and np.allclose(np.abs(mine), np.abs(theirs), atol=1e-3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(2, 40))
@settings(max_examples=10)
def test_a_spectrum_leads_back_to_its_waveform(seed, n, frames):
    x = np.random.default_rng(seed).standard_normal((n, sound.HOP * (frames - 1))).astype(np.float32)
    assert np.allclose(sound.inverse_stft(sound.stft(x)), x, atol=1e-5)


def test_filters_are_triangles_equally_spaced_in_mels():
    filters, f = sound.mel_filters(), np.fft.rfftfreq(sound.WINDOW, 1 / sound.RATE)
    assert filters.shape == (32, 257) and filters.min() == 0 and 0.7 < filters.max() <= 1
    assert np.isclose(sound.mels(700), 2595 * np.log10(2)) and np.isclose(sound.mels(1000), 1000, atol=0.1)
    inner = (f > 200) & (f < 3700)
    assert np.allclose(filters.sum(0)[inner], 1, atol=1e-5)  # neighbours share what lies between their centres
    assert (np.diff(sound.mels(f[filters.argmax(1)])) > 0).all()


@pytest.mark.parametrize("hertz", [200, 440, 1000, 2500])
def test_a_tone_is_bright_where_it_sounds_and_sounds_where_it_is_bright(hertz):
    (picture,) = sound.spectrogram(tone(hertz)[None])
    assert picture.shape == (32, 64) and picture.dtype == np.float32 and 0 <= picture.min() and picture.max() <= 1
    filters, f = sound.mel_filters()[::-1], np.fft.rfftfreq(sound.WINDOW, 1 / sound.RATE)
    row = picture[:, 32].argmax()
    heard = np.flatnonzero(filters[row])
    assert f[heard[0]] - 20 <= hertz <= f[heard[-1]] + 20
    (x,) = sound.waveform(picture[None])
    spectrum = np.abs(np.fft.rfft(x))
    assert abs(np.fft.rfftfreq(len(x), 1 / sound.RATE)[spectrum.argmax()] - hertz) < 60 and np.isclose(np.abs(x).max(), 0.9)


def test_what_comes_back_has_nearly_the_same_picture():
    t = np.arange(sound.SAMPLES) / sound.RATE
    x = np.stack([np.sin(2 * np.pi * (300 * t + 500 * t**2)), np.sign(np.sin(2 * np.pi * 150 * t)) * np.sin(np.pi * t)]).astype(np.float32)
    picture = sound.spectrogram(0.9 * x)
    again = sound.spectrogram(sound.waveform(picture))
    assert np.abs(again - picture).mean() < 0.06
    assert np.array_equal(sound.waveform(picture, seed=1), sound.waveform(picture, seed=1)) and not np.array_equal(
        sound.waveform(picture, seed=1), sound.waveform(picture, seed=2))
    assert np.isfinite(sound.waveform(np.zeros((1, 32, 64)))).all()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: sound.spectrogram(np.zeros((2, 100))), r"waveforms: shape is \(2, 100\); it is \(n, 8064\)"),
    (lambda: sound.waveform(np.zeros((2, 64, 32))), r"pictures: shape is \(2, 64, 32\)"),
    (lambda: sound.waveform(np.zeros((2, 32, 64)), iterations=0), "iterations is 0"),
    (lambda: sound.write_wav("x.wav", np.full(3, np.nan)), "finite"), (lambda: sound.write_wav("x.wav", np.zeros((2, 2))), r"shape is \(2, 2\)")])
def test_other_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- files


def test_a_written_file_is_what_others_read(tmp_path):
    sound.write_wav(tmp_path / "x.wav", tone(440))
    rate, x = wavfile.read(tmp_path / "x.wav")
    assert rate == 8000 and x.dtype == np.int16 and np.allclose(x / 32767, tone(440), atol=1e-4)
    assert np.allclose(sound.read_wav(tmp_path / "x.wav"), tone(440), atol=1e-3)


@pytest.mark.parametrize(("kind", "scale"), [(np.uint8, 127), (np.int16, 32767), (np.int32, 2**31 - 129)])
@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_files_of_other_rates_and_widths_sound_the_same(tmp_path, kind, scale, rate):
    x = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    stored = (128 + scale * x if kind is np.uint8 else scale * x).astype(kind)
    wavfile.write(tmp_path / "x.wav", rate, np.stack([stored, stored], 1))
    again = sound.read_wav(tmp_path / "x.wav")
    assert len(again) == 8000 and np.allclose(again[200:-200], tone(440, 1)[200:-200], atol=0.02)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\xff\xff\xff\xffWAVEfmt ", b"x" * 1000])
def test_what_is_no_wav_file_is_named_in_a_line(tmp_path, content):
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(WrongFile, match=r"x\.wav: is no WAV file") as e:
        sound.read_wav(tmp_path / "x.wav")
    assert "\n" not in str(e.value)


def test_a_file_that_is_cut_or_too_long_or_empty(tmp_path):
    def header(frames, content):
        with wave.open(file := io.BytesIO(), "wb") as w:
            w.setnchannels(1)
            w.setsampwidth(2)
            w.setframerate(8000)
            w.writeframes(b"\0\0" * frames)
        (tmp_path / "x.wav").write_bytes(file.getvalue()[: 44 + content])

    header(100, 51)
    assert len(sound.read_wav(tmp_path / "x.wav")) == 25
    header(8000 * 601, 10)
    with pytest.raises(WrongFile, match="lasts 601 seconds; at most 600"):
        sound.read_wav(tmp_path / "x.wav")
    header(0, 0)
    with pytest.raises(WrongFile, match="holds no samples"):
        sound.read_wav(tmp_path / "x.wav")


def test_a_word_is_put_between_silences():
    x = np.concatenate([np.zeros(500), 0.3 * tone(300, 0.5), np.zeros(900)]).astype(np.float32)
    for begin, first in ((0.0, 0), (None, (8064 - 4000) // 2), (1.0, 8064 - 4000)):
        clip = sound.as_clip(x, begin)
        loud = np.flatnonzero(np.abs(clip) > 0.02)
        assert clip.shape == (8064,) and np.isclose(np.abs(clip).max(), 0.9) and abs(loud[0] - first) < 20
    assert not sound.as_clip(np.zeros(10)).any() and not sound.as_clip(np.zeros(0)).any()
    long = sound.as_clip(tone(300, 3))
    assert np.abs(long).max() <= 0.9001 and np.abs(long[-50:]).max() > 0.1


# --- who says what


def test_recordings_are_split_as_their_authors_do(tmp_path):
    for digit in (3, 7):
        for take in range(8):
            sound.write_wav(tmp_path / f"{digit}_jackson_{take}.wav", tone(300 + 50 * digit, 0.4))
    (tmp_path / "readme.txt").write_text("no sound")
    train, test = speech.recorded_digits(tmp_path, "train"), speech.recorded_digits(tmp_path, "test")
    assert len(train) == 6 and len(test) == 10 and set(train.words) == {"three", "seven"} and set(test.voices) == {"jackson"}
    assert train.captions == train.words
    for call, error, message in ((lambda: speech.recorded_digits(tmp_path, "dev"), ValueError, "part is 'dev'"),
                                 (lambda: speech.recorded_digits(tmp_path / "no"), FileNotFoundError, "no such folder"),
                                 (lambda: speech.recorded_digits(tmp_path.parent), FileNotFoundError, "has no recordings")):
        with pytest.raises(error, match=message):
            call()


def test_without_espeak_one_line_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ModuleNotFoundError, match="it comes with `pip install espeakng-loader`"):
        speech.spoken_words(takes=1)


@pytest.mark.parametrize(("arguments", "message"), [({"voices": "some"}, "voices is 'some'"), ({"takes": 0}, "takes is 0"), ({"words": ["eleven"]}, "a word is 'eleven'")])
def test_words_that_nobody_says_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^spoken_words: {message}"):
        speech.spoken_words(**arguments)


@needs_espeak
def test_espeak_says_the_words_and_some_voices_are_held_out():
    seen, held_out = (speech.spoken_words(["seven", "b"], 1, 3, voices=voices) for voices in ("seen", "held out"))
    assert not set(seen.voices) & set(held_out.voices) and len(set(seen.voices) | set(held_out.voices)) == len(speech.voices_and_speakers())
    assert all(speech.is_held_out(v) for v in held_out.voices) and len(set(held_out.voices)) >= 5
    assert np.isclose(np.abs(seen.waveforms).max(1), 0.9, atol=1e-3).mean() > 0.99
    assert set(seen.captions) == {f"a {who} says {word}" for who in ("man", "woman") for word in ("seven", "b")}
    again = speech.spoken_words(["seven", "b"], 1, 3, voices="held out")
    assert np.array_equal(again.waveforms, held_out.waveforms)


# --- the models


@pytest.fixture
def model():
    model = Speech.new(seed=0, **TINY)
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.data[...] = rng.normal(0, 0.3, p.shape)
    return model


def test_a_word_becomes_a_second_of_sound(model):
    waveforms = model.sample(prompt=["seven", "a woman says b"], seed=0)
    assert [w.shape for w in waveforms] == [(8064,)] * 2 and all(w.dtype == np.float32 and np.abs(w).max() <= 1 for w in waveforms)
    pictures = model.spectrograms(prompt=["seven", "a woman says b"], seed=0)
    assert np.array_equal(model.sound(pictures), np.stack(waveforms))
    steps = list(model.steps(prompt="seven", seed=0))
    assert all(s.replay().equals(s) for s in steps)
    with pytest.raises(ValueError, match="doesn't know the word 'child'"):
        model.sample(prompt="a child says seven")
    with pytest.raises(ValueError, match=r"image is \(32, 32\); it is that of spectrograms"):
        Speech.new(**{**TINY, "image": (32, 32)})


def test_the_recogniser_learns_two_words_by_heart_and_is_saved(tmp_path):
    judge = SpeechJudge.new(words=("one", "two"), channels=4, features=8, dropout=0.0)
    spoken = speech.Spoken(np.stack([0.9 * tone(300), 0.9 * tone(1500)]), ("one", "two"), ("man", "woman"), ("a", "b"))
    x = sound.spectrogram(spoken.waveforms)
    optimiser = zoo.optim.Adam(judge.parameters(), 0.01)
    words, speakers = numbers(spoken, judge.config.words)
    for i in range(40):
        judge.loss((x, words, speakers), np.random.default_rng(i))["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
    assert judge.hear(spoken.waveforms) == [("one", "man"), ("two", "woman")] == judge.hear(list(spoken.waveforms))
    assert recognised(judge, spoken) == {"words": 1.0, "speakers": 1.0} and judge.embed(spoken.waveforms).shape == (2, 8)
    judge.save(tmp_path / "j")
    assert zoo.load(tmp_path / "j").hear(spoken.waveforms) == judge.hear(spoken.waveforms)
    unknown = judge.loss((x, words, np.full(2, -1)), np.random.default_rng(0))
    assert set(unknown) == {"loss", "words"} and np.isfinite(unknown["loss"].item())
    with pytest.raises(ValueError, match="words: 'two' isn't among one"):
        numbers(spoken, ["one"])


# --- commands


def test_speech_is_written_in_three_ways(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model.save("m")
    assert main(["sample", "m", "--prompt", "seven", "--out", "seven.wav"]) == 0
    assert np.allclose(sound.read_wav("seven.wav"), model.sample(prompt="seven", seed=0)[0], atol=1e-3)
    assert main(["sample", "m", "--prompt", "a man says b", "-n", "2", "--out", "b.npz"]) == 0
    with np.load("b.npz") as file:
        assert file["waveforms"].shape == (2, 8064) and file["spectrograms"].shape == (2, 32, 64)
    assert main(["sample", "m", "--prompt", "seven", "--out", "seven.png"]) == 0 and (tmp_path / "seven.png").exists()
    capsys.readouterr()
    for arguments, message in ((["--out", "x.mid"], "speech goes to a .wav, .png or .npz file"), (["--prompt", "sefen"], "the nearest it knows: seven"),
                               (["--digit", "3"], "--digit is for models with classes"), (["x.png"], "reads no pictures")):
        assert main(["sample", "m", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not list(tmp_path.glob("x.*"))


def test_captions_are_written_for_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = Captions.for_data("captioned-digits", channels=4, width=8, blocks=1, heads=2, length=5)
    model.save("m")
    pictures = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    for i, picture in enumerate(pictures):
        from PIL import Image

        Image.fromarray((picture * 255).astype(np.uint8)).save(f"{i}.png")
    save_grid("grid.png", pictures)
    assert main(["sample", "m", "0.png", "1.png"]) == 0
    lines = capsys.readouterr().out.split("\n")[:-1]
    assert lines == model.caption(np.round(pictures * 255 - 0.5).clip(0, 255).astype(np.float32) / 255) and len(lines) == 2
    assert main(["sample", "m", "grid.png"]) == 0  # what zoo sample writes is read again
    of_grid = capsys.readouterr().out.split("\n")[:-1]
    assert of_grid == model.caption(np.round(pictures * 255).astype(np.float32) / 255) and len(of_grid) == 2
    save_grid("large.png", pictures, scale=3)
    assert main(["sample", "m", "0.png", "--out", "c.txt"]) == 0 and (tmp_path / "c.txt").read_text() == f"{lines[0]}\n"
    capsys.readouterr()
    for arguments, message in (([], "PICTURE is missing"), (["large.png"], "large.png: is 210 x 108 pixels; Captions reads 32 x 32"), (["no.png"], "no.png"), (["0.png", "-n", "2"], "-n are for models"),
                               (["0.png", "--temperature", "-1"], "temperature is -1"), (["0.png", "--out", "c.wav"], "captions go to a .txt or .npz")):
        assert main(["sample", "m", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


# --- numbers


def triangles():
    """32 triangles over 257 frequencies from 60 to 4000 Hz, by the definition: np.interp between their corners."""
    mels = lambda f: 2595 * np.log10(1 + f / 700)
    corners = 700 * (10 ** (np.linspace(mels(60), mels(4000), 34) / 2595) - 1)
    return np.stack([np.interp(np.arange(257) * 8000 / 512, corners[i : i + 3], [0, 1, 0]) for i in range(32)])


def test_a_picture_is_the_logarithm_of_what_the_triangles_hold(rng):
    """Black at 10^-2 and white at 10^2.5; silence is black."""
    assert np.allclose(sound.mel_filters(), triangles(), atol=1e-6)
    x = (np.geomspace(1e-4, 1, sound.SAMPLES) * rng.standard_normal((1, sound.SAMPLES))).astype(np.float32)
    window = scipy.signal.windows.hann(512, sym=False)
    magnitude = np.abs(scipy.signal.ShortTimeFFT(window, 128, 8000).stft(x, p0=0, p1=64))
    expected = np.clip((np.log10(triangles() @ magnitude) + 2) / 4.5, 0, 1)[:, ::-1]
    assert np.allclose(sound.spectrogram(x), expected, atol=1e-3) and (expected == 0).any()
    assert sound.spectrogram(99 * x).max() == 1 and not sound.spectrogram(np.zeros((1, 8064))).any()


def test_the_way_back_is_griffin_and_lims_with_momentum():
    """Perraudin et al. 2013, algorithm 2, alpha = 0.99, from uniform phases; where a picture is black nothing sounds."""
    picture = np.zeros((1, 32, 64), np.float32)
    picture[0, 10:14, 20:40] = np.linspace(0.3, 1, 20)
    magnitude = sound.magnitudes(np.where(picture > 0, 10 ** (4.5 * picture - 2), 0)[:, ::-1])
    phases = np.exp(2j * np.pi * np.random.default_rng(7).random(magnitude.shape)).astype(np.complex64)
    previous = 0
    for _ in range(3):
        projected = sound.stft(sound.inverse_stft(magnitude * phases))
        ahead = projected + 0.99 * (projected - previous)
        phases, previous = ahead / np.maximum(np.abs(ahead), 1e-9), projected
    expected = sound.inverse_stft(magnitude * phases)
    assert np.allclose(sound.waveform(picture, iterations=3, seed=7), 0.9 * expected / np.abs(expected).max(), atol=2e-4)
    assert not sound.waveform(np.zeros((1, 32, 64)), iterations=1).any()
    for shape in ((32, 64), (1, 32, 63), (1, 31, 64)):
        with pytest.raises(ValueError, match="pictures: shape is"):
            sound.waveform(np.zeros(shape))


def test_magnitudes_have_the_bands_that_they_were_asked_for(rng):
    """Bands of true magnitudes are met to a few percent; frequencies beyond the triangles stay 0."""
    bands = sound.mel_filters() @ rng.gamma(2, 1, (2, 257, 3)).astype(np.float32)
    h = sound.magnitudes(bands)
    assert h.shape == (2, 257, 3) and h.dtype == np.float32 and (h >= 0).all() and (h[:, sound.mel_filters().sum(0) == 0] == 0).all()
    assert np.abs(sound.mel_filters() @ h / bands - 1).max() < 0.05
    once, f = sound.magnitudes(bands, 1), sound.mel_filters().astype(float)
    h = f.T @ bands
    assert np.allclose(once, np.where(h > 0, h * h / np.maximum(f.T @ (f @ h), 1e-8), 0), rtol=1e-4)  # Lee and Seung 2001, equation 4


def test_samples_are_written_and_read_to_the_bit(tmp_path):
    path = tmp_path / "x.wav"
    sound.write_wav(path, np.array([-2, -1, -0.5, 0, 0.5, 1, 2]), 8000)
    assert wavfile.read(path)[1].tolist() == [-32767, -32767, -16384, 0, 16384, 32767, 32767]
    for kind, stored, values in ((np.uint8, [0, 128, 255], [-1, 0, 127 / 128]), (np.int16, [-32768, 0, 1], [-1, 0, 2**-15]),
                                 (np.int32, [-(2**31), 0, 2**30], [-1, 0, 0.5])):
        wavfile.write(path, 8000, np.array(stored, kind))
        assert sound.read_wav(path).tolist() == values
    wavfile.write(path, 8000, np.array([[0, 16384], [-16384, -16384]], np.int16))
    assert sound.read_wav(path).tolist() == [0.25, -0.5]  # the mean of both ears


@pytest.mark.parametrize(("channels", "width", "rate", "frames", "allowed"), [
    (1, 2, 8000, 8000, True), (1, 2, 8000, 8001, False), (8, 1, 8000, 9, True), (9, 1, 8000, 9, False), (1, 3, 8000, 9, False), (1, 4, 400_000, 90, True),
    (1, 2, 400_001, 90, False), (1, 2, 1, 1, True)])
def test_files_within_bounds_are_read_and_others_named(channels, width, rate, frames, allowed, tmp_path, monkeypatch):
    monkeypatch.setattr(sound, "MOST_SECONDS", 1)
    with wave.open(str(tmp_path / "x.wav"), "wb") as w:
        w.setnchannels(channels)
        w.setsampwidth(width)
        w.setframerate(rate)
        w.writeframes(bytes(width * channels * frames))
    if allowed:
        assert len(sound.read_wav(tmp_path / "x.wav")) == -(-frames * 8000 // rate)
    else:
        with pytest.raises(WrongFile, match=r"x\.wav: (has .* up to 8 channels of 8, 16 or 32 bits are read|lasts 1 seconds; at most 1 are read)"):
            sound.read_wav(tmp_path / "x.wav")


def test_a_clip_begins_with_the_first_sample_above_a_fiftieth_of_the_loudest():
    x = np.array([0.004, 0.02, 0.021, -1.0, 0.5, 0.02, 0.0], np.float32)
    clip = sound.as_clip(x, 0.25)
    start = int(0.25 * (8064 - 3))
    assert np.flatnonzero(clip).tolist() == [start, start + 1, start + 2] and np.allclose(clip[start : start + 3], [0.0189, -0.9, 0.45])
    assert np.flatnonzero(sound.as_clip(x)).tolist() == [4030, 4031, 4032]
    assert np.isclose(sound.as_clip(1e-6 * x).min(), -0.9) and not sound.as_clip(1e-7 * x).any()  # fainter than -134 dB is silence
    ramp = np.linspace(0.1, 1, 8064, dtype=np.float32)
    assert np.allclose(sound.as_clip(ramp), 0.9 * ramp) and np.allclose(sound.as_clip(np.linspace(0.1, 1, 8065)), 0.9 * ramp, atol=1e-6)
    assert np.allclose(sound.as_clip(np.linspace(0.1, 1, 3 * 8064)), 0.9 * ramp, atol=1e-6)  # what is longer is played faster


def test_a_shape_that_is_no_row_of_seconds_is_refused():
    for shape in ((8064,), (2, 8063), (1, 1, 8064)):
        with pytest.raises(ValueError, match="waveforms: shape is"):
            sound.spectrogram(np.zeros(shape))
    for x in (np.zeros(0), np.zeros((1, 1)), np.array([np.inf])):
        with pytest.raises(ValueError, match="finite numbers from -1 to 1"):
            sound.write_wav("x.wav", x)


def test_each_voice_says_each_word_at_its_own_pitch_speed_and_moment(monkeypatch):
    """120 to 209 words a minute, a pitch of 30 to 70, between 0.3 and 0.7 of the room; letters are asked for in capitals."""
    said, begun = [], []
    voices = {f"v{i}": ("man", "woman")[i % 2] for i in range(40)}
    monkeypatch.setattr(speech, "voices_and_speakers", lambda: voices)
    monkeypatch.setattr(speech, "_say", lambda wanted: said.append(wanted) or [np.zeros(1)] * len(wanted))
    monkeypatch.setattr(sound, "as_clip", lambda x, begin: begun.append(begin) or np.zeros(1, np.float32))
    data = speech.spoken_words(speech.WORDS, 4, voices="all")
    texts, who, speeds, pitches = zip(*said[0])
    assert len(data) == 36 * 40 * 4 and set(speeds) == set(range(120, 210)) and set(pitches) == set(range(30, 71))
    assert 0.3 <= min(begun) < 0.301 and 0.699 < max(begun) <= 0.7 and len(set(begun)) == len(data)
    assert set(texts) == {*speech.DIGITS, *map(str.upper, speech.LETTERS)} and set(data.words) == set(speech.WORDS)
    assert [voices[v] for v in data.voices] == list(data.speakers) and data.voices == who
    for part in ("seen", "held out"):
        some = speech.spoken_words(speech.WORDS, 4, voices=part)
        assert set(some.voices) == {v for v in voices if (zlib.crc32(v.encode()) % 10 == 0) == (part == "held out")}
        assert said[-1] == [row for row in said[0] if row[1] in some.voices]  # a voice sounds the same whoever is left out
    assert len(speech.spoken_words(["one"], 1, voices="all")) == 40 and len(set(some.voices)) > 1
    for takes in (True, 1.0, 0):
        with pytest.raises(ValueError, match="takes is"):
            speech.spoken_words(takes=takes)


def test_what_the_program_writes_is_cut_into_words(monkeypatch):
    """16-bit samples, 1 at 32,768."""
    monkeypatch.setattr(speech, "_espeak", lambda: ("library", "data"))

    def run(command, input, capture_output):
        assert command[-2:] == ["library", "data"] and json.loads(input) == [["one", "v", 120, 30], ["two", "v", 130, 40]]
        samples = np.array([-32768, 16384, 1, 0, 32767], np.int16)
        return subprocess.CompletedProcess(command, code, b'{"rate": 8000, "counts": [2, 3]}\n' + samples.tobytes(), b"no\nespeak-ng: broken\n")

    monkeypatch.setattr(subprocess, "run", run)
    wanted, code = [("one", "v", 120, 30), ("two", "v", 130, 40)], 0
    assert [x.tolist() for x in speech._say(wanted)] == [[-1, 0.5], [1 / 32768, 0, 32767 / 32768]]
    code = 1
    with pytest.raises(OSError, match="espeak-ng: broken"):
        speech._say(wanted)


class Library:
    """espeak-ng's functions with the numbers of its header speak_lib.h: what they are called with, and 5 samples a call of Synth."""

    def __init__(self, rate):
        self.rate, self.calls = rate, []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            if name == "espeak_SetSynthCallback":
                self.receive = arguments[0]
            if name == "espeak_Synth":
                samples = (ctypes.c_int16 * 5)(*range(5))
                assert [self.receive(ctypes.addressof(samples), 5, None), self.receive(ctypes.addressof(samples), 0, None), self.receive(None, 1, None),
                        self.receive(ctypes.addressof(samples), -1, None), self.receive(ctypes.addressof(samples), 1, None)] == [0] * 5  # 0: go on
            return self.rate if name == "espeak_Initialize" else arguments[0] == b"en-us+nobody"
        return call


def test_the_program_asks_espeak_as_its_header_says(monkeypatch, capfdbinary):
    def run(rate, *wanted):
        library = Library(rate)
        monkeypatch.setattr(ctypes, "CDLL", lambda path: library)
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(wanted)))
        espeak.main("library", "folder/espeak-ng-data")
        return library.calls

    synchronous, utf_8, rate, pitch, by_characters = 2, 1, 1, 3, 1  # AUDIO_OUTPUT_SYNCHRONOUS, espeakCHARS_UTF8, espeakRATE, espeakPITCH, POS_CHARACTER
    calls = run(22050, ("sieben", "f2", 160, 50), ("\u00e9", "m1", 120, 30))
    assert calls[:2] == [("espeak_Initialize", synchronous, 0, b"folder", 0), ("espeak_ng_SetRandSeed", 1)]
    assert calls[3:] == [(name, *arguments) for text, voice, speed, height in ((b"sieben", b"f2", 160, 50), ("\u00e9".encode(), b"m1", 120, 30)) for name, *arguments in (
        ("espeak_SetVoiceByName", b"en-us+" + voice), ("espeak_SetParameter", rate, speed, 0), ("espeak_SetParameter", pitch, height, 0),
        ("espeak_Synth", text, len(text) + 1, 0, by_characters, 0, utf_8, None, None))]
    head, _, samples = capfdbinary.readouterr().out.partition(b"\n")
    assert json.loads(head) == {"rate": 22050, "counts": [6, 6]} and np.frombuffer(samples, np.int16).tolist() == [0, 1, 2, 3, 4, 0] * 2
    for wrong, words in (((0,), "its data can't be read"), ((-1,), "its data can't be read"), ((22050, ("a", "nobody", 1, 1)), "no voice 'nobody'")):
        with pytest.raises(SystemExit, match=words):
            run(*wrong)
    run(1)


def test_recordings_may_lie_in_a_folder_of_that_name(tmp_path):
    (tmp_path / "recordings").mkdir()
    for name in ("3_theo_4.wav", "9_Ann_5.wav", "10_theo_6.wav", "3_theo_12345.wav"):
        sound.write_wav(tmp_path / "recordings" / name, tone(300, 0.1))
    train, test = speech.recorded_digits(tmp_path), speech.recorded_digits(tmp_path, "test")
    assert [(d.words, d.voices, d.speakers) for d in (train, test)] == [(("nine",), ("Ann",), ("",)), (("three",), ("theo",), ("",))]
    assert train.captions == ("nine",) and speech.Spoken(train.waveforms, ("b",), ("man",), ("x",)).captions == ("a man says b",)
    (tmp_path / "recordings" / "1_theo_7.wav").mkdir()
    with pytest.raises(WrongFile, match="is no file"):
        speech.recorded_digits(tmp_path)


def test_a_voice_is_a_womans_where_its_file_says_so(tmp_path, monkeypatch):
    folder = tmp_path / "voices" / "!v"
    folder.mkdir(parents=True)
    for name, text in {"f2": "language variant\ngender   female 30\n", "m1": "gender male\n", "x": "name x\n# gender female\n", "whisper": "gender female\n"}.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(speech, "_espeak", lambda: ("", str(tmp_path)))
    assert speech.voices_and_speakers() == {"f2": "woman", "m1": "man", "x": "man"}
    robots = {name for name in speech.ODD if name.startswith("robosoft")}
    assert robots == {"robosoft", *(f"robosoft{i}" for i in range(2, 9))} and speech.is_held_out("v9") == (zlib.crc32(b"v9") % 10 == 0)


def test_words_to_test_on_are_two_takes_of_voices_that_training_never_hears(monkeypatch):
    asked = []
    monkeypatch.setattr(speech, "spoken_words", lambda words, takes, seed, voices: asked.append((words, takes, seed, voices)))
    for training in (SpeechTraining(takes=7, letters=False), SpeechTraining(takes=3)):
        for part in ("train", "test"):
            SpokenWords().spoken(training, 5, part)
    assert asked == [(speech.DIGITS, 7, 5, "seen"), (speech.DIGITS, 2, 5, "held out"), (speech.WORDS, 3, 5, "seen"), (speech.WORDS, 2, 5, "held out")]
