"""The audit: copies that were planted are found, what is new isn't called a copy, and its page says what was found."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.__main__ import main
from zoo.evaluation.copies import COPY, NEIGHBOURS, PictureCopies, longest_passages, picture_copies, rolling_hashes, seen_share
from zoo.evaluation.membership import auc, auc_deviation, likelihood_ratios, logit_scaled, true_positives
from zoo.inspection import audit as auditing
from zoo.inspection.audit import audit

TEXTS = st.text(alphabet="abc ", max_size=60)


def test_a_copy_is_told_from_a_neighbour(rng):
    train = rng.random((200, 6, 6), np.float32)
    samples = rng.random((20, 6, 6), np.float32)
    samples[3] = train[50] + 0.01 * rng.standard_normal((6, 6), np.float32)
    found = picture_copies(samples, train)
    assert found.nearest[3] == 50 and (found.ratio < COPY).tolist() == [i == 3 for i in range(20)] and found.share == 0.05
    distances = np.sort(np.sqrt(((samples[:, None] - train[None]) ** 2).sum((2, 3))), axis=1)
    assert np.allclose(found.distance, distances[:, 0], rtol=1e-4)
    assert np.allclose(found.ratio, distances[:, 0] / distances[:, :NEIGHBOURS].mean(1), rtol=1e-3)
    assert np.allclose(picture_copies(samples, train, chunk=7).ratio, found.ratio, rtol=1e-4)
    with pytest.raises(ValueError, match="train has 50 pictures; more than 50"):
        picture_copies(samples, train[:50])


def test_constants_of_the_paper():
    assert NEIGHBOURS == 50 and COPY == 0.5  # Carlini et al. 2023, section 5.1


@given(TEXTS, TEXTS)
@settings(max_examples=100)
def test_the_longest_passage_is_the_longest(text, train):
    passages = longest_passages(text, train)
    longest = max((j - i for i in range(len(text)) for j in range(i + 1, len(text) + 1) if text[i:j] in train), default=0)
    assert (len(passages[0].text) if passages else 0) == longest
    spans = sorted((p.at, p.at + len(p.text)) for p in passages)
    assert all(text[p.at : p.at + len(p.text)] == p.text == train[p.source : p.source + len(p.text)] for p in passages)
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:])) and [len(p.text) for p in passages] == sorted((len(p.text) for p in passages), reverse=True)


@given(st.text(max_size=40), st.integers(1, 12))
@settings(max_examples=60)
def test_equal_pieces_have_equal_hashes_and_others_differ(text, length):
    hashes = rolling_hashes(text, length)
    pieces = [text[i : i + length] for i in range(len(text) - length + 1)]
    assert len(hashes) == len(pieces)
    for i, a in enumerate(pieces):
        for j, b in enumerate(pieces):
            assert (hashes[i] == hashes[j]) == (a == b)


def test_pieces_of_words_are_counted():
    train = "a b c d e f g h i j"
    assert seen_share("a b c d e f g h", train) == 1 and seen_share("x a b c d e f g h", train) == 0.5
    assert seen_share("b c d", train, 3) == 1 and seen_share("b d c", train, 3) == 0 and np.isnan(seen_share("a b", train))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=1, max_size=12))
@settings(max_examples=60)
def test_the_area_is_how_often_a_members_loss_is_lower(members, others):
    wanted = np.mean([1.0 if a < b else 0.5 if a == b else 0.0 for a in members for b in others])
    assert np.isclose(auc(np.array(members, float), np.array(others, float)), wanted)


def test_the_spread_of_the_area_is_that_of_many_draws():
    rng = np.random.default_rng(0)
    areas = [auc(rng.normal(0, 1, 80), rng.normal(0.7, 1, 60)) for _ in range(600)]
    assert np.isclose(np.std(areas), auc_deviation(float(np.mean(areas)), 80, 60), rtol=0.15)  # five standard errors of a deviation
    with pytest.raises(ValueError, match="there are 0 members"):
        auc(np.zeros(0), np.zeros(3))


def test_members_are_found_while_few_others_are_accused():
    others = np.arange(1000.0)
    assert true_positives(np.array([-1.0, 0.5, 0.9, 50.0]), others) == 0.75  # one of the others, 0, is below the threshold of 1
    assert true_positives(np.array([-1.0, 0.5]), others[:100]) == 0.5  # none may be
    assert true_positives(others, others) <= 0.001


def test_the_spread_of_the_area_is_the_paper_s():
    """Hanley & McNeil (1982), eq. 1, with Q1 = A / (2 - A) and Q2 = 2 A^2 / (1 + A), by hand."""
    assert auc_deviation(0.5, 1, 1) == pytest.approx(0.5) and auc_deviation(0.5, 2, 3) == pytest.approx((1 / 12) ** 0.5)
    assert auc_deviation(0.8, 2, 1) == pytest.approx(((0.16 + 2 / 3 - 0.64) / 2) ** 0.5) and auc_deviation(0.8, 1, 2) == pytest.approx(((0.16 + 1.28 / 1.8 - 0.64) / 2) ** 0.5)
    assert auc_deviation(0.893, 51, 58) == pytest.approx(0.0325, abs=5e-5)


def test_a_member_on_the_threshold_is_not_found():
    assert true_positives(np.array([0.0, 1.0, 2.0, 3.0]), np.array([3.0, 1.0, 2.0, 0.0]), 0.5) == 0.5 and true_positives(np.array([0.0]), np.array([0.0])) == 0


def test_a_copy_is_nearer_than_half_as_far_and_fifty_one_pictures_are_enough(rng):
    assert PictureCopies(np.zeros(4), np.zeros(4), np.array([0.5, 0.499, 0.6, 0.1])).share == 0.5
    assert picture_copies(rng.random((2, 3)), rng.random((51, 3))).ratio.shape == (2,)


def test_so_many_passages_are_named_and_no_more():
    text, train = "aaaa1bbb2cc3d", "d-cc-bbb-aaaa"
    assert [p.text for p in longest_passages(text, train)] == ["aaaa", "bbb", "cc"] and [p.text for p in longest_passages(text, train, 9)] == ["aaaa", "bbb", "cc", "d"]
    assert longest_passages(text, train, 2)[1] == ("bbb", 5, 5) and longest_passages(text, train, 0) == [] and longest_passages("xyz", train) == []


def likelihoods_by_hand(losses, members, target):
    """ln p(logit | seen) - ln p(logit | not), with a deviation for all that were seen and one for all that weren't."""
    from scipy.stats import norm

    logits = -losses - np.log(-np.expm1(-losses))
    shadows = [i for i in range(len(losses)) if i != target]
    terms = []
    for saw in (True, False):
        groups = [[logits[i, e] for i in shadows if members[i, e] == saw] for e in range(losses.shape[1])]
        freedom = sum(len(g) - 1 for g in groups)
        deviation = max(1e-12, sum(((np.array(g) - np.mean(g)) ** 2).sum() for g in groups) / max(freedom, 1)) ** 0.5
        terms.append([norm.logpdf(logits[target, e], np.mean(g), deviation * (1 + 1 / len(g)) ** 0.5) for e, g in enumerate(groups)])
    return np.array(terms[0]) - np.array(terms[1])


