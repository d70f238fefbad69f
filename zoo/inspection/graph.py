"""The recorded graph as a drawing: operations from the top down, each with its shape, and leaves with their names.

    zoo.graph(loss)                          # every operation, fused ones as one
    with zoo.trace(model) as seen:           # or opened into their definitions, and named by module
        loss = model.loss(x, rng)["loss"]
    zoo.graph(loss, seen, depth=2)           # everything that runs in a module two names deep becomes one box

The result is a self-contained SVG: a notebook displays it, `.save("graph.svg")` writes it.
"""

from __future__ import annotations

import html
from collections import defaultdict
from pathlib import Path

from ..autograd.tensor import Node, Tensor, source
from ..autograd.tracing import Trace
from ..storage import atomic_write

WIDTH, HEIGHT, ACROSS, DOWN = 168, 40, 22, 34  # of a box, and the gaps between boxes


class Box:
    """One operation, several that are drawn as one, or a leaf."""

    def __init__(self, title: str, kind: str, birth: int):
        self.title, self.kind, self.birth = title, kind, birth
        self.shape: tuple[int, ...] = ()
        self.operations = 0
        self.inputs: set[str] = set()
        self.level = 0
        self.x = 0.0


class Graph:
    """Boxes by name; `str(graph)` is the SVG."""

    def __init__(self, boxes: dict[str, Box]):
        self.boxes = boxes

    def __str__(self) -> str:
        return _svg(self.boxes)

    def _repr_html_(self) -> str:
        return f'<div style="overflow:auto;max-height:640px">{self}</div>'

    def save(self, path: str | Path) -> None:
        atomic_write(path, str(self).encode())


def graph(y: Tensor, seen: Trace | None = None, *, depth: int | None = None, most: int = 500) -> Graph:
    """Draw the graph that y was computed by.

    seen: a trace that was on while y was computed; it gives the names.
    depth: everything that runs in a module this many dotted parts deep becomes one box, with its parameters; so does each fused operation.
    most: boxes; a larger graph is a ValueError that says what to do.
    """
    if not isinstance(y, Tensor) or y.node is None:
        raise ValueError("graph: y is no tensor that an operation recorded; compute it from one with requires_grad=True, outside of no_grad")
    if depth is not None and depth < 1:
        raise ValueError(f"graph: depth is {depth}; it is at least 1")
    names = {} if seen is None else _names(seen, depth)
    leaves = {} if seen is None or seen.model is None else {id(p): name for name, p in seen.model.named_parameters().items()}
    nodes = _reached(y)
    boxes: dict[str, Box] = {}
    key_of: dict[int, str] = {}
    for node in sorted(nodes, key=lambda n: n.birth):
        if isinstance(node, Node):
            if node.op is None:
                raise RuntimeError("graph: backward has freed the graph; draw it before, or call backward(retain_graph=True)")
            title, kind = names.get(node.birth, node.op.__name__), "operation"
            key = title if depth is not None and node.birth in names else f"{title} {node.birth}"
        else:
            title, kind = leaves.get(id(node), "leaf"), "leaf"
            key = f"{title} {node.birth}"
            key_of[id(node)] = key
            if depth is not None and "." in title:
                continue
        box = boxes.setdefault(key, Box(title, kind, node.birth))
        box.shape = node.shape
        box.operations += kind == "operation"
        key_of[id(node)] = key
        for parent in getattr(node, "inputs", ()):
            if parent is not None and key_of[id(parent)] != key:
                box.inputs.add(key_of[id(parent)])
    for box in boxes.values():
        box.inputs &= boxes.keys()
    if len(boxes) > most:
        raise ValueError(f"graph: {len(boxes)} boxes are too many to read; pass a trace and a depth: graph(y, seen, depth=2)")
    _place(boxes)
    return Graph(boxes)


def _names(seen: Trace, depth: int | None) -> dict[int, str]:
    """The titles of the boxes, by the birth number of the nodes in them."""
    titles: dict[int, str] = {}
    outer: dict[str, str] = {}  # a trace has a fused operation after the operations inside it: read backwards, it comes first
    for record in reversed(seen.records):
        if record.birth is None:
            continue
        title = record.name
        if depth is not None:
            module = record.short.rpartition(".")[0]
            modules = module.split(".") if module else []
            first, _, inner = record.name[len(module) + bool(module):].partition(".")
            if len(modules) >= depth:
                title = ".".join(modules[:depth])
            else:
                key = ".".join([*modules, first.partition("#")[0]])
                if not inner:
                    outer[key] = record.name
                title = outer.get(key, key)
        titles[record.birth] = title
    return titles


