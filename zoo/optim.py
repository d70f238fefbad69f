"""Optimisers, schedules, clipping, and averages of the weights.

An optimiser lays its parameters out in one flat buffer, of which every `parameter.data` becomes a view, so that a step is one pass
over memory.  Matrices and kernels come first and may decay; gains, biases and embeddings-as-vectors don't.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .autograd import Tensor
from .autograd.kernels import optimiser as kernels


class Optimiser:
    """What all share: the flat buffer, gathering gradients, clipping, saving and loading.

    parameters: tensors, or {name: tensor}; lr: the learning rate, which `step(factor)` multiplies by its schedule's factor.
    clip: the greatest Euclidean norm of all gradients together, or None.
    """

    state_names: tuple[str, ...] = ()  # attributes of self.flat's shape that a checkpoint holds

    def __init__(self, parameters: Iterable[Tensor] | Mapping[str, Tensor], lr: float, *, clip: float | None = None):
        tensors = list(parameters.values()) if isinstance(parameters, Mapping) else list(parameters)
        if not tensors:
            raise ValueError("optimiser: no parameters were given")
        if not (math.isfinite(lr) and lr >= 0):
            raise ValueError(f"optimiser: lr is {lr}; it is a finite number of at least 0")
        wrong = [p for p in tensors if p.dtype != tensors[0].dtype]
        if wrong:
            raise TypeError(f"optimiser: parameters have dtypes {tensors[0].dtype} and {wrong[0].dtype}; they must have the same")
        self.parameters = sorted(tensors, key=lambda p: p.ndim < 2)  # sorted() keeps the order within each half
        self.lr, self.clip = lr, clip
        self.flat = _flatten(self.parameters)
        self.decaying = sum(p.size for p in self.parameters if p.ndim >= 2)  # the first entries of flat
        self.grad = np.zeros_like(self.flat)
        self.steps = 0
        self.grad_norm = 0.0

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    def step(self, factor: float = 1.0) -> None:
        """One update with lr * factor from the gradients that are there; a parameter without one counts as 0."""
        self.grad_norm = kernels.gather(self.grad, [p.grad for p in self.parameters], [p.size for p in self.parameters])
        if not math.isfinite(self.grad_norm):
            raise FloatingPointError(f"optimiser: the gradient's norm is {self.grad_norm} in step {self.steps + 1}; nothing was changed")
        if self.clip is not None and self.grad_norm > self.clip:
            self.grad *= np.float32(self.clip / self.grad_norm)
        self.steps += 1
        self.update(self.lr * factor)

    def update(self, lr: float) -> None:
        raise NotImplementedError

    def checkpoint(self) -> dict[str, Any]:
        return {"steps": self.steps, **{name: getattr(self, name) for name in self.state_names}}

    def restore(self, saved: Mapping[str, Any]) -> None:
        if set(saved) != {"steps", *self.state_names}:
            raise ValueError(f"{type(self).__name__} remembers steps, {', '.join(self.state_names)}; what was saved is {', '.join(saved)}")
        self.steps = int(saved["steps"])
        for name in self.state_names:
            getattr(self, name)[...] = saved[name]


def _flatten(tensors: list[Tensor]) -> np.ndarray:
    flat = np.concatenate([p.data.reshape(-1) for p in tensors])
    at = 0
    for p in tensors:
        p.data = flat[at : at + p.size].reshape(p.shape)
        at += p.size
    return flat


class SGD(Optimiser):
    """v = momentum v + g;  p = p - lr v."""

    state_names = ("velocity",)

    def __init__(self, parameters, lr: float, *, momentum: float = 0.0, clip: float | None = None):
        super().__init__(parameters, lr, clip=clip)
        self.momentum = momentum
        self.velocity = np.zeros_like(self.flat)

    def update(self, lr: float) -> None:
        kernels.sgd(self.flat, self.grad, self.velocity, lr, self.momentum)


class Adam(Optimiser):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr m^ / (sqrt(v^) + eps)  (Kingma & Ba 2015, algorithm 1)."""

    state_names: tuple[str, ...] = ("m", "v")
    weight_decay = 0.0

    def __init__(self, parameters, lr: float, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, clip: float | None = None):
        super().__init__(parameters, lr, clip=clip)
        self.betas, self.eps = betas, eps
        self.m, self.v = np.zeros_like(self.flat), np.zeros_like(self.flat)

    def update(self, lr: float) -> None:
        n, d = self.decaying, self.weight_decay
        for part, decay in ((slice(0, n), d), (slice(n, None), 0.0)) if d else ((slice(None), 0.0),):
            self._move(part, part, lr, decay)

    def _move(self, part: slice, kept: slice, lr: float, decay: float) -> None:
        """The entries `part` of flat, whose m and v are the entries `kept`."""
        kernels.adam(self.flat[part], self.grad[part], self.m[kept], self.v[kept], lr, *self.betas, self.eps, decay, self.steps)


