"""Llama's relatives against transformers' logits (references/make_architectures.py), and each in every form of file that holds it."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.autograd import no_grad
from zoo.language import rotary
from zoo.language.tokenizer import BytePairTokenizer
from zoo.loading import gguf
from zoo.loading.gguf_models import write_model
from zoo.loading.hugging_face import read_folder, write_folder
from zoo.storage import WrongFile, write_tensors
from zoo.transformer import Transformer

REFERENCE = json.loads((Path(__file__).parent / "references" / "architectures.json").read_text())
CASES, IDS, EVERY = REFERENCE["cases"], np.array(REFERENCE["ids"]), REFERENCE["every"]
FAMILIES = {"llama": {}, "qwen2": {"query_key_value_bias": True}, "qwen3": {"query_key_norm": True}, "llama 3.1": {"rope_divisors": tuple(range(1, 9))}}


def drawn(name, shape):
    """As make_architectures.py draws it."""
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.3, shape).astype(np.float32)
    return values + np.float32(1) if name.endswith("norm.weight") else values


def folder_of(case, tmp_path, **changes):
    (tmp_path / "config.json").write_text(json.dumps({**CASES[case]["config"], **changes}))
    write_tensors(tmp_path / "model.safetensors", {name: drawn(name, shape) for name, shape in CASES[case]["shapes"].items()})
    return tmp_path


def logits(model, ids=IDS):
    with no_grad():
        return np.asarray(model(ids[None]))[0]


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case, tmp_path):
    model = read_folder(folder_of(case, tmp_path))
    assert np.abs(logits(model)[:, ::EVERY] - CASES[case]["logits"]).max() < 1e-4


@pytest.mark.parametrize("case", CASES)
def test_writing_token_by_token_computes_the_same(case, tmp_path):
    model = read_folder(folder_of(case, tmp_path))
    steps = list(model.steps(IDS[:9], 14, temperature=0))
    whole = logits(model, np.array([*IDS[:9], *(s.token for s in steps[:-1])]))[8:]
    assert np.allclose([s.logits for s in steps], whole[: len(steps)], atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_a_saved_relative_is_loaded_again(case, tmp_path):
    model = read_folder(folder_of(case, tmp_path))
    model.save(tmp_path / "ours")
    assert np.array_equal(logits(zoo.load(tmp_path / "ours")), logits(model))


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("qwen") and "," not in case])
def test_a_written_folder_is_read_again(case, tmp_path):
    model = read_folder(folder_of(case, tmp_path))
    write_folder(model, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["model_type"] == case
    assert np.array_equal(logits(read_folder(tmp_path / "again")), logits(model))


@pytest.mark.parametrize("case", ["qwen3, yarn with its own attention factor", "mistral", "llama, yarn"])
def test_what_their_layout_can_not_say_is_not_written(case, tmp_path):
    with pytest.raises(ValueError, match="rope_divisors|sliding_layers"):
        write_folder(read_folder(folder_of(case, tmp_path)), tmp_path / "again")


@pytest.mark.parametrize("changes,says", [
    ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "type 'dynamic'"), ({"rope_scaling": {"type": "longrope"}}, "'longrope'"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "mscale": 1.0}}, "has mscale, 1.0"), ({"rope_parameters": 3}, "is 3; it is an object"),
    ({"rope_parameters": {"rope_type": "linear", "factor": 0}}, "factor is 0"), ({"layer_types": ["full_attention"]}, "for each of 3 layers"),
    ({"layer_types": ["full_attention", "chunked_attention", "full_attention"]}, "layer_types"), ({"model_type": "gemma3_text"}, "'gemma3_text'"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "truncate": False}}, "truncate"), ({"hidden_act": "gelu"}, "hidden_act"),
])
def test_what_this_decoder_does_not_know_is_refused_by_name(changes, says, tmp_path):
    with pytest.raises(WrongFile) as e:
        read_folder(folder_of("qwen2", tmp_path, **changes))
    assert says in str(e.value) and "config.json" in str(e.value)


# --- GGUF


def tiny(family, **fields):
    model = Transformer.new(seed=1, symbols=256, window=40, layers=2, width=64, heads=4, key_value_heads=2, head_width=16, hidden=96, positions="rotary",
                            norm="rms", mlp="swiglu", bias=False, eps=2.0**-17, **FAMILIES[family], **fields)
    for name, p in model.named_parameters().items():
        p.data[...] = drawn(name, p.shape) + (1 if name.endswith("gain") else 0)
    model.tokenizer = BytePairTokenizer({b: bytes([b]) for b in range(256)}, [])
    return model.eval()


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_relative_in_a_gguf_is_read_again(family, kind, tmp_path):
    model = tiny(family)
    write_model(model, tmp_path / "m.gguf", kind)
    again = zoo.load(tmp_path / "m.gguf")
    assert gguf.File(tmp_path / "m.gguf").settings["general.architecture"] == family.split()[0]
    assert again.config.to_dict() == {**model.config.to_dict(), "start": ""}
    assert np.abs(logits(again) - logits(model if kind == "F32" else model.quantise(kind))).max() < 1e-4
    steps = list(again.steps(IDS[:5], 6, temperature=0))
    whole = logits(again, np.array([*IDS[:5], *(s.token for s in steps[:-1])]))[4:]
    assert np.allclose([s.logits for s in steps], whole, atol=1e-4)


def changed(tmp_path, family, **settings):
    write_model(tiny(family), tmp_path / "m.gguf", "F32")
    file = gguf.File(tmp_path / "m.gguf")
    tensors = {name: (e.kind, file.raw(name).copy(), e.shape) for name, e in file.tensors.items()}
    gguf.write(tmp_path / "changed.gguf", {**file.settings, **settings}, tensors)
    return tmp_path / "changed.gguf"


def test_scalings_and_windows_of_a_gguf_are_those_of_a_folder(tmp_path):
    plain, d = tiny("llama"), 16
    stretched = zoo.load(changed(tmp_path, "llama", **{"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}))
    assert stretched.config.rope_divisors == (2.0,) * 8
    yarn = zoo.load(changed(tmp_path, "llama", **{"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0,
                                                   "llama.rope.scaling.original_context_length": 16}))
    assert yarn.config.rope_divisors == tuple(rotary.yarn(4.0, d, 10000.0, 16).tolist()) and yarn.config.rope_attention == rotary.yarn_attention(4.0)
    sliding = zoo.load(changed(tmp_path, "llama", **{"llama.attention.sliding_window": 5}))
    assert sliding.config.sliding_layers == (0, 1) and sliding.config.sliding_window == 5
    whole = logits(plain)
    for model in (stretched, yarn, sliding):
        assert np.abs(logits(model)[:1] - whole[:1]).max() < (1e-4 if model is not yarn else 9) and np.abs(logits(model)[-1] - whole[-1]).max() > 0.01
    assert np.abs(logits(sliding)[:5] - whole[:5]).max() < 1e-4


@pytest.mark.parametrize("settings,says", [
    ({"llama.rope.scaling.type": "longrope"}, "'longrope'"), ({"llama.rope.scaling.type": "linear"}, "scaling.factor is None"),
    ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.yarn_ext_factor": 1.0}, "yarn_ext_factor"),
    ({"llama.attention.sliding_window": 5, "llama.attention.sliding_window_pattern": 6}, "all or none"),
])
def test_a_gguf_with_another_scaling_is_refused_by_name(settings, says, tmp_path):
    with pytest.raises(WrongFile, match=says):
        zoo.load(changed(tmp_path, "llama", **settings))


@pytest.mark.parametrize("family,fields,says", [("qwen3", {"sliding_window": 4, "sliding_layers": (1,)}, "sliding_layers"),
                                                ("qwen2", {"rope_divisors": (1.0,) * 8}, "rope_divisors")])
def test_a_gguf_is_not_written_where_it_would_say_less(family, fields, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        write_model(tiny(family, **fields), tmp_path / "m.gguf")


@pytest.mark.parametrize("fields,says", [({"rope_divisors": (1.0,)}, "rope_divisors has 1"), ({"rope_divisors": (0.0,) * 8}, "the least 0.0"),
                                         ({"sliding_layers": (2,), "sliding_window": 3}, "sliding_layers"), ({"sliding_layers": (0,)}, "at least 1"),
                                         ({"rope_attention": 0.0}, "rope_attention")])
def test_a_configuration_that_makes_no_sense_is_refused(fields, says):
    with pytest.raises(ValueError, match=says):
        tiny("llama", **fields)


@pytest.mark.parametrize(("d", "window", "factor", "theta", "fast"), [
    (8, 16, 4.0, 1e4, 32), (64, 4096, 8.0, 1e4, 32), (16, 512, 2.0, 1e4, 32), (8, 4096, 4.0, 10.0, 1000), (8, 6, 3.0, 1e4, 32), (64, 32768, 4.0, 1e6, 32)])
def test_yarn_divides_as_its_paper_says(d, window, factor, theta, fast):
    """Peng et al. 2023, section 3.2: a pair that turns r times is left alone above 32, interpolated below 1, and goes over on a line between."""
    where = [d * math.log(window / (turns * 2 * math.pi)) / (2 * math.log(theta)) for turns in (fast, 1)]
    low, high = max(math.floor(where[0]), 0), min(math.ceil(where[1]), d - 1)
    expected = []
    for i in range(d // 2):
        ramp = min(max((i - low) / (high - low), 0.0), 1.0) if high > low else float(i > low)
        expected.append(1 / ((1 - ramp) + ramp / factor))
    np.testing.assert_allclose(rotary.yarn(factor, d, theta, window, fast=fast), expected, rtol=1e-12)
    assert rotary.yarn_attention(factor) == pytest.approx(0.1 * math.log(factor) + 1)
    assert [rotary.yarn_attention(f) for f in (0.5, 1.0)] == [1, 1] and rotary.yarn_attention(1.5) == pytest.approx(1.0405465)


@pytest.mark.parametrize(("d", "theta", "factor", "window", "low", "high"), [(128, 5e5, 8.0, 8192, 1.0, 4.0), (64, 5e5, 32.0, 8192, 1.0, 4.0), (16, 1e4, 4.0, 64, 0.5, 3.0)])
def test_llama_3_divides_as_its_authors_program_does(d, theta, factor, window, low, high):
    """Wave by wave, as in Llama 3.1's `apply_scaling`; Chen et al. divide all alike."""
    expected = []
    for i in range(d // 2):
        wavelength = 2 * math.pi * theta ** (2 * i / d)
        smooth = (window / wavelength - low) / (high - low)
        expected.append(1.0 if wavelength < window / high else factor if wavelength > window / low else 1 / ((1 - smooth) / factor + smooth))
    assert len({*expected} | {1.0, factor}) > 2
    np.testing.assert_allclose(rotary.llama3(factor, d, theta, window, low, high), expected, rtol=1e-12)
    assert rotary.linear(factor, d).tolist() == [factor] * (d // 2)
