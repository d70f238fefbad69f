"""What kernels promise beyond being equal to their definitions (test_operations.py): views aren't copied, threads don't matter,
long sequences take linear memory.
"""

import collections
import importlib
import pkgutil
import tracemalloc
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from operation_cases import LARGE

import zoo
import zoo.autograd as ops
from zoo.autograd import Tensor, get_threads, set_threads
from zoo.autograd.kernels import optimiser
from zoo.autograd.random import uniform
from zoo.autograd.runtime import threads, use_kernels
from zoo.autograd.runtime.compiling import Separate, inner
from zoo.autograd.runtime.native import add_row_times_matrix, row_times_narrow_matrix, row_times_rows
from zoo.autograd.runtime.tasks import Address, Task, address_of, row, task


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def run(f, *arrays, seed=1):
    """The value of f, and its gradients in the arrays for a random gradient of the value."""
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    y = f(*tensors)
    y.backward(np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype))
    return [y.data, *(t.grad for t in tensors)]


def assert_as_defined(f, *arrays, tolerance=2e-5):
    found = run(f, *arrays)
    with use_kernels(False):
        expected = run(f, *(a.astype(np.float64) for a in arrays))
    for a, b in zip(found, expected):
        assert a.dtype == np.float32
        assert np.allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.max(np.abs(b)))), np.max(np.abs(a - b))


def look_back(q, k, v):
    return ops.scaled_dot_product_attention(q, k, v, is_causal=True)


def norm_groups(x, gain, bias):
    return ops.group_norm(x, gain, bias, groups=8, activation="silu")


STEPS = {
    "linear": lambda r: (lambda x, w, b: ops.linear(x, w, b, activation="gelu"), normal(r, 130, 70), normal(r, 70, 90), normal(r, 90)),
    "attention": lambda r: (look_back, *(normal(r, 3, 150, 16) for _ in range(3))),
    "layer_norm": lambda r: (ops.layer_norm, normal(r, 1000, 40), normal(r, 40), normal(r, 40)),
    "batch_norm": lambda r: (ops.batch_norm, normal(r, 1000, 40), normal(r, 40), normal(r, 40)),
    "group_norm": lambda r: (norm_groups, normal(r, 7, 9, 9, 40), normal(r, 40), normal(r, 40)),
    "lstm": lambda r: (ops.lstm, normal(r, 7, 9, 80), normal(r, 7, 40), normal(r, 20, 80) * np.float32(0.3)),
    "mse": lambda r: (ops.mse, normal(r, 100_000), normal(r, 100_000)),
}


@pytest.mark.parametrize("name", STEPS)
def test_threads_change_nothing_but_rounding_and_a_second_run_nothing_at_all(name, rng):
    f, *arrays = STEPS[name](rng)
    before = get_threads()
    first, second = run(f, *arrays), run(f, *arrays)
    try:
        set_threads(1)
        alone = run(f, *arrays)
    finally:
        set_threads(before)
    for a, b, c in zip(first, second, alone):
        assert np.array_equal(a, b)
        assert np.allclose(a, c, rtol=1e-5, atol=1e-5 * np.max(np.abs(a)))


@given(batch=st.integers(1, 3), time=st.integers(1, 70), heads=st.integers(1, 3), width=st.integers(1, 20), causal=st.booleans())
def test_attention_reads_slices_of_one_buffer(batch, time, heads, width, causal):
    x = normal(np.random.default_rng(0), batch, time, 3 * heads * width)

    def attend(x):
        q, k, v = (ops.swapaxes(z.reshape((batch, time, heads, width)), axis1=1, axis2=2) for z in ops.split(x, 3, axis=-1))
        y = ops.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return ops.swapaxes(y, axis1=1, axis2=2).reshape((batch, time, heads * width))

    assert_as_defined(attend, x)


KINDS = st.sampled_from(["none", "bool", "row", "window", "numbers"])


