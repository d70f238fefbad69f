"""What all language models share: generating text token by token, each step a record that says why, and beam search.

A language model gives p(next token | tokens so far).  Generation is a loop: ask for the logits, shape them into the probabilities that
are drawn from, draw, append.  A model answers three questions, and everything here stands on them:

    logits, state = model.begin(ids)                 # read a prompt
    logits, state = model.advance(token, state)      # read one more token, from what the state remembers
    state = model.fork(state)                        # a copy that can be advanced on its own
"""

from __future__ import annotations

import codecs
import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from .. import autograd as ops
from ..autograd import Tensor, no_grad
from ..autograd.operations.checks import all_below
from ..autograd.random import generator
from ..model import Config, Model, Step, last, moved, replayable, stream
from ..storage import WrongFile, shorten
from ..training import by_parts
from . import chat, grammar
from . import tokenizer as tokenizers
from .corpus import Corpus, fit_tokenizer
from .evaluation import evaluate
from .prefixes import Prefixes
from .sampling import Sampling, drawn, softmax
from .stopping import stop_texts, until_stop
from .windows import IGNORED

Prompt = str | Sequence[int] | np.ndarray


@dataclasses.dataclass
class TextStep(Step):
    """One token: what was read, the model's logits, the probabilities that were drawn from, and the draw."""

    position: int  # of the token in the text, the prompt included
    given: np.ndarray  # (n,) ids that were read in this step: the prompt, in later steps the last token alone
    logits: np.ndarray  # (symbols,)
    probabilities: np.ndarray  # (symbols,) softmax(logits)
    choices: np.ndarray  # (symbols,) the probabilities to draw from: after temperature, top_k, top_p and min_p
    draw: float | None  # uniform in [0, 1); None where the most likely token was taken
    token: int
    text: str  # what the token completes: "" in the middle of a character of several tokens
    log_probability: float  # ln probabilities[token]
    cut: bool | None = None  # with json: whether a likelier token was left out because the text's end is near

    def likeliest(self, n: int = 5) -> list[tuple[int, float]]:
        """The n most likely tokens before any filter, each with its log-probability."""
        p = self.probabilities
        best = np.argpartition(-p, n)[:n] if n < len(p) else np.arange(len(p))
        return [(int(t), math.log(max(float(p[t]), 5e-324))) for t in best[np.lexsort((best, -p[best]))]]


class Progress(NamedTuple):
    """What a step goes on from."""

    state: Any  # of the model; None before anything is read
    given: np.ndarray  # ids to read next
    position: int  # of the token to come
    room: int  # tokens to come at most
    text: np.ndarray  # ids of the prompt; with penalties, those written too
    bytes_left: bytes = b""  # of a character that is still incomplete
    earlier: Any = None  # a state that may have read the beginning of the prompt
    json: grammar.State | None = None


@dataclasses.dataclass
class BeamStep(Step):
    """The most likely beginnings of a text so far, best first."""

    position: int  # of the last token
    tokens: np.ndarray  # (beams, n) ids after the prompt; a beam that has ended is filled up with -1
    parents: np.ndarray  # (beams,) which beam of the step before each one continues
    log_probabilities: np.ndarray  # (beams,) of all tokens after the prompt
    texts: list[str]  # (beams,)


class Beam(NamedTuple):
    tokens: tuple[int, ...]
    log_probability: float
    logits: np.ndarray
    state: Any
    ended: bool


@dataclasses.dataclass(frozen=True)
class LanguageConfig(Config):
    symbols: int = 65  # in the vocabulary
    start: str = "\n"  # what an empty prompt stands for
    lines: bool = False  # each line is a text of its own, read from `start` on; else the text runs on
    stride: int = 1  # windows begin at multiples of this many tokens: 4 for four voices