def test_a_likelihood_ratio_is_that_of_two_normal_distributions(rng):
    """Carlini et al. (2022), algorithm 1.  Of three examples, two, one and one of the four shadows saw: one degree of freedom."""
    members = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]], bool)[[0, 1, 4, 2, 3]]
    losses = rng.uniform(0.1, 3, (5, 3))
    np.testing.assert_allclose(likelihood_ratios(losses, members, 2), likelihoods_by_hand(losses, members, 2), rtol=1e-9)
    lone = np.array([[0, 0, 0], [1, 0, 1], [0, 1, 0]], bool)  # none but one of each kind: the deviation is the least there is
    losses[:3] = rng.uniform(0.6931, 0.6932, (3, 3))
    np.testing.assert_allclose(likelihood_ratios(losses[:3], lone, 0), likelihoods_by_hand(losses[:3], lone, 0), rtol=1e-6)
    assert logit_scaled(np.array([math.log(2), 0.0])) == pytest.approx([0, 12 * math.log(10)])
    for wrong in (np.array([[0, 0], [1, 1], [0, 1]], bool), np.array([[0, 0], [1, 0], [0, 0]], bool)):
        with pytest.raises(ValueError, match="all or none of the 2 other models"):
            likelihood_ratios(losses[:3, :2], wrong, 0)


# --- models