def _reached(y: Tensor) -> list:
    """Every node and leaf that y was computed from."""
    first = source(y)
    reached, stack = {id(first): first}, [first]
    while stack:
        for parent in getattr(stack.pop(), "inputs", ()):
            if parent is not None and id(parent) not in reached:
                reached[id(parent)] = parent
                stack.append(parent)
    return list(reached.values())


def _place(boxes: dict[str, Box]) -> None:
    """A box's level is the longest path to it; within a level, boxes are sorted by the mean position of their inputs."""
    order = sorted(boxes, key=lambda key: boxes[key].birth)
    age = {key: i for i, key in enumerate(order)}
    for key in order:  # a box is never above its inputs; a loop between merged boxes is cut by age
        boxes[key].level = max((boxes[i].level + 1 for i in boxes[key].inputs if age[i] < age[key]), default=0)
    for key in reversed(order):  # a box without inputs goes right above its first use
        uses = [boxes[k].level for k in boxes if key in boxes[k].inputs]
        if not boxes[key].inputs and uses:
            boxes[key].level = max(0, min(uses) - 1)
    levels: dict[int, list[str]] = defaultdict(list)
    for key in order:
        levels[boxes[key].level].append(key)
    for level in sorted(levels):
        row = levels[level]
        wish = {key: _mean([boxes[i].x for i in boxes[key].inputs if boxes[i].level < level], i) for i, key in enumerate(row)}
        row.sort(key=lambda key: wish[key])
        left = (len(row) - 1) / 2
        for i, key in enumerate(row):
            boxes[key].x = (i - left) * (WIDTH + ACROSS)


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _svg(boxes: dict[str, Box]) -> str:
    left = min(b.x for b in boxes.values()) - WIDTH / 2 - 10
    width = max(b.x for b in boxes.values()) + WIDTH / 2 + 34 - left
    height = (max(b.level for b in boxes.values()) + 1) * (HEIGHT + DOWN) + 10

    def top(box: Box) -> float:
        return 10 + box.level * (HEIGHT + DOWN)

    parts = []
    for box in boxes.values():
        for key in sorted(box.inputs):
            a = boxes[key]
            x1, y1, x2, y2 = a.x - left, top(a) + HEIGHT, box.x - left, top(box)
            bend = max(abs(y2 - y1) / 2, DOWN / 2)
            detour = 130 if box.level - a.level > 1 and abs(x1 - x2) < WIDTH else 0  # around the boxes in between
            points = [(x1, y1), (x1 + detour, y1 + bend), (x2 + detour, y2 - bend), (x2, y2)]
            start, *rest = (f"{px:.0f} {py:.0f}" for px, py in points)
            curve = " ".join(rest)
            parts.append(f'<path d="M{start}C{curve}"/>')
    for box in boxes.values():
        x, y = box.x - left, top(box)
        corner = HEIGHT / 2 if box.kind == "leaf" else 7
        label = " × ".join(map(str, box.shape)) or "number"
        if box.operations > 1:
            label = f"{box.operations} operations → {label}"
        name = box.title if len(box.title) < 26 else "…" + box.title[-24:]
        left_edge = x - WIDTH / 2
        parts.append(f'<g class="{box.kind}"><title>{html.escape(box.title)}: {html.escape(label)}</title>'
                     f'<rect x="{left_edge:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="{corner:.0f}"/>'
                     f'<text x="{x:.0f}" y="{y + 17:.0f}" class="name">{html.escape(name)}</text>'
                     f'<text x="{x:.0f}" y="{y + 31:.0f}">{html.escape(label)}</text></g>')
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="graph of {len(boxes)} boxes"><style>{STYLE}</style>'
    return head + "".join(parts) + "</svg>"


STYLE = """
text { font: 10.5px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; text-anchor: middle; fill: #69655e }
.name { font-weight: 600; fill: #1d1c1a }
rect { fill: #fff; stroke: #b9b3a8 }
.leaf rect { fill: #eef3fc; stroke: #8fabdd }
path { fill: none; stroke: #b9b3a8; stroke-width: 1.3 }
@media (prefers-color-scheme: dark) {
  text { fill: #9d9a93 } .name { fill: #eae8e4 } path { stroke: #555a61 }
  rect { fill: #1b1d20; stroke: #555a61 } .leaf rect { fill: #1c2636; stroke: #4a648f }
}"""
