"""What all models share: settings that check themselves."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

import numpy as np
import pytest

import zoo
from zoo.model import Config, Count, Decay, Natural, NonNegative, Positive, Range, Share
from zoo.model.checks import check_images
from zoo.model.lines import great_circle, straight_line


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
    for wrong in (np.full((2, 4, 4), np.inf), np.full((2, 4, 4), -np.inf), np.where(np.arange(32).reshape(2, 4, 4) == 3, np.nan, 0.5), np.full((2, 4, 4), 1.001)):
        with pytest.raises(ValueError, match="^images: "):
            check_images(wrong, (4, 4))
