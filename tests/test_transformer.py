"""Laws of the transformer: causal, cached equal to uncached, decoded equal to defined, others' checkpoints, adapters, training."""

import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.autograd import rotate
from zoo.autograd.runtime import get_threads, kernels_enabled, team, use_kernels
from zoo.language import decoding
from zoo.language.corpus import Corpus, read_corpus, restrict
from zoo.language.evaluation import bigram_loss, evaluate
from zoo.language.lora import LAYERS, LowRank, adapt, merge
from zoo.language.tokenizer import BytePairTokenizer, CharTokenizer
from zoo.loading.hugging_face import read_folder, write_folder
from zoo.nn import Linear
from zoo.recipes.language import LanguageTraining, batches_of, make_trainer
from zoo.storage import WrongFile, read_tensors, write_tensors
from zoo.transformer import Cache, Transformer

REFERENCES = Path(__file__).parent / "references"
GPT2: dict = {"symbols": 31, "window": 24, "layers": 2, "heads": 4, "width": 32}
LLAMA: dict = {**GPT2, "positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "key_value_heads": 2, "tied": False}
FAMILIES = {
    "gpt2": GPT2, "gpt2 without biases": {**GPT2, "bias": False}, "llama": LLAMA,
    "llama, tied, one key": {**LLAMA, "tied": True, "key_value_heads": 1},
    "relu, heads of their own width": {**GPT2, "mlp": "relu", "head_width": 10, "hidden": 27},
    "rotary with biases": {**LLAMA, "bias": True}, "attention only": {**LLAMA, "mlp": "none"}, "no norms": {**GPT2, "norm": "none"},
}
EVERY = pytest.mark.parametrize("fields", FAMILIES.values(), ids=FAMILIES.keys())


def made(fields, seed=0):
    model = Transformer.new(seed=seed, **fields)
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data += rng.normal(0, 0.2, p.shape).astype(np.float32)
    return model


@EVERY
def test_the_future_does_not_change_the_past(fields, rng):
    model, ids = made(fields), rng.integers(0, 31, (2, 20))
    before = model(ids).data
    ids[:, 12:] = rng.integers(0, 31, (2, 8))
    after = model(ids).data
    np.testing.assert_array_equal(before[:, :12], after[:, :12])
    assert np.abs(before[:, 12:] - after[:, 12:]).max() > 0.01


@EVERY
@pytest.mark.parametrize("kernels", [True, False])
def test_cached_logits_equal_uncached(fields, kernels, rng):
    model, ids = made(fields), rng.integers(0, 31, 24)
    with use_kernels(kernels):
        whole = model(ids[None]).data[0]
        cache = Cache.empty(model.config, 24)
        for start, end in ((0, 5), (5, 6), (6, 15), (15, 24)):  # in pieces of several lengths
            piece = model(ids[None, start:end], cache=cache, start=start).data[0, -1]
            np.testing.assert_allclose(piece, whole[end - 1], atol=2e-5)


@EVERY
def test_decoded_logits_equal_the_definition(fields, rng):
    model, ids = made(fields), rng.integers(0, 31, 24)
    model.embedding.weight.data += np.float32(0.3)  # a mean that a norm can't take for none
    logits, state = model.begin(ids[:3], room=3)  # less room than needed: it grows
    defined = "none" in (fields.get("norm"), fields.get("mlp")) or not kernels_enabled()
    assert (state.decoder is None) == defined
    for n in range(3, 24):
        logits, state = model.advance(int(ids[n]), state)
        with use_kernels(False):
            np.testing.assert_allclose(logits, model(ids[None, : n + 1]).data[0, -1], rtol=1e-5, atol=1e-4)


@EVERY
def test_a_full_window_is_read_again_from_its_later_half(fields, rng):
    model, ids = made(fields), rng.integers(0, 31, 25)
    _, state = model.begin(ids[:24])
    logits, state = model.advance(int(ids[24]), state)
    np.testing.assert_allclose(logits, model(ids[None, 12:]).data[0, -1], atol=2e-5)
    assert state.length == 13


@pytest.mark.skipif(not kernels_enabled(), reason="about the kernel")
@pytest.mark.parametrize("fields", [GPT2, {**LLAMA, "hidden": 300}, {**LLAMA, "heads": 2, "key_value_heads": 1}, {**GPT2, "hidden": 9001}],
                         ids=["gpt2", "llama", "one key", "wide inside"])
def test_how_many_threads_write_does_not_change_a_bit(fields, rng, monkeypatch):
    model, ids = made(fields), rng.integers(0, 31, 20).tolist()
    task = decoding._decode
    task.load()

    def written(threads, run):
        """The logits behind all ids but the first four, written by so many threads; run: in place of the pool."""
        found = []
        with monkeypatch.context() as patched:
            patched.setattr(decoding, "MIN_SHARED_FLOATS", 1)
            patched.setattr(decoding, "get_threads", lambda: threads)
            _, state = model.begin(np.array(ids[:4]), room=20)
            assert state.decoder.threads == threads
            if run is not None:
                patched.setattr(task, "run", partial(run, state.decoder))
            for token in ids[4:]:
                logits, state = model.advance(token, state)
                found.append(logits)
        return np.stack(found)

    def in_turn(_decoder, place, tasks):
        for t in reversed(range(tasks)):
            task.on_this_thread(t, tasks, place)

    def at_once(decoder, place, tasks):
        decoder.words[[0, team.LINE_WORDS]] = 1, team.TOGETHER  # as if the first had come, and had seen the others
        list(pool.map(lambda t: task.on_this_thread(t, tasks, place), range(tasks)))

    with ThreadPoolExecutor(8) as pool:
        alone = written(1, None)
        np.testing.assert_allclose(alone, model(np.array([ids])).data[0, 4:], atol=3e-5)
        for threads, run in ((get_threads(), None), *((n, run) for n in (2, 3, 5, 8) for run in (in_turn, at_once))):
            assert np.array_equal(written(threads, run), alone), (threads, run)


def test_weights_that_move_are_found_again(rng):
    model, ids = made(GPT2), rng.integers(0, 31, 6)
    _, state = model.begin(ids[:5], room=4)
    for p in model.parameters():
        p.data = p.data.copy()  # elsewhere, and then the old memory is overwritten
    for _, old in state.decoder.plan.tensors if state.decoder else ():
        old[...] = np.nan
    logits, _ = model.advance(int(ids[5]), state)
    np.testing.assert_allclose(logits, model(ids[None]).data[0, -1], atol=2e-5)


@pytest.mark.skipif(not kernels_enabled(), reason="about the kernel")
@pytest.mark.parametrize("fields", [GPT2, {**LLAMA, "hidden": 300}, {**GPT2, "head_width": 10, "hidden": 27}], ids=["gpt2", "llama", "narrow inside"])
def test_a_plan_has_memory_for_all_its_rows_and_threads_for_its_weights(fields, monkeypatch):
    """Rows lie 256 floats and more apart.  Of the weights, those that a token reads: all but an embedding that is only looked up."""
    model, c = made(fields), made(fields).config
    apart = lambda n: -(-n // 16) * 16 + 256
    assert [decoding.row_pitch(n) for n in (1, 16, 17, 32)] == [272, 272, 288, 288]
    read = sum(p.size for name, p in model.named_parameters().items() if c.tied or name != "embedding.weight")
    for floats, threads in ((1, 8), (read // 3, 4), (read, 2), (read + 1, 1)):
        monkeypatch.setattr(decoding, "MIN_SHARED_FLOATS", floats)
        plan = decoding.Plan(model, decoding._layers(model))
        assert plan.threads == threads and plan.looks == decoding.JOIN_LOOKS + read // 100
    heads = c.heads * c.head_width
    widest = max(c.width, heads, c.hidden)
    rows = {"x": c.width, "normal": c.width, "packed": heads + 2 * c.key_value_heads * c.head_width, "mixed": heads, "h": c.hidden, "other": c.hidden,
            "slopes": c.hidden, "scaled": widest, "sums": widest}
    assert plan.thread_floats == sum(apart(n) for n in rows.values()) and plan.shared_floats == 256 + 2 * 8 * apart(c.width)


@pytest.mark.skipif(not kernels_enabled(), reason="about the kernel")
@pytest.mark.parametrize("change", [lambda w: w.astype(np.float64), np.asfortranarray])
def test_weights_that_the_kernel_cannot_read_are_left_to_the_definition(change, rng):
    model, ids = made(GPT2), rng.integers(0, 31, 6)
    assert model.begin(ids)[1].decoder is not None
    weight = model.blocks[1].mlp.down.weight
    weight.data = change(weight.data)
    logits, state = model.begin(ids[:5], room=1)
    assert state.decoder is None
    np.testing.assert_allclose(model.advance(int(ids[5]), state)[0], model(ids[None]).data[0, -1], atol=2e-5)


def test_a_layer_that_was_exchanged_is_found_where_a_text_begins(rng):
    model, other, ids = made(GPT2), made(GPT2), rng.integers(0, 31, 6)
    _, state = model.begin(ids)
    assert not kernels_enabled() or model.begin(ids)[1].decoder.plan is state.decoder.plan
    for p in other.parameters():
        p.data = p.data + np.float32(0.1)
    model.blocks[0].mlp.up, model.norm.gain = other.blocks[0].mlp.up, other.norm.gain
    state = model.begin(ids[:5], room=1)[1]
    logits, _ = model.advance(int(ids[5]), state)
    np.testing.assert_allclose(logits, model(ids[None]).data[0, -1], atol=2e-5)


def test_rotated_products_depend_on_the_distance_alone(rng):
    q, k = rng.normal(size=(2, 8)).astype(np.float32)
    model = Transformer.new(**{**LLAMA, "window": 40})
    cosine, sine = (t[:40] for t in model.rotation(40))
    qs, ks = (rotate(np.broadcast_to(x, (40, 8)), cosine, sine) for x in (q, k))
    products = qs @ ks.T
    for distance in (0, 3, 11):
        np.testing.assert_allclose(np.diagonal(products, -distance), np.diagonal(products, -distance)[0], atol=1e-5)
    assert np.abs(np.diff(products[:, 0])).max() > 1e-3


def test_grouped_heads_are_heads_that_share_a_key(rng):
    """A model with two key/value heads for four is the model with four in which each pair has the same weights."""
    grouped, ids = made({**LLAMA, "key_value_heads": 2}), rng.integers(0, 31, (2, 9))
    whole = made({**LLAMA, "key_value_heads": 4})
    arrays = grouped.arrays()
    for name in list(arrays):
        if "query_key_value" in name:
            q, k, v = np.split(arrays[name], [32, 48], axis=-1)
            arrays[name] = np.concatenate([q, *(z.reshape(32, 2, 8).repeat(2, axis=1).reshape(32, 32) for z in (k, v))], axis=-1)
    whole.load_arrays(arrays)
    np.testing.assert_allclose(whole(ids).data, grouped(ids).data, atol=1e-5)


@EVERY
def test_every_weight_has_a_gradient(fields, rng):
    model = made(fields)
    ids = rng.integers(0, 31, (2, 24))
    model.loss((ids, ids), rng)["loss"].backward()
    for name, p in model.named_parameters().items():
        assert p.grad is not None and np.abs(p.grad).max() > 0, name


@EVERY
def test_kernels_and_definitions_give_the_same_gradients(fields, rng):
    model, ids = made(fields), rng.integers(0, 31, (2, 24))
    found = []
    for kernels in (True, False):
        with use_kernels(kernels):
            for p in model.parameters():
                p.grad = None
            model.loss((ids, ids), rng)["loss"].backward()
            found.append([p.grad for p in model.parameters()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1, np.abs(b).max()))


def test_initial_weights_are_gpt2s():
    model = Transformer.new(symbols=500, width=128, layers=4, seed=0)
    assert abs(model.embedding.weight.data.std() - 0.02) < 5e-4
    assert abs(model.blocks[0].mlp.up.weight.data.std() - 0.02) < 5e-4
    assert abs(model.blocks[0].mlp.down.weight.data.std() - 0.02 / math.sqrt(8)) < 5e-4
    assert abs(float(model.loss((np.zeros((1, 60), int), np.arange(1, 61)[None]), None)["loss"].data) - math.log(500)) < 0.1


def test_nanogpt_has_its_number_of_parameters():
    model = Transformer.new(symbols=65, bias=False, window=64)
    assert model.num_parameters - model.position.weight.size == 65 * 128 + 4 * 12 * 128**2 + 9 * 128 == 795_904


def test_dropout_is_the_generators_and_training_only(rng):
    model, ids = made({**GPT2, "dropout": 0.5}), rng.integers(0, 31, (2, 8))
    np.testing.assert_array_equal(model(ids).data, model(ids).data)
    a, b, c = (model(ids, rng=np.random.default_rng(s)).data for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.01


@pytest.mark.parametrize(("fields", "named"), [
    ({"heads": 3}, "heads"), ({"key_value_heads": 3}, "key_value_heads"), ({"window": 0}, "window"), ({"dropout": 1.0}, "dropout"),
    ({"heads": 128, "positions": "rotary"}, "head's width"), ({"layer": 3}, "layers")])
def test_a_wrong_configuration_is_named(fields, named):
    with pytest.raises(ValueError, match=named):
        Transformer.new(**fields)


@pytest.mark.parametrize(("ids", "message"), [(np.zeros((1, 25), int), "window is 24"), (np.zeros(3, int), r"\(batch, time\)"),
                                              (np.full((1, 3), 31), "from 0 to 30"), (np.zeros((1, 0), int), "not empty")])
def test_wrong_ids_are_named(ids, message):
    with pytest.raises(ValueError, match=message):
        Transformer.new(**GPT2)(ids)


# --- checkpoints of others


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_logits_of_the_references(kind):
    folder = REFERENCES / f"{kind}_tiny_random"
    model, reference = zoo.load(folder), np.load(folder / "reference.npz")
    np.testing.assert_allclose(model(reference["input_ids"]).data, reference["logits"], atol=1e-4)
    with use_kernels(False):
        np.testing.assert_allclose(model(reference["input_ids"]).data, reference["logits"], atol=1e-4)
    ids = reference["input_ids"]
    assert abs(float(model.loss((ids[:, :-1], ids[:, 1:]), None)["loss"].data) - reference["loss"]) < 1e-4
    greedy = (reference["greedy"] if kind == "gpt2" else reference["greedy_ids"])[0]
    prompt = reference["greedy_prompt"].shape[1] if kind == "gpt2" else 4
    assert [s.token for s in model.steps(greedy[:prompt], len(greedy) - prompt, temperature=0)] == greedy[prompt:].tolist()


@pytest.mark.parametrize("fields", [GPT2, LLAMA, {**LLAMA, "tied": True}, {**LLAMA, "bias": True}], ids=["gpt2", "llama", "tied", "biases"])
def test_written_and_read_again_it_is_the_same(fields, tmp_path, rng):
    model = made(fields)
    model.tokenizer = None
    write_folder(model, tmp_path)
    again, ids = zoo.load(tmp_path), rng.integers(0, 31, (2, 9))
    np.testing.assert_array_equal(model(ids).data, again(ids).data)
    assert again.config.make(**{**again.config.to_dict(), "start": "\n"}) == model.config


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_written_tensors_have_the_names_of_the_original(kind, tmp_path):
    original = REFERENCES / f"{kind}_tiny_random"
    write_folder(read_folder(original), tmp_path)
    theirs, ours = read_tensors(original), read_tensors(tmp_path)
    assert theirs.keys() == ours.keys()
    for name, a in theirs.items():
        np.testing.assert_array_equal(a, ours[name])
    a, b = (json.loads((folder / "config.json").read_text()) for folder in (original, tmp_path))
    assert {k: a[k] for k in a.keys() & b.keys() - {"n_inner", "initializer_range", "rope_parameters"}} == {
        k: b[k] for k in a.keys() & b.keys() - {"n_inner", "initializer_range", "rope_parameters"}}


@pytest.fixture
def folder(tmp_path):
    write_folder(made(LLAMA), tmp_path / "llama")
    return tmp_path / "llama"


def changed(folder, **fields):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **fields}))


def test_shards_and_half_precision(folder, rng):
    arrays, ids = read_tensors(folder), rng.integers(0, 31, (1, 12))
    exact = zoo.load(folder)(ids).data
    names = sorted(arrays)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    (folder / "model.safetensors").unlink()
    for file, part in parts.items():
        write_tensors(folder / file, {n: arrays[n].astype(np.float16) for n in part})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {n: f for f, part in parts.items() for n in part}}))
    halves = zoo.load(folder)(ids).data
    assert 0 < np.abs(halves - exact).max() < 0.05 and halves.dtype == np.float32


