"""zoo.memory_report: every buffer once, for the reason that it lives."""

import os
import subprocess
import sys

import zoo

ALONE = """
import numpy as np, zoo
from zoo import optim
from zoo.autograd import Tensor
from zoo.nn import Linear

def grown(before, after):
    sizes = {name: after.bytes.get(name, 0) - before.bytes.get(name, 0) for name in {*before.bytes, *after.bytes}}
    return {name: size // 1000 for name, size in sizes.items() if abs(size) > 500}  # kB: buffers are aligned, which takes a few bytes

start = zoo.memory_report()
layer = Linear(100, 50, rng=np.random.default_rng(0))
kilobytes = 4 * (100 * 50 + 50) // 1000
made = zoo.memory_report()
assert grown(start, made) == {"weights": kilobytes}
optimiser = optim.Adam(layer.parameters(), 1e-3)
with_adam = zoo.memory_report()
assert grown(made, with_adam) == {"optimiser": 40}  # m, v; the weights are views of one buffer now, gradients are read where they lie
x = Tensor(np.ones((200, 100), np.float32))
loss = layer(x).sum()
recorded = grown(with_adam, zoo.memory_report())
assert recorded.pop("recorded by linear") in (80, 120) and sum(recorded.values()) <= 40
loss.backward()
del loss, x
assert grown(with_adam, zoo.memory_report()) == {"gradients": kilobytes}  # the graph let go of everything
optimiser.zero_grad()
assert grown(with_adam, zoo.memory_report()) == {}
"""


def test_each_buffer_is_counted_once_for_what_holds_it():
    """In a process of its own: what other tests hold would count too."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, env={**os.environ, "ZOO_KERNELS": "1"})
    assert done.returncode == 0, done.stderr


def test_objects_that_are_not_counted_are_left_alone():
    """Proxies of other libraries do something, or warn, when they are asked for their class: `isinstance` asks, `type` doesn't."""

    class Proxy:
        @property
        def __class__(self):
            raise RuntimeError("asked")

    proxies = [[Proxy()]]
    assert zoo.memory_report().total >= 0 and proxies


def test_the_report_reads_as_a_table():
    text = str(zoo.memory_report())
    assert text.splitlines()[0].split() == ["what", "holds", "it", "MB", "buffers"] and "total" in text
