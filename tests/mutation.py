"""Seeds faults into a copy of zoo, one at a time, and runs the tests that pass over the faulty line: what share do they notice?

    python tests/mutation.py --map                      which tests run which line: once, after code has changed (15 minutes)
    python tests/mutation.py --map tests/test_gan.py    only of these tests, where others are mapped already
    python tests/mutation.py --faults 300 --seed 0      then 300 faults, spread over the areas below; the survivors are printed (50 minutes)
    python tests/mutation.py --area denoising --faults 60

A fault is what a slip of the hand leaves: another sign, operator, comparison, constant, bound or branch.  Text of errors, annotations and
docstrings are left alone.  Lines of kernels run as machine code, which no tracer sees: whoever runs a kernel runs every line of it and of what
it calls.  Tests that failed when the map was made count for nothing.  Results go to `.mutation/` beside the package, which can be deleted at
any time; a run that was stopped goes on where it was.  The times are those of one core.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import fnmatch
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".mutation"
AREAS: dict[str, tuple[str, ...]] = {
    "engine": ("autograd/tensor.py", "autograd/operation.py", "autograd/operators.py", "autograd/random.py", "autograd/tracing/*.py", "autograd/operations/*.py"),
    "kernels": ("autograd/kernels/*.py", "autograd/kernels/winograd/*.py", "language/decoding.py"),
    "denoising": ("diffusion.py", "parts/denoising/*.py"),
    "optimisers": ("optim.py", "nn.py"),
    "text": ("language/*.py",),
    "training": ("training/*.py", "storage/*.py", "model/*.py", "recipes/*.py", "data/*.py"),
    "models": ("vae.py", "vqvae.py", "autoencoder.py", "gan.py", "transformer.py", "recurrent.py", "parts/adversarial/*.py", "evaluation/*.py"),
}
NEVER = {"__repr__", "__str__", "_repr_html_", "describe", "say"}  # functions that only put words together
PORTIONS = {"tasks", "batch", "chunk", "at_once", "optimize"}  # arguments that say how much is worked on at a time: only speed depends on them
CHOICES = ("recipes/", "autograd/kernels/")  # where a module's constants are choices, of a preset or of a size that only speed depends on
KERNEL_TESTS = ("tests/test_operations.py", "tests/test_kernels.py", "tests/test_optim.py")  # compare kernels with definitions: the first to be run
TABLE = "tests/test_numbers.py::test_constants_and_defaults_are_those_of_the_table"
TEST_SECONDS = 30  # of the tests that pass over a line, the quickest that take no longer than this
PROCESSOR_SECONDS = 400  # of the tests of one fault; a fault that makes them run on for ever is noticed
WALL_SECONDS = 1800  # of those that wait for ever
MOST_BYTES = 12 << 30  # that the tests of one fault may ask for
NEVER_BEGAN = 70  # an exit code that pytest doesn't have
SLOW = {"browser"}  # fixtures of tests that say little about the areas above, and take long


class Fault(NamedTuple):
    file: str  # under zoo/
    line: int
    begin: int  # bytes of the source that are replaced
    end: int
    text: str  # by this
    was: str

    def __str__(self) -> str:
        return f"zoo/{self.file}:{self.line}  {self.was!r} -> {self.text!r}"


# --- the faults that a file can have

SWAPS: dict[type, str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "//", ast.Pow: "*", ast.LShift: ">>", ast.RShift: "<<",
    ast.BitAnd: "|", ast.BitOr: "&", ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.In: "not in",
    ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is", ast.And: "or", ast.Or: "and",
}
OTHER_CALL = {"min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin", "floor": "ceil", "ceil": "floor", "maximum": "minimum",
              "minimum": "maximum", "cos": "sin", "sin": "cos", "any": "all", "all": "any"}


def faults_of(path: Path, file: str) -> list[Fault]:
    """Every fault of a file, in its order."""
    source = path.read_text("utf-8")
    lines = source.encode().split(b"\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    content = source.encode()

    def place(node: Any) -> tuple[int, int]:
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def text(node: Any) -> str:
        begin, end = place(node)
        return content[begin:end].decode()

    def fault(node: Any, new: str) -> Fault:
        begin, end = place(node)
        return Fault(file, node.lineno, begin, end, new, content[begin:end].decode())

    def whole(node: Any) -> str:
        return f"({text(node)})"

    def of(node: Any) -> Iterator[Fault]:
        if isinstance(node, ast.Constant) and not isinstance(node.value, (str, bytes)) and node.value not in (None, Ellipsis):
            v = node.value
            if isinstance(v, bool):
                yield fault(node, str(not v))
            elif isinstance(v, int):
                yield fault(node, str(v + 1))
                if v > 1:
                    yield fault(node, str(v - 1))
            elif (other := v * 1.1 if v else 0.1) != v:  # the smallest numbers round to themselves
                yield fault(node, repr(other))
        elif isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not isinstance(node.left, (ast.JoinedStr,)):
            yield fault(node, f"{whole(node.left)} {SWAPS[type(node.op)]} {whole(node.right)}")
        elif isinstance(node, ast.BoolOp):
            yield fault(node, f" {SWAPS[type(node.op)]} ".join(map(whole, node.values)))
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
            yield fault(node, f"{whole(node.left)} {SWAPS[type(node.ops[0])]} {whole(node.comparators[0])}")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
            yield fault(node, whole(node.operand))
        elif isinstance(node, ast.IfExp):
            yield fault(node, f"{whole(node.orelse)} if {whole(node.test)} else {whole(node.body)}")
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Add, ast.Sub)):
            yield fault(node, f"{text(node.target)} {'-' if isinstance(node.op, ast.Add) else '+'}= {text(node.value)}")
        elif isinstance(node, ast.Slice):
            if node.lower is not None and not isinstance(node.lower, ast.Constant):
                yield fault(node.lower, f"{whole(node.lower)} + 1")
            if node.upper is not None and not isinstance(node.upper, ast.Constant):
                yield fault(node.upper, f"{whole(node.upper)} - 1")
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if called in OTHER_CALL:
                begin, end = place(node.func)
                yield Fault(file, node.lineno, end - len(called), end, OTHER_CALL[called], called)

    tree = ast.parse(source)
    spared = set()  # reshape takes any negative length for what is left over, and a seed that is written down is as good as any other
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        if getattr(call.func, "attr", "") == "reshape":
            spared |= {id(n.operand) for n in ast.walk(call) if isinstance(n, ast.UnaryOp)}
        elif getattr(call.func, "attr", "") == "default_rng":
            spared |= {id(n) for n in ast.walk(call) if isinstance(n, ast.Constant)}

    def walk(node: Any) -> Iterator[Fault]:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_params") or isinstance(node, (ast.JoinedStr, ast.Raise, ast.Assert)):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST) or (isinstance(child, (ast.FunctionDef, ast.ClassDef)) and child.name in NEVER):
                    continue
                if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                    continue
                if _makes_no_difference(node, child) or id(child) in spared:
                    continue
                if isinstance(node, ast.Module) and isinstance(child, (ast.Assign, ast.AnnAssign)) and file.startswith(CHOICES):
                    continue
                yield from of(child)
                yield from walk(child)

    return sorted(set(walk(tree)), key=lambda f: (f.begin, f.text))


def _makes_no_difference(node: Any, child: Any) -> bool:
    """Whether another value of `child`, a part of `node`, would do as well.

    A number of threads or of rows at a time, and the multiple in which `part(t, tasks, n, multiple)` shares out, change only the speed; the
    defaults of a configuration are choices, as its presets are.
    """
    if isinstance(child, ast.keyword):
        return child.arg in PORTIONS
    if isinstance(node, ast.Call):
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        return called == "tasks_for" or (called == "part" and child in node.args[3:])
    if isinstance(node, ast.arguments):
        parameters = [*node.posonlyargs, *node.args]
        named = {id(d): p.arg for d, p in [*zip(reversed(node.defaults), reversed(parameters)), *zip(node.kw_defaults, node.kwonlyargs)]}
        return named.get(id(child)) in PORTIONS
    return isinstance(node, ast.ClassDef) and node.name.endswith(("Config", "Training")) and isinstance(child, ast.AnnAssign)


def chosen(number: int, seed: int, areas: list[str]) -> list[Fault]:
    """So many faults, the same number of each area, drawn without replacement."""
    rng = random.Random(seed)
    picked: list[Fault] = []
    for i, area in enumerate(areas):
        files = [p for p in sorted((ROOT / "zoo").rglob("*.py")) if _area_of(p.relative_to(ROOT / "zoo").as_posix()) == area]
        pool = [f for p in files for f in faults_of(p, p.relative_to(ROOT / "zoo").as_posix())]
        share = number // len(areas) + (i < number % len(areas))
        picked += rng.sample(pool, min(share, len(pool)))
    rng.shuffle(picked)
    return picked


def _area_of(file: str) -> str | None:
    kernels = any(fnmatch.fnmatch(file, p) for p in AREAS["kernels"])
    return "kernels" if kernels else next((a for a, patterns in AREAS.items() if any(fnmatch.fnmatch(file, p) for p in patterns)), None)


# --- which tests run a line


class Recorder:
    """A plugin of pytest: what every test runs and how long it takes."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self.compiled: dict[str, set[str]] = {}  # "file:first line:last line" of a compiled function -> the tests that run it
        self.running: set[Any] = set()
        self.useless: set[str] = set()  # tests that fail without a fault, or don't run

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if not SLOW & set(item.fixturenames)]

    def pytest_collection_finish(self) -> None:
        """From here on, compiled functions report themselves; what runs inside them no tracer sees."""
        from zoo.autograd.runtime.tasks import Task

        run = Task.run

        def reporting(this: Any, *arguments: Any) -> Any:
            self.running.add(this)
            return run(this, *arguments)

        Task.run = reporting  # type: ignore[method-assign]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)
        self.running.clear()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.coverage.switch_context("")
        for place in {p for function in self.running for p in _places(function)}:
            self.compiled.setdefault(place, set()).add(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed or report.skipped:
            self.useless.add(report.nodeid)


def _places(compiled: Any) -> Iterator[str]:
    """Where a compiled function is written, and all that it calls."""
    from zoo.autograd.runtime.compiling import Compiled, Native

    code = compiled.function.__code__
    if code.co_filename.startswith(str(ROOT)):
        yield f"{code.co_filename}:{code.co_firstlineno}:{max(line for _, _, line in code.co_lines() if line)}"
    for value in compiled._names().values():
        if isinstance(value, Compiled):
            yield from _places(value)
        elif isinstance(value, Native):  # it is written by all of its module, and by what that uses of its own package
            module = importlib.import_module(value.module)
            for name in {value.module, *(getattr(used, "__module__", "") for used in vars(module).values())}:
                if name.startswith(value.module.rpartition(".")[0]):
                    yield f"{sys.modules[name].__file__}:1:{10**6}"


def make_map(tests: list[str]) -> None:
    """Run the tests under coverage, a context for each, and note how long each takes; without tests, a new map of all of them."""
    import coverage
    import pytest

    if not tests:
        shutil.rmtree(WORK, ignore_errors=True)
    if not (WORK / "zoo").exists():  # as it was when the map was made
        shutil.copytree(ROOT / "zoo", WORK / "zoo", ignore=shutil.ignore_patterns("__pycache__", "assets"))
    os.environ["HYPOTHESIS_PROFILE"] = "ci"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(ROOT)
    _import_from(ROOT)
    tracer = coverage.Coverage(data_file=str(WORK / "coverage"), source=[str(ROOT / "zoo")], config_file=False)
    tracer.load()
    recorder = Recorder(tracer)
    tracer.start()
    pytest.main(["-q", "-p", "no:cacheprovider", *(tests or ["tests"])], plugins=[recorder])
    tracer.stop()
    tracer.save()
    seconds = {n: s for n, s in (_read("seconds.json") | recorder.seconds).items() if n not in recorder.useless}
    compiled = _read("compiled.json")
    for place, names in recorder.compiled.items():
        compiled[place] = sorted(names.union(compiled.get(place, ())))
    (WORK / "seconds.json").write_text(json.dumps(seconds))
    (WORK / "compiled.json").write_text(json.dumps(compiled))
    print(f"{len(seconds)} tests, {sum(seconds.values()):.0f} s; {len(compiled)} compiled functions")


def _read(name: str) -> dict[str, Any]:
    return json.loads((WORK / name).read_text()) if (WORK / name).exists() else {}


def _import_from(folder: Path) -> None:
    """zoo and its tests come from this folder."""
    sys.path[:] = [str(folder), *(p for p in sys.path if not p or Path(p).resolve() not in (ROOT, ROOT / "tests"))]
    os.environ["PYTHONPATH"] = str(folder)


def _is_remembered(path: Path, line: int) -> bool:
    """Whether a line belongs to a function that remembers its values, so that only the first test of a process runs it."""
    functions = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))
    return any("cache" in ast.unparse(d) for f in functions if f.lineno <= line <= (f.end_lineno or 0) for d in f.decorator_list)


