"""What makes a page a story: formulas that are set, words that are explained, a diagram of what runs, the picture always in view."""

import itertools
import re
import time

import numpy as np
import pytest
from test_page import MODELS, browser, composer, opened, text_of  # noqa: F401

import zoo
from zoo.autograd import Tensor
from zoo.autograd.tracing import ModuleTrace, trace
from zoo.inspection.inspect import inspect
from zoo.inspection.panels.diagram import ROOT, place, said_by
from zoo.nn import Linear
from zoo.vae import VAE


@pytest.fixture(scope="module")
def page(tmp_path_factory, composer):  # noqa: F811
    """The page of a kind of model, made once: page(kind) -> path."""
    made = {}

    def of(kind):
        if kind not in made:
            model, settings = (composer, {"n": 60, "prompt": "bwv102.7"}) if kind == "chorales" else MODELS[kind]()
            made[kind] = tmp_path_factory.mktemp("pages") / f"{kind}.html"
            inspect(model, made[kind], **settings)
        return made[kind]

    return of


FORMULAS = {  # what a record says -> its MathML
    "x = 1 / (1 + exp(-l))": "<mi>x</mi><mo>=</mo><mfrac><mn>1</mn><mrow><mn>1</mn><mo>+</mo><mrow><mi>exp</mi><mrow><mo>(</mo><mrow><mo>−</mo><mi>l</mi>"
                             "</mrow><mo>)</mo></mrow></mrow></mrow></mfrac>",
    "z ~ N(0, 1)": "<mi>z</mi><mo>∼</mo><mrow><mi>N</mi><mrow><mo>(</mo><mn>0</mn><mo>,</mo><mn>1</mn><mo>)</mo></mrow></mrow>",
    "x_0 + sigma_t": "<msub><mi>x</mi><mn>0</mn></msub><mo>+</mo><msub><mi>σ</mi><mi>t</mi></msub>",
    "a^(1/2) b": "<mrow><msup><mi>a</mi><mrow><mfrac><mn>1</mn><mn>2</mn></mfrac></mrow></msup><mspace width=\"0.25em\"></mspace><mi>b</mi></mrow>",
    "sqrt(x + 1)": "<msqrt><mrow><mi>x</mi><mo>+</mo><mn>1</mn></mrow></msqrt>",
}


def test_formulas_are_set(browser, page):  # noqa: F811
    opened(browser, page("vae"))
    for text, markup in FORMULAS.items():
        assert browser.execute_script("return mathOf(arguments[0])", text) == markup
    for text in ("<img src=x onerror=alert(1)>", "a & b", "((", "^", "/", "_", "", "é → ü"):  # whatever a model's record says
        nodes = browser.execute_script("return [...formula(arguments[0]).querySelectorAll('*')].map(e => e.tagName.toLowerCase())", text)
        assert nodes and not {n for n in nodes if not n.startswith("m")}
    browser.execute_script("player.go(0)")
    assert browser.execute_script("return document.querySelectorAll('.why math').length") == 1
    box = browser.execute_script("player.go(player.length - 1); const b = document.querySelector('.why mfrac').getBoundingClientRect(); return [b.width, b.height]")
    assert min(box) > 5


def test_words_are_explained_where_they_stand(browser, page):  # noqa: F811
    opened(browser, page("diffusion"))
    term = browser.find_element("css selector", ".why .term")
    tip = term.get_attribute("data-tip")
    assert tip and term.get_attribute("aria-label").endswith(f": {tip}") and term.get_attribute("aria-label") != f": {tip}"
    assert browser.execute_script("return getComputedStyle(arguments[0], '::after').display", term) == "none"
    browser.execute_script("arguments[0].focus()", term)
    assert browser.execute_script("return getComputedStyle(arguments[0], '::after').display", term) == "block"


SHOWN = "return [...document.querySelectorAll('.part')].filter(b => b.isConnected).map(b => b.dataset.part)"


@pytest.mark.parametrize("kind", ["vae", "vqvae", "gan", "diffusion", "plane", "transformer", "llama", "gru", "lstm", "keys"])
def test_each_part_of_the_network_has_the_value_it_computed_and_a_place_in_the_code(browser, page, kind):  # noqa: F811
    """Of every family, by one mechanism: what a trace saw is what the diagram shows."""
    opened(browser, page(kind))
    steps = browser.execute_script("return player.length")
    paths = dict(MODELS[kind]()[0].modules())
    seen = set()
    for i in dict.fromkeys((1, steps - 1)):
        browser.execute_script("player.go(arguments[0])", i)
        for part in browser.execute_script(SHOWN):
            browser.execute_script("document.querySelector(`[data-part='${arguments[0]}']`).click()", part)
            assert browser.execute_script("return document.querySelector('.part[aria-pressed=true]').dataset.part") == part
            said = text_of(browser, ".part-value")
            field = browser.execute_script("""
                const nodes = page.runs[0].panels.find(p => p.kind === "diagram").steps.flatMap(s => s.nodes), node = nodes.find(n => n.name === arguments[0]);
                return [node.field, page.runs[0].steps[arguments[1]].fields.find(f => f.name === node.field)?.text, node.code]""", part, i)
            if field[0] is None:
                assert part in paths and type(paths[part]).__name__ in said and re.search(r"[×\d]+ numbers", said), (part, said)
            elif not re.search("as of|later step", said):
                assert field[1] is None or field[1] in said
            file, line = field[2].split(":")
            assert (ROOT / file).is_file() and int(line) > 1 and field[2] in said
            seen.add(part)
    assert len(seen) > 3 and any("." in part for part in seen)


