"""The checker itself: what is wrong fails, what is right doesn't, and the message says where."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operation_cases import LARGE

import zoo.autograd as ops
from zoo.autograd import REGISTRY, Tensor, fused, primitive
from zoo.autograd.checking import arrays, broadcastable, check_gradients, check_operation, shapes
from zoo.autograd.runtime import kernels_enabled


def spoilt(rule, factor):
    """The same rule, wrong by a factor."""
    return lambda *args, **settings: rule(*args, **settings) * factor


def usual_arguments(name):
    """A case in which no gradient is 0 all over."""
    rng = np.random.default_rng(1)
    special = {
        "power": ((rng.uniform(0.5, 2, (3, 2)), rng.uniform(0.5, 2, 2)), {}),
        "where": ((np.array([True, False]), rng.standard_normal(2), rng.standard_normal(2)), {}),
        "log": ((rng.uniform(0.5, 2, 3),), {}),
        "sqrt": ((rng.uniform(0.5, 2, 3),), {}),
    }
    two = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
    plain = (rng.standard_normal((3, 2)), rng.standard_normal((3, 2))) if name in two else (rng.standard_normal((3, 2)) + 3,)
    return special.get(name, (plain, {}))


ELEMENTWISE = ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "where", "exp", "log", "sqrt", "abs", "sin", "cos",
               "tanh", "sigmoid", "softplus", "relu", "leaky_relu", "erf", "negative", "identity", "sum", "max", "min", "transpose")


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("factor", [1.001, 0.999])
def test_a_derivative_wrong_by_a_tenth_of_a_percent_fails(name, factor, monkeypatch):
    operation = REGISTRY[name]
    arguments, settings = usual_arguments(name)
    check_gradients(operation, *arguments, order=1, **settings)
    for i, rule in enumerate(operation.rules):
        if rule is None:
            continue
        monkeypatch.setattr(operation, "rules", (*operation.rules[:i], spoilt(rule, factor), *operation.rules[i + 1:]))
        if name in ("maximum", "minimum"):  # each entry goes to one of the two
            arguments = tuple(np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]) + s * np.array([0.5, -0.5]) for s in (1, -1))
        with pytest.raises(AssertionError, match=rf"^{name}: the gradient of .* is wrong: the engine gives .*, differences give"):
            check_gradients(operation, *arguments, order=1, **settings)
        with pytest.raises(AssertionError, match=name):
            check_operation(operation, *arguments, **settings)
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["conv2d", "matmul", "embedding", "take_along_axis", "upsample", "windows", "einsum", "take",
                                  "concatenate"])
def test_one_of_many_contributions_wrong_by_a_tenth_of_a_percent_fails(name, monkeypatch):
    operation = REGISTRY[name]
    rng = np.random.default_rng(2)
    arguments, settings = {
        "conv2d": ((rng.standard_normal((1, 4, 4, 2)), rng.standard_normal((3, 3, 2, 2))), {"padding": 1}),
        "matmul": ((rng.standard_normal((3, 4)), rng.standard_normal((4, 2))), {}),
        "embedding": ((rng.standard_normal((3, 2)), np.array([0, 2, 2])), {}),
        "take_along_axis": ((rng.standard_normal((3, 2)), np.array([[0], [1], [1]])), {}),
        "upsample": ((rng.standard_normal((1, 2, 2, 1)),), {"scale": 2}),
        "windows": ((rng.standard_normal((1, 3, 3, 1)),), {"kernel": 2}),
        "einsum": ((rng.standard_normal((3, 4)), rng.standard_normal((4, 2))), {"subscripts": "ij,jk->ik"}),
        "take": ((rng.standard_normal((3, 4)),), {"indices": [0, 0, 2], "axis": 1}),
        "concatenate": ((rng.standard_normal((3, 4)), rng.standard_normal((3, 1))), {"axis": 1}),
    }[name]

    def one_entry_spoilt(rule):
        def spoilt_rule(*args, **settings):
            d = rule(*args, **settings)
            factor = np.ones(d.shape)
            factor.flat[0] = 1.001
            return d * factor
        return spoilt_rule

    check_gradients(operation, *arguments, **settings)
    monkeypatch.setattr(operation, "rules", tuple(rule and one_entry_spoilt(rule) for rule in operation.rules))
    with pytest.raises(AssertionError, match=r"is wrong: .*relative error 0.00"):
        check_gradients(operation, *arguments, order=1, entries=0, **settings)  # even if the random direction alone is looked at


def test_a_second_derivative_wrong_by_a_tenth_of_a_percent_fails():
    """The first derivative is right in value, but made of parts whose derivative isn't."""
    @primitive
    def cube_with_a_wrong_second_derivative(x):
        return x**3

    @primitive
    def square_with_a_wrong_derivative(x):
        return x**2

    square_with_a_wrong_derivative.derivatives(lambda g, _y, x: 2.002 * g * x)
    cube_with_a_wrong_second_derivative.derivatives(lambda g, _y, x: 3 * g * square_with_a_wrong_derivative(x))
    x = np.array([0.5, -2.0])
    check_gradients(cube_with_a_wrong_second_derivative, x, order=1)
    with pytest.raises(AssertionError, match="the second-order gradient of x"):
        check_gradients(cube_with_a_wrong_second_derivative, x)


