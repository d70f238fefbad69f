"""What a trained diffusion is good for, beside closed forms: inpainting, editing, encoding, velocities, errors, likelihoods; and its recipe."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest

from zoo.autograd.runtime import use_kernels
from zoo.data import Images
from zoo.data.toys import TOYS
from zoo.diffusion import Diffusion
from zoo.evaluation import Classifier
from zoo.model import great_circle
from zoo.optim import Adam, Muon, cosine
from zoo.parts.denoising import dormand_prince, editing, evaluation, likelihood
from zoo.parts.denoising.samplers import SAMPLERS
from zoo.recipes.diffusion import DiffusionTraining, load_data, make_trainer
from zoo.vae import VAE

SCHEDULES = ("linear", "cosine", "straight")
PICTURES = {"image": (4, 4), "channels": 8, "multipliers": (1,)}


@pytest.fixture(autouse=True)
def without_kernels():
    with use_kernels(False):
        yield


class Normal(Diffusion):
    """The best network there is for data from N(0, 0.5^2); labels shift the data by their number, no label (of 9) doesn't."""

    def predict(self, x_t, t, labels=None):
        alpha, sigma = self._per_sample(self.path.alpha(t)), self._per_sample(self.path.sigma(t))
        shift = 0 if labels is None else self._per_sample(np.where(np.asarray(labels) == 9, 0, labels))
        variance = alpha * alpha * 0.25 + sigma * sigma
        x_0 = shift + (x_t - alpha * shift) * (alpha * 0.25 / variance)
        noise = (x_t - alpha * shift) * (sigma / variance)
        m, n = (self._per_sample(weight) for weight in self.path.v_weights(t))
        return m * x_0 + n * noise

    def deviation(self, t):
        return float(np.hypot(0.5 * self.path.alpha(t), self.path.sigma(t)))


def normal(schedule="straight", dimensions=2, **fields):
    return Normal.new(image=(dimensions,), network="dense", channels=16, blocks=1, schedule=schedule, **fields)


def pictures(n=2, size=(4, 4)):
    return np.random.default_rng(1).random((n, *size)).astype(np.float32)


# --- inpainting


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_known_is_pasted_as_noisy_as_the_rest_and_each_step_is_taken_again(schedule, sampler):
    model = Diffusion.new(**{**PICTURES, "image": (16, 16)}, schedule=schedule)
    x = pictures(3, (16, 16))
    mask = np.zeros((16, 16), bool)
    mask[:, :10] = True
    steps = list(editing.inpaint_steps(model, x, mask, sampler=sampler, evaluations=6, repeats=3, seed=2))
    path, x_0 = model.path, 2 * x - 1
    pairs = [(s.t, s.t_previous) for s in steps if s.sampler != "back"]
    levels = sorted(set(pairs), reverse=True)
    assert [pairs.count(level) for level in levels] == [3] * (len(levels) - 1) + [1]
    for before, step in pairwise(steps):
        np.testing.assert_array_equal(step.x_t, before.x_previous)
    for step in steps:
        assert np.isfinite(step.x_previous).all()
        if step.sampler == "back":
            a = path.alpha(step.t_previous) / path.alpha(step.t)
            b = math.sqrt(path.sigma(step.t_previous) ** 2 - (a * path.sigma(step.t)) ** 2)
            np.testing.assert_allclose(step.x_previous, a * step.x_t + b * step.draw, atol=1e-5)
            assert step.evaluations == 0 and step.deviation == pytest.approx(b, rel=1e-5) and abs(step.draw.std() - 1) < 0.1
            continue
        s = step.t_previous
        np.testing.assert_array_equal(step.x_previous[:, mask], step.known[:, mask])
        drawn = step.mean if step.draw is None else step.mean + np.float32(step.deviation) * step.draw
        np.testing.assert_array_equal(step.x_previous[:, ~mask], drawn[:, ~mask])
        if s == 0:
            np.testing.assert_allclose(step.known, x_0, atol=1e-6)
        else:
            noise = (step.known - path.alpha(s) * x_0) / path.sigma(s)
            assert abs(noise.std() - 1) < 0.1 and abs(noise.mean()) < 0.15
    assert (steps[1].sampler == "back") and steps[0].known is not steps[2].known and not np.array_equal(steps[0].known, steps[2].known)


