"""Optimisers, schedules, clipping, and averages of the weights.

An optimiser copies its parameters into one flat buffer, of which every `parameter.data` becomes a view, so that a step is one pass
over memory.  Tensors of two axes or more (matrices, convolutions' kernels, embeddings) come first and may decay; vectors (gains,
biases) come last and never decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .autograd import Tensor
from .autograd.kernels import optimiser as kernels
from .autograd.runtime import ahead
from .autograd.tensor import mark_changed
from .model import Range

__all__ = ["SGD", "Adam", "AdamW", "Average", "Muon", "Optimiser", "constant", "cosine", "linear_decay", "orthogonalise", "step_decay"]


def _check(what: Any, **settings: float | None) -> None:
    """Raise ValueError unless each setting lies within its range."""
    for name, value in settings.items():
        if value is not None and value not in RANGES[name]:
            raise ValueError(f"{what if isinstance(what, str) else type(what).__name__}: {name} is {value}; it is {RANGES[name]}")


RANGES = {"lr": Range(0), "muon_lr": Range(0), "clip": Range(0, above=True), "momentum": Range(0, 1, below=True), "eps": Range(0, above=True),
          "betas[0]": Range(0, 1, below=True), "betas[1]": Range(0, 1, below=True), "weight_decay": Range(0), "decay": Range(0, 1, below=True),
          "steps": Range(1), "warmup": Range(0), "floor": Range(0, 1), "hold": Range(0, 1)}


class Optimiser:
    """Base of all optimisers: the flat buffer, gathering gradients, clipping, saving and loading.

    parameters: tensors, or {name: tensor}, each once.
    lr: the learning rate, which `step(factor)` multiplies by the factor of a schedule.
    clip: gradients are scaled down so that the Euclidean norm of all of them together is at most this (Pascanu et al. 2013,
        algorithm 1); None for no clipping.

    A parameter that is frozen (requires_grad=False) is left alone: no step, no decay, no momentum.  One that is frozen from the beginning
    takes no memory here; to train it later, build the optimiser anew.  Where `p.data` was replaced by another array, or is held by another
    optimiser too, the next step takes the values in.

    Raises ValueError for settings out of range and parameters that can't be trained, TypeError for dtypes that don't fit.
    """

    state_names: tuple[str, ...] = ()  # the arrays that a checkpoint holds
    fills_grad = False  # whether `grad` is filled in any case
    exchange: Any = None  # where the batch is shared among processes: sums their gradients, and spreads the weights (`training.exchange`)

    def __init__(self, parameters: Iterable[Tensor] | Mapping[str, Tensor], lr: float, *, clip: float | None = None):
        named = dict(parameters) if isinstance(parameters, Mapping) else {f"parameters[{i}]": p for i, p in enumerate(parameters)}
        _check(self, lr=lr, clip=clip)
        _check_parameters(named)
        self._frozen_at_first = {name: p for name, p in named.items() if not p.requires_grad}
        trained = sorted(((name, p) for name, p in named.items() if p.requires_grad), key=lambda item: item[1].ndim < 2)  # vectors last
        self.names, self.parameters = [name for name, _ in trained], [p for _, p in trained]
        self.lr, self.clip = lr, clip
        ahead.expect(use="train")
        self.flat, self._views = _flatten(self.parameters)
        self.decaying = sum(p.size for p in self.parameters if p.ndim >= 2)  # how many of flat's entries may decay: the first ones
        self._grad: np.ndarray | None = None
        self._there: kernels.Gradients | None = None  # during a step that reads gradients where they lie, with what they are multiplied by
        self._scale = 1.0
        self.share = slice(0, self.flat.size)  # of flat: what is updated here, and whose state is held
        self.steps = 0
        self.grad_norm = 0.0
        self._trained: list[bool] = []  # which parameters the parts of `arrange` are for

    @property
    def grad(self) -> np.ndarray:
        """The clipped gradients of the latest step, one after the other as in `flat`.

        Adam reads each gradient where it lies and leaves this as it is, unless `fills_grad` is set.
        """
        if self._grad is None:
            self._grad = np.zeros_like(self.flat)
        return self._grad

    @property
    def needs_grad(self) -> bool:
        """Whether `update` reads `grad`, or somebody else wants to."""
        return True

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for p in self.parameters:
            p.grad = None

    def step(self, factor: float = 1.0) -> None:
        """One update with the rate lr * factor.  A parameter without a gradient counts as one whose gradient is 0, so its momentum
        goes on and it decays; freeze it (requires_grad=False) to leave it as it is.

        `grad_norm` is then the Euclidean norm of all gradients, before clipping.
        Raises FloatingPointError, and changes nothing, where that norm isn't finite.
        """
        self._take_in()
        trained = [p.requires_grad for p in self.parameters]
        if trained != self._trained:
            self.arrange(trained)
            self._trained = trained
        gradients = [p.grad if is_trained else None for p, is_trained in zip(self.parameters, trained)]
        sizes = [p.size for p in self.parameters]
        there = None if self.needs_grad or self.exchange is not None else kernels.located(gradients, sizes)
        if there is not None:
            self.grad_norm = kernels.norm(there)
        elif self.exchange is None:
            self.grad_norm = kernels.gather(self.grad, gradients, sizes)
        else:
            self.exchange.add_up(gradients)
            self.grad_norm = float(np.sqrt(np.vdot(self.grad, self.grad)))
        if not math.isfinite(self.grad_norm):
            raise FloatingPointError(f"optimiser: the gradient's norm is {self.grad_norm} in step {self.steps + 1}; nothing was changed")
        scale = self.clip / self.grad_norm if self.clip is not None and self.grad_norm > self.clip else 1.0
        if there is None and scale != 1:
            self.grad[...] *= self.grad.dtype.type(scale)
        self.steps += 1
        self._there, self._scale = there, scale
        try:
            self.update(self.lr * factor)
        finally:
            self._there = None
        if self.exchange is not None:
            self.exchange.spread()
        mark_changed([p for p, is_trained in zip(self.parameters, trained) if is_trained])

    @property
    def done(self) -> Callable[[Tensor], Any] | None:
        """For `backward(done=...)`: where gradients are summed over processes, each sum begins as soon as it can."""
        return None if self.exchange is None else self.exchange.done

    # --- one of several shares (ZeRO, stage 1: Rajbhandari et al. 2020, section 5.1)

    def cuts(self, shares: int) -> list[int]:
        """Where `flat` is cut into so many shares of about the same size: shares + 1 numbers, from 0 to its size."""
        return [self.flat.size * i // shares for i in range(shares + 1)]

    def hold(self, number: int, shares: int) -> None:
        """From now on update only one of several shares of `flat`, and hold its part of the state alone."""
        cuts = self.cuts(shares)
        self.share = slice(cuts[number], cuts[number + 1])
        for name in self.state_names:
            setattr(self, name, getattr(self, name)[self.state_part(name, self.share)].copy())
        self._trained = []  # what is updated is arranged anew

    def state_part(self, name: str, part: slice) -> slice:
        """Which entries of an array of the state, held in full, belong to a part of `flat`."""
        return part

    def _held(self, part: slice) -> slice:
        """Which entries of the state that is held belong to a part of this share."""
        return slice(part.start - self.share.start, part.stop - self.share.start)

    # --- preparing a step

    def _take_in(self) -> None:
        """Make every `p.data` the part of `flat` that it was at first, with the values that it has now."""
        for name, p, view in zip(self.names, self.parameters, self._views):
            if p.data is not view:
                if p.data.shape != view.shape or p.data.dtype != view.dtype:
                    raise ValueError(f"optimiser: {name}.data has become {p.data.dtype} of shape {p.data.shape}; "
                                     f"it was {view.dtype} of shape {view.shape} when the optimiser was built")
                view[...] = p.data
                p.data = view
            grad = p.grad
            if grad is not None and grad.shape != view.shape:
                raise ValueError(f"optimiser: {name}.grad has shape {grad.shape}; {name} has {view.shape}")
        for name, p in self._frozen_at_first.items():
            if p.requires_grad:
                raise ValueError(f"optimiser: {name} was frozen when the optimiser was built and isn't any more; build it anew to train {name}")

    def parts(self, chosen: Iterable[bool]) -> list[tuple[slice, bool]]:
        """Where this share of the chosen parameters is in `flat`, and whether it may decay; neighbours of the same kind are one part."""
        parts: list[tuple[slice, bool]] = []
        start = 0
        for p, wanted in zip(self.parameters, chosen):
            part, decays = slice(max(start, self.share.start), min(start + p.size, self.share.stop)), start < self.decaying
            start += p.size
            wanted = wanted and part.start < part.stop
            if wanted and parts and parts[-1][0].stop == part.start and parts[-1][1] == decays:
                parts[-1] = (slice(parts[-1][0].start, part.stop), decays)
            elif wanted:
                parts.append((part, decays))
        return parts

    def arrange(self, trained: list[bool]) -> None:
        """Prepare `update` for these parameters; called before the first update, and when one is frozen or thawed."""
        raise NotImplementedError

    def update(self, lr: float) -> None:
        """Change the arranged parts of `flat` in place from `grad`, which holds the clipped gradients in the same order."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Learning rate, momentum and the like: what a run with this optimiser depends on."""
        names = ("lr", "muon_lr", "momentum", "betas", "eps", "weight_decay", "clip")
        return {"kind": type(self).__name__, **{name: getattr(self, name) for name in names if hasattr(self, name)}}

    def checkpoint(self) -> dict[str, Any]:
        """What `restore` needs to go on exactly."""
        return {"steps": self.steps, **{name: getattr(self, name) for name in self.state_names}}

    def restore(self, saved: Mapping[str, Any]) -> None:
        if set(saved) != {"steps", *self.state_names}:
            raise ValueError(f"{type(self).__name__} remembers steps, {', '.join(self.state_names)}; the checkpoint holds {', '.join(saved)}")
        for name in self.state_names:
            if np.shape(saved[name]) != getattr(self, name).shape:
                raise ValueError(f"{type(self).__name__}: {name} has shape {np.shape(saved[name])}; here it has {getattr(self, name).shape}")
        self.steps = int(saved["steps"])
        for name in self.state_names:
            getattr(self, name)[...] = saved[name]


