"""The runtime: kernels are found on disk, threads obey, float32 mathematics is right over the whole range, random numbers look so."""

import gc
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import scipy.special

from zoo.autograd.kernels import activation
from zoo.autograd.kernels.convolution import conv2d_weight
from zoo.autograd.kernels.winograd import stride_two, unit_stride
from zoo.autograd.runtime import (
    ahead,
    contention,
    erff,
    expf,
    floats,
    gemm,
    get_threads,
    inner,
    kernels_enabled,
    logf,
    matmul,
    matmul_transposed_a,
    matmul_transposed_b,
    quota,
    set_threads,
    sigmoidf,
    tanhf,
    tasks,
    uniform,
    use_kernels,
)
from zoo.autograd.runtime.compiling import Separate
from zoo.autograd.runtime.native import exp_falling
from zoo.autograd.runtime.tasks import part, task
from zoo.language import decoding
from zoo.loading.cards import KINDS


def of_each(function):
    """(x, y, n): y_i = function(x_i), on one thread."""

    @task
    def apply(t, tasks, x, y, n):
        source, target = floats(x, n), floats(y, n)
        for i in range(n):
            target[i] = function(source[i])

    return apply


@task
def _uniform(t, tasks, seed, start, y, n):
    first, last = part(t, tasks, n, 1), part(t + 1, tasks, n, 1)
    target = floats(y, n)
    for i in range(first, last):
        target[i] = uniform(seed, start + i)


_exp = of_each(expf)
FUNCTIONS = {
    "exp": (_exp, np.exp, 1.5),
    "tanh": (of_each(tanhf), np.tanh, 2),
    "sigmoid": (of_each(sigmoidf), scipy.special.expit, 3),
    "log": (of_each(logf), np.log, 1.5),
    "erf": (of_each(erff), scipy.special.erf, 2),
}


def test_the_exponential_of_softmax_is_the_exponential():
    x = np.concatenate([-np.arange(0, 2**31, 4999, dtype=np.uint64).astype(np.uint32).view(np.float32), -np.linspace(0, 90, 400_001, dtype=np.float32)])
    x = np.append(x, np.array([0.0, -0.0, -np.inf, np.nan], np.float32))
    wanted = applied(_exp, x)
    wanted[abs(wanted) < 1.2e-38] = 0  # what is too small for a normal number may come out as 0
    found = applied(of_each(exp_falling), x)
    found[abs(found) < 1.2e-38] = 0
    assert np.array_equal(found, wanted, equal_nan=True)
    assert found[-4:-1].tolist() == [1, 1, 0] and np.isnan(found[-1])