def test_inpainting_takes_ddims_steps_with_all_their_noise_and_five_times_by_default():
    model, x = Diffusion.new(**PICTURES), pictures()
    mask = np.arange(16).reshape(4, 4) < 8
    steps = list(model.inpaint_steps(x, mask, evaluations=3))
    assert [s.sampler for s in steps] == (["ddim", "back"] * 4 + ["ddim"]) * 2 + ["ddim"]
    assert steps[0].deviation == pytest.approx(model.path.posterior_deviation(1.0, 2 / 3)) and steps[0].draw is not None
    np.testing.assert_array_equal(model.inpaint(x, mask, evaluations=3), model.to_pictures(steps[-1].x_previous))


def test_dpm_solver_looks_back_at_nothing_after_a_step_back():
    model = Diffusion.new(**PICTURES)
    steps = list(model.inpaint_steps(pictures(), np.eye(4, dtype=bool), sampler="dpm-solver++", evaluations=4, repeats=2))
    step = SAMPLERS["dpm-solver++"].step
    for before, after in pairwise(steps):
        if after.sampler != "back":
            previous = None if before.sampler == "back" else (before.t, before.x_0_predicted)
            mean = step(lambda x, at: model.denoise(x, at), model.path, after.t, after.t_previous, after.x_t, previous=previous).mean
            np.testing.assert_array_equal(after.mean, mean)


@pytest.mark.parametrize(("image", "shape"), [((4, 4), (4, 4)), ((4, 4), (2, 4, 4)), ((4, 4, 3), (4, 4)), ((4, 4, 3), (2, 4, 4)),
                                              ((4, 4, 3), (4, 4, 3)), ((4, 4, 3), (2, 4, 4, 3))])
def test_a_mask_may_be_of_one_picture_or_of_all_with_or_without_channels(image, shape):
    model, x = Diffusion.new(**{**PICTURES, "image": image}), pictures(2, image)
    mask = np.random.default_rng(3).random(shape) < 0.5
    painted = model.inpaint(x, mask, evaluations=2)
    wide = np.broadcast_to(mask[..., None] if image == (4, 4, 3) and mask.shape[-1] == 4 else mask, x.shape)
    np.testing.assert_allclose(painted[wide], x[wide], atol=1e-6)
    assert np.abs(painted[~wide] - x[~wide]).max() > 0.01


@pytest.mark.parametrize(("settings", "message"), [
    ({"repeats": 0}, "repeats is 0"), ({"repeats": 2.5}, "repeats is 2.5"), ({"sampler": "dopri5"}, "dopri5 can't inpaint"), ({"eta": 2.0}, "eta: is 2"),
])
def test_settings_of_inpainting_that_mean_nothing_are_refused(settings, message):
    model, x = Diffusion.new(**PICTURES), pictures()
    with pytest.raises(ValueError, match=message):
        model.inpaint(x, np.eye(4, dtype=bool), evaluations=2, **settings)
    for given in ({"known": x}, {"mask": np.ones(x.shape, bool)}):
        with pytest.raises(ValueError, match="needs both"):
            model.sample(2, evaluations=2, **given)
    with pytest.raises(ValueError, match="repeats: is 3 without a mask"):
        model.sample(1, repeats=3)


