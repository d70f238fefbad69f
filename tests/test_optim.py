"""Optimisers against the papers' formulas and against torch, schedules at their ends, clipping, averages."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zoo.autograd import Tensor
from zoo.optim import SGD, Adam, AdamW, Average, Muon, constant, cosine, linear_decay, orthogonalise, step_decay

SHAPES = ((4, 3), (3,), (70, 80))  # the last is longer than a kernel's chunk
SETTINGS = {
    "sgd": (SGD, {"lr": 0.1}),
    "momentum": (SGD, {"lr": 0.05, "momentum": 0.9}),
    "adam": (Adam, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-6}),
    "adamw": (AdamW, {"lr": 0.05, "weight_decay": 0.3}),
}
STEPS = 20


def problem(rng, dtype):
    """Parameters and the gradient of sum of curvature (p - target)^2 / 2."""
    start = [rng.normal(size=s).astype(dtype) for s in SHAPES]
    curvature = [rng.random(s).astype(dtype) + 0.1 for s in SHAPES]
    target = [rng.normal(size=s).astype(dtype) for s in SHAPES]
    return start, lambda i, p: curvature[i] * (p - target[i])


def ours(name, start, gradient, factor=constant):
    make, settings = SETTINGS[name]
    parameters = [Tensor(p.copy(), requires_grad=True) for p in start]
    optimiser = make(parameters, **settings)
    for step in range(STEPS):
        for i, p in enumerate(parameters):
            p.grad = gradient(i, p.data)
        optimiser.step(factor(step))
    return [p.data for p in parameters]


def by_the_paper(name, start, gradient, factor=constant):
    """Sutskever et al. (2013), eq. 1-2 as torch writes them; Kingma & Ba (2015), algorithm 1; Loshchilov & Hutter (2019), algorithm 2."""
    settings = SETTINGS[name][1]
    lr, found = settings["lr"], []
    for i, p in enumerate(start):
        p = p.astype(np.float64)
        m, v = np.zeros_like(p), np.zeros_like(p)
        for t in range(1, STEPS + 1):
            g, a = gradient(i, p), lr * factor(t - 1)
            if name in ("sgd", "momentum"):
                v = settings.get("momentum", 0.0) * v + g
                p = p - a * v
                continue
            b1, b2 = settings.get("betas", (0.9, 0.999))
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            decay = settings.get("weight_decay", 0.0) if p.ndim >= 2 else 0.0
            p = p - a * decay * p - a * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + settings.get("eps", 1e-8))
        found.append(p)
    return found


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_twenty_steps_are_the_papers(rng, name, dtype):
    start, gradient = problem(rng, dtype)
    schedule = cosine(STEPS, warmup=3)
    for mine, theirs in zip(ours(name, start, gradient, schedule), by_the_paper(name, start, gradient, schedule)):
        np.testing.assert_allclose(mine, theirs, **({"atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-9}))


@pytest.mark.parametrize("name", SETTINGS)
def test_twenty_steps_are_torchs(rng, name):
    torch = pytest.importorskip("torch")
    start, gradient = problem(rng, np.float64)
    settings = dict(SETTINGS[name][1])
    parameters = [torch.tensor(p, requires_grad=True) for p in start]
    if name == "adamw":  # gains and biases don't decay here
        rest = {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}
        groups = [{"params": [p for p in parameters if p.ndim >= 2]}, rest]
        optimiser = torch.optim.AdamW(groups, **settings)
    else:
        optimiser = (torch.optim.Adam if name == "adam" else torch.optim.SGD)(parameters, **settings)
    for _ in range(STEPS):
        for i, p in enumerate(parameters):
            p.grad = torch.tensor(gradient(i, p.detach().numpy()))
        optimiser.step()
    for mine, theirs in zip(ours(name, start, gradient), parameters):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (25, 25)])
def test_muons_step_is_nearly_orthogonal_and_keeps_the_gradients_directions(rng, shape):
    g = rng.normal(size=shape).astype(np.float32)
    [step] = orthogonalise(g)
    u, _, v = np.linalg.svd(g, full_matrices=False)
    assert step.shape == shape
    values = np.linalg.svd(step, compute_uv=False)
    # The coefficients trade exactness for speed: all but the smallest directions come between 0.7 and 1.2 (Jordan et al. 2024)
    assert values.max() < 1.3 and np.sort(values)[2:].min() > 0.6
    assert np.diag(u.T @ step @ v.T).min() > 0
    np.testing.assert_allclose(orthogonalise(1000 * g)[0], step, atol=1e-3)  # the gradient's size doesn't count


def test_the_kernel_orthogonalises_as_the_definition(rng):
    matrices = [rng.normal(size=s).astype(np.float32) for s in ((1, 1), (2, 5), (130, 70), (96, 97), (40, 300))]
    for mine, g in zip(orthogonalise(*matrices), matrices):
        np.testing.assert_allclose(mine, orthogonalise(g.astype(np.float64))[0], atol=2e-5)


def test_muon_moves_its_matrices_and_adamw_the_rest(rng):
    start, gradient = problem(rng, np.float32)
    parameters = [Tensor(p.copy(), requires_grad=True) for p in start]
    optimiser = Muon(parameters, 0.05, matrices=[parameters[0]], muon_lr=0.02, weight_decay=0.3)
    expected = by_the_paper("adamw", start, gradient)
    before = parameters[0].data.copy()
    for step in range(STEPS):
        for i, p in enumerate(parameters):
            p.grad = gradient(i, p.data)
        optimiser.step()
        if step == 0:  # the first momentum is along the gradient
            g = gradient(0, before)
            np.testing.assert_allclose(parameters[0].data, before * (1 - 0.02 * 0.3) - 0.02 * orthogonalise(1.95 * g)[0], atol=1e-5)
    for mine, theirs in zip(parameters[1:], expected[1:]):
        np.testing.assert_allclose(mine.data, theirs, atol=2e-5)


def test_muon_takes_matrices_among_its_parameters_only():
    vector, matrix = Tensor(np.ones(3, np.float32), requires_grad=True), Tensor(np.ones((3, 2), np.float32), requires_grad=True)
    with pytest.raises(ValueError, match=r"Muon: matrices have two axes or more, one here has shape \(3,\)"):
        Muon([vector, matrix], 0.1, matrices=[vector])
    with pytest.raises(ValueError, match="must be among the parameters"):
        Muon([vector], 0.1, matrices=[matrix])


def test_clipping_bounds_the_norm_of_all_gradients_together(rng):
    start = [rng.normal(size=s).astype(np.float32) for s in SHAPES]
    gradients = [rng.normal(size=s).astype(np.float32) for s in SHAPES]
    norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients))
    for clip, factor in ((norm / 4, 0.25), (norm * 4, 1.0), (None, 1.0)):
        parameters = [Tensor(p.copy(), requires_grad=True) for p in start]
        optimiser = SGD(parameters, 1.0, clip=clip)
        for p, g in zip(parameters, gradients):
            p.grad = g
        optimiser.step()
        assert optimiser.grad_norm == pytest.approx(norm, rel=1e-5)  # what is reported is what there was
        for p, old, g in zip(parameters, start, gradients):
            np.testing.assert_allclose(p.data, old - factor * g, atol=1e-5)
            assert np.array_equal(p.grad, g)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_gradient_that_is_not_finite_changes_nothing(rng, name, bad):
    make, settings = SETTINGS[name]
    p = Tensor(rng.normal(size=(3, 2)).astype(np.float32), requires_grad=True)
    optimiser = make([p], **settings)
    p.grad = np.ones((3, 2), np.float32)
    optimiser.step()
    before, memory = p.data.copy(), {k: np.copy(v) for k, v in optimiser.checkpoint().items()}
    p.grad = np.full((3, 2), bad, np.float32)
    with pytest.raises(FloatingPointError, match="in step 2; nothing was changed"):
        optimiser.step()
    assert np.array_equal(p.data, before)
    assert all(np.array_equal(memory[k], v) for k, v in optimiser.checkpoint().items())


def test_a_parameter_without_a_gradient_counts_as_zero(rng):
    a, b = (Tensor(rng.normal(size=3).astype(np.float32), requires_grad=True) for _ in range(2))
    before = b.data.copy()
    optimiser = Adam([a, b], 0.1)
    a.grad = np.ones(3, np.float32)
    optimiser.step()
    assert np.array_equal(b.data, before) and b.grad is None
    optimiser.zero_grad()
    assert a.grad is None


@pytest.mark.parametrize("name", [*SETTINGS, "muon"])
def test_a_restored_optimiser_goes_on_as_if_never_stopped(rng, name):
    start, gradient = problem(rng, np.float32)

    def made():
        parameters = [Tensor(p.copy(), requires_grad=True) for p in start]
        if name == "muon":
            return parameters, Muon(parameters, 0.05, matrices=[parameters[2]])
        return parameters, SETTINGS[name][0](parameters, **SETTINGS[name][1])

    def run(parameters, optimiser, n):
        for _ in range(n):
            for i, p in enumerate(parameters):
                p.grad = gradient(i, p.data)
            optimiser.step()

    through, stopped, resumed = made(), made(), made()
    run(*through, 8)
    run(*stopped, 5)
    for p, q in zip(resumed[0], stopped[0]):
        p.data[...] = q.data
    resumed[1].restore(stopped[1].checkpoint())
    run(*resumed, 3)
    for p, q in zip(through[0], resumed[0]):
        assert np.array_equal(p.data, q.data)


def test_muon_reads_a_checkpoint_that_holds_all_entries_and_keeps_only_those_in_use(rng):
    start, gradient = problem(rng, np.float32)

    def made():
        parameters = [Tensor(p.copy(), requires_grad=True) for p in start]
        return Muon(parameters, 0.05, matrices=[parameters[2]], weight_decay=0.1)

    def run(optimiser):
        for i, p in enumerate(optimiser.parameters):
            p.grad = gradient((0, 2, 1)[i], p.data)
        optimiser.step()

    first, again = made(), made()
    run(first)
    saved = first.checkpoint()
    assert saved["velocity"].size == 70 * 80 and saved["m"].size == saved["v"].size == 4 * 3 + 3
    full = {"steps": saved["steps"]}
    for name in ("m", "v", "velocity"):  # flat holds (4, 3), then (70, 80), then (3,)
        kept = saved[name]
        full[name] = np.concatenate([np.full(12, 7), kept, np.full(3, 7)] if name == "velocity" else [kept[:12], np.full(70 * 80, 7), kept[12:]])
    again.restore(full)
    for p, q in zip(again.parameters, first.parameters):
        p.data[...] = q.data
    run(first)
    run(again)
    assert np.array_equal(first.flat, again.flat)
    with pytest.raises(ValueError, match=r"Muon: m has shape \(4,\); here it has \(15,\)"):
        again.restore({**saved, "m": np.zeros(4)})


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Adam([], 0.1), "no parameters were given"),
    (lambda: Adam([Tensor(np.ones(2, np.float32), requires_grad=True)], math.nan), "lr is nan"),
    (lambda: SGD([Tensor(np.ones(2, np.float32), requires_grad=True)], -1.0), "lr is -1.0"),
    (lambda: Average([], 1.0), "decay is 1.0"),
])
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_parameters_of_two_dtypes_are_refused():
    with pytest.raises(TypeError, match="float32 and float64"):
        Adam([Tensor(np.ones(2, np.float32), requires_grad=True), Tensor(np.ones(2), requires_grad=True)], 0.1)


def test_schedules_begin_turn_and_end_where_they_should():
    for schedule in (cosine(100, warmup=10, floor=0.1), linear_decay(100, warmup=10, floor=0.1)):
        rising = [schedule(step) for step in range(10)]
        assert rising[0] == pytest.approx(1 / 11) and rising == sorted(rising) and rising[-1] < 1
        assert schedule(10) == 1
        falling = [schedule(step) for step in range(10, 101)]
        assert falling == sorted(falling, reverse=True)
        assert schedule(55) == pytest.approx(0.55) and schedule(100) == pytest.approx(0.1) and schedule(1000) == pytest.approx(0.1)
    assert cosine(100)(0) == 1 and cosine(100)(100) == pytest.approx(0, abs=1e-15)
    held = linear_decay(100, hold=0.5)
    assert held(0) == held(50) == 1 and held(75) == pytest.approx(0.5) and held(100) == 0
    stairs = step_decay([30, 10], 0.5)
    assert [stairs(s) for s in (0, 9, 10, 29, 30, 99)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert cosine(1)(0) == 1 and linear_decay(1)(0) == 1  # a run of one step trains


def test_average_is_its_formula_with_a_short_memory_at_first(rng):
    p = Tensor(rng.normal(size=5000).astype(np.float32), requires_grad=True)
    average = Average([p], 0.9)
    expected = p.data.astype(np.float64)
    for n in range(1, 121):
        p.data[...] = rng.normal(size=5000)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * p.data
        average.update()
    np.testing.assert_allclose(average.values[0], expected, atol=1e-5)


def test_swapping_an_average_twice_changes_nothing(rng):
    p = Tensor(rng.normal(size=(3, 4)).astype(np.float32), requires_grad=True)
    memory, average = p.data, Average([p], 0.5)
    p.data[...] += 1
    value, mean = p.data.copy(), average.values[0].copy()
    average.swap()
    assert p.data is memory and np.array_equal(p.data, mean) and np.array_equal(average.values[0], value)
    average.swap()
    assert np.array_equal(p.data, value) and np.array_equal(average.values[0], mean)


def test_parameters_become_views_of_one_buffer_and_keep_their_values(rng):
    parameters = {name: Tensor(rng.normal(size=s).astype(np.float32), requires_grad=True) for name, s in zip("abc", SHAPES)}
    before = {name: p.data.copy() for name, p in parameters.items()}
    optimiser = SGD(parameters, 0.0)
    assert optimiser.flat.size == sum(p.size for p in parameters.values())
    for name, p in parameters.items():
        assert np.array_equal(p.data, before[name]) and np.shares_memory(p.data, optimiser.flat)
    assert optimiser.decaying == 4 * 3 + 70 * 80  # matrices come first