def applied(function, x):
    y = np.empty_like(x)
    function(x, y, x.size, tasks=1)
    return y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_right_to_the_last_digits_over_the_whole_range(name):
    function, exact, ulps = FUNCTIONS[name]
    bits = np.arange(0, 2**32, 4999, dtype=np.uint64).astype(np.uint32)        # every exponent, both signs
    wide, near = np.linspace(-90, 90, 400_001, dtype=np.float32), np.linspace(-1, 1, 100_001, dtype=np.float32)
    x = np.concatenate([bits.view(np.float32), wide, near])
    x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        wanted = exact(x.astype(np.float64))
        nearest = wanted.astype(np.float32)
        found = applied(function, x)
        normal = np.isfinite(nearest) & (abs(nearest) > 1.3e-38)
        error = abs(found[normal] - wanted[normal]) / np.spacing(abs(nearest[normal]))
    worst = error.argmax()
    assert error[worst] < ulps, f"{name}({x[normal][worst]!r}) is off by {error[worst]:.2f} ulp"
    tiny = np.isfinite(nearest) & ~normal
    assert (abs(found[tiny]) < 1.4e-38).all()                                  # below the normal numbers: flushed to zero at worst
    beyond = ~np.isfinite(nearest)
    np.testing.assert_array_equal(found[beyond], nearest[beyond])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_at_the_ends_and_at_nan(name):
    function, exact, _ = FUNCTIONS[name]
    x = np.array([np.nan, np.inf, -np.inf, 0.0], np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(applied(function, x), exact(x))


def test_uniform_numbers_are_uniform_and_neighbours_independent():
    n, streams = 1 << 16, []
    for seed in (0, 1, 2, 2**40, -1):
        y = np.empty(n, np.float32)
        _uniform(seed, 0, y, y.size)
        streams.append(y)
        assert y.min() >= 0
        assert y.max() < 1
        deviation = 1 / np.sqrt(12 * n)
        assert abs(y.mean() - 0.5) < 4 * deviation
        assert abs(y.var() * 12 - 1) < 0.03
        counts = np.bincount((y * 256).astype(int), minlength=256)
        assert ((counts - n / 256) ** 2 / (n / 256)).sum() < 255 + 5 * np.sqrt(2 * 255)       # chi-squared
        for lag in (1, 2, 64, 128, 1024):
            assert abs(np.corrcoef(y[lag:], y[:-lag])[0, 1]) < 5 / np.sqrt(n)
    correlation = np.corrcoef(streams) - np.eye(len(streams))
    assert abs(correlation).max() < 5 / np.sqrt(n)


def test_uniform_numbers_depend_on_seed_and_index_alone():
    whole, some, before = np.empty(1000, np.float32), np.empty(400, np.float32), get_threads()
    try:
        _uniform(7, 5_000_000_000, whole, whole.size)
        set_threads(1)
        _uniform(7, 5_000_000_600, some, some.size)
    finally:
        set_threads(before)
    np.testing.assert_array_equal(some, whole[600:])


@task
def _three_products(t, tasks, a, b, at, bt, c, m, k, n):
    left, right, result = floats(a, m * k).reshape((m, k)), floats(b, k * n).reshape((k, n)), floats(c, 3 * m * n).reshape((3, m, n))
    matmul(left, right, result[0], np.float32(0))
    matmul_transposed_a(floats(at, k * m).reshape((k, m)), right, result[1], np.float32(0))
    matmul_transposed_b(left, floats(bt, n * k).reshape((n, k)), result[2], np.float32(0))


@task
def _block_product(t, tasks, a, a_row, b, b_row, c, c_row):
    """2 a[:2, :3] b[:3, :2] + 3 c[:2, :2], for matrices in larger ones, by address."""
    gemm(False, False, 2, 2, 3, 2.0, a, a_row, b, b_row, 3.0, c, c_row)


def test_products_inside_a_kernel():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 7)).astype(np.float32), rng.standard_normal((7, 4)).astype(np.float32)
    c = np.full((3, 5, 4), np.nan, np.float32)
    _three_products(a, b, a.T.copy(), b.T.copy(), c, 5, 7, 4, tasks=1)
    np.testing.assert_allclose(c, np.broadcast_to(a @ b, c.shape), rtol=1e-5, atol=1e-5)
    c = np.ones((3, 3), np.float32)
    _block_product(a[1:, 2:], 7, b[1:], 4, c, 3, tasks=1)
    np.testing.assert_allclose(c[:2, :2], 2 * a[1:3, 2:5] @ b[1:4, :2] + 3, rtol=1e-5, atol=1e-5)
    assert (c[2] == 1).all()
    assert (c[:, 2] == 1).all()


def test_kernels_can_be_called_from_many_python_threads_at_once():
    x = np.linspace(-5, 5, 1000, dtype=np.float32)
    wanted, wrong = applied(_exp, x), []

    def work():
        for _ in range(50):
            y = np.empty(1000, np.float32)
            _uniform(3, 0, y, y.size)
            if not np.array_equal(applied(_exp, x), wanted) or y[0] == y[1]:
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


@pytest.mark.parametrize("n", [0, -1, 10_000, 1.5, True, "two"])
def test_a_wrong_number_of_threads_is_refused(n):
    with pytest.raises(ValueError, match="set_threads: n must be an integer from 1 to"):
        set_threads(n)


