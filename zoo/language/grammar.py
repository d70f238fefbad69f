"""Text that can only be JSON: which bytes may follow, and so which tokens.

A text is read byte by byte by a pushdown automaton (RFC 8259): a mode, what the mode waits for, and a stack of the objects and arrays that
are open.  A token is allowed if the automaton takes all its bytes; the text may end where a value is complete and nothing is open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SPACE, DIGITS = b" \t\n\r", b"0123456789"
LITERALS = {ord("t"): b"rue", ord("f"): b"alse", ord("n"): b"ull"}
ESCAPED = b'"\\/bfnrt'
MOST_SPACE = 24  # bytes in a row between two tokens of JSON: a model that has nothing to say would write space for ever


class State(NamedTuple):
    """What has been read of a JSON text."""

    mode: str = "value"  # value, first (value or end of an array), key, first key, colon, string, number, literal, after
    rest: bytes = b""  # string: the escape that is open; number: its last part; literal: the bytes that it lacks
    stack: bytes = b""  # of { and [ that are open; a string's last byte is k while it is a key
    space: int = 0  # bytes of space read in a row

    @property
    def complete(self) -> bool:
        """True where the text may end."""
        return not self.stack and (self.mode == "after" or (self.mode == "number" and self.rest in _WHOLE))


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


def allowed_choices(choices: np.ndarray, state: State, content: Callable[[int], bytes], ends: frozenset[int] = frozenset(),
                    enough: int = 64) -> np.ndarray:
    """`choices` (symbols,) restricted to tokens that go on being JSON, the likeliest `enough` of them, and scaled to add up to 1.

    content: the bytes of a token.  ends: tokens that end the text, allowed where it is complete.  Tokens are tried from the likeliest on,
    those that `choices` gives 0 last, so that there is always an answer where the vocabulary has one; ValueError where it has none.
    """
    only = np.zeros(len(choices))
    number = 0
    for token in np.argsort(-choices, kind="stable"):
        if number and (choices[token] == 0 or number == enough):
            break
        if token in ends:
            good = state.complete
        else:
            piece = content(int(token))
            good = bool(piece) and advance(state, piece) is not None
        if good:
            only[token] = max(choices[token], 1e-300)
            number += 1
    if not number:
        raise ValueError("json: no token of this vocabulary continues the text as JSON")
    return only / only.sum()
