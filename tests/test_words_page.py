"""The page of pictures and speech from words: each word's share at each step, prompts that change on the way, and what one hears."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from zoo.data import speech
from zoo.inspection.controls import controls_for, read_request
from zoo.inspection.inspect import inspect
from zoo.inspection.page import unpack
from zoo.inspection.panels.words import weights_of
from zoo.inspection.runs import make_run, stream_run
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


def test_speech_is_heard_at_every_step(tmp_path):
    model = stirred(Speech.new(vocabulary=speech.VOCABULARY, multipliers=(1, 2), **SMALL))
    run = make_run(model, prompt="seven", seed=0)
    waves = unpack(panel(run, "sound")["waves"])
    assert waves.shape == (4, 8064) and np.abs(waves).max() <= 1 and not np.array_equal(waves[0], waves[3])
    assert inspect(model, tmp_path / "page.html", prompt="seven", seed=0) > 10_000
