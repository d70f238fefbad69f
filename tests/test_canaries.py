"""Planted secrets and LiRA: a secret's rank is its rank, and shadows find members that a threshold doesn't."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

import zoo
from zoo.autograd import Tensor, no_grad
from zoo.evaluation.canaries import Canary, Exposure, _upper_tail, draw_canary, exposure, log_likelihoods, plant, reads_out
from zoo.evaluation.membership import auc, likelihood_ratios, logit_scaled
from zoo.inspection.audit import _private
from zoo.nn import Module


def test_exposure_is_the_rank_among_all_secrets():
    model = zoo.load("transformer")
    with no_grad():
        every = log_likelihoods(model, "the code is ", [f"{n:02d}" for n in range(100)])
    for secret in (int(every.argmax()), int(every.argsort()[60]), int(every.argmin())):
        found = exposure(model, Canary("the code is ", f"{secret:02d}", "##"))
        rank = int((every >= every[secret]).sum())
        assert found.is_exact and abs(found.rank - rank) <= 1 and found.bits == pytest.approx(math.log2(100 / found.rank))


def test_canaries_are_planted_so_many_times_as_lines(rng):
    text = "one\ntwo\nthree\n"
    canaries = [(draw_canary(name, rng), copies) for name, copies in (("hamlet", 0), ("ophelia", 1), ("romeo", 7))]
    lines = plant(text, canaries, rng).splitlines()
    assert [lines.count(canary.text) for canary, _ in canaries] == [0, 1, 7]
    assert [line for line in lines if line in text.splitlines()] == text.splitlines() and len(lines) == 11
    with pytest.raises(ValueError, match="Canary: secret is '48a'"):
        Canary("code ", "48a", "###")


def test_shadows_find_members_that_a_threshold_cannot():
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 3, 400)  # how hard an example is differs more than what training changes
    members = rng.random((20, 400)) < 0.5
    logits = hard + 1.0 * members + 0.5 * rng.standard_normal((20, 400))
    losses = np.log1p(np.exp(-logits))
    assert np.allclose(logit_scaled(losses), logits, atol=1e-6)
    m = members[0]
    score = -likelihood_ratios(losses, members, 0)
    assert auc(losses[0, m], losses[0, ~m]) < 0.7 < 0.85 < auc(score[m], score[~m])
    with pytest.raises(ValueError, match="all or none of the 19 other models"):
        likelihood_ratios(losses, np.ones_like(members), 0)


def test_the_page_says_what_private_training_promises():
    said = _private({"epsilon": 2.0, "delta": 1e-5, "secret": True, "holds": "for whoever sees the model", "example": "a line"})
    assert "at most 7.39 times as likely" in said.answer and "a line" in said.answer and not said.is_concern
    assert _private({"epsilon": None, "delta": 1e-5}).is_concern and _private({"epsilon": 2.0, "delta": 1e-5, "secret": False}).is_concern


LETTERS = "\n0123456789-x ="


class Bigrams(Module):
    """A language model in which each character depends on the one before alone, so that every probability is easily computed."""

    def __init__(self, logits):
        self.logits, self.tokenizer = logits, SimpleNamespace(encode=lambda text: np.array([LETTERS.index(c) for c in text]))

    def __call__(self, ids):
        return Tensor(self.logits[ids].astype(np.float32))

    def log_p(self, before, secret):
        p = np.exp(self.logits)
        p /= p.sum(1, keepdims=True)
        ids = self.tokenizer.encode(before[-1] + secret)
        return sum(math.log(p[a, b]) for a, b in zip(ids, ids[1:]))


@pytest.fixture
def bigrams():
    return Bigrams(np.random.default_rng(5).standard_normal((len(LETTERS), len(LETTERS))))


def test_likelihoods_and_ranks_are_those_of_every_secret(bigrams):
    secrets = [f"{a}{b}-{c}" for a in range(10) for b in range(10) for c in range(10)]
    every = np.array([bigrams.log_p("x= ", secret) for secret in secrets])
    np.testing.assert_allclose(log_likelihoods(bigrams, "x= ", secrets), every, rtol=1e-5)
    for place in (0, 1, 9, 99, 499):
        number = np.argsort(-every)[place]
        found = exposure(bigrams, Canary("x= ", secrets[number], "##-#"), most=1000)
        assert found.is_exact and found.rank == place + 1 and found.bits == pytest.approx(math.log2(1000 / (place + 1)))


def test_a_rank_is_exact_while_no_more_beginnings_than_allowed_are_as_likely():
    uniform = Bigrams(np.zeros((len(LETTERS), len(LETTERS))))
    exact, estimated = (exposure(uniform, Canary("x", "37", "##"), most=most) for most in (100, 99))
    assert exact == Exposure(0.0, 100, True) and not estimated.is_exact
    assert estimated.bits == pytest.approx(-math.log2(estimated.rank / 100))


def test_a_rank_that_is_estimated_is_near_the_exact_one(bigrams):
    every = np.array([bigrams.log_p("x", f"{n:03d}") for n in range(1000)])
    for place in (50, 300, 700):
        secret = f"{np.argsort(-every)[place]:03d}"
        assert exposure(bigrams, Canary("x", secret, "###"), most=0).rank == pytest.approx(place, abs=60)
    likely = Bigrams(np.where(np.arange(len(LETTERS)) == 4, 30.0, 0.0) * np.ones((len(LETTERS), 1)))  # "333" for certain
    assert exposure(likely, Canary("x", "333", "###"), most=0) == Exposure(math.log2(1000), 1.0, False)


@pytest.mark.parametrize("values", [np.random.default_rng(1).gamma(4.0, size=500), -np.random.default_rng(1).gamma(4.0, size=500), np.array([-1.0, 0.0, 1.0]),
                                    np.array([0.0] * 50 + [100.0]), np.array([0.0] * 50 + [-100.0])])
def test_a_tail_is_that_of_the_skew_normal_distribution_of_the_same_moments(values):
    """Its skewness is at most 0.995: more is taken as 0.99."""
    from scipy.optimize import brentq
    from scipy.stats import skew, skewnorm

    skewness = min(max(skew(values), -0.99), 0.99)
    shape = brentq(lambda a: skewnorm.stats(a, moments="s") - skewness, -300, 300)
    scale = values.std() / skewnorm.std(shape)
    place = values.mean() - scale * skewnorm.mean(shape)
    for target in np.quantile(values, [0.1, 0.5, 0.9]) + 0.1 * values.std():
        assert _upper_tail(values, target) == pytest.approx(skewnorm.sf(target, shape, place, scale), rel=1e-4)


def test_a_secret_is_read_out_where_one_of_the_beams_is_the_secret():
    asked, canary = [], Canary("x= ", "12", "##")
    for says, beams, is_read in ((["12"], 1, True), (["13", "21", "1", "x 12"], 4, False), (["13", "12"], 4, True)):
        model = SimpleNamespace(beam_steps=lambda text, n, beams, says=says: asked.append((text, n, beams)) or iter([SimpleNamespace(texts=says)]))
        assert reads_out(model, canary, *([] if beams == 1 else [beams])) == is_read
    assert asked == [("\nx= ", 2, 1), ("\nx= ", 2, 4), ("\nx= ", 2, 4)]
