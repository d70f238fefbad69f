"""Conversations: how messages become the tokens that a chat model was trained on, and a model's answer.

A chat model's file holds a template, a program in Jinja.  No program from a file is run here: the few kinds of template that most models
share are recognised by their markers and rendered by `Template`; another one is refused by name.

    ChatML     <|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\n
    Llama 3    <|start_header_id|>user<|end_header_id|>\\n\\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\\n\\n
    Gemma      <start_of_turn>user\\nHello<end_of_turn>\\n<start_of_turn>model\\n

Markers become their ids; what a user writes is always plain text, even where it spells a marker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .prefixes import Prefixes, prefixes_of
from .stopping import stop_texts, until_stop
from .windows import IGNORED

Message = Mapping[str, str]  # {"role": "user", "content": "..."}
ROLES = ("system", "user", "assistant")


@dataclasses.dataclass(frozen=True)
class Template:
    """How one kind of chat model writes a conversation."""

    kind: str  # "chatml", "llama3" or "gemma"
    start: str  # the marker before a role
    between: str  # marker, or plain text, between role and content
    end: str  # the marker behind a message, with which an answer ends
    after: str  # plain text behind it
    system: str | None = None  # what the model is told where the conversation has no system message
    assistant: str = "assistant"  # the name of the model's role
    begin: str = ""  # the marker before everything

    @property
    def markers(self) -> tuple[str, ...]:
        return tuple(m for m in (self.begin, self.start, self.between, self.end) if m.startswith("<"))

    def parts(self, messages: Sequence[Message], answer: bool = True) -> Iterable[tuple[str, bool]]:
        """(text, whether it is a marker) of the conversation, and with `answer` of the beginning of the model's turn."""
        messages = checked(messages)
        if self.kind == "gemma" and messages[0]["role"] == "system":  # Gemma is told within the first turn
            if len(messages) == 1 or messages[1]["role"] != "user":
                raise ValueError("messages: Gemma's system message stands in the user's first one; there is none behind it")
            first = {"role": "user", "content": f"{messages[0]['content']}\n\n{messages[1]['content'].strip()}"}
            messages = [first, *messages[2:]]
        elif self.system is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system}, *messages]
        if self.begin:
            yield self.begin, True
        for message in messages:
            role = self.assistant if message["role"] == "assistant" else message["role"]
            content = message["content"] if self.kind == "chatml" else message["content"].strip()
            yield from self._turn(role)
            yield content, False
            yield self.end, True
            yield self.after, False
        if answer:
            yield from self._turn(self.assistant)

    def jinja(self) -> str:
        """The program that writes such conversations, for files of others."""
        start, end, after = _quoted(self.start), _quoted(self.end), _quoted(self.after)
        between = _quoted(self.between + ("\n\n" if self.between.startswith("<") else ""))
        content = "message['content']" if self.kind == "chatml" else "message['content'] | trim"
        role = f"('{self.assistant}' if message['role'] == 'assistant' else message['role'])"
        told = _quoted(f"{self.start}system{self.between}{self.system}{self.end}{self.after}")
        first = f"{{% if loop.first and message['role'] != 'system' %}}{{{{ {told} }}}}{{% endif %}}"
        turn = f"{{{{ {start} + {role} + {between} + ({content}) + {end} + {after} }}}}"
        loop = "messages"
        if self.kind == "gemma":  # the system message stands within the first turn
            turn = (f"{{% set told = messages[0]['content'] + '\\n\\n' if loop.first and messages[0]['role'] == 'system' else '' %}}"
                    f"{{{{ {start} + {role} + {between} + told + ({content}) + {end} + {after} }}}}")
            loop = "(messages[1:] if messages[0]['role'] == 'system' else messages)"
        begin = f"{{{{ {_quoted(self.begin)} }}}}" if self.begin else ""
        return (f"{begin}{{% for message in {loop} %}}{first if self.system is not None else ''}{turn}{{% endfor %}}"
                f"{{% if add_generation_prompt %}}{{{{ {start} + '{self.assistant}' + {between} }}}}{{% endif %}}")

    def _turn(self, role: str) -> Iterable[tuple[str, bool]]:
        yield self.start, True
        yield role, False
        if self.between.startswith("<"):
            yield self.between, True
            yield "\n\n", False
        else:
            yield self.between, False

    def text(self, messages: Sequence[Message], answer: bool = True) -> str:
        """The conversation as its template would write it."""
        return "".join(text for text, _ in self.parts(messages, answer))

    def ids(self, messages: Sequence[Message], tokenizer: Any, answer: bool = True) -> np.ndarray:
        """(n,) int64: markers by their ids, everything between two of them as one plain text."""
        missing = [m for m in self.markers if m not in tokenizer.special]
        if missing:
            raise ValueError(f"chat: the tokenizer has no token {missing[0]!r}, which a {self.kind} conversation needs")
        ids: list[int] = []
        plain = ""
        for text, marker in [*self.parts(messages, answer), ("", True)]:
            if not marker:
                plain += text
                continue
            ids += tokenizer.encode(plain).tolist() if plain else []
            ids += [tokenizer.special[text]] if text else []
            plain = ""
        return np.array(ids, np.int64)


