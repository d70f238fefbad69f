"""Laws of the adversarial networks, on small ones."""

import math
from itertools import pairwise

import numpy as np
import pytest

import zoo
from zoo import autograd as ops
from zoo.autograd import Tensor
from zoo.data import digits8x8
from zoo.data.toys import TOYS, stacked_digits
from zoo.explain.diagnosis import diagnose
from zoo.gan import GAN, AdversarialStep
from zoo.nn import Conv2d, Linear
from zoo.parts.adversarial.clusters import k_means, nearest_centre
from zoo.parts.adversarial.losses import LOSSES, gradient_penalty, zero_centred_penalty
from zoo.parts.adversarial.networks import Spectral
from zoo.recipes.gan import PRESETS, RECIPE, GANTraining, batches_of, make_trainer
from zoo.training import TrainingFailed

SMALL = {"image": (8, 8), "channels": 4, "latent": 5}
POINTS = {"image": (2,), "network": "dense", "hidden": (16,), "discriminator_hidden": (16, 16), "latent": 3, "generator_norm": "none"}


def pictures(n, seed=0, shape=(8, 8)):
    return np.random.default_rng(seed).random((n, *shape)).astype(np.float32)


# --- losses


@pytest.mark.parametrize("name", LOSSES)
def test_losses_push_the_right_way(name):
    """The discriminator's loss falls where real rises and fake falls; the generator's where fake rises."""
    real, fake = (Tensor(np.array(values, np.float32), requires_grad=True) for values in ([[0.2], [-0.3]], [[0.1], [0.4]]))
    d_real, d_fake = ops.grad(LOSSES[name].discriminator(real, fake), [real, fake])
    assert (d_real.data < 0).all() and (d_fake.data > 0).all()
    generator = LOSSES[name].generator
    assert (ops.grad(generator(fake, real) if LOSSES[name].threshold is None else generator(fake), fake).data < 0).all()


def test_minimax_is_twice_jensen_shannon_at_the_best_discriminator():
    """Goodfellow et al. (2014), theorem 1: -loss = 2 JSD - ln 4, for two distributions on two points."""
    p, q = np.array([0.7, 0.3]), np.array([0.2, 0.8])
    logit = Tensor(np.log(p / q))  # the best D
    expect = lambda weights, values: float((weights * values.data).sum())
    value = -expect(p, ops.softplus(-logit)) - expect(q, ops.softplus(logit))
    m = (p + q) / 2
    jsd = 0.5 * (p * np.log(p / m)).sum() + 0.5 * (q * np.log(q / m)).sum()
    assert math.isclose(value, 2 * jsd - math.log(4), rel_tol=1e-9)


def test_smoothing_moves_the_best_logit():
    """With targets 1 - s the loss on real samples is least at ln((1 - s) / s)."""
    logits = Tensor(np.array([[math.log(0.9 / 0.1)]]), requires_grad=True)
    fake = Tensor(np.full((1, 1), -50.0))
    assert abs(ops.grad(LOSSES["minimax"].discriminator(logits, fake, 0.1), logits).item()) < 1e-9


def test_penalties_of_a_linear_discriminator_are_known_and_differentiable():
    w = Tensor(np.array([[3.0], [4.0]], np.float32), requires_grad=True)  # |dD/dx| = 5 everywhere
    x = np.random.default_rng(1).standard_normal((6, 2), np.float32)
    penalty = gradient_penalty(lambda x: x @ w, x, -x, np.random.default_rng(0))
    assert math.isclose(float(penalty), 16, rel_tol=1e-5)
    np.testing.assert_allclose(ops.grad(penalty, w).data[:, 0], [2 * 4 * 3 / 5, 2 * 4 * 4 / 5], rtol=1e-4)  # 2 (|w| - 1) w / |w|
    real = Tensor(x, requires_grad=True)
    penalty = zero_centred_penalty(real, real @ w)
    assert math.isclose(float(penalty), 12.5, rel_tol=1e-5)
    np.testing.assert_allclose(ops.grad(penalty, w).data[:, 0], [3, 4], rtol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "layer", "none", "spectral"])
def test_gradient_of_the_penalty_agrees_with_differences(norm):
    """Second order through convolutions, norms and activations."""
    model = GAN.new(**SMALL, discriminator_norm=norm).eval()
    real, fake = (2 * pictures(4, seed, (8, 8, 1)) - 1 for seed in (2, 3))
    weight = model.discriminator.layers[1].layer.weight if norm == "spectral" else model.discriminator.layers[1].weight
    penalty = lambda: gradient_penalty(model.discriminator, real, fake, np.random.default_rng(4))
    gradient = ops.grad(penalty(), weight).data
    at = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
    before, h = weight.data[at].copy(), 1e-2
    values = []
    for sign in (1, -1):
        weight.data[at] = before + sign * h
        values.append(float(penalty()))
    weight.data[at] = before
    assert math.isclose(gradient[at], (values[0] - values[1]) / (2 * h), rel_tol=0.05, abs_tol=1e-4)


# --- numbers that papers fix


@pytest.mark.parametrize(("name", "smoothing", "discriminator", "generator"), [
    # D's loss and G's at the logits real = (2, -1), fake = (0.5, -3), each written out by its equation
    ("minimax", 0.0, lambda real, fake, s: -np.mean(np.log(1 / (1 + np.exp(-real)))) - np.mean(np.log(1 - 1 / (1 + np.exp(-fake)))),
     lambda fake, real: np.mean(np.log(1 - 1 / (1 + np.exp(-fake))))),
    ("non-saturating", 0.0, lambda real, fake, s: -np.mean(np.log(1 / (1 + np.exp(-real)))) - np.mean(np.log(1 - 1 / (1 + np.exp(-fake)))),
     lambda fake, real: -np.mean(np.log(1 / (1 + np.exp(-fake))))),
    ("least-squares", 0.0, lambda real, fake, s: np.mean((real - 1) ** 2) / 2 + np.mean(fake**2) / 2, lambda fake, real: np.mean((fake - 1) ** 2) / 2),
    ("least-squares", 0.1, lambda real, fake, s: np.mean((real - 0.9) ** 2) / 2 + np.mean(fake**2) / 2, lambda fake, real: np.mean((fake - 1) ** 2) / 2),
    ("hinge", 0.0, lambda real, fake, s: -np.mean(np.minimum(0, real - 1)) - np.mean(np.minimum(0, -1 - fake)), lambda fake, real: -np.mean(fake)),
    ("hinge", 0.1, lambda real, fake, s: -np.mean(np.minimum(0, real - 0.9)) - np.mean(np.minimum(0, -1 - fake)), lambda fake, real: -np.mean(fake)),
    ("wasserstein", 0.0, lambda real, fake, s: np.mean(fake) - np.mean(real), lambda fake, real: -np.mean(fake)),
    ("relativistic", 0.0, lambda real, fake, s: np.mean(np.log1p(np.exp(fake - real))), lambda fake, real: np.mean(np.log1p(np.exp(real - fake)))),
    ("relativistic", 0.1, lambda real, fake, s: -np.mean(0.9 * np.log(1 / (1 + np.exp(fake - real))) + 0.1 * np.log(1 / (1 + np.exp(real - fake)))),
     lambda fake, real: np.mean(np.log1p(np.exp(real - fake)))),
])
def test_losses_are_those_of_their_equations(name, smoothing, discriminator, generator):
    real, fake = np.array([[2.0], [-1.0]]), np.array([[0.5], [-3.0]])
    loss = LOSSES[name]
    assert math.isclose(float(loss.discriminator(Tensor(real), Tensor(fake), smoothing)), discriminator(real, fake, smoothing), rel_tol=1e-9)
    of_generator = loss.generator(Tensor(fake), Tensor(real)) if loss.threshold is None else loss.generator(Tensor(fake))
    assert math.isclose(float(of_generator), generator(fake, real), rel_tol=1e-9)


