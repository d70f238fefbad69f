"""How long one waits: `import zoo`, the first sample and the first training step, with an empty cache of kernels and with a full one.

    python benchmarks/start.py [--models vae,gan] [--json FILE]

Each figure is a fresh process.  The models are untrained and of their default size, so that nothing has to be shipped for this.
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
STEP = {"vae": "vae", "gan": "dcgan", "diffusion": "unet", "transformer": "gpt-small", "recurrent": "lstm"}  # cases of cases.py
TRAIN = """
import sys; sys.path.insert(0, {folder!r})
import cases, zoo_steps
case = cases.CASES[{case!r}]
_, step = getattr(zoo_steps, case.kind)(cases.batch(case.kind, case.sizes), **case.sizes)
step()
"""


def seconds(code: str, cache: str | None = None) -> float:
    """How long a fresh interpreter takes for it, from start to end."""
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    if cache:
        environment["NUMBA_CACHE_DIR"] = cache
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import numpy as np\n{code}"], env=environment, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default=",".join(SAMPLE), help="comma-separated")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args()
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
        for name, code in (("sample", SAMPLE[model]), ("step", TRAIN.format(folder=str(Path(__file__).resolve().parent), case=STEP[model]))):
            with tempfile.TemporaryDirectory() as cache:
                row[name] = [seconds(code, cache), min(seconds(code, cache) for _ in range(3))]
        report[model] = row
        print(f"{model:14} {row['sample'][0]:13.2f} {row['sample'][1]:7.2f} {row['step'][0]:20.2f} {row['step'][1]:7.2f}", flush=True)
    report["load_after"] = os.getloadavg()
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
