"""Products with weights of 4 and 8 bits, beyond what every operation is tested for: sizes of numbers, and the processor's settings."""

import ctypes
import mmap
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from zoo.autograd import dequantise, quantised_linear, set_threads, side_by_side
from zoo.autograd.operations.quantised import as_in_a_file, quantise
from zoo.autograd.runtime import kernels_enabled
from zoo.autograd.runtime.threads import available_threads, get_threads

OUTPUTS, INPUTS = 40, 96


def weights(kind, seed=0):
    w = np.random.default_rng(seed).standard_normal((OUTPUTS, INPUTS)).astype(np.float32)
    return side_by_side(quantise(w, kind), kind)


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
@pytest.mark.parametrize("size", [1e-20, 1e-9, 1.0, 1e5, 1e10])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_products_are_as_exact_for_small_and_large_rows(kind, size, rows):
    blocks = weights(kind)
    x = (size * np.random.default_rng(1).standard_normal((rows, INPUTS))).astype(np.float32)
    y = np.asarray(quantised_linear(x, blocks, kind=kind, outputs=OUTPUTS), np.float64)
    w = np.asarray(dequantise(blocks, kind=kind, outputs=OUTPUTS), np.float64)
    terms = np.abs(x.astype(np.float64)) @ np.abs(w).T  # what rounding is in proportion to
    assert (np.abs(y - x.astype(np.float64) @ w.T) <= 2e-6 * terms).all()


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
def test_blocks_side_by_side_hold_what_the_file_holds(kind):
    raw = quantise(np.random.default_rng(2).standard_normal((OUTPUTS, INPUTS)).astype(np.float32), kind)
    assert np.array_equal(as_in_a_file(side_by_side(raw, kind), kind, OUTPUTS), raw)


@pytest.mark.skipif(os.name != "posix" or platform.machine() != "x86_64", reason="sets a register of x86-64 by machine code for POSIX")
@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
def test_products_do_not_depend_on_whether_subnormals_count_as_zero(kind):
    """Some libraries set it for the threads that load them."""
    blocks, before = weights(kind), get_threads()
    x = np.random.default_rng(3).standard_normal((1, INPUTS)).astype(np.float32)
    set_threads(1)
    try:
        expected = quantised_linear(x, blocks, kind=kind, outputs=OUTPUTS)
        with subnormals_as_zero():
            y = quantised_linear(x, blocks, kind=kind, outputs=OUTPUTS)
            still = np.float32(1e-40) + np.float32(0)
    finally:
        set_threads(before)
    assert np.array_equal(y, expected) and expected.any()
    assert still == 0  # the setting was on, and is left as it was


FORMS = {  # of the kernels: what Numba is told of the processor, and by which name the processor goes
    "without AVX": ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, "generic"),
    "numbers converted": ({}, "another"),
    "masked words as they are": ({}, "znver1"),
}


@pytest.mark.skipif(not kernels_enabled() or platform.machine() != "x86_64", reason="about kernels for x86-64")
@pytest.mark.parametrize("form", FORMS)
def test_the_form_for_another_processor_is_the_definition(form, tmp_path):
    environment, name = FORMS[form]
    program = f"""
import llvmlite.binding
llvmlite.binding.get_host_cpu_name = lambda: {name!r}
import numpy as np
from zoo.autograd import dequantise, quantised_linear, side_by_side
from zoo.autograd.operations.quantised import quantise
from zoo.autograd.runtime.native import blocks, vectors
rng = np.random.default_rng(0)
for kind in ("Q4_1", "Q8_0"):
    b = side_by_side(quantise(rng.standard_normal(({OUTPUTS}, {INPUTS})).astype(np.float32), kind), kind)
    for rows in (1, 3, 17, 33):
        x = rng.standard_normal((rows, {INPUTS})).astype(np.float32)
        expected = x @ np.asarray(dequantise(b, kind=kind, outputs={OUTPUTS})).T
        assert np.abs(quantised_linear(x, b, kind=kind, outputs={OUTPUTS}) - expected).max() < 1e-5 * np.abs(expected).max(), (kind, rows)
print(blocks.UNIT == 1, vectors.WIDTH)
"""
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    converts, width = done.stdout.split()
    assert converts == str(name != "znver1") and (form != "without AVX" or width == "4")


class subnormals_as_zero:
    """Sets bits 6 and 15 of this thread's MXCSR, by ten bytes of machine code."""

    def __enter__(self):
        self.memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.memory.write(b"\x0f\xae\x1f\xc3" + b"\x0f\xae\x17\xc3")  # stmxcsr [rdi]; ret; ldmxcsr [rdi]; ret
        place = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        read, self.write = (ctypes.CFUNCTYPE(None, ctypes.c_void_p)(place + offset) for offset in (0, 4))
        self.before = ctypes.c_uint32()
        read(ctypes.byref(self.before))
        self.write(ctypes.byref(ctypes.c_uint32(self.before.value | 1 << 6 | 1 << 15)))

    def __exit__(self, *error):
        self.write(ctypes.byref(self.before))


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
@pytest.mark.parametrize("rows", [2, 4, 5, 15, 16, 17, 70])
@pytest.mark.parametrize("threads", [1, 2])
def test_each_way_of_multiplying_rows_is_the_definition(kind, rows, threads):
    """Unpacked in registers or into memory; with rows, and outputs, left over from tiles or without."""
    before = get_threads()
    set_threads(min(threads, available_threads()))
    try:
        for outputs in (OUTPUTS, 32):
            blocks, x = weights(kind)[: -(-outputs // 16)], np.random.default_rng(1).standard_normal((rows, INPUTS)).astype(np.float32)
            y = quantised_linear(x, blocks, kind=kind, outputs=outputs)
            expected = x @ np.asarray(dequantise(blocks, kind=kind, outputs=outputs)).T
            assert y.dtype == np.float32 and np.abs(y - expected).max() < 1e-5 * np.abs(expected).max()
    finally:
        set_threads(before)
