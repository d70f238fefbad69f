"""Autoencoders of every kind, as a statistician would check them: densities against closed forms, bounds, codes, generation step by step.

Definitions run here, which need no compiling; that kernels are the same is what the tests of operations say.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from zoo import autograd as ops
from zoo.autoencoder import Autoencoder
from zoo.autograd import Tensor, grad, no_grad
from zoo.autograd.runtime import use_kernels
from zoo.data import Images, digits8x8
from zoo.diffusion import load_latents
from zoo.loading.cards import load
from zoo.nn import Linear
from zoo.optim import Adam
from zoo.recipes.autoencoder import AutoencoderTraining
from zoo.recipes.autoencoder import make_trainer as autoencoder_trainer
from zoo.recipes.vae import PRESETS, VAETraining, make_trainer
from zoo.recipes.vqvae import VQVAETraining
from zoo.recipes.vqvae import make_trainer as vqvae_trainer
from zoo.training import Trainer
from zoo.transformer import Cache
from zoo.vae import VAE
from zoo.vqvae import VQVAE, Codebook, straight_through

SMALL = {"image": (8, 8), "hidden": (10,), "latent": (3,)}
SMALL_CODES = {"image": (8, 8), "channels": 4, "codes": 5, "width": 3, "prior_layers": 2, "prior_heads": 2, "prior_width": 8}
MODELS = {
    "dense": lambda: VAE.new(seed=1, **SMALL),
    "two layers": lambda: VAE.new(seed=1, **{**SMALL, "hidden": (10, 8), "latent": (4, 3)}),
    "convolutional": lambda: VAE.new(seed=1, network="convolutional", **SMALL),
    "conditional": lambda: VAE.new(seed=1, classes=10, **SMALL),
    "gaussian": lambda: VAE.new(seed=1, pixels="gaussian", binarise=False, **SMALL),
    "colour": lambda: VAE.new(seed=1, **{**SMALL, "image": (8, 8, 3)}),
    "autoencoder": lambda: Autoencoder.new(seed=1, image=(8, 8), hidden=(10, 6), latent=3),
    "convolutional autoencoder": lambda: Autoencoder.new(seed=1, image=(8, 8), hidden=(10,), latent=3, network="convolutional"),
    "vqvae": lambda: filled(VQVAE.new(seed=1, **SMALL_CODES)),
    "conditional vqvae": lambda: filled(VQVAE.new(seed=1, classes=10, **SMALL_CODES)),
}
PLAIN = [name for name in MODELS if "conditional" not in name]


@pytest.fixture(autouse=True)
def without_kernels():
    with use_kernels(False):
        yield


def filled(model):
    """A codebook with rows, as after the first step of training, and a prior with opinions."""
    model.codebook.rows[...] = np.random.default_rng(2).normal(size=model.codebook.rows.shape)
    model.prior.embedding.weight.data *= 50
    model.prior.output.weight.data *= 50
    return model


def pictures(model, n=6):
    return np.random.default_rng(3).random((n, *model.config.image), np.float32)


# --- generation


@pytest.mark.parametrize(("name", "kernels"), [*((name, False) for name in MODELS), ("dense", True), ("two layers", True)])
def test_every_step_replays_to_the_bit_and_the_last_is_the_sample(name, kernels):
    model = MODELS[name]()
    with use_kernels(kernels):
        steps = list(model.steps(3, seed=4))
        for step in reversed(steps):  # in any order
            assert step.equals(step.replay()), step.name
        assert np.array_equal(steps[-1].value, model.sample(3, seed=4))
        assert not np.array_equal(model.sample(3, seed=5), model.sample(3, seed=4))
    x = steps[-1].value
    assert x.shape == (3, *model.config.image) and x.dtype == np.float32 and 0 <= x.min() and x.max() <= 1
    assert len({step.name for step in steps}) == len(steps)
    for before, after in itertools.pairwise(steps):
        if after.draw is None and not getattr(model.config, "classes", 0):
            assert np.array_equal(after.given, before.value), after.name


@pytest.mark.parametrize("name", PLAIN)
def test_the_ends_of_an_interpolation_are_the_reconstructions(name):
    model = MODELS[name]()
    a, b = pictures(model, 2)
    line, ends = model.interpolate(a, b, steps=5), model.reconstruct(np.stack([a, b]))
    assert line.shape == (5, *model.config.image)
    np.testing.assert_allclose(line[[0, -1]], ends, atol=1e-6)
    with pytest.raises(ValueError, match="steps is 1; it is at least 2"):
        model.interpolate(a, b, steps=1)


def test_a_traversal_through_the_mean_is_the_reconstruction():
    model = MODELS["dense"]()
    x = pictures(model, 1)
    with no_grad():
        mean = model.encode(x)[0].data
    values = [-2.0, float(mean[0, 1]), 2.0]
    row = model.traverse(mean[0], 1, values)
    np.testing.assert_allclose(row[1], model.reconstruct(x)[0], atol=1e-6)
    assert not np.allclose(row[0], row[1]) and np.array_equal(mean[0], model.encode(x)[0].data[0])
    with pytest.raises(ValueError, match="dimension is 3; it may go from 0 to 2"):
        model.traverse(mean[0], 3)


def test_steps_from_a_given_code_decode_it():
    for name in ("dense", "autoencoder"):
        model = MODELS[name]()
        z = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
        steps = list(model.steps(z=z))
        assert np.array_equal(steps[0].given, z) and all(step.draw is None for step in steps)
        np.testing.assert_allclose(steps[-1].value, model.decode(Tensor(z)).data, atol=1e-6)
        with pytest.raises(ValueError, match=r"z has shape \(2, 2\); it is \(n, 3\)"):
            next(model.steps(z=z[:, :2]))


@pytest.mark.parametrize("name", ["conditional", "conditional vqvae"])
def test_a_digit_changes_what_is_drawn_and_without_one_all_come_in_turn(name):
    model = MODELS[name]()
    every, sevens = model.sample(10, seed=1), model.sample(10, seed=1, digit=7)
    np.testing.assert_allclose(every[7], sevens[7], atol=1e-6)
    assert not np.allclose(every, sevens, atol=1e-4)
    np.testing.assert_allclose(model.sample(10, seed=1, digit=np.arange(10)), every, atol=1e-6)
    for digit, message in ((10, "from 10 to 10"), (-1, "from -1"), (1.5, "dtype is float64"), ([1, 2], r"shape is \(2,\)")):
        with pytest.raises(ValueError, match=message):
            model.sample(10, digit=digit)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_draws_the_same(tmp_path, name):
    model = MODELS[name]()
    model.save(tmp_path)
    assert np.array_equal(load(tmp_path).sample(2, seed=1), model.eval().sample(2, seed=1))


# --- what is drawn, and how likely it is


def constant_encoder(model, mean, log_variance):
    """Make q(z|x) the same for every x."""
    for layer in (*model.encoders[0].layers, model.encoders[0].output):
        layer.weight.data[...] = 0
    model.encoders[0].output.bias.data[...] = np.concatenate([mean, log_variance])


@pytest.mark.parametrize("k", [1, 4])
def test_the_deviation_drawn_is_exp_of_half_the_log_variance(monkeypatch, k):
    model, seen = VAE.new(seed=0, samples=k, **SMALL), []
    mean, log_variance = np.array([0.5, -1.0, 2.0]), np.array([-2.0, 0.0, 1.0])
    constant_encoder(model, mean, log_variance)
    monkeypatch.setattr(model, "logits", lambda z, labels=None: seen.append(z.data) or Tensor(np.zeros((len(z), 64), np.float32)))
    model.loss(np.zeros((20_000, 8, 8), np.float32), np.random.default_rng(0))
    z = seen[0]
    assert z.shape == (20_000 * k, 3)
    np.testing.assert_allclose(z.std(0) / np.exp(log_variance / 2), 1, atol=0.03)
    np.testing.assert_allclose(z.mean(0), mean, atol=0.06)


def test_the_deviation_of_an_upper_layers_draw_too():
    model = MODELS["two layers"]()
    model.decoders[0].output.weight.data[...] = 0
    model.decoders[0].output.bias.data[...] = np.concatenate([np.full(4, 0.5), [-2, 0, 1, 2]])
    z = next(step.value for step in model.steps(20_000) if step.name == "z1")
    np.testing.assert_allclose(z.std(0) / np.exp(np.array([-2, 0, 1, 2]) / 2), 1, atol=0.03)
    np.testing.assert_allclose(z.mean(0), 0.5, atol=0.1)


def test_the_kl_term_in_closed_form_is_its_monte_carlo_mean():
    model = VAE.new(seed=0, **SMALL)
    mean, log_variance = np.array([0.5, -1.0, 2.0], np.float32), np.array([-2.0, 0.0, 1.0], np.float32)
    constant_encoder(model, mean, log_variance)
    x, parts = np.zeros((1, 8, 8), np.float32), {}
    with no_grad():
        model.log_weights(x, 20_000, np.random.default_rng(0), parts=parts)
        kl = np.asarray(parts["kl"].data, np.float64)
        closed = float(model.loss(x, np.random.default_rng(0))["kl"])
    assert abs(kl.mean() - closed) < 4 * kl.std() / math.sqrt(len(kl))
    assert closed == pytest.approx(0.5 * np.sum(np.exp(log_variance) + mean**2 - 1 - log_variance), rel=1e-5)


def test_more_samples_raise_the_bound_and_one_is_the_closed_form():
    model, rng = VAE.new(seed=0, binarise=False, **SMALL), np.random.default_rng(1)
    model.output.weight.data *= 3  # so that the code matters
    x = np.repeat((rng.random((1, 8, 8)) < 0.5).astype(np.float32), 400, axis=0)
    bounds = []
    with no_grad():
        for k in (1, 4, 16, 64):
            log_w = np.asarray(model.log_weights(x, k, rng).data, np.float64)
            bounds.append(np.logaddexp.reduce(log_w, axis=1) - math.log(k))
        closed = -float(model.loss(np.repeat(x, 20, axis=0), rng)["loss"])
        many = dataclasses.replace(model.config, samples=16)
        model.config = many
        sixteen = -float(model.loss(x, rng)["loss"])
        exact = float(model.log_likelihood(x[:1], samples=50_000)[0])
    means, errors = [b.mean() for b in bounds], [b.std() / 20 for b in bounds]
    assert all(b - a > 4 * math.hypot(ea, eb) for (a, ea), (b, eb) in itertools.pairwise(zip(means, errors)))
    assert abs(means[0] - closed) < 5 * errors[0] and abs(sixteen - means[2]) < 6 * errors[2]
    assert means[-1] < exact + 4 * errors[-1]


def linear_gaussian(depth_two=False):
    """A VAE in which everything is linear near the middle of the sigmoid: x = 1/2 + W z / 4 + noise."""
    rng = np.random.default_rng(5)
    latent = (2, 1) if depth_two else (2,)
    model = VAE.new(seed=0, image=(2, 2), latent=latent, hidden=(1,) * len(latent), depth=0, pixels="gaussian", binarise=False)
    w = rng.normal(size=(2, 4)) * 0.1
    model.output.weight.data[...], model.output.bias.data[...] = w, 0
    model.log_variance.data[...] = 2 * math.log(0.03)
    prior = np.eye(2)
    if depth_two:
        a = np.array([[0.8, -0.5]])
        model.decoders[0].output.weight.data[...] = np.concatenate([a, np.zeros((1, 2))], axis=1)
        model.decoders[0].output.bias.data[...] = [0, 0, math.log(0.5), math.log(0.5)]
        prior = a.T @ a + 0.5 * np.eye(2)
    w = w / 4
    covariance = w.T @ prior @ w + 0.03**2 * np.eye(4)
    x = (0.5 + rng.multivariate_normal(np.zeros(4), covariance, 8)).clip(0, 1).astype(np.float32)
    d = x - 0.5
    exact = -0.5 * (np.einsum("ni,ij,nj->n", d, np.linalg.inv(covariance), d) + np.linalg.slogdet(2 * math.pi * covariance)[1])
    gain = prior @ w @ np.linalg.inv(covariance)  # the posterior's mean is gain d
    posterior = prior - gain @ w.T @ prior
    encoder = model.encoders[0].output
    encoder.weight.data[...] = np.concatenate([gain.T, np.zeros((4, 2))], axis=1)
    # independent dimensions that are as wide as the posterior along its widest axis
    encoder.bias.data[...] = np.concatenate([-0.5 * gain.sum(1), np.full(2, math.log(np.linalg.eigvalsh(posterior)[-1]))])
    if depth_two:
        model.encoders[1].output.weight.data[...] = 0
        model.encoders[1].output.bias.data[...] = 0
    return model, x.reshape(-1, 2, 2), exact


@pytest.mark.parametrize("depth_two", [False, True])
def test_the_likelihood_of_a_linear_gaussian_model_is_the_closed_form(depth_two):
    model, x, exact = linear_gaussian(depth_two)
    found = np.stack([model.log_likelihood(x, samples=5000, seed=seed) for seed in range(3)])
    np.testing.assert_allclose(found.mean(0), exact, atol=0.05)
    chunks = model.log_likelihood(x, samples=5000, seed=0, chunk=700)  # in other portions of memory
    np.testing.assert_allclose(chunks, exact, atol=0.1)


def test_the_likelihood_where_the_code_says_nothing_is_the_bernoullis():
    model = VAE.new(seed=0, **SMALL)
    model.output.weight.data[...] = 0
    model.output.bias.data[...] = np.linspace(-2, 2, 64)
    x = (np.random.default_rng(0).random((4, 8, 8)) < 0.5).astype(np.float32)  # binary pictures binarise to themselves
    p = 1 / (1 + np.exp(-np.linspace(-2, 2, 64)))
    exact = (x.reshape(4, -1) * np.log(p) + (1 - x.reshape(4, -1)) * np.log(1 - p)).sum(1)
    np.testing.assert_allclose(model.log_likelihood(x, samples=3000), exact, atol=0.15)


def test_gaussian_pixels_learn_their_variance():
    rng = np.random.default_rng(0)
    x = (0.5 + 0.1 * rng.normal(size=(500, 4, 4))).clip(0, 1).astype(np.float32)
    model = VAE.new(seed=0, image=(4, 4), hidden=(4,), latent=(1,), depth=1, pixels="gaussian", binarise=False)
    trainer = Trainer(model, model.loss, lambda step, r: x[r.integers(500, size=50)], Adam(model.parameters(), 0.05), steps=150)
    for _ in trainer:
        pass
    assert math.exp(model.log_variance.data[0] / 2) == pytest.approx(0.1, rel=0.1)
    with pytest.raises(ValueError, match="binarise must be False"):
        VAE.new(pixels="gaussian")


def test_beta_and_warmth_weigh_the_kl_term():
    x = pictures(MODELS["dense"]())
    for k in (1, 3):
        plain, heavy = VAE.new(seed=1, samples=k, **SMALL), VAE.new(seed=1, samples=k, beta=4.0, **SMALL)
        with no_grad():
            one, four = (m.loss(x, np.random.default_rng(0)) for m in (plain, heavy))
            two = heavy.loss(x, np.random.default_rng(0), warmth=0.5)
        assert float(one["kl"]) == float(four["kl"]) and float(one["reconstruction"]) == float(four["reconstruction"])
        if k == 1:
            for losses, beta in ((one, 1), (four, 4), (two, 2)):
                assert float(losses["loss"]) == pytest.approx(float(losses["reconstruction"]) + beta * float(losses["kl"]), rel=1e-5)
        assert len({float(losses["loss"]) for losses in (one, two, four)}) == 3


def test_beta_is_left_out_of_the_likelihood():
    x = pictures(MODELS["dense"]())
    plain, heavy = VAE.new(seed=1, **SMALL), VAE.new(seed=1, beta=4.0, **SMALL)
    assert np.array_equal(plain.log_likelihood(x, samples=10), heavy.log_likelihood(x, samples=10))


def test_conditional_models_are_judged_with_their_labels():
    model, x = MODELS["conditional"](), pictures(MODELS["conditional"]())
    labels = np.arange(6)
    images = Images(x, labels, x, labels, "made up")
    nll = model.evaluate(images, samples=20)["test NLL, nats"]
    assert nll == pytest.approx(-model.log_likelihood(x, samples=20, labels=labels).mean())
    assert nll != pytest.approx(-model.log_likelihood(x, samples=20, labels=(labels + 1) % 10).mean(), rel=1e-6)
    assert np.array_equal(model.log_likelihood(x, samples=5, labels=3), model.log_likelihood(x, samples=5, labels=np.full(6, 3)))
    with pytest.raises(ValueError, match="this model is conditional; it needs labels"):
        model.evaluate(Images(x, None, x, None, "made up"))
    with pytest.raises(ValueError, match="isn't conditional"):
        MODELS["dense"]().log_likelihood(x, labels=labels)
    assert not np.allclose(model.reconstruct(x, 1), model.reconstruct(x, 2))
    np.testing.assert_allclose(model.interpolate(x[0], x[1], 3, 4)[0], model.reconstruct(x[:1], 4)[0], atol=1e-6)


def test_each_of_several_samples_has_its_own_pictures_label():
    model = MODELS["conditional"]()
    constant_encoder(model, np.zeros(3), np.zeros(3))  # q is the prior, and the decoder hears of nothing but the label
    model.layers[0].weight.data[:3] = 0
    model.layers[0].weight.data[3:] *= 10
    x, labels = (pictures(model) < 0.5).astype(np.float32), np.arange(6)
    with no_grad():
        z = Tensor(np.zeros((6, 3), np.float32))
        exact, other = (np.asarray(ops.bernoulli_log_likelihood(x.reshape(6, -1), model.logits(z, y))) for y in (labels, labels[::-1].copy()))
    np.testing.assert_allclose(model.log_likelihood(x, samples=7, labels=labels), exact, atol=1e-3)
    assert np.abs(exact - other).max() > 0.1


def test_binarised_pictures_are_drawn_afresh_at_each_presentation_and_once_in_evaluation():
    model = VAE.new(seed=1, **SMALL)
    x = np.full((4, 8, 8), 0.5, np.float32)
    with no_grad():
        first, second = (float(model.loss(x, np.random.default_rng(seed))["reconstruction"]) for seed in (0, 1))
    assert first != second
    assert np.array_equal(model.log_likelihood(x, samples=3, seed=0), model.log_likelihood(x, samples=3, seed=0))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_settings_that_exist(preset):
    names = {f.name for c in (VAE.Config, VAETraining) for f in dataclasses.fields(c)}
    assert set(PRESETS[preset]) <= names


def test_a_vae_fits_its_data_and_starts_from_its_mean():
    data = digits8x8()
    model = VAE.for_data(data, hidden="16", latent="4", depth=1)
    assert model.config.image == (8, 8) and model.config.hidden == (16,)
    mean = data.train.reshape(len(data.train), -1).mean(0).clip(0.001, 0.999)
    np.testing.assert_allclose(1 / (1 + np.exp(-model.output.bias.data)), mean, atol=1e-5)
    before = model.output.bias.data.copy()
    make_trainer(model, data, VAETraining(epochs=1, batch_size=500, optimiser="adam"))
    assert np.array_equal(model.output.bias.data, before)  # weights that were handed in stay as they are
    first = float(np.mean(-model.log_likelihood(data.test[:50], samples=20)))
    make_trainer(model, data, VAETraining(epochs=6, batch_size=100, optimiser="adam", lr=5e-3, warm_up=2)).run(progress=False)
    assert float(np.mean(-model.log_likelihood(data.test[:50], samples=20))) < first - 1


# --- the plain autoencoder


def test_an_autoencoder_learns_and_knows_where_its_codes_lie():
    data = digits8x8()
    model = Autoencoder.for_data(data, hidden=(24,), latent=4)
    before = model.evaluate(data)
    autoencoder_trainer(model, data, AutoencoderTraining(epochs=30, batch_size=200, lr=1e-2)).run(progress=False)
    after = model.eval().evaluate(data)
    assert before["entropy, nats"] == after["entropy, nats"] < after["test cross-entropy, nats"] < before["test cross-entropy, nats"] - 5
    assert after["squared error a pixel"] < before["squared error a pixel"]
    codes = model.encode(Tensor(data.train)).data
    drawn = next(model.steps(20_000)).value
    np.testing.assert_allclose(drawn.mean(0), model.mean, atol=0.05 * np.abs(codes).max())
    np.testing.assert_allclose(np.cov(drawn.T), model.covariance, atol=0.05 * np.abs(model.covariance).max())
    assert 0.4 < np.trace(model.covariance) / np.trace(np.cov(codes.T)) < 2.5
    still = model.mean.copy()
    model.loss(data.test, np.random.default_rng(0))  # out of training nothing moves
    assert np.array_equal(model.mean, still)


# --- codes


def test_the_gradient_goes_straight_through():
    z, e = Tensor(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), requires_grad=True), np.ones((4, 3), np.float32)
    y = straight_through(z, e)
    np.testing.assert_allclose(y.data, e, atol=1e-6)
    g = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    assert np.array_equal(grad(y, z, g).data, g)


def test_the_code_is_the_nearest_row(rng):
    book = Codebook(20, 4, 0.99)
    book.rows[...] = rng.normal(size=(20, 4))
    z = rng.normal(size=(300, 4)).astype(np.float32)
    distances = ((z[:, None] - book.rows) ** 2).sum(-1)
    np.testing.assert_allclose(distances[np.arange(300), book.nearest(z)], distances.min(1), rtol=1e-4)
    assert np.array_equal(book.nearest(book.rows), np.arange(20))


def test_rows_follow_the_moving_averages_of_what_chose_them(rng):
    book = Codebook(3, 2, 0.9)
    book.rows[...] = rng.normal(size=(3, 2))
    book.counts[...], book.sums[...] = [4, 5, 6], book.rows * np.array([[4], [5], [6]])
    counts, sums = book.counts.astype(np.float64), book.sums.astype(np.float64)
    for _ in range(5):
        z = rng.normal(size=(30, 2)).astype(np.float32)
        ids = book.nearest(z)
        book.update(z, ids)
        counts = 0.9 * counts + 0.1 * np.bincount(ids, minlength=3)
        sums = 0.9 * sums + 0.1 * np.stack([z[ids == i].sum(0) for i in range(3)])
    np.testing.assert_allclose(book.counts, counts, rtol=1e-5)
    np.testing.assert_allclose(book.rows, sums / counts[:, None], rtol=1e-4, atol=1e-5)


def test_a_codebook_finds_the_middles_of_clusters_and_revives_the_dead(rng):
    middles = np.array([[0, 0], [5, 0], [0, 5], [5, 5]], np.float32)
    book = Codebook(4, 2, 0.8)
    book.rows[...] = [[0, 0], [100, 100], [200, 200], [300, 300]]  # three that nothing will choose
    book.counts[...], book.sums[...] = 50, 50 * book.rows
    for _ in range(150):
        z = (middles[rng.integers(4, size=200)] + 0.1 * rng.normal(size=(200, 2))).astype(np.float32)
        revived = book.revive(z, rng)
        book.update(z, book.nearest(z))
    assert np.abs(book.rows).max() < 6 and revived == 0  # all live, among the data
    error = ((z[:, None] - book.rows) ** 2).sum(-1).min(1).mean()
    assert error < 10.5  # rows may share a cluster, and clusters a row: at worst three, 8.3 and what draws add; a single live row would leave 12.5


def test_only_the_dead_are_revived(rng):
    book = Codebook(4, 2, 0.9)
    book.rows[...], book.counts[...] = rng.normal(size=(4, 2)), [10, 0, 0.1, 10]
    before, z = book.rows.copy(), rng.normal(size=(40, 2)).astype(np.float32) + 10
    assert book.revive(z, rng) == 2
    assert np.array_equal(book.rows[[0, 3]], before[[0, 3]]) and all((row == z).all(1).any() for row in book.rows[[1, 2]])
    assert Codebook(9, 2, 0.9).revive(z[:4], rng) == 9  # fewer outputs than rows
    book = Codebook(9, 2, 0.9)
    book.counts[...] = 0
    assert book.revive(z[:9], rng) == 9 and sorted(map(tuple, book.rows)) == sorted(map(tuple, z[:9]))  # as many: each once


def test_the_prior_is_a_distribution_over_all_grids():
    model = filled(VQVAE.new(seed=1, **{**SMALL_CODES, "image": (8, 4), "codes": 3}))
    grids = np.array(list(itertools.product(range(3), repeat=2)))
    with no_grad():
        p = np.exp(np.asarray(model.log_prior(grids), np.float64))
    assert p.sum() == pytest.approx(1, rel=1e-5)


def test_codes_are_drawn_from_what_the_prior_says():
    model = MODELS["vqvae"]()
    steps = [step for step in model.steps(50, seed=0) if hasattr(step, "code")]
    assert [step.name for step in steps] == [f"code {r}, {c}" for r in range(2) for c in range(2)]
    codes = steps[-1].value
    with no_grad():
        inputs = np.concatenate([np.full((50, 1), 5), codes.reshape(50, -1)[:, :-1]], axis=1)
        logits = np.asarray(model.prior(inputs))[..., :5]  # at once and without a cache
        total = np.asarray(model.log_prior(codes.reshape(50, -1)))
    drawn = 0.0
    for i, step in enumerate(steps):
        np.testing.assert_allclose(step.logits, logits[:, i], atol=1e-5)
        np.testing.assert_allclose(step.probabilities.sum(1), 1)
        ends = np.concatenate([np.zeros((50, 1)), step.probabilities.cumsum(1)], axis=1)
        rows = np.arange(50)
        assert (ends[rows, step.code] <= step.draw).all() and (step.draw < ends[rows, step.code + 1] + 1e-12).all()
        drawn = drawn + np.log(step.probabilities[rows, step.code])
        assert (step.value.reshape(50, -1)[:, i + 1 :] == -1).all() and np.array_equal(step.value.reshape(50, -1)[:, i], step.code)
    np.testing.assert_allclose(drawn, total, atol=1e-4)
    np.testing.assert_allclose(model.decode(codes), model.sample(50, seed=0), atol=1e-6)


def test_encoding_and_decoding_meet_in_the_reconstruction():
    model = MODELS["vqvae"]()
    x = pictures(model)
    codes = model.encode(x)
    assert codes.shape == (6, 2, 2) and codes.dtype == np.int64 and 0 <= codes.min() and codes.max() < 5
    assert np.array_equal(model.decode(codes), model.reconstruct(x))
    assert np.array_equal(list(model.steps(codes=codes))[-1].value, model.reconstruct(x))
    for wrong, message in ((codes + 5, "they go from 5"), (codes[:, :1], r"shape is \(6, 1, 2\)"), (codes[:0], "at least one grid"),
                           (codes + 0.5, "dtype float64")):
        with pytest.raises(ValueError, match=message):
            model.decode(wrong)


def test_a_vqvae_learns_and_its_parts_are_its_loss():
    data = digits8x8()
    model = VQVAE.for_data(data, **{**SMALL_CODES, "codes": 16})
    assert model.config.image == (8, 8)
    first = None
    few = dataclasses.replace(data, train=data.train[:400])
    for record in vqvae_trainer(model, few, VQVAETraining(epochs=16, batch_size=50, lr=1e-2, warm_up=5)):
        first = first or record.losses
    parts = record.losses
    assert parts["loss"] == pytest.approx(parts["reconstruction"] + parts["codes"] + 0.25 * parts["commitment"], rel=1e-5)
    assert parts["reconstruction"] < first["reconstruction"] - 3 and parts["codes"] < first["codes"]
    model.eval()
    before = {name: a.copy() for name, a in model.arrays().items()}
    figures = model.evaluate(data, n=100)
    assert figures["test bound, nats"] == pytest.approx(figures["reconstruction, nats"] + figures["codes, nats"], rel=1e-5)
    assert 2 < figures["perplexity of codes"] <= 16
    model.loss(data.test[:9], np.random.default_rng(0))
    assert all(np.array_equal(a, before[name]) for name, a in model.arrays().items())  # out of training the codebook stays


def test_the_priors_gradient_stops_at_the_codes():
    model = MODELS["vqvae"]()
    model.loss(pictures(model), np.random.default_rng(0))["codes"].backward()
    names = {name for name, p in model.named_parameters().items() if p.grad is not None}
    assert names and all(name.startswith("prior.") for name in names)


def test_a_cache_of_many_rows_is_that_of_each(rng):
    model = MODELS["vqvae"]()
    ids = rng.integers(0, 6, (3, 4))
    cache = Cache.empty(model.prior.config, 4, 3)
    with no_grad():
        together = [np.asarray(model.prior(ids[:, t : t + 1], cache=cache, start=t))[:, 0] for t in range(4)]
        np.testing.assert_allclose(np.stack(together, 1), np.asarray(model.prior(ids)), atol=1e-5)


# --- bad input


@pytest.mark.parametrize("name", PLAIN)
def test_wrong_pictures_are_named(name):
    model = MODELS[name]()
    good = pictures(model)
    for wrong, message in ((good[:, :5], r"images: shape is \(6, 5, .*this model takes \(n, 8, 8"), (good[:0], "an empty batch"),
                           (good * 255, "values go from .* they must lie in"), (good - 0.5, "they must lie in"),
                           (np.where(good > 0.5, np.nan, good), "there is a NaN"), (good.astype(complex), "dtype is complex128"),
                           (good.astype(str), "dtype is <U"), (np.float32(1), r"shape is \(\)")):
        for use in (model.reconstruct, lambda x: model.loss(x, np.random.default_rng(0))):
            with pytest.raises(ValueError, match=message):
                use(wrong)
    for n in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=r"n is .*; it is a whole number of at least 1"):
            model.sample(n)
    with pytest.raises(ValueError, match="isn't conditional"):
        model.sample(1, digit=3)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: VAE.new(latnet=(3,)), "there is no field 'latnet'; did you mean 'latent'"),
    (lambda: VAE.new(latent=(3, 2)), "each stochastic layer has one entry in both"),
    (lambda: VAE.new(latent=(0,)), "at least 1 each"),
    (lambda: VAE.new(samples=0), "samples is 0"),
    (lambda: VAE.new(beta=-1.0), "beta is -1.0; it is at least 0"),
    (lambda: VAE.new(image=(28,)), r"image is \(28,\)"), (lambda: VAE.new(image=(28, 0)), r"image"), (lambda: VAE.new(image=(0, 28)), r"image"),
    (lambda: VAE.new(image=(30, 28), network="convolutional"), "that 4 divides"),
    (lambda: VAE.new(activation="swish"), "activation is 'swish'; it may be 'tanh', 'relu'"),
    (lambda: VAE.new(depth="two"), "depth is 'two'; it is an int"),
    (lambda: Autoencoder.new(hidden=()), "it has at least one width"),
    (lambda: VQVAE.new(image=(10, 10)), "that 4 divides"),
    (lambda: VQVAE.new(codes=0), "codes is 0"),
    (lambda: VQVAE.new(decay=1.0), "decay is 1.0"),
    (lambda: VQVAE.new(prior_heads=5), "it must divide the width"),
    (lambda: VAE.new(seed=0, **SMALL).log_likelihood(np.zeros((1, 8, 8)), samples=0), "samples is 0"),
])
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_linear_layer_alone_is_a_decoder_too():
    model = VAE.new(seed=0, image=(2, 2), latent=(1,), hidden=(3,), depth=0)
    assert isinstance(model.output, Linear) and not model.layers and model.sample(2).shape == (2, 2, 2)
    assert ops.sigmoid(model.logits(Tensor(np.zeros((1, 1), np.float32)))).shape == (1, 4)


def test_the_convolutional_encoder_halves_twice():
    model = VAE.new(image=(12, 8), network="convolutional", latent=(3,), hidden=(7,), seed=0)
    layers = model.convolve.convolutions
    assert [layer.weight.shape for layer in layers] == [(4, 4, 1, 32), (4, 4, 32, 64)] and model.convolve.dense.weight.shape == (64 * 3 * 2, 7)
    assert [(layer.stride, layer.padding) for layer in layers] == [(2, 1)] * 2


def test_latents_of_a_grid_have_an_average_and_a_deviation_for_each_number_of_a_code(tmp_path, rng):
    vqvae = filled(VQVAE.new(seed=1, **{**SMALL_CODES, "image": (8, 16)}))
    vqvae.save(tmp_path / "vqvae")
    latents = load_latents(str(tmp_path / "vqvae"))
    assert latents.shape == (2, 4, 3) and latents.mean.shape == latents.deviation.shape == (3,)
    assert not latents.mean.any() and (latents.deviation == 1).all()
    pictures = rng.random((9, 8, 16), np.float32)
    latents.measure(pictures)
    z = latents.encode(pictures).reshape(-1, 3)
    np.testing.assert_allclose([z.mean(0), z.std(0)], [[0] * 3, [1] * 3], atol=1e-4)