@given(queries=st.integers(1, 140), more=st.integers(0, 300), causal=st.booleans(), kind=KINDS)
@example(queries=20, more=300, causal=False, kind="window")  # the first block of 256 keys is hidden from every query
@example(queries=300, more=300, causal=True, kind="window")
def test_attention_over_several_blocks_is_its_definition(queries, more, causal, kind):
    rng = np.random.default_rng(queries + more)
    keys = queries + more
    place = np.arange(queries)[:, None] + more  # among the keys
    masks = {
        "none": None,
        "numbers": normal(rng, 2, 1, keys),
        "bool": (rng.random((queries, keys)) < 0.2) | (np.arange(keys) == place),
        "row": (rng.random((1, keys)) < 0.5) | (np.arange(keys) <= 0),
        "window": (np.arange(keys) <= place) & (np.arange(keys) > place - 7),
    }
    q, k, v = normal(rng, 2, queries, 5), normal(rng, 2, keys, 5), normal(rng, 2, keys, 7)
    assert_as_defined(lambda q, k, v: ops.scaled_dot_product_attention(q, k, v, masks[kind], is_causal=causal), q, k, v)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("as_numbers", [True, False])
@pytest.mark.parametrize("keys", [3, 700])
def test_a_query_that_may_look_nowhere_gets_0_and_sends_no_gradient(keys, as_numbers, kernels, rng):
    """As torch.nn.functional.scaled_dot_product_attention and ONNX's Attention have it; a mask must not make every weight NaN."""
    q, k, v = normal(rng, 2, 4, 5), normal(rng, 2, keys, 5), normal(rng, 2, keys, 6)
    mask = rng.random((4, keys)) < 0.5
    mask[1] = False
    mask[2, :-1] = False  # one key is left, in the last block
    mask[[0, 2], -1] = True
    given_mask = np.where(mask, 0, -np.inf).astype(np.float32) if as_numbers else mask
    with use_kernels(kernels):
        y, dq, dk, dv = run(lambda q, k, v: ops.scaled_dot_product_attention(q, k, v, given_mask), q, k, v)
        rest, *gradients = run(lambda q, k, v: ops.scaled_dot_product_attention(q, k, v, given_mask[[0, 2, 3]]), q[:, [0, 2, 3]], k, v)
    assert not y[:, 1].any() and not dq[:, 1].any()
    np.testing.assert_allclose(y[:, [0, 2, 3]], rest, atol=1e-6)
    assert all(np.isfinite(a).all() for a in (dq, dk, dv, *gradients))
    np.testing.assert_allclose(y[:, 2], v[:, -1], atol=1e-6)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("kind", ["bool", "numbers", "causal"])
def test_a_nan_in_a_key_that_is_hidden_reaches_no_value(kind, kernels, rng):
    q, k, v = normal(rng, 3, 5), normal(rng, 4, 5), normal(rng, 4, 6)
    mask = np.array([[True, True, False, False]] * 3)
    given_mask = {"bool": mask, "numbers": np.where(mask, 0, -np.inf).astype(np.float32), "causal": None}[kind]
    with use_kernels(kernels):
        if kind == "causal":  # the last key is hidden from all queries but the last
            k[3] = np.nan
            y = ops.scaled_dot_product_attention(q, k, v, is_causal=True)
            assert np.isfinite(y[:2]).all() and np.isnan(y[2]).all()
        else:
            expected = ops.scaled_dot_product_attention(q, k, v, given_mask)
            k[2:] = np.nan
            assert np.array_equal(ops.scaled_dot_product_attention(q, k, v, given_mask), expected)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_the_derivative_of_gelu_is_0_or_1_far_from_0(approximate, kernels):
    """Where x^3 or x^2 isn't a float32 any more as well."""
    x = np.array([-3e38, -1e20, -1e19, -1e10, -100, -20, 20, 100, 1e10, 1e19, 1e20, 3e38], np.float32)
    with use_kernels(kernels):
        y, dx = run(lambda x: ops.gelu(x, approximate=approximate), x)
    expected = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32) * (x > 0)
    np.testing.assert_allclose(y, np.maximum(x, 0), rtol=1e-6)
    np.testing.assert_allclose(dx, expected, rtol=1e-6)


@pytest.mark.parametrize("operation", ["scaled_dot_product_attention", "matmul", "linear"])
def test_a_field_of_records_is_read_where_it_lies(operation, rng):
    """Its strides aren't multiples of the size of a float32."""
    records = np.zeros((2, 6, 1), np.dtype([("x", np.float32), ("y", np.int16)]))
    records["x"] = normal(rng, 2, 6, 1)
    x, plain = records["x"], records["x"].copy()
    arguments = {
        "scaled_dot_product_attention": lambda x: (x, x, x),
        "matmul": lambda x: (x, normal(np.random.default_rng(0), 1, 5)),
        "linear": lambda x: (x, normal(np.random.default_rng(0), 1, 5), None),
    }[operation]
    f = getattr(ops, operation)
    assert np.array_equal(f(*arguments(x)), f(*arguments(plain)))