def test_bfloat16_is_read(folder, rng):
    import struct

    arrays, ids = read_tensors(folder), rng.integers(0, 31, (1, 12))
    exact = zoo.load(folder)(ids).data
    header, content = {}, b""
    for name, a in arrays.items():
        upper = (np.ascontiguousarray(a).view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": list(a.shape), "data_offsets": [len(content), len(content) + len(upper)]}
        content += upper
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + content)
    assert 0 < np.abs(zoo.load(folder)(ids).data - exact).max() < 0.3


@pytest.mark.parametrize("field", [{"hidden_act": "gelu"}, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, {"num_hidden_layers": 0},
                                   {"model_type": "mamba"}, {"rope_parameters": {"rope_type": "llama3"}}, {"mlp_bias": True},
                                   {"num_key_value_heads": 3}, {"vocab_size": "many"}, {"rms_norm_eps": None},
                                   {"rope_parameters": {"type": "linear", "rope_theta": 10000.0}}, {"rope_parameters": [1]},
                                   {"rope_parameters": {"rope_type": "default", "factor": 2.0}}, {"rope_theta": 0, "rope_parameters": None},
                                   {"rope_theta": math.inf, "rope_parameters": None},
                                   {"rms_norm_eps": -1e-5}, {"rms_norm_eps": math.nan}, {"model_type": ["gpt2"]}, {"attention_bias": "yes"},
                                   {"eos_token_id": 1.5}, {"bos_token_id": True}, {"partial_rotary_factor": 0.5}])
