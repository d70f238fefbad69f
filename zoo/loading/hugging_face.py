"""Checkpoints of others: folders in Hugging Face's layout for GPT-2 and Llama, read and written.

    config.json        what the decoder looks like; a field that this one can't honour is a WrongFile that names it
    model.safetensors  the weights, or shards with model.safetensors.index.json; float32, float16 or bfloat16
    tokenizer files    byte-level byte pairs, where they are there

GPT-2 stores a matrix as (in, out), as zoo does; Llama as (out, in), with queries, keys and values apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..language.tokenizer import BytePairTokenizer
from ..storage import Arrays, PathLike, WrongFile, atomic_write, check_fit, read_json, read_tensors, write_tensors
from ..transformer import Transformer, TransformerConfig

GELU_TANH = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")


def read_folder(folder: PathLike) -> Transformer:
    """The model in a folder, with its tokenizer where there is one.  Raises WrongFile or OSError in one line."""
    folder = Path(folder)
    settings = read_json(folder / "config.json")
    kind = settings.get("model_type")
    if kind not in LAYOUTS:
        raise WrongFile(f"{folder / 'config.json'}: model_type is {kind!r}; can read {' and '.join(map(repr, LAYOUTS))}")
    configured, names_of = LAYOUTS[kind]
    try:
        config = TransformerConfig.make(**configured(_Fields(folder / "config.json", settings)))
    except ValueError as e:
        raise e if isinstance(e, WrongFile) else WrongFile(f"{folder / 'config.json'}: {e}") from e
    model = Transformer(config, rng=np.random.default_rng(0))
    arrays = _plain_names(read_tensors(folder), kind, config.tied)
    names = names_of(config)
    mine = model.arrays()
    check_fit(arrays, {theirs: shape for name, a in mine.items() for theirs, shape in _stored(names[name], a.shape, config)}, folder)
    for name, a in mine.items():
        place = names[name]
        a[...] = np.concatenate([_turned(arrays[n], place.transposed) for n in place.theirs], axis=-1)
    model.tokenizer = _read_tokenizer(folder)
    if model.tokenizer is not None and model.tokenizer.size > config.symbols:
        raise WrongFile(f"{folder}: the tokenizer has {model.tokenizer.size} symbols, config.json's vocab_size is {config.symbols}")
    model.card = {"kind": "transformer", "source": str(folder), "configuration": config.to_dict()}
    return model.eval()  # type: ignore[return-value]


from_hugging_face = read_folder  # what zoo.transformer called it until 0.1


def write_folder(model: Transformer, folder: PathLike) -> None:
    """Write config.json and model.safetensors as `transformers` reads them, and tokenizer.json where the tokenizer is byte pairs.

    A model that is neither a GPT-2 nor a Llama is a ValueError that names the field.
    """
    folder, c = Path(folder), model.config
    kind = "gpt2" if c.positions == "learned" else "llama"
    wanted: dict[str, Any] = {"norm": "layer", "mlp": "gelu"} if kind == "gpt2" else {"norm": "rms", "mlp": "swiglu"}
    if kind == "gpt2":
        wanted |= {"bias": True, "tied": True, "key_value_heads": c.heads, "head_width": c.width // c.heads}
    for field, value in wanted.items():
        if getattr(c, field) != value:
            raise ValueError(f"write_folder: {field} is {getattr(c, field)!r}; a model with {c.positions} positions is a {kind}, "
                             f"where it is {value!r}")
    names = LAYOUTS[kind][1](c)
    arrays: Arrays = {}
    for name, a in model.arrays().items():
        place = names[name]
        cuts = np.cumsum([shape[0] if place.transposed and a.ndim > 1 else shape[-1] for _, shape in _stored(place, a.shape, c)])[:-1]
        for theirs, part in zip(place.theirs, np.split(a, cuts, axis=-1)):
            arrays[theirs] = np.ascontiguousarray(_turned(part, place.transposed))
    prefix = "transformer." if kind == "gpt2" else ""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", {prefix + name: a for name, a in arrays.items()}, {"format": "pt"})
    atomic_write(folder / "config.json", json.dumps(_settings(c, kind), indent=2).encode() + b"\n")
    if isinstance(model.tokenizer, BytePairTokenizer):
        model.tokenizer.write(folder / "tokenizer.json")


class _Fields:
    """config.json: what is asked for is taken; whatever must have one value is checked."""

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path, self.settings = path, settings

    def whole(self, name: str, default: int | None = None) -> int:
        value = self.settings.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise WrongFile(f"{self.path}: {name} is {value!r}; it is a whole number of at least 1")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.settings.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WrongFile(f"{self.path}: {name} is {value!r}; it is a number")
        return float(value)

    def must(self, name: str, *allowed: Any) -> None:
        """The field is missing, or one of the values that this decoder can honour."""
        if name in self.settings and self.settings[name] not in allowed:
            raise WrongFile(f"{self.path}: {name} is {self.settings[name]!r}; this decoder can honour {' or '.join(map(repr, allowed))}")


# --- GPT-2


def _gpt2(f: _Fields) -> dict[str, Any]:
    f.must("activation_function", *GELU_TANH, "relu", "silu", "swish")
    f.must("scale_attn_weights", True)
    f.must("scale_attn_by_inverse_layer_idx", False)
    f.must("add_cross_attention", False)
    f.must("tie_word_embeddings", True)
    activation = f.settings.get("activation_function", "gelu_new")
    width = f.whole("n_embd", 768)
    return {
        "symbols": f.whole("vocab_size", 50257), "window": f.whole("n_positions", 1024), "start": "<|endoftext|>",
        "layers": f.whole("n_layer", 12), "heads": f.whole("n_head", 12), "width": width, "hidden": f.whole("n_inner", 4 * width),
        "eps": f.number("layer_norm_epsilon", 1e-5),
        "mlp": {"relu": "relu", "silu": "silu", "swish": "silu"}.get(activation, "gelu"),
    }


class _Place:
    """Where a tensor of ours is in their file: one name, or several that lie side by side in ours."""

    def __init__(self, *theirs: str, transposed: bool = False):
        self.theirs, self.transposed = theirs, transposed


def _gpt2_names(c: TransformerConfig) -> dict[str, _Place]:
    names = {"embedding.weight": "wte.weight", "position.weight": "wpe.weight", "norm.gain": "ln_f.weight", "norm.bias": "ln_f.bias"}
    for i in range(c.layers):
        parts = {"norm1": "ln_1", "norm2": "ln_2", "attention.query_key_value": "attn.c_attn", "attention.output": "attn.c_proj",
                 "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}
        for ours, theirs in parts.items():
            names[f"blocks.{i}.{ours}.{'gain' if 'norm' in ours else 'weight'}"] = f"h.{i}.{theirs}.weight"
            names[f"blocks.{i}.{ours}.bias"] = f"h.{i}.{theirs}.bias"
    return {ours: _Place(theirs) for ours, theirs in names.items()}


# --- Llama


def _llama(f: _Fields) -> dict[str, Any]:
    f.must("hidden_act", "silu", "swish")
    f.must("rope_scaling", None)
    f.must("pretraining_tp", 1)
    f.must("sliding_window", None)
    rope = f.settings.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise WrongFile(f"{f.path}: rope_parameters has rope_type {rope['rope_type']!r}; this decoder can honour 'default'")
    if bool(f.settings.get("attention_bias", False)) != bool(f.settings.get("mlp_bias", False)):
        raise WrongFile(f"{f.path}: attention_bias is {f.settings.get('attention_bias')!r} and mlp_bias {f.settings.get('mlp_bias')!r}; "
                        "this decoder has biases in both or in neither")
    width, heads = f.whole("hidden_size", 4096), f.whole("num_attention_heads", 32)
    theta = _Fields(f.path, {**f.settings, **{k: v for k, v in rope.items() if k == "rope_theta"}}).number("rope_theta", 10000.0)
    return {
        "symbols": f.whole("vocab_size", 32000), "window": f.whole("max_position_embeddings", 2048), "start": "<|begin_of_text|>",
        "layers": f.whole("num_hidden_layers", 32), "heads": heads, "width": width, "hidden": f.whole("intermediate_size", 11008),
        "key_value_heads": f.whole("num_key_value_heads", heads), "head_width": f.whole("head_dim", width // heads),
        "positions": "rotary", "theta": theta, "norm": "rms", "eps": f.number("rms_norm_eps", 1e-6), "mlp": "swiglu",
        "bias": bool(f.settings.get("attention_bias", False)), "tied": bool(f.settings.get("tie_word_embeddings", False)),
    }


def _llama_names(c: TransformerConfig) -> dict[str, _Place]:
    names = {"embedding.weight": _Place("model.embed_tokens.weight"), "norm.gain": _Place("model.norm.weight"),
             "output.weight": _Place("lm_head.weight", transposed=True)}
    for i in range(c.layers):
        ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
        names[ours + "norm1.gain"] = _Place(theirs + "input_layernorm.weight")
        names[ours + "norm2.gain"] = _Place(theirs + "post_attention_layernorm.weight")
        for end in ("weight", "bias"):
            packed = [f"{theirs}self_attn.{x}_proj.{end}" for x in "qkv"]
            names[f"{ours}attention.query_key_value.{end}"] = _Place(*packed, transposed=True)
            names[f"{ours}attention.output.{end}"] = _Place(f"{theirs}self_attn.o_proj.{end}", transposed=True)
            for part in ("gate", "up", "down"):
                names[f"{ours}mlp.{part}.{end}"] = _Place(f"{theirs}mlp.{part}_proj.{end}", transposed=True)
    return names


Layout = tuple[Callable[[_Fields], dict[str, Any]], Callable[[TransformerConfig], dict[str, _Place]]]
LAYOUTS: dict[str, Layout] = {"gpt2": (_gpt2, _gpt2_names), "llama": (_llama, _llama_names)}


# --- what both share


def _stored(place: _Place, shape: tuple[int, ...], c: TransformerConfig) -> list[tuple[str, tuple[int, ...]]]:
    """(their name, their shape) of each part of a tensor of ours."""
    assert c.head_width is not None and c.key_value_heads is not None
    widths = [shape[-1]]
    if len(place.theirs) == 3:  # queries, keys, values
        widths = [n * c.head_width for n in (c.heads, c.key_value_heads, c.key_value_heads)]
    shapes = [(*shape[:-1], width) for width in widths]
    return [(name, s[::-1] if place.transposed else s) for name, s in zip(place.theirs, shapes)]


def _turned(a: np.ndarray, transposed: bool) -> np.ndarray:
    return a.T if transposed else a


def _plain_names(arrays: Arrays, kind: str, tied: bool) -> Arrays:
    """Without GPT-2's prefix, without stored masks and wavelengths, and without a second copy of a tied output."""
    plain = {name.removeprefix("transformer.") if kind == "gpt2" else name: a for name, a in arrays.items()}
    plain = {name: a for name, a in plain.items() if not name.endswith((".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"))}
    embedding = plain.get("wte.weight" if kind == "gpt2" else "model.embed_tokens.weight")
    if tied and "lm_head.weight" in plain and np.array_equal(plain["lm_head.weight"], embedding):  # type: ignore[arg-type]
        del plain["lm_head.weight"]
    return plain


def _read_tokenizer(folder: Path) -> BytePairTokenizer | None:
    files = ("tokenizer.json", "vocab.json", "encoder.json")
    return BytePairTokenizer.read(folder) if any((folder / name).exists() for name in files) else None


def _settings(c: TransformerConfig, kind: str) -> dict[str, Any]:
    if kind == "gpt2":
        return {
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new", "vocab_size": c.symbols,
            "n_positions": c.window, "n_ctx": c.window, "n_embd": c.width, "n_layer": c.layers, "n_head": c.heads, "n_inner": c.hidden,
            "layer_norm_epsilon": c.eps, "initializer_range": 0.02, "tie_word_embeddings": True, "torch_dtype": "float32"}
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": c.symbols,
        "max_position_embeddings": c.window, "hidden_size": c.width, "intermediate_size": c.hidden, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "num_key_value_heads": c.key_value_heads, "head_dim": c.head_width, "rms_norm_eps": c.eps,
        "rope_theta": c.theta, "rope_parameters": {"rope_type": "default", "rope_theta": c.theta},
        "attention_bias": c.bias, "mlp_bias": c.bias, "tie_word_embeddings": c.tied, "initializer_range": 0.02, "torch_dtype": "float32"}
