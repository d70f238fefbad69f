"""Checkpoints of others: folders in Hugging Face's layout for GPT-2, Llama and its relatives, read and written.

    config.json        what the decoder looks like; a field that this one can't honour is a WrongFile that names it
    model.safetensors  the weights, or shards with model.safetensors.index.json; float32, float16 or bfloat16
    tokenizer files    byte-level byte pairs, where they are there

GPT-2 stores a matrix as (in, out), as zoo does; Llama as (out, in), with queries, keys and values apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..language import chat, rotary
from ..language.tokenizer import BytePairTokenizer
from ..language.tokenizer_files import text_before
from ..model import Unfilled
from ..storage import (
    Arrays,
    PathLike,
    Tensors,
    WrongFile,
    atomic_write,
    check_shapes,
    open_regular,
    open_tensors,
    read_json,
    shorten,
    write_tensors,
)
from ..transformer import Transformer, TransformerConfig

START_IDS = "zoo_start_ids"  # in config.json: what an empty prompt stands for, where bos_token_id has no room for several
MOST_TEMPLATE = 1 << 20  # bytes
GELU_TANH = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")


def read_folder(folder: PathLike) -> Transformer:
    """The model in a folder, with its tokenizer where there is one, and the tokens that begin and end a text.

    Raises WrongFile or OSError in one line, before it allocates more than the weights take where they aren't what config.json describes.
    """
    folder = Path(folder)
    path = folder / "config.json"
    settings = read_json(path)
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in LAYOUTS:
        raise WrongFile(f"{path}: model_type is {shorten(kind)}; can read {', '.join(map(repr, LAYOUTS))}")
    configured, names_of = LAYOUTS[kind]
    tensors = open_tensors(folder)
    names_in_file = _plain_names(folder, tensors, kind)
    shapes = {name: tensors.shapes[stored] for name, stored in names_in_file.items()}
    try:
        config = TransformerConfig.make(**configured(_Fields(path, settings)))
        if config.layers > len(shapes):
            raise ValueError(f"it describes {config.layers:,} layers, the weights are {len(shapes):,} tensors")
        model = Transformer(config, rng=Unfilled(config, shapes))  # type: ignore[arg-type]
    except (ValueError, ArithmeticError, MemoryError) as e:
        raise e if isinstance(e, WrongFile) else WrongFile(f"{path}: {e or type(e).__name__}") from e
    stored_as = names_of(config)
    if config.tied and "lm_head.weight" in shapes and _same(tensors, names_in_file, "lm_head.weight", stored_as["embedding.weight"].names[0]):
        del shapes["lm_head.weight"]  # a copy of what is tied
    arrays = model.arrays()
    try:
        check_shapes(shapes, {name: shape for ours, a in arrays.items() for name, shape in _shapes(stored_as[ours], a.shape, config)})
        for ours, a in arrays.items():
            stored = stored_as[ours]
            a[...] = np.concatenate([_transposed(tensors[names_in_file[name]], stored.transposed) for name in stored.names], axis=-1)
        model.check_finite()
    except ValueError as e:
        raise e if isinstance(e, WrongFile) else WrongFile(f"{folder}: {e}") from e
    _read_text_settings(model, folder, settings)
    model.card = {"kind": "transformer", "source": str(folder), "configuration": config.to_dict()}
    return model.eval()  # type: ignore[return-value]


def _read_text_settings(model: Transformer, folder: Path, settings: Mapping[str, Any]) -> None:
    """The tokenizer, and the ids that begin and end a text; generation_config.json counts before config.json."""
    file = folder / "generation_config.json"
    generation = read_json(file) if file.exists() else {}

    def ids(name: str) -> tuple[int, ...]:
        value = generation.get(name) if generation.get(name) is not None else settings.get(name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(i) is int for i in values):
            raise WrongFile(f"{folder / 'config.json'}: {name} is {shorten(value)}; it is an id or a list of ids")
        return tuple(i for i in values if 0 <= i < model.config.symbols)  # a class's default may lie beyond a small vocabulary

    model.start_ids, model.end_ids = ids("bos_token_id")[:1], ids("eos_token_id")
    if isinstance(several := settings.get(START_IDS), list):
        model.start_ids = ids(START_IDS) or model.start_ids
        if len(model.start_ids) != len(several):
            raise WrongFile(f"{folder / 'config.json'}: {START_IDS} is {shorten(several)}; its ids go from 0 to {model.config.symbols - 1}")
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json", "encoder.json")):
        return
    tokenizer = model.tokenizer = BytePairTokenizer.read(folder)
    if tokenizer.plain_size > model.config.symbols:
        raise WrongFile(f"{folder}: the tokenizer has {tokenizer.plain_size} symbols, config.json's vocab_size is {model.config.symbols}")
    model.template = _template(folder)
    before = text_before(folder, tokenizer.added)
    model.begin_id = None if before is None else tokenizer.added[before].id
    if model.begin_id is not None and model.begin_id >= model.config.symbols:
        raise WrongFile(f"{folder}: the tokenizer puts {shorten(before)} before a text, id {model.begin_id} of {model.config.symbols}")
    if not model.start_ids and model.begin_id is not None:
        model.start_ids = (model.begin_id,)


def _template(folder: Path) -> chat.Template | None:
    """How conversations are written, where a file says so and it is a way that is known here."""
    try:
        if (folder / "chat_template.jinja").exists():
            with open_regular(folder / "chat_template.jinja") as file:
                return chat.recognise(file.read(MOST_TEMPLATE).decode())
        text = read_json(folder / "tokenizer_config.json").get("chat_template") if (folder / "tokenizer_config.json").exists() else None
        return chat.recognise(text) if isinstance(text, str) else None
    except ValueError:
        return None  # the model writes all the same; `chat` says that it would need a template


from_hugging_face = read_folder  # what zoo.transformer called it until 0.1


def write_folder(model: Transformer, folder: PathLike) -> None:
    """Write config.json and model.safetensors as `transformers` reads them, and tokenizer.json where the tokenizer is byte pairs.

    A model that is neither a GPT-2, a Llama, a Qwen2 nor a Qwen3 is a ValueError that names the field.
    """
    folder, c = Path(folder), model.config
    kind = "gpt2" if c.positions == "learned" else "qwen3" if c.query_key_norm else "qwen2" if c.query_key_value_bias and not c.bias else "llama"
    expected: dict[str, Any] = {"norm": "layer", "mlp": "gelu"} if kind == "gpt2" else {"norm": "rms", "mlp": "swiglu"}
    if kind == "gpt2":
        expected |= {"bias": True, "tied": True, "key_value_heads": c.heads, "head_width": c.width // c.heads}
    expected |= {"rope_divisors": (), "rope_attention": 1.0, "sliding_layers": ()}
    if kind == "qwen3":
        expected |= {"bias": False, "query_key_value_bias": False}
    for field, value in expected.items():
        if getattr(c, field) != value:
            raise ValueError(f"write_folder: {field} is {getattr(c, field)!r}; a model with {c.positions} positions is a {kind}, "
                             f"where it is {value!r}")
    stored_as = LAYOUTS[kind][1](c)
    arrays: Arrays = {}
    for ours, a in model.arrays().items():
        stored = stored_as[ours]
        cuts = np.cumsum([shape[0] if stored.transposed and a.ndim > 1 else shape[-1] for _, shape in _shapes(stored, a.shape, c)])[:-1]
        for name, part in zip(stored.names, np.split(a, cuts, axis=-1)):
            arrays[name] = np.ascontiguousarray(_transposed(part, stored.transposed))
    prefix = "transformer." if kind == "gpt2" else ""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", {prefix + name: a for name, a in arrays.items()}, {"format": "pt"})
    try:
        start = model.ids("").tolist()
    except ValueError:
        start = []  # no text begins this model's texts
    ends = {"bos_token_id": start[-1] if start else None, "eos_token_id": list(model.end_ids) if len(model.end_ids) > 1 else
            model.end_ids[0] if model.end_ids else None, **({START_IDS: start} if len(start) > 1 else {})}
    atomic_write(folder / "config.json", json.dumps({**_settings(c, kind), **ends}, indent=2).encode() + b"\n")
    if isinstance(model.tokenizer, BytePairTokenizer):
        texts = {i: text for text, i in model.tokenizer.special.items()}
        begin = None if model.begin_id is None else texts.get(model.begin_id)
        if model.begin_id is not None and begin is None:
            raise ValueError(f"write_folder: begin_id is {model.begin_id}, which is no special token of the tokenizer")
        model.tokenizer.write(folder / "tokenizer.json", begin)
        names = {"bos_token": texts.get(start[-1]) if start else None, "eos_token": texts.get(model.end_ids[0]) if model.end_ids else None}
        card = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": c.window, "clean_up_tokenization_spaces": False,
                **{name: text for name, text in names.items() if text is not None},
                **({} if model.template is None else {"chat_template": model.template.jinja()})}
        atomic_write(folder / "tokenizer_config.json", json.dumps(card, indent=2, ensure_ascii=False).encode() + b"\n")


class _Fields:
    """config.json: what is asked for is taken; whatever must have one value is checked."""

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path, self.settings = path, settings

    def whole(self, name: str, default: int | None = None) -> int:
        value = self.settings.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
            raise WrongFile(f"{self.path}: {name} is {shorten(value)}; it is a whole number of at least 1, and below 2^31")
        return value

    def positive(self, name: str, default: float) -> float:
        value = self.settings.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise WrongFile(f"{self.path}: {name} is {shorten(value)}; it is a finite number above 0")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.settings.get(name, default)
        if not isinstance(value, bool):
            raise WrongFile(f"{self.path}: {name} is {shorten(value)}; it is true or false")
        return value

    def must(self, name: str, *allowed: Any) -> None:
        """The field is missing, or one of the values that this decoder can honour."""
        if name in self.settings and self.settings[name] not in allowed:
            expected = " or ".join(map(repr, allowed))
            raise WrongFile(f"{self.path}: {name} is {shorten(self.settings[name])}; this decoder can honour {expected}")


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
        "symbols": f.whole("vocab_size", 50257), "window": f.whole("n_positions", 1024), "start": "",
        "layers": f.whole("n_layer", 12), "heads": f.whole("n_head", 12), "width": width, "hidden": f.whole("n_inner", 4 * width),
        "eps": f.positive("layer_norm_epsilon", 1e-5),
        "mlp": {"relu": "relu", "silu": "silu", "swish": "silu"}.get(activation, "gelu"),
    }


class Stored(NamedTuple):
    """Where a tensor of ours is in their file: one name, or several that lie side by side in ours."""

    names: tuple[str, ...]
    transposed: bool = False


def _gpt2_names(c: TransformerConfig) -> dict[str, Stored]:
    names = {"embedding.weight": "wte.weight", "position.weight": "wpe.weight", "norm.gain": "ln_f.weight", "norm.bias": "ln_f.bias"}
    for i in range(c.layers):
        parts = {"norm1": "ln_1", "norm2": "ln_2", "attention.query_key_value": "attn.c_attn", "attention.output": "attn.c_proj",
                 "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}
        for ours, theirs in parts.items():
            names[f"blocks.{i}.{ours}.{'gain' if 'norm' in ours else 'weight'}"] = f"h.{i}.{theirs}.weight"
            names[f"blocks.{i}.{ours}.bias"] = f"h.{i}.{theirs}.bias"
    return {ours: Stored((theirs,)) for ours, theirs in names.items()}


# --- Llama


def _llama(f: _Fields) -> dict[str, Any]:
    f.must("sliding_window", None)
    if f.flag("attention_bias") != f.flag("mlp_bias"):
        raise WrongFile(f"{f.path}: attention_bias is {f.flag('attention_bias')} and mlp_bias {f.flag('mlp_bias')}; "
                        "this decoder has biases in both or in neither")
    return {**_decoder(f), "bias": f.flag("attention_bias")}


def _mistral(f: _Fields) -> dict[str, Any]:
    values = _decoder(f)
    window = 0 if f.settings.get("sliding_window") is None else f.whole("sliding_window")
    return {**values, "sliding_window": window, "sliding_layers": tuple(range(values["layers"])) if window else ()}


def _qwen2(f: _Fields) -> dict[str, Any]:
    return {**_decoder(f), "query_key_value_bias": True, **_sliding(f)}


def _qwen3(f: _Fields) -> dict[str, Any]:
    f.must("attention_bias", False)
    return {**_decoder(f, head_width=128), "query_key_norm": True, **_sliding(f)}


def _decoder(f: _Fields, head_width: int | None = None) -> dict[str, Any]:
    """What Llama and its relatives share."""
    f.must("hidden_act", "silu", "swish")
    f.must("pretraining_tp", 1)
    f.must("partial_rotary_factor", 1)
    width, heads = f.whole("hidden_size", 4096), f.whole("num_attention_heads", 32)
    d = f.whole("head_dim", head_width or max(1, width // heads))
    return {
        "symbols": f.whole("vocab_size", 32000), "window": f.whole("max_position_embeddings", 2048), "start": "",
        "layers": f.whole("num_hidden_layers", 32), "heads": heads, "width": width, "hidden": f.whole("intermediate_size", 11008),
        "key_value_heads": f.whole("num_key_value_heads", heads), "head_width": d, "positions": "rotary", **_rope(f, d),
        "norm": "rms", "eps": f.positive("rms_norm_eps", 1e-6), "mlp": "swiglu", "bias": False, "tied": f.flag("tie_word_embeddings"),
    }


def _sliding(f: _Fields) -> dict[str, Any]:
    """Which layers look back a limited number of tokens: those that layer_types names, or those from max_window_layers on."""
    layers, types = f.whole("num_hidden_layers", 32), f.settings.get("layer_types")
    if types is None:
        first = f.settings.get("max_window_layers", 28)
        if isinstance(first, bool) or not isinstance(first, int):
            raise WrongFile(f"{f.path}: max_window_layers is {shorten(first)}; it is a whole number")
        types = ["sliding_attention" if i >= first and f.flag("use_sliding_window") else "full_attention" for i in range(min(layers, 10_000))]
    if not isinstance(types, list) or len(types) != layers or not set(map(str, types)) <= {"full_attention", "sliding_attention"}:
        raise WrongFile(f"{f.path}: layer_types is {shorten(types, 100)}; it names full_attention or sliding_attention for each of {layers} layers")
    sliding = tuple(i for i, kind in enumerate(types) if kind == "sliding_attention")
    return {"sliding_window": f.whole("sliding_window", 4096), "sliding_layers": sliding} if sliding else {}


def _rope(f: _Fields, d: int) -> dict[str, Any]:
    """The base of the rotary wavelengths and what divides them; a scaling that isn't known is refused by its name."""
    settings: dict[str, Any] = {"rope_theta": f.settings.get("rope_theta", 10000.0)}
    kind: Any = "default"
    where = "rope_scaling"
    for name in ("rope_scaling", "rope_parameters"):  # the second is what transformers 5 calls the first
        rope = f.settings.get(name)
        if rope is not None and not isinstance(rope, dict):
            raise WrongFile(f"{f.path}: {name} is {shorten(rope)}; it is an object, or null")
        named = (rope or {}).get("rope_type", (rope or {}).get("type", "default"))
        if rope and (named != "default" or kind == "default"):
            kind, where = named, name
        settings |= {field: value for field, value in (rope or {}).items() if field not in ("rope_type", "type")}
    g = _Fields(f.path, settings)
    known = {"default": (), "linear": ("factor",), "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
             "yarn": ("factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "truncate")}
    if not isinstance(kind, str) or kind not in known:
        raise WrongFile(f"{f.path}: {where} is of the type {shorten(kind)}; this decoder can honour {', '.join(known)}")
    unknown = sorted(name for name in settings if name not in ("rope_theta", "partial_rotary_factor", *known[kind]))
    g.must("partial_rotary_factor", 1)
    g.must("truncate", True)
    if unknown:
        raise WrongFile(f"{f.path}: {where} has {unknown[0]}, {shorten(settings[unknown[0]])}; this decoder can't honour it for the type {kind!r}")
    theta = g.positive("rope_theta", 10000.0)
    if kind == "default":
        return {"theta": theta}
    if "factor" not in settings:
        raise WrongFile(f"{f.path}: {where}, of the type {kind!r}, has no factor")
    factor, attention = g.positive("factor", 1.0), 1.0
    window = g.whole("original_max_position_embeddings", f.whole("max_position_embeddings", 2048))
    if kind == "linear":
        divisors = rotary.linear(factor, d)
    elif kind == "llama3":
        divisors = rotary.llama3(factor, d, theta, window, g.positive("low_freq_factor", 1.0), g.positive("high_freq_factor", 4.0))
    else:
        divisors = rotary.yarn(factor, d, theta, window, g.positive("beta_slow", 1.0), g.positive("beta_fast", 32.0))
        attention = g.positive("attention_factor", rotary.yarn_attention(factor))
    return {"theta": theta, "rope_divisors": tuple(divisors.tolist()), "rope_attention": attention}


def _llama_names(c: TransformerConfig) -> dict[str, Stored]:
    names = {"embedding.weight": Stored(("model.embed_tokens.weight",)), "norm.gain": Stored(("model.norm.weight",)),
             "output.weight": Stored(("lm_head.weight",), transposed=True)}
    for i in range(c.layers):
        ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
        names[ours + "norm1.gain"] = Stored((theirs + "input_layernorm.weight",))
        names[ours + "norm2.gain"] = Stored((theirs + "post_attention_layernorm.weight",))
        names[ours + "attention.query_norm.gain"] = Stored((theirs + "self_attn.q_norm.weight",))
        names[ours + "attention.key_norm.gain"] = Stored((theirs + "self_attn.k_norm.weight",))
        for end in ("weight", "bias"):
            packed = tuple(f"{theirs}self_attn.{x}_proj.{end}" for x in "qkv")
            names[f"{ours}attention.query_key_value.{end}"] = Stored(packed, transposed=True)
            names[f"{ours}attention.output.{end}"] = Stored((f"{theirs}self_attn.o_proj.{end}",), transposed=True)
            for part in ("gate", "up", "down"):
                names[f"{ours}mlp.{part}.{end}"] = Stored((f"{theirs}mlp.{part}_proj.{end}",), transposed=True)
    return names


Layout = tuple[Callable[[_Fields], dict[str, Any]], Callable[[TransformerConfig], dict[str, Stored]]]
LAYOUTS: dict[str, Layout] = {"gpt2": (_gpt2, _gpt2_names), **{kind: (configured, _llama_names) for kind, configured in (
    ("llama", _llama), ("mistral", _mistral), ("qwen2", _qwen2), ("qwen3", _qwen3))}}


# --- what both share


def _shapes(stored: Stored, shape: tuple[int, ...], c: TransformerConfig) -> list[tuple[str, tuple[int, ...]]]:
    """(their name, their shape) of each part of a tensor of ours."""
    widths = [shape[-1]]
    if len(stored.names) == 3:  # queries, keys, values
        widths = [n * c.head_width for n in (c.heads, c.key_value_heads, c.key_value_heads)]
    shapes = [(*shape[:-1], width) for width in widths]
    return [(name, s[::-1] if stored.transposed else s) for name, s in zip(stored.names, shapes)]


def _transposed(a: np.ndarray, transposed: bool) -> np.ndarray:
    return a.T if transposed else a


def _plain_names(folder: Path, tensors: Tensors, kind: str) -> dict[str, str]:
    """Names without GPT-2's prefix -> names in the file, without stored masks and wavelengths, which are no weights."""
    stored = [name for name in tensors if not name.endswith((".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"))]
    names = {name.removeprefix("transformer.") if kind == "gpt2" else name: name for name in stored}
    if len(names) < len(stored):
        raise WrongFile(f"{folder}: has tensors that differ only in the prefix 'transformer.'")
    return names


def _same(tensors: Tensors, names_in_file: dict[str, str], a: str, b: str) -> bool:
    if b not in names_in_file or tensors.shapes[names_in_file[a]] != tensors.shapes[names_in_file[b]]:
        return False
    return np.array_equal(tensors[names_in_file[a]], tensors[names_in_file[b]])


def _settings(c: TransformerConfig, kind: str) -> dict[str, Any]:
    if kind == "gpt2":
        return {
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new", "vocab_size": c.symbols,
            "n_positions": c.window, "n_ctx": c.window, "n_embd": c.width, "n_layer": c.layers, "n_head": c.heads, "n_inner": c.hidden,
            "layer_norm_epsilon": c.eps, "initializer_range": 0.02, "tie_word_embeddings": True, "torch_dtype": "float32"}
    return {
        "architectures": [f"{kind.title()}ForCausalLM"], "model_type": kind, "hidden_act": "silu", "vocab_size": c.symbols,
        "max_position_embeddings": c.window, "hidden_size": c.width, "intermediate_size": c.hidden, "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads, "num_key_value_heads": c.key_value_heads, "head_dim": c.head_width, "rms_norm_eps": c.eps,
        "rope_theta": c.theta, "rope_parameters": {"rope_type": "default", "rope_theta": c.theta},
        **({"attention_bias": c.bias, "mlp_bias": c.bias} if kind == "llama" else {}),
        "tie_word_embeddings": c.tied, "initializer_range": 0.02, "torch_dtype": "float32"}