def _check_parameters(named: dict[str, Tensor]) -> None:
    if not named:
        raise ValueError("optimiser: no parameters were given")
    first: dict[int, str] = {}
    for name, p in named.items():
        if not isinstance(p, Tensor) or p.dtype.kind != "f":
            raise TypeError(f"optimiser: {name} is {f'{p.dtype} and not floating' if isinstance(p, Tensor) else f'a {type(p).__name__}'}; "
                            "parameters are tensors of a floating dtype")
        if p.node is not None:
            raise ValueError(f"optimiser: {name} is the result of an operation; parameters are tensors that were made with requires_grad=True")
        if id(p) in first:
            raise ValueError(f"optimiser: {first[id(p)]} and {name} are the same tensor; each is given once")
        first[id(p)] = name
    trained = {name: p for name, p in named.items() if p.requires_grad}
    if not trained:
        raise ValueError("optimiser: all parameters are frozen (requires_grad is False); there is nothing to train")
    dtypes = list(dict.fromkeys(p.dtype for p in trained.values()))
    if len(dtypes) > 1:
        raise TypeError(f"optimiser: parameters have dtypes {dtypes[0]} and {dtypes[1]}; they must have the same")


def _flatten(tensors: list[Tensor]) -> tuple[np.ndarray, list[np.ndarray]]:
    """One buffer with the values of all tensors, and its parts, which become their data."""
    flat = np.concatenate([p.data.reshape(-1) for p in tensors])
    start, views = 0, []
    for p in tensors:
        p.data = flat[start : start + p.size].reshape(p.shape)
        views.append(p.data)
        start += p.size
    return flat, views


