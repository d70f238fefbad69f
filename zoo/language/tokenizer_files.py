"""Tokenizer files of other libraries, read into the arguments of a BytePairTokenizer: tokenizer.json, vocab.json with merges.txt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..storage import WrongFile, read_json
from .patterns import GPT2_PATTERN, shorten


def _bytes_to_symbols() -> dict[int, str]:
    """GPT-2's table: a printable character for every byte; the 68 that are not printable are moved beyond U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    moved = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + n) for n, b in enumerate(moved)}}


SYMBOL = _bytes_to_symbols()
BYTE = {symbol: b for b, symbol in SYMBOL.items()}


def printable(content: bytes) -> str:
    return "".join([SYMBOL[b] for b in content])


def unprintable(name: str) -> bytes:
    return bytes([BYTE[symbol] for symbol in name])


def read_gpt2(vocabulary: Path, merges: Path) -> dict[str, Any]:
    lines = merges.read_text(encoding="utf-8").split("\n")
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    return _from_names(vocabulary, read_json(vocabulary), pairs, {}, [GPT2_PATTERN], False)


def read_hugging_face(path: Path) -> dict[str, Any]:
    content = read_json(path)
    model = content.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or "merges" not in model:
        kind = model.get("type") if isinstance(model, dict) else None
        raise WrongFile(f"{path}: is a tokenizer of type {kind!r}; can read byte-level 'BPE'")
    steps = content.get("pre_tokenizer") or {}
    patterns, byte_level = [], False
    for step in steps.get("pretokenizers", [steps]):
        kind = step.get("type")
        if kind == "ByteLevel" and not step.get("add_prefix_space"):
            patterns += [GPT2_PATTERN] if step.get("use_regex", True) else []
            byte_level = True
        elif kind == "Split" and step.get("behavior") == "Isolated" and "Regex" in step.get("pattern", {}):
            patterns.append(step["pattern"]["Regex"])
        elif kind == "Digits":
            patterns.append(r"\p{N}" if step.get("individual_digits") else r"\p{N}+")
        else:
            raise WrongFile(f"{path}: cuts text by {kind!r} ({shorten(json.dumps(step))}); can read byte-level BPE as of GPT-2 and Llama 3")
    if not byte_level or content.get("normalizer"):
        raise WrongFile(f"{path}: is BPE over characters or with a normalizer; can read byte-level BPE as of GPT-2 and Llama 3")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    special = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    return _from_names(path, model["vocab"], pairs, special, patterns, bool(model.get("ignore_merges")))


def _from_names(path: Path, vocabulary: dict[str, int], pairs: list[list[str]], special: dict[str, int], patterns: list[str],
                whole: bool) -> dict[str, Any]:
    """From tokens written as printable characters; those that no merge makes and that are no byte are special."""
    try:
        made = set(SYMBOL.values()) | {a + b for a, b in pairs}
        special = {**{name: i for name, i in vocabulary.items() if name not in made and not whole}, **special}
        tokens = {i: unprintable(name) for name, i in vocabulary.items() if name not in special}
        return {"tokens": tokens, "merges": [(vocabulary[a], vocabulary[b]) for a, b in pairs], "special": special,
                "patterns": patterns, "whole": whole}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WrongFile(f"{path}: is not a byte-level BPE vocabulary with its merges ({type(error).__name__}: {error})") from error