def test_kernels_can_be_switched_off_and_on():
    before = kernels_enabled()
    with use_kernels(False):
        assert not kernels_enabled()
        with use_kernels(True):
            assert kernels_enabled()
        assert not kernels_enabled()
    assert kernels_enabled() == before


# --- in processes of their own ------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import numpy as np
from zoo.autograd.runtime import floats, inner, kernels_enabled
from zoo.autograd.runtime.tasks import part, task

@inner
def helper(x):
    return FACTOR * x

@task
def scale(t, tasks, x, n):
    y = floats(x, n)
    for i in range(part(t, tasks, n, 1), part(t + 1, tasks, n, 1)):
        y[i] = helper(y[i])

def scaled(x):
    scale(x, x.size)

assert "numba" not in sys.modules
x = np.ones(3, np.float32)
"""


def run(tmp_path, code, factor=2, **variables):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("FACTOR", f"np.float32({factor})") + code)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), **variables}
    environment["PYTHONPATH"] = os.pathsep.join([os.getcwd(), environment.get("PYTHONPATH", "")])
    for name in ("NUMBA_CACHE_DIR", "ZOO_KERNELS", "KMP_DUPLICATE_LIB_OK"):  # the last is there once anything has imported threadpoolctl
        environment.pop(name, None)
    environment.update(variables)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


def test_a_kernel_is_compiled_once_and_again_when_an_inner_function_changes(tmp_path):
    call = "scaled(x); print(x[0])"
    assert run(tmp_path, call) == ("2.0", "zoo: compiling kernels for this machine, once ...")
    assert run(tmp_path, call) == ("2.0", "")
    assert run(tmp_path, call, factor=5) == ("5.0", "zoo: compiling kernels for this machine, once ...")


def test_a_warm_start_does_without_numba(tmp_path):
    call = "scaled(x); print('numba' in sys.modules)"
    assert run(tmp_path, call)[0] == "True"
    assert run(tmp_path, call)[0] == "False"


def test_the_first_kernel_that_is_compiled_may_call_blas(tmp_path):
    """LLVM ends the process, at the next kernel, where machine code calls a name that nobody had defined."""
    assert run(tmp_path, "from zoo.autograd.kernels.products.matrices import multiply_pairs; multiply_pairs.load(); scaled(x); print(x[0])")[0] == "2.0"


AHEAD = """
from zoo.autograd.kernels import arithmetic
from zoo.autograd.runtime import ahead, cache
ahead._first_use = lambda: {"tiny/sample": [f"zoo.autograd.kernels.arithmetic:{name}" for name in ("add_entries", "multiply_entries", "sum_rows")]}
ahead.expect("tiny")
"""


@pytest.mark.skipif(get_threads() < 2, reason="one core compiles alone")
def test_others_compile_what_is_expected_and_end_when_it_is_done(tmp_path):
    code = AHEAD + """
assert not ahead.is_made_elsewhere("zoo.autograd.kernels.arithmetic:sum_rows")      # that one is ours
[other] = ahead._others
other.wait(timeout=200)
kernels = arithmetic.add_entries, arithmetic.multiply_entries, arithmetic.sum_rows
print([cache.read(*kernel._place()) is not None for kernel in kernels], "numba" in sys.modules)
y = np.empty(3, np.float32)
arithmetic.add_entries(x, x, y, *[3] * (arithmetic.add_entries.reads - 3), tasks=1)
assert "numba" not in sys.modules
"""
    assert run(tmp_path, code)[0] == "[True, True, False] False"


@pytest.mark.skipif(get_threads() < 2, reason="one core compiles alone")
def test_what_another_process_compiles_is_waited_for_and_who_ends_early_ends_the_others(tmp_path):
    code = AHEAD + """
