"""Laws of the engine: the order of backward, its cost, what it leaves alone, indexing, errors, threads."""

import gc
import math
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo.autograd as ops
from zoo.autograd import REGISTRY, Tensor, enable_grad, fused, get_threads, grad, no_grad, primitive, set_threads, tensor
from zoo.autograd.checking import arrays, check_gradients, shapes
from zoo.autograd.runtime import use_kernels
from zoo.transformer import Transformer
from zoo.vae import VAE

rule_calls = []


@primitive
def counted_double(x):
    """y = 2 x, and every call of the rule is counted"""
    return 2 * x


@counted_double.derivatives
def _(g, _y, _x):
    rule_calls.append(1)
    return 2 * g


@primitive
def first_of_two(a, b):
    """y = a, with a rule for b that mustn't run"""
    return a + 0 * b


def must_not_run(g, _y, _a, _b):
    raise AssertionError("a rule ran that nobody asked for")


first_of_two.derivatives(lambda g, _y, _a, _b: 1 * g, must_not_run)


@fused
def blend(a, b, c):
    """y = a b + sin(b c)"""
    return a * b + ops.sin(b * c)


def leaf(values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


# --- the walk


def test_each_use_is_counted_before_a_gradient_goes_on():
    a = leaf(3.0)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad == 4


def test_a_short_way_waits_for_the_long_one():
    def two_ways(a):
        b = a * 2
        long = b
        for _ in range(5):
            long = ops.sin(long)
        return b * long + b

    check_gradients(two_ways, np.array(0.5))


def test_chain_of_10_000_operations():
    depth = 10_000
    x = leaf(1.0)
    y = x
    for _ in range(depth):
        y = y * 1.0001
    (dx,) = grad(y, [x], retain_graph=True)
    assert math.isclose(dx.item(), 1.0001**depth, rel_tol=1e-9)
    (again,) = grad(y, [x], create_graph=True)
    assert again.item() == dx.item()
    del y, again  # letting go of the chain must not recurse either
    gc.collect()


def test_residual_stream_of_1000_blocks_is_walked_once():
    """A walk that follows every path would take 2 ** 1000 steps."""
    x = leaf([1.0, 2.0])
    y = x
    for _ in range(1000):
        y = y * 0.5 + counted_double(y) * 0.25
    rule_calls.clear()
    ops.sum(y).backward()
    assert len(rule_calls) == 1000
    assert np.array_equal(x.grad, [1.0, 1.0])


def test_long_stream_in_second_order_is_linear_too():
    def rules_run(blocks):
        x = leaf(1.0)
        y = x
        for _ in range(blocks):
            y = y + counted_double(y) * 0.01
        rule_calls.clear()
        dx = grad(y * y, x, create_graph=True)
        dx.backward()
        return len(rule_calls)

    assert rules_run(80) == 2 * rules_run(40) == 4 * rules_run(20)


def test_backward_frees_what_it_has_used():
    x = leaf(np.ones(1000))
    hidden = ops.exp(x)
    y = ops.sum(hidden * hidden)
    memory = weakref.ref(hidden.data)
    del hidden
    y.backward()
    gc.collect()
    assert memory() is None


def test_no_values_are_kept_that_no_rule_reads():
    x = leaf(np.ones(1000))
    doubled = x + x
    y = ops.sum(doubled + 1.0)  # sums need shapes only
    memory = weakref.ref(doubled.data)
    del doubled
    assert memory() is None
    y.backward()
    assert np.all(x.grad == 2)


# --- backward twice, and what is kept


def test_backward_twice_is_an_error_that_says_what_to_do():
    x = leaf([1.0, 2.0])
    y = ops.sum(x * x)
    y.backward()
    with pytest.raises(RuntimeError, match=r"^backward: .*freed.*retain_graph=True"):
        y.backward()


def test_backward_through_a_part_that_was_freed_is_an_error():
    x = leaf([1.0, 2.0])
    shared = ops.exp(x)
    ops.sum(shared).backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        ops.sum(shared * 2).backward()


def test_retain_graph_adds_up():
    x = leaf([1.0, 2.0])
    y = ops.sum(x * x)
    y.backward(retain_graph=True)
    first = x.grad
    y.backward()
    assert np.array_equal(first, [2, 4]) and np.array_equal(x.grad, [4, 8])


def test_gradient_of_an_intermediate():
    x = leaf([1.0, 2.0])
    h = x * x
    y = ops.sum(h * h)
    dh, dx = grad(y, [h, x])
    assert np.array_equal(dh.numpy(), 2 * h.numpy()) and np.array_equal(dx.numpy(), 4 * x.numpy() ** 3)


def test_gradient_of_an_intermediate_leaves_what_is_below_it():
    x = leaf([1.0, 2.0])
    h = x * x
    dh = grad(ops.sum(h * 3), h)
    h.backward(dh.numpy())
    assert np.array_equal(x.grad, [6, 12])


def test_one_input_an_ancestor_of_another():
    x = leaf(2.0)
    h = x * x
    y = h * x + h
    dx, dh, dy = grad(y, [x, h, y])
    assert (dx.item(), dh.item(), dy.item()) == (3 * 4 + 2 * 2, 2 + 1, 1)


def test_kept_gradient_of_an_intermediate():
    x = leaf([1.0, 2.0])
    h = (x * x).retain_grad()
    ops.sum(h * 3).backward()
    assert np.array_equal(h.kept_grad, [3, 3])
    with pytest.raises(ValueError, match="leaf"):
        x.retain_grad()


def test_several_outputs_add_up():
    x = leaf([1.0, 2.0])
    u, v = x * 2, x * x
    dx = grad([u, v], x, [np.array([1.0, 0.0]), np.array([0.0, 1.0])])
    assert np.array_equal(dx.numpy(), [2, 4])


def test_output_beside_its_own_ancestor():
    x = leaf(3.0)
    h = x * x
    assert grad([h, h * 2], x).item() == 18


def test_unused_input():
    x, other = leaf(1.0), leaf(1.0)
    assert grad(x * 2, [x, other], allow_unused=True)[1] is None
    with pytest.raises(ValueError, match=r"^grad: .*inputs\[1\].*allow_unused=True"):
        grad(x * 2, [x, other])


def test_only_the_gradients_asked_for_are_computed():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    assert np.array_equal(grad(ops.sum(first_of_two(a, b)), a).numpy(), [1, 1])
    with pytest.raises(AssertionError, match="nobody asked"):
        grad(ops.sum(first_of_two(a, b)), [a, b])
    first_of_two(a, b.detach()).backward(np.ones(2))


def test_a_rule_that_raises_leaves_the_thread_as_it_was():
    from zoo.autograd.tensor import state
    watcher = object()
    y = ops.sum(first_of_two(leaf([1.0]), leaf([1.0])))
    state.watchers = (watcher,)
    try:
        with pytest.raises(AssertionError, match="nobody asked"):
            y.backward()
        assert state.watchers == (watcher,) and state.grad_enabled
    finally:
        state.watchers = ()


# --- what belongs to whom


def test_backward_leaves_inputs_and_no_gradients_alias():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    before = a.numpy().copy(), b.numpy().copy()
    g = np.array([1.0, 1.0])
    (a + b).backward(g)
    assert not any(np.shares_memory(p, q) for p, q in ((a.grad, b.grad), (a.grad, g), (b.grad, g), (a.grad, a.numpy())))
    a.grad += 100
    assert np.array_equal(b.grad, [1, 1]) and np.array_equal(g, [1, 1])
    assert np.array_equal(a.numpy(), before[0]) and np.array_equal(b.numpy(), before[1])


def test_gradients_of_equal_constants_are_their_own():
    a, b = leaf(2.0), leaf(2.0)
    (a * 3 + b * 5).backward()
    assert (a.grad, b.grad) == (3, 5)


def test_two_leaves_on_the_same_array_have_their_own_gradients():
    values = np.array([1.0, 2.0])
    a, b = Tensor(values, requires_grad=True), Tensor(values, requires_grad=True)
    ops.sum(a * b + a).backward()
    assert np.array_equal(a.grad, values + 1) and np.array_equal(b.grad, values)
    a.grad[:] = 0
    assert np.array_equal(b.grad, values)


def test_gradient_of_a_sum_can_be_written_to():
    x = leaf(np.ones((3, 4)))
    ops.sum(x).backward()
    x.grad *= 2
    assert np.all(x.grad == 2)


def test_gradient_of_the_output_itself():
    x = leaf([1.0, 2.0])
    g = np.array([5.0, 6.0])
    dx = grad(x, x, g)
    assert np.array_equal(dx.numpy(), g) and not np.shares_memory(dx.numpy(), g)


def test_scalar_uses_from_many_sides_add_up():
    """NumPy makes numbers, not arrays, of arrays without axes; their gradients are arrays all the same."""
    for dtype in (np.float32, np.float64):
        x = leaf(0.5, dtype)
        y = ops.sin(x) + ops.exp(x) + ops.tanh(x) + x * x * x
        y.backward()
        assert isinstance(x.grad, np.ndarray) and x.grad.dtype == dtype and x.grad.shape == ()
        assert math.isclose(x.grad, math.cos(0.5) + math.exp(0.5) + 1 - math.tanh(0.5) ** 2 + 0.75, rel_tol=1e-6)


STEPS = {
    "add": lambda a, b: a + b,
    "the same": lambda a, b: REGISTRY["identity"](a),
    "multiply": lambda a, b: a * b * 0.5,
    "a part": lambda a, b: a[1:] * 0.5 + b[:-1],
    "a row read twice": lambda a, b: ops.sin(a)[[0, 0, -1]],
    "turned": lambda a, b: a.T,
    "broadcast": lambda a, b: a + b[0],
    "reshaped": lambda a, b: a.reshape(-1)[:4].reshape(2, 2) if a.size >= 4 else a,
    "sum": lambda a, b: ops.sum(a, axis=0, keepdims=True) + ops.sum(b) * 0.1,
}


@st.composite
def graphs(draw):
    """A function from two 3 x 3 tensors to all the values of a random program, and which of them are used at its end."""
    program = draw(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8))
    used = draw(st.lists(st.integers(0, 30), min_size=1, max_size=4))

    def run(*inputs):
        values = list(inputs)
        for name, i, j in program:
            a, b = values[i % len(values)], values[j % len(values)]
            try:
                values.append(STEPS[name](a, b))
            except (ValueError, IndexError):  # these shapes don't go together
                continue
        return values

    return run, used


