"""Cutting a text into pieces, which byte-pair encoding then encodes one by one: regular expressions with \\p{L} and \\p{N}."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # of openai/gpt-2, encoder.py

LONG_S = 0x17F


class _Categories(dict):
    """str.translate table: every non-ASCII character becomes an ASCII one of its category, so that `re` alone can split.

    Space here is Unicode's White_Space, which of the control characters lacks U+001C to U+001F (str.isspace has them).
    The long s alone stays as it is: a pattern that ignores case takes it for an s."""

    def __missing__(self, code: int) -> int:
        category = unicodedata.category(chr(code))
        stand_in = code if code < 128 or code == LONG_S else ord({"L": "A", "N": "0", "Z": "\t"}.get(category[0], "\t" if code == 0x85 else "!"))
        self[code] = stand_in
        return stand_in


_categories = _Categories()


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern with \\p{L} and \\p{N}, for text that `_categories` has translated."""
    if not pattern.isascii():
        raise ValueError(f"pattern: {shorten(pattern)!r} has characters beyond ASCII; can cut by ASCII, \\s, \\p{{L}} and \\p{{N}}")
    ascii_pattern, inside = "", False
    for part in re.findall(r"\\p\{\w+\}|\\.|.", pattern.replace("(?i:'s|", "(?i:'s|'\u017f|"), re.DOTALL):
        inside = part == "[" or (inside and part != "]")
        known = {r"\p{L}": "A-Za-z\u017f", r"\p{N}": "0-9"}.get(part)
        if part[:2] in (r"\p", r"\P") and not known:
            raise ValueError(f"pattern: {part} in {shorten(pattern)!r} is not supported; can cut by \\p{{L}} and \\p{{N}}")
        ascii_pattern += part if not known else known if inside else f"[{known}]"
    try:
        return re.compile(ascii_pattern, re.ASCII)
    except re.error as error:
        raise ValueError(f"pattern: {shorten(pattern)!r} is not a regular expression ({error})") from error


def split(text: str, patterns: Sequence[re.Pattern[str]]) -> list[str]:
    """Pieces that joined are `text`: what each pattern matches, and what lies between."""
    pieces = [text] if text else []
    for pattern in patterns:
        cut: list[str] = []
        for piece in pieces:
            end = 0
            for match in pattern.finditer(piece if piece.isascii() else piece.translate(_categories)):
                start = match.start()
                if start > end:
                    cut.append(piece[end:start])
                if match.end() > start:
                    cut.append(piece[start:match.end()])
                end = match.end()
            if end < len(piece):
                cut.append(piece[end:])
        pieces = cut
    return pieces


def shorten(text: str, most: int = 120) -> str:
    return text if len(text) <= most else text[:most] + "..."