def test_accuracy_counts_what_is_on_the_right_side_of_the_threshold_or_in_the_right_order():
    real, fake = np.array([0.2, 0.6, -0.1, 0.7]), np.array([0.3, 0.1, -0.2, 0.9])
    assert LOSSES["hinge"].accuracy(real, fake) == (3 / 4 + 1 / 4) / 2
    assert LOSSES["least-squares"].accuracy(real, fake) == (2 / 4 + 3 / 4) / 2  # its targets are 0 and 1
    assert LOSSES["relativistic"].accuracy(real, fake) == 2 / 4


def test_the_gradient_penalty_is_taken_between_each_real_sample_and_its_fake_one():
    """Gulrajani et al. (2017), algorithm 1: x = e x_real + (1 - e) x_fake with one e ~ U[0, 1] for all of a sample; each has its own slope."""
    rng = np.random.default_rng(1)
    real, fake = rng.standard_normal((2, 2000, 3, 2), np.float32)
    seen = []

    def discriminator(x):
        seen.append(x.data)
        return (x * x).sum(axis=(1, 2), keepdims=True) / 2  # whose gradient is x

    penalty = gradient_penalty(discriminator, real, fake, np.random.default_rng(0))
    shares = (seen[0] - fake) / (real - fake)
    np.testing.assert_allclose(shares, np.broadcast_to(np.median(shares, axis=(1, 2), keepdims=True), shares.shape), atol=0.02)
    shares = np.sort(np.median(shares, axis=(1, 2)))
    assert np.abs(shares - (np.arange(2000) + 0.5) / 2000).max() < 0.05  # uniform: Kolmogorov and Smirnov's distance
    lengths = np.sqrt((seen[0] ** 2).sum((1, 2)))
    assert math.isclose(float(penalty), np.mean((lengths - 1) ** 2), rel_tol=1e-4)


def test_settings_reach_the_game():
    """Weights of the penalties, rates and betas: the penalty of a discriminator whose slope is known."""
    model = GAN.new(**{**POINTS, "discriminator_hidden": (4,)}, discriminator_norm="none")
    settings = GANTraining(batch_size=8, lr=0.1, discriminator_lr=0.2, beta_1=0.3, beta_2=0.4, r1=2.0, r2=3.0, gradient_penalty=5.0)
    update = AdversarialStep(model, settings)
    assert (update.generator_optimiser.lr, update.discriminator_optimiser.lr) == (0.1, 0.2)
    assert update.generator_optimiser.betas == update.discriminator_optimiser.betas == (0.3, 0.4)
    x = TOYS["ring"](8, np.random.default_rng(0))
    rng = np.random.default_rng(1)  # the same draws as those of the step below
    fake = model.generator(Tensor(model.draw_z(8, rng))).data
    shares = rng.random((8, 1), np.float32)
    slopes = lambda x: np.linalg.norm(ops.grad(model.discriminator(t := Tensor(x, requires_grad=True)).sum(), t).data, axis=1)
    expected = 2 * np.mean(slopes(x) ** 2) / 2 + 3 * np.mean(slopes(fake) ** 2) / 2 + 5 * np.mean((slopes(shares * x + (1 - shares) * fake) - 1) ** 2)
    assert math.isclose(update(x, np.random.default_rng(1))["penalty"], expected, rel_tol=1e-4)


def test_noise_falls_along_a_parabola_to_nothing_after_three_fifths():
    update = AdversarialStep(GAN.new(**POINTS), GANTraining(batch_size=8, steps=100, noise=0.4))
    for step, share in ((0, 1), (15, 0.75**2), (30, 0.25), (54, 0.01), (60, 0), (61, 0), (99, 0)):
        update.generator_optimiser.steps = step
        assert math.isclose(update.noise_deviation(), 0.4 * share, abs_tol=1e-12)


def test_noise_hides_real_and_fake_samples_from_the_discriminator_alone(monkeypatch):
    """Both of the discriminator's batches and the generator's have their own noise, of the deviation of the step."""
    model = GAN.new(**POINTS)
    update, seen, fakes = AdversarialStep(model, GANTraining(batch_size=2000, steps=100, noise=0.5)), [], []
    forward, draw = type(model.discriminator).__call__, type(model.generator).__call__
    monkeypatch.setattr(type(model.discriminator), "__call__", lambda self, x, labels=None: (seen.append(np.array(x.data)), forward(self, x, labels))[1])
    monkeypatch.setattr(type(model.generator), "__call__", lambda self, z: (fakes.append(draw(self, z)), fakes[-1])[1])
    x = TOYS["ring"](2000, np.random.default_rng(0))
    update(x, np.random.default_rng(1))
    assert len(seen) == 3 and len(fakes) == 1
    noises = [seen[0] - x, seen[1] - fakes[0].data, seen[2] - fakes[0].data]
    for noise in noises:
        assert abs(noise.std() - 0.5) < 0.02 and abs(noise.mean()) < 0.03
    assert abs(np.corrcoef(noises[1].ravel(), noises[2].ravel())[0, 1]) < 0.1
    np.testing.assert_array_equal(update.last.fake, fakes[0].data)  # without noise


def test_fake_samples_have_the_labels_of_the_real_ones(monkeypatch):
    model = GAN.new(**SMALL, classes=3)
    seen = []
    for network in (model.discriminator, model.generator):
        call = type(network).__call__
        monkeypatch.setattr(type(network), "__call__", lambda self, *args, call=call: (seen.append(args), call(self, *args))[1])
    labels = np.array([2, 0, 1, 1, 2, 2, 0, 0])
    AdversarialStep(model, GANTraining(batch_size=4, critic_steps=2))((pictures(8), labels), np.random.default_rng(0))
    drawn = [args[0].data[:, -3:].argmax(1) for args in seen if len(args) == 1]
    judged = [args[1] for args in seen if len(args) == 2]
    np.testing.assert_array_equal(drawn, [labels[:4], labels[4:]])
    np.testing.assert_array_equal(judged, [labels[:4]] * 2 + [labels[4:]] * 3)  # real and fake, twice; then the generator's