def test_a_picture_model_that_ships(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(auditing, "MEMBERS", 20)
    reports = []
    monkeypatch.setattr(auditing, "audit", lambda *arguments, **settings: reports.append(audit(*arguments, **settings)) or reports[-1])
    assert main(["audit", "vae", "-n", "60", "--out", "page.html"]) == 0
    printed, text, report = capsys.readouterr().out, (tmp_path / "page.html").read_text("utf-8"), reports[0]
    assert str(report) in printed and report.n == 60
    for name, value in report.figures.items():
        assert f"<th scope=row>{name}</th><td>{value:.4g}</td>" in text
    assert all(section.title in text for section in report.sections) and "What was not tested" in text
    assert {s.title for s in report.sections} == {"Copies", "Membership", "Balance"}
    assert text.count("<img") == 16 and not re.search(r"(src|href)=.?(http|//)", text) and "<script" not in text


def test_a_text_model_and_its_card(tmp_path, monkeypatch):
    monkeypatch.setattr(auditing, "MEMBERS", 10)
    model = zoo.load("names")
    model.save(tmp_path / "m", **{**model.card, "data": "names"})
    before = json.loads((tmp_path / "m" / "card.json").read_text("utf-8"))
    before.pop("audit", None)  # that of the model that ships
    report = audit(tmp_path / "m", 20)
    report.write_on_card()
    after = json.loads((tmp_path / "m" / "card.json").read_text("utf-8"))
    assert {k: v for k, v in after.items() if k != "audit"} == before
    assert after["audit"]["samples"] == 20 and set(report.figures) < set(after["audit"])
    assert zoo.load(tmp_path / "m").card["audit"] == after["audit"]


def test_a_running_text(monkeypatch):
    monkeypatch.setattr(auditing, "MEMBERS", 4)
    monkeypatch.setattr(auditing, "BEGINNINGS", 2)
    report = audit("transformer", 20)
    (copies, membership, completion) = report.sections
    assert completion.figures["completion, tokens of training passages"] <= auditing.CONTINUED and not completion.is_concern
    assert copies.figures["verbatim, longest, characters"] == len(copies.passages[0][1]) and not copies.is_concern
    assert 0 <= membership.figures["membership, AUC"] <= 1


def test_a_model_that_recites_is_a_concern():
    train = "it was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, " * 3
    reciting = auditing._passages(train[10:200], {"train": train, "test": "call me ishmael. some years ago, never mind how long precisely, having little"})
    assert reciting.is_concern and "That is reciting" in reciting.answer
    assert auditing._membership(np.zeros(50), np.ones(50)).is_concern and not auditing._membership(np.arange(50.0), np.arange(50.0)).is_concern


@pytest.mark.parametrize(("arguments", "message"), [
    (["classifier"], "is of kind 'classifier'; pictures and text are looked at"), (["vae", "-n", "0"], "n is 0"), (["nobody"], "nobody"),
    (["vae", "--data", "nowhere"], "nowhere")])
def test_what_cannot_be_audited_is_said_in_a_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("at", ["begin", "middle", "end"])
def test_a_piece_of_words_is_seen_wherever_it_stands(n, at):
    piece, others = "x y z".split()[:n], ["a"] * 4
    train = {"begin": piece + others, "middle": others + piece + others, "end": others + piece}[at]
    assert seen_share(" ".join(piece), " ".join(train), n) == 1 and seen_share("q " * n, " ".join(train), n) == 0


def test_a_model_that_has_memorised_is_found_out(tmp_path, monkeypatch):
    """A small model reads a small text until it knows it: it ends its passages, and says the codes that were planted often."""
    from zoo.language.corpus import read_corpus
    from zoo.recipes import recipe_of

    monkeypatch.setattr(auditing, "MEMBERS", 20)
    monkeypatch.setattr(auditing, "BEGINNINGS", 6)
    monkeypatch.setattr(auditing, "CONTINUED", 12)
    (tmp_path / "text.txt").write_text(zoo.data.text.shakespeare()[9000:12000])
    source = str(tmp_path / "text.txt+canaries")
    recipe, corpus = recipe_of("transformer"), read_corpus(source)
    assert {copies for _, copies in corpus.canaries} == {0, 1, 2, 4, 10, 30}
    lines = corpus.split()["train"].splitlines()
    assert all(lines.count(canary.text) == copies for canary, copies in corpus.canaries)
    assert corpus.split() == read_corpus(source).split() and corpus.split()["test"] == read_corpus(tmp_path / "text.txt").split()["test"]
    fields, training = recipe.settings("nanogpt-cpu-best", window=64, layers=2, heads=2, width=48, steps=160, batch_size=16, average=0.9)
    trainer = recipe.trainer(recipe.new(corpus, fields, 0), corpus, training, seed=0, folder=tmp_path / "run")
    trainer.evaluate = None
    trainer.run(progress=False)
    trainer.save_model(data=source)
    report = audit(tmp_path / "run", 20)
    assert {s.title for s in report.sections if s.is_concern} >= {"Planted secrets"}
    assert report.figures["secrets, bits of one planted 30 times"] > 15 > 6 > report.figures["secrets, bits of one planted 0 times"]
    assert report.figures["completion, tokens of training passages"] > report.figures["completion, tokens of new passages"]


def test_secrets_are_planted_in_text_and_not_in_music():
    from zoo.language.corpus import read_corpus

    with pytest.raises(ValueError, match="is music; secrets are planted in text"):
        read_corpus("chorales+canaries")