class LanguageModel(Model):
    """Subclasses define `__call__`, `begin`, `advance` and `fork`."""

    start_ids: tuple[int, ...] = ()  # what an empty prompt stands for, where that isn't the text `config.start`
    begin_id: int | None = None  # the token that is put before every prompt, where the model was trained so
    end_ids: tuple[int, ...] = ()  # tokens that end a text
    template: Any = None  # a `chat.Template`, for models that were trained on conversations
    tokenizer: Any = None  # anything with encode, decode and size; None: prompts are ids and the text stays empty
    reads_rolls = False  # True for a model of piano rolls, which has no tokens

    @classmethod
    def for_data(cls, corpus: Corpus, *, seed: int = 0, **fields: Any) -> LanguageModel:
        """A fresh model for a corpus: of its characters, or with `symbols` of so many byte pairs learned from it."""
        if fields.get("inputs") == "keys":
            return cls.new(seed=seed, **{"symbols": 88, **fields})
        symbols = fields.get("symbols")
        tokenizer = fit_tokenizer(corpus, None if symbols is None else int(symbols), str(fields.get("lines", False)).lower() == "true")
        model = cls.new(seed=seed, **{**fields, "symbols": tokenizer.size})
        model.tokenizer = tokenizer
        return model

    @property
    def context(self) -> int | None:
        """How many tokens the model sees at once; None where there is no bound."""
        return getattr(self.config, "window", None)

    def __call__(self, ids: Any, *, rng: Generator | None = None) -> Any:
        """ids (batch, time) -> logits (batch, time, symbols).  rng: dropout's, in training."""
        raise NotImplementedError

    def begin(self, ids: np.ndarray, room: int = 0) -> tuple[np.ndarray, Any]:
        """The logits (symbols,) after ids (n,), and the state there; `room` tokens will follow.  No gradients are recorded."""
        raise NotImplementedError

    def advance(self, token: int, state: Any) -> tuple[np.ndarray, Any]:
        """The logits after one more token, and the new state, which may share the old one's memory but doesn't change its content."""
        raise NotImplementedError

    def fork(self, state: Any) -> Any:
        """A state that shares no memory with this one."""
        raise NotImplementedError

    def extras(self) -> dict[str, Any]:
        ids = {name: list(value) if isinstance(value, tuple) else value for name in ("start_ids", "begin_id", "end_ids")
               if (value := getattr(self, name)) not in ((), None)}
        template = {} if self.template is None else {"template": dataclasses.asdict(self.template)}
        return {**({} if self.tokenizer is None else {"tokenizer": self.tokenizer.to_dict()}), **ids, **template}

    def restore_extras(self, card: dict[str, Any]) -> None:
        if "tokenizer" in card:
            self.tokenizer = tokenizers.from_dict(card["tokenizer"])
            if self.tokenizer.plain_size > self.config.symbols:
                raise WrongFile(f"the tokenizer has {self.tokenizer.plain_size} symbols, the model {self.config.symbols}")
        for name in ("start_ids", "begin_id", "end_ids"):
            value = card.get(name)
            ids = value if isinstance(value, list) else [] if value is None else [value]
            if not all(type(i) is int and 0 <= i < self.config.symbols for i in ids) or (name == "begin_id" and isinstance(value, list)):
                raise WrongFile(f"{name} is {shorten(value)}; ids go from 0 to {self.config.symbols - 1}")
            setattr(self, name, value if name == "begin_id" else tuple(ids))
        self.template = chat.from_dict(card["template"]) if "template" in card else None

    # --- how good it is

    def loss(self, batch: Any, rng: Generator | None) -> dict[str, Tensor]:
        """Cross-entropy in nats per token: batch is (inputs, targets), each (batch, time) ids; a target of -1 doesn't count."""
        inputs, targets = batch
        return {"loss": cross_entropy(self(inputs, rng=rng), targets)}

    def terms_of(self, batch: Any) -> int:
        """How many terms the mean of `loss` has: targets, or steps of piano rolls, that aren't padding."""
        _, targets, *_ = batch
        return int(targets.sum() if targets.dtype == bool else (targets != IGNORED).sum())

    def log_likelihood(self, batches: Iterable) -> tuple[float, int]:
        """(sum of ln p(target), number of targets) over batches of (inputs, targets), each (batch, time) ids."""
        batches = list(batches)

        def log_p(part: slice) -> tuple[float, int]:
            (inputs, targets), = batches[part]
            counted = int((targets != IGNORED).sum())
            return -float(cross_entropy(self(inputs), targets)) * counted, counted

        with no_grad():
            parts = by_parts(log_p, len(batches), 1)
        return sum(total for total, _ in parts), sum(count for _, count in parts)

    def example(self) -> None:
        """Run the model once, on one token."""
        last(self.steps([0], 1))

    def evaluate(self, corpus: Corpus, *, seed: int = 0, **settings: Any) -> dict[str, float]:
        """Figures on the validation and test parts of a corpus; nothing in them is random.  settings: see `evaluate`."""
        parts = ("valid", "test") if corpus.parts or corpus.rolls or self.config.lines else ("valid",)
        return {name: figure for part in parts for name, figure in evaluate(self, corpus, part, **settings).items()}

    # --- prompts

    def ids(self, prompt: Prompt, special: bool = False) -> np.ndarray:
        """(n,) int64.  An empty prompt becomes `start_ids` or `config.start`; a symbol that the model doesn't know is a ValueError.

        Before a text comes `begin_id`, where the model has one; ids are taken as they are.
        special: special tokens that the text spells, such as the markers of a chat, become their ids; else they are plain text.
        """
        if isinstance(prompt, str):
            ids = np.array(self.start_ids) if not prompt and self.start_ids else self._encoded(prompt, special)
        else:
            ids = np.asarray(prompt)
            if ids.ndim != 1 or len(ids) == 0 or ids.dtype.kind not in "iu":
                raise ValueError(f"prompt has shape {ids.shape} and dtype {ids.dtype}; it is a text, or (n,) ids with n of at least 1")
        if len(ids) == 0:
            raise ValueError("prompt is empty, and this model has no symbol to begin with; give it at least one")
        self.check_ids(ids, "prompt")
        return ids.astype(np.int64)

    def _encoded(self, prompt: str, special: bool) -> np.ndarray:
        text = prompt or self.config.start
        if self.tokenizer is None:
            raise ValueError(f"prompt is {prompt!r}, but this model has no tokenizer; give ids from 0 to {self.config.symbols - 1}")
        try:
            if not prompt and text in getattr(self.tokenizer, "special", {}):
                ids = np.array([self.tokenizer.special[text]])
            else:
                ids = self.tokenizer.encode(text, special=True) if special and hasattr(self.tokenizer, "special") else self.tokenizer.encode(text)
        except ValueError as e:
            raise ValueError(f"prompt: {e}" if prompt else f"prompt is empty, and this model doesn't know {text!r}, which it would "
                             "begin with; give it at least one symbol") from None
        if self.begin_id is not None and ids[:1].tolist() != [self.begin_id]:  # the text may spell it already
            ids = np.concatenate([[self.begin_id], ids])
        return ids

    @property
    def start_id(self) -> int:
        """The last id of an empty prompt."""
        return int(self.ids("")[-1])

    def check_ids(self, ids: np.ndarray, name: str = "ids") -> None:
        if ids.dtype.kind not in "iu":
            raise TypeError(f"{name} has dtype {ids.dtype}; ids are integers")
        if not all_below(self.config.symbols, ids):
            raise ValueError(f"{name} goes from {ids.min()} to {ids.max()}; this model's ids go from 0 to {self.config.symbols - 1}")

    # --- generation

    @stream(TextStep)
    def steps(self, prompt: Prompt = "", n_tokens: int = 200, *, seed: int = 0, temperature: float = 1.0, top_k: int | None = None,
              top_p: float | None = None, min_p: float | None = None, repetition_penalty: float = 1.0, presence_penalty: float = 0.0,
              frequency_penalty: float = 0.0, json: bool = False, special: bool = False, prefixes: Prefixes | None = None) -> Iterator[TextStep]:
        """One record per token, at most `n_tokens`: the stream ends with a token that ends a text (`end_ids`), whose own text is empty.

        See `Sampling` for the settings, and `ids` for `special`.  The same seed gives the same text.
        json: what is written is one object of JSON, whatever the seed: only tokens that go on as JSON are drawn, and only those that leave
            room for its end within n_tokens.
        prefixes: where texts are remembered whose beginnings needn't be read again.
        """
        sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty)
        given = self.ids(prompt, special)
        if n_tokens < 0:
            raise ValueError(f"n_tokens is {n_tokens}; it is at least 0")
        if prefixes is not None and not isinstance(prefixes, Prefixes):
            raise ValueError(f"prefixes is {prefixes!r:.60}; it is a zoo.language.prefixes.Prefixes, or None")
        if json and n_tokens < len(grammar.closing(grammar.OBJECT)):
            raise ValueError(f"n_tokens is {n_tokens}; the shortest object of JSON, {{}}, may take 2")
        if json and self.tokenizer is None:
            raise ValueError("json: this model has no tokenizer, so what it writes is no text")
        earlier = None if prefixes is None else prefixes.nearest(self, given)
        begin = Progress(None, given, len(given), n_tokens, given, earlier=earlier, json=grammar.OBJECT if json else None)
        return self._steps(begin, sampling, generator(seed), prefixes)

    def _steps(self, at: Progress, sampling: Sampling, rng: Generator, prefixes: Prefixes | None) -> Iterator[TextStep]:
        prompt = len(at.text)
        try:
            while at.room:
                draw = rng.random() if sampling.temperature > 0 else None
                step, after = self._step(at, prompt, sampling, draw)
                step._replay = functools.partial(self._replayed, at, prompt, sampling, draw)  # type: ignore[attr-defined]
                at = after
                yield step
                if step.token in self.end_ids or (at.json is not None and at.json.complete):
                    return
                if self.config.lines and step.text == "\n":  # each line is a text of its own: read the next one from its start
                    at = at._replace(state=None, given=self.ids(""))
        finally:
            if prefixes is not None and at.state is not None:
                prefixes.add(self, at.state)

    def _step(self, at: Progress, prompt: int, sampling: Sampling, draw: float | None) -> tuple[TextStep, Progress]:
        if at.state is None:
            logits, state = self.begin(at.given, at.room, **({} if at.earlier is None else {"earlier": at.earlier}))
        else:
            logits, state = self.advance(int(at.given[0]), at.state)
        probabilities = softmax(logits)
        shaped, cut = sampling.penalised(logits, at.text, prompt), None
        if at.json is not None:
            vocabulary = grammar.vocabulary_of(self.tokenizer, self.config.symbols)
            shaped, cut = grammar.as_json(shaped, at.json, vocabulary, at.room)
        choices = sampling.choices(shaped, probabilities if shaped is logits else softmax(shaped))
        token = int(choices.argmax()) if draw is None else drawn(choices, draw)
        text, bytes_left = self._text_completed(token, at.bytes_left)
        log_probability = math.log(max(float(probabilities[token]), 5e-324))
        step = TextStep(at.position, at.given, logits, probabilities, choices, draw, token, text, log_probability, cut)
        return step, Progress(state, np.array([token]), at.position + 1, at.room - 1,
                              np.append(at.text, token) if sampling.penalises else at.text, bytes_left,
                              json=None if at.json is None else grammar.advance(at.json, vocabulary.tokens[token]))

    def _replayed(self, at: Progress, *rest: Any) -> TextStep:
        return self._step(at if at.state is None else at._replace(state=self.fork(at.state)), *rest)[0]

    def _text_completed(self, token: int, bytes_left: bytes) -> tuple[str, bytes]:
        """The text that a token completes, and the bytes of a character that is still incomplete."""
        if self.tokenizer is None or token >= self.tokenizer.size or token in self.end_ids:
            return "", bytes_left
        if not hasattr(self.tokenizer, "decode_bytes"):
            return self.tokenizer.decode([token]), b""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.setstate((bytes_left, 0))
        return decoder.decode(self.tokenizer.decode_bytes([token])), decoder.getstate()[0]

    def generate(self, prompt: Prompt = "", n_tokens: int = 200, seed: int = 0, temperature: float = 1.0, top_k: int | None = None,
                 top_p: float | None = None, min_p: float | None = None, stop: str | Sequence[str] | None = None,
                 special: bool = False, stream: bool = False, *, repetition_penalty: float = 1.0, presence_penalty: float = 0.0,
                 frequency_penalty: float = 0.0, json: bool = False) -> Any:
        """The prompt and its continuation; with `stream` an iterator of pieces that join to the same text, each as soon as it is known.

        stop: generation ends before the first of these texts, and before a token of `end_ids`.
        special: special tokens that the prompt spells, such as the markers of a chat, become their ids; else they are plain text.
        Of a prompt longer than the model's window, only the last tokens are read; see the model.  The other settings are those of `steps`.
        """
        stops = stop_texts(stop)
        steps = self.steps(prompt, n_tokens, seed=seed, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, special=special,
                           repetition_penalty=repetition_penalty, presence_penalty=presence_penalty, frequency_penalty=frequency_penalty,
                           json=json)
        pieces = until_stop(self._prompt_text(prompt), (step.text for step in steps), stops)
        return pieces if stream else "".join(pieces)

    def _prompt_text(self, prompt: Prompt) -> str:
        return prompt if isinstance(prompt, str) else self.tokenizer.decode(prompt) if self.tokenizer is not None else ""

    def chat(self, messages: Sequence[chat.Message], n_tokens: int = 64, temperature: float = 0.0, seed: int = 0, *,
             stop: str | Sequence[str] | None = None, stream: bool = False, **settings: Any) -> Any:
        """The answer to a conversation, [{"role": "user", "content": "..."}, ...]; with `stream` an iterator of its pieces.

        What an earlier call has read isn't read again: of a conversation that goes on, only its new messages.
        stop: the answer ends before the first of these texts.  settings: see `steps`; json=True makes the answer one object of JSON.
        ValueError where the model has no chat template, or the messages can't be answered.
        """
        answer = chat.Answer(self, messages, n_tokens, stop=stop, temperature=temperature, seed=seed, **settings)
        return iter(answer) if stream else "".join(answer)

    # --- the most likely text

    def beam_search(self, prompt: Prompt = "", n_tokens: int = 50, *, beams: int = 4, stop: str | Sequence[str] | None = None,
                    special: bool = False) -> str:
        """The prompt and the most likely continuation that a beam search finds; one beam is greedy."""
        return self._prompt_text(prompt) + last(self.beam_steps(prompt, n_tokens, beams=beams, stop=stop, special=special)).texts[0]

    @stream(BeamStep)
    def beam_steps(self, prompt: Prompt = "", n_tokens: int = 50, *, beams: int = 4, stop: str | Sequence[str] | None = None,
                   special: bool = False) -> Iterator[BeamStep]:
        """One record per token: the `beams` most likely beginnings.

        A beam ends with one of the texts `stop`, which stays in it, or with a token of `end_ids`, which has no text.
        """
        ids, stops = self.ids(prompt, special), stop_texts(stop)
        if beams < 1:
            raise ValueError(f"beams is {beams}; it is at least 1")
        if n_tokens < 1:
            raise ValueError(f"n_tokens is {n_tokens}; it is at least 1")
        return self._beam_steps(ids, n_tokens, beams, stops)

    def _beam_steps(self, ids: np.ndarray, n_tokens: int, beams: int, stops: list[str]) -> Iterator[BeamStep]:
        logits, state = self.begin(ids, n_tokens)
        live: tuple[Beam, ...] = (Beam((), 0.0, logits, state, False),)
        for position in range(len(ids), len(ids) + n_tokens):
            step = self._beam_step(live, position, beams, stops)
            live = step._beams  # type: ignore[attr-defined]
            yield step
            if all(b.ended for b in live):
                return

    def _written(self, tokens: Sequence[int]) -> str:
        """The text of a beam, without a token that ends it."""
        return "" if self.tokenizer is None else self.tokenizer.decode([t for t in tokens if t not in self.end_ids])

    @replayable
    def _beam_step(self, live: tuple[Beam, ...], position: int, beams: int, stops: list[str]) -> BeamStep:
        candidates = []  # (score, parent, token): every beam with each of its most likely tokens
        for parent, beam in enumerate(live):
            if beam.ended:
                candidates.append((beam.log_probability, parent, IGNORED))
                continue
            log_p = beam.log_probability + np.log(np.maximum(softmax(beam.logits), 5e-324))
            candidates += [(float(log_p[t]), parent, int(t)) for t in np.argsort(-log_p, kind="stable")[:beams]]
        candidates.sort(key=lambda candidate: -candidate[0])
        chosen, texts = [], []
        for score, parent, token in candidates[:beams]:
            beam = live[parent]
            if token != IGNORED:
                tokens = (*beam.tokens, token)
                logits, state = self.advance(token, self.fork(beam.state))
                written = self._written(tokens)
                ended = token in self.end_ids or any(stop in written for stop in stops)
                beam = Beam(tokens, score, logits, state, ended)
            chosen.append(beam)
            texts.append(self._written(beam.tokens))
        longest = max(len(b.tokens) for b in chosen)
        table = np.array([[*b.tokens, *[IGNORED] * (longest - len(b.tokens))] for b in chosen])
        parents = np.array([parent for _, parent, _ in candidates[:beams]])
        step = BeamStep(position, table, parents, np.array([b.log_probability for b in chosen]), texts)
        step._beams = tuple(chosen)  # type: ignore[attr-defined]
        return step


def cross_entropy(logits: Any, targets: Any) -> Any:
    """Nats per target; targets of -1 don't count."""
    some_ignored = isinstance(targets, Tensor) or (targets == IGNORED).any()  # a compiled step can't look
    return ops.cross_entropy(logits, targets, ignore_index=IGNORED if some_ignored else None)


def __getattr__(name: str):
    return moved(__name__, name, "zoo.language.evaluation", ("bigram_loss",))