def test_a_field_that_cannot_be_honoured_is_named(folder, field):
    changed(folder, **field)
    with pytest.raises(WrongFile, match="key_value_heads" if "num_key_value_heads" in field else next(iter(field))):
        zoo.load(folder)


@pytest.mark.parametrize("fields", [{"num_hidden_layers": 20_000}, {"num_hidden_layers": 10**9}, {"vocab_size": 10**9}, {"hidden_size": 10**6},
                                    {"intermediate_size": 10**8}, {"head_dim": 10**8}])
def test_a_model_larger_than_its_file_is_refused_early(folder, fields, must_end):
    changed(folder, **fields)
    with must_end(), pytest.raises(WrongFile, match="llama"):
        zoo.load(folder)


def test_ids_that_begin_and_end_a_text_are_read(folder):
    changed(folder, bos_token_id=3, eos_token_id=[4, 5, 10**6])
    model = zoo.load(folder)
    assert model.start_ids == (3,) and model.end_ids == (4, 5) and model.ids("").tolist() == [3] and model.begin_id is None
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 7}))
    assert zoo.load(folder).end_ids == (7,)


def test_a_tensor_is_read_from_the_shard_that_the_index_names(folder, rng):
    ids, arrays = rng.integers(0, 31, (1, 8)), read_tensors(folder)
    exact = zoo.load(folder)(ids).data
    (folder / "model.safetensors").unlink()
    write_tensors(folder / "a.safetensors", arrays)
    write_tensors(folder / "b.safetensors", {name: a * 2 for name, a in arrays.items()} | {"left over": np.ones(3)})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(arrays, "a.safetensors")}))
    np.testing.assert_array_equal(zoo.load(folder)(ids).data, exact)


