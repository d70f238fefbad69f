"""What operations do with arguments that aren't what they expect: given twice, bytes, half floats, wrong shapes, changed values."""

import math

import numpy as np
import pytest

import zoo.autograd as zg
from zoo.autograd import REGISTRY, Tensor, fused, grad, primitive
from zoo.autograd.runtime import use_kernels
from zoo.nn import Linear
from zoo.optim import SGD, Average

BOTH = pytest.mark.parametrize("kernels", [True, False])


def f32(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def leaf(values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


X, GAIN = f32(2, 3), f32(3)
IMAGE, KERNEL = f32(1, 6, 6, 3), f32(3, 3, 3, 2)


# --- what is given twice, or has no place


TWICE = {
    "mse": lambda: zg.mse(X, X, "sum", reduction="mean"),
    "cross_entropy": lambda: zg.cross_entropy(X, np.array([0, 1]), GAIN, weight=GAIN),
    "layer_norm": lambda: zg.layer_norm(X, GAIN, GAIN, 1e-3, eps=1e-5),
    "max_pool2d": lambda: zg.max_pool2d(IMAGE, 2, kernel=3),
    "upsample": lambda: zg.upsample(IMAGE, 3, scale=2),
    "sum": lambda: zg.sum(X, 0, axis=1),
    "leaky_relu": lambda: zg.leaky_relu(X, 0.5, slope=0.1),
    "scaled_dot_product_attention": lambda: zg.scaled_dot_product_attention(X, X, X, None, True, is_causal=False),
    "concatenate": lambda: zg.concatenate([X, X], 1, axis=0),
    "stack": lambda: zg.stack([X, X], 1, axis=0),
    "linear": lambda: zg.linear(X, X.T, weight=X.T),
    "multiply": lambda: zg.multiply(X, X, a=X),
    "reshape": lambda: zg.reshape(X, (3, 2), shape=(6,)),
}
NO_PLACE = {
    "concatenate": lambda: zg.concatenate([X, X], 1, "junk", object()),
    "stack": lambda: zg.stack([X, X], 0, 1),
    "exp": lambda: zg.exp(X, X),
    "softmax": lambda: zg.softmax(X, -1, 0),
    "batch_norm": lambda: zg.batch_norm(X, GAIN, GAIN, 0.1),  # PyTorch's fourth is another one than ours
}


@pytest.mark.parametrize("name", TWICE)
def test_an_argument_given_twice_is_a_type_error(name):
    with pytest.raises(TypeError, match=rf"^{name} takes .*was given twice, by position and by name"):
        TWICE[name]()


@pytest.mark.parametrize("name", NO_PLACE)
def test_an_argument_without_a_place_is_a_type_error(name):
    with pytest.raises(TypeError, match=rf"^{name} takes .*positional arguments were given"):
        NO_PLACE[name]()


def test_every_operation_refuses_each_of_its_settings_twice():
    for operation in REGISTRY.values():
        if not operation.__module__.startswith("zoo.") or operation.settings_by_name_only or operation.variadic:
            continue
        positional = [None] * (len(operation.arguments) + len(operation.settings))
        for setting in operation.settings:
            with pytest.raises(TypeError, match="given twice"):
                operation(*positional, **{setting: None})
        for argument in operation.arguments:
            with pytest.raises(TypeError, match="given twice"):
                operation(*positional, **{argument: None})
        with pytest.raises(TypeError, match="positional"):
            operation(*positional, None)


WRONG_SETTINGS = {  # and a part of what is said
    "layer_norm: eps is inf": lambda: zg.layer_norm(X, GAIN, GAIN, eps=math.inf),
    "leaky_relu: slope is nan": lambda: zg.leaky_relu(X, slope=math.nan),
    "upsample: scale is array": lambda: zg.upsample(IMAGE, scale=np.array(2)),  # a kernel would take it for its address
    "max_pool2d: kernel is True": lambda: zg.max_pool2d(IMAGE, kernel=True),
    "tensordot: axes is Tensor": lambda: zg.tensordot(X, X, axes=Tensor(X)),
    "hstack: arrays is 2": lambda: zg.hstack(2),
    "split: sections is array": lambda: zg.split(X, np.array(3), axis=1),
    "rotate: x has shape": lambda: zg.rotate(X, GAIN, GAIN),
    "merge_heads: y has shape": lambda: zg.merge_heads(X),
    "repeat_heads: heads is 3": lambda: zg.repeat_heads(f32(1, 2, 3, 4), 3),
    "unpack: packed has shape": lambda: zg.unpack(f32(1, 2, 7), 2, 1),
    "side_by_side: raw is array([], ": lambda: zg.side_by_side(np.zeros((0, 20), np.uint8), "Q4_1"),
    "squeeze: x is <class": lambda: zg.squeeze(np.float32),
    "expand_dims: x is <class": lambda: zg.expand_dims(np.float32, 0),
    "moveaxis: x is 'x'": lambda: zg.moveaxis("x", 0, 0),
    "tile: x is [[1], [1, 2]]": lambda: zg.tile([[1], [1, 2]], 2),
    "vstack: one of the arrays is None": lambda: zg.vstack([X, None]),
    "array_split: x is <class": lambda: zg.array_split(np.float32, 2),
    "diag: x is {}": lambda: zg.diag({}),
    "diff: x is [[1], [1, 2]]": lambda: zg.diff([[1], [1, 2]]),
    "kron: b is None": lambda: zg.kron(X, None),
    "dot: a is <class": lambda: zg.dot(np.float32, X),
    "inner: a is slice": lambda: zg.inner(slice(None), X),
    "tensordot: b is <class": lambda: zg.tensordot(X, np.float32),
    "tensordot: axes is (0, 1, 2)": lambda: zg.tensordot(X, X, axes=(0, 1, 2)),
    "einsum: a list of axes is slice": lambda: zg.einsum(12, slice(None), X),
    "einsum: an axis of a sublist is 52": lambda: zg.einsum(X, [0, 52]),
    "einsum: an operand is <class": lambda: zg.einsum("ij", np.float32),
    "einsum: subscripts are 12": lambda: zg.einsum(12),
    "rotate: x is <class": lambda: zg.rotate(np.float32, X, X),
    "batch_statistics: x is <class": lambda: zg.batch_statistics(np.float32),
    "causal_mask: queries is 0, keys": lambda: zg.causal_mask(0, 2**70),
    "causal_mask: queries is 1099511627776, keys": lambda: zg.causal_mask(2**40, 2**40),
    "diag: k is 1180591620717411303424": lambda: zg.diag(GAIN, 2**70),
    "split: sections is 1099511627776": lambda: zg.array_split(GAIN, 2**40),
    "conv2d: stride is 1180591620717411303424": lambda: zg.conv2d(IMAGE, KERNEL, stride=2**70),
    "upsample: scale is 1099511627776": lambda: zg.upsample(IMAGE, scale=2**40),
    "cross_entropy: ignore_index is 1180591620717411303424": lambda: zg.cross_entropy(X, np.array([0, 1]), ignore_index=2**70),
    "round: a number is too large": lambda: zg.round(X, decimals=2**70),
    "side_by_side: raw is": lambda: zg.side_by_side(np.zeros((3, 7), np.uint8), "Q4_1"),
}


@BOTH
@pytest.mark.parametrize("what", WRONG_SETTINGS)
def test_a_setting_that_can_t_be_meant_is_refused_in_one_line(what, kernels):
    with use_kernels(kernels), pytest.raises((ValueError, TypeError)) as caught:
        WRONG_SETTINGS[what]()
    assert str(caught.value).startswith(what) and "\n" not in str(caught.value)


@BOTH
def test_a_setting_of_numpy_s_float64_leaves_float32_as_it_is(kernels):
    with use_kernels(kernels):
        assert zg.leaky_relu(X, slope=np.float64(0.1)).dtype == zg.layer_norm(X, GAIN, GAIN, eps=np.float64(1e-5)).dtype == np.float32


def test_the_fuzz_calls_whatever_is_exported():
    from fuzz_operations import OPERATIONS

    classes = {"REGISTRY", "Tensor", "enable_grad", "fused", "get_precision", "get_threads", "grad", "no_grad", "primitive", "set_precision",
               "set_threads", "use_precision"}
    assert {name.removeprefix("function ") for name in OPERATIONS} >= set(zg.__all__) - classes


def test_the_transposed_convolution_has_a_bias():
    x, w, b = f32(1, 4, 4, 3), f32(3, 3, 3, 2), f32(2)
    assert np.array_equal(zg.conv_transpose2d(x, w, b, stride=2), zg.conv_transpose2d(x, w, stride=2) + b)


def test_a_setting_s_old_name_warns_and_works():
    with pytest.warns(DeprecationWarning) as warned:
        assert zg.swapaxes(X, a=0, b=1).shape == (3, 2)
    assert [str(w.message).partition(" now")[0] for w in warned] == ["swapaxes: a is axis1", "swapaxes: b is axis2"]
    assert {w.filename for w in warned} == {__file__}  # the line that has to be changed
    with pytest.warns(DeprecationWarning), pytest.raises(TypeError, match="axis1 was given twice, by its old name too"):
        zg.swapaxes(X, a=0, axis1=1, axis2=0)


# --- integers and half floats in the places of floats

SAMPLES = {
    "sigmoid": lambda a: zg.sigmoid(a), "silu": lambda a: zg.silu(a), "softplus": lambda a: zg.softplus(a), "gelu": lambda a: zg.gelu(a),
    "erf": lambda a: zg.erf(a), "leaky_relu": lambda a: zg.leaky_relu(a), "softmax": lambda a: zg.softmax(a),
    "log_softmax": lambda a: zg.log_softmax(a), "layer_norm": lambda a: zg.layer_norm(a), "rms_norm": lambda a: zg.rms_norm(a),
    "batch_norm": lambda a: zg.batch_norm(a), "group_norm": lambda a: zg.group_norm(a, groups=1), "mse": lambda a: zg.mse(a, a[::-1].copy()),
    "bce": lambda a: zg.binary_cross_entropy_with_logits(a, a[::-1].copy()), "dropout": lambda a: zg.dropout(a, p=0.5, seed=1),
    "linear": lambda a: zg.linear(a, np.ones((a.shape[1], 2), a.dtype)), "cross_entropy": lambda a: zg.cross_entropy(a, np.zeros(len(a), np.uint8)),
    "attention": lambda a: zg.scaled_dot_product_attention(a, a, a), "kl": lambda a: zg.gaussian_kl(a, a[::-1] > 2),
    "conv2d": lambda a: zg.conv2d(a[None, ..., None], np.ones((2, 2, 1, 1), a.dtype)), "avg_pool2d": lambda a: zg.avg_pool2d(a[None, ..., None], kernel=2),
}


@BOTH
@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, bool])
def test_integers_in_the_places_of_floats_are_float32(name, dtype, kernels):
    """Pictures are bytes: -x of 3 is 253, (0 - 255)^2 is 1, and a kernel that reads bytes as floats reads garbage."""
    a = np.array([[3, 100, 0], [1, 2, 120], [0, 7, 5]]).astype(dtype)
    with use_kernels(kernels):
        y, expected = SAMPLES[name](a), SAMPLES[name](a.astype(np.float32))
    assert y.dtype == np.float32 and np.all(np.isfinite(y))
    assert np.array_equal(y, expected)