# --- editing, encoding, decoding


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_edit_begins_at_the_noised_picture(schedule):
    model, x = Diffusion.new(**PICTURES, schedule=schedule), pictures()
    first = []
    steps = model.steps
    model.steps = lambda **settings: (first.append(settings), steps(**settings))[1]
    edited = model.edit(x, 0.6, seed=4, evaluations=3)
    noise = np.random.default_rng((4, 1)).standard_normal(x.shape, np.float32)
    np.testing.assert_allclose(first[0]["x_1"], model.path.alpha(0.6) * (2 * x - 1) + model.path.sigma(0.6) * noise, atol=1e-6)
    assert first[0]["start"] == 0.6 and first[0]["seed"] == 4 and edited.shape == x.shape
    records = list(steps(x_1=first[0]["x_1"], start=0.6, seed=4, evaluations=3))
    np.testing.assert_allclose([r.t for r in records], [0.6, 0.4, 0.2])
    np.testing.assert_array_equal(edited, model.to_pictures(records[-1].x_previous))
    if schedule != "straight":
        with pytest.raises(ValueError, match="strength: is 0.0005; it may go from above 0.001"):
            model.edit(x, 0.0005)
    else:
        np.testing.assert_allclose(model.edit(x, 1e-6, evaluations=2), x, atol=1e-4)
    for wrong in (0, -0.1, 1.1, math.nan, "0.5", None):
        with pytest.raises(ValueError, match="strength: is "):
            model.edit(x, wrong)
    model.edit(x, np.float32(0.5), evaluations=1)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_code_of_normal_data_keeps_its_place_in_units_of_the_deviation(schedule):
    model = normal(schedule, classes=9)
    x = np.array([[0.3, -0.2], [-0.9, 0.5]], np.float32)
    for digit, shift in ((None, 0), ([2, 5], np.array([[2.0], [5.0]]))):
        code = model.encode(x + shift, digit)
        least = model.path.t_min
        expected = (x + (1 - model.path.alpha(least)) * shift) * model.deviation(1.0) / model.deviation(least) + model.path.alpha(1.0) * shift
        np.testing.assert_allclose(code, expected, rtol=0.02, atol=0.03)
        np.testing.assert_allclose(model.decode(code, digit), x + shift, atol=0.02)
    assert np.abs(model.encode(x, evaluations=1) - model.encode(x)).max() > 1e-3  # 79 by default
    np.testing.assert_array_equal(model.encode(x), model.encode(x, evaluations=79))
    np.testing.assert_array_equal(model.decode(code), model.decode(code, evaluations=79))
    np.testing.assert_allclose(model.redraw(x + 2, 2, 5), x + 5, atol=0.05)
    np.testing.assert_array_equal(model.redraw(x + 2, 2, 5), model.redraw(x + 2, 2, 5, evaluations=79))
    far = model.decode(code, 2, guidance=3.0)  # 0 + 3 (2 - 0): data about 6
    assert abs(far.mean() - 6) < 0.8


def test_decode_refuses_what_it_cannot_decode():
    model = normal(classes=9)
    for noise in (np.zeros((2, 3)), np.zeros((0, 2)), np.zeros(2)):
        with pytest.raises(ValueError, match="noise: shape is"):
            model.decode(noise)
    with pytest.raises(ValueError, match="guidance: is nan"):
        model.decode(np.zeros((1, 2)), 1, guidance=math.nan)
    with pytest.raises(ValueError, match="no digit is given"):
        model.decode(np.zeros((1, 2)), guidance=2.0)


def test_an_interpolation_goes_along_the_great_circle_of_the_codes():
    model = normal()
    a, b = np.array([0.3, -0.2], np.float32), np.array([-0.5, 0.6], np.float32)
    code = model.encode(np.stack([a, b]), evaluations=9)
    np.testing.assert_array_equal(model.interpolate(a, b, 4, evaluations=9), model.decode(great_circle(code[0], code[1], 4), evaluations=9))
    np.testing.assert_array_equal(model.interpolate(a, b), model.interpolate(a, b, 10, evaluations=79))
    np.testing.assert_array_equal(model.interpolate(a, b, 2, evaluations=9), model.decode(code, evaluations=9))
    with pytest.raises(ValueError, match="steps is 1; it is at least 2"):
        model.interpolate(a, b, 1)


# --- velocity and errors


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_velocity_is_the_derivative_of_the_flow(schedule):
    model = normal(schedule, classes=9)
    x = np.array([[0.3, -0.2], [-0.9, 0.5]], np.float32)
    for t in (0.2, 0.7, 1.0):
        d = 1e-4
        growth = (model.deviation(t) - model.deviation(t - d)) / d / model.deviation(t - d / 2) if t == 1.0 else (
            model.deviation(t + d) - model.deviation(t - d)) / (2 * d) / model.deviation(t)
        np.testing.assert_allclose(model.velocity(x, t), growth * x, rtol=3e-3, atol=1e-3)
    towards = model.velocity(x, 0.5, 3) - model.velocity(x, 0.5)
    np.testing.assert_allclose(model.velocity(x, 0.5, 3, guidance=2.5) - model.velocity(x, 0.5), 2.5 * towards, atol=1e-4)
    assert np.isfinite(model.velocity(x, 0.0)).all() if schedule == "straight" else True


