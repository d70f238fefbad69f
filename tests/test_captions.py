"""Captioners and contrastive encoders: what they may look at, what a sentence's end is, and that the pairs of a batch are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo import nn
from zoo.__main__ import main
from zoo.autograd import no_grad
from zoo.data import mnist, scenes
from zoo.drawing.pictures import png
from zoo.inspection.page import unpack
from zoo.inspection.panels import captions as panel
from zoo.inspection.runs import make_run
from zoo.multimodal import contrastive, prompts
from zoo.multimodal.captions import Captions, looks_at, targets
from zoo.multimodal.contrastive import Contrastive, recall_at_1
from zoo.optim import Adam
from zoo.vae import VAE

TINY = {"image": (8, 8, 3), "channels": 4, "vocabulary": scenes.VOCABULARY, "length": 12}


def stirred(model, seed=1):
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data[...] = rng.normal(0, 0.3, p.shape)
    return model.eval()


@pytest.fixture
def captions():
    return stirred(Captions.new(seed=0, **TINY, width=8, blocks=2, heads=2))


@pytest.fixture
def model():
    return Contrastive.new(seed=0, **TINY, width=8, text_width=8, text_blocks=1, text_heads=2).eval()


@pytest.fixture
def pictures(rng):
    return rng.random((3, 8, 8, 3), np.float32)


# --- full wording


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_a_scene_has_one_full_sentence(seed):
    drawn = scenes.captioned_digits(8, seed, pairs="all", wording="full")
    for caption, things in zip(drawn.captions, drawn.attributes):
        asked = scenes.asked_for(caption)
        assert [set(a) for a in asked] == [{"digit", "colour", "size", "place"}] * len(things)
        assert all(getattr(thing, name) == value for a, thing in zip(asked, things) for name, value in a.items())
        assert [scenes.PLACES[t.place] for t in things] == sorted(scenes.PLACES[t.place] for t in things)
        relation = next((r for r in scenes.RELATIONS if r in caption), None)
        assert (relation in ("above", "left of")) == (len(things) == 2)
        shuffled = tuple(reversed(things))
        assert scenes.describe(*scenes.in_reading_order(shuffled, {"above": "below", "left of": "right of"}.get(relation))) == caption


def test_other_wordings_are_refused():
    with pytest.raises(ValueError, match="wording is 'short'; it may be 'free' or 'full'"):
        scenes.captioned_digits(2, wording="short")


def test_a_digit_of_mnist_becomes_the_scene_that_the_grammar_would_draw():
    (picture,) = scenes.as_scenes(mnist().train[:1])
    assert picture.shape == (32, 32, 3) and (picture[..., 0] == picture[..., 2]).all()
    assert picture[8:24, 8:24].max() > 0.9 and picture[:8].max() == picture[24:].max() == picture[:, :8].max() == 0
    with pytest.raises(ValueError, match=r"digits: shape is \(2, 8, 8\); it is \(n, 28, 28\)"):
        scenes.as_scenes(np.zeros((2, 8, 8)))


# --- what a caption depends on


def test_squares_look_at_squares_and_words_at_what_was_before():
    mask = looks_at(3, 4)[0, 0]
    for i in range(7):
        for j in range(7):
            assert mask[i, j] == (j < 3 if i < 3 else j <= i)


def test_a_word_depends_on_the_words_before_it_and_on_every_square(captions, pictures):
    ids = captions.ids(["a red seven above a two"] * 3)
    with no_grad():
        prefix = captions.prefix(pictures)
        logits = np.asarray(captions(prefix, ids))
        for i in range(1, 7):
            changed = ids.copy()
            changed[:, i] = prompts.FIRST + 7
            other = np.asarray(captions(prefix, changed))
            assert np.allclose(other[:, :i], logits[:, :i], atol=1e-5) and not np.allclose(other[:, i], logits[:, i], atol=1e-4)
        for square in range(4):
            moved = np.array(prefix.data)
            moved[:, square, 0] += 1
            assert (np.abs(np.asarray(captions(moved, ids)) - logits).max((1, 2)) > 1e-4).all()


def test_the_end_is_learned_and_nothing_behind_it():
    ids = np.array([[1, 5, 6, 0, 0], [1, 7, 0, 0, 0], [1, 2, 3, 4, 5]])
    assert targets(ids, 5).tolist() == [[5, 6, 0, -1, -1], [7, 0, -1, -1, -1], [2, 3, 4, 5, 0]]
    assert targets(ids, 4).tolist() == [[5, 6, 0, -1], [7, 0, -1, -1], [2, 3, 4, 5]]


def test_the_loss_is_the_mean_over_words_of_what_the_captions_cost(captions, pictures):
    texts = ["a red seven", "a two", "a blue one above a four"]
    loss = captions.loss((pictures, texts), np.random.default_rng(0))["loss"]
    words = [4, 3, 7]  # the end is one
    assert np.isclose(loss.item(), -captions.log_probability(pictures, texts).sum() / sum(words), rtol=1e-5)
    loss.backward()
    assert all(p.grad is not None and np.isfinite(p.grad).all() for p in captions.parameters())
    with pytest.raises(ValueError, match="captions: there are 2 for 3 images"):
        captions.loss((pictures, texts[:2]), np.random.default_rng(0))


def test_captions_are_written_word_by_word_and_every_step_replays(captions, pictures):
    captions.output.bias.data[prompts.PADDING] = -1
    for temperature in (0.0, 1.0):
        steps = list(captions.steps(pictures, temperature=temperature, seed=4))
        assert all(s.replay().equals(s) for s in steps)
        ended = np.zeros(3, bool)
        for i, s in enumerate(steps):
            assert s.position == i and s.given.shape == (3, i + 1) and np.allclose(s.probabilities.sum(1), 1)
            assert (s.word[ended] == prompts.PADDING).all() and (s.word != prompts.BEGIN).all()
            assert temperature or (s.word[~ended] == s.logits[~ended].argmax(-1)).all()
            ended |= s.word == prompts.PADDING
        assert ended.all() or len(steps) == captions.config.length - 1
        whole = captions.caption(pictures, temperature=temperature, seed=4)
        assert whole == [captions.text(row) for row in np.concatenate([steps[-1].given, steps[-1].word[:, None]], axis=1)]
    assert captions.caption(pictures) == [captions.caption(p[None])[0] for p in pictures] == captions.caption(pictures, batch=2)


@pytest.mark.parametrize(("images", "settings", "message"), [
    (np.zeros((1, 9, 8, 3)), {}, r"images: shape is \(1, 9, 8, 3\); this model takes \(n, 8, 8, 3\)"), (np.full((1, 8, 8, 3), 2.0), {}, "must lie in"),
    (np.zeros((1, 8, 8, 3)), {"temperature": -1.0}, "temperature is -1"), (np.zeros((1, 8, 8, 3)), {"temperature": np.nan}, "temperature is nan")])
def test_what_cannot_be_captioned_is_refused(captions, images, settings, message):
    with pytest.raises(ValueError, match=message):
        captions.caption(images, **settings)


def test_maps_say_where_the_model_looked(captions, pictures):
    maps = captions.word_maps(pictures, ["a red seven", "a two", "an eight"])
    assert maps.shape == (3, 3, 8, 8) and maps.min() >= 0
    squares = maps[:, :, ::4, ::4].sum((2, 3))
    assert (squares > 0).all() and (squares < 1).all()


def test_the_page_says_what_the_captioner_says_and_where_it_looked(captions, pictures):
    steps = list(captions.steps(pictures[:1]))
    page = {panel["name"]: panel for panel in make_run(captions, images=pictures[:1])["panels"]}
    written = "".join(page["text"]["tokens"])
    assert written.removesuffix(panel.END).rstrip() == captions.caption(pictures[:1])[0] and len(page["text"]["tokens"]) == len(steps)
    maps = captions.word_maps(pictures[:1], captions.caption(pictures[:1]))[0]
    shown = [unpack(p) for p in page["picture"]["pictures"]]
    for lit, looks in zip(shown, maps):
        assert np.abs(lit - (panel.lit(pictures[0], looks[None])[0])).max() < 2e-3
        most = np.unravel_index(looks.argmax(), looks.shape)
        assert np.allclose(lit[most], 0.25 + 0.75 * pictures[0][most], atol=2e-3)  # where it looked most, the picture is as bright as can be
    for i, step in enumerate(steps):
        word = panel.spell(captions, int(step.word[0]))
        assert page["candidates"]["texts"][i][page["candidates"]["chosen"][i]] == word and f"`{word}`" in page["why"]["sentences"][i]
        begin, end = unpack(page["candidates"]["ranges"])[i][page["candidates"]["chosen"][i]]
        assert end - begin == pytest.approx(step.probabilities[0, step.word[0]], abs=1e-6)
    with pytest.raises(ValueError, match="there are 3; a page shows one"):
        make_run(captions, images=pictures)


def test_without_a_picture_the_page_shows_a_scene_for_each_seed():
    model = Captions.for_data("", channels=2, width=8, blocks=1, heads=2, length=6).eval()
    notes = [next(p["note"] for p in make_run(model, seed=seed)["panels"] if p["name"] == "picture") for seed in (0, 1)]
    drawn = [scenes.captioned_digits(1, (seed, panel.SCENE), pairs="all", digits="test", wording="full").captions[0] for seed in (0, 1)]
    assert notes == [f"drawn by a grammar, which says: {caption}" for caption in drawn] and drawn[0] != drawn[1]


def test_a_picture_is_given_to_inspect_and_refused_for_other_models(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Captions.for_data("", channels=2, width=8, blocks=1, heads=2, length=6).save("captions")
    scene = scenes.captioned_digits(2, 0).pictures
    for name, picture in (("one.png", scene[0]), ("wide.png", np.concatenate([*scene], 1))):
        Path(name).write_bytes(png(picture))
    assert main(["inspect", "captions", "one.png"]) == 0 and "page.html" in capsys.readouterr().out
    assert "the picture that was given" in Path("page.html").read_text("utf-8")
    VAE.new(latent=(2,), hidden=(4,)).save("vae2")
    for arguments, message in ((["vae2", "one.png"], "is of kind 'vae', and captioners alone are shown a picture"),
                               (["captions", "none.png"], "none.png"), (["captions", "wide.png"], "is 64 x 32 pixels; Captions reads 32 x 32")):
        assert main(["inspect", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_a_captioner_learns_two_pictures_by_heart():
    model = Captions.new(seed=0, **TINY, width=16, blocks=1, heads=2)
    pictures = np.stack([np.zeros((8, 8, 3), np.float32), np.ones((8, 8, 3), np.float32)])
    texts, optimiser = ["a red seven", "a small blue two"], Adam(model.parameters(), 0.01)
    for _ in range(60):
        model.loss((pictures, texts), np.random.default_rng(0))["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
    assert model.caption(pictures) == texts


# --- one space


def test_the_loss_tells_pairs_apart_both_ways(model, pictures):
    texts = ["a red seven", "a two", "a blue one"]
    losses = model.loss((pictures, texts), np.random.default_rng(0))
    s = np.exp(contrastive.FIRST_SCALE) * model.similarity(pictures, texts)
    log_p = lambda s: s - np.log(np.exp(s).sum(1, keepdims=True))
    assert np.isclose(losses["pictures"].item(), -np.diag(log_p(s)).mean(), atol=1e-4)
    assert np.isclose(losses["sentences"].item(), -np.diag(log_p(s.T)).mean(), atol=1e-4)
    assert np.isclose(losses["loss"].item(), (losses["pictures"].item() + losses["sentences"].item()) / 2)
    losses["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(ValueError, match="captions: there are 2 for 3 images"):
        model.loss((pictures, texts[:2]), np.random.default_rng(0))


def test_constants_of_the_paper():
    assert np.isclose(np.exp(contrastive.FIRST_SCALE), 1 / 0.07) and np.isclose(np.exp(contrastive.MOST_SCALE), 100)


def test_a_scale_never_passes_a_hundred(model, pictures):
    model.scale.data = np.array(50, np.float32)
    with no_grad():
        s = np.asarray(model(pictures, model.ids(["a red seven", "a two"])))
    assert np.abs(s).max() <= 100.001 and np.allclose(s / 100, model.similarity(pictures, ["a red seven", "a two"]), atol=1e-5)


def test_vectors_have_length_one_and_padding_changes_nothing(model, pictures):
    assert np.allclose(np.linalg.norm(model.embed(pictures), axis=1), 1, atol=1e-5)
    alone = model.embed_text(["a two"])
    assert np.allclose(model.embed_text(["a two", "a red seven above a blue two"])[0], alone[0], atol=1e-5)
    assert np.allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)
    assert np.array_equal(model.embed_text("a two"), alone)


def test_a_sentence_finds_what_is_nearest(model, pictures):
    s = model.similarity(pictures, ["a red seven"])[:, 0]
    assert model.search("a red seven", pictures, 2).tolist() == np.argsort(-s)[:2].tolist()
    p = model.classify(pictures, ["a red seven", "a two"])
    assert p.shape == (3, 2) and np.allclose(p.sum(1), 1)


def test_recall_counts_another_picture_of_the_same_sentence():
    similarity = np.array([[0.1, 0.9, 0.0], [0.8, 0.2, 0.0], [0.5, 0.0, 0.1]])
    assert recall_at_1(similarity, ["a", "b", "c"]) == 0 and np.isclose(recall_at_1(similarity, ["a", "a", "c"]), 2 / 3)


def test_the_space_learns_two_pairs_by_heart():
    model = Contrastive.new(seed=0, **TINY, width=8, text_width=8, text_blocks=1, text_heads=2)
    pictures = np.stack([np.zeros((8, 8, 3), np.float32), np.ones((8, 8, 3), np.float32)])
    optimiser = Adam(model.parameters(), 0.01)
    for _ in range(40):
        model.loss((pictures, ["a red seven", "a two"]), np.random.default_rng(0))["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
    with nn.evaluating(model):
        s = np.asarray(model(pictures, model.ids(["a red seven", "a two"])).data)
    assert s[0, 0] > s[0, 1] + 1 and s[1, 1] > s[1, 0] + 1


@pytest.mark.parametrize("kind", [Captions, Contrastive])
def test_both_are_saved_with_their_vocabulary(kind, tmp_path, pictures):
    model = kind.for_data("captioned-digits", **{**TINY, "width": 8})
    model.save(tmp_path / "m")
    again = zoo.load(tmp_path / "m")
    assert again.config == model.config and all(np.array_equal(a.data, b.data) for a, b in zip(model.parameters(), again.parameters()))
    for field, message in (({"vocabulary": ()}, "vocabulary is empty"), ({"image": (8, 9, 3)}, "4 divides"), ({"image": (8, 8)}, "4 divides")):
        with pytest.raises(ValueError, match=message):
            kind.new(**{**TINY, **field})
