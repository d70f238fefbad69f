"""Laws of diffusion and flow matching, on small networks, and on networks that know the answer."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo import autograd as ops
from zoo.__main__ import main
from zoo.data import Images
from zoo.data.toys import TOYS, moons
from zoo.diffusion import Diffusion, DiffusionConfig, Pairs
from zoo.evaluation import Classifier, squared_wasserstein
from zoo.inspection import figures
from zoo.model import great_circle
from zoo.parts.denoising import dit, samplers, unet
from zoo.parts.denoising.paths import make_path
from zoo.recipes.diffusion import PRESETS, DiffusionTraining, make_trainer, optimal_pairs
from zoo.storage import WrongFile, save_folder
from zoo.vae import VAE

SMALL = {"image": (8, 8), "channels": 8, "multipliers": (1, 2)}
NETWORKS = {"unet": SMALL, "transformer": {"image": (8, 8), "network": "transformer", "channels": 8, "blocks": 2, "heads": 2},
            "dense": {"image": (2,), "network": "dense", "channels": 16}}
KINDS = [("linear", "noise"), ("linear", "x_0"), ("cosine", "noise"), ("cosine", "v"), ("straight", "v")]
ALL = list(samplers.SAMPLERS)


def small(seed=0, **fields):
    """A small model whose every weight is drawn, so that nothing in it is 0."""
    model = Diffusion.new(seed=seed, **{**SMALL, **fields})
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data += 0.1 * rng.standard_normal(p.shape, np.float32)
    return model


class Knowing(Diffusion):
    """Its network knows the picture in every x_t."""

    picture: np.ndarray

    def predict(self, x_t, t, labels=None):
        x_t, alpha, sigma = np.asarray(x_t), self._per_sample(self.path.alpha(t)), self._per_sample(self.path.sigma(t))
        return self.target(self.picture, (x_t - alpha * self.picture) / sigma, t)


class Normal(Diffusion):
    """Its network is the best there is for data from N(0, 0.5^2)."""

    def predict(self, x_t, t, labels=None):
        alpha, sigma = self._per_sample(self.path.alpha(t)), self._per_sample(self.path.sigma(t))
        x_0 = x_t * (alpha * 0.25 / (alpha * alpha * 0.25 + sigma * sigma))
        noise = x_t * (sigma / (alpha * alpha * 0.25 + sigma * sigma))
        m, n = (self._per_sample(part) for part in self.path.v_weights(t))
        return m * x_0 + n * noise


def points(kind, schedule="cosine", **fields):
    return kind.new(image=(2,), network="dense", channels=16, blocks=1, schedule=schedule, prediction="v", **fields)


@pytest.mark.parametrize("schedule,prediction", KINDS)
def test_what_is_implied_by_the_target_is_the_picture_and_the_noise(schedule, prediction):
    model = Diffusion.new(**SMALL, schedule=schedule, prediction=prediction)
    rng = np.random.default_rng(1)
    x_0, noise = rng.uniform(-1, 1, (5, 8, 8)).astype(np.float32), rng.standard_normal((5, 8, 8), np.float32)
    t = np.array([0.05, 0.3, 0.5, 0.9, 1.0])
    x_t = model.noised(x_0, noise, t)
    found_x_0, found_noise = model.x_0_and_noise(model.target(x_0, noise, t), x_t, t)
    np.testing.assert_allclose(found_x_0, x_0, atol=1e-2 if prediction == "noise" else 1e-4)  # at t = 1 little of x_0 is left
    np.testing.assert_allclose(found_noise, noise, atol=1e-4)


@pytest.mark.parametrize("schedule,prediction", KINDS)
@pytest.mark.parametrize("sampler", ALL)
def test_with_the_truth_as_predictor_every_sampler_returns_the_picture(schedule, prediction, sampler):
    model = Knowing.new(**SMALL, schedule=schedule, prediction=prediction)
    model.picture = np.random.default_rng(2).uniform(0, 1, (1, 8, 8)).astype(np.float32) * 2 - 1
    found = model.sample(3, seed=3, sampler=sampler, evaluations=12)
    np.testing.assert_allclose(found, np.repeat(model.to_pictures(model.picture), 3, 0), atol=2e-4)


@pytest.mark.parametrize("sampler", [*ALL, "dopri5"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
def test_last_step_draws_nothing_and_steps_replay_to_the_bit(sampler, schedule):
    network = {"cosine": "unet", "straight": "transformer", "linear": "dense"}[schedule]
    model = small(schedule=schedule, classes=3, **NETWORKS[network])
    steps = list(model.steps(2, seed=4, digit=1, sampler=sampler, evaluations=5, guidance=2.0, tolerance=1.0))
    assert steps[-1].t_previous == 0 and steps[-1].draw is None and steps[-1].deviation == 0
    assert steps[0].t == 1
    for step, following in pairwise(steps):
        assert following.x_t is step.x_previous and following.t == step.t_previous
    for step in steps:
        assert step.equals(step.replay())
        if step.draw is not None:
            np.testing.assert_array_equal(step.x_previous, step.mean + np.float32(step.deviation) * step.draw)
        else:
            np.testing.assert_array_equal(step.x_previous, step.mean)
    np.testing.assert_array_equal(model.to_pictures(steps[-1].x_previous), model.sample(
        2, seed=4, digit=1, sampler=sampler, evaluations=5, guidance=2.0, tolerance=1.0))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
@pytest.mark.parametrize("sampler", [*ALL, "dopri5"])
def test_every_t_that_is_sampled_is_trained(schedule, sampler):
    model = points(Diffusion, schedule)
    asked = []
    predict = model.predict
    model.predict = lambda x, t, labels=None: (asked.extend(t), predict(x, t, labels))[1]
    for evaluations in (2, 7, 30):
        model.sample(1, sampler=sampler, evaluations=evaluations, tolerance=0.1, spacing=2.0)
    drawn = model.draw_times(1000, np.random.default_rng(0))
    assert model.path.t_min <= min(asked) and max(asked) <= 1
    assert model.path.t_min <= drawn.min() and drawn.max() <= 1
    for low in np.linspace(0, 0.98, 50):  # no gap in what is drawn
        assert ((drawn >= low) & (drawn < low + 0.02)).any()


@pytest.mark.parametrize("network", NETWORKS)
def test_changing_t_changes_the_prediction(network):
    model = small(**NETWORKS[network])
    x = np.random.default_rng(5).standard_normal((2, *model.config.image), np.float32)
    a, b = (np.asarray(model.predict(x, np.full(2, t)).data) for t in (0.3, 0.31))
    assert np.abs(a - b).max() > 1e-4


@pytest.mark.parametrize("network", NETWORKS)
def test_changing_the_label_changes_the_prediction_and_guidance_is_a_straight_line(network):
    model = small(classes=3, **NETWORKS[network])
    x = np.random.default_rng(6).standard_normal((2, *model.config.image), np.float32)
    with zoo.no_grad():
        one, nobody = (model.predict(x, np.full(2, 0.5), np.full(2, label)).data for label in (1, 3))
        np.testing.assert_array_equal(model.predict(x, np.full(2, 0.5)).data, nobody)
        guided = model.denoise(x, 0.5, np.array([1, 1]), guidance=2.5).prediction
    assert np.abs(one - nobody).max() > 1e-3
    np.testing.assert_allclose(guided, nobody + 2.5 * (one - nobody), atol=1e-5)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
def test_ddpm_is_ddim_with_all_of_its_noise(schedule):
    model = small(schedule=schedule)
    a, b = model.sample(2, seed=7, sampler="ddpm", evaluations=10), model.sample(2, seed=7, sampler="ddim", eta=1.0, evaluations=10)
    np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
def test_ddim_is_euler(schedule):
    model = small(schedule=schedule)
    a, b = model.sample(2, seed=8, sampler="ddim", evaluations=10), model.sample(2, seed=8, sampler="euler", evaluations=10)
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_linear_schedule_is_that_of_ho_et_al():
    path = make_path("linear", 1000, 1e-4, 0.02)
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    t = np.arange(1, 1001) / 1000
    assert np.abs(path.alpha(t) ** 2 - alpha_bar).max() < 2e-3


@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
def test_rates_and_determinant_of_the_paths(schedule):
    path = make_path(schedule, 1000, 1e-4, 0.02)
    t, d = np.linspace(0.05, 0.95, 19), 1e-6
    for value, rate in zip((path.alpha, path.sigma), path.derivatives(t)):
        np.testing.assert_allclose(rate, (value(t + d) - value(t - d)) / (2 * d), atol=1e-5)
    m, n = path.v_weights(t)
    np.testing.assert_allclose(path.alpha(t) * n - path.sigma(t) * m, 1, atol=1e-12)
    assert path.alpha(0.0) == 1 and path.sigma(0.0) == 0
    a, b = path.transition(0.3, 0.8)
    assert math.isclose((a * path.sigma(0.3)) ** 2 + b * b, path.sigma(0.8) ** 2)


@pytest.mark.parametrize("sampler,order", [("euler", 1), ("heun", 2), ("midpoint", 2), ("dpm-solver++", 2)])
def test_order_of_the_solvers(sampler, order):
    """For normal data the flow is known: x_t keeps its place in units of its deviation."""
    model = points(Normal)
    x_1 = np.random.default_rng(9).standard_normal((50, 2), np.float32)
    t, s = 0.9, 0.2
    deviation = lambda t: np.sqrt(0.25 * model.path.alpha(t) ** 2 + model.path.sigma(t) ** 2)
    exact = x_1 * (deviation(s) / deviation(t))
    errors = []
    for n in (8, 16):
        grid, x, before = np.linspace(t, s, n + 1), x_1, None
        for a, b in pairwise(grid):
            move = samplers.SAMPLERS[sampler].step(lambda x, at: model.denoise(x, at), model.path, a, b, x, previous=before)
            x, before = move.mean, (a, move.estimate.x_0)
        errors.append(np.abs(x - exact).max())
    assert errors[0] / errors[1] > 0.6 * 2**order, errors


@pytest.mark.parametrize("schedule", ["linear", "cosine", "straight"])
@pytest.mark.parametrize("sampler,evaluations", [("ddpm", 200), ("ddim", 200), ("dpm-solver++", 40), ("heun", 40), ("midpoint", 40),
                                                 ("dopri5", 1)])
def test_samples_of_normal_data_have_its_deviation(schedule, sampler, evaluations):
    x = points(Normal, schedule).sample(4000, seed=10, sampler=sampler, evaluations=evaluations, batch=4000)
    assert abs(x.std() - 0.5) < 0.03 and abs(x.mean()) < 0.03


@pytest.mark.parametrize("exact", [True, False])
def test_likelihood_of_normal_data_is_the_density(exact):
    model = points(Normal, "straight")
    x = 0.5 * np.random.default_rng(11).standard_normal((20, 2), np.float32)
    expected = -2 * (x * x).sum(1) - math.log(2 * math.pi * 0.25)
    np.testing.assert_allclose(model.log_likelihood(x, exact=exact, tolerance=1e-6), expected, atol=1e-3)


def test_bits_per_dimension_of_normal_pictures_are_those_of_the_density():
    model = Normal.new(image=(4, 4), channels=8, multipliers=(1,), schedule="straight")
    x = np.random.default_rng(12).integers(0, 256, (2, 4, 4)).astype(np.float32) / 255
    x_0 = model.to_network_range(x, np.random.default_rng((0, 2)))  # the same dequantisation
    nats = (-2 * x_0 * x_0 - 0.5 * math.log(2 * math.pi * 0.25)).mean((1, 2))
    np.testing.assert_allclose(model.bits_per_dimension(x, tolerance=1e-5), -nats / math.log(2) + 7, atol=1e-2)


def test_hutchinson_agrees_with_the_exact_divergence():
    model = Diffusion.new(image=(6,), network="dense", channels=16, blocks=1, schedule="straight", seed=12)
    x = np.random.default_rng(12).standard_normal((3, 6), np.float32)
    exact, estimate = (model.log_likelihood(x, exact=e, probes=200, tolerance=1e-2) for e in (True, False))
    assert np.abs(exact - estimate).max() < 0.5 and np.abs(exact - model.log_likelihood(x, exact=False, tolerance=1e-2)).max() > 1e-3


def test_inpainting_keeps_what_is_known():
    model = small(classes=3)
    x = np.random.default_rng(13).random((2, 8, 8)).astype(np.float32)
    mask = np.zeros((8, 8), bool)
    mask[:, :4] = True
    y = model.inpaint(x, mask, digit=[0, 1], evaluations=4, repeats=2)
    np.testing.assert_allclose(y[:, mask], x[:, mask], atol=1e-6)
    steps = list(model.steps(2, digit=1, sampler="ddim", eta=1.0, evaluations=3, known=model.to_network_range(x),
                             mask=np.broadcast_to(mask, x.shape), repeats=2))
    assert [s.sampler for s in steps].count("back") == 2
    assert all(s.equals(s.replay()) for s in steps)


def test_a_weak_edit_stays_near_the_picture():
    model = Knowing.new(**SMALL)
    x = np.random.default_rng(14).random((1, 8, 8)).astype(np.float32)
    model.picture = 2 * x - 1
    np.testing.assert_allclose(model.edit(x, 0.3, evaluations=5), x, atol=1e-4)
    first = next(small().steps(x_1=model.picture, start=0.3, evaluations=5))
    assert first.t == 0.3


def test_encoding_is_undone_by_decoding_and_interpolation_ends_are_reconstructions():
    model = points(Normal, "straight")
    a, b = np.array([0.3, -0.2], np.float32), np.array([-0.5, 0.6], np.float32)
    code = model.encode(np.stack([a, b]))
    np.testing.assert_allclose(model.decode(code), np.stack([a, b]), atol=2e-3)
    line = model.interpolate(a, b, 5)
    np.testing.assert_allclose(line[[0, -1]], model.decode(code), atol=1e-5)
    arc = great_circle(code[0], code[1], 3)
    np.testing.assert_array_equal(arc[0], code[0])


def test_training_learns_and_the_same_seed_gives_the_same_run():
    def run(steps):
        model = Diffusion.new(image=(2,), network="dense", channels=32, blocks=2, schedule="straight", sampler="heun", evaluations=20,
                              seed=1)
        trainer = make_trainer(model, "ring", DiffusionTraining(steps=steps, batch_size=256, lr=3e-3, average=0.99), seed=2)
        return model, [record.losses["loss"] for record in trainer]

    assert run(5)[1] == run(5)[1]
    model, _ = run(200)
    radius = np.linalg.norm(model.eval().sample(500, seed=0), axis=1)
    assert np.mean(np.abs(radius - 1) < 0.25) > 0.8
    noise = np.linalg.norm(np.random.default_rng(0).standard_normal((500, 2)), axis=1)
    assert np.mean(np.abs(noise - 1) < 0.25) < 0.4  # so the test can fail


def test_optimal_pairs_are_nearer_than_any_other():
    rng = np.random.default_rng(15)
    x, y = rng.standard_normal((6, 2)), rng.standard_normal((6, 2))
    cost = lambda order: ((x - y[order]) ** 2).sum()
    best = optimal_pairs(x, y)
    assert sorted(best) == list(range(6))
    assert all(cost(best) <= cost(rng.permutation(6)) + 1e-12 for _ in range(200))


def test_coupled_batches_are_pairs_of_one_pool():
    model = Diffusion.new(**{k: v for k, v in PRESETS["moons-optimal"].items() if k in DiffusionConfig.__dataclass_fields__})
    trainer = make_trainer(model, "moons", DiffusionTraining(steps=8, batch_size=64, pool=256, coupling="optimal"))
    batches = [trainer.batches(i, None) for i in range(4)]
    assert all(isinstance(b, Pairs) and b.x_0.shape == b.noise.shape == (64, 2) for b in batches)
    x, y = (np.concatenate([getattr(b, name) for b in batches]) for name in ("x_0", "noise"))
    np.testing.assert_array_equal(optimal_pairs(x, y), np.arange(256))
    assert math.isclose(squared_wasserstein(x, y), ((x - y) ** 2).sum(1).mean(), rel_tol=1e-5)
    assert math.isfinite(float(model.loss(batches[0], np.random.default_rng(0))["loss"]))


@pytest.mark.parametrize("network", NETWORKS)
def test_saved_and_loaded_it_draws_the_same(tmp_path, network):
    model = small(classes=3, **NETWORKS[network])
    model.save(tmp_path / "m")
    again = zoo.load(tmp_path / "m")
    np.testing.assert_array_equal(model.eval().sample(2, digit=1, evaluations=3), again.sample(2, digit=1, evaluations=3))


OLD_NAMES = {"unet": {"conv_in": "into", "downsample": "shrink", "conv_out": "out"}, "transformer": {"patch_embedding": "into", "patch_output": "out"},
             "dense": {"linear_in": "into", "linear_out": "out"}}


def with_old_names(arrays, network):
    """Arrays as files of version 0.1.0 have them."""
    old = OLD_NAMES[network]
    return {".".join(["network", old.get(name.split(".")[1], name.split(".")[1]), *name.split(".")[2:]]): a for name, a in arrays.items()}


@pytest.mark.parametrize("network", NETWORKS)
def test_folders_and_checkpoints_with_old_names_of_arrays_still_load(tmp_path, network):
    model = small(classes=3, **NETWORKS[network])
    arrays = model.arrays()
    renamed = with_old_names(arrays, network)
    assert len(set(renamed) - set(arrays)) >= 4
    model.save(tmp_path / "new")
    save_folder(tmp_path / "old", renamed, json.loads((tmp_path / "new" / "card.json").read_text()))
    again = zoo.load(tmp_path / "old")
    assert all(np.array_equal(a, again.arrays()[name]) for name, a in arrays.items())
    fresh = Diffusion.new(classes=3, **{**SMALL, **NETWORKS[network]})
    fresh.load_arrays(renamed)  # as a resumed run does
    assert all(np.array_equal(a, fresh.arrays()[name]) for name, a in arrays.items())
    first = next(iter(renamed))
    with pytest.raises(ValueError, match="missing"):
        fresh.load_arrays({name: a for name, a in renamed.items() if name != first})


def test_error_by_t_is_nothing_for_one_who_knows():
    model = Knowing.new(**SMALL)
    x = np.random.default_rng(16).random((4, 8, 8)).astype(np.float32)
    model.picture = 2 * x - 1
    errors = model.error_by_t(x)
    assert errors["loss"].shape == errors["t"].shape and max(errors["x_0"].max(), errors["noise"].max()) < 1e-5


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_configurations(name):
    fields, training = {}, {}
    for key, value in PRESETS[name].items():
        (fields if key in DiffusionConfig.__dataclass_fields__ else training)[key] = value
    DiffusionTraining.make(**training)
    if "image" in fields:
        Diffusion.new(**fields)
    else:
        DiffusionConfig.make(**fields)


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_of_every_network_are_the_finite_differences(network):
    """In float64, along one direction in the space of all weights; colours, several blocks and attention among them."""
    model = small(**{**NETWORKS[network], "heads": 2, "blocks": 2, "classes": 3, "image": (2,) if network == "dense" else (8, 8, 3)})
    parameters = model.parameters()
    rng = np.random.default_rng(17)
    for p in parameters:
        p.data = p.data.astype(np.float64)
    x, target = (rng.standard_normal((3, *model.config.image)) for _ in range(2))
    loss = lambda: ops.mse(model.predict(ops.Tensor(x), np.array([0.2, 0.5, 0.9]), np.array([0, 2, 3])), target)
    loss().backward()
    assert not [name for name, p in model.named_parameters().items() if p.grad is None or not np.isfinite(p.grad).all()]
    directions = [rng.standard_normal(p.shape) for p in parameters]
    slope = sum((p.grad * d).sum() for p, d in zip(parameters, directions))
    found = []
    for size in (1e-5, -1e-5):
        for p, d in zip(parameters, directions):
            p.data += size * d
        found.append(float(loss().data))
        for p, d in zip(parameters, directions):
            p.data -= size * d
    np.testing.assert_allclose((found[0] - found[1]) / 2e-5, slope, rtol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path, network, optimiser):
    def run(folder, stops, **options):
        model = Diffusion.new(seed=1, **{**NETWORKS[network], "classes": 3, "channels": 8})
        rng = np.random.default_rng(19)
        x = rng.random((32, *model.config.image)).astype(np.float32)
        data = Images(x, np.arange(32) % 3, x[:4], np.arange(4) % 3, "made up")
        trainer = make_trainer(model, data, DiffusionTraining(steps=6, batch_size=8, optimiser=optimiser, average=0.9), folder=folder, **options)
        for record in trainer:
            if record.step == stops:
                trainer.checkpoint()
                break
        return [*model.arrays().values(), *trainer.average.values]

    whole = run(tmp_path / "whole", 6)
    run(tmp_path / "parts", 3)
    for a, b in zip(whole, run(tmp_path / "parts", 6, resume=True)):
        np.testing.assert_array_equal(a, b)


def test_patches_and_picture_undo_each_other():
    x = np.arange(2 * 8 * 12 * 3, dtype=np.float32).reshape(2, 8, 12, 3)
    tokens = dit.patches(x, 4)
    np.testing.assert_array_equal(tokens[1, 2].reshape(4, 4, 3), x[1, :4, 8:])
    np.testing.assert_array_equal(dit.picture(tokens, 4, x.shape), x)


def test_a_transformer_starts_at_zero_and_its_blocks_as_the_identity():
    model = Diffusion.new(**NETWORKS["transformer"])
    x = np.random.default_rng(20).standard_normal((2, 8, 8), np.float32)
    assert not np.any(model.predict(x, np.array([0.1, 0.9])).data)
    h, e = np.random.default_rng(21).standard_normal((2, 4, 8), np.float32), np.ones((2, 1, 8), np.float32)
    np.testing.assert_array_equal(model.network.blocks[0](h, e).data, h)


def test_a_unet_starts_at_zero_and_its_blocks_as_their_skip_connections():
    """Ho et al. (2020), whose code begins the last layer of every block, of the attention and of the network at 0."""
    rng, e = np.random.default_rng(23), np.ones((2, 32), np.float32)
    x = rng.standard_normal((2, 6, 6, 8), np.float32)
    for outputs in (8, 16):
        block = unet.Residual(8, outputs, 32, rng=rng)
        np.testing.assert_array_equal(block(x, e).data, x if outputs == 8 else block.skip(x).data)
    np.testing.assert_array_equal(unet.Attention(8, 2, rng=rng)(x).data, x)
    assert not np.any(Diffusion.new(**SMALL).predict(np.ones((2, 8, 8), np.float32), np.array([0.1, 0.9])).data)


def test_a_unets_attention_is_that_of_vaswani_et_al_over_all_pixels_of_a_picture():
    rng = np.random.default_rng(24)
    layer = unet.Attention(8, 2, rng=rng)
    layer.output.weight.data[...] = rng.standard_normal((8, 8))
    x = rng.standard_normal((2, 3, 3, 8), np.float32)
    for i in range(2):
        pixels = layer.norm(x[i : i + 1]).data.reshape(9, 8)
        q, k, v = np.split(pixels @ layer.query_key_value.weight.data + layer.query_key_value.bias.data, 3, axis=1)
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            weights = np.exp(q[:, part] @ k[:, part].T / math.sqrt(4))
            heads.append(weights / weights.sum(1, keepdims=True) @ v[:, part])
        expected = x[i].reshape(9, 8) + np.concatenate(heads, axis=1) @ layer.output.weight.data + layer.output.bias.data
        np.testing.assert_allclose(layer(x).data[i].reshape(9, 8), expected, atol=1e-5)


def test_a_unet_halves_the_side_at_each_level_and_joins_what_it_saw_there():
    """Widths of the levels, and what each level on the way up is given: the level below, upsampled, beside its own output going down."""
    network = Diffusion.new(image=(8, 8, 3), channels=8, multipliers=(1, 2, 3), blocks=2, heads=2).network
    widths = [8, 16, 24]
    assert network.condition.inner.weight.shape == (8, 32) and network.conv_in.weight.shape == (3, 3, 3, 8)
    assert [[b.conv1.weight.shape[2:] for b in level.blocks] for level in network.down] == [[(8, 8), (8, 8)], [(8, 16), (16, 16)], [(16, 24), (24, 24)]]
    assert [layer.weight.shape for layer in network.downsample] == [(3, 3, c, c) for c in widths]
    assert [[b.conv1.weight.shape[2:] for b in level.blocks] for level in network.up] == [
        [(48, 24), (24, 24)], [(40, 16), (16, 16)], [(24, 8), (8, 8)]]
    assert [layer(np.zeros((1, 8, 8, c), np.float32)).shape for layer, c in zip(network.downsample, widths)] == [(1, 4, 4, c) for c in widths]


def test_without_positions_patches_that_change_places_change_nothing_else():
    network = small(**NETWORKS["transformer"]).network
    x, t = np.random.default_rng(22).standard_normal((1, 8, 8, 1), np.float32), np.array([500.0])
    turned = x[:, [4, 5, 6, 7, 0, 1, 2, 3]]  # the upper two patches below the lower two
    for bare in (False, True):
        if bare:
            network._positions = np.zeros_like(network._positions)
        y, y_turned = (np.asarray(network(z, t).data) for z in (x, turned))
        same = np.allclose(y[:, [4, 5, 6, 7, 0, 1, 2, 3]], y_turned, atol=1e-4)
        assert same == bare


# --- over a VAE's latents


@pytest.fixture(scope="module")
def latent(tmp_path_factory):
    """A model of the latents of a small VAE that lies in a folder, and the pictures that it was made for."""
    folder = tmp_path_factory.mktemp("latent") / "vae"
    pictures = np.random.default_rng(30).random((40, 8, 8)).astype(np.float32)
    VAE.new(image=(8, 8), latent=(3,), hidden=(12,), seed=2).save(folder)
    data = Images(pictures, np.arange(40) % 3, pictures[:9], np.arange(9) % 3, "made up")
    model = Diffusion.for_data(data, autoencoder=str(folder), network="dense", channels=16, blocks=2, classes=3, schedule="straight", seed=3)
    return model, data


def test_latents_are_the_means_of_the_vae_with_mean_0_and_deviation_1(latent):
    model, data = latent
    x_0 = model.to_network_range(data.train)
    mean = zoo.load(model.config.autoencoder).encode(data.train)[0].data
    np.testing.assert_allclose(x_0, (mean - mean.mean(0)) / np.maximum(mean.std(0), 0.1), atol=1e-5)
    assert model.config.image == (3,) and np.abs(x_0.mean(0)).max() < 1e-5
    np.testing.assert_allclose(model.to_pictures(x_0), zoo.load(model.config.autoencoder).reconstruct(data.train), atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddpm", "heun", "dopri5"])
def test_steps_over_latents_show_the_decoded_picture_and_replay(latent, sampler):
    model, _ = latent
    steps = list(model.steps(2, seed=1, digit=1, sampler=sampler, evaluations=5, guidance=2.0, tolerance=1.0))
    for step in steps:
        assert step.x_t.shape == (2, 3) and step.picture.shape == (2, 8, 8)
        np.testing.assert_array_equal(step.picture, model.to_pictures(step.x_0_predicted))
        assert step.equals(step.replay())
    sample = model.sample(2, seed=1, digit=1, sampler=sampler, evaluations=5, guidance=2.0, tolerance=1.0)
    np.testing.assert_array_equal(sample, model.to_pictures(steps[-1].x_previous))
    assert sample.min() >= 0 and sample.max() <= 1


def test_a_model_of_latents_trains_finds_its_vae_again_and_edits(latent, tmp_path):
    model, data = latent
    trainer = make_trainer(model, data, DiffusionTraining(steps=3, batch_size=8), folder=tmp_path / "run")
    assert math.isfinite(trainer.run(progress=False)["test_loss"])
    trainer.save_model()
    again = zoo.load(tmp_path / "run")
    trainer.average.swap()
    np.testing.assert_array_equal(model.eval().sample(2, evaluations=3), again.sample(2, evaluations=3))
    assert not [name for name in again.arrays() if "vae" in name] and {"latents.mean", "latents.deviation"} <= set(again.arrays())
    assert again.edit(data.test, 0.5, digit=0, evaluations=3).shape == data.test.shape
    assert again.interpolate(data.test[0], data.test[1], 4, digit=0, evaluations=3).shape == (4, 8, 8)
    np.testing.assert_allclose(again.log_likelihood(again.to_network_range(data.test), digit=0, tolerance=1e-2).shape, (9,))


def test_what_latents_cannot_do_is_said(latent, tmp_path):
    model, data = latent
    x, folder = data.test, str(model.config.autoencoder)
    bad("inpaint: this is a model of latents", model.inpaint, x, np.ones((8, 8), bool))
    bad("no grey levels", model.bits_per_dimension, x)
    bad("likelihoods: is 3", model.evaluate, data, likelihoods=3)
    bad(r"this model takes \(n, 8, 8\)", model.to_network_range, x[:, :4])
    bad("'moons' are points", Diffusion.for_data, "moons", autoencoder=folder, network="dense")
    bad("'unet' and image", Diffusion.for_data, data, autoencoder=folder)
    bad(r"latents of '.*' are \(3,\)", Diffusion.new, image=(4,), autoencoder=folder, network="dense")
    bad("dequantise is True", Diffusion.for_data, data, autoencoder=folder, network="dense", dequantise=True)
    bad("neither a folder nor a VAE that ships", Diffusion.new, image=(3,), autoencoder="nowhere", network="dense", error=FileNotFoundError)
    model.save(tmp_path / "model")
    bad("of kind 'diffusion'", Diffusion.new, image=(3,), autoencoder=str(tmp_path / "model"), network="dense")
    VAE.new(image=(8, 8), latent=(3,), hidden=(12,), classes=3).save(tmp_path / "conditional")
    bad("conditional on 3 classes", Diffusion.for_data, data, autoencoder=str(tmp_path / "conditional"), network="dense")
    zoo.load(folder).save(tmp_path / "kept")
    model.save(tmp_path / "other")
    card = json.loads((tmp_path / "other" / "card.json").read_text("utf-8"))
    card["configuration"]["autoencoder"] = "(a+)+$"
    (tmp_path / "other" / "card.json").write_text(json.dumps(card), "utf-8")
    bad(r"other: autoencoder: is '\(a\+\)\+\$'", zoo.load, tmp_path / "other", error=FileNotFoundError)
    VAE.new(image=(8, 8), latent=(3,), hidden=(12,), seed=4).save(folder)
    bad("isn't the one whose latents this model learned", zoo.load, tmp_path / "model", error=WrongFile)
    zoo.load(tmp_path / "kept").save(folder)
    assert zoo.load(tmp_path / "model").config == model.config


def test_norms_bound_what_a_dense_network_says_of_points_far_outside():
    far = 1e6 * np.ones((4, 2), np.float32)
    said = {}
    for norms in (False, True):
        model = Diffusion.new(image=(2,), network="dense", channels=16, blocks=2, norms=norms)
        for p in model.parameters():
            p.data += np.random.default_rng(0).normal(0, 0.2, p.shape).astype(np.float32)
        said[norms] = np.abs(model.predict(far, np.full(4, 0.5)).data).max()
    assert said[True] < 20 < 1e4 < said[False]


def bad(message, call, *args, error=ValueError, **kwargs):
    with pytest.raises(error, match=message):
        call(*args, **kwargs)


def test_bad_input_says_what_is_wrong():
    model, conditional = small(), small(classes=3)
    x = np.full((1, 8, 8), 0.5, np.float32)
    bad("mask: shape is", model.inpaint, x, np.ones((4, 4), bool))
    bad("mask: dtype is", model.inpaint, x, np.ones((8, 8)))
    bad("mask: is True everywhere", model.inpaint, x, np.ones((8, 8), bool))
    bad("doesn't end in noise", Diffusion.new, **SMALL, schedule="linear", T=100)
    for name, value in (("classes", -1), ("heads", -1), ("channels", 0), ("blocks", 0), ("evaluations", 0), ("multipliers", ()), ("multipliers", (1, 0))):
        bad(rf"DiffusionConfig: {name} is {re.escape(str(value))}; it is at least", Diffusion.new, **{**SMALL, name: value})
    bad("unlabelled is 2.0; it is at least 0 and at most 1", Diffusion.new, **SMALL, unlabelled=2.0)
    bad("only 'dense' has the choice", Diffusion.new, **SMALL, norms=True)
    bad("T = 1000", model.sample, 1, evaluations=1001)
    bad("at least 1", model.sample, 1, evaluations=-1)
    bad("evaluations is 0", model.sample, 1, evaluations=0)
    bad("evaluations is 2.5", model.sample, 1, evaluations=2.5)
    bad("n is 0", model.sample, 0)
    bad("guidance: is 'much'", conditional.sample, 1, guidance="much")
    bad("guidance: is nan", conditional.sample, 1, guidance=math.nan)
    bad("no digit is given", conditional.decode, x, guidance=2.0)
    bad("start: is 1.5", model.sample, 1, start=1.5)
    bad("spacing: is 0", model.sample, 1, spacing=0)
    bad("tolerance: is -1", model.sample, 1, tolerance=-1, sampler="dopri5")
    bad(r"x_1: shape is \(1, 4, 8\)", model.sample, x_1=x[:, :4])
    bad("at least 2", model.sample, 1, evaluations=1, sampler="midpoint")
    bad("guidance", model.sample, 1, guidance=2.0)
    bad("digit", model.sample, 1, digit=1)
    bad("may go from 0 to 2", conditional.sample, 1, digit=3)
    bad(r"must lie in \[0, 1\]", model.loss, 2 * x + 0.2, np.random.default_rng(0))
    bad(r"must lie in \[0, 1\]", model.edit, -x, 0.5)
    bad("strength", model.edit, x, 0.0)
    bad("this model takes", model.loss, x[:, :4], np.random.default_rng(0))
    bad("sampler: is 'plms'", model.sample, 1, sampler="plms")
    bad("needs labels", conditional.loss, x, np.random.default_rng(0))
    bad("prediction is 'noise'", Diffusion.new, **SMALL, schedule="straight", prediction="noise")
    bad("4 divides", Diffusion.new, **{**SMALL, "image": (10, 10)})
    bad("eta", model.sample, 1, eta=0.5, sampler="heun")
    bad("eight_gaussians", Diffusion.new, **SMALL, source="eight_gaussians")
    transformer = NETWORKS["transformer"]
    bad("patch is 3", Diffusion.new, **transformer, patch=3)
    one = Diffusion.new(**{**transformer, "image": (4, 4), "patch": 1})  # the least that there is: a token for each pixel
    assert one.network.patch_embedding.weight.shape[0] == 1 and one.sample(1, evaluations=1).shape == (1, 4, 4)
    bad("heads is 0", Diffusion.new, **{**transformer, "heads": 0})
    bad("heads is 3", Diffusion.new, **{**transformer, "heads": 3})
    bad("'transformer' and image", Diffusion.new, **{**transformer, "image": (2,)})


# --- pictures


def test_a_strip_has_two_rows_for_each_sample_and_a_gif_a_frame_for_each_step(tmp_path, latent):
    from PIL import Image

    model = small(classes=3)
    ax = figures.denoising(model, model.steps(2, evaluations=9), columns=4)
    assert ax.images[0].get_array().shape == (4 * 10 + 2, 4 * 10 + 2)
    for made, settings in ((model, {"evaluations": 5}), (latent[0], {"digit": 1, "evaluations": 5, "sampler": "ddim"})):
        figures.denoising_gif(tmp_path / "x.gif", made, made.steps(4, **settings), scale=3)
        with Image.open(tmp_path / "x.gif") as gif:
            assert gif.n_frames == 6 and gif.size == (3 * 2 * 22, 3 * 22)
    assert figures.frames(latent[0].steps(2, digit=1, evaluations=3, sampler="ddim"))[0].shape == (12, 22)
    bad("draws points", figures.denoising, points(Diffusion), points(Diffusion).steps(2, evaluations=2))
    bad("no record", figures.denoising, model, [])


def test_arrows_of_a_flow_are_its_velocity_and_trajectories_its_steps():
    model = points(Normal, "straight")
    ax = figures.flow(model, 0.5, arrows=5)
    arrows = ax.collections[0]
    x = np.asarray(arrows.get_offsets(), np.float32)
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], 1), -model.velocity(x, 0.5), atol=1e-6)
    d = 1e-3  # the exact flow of normal data keeps x in units of its deviation
    deviation = lambda t: np.hypot(0.5 * (1 - t), t)
    np.testing.assert_allclose(model.velocity(x, 0.5), x * (deviation(0.5 + d) - deviation(0.5 - d)) / (2 * d) / deviation(0.5), atol=1e-4)
    ax = figures.trajectories(model.steps(7, sampler="euler", evaluations=4))
    assert len(ax.lines) == 7 and len(ax.lines[0].get_xdata()) == 5
    bad("points of the plane", figures.trajectories, small().steps(1, evaluations=1))
    bad("points of the plane", figures.flow, small(), 0.5)


# --- on the command line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A transformer and a model of latents, trained for two steps each, by the command line."""
    folder = tmp_path_factory.mktemp("diffusion")
    VAE.new(image=(8, 8), latent=(3,), hidden=(12,)).save(folder / "vae")
    few = ["--data", "digits8x8", "--quiet", "--steps", "2", "--batch-size", "8"]
    small = ["--preset", "dit", "--channels", "8", "--blocks", "1", "--heads", "2"]
    assert main(["train", "diffusion", *few, *small, "--out", str(folder / "dit")]) == 0
    small = ["--preset", "latent", "--autoencoder", str(folder / "vae"), "--channels", "8", "--blocks", "1"]
    assert main(["train", "diffusion", *few, *small, "--out", str(folder / "latent")]) == 0
    return folder


