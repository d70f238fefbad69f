"""Text to numbers and back: one number a character, or byte-level byte-pair encoding as GPT-2 uses it.

Both tokenizers share one interface: `encode(text)` -> (n,) int64, `decode(ids)` -> str, `size`, `stream(ids)` (text as it
grows), `to_dict()` (plain JSON), and `tokenizer.from_dict(d)` reads either back. Byte-pair encoding has three steps:

1. a regular expression cuts the text into pieces (words with their leading space, numbers, punctuation);
2. each piece starts as its UTF-8 bytes, one token a byte, so that nothing is ever unknown;
3. neighbours are merged, the earliest learned pair first, until no learned pair is left.

Source: Radford et al. 2019, section 2.2; Sennrich et al. 2016 (arXiv 1508.07909) for the merging.
"""

from __future__ import annotations

import codecs
import heapq
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..storage import PathLike, WrongFile, atomic_write, in_one_line, is_folder, shorten
from .patterns import GPT2_PATTERN, compile_pattern, split
from .tokenizer_files import MAX_ID, printable, read_gpt2, read_hugging_face, unprintable

REMEMBERED_PIECES = 1 << 17  # of texts, with their ids
NEVER_IN_UTF8 = frozenset((0xC0, 0xC1, *range(0xF5, 0x100)))


class CharTokenizer:
    """One id for each symbol of `text`, in the order of their code points.

    An empty text is a ValueError, and so is encoding a symbol that was not in it."""

    symbols: str                 # sorted; the id of a symbol is its index
    kind = "characters"

    def __init__(self, text: str):
        if not text:
            raise ValueError("text: is empty; expects at least one symbol to learn")
        self.symbols = "".join(sorted(set(text)))
        self._codes = _code_points(self.symbols)

    @property
    def size(self) -> int:
        return len(self.symbols)

    plain_size = size

    def encode(self, text: str) -> np.ndarray:
        """(n,) int64, one for each of the n characters."""
        codes = _code_points(text)
        ids = np.searchsorted(self._codes, codes).clip(max=self.size - 1)
        if (unknown := self._codes[ids] != codes).any():
            at = int(unknown.argmax())
            raise ValueError(f"text: symbol {text[at]!r} (U+{ord(text[at]):04X}) at position {at} is not among the {self.size} known: "
                             f"{shorten(self.symbols)}")
        return ids.astype(np.int64)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        codes = self._codes[_checked_ids(ids, self.size)]
        return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of each id as it comes."""
        for token in ids:
            yield self.decode([token])

    def contents(self) -> dict[int, bytes]:
        """id -> the symbol's UTF-8 bytes."""
        return {i: symbol.encode("utf-8", "surrogatepass") for i, symbol in enumerate(self.symbols)}

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "symbols": self.symbols}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> CharTokenizer:
        symbols = saved.get("symbols")
        if not isinstance(symbols, str) or not symbols or list(symbols) != sorted(set(symbols)):
            raise ValueError(f"tokenizer: 'symbols' is {shorten(symbols)}; expects a string of different symbols in order")
        return cls(symbols)


class AddedToken(NamedTuple):
    """A token that is looked for in a text as it is written, before the text is cut into pieces."""

    id: int
    special: bool = True                 # only where the caller asks for special tokens; else always
    lstrip: bool = False                 # takes the white space before it too
    rstrip: bool = False                 # and behind it
    late: bool = False                   # looked for in what the others leave over (Hugging Face's `normalized`)