def test_a_rule_that_forgets_its_graph_fails():
    @primitive
    def square_through_numpy(x):
        return x**2

    square_through_numpy.derivatives(lambda g, _y, x: g * (2 * (x.numpy() if isinstance(x, Tensor) else x)))
    with pytest.raises(AssertionError, match="second-order"):
        check_gradients(square_through_numpy, np.array([0.5]))


def test_an_operation_that_changes_its_argument_fails():
    @primitive
    def negative_in_place(x):
        return np.negative(x, out=x)

    negative_in_place.derivatives(lambda g, _y, _x: -g)
    with pytest.raises(AssertionError, match=r"negative_in_place: .*changes an argument|different values"):
        check_operation(negative_in_place, np.array([1.0, 2.0]))


def test_a_rule_that_changes_the_gradient_it_was_given_fails():
    @primitive
    def halving_in_place(x):
        return x * 0.5

    @halving_in_place.derivatives
    def _(g, _y, _x):
        if isinstance(g, Tensor):
            return g * 0.5
        g *= 0.5
        return g

    with pytest.raises((AssertionError, ValueError), match=r"changes .*the gradient handed in|read-only"):
        check_operation(halving_in_place, np.array([1.0, 2.0]))


def test_a_gradient_that_isn_t_linear_in_g_fails():
    @primitive
    def clipping_its_gradient(x):
        return x * 3.0

    clipping_its_gradient.derivatives(lambda g, _y, _x: ops.minimum(g * 3.0, 1.0))
    with pytest.raises(AssertionError, match="linear in the gradient handed in"):
        check_operation(clipping_its_gradient, np.array([1.0, 2.0, 3.0, 4.0]), order=0)


def test_an_operation_that_promotes_float32_fails():
    @primitive
    def promoting(x):
        return x * np.ones(1)

    promoting.derivatives(lambda g, _y, _x: g)
    with pytest.raises(AssertionError, match="float32 comes in, float64 comes out"):
        check_operation(promoting, np.array([1.0, 2.0]))


def test_an_operation_that_isn_t_finite_fails():
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match="log: the value isn't finite"):
        check_operation(ops.log, np.array([0.0, 1.0]))
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match="sqrt: the gradient of x isn't finite"):
        check_operation(ops.sqrt, np.array([0.0, 1.0]))


def kernel_pair(name, forward_error=1.0, backward_error=1.0):
    def definition(x):
        return ops.exp(x) * x

    definition.__name__ = name
    operation = fused(definition)
    operation.forward(lambda x: (np.exp(x) * x * np.float32(forward_error), x))
    operation.backward(lambda g, _y, saved, _x, *, needs: (g * np.exp(saved) * (saved + np.float32(backward_error)),))
    return operation


@pytest.mark.skipif(not kernels_enabled(), reason="ZOO_KERNELS=0")
def test_a_kernel_that_isn_t_its_definition_fails():
    x = np.linspace(-1, 1, 5)
    check_operation(kernel_pair("right_kernel"), x)
    with pytest.raises(AssertionError, match=r"wrong_kernel: the value .* expected"):
        check_operation(kernel_pair("wrong_kernel", forward_error=1.001), x)
    with pytest.raises(AssertionError, match=r"wrong_backward_kernel: the gradient of x .* expected"):
        check_operation(kernel_pair("wrong_backward_kernel", backward_error=1.001), x)