def test_attention_takes_memory_in_proportion_to_time(rng):
    def peak(time):
        arrays = [normal(rng, 1, 2, time, 8) for _ in range(3)]
        run(look_back, *arrays)  # what is allocated once
        tracemalloc.start()
        run(look_back, *arrays)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    with use_kernels(True):
        assert peak(2048) < 2.2 * peak(1024)


@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
def test_linear_takes_a_transposed_weight_and_strided_rows(activation, rng):
    x, w, b = normal(rng, 4, 6, 33), normal(rng, 40, 33), normal(rng, 40)
    assert_as_defined(lambda x, w, b: ops.linear(ops.swapaxes(x, axis1=0, axis2=1), ops.swapaxes(w), b, activation=activation), x, w, b)


@given(st.data())
def test_matmul_takes_any_strides(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    m, k, n = (data.draw(st.integers(1, 20)) for _ in range(3))
    a_batch, b_batch = data.draw(st.sampled_from([((), ()), ((3,), ()), ((), (3,)), ((2, 1), (3,)), ((2, 3), (2, 3))]))
    a_steps, b_steps, turned = (data.draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (-1, 1)])) for _ in range(3))
    a, b = normal(rng, *a_batch, m, k), normal(rng, *b_batch, k, n)

    def strided(x, steps):
        """The same values, `steps` apart in memory."""
        room = np.zeros((*x.shape[:-2], *(abs(s) * n for s, n in zip(steps, x.shape[-2:]))), np.float32)
        view = room[(..., *(slice(None, None, s) for s in steps))]
        view[...] = x
        return view

    one = strided(np.swapaxes(a, -1, -2), a_steps).swapaxes(-1, -2) if turned == (2, 1) else strided(a, a_steps)
    with use_kernels(False):
        expected = ops.matmul(a.astype(np.float64), b.astype(np.float64))
    assert np.allclose(ops.matmul(one, strided(b, b_steps)), expected, rtol=1e-5, atol=1e-4)


def test_dropout_keeps_where_the_random_number_says(rng):
    x = np.ones((37, 1001), np.float32)
    y = ops.dropout(x, p=0.3, seed=2**62 + 5)
    assert np.array_equal(y > 0, uniform(2**62 + 5, x.shape) >= np.float32(0.3))


@pytest.mark.parametrize("readonly", ["x", "weight", "bias"])
def test_a_read_only_array_is_served_as_well(readonly, rng):
    arrays = {"x": normal(rng, 5, 6), "weight": normal(rng, 6, 7), "bias": normal(rng, 7)}
    expected = ops.linear(**arrays)
    arrays[readonly].flags.writeable = False
    assert np.array_equal(ops.linear(**arrays), expected)


def test_softmax_keeps_nan_and_minus_infinity(rng):
    x = normal(rng, 3, 40)
    x[0, 5], x[1, :39] = np.nan, -np.inf
    y = ops.softmax(x)
    assert np.isnan(y[0]).all() and y[1, 39] == 1 and not y[1, :39].any()


def test_an_address_is_where_the_first_element_lies(rng):
    whole = normal(rng, 5, 6)
    readonly = whole[1:].copy()
    readonly.flags.writeable = False
    for a in (whole, whole[2:], whole[:, 3:], whole[::-1], whole.T, readonly, whole[:0], np.zeros(3, bool), np.array(1.0)):
        assert address_of(a) == a.__array_interface__["data"][0]


class Affine(NamedTuple):
    source: Address
    factor: float
    shift: int


@task
def affine_row(t, tasks, i, affine: Affine, y, n, scale: float):
    source, target = row(affine.source, i, n), row(y, 0, n)
    for j in range(n):
        target[j] = scale * (affine.factor * source[j] + affine.shift)


def test_a_struct_reaches_a_task_field_by_field_between_its_other_arguments(rng):
    x, y = normal(rng, 3, 5), np.empty(5, np.float32)
    affine_row(2, Affine(x, 0.5, -7), y, 5, 2.0, tasks=1)
    np.testing.assert_allclose(y, x[2] - 14, rtol=1e-6)
    with pytest.raises(AssertionError):
        affine_row(2, Affine(x, 0.5, -7), y, 5, tasks=1)