@BOTH
@pytest.mark.parametrize("name", SAMPLES)
def test_half_floats_are_computed_in_float32(name, kernels):
    a = np.array([[3, 100, 0], [1, 2, 120], [0, 7, 5]], np.float16)
    with use_kernels(kernels):
        y, expected = SAMPLES[name](a), SAMPLES[name](a.astype(np.float32))
        x = Tensor(a, requires_grad=True)
        dx = grad(zg.sum(SAMPLES[name](x) if name not in ("mse", "bce") else zg.silu(x)), x)
    assert y.dtype == np.float16 and np.array_equal(y, expected.astype(np.float16), equal_nan=True)
    assert dx.dtype == np.float16 and np.all(np.isfinite(dx.numpy()))


def test_sums_of_half_floats_don_t_overflow():
    thousand = np.full(100, 1000, np.float16)
    assert zg.mean(thousand) == 1000 and zg.mean(np.ones(70_000, np.float16)) == 1
    assert np.array_equal(zg.rms_norm(np.full((1, 2), 300, np.float16)), [[1, 1]])
    assert np.allclose(zg.layer_norm(np.array([[200, 800]], np.float16)), [[-1, 1]], atol=1e-3)
    assert zg.mse(np.full(3000, 5, np.float16), np.zeros(3000, np.float16)) == 25
    assert zg.softmax(np.zeros(70_000, np.float16))[0] > 0
    assert zg.erf(np.ones(1, np.float16)).dtype == zg.gelu(np.ones(1, np.float16)).dtype == np.float16
    assert zg.norm(np.full(4, 300, np.float16)) == 600 and zg.std(np.array([0, 60000], np.float16)) == 30000