@pytest.mark.parametrize("name", sorted(LARGE.keys() & {"softmax", "layer_norm", "linear", "conv2d", "cross_entropy", "gelu"}))
@pytest.mark.skipif(not kernels_enabled(), reason="ZOO_KERNELS=0")
def test_kernels_of_the_zoo_wrong_by_a_tenth_of_a_percent_fail(name, monkeypatch, rng):
    operation = REGISTRY[name]
    case = LARGE[name][0](rng)
    backward = operation.kernel_backward
    if backward is None:
        pytest.skip(f"{name} has no backward kernel")

    def off(*args, **settings):
        return tuple(None if d is None else d * np.float32(1.001) for d in backward(*args, **settings))

    monkeypatch.setattr(operation, "kernel_backward", off)
    with pytest.raises(AssertionError, match=f"{name}: the gradient of"):
        check_operation(operation, *case.arguments, **case.settings, order=0, rounding=case.rounding)


# --- what is right doesn't fail


HARD = {
    "large and small at once": (lambda x: ops.exp(x), np.array([-30.0, 0.0, 30.0])),
    "near the edge of its domain": (lambda x: ops.log(x), np.array([1e-6, 1e-3, 1.0, 1e6])),
    "a kink nearby": (lambda x: ops.abs(x), np.array([1e-4, -1e-4, 1.0])),
    "an argument of 1e6": (lambda x: ops.sin(x * 1e-6), np.array([1e6, 3e6])),
    "a large constant": (lambda x: x * 0.001 + 1e6, np.array([1.0, 2.0])),
    "a narrow peak": (lambda x: ops.exp(-(x * 1000) ** 2), np.array([1e-3, -5e-4])),
    "nothing depends on it": (lambda x: x * 0.0, np.array([1.0, 2.0])),
    "a wave": (lambda x: ops.sin(50 * x), np.array([0.1, 0.7, 3.0])),
    "a sharp sigmoid": (lambda x: ops.sigmoid(200 * x), np.array([0.01, -0.01, 0.0])),
    "no axes": (lambda x: x * x, np.array(3.0)),
    "nothing in it": (lambda x: x * x, np.zeros((0, 3))),
}


@pytest.mark.parametrize("what", HARD)
def test_right_derivatives_pass_where_differences_are_hard(what):
    function, x = HARD[what]
    check_gradients(function, x)
    if x.size and what != "nothing depends on it":
        @primitive
        def off_by_a_tenth_of_a_percent(x):
            return x

        off_by_a_tenth_of_a_percent.derivatives(lambda g, _y, _x: g * 1.001)
        try:
            with pytest.raises(AssertionError, match="is wrong"):
                check_gradients(lambda x: function(off_by_a_tenth_of_a_percent(x)), x, order=1)
        finally:
            del REGISTRY["off_by_a_tenth_of_a_percent"]


@given(seed=st.integers(0, 2**32 - 1))
def test_small_networks_pass_whatever_the_numbers(seed):
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(-2, 1)
    x, w, v = (rng.standard_normal(s) * scale for s in ((3, 4), (4, 5), (5, 2)))
    check_gradients(lambda x, w, v: ops.log_softmax(ops.matmul(ops.tanh(ops.matmul(x, w)), v)), x, w, v, entries=3, rng=rng)


def test_functions_of_several_outputs():
    check_gradients(lambda a, b: (a * b, ops.sin(a)), np.array([1.0, 2.0]), np.array(0.5))


def test_a_kink_is_said_to_be_one():
    with pytest.raises(AssertionError, match=r"can't be measured.*kink"):
        check_gradients(lambda x: ops.where(x > 0.3, x, 0.0), np.array([0.3]), order=1)


# --- wrong use


def test_the_message_names_argument_and_entry():
    @primitive
    def scale_rows(x, gain):
        return x * gain

    scale_rows.derivatives(lambda g, _y, _x, gain: g * gain, lambda g, _y, x, _gain: g * x * np.array([1.0, 1.0, 1.002]))
    with pytest.raises(AssertionError) as raised:
        check_gradients(scale_rows, np.ones((2, 3)), np.ones(3))
    message = str(raised.value)
    assert message.startswith("scale_rows: the gradient of gain (shape (3,)) at [2] is wrong: the engine gives ")
    assert "relative error 0.002" in message and "\n" not in message