def test_a_struct_whose_fields_change_order_is_compiled_anew():
    def digest(*fields):
        names = {"Pair": collections.namedtuple("Pair", fields), "__name__": __name__}
        exec("def difference():\n    pair = Pair(5, 3)\n    return pair.a - pair.b", names)
        return inner(names["difference"]).digest()

    assert digest("a", "b") != digest("b", "a")


@task
def rows_products(t, tasks, x, rows, pitch, count, n, y):
    row_times_rows(x, rows, pitch, count, n, y)


@task
def matrix_products(t, tasks, x, matrix, pitch, n, m, y, narrow):
    if narrow:
        row_times_narrow_matrix(x, matrix, pitch, n, m, y)
    else:
        add_row_times_matrix(x, matrix, pitch, n, m, y)


@given(count=st.integers(1, 40), n=st.integers(1, 70), gap=st.integers(0, 3), shift=st.integers(0, 17))
def test_products_of_one_row_are_as_defined_wherever_the_rows_lie(count, n, gap, shift):
    r = np.random.default_rng(count)
    rows, x, factors = normal(r, count, n + gap), normal(r, n), normal(r, count)
    moved = np.full(rows.size + 20, np.nan, np.float32)
    moved[shift : shift + rows.size] = rows.reshape(-1)
    found = []
    for a in (rows, moved[shift:]):
        dots, added, narrow = np.full(count + 1, 7, np.float32), np.ones(n + 1, np.float32), np.full(n + 1, 7, np.float32)
        rows_products(x, a, n + gap, count, n, dots, tasks=1)
        matrix_products(factors, a, n + gap, count, n, added, 0, tasks=1)
        matrix_products(factors, a, n + gap, count, n, narrow, 1, tasks=1)
        found.append((dots, added, narrow))
    dots, added, narrow = found[0]
    np.testing.assert_allclose(dots[:-1], rows[:, :n] @ x, atol=2e-5)
    np.testing.assert_allclose(added[:-1] - 1, factors @ rows[:, :n], atol=2e-5)
    np.testing.assert_allclose(narrow[:-1], factors @ rows[:, :n], atol=2e-5)
    assert dots[-1] == 7 and added[-1] == 1 and narrow[-1] == 7  # nothing is written behind a row
    assert all(np.array_equal(a, b) for a, b in zip(*found))


@given(batch=st.integers(1, 3), time=st.integers(1, 5), width=st.integers(1, 20), rest=st.integers(0, 9), reverse=st.booleans())
def test_linear_reads_slices_of_wider_rows(batch, time, width, rest, reverse):
    r = np.random.default_rng(0)

    def layer(x, weight, bias):
        part = x[:, ::-1, :width] if reverse else x[:, :, :width]
        return ops.linear(part, weight, bias, activation="silu")

    assert_as_defined(layer, normal(r, batch, time, width + rest), normal(r, width, 7), normal(r, 7))


# --- optimisers: each step against the formula of its paper, in float64


