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
        np.testing.assert_allclose(mine, theirs, **({"atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-13}))


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
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-9, atol=1e-13)


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


def leaf(values):
    return Tensor(np.array(values, np.float32), requires_grad=True)


def test_adam_by_hand_in_two_steps():
    """Gradients 1 and 3 with b1 = 0.9, b2 = 0.99: m^ = 1 and (0.09 + 0.3) / 0.19, v^ = 1 and (0.0099 + 0.09) / 0.0199."""
    w = leaf([[1.0]])
    adam = Adam([w], 0.1, betas=(0.9, 0.99), eps=1e-8)
    for g, expected in ((1.0, 0.9), (3.0, 0.9 - 0.1 * (0.39 / 0.19) / math.sqrt(0.0999 / 0.0199))):
        w.grad = np.full((1, 1), g, np.float32)
        adam.step()
        assert w.data[0, 0] == pytest.approx(expected, abs=1e-6)
    decayed, plain = leaf([[2.0]]), leaf([[2.0]])
    for p, make in ((decayed, lambda p: AdamW([p], 0.1, weight_decay=0.5)), (plain, lambda p: Adam([p], 0.1))):
        optimiser = make(p)
        p.grad = np.full((1, 1), 7.0, np.float32)
        optimiser.step()
    assert plain.data[0, 0] == pytest.approx(1.9, abs=1e-6)  # the first step is lr, whatever the gradient's size
    assert decayed.data[0, 0] == pytest.approx(1.9 - 0.1 * 0.5 * 2, abs=1e-6)  # and decay isn't divided by the root of v


def test_momentum_by_hand_in_two_steps():
    w = leaf([1.0])
    sgd = SGD([w], 0.1, momentum=0.5)
    for g, expected in ((1.0, 0.9), (2.0, 0.9 - 0.1 * (0.5 * 1 + 2))):
        w.grad = np.array([g], np.float32)
        sgd.step()
        assert w.data[0] == pytest.approx(expected, abs=1e-7)


def newton_schulz_by_hand(s):
    """What five iterations with the coefficients that Jordan et al. (2024) publish make of a singular value."""
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


def test_newton_schulz_has_the_published_coefficients():
    """A diagonal matrix shows what becomes of each singular value; s = (3, 4) / 5 after normalising."""
    (step,) = orthogonalise(np.diag([3.0, 4.0]).astype(np.float32))
    expected = np.diag([newton_schulz_by_hand(0.6), newton_schulz_by_hand(0.8)])
    np.testing.assert_allclose(step, expected, atol=2e-6)
    assert abs(newton_schulz_by_hand(0.6) - 0.6) > 0.05  # the test can fail


def test_muon_by_hand_in_two_steps():
    """A matrix of one entry, normalised, is its sign: newton_schulz_by_hand(1); a diagonal one shows Nesterov's look ahead."""
    w = leaf(np.zeros((2, 2)))
    muon = Muon([w], 1.0, matrices=[w], muon_lr=0.1, momentum=0.9)
    first, second = np.diag([1.0, 2.0]), np.diag([2.0, -0.5])
    velocity, expected = np.zeros((2, 2)), np.zeros((2, 2))
    for g in (first, second):
        w.grad = g.astype(np.float32)
        muon.step()
        velocity = 0.9 * velocity + g
        ahead = np.diag(g + 0.9 * velocity)  # Nesterov: where the momentum leads, not where it is
        expected -= 0.1 * np.diag([math.copysign(newton_schulz_by_hand(abs(s)), s) for s in ahead / np.linalg.norm(ahead)])
        np.testing.assert_allclose(w.data, expected, atol=1e-6)


def test_muons_rate_grows_with_the_root_of_outputs_over_inputs():
    for shape, scale in (((2, 8), 2.0), ((8, 2), 1.0), ((3, 3), 1.0)):
        w = leaf(np.zeros(shape))
        muon = Muon([w], 1.0, matrices=[w], muon_lr=0.1, momentum=0.0)
        w.grad = np.eye(*shape, dtype=np.float32)
        muon.step(factor=0.5)  # the schedule of lr is that of muon_lr
        np.testing.assert_allclose(w.data, -0.05 * scale * orthogonalise(w.grad)[0], atol=1e-6)


# --- parameters that are frozen, replaced, shared, given twice


EVERY = {"sgd": lambda ps: SGD(ps, 0.1), "momentum": lambda ps: SGD(ps, 0.1, momentum=0.9), "adam": lambda ps: Adam(ps, 0.1),
         "adamw": lambda ps: AdamW(ps, 0.1, weight_decay=0.1), "muon": lambda ps: Muon(ps, 0.1, matrices=[p for p in ps if p.ndim == 2],
                                                                                     weight_decay=0.1)}


def give_gradients(parameters, rng):
    for p in parameters:
        p.grad = rng.normal(size=p.shape).astype(np.float32)


@pytest.mark.parametrize("name", EVERY)
def test_a_frozen_parameter_is_left_alone_and_goes_on_where_it_was(rng, name):
    parameters = [leaf(rng.normal(size=s)) for s in ((3, 2), (2, 4), (3,), (4,))]
    optimiser = EVERY[name](parameters)
    give_gradients(parameters, rng)
    optimiser.step()
    frozen = (parameters[0], parameters[3])
    for p in frozen:
        p.requires_grad = False
    before = [p.data.copy() for p in parameters]
    memory = {k: np.copy(v) for k, v in optimiser.checkpoint().items()}
    for with_gradients in (True, False):  # whether or not old gradients are still there
        give_gradients(parameters, rng) if with_gradients else optimiser.zero_grad()
        optimiser.step()
    for p, old in zip(parameters, before):
        assert np.array_equal(p.data, old) == any(p is q for q in frozen) or (name == "sgd" and p.grad is None)
    parts = optimiser.checkpoint()
    for p in frozen:
        p.requires_grad = True
    twin_parameters = [leaf(p.data) for p in parameters]
    for k, values in memory.items():  # what was remembered of the frozen ones is what was remembered before
        if k != "steps" and values.size == optimiser.flat.size:
            starts = np.cumsum([0, *(p.size for p in optimiser.parameters)])
            for p, start in zip(optimiser.parameters, starts):
                if any(p is q for q in frozen):
                    assert np.array_equal(parts[k][start : start + p.size], values[start : start + p.size])
    twin = EVERY[name](twin_parameters)
    twin.restore(optimiser.checkpoint())
    give_gradients(parameters, rng)
    for p, q in zip(parameters, twin_parameters):
        q.grad = p.grad
    optimiser.step()
    twin.step()
    for p, q, old in zip(parameters, twin_parameters, before):
        assert np.array_equal(p.data, q.data) and not np.array_equal(p.data, old)


@pytest.mark.parametrize("name", EVERY)
def test_a_frozen_parameters_gradient_counts_for_nothing(rng, name):
    a, b = leaf(rng.normal(size=(3, 2))), leaf(rng.normal(size=(3, 2)))
    optimiser = EVERY[name]([a, b])
    give_gradients([a, b], rng)
    b.requires_grad = False
    optimiser.step()
    assert optimiser.grad_norm == pytest.approx(float(np.linalg.norm(a.grad)), rel=1e-5)


def test_what_is_frozen_from_the_beginning_takes_no_memory_and_is_not_forgotten(rng):
    a, b = leaf(rng.normal(size=(3, 2))), leaf(rng.normal(size=(300, 200)))
    b.requires_grad = False
    memory = b.data
    adam = Adam({"a": a, "b": b}, 0.1)
    assert adam.flat.size == adam.m.size == 6 and b.data is memory
    a.grad = np.ones((3, 2), np.float32)
    adam.step()
    b.requires_grad = True
    with pytest.raises(ValueError, match="b was frozen when the optimiser was built and isn't any more; build it anew"):
        adam.step()
    for p in (a, b):
        p.requires_grad = False
    with pytest.raises(ValueError, match="all parameters are frozen"):
        Adam([a, b], 0.1)


def test_two_optimisers_of_one_parameter_take_turns():
    """As InfoGAN's and an adversarial autoencoder's do."""
    w = leaf([1.0, 1.0])
    a, b = SGD([w], 0.1), SGD([w], 0.1)
    w.grad = np.ones(2, np.float32)
    for optimiser, expected in ((a, 0.9), (a, 0.8), (b, 0.7), (a, 0.6), (b, 0.5)):
        optimiser.step()
        np.testing.assert_allclose(w.data, expected, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_values_that_replace_a_parameters_data_are_trained(rng, name):
    """WGAN's clipping as it is written everywhere: p.data = np.clip(p.data, ...)."""
    start = [rng.normal(size=s) for s in ((3, 2), (4,))]
    replaced, in_place = ([leaf(x) for x in start] for _ in range(2))
    first, second = EVERY[name](replaced), EVERY[name](in_place)
    for _ in range(3):
        for p, q in zip(replaced, in_place):
            p.grad = q.grad = rng.normal(size=p.shape).astype(np.float32)
            p.data = np.clip(p.data, -0.5, 0.5)
            q.data[...] = np.clip(q.data, -0.5, 0.5)
        first.step()
        second.step()
        assert all(np.array_equal(p.data, q.data) for p, q in zip(replaced, in_place))
    replaced[0].data = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match=r"parameters\[0\].data has become float32 of shape \(2, 2\); it was float32 of shape \(3, 2\)"):
        first.step()
    in_place[1].grad = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"parameters\[1\].grad has shape \(3,\); parameters\[1\] has \(4,\)"):
        second.step()


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda w: [w, leaf([1.0]), w], ValueError, r"parameters\[0\] and parameters\[2\] are the same tensor"),
    (lambda w: {"a": w, "b": w}, ValueError, "a and b are the same tensor"),
    (lambda w: [w * 2], ValueError, "is the result of an operation"),
    (lambda w: [Tensor(np.arange(3))], TypeError, "int64 and not floating"),
    (lambda w: [np.ones(3)], TypeError, r"parameters\[0\] is a ndarray; parameters are tensors"),
])
def test_parameters_that_cannot_be_trained_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        SGD(make(leaf([1.0, 1.0])), 0.1)


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


