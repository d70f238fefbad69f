"""Calls every operation with wrong shapes, dtypes, axes, indices and settings, with kernels and without.

    python tests/fuzz_operations.py --calls 200000 --seed 0        # prints what it found; --only I shows call I of that seed alone

Each call must end in a ValueError, TypeError or IndexError of one line that names the operation, or in the same value, dtype and gradients
by the kernel as by the definition.  Arguments and all that kernels allocate lie between fences: what is read from beyond an array is NaN,
and what is written there is noticed.  The calls run in a process of their own, so that a crash is counted, with the call that made it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import functools
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from operation_cases import CASES, LARGE, Case

import zoo.autograd as ops
from zoo.autograd import REGISTRY, Tensor, grad
from zoo.autograd.runtime import use_kernels
from zoo.autograd.runtime.compiling import Separate

A, B, V = (st.builds(lambda seed, shape=shape: np.random.default_rng(seed).standard_normal(shape), st.integers(0, 99)) for shape in ((3, 4), (4, 2), (3,)))
FUNCTIONS = {  # made of operations, with right arguments of each
    "moveaxis": st.tuples(A, st.just(0), st.just(-1)), "ravel": st.tuples(A), "expand_dims": st.tuples(A, st.sampled_from([0, (0, -1)])),
    "squeeze": st.tuples(A.map(lambda a: a[None])), "tile": st.tuples(A, st.sampled_from([2, (2, 3), (2, 1, 2)])), "hstack": st.tuples(st.lists(A, min_size=1, max_size=3)),
    "vstack": st.tuples(st.lists(A, min_size=1, max_size=3)), "column_stack": st.tuples(st.lists(V, min_size=1, max_size=3)), "dstack": st.tuples(st.lists(A, min_size=1, max_size=3)),
    "append": st.tuples(A, A, st.sampled_from([None, 0])), "split": st.tuples(A, st.sampled_from([2, [1], [1, 3]]), st.just(1)),
    "array_split": st.tuples(A, st.sampled_from([2, 3, [1, 2]]), st.just(1)), "hsplit": st.tuples(A, st.just(2)), "vsplit": st.tuples(A, st.just(3)),
    "diag": st.tuples(A | V, st.sampled_from([0, 1, -1])), "trace": st.tuples(A), "einsum": st.tuples(st.sampled_from(["ij,jk", "ij,jk->ki", "...j,jk"]), A, B),
    "tensordot": st.tuples(A, B, st.sampled_from([1, ((1,), (0,))])), "dot": st.tuples(A, B), "inner": st.tuples(A, A), "outer": st.tuples(V, V), "kron": st.tuples(A, B),
    "diff": st.tuples(A, st.sampled_from([1, 2])), "detach": st.tuples(A), "astype": st.tuples(A, st.sampled_from([np.float16, np.float64, int, bool])), "dsplit": st.tuples(A.map(lambda a: a[None]), st.just(2)),
    "unpack": st.tuples(A.map(lambda a: a[None]), st.just(2), st.just(1)), "merge_heads": st.tuples(A.map(lambda a: a[None, None])),
    "repeat_heads": st.tuples(A.map(lambda a: a[None, None]), st.sampled_from([1, 2])), "rotate": st.tuples(A, A.map(lambda a: a[:, :2]), A.map(lambda a: a[:, 2:])),
    "causal_mask": st.tuples(st.integers(0, 4), st.integers(0, 4)), "batch_statistics": st.tuples(A),
    "side_by_side": st.tuples(st.just(np.zeros((3, 40), np.uint8)), st.just("Q4_1")),
}
OPERATIONS = (sorted(name for name, op in REGISTRY.items() if op.__module__.startswith("zoo.") and name in CASES)
              + [f"function {name}" for name in sorted(FUNCTIONS)])
CLEAR = (ValueError, TypeError, IndexError)
FENCE = 64
SECONDS = 120  # of processor time for one call: one that takes longer is ended, and counts as a crash
LARGEST = 1 << 22  # entries of a result that is looked at
FAR = {"conv2d", "conv2d_input", "conv2d_weight", "conv_transpose2d", "residual_conv2d"}  # Winograd's: one large entry reaches its neighbours


class Call(NamedTuple):
    name: str
    arguments: list
    settings: dict[str, Any]
    tensors: bool
    tame: bool  # finite numbers of moderate size


# --- what is called


@functools.cache
def pool(name: str, count: int) -> list:
    """Right arguments for an operation, as the laws draw them."""
    cases = []

    @settings(max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.data())
    def collect(data):
        if name.startswith("function "):
            cases.append(Case(data.draw(FUNCTIONS[name.removeprefix("function ")])))
        else:
            cases.append(data.draw(CASES[name]))

    collect()
    return cases


def fenced(a: np.ndarray) -> np.ndarray:
    """A copy between bytes that are NaN as floats and -1 as integers; read-only or not aligned if a is."""
    memory = np.full(a.nbytes + 2 * FENCE, 0xFF, np.uint8)
    b = np.ndarray(a.shape, a.dtype, memory, FENCE + (not a.flags.aligned))
    b[...] = a
    b.flags.writeable = a.flags.writeable
    return b


DTYPES = [np.float16, np.float64, np.int64, np.int32, np.uint8, np.int8, np.uint64, bool, np.longdouble, np.complex64, object, ">f4", "<U3"]
NUMBERS = [0, 1, 2, 3, -1, -2, 7, 2.0, -0.5, math.nan, math.inf, True, False, None, "mean", "relu", "x", (), (1,), (0, 1), (1, 2), (2, 1, 0), [0], [1, -1],
           ((1, 1),), ((0, 1), (2, 0)), -7, 12, 2**31, 2**40, 2**70, -(2**63), 1e-30, 1e30, np.int64(1), np.float64(0.5), np.float32(2), np.bool_(True),
           slice(None), Ellipsis, {}, "none", "sum", "tanh", "wrap", "reflect", np.array([1, 0]), np.array(1), np.float32, "int8", ((0, 0),), (3, 3)]


def wrong_array(a: Any, rng: np.random.Generator) -> tuple[Any, bool]:
    """Something else in an array's place; whether it's still made of tame numbers."""
    kind = rng.integers(19)
    if not isinstance(a, np.ndarray) or kind == 0:
        return NUMBERS[rng.integers(len(NUMBERS))], True
    if kind == 1 and a.dtype.kind in "fiub":
        return a.astype(DTYPES[rng.integers(len(DTYPES))]), True
    if kind == 2:
        return rng.standard_normal(tuple(rng.integers(0, 5, rng.integers(0, 6)))).astype(np.float32), True
    if kind == 3:
        return rng.integers(-3, 9, a.shape), True
    if kind == 4:
        return a[..., None] if rng.random() < 0.5 else a[None], True
    if kind == 5 and a.ndim:
        return a[tuple(0 if i == rng.integers(a.ndim) else slice(None) for i in range(a.ndim))] if a.size else a, True
    if kind == 6 and a.ndim:
        axis = rng.integers(a.ndim)
        return np.concatenate([a, a], axis), True
    if kind == 7 and a.ndim:
        return a[tuple(slice(0, rng.integers(0, n + 1)) for n in a.shape)], True
    if kind == 8:
        return a.T, True
    if kind == 9:
        return a[::-1] if a.ndim else a, True
    if kind == 10 and a.size and a.dtype.kind == "f":
        b = np.array(a)
        b.flat[rng.integers(a.size)] = [math.nan, math.inf, -math.inf, 1e30, -1e30, 1e4, 0.0][rng.integers(7)]
        return b, False
    if kind == 11:
        return a.tolist(), True
    if kind == 13:
        b = a.copy()
        b.flags.writeable = False
        return b, True
    if kind == 14 and a.size > 1:  # each row begins within the one before
        return np.lib.stride_tricks.as_strided(np.ascontiguousarray(a), a.shape, (a.itemsize,) * a.ndim if sum(a.shape) - a.ndim < a.size else a.strides), True
    if kind == 15 and a.dtype.kind == "f":
        return a * a.dtype.type([1e37, 1e-39, 1e19, 3e4][rng.integers(4)]), False
    if kind == 15 and a.dtype.kind in "iu":
        return np.full_like(a, np.iinfo(a.dtype).max if rng.random() < 0.5 else np.iinfo(a.dtype).min), True
    if kind == 16 and a.size and a.dtype.kind in "fiub":  # not aligned
        b = np.ndarray(a.shape, a.dtype, np.zeros(a.nbytes + 1, np.uint8), 1)
        b[...] = a
        return b, True
    if kind == 17 and a.ndim:  # every other row and column of a wider array
        wide = np.repeat(a, 2, -1) if rng.random() < 0.5 else np.repeat(a, 2, 0)
        return wide[..., ::2] if wide.shape[-1] != a.shape[-1] else wide[::2], True
    if kind == 12:
        return np.broadcast_to(a[..., :1], a.shape) if a.ndim and a.size else a, True
    return np.zeros_like(a), True


def called(name: str) -> Any:
    return getattr(ops, name.removeprefix("function ")) if name.startswith("function ") else REGISTRY[name]


def draw_call(rng: np.random.Generator, per_operation: int, name: str | None = None) -> Call:
    name = name or OPERATIONS[rng.integers(len(OPERATIONS))]
    if name in LARGE and rng.random() < 0.02:
        case = LARGE[name][rng.integers(len(LARGE[name]))](rng)
    else:
        cases = pool(name, per_operation)
        case = cases[rng.integers(len(cases))]
    arguments = [a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == np.float64 and rng.random() < 0.95 else a for a in case.arguments]
    named, tame = dict(case.settings), True
    for _ in range(rng.choice(4, p=[0.1, 0.5, 0.3, 0.1])):
        kind = rng.integers(12)
        if kind < 6 and arguments:
            i = rng.integers(len(arguments))
            arguments[i], still = wrong_array(arguments[i], rng)
            tame = tame and still
        elif kind < 9 and named:
            key = list(named)[rng.integers(len(named))]
            named[key] = NUMBERS[rng.integers(len(NUMBERS))]
        elif kind == 9 and len(arguments) > 1:
            i, j = rng.integers(len(arguments), size=2)
            arguments[i], arguments[j] = arguments[j], arguments[i if rng.random() < 0.5 else j]  # exchanged, or one array twice
        elif kind == 10:
            operation = called(name)
            settings_of = ["axis", "unknown", *getattr(operation, "settings", ()), *getattr(operation, "arguments", ())]
            named[settings_of[rng.integers(len(settings_of))]] = NUMBERS[rng.integers(len(NUMBERS))]
        elif rng.random() < 0.5:
            arguments.append(NUMBERS[rng.integers(len(NUMBERS))])
        elif arguments:
            arguments.pop()
    return Call(name, arguments, named, bool(rng.random() < 0.6), tame)


# --- what happens


class Outcome(NamedTuple):
    error: Exception | None
    value: np.ndarray | None
    gradients: list


def run(call: Call, kernels: bool) -> Outcome:
    given: dict[int, Any] = {}  # by the identity of the array in the call: what is there twice stays one array, or one tensor
    for a in call.arguments:
        if isinstance(a, np.ndarray) and id(a) not in given:
            b = fenced(a) if a.dtype.kind in "fiub" and a.flags.c_contiguous else a
            given[id(a)] = Tensor(b, requires_grad=True) if call.tensors and b.dtype.kind == "f" else b
    arguments = [given.get(id(a), a) for a in call.arguments]
    leaves = [a for a in given.values() if isinstance(a, Tensor)]
    with use_kernels(kernels):
        try:
            y = called(call.name)(*arguments, **call.settings)
            y = y[-1] if isinstance(y, (list, tuple)) and y else y
        except Exception as error:
            return Outcome(error, None, [])
        if isinstance(y, (np.ndarray, Tensor)) and y.size > LARGEST:  # a view that repeats: to copy it would take all memory
            return Outcome(None, None, [])
        gradients = []
        if isinstance(y, Tensor) and y.requires_grad:
            g = np.random.default_rng(0).integers(-4, 5, y.shape).astype(y.dtype) / 4
            try:
                gradients = [None if d is None else d.data for d in grad(y, leaves, g, allow_unused=True)]
            except Exception as error:
                error.add_note("in backward")
                return Outcome(error, None, [])
    value = np.array(y.data if isinstance(y, Tensor) else y)
    return Outcome(None, value, gradients)


def unclear(error: Exception, name: str) -> str | None:
    """What is wrong with an error, or None."""
    if not isinstance(error, CLEAR):
        return f"{type(error).__name__}: {error}"
    if getattr(error, "__notes__", None):
        return f"in backward, {type(error).__name__}: {error}"
    name = name.removeprefix("function ")
    if name not in str(error) and "Tensor" not in str(error) and str(error).partition(":")[0].partition(" ")[0] not in ops.__all__:
        return f"doesn't name {name}: {error}"
    return f"has several lines: {error}" if "\n" in str(error) else None


def differ(a: np.ndarray | None, b: np.ndarray | None, call: Call, magnitude: float) -> str | None:
    """How two values differ beyond rounding, or None."""
    if a is None or b is None:
        return None if a is b else "one is None"
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype} {a.shape} against {b.dtype} {b.shape}"
    if a.dtype.kind != "f":
        return None if np.array_equal(a, b) else "values differ"
    if not call.tame:
        if call.name in FAR:
            return None
        finite = np.isfinite(a) & np.isfinite(b)
        a, b = np.where(finite, a, 0), np.where(finite, b, 0)
    elif not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return "not finite in different places"
    finite = np.isfinite(a)
    a, b = np.where(finite, a, 0).astype(np.float64), np.where(finite, b, 0).astype(np.float64)
    coarse = 2e-2 if a.dtype == np.float16 else 2e-3
    size = max(1.0, float(np.max(np.abs(b), initial=0)), magnitude)
    error = float(np.max(np.abs(a - b), initial=0))
    return None if error <= coarse * size else f"off by {error:.3g} of {size:.3g}"


def verdict(call: Call) -> tuple[str, str | None]:
    """("value" or "error", what is wrong or None)"""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fences() as broken:
            fast = run(call, True)
        defined = run(call, False)
    if broken():
        return "value", "a kernel wrote beyond an array"
    if isinstance(fast.error, MemoryError) or isinstance(defined.error, MemoryError):
        return "error", None  # the one may need more than the other
    for how, outcome in (("kernels", fast), ("definition", defined)):
        if outcome.error is not None and (wrong := unclear(outcome.error, call.name)):
            return "error", f"{how}: {wrong}"
    if (fast.error is None) != (defined.error is None):
        return "error", f"kernels: {fast.error or 'a value'}; definition: {defined.error or 'a value'}"
    if fast.error is not None:
        return "error", None
    sizes = [float(np.max(np.abs(np.where(np.isfinite(a), a, 0).astype(np.float64)), initial=0)) for a in call.arguments
             if isinstance(a, np.ndarray) and a.dtype.kind in "fiu"]
    magnitude = max(sizes, default=0.0)
    call = call._replace(tame=call.tame and magnitude < 1e9)
    wrong = disagreement(fast, defined, call, magnitude)
    if wrong and call.tame and is_ill_conditioned(call, fast, defined):
        return "value", None
    return "value", wrong


def disagreement(fast: Outcome, defined: Outcome, call: Call, magnitude: float) -> str | None:
    wrong = differ(fast.value, defined.value, call, magnitude)
    if wrong is None and len(fast.gradients) == len(defined.gradients):
        for i, (a, b) in enumerate(zip(fast.gradients, defined.gradients)):
            wrong = wrong or ((w := differ(a, b, call, magnitude)) and f"gradient {i}: {w}")
    return wrong


def is_ill_conditioned(call: Call, fast: Outcome, defined: Outcome) -> bool:
    """Whether float32 itself can't say more: beside float64 the definition is off as well, by at least a tenth of what the kernel is off."""
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in call.arguments]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact = run(call._replace(arguments=wide), False)
    if exact.error is not None or exact.value is None:
        return False

    def off(values: Outcome) -> list[float]:
        """The greatest error in the value and in each gradient."""
        pairs = zip([values.value, *values.gradients], [exact.value, *exact.gradients])
        return [float(np.max(np.abs(a.astype(np.float64) - b), initial=0)) for a, b in pairs if a is not None and b is not None]

    return all(a <= 10 * b or not math.isfinite(b) for a, b in zip(off(fast), off(defined)))