def entries(rng, n):
    return [normal(rng, n) for _ in range(4)]


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("n", [1, 17, 70_001])
def test_adam_is_algorithm_1_of_kingma_and_ba_with_decoupled_decay(n, kernels, rng):
    lr, b1, b2, eps, decay = 0.01, 0.9, 0.99, 1e-4, 0.1
    p, m, v = normal(rng, n), np.zeros(n, np.float32), np.zeros(n, np.float32)
    exact_p, exact_m, exact_v = p.astype(np.float64), np.zeros(n), np.zeros(n)
    for step in range(1, 6):
        g = normal(rng, n)
        with use_kernels(kernels):
            optimiser.adam(p, g, m, v, lr, b1, b2, eps, decay, step)
        exact_m = b1 * exact_m + (1 - b1) * g
        exact_v = b2 * exact_v + (1 - b2) * g.astype(np.float64) ** 2
        corrected_m, corrected_v = exact_m / (1 - b1**step), exact_v / (1 - b2**step)
        exact_p = exact_p - lr * decay * exact_p - lr * corrected_m / (np.sqrt(corrected_v) + eps)
    np.testing.assert_allclose(m, exact_m, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(v, exact_v, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(p, exact_p, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_a_step_along_the_velocity(momentum, kernels, rng):
    p, g, velocity, _ = entries(rng, 5001)
    expected_velocity = momentum * velocity.astype(np.float64) + g
    expected = p - 0.1 * (expected_velocity if momentum else g)
    with use_kernels(kernels):
        optimiser.sgd(p, g, velocity, 0.1, momentum)
    np.testing.assert_allclose(p, expected, atol=1e-6)
    if momentum:
        np.testing.assert_allclose(velocity, expected_velocity, atol=1e-6)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("n", [3, 9001])
def test_an_average_moves_by_its_rate(n, kernels, rng):
    a, b, _, _ = entries(rng, n)
    expected = 0.75 * a.astype(np.float64) + 0.25 * b
    with use_kernels(kernels):
        optimiser.move_towards(a, b, 0.25)
    np.testing.assert_allclose(a, expected, atol=1e-6)


@pytest.mark.parametrize("kernels", [True, False])
def test_gradients_are_gathered_in_order_with_zeros_for_those_that_are_missing(kernels, rng):
    given_gradients = [normal(rng, 3, 5), None, normal(rng, 4096), normal(rng, 7, 2000).T, None, normal(rng, 1)]  # chunks of 4096 don't end where they do
    sizes = [15, 5000, 4096, 14_000, 3, 1]
    flat = np.full(sum(sizes), np.nan, np.float32)
    with use_kernels(kernels):
        norm = optimiser.gather(flat, given_gradients, sizes)
    expected = np.concatenate([np.zeros(n) if g is None else g.reshape(-1) for g, n in zip(given_gradients, sizes)])
    assert np.array_equal(flat, expected)
    assert norm == pytest.approx(np.linalg.norm(expected), rel=1e-6)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 3), (7, 7), (5, 15), (20, 300), (33, 98), (65, 66)])
