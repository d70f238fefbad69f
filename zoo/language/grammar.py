"""Text that can only be JSON: which bytes may follow, and so which tokens.

A text is read byte by byte by a pushdown automaton (RFC 8259): a mode, what the mode waits for, and a stack of the objects and arrays that
are open.  A token is allowed if the automaton takes all its bytes; the text may end where a value is complete and nothing is open.

A text of limited length still ends as JSON: `closing` is the shortest end of a text, and a token is allowed only if enough tokens are left
for the end behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

SPACE, DIGITS = b" \t\n\r", b"0123456789"
LITERALS = {ord("t"): b"rue", ord("f"): b"alse", ord("n"): b"ull"}
ESCAPED = b'"\\/bfnrt'
MOST_SPACE = 24  # bytes in a row between two tokens of JSON: a model that has nothing to say would write space for ever


class State(NamedTuple):
    """What has been read of a JSON text."""

    mode: str = "value"  # value, object, first (value or end of an array), key, first key, colon, string, number, literal, after
    rest: bytes = b""  # string: the escape that is open; number: its last part; literal: the bytes that it lacks
    stack: bytes = b""  # of { and [ that are open; a string's last byte is k while it is a key
    space: int = 0  # bytes of space read in a row

    @property
    def complete(self) -> bool:
        """True where the text may end."""
        return not self.stack and (self.mode == "after" or (self.mode == "number" and self.rest in _WHOLE))


OBJECT = State("object")  # nothing has been read, and what comes must be an object
_WHOLE = (b"0", b"1", b".1", b"e1")  # a number's parts after which it may end: zero, digits, digits behind the point or the e
_NUMBER = {  # part -> (bytes that continue it, the part that they lead to), ...
    b"-": ((b"0", b"0"), (b"123456789", b"1")),
    b"0": ((b".", b"."), (b"eE", b"e")),
    b"1": ((DIGITS, b"1"), (b".", b"."), (b"eE", b"e")),
    b".": ((DIGITS, b".1"),),
    b".1": ((DIGITS, b".1"), (b"eE", b"e")),
    b"e": ((b"+-", b"e+"), (DIGITS, b"e1")),
    b"e+": ((DIGITS, b"e1"),),
    b"e1": ((DIGITS, b"e1"),),
}


def advance(state: State, content: bytes) -> State | None:
    """The state behind these bytes more, or None if no JSON text goes on like that."""
    for byte in content:
        following = _advance(state, byte)
        if following is None:
            return None
        state = following
    return state


def _advance(state: State, byte: int) -> State | None:
    mode, rest, stack, space = state
    if mode == "string":
        return _in_string(rest, stack, byte)
    if mode == "literal":
        if byte != rest[0]:
            return None
        return State("literal", rest[1:], stack) if len(rest) > 1 else State("after", b"", stack)
    if mode == "number":
        for allowed, part in _NUMBER[rest]:
            if byte in allowed:
                return State("number", part, stack)
        return _advance(State("after", b"", stack), byte) if rest in _WHOLE else None
    if byte in SPACE:
        return State(mode, rest, stack, space + 1) if space < MOST_SPACE else None
    if mode == "after":
        if stack and byte == ord(","):
            return State("key" if stack[-1:] == b"{" else "value", b"", stack)
        if stack and byte == (ord("}") if stack[-1:] == b"{" else ord("]")):
            return State("after", b"", stack[:-1])
        return None
    if mode == "colon":
        return State("value", b"", stack) if byte == ord(":") else None
    if mode in ("key", "first key"):
        if byte == ord('"'):
            return State("string", b"", stack + b"k")
        return State("after", b"", stack[:-1]) if mode == "first key" and byte == ord("}") else None
    if mode == "first" and byte == ord("]"):
        return State("after", b"", stack[:-1])
    if byte == ord("{"):
        return State("first key", b"", stack + b"{")
    if mode == "object":
        return None
    if byte == ord("["):
        return State("first", b"", stack + b"[")
    if byte == ord('"'):
        return State("string", b"", stack)
    if byte in LITERALS:
        return State("literal", LITERALS[byte], stack)
    if byte == ord("-"):
        return State("number", b"-", stack)
    if byte in DIGITS:
        return State("number", b"0" if byte == ord("0") else b"1", stack)
    return None


def _in_string(rest: bytes, stack: bytes, byte: int) -> State | None:
    if rest == b"\\":
        if byte == ord("u"):
            return State("string", b"uuuu", stack)
        return State("string", b"", stack) if byte in ESCAPED else None
    if rest:  # \uXXXX
        return State("string", rest[1:], stack) if byte in b"0123456789abcdefABCDEF" else None
    if byte == ord("\\"):
        return State("string", b"\\", stack)
    if byte == ord('"'):
        return State("colon", b"", stack[:-1]) if stack[-1:] == b"k" else State("after", b"", stack)
    return State("string", b"", stack) if byte >= 0x20 else None  # UTF-8 is checked where the text is put together


_SHORTEST = {"value": b"0", "object": b"{}", "colon": b":0", "key": b'"":0'}  # what completes a mode's part


def closing(state: State) -> bytes:
    """The shortest bytes that make the text complete."""
    mode, rest, stack, _ = state
    if mode == "string":
        content = b"n" if rest == b"\\" else b"0" * len(rest)
        end = content + (b'":0' if stack[-1:] == b"k" else b'"')
        stack = stack.removesuffix(b"k")
    elif mode == "literal":
        end = rest
    elif mode == "number":
        end = b"" if rest in _WHOLE else b"0"
    else:
        end = _SHORTEST.get(mode, b"")
    return end + stack[::-1].translate(_CLOSE)


_CLOSE = bytes.maketrans(b"{[", b"}]")


class Vocabulary:
    """The bytes of a tokenizer's tokens, and which byte each begins with; special tokens have none."""

    def __init__(self, tokens: Mapping[int, bytes], symbols: int):
        self.tokens = tokens
        self.first = np.full(symbols, 256, np.int16)  # 256: no bytes, which go on as no text
        for token, content in tokens.items():
            if content and token < symbols:
                self.first[token] = content[0]


