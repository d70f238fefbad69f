"""Language models in GGUF files, read and written: Llama and its relatives, with the tokenizer and the chat template that lie in the file.

Weights of 4 and 8 bits (Q4_0, Q4_1, Q8_0) stay as they are in memory; other types become float32.  GGUF stores a matrix as (out, in), queries,
keys and values apart, and for Llama the rows of queries and keys in the order in which rotary pairs lie side by side (2 i, 2 i + 1); here
they lie half a head apart, as in Hugging Face's files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd import side_by_side
from ..autograd.operations.quantised import as_in_a_file
from ..language import chat, rotary
from ..language.layers import Layers, Norm
from ..language.patterns import GPT2_PATTERN, KNOWN
from ..language.tokenizer import BytePairTokenizer
from ..language.tokenizer_files import unprintable
from ..nn import Embedding, Linear, QuantisedEmbedding, QuantisedLinear, RMSNorm, parameter
from ..storage import PathLike, WrongFile
from ..transformer import Transformer, TransformerConfig
from . import blocks, gguf

ARCHITECTURES = ("llama", "qwen2", "qwen3")
QUANTISED = ("Q4_1", "Q8_0")  # kept so; Q4_0 becomes Q4_1 without a loss
PATTERNS = {whose: pattern for pattern, whose in KNOWN.items()}
PRE_TOKENIZERS = {"gpt-2": (GPT2_PATTERN,), "smollm": (r"\p{N}", GPT2_PATTERN), "llama-bpe": (PATTERNS["Llama 3"],),
                  "qwen2": (PATTERNS["Qwen2"],), "gpt-4o": (PATTERNS["GPT-4o"],)}
CONTROL, ADDED, BYTE = 3, 4, 6  # token types, besides 1 for normal ones

NAMES = {  # dotted names of a block -> tensors of the file, side by side in ours
    "norm1": ("attn_norm",), "norm2": ("ffn_norm",), "attention.query_key_value": ("attn_q", "attn_k", "attn_v"),
    "attention.query_norm": ("attn_q_norm",), "attention.key_norm": ("attn_k_norm",),
    "attention.output": ("attn_output",), "mlp.gate": ("ffn_gate",), "mlp.up": ("ffn_up",), "mlp.down": ("ffn_down",),
}
ENDS = {"embedding": ("token_embd",), "norm": ("output_norm",), "output": ("output",)}


def read_model(path: PathLike) -> Transformer:
    """The model in a GGUF file, ready to write.  Raises WrongFile, in one line that names the file, FileNotFoundError or OSError."""
    file = gguf.File(path)
    try:
        config = TransformerConfig.make(**_configuration(file))
    except ValueError as e:
        raise e if isinstance(e, WrongFile) else WrongFile(f"{file.path}: {e}") from e
    _check_shapes(file, config)
    model = Transformer(config, rng=np.random.default_rng(0), layers=FileLayers(file, config))
    model.tokenizer = _tokenizer(file)
    if model.tokenizer.size > config.symbols:
        raise WrongFile(f"{file.path}: the tokenizer has {model.tokenizer.size} symbols, the embedding {config.symbols} rows")
    model.begin_id, model.end_ids = _ends(file, model.tokenizer)
    model.template = _template(file)
    name = file.settings.get("general.name")
    model.card = {"kind": "transformer", "source": str(file.path), "configuration": config.to_dict(),
                  **({"name": name} if isinstance(name, str) else {})}
    return model.eval()  # type: ignore[return-value]


def _setting(file: gguf.File, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
    value = file.settings.get(name, default)
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise WrongFile(f"{file.path}: {name} is {value!r:.60}; it is a {getattr(kind, '__name__', 'number')}")
    return value


def _configuration(file: gguf.File) -> dict[str, Any]:
    architecture = _setting(file, "general.architecture", str)
    if architecture not in ARCHITECTURES:
        raise WrongFile(f"{file.path}: architecture is {architecture!r:.40}; can read {' and '.join(ARCHITECTURES)}")

    def whole(name: str, default: int | None = None) -> int:
        value = _setting(file, f"{architecture}.{name}", int, default)
        if not 1 <= value < 2**31:
            raise WrongFile(f"{file.path}: {architecture}.{name} is {value}; it is at least 1")
        return value

    def number(name: str, default: float | None = None) -> float:
        value = float(_setting(file, f"{architecture}.{name}", (int, float), default))
        if not 0 < value < float("inf"):
            raise WrongFile(f"{file.path}: {architecture}.{name} is {value}; it is above 0 and finite")
        return value

    def sliding() -> dict[str, Any]:
        """Mistral's files say how far back every layer looks."""
        if file.settings.get(f"{architecture}.attention.sliding_window", 0) == 0:
            return {}
        if f"{architecture}.attention.sliding_window_pattern" in file.settings:
            raise WrongFile(f"{file.path}: some layers look back a limited number of tokens; can read models in which all or none do")
        return {"sliding_window": whole("attention.sliding_window"), "sliding_layers": tuple(range(whole("block_count")))}

    def scaling(theta: float) -> dict[str, Any]:
        """What divides the rotary frequencies: a tensor, as Llama 3.1's files have it, or a kind of scaling."""
        begin = f"{architecture}.rope.scaling."
        kind = file.settings.get(begin + "type", "none")
        unknown = [n for n in file.settings if n.startswith(begin) and n.removeprefix(begin) not in ("type", "factor", "original_context_length",
                                                                                                      "finetuned")]
        if kind not in ("none", "linear", "yarn") or unknown:
            what = f"has the setting {unknown[0]}" if unknown else f"is {kind!r:.40}"
            raise WrongFile(f"{file.path}: the rotary scaling {what}; can read linear and yarn by their factor")
        if "rope_freqs.weight" in file.tensors:
            if kind != "none" or file.entry("rope_freqs.weight").shape != (head // 2,):
                raise WrongFile(f"{file.path}: tensor rope_freqs.weight has shape {file.entry('rope_freqs.weight').shape} with the rotary "
                                f"scaling {kind!r}; expects ({head // 2},) without another")
            return {"rope_divisors": tuple(file.array("rope_freqs.weight").astype(float).tolist())}
        if kind == "none":
            return {}
        factor = number("rope.scaling.factor")
        if kind == "linear":
            return {"rope_divisors": tuple(rotary.linear(factor, head).tolist())}
        window = whole("rope.scaling.original_context_length", whole("context_length"))
        return {"rope_divisors": tuple(rotary.yarn(factor, head, theta, window).tolist()), "rope_attention": rotary.yarn_attention(factor)}

    width, heads = whole("embedding_length"), whole("attention.head_count")
    head = whole("attention.key_length", max(1, width // heads))
    if whole("rope.dimension_count", head) != head or whole("attention.value_length", head) != head:
        raise WrongFile(f"{file.path}: heads of {head} are turned in part, or have values of another width; this decoder turns whole heads")
    if architecture == "llama" and "blk.0.attn_q_norm.weight" in file.tensors:
        raise WrongFile(f"{file.path}: has the tensor blk.0.attn_q_norm.weight, which this decoder doesn't know in a llama")
    theta = number("rope.freq_base", 10000.0)
    return {
        "symbols": file.entry("token_embd.weight").shape[0], "window": whole("context_length"), "layers": whole("block_count"), "heads": heads,
        "key_value_heads": whole("attention.head_count_kv", heads), "head_width": head, "width": width, "hidden": whole("feed_forward_length"),
        "positions": "rotary", "theta": theta, **scaling(theta), **sliding(), "norm": "rms", "eps": number("attention.layer_norm_rms_epsilon"),
        "mlp": "swiglu", "bias": False, "query_key_value_bias": "blk.0.attn_q.bias" in file.tensors,
        "query_key_norm": "blk.0.attn_q_norm.weight" in file.tensors, "tied": "output.weight" not in file.tensors, "start": "",
    }


def _tensors_of(name: str) -> list[str]:
    """The file's names of one of our layers."""
    if name in ENDS:
        return [f"{ENDS[name][0]}.weight"]
    _, i, part = name.split(".", 2)
    return [f"blk.{i}.{theirs}.weight" for theirs in NAMES[part]]


def _check_shapes(file: gguf.File, c: TransformerConfig) -> None:
    """Every tensor that the configuration implies is there, with its shape: before anything of the model is made."""
    if c.layers > len(file.tensors):
        raise WrongFile(f"{file.path}: has {c.layers:,} layers by its settings, and {len(file.tensors)} tensors")
    q, kv, w = c.heads * c.head_width, c.key_value_heads * c.head_width, c.width
    block = {"attn_norm": (w,), "ffn_norm": (w,), "attn_q": (q, w), "attn_k": (kv, w), "attn_v": (kv, w), "attn_output": (w, q),
             "ffn_gate": (c.hidden, w), "ffn_up": (c.hidden, w), "ffn_down": (w, c.hidden)}
    if c.query_key_norm:
        block |= {"attn_q_norm": (c.head_width,), "attn_k_norm": (c.head_width,)}
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (c.symbols, w), "output_norm.weight": (w,)}
    if not c.tied:
        shapes["output.weight"] = (c.symbols, w)
    shapes |= {f"blk.{i}.{name}.weight": shape for i in range(c.layers) for name, shape in block.items()}
    for name, shape in shapes.items():
        if file.entry(name).shape != shape:
            raise WrongFile(f"{file.path}: tensor {name} has shape {file.entry(name).shape}; its settings imply {shape}")
    biases = {name.removesuffix("bias") + "weight" for name in file.tensors if name.endswith(".bias")}
    known = {f"blk.{i}.attn_{x}.weight" for i in range(c.layers) for x in "qkv"}
    others = {"rope_freqs.weight", *(name.removesuffix("weight") + "bias" for name in known)}
    left = [n for n in file.tensors if n not in shapes and n not in others]
    if left:
        raise WrongFile(f"{file.path}: has the tensor {left[0]}, which this decoder doesn't know")
    if biases and biases != known:
        raise WrongFile(f"{file.path}: has biases for {len(biases)} tensors; this decoder has them for all queries, keys and values or for none")


class FileLayers(Layers):
    """The layers of a transformer from a file."""

    def __init__(self, file: gguf.File, c: TransformerConfig):
        self.file, self.config = file, c
        self.turned = _setting(file, "general.architecture", str) == "llama"  # rows of queries and keys lie in rotary pairs

    def norm(self, name: str, head: bool = False) -> Norm:
        layer = RMSNorm(self.config.head_width if head else self.config.width, eps=self.config.eps)
        layer.gain.data[...] = self.file.array(_tensors_of(name)[0])
        layer.gain.requires_grad = False
        return layer

    def embedding(self, name: str, rows: int) -> Any:
        raw, kind = self._raw(_tensors_of(name)[0])
        layer = QuantisedEmbedding(side_by_side(raw, kind), kind, rows) if kind in QUANTISED else Embedding.of(blocks.dequantise(raw, kind))
        self.file.release()
        return layer

    def linear(self, name: str, inputs: int, outputs: int, *, residual: bool = False, activation: str | None = None,
               bias: bool | None = None) -> Any:
        layer = self._linear(name, outputs, activation)
        self.file.release()
        return layer

    def _linear(self, name: str, outputs: int, activation: str | None) -> Any:
        tensors = _tensors_of(name)
        parts = [self._raw(tensor) for tensor in tensors]
        raws = [self._half_apart(raw, tensor) for (raw, _), tensor in zip(parts, tensors)]
        offset = None
        if f"{tensors[0].removesuffix('weight')}bias" in self.file.tensors:
            found = [self.file.array(t.removesuffix("weight") + "bias") for t in tensors]
            offset = parameter(np.concatenate([self._half_apart(b[:, None], t)[:, 0] for b, t in zip(found, tensors)]))
            offset.requires_grad = False
        kind = parts[0][1]
        if kind in QUANTISED and all(other == kind for _, other in parts):
            return QuantisedLinear(side_by_side(np.concatenate(raws), kind), kind, outputs, bias=offset, activation=activation)
        weight = np.concatenate([blocks.dequantise(raw, other) for raw, (_, other) in zip(raws, parts)]).T
        return Linear.of(weight, offset, activation=activation)

    def _raw(self, tensor: str) -> tuple[np.ndarray, str]:
        """The rows of a tensor as bytes of blocks, and their type."""
        raw, kind = self.file.raw(tensor), self.file.entry(tensor).kind
        if kind != "Q4_0":
            return raw, kind
        b = raw.reshape(-1, blocks.TYPES["Q4_0"].size)  # w = d (q - 8) is d q + m with m = -8 d, which float16 holds exactly
        minimum = (np.ascontiguousarray(b[:, :2]).view("<f2") * np.float16(-8)).view(np.uint8)
        numbers = np.concatenate([b[:, :2], minimum, b[:, 2:]], axis=1)
        return numbers.reshape(len(raw), -1), "Q4_1"

    def _half_apart(self, rows: np.ndarray, tensor: str) -> np.ndarray:
        """Rows of queries and keys as here: row i of a head is turned with row i + half a head."""
        if not self.turned or (".attn_q." not in tensor and ".attn_k." not in tensor):
            return rows
        half = self.config.head_width // 2
        return rows.reshape(-1, half, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


# --- the tokenizer and the template


def _tokenizer(file: gguf.File) -> BytePairTokenizer:
    def texts(name: str) -> list[str]:
        value = file.settings.get(name)
        if not isinstance(value, list):
            raise WrongFile(f"{file.path}: {name} is {type(value).__name__}; it is an array of strings")
        return value

    kind, cut = file.settings.get("tokenizer.ggml.model"), file.settings.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or cut not in PRE_TOKENIZERS:
        raise WrongFile(f"{file.path}: the tokenizer is {kind!r:.40} with text cut as {cut!r:.40}; can read byte-level pairs ('gpt2') cut as "
                        f"{', '.join(PRE_TOKENIZERS)}")
    names, merges = texts("tokenizer.ggml.tokens"), texts("tokenizer.ggml.merges")
    types = file.settings.get("tokenizer.ggml.token_type")
    if not isinstance(types, np.ndarray) or len(types) != len(names):
        raise WrongFile(f"{file.path}: tokenizer.ggml.token_type doesn't say a type for each of {len(names):,} tokens")
    special = {name: i for i, (name, t) in enumerate(zip(names, types.tolist())) if t in (CONTROL, ADDED)}
    try:
        tokens = {i: unprintable(name) for i, (name, t) in enumerate(zip(names, types.tolist())) if t not in (CONTROL, ADDED, BYTE)}
        ids = dict(zip(names, range(len(names))))
        pairs = [(ids[a], ids[b]) for a, b in [merge.split(" ") for merge in merges]]
        return BytePairTokenizer(tokens, pairs, special, PRE_TOKENIZERS[cut], whole=cut == "llama-bpe",
                                 may_lack_bytes=True)  # as Hugging Face's library reads it
    except (KeyError, ValueError) as error:
        raise WrongFile(f"{file.path}: the vocabulary isn't one of byte-level pairs ({type(error).__name__}: {str(error)[:80]})") from error


def _ends(file: gguf.File, tokenizer: BytePairTokenizer) -> tuple[int | None, tuple[int, ...]]:
    """The token that a text begins with, where the tokenizer adds one, and those that end it."""
    def token(name: str) -> int | None:
        value = file.settings.get(f"tokenizer.ggml.{name}_token_id")
        if value is not None and not (isinstance(value, int) and 0 <= value < tokenizer.size):
            raise WrongFile(f"{file.path}: tokenizer.ggml.{name}_token_id is {value!r:.40}; it is below {tokenizer.size}")
        return value

    begin = token("bos") if file.settings.get("tokenizer.ggml.add_bos_token", False) else None
    return begin, tuple(sorted({i for i in (token("eos"), token("eot")) if i is not None}))


def _template(file: gguf.File) -> chat.Template | None:
    text = file.settings.get("tokenizer.chat_template")
    if not isinstance(text, str):
        return None
    try:
        return chat.recognise(text)
    except ValueError:
        return None  # the model writes all the same; `chat` says which template it would need


# --- writing


def write_model(model: Transformer, path: PathLike, kind: str = "Q8_0", name: str = "zoo") -> None:
    """Write a Llama, Qwen2 or Qwen3 as GGUF, matrices as `kind`: F16, Q8_0, Q4_1 or F32; norms in F32.

    Quantised layers are written as they are.  ValueError names a field of the configuration that these don't have.
    """
    c = model.config
    wanted = {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "rope_attention": 1.0, "sliding_layers": ()}
    architecture = "qwen3" if c.query_key_norm else "qwen2" if c.query_key_value_bias else "llama"
    if architecture != "llama":
        wanted |= {"rope_divisors": (), "query_key_value_bias": architecture == "qwen2"}
    for field, value in wanted.items():
        if getattr(c, field) != value:
            raise ValueError(f"write_model: {field} is {getattr(c, field)!r:.60}; in a GGUF of the kind {architecture!r} it is {value!r}")
    if not isinstance(model.tokenizer, BytePairTokenizer):
        raise ValueError(f"write_model: the tokenizer is {type(model.tokenizer).__name__}; GGUF holds byte-level pairs (BytePairTokenizer)")
    sizes = {
        "block_count": c.layers, "context_length": c.window, "embedding_length": c.width, "feed_forward_length": c.hidden,
        "attention.head_count": c.heads, "attention.head_count_kv": c.key_value_heads, "attention.key_length": c.head_width,
        "attention.value_length": c.head_width, "rope.freq_base": float(c.theta), "rope.dimension_count": c.head_width,
        "attention.layer_norm_rms_epsilon": float(c.eps), "vocab_size": c.symbols}
    settings: dict[str, Any] = {"general.architecture": architecture, "general.name": name,
                                **{f"{architecture}.{field}": value for field, value in sizes.items()}, **_vocabulary(model)}
    tensors: dict[str, tuple[str, np.ndarray, tuple[int, ...]]] = {}

    def matrix(names: Sequence[str], layer: Any) -> None:
        for tensor, (raw, stored, shape) in zip(names, _split(layer, names, kind, c, turned=architecture == "llama")):
            tensors[tensor] = stored, raw, shape

    def numbers(tensor: str, values: np.ndarray) -> None:
        tensors[tensor] = "F32", blocks.quantise(np.ascontiguousarray(values, np.float32), "F32"), values.shape

    def gain(tensor: str, layer: Any) -> None:
        numbers(tensor, layer.gain.data)

    matrix(["token_embd.weight"], model.embedding)
    if c.rope_divisors:
        numbers("rope_freqs.weight", np.array(c.rope_divisors))
    q, kv = c.heads * c.head_width, c.key_value_heads * c.head_width
    for i, block in enumerate(model.blocks):
        gain(f"blk.{i}.attn_norm.weight", block.norm1)
        matrix([f"blk.{i}.attn_{x}.weight" for x in "qkv"], block.attention.query_key_value)
        if (bias := block.attention.query_key_value.bias) is not None:
            for x, values in zip("qkv", np.split(bias.data, [q, q + kv])):
                numbers(f"blk.{i}.attn_{x}.bias", values)
        if c.query_key_norm:
            gain(f"blk.{i}.attn_q_norm.weight", block.attention.query_norm)
            gain(f"blk.{i}.attn_k_norm.weight", block.attention.key_norm)
        matrix([f"blk.{i}.attn_output.weight"], block.attention.output)
        gain(f"blk.{i}.ffn_norm.weight", block.norm2)
        for part in ("gate", "up", "down"):
            matrix([f"blk.{i}.ffn_{part}.weight"], getattr(block.mlp, part))
    gain("output_norm.weight", model.norm)
    if model.output is not None:
        matrix(["output.weight"], model.output)
    gguf.write(path, settings, tensors)


def _split(layer: Any, names: Sequence[str], kind: str, c: TransformerConfig, turned: bool) -> list[tuple[np.ndarray, str, tuple[int, ...]]]:
    """(bytes, type, shape) of each tensor that a layer becomes; turned: rows of queries and keys in rotary pairs."""
    if isinstance(layer, (QuantisedLinear, QuantisedEmbedding)):
        rows = layer.symbols if isinstance(layer, QuantisedEmbedding) else layer.outputs
        raw, stored = as_in_a_file(layer.blocks, layer.quantisation, rows), layer.quantisation
        inputs = 32 * layer.blocks.shape[1]
    else:
        w = layer.weight.data if isinstance(layer, Embedding) else layer.weight.data.T
        inputs = w.shape[1]
        stored = kind if inputs % 32 == 0 or kind in ("F16", "F32") else "F16"
        raw = blocks.quantise(w, stored)
    if len(names) == 1:
        return [(raw, stored, (len(raw), inputs))]
    q, kv = c.heads * c.head_width, c.key_value_heads * c.head_width
    pieces = np.split(raw, [q, q + kv])
    half = c.head_width // 2
    if turned:
        pieces[:2] = [p.reshape(-1, 2, half, p.shape[1]).swapaxes(1, 2).reshape(p.shape) for p in pieces[:2]]
    return [(np.ascontiguousarray(p), stored, (len(p), inputs)) for p in pieces]


def _vocabulary(model: Transformer) -> dict[str, Any]:
    tokenizer, symbols = model.tokenizer, model.config.symbols
    cut = next((name for name, patterns in PRE_TOKENIZERS.items() if patterns == tuple(tokenizer.patterns)), None)
    if cut is None:
        raise ValueError(f"write_model: the tokenizer cuts text by patterns that GGUF has no name for here; it has {', '.join(PRE_TOKENIZERS)}")
    names = tokenizer.printable_tokens()
    texts = [names.get(i, f"[unused{i}]") for i in range(symbols)]
    types = [1 if i in names else ADDED for i in range(symbols)]
    for text, i in tokenizer.special.items():
        texts[i], types[i] = text, CONTROL
    settings = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": cut, "tokenizer.ggml.tokens": texts,
                "tokenizer.ggml.token_type": np.array(types, np.int32), "tokenizer.ggml.add_bos_token": model.begin_id is not None,
                "tokenizer.ggml.merges": [f"{names[a]} {names[b]}" for a, b in tokenizer.merges()]}
    if model.begin_id is not None:
        settings["tokenizer.ggml.bos_token_id"] = model.begin_id
    if model.end_ids:
        settings["tokenizer.ggml.eos_token_id"] = model.end_ids[0]
    if model.template is not None:
        settings["tokenizer.chat_template"] = model.template.jinja()
    return settings