def test_integers_of_numpy_s_own_functions_become_float64_as_there():
    a = np.array([1, 2, 250], np.uint8)
    for function, expected in ((zg.mean, np.mean(a)), (zg.var, np.var(a)), (zg.std, np.std(a)), (zg.norm, np.linalg.norm(a.astype(float)))):
        y = function(a)
        assert y.dtype == np.float64 and np.isclose(y, expected)
    assert np.isclose(zg.logsumexp(a), 250)


def test_lists_and_numbers_are_arrays():
    assert np.allclose(zg.softmax([1.0, 2.0]), zg.softmax(np.array([1.0, 2.0], np.float32)))
    w = f32(3, 2)
    for kernels in (True, False):
        with use_kernels(kernels):
            assert np.array_equal(zg.embedding(w, [0, 2]), w[[0, 2]]) and np.array_equal(zg.embedding(w, 1), w[1])
            t = Tensor(w, requires_grad=True)
            assert np.array_equal(grad(zg.embedding(t, 1).sum(), t).numpy(), [[0, 0], [1, 1], [0, 0]])
    for wrong in ("text", None, 1j, object(), {}, np.array(["a"])):
        with pytest.raises(TypeError, match=r"^softmax: x is .*it may be a tensor or an array of floats, integers or bools"):
            zg.softmax(wrong)


# --- shapes, indices and settings that no kernel may see

