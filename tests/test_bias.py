"""Coloured digits: as many in their own colours as was asked for, and the judge says so."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from zoo.data.coloured import HUES, as_grey, coloured_digits, colours_of
from zoo.evaluation.bias import own_colours

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def images():
    return coloured_digits(0.9, seed=3)


def test_so_many_digits_are_in_their_own_colour_and_the_rest_in_all_others(images):
    colours = colours_of(images.train)
    own = colours == images.train_labels
    assert abs(own.mean() - 0.9) < 5 * (0.09 / len(own)) ** 0.5
    for digit in range(10):
        others = np.bincount(colours[(images.train_labels == digit) & ~own], minlength=10)
        assert others[digit] == 0 and others.sum() and (np.delete(others, digit) > others.sum() / 9 / 3).all()
    assert images.train.shape == (20_000, 28, 28, 3) and images.test.shape == (10_000, 28, 28, 3)
    assert np.array_equal(images.train, coloured_digits(0.9, seed=3).train) and not np.array_equal(images.train[:50], coloured_digits(0.9, seed=4).train[:50])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (1.0, 1.0)])
def test_a_share_of_none_or_all_is_exact(share, expected):
    some = coloured_digits(share)
    assert (colours_of(some.test) == some.test_labels).mean() == expected


def test_hues_are_told_apart_and_grey_is_what_was_coloured(images):
    assert HUES.shape == (10, 3) and np.allclose(HUES[0], [1, 0, 0]) and np.allclose(HUES.max(1), 1) and np.allclose(HUES[5], [0, 1, 1])
    assert np.array_equal(colours_of(0.3 * np.ones((10, 2, 2, 3), np.float32) * HUES[:, None, None]), np.arange(10))
    from zoo.data import mnist

    assert np.allclose(as_grey(images.test), mnist().test, atol=1e-6)


def test_a_judge_without_colours_finds_the_share(images):
    found = own_colours(images.test[:1000])
    assert abs(found.share - 0.9) < 0.04 and found.counts.sum() == 1000 and found.by_digit.shape == (10,)
    nothing = own_colours(images.test[images.test_labels == 7][:20] * 0 + images.test[images.test_labels == 7][:1])
    assert np.isnan(nothing.by_digit).sum() == 9 and nothing.share in (0.0, 1.0)


@pytest.mark.parametrize("share", [1.5, 1.01, -0.01])
def test_a_share_outside_0_to_1_is_named(share):
    with pytest.raises(ValueError, match=rf"^coloured_digits: share is {share}; it is from 0 to 1"):
        coloured_digits(share)


@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 3, 3, 4), (1, 2, 3, 3, 3)])
def test_pictures_of_another_shape_are_named(shape):
    with pytest.raises(ValueError, match=f"^colours_of: pictures have shape {re.escape(str(shape))}"):
        colours_of(np.zeros(shape))


def test_ten_hues_lie_36_degrees_apart():
    """As in any table of HSV with full saturation and value."""
    expected = [(1, 0, 0), (1, 0.6, 0), (0.8, 1, 0), (0.2, 1, 0), (0, 1, 0.4), (0, 1, 1), (0, 0.4, 1), (0.2, 0, 1), (0.8, 0, 1), (1, 0, 0.6)]
    assert np.allclose(HUES, expected, atol=1e-6)
    faint = np.ones((10, 2, 2, 3)) * 0.01 * HUES[:, None, None]
    faint[:, 1] = 0
    assert colours_of(faint).tolist() == list(range(10)) and as_grey(faint).tolist() == np.broadcast_to([[0.01] * 2, [0] * 2], (10, 2, 2)).tolist()


def test_each_seed_is_a_data_set_for_ever(images):
    """Figures of the bias benchmark are of these pictures: for each part, how far off the hue is, and then who is in his own."""
    rng = np.random.default_rng((3, 0xC010))
    for pictures, labels in ((images.train, images.train_labels), (images.test, images.test_labels)):
        off, own = rng.integers(1, 10, len(labels)), rng.random(len(labels)) < 0.9
        assert np.array_equal(colours_of(pictures), np.where(own, labels, (labels + off) % 10))


def test_the_table_of_the_benchmark_gives_means_and_spreads(capsys, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("bias_benchmark", ROOT / "benchmarks" / "bias.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    rows = [{"family": "vae", "seed": s, "share": 0.95, "short": 1, "own": own, "of real": 0.94, "by digit": [0.5, float("nan"), own], "counts": [1] * 10,
             "minutes": 2.0} for s, own in enumerate((0.96, 0.98))]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr("sys.argv", ["bias.py", "--out", str(tmp_path / "b.jsonl"), "--table"])
    benchmark.main()
    assert "97.00 ± 1.41 %" in (text := capsys.readouterr().out) and "+3.00 ± 1.41 %" in text and "50.0 %" in text
