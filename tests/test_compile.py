"""`zoo.compile`: a replayed step gives the values and gradients of the step itself, bit for bit, or it isn't replayed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operation_cases import CASES, LARGE

import zoo
from zoo import autograd as ops
from zoo import nn
from zoo.autograd import REGISTRY, Tensor, grad, no_grad, use_precision
from zoo.autograd.runtime import use_kernels
from zoo.data.images import Images
from zoo.language.corpus import Corpus
from zoo.optim import SGD, AdamW
from zoo.recipes import language, vae
from zoo.transformer import Transformer
from zoo.vae import VAE

OPERATIONS = {name: op for name, op in REGISTRY.items() if op.__module__.startswith("zoo.")}


def same(a, b) -> bool:
    """Bit for bit."""
    if a is None or b is None or isinstance(a, Tensor) != isinstance(b, Tensor):
        return a is b
    a, b = (x.data if isinstance(x, Tensor) else np.asarray(x) for x in (a, b))
    return (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


def varied(a, k):
    """An array like `a` with other values, as valid as they are."""
    if not isinstance(a, (np.ndarray, np.generic)):
        return a
    a = np.asarray(a)
    if a.dtype.kind == "f":
        return np.asarray(a * (1 - k / 64), np.float32)
    return np.roll(a, k) if a.ndim else a


def runs(step, args, k):
    """Values and gradients of a step, for inputs of their own."""
    given = [Tensor(a.copy(), requires_grad=True) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args]
    y = step(*given)
    if isinstance(y, Tensor) and y.requires_grad:
        y.backward(np.cos(np.arange(y.size, dtype=np.float32) + k).reshape(y.shape))
    return [y, *(x.grad if isinstance(x, Tensor) else None for x in given)]


def step_of(name, settings):
    return lambda *args: OPERATIONS[name](*args, **settings)


READ_VALUES = {"cross_entropy", "quantised_embedding", "scaled_dot_product_attention"}  # definitions of these look at numbers


def check_replays(step, arguments, calls=4, name=""):
    """`arguments(k)`: those of call k.  From the third on, a compiled step must be replayed, and what it gives be what the step gives."""
    compiled = zoo.compile(step)
    for k in range(calls):
        args = arguments(k)
        with np.errstate(all="ignore"):
            expected, got = runs(step, args, k), runs(compiled, args, k)
        assert all(map(same, expected, got)), f"call {k}"
        if name in READ_VALUES and compiled.reason:
            assert compiled.reason.startswith("the values of a tensor are read")
            return
        assert compiled.reason is None, compiled.reason
    assert compiled.replays == calls - 2


# --- every operation


@pytest.mark.parametrize("name", sorted(CASES.keys() & OPERATIONS.keys()))
@given(data=st.data())
def test_every_operation_replays_bit_for_bit(name, data):
    case = data.draw(CASES[name])
    check_replays(step_of(name, case.settings), lambda k: [varied(a, k) for a in case.arguments], name=name)


@pytest.mark.parametrize("name", sorted(LARGE))
def test_kernels_replay_bit_for_bit(name, rng):
    for case in (make(rng) for make in LARGE[name]):
        check_replays(step_of(name, case.settings), lambda k, case=case: [varied(a, k) for a in case.arguments], calls=3)


# --- whole steps


def small_transformer(**fields):
    return Transformer.new(symbols=11, window=8, layers=2, heads=2, width=16, seed=1, **fields)


def windows(k, batch=2, time=8):
    rng = np.random.default_rng(k)
    return rng.integers(0, 11, (batch, time)), rng.integers(0, 11, (batch, time))


def weights_after(model, optimiser, loss, batches):
    for batch in batches:
        optimiser.zero_grad()
        loss(*batch).backward()
        optimiser.step()
    return model.arrays()


@pytest.mark.parametrize("fields", [{}, {"tied": False}, {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "key_value_heads": 1}])
def test_training_gives_the_same_weights(fields):
    one, other = small_transformer(**fields), small_transformer(**fields)
    compiled = zoo.compile(lambda x, y: ops.cross_entropy(other(x), y))
    batches = [windows(k) for k in range(6)]
    expected = weights_after(one, AdamW(one.parameters(), 1e-2, clip=1.0), lambda x, y: ops.cross_entropy(one(x), y), batches)
    got = weights_after(other, AdamW(other.parameters(), 1e-2, clip=1.0), compiled, batches)
    assert compiled.replays >= 3 and compiled.reason is None
    assert all(same(expected[name], got[name]) for name in expected)


@given(sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=4, max_size=12))
def test_shapes_may_change_from_call_to_call(sizes):
    one, other = small_transformer(), small_transformer()
    compiled = zoo.compile(lambda x, y: ops.cross_entropy(other(x), y))
    batches = [windows(k, *size) for k, size in enumerate(sizes)]
    expected = weights_after(one, SGD(one.parameters(), 0.1), lambda x, y: ops.cross_entropy(one(x), y), batches)
    got = weights_after(other, SGD(other.parameters(), 0.1), compiled, batches)
    assert all(same(expected[name], got[name]) for name in expected)
    assert sum(map(len, compiled._plans.values())) <= 8


def test_recordings_are_bounded():
    compiled = zoo.compile(lambda x: ops.exp(x))
    for n in range(1, 60):
        for _ in range(2):
            assert same(compiled(Tensor(np.ones(n, np.float32))), ops.exp(Tensor(np.ones(n, np.float32))))
    assert compiled.recordings <= 33 and "change too often" in compiled.reason


# --- any program


KEEP_SHAPE = [  # of (4, 8), so that they can follow each other in any order
    lambda a, b, m: a + b, lambda a, b, m: a * b, lambda a, b, m: a - 0.5 * b, lambda a, b, m: ops.tanh(a), lambda a, b, m: ops.silu(a),
    lambda a, b, m: m(a), lambda a, b, m: ops.layer_norm(a, m.bias, None, eps=1e-5), lambda a, b, m: ops.softmax(a), lambda a, b, m: a + b[0],
    lambda a, b, m: a * b.mean(axis=0), lambda a, b, m: ops.concatenate([a[:2], b[2:]]), lambda a, b, m: a.reshape((8, 4)).transpose(),
    lambda a, b, m: ops.linear(a, ops.swapaxes(m.weight)), lambda a, b, m: a @ b.transpose() @ b, lambda a, b, m: a.detach() * b, lambda a, b, m: a,
    lambda a, b, m: ops.broadcast_to(a[:1], shape=(4, 8)), lambda a, b, m: a + m.weight[:4], lambda a, b, m: a.transpose()[::-1].transpose()]


@given(lines=st.lists(st.tuples(st.integers(0, len(KEEP_SHAPE) - 1), st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=10))
def test_any_program_replays_bit_for_bit(lines):
    models = [nn.Linear(8, 8, rng=np.random.default_rng(0)) for _ in range(2)]

    def program(model):
        def step(x):
            values = [x, ops.exp(model.weight[:4]), x * 0.5 + model.bias]
            for which, i, j in lines:
                values.append(KEEP_SHAPE[which](values[i % len(values)], values[j % len(values)], model))
            return {"loss": (values[-1] * values[-2]).sum(), "all": values[3:]}

        return step

    compiled = zoo.compile(program(models[1]))
    for k in range(4):
        results = []
        for model, run in zip(models, (program(models[0]), compiled)):
            x = Tensor(np.random.default_rng(k).standard_normal((4, 8), np.float32), requires_grad=True)
            model.weight.grad = model.bias.grad = None
            with np.errstate(all="ignore"):
                r = run(x)
                r["loss"].backward()
            results.append([r["loss"], *r["all"], x.grad, model.weight.grad, model.bias.grad])
            for p in model.parameters():
                p.data -= np.float32(0.01) * (0 if p.grad is None else np.nan_to_num(p.grad, posinf=1, neginf=-1))
        assert all(map(same, *results))
    assert compiled.reason is None and compiled.replays == 2


# --- what a replay must notice


class Scale(nn.Module):
    """y = factor weight x, and a few more things that it reads."""

    def __init__(self):
        self.weight = nn.parameter(np.arange(1, 4))
        self.table = np.ones(3, np.float32)
        self.factor, self.names = 2.0, {"power": 1}
        self.read_by_numpy = np.ones(3, np.float32)

    def __call__(self, x):
        y = ops.multiply(self.weight, x) * self.factor + self.table * float(np.sqrt(self.read_by_numpy).sum())
        return self.twice(y) if self.training else y ** self.names["power"]

    def twice(self, y):
        return y + y


def shift(y):
    return y + OFFSET


OFFSET = 1.0


def changes(name):
    """(step, change): a step that is compiled, and a function that changes what it computes."""
    model = Scale()
    beta = 1.0

    def step(x):
        return shift(model(x)) * beta

    def replace_data():
        model.weight.data = np.full(3, 7, np.float32)

    def add_in_place():
        model.weight.data += 1

    def write_silently():
        model.weight.data[...] = 5

    def load():
        model.load_arrays({"weight": np.full(3, -1, np.float32), "table": np.full(3, 0.5, np.float32), "read_by_numpy": np.zeros(3, np.float32)})

    def replace_parameter():
        model.weight = nn.parameter(np.full(3, 9))

    def replace_table():
        model.table = np.full(3, 4, np.float32)

    def write_table():
        model.table[1] = 8

    def write_what_numpy_reads():
        model.read_by_numpy[0] = 4

    def set_attribute():
        model.factor = 3.0

    def set_entry():
        model.names["power"] = 3
        model.eval()

    def evaluate():
        model.eval()

    def set_enclosed():
        nonlocal beta
        beta = 0.25

    def set_global():
        globals()["OFFSET"] += 1

    def replace_method():
        Scale.twice = lambda self, y: y * 5

    def replace_function():
        globals()["shift"] = lambda y: y - 3

    def replace_code():
        shift.__code__ = (lambda y: y * 11).__code__

    def freeze():
        model.weight.requires_grad = False

    return step, model, locals()[name]


CHANGES = ["replace_data", "add_in_place", "write_silently", "load", "replace_parameter", "replace_table", "write_table", "write_what_numpy_reads", "set_attribute", "set_entry",
           "evaluate", "set_enclosed", "set_global", "replace_method", "replace_function", "replace_code", "freeze"]


@pytest.mark.parametrize("name", CHANGES)
def test_no_stale_value_is_replayed(name, monkeypatch):
    monkeypatch.setattr(Scale, "twice", Scale.twice)  # each is put back afterwards
    monkeypatch.setitem(globals(), "OFFSET", OFFSET)
    monkeypatch.setitem(globals(), "shift", shift)
    monkeypatch.setattr(shift, "__code__", shift.__code__)
    step, model, change = changes(name)
    compiled = zoo.compile(step)

    def compare():
        x = np.arange(3, dtype=np.float32)
        results = []
        for run in (step, compiled):
            model.weight.grad = None
            y = run(Tensor(x))
            if y.requires_grad:
                y.backward(np.ones(3, np.float32))
            results.append((y, model.weight.grad))
        assert same(results[0][0], results[1][0]) and same(results[0][1], results[1][1])
        return results[0][0].data

    before = [compare() for _ in range(4)][-1]
    assert compiled.replays == 2
    change()
    after = [compare() for _ in range(4)][-1]
    assert name == "freeze" or not same(before, after)
    assert compiled.reason is None and compiled.replays >= 4


def test_precision_threads_and_modes_are_parts_of_the_key():
    model = small_transformer()
    compiled = zoo.compile(model)
    ids = windows(0)[0]
    for mode in (lambda: use_precision("bf16"), no_grad, lambda: use_precision("float32")):
        for _ in range(3):
            with mode():
                assert same(compiled(ids), model(ids)) and compiled.reason is None
    assert compiled.replays == 3


# --- what belongs to the caller


def test_results_and_gradients_are_left_alone_by_later_calls():
    model = Scale()
    compiled, one = zoo.compile(lambda x: model(x)), Scale()
    held, expected = [], []
    for k in range(7):
        x = np.full(3, k, np.float32)
        for m, run, to in ((model, compiled, held), (one, one, expected)):
            m.weight.grad = None
            y = run(Tensor(x))
            y.backward(np.ones(3, np.float32))
            to.append((y, m.weight.grad))
    assert compiled.replays >= 3
    assert all(same(a, b) for h, e in zip(held, expected) for a, b in zip(h, e))


def test_gradients_accumulate():
    model, one = Scale(), Scale()
    compiled = zoo.compile(lambda x: model(x))
    for k in range(6):
        for run in (compiled, one):
            run(Tensor(np.full(3, k, np.float32))).backward(np.ones(3, np.float32))
        assert same(model.weight.grad, one.weight.grad)
    assert compiled.replays >= 3


def test_a_graph_can_be_walked_twice_if_it_is_retained():
    model, one = Scale(), Scale()
    compiled = zoo.compile(lambda x: model(x))
    for k in range(5):
        for run in (compiled, one):
            y = run(Tensor(np.full(3, k, np.float32)))
            y.backward(np.ones(3, np.float32), retain_graph=True)
            y.backward(np.full(3, 2, np.float32))
            with pytest.raises(RuntimeError, match="freed"):
                y.backward(np.ones(3, np.float32))
        assert same(model.weight.grad, one.weight.grad)
    assert compiled.replays == 3


def test_two_calls_before_the_first_backward():
    model, one = Scale(), Scale()
    compiled = zoo.compile(lambda x: model(x))
    for k in range(5):
        for run in (compiled, one):
            y, z = run(Tensor(np.full(3, k, np.float32))), run(Tensor(np.full(3, k + 1, np.float32)))
            z.backward(np.ones(3, np.float32))
            y.backward(np.ones(3, np.float32))
        assert same(model.weight.grad, one.weight.grad)
    assert compiled.replays > 2 and "waits for its backward" in compiled.reason


def test_backward_raises_where_a_parameter_was_changed_since():
    model = Scale()
    compiled = zoo.compile(lambda x: model(x))
    for _ in range(4):
        y = compiled(Tensor(np.ones(3, np.float32), requires_grad=True))
        model.weight.data += 1
        with pytest.raises(RuntimeError, match="weight|a of multiply was changed"):
            y.backward(np.ones(3, np.float32))
        del y
    assert compiled.replays == 2


def test_gradients_of_inputs_and_of_gradients():
    model = Scale()
    compiled = zoo.compile(lambda x: ops.exp(model(x)).sum())
    for k in range(4):
        results = []
        for run in (compiled, compiled.step):
            x = Tensor(np.arange(3, dtype=np.float32) / (k + 3), requires_grad=True)
            h = ops.sin(x)
            first, of_weight = grad(run(h), [x, model.weight], create_graph=True)
            second = grad((first * first).sum(), [x, model.weight])
            alone = grad(run(h), h)
            results.append([first, of_weight, *second, alone])
        assert all(map(same, *results))
    assert compiled.replays == 6


def test_a_tensor_may_come_in_twice():
    model = Scale()
    for step in (lambda x, y: ops.exp(x) * y + x, lambda x, y: ops.exp(x) * model.weight + ops.sin(model.weight) * y):
        compiled = zoo.compile(step)
        results = []
        for run in (compiled, step):
            for k in range(5):
                model.weight.grad = None
                model.weight.data[...] = k + np.arange(3) / 7
                run(model.weight, model.weight if k % 2 else Tensor(np.ones(3, np.float32))).backward(np.ones(3, np.float32))
                results.append(model.weight.grad)
        assert all(map(same, results[:5], results[5:]))


def test_several_results():
    model = Scale()

    def step(batch, *, scale):
        y = model(batch["x"]) * scale
        return {"loss": y.sum(), "parts": (y, [y.mean(), y]), "n": len(batch["x"]), "weight": model.weight}

    compiled = zoo.compile(step)
    for k in range(5):
        results = []
        for run in (compiled, step):
            model.weight.grad = None
            r = run({"x": np.full(3, k, np.float32)}, scale=0.5)
            (r["loss"] * r["parts"][1][0] + r["parts"][0].sum()).backward()
            results.append([r["loss"], r["parts"][0], r["parts"][1][0], model.weight.grad])
            assert r["parts"][0] is r["parts"][1][1] and r["n"] == 3 and r["weight"] is model.weight
        assert all(map(same, *results))
    assert compiled.replays == 3


def test_what_nothing_but_arrays_made_stays_an_array():
    compiled = zoo.compile(lambda x, i: (ops.exp(x), x[i], x))
    for k in range(4):
        x = np.arange(3, dtype=np.float32) + k
        assert all(map(same, compiled(x, 1), (ops.exp(x), x[1], x)))
    assert compiled.replays == 2


# --- what can't be replayed


def drawing(rng):
    return lambda x: x + rng.standard_normal(3, np.float32)


def counting():
    seen = []

    def step(x):
        seen.append(0)
        return x * float(len(seen))

    return step


def running_average():
    norm = nn.BatchNorm(3)
    return lambda x: norm(x.reshape(1, 3) + np.array([[0.0], [1.0]], np.float32)) + norm.running_mean


REASONS = {
    "values": (lambda: lambda x: x * float(x.sum()), "values of a tensor are read"),
    "branch": (lambda: lambda x: x * 2 if x[0] > 2 else x, "values of a tensor are read"),
    "array": (lambda: lambda x: x + np.sqrt(x.data), "values of a tensor are read"),
    "numpy": (lambda: lambda x: x + np.sqrt(x), "raises TypeError"),
    "detached": (lambda: lambda x: x * x.detach().numpy(), "values of a tensor are read"),
    "random": (lambda: drawing(np.random.default_rng(0)), "random numbers are drawn"),
    "global random": (lambda: lambda x: x + float(np.random.rand()), "constant from one call to the next"),
    "count": (counting, "constant from one call to the next|change too often"),
    "running average": (running_average, "values of a tensor are read"),
    "gradient": (lambda: lambda x: x + grad(ops.exp(x).sum(), x) if isinstance(x, Tensor) and x.requires_grad else x, "gradients are taken inside"),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_step_that_cannot_be_replayed_runs_as_it_is(name):
    make, reason = REASONS[name]
    results = []
    for wrap in (lambda step: step, zoo.compile):
        np.random.seed(0)
        run = wrap(make())
        inputs = [np.arange(3, dtype=np.float32) + k for k in range(5)]
        results.append([run(x if name == "numpy" else Tensor(x, requires_grad=name == "gradient")) for x in inputs])
    assert all(map(same, *results))
    assert run.replays == 0
    assert any(part in run.reason for part in reason.split("|")), run.reason
    if "values" in reason:
        assert "line" in run.reason, run.reason


def test_plain_while_something_else_is_on(rng):
    model = small_transformer()
    compiled = zoo.compile(model)
    ids = windows(0)[0]
    for _ in range(3):
        compiled(ids)
    with zoo.trace(model) as seen:
        compiled(ids)
    assert "a trace or patch is on" in compiled.reason and "blocks.0.attention.softmax" in {r.short for r in seen.records}
    with zoo.profile(show=False) as profile:
        compiled(ids)
    assert compiled.reason == "a profile is on" and "self_attention" in dict(profile.shares())
    with use_kernels(False):
        assert same(compiled(ids), model(ids))
    assert compiled.reason == "kernels are off"
    assert same(compiled(ids), model(ids)) and compiled.reason is None and compiled.replays == 2


def test_errors_are_those_of_the_step():
    model = small_transformer()
    compiled = zoo.compile(lambda x, y: ops.cross_entropy(model(x), y))
    x, y = windows(0)
    for _ in range(3):
        compiled(x, y)
    for wrong in ((x + 11, y), (x, y + 11)):
        with pytest.raises((ValueError, IndexError)) as expected:
            compiled.step(*wrong)
        with pytest.raises(type(expected.value)) as got:
            compiled(*wrong)
        assert str(got.value) == str(expected.value)
    assert same(compiled(x, y), compiled.step(x, y)) and compiled.replays == 2


def test_indices_are_checked_although_they_are_no_arguments():
    model, ids = small_transformer(), windows(0)[0]
    compiled = zoo.compile(lambda: ops.embedding(model.embedding.weight, ids))
    for _ in range(4):
        compiled()
    ids[0, 0] = 1 << 40
    with pytest.raises(IndexError, match="embedding: ids go from"):
        compiled()
    ids[0, 0] = 3
    assert same(compiled(), compiled.step()) and compiled.replays >= 2


def test_slots_are_watched():
    class Hidden:
        __slots__ = ("weight",)

    hidden = Hidden()
    hidden.weight = nn.parameter(np.arange(3))
    compiled = zoo.compile(lambda x: x * hidden.weight)
    x = np.ones(3, np.float32)
    for _ in range(4):
        compiled(x)
    hidden.weight.data = np.full(3, 7, np.float32)
    assert compiled.replays == 2 and same(compiled(x), compiled.step(x))
    hidden.weight = nn.parameter(np.full(3, 8))
    assert same(compiled(x), compiled.step(x))


def test_only_functions_can_be_compiled():
    with pytest.raises(TypeError, match="step is 3; it is a function"):
        zoo.compile(3)


# --- training runs


def runs_of(kind, **fields):
    """A function of options of `Trainer` that makes a run of a few steps."""
    rng = np.random.default_rng(0)
    if kind == "vae":
        pictures = rng.random((48, 8, 8), np.float32)
        data = Images(pictures, None, pictures, None, "noise")
        settings = vae.VAETraining(epochs=2, batch_size=8, optimiser="adam", warm_up=1)
        return lambda **options: vae.make_trainer(VAE.new(image=(8, 8), hidden=(16,), latent=(3,), **fields), data, settings, **options)
    corpus = Corpus("text", "".join(map(chr, rng.integers(65, 76, 400))))
    settings = language.LanguageTraining(steps=12, batch_size=3, warm_up=2, evaluate_every=5)
    return lambda **options: language.make_trainer(Transformer.for_data(corpus, window=8, layers=1, heads=2, width=16, **fields), corpus, settings, **options)


@pytest.mark.parametrize("kind, fields, expected", [
    ("vae", {}, None), ("vae", {"pixels": "gaussian", "binarise": False}, None), ("vae", {"samples": 2}, "values of a tensor are read"),
    ("vae", {"network": "convolutional"}, None), ("transformer", {}, None), ("transformer", {"dropout": 0.1}, "random numbers are drawn")])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_compiled_run_gives_the_same_weights(kind, fields, expected, accumulate):
    weights, losses = [], []
    for compile in (False, True):
        trainer = runs_of(kind, **fields)(compile=compile, accumulate=accumulate)
        losses.append([record.losses for record in trainer])
        weights.append(trainer.model.arrays())
    assert losses[0] == losses[1] and all(same(weights[0][name], weights[1][name]) for name in weights[0])
    step = getattr(trainer._objective(), "losses", trainer._objective())
    if expected is None:
        assert step.reason is None and step.replays >= 12 * accumulate - 4, step.reason
    else:
        assert expected in step.reason
