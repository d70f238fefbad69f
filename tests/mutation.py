"""Seeds faults into a copy of zoo, one at a time, and runs the tests that pass over the faulty line: what share do they notice?

    python tests/mutation.py --map                      which tests run which line: once, after tests or code have changed (ten minutes)
    python tests/mutation.py --faults 300 --seed 0      then 300 faults, spread over the areas below; the survivors are printed
    python tests/mutation.py --area denoising --faults 60

A fault is what a slip of the hand leaves: another sign, operator, comparison, constant, bound or branch.  Text of errors, annotations and
docstrings are left alone.  Lines of kernels run as machine code, which no tracer sees: their tests are named by file.  Results go to
`.mutation/` beside the package; it can be deleted at any time.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".mutation"
AREAS: dict[str, tuple[str, ...]] = {
    "engine": ("autograd/tensor.py", "autograd/operation.py", "autograd/operators.py", "autograd/random.py", "autograd/tracing.py", "autograd/operations/*.py"),
    "kernels": ("autograd/kernels/*.py", "autograd/kernels/winograd/*.py", "language/decoding.py"),
    "denoising": ("diffusion.py", "denoising/*.py"),
    "optimisers": ("optim.py", "nn.py"),
    "text": ("language/tokenizer.py", "language/*.py"),
    "training": ("training/*.py", "storage/*.py", "model/*.py", "recipes/*.py", "data/*.py"),
    "models": ("vae.py", "vqvae.py", "autoencoder.py", "gan.py", "transformer.py", "recurrent.py", "adversarial/*.py", "evaluation/*.py"),
}
KERNEL_TESTS = ("test_kernels.py", "test_operations.py", "test_convolution_kernels.py", "test_winograd.py", "test_quantised.py")
TESTS_OF = {"language/decoding.py": ("test_transformer.py", "test_runtime.py"), "autograd/kernels/optimiser.py": ("test_optim.py",)}
NEVER = {"__repr__", "__str__", "_repr_html_", "describe", "say"}  # functions that only put words together
CHOICES = ("recipes/", "autograd/kernels/")  # where a module's constants are choices, of a preset or of a size that only speed depends on
SECONDS = 240  # of the tests of one fault; a fault that makes them run on for ever is noticed
MOST_TESTS = 60  # of those that pass over a line, the quickest


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
            else:
                yield fault(node, repr(v * 1.1 if v else 0.1))
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

    def walk(node: Any) -> Iterator[Fault]:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_params") or isinstance(node, (ast.JoinedStr, ast.Raise, ast.Assert)):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST) or (isinstance(child, (ast.FunctionDef, ast.ClassDef)) and child.name in NEVER):
                    continue
                if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                    continue
                if isinstance(node, ast.Module) and isinstance(child, (ast.Assign, ast.AnnAssign)) and file.startswith(CHOICES):
                    continue
                yield from of(child)
                yield from walk(child)

    return sorted(set(walk(ast.parse(source))), key=lambda f: (f.begin, f.text))


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


def make_map() -> None:
    """Run the suite under coverage, a context a test, and note how long each test takes."""
    WORK.mkdir(exist_ok=True)
    settings = WORK / "coveragerc"
    settings.write_text(f"[run]\ndynamic_context = test_function\nsource = zoo\ndata_file = {WORK / 'coverage'}\n")
    (WORK / "coverage").unlink(missing_ok=True)
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=0",
               "-vv", "--durations-min=0"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "HYPOTHESIS_PROFILE": "ci"}, stdout=subprocess.PIPE, text=True)
    (WORK / "suite.log").write_text(done.stdout)
    seconds: dict[str, float] = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in ("call", "setup") and words[0].endswith("s") and "::" in words[2]:
            name = words[2].partition("[")[0]
            seconds[name] = seconds.get(name, 0.0) + float(words[0][:-1])
    (WORK / "seconds.json").write_text(json.dumps(seconds))
    print(done.stdout.splitlines()[-1], f"; {len(seconds)} tests timed")


class Map:
    """line -> the tests that run it."""

    def __init__(self) -> None:
        if not (WORK / "coverage").exists():
            raise SystemExit("there is no map of tests yet: python tests/mutation.py --map")
        self.seconds: dict[str, float] = json.loads((WORK / "seconds.json").read_text())
        data = sqlite3.connect(WORK / "coverage")
        self.contexts = dict(data.execute("select id, context from context"))
        self.files = {name: i for i, name in data.execute("select id, path from file")}
        self.data = data

    def tests(self, fault: Fault) -> list[str]:
        """The tests to run, the quickest first; all of an area's files where the line runs at import, or as machine code."""
        named = TESTS_OF.get(fault.file) or (KERNEL_TESTS if fault.file.startswith("autograd/kernels/") else ())
        if named:
            return [f"tests/{name}" for name in named if (ROOT / "tests" / name).exists()]
        covering = self._covering(fault.file, fault.line)
        if not covering:  # at import, or by nobody: whatever runs anything of the file
            covering = self._covering(fault.file, None)
        known = {name: self.seconds.get(name, 1.0) for name in covering if (ROOT / name.partition("::")[0]).exists()}
        return sorted(known, key=known.__getitem__)[:MOST_TESTS]

    def _covering(self, file: str, line: int | None) -> set[str]:
        number = self.files.get(str(ROOT / "zoo" / file))
        names = set()
        for context, numbits in self.data.execute("select context_id, numbits from line_bits where file_id = ?", (number,)):
            name = self.contexts[context]
            if not name or (line is not None and not (line // 8 < len(numbits) and numbits[line // 8] >> (line % 8) & 1)):
                continue
            module, _, function = name.partition(".test_")  # "test_vae.test_the_bound" -> "tests/test_vae.py::test_the_bound"
            if function:
                names.add(f"tests/{module.rpartition('.')[2]}.py::test_{function}")
        return names


# --- one fault


def caught(fault: Fault, tests: list[str], copy: Path) -> tuple[bool, str]:
    """Whether the tests notice the fault, and how."""
    if not tests:
        return False, "no test runs it"
    path = copy / "zoo" / fault.file
    whole = path.read_bytes()
    path.write_bytes(whole[: fault.begin] + fault.text.encode() + whole[fault.end :])
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header", "--tb=line", *tests]
    env = {**os.environ, "HYPOTHESIS_PROFILE": "ci", "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(command, cwd=copy, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True, "the tests ran on for ever"
    finally:
        path.write_bytes(whole)
    lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if process.returncode == 5:
        return False, "no test ran"
    return process.returncode != 0, lines[0][:150] if lines else f"exit code {process.returncode}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", action="store_true", help="run the suite once and note which tests run which line")
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--area", action="append", choices=AREAS, help="only this area; may be given several times")
    parser.add_argument("--again", type=Path, help="only the survivors of an earlier run, whose results this file holds")
    parser.add_argument("--out", type=Path, help="results, a JSON object a line (default: .mutation/SEED.jsonl)")
    options = parser.parse_args()
    if options.map:
        make_map()
        return
    areas, tests = options.area or list(AREAS), Map()
    if options.again:
        rows = [json.loads(line) for line in options.again.read_text().splitlines()]
        faults = [Fault(*row["fault"]) for row in rows if not row["caught"]]
    else:
        faults = chosen(options.faults, options.seed, areas)
    out = options.out or WORK / f"{'again' if options.again else options.seed}.jsonl"
    copy = WORK / f"copy-{os.getpid()}"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".mutation", ".git", ".venv", "runs", "__pycache__", ".*_cache", "*.egg-info"))
    count: dict[str, list[int]] = {area: [0, 0] for area in areas}
    survivors = []
    try:
        with open(out, "w") as results:
            for i, fault in enumerate(faults):
                began = time.perf_counter()
                found, how = caught(fault, tests.tests(fault), copy)
                area = _area_of(fault.file) or ""
                count.setdefault(area, [0, 0])[0] += found
                count[area][1] += 1
                results.write(json.dumps({"fault": list(fault), "area": area, "caught": found, "how": how}) + "\n")
                results.flush()
                if not found:
                    survivors.append(f"{fault}  ({how})")
                print(f"{i + 1:4}/{len(faults)} {'caught  ' if found else 'SURVIVED'} {time.perf_counter() - began:5.1f} s  {fault}", flush=True)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    total = [sum(c[i] for c in count.values()) for i in (0, 1)]
    for area, (noticed, of) in count.items():
        if of:
            print(f"{area:12} {noticed:4} of {of:4}  {100 * noticed / of:5.1f}%")
    print(f"{'all':12} {total[0]:4} of {total[1]:4}  {100 * total[0] / max(total[1], 1):5.1f}%")
    print(*survivors, sep="\n")


if __name__ == "__main__":
    main()
