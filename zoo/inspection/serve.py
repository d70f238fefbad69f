"""`zoo serve MODEL`: a chat model behind OpenAI's interface, served to this machine alone, so that people's own tools can talk to it.

    GET  /v1/models                what is served
    POST /v1/chat/completions      an answer, whole or as server-sent events (stream)

The server listens on 127.0.0.1 and refuses what a web page sends (see play.py); any API key is right.  One answer is computed at a time,
others wait for it.  What an earlier request has read isn't read again.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from ..language.chat import ROLES, Answer, AnswerToken
from ..language.prefixes import Prefixes
from ..loading.cards import load
from ..model import Model
from ..storage import VERSION
from .play import Handler, Refused, Server, _reason

DEFAULT_PORT = 8000
DEFAULT_TOKENS = 1024  # of an answer, where the request doesn't say
MOST_MESSAGES = 1000
MOST_LIKELIEST = 20  # top_logprobs
WAIT_SECONDS = 300  # for the answers before
IGNORED = ("user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls", "reasoning_effort",
           "verbosity")  # what changes no answer here


class Wrong(Exception):
    """A request that can't be answered: what is wrong, and with which of its fields."""

    def __init__(self, message: str, field: str | None = None, status: int = 400, code: str | None = None):
        super().__init__(message)
        self.field, self.status, self.code = field, status, code


class ChatModel:
    """The model that is served, one answer at a time."""

    def __init__(self, name: str, model: Any):
        if getattr(model, "template", None) is None:
            raise ValueError(f"serve: {name}, of kind {model.kind!r}, wasn't trained on conversations; `zoo get smollm2` fetches one that was")
        self.name, self.model = name, model
        self.prefixes = Prefixes(texts=4, megabytes=256)
        self.running = threading.Lock()
        self.since = int(time.time())

    def described(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": self.since, "owned_by": "zoo"}

    def answer(self, request: dict[str, Any]) -> Answer:
        """What the request asks for, not yet computed."""
        settings = read_request(request)
        try:
            return Answer(self.model, settings.pop("messages"), prefixes=self.prefixes, **settings)
        except ValueError as e:
            raise Wrong(str(e), "messages" if str(e).startswith("messages") else None,
                        code="context_length_exceeded" if "tokens; this model sees" in str(e) else None) from e


# --- what a request may ask for


def read_request(request: dict[str, Any]) -> dict[str, Any]:
    """The body of a request as keywords of `Answer`; Wrong names a field that can't be honoured."""
    fields = {name: value for name, value in request.items() if value is not None and name not in IGNORED}
    known = ("model", "messages", "n", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "seed", "logprobs",
             "top_logprobs", "response_format", "top_k", *_NUMBERS)
    for name, value in fields.items():
        if name not in known and value not in ([], {}, "none", False):
            raise Wrong(f"{name}: isn't supported here; the fields are {', '.join(known)}", name, code="unsupported_parameter")
    _whole(fields, "n", 1, 1)
    most = _whole(fields, "max_tokens", 1, 2**20)
    most = _whole(fields, "max_completion_tokens", 1, 2**20, most)
    seed = _whole(fields, "seed", -(2**63), 2**63 - 1)
    wanted = _whole(fields, "top_logprobs", 0, MOST_LIKELIEST, 0)
    if wanted and not _flag(fields, "logprobs"):
        raise Wrong("top_logprobs: needs logprobs to be true", "top_logprobs")
    return {
        "messages": _messages(fields.get("messages")), "n_tokens": most or DEFAULT_TOKENS, "stop": _stop(fields.get("stop")),
        "seed": secrets.randbelow(2**31) if seed is None else seed % 2**64, "json": _json(fields.get("response_format")),
        "likeliest": (wanted or 0) if _flag(fields, "logprobs") else 0, "top_k": _whole(fields, "top_k", 1, 2**31),
        **{name: _number(fields, name, *range_) for name, range_ in _NUMBERS.items()},
    }


_NUMBERS: dict[str, tuple[float, float, float | None]] = {  # name: least, most, default; the last two aren't OpenAI's, but many servers take them
    "temperature": (0, 2, 1.0), "top_p": (1e-9, 1, None), "presence_penalty": (-2, 2, 0.0), "frequency_penalty": (-2, 2, 0.0),
    "min_p": (0, 1, None), "repetition_penalty": (0.01, 100, 1.0)}


def _number(fields: dict[str, Any], name: str, least: float, most: float, default: float | None) -> float | None:
    value = fields.get(name, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise Wrong(f"{name}: is {value!r:.40}; it is a number from {least:g} to {most:g}", name)
    return float(value)


def _whole(fields: dict[str, Any], name: str, least: int, most: int, default: int | None = None) -> int | None:
    value = fields.get(name, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most):
        raise Wrong(f"{name}: is {value!r:.40}; it is a whole number from {least} to {most}", name)
    return value


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise Wrong(f"{name}: is {value!r:.40}; it is true or false", name)
    return value


def _stop(value: Any) -> list[str]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(s, str) and s for s in stops):
        raise Wrong(f"stop: is {value!r:.60}; it is a text, or up to 4 texts, none of them empty", "stop")
    return stops


def _json(value: Any) -> bool:
    kind = value.get("type") if isinstance(value, dict) else value and "unknown"
    if kind not in (None, "text", "json_object"):
        raise Wrong(f"response_format: its type is {kind!r:.40}; it may be text or json_object", "response_format")
    return kind == "json_object"


def _messages(value: Any) -> list[dict[str, str]]:
    """Messages with a role that a template knows, and a content of one text."""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_MESSAGES:
        raise Wrong(f"messages: is {type(value).__name__}; it is a list of 1 to {MOST_MESSAGES} messages", "messages")
    messages = []
    for i, message in enumerate(value):
        role = message.get("role") if isinstance(message, dict) else None
        role = "system" if role == "developer" else role
        if role not in ROLES:
            raise Wrong(f"messages: number {i} has the role {role!r:.40}; it may be developer, {', '.join(ROLES)}", f"messages[{i}].role")
        messages.append({"role": role, "content": _content(message.get("content"), i)})
    return messages


def _content(value: Any, i: int) -> str:
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str) for p in parts):
        raise Wrong(f"messages: the content of number {i} is {value!r:.60}; it is a text, or parts of type text", f"messages[{i}].content")
    return "".join(part["text"] for part in parts)