import time
ahead.is_made_elsewhere("nothing")
while "zoo.autograd.kernels.arithmetic:add_entries" not in ahead._at_work.values():
    time.sleep(0.001)
arithmetic.add_entries.load()
assert "zoo.autograd.kernels.arithmetic:add_entries" not in ahead._at_work.values()
print("numba" in sys.modules, next(iter(ahead._others)).pid)    # in the meantime it compiled another one
"""
    numba_was_used, other = run(tmp_path, code)[0].split()
    assert numba_was_used == "True"
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(int(other), 0)
            time.sleep(0.05)


def test_what_models_are_said_to_use_first_is_there():
    first_use = ahead._first_use()
    assert {use.partition("/")[2] for use in first_use} == {"sample", "train"}
    assert {use.partition("/")[0] for use in first_use} <= set(KINDS)
    kernels = {name for names in first_use.values() for name in names}
    assert len(kernels) > 30 and all(isinstance(ahead._kernel(name), Separate) for name in kernels)


def test_a_cache_that_cannot_be_written_is_replaced_with_one_line_of_warning(tmp_path):
    (tmp_path / "file").write_text("")
    out, said = run(tmp_path, "scaled(x); print(x[0])", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert out == "2.0"
    assert said.count("cannot keep compiled kernels in") == 1


def test_a_full_disk_and_a_file_cut_short_cost_no_more_than_compiling_again(tmp_path):
    call = "scaled(x); print(x[0])"
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    out, said = run(tmp_path, full + call)
    assert out == "2.0"
    assert said.count("the next start compiles them again") == 1
    run(tmp_path, call)
    for file in (tmp_path / "cache").rglob("*.kernel"):
        file.write_bytes(file.read_bytes()[:20])
    compiled = ("2.0", "zoo: compiling kernels for this machine, once ...")
    assert run(tmp_path, call) == compiled
    assert run(tmp_path, call) == ("2.0", "")


def test_a_fork_after_kernels_ran_goes_on_without_them(tmp_path):
    code = """
import os
scaled(x)
child = os.fork()
if child == 0:
    assert not kernels_enabled() and not kernels_enabled()
    try:
        scaled(x)
    except RuntimeError as error:
        print(error, file=sys.stderr)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert kernels_enabled()
scaled(x)
print(x[0])
"""
    out, said = run(tmp_path, code)
    assert out == "4.0"
    assert said.count("was forked after kernels had run") == 2      # the warning, and the error of the kernel called nevertheless


def test_a_fork_while_the_first_kernel_is_made_goes_on_without_kernels(tmp_path):
    code = """
import os
from zoo.autograd.runtime import threads
start_pool = threads._start_pool
def fork_amidst():
    child = os.fork()
    if child == 0:
        os._exit(kernels_enabled())
    assert os.waitpid(child, 0)[1] == 0
    start_pool()
threads._start_pool = fork_amidst
scaled(x)
print(x[0])
"""
    assert run(tmp_path, code)[0] == "2.0"


def test_a_fork_waits_for_the_kernel_that_another_thread_makes(tmp_path):
    (tmp_path / "imported_slowly.py").write_text("import time\n__main__ = __import__('__main__')\n__main__.amidst.set()\ntime.sleep(0.5)\n")
    code = f"""
import os, signal, threading
from zoo.autograd.runtime import threads
sys.path.insert(0, {str(tmp_path)!r})
hold_blas, amidst = threads._hold_blas, threading.Event()
def slow():
    import imported_slowly
    hold_blas()
threads._hold_blas = slow
maker = threading.Thread(target=lambda: scaled(x))
maker.start()
amidst.wait()
child = os.fork()
if child == 0:
    signal.alarm(5)
    import imported_slowly           # would wait for a thread that isn't in this process
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
maker.join()
print(x[0])
"""
    assert run(tmp_path, code)[0] == "2.0"


def test_a_fork_before_any_kernel_ran_is_harmless(tmp_path):
    code = """