@pytest.mark.parametrize(("schedule", "prediction"), [("straight", "v"), ("cosine", "v"), ("cosine", "noise"), ("linear", "x_0")])
def test_errors_by_t_are_mean_squares_of_what_is_missed(schedule, prediction):
    model = Diffusion.new(**PICTURES, schedule=schedule, prediction=prediction)
    model.predict = lambda x_t, t, labels=None: np.full_like(x_t, 0.2)
    x = pictures(300)
    errors = model.error_by_t(x, at=[0.3, 0.8], seed=5)
    rng = np.random.default_rng(5)
    for i, t in enumerate((0.3, 0.8)):
        noise = rng.standard_normal(x.shape, np.float32)
        alpha, sigma, x_0 = float(model.path.alpha(t)), float(model.path.sigma(t)), 2 * x - 1
        x_t, said = alpha * x_0 + sigma * noise, 0.2
        target = {"noise": noise, "x_0": x_0, "v": noise - x_0 if schedule == "straight" else alpha * noise - sigma * x_0}[prediction]
        if prediction == "noise":
            seen_x_0, seen_noise = (x_t - sigma * said) / alpha, said
        elif prediction == "x_0":
            seen_x_0, seen_noise = said, (x_t - alpha * said) / sigma
        else:
            m, n = (-1, 1) if schedule == "straight" else (-sigma, alpha)
            seen_x_0, seen_noise = n * x_t - sigma * said, alpha * said - m * x_t
        for name, error in (("loss", said - target), ("x_0", seen_x_0 - x_0), ("noise", seen_noise - noise)):
            assert errors[name][i] == pytest.approx(np.mean(error**2), rel=1e-4)
    np.testing.assert_allclose(model.error_by_t(x[:2])["t"], np.linspace(0.05, 1, 20))
    coarse = Diffusion.new(**PICTURES, T=10, schedule="cosine")
    np.testing.assert_allclose(coarse.error_by_t(x[:2])["t"], np.linspace(0.1, 1, 20))


def test_errors_by_t_are_of_the_labels_given():
    model = Diffusion.new(**PICTURES, classes=3)
    seen = []
    model.predict = lambda x_t, t, labels=None: (seen.append(labels), x_t)[1]
    labels = np.arange(300) % 3
    model.error_by_t(pictures(300), labels, at=[0.5])
    assert np.array_equal(np.concatenate(seen), labels) and [len(s) for s in seen] == [256, 44]


# --- likelihood


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("exact", [True, False])
def test_the_likelihood_of_normal_data_is_its_density_on_every_path(schedule, exact):
    model = normal(schedule, dimensions=3, classes=9)
    x = 0.5 * np.random.default_rng(6).standard_normal((7, 3)).astype(np.float32)
    labels = np.arange(7)
    growth = model.deviation(1.0) / model.deviation(model.path.t_min)  # from where the integral begins to where it ends
    for digit, shift in ((None, 0), (labels, labels[:, None])):
        given = x + model.path.alpha(model.path.t_min) * shift
        x_1 = growth * x + model.path.alpha(1.0) * shift  # a little of the label is left, and ln p_1 is that of N(0, 1) all the same
        expected = -0.5 * (x_1**2).sum(1) - 1.5 * math.log(2 * math.pi) + 3 * math.log(growth)
        found = model.log_likelihood(given.astype(np.float32), digit, exact=exact, tolerance=1e-6)
        np.testing.assert_allclose(found, expected, atol=3e-3)


def test_the_divergence_is_exact_up_to_four_dimensions_and_estimated_beyond():
    for dimensions, exact in ((4, True), (5, False)):
        model = Diffusion.new(image=(dimensions,), network="dense", channels=16, blocks=1, schedule="straight", seed=3)
        x = np.random.default_rng(7).standard_normal((3, dimensions)).astype(np.float32)
        likelihoods = [model.log_likelihood(x, seed=seed, tolerance=1e-2) for seed in (0, 1)]
        assert np.array_equal(*likelihoods) == exact
        whole, parts = (model.log_likelihood(x, exact=True, tolerance=1e-4, batch=batch) for batch in (3, 2))
        np.testing.assert_allclose(whole, parts, atol=1e-3)