class SGD(Optimiser):
    """Gradient descent with momentum:  v = momentum v + g;  p = p - lr v  (Sutskever et al. 2013, eq. 1-2, with v scaled by -1 / lr)."""

    state_names = ("velocity",)

    def __init__(self, parameters, lr: float, *, momentum: float = 0.0, clip: float | None = None):
        super().__init__(parameters, lr, clip=clip)
        _check(self, momentum=momentum)
        self.momentum = momentum
        self.velocity = np.zeros_like(self.flat)

    def arrange(self, trained: list[bool]) -> None:
        self._parts = [part for part, _ in self.parts(trained)]

    def update(self, lr: float) -> None:
        for part in self._parts:
            kernels.sgd(self.flat[part], self.grad[part], self.velocity[self._held(part)], lr, self.momentum)


class Adam(Optimiser):
    """Steps of about lr in each entry, whatever the gradient's size (Kingma & Ba 2015, algorithm 1).

        m = b1 m + (1 - b1) g           v = b2 v + (1 - b2) g^2
        m^ = m / (1 - b1^t)             v^ = v / (1 - b2^t)             p = p - lr m^ / (sqrt(v^) + eps)

    Why the hats: m and v begin at 0, so after t steps m = (1 - b1) sum_i b1^(t-i) g_i.  If the g_i have the same expectation, then
    E[m] = E[g] (1 - b1) (1 + b1 + ... + b1^(t-1)) = E[g] (1 - b1^t): too small by a known factor, which is divided out (section 3).
    """

    state_names: tuple[str, ...] = ("m", "v")
    weight_decay = 0.0

    def __init__(self, parameters, lr: float, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, clip: float | None = None):
        super().__init__(parameters, lr, clip=clip)
        _check(self, eps=eps, **{f"betas[{i}]": beta for i, beta in enumerate(betas)})
        self.betas, self.eps = betas, eps
        self.m, self.v = np.zeros_like(self.flat), np.zeros_like(self.flat)

    @property
    def needs_grad(self) -> bool:
        return self.fills_grad or type(self).update is not Adam.update  # one that is written anew may read it

    def arrange(self, trained: list[bool]) -> None:
        self._parts = self.parts(trained)

    def update(self, lr: float) -> None:
        for part, decays in self._parts:
            self._move(part, self._held(part), lr, self.weight_decay if decays else 0.0)

    def _move(self, part: slice, moments: slice, lr: float, decay: float) -> None:
        """Update the entries `part` of flat, to which the entries `moments` of m and v belong."""
        settings = self.m[moments], self.v[moments], lr, *self.betas, self.eps, decay, self.steps
        if self._there is None:
            kernels.adam(self.flat[part], self.grad[part], *settings)
        else:
            kernels.adam(self.flat[part], self._there, *settings, begin=part.start, scale=self._scale)


