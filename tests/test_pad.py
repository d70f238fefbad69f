"""The pad: what it says of a digit is what the models compute, and it says nothing of one that is gone."""

import base64
import threading

import numpy as np
import pytest
from test_access import axe, check  # noqa: F401
from test_page import ACCESS, browser, text_of  # noqa: F401
from test_play import asked, run  # noqa: F401
from test_start import until

from zoo.diffusion import Diffusion
from zoo.evaluation.classifier import Classifier
from zoo.explain.gradients import class_logit, saliency
from zoo.explain.latents import codes
from zoo.gan import GAN
from zoo.inspection import pad
from zoo.inspection.page import unpack
from zoo.inspection.play import Models, Server
from zoo.parts.denoising.editing import inpaint
from zoo.vae import VAE


def in_base64(array):
    return base64.b64encode(np.asarray(array, np.uint8).tobytes()).decode()


@pytest.fixture(scope="module")
def models():
    return {"classifier": Classifier.new(channels=2, features=8, seed=1).eval(), "vae": VAE.new(latent=(4,), hidden=(16,), seed=1).eval(),
            "gan": GAN.new(network="dense", hidden=(8,), discriminator_hidden=(8,), latent=4, classes=10).eval(),
            "diffusion": Diffusion.new(channels=8, multipliers=(1,), blocks=1, classes=10, evaluations=3).eval()}


@pytest.fixture
def server(models, monkeypatch):
    monkeypatch.setattr(pad, "load", models.__getitem__)
    monkeypatch.setattr(pad, "shipped", lambda: list(models))
    server = Server(Models({"vae": models["vae"]}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.stop()


def test_what_is_said_of_a_digit_is_what_the_models_compute(models, rng):
    pixels = rng.integers(0, 256, (28, 28))
    answer, x = pad.Pad(), (pixels / 255)[None].astype(np.float32)
    answer.loaded = models
    said = answer.look({"pixels": in_base64(pixels)})
    assert np.allclose(unpack(said["classifier"]["probabilities"]), models["classifier"].look(x)[1][0], atol=1e-6)
    label = said["classifier"]["digit"]
    expected = saliency(class_logit(models["classifier"], label), x)[0]
    assert np.abs(unpack(said["classifier"]["saliency"]) - expected).max() <= 1e-3 * np.abs(expected).max()
    logit = models["gan"].discriminator(models["gan"].to_network_range(x), np.array([label])).data[0, 0]
    assert np.isclose(said["judge"]["belief"], 1 / (1 + np.exp(-logit)), atol=1e-5)
    code = codes(models["vae"], x)
    assert np.array_equal(unpack(said["place"]["code"]), code[0])
    assert np.abs(unpack(said["place"]["picture"]) - models["vae"].decode(code).data[0]).max() <= 0.5 / 255 + 1e-6


def test_a_half_that_was_drawn_stays_and_the_other_is_painted(models, rng):
    pixels, mask = rng.integers(0, 256, (28, 28)), np.zeros((28, 28), np.uint8)
    mask[:, 14:] = 1
    answer = pad.Pad()
    answer.loaded = models
    *_, last = answer.finish({"pixels": in_base64(pixels), "mask": in_base64(mask), "seed": 5})
    picture = unpack(last["picture"])
    assert np.abs(picture[:, :14] - pixels[:, :14] / 255).max() <= 1 / 255 + 1e-6
    whole = inpaint(models["diffusion"], (pixels / 255)[None].astype(np.float32), mask == 0, seed=5, repeats=pad.REPEATS)[0]
    assert np.abs(picture - whole).max() <= 0.5 / 255 + 1e-6 and last["t"] == 0


@pytest.mark.parametrize(("path", "body", "name"), [
    ("look", {}, "pixels"), ("look", {"pixels": "x"}, "pixels"), ("finish", {"pixels": in_base64(np.zeros(784))}, "mask"),
    ("finish", {"pixels": in_base64(np.zeros(784)), "mask": in_base64(np.ones(784)), "seed": -1}, "seed"),
    ("finish", {"pixels": in_base64(np.zeros(784)), "mask": in_base64(np.zeros(784))}, "mask"),
    ("finish", {"pixels": in_base64(np.zeros(784)), "mask": in_base64(np.ones(784)), "digit": 10}, "digit")])
def test_what_is_no_drawing_is_answered_by_a_line(server, path, body, name):
    status, _, content = asked(server, "POST", path, body)
    assert status == 400 and name in content.decode() and content.count(b"\n") == 1


def test_a_digit_is_judged_while_it_is_drawn_and_forgotten_when_it_is_gone(browser, server, models, axe):  # noqa: F811
    from selenium.webdriver import ActionChains

    browser.get(server.address + "draw")
    assert text_of(browser, "#digit") == "?" and not browser.execute_script(ACCESS)
    sheet = browser.find_element("id", "pad")
    size = sheet.size["width"]
    ActionChains(browser).move_to_element_with_offset(sheet, -size // 4, -size // 4).click_and_hold().move_by_offset(size // 2, 0).move_by_offset(
        -size // 4, size // 2).release().perform()
    until(browser, "pad.answer && !pad.waiting && document.querySelector('.map')")
    ink = np.float32(browser.execute_script("return Array.from(inkOf(document.getElementById('pad'), true))")).reshape(28, 28)
    rows, columns = np.nonzero(ink > 0.1)
    assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 22  # MNIST's box
    centre = [(ink.sum(axis) * (np.arange(28) + 0.5)).sum() / ink.sum() for axis in (0, 1)]
    assert np.allclose(centre, 14, atol=0.2)
    pixels = np.round(255 * np.minimum(ink, 1))
    assert text_of(browser, "#digit") == str(models["classifier"].classify((pixels / 255)[None].astype(np.float32))[0])
    browser.execute_script("[...document.querySelectorAll('button')].find(b => b.textContent === 'the lower half').click()")
    until(browser, "document.getElementById('status').textContent.includes('never drawn')")
    drawn, finished = browser.execute_script("return [Array.from(inkOf(document.getElementById('pad'), false)), Array.from(pad.finished)]")
    assert np.abs(np.float32(drawn)[:392] - np.float32(finished)[:392]).max() <= 1 / 255 + 1e-6
    browser.execute_script("""
        const fetched = window.fetch;  // an answer that comes after the pad is empty again
        window.fetch = async (...a) => { const answer = await fetched(...a); await new Promise(done => setTimeout(done, 300)); window.late = true; return answer; };
        document.getElementById('pad').dispatchEvent(new PointerEvent('pointermove'));""")
    browser.execute_script("[...document.querySelectorAll('button')].find(b => b.textContent === 'clear').click()")
    until(browser, "!pad.waiting")
    assert text_of(browser, "#digit") == "?"

    def show(theme):
        if browser.execute_script("return document.documentElement.dataset.theme") != theme:
            browser.execute_script("document.getElementById('theme').click()")

    check(browser, axe, show)
    for width in (400, 1280):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        assert not browser.execute_script(ACCESS)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
