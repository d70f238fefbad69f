"""Models in blocks of 4 and 8 bits: saved and loaded again, counted, and tuned beside their frozen weights (LoRA)."""

import numpy as np
import pytest
from test_chat_models import QUESTION, logits, tiny

import zoo
from zoo.autograd import Tensor
from zoo.inspection.memory import memory_report
from zoo.language.lora import LowRank, adapt, merge, read_adapter, write_adapter
from zoo.nn import QuantisedEmbedding, QuantisedLinear
from zoo.optim import AdamW
from zoo.storage import WrongFile, load_folder, read_safetensors, save_folder, write_tensors
from zoo.transformer import Transformer

KINDS = pytest.mark.parametrize("kind", ["q8_0", "q4_1"])
IDS = np.arange(12) * 7 % 256


@KINDS
@pytest.mark.parametrize("tied", [True, False])
def test_a_quantised_model_is_saved_as_it_is_and_loaded_again(kind, tied, tmp_path):
    model = tiny(tied).quantise(kind)
    model.save(tmp_path)
    again = zoo.load(tmp_path)
    assert np.array_equal(logits(again, IDS), logits(model, IDS)) and isinstance(again.blocks[1].mlp.gate, QuantisedLinear)
    assert again.chat(QUESTION, 5) == model.chat(QUESTION, 5) and again.template == model.template and again.end_ids == model.end_ids
    assert (tmp_path / "model.safetensors").stat().st_size < tiny(tied).num_parameters * (1.3 if kind == "q8_0" else 1.0)


def test_models_with_biases_and_learned_positions_too(tmp_path):
    model = Transformer.new(seed=0, symbols=31, window=16, layers=2, width=32, heads=2).eval()
    for p in model.parameters():
        p.data += np.float32(0.1)
    model = model.quantise("q8_0")
    model.save(tmp_path)
    assert np.array_equal(logits(zoo.load(tmp_path), IDS % 31), logits(model, IDS % 31))


@KINDS
def test_a_quantised_model_has_as_many_parameters_as_before(kind):
    model, quantised = tiny(False), tiny(False).quantise(kind)
    assert quantised.num_parameters == model.num_parameters == quantised.summary().total
    rows = {row.path: row.parameters for row in quantised.summary().rows}
    assert rows == {row.path: row.parameters for row in model.summary().rows} and f"{model.num_parameters:,} parameters" in repr(quantised)
    blocks = [layer.blocks for _, layer in quantised.modules() if isinstance(layer, (QuantisedLinear, QuantisedEmbedding))]
    report = memory_report()
    assert report.bytes["quantised weights"] >= sum(b.nbytes for b in blocks) and sum(b.nbytes for b in blocks) < 1.1 * model.num_parameters


def changed(tmp_path, change):
    tiny().quantise("q8_0").save(tmp_path)
    arrays, card = load_folder(tmp_path)
    arrays, card = change(dict(arrays), card) or (arrays, card)
    save_folder(tmp_path, arrays, card)
    return tmp_path


UP = "blocks.0.mlp.up.blocks"


@pytest.mark.parametrize("change,says", [
    (lambda a, c: ({**a, UP: a[UP][:-1]}, c), f"{UP} has shape"), (lambda a, c: ({**a, UP: a[UP].astype(np.float32)}, c), "holds float32"),
    (lambda a, c: ({**a, UP: a[UP][:, :20]}, c), f"{UP} has shape"), (lambda a, c: ({k: v for k, v in a.items() if k != UP}, c), "missing"),
    (lambda a, c: ({**a, "blocks.0.mlp.up.weight": np.zeros((64, 96), np.float32)}, c), "unexpected"),
    (lambda a, c: (a, {**c, "template": {"kind": "jinja"}}), "template: is"), (lambda a, c: (a, {**c, "template": 3}), "template: is 3"),
    (lambda a, c: ({**a, "norm.gain": (a["norm.gain"] * 0).astype(np.uint8)}, c), "holds uint8"),
])
def test_a_damaged_quantised_model_is_refused(change, says, tmp_path):
    with pytest.raises(WrongFile, match=says):
        zoo.load(changed(tmp_path, change))


# --- tuning beside frozen weights


def rounded(model):
    """The same numbers in float32."""
    plain = tiny(model.output is None)
    for name, layer in plain.modules():
        if hasattr(layer, "weight"):
            layer.weight.data[...] = dict(model.modules())[name].weight.data
    return plain


