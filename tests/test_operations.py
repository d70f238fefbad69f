"""Laws that every operation of the zoo keeps; `check_operation` says which they are.  The arguments come from operation_cases.py."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operation_cases import CASES, EXTREMES, LARGE

import zoo.autograd as ops
from zoo.autograd import REGISTRY, Tensor, grad
from zoo.autograd.checking import check_operation
from zoo.autograd.runtime import use_kernels

OPERATIONS = {name: op for name, op in REGISTRY.items() if op.__module__.startswith("zoo.")}
ELSEWHERE = {"astype": "test_engine.py: it changes the dtype, which all others keep"}
EVERY = pytest.mark.parametrize("name", sorted(CASES.keys() & OPERATIONS.keys()))


def test_every_operation_has_cases():
    missing = OPERATIONS.keys() - CASES.keys() - ELSEWHERE.keys()
    assert not missing, f"no cases in operation_cases.py for: {', '.join(sorted(missing))}"
    gone = (CASES.keys() | LARGE.keys() | EXTREMES.keys()) - OPERATIONS.keys()
    assert not gone, f"operation_cases.py has cases for what isn't an operation: {', '.join(sorted(gone))}"


def test_every_kernel_has_large_cases():
    missing = {name for name, op in OPERATIONS.items() if op.kernel_forward or op.kernel_backward} - LARGE.keys()
    assert not missing, f"no large cases in operation_cases.py for the kernels of: {', '.join(sorted(missing))}"


@EVERY
@given(data=st.data())
def test_operation_keeps_every_law(name, data):
    case = data.draw(CASES[name])
    check_operation(OPERATIONS[name], *case.arguments, **case.settings, rounding=case.rounding, entries=2)


@pytest.mark.parametrize("name", sorted(LARGE))
def test_large_arguments_keep_every_law(name, rng):
    for case in (make(rng) for make in LARGE[name]):
        check_operation(OPERATIONS[name], *case.arguments, **case.settings, order=0, rounding=case.rounding)


@pytest.mark.parametrize("name", sorted(EXTREMES))
def test_value_and_gradients_are_finite_at_extremes(name):
    for case in EXTREMES[name]:
        with np.errstate(under="ignore"):
            check_operation(OPERATIONS[name], *case.arguments, **case.settings, order=0, rounding=case.rounding)


@pytest.mark.parametrize("name", sorted(EXTREMES))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_second_order_gradients_are_finite_at_extremes(name, dtype):
    for case in EXTREMES[name]:
        floats = [np.asarray(a).dtype.kind == "f" for a in case.arguments]
        xs = [Tensor(a.astype(dtype), requires_grad=True) if f else a for a, f in zip(case.arguments, floats)]
        leaves = [x for x, f in zip(xs, floats) if f]
        y = OPERATIONS[name](*xs, **case.settings)
        first = grad(y, leaves, np.ones(y.shape), create_graph=True, allow_unused=True)
        curved = [d for d in first if d is not None and d.requires_grad]
        second = grad(curved, leaves, [np.ones(d.shape) for d in curved], allow_unused=True) if curved else []
        for d in (*first, *second):
            assert d is None or np.all(np.isfinite(d.numpy())), name


@EVERY
@given(data=st.data())
def test_second_order_in_float32_is_that_of_float64(name, data):
    """Kernels serve float32 only; what is differentiated again runs their definitions, and must give the same."""
    case = data.draw(CASES[name])
    results = []
    for dtype, mode in ((np.float64, nullcontext()), (np.float32, use_kernels(False)), (np.float32, nullcontext())):
        with mode:
            args = [Tensor(a.astype(np.float32).astype(dtype), requires_grad=True) if getattr(a, "dtype", np.dtype(int)).kind == "f" else a
                    for a in case.arguments]
            leaves = [a for a in args if isinstance(a, Tensor)]
            y = OPERATIONS[name](*args, **case.settings)
            if not leaves or y.dtype.kind != "f" or not y.requires_grad:
                return
            first = grad(y, leaves, np.linspace(-1, 1, y.size).reshape(y.shape), create_graph=True, allow_unused=True)
            total = None
            for d in first:
                if d is not None and d.requires_grad:
                    total = ops.sum(d * d) if total is None else total + ops.sum(d * d)
            if total is None:
                return
            results.append([d if d is None else d.numpy() for d in grad(total, leaves, allow_unused=True)])
    for x, exact, plain, fast in zip(leaves, *results):
        if exact is None:
            assert plain is None and fast is None
            continue
        assert fast.dtype == np.float32 and fast.shape == x.shape
        size, lost = np.max(np.abs(exact), initial=0), np.max(np.abs(plain - exact), initial=0)
        assert np.max(np.abs(fast - exact), initial=0) <= 10 * case.rounding * size + 8 * lost + 1e-6


@pytest.mark.parametrize("name", sorted(LARGE))
def test_integers_in_place_of_floats_are_numbers_not_bits(name):
    """Pictures are bytes, labels may be integers: a kernel that takes them for float32 would read garbage."""
    rng = np.random.default_rng(0)
    case = LARGE[name][0](rng)
    floats = [i for i, a in enumerate(case.arguments) if a is not None and a.dtype.kind == "f"]
    for i in floats:
        for dtype in (np.int64, np.uint8):
            arguments = [a.astype(np.float32) if j in floats else a for j, a in enumerate(case.arguments)]
            arguments[i] = rng.integers(1, 3, arguments[i].shape).astype(dtype)
            with np.errstate(all="ignore"):
                found = OPERATIONS[name](*arguments, **case.settings)
                with use_kernels(False):
                    expected = OPERATIONS[name](*arguments, **case.settings)
            assert np.allclose(found, expected, rtol=1e-3, atol=1e-4 * np.max(np.abs(expected)), equal_nan=True)


@pytest.mark.parametrize("name", sorted(LARGE))
def test_kernels_write_within_their_arrays(name, rng, monkeypatch):
    """Arguments, and all arrays that are made for them to fill, lie between fences, which stand afterwards."""
    fences, fence, make = [], np.full(64, 0xA5, np.uint8), np.empty

    def between_fences(shape, dtype=float, order="C", **more):
        if order != "C" or more:
            return make(shape, dtype, order, **more)
        size = math.prod(np.atleast_1d(shape).tolist()) * np.dtype(dtype).itemsize
        memory = np.frombuffer(bytearray(size + 128), np.uint8)
        sides = memory[:64], memory[64 + size :]
        sides[0][:] = sides[1][:] = fence
        fences.append(sides)
        return np.ndarray(shape, dtype, memory, 64)

    def run(case, make):
        arguments = []
        for a in case.arguments:
            if a is not None and a.dtype.kind == "f":
                argument = make(a.shape, np.float32)
                argument[...] = a
                a = Tensor(argument, requires_grad=True)
            arguments.append(a)
        y = OPERATIONS[name](*arguments, **case.settings)
        leaves = [x for x in arguments if isinstance(x, Tensor)]
        if leaves and y.requires_grad:
            grad(y, leaves, np.ones(y.shape, np.float32), allow_unused=True)

    for case in (make_case(rng) for make_case in LARGE[name]):
        run(case, make)  # compiles, for which np.empty has to be NumPy's
        with monkeypatch.context() as patched:
            patched.setattr(np, "empty", between_fences)
            patched.setattr(np, "zeros", between_fences)
            run(case, between_fences)
        assert fences and all(np.array_equal(side, fence) for sides in fences for side in sides)
        fences.clear()