def test_weights_that_are_not_finite_are_named(folder):
    arrays = read_tensors(folder)
    arrays["model.norm.weight"][2] = np.nan
    write_tensors(folder / "model.safetensors", arrays)
    with pytest.raises(WrongFile, match=r"norm\.gain holds numbers that aren't finite"):
        zoo.load(folder)


@pytest.mark.parametrize("fields", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_text_after_the_round_trip_is_the_same(fields, tmp_path):
    model = made({**fields, "symbols": 262})
    tokenizer = model.tokenizer = BytePairTokenizer.train(TEXT, 260, ["<|begin|>", "<|end|>"])
    model.end_ids = (tokenizer.special["<|end|>"],)
    for begin in (None, tokenizer.special["<|begin|>"]):
        model.begin_id = begin
        write_folder(model, tmp_path)
        again = zoo.load(tmp_path)
        assert (again.begin_id, again.end_ids) == (begin, model.end_ids)
        for prompt in ("", "To be"):
            assert again.ids(prompt).tolist() == model.ids(prompt).tolist() and again.generate(prompt, 20, seed=3) == model.generate(prompt, 20, seed=3)


def test_tokens_added_since_a_model_was_trained_are_no_fault(folder):
    tokenizer = BytePairTokenizer.train(TEXT, 256, [])
    with pytest.raises(WrongFile, match="256 symbols, config.json's vocab_size is 31"):
        tokenizer.write(folder / "tokenizer.json")
        zoo.load(folder)
    write_folder(made({**LLAMA, "symbols": 256}), folder)
    BytePairTokenizer({b: bytes([b]) for b in range(256)}, [], {"[PAD]": 256}).write(folder / "tokenizer.json")
    model = zoo.load(folder)
    with pytest.raises(ValueError, match="prompt goes from"):
        model.ids("[PAD]", special=True)


# --- numbers of the papers


def test_the_tanh_form_of_gelu_is_gpt2s(rng):
    """Hendrycks & Gimpel 2016 as in openai/gpt-2: not the exact one, which differs by up to 5e-4."""
    model, x = made({**GPT2, "bias": False}), rng.normal(0, 2, (1, 3, 32)).astype(np.float32)
    up = model.blocks[0].mlp.up
    z = (x @ up.weight.data).astype(np.float64)
    exact = 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    np.testing.assert_allclose(up(x).data, exact, atol=5e-5)


def test_rotary_wavelengths_have_base_10000():
    """Su et al. 2021, section 3.3: theta_i = 10000^(-2 (i - 1) / d)."""
    model = Transformer.new(**{**LLAMA, "window": 300})
    cosine, sine = model.rotation(300)
    for i in range(4):
        angle = 123 * 10000.0 ** (-2 * i / 8)
        assert abs(cosine[123, i] - math.cos(angle)) < 1e-5 and abs(sine[123, i] - math.sin(angle)) < 1e-5


def test_swiglu_is_two_thirds_of_four_widths_in_steps_of_32():
    """Shazeer 2020: 2/3 of 4 d, so that three matrices cost what two did."""
    assert Transformer.new(**{**LLAMA, "width": 96, "hidden": 0}).config.hidden == 256 and Transformer.new(**GPT2).config.hidden == 128


def test_nanogpts_recipe_for_a_cpu_is_its_own():
    """README of karpathy/nanoGPT: --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000
    --dropout=0.0; config/train_shakespeare_char.py: learning_rate 1e-3, min_lr 1e-4, beta2 0.99, warmup_iters 100; train.py: weight_decay 0.1,
    beta1 0.9, grad_clip 1.0, bias False."""
    from zoo.recipes.transformer import PRESETS

    assert PRESETS["nanogpt-cpu"] == {
        "window": 64, "batch_size": 12, "layers": 4, "heads": 4, "width": 128, "steps": 2000, "dropout": 0.0, "lr": 1e-3, "floor": 0.1,
        "schedule": "cosine", "warm_up": 100, "betas": (0.9, 0.99), "weight_decay": 0.1, "clip": 1.0, "bias": False, "tied": True}


def test_missing_and_extra_tensors_are_named(folder):
    arrays = read_tensors(folder)
    missing = arrays.pop("model.layers.1.mlp.up_proj.weight")
    write_tensors(folder / "model.safetensors", {**arrays, "model.layers.7.extra": missing})
    with pytest.raises(ValueError, match=r"missing: model\.layers\.1\.mlp\.up_proj\.weight.*unexpected: model\.layers\.7\.extra"):
        zoo.load(folder)
    write_tensors(folder / "model.safetensors", {**arrays, "model.layers.1.mlp.up_proj.weight": missing[:, :4]})
    with pytest.raises(ValueError, match=r"up_proj\.weight is"):
        zoo.load(folder)


def test_a_model_of_neither_layout_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="bias is False"):
        write_folder(made({**GPT2, "bias": False}), tmp_path)


