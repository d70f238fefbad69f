"""Recurrent networks that generate text and music: Elman (1990), GRU (Cho et al. 2014) and LSTM (Hochreiter & Schmidhuber 1997).

    x_t  -->  state_t = cell(x_t, state_{t-1})  -->  logits of x_{t+1}

A state of fixed size stands for everything that was read, so generation costs the same for every token, and there is no window.
Training reads windows in order and hands the state at the end of one to the next, but gradients stop there (truncated
backpropagation through time, Williams & Peng 1990).

Why gates: through T steps, an Elman network's gradient is a product of T factors diag(1 - h_t^2) W^T, which shrinks or grows
geometrically with T.  An LSTM adds instead, c_t = f_t c_{t-1} + i_t g_t, so along the cell dc_T / dc_0 contains the product of the forget
gates, with no matrix and no squashing in it: where they stay near 1, the gradient arrives as it left (the "constant error carousel" of the
paper's section 4, whose f is 1; Gers et al. 2000 made it a gate).  The GRU's h_t = z_t h_{t-1} + (1 - z_t) n_t does the same with z_t.

`inputs="symbols"` reads and generates ids, as every language model here; `inputs="keys"` reads piano rolls, 88 keys down or up at each
step, and draws each key as a coin of its own (Boulanger-Lewandowski et al. 2012).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import numpy as np
from numpy.random import Generator

from . import autograd as ops
from . import nn
from .autograd import Tensor, no_grad
from .autograd.random import generator
from .language.model import LanguageConfig, LanguageModel, TextStep, cross_entropy
from .model import Step, moved, stream
from .nn import Embedding, Linear, Module, dropout, parameter

if TYPE_CHECKING:
    from .model.fields import RecurrentFields

__all__ = ["Recurrence", "Recurrent", "RecurrentConfig", "RollStep"]

GATES = {"elman": 1, "gru": 3, "lstm": 4}


# --- configuration


@dataclasses.dataclass(frozen=True)
class RecurrentConfig(LanguageConfig):
    inputs: Literal["symbols", "keys"] = "symbols"
    cell: Literal["elman", "gru", "lstm"] = "lstm"
    layers: int = 1
    width: int = 128  # of the state
    embedding: int = 0  # width of a symbol's vector; 0: the state's
    dropout: float = 0.0  # before each layer and before the output

    @classmethod
    def make(cls, **fields: Any) -> RecurrentConfig:
        c = super().make(**fields)
        c.at_least(1, "symbols", "layers", "width")
        if not 0 <= c.dropout < 1:
            raise ValueError(f"RecurrentConfig: dropout is {c.dropout}; it goes from 0 up to but not including 1")
        return dataclasses.replace(c, embedding=c.embedding or c.width)


# --- parts


class Recurrence(Module):
    """One layer: x (batch, time, inputs), state (batch, width), for an LSTM (batch, 2 width) -> the states of all steps."""

    input: Linear  # inputs -> gates * width
    weight: Tensor  # (width, gates * width)
    bias: Tensor | None  # the GRU's second one

    def __init__(self, cell: str, inputs: int, width: int, *, rng: Generator):
        gates = GATES[cell]
        self.cell, self.width = cell, width
        self.input = Linear(inputs, gates * width, rng=rng)
        self.weight = parameter(np.concatenate([_orthogonal(width, rng) for _ in range(gates)], axis=1))
        self.bias = parameter(np.zeros(gates * width)) if cell == "gru" else None
        if cell == "lstm":
            assert self.input.bias is not None
            self.input.bias.data[width : 2 * width] = 1  # a forget gate that starts open: f = sigmoid(1) = 0.73 (Jozefowicz et al. 2015)

    def __call__(self, x, state, ids=None):
        """With ids (batch, time), x (symbols, inputs) is a table and x[ids] is read: each row is multiplied once, not at every place."""
        arguments = (self.input(x), state, self.weight, *([] if self.bias is None else [self.bias]), ids)
        return getattr(ops, self.cell)(*arguments)

    def initial_state(self, batch: int) -> np.ndarray:
        return np.zeros((batch, self.width * (2 if self.cell == "lstm" else 1)), np.float32)


def _orthogonal(width: int, rng: Generator) -> np.ndarray:
    """A random orthogonal matrix, which neither shrinks nor stretches a state (Saxe et al. 2014)."""
    matrix = rng.standard_normal((width, width))
    if not matrix.any():
        return matrix  # to be filled from a file: see model.Unfilled
    q, r = np.linalg.qr(matrix)
    return q * np.sign(np.diag(r))


# --- model


@dataclasses.dataclass
class RollStep(Step):
    """One step of a piano roll: each key is down where its draw is below its probability."""

    position: int
    given: np.ndarray  # (n, 88) the steps that were read: the prompt, in later steps the last one alone
    logits: np.ndarray  # (88,)
    probabilities: np.ndarray  # (88,) sigmoid(logits / temperature)
    draw: np.ndarray  # (88,) uniform in [0, 1)
    keys: np.ndarray  # (88,) 0 or 1


class Recurrent(LanguageModel):
    """`Recurrent.new(cell="lstm", symbols=65, seed=0)`, or `zoo.load("recurrent")`."""

    kind = "recurrent"
    reads_examples_alone = True  # in private training, where each window starts over
    Config = RecurrentConfig
    config: RecurrentConfig

    if TYPE_CHECKING:
        @classmethod
        def new(cls, *, seed: int = 0, **fields: Unpack[RecurrentFields]) -> Self: ...  # type: ignore[override]

    embedding: Embedding | None  # (symbols, embedding); keys need none
    layers: list[Recurrence]
    output: Linear  # width -> symbols

    def __init__(self, config: RecurrentConfig, *, rng: Generator):
        config = config.make(**config.to_dict())
        super().__init__(config, rng=rng)
        c = config
        self.embedding = Embedding(c.symbols, c.embedding, rng=rng, deviation=1 / c.embedding**0.5) if c.inputs == "symbols" else None
        widths = [c.symbols if self.embedding is None else c.embedding] + [c.width] * (c.layers - 1)
        self.layers = [Recurrence(c.cell, width, c.width, rng=rng) for width in widths]
        self.output = Linear(c.width, c.symbols, rng=rng)
        self._carried: list[np.ndarray] | None = None  # the states at the end of training's last window

    def __call__(self, x: Any, *, rng: Generator | None = None, states: list | None = None) -> Any:
        """ids (batch, time), or with keys rolls (batch, time, symbols) -> logits (batch, time, symbols); states: zeros unless given."""
        return self.read(x, states, rng=rng)[0]

    def read(self, x: Any, states: Sequence | None = None, *, rng: Generator | None = None) -> tuple[Any, list]:
        """(logits (batch, time, symbols), the states of all layers at the end)."""
        x = np.asarray(x)
        axes = 2 if self.embedding is not None else 3
        if x.ndim != axes or x.size == 0 or (axes == 3 and x.shape[2] != self.config.symbols):
            wanted = "ids (batch, time)" if axes == 2 else f"rolls (batch, time, {self.config.symbols})"
            raise ValueError(f"input has shape {x.shape}; this model reads {wanted}, not empty")
        ids = None
        if self.embedding is None:
            h = x.astype(np.float32, copy=False)
        else:
            self.check_ids(x)
            if x.size > self.config.symbols and (rng is None or self.config.dropout == 0):  # dropout differs from place to place
                h, ids = self.embedding.weight, x
            else:
                h = self.embedding(x)
        states = [layer.initial_state(len(x)) for layer in self.layers] if states is None else states
        last_states = []
        for layer, state in zip(self.layers, states):
            sequence, ids = layer(dropout(h, self.config.dropout, rng), state, ids), None  # (batch, time, width), an LSTM's twice as wide
            last_states.append(sequence[:, -1])
            h = sequence[:, :, : layer.width]
        return self.output(dropout(h, self.config.dropout, rng)), last_states

    @property
    def reads_rolls(self) -> bool:  # type: ignore[override]
        return self.embedding is None

    # --- training

    def loss(self, batch: Any, rng: Generator | None) -> dict[str, Tensor]:
        """Nats per token, or with keys nats per step.

        symbols: batch is (inputs, targets) or (inputs, targets, first), ids (batch, time); the state is carried on from the last call
            unless `first`.  keys: batch is (rolls, mask), (batch, time, keys) and (batch, time), True where a step isn't padding.
        """
        if self.embedding is None:
            rolls, mask = batch
            return {"loss": -ops.sum(self._roll_log_likelihoods(rolls, rng) * mask.astype(np.float32)) / float(mask.sum())}
        inputs, targets, first = (*batch, True)[:3]
        others = nn.whole_batch  # ranks that have the batch's other rows: a checkpoint is to hold the states of all
        carried = None if first or self._carried is None else [state if others is None else others.share(state) for state in self._carried]
        if carried and len(carried[0]) != len(inputs):
            carried = None
        logits, states = self.read(inputs, carried, rng=rng)
        self._carried = [_array(state) if others is None else others.gather(_array(state)) for state in states]
        return {"loss": cross_entropy(logits, targets)}

    @property
    def reads_whole_batch(self) -> bool:
        """Whether each row of a batch goes on with the state of the same row before."""
        return self.embedding is not None and not self.config.lines

    def arrays(self) -> dict[str, np.ndarray]:
        """In training the carried states too, so that a resumed run equals one that was never stopped."""
        carried = self._carried if self.training and self._carried is not None else []
        return {**super().arrays(), **{f"carried.{i}": state for i, state in enumerate(carried)}}

    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        self._carried = None
        carried = [arrays[f"carried.{i}"] for i in range(len(self.layers)) if f"carried.{i}" in arrays]
        super().load_arrays({name: a for name, a in arrays.items() if not name.startswith("carried.")})
        self._carried = carried or None

    def save(self, folder: Any, **facts: Any) -> None:
        training = self.training
        self.eval()
        try:
            super().save(folder, **facts)
        finally:
            self.train(training)

    # --- generating text

    def begin(self, ids: np.ndarray, room: int = 0) -> tuple[np.ndarray, list]:
        return self._after(ids, None)

    def advance(self, token: int, state: list) -> tuple[np.ndarray, list]:
        return self._after(np.array([token]), state)

    def fork(self, state: list) -> list:
        return state  # no step writes into a state

    def _after(self, x: np.ndarray, state: list | None) -> tuple[np.ndarray, list]:
        with no_grad():
            logits, states = self.read(x[None], state)
        return _array(logits)[0, -1], [_array(s) for s in states]

    def steps(self, prompt: Any = "", n_tokens: int = 200, **settings: Any) -> Iterator[TextStep]:
        if self.embedding is None:
            raise ValueError("steps: this model reads piano rolls; it has roll_steps and compose")
        return super().steps(prompt, n_tokens, **settings)

    # --- generating music

    def roll_log_likelihood(self, pieces: Sequence[np.ndarray]) -> np.ndarray:
        """ln p of each piece (steps, 88) in nats; the first step counts too, predicted from silence."""
        with no_grad():
            return np.array([float(_array(self._roll_log_likelihoods(piece[None], None)).sum()) for piece in pieces])

    def _roll_log_likelihoods(self, rolls: np.ndarray, rng: Generator | None) -> Any:
        """ln p(step | steps before), (batch, time): the step before the first is silence."""
        before = np.concatenate([np.zeros_like(rolls[:, :1]), rolls[:, :-1]], axis=1)
        return ops.bernoulli_log_likelihood(rolls, self(before, rng=rng))

    @stream(RollStep)
    def roll_steps(self, n_steps: int = 64, *, prompt: np.ndarray | None = None, seed: int = 0,
                   temperature: float = 1.0) -> Iterator[RollStep]:
        """One record per step of music; prompt: a roll (steps, 88) to continue."""
        if self.embedding is not None:
            raise ValueError("roll_steps: this model reads symbols; it has steps and generate")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; for a roll it is above 0")
        silence = np.zeros((1, self.config.symbols), np.float32)
        prompt = silence[:0] if prompt is None else np.asarray(prompt, np.float32)
        if prompt.ndim != 2 or prompt.shape[1] != self.config.symbols or not np.isin(prompt, (0, 1)).all():
            raise ValueError(f"prompt has shape {prompt.shape}; it is (steps, {self.config.symbols}) of 0 and 1")
        given = np.concatenate([silence, prompt])
        return self._roll_steps(given, n_steps, temperature, generator(seed))

    def _roll_steps(self, given: np.ndarray, n_steps: int, temperature: float, rng: Generator) -> Iterator[RollStep]:
        state = None
        for position in range(len(given) - 1, len(given) - 1 + n_steps):
            draw = rng.random(self.config.symbols)
            step, after = self._roll_step(state, given, position, temperature, draw)
            step._replay = functools.partial(lambda *a: self._roll_step(*a)[0], state, given, position, temperature, draw)  # type: ignore[attr-defined]
            yield step
            state, given = after, step.keys[None]

    def _roll_step(self, state: list | None, given: np.ndarray, position: int, temperature: float,
                   draw: np.ndarray) -> tuple[RollStep, list]:
        logits, state = self._after(given, state)
        probabilities = ops.sigmoid(logits.astype(np.float64) / temperature)
        return RollStep(position, given, logits, probabilities, draw, (draw < probabilities).astype(np.float32)), state

    def compose(self, n_steps: int = 64, *, prompt: np.ndarray | None = None, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        """A roll (steps, 88) of 0 and 1: the prompt and its continuation."""
        steps = self.roll_steps(n_steps, prompt=prompt, seed=seed, temperature=temperature)
        start = np.zeros((0, self.config.symbols), np.float32) if prompt is None else np.asarray(prompt, np.float32)
        return np.concatenate([start, *(step.keys[None] for step in steps)])


def _array(x: Any) -> np.ndarray:
    return x.data if isinstance(x, Tensor) else x


def __getattr__(name: str):
    return moved(__name__, name, "zoo.recipes.recurrent", ("LanguageTraining", "PRESETS", "make_trainer"))