REFUSED = {
    "embedding_adjoint, an id too large": (lambda: zg.embedding_adjoint(f32(3, 2), np.array([0, 1, 7]), symbols=4), IndexError),
    "embedding_adjoint, a negative id": (lambda: zg.embedding_adjoint(f32(3, 2), np.array([0, 1, -1]), symbols=4), IndexError),
    "embedding_adjoint, too few rows": (lambda: zg.embedding_adjoint(f32(2, 2), np.array([0, 1, 1]), symbols=4), ValueError),
    "embedding, one axis": (lambda: zg.embedding(f32(3), np.array([0, 1])), ValueError),
    "embedding, three axes": (lambda: zg.embedding(f32(3, 2, 2), np.array([0, 1])), ValueError),
    "gru, a short bias": (lambda: zg.gru(f32(1, 1, 12), f32(1, 4), f32(4, 12), np.zeros(4, np.float32)), ValueError),
    "gru, a bias of one": (lambda: zg.gru(f32(2, 3, 12), f32(2, 4), f32(4, 12), np.full(1, 0.5, np.float32)), ValueError),
    "conv2d_weight, channels": (lambda: zg.conv2d_weight(f32(1, 6, 6, 3), f32(1, 4, 4, 2), shape=(3, 3, 7, 2)), ValueError),
    "conv2d_weight, g": (lambda: zg.conv2d_weight(f32(1, 6, 6, 3), f32(1, 3, 4, 2), shape=(3, 3, 3, 2)), ValueError),
    "conv2d_input, channels": (lambda: zg.conv2d_input(f32(1, 4, 4, 2), f32(3, 3, 3, 5), shape=(1, 6, 6, 3)), ValueError),
    "conv2d_input, size": (lambda: zg.conv2d_input(f32(1, 4, 4, 2), f32(3, 3, 3, 2), shape=(1, 9, 6, 3)), ValueError),
    "windows_adjoint": (lambda: zg.windows_adjoint(f32(1, 2, 2, 1, 2, 2), shape=(1, 2, 2, 1)), ValueError),
    "self_attention, an odd width": (lambda: zg.self_attention(f32(1, 3, 9), heads=1, key_value_heads=1, rotation=(f32(3, 1), f32(3, 1))), ValueError),
    "self_attention, no heads": (lambda: zg.self_attention(f32(1, 3, 9), heads=0, key_value_heads=1), ValueError),
    "batch_norm, moments": (lambda: zg.batch_norm(X, GAIN, GAIN, moments=(np.zeros(1), np.ones(1))), ValueError),
    "sum_to": (lambda: zg.sum_to(np.arange(6.0).reshape(2, 3), shape=(3, 2)), ValueError),
    "sum_to, a longer axis": (lambda: zg.sum_to(np.arange(3.0), shape=(2, 3)), ValueError),
    "getitem_adjoint": (lambda: zg.getitem_adjoint(f32(2), index=slice(0, 3), shape=(4,)), ValueError),
    "take_along_axis_adjoint": (lambda: zg.take_along_axis_adjoint(f32(2), np.array([0]), axis=0, shape=(3,)), ValueError),
    "max_pool2d, a stride": (lambda: zg.max_pool2d(IMAGE, kernel=2, stride=-1), ValueError),
    "max_pool2d, no stride": (lambda: zg.max_pool2d(IMAGE, kernel=2, stride=0), ValueError),
    "max_pool2d, all padding": (lambda: zg.max_pool2d(IMAGE, kernel=2, padding=2), ValueError),
    "upsample, no scale": (lambda: zg.upsample(IMAGE, scale=0), ValueError),
    "dropout, half a seed": (lambda: zg.dropout(X, p=0.5, seed=1.2), TypeError),
    "group_norm, an activation": (lambda: zg.group_norm(X, GAIN, GAIN, groups=1, activation="softmax"), ValueError),
    "group_norm, a module": (lambda: zg.group_norm(X, GAIN, GAIN, groups=1, activation="math"), ValueError),
    "group_norm, one axis": (lambda: zg.group_norm(GAIN, GAIN, GAIN, groups=1), ValueError),
    "layer_norm, eps": (lambda: zg.layer_norm(X, GAIN, GAIN, (3,)), TypeError),
    "conv_transpose2d, no pixels": (lambda: zg.conv_transpose2d(f32(1, 1, 1, 3), f32(1, 1, 3, 2), padding=1), ValueError),
    "scaled_dot_product_attention, a mask of integers": (lambda: zg.scaled_dot_product_attention(X, X, X, np.ones((2, 2), int)), TypeError),
    "scaled_dot_product_attention, a mask that enlarges": (lambda: zg.scaled_dot_product_attention(X, X, X, np.ones((4, 2, 2), bool)), ValueError),
    "scaled_dot_product_attention, one axis": (lambda: zg.scaled_dot_product_attention(X, GAIN, GAIN), ValueError),
    "mean, half an axis": (lambda: zg.mean(X, axis=0.5), TypeError),
    "sum, an axis twice": (lambda: zg.sum(X, axis=(0, -2)), ValueError),
    "linear, an activation for a bias": (lambda: zg.linear(X, X.T, "relu"), TypeError),
    "split, an axis": (lambda: zg.split(X, 2, axis=4), ValueError),
    "pad, widths": (lambda: zg.pad(X, widths=((1, 2), (3, 4), (5, 6))), ValueError),
    "einsum, lengths": (lambda: zg.einsum("ii->", np.ones((1, 3))), ValueError),
    "take_along_axis, half indices": (lambda: zg.take_along_axis(X, np.ones((2, 1)), axis=1), TypeError),
    "astype": (lambda: zg.astype(X, dtype=complex), TypeError),
    "take, from nothing": (lambda: zg.take(np.zeros((0, 2, 0)), indices=[1], axis=-1), IndexError),
}


@BOTH
@pytest.mark.parametrize("what", REFUSED)
def test_what_no_kernel_may_see_is_refused_by_name(what, kernels):
    call, kind = REFUSED[what]
    with use_kernels(kernels), pytest.raises(kind, match=rf"^({what.partition(',')[0]}|expand_dims|split)\b") as raised:
        call()
    assert "\n" not in str(raised.value)


