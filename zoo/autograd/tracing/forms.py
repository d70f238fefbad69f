"""What goes into a step and comes out of it: arrays and tensors inside of tuples, lists and dictionaries, and the form without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tensor import Tensor, state
from .reachable import SIMPLE
from .recording import Constant, Recorder


class Arguments:
    """The arguments of a call: arrays and tensors, which are its inputs, and the form that holds all the rest."""

    def __init__(self, args: tuple, named: dict):
        self.args, self.named = args, named
        self.inputs: list[Any] = []
        self.objects: list[Any] = []  # what else it is given, and may read
        self.generators: list[Any] = []
        self.reason: str | None = None
        self.form = (self._form(args), self._form(named) if named else None)

    def _form(self, value: Any) -> Any:
        kind = type(value)
        if kind is np.ndarray or kind is Tensor:
            a = value._data if kind is Tensor else value
            self.inputs.append(value)
            if a.dtype.kind not in "fiub" or not a.dtype.isnative:
                self.reason = f"an argument is an array of dtype {a.dtype.str}"
            if a.dtype.kind != "f" or a.flags.c_contiguous:  # the order of integers in memory makes no difference
                return kind, a.shape, a.dtype, kind is Tensor and value.requires_grad
            if a.copy("K").strides != a.strides:
                self.reason = "an argument is an array of floats with gaps between them"
            return kind, a.shape, a.dtype, kind is Tensor and value.requires_grad, a.strides
        if isinstance(value, (tuple, list)):
            return kind, *map(self._form, value)
        if kind is dict:
            return kind, *((key, self._form(part)) for key, part in value.items())
        if isinstance(value, SIMPLE):
            return kind, value
        if isinstance(value, np.random.Generator):
            self.generators.append(value)
            return (kind,)
        self.objects.append(value)
        return kind, _Same(value)

    def filled(self, inputs: Sequence) -> tuple[tuple, dict]:
        """The arguments with others in place of the inputs."""
        rest = iter(inputs)

        def fill(value: Any) -> Any:
            if type(value) is np.ndarray or type(value) is Tensor:
                return next(rest)
            if isinstance(value, (tuple, list)):
                return _of_kind(value, [fill(part) for part in value])
            return {key: fill(part) for key, part in value.items()} if type(value) is dict else value

        return fill(self.args), fill(self.named)


class _Same:
    """Equal to itself alone, whatever the object is."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def _of_kind(like: Any, parts: list) -> Any:
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


def stand_in(x: Any, copy: bool) -> Tensor:
    """The tensor that the step is given for an input."""
    a = x._data if isinstance(x, Tensor) else x
    return Tensor(a.copy("K") if copy else a, requires_grad=isinstance(x, Tensor) and x.requires_grad and state.grad_enabled)


class Output:
    """Where the result of a step has a tensor: its number."""

    def __init__(self, number: int):
        self.number = number


def form_of_result(value: Any, outputs: list[Tensor], recorder: Recorder) -> Any:
    """The result with an `Output` for each tensor that the step has computed."""
    if isinstance(value, Tensor) and value in recorder.origins:
        known = [i for i, y in enumerate(outputs) if y is value]
        if not known:
            recorder.seen.append(("its result", recorder.origins[value]))
            outputs.append(value)
        return Output(known[0] if known else len(outputs) - 1)
    if isinstance(value, (tuple, list)):
        return _of_kind(value, [form_of_result(part, outputs, recorder) for part in value])
    if type(value) is dict:
        return {key: form_of_result(part, outputs, recorder) for key, part in value.items()}
    if isinstance(value, Tensor) and value._leaf:
        recorder.seen.append(("its result", value))
    elif not isinstance(value, SIMPLE):
        recorder.cannot_replay(f"it returns a {type(value).__name__} that no operation has computed")
    else:
        recorder.seen.append(("its result", Constant(value)))
    return value


def filled(form: Any, results: Sequence) -> Any:
    """The result again, with these in place of the tensors."""
    if isinstance(form, Output):
        return results[form.number]
    if isinstance(form, (tuple, list)):
        return _of_kind(form, [filled(part, results) for part in form])
    return {key: filled(part, results) for key, part in form.items()} if type(form) is dict else form


def outputs_of(value: Any, form: Any, outputs: list) -> None:
    """The tensors of a result, where an earlier one had them."""
    if isinstance(form, Output):
        if form.number == len(outputs):
            outputs.append(value)
    elif isinstance(form, (tuple, list)):
        for part, form_of_part in zip(value, form):
            outputs_of(part, form_of_part, outputs)
    elif type(form) is dict:
        for key, form_of_part in form.items():
            outputs_of(value[key], form_of_part, outputs)