def test_presets_have_the_numbers_of_their_papers():
    game = lambda preset: RECIPE.settings(preset)[1]
    model = lambda preset: GAN.new(**RECIPE.settings(preset)[0]).config
    for preset in ("dcgan", "plain"):  # Radford et al. (2016), section 4
        t = game(preset)
        assert (t.lr, t.discriminator_lr, t.beta_1, t.beta_2, t.loss, t.critic_steps) == (2e-4, 2e-4, 0.5, 0.999, "non-saturating", 1)
    assert model("plain").discriminator_norm == "batch" and model("dcgan").discriminator_norm == "spectral"
    t = game("wgan-gp")  # Gulrajani et al. (2017), algorithm 1
    assert (t.gradient_penalty, t.critic_steps, t.lr, t.discriminator_lr, t.beta_1, t.beta_2, t.batch_size) == (10.0, 5, 1e-4, 1e-4, 0.0, 0.9, 64)
    assert model("wgan-gp").discriminator_norm == "layer" and t.loss == "wasserstein"
    t = game("wgan")  # Arjovsky et al. (2017), algorithm 1
    assert (t.weight_clip, t.critic_steps, t.lr, t.discriminator_lr, t.batch_size, t.loss) == (0.01, 5, 5e-5, 5e-5, 64, "wasserstein")
    t = game("hinge")
    assert t.loss == "hinge" and model("hinge").discriminator_norm == "spectral"
    for preset in ("unconditional", "conditional", "stacked"):  # Huang et al. (2024): pairs, R1 and R2 of one weight, no momentum, no norm in D
        t = game(preset)
        assert t.loss == "relativistic" and t.r1 == t.r2 == 1.0 and t.beta_1 == 0.0 and model(preset).discriminator_norm == "none"


def test_the_last_step_holds_the_direction_against_which_samples_look_more_real():
    model = GAN.new(**{**POINTS, "discriminator_norm": "none"})
    update = AdversarialStep(model, GANTraining(batch_size=8))
    update(TOYS["ring"](8, np.random.default_rng(0)), np.random.default_rng(1))
    last = update.last
    logits = lambda x: model.discriminator(Tensor(x)).data[:, 0]
    np.testing.assert_array_equal(last.logits, logits(last.fake))
    assert (logits(last.fake - 0.01 * last.gradient / np.abs(last.gradient).max()) > last.logits).all()


def test_the_schedule_multiplies_both_rates():
    """Adam's first step is as long as its rate in every weight with a gradient (Kingma & Ba 2015, section 2.1)."""
    model = GAN.new(**{**POINTS, "discriminator_norm": "none"})
    update = AdversarialStep(model, GANTraining(batch_size=8, lr=0.02, discriminator_lr=0.04), schedule=lambda step: 0.25)
    before = update.generator_optimiser.flat.copy(), update.discriminator_optimiser.flat.copy()
    update(TOYS["ring"](8, np.random.default_rng(0)), np.random.default_rng(1))
    for optimiser, old, rate in zip((update.generator_optimiser, update.discriminator_optimiser), before, (0.02, 0.04)):
        assert math.isclose(np.abs(optimiser.flat - old).max(), 0.25 * rate, rel_tol=1e-3)


def test_the_rates_fall_to_nothing_from_their_share_on():
    images = zoo.data.Images(pictures(64), None, pictures(8, 1), None, "random")
    settings = GANTraining(steps=10, batch_size=8, lr=0.5, discriminator_lr=0.25, decay_from=0.4)
    trainer = make_trainer(GAN.new(**SMALL), images, settings)
    np.testing.assert_allclose([trainer.update.schedule(i) for i in range(11)], [1, 1, 1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0], atol=1e-12)
    assert make_trainer(GAN.new(**SMALL), images, GANTraining(steps=10, batch_size=8)).update.schedule(9) == 1


# --- networks


def test_weights_begin_as_in_the_paper():
    """Standard deviation 0.02 under batch norms (Radford et al. 2016, section 4); leaky slope 0.2; no norm on D's first layer or G's last."""
    model = GAN.new(channels=16, discriminator_norm="batch")
    g, d = model.generator, model.discriminator
    for layer in (g.project, g.upsample[0], g.output):
        assert abs(layer.weight.data.std() - 0.02) < 0.001
    assert [norm is not None for norm in g.norms] == [True, True] and [norm is not None for norm in d.norms] == [False, True]
    assert g.project.weight.shape == (64, 7 * 7 * 64) and g.upsample[0].weight.shape == (4, 4, 64, 32) and g.output.weight.shape == (4, 4, 32, 1)
    assert [layer.weight.shape for layer in d.layers] == [(4, 4, 1, 32), (4, 4, 32, 64)] and d.output.weight.shape == (7 * 7 * 64, 1)
    assert g.project.bias is None and d.layers[0].bias is not None and d.layers[1].bias is None
    dense = GAN.new(**POINTS, discriminator_norm="none").discriminator
    x = np.random.default_rng(0).standard_normal((5, 2), np.float32)
    h = x
    for layer in dense.layers:
        h = h @ layer.weight.data + layer.bias.data
        h = np.where(h > 0, h, 0.2 * h)
    np.testing.assert_allclose(dense(Tensor(x)).data, h @ dense.output.weight.data + dense.output.bias.data, rtol=1e-4, atol=1e-6)


def test_the_generator_ends_in_tanh_and_a_layer_norm_is_over_all_of_a_picture():
    """Radford et al. (2016), section 3; Gulrajani et al. (2017), section 4."""
    generator = GAN.new(**SMALL).generator
    *_, last = generator.stages()
    h = np.random.default_rng(0).standard_normal((2, 4, 4, 8), np.float32)
    np.testing.assert_allclose(last.run(Tensor(h)).data, np.tanh(generator.output(Tensor(h)).data), rtol=1e-5)
    norm = GAN.new(**SMALL, discriminator_norm="layer").discriminator.norms[1]
    x = np.random.default_rng(0).standard_normal((2, 2, 2, 16), np.float32) + np.arange(16, dtype=np.float32)
    expected = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(norm(Tensor(x)).data, expected, rtol=1e-3, atol=1e-3)