def test_the_divergence_of_a_linear_map_is_its_trace_and_hutchinsons_products_are_averaged():
    model = Diffusion.new(image=(3,), network="dense", channels=16, blocks=1, schedule="straight")
    A = np.random.default_rng(8).standard_normal((3, 3)).astype(np.float32)
    model.predict = lambda x, t, labels: x @ A
    state = np.random.default_rng(9).standard_normal((5, 4)).astype(np.float32)
    unit = [np.broadcast_to(e, (5, 3)) for e in np.eye(3, dtype=np.float32)]
    out = likelihood._with_divergence(model, unit, 1, None)(0.5, state)
    np.testing.assert_allclose(out, np.concatenate([state[:, :3] @ A, np.full((5, 1), np.trace(A))], 1), rtol=1e-4, atol=1e-5)
    signs = [np.random.default_rng(i).choice(np.array([-1, 1], np.float32), (5, 3)) for i in range(4)]
    out = likelihood._with_divergence(model, signs, 4, None)(0.5, state)
    np.testing.assert_allclose(out[:, 3], np.mean([np.einsum("ni,ij,nj->n", e, A, e) for e in signs], 0), rtol=1e-4, atol=1e-5)


def test_probes_are_signs_and_tolerance_and_batch_have_their_defaults(monkeypatch):
    model = Diffusion.new(image=(5,), network="dense", channels=8, blocks=1, schedule="straight")
    seen = []

    def integrate(velocity, x, start, end, tolerance):
        seen.append((len(x), start, end, tolerance))
        return x, 0

    drawn = []
    with_divergence = likelihood._with_divergence
    monkeypatch.setattr(likelihood, "integrate", integrate)
    monkeypatch.setattr(likelihood, "_with_divergence", lambda model, directions, probes, labels: (
        drawn.append((directions, probes)), with_divergence(model, directions, probes, labels))[1])
    x = np.random.default_rng(10).standard_normal((150, 5)).astype(np.float32)
    found = model.log_likelihood(x, probes=3)
    assert seen == [(100, 0.0, 1.0, 1e-5), (50, 0.0, 1.0, 1e-5)]
    np.testing.assert_allclose(found, -0.5 * (x.astype(float) ** 2).sum(1) - 2.5 * math.log(2 * math.pi), rtol=1e-6)
    assert [(len(d), p) for d, p in drawn] == [(3, 3), (3, 3)] and set(np.unique(drawn[0][0])) == {-1, 1}
    assert abs(np.mean(drawn[0][0])) < 0.2
    with pytest.raises(ValueError, match="density isn't known"):
        Diffusion.new(image=(2,), network="dense", channels=8, schedule="straight", source="eight_gaussians").log_likelihood(x[:, :2])


def test_bits_per_dimension_are_those_of_levels_2_256ths_wide():
    """A density of 1/2 on [-1, 1] gives each of 256 levels the probability 1/256: 8 bits."""
    model = Diffusion.new(**PICTURES, schedule="straight")
    seen = []
    original = likelihood.log_likelihood
    try:
        likelihood.log_likelihood = lambda model, x_0, digit=None, **k: (seen.append((x_0, digit, k)), np.full(len(x_0), -16 * math.log(2)))[1]
        x = pictures(3)
        np.testing.assert_allclose(model.bits_per_dimension(x, seed=7, tolerance=0.1), 8)
    finally:
        likelihood.log_likelihood = original
    u = np.random.default_rng((7, 2)).random(x.shape, np.float32)
    np.testing.assert_allclose(seen[0][0], 2 * (255 * x + u) / 256 - 1, atol=1e-6)
    assert seen[0][1] is None and seen[0][2] == {"seed": 7, "tolerance": 0.1}


# --- figures