CHATML = Template("chatml", "<|im_start|>", "\n", "<|im_end|>", "\n")
LLAMA3 = Template("llama3", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "", begin="<|begin_of_text|>")
GEMMA = Template("gemma", "<start_of_turn>", "\n", "<end_of_turn>", "\n", assistant="model", begin="<bos>")
OTHERS = {"[INST]": "Mistral or Llama 2", "<|user|>": "Phi-3 or Zephyr", "<\uff5cUser\uff5c>": "DeepSeek", "### Instruction": "Alpaca",
          "<|START_OF_TURN_TOKEN|>": "Command R", "<|start|>": "harmony"}


def recognise(template: str) -> Template:
    """The kind of a Jinja template, by its markers; ValueError names what it seems to be where no kind here renders it."""
    for known in (CHATML, LLAMA3, GEMMA):
        if known.start in template and known.end in template:
            return dataclasses.replace(known, system=_default_system(template)) if known is CHATML else known
    seems = next((name for marker, name in OTHERS.items() if marker in template), None)
    what = f"one of {seems}" if seems else f"unknown (it begins with {template[:40]!r})"
    raise ValueError(f"chat template: is {what}; can render ChatML, Llama 3 and Gemma")


def _quoted(text: str) -> str:
    """A string of Jinja."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _default_system(template: str) -> str | None:
    """The system message that a ChatML template writes where the conversation has none, if it writes one."""
    spelled = re.search(r"<\|im_start\|>system(?:\\n|\n)([^<{}'\"|]{1,400})<\|im_end\|>", template)
    return spelled.group(1).replace("\\n", "\n") if spelled else None


def from_dict(saved: Any) -> Template:
    """The template whose fields these are; ValueError for anything else."""
    fields = {f.name: f for f in dataclasses.fields(Template)}
    good = isinstance(saved, Mapping) and set(saved) <= set(fields) and {"kind", "start", "between", "end", "after"} <= set(saved) and all(
        isinstance(value, str) or (value is None and name == "system") for name, value in saved.items())
    if not good or saved["kind"] not in (CHATML.kind, LLAMA3.kind, GEMMA.kind):
        raise ValueError(f"template: is {saved!r:.80}; it has the fields {', '.join(fields)}, texts, and a kind that is known here")
    return Template(**saved)


def checked(messages: Sequence[Message]) -> list[Message]:
    """The messages, if a model can answer them: ValueError says which isn't one."""
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise ValueError(f"messages: is {messages!r:.60}; it is a list of {{'role': ..., 'content': ...}} with at least one")
    for i, m in enumerate(messages):
        if not isinstance(m, Mapping) or not isinstance(m.get("content"), str) or m.get("role") not in ROLES:
            raise ValueError(f"messages: number {i} is {m!r:.80}; it has a role, {', '.join(ROLES)}, and a content of text")
        if m["role"] == "system" and i:
            raise ValueError(f"messages: number {i} is a system message; only the first may be one")
    return list(messages)


