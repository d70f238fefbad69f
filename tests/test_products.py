"""Products by tiles of our own: they are what NumPy's are, whatever is transposed and however long; and which of two multiplies is settled once."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.autograd import Tensor, get_threads, linear, matmul, set_threads
from zoo.autograd.kernels.products import choice, tiled
from zoo.autograd.kernels.products.choice import CHOICES, calls, tiles_for
from zoo.autograd.kernels.products.tiled import multiply_tiled
from zoo.autograd.runtime import cache
from zoo.autograd.runtime.compiling import OPTIONS

f32 = np.float32
LENGTHS = st.integers(1, 40) | st.integers(41, 300)
FLAG = st.booleans()


@pytest.fixture
def chosen(monkeypatch):
    """Say what ZOO_PRODUCTS is, for one test."""
    def choose(word):
        monkeypatch.setenv("ZOO_PRODUCTS", word)
        forget()

    yield choose
    monkeypatch.undo()
    forget()


@pytest.fixture
def cache_folder(monkeypatch, tmp_path):
    """Where kernels and choices are kept during one test: nothing lies there yet."""
    with monkeypatch.context() as patch:
        patch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
        cache._folder.cache_clear()
        yield tmp_path
    cache._folder.cache_clear()


def forget():
    for known in (choice.policy, choice.tiles_for, choice._measured):
        known.cache_clear()


def stored(matrix, transposed):
    return np.ascontiguousarray(matrix.T if transposed else matrix)


def products(rng, m, n, k, a_transposed, b_transposed):
    """What tiles and BLAS make of the same two matrices, and what is right."""
    a, b = rng.standard_normal((m, k), f32), rng.standard_normal((k, n), f32)
    results = []
    for way in range(2):
        c = np.full((m, n), np.nan, f32)
        at, bt = stored(a, a_transposed), stored(b, b_transposed)
        calls(at, a_transposed, bt, b_transposed, c)[way]()
        results.append(c)
    return *results, a.astype(np.float64) @ b


@given(LENGTHS, LENGTHS, LENGTHS | st.integers(500, 700), FLAG, FLAG, st.integers(0, 99))
def test_tiles_and_blas_multiply(m, n, k, a_transposed, b_transposed, seed):
    tiled, by_blas, right = products(np.random.default_rng(seed), m, n, k, a_transposed, b_transposed)
    for c in (tiled, by_blas):
        np.testing.assert_allclose(c, right, rtol=2e-5, atol=2e-6 * k)


@pytest.mark.parametrize("word", ["tiles", "blas"])
@given(st.data())
def test_layers_are_the_same_whoever_multiplies(word, data):
    rows, inputs, outputs = (data.draw(LENGTHS) for _ in range(3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, b, g = (rng.standard_normal(shape, f32) for shape in ((rows, inputs + 3), (outputs,), (rows, outputs)))
    w = rng.standard_normal((outputs, inputs), f32).T if data.draw(FLAG) else rng.standard_normal((inputs, outputs), f32)
    x = x[:, 1 : inputs + 1] if data.draw(FLAG) else np.ascontiguousarray(x[:, :inputs])  # rows that lie apart
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_PRODUCTS", word)
        forget()
        leaves = [Tensor(v, requires_grad=True) for v in (x, w, b)]
        y = linear(*leaves)
        y.backward(g)
    forget()
    exact = [v.astype(np.float64) for v in (x, w, b, g)]
    for got, right, depth in ((y.data, exact[0] @ exact[1] + exact[2], inputs), (leaves[0].grad, exact[3] @ exact[1].T, outputs),
                              (leaves[1].grad, exact[0].T @ exact[3], rows), (leaves[2].grad, exact[3].sum(0), rows)):
        np.testing.assert_allclose(got, right, rtol=2e-5, atol=2e-6 * (depth + 1))


def test_nothing_beside_the_product_is_written(chosen):
    """Of every number of rows and columns that a tile is cut to."""
    chosen("tiles")
    rng = np.random.default_rng(0)
    for m, n in [(m, n) for m in range(1, 27) for n in (1, 7, 16, 31, 33, 65)]:
        whole, a, b = np.full((m + 2, n), -7.0, f32), rng.standard_normal((m, 9), f32), rng.standard_normal((9, n), f32)
        calls(a, False, b, False, whole[1:-1])[0]()
        assert (whole[[0, -1]] == -7).all()
        np.testing.assert_allclose(whole[1:-1], a @ b, rtol=1e-4, atol=1e-5)


def test_more_rows_than_are_packed_at_a_time():
    for rows in (tiled.BLOCK_ROWS, tiled.BLOCK_ROWS + 7, 3 * tiled.BLOCK_ROWS):
        for a_transposed in (False, True):
            c, _, right = products(np.random.default_rng(0), rows, 70, 600, a_transposed, False)
            np.testing.assert_allclose(c, right, rtol=2e-5, atol=2e-3)


def test_nan_and_infinity_reach_their_row_and_column_alone(chosen):
    chosen("tiles")
    a, b = np.ones((20, 300), f32), np.ones((300, 40), f32)
    a[7, 299], b[0, 33] = np.nan, np.inf
    y = matmul(a, b)
    assert np.isnan(y[7]).all() and np.isinf(np.delete(y[:, 33], 7)).all()
    assert np.isfinite(np.delete(np.delete(y, 7, 0), 33, 1)).all()


@given(st.integers(1, 80), st.integers(1, 200), st.integers(200, 400))
def test_no_bit_depends_on_the_threads(m, n, k):
    a, b = np.random.default_rng(m).standard_normal((m, k), f32), np.random.default_rng(n).standard_normal((k, n), f32)
    results, before = [], get_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_PRODUCTS", "tiles")
        forget()
        for threads in (1, 2):
            if threads <= (os.cpu_count() or 1):
                set_threads(threads)
                results.append(matmul(a, b).tobytes())
        set_threads(before)
    forget()
    assert len(set(results)) == 1


# --- who multiplies


def test_the_faster_one_is_chosen_and_kept(chosen, cache_folder, monkeypatch):
    for faster, word, m in ((True, "tiles", 40), (False, "blas", 200)):
        chosen("measured")
        asked = []
        monkeypatch.setattr(choice, "tiles_are_faster", lambda *kind, asked=asked, faster=faster: asked.append(kind) or faster)
        first = tiles_for(False, True, m, 100, 50)
        assert first == (multiply_tiled.load() if faster else 0) and asked == [(False, True, 3 << (m.bit_length() - 2), 96, 48)]
        forget()
        assert tiles_for(False, True, m + 1, 101, 51) == first and len(asked) == 1  # of the same kind, and kept on disk
        assert sorted(p.read_text() for p in cache_folder.rglob("*.choice"))[0 if word == "blas" else -1] == word


def test_small_products_are_not_measured(chosen, monkeypatch):
    chosen("measured")
    monkeypatch.setattr(choice, "tiles_are_faster", lambda *kind: pytest.fail("measured"))
    assert tiles_for(False, False, 1, 400, 784) == tiles_for(False, False, 400, 1, 784) == tiles_for(True, False, 400, 400, 1) == 0


def test_who_comes_first_decides(cache_folder):
    assert cache.choice("which", OPTIONS) is None
    assert cache.keep_choice("which", OPTIONS, "tiles") == "tiles"
    assert cache.keep_choice("which", OPTIONS, "blas") == "tiles" == cache.choice("which", OPTIONS)
    assert [p.suffix for p in cache._folder(OPTIONS).iterdir()] == [".choice"]


def test_where_nothing_can_be_kept_blas_multiplies(chosen, monkeypatch):
    chosen("measured")
    monkeypatch.setattr(choice, "tiles_are_faster", lambda *kind: True)
    monkeypatch.setattr(cache, "choice", lambda name, options: None)
    monkeypatch.setattr(cache, "keep_choice", lambda name, options, chosen: None)
    assert tiles_for(True, True, 100, 100, 100) == 0


def test_where_the_cache_is_for_one_run_nothing_is_measured(chosen, tmp_path, monkeypatch, capfd):
    chosen("measured")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    cache._folder.cache_clear()
    try:
        monkeypatch.setattr(choice, "tiles_are_faster", lambda *kind: pytest.fail("measured"))
        assert not cache.is_lasting(OPTIONS) and tiles_for(True, True, 100, 100, 100) == 0
    finally:
        monkeypatch.undo()
        cache._folder.cache_clear()
    assert cache.is_lasting(OPTIONS) and "cannot keep compiled kernels" in capfd.readouterr().err


def test_a_word_that_is_none_is_named(chosen):
    chosen("quick")
    with pytest.raises(ValueError, match="ZOO_PRODUCTS is 'quick'; it may be blas, tiles or measured"):
        tiles_for(False, False, 100, 100, 100)
    assert CHOICES == ("blas", "tiles", "measured")


AS_IF_WIDE = """
import numba, llvmlite.binding as llvm
numba.core.registry.cpu_target.target_context.codegen()     # which compiles for this processor
real = llvm.get_host_cpu_features
pretended = real()
pretended["avx512f"] = True
llvm.get_host_cpu_features = lambda: pretended
import zoo.autograd.runtime.native.vectors as vectors
llvm.get_host_cpu_features = real
assert vectors.WIDTH == 16 and vectors.REGISTERS == 32
import numpy as np
from zoo.autograd.kernels.products.choice import calls
rng = np.random.default_rng(0)
for m, n, k in [(1, 1, 1), (12, 32, 8), (13, 33, 17), (25, 100, 300), (100, 31, 129)]:
    for a_transposed in (False, True):
        for b_transposed in (False, True):
            a, b, c = rng.standard_normal((m, k)), rng.standard_normal((k, n)), np.full((m, n), np.nan, np.float32)
            x, y = (np.ascontiguousarray(s.T if t else s, np.float32) for s, t in ((a, a_transposed), (b, b_transposed)))
            calls(x, a_transposed, y, b_transposed, c)[0]()
            assert np.allclose(c, a @ b, rtol=1e-4, atol=1e-4), (m, n, k)
print("right")
"""


def test_tiles_of_wide_registers(tmp_path):
    """Twelve rows of 32, as for AVX-512, in the registers that are here."""
    told = subprocess.run([sys.executable, "-c", AS_IF_WIDE], env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True)
    assert told.stdout == "right\n", told.stderr