def test_evaluation_judges_n_samples_and_the_bits_of_some_test_pictures(tmp_path, monkeypatch):
    rng = np.random.default_rng(11)
    x = rng.random((30, 8, 8)).astype(np.float32)
    data = Images(x, np.arange(30) % 3, x[:12], np.arange(12) % 3, "made up")
    model = Diffusion.new(image=(8, 8), channels=8, multipliers=(1,), classes=3)
    Classifier.new(image=(8, 8), classes=3, channels=4, features=8).save(tmp_path / "judge", data="made up")
    seen = []
    monkeypatch.setattr(Diffusion, "bits_per_dimension", lambda self, x, digit=None, *, seed=0: (seen.append((x, digit, seed)), np.array([1.0, 4.0]))[1])
    figures = evaluation.evaluate(model, data, seed=3, n=7, likelihoods=2, judge=str(tmp_path / "judge"), evaluations=2)
    chosen = np.random.default_rng(3).permutation(12)[:2]
    np.testing.assert_array_equal(seen[0][0], data.test[chosen])
    np.testing.assert_array_equal(seen[0][1], data.test_labels[chosen])
    assert figures["bits_per_dimension"] == 2.5 and seen[0][2] == 3 and "frechet" in figures and "asked" in figures
    for wrong in (-1, 2.5):
        with pytest.raises(ValueError, match=f"likelihoods is {wrong}"):
            evaluation.evaluate(model, data, n=7, likelihoods=wrong, judge=str(tmp_path / "judge"))


def test_what_cannot_be_judged_is_refused_before_anything_is_drawn(monkeypatch):
    model = Diffusion.new(**PICTURES)
    monkeypatch.setattr(model, "sample", lambda *a, **k: pytest.fail("sampled"))
    x = pictures(20, (8, 8))
    with pytest.raises(ValueError, match="samples of shape"):
        model.evaluate(Images(x, None, x, None, "made up"))
    with pytest.raises(ValueError, match="moons"):
        model.evaluate("moons")
    x = pictures(20)
    with pytest.raises(ValueError, match="4 x 4"):
        model.evaluate(Images(x, None, x, None, "made up"))


# --- labels that were never trained


def test_a_model_trained_with_labels_only_is_not_asked_without():
    model = Diffusion.new(**PICTURES, classes=3, unlabelled=0.0)
    x = pictures()
    assert model.sample(2, evaluations=1).shape == x.shape
    for call in (lambda: model.sample(1, guidance=2.0), lambda: model.decode(2 * x - 1, 1, guidance=2.0)):
        with pytest.raises(ValueError, match="guidance: is 2, but this model was trained with labels only"):
            call()
    for call in (lambda: model.predict(x, np.full(2, 0.5)), lambda: model.encode(x), lambda: model.error_by_t(x, at=[0.5]),
                 lambda: model.denoise(x, 0.5, np.array([0, 1]), guidance=2.0)):
        with pytest.raises(ValueError, match="labels: this model was trained with labels only"):
            call()
    model.encode(x, 1, evaluations=1)
    guided = Diffusion.new(**PICTURES, classes=3, unlabelled=0.0, guidance=1.5)  # as an old card may be
    with pytest.raises(ValueError, match="unlabelled: is 0 and guidance 1.5"):
        make_trainer(guided, Images(x, np.arange(2), x, np.arange(2), "made up"), DiffusionTraining(batch_size=2))
    assert guided.sample(1, guidance=1, evaluations=1).shape == (1, 4, 4)


# --- latents


def test_latents_are_divided_by_their_deviation_but_never_by_less_than_a_tenth(tmp_path):
    vae = VAE.new(image=(4, 4), latent=(3,), hidden=(5,))
    vae.encoders[0].output.weight.data[:, 0] *= 50
    vae.encoders[0].output.weight.data[:, 1] = 0
    vae.save(tmp_path / "vae")
    x = pictures(40)
    model = Diffusion.for_data(Images(x, None, x, None, "made up"), autoencoder=str(tmp_path / "vae"), network="dense", channels=8, blocks=1)
    z = np.asarray(vae.encode(x)[0].data)
    assert z[:, 0].std() > 0.1 > z[:, 1].std() + 0.05
    np.testing.assert_allclose(model.latents.deviation, np.maximum(z.std(0), 0.1), rtol=1e-5)
    np.testing.assert_allclose(model.latents.mean, z.mean(0), atol=1e-5)
    np.testing.assert_allclose(model.to_network_range(x), (z - z.mean(0)) / np.maximum(z.std(0), 0.1), atol=1e-4)
    assert len(model.latents.digest()) == 16 and model.latents.shape == (3,) and model.latents.image == (4, 4)
    vae.encoders[0].output.bias.data[0] += 1
    assert model.latents.digest() == model.latents.digest()


