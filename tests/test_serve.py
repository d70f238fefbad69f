"""`zoo serve` as the `openai` package sees it: answers, streams, log-probabilities, JSON, refusals; a tiny chat model in a GGUF of the suite's own."""

import contextlib
import http.client
import json
import threading

import pytest
from test_chat_models import path  # noqa: F401

from zoo.inspection import serve
from zoo.inspection.play import MAX_BODY_BYTES
from zoo.loading.gguf_models import read_model

openai = pytest.importorskip("openai", reason="the client that the server is tested with: pip install openai")
HELLO = [{"role": "user", "content": "Hello there"}]


@contextlib.contextmanager
def served(model):
    server = serve.chat_server(model, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.stop()


@pytest.fixture
def client(path):  # noqa: F811
    with served(path) as server:
        client = openai.OpenAI(base_url=server.address, api_key="any", max_retries=0, timeout=30)
        client.server, client.local = server, read_model(path)  # type: ignore[attr-defined]
        client.ask = lambda messages=HELLO, **settings: client.chat.completions.create(model="chat", messages=messages, **settings)
        yield client
        client.close()


def test_the_models_are_listed(client):
    assert [m.id for m in client.models.list()] == ["chat"] and client.models.retrieve("chat").owned_by == "zoo"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_an_answer_is_that_of_chat(client):
    whole = client.ask(max_tokens=7, temperature=0)
    asked = len(client.local.template.ids(HELLO, client.local.tokenizer))
    assert whole.choices[0].message.content == client.local.chat(HELLO, 7) and whole.choices[0].message.role == "assistant"
    assert whole.choices[0].finish_reason == "length" and (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (asked, 7)
    assert whole.usage.total_tokens == asked + 7 and whole.object == "chat.completion" and whole.model == "chat"
    settings = {"temperature": 1.3, "seed": 5, "top_p": 0.9, "presence_penalty": 1.0, "frequency_penalty": 0.5}
    assert client.ask(max_completion_tokens=9, **settings).choices[0].message.content == client.local.chat(HELLO, 9, **settings)
    parts = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]}]
    plain = [{"role": "system", "content": "Be brief."}, *HELLO]
    assert client.ask(parts, max_tokens=5, temperature=0).choices[0].message.content == client.local.chat(plain, 5)


def test_without_a_seed_answers_differ(client):
    assert len({client.ask(max_tokens=8).choices[0].message.content for _ in range(4)}) > 1


def test_a_stream_joins_to_the_whole(client):
    chunks = list(client.ask(max_tokens=9, temperature=1.0, seed=2, stream=True, stream_options={"include_usage": True}))
    whole = client.ask(max_tokens=9, temperature=1.0, seed=2)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage and len({c.id for c in chunks}) == 1 and all(c.object == "chat.completion.chunk" for c in chunks)
    assert all(c.usage is None for c in client.ask(max_tokens=3, stream=True))


def test_an_answer_ends_before_its_stop_texts(client):
    whole = client.ask(max_tokens=30, temperature=1.0, seed=1).choices[0].message.content
    stop = whole[3:5]
    settings = {"max_tokens": 30, "temperature": 1.0, "seed": 1, "stop": ["\0nowhere", stop]}
    answer, chunks = client.ask(**settings).choices[0], list(client.ask(**settings, stream=True))
    assert answer.message.content == "".join(c.choices[0].delta.content or "" for c in chunks) == whole[: whole.index(stop)]
    assert answer.finish_reason == chunks[-1].choices[0].finish_reason == "stop"


