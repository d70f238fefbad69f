"""Tokenizer files of other libraries, read into the arguments of a BytePairTokenizer: tokenizer.json, vocab.json with merges.txt.

What such a file asks for is honoured or refused by name; nothing is left out in silence, but for dropout, which only serves training.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..storage import WrongFile, open_regular, read_json, shorten
from .patterns import GPT2_PATTERN

MAX_ID = 10_000_000
MAX_MERGES = 64_000_000  # bytes; GPT-2's 50,000 merges have 456,318
END_OF_TEXT = "<|endoftext|>"
BYTE_LEVEL = "can read byte-level BPE as of GPT-2, Llama 3 and SmolLM"


def _bytes_to_symbols() -> dict[int, str]:
    """GPT-2's table: a printable character for every byte; the 68 that are not printable are moved beyond U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    moved = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + n) for n, b in enumerate(moved)}}


SYMBOL = _bytes_to_symbols()
BYTE = {symbol: b for b, symbol in SYMBOL.items()}
# A symbol's code point -> its byte's; what is no symbol -> what Latin-1 doesn't have
_LATIN_1: dict[int, int | str] = {**dict.fromkeys(SYMBOL, "\uffff"), **{ord(symbol): b for symbol, b in BYTE.items()}}


def printable(content: bytes) -> str:
    return "".join([SYMBOL[b] for b in content])


def unprintable(name: str) -> bytes:
    """Raises KeyError for a name with other symbols."""
    try:
        return name.translate(_LATIN_1).encode("latin-1")
    except UnicodeEncodeError as error:
        raise KeyError(name[error.start]) from None


def read_gpt2(vocabulary: Path, merges: Path) -> dict[str, Any]:
    """vocab.json and merges.txt, GPT-2's own format: its pattern, and the special tokens that the vocabulary has."""
    with open_regular(merges) as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_MERGES:
            raise WrongFile(f"{merges}: has {size:,} bytes; expects merges of at most {MAX_MERGES:,}")
        content = file.read()
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise WrongFile(f"{merges}: is not UTF-8: byte 0x{content[error.start]:02x} at {error.start:,}") from error
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    names = read_json(vocabulary)
    settings, others = _settings(vocabulary.parent), vocabulary.parent / "added_tokens.json"
    special = [END_OF_TEXT, *(_token_text(settings.get(name)) for name in ("bos_token", "eos_token", "unk_token", "pad_token"))]
    added: dict[str, tuple] = {text: (names[text],) for text in special if text in names and text is not None}
    if isinstance(table := settings.get("added_tokens_decoder"), dict):
        added |= _added(vocabulary.parent / "tokenizer_config.json", [
            {**token, "id": int(i)} for i, token in table.items() if isinstance(token, dict) and i.isdecimal() and len(i) < 9])
    elif others.exists():
        added |= _added(others, [{"content": text, "id": i, "special": True} for text, i in read_json(others).items()])
    arguments = {"patterns": [GPT2_PATTERN], "whole": False, "prefix_space": settings.get("add_prefix_space") is True}
    return {**_vocabulary(vocabulary, names, pairs, added), **arguments}


def read_hugging_face(path: Path) -> dict[str, Any]:
    """tokenizer.json, and of a tokenizer_config.json beside it whether a space is put before a text."""
    content = read_json(path)
    model, normalizer = content.get("model"), content.get("normalizer")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("merges"), list):
        kind = model.get("type") if isinstance(model, dict) else None
        raise WrongFile(f"{path}: is a tokenizer of type {shorten(kind)}; can read byte-level 'BPE' with a list of merges")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token", "byte_fallback", "fuse_unk"):
        if model.get(name):
            raise WrongFile(f"{path}: {name} is {shorten(model[name])}; {BYTE_LEVEL}, where it is empty")
    if normalizer and normalizer != {"type": "Sequence", "normalizers": []}:
        raise WrongFile(f"{path}: has a normalizer, {shorten(normalizer)}; {BYTE_LEVEL}, which have none")
    patterns, prefix_space = _cuts(path, content.get("pre_tokenizer"))
    settings = _settings(path.parent)
    if isinstance(settings.get("add_prefix_space"), bool) and _is_gpt2(path.parent, settings):
        prefix_space = settings["add_prefix_space"]  # for other classes, tokenizer.json alone counts
    if prefix_space and patterns != [GPT2_PATTERN]:
        raise WrongFile(f"{path}: add_prefix_space is true with other patterns than GPT-2's; {BYTE_LEVEL}")
    added = _added(path, content.get("added_tokens") or [])
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    arguments = {"patterns": patterns, "whole": bool(model.get("ignore_merges")), "prefix_space": prefix_space}
    return {**_vocabulary(path, model.get("vocab"), pairs, added), **arguments}


def _added(path: Path, tokens: Any) -> dict[str, tuple]:
    """text -> the fields of an AddedToken."""
    added = {}
    for token in tokens if isinstance(tokens, list) else [tokens]:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str) or not token["content"] or type(token.get("id")) is not int:
            raise WrongFile(f"{path}: {shorten(token)} is no added token; it has a 'content' of text and an 'id'")
        if token.get("single_word"):
            raise WrongFile(f"{path}: the added token {shorten(token['content'])} is matched as a single word; this reader can't do that")
        added[token["content"]] = (token["id"], *(bool(token.get(name)) for name in ("special", "lstrip", "rstrip", "normalized")))
    return added