def lessons(model: Any, conversations: Sequence[Sequence[Message]]) -> tuple[np.ndarray, np.ndarray]:
    """A batch that teaches the last answer of each conversation: (inputs, targets), each (conversations, time) ids.

    Targets are the tokens of the answer and the marker that ends it; elsewhere, and where a conversation is shorter than the longest, they
    are -1, which doesn't count.  ValueError where a conversation doesn't end with the assistant's answer, or is longer than the window.
    """
    rows = []
    for i, messages in enumerate(conversations):
        if checked(messages)[-1]["role"] != "assistant" or len(messages) < 2:
            raise ValueError(f"conversations: number {i} ends with a message of the {messages[-1]['role']}; it ends with an answer to another one")
        asked, ids = model.template.ids(messages[:-1], model.tokenizer), model.template.ids(messages, model.tokenizer, answer=False)
        end = len(ids) - ids[::-1].tolist().index(model.tokenizer.special[model.template.end])
        if end - 1 > model.config.window:
            raise ValueError(f"conversations: number {i} has {end} tokens; this model sees {model.config.window} at once")
        rows.append((len(asked), ids[:end]))
    time = max(len(ids) for _, ids in rows) - 1
    inputs, targets = np.zeros((len(rows), time), np.int64), np.full((len(rows), time), IGNORED)
    for row, (asked, ids) in enumerate(rows):
        inputs[row, : len(ids) - 1] = ids[:-1]
        targets[row, asked - 1 : len(ids) - 1] = ids[asked:]
    return inputs, targets


class AnswerToken(NamedTuple):
    """What is remembered of a token of an answer, in place of its whole record."""

    token: int
    text: str  # what it completes
    log_probability: float  # before any filter
    likeliest: list[tuple[int, float]]  # the most likely tokens at its place, each with its log-probability


class Answer:
    """An answer while it is written: iterate for its pieces.

    What there is so far: `text`, `tokens` (without the one that ends the answer) and, once it has ended, `reason`: "stop" where the model,
    a stop text or the end of a JSON object ended it, "length" where n_tokens or the window did; a JSON object is whole all the same.
    """

    def __init__(self, model: Any, messages: Sequence[Message], n_tokens: int = 256, *, stop: Any = None, likeliest: int = 0,
                 prefixes: Prefixes | None = None, **settings: Any):
        """likeliest: how many of the most likely tokens are remembered at each place.  settings: see `LanguageModel.steps`."""
        if model.template is None:
            raise ValueError("chat: this model has no chat template; it writes on from a text with `generate`")
        self.ids = model.template.ids(messages, model.tokenizer)  # what the model is asked, (n,)
        window = model.config.window
        if len(self.ids) + 1 > window:
            raise ValueError(f"messages: are {len(self.ids)} tokens; this model sees {window} at once")
        self.ends = {model.tokenizer.special[model.template.end], *model.end_ids}
        self.text, self.reason = "", ""
        self.tokens: list[AnswerToken] = []
        self._stops, self._likeliest = stop_texts(stop), likeliest
        self._steps = model.steps(self.ids, min(n_tokens, window - len(self.ids)), prefixes=prefixes or prefixes_of(model), **settings)

    def __iter__(self) -> Generator[str]:
        with contextlib.closing(self._steps):
            for piece in until_stop("", self._texts(), self._stops):
                self.text += piece
                yield piece
        self.reason = self.reason or "stop"  # at a stop text

    def _texts(self) -> Iterator[str]:
        cut = None
        for step in self._steps:
            if step.token in self.ends:
                self.reason = "stop"
                return
            cut = step.cut or cut if cut is not None else step.cut
            self.tokens.append(AnswerToken(step.token, step.text, step.log_probability, step.likeliest(self._likeliest) if self._likeliest else []))
            yield step.text
        self.reason = "stop" if cut is False else "length"