@given(graph=graphs())
def test_any_graph_of_steps_has_the_right_gradients_and_none_alias(graph):
    """Values are used many times, in parts, whole and through views; some gradients asked for are of intermediates."""
    run, used = graph

    def result(*inputs):
        values = run(*inputs)
        total = ops.sum(values[-1])
        for i in used:
            total = total + ops.sum(values[i % len(values)])
        return total

    x, y = np.linspace(-1, 1, 9).reshape(3, 3), np.linspace(0.5, 2, 9).reshape(3, 3)
    check_gradients(result, x, y, entries=2)

    values = [v for v in run(leaf(x), leaf(y)) if v.requires_grad]
    total = values[-1]
    for i in used:
        total = ops.sum(total) + ops.sum(values[i % len(values)])
    before = [v.numpy().copy() for v in values]
    found = grad(ops.sum(total), values, allow_unused=True, retain_graph=True)
    once_more = grad(ops.sum(total), values, allow_unused=True, create_graph=True)
    given_out = [d.numpy() for d in found if d is not None]
    assert all(np.array_equal(v.numpy(), b) for v, b in zip(values, before))
    assert all((d is None and e is None) or np.allclose(d.numpy(), e.numpy()) for d, e in zip(found, once_more))
    assert not any(np.may_share_memory(d, v.numpy()) for d in given_out for v in values)
    sources = {id(v.node or v): d for v, d in zip(values, found) if d is not None}  # two views of one value would be one tensor
    distinct = [d.numpy() for d in sources.values()]
    assert not any(np.may_share_memory(d, e) for k, d in enumerate(distinct) for e in distinct[:k])


