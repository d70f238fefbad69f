"""Pictures from words by way of a VQ-VAE: code by code, and as latents of the flow; and painting into pictures by words."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from zoo.autograd import no_grad
from zoo.data import scenes
from zoo.multimodal.dalle import Dalle
from zoo.multimodal.prompts import PADDING
from zoo.multimodal.words import Words
from zoo.recipes import recipe_of
from zoo.vqvae import VQVAE

SMALL = {"vocabulary": scenes.VOCABULARY, "length": 14, "width": 16, "blocks": 2, "heads": 2}
WORDS = {"channels": 8, "multipliers": (1, 2), "text_width": 8, "text_blocks": 1, "text_heads": 2, "length": 14, "evaluations": 4, "sampler": "euler"}


def stirred(model, seed=1, deviation=0.3):
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data[...] = rng.normal(0, deviation, p.shape)
    return model


@pytest.fixture(scope="module")
def vqvae(tmp_path_factory):
    model = stirred(VQVAE.new(image=(32, 32, 3), channels=4, codes=12, width=4, binarise=False, prior_layers=1, prior_heads=1, prior_width=8))
    drawn = scenes.captioned_digits(16, 0)
    model.loss(drawn.pictures, np.random.default_rng(0))  # fills the codebook
    folder = tmp_path_factory.mktemp("vqvae")
    model.save(folder)
    return str(folder)


@pytest.fixture
def dalle(vqvae):
    return stirred(Dalle.new(autoencoder=vqvae, **SMALL))


def test_padding_changes_nothing_and_every_word_something(dalle):
    words, given = dalle.ids(["a red seven", "a blue two above a three"])[:, :10], np.random.default_rng(0).integers(0, 12, (2, 64))
    with no_grad():
        y = np.asarray(dalle(words, given).data)
        dalle.text.embedding.weight.data[PADDING] = 50
        assert np.array_equal(np.asarray(dalle(words, given).data), y)
        assert np.allclose(np.asarray(dalle(words[:1, :4], given[:1]).data), y[:1], atol=1e-4)
        for place in range(4):
            other = words.copy()
            other[0, place] = 7 if other[0, place] != 7 else 8
            assert not np.allclose(np.asarray(dalle(other, given).data)[0, 0], y[0, 0], atol=1e-4)
            assert np.array_equal(np.asarray(dalle(other, given).data)[1], y[1])


def test_a_code_depends_on_those_before_it_alone(dalle):
    words, given = dalle.ids(["a red seven"])[:, :4], np.random.default_rng(0).integers(0, 12, (1, 64))
    with no_grad():
        y = np.asarray(dalle(words, given).data)
        for place in (0, 17, 63):
            other = given.copy()
            other[0, place] = (other[0, place] + 1) % 12
            z = np.asarray(dalle(words, other).data)
            assert np.array_equal(z[:, :place], y[:, :place]) and not np.allclose(z[:, place], y[:, place], atol=1e-4)


def test_cached_logits_equal_those_of_the_whole_and_every_step_replays(dalle):
    texts = ["a red seven", "a blue two above a three"]
    for guidance in (1.0, 2.5):
        steps = list(dalle.steps(prompt=texts, seed=3, guidance=guidance))
        codes = [s for s in steps if s.name.startswith("code")]
        assert len(codes) == 64 and all(step.replay().equals(step) for step in steps)
        given = np.stack([s.given for s in codes], axis=1)
        with no_grad():
            told = np.asarray(dalle(dalle.ids(texts), given).data)
            silent = np.asarray(dalle(np.full((2, 1), 1), given).data)
        logits = np.stack([s.logits for s in codes], axis=1)
        assert np.allclose(logits, silent + guidance * (told - silent), atol=1e-3)
    assert np.array_equal(steps[-1].value, dalle.sample(prompt=texts, seed=3, guidance=2.5))
    assert steps[-1].value.shape == (2, 32, 32, 3)


def test_guidance_and_temperature_are_those_of_the_configuration_unless_given(dalle, vqvae):
    model = stirred(Dalle.new(autoencoder=vqvae, guidance=2.0, temperature=0.25, **SMALL))  # the same weights
    steps, by_hand = (list(m.steps(prompt="a red seven", seed=3, **settings)) for m, settings in ((model, {}), (dalle, {"guidance": 2.0, "temperature": 0.25})))
    assert all(a.equals(b) for a, b in zip(steps, by_hand, strict=True))
    e = np.exp((steps[0].logits - steps[0].logits.max()) / 0.25)
    assert np.allclose(steps[0].probabilities, e / e.sum(), atol=1e-6)


def test_it_learns_what_a_caption_says(dalle):
    drawn = scenes.captioned_digits(4, 0)
    losses = dalle.loss((drawn.pictures, ["a red seven", "a two", "a blue one", "a four"]), np.random.default_rng(0))
    losses["loss"].backward()
    assert all(p.grad is not None and np.isfinite(p.grad).all() for p in dalle.parameters())
    with pytest.raises(ValueError, match="captions: there are 1 for 4 pictures"):
        dalle.loss((drawn.pictures, ["a two"]), np.random.default_rng(0))


def test_it_is_saved_without_its_vqvae_and_refuses_another(dalle, vqvae, tmp_path):
    dalle.save(tmp_path / "m")
    again = zoo.load(tmp_path / "m")
    assert np.array_equal(again.sample(prompt="a red seven", seed=1), dalle.sample(prompt="a red seven", seed=1))
    other = zoo.load(vqvae)
    before = other.arrays()
    stirred(other, 9).save(vqvae)
    with pytest.raises(ValueError, match="isn't the one whose codes this model learned"):
        zoo.load(tmp_path / "m")
    other.load_arrays(before)
    other.save(vqvae)


@pytest.mark.parametrize(("settings", "message"), [
    ({"prompt": "a rad seven"}, "the nearest it knows: red"), ({"prompt": []}, r"prompt: is \[\]"), ({"n": 3, "prompt": ["a"]}, "prompt: has 1 texts for 3"),
    ({"prompt": "a", "temperature": 0}, "temperature: is 0"), ({"prompt": "a", "guidance": "x"}, "guidance: is 'x'")])
def test_what_cannot_be_is_refused_in_a_line(dalle, settings, message):
    with pytest.raises(ValueError, match=message):
        list(dalle.steps(**settings))


def test_it_needs_a_vqvae():
    for folder, error, message in (("", ValueError, "autoencoder is ''"), ("nowhere", FileNotFoundError, "neither a folder nor"),
                                   ("vae", ValueError, "must be a VQ-VAE")):
        with pytest.raises(error, match=message):
            Dalle.new(autoencoder=folder, **SMALL)


def test_the_recipe_trains_it(vqvae):
    recipe = recipe_of("dalle")
    fields, training = recipe.settings(autoencoder=vqvae, steps=2, batch_size=4, width=16, blocks=1, heads=2)
    model = recipe.new(recipe.data(None), fields, 0)
    assert len(list(recipe.trainer(model, "captioned-digits", training))) == 2


# --- the flow over a VQ-VAE's grid


def test_words_draw_in_latents_of_a_vqvae(vqvae, tmp_path):
    model = stirred(Words.for_data("captioned-digits", seed=0, autoencoder=vqvae, **WORDS), deviation=0.1)
    assert model.config.image == (8, 8, 4) and model.sample_shape == (32, 32, 3) and not model.pictures
    drawn = scenes.captioned_digits(300, 9)
    x_0 = model.to_network_range(drawn.pictures)
    assert np.allclose(x_0.mean((0, 1, 2)), 0, atol=0.2) and np.allclose(x_0.std((0, 1, 2)), 1, atol=0.2)
    assert np.allclose(model.to_pictures(x_0), zoo.load(vqvae).reconstruct(drawn.pictures), atol=1e-5)
    loss = model.loss((drawn.pictures[:2], ["a red seven", "a two"]), np.random.default_rng(0))["loss"]
    loss.backward()
    steps = list(model.steps(prompt="a red seven", seed=1))
    assert all(step.replay().equals(step) for step in steps) and steps[-1].picture.shape == (1, 32, 32, 3)
    x = model.sample(prompt=["a red seven", "a two"], seed=1)
    assert x.shape == (2, 32, 32, 3) and 0 <= x.min() and x.max() <= 1
    model.save(tmp_path / "m")
    assert np.array_equal(zoo.load(tmp_path / "m").sample(prompt=["a red seven", "a two"], seed=1), x)
    with pytest.raises(ValueError, match="inpaint: this is a model of latents"):
        model.inpaint(x, np.ones((32, 32), bool), prompt="a two")


# --- painting into a picture by words


def test_what_the_mask_keeps_stays_and_the_rest_follows_the_words():
    model = stirred(Words.for_data("captioned-digits", seed=0, **WORDS))
    drawn = scenes.captioned_digits(2, 0)
    mask = np.zeros((32, 32), bool)
    mask[:16] = True
    settings = {"repeats": 1, "evaluations": 4, "seed": 0}
    red, green = (model.inpaint(drawn.pictures, mask, prompt=f"a {colour} seven", **settings) for colour in ("red", "green"))
    assert np.allclose(red[:, :16], drawn.pictures[:, :16], atol=1e-5) and np.array_equal(red[:, :16], green[:, :16])
    assert not np.allclose(red[:, 16:], green[:, 16:], atol=1e-4) and not np.allclose(red[:, 16:], drawn.pictures[:, 16:], atol=1e-2)
    steps = list(model.inpaint_steps(drawn.pictures, mask, prompt="a red seven", **settings))
    assert all(step.replay().equals(step) for step in steps)
    with pytest.raises(ValueError, match="the nearest it knows: red"):
        model.inpaint(drawn.pictures, mask, prompt="a rad seven")
    assert not np.allclose(model.edit(drawn.pictures, 0.5, prompt="a red seven", evaluations=4),
                           model.edit(drawn.pictures, 0.5, prompt="a green seven", evaluations=4), atol=1e-4)
