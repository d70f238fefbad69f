"""`zoo play`: the inspection page served to this machine alone, filled while the model runs.

One user, one generation at a time: a new one stops the one before.  The server listens on 127.0.0.1 and refuses every request without
the token in the address.  It serves no files: the page is rendered in memory, and the models are those that it was started with.

    GET  /TOKEN/           the start page, or if models were named the page that plays them
    GET  /TOKEN/play       the page that plays a model; #model=NAME begins with that one
    GET  /TOKEN/draw       a pad to draw a digit on
    GET  /TOKEN/watch      the runs that the server was started with (the first page, where it was started for them)
    POST /TOKEN/watch      {"seen": [step, ...]}              their curves, and the snapshots after those steps
    POST /TOKEN/tiles      {}                                 the tiles of the start page, one JSON object per line as they are computed
    POST /TOKEN/tile       {"tile": name, setting: value}     a tile with what a visitor typed, one JSON object per line
    POST /TOKEN/model      {"model": name}                    its facts, its settings, and its tool
    POST /TOKEN/run        {"model": name, setting: value}    one JSON object per line: {"run"}, {"step", "grow"} ..., {"panels"}, {"end"}
    POST /TOKEN/digit      {"model": name, "number": i}       test picture i, to paint on
    POST /TOKEN/pad        {}                                 the pad's map of test digits
    POST /TOKEN/look       {"pixels": base64}                 what the models say of a digit
    POST /TOKEN/finish     {"pixels", "mask", "seed"}         the picture while diffusion fills it in, one JSON object per line
"""

from __future__ import annotations

import contextlib
import dataclasses
import http
import json
import secrets
import select
import shlex
import socket
import sys
import threading
import time
import traceback
import webbrowser
from collections.abc import Callable, Generator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ..loading.cards import at_hand, card_of, load
from ..model import Model
from .catalogue import facts_of
from .changes import read_change
from .controls import controls_for, describe_tool, read_request
from .pad import Pad
from .page import assets, pack, render, to_json
from .runs import stream_run
from .sharing import Shared, is_shared, read_shared
from .start import TileStream, answer, described, has_browser, in_page_order, tiles_at_hand
from .watching import newest_run, page_of, read_run, state_of

MAX_BODY_BYTES = 2**20  # of a request
MAX_CONNECTIONS = 16  # at the same time
TIMEOUT_SECONDS = 20  # of a socket operation
USER_ERRORS = (ValueError, LookupError, OSError, ArithmeticError, MemoryError)
ORDER = ("vae", "diffusion", "gan", "words", "glyphs", "speech", "vqvae", "autoencoder", "transformer", "recurrent")  # of kinds in the list