def muon(**settings):
    w = leaf([[1.0]])
    return Muon([w], **{"lr": 0.1, "matrices": [w], **settings})


NO_RUN_MEANS = {  # what is built -> setting -> values that no run can mean
    lambda **s: SGD([leaf([1.0])], **{"lr": 0.1, **s}): {"lr": (-0.1, math.inf, math.nan), "momentum": (-1, 1, math.nan), "clip": (-1, 0, math.nan)},
    lambda **s: AdamW([leaf([1.0])], **{"lr": 0.1, **s}): {"eps": (0, -1e-8, math.nan), "weight_decay": (-1, math.nan)},
    muon: {"muon_lr": (-0.02, math.nan), "momentum": (1.0, -0.1), "weight_decay": (-1,), "eps": (0,), "clip": (-1,)},
    lambda **s: cosine(**{"steps": 10, **s}): {"steps": (0,), "warmup": (-1,), "floor": (-0.1, 1.1)},
    lambda **s: linear_decay(**{"steps": 10, **s}): {"steps": (0,), "warmup": (-1,), "floor": (-0.1, 1.1), "hold": (-0.1, 2)},
}


@pytest.mark.parametrize(("build", "setting", "value"), [
    (build, setting, value) for build, settings in NO_RUN_MEANS.items() for setting, values in settings.items() for value in values])
