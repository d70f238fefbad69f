"""What the papers of diffusion fix, number by number: schedules, samplers, solvers, times, embeddings, guidance, presets.

Most tests compute the paper's formula themselves, in its own symbols: alpha_bar for alpha^2, a chain of T steps, and so on.
"""

from __future__ import annotations

import json
import math
import shlex
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import RK45
from scipy.special import logit, ndtr

import zoo
from zoo import storage
from zoo.autograd.runtime import use_kernels
from zoo.diffusion import Diffusion, DiffusionConfig
from zoo.model import great_circle, straight_line
from zoo.parts.denoising import dormand_prince, samplers
from zoo.parts.denoising.paths import make_path
from zoo.parts.denoising.samplers import Estimate
from zoo.parts.denoising.unet import GROUPS, Condition, sinusoids
from zoo.recipes import recipe_of

T = 1000
SCHEDULES = ("linear", "cosine", "straight")
RNG = np.random.default_rng(0)


def path_of(schedule):
    c = DiffusionConfig()
    return make_path(schedule, c.T, c.beta_1, c.beta_T)


# --- schedules


def test_the_linear_schedules_beta_is_that_of_ho_et_al_at_both_ends_and_in_between():
    c, path = DiffusionConfig(), path_of("linear")
    assert (c.T, c.beta_1, c.beta_T) == (1000, 1e-4, 0.02)  # section 4
    t = np.linspace(0.001, 1, 1000)
    d = 1e-6
    beta = -(np.log(path.alpha(t + d) ** 2) - np.log(path.alpha(t - d) ** 2)) / (2 * d) / T
    np.testing.assert_allclose(beta, 1e-4 + t * (0.02 - 1e-4), rtol=1e-6)
    chain = np.cumprod(1 - np.linspace(1e-4, 0.02, T))  # alpha_bar of their chain, which steps where this path is continuous
    np.testing.assert_allclose(np.log(path.alpha(t) ** 2), np.log(chain), rtol=0.02, atol=1e-4)
    np.testing.assert_allclose(path.alpha(t) ** 2 + path.sigma(t) ** 2, 1, rtol=1e-12)


def test_the_cosine_schedule_is_equation_17_and_ends_at_1e_4():
    path = path_of("cosine")
    t = np.arange(T + 1) / T
    assert path.alpha(1.0) ** 2 == pytest.approx(1e-4, rel=1e-9) and path.alpha(0.0) == 1
    start = 0.008 / 1.008 * math.pi / 2
    end = math.acos(math.sqrt(1e-4) * math.cos(start))
    np.testing.assert_allclose(path.alpha(t) ** 2, np.cos(start + t * (end - start)) ** 2 / np.cos(start) ** 2, rtol=1e-9)
    f = lambda t: np.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    assert np.abs(path.alpha(t) ** 2 - f(t) / f(0)).max() < 0.01  # theirs ends at 0, where no x_0 follows from a predicted noise


def test_the_straight_path_is_straight():
    path, t = path_of("straight"), np.linspace(0, 1, 11)
    np.testing.assert_array_equal(path.alpha(t), 1 - t)
    np.testing.assert_array_equal(path.sigma(t), t)
    assert path.v_weights(0.3) == (-1, 1) and path.derivatives(0.3) == (-1, 1)


def test_times_begin_where_a_chain_begins():
    assert [path_of(s).t_min for s in SCHEDULES] == [1 / T, 1 / T, 0]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_v_is_that_of_salimans_and_ho(schedule):
    path = path_of(schedule)
    t = np.linspace(0.01, 1, 50)
    np.testing.assert_array_equal(path.v_weights(t), (-path.sigma(t), path.alpha(t)))  # v = alpha noise - sigma x_0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_log_snr_is_the_logarithm_of_alpha_over_sigma(schedule):
    path = path_of(schedule)
    for t in (0.1, 0.5, 0.9):
        assert path.log_snr(t) == pytest.approx(math.log(path.alpha(t) / path.sigma(t)))
    assert path.log_snr(0.0) == math.inf
    assert path_of("straight").log_snr(1.0) == -math.inf


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_path_that_does_not_end_in_noise_is_refused(schedule):
    assert path_of(schedule).alpha(1.0) < 0.05
    if schedule == "linear":
        with pytest.raises(ValueError, match="doesn't end in noise"):
            make_path("linear", 200, 1e-4, 0.02)
        with pytest.raises(ValueError, match="at t = 1, 0.052 of the picture is left"):
            make_path("linear", 100, 1e-4, 0.118)
        assert 0.049 < make_path("linear", 100, 1e-4, 0.12).alpha(1.0) < 0.05
        assert make_path("linear", 400, 1e-4, 0.05).alpha(1.0) < 0.05


