"""The start page: what its tiles show is what the models compute, from disk and while a server computes it."""

import http.client
import json
import re
import threading
import time

import numpy as np
import pytest
from test_page import ACCESS, browser, composer, opened, text_model, text_of  # noqa: F401
from test_words_page import NETWORKS, SMALL, stirred

import zoo
from zoo.__main__ import main
from zoo.data import music, scenes, speech
from zoo.data.images import mnist, mnist_test
from zoo.diffusion import Diffusion
from zoo.gan import GAN
from zoo.inspection import start
from zoo.inspection.page import unpack
from zoo.inspection.play import Models, Server
from zoo.language.tokenizer import CharTokenizer
from zoo.multimodal.speech import Speech
from zoo.multimodal.words import Words
from zoo.vae import VAE

CONTROL = "\ue009"  # the key, as WebDriver has it


@pytest.fixture(scope="module")
def models(composer):  # noqa: F811
    """Fresh models under the names of those that ship."""
    writer = text_model(layers=1, heads=2, width=16, window=64)
    writer.tokenizer = CharTokenizer(start.PROMPT + "abcdefghijklmnopqrstuvwxyz ,.")
    return {"vae": VAE.new(latent=(4,), hidden=(16,), seed=1).eval(), "transformer": writer, "chorales": composer,
            "gan": GAN.new(network="dense", hidden=(8,), discriminator_hidden=(8,), latent=4, classes=10).eval(),
            "diffusion": Diffusion.new(channels=8, multipliers=(1,), blocks=1, classes=10).eval(),
            "words": stirred(Words.for_data("captioned-digits", seed=0, **SMALL, **NETWORKS["unet"])).eval(),
            "speech": stirred(Speech.new(vocabulary=speech.VOCABULARY, multipliers=(1, 2), **SMALL)).eval()}


def use_instead(models, monkeypatch):
    """The start page loads these models, and lets them work for a moment."""
    monkeypatch.setattr(start, "load", models.__getitem__)
    monkeypatch.setattr(start, "at_hand", lambda: list(models))
    monkeypatch.setattr(start, "CHARACTERS", 40)
    monkeypatch.setattr(start, "EVENTS", 64)
    monkeypatch.setattr(start, "EVALUATIONS", 4)


@pytest.fixture
def fresh(models, monkeypatch):
    use_instead(models, monkeypatch)
    return models


@pytest.fixture(scope="module")
def page(models, tmp_path_factory):
    """The start page in one file, and the lines that were said while it was written."""
    path, lines = tmp_path_factory.mktemp("start") / "zoo-demo.html", []
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_instead(models, monkeypatch)
        start.write_start_page(path, seed=3, say=lines.append)
    return path, lines


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


def test_every_tile_plays_from_disk_and_holds_what_its_model_computed(browser, page, fresh):  # noqa: F811
    path, lines = page
    assert len(lines) == len(start.TILES) == 7 and "://" not in path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
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
    *_, last = fresh["words"].steps(1, prompt=start.SENTENCE, then=(start.LATER_T, start.LATER), seed=3, sampler="euler", evaluations=4)
    drawn = array(held(browser, "words", "pictures"))
    assert len(drawn) == 5 and np.abs(drawn[-1] - fresh["words"].to_pictures(last.x_previous)[0]).max() <= 0.5 / 255 + 1e-6
    waves = array(held(browser, "speech", "waves"))
    said = fresh["speech"].sample(prompt=list(scenes.DIGITS), seed=3, sampler="euler", evaluations=4)
    assert np.abs(waves - said).max() <= 1e-3
    for name in ("#story=denoise", "#story=write", "#story=words"):
        browser.get(path.as_uri() + name)
        until(browser, "typeof player !== 'undefined' && player.length > 1")
        assert text_of(browser, ".top a") == "← all tiles"
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_tiles_are_used_by_keys_and_fit(browser, page):  # noqa: F811
    path, _ = page
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
    server = Server(Models({name: fresh[name] for name in ("vae", "words", "speech")}), start=True)
    server.gate = gate
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    gate.set()
    start.load = before
    server.shutdown()
    server.stop()


def test_the_page_comes_before_any_model_and_tiles_fill_while_they_compute(browser, server):  # noqa: F811
    browser.get(server.address)
    assert browser.execute_script("return start.tiles.map(t => t.began)") == [None] * 7  # nothing is drawn that wasn't computed
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