def test_zero_axes_and_empty_axes_have_values():
    for kernels in (True, False):
        with use_kernels(kernels):
            assert zg.softmax(np.float32(3) * np.ones((), np.float32)) == 1 and zg.log_softmax(np.zeros((), np.float32)) == 0
            assert zg.softmax(np.zeros((2, 0), np.float32)).shape == (2, 0)
            assert np.array_equal(zg.scaled_dot_product_attention(f32(2, 3), f32(0, 3), f32(0, 4)), np.zeros((2, 4)))
            assert zg.scaled_dot_product_attention(f32(2, 0, 5, 3), f32(2, 0, 5, 3), f32(2, 0, 5, 4)).shape == (2, 0, 5, 4)  # no heads
            with pytest.raises(ValueError, match=r"query has shape \(2, 3, 5, 0\), whose width is 0"):
                zg.scaled_dot_product_attention(f32(2, 3, 5, 0), f32(2, 3, 5, 0), f32(2, 3, 5, 4))
            assert zg.scaled_dot_product_attention(f32(2, 3, 5, 0), f32(2, 3, 5, 0), f32(2, 3, 5, 4), scale=1.0).shape == (2, 3, 5, 4)
    assert [a.shape for a in zg.split(np.zeros((0, 3)), 2)] == [(0, 3), (0, 3)]
    assert zg.squeeze(np.ones((1, 2, 1)), np.int64(0)).shape == (2, 1) and zg.expand_dims(X, (0, 3)).shape == (1, 2, 3, 1)
    assert np.array_equal(zg.mean(X, axis=[0, 1]), zg.mean(X)) and Tensor(X).transpose(None).shape == (3, 2)
    assert zg.concatenate(np.ones((2, 3))).shape == (6,) and zg.stack(np.ones((2, 3))).shape == (2, 3)
    assert zg.upsample(np.arange(6.0).reshape(1, 3, 2, 1), scale=(2, 3)).shape == (1, 6, 6, 1)


def test_an_order_of_axes_may_be_an_int_or_an_array():
    for shape, axes in (((3,), 0), ((3,), -1), ((2, 3), np.array([1, 0])), ((2, 3, 4), [-1, 0, 1]), ((), ())):
        x, g = leaf(np.zeros(shape)), np.arange(math.prod(shape), dtype=np.float64)
        dx = grad(zg.transpose(x, axes=axes), x, g.reshape(np.transpose(np.zeros(shape), axes).shape))
        inverse = np.argsort(np.atleast_1d(axes) % max(len(shape), 1))
        assert np.array_equal(dx.numpy(), np.transpose(g.reshape(np.transpose(np.zeros(shape), axes).shape), inverse))


@BOTH
def test_what_lies_far_beyond_an_array_is_empty_or_all_of_it(kernels):
    x = f32(3, 3)
    with use_kernels(kernels):
        for far in (4, 2**31, 2**70):
            assert zg.diagonal(x, offset=far).shape == zg.diagonal(x, offset=-far).shape == (0,) and zg.trace(x, far) == 0
            assert np.array_equal(zg.tril(x, k=far), x) and np.array_equal(zg.triu(x, k=-far), x)
            assert not zg.tril(x, k=-far).any() and not zg.triu(x, k=far).any()
            assert zg.diff(x, far).shape == (3, 0) and zg.diff([], far).shape == (0,)
    assert [a.shape for a in zg.array_split(x, 5)] == [a.shape for a in np.array_split(x, 5)]


# --- rules


def test_a_rule_that_returns_a_wrong_shape_is_an_error_that_names_the_operation():
    @primitive
    def wrong_shape(x):
        return x * 2

    wrong_shape.derivatives(lambda g, _y, _x: g.reshape(3, 2))
    with pytest.raises(ValueError, match=r"^wrong_shape: its rule returned a gradient of shape \(3, 2\) for an argument of shape \(2, 3\)"):
        zg.sum(wrong_shape(leaf(X))).backward()

    @primitive
    def wrong_extent(x):
        return np.sum(x)

    wrong_extent.derivatives(lambda g, _y, _x: np.ones((4, *_x.shape)))
    with pytest.raises(ValueError, match="^wrong_extent: its rule returned a gradient of shape"):
        wrong_extent(leaf([1.0, 2.0])).backward()

    @primitive
    def no_array(x):
        return x * 2

    no_array.derivatives(lambda g, _y, _x: 2.0)
    with pytest.raises(TypeError, match="^no_array: its rule returned float"):
        no_array(leaf(1.0)).backward()


def test_a_backward_kernel_returns_a_gradient_for_each_argument():
    @fused
    def forgetful(a, b):
        return a * b

    forgetful.forward(lambda a, b: (a * b, ()))
    forgetful.backward(lambda g, _y, _saved, a, b, *, needs: (g * b,))
    with use_kernels(True), pytest.raises(ValueError, match="^forgetful: its backward returned 1 gradients for 2 arguments"):
        zg.sum(forgetful(leaf([1.0], np.float32), leaf([2.0], np.float32))).backward()


# --- indices that name an entry twice


@pytest.mark.parametrize("create_graph", [True, False])
@pytest.mark.parametrize("index", [((0, 0),), ([0, 0],), (memoryview(np.array([0, 0])),), (range(1), (0,)), ((0, 0), slice(None)), (slice(None), (1, 1)),
                                   ((0, 0), (1, 1)), ([True, False], (2, 2)), (Tensor([0, 0]),)], ids=range(9))
def test_whatever_may_repeat_in_an_index_accumulates(index, create_graph):
    x = leaf(np.arange(6.0).reshape(2, 3))
    plain = tuple(i.numpy() if isinstance(i, Tensor) else i for i in index)
    expected = np.zeros((2, 3))
    np.add.at(expected, plain, 1.0)
    dx = grad(zg.sum(x[index]), x, create_graph=create_graph)
    assert np.array_equal(dx.numpy(), expected)
    y = x * 2  # more than one contribution: the walk adds up in place
    dx = grad(zg.sum(y[index]) + zg.sum(y[index]) + zg.sum(y), x, create_graph=create_graph)
    assert np.array_equal(dx.numpy(), 2 * (2 * expected + 1))