def both_walks(outputs, initial, inputs=None):
    """The gradients of leaves and intermediates by the fast walk and by its definition, from one and the same graph."""
    results = []
    for fast in (True, False):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(tensor, "kernels_enabled", lambda fast=fast: fast)  # this chooses the walk alone, not what it calls
            results.append(tensor.gradients(outputs, initial, inputs, create_graph=False, retain_graph=True))
    return results


def assert_bit_for_bit(fast, defined):
    assert fast.keys() == defined.keys()
    for s in fast:
        assert fast[s].dtype == defined[s].dtype and fast[s].shape == defined[s].shape
        assert fast[s].tobytes() == defined[s].tobytes()


@given(graph=graphs(), g=st.sampled_from([1.0, -1.0, 0.0, -0.0]), dtype=st.sampled_from([np.float32, np.float64]))
def test_the_fast_walk_is_its_definition_bit_for_bit(graph, g, dtype):
    run, used = graph
    values = [v for v in run(leaf(np.linspace(-1, 1, 9).reshape(3, 3), dtype), leaf(np.linspace(0.5, 2, 9).reshape(3, 3), dtype)) if v.requires_grad]
    outputs = [values[-1], *(values[i % len(values)] for i in used)]
    initial = [np.full(y.shape, g, dtype) * np.linspace(-1, 1, y.size, dtype=dtype).reshape(y.shape) for y in outputs]
    assert_bit_for_bit(*both_walks(outputs, initial))
    assert_bit_for_bit(*both_walks(outputs, initial, values))
    assert_bit_for_bit(*both_walks(outputs, initial, values[:1]))