@pytest.mark.parametrize("call, kind, words", [
    (lambda: check_gradients(ops.exp, np.ones(2, np.float32)), TypeError, ["x of exp", "float32", ".astype(np.float64)"]),
    (lambda: check_gradients(ops.exp, np.array(["a"])), TypeError, ["x of exp", "<U1"]),
    (lambda: check_gradients(ops.exp, np.array([1, 2])), ValueError, ["exp", "no float64"]),
    (lambda: check_gradients(ops.greater, np.ones(2), np.ones(2)), ValueError, ["greater", "bool", "no gradient"]),
    (lambda: check_gradients(ops.log, np.array([-1.0])), ValueError, ["log", "finite"]),
])
def test_wrong_use_is_one_line(call, kind, words):
    with pytest.raises(kind) as raised:
        call()
    assert all(word in str(raised.value) for word in words) and "\n" not in str(raised.value)


def test_integers_are_handed_on():
    check_gradients(ops.embedding, np.ones((3, 2)), np.array([0, 2, 2]))
    check_gradients(ops.cross_entropy, np.ones((2, 3)), np.array([0, -1]), ignore_index=-1)


def test_the_check_itself_is_repeatable_and_leaves_everything_as_it_was():
    x = np.random.default_rng(0).standard_normal((3, 4))
    before = x.copy()
    rules = ops.exp.rules
    check_operation(ops.exp, x)
    assert np.array_equal(x, before) and ops.exp.rules == rules


# --- strategies


@given(x=arrays(away_from=(0, 1), low=-3, high=3))
def test_arrays_keep_away(x):
    assert x.dtype == np.float64 and np.all(np.abs(x) >= 0.125) and np.all(np.abs(x - 1) >= 0.125) and np.all(np.abs(x) <= 3)
    assert np.array_equal(x.astype(np.float32).astype(np.float64), x)


@given(x=arrays(positive=True, dtype=np.float32))
def test_arrays_positive(x):
    assert x.dtype == np.float32 and np.all(x >= 0.125)


@given(x=arrays(shapes(min_dims=1, max_side=6), distinct=True))
def test_arrays_distinct(x):
    assert len(np.unique(x)) == x.size and np.array_equal(x.astype(np.float32).astype(np.float64), x)


@given(x=arrays((3, 70)), y=arrays((9, 70), distinct=True))
def test_large_arrays(x, y):
    assert x.shape == (3, 70) and len(np.unique(y)) == 630


@given(case=broadcastable(3, positive=True))
def test_broadcastable_arrays_broadcast(case):
    assert len(case) == 3 and np.broadcast_shapes(*(a.shape for a in case)) is not None and all(np.all(a > 0) for a in case)


def test_impossible_arrays_are_refused():
    @given(arrays((2,), low=-0.1, high=0.1, away_from=0))
    def draws(x):
        raise AssertionError("there are none")

    with pytest.raises(ValueError, match="keep away from"):
        draws()


def test_without_hypothesis_the_checker_works_and_the_strategies_say_what_to_install():
    script = """
import sys
sys.modules["hypothesis"] = None
import numpy as np
import zoo.autograd as ops
from zoo.autograd.checking import arrays, check_operation
check_operation(ops.exp, np.ones(2))
try:
    arrays()
except ImportError as e:
    assert "pip install 'numpy-zoo[test]'" in str(e), e
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[1])


def test_the_example_runs():
    root = Path(__file__).parents[1]
    command = [sys.executable, root / "examples" / "your_own_operation.py"]
    done = subprocess.run(command, check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert "every law holds" in done.stdout and "caught: careless_hypotenuse" in done.stdout


def test_the_page_s_code_runs():
    page = (Path(__file__).parents[1] / "docs" / "your_own_operation.md").read_text()
    names: dict = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            exec(block, names)
        names["test_hypotenuse"]()
        check_operation(names["elu"], np.array([-90.0, -1.0, 0.5, 3.0]), alpha=0.5)
    finally:
        for name in ("hypotenuse", "elu"):
            REGISTRY.pop(name, None)
