"""`zoo play`: who isn't let in, what isn't taken, and in a real browser a page that is fed while the model runs."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from test_page import ACCESS, MODELS, PROMPT, browser, text_model, text_of  # noqa: F401

from zoo.autoencoder import Autoencoder
from zoo.diffusion import Diffusion
from zoo.gan import GAN
from zoo.inspection.changes import read_change
from zoo.inspection.controls import controls_for, describe_tool, read_request
from zoo.inspection.inspect import inspect
from zoo.inspection.page import unpack
from zoo.inspection.play import MAX_BODY_BYTES, MAX_CONNECTIONS, ORDER, Models, Server
from zoo.inspection.runs import make_run, stream_run
from zoo.loading.cards import at_hand, card_of
from zoo.recurrent import Recurrent
from zoo.transformer import Transformer
from zoo.vae import VAE


def tiny(kind):
    """Fresh models that take no time."""
    return {
        "transformer": lambda: text_model(layers=1, heads=2, width=8, window=16),
        "vae": lambda: VAE.new(latent=(3,), hidden=(8,), classes=10, seed=1).eval(),
        "autoencoder": lambda: Autoencoder.new(latent=2, hidden=(8,)).eval(),
        "gan": lambda: GAN.new(network="dense", hidden=(8,), discriminator_hidden=(8,), latent=4, classes=10).eval(),
        "diffusion": lambda: Diffusion.new(image=(8, 8), channels=8, multipliers=(1,), classes=10, evaluations=4).eval(),
    }[kind]()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "transformer"
    tiny("transformer").save(folder, prompt=PROMPT)
    sources = {"transformer": str(folder), **{kind: tiny(kind) for kind in ("vae", "gan", "diffusion")}}
    server = Server(Models(sources))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.stop()


def asked(server, method="GET", path=None, body=None, token=None, raw=None, **headers):
    """(status, headers, content) of a request; without other wishes a right one."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    path = f"/{server.token if token is None else token}/" + (path or "")
    if body is not None:
        raw = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in ({"Content-Length": str(len(raw))} if raw is not None else {}).items():
            headers.setdefault(name, value)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(raw)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def run(server, **settings):
    status, _, content = asked(server, "POST", "run", settings)
    return status, [json.loads(line) for line in content.splitlines()]


# --- who isn't let in


def test_the_page_comes_with_a_policy_that_lets_nothing_else_in(server):
    status, headers, content = asked(server)
    policy = headers["Content-Security-Policy"]
    assert status == 200 and b"zoo play" in content
    for rule in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
        assert rule in policy
    assert "unsafe" not in policy and b"://" not in content.replace(b"http://www.w3.org/2000/svg", b"")
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer" and headers["X-Frame-Options"] == "DENY"
    assert server.server_address[0] == "127.0.0.1" and len(server.token) >= 32
    with Server(server.models) as other:
        assert other.token != server.token