_vocabularies: WeakKeyDictionary[Any, Vocabulary] = WeakKeyDictionary()


def vocabulary_of(tokenizer: Any, symbols: int) -> Vocabulary:
    """The vocabulary of a tokenizer, for a model with so many symbols."""
    vocabulary = _vocabularies.get(tokenizer)
    if vocabulary is None or len(vocabulary.first) != symbols:
        vocabulary = _vocabularies[tokenizer] = Vocabulary(tokenizer.contents(), symbols)
    return vocabulary


@lru_cache(1 << 12)
def _first_bytes(state: State) -> np.ndarray:
    """Which bytes may follow: (257,), the last one False."""
    return np.array([_advance(state, byte) is not None for byte in range(256)] + [False])


def as_json(logits: np.ndarray, state: State, vocabulary: Vocabulary, left: int, most: int = 64) -> tuple[np.ndarray, bool]:
    """logits (symbols,) of the likeliest tokens, at most so many, that go on as JSON, and -inf for all others.

    left: tokens that may be written, this one included.  A token is allowed only if the others suffice for `closing`, with one for each
    byte; also returned is whether a likelier token was left out for that.  ValueError where the vocabulary has no token that fits.
    """
    candidates = np.flatnonzero(_first_bytes(state)[vocabulary.first])
    for number in (4 * most, len(candidates)):
        best = candidates if number >= len(candidates) else candidates[np.argpartition(-logits[candidates], number)[:number]]
        allowed: list[int] = []
        cut = False
        for token in best[np.argsort(-logits[best], kind="stable")].tolist():
            after = advance(state, vocabulary.tokens[token])
            if after is not None and len(closing(after)) < left:
                allowed.append(token)
                if len(allowed) == most:
                    break
            elif after is not None and not allowed:
                cut = True
        if allowed:
            only = np.full(len(logits), -np.inf)
            only[allowed] = logits[allowed]
            return only, cut
    raise ValueError(f"json: no token of this vocabulary goes on as JSON and leaves room for its end within {left} tokens")
