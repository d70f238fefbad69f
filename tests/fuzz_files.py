"""Damaged and hostile files through every reader: each must load, or end in one line that names the file, in bounded time and memory.

    python tests/fuzz_files.py --files 20000 --seed 1

Valid folders and files are written, then broken: bytes flipped, cut, repeated or replaced; values of JSON and of a safetensors header
exchanged for others of every type and size; whole files exchanged for those of another kind.  Every third is a crafted one
(crafted_files.py): a pipe, a device or a folder in the place of a file, a header with numbers that can't be, and in the end each bomb once.
A file fails where the error is another than ValueError or OSError, has several lines or more than 200 characters besides the file's name,
or doesn't name it; where a warning is printed; and where reading takes more than 2 s of processor time, or more than 512 MB beyond the
file's size.  The suite runs a few hundred (test_files.py).
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gzip
import json
import os
import random
import shutil
import signal
import stat
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from crafted_files import BOMBS, HEADERS, Case, replace

import zoo
from zoo.autoencoder import Autoencoder
from zoo.data import load_images, load_text
from zoo.diffusion import Diffusion
from zoo.evaluation.classifier import Classifier
from zoo.gan import GAN
from zoo.inspection.catalogue import info
from zoo.inspection.sharing import read_shared
from zoo.inspection.watching import Watcher, read_run
from zoo.language.corpus import read_corpus
from zoo.language.tokenizer import BytePairTokenizer
from zoo.loading.gguf_models import write_model
from zoo.loading.hugging_face import write_folder
from zoo.optim import Adam
from zoo.recurrent import Recurrent
from zoo.storage import load_checkpoint, read_tensors, save_checkpoint, write_tensors
from zoo.training import Trainer
from zoo.transformer import Transformer
from zoo.vae import VAE
from zoo.vqvae import VQVAE

SECONDS, MEGABYTES, PATIENCE_SECONDS = 2.0, 512, 20
TEXT = "the cat sat on the mat; don't the cats' 12 hats sit there? na\u00efve caf\u00e9 \u65e5\u672c\u8a9e \n\n the end" * 3
NASTY: list[Any] = [None, True, False, 0, -1, 1, 2, 3.7, 1e400, -1e400, float("nan"), 10**6, 10**9, 10**12, 10**18, 10**30, 10**300, "", "x", "1",
                    "\ud800", "a\0b", "/dev/zero", "../../etc/passwd", "x" * 5000, [], [[]], [0], [1, 2, 3], [None], ["x"], {}, {"a": 1},
                    [10**18] * 40, ["(a+)+$"], "(a+)+$", {"Regex": "(a|a)*b"}, [[["x"]]], [0] * 2000]


def _text_model(kind: str, folder: Path) -> None:
    tokenizer = BytePairTokenizer.train(TEXT, 280, ["<|begin|>", "<|end|>"])
    fields: dict[str, Any] = {"symbols": tokenizer.size, "window": 16, "layers": 2, "heads": 2, "width": 8}
    if kind == "llama":
        fields |= {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "tied": False, "key_value_heads": 1}
    model = Transformer.new(seed=1, **fields)
    model.tokenizer, model.begin_id, model.end_ids = tokenizer, tokenizer.special["<|begin|>"], (tokenizer.special["<|end|>"],)
    write_folder(model, folder)
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}")


def _shards(folder: Path) -> None:
    _text_model("llama", folder)
    arrays = read_tensors(folder)
    (folder / "model.safetensors").unlink()
    names = sorted(arrays)
    for file, part in (("a.safetensors", names[::2]), ("b.safetensors", names[1::2])):
        write_tensors(folder / file, {name: arrays[name] for name in part})
    index = {name: "a.safetensors" if i % 2 == 0 else "b.safetensors" for i, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def _gpt2_files(folder: Path) -> None:
    _text_model("gpt2", folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|begin|>"}))
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    (folder / "vocab.json").write_text(json.dumps({**content["model"]["vocab"], **added}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in content["model"]["merges"]))


def _card(make: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda folder: make().save(folder)


def _character_model() -> Any:
    model = Recurrent.new(symbols=4, width=6, seed=0)
    model.tokenizer = zoo.language.tokenizer.CharTokenizer("abc\n")
    return model


def _pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 6, 5), dtype=np.uint8)


def _idx(a: np.ndarray) -> bytes:
    return bytes([0, 0, 8, a.ndim]) + struct.pack(f">{a.ndim}I", *a.shape) + a.tobytes()


def _idx_folder(folder: Path) -> None:
    labels = np.arange(12, dtype=np.uint8) % 3
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(_pixels()), mtime=0))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(_idx(labels))


def _pictures(folder: Path) -> None:
    from PIL import Image

    for i, pixels in enumerate(_pixels()[:6]):
        (folder / f"class {i % 2}").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"class {i % 2}" / f"{i}.png")


def _npz(folder: Path) -> None:
    np.savez_compressed(folder / "x.npz", x_train=_pixels(), y_train=np.arange(12), x_test=_pixels(), y_test=np.arange(12))


def _jsb(folder: Path) -> None:
    (folder / "x.json").write_text(json.dumps({part: [[[60, 64], [62], [-1]], [[48]]] for part in ("train", "valid", "test")}))


def _gguf(folder: Path) -> None:
    _text_model("llama", folder / "model")
    write_model(zoo.load(folder / "model"), folder / "x.gguf")
    shutil.rmtree(folder / "model")


def _trainer(folder: Path, **options: Any) -> Trainer:
    model = VAE.new(image=(4, 4), hidden=(6,), latent=(2,), seed=0)
    batches = lambda step, rng: rng.random((3, 4, 4), np.float32)
    return Trainer(model, model.loss, batches, Adam(model.parameters(), 1e-3), steps=3, folder=folder, **options)


def _run(folder: Path) -> None:
    trainer = _trainer(folder)
    next(iter(trainer))
    trainer.checkpoint()


def _watched(folder: Path) -> None:
    trainer = _trainer(folder)
    trainer.on_step = Watcher(trainer)
    trainer.run(progress=False)
    (folder / "checkpoint.safetensors").unlink()


def _encoded(tokenizer: BytePairTokenizer) -> Any:
    return tokenizer.decode(tokenizer.encode(TEXT)), tokenizer.encode("a<|end|>" * 9, special=True)


CASES = {
    "safetensors": Case(lambda f: write_tensors(f / "x.safetensors", {"a": np.ones((3, 2), "f4"), "b": np.arange(4)}, {"k": "v"}),
                        lambda f: read_tensors(f / "x.safetensors")),
    "checkpoint": Case(lambda f: save_checkpoint(f / "x.ckpt", {"step": 3, "a": [np.ones(3), {"b": None}], "c": "x"}),
                       lambda f: load_checkpoint(f / "x.ckpt")),
    "vae": Case(_card(lambda: VAE.new(image=(4, 4), hidden=(6,), latent=(2,), seed=0)), zoo.load),
    "autoencoder": Case(_card(lambda: Autoencoder.new(image=(4, 4), hidden=(6,), latent=2, seed=0)), zoo.load),
    "vqvae": Case(_card(lambda: VQVAE.new(image=(28, 28), channels=2, codes=4, width=2, prior_width=4, prior_layers=1, prior_heads=1, seed=0)), zoo.load),
    "gan": Case(_card(lambda: GAN.new(image=(4, 4), network="dense", hidden=(6,), discriminator_hidden=(6,), latent=2, seed=0)), zoo.load),
    "diffusion": Case(_card(lambda: Diffusion.new(image=(2,), network="dense", channels=4, blocks=1, seed=0)), zoo.load),
    "unet": Case(_card(lambda: Diffusion.new(image=(8, 8), channels=8, multipliers=(1,), heads=1, seed=0)), zoo.load),
    "classifier": Case(_card(lambda: Classifier.new(image=(8, 8), channels=2, features=4, seed=0)), zoo.load),
    "info": Case(_card(lambda: VAE.new(image=(4, 4), hidden=(6,), latent=(2,), seed=0)), info),
    "run": Case(_run, lambda f: _trainer(f, resume=True)),
    "gguf": Case(_gguf, lambda f: zoo.load(f / "x.gguf")),
    "recurrent": Case(_card(_character_model), zoo.load),
    "gpt2": Case(lambda f: _text_model("gpt2", f), zoo.load),
    "llama": Case(lambda f: _text_model("llama", f), zoo.load),
    "shards": Case(_shards, zoo.load),
    "tokenizer": Case(lambda f: _text_model("gpt2", f), lambda f: _encoded(BytePairTokenizer.read(f))),
    "vocabulary": Case(_gpt2_files, lambda f: _encoded(BytePairTokenizer.read(f))),
    "idx": Case(_idx_folder, load_images),
    "npz": Case(_npz, lambda f: load_images(f / "x.npz")),
    "pictures": Case(_pictures, load_images),
    "jsb": Case(_jsb, lambda f: read_corpus(f / "x.json")),
    "settings of a page": Case(lambda f: (f / "x.json").write_text(json.dumps({"zoo": "play", "version": 1, "model": "vae", "runs": [{"seed": 3}]})),
                               lambda f: read_shared(f / "x.json")),
    "watched run": Case(_watched, read_run),
    "text": Case(lambda f: (f / "x.txt").write_text(TEXT, encoding="utf-8"), lambda f: load_text(f / "x.txt")),
}


# --- breaking files


def broken(content: bytes, name: str, rng: random.Random) -> bytes:
    """One of many ways to break a file."""
    way = rng.random()
    if name.endswith(".json") and way < 0.7:
        return broken_json(content, rng)
    if name.endswith((".safetensors", ".ckpt")) and way < 0.6 and len(content) < 10**7:
        return broken_header(content, rng)
    if way > 0.97:
        return rng.choice([b"", b"\0" * 64, b"\xff" * 64, b"{", b"[" * 100_000, b"{}", b"[]", b"null", b"PK\x03\x04" + b"\0" * 40, b"\x1f\x8b" + b"\0" * 40,
                           b"\x93NUMPY\x01\0v\0{'descr': '<u1', 'shape': (1", b"\x89PNG\r\n\x1a\n", b"GGUF", b"a b\nc", b"\x80\x02}q\0."])
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        if not data:
            break
        at = rng.randrange(len(data))
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + rng.choice([1, 4, 50])]
        elif kind == 4:
            data[at:at] = data[at : at + rng.choice([1, 8, 60])]
        else:
            data[at : at + 4] = struct.pack(rng.choice(["<I", ">I"]), rng.choice([0, 1, 2**31, 2**32 - 1, rng.randrange(2**32)]))
    return bytes(data)


def broken_json(content: bytes, rng: random.Random) -> bytes:
    tree = json.loads(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        places = list(_places(tree))
        if not places:
            break
        holder, key = rng.choice(places if rng.random() < 0.3 else places[:60])  # mostly near the top: a vocabulary is long
        if rng.random() < 0.12:
            del holder[key]
        elif rng.random() < 0.12 and isinstance(holder, dict):
            holder[str(rng.choice(NASTY))[:50]] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(rng.choice(NASTY))
    return json.dumps(tree).replace("1e+400", "1e400").encode("utf-8", "surrogatepass")


def _places(tree: Any) -> Any:
    """(holder, key) of everything inside, level by level."""
    level = [tree]
    while level:
        below = []
        for holder in level:
            for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
                yield holder, key
                if isinstance(holder[key], (dict, list)):
                    below.append(holder[key])
        level = below


def broken_header(content: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = broken_json(content[8 : 8 + length], rng)
    stated = len(header) if rng.random() < 0.9 else rng.choice([0, 1, 2**40, 2**63, len(header) - 1])
    return (stated % 2**64).to_bytes(8, "little") + header + content[8 + length :]


# --- judging


def verdict(case: Case, folder: Path) -> str | None:
    """What is wrong with how a folder is read, or None."""
    states = [os.lstat(os.path.join(place, name)) for place, _, names in os.walk(folder) for name in names]  # rglob ends at a link to too long a name
    size = sum(state.st_size for state in states if stat.S_ISREG(state.st_mode))
    before = _reset_peak()
    began = time.process_time()
    fault = None
    try:
        with warnings.catch_warnings(), _in_time():
            warnings.simplefilter("error")
            case.read(folder)
    except (ValueError, OSError) as error:
        text = str(error)
        if not text.isprintable():
            fault = f"several lines: {text[:80]!r}"
        elif str(folder) not in text:
            fault = f"no file name: {type(error).__name__}: {text[:150]}"
        elif len(text.partition(": ")[2]) > 200:
            fault = f"{len(text)} characters: {text[:150]}"
    except (Exception, TooLong) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        fault = f"{type(error).__name__} ({str(error)[:60]}) in {Path(last.filename).name}:{last.lineno}"
    seconds, megabytes = time.process_time() - began, (_peak() - before - size) / 1e6
    if fault is None and seconds > SECONDS:
        fault = f"{seconds:.1f} s"
    if fault is None and megabytes > MEGABYTES:
        fault = f"{megabytes:.0f} MB"
    return fault


class TooLong(BaseException):
    """Reading didn't come to an end.  No reader catches it."""


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """Raise TooLong where what is inside waits for ever."""

    def stop(number: int, frame: Any) -> None:
        raise TooLong(f"more than {PATIENCE_SECONDS} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS, PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _reset_peak() -> int:
    """Resident bytes; where the system can, the peak is counted from here."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
    return _peak()


def _peak() -> int:
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):
        return 0


def run(files: int, seed: int, work: Path, keep: Path | None = None, bombs: bool = True) -> Counter[tuple[str, str]]:
    """So many broken and crafted files, and then each bomb; {(case, fault): count}."""
    faults: Counter[tuple[str, str]] = Counter()
    originals, folder = work / "originals", work / "broken"
    for name, case in CASES.items():
        (originals / name).mkdir(parents=True)
        case.write(originals / name)
        fault = verdict(case, originals / name)
        if fault:
            faults[name, f"the original: {fault}"] += 1
    names, headers = list(CASES), list(HEADERS)
    for i in range(files):
        rng = random.Random(seed * 1_000_003 + i)
        shutil.rmtree(folder, ignore_errors=True)
        if i % 3 == 2 and rng.random() < 0.6:
            name = headers[i // 3 % len(headers)]
            folder.mkdir()
            HEADERS[name][0](folder, rng)
            case = Case(lambda folder: None, HEADERS[name][1])
        else:
            name = names[i % len(names)]
            case = CASES[name]
            shutil.copytree(originals / name, folder)
            file = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
            if i % 3 == 2:
                name = f"{name}, {replace(file, rng)}"
            elif rng.random() < 0.03:
                file.write_bytes(rng.choice(sorted(path for path in originals.rglob("*") if path.is_file())).read_bytes())
            else:
                file.write_bytes(broken(file.read_bytes(), file.name, rng))
        fault = verdict(case, folder)
        if fault:
            faults[name, fault.replace(str(folder), "FOLDER")] += 1
            if keep is not None:
                shutil.copytree(folder, keep / f"{name}-{seed}-{i}", dirs_exist_ok=True, symlinks=True)
    for name, case in BOMBS.items() if bombs else ():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        case.write(folder)
        fault = verdict(case, folder)
        if fault:
            faults[name, fault.replace(str(folder), "FOLDER")] += 1
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-bombs", action="store_true", help="which take gigabytes to unpack where they aren't refused")
    parser.add_argument("--keep", type=Path, help="a folder for the files that fail")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        faults = run(options.files, options.seed, Path(work), options.keep, not options.without_bombs)
    for (name, fault), count in faults.most_common():
        print(f"{count:6}  {name:24} {fault}")
    print(f"{options.files:,} files from seed {options.seed}, {time.perf_counter() - began:.0f} s: {sum(faults.values())} not clear")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
