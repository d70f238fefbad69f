"""How the models of scenes and sentences are trained: what is drawn, in which order, and how the rate falls."""

import numpy as np
import pytest

from zoo import recipes
from zoo.data import scenes

TINY = {
    "words": {"channels": 8, "multipliers": (1,), "unshuffle": 4, "text_width": 8, "text_heads": 2, "heads": 2},
    "captions": {"channels": 4, "width": 8, "blocks": 1, "heads": 2},
    "contrastive": {"channels": 4, "width": 8, "text_blocks": 1},
    "scene_judge": {"channels": 4},
}


def trainer_of(kind, *, seed=0, **settings):
    recipe = recipes.recipe_of(kind)
    fields, training = recipe.settings(None, **{**TINY[kind], "steps": 40, "batch_size": 6, **settings})
    data = recipe.data(None)
    return recipe.trainer(recipe.new(data, fields, 1), data, training, seed=seed)


def drawn(trainer, step):
    """The pictures of a batch, and all else that it holds, as arrays."""
    batch = trainer.batches(step, np.random.default_rng(0))
    return [np.asarray(part) for part in (batch[:2] if isinstance(batch, tuple) and not hasattr(batch, "pictures") else (batch.pictures, batch.captions))]


@pytest.mark.parametrize("kind", TINY)
def test_a_batch_depends_on_seed_and_step_alone(kind):
    pictures, texts = drawn(trainer_of(kind), 3)
    again = drawn(trainer_of(kind), 3)
    assert len(pictures) == len(texts) == 6 and np.array_equal(pictures, again[0]) and np.array_equal(texts, again[1])
    for seed, step in ((0, 4), (1, 3)):
        assert not np.array_equal(pictures, drawn(trainer_of(kind, seed=seed), step)[0])
    assert len({a.tobytes() for a in pictures}) == 6


@pytest.mark.parametrize("kind", ["words", "captions"])
def test_sentences_that_are_held_out_are_never_drawn(kind):
    trainer = trainer_of(kind, batch_size=50)
    for step in range(4):
        counts = (0.15, 0.35, 0.2, 0.3) if kind == "words" else scenes.COUNTS
        batch = scenes.captioned_digits(50, (0, step, 0x5CE if kind == "words" else 0xCA9), wording="free" if kind == "words" else "full", counts=counts)
        pictures, ids = drawn(trainer, step)
        assert np.array_equal(pictures, batch.pictures) and np.array_equal(ids, trainer.model.ids(batch.captions))
        assert not any(scenes.is_held_out(d.digit, d.colour) for things in batch.attributes for d in things)


def test_half_of_what_the_shared_space_learns_from_says_all():
    _, ids = drawn(trainer_of("contrastive", batch_size=7), 2)
    full = scenes.captioned_digits(3, (0, 2, 0xC11B, 0), pairs="all", wording="full").captions
    free = scenes.captioned_digits(4, (0, 2, 0xC11B, 1), pairs="all", wording="free").captions
    assert np.array_equal(ids, trainer_of("contrastive").model.ids([*full, *free]))


@pytest.mark.parametrize(("kind", "warm_up"), [("words", 4), ("captions", 4), ("contrastive", 4), ("scene_judge", 4)])
def test_the_rate_rises_for_a_tenth_at_most_and_falls_to_nothing(kind, warm_up):
    trainer = trainer_of(kind)
    rates = [trainer.schedule(step) for step in range(40)]
    assert np.argmax(rates) in (warm_up - 1, warm_up) and rates[0] < 0.5 and rates[-1] < 0.01 and max(rates) == pytest.approx(1, abs=0.01)
    assert trainer.average.decay == pytest.approx(0.999)
