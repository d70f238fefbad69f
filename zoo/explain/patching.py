"""Which parts of a transformer cause the difference between two prompts?  Put a part of one run into the other and measure.

`prompt` is the run that is changed, `other` a run of equal length from which parts are taken.  The measure is a function of the
logits (time, symbols); `logit_difference(a, b)` is the usual one.

    patched = activation_patching(model, "Mary and John ... John gave it to", "... Mary gave it to", logit_difference(mary, john))
    explained.patching(patched)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ..autograd import no_grad
from ..autograd.tracing import patch, trace
from ..language.model import Prompt
from . import circuits
from .circuits import HEADS, MLP, part_names, stream_name, stream_titles, traced_name

Measure = Callable[[np.ndarray], float]  # of logits (time, symbols)
Kind = Literal["streams", "heads", "mlps"]


def logit_difference(token: int, other: int, position: int = -1) -> Measure:
    return lambda logits: float(logits[position, token]) - float(logits[position, other])


@dataclasses.dataclass(frozen=True)
class Patched:
    """The measure after each change."""

    values: np.ndarray  # of activation_patching's shape, or (senders,)
    rows: list[str]  # names along the first axis
    prompt: float  # the measure without a change
    other: float  # the measure in the other run

    @property
    def recovered(self) -> np.ndarray:
        """0 where a change did nothing, 1 where it did as much as replacing the whole prompt."""
        return (self.values - self.prompt) / (self.other - self.prompt)


def activation_patching(model: Any, prompt: Prompt, other: Prompt, measure: Measure, *, at: Kind = "streams") -> Patched:
    """Replace one activation of the run on `prompt` by that of the run on `other`, and measure (Meng et al. 2022: causal tracing).

    at: "streams", at each position after the embedding and after each block: (layers + 1, time); "mlps", at each position: (layers, time);
    "heads", each at all positions together: (layers, heads).
    """
    if at not in ("streams", "heads", "mlps"):
        raise ValueError(f"at is {at!r}; it may be 'streams', 'heads' or 'mlps'")
    ids, other_ids = _checked_pair(model, prompt, other)
    c = model.config
    if at == "mlps" and c.mlp == "none":
        raise ValueError("at is 'mlps', but this model has none")
    layers = c.layers + (at == "streams")
    names = [HEADS.format(i) if at == "heads" else MLP.format(i) if at == "mlps" else stream_name(model, i) for i in range(layers)]
    names = [traced_name(model, name) for name in names]
    with no_grad(), trace(model, at=names) as seen:
        other_logits = np.asarray(model(other_ids[None]))[0]
    with no_grad():
        logits = np.asarray(model(ids[None]))[0]
    runs = np.arange(c.heads if at == "heads" else len(ids))  # one for each head or position, all in one batch
    values = []
    for name in names:
        def replace(a, value=seen[name].value[0]):
            a[runs, runs] = value[runs]  # run i gets head i, or position i
            return a

        with no_grad(), patch(model, {name: replace}):
            values.append([measure(logits_of_run) for logits_of_run in np.asarray(model(np.repeat(ids[None], len(runs), 0)))])
    titles = stream_titles(model) if at == "streams" else [f"blocks.{i}" for i in range(c.layers)]
    return Patched(np.array(values), titles, measure(logits), measure(other_logits))


def patch_path(model: Any, prompt: Prompt, other: Prompt, sender: str | Sequence[str], receiver: str) -> np.ndarray:
    """Logits (time, symbols) of `prompt` where one part, the receiver, reads from the stream what a sender wrote in the other run.

    Only the direct path from sender to receiver changes: every other part still reads what the sender wrote in this run, and sees the change
    only in what the receiver writes (Goldowsky-Dill et al. 2023; Wang et al. 2023, section 3.1).

    sender: a part by name ("embedding", "blocks.0.head.3", "blocks.0.mlp"), or several; receiver: a later head or mlp, or "logits".
    """
    ids, other_ids = _checked_pair(model, prompt, other)
    senders = [sender] if isinstance(sender, str) else list(sender)
    return _patch_path(model, ids, circuits.look(model, ids), circuits.look(model, other_ids), senders, receiver)


def path_patching(model: Any, prompt: Prompt, other: Prompt, receiver: str, measure: Measure) -> Patched:
    """The effect of `patch_path` for each part that the receiver reads."""
    ids, other_ids = _checked_pair(model, prompt, other)
    run, other_run = circuits.look(model, ids), circuits.look(model, other_ids)
    senders = senders_of(model, receiver)
    values = [measure(_patch_path(model, ids, run, other_run, [sender], receiver)) for sender in senders]
    unchanged = (measure(circuits.lens(model, r.streams[-1])) for r in (run, other_run))
    return Patched(np.array(values), senders, *unchanged)


def senders_of(model: Any, receiver: str) -> list[str]:
    """The parts whose output a receiver reads."""
    names = part_names(model)[:-1]
    if receiver == "logits":
        return names
    if receiver not in names[1:]:
        raise ValueError(f"receiver is {receiver!r}; it may be logits, {', '.join(names[1:])}")
    layer = int(receiver.split(".")[1])
    first = names.index(f"blocks.{layer}.head.0")  # heads of a block don't read each other
    return names[: names.index(receiver)] if receiver.endswith("mlp") else names[:first]


def _patch_path(model: Any, ids: np.ndarray, run: circuits.Activations, other: circuits.Activations, senders: list[str],
                receiver: str) -> np.ndarray:
    earlier, names = senders_of(model, receiver), part_names(model)
    for sender in senders:
        if sender not in earlier:
            raise ValueError(f"sender is {sender!r}; {receiver} reads from {', '.join(earlier)}")
    change = sum(other.parts[names.index(s)] - run.parts[names.index(s)] for s in dict.fromkeys(senders))  # (time, width)
    if receiver == "logits":
        return circuits.lens(model, run.streams[-1] + change)
    layer, part = int(receiver.split(".")[1]), receiver.split(".", 2)[2]
    block = model.blocks[layer]
    with no_grad():
        if part == "mlp":
            heads = [names.index(f"blocks.{layer}.head.{h}") for h in range(model.config.heads)]
            before = run.streams[layer] + run.parts[heads].sum(0)
            bias = block.attention.output.bias
            reads = before + change + (0 if bias is None else bias.data)
            output = np.asarray(block.mlp(block.norm2(reads[None].astype(np.float32))))
            changes = {traced_name(model, MLP.format(layer)): lambda a: output}
        else:
            head, reads = int(part.split(".")[1]), (run.streams[layer] + change)[None].astype(np.float32)
            rotation = None if model.position is not None else tuple(table[: len(ids)] for table in model.rotation(len(ids)))
            with trace(block, at="attention.scaled_dot_product_attention") as seen:
                block.attention(block.norm1(reads), rotation)
            output = seen["attention.scaled_dot_product_attention"].value

            def replace(a):
                a[:, head] = output[:, head]
                return a

            changes = {HEADS.format(layer): replace}
        with patch(model, changes):
            return np.asarray(model(ids[None]))[0]


def _checked_pair(model: Any, prompt: Prompt, other: Prompt) -> tuple[np.ndarray, np.ndarray]:
    ids, other_ids = circuits.checked(model, prompt), circuits.checked(model, other)
    if len(ids) != len(other_ids):
        raise ValueError(f"other is {len(other_ids)} tokens long, prompt {len(ids)}; patching goes position by position, so both must be as long")
    return ids, other_ids
