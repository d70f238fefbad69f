"""The pages, in a real browser: what stands on them is what the records hold."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from zoo.autoencoder import Autoencoder
from zoo.autograd.tracing import trace
from zoo.data import music
from zoo.diffusion import Diffusion
from zoo.drawing.words import counted
from zoo.gan import GAN
from zoo.inspection.inspect import inspect
from zoo.inspection.music import beginnings
from zoo.inspection.page import pack, unpack
from zoo.inspection.panels.text import WATCHED, _contributions, last, read
from zoo.language.tokenizer import CharTokenizer
from zoo.multimodal.captions import Captions
from zoo.recurrent import Recurrent
from zoo.transformer import Transformer
from zoo.vae import VAE
from zoo.vqvae import VQVAE

ROOT = Path(__file__).resolve().parent.parent
TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n"
PROMPT = "First"


def text_model(kind=Transformer, **fields):
    tokenizer = CharTokenizer(TEXT)
    model = kind.new(symbols=tokenizer.size, seed=3, **fields)
    model.tokenizer = tokenizer
    return model.eval()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium isn't installed: pip install numpy-zoo[test]")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Chromium isn't installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "no-first-run", "window-size=1280,900",
                 f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument("--" + flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


def opened(browser, path, at=""):
    browser.get("about:blank")
    browser.get(path.as_uri() + at)
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors, errors
    return browser


def text_of(browser, selector):
    return browser.execute_script("return document.querySelector(arguments[0]).textContent", selector)


def press(browser, key):
    browser.execute_script("""
        document.activeElement.blur();
        document.body.dispatchEvent(new KeyboardEvent("keydown", {key: arguments[0], bubbles: true}))""", key)


def record_on(browser):
    """The table of the record: {field: its cells}."""
    return browser.execute_script("""
        const rows = [...document.querySelectorAll(".record tbody tr")];
        return Object.fromEntries(rows.map(r => [r.dataset.field, [...r.cells].map(c => c.textContent)]))""")


def test_one_step_is_one_step(browser, tmp_path):
    path = tmp_path / "page.html"
    inspect(VAE.new(latent=(4,), hidden=(16,)), path)
    opened(browser, path)
    for n, said in ((0, "0 steps"), (1, "1 step"), (2, "2 steps"), (2000, "2,000 steps")):
        assert counted(n, "step") == browser.execute_script("return counted(arguments[0], 'step')", n) == said
    nouns = "steps|tokens|notes|points|sixteenths|parameters|units|candidates|numbers"
    for folder, suffix in (("zoo/inspection", "js"), ("zoo/inspection", "py"), ("zoo/recipes", "py"), ("zoo/drawing", "py")):
        for file in (ROOT / folder).rglob(f"*.{suffix}"):  # errors apart: what they count is too many, or too few
            lines = [line for line in file.read_text("utf-8").splitlines() if re.search(rf"\}} ({nouns})\b", line) and not re.search("raise |Error|per second|sides|join", line)]
            assert not lines, (file.name, lines)


def test_packed_arrays_come_back(rng):
    for dtype in ("float32", "float16", "int32", "uint8"):
        a = (rng.standard_normal((3, 4, 5)) * 50).astype(dtype)
        assert np.array_equal(unpack(pack(a, dtype)), a) and unpack(pack(a, dtype)).dtype == a.dtype
    a = rng.standard_normal((5, 6)) * 3
    a[2, 3] = np.nan
    assert np.allclose(unpack(pack(a, "signed8")), a, atol=np.nanmax(np.abs(a)) / 250, equal_nan=True)
    a = rng.random((7, 9))
    assert np.abs(unpack(pack(a, "unit8")) - a).max() <= 0.5 / 255 + 1e-7


def test_a_page_asks_for_nothing_and_holds_what_it_needs(tmp_path):
    path = tmp_path / "page.html"
    size = inspect(VAE.new(latent=(4,), hidden=(16,)), path)
    content = path.read_text("utf-8")
    assert size == path.stat().st_size < 15e6
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", content)
    assert "://" not in content.replace("http://www.w3.org/2000/svg", "")
    page = json.loads(re.search(r'<script type="application/json" id="page">(.*?)</script>', content, re.S)[1])
    assert len(page["runs"]) == 1


def test_text_that_looks_like_markup_stays_text(tmp_path):
    tokenizer = CharTokenizer("</script><b>\u2028&\"'")
    model = Transformer.new(symbols=tokenizer.size, layers=1, heads=1, width=8, seed=0)
    model.tokenizer = tokenizer
    path = tmp_path / "page.html"
    inspect(model, path, prompt="</script><b>", n=3)
    assert path.read_text("utf-8").count("</script>") == 2


MODELS = {
    "vae": lambda: (VAE.new(latent=(4, 3), hidden=(16, 8)), {}),
    "vae-convolutional": lambda: (VAE.new(latent=(3,), hidden=(16,), network="convolutional", classes=10), {"digit": 3}),
    "autoencoder": lambda: (Autoencoder.new(latent=3, hidden=(16,)), {}),
    "vqvae": lambda: (VQVAE.new(channels=4, codes=6, width=3, prior_layers=1, prior_heads=1, prior_width=8).eval(), {}),
    "gan": lambda: (GAN.new(classes=10), {"digit": 3}),
    "ring": lambda: (GAN.new(image=(2,), network="dense", latent=2, hidden=(8,), discriminator_hidden=(8,), packing=2), {}),
    "diffusion": lambda: (Diffusion.new(channels=8, multipliers=(1,), blocks=1, classes=10), {"digit": 3, "evaluations": 3}),
    "painted": lambda: (Diffusion.new(channels=8, multipliers=(1,), blocks=1), {
        "evaluations": 3, "repeats": 2, "images": np.zeros((1, 28, 28), np.float32), "mask": np.eye(28, dtype=bool)}),
    "plane": lambda: (Diffusion.new(image=(2,), network="dense", channels=8, blocks=1), {"evaluations": 3}),
    "latents": lambda: (Diffusion.new(image=(50,), autoencoder="vae", network="dense", channels=8, blocks=1), {"evaluations": 3}),
    "transformer": lambda: (text_model(layers=2, heads=2, width=16, window=12), {"prompt": PROMPT, "n": 12, "top_k": 5}),
    "llama": lambda: (text_model(layers=2, heads=2, key_value_heads=1, width=16, window=12, positions="rotary", norm="rms", mlp="swiglu",
                                 bias=False, tied=False), {"prompt": PROMPT, "n": 4}),
    "gru": lambda: (text_model(Recurrent, cell="gru", width=8, layers=2), {"prompt": PROMPT, "n": 4}),
    "lstm": lambda: (text_model(Recurrent, cell="lstm", width=8), {"prompt": PROMPT, "n": 4, "temperature": 0.0}),
    "elman": lambda: (text_model(Recurrent, cell="elman", width=8), {"n": 4}),
    "captions": lambda: (Captions.for_data("", channels=2, width=8, blocks=1, heads=2, length=9).eval(), {"seed": 1}),
    "keys": lambda: (Recurrent.new(cell="gru", inputs="keys", symbols=88, width=8).eval(), {"n": 4}),
}


@pytest.mark.parametrize("model", MODELS)
def test_every_family_makes_a_page_that_plays(browser, tmp_path, model):
    made, settings = MODELS[model]()
    path = tmp_path / "page.html"
    inspect(made, path, **settings)
    opened(browser, path)
    steps = browser.execute_script("return player.length")
    for i in range(steps):
        press(browser, "ArrowRight" if i else "Home")
    assert text_of(browser, "#where") == f"{steps} / {steps}"
    assert not browser.get_log("browser")
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("model", ["vae", "gan", "diffusion"])
def test_a_page_opens_at_its_result_and_what_can_be_moved_comes_before_the_record(browser, tmp_path, model):
    generator, settings = MODELS[model]()
    path = tmp_path / "page.html"
    inspect(generator, path, **settings)
    opened(browser, path)
    steps = browser.execute_script("return player.length")
    assert text_of(browser, "#where") == f"{steps} / {steps}"
    *_, last = generator.steps(1, seed=0, **settings)
    held = browser.execute_script("const p = page.runs[0].views.find(v => v.name === 'picture').data.pictures.at(-1); return [p.shape, Array.from(values(p))]")
    result = generator.sample(1, seed=0, **settings)[0]
    assert np.abs(np.reshape(held[1], held[0]).squeeze() - result).max() < 0.01  # for a GAN too, whose last record is the verdict
    order = browser.execute_script("return [...document.querySelectorAll('.panels > .card')].map(c => c.dataset.panel)")
    assert order[0] == "why" and order[-1] == "record" and ("latent" not in order or order[1] == "latent")
    focusable = browser.execute_script("return [...document.querySelectorAll('button, input')].map(e => e.id)")
    assert focusable.index("play") < 5  # the player before fifty sliders


def test_keys_slider_and_buttons_move_the_step(browser, tmp_path):
    path = tmp_path / "page.html"
    inspect(VAE.new(latent=(4,), hidden=(16,)), path)
    opened(browser, path)
    last = browser.execute_script("return player.length")
    for key, where in (("End", last), ("ArrowLeft", last - 1), ("Home", 1), ("ArrowLeft", 1), ("ArrowRight", 2)):
        press(browser, key)
        assert text_of(browser, "#where") == f"{where} / {last}"
    browser.execute_script("s = document.getElementById('step'); s.value = 2; s.dispatchEvent(new Event('input'))")
    assert text_of(browser, "#where") == f"3 / {last}"
    assert "step 3 of" in browser.find_element("id", "step").get_attribute("aria-valuetext")
    press(browser, "Home")
    browser.execute_script("player.speed = 60; document.getElementById('play').click()")
    browser.set_script_timeout(10)
    browser.execute_async_script("done = arguments[0]; wait = () => player.playing ? setTimeout(wait, 20) : done(); wait()")
    assert text_of(browser, "#where") == f"{last} / {last}"


def test_the_record_on_the_page_is_the_record(browser, tmp_path):
    model = VAE.new(latent=(4,), hidden=(16,), seed=1)
    path = tmp_path / "page.html"
    inspect(model, path, seed=5)
    opened(browser, path)
    for i, step in enumerate(model.steps(1, seed=5)):
        browser.execute_script("player.go(arguments[0])", i)
        shown = record_on(browser)
        assert shown["name"][1] == step.name and shown["formula"][1] == step.formula
        statistics = [step.value.mean(dtype=float), step.value.std(dtype=float), step.value.min(), step.value.max()]
        assert np.allclose([float(x) for x in shown["value"][2:6]], statistics, rtol=6e-4, atol=1e-6)


@pytest.mark.parametrize("network", ["dense", "convolutional"])
def test_the_decoder_in_the_page_decodes_as_the_model_does(browser, tmp_path, network):
    model = VAE.new(latent=(3,), hidden=(16,), depth=1, network=network, activation="silu", classes=10, seed=2).eval()
    path = tmp_path / "page.html"
    inspect(model, path, digit=4)
    opened(browser, path)
    z = [0.5, -1.25, 2.0]
    pixels = browser.execute_script("""
        const panel = page.runs[0].panels.find(p => p.kind === "latent");
        return Array.from(decodeLatent(panel.layers, Float32Array.from(arguments[0])));""", z)
    *_, last = model.steps(z=np.array([z], np.float32), digit=4)
    assert np.abs(np.reshape(pixels, (28, 28)) - last.value[0]).max() < 2e-3
    browser.execute_script("""
        const sliders = document.querySelectorAll(".sliders input");
        arguments[0].forEach((v, k) => { sliders[k].value = v; sliders[k].dispatchEvent(new Event("input")); })""", z)
    shown = float(browser.find_element("css selector", ".decoded canvas").get_attribute("data-mean"))
    assert abs(shown - last.value.mean()) < 2e-3


def test_the_text_grows_and_every_token_has_its_reasons(browser, tmp_path):
    model = text_model(layers=2, heads=2, width=16, window=16)
    settings = {"prompt": PROMPT, "temperature": 0.7, "top_k": 6}
    steps = list(model.steps(n_tokens=9, seed=4, **settings))
    path = tmp_path / "page.html"
    inspect(model, path, n=9, seed=4, **settings)
    opened(browser, path)
    text = PROMPT
    for i, step in enumerate(steps):
        browser.execute_script("player.go(arguments[0])", i)
        text += step.text
        visible = "return [...document.querySelectorAll('.stage .text span:not(.later)')].map(s => s.textContent).join('')"
        assert browser.execute_script(visible).replace("↵\n", "\n") == text
        why = text_of(browser, ".why")
        assert f"{step.probabilities[step.token]:.1%}" in why and f"{step.draw:.4f}" in why
        assert record_on(browser)["token"][1] == str(step.token)
        rows = browser.execute_script("return [...document.querySelectorAll('.stages .token')].map(s => s.textContent)")
        best = np.argsort(-step.probabilities, kind="stable")[0]
        assert rows[0] == model.tokenizer.decode([best]).replace(" ", "␣").replace("\n", "↵")
        held = browser.execute_script("""
            const p = page.runs[0].panels.find(p => p.kind === "candidates");
            return [Array.from(row(p.ranges, arguments[0])), p.chosen[arguments[0]]]""", i)
        begin, end = held[0][2 * held[1]: 2 * held[1] + 2]
        assert begin - 1e-6 <= step.draw <= end + 1e-6


def test_attention_on_the_page_is_the_attention(browser, tmp_path):
    model = text_model(layers=2, heads=2, width=16, window=32)
    path = tmp_path / "page.html"
    inspect(model, path, n=5, prompt=PROMPT)
    steps = list(model.steps(PROMPT, 5))
    ids = np.concatenate([steps[0].given, [s.token for s in steps[:-1]]])
    with trace(model, at="*.softmax") as seen:
        model(ids[None])
    opened(browser, path)
    for i, step in enumerate(steps):
        browser.execute_script("player.go(arguments[0])", i)
        for layer in range(2):
            for head in range(2):
                browser.execute_script("chosen.layer = arguments[0]; choose('head', arguments[1])", layer, head)
                expected = seen[f"blocks.{layer}.attention.softmax"].value[0, head, step.position - 1, : step.position]
                text = text_of(browser, "[data-panel=attention] .controls .note")
                most = int(re.search(r", (\d+) back", text)[1])
                assert expected[step.position - most] >= expected.max() - 1 / 255


@pytest.mark.parametrize("fields", [{}, {"norm": "rms", "positions": "rotary", "mlp": "swiglu", "bias": False, "tied": False, "key_value_heads": 1},
                                    {"norm": "none", "mlp": "relu"}, {"mlp": "none"}])
def test_the_contributions_of_all_parts_add_up_to_the_logit(rng, fields):
    model = text_model(layers=3, heads=2, width=16, window=8, **fields)
    for parameter in model.parameters():
        parameter.data += 0.3 * rng.standard_normal(parameter.shape).astype(np.float32)
    with trace(model, at=WATCHED) as seen:
        for step in model.steps(PROMPT, 6, seed=1):
            pushes = _contributions(model, step.token, last(read(model, seen.take(), slice(-1, None))))
            assert np.isclose(pushes.sum(), step.logits[step.token] - step.logits.mean(), atol=1e-3)


def test_two_runs_stand_side_by_side(browser, tmp_path):
    path = tmp_path / "page.html"
    model = VAE.new(latent=(4,), hidden=(16,))
    inspect(model, path, against={"patch": "layers.0.tanh:zero"})
    opened(browser, path)
    assert browser.execute_script("return document.querySelectorAll('.run').length") == 2
    browser.execute_script("player.go(1)")
    means = browser.execute_script("return [...document.querySelectorAll('[data-field=value]')].map(r => r.cells[2].textContent)")
    assert float(means[0]) != 0 and float(means[1]) == 0


def test_both_themes_and_both_widths(browser, tmp_path):
    path = tmp_path / "page.html"
    inspect(text_model(layers=2, heads=2, width=16), path, n=8, prompt=PROMPT, temperature=0.8, top_k=9, top_p=0.9, against={"seed": 1})
    for width in (400, 1280):
        browser.set_window_size(width, 900)
        for theme in ("light", "dark"):
            opened(browser, path, f"#theme={theme}")
            # headless Chromium has windows of 500 pixels and more: narrow the page itself
            browser.execute_script("document.body.style.width = arguments[0] + 'px'", min(width, browser.execute_script("return innerWidth")))
            assert browser.execute_script("return document.documentElement.dataset.theme") == theme
            assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    browser.find_element("id", "theme").click()
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") != before


def test_everything_that_can_be_used_has_a_name(browser, tmp_path):
    path = tmp_path / "page.html"
    inspect(text_model(layers=2, heads=2, width=16), path, n=4, prompt=PROMPT)
    opened(browser, path)
    nameless = browser.execute_script("""
        const named = e => e.getAttribute("aria-label") || e.textContent.trim() || e.closest("button[aria-label]") || e.closest(".hidden");
        return [...document.querySelectorAll("button, select, input, canvas, svg")].filter(e => !named(e)).map(e => e.outerHTML.slice(0, 80))""")
    assert not nameless


@pytest.fixture(scope="module")
def composer():
    """A model that spells chorales, untrained: its text is any text of that notation."""
    text = "".join(music.to_text(piece) for piece in music.chorales()[:40]) + "\n"
    tokenizer = CharTokenizer(text)
    model = Transformer.new(symbols=tokenizer.size, layers=1, heads=2, width=16, window=512, seed=3)
    model.tokenizer = tokenizer
    model.card = {"data": "chorales"}
    return model.eval()


def test_a_chorale_is_a_roll_and_what_is_heard_is_what_was_written(browser, tmp_path, composer):
    prompt = "bwv102.7"
    path = tmp_path / "page.html"
    inspect(composer, path, prompt=prompt, n=40, seed=2)
    opened(browser, path)
    tokens = browser.execute_script("return page.runs[0].views.find(v => v.name === 'roll').data.tokens")
    given = beginnings()[prompt]
    text = "".join(tokens)
    assert text.startswith(given) and len(text) > len(given)
    expected = [list(note) for note in music.notes_of(music.from_text(text))]
    js = "return {}.map(n => [n.voice, n.pitch, n.start, n.length]).sort((a, b) => a[2] - b[2] || a[0] - b[0])"
    assert browser.execute_script(js.format("notesOf(page.runs[0].views.find(v => v.name === 'roll').data.tokens)")) == expected
    browser.execute_script("[...document.querySelectorAll('button')].find(b => b.textContent.includes('listen')).click()")
    assert browser.execute_script(js.format("audio.scheduled")) == expected  # the tones that the browser plays
    assert "stop" in browser.execute_script("return [...document.querySelectorAll('.stage button')].map(b => b.textContent).join()")
    browser.execute_script("audio.stop()")
    for i in (0, 7, 20):
        browser.execute_script("player.go(arguments[0])", i)
        shown = text[: len(given) + i + 1]
        notes = browser.execute_script("return Number(document.querySelector('.roll canvas').dataset.notes)")
        assert notes == len(music.notes_of(music.from_text(shown)))
    assert not browser.execute_script(ACCESS)
    labels = browser.execute_script("return [...document.querySelectorAll('.stages .token')].map(s => s.textContent.trim())")
    assert all(re.fullmatch(r"[A-G]#?\d|hold|rest|end", label) for label in labels), labels


ACCESS = r"""
    const seen = e => e.getClientRects().length > 0, faults = [], fault = (why, e) => faults.push(why + ": " + e.outerHTML.slice(0, 90));
    for (const e of document.querySelectorAll("body *")) {  // what scrolls can be scrolled without a mouse
        const s = getComputedStyle(e), scrolls = (/auto|scroll/.test(s.overflowX) && e.scrollWidth > e.clientWidth + 1) || (/auto|scroll/.test(s.overflowY) && e.scrollHeight > e.clientHeight + 1);
        if (scrolls && seen(e) && e.tabIndex < 0 && !e.querySelector("button, input, a, [tabindex='0']")) fault("scrolls, but no key does it", e);
    }
    let level = 0;
    for (const h of document.querySelectorAll("h1, h2, h3, h4")) {
        const now = Number(h.tagName[1]);
        if (seen(h) && now > level + 1) fault("a level of headings is left out", h);
        if (seen(h)) level = now;
    }
    for (const t of document.querySelectorAll("[role=table]")) if (!t.children.length || [...t.children].some(r => r.getAttribute("role") !== "row")) fault("a table without rows", t);
    for (const r of document.querySelectorAll("[role=row]")) if ([...r.children].some(c => !/header|cell/.test(c.getAttribute("role")))) fault("a row without cells", r);
    for (const t of document.querySelectorAll("th")) if (!t.textContent.trim() && seen(t)) fault("an empty header", t);
    const names = new Map();
    for (const e of document.querySelectorAll("section[aria-label], [role=region]")) {
        const name = e.getAttribute("aria-label");
        if (seen(e) && names.has(name) && names.get(name).closest(".run") === e.closest(".run")) fault("two regions of one name", e);
        names.set(name, e);
    }
    for (const name of ["main", "h1"]) if (document.querySelectorAll(name).length !== 1) fault(`not one ${name}`, document.body);
    for (const e of document.querySelectorAll("button, select, input, textarea, a[href]"))
        if (seen(e) && !e.getAttribute("aria-label") && !e.labels?.length && !(/BUTTON|^A$/.test(e.tagName) && e.textContent.trim())) fault("no name", e);
    const light = c => { const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const rgb = text => {
        const m = /^(rgba?|color)\((?:srgb )?([^)]*)\)$/.exec(text), n = m && m[2].split(/[,/ ]+/).map(Number);
        return n && {colour: n.slice(0, 3).map(v => m[1] === "color" ? 255 * v : v), alpha: n[3] ?? 1};
    };
    const over = (top, alpha, below) => below.map((v, k) => alpha * top[k] + (1 - alpha) * v);
    for (const e of document.querySelectorAll("body *")) {  // WCAG 1.4.3, where text stands on plain colours
        if (!seen(e) || e.closest("svg, :disabled, option, script") || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
        const s = getComputedStyle(e), ink = rgb(s.color), size = parseFloat(s.fontSize), layers = [];
        let opacity = 1;
        for (let on = e; on; on = on.parentElement) {
            const t = getComputedStyle(on), b = t.backgroundImage === "none" ? rgb(t.backgroundColor) : null;
            layers.push(b);
            if (!b || b.alpha === 1) break;
            opacity *= t.opacity;
        }
        if (!ink || layers.some(b => !b) || layers.at(-1).alpha < 1) continue;
        const paper = layers.reduceRight((below, b) => over(b.colour, b.alpha, below), layers.at(-1).colour);
        const [low, high] = [light(over(ink.colour, ink.alpha * opacity, paper)), light(paper)].sort((a, b) => a - b), ratio = (high + 0.05) / (low + 0.05);
        if (ratio < (size >= 24 || (size >= 18.66 && s.fontWeight >= 700) ? 3 : 4.5)) fault(`contrast ${ratio.toFixed(2)}`, e);
    }
    if (document.documentElement.scrollWidth > innerWidth) fault("scrolls sideways", document.body);
    return faults;"""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("width", [400, 1280])
def test_everything_can_be_reached_by_keys_and_read_aloud(browser, tmp_path, model, width):
    """What axe found wrong once: tables without rows, boxes that only a mouse scrolls, headings that skip a level."""
    generator, settings = MODELS[model]()
    path = tmp_path / "page.html"
    inspect(generator, path, **settings)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    opened(browser, path)
    assert not browser.execute_script(ACCESS)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