# --- one step from t to s, beside the papers' formulas


x_t, x_0, noise, before_x_0 = (RNG.standard_normal((3, 4)).astype(np.float32) for _ in range(4))


def told(x, at):
    return Estimate(x, x_0, noise)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("t,s", [(0.5, 0.499), (0.9, 0.3), (1.0, 0.8), (0.001, 0.0)])
def test_ddpm_steps_by_equation_7_of_ho_et_al(schedule, t, s):
    path = path_of(schedule)
    bar_t, bar_s = path.alpha(t) ** 2, path.alpha(s) ** 2
    alpha_t = bar_t / bar_s
    beta_t = 1 - alpha_t
    mean = math.sqrt(bar_s) * beta_t / (1 - bar_t) * x_0 + math.sqrt(alpha_t) * (1 - bar_s) / (1 - bar_t) * x_t
    np.testing.assert_allclose(samplers.ddpm(told, path, t, s, x_t).mean, mean, rtol=1e-4, atol=1e-5)
    assert samplers.deviation_of("ddpm", path, t, s, 0.3) == pytest.approx(math.sqrt((1 - bar_s) / (1 - bar_t) * beta_t), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("t,s", [(0.9, 0.3), (1.0, 0.8), (0.2, 0.0)])
def test_ddim_steps_by_equations_12_and_16_of_song_et_al(schedule, eta, t, s):
    path = path_of(schedule)
    bar_t, bar_s = path.alpha(t) ** 2, path.alpha(s) ** 2
    deviation = eta * math.sqrt((1 - bar_s) / (1 - bar_t)) * math.sqrt(1 - bar_t / bar_s)
    assert samplers.deviation_of("ddim", path, t, s, eta) == pytest.approx(deviation, abs=1e-9)
    mean = math.sqrt(bar_s) * x_0 + math.sqrt(1 - bar_s - deviation**2) * noise
    np.testing.assert_allclose(samplers.ddim(told, path, t, s, x_t, deviation=deviation).mean, mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sampler", ["dpm-solver++", "euler", "heun", "midpoint"])
def test_the_others_draw_nothing(sampler):
    assert samplers.deviation_of(sampler, path_of("cosine"), 0.9, 0.3, 1.0) == 0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_dpm_solver_steps_by_algorithm_2_of_lu_et_al(schedule):
    path, (t_before, t, s) = path_of(schedule), (0.8, 0.55, 0.4)
    lambdas = [math.log(path.alpha(at) / path.sigma(at)) for at in (t_before, t, s)]
    h = lambdas[2] - lambdas[1]
    r = (lambdas[1] - lambdas[0]) / h
    D = (1 + 1 / (2 * r)) * x_0 - 1 / (2 * r) * before_x_0
    step = lambda D: path.sigma(s) / path.sigma(t) * x_t - path.alpha(s) * (math.exp(-h) - 1) * D
    np.testing.assert_allclose(samplers.dpm_solver(told, path, t, s, x_t, previous=(t_before, before_x_0)).mean, step(D), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(samplers.dpm_solver(told, path, t, s, x_t).mean, step(x_0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(samplers.dpm_solver(told, path, t, 0.0, x_t, previous=(t_before, before_x_0)).mean, x_0, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler,degree", [("euler", 0), ("heun", 1), ("midpoint", 1)])
def test_solvers_are_exact_where_the_slope_is_a_line_in_the_odes_time(schedule, sampler, degree):
    """y = x / scale against tau, with dy/dtau = a + b tau: y grows by a tau + b tau^2 / 2, which a method of order 2 hits."""
    path, t, s = path_of(schedule), 0.8, 0.35
    (scale, tau), (scale_s, tau_s) = (path.ode_coordinates(at) for at in (t, s))
    if schedule == "straight":
        assert (scale, tau) == (1, t) and path.ode_velocity(2.0, 5.0) == 3.0
    else:
        assert (scale, tau) == (path.alpha(t), path.sigma(t) / path.alpha(t)) and path.ode_velocity(2.0, 5.0) == 5.0
    a, b = 0.7, 0.9 * degree
    slope = lambda at: np.full((3, 4), a + b * path.ode_coordinates(at)[1], np.float32)
    answer = lambda x, at: Estimate(x, np.zeros_like(x), slope(at))  # of x_0 0, the slope is the noise on all paths
    asked = []
    update = samplers.SAMPLERS[sampler].step(lambda x, at: (asked.append(at), answer(x, at))[1], path, t, s, x_t)
    exact = scale_s * (x_t / scale + a * (tau_s - tau) + b * (tau_s**2 - tau**2) / 2)
    np.testing.assert_allclose(update.mean, exact, rtol=1e-4, atol=1e-4)
    assert asked == {"euler": [t], "heun": [t, s], "midpoint": [t, (t + s) / 2]}[sampler] and update.evaluations == len(asked)


def test_heun_ends_with_an_euler_step():
    path = path_of("straight")
    update = samplers.heun(told, path, 0.4, 0.0, x_t)
    np.testing.assert_allclose(update.mean, x_t - 0.4 * (noise - x_0), rtol=1e-5, atol=1e-6)
    assert update.evaluations == 1 and update.slopes.shape == (1, 3, 4)


@pytest.mark.parametrize("sampler,order", [("euler", 1), ("ddim", 1), ("heun", 2), ("midpoint", 2), ("dpm-solver++", 2)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_errors_fall_at_least_with_the_order_of_the_method(sampler, order, schedule):
    """For normal data of deviation 1/2 the flow is known: x_t keeps its place in units of the deviation at t."""
    path = path_of(schedule)
    deviation = lambda t: math.hypot(0.5 * path.alpha(t), path.sigma(t))

    def best(x, t):
        share = 0.25 * path.alpha(t) / deviation(t) ** 2
        return Estimate(x, share * x, path.sigma(t) / deviation(t) ** 2 * x)

    def error(steps, t=0.9, s=0.2):
        x, previous = np.ones((1, 1)), None
        for a, b in pairwise(np.linspace(t, s, steps + 1)):
            update = samplers.SAMPLERS[sampler].step(best, path, float(a), float(b), x, previous=previous)
            x, previous = update.mean, (float(a), update.estimate.x_0)
        return abs(float(x[0, 0]) - deviation(s) / deviation(t))

    ratio = error(20) / error(40)
    assert ratio > 0.85 * 2**order


# --- the solver of Dormand & Prince


def test_dopri5_has_the_published_tableau():
    stages = np.zeros((6, 5))
    for i, row in enumerate(dormand_prince._STAGES[:6]):
        stages[i, : len(row)] = row
    np.testing.assert_allclose(stages, RK45.A, rtol=1e-14)
    np.testing.assert_allclose(dormand_prince._STAGES[6], RK45.B, rtol=1e-14)
    np.testing.assert_allclose(dormand_prince._NODES, [*RK45.C, 1], rtol=1e-14)
    np.testing.assert_allclose(dormand_prince._ERROR, -RK45.E, rtol=1e-14)
    for node, row in zip(dormand_prince._NODES, dormand_prince._STAGES):
        assert sum(row) == pytest.approx(node)
    nodes = np.array(dormand_prince._NODES)
    for k in range(4):
        assert np.dot(dormand_prince._ERROR, nodes**k) == pytest.approx(0, abs=1e-14)
        assert np.dot(dormand_prince._STAGES[6], nodes[:6] ** k) == pytest.approx(1 / (k + 1))


def test_a_step_of_dopri5_is_scipys_and_so_is_its_error():
    rate = lambda t, x: np.sin(3 * t) * x + np.cos(x)
    x, tolerance, h = np.array([0.3, -0.7, 1.1]), 1e-3, 0.4
    slopes = [rate(0.2, x)]
    for row, node in zip(RK45.A[1:], RK45.C[1:]):
        slopes.append(rate(0.2 + h * node, x + h * np.dot(row[: len(slopes)], slopes)))
    y = x + h * np.dot(RK45.B, slopes)
    slopes.append(rate(0.2 + h, y))
    error = h * np.dot(RK45.E, slopes) / (tolerance + tolerance * np.maximum(abs(x), abs(y)))
    for first in (None, slopes[0]):
        ours, measure, found = dormand_prince.dormand_prince(rate, 0.2, h, x, first, tolerance)
        np.testing.assert_allclose(ours, y, rtol=1e-6)
        np.testing.assert_allclose(found, slopes, rtol=1e-6)
        assert measure == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)


def test_the_next_step_aims_at_nine_tenths_and_is_held_between_a_fifth_and_five():
    assert dormand_prince.next_size(2.0, 1.0) == 1.8 and dormand_prince.next_size(-2.0, 32.0) == pytest.approx(-0.9)
    assert dormand_prince.next_size(1.0, 0.0) == 5 and dormand_prince.next_size(1.0, 1e9) == 0.2
    assert dormand_prince.next_size(1.0, 0.5**5) == pytest.approx(1.8)


@pytest.mark.parametrize("start,end", [(0.0, 1.0), (1.0, 0.0)])
def test_integration_meets_its_tolerance_and_counts_its_evaluations(start, end):
    asked = []

    def rate(t, x):
        assert min(start, end) <= t <= max(start, end)
        asked.append(t)
        return 3 * x + np.float32(20) * np.float32(math.cos(30 * t))  # steps of 1/20 of the way are too long here

    # x = (20 / 909) (30 sin 30t - 3 cos 30t) + c e^{3t}
    particular = lambda t: 20 / 909 * (30 * math.sin(30 * t) - 3 * math.cos(30 * t))
    x = np.full(2, particular(start), np.float32)
    for tolerance in (1e-3, 1e-5):
        asked.clear()
        y, evaluations = dormand_prince.integrate(rate, x, start, end, tolerance)
        np.testing.assert_allclose(y, particular(end), atol=30 * tolerance)
        assert evaluations == len(asked) and len(asked) % 6 == 1


def test_integration_that_cannot_succeed_says_so():
    with pytest.raises(FloatingPointError, match="isn't finite"):
        dormand_prince.integrate(lambda t, x: np.full_like(x, np.nan), np.ones(2, np.float32), 0.0, 1.0, 1e-3)
    with pytest.raises(FloatingPointError, match="not smooth"):
        dormand_prince.integrate(lambda t, x: 1e6 * np.sign(np.float64(np.sin(1e9 * t))) * np.ones_like(x), np.ones(2), 0.0, 1.0, 1e-6)
    dormand_prince.check_size(1e-9, 0.5, 0.3)  # the last step may be short
    assert dormand_prince.integrate(lambda t, x: x, np.ones(1), 0.0, 1e-8, 1e-3)[0] == pytest.approx(1)


# --- times


def test_the_grid_of_times():
    straight, cosine = path_of("straight"), path_of("cosine")
    np.testing.assert_allclose(samplers.times(straight, 4), [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(samplers.times(straight, 4, start=0.8, spacing=2.0), [0.8, 0.45, 0.2, 0.05, 0])
    np.testing.assert_allclose(samplers.times(cosine, 1000), np.arange(1000, -1, -1) / 1000, atol=1e-12)
    grid = samplers.times(cosine, 100, spacing=3.0)  # those below the least t are one
    assert grid[-2:] == [cosine.t_min, 0.0] and len(grid) == len(set(grid)) < 101


def test_evaluations_and_steps_of_each_sampler():
    names = ("ddpm", "ddim", "dpm-solver++", "euler", "heun", "midpoint")
    assert tuple(samplers.SAMPLERS) == names and samplers.ADAPTIVE == "dopri5"
    assert [samplers.SAMPLERS[n].max_steps(20) for n in names] == [20, 20, 20, 20, 10, 10]
    assert [samplers.SAMPLERS[n].max_steps(21) for n in names] == [21, 21, 21, 21, 11, 10]
    assert [samplers.SAMPLERS[n].evaluations(10) for n in names] == [10, 10, 10, 10, 19, 20]


@pytest.fixture(autouse=True)
def without_kernels():
    with use_kernels(False):
        yield


POINTS = {"image": (2,), "network": "dense", "channels": 8, "blocks": 1}


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_no_more_evaluations_than_were_asked_for_and_as_many_as_fit(sampler):
    model = Diffusion.new(**POINTS)
    asked = []
    network = model.network
    model.network = lambda x, t: (asked.append(len(x)), network(x, t))[1]
    for evaluations in (2, 5, 8):
        asked.clear()
        records = list(model.steps(3, sampler=sampler, evaluations=evaluations))
        assert len(asked) == sum(r.evaluations for r in records) == samplers.SAMPLERS[sampler].evaluations(len(records))
        assert evaluations - 1 <= len(asked) <= evaluations and set(asked) == {3}
    assert model.steps_within(sampler, 7) == {"heun": 4, "midpoint": 3}.get(sampler, 7)


def test_a_batch_has_one_time_in_each_of_its_parts():
    for schedule in SCHEDULES:
        model = Diffusion.new(**POINTS, schedule=schedule)
        t = model.draw_times(50, np.random.default_rng(1))
        part = (t - model.path.t_min) / (1 - model.path.t_min) * 50
        assert np.array_equal(np.sort(np.floor(part)), np.arange(50))
        assert 0.2 < (part % 1).std() < 0.4  # and anywhere in it


def test_logit_normal_times_have_a_normal_logit():
    model = Diffusion.new(**POINTS, schedule="straight", times="logit-normal")
    u = ndtr(logit(model.draw_times(50, np.random.default_rng(1))))
    assert np.array_equal(np.sort(np.floor(u * 50)), np.arange(50))


# --- the network's input


def test_the_embedding_of_time_has_frequencies_from_1_to_nearly_1_in_10_000():
    t = np.array([0.0, 1.0, 123.0, 1000.0])
    frequencies = 10_000.0 ** (-np.arange(16) / 16)  # Vaswani et al. (2017), section 3.5
    expected = np.concatenate([np.sin(t[:, None] * frequencies), np.cos(t[:, None] * frequencies)], axis=1)
    np.testing.assert_allclose(sinusoids(t, 32), expected, atol=1e-4)
    assert np.arcsin(sinusoids(np.array([1.0]), 32)[0, 15]) == pytest.approx(10_000 ** (-15 / 16), rel=1e-4)


@pytest.mark.parametrize(("fields", "factor"), [({"image": (4, 4), "channels": 8, "multipliers": (1,)}, 1000), (POINTS, 1)])
def test_a_network_of_pictures_sees_t_in_steps_of_the_chain_and_a_dense_one_t_itself(fields, factor):
    model = Diffusion.new(**fields)
    seen = []
    model.network = lambda x, t: (seen.append(t), x)[1]
    model.predict(np.zeros((2, *model.config.image), np.float32), np.array([0.25, 1.0]))
    np.testing.assert_allclose(seen[0], [0.25 * factor, factor])


def test_labels_are_embedded_beside_one_row_for_no_label():
    condition = Condition(8, 64, 10, rng=np.random.default_rng(0))
    assert condition.labels.weight.shape == (11, 64) and abs(condition.labels.weight.data.std() - 0.5) < 0.05
    dense = Diffusion.new(**{**POINTS, "channels": 64}, classes=10).network
    assert dense.labels.weight.shape == (11, 64) and abs(dense.labels.weight.data.std() - 0.5) < 0.05
    assert GROUPS == 8


@pytest.mark.parametrize(("fields", "share"), [({}, 0.1), ({"unlabelled": 0.3}, 0.3), ({"unlabelled": 0.0}, 0.0)])
def test_the_share_of_labels_that_training_leaves_out(fields, share):
    model = Diffusion.new(**POINTS, classes=3, **fields)
    seen = []
    model.predict = lambda x, t, labels: (seen.append(labels), x)[1]
    labels = np.arange(20_000) % 3
    model.loss((np.zeros((20_000, 2), np.float32), labels), np.random.default_rng(2))
    dropped = seen[0] == 3
    assert abs(dropped.mean() - share) <= 4 * math.sqrt(share * (1 - share) / 20_000)
    assert np.array_equal(seen[0][~dropped], labels[~dropped])


@pytest.mark.parametrize(("schedule", "prediction"), [("linear", "noise"), ("cosine", "x_0"), ("cosine", "v"), ("straight", "v")])
@pytest.mark.parametrize("dequantise", [False, True])
def test_the_loss_is_the_mean_squared_error_of_the_target(schedule, prediction, dequantise):
    model = Diffusion.new(image=(4, 4), channels=8, multipliers=(1,), schedule=schedule, prediction=prediction, dequantise=dequantise)
    seen = []
    model.predict = lambda x, t, labels: (seen.append((x, t)), np.full_like(x, 0.3))[1]
    x = np.random.default_rng(3).integers(0, 256, (6, 4, 4)).astype(np.float32) / 255
    loss = float(model.loss(x, np.random.default_rng(4))["loss"])
    rng = np.random.default_rng(4)
    u = rng.random(x.shape, np.float32) if dequantise else 0
    x_0 = 2 * (255 * x + u) / 256 - 1 if dequantise else 2 * x - 1
    noise = rng.standard_normal(x.shape, np.float32)
    t = model.draw_times(6, rng)
    alpha, sigma = (a.reshape(6, 1, 1) for a in (model.path.alpha(t), model.path.sigma(t)))
    target = {"noise": noise, "x_0": x_0, "v": noise - x_0 if schedule == "straight" else alpha * noise - sigma * x_0}[prediction]
    np.testing.assert_allclose(seen[0][0], alpha * x_0 + sigma * noise, atol=1e-5)
    np.testing.assert_array_equal(seen[0][1], t)
    assert loss == pytest.approx(np.mean((0.3 - target) ** 2), rel=1e-5)


def test_dequantisation_spreads_each_of_256_levels_over_its_own_interval():
    model = Diffusion.new(image=(16, 16), channels=8, multipliers=(1,))
    levels = np.arange(256).reshape(1, 16, 16)
    for seed in range(5):
        x_0 = model.to_network_range(levels / 255, np.random.default_rng(seed))
        assert np.array_equal(np.floor((x_0.astype(np.float64) + 1) * 128), levels)
        assert 0.2 < ((x_0 + 1) * 128 % 1).std() < 0.4
    np.testing.assert_allclose(model.to_network_range(levels / 255), 2 * levels / 255 - 1, atol=1e-6)
    np.testing.assert_allclose(model.to_pictures(2 * levels / 255 - 1), levels / 255, atol=1e-6)
    assert model.to_pictures(np.array([-3.0, 3.0])).tolist() == [0, 1]


# --- shipped models and presets


SAMPLES = {  # sample(3, seed=0): means over squares of 7 x 7 pixels of the third picture
    "diffusion": [[0.0, 0.282, 0.334, 0.0], [0.0, 0.191, 0.409, 0.0], [0.0, 0.633, 0.363, 0.058], [0.0, 0.212, 0.304, 0.136]],
    "diffusion-cosine": [[0.001, 0.288, 0.34, 0.001], [0.0, 0.186, 0.431, 0.001], [0.002, 0.673, 0.392, 0.063], [0.001, 0.217, 0.342, 0.213]],
    "dit": [[0.002, 0.296, 0.329, 0.002], [0.002, 0.128, 0.377, 0.002], [0.002, 0.638, 0.387, 0.056], [0.002, 0.215, 0.305, 0.114]],
    "latent": [[0.0, 0.174, 0.157, 0.0], [0.0, 0.137, 0.357, 0.0], [0.0, 0.418, 0.119, 0.001], [0.0, 0.191, 0.289, 0.064]],
}
SHIPPED = {"diffusion": "diffusion", "diffusion-cosine": "diffusion", "dit": "diffusion", "latent": "diffusion",
           "vae": "vae", "vae-iwae5": "vae", "vae-two-layers": "vae", "vae-conditional": "vae"}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_shipped_models_sample_to_two_digits(name):
    with use_kernels(True):
        x = zoo.load(name).sample(3, seed=0)
    np.testing.assert_allclose(x[2].reshape(4, 7, 4, 7).mean((1, 3)), SAMPLES[name], atol=0.005)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_models_card_is_the_preset_of_its_command(name):
    """What its card says of its training is what that command would do today."""
    card = json.loads((storage.SHIPPED / name / "card.json").read_text())
    words = iter(shlex.split(card["command"])[2:])
    assert next(words) == SHIPPED[name]
    options = {}
    for word in words:
        if word not in ("--quiet", "--resume"):
            options[word.removeprefix("--").replace("-", "_")] = next(words)
    for word in ("out", "threads"):
        options.pop(word, None)
    configuration, training = recipe_of(SHIPPED[name]).settings(options.pop("preset", None), **options)
    for field, value in card["training"].items():
        assert training.to_dict()[field] == value, field
    config = recipe_of(SHIPPED[name]).model.Config.make(**configuration).to_dict()
    for field, value in card["configuration"].items():
        if field not in ("image", "guidance"):  # guidance was chosen afterwards
            assert config[field] == (tuple(value) if isinstance(value, list) else value), field


def test_presets_that_do_not_ship_have_the_papers_numbers():
    recipe = recipe_of("diffusion")
    fields, run = recipe.settings("ddpm")
    ddpm = DiffusionConfig.make(**fields)
    assert (ddpm.schedule, ddpm.prediction, ddpm.sampler, ddpm.evaluations, ddpm.T) == ("linear", "noise", "ddpm", 1000, 1000)
    assert (run.optimiser, run.average, run.batch_size, run.clip, run.lr) == ("adam", 0.9995, 128, 1.0, 1e-3)
    for preset, coupling in (("moons", "independent"), ("moons-optimal", "optimal")):
        fields, run = recipe.settings(preset)
        moons = DiffusionConfig.make(**fields)
        assert (moons.source, moons.schedule, moons.sampler, moons.image) == ("eight_gaussians", "straight", "dopri5", (2,))
        assert (run.coupling, run.average, run.constant, run.clip, run.lr, run.steps, run.batch_size) == (coupling, 0, True, None, 3e-4, 20_000, 256)
        assert recipe.preset_data[preset] == "moons"
    assert run.pool == 256
    fields, run = recipe.settings("diffusion")
    assert (fields["guidance"], fields["sampler"], fields["evaluations"], fields["schedule"]) == (1.3, "dpm-solver++", 20, "cosine")
    assert (run.steps, run.average, run.warm_up, run.muon_lr) == (5000, 0.999, 500, 0.02)


# --- lines between codes


def test_a_great_circle_keeps_the_length_and_turns_evenly():
    a, b = np.array([3.0, 0, 0], np.float32), np.array([0, 3.0, 0], np.float32)
    arc = great_circle(a, b, 5)
    angles = np.linspace(0, math.pi / 2, 5)
    np.testing.assert_allclose(arc, 3 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1), atol=1e-6)
    same = great_circle(a, 2 * a, 3)  # without an angle between them it is the straight line
    np.testing.assert_allclose(same, [a, 1.5 * a, 2 * a])
    for seed in range(20):
        a, b = np.random.default_rng(seed).standard_normal((2, 50)).astype(np.float32)
        for line in (great_circle(a, b, 7), straight_line(a, b, 7)):
            assert np.array_equal(line[0], a) and np.array_equal(line[-1], b)
    np.testing.assert_allclose(straight_line(a, b, 3)[1], (a + b) / 2, rtol=1e-6)


@pytest.mark.parametrize(("name", "low", "high"), [("eta", 0, 1), ("spacing", 0.1, 10), ("tolerance", 1e-8, 10)])
def test_settings_of_sampling_lie_within_their_bounds(name, low, high):
    for value in (low, high):
        samplers.Sampling("ddim", None, **{name: value}).check("normal", 0.0)
    for value in (low - 1e-9, high * 1.001, "1", None):
        with pytest.raises(ValueError, match=f"^{name}: is .*; it is a number from {low:g} to {high:g}"):
            samplers.Sampling("ddim", None, **{name: value}).check("normal", 0.0)


def test_guidance_lies_within_100_either_way_and_is_the_configurations_unless_given():
    model = Diffusion.new(image=(4, 4), channels=8, multipliers=(1,), classes=2, guidance=1.5)
    assert [model.check_guidance(w) for w in (None, 100, -100, 0)] == [1.5, 100, -100, 0]
    for wrong in (100.1, -100.1, math.nan, "2"):
        with pytest.raises(ValueError, match="^guidance: is .*; it is a number from -100 to 100"):
            model.check_guidance(wrong)
