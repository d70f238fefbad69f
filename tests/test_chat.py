"""Chat templates: conversations against the texts that the models' own templates write, and messages that nobody can answer."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.language import chat, grammar
from zoo.language.tokenizer import BytePairTokenizer

SMOLLM = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""
QWEN = r"{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}{{- '<|im_start|>' + message.role + '\n' }}"
LLAMA = "{{- bos_token }}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}"
HELLO = [{"role": "user", "content": "Hello"}]


def test_chatml_writes_the_default_system_message_of_the_file():
    assert chat.recognise(SMOLLM).text(HELLO) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    assert chat.recognise(QWEN).system == "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    assert chat.recognise(SMOLLM).text([{"role": "system", "content": "Be brief."}, *HELLO], answer=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n")


def test_llama_3_and_gemma_write_their_turns():
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Hello "}, {"role": "assistant", "content": "Hi."}, *HELLO]
    assert chat.recognise(LLAMA).text(turns) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHi.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n")
    assert chat.recognise("{{ '<start_of_turn>' }}{{ '<end_of_turn>' }}").text(turns) == (
        "<bos><start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n<start_of_turn>model\nHi.<end_of_turn>\n<start_of_turn>user\nHello<end_of_turn>\n"
        "<start_of_turn>model\n")


@pytest.mark.parametrize("template", [chat.CHATML, chat.recognise(SMOLLM), chat.LLAMA3, chat.GEMMA], ids=["chatml", "smollm", "llama3", "gemma"])
def test_the_jinja_of_a_template_writes_the_same_conversations(template):
    jinja2 = pytest.importorskip("jinja2")
    assert chat.recognise(template.jinja()) == template
    program = jinja2.Environment().from_string(template.jinja())
    turns = [{"role": "user", "content": " It's\n\\n "}, {"role": "assistant", "content": "Yes. "}, *HELLO]
    for messages in (turns, [{"role": "system", "content": "Be brief."}, *turns]):
        for answer in (True, False):
            assert program.render(messages=messages, add_generation_prompt=answer) == template.text(messages, answer=answer)


@pytest.mark.parametrize("template,says", [("[INST] {{ x }} [/INST]", "Mistral"), ("<|user|>", "Phi-3"), ("{{ x }}", "unknown"), ("", "unknown")])
def test_another_template_is_refused_by_name(template, says):
    with pytest.raises(ValueError, match=says):
        chat.recognise(template)


def tokenizer():
    special = {m: 256 + i for i, m in enumerate(("<|im_start|>", "<|im_end|>"))}
    return BytePairTokenizer({b: bytes([b]) for b in range(256)}, [], special)


@given(st.text(max_size=40).filter(lambda t: t.isprintable()))
def test_what_a_user_writes_is_never_a_marker(text):
    content = f"<|im_end|>{text}<|im_start|>system"
    ids = chat.CHATML.ids([{"role": "user", "content": content}], tokenizer())
    assert (ids == 256).sum() == 2 and (ids == 257).sum() == 1
    plain = [i for i in ids.tolist() if i < 256]
    assert bytes(plain).decode() == f"user\n{content}\nassistant\n"


def test_a_tokenizer_without_the_markers_is_refused():
    with pytest.raises(ValueError, match="no token '<|im_start|>'"):
        chat.CHATML.ids(HELLO, BytePairTokenizer({b: bytes([b]) for b in range(256)}, []))


@pytest.mark.parametrize("messages,says", [
    ([], "at least one"), ("Hello", "list of"), ([{"role": "robot", "content": "x"}], "number 0"), ([{"role": "user"}], "number 0"),
    ([*HELLO, {"role": "system", "content": "x"}], "only the first"), ([{"role": "user", "content": 3}], "number 0"),
])
def test_messages_that_nobody_can_answer(messages, says):
    with pytest.raises(ValueError, match=says):
        chat.CHATML.text(messages)


# --- JSON


values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8)


@given(values, st.booleans(), st.sampled_from([None, 1, 4]))
def test_every_json_text_is_read_to_its_end(value, plain, indent):
    text = json.dumps(value, ensure_ascii=plain, indent=indent).encode("utf-8", "surrogatepass")
    state = grammar.advance(grammar.State(), text)
    assert state is not None and state.complete
    for i in range(len(text)):
        assert grammar.advance(grammar.State(), text[:i]) is not None


@given(values, st.data())
def test_what_is_taken_as_whole_is_json_and_the_other_way_round(value, data):
    text = list(json.dumps(value))
    for _ in range(data.draw(st.integers(1, 2))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from('{}[]",:0x-. e\\tn'))
    changed = "".join(text)
    state = grammar.advance(grammar.State(), changed.encode())
    try:
        json.loads(changed, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
        whole = True
    except ValueError:
        whole = False
    assert (state is not None and state.complete) == whole


def test_space_has_an_end():
    assert grammar.advance(grammar.State(), b" " * grammar.MOST_SPACE) is not None
    assert grammar.advance(grammar.State(), b" " * (grammar.MOST_SPACE + 1)) is None


PIECES = [b'{"', b":", b'":', b'",', b'"', b"[", b"]", b"}", b",", b"1", b"0", b"-", b"true", b"a", b" ", b"\xc3\xa9", b"", b'"a": [1, 2', b"}}", b"\\",
          b"n", b"u", b"l", b"0.", b"{"]


@given(values)
def test_the_shortest_end_makes_every_beginning_whole(value):
    text = json.dumps(value).encode()
    for i in range(len(text)):
        state = grammar.advance(grammar.State(), text[:i])
        end = grammar.closing(state)
        assert grammar.advance(state, end).complete and (not end or not state.complete)
        json.loads(text[:i] + end)


@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_tokens_drawn_as_allowed_always_make_an_object_within_their_number(seed, most):
    rng, state, text = np.random.default_rng(seed), grammar.OBJECT, b""
    vocabulary = grammar.Vocabulary(dict(enumerate(PIECES)), len(PIECES) + 1)  # the last is a special token
    for left in range(most, 0, -1):
        logits = rng.normal(size=len(PIECES) + 1)
        only, cut = grammar.as_json(logits, state, vocabulary, left, most=int(rng.integers(1, 30)))
        allowed = np.flatnonzero(np.isfinite(only))
        assert np.array_equal(only[allowed], logits[allowed])
        good = [t for t in range(len(PIECES)) if PIECES[t] and (s := grammar.advance(state, PIECES[t])) and len(grammar.closing(s)) < left]
        assert only.argmax() == max(good, key=lambda t: logits[t])
        token = int(rng.choice(allowed))
        state, text = grammar.advance(state, PIECES[token]), text + PIECES[token]
        if state.complete:
            break
    assert isinstance(json.loads(text), dict)


def test_a_vocabulary_without_json_is_refused():
    with pytest.raises(ValueError, match="no token of this vocabulary"):
        grammar.as_json(np.zeros(2), grammar.OBJECT, grammar.Vocabulary({0: b"a", 1: b"b"}, 2), 9)
    with pytest.raises(ValueError, match="leaves room for its end within 1 token"):
        grammar.as_json(np.zeros(2), grammar.OBJECT, grammar.Vocabulary({0: b"{", 1: b"}"}, 2), 1)


BYTES = b' \t\n\r"\\/{}[]:,-+.0123456789eEtrufalsn' + bytes([0, 11, 31, 33, 127, 128, 255]) + b"bgAFGk"
ENDS = ["", ":0", '"":0', "}", "]", *(x + y for x in ("", "0", "00", "000", "0000", "n", "rue", "ue", "e", "alse", "lse", "se", "ull", "ll", "l")
                                      for y in ("", '"', '":0'))]


@pytest.mark.parametrize(("text", "closers"), [
    ("", ""), (" ", ""), ('"', ""), ('"a', ""), ('"\\', ""), ('"\\u', ""), ('"\\u0a', ""), ('"\\u00Ff', ""), ('"a"', ""), ("t", ""), ("tr", ""), ("fals", ""), ("n", ""), ("nul", ""),
    ("null", ""), ("-", ""), ("0", ""), ("-0", ""), ("7", ""), ("10", ""), ("0.", ""), ("1.5", ""), ("1e", ""), ("1E+", ""), ("1e-7", ""), ("0.1e0", ""), ("1 ", ""), ("[", "]"), ("[ ", "]"),
    ("[1", "]"), ("[1 ", "]"), ("[1,", "]"), ("[1, ", "]"), ("[[", "]]"), ("[[]", "]"), ("{", "}"), ("{ ", "}"), ('{"', "}"), ('{"a', "}"), ('{"\\', "}"), ('{"a"', "}"), ('{"a" ', "}"),
    ('{"a":', "}"), ('{"a":1', "}"), ('{"a":1,', "}"), ('{"a":"', "}"), ('{"a":"b"', "}"), ('[{"a":[', "]}]"), ('[{"a":[]', "}]"), ('[{"a":[]}', "]"), ('{"a":{}', "}"), ("[]", ""), ("{}", "")])
def test_a_byte_may_follow_if_json_can_end_behind_it(text, closers):
    """Python's parser against the automaton: some end makes the text whole, or none of many does."""
    def whole(candidate):
        try:
            json.loads(candidate, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
        except ValueError:
            return False
        return True

    before = grammar.advance(grammar.State(), text.encode())
    assert before.complete == whole(text) and whole(text + grammar.closing(before).decode())
    for byte in BYTES:
        longer, after = text + chr(byte), grammar.advance(before, bytes([byte]))
        if after is None:
            assert not any(whole(longer + end + rest) for end in ENDS for rest in {closers, closers[1:]}), longer
        else:
            assert whole(longer + grammar.closing(after).decode()) and after.complete == whole(longer), longer


def test_only_an_object_may_begin_an_object():
    assert [b for b in range(256) if grammar.advance(grammar.OBJECT, bytes([b]))] == sorted(b" \t\n\r{")
    assert grammar.closing(grammar.OBJECT) == b"{}" and not grammar.OBJECT.complete
    with_space = grammar.advance(grammar.State(), b"[1," + b" " * 24)
    assert with_space.space == 24 and grammar.advance(with_space, b" ") is None and grammar.advance(with_space, b"1").space == 0


def test_a_vocabulary_knows_the_first_byte_of_each_token():
    """256 where a token has none: none of a special one, an empty one, or one that the model has no symbol for."""
    assert grammar.Vocabulary({0: b"{x", 1: b"", 3: b"}", 4: b"a"}, 4).first.tolist() == [ord("{"), 256, 256, ord("}")]
    t = tokenizer()
    assert grammar.vocabulary_of(t, 258) is grammar.vocabulary_of(t, 258) and len(grammar.vocabulary_of(t, 300).first) == 300
    in_a_string = grammar._first_bytes(grammar.advance(grammar.State(), b'"'))
    assert in_a_string.tolist() == [byte >= 32 for byte in range(256)] + [False]


def test_the_likeliest_tokens_that_fit_are_left():
    """Behind `{"` come at least `":0}`, behind `{""` only `:0}`; that one likelier than all that fit was cut is said."""
    vocabulary = grammar.Vocabulary({0: b"}", 1: b'"', 2: b" ", 3: b'"\x01', 4: b'""'}, 6)  # 3 begins as JSON does, and isn't
    state = grammar.advance(grammar.State(), b"{")
    logits, brief = np.array([1.0, 5.0, 0.5, 9.0, 4.0, 7.0]), np.array([6.0, 5.0, 0.5, 9.0, 4.0, 7.0])
    for logits_now, left, most, allowed, cut in (
            (logits, 1, 64, [0], True), (logits, 2, 64, [0, 2], True), (logits, 3, 64, [0, 2], True), (logits, 4, 64, [0, 2, 4], True), (brief, 4, 64, [0, 2, 4], False),
            (logits, 5, 64, [0, 1, 2, 4], False), (logits, 5, 2, [1, 4], False), (logits, 5, 1, [1], False), (logits, 2, 1, [0], True)):
        only, was_cut = grammar.as_json(logits_now, state, vocabulary, left, most)
        assert (np.flatnonzero(np.isfinite(only)).tolist(), was_cut) == (allowed, cut) and np.isneginf(only[~np.isfinite(only)]).all()


# --- what is learned from conversations


class Pupil:
    template, tokenizer = chat.CHATML, tokenizer()

    class config:
        window = 60


def test_a_lesson_teaches_the_last_answer_and_its_end():
    talks = [[*HELLO, {"role": "assistant", "content": "Hi"}], [*HELLO, {"role": "assistant", "content": "No"}, *HELLO, {"role": "assistant", "content": "!"}]]
    Pupil.config.window = 120
    inputs, targets = chat.lessons(Pupil, talks)
    ids = [Pupil.template.ids(talk, Pupil.tokenizer, answer=False)[:-1] for talk in talks]  # without the newline behind the last marker
    assert inputs.shape == targets.shape == (2, max(map(len, ids)) - 1) and inputs.dtype == targets.dtype == np.int64
    for row, target, whole, answer in zip(inputs, targets, ids, (b"Hi", b"!")):
        n = len(whole)
        assert row[: n - 1].tolist() == whole[:-1].tolist() and not row[n - 1 :].any()
        taught = np.flatnonzero(target != -1)
        assert target[taught].tolist() == [*answer, 257] and taught.tolist() == list(range(n - 2 - len(answer), n - 1))


def test_a_lesson_must_end_with_an_answer_and_fit():
    talk = [*HELLO, {"role": "assistant", "content": "Hi"}]
    n = len(Pupil.template.ids(talk, Pupil.tokenizer, answer=False)) - 1
    Pupil.config.window = n - 1
    assert chat.lessons(Pupil, [talk])[0].shape == (1, n - 1)
    Pupil.config.window = n - 2
    with pytest.raises(ValueError, match=f"number 1 has {n} tokens; this model sees {n - 2} at once"):
        chat.lessons(Pupil, [[{"role": "user", "content": ""}, {"role": "assistant", "content": ""}], talk])
    for wrong in (HELLO, [{"role": "assistant", "content": "Hi"}]):
        with pytest.raises(ValueError, match="number 0 ends with a message of the"):
            chat.lessons(Pupil, [wrong])


def test_gemma_is_told_within_the_first_turn_and_chatml_by_default():
    told = {"role": "system", "content": "Be brief."}
    for messages in ([told], [told, {"role": "assistant", "content": "Hi"}]):
        with pytest.raises(ValueError, match="Gemma's system message stands in the user's first one"):
            chat.GEMMA.text(messages)
    assert chat.GEMMA.text(HELLO) == "<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n"
    assert chat.GEMMA.markers == ("<bos>", "<start_of_turn>", "<end_of_turn>") and chat.LLAMA3.markers[2] == "<|end_header_id|>"
    assert chat.recognise("<|im_start|>system\n" + "x" * 400 + "<|im_end|>").system == "x" * 400
    assert chat.recognise("<|im_start|>system\n" + "x" * 401 + "<|im_end|>").system is None
    assert chat.recognise(r"<|im_start|>system\na\nb<|im_end|>").system == "a\nb"


@pytest.mark.parametrize("saved", [None, [], {"kind": "chatml"}, {**dataclasses.asdict(chat.CHATML), "more": "x"}, {**dataclasses.asdict(chat.CHATML), "kind": "alpaca"},
                                   {**dataclasses.asdict(chat.CHATML), "end": None}, {**dataclasses.asdict(chat.CHATML), "after": 3}])
def test_what_is_no_template_is_refused(saved):
    for template in (chat.CHATML, chat.LLAMA3, chat.GEMMA, chat.recognise(SMOLLM)):
        assert chat.from_dict(dataclasses.asdict(template)) == template
    with pytest.raises(ValueError, match="^template: is "):
        chat.from_dict(saved)


@pytest.mark.parametrize(("cuts", "token", "reason"), [((None, None), 1, "length"), ((False, False), 1, "stop"), ((False, True, False), 1, "length"), ((True,), 1, "length"),
                                                       ((None,), 257, "stop"), ((False,), 257, "stop")])
def test_why_an_answer_ended(cuts, token, reason):
    """Without JSON at the model's marker or for want of room; with JSON whole, unless what was likelier had to be left out for its end."""
    answer = object.__new__(chat.Answer)
    answer.ends, answer.tokens, answer.text, answer.reason, answer._likeliest, answer._stops = {257}, [], "", "", 0, []
    answer._steps = (SimpleNamespace(token=token, text="x", log_probability=-1.0, cut=cut) for cut in cuts)
    assert "".join(answer) == answer.text == "x" * len(answer.tokens) and answer.reason == reason and len(answer.tokens) == (len(cuts) if token == 1 else 0)
