"""What the papers of autoencoders fix, number by number: bounds and their weights, codebooks, statistics of codes, recipes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.special import expit, logsumexp
from scipy.stats import norm

import zoo
from zoo.autoencoder import Autoencoder
from zoo.autograd import Tensor, no_grad
from zoo.autograd.runtime import use_kernels
from zoo.data import Images
from zoo.nn import Linear
from zoo.optim import Adam, Muon, cosine
from zoo.recipes import recipe_of
from zoo.vae import VAE, Gaussian, repeat_rows
from zoo.vqvae import VQVAE, Codebook, VQVAEConfig, draw_codes

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def without_kernels():
    with use_kernels(False):
        yield


def binary(n=4, size=(4, 4)):
    return (np.random.default_rng(1).random((n, *size)) < 0.5).astype(np.float32)


def images(n=40, classes=10, size=(8, 8)):
    x = np.random.default_rng(2).random((n, *size)).astype(np.float32)
    return Images(x, np.arange(n) % classes, x[:9], np.arange(9) % classes, "made up")


def stirred(model, seed=3):
    """Weights of which none is 0."""
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data += 0.3 * rng.standard_normal(p.shape).astype(np.float32)
    return model


# --- the bound, computed again with scipy's densities


def gaussian(module: Gaussian, h):
    for layer in module.layers:
        h = np.tanh(h @ layer.weight.data + layer.bias.data)
    return np.split(h @ module.output.weight.data + module.output.bias.data, 2, axis=-1)


def log_weights_by_hand(model, x, k, rng):
    """ln p(x|z1) p(z1|z2) p(z2) / q(z1|x) q(z2|z1) of k samples, from Burda et al. (2016), in float64."""
    flat = np.repeat(x.reshape(len(x), -1), k, axis=0).astype(np.float64)
    h, zs, log_q = flat, [], 0.0
    for encoder, width in zip(model.encoders, model.config.latent):
        mean, log_variance = gaussian(encoder, h)
        noise = rng.standard_normal((len(flat), width), np.float32)
        z = mean + np.exp(log_variance / 2) * noise
        log_q = log_q + norm.logpdf(z, mean, np.exp(log_variance / 2)).sum(1)
        zs.append(z)
        h = z
    log_prior = norm.logpdf(zs[-1]).sum(1)
    for decoder, z, above in zip(model.decoders, zs, zs[1:]):
        mean, log_variance = gaussian(decoder, above)
        log_prior = log_prior + norm.logpdf(z, mean, np.exp(log_variance / 2)).sum(1)
    h = zs[0]
    for layer in model.layers:
        h = np.tanh(h @ layer.weight.data + layer.bias.data)
    logits = h @ model.output.weight.data + model.output.bias.data
    if model.log_variance is None:
        log_x = (flat * np.log(expit(logits)) + (1 - flat) * np.log(expit(-logits))).sum(1)
    else:
        log_x = norm.logpdf(flat, expit(logits), np.exp(model.log_variance.data / 2)).sum(1)
    return [a.reshape(len(x), k) for a in (log_x, log_prior - log_q)]


KINDS = {"one layer": {"latent": (3,), "hidden": (6,)}, "two layers": {"latent": (3, 2), "hidden": (6, 5)},
         "three layers": {"latent": (4, 3, 2), "hidden": (7, 6, 5), "depth": 1}, "gaussian": {"latent": (3,), "hidden": (6,), "pixels": "gaussian", "binarise": False}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 5])
def test_importance_weights_are_those_of_the_densities(kind, k):
    model, x = stirred(VAE.new(image=(4, 4), **KINDS[kind])), binary()
    log_x, rest = log_weights_by_hand(model, x, k, np.random.default_rng(4))
    parts = {}
    with no_grad():
        for beta in (1.0, 0.3):
            found = np.asarray(model.log_weights(x, k, np.random.default_rng(4), beta=beta, parts=parts).data)
            np.testing.assert_allclose(found, log_x + beta * rest, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(np.reshape(parts["kl"].data, (4, k)), -rest, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(np.reshape(parts["log_x"].data, (4, k)), log_x, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("kind", "k"), [("one layer", 5), ("two layers", 1), ("two layers", 5), ("gaussian", 3)])
def test_the_loss_is_minus_the_mean_of_ln_1_over_k_sum_w(kind, k):
    model, x = stirred(VAE.new(image=(4, 4), samples=k, beta=0.7, **KINDS[kind])), binary()
    rng = np.random.default_rng(5)
    if model.config.binarise:
        rng.random(x.shape, np.float32)  # binary pictures are binarised to themselves
    log_x, rest = log_weights_by_hand(model, x, k, rng)
    losses = {name: float(v) for name, v in model.loss(x, np.random.default_rng(5), warmth=0.5).items()}
    bound = logsumexp(log_x + 0.35 * rest, axis=1) - math.log(k)
    assert losses["loss"] == pytest.approx(-bound.mean(), rel=1e-4)
    assert losses["kl"] == pytest.approx(-rest.mean(), rel=1e-4) and losses["reconstruction"] == pytest.approx(-log_x.mean(), rel=1e-4)


@pytest.mark.parametrize("kind", ["one layer", "gaussian"])
def test_the_loss_of_one_sample_has_its_kl_in_closed_form(kind):
    model, x = stirred(VAE.new(image=(4, 4), beta=0.7, **KINDS[kind])), binary()
    rng = np.random.default_rng(5)
    if model.config.binarise:
        rng.random(x.shape, np.float32)
    log_x, _ = log_weights_by_hand(model, x, 1, rng)
    mean, log_variance = gaussian(model.encoders[0], x.reshape(4, -1))
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum(1)  # Kingma & Welling (2014), appendix B
    losses = {name: float(v) for name, v in model.loss(x, np.random.default_rng(5), warmth=0.5).items()}
    assert losses["kl"] == pytest.approx(kl.mean(), rel=1e-4) and losses["reconstruction"] == pytest.approx(-log_x.mean(), rel=1e-4)
    assert losses["loss"] == pytest.approx(0.35 * kl.mean() - log_x.mean(), rel=1e-4)


@pytest.mark.parametrize(("samples", "chunk", "parts"), [(7, 5000, [(4, 7)]), (700, 5000, [(4, 500), (4, 200)]), (700, 1100, [(2, 500), (2, 200), (2, 500), (2, 200)]),
                                                         (3, 1, [(1, 3)] * 4)])
def test_the_likelihood_is_the_mean_of_all_weights_in_whatever_portions(samples, chunk, parts, monkeypatch):
    model, x = VAE.new(image=(4, 4), **KINDS["one layer"]), binary()
    seen = []

    def log_weights(rows, k, rng, labels=None):
        seen.append((len(rows), k))
        return Tensor((rows.reshape(len(rows), -1).sum(1)[:, None] + np.log1p(np.arange(k) + 500 * (seen.count((len(rows), k)) > 9))).astype(np.float32))

    monkeypatch.setattr(model, "log_weights", log_weights)
    found = model.log_likelihood(x, samples=samples, chunk=chunk)
    assert seen == parts
    weights = np.concatenate([np.arange(1, min(samples, 500) + 1), np.arange(1, samples - 500 + 1)]) if samples > 500 else np.arange(1, samples + 1)
    np.testing.assert_allclose(found, x.reshape(4, -1).sum(1) + math.log(weights.sum()) - math.log(samples), rtol=1e-5)


def test_each_row_is_repeated_where_it_stands():
    assert np.array_equal(repeat_rows(Tensor(np.array([[1, 2], [3, 4]], np.float32)), 2).data, [[1, 2], [1, 2], [3, 4], [3, 4]])


def test_figures_of_a_vae():
    model, data = VAE.new(image=(8, 8), **KINDS["one layer"]), images()
    nll = -model.log_likelihood(data.test[:7], samples=20, seed=2)
    rng = np.random.default_rng(2)
    figures = model.evaluate(data, seed=2, samples=20, n=7)
    assert figures["test NLL, nats"] == pytest.approx(nll.mean()) and figures["images"] == 7 and figures["samples"] == 20
    assert figures["standard error"] == pytest.approx(nll.std() / math.sqrt(7))
    with no_grad():
        assert figures["test loss, nats"] == pytest.approx(float(model.loss(data.test[:7], rng)["loss"]), rel=1e-5)
    many = dataclasses.replace(data, test=np.tile(data.test, (67, 1, 1))[:600], test_labels=None)
    losses, sizes = [3.0, 9.0], []
    model.loss = lambda x, rng: (sizes.append(len(x)), {"loss": losses[len(sizes) - 1]})[1]
    assert model.evaluate(many, samples=1)["test loss, nats"] == pytest.approx((500 * 3 + 100 * 9) / 600) and sizes == [500, 100]


@pytest.mark.parametrize(("fields", "name"), [({}, "test NLL, nats"), ({"binarise": False}, "test cross-entropy, nats"),
                                              ({"binarise": False, "pixels": "gaussian"}, "test NLL, nats")])
def test_only_what_is_a_distribution_of_pixels_has_a_likelihood(fields, name):
    figures = VAE.new(image=(8, 8), **KINDS["one layer"], **fields).evaluate(images(), samples=2)
    assert [key for key in figures if "NLL" in key or "cross-entropy" in key] == [name]
    codes = stirred(VQVAE.new(image=(8, 8), channels=4, codes=5, width=3, prior_layers=1, prior_heads=1, prior_width=4, binarise=fields.get("binarise", True)))
    assert ("test bound, nats" in codes.evaluate(images())) == codes.config.binarise


@pytest.mark.parametrize("make", [lambda: VAE.new(image=(8, 8)), lambda: Autoencoder.new(image=(8, 8)), lambda: VQVAE.new(image=(8, 8))])
def test_evaluation_without_test_pictures_says_so(make):
    data = images()
    with pytest.raises(ValueError, match="evaluate: made up has no test pictures"):
        make().evaluate(dataclasses.replace(data, test=data.test[:0]))


# --- where a model begins


@pytest.mark.parametrize(("kind", "preset", "parameters"), [
    ("vae", "vae", 425_284), ("vae", "iwae5", 425_284), ("vae", "two-layers", 521_084), ("vae", "grey", 652_824), ("vae", "convolutional", 1_766_401),
    ("vae", "conditional", 411_224), ("vqvae", "vqvae", 475_857), ("vqvae", "conditional", 477_585), ("autoencoder", "autoencoder", 1_083_696),
    ("autoencoder", "plane", 1_068_306), ("autoencoder", "convolutional", 1_692_385)])
def test_every_preset_builds_its_model_and_the_settings_of_its_run(kind, preset, parameters):
    recipe = recipe_of(kind)
    fields, training = recipe.settings(preset)
    model = recipe.new(images(20, size=(28, 28)), fields, 0)
    assert model.num_parameters == parameters and type(training) is recipe.training
    assert model.sample(1).shape == (1, 28, 28)


def test_presets_have_these_numbers():
    vae = recipe_of("vae")
    fields, run = vae.settings("vae")
    assert fields == {} and (run.epochs, run.batch_size, run.optimiser, run.lr, run.muon_lr, run.schedule, run.warm_up, run.average) == (
        500, 500, "muon", 3e-3, 0.02, "cosine", 0, 0.999)
    c = VAE.new().config
    assert (c.hidden, c.latent, c.depth, c.activation, c.samples, c.beta, c.binarise) == ((200,), (50,), 2, "tanh", 1, 1.0, True)  # Burda et al., appendix B
    assert vae.settings("iwae5")[0] == {"samples": 5} and vae.settings("two-layers")[0] == {"latent": (100, 50), "hidden": (200, 100)}
    fields, run = vae.settings("grey")
    assert fields == {"latent": (20,), "hidden": (400,), "depth": 1, "activation": "relu", "binarise": False}
    assert (run.epochs, run.batch_size, run.optimiser, run.lr, run.schedule, run.average) == (7, 128, "adam", 1e-3, "constant", 0)
    fields, run = vae.settings("convolutional")
    assert (run.epochs, run.batch_size, run.optimiser, run.lr) == (20, 128, "adam", 1e-3)
    run = recipe_of("vqvae").settings("conditional")[1]
    assert (run.epochs, run.batch_size, run.lr, run.warm_up) == (20, 128, 1e-3, 100)
    run = recipe_of("autoencoder").settings("plane")[1]
    assert (run.epochs, run.batch_size, run.lr) == (20, 128, 1e-3)


def test_a_vae_starts_from_mean_pixels_held_between_a_thousandth_and_its_complement():
    model = VAE.new(image=(2, 2), **KINDS["one layer"])
    model.start_from(np.array([[[0, 1], [0.25, 0.5]], [[0, 1], [0.25, 1]]], np.float32))
    np.testing.assert_allclose(expit(model.output.bias.data), [0.001, 0.999, 0.25, 0.75], rtol=1e-4)
    assert VAE.new(pixels="gaussian", binarise=False).log_variance.data == [-3]


def test_convolutions_halve_and_double_with_32_and_64_channels():
    model = VAE.new(image=(12, 8, 3), network="convolutional", hidden=(10,), latent=(3,), activation="relu")
    shapes = {name: p.shape for name, p in model.named_parameters().items() if "convolution" in name and "weight" in name}
    assert list(shapes.values()) == [(4, 4, 3, 32), (4, 4, 32, 64), (4, 4, 64, 32), (4, 4, 32, 3)]
    assert model.convolve.dense.weight.shape == (64 * 3 * 2, 10) and model.output.small == (3, 2, 64)
    assert model.sample(2).shape == (2, 12, 8, 3) and len(model.encoders[0].layers) == len(model.layers) == 1
    codes = VQVAE.new(image=(12, 8, 3))
    assert [c.weight.shape for c in codes.encoder] == [(4, 4, 3, 32), (4, 4, 32, 64), (3, 3, 64, 64), (1, 1, 64, 16)]
    assert [c.weight.shape for c in codes.decoder] == [(3, 3, 16, 64), (4, 4, 64, 32), (4, 4, 32, 3)] and codes.grid == (3, 2)
    assert (codes.prior.config.window, codes.prior.config.symbols) == (6, 129) and codes.sample(2).shape == (2, 12, 8, 3)
    assert VQVAE.new(classes=10).prior.config.symbols == 138


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_is_the_number_of_dense_layers_in_each_block(depth):
    model = VAE.new(image=(4, 4), latent=(3, 2), hidden=(6, 5), depth=depth)
    assert [len(block.layers) for block in (*model.encoders, *model.decoders)] == [depth] * 3 and len(model.layers) == depth
    assert model.encoders[0].output.weight.shape == (6 if depth else 16, 6) and model.decoders[0].output.weight.shape == (5 if depth else 2, 6)


def test_a_vae_for_data_takes_its_size_and_starts_from_it():
    data = images(size=(8, 12))
    assert VAE.for_data(data, **KINDS["one layer"]).config.image == VQVAE.for_data(images()).config.image[:1] + (12,)
    assert Autoencoder.for_data(data, hidden=(4,)).config.image == (8, 12)
    labelled = VAE.for_data(data, classes=10, **KINDS["one layer"])
    assert labelled.encoders[0].layers[0].weight.shape[0] == 8 * 12 + 10 and labelled.layers[0].weight.shape[0] == 3 + 10


# --- labels


def test_labels_are_one_hot_beside_pixels_and_code():
    model = VAE.new(image=(4, 4), classes=3, **KINDS["one layer"])
    joined = np.asarray(model.with_labels(np.zeros((2, 5), np.float32), np.array([2, 0])))
    assert np.array_equal(joined, [[0] * 5 + [0, 0, 1], [0] * 5 + [1, 0, 0]])


def test_between_two_labels_an_interpolation_takes_both_along():
    model, x = stirred(VAE.new(image=(4, 4), classes=3, **KINDS["one layer"])), binary(2)
    line = model.interpolate(x[0], x[1], 5, [0, 2])
    np.testing.assert_allclose(line[[0, -1]], model.reconstruct(x, np.array([0, 2])), atol=1e-6)
    with no_grad():
        mean = model.encode(x, np.array([0, 2]))[0].data.mean(0)
        h = np.concatenate([mean, [0.5, 0, 0.5]]).astype(np.float32)[None]
        middle = expit(np.asarray(model._decoded(h)))
    np.testing.assert_allclose(line[2].ravel(), middle[0], atol=1e-5)
    np.testing.assert_array_equal(model.interpolate(x[0], x[1], 5, [1, 1]), model.interpolate(x[0], x[1], 5, 1))
    assert len(model.interpolate(x[0], x[1], labels=1)) == 10


def test_a_traversal_goes_from_minus_to_plus_three_deviations():
    model = stirred(VAE.new(image=(4, 4), classes=3, **KINDS["one layer"]))
    z = np.array([0.5, -1, 2], np.float32)
    rows = model.traverse(z, 1, labels=2)
    zs = np.repeat(z[None], 9, 0)
    zs[:, 1] = np.linspace(-3, 3, 9)
    with no_grad():
        np.testing.assert_allclose(rows, np.asarray(model.decode(zs, 2)), atol=1e-6)
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=f"dimension is {wrong}"):
            model.traverse(z, wrong, labels=2)


# --- generation, a layer at a time


def test_the_steps_of_two_layers_are_named_and_given_in_the_order_of_the_model():
    model = VAE.new(image=(4, 4), latent=(3, 2), hidden=(6, 5), activation="relu")
    steps = list(model.steps(2, seed=6))
    assert [s.name for s in steps] == ["z2", "decoders.0.layers.0", "decoders.0.layers.1", "z1", "layers.0", "layers.1", "logits", "pixels"]
    assert [s.draw is not None for s in steps] == [True, False, False, True] + [False] * 4
    rng = np.random.default_rng(6)
    z2, noise = rng.standard_normal((2, 2), np.float32), rng.standard_normal((2, 3), np.float32)
    np.testing.assert_array_equal(steps[0].value, z2)
    np.testing.assert_array_equal(steps[3].draw, noise)
    block = model.decoders[0]
    h = z2
    for layer in block.layers:
        h = np.maximum(h @ layer.weight.data + layer.bias.data, 0)
    mean, log_variance = np.split(h @ block.output.weight.data + block.output.bias.data, 2, -1)
    np.testing.assert_allclose(steps[3].value, mean + np.exp(0.5 * log_variance) * noise, atol=1e-5)
    assert steps[-1].value.shape == (2, 4, 4) and "relu" in steps[1].formula


# --- codes of the VQ-VAE


def test_the_papers_numbers_of_the_vq_vae():
    c = VQVAEConfig()
    assert (c.commitment, c.decay) == (0.25, 0.99)  # van den Oord et al. (2017), section 4.1 and appendix A.1
    assert (c.codes, c.width, c.channels, c.prior_layers, c.prior_heads, c.prior_width) == (128, 16, 32, 3, 4, 96)


def test_a_row_is_dead_below_three_hundredths_of_an_even_share():
    book = Codebook(4, 2, 0.99)
    z = np.random.default_rng(7).normal(size=(400, 2)).astype(np.float32)
    book.counts[...] = [3.1, 2.9, 100, 3.0]  # the even share is 100
    book.sums[...] = book.rows[...] = 5
    assert book.revive(z, np.random.default_rng(8)) == 2
    assert np.array_equal(book.counts, np.array([3.1, 100, 100, 100], np.float32))
    np.testing.assert_allclose(book.sums[[1, 3]], 100 * book.rows[[1, 3]])
    assert np.array_equal(book.rows[[0, 2]], np.full((2, 2), 5))
    assert not np.array_equal(book.rows[1], book.rows[3])  # two different outputs


def test_the_loss_of_a_vq_vae_part_by_part():
    model = VQVAE.new(image=(8, 8), channels=4, codes=5, width=3, prior_layers=1, prior_heads=1, prior_width=4, binarise=False, commitment=0.7)
    stirred(model)
    model.codebook.rows[...] = np.random.default_rng(9).normal(size=(5, 3))
    model.eval()
    x = np.random.default_rng(10).random((3, 8, 8)).astype(np.float32)
    losses = {name: float(v) for name, v in model.loss(x, np.random.default_rng(0)).items()}
    with no_grad():
        z = np.asarray(model.features(x))
        codes = ((z[..., None, :] - model.codebook.rows) ** 2).sum(-1).argmin(-1)
        e = model.codebook.rows[codes]
        p = expit(np.asarray(model.logits(e), np.float64)).reshape(x.shape)
        prior = -float(np.mean(np.asarray(model.log_prior(codes.reshape(3, -1)))))
    reconstruction = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum() / 3
    commitment = ((z - e) ** 2).sum() / 3
    assert losses["reconstruction"] == pytest.approx(reconstruction, rel=1e-4) and losses["commitment"] == pytest.approx(commitment, rel=1e-4)
    assert losses["codes"] == pytest.approx(prior, rel=1e-4)
    assert losses["loss"] == pytest.approx(reconstruction + prior + 0.7 * commitment, rel=1e-4)


def test_the_figures_of_a_vq_vae():
    model = stirred(VQVAE.new(image=(8, 8), channels=4, codes=5, width=3, prior_layers=1, prior_heads=1, prior_width=4)).eval()
    model.codebook.rows[...] = np.random.default_rng(9).normal(size=(5, 3))
    data = images()
    figures = model.evaluate(data, seed=4, n=8)
    x = (np.random.default_rng(4).random(data.test[:8].shape, np.float32) < data.test[:8]).astype(np.float32)
    codes = model.encode(x)
    share = np.bincount(codes.ravel(), minlength=5) / codes.size
    entropy = -sum(p * math.log(p) for p in share if p > 0)
    assert figures["perplexity of codes"] == pytest.approx(math.exp(entropy)) and figures["images"] == 8
    p = model.decode(codes).astype(np.float64)
    assert figures["reconstruction, nats"] == pytest.approx(-(x * np.log(p) + (1 - x) * np.log(1 - p)).sum() / 8, rel=1e-4)
    assert figures["test bound, nats"] == pytest.approx(figures["reconstruction, nats"] + figures["codes, nats"])


def test_each_class_begins_its_grid_with_a_symbol_of_its_own():
    assert VQVAE.new(codes=20, classes=3)._begin(np.array([0, 2]), 2).tolist() == [20, 22]
    assert VQVAE.new(codes=20)._begin(None, 2).tolist() == [20, 20]


# --- the plain autoencoder


def test_statistics_of_codes_move_by_a_hundredth():
    model = Autoencoder.new(image=(4, 4), latent=2, hidden=(5,))
    model.mean[...], model.covariance[...] = [1, -1], [[2, 0.5], [0.5, 1]]
    z = np.random.default_rng(11).normal(size=(50, 2)).astype(np.float32)
    d = z - np.array([1, -1])
    covariance = 0.99 * np.array([[2, 0.5], [0.5, 1]]) + 0.01 * d.T @ d / 50
    model._update_statistics(z)
    np.testing.assert_allclose(model.mean, np.array([1, -1]) + 0.01 * d.mean(0), rtol=1e-5)
    np.testing.assert_allclose(model.covariance, covariance, rtol=1e-5)


def test_an_autoencoder_draws_codes_with_the_mean_and_covariance_of_training():
    model = Autoencoder.new(image=(4, 4), latent=2, hidden=(5,))
    model.mean[...], model.covariance[...] = [1, -1], [[2, 0.5], [0.5, 1]]
    first = next(model.steps(3, seed=5))
    draw = np.random.default_rng(5).standard_normal((3, 2), np.float32)
    root = np.linalg.cholesky(model.covariance)
    values, vectors = np.linalg.eigh(model.covariance.astype(np.float64))
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    np.testing.assert_array_equal(first.draw, draw)
    np.testing.assert_allclose(first.value, model.mean + draw @ root, rtol=1e-5)
    names = [s.name for s in model.steps(1)]
    assert names == ["z", "layers.0", "logits", "pixels"] and [s.name for s in model.steps(z=np.zeros((1, 2)))] == names[1:]
    with pytest.raises(ValueError, match="isn't conditional"):
        list(model.steps(1, digit=3))


def test_figures_of_an_autoencoder():
    model, data = stirred(Autoencoder.new(image=(8, 8), latent=2, hidden=(5,))), images()
    figures, x = model.evaluate(data), data.test.astype(np.float64)
    p = model.reconstruct(data.test).astype(np.float64)
    assert figures["test cross-entropy, nats"] == pytest.approx(-(x * np.log(p) + (1 - x) * np.log(1 - p)).sum() / 9, rel=1e-6)
    assert figures["entropy, nats"] == pytest.approx(-(x * np.log(x) + (1 - x) * np.log(1 - x)).sum() / 9, rel=1e-6)
    assert figures["squared error a pixel"] == pytest.approx(((x - p) ** 2).mean(), rel=1e-6) and figures["images"] == 9
    loss = float(model.eval().loss(data.test, np.random.default_rng(0))["loss"])
    assert loss == pytest.approx(figures["test cross-entropy, nats"], rel=1e-4)


# --- recipes


def test_a_vaes_run_is_epochs_of_whole_batches_with_the_rate_of_its_schedule():
    data = images(43)
    for schedule, factor in (("cosine", cosine(12)), ("constant", lambda step: 1.0)):
        fields, training = recipe_of("vae").settings(None, epochs=3, batch_size=10, lr=0.5, muon_lr=0.25, schedule=schedule, average=0.9)
        model = VAE.for_data(data, **KINDS["two layers"])
        trainer = recipe_of("vae").trainer(model, data, training)
        assert trainer.steps == 12 and [trainer.schedule(i) for i in range(12)] == [factor(i) for i in range(12)]
        assert isinstance(trainer.optimiser, Muon) and trainer.optimiser.lr == 0.5 and trainer.optimiser.muon_lr == 0.25 and trainer.average.decay == 0.9
        matrices = [p for p, is_matrix in zip(trainer.optimiser.parameters, trainer.optimiser.is_matrix) if is_matrix]
        assert {id(p) for p in matrices} == {id(layer.weight) for _, layer in model.modules() if isinstance(layer, Linear)}
    fields, training = recipe_of("vae").settings(None, epochs=1, batch_size=43, optimiser="adam", lr=0.5, average=0.0)
    trainer = recipe_of("vae").trainer(VAE.for_data(data, **KINDS["one layer"]), data, training)
    assert type(trainer.optimiser) is Adam and trainer.optimiser.lr == 0.5 and trainer.average is None and trainer.steps == 1


def test_the_kl_term_grows_to_its_full_weight_over_the_epochs_of_warm_up():
    data = images(40)
    for warm_up, weights in ((2, [1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1, 1, 1, 1, 1]), (0, [1] * 12)):
        _, training = recipe_of("vae").settings(None, epochs=3, batch_size=10, warm_up=warm_up)
        model = VAE.for_data(data, **KINDS["one layer"])
        seen, loss = [], model.loss
        model.loss = lambda batch, rng, warmth=1.0, seen=seen, loss=loss: (seen.append(warmth), loss(batch, rng, warmth=warmth))[1]
        for _ in recipe_of("vae").trainer(model, data, training):
            pass
        np.testing.assert_allclose(seen, weights)


@pytest.mark.parametrize("kind", ["vae", "vqvae", "autoencoder"])
def test_runs_see_pictures_with_their_labels_in_the_order_of_their_seed(kind):
    recipe, data = recipe_of(kind), images(40)
    classes = {} if kind == "autoencoder" else {"classes": 10}
    _, training = recipe.settings(None, epochs=2, batch_size=10)
    trainer = recipe.trainer(recipe.model.for_data(data, **classes), data, training, seed=5)
    seen = []
    for step in range(4):
        batch = trainer.batches(step, None)
        x = batch[0] if classes else batch
        rows = [int(np.flatnonzero((data.train == picture).all((1, 2)))[0]) for picture in x]
        seen += rows
        if classes:
            assert np.array_equal(batch[1], data.train_labels[rows])
    assert sorted(seen) == list(range(40)) and seen != sorted(seen)
    other = recipe.trainer(recipe.model.for_data(data, **classes), data, training, seed=6)
    assert not np.array_equal(other.batches(0, None)[0], trainer.batches(0, None)[0])
    if classes:
        with pytest.raises(ValueError, match="needs labels"):
            recipe.trainer(recipe.model.for_data(data, **classes), dataclasses.replace(data, train_labels=None), training)


def test_a_vq_vaes_run():
    data = images(43)
    for epochs, warm_up, expected in ((3, 100, 1), (30, 5, 5), (300, 100, 100)):
        _, training = recipe_of("vqvae").settings(None, epochs=epochs, batch_size=10, warm_up=warm_up, lr=0.5)
        trainer = recipe_of("vqvae").trainer(VQVAE.for_data(data), data, training)
        factor = cosine(4 * epochs, warmup=expected)
        assert trainer.steps == 4 * epochs and [trainer.schedule(i) for i in range(0, 4 * epochs, 2)] == [factor(i) for i in range(0, 4 * epochs, 2)]
        assert type(trainer.optimiser) is Adam and trainer.optimiser.lr == 0.5 and trainer.optimiser.clip == 10
    _, training = recipe_of("autoencoder").settings(None, epochs=3, batch_size=10, lr=0.5)
    trainer = recipe_of("autoencoder").trainer(Autoencoder.for_data(data), data, training)
    assert trainer.steps == 12 and [trainer.schedule(i) for i in range(12)] == [cosine(12)(i) for i in range(12)] and trainer.optimiser.lr == 0.5


@pytest.mark.parametrize("kind", ["vae", "vqvae", "autoencoder"])
def test_settings_of_runs_that_mean_nothing_are_refused(kind):
    training = recipe_of(kind).training
    for field in ("epochs", "batch_size", "lr"):
        for value in (0, -1):
            with pytest.raises(ValueError, match=f"{field} is {value}"):
                training.make(**{field: value})
    if kind == "vae":
        for field, value in (("warm_up", -1), ("muon_lr", -0.02), ("average", 1.0), ("muon_lr", math.nan)):
            with pytest.raises(ValueError, match=f"{field} is {value}"):
                training.make(**{field: value})


SAMPLES = {  # sample(3, seed=0) of the shipped models: means over squares of 7 x 7 pixels of the third picture
    "vae": [[0.0, 0.053, 0.079, 0.0], [0.0, 0.262, 0.213, 0.0], [0.0, 0.145, 0.29, 0.0], [0.0, 0.035, 0.217, 0.0]],
    "vae-iwae5": [[0.0, 0.001, 0.191, 0.0], [0.0, 0.234, 0.626, 0.001], [0.002, 0.071, 0.449, 0.004], [0.098, 0.325, 0.02, 0.0]],
    "vae-two-layers": [[0.0, 0.086, 0.329, 0.0], [0.0, 0.463, 0.162, 0.0], [0.0, 0.529, 0.429, 0.045], [0.0, 0.085, 0.267, 0.008]],
    "vae-conditional": [[0.0, 0.017, 0.055, 0.0], [0.003, 0.151, 0.393, 0.0], [0.026, 0.184, 0.22, 0.0], [0.001, 0.027, 0.153, 0.002]],
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_shipped_vaes_sample_to_two_digits(name):
    x = zoo.load(name).sample(3, seed=0)
    np.testing.assert_allclose(x[2].reshape(4, 7, 4, 7).mean((1, 3)), SAMPLES[name], atol=0.005)


def test_a_shipped_vaes_likelihood_of_five_digits():
    data = zoo.data.mnist()
    model = zoo.load("vae")
    nll = -model.log_likelihood(data.test[:5], samples=500, seed=0)
    np.testing.assert_allclose(nll, [66.9, 98.8, 42.3, 93.3, 83.7], atol=1)


def test_a_vqvae_of_coloured_pictures_reads_and_draws_colours(rng):
    model = VQVAE.new(image=(8, 8, 3), channels=4, codes=5, width=3, prior_layers=1, prior_heads=1, prior_width=4, binarise=False)
    x = rng.random((2, 8, 8, 3), np.float32)
    assert model.features(x).shape == (2, 2, 2, 3) and model.reconstruct(x).shape == model.sample(2).shape == x.shape
    swapped = model.features(x[..., ::-1].copy()).data
    assert not np.allclose(model.features(x).data, swapped)  # each colour has weights of its own


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_code_is_drawn_where_its_share_of_the_line_lies(temperature, rng):
    """Shares [0, p0), [p0, p0 + p1), ...: each begins where the one before ends; a draw of 1 is the last code's."""
    logits, draw = rng.standard_normal((200, 5)).astype(np.float32), rng.random(200)
    p, codes = draw_codes(logits, draw, temperature)
    expected = np.exp(logits / temperature - logsumexp(logits / temperature, axis=1, keepdims=True))
    np.testing.assert_allclose(p, expected, rtol=1e-5)
    assert codes.tolist() == [int(np.searchsorted(np.cumsum(row), d, side="right")) for row, d in zip(p, draw)]
    even = np.zeros((6, 4), np.float32)
    assert draw_codes(even, np.array([0, 0.2499, 0.25, 0.5, 0.75, 1.0]), temperature)[1].tolist() == [0, 0, 1, 2, 3, 3]
    assert draw_codes(even, np.zeros(6))[0].tolist() == [[0.25] * 4] * 6