@contextlib.contextmanager
def fences():
    """Meanwhile every np.empty lies between bytes of 0xA5; the function that it gives says whether one of them was changed."""
    make, sides = np.empty, []

    def between(shape, dtype=float, order="C", **others):
        dtype = np.dtype(dtype)
        size = math.prod(np.atleast_1d(shape).tolist()) * dtype.itemsize
        if order != "C" or others or dtype.hasobject or not 0 <= size < 1 << 24:
            return make(shape, dtype, order, **others)
        memory = np.full(size + 2 * FENCE, 0xA5, np.uint8)
        sides.append((memory[:FENCE], memory[FENCE + size :]))
        return np.ndarray(shape, dtype, memory, FENCE)

    np.empty = between
    try:
        with while_compiling(make):
            yield lambda: any((side != 0xA5).any() for pair in sides for side in pair)
    finally:
        np.empty = make


@contextlib.contextmanager
def while_compiling(empty):
    """np.empty is this one whenever a kernel is compiled: Numba knows no other."""
    compile_as_ever = Separate._compile

    def compile_with_it(function):
        fenced_empty, np.empty = np.empty, empty
        try:
            return compile_as_ever(function)
        finally:
            np.empty = fenced_empty

    Separate._compile = compile_with_it
    try:
        yield
    finally:
        Separate._compile = compile_as_ever