def test_parts_light_up_in_the_order_in_which_they_ran(browser, tmp_path):  # noqa: F811
    model = VAE.new(latent=(4, 3), hidden=(16, 8), seed=1)
    path = tmp_path / "page.html"
    inspect(model, path, seed=5)
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [still]})
    opened(browser, path)
    for i, step in enumerate(model.steps(1, seed=5)):
        browser.execute_script("player.go(arguments[0])", i)
        assert browser.execute_script("return [...document.querySelectorAll('.parts:not(.inner) .part.lit')].map(b => b.dataset.part)") == [step.name]
    assert browser.execute_script(SHOWN)[:4] == ["z2", "decoders.0.layers.0", "decoders.0.layers.1", "z1"]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{**still, "value": ""}]})
    browser.execute_script("""
        window.order = [];
        player.go(2);
        new MutationObserver(() => order.push([...document.querySelectorAll(".part.lit")].at(-1)?.dataset.part)).observe(document.querySelector(".part-value").parentNode, {subtree: true, attributeFilter: ["class"]});
        player.go(3);""")
    for _ in range(100):
        order = [part for part, _ in itertools.groupby(browser.execute_script("return order.filter(Boolean)"))]
        if order == ["z1", "decoders.0.output"]:  # a step, then what runs inside it
            break
        time.sleep(0.05)
    else:
        pytest.fail(str(order))


def test_a_trace_of_modules_sees_them_in_order_and_changes_no_bit(rng):
    for kind in ("diffusion", "transformer", "vae", "gan", "gru"):
        model, settings = MODELS[kind]()
        settings = {"n_tokens" if name == "n" else name: value for name, value in settings.items()}
        plain = list(model.steps(**settings))
        with ModuleTrace(model) as seen:
            for step, expected in zip(model.steps(**settings), plain, strict=True):
                ran = seen.take()
                if kind == "transformer":  # whose one-token kernel has no modules, so it waits
                    assert np.allclose(step.logits, expected.logits, atol=1e-4)
                else:
                    assert step.equals(expected)
                assert kind in ("vae", "gan") or ran
        with trace(model) as operations:
            list(model.steps(**settings))
        last = {path: record.value for record in operations.records for path in [record.short.rpartition(".")[0]]}
        for path, value in ran.items():
            if path in last and not any(other.startswith(path + ".") for other in last):  # its last operation gives what it returns
                assert np.allclose(np.asarray(value.data if isinstance(value, Tensor) else value).ravel()[-3:], last[path].ravel()[-3:], atol=1e-4), path


def test_places_in_the_code_are_where_things_are():
    file, line = place(zoo.vae.VAE.decode).split(":")
    assert (ROOT / file).read_text("utf-8").splitlines()[int(line) - 1].strip().startswith("def decode")
    assert place(np.exp) == place(len) == ""


def test_a_module_is_explained_by_its_docstring():
    assert said_by(Linear)["formula"] == "y = activation(x W + b)" and said_by(Linear)["says"].startswith("Linear: x (..., inputs)")
    assert said_by(zoo.transformer.Attention)["formula"] == "attention(q, k, v) = softmax(q k^T / sqrt(d)) v"
    assert "et al. 2019" in said_by(zoo.transformer.Block)["says"]


def test_a_layers_picture_leads_to_its_step(browser, page):  # noqa: F811
    opened(browser, page("vae"))
    browser.execute_script("document.querySelectorAll('[data-panel=arrays] figure button')[1].click()")
    assert text_of(browser, "#where").startswith("2 /")
    browser.execute_script("player.go(player.length - 1)")
    assert browser.execute_script("return [...document.querySelectorAll('[data-panel=arrays] figure')].map(f => f.classList.contains('now'))")[-1]


def test_the_record_is_folded_away(browser, page):  # noqa: F811
    opened(browser, page("gan"))
    record = browser.find_element("css selector", "details[data-panel=record]")
    assert not record.get_property("open") and not record.find_element("css selector", "table").is_displayed()
    browser.execute_script("arguments[0].querySelector('summary').click(); arguments[0].scrollIntoView()", record)
    assert record.find_element("css selector", "table").is_displayed()


@pytest.mark.parametrize("kind", ["vae", "transformer", "keys", "plane", "chorales"])
def test_on_a_phone_the_picture_and_the_player_are_in_view_together(browser, page, kind):  # noqa: F811
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False})
    opened(browser, page(kind))
    browser.execute_script("scrollTo(0, document.body.scrollHeight)")
    for selector in (".mini", ".transport"):
        top, bottom = browser.execute_script("const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.top, b.bottom]", selector)
        assert 0 <= top < bottom <= 800
    if kind == "vae":
        shown = browser.execute_script("return [document.querySelector('.mini canvas').toDataURL(), document.querySelector('.stage canvas').toDataURL()]")
        assert shown[0] == shown[1]
    elif kind != "transformer":
        drawn = browser.execute_script("const c = document.querySelector('.mini canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return new Set(new Uint32Array(d.buffer)).size")
        assert drawn >= 2
    else:
        tokens = browser.execute_script("return page.runs[0].panels.find(p => p.name === 'text').tokens.join('')")
        assert text_of(browser, ".mini p") == tokens[-150:]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