def test_a_byte_pair_tokenizer_goes_with_the_folder(tmp_path):
    model = made({**GPT2, "symbols": 270})
    model.tokenizer = BytePairTokenizer.train("low lower lowest " * 9, 265)
    write_folder(model, tmp_path)
    again = zoo.load(tmp_path)
    assert again.tokenizer.encode("lowest é").tolist() == model.tokenizer.encode("lowest é").tolist()
    shutil.rmtree(tmp_path)


# --- adapters


@pytest.mark.parametrize("layers", [LAYERS, ("query_key_value",), ("mlp.down", "attention.output")])
def test_merged_weights_equal_the_adapted_model(layers, rng):
    model, ids = made(LLAMA), rng.integers(0, 31, (2, 12))
    before = model(ids).data
    frozen = {name: a.copy() for name, a in model.arrays().items()}
    adapt(model, rank=3, layers=layers, seed=1)
    np.testing.assert_allclose(model(ids).data, before, atol=1e-6)
    trained = {name: p for name, p in model.named_parameters().items() if p.requires_grad}
    assert trained and all(name.endswith((".down", ".up")) and 3 in p.shape for name, p in trained.items())
    training = LanguageTraining.make(steps=5, batch_size=2, lr=1e-2, warm_up=0)
    model.tokenizer = CharTokenizer("".join(map(chr, range(65, 96))))
    make_trainer(model, Corpus("text", "".join(map(chr, rng.integers(65, 96, 300)))), training).run(progress=False)
    adapted = model(ids).data
    assert np.abs(adapted - before).max() > 1e-3
    chosen = {name for name, m in model.modules() if isinstance(m, LowRank)}
    merge(model)
    np.testing.assert_allclose(model(ids).data, adapted, atol=2e-5)
    after = model.arrays()
    assert after.keys() == frozen.keys()
    moved = {name.removesuffix(".weight") for name in after if not np.array_equal(after[name], frozen[name])}
    assert moved == chosen


