"""Words and pictures: sentences are true of their pictures, nothing held out is trained on, and what is masked changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.autograd import Tensor, no_grad
from zoo.data import glyphs, scenes
from zoo.data.images import mnist
from zoo.multimodal import prompts
from zoo.multimodal.networks import attend, pixel_shuffle, pixel_unshuffle
from zoo.multimodal.scene_judge import SceneJudge, match
from zoo.multimodal.text import THETA, TextEncoder, pooled, rotation
from zoo.multimodal.words import Words

TINY = {"image": (8, 8, 3), "channels": 8, "multipliers": (1, 2), "text_width": 8, "text_blocks": 1, "text_heads": 2, "length": 14,
        "vocabulary": scenes.VOCABULARY, "evaluations": 4, "sampler": "euler"}
NETWORKS = {"unet": {}, "unshuffled": {"unshuffle": 2, "multipliers": (1, 1)}, "transformer": {"network": "transformer", "patch": 4, "blocks": 2, "heads": 2}}


def stirred(model, seed=1):
    """All weights drawn anew: layers that start at 0 would hide what comes before them."""
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data[...] = rng.normal(0, 0.3, p.shape)
    return model


@pytest.fixture(params=NETWORKS)
def words(request):
    return stirred(Words.new(seed=0, **{**TINY, **NETWORKS[request.param]}))


# --- scenes and their sentences


@given(st.integers(0, 10**6), st.sampled_from(["seen", "held out", "all"]))
@settings(max_examples=20)
def test_a_sentence_is_true_of_its_scene_and_pairs_are_held_out(seed, pairs):
    drawn = scenes.captioned_digits(8, seed, pairs=pairs)
    assert drawn.pictures.shape == (8, 32, 32, 3) and drawn.pictures.dtype == np.float32
    assert 0 <= drawn.pictures.min() and drawn.pictures.max() <= 1
    for caption, things in zip(drawn.captions, drawn.attributes):
        asked = scenes.asked_for(caption)
        assert len(asked) == len(things)
        for wanted, thing in zip(asked, things):
            assert wanted["digit"] == thing.digit and all(getattr(thing, name) == value for name, value in wanted.items())
        held_out = [scenes.is_held_out(t.digit, t.colour) for t in things]
        assert pairs == "all" or any(held_out) == (pairs == "held out")
        assert set(prompts.words_of(caption)) <= set(scenes.VOCABULARY) and " a o" not in caption and " a e" not in caption
    again = scenes.captioned_digits(8, seed, pairs=pairs)
    assert again.captions == drawn.captions and np.array_equal(again.pictures, drawn.pictures)


def test_a_digit_lies_at_its_place_in_its_colour_and_size():
    for place, centre in scenes.PLACES.items():
        for colour, rgb in scenes.COLOURS.items():
            for size, side in scenes.SIZES.items():
                (picture,) = scenes.draw([(scenes.Thing(8, colour, size, place),)], np.random.default_rng(0))
                rows, columns = np.nonzero(picture.sum(-1) > 0.05)
                assert abs(rows.mean() - centre[0]) < 3 and abs(columns.mean() - centre[1]) < 3
                assert max(np.ptp(rows), np.ptp(columns)) + 1 <= side and max(np.ptp(rows), np.ptp(columns)) > 0.6 * side
                brightest = picture.reshape(-1, 3)[picture.sum(-1).argmax()]
                assert np.allclose(brightest / brightest.max(), np.array(rgb) / max(rgb), atol=0.02)


def test_the_held_out_pairs_are_eight_each_colour_once():
    pairs = [(digit, colour) for digit in range(10) for colour in scenes.COLOURS if scenes.is_held_out(digit, colour)]
    assert len(pairs) == len({digit for digit, _ in pairs}) == len({colour for _, colour in pairs}) == 8


def test_the_held_out_pairs_are_the_same_for_ever():
    """Models that were trained without them are judged by them."""
    pairs = {colour: digit for digit in range(10) for colour in scenes.COLOURS if scenes.is_held_out(digit, colour)}
    assert pairs == {"red": 4, "orange": 1, "yellow": 8, "green": 5, "cyan": 2, "blue": 9, "pink": 6, "white": 3}


def test_scenes_are_of_every_kind():
    rng = np.random.default_rng(0)
    arranged = [scenes._arrange(rng, scenes.COUNTS) for _ in range(500)]
    by_count = {n: [(things, relation) for things, relation in arranged if len(things) == n] for n in range(1, 5)}
    assert sum(map(len, by_count.values())) == 500 and all(50 < len(some) < 250 for some in by_count.values())
    assert {things[0].place for things, _ in by_count[1]} == {*scenes.CORNERS, "middle"} and {relation for _, relation in by_count[1]} == {None}
    assert {relation: tuple(t.place for t in things) for things, relation in by_count[2]} == scenes.RELATIONS
    for n in (3, 4):
        assert {t.place for things, _ in by_count[n] for t in things} == set(scenes.CORNERS) and all(len({t.place for t in things}) == n for things, _ in by_count[n])
    together = [t for things, _ in arranged for t in things]
    assert {t.digit for t in together} == set(range(10)) and {t.colour for t in together} == set(scenes.COLOURS) and {t.size for t in together} == set(scenes.SIZES)


@pytest.mark.parametrize("pairs", ["seen", "held out", "all"])
def test_a_full_sentence_says_all_in_the_order_in_which_one_reads(pairs):
    drawn = scenes.captioned_digits(60, 4, pairs=pairs, wording="full")
    for caption, things in zip(drawn.captions, drawn.attributes):
        assert scenes.asked_for(caption) == tuple({"size": t.size, "colour": t.colour, "digit": t.digit, "place": t.place} for t in things)
        assert [scenes.PLACES[t.place] for t in things] == sorted(scenes.PLACES[t.place] for t in things)
        assert "below" not in caption and "right of" not in caption
    assert len(scenes.captioned_digits(1)) == 1


SEVEN, TWO = {"digit": 7}, {"digit": 2}


@pytest.mark.parametrize(("caption", "asked"), [
    ("a seven", [SEVEN]), ("an orange seven in the middle", [{**SEVEN, "colour": "orange", "place": "middle"}]),
    ("a small seven at the top left", [{**SEVEN, "size": "small", "place": "top left"}]), ("a large red seven", [{**SEVEN, "size": "large", "colour": "red"}]),
    ("a seven above a two", [{**SEVEN, "place": "top"}, {**TWO, "place": "bottom"}]), ("a seven below a two", [{**SEVEN, "place": "bottom"}, {**TWO, "place": "top"}]),
    ("a seven to the left of a two", [{**SEVEN, "place": "left"}, {**TWO, "place": "right"}]),
    ("a seven to the right of a two", [{**SEVEN, "place": "right"}, {**TWO, "place": "left"}]),
    ("a seven at the top left, a two at the top right and a two at the bottom left",
     [{**SEVEN, "place": "top left"}, {**TWO, "place": "top right"}, {**TWO, "place": "bottom left"}])])
def test_what_a_sentence_asks_for(caption, asked):
    assert scenes.asked_for(caption) == tuple(asked)


def test_squares_of_ink_lie_where_their_places_say(monkeypatch):
    """As far off as the generator says, but within the picture; of two colours the brighter channel shows."""
    ink = {size: np.full((1, side, side), 51, np.uint8) for size, side in scenes.SIZES.items()}
    monkeypatch.setattr(scenes, "_handwriting", lambda digits: (ink, [np.array([0])] * 10))

    class Chosen:
        def integers(self, low, high=None):
            return 0 if high is None else shift if (low, high) == (-1, 2) else None

        def uniform(self, low, high):
            return low if (low, high) == (0.85, 1.0) else None

    for place, (row, column) in scenes.PLACES.items():
        for size, side in (("small", 11), ("large", 16)):
            for shift in (-1, 0, 1):
                (picture,) = scenes.draw([(scenes.Thing(3, "orange", size, place),)], Chosen())
                top, left = (int(np.clip(centre - side // 2 + shift, 0, 32 - side)) for centre in (row, column))
                expected = np.zeros((32, 32, 3))
                expected[top : top + side, left : left + side] = 0.2 * 0.85 * np.array([1, 0.55, 0])
                assert np.allclose(picture, expected, atol=1e-6)
    shift = 0
    both = scenes.draw([(scenes.Thing(1, "red", "large", "middle"), scenes.Thing(1, "blue", "small", "middle"))], Chosen())[0]
    assert np.allclose(both[16, 16], 0.17 * np.array([1, 0.3, 1])) and np.allclose(both[9, 9], 0.17 * np.array([1, 0.1, 0.1])) and not both[7, 7].any()


def block_means(x, side):
    """(n, 20, 20) -> (n, side, side): each pixel cut into side x side, and means of 20 x 20 of these."""
    return np.kron(x, np.ones((side, side))).reshape(len(x), side, 20, side, 20).mean((2, 4))


def test_digits_are_made_smaller_by_the_area_of_their_pixels(rng):
    x = rng.random((3, 28, 28)).astype(np.float32)
    expected = np.zeros((3, 32, 32, 3))
    expected[:, 8:24, 8:24] = np.minimum(1, 1.15 * block_means(x[:, 4:24, 4:24], 16))[..., None]
    assert np.allclose(scenes.as_scenes(x), expected, atol=1e-6) and scenes.as_scenes(np.ones((1, 28, 28))).max() == 1
    for shape in ((28, 28), (2, 28, 27), (2, 27, 28), (1, 2, 28, 28)):
        with pytest.raises(ValueError, match="^digits: shape is"):
            scenes.as_scenes(np.zeros(shape))
    images = mnist()
    for name, pictures, labels in (("train", images.train, images.train_labels), ("test", images.test, images.test_labels)):
        by_size, rows = scenes._handwriting(name)
        for size, side in (("small", 11), ("large", 16)):
            expected = 255 * np.minimum(1, 1.15 * block_means(pictures[:20, 4:24, 4:24].astype(float), side))
            assert by_size[size].shape == (len(pictures), side, side) and np.abs(by_size[size][:20] - expected).max() < 0.501 and by_size[size].max() == 255
        assert len(rows) == 10 and all(np.array_equal(rows[digit], np.flatnonzero(labels == digit)) for digit in range(10))


@pytest.mark.parametrize("caption", [
    "", "red seven", "a red", "a red seven the", "a red seven at the moon", "a red seven above", "a blue red seven", "a", "a the", "a seven top left", "a seven middle",
    "a seven at the above", "a seven a two above", "a seven above a two above a two", "a seven above a two a two", "moon a seven", "and a seven"])
def test_other_sentences_are_refused(caption):
    with pytest.raises(ValueError, match=r"^caption: "):
        scenes.asked_for(caption)


@pytest.mark.parametrize(("arguments", "name"), [({"n": 0}, "n"), ({"n": True}, "n"), ({"n": 2, "pairs": "no"}, "pairs"), ({"n": 2, "digits": "x"}, "digits"),
                                                 ({"n": 1.0}, "n"), ({"n": 2, "wording": "x"}, "wording"), *(
                                                     ({"n": 2, "counts": counts}, "counts") for counts in ((1, 1, 1), (0, 0, 0, 0), (1, 1, 1, -1),
                                                                                                           (1, 1, 1, np.nan), (1, 1, 1, np.inf)))])
def test_scenes_refuse_other_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"^captioned_digits: {name} is "):
        scenes.captioned_digits(**arguments)


@given(st.lists(st.sampled_from([0, 1, 3]), min_size=4, max_size=4).filter(any), st.integers(0, 99))
def test_crowds_are_as_likely_as_they_are_said_to_be(counts, seed):
    sizes = np.bincount([len(things) for things in scenes.captioned_digits(80, seed, counts=counts).attributes], minlength=5)[1:]
    shares = np.array(counts) / sum(counts)
    assert (sizes[shares == 0] == 0).all()
    assert (abs(sizes - 80 * shares) <= 5.5 * np.sqrt(80 * shares * (1 - shares))).all()
    assert scenes.captioned_digits(8, seed, counts=list(scenes.COUNTS)).captions == scenes.captioned_digits(8, seed).captions


def test_glyphs_hold_out_pairs_whose_parts_are_known():
    seen, held_out = glyphs.glyphs(styles=["mono"]), glyphs.glyphs("held out", styles=["mono"])
    parts = {glyphs.name_of(c) for c in seen.characters}
    assert len(seen) > 2500 and len(held_out) > 40 and not set(seen.characters) & set(held_out.characters)
    assert not any(glyphs.is_held_out(name) for name in parts)
    for character in held_out.characters:
        base, marks = glyphs.name_of(character)
        assert marks and any(name.base == base for name in parts) and any(name.marks == marks for name in parts)
    assert {w for c in held_out.captions for w in c.split()} <= set(glyphs.vocabulary(seen.captions))
    assert "mono latin small letter o with diaeresis" in {*seen.captions, *held_out.captions}
    assert seen.pictures.shape[1:] == (32, 32) and all(picture.max() > 0.1 for picture in seen.pictures)
    upright = seen.pictures[seen.captions.index("mono latin capital letter o")]
    columns = np.flatnonzero(upright.max(0))
    assert abs(columns[0] - (31 - columns[-1])) <= 1  # in the middle
    with pytest.raises(ValueError, match=r"style is 'gothic'; it may be sans"):
        glyphs.glyphs(styles=["gothic"])


# --- prompts


def test_a_prompt_is_its_words():
    ids = prompts.ids_of(("a", "red", "seven", ","), 6, "A red, seven.")
    assert ids.tolist() == [prompts.BEGIN, 2, 3, 5, 4, prompts.PADDING]


@pytest.mark.parametrize(("text", "message"), [
    ("", "is '', which has no word in it"), (" . ", "has no word in it"), (7, "is 7; it is a text"),
    ("a rad seven", r"doesn't know the word 'rad'; the nearest it knows: red"), ("a xyzzy", "it knows 4, such as a, red, seven, ,"),
    ("a red red red red seven", "has 6 words; this model reads at most 5")])
def test_what_cannot_be_read_is_refused_in_a_line(text, message):
    with pytest.raises(ValueError, match=message) as e:
        prompts.ids_of(("a", "red", "seven", ","), 6, text)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("settings", "message"), [
    ({"then": [(0.2, ["a"]), (0.5, ["a"])]}, r"t is 0\.5; it lies between 0 and 1, below the one before, 0\.2"), ({"then": [(1.0, ["a"])]}, "t is 1"),
    ({"then": [(0.5, ["a", "a"])]}, "has 2 texts"), ({"weights": {"red": 2}}, "'red' is in none of the prompts"),
    ({"weights": {"blue": 2}}, "in none"), ({"weights": {"a": -1}}, "at least 0"), ({"weights": {"a": np.nan}}, "at least 0")])
def test_changes_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        prompts.encode(("a", "red"), 4, ["a"], **settings)


def test_each_stage_holds_down_to_its_t():
    stages = prompts.encode(("a", "b", "c"), 2, ["a", "b"], then=[(0.6, ["b", "c"]), (0.2, ["c", "a"])])
    for t, expected in ((1.0, "ab"), (0.61, "ab"), (0.6, "bc"), (0.3, "bc"), (0.2, "ca"), (0.0, "ca")):
        word, weight = prompts.at_time(stages, np.full(2, t))
        assert word[:, 1].tolist() == [2 + "abc".index(c) for c in expected] and (weight == 1).all()


# --- what is masked changes nothing


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_padding_changes_nothing_and_every_word_something(positions):
    encoder = stirred(TextEncoder(5, 8, 8, 2, 2, positions, rng=np.random.default_rng(0)))
    ids = np.array([[1, 2, 3, 4, 0, 0, 0, 0]])
    with no_grad():
        text, mask = encoder(ids)
        encoder.embedding.weight.data[prompts.PADDING] = 1e3
        again, _ = encoder(ids)
        assert np.array_equal(text.data[:, :4], again.data[:, :4]) and mask.sum() == 4
        shorter, _ = encoder(ids[:, :4])
        assert np.allclose(text.data[:, :4], shorter.data, atol=1e-5)
        assert np.allclose(pooled(text, mask).data, text.data[:, :4].mean(1), atol=1e-6)
        for i in range(4):
            other = ids.copy()
            other[0, i] = 6
            assert not np.allclose(encoder(other)[0].data[:, 0], text.data[:, 0], atol=1e-4)


def test_rotary_positions_know_how_far_words_are_apart_and_learned_ones_which_word_it_is():
    sentence, shift = np.array([1, 2, 3, 4]), 3
    early, late = np.zeros((2, 1, 8), np.int64)
    early[0, :4], late[0, shift : shift + 4] = sentence, sentence
    for positions, distance_alone in (("rotary", True), ("learned", False)):
        encoder = stirred(TextEncoder(5, 8, 8, 2, 2, positions, rng=np.random.default_rng(0)))
        with no_grad():
            a, b = encoder(early)[0].data[:, :4], encoder(late)[0].data[:, shift : shift + 4]
            other = encoder(np.array([[1, 3, 2, 4, 0, 0, 0, 0]]))[0].data[:, :4]
        assert np.allclose(a, b, atol=1e-5) == distance_alone
        assert not np.allclose(other[:, 3], a[:, 3], atol=1e-4)  # the order of the words before it is seen all the same


def test_rotary_angles_are_powers_of_theta():
    cosine, sine = rotation(5, 6)
    angles = np.array([[m * 100.0 ** (-2 * i / 6) for i in range(3)] for m in range(5)])
    assert THETA == 100 and np.allclose(cosine, np.cos(angles), atol=1e-6) and np.allclose(sine, np.sin(angles), atol=1e-6)


def test_a_picture_depends_on_its_words_alone_and_not_on_the_room_for_more(words):
    x, t = np.random.default_rng(0).standard_normal((2, 8, 8, 3), np.float32), np.array([0.3, 0.9])
    prompt = words.prompts_for(["a red seven", "a blue two"], 2)
    with no_grad():
        y = words.predict(x, t, prompt).data
        words.text.embedding.weight.data[prompts.PADDING] = 50
        assert np.allclose(words.predict(x, t, prompt).data, y, atol=1e-5)
        assert np.allclose(words.predict(x, t, prompt[:, :, :5]).data, y, atol=1e-4)
        swapped = words.predict(x[::-1].copy(), t[::-1].copy(), prompt[::-1].copy()).data[::-1]
        assert np.allclose(swapped, y, atol=1e-4)
        assert not np.allclose(words.predict(x, t, words.prompts_for("a red two", 2)).data, y, atol=2e-5)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_a_weight_multiplies_what_a_word_receives(seed):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((2, 2, n, 4), np.float32) for n in (5, 3, 3))
    mask, weight = np.array([[True, True, True], [True, True, False]]), np.array([[1, 0.5, 2], [0, 3, 1]], np.float32)
    scores = np.where(mask[:, None, None], q @ k.swapaxes(2, 3) / 2, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    assert np.allclose(attend(q, k, v, mask, weight), shares * weight[:, None, None] @ v, atol=1e-5)
    assert np.allclose(attend(q, k, v, mask, np.ones_like(weight)), shares @ v, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.permutations(range(4)))
@settings(max_examples=10)
def test_permuted_padding_changes_nothing(seed, order):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((2, 2, n, 4), np.float32) for n in (5, 7, 7))
    mask, weight = np.arange(7) < np.array([[3], [3]]), rng.random((2, 7), np.float32)
    moved = np.array([0, 1, 2, *(3 + i for i in order)])
    for w in (None, weight):
        y = attend(q, k, v, mask, w)
        assert np.allclose(attend(q, k[:, :, moved], v[:, :, moved], mask, w), y, atol=1e-6)
        assert np.allclose(attend(q, k[:, :, :3], v[:, :, :3], mask[:, :3], None if w is None else w[:, :3]), y, atol=1e-6)


def test_vectors_of_padding_can_be_permuted_or_replaced_and_words_cannot(words):
    x, times = np.random.default_rng(0).standard_normal((2, 8, 8, 3), np.float32), np.array([30.0, 90.0])
    with no_grad():
        text, mask = words.text(words.ids(["a red seven", "a blue two"]))
        weight = np.ones(mask.shape, np.float32)
        y = words.network(x, times, text, mask, weight).data
        values, used = text.data, int(mask.sum(1)[0])
        permuted = np.concatenate([values[:, :used], values[:, :used - 1:-1]], 1)
        noise = np.where(mask[:, :, None], values, 7.0).astype(np.float32)
        for other in (permuted, noise):
            assert not np.array_equal(other, values)
            assert np.allclose(words.network(x, times, Tensor(other), mask, weight).data, y, atol=1e-5)
        noise[:, 2] = 7.0
        assert not np.allclose(words.network(x, times, Tensor(noise), mask, weight).data, y, atol=1e-4)


def test_a_word_of_weight_nothing_is_not_looked_at(words):
    """Its vector reaches no pixel by attention.  (The mean of all words still goes to the network beside t.)"""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 2, n, 4), np.float32) for n in (5, 4, 4))
    mask, weight = np.ones((2, 4), bool), np.array([[1, 0, 2, 1], [1, 0, 1, 1]], np.float32)
    other = v.copy()
    other[:, :, 1] = 1e3
    assert np.array_equal(attend(q, k, other, mask, weight), attend(q, k, v, mask, weight))
    other[:, :, 2] = 1e3
    assert not np.allclose(attend(q, k, other, mask, weight), attend(q, k, v, mask, weight))
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 3), np.float32)
    with no_grad():
        pictures = [words.predict(x, np.array([0.5]), words.prompts_for("a red seven", 1, weights={"red": w})).data for w in (0, 0.0, 1e-6, 1)]
    assert np.array_equal(pictures[0], pictures[1]) and np.allclose(pictures[0], pictures[2], atol=1e-4)
    assert not np.allclose(pictures[0], pictures[3], atol=1e-5)


# --- the model


@given(st.sampled_from([1, 2, 4]), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=10)
def test_squares_become_channels_and_squares_again(side, n, colours):
    x = np.random.default_rng(0).standard_normal((n, 8, 4, colours), np.float32)
    y = pixel_unshuffle(x, side)
    assert y.shape == (n, 8 // side, 4 // side, side * side * colours)
    assert np.array_equal(pixel_shuffle(y, side, x.shape), x)
    assert np.array_equal(y[0, 1 if side < 8 else 0, 0, :colours], x[0, side, 0])


@pytest.mark.parametrize(("fields", "message"), [({"unshuffle": 4}, r"image is \(8, 8, 3\); with unshuffle 4 and 2 levels"),
                                                 ({"unshuffle": 2, "network": "transformer", "heads": 2}, "unshuffle is 2; it is for 'unet'")])
def test_squares_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Words.new(**{**TINY, **fields})


def test_a_step_of_training_tells_or_withholds_the_words(words):
    drawn = scenes.captioned_digits(6, 0)
    pictures = drawn.pictures[:, ::4, ::4]
    captions = ["a red seven", "a two", "a blue one", "a four", "a six", "a nine"]
    loss = words.loss((pictures, captions), np.random.default_rng(0))["loss"]
    assert loss.item() == words.loss((pictures, words.ids(captions)), np.random.default_rng(0))["loss"].item()
    loss.backward()
    assert all(p.grad is not None and np.isfinite(p.grad).all() for p in words.parameters())
    batch = words._training_labels(words.ids(captions), 6, np.random.default_rng(3))
    told = (batch["word"][:, 0] != prompts.PADDING).sum(1) > 1
    shares = np.mean([(words._training_labels(words.ids(captions), 6, np.random.default_rng(i))["word"][:, 0, 1] == 0).mean() for i in range(400)])
    assert told.any() and abs(shares - 0.1) < 0.03  # five standard deviations
    with pytest.raises(ValueError, match="captions: there are 5 for 6 pictures"):
        words.loss((pictures, captions[:5]), np.random.default_rng(0))


def test_words_can_be_exchanged_half_way_and_every_step_replayed(words):
    plain = list(words.steps(prompt="a red seven", seed=3))
    changed = list(words.steps(prompt="a red seven", then=(0.5, "a green seven"), seed=3))
    assert [s.t for s in changed] == [1.0, 0.75, 0.5, 0.25]
    assert [a.equals(b) for a, b in zip(plain, changed)] == [True, True, False, False]
    assert all(step.replay().equals(step) for step in changed)
    green = list(words.steps(prompt="a green seven", seed=3))
    x = changed[2].x_t
    assert np.array_equal(changed[2].prediction, words.denoise(x, 0.5, words.prompts_for("a green seven", 1)).prediction) and not green[2].equals(changed[2])
    heavier = words.sample(prompt="a red seven", weights={"red": 4.0}, seed=3)
    assert not np.allclose(heavier, words.sample(prompt="a red seven", seed=3))


def test_guidance_exaggerates_what_the_sentence_changes(words):
    x, prompt = np.random.default_rng(0).standard_normal((1, 8, 8, 3), np.float32), words.prompts_for("a red seven", 1)
    told, silent = (words.denoise(x, 0.5, labels).prediction for labels in (prompt, None))
    guided = words.denoise(x, 0.5, prompt, guidance=3.0).prediction
    assert np.allclose(guided, silent + 3 * (told - silent), atol=1e-5) and not np.allclose(told, silent, atol=2e-5)


def test_words_are_exchanged_under_guidance_too(words):
    told, silent = (words.sample(prompt="a red seven", then=(0.5, "a green seven"), guidance=g, seed=3) for g in (3.0, 1.0))
    assert not np.allclose(told, silent) and not np.allclose(told, words.sample(prompt="a red seven", guidance=3.0, seed=3))
    same = words.sample(prompt="a red seven", then=(0.5, "a red seven"), guidance=3.0, seed=3)
    assert np.allclose(same, words.sample(prompt="a red seven", guidance=3.0, seed=3), atol=1e-5)


def test_samples_are_one_for_each_prompt_and_the_same_alone(words):
    x = words.sample(prompt=["a red seven", "a blue two"], seed=0)
    assert x.shape == (2, 8, 8, 3) and x.dtype == np.float32 and 0 <= x.min() and x.max() <= 1
    assert np.array_equal(x, words.sample(2, prompt=["a red seven", "a blue two"], seed=0))
    assert words.sample(3, prompt="a red seven").shape == (3, 8, 8, 3) and words.sample(2).shape == (2, 8, 8, 3)
    for arguments, message in (({"prompt": []}, r"prompt: is \[\]"), ({"n": 3, "prompt": ["a"]}, "prompt: has 1 texts for 3 pictures"),
                               ({"prompt": "a rad seven"}, "the nearest it knows: red"), ({"then": (0.5, "a")}, "prompt: is None"),
                               ({"prompt": "a " * 20}, "has 20 words; this model reads at most 13")):
        with pytest.raises(ValueError, match=message):
            words.sample(**arguments)


def test_maps_say_how_much_of_each_word_went_where(words):
    maps = words.word_maps(np.random.default_rng(0).standard_normal((2, 8, 8, 3), np.float32), 0.7, ["a red seven", "a two"])
    assert maps.shape == (2, 4, 8, 8) and np.allclose(maps.sum(1), 1, atol=1e-5)
    assert np.allclose(maps[1, 3], 0) and maps[0].min() > 0


def test_a_model_is_saved_with_its_vocabulary(words, tmp_path):
    words.save(tmp_path / "m")
    again = zoo.load(tmp_path / "m")
    assert again.config == words.config and np.array_equal(again.sample(prompt="a red seven"), words.sample(prompt="a red seven"))
    for field, message in (({"vocabulary": ()}, "vocabulary is empty"), ({"classes": 3}, "classes is 3"), ({"network": "dense", "image": (2,)}, "network is 'dense'")):
        with pytest.raises(ValueError, match=message):
            Words.new(**{**TINY, **field})


# --- the judge


def test_the_judge_matches_what_is_asked_for_with_what_is_seen():
    seen = (scenes.Thing(3, "red", "small", "top"), scenes.Thing(7, "blue", "large", "bottom"))
    assert match(({"digit": 7, "place": "bottom"}, {"digit": 3, "place": "top"}), seen) == [seen[1], seen[0]]
    assert match(({"digit": 7, "colour": "blue"},), seen) == [seen[1]]
    assert match(({"digit": 7, "place": "left"},), seen) == [None]
    assert match(({"digit": 3, "place": "top"}, {"digit": 3, "place": "top"}), seen) == [seen[0], None]


def test_a_judge_that_sees_all_finds_all_and_says_what_is_wrong(monkeypatch):
    drawn, judge = scenes.captioned_digits(20, 5, pairs="all"), SceneJudge.new(channels=2, features=4)
    monkeypatch.setattr(judge, "see", lambda pictures: list(drawn.attributes))
    assert set(judge.judge(drawn.pictures, drawn.captions).values()) == {1.0}
    wrong = [tuple(t._replace(colour="red" if t.colour != "red" else "blue") for t in things) for things in drawn.attributes]
    monkeypatch.setattr(judge, "see", lambda pictures: wrong)
    figures = judge.judge(drawn.pictures, drawn.captions)
    assert figures["colour"] == 0 and figures["digit"] == figures["size"] == figures["place"] == 1 and figures["all"] < 0.2
    monkeypatch.setattr(judge, "see", lambda pictures: [(*things, scenes.Thing(1, "red", "small", "middle")) for things in drawn.attributes])
    assert judge.judge(drawn.pictures, drawn.captions)["all"] == 0  # one digit too many


def test_the_judge_learns_from_scenes():
    judge, drawn = SceneJudge.new(channels=4, features=16), scenes.captioned_digits(4, 0)
    losses = judge.loss(drawn, np.random.default_rng(0))
    assert np.isclose(losses["loss"].item(), sum(losses[name].item() for name in ("digits", "colours", "sizes")), rtol=1e-5)
    losses["loss"].backward()
    assert all(p.grad is not None for p in judge.parameters())
    assert len(judge.see(drawn.pictures)) == 4
    with pytest.raises(ValueError, match="there are 4 pictures and 3 captions"):
        judge.judge(drawn.pictures, drawn.captions[:3])


def test_arrays_and_tensors_are_attended_alike():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, 2, n, 4), np.float32) for n in (5, 3, 3))
    mask, weight = np.ones((1, 3), bool), np.full((1, 3), 2, np.float32)
    assert np.allclose(attend(Tensor(q), Tensor(k), Tensor(v), mask, weight).data, 2 * attend(q, k, v, mask, None), atol=1e-5)