# --- what an answer says


class Completion:
    """An answer as OpenAI's objects."""

    def __init__(self, served: ChatModel, request: dict[str, Any]):
        self.answer = served.answer(request)
        self.served, self.with_log_probabilities = served, bool(request.get("logprobs"))
        options = request.get("stream_options")
        self.with_usage = isinstance(options, dict) and options.get("include_usage") is True
        self.head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": served.name,
                     "system_fingerprint": f"zoo-{VERSION}"}

    def whole(self, pieces: Iterator[str]) -> dict[str, Any]:
        for _ in pieces:
            pass
        message = {"role": "assistant", "content": self.answer.text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": self.answer.reason, "logprobs": self._log_probabilities(0)}
        return {**self.head, "object": "chat.completion", "choices": [choice], "usage": self._usage()}

    def chunks(self, pieces: Iterator[str]) -> Iterator[dict[str, Any]]:
        yield self._chunk({"role": "assistant", "content": ""})
        told = 0
        for piece in pieces:
            yield self._chunk({"content": piece}, log_probabilities=self._log_probabilities(told))
            told = len(self.answer.tokens)
        yield self._chunk({}, self.answer.reason)
        if self.with_usage:
            yield {**self.head, "object": "chat.completion.chunk", "choices": [], "usage": self._usage()}

    def _chunk(self, delta: dict[str, Any], reason: str | None = None, log_probabilities: Any = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": log_probabilities}
        return {**self.head, "object": "chat.completion.chunk", "choices": [choice], **({"usage": None} if self.with_usage else {})}

    def _usage(self) -> dict[str, int]:
        asked, written = len(self.answer.ids), len(self.answer.tokens)
        return {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}

    def _log_probabilities(self, first: int) -> dict[str, Any] | None:
        """Of the tokens from `first` on."""
        if not self.with_log_probabilities:
            return None
        return {"content": [self._log_probability(token) for token in self.answer.tokens[first:]], "refusal": None}

    def _log_probability(self, token: AnswerToken) -> dict[str, Any]:
        def entry(i: int, log_probability: float) -> dict[str, Any]:
            content = self.served.model.tokenizer.decode_bytes([i]) if i < self.served.model.tokenizer.size else b""
            return {"token": content.decode("utf-8", "replace"), "logprob": max(log_probability, -9999.0), "bytes": list(content)}

        return {**entry(token.token, token.log_probability), "top_logprobs": [entry(*likely) for likely in token.likeliest]}


# --- the server


class ChatHandler(Handler):
    def do_GET(self) -> None:
        served: ChatModel = self.server.models
        self._answer({"v1/models": lambda: self._send(200, {"object": "list", "data": [served.described()]}),
                      f"v1/models/{served.name}": lambda: self._send(200, served.described())})

    def do_POST(self) -> None:
        self._answer({"v1/chat/completions": self._complete})

    def _permitted(self) -> str:
        self._check_origin()
        return self.path.partition("?")[0].strip("/")

    def _complete(self) -> None:
        request, served = self._body(), self.server.models
        try:
            if request.get("model") != served.name:
                raise Wrong(f"model: is {request.get('model')!r:.60}; this server has {served.name!r}", "model", 404, "model_not_found")
            stream = _flag(request, "stream")
            completion = Completion(served, request)
        except Wrong as e:
            self._send_error(e.status, str(e), e.field, e.code)
            return
        except Exception as e:
            self._send_error(500, _reason(e))
            return
        self._wait_for(served.running)
        try:
            pieces = self._while_connected(iter(completion.answer))
            with contextlib.closing(pieces):
                if stream:
                    self._stream(completion.chunks(pieces))
                else:
                    self._send(200, completion.whole(pieces))
        except (OSError, _Left):
            pass  # nobody is there to read it
        except Exception as e:
            self._send_error(500, _reason(e))
        finally:
            served.running.release()

    def _wait_for(self, lock: threading.Lock) -> None:
        """Take the lock, as long as the client waits for it too."""
        for _ in range(10 * WAIT_SECONDS):
            if lock.acquire(timeout=0.1):
                return
            if self._client_left():
                raise Refused(499, "the client has left")
        raise Refused(503, "other answers are being computed; try again later")

    def _while_connected(self, pieces: Generator[str]) -> Generator[str]:
        with contextlib.closing(pieces):
            for piece in pieces:
                if self._client_left():
                    raise _Left
                yield piece

    def _stream(self, chunks: Iterator[dict[str, Any]]) -> None:
        self._begin(200, "text/event-stream")
        try:
            for chunk in chunks:
                self._event(json.dumps(chunk))
            self._event("[DONE]")
        except (OSError, _Left):
            raise
        except Exception as e:
            self._event(json.dumps(_error(_reason(e), "server_error")))

    def _event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        """Refusals of the base class in OpenAI's form."""
        error = answer.get("error")
        super()._send(status, _error(error, "invalid_request_error") if isinstance(error, str) else answer)

    def _send_error(self, status: int, message: str, field: str | None = None, code: str | None = None) -> None:
        self._send(status, _error(message, "server_error" if status >= 500 else "invalid_request_error", field, code))


class _Left(Exception):
    """The client closed its connection."""


def _error(message: str, kind: str, field: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}


def chat_server(model: str | Path | Model, port: int = DEFAULT_PORT) -> Server:
    """A server for a chat model, by name, file or object; `serve_forever` starts it.  ValueError where the model isn't one that chats."""
    name = model.kind if isinstance(model, Model) else Path(model).stem
    server = Server(ChatModel(name, model if isinstance(model, Model) else load(model)), port, handler=ChatHandler)
    server.address = f"http://127.0.0.1:{server.port}/v1"
    return server


def serve(model: str | Path | Model, port: int = DEFAULT_PORT) -> None:
    """Serve until Ctrl-C."""
    server = chat_server(model, port)
    print(f"{server.address}\nThe address of {server.models.name!r} for OpenAI's clients on this machine, with any key; Ctrl-C stops the server.",
          flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.stop()