@KINDS
def test_gradients_beside_quantised_weights_are_those_beside_the_same_floats(kind):
    model = tiny().quantise(kind)
    plain = rounded(model)
    gradients = []
    for m in (model, plain):
        adapt(m, 4, seed=1)
        for _, layer in m.modules():
            if isinstance(layer, LowRank):
                layer.up.data += np.float32(0.02)
        loss = m.loss((IDS[None, :-1], IDS[None, 1:]), np.random.default_rng(0))["loss"]
        loss.backward()
        gradients.append({name: p.grad for name, p in m.named_parameters().items() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) == 2 * 5 * 2
    for name, g in gradients[0].items():
        assert np.abs(g - gradients[1][name]).max() < 1e-4 * max(np.abs(g).max(), 1e-3), name


@KINDS
def test_an_adapter_learns_and_is_the_same_after_writing_and_nearly_so_after_merging(kind, tmp_path):
    model, batch = tiny().quantise(kind), (IDS[None, :-1], IDS[None, 1:])
    before = logits(model, IDS)
    adapt(model, 4)
    assert np.allclose(logits(model, IDS), before, atol=1e-5)
    optimiser = AdamW(model.named_parameters(), 0.02)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = model.loss(batch, np.random.default_rng(0))["loss"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.data))
    assert losses[-1] < 0.5 * losses[0]
    write_adapter(model, tmp_path / "adapter.safetensors")
    assert (tmp_path / "adapter.safetensors").stat().st_size < 60_000
    again = read_adapter(tiny().quantise(kind), tmp_path / "adapter.safetensors")
    assert np.array_equal(logits(again, IDS), logits(model, IDS))
    learned = logits(model, IDS)
    merge(model)
    assert all(p.requires_grad for p in model.parameters()) and model.norm.gain.requires_grad
    assert not any(isinstance(m, LowRank) for _, m in model.modules()) and model.blocks[0].mlp.up.quantisation == "Q8_0"
    assert np.abs(logits(model, IDS) - learned).max() < 0.05 * np.abs(learned - before).max()
    model.save(tmp_path / "merged")
    assert np.array_equal(logits(zoo.load(tmp_path / "merged"), IDS), logits(model, IDS))


def test_an_adapter_of_floats_is_read_again(tmp_path):
    model = adapt(tiny(), 3, layers=("mlp.up",))
    model.blocks[0].mlp.up.up.data += np.float32(0.1)
    write_adapter(model, tmp_path / "a.safetensors")
    again = read_adapter(tiny(), tmp_path / "a.safetensors")
    assert np.array_equal(logits(again, IDS), logits(model, IDS)) and [p.requires_grad for p in again.parameters()].count(True) == 4


@pytest.mark.parametrize("change", [
    lambda a, f: ({k: v for k, v in a.items() if not k.endswith("0.mlp.up.up")}, f), lambda a, f: ({**a, "blocks.9.mlp.up.down": a["blocks.0.mlp.up.down"]}, f),
    lambda a, f: ({k: v[:-1] for k, v in a.items()}, f), lambda a, f: (a, {k: v for k, v in f.items() if "blocks.0" not in k}),
    lambda a, f: (a, {k: "x" if "scale" in k else v for k, v in f.items()}), lambda a, f: (a, {}),
    lambda a, f: ({k: v.astype(np.uint8) for k, v in a.items()}, f),
    lambda a, f: ({k: np.where(np.arange(v.size).reshape(v.shape) == 1, np.nan, v).astype(v.dtype) for k, v in a.items()}, f)])
def test_a_damaged_adapter_changes_nothing(change, tmp_path):
    write_adapter(adapt(tiny(), 3, layers=("mlp.up",)), tmp_path / "a.safetensors")
    write_tensors(tmp_path / "b.safetensors", *change(*read_safetensors(tmp_path / "a.safetensors")))
    model = tiny()
    with pytest.raises(WrongFile, match="b.safetensors"):
        read_adapter(model, tmp_path / "b.safetensors")
    assert not any(isinstance(m, LowRank) for _, m in model.modules()) and all(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="adapt it first"):
        write_adapter(model, tmp_path / "c.safetensors")
    assert isinstance(model.norm.gain, Tensor)
