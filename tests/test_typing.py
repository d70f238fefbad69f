"""What an editor and mypy know of models: the fields of `new`, and what `load` returns."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import typed_fields

import zoo
from zoo.loading.cards import KINDS, load
from zoo.loading.get import DOWNLOADS
from zoo.storage import CARD, SHIPPED, read_json

ROOT = Path(__file__).resolve().parent.parent


def test_the_types_of_keywords_are_those_of_the_configurations():
    """`python tests/typed_fields.py` writes them anew."""
    assert typed_fields.TARGET.read_text(encoding="utf-8") == typed_fields.text()


def test_load_names_every_model_and_its_class():
    """The overloads are written by hand, beside the code that they describe: each literal is a model of that class."""
    kinds = {name: module_and_class[1] for name, module_and_class in KINDS.items()}
    expected = {name: kinds[read_json(SHIPPED / name / CARD)["kind"]] for name in zoo.shipped()} | dict.fromkeys(DOWNLOADS, "Transformer")
    declared = {}
    for overload in typing.get_overloads(load):
        hint, result = overload.__annotations__["name_or_folder"], overload.__annotations__["return"]
        if hint.startswith("Literal["):
            declared |= {name.strip(" '\""): result for name in hint.removeprefix("Literal[").removesuffix("]").split(",")}
    assert declared == expected


@pytest.mark.parametrize(("module", "name"), KINDS.values(), ids=list(KINDS))
def test_new_takes_the_fields_of_its_own_configuration(module, name):
    """The overriding signature exists for type checkers only: the source says which fields it takes."""
    source = Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8")
    assert f"def new(cls, *, seed: int = 0, **fields: Unpack[{name}Fields]) -> Self: ..." in source


RIGHT_AND_WRONG = '''
import zoo
from zoo.gan import GAN
from zoo.transformer import Transformer
from zoo.vae import VAE

VAE.new(latent=3, hidden=(200, 100), seed=1)
GAN.new(classes=10, loss=1)                        # error: "loss"
VAE.new(latnt=3)                                   # error: "latnt"
VAE.new(activation="relo")                         # error: "activation"
Transformer.new(width="wide")                      # error: "width"
reveal_type(VAE.new(latent=3))                     # note: zoo.vae.VAE
reveal_type(zoo.load("vae"))                       # note: zoo.vae.VAE
reveal_type(zoo.load("dit"))                       # note: zoo.diffusion.Diffusion
reveal_type(zoo.load("runs/mine"))                 # note: Any
zoo.load("vae").latent_use                         # error: "latent_use"
'''


def test_mypy_refuses_a_field_that_there_is_not_and_knows_what_load_returns(tmp_path):
    pytest.importorskip("mypy", reason="`make types` installs it")
    snippet = tmp_path / "snippet.py"
    snippet.write_text(RIGHT_AND_WRONG)
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--config-file", str(ROOT / "pyproject.toml"),
               "--cache-dir", str(ROOT / ".mypy_cache"), str(snippet)]
    report = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    said: dict[int, str] = {}
    for line in report.splitlines():
        if place := re.match(r".*snippet\.py:(\d+):", line):  # the folder may be an earlier one's: mypy's cache repeats what it said
            said[int(place[1])] = said.get(int(place[1]), "") + line
    for number, line in enumerate(RIGHT_AND_WRONG.splitlines(), 1):
        code, _, expected = line.partition("# ")
        if not expected:
            assert number not in said, said[number]
            continue
        kind, _, word = expected.partition(": ")
        assert number in said, f"mypy says nothing about {code.strip()}:\n{report}"
        assert f" {kind}: " in said[number] and word in said[number], said[number]
