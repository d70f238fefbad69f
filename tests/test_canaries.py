"""Planted secrets and LiRA: a secret's rank is its rank, and shadows find members that a threshold doesn't."""

from __future__ import annotations

import math

import numpy as np
import pytest

import zoo
from zoo.autograd import no_grad
from zoo.evaluation.canaries import Canary, draw_canary, exposure, log_likelihoods, plant
from zoo.evaluation.membership import auc, likelihood_ratios, logit_scaled
from zoo.inspection.audit import _private


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
