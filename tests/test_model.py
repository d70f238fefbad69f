"""What all models share: settings that check themselves."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

import numpy as np
import pytest

import zoo
from zoo.model import Config, Count, Decay, Natural, NonNegative, Positive, Range, Share, Step, halved
from zoo.model.base import Unfilled
from zoo.model.checks import check_count, check_images, check_labels, labels_for
from zoo.model.lines import great_circle, straight_line
from zoo.model.renamed import Renamed, moved
from zoo.storage import read_tensors


@dataclasses.dataclass(frozen=True)
class Settings(Config):
    count: Count = 1
    natural: Natural = 0
    widths: tuple[Count, ...] = (1,)
    clip: Positive | None = None
    rate: NonNegative = 0.0
    share: Share = 0.5
    decay: Decay = 0.0
    band: Annotated[float, Range(0.5, 2)] = 1.0
    free: float = 0.0
    kind: Literal["a", "b"] = "a"
    flag: bool = False


@pytest.mark.parametrize(("field", "inside", "outside", "what"), [
    ("count", [1, 10**9], [0, -1], "at least 1"), ("natural", [0, 1], [-1], "at least 0"),
    ("widths", [(1,), (5, 1), ()], [(0,), (3, -1)], "at least 1 each"),
    ("clip", [None, 1e-9], [0.0, -1.0, math.nan, math.inf], "above 0"), ("rate", [0.0, 1e9], [-1e-9, math.nan, math.inf], "at least 0"),
    ("share", [0.0, 1.0], [-0.1, 1.1, math.nan], "at least 0 and at most 1"), ("decay", [0.0, 0.999], [-0.1, 1.0, math.nan], "at least 0 and below 1"),
    ("band", [0.5, 2.0], [0.49, 2.01], "at least 0.5 and at most 2"),
])
def test_a_number_outside_of_its_range_is_refused_however_settings_are_built(field, inside, outside, what):
    for value in inside:
        assert getattr(Settings(**{field: value}), field) == value
        assert getattr(Settings.make(**{field: value}), field) == value
    for value in outside:
        for build in (Settings, Settings.make, lambda **fields: dataclasses.replace(Settings(), **fields)):
            with pytest.raises(ValueError, match=f"^Settings: {field} is .*; it is {what}$"):
                build(**{field: value})


def test_settings_are_read_from_text_by_their_types():
    s = Settings.make(count="3", widths="4,5", clip="none", rate="1e-3", kind="b", flag="true", free="-2")
    assert s == Settings(3, 0, (4, 5), None, 1e-3, kind="b", flag=True, free=-2.0)
    assert Settings.make(**s.to_dict()) == s
    for wrong in ({"count": "3.5"}, {"count": True}, {"kind": "c"}, {"flag": "yes"}, {"cuont": 1}, {"widths": "4,x"}):
        with pytest.raises(ValueError, match=r"^Settings: "):
            Settings.make(**wrong)


@pytest.mark.parametrize("seed", [-1, 1.5, "7", (0, -2), [None]])
def test_a_seed_that_is_none_is_named(seed):
    models = [zoo.load(name) for name in ("vae", "gan", "diffusion")]
    for call in (lambda: zoo.vae.VAE.new(seed=seed), lambda: zoo.data.captioned_digits(1, seed), *(lambda m=m: m.sample(1, seed=seed) for m in models),
                 lambda: zoo.load("names").generate("a", n_tokens=2, seed=seed),
                 lambda: zoo.load("recurrent").generate("a", n_tokens=2, seed=seed)):
        with pytest.raises((TypeError, ValueError), match=r"^seed: is .*whole number of at least 0, or None"):
            call()


@pytest.mark.parametrize("line", [straight_line, great_circle])
def test_a_line_of_two_is_its_ends(line):
    a, b = np.array([3.0, 0.0], np.float32), np.array([0.0, 4.0], np.float32)
    assert np.array_equal(line(a, b, 2), [a, b]) and np.array_equal(line(a, b, 5)[[0, -1]], [a, b])
    assert np.allclose(straight_line(a, b, 3)[1], [1.5, 2.0]) and np.allclose(great_circle(a, b, 3)[1], [3 * 0.5**0.5, 4 * 0.5**0.5])


def test_pictures_may_be_rows_of_flat_pixels():
    x = np.arange(48, dtype=np.float32).reshape(3, 16) / 48
    assert np.array_equal(check_images(x, (4, 4)), x.reshape(3, 4, 4)) and np.array_equal(check_images(x, (2, 4, 2)), x.reshape(3, 2, 4, 2))
    assert np.shares_memory(check_images(x, (4, 4)), x) and check_images(np.eye(4, dtype=bool)[None], (4, 4)).dtype == np.float32


@pytest.mark.parametrize(("wrong", "message"), [
    (np.full((2, 4, 4), np.inf), "values go from inf to inf"), (np.full((2, 4, 4), -np.inf), "values go from -inf to -inf"),
    (np.linspace(-1, 1, 32).reshape(2, 4, 4) * np.inf, "values go from -inf to inf"),
    (np.where(np.arange(32).reshape(2, 4, 4) == 3, np.nan, 0.5), "there is a NaN"), (np.eye(4)[None] * 1.001, "values go from 0 to 1.001"),
    (np.eye(4)[None] * -0.001, "values go from -0.001 to -?0"), (np.zeros((0, 4, 4)), r"shape is \(0, 4, 4\), an empty batch"),
    (np.zeros((2, 15)), r"shape is \(2, 15\)"), (np.zeros((2, 16, 1)), r"shape is \(2, 16, 1\)"), (np.zeros((4, 4)), r"shape is \(4, 4\)"),
    (0.5, r"shape is \(\)"), (np.full((1, 4, 4), "x"), "dtype is <U1"), (np.zeros((1, 4, 4), complex), "dtype is complex128")])
def test_what_is_no_picture_is_said(wrong, message):
    with pytest.raises(ValueError, match=f"^images: {message}"):
        check_images(wrong, (4, 4))


@pytest.mark.parametrize(("labels", "message"), [
    (None, "it needs labels from 0 to 2"), ([0.0, 1.0], "dtype is float64"), ([0, 1, 2], r"shape is \(3,\); for 2 images it is \(2,\)"), ([[0], [1]], "shape is"),
    ([-1, 1], "values go from -1 to 1"), ([0, 3], "values go from 0 to 3"), (3, "values go from 3 to 3"), (-1, "values go from -1")])
def test_what_is_no_label_is_said(labels, message):
    with pytest.raises(ValueError, match=f"^labels: .*{message}"):
        check_labels(labels, 3, 2)


def test_labels_are_one_for_each_picture():
    assert check_labels([0, 2], 3, 2).tolist() == [0, 2] and check_labels(2, 3, 2).tolist() == [2, 2] and check_labels(np.zeros(0, int), 3, 0).shape == (0,)
    assert labels_for(None, 3, 5).tolist() == [0, 1, 2, 0, 1] and labels_for(0, 3, 2).tolist() == [0, 0] and labels_for([2, 1], 3, 2).tolist() == [2, 1]
    assert labels_for(None, 0, 2) is None
    with pytest.raises(ValueError, match="^digit: this model isn't conditional"):
        labels_for(0, 0, 2)


def test_a_count_is_a_whole_number_of_at_least_one():
    assert [check_count(n) for n in (1, np.int64(3))] == [1, 3] and type(check_count(np.int64(3))) is int
    for wrong in (0, -1, True, 1.5, "2", None):
        with pytest.raises(ValueError, match=f"^rows is {wrong!r}; it is a whole number of at least 1$"):
            check_count(wrong, "rows")


@pytest.mark.parametrize(("allowed", "inside", "outside", "words"), [
    (Range(), [-1e300, 0, 1e300], [math.inf, -math.inf, math.nan], "finite"), (Range(high=2), [-1e9, 2], [2.1, -math.inf], "at most 2"),
    (Range(low=2), [2, 1e9], [1.9, math.inf], "at least 2"), (Range(2, 3, above=True), [2.1, 3], [2], "above 2 and at most 3"),
    (Range(2, 3, below=True), [2, 2.9], [3], "at least 2 and below 3")])
def test_a_range_has_its_ends_unless_it_says_otherwise(allowed, inside, outside, words):
    assert all(x in allowed for x in inside) and not any(x in allowed for x in outside) and str(allowed) == words


def test_least_values_are_of_every_number_of_a_tuple():
    s = Settings(widths=(2, 5), natural=2)
    s.at_least(2, "widths", "natural")
    for wrong, name in ((s, "widths"), (s, "natural"), (Settings(widths=()), "widths")):
        with pytest.raises(ValueError, match=f"^Settings: {name} is .*; it is at least 3$"):
            wrong.at_least(3, name)


@dataclasses.dataclass(frozen=True)
class Typed(Config):
    whole: int = 0
    number: float = 0.0
    either: int | None = 0
    flag: bool = False
    text: str = ""
    many: tuple[float, ...] = ()
    choice: Literal[1, 2] = 1


@pytest.mark.parametrize(("field", "given_as", "value"), [
    ("number", 3, 3.0), ("number", "3", 3.0), ("either", "none", None), ("either", None, None), ("either", "4", 4), ("flag", "TRUE", True), ("flag", "false", False),
    ("flag", True, True), ("text", "true", "true"), ("text", "none", "none"), ("text", "3", "3"), ("many", 3, (3.0,)), ("many", [1, 2], (1.0, 2.0)),
    ("many", "1, 2 3", (1.0, 2.0, 3.0)), ("many", "", ()), ("choice", 2, 2)])
def test_a_value_is_read_as_its_field_s_type(field, given_as, value):
    read = getattr(Typed.make(**{field: given_as}), field)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(("field", "wrong"), [
    ("whole", True), ("whole", 1.0), ("whole", "x"), ("whole", "none"), ("whole", None), ("number", True), ("number", "x"), ("flag", 1), ("flag", "1"), ("text", 3),
    ("either", "x"), ("either", 1.5), ("many", "x"), ("choice", 3), ("choice", "2")])
def test_a_value_of_another_type_is_refused_with_what_it_may_be(field, wrong):
    with pytest.raises(ValueError, match=f"^Typed: {field} is {wrong!r}; it (is an? (int|float|bool|str|int or NoneType)|may be 1, 2)$"):
        Typed.make(**{field: wrong})


def test_an_unknown_field_is_told_the_nearest_or_all():
    for name, hint in (("nubmer", r"did you mean 'number'\?"), ("zzz", "the fields are whole, number, either, flag, text, many, choice")):
        with pytest.raises(ValueError, match=f"^Typed: there is no field '{name}'; {hint}$"):
            Typed.make(**{name: 1})


def test_a_line_has_two_ends_at_least_and_points_at_equal_distances(rng):
    a, b = rng.standard_normal((2, 3, 4)).astype(np.float32)
    with pytest.raises(ValueError, match="steps is 1; it is at least 2"):
        straight_line(a, b, 1)
    for i, point in enumerate(straight_line(a, b, 5)):
        np.testing.assert_allclose(point, a + i / 4 * (b - a), atol=1e-6)
    b = b * np.linalg.norm(a) / np.linalg.norm(b)  # of equal lengths all points of the arc have that length, and equal angles lie between them
    arc = great_circle(a, b, 5).reshape(5, -1).astype(float)
    lengths, angles = np.linalg.norm(arc, axis=1), [math.acos(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for x, y in zip(arc, arc[1:])]
    np.testing.assert_allclose(lengths, np.linalg.norm(a), rtol=1e-5)
    np.testing.assert_allclose(angles, angles[0], rtol=1e-4)


def test_a_circle_through_equal_or_opposite_codes_keeps_its_ends():
    """Rounding lifts the cosine of some above 1, and of others below -1."""
    for seed in range(30):
        a = np.random.default_rng(seed).standard_normal(7).astype(np.float32)
        np.testing.assert_allclose(great_circle(a, a, 3), [a] * 3, rtol=1e-5)
        assert np.array_equal(great_circle(a, -a, 2), [a, -a])


@dataclasses.dataclass(frozen=True)
class Sizes(Config):
    layers: int | tuple[int, ...] = 0
    size: int | tuple[int, ...] = 0


def test_a_card_may_ask_for_what_its_file_holds_and_a_little_more():
    shapes = {"w": (2, 3), "b": (4,)}  # 10 numbers in 2 arrays
    for fits in (Sizes(layers=102), Sizes(layers=(1, 102)), Sizes(size=10**7), Sizes(size=(10**7, 5)), Sizes(size=())):
        Unfilled(fits, shapes)
    Unfilled(Sizes(size=3 * 10**7), {"w": (3, 10**7)})
    for large, message in ((Sizes(layers=103), "layers is 103, but the weights are 2 arrays"), (Sizes(layers=(103, 1)), r"layers is \(103, 1\), but"),
                           (Sizes(size=10**7 + 1), "size is 10000001, but the weights have 10 numbers"), (Sizes(size=(1, 10**7 + 1)), "size is")):
        with pytest.raises(ValueError, match=f"^{message}"):
            Unfilled(large, shapes)
    with pytest.raises(ValueError, match="^size is 30000001, but"):
        Unfilled(Sizes(size=3 * 10**7 + 1), {"w": (3, 10**7)})


def test_what_stands_in_for_random_numbers_gives_twice_as_many_as_the_file_has_and_a_million():
    shapes = {"w": (2, 3), "b": (4,)}
    zeros = Unfilled(Sizes(), shapes)
    assert zeros.normal(0, 1, (20, 1)).shape == (20, 1) and not zeros.standard_normal(1_000_000).any()
    with pytest.raises(ValueError, match="a larger model than the weights are, which have 10 numbers"):
        zeros.standard_normal()
    zeros = Unfilled(Sizes(), shapes)
    assert all(zeros.standard_normal().shape == () for _ in range(8 * 2 + 100))
    with pytest.raises(ValueError, match="a larger model"):
        zeros.standard_normal()


def test_halves_are_of_single_precision_alone_and_every_number_fits():
    whole, integers = np.array([1.0, 1 + 2**-12], np.float32), np.array([10**6])
    halves = halved({"w": whole, "n": integers, "d": np.array([np.inf])})
    assert halves["w"].dtype == np.float16 and halves["w"].tolist() == [1, 1] and halves["n"] is integers and halves["d"].dtype == np.float64
    with pytest.raises(ValueError, match="^half: 'b' holds"):
        halved({"a": whole, "b": np.array([1, 65_520, 1], np.float32)})
    assert halved({"a": np.array([65_504], np.float32)})["a"] == 65_504


def test_one_number_that_is_not_finite_is_named(tmp_path):
    model = zoo.vae.VAE.new(image=(2, 2), hidden=(3,), latent=2)
    assert not np.array_equal(model.arrays()["output.weight"], zoo.vae.VAE.new(image=(2, 2), hidden=(3,), latent=2, seed=1).arrays()["output.weight"])
    assert np.array_equal(model.arrays()["output.weight"], zoo.vae.VAE.new(image=(2, 2), hidden=(3,), latent=2, seed=0).arrays()["output.weight"])
    model.save(tmp_path / "m")
    assert read_tensors(tmp_path / "m")["output.weight"].dtype == np.float32
    model.output.weight.data[1, 1] = np.nan
    with pytest.raises(ValueError, match="^output.weight holds numbers that aren't finite"):
        model.save(tmp_path / "n")
    assert not (tmp_path / "n").exists()


@dataclasses.dataclass
class Pair(Step):
    x: np.ndarray
    y: float | None = None


def test_records_are_equal_bit_for_bit_or_not():
    pair = Pair(np.array([1.0, np.nan]), 2.0)
    assert pair.equals(Pair(np.array([1.0, np.nan]), 2.0)) and Pair(np.arange(2)).equals(Pair(np.arange(2)))
    for other in (Pair(np.array([1.0, np.nan])), Pair(np.array([1.0, np.nan]), 3.0), Pair(np.array([1.0, np.nan], np.float32), 2.0), Pair(np.array([np.nan, 1.0]), 2.0),
                  dataclasses.make_dataclass("Other", ["x", "y"], bases=(Step,))(pair.x, 2.0)):
        assert not pair.equals(other)
    assert pair.to_json()["y"] == 2.0 and Pair(np.arange(2)).to_json() == {"x": [0, 1]} and list(Pair(np.arange(2)).arrays()) == ["x"]


def test_an_old_name_warns_where_it_is_used():
    class Thing:
        new = 3
        old = Renamed("new")

    with pytest.warns(DeprecationWarning, match=r"^Thing.old is new now") as warned:
        assert Thing.old == Thing().old == 3
    assert [w.filename for w in warned] == [__file__] * 2
    for names in (["Step"], {"Step": "Step"}, {"Record": "Step"}):
        with pytest.warns(DeprecationWarning, match="zoo.model.Step now") as warned:
            old = next(iter(names))
            assert (lambda old=old, names=names: moved("zoo.old", old, "zoo.model", names))() is Step
        assert warned[0].filename.endswith("test_model.py")
    with pytest.raises(AttributeError, match="module 'zoo.old' has no attribute 'other'"):
        moved("zoo.old", "other", "zoo.model", ["Step"])
