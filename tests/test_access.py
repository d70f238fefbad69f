"""Every page is read by axe, the checker of the Web Content Accessibility Guidelines, in both themes and both widths: no critical and no
serious finding."""

import importlib.util
import threading
from pathlib import Path

import pytest
from test_page import MODELS, browser, composer, opened, text_model, text_of  # noqa: F401
from test_play import tiny
from test_start import fresh, models, until  # noqa: F401

from zoo.inspection import start
from zoo.inspection.inspect import inspect
from zoo.inspection.play import Models, Server

WIDTHS = (400, 1280)


@pytest.fixture(scope="module")
def axe():
    """The script of axe-core, from whichever of these packages is there."""
    for name in ("axe_playwright_python", "axe_core_python"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            return (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text("utf-8")
    pytest.skip("axe-core isn't installed: pip install numpy-zoo[test]")


def findings(browser, axe):  # noqa: F811
    browser.set_script_timeout(60)
    browser.execute_script("for (const a of document.getAnimations()) a.finish();")
    browser.execute_script(axe)
    found = browser.execute_async_script("""
        const done = arguments[0];
        axe.run(document, {resultTypes: ["violations"]}).then(r => done(r.violations.map(v => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 120),
            v.nodes[0].any.map(a => a.message).join("; ").slice(0, 200)])), e => done([["critical", String(e)]]));""")
    return [v for v in found if v[0] in ("critical", "serious")]


def check(browser, axe, show):  # noqa: F811
    """show(theme) opens the page."""
    try:
        for width in WIDTHS:
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
            for theme in ("light", "dark"):
                show(theme)
                assert browser.execute_script("return document.documentElement.dataset.theme") == theme
                assert not (wrong := findings(browser, axe)), (width, theme, wrong)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("kind", [*MODELS, "chorales"])
def test_the_page_of_every_kind_of_model(browser, tmp_path, axe, composer, kind):  # noqa: F811
    model, settings = (composer, {"n": 40, "prompt": "bwv102.7"}) if kind == "chorales" else MODELS[kind]()
    path = tmp_path / "page.html"
    inspect(model, path, **settings)
    check(browser, axe, lambda theme: opened(browser, path, f"#theme={theme}"))


def test_two_runs_side_by_side(browser, tmp_path, axe):  # noqa: F811
    path = tmp_path / "page.html"
    inspect(MODELS["vae"]()[0], path, against={"seed": 1})
    check(browser, axe, lambda theme: opened(browser, path, f"#theme={theme}"))


def test_the_start_page_and_its_stories(browser, tmp_path, axe, fresh):  # noqa: F811
    path = tmp_path / "zoo-demo.html"
    start.write_start_page(path, say=lambda line: None)

    def first(theme):
        opened(browser, path, f"#theme={theme}")
        until(browser, "start.tiles.every(t => t.began !== null)")

    check(browser, axe, first)
    titles = {tile.name: tile.title for tile in start.TILES}
    for each in titles:
        def story(theme, name=each):
            opened(browser, path, f"#story={name}&theme={theme}")
            until(browser, "typeof player !== 'undefined' && player.length > 1")
            assert text_of(browser, ".top h1").endswith(titles[name])
            browser.execute_script("player.play(false); player.go(player.length - 1)")

        check(browser, axe, story)


@pytest.fixture(scope="module")
def server():
    server = Server(Models({kind: tiny(kind) for kind in ("vae", "diffusion", "gan", "transformer")}), start=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.stop()


@pytest.mark.parametrize("kind", ["vae", "diffusion", "gan", "transformer"])
def test_the_live_page(browser, axe, server, kind):  # noqa: F811
    def show(theme):
        browser.get("about:blank")
        browser.get(f"{server.address}play#model={kind}&theme={theme}")
        until(browser, "typeof live !== 'undefined' && live.run && live.run.steps.length && !live.asking")
        browser.execute_script("player.play(false); player.go(player.length - 1)")

    check(browser, axe, show)