def test_adapted_models_write_like_merged_ones(rng):
    model = adapt(made(GPT2), rank=2)
    for p in model.parameters():
        p.data += rng.normal(0, 0.1, p.shape).astype(np.float32)
    adapted = [s.token for s in model.steps([1, 2, 3], 15, temperature=0)]
    assert adapted == [s.token for s in merge(model).steps([1, 2, 3], 15, temperature=0)]
    with pytest.raises(ValueError, match="no linear layer"):
        adapt(model, layers=("nothing",))
    with pytest.raises(ValueError, match="rank is 0"):
        adapt(model, rank=0)


# --- corpora and training

TEXT = "to be, or not to be: that is the question.\n" * 40


def test_training_learns_and_resumes_as_if_never_stopped(tmp_path):
    corpus = Corpus("hamlet", TEXT)
    fields: dict = {**LLAMA, "dropout": 0.1}
    fields.pop("symbols")
    training = LanguageTraining.make(steps=24, batch_size=4, optimiser="muon", warm_up=2, average=0.8, lr=5e-3)
    model = Transformer.for_data(corpus, seed=0, **fields)
    figures = make_trainer(model, corpus, training).run(progress=False)
    assert figures["valid nats per token"] < 2.3 < math.log(model.config.symbols)

    halves = [Transformer.for_data(corpus, seed=0, **fields) for _ in range(2)]
    first = make_trainer(halves[0], corpus, training, folder=tmp_path)
    for record in first:
        if record.step == 11:
            break
    first.checkpoint()
    make_trainer(halves[1], corpus, training, folder=tmp_path, resume=True).run(progress=False)
    for a, b in zip(model.parameters(), halves[1].parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_a_whole_validation_set_is_counted_once():
    corpus = Corpus("hamlet", TEXT)
    model = Transformer.for_data(corpus, **{k: v for k, v in GPT2.items() if k != "symbols"})
    valid = model.tokenizer.encode(corpus.split()["valid"])
    total = 0.0
    for start in range(0, len(valid) - 1, 24):
        block = valid[start : start + 25]
        logits = model(block[None, :-1]).data[0].astype(np.float64)
        total += (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(block) - 1), block[1:]]).sum()
    assert math.isclose(evaluate(model, corpus)["valid nats per token"], total / (len(valid) - 1), rel_tol=1e-5)