def test_dense_discriminator_sees_waves_of_each_coordinate():
    """sin(f x) / f and cos(f x) / f beside x."""
    model = GAN.new(**POINTS, frequencies=(0.5, 3.0))
    x = np.random.default_rng(0).standard_normal((4, 2), np.float32)
    seen = np.asarray(model.discriminator._with_waves(x))
    f = np.array([0.5, 3.0])
    waves = [(wave(x[:, :, None] * f) / f).reshape(4, 4) for wave in (np.sin, np.cos)]
    np.testing.assert_allclose(seen, np.concatenate([x, *waves], axis=1), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"frequencies is \(1e\+300,\); they are at most 1e6"):
        GAN.new(**POINTS, frequencies=(1e300,))


def test_projection_adds_the_product_of_a_label_with_features():
    """Miyato & Koyama (2018), eq. 3: the last features summed over the picture, times the label's embedding."""
    model = GAN.new(**SMALL, classes=3, discriminator_norm="none").eval()
    d, x = model.discriminator, Tensor(2 * pictures(3, 0, (8, 8, 1)) - 1)
    h = x
    for layer in d.layers:
        h = ops.leaky_relu(layer(h), slope=0.2)
    plain = d.output(h.reshape((3, -1))).data[:, 0]
    for label in range(3):
        expected = plain + h.data.sum((1, 2)) @ d.label_embedding.weight.data[label]
        np.testing.assert_allclose(d(x, np.full(3, label)).data[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_concatenation_puts_a_plane_of_ones_for_the_label():
    model = GAN.new(**SMALL, classes=3, conditioning="concatenation")
    x = pictures(2, 0, (8, 8, 1))
    seen = np.asarray(model.discriminator._with_planes(x, np.array([2, 0])))
    assert seen.shape == (2, 8, 8, 4)
    np.testing.assert_array_equal(seen[..., :1], x)
    np.testing.assert_array_equal(seen[0, ..., 1:], np.broadcast_to([0, 0, 1], (8, 8, 3)))
    np.testing.assert_array_equal(seen[1, ..., 1:], np.broadcast_to([1, 0, 0], (8, 8, 3)))


def test_packing_of_points_is_side_by_side():
    model = GAN.new(**POINTS, packing=2)
    np.testing.assert_array_equal(np.asarray(model.discriminator._packed(np.arange(8.0).reshape(4, 2))), np.arange(8.0).reshape(2, 4))


def test_spectral_norm_takes_one_step_of_power_iteration_a_call_and_none_in_evaluation():
    """Miyato et al. (2018), algorithm 1: v = W^T u / |W^T u|, u = W v / |W v|, sigma = u^T W v; u and v are constants of the gradient."""
    layer = Linear(6, 5, rng=np.random.default_rng(0))
    spectral = Spectral(layer, rng=np.random.default_rng(1))
    layer.weight.data[...] = np.random.default_rng(2).standard_normal((6, 5))  # other than what u was fitted to
    w, u = layer.weight.data.astype(np.float64), spectral.u.astype(np.float64)
    v = w.T @ u / np.linalg.norm(w.T @ u)
    spectral.eval()
    np.testing.assert_allclose(spectral.weight().data, w / (u @ w @ v), rtol=1e-5)
    np.testing.assert_array_equal(spectral.u, u.astype(np.float32))
    spectral.train()
    u = w @ v / np.linalg.norm(w @ v)
    sigma, g = u @ w @ v, np.random.default_rng(3).standard_normal((6, 5))
    normed = spectral.weight()
    np.testing.assert_allclose(normed.data, w / sigma, rtol=1e-5)
    np.testing.assert_allclose(spectral.u, u, rtol=1e-4, atol=1e-6)
    gradient = ops.grad((normed * g.astype(np.float32)).sum(), layer.weight).data
    np.testing.assert_allclose(gradient, g / sigma - (g * w).sum() / sigma**2 * np.outer(u, v), rtol=1e-4, atol=1e-6)


def test_spectral_norm_begins_near_the_greatest_singular_value():
    layer = Linear(40, 30, rng=np.random.default_rng(0))
    spectral = Spectral(layer, rng=np.random.default_rng(1)).eval()
    assert 0.99 < np.linalg.norm(spectral.weight().data, 2) < 1.1


@pytest.mark.parametrize("layer", [Linear(6, 5, rng=np.random.default_rng(0)), Conv2d(3, 4, 3, rng=np.random.default_rng(0))])
def test_spectral_norm_is_one(layer):
    spectral = Spectral(layer, rng=np.random.default_rng(1))
    for _ in range(30):
        w = spectral.weight()
    assert abs(np.linalg.norm(w.data.reshape(-1, w.shape[-1]), 2) - 1) < 1e-3


def test_packing_puts_whole_samples_side_by_side():
    model = GAN.new(**SMALL, packing=3)
    x = pictures(6, 5, (8, 8, 1))
    packed = np.asarray(model.discriminator._packed(x))
    assert packed.shape == (2, 8, 8, 3)
    for i in range(6):
        np.testing.assert_array_equal(packed[i // 3, :, :, i % 3], x[i, :, :, 0])
    assert model.discriminator(Tensor(x)).shape == (2, 1)


@pytest.mark.parametrize("conditioning", ["projection", "concatenation"])
def test_label_changes_the_picture_and_the_verdict(conditioning):
    model = GAN.new(**SMALL, classes=3, conditioning=conditioning)
    z = model.draw_z(2, np.random.default_rng(0))
    a, b = model.sample(z=z, digit=0), model.sample(z=z, digit=1)
    assert np.abs(a - b).max() > 1e-5
    x = Tensor(2 * pictures(2, 1, (8, 8, 1)) - 1)
    assert np.abs(model.discriminator(x, np.array([0, 1])).data - model.discriminator(x, np.array([1, 1])).data)[0] > 1e-4


# --- generation


@pytest.mark.parametrize("fields", [SMALL, {**SMALL, "classes": 3}, {**SMALL, "packing": 2}, POINTS,
                                    {**SMALL, "network": "dense", "hidden": (9, 7)}])
def test_steps_lead_from_z_to_the_sample_and_replay(fields):
    model = GAN.new(**fields)
    digit = 1 if model.config.classes else None
    steps = list(model.steps(4, seed=1, digit=digit))
    assert all(module.training for _, module in model.modules())  # as it was
    assert steps[0].name == "z" and steps[-1].name == "verdict"
    sample = next(s.value for s in steps if s.name in ("pixels", "points"))
    np.testing.assert_array_equal(sample, model.sample(4, seed=1, digit=digit))
    assert sample.dtype == np.float32 and (fields is POINTS or (0 <= sample.min() and sample.max() <= 1))
    for step in steps:
        assert step.equals(step.replay())
    for step, following in pairwise(steps[1:]):
        assert following.given is step.value or following.name == "verdict"
    assert all(module.training for _, module in model.modules())


@pytest.mark.parametrize("image", [(8, 8), (8, 8, 3)])
def test_the_networks_see_pictures_from_minus_one_to_one(image):
    model = GAN.new(**{**SMALL, "image": image})
    for pixel, inside in ((0.0, -1.0), (0.25, -0.5), (1.0, 1.0)):
        x = model.to_network_range(np.full((2, *image), pixel, np.float32))
        np.testing.assert_array_equal(x, np.full((2, *model.shape), inside))
        np.testing.assert_array_equal(model.to_pictures(x), np.full((2, *image), pixel))


def test_each_part_of_a_large_sample_has_its_own_draws():
    """Drawn in parts, none repeats another; the first is what a smaller sample gives."""
    x = GAN.new(**POINTS).sample(7, seed=3, batch=3)
    assert x.shape == (7, 2) and len(np.unique(x, axis=0)) == 7
    np.testing.assert_array_equal(x[:3], GAN.new(**POINTS).sample(3, seed=3))


def test_interpolation_stays_in_the_most_frequent_cluster():
    model = GAN.new(**SMALL, clusters=3)
    model.shares[...] = [0.2, 0.5, 0.3]
    z = model.draw_z(2, np.random.default_rng(0))
    np.testing.assert_allclose(model.interpolate(*z, 3)[[0, -1]], model.sample(z=z, digit=1), atol=1e-6)


def test_verdict_gradient_points_to_what_looks_more_real():
    model = GAN.new(**SMALL)
    *_, verdict = model.steps(2, seed=2)
    x = verdict.given + 1e-3 * verdict.gradient / np.abs(verdict.gradient).max()
    before, after = (model.discriminator.eval()(Tensor(a)).data[:, 0] for a in (verdict.given, x))
    assert (after > before).all()
    np.testing.assert_allclose(verdict.value, 1 / (1 + np.exp(-before)), rtol=1e-4)


def test_truncation_bounds_z_and_interpolation_ends_are_the_pictures():
    model = GAN.new(**SMALL)
    z = model.draw_z(1000, np.random.default_rng(0), truncation=0.5)
    assert np.abs(z).max() <= 0.5 and z.std() > 0.2
    line = model.interpolate(z[0], z[1], 4)
    np.testing.assert_allclose(line[[0, -1]], model.sample(z=z[:2]), atol=1e-6)


@pytest.mark.parametrize("truncation", [2.0, 0.7, 0.11, 0.09, 1e-12])
def test_truncated_z_is_the_normal_distribution_cut_off(truncation):
    """Both ways to draw it, against the quantiles: z is at most t with probability (Phi(t) - Phi(-t')) / (Phi(t') - Phi(-t'))."""
    from scipy.stats import kstest, truncnorm

    z = GAN.new(**SMALL).draw_z(2000, np.random.default_rng(0), truncation).ravel()
    assert z.dtype == np.float32 and np.abs(z).max() <= truncation
    assert kstest(z / truncation, lambda x: truncnorm.cdf(x * truncation, -truncation, truncation)).pvalue > 1e-4


def test_a_truncation_of_its_own_is_what_sampling_takes_unless_told():
    plain, cut = GAN.new(**SMALL), GAN.new(**SMALL, truncation=0.5)
    same = lambda a, b: np.testing.assert_array_equal(a, b)
    same(cut.sample(3, seed=1), plain.sample(3, seed=1, truncation=0.5))
    same(cut.sample(3, seed=1, truncation=math.inf), plain.sample(3, seed=1))


def test_saved_and_loaded_it_draws_the_same(tmp_path):
    model = GAN.new(**SMALL, classes=3)
    rng = np.random.default_rng(0)
    for _ in range(3):  # running averages that differ from the first ones
        model.generator(Tensor(rng.standard_normal((8, 8), np.float32)))
    model.save(tmp_path / "g")
    np.testing.assert_array_equal(zoo.load(tmp_path / "g").sample(3, digit=2), model.sample(3, digit=2))


# --- training


def test_penalties_come_in_every_nth_step_and_fall():
    settings = GANTraining.make(loss="relativistic", r1=1.0, r2=1.0, penalty_every=2, penalty_end=0.25, steps=4, lr=1e-9, discriminator_lr=1e-9)
    update = AdversarialStep(GAN.new(**SMALL, discriminator_norm="none"), settings)
    weights, penalties = [], []
    for _ in range(4):
        weights.append(update.penalty_weight())
        penalties.append(update(pictures(8), np.random.default_rng(0)).get("penalty"))
    np.testing.assert_allclose(weights, [2, 0, 2 * 0.25**0.5, 0])
    assert penalties[1] is None and penalties[3] is None
    np.testing.assert_allclose(penalties[2] / penalties[0], 0.5, rtol=1e-3)  # at rates of nearly 0 nothing else changes


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_train(preset):
    fields, _ = RECIPE.settings(preset)
    if "image" not in fields:
        fields = {**fields, "image": (8, 8)}
    elif len(fields["image"]) == 3:
        fields = {**fields, "image": (8, 8, 3)}
    fields = {**fields, "channels": 4, **({"hidden": (8,), "discriminator_hidden": (8,)} if fields.get("network") == "dense" else {})}
    model, settings = GAN.new(**fields), RECIPE.settings(preset, batch_size=8, steps=4)[1]
    update = AdversarialStep(model, settings)
    n = 8 * settings.critic_steps
    x = TOYS["grid"](n, np.random.default_rng(0)) if len(model.config.image) == 1 else pictures(n, 0, model.config.image)
    batch = (x, np.arange(n) % model.config.labels) if model.config.labels else x
    before = {name: p.data.copy() for name, p in model.named_parameters().items()}
    for i in range(2):
        figures = update(batch, np.random.default_rng(i))
    assert all(math.isfinite(v) for v in figures.values()), figures
    assert {"generator", "discriminator", "real", "fake", "generator_norm", "discriminator_norm", "accuracy"} <= figures.keys()
    still = [name for name, p in model.named_parameters().items() if np.array_equal(before[name], p.data)]
    assert still == [name for name in still if name.startswith("discriminator.output")]  # a Wasserstein loss doesn't see the last bias
    assert update.last.gradient.shape == update.last.fake.shape and np.abs(update.last.gradient).max() > 0
    assert math.isclose(figures["sample_norm"], np.linalg.norm(update.last.gradient), rel_tol=1e-6)
    if settings.weight_clip:
        assert max(np.abs(p.data).max() for p in model.discriminator.parameters()) <= settings.weight_clip


def test_generator_step_leaves_the_discriminator_and_the_other_way_round():
    model = GAN.new(**SMALL, discriminator_norm="none")
    update = AdversarialStep(model, GANTraining(batch_size=8, discriminator_lr=0.0))
    before = model.arrays()
    before = {name: a.copy() for name, a in before.items()}
    update(pictures(8), np.random.default_rng(0))
    changed = {name for name, p in model.named_parameters().items() if not np.array_equal(before[name], p.data)}
    assert changed and all(name.startswith("generator") for name in changed)


def test_training_learns_the_ring_and_the_same_seed_gives_the_same_run():
    def run(steps):
        model = GAN.new(**{**POINTS, "hidden": (32,), "discriminator_hidden": (32,), "discriminator_norm": "none"}, seed=0)
        settings = GANTraining(steps=steps, batch_size=128, lr=2e-3, discriminator_lr=2e-3, r1=0.1, average=0.9)
        trainer = make_trainer(model, "ring", settings, seed=1)
        return model, [record.losses["generator"] for record in trainer]

    assert run(5)[1] == run(5)[1]
    model, _ = run(250)
    distance = lambda m: abs(np.linalg.norm(m.sample(500, seed=0), axis=1).mean() - 1)
    fresh = GAN.new(**{**POINTS, "hidden": (32,), "discriminator_hidden": (32,)}, seed=0)
    assert distance(model) < 0.25 < distance(fresh) or distance(model) < 0.5 * distance(fresh)


def test_average_holds_running_averages_too():
    model = GAN.new(**SMALL)
    images = zoo.data.Images(pictures(64), None, pictures(8, 1), None, "random")
    trainer = make_trainer(model, images, GANTraining(steps=3, batch_size=8, average=0.5))
    for _ in trainer:
        pass
    before = model.generator.norms[0].running_mean.copy()
    trainer.average.swap()
    assert not np.array_equal(before, model.generator.norms[0].running_mean)
    trainer.average.swap()
    np.testing.assert_array_equal(before, model.generator.norms[0].running_mean)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, where definitions meet a NaN
def test_nan_stops_training_with_the_step_and_keeps_the_checkpoint(tmp_path):
    model = GAN.new(**SMALL, discriminator_norm="none")
    images = zoo.data.Images(pictures(64), None, pictures(8, 1), None, "random")
    trainer = make_trainer(model, images, GANTraining(steps=10, batch_size=8), folder=tmp_path / "run")
    stream = iter(trainer)
    next(stream)
    trainer.checkpoint()
    saved = model.generator.project.weight.data.copy()
    model.discriminator.output.weight.data[0] = np.nan
    with pytest.raises(TrainingFailed, match=r"step 2: .*is kept"):
        next(stream)
    again = GAN.new(**SMALL, discriminator_norm="none", seed=9)
    make_trainer(again, images, GANTraining(steps=10, batch_size=8), folder=tmp_path / "run", resume=True)
    np.testing.assert_array_equal(again.generator.project.weight.data, saved)


def test_a_gradient_that_is_not_finite_stops_training_with_the_step_and_keeps_the_checkpoint(tmp_path):
    """Of either network, though the loss is finite; the message says where the checkpoint is."""
    images = zoo.data.Images(pictures(64), None, pictures(8, 1), None, "random")
    for network in ("generator", "discriminator"):
        model = GAN.new(**SMALL, discriminator_norm="none")
        trainer = make_trainer(model, images, GANTraining(steps=10, batch_size=8), folder=tmp_path / network)
        stream = iter(trainer)
        next(stream)
        trainer.checkpoint()
        optimiser = trainer.optimisers[network]
        before = optimiser.flat.copy()
        broken, step = optimiser.parameters[0], optimiser.step

        def with_an_infinite_gradient(factor=1.0, broken=broken, step=step):
            broken.grad = np.full(broken.shape, np.inf, np.float32)
            step(factor)

        optimiser.step = with_an_infinite_gradient
        with pytest.raises(TrainingFailed, match=rf"step 2: .*gradient's norm is inf.*training stopped; the last checkpoint is kept in .*{network}"):
            next(stream)
        np.testing.assert_array_equal(optimiser.flat, before)


# --- diagnosis


class Drawing(GAN):
    """A generator whose samples are handed in."""

    samples: np.ndarray

    def sample(self, n=1, seed=0, digit=None, **settings):
        return self.samples[:n]


def test_collapse_is_said_and_health_is_not():
    real = TOYS["grid"](1000, np.random.default_rng(0))
    model = Drawing.new(**POINTS)
    model.samples = TOYS["grid"](1000, np.random.default_rng(1))
    assert diagnose(model, real) == []
    model.samples = np.tile(real[:1], (1000, 1)) + np.float32(0.01) * TOYS["normal"](1000, np.random.default_rng(2))
    assert any("one and the same" in line for line in diagnose(model, real))
    two = np.where(np.arange(1000)[:, None] % 2, real[:1], real[1:2])
    model.samples = two + np.float32(0.02) * TOYS["normal"](1000, np.random.default_rng(3))
    assert any(line.startswith("Collapse") for line in diagnose(model, real))
    model.samples = np.full((1000, 2), np.nan, np.float32)
    assert "diverged" in diagnose(model, real)[0]


def test_a_discriminator_that_has_won_or_died_is_named():
    real = TOYS["grid"](1000, np.random.default_rng(0))
    model = Drawing.new(**POINTS)
    model.samples = TOYS["grid"](1000, np.random.default_rng(1))
    row = {"real": 5.0, "fake": -5.0, "accuracy": 0.8, "sample_norm": 1.0}
    won = [row] * 10 + [{**row, "accuracy": 1.0, "sample_norm": 1e-5}] * 5
    assert "has won" in diagnose(model, real, history=won)[0]
    dead = [row] * 10 + [{"real": 0.0, "fake": 0.0, "accuracy": 0.5, "sample_norm": 0.0}] * 5
    assert "is dead" in diagnose(model, real, history=dead)[0]
    assert diagnose(model, real, history=[row] * 20) == []
    old = [{**{name: value for name, value in r.items() if name != "accuracy"}, "told_apart": r["accuracy"]} for r in won]
    assert diagnose(model, real, history=old) == diagnose(model, real, history=won)  # logs of 0.1 call it so


# --- data and errors


def test_stacked_digits_hold_the_digits_that_their_mode_names():
    images, labels = pictures(20), np.arange(20) % 10
    x, modes = stacked_digits(images, labels, 50, np.random.default_rng(0))
    assert x.shape == (50, 8, 8, 3) and modes.min() >= 0 and modes.max() < 1000
    for i in (0, 7):
        digits = [int(d) for d in f"{modes[i]:03d}"]
        for colour, digit in enumerate(digits):
            which = np.flatnonzero((images == x[i, :, :, colour]).all((1, 2)))
            assert labels[which[0]] == digit


def bad(message, call, *args, error=ValueError, **kwargs):
    with pytest.raises(error, match=message):
        call(*args, **kwargs)


def test_bad_input_says_what_is_wrong():
    model = GAN.new(**SMALL)
    update = AdversarialStep(model, GANTraining(batch_size=8))
    rng = np.random.default_rng(0)
    bad("this model takes", update, pictures(8, 0, (9, 9)), rng)
    bad(r"must lie in \[0, 1\]", update, 255 * pictures(8), rng)
    bad("packing, 3, must divide", AdversarialStep, GAN.new(**SMALL, packing=3), GANTraining(batch_size=8))
    bad("needs a multiple of 3", AdversarialStep(GAN.new(**SMALL, packing=3), GANTraining(batch_size=9)), pictures(8), rng)
    bad("packing", GAN.new, **SMALL, packing=2, classes=3)
    bad("4 divides", GAN.new, **{**SMALL, "image": (10, 10)})
    for name, value in (("classes", -1), ("clusters", -2), ("latent", 0), ("channels", 0), ("packing", 0)):
        bad(f"GANConfig: {name} is {value}; it is at least", GAN.new, **{**SMALL, name: value})
    bad("truncation is -1.0; it is above 0", GAN.new, **SMALL, truncation=-1.0)
    bad("smoothing", AdversarialStep, model, GANTraining(loss="wasserstein", smoothing=0.1))
    for truncation in (0.0, -1.0, math.nan):
        bad("truncation: is .*; it is above 0", model.sample, 1, truncation=truncation)
    bad("z has shape", model.sample, z=np.zeros((2, 3)))
    bad("digit", model.sample, 2, digit=1)
    bad("may go from 0 to 2", GAN.new(**SMALL, classes=3).sample, 2, digit=3)
    one = zoo.data.Images(pictures(64), np.zeros(64, np.int64), pictures(8), None, "random")
    bad("at least two classes", make_trainer, GAN.new(**SMALL, classes=3), one, GANTraining(batch_size=8))
    bad("has samples of shape", make_trainer, model, "grid", GANTraining(batch_size=8))
    bad("did you mean 'packing'", GAN.new, pakcing=2)


def test_a_recipe_says_what_a_preset_sets():
    fields, training = RECIPE.settings("ring", clusters=3, lr="0.5")
    assert fields["clusters"] == 3 and fields["image"] == (2,) and "lr" not in fields
    assert training.lr == 0.5 and training.loss == "relativistic" and training.batch_size == 256
    bad("preset is 'rings'; there are unconditional", RECIPE.settings, "rings")
    bad("did you mean 'clusters'", RECIPE.settings, "ring", cluster=3)


def test_a_trained_model_says_how_it_was_trained():
    history = zoo.recipes.how("gan")
    assert history.command.startswith("zoo train gan --preset conditional") and history.data == "mnist" and history.steps == 13_000
    assert history.settings["r1"] == 1.0 and history.figures["asked"] > 0.99
    assert zoo.recipes.how(zoo.load("gan")) == history and "17.47 minutes" in str(history) and "zoo evaluate" in str(history)
    assert all(zoo.recipes.how(name).minutes > 0 for name in zoo.shipped())
    bad("this GAN has no card", zoo.recipes.how, GAN.new(**SMALL))


@pytest.mark.parametrize("fields", [{**SMALL, "classes": 3}, {**POINTS, "classes": 2}])
def test_weights_under_the_names_of_0_1_load(fields):
    model, again = GAN.new(seed=1, **fields), GAN.new(seed=2, **fields)
    old = {"generator.project": "generator.into", "generator.upsample": "generator.grow", "generator.output": "generator.out",
           "discriminator.output": "discriminator.out", "discriminator.label_embedding": "discriminator.labels"}
    name_of_0_1 = lambda name: next((o + name.removeprefix(n) for n, o in old.items() if name.startswith(n)), name)
    again.load_arrays({name_of_0_1(name): a for name, a in model.arrays().items()})
    np.testing.assert_array_equal(again.sample(2, digit=1), model.sample(2, digit=1))


def test_names_of_0_1_go_on_working():
    import zoo.recipes.gan as recipe

    model, x = GAN.new(**SMALL), pictures(2)
    with pytest.warns(DeprecationWarning, match="to_network_range now"):
        np.testing.assert_array_equal(model.inside(x), model.to_network_range(x))
    for module in (recipe, zoo.gan):
        with pytest.warns(DeprecationWarning, match="AdversarialStep now"):
            assert module.Adversaries is AdversarialStep
    with pytest.warns(DeprecationWarning, match="zoo.gan.LastStep now"):
        assert recipe.Duel is zoo.gan.LastStep


@pytest.mark.parametrize(("field", "values", "what"), [
    *[(field, [0, -1], "at least 1") for field in ("steps", "batch_size", "critic_steps", "penalty_every")],
    *[(field, [-1e-9, math.nan, math.inf], "at least 0") for field in ("lr", "discriminator_lr", "gradient_penalty", "r1", "r2", "weight_clip", "noise")],
    *[(field, [-0.1, 1.0, math.nan], "at least 0 and below 1") for field in ("beta_1", "beta_2", "smoothing", "average")],
    ("penalty_end", [0.0, 1.1, math.nan], "above 0 and at most 1"), ("decay_from", [-0.1, 1.1], "at least 0 and at most 1"),
    ("loss", ["hinges"], "may be"),
])
def test_settings_that_no_run_can_mean_are_refused(field, values, what):
    for value in values:
        for build in (GANTraining, GANTraining.make):
            bad(f"GANTraining: {field} is .*{what}", build, **{field: value})


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1", "r2"])
def test_a_penalty_on_slopes_and_batch_norm_are_refused_together(penalty):
    """A batch norm makes every logit depend on all samples, so the slope in one of them isn't that of its own logit."""
    bad(f"GANTraining: {penalty} is 0.1 with discriminator_norm 'batch'", AdversarialStep, GAN.new(**SMALL, discriminator_norm="batch"),
        GANTraining(**{penalty: 0.1}))
    for norm in ("layer", "spectral", "none"):
        AdversarialStep(GAN.new(**SMALL, discriminator_norm=norm), GANTraining(**{penalty: 0.1}))


def test_too_few_pictures_for_a_step_are_named_by_the_settings_that_ask_for_more():
    few = zoo.data.Images(pictures(36), None, pictures(8, 1), None, "few")
    bad("batch_size is 16 and critic_steps 5, which take 80 pictures a step; 'few' has 36", make_trainer, GAN.new(**SMALL), few,
        GANTraining(batch_size=16, critic_steps=5))


# --- clusters


def test_clusters_are_those_that_are_there():
    """k-means finds well-parted groups from a start in each, and its centres are fixed: each the mean of the rows nearest to it."""
    rng = np.random.default_rng(0)
    x = (np.repeat([[0, 0], [9, 0], [0, 9]], 40, axis=0) + rng.standard_normal((120, 2))).astype(np.float32)
    centres = k_means(x, 12, rng)
    which = nearest_centre(x, centres)
    np.testing.assert_array_equal(which, ((x[:, None] - centres) ** 2).sum(-1).argmin(1))
    for i in np.unique(which):
        np.testing.assert_allclose(centres[i], x[which == i].mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.sort(k_means(x[:9], 9, rng), axis=0), np.sort(x[:9], axis=0))  # from different rows on
    with pytest.raises(ValueError, match="k is 121; with 120 rows"):
        k_means(x, 121, rng)


def test_a_model_of_clusters_finds_them_draws_them_by_their_shares_and_keeps_them(tmp_path):
    data = digits8x8()
    model = GAN.for_data(data, clusters=4, channels=4, latent=5)
    make_trainer(model, data, GANTraining.make(steps=2, batch_size=8)).run(progress=False)
    np.testing.assert_allclose(model.shares, np.bincount(model.cluster_of(data.train), minlength=4) / len(data.train), rtol=1e-6)
    drawn = model.labels_for(None, 4000, np.random.default_rng(1))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 4000, model.shares, atol=0.04)
    model.save(tmp_path / "g")
    again = zoo.load(tmp_path / "g")
    np.testing.assert_array_equal(again.centres, model.centres)
    np.testing.assert_array_equal(again.sample(5, seed=2), model.sample(5, seed=2))
    np.testing.assert_array_equal(again.sample(2, seed=2, digit=3), model.sample(2, seed=2, digit=[3, 3]))
    z = model.draw_z(2, np.random.default_rng(0))
    assert model.interpolate(z[0], z[1], 3).shape == (3, 8, 8)
    for fields in ({"clusters": 3, "classes": 2}, {"clusters": 3, "packing": 2}):
        with pytest.raises(ValueError, match="GANConfig: "):
            GAN.new(**{**SMALL, **fields})


def test_the_surface_of_a_model_of_clusters_takes_each_point_as_its_own():
    from zoo.inspection import figures

    model, points = GAN.new(**POINTS, clusters=3), TOYS["ring"](60, np.random.default_rng(0))
    model.find_clusters(points)
    shown = np.asarray(figures.decision_surface(model, points).images[0].get_array())
    corner = np.full((1, 2), -1.25 * np.abs(points).max(), np.float32)
    np.testing.assert_allclose(shown[0, 0], model.discriminator.eval()(corner, model.cluster_of(corner)).data[0, 0], rtol=1e-4)


def test_stacked_digits_are_three_digits_as_three_colours_at_every_step():
    model = GAN.new(image=(28, 28, 3), network="dense", hidden=(4,), latent=2)
    x = batches_of("stacked", 5, model, 0)(0, np.random.default_rng(0))
    x = x[0] if isinstance(x, tuple) else x
    assert x.shape == (5, 28, 28, 3) and 0 <= x.min() and x.max() <= 1


SOFTPLUS = lambda x: np.log1p(np.exp(x))


@pytest.mark.parametrize(("name", "of_discriminator", "of_generator"), [
    ("minimax", lambda r, f, s: (SOFTPLUS(r) - (1 - s) * r).mean() + SOFTPLUS(f).mean(), lambda r, f: -SOFTPLUS(f).mean()),
    ("non-saturating", lambda r, f, s: (SOFTPLUS(r) - (1 - s) * r).mean() + SOFTPLUS(f).mean(), lambda r, f: SOFTPLUS(-f).mean()),
    ("least-squares", lambda r, f, s: ((r - 1 + s) ** 2).mean() / 2 + (f**2).mean() / 2, lambda r, f: ((f - 1) ** 2).mean() / 2),
    ("hinge", lambda r, f, s: np.maximum(0, 1 - s - r).mean() + np.maximum(0, 1 + f).mean(), lambda r, f: -f.mean()),
    ("wasserstein", lambda r, f, s: f.mean() - r.mean(), lambda r, f: -f.mean()),
    ("relativistic", lambda r, f, s: (SOFTPLUS(f - r) + s * (r - f)).mean(), lambda r, f: SOFTPLUS(r - f).mean())])
def test_losses_are_their_papers_formulas(name, of_discriminator, of_generator):
    real, fake, loss = np.array([2.0, -1.0, 0.3]), np.array([0.5, 3.0, -2.0]), LOSSES[name]
    for smoothing in (0.0, 0.1):
        assert float(loss.discriminator(Tensor(real), Tensor(fake), smoothing)) == pytest.approx(of_discriminator(real, fake, smoothing))
    assert float(loss.discriminator(Tensor(real), Tensor(fake))) == pytest.approx(of_discriminator(real, fake, 0.0))
    assert float(loss.generator(Tensor(fake), *([Tensor(real)] if name == "relativistic" else []))) == pytest.approx(of_generator(real, fake))


def test_what_lies_on_the_threshold_is_on_neither_side():
    at = np.array([0.5, 0.6, 0.4, 0.5])
    assert LOSSES["least-squares"].accuracy(at, at) == 0.25 and LOSSES["relativistic"].accuracy(at, np.array([0.5, 0.5, 0.5, 0.4])) == 0.5
    assert [LOSSES[name].threshold for name in ("minimax", "non-saturating", "hinge", "wasserstein")] == [0] * 4


def test_penalties_are_of_the_slope_at_points_between_and_at_the_points_themselves():
    real, fake, w = np.random.default_rng(0).standard_normal((2, 5, 2)).astype(np.float32), np.zeros((5, 2), np.float32), np.array([[3.0], [4.0]], np.float32)
    real = real[0]
    assert float(gradient_penalty(lambda x: x @ w, real, fake, np.random.default_rng(1))) == pytest.approx(16)
    x = np.random.default_rng(1).random((5, 1), np.float32) * real  # of |x|^2 / 2 the slope is x
    half_square = lambda x: (x * x).sum(axis=1) * 0.5
    assert float(gradient_penalty(half_square, real, fake, np.random.default_rng(1))) == pytest.approx(((np.linalg.norm(x, axis=1) - 1) ** 2).mean(), rel=1e-5)
    points = Tensor(real, requires_grad=True)
    assert float(zero_centred_penalty(points, half_square(points))) == pytest.approx((real**2).sum() / 2 / 5, rel=1e-6)


def test_clusters_are_as_many_as_rows_at_most():
    x = np.array([[0.0], [1.0], [10.0], [12.0]])
    assert sorted(k_means(x, 2, np.random.default_rng(0)).ravel()) == [0.5, 11] and sorted(k_means(x, 4, np.random.default_rng(0)).ravel()) == [0, 1, 10, 12]
    assert k_means(x, 1, np.random.default_rng(0)) == 5.75
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"^k_means: k is {k}; with 4 rows it may go from 1 to 4"):
            k_means(x, k, np.random.default_rng(0))