def test_log_probabilities_are_those_of_the_steps(client):
    ids = client.local.template.ids(HELLO, client.local.tokenizer)
    steps = list(client.local.steps(ids, 6, temperature=0))
    content = client.ask(max_tokens=6, temperature=0, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    streamed = [t for c in client.ask(max_tokens=6, temperature=0, logprobs=True, top_logprobs=3, stream=True)
                for t in (c.choices[0].logprobs.content if c.choices[0].logprobs else [])]
    assert [t.bytes for t in content][: len(streamed)] == [t.bytes for t in streamed] and len(content) == 6
    for token, step in zip(content, steps, strict=True):
        assert bytes(token.bytes) == client.local.tokenizer.decode_bytes([step.token]) and abs(token.logprob - step.log_probability) < 1e-4
        assert [round(t.logprob, 3) for t in token.top_logprobs] == [round(p, 3) for _, p in step.likeliest(3)]
    assert client.ask(max_tokens=2, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


@pytest.mark.parametrize("max_tokens", [2, 12, 60])
def test_json_mode_answers_with_an_object(client, max_tokens):
    answer = client.ask(max_tokens=max_tokens, temperature=1.0, seed=3, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content), dict) and answer.choices[0].finish_reason in ("stop", "length")


def test_a_conversation_that_goes_on_reads_only_what_is_new(client):
    first = client.ask(max_tokens=4, temperature=0).choices[0].message.content
    more = [*HELLO, {"role": "assistant", "content": first}, {"role": "user", "content": "And?"}]
    client.ask([{"role": "user", "content": "Another conversation"}], max_tokens=4)
    prefixes, model = client.server.models.prefixes, client.server.models.model
    ids = model.template.ids(more, model.tokenizer)
    assert serve.Prefixes.nearest(prefixes, model, ids).length > 30
    assert client.ask(more, max_tokens=6, temperature=0).choices[0].message.content == client.local.chat(more, 6)


@pytest.mark.parametrize("settings,field", [
    ({"temperature": 3}, "temperature"), ({"temperature": "hot"}, "temperature"), ({"top_p": 0}, "top_p"), ({"n": 2}, "n"), ({"max_tokens": 0}, "max_tokens"),
    ({"presence_penalty": -3}, "presence_penalty"), ({"top_logprobs": 2}, "top_logprobs"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stop": ["a"] * 5}, "stop"), ({"stop": [""]}, "stop"), ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"), ({"logit_bias": {"5": 1}}, "logit_bias"), ({"messages": []}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"), ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [*HELLO, {"role": "system", "content": "x"}]}, "messages"), ({"seed": 1.5}, "seed"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content"),
])
def test_what_can_not_be_honoured_is_refused_by_name(client, settings, field):
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(**{"model": "chat", "messages": HELLO, **settings})
    assert e.value.param == field and field.split("[")[0] in e.value.message and e.value.type == "invalid_request_error"
    assert client.ask(max_tokens=1).choices[0].finish_reason == "length"


def test_too_long_a_conversation_and_an_unknown_model_are_refused(client):
    with pytest.raises(openai.BadRequestError) as e:
        client.ask([{"role": "user", "content": "x" * 300}])
    assert e.value.code == "context_length_exceeded" and "128" in e.value.message
    with pytest.raises(openai.NotFoundError) as e:
        client.chat.completions.create(model="gpt-4", messages=HELLO)
    assert e.value.code == "model_not_found" and "'chat'" in e.value.message


@pytest.mark.parametrize("changes,status", [
    ({"Host": "example.com"}, 403), ({"Origin": "https://example.com"}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Content-Type": "text/plain"}, 415),
    ({"Content-Length": str(MAX_BODY_BYTES + 1)}, 413), ({"body": b"{"}, 400), ({"body": b"[]"}, 400), ({"path": "/v1/completions"}, 404)])
def test_requests_of_web_pages_and_broken_ones_are_refused_in_openais_form(client, changes, status):
    connection = http.client.HTTPConnection("127.0.0.1", client.server.port, timeout=30)
    body = changes.pop("body", json.dumps({"model": "chat", "messages": HELLO, "max_tokens": 1}).encode())
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **changes}
    target = headers.pop("path", "/v1/chat/completions")
    connection.putrequest("POST", target, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    with connection.getresponse() as response:
        assert response.status == status and set(json.loads(response.read())["error"]) == {"message", "type", "param", "code"}
    connection.close()


def test_a_client_that_leaves_ends_its_answer(client):
    stream = client.ask(max_tokens=90, temperature=1.0, seed=0, stream=True)
    next(iter(stream))
    stream.close()
    assert client.ask(max_tokens=2).usage.completion_tokens == 2 and not client.server.models.running.locked()


def test_a_model_that_can_not_chat_is_refused(path):  # noqa: F811
    with pytest.raises(ValueError, match="wasn't trained on conversations"):
        serve.chat_server("transformer")