import os
child = os.fork()
assert kernels_enabled()
scaled(x)
assert x[0] == 2
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    run(tmp_path, code)


def test_without_openmp_kernels_run_and_say_so(tmp_path):
    code = """
import threading
scaled(x)
workers = [threading.Thread(target=lambda: [scaled(np.ones(3, np.float32)) for _ in range(50)]) for _ in range(3)]
[w.start() for w in workers]
[w.join() for w in workers]
print(x[0])
"""
    out, said = run(tmp_path, code, NUMBA_THREADING_LAYER="workqueue")
    assert out == "2.0"
    assert said.count("no OpenMP") == 1


def test_the_environment_switches_kernels_off(tmp_path):
    assert run(tmp_path, "print(kernels_enabled())", ZOO_KERNELS="0") == ("False", "")


def test_omp_num_threads_is_obeyed(tmp_path):
    code = "from zoo.autograd.runtime import get_threads; print(get_threads())"
    assert run(tmp_path, code, OMP_NUM_THREADS="1") == ("1", "")


def test_zoo_threads_sets_the_number_and_nonsense_is_refused_by_name(tmp_path):
    code = """
from zoo.autograd import get_threads
try:
    print(get_threads())
except ValueError as error:
    print(error)
"""
    assert run(tmp_path, code, ZOO_THREADS="1")[0] == "1"
    assert run(tmp_path, code, OMP_NUM_THREADS="0")[0] == run(tmp_path, code)[0]  # OpenMP ignores it too
    for variable, value in (("ZOO_THREADS", "0"), ("ZOO_THREADS", "many"), ("ZOO_THREADS", "100000"), ("NUMBA_NUM_THREADS", "0")):
        out, _ = run(tmp_path, code, **{variable: value})
        assert out.count("\n") == 0 and f"the environment variable {variable} is " in out and value in out


def test_the_environment_is_left_as_it_was(tmp_path):
    code = """
import os
before = dict(os.environ)
scaled(x)
assert dict(os.environ) == before
"""
    run(tmp_path, code)
    run(tmp_path, code, GOMP_SPINCOUNT="7")


def test_without_a_home_kernels_compile_for_this_run_and_say_so(tmp_path):
    """A container may run as a user that the system doesn't know, without HOME."""
    code = """
import pathlib
def nobody_knows():
    raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = nobody_knows
scaled(x)
print(x[0])
"""
    out, said = run(tmp_path, code, XDG_CACHE_HOME="")
    assert out == "2.0"
    assert said.count("cannot keep compiled kernels in the home folder (Could not determine home directory.)") == 1


def test_a_function_that_closes_over_another_number_is_another_function():
    def times(factor):
        def scale(x):
            return factor * x

        return inner(scale)

    assert times(2).digest() == times(2).digest() != times(3).digest()


def test_no_two_functions_that_kernels_call_by_name_share_a_digest():
    """By its digest a function is found on disk, and by a symbol made of it in memory: two of them would be taken for each other."""
    for module in (stride_two, unit_stride, activation, decoding):
        assert module
    functions = [x for x in gc.get_objects() if issubclass(type(x), Separate)]
    digests = {}
    for function in functions:
        digests.setdefault((function.__name__, function.digest()), set()).add(id(function))
    assert len(functions) > 15
    assert all(len(same) == 1 for same in digests.values()), [name for (name, _), same in digests.items() if len(same) > 1]


# --- on busy machines


class Machine:
    """A clock, and what a system counts of a process that is watched."""

    def __init__(self, rate, least):
        self.now = self.seconds = self.disturbed = 0
        self.watch = contention.Watch([contention.Counter(lambda: (self.seconds, self.disturbed), rate, least)], lambda: self.now)

    def run(self, ms, threads, disturbances_per_second):
        """Work of so many milliseconds, with a launch each; the time that the watch had all threads work."""
        parallel = 0
        for _ in range(ms):
            count = 1 if self.watch() else threads
            parallel += count > 1
            self.now += 1_000_000
            self.seconds += count / 1000
            self.disturbed += disturbances_per_second * count / 1000
        return parallel


