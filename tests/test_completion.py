"""Completion of the shell, and settings that come from a card."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

import zoo
from zoo.__main__ import main, make_parser
from zoo.recipes.completion import commands_of, script


def completed(line: str) -> list[str]:
    """What bash offers after this line, whose last word is begun."""
    words = line.split(" ")
    array = " ".join(f"'{word}'" for word in words)
    program = f'{script("bash", make_parser())}\nCOMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; _zoo; printf "%s\\n" "${{COMPREPLY[@]}}"'
    return subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash isn't installed")
@pytest.mark.parametrize(("line", "expected"), [
    ("zoo sam", ["sample"]),
    ("zoo sample vae-i", ["vae-iwae5"]),
    ("zoo sample vae --st", ["--steps"]),
    ("zoo train vae --activ", ["--activation"]),
    ("zoo train gan --activ", []),
    ("zoo train gan --packi", ["--packing"]),
    ("zoo train dif", ["diffusion"]),
    ("zoo completion z", ["zsh"]),
])
def test_bash_completes_commands_models_options_and_fields(line, expected):
    assert completed(line) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_names_every_command_and_every_option_and_the_shell_can_read_it(shell, tmp_path):
    text = script(shell, make_parser())
    for command in commands_of(make_parser()):
        assert command.name in text
        for word in command.words:
            assert (f"-l {word.text[2:]}" if shell == "fish" and word.text.startswith("--") else word.text.lstrip("-")) in text
    if shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(text)
        subprocess.run([shell, "-n", str(path)], check=True)


def test_zoo_completion_prints_the_script(capsys):
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out.strip() == script("bash", make_parser())


# --- zoo train --config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "first"
    assert main(["train", "vae", "--data", "digits8x8", "--hidden", "12", "--latent", "3", "--epochs", "1", "--batch-size", "200", "--seed", "4",
                 "--out", str(folder), "--quiet"]) == 0
    return folder


def test_a_run_from_a_card_gives_the_same_weights_bit_for_bit(run, tmp_path):
    assert main(["train", "--config", str(run / "card.json"), "--out", str(tmp_path / "second"), "--quiet"]) == 0
    first, second = zoo.load(run), zoo.load(tmp_path / "second")
    assert first.config == second.config
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name])


def test_options_change_what_a_card_says(run, tmp_path):
    assert main(["train", "vae", "--config", str(run), "--latent", "2", "--out", str(tmp_path / "changed"), "--quiet"]) == 0
    changed = zoo.load(tmp_path / "changed")
    assert changed.config.latent == (2,) and changed.config.hidden == (12,)


def test_a_card_of_a_text_takes_its_symbols_from_the_data(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("abcd efgh\n" * 200)
    common = ["--data", str(text), "--quiet"]
    assert main(["train", "recurrent", "--width", "8", "--steps", "2", "--batch-size", "2", "--out", str(tmp_path / "first"), *common]) == 0
    assert main(["train", "--config", str(tmp_path / "first"), "--out", str(tmp_path / "second"), *common]) == 0
    assert zoo.load(tmp_path / "second").tokenizer.decode([0, 1]) == zoo.load(tmp_path / "first").tokenizer.decode([0, 1])


@pytest.mark.parametrize(("change", "message"), [
    ({"kind": "cat"}, "kind is"),
    ({"configuration": 3}, "configuration is"),
    ({"configuration": {"latnt": 3}}, "latnt"),
    ({"training": {"epochs": "many"}}, "epochs"),
    ({"seed": "x"}, "seed is"),
])
def test_a_card_that_is_wrong_is_answered_by_one_line(run, tmp_path, capsys, change, message):
    card = tmp_path / "card.json"
    card.write_text(json.dumps({**json.loads((run / "card.json").read_text()), **change}))
    assert main(["train", "--config", str(card), "--out", str(tmp_path / "none"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_train_without_a_kind_or_with_two_is_answered_by_one_line(run, capsys):
    for arguments, message in ((["train"], "name the kind"), (["train", "gan", "--config", str(run)], "not 'gan'"),
                               (["train", "--config", str(run), "--preset", "iwae5"], "--preset")):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