def _cuts(path: Path, pre_tokenizer: Any) -> tuple[list[str], bool]:
    """The patterns that cut a text one after the other, and whether a space is put before it."""
    steps = pre_tokenizer
    if isinstance(pre_tokenizer, dict):
        steps = pre_tokenizer.get("pretokenizers") if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]
    if not isinstance(steps, list) or not steps or not all(isinstance(step, dict) for step in steps):
        raise WrongFile(f"{path}: cuts text by {shorten(pre_tokenizer)}; {BYTE_LEVEL}")
    patterns, prefix_space, byte_level = [], False, False
    for step in steps:
        kind, pattern = step.get("type"), step.get("pattern")
        if byte_level:
            raise WrongFile(f"{path}: cuts text by {shorten(kind)} after ByteLevel; {BYTE_LEVEL}")
        if kind == "ByteLevel":
            byte_level, prefix_space = True, bool(step.get("add_prefix_space"))
            patterns += [GPT2_PATTERN] if step.get("use_regex", True) else []
        elif kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert") and isinstance(pattern, dict) \
                and isinstance(pattern.get("Regex"), str):
            patterns.append(pattern["Regex"])
        elif kind == "Digits":
            patterns.append(r"\p{N}" if step.get("individual_digits") else r"\p{N}+")
        else:
            raise WrongFile(f"{path}: cuts text by {shorten(kind)} ({shorten(step, 100)}); {BYTE_LEVEL}")
    if not byte_level or len(patterns) > 8:
        raise WrongFile(f"{path}: is BPE over characters, or cuts text by {len(patterns)} patterns; {BYTE_LEVEL}")
    return patterns, prefix_space


def _settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, where there is one."""
    return read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}


def _is_gpt2(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the tokenizer is of GPT-2's class, which takes the settings of tokenizer_config.json over those of tokenizer.json."""
    kind = settings.get("tokenizer_class")
    if kind is None and (folder / "config.json").exists():
        return read_json(folder / "config.json").get("model_type") == "gpt2"
    return kind in (None, "GPT2Tokenizer", "GPT2TokenizerFast")


def text_before(folder: Path, added: dict[str, Any]) -> str | None:
    """The special token that is put before every text: by the post_processor of tokenizer.json, or without that file by tokenizer_config.json.

    What puts a token behind a text, or more than one before it, is a WrongFile: a prompt would be something else than the model saw.
    """
    path = folder / "tokenizer.json"
    processor = read_json(path).get("post_processor") if path.exists() else None
    before = None
    steps = processor.get("processors") if isinstance(processor, dict) and processor.get("type") == "Sequence" else [processor]
    for step in steps if isinstance(steps, list) else [steps]:
        kind = step.get("type") if isinstance(step, dict) else step
        if kind == "TemplateProcessing":
            single = step.get("single") if isinstance(step, dict) else None
            parts = single if isinstance(single, list) and all(isinstance(part, dict) and len(part) == 1 for part in single) else []
            kinds, fields = [next(iter(part)) for part in parts], [next(iter(part.values())) for part in parts]
            if kinds == ["SpecialToken", "Sequence"] and isinstance(fields[0], dict) and isinstance(fields[0].get("id"), str):
                before = fields[0]["id"]
            elif kinds != ["Sequence"]:
                raise WrongFile(f"{path}: post_processor makes {shorten(single, 100)} of a text; can honour one special token before it")
        elif kind is not None and kind != "ByteLevel":
            raise WrongFile(f"{path}: post_processor is {shorten(kind)}; can honour TemplateProcessing with one special token before a text")
    settings = {} if path.exists() else _settings(folder)
    if settings.get("add_eos_token"):
        raise WrongFile(f"{folder / 'tokenizer_config.json'}: add_eos_token is {shorten(settings['add_eos_token'])}; can honour add_bos_token alone")
    if settings.get("add_bos_token"):
        before = _token_text(settings.get("bos_token", END_OF_TEXT))
    if before is not None and before not in added:
        raise WrongFile(f"{folder}: the tokenizer puts {shorten(before)} before a text, which is not among its added tokens")
    return before


def _token_text(token: Any) -> str | None:
    """A special token of tokenizer_config.json, which is a text or an object with a 'content'."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _vocabulary(path: Path, names: Any, pairs: list[Any], added: dict[str, tuple]) -> dict[str, Any]:
    """From tokens written as printable characters. A name with other symbols, which no merge can make, is only ever decoded, as itself."""
    if not isinstance(names, dict):
        raise WrongFile(f"{path}: the vocabulary is {shorten(names)}; expects an object of names and ids")
    if wrong := [i for i in names.values() if type(i) is not int or not 0 <= i < MAX_ID]:
        raise WrongFile(f"{path}: {shorten(wrong[0])} is not an id; expects whole numbers from 0 to {MAX_ID - 1}")
    merges, reachable = [], set(BYTE)
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(name, str) and name in names for name in pair):
            raise WrongFile(f"{path}: is not a byte-level BPE vocabulary with its merges ({shorten(pair)} is no pair of its tokens)")
        merges.append((names[pair[0]], names[pair[1]]))
        reachable.add(pair[0] + pair[1])
    tokens: dict[int, bytes] = {}
    undecodable: dict[int, bytes] = {}
    for name, i in names.items():
        if name in added and name not in reachable:
            continue  # no plain text may become it
        try:
            tokens[i] = unprintable(name)
        except KeyError:
            undecodable[i] = name.encode("utf-8", "replace")
    return {"tokens": tokens, "merges": merges, "added": added, "undecodable": undecodable}