@pytest.mark.parametrize("widths", [((1.0, 2.0), (0.0, 1.0)), ((1, 2), (-1, 1)), -1, 0.5, np.array([True, False])])
def test_widths_to_pad_by_are_integers_of_at_least_0(widths):
    with pytest.raises(ValueError, match=r"^pad: widths are .*; they are integers of at least 0$"):
        zg.pad(X, widths=widths)


def test_short_forms_of_widths_and_broadcast_indices_have_gradients():
    x = leaf(np.ones((2, 1)))
    for widths in (((1, 1),), 1, (1, 1), [[1, 1], [1, 1]], np.array(1)):
        assert np.array_equal(grad(zg.sum(zg.pad(x, widths=widths)), x).numpy(), [[1], [1]])
    x = leaf(np.arange(12.0).reshape(3, 4))
    assert np.array_equal(grad(zg.sum(zg.take_along_axis(x, np.array([[0, 2]]), axis=1)), x).numpy(), [[1, 0, 1, 0]] * 3)
    assert np.array_equal(grad(zg.sum(zg.take_along_axis(x, np.array([0, 0, 5]), axis=None)), x).numpy().ravel()[:6], [2, 0, 0, 0, 0, 1])


# --- values that change between forward and backward


def test_a_step_between_forward_and_backward_is_noticed():
    """Otherwise the gradient is that of neither the old weights nor the new (PyTorch raises too)."""
    first, second = leaf(np.ones((2, 2)), np.float32), leaf(np.ones((2, 1)), np.float32)
    x = np.ones((1, 2), np.float32)
    optimiser = SGD([second], 1.0)
    for kernels in (True, False):
        with use_kernels(kernels):
            one, other = (zg.sum((x @ first) @ second) for _ in range(2))
            one.backward()
            optimiser.step()
            with pytest.raises(RuntimeError, match=r"^backward: b of matmul was changed .*run the forward pass again"):
                other.backward()
            zg.sum((x @ first) @ second).backward()  # a new pass is right


CHANGES = {
    "in place by an operator": lambda p, layer: p.__setattr__("data", p.data.__imul__(2)),
    "load_arrays": lambda p, layer: layer.load_arrays({name: a.copy() for name, a in layer.arrays().items()}),
    "Average.swap": lambda p, layer: Average([p]).swap(),
    "mark_changed": lambda p, layer: (p.data.fill(3), p.mark_changed()),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_change_in_place_is_noticed(how):
    layer = Linear(2, 2, rng=np.random.default_rng(0))
    x = leaf(np.ones((1, 2)), np.float32)
    y = zg.sum(layer(x))
    CHANGES[how](layer.weight, layer)
    with pytest.raises(RuntimeError, match="was changed"):
        y.backward()
    zg.sum(layer(x)).backward()


def test_changes_that_nothing_reads_again_are_no_error():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    y = zg.sum(a + b)  # a sum's rule reads no values
    a.data += 1
    y.backward()
    assert np.array_equal(a.grad, [1, 1])
    y = zg.sum(a * b)
    b.data = b.data * 10  # another array: the graph holds the old one, and its gradient is right
    y.backward()
    assert np.array_equal(a.grad, [4, 5])


# --- dtypes and memory at the edges


def test_a_big_endian_array_becomes_a_native_tensor():
    x = Tensor(np.array([1, 2], ">f4"), requires_grad=True)
    assert x.dtype == np.float32 and x.dtype.isnative
    zg.sum(x * x).backward()
    assert x.grad.dtype.isnative and np.array_equal(x.grad, [2, 4])


def test_an_input_given_twice_gets_two_gradients():
    x = leaf([1.0, 2.0])
    one, other = grad(zg.sum(x * x), [x, x])
    assert np.array_equal(one.numpy(), other.numpy()) and not np.shares_memory(one.numpy(), other.numpy())


def test_a_complex_gradient_is_refused():
    with pytest.raises(TypeError, match="^backward: the gradient has dtype complex128"):
        (leaf([1.0]) * 2).backward(np.array([1j]))


def test_a_power_s_gradient_in_the_exponent_is_0_at_base_0():
    a, b = leaf([0.0, 2.0]), leaf([2.0, 3.0])
    da, db = grad(zg.sum(a**b), [a, b])
    assert np.array_equal(da.numpy(), [0, 12]) and np.allclose(db.numpy(), [0, 8 * math.log(2)])


def test_backward_under_no_grad_says_so():
    with zg.no_grad(), pytest.raises(ValueError, match=r"requires_grad=True; gradients are switched off here, by no_grad\(\)"):
        (leaf(1.0) * 2).backward()


# --- NumPy's functions and symbols on tensors


def test_numpy_s_reductions_take_tensors():
    values = np.array([[1.0, 2.0], [3.0, 5.0]])
    for function in (np.sum, np.mean, np.max, np.min, np.prod, np.std, np.var, np.any, np.all, np.argmax, np.argmin, np.cumsum, np.squeeze,
                     np.transpose, np.round):
        x = leaf(values)
        y = function(x)
        assert isinstance(y, Tensor) and np.allclose(y.numpy(), function(values))
    x = leaf(values)
    for call in (lambda a: np.sum(a, axis=0, keepdims=True), lambda a: np.mean(a, 1), lambda a: np.clip(a, 1.5, 4), lambda a: np.repeat(a, 2, 1),
                 lambda a: np.std(a, ddof=1), lambda a: np.reshape(a, (4,)), lambda a: np.swapaxes(a, 0, 1), lambda a: np.take(a, [0, 0], axis=1)):
        assert np.allclose(call(x).numpy(), call(values)) and call(x).requires_grad
    with pytest.raises(TypeError, match="^sum: dtype isn't taken of a tensor"):
        np.sum(x, dtype=np.float32)
    with pytest.raises(TypeError):
        np.exp(x)


@pytest.mark.parametrize("x", [np.array([[True, False, True], [False, True, True]]), np.array([[250, 3, 7], [1, 2, 255]], np.uint8), np.array([[100, -100, 7], [1, 2, 127]], np.int8)],
                         ids=lambda x: str(x.dtype))
def test_of_bools_and_small_integers_operations_are_numpy_s(x):
    for name in ("diff", "prod", "sum", "mean", "std", "var", "max", "min", "sort", "argsort", "flip", "trace", "diag", "ravel", "tril", "triu", "abs", "square", "any", "all"):
        theirs = getattr(np, name)(x)
        for argument in (x, Tensor(x)):
            ours = getattr(zg, name)(argument)
            ours = ours.numpy() if isinstance(ours, Tensor) else np.asarray(ours)
            assert ours.dtype == theirs.dtype and np.allclose(ours, theirs), (name, type(argument))
    for name in ("kron", "inner"):
        ours, theirs = getattr(zg, name)(x, x), getattr(np, name)(x, x)
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs), name