def vae_loss(rng):
    return VAE.new(latent=(3,), hidden=(16,)).loss((rng.random((8, 28, 28), np.float32), None), rng)


def transformer_loss(rng):
    model = Transformer.new(symbols=11, window=8, layers=2, heads=2, width=16, seed=1)
    return model.loss((rng.integers(0, 11, (3, 8)), rng.integers(0, 11, (3, 8))), rng)


@pytest.mark.parametrize("loss", [vae_loss, transformer_loss])
def test_the_fast_walk_is_its_definition_on_a_model_s_loss(loss):
    y = loss(np.random.default_rng(0))["loss"]
    fast, defined = both_walks([y], [np.ones(y.shape, np.float32)])
    assert len(fast) > 5
    assert_bit_for_bit(fast, defined)


# --- fused operations


@given(x=arrays())
def test_one_tensor_several_times_in_a_fused_operation(x):
    check_gradients(lambda t: blend(t, t, t), x)
    check_gradients(lambda t: blend(t, ops.sin(t), t), x)
    check_gradients(lambda t: ops.mse(t, t * t), x)


def test_attention_to_itself():
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    check_gradients(lambda t: ops.scaled_dot_product_attention(t, t, t, is_causal=True), x)


@pytest.mark.parametrize("function", [
    lambda t: ops.silu(t) * ops.softmax(t),
    lambda t: ops.layer_norm(t, ops.sum(t, axis=0), None),
    lambda t: ops.scaled_dot_product_attention(t, t, t),
    lambda t: ops.linear(t, t[:4, :3], None, activation="tanh"),
    lambda t: (lambda same: ops.linear(same, same, None, activation="tanh"))(t[:4]),
], ids=["silu", "layer_norm", "attention", "linear", "linear of one tensor twice"])
def test_second_order_through_kernels_in_float32(function):
    """float32 forward runs kernels; what is differentiated again runs definitions, and the two must fit together."""
    values = np.random.default_rng(1).standard_normal((5, 4))

    def penalty(dtype):
        x = leaf(values, dtype)
        dx = grad(ops.sum(function(x)), x, create_graph=True)
        ops.sum(dx * dx).backward()
        return x.grad

    exact, fast = penalty(np.float64), penalty(np.float32)
    assert fast.dtype == np.float32
    assert np.allclose(fast, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


def test_third_order():
    check_gradients(lambda x: ops.exp(x) * ops.sin(x), np.array([0.3, -1.0]), order=3)
    check_gradients(ops.gelu, np.array([0.3, -1.0]), order=3)
    x = leaf(0.0)
    d = x**3
    for expected in (0, 0, 6):
        d = grad(d, x, create_graph=True)
        assert d.item() == expected


# --- no_grad, detach, views


def test_no_grad_records_nothing_and_ends():
    x = leaf([1.0])
    with no_grad():
        y = x * 2
        with enable_grad():
            z = x * 2
    assert not y.requires_grad and z.requires_grad and (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad


def test_no_grad_is_of_one_thread():
    seen = []
    with no_grad():
        t = threading.Thread(target=lambda: seen.append((leaf([1.0]) * 2).requires_grad))
        t.start()
        t.join()
    assert seen == [True]


def test_detach_cuts_and_shares():
    x = leaf([1.0, 2.0])
    d = x.detach()
    assert not d.requires_grad and d.numpy() is x.numpy()
    ops.sum(x * d).backward()
    assert np.array_equal(x.grad, [1, 2])


def test_views_are_views_and_have_gradients():
    x = leaf(np.arange(6.0).reshape(2, 3))
    for y in (x.T, x.reshape(3, 2), x[0], x[:, 1:], x.swapaxes(0, 1)):
        assert np.shares_memory(y.numpy(), x.numpy())
    check_gradients(lambda x: (x.T.reshape(6)[1:5] ** 2 * x[0, 0]).reshape((2, 2)).T, x.numpy())


def test_numpy_refuses_to_lose_a_gradient():
    x = leaf([1.0])
    with pytest.raises(TypeError, match="detach"):
        np.asarray(x)
    assert isinstance(np.ones(1) * x, Tensor)
    assert np.asarray(x.detach()) == 1


@given(x=arrays(shapes(min_dims=1)), data=st.data())
def test_indices_may_be_tensors_and_lists(x, data):
    places = data.draw(st.lists(st.integers(-len(x), len(x) - 1), min_size=1, max_size=4))
    for index in (places, np.array(places), Tensor(np.array(places)), Tensor(x > 0), x > 0, (np.array(places), ...)):
        t = leaf(x)
        y = t[index]
        ops.sum(y * y).backward()
        plain = index.numpy() if isinstance(index, Tensor) else index
        expected = np.zeros_like(x)
        np.add.at(expected, plain, 2 * x[plain])
        assert np.array_equal(y.numpy(), x[plain]) and np.allclose(t.grad, expected)


def test_an_entry_read_twice_gets_both_gradients():
    x = leaf([1.0, 2.0, 3.0])
    x[[0, 0, -3, 2]].backward(np.array([1.0, 10.0, 100.0, 1000.0]))
    assert np.array_equal(x.grad, [111, 0, 1000])


@pytest.mark.parametrize("subscripts, sides", [
    ("ii->i", [(3, 3)]), ("ii", [(3, 3)]), ("iij,jk", [(2, 2, 3), (3, 2)]), ("ij, jk", [(2, 3), (3, 2)]),
    ("i,i,i->", [(3,), (3,), (3,)]), ("iii->i", [(2, 2, 2)])])
def test_einsum_takes_what_numpy_takes(subscripts, sides):
    operands = [np.random.default_rng(i).standard_normal(s) for i, s in enumerate(sides)]
    assert np.allclose(ops.einsum(subscripts, *operands), np.einsum(subscripts, *operands))
    check_gradients(lambda *xs: ops.einsum(subscripts, *xs), *operands)


@given(x=arrays(shapes(min_dims=1)), data=st.data())
def test_split_expand_dims_and_squeeze_undo(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    parts = ops.split(x, x.shape[axis], axis)
    assert np.array_equal(ops.concatenate(parts, axis=axis), x)
    assert np.array_equal(ops.squeeze(ops.expand_dims(x, axis), axis), x)
    check_gradients(lambda t: ops.split(t, [1], axis)[0] * 2, x, entries=2)


# --- dtypes


def test_astype_hands_the_gradient_back_in_the_dtype_it_came_in():
    x = leaf([1.0, 2.0], np.float32)
    y = x.astype(np.float64) * np.array([1.0, 3.0])
    assert y.dtype == np.float64
    y.backward(np.ones(2))
    assert x.grad.dtype == np.float32 and np.array_equal(x.grad, [1, 3])
    check_gradients(lambda x: x.astype(np.float64), np.ones(2))
    assert not x.astype(np.int64).requires_grad


def test_numbers_don_t_change_the_dtype():
    x = leaf([1.0, 2.0], np.float32)
    for y in (x + 1, 2.5 * x, x / 3, x**2, 2.0**x, x - np.float64(0.1), np.float64(0.1) * x, x.mean(), ops.where(x > 1, x, 0.0),
              ops.maximum(x, 0)):
        assert y.dtype == np.float32
    assert Tensor(1.5).dtype == np.float32 and Tensor([1, 2]).dtype == np.int64 and Tensor(np.ones(2)).dtype == np.float64


def test_mixed_dtypes_give_each_argument_its_own():
    a, b = leaf([1.0, 2.0], np.float32), leaf([3.0, 4.0], np.float64)
    (a * b).backward(np.ones(2))
    assert a.grad.dtype == np.float32 and b.grad.dtype == np.float64


def test_integers_need_no_gradient():
    with pytest.raises(TypeError, match=r"^Tensor: requires_grad needs a floating dtype, data has int64"):
        Tensor([1, 2], requires_grad=True)
    with pytest.raises(TypeError, match=r"^Tensor: data has dtype (complex128|<U1|object)"):
        Tensor(np.array([1j]))
    assert not (Tensor([1, 2]) + Tensor([3, 4])).requires_grad


# --- numbers that go wrong elsewhere


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_and_softplus_at_100(dtype):
    x = leaf([-100.0, 100.0], dtype)
    s, p = ops.sigmoid(x), ops.softplus(x)
    assert s.numpy()[1] == 1 and 0 <= s.numpy()[0] < 1e-40
    assert p.numpy()[1] == 100 and 0 <= p.numpy()[0] < 1e-40
    ds, dp = grad(ops.sum(s), x).numpy(), grad(ops.sum(p), x).numpy()
    assert np.all(np.abs(ds) < 1e-40) and np.allclose(dp, [0, 1])


def test_log_of_0_is_minus_infinity_and_nothing_is_nan():
    x = leaf([0.0, 1.0])
    with np.errstate(divide="ignore"):
        y = ops.log(x)
        assert y.numpy()[0] == -np.inf and y.numpy()[1] == 0
        ops.sum(y).backward()
    assert np.array_equal(x.grad, [np.inf, 1])


@pytest.mark.parametrize("reduce", [ops.max, ops.min])
@pytest.mark.parametrize("axis", [None, 0, (0, 1)])
def test_ties_share_the_gradient(reduce, axis):
    x = leaf([[2.0, 2.0], [2.0, 2.0]])
    reduce(x, axis=axis).backward(np.ones(() if axis != 0 else 2))
    assert np.all(x.grad == (0.5 if axis == 0 else 0.25))


def test_equal_arguments_of_maximum_share_the_gradient():
    a, b = leaf([1.0, 2.0]), leaf([1.0, 3.0])
    ops.sum(ops.maximum(a, b)).backward()
    assert np.array_equal(a.grad, [0.5, 0]) and np.array_equal(b.grad, [0.5, 1])


def test_log_softmax_of_a_large_offset_keeps_its_digits():
    x = np.array([[0.0, 1.0, 2.0]], np.float32)
    assert np.allclose(ops.log_softmax(x + np.float32(2**20)), ops.log_softmax(x), atol=1e-6)
    with use_kernels(False):
        assert np.allclose(ops.log_softmax(x + np.float32(2**20)), ops.log_softmax(x), atol=1e-6)


@pytest.mark.parametrize("kernels", [True, False])
def test_indices_without_axes(kernels):
    """One target, one id: arrays without axes keep having none."""
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    with use_kernels(kernels):
        assert ops.embedding(weight, np.array(1)).shape == (2,)
        assert np.shape(ops.cross_entropy(weight[0], np.array(1), reduction="none")) == ()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_empty_arrays_go_through_elementwise_operations(shape):
    x = leaf(np.zeros(shape), np.float32)
    y = ops.silu(ops.exp(x) * 2 + x)
    assert y.shape == shape
    ops.sum(y).backward()
    assert x.grad.shape == shape and ops.sum(y).item() == 0


# --- errors: one line that names the operation or the argument, what it was and what it may be

X = np.ones((2, 3), np.float32)
IMAGE = np.ones((2, 5, 5, 3), np.float32)
KERNEL = np.ones((3, 3, 3, 4), np.float32)
IDS = np.array([0, 1])

ERRORS = {
    "shapes that don't broadcast": (lambda: ops.add(X, np.ones(4)), ValueError, ["add", "(2, 3)", "(4,)"]),
    "shapes of a method": (lambda: Tensor(X) * Tensor(np.ones(4)), ValueError, ["multiply", "(2, 3)", "(4,)"]),
    "matmul": (lambda: ops.matmul(X, X), ValueError, ["matmul", "(2, 3)", "length 3"]),
    "matmul of numbers": (lambda: ops.matmul(X, np.float32(1)), ValueError, ["matmul", "()"]),
    "reshape": (lambda: ops.reshape(X, shape=(4, 2)), ValueError, ["reshape", "(4,", "6"]),
    "axis of sum": (lambda: ops.sum(X, axis=2), ValueError, ["sum", "axis is 2", "-2 to 1"]),
    "axis of mean": (lambda: ops.mean(X, axis=2), ValueError, ["mean", "axis is 2", "-2 to 1"]),
    "axis of var": (lambda: ops.var(X, axis=5), ValueError, ["var", "axis is 5", "-2 to 1"]),
    "axis of softmax": (lambda: ops.softmax(X, axis=2), ValueError, ["softmax", "axis is 2", "-2 to 1"]),
    "axis of concatenate": (lambda: ops.concatenate([X, X], axis=2), ValueError, ["concatenate", "axis 2"]),
    "parts of concatenate": (lambda: ops.concatenate([X, np.ones((2, 4, 1))], axis=0), ValueError, ["concatenate", "(2, 3)", "(2, 4, 1)"]),
    "nothing to concatenate": (lambda: ops.concatenate([]), ValueError, ["concatenate"]),
    "parts of stack": (lambda: ops.stack([X, X[0]]), ValueError, ["stack", "(2, 3)", "(3,)"]),
    "sections of split": (lambda: ops.split(X, 2, axis=1), ValueError, ["split", "axis 1", "length 3", "2 equal parts"]),
    "squeeze": (lambda: ops.squeeze(X, 0), ValueError, ["squeeze", "axis 0", "length 2"]),
    "axes of transpose": (lambda: ops.transpose(X, axes=(0, 0)), ValueError, ["transpose"]),
    "index": (lambda: ops.getitem(X, index=(5,)), IndexError, ["getitem", "index 5", "size 2"]),
    "index of a method": (lambda: Tensor(X)[:, 7], IndexError, ["getitem", "index 7"]),
    "take": (lambda: ops.take(X, indices=[9], axis=1), IndexError, ["take", "9", "size 3"]),
    "broadcast_to": (lambda: ops.broadcast_to(X, shape=(2, 4)), ValueError, ["broadcast_to", "(2, 3)", "(2, 4)"]),
    "mean of nothing": (lambda: ops.mean(X[:0]), ValueError, ["mean", "(0, 3)"]),
    "max of nothing": (lambda: ops.max(X[:0]), ValueError, ["max", "(0, 3)"]),
    "einsum, operands": (lambda: ops.einsum("ij,jk", X), ValueError, ["einsum", "2 operands", "1 were"]),
    "einsum, axes": (lambda: ops.einsum("ijk->i", X), ValueError, ["einsum", "3 axes", "(2, 3)"]),
    "einsum, result": (lambda: ops.einsum("ij->k", X), ValueError, ["einsum", "'ij->k'", "letters of the operands"]),
    "features of linear": (lambda: ops.linear(X, np.ones((4, 2))), ValueError, ["linear", "expects 4 features", "x has 3", "(2, 3)"]),
    "bias of linear": (lambda: ops.linear(X, X.T, np.ones(3)), ValueError, ["linear", "bias has shape (3,)", "2 features out"]),
    "activation of linear": (lambda: ops.linear(X, X.T, activation="swish"), ValueError, ["linear", "'swish'", "silu"]),
    "approximate of gelu": (lambda: ops.gelu(X, approximate="exact"), ValueError, ["gelu", "'exact'", "'tanh'"]),
    "ids out of range": (lambda: ops.embedding(X, np.array([0, 2])), IndexError, ["embedding", "0 to 2", "2 rows", "0 to 1"]),
    "ids of a wrong dtype": (lambda: ops.embedding(X, X), TypeError, ["embedding", "float32", "integers"]),
    "gain of layer_norm": (lambda: ops.layer_norm(X, np.ones(2), None), ValueError, ["layer_norm", "gain has shape (2,)", "3 features"]),
    "layer_norm of nothing": (lambda: ops.layer_norm(X[:0], X[0], None), ValueError, ["layer_norm", "(0, 3)"]),
    "groups": (lambda: ops.group_norm(X, X[0], X[0], groups=2), ValueError, ["group_norm", "groups is 2", "3 channels"]),
    "p of dropout": (lambda: ops.dropout(X, p=1.0, seed=0), ValueError, ["dropout", "p is 1.0", "up to"]),
    "seed of dropout": (lambda: ops.dropout(X, p=0.5, seed=-1), ValueError, ["dropout", "seed is -1"]),
    "channels of conv2d": (lambda: ops.conv2d(IMAGE, np.ones((3, 3, 1, 4))), ValueError, ["conv2d", "expects 1 input channels", "x has 3"]),
    "picture for conv2d": (lambda: ops.conv2d(X, KERNEL), ValueError, ["conv2d", "(2, 3)", "(batch, height, width, channels)"]),
    "kernel too large": (lambda: ops.conv2d(IMAGE, np.ones((7, 7, 3, 4))), ValueError, ["conv2d", "kernel of 7", "5"]),
    "stride of conv2d": (lambda: ops.conv2d(IMAGE, KERNEL, stride=0), ValueError, ["conv2d", "stride is 0", "at least 1"]),
    "stride of three": (lambda: ops.conv2d(IMAGE, KERNEL, stride=(1, 1, 1)), ValueError, ["conv2d", "stride is (1, 1, 1)", "two ints"]),
    "output padding": (lambda: ops.conv_transpose2d(IMAGE, KERNEL, stride=2, output_padding=2), ValueError, ["output_padding is 2"]),
    "pool": (lambda: ops.max_pool2d(IMAGE, kernel=6), ValueError, ["max_pool2d", "kernel is 6", "(2, 5, 5, 3)"]),
    "attention": (lambda: ops.scaled_dot_product_attention(X, X[:, :2], X), ValueError, ["scaled_dot_product", "(2, 3)", "(2, 2)"]),
    "mask": (lambda: ops.scaled_dot_product_attention(X, X, X, np.ones((3, 3))), ValueError, ["mask has shape (3, 3)", "(2, 2)"]),
    "targets of a wrong shape": (lambda: ops.cross_entropy(X, np.array([0])), ValueError, ["cross_entropy", "(2, 3)", "(1,)"]),
    "targets out of range": (lambda: ops.cross_entropy(X, IDS + 2), IndexError, ["cross_entropy", "2 to 3", "3 classes", "0 to 2"]),
    "targets of a wrong dtype": (lambda: ops.cross_entropy(X, X[:, 0]), TypeError, ["cross_entropy", "float32", "integers"]),
    "reduction": (lambda: ops.mse(X, X, reduction="avg"), ValueError, ["mse", "'avg'", "'none'"]),
    "shapes of mse": (lambda: ops.mse(X, X[:, :2]), ValueError, ["mse", "(2, 3)", "(2, 2)"]),
    "state of lstm": (lambda: ops.lstm(np.ones((2, 3, 8)), np.ones((2, 2)), np.ones((2, 8))), ValueError, ["lstm", "(2, 2)", "(2, 4)"]),
    "missing argument": (lambda: ops.multiply(X), TypeError, ["multiply", "(a, b)", "b is missing"]),
    "unknown setting": (lambda: ops.softmax(X, dim=1), TypeError, ["softmax", "no dim", "axis"]),
    "missing setting": (lambda: ops.reshape(X), TypeError, ["reshape", "shape is missing"]),
    "too many": (lambda: ops.exp(X, X), TypeError, ["exp", "2 positional"]),
    "backward of an array": (lambda: leaf([1.0, 2.0]).backward(), ValueError, ["backward", "(2,)", "single number"]),
    "backward of a constant": (lambda: Tensor(1.0).backward(), ValueError, ["backward", "requires_grad=True"]),
    "gradient of a wrong shape": (lambda: (leaf([1.0]) * 2).backward(np.ones(3)), ValueError, ["backward", "(3,)", "(1,)"]),
    "grad of a constant": (lambda: grad(leaf(1.0) * 2, Tensor(1.0)), ValueError, ["grad", "inputs[0]"]),
    "outputs and grad_outputs": (lambda: grad([leaf(1.0)], leaf(1.0), [1.0, 2.0]), ValueError, ["grad", "1 outputs", "2 grad_outputs"]),
    "requires_grad of an intermediate": (lambda: setattr(leaf(1.0) * 2, "requires_grad", False), ValueError, ["requires_grad", "detach()"]),
}


@pytest.mark.parametrize("what", ERRORS)
def test_wrong_input_is_one_line_that_names_it(what):
    call, kind, words = ERRORS[what]
    with pytest.raises(kind) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    for word in words:
        assert word in message, f"{message!r} doesn't say {word!r}"


def test_an_operation_s_name_is_its_own():
    with pytest.raises(ValueError, match="counted_double"):
        @primitive
        def counted_double(x):
            return x
    with pytest.raises(ValueError, match="has 2 arguments but 1 rules"):
        first_of_two.derivatives(lambda g, y, a, b: g)


# --- threads


def small_network(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, 16)).astype(dtype)
    w, v, gain = (Tensor(rng.standard_normal(s).astype(dtype) * dtype(0.3), requires_grad=True) for s in ((16, 32), (32, 10), (32,)))
    h = ops.layer_norm(ops.linear(x, w, None, activation="silu"), gain, None)
    loss = ops.cross_entropy(ops.matmul(h, v), rng.integers(0, 10, 40))
    loss.backward()
    return [loss.numpy(), w.grad, v.grad, gain.grad]


def test_python_threads_at_once_give_what_each_gives_alone():
    alone = [small_network(seed) for seed in range(4)]
    found = {}

    def work(k):
        for seed in (k, (k + 1) % 4, k):
            found[k, seed] = small_network(seed)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert len(found) == 8
    for (_, seed), arrays_found in found.items():
        for a, b in zip(arrays_found, alone[seed]):
            assert np.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_results_don_t_depend_on_the_number_of_threads():
    before = get_threads()
    exact = small_network(0, np.float64)
    results = {}
    try:
        for n in sorted({1, before}):
            set_threads(n)
            results[n] = small_network(0)
            again = small_network(0)
            assert all(np.array_equal(a, b) for a, b in zip(results[n], again)), "two runs on the same threads differ"
    finally:
        set_threads(before)
    for found in results.values():
        for a, b in zip(found, exact):
            assert np.max(np.abs(a - b)) <= 1e-5 * np.max(np.abs(b))


def test_without_kernels_the_same_comes_out():
    fast = small_network(1)
    with use_kernels(False):
        plain = small_network(1)
    for a, b in zip(fast, plain):
        assert np.max(np.abs(a - b)) <= 1e-5 * np.max(np.abs(b))
