"""`zoo chat MODEL`: a conversation in the terminal, written as it is computed.

    /why        the last answer's tokens: what else was likely, and from which layer on the model knew
    /undo       forget the last question and its answer
    /system X   what the model is told beforehand; the conversation begins anew
    /seed N  /temperature T  /tokens N      settings of the answers to come
    /help  /quit
"""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import numpy as np

from ..drawing.words import counted
from ..explain.circuits import lens, look, stream_titles
from ..language.chat import Answer, AnswerToken, Message

MOST_EXPLAINED = 12  # tokens of an answer that /why shows
CANDIDATES = 4  # that it shows for each


class Conversation:
    """Messages, the settings of answers, and the tokens of the last one."""

    def __init__(self, model: Any, *, temperature: float = 0.0, seed: int = 0, n_tokens: int = 256):
        self.model = model
        self.messages: list[Message] = []
        self.settings: dict[str, Any] = {"temperature": temperature, "seed": seed, "n_tokens": n_tokens}
        self.asked: np.ndarray | None = None  # ids of the last question, the conversation before it included
        self.tokens: list[AnswerToken] = []

    def say(self, text: str) -> Iterator[str]:
        """The answer, piece by piece; once it is read to its end, question and answer belong to the conversation."""
        messages = [*self.messages, {"role": "user", "content": text}]
        answer = Answer(self.model, messages, likeliest=CANDIDATES, **self.settings)
        yield from answer
        self.asked, self.tokens = answer.ids, answer.tokens
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]

    def undo(self) -> bool:
        """Forget the last question and its answer; False if there is none."""
        if len(self.messages) < 2 or self.messages[-1]["role"] != "assistant":
            return False
        self.messages, self.tokens = self.messages[:-2], []
        return True

    def system(self, text: str) -> None:
        self.messages, self.tokens = ([{"role": "system", "content": text}] if text else []), []

    def why(self) -> Iterator[str]:
        """A line for each of the answer's first tokens: its probability, what else was likely, and which layer was the first to prefer it."""
        if not self.tokens or self.asked is None:
            yield "there is no answer to explain yet"
            return
        spelled = self.model.tokenizer.decode
        shown = self.tokens[:MOST_EXPLAINED]
        ids = np.concatenate([self.asked, [t.token for t in shown[:-1]]]).astype(np.int64)
        streams = look(self.model, ids).streams[:, len(self.asked) - 1 :]
        best = lens(self.model, streams).argmax(-1)  # (layers + 1, tokens)
        names = stream_titles(self.model)  # as on the pages: "embedding", "blocks.0", ...
        for i, written in enumerate(shown):
            others = "  ".join(f"{spelled([t])!r} {_percent(log_p)}" for t, log_p in written.likeliest if t != written.token)
            knew = _first_layer(best[:, i] == written.token)
            where = "the stream says something else to its end" if knew is None else f"the stream says so from {names[knew]} on"
            yield f"{spelled([written.token])!r} {_percent(written.log_probability)}   {where}   or {others}"
        if len(self.tokens) > len(shown):
            yield f"... and {counted(len(self.tokens) - len(shown), 'token')} more"


def _percent(log_probability: float) -> str:
    return f"{100 * math.exp(log_probability):.1f}%"


def _first_layer(says: np.ndarray) -> int | None:
    """From which layer on it always says so; None if the last doesn't."""
    if not says[-1]:
        return None
    differs = np.flatnonzero(~says)
    return int(differs[-1]) + 1 if len(differs) else 0


def talk(model: Any, *, ask: Callable[[str], str] = input, out: TextIO | None = None, **settings: Any) -> None:
    """Ask for lines until /quit or the end of the input, and write the answers.  Raises ValueError where the model isn't one that chats."""
    out = out or sys.stdout
    if getattr(model, "template", None) is None:
        raise ValueError(f"chat: this model, of kind {model.kind!r}, wasn't trained on conversations; `zoo get smollm2` fetches one that was")
    conversation = Conversation(model, **settings)
    print("Ask something; /why explains an answer, /help lists what else there is, /quit ends.", file=out)
    while True:
        try:
            line = ask("\n> ").strip()
        except EOFError:
            return
        if line in ("/quit", "/exit"):
            return
        try:
            if line.startswith("/"):
                for text in _command(conversation, line):
                    print(text, file=out)
            elif line:
                for piece in conversation.say(line):
                    print(piece, end="", flush=True, file=out)
                print(file=out)
        except KeyboardInterrupt:
            print("\n(stopped)", file=out)
        except ValueError as e:
            print(f"({e})", file=out)


def _command(conversation: Conversation, line: str) -> Iterator[str]:
    name, _, rest = line[1:].partition(" ")
    numbers = {"seed": int, "temperature": float, "tokens": int}
    if name == "why":
        width = min(shutil.get_terminal_size().columns, 140)
        for text in conversation.why():
            yield textwrap.shorten(text, width) if len(text) > width else text
    elif name == "undo":
        yield "forgotten" if conversation.undo() else "there is nothing to forget"
    elif name == "system":
        conversation.system(rest.strip())
        yield "the conversation begins anew"
    elif name in numbers:
        try:
            value = numbers[name](rest)
        except ValueError:
            raise ValueError(f"/{name} takes a number, not {rest!r}") from None
        conversation.settings["n_tokens" if name == "tokens" else name] = value
        yield f"{name} is {value}"
    elif name == "help":
        yield from (__doc__ or "").strip().splitlines()[2:]
    else:
        raise ValueError(f"/{name} is unknown; there are /why, /undo, /system, /seed, /temperature, /tokens, /help and /quit")
