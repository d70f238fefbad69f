"""The models of words that ship do what they are asked: seen by other models and by the data, not by their loss."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from zoo.data import glyphs, scenes, sound, speech
from zoo.storage import SHIPPED, read_json

NAMES = {"words": "samples, all, in distribution", "glyphs": "samples, base and marks, in distribution", "captions": "exact, two digits",
         "speech": "samples, heard right", "contrastive": "picture to sentence"}
MOST_BYTES = 45_000_000


@pytest.mark.parametrize("name, figure", NAMES.items())
def test_the_card_says_how_good_it_is(name, figure):
    card = read_json(SHIPPED / name / "card.json")
    assert 0 < card["figures"][figure] <= 1 and card["minutes"] > 0
    assert card["command"].startswith(f"zoo train {name}") and card["evaluation"].startswith(f"zoo evaluate runs/{name}")


def test_all_that_ships_is_small():
    assert sum(path.stat().st_size for path in SHIPPED.parent.rglob("*") if path.is_file()) <= MOST_BYTES


def test_scenes_are_drawn_as_they_are_said_and_read_back():
    drawn = scenes.captioned_digits(30, (5, 0x5417))
    asked = [caption for caption, things in zip(drawn.captions, drawn.attributes) if len(things) <= 2][:16]
    pictures = zoo.load("words").sample(prompt=asked, seed=1)
    judged = zoo.load("scene_judge").judge(pictures, asked)
    assert judged["colour"] > 0.9 and judged["place"] > 0.9 and judged["digit"] > 0.65 and judged["all"] > 0.5
    assert zoo.load("scene_judge").judge(np.roll(pictures, 1, axis=0), asked)["all"] < 0.2  # pictures of other sentences


def test_a_scene_is_said_in_words():
    drawn = scenes.captioned_digits(20, (6, 0x5417), digits="test", wording="full")
    said = zoo.load("captions").caption(drawn.pictures)
    assert np.mean([a == b for a, b in zip(said, drawn.captions)]) >= 0.7


def test_pictures_and_sentences_find_each_other():
    model, drawn = zoo.load("contrastive"), scenes.captioned_digits(60, (5, 0xC11), pairs="all", digits="test", wording="full")
    similarity = model.similarity(drawn.pictures, drawn.captions)
    right = [drawn.captions[j] == caption for caption, j in zip(drawn.captions, similarity.argmax(1))]
    assert np.mean(right) > 0.9 and (similarity.argmax(0) == np.arange(60)).mean() > 0.9
    assert model.search(drawn.captions[7], drawn.pictures, n=3)[0] == 7
    assert model.classify(drawn.pictures[:4], [*drawn.captions[:4]]).argmax(1).tolist() == [0, 1, 2, 3]


def test_digits_are_heard_as_they_were_asked_for():
    waves = zoo.load("speech").sample(prompt=list(speech.DIGITS), seed=2)
    assert all(wave.shape == (sound.SAMPLES,) and wave.dtype == np.float32 and np.abs(wave).max() <= 1 for wave in waves)
    heard = [word for word, _ in zoo.load("speech_judge").hear(waves)]
    assert sum(a == b for a, b in zip(heard, speech.DIGITS)) >= 8


def test_letters_are_drawn_by_their_names():
    """Each letter is nearest to its own picture among those of ten letters, in the style that was asked for."""
    font = glyphs.glyphs("seen", ["bold sans"])
    names = [f"bold sans latin small letter {letter}" for letter in "abegkmostx"]
    real = np.stack([font.pictures[font.captions.index(name)] for name in names])
    drawn = zoo.load("glyphs").sample(prompt=names * 3, seed=0)
    nearest = ((drawn[:, None] - real) ** 2).sum((2, 3)).argmin(1)
    assert (nearest == np.tile(np.arange(len(names)), 3)).mean() >= 0.7
