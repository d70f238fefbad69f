"""What makes a page a story: formulas that are set, words that are explained, a diagram of what runs, the picture always in view."""

import numpy as np
import pytest
from test_page import MODELS, browser, opened, text_of  # noqa: F401

import zoo
from zoo.inspection.inspect import inspect
from zoo.inspection.panels.diagram import ROOT, place


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a kind of model, made once: page(kind) -> path."""
    made = {}

    def of(kind):
        if kind not in made:
            model, settings = MODELS[kind]()
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
    assert (term.text.strip() or term.get_attribute("aria-label")) and term.get_attribute("data-tip") == term.get_attribute("aria-description") != ""
    assert browser.execute_script("return getComputedStyle(arguments[0], '::after').display", term) == "none"
    browser.execute_script("arguments[0].focus()", term)
    assert browser.execute_script("return getComputedStyle(arguments[0], '::after').display", term) == "block"


@pytest.mark.parametrize("kind", ["diffusion", "transformer"])
def test_each_part_of_the_diagram_has_the_records_value_and_a_place_in_the_code(browser, page, kind):  # noqa: F811
    opened(browser, page(kind))
    parts = browser.find_elements("css selector", ".part")
    for part, node in zip(parts, browser.execute_script("return page.runs[0].panels.find(p => p.kind === 'diagram').nodes"), strict=True):
        browser.execute_script("player.go(1); arguments[0].click()", part)
        assert part.get_attribute("aria-pressed") == "true"
        said = text_of(browser, ".part-value")
        if "field" in node:
            field = browser.execute_script("return page.runs[0].steps[1].fields.find(f => f.name === arguments[0])", node["field"])
            assert field["text"] in said
        elif node["layer"] is not None:
            assert "if the answer were read here" in said
        file, line = node["code"].split(":")
        assert (ROOT / file).is_file() and int(line) > 1 and node["code"] in said


def test_places_in_the_code_are_where_things_are():
    file, line = place(zoo.vae.VAE.decode).split(":")
    assert (ROOT / file).read_text("utf-8").splitlines()[int(line) - 1].strip().startswith("def decode")
    assert place(np.exp) == place(len) == ""


def test_a_layers_picture_leads_to_its_step_and_its_formula(browser, page):  # noqa: F811
    opened(browser, page("vae"))
    browser.execute_script("document.querySelectorAll('[data-panel=arrays] figure button')[1].click()")
    assert text_of(browser, "#where").startswith("2 /")
    browser.execute_script("player.go(player.length - 1)")
    assert browser.execute_script("return [...document.querySelectorAll('[data-panel=arrays] figure')].map(f => f.classList.contains('now'))")[-1]
    assert "zoo/vae.py:" in text_of(browser, ".flow .detail") and browser.execute_script("return !!document.querySelector('.flow .detail math')")


def test_the_record_is_folded_away(browser, page):  # noqa: F811
    opened(browser, page("gan"))
    record = browser.find_element("css selector", "details[data-panel=record]")
    assert not record.get_property("open") and not record.find_element("css selector", "table").is_displayed()
    browser.execute_script("arguments[0].querySelector('summary').click(); arguments[0].scrollIntoView()", record)
    assert record.find_element("css selector", "table").is_displayed()


@pytest.mark.parametrize("kind", ["vae", "transformer"])
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
    else:
        tokens = browser.execute_script("return page.runs[0].panels.find(p => p.name === 'text').tokens.join('')")
        assert text_of(browser, ".mini p") == tokens[-150:]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
