"""Private training: without noise it is training, no example moves a step by more than the clip, the noise is as stated, and epsilon as published."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo
from zoo.__main__ import main
from zoo.data.images import digits8x8
from zoo.language.corpus import Corpus
from zoo.nn import Linear, Module
from zoo.optim import SGD
from zoo.recipes import recipe_of
from zoo.recipes.rerun import rerun
from zoo.training import Private, Trainer, shuffled
from zoo.training.private import PrivateGradients, clipped, epsilon, refuse_models_of_whole_batches, refuse_statistics
from zoo.training.ranks import Ranks

with_accountant = pytest.mark.skipif(importlib.util.find_spec("dp_accounting") is None, reason="no dp-accounting here (pip install 'numpy-zoo[privacy]')")
TEXT = "the quick brown fox jumps over the lazy dog; " * 40
FAMILIES = {
    "vae": ("vae", {"epochs": 1, "batch_size": 6, "hidden": (8,), "latent": (3,), "depth": 1, "optimiser": "adam"}),
    "iwae": ("vae", {"epochs": 1, "batch_size": 6, "hidden": (8,), "latent": (3,), "depth": 1, "samples": 3}),
    "two layers": ("vae", {"epochs": 1, "batch_size": 6, "hidden": (8, 6), "latent": (4, 3), "depth": 1}),
    "convolutional": ("vae", {"epochs": 1, "batch_size": 4, "network": "convolutional", "hidden": (8,), "latent": (3,)}),
    "conditional": ("vae", {"epochs": 1, "batch_size": 6, "hidden": (8,), "latent": (3,), "depth": 1, "classes": 10}),
    "diffusion": ("diffusion", {"steps": 2, "batch_size": 4, "channels": 8, "heads": 1, "classes": 10}),
    "dit": ("diffusion", {"steps": 2, "batch_size": 4, "network": "transformer", "channels": 8, "blocks": 1, "heads": 1}),
    "transformer": ("transformer", {"steps": 2, "batch_size": 4, "window": 12, "layers": 1, "heads": 2, "width": 8, "lines": False}),
    "recurrent": ("recurrent", {"steps": 2, "batch_size": 4, "window": 12, "layers": 1, "width": 8}),
}
GAN = {"steps": 2, "batch_size": 6, "hidden": (8,), "discriminator_hidden": (8,), "network": "dense", "generator_norm": "none",
       "discriminator_norm": "none", "latent": 3, "loss": "non-saturating"}


def trainer_of(kind, fields, private, *, data=None, seed=3, **options):
    recipe = recipe_of(kind)
    data = data or (Corpus("fox", TEXT) if kind in ("transformer", "recurrent") else digits8x8())
    if kind not in ("transformer", "recurrent"):
        fields = {"image": (8, 8), **fields}
    of_model, training = recipe.settings("dcgan" if kind == "gan" else None, **fields)
    options.setdefault("evaluate", None)
    if kind in ("transformer", "recurrent"):
        del options["evaluate"]
    model = recipe.new(data, of_model, seed)
    return recipe.trainer(model, data, training, seed=seed, private=private, **options)


class RowByRow:
    """A generator whose draws for n rows are those that n generators make for one row each."""

    def __init__(self, generators):
        self.generators, self.n = generators, 1
        self.rng = generators[0]

    def row_numbers(self):
        return np.zeros(len(self.generators), int)

    def __getattr__(self, name):
        def draw(size=None, *rest, **more):
            first = size if isinstance(size, tuple) else (size,)
            count = first[0] // len(self.generators)
            shape = (count, *first[1:])
            return np.concatenate([getattr(g, name)(shape, *rest, **more) for g in self.generators])
        return draw


@pytest.mark.parametrize("family", FAMILIES)
def test_without_noise_and_with_a_wide_clip_it_is_ordinary_training(family):
    kind, fields = FAMILIES[family]
    trainer = trainer_of(kind, fields, Private(0.0, clip=1e9, secret=False))
    private = trainer.private
    draw = next(d for d in range(99) if len(private.rows(d)) not in (0, private.expected))  # so that the mean is seen to be over the expected number
    taken = list(private.examples(draw))
    ordinary = trainer_of(kind, fields, None)
    rows = private.rows(draw)
    batch = private.table.take(rows, np.random.default_rng(0))
    ordinary.model.train()
    ordinary.optimiser.zero_grad()
    losses = ordinary.objective(batch, RowByRow([rng for _, rng in taken]))
    next(iter(losses.values())).backward()
    trainer.model.train()
    private.gradients(trainer.optimiser, trainer.objective, draw)
    for name, p, q in zip(trainer.optimiser.names, trainer.optimiser.parameters, ordinary.optimiser.parameters):
        if q.grad is None:
            assert not p.grad.any(), name
            continue
        wanted = q.grad * (len(rows) / private.expected)
        assert np.allclose(p.grad, wanted, rtol=0, atol=2e-4 * max(np.abs(wanted).max(), 1e-3)), name


def test_without_noise_a_private_gan_moves_its_discriminator_by_the_mean_over_its_examples():
    trainer = trainer_of("gan", GAN, Private(0.0, clip=1e9, secret=False))
    update, private = trainer.update, trainer.private
    seen = []
    original = update._discriminator_loss
    update._discriminator_loss = lambda *given: seen.append(given) or original(*given)
    trainer.model.train()
    update.discriminator_optimiser.step = lambda factor: seen.append(update.discriminator_optimiser.parameters[0].grad.copy())
    update(None, np.random.default_rng(5))
    *calls, gradient = seen
    real, fake = (np.concatenate([call[i] for call in calls]) for i in (0, 1))
    update.discriminator_optimiser.zero_grad()
    loss, _ = original(real, fake, None, None, np.random.default_rng(0))
    loss.backward()
    wanted = update.discriminator_optimiser.parameters[0].grad * (len(calls) / private.expected)
    assert len(calls) == len(private.rows(0)) and np.allclose(gradient, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max() + 1e-8)


def test_a_private_gan_takes_nothing_of_its_examples_but_through_the_discriminator():
    fields = {**GAN, "classes": 10, "steps": 1}
    runs = []
    for shown in (0.0, 1.0):  # other pictures and labels, the same discriminator afterwards: so the same generator
        images = digits8x8()
        images = dataclasses.replace(images, train=np.full_like(images.train, shown), train_labels=np.arange(len(images.train)) % 2 + int(shown))
        trainer = trainer_of("gan", fields, Private(0.0, clip=1e-30, secret=False), data=images)
        trainer.model.train()
        trainer.update.discriminator_optimiser.step = lambda factor: None
        trainer.update(None, np.random.default_rng(5))
        runs.append(trainer.model.generator.arrays())
    assert all(np.array_equal(runs[0][name], runs[1][name]) for name in runs[0])


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=12), st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_no_contribution_is_longer_than_the_clip(exponents, clip, seed):
    rng = np.random.default_rng(seed)
    g = np.concatenate([(10.0**e * rng.standard_normal(50)).astype(np.float32) for e in (min(e, 18) for e in exponents)])
    norm = float(np.linalg.norm(g.astype(np.float64)))
    c = clipped(g, norm, clip).astype(np.float64)
    assert np.linalg.norm(c) <= clip
    if norm < 0.999 * clip:
        assert np.array_equal(c, g)
    elif norm > 1e-3:
        assert np.linalg.norm(c) >= 0.999 * min(clip, norm) and np.vdot(c, g) > 0


class Line(Module):
    """y = x w, whose gradient in an example x is x: outliers are easily made."""

    def __init__(self):
        self.layer = Linear(4, 1, bias=False, rng=np.random.default_rng(0))

    def loss(self, batch, rng):
        return {"loss": self.layer(batch).mean()}


def test_one_example_more_moves_the_sum_by_at_most_the_clip(rng):
    x = rng.standard_normal((40, 4)).astype(np.float32) * np.float32(10.0) ** rng.integers(-3, 9, (40, 1))
    sums = []
    for row in (None, *range(8)):
        model = Line()
        trainer = Trainer(model, model.loss, shuffled(x, batch_size=20), SGD(model.parameters(), 0.1), steps=1, private=Private(0.0, 0.5, secret=False))
        every = np.flatnonzero(np.arange(40) != row)
        trainer.private.rows = lambda draw, every=every: every
        trainer.private.gradients(trainer.optimiser, model.loss, 0)
        sums.append(model.layer.weight.grad[:, 0].astype(np.float64) * trainer.private.expected)
    differences = [np.linalg.norm(s - sums[0]) for s in sums[1:]]
    assert max(differences) <= 0.5 + 1e-5 and max(differences) > 0.49  # an outlier's is all of it; the sums are float32


def test_a_step_is_the_sum_of_clipped_gradients_and_the_noise(rng):
    """1 / (q n) [ sum_i g_i min(1, C / |g_i|) + noise ] (Abadi et al. 2016, algorithm 1); the gradient of a line in an example is the example."""
    x = (rng.standard_normal((40, 4)) * np.where(np.arange(40) % 2, 3, 0.3)[:, None]).astype(np.float32)
    model = Line()
    p = Trainer(model, model.loss, shuffled(x, batch_size=20), SGD(model.parameters(), 0.1), steps=3, seed=7, private=Private(0.0, 2.0, secret=False)).private
    p.private = dataclasses.replace(p.private, noise=1.5)
    assert p.rate == 0.5 and p.per_step == 1 and p.secret == 0
    p.split(4)
    assert (p.expected, p.per_step, p.rate) == (5, 4, 0.125)
    optimiser = SGD(model.parameters(), 0.1)
    for draw in range(3):
        rows = p.rows(draw)
        losses = p.gradients(optimiser, model.loss, draw)
        clipped_sum = sum(row * min(1.0, 2.0 / np.linalg.norm(row)) for row in x[rows].astype(float))
        np.testing.assert_allclose(model.layer.weight.grad[:, 0], (clipped_sum + p.noise(draw, 4)) / 5, rtol=1e-3, atol=1e-5)
        assert losses["loss"] == pytest.approx(float(model.layer(x[rows]).mean()), rel=1e-4, abs=1e-6)
    p.rows = lambda draw: np.zeros(0, int)
    assert p.gradients(optimiser, model.loss, 4) == {} and np.allclose(model.layer.weight.grad[:, 0], p.noise(4, 4) / 5)


def test_a_gradient_just_within_the_clip_is_left_alone():
    g = np.array([3, 4], np.float32)
    assert clipped(g, 5.0, 5.0 / (1 - 1e-5)) is g and clipped(g, 4.0, 5.0) is g
    np.testing.assert_allclose(clipped(g, 5.0, 1.0), np.array([0.6, 0.8]) * (1 - 1e-5), rtol=2e-7)


class Looks(Module):
    def __init__(self, **reads):
        vars(self).update(reads)


def test_what_reads_whole_batches_and_what_keeps_statistics_is_refused():
    for reads, fine in (({}, True), ({"reads_whole_batch": True}, False), ({"reads_examples_alone": True}, True), ({"reads_whole_batch": True, "reads_examples_alone": True}, True)):
        with contextlib.nullcontext() if fine else pytest.raises(ValueError, match="^private: this model is a Looks, which looks at the whole batch"):
            refuse_models_of_whole_batches(Looks(**reads))
    model = Line()
    model.named_buffers = lambda: {"mean": np.zeros(2), "new": np.ones(2)}
    refuse_statistics({"mean": np.zeros(2), "gone": np.ones(1)}, model)
    with pytest.raises(ValueError, match="^private: mean of this Line is a statistic"):
        refuse_statistics({"mean": np.array([0.0, 1.0])}, model)


@pytest.mark.parametrize(("delta", "n", "fine"), [(0.01, 100, False), (0.0099, 100, True), (0.011, 100, False), (0.5, 1, True)])
def test_delta_is_below_one_in_so_many_examples(delta, n, fine, monkeypatch):
    monkeypatch.setattr("zoo.training.private._library", lambda: None)
    model, batches = Line(), shuffled(np.ones((n, 4), np.float32), batch_size=1)
    with contextlib.nullcontext() if fine else pytest.raises(ValueError, match=f"^private: delta is {delta} with {n} examples; it is below {1 / n:.2g}"):
        PrivateGradients(Private(1.0, delta=delta), model, batches, 0)
    PrivateGradients(Private(0.0, delta=delta), model, batches, 0)  # nothing is promised
    for wrong in (1.0, 1.5):
        with pytest.raises(ValueError, match=f"^Private: delta is {wrong}; it is above 0 and below 1"):
            Private(1.0, delta=wrong)
    assert Private(1.0, delta=0.999).delta == 0.999


def test_the_secret_is_kept_in_hexadecimal_and_facts_are_of_all_draws():
    model = Line()
    p = PrivateGradients(Private(0.0, clip=0.5), model, shuffled(np.ones((30, 4), np.float32), batch_size=6), 0)
    assert 2**100 < p.secret < 2**128
    saved = p.checkpoint()
    assert saved == {"noise": 0.0, "clip": 0.5, "delta": 1e-5, "secret": True, "key": hex(p.secret)[2:]}
    p.restore({"key": "1f"})
    assert p.secret == 31
    p.split(2)
    facts = p.facts(10)
    assert facts["epsilon"] is facts["accountant"] is None and facts["draws"] == 20 and facts["sampling"] == "Poisson, each of 30 examples with probability 0.1"
    assert facts["holds"] == "no guarantee: there was no noise" and (facts["delta"], facts["noise"], facts["clip"], facts["secret"]) == (1e-5, 0.0, 0.5, True)


def test_noise_has_the_stated_deviation_and_no_draw_is_anothers():
    model = Line()
    make = lambda **fields: Trainer(model, model.loss, shuffled(np.ones((400, 4), np.float32), batch_size=20), SGD(model.parameters(), 0.1), steps=9,
                                    seed=1, private=Private(**{"noise": 0.0, "clip": 2.0, "secret": False, **fields})).private
    noises = [make().noise(draw, 10) for draw in range(3)]
    assert not any(noise.any() for noise in noises)
    noisy = make()
    noisy.private = dataclasses.replace(noisy.private, noise=1.5)
    draws = np.stack([noisy.noise(draw, 20_000) for draw in range(5)])
    deviation = draws.std(axis=1)
    assert np.allclose(deviation, 3.0, rtol=5 / math.sqrt(2 * 20_000)) and abs(draws.mean()) < 5 * 3 / math.sqrt(draws.size)
    assert np.abs(np.corrcoef(draws) - np.eye(5)).max() < 5 / math.sqrt(20_000)
    assert np.array_equal(draws[2], noisy.noise(2, 20_000))
    other = make(secret=True)
    other.private = noisy.private
    assert not np.array_equal(other.noise(2, 100), noisy.noise(2, 100)[:100]) and other.secret != make(secret=True).secret


def test_sampling_is_poissons():
    model = Line()
    private = Trainer(model, model.loss, shuffled(np.ones((500, 4), np.float32), batch_size=50), SGD(model.parameters(), 0.1), steps=1,
                      private=Private(0.0, secret=False)).private
    taken = np.array([np.isin(np.arange(500), private.rows(draw)) for draw in range(400)])
    n, q = taken.size, 0.1
    assert abs(taken.mean() - q) < 5 * math.sqrt(q * (1 - q) / n)
    sizes = taken.sum(1)
    assert abs(sizes.var() / (500 * q * (1 - q)) - 1) < 5 * math.sqrt(2 / 400) and sizes.std() > 0
    both = (taken[:, :250] & taken[:, 250:]).mean()  # two rows independently
    assert abs(both - q * q) < 5 * math.sqrt(q * q / (400 * 250))


# --- epsilon


def renyi(noise, rate, order):
    """Of one step, for a whole order (Mironov et al. 2019, section 3.3)."""
    terms = [math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1) + (order - k) * math.log1p(-rate)
             + (k * math.log(rate) if k else 0) + (k * k - k) / (2 * noise**2) for k in range(order + 1)]
    top = max(terms)
    return (top + math.log(sum(math.exp(term - top) for term in terms))) / (order - 1)


@with_accountant
def test_epsilon_is_the_published_one():
    rate, steps, delta = 256 / 60_000, 60 * 60_000 // 256, 1e-5
    orders = range(2, 200)
    earlier = min(steps * renyi(1.1, rate, a) + math.log(1 / delta) / (a - 1) for a in orders)
    assert abs(earlier - 3.0) < 0.05  # what TensorFlow Privacy's tutorial for MNIST says, by the conversion of Mironov (2017)
    tight = min(steps * renyi(1.1, rate, a) + math.log((a - 1) / a) - (math.log(delta) + math.log(a)) / (a - 1) for a in orders)
    assert epsilon(1.1, rate, steps, delta) == pytest.approx(tight, rel=0.01)  # the conversion of Canonne et al. (2020): 2.6
    assert epsilon(1.1, rate, steps, delta) == pytest.approx(2.6, abs=0.02)


@with_accountant
def test_epsilon_grows_with_steps_and_rate_and_falls_with_noise_and_delta():
    base = epsilon(1.0, 0.01, 1000, 1e-5)
    assert epsilon(1.0, 0.01, 2000, 1e-5) > base > epsilon(1.2, 0.01, 1000, 1e-5) and epsilon(1.0, 0.02, 1000, 1e-5) > base > epsilon(1.0, 0.01, 1000, 1e-4)
    assert epsilon(1.0, 0.01, 0, 1e-5) == 0 and epsilon(0.0, 0.01, 10, 1e-5) == math.inf and epsilon(1.0, 1.0, 10, 1e-5) > epsilon(1.0, 0.99, 10, 1e-5)


def test_without_the_accountant_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ValueError, match=r"dp-accounting.*isn't installed \(pip install 'numpy-zoo\[privacy\]'\)"):
        trainer_of(*FAMILIES["vae"], Private(1.0))


# --- a run

SMALL = ["vae", "--data", "digits8x8", "--epochs", "1", "--batch-size", "360", "--hidden", "8", "--latent", "3", "--depth", "1", "--quiet",
         "--private-noise", "1.1", "--private-clip", "0.5", "--private-delta", "1e-4"]


@with_accountant
def test_a_stopped_run_goes_on_with_its_own_noise(tmp_path):
    kind, fields = FAMILIES["transformer"]
    fields = {**fields, "steps": 6}
    whole = trainer_of(kind, fields, Private(0.8, delta=1e-3, secret=False), folder=tmp_path / "whole")
    whole.run(progress=False)
    half = trainer_of(kind, fields, Private(0.8, delta=1e-3, secret=False), folder=tmp_path / "half")
    for record in half:
        if record.step == 3:
            break
    half.checkpoint()
    again = trainer_of(kind, fields, Private(0.8, delta=1e-3, secret=False), folder=tmp_path / "half", resume=True)
    again.run(progress=False)
    for name, a in whole.model.arrays().items():
        assert np.array_equal(a, again.model.arrays()[name]), name
    secret = trainer_of(kind, fields, Private(0.8, delta=1e-3), folder=tmp_path / "secret")
    next(iter(secret))
    secret.checkpoint()
    on = trainer_of(kind, fields, Private(0.8, delta=1e-3), folder=tmp_path / "secret", resume=True)
    assert on.private.secret == secret.private.secret != 0
    with pytest.raises(ValueError, match="the run is private so: noise 0.8, .*; not so: not private"):
        trainer_of(kind, fields, None, folder=tmp_path / "secret", resume=True)
    with pytest.raises(ValueError, match="the run is private so: noise 0.8, .*; not so: noise 0.5"):
        trainer_of(kind, fields, Private(0.5, delta=1e-3), folder=tmp_path / "secret", resume=True, change_settings=True)


@with_accountant
def test_the_card_says_what_was_promised(tmp_path, capsys):
    assert main(["train", *SMALL, "--out", str(tmp_path / "run")]) == 0
    card = json.loads((tmp_path / "run" / "card.json").read_text("utf-8"))
    said = card["private"]
    assert said["epsilon"] == pytest.approx(epsilon(1.1, 360 / 1437, card["steps"], 1e-4), abs=1e-4) and said["delta"] == 1e-4
    assert said["draws"] == card["steps"] and said["sampling"].startswith("Poisson, each of 1437 examples with probability 0.25")
    assert said["accountant"].startswith("Renyi, dp-accounting ") and said["secret"] is True and "key" not in said
    assert "data_digest" not in card and not card["figures"]  # which would say something of the data without noise
    with pytest.raises(ValueError, match="noise that nobody can draw again"):
        rerun(tmp_path / "run")
    assert zoo.load(tmp_path / "run").card["private"] == said


@with_accountant
def test_a_repeatable_run_can_be_made_again_and_says_that_it_is_private_to_nobody(tmp_path):
    assert main(["train", *SMALL, "--private-repeatable", "--out", str(tmp_path / "run")]) == 0
    assert "for nobody who knows the run's seed" in json.loads((tmp_path / "run" / "card.json").read_text("utf-8"))["private"]["holds"]
    assert rerun(tmp_path / "run").is_same
    assert main(["train", "--config", str(tmp_path / "run"), "--quiet", "--out", str(tmp_path / "again")]) == 0
    a, b = (zoo.load(tmp_path / name).arrays() for name in ("run", "again"))
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("kind", "fields", "message"), [
    ("vqvae", {"epochs": 1, "batch_size": 6}, "codebook is a .*, which looks at the whole batch at once"),
    ("autoencoder", {"epochs": 1, "batch_size": 6}, "is a statistic of the training data that is saved without noise"),
    ("classifier", {"epochs": 1, "batch_size": 6}, "is a BatchNorm, which looks at the whole batch at once"),
    ("gan", {**GAN, "discriminator_norm": "batch"}, "discriminator_norm is 'batch'"),
    ("gan", {**GAN, "discriminator_norm": "spectral"}, "discriminator_norm is 'spectral', whose numbers move with every example"),
    ("gan", {**GAN, "packing": 2}, "packing is 2; .*so it is 1"), ("gan", {**GAN, "clusters": 5}, "clusters is 5; their centres"),
    ("gan", {**GAN, "loss": "relativistic"}, "loss is 'relativistic', with which the generator learns from real samples"),
    ("diffusion", {**FAMILIES["diffusion"][1], "coupling": "optimal"}, "their rows depend on each other"),
])
def test_what_cannot_be_private_is_refused_in_one_line(kind, fields, message):
    with pytest.raises(ValueError, match=message) as e:
        next(iter(trainer_of(kind, fields, Private(0.0, secret=False))))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("arguments", "message"), [
    (["vae", "--private-clip", "1"], "--private-clip goes with --private-noise"), (["vae", "--private-noise", "-1"], "noise is -1.0"),
    (["vae", "--private-noise", "1", "--private-clip", "0"], "clip is 0.0"), (["vae", "--private-noise", "1", "--private-delta", "2"], "delta is 2.0"),
    (["vae", "--private-noise", "1", "--ranks", "2"], "doesn't go with --ranks"), (["vae", "--private-noise", "1", "--accumulate", "2"], "--accumulate is 2"),
    (["diffusion", "--preset", "moons", "--private-noise", "1"], "drawn from a formula"),
    (["vae", "--data", "digits8x8", "--batch-size", "50", "--private-noise", "1", "--private-delta", "0.01"], "it is below 0.0007")])
def test_bad_settings_are_said_in_a_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_ranks_are_refused():
    class Two:
        Get_rank, Get_size = (lambda self: 0), (lambda self: 2)
    with pytest.raises(ValueError, match="--ranks is 2"):
        trainer_of(*FAMILIES["vae"], Private(0.0), ranks=Ranks(Two()))


def test_private_training_learns():
    trainer = trainer_of("vae", {"epochs": 2, "batch_size": 30, "hidden": (16,), "latent": (3,), "depth": 1, "optimiser": "adam", "lr": 1e-2},
                         Private(0.0, clip=1.0, secret=False))
    losses = [record.losses["loss"] for record in trainer]
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:3])