# --- adaptive steps


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_adaptive_steps_begin_with_a_twentieth_and_end_at_the_least_t(schedule):
    model = normal(schedule)
    tries = []
    step = dormand_prince.adaptive_step
    dormand_prince.adaptive_step = lambda model, settings, t, h, x: (tries.append((t, h)), step(model, settings, t, h, x))[1]
    try:
        steps = list(model.steps(4, sampler="dopri5", tolerance=1e-4, start=0.9, x_1=np.random.default_rng(0).standard_normal((4, 2))))
    finally:
        dormand_prince.adaptive_step = step
    assert tries[0] == (0.9, -0.9 / 20)
    accepted = [s for s in steps if s.sampler == "dopri5"]
    assert all(s.error <= 1 and s.evaluations == 7 and s.slopes.shape == (7, 4, 2) for s in accepted)
    assert accepted[-1].t_previous == model.path.t_min and steps[-1].t_previous == 0
    assert [s.sampler for s in steps[len(accepted):]] == (["euler"] if schedule != "straight" else [])
    for a in accepted[:-2]:  # each tries what the one before recommended
        following = next(h for t, h in tries if t == a.t_previous)
        assert following == pytest.approx(max(dormand_prince.next_size(a.t_previous - a.t, a.error), model.path.t_min - a.t_previous), rel=1e-6)
    exact = model.deviation(0.0) / model.deviation(0.9) * steps[0].x_t
    np.testing.assert_allclose(steps[-1].x_previous, exact, atol=0.02)


def test_dopri5_may_start_just_above_the_least_t():
    for schedule in SCHEDULES:
        model = normal(schedule)
        x = np.ones((1, 2), np.float32)
        y = model.sample(x_1=x, start=model.path.t_min + 1e-10, sampler="dopri5")
        np.testing.assert_allclose(y, x, atol=0.15)


# --- the recipe


def images(n=64, classes=3, size=(4, 4)):
    x = pictures(n, size)
    return Images(x, np.arange(n) % classes, x[:16], np.arange(16) % classes, "made up")


