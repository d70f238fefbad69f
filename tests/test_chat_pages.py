"""Pages of a chat model: what they show is what the records say, they stay small, and in `zoo play` a conversation goes on."""

import json
import threading

import numpy as np
import pytest
from test_chat_models import QUESTION, path, smollm2  # noqa: F401
from test_play import asked

import zoo
from zoo.inspection.controls import controls_for
from zoo.inspection.inspect import inspect
from zoo.inspection.page import unpack
from zoo.inspection.panels.chat import read_layers, spread
from zoo.inspection.play import Models, Server
from zoo.inspection.runs import make_run
from zoo.loading.gguf_models import read_model

ASK = {"message": QUESTION[0]["content"], "n": 6, "temperature": 0.9, "seed": 1}


def panels_of(run):
    return {panel["name"]: panel for panel in run["panels"]}


def test_a_page_shows_the_records_of_the_answer(path):  # noqa: F811
    model = read_model(path)
    panels, steps = panels_of(make_run(model, **ASK)), list(model.steps(model.template.ids(QUESTION, model.tokenizer), 6, temperature=0.9, seed=1))
    asked_ids = model.template.ids(QUESTION, model.tokenizer)
    assert panels["text"]["given"] == len(asked_ids) and "".join(panels["text"]["tokens"][: len(asked_ids)]).startswith("<|im_start|>user\nHello there")
    assert np.allclose(unpack(panels["text"]["probabilities"]), [s.probabilities[s.token] for s in steps], atol=1e-5)
    values, total = unpack(panels["contributions"]["values"]).reshape(len(steps), -1), unpack(panels["contributions"]["total"])
    assert np.allclose(total.ravel(), [s.logits[s.token] - s.logits.mean() for s in steps], atol=1e-3)
    assert np.allclose(values.sum(1), total.ravel(), atol=0.05) and len(panels["contributions"]["labels"]) == values.shape[1] == 2 * 5 + 2
    assert panels["attention"]["names"] == ["blocks.0", "blocks.1"] and panels["lens"]["rows"] == ["embedding", "blocks.0", "blocks.1"]
    assert all("layer" in why or "head" in why for why in panels["why"]["sentences"])


def test_layers_are_chosen_and_answers_can_be_made_to_begin(path):  # noqa: F811
    model = read_model(path)
    panels = panels_of(make_run(model, **ASK, show_layers="1", begin="Sure", system="Be brief."))
    assert panels["attention"]["names"] == ["blocks.1"] and panels["attention"]["layers"] == 1
    assert "".join(panels["text"]["tokens"][: panels["text"]["given"]]).endswith("assistant\nSure") and "Be brief." in "".join(panels["text"]["tokens"])
    off = panels_of(make_run(model, **ASK, changes={"blocks.0.mlp.down.quantised_linear": lambda a: a * 0}))
    assert off["text"]["tokens"] != panels_of(make_run(model, **ASK))["text"]["tokens"]
    assert spread(30) == [5, 10, 14, 19, 24, 29] and spread(1) == [0] and read_layers("29, 3", 30) == [3, 29]
    for wrong in ("30", "x", "-1", "1.5"):
        with pytest.raises(ValueError, match="show_layers"):
            read_layers(wrong, 30)
    with pytest.raises(ValueError, match="this model sees 128"):
        make_run(model, message="x" * 120, n=20)
    with pytest.raises(ValueError, match="wasn't trained on conversations"):
        make_run(zoo.load("transformer"), message="Hello")


def test_a_page_is_written(path, tmp_path):  # noqa: F811
    size = inspect(str(path), tmp_path / "page.html", **ASK, patch="blocks.0.mlp.down.quantised_linear:zero")
    assert size == (tmp_path / "page.html").stat().st_size and "Where each head looked" in (tmp_path / "page.html").read_text()


def test_in_zoo_play_a_conversation_goes_on(path):  # noqa: F811
    server = Server(Models({"chat": str(path)}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        def run(**settings):
            status, _, content = asked(server, "POST", "run", {"model": "chat", "n": 5, "temperature": 0, **settings})
            lines = [json.loads(line) for line in content.splitlines()]
            assert status == 200 and "end" in lines[-1], lines[-1]
            return lines[0]["run"], lines[0].get("command"), server.models.conversations["chat"]

        first, command, conversation = run(message="Hello there")
        assert "--message 'Hello there'" in command and [m["role"] for m in conversation] == ["user", "assistant"]
        assert conversation[1]["content"] == read_model(path).chat(QUESTION, 5)
        second, command, conversation = run(message="And now", goes_on="yes")
        assert command == "" and [m["content"] for m in conversation[::2]] == ["Hello there", "And now"]
        assert panels_of(second)["text"]["given"] > panels_of(first)["text"]["given"]
        assert len(run(message="Again")[2]) == 2
        assert {"message", "goes_on", "system", "begin", "show_layers"} <= {c.name for c in controls_for(read_model(path))}
    finally:
        server.shutdown()
        server.stop()


def test_a_page_of_a_hundred_tokens_of_the_real_model_is_small(smollm2, tmp_path):  # noqa: F811
    size = inspect(smollm2, tmp_path / "page.html", message="Tell me about the history of Paris.", n=100, temperature=0.0)
    assert size < 8e6
