"""What a visitor set is saved in a small file, and comes back bit for bit."""

import json
import re
import threading

import numpy as np
import pytest
from test_page import browser  # noqa: F401
from test_start import until

from zoo.__main__ import main
from zoo.inspection.controls import read_request
from zoo.inspection.page import unpack
from zoo.inspection.play import Models, Server
from zoo.inspection.sharing import MAX_BYTES, read_shared, replay
from zoo.loading.cards import load
from zoo.storage import WrongFile
from zoo.vae import VAE

PICTURE = "Array.from(values(live.run.views.find(p => p.name === 'picture').data.pictures.at(-1)))"


@pytest.fixture
def folder(tmp_path):
    VAE.new(image=(8, 8), latent=(3,), hidden=(8,), classes=10, seed=1).save(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture
def serve(folder):
    servers = []

    def start(shared=None):
        server = Server(Models({str(folder): str(folder)}), shared=shared)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.stop()


def test_a_change_is_saved_and_shown_again_bit_for_bit(browser, serve, folder, tmp_path):  # noqa: F811
    whole = "live.run && live.run.steps.length && !live.asking"
    browser.get(serve().address)
    until(browser, whole)
    browser.execute_script("live.fields.digit.set(7); live.fields.patch.set('layers.0.tanh:zero'); regenerate('digit')")
    until(browser, "live.run.request.digit === 7 && !live.asking")
    browser.execute_script("keepBeside(); live.fields.patch.set(''); s = document.querySelectorAll('.sliders input')[1]; s.value = 2.5; s.dispatchEvent(new Event('input'))")
    until(browser, "page.runs.length === 2 && live.run.steps.length && live.run.request.z && !live.asking")
    shown, saved = browser.execute_script(f"return [{PICTURE}, JSON.stringify(saved())]")
    path = tmp_path / "saved.json"
    path.write_text(saved)
    shared = read_shared(path)
    assert shared.model == str(folder) and len(shared.runs) == 2 and shared.runs[0]["patch"] == "layers.0.tanh:zero"
    model = load(folder)
    settings = read_request(model, shared.runs[1])
    settings.pop("patch", None)
    *_, last = model.steps(1, **settings)
    assert np.array_equal(np.float32(shown).reshape(8, 8), last.value[0])
    replay(path, tmp_path / "page.html")
    page = json.loads(re.search(r'id="page">(.*?)</script>', (tmp_path / "page.html").read_text("utf-8"), re.S)[1])
    assert len(page["runs"]) == 2
    panel = next(p for p in page["runs"][1]["panels"] if p["name"] == "picture")
    assert np.array_equal(unpack(panel["pictures"][-1]).ravel(), np.float32(shown))
    browser.get(serve(shared).address)
    until(browser, f"page.runs.length === 2 && {whole}")
    assert browser.execute_script(f"return {PICTURE}") == shown
    assert json.loads(browser.execute_script("return JSON.stringify(saved())")) == json.loads(saved)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"zoo": "other"}', '{"zoo": "play", "version": 2, "model": "vae", "runs": [{}]}',
                                     '{"zoo": "play", "version": 1, "model": 3, "runs": [{}]}', '{"zoo": "play", "version": 1, "model": "vae", "runs": []}',
                                     '{"zoo": "play", "version": 1, "model": "vae", "runs": [{}, {}, {}]}', "[" * 10**5, " " * (MAX_BYTES + 1)],
                         ids=lambda c: c[:40])
def test_what_is_no_saved_file_is_one_line(tmp_path, capsys, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(WrongFile):
        read_shared(path)
    for command in ("play", "inspect"):
        assert main([command, str(path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("run", "name"), [({"seed": -1}, "seed"), ({"z": [1, 2]}, "z"), ({"sead": 1}, "sead"), ({"patch": "layers.9:zero"}, "patch")])
def test_a_setting_that_the_model_doesnt_have_is_one_line(folder, tmp_path, capsys, run, name):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"zoo": "play", "version": 1, "model": str(folder), "runs": [run]}))
    assert main(["inspect", str(path), "--out", str(tmp_path / "page.html")]) == 2
    assert name in capsys.readouterr().err and not (tmp_path / "page.html").exists()