class Refused(Exception):
    """A request that is answered with an HTTP status and one line of explanation."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class Models:
    """The models that the page may ask for, each loaded at its first use."""

    def __init__(self, sources: dict[str, Any]):
        if not sources:
            raise ValueError("play: this copy of zoo ships no models; name a folder")
        self.sources = sources  # name -> what `load` takes, or a model
        self.loaded: dict[str, Any] = {}
        self.conversations: dict[str, list[Any]] = {}  # name -> the messages so far
        self.tools: dict[str, Any] = {}  # name -> description of its tool: a map of codes takes a second

    @classmethod
    def of(cls, *given: str | Path | Model) -> Models:
        """The given models, loaded now, then those at hand that generate something, those of pictures first."""
        kinds = {name: card_of(name).get("kind") for name in at_hand() if name not in given}
        ships = sorted((name for name, kind in kinds.items() if kind in ORDER), key=lambda name: ORDER.index(kinds[name]))
        models = cls({**{_name(g): g for g in given}, **{name: name for name in ships}})
        for name in [_name(g) for g in given]:
            if not hasattr(models.get(name), "steps"):
                raise ValueError(f"play: {name} is of kind {models.get(name).kind!r}, which generates nothing")
        return models

    def get(self, name: Any) -> Any:
        if not isinstance(name, str) or name not in self.sources:
            raise ValueError(f"model is {str(name)[:60]!r}; it may be {', '.join(self.sources)}")
        if name not in self.loaded:
            source = self.sources[name]
            self.loaded[name] = source if isinstance(source, Model) else load(source)
        return self.loaded[name]

    def describe(self, name: Any) -> dict[str, Any]:
        model = self.get(name)
        if name not in self.tools:
            tool = self.tools[name] = describe_tool(model)
            if tool and tool["kind"] == "paint":
                tool["digits"] = _test_pictures(model) is not None
        about = (getattr(model, "card", None) or {}).get("description", "")
        return {"name": name, "kind": model.kind, "facts": facts_of(model), "about": about, "tool": self.tools[name],
                "controls": [dataclasses.asdict(control) for control in controls_for(model)]}

    def run(self, request: dict[str, Any]) -> Generator[dict[str, Any]]:
        """The messages of a generation."""
        name = request.pop("model", None)
        model = self.get(name)
        settings = read_request(model, request)
        if "message" in settings:
            conversation = self.conversations.setdefault(name, [])
            if not settings.get("goes_on"):
                conversation.clear()
            settings["history"] = conversation
        command = command_for(self.sources[name] if not isinstance(self.sources[name], Model) else name, settings)
        change = settings.pop("patch", "")
        began, steps = time.perf_counter(), 0
        for message in stream_run(model, title=name, changes=read_change(change) if change else None, **settings):
            steps += "step" in message
            yield {**message, "command": command} if "run" in message else message
        yield {"end": {"seconds": round(time.perf_counter() - began, 4), "steps": steps}}


def _name(given: Any) -> str:
    return given.kind if isinstance(given, Model) else str(given)


def command_for(source: Any, settings: dict[str, Any]) -> str:
    """The command line that writes the same generation into a file; "" if it was steered by z, a mask
    or messages before, which no command line can say."""
    if "z" in settings or "mask" in settings or settings.get("history"):
        return ""
    words = ["zoo", "inspect", str(source)]
    for name, value in settings.items():
        if value != "" and name != "history":
            words += ["-n" if name == "n" else f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _test_pictures(model: Any) -> Any:
    """Test pictures of the size that the model generates, or None where none ship."""
    from ..data.images import load_images

    name = {(28, 28): "mnist", (8, 8): "digits8x8"}.get(tuple(model.config.image))
    return None if name is None else load_images(name).test


class Turn:
    """One generation at a time: entering asks the current one to stop, and waits until it has.

    Whoever entered goes on only as long as `newest` is the token that entering returned.
    """

    def __init__(self) -> None:
        self.naming, self.running = threading.Lock(), threading.Lock()
        self.newest: object = None

    def __enter__(self) -> object:
        with self.naming:
            token = self.newest = object()
        self.running.acquire()
        return token

    def __exit__(self, *error: object) -> None:
        self.running.release()


class Server(ThreadingHTTPServer):
    """serve_forever() until Ctrl-C; `address` is what to open."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = sys.platform != "win32"  # on Windows it would let another program listen on the same port

    def __init__(self, models: Any, port: int = 0, *, start: bool = False, runs: Sequence[Path] = (), shared: Shared | None = None,
                 plays: bool = True, handler: type[BaseHTTPRequestHandler] | None = None):
        """start: begin with the start page, whose tiles are computed from now on.  runs: folders of trainings to look at.

        shared: what the page shows first.  plays: otherwise the runs come first.
        """
        self.models = models
        self.token = secrets.token_urlsafe(24)
        self.turn = Turn()
        self.pad, self.runs, self.shared, self.plays = Pad(), list(runs), shared, plays
        self.slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(("127.0.0.1", port), handler or Handler)
        self.port = self.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}/{self.token}/"
        self.hosts = (f"127.0.0.1:{self.port}", f"localhost:{self.port}")
        self.tiles = TileStream(tiles_at_hand(), self.turn.running) if start else None
        if self.tiles:
            self.tiles.begin()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that closed its connection is no error
            traceback.print_exc()

    def stop(self) -> None:
        """Stop the current generation and close the socket."""
        self.turn.newest = None
        if self.tiles:
            self.tiles.stop()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "zoo", ""
    timeout = TIMEOUT_SECONDS

    def do_GET(self) -> None:
        first = self._start_page if self.server.tiles else self._page if self.server.plays else self._watch_page
        self._answer({"": first, "play": self._page, "draw": self._pad_page, **({"watch": self._watch_page} if self.server.runs else {})})

    def do_POST(self) -> None:
        self._answer({"model": self._model, "run": self._run, "digit": self._digit, "tiles": self._tiles, "watch": self._watch,
                      "tile": lambda: self._streamed(lambda request: answer(self.server.models.get, request)),
                      "pad": lambda: self._computed(lambda request: self.server.pad.begin()), "look": lambda: self._computed(self.server.pad.look),
                      "finish": lambda: self._streamed(self.server.pad.finish)})

    def _answer(self, routes: dict[str, Any]) -> None:
        try:
            route = self._permitted()
            if route not in routes:
                raise Refused(404, "there is nothing here")
            routes[route]()
        except Refused as e:
            self._send(e.status, {"error": e.reason})
            self._discard()

    # --- which requests are permitted

    def _permitted(self) -> str:
        """The part of the address after the token.  Refused: a Host or Origin that isn't this server's, or a wrong token."""
        self._check_origin()
        token, slash, route = self.path.partition("?")[0].removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()) or not slash:
            raise Refused(403, "the address needs the token that `zoo play` printed")
        return route

    def _check_origin(self) -> None:
        """Refused: a Host that isn't this server's, or a request that another page's script sends."""
        if self.headers.get_all("Host", []) not in ([host] for host in self.server.hosts):
            raise Refused(403, "Host isn't this server's")  # such as a name that was made to point here (DNS rebinding)
        origins = self.headers.get_all("Origin", [])
        if origins and origins not in ([f"http://{host}"] for host in self.server.hosts):
            raise Refused(403, "Origin is another page")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Refused(403, "the request comes from another page")

    def _body(self) -> dict[str, Any]:
        """The request's JSON object; Refused if it isn't one or is too large."""
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "the body must be JSON, with Content-Type application/json")
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) != 1 or not (lengths[0].isascii() and lengths[0].isdecimal()):
            raise Refused(411, "the request needs one Content-Length")
        if len(lengths[0]) > 9 or int(lengths[0]) > MAX_BODY_BYTES:
            raise Refused(413, f"the body has more than {MAX_BODY_BYTES:,} bytes")
        content = self.rfile.read(int(lengths[0]))
        try:
            body = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as e:
            raise Refused(400, "the body isn't JSON in UTF-8") from e
        if not isinstance(body, dict):
            raise Refused(400, "the body isn't a JSON object")
        return body

    # --- the routes

    def _start_page(self) -> None:
        computed = self.server.tiles.tiles if self.server.tiles else []  # in this order
        start = {"tiles": [described(tile) for tile in in_page_order(computed)], "computed": [tile.name for tile in computed],
                 "links": [["draw", "draw a digit"], ["play", "all models"], *([["watch", "watch the last training"]] if self.server.runs else [])],
                 "live": True}
        self._html({"name": "start", "start": start, "live": {}}, "zoo")

    def _page(self) -> None:
        live = {"models": list(self.server.models.sources), "start": self.server.tiles is not None,
                "shared": None if self.server.shared is None else dataclasses.asdict(self.server.shared)}
        self._html({"name": "play", "facts": "", "runs": [], "live": live}, "zoo play")

    def _pad_page(self) -> None:
        self._html({"name": "draw", "pad": {}, "live": {}}, "zoo: draw a digit")

    def _watch_page(self) -> None:
        self._html(page_of(self.server.runs), "zoo watch")

    def _html(self, page: dict[str, Any], title: str) -> None:
        content = render(page, title)
        self._begin(200, "text/html; charset=utf-8", assets(live=True)[2])
        self.wfile.write(content.encode())

    def _model(self) -> None:
        self._computed(lambda request: self.server.models.describe(request.get("model")))

    def _watch(self) -> None:
        request = self._body()
        try:
            answer = state_of(self.server.runs, request.get("seen"))
        except Exception as e:
            raise Refused(400, _reason(e)) from e
        self._send(200, answer)

    def _digit(self) -> None:
        def test_picture(request: dict[str, Any]) -> dict[str, Any]:
            pictures, number = _test_pictures(self.server.models.get(request.get("model"))), request.get("number")
            if pictures is None:
                raise ValueError("digit: no test pictures of this model's size ship")
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**31:
                raise ValueError(f"number is {str(number)[:40]}; it is a whole number of at least 0")
            return {"pixels": pack(pictures[number % len(pictures)], "unit8")}

        self._computed(test_picture)

    def _computed(self, function: Any) -> None:
        request = self._body()
        with self.server.turn:
            try:
                answer = function(request)
            except Exception as e:
                raise Refused(400, _reason(e)) from e
        self._send(200, answer)

    def _run(self) -> None:
        self._streamed(self.server.models.run)

    def _streamed(self, function: Callable[[dict[str, Any]], Generator[dict[str, Any]]]) -> None:
        request = self._body()
        with self.server.turn as token, contextlib.closing(function(request)) as messages:
            begun = failed = False
            while self.server.turn.newest is token and not self._client_left():
                try:
                    message = next(messages, None)
                    line = None if message is None else to_json(message)
                except Exception as e:
                    if not begun:
                        raise Refused(400, _reason(e)) from e
                    line, failed = to_json({"error": _reason(e)}), True
                if line is None:
                    return
                if not begun:
                    self._begin(200, "application/x-ndjson")
                    begun = True
                self._line(line)
                if failed:
                    return
            if not begun:
                raise Refused(409, "a newer request took the place of this one")

    def _tiles(self) -> None:
        self._body()
        if self.server.tiles is None:
            raise Refused(404, "this server has no start page")
        self._begin(200, "application/x-ndjson")
        for line in self.server.tiles.follow():
            if self._client_left():
                return
            if line:
                self._line(line)

    def _client_left(self) -> bool:
        """Whether the client has closed the connection: it sends nothing after its request, so the socket is readable only then."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _discard(self) -> None:
        """Read up to 4 MB that are still being sent: closing earlier would reset the connection before the client has read the answer."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(0.5)
        with contextlib.suppress(OSError):
            for _ in range(64):
                if not self.connection.recv(2**16):
                    return

    # --- sending

    def _begin(self, status: int, kind: str, policy: str = "default-src 'none'") -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Security-Policy", f"{policy}; frame-ancestors 'none'"), ("Cache-Control", "no-store"),
                            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("X-Frame-Options", "DENY"),
                            ("Cross-Origin-Opener-Policy", "same-origin"), ("Cross-Origin-Resource-Policy", "same-origin"),
                            ("Connection", "close")):
            self.send_header(name, value)
        self.end_headers()

    def _line(self, line: str) -> None:
        self.wfile.write(line.encode("utf-8", "replace") + b"\n")

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        self._begin(status, "application/json")
        self._line(to_json(answer))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Errors that the base class finds (an unknown method, a line too long), in the same form as ours."""
        self.close_connection = True
        self._send(code, {"error": http.HTTPStatus(code).phrase.lower()})

    def log_message(self, format: str, *args: Any) -> None:
        pass  # every line would hold the token


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"JSON has no number {name}")


def _reason(e: Exception) -> str:
    """The message of an error that the user can have caused; any other is a bug, and its traceback goes to the terminal."""
    if not isinstance(e, USER_ERRORS):
        traceback.print_exception(e)
        return f"{type(e).__name__}: a bug in zoo; the terminal shows the traceback"
    message = e.args[0] if isinstance(e, KeyError) and e.args else e
    return " ".join(str(message).split()) or type(e).__name__


def watch(*folders: str | Path, port: int = 0, open_page: bool = True) -> None:
    """Serve a page of these runs until Ctrl-C, one or two folders; a run that is still training is followed."""
    paths = [Path(folder) for folder in folders]
    if not 1 <= len(paths) <= 2:
        raise ValueError(f"watch: there are {len(paths)} folders; it shows one run, or two beside each other")
    for path in paths:
        read_run(path)
    _serve(Server(Models.of(), port, runs=paths, plays=False), open_page)


def watching(folder: str | Path, port: int = 0, *, open_page: bool = True) -> Server:
    """The same page served by a thread while this process trains: `stop()` it at the end."""
    server = Server(Models.of(), port, runs=[Path(folder)], plays=False)
    threading.Thread(target=server.serve_forever, daemon=True, name="watch").start()
    _show(server, open_page)
    return server


def play(*models: str | Path | Model, port: int = 0, open_page: bool = True) -> None:
    """Serve the page until Ctrl-C.  models: to begin with, as names, folders or objects; the shipped ones are offered as well.

    One of them may be a file that the page saved: it is shown again.

    Without models it begins with the start page.  open_page: show it in the browser, where there is one.
    """
    files = [m for m in models if not isinstance(m, Model) and is_shared(m)]
    if len(files) > 1:
        raise ValueError(f"play: there are {len(files)} files of settings, {files[0]} and {files[1]}; one can be shown")
    shared = read_shared(files[0]) if files else None
    given = [m for m in models if m not in files]
    first = [] if shared is None or shared.model in map(str, given) else [shared.model]
    _serve(Server(Models.of(*first, *given), port, start=not models, shared=shared, runs=newest_run()), open_page)


def _serve(server: Server, open_page: bool) -> None:
    print(f"{server.address}\nOpen this address in a browser on this machine; Ctrl-C stops the server.", flush=True)
    try:
        _show(server, open_page)
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.stop()


def _show(server: Server, open_page: bool) -> None:
    if open_page and has_browser():
        threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