@pytest.mark.parametrize(("steps", "warm_up", "expected"), [(100, 500, 10), (10_000, 500, 500), (10_000, 20, 20)])
def test_the_rate_rises_over_at_most_a_tenth_of_the_steps_and_falls_along_half_a_cosine(steps, warm_up, expected):
    trainer = make_trainer(Diffusion.new(**PICTURES), images(), DiffusionTraining(steps=steps, warm_up=warm_up, batch_size=8))
    factor = cosine(steps, warmup=expected)
    assert [trainer.schedule(i) for i in range(0, steps, steps // 50)] == [factor(i) for i in range(0, steps, steps // 50)]
    flat = make_trainer(Diffusion.new(**PICTURES), images(), DiffusionTraining(steps=steps, constant=True, batch_size=8))
    assert {flat.schedule(i) for i in range(0, steps, 7)} == {1.0} and trainer.steps == steps


@pytest.mark.parametrize("fields", [PICTURES, {"image": (4, 4), "network": "transformer", "patch": 2, "channels": 8, "blocks": 1, "heads": 2},
                                    {"image": (2,), "network": "dense", "channels": 8, "blocks": 1}])
def test_muon_trains_all_matrices_but_the_first_and_the_last(fields):
    model = Diffusion.new(**fields, classes=3)
    training = DiffusionTraining(optimiser="muon", lr=0.5, muon_lr=0.25, clip=3.0, average=0.9, batch_size=8)
    data = images() if len(fields["image"]) == 2 else dataclasses.replace(images(), train=pictures(64, (2,)), test=pictures(16, (2,)))
    trainer = make_trainer(model, data, training)
    assert isinstance(trainer.optimiser, Muon)
    by_muon = {id(p) for p, is_matrix in zip(trainer.optimiser.parameters, trainer.optimiser.is_matrix) if is_matrix}
    names = {name for name, p in model.named_parameters().items() if id(p) in by_muon}
    ends = {"conv_in", "conv_out", "patch_embedding", "patch_output", "linear_in", "linear_out"}
    wanted = {name for name, p in model.named_parameters().items() if p.ndim >= 2 and "labels" not in name and name.split(".")[1] not in ends}
    assert names == wanted and len(names) >= 3
    assert (trainer.optimiser.lr, trainer.optimiser.muon_lr, trainer.optimiser.clip, trainer.average.decay) == (0.5, 0.25, 3.0, 0.9)
    adam = make_trainer(Diffusion.new(**PICTURES), images(), DiffusionTraining(lr=0.5, clip=None, average=0.0, batch_size=8))
    assert type(adam.optimiser) is Adam and adam.optimiser.lr == 0.5 and adam.optimiser.clip is None and adam.average is None


def test_pools_are_whole_batches_and_their_noise_depends_on_seed_and_pool():
    model = Diffusion.new(**PICTURES, classes=3)
    run = lambda seed=1, pool=20: make_trainer(model, images(), DiffusionTraining(steps=8, batch_size=8, coupling="optimal", pool=pool), seed=seed)
    batches = [run().batches(i, None) for i in range(6)]  # 20 holds two batches of 8
    again = run()
    for i in (5, 0, 3):  # in any order
        b = again.batches(i, None)
        for name in ("x_0", "noise", "labels"):
            np.testing.assert_array_equal(getattr(b, name), getattr(batches[i], name))
    noise = np.concatenate([batches[2].noise, batches[3].noise])
    drawn = model.draw_source(16, np.random.default_rng((1, 1, 0x07)))
    assert {tuple(a.ravel()) for a in noise} == {tuple(a.ravel()) for a in drawn}
    assert len(run(pool=3).batches(0, None).x_0) == 8
    data = images()
    for b in batches:
        rows = [int(np.flatnonzero((data.train == x).all((1, 2)))[0]) for x in b.x_0]
        assert np.array_equal(data.train_labels[rows], b.labels)


def test_toys_are_drawn_anew_for_each_step_by_seed_and_step():
    model = Diffusion.new(image=(2,), network="dense", channels=8, blocks=1)
    trainer = make_trainer(model, "ring", DiffusionTraining(steps=5, batch_size=8), seed=3)
    for step in (0, 4):
        np.testing.assert_array_equal(trainer.batches(step, None), TOYS["ring"](8, np.random.default_rng((3, step, 0x704))))
    assert load_data("ring") == "ring" and load_data("digits8x8").name
    with pytest.raises(ValueError, match="this model takes"):
        make_trainer(Diffusion.new(**PICTURES), "ring", DiffusionTraining())


def test_a_run_is_tested_on_up_to_512_held_out_pictures_if_there_are_eight():
    model = Diffusion.new(**PICTURES, classes=3)
    seen = []
    model.error_by_t = lambda x, labels=None: (seen.append((len(x), labels)), {"loss": np.array([1.0, 3.0])})[1]
    many = images(600)
    many = dataclasses.replace(many, test=many.train, test_labels=many.train_labels)
    assert make_trainer(model, many, DiffusionTraining(batch_size=8)).evaluate(model) == {"test_loss": 2.0}
    assert seen[0][0] == 512 and np.array_equal(seen[0][1], many.train_labels[:512])
    for n in (8, 7):
        few = dataclasses.replace(many, test=many.test[:n], test_labels=many.test_labels[:n])
        assert (make_trainer(model, few, DiffusionTraining(batch_size=8)).evaluate is None) == (n == 7)
    assert make_trainer(model, many, DiffusionTraining(batch_size=8), evaluate=None).evaluate is None


@pytest.mark.parametrize("field", ["lr", "muon_lr", "batch_size", "steps", "pool", "clip"])
@pytest.mark.parametrize("value", [0, -1])
def test_settings_of_a_run_that_mean_nothing_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        DiffusionTraining.make(**{field: value})
    with pytest.raises(ValueError, match="warm_up is -1"):
        DiffusionTraining.make(warm_up=-1)
    with pytest.raises(ValueError, match="average is 1"):
        DiffusionTraining.make(average=1.0)
    with pytest.raises(ValueError, match="beta_1 is 0.03 and beta_T 0.02"):
        Diffusion.new(**PICTURES, schedule="linear", beta_1=0.03)
