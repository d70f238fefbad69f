"""benchmarks/words.py and `zoo evaluate`: figures of any runs that are given, each beside its floor."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.__main__ import main
from zoo.data import glyphs as fonts
from zoo.data import scenes as grammar
from zoo.data import speech
from zoo.data.emoji import Emoji
from zoo.multimodal import evaluation
from zoo.multimodal.captions import Captions
from zoo.multimodal.contrastive import Contrastive
from zoo.multimodal.dalle import Dalle
from zoo.multimodal.glyphs import GlyphJudge, Glyphs
from zoo.multimodal.scene_judge import SceneJudge
from zoo.multimodal.speech import Speech
from zoo.multimodal.speech_judge import SpeechJudge
from zoo.multimodal.words import Words
from zoo.recipes import words as scenes
from zoo.recipes.speech import SpokenWords
from zoo.storage import read_json
from zoo.vqvae import VQVAE

FILE = Path(__file__).parent.parent / "benchmarks" / "words.py"


def test_all_rows_of_scenes_are_computed_from_folders(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("benchmark_words", FILE)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(evaluation, "TRAINING_SCENES", 50)
    small = {"channels": 8, "text_width": 8, "text_blocks": 1, "text_heads": 2}
    models = {"words": Words.for_data("", multipliers=(1, 2), unshuffle=2, evaluations=2, sampler="euler", **small),
              "scene_judge": SceneJudge.new(channels=2, features=4), "captions": Captions.for_data("", channels=2, width=8, blocks=1, heads=1),
              "contrastive": Contrastive.for_data("", **{**small, "channels": 2})}
    arguments = ["--n", "6", "--json", str(tmp_path / "figures.json")]
    for name, model in models.items():
        model.save(tmp_path / name)
        arguments += [f"--{name.replace('_', '-')}", str(tmp_path / name)]
    benchmark.main(arguments)
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    for split in ("in distribution", "held out"):
        assert all(f"{row}, all, {split}" in figures["scenes"] for row in ("samples", "floor", "nearest neighbour", "without text"))
        assert any(f"samples, all, {split}, {n} digit" in name for name in figures["scenes"] for n in range(1, 5))
    assert "exact" in figures["captions"] and "zero-shot MNIST" in figures["contrastive"]
    assert len(capsys.readouterr().out.splitlines()) == 1 + sum(map(len, figures.values()))
    JUDGES["glyph_judge"]().save(tmp_path / "glyph_judge")  # alone: what the font and the nearest name are worth
    monkeypatch.setattr(fonts, "glyphs", lambda pairs, styles=(), drawn=fonts.glyphs("all", ["mono"]): drawn)
    benchmark.main(["--glyph-judge", str(tmp_path / "glyph_judge"), "--n", "5"])
    assert "floor, base, held out" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        benchmark.main(["--glyphs", "x"])


def test_emoji_are_judged_and_drawn_on_a_sheet(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("benchmark_words", FILE)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    few = Emoji(np.random.default_rng(0).random((12, 32, 32, 3)).astype(np.float32), [f"flag: {i}" for i in range(12)], [[]] * 12, list("x" * 12))
    monkeypatch.setattr(benchmark, "emoji", lambda font="google": few)
    Words.for_data(few, **SMALL).save(tmp_path / "words")
    Contrastive.for_data(few, channels=2, text_width=8, text_blocks=1, text_heads=2).save(tmp_path / "judge")
    benchmark.main(["--emoji", str(tmp_path / "words"), "--emoji-judge", str(tmp_path / "judge"), "--sheet", str(tmp_path / "sheet.png")])
    assert "among the first 10" in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (1650, 1875)
    for wrong in (["--emoji", "x"], ["--sheet", "y"]):
        with pytest.raises(SystemExit):
            benchmark.main(wrong)


SMALL = {"channels": 8, "text_width": 8, "text_blocks": 1, "text_heads": 2, "evaluations": 2, "sampler": "euler", "multipliers": (1, 2), "unshuffle": 2}
JUDGES = {"scene_judge": lambda: SceneJudge.new(channels=2, features=4),
          "glyph_judge": lambda: GlyphJudge.for_data(fonts.glyphs("all", ["mono"]), channels=2, features=4)}


def a_vqvae() -> str:
    """The folder of one with all its codes in use, here."""
    model = VQVAE.new(image=(32, 32, 3), channels=4, codes=12, width=4, binarise=False, prior_layers=1, prior_heads=1, prior_width=8)
    model.loss(grammar.captioned_digits(16, 0).pictures, np.random.default_rng(0))
    model.save("vqvae")
    return "vqvae"


@pytest.mark.parametrize("make, data, options, figure", [
    (lambda: Words.for_data("", **SMALL), scenes.SCENES, ["--judge", "scene_judge"], "samples, all, held out"),
    (lambda: Words.for_data("", **{**SMALL, "unshuffle": 1}, autoencoder=a_vqvae()), scenes.SCENES, ["--judge", "scene_judge"],
     "autoencoder, all, held out"),
    (lambda: Dalle.for_data("", width=8, blocks=1, text_blocks=1, heads=2, autoencoder=a_vqvae()), scenes.SCENES, ["--judge", "scene_judge"],
     "autoencoder, digit, in distribution"),
    (lambda: Glyphs.for_data(fonts.glyphs("all", ["mono"]), **SMALL), "dejavu:mono", ["--judge", "glyph_judge"], "samples, base, held out"),
    (lambda: Captions.for_data("", channels=2, width=8, blocks=1, heads=1), scenes.SCENES, [], "exact, held out"),
    (lambda: Contrastive.for_data("", channels=2, text_width=8, text_blocks=1, text_heads=2), scenes.SCENES, [], "zero-shot MNIST"),
    (JUDGES["scene_judge"], scenes.SCENES, [], "colour"),
    (JUDGES["glyph_judge"], "dejavu:mono", [], "floor, base, held out"),
], ids=["words", "words in latents", "dalle", "glyphs", "captions", "contrastive", "scene_judge", "glyph_judge"])
def test_each_model_of_words_is_evaluated_from_the_command_line(make, data, options, figure, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation, "TRAINING_SCENES", 50)
    make().save("run")
    for name in options[1:]:
        JUDGES[name]().save(name)
    assert main(["evaluate", "run", "--data", data, *options, "--n", "5", "--out", "kept"]) == 0
    assert figure in capsys.readouterr().out
    assert 0 <= read_json("kept/card.json")["figures"][figure] <= 1
    rows = zoo.load("kept").summary().rows
    assert sum(row.output is not None for row in rows) > 2 * len(rows) / 3


def test_a_judge_of_another_kind_is_refused_before_anything_is_drawn(tmp_path, monkeypatch):
    model = Words.for_data("", **SMALL)
    monkeypatch.setattr(model, "sample", None)
    Captions.for_data("", channels=2, width=8, blocks=1, heads=1).save(tmp_path / "captions")
    for judge, error, message in ((tmp_path / "captions", ValueError, "is of kind 'captions'; it must be a scene_judge"),
                                  ("nobody", FileNotFoundError, "neither a folder nor a scene_judge that ships"), (3, ValueError, "judge: is 3")):
        with pytest.raises(error, match=message):
            model.evaluate(scenes.SCENES, judge=judge)
    with pytest.raises(ValueError, match="n is 0"):
        model.evaluate(scenes.SCENES, n=0, judge=JUDGES["scene_judge"]())


def test_speech_is_evaluated_beside_its_floor(tmp_path, monkeypatch):
    words = [(word, k) for k in range(12) for word in speech.DIGITS]
    waves = np.random.default_rng(0).uniform(-0.5, 0.5, (len(words), 8064)).astype(np.float32)
    asked = []

    def spoken_words(wanted=speech.DIGITS, takes=4, seed=0, *, voices="seen"):
        asked.append((takes, seed, voices))
        return speech.Spoken(np.roll(waves, seed, 1), tuple(word for word, _ in words), ("man",) * len(words), ("nobody",) * len(words))

    monkeypatch.setattr(speech, "spoken_words", spoken_words)
    model = Speech.for_data(None, **{**SMALL, "channels": 8})
    judge = SpeechJudge.for_data(None, channels=2, features=3)
    figures = model.evaluate(n=20, seed=3, judge=judge)
    assert asked == [(8, 5003, "seen"), (8, 6003, "seen"), (2, 3, "held out")]
    assert 0 <= figures["samples, heard right"] <= 1 and figures["frechet_floor"] >= 0 and np.isfinite(figures["frechet_ratio"])
    assert figures["frechet_griffin_lim"] != figures["frechet_floor"] and figures["frechet_griffin_lim"] >= 0  # the way back leaves traces
    assert figures["frechet_ratio"] == figures["frechet"] / max(figures["frechet_floor"], 1e-12)
    monkeypatch.setattr(model, "sample", lambda n=None, seed=0, *, prompt, **_: list(waves[: len(prompt)]))
    monkeypatch.setattr(judge, "hear", lambda waves: [("three", "man")] * len(waves))
    assert model.evaluate(n=20, seed=3, judge=judge)["samples, heard right"] == 0.1  # every digit is asked for twice
    recorded = SpokenWords("mine", waves[:10], speech.DIGITS, waves[10:20], speech.DIGITS)
    assert judge.evaluate(recorded) == {"words": 0.1} and len(asked) == 6
