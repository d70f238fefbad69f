"""The page and the command line of pictures and speech from words: each word's share at each step, prompts that change on the way, what one
hears, and pictures that are painted anew."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo.__main__ import main
from zoo.data import scenes, sound, speech
from zoo.data.picture_folders import read_picture
from zoo.drawing.pictures import png
from zoo.inspection.controls import controls_for, read_request
from zoo.inspection.inspect import inspect
from zoo.inspection.page import unpack
from zoo.inspection.runs import make_run, stream_run
from zoo.multimodal.prompts import weights_of
from zoo.multimodal.speech import Speech
from zoo.multimodal.words import Words

SMALL = {"channels": 8, "text_width": 8, "text_blocks": 1, "text_heads": 2, "evaluations": 4, "sampler": "euler", "guidance": 2.0}
NETWORKS = {"unet": {"multipliers": (1, 2), "unshuffle": 2}, "transformer": {"network": "transformer", "patch": 8, "blocks": 2, "heads": 2}}


def stirred(model, seed=1):
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data[...] = rng.normal(0, 0.2, p.shape)
    return model


@pytest.fixture(params=NETWORKS)
def model(request):
    return stirred(Words.for_data("captioned-digits", seed=0, **SMALL, **NETWORKS[request.param]))


def panel(run, name):
    return next(p for p in run["panels"] if p["name"] == name)


def test_each_step_shows_the_words_that_hold_and_their_shares(model):
    run = make_run(model, prompt="a red seven", later="a small green seven", later_t=0.5, seed=3)
    words = panel(run, "words")
    assert words["sentences"] == [["a", "red", "seven"]] * 2 + [["a", "small", "green", "seven"]] * 2
    assert unpack(words["pictures"]).shape == (4, 4, 32, 32, 3)
    steps = list(model.steps(1, prompt="a red seven", then=(0.5, "a small green seven"), seed=3))
    for i in (0, 1):
        maps = model.word_maps(steps[i].x_t, steps[i].t, "a red seven")
        assert np.allclose(words["shares"][i], maps[0, 1:].mean((1, 2)), atol=2e-4)
    maps = model.word_maps(steps[3].x_t, steps[3].t, "a small green seven")
    assert np.allclose(words["shares"][3], maps[0, 1:].mean((1, 2)), atol=2e-4)
    assert not np.any(unpack(words["pictures"])[0, 3])  # the first sentence has three words


def test_a_live_page_gets_the_same_while_it_runs(model):
    messages = list(stream_run(model, prompt="a red seven", seed=3))
    grown = [m["grow"]["words"]["sentences"] for m in messages if "grow" in m]
    assert grown == [["a", "red", "seven"]] * 4


def test_what_the_page_sends_becomes_settings(model):
    asked = {c.name: c.default for c in controls_for(model)}
    settings = read_request(model, asked)
    assert settings["prompt"] == "a red seven above a small blue three"
    assert len(make_run(model, **settings)["steps"]) == 4
    image = np.zeros((32, 32, 3), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[16:] = 1
    asked |= {"image": base64.b64encode(image.tobytes()).decode(), "mask": base64.b64encode(mask.tobytes()).decode(), "evaluations": 4, "repeats": 1}
    run = make_run(model, **read_request(model, asked))
    assert len(panel(run, "words")["sentences"]) == len(run["steps"])


@pytest.mark.parametrize("text", ["red", "red two", "red 2 blue"])
def test_weights_are_words_with_factors(text):
    with pytest.raises(ValueError, match="weigh is .*; it is words with factors"):
        weights_of(text)


def test_weights_change_the_picture_and_unknown_words_are_named(model):
    assert weights_of("Red 2 seven 0.5") == {"red": 2, "seven": 0.5}
    plain, heavy = (make_run(model, prompt="a red seven", weigh=weigh, seed=3)["steps"][-1]["fields"] for weigh in ("", "red 4"))
    assert plain != heavy
    with pytest.raises(ValueError, match="the nearest it knows: red"):
        make_run(model, prompt="a rad seven")
    assert "words" not in {p["name"] for p in make_run(model)["panels"]}  # nothing is said


@pytest.mark.parametrize("prompt, word, speaker", [("seven", "seven", "man"), ("a woman says b", "b", "woman")])
def test_espeak_is_heard_beside_the_model_where_it_is_installed(prompt, word, speaker, monkeypatch):
    model = stirred(Speech.new(vocabulary=speech.VOCABULARY, multipliers=(1, 2), **SMALL))
    said = np.sin(np.arange(8064) / 10).astype(np.float32)
    asked = []
    monkeypatch.setattr(speech, "spoken", lambda *words: asked.append(words) or said)
    shown = panel(make_run(model, prompt=prompt), "espeak")
    assert asked == [(word, speaker)] and np.abs(unpack(shown["waves"])[0] - said).max() < 1e-3
    assert np.abs(unpack(shown["picture"]) - sound.spectrogram(said[None])[0]).max() <= 0.5 / 255 + 1e-6
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)  # which makes the import fail
    assert "espeak" not in {p["name"] for p in make_run(model, prompt=prompt)["panels"]}


def test_the_voice_beside_says_the_word():
    pytest.importorskip("espeakng_loader", reason="espeakng-loader isn't installed")
    man, woman = speech.spoken("seven"), speech.spoken("seven", "woman")
    assert man.shape == woman.shape == (8064,) and np.abs(man).max() == pytest.approx(0.9) and not np.array_equal(man, woman)
    assert np.array_equal(man, speech.spoken("seven"))
    with pytest.raises(ValueError, match="word is 'dog'"):
        speech.spoken("dog")


def test_speech_is_heard_at_every_step(tmp_path):
    model = stirred(Speech.new(vocabulary=speech.VOCABULARY, multipliers=(1, 2), **SMALL))
    run = make_run(model, prompt="seven", seed=0)
    waves = unpack(panel(run, "sound")["waves"])
    assert waves.shape == (4, 8064) and np.abs(waves).max() <= 1 and not np.array_equal(waves[0], waves[3])
    assert inspect(model, tmp_path / "page.html", prompt="seven", seed=0) > 10_000


# --- a part of a picture painted anew, at the command line


@pytest.fixture
def painted(tmp_path, monkeypatch):
    """A folder with a small model of scenes, a picture, and masks."""
    monkeypatch.chdir(tmp_path)
    model = stirred(Words.for_data("captioned-digits", seed=0, **SMALL, **NETWORKS["unet"]))
    model.save("drawer")
    picture = scenes.captioned_digits(1, 3).pictures[0]
    (tmp_path / "scene.png").write_bytes(png(picture))
    half, whole = np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8)
    half[:, 16:] = 255
    for name, mask in (("half", half), ("black", whole), ("wide", np.zeros((32, 48), np.uint8))):
        (tmp_path / f"{name}.png").write_bytes(png(mask))
    return model, read_picture(tmp_path / "scene.png").astype(np.float32) / 255


def test_a_picture_is_painted_anew_where_the_mask_is_white(painted, capsys):
    model, picture = painted
    main(["sample", "drawer", "scene.png", "--mask", "half.png", "--prompt", "a green two", "--repeats", "1", "--seed", "4", "--out", "new.npz", "-n", "2"])
    images = np.load("new.npz")["images"]
    assert images.shape == (2, 32, 32, 3) and np.abs(images[:, :, :16] - picture[:, :16]).max() < 1e-5
    mask = np.ones((32, 32), bool)
    mask[:, 16:] = False
    expected = model.inpaint(np.stack([picture, picture]), mask, prompt="a green two", repeats=1, seed=4)
    assert np.array_equal(images, expected) and not np.array_equal(images[0], images[1])
    main(["sample", "drawer", "scene.png", "--mask", "half.png", "--later", "a red two", "--prompt", "a green two", "--repeats", "1", "--out", "new.gif"])
    assert Path("new.gif").stat().st_size > 1000
    main(["sample", "drawer", "--prompt", "a red two", "--later", "a green two", "--later-t", "0.5", "--weigh", "red 2", "-n", "1", "--out", "a.npz"])
    expected = model.sample(1, prompt="a red two", then=(0.5, "a green two"), weights={"red": 2.0})
    assert np.array_equal(np.load("a.npz")["images"], expected)


@pytest.mark.parametrize("arguments, error", [
    (["scene.png", "--prompt", "a two"], "--mask is missing; it is a picture of the size of scene.png"),
    (["--mask", "half.png", "--prompt", "a two"], "PICTURE is missing; --mask covers a part of it"),
    (["scene.png", "--mask", "none.png", "--prompt", "a two"], "none.png"),
    (["scene.png", "--mask", "wide.png", "--prompt", "a two"], "wide.png: is 48 x 32 pixels; Words reads 32 x 32"),
    (["wide.png", "--mask", "half.png", "--prompt", "a two"], "wide.png: is 48 x 32 pixels; Words reads 32 x 32"),
    (["scene.png", "--mask", "black.png", "--prompt", "a two"], "--mask is black.png: nothing of it is white"),
    (["scene.png", "--mask", "drawer/card.json", "--prompt", "a two"], "cannot be read as a picture"),
    (["scene.png", "--mask", "half.png", "--prompt", "a rad two"], "this model doesn't know the word 'rad'; the nearest it knows: red"),
    (["scene.png", "--mask", "half.png", "--prompt", ""], "prompt: is '', which has no word in it"),
    (["scene.png", "--mask", "half.png", "--prompt", "a " * 60], "prompt: has 60 words; this model reads at most 39"),
    (["scene.png", "--mask", "half.png", "--digit", "3"], "--digit is for models with classes"),
    (["scene.png", "--mask", "half.png", "--prompt", "a two", "--repeats", "0"], "repeats"),
    (["scene.png", "--mask", "half.png", "--prompt", "a two", "-n", "0"], "n is 0; it is a whole number of at least 1"),
    (["scene.png", "--mask", "half.png", "--prompt", "a two", "--out", "a.wav"], "--out is a.wav; pictures go to a .png, .gif or .npz file"),
    (["--prompt", "a two", "--later", "a red two", "--later-t", "x"], "--later-t is 'x'"),
    (["--prompt", "a two", "--later", "a red two", "--later-t", "3"], "t is 3"), (["--prompt", "a two", "--then", "a red two"], "--then isn't an option here"),
    (["--prompt", "a two", "--evaluation", "3"], "--evaluation isn't an option here; did you mean --evaluations?"),
    (["--prompt", "a two", "--weigh", "red 2"], "weights: 'red' is in none of the prompts"), (["--prompt", "a two", "--weigh", "two"], "weigh is 'two'"),
])
def test_what_cannot_be_painted_is_said_in_one_line_and_nothing_is_written(painted, capsys, arguments, error):
    before = sorted(path.name for path in Path().iterdir())
    assert main(["sample", "drawer", *arguments]) == 2
    said = capsys.readouterr()
    assert error in said.err and said.err.count("\n") == 1 and "Traceback" not in said.err and not said.out
    assert sorted(path.name for path in Path().iterdir()) == before


def test_a_mask_is_for_models_that_paint_into_pictures(painted, capsys):
    Speech.new(vocabulary=speech.VOCABULARY, multipliers=(1, 2), **SMALL).save("speaker")
    assert main(["sample", "speaker", "scene.png", "--mask", "half.png", "--prompt", "seven"]) == 2
    assert capsys.readouterr().err == "zoo: --mask is half.png; speaker paints into no pictures\n"


def test_a_grey_picture_is_painted_anew_by_class(painted):
    from zoo.diffusion import Diffusion

    model = Diffusion.new(image=(32, 32), channels=8, multipliers=(1,), blocks=1, classes=3, evaluations=2)
    model.save("grey")
    main(["sample", "grey", "scene.png", "--mask", "half.png", "--digit", "1", "--repeats", "1", "--out", "grey.npz"])
    assert np.abs(np.load("grey.npz")["images"][0, :, :16] - painted[1].max(-1)[:, :16]).max() < 1e-5