def test_a_stranger_draws_a_sentence_changes_a_word_half_way_and_hears_a_digit(browser, server, fresh):  # noqa: F811
    server.gate.set()
    browser.get(server.address)
    until(browser, "['words', 'speech'].every(name => start.tiles.find(t => t.name === name).complete)")
    browser.execute_script("pauseTiles(false)")
    prompt, later = (browser.find_element("id", name) for name in ("words-prompt", "words-later"))
    for field, text in ((prompt, "a small blue two"), (later, "a small green two")):
        field.send_keys(CONTROL, "a")
        field.send_keys(text)
    theme = browser.execute_script("return document.documentElement.dataset.theme")
    later.send_keys("\n")
    until(browser, "document.querySelector('.words canvas').getAttribute('aria-label') === 'noise that becomes a picture of a small green two'")
    assert browser.execute_script("return document.documentElement.dataset.theme") == theme  # a t that is typed is a letter
    assert browser.execute_script("return [...document.querySelectorAll('.lit figcaption')].map(f => f.textContent)") == ["a", "small", "green", "two"]
    assert browser.execute_script("return [...document.querySelectorAll('.lit .changed')].map(f => f.textContent)") == ["green"]
    until(browser, "document.querySelector('.words .square .note').textContent === 'the picture'")
    shown = browser.execute_script("""
        const canvas = document.querySelector('.words canvas');
        return Array.from(canvas.getContext('2d').getImageData(0, 0, 32, 32).data)""")
    drawn = fresh["words"].sample(prompt="a small blue two", then=(start.LATER_T, "a small green two"), seed=0, sampler="euler", evaluations=4)[0]
    assert np.abs(np.reshape(shown, (32, 32, 4))[..., :3] - 255 * drawn).max() <= 1.5
    later.send_keys(CONTROL, "a")
    later.send_keys("a rad two\n")
    until(browser, "document.querySelector('.words [role=status]').classList.contains('wrong')")
    assert "the nearest it knows: red" in text_of(browser, ".words [role=status]")
    say = browser.find_element("id", "speech-prompt")
    say.send_keys("7\n")
    until(browser, "audio.heard === 8064 && document.querySelector('.speech .square .note').textContent === '“seven”'")
    browser.execute_script("audio.heard = 0")
    say.send_keys(CONTROL, "a")
    say.send_keys("a woman says b\n")
    until(browser, "audio.heard === 8064 && document.querySelector('.speech .square .note').textContent === '“a woman says b”'")
    assert browser.execute_script("return [...document.querySelectorAll('.speech [aria-checked=true]')].length") == 0


def test_what_a_visitor_asks_for_is_what_the_model_draws(fresh):
    messages = list(start.answer(fresh.__getitem__, {"tile": "words", "prompt": "a red two", "seed": 5}))
    parts = [part for message in messages for part in message["grow"]]
    assert [part["t"] for part in parts] == [1, 0.75, 0.5, 0.25, 0] and {tuple(part["words"]) for part in parts} == {("a", "red", "two")}
    drawn = fresh["words"].sample(prompt="a red two", seed=5, sampler="euler", evaluations=4)[0]
    assert np.abs(unpack(parts[-1]["pictures"]) - drawn).max() <= 0.5 / 255 + 1e-6
    steps = list(fresh["words"].steps(1, prompt="a red two", seed=5, sampler="euler", evaluations=4))
    maps = fresh["words"].word_maps(steps[-1].x_t, float(steps[-1].t), "a red two")[0, 1:, ::2, ::2]
    assert np.abs(unpack(parts[-1]["light"]) - maps / maps.max()).max() <= 0.01
    (*_, last) = start.answer(fresh.__getitem__, {"tile": "speech", "prompt": "seven", "seed": 5})
    assert np.allclose(unpack(last["grow"][0]["waves"]), fresh["speech"].sample(prompt="seven", seed=5, sampler="euler", evaluations=4)[0], atol=1e-3)


@pytest.mark.parametrize("request_, error", [
    ({"tile": "vae"}, "tile is 'vae'; it may be words, speech"), ({"tile": ["words"]}, "tile is .*; it may be words, speech"),
    ({"tile": "words", "mask": ""}, "'mask' isn't a setting of this tile; there are prompt, later, later_t, seed"),
    ({"tile": "words", "prompt": ""}, "prompt: is '', which has no word in it"), ({"tile": "words", "prompt": "a rad two"}, "the nearest it knows: red"),
    ({"tile": "words", "prompt": "a " * 80}, "prompt: has 80 words; this model reads at most 39"),
    ({"tile": "words", "prompt": "a two", "later_t": 2}, "later_t is 2; it is a number from 0.05 to 0.95"),
    ({"tile": "speech", "prompt": "a dog says b"}, "doesn't know the word 'dog'"), ({"tile": "speech", "prompt": 7}, "prompt is 7; it is a text"),
])
def test_a_request_of_a_tile_that_cannot_be_is_one_line(fresh, request_, error):
    with pytest.raises(ValueError, match=error) as caught:
        list(start.answer(fresh.__getitem__, request_))
    assert "\n" not in str(caught.value)


def test_a_model_in_the_cache_has_its_name_its_tile_and_its_line_in_the_list(fresh, tmp_path, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "words" not in [tile.name for tile in start.tiles_at_hand()] or "words" in zoo.shipped()
    fresh["words"].save(tmp_path / "numpy-zoo" / "models" / "words")
    assert "words" in [tile.name for tile in start.tiles_at_hand()] and "words" in Models.of().sources
    assert zoo.load("words").kind == "words"
    fresh["speech"].save(tmp_path / "numpy-zoo" / "models" / "another-voice")
    main(["list"])
    assert re.search("another-voice .* speech from words", capsys.readouterr().out)
