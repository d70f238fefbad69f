"""The start page: what its tiles show is what the models compute, from disk and while a server computes it."""

import http.client
import json
import threading
import time

import numpy as np
import pytest
from test_page import ACCESS, browser, composer, opened, text_model, text_of  # noqa: F401

from zoo.data import music
from zoo.data.images import mnist, mnist_test
from zoo.diffusion import Diffusion
from zoo.gan import GAN
from zoo.inspection import start
from zoo.inspection.play import Models, Server
from zoo.language.tokenizer import CharTokenizer
from zoo.vae import VAE


@pytest.fixture(scope="module")
def models(composer):  # noqa: F811
    """Fresh models under the names of those that ship."""
    writer = text_model(layers=1, heads=2, width=16, window=64)
    writer.tokenizer = CharTokenizer(start.PROMPT + "abcdefghijklmnopqrstuvwxyz ,.")
    return {"vae": VAE.new(latent=(4,), hidden=(16,), seed=1).eval(), "transformer": writer, "chorales": composer,
            "gan": GAN.new(network="dense", hidden=(8,), discriminator_hidden=(8,), latent=4, classes=10).eval(),
            "diffusion": Diffusion.new(channels=8, multipliers=(1,), blocks=1, classes=10).eval()}


@pytest.fixture
def fresh(models, monkeypatch):
    monkeypatch.setattr(start, "load", models.__getitem__)
    monkeypatch.setattr(start, "shipped", lambda: list(models))
    monkeypatch.setattr(start, "CHARACTERS", 40)
    monkeypatch.setattr(start, "EVENTS", 64)
    monkeypatch.setattr(start, "EVALUATIONS", 4)
    return models


def held(browser, tile, name):  # noqa: F811
    return browser.execute_script("""
        const data = start.tiles.find(t => t.name === arguments[0]).data[arguments[1]];
        return data.dtype ? [data.shape, Array.from(values(data))] : data""", tile, name)


def array(packed):
    return np.reshape(packed[1], packed[0])


def until(browser, condition, seconds=20):  # noqa: F811
    for _ in range(int(seconds / 0.05)):
        if browser.execute_script(f"return {condition}"):
            return
        time.sleep(0.05)
    pytest.fail(f"it never comes true: {condition}")