def describe(call: Call) -> str:
    def one(a: Any) -> str:
        return f"{a.dtype}{list(a.shape)}" if isinstance(a, np.ndarray) else repr(a)

    parts = [one(a) for a in call.arguments] + [f"{key}={one(value)}" for key, value in call.settings.items()]
    return f"{call.name}({', '.join(parts)}){' of tensors' if call.tensors else ''}"


def fuzz(calls: range, seed: int, per_operation: int, progress=lambda i, counts, wrong: None) -> tuple[collections.Counter, list[str]]:
    """Counts of values, errors and what was wrong, and a line for each of the latter."""
    counts, wrong = collections.Counter(), []
    for i in calls:
        progress(i, counts, wrong)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call = draw_call(np.random.default_rng((seed, i)), per_operation)
        kind, what = verdict(call)
        counts[kind] += 1
        if what is not None:
            counts["wrong"] += 1
            wrong.append(f"call {i}: {describe(call)}: {what}")
            print(wrong[-1], flush=True)
    return counts, wrong


# --- in a process of its own


def work(first: int, last: int, seed: int, report: Path) -> None:
    faulthandler.enable()
    timer: Any = lambda: None
    with contextlib.suppress(ImportError, ValueError, OSError, AttributeError):
        import resource
        import signal

        timer = functools.partial(signal.setitimer, signal.ITIMER_PROF, SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    place = report.with_suffix(".at")
    with place.open("w") as at:
        def progress(i: int, counts: collections.Counter, wrong: list[str]) -> None:
            timer()
            at.seek(0)
            at.write(f"{i:12}")
            at.flush()
            if i % 100 == 0:
                report.write_text(json.dumps({"next": i, "counts": counts, "wrong": wrong}))

        counts, wrong = fuzz(range(first, last), seed, 40, progress)
    report.write_text(json.dumps({"next": last, "counts": counts, "wrong": wrong}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="show this call alone")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--chunk", type=int, default=10_000, help="calls of one process")
    parser.add_argument("--state", type=Path, help="a file that is written after each chunk, and from which the program goes on")
    options = parser.parse_args()
    if options.only is not None:
        call = draw_call(np.random.default_rng((options.seed, options.only)), 40)
        print(describe(call), "\n", verdict(call), "\n", run(call, True), "\n", run(call, False))
        return 0
    if options.worker:
        work(int(options.worker[0]), int(options.worker[1]), options.seed, Path(options.worker[2]))
        return 0
    counts, wrong, first, crashed = collections.Counter(), [], 0, []
    if options.state and options.state.exists():
        before = json.loads(options.state.read_text())
        if before["seed"] != options.seed:
            parser.error(f"{options.state} is of seed {before['seed']}")
        counts, wrong, first, crashed = collections.Counter(before["counts"]), before["wrong"], before["first"], before["crashed"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report")
        while first < options.calls:
            if first in crashed:
                first += 1
                continue
            last = min(first + options.chunk, options.calls, *(i for i in crashed if i > first))
            report.write_text(json.dumps({"next": first, "counts": {}, "wrong": []}))
            command = [sys.executable, __file__, "--seed", str(options.seed), "--worker", str(first), str(last), str(report)]
            code = subprocess.run(command, env={**os.environ}).returncode
            done = json.loads(report.read_text())
            counts.update(done["counts"])
            wrong += done["wrong"]
            first = done["next"]
            if code:
                i = int(report.with_suffix(".at").read_text())
                crashed.append(i)  # the calls between the last report and this one are done again
                counts["crashes"] += 1
                wrong.append(f"call {i}: the process ended with {code}: {describe(draw_call(np.random.default_rng((options.seed, i)), 40))}")
            if options.state:
                state = {"seed": options.seed, "first": first, "counts": counts, "wrong": wrong, "crashed": crashed}
                options.state.write_text(json.dumps(state))
            print(f"{first} calls: {dict(counts)}", flush=True)
    print("\n".join(wrong))
    print(f"{options.calls} calls of {len(OPERATIONS)} operations: {counts['value']} values, {counts['error']} errors, "
          f"{counts['crashes']} crashes, {counts['wrong']} unclear errors or disagreements")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