class AdamW(Adam):
    """Adam, and beside it p = p - lr weight_decay p for tensors of two axes or more (Loshchilov & Hutter 2019, algorithm 2).

    Why beside it: decay as a part of the gradient, g + weight_decay p, would be divided by sqrt(v^) like the rest of it, so weights
    with large gradients would decay less than others.  Decoupled, all decay at the same rate.
    """

    def __init__(self, parameters, lr: float, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01,
                 clip: float | None = None):
        super().__init__(parameters, lr, betas=betas, eps=eps, clip=clip)
        _check(self, weight_decay=weight_decay)
        self.weight_decay = weight_decay


class Muon(AdamW):
    """Hidden matrices move along the orthogonal matrix nearest to their momentum, all other tensors by AdamW (Jordan et al. 2024).

        v = momentum v + g           step = U V^T  where  g + momentum v = U S V^T           p = p - muon_lr scale step

    Why U V^T: among all steps X whose largest singular value is 1, X = -U V^T lowers the loss most to first order, since
    <g, X> = sum_i s_i <u_i, X v_i> >= -sum_i s_i.  All directions move alike, not mostly the few that dominate the gradient.

    matrices: the tensors that Muon moves, (inputs, outputs), or (height, width, inputs, outputs) of a convolution, whose first three
        axes are taken as one.  The embedding and the last layer are better left to AdamW.
    lr: the rate of AdamW.  muon_lr: that of the matrices, where scale = sqrt(max(1, outputs / inputs)).
    momentum: Nesterov's, as the formula shows.
    """

    state_names = ("m", "v", "velocity")

    def __init__(self, parameters, lr: float, *, matrices: Iterable[Tensor], muon_lr: float = 0.02, momentum: float = 0.95,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0, clip: float | None = None):
        super().__init__(parameters, lr, betas=betas, eps=eps, weight_decay=weight_decay, clip=clip)
        _check(self, muon_lr=muon_lr, momentum=momentum)
        self.muon_lr, self.momentum = muon_lr, momentum
        matrices = list(matrices)
        vectors = [p.shape for p in matrices if p.ndim < 2]
        if vectors:
            raise ValueError(f"Muon: matrices have two axes or more, one here has shape {vectors[0]}")
        if not {id(p) for p in matrices} <= {id(p) for p in (*self.parameters, *self._frozen_at_first.values())}:
            raise ValueError("Muon: every one of matrices must be among the parameters")
        by_muon = {id(p) for p in matrices}
        self.is_matrix = [id(p) in by_muon for p in self.parameters]
        # Memory that isn't used isn't held: velocity has entries for the matrices alone, m and v for all others.
        sizes = [sum(p.size for p, is_matrix in zip(self.parameters, self.is_matrix) if is_matrix == wanted) for wanted in (True, False)]
        self.velocity = np.zeros(sizes[0], self.flat.dtype)
        self.m, self.v = (np.zeros(sizes[1], self.flat.dtype) for _ in range(2))
        self.arrange([True] * len(self.parameters))

    def cuts(self, shares: int) -> list[int]:
        """At the edges of tensors, since a matrix moves as a whole."""
        edges = np.cumsum([0, *(p.size for p in self.parameters)])
        return [int(edges[np.abs(edges - cut).argmin()]) for cut in super().cuts(shares)]

    def state_part(self, name: str, part: slice) -> slice:
        belongs = [p.size if is_matrix == (name == "velocity") else 0 for p, is_matrix in zip(self.parameters, self.is_matrix)]
        entries = np.cumsum([0, *belongs])
        edges = np.cumsum([0, *(p.size for p in self.parameters)])
        return slice(*(int(entries[np.searchsorted(edges, end)]) for end in (part.start, part.stop)))

    def arrange(self, trained: list[bool]) -> None:
        """Parts of flat, each with the part of velocity, or of m and v, that belongs to it."""
        self.matrix_parts: list[tuple[slice, slice, tuple[int, ...]]] = []  # and the shape of the matrix
        self.other_parts: list[tuple[slice, slice, bool]] = []  # and whether it decays
        start = velocities = moments = 0
        for p, is_matrix, wanted in zip(self.parameters, self.is_matrix, trained):
            part = slice(start, start + p.size)
            if not self.share.start <= start < self.share.stop:
                pass  # another process's
            elif is_matrix:
                if wanted:
                    self.matrix_parts.append((part, slice(velocities, velocities + p.size), (p.size // p.shape[-1], p.shape[-1])))
                velocities += p.size
            else:
                decays = start < self.decaying
                if wanted and self.other_parts and self.other_parts[-1][0].stop == start and self.other_parts[-1][2] == decays:
                    before = self.other_parts.pop()  # neighbours are updated in one call
                    self.other_parts.append((slice(before[0].start, part.stop), slice(before[1].start, moments + p.size), decays))
                elif wanted:
                    self.other_parts.append((part, slice(moments, moments + p.size), decays))
                moments += p.size
            start = part.stop

    def update(self, lr: float) -> None:
        for part, moments, decays in self.other_parts:
            self._move(part, moments, lr, self.weight_decay if decays else 0.0)
        muon_lr = self.muon_lr * (lr / self.lr if self.lr else 0.0)  # the same schedule for both rates
        steps = []
        for part, velocities, shape in self.matrix_parts:
            velocity = self.velocity[velocities]
            velocity *= velocity.dtype.type(self.momentum)
            velocity += self.grad[part]
            steps.append((self.grad[part] + self.momentum * velocity).reshape(shape))
        for (part, _, shape), step in zip(self.matrix_parts, orthogonalise(*steps)):
            scale = muon_lr * math.sqrt(max(1.0, shape[1] / shape[0]))
            step *= step.dtype.type(scale)
            p = self.flat[part].reshape(shape)
            p *= p.dtype.type(1 - muon_lr * self.weight_decay)
            p -= step

    def restore(self, saved: Mapping[str, Any]) -> None:
        saved = dict(saved)
        self.arrange([True] * len(self.parameters))
        self._trained = []
        for name, parts in (("m", self.other_parts), ("v", self.other_parts), ("velocity", self.matrix_parts)):
            if np.shape(saved.get(name, ())) == self.flat.shape:  # earlier versions saved an entry for each of flat, many of them unused
                saved[name] = np.concatenate([saved[name][part] for part, *_ in parts] or [saved[name][:0]])
        super().restore(saved)


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a, b, c as Jordan et al. (2024) publish them


def orthogonalise(*matrices: np.ndarray, iterations: int = 5) -> list[np.ndarray]:
    """Approximately U V^T for each matrix g = U S V^T, by Newton-Schulz iterations (Jordan et al. 2024; Bernstein & Newhouse 2024).

    With x = g / |g|, so that no singular value exceeds 1, each iteration is x = (a I + b x x^T + c (x x^T)^2) x.  As x = U S V^T gives
    x x^T = U S^2 U^T, it changes the singular values alone, each into p(s) = a s + b s^3 + c s^5.  The coefficients make the slope of
    p at 0 as steep as can be, so that small singular values grow fast, while five iterations still end between about 0.7 and 1.2;
    they don't converge to 1, and needn't.
    """
    flat = [np.array(g.T if g.shape[0] > g.shape[1] else g, order="C") for g in matrices]
    kernels.newton_schulz(flat, NEWTON_SCHULZ, iterations)
    return [x.T if g.shape[0] > g.shape[1] else x for g, x in zip(matrices, flat)]


# --- schedules: schedule(step), with steps counted from 0, is the factor by which the learning rate is multiplied

Schedule = Callable[[int], float]


def constant(step: int) -> float:
    return 1.0


def cosine(steps: int, *, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Linear rise over `warmup` steps, then half a cosine down to `floor` at `steps` (Loshchilov & Hutter 2017, eq. 5, one cycle)."""
    _check("cosine", steps=steps, warmup=warmup, floor=floor)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def linear_decay(steps: int, *, warmup: int = 0, floor: float = 0.0, hold: float = 0.0) -> Schedule:
    """Linear rise over `warmup` steps, constant up to the fraction `hold` of all steps, then linear fall to `floor` at `steps`."""
    _check("linear_decay", steps=steps, warmup=warmup, floor=floor, hold=hold)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        start = max(warmup, hold * steps)
        return floor + (1 - floor) * min(1.0, max(0.0, (steps - step) / max(1.0, steps - start)))

    return factor


def step_decay(boundaries: Iterable[int], factor: float = 0.1) -> Schedule:
    """1, multiplied by `factor` at each of these steps."""
    steps = sorted(boundaries)
    return lambda step: factor ** sum(step >= b for b in steps)


class Average:
    """Exponential moving average of parameters: average = d average + (1 - d) value, for evaluation and for the model that is saved.

    In the n-th update d = min(decay, (1 + n) / (10 + n)): a short memory at first, so that the initial weights are soon forgotten
    (the rule of TensorFlow's ExponentialMovingAverage with num_updates).
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float = 0.999):
        _check(self, decay=decay)
        self.parameters, self.decay, self.steps = list(parameters), decay, 0
        self.values = [p.data.copy() for p in self.parameters]

    def update(self) -> None:
        self.steps += 1
        rate = np.float32(1 - min(self.decay, (1 + self.steps) / (10 + self.steps)))
        for value, p in zip(self.values, self.parameters):
            kernels.move_towards(value, p.data, float(rate))

    def swap(self) -> None:
        """Exchange the averages and the parameters' values: once before an evaluation, once after it."""
        for value, p in zip(self.values, self.parameters):
            value[...], p.data[...] = p.data.copy(), value.copy()
            p.mark_changed()

    def checkpoint(self) -> dict[str, Any]:
        return {"steps": self.steps, "values": {str(i): v for i, v in enumerate(self.values)}}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.steps = int(saved["steps"])
        for i, value in enumerate(self.values):
            value[...] = saved["values"][str(i)]
