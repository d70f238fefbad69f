"""Texts that end a generation: pieces up to the first of them, without one that is only half there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def stop_texts(stop: Any) -> list[str]:
    """The texts that end a generation, as a list."""
    stops = [stop] if isinstance(stop, str) else list(stop) if isinstance(stop, (list, tuple, set)) else [] if stop is None else [stop]
    for text in stops:
        if not isinstance(text, str) or not text:
            raise ValueError(f"stop: {text!r} is {'empty, which is found everywhere' if text == '' else 'no text'}; "
                             "expects a text, several, or None")
    return stops


def until_stop(start: str, texts: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """`start`, then the texts up to the first stop text; what may be the beginning of a stop text is held back until it is decided."""
    if start:
        yield start
    pending = ""
    for text in texts:
        pending += text
        places = [at for at in (pending.find(s) for s in stops) if at >= 0]
        if places:
            pending = pending[: min(places)]
            break
        undecided = max((n for s in stops for n in range(1, min(len(s), len(pending) + 1)) if pending.endswith(s[:n])), default=0)
        if len(pending) > undecided:
            yield pending[: len(pending) - undecided]
            pending = pending[len(pending) - undecided:]
    if pending:
        yield pending
