"""Sound and speech: spectrograms and the way back, files that other readers read as meant, voices held out, words that are said."""

from __future__ import annotations

import io
import sys
import wave

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

import zoo
from zoo.__main__ import main
from zoo.data import sound, speech
from zoo.drawing.pictures import save_grid
from zoo.multimodal.captions import Captions
from zoo.multimodal.speech import Speech, SpeechJudge, numbers, recognised
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
    assert main(["sample", "m", "0.png", "--out", "c.txt"]) == 0 and (tmp_path / "c.txt").read_text() == f"{lines[0]}\n"
    capsys.readouterr()
    for arguments, message in (([], "PICTURE is missing"), (["grid.png"], "reads 32 x 32"), (["no.png"], "no.png"), (["0.png", "-n", "2"], "-n are for models"),
                               (["0.png", "--temperature", "-1"], "temperature is -1"), (["0.png", "--out", "c.wav"], "captions go to a .txt or .npz")):
        assert main(["sample", "m", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