class Map:
    """line -> the tests that run it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = _read("seconds.json")
        if not self.seconds:
            raise SystemExit("there is no map of tests yet: python tests/mutation.py --map")
        self.data = sqlite3.connect(WORK / "coverage")
        self.contexts = dict(self.data.execute("select id, context from context"))
        self.files = {name: i for i, name in self.data.execute("select id, path from file")}
        self.compiled: dict[str, list[tuple[int, int, list[str]]]] = {}
        for place, names in _read("compiled.json").items():
            path, first, last = place.rsplit(":", 2)
            self.compiled.setdefault(path, []).append((int(first), int(last), names))

    def tests(self, fault: Fault) -> list[str]:
        """The tests to run, the quickest first; where the line runs at import, or once and is remembered, or never, those that run anything of
        the file, and the table of numbers, for which all modules are imported."""
        path, line = str(ROOT / "zoo" / fault.file), self._line_then(fault)
        names = {name for first, last, tests in self.compiled.get(path, ()) if first <= line <= last for name in tests}
        machine_code = bool(names)
        if not names and not _is_remembered(ROOT / "zoo" / fault.file, fault.line):
            names = self._covering(path, line)
        names = names or {*self._covering(path, None), TABLE}

        def order(name: str) -> tuple[bool, float]:
            return machine_code and not name.startswith(KERNEL_TESTS), self.seconds[name]

        chosen, total = [], 0.0
        for name in sorted((n for n in names if n in self.seconds), key=order):
            total += self.seconds[name]
            if total > TEST_SECONDS and chosen:
                break
            chosen.append(name)
        return chosen

    def _line_then(self, fault: Fault) -> int:
        """The line's number when the map was made."""
        then, now = WORK / "zoo" / fault.file, ROOT / "zoo" / fault.file
        if not then.exists() or then.read_bytes() == now.read_bytes():
            return fault.line
        matcher = difflib.SequenceMatcher(None, now.read_text().splitlines(), then.read_text().splitlines(), autojunk=False)
        return next((j + fault.line - 1 - i + 1 for i, j, n in matcher.get_matching_blocks() if i <= fault.line - 1 < i + n), fault.line)

    def _covering(self, path: str, line: int | None) -> set[str]:
        names = set()
        for context, numbits in self.data.execute("select context_id, numbits from line_bits where file_id = ?", (self.files.get(path),)):
            if line is None or (line // 8 < len(numbits) and numbits[line // 8] >> (line % 8) & 1):
                names.add(self.contexts[context])
        return names - {""}


# --- one fault


class Runner:
    """Runs tests in a fork of this process, which has imported all that takes long and nothing of the zoo."""

    def __init__(self, copy: Path) -> None:
        import pytest

        for name in ("hypothesis.extra.numpy", "numba.core.ccallback", "scipy.signal", "scipy.stats"):
            importlib.import_module(name)
        self.copy, self.pytest = copy, pytest
        machine_code = Path(os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numpy-zoo"
        self.written = 0
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".mutation", ".git", ".venv", "runs", "__pycache__", ".*_cache", "*.egg-info"))
        if machine_code.exists():
            shutil.copytree(machine_code, copy / "cache" / "numpy-zoo")

    def run(self, tests: list[str]) -> tuple[int, str]:
        """Pytest's exit code, or minus a signal, and what it printed; it stops at the first test that fails."""
        log = self.copy / "log"
        child = os.fork()
        if not child:
            code = NEVER_BEGAN
            with contextlib.suppress(BaseException):
                os.setsid()
                out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(out, 1)
                os.dup2(out, 2)
                resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS + 10))
                resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
                os.environ.update(HYPOTHESIS_PROFILE="ci", NUMBA_CACHE_DIR=str(self.copy / "cache"))  # faulty machine code goes with the copy
                signal.signal(signal.SIGINT, signal.default_int_handler)  # which nohup ignores
                os.chdir(self.copy)
                _import_from(self.copy)
                code = self.pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=line",
                                         "-W", "ignore::pytest.PytestAssertRewriteWarning", "--rootdir", str(self.copy), *tests])
            os._exit(code)
        ends = time.monotonic() + WALL_SECONDS
        while not (status := os.waitpid(child, os.WNOHANG))[0]:
            time.sleep(0.05)
            if time.monotonic() > ends:
                os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it has left behind
        return os.waitstatus_to_exitcode(status[1]), log.read_text(errors="replace")

    def caught(self, fault: Fault, tests: list[str]) -> tuple[bool, str]:
        """Whether the tests notice the fault, and how."""
        if not tests:
            return False, "no test runs it"
        path = self.copy / "zoo" / fault.file
        whole = path.read_bytes()
        if whole[fault.begin : fault.end].decode() != fault.was:
            raise SystemExit(f"{fault.file} has changed since its faults were listed")
        self.write(path, whole[: fault.begin] + fault.text.encode() + whole[fault.end :])
        try:
            code, output = self.run(tests)
        finally:
            self.write(path, whole)
        if code in (0, 5):
            return False, "all tests pass" if code == 0 else "no test ran"
        if code == NEVER_BEGAN:
            raise SystemExit(f"the tests could not be begun:\n{output}")
        lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return True, lines[0][:150] if lines else f"exit code {code}"

    def write(self, path: Path, content: bytes) -> None:
        """With a time of its own: byte code is of the source whose second of change and length it names."""
        path.write_bytes(content)
        self.written += 1
        os.utime(path, (self.written, self.written))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", nargs="*", metavar="TESTS", help="run the suite, or these tests, once, and note which tests run which line")
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--area", action="append", choices=AREAS, help="only this area; may be given several times")
    parser.add_argument("--again", type=Path, help="only the survivors of an earlier run, whose results this file holds")
    parser.add_argument("--also", action="append", default=[], help="a test that is younger than the map; may be given several times")
    parser.add_argument("--out", type=Path, help="results, a JSON object per line (default: .mutation/SEED.jsonl)")
    options = parser.parse_args()
    if options.map is not None:
        make_map(options.map)
        return
    areas, tests = options.area or list(AREAS), Map()
    if options.again:
        rows = [json.loads(line) for line in options.again.read_text().splitlines()]
        faults = [Fault(*row["fault"]) for row in rows if not row["caught"]]
    else:
        faults = chosen(options.faults, options.seed, areas)
    out = options.out or WORK / f"{'again' if options.again else options.seed}.jsonl"
    results = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {Fault(*row["fault"]) for row in results}
    copy = WORK / f"copy-{os.getpid()}"
    try:
        runner = Runner(copy)
        first = options.also + tests.tests(faults[0]) if faults else []
        if first and (code := runner.run(first)[0]):
            raise SystemExit(f"without a fault, tests fail already (exit code {code}): python -m pytest {' '.join(first[:3])} ...")
        with open(out, "a") as file:
            for i, fault in enumerate(faults):
                if fault in done:
                    continue
                began = time.perf_counter()
                noticed, how = runner.caught(fault, options.also + tests.tests(fault))
                results.append({"fault": list(fault), "area": _area_of(fault.file), "caught": noticed, "how": how})
                print(json.dumps(results[-1]), file=file, flush=True)
                print(f"{i + 1:4}/{len(faults)} {'caught  ' if noticed else 'SURVIVED'} {time.perf_counter() - began:5.1f} s  {fault}", flush=True)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    for area in [*areas, None]:
        rows = [row for row in results if area in (None, row["area"])]
        caught = sum(row["caught"] for row in rows)
        print(f"{area or 'all':12} {caught:4} of {len(rows):4}  {100 * caught / max(len(rows), 1):5.1f}%")
    print(*(f"{Fault(*row['fault'])}  ({row['how']})" for row in results if not row["caught"]), sep="\n")


if __name__ == "__main__":
    main()
