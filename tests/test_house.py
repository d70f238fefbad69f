"""The rooms of the package: imports run downhill and never in a circle, no folder is crowded, each says what belongs there."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "zoo"
FOLDERS = sorted({path.parent for path in PACKAGE.rglob("*.py")})


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Modules that reach themselves, together with those on the way (strongly connected components; Tarjan 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        path.append(module)
        for other in imports[module]:
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in path:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            i = path.index(module)
            if len(path) > i + 1:
                found.append(sorted(path[i:]))
            del path[i:]

    for module in imports:
        if module not in number:
            visit(module)
    return found


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []


def test_imports_form_no_circle():
    """Those under TYPE_CHECKING and inside functions count."""
    grimp = pytest.importorskip("grimp", reason="it comes with import-linter, which `make lint` installs")
    graph = grimp.build_graph("zoo", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert circles(imports) == []


def entries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != "__pycache__")


@pytest.mark.parametrize(("folder", "most"), [("zoo", 27), ("zoo/autograd", 10)])
def test_a_reader_can_take_in_what_is_there(folder, most):
    assert len(entries(ROOT / folder)) <= most, entries(ROOT / folder)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_each_folder_says_what_belongs_there(folder):
    """The first line of `__init__.py` is a sentence, not the folder's name."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert text, f"{folder}/__init__.py has no docstring"
    first = text.splitlines()[0]
    assert len(first.split()) >= 5 and first.endswith((".", ":")), first


def test_the_contract_on_imports_names_every_room_and_lint_reads_it():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert [c["containers"] for c in contracts] == [["zoo"], ["zoo.autograd"]] and all(c["exhaustive"] for c in contracts)
    assert not any("ignore_imports" in c for c in contracts) and "lint-imports" in (ROOT / "Makefile").read_text()
    for contract, folder in zip(contracts, (PACKAGE, PACKAGE / "autograd")):
        rooms = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()} - {"__init__"}
        assert {room for layer in contract["layers"] for room in layer.split(" : ")} == rooms


def test_a_source_package_holds_everything_but_what_is_hidden():
    """Its tests run from there: what they read must have come along."""
    automatic = {"README.md", "pyproject.toml", "MANIFEST.in", "LICENSE", "zoo"}
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines() if line]
    listed = {name for command, *names in lines if command in ("include", "graft") for name in names}
    assert all((ROOT / name).exists() for name in listed)
    done_by_tools = {"setup.cfg", "PKG-INFO", "build", "dist", "runs", "page.html", "zoo-demo.html"}
    there = {path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.suffix not in (".egg-info", ".png", ".mid", ".log")}
    assert there - done_by_tools - {"__pycache__"} == automatic | listed


def test_the_version_is_the_same_wherever_it_is_said():
    version = next(line.split()[1] for line in (ROOT / "CITATION.cff").read_text().splitlines() if line.startswith("version:"))
    tree = ast.parse((PACKAGE / "storage" / "__init__.py").read_text())  # as setuptools reads it, without importing anything
    stated = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERSION"]
    assert stated == [version]


def byte_counts(source: str) -> list[str]:
    """Products with a bare 4 or 8, the bytes of a float32 and of an address: what a hand-written address is made of."""
    return [ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and not isinstance(node.left, ast.List)
            and any(isinstance(side, ast.Constant) and type(side.value) is int and side.value in (4, 8) for side in (node.left, node.right))]


def test_a_byte_count_is_seen():
    assert byte_counts("y = x + 4 * (i * n)") == ["4 * (i * n)"] and byte_counts("y = words + i * 8") == ["i * 8"]
    assert byte_counts("y = at(x, i * n) + 4 + 0.25 * 4.0") == []


@pytest.mark.parametrize("path", [*sorted((PACKAGE / "autograd" / "kernels").rglob("*.py")), PACKAGE / "language" / "decoding.py"],
                         ids=lambda path: str(path.relative_to(PACKAGE)))
def test_kernels_count_no_bytes(path):
    """They address floats and words by the helpers of the runtime, which alone knows how many bytes one has; other fours have a name.

    The transforms of Winograd are polynomials, whose coefficients are 4 and 8.
    """
    if not path.stem.endswith("_transforms"):
        assert byte_counts(path.read_text()) == []
