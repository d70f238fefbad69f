"""benchmarks/words.py: figures of any runs that are given, each beside its floor."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from zoo.multimodal.captions import Captions
from zoo.multimodal.contrastive import Contrastive
from zoo.multimodal.scene_judge import SceneJudge
from zoo.multimodal.words import Words

FILE = Path(__file__).parent.parent / "benchmarks" / "words.py"


def test_all_rows_of_scenes_are_computed_from_folders(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("benchmark_words", FILE)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(benchmark, "TRAINING_SCENES", 50)
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
        assert all("all" in figures[f"scenes, {split}, {row}"] for row in ("samples", "floor", "nearest neighbour", "without text"))
    assert "exact" in figures["captions"] and "zero-shot MNIST" in figures["contrastive"]
    assert len(capsys.readouterr().out.splitlines()) == 1 + sum(map(len, figures.values()))
    with pytest.raises(SystemExit):
        benchmark.main(["--words", "x"])