def test_newton_schulz_applies_the_published_polynomial_to_singular_values(shape, kernels, rng):
    """Jordan et al. (2024): five times s -> 3.4445 s - 4.7750 s^3 + 2.0315 s^5, from s / |s|."""
    x = normal(rng, *shape)
    u, s, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    s = s / (np.sqrt(np.sum(s**2)) + 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    with use_kernels(kernels):
        optimiser.newton_schulz([x], (3.4445, -4.7750, 2.0315), 5)
    np.testing.assert_allclose(x, (u * s) @ vt, atol=2e-4)


@pytest.mark.parametrize("columns", [40, 119, 120, 200])
@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_wide_matrices_of_any_spectrum_are_orthogonalised_as_the_definition_does_it(columns, iterations, rng):
    """From three times as many columns as rows on, in another order: singular values from 1 to 1e-6 and zeros, within 2e-3 of the greatest."""
    u, v = (np.linalg.qr(rng.standard_normal((n, 40)))[0] for n in (40, columns))
    for s in (np.logspace(0, -6, 40), np.r_[np.ones(5), np.zeros(35)], np.zeros(40)):
        x = ((u * s) @ v.T).astype(np.float32)
        y = x.copy()
        optimiser.newton_schulz([x], (3.4445, -4.7750, 2.0315), iterations)
        with use_kernels(False):
            optimiser.newton_schulz([y], (3.4445, -4.7750, 2.0315), iterations)
        assert np.linalg.norm(x - y, 2) <= 2e-3


@pytest.mark.parametrize("kernels", [True, False])
def test_a_gradient_of_another_size_than_its_parameter_is_refused(kernels, rng):
    flat = np.zeros(8, np.float32)
    with use_kernels(kernels):
        with pytest.raises(ValueError, match=r"shape \(2,\); its parameter has 5 entries"):
            optimiser.gather(flat, [normal(rng, 3), normal(rng, 2)], [3, 5])
        with pytest.raises(ValueError, match="8 entries are to fill 7"):
            optimiser.gather(flat[:7], [normal(rng, 3), None], [3, 5])


# --- what no check of the operation looks at, the kernel leaves to the definition

REFUSED = {
    "gru with a bias of one gate": lambda r: ops.gru(normal(r, 1, 2, 12), normal(r, 1, 4), normal(r, 4, 12), normal(r, 4)),
    "gru with one number as its bias": lambda r: ops.gru(normal(r, 2, 3, 12), normal(r, 2, 4), normal(r, 4, 12), normal(r, 1)),
    "self_attention that turns heads of an odd width": lambda r: ops.self_attention(
        normal(r, 1, 3, 9), heads=1, key_value_heads=1, rotation=(normal(r, 3, 1), normal(r, 3, 1))),
    "embedding_adjoint with an id too many": lambda r: ops.embedding_adjoint(normal(r, 3, 2), np.array([0, 1, 7]), symbols=4),
    "embedding_adjoint with a negative id": lambda r: ops.embedding_adjoint(normal(r, 3, 2), np.array([0, 1, -1]), symbols=4),
    "embedding_adjoint with fewer rows than ids": lambda r: ops.embedding_adjoint(normal(r, 2, 2), np.array([0, 1, 2]), symbols=4),
    "batch_norm with moments of one channel": lambda r: ops.batch_norm(
        normal(r, 5, 3), normal(r, 3), normal(r, 3), moments=(np.zeros(1, np.float32), np.ones(1, np.float32))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_shape_or_index_that_a_kernel_was_not_written_for_never_reaches_it(name):
    """With kernels on, the value or the kind of error is the definition's: nothing beyond an array is read or written."""
    results = []
    for kernels in (True, False):
        with use_kernels(kernels):
            try:
                results.append(REFUSED[name](np.random.default_rng(0)))
            except (ValueError, IndexError) as error:
                results.append(type(error))
    if isinstance(results[1], type):
        assert results[0] is results[1]
    else:
        np.testing.assert_allclose(results[0], results[1], atol=1e-6)


# --- every kernel is run by a law


def modules_of(package):
    names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]


def test_no_two_kernels_share_a_name_on_disk():
    """A kernel is found, and linked, by its name and digest: two transforms of one name in two files once took each other's place."""
    functions = {k for module in modules_of(zoo) for k in vars(module).values() if isinstance(k, Separate)}
    assert len({(k.__name__, k.digest()) for k in functions}) == len(functions)


ELSEWHERE = {  # kernels that no operation runs, and the law that does
    "adam_step": test_adam_is_algorithm_1_of_kingma_and_ba_with_decoupled_decay,
    "gather_gradients": test_gradients_are_gathered_in_order_with_zeros_for_those_that_are_missing,
    "move_entries": test_an_average_moves_by_its_rate,
    "iterate_newton_schulz": test_newton_schulz_applies_the_published_polynomial_to_singular_values,
    "_decode": "test_transformer.py: test_decoded_logits_equal_the_definition",
    "_exponentials": "test_language.py: test_probabilities_of_many_symbols_are_those_of_the_definition",
    **dict.fromkeys(("round_entries", "finish_rows", "pack_pairs", "multiply_packed"), "test_precision.py"),
    "run_in_order": "test_compile.py",
    "_divide": "test_language.py: test_probabilities_of_many_symbols_are_those_of_the_definition",
}


@use_kernels(True)
def test_every_kernel_is_run_by_the_large_cases_of_an_operation(monkeypatch, rng):
    """Those are held to all laws in test_operations.py; what an operation doesn't run is named above."""
    kernels = {k for module in modules_of(zoo) for k in vars(module).values() if isinstance(k, Task)}
    ran, run_task = set(), Task.run
    monkeypatch.setattr(threads, "_count", 2)  # one adds up what threads computed apart; a machine with one core has it too
    monkeypatch.setattr(Task, "run", lambda self, *arguments: (ran.add(self), run_task(self, *arguments)))
    for name, makers in LARGE.items():
        for case in (make(rng) for make in makers):
            floats = [isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in case.arguments]
            arguments = [Tensor(a.astype(np.float32), requires_grad=True) if f else a for a, f in zip(case.arguments, floats)]
            y = ops.REGISTRY[name](*arguments, **case.settings)
            if isinstance(y, Tensor) and y.requires_grad:
                leaves = [a for a in arguments if isinstance(a, Tensor)]
                ops.grad(y, leaves, np.ones(y.shape, np.float32), allow_unused=True)
    missing = {k.__name__ for k in kernels - ran}
    by_processor = {"_many_rows"}  # test_quantised.py: test_both_ways_of_multiplying_many_rows_are_the_definition
    assert missing - by_processor == ELSEWHERE.keys(), f"{len(ran)} of {len(kernels)} kernels ran"