def test_settings_that_no_run_can_mean_are_refused(build, setting, value):
    with pytest.raises(ValueError, match=rf": {setting} is {value}; it is (at least|above)"):
        build(**{setting: value})


@pytest.mark.parametrize(("betas", "at_fault"), [((1.0, 0.999), 0), ((1.1, 0.999), 0), ((-0.5, 0.9), 0), ((0.9, 1.0), 1), ((0.9, math.nan), 1)])
def test_betas_lie_below_one(betas, at_fault):
    with pytest.raises(ValueError, match=rf"Adam: betas\[{at_fault}\] is {betas[at_fault]}; it is at least 0 and below 1"):
        Adam([leaf([1.0])], 0.1, betas=betas)


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


def test_defaults_are_those_of_the_papers():
    """Kingma & Ba (2015), algorithm 1; Loshchilov & Hutter's decay as PyTorch and the reference code of Muon (Jordan et al. 2024) set theirs."""
    p = Tensor(np.ones((2, 2)), requires_grad=True)
    for optimiser in (Adam([p], 1e-3), AdamW([p], 1e-3), Muon([p], 1e-3, matrices=[p])):
        assert optimiser.betas == (0.9, 0.999) and optimiser.eps == 1e-8 and optimiser.clip is None
    assert Adam([p], 1e-3).weight_decay == 0 and AdamW([p], 1e-3).weight_decay == 0.01
    muon = Muon([p], 1e-3, matrices=[p])
    assert (muon.muon_lr, muon.momentum, muon.weight_decay) == (0.02, 0.95, 0.0)
    assert SGD([p], 1e-3).momentum == 0


def test_stairs_go_down_to_a_tenth_at_a_time_unless_said_otherwise():
    stairs = step_decay([10, 20])
    assert [stairs(step) for step in (0, 9, 10, 19, 20)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("make", [Adam, AdamW], ids=lambda make: make.__name__)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_adam_takes_the_same_steps_wherever_gradients_lie(make, clip):
    """Bit for bit, with a gradient that isn't there, one that is a view, and a parameter that is frozen on the way."""
    runs = []
    for fills_grad in (False, True):
        rng = np.random.default_rng(0)
        shapes = (70, 90), (5000,), (3, 4, 5), (1,), (33,)
        ps = [Tensor(rng.standard_normal(s).astype(np.float32), requires_grad=True) for s in shapes]
        optimiser = make(ps, 0.01, clip=clip)
        optimiser.fills_grad = fills_grad
        norms = []
        for step in range(4):
            for p in ps:
                p.grad = rng.standard_normal(p.shape).astype(np.float32)
            ps[0].grad = rng.standard_normal((90, 70)).astype(np.float32).T
            ps[2].grad = None
            ps[4].requires_grad = step < 2
            optimiser.step()
            norms.append(optimiser.grad_norm)
            assert np.any(optimiser.grad) == fills_grad
        runs.append([p.data.tobytes() for p in ps] + [optimiser.m.tobytes(), optimiser.v.tobytes(), norms])
    assert runs[0] == runs[1]


def test_an_update_that_is_written_anew_finds_the_gradients():
    seen = []

    class Mine(Adam):
        def update(self, lr):
            seen.append(self.grad.copy())
            super().update(lr)

    p = Tensor(np.ones(3, np.float32), requires_grad=True)
    optimiser = Mine([p], 0.1)
    p.grad = np.array([1, 2, 3], np.float32)
    optimiser.step()
    assert seen[0].tolist() == [1, 2, 3]
    np.testing.assert_allclose(p.data, 0.9, rtol=1e-5)
