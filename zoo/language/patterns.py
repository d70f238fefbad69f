r"""Cutting a text into pieces, which byte-pair encoding then encodes one by one, by regular expressions with \p{L}, \p{N} and \s.

Python's `re` knows no \p{...}, and its \s isn't Unicode's White_Space.  So a text is matched in another alphabet: ASCII stays, and every
other character is replaced by one character that stands for its general category.  A pattern whose literals are ASCII can't tell the
difference, so the pieces are exactly those of the text itself, and \p{L} is a small set: the ASCII letters and the stand-ins of Lu ... Lo.

A pattern comes from a file, and backtracking can take exponential time.  Accepted are the patterns of KNOWN, which take linear time, and
those in which nothing follows an unbounded repetition, so that there is nothing to go back for; any other is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache

from ..storage import shorten

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # openai/gpt-2, encoder.py
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LLAMA3 = (_CONTRACTIONS, r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+")
LLAMA3_PATTERN = "|".join(_LLAMA3)
KNOWN = {  # as tokenizer.json files hold them -> whose they are
    GPT2_PATTERN: "GPT-2",
    LLAMA3_PATTERN: "Llama 3",
    "|".join((*_LLAMA3[:2], r"\p{N}", *_LLAMA3[3:])): "Qwen2",
    "|".join((rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?",
              r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", *_LLAMA3[4:])): "GPT-4o",
}
LONG_S = 0x17F  # the one character beyond ASCII that a contraction matches where case is ignored: it folds to s
CATEGORIES = ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
              "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn")
STAND_IN = {category: chr(0xE000 + i) for i, category in enumerate(CATEGORIES)}  # of the private use area: no letter, no case


class _StandIns(dict):
    """A str.translate table that fills itself: every non-ASCII character becomes the stand-in of its category."""

    def __missing__(self, code: int) -> int:
        category = "Zs" if code == 0x85 else unicodedata.category(chr(code))  # next line: a control character that is White_Space
        self[code] = code if code < 128 or code == LONG_S else ord(STAND_IN[category])
        return self[code]


_stand_ins = _StandIns()


@cache
def _members(name: str) -> str:
    r"""What stands inside [ ] for \s, or for the general categories that begin with a name: "L" or "Lu"."""
    if name == "s":
        return r"\t-\r " + "".join(STAND_IN[category] for category in ("Zs", "Zl", "Zp"))
    categories = [category for category in CATEGORIES if category.startswith(name)]
    if not categories or name == "C":
        raise ValueError(f"\\p{{{name}}} is not supported")
    ascii_members = "".join(re.escape(chr(code)) for code in range(128) if unicodedata.category(chr(code)) in categories)
    return ascii_members + "".join(STAND_IN[category] for category in categories) + (chr(LONG_S) if "Ll" in categories else "")


@lru_cache(maxsize=64)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """For a text in the stand-ins' alphabet.  Raises ValueError for a pattern that isn't known to be safe, or to mean the same here."""
    try:
        if not pattern.isascii() or len(pattern) > 1000:
            raise ValueError("can cut by ASCII, \\s, \\p{L}, \\p{N} and other categories alone")
        if pattern not in KNOWN:
            _check_simple(pattern)
        return re.compile("".join(_translated(pattern)))
    except (ValueError, re.error) as error:
        known = ", ".join(KNOWN.values())
        raise ValueError(f"pattern: {shorten(pattern)}: {error}; expects that of {known}, or simple sets such as \\p{{N}}+") from error


_TOKEN = re.compile(r"\\[pP]\{\^?\w+\}|\\.|.", re.DOTALL)


def _translated(pattern: str) -> Iterator[str]:
    r"""The pattern's tokens with \p{...}, \P{...}, \s and \S as sets of stand-ins."""
    inside = False  # a set in [ ]
    for token in _TOKEN.findall(pattern):
        if token[0] != "\\":
            inside = token == "[" or (inside and token != "]")
            yield token
        elif token[1] in "psPS":
            if inside and token[1] in "PS":
                raise ValueError(f"{token} inside [ ] is not supported")
            members = _members(token[3:-1] if token[1] in "pP" else "s")
            yield members if inside else f"[{'^' if token[1] in 'PS' else ''}{members}]"
        elif token[1].isalnum() and token[1] not in "rntvf":
            raise ValueError(f"{token} is not supported")  # \d, \w and \b mean other sets in other libraries
        else:
            yield token


_ESCAPE = r"\\(?:[pP]\{\w+\}|[sSrntvf]|[^\w\s])"
_SET = rf"\[\^?(?:{_ESCAPE}|[^\]\\\[&~|-]|\w-\w)+\]"
_PART = re.compile(rf"(?:{_ESCAPE}|{_SET}|[^\\\[\](){{}}|*+?.^$])(?P<times>[?+]|\{{\d{{1,2}}(?:,\d{{1,2}})?\}})?(?![*+?{{])")


def _check_simple(pattern: str) -> None:
    """Raise ValueError unless each alternative is a few sets, bounded in number and sure to match something, but for `+` at its end."""
    at, length, unsure, certain = 0, 0, 0, False
    while at <= len(pattern):
        part = _PART.match(pattern, at)
        if part:
            times = part["times"] or "{1}"
            counts = [int(n) for n in re.findall(r"\d+", times)] or [0 if times == "?" else 1]
            length, unsure, certain = length + max(counts), unsure + (times == "?" or len(counts) > 1), certain or min(counts) > 0
            at = part.end()
        if (times == "+" if part else True) and not (certain and length <= 100 and unsure <= 2 and pattern[at : at + 1] in ("", "|")):
            raise ValueError("is not known, and may take too long or mean something else elsewhere")
        if not part:
            at, length, unsure, certain = at + 1, 0, 0, False


def split(text: str, patterns: Sequence[re.Pattern[str]]) -> list[str]:
    """Pieces that joined are `text`: what each pattern matches, and what lies between its matches."""
    pieces = [text] if text else []
    for pattern in patterns:
        cut: list[str] = []
        for piece in pieces:
            end = 0
            for match in pattern.finditer(piece if piece.isascii() else piece.translate(_stand_ins)):
                start = match.start()
                if start > end:
                    cut.append(piece[end:start])
                end = match.end()  # behind `start`: no pattern that is accepted matches nothing
                cut.append(piece[start:end])
            if end < len(piece):
                cut.append(piece[end:])
        pieces = cut
    return pieces