@pytest.mark.parametrize("wrong", [
    {"token": "x"}, {"token": ""}, {"token": "é"}, {"Host": "evil.example"}, {"Host": "127.0.0.1"}, {"Host": "127.0.0.1:1"}, {"Host": ""},
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "https://127.0.0.1"}, {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"}], ids=str)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_wrong_tokens_hosts_and_origins_are_refused(server, wrong, method):
    if wrong.get("token") == "é":
        wrong = {"token": server.token[:-1] + "%C3%A9"}
    status, _, content = asked(server, method, "run", {"model": "vae"} if method == "POST" else None, **wrong)
    assert status == 403 and set(json.loads(content)) == {"error"} and server.token.encode() not in content


def test_the_servers_own_origin_and_both_names_are_let_in(server):
    for host in server.hosts:
        assert asked(server, Host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin")[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("GET", f"/{server.token}/", skip_host=True)
    for host in server.hosts:
        connection.putheader("Host", host)
    connection.endheaders()
    with connection.getresponse() as response:
        assert response.status == 403  # two hosts are none
    connection.close()


def test_there_are_no_files(server):
    for path in ("x", "run", "page.js", "../../../etc/passwd", "..%2f..%2fetc/passwd", "/etc/passwd", "model/", "%00"):
        assert asked(server, path=path)[0] == 404
    assert asked(server, "POST", "", {})[0] == 404
    for method in ("PUT", "DELETE", "HEAD", "OPTIONS", "X"):
        assert asked(server, method)[0] == 501


# --- what isn't taken


@pytest.mark.parametrize(("status", "raw", "headers"), [
    (400, b"", {}), (400, b"{", {}), (400, b"[]", {}), (400, b"\xff", {}), (400, b"[" * 100_000, {}), (400, b'{"seed": NaN}', {}), (400, b"3", {}),
    (400, b'{"seed": ' + b"9" * 10_000 + b"}", {}), (400, b"{}", {}), (400, b'{"model": 3}', {}), (400, b'{"model": "../vae"}', {}),
    (413, b"x", {"Content_Length": str(MAX_BODY_BYTES + 1)}), (413, b"x", {"Content_Length": "9" * 50}), (413, b"x" * 3_000_000, {}),
    (411, b"{}", {"Content_Length": "-1"}), (411, b"{}", {"Content_Length": "two"}), (411, b"{}", {"Content_Length": "²"}),
    (411, b"{}", {"Transfer_Encoding": "chunked"}), (415, b"{}", {"Content_Type": "text/plain"})], ids=lambda x: str(x)[:30])
def test_malformed_and_huge_requests_are_refused(server, status, raw, headers):
    if headers.get("Content_Length") == "²":
        headers = {"Content_Length": "²".encode("latin-1")}
    got, _, content = asked(server, "POST", "run", raw=raw, **{"Content_Type": "application/json", **headers})
    assert got == status and json.loads(content)["error"]
    assert run(server, model="vae", digit=3)[0] == 200  # and the server goes on


@pytest.mark.parametrize("kind", ["transformer", "vae", "gan", "diffusion", "keys", "ids"])
def test_every_setting_is_bounded(kind):
    makers = {"keys": lambda: Recurrent.new(inputs="keys", symbols=88, width=4), "ids": lambda: Transformer.new(symbols=9, layers=1, heads=1, width=4)}
    model = makers[kind]() if kind in makers else tiny(kind)
    for control in controls_for(model):
        if control.kind == "text":
            wrong = ["x" * (int(control.most) + 1), 3, None, ["x"]]
        elif control.kind == "choice":
            wrong = ["nonsense", 3, None, {}]
        else:
            wrong = [control.least - 1, control.most + control.by, float("inf"), float("nan"), "3", True, [], 10**400]
            wrong += [control.least + 0.5] * (control.by == 1) + [None] * (control.off is None)
        for value in wrong:
            with pytest.raises(ValueError, match=rf"^{control.name} is .*; it "):
                read_request(model, {control.name: value})
        assert control.default is None or control.read(control.default) == (None if control.default == control.off else control.default)
    with pytest.raises(ValueError, match=r"'sead' isn't a setting of this model; did you mean 'seed'\?"):
        read_request(model, {"sead": 3})


def test_a_hand_that_does_not_fit_is_refused():
    vae, diffusion = tiny("vae"), tiny("diffusion")
    for z in (3, "abc", [1, 2], [1, 2, "3"], [1, 2, float("nan")], [1, 2, 1e9], [True, 1, 2]):
        with pytest.raises(ValueError, match="^z is .*; it is 3 numbers from -8 to 8"):
            read_request(vae, {"z": z})
    good = base64.b64encode(bytes(64)).decode()
    for name in ("image", "mask"):
        for wrong in (3, "", "A", "#" * 88, good[4:], good + "AAAA", "é", None):
            if name == "mask" and wrong is None:
                continue  # no mask: nothing is painted in
            with pytest.raises(ValueError, match=f"^{name} is .*; it is 64 bytes, 8 x 8, in base64"):
                read_request(diffusion, {"image": good, "mask": good, name: wrong})
    with pytest.raises(ValueError, match="repeats is 99"):
        read_request(diffusion, {"image": good, "mask": good, "repeats": 99})
    with pytest.raises(ValueError, match="isn't a setting"):
        read_request(vae, {"mask": good})
    read = read_request(diffusion, {"image": base64.b64encode(bytes(range(64))).decode(), "mask": base64.b64encode(bytes([1] + [0] * 63)).decode()})
    assert np.allclose(read["images"][0].ravel() * 255, np.arange(64)) and not read["mask"][0, 0] and read["mask"].sum() == 63


def test_what_the_model_refuses_is_said(server):
    status, (message,) = run(server, model="transformer", prompt="é", n=3)
    assert status == 400 and "é" in message["error"] and "prompt" in message["error"]
    everything = base64.b64encode(bytes(64)).decode()
    status, (message,) = run(server, model="diffusion", image=everything, mask=everything)
    assert status == 400 and "nothing is left to paint" in message["error"]


def test_a_fault_in_the_midst_ends_the_stream_with_its_message(server, capfd):
    class Broken(VAE):
        def steps(self, *args, **settings):
            yield next(super().steps(*args, **settings))
            raise AssertionError("broken")

    server.models.sources["broken"] = Broken.new(latent=(3,), hidden=(8,))
    status, messages = run(server, model="broken")
    assert status == 200 and "run" in messages[0] and "step" in messages[1] and "bug in zoo" in messages[-1]["error"]
    assert "broken" in capfd.readouterr().err
    del server.models.sources["broken"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, where definitions meet a NaN
@pytest.mark.parametrize("kind", ["vae", "diffusion", "transformer"])
def test_weights_that_are_not_finite_end_the_stream_with_a_line(server, tmp_path, kind):
    broken = tiny(kind)
    for parameter in broken.parameters():
        parameter.data[...] = np.nan
    server.models.sources["broken"] = broken
    try:
        _, messages = run(server, model="broken", **({"prompt": PROMPT, "n": 3} if kind == "transformer" else {"digit": 3}))
        assert "error" in messages[-1] or "end" in messages[-1]  # not a stream that breaks off
        if kind == "diffusion":
            assert "aren't finite" in messages[-1]["error"]
            with pytest.raises(ValueError, match="aren't finite"):
                inspect(broken, tmp_path / "page.html", digit=3)
        assert run(server, model="vae", digit=3)[0] == 200
    finally:
        del server.models.sources["broken"], server.models.loaded["broken"]


# --- one at a time, and no longer than somebody looks


@pytest.fixture
def slow(server):
    """A model of text of which each token takes its time, and how many it has written."""
    model, written = tiny("transformer"), []

    def step(*args):
        written.append(1)
        time.sleep(0.01)
        return type(model)._step(model, *args)

    model._step = step
    server.models.sources["slow"] = model
    yield written
    del server.models.sources["slow"], server.models.loaded["slow"]


def begun(server, **settings):
    """A socket on which a run is coming."""
    body = json.dumps(settings).encode()
    client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    client.sendall(f"POST /{server.token}/run HTTP/1.1\r\nHost: {server.hosts[0]}\r\nContent-Type: application/json\r\n"
                   f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    client.recv(1000)
    return client


def test_computing_stops_when_the_client_goes_away(server, slow):
    client = begun(server, model="slow", prompt=PROMPT, n=500)
    while not slow:
        assert client.recv(1000), "the run ended before its first token"
    client.close()
    assert server.turn.running.acquire(timeout=20)
    server.turn.running.release()
    assert 0 < len(slow) < 500


def test_a_new_request_ends_the_one_before(server, slow):
    first = begun(server, model="slow", prompt=PROMPT, n=500)
    content = b""
    while not slow:
        content += first.recv(1000)
    status, messages = run(server, model="vae", digit=3)
    assert status == 200 and "end" in messages[-1]
    while piece := first.recv(2**16):
        content += piece
    assert 0 < len(slow) < 500 and b'"end":' not in content and content.endswith(b"\n")
    first.close()


def test_idle_connections_are_bounded(server):
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(MAX_CONNECTIONS)]
    try:
        for client in idle:
            client.sendall(b"GET")
        time.sleep(0.2)
        with pytest.raises((http.client.HTTPException, OSError)):
            asked(server)
    finally:
        for client in idle:
            client.close()
    for _ in range(100):
        try:
            assert asked(server)[0] == 200
            break
        except (http.client.HTTPException, OSError):
            time.sleep(0.05)
    else:
        pytest.fail("the server didn't come back")


# --- what is streamed


@pytest.mark.parametrize("family", MODELS)
def test_the_messages_say_what_the_file_says(family):
    model, settings = MODELS[family]()
    first, *rest = json.loads(json.dumps(list(stream_run(model, **settings)), allow_nan=False))
    run = make_run(model, title="x", **settings)
    assert [m["step"] for m in rest if "step" in m] == run["steps"]
    later = {p["name"] for m in rest for p in m.get("panels", [])}
    grown = {name for m in rest for name in m.get("grow", {})}
    names = [p["name"] for p in first["run"]["panels"]]
    assert names == [p["name"] for p in run["panels"] if p["kind"] != "latent"] and later | grown <= set(names)


def test_a_run_is_that_of_the_settings(server):
    model = server.models.get("vae")
    for settings, steps in (({"digit": 7, "seed": 5}, model.steps(1, seed=5, digit=7)),
                            ({"digit": 7, "z": [0.5, -1, 2]}, model.steps(z=np.array([[0.5, -1, 2]], np.float32), digit=7))):
        _, messages = run(server, model="vae", **settings)
        *_, last = steps
        shown = unpack([m for m in messages if "step" in m][-1]["grow"]["picture"]["pictures"])
        assert np.array_equal(shown, last.value[0]) and messages[-1]["end"]["steps"] == sum("step" in m for m in messages)
    _, messages = run(server, model="transformer", prompt="First", n=7, seed=3, temperature=0.5, top_k=4, top_p=None)
    written = "".join(m["grow"]["text"]["tokens"] for m in messages if "step" in m)
    model = server.models.get("transformer")
    assert "First" + written == model.generate("First", 7, seed=3, temperature=0.5, top_k=4)
    assert messages[0]["command"].startswith("zoo inspect ") and messages[0]["command"].endswith("--temperature 0.5 --top-k 4")


@pytest.mark.parametrize("kind", ["transformer", "vae", "autoencoder"])
def test_what_can_be_switched_off_is_there(kind):
    model = tiny(kind)
    switch = next(c for c in controls_for(model) if c.name == "patch")
    settings = {"prompt": PROMPT, "n": 2} if kind == "transformer" else {"digit": 3} if kind == "vae" else {}
    plain = make_run(model, **settings)
    for change in list(switch.options)[1:]:
        assert make_run(model, changes=read_change(change), **settings)["steps"] != plain["steps"]


def test_painting_in_keeps_what_is_not_covered(server):
    rng = np.random.default_rng(0)
    image, covered = rng.integers(0, 256, (8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    covered[:, :4] = 1
    packed = {name: base64.b64encode(a.tobytes()).decode() for name, a in (("image", image), ("mask", covered))}
    _, messages = run(server, model="diffusion", digit=3, repeats=2, **packed)
    shown = unpack([m for m in messages if "step" in m][-1]["grow"]["picture"]["pictures"])
    assert np.abs(shown - image / 255)[:, 4:].max() < 0.003 and np.abs(shown - image / 255)[:, :4].max() > 0.1


def test_a_model_is_described(server):
    for name in ("transformer", "vae", "gan", "diffusion"):
        status, _, content = asked(server, "POST", "model", {"model": name})
        found = json.loads(content)
        assert status == 200 and found["name"] == name and (found["tool"] or {}).get("kind") == {"vae": "latent", "gan": "latent", "diffusion": "paint"}.get(name)
    assert describe_tool(tiny("autoencoder"))["mean"]["shape"] == [2]
    status, _, content = asked(server, "POST", "digit", {"model": "diffusion", "number": 12345})
    assert status == 200 and json.loads(content)["pixels"]["shape"] == [8, 8]
    for wrong in (-1, "3", True, 2**40, None):
        assert asked(server, "POST", "digit", {"model": "diffusion", "number": wrong})[0] == 400


def test_a_model_that_generates_nothing_is_refused(tmp_path):
    from zoo.evaluation import Classifier

    with pytest.raises(ValueError, match="generates nothing"):
        Models.of(Classifier.new())
    with pytest.raises(FileNotFoundError, match="neither a folder"):
        Models.of(str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="name a folder"):
        Models({})


def test_models_of_pictures_come_first_and_none_that_generates_nothing(tmp_path):
    tiny("transformer").save(tmp_path / "mine")
    names = list(Models.of(str(tmp_path / "mine")).sources)
    kinds = ["transformer", *(card_of(name)["kind"] for name in names[1:])]
    assert "classifier" not in kinds and set(names[1:]) <= set(at_hand())
    assert kinds[1:] == sorted(kinds[1:], key=ORDER.index) and len(names) == len(set(names))


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    tiny("vae").save(tmp_path / "mine")
    process = subprocess.Popen([sys.executable, "-m", "zoo", "play", str(tmp_path / "mine")], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background jobs ignore
                               text=True, env={**os.environ, "ZOO_KERNELS": "0"})
    try:
        host, _, path = process.stdout.readline().strip().removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("GET", f"/{path}")
        with connection.getresponse() as response:
            assert response.status == 200
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == "" and process.returncode == 0
        connection.close()
    finally:
        process.kill()


# --- in a browser


@pytest.fixture
def page(browser, server):  # noqa: F811
    """Open the page, choose a model, wait until its first run is whole."""

    def opened(name):
        browser.get("about:blank")
        browser.get(server.address)
        if name != "transformer":
            browser.execute_script("m = document.getElementById('model'); m.value = arguments[0]; m.dispatchEvent(new Event('change'))", name)
        whole(browser, name)
        return browser

    yield opened
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors, errors


def whole(browser, name):  # noqa: F811
    """Wait until a run of this model has ended."""
    for _ in range(600):
        if browser.execute_script("return live.model?.name === arguments[0] && !live.asking && !!live.run?.steps.length && !document.querySelector('.wrong')", name):
            return
        time.sleep(0.05)
    pytest.fail("the run doesn't end: " + text_of(browser, "#status"))


def click(browser, script):  # noqa: F811
    """Click what a script finds, and wait for the run that follows."""
    browser.execute_script(f"live.asked = live.run; live.before = live.run.steps; ({script}).click()")
    for _ in range(100):
        if browser.execute_script("return live.run !== live.asked || live.run.steps !== live.before"):
            break
        time.sleep(0.05)
    whole(browser, browser.execute_script("return live.model.name"))


def test_a_prompt_is_typed_and_tokens_arrive(page, server):
    browser = page("transformer")  # noqa: F811
    assert browser.execute_script("return document.getElementById('set-prompt').value") == PROMPT
    browser.execute_script("live.seen = []; new MutationObserver(() => live.seen.push(live.run.steps.length)).observe(document.getElementById('where'), {childList: true})")
    field = browser.find_element("id", "set-prompt")
    field.clear()
    browser.execute_script("live.before = live.run.steps; live.fields.n.set(60)")
    field.send_keys("hear", "\ue007")  # Enter
    for _ in range(200):
        if browser.execute_script("return live.run.steps !== live.before && !live.asking && live.run.steps.length === 60"):
            break
        time.sleep(0.05)
    shown = browser.execute_script("return [...document.querySelectorAll('.stage .text span')].map(s => s.textContent).join('')").replace("↵\n", "\n")
    assert shown == server.models.get("transformer").generate("hear", 60, temperature=0.8)
    assert text_of(browser, "#where") == "60 / 60" and "60 steps in" in text_of(browser, "#status")
    seen = browser.execute_script("return live.seen")
    seen = seen[max([i for i in range(1, len(seen)) if seen[i] < seen[i - 1]], default=0):]
    assert len(seen) >= 3 and seen[-1] == 60, seen  # they came one after the other, not all at once
    browser.execute_script("player.go(3)")
    assert browser.execute_script("return document.querySelectorAll('.stage .text span:not(.later)').length") == len("hear") + 4


def test_what_was_fed_live_is_what_the_file_holds(page, server):
    """Each panel's data, number by number."""
    plain = """const plain = d => Array.isArray(d) ? d.map(plain) : d === null || typeof d !== "object" ? d
        : "dtype" in d ? {shape: d.shape, values: Array.from(values(d), v => Number.isNaN(v) ? "nan" : v)} : Object.fromEntries(Object.entries(d).map(([k, v]) => [k, plain(v)]));
        return Object.fromEntries(live.run.views.map(p => [p.name, plain(p.data)]))"""
    asked = {"transformer": {"n": 40, "prompt": PROMPT, "temperature": 0.8, "seed": 0}, "vae": {"digit": 3, "seed": 0}, "gan": {"digit": 3, "seed": 0},
             "diffusion": {"digit": 3, "seed": 0, "evaluations": 4, "sampler": "ddim", "guidance": 1.0}}

    def alike(a, b, where):
        if isinstance(a, dict) and "dtype" in a:
            values = unpack(a)
            assert list(values.shape) == b["shape"], where
            got = np.array([np.nan if v == "nan" else v for v in b["values"]], np.float64).reshape(values.shape)
            assert np.allclose(got, values.astype(np.float64), rtol=1e-6, equal_nan=True), where
        elif isinstance(a, dict):
            assert a.keys() == b.keys(), where
            for key in a:
                alike(a[key], b[key], f"{where}.{key}")
        elif isinstance(a, list):
            assert len(a) == len(b), where
            for x, y in zip(a, b):
                alike(x, y, where)
        else:
            assert a == b, where

    for name, settings in asked.items():
        browser = page(name)  # noqa: F811
        if name == "transformer":
            browser.execute_script("live.fields.n.set(40)")
        for _ in range(2):  # a second time into panels that are there already
            click(browser, "document.getElementById('make')")
        fed = browser.execute_script(plain)
        for panel in make_run(server.models.get(name), **settings)["panels"]:
            if panel["kind"] not in ("latent", "record"):
                alike(panel, fed[panel["name"]], f"{name}: {panel['name']}")


def test_a_digit_is_picked_and_drawn(page, server):
    browser = page("vae")  # noqa: F811
    click(browser, "document.querySelectorAll('.digit button')[7]")
    assert browser.execute_script("return document.querySelector('.digit [aria-checked=true]').textContent") == "7"
    pixels = browser.execute_script("return Array.from(values(live.run.views.find(p => p.name === 'picture').data.pictures.at(-1)))")
    assert np.array_equal(np.float32(pixels).reshape(28, 28), server.models.get("vae").sample(1, digit=7)[0])
    assert "digit 7" in text_of(browser, ".run header") and "--digit 7" in text_of(browser, "#command")


def test_a_slider_of_z_moves_the_picture_and_every_layer(page, server):
    browser = page("vae")  # noqa: F811
    z = browser.execute_script("return [...document.querySelectorAll('.sliders input')].map(i => Number(i.value))")
    drawn = next(server.models.get("vae").steps(1, digit=3)).value[0]
    assert np.allclose(z, drawn, atol=0.006)
    browser.execute_script("live.moved = live.run; s = document.querySelectorAll('.sliders input')[1]; for (const v of [0, 1, 2.5]) { s.value = v; s.dispatchEvent(new Event('input')); }")
    expected = server.models.get("vae").decode(np.array([[drawn[0], 2.5, drawn[2]]], np.float32), np.array([3])).data[0]
    for _ in range(200):
        pixels = browser.execute_script("const run = live.run; return run.steps.length && !live.asking ? Array.from(values(run.views.find(p => p.name === 'picture').data.pictures.at(-1))) : []")
        if pixels and np.allclose(np.reshape(pixels, (28, 28)), expected, atol=1e-6):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the picture doesn't follow")
    assert browser.execute_script("return live.run === live.moved")  # its panels are the same ones: nothing jumps while one drags


def test_a_mask_is_painted_and_filled_in(page, server):
    from selenium.webdriver import ActionChains

    browser = page("diffusion")  # noqa: F811
    assert not browser.find_element("id", "fill").is_enabled()
    easel = browser.find_element("id", "paint")
    before = np.float32(browser.execute_script("return Array.from(values(live.run.views.find(p => p.name === 'picture').data.pictures.at(-1)))")).reshape(8, 8)
    browser.execute_script("arguments[0].scrollIntoView()", easel)
    width, height = easel.size["width"], easel.size["height"]
    ActionChains(browser).move_to_element_with_offset(easel, -width // 4, -height // 3).click_and_hold().move_by_offset(0, height // 2).release().perform()
    share = float(easel.get_attribute("aria-label").split("; ")[1].split("%")[0])
    assert 15 < share < 80
    click(browser, "document.getElementById('fill')")
    assert "repeats 3" in text_of(browser, ".run header") and browser.execute_script("return live.run.steps.length") == 3 * 5 + 1
    after = np.float32(browser.execute_script("return Array.from(values(live.run.views.find(p => p.name === 'picture').data.pictures.at(-1)))")).reshape(8, 8)
    changed = np.abs(after - before) > 0.01
    assert changed[:, :3].mean() > 0.3 and not changed[:, 5:].any()  # the stroke went down the left half


def test_the_answer_to_the_last_choice_counts_whatever_arrives_last(page):
    browser = page("vae")  # noqa: F811
    browser.execute_script("""
        const fetched = window.fetch;
        window.fetch = async (place, options) => {  // the first choice takes longer, and doesn't hear that it is aborted
            const late = place === "model" && JSON.parse(options.body).model === "gan";
            const answer = await fetched(place, late ? {...options, signal: undefined} : options);
            if (late) { await new Promise(done => setTimeout(done, 600)); window.lateAnswer = true; }
            return answer;
        };
        const choose = name => { const m = document.getElementById("model"); m.value = name; m.dispatchEvent(new Event("change")); };
        choose("gan"); setTimeout(() => choose("diffusion"), 100);""")
    for _ in range(200):
        if browser.execute_script("return !!window.lateAnswer"):
            break
        time.sleep(0.05)
    whole(browser, "diffusion")
    time.sleep(0.2)
    on_page = browser.execute_script("return [live.model.name, document.getElementById('model').value, live.run.title, [...document.querySelectorAll('#fields .name')].map(n => n.textContent.trim())]")
    assert on_page[:3] == ["diffusion"] * 3 and any("evaluations" in label for label in on_page[3])
    assert text_of(browser, ".top .facts").startswith("diffusion")


def test_nothing_is_drawn_before_it_was_computed(page):
    browser = page("transformer")  # noqa: F811
    bars = browser.execute_script("""
        const view = panels.candidates({most: 4, stages: {model: 0}, texts: []}, {}), box = document.body.appendChild(view.element);
        const widths = [...box.querySelectorAll(".fill")].map(f => f.getBoundingClientRect().width);
        box.remove();
        return widths;""")
    assert bars == [0, 0, 0, 0]


def test_a_run_is_kept_beside_the_next(page):
    browser = page("vae")  # noqa: F811
    browser.execute_script("document.getElementById('beside').click()")
    browser.execute_script("document.querySelectorAll('.digit button')[5].click()")
    for _ in range(100):
        if browser.execute_script("return document.querySelectorAll('.run').length === 2 && !live.asking"):
            break
        time.sleep(0.05)
    assert browser.execute_script("return [...document.querySelectorAll('.run > header .note')].map(n => n.textContent)") == ["digit 3, seed 0", "digit 5, seed 0"]
    browser.execute_script("player.go(1)")
    assert browser.execute_script("return page.runs.map(r => r.shown)") == [1, 1]
    browser.execute_script("[...document.querySelectorAll('button')].find(b => b.textContent === 'remove').click()")
    assert browser.execute_script("return document.querySelectorAll('.run').length") == 1


def test_a_run_is_stopped_and_an_error_is_said(page, slow):
    browser = page("transformer")  # noqa: F811
    browser.execute_script("live.model.name = 'slow'; live.fields.n.set(500); document.getElementById('make').click()")
    for _ in range(200):
        if browser.execute_script("return live.run.steps.length > 3 && !!live.asking"):
            break
        time.sleep(0.05)
    browser.execute_script("document.getElementById('stop').click()")
    time.sleep(0.3)
    assert text_of(browser, "#status") == "stopped" and len(slow) < 500
    browser.execute_script("live.fields.prompt.set('é'); document.getElementById('make').click()")
    for _ in range(100):
        if browser.execute_script("return document.getElementById('status').classList.contains('wrong')"):
            break
        time.sleep(0.05)
    assert "é" in text_of(browser, "#status")
    browser.get_log("browser")  # a 400 that was asked for


@pytest.mark.parametrize("name", ["transformer", "vae", "gan", "diffusion"])
def test_the_live_page_fits_and_everything_has_a_name(page, name):
    browser = page(name)  # noqa: F811
    nameless = browser.execute_script("""
        const named = e => e.getAttribute("aria-label") || e.closest("[aria-hidden]") || e.textContent.trim() || e.labels?.[0]?.textContent.trim() || e.closest("button[aria-label]") || e.closest(".hidden");
        return [...document.querySelectorAll("button, select, input, textarea, canvas, svg")].filter(e => !named(e)).map(e => e.outerHTML.slice(0, 90))""")
    assert not nameless
    assert not browser.execute_script(ACCESS)
    for width in (400, 1280):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