def test_lines_are_read_from_their_start_and_padding_does_not_count(rng):
    corpus = Corpus("lines", "anna\nbo\ncarla\n" * 10)
    model = Transformer.for_data(corpus, **{**{k: v for k, v in GPT2.items() if k != "symbols"}, "lines": True})
    inputs, targets = batches_of(model, corpus, LanguageTraining(batch_size=30))(0, rng)
    for row, target in zip(inputs, targets):
        n = int((target >= 0).sum())
        assert model.tokenizer.decode(target[:n]) in ("anna\n", "bo\n", "carla\n") and (target[n:] == -1).all()
        assert model.tokenizer.decode(row[:n]) == "\n" + model.tokenizer.decode(target[: n - 1])
    longer = np.pad(targets, ((0, 0), (0, 5)), constant_values=-1), np.pad(inputs, ((0, 0), (0, 5)))
    a, b = (float(model.loss(batch, None)["loss"].data) for batch in ((inputs, targets), longer[::-1]))
    assert math.isclose(a, b, rel_tol=1e-5)


def test_windows_of_chorales_begin_with_the_soprano(rng):
    corpus = Corpus("scale", parts={"train": "satb" * 99, "valid": "satb", "test": "satb"})
    model = Transformer.for_data(corpus, **{**{k: v for k, v in GPT2.items() if k != "symbols"}, "stride": 4})
    inputs, _ = batches_of(model, corpus, LanguageTraining(batch_size=20))(0, rng)
    assert {model.tokenizer.decode(row)[0] for row in inputs} == {"s"}


