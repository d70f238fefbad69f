"""How long one waits: `import zoo`, the first sample and the first training step, with an empty cache of kernels and with a full one.

    python benchmarks/start.py [--models vae,gan] [--json FILE]
    python benchmarks/start.py --record

Each figure is a fresh process.  The models that draw are untrained and of their default size, so that nothing has to be shipped for this; a
first step is that of a recipe, from reading the data to the weights.  --record writes which kernels each kind of model uses first, those that take
long to compile before the others, to zoo/autograd/runtime/first_use.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLE = {
    "vae": "from zoo.vae import VAE; VAE.new().sample(1)",
    "gan": "from zoo.gan import GAN; GAN.new().sample(1)",
    "diffusion": "from zoo.diffusion import Diffusion; Diffusion.new().sample(1)",
    "transformer": "from zoo.transformer import Transformer; m = Transformer.new(symbols=65)\n"
                   "x, s = m.begin(np.array([1]))\nfor _ in range(50): x, s = m.advance(int(x.argmax()), s)",
    "recurrent": "from zoo.recurrent import Recurrent; m = Recurrent.new(symbols=65)\n"
                 "x, s = m.begin(np.array([1]))\nfor _ in range(50): x, s = m.advance(int(x.argmax()), s)",
}
STEP = {"vae": None, "gan": "dcgan", "diffusion": None, "transformer": None, "recurrent": None}  # presets; None: the recipe's first
ALSO_RECORDED = {  # kinds of models for which "sample" is written down too
    "words": "import zoo; zoo.load('words').sample(prompt='a red seven', evaluations=2)",
    "glyphs": "import zoo; zoo.load('glyphs').sample(prompt='LATIN SMALL LETTER A', evaluations=2)",
    "speech": "import zoo; zoo.load('speech').sample(prompt='seven', evaluations=2)",
    "captions": "import zoo; zoo.load('captions').caption(np.zeros((1, 32, 32, 3), np.float32))",
    "vqvae": "from zoo.vqvae import VQVAE; VQVAE.new().reconstruct(np.zeros((1, 28, 28), np.float32))",
    "autoencoder": "from zoo.autoencoder import Autoencoder; Autoencoder.new().reconstruct(np.zeros((1, 28, 28), np.float32))",
}
TRAIN = """
from zoo.recipes import recipe_of
recipe = recipe_of({kind!r})
fields, training = recipe.settings({preset!r})
data = recipe.data(recipe.default_data)
next(iter(recipe.trainer(recipe.new(data, fields, 0), data, training)))
"""
RECORD = """
import json, sys, time
from zoo.autograd.runtime import ahead
from zoo.autograd.runtime.compiling import Separate
ahead.is_made_elsewhere = lambda missing: False
seconds, compiled = {{}}, Separate._compile
def compile_and_tell(self):
    began = time.process_time()
    try:
        return compiled(self)
    finally:
        if getattr(sys.modules[self.function.__module__], self.__name__, None) is self:  # else nobody finds it by its name
            seconds[f"{{self.function.__module__}}:{{self.__name__}}"] = time.process_time() - began
Separate._compile = compile_and_tell
{code}
print(json.dumps(sorted(seconds, key=lambda name: -seconds[name])))
"""
FIRST_USE = Path(__file__).resolve().parent.parent / "zoo/autograd/runtime/first_use.json"


def seconds(code: str, cache: str | None = None) -> float:
    """How long a fresh interpreter takes for it, from start to end."""
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    if cache:
        environment["NUMBA_CACHE_DIR"] = cache
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a package that was installed has its bytecode
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import numpy as np\n{code}"], env=environment, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def train(model: str) -> str:
    return TRAIN.format(kind=model, preset=STEP[model])


def record() -> None:
    """Write down which kernels are used first."""
    codes = {f"{kind}/sample": code for kind, code in {**SAMPLE, **ALSO_RECORDED}.items()} | {f"{kind}/train": train(kind) for kind in STEP}
    first_use = {}
    for use, code in codes.items():
        with tempfile.TemporaryDirectory() as cache:
            told = subprocess.run([sys.executable, "-c", f"import numpy as np\n{RECORD.format(code=code)}"], check=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True, env={**os.environ, "NUMBA_CACHE_DIR": cache})
        first_use[use] = json.loads(told.stdout.splitlines()[-1])
        print(f"{use}: {len(first_use[use])} kernels", flush=True)
    FIRST_USE.write_text(json.dumps(first_use, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default=",".join(SAMPLE), help="comma-separated")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--record", action="store_true", help="instead, write down which kernels are used first")
    options = parser.parse_args()
    if options.record:
        return record()
    models = options.models.split(",")
    unknown = [m for m in models if m not in SAMPLE]
    if unknown:
        parser.error(f"--models: {', '.join(unknown)} isn't among {', '.join(SAMPLE)}")
    interpreter = min(seconds("") for _ in range(5))  # with NumPy, which is imported in any case
    imported = min(seconds("import zoo") for _ in range(5))
    report: dict = {"load_before": os.getloadavg(), "import numpy": interpreter, "import zoo": imported - interpreter}
    print(f"import zoo: {report['import zoo']:.3f} s more than numpy's {interpreter:.3f} s")
    print(f"{'seconds':14} {'sample, cold':>13} {'warm':>7} {'training step, cold':>20} {'warm':>7}")
    for model in models:
        row = {}
        for name, code in (("sample", SAMPLE[model]), ("step", train(model))):
            with tempfile.TemporaryDirectory() as cache:
                row[name] = [seconds(code, cache), min(seconds(code, cache) for _ in range(3))]
        report[model] = row
        print(f"{model:14} {row['sample'][0]:13.2f} {row['sample'][1]:7.2f} {row['step'][0]:20.2f} {row['step'][1]:7.2f}", flush=True)
    report["load_after"] = os.getloadavg()
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