class BytePairTokenizer:
    """Byte-level byte-pair encoding.

    `tokens` (bytes of each id) holds the single bytes; `merges` (pairs of ids, earliest learned first) join to tokens; `patterns` cut the
    text, one after the other (see patterns.py). `special` (text -> id or AddedToken) are tokens of their own: special ones, as <|endoftext|>,
    are what `encode(..., special=True)` alone produces. With `whole`, a piece that is itself a token is never built from merges (Llama 3).
    `prefix_space`: a text is encoded as if a space stood before it. `undecodable` (id -> bytes) are ids that no text ever gets.

    Bytes that UTF-8 never has (0xC0, 0xC1, 0xF5 and above) may be missing among the tokens; other bytes only with `may_lack_bytes`,
    and then a text loses them, as other libraries do it."""

    kind = "byte pairs"

    def __init__(self, tokens: Mapping[int, bytes], merges: Iterable[tuple[int, int]], special: Mapping[str, int | AddedToken] | None = None,
                 patterns: Sequence[str] = (GPT2_PATTERN,), whole: bool = False, may_lack_bytes: bool = False,
                 prefix_space: bool = False, undecodable: Mapping[int, bytes] | None = None):
        self.added = {text: token if isinstance(token, AddedToken) else AddedToken(token) for text, token in (special or {}).items()}
        self.special = {text: token.id for text, token in self.added.items() if token.special}
        self.patterns, self.whole, self.prefix_space, self._undecodable = tuple(patterns), whole, prefix_space, dict(undecodable or {})
        self._compiled = [compile_pattern(pattern) for pattern in self.patterns]
        self._bytes = {**{token.id: text.encode() for text, token in self.added.items()}, **self._undecodable, **tokens}     # id -> bytes
        if "" in self.added:
            raise ValueError("special: one of the texts is empty, which is found everywhere")
        if wrong := [i for i in self._bytes if type(i) is not int or not 0 <= i < MAX_ID]:
            raise ValueError(f"ids: {shorten(wrong[0])} is not an id; expects whole numbers from 0 to {MAX_ID - 1}")
        self.size = max(self._bytes, default=-1) + 1
        ids = {content: i for i, content in tokens.items()}
        lacking = [b for b in range(256) if bytes([b]) not in ids and not (may_lack_bytes or b in NEVER_IN_UTF8)]
        if lacking:
            raise ValueError(f"tokens: has no token for the byte 0x{lacking[0]:02x} ({256 - len(lacking)} of 256 are there)")
        self._finders = {(special, late): _finder(text for text, token in self.added.items() if token.late == late and special >= token.special)
                         for special in (False, True) for late in (False, True)}
        self._tokens, self._ids = dict(tokens), ids
        self.plain_size = max(tokens, default=-1) + 1  # what a model needs at least; tokens may have been added since it was trained
        self._single = [ids.get(bytes([b]), -1) for b in range(256)]  # -1: a byte that is left out of texts
        self._merged: dict[tuple[int, int], tuple[int, int]] = {}                              # pair -> (rank, id)
        merged = self._merged
        for rank, (a, b) in enumerate(merges):
            try:
                joined = ids[tokens[a] + tokens[b]]
            except KeyError:
                raise ValueError(f"merges: pair {rank}, ({a}, {b}), does not join two tokens to a third") from None
            if (a, b) not in merged:
                merged[a, b] = rank, joined
        self._encode_piece = lru_cache(maxsize=REMEMBERED_PIECES)(self._merge)

    # -- text to numbers and back

    def encode(self, text: str, special: bool = False) -> np.ndarray:
        """(n,) int64. With `special`, the texts of the special tokens (as <|endoftext|>) become their ids; else they are plain text."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"text: U+{ord(text[error.start]):04X} at position {error.start} is half of a surrogate pair, "
                             "which has no UTF-8; use encode_bytes for arbitrary bytes") from error
        parts: list[str | int] = [text]
        for late in (False, True):
            parts = [found for part in parts for found in (self._with_added(part, special, late) if isinstance(part, str) else [part])]
        ids: list[int] = []
        for part in parts:
            ids += self._encode_plain(part) if isinstance(part, str) else [part]
        return np.array(ids, dtype=np.int64)

    def _with_added(self, text: str, special: bool, late: bool) -> list[str | int]:
        """Texts, and between them the ids of added tokens; where two begin at the same place, the longer one."""
        pattern = self._finders[special, late]
        if pattern is None:
            return [text]
        parts: list[str | int] = []
        end = 0
        for match in pattern.finditer(text):
            token, (start, stop) = self.added[match[0]], match.span()
            if token.lstrip and start < end:
                continue  # white space that the one before has taken
            while token.lstrip and start > end and _is_space(text[start - 1]):
                start -= 1
            while token.rstrip and stop < len(text) and _is_space(text[stop]):
                stop += 1
            parts += [text[end:start], token.id]
            end = stop
        return [*parts, text[end:]]

    def encode_bytes(self, content: bytes) -> np.ndarray:
        """(n,) int64 for any bytes, UTF-8 or not; `decode_bytes` is the inverse. No added tokens and no prefix space."""
        if lacking := [b for b in set(content) if self._single[b] < 0]:
            raise ValueError(f"content: has the byte 0x{lacking[0]:02x}, for which this vocabulary has no token")
        return np.array(self._encode_pieces(content.decode("utf-8", "surrogateescape")), dtype=np.int64)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Sequence[int] | np.ndarray) -> bytes:
        return b"".join([self._content(i) for i in _checked_ids(ids, self.size).tolist()])

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text that each id completes ("" in the middle of a character), and at the end the rest. Joined, it is `decode(ids)`."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in ids:
            yield decoder.decode(self.decode_bytes([token]))
        yield decoder.decode(b"", final=True)

    def _content(self, token: int) -> bytes:
        if token not in self._bytes:
            raise ValueError(f"ids: {token} is not a token of this vocabulary (it has a gap there)")
        return self._bytes[token]

    def _encode_plain(self, text: str) -> list[int]:
        return self._encode_pieces(" " + text if self.prefix_space and text and not text.startswith(" ") else text)

    def _encode_pieces(self, text: str) -> list[int]:
        ids: list[int] = []
        encode = self._encode_piece
        for piece in split(text, self._compiled):
            ids += encode(piece)
        return ids

    def _merge(self, piece: str) -> list[int]:
        """Ids of one piece: the earliest learned pair first, the leftmost of equals; n log n for n bytes."""
        content = piece.encode("utf-8", "surrogateescape")
        if self.whole and content in self._ids:
            return [self._ids[content]]
        ids: list[int] = [self._single[b] for b in content]
        before, after = list(range(-1, len(ids) - 1)), list(range(1, len(ids) + 1))       # a linked list over the bytes
        merged, end = self._merged, len(ids)
        waiting = [(*merged[pair], i) for i, pair in enumerate(pairwise(ids)) if pair in merged]
        heapq.heapify(waiting)
        while waiting:
            rank, joined, i = heapq.heappop(waiting)
            j = after[i]
            if ids[i] < 0 or j == end or merged.get((ids[i], ids[j]), (-1,))[0] != rank:
                continue                                              # one of the two was merged since
            ids[i], ids[j], after[i] = joined, -1, after[j]
            if after[i] < end:
                before[after[i]] = i
            for left, right in ((before[i], i), (i, after[i])):
                if 0 <= left and right < end and (pair := (ids[left], ids[right])) in merged:
                    heapq.heappush(waiting, (*merged[pair], left))
        return [i for i in ids if i >= 0]

    def merges(self) -> list[tuple[int, int]]:
        """Pairs of ids, earliest learned first."""
        return list(self._merged)

    def contents(self) -> dict[int, bytes]:
        """id -> the token's bytes; without the special tokens."""
        return dict(self._tokens)

    def printable_tokens(self) -> dict[int, str]:
        """id -> the token's bytes as the printable characters that files of others write them with; without the special tokens."""
        return {i: printable(content) for i, content in self._tokens.items()}

    # -- learning

    @classmethod
    def train(cls, text: str, size: int, special: Sequence[str] = (), patterns: Sequence[str] = (GPT2_PATTERN,)) -> BytePairTokenizer:
        """Learn a vocabulary of `size` ids from any text: 256 bytes, then the commonest neighbours again and again, then `special`.

        Stops early, with a smaller vocabulary, where no pair occurs twice. Of equally common pairs, the one with the smaller ids is first.
        Takes time in proportion to the different pieces of the text, not to `size` times the text."""
        least = 256 + len(special)
        if size < least:
            raise ValueError(f"size: is {size}; expects at least {least} (256 bytes and {len(special)} special tokens)")
        tokens = [bytes([b]) for b in range(256)]
        merges: list[tuple[int, int]] = []
        pairs = _learn_pairs(Counter(split(text, [compile_pattern(p) for p in patterns])), tokens)
        while len(tokens) + len(special) < size and (pair := next(pairs, None)):
            merges.append(pair)
        return cls(dict(enumerate(tokens)), merges, {name: len(tokens) + i for i, name in enumerate(special)}, patterns)

    # -- files

    def to_dict(self) -> dict[str, Any]:
        saved = {"kind": self.kind, "tokens": {printable(content): i for i, content in self._tokens.items()},
                 "merges": [list(pair) for pair in self._merged], "special": {text: token.id for text, token in self.added.items()},
                 "patterns": list(self.patterns), "whole": self.whole}
        unusual = {text: list(token) for text, token in self.added.items() if token != AddedToken(token.id)}
        lacks = any(self._single[b] < 0 for b in range(256) if b not in NEVER_IN_UTF8)
        others = {"added": unusual, "prefix_space": self.prefix_space, "may_lack_bytes": lacks,
                  "undecodable": {str(i): list(content) for i, content in self._undecodable.items()}}
        return {**saved, **{name: value for name, value in others.items() if value}}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> BytePairTokenizer:
        try:
            tokens = {i: unprintable(name) for name, i in saved["tokens"].items()}
            added = {**saved["special"], **{text: AddedToken(*token) for text, token in saved.get("added", {}).items()}}
            undecodable = {int(i): bytes(content) for i, content in saved.get("undecodable", {}).items()}
            return cls(tokens, [(a, b) for a, b in saved["merges"]], added, saved["patterns"], saved["whole"] is True,
                       saved.get("may_lack_bytes") is True, saved.get("prefix_space") is True, undecodable)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"tokenizer: is damaged ({type(error).__name__}: {error}); expects tokens, merges, special, patterns, whole") from error

    @classmethod
    def read(cls, path: PathLike) -> BytePairTokenizer:
        """Read a tokenizer of others: a Hugging Face `tokenizer.json`, or a folder with it, with `vocab.json` and `merges.txt`,
        or with GPT-2's `encoder.json` and `vocab.bpe`. What is not byte-level byte-pair encoding is a WrongFile that says so."""
        path = Path(path)
        if not is_folder(path):
            return cls._from_file(path, read_hugging_face(path))
        for vocabulary, merges in (("tokenizer.json", ""), ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
            file = path / vocabulary
            if file.exists() and (path / merges).exists():
                return cls._from_file(file, read_gpt2(file, path / merges) if merges else read_hugging_face(file))
        raise FileNotFoundError(f"{in_one_line(path)}: has no tokenizer.json, vocab.json with merges.txt, or encoder.json with vocab.bpe")

    @classmethod
    def _from_file(cls, path: Path, arguments: dict[str, Any]) -> BytePairTokenizer:
        added = {text: AddedToken(*token) for text, token in arguments.pop("added").items()}
        try:
            return cls(special=added, **arguments)
        except (ValueError, TypeError) as error:
            raise WrongFile(f"{path}: is not a byte-level BPE vocabulary with its merges ({error})") from error

    def write(self, path: PathLike, begin: str | None = None) -> None:
        """Write `path` as a Hugging Face tokenizer.json, which `read` and other libraries read. begin: a special token before every text."""
        cuts = [{"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} for p in self.patterns]
        level = {"type": "ByteLevel", "add_prefix_space": self.prefix_space, "trim_offsets": True, "use_regex": False}
        steps: list[dict[str, Any]] = [*cuts, level]
        if self.prefix_space:  # the space must be there before a pattern cuts; where it may not, GPT-2's pattern is the level's own
            if self.patterns != (GPT2_PATTERN,):
                raise ValueError(f"{path}: a tokenizer.json adds a space before a text with GPT-2's pattern alone")
            steps = [{**level, "use_regex": True}]
        vocabulary = {printable(content): i for i, content in self._tokens.items()}
        names = {i: name for name, i in vocabulary.items()}
        vocabulary |= {content.decode(): i for i, content in self._undecodable.items()}
        added = [{"id": token.id, "content": text, "single_word": False, "lstrip": token.lstrip, "rstrip": token.rstrip,
                  "normalized": token.late, "special": token.special} for text, token in self.added.items()]
        template = None if begin is None else {
            "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {begin: {"id": begin, "ids": [self.special[begin]], "tokens": [begin]}}}
        content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
                   "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "post_processor": template, "decoder": level,
                   "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                             "fuse_unk": False, "byte_fallback": False, "ignore_merges": self.whole, "vocab": vocabulary,
                             "merges": [[names[a], names[b]] for a, b in self._merged]}}
        atomic_write(path, json.dumps(content, ensure_ascii=False).encode())


Tokenizer = CharTokenizer | BytePairTokenizer


def from_dict(saved: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose `to_dict()` this was. Raises ValueError for anything else."""
    kind = saved.get("kind") if isinstance(saved, Mapping) else saved
    for tokenizer in (CharTokenizer, BytePairTokenizer):
        if kind == tokenizer.kind:
            return tokenizer.from_dict(saved)
    raise ValueError(f"tokenizer: kind is {shorten(kind)}; expects {CharTokenizer.kind!r} or {BytePairTokenizer.kind!r}")


# ------------------------------------------------------------------------------------------------ learning pairs

def _learn_pairs(pieces: Mapping[str, int], tokens: list[bytes]) -> Iterator[tuple[int, int]]:
    """Pairs of ids to merge, commonest first. `pieces`: piece -> how often it occurs; `tokens`: bytes of each id, which grows.

    No two pairs join to the same bytes: a merge takes every place of its pair, so equal bytes have equal histories.
    All pieces lie in one linked list; a merge visits only the places of its pair and corrects the counts of their neighbours."""
    ids: list[int] = []
    weight: list[int] = []
    for piece, times in pieces.items():
        content = piece.encode("utf-8", "surrogateescape")
        ids += [*content, -1]                                          # -1 ends a piece
        weight += [times] * (len(content) + 1)
    before, after = list(range(-1, len(ids) - 1)), list(range(1, len(ids) + 1))
    counts: dict[tuple[int, int], int] = defaultdict(int)
    places: dict[tuple[int, int], list[int]] = defaultdict(list)

    def count(i: int, sign: int) -> None:
        """One more (or one less) of the pair that starts at i."""
        pair = ids[i], ids[after[i]]
        if min(pair) >= 0:
            counts[pair] += sign * weight[i]
            changed.add(pair)
            if sign > 0:
                places[pair].append(i)

    changed: set[tuple[int, int]] = set()
    for i in range(len(ids) - 1):  # the last one ends a piece
        count(i, 1)
    waiting = [(-counts[pair], pair) for pair in counts]
    heapq.heapify(waiting)
    while waiting:
        times, pair = heapq.heappop(waiting)
        if counts[pair] != -times:
            continue                                                   # an entry from before a correction
        if -times < 2:
            return
        new = len(tokens)
        tokens.append(tokens[pair[0]] + tokens[pair[1]])
        yield pair
        changed.clear()
        for i in sorted(places.pop(pair)):                             # from the left: aaa becomes (aa)a
            j = after[i]
            if (ids[i], ids[j]) != pair:
                continue
            neighbours = [k for k in (before[i], j) if k >= 0 and ids[k] >= 0]
            for k in neighbours:
                count(k, -1)
            ids[i], ids[j], after[i] = new, -2, after[j]               # -2: swallowed
            before[after[i]] = i
            for k in (before[i], i):
                if k >= 0 and ids[k] >= 0:
                    count(k, 1)
        counts[pair] = 0
        changed.discard(pair)
        for pair in changed:
            if counts[pair] > 0:
                heapq.heappush(waiting, (-counts[pair], pair))


# ------------------------------------------------------------------------------------------------ small checks

def _finder(texts: Iterable[str]) -> re.Pattern[str] | None:
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _is_space(character: str) -> bool:
    """Unicode's White_Space, which of the control characters lacks U+001C to U+001F."""
    return character.isspace() and not "\x1c" <= character <= "\x1f"


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _checked_ids(ids: Sequence[int] | np.ndarray, size: int) -> np.ndarray:
    array = np.asarray(ids)
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"ids: has shape {array.shape} and dtype {array.dtype}; expects (n,) integers")
    if array.min() < 0 or array.max() >= size:
        raise ValueError(f"ids: {int(array.min() if array.min() < 0 else array.max())} is not a token; expects 0 to {size - 1}")
    return array