def test_chorales_come_in_every_key_and_keep_their_voices():
    parts = read_corpus("chorales").split()
    for part in parts.values():
        assert len(part) % 4 == 0
        assert all(i % 4 == 0 for i in range(len(part)) if part[i] == "\n" and part[i - 1] != "\n")
    assert len(parts["train"]) > 8 * 10 * len(parts["test"]) / 2


def test_a_corpus_shorter_than_the_window_says_so():
    corpus = Corpus("short", "to be")
    model = Transformer.for_data(corpus, **{k: v for k, v in GPT2.items() if k != "symbols"})
    with pytest.raises(ValueError, match="short: has 4 tokens"):
        make_trainer(model, corpus, LanguageTraining())


def test_byte_pairs_are_learned_where_symbols_are_asked_for():
    model = Transformer.for_data(Corpus("hamlet", TEXT), **{**GPT2, "symbols": 270})
    assert isinstance(model.tokenizer, BytePairTokenizer) and model.tokenizer.decode(model.tokenizer.encode(TEXT)) == TEXT
    assert model.config.symbols == model.tokenizer.size <= 270


def test_text_restricted_to_known_symbols():
    tokenizer = CharTokenizer("abcdefe' \"-.")
    assert restrict("“café” — d’abc…z", tokenizer) == "\"cafe\" - d'abc..."


def eulerian(counts):
    """A walk over the symbols that takes each pair (a, b) counts[a, b] times, from 0 to 0 (Hierholzer's algorithm)."""
    left, stack, walk = [list(np.repeat(np.arange(len(row)), row)) for row in counts], [0], []
    while stack:
        if left[stack[-1]]:
            stack.append(left[stack[-1]].pop())
        else:
            walk.append(stack.pop())
    return np.array(walk[::-1])


def test_makemores_bigrams():
    """The loss of the counts themselves, which makemore gives as 2.454 without smoothing; it depends on nothing but the counts."""
    counts = np.loadtxt(REFERENCES / "makemore_bigrams.txt", dtype=int)
    ids = eulerian(counts)
    assert len(ids) == 228_147 and round(bigram_loss(ids, 27), 4) == 2.4546
    assert abs(bigram_loss(ids, 27, smoothing=1e-4) - 2.4541) < 2e-4


def test_an_adapter_begins_at_nothing_with_rows_of_length_1_and_twice_its_rank_as_its_scale():
    """Hu et al. (2022), section 4.1: B is 0, A random, and the correction is multiplied by alpha / rank."""
    linear = Linear(400, 30, rng=np.random.default_rng(0))
    layer = LowRank(linear, 50, 2.0, rng=np.random.default_rng(1))
    assert not layer.up.data.any() and layer.up.shape == (50, 30)
    assert layer.down.data.std() * math.sqrt(400) == pytest.approx(1, abs=0.03) and abs(layer.down.data.mean()) < 1e-3
    layer.up.data[...] = 1
    x = np.ones((1, 400), np.float32)
    np.testing.assert_allclose(layer(x).data, linear(x).data + 2 * (x @ layer.down.data @ layer.up.data), rtol=1e-4, atol=1e-4)
    model = adapt(Transformer.new(symbols=5, window=4, layers=1, heads=1, width=4), rank=2)
    assert {m.scale for _, m in model.modules() if isinstance(m, LowRank)} == {2.0}


@pytest.mark.parametrize("ids", [[-1, 3], [3, -1], [3, 11], [11, 3]])
def test_one_id_outside_the_vocabulary_is_enough(ids):
    model = Transformer.new(symbols=11, window=8, layers=1, heads=1, width=8, seed=0)
    with pytest.raises(ValueError, match=r"this model's ids go from 0 to 10$"):
        model.check_ids(np.array(ids))
    model.check_ids(np.array([0, 10]))