def test_tensors_have_numpy_s_symbols_and_methods():
    x, values = leaf([[1.5, -2.0], [3.0, 5.0]]), np.array([[1.5, -2.0], [3.0, 5.0]])
    pairs = [(+x, +values), (x % 2, values % 2), (7 % x, 7 % values), (x // 2, values // 2), (round(x), np.round(values)), ((x > 0) & (x < 4), (values > 0) & (values < 4)),
             ((x > 2) | (x < 0), (values > 2) | (values < 0)), (~(x > 0), ~(values > 0)), (x.std(), values.std()), (x.prod(axis=0), values.prod(axis=0)),
             (x.argmax(1), values.argmax(1)), (x.clip(0, 2), values.clip(0, 2)), (x.cumsum(0), values.cumsum(0)), (x.flatten(), values.flatten()),
             (x.ravel(), values.ravel()), (x[:1].squeeze(0), values[0]), (x.copy(), values), (x.dot(values), values.dot(values)), (x.any(), values.any()),
             (x.all(0), values.all(0)), (x.trace(), values.trace()), (x.diagonal(), values.diagonal()), (x.repeat(2), values.repeat(2))]
    for ours, theirs in pairs:
        assert np.allclose(ours.numpy(), theirs)
    assert x.tolist() == values.tolist() and f"{x.sum():.2f}" == "7.50" and f"{x[0, 0]:5.1f}" == "  1.5"
    assert [10, 20, 30][Tensor(1)] == 20 and not np.shares_memory(x.copy().numpy(), x.numpy())
    with pytest.raises(TypeError, match=r"can't be assigned.*where\(\)"):
        x[0] = 1
    with pytest.raises(TypeError, match="single number"):
        f"{x:.2f}"
    with pytest.raises(TypeError, match="isn't an index"):
        [1, 2][Tensor(0.5)]


FUNCTIONS = {
    "hstack": lambda m, a, b: m.hstack([a, b]), "vstack": lambda m, a, b: m.vstack([a, b]), "column_stack": lambda m, a, b: m.column_stack([a, b]),
    "dstack": lambda m, a, b: m.dstack([a, b]), "append": lambda m, a, b: m.append(a, b), "append along": lambda m, a, b: m.append(a, b, axis=1),
    "tile": lambda m, a, b: m.tile(a, (2, 1, 3)), "tile by one": lambda m, a, b: m.tile(a, 2), "outer": lambda m, a, b: m.outer(a, b),
    "inner": lambda m, a, b: m.inner(a, b), "dot": lambda m, a, b: m.dot(a, b), "dot of vectors": lambda m, a, b: m.dot(a[0], b[0]),
    "inner of three axes": lambda m, a, b: m.inner(m.stack([a, a, a, a]), b), "dot of three axes": lambda m, a, b: m.dot(m.stack([a, b.T, a, a]), b),
    "tensordot": lambda m, a, b: m.tensordot(a, b, axes=1), "tensordot of axes": lambda m, a, b: m.tensordot(a, b, axes=((0, 1), (1, 0))),
    "kron": lambda m, a, b: m.kron(a, b), "diag of a matrix": lambda m, a, b: m.diag(a, 1), "diag of a vector": lambda m, a, b: m.diag(a[0], -1),
    "trace": lambda m, a, b: m.trace(a @ b), "moveaxis": lambda m, a, b: m.moveaxis(a, 0, -1), "diff": lambda m, a, b: m.diff(a, 2), "ravel": lambda m, a, b: m.ravel(a),
    "einsum, ellipsis": lambda m, a, b: m.einsum("...i,...i->...", a, b), "einsum, implicit": lambda m, a, b: m.einsum("...j,j...", a, b),
    "einsum, sublists": lambda m, a, b: m.einsum(a, [0, 1], b, [1, 2], [0, 2]), "einsum, lengths of 1": lambda m, a, b: m.einsum("ij,ij->ij", a[:1], b),
    "einsum, diagonal": lambda m, a, b: m.einsum("ii->i", a @ b), "array_split": lambda m, a, b: m.array_split(a, 2, axis=1)[0],
    "hsplit": lambda m, a, b: m.hsplit(a, 3)[1], "vsplit": lambda m, a, b: m.vsplit(a, [1])[1],
}


@pytest.mark.parametrize("what", FUNCTIONS)
def test_a_function_of_numpy_s_is_numpy_s_and_has_gradients(what):
    from zoo.autograd.checking import check_gradients

    a, b = np.random.default_rng(1).standard_normal((2, 3, 3))
    call = FUNCTIONS[what]
    assert np.allclose(call(zg, a, b), call(np, a, b))
    check_gradients(lambda a, b: call(zg, a, b) * (1 + 0 * zg.sum(a) + 0 * zg.sum(b)), a, b, entries=2)


def test_einsum_of_a_diagonal_doesn_t_multiply_what_is_beside_it():
    a = np.array([[1.0, np.inf], [np.nan, 1.0]])
    assert zg.einsum("ii->", a) == 2 and np.array_equal(zg.einsum("ii->i", a), [1, 1])


# --- axes without entries


EMPTY = {
    "embedding": lambda n, c: (zg.embedding(t := leaf(np.ones((4, c))), np.zeros(n, int)), t),
    "linear": lambda n, c: (zg.linear(t := leaf(np.ones((n, c))), np.ones((c, 5)), np.ones(5)), t),
    "linear to nothing": lambda n, c: (zg.linear(t := leaf(np.ones((n, c))), np.ones((c, 0)), np.ones(0)), t),
    "matmul": lambda n, c: (zg.matmul(t := leaf(np.ones((2, n, c))), np.ones((c, 4))), t),
    "matmul by a vector": lambda n, c: (zg.matmul(t := leaf(np.ones((2, n, c))), np.ones(c)), t),
    "layer_norm": lambda n, c: (zg.layer_norm(t := leaf(np.ones((n, c))), np.ones(c), np.ones(c)), t),
    "group_norm": lambda n, c: (zg.group_norm(t := leaf(np.ones((n, 4, 4, c))), np.ones(c), np.ones(c), groups=1), t),
    "attention": lambda n, c: (zg.scaled_dot_product_attention(t := leaf(np.ones((1, 2, n, c))), np.ones((1, 2, 3, c)), np.ones((1, 2, 3, c))), t),
    "attention to nothing": lambda n, c: (zg.scaled_dot_product_attention(t := leaf(np.ones((1, 2, 3, c))), np.ones((1, 2, n, c)), np.ones((1, 2, n, c))), t),
    "conv2d": lambda n, c: (zg.conv2d(t := leaf(np.ones((n, 5, 5, c))), np.ones((3, 3, c, 2))), t),
    "max_pool2d": lambda n, c: (zg.max_pool2d(t := leaf(np.ones((n, 4, 4, c))), 2), t),
    "upsample": lambda n, c: (zg.upsample(t := leaf(np.ones((n, 4, 4, c))), 2), t),
    "softmax": lambda n, c: (zg.softmax(t := leaf(np.ones((n, c)))), t),
    "cumsum": lambda n, c: (zg.cumsum(t := leaf(np.ones((n, c))), axis=1), t),
    "prod": lambda n, c: (zg.prod(t := leaf(np.ones((n, c))), axis=1), t),
    "take": lambda n, c: (zg.take(t := leaf(np.ones((3, c))), np.zeros(n, int), axis=0), t),
    "cross_entropy": lambda n, c: (zg.cross_entropy(t := leaf(np.ones((n, c))), np.zeros(n, int)), t),
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize(("n", "c"), [(0, 3), (2, 0), (0, 0)])
def test_an_axis_without_entries_is_refused_in_words_or_has_a_value_and_a_gradient(name, n, c):
    results = []
    for kernels in (True, False):
        with use_kernels(kernels):
            try:
                value, given = EMPTY[name](n, c)
            except (ValueError, IndexError) as error:
                assert str(error).startswith(name.split()[0].replace("attention", "scaled_dot_product_attention") + ":")
                results.append(str(error))
            else:
                (gradient,) = grad(zg.sum(value), [given])
                assert gradient.shape == given.shape
                results.append((value.shape, gradient.numpy().tolist()))
    assert results[0] == results[1]


@pytest.mark.parametrize("array", [np.array([["a", "b"]]), np.array([[None, 1]], object), np.array([["2020-01-01"]], "M8[D]"), np.ones((1, 2), complex)],
                         ids=lambda a: str(a.dtype))
def test_arrays_of_what_is_no_number_are_refused_in_words(array):
    for call in (zg.exp, zg.sum, zg.diff, zg.batch_statistics, zg.trace, zg.ravel, zg.inner, zg.hstack, zg.tril, zg.sort):
        arguments = (array, array) if call is zg.inner else ([array],) if call is zg.hstack else (array,)
        with pytest.raises(TypeError, match=r"floats, integers or bools|whose dtype"):
            call(*arguments)


def test_steps_take_plain_numbers():
    assert [float(f(2.5)) for f in (zg.floor, zg.ceil, zg.trunc, zg.sign)] == [2, 3, 2, 1] and float(zg.floor(-0.5)) == -1
