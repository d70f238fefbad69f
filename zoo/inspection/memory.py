"""What is in memory, and why: `print(zoo.memory_report())`.

    weights                      leaf tensors with requires_grad
    quantised weights            blocks of 4 and 8 bits
    gradients                    their gradients
    optimiser                    the flat gradient, moments, and averages of the weights
    recorded by linear           what the graph keeps until backward: arguments, results, and what a kernel saved
    other tensors

Each buffer counts once, for the first of these that holds it; an array that belongs to no tensor, graph or optimiser isn't counted.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..autograd.tensor import Node, Tensor
from ..nn import QuantisedEmbedding, QuantisedLinear
from ..optim import Average, Optimiser

COUNTED = (Tensor, Node, Optimiser, Average, QuantisedLinear, QuantisedEmbedding)


@dataclasses.dataclass
class Memory:
    """`bytes` and `buffers` by what holds them, most first; `resident` and `peak`: bytes of the whole process, None where unknown."""

    bytes: dict[str, int]
    buffers: dict[str, int]
    resident: int | None
    peak: int | None

    @property
    def total(self) -> int:
        return sum(self.bytes.values())

    def __str__(self) -> str:
        lines = [f"{'what holds it':32} {'MB':>9} {'buffers':>8}"]
        lines += [f"{name:32} {size / 1e6:9.2f} {self.buffers[name]:8}" for name, size in self.bytes.items()]
        lines.append(f"{'total':32} {self.total / 1e6:9.2f} {sum(self.buffers.values()):8}")
        lines += [f"{title:32} {size / 1e6:9.2f}" for title, size in (("process", self.resident), ("process, peak", self.peak))
                  if size is not None]
        return "\n".join(lines)


def memory_report() -> Memory:
    """Count the arrays in memory.  Visits every object that Python's garbage collector knows, so keep it out of inner loops."""
    seen: set[int] = set()
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    objects = gc.get_objects()
    for name, array in _held([o for o in objects if issubclass(type(o), COUNTED)]):  # isinstance asks proxies, and PyTorch's warn
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        if id(base) not in seen:
            seen.add(id(base))
            sizes[name] = sizes.get(name, 0) + base.nbytes
            counts[name] = counts.get(name, 0) + 1
    order = sorted(sizes, key=lambda name: -sizes[name])
    return Memory({name: sizes[name] for name in order}, {name: counts[name] for name in order}, _resident(), _peak())


def _held(objects: list[Any]) -> Iterator[tuple[str, np.ndarray]]:
    """(what holds it, array), in order of precedence."""
    tensors = [o for o in objects if isinstance(o, Tensor)]
    leaves = [t for t in tensors if t.node is None and t.requires_grad]
    yield from (("weights", t.data) for t in leaves)
    yield from (("quantised weights", o.blocks) for o in objects if isinstance(o, (QuantisedLinear, QuantisedEmbedding)))
    yield from (("gradients", t.grad) for t in tensors if t.grad is not None)
    for o in objects:
        if isinstance(o, (Optimiser, Average)):
            yield from (("optimiser", a) for a in _arrays(list(vars(o).values())))
    for node in (o for o in objects if isinstance(o, Node)):
        if node.kept_grad:
            yield from (("gradients", a) for a in _arrays(node.kept_grad))
        if node.op is not None:
            yield from ((f"recorded by {node.op.__name__}", a) for a in _arrays([node.y, node.args, node.saved]))
    yield from (("other tensors", t.data) for t in tensors)


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Tensor):
        yield value.data
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _arrays(part)


def _resident() -> int | None:
    try:
        import resource

        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (ImportError, OSError):
        return None


def _peak() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