def test_every_tile_plays_from_disk_and_holds_what_its_model_computed(browser, tmp_path, fresh):  # noqa: F811
    path, lines = tmp_path / "zoo-demo.html", []
    start.write_start_page(path, seed=3, say=lines.append)
    assert len(lines) == 5 and "://" not in path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    opened(browser, path)
    until(browser, "start.tiles.every(t => t.began !== null)")
    assert not browser.execute_script(ACCESS)
    steps = list(fresh["transformer"].steps(start.PROMPT, 40, seed=3, temperature=start.TEMPERATURE))
    assert "".join(held(browser, "write", "tokens")) == "".join(step.text for step in steps)
    until(browser, "document.querySelectorAll('.typed span').length > 5")
    *_, last = fresh["diffusion"].steps(10, seed=3, digit=np.arange(10), sampler="euler", evaluations=4)
    pictures = array(held(browser, "denoise", "pictures"))
    assert len(pictures) == 5 and np.abs(pictures[-1] - fresh["diffusion"].to_pictures(last.x_previous)).max() <= 0.5 / 255 + 1e-6
    morph = array(held(browser, "morph", "pictures"))
    first, second = start._codes_of_digits(fresh["vae"], 3)[:2]
    assert np.abs(morph[start.FRAMES // 2] - fresh["vae"].decode((first + second)[None] / 2).data[0]).max() <= 0.5 / 255 + 1e-6
    real, beliefs = np.array(held(browser, "duel", "real")), array(held(browser, "duel", "beliefs"))
    assert real.sum() == (~real).sum() == start.TURNS // 2
    forged = array(held(browser, "duel", "pictures"))[~real]
    drawn = fresh["gan"].sample(start.TURNS // 2, seed=3, digit=np.arange(start.TURNS // 2) % 10)
    assert all(np.abs(drawn - picture).max((1, 2)).min() <= 0.5 / 255 + 1e-6 for picture in forged) and ((beliefs > 0) & (beliefs < 1)).all()
    browser.execute_script("document.querySelector('.compose button').click()")
    notes = [list(note) for note in music.notes_of(music.from_text("".join(held(browser, "compose", "tokens"))))]
    heard = browser.execute_script("return audio.scheduled.map(n => [n.voice, n.pitch, n.start, n.length]).sort((a, b) => a[2] - b[2] || a[0] - b[0])")
    assert heard and heard == [note for note in notes if note[2] >= heard[0][2]]
    browser.execute_script("audio.stop()")
    for name in ("#story=denoise", "#story=write"):
        browser.get(path.as_uri() + name)
        until(browser, "typeof player !== 'undefined' && player.length > 1")
        assert text_of(browser, ".top a") == "← all five"
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_tiles_are_used_by_keys_and_fit(browser, tmp_path, fresh):  # noqa: F811
    path = tmp_path / "zoo-demo.html"
    start.write_start_page(path, say=lambda line: None)
    for width in (400, 1280):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        opened(browser, path)
        until(browser, "start.tiles[0].began !== null")
        for _ in ("one theme", "the other"):
            assert not browser.execute_script(ACCESS)
            browser.execute_script("document.getElementById('theme').click()")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    digit = browser.find_element("css selector", ".denoise [aria-checked=true]")
    digit.send_keys("\ue014")  # the right arrow key
    assert text_of(browser, ".denoise [aria-checked=true]") == "1"
    browser.execute_script("document.querySelectorAll('.duel .row button')[1].click()")  # forged
    until(browser, "/you: [01] of 1/.test(document.querySelector('.duel [role=status]').textContent)")
    browser.execute_script("document.activeElement.blur()")
    browser.find_element("css selector", "body").send_keys(" ")
    assert browser.execute_script("return start.paused")


@pytest.fixture
def server(fresh):
    gate = threading.Event()
    load = fresh.__getitem__

    def late(name):
        gate.wait(30)
        if name == "gan":
            raise ValueError("its weights are damaged")
        return load(name)

    start.load, before = late, start.load
    server = Server(Models({"vae": fresh["vae"]}), start=True)
    server.gate = gate
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    gate.set()
    start.load = before
    server.shutdown()
    server.stop()


def test_the_page_comes_before_any_model_and_tiles_fill_while_they_compute(browser, server):  # noqa: F811
    browser.get(server.address)
    assert browser.execute_script("return start.tiles.map(t => t.began)") == [None] * 5  # nothing is drawn that wasn't computed
    assert browser.execute_script("return [...document.querySelectorAll('.tile .play')].every(e => e.classList.contains('hidden'))")
    server.gate.set()
    until(browser, "start.tiles.filter(t => t.name !== 'duel').every(t => t.began !== null && t.complete)")
    assert text_of(browser, ".duel .waiting") == "its weights are damaged"
    browser.get(server.address + "play#model=vae")
    until(browser, "live.run && live.run.steps.length && !live.asking")
    assert browser.execute_script("return live.model.name") == "vae"


def test_the_test_digits_alone_are_those_of_mnist():
    data, (pictures, labels) = mnist(), mnist_test()
    assert np.array_equal(data.test, pictures) and np.array_equal(data.test_labels, labels) and pictures.dtype == data.test.dtype


def test_a_second_visitor_gets_the_same_lines(server):
    server.gate.set()

    def lines():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", f"/{server.token}/tiles", "{}", {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            answer = response.read()
        connection.close()
        return [json.loads(line) for line in answer.splitlines()]

    first, second = lines(), lines()
    assert first == second and [m["tile"] for m in first if "seconds" in m or "error" in m] == [tile.name for tile in start.TILES]