class AdamW(Adam):
    """Adam, and p = p - lr decay p for matrices and kernels (Loshchilov & Hutter 2019)."""

    def __init__(self, parameters, lr: float, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01,
                 clip: float | None = None):
        super().__init__(parameters, lr, betas=betas, eps=eps, clip=clip)
        self.weight_decay = weight_decay


class Muon(AdamW):
    """Hidden matrices move along the orthogonal matrix nearest to their momentum, everything else by AdamW (Jordan et al. 2024).

    matrices: the tensors that Muon moves, (inputs, outputs) or a convolution's (height, width, inputs, outputs), whose first axes
        count as one; the embedding and the last layer are better left to AdamW.
    lr is AdamW's; muon_lr is the size of an orthogonal step, scaled by sqrt(max(1, outputs / inputs)).
    """

    state_names = ("m", "v", "velocity")

    def __init__(self, parameters, lr: float, *, matrices: Iterable[Tensor], muon_lr: float = 0.02, momentum: float = 0.95,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0, clip: float | None = None):
        super().__init__(parameters, lr, betas=betas, eps=eps, weight_decay=weight_decay, clip=clip)
        self.muon_lr, self.momentum = muon_lr, momentum
        chosen = {id(p) for p in matrices}
        wrong = [p.shape for p in self.parameters if id(p) in chosen and p.ndim < 2]
        if wrong:
            raise ValueError(f"Muon: matrices have two axes or more, one here has shape {wrong[0]}")
        # Each part of flat, with the part of velocity, or of m and v, that belongs to it.
        self.places: list[tuple[slice, slice, tuple[int, ...]]] = []
        self.rest: list[tuple[slice, slice, bool]] = []  # and whether it decays
        at = moved = kept = 0
        for p in self.parameters:
            part = slice(at, at + p.size)
            if id(p) in chosen:
                self.places.append((part, slice(moved, moved + p.size), (p.size // p.shape[-1], p.shape[-1])))
                moved += p.size
            else:
                decays = at < self.decaying
                if self.rest and self.rest[-1][0].stop == at and self.rest[-1][2] == decays:  # longer parts, fewer calls
                    before = self.rest.pop()
                    self.rest.append((slice(before[0].start, part.stop), slice(before[1].start, kept + p.size), decays))
                else:
                    self.rest.append((part, slice(kept, kept + p.size), decays))
                kept += p.size
            at += p.size
        if len(self.places) != len(chosen):
            raise ValueError("Muon: every one of matrices must be among the parameters")
        self.velocity = np.zeros(moved, self.flat.dtype)
        self.m, self.v = (np.zeros(kept, self.flat.dtype) for _ in range(2))

    def update(self, lr: float) -> None:
        for part, kept, decays in self.rest:
            self._move(part, kept, lr, self.weight_decay if decays else 0.0)
        muon_lr = self.muon_lr * (lr / self.lr if self.lr else 0.0)  # the same schedule
        self.velocity *= self.velocity.dtype.type(self.momentum)
        steps = []
        for part, kept, shape in self.places:
            velocity = self.velocity[kept]
            velocity += self.grad[part]
            steps.append((self.grad[part] + self.momentum * velocity).reshape(shape))
        for (part, _, shape), step in zip(self.places, orthogonalise(*steps)):
            scale = muon_lr * math.sqrt(max(1.0, shape[1] / shape[0]))
            step *= step.dtype.type(scale)
            p = self.flat[part].reshape(shape)
            p *= p.dtype.type(1 - muon_lr * self.weight_decay)
            p -= step

    def restore(self, saved: Mapping[str, Any]) -> None:
        saved = dict(saved)
        for name, parts in (("m", self.rest), ("v", self.rest), ("velocity", self.places)):
            found = np.shape(saved.get(name, ()))
            if found == self.flat.shape:  # as older checkpoints have it: an entry for each of flat, many of them unused
                saved[name] = np.concatenate([saved[name][part] for part, *_ in parts] or [saved[name][:0]])
            elif name in saved and found != getattr(self, name).shape:
                raise ValueError(f"Muon: {name} has shape {found}; here it has {getattr(self, name).shape}")
        super().restore(saved)


def orthogonalise(*matrices: np.ndarray, iterations: int = 5) -> list[np.ndarray]:
    """About U V^T of each g = U S V^T, by a quintic Newton-Schulz iteration whose coefficients Jordan et al. (2024) chose."""
    flat = [np.array(g.T if g.shape[0] > g.shape[1] else g, order="C") for g in matrices]
    kernels.newton_schulz(flat, (3.4445, -4.7750, 2.0315), iterations)
    return [x.T if g.shape[0] > g.shape[1] else x for g, x in zip(matrices, flat)]


# --- schedules: factor = schedule(step), which multiplies the learning rate; step counts from 0

Schedule = Callable[[int], float]


def constant(step: int) -> float:
    return 1.0


def cosine(steps: int, *, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Up in a straight line over `warmup` steps, then down along half a cosine to `floor` at `steps`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def linear_decay(steps: int, *, warmup: int = 0, floor: float = 0.0, hold: float = 0.0) -> Schedule:
    """Up over `warmup` steps, level until the share `hold` of all steps, then down in a straight line to `floor` at `steps`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        start = max(warmup, hold * steps)
        return floor + (1 - floor) * min(1.0, max(0.0, (steps - step) / max(1.0, steps - start)))

    return factor


def step_decay(boundaries: Iterable[int], factor: float = 0.1) -> Schedule:
    """Multiplied by `factor` at each boundary."""
    at = sorted(boundaries)
    return lambda step: factor ** sum(step >= b for b in at)


class Average:
    """An exponential moving average of parameters: average = decay average + (1 - decay) value, with a shorter memory at first.

    decay grows as (1 + n) / (10 + n) up to the one given, so that the beginning is forgotten soon.
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"Average: decay is {decay}; it may go from 0 up to but not including 1")
        self.parameters, self.decay, self.steps = list(parameters), decay, 0
        self.values = [p.data.copy() for p in self.parameters]

    def update(self) -> None:
        self.steps += 1
        rate = np.float32(1 - min(self.decay, (1 + self.steps) / (10 + self.steps)))
        for value, p in zip(self.values, self.parameters):
            kernels.move_towards(value, p.data, float(rate))

    def swap(self) -> None:
        """Exchange averages and values: before an evaluation, and again after it."""
        for value, p in zip(self.values, self.parameters):
            value[...], p.data[...] = p.data.copy(), value.copy()

    def checkpoint(self) -> dict[str, Any]:
        return {"steps": self.steps, "values": {str(i): v for i, v in enumerate(self.values)}}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.steps = int(saved["steps"])
        for i, value in enumerate(self.values):
            value[...] = saved["values"][str(i)]
