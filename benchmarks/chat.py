"""A chat model of 4 bits: tokens per second of zoo and of llama.cpp, of one GGUF file, and what loading takes.

    python benchmarks/chat.py [--model FILE] [--llama-python PATH] [--json FILE]

Without --model it is what `zoo get smollm2` fetched.  llama-cpp-python is looked for in this Python, or in the one that --llama-python names;
without it zoo stands alone.  Each side and each number of threads has a process of its own.  They take turns, so that all see the same
machine; figures are medians.

Reading is a prompt up to its last logits; writing is a token at a time, logits and the likeliest of them, behind a short prompt.  `steps` is
the same with zoo's records of every token.  Greedy tokens of the two sides needn't agree: llama.cpp rounds activations to 8 bits, zoo nothing.
Loading is warm: the file and the kernels have been read before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from zoo.autograd.runtime.processor import processor_features, processor_name

PROMPT = "The capital of France is Paris, and the capital of Germany is Berlin. "
CONTEXT, WRITTEN = 1024, 48


class Zoo:
    def __init__(self, path: str, threads: int):
        import zoo
        import zoo.transformer  # loading is measured without what Python reads of the library
        from zoo.autograd import matmul, set_threads

        set_threads(threads)
        matmul(*np.ones((2, 8, 8), np.float32))
        self.engine = memory()
        began = time.perf_counter()
        self.model = zoo.load(path)
        self.loading, self.version = time.perf_counter() - began, f"zoo {zoo.__version__}"

    def ids(self, text: str) -> list[int]:
        return self.model.tokenizer.encode(text).tolist()

    def begin(self, ids: list[int]) -> Any:
        logits, self.state = self.model.begin(np.array(ids), room=CONTEXT - len(ids))
        return logits

    def advance(self, token: int) -> Any:
        logits, self.state = self.model.advance(token, self.state)
        return logits

    def steps(self, ids: list[int], count: int) -> float:
        """Seconds of a token with its record, that of reading the prompt left out."""
        records = self.model.steps(ids, count + 1, temperature=0)
        next(records)
        began = time.perf_counter()
        written = sum(1 for _ in records)
        return (time.perf_counter() - began) / written


class Llama:
    def __init__(self, path: str, threads: int):
        import llama_cpp

        self.engine = memory()
        began = time.perf_counter()
        self.model = llama_cpp.Llama(path, n_ctx=CONTEXT, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
        self.loading, self.version = time.perf_counter() - began, f"llama-cpp-python {llama_cpp.__version__}"
        self.features = llama_cpp.llama_print_system_info().decode()
        self.logits = lambda: np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.model.ctx, -1), (self.model.n_vocab(),))

    def begin(self, ids: list[int]) -> Any:
        self.model.reset()
        self.model.eval(ids)
        return self.logits()

    def advance(self, token: int) -> Any:
        self.model.eval([token])
        return self.logits()


class Side:
    """What a process answers."""

    def __init__(self, side: Any):
        self.side = side

    def about(self) -> dict[str, Any]:
        names = ("version", "loading", "engine")
        return {**{name: getattr(self.side, name) for name in names}, "features": getattr(self.side, "features", "")}

    def ids(self, text: str) -> list[int]:
        return self.side.ids(text)

    def read(self, ids: list[int]) -> float:
        """Seconds of a token of the prompt."""
        began = time.perf_counter()
        self.side.begin(ids)
        return (time.perf_counter() - began) / len(ids)

    def write(self, ids: list[int], count: int) -> tuple[float, list[int]]:
        """Seconds of a token behind the prompt, and the tokens."""
        tokens = [int(self.side.begin(ids).argmax())]
        began = time.perf_counter()
        for _ in range(count):
            tokens.append(int(self.side.advance(tokens[-1]).argmax()))
        return (time.perf_counter() - began) / count, tokens

    def steps(self, ids: list[int], count: int) -> float:
        return self.side.steps(ids, count)

    def memory(self) -> float | None:
        return memory()


def memory() -> float | None:
    """MB that the process has held at its peak, where the system tells."""
    try:
        lines = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    except OSError:
        return None
    return int(lines[0].split()[1]) / 1024


def serve(side: str, path: str, threads: int) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr
    process = Side({"zoo": Zoo, "llama.cpp": Llama}[side](path, threads))
    for line in sys.stdin:
        request, arguments = json.loads(line)
        answers.write(json.dumps(getattr(process, request)(*arguments)) + "\n")
        answers.flush()


class Process:
    def __init__(self, python: str, side: str, path: str, threads: int):
        self.name = f"{side}, {threads} thread{'s' if threads > 1 else ''}"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        paths = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen([python, __file__, "--serve", side, path, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**environment, "PYTHONPATH": paths})

    def ask(self, request: str, *arguments: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([request, arguments]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name}: the process ended while it was asked to {request}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.communicate()


def processor() -> str:
    return f"{processor_name()}, {os.cpu_count()} cores, {', '.join(processor_features())}"


def has_llama(python: str) -> bool:
    return subprocess.run([python, "-c", "import llama_cpp"], capture_output=True).returncode == 0


def compare(sides: list[Process], rounds: int, length: int) -> dict[str, dict[str, Any]]:
    ids = sides[0].ask("ids", PROMPT * (length // 8))[:length]
    short = ids[:8]
    figures: dict[str, dict[str, Any]] = {side.name: {"read": [], "write": [], "steps": []} for side in sides}
    for i in range(rounds + 1):  # the first isn't counted
        for side in sides:
            read, (write, tokens) = side.ask("read", ids), side.ask("write", short, WRITTEN)
            steps = side.ask("steps", short, WRITTEN) if side.name.startswith("zoo") else None
            if i:
                figures[side.name]["read"].append(read)
                figures[side.name]["write"].append(write)
                figures[side.name]["steps"] += [] if steps is None else [steps]
            figures[side.name]["tokens"] = tokens
    for side in sides:
        side.ask("write", ids, CONTEXT - len(ids) - 1 if side.name == sides[0].name else WRITTEN)  # the first side fills its context
        figures[side.name] |= {"memory": side.ask("memory"), **side.ask("about")}
        for name in ("read", "write", "steps"):
            seconds = figures[side.name][name]
            figures[side.name][name] = 1 / median(seconds) if seconds else None
    return figures


def loading(python: str, side: str, path: str, rounds: int) -> float:
    """Seconds of the call that loads the model, in fresh processes: the median."""
    seconds = []
    for _ in range(rounds):
        process = Process(python, side, path, 2)
        seconds.append(process.ask("about")["loading"])
        process.close()
    return median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a GGUF file; without it SmolLM2, as zoo get smollm2 fetches it")
    parser.add_argument("--llama-python", default=sys.executable, help="the Python that has llama-cpp-python")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", help="write the figures here as well")
    options = parser.parse_args()
    if options.model is None:
        from zoo.loading.get import downloaded

        file = downloaded("smollm2")
        if file is None:
            parser.error("SmolLM2 isn't there: zoo get smollm2, or give --model")
        options.model = str(file)
    pythons = {"zoo": sys.executable}
    if has_llama(options.llama_python):
        pythons["llama.cpp"] = options.llama_python
    else:
        print("llama-cpp-python isn't here: left out")
    print(processor(), f"Python {platform.python_version()}", sep="\n")
    size = Path(options.model).stat().st_size / 2**20
    loads = {side: loading(python, side, options.model, 3) for side, python in pythons.items()}
    sides = [Process(python, side, options.model, threads) for threads in options.threads for side, python in pythons.items()]
    figures = compare(sides, options.rounds, options.prompt_tokens)
    for side in sides:
        side.close()
    print(*dict.fromkeys(f"{f['version']}  {f['features']}".strip() for f in figures.values()), sep="\n")
    print(f"\n{Path(options.model).name}, {size:.0f} MB; prompts of {options.prompt_tokens} tokens\n")
    print(f"{'tokens per second':24}{'reading':>9}{'writing':>9}{'steps':>8}   memory at its peak, MB: library, model and context")
    for name, f in figures.items():
        steps = f"{f['steps']:8.1f}" if f["steps"] else " " * 8
        held = f"{f['engine']:.0f} + {f['memory'] - f['engine']:.0f}" if f["memory"] else ""
        print(f"{name:24}{f['read']:9.1f}{f['write']:9.1f}{steps}   {held}")
    if "llama.cpp" in pythons:
        for threads in options.threads:
            ours, theirs = (next(f for name, f in figures.items() if name.startswith(f"{side}, {threads} ")) for side in pythons)
            same = next((i for i, (a, b) in enumerate(zip(ours["tokens"], theirs["tokens"])) if a != b), len(ours["tokens"]))
            print(f"{threads} thread{'s' if threads > 1 else ''}: zoo reads at {ours['read'] / theirs['read']:.2f} and writes at "
                  f"{ours['write'] / theirs['write']:.2f} times llama.cpp's speed; the first {same} of {WRITTEN + 1} greedy tokens agree")
    print(", ".join(f"{side} loads in {seconds:.2f} s" for side, seconds in loads.items()))
    if options.json:
        Path(options.json).write_text(json.dumps({"processor": processor(), "loading": loads, "figures": figures}, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