@pytest.mark.parametrize("name", ["dit", "latent"])
def test_sampling_by_the_words_of_its_settings(trained, name, tmp_path, capsys):
    words = ["sample", str(trained / name), "-n", "2", "--digit", "3", "--sampler", "ddim", "--evaluations", "3", "--guidance", "2", "--eta", "0.5"]
    assert main([*words, "--out", str(tmp_path / "x.npz")]) == 0
    expected = zoo.load(trained / name).sample(2, digit=3, sampler="ddim", evaluations=3, guidance=2, eta=0.5)
    assert np.array_equal(np.load(tmp_path / "x.npz")["images"], expected)
    capsys.readouterr()
    assert main([*words, "--steps", "--out", str(tmp_path / "y.png")]) == 0
    assert capsys.readouterr().out.count("DiffusionStep") == 3


@pytest.mark.parametrize(("words", "message"), [
    ("--sampler plms", "sampler: is 'plms'; it may be ddpm, ddim"),
    ("--evaluations 2001", "T = 1000"),
    ("--evaluations 0", "evaluations is 0; it is a whole number of at least 1"),
    ("--evaluations many", "evaluations is 'many'"),
    ("--guidance strong", "guidance: is 'strong'; it is a number"),
    ("--digit 10", "they may go from 0 to 9"),
    ("--eta 2 --sampler ddim", "eta: is 2; it is a number from 0 to 1"),
    ("--eta 0.5", "it is a setting of ddim"),
    ("--eta some", "eta: is 'some'"),
    ("--spacing wide", "spacing: is 'wide'"),
    ("--evaluation 3", "did you mean --evaluations?"),
])
def test_wrong_words_of_sampling_are_one_line(trained, capsys, words, message):
    assert main(["sample", str(trained / "dit"), "-n", "1", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_model_of_latents_whose_vae_is_gone_says_which(trained, capsys):
    (trained / "vae").rename(trained / "elsewhere")
    try:
        assert main(["sample", str(trained / "latent")]) == 2
        assert f"autoencoder: is '{trained / 'vae'}', which is neither a folder nor a VAE that ships" in capsys.readouterr().err
    finally:
        (trained / "elsewhere").rename(trained / "vae")


def test_the_table_of_steps_against_quality_goes_on_where_it_stopped(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent / "benchmarks")
    import steps_against_quality as sweep

    Classifier.new(image=(8, 8), channels=4, features=8).save(tmp_path / "judge")
    words = [str(trained / "dit"), "--n", "20", "--classifier", str(tmp_path / "judge"), "--json", str(tmp_path / "x.json"), "--batch", "15"]
    sweep.main([*words, "--samplers", "ddpm", "midpoint", "--evaluations", "3", "1"])
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert [(r["sampler"], r["asked for"], r["evaluations"]) for r in rows] == [("ddpm", 1, 1), ("ddpm", 3, 3), ("midpoint", 3, 2)]
    assert all(math.isfinite(r["frechet"]) and 0 <= r["coverage"] <= 1 and r["nearest_training_floor_median"] > 0 for r in rows)
    drawn, draw = [], sweep.draw
    monkeypatch.setattr(sweep, "draw", lambda *args, **settings: drawn.append(settings) or draw(*args, **settings))
    capsys.readouterr()
    sweep.main([*words, "--samplers", "ddpm", "heun", "--evaluations", "3", "1", "--plot", str(tmp_path / "x.png")])
    out = capsys.readouterr().out
    assert [(k["sampler"], k["evaluations"]) for k in drawn] == [("heun", 1), ("heun", 3)] and out.count("heun") >= 2 and "3-step DDPM" in out
    assert (tmp_path / "x.png").stat().st_size > 1000
    with pytest.raises(SystemExit, match="seed 0, now 1"):
        sweep.main([*words, "--seed", "1"])


@pytest.mark.parametrize("name", TOYS)
def test_toys_are_points_that_depend_on_the_generator_alone(name):
    a, b = (TOYS[name](101, np.random.default_rng(3)) for _ in range(2))
    assert a.shape == (101, 2) and a.dtype == np.float32 and np.isfinite(a).all()
    np.testing.assert_array_equal(a, b)


def test_moons_have_two_halves():
    x = moons(1000, np.random.default_rng(0))
    assert abs(x[:, 0].mean() - 0.5) < 0.15 and abs(x[:, 1].mean() + 0.25) < 0.15


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_in_pure_definitions_equals_its_kernels(network):
    model = small(**NETWORKS[network])
    x, t = np.random.default_rng(18).standard_normal((5, *model.config.image), np.float32), np.linspace(0.1, 0.9, 5)
    fast = model.predict(x, t).data
    with zoo.trace(model) as seen:
        slow = model.predict(ops.Tensor(x), t).data
    assert len(seen) > 10
    np.testing.assert_allclose(fast, slow, atol=1e-5)