@pytest.fixture(params=contention.COUNTERS, ids=["seconds", "switches"])
def machine(request):
    return Machine(request.param.rate, request.param.least)


def test_on_an_idle_machine_all_threads_work(machine):
    assert machine.run(10_000, threads=2, disturbances_per_second=machine.watch.counters[0].rate / 5) == 10_000


def test_on_a_busy_machine_one_thread_works_and_all_are_tried_again_when_it_is_idle(machine):
    rate = machine.watch.counters[0].rate
    assert machine.run(10_000, threads=2, disturbances_per_second=3 * rate) < 300
    assert machine.run(5_000, threads=2, disturbances_per_second=rate / 16) > 4_000


def test_where_one_thread_is_undisturbed_and_two_are_not_trying_costs_little(machine):
    rate = machine.watch.counters[0].rate
    parallel = sum(machine.run(1, threads=2, disturbances_per_second=0 if machine.watch.is_crowded else 3 * rate) for _ in range(10_000))
    assert parallel < 500


def test_what_was_counted_in_a_pause_says_nothing_and_what_was_learned_before_is_forgotten(machine):
    rate = machine.watch.counters[0].rate
    assert machine.run(5_000, threads=2, disturbances_per_second=3 * rate) < 200 and machine.watch.rest > 10 * contention.SHORTEST_REST_NS
    machine.now += contention.LONGEST_REST_NS + 2 * contention.PAUSE_NS
    machine.disturbed += 100 * machine.watch.counters[0].least
    assert machine.run(500, threads=2, disturbances_per_second=0) == 500
    machine.run(contention.LOOK_NS // 1_000_000, threads=2, disturbances_per_second=3 * rate)
    assert machine.watch() and machine.watch.rest <= 2 * contention.SHORTEST_REST_NS


def test_disturbances_too_few_to_count_are_no_reason_to_use_one_thread(machine):
    counter = machine.watch.counters[0]
    machine.watch()
    machine.now, machine.seconds, machine.disturbed = contention.LOOK_NS, 1e-9, 0.9 * counter.least  # a look after no work at all
    assert not machine.watch()


def test_a_system_that_counts_nothing_lets_all_threads_work_and_is_not_asked_again():
    asked = []
    clock = iter(range(0, 10**12, contention.LOOK_NS * 1000))
    watch = contention.Watch([contention.Counter(lambda: asked.append(1), 1, 1)] * 2, lambda: next(clock))
    assert not any(watch() for _ in range(20)) and len(asked) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux counts")
def test_linux_counts_what_threads_compute_and_wait_for():
    waited_for = contention.WaitedFor()
    before = waited_for()
    if before is None:
        pytest.skip("this kernel counts no waiting")
    listed = len(waited_for.files)
    stop = threading.Event()
    others = [threading.Thread(target=stop.wait, daemon=True) for _ in range(3)]
    for thread in others:
        thread.start()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    waited_for.looks = 0  # as after some looks: threads are listed again
    after = waited_for()
    assert len(waited_for.files) == listed + 3
    assert 0.04 < after[0] - before[0] < 5 and after[1] >= before[1]
    stop.set()
    for thread in others:
        thread.join()
    while len(os.listdir("/proc/self/task")) > listed and time.process_time() < end + 5:  # join returns before Linux has let go of a thread
        pass
    waited_for()  # those that have ended are left out
    assert len(waited_for.files) == listed


@pytest.mark.skipif(not kernels_enabled(), reason="about kernels")
def test_what_a_busy_machine_computes_is_the_same_bit_for_bit(monkeypatch, rng):
    x, w, g = (rng.standard_normal(shape, np.float32) for shape in ((5, 12, 12, 16), (3, 3, 16, 16), (5, 12, 12, 16)))

    def results():
        return conv2d_weight(x, g, w.shape, (1, 1), (1, 1)), conv2d_weight(x[..., :3].copy(), g, (3, 3, 3, 16), (1, 1), (1, 1))

    together = results()
    monkeypatch.setattr(tasks, "is_crowded", lambda: True)
    for a, b in zip(together, results()):
        assert np.array_equal(a, b)


def cgroup(tmp_path, lines, **files):
    tmp_path.mkdir()
    (tmp_path / "cgroup").write_text(lines)
    for name, text in files.items():
        path = tmp_path / "fs" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return quota.cores(tmp_path / "cgroup", tmp_path / "fs")


def test_the_quota_of_a_container_is_read(tmp_path):
    assert quota.cores(tmp_path / "nothing", tmp_path) == 0
    assert cgroup(tmp_path / "1", "0::/a/b\n", a__cpu_max="150000 100000\n", a__b__cpu_max="max 100000\n") == 1  # a group above counts too
    assert cgroup(tmp_path / "2", "0::/\n", cpu_max="400000 100000\n") == 4
    assert cgroup(tmp_path / "3", "0::/a\n", a__cpu_max="20000 100000\n") == 1  # a fifth of a core is one thread
    assert cgroup(tmp_path / "4", "0::/a\n", a__cpu_max="max 100000\n") == 0
    v1 = "12:cpuset:/\n4:cpu,cpuacct:/docker/x\n"
    assert cgroup(tmp_path / "5", v1, **{"cpu,cpuacct__docker__x__cpu_cfs_quota_us": "300000", "cpu,cpuacct__docker__x__cpu_cfs_period_us": "100000"}) == 3
    assert cgroup(tmp_path / "6", v1, **{"cpu,cpuacct__docker__x__cpu_cfs_quota_us": "-1", "cpu,cpuacct__docker__x__cpu_cfs_period_us": "100000"}) == 0
    # Inside a container its own group is mounted as the root, though the path is still that of the machine.
    assert cgroup(tmp_path / "7", v1, **{"cpu,cpuacct__cpu_cfs_quota_us": "200000", "cpu,cpuacct__cpu_cfs_period_us": "100000"}) == 2


def test_scipys_blas_is_found_without_the_rest_of_scipy_and_scipy_is_whole_afterwards(tmp_path):
    code = """
from zoo.autograd.runtime.scipy_blas import function_address
place = function_address("sgemm")
assert "scipy.linalg" not in sys.modules
import scipy.linalg.cython_blas
from numba.extending import get_cython_function_address
assert place == get_cython_function_address("scipy.linalg.cython_blas", "sgemm")
assert scipy.linalg.cython_blas.__pyx_capi__ and scipy.linalg.solve(np.eye(2), [1, 2])[1] == 2
from scipy.linalg import cython_blas, cython_lapack, blas
print("whole")
"""
    assert run(tmp_path, code)[0] == "whole"


def test_code_from_the_disk_and_code_that_is_compiled_work_side_by_side(tmp_path):
    """What is loaded from the disk does without most of what Numba prepares for compiling."""
    kernels = """
@task
def add_up(t, tasks, x, n, y):
    parts = np.empty(n, np.float32)  # memory that Numba's own functions give and take back
    for i in range(n):
        parts[i] = floats(x, n)[i]
    floats(y, 1)[0] = parts.sum()

def summed(x):
    y = np.empty(1, np.float32)
    add_up(x, x.size, y, tasks=1)
    return y[0]

print(summed(x), end=" ")
"""
    assert run(tmp_path, kernels) == ("3.0", "zoo: compiling kernels for this machine, once ...")
    assert run(tmp_path, kernels) == ("3.0", "")
    assert run(tmp_path, kernels + "scaled(x); print(x[0])") == ("3.0 2.0", "zoo: compiling kernels for this machine, once ...")
    assert run(tmp_path, "scaled(x); print(x[0], end=' ')" + kernels) == ("2.0 6.0", "")
